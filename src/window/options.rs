//! What a window is asked to be, and what it turned out to be.

use crate::kind::{PerKind, SectionKind};
use crate::reach::Reach;

/// How code and read-only data come to be in a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Writing {
    /// They are written at one address and run and read at another: the kernel never lets the second be written. Objects lie
    /// side by side in bytes, and publishing one changes no permission: on x86-64 it takes no system call, on AArch64 the one
    /// that makes every core fetch anew.
    ///
    /// For loaders that ask where to write and where it will run. Linux with `/proc`, from 5.14 on.
    TwoAddresses,
    /// They are written where they will run, on pages that become executable or read-only when they are finalized. Each object
    /// has pages of its own.
    ///
    /// For hosts that know one pointer (LLVM's C interface, cranelift-jit), for breakpoints, and for systems without the first.
    SameAddress,
}

/// What indirect branches may reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum BranchProtection {
    /// Every instruction.
    #[default]
    None,
    /// On AArch64, only `BTI` instructions and their like. All code in the window has to be compiled for it.
    LandingPads,
}

/// What becomes of memory that a child of `fork` may still be running when its parent drops it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AfterFork {
    /// Code and read-only data at two addresses that existed at a `fork` are not used again. (At one, a child has a copy.) See [`Stats::frozen`](crate::Stats::frozen).
    #[default]
    Freeze,
    /// They are: every child executes another program at once, and runs nothing of this window until then.
    Reuse,
}

/// What a [`Window`](super::Window) is to be.
///
/// ```
/// use nearcode::{Window, WindowOptions, Writing};
///
/// # fn main() -> Result<(), nearcode::Error> {
/// let options = WindowOptions::new().with_size(64 << 20).with_code(32 << 20).with_writing(Writing::SameAddress);
/// let window = Window::with_options(&options)?;
/// assert_eq!(window.capabilities().writing(), Writing::SameAddress);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WindowOptions {
    pub(super) size: usize,
    pub(super) code: usize,
    pub(super) floor: usize,
    pub(super) writing: Option<Writing>,
    pub(super) branch_protection: BranchProtection,
    pub(super) after_fork: AfterFork,
}

impl WindowOptions {
    /// 512 MiB of addresses, 128 MiB of them for code; at least 8 MiB; written at two addresses where that can be had, else at
    /// one. A window costs memory only for what is in it.
    pub const fn new() -> Self {
        Self {
            size: 512 << 20,
            code: 128 << 20,
            floor: 8 << 20,
            writing: None,
            branch_protection: BranchProtection::None,
            after_fork: AfterFork::Freeze,
        }
    }

    /// The addresses to reserve, in bytes: at most [`Reach::PREL32`](crate::Reach::PREL32), so that everything reaches
    /// everything, and more is taken as that. Each kind is rounded down to 2 MiB, of which 64 KiB are a guard.
    pub const fn with_size(mut self, bytes: usize) -> Self {
        self.size = bytes;
        self
    }

    /// How much of it is for code, in bytes, cut to what leaves 2 MiB for each kind of data. The rest is shared by these two.
    ///
    /// Up to 128 MiB every branch of AArch64 reaches every function. Above, calls may need veneers, which
    /// [`loader`](crate::loader) makes.
    pub const fn with_code(mut self, bytes: usize) -> Self {
        self.code = bytes;
        self
    }

    /// Where the system refuses the size, half of it is tried, and half of that, as long as that is at least this, in bytes. A window
    /// is then smaller by what rounding to 2 MiB takes.
    pub const fn with_floor(mut self, bytes: usize) -> Self {
        self.floor = bytes;
        self
    }

    /// This way and no other.
    pub const fn with_writing(mut self, writing: Writing) -> Self {
        self.writing = Some(writing);
        self
    }

    /// Protection of indirect branches, for all code in the window.
    pub const fn with_branch_protection(mut self, protection: BranchProtection) -> Self {
        self.branch_protection = protection;
        self
    }

    /// What a parent does after `fork`.
    pub const fn with_after_fork(mut self, after_fork: AfterFork) -> Self {
        self.after_fork = after_fork;
        self
    }
}

impl Default for WindowOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// What a [`Window`](super::Window) is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capabilities {
    pub(super) writing: Writing,
    pub(super) size: usize,
    pub(super) sizes: PerKind<usize>,
    pub(super) branch_protection: BranchProtection,
    pub(super) returns_pages: bool,
}

impl Capabilities {
    /// Which way code and read-only data are written.
    pub const fn writing(&self) -> Writing {
        self.writing
    }

    /// The addresses it takes, in bytes, guards included: no two addresses in it are further apart. Less than asked for where
    /// the system refused.
    pub const fn size(&self) -> usize {
        self.size
    }

    /// The widest distance that a relocation has to span in it: every 32-bit one does.
    pub const fn reach(&self) -> Reach {
        Reach::PREL32
    }

    /// Whether every direct branch of AArch64 reaches all code in it; otherwise calls may need veneers. Those of the other CPUs
    /// reach as far as [`reach`](Self::reach).
    pub fn branches_reach_all_code(&self) -> bool {
        self.sizes[SectionKind::Code] <= 128 << 20 // CALL26 and JUMP26 (aaelf64).
    }

    /// What there is for each kind, in bytes.
    pub const fn sizes(&self) -> &PerKind<usize> {
        &self.sizes
    }

    /// Whether the kernel itself refuses to make code and read-only data writable where they run, for as long as they live. It
    /// does with [`Writing::TwoAddresses`]; otherwise this crate is all that keeps to their permissions.
    pub const fn kernel_forbids_writing(&self) -> bool {
        matches!(self.writing, Writing::TwoAddresses)
    }

    /// What indirect branches may reach.
    pub const fn branch_protection(&self) -> BranchProtection {
        self.branch_protection
    }

    /// Whether memory of what was dropped goes back to the system while the window lives. Not on every system, and not where
    /// the process locked in memory what it would get (`mlockall`).
    pub const fn returns_pages(&self) -> bool {
        self.returns_pages
    }
}
