//! Histories of memory managers, read from bytes.

use nearcode::{Align, PerKind, Reach, SectionKind, SectionRequest, Writing};

use crate::choices::Choices;

/// Where the memory comes from, and what is done with it.
#[derive(Debug)]
pub(crate) struct TestCase {
    pub(super) source: Source,
    pub(super) steps: Vec<(usize, Step)>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    Blocks(Reach, PerKind<usize>),
    Window(Writing),
}

/// Numbers choose among what there is then.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Reserve(Vec<Shape>),
    ReserveTotals(Vec<Shape>),
    Allocate(Shape),
    AllocatePromised(usize),
    Write(usize, u8),
    Abandon(usize),
    Finalize,
    Split(usize, usize),
    Join(usize, usize),
    Drop(usize),
    /// Uses a section that is gone, or another manager's.
    Misuse(usize),
}

/// What tells sections apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    pub(super) kind: SectionKind,
    pub(super) size: usize,
    pub(super) align: Align,
    pub(super) is_terminated: bool,
}

impl Shape {
    fn read(choices: &mut Choices<'_>) -> Self {
        let (kind, class, exponent) = (choices.below(3), choices.below(32), choices.below(64));
        let size = match class {
            0..4 => 0,
            4..20 => choices.below(300),
            20..28 => choices.below(5000),
            28 => choices.below(70_000),
            29 => 1 << choices.below(20),
            30 => 1 << (34 + choices.below(30)),
            _ => usize::MAX - choices.below(8),
        };
        let exponent = match exponent {
            0..40 => exponent % 5,
            40..56 => exponent % 13,
            56..63 => 13 + exponent % 9,
            _ => choices.below(64),
        };
        Self {
            kind: SectionKind::ALL[kind],
            size,
            align: Align::new(1 << exponent).expect("a power of two"),
            is_terminated: class % 3 == 1,
        }
    }

    pub(super) fn request(self) -> SectionRequest<'static> {
        let request = SectionRequest::new("s", self.kind, self.size, self.align);
        match self.is_terminated {
            true => request.with_eh_frame_terminator(),
            false => request,
        }
    }

    /// With its terminator. No two numbers of this kind have a sum that is too large.
    pub(super) fn footprint(self) -> u128 {
        self.size as u128 + if self.is_terminated { 4 } else { 0 }
    }

    /// Whether one cannot be told from the other.
    pub(super) fn looks_like(self, other: Self) -> bool {
        let look = |shape: Self| (shape.kind, shape.footprint(), shape.align);
        look(self) == look(other)
    }
}

pub(super) fn up(size: u128, align: Align) -> u128 {
    size.next_multiple_of(align.bytes() as u128)
}

impl TestCase {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let mut choices = Choices::new(bytes);
        let nothing = PerKind::new(0, 0, 0);
        let source = choices.pick(&[
            Source::Blocks(Reach::PREL32, nothing),
            Source::Blocks(Reach::ADRP, PerKind::new(100, 5000, 0)),
            Source::Window(Writing::TwoAddresses),
            Source::Window(Writing::SameAddress),
        ]);
        let mut steps = Vec::new();
        while !choices.is_over() && steps.len() < 100 {
            steps.push((choices.below(2), Step::read(&mut choices)));
        }
        Self { source, steps }
    }
}

impl Step {
    fn read(choices: &mut Choices<'_>) -> Self {
        let step = choices.below(24);
        let mut number = || choices.below(256);
        match step {
            0..5 => {
                let list = (0..number() % 6).map(|_| Shape::read(choices)).collect();
                match step {
                    0 => Self::ReserveTotals(list),
                    _ => Self::Reserve(list),
                }
            }
            5..8 => Self::Allocate(Shape::read(choices)),
            8..14 => Self::AllocatePromised(number()),
            14 => Self::Write(number(), number() as u8),
            15 => Self::Abandon(number()),
            16..19 => Self::Finalize,
            19 => Self::Split(number(), number()),
            20 => Self::Join(number(), number()),
            21..23 => Self::Drop(number()),
            _ => Self::Misuse(number()),
        }
    }
}
