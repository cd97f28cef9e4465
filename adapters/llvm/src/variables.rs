//! An object's thread-local variables behind RuntimeDyld.
//!
//! RuntimeDyld rewrites code of every model so that it takes them to be at a fixed offset from the thread pointer, whatever
//! options it was compiled with, and asks for that offset. It fills in what they begin with, which here has to be zero.

use std::io;

use nearcode::{Align, Error, ThreadBlock};

use crate::place::Place;
use crate::scratch::Scratch;

/// Elsewhere it ends the process at the first relocation that is for such a variable (`resolveAArch64Relocation`).
const RUNTIME_DYLD_KNOWS_THEM: bool = cfg!(target_arch = "x86_64");

/// The variables of one section.
#[derive(Debug)]
pub(crate) struct Variables {
    block: ThreadBlock,
    /// What they begin with, when RuntimeDyld has written and relocated it.
    image: Scratch,
}

impl Variables {
    pub(crate) fn new(size: usize, align: Align) -> Result<Self, Error> {
        if !RUNTIME_DYLD_KNOWS_THEM {
            return Err(Error::Unsupported(
                "thread-local variables behind RuntimeDyld on this CPU: compile with emulated ones (-femulated-tls)",
            ));
        }
        let block = ThreadBlock::new(size, align)?;
        let image = Scratch::new(size, align.bytes()).ok_or_else(|| Error::System {
            operation: "allocation",
            size,
            source: io::ErrorKind::OutOfMemory.into(),
        })?;
        Ok(Self { block, image })
    }

    /// Where the image is written, and the offset in place of an address.
    pub(crate) fn place(&mut self) -> Option<Place> {
        let address = self.block.thread_offset() as u64;
        Some(Place {
            address,
            ..self.image.place()?
        })
    }

    /// # Errors
    ///
    /// [`Error::Unsupported`], unless all of them begin with zero.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.image.is_zero() {
            true => Ok(()),
            false => Err(Error::Unsupported(
                "a thread-local variable behind RuntimeDyld that does not begin with zero: compile with emulated ones \
                 (-femulated-tls)",
            )),
        }
    }

    /// Gives the variables back; the image stays as long as LLVM may look at it.
    ///
    /// # Safety
    ///
    /// Code that knows of them has never run.
    #[allow(unsafe_code)] // Passes the promise on.
    pub(crate) unsafe fn abandon(self) -> Scratch {
        // SAFETY: only that code knows their offset.
        unsafe { self.block.abandon() };
        self.image
    }
}
