//! Why the provider refuses, and what cranelift gets to see of it.

use std::io::{self, ErrorKind};

use cranelift_module::ModuleError;
use nearcode::Address;

/// Why something was refused. Cranelift hands it on inside of its own errors, as their source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A window that is written at another address than where its code runs.
    #[error(
        "cranelift-jit writes code where it runs: the window has to be made with Writing::SameAddress"
    )]
    TwoAddresses,
    /// A module without landing pads, in a window where code without them traps.
    #[error(
        "the window keeps indirect branches to landing pads, and the module was compiled without use_bti"
    )]
    NoLandingPads,
    /// A module whose landing pads would protect nothing.
    #[error(
        "the module was compiled with use_bti, and its window was made without BranchProtection::LandingPads"
    )]
    UnusedLandingPads,
    /// An address that is not in finalized code of the module.
    #[error("there is no finalized code of this module at {0}")]
    NotCode(Address),
    /// What the module had in flight is gone: the system first refused to make it executable, and then to make it writable
    /// again. Nothing more can be added to the module.
    #[error("a finalization of this module failed and could not be undone")]
    Lost,
    /// The window refused.
    #[error(transparent)]
    Memory(#[from] nearcode::Error),
}

impl Error {
    fn kind(&self) -> ErrorKind {
        let Self::Memory(error) = self else {
            return ErrorKind::Other;
        };
        match error {
            nearcode::Error::InvalidAlignment { .. }
            | nearcode::Error::AlignmentTooLarge { .. }
            | nearcode::Error::SizeOverflow { .. } => ErrorKind::InvalidInput,
            nearcode::Error::WindowExhausted { .. } => ErrorKind::OutOfMemory,
            nearcode::Error::System { source, .. } | nearcode::Error::Barrier { source } => {
                source.kind()
            }
            _ => ErrorKind::Other,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error)
    }
}

impl From<Error> for ModuleError {
    fn from(error: Error) -> Self {
        Self::Backend(error.into())
    }
}
