//! A no_std object for tests/loader_compilers.rs, in debug and release: tables, matches, dynamic calls, checked arithmetic.
#![no_std]

trait Shape {
    fn area(&self) -> u64;
    fn name(&self) -> &'static str;
}

struct Square(u32);
struct Sheet {
    width: u16,
    height: u64,
}

impl Shape for Square {
    fn area(&self) -> u64 {
        u64::from(self.0).pow(2)
    }
    fn name(&self) -> &'static str {
        "square"
    }
}

impl Shape for Sheet {
    fn area(&self) -> u64 {
        u64::from(self.width) * self.height
    }
    fn name(&self) -> &'static str {
        "sheet of paper"
    }
}

static SHAPES: [&(dyn Shape + Sync); 3] = [
    &Square(12),
    &Sheet { width: 210, height: 297 },
    &Square(65_536),
];
static STEPS: [fn(u64) -> u64; 4] = [|x| x + 1, |x| x ^ 0xff, |x| x.rotate_left(7), collatz];
static WIDE: u128 = 0x0123_4567_89ab_cdef_0011_2233_4455_6677;
static CALLS: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(40);

fn collatz(x: u64) -> u64 {
    match x % 8 {
        0 => x / 8,
        1 => 3,
        2 | 4 | 6 => x / 2,
        3 => x.wrapping_mul(3),
        5 => x - 1,
        _ => 77,
    }
}

/// One number that depends on all of it.
#[unsafe(no_mangle)]
pub extern "C" fn sums(start: u64) -> u64 {
    let calls = CALLS.load(core::sync::atomic::Ordering::Relaxed) + 1;
    CALLS.store(calls, core::sync::atomic::Ordering::Relaxed);
    let mut words = [0u64; 9];
    let mut x = start + calls;
    for (index, word) in words.iter_mut().enumerate() {
        let shape = SHAPES[index % SHAPES.len()];
        x = STEPS[index % STEPS.len()](x).wrapping_add(shape.area());
        *word = x ^ shape.name().len() as u64;
    }
    words.sort_unstable();
    let high = (WIDE.wrapping_mul(u128::from(words[4])) >> 64) as u64;
    words.iter().fold(high, |sum, word| sum.rotate_left(3) ^ word)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
