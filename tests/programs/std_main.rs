//! A Rust program with the standard library: collections, trait objects, threads and, with the argument `panic`, a panic that
//! unwinds through the program's own frames. Nothing here needs a thread-local variable of the program.

// The standard library comes in this shared object; naming it tells rustc not to bring another.
extern crate whole_std;

use std::collections::BTreeMap;
use std::fmt;
use std::hint::black_box;
use std::panic;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::thread;

struct Matrix([[i64; 2]; 2]);

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [[a, b], [c, d]] = self.0;
        write!(f, "[{a:>4} {b:>4} / {c:>4} {d:>4}]")
    }
}

trait Shape {
    fn area(&self) -> f64;
    fn name(&self) -> String {
        "shape".to_owned()
    }
}

struct Circle(f64);
struct Square(f64);

impl Shape for Circle {
    fn area(&self) -> f64 {
        3.25 * self.0 * self.0
    }
    fn name(&self) -> String {
        format!("circle of {:.1}", self.0)
    }
}

impl Shape for Square {
    fn area(&self) -> f64 {
        self.0 * self.0
    }
}

struct Guard(&'static str);

impl Drop for Guard {
    fn drop(&mut self) {
        println!("{} dropped", self.0);
    }
}

fn checked(values: &[u32], index: usize) -> u32 {
    let _guard = Guard("guard");
    values[index]
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();

    let mut words = BTreeMap::new();
    for word in "to be or not to be".split(' ') {
        *words.entry(word.to_string()).or_insert(0) += 1;
    }
    println!("{words:?} {arguments:?}");

    let shapes: Vec<Box<dyn Shape>> = vec![Box::new(Circle(2.0)), Box::new(Square(1.5))];
    for shape in &shapes {
        println!("{:>14} {:8.3}", shape.name(), shape.area());
    }
    println!("{}", Matrix([[1, -2], [30, 400]]));
    println!("{:?} {:?}", "12x".parse::<i32>(), "1.5e3".parse::<f64>());

    let total = Arc::new(Mutex::new(0));
    let threads: Vec<_> = (1..=4)
        .map(|factor| {
            let total = Arc::clone(&total);
            thread::spawn(move || {
                for n in 0..1000 {
                    *total.lock().unwrap() += n * factor;
                }
                factor
            })
        })
        .collect();
    let factors: i32 = threads.into_iter().map(|t| t.join().unwrap()).sum();
    println!("{} {factors}", total.lock().unwrap());

    if arguments.iter().any(|argument| argument == "panic") {
        panic::set_hook(Box::new(|details| println!("hook: {details}")));
        let caught = panic::catch_unwind(|| checked(&[1, 2, 3], black_box(7)));
        println!("caught: {}", caught.is_err());
    }
    println!("{}", checked(&[1, 2, 3], black_box(2)));
    ExitCode::from(40 + arguments.len() as u8)
}
