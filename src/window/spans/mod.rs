//! Who has which bytes of one sub-window: an allocator of offsets.
//!
//! ```text
//! 0                                          frontier            size
//! | used | free | used | used | free | used | used |     tail      |
//!           |                    |
//!           +--- bins by size ---+
//! ```
//!
//! Laws: spans are whole granules; two free spans never touch, because freeing joins neighbours at once; the span below the
//! frontier is in use, because a free one is joined to the tail; the tail is cut only when no bin can serve. Every operation
//! takes the same time however many spans there are, and what is kept for them lies outside of the window, 16 bytes for each.
//!
//! Nothing here knows an address, or a page. Offset 0 has to lie as aligned as anything that is asked for.

mod bins;
#[cfg(any(test, fuzzing))]
pub(crate) mod history;
mod nodes;
#[cfg(test)]
mod tests;

use std::fmt;
use std::iter;
use std::num::NonZeroU32;

use self::bins::{Bins, bin_for, bin_of};
pub(crate) use self::nodes::Room;
use self::nodes::{FIRST, FREE, Node, Nodes, ROOT, TAGS};
use crate::num::{Align, Span};

/// Bytes in the unit of every span. The numbers below count granules where they do not say bytes.
pub(crate) const GRANULE: usize = 16;

/// A sub-window ends before this granule (4 GiB): a granule, a node or a bin then leaves room for tags in 32 bits, and a sum of
/// two granules and an alignment that matters cannot overflow.
const GRANULES: u32 = 1 << 28;

/// How many spans of a bin are looked at when only some of them are large enough.
const LOOKS: usize = 4;

/// A span that was handed out, in 4 bytes. It cannot be copied, so a double free cannot be written down; it means nothing to
/// another sub-window.
#[derive(Debug)]
#[must_use = "what is not given back stays in use"]
pub(crate) struct Grant {
    /// Never [`ROOT`].
    node: NonZeroU32,
}

/// The spans of one sub-window.
pub(crate) struct Spans {
    nodes: Nodes,
    bins: Bins,
    /// Where the tail begins. Invariant: the end of the topmost span in use, or 0.
    frontier: u32,
    /// Where the tail ends.
    end: u32,
    /// In the spans that are in use.
    granted: u32,
}

/// A free span, as it was when it was found.
#[derive(Clone, Copy)]
pub(crate) struct Hole {
    /// [`ROOT`] for the tail.
    node: u32,
    start: u32,
    end: u32,
}

impl Hole {
    /// Where it lies.
    pub(crate) fn span(self) -> Span {
        bytes(self.start, self.end)
    }

    /// Where `size` granules begin that are aligned to `step` granules.
    fn fit(self, size: u32, step: u32) -> Option<u32> {
        let start = up(self.start, step);
        (start + size <= self.end).then_some(start)
    }
}

impl Spans {
    /// Offsets `0..size`, all free. What is above the last whole granule, or above 4 GiB, is not used.
    pub(crate) fn new(size: usize) -> Self {
        let end = (size / GRANULE).min(GRANULES as usize - 1) as u32;
        Self {
            nodes: Nodes::new(),
            bins: Bins::new(end),
            frontier: 0,
            end,
            granted: 0,
        }
    }

    /// Takes a span of at least `size` bytes, which must not be zero. Padding in front of it stays free.
    ///
    /// First the lowest bin of spans that are all large enough: its first one, if that has room once it is aligned. Then the
    /// same for what is large enough wherever it begins. Then a few from the bins in which only some are large enough. Then
    /// the tail.
    ///
    /// So what fits into the tail is never refused, and nothing else either while there is a free span that is larger than
    /// `size` by the alignment's excess over 16 and by another 64th; up to 2 KiB without the 64th. Something refused at
    /// alignment 16 is always larger than [`largest_free`](Self::largest_free).
    pub(crate) fn allocate(&mut self, size: usize, align: Align) -> Option<(Grant, Span)> {
        assert!(size > 0, "a span of no bytes was asked for");
        let size = u32::try_from(size.div_ceil(GRANULE)).ok()?;
        if size > self.end {
            return None;
        }
        // Above 4 GiB only offset 0 is aligned, as it is at 4 GiB.
        let step = (align.bytes() / GRANULE).clamp(1, GRANULES as usize) as u32;
        let padded = size + step - 1;
        let found = if self.bins.is_empty() {
            None
        } else {
            // Without padding the second and the last attempt would be the first and the third again.
            (self.find(bin_for(size), 1, size, step))
                .or_else(|| (step > 1).then(|| self.find(bin_for(padded), 1, size, step))?)
                .or_else(|| self.find(bin_of(size), LOOKS, size, step))
                .or_else(|| (step > 1).then(|| self.find(bin_of(padded), LOOKS, size, step))?)
        };
        let start = found.map_or_else(|| up(self.frontier, step), |(_, start)| start);
        let grant = match found {
            Some((hole, start)) => self.cut(hole, start, size),
            None => self.advance(start, size)?,
        };
        Some((grant, bytes(start, start + size)))
    }

    /// Takes a span back. The result is the whole free span that it is now part of; at the top that is the tail, up to the end
    /// of the sub-window.
    pub(crate) fn free(&mut self, grant: Grant) -> Hole {
        let mut own = grant.node.get();
        let node = self.used(&grant);
        let (mut below, mut above) = (node.below, node.above);
        let (mut start, mut end) = (node.start(), node.end());
        self.granted -= end - start;
        let neighbour = self.nodes[above];
        if neighbour.is_free() {
            self.leave_bin(neighbour);
            self.nodes.remove(above);
            above = neighbour.above;
            let next = &mut self.nodes[above];
            next.below = own;
            end = next.start();
        }
        let neighbour = self.nodes[below];
        if neighbour.is_free() {
            self.leave_bin(neighbour);
            self.nodes.remove(below);
            below = neighbour.below;
            let next = &mut self.nodes[below];
            next.above = own;
            start = next.end();
        }
        if above == ROOT {
            self.nodes[below].above = ROOT;
            self.nodes[ROOT].below = below;
            self.nodes.remove(own);
            own = ROOT;
            self.frontier = start;
            end = self.end;
        } else {
            let node = &mut self.nodes[own];
            (node.below, node.above) = (below, above);
            self.enter_bin(own, end - start);
        }
        Hole {
            node: own,
            start,
            end,
        }
    }

    /// Takes `span`, whole granules, out of a free span that was just returned by [`free`](Self::free).
    pub(crate) fn take(&mut self, hole: Hole, span: Span) -> Grant {
        assert!(
            hole.span().contains(span) && !span.is_empty(),
            "{span:?} is not all of it in the free span {:?}",
            hole.span()
        );
        let start = (span.start() / GRANULE) as u32;
        let size = (span.size() / GRANULE) as u32;
        if hole.node == ROOT {
            let taken = self.advance(start, size);
            return taken.expect("the tail reaches to the end of the sub-window");
        }
        self.cut(hole, start, size)
    }

    /// Where a grant lies: its size is what was asked for, rounded up to 16 bytes.
    #[inline]
    pub(crate) fn span(&self, grant: &Grant) -> Span {
        let node = self.used(grant);
        bytes(node.start(), node.end())
    }

    /// Everything in use lies below this offset, in bytes. It is the end of the topmost span in use: freeing that lowers it.
    pub(crate) fn frontier(&self) -> usize {
        self.frontier as usize * GRANULE
    }

    /// The bytes in spans that are in use.
    pub(crate) fn granted_bytes(&self) -> usize {
        self.granted as usize * GRANULE
    }

    /// The bytes in no span that is in use.
    pub(crate) fn free_bytes(&self) -> usize {
        (self.end - self.granted) as usize * GRANULE
    }

    /// The bytes that a request at alignment 16 can have for certain; less than a 64th short of the largest free span.
    pub(crate) fn largest_free(&self) -> usize {
        let holes = self.bins.last().into_iter().flat_map(|bin| self.holes(bin));
        let largest = holes.take(LOOKS).map(|hole| hole.end - hole.start).max();
        let tail = self.end - self.frontier;
        largest.unwrap_or(0).max(tail) as usize * GRANULE
    }

    /// The free spans that end above `offset`, without the tail. Takes time in proportion to the spans up there.
    pub(crate) fn holes_above(&self, offset: usize) -> Vec<Hole> {
        let mut found = Vec::new();
        let mut at = self.nodes[ROOT].below;
        while at != ROOT {
            let node = self.nodes[at];
            let end = if node.is_free() {
                let hole = self.hole(at);
                found.push(hole);
                hole.end
            } else {
                node.end()
            };
            if end as usize * GRANULE <= offset {
                break;
            }
            at = node.below;
        }
        found.retain(|hole| hole.span().end() > offset);
        found
    }

    /// Whether it is good to [bring room](Self::bring_room) for what is kept, before it is needed.
    pub(crate) fn wants_room(&self) -> bool {
        self.nodes.wants_room()
    }

    pub(crate) fn bring_room(&mut self, room: Room) {
        self.nodes.bring_room(room);
    }

    /// The bytes of the heap that the allocator itself takes.
    pub(crate) fn bookkeeping(&self) -> usize {
        self.nodes.bookkeeping() + self.bins.bookkeeping()
    }

    /// The node of a span in use.
    fn used(&self, grant: &Grant) -> Node {
        let node = self.nodes[grant.node.get()];
        assert!(!node.is_free(), "{grant:?} is of another sub-window");
        node
    }

    /// The spans of a bin, the latest first.
    fn holes(&self, bin: u32) -> impl Iterator<Item = Hole> {
        let mut node = self.bins.first(bin);
        iter::from_fn(move || {
            if node == ROOT {
                return None;
            }
            let hole = self.hole(node);
            node = self.nodes[node].trail;
            Some(hole)
        })
    }

    fn hole(&self, node: u32) -> Hole {
        let Node { below, above, .. } = self.nodes[node];
        Hole {
            node,
            start: self.nodes[below].end(),
            end: self.nodes[above].start(),
        }
    }

    /// The first of `looks` spans, in the lowest filled bin from `bin` up, that has room, and where.
    fn find(&self, bin: u32, looks: usize, size: u32, step: u32) -> Option<(Hole, u32)> {
        let bin = self.bins.at_least(bin)?;
        let fit = |hole: Hole| Some((hole, hole.fit(size, step)?));
        self.holes(bin).take(looks).find_map(fit)
    }

    /// Takes `size` granules from `start` out of a free span. What is in front of them and behind stays free.
    fn cut(&mut self, hole: Hole, start: u32, size: u32) -> Grant {
        let node = self.nodes[hole.node];
        self.leave_bin(node);
        let mut own = hole.node;
        if start > hole.start {
            self.enter_bin(own, start - hole.start);
            own = self.insert(own, node.above, start, start + size);
        } else {
            let node = &mut self.nodes[own];
            (node.lead, node.trail) = (start, start + size);
        }
        if start + size < hole.end {
            let rest = self.insert(own, node.above, start + size, hole.end);
            self.enter_bin(rest, hole.end - start - size);
        }
        self.grant(own, size)
    }

    /// Takes `size` granules from `start` out of the tail, if they end in it.
    fn advance(&mut self, start: u32, size: u32) -> Option<Grant> {
        let end = start + size;
        if end > self.end {
            return None;
        }
        let mut below = self.nodes[ROOT].below;
        if start > self.frontier {
            below = self.insert(below, ROOT, self.frontier, start);
            self.enter_bin(below, start - self.frontier);
        }
        let own = self.insert(below, ROOT, start, end);
        self.frontier = end;
        Some(self.grant(own, size))
    }

    fn grant(&mut self, own: u32, size: u32) -> Grant {
        self.granted += size;
        let node = NonZeroU32::new(own).expect("the root is in no bin, and no new node");
        Grant { node }
    }

    /// A new node between two neighbours, in use.
    fn insert(&mut self, below: u32, above: u32, start: u32, end: u32) -> u32 {
        let own = self.nodes.add(Node {
            below,
            above,
            lead: start,
            trail: end,
        });
        self.nodes[below].above = own;
        self.nodes[above].below = own;
        own
    }

    /// Makes a node free, and the first in the bin of its size.
    fn enter_bin(&mut self, own: u32, size: u32) {
        let bin = bin_of(size);
        let next = self.bins.set_first(bin, own);
        let node = &mut self.nodes[own];
        (node.lead, node.trail) = (FREE | FIRST | bin, next);
        if next != ROOT {
            self.nodes[next].lead = FREE | own;
        }
    }

    fn leave_bin(&mut self, node: Node) {
        if node.lead & FIRST != 0 {
            self.bins.set_first(node.lead & !TAGS, node.trail);
        } else {
            self.nodes[node.lead & !TAGS].trail = node.trail;
        }
        if node.trail != ROOT {
            self.nodes[node.trail].lead = node.lead;
        }
    }
}

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let free = self.free_bytes();
        let (frontier, end) = (self.frontier(), self.end as usize * GRANULE);
        write!(
            f,
            "in use below {frontier:#x}, {free:#x} bytes of {end:#x} free"
        )
    }
}

/// The next multiple of `step`, a power of two. Not [`Align`]'s, whose numbers are bytes and may be larger.
fn up(granule: u32, step: u32) -> u32 {
    (granule + step - 1) & !(step - 1)
}

fn bytes(start: u32, end: u32) -> Span {
    Span::new(start as usize * GRANULE, end as usize * GRANULE)
        .expect("a span has no negative size")
}
