//! A test double for the system: calls with chosen numbers fail, on the thread that chose them.

use std::cell::RefCell;
use std::io;
use std::ops::Range;

/// Which system calls of an operation fail, counted from 0.
struct Plan {
    next: usize,
    failing: Range<usize>,
}

thread_local! {
    static PLAN: RefCell<Option<Plan>> = const { RefCell::new(None) };
}

/// What the system answers to calls that fail.
pub(crate) const ANSWER: io::ErrorKind = io::ErrorKind::OutOfMemory;

/// Asked before each system call that can fail.
pub(crate) fn check() -> io::Result<()> {
    PLAN.with_borrow_mut(|plan| {
        let Some(plan) = plan else { return Ok(()) };
        let number = plan.next;
        plan.next += 1;
        if plan.failing.contains(&number) {
            Err(ANSWER.into())
        } else {
            Ok(())
        }
    })
}

/// Runs `operation` with these system calls failing. The second value says whether it came to the first of them.
pub(crate) fn failing<T>(calls: Range<usize>, operation: impl FnOnce() -> T) -> (T, bool) {
    let first = calls.start;
    PLAN.set(Some(Plan {
        next: 0,
        failing: calls,
    }));
    let result = operation();
    let plan = PLAN.take().expect("operations do not nest");
    (result, plan.next > first)
}
