//! Cranelift's door: each of its calls is one of a reservation's.
#![allow(unsafe_code)] // Declares what a caller of the trait promises.

use std::io;
use std::ptr::NonNull;

use cranelift_jit::{BranchProtection, JITMemoryKind, JITMemoryProvider};
use cranelift_module::ModuleResult;
use nearcode::{Align, AllocationSpace, Reservation, SectionKind, SectionRequest, Window, Writing};

use crate::bti;
use crate::error::Error;
use crate::memory::ModuleMemory;

/// Memory of one module, from a window that it shares with others.
///
/// Each round of finalization takes pages of its own. What was finalized is given back when the module, every
/// [`ModuleMemory`] and every [`Function`](crate::Function) of it is gone; what was not goes with the module.
///
/// # Errors
///
/// After an error of `allocate` nothing has changed. After one of `finalize` nothing of that round is executable, and another
/// `finalize_definitions` tries again, except after [`Error::Lost`].
#[derive(Debug)]
pub struct WindowMemoryProvider {
    window: Window,
    round: Round,
    memory: ModuleMemory,
}

/// What was allocated since the last finalization.
#[derive(Debug)]
enum Round {
    Empty,
    InFlight(Reservation),
    /// It is gone, and the module has pointers to it.
    Lost,
}

impl WindowMemoryProvider {
    /// A provider for one module.
    ///
    /// # Errors
    ///
    /// [`Error::TwoAddresses`] unless the window is written where its code runs.
    pub fn new(window: &Window) -> Result<Self, Error> {
        if window.capabilities().writing() != Writing::SameAddress {
            return Err(Error::TwoAddresses);
        }
        Ok(Self {
            window: window.clone(),
            round: Round::Empty,
            memory: ModuleMemory::default(),
        })
    }

    /// What the module finalizes, to keep it when the module goes. To be asked for before the provider is given away.
    pub fn memory(&self) -> ModuleMemory {
        self.memory.clone()
    }

    fn place(&mut self, request: &SectionRequest<'_>) -> Result<NonNull<u8>, Error> {
        match &mut self.round {
            Round::Lost => Err(Error::Lost),
            Round::InFlight(reservation) => write_pointer(reservation, request),
            Round::Empty => {
                let mut reservation = self.window.reserve(&AllocationSpace::EMPTY)?;
                let pointer = write_pointer(&mut reservation, request)?;
                self.round = Round::InFlight(reservation);
                Ok(pointer)
            }
        }
    }

    fn publish(&mut self) -> Result<(), Error> {
        let reservation = match std::mem::replace(&mut self.round, Round::Empty) {
            Round::Empty => return Ok(()),
            Round::InFlight(reservation) => reservation,
            Round::Lost => {
                self.round = Round::Lost;
                return Err(Error::Lost);
            }
        };
        match reservation.finalize() {
            Ok(image) => {
                self.memory.add(image);
                Ok(())
            }
            Err(failed) => {
                let (error, kept) = failed.into_parts();
                self.round = kept.map_or(Round::Lost, Round::InFlight);
                Err(error.into())
            }
        }
    }

    /// Whether code that was compiled this way can run in the window.
    fn check(&self, compiled: BranchProtection) -> Result<(), Error> {
        match (self.window.capabilities().branch_protection(), compiled) {
            (nearcode::BranchProtection::LandingPads, BranchProtection::None) => {
                Err(Error::NoLandingPads)
            }
            // On a CPU that knows no landing pads they do nothing, as with cranelift's own providers.
            (nearcode::BranchProtection::None, BranchProtection::BTI) if bti::is_supported() => {
                Err(Error::UnusedLandingPads)
            }
            _ => Ok(()),
        }
    }
}

fn write_pointer(
    reservation: &mut Reservation,
    request: &SectionRequest<'_>,
) -> Result<NonNull<u8>, Error> {
    let section = reservation.allocate_section(request)?;
    Ok(reservation.write_pointer(section)?)
}

impl JITMemoryProvider for WindowMemoryProvider {
    fn allocate(&mut self, size: usize, align: u64, kind: JITMemoryKind) -> io::Result<*mut u8> {
        let (name, kind) = match kind {
            JITMemoryKind::Executable => (".text", SectionKind::Code),
            JITMemoryKind::ReadOnly => (".rodata", SectionKind::ReadOnlyData),
            JITMemoryKind::Writable => (".data", SectionKind::ReadWriteData),
        };
        // What does not fit into a number is no power of two either.
        let align = usize::try_from(align).unwrap_or(usize::MAX);
        let align = Align::new(align).map_err(Error::from)?;
        let pointer = self.place(&SectionRequest::new(name, kind, size, align))?;
        Ok(pointer.as_ptr())
    }

    unsafe fn free_memory(&mut self) {
        self.round = Round::Empty;
        self.memory.free();
    }

    fn finalize(&mut self, branch_protection: BranchProtection) -> ModuleResult<()> {
        self.check(branch_protection)?;
        Ok(self.publish()?)
    }
}
