//! Why objects do not become a program, in words that a user can act on. Each message is one line.

use crate::error::Error;
use crate::num::Align;
use crate::reach::RangeError;

use super::machine::Machine;

/// Why a program could not be loaded, linked or looked into.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file that contradicts itself, or ends too early.
    #[error("{object}: {reason}")]
    Malformed {
        /// The file.
        object: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An object for another CPU.
    #[error("{object} is for {found}, not for {expected}")]
    WrongMachine {
        /// The file.
        object: String,
        /// What it is for.
        found: String,
        /// What was asked for.
        expected: Machine,
    },
    /// An executable, a shared library or a core file.
    #[error("{object} is not a relocatable object: compile with -c")]
    NotRelocatable {
        /// The file.
        object: String,
    },
    /// A relocation, or the symbol that it refers to, of a kind that this loader does not have.
    #[error("{place}: {what} for {symbol} is not supported")]
    Unsupported {
        /// Object, section and offset.
        place: Place,
        /// The symbol referred to.
        symbol: String,
        /// What is not supported.
        what: String,
    },
    /// Two objects define the same symbol.
    #[error("{symbol} is defined twice: in {first} and in {second}")]
    DuplicateSymbol {
        /// The symbol.
        symbol: String,
        /// An object that defines it.
        first: String,
        /// The other one.
        second: String,
    },
    /// Symbols that neither an object nor the resolver defines: all of them.
    #[error("undefined: {}", list(.0))]
    UndefinedSymbols(Vec<UndefinedSymbol>),
    /// A symbol that is asked for by name and that no object defines.
    #[error("no object defines {0}")]
    NoSuchSymbol(String),
    /// A symbol that is asked for as a function and is none that can be called here.
    #[error("{0} is not code for this machine")]
    NotCode(String),
    /// A function of a program whose constructors have not run.
    #[error("{0} comes after the program's constructors: Program::initialize runs them")]
    NotInitialized(String),
    /// A reference to code or data of which another object's copy was kept.
    #[error("{place}: {symbol} is in a section that was discarded with its group")]
    Discarded {
        /// Object, section and offset.
        place: Place,
        /// The symbol referred to.
        symbol: String,
    },
    /// A reference that does not reach its target.
    #[error("{place}: {symbol} is out of reach: {source}; {advice}")]
    OutOfReach {
        /// Object, section and offset.
        place: Place,
        /// The symbol referred to.
        symbol: String,
        /// The relocation, both addresses, the distance and the limit.
        source: Box<RangeError>,
        /// What to do about it.
        advice: &'static str,
    },
    /// A library that cannot be opened.
    #[error("library {name}: {reason}")]
    Library {
        /// As given.
        name: String,
        /// The system's reason.
        reason: String,
    },
    /// The objects need more than this loader may take up. Nothing was reserved.
    #[error(
        "{object}: {section} of {size} bytes, aligned to {}, and what goes with it: \
         {needed} bytes in all, more than the {limit} that Loader::with_max_bytes allows",
        align.bytes()
    )]
    TooLarge {
        /// The object with the most demanding section, or with too many names.
        object: String,
        /// That section, or `names`.
        section: String,
        /// Of that section, in bytes.
        size: usize,
        /// Of that section.
        align: Align,
        /// All that would be reserved, in bytes; the largest number there is if it does not fit into one.
        needed: usize,
        /// What may be, in bytes.
        limit: usize,
    },
    /// What the objects need together is not to be had.
    #[error("{object}: {section} of {size} bytes, aligned to {}, and what goes with it: {source}", align.bytes())]
    NotReserved {
        /// The object with the most demanding section.
        object: String,
        /// That section.
        section: String,
        /// Of that section, in bytes.
        size: usize,
        /// Of that section.
        align: Align,
        /// The memory manager's reason.
        source: Box<Error>,
    },
    /// The memory manager refused.
    #[error(transparent)]
    Memory(#[from] Error),
}

/// A place in an object: where a relocation is applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The file.
    pub object: String,
    /// The section's name.
    pub section: String,
    /// In the section, in bytes.
    pub offset: u64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}+{:#x}", self.object, self.section, self.offset)
    }
}

/// A symbol that nobody defines, and an object that needs it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UndefinedSymbol {
    /// The symbol.
    pub symbol: String,
    /// The first object that refers to it.
    pub object: String,
    /// Whether the process and its libraries were not asked, since an object says that the program itself defines it.
    pub hidden: bool,
}

fn list(symbols: &[UndefinedSymbol]) -> String {
    let each = symbols.iter().map(
        |UndefinedSymbol {
             symbol,
             object,
             hidden,
         }| {
            let hidden = if *hidden {
                ", hidden: an object has to define it"
            } else {
                ""
            };
            format!("{symbol} (in {object}{hidden})")
        },
    );
    each.collect::<Vec<_>>().join(", ")
}
