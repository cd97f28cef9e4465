//! Any history of a sub-window beside a list of what is in it, with every law checked after every step. For the tests and for the
//! fuzz target only.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::choices::Choices;

/// The size of a sub-window, and what is done with it.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(super) size: usize,
    pub(super) steps: Vec<Step>,
}

/// Numbers choose among what there is then.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Allocate(usize, Align),
    Free(usize),
    /// Frees one, and takes a part of the free span that it became: from a place in it, at most so many bytes.
    Retake(usize, usize, usize),
    ClaimLargest,
    HolesAbove(usize),
}

impl History {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let mut choices = Choices::new(bytes);
        let size = match choices.below(4) {
            0 => choices.below(8_000),
            1 => choices.below(200_000),
            2 => choices.below(9 << 20),
            _ => choices.number(8) as usize,
        };
        let mut steps = Vec::new();
        while !choices.is_over() && steps.len() < 300 {
            steps.push(Step::read(&mut choices));
        }
        Self { size, steps }
    }

    /// Goes through it, and frees everything in the end, in one order or the other.
    pub(crate) fn check(&self) {
        let mut model = Model::new(self.size);
        for step in &self.steps {
            model.step(step);
        }
        let is_upwards = self.steps.len() % 2 == 0;
        while let Some(last) = model.grants.len().checked_sub(1) {
            model.free(if is_upwards { 0 } else { last });
        }
        assert_eq!(model.spans.frontier(), 0);
        assert_eq!(model.spans.largest_free(), model.end());
    }
}

impl Step {
    fn read(choices: &mut Choices<'_>) -> Self {
        match choices.below(16) {
            kind @ 0..8 => {
                let size = match kind {
                    0..5 => choices.below(600),
                    5..7 => choices.below(20_000),
                    _ => choices.number(4) as usize >> choices.below(16),
                };
                let exponent = choices.below(32);
                let exponent = [exponent, 4, exponent % 8, 4][exponent % 4];
                Self::Allocate(size + 1, Align::from_exponent(exponent as u32))
            }
            8..12 => Self::Free(choices.below(256)),
            12..14 => Self::Retake(choices.below(256), choices.below(600), choices.below(600)),
            14 => Self::ClaimLargest,
            _ => Self::HolesAbove(choices.below(1 << 24)),
        }
    }
}

/// The free spans between the used ones, as the bytes have it. The tail is the last, even if it is empty.
fn gaps(used: &BTreeMap<usize, usize>, size: usize) -> Vec<Span> {
    let starts = used.keys().copied().chain([size]);
    let ends = [0].into_iter().chain(used.values().copied());
    let gaps: Vec<Span> = ends
        .zip(starts)
        .map(|(end, start)| Span::new(end, start).expect("spans overlap"))
        .collect();
    let (tail, below) = gaps.split_last().unwrap();
    let mut gaps: Vec<Span> = below.iter().copied().filter(|g| !g.is_empty()).collect();
    gaps.push(*tail);
    gaps
}

/// Every law that holds between two operations. `used` maps the start of each span in use to its end.
pub(super) fn check(spans: &Spans, used: &BTreeMap<usize, usize>) {
    let size = spans.end as usize * GRANULE;
    let gaps = gaps(used, size);
    let (tail, below) = gaps.split_last().unwrap();

    // The ring has the spans in use and the gaps below the frontier, in order, linked both ways.
    let mut holes = BTreeSet::new();
    let mut ring = Vec::new();
    let mut node = ROOT;
    loop {
        let above = spans.nodes[node].above;
        assert_eq!(spans.nodes[above].below, node, "a link back is wrong");
        node = above;
        if node == ROOT {
            break;
        }
        if spans.nodes[node].is_free() {
            holes.insert(node);
            let hole = spans.hole(node);
            ring.push((bytes(hole.start, hole.end), "free"));
        } else {
            let Node { lead, trail, .. } = spans.nodes[node];
            ring.push((bytes(lead, trail), "used"));
        }
    }
    let in_use = used
        .iter()
        .map(|(&start, &end)| (Span::new(start, end).unwrap(), "used"));
    let mut expected: Vec<_> = in_use
        .chain(below.iter().map(|gap| (*gap, "free")))
        .collect();
    expected.sort();
    assert_eq!(ring, expected);
    assert_eq!(
        spans.nodes.live(),
        ring.len() + 1,
        "a node is lost, or in use twice"
    );

    // Each free span is in the bin of its size, once; which bins are filled is known.
    let mut last = None;
    for bin in 0..=bin_of(spans.end) {
        let first = spans.bins.first(bin);
        let is_filled = spans.bins.at_least(bin) == Some(bin);
        assert_eq!(is_filled, first != ROOT, "bin {bin}");
        let (mut lead, mut node) = (FREE | FIRST | bin, first);
        while node != ROOT {
            assert!(holes.remove(&node), "not free, or in two places");
            assert_eq!(spans.nodes[node].lead, lead, "a link back is wrong");
            let hole = spans.hole(node);
            assert_eq!(bin_of(hole.end - hole.start), bin);
            (lead, node) = (FREE | node, spans.nodes[node].trail);
            last = Some(bin);
        }
    }
    assert!(holes.is_empty(), "in no bin: {holes:?}");
    assert_eq!(spans.bins.last(), last);

    assert_eq!(spans.frontier(), tail.start());
    let free: usize = gaps.iter().map(|gap| gap.size()).sum();
    assert_eq!(spans.free_bytes(), free);
    assert_eq!(spans.granted_bytes(), size - free);
    let largest = gaps.iter().map(|gap| gap.size()).max().unwrap();
    assert!(spans.largest_free() <= largest);
    assert!(spans.largest_free() > largest - largest.div_ceil(64) || largest == 0);
}

/// A sub-window beside a list of what is in it, compared after every step.
pub(super) struct Model {
    pub(super) spans: Spans,
    grants: Vec<Grant>,
    used: BTreeMap<usize, usize>,
}

impl Model {
    fn step(&mut self, step: &Step) {
        let count = self.grants.len();
        match *step {
            Step::Allocate(size, align) => drop(self.allocate(size, align)),
            Step::Free(index) if count > 0 => drop(self.free(index % count)),
            Step::Retake(index, from, size) if count > 0 => self.retake(index % count, from, size),
            Step::Free(_) | Step::Retake(..) => {}
            Step::ClaimLargest => self.claim_largest(),
            Step::HolesAbove(offset) => self.check_holes_above(offset),
        }
    }

    /// Where the last whole granule ends that is used.
    fn end(&self) -> usize {
        self.spans.end as usize * GRANULE
    }

    pub(super) fn new(size: usize) -> Self {
        Self {
            spans: Spans::new(size),
            grants: Vec::new(),
            used: BTreeMap::new(),
        }
    }

    pub(super) fn allocate(&mut self, size: usize, align: Align) -> Option<Span> {
        let gaps = gaps(&self.used, self.end());
        let size = size.next_multiple_of(GRANULE);
        let Some((grant, span)) = self.spans.allocate(size, align) else {
            let (tail, holes) = gaps.split_last().unwrap();
            let fit = tail.first_fit(size, align, 0);
            assert_eq!(fit, None, "the tail could have served");
            let padded = size + (align.bytes() - 1) / GRANULE * GRANULE;
            let slack = if padded < 2048 { 0 } else { padded / 64 };
            let enough = holes.iter().find(|hole| hole.size() >= padded + slack);
            assert_eq!(enough, None, "refused {padded:#x}");
            check(&self.spans, &self.used);
            return None;
        };
        assert_eq!(self.spans.span(&grant), span);
        assert_eq!(span.size(), size);
        assert!(align.divides(span.start()), "{span:?} for {align:?}");
        assert!(gaps.iter().any(|gap| gap.contains(span)), "{span:?} taken");
        self.used.insert(span.start(), span.end());
        self.grants.push(grant);
        check(&self.spans, &self.used);
        Some(span)
    }

    pub(super) fn free(&mut self, index: usize) -> Span {
        self.release(index).span()
    }

    fn release(&mut self, index: usize) -> Hole {
        let grant = self.grants.swap_remove(index);
        let span = self.spans.span(&grant);
        let hole = self.spans.free(grant);
        let joined = hole.span();
        assert_eq!(self.used.remove(&span.start()), Some(span.end()));
        let gaps = gaps(&self.used, self.end());
        assert!(
            joined.contains(span) && gaps.contains(&joined),
            "{joined:?}"
        );
        check(&self.spans, &self.used);
        hole
    }

    #[cfg(test)]
    pub(super) fn free_at(&mut self, start: usize) -> Span {
        let is_it = |grant: &Grant| self.spans.span(grant).start() == start;
        self.free(self.grants.iter().position(is_it).unwrap())
    }

    fn retake(&mut self, index: usize, from: usize, size: usize) {
        let hole = self.release(index);
        let free = hole.span();
        let start = free.start() + from * GRANULE % free.size();
        let end = free.end().min(start + GRANULE + size * GRANULE);
        let part = Span::new(start, end).expect("it begins in the hole");
        let taken = self.spans.take(hole, part);
        assert_eq!(self.spans.span(&taken), part);
        self.used.insert(start, end);
        self.grants.push(taken);
        check(&self.spans, &self.used);
    }

    /// Also above each free span, to which the one that ends there does not belong.
    fn check_holes_above(&self, offset: usize) {
        let mut gaps = gaps(&self.used, self.end());
        gaps.pop(); // The tail.
        let ends = gaps.iter().map(|gap| gap.end());
        for offset in ends.chain([offset]) {
            let found = self.spans.holes_above(offset);
            let found = found.into_iter().rev().map(Hole::span);
            let expected = gaps.iter().copied().filter(|gap| gap.end() > offset);
            assert!(found.eq(expected), "above {offset:#x} of {gaps:?}");
        }
    }

    /// What is said to be free can be had.
    fn claim_largest(&mut self) {
        let largest = self.spans.largest_free();
        if largest > 0 {
            let span = self.allocate(largest, Align::ONE);
            assert!(span.is_some(), "{largest:#x} were promised");
            self.free(self.grants.len() - 1);
        }
    }
}
