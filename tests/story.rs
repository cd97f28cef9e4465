//! The bug that this crate is for, told as a test: in an address space without luck, two memory managers of the field end with
//! an out-of-range relocation at the second object, and ours loads it ten thousand times.
#![cfg(all(
    target_os = "linux",
    any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        target_arch = "riscv64"
    )
))]

#[path = "support/child.rs"]
mod child;
#[path = "support/scattered.rs"]
mod scattered;
#[path = "support/small_object.rs"]
mod small_object;
#[path = "support/wrong_managers.rs"]
mod wrong_managers;

use std::collections::VecDeque;

use nearcode::{Error, ReservingMemoryManager, SectionMemoryManager};

const OBJECTS: i32 = 10_000;

/// Loads the object again and again where each island has room for one and a bit: three pages and two more.
/// Returns what ended it, and at which object, counted from 1.
fn load_again_and_again(manager: &mut dyn ReservingMemoryManager) -> (i32, Option<Error>) {
    let islands = scattered::scatter(5);
    let mut alive = VecDeque::new();
    for number in 1..=OBJECTS {
        match small_object::load(manager, number) {
            Ok(loaded) => {
                assert_eq!(small_object::call(&loaded), number);
                alive.push_back(loaded);
            }
            Err(error) => return (number, Some(error)),
        }
        // The islands are used up before all objects are loaded: the oldest go.
        if alive.len() > islands / 2 {
            alive.pop_front();
        }
    }
    for (loaded, number) in alive.iter().rev().zip((1..=OBJECTS).rev()) {
        assert_eq!(small_object::call(loaded), number);
    }
    (OBJECTS, None)
}

/// Runs `test` again in a process of its own, and returns the line in which it says how it ended.
fn ending(test: &str) -> String {
    let output = child::in_a_child(test, "child");
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "{}\n{stdout}\n{stderr}",
        output.status
    );
    let line = stdout.lines().find_map(|line| line.split_once("ending: "));
    println!("{}", line.expect("the child says how it ended").1);
    line.expect("it does").1.to_owned()
}

fn tell(manager: &mut dyn ReservingMemoryManager) {
    match load_again_and_again(manager) {
        (objects, None) => println!("ending: {objects} objects ran"),
        (object, Some(error)) => println!("ending: object {object}: {error}"),
    }
}

#[test]
fn a_manager_that_maps_section_by_section_is_out_of_range_at_the_second_object() {
    if child::argument().is_some() {
        return tell(&mut wrong_managers::section_by_section());
    }
    let ending =
        ending("a_manager_that_maps_section_by_section_is_out_of_range_at_the_second_object");
    assert!(
        ending.starts_with("object 2: R_") && ending.contains("the limit"),
        "{ending}"
    );
}

#[test]
fn a_manager_that_keeps_old_free_lists_is_out_of_range_at_the_second_object() {
    if child::argument().is_some() {
        return tell(&mut wrong_managers::stale_free_lists());
    }
    let ending = ending("a_manager_that_keeps_old_free_lists_is_out_of_range_at_the_second_object");
    assert!(
        ending.starts_with("object 2: R_") && ending.contains("the limit"),
        "{ending}"
    );
}

#[test]
fn this_crate_loads_the_object_ten_thousand_times() {
    if child::argument().is_some() {
        return tell(&mut SectionMemoryManager::new());
    }
    let ending = ending("this_crate_loads_the_object_ten_thousand_times");
    assert_eq!(ending, "10000 objects ran");
}
