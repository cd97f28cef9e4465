//! A Rust object without a standard library: vtables, statics, and formatting by `core` into a buffer of the caller's.
#![no_std]

use core::fmt::{self, Write};
use core::panic::PanicInfo;

unsafe extern "C" {
    fn abort() -> !;
}

#[panic_handler]
fn panicked(_: &PanicInfo<'_>) -> ! {
    // SAFETY: C's abort takes nothing and never returns.
    unsafe { abort() }
}

trait Shape: Sync {
    fn name(&self) -> &'static str;
    fn area(&self) -> f64;
}

struct Circle(f64);
struct Rectangle(f64, f64);
struct Polygon(&'static [(f64, f64)]);

impl Shape for Circle {
    fn name(&self) -> &'static str {
        "circle"
    }
    fn area(&self) -> f64 {
        core::f64::consts::PI * self.0 * self.0
    }
}

impl Shape for Rectangle {
    fn name(&self) -> &'static str {
        "rectangle"
    }
    fn area(&self) -> f64 {
        self.0 * self.1
    }
}

impl Shape for Polygon {
    fn name(&self) -> &'static str {
        "polygon"
    }
    fn area(&self) -> f64 {
        let mut twice = 0.0;
        for (i, a) in self.0.iter().enumerate() {
            let b = self.0[(i + 1) % self.0.len()];
            twice += a.0 * b.1 - b.0 * a.1;
        }
        twice / 2.0
    }
}

static SHAPES: [&dyn Shape; 4] = [
    &Circle(1.5),
    &Rectangle(2.0, 3.25),
    &Polygon(&[(0.0, 0.0), (4.0, 0.0), (4.0, 3.0)]),
    &Polygon(&[(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]),
];

struct Buffer<'a> {
    bytes: &'a mut [u8],
    used: usize,
}

impl Write for Buffer<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.used + text.len();
        let room = self.bytes.get_mut(self.used..end).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.used = end;
        Ok(())
    }
}

/// Describes shape `index` in at most `size` bytes at `out`; the number of bytes, or -1 if there is no such shape or no room.
#[unsafe(no_mangle)]
extern "C" fn describe_shape(index: usize, out: *mut u8, size: usize) -> isize {
    let Some(shape) = SHAPES.get(index) else {
        return -1;
    };
    // SAFETY: the C program passes an array of `size` bytes of its own.
    let bytes = unsafe { core::slice::from_raw_parts_mut(out, size) };
    let mut buffer = Buffer { bytes, used: 0 };
    let line = write!(
        buffer,
        "{:>10} {:9.4} {:e} {:#06x}",
        shape.name(),
        shape.area(),
        shape.area(),
        index * 257
    );
    if line.is_ok() {
        buffer.used as isize
    } else {
        -1
    }
}

#[unsafe(no_mangle)]
extern "C" fn shape_area(index: usize) -> f64 {
    SHAPES.get(index).map_or(f64::NAN, |shape| shape.area())
}
