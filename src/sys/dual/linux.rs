//! Linux: a memory file, mapped twice.
//!
//! | view | where | permission | made through | inherited by `fork` |
//! |---|---|---|---|---|
//! | code, to run | in the window | `r-x` from birth | a read-only descriptor | yes |
//! | read-only data | in the window | `r--` from birth | the same | yes |
//! | read-write data | in the window | `rw-`, private | no file | copied |
//! | code and read-only data, to write | anywhere else | `rw-` | the file | no |
//!
//! An offset is the same in window and writable view, which ends where the read-only data does. The file begins behind the first
//! guard, so that a [unit](UNIT) of memory is one in all three, and can be a huge page.
//!
//! The kernel lets nobody make a shared mapping writable whose descriptor was not (`mprotect`: EACCES), for as long as it lives.
//! All descriptors are closed when this is done: a child or a stray `/proc/self/fd` cannot open the file anew.
//!
//! None of it asks for a permission that a mapping did not have from birth. So it works under `PR_SET_MDWE`, under a seccomp
//! filter like systemd's `MemoryDenyWriteExecute`, and at every `vm.memfd_noexec`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::{NonNull, null_mut};

use rustix::fs::{MemfdFlags, Mode, OFlags, ftruncate, memfd_create, open};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use rustix::process::{Resource, getrlimit};

use super::super::forks::count_forks;
use super::super::{ForkMark, failed, fault, fork_count, page_size, pages, took_back};
use crate::error::Error;
use crate::kind::SectionKind;
use crate::layout::{GUARD, UNIT, WindowPlan};
use crate::num::{Address, Span};

/// See the head of this file. Spans count from the window's offset 0.
#[derive(Debug)]
pub(crate) struct DualView {
    run: Mapping,
    write: Mapping,
    plan: WindowPlan,
    mark: ForkMark,
    returns_pages: bool,
    huge_pages: bool,
}

// SAFETY: the mappings are bound to no thread.
unsafe impl Send for DualView {}
// SAFETY: through a shared reference only pointers are given out, and pages fetched or given back, which the kernel orders.
unsafe impl Sync for DualView {}

/// An address range of our own; unmapped when dropped.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    size: usize,
    /// Bytes in front of it and behind it that are ours as well: mostly none.
    slack: [usize; 2],
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let [before, behind] = self.slack;
        let start = self.start.as_ptr().wrapping_sub(before).cast();
        // SAFETY: mapped by whoever made this value, and pointers into it are used only while its owner lives.
        // A refusal leaves it mapped until the process ends.
        let _ = unsafe { munmap(start, before + self.size + behind) };
    }
}

impl Drop for DualView {
    fn drop(&mut self) {
        if self.mark.is_inherited() {
            // Nothing of ours is there in a child, so whatever is, is another's. A size of zero unmaps nothing.
            (self.write.size, self.write.slack) = (0, [0; 2]);
        }
    }
}

impl DualView {
    /// Maps what `plan` says, executable pages with the protection bits of `executable` in addition.
    ///
    /// # Errors
    ///
    /// [`Error::System`]. Nothing is mapped then, and no descriptor open.
    pub(crate) fn map(plan: &WindowPlan, executable: Option<u32>) -> Result<Self, Error> {
        count_forks().map_err(failed("pthread_atfork", plan.size))?;
        loop {
            let before = fork_count();
            let view = Self::map_once(plan, executable)?;
            if fork_count() == before {
                return Ok(view);
            }
            // A child may have the writable view, or the file: nobody is to trust this one.
        }
    }

    fn map_once(plan: &WindowPlan, executable: Option<u32>) -> Result<Self, Error> {
        let mark = ForkMark::new()?;
        let end = plan.arenas[SectionKind::ReadOnlyData].end();
        let in_file = Span::new(GUARD, end).expect("code is behind the first guard");
        let file = memory_file(in_file.size())?;
        let write = reserve(end)?;
        write.fix(in_file, ProtFlags::READ | ProtFlags::WRITE, file.as_fd())?;
        let read_only = reopen_read_only(file.as_fd(), in_file.size())?;
        drop(file);

        let run = reserve(plan.size)?;
        let read = ProtFlags::READ;
        let execute = read | ProtFlags::EXEC | ProtFlags::from_bits_retain(executable.unwrap_or(0));
        run.fix(plan.arenas[SectionKind::Code], execute, read_only.as_fd())?;
        run.fix(
            plan.arenas[SectionKind::ReadOnlyData],
            read,
            read_only.as_fd(),
        )?;
        run.fix_private(plan.arenas[SectionKind::ReadWriteData])?;

        let mut view = Self {
            run,
            write,
            plan: plan.clone(),
            mark,
            returns_pages: true,
            huge_pages: false,
        };
        view.advise()?;
        let code = view.plan.arenas[SectionKind::Code];
        let page = page_size().bytes();
        let first = Span::sized(code.start(), page).expect("a page of the code");
        view.commit(first)?;
        let second = Span::sized(first.end(), page).expect("a unit has many pages");
        if pages::is_resident(view.write_pointer(second)) {
            view.avoid_huge_pages();
        } else {
            view.huge_pages = UNIT.bytes() == pages::huge(page_size());
        }
        // SAFETY: nobody knows of the pages yet.
        let discarded = unsafe { view.discard(code) };
        view.returns_pages = took_back(discarded)?;
        Ok(view)
    }

    /// Here the system gives huge pages unasked: a byte in use is not to cost one.
    fn avoid_huge_pages(&self) {
        let write = (self.write.start, self.write.size);
        let run = [SectionKind::Code, SectionKind::ReadOnlyData].map(|kind| {
            let span = self.plan.arenas[kind];
            (self.pointer(span), span.size())
        });
        for (start, size) in run.into_iter().chain([write]) {
            // SAFETY: mappings of our own.
            unsafe { pages::avoid_huge_pages(start, size) };
        }
    }

    /// What the kernel is told once: a child gets no view to write code through, and a core dump does not hold it twice. A byte
    /// of read-write data does not cost a huge page.
    fn advise(&self) -> Result<(), Error> {
        let Mapping { start, size, .. } = self.write;
        for (advice, operation) in [
            (Advice::LinuxDontFork, "madvise(MADV_DONTFORK)"),
            (Advice::LinuxDontDump, "madvise(MADV_DONTDUMP)"),
        ] {
            fault::check()
                // SAFETY: a mapping of our own, to which nothing was written yet.
                .and_then(|()| Ok(unsafe { madvise(start.as_ptr().cast(), size, advice) }?))
                .map_err(failed(operation, size))?;
        }
        let data = self.plan.arenas[SectionKind::ReadWriteData];
        // SAFETY: as above.
        unsafe { pages::avoid_huge_pages(self.pointer(data), data.size()) };
        Ok(())
    }

    /// Where the window's offset 0 runs.
    pub(crate) fn address(&self) -> Address {
        Address::new(self.run.start.as_ptr() as u64)
    }

    /// Whether this process has it by `fork` only, and so nothing to write through.
    pub(crate) fn is_inherited(&self) -> bool {
        self.mark.is_inherited()
    }

    /// Whether [`discard`](Self::discard) does anything.
    pub(crate) fn returns_pages(&self) -> bool {
        self.returns_pages
    }

    /// Whether [`commit_huge`](Self::commit_huge) is worth trying for this kind.
    pub(crate) fn has_huge_pages(&self, kind: SectionKind) -> bool {
        self.huge_pages && kind != SectionKind::ReadWriteData
    }

    /// Where to run or to read `span`.
    pub(crate) fn pointer(&self, span: Span) -> NonNull<u8> {
        self.run.pointer(span)
    }

    /// Where to write `span`, which lies in one sub-window.
    pub(crate) fn write_pointer(&self, span: Span) -> NonNull<u8> {
        if self.is_in_file(span) {
            self.write.pointer(span)
        } else {
            self.run.pointer(span)
        }
    }

    /// Addresses that it takes, in bytes: those to run at and those to write at.
    pub(crate) fn reserved(&self) -> usize {
        self.run.size + self.write.size
    }

    /// Code and read-only data are, read-write data is not.
    fn is_in_file(&self, span: Span) -> bool {
        span.end() <= self.write.size
    }

    /// Fetches the memory of whole pages of one sub-window, so that writing them cannot raise SIGBUS.
    ///
    /// # Errors
    ///
    /// [`Error::System`]: there is no memory, or the kernel is older than 5.14.
    pub(crate) fn commit(&self, pages: Span) -> Result<(), Error> {
        let start = self.write_pointer(pages).as_ptr().cast();
        let operation = "madvise(MADV_POPULATE_WRITE)";
        fault::check()
            // SAFETY: whole pages of the writable view; what is written on them stays.
            .and_then(|()| Ok(unsafe { madvise(start, pages.size(), Advice::LinuxPopulateWrite) }?))
            .map_err(failed(operation, pages.size()))
    }

    /// Fetches a unit of memory as one huge page, which takes a part of the time that its pages would, and fewer of the CPU's
    /// entries for addresses. It is asked for, since settings of most systems give no huge pages of a file unasked.
    ///
    /// # Errors
    ///
    /// [`Error::System`]: there is none in one piece, or the kernel is older than 6.1. A page of it may have memory then.
    pub(crate) fn commit_huge(&self, unit: Span) -> Result<(), Error> {
        let first = Span::sized(unit.start(), page_size().bytes()).expect("a page of it");
        self.commit(first)?; // Where nothing is, nothing can be made one.
        let start = self.write_pointer(unit);
        fault::check()
            // SAFETY: whole pages of the writable view; what is written on them stays.
            .and_then(|()| unsafe { pages::collapse(start, unit.size()) })
            .map_err(failed("madvise(MADV_COLLAPSE)", unit.size()))?;
        self.commit(unit)
    }

    /// Gives the memory of whole pages of one sub-window back. They read as zero from then on.
    ///
    /// # Safety
    ///
    /// Nobody needs what is on them any more, in any process that has inherited it.
    pub(crate) unsafe fn discard(&self, pages: Span) -> Result<(), Error> {
        let start = self.write_pointer(pages).as_ptr().cast();
        let (advice, operation) = if self.is_in_file(pages) {
            (Advice::LinuxRemove, "madvise(MADV_REMOVE)")
        } else {
            (Advice::LinuxDontNeed, "madvise(MADV_DONTNEED)")
        };
        fault::check()
            // SAFETY: whole pages of our own, that nobody needs by this function's contract.
            .and_then(|()| Ok(unsafe { madvise(start, pages.size(), advice) }?))
            .map_err(failed(operation, pages.size()))
    }
}

impl Mapping {
    fn pointer(&self, span: Span) -> NonNull<u8> {
        assert!(
            span.end() <= self.size,
            "{span:?} is outside of {:#x} bytes",
            self.size
        );
        // SAFETY: inside the mapping.
        unsafe { self.start.add(span.start()) }
    }

    /// Maps a part of the file over the same part of this reservation.
    fn fix(&self, span: Span, permission: ProtFlags, file: BorrowedFd<'_>) -> Result<(), Error> {
        let start = self.pointer(span).as_ptr().cast();
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        let offset = (span.start() - GUARD) as u64;
        fault::check()
            .and_then(|()| {
                // SAFETY: replaces a part of our own reservation, in which nothing is.
                unsafe { mmap(start, span.size(), permission, flags, file, offset) }?;
                Ok(())
            })
            .map_err(failed("mmap of a view", span.size()))
    }

    /// Maps private memory over a part of this reservation.
    fn fix_private(&self, span: Span) -> Result<(), Error> {
        let start = self.pointer(span).as_ptr().cast();
        let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
        let permission = ProtFlags::READ | ProtFlags::WRITE;
        fault::check()
            .and_then(|()| {
                // SAFETY: replaces a part of our own reservation, in which nothing is.
                unsafe { mmap_anonymous(start, span.size(), permission, flags) }?;
                Ok(())
            })
            .map_err(failed("mmap of data", span.size()))
    }
}

/// A file of `size` bytes in memory. First as one that can never be executed as a program, which `vm.memfd_noexec=2` insists on
/// and kernels before 6.3 do not know; that setting has no say in mapping it. Last as one that asks for the opposite, for
/// filters that let nothing else pass.
fn memory_file(size: usize) -> Result<OwnedFd, Error> {
    // Beyond the limit `ftruncate` would raise SIGXFSZ, which ends the process.
    let limit = getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX);
    if size as u64 > limit {
        return Err(failed("ftruncate", size)(io::Error::from(Errno::FBIG)));
    }
    let ladder = [
        MemfdFlags::NOEXEC_SEAL,
        MemfdFlags::empty(),
        MemfdFlags::EXEC,
    ];
    // A flag that the kernel does not know, or a setting or a filter that denies it. Anything else is the answer.
    let goes_on = |error: &io::Error| {
        let denials = [Errno::INVAL, Errno::ACCESS, Errno::PERM, Errno::NOSYS];
        denials
            .iter()
            .any(|denial| error.raw_os_error() == Some(denial.raw_os_error()))
    };
    let mut made = Err(io::Error::from(Errno::INVAL));
    for flags in ladder {
        made = fault::check()
            .and_then(|()| Ok(memfd_create("nearcode", flags | MemfdFlags::CLOEXEC)?));
        if !made.as_ref().is_err_and(goes_on) {
            break;
        }
    }
    let file = made.map_err(failed("memfd_create", size))?;
    fault::check()
        .and_then(|()| Ok(ftruncate(&file, size as u64)?))
        .map_err(failed("ftruncate", size))?;
    Ok(file)
}

/// The same file through a descriptor that cannot write. Needs `/proc`, and this thread's part of it: `/proc/self` has the
/// descriptors of the first thread, which may have ended, or have others by the same numbers.
fn reopen_read_only(file: BorrowedFd<'_>, size: usize) -> Result<OwnedFd, Error> {
    let path = format!("/proc/thread-self/fd/{}", file.as_raw_fd());
    let operation = "open of /proc/thread-self/fd for a read-only view";
    fault::check()
        .and_then(|()| Ok(open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?))
        .map_err(failed(operation, size))
}

/// Addresses without memory, such that offset [`GUARD`] is aligned to a unit.
fn reserve(size: usize) -> Result<Mapping, Error> {
    let slack = UNIT.bytes() - page_size().bytes();
    let length = size + slack;
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    let start = fault::check()
        .and_then(|()| {
            // SAFETY: a new mapping takes nothing from anybody.
            Ok(unsafe { mmap_anonymous(null_mut(), length, ProtFlags::empty(), flags) }?)
        })
        .map_err(failed("mmap", length))?;
    let start = NonNull::new(start.cast::<u8>()).expect("a mapping is not at address zero");
    let first = start.as_ptr() as usize + GUARD;
    let skip = UNIT
        .up(first)
        .expect("far from the end of the address space")
        - first;
    // SAFETY: `skip` is at most the slack.
    let kept = unsafe { start.add(skip) };
    // SAFETY: with `size` bytes more it still is inside.
    let behind = unsafe { kept.add(size) };
    // What is left over at the ends goes back. What the system refuses to take goes with the rest: at the limit of mappings it
    // cannot make two of one.
    let slack = [(start, skip), (behind, slack - skip)].map(|(start, size)| {
        // SAFETY: pages of the mapping outside of what is kept, in which nothing is.
        let went = size == 0 || unsafe { munmap(start.as_ptr().cast(), size) }.is_ok();
        if went { 0 } else { size }
    });
    Ok(Mapping {
        start: kept,
        size,
        slack,
    })
}
