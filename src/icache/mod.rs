//! From bytes that were written to instructions that every core runs.
//!
//! A store goes to the data side of a core. Some CPUs fetch instructions from caches that know nothing of
//! it, and any core may hold instructions that it fetched before. So newly written code is published in
//! three steps, the same three on every CPU, of which a CPU leaves out what its manual lets it:
//!
//! 1. [`prepare`], before the first code of the process: what the kernel has to be told in advance;
//! 2. [`make_coherent`], for each span of code once its bytes are final: the caches agree with memory;
//! 3. [`synchronize_cores`], once after all of them, before any thread learns the address: no core keeps
//!    what it fetched earlier.
//!
//! Where an address is to serve a second time, a fourth comes in between: [`forget_freed_code`], once for all that was freed
//! before, and [`prepare_reuse`] in advance.
//!
//! The law: after the three, a thread that reads the code's address from a `Release`-`Acquire` pair runs
//! the new bytes. What must not enter: mapping and protection, and any choice of when to publish.
//!
//! One file for each CPU, or for each system that does not let a program do it by itself, with the same
//! functions in each. Elsewhere [`prepare`] says that it cannot be done.

#[cfg(any(
    all(
        target_arch = "aarch64",
        any(target_os = "linux", target_os = "android")
    ),
    test
))]
mod ctr;

#[cfg(all(
    target_arch = "aarch64",
    any(target_os = "linux", target_os = "android")
))]
#[path = "aarch64.rs"]
mod cpu;

#[cfg(all(target_arch = "aarch64", target_vendor = "apple"))]
#[path = "apple.rs"]
mod cpu;

#[cfg(all(target_arch = "aarch64", windows))]
#[path = "windows.rs"]
mod cpu;

#[cfg(target_arch = "x86_64")]
#[path = "x86_64.rs"]
mod cpu;

#[cfg(all(target_arch = "riscv64", target_os = "linux"))]
#[path = "riscv64.rs"]
mod cpu;

#[cfg(all(target_arch = "loongarch64", target_os = "linux"))]
#[path = "loongarch64.rs"]
mod cpu;

#[cfg(not(any(
    target_arch = "x86_64",
    all(
        target_arch = "aarch64",
        any(
            target_os = "linux",
            target_os = "android",
            target_vendor = "apple",
            windows
        )
    ),
    all(
        any(target_arch = "riscv64", target_arch = "loongarch64"),
        target_os = "linux"
    ),
)))]
#[path = "stub.rs"]
mod cpu;

#[cfg(all(
    any(target_arch = "x86_64", target_arch = "aarch64"),
    any(target_os = "linux", target_os = "android")
))]
mod membarrier;

#[cfg_attr(
    all(
        target_arch = "x86_64",
        any(target_os = "linux", target_os = "android")
    ),
    path = "reuse_x86_64_linux.rs"
)]
#[cfg_attr(
    not(all(
        target_arch = "x86_64",
        any(target_os = "linux", target_os = "android")
    )),
    path = "reuse_none.rs"
)]
mod reuse;

use std::io;

pub(crate) use cpu::make_coherent;

use crate::sys::fault;

/// What the kernel has to be told before the first code of the process. Cheap from the second time on.
///
/// # Errors
///
/// The kernel's, where it cannot make other cores forget what they fetched.
pub(crate) fn prepare() -> io::Result<()> {
    fault::check()?;
    cpu::prepare()
}

/// Makes every core of the process fetch anew: once for each publication, after [`make_coherent`] on all of it.
///
/// # Errors
///
/// The kernel's.
pub(crate) fn synchronize_cores() -> io::Result<()> {
    fault::check()?;
    cpu::synchronize_cores()
}

/// What the kernel has to be told before the first code is freed. Cheap from the second time on.
///
/// # Errors
///
/// The kernel's.
pub(crate) fn prepare_reuse() -> io::Result<()> {
    fault::check()?;
    reuse::prepare_reuse()
}

/// Makes every core forget code that was freed and that no thread runs any more, so that its address can serve again.
///
/// # Errors
///
/// The kernel's.
pub(crate) fn forget_freed_code() -> io::Result<()> {
    fault::check()?;
    reuse::forget_freed_code()
}

#[cfg(test)]
mod tests {
    #[test]
    fn preparing_twice_is_preparing_once() {
        super::prepare().expect("the first time");
        super::prepare().expect("the second time");
        super::synchronize_cores().expect("after preparing");
    }
}
