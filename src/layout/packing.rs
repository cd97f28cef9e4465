//! Any plan of a block and any sections in it, with every law checked after every step. For the tests and for the fuzz target only.

use super::{AllocationSpace, Arena, BlockPlan, Extent, SectionRequest, Slots};
use crate::choices::Choices;
use crate::error::Error;
use crate::kind::{PerKind, SectionKind};
use crate::num::{Align, PageSize, Span};
use crate::reach::Reach;

/// What is announced, and what is asked for then.
#[derive(Debug)]
pub(crate) struct Packing {
    page: PageSize,
    reach: Reach,
    headroom: PerKind<usize>,
    list: Vec<Shape>,
    /// Whether only the totals of the list are announced.
    as_totals: bool,
    asked: Vec<Ask>,
}

#[derive(Clone, Copy, Debug)]
enum Ask {
    /// One of the list, by number. Only the first time it was promised.
    Announced(usize),
    Other(Shape),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Shape {
    kind: SectionKind,
    size: usize,
    align: Align,
}

impl Shape {
    fn read(choices: &mut Choices<'_>) -> Self {
        let (kind, class) = (choices.pick(&SectionKind::ALL), choices.below(16));
        let exponent = choices.below(64);
        let size = match class {
            0 => 0,
            1..9 => choices.below(300),
            9..13 => choices.below(70_000),
            13 => choices.below(8 << 20),
            14 => choices.number(8) as usize >> choices.below(64),
            _ => usize::MAX - choices.below(256),
        };
        let exponent = match exponent {
            0..48 => exponent % 8,
            48..62 => 8 + exponent % 14,
            _ => choices.below(64),
        };
        Self {
            kind,
            size,
            align: Align::from_exponent(exponent as u32),
        }
    }

    fn request(&self) -> SectionRequest<'static> {
        SectionRequest::new("s", self.kind, self.size, self.align)
    }

    /// Rounded up, as a number that is large enough.
    fn rounded(&self, align: Align) -> u128 {
        (self.size as u128).next_multiple_of(align.bytes() as u128)
    }
}

impl Packing {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let mut choices = Choices::new(bytes);
        let page = choices.pick(&[4096, 16_384, 65_536]);
        let none = PerKind::new(0, 0, 0);
        let headroom = [none, none, PerKind::new(1, 0, 5000), PerKind::new(0, !0, 0)];
        let mut packing = Self {
            page: PageSize::new(page).expect("a page"),
            reach: choices.pick(&[Reach::PREL32, Reach::ADRP]),
            headroom: choices.pick(&headroom),
            as_totals: choices.below(4) == 1,
            list: Vec::new(),
            asked: Vec::new(),
        };
        for _ in 0..choices.below(32) {
            packing.list.push(Shape::read(&mut choices));
        }
        while !choices.is_over() && packing.asked.len() < 100 {
            let ask = match choices.below(3) {
                0 => Ask::Other(Shape::read(&mut choices)),
                _ => Ask::Announced(choices.below(32)),
            };
            packing.asked.push(ask);
        }
        packing
    }

    pub(crate) fn check(&self) {
        let requests: Vec<_> = self.list.iter().map(Shape::request).collect();
        let list = AllocationSpace::Sections(&requests);
        let Ok(totals) = list.totals() else {
            let sum = self.sum(|shape| shape.rounded(self.strictest(shape.kind)));
            return assert!(sum > usize::MAX as u128, "{sum:#x}");
        };
        let space = match self.as_totals {
            true => AllocationSpace::Totals(totals),
            false => list,
        };
        let mut slots = Slots::default();
        let Ok(extents) = space.pack(&mut slots) else {
            let is_vast = |shape: &Shape| shape.size >= 1 << 56;
            return assert!(self.list.iter().any(is_vast));
        };
        for (kind, extent) in extents.iter() {
            let sum = |size: &dyn Fn(&Shape) -> u128| {
                self.sum(|shape| if shape.kind == kind { size(shape) } else { 0 })
            };
            let (least, most) = (sum(&|s| s.size as u128), sum(&|s| s.rounded(s.align)));
            let size = extent.size() as u128;
            assert!(least <= size && extent.size() <= totals[kind].size());
            assert!(self.as_totals || size <= most, "{size:#x} {most:#x}");
            assert_eq!(extent.align(), self.strictest(kind));
        }
        let aligns = extents.map(|extent| extent.align().max(self.page.align()));
        let pages = extents.iter().map(|(kind, extent)| {
            let size = extent.size() as u128 + self.headroom[kind] as u128;
            size.next_multiple_of(self.page.bytes() as u128)
        });
        let least: u128 = pages.sum();
        // One is the anchor; the others may lose what their alignments are.
        let slack = SectionKind::ALL.map(|kind| aligns[kind].bytes() as u128);
        let strictest = slack.into_iter().max().expect("there are three kinds");
        let most = least + slack.iter().sum::<u128>() - strictest;
        let limit = u128::from(self.reach.bytes());
        match BlockPlan::new(&extents, &self.headroom, self.page, self.reach) {
            Ok(plan) => {
                let size = plan.size as u128;
                assert!(least <= size && size <= most.min(limit), "{plan:?}");
                self.fill(&plan, slots, extents);
            }
            Err(Error::SpanTooLarge {
                span: Some(span), ..
            }) => {
                assert!(span as u128 <= most && span as u128 > limit);
            }
            Err(Error::SpanTooLarge { span: None, .. }) => {
                assert!(most + strictest > usize::MAX as u128);
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn sum(&self, size: impl Fn(&Shape) -> u128) -> u128 {
        self.list.iter().map(size).sum()
    }

    fn strictest(&self, kind: SectionKind) -> Align {
        let own = self.list.iter().filter(|shape| shape.kind == kind);
        own.map(|shape| shape.align).max().unwrap_or(Align::ONE)
    }

    /// Asks for sections in a block of that plan, and for what was promised and not asked for yet in the end.
    fn fill(&self, plan: &BlockPlan, slots: Slots, extents: PerKind<Extent>) {
        let align = plan.align.bytes();
        let Some(anchored) = (plan.anchor / align + 1).checked_mul(align) else {
            return; // At no address.
        };
        let nothing = extents.map(|_| Extent::EMPTY);
        let mut block = Block {
            arenas: PerKind::new(Arena::EMPTY, Arena::EMPTY, Arena::EMPTY),
            origin: anchored - plan.anchor,
            taken: extents.map(|_| Vec::new()),
            promised: if self.as_totals {
                Vec::new()
            } else {
                self.list.clone()
            },
            totals: if self.as_totals { extents } else { nothing },
            slots,
        };
        let mut end = 0;
        for (kind, &arena) in plan.arenas.iter() {
            let is_whole = |offset| self.page.align().divides(offset);
            assert!(is_whole(arena.start()) && is_whole(arena.end()));
            assert!(end <= arena.start() && arena.end() <= plan.size);
            end = arena.end();
            block.arenas[kind] = Arena::new(arena, block.slots.end(kind));
        }
        for &ask in &self.asked {
            let other = match ask {
                Ask::Other(shape) => Some(shape),
                Ask::Announced(number) => self.list.get(number % self.list.len().max(1)).copied(),
            };
            if let Some(shape) = other {
                block.allocate(shape);
            }
        }
        while let Some(&shape) = block.promised.last() {
            block.allocate(shape);
        }
    }
}

/// A block that is being filled, beside a list of what is in it.
struct Block {
    slots: Slots,
    arenas: PerKind<Arena>,
    /// The address of offset 0.
    origin: usize,
    taken: PerKind<Vec<Span>>,
    promised: Vec<Shape>,
    /// What is left of announced totals.
    totals: PerKind<Extent>,
}

impl Block {
    fn allocate(&mut self, shape: Shape) {
        let Shape { kind, size, align } = shape;
        let promised = self.promised.iter().position(|other| *other == shape);
        let announced = self.slots.claim(kind, size, align);
        assert_eq!(announced.is_some(), promised.is_some() && size > 0);
        let total = self.totals[kind];
        let left = (total.size() as u128).checked_sub(shape.rounded(total.align()));
        let left = left.filter(|_| align <= total.align() && total != Extent::EMPTY);
        let arena = &mut self.arenas[kind];
        let found = match announced {
            Some(place) => Ok(arena.announced(place)),
            None => arena.beyond_the_plan(size, align, self.origin),
        };
        let place = match found {
            Ok(place) => place,
            Err(available) => {
                assert!(
                    promised.is_none() && left.is_none(),
                    "{shape:?} was promised"
                );
                assert!(available < size || size == 0);
                if available > 0 {
                    // As it said.
                    self.allocate(Shape {
                        size: available,
                        ..shape
                    });
                }
                return;
            }
        };
        if let Some(at) = promised {
            self.promised.swap_remove(at);
        }
        if size > 0 {
            let left = left.map_or(0, |left| left as usize);
            self.totals[kind] =
                Extent::new(left, if left > 0 { total.align() } else { Align::ONE });
        }
        assert_eq!(place.size(), size);
        assert!(
            align.divides(self.origin + place.start()),
            "{shape:?} at {place:?}"
        );
        assert!(arena.span().contains(place), "{place:?}");
        let taken = &mut self.taken[kind];
        assert!(
            taken.iter().all(|other| !other.overlaps(place)),
            "{place:?}"
        );
        taken.extend((size > 0).then_some(place));
        let reached = taken.iter().map(|place| place.end()).max();
        let reached = reached.unwrap_or(arena.span().start());
        assert_eq!(
            arena.reached(),
            Span::new(arena.span().start(), reached).expect("upwards")
        );
    }
}

#[cfg(test)]
mod tests {
    use super::Packing;
    use crate::choices::made_up;

    #[test]
    fn made_up_plans_and_sections_keep_every_law() {
        made_up("layout", 20_000, 300, Packing::read, Packing::check);
    }
}
