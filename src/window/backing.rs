//! The memory of a window, whichever way it is written.

use std::ptr::NonNull;

use super::options::{BranchProtection, Writing};
use crate::error::Error;
use crate::kind::SectionKind;
use crate::layout::WindowPlan;
use crate::num::{Address, Span};
use crate::sys::{self, DualView, Permission, Pool};

#[derive(Debug)]
pub(super) enum Backing {
    Dual(DualView),
    Pool(Pool),
}

impl Backing {
    /// # Errors
    ///
    /// [`Error::Unsupported`], [`Error::System`].
    pub(super) fn map(
        plan: &WindowPlan,
        writing: Writing,
        protection: BranchProtection,
    ) -> Result<Self, Error> {
        let executable = match protection {
            BranchProtection::None => None,
            BranchProtection::LandingPads => {
                let bits = sys::bti_protection();
                Some(bits.ok_or(Error::Unsupported("branch protection by landing pads"))?)
            }
        };
        Ok(match writing {
            Writing::TwoAddresses => Self::Dual(DualView::map(plan, executable)?),
            Writing::SameAddress => Self::Pool(Pool::map(plan, executable)?),
        })
    }

    /// The kernel mappings that it comes to when nothing is in flight, its guards and the page that tells a child included.
    pub(super) fn mappings(&self) -> usize {
        match self {
            // Four guards, three kinds, the writable view and the guard in front of it.
            Self::Dual(_) => 10,
            // Four guards, three kinds, of code and read-only data a part that never was in use, what alignment left over.
            Self::Pool(_) => 12,
        }
    }

    /// The addresses that it takes, in bytes.
    pub(super) fn reserved(&self) -> usize {
        match self {
            Self::Dual(dual) => dual.reserved(),
            Self::Pool(pool) => pool.reserved(),
        }
    }

    /// What sizes of spans are rounded up to: whether pages are shared.
    pub(super) fn writing(&self) -> Writing {
        match self {
            Self::Dual(_) => Writing::TwoAddresses,
            Self::Pool(_) => Writing::SameAddress,
        }
    }

    pub(super) fn address(&self) -> Address {
        match self {
            Self::Dual(dual) => dual.address(),
            Self::Pool(pool) => pool.address(),
        }
    }

    pub(super) fn is_inherited(&self) -> bool {
        match self {
            Self::Dual(dual) => dual.is_inherited(),
            Self::Pool(pool) => pool.is_inherited(),
        }
    }

    /// Whether [`discard`](Self::discard) does anything.
    pub(super) fn returns_pages(&self) -> bool {
        match self {
            Self::Dual(dual) => dual.returns_pages(),
            Self::Pool(pool) => pool.returns_pages(),
        }
    }

    /// Whether [`commit_huge`](Self::commit_huge) is worth trying for this kind.
    pub(super) fn has_huge_pages(&self, kind: SectionKind) -> bool {
        match self {
            Self::Dual(dual) => dual.has_huge_pages(kind),
            Self::Pool(_) => false,
        }
    }

    pub(super) fn pointer(&self, span: Span) -> NonNull<u8> {
        match self {
            Self::Dual(dual) => dual.pointer(span),
            Self::Pool(pool) => pool.pointer(span),
        }
    }

    /// Of a span in one sub-window.
    pub(super) fn write_pointer(&self, span: Span) -> NonNull<u8> {
        match self {
            Self::Dual(dual) => dual.write_pointer(span),
            Self::Pool(pool) => pool.pointer(span),
        }
    }

    /// Fetches memory for whole pages of one sub-window.
    pub(super) fn commit(&self, pages: Span) -> Result<(), Error> {
        match self {
            Self::Dual(dual) => dual.commit(pages),
            Self::Pool(pool) => pool.commit(pages),
        }
    }

    /// Fetches memory for a [unit](crate::layout::UNIT) of one sub-window in one piece.
    pub(super) fn commit_huge(&self, unit: Span) -> Result<(), Error> {
        match self {
            Self::Dual(dual) => dual.commit_huge(unit),
            Self::Pool(_) => Err(Error::Unsupported("huge pages of private memory")),
        }
    }

    /// Gives the memory of whole pages of one sub-window back.
    ///
    /// # Safety
    ///
    /// Nobody needs what is on them any more.
    #[allow(unsafe_code)] // Passes on what the caller promises.
    pub(super) unsafe fn discard(&self, pages: Span) -> Result<(), Error> {
        match self {
            // SAFETY: the contract is the same.
            Self::Dual(dual) => unsafe { dual.discard(pages) },
            // SAFETY: the contract is the same.
            Self::Pool(pool) => unsafe { pool.discard(pages) },
        }
    }

    /// Makes whole pages writable again, where permissions change at all.
    ///
    /// # Safety
    ///
    /// Nobody runs code on them.
    #[allow(unsafe_code)] // Passes on what the caller promises.
    pub(super) unsafe fn unseal(&self, pages: Span) -> Result<(), Error> {
        match self {
            Self::Dual(_) => Ok(()),
            // SAFETY: the contract is the same.
            Self::Pool(pool) => unsafe { pool.protect(pages, Permission::ReadWrite) },
        }
    }

    /// Gives whole pages the permission of finalized memory, where permissions change at all.
    ///
    /// # Safety
    ///
    /// Nobody writes to them any more.
    #[allow(unsafe_code)] // Passes on what the caller promises.
    pub(super) unsafe fn seal(&self, pages: Span, kind: SectionKind) -> Result<(), Error> {
        match self {
            Self::Dual(_) => Ok(()),
            // SAFETY: the contract is the same.
            Self::Pool(pool) => unsafe { pool.protect(pages, kind.into()) },
        }
    }
}
