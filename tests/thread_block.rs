//! Bytes at the same offset from the thread pointer of every thread, as the CPU finds them.
#![cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

use std::arch::asm;
use std::sync::mpsc::channel;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use nearcode::{Align, Error, ThreadBlock};

/// The room is the process's: one test at a time counts what is left of it.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn align(bytes: usize) -> Align {
    Align::new(bytes).unwrap()
}

/// Adds to the word at an offset from this thread's pointer, and returns what was there.
#[cfg(target_arch = "x86_64")]
fn add(offset: isize, value: u64) -> u64 {
    let mut old = value;
    // SAFETY: the tests' offsets are those of blocks of their own.
    unsafe {
        asm!("xadd qword ptr fs:[{offset}], {old}", offset = in(reg) offset, old = inout(reg) old)
    };
    old
}

/// Adds to the word at an offset from this thread's pointer, and returns what was there.
#[cfg(target_arch = "aarch64")]
fn add(offset: isize, value: u64) -> u64 {
    let old: u64;
    // SAFETY: the tests' offsets are those of blocks of their own.
    unsafe {
        asm!(
            "mrs {place}, tpidr_el0",
            "ldr {old}, [{place}, {offset}]",
            "add {value}, {value}, {old}",
            "str {value}, [{place}, {offset}]",
            place = out(reg) _,
            offset = in(reg) offset,
            old = out(reg) old,
            value = inout(reg) value => _,
        )
    };
    old
}

#[test]
fn each_thread_has_zeros_of_its_own_at_the_same_offset() {
    let _alone = alone();
    let (ask, asked) = channel::<isize>();
    let (answer, answers) = channel();
    let earlier = thread::spawn(move || {
        for offset in asked {
            answer.send((add(offset, 5), add(offset, 5))).unwrap();
        }
    });
    let blocks = [8, 64, 16].map(|align_to| ThreadBlock::new(8, align(align_to)).unwrap());
    for (block, align_to) in blocks.iter().zip([8, 64, 16]) {
        assert_eq!(block.size(), 8);
        assert_eq!(block.pointer().addr() % align_to, 0);
        let offset = block.thread_offset();
        assert_eq!((add(offset, 7), add(offset, 7)), (0, 7));
        ask.send(offset).unwrap();
        assert_eq!(answers.recv(), Ok((0, 5)));
        let later = thread::spawn(move || (add(offset, 3), add(offset, 3)));
        assert_eq!(later.join().unwrap(), (0, 3));
        // SAFETY: this thread's part of a block that is alive.
        assert_eq!(unsafe { block.pointer().cast::<u64>().read() }, 14);
    }
    drop(ask);
    earlier.join().unwrap();
}

#[test]
fn what_does_not_fit_is_an_error_that_says_how_much_would() {
    let _alone = alone();
    let too_strict = ThreadBlock::new(8, align(128));
    assert!(
        matches!(too_strict, Err(Error::AlignmentTooLarge { limit, .. }) if limit.bytes() == 64),
        "{too_strict:?}"
    );
    let largest = |size| match ThreadBlock::new(size, Align::ONE) {
        Err(Error::ThreadRoomExhausted {
            requested,
            largest_free,
            ..
        }) if requested == size => largest_free,
        other => panic!("{other:?}"),
    };
    let free = largest(4097);
    assert!((1024..=4096).contains(&free), "{free}");
    let all = ThreadBlock::new(free, Align::ONE).unwrap();
    assert!(largest(free) < free);
    let message = ThreadBlock::new(free, Align::ONE).unwrap_err().to_string();
    assert!(message.contains("at a fixed offset"), "{message}");
    let nothing = ThreadBlock::new(0, Align::ONE).unwrap();
    assert_eq!(nothing.size(), 0);
    // SAFETY: nobody has stored anything there.
    unsafe { all.abandon() };
    assert_eq!(largest(4097), free, "it is free again");
}

#[test]
fn what_was_dropped_is_not_given_out_while_threads_may_have_left_something_there() {
    let _alone = alone();
    let block = ThreadBlock::new(8, align(8)).unwrap();
    let offset = block.thread_offset();
    add(offset, 1);
    drop(block);
    let others: Vec<_> = (0..20)
        .map(|_| ThreadBlock::new(8, align(8)).unwrap())
        .collect();
    assert!(others.iter().all(|other| other.thread_offset() != offset));
    for other in others {
        // SAFETY: nobody has stored anything there.
        unsafe { other.abandon() };
    }
}
