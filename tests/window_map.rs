//! Random operations on a window against a naive model in which every byte is accounted for, and after them (of the first 4000
//! each, then every sixteenth) the kernel's own map of the process: no page is writable and executable, what is published has
//! the permissions of its kind, and there are no more mappings than what is in flight accounts for.
//!
//! `NEARCODE_STEPS=10000000 cargo test --release --test window_map -- --nocapture` takes that many steps.
#![cfg(target_os = "linux")]
#![cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
))]

#[path = "support/child.rs"]
mod child;
#[path = "support/window_model.rs"]
mod model;
#[path = "support/window_tools.rs"]
mod tools;

use model::{MANAGERS, Model};
use nearcode::Writing;
use tools::{KernelsMap, assert_accounted, assert_empty, mapped};

fn steps(default: usize) -> usize {
    let asked = std::env::var("NEARCODE_STEPS").ok();
    asked.map_or(default, |steps| {
        steps.parse().expect("NEARCODE_STEPS is a number")
    })
}

fn walk(writing: Writing, count: usize) {
    let started = std::time::Instant::now();
    let mut map = KernelsMap::open();
    map.read();
    let before = mapped(&mut map);
    let lines = map.read().len();
    let mut model = Model::new(writing, 0x9e37_79b9_7f4a_7c15);
    let window = model.window.clone();
    let now = map.read();
    let views = now.iter().filter(|mapping| mapping.is_view);
    let writable = views.filter(|view| view.permissions == *b"rw-s").count();
    assert_eq!(writable, usize::from(writing == Writing::TwoAddresses));
    // The heap may map what the window's books need, one piece for each kind.
    let promised = window.stats().mappings() + 3;
    assert!(
        now.len() - lines <= promised,
        "{} > {promised}",
        now.len() - lines
    );
    for step in 0..count {
        model.step();
        if step < 4000 || step % 16 == 0 {
            model.check(&mut map);
        }
        if writing == Writing::TwoAddresses && step % 1000 == 0 {
            model.assert_refused();
        }
    }
    println!(
        "{writing:?}: {count} steps in {:?}, at most {} mappings, operations {:?}",
        started.elapsed(),
        model.most_mappings,
        model.done,
    );
    assert!(
        model.done.iter().all(|&times| times > count / 4000),
        "{:?}",
        model.done
    );
    (0..MANAGERS).for_each(|manager| model.finalize(manager));
    model.check(&mut map);
    assert_accounted(&window);
    drop(model);
    assert_empty(&window);
    drop(window);
    assert_eq!(mapped(&mut map), before, "nothing is left over");
}

/// Runs a walk in a process of its own: nobody else maps anything meanwhile.
fn walk_alone(test: &str, writing: Writing, count: usize) {
    if child::is_alone_natively(test) {
        walk(writing, steps(count));
    }
}

#[test]
fn the_kernels_map_of_a_window_at_two_addresses_never_changes() {
    let test = "the_kernels_map_of_a_window_at_two_addresses_never_changes";
    walk_alone(test, Writing::TwoAddresses, 4000);
}

#[test]
fn the_kernels_map_of_a_window_at_the_same_address_stays_small() {
    let test = "the_kernels_map_of_a_window_at_the_same_address_stays_small";
    walk_alone(test, Writing::SameAddress, 4000);
}
