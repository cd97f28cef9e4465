//! What a hostile or poor system does to a process: each function here does it to this one. It cannot be undone, so it belongs
//! into a process of its own. An error says that this machine, or this user, cannot have it.

use std::ffi::c_void;
use std::fs;
use std::io::Error;
use std::ptr::null_mut;
use std::sync::Mutex;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A refusal as a C function tells of it.
fn check(answer: i32) -> Result<(), Error> {
    match answer {
        0.. => Ok(()),
        _ => Err(Error::last_os_error()),
    }
}

/// `PR_SET_MDWE`, Linux 6.3: what is or was writable never becomes executable.
pub fn forbid_gaining_execution() -> Result<(), Error> {
    const PR_SET_MDWE: i32 = 65;
    const PR_MDWE_REFUSE_EXEC_GAIN: u64 = 1;
    // SAFETY: changes what this process may do, and no memory.
    check(unsafe { libc::prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0u64, 0u64, 0u64) })
}

/// A system call that a filter answers instead of the kernel.
pub struct Denial {
    pub call: libc::c_long,
    /// Which argument is looked at, from 0.
    pub argument: u32,
    /// These bits of it,
    pub bits: i32,
    /// if they are this.
    pub value: i32,
    pub answer: i32,
}

/// What systemd's `MemoryDenyWriteExecute` denies (src/shared/seccomp-util.c, seccomp_memory_deny_write_execute).
pub fn deny_write_and_execute() -> Result<(), Error> {
    let both = libc::PROT_WRITE | libc::PROT_EXEC;
    let denied = [
        (libc::SYS_mmap, both),
        (libc::SYS_mprotect, libc::PROT_EXEC),
        (libc::SYS_pkey_mprotect, libc::PROT_EXEC),
        (libc::SYS_shmat, libc::SHM_EXEC),
    ];
    filter(&denied.map(|(call, bits)| Denial {
        call,
        argument: 2,
        bits,
        value: bits,
        answer: libc::EPERM,
    }))
}

/// Has a seccomp filter answer system calls.
pub fn filter(denials: &[Denial]) -> Result<(), Error> {
    let instruction = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let and = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;
    let mut program = Vec::new();
    for denial in denials {
        let refuse = libc::SECCOMP_RET_ERRNO | denial.answer as u32;
        program.push(instruction(load, 0, 0, 0)); // seccomp_data.nr
        program.push(instruction(equal, 0, 4, denial.call as u32));
        // The lower half of an element of seccomp_data.args.
        program.push(instruction(load, 0, 0, 16 + 8 * denial.argument));
        program.push(instruction(and, 0, 0, denial.bits as u32));
        program.push(instruction(equal, 0, 1, denial.value as u32));
        program.push(instruction(answer, 0, 0, refuse));
    }
    program.push(instruction(answer, 0, 0, libc::SECCOMP_RET_ALLOW));
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: changes what this process may do, and no memory.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1u64, 0u64, 0u64, 0u64) })?;
    let mode = u64::from(libc::SECCOMP_MODE_FILTER);
    // SAFETY: the kernel copies the program, which is as long as it says.
    check(unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const filter) })
}

/// Lets every process started from here on be in a namespace of its own.
pub fn enter_namespace() -> Result<(), Error> {
    // SAFETY: changes where children of this thread live.
    check(unsafe { libc::unshare(libc::CLONE_NEWPID) })
}

/// `vm.memfd_noexec`, for this namespace of processes, where it can only be raised. From 1 on memory files are not executable
/// unless they ask for it, at 2 none is.
pub fn seal_memory_files(value: usize) -> Result<(), Error> {
    fs::write("/proc/sys/vm/memfd_noexec", value.to_string())?;
    const MFD_EXEC: u32 = 0x10;
    // SAFETY: makes a file and touches no memory.
    let file = unsafe { libc::memfd_create(c"executable".as_ptr(), MFD_EXEC) };
    assert_eq!(file < 0, value == 2, "otherwise this shows nothing");
    // SAFETY: a descriptor of our own, or none.
    unsafe { libc::close(file) };
    Ok(())
}

/// This thread and those that it starts find nothing under `/proc` any more.
pub fn hide_proc() -> Result<(), Error> {
    // SAFETY: changes what this thread sees of the file system.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    let (root, none) = (c"/".as_ptr(), std::ptr::null());
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: no other namespace sees what comes next.
    check(unsafe { libc::mount(none, root, none, flags, none.cast()) })?;
    // SAFETY: in this namespace only; open files stay.
    check(unsafe { libc::umount2(c"/proc".as_ptr(), libc::MNT_DETACH) })
}

/// No more than this of a resource.
pub fn limit(resource: Resource, most: usize) -> Result<(), Error> {
    let maximum = getrlimit(resource).maximum;
    let current = Some(most as u64);
    Ok(setrlimit(resource, Rlimit { current, maximum })?)
}

/// All memory that comes from here on stays in memory, and comes at once.
pub fn lock_what_comes() -> Result<(), Error> {
    // SAFETY: changes no memory that is there.
    check(unsafe { libc::mlockall(libc::MCL_FUTURE) })
}

/// The same, and no more than this may be locked.
pub fn lock_at_most(bytes: usize) -> Result<(), Error> {
    const CAP_IPC_LOCK: u32 = 14;
    // linux/capability.h: version 3, this thread; two times 32 bits of what is effective, permitted and inheritable.
    let (header, mut sets) = ([0x2008_0522_u32, 0], [[0_u32; 3]; 2]);
    // SAFETY: writes two sets of three words each.
    let got = unsafe { libc::syscall(libc::SYS_capget, &raw const header, &raw mut sets) };
    check(got as i32)?;
    sets[0][0] &= !(1 << CAP_IPC_LOCK);
    // SAFETY: takes a right from this thread.
    let set = unsafe { libc::syscall(libc::SYS_capset, &raw const header, &raw const sets) };
    check(set as i32)?;
    limit(Resource::Memlock, bytes)?;
    lock_what_comes()
}

/// This many descriptors can be opened, and no more.
pub fn leave_descriptors(free: usize) -> Result<(), Error> {
    const MOST: usize = 64;
    limit(Resource::Nofile, MOST)?;
    // SAFETY: another descriptor for the standard output.
    while unsafe { libc::dup(1) } >= 0 {}
    for descriptor in MOST - free..MOST {
        // SAFETY: nobody uses the highest ones, which were just opened.
        check(unsafe { libc::close(descriptor as i32) })?;
    }
    Ok(())
}

/// Others have as many mappings as the kernel lets a process have, but for the last so many.
pub fn leave_mappings(free: usize) -> Result<(), Error> {
    static OTHERS: Mutex<Vec<usize>> = Mutex::new(Vec::new());
    let page = region::page::size();
    let most = fs::read_to_string("/proc/sys/vm/max_map_count")?;
    let most: usize = most.trim().parse().map_err(Error::other)?;
    if most > 1 << 20 {
        return Err(Error::other("vm.max_map_count is out of reach"));
    }
    let mut others = OTHERS.lock().unwrap();
    if others.is_empty() {
        keep_a_heap(64 << 20);
    }
    let missing = most - others.len();
    others.reserve_exact(missing);
    loop {
        // Neighbours of another permission: they stay two.
        let permission = [ProtFlags::empty(), ProtFlags::READ][others.len() % 2];
        // SAFETY: a new mapping takes nothing from anybody.
        match unsafe { mmap_anonymous(null_mut(), page, permission, MapFlags::PRIVATE) } {
            Ok(start) => others.push(start.addr()),
            Err(_) => break,
        }
    }
    let kept = others.len() - free;
    for start in others.drain(kept..) {
        let start = std::ptr::without_provenance_mut::<c_void>(start);
        // SAFETY: a page of our own, which nobody uses.
        unsafe { munmap(start, page) }?;
    }
    Ok(())
}

/// The heap has this much from here on, and needs no mapping for it.
fn keep_a_heap(bytes: usize) {
    // SAFETY: options of the C library's heap.
    unsafe { libc::mallopt(libc::M_MMAP_MAX, 0) };
    // SAFETY: as above.
    unsafe { libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX) };
    drop(std::hint::black_box(Vec::<u8>::with_capacity(bytes)));
}

/// Huge pages wherever they fit. That is for the whole machine, so that a test does not make it so.
pub fn huge_pages_always() -> Result<(), Error> {
    let setting = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled")?;
    match setting.contains("[always]") {
        true => Ok(()),
        false => Err(Error::other("this machine is not set to it")),
    }
}
