//! x86-64 under Linux: a core that has run the old code executes a serializing instruction before it can meet the new (Intel
//! SDM volume 3, "Handling Self- and Cross-Modifying Code"). The kernel's interrupt ends with one.

pub(crate) use super::membarrier::{
    interrupt_cores as forget_freed_code, register as prepare_reuse,
};
