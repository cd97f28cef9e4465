//! LLVM's C callbacks refuse memory that one pointer is not enough for.

use nearcode_llvm::nearcode::{Error, Window, WindowOptions, Writing};
use nearcode_llvm::{Memory, callbacks};

#[test]
fn what_knows_one_pointer_takes_no_window_at_two() {
    let options = WindowOptions::new().with_writing(Writing::TwoAddresses);
    let window = Window::with_options(&options).unwrap();
    for memory in [Memory::in_window(&window), Memory::in_blocks()] {
        let refused = callbacks::mcjit_memory_manager(&memory);
        assert!(matches!(refused, Err(Error::Unsupported(_))));
    }
}
