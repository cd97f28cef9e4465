//! The fuzz targets' checks of the public interface, on made-up cases, the same ones in every run, and on the targets' seeds.
#![cfg(all(
    feature = "loader",
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

#[path = "../src/choices.rs"]
mod choices;
#[path = "support/damaged.rs"]
mod damaged;
#[path = "support/protocol.rs"]
mod protocol;

use choices::made_up;
use damaged::{parse, parse_all};

#[test]
fn any_bytes_are_an_object_or_an_error() {
    made_up("loader_parse", 5000, 200, <[u8]>::to_vec, |bytes| {
        parse(bytes)
    });
    made_up("loader_link", 5000, 200, damaged::TestCase::read, parse_all);
}

#[test]
fn damaged_objects_are_linked_as_they_are_or_refused() {
    let read = damaged::TestCase::read;
    made_up("loader_link", 2000, 200, read, damaged::check);
}

#[test]
fn any_history_of_managers_is_as_a_naive_model_has_it() {
    let read = protocol::TestCase::read;
    made_up("manager_protocol", 400, 400, read, protocol::check);
}
