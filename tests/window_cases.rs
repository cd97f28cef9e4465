//! How a window behaves, whichever way it is written.
#![cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
))]

#[path = "support/window_cases.rs"]
mod cases;
#[path = "support/child.rs"]
mod child;
#[path = "support/window_lives.rs"]
mod lives;
#[path = "support/window_tools.rs"]
mod tools;

use nearcode::Writing;

#[test]
#[cfg(target_os = "linux")]
fn every_case_holds_where_code_is_written_at_another_address() {
    cases::run_all(Writing::TwoAddresses);
}

#[test]
fn every_case_holds_where_code_is_written_where_it_runs() {
    cases::run_all(Writing::SameAddress);
}

#[test]
#[cfg(not(target_os = "linux"))]
fn a_system_without_a_second_view_says_so_and_gives_whoever_left_it_open_one_address() {
    use nearcode::{Error, Window, WindowOptions};

    let refused = Window::with_options(&tools::options(Writing::TwoAddresses));
    assert!(matches!(refused, Err(Error::Unsupported(_))), "{refused:?}");
    let options = WindowOptions::new().with_size(32 << 20);
    let window = Window::with_options(&options).unwrap();
    assert_eq!(window.capabilities().writing(), Writing::SameAddress);
    assert!(!window.capabilities().kernel_forbids_writing());
}
