//! What of a program runs by itself: resolvers of indirect functions, constructors, destructors. Which, and in which order.

use super::item::{Content, Item};
use crate::num::Address;

/// The functions of a program that run by themselves.
#[derive(Debug, Default)]
pub(super) struct Automatic {
    pub(super) indirect: Vec<Indirect>,
    /// In the order in which they run.
    pub(super) constructors: Vec<Array>,
    pub(super) destructors: Vec<Array>,
    /// What the program calls itself where it registers functions to run at its end.
    pub(super) handle: Option<Address>,
}

/// A function that is chosen when the program starts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Indirect {
    /// The function that chooses.
    pub(super) resolver: Address,
    /// Where its choice belongs.
    pub(super) slot: Address,
}

/// Addresses of functions, one behind the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Array {
    pub(super) start: Address,
    pub(super) count: usize,
    /// Whether the last one runs first.
    pub(super) is_backwards: bool,
}

impl Automatic {
    /// Sorts the arrays among `items`, which are in the order of the objects.
    ///
    /// As GNU ld's scripts do: those with a number come first, ascending; a number of `.ctors` counts down from 65535, and its
    /// functions run from the last to the first, as all destructors do.
    pub(super) fn arrays<'i, 'data: 'i>(items: impl Iterator<Item = &'i Item<'data>>) -> Self {
        let (mut constructors, mut destructors) = (Vec::new(), Vec::new());
        for item in items {
            let Some((end, rank, is_backwards)) = role(item.name) else {
                continue;
            };
            let array = Array {
                start: item.address,
                count: item.size / size_of::<u64>(),
                is_backwards,
            };
            match (item.content, end) {
                (Content::Section(_), End::Start) => constructors.push((rank, array)),
                (Content::Section(_), End::Finish) => destructors.push((rank, array)),
                _ => {}
            }
        }
        constructors.sort_by_key(|(rank, _)| *rank);
        destructors.sort_by_key(|(rank, _)| *rank);
        let arrays = |ranked: Vec<(u32, Array)>| ranked.into_iter().map(|(_, array)| array);
        Self {
            constructors: arrays(constructors).collect(),
            destructors: arrays(destructors).rev().collect(),
            ..Self::default()
        }
    }

    /// Whether something has to run before anything else does.
    pub(super) fn comes_first(&self) -> bool {
        !self.indirect.is_empty() || !self.constructors.is_empty()
    }
}

/// When an array runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Start,
    Finish,
}

/// The last rank: of arrays without a number.
const UNNUMBERED: u32 = 1 << 17;

/// When the functions in a section of this name run, at which rank among others, and whether the last one runs first.
fn role(section: &str) -> Option<(End, u32, bool)> {
    const ROLES: [(&str, End, bool); 5] = [
        (".preinit_array", End::Start, false),
        (".init_array", End::Start, false),
        (".ctors", End::Start, true),
        (".fini_array", End::Finish, true),
        (".dtors", End::Finish, false),
    ];
    let known = ROLES.iter().find(|(name, ..)| section.starts_with(name));
    let &(name, end, is_backwards) = known?;
    let number = match &section[name.len()..] {
        "" => None,
        number => Some(number.strip_prefix('.')?.parse::<u16>().ok()?),
    };
    let rank = match (name, number) {
        (".preinit_array", _) => 0,
        (_, None) => UNNUMBERED,
        (".ctors" | ".dtors", Some(number)) => 1 + u32::from(u16::MAX - number),
        (_, Some(number)) => 1 + u32::from(number),
    };
    Some((end, rank, is_backwards))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_those_of_gnu_ld() {
        for (section, expected) in [
            (".init_array", Some((End::Start, UNNUMBERED, false))),
            (".init_array.00101", Some((End::Start, 102, false))),
            (".ctors.65434", Some((End::Start, 102, true))),
            (".ctors", Some((End::Start, UNNUMBERED, true))),
            (".preinit_array", Some((End::Start, 0, false))),
            (".fini_array.7", Some((End::Finish, 8, true))),
            (".dtors", Some((End::Finish, UNNUMBERED, false))),
            (".init_array.x", None),
            (".init_arrays", None),
            (".text", None),
        ] {
            assert_eq!(role(section), expected, "{section}");
        }
    }
}
