//! What is refused, how cranelift hands it on, and that everything goes on afterwards.

#[path = "support/mod.rs"]
mod support;

use std::error::Error as _;
use std::io::{self, ErrorKind};

use cranelift_jit::{JITMemoryKind, JITMemoryProvider};
use cranelift_module::{DataDescription, Linkage, Module, ModuleError};
use nearcode_cranelift::nearcode::{self, Window, WindowOptions, Writing};
use nearcode_cranelift::{Error, WindowMemoryProvider};
use support::{Jit, assert_empty, options, window};

const KINDS: [fn() -> JITMemoryKind; 3] = [
    || JITMemoryKind::Executable,
    || JITMemoryKind::ReadOnly,
    || JITMemoryKind::Writable,
];

/// What the provider said, out of what cranelift made of it.
fn reason(error: &io::Error) -> &Error {
    let inner = error.get_ref().expect("an error of ours");
    inner.downcast_ref().expect("an error of ours")
}

#[test]
fn a_window_at_two_addresses_is_refused() {
    let options = WindowOptions::new().with_writing(Writing::TwoAddresses);
    let window = match Window::with_options(&options) {
        Err(nearcode::Error::Unsupported(_)) => return, // There is none to refuse.
        window => window.unwrap(),
    };
    let refused = WindowMemoryProvider::new(&window);
    assert!(matches!(refused, Err(Error::TwoAddresses)), "{refused:?}");
}

#[test]
fn every_alignment_up_to_2_mib_is_kept_to() {
    let options = WindowOptions::new().with_writing(Writing::SameAddress);
    let window = Window::with_options(&options).unwrap();
    let mut provider = WindowMemoryProvider::new(&window).unwrap();
    for kind in KINDS {
        for exponent in (0..=21).chain((0..=21).rev()) {
            let align = 1 << exponent;
            for size in [1, 24, 5000] {
                let place = provider.allocate(size, align, kind()).unwrap();
                assert_eq!(place.addr() as u64 % align, 0, "{size} at {align}");
                // SAFETY: it was just allocated, and nothing is finalized.
                unsafe { place.write_bytes(0xa5, size) };
            }
        }
    }
}

#[test]
fn data_that_is_aligned_beyond_a_page_is_so_where_code_finds_it() {
    let window = window();
    let (mut jit, _) = Jit::in_window(&window);
    let mut ids = Vec::new();
    for (number, align) in (0..).zip([8, 1 << 14, 1 << 16, 1 << 20, 1 << 21]) {
        let name = format!("data{number}");
        let id = jit
            .module
            .declare_data(&name, Linkage::Export, number % 2 == 0, false)
            .unwrap();
        let mut data = DataDescription::new();
        data.define(vec![number; 100].into());
        data.set_align(align);
        jit.module.define_data(id, &data).unwrap();
        ids.push((id, align, number));
    }
    jit.module.finalize_definitions().unwrap();
    for (id, align, number) in ids {
        let (place, size) = jit.module.get_finalized_data(id);
        assert_eq!(place.addr() as u64 % align, 0);
        // SAFETY: the data is there as long as the module is, and nobody writes to it.
        let bytes = unsafe { std::slice::from_raw_parts(place, size) };
        assert_eq!(bytes, [number; 100]);
    }
}

#[test]
fn alignments_that_cannot_be_kept_to_are_refused() {
    let window = window();
    let mut provider = WindowMemoryProvider::new(&window).unwrap();
    for kind in KINDS {
        for align in [0, 3, 24, u64::MAX] {
            let refused = provider.allocate(8, align, kind()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidInput);
            let reason = reason(&refused);
            let is_named = matches!(
                reason,
                Error::Memory(nearcode::Error::InvalidAlignment { value }) if *value as u64 == align
            );
            assert!(is_named, "{reason:?}");
        }
        for align in [1 << 22, 1 << 63] {
            let refused = provider.allocate(8, align, kind()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidInput);
            let reason = reason(&refused);
            let is_named = matches!(
                reason,
                Error::Memory(nearcode::Error::AlignmentTooLarge { align: asked, .. })
                    if asked.bytes() as u64 == align
            );
            assert!(is_named, "{reason:?}");
        }
    }
    assert_empty(&window);
}

#[test]
fn sizes_that_no_window_has_are_refused() {
    let window = window();
    let mut provider = WindowMemoryProvider::new(&window).unwrap();
    for kind in KINDS {
        for size in [usize::MAX, usize::MAX / 2, 1 << 40, 32 << 20] {
            let refused = provider.allocate(size, 16, kind()).unwrap_err();
            let reason = reason(&refused);
            let is_named = matches!(
                reason,
                Error::Memory(nearcode::Error::WindowExhausted { requested, .. })
                    if *requested == size
            );
            assert!(is_named, "{size}: {reason:?}");
            assert_eq!(refused.kind(), ErrorKind::OutOfMemory);
        }
        provider.allocate(0, 1, kind()).unwrap();
    }
    drop(provider);
    assert_empty(&window);
}

#[test]
fn a_full_window_refuses_what_does_not_fit_and_nothing_else_changes() {
    let window = Window::with_options(&options().with_size(8 << 20).with_code(2 << 20)).unwrap();
    let (mut jit, memory) = Jit::in_window(&window);
    let first = jit.adder(&memory, "first", 1);
    let mut modules = Vec::new();
    let error = loop {
        let (mut jit, memory) = Jit::in_window(&window);
        let id = jit.declare("f", Linkage::Export, 1);
        let defined = jit.define(id, |_, _, parameters| parameters[0]);
        if let Err(error) = defined {
            break error;
        }
        jit.module.finalize_definitions().unwrap();
        modules.push(jit.unary(&memory, id));
    };
    let ModuleError::Allocation { err } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(err.kind(), ErrorKind::OutOfMemory);
    assert!(error.to_string().contains("no room for"), "{error}");
    assert!(error.source().is_some());
    let is_named = matches!(
        reason(err),
        Error::Memory(nearcode::Error::WindowExhausted { .. })
    );
    assert!(is_named, "{err:?}");
    assert!(modules.len() > 2, "{}", modules.len());
    assert!(modules.iter().all(|function| function(9) == 9));

    // The module that was refused something goes on once there is room.
    modules.clear();
    let second = jit.adder(&memory, "second", 2);
    assert_eq!([first(1), second(1)], [2, 3]);
    drop((jit, memory, first, second));
    assert_empty(&window);
}

#[test]
fn what_is_not_finalized_code_of_the_module_is_no_function() {
    let window = window();
    let (mut jit, memory) = Jit::in_window(&window);
    let (mut other, others_memory) = Jit::in_window(&window);
    let add = jit.adder(&memory, "add", 1);
    let others = other.adder(&others_memory, "add", 1);
    let data = jit
        .module
        .declare_data("data", Linkage::Local, false, false)
        .unwrap();
    let mut content = DataDescription::new();
    content.define(Box::new([1]));
    jit.module.define_data(data, &content).unwrap();
    jit.module.finalize_definitions().unwrap();
    let (data, _) = jit.module.get_finalized_data(data);
    for pointer in [std::ptr::null(), *others as *const u8, data] {
        // SAFETY: it is refused.
        let refused = unsafe { memory.function::<extern "C" fn()>(pointer) };
        let Err(Error::NotCode(address)) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(address.get(), pointer.addr() as u64);
    }
    assert_eq!(add(1), 2);
}
