//! The span allocator of a window by itself, and another's beside it: nobody touches the memory behind the offsets.
//!
//! `cargo bench --bench spans` prints two tables. The first: N spans of 8 to 1031 bytes are allocated, all of them freed in
//! shuffled order, and in another heap a random half of them freed and as many others allocated; nanoseconds for each, the
//! median of five rounds; the bytes kept for each live span, a dash where an allocator does not tell; how many spans of such a
//! refilled heap begin in another live one; what rounding up to granules wastes. The second: ten million random operations
//! around 70 % occupancy; nanoseconds for each; requests refused; of what 100 looks found, from the second million on, the
//! worst: how much of the free bytes is in one span, and how much more than what was asked for lies below the frontier.
//!
//! The other is `jit-allocator2`, a port of AsmJit's allocator: bits for units of 64 bytes, in blocks that it maps when it needs
//! more. It is as it comes but for work that is not the allocator's: no second mapping, no filling. In version 0.2.9 the spans of
//! a refilled heap overlap, as the table shows, so that its refill is no figure to compare with; and random operations make it
//! panic, so that it has no row in the second table.
//!
//! `cargo bench --bench spans -- plot N` prints those looks, for N spans: operations, the two percentages.

use std::env;
use std::hint::black_box;
use std::mem;
use std::time::Instant;

use jit_allocator2::{JitAllocator, JitAllocatorOptions};

// The allocator is private to the crate: these are its file and all that it needs.
mod error {
    pub(crate) use nearcode::Error;
}
#[cfg(test)] // Lints look at its tests as well.
#[path = "../src/choices.rs"]
mod choices;
#[allow(
    dead_code,
    unused_imports,
    reason = "the crate uses what is not measured"
)]
#[path = "../src/num.rs"]
mod num;
#[allow(
    dead_code,
    unused_imports,
    reason = "the crate uses what is not measured"
)]
#[path = "../src/window/spans/mod.rs"]
mod spans;

/// What is compared.
trait Allocator {
    /// Names a span to give it back.
    type Grant;
    /// The column's title.
    const NAME: &'static str;
    /// For at most `spans` spans in `size` bytes.
    fn new(size: usize, spans: usize) -> Self;
    /// Aligned to 16 bytes.
    fn allocate(&mut self, size: usize) -> Option<Self::Grant>;
    /// Where it begins.
    fn address(&self, grant: &Self::Grant) -> usize;
    /// Takes it back.
    fn free(&mut self, grant: Self::Grant);
    /// Bytes of the heap, if it tells.
    fn bookkeeping(&self) -> Option<usize>;
}

/// This crate's.
struct Spans(spans::Spans);

impl Allocator for Spans {
    type Grant = spans::Grant;
    const NAME: &'static str = "nearcode";

    fn new(size: usize, _: usize) -> Self {
        Self(spans::Spans::new(size))
    }

    fn allocate(&mut self, size: usize) -> Option<Self::Grant> {
        let (grant, _) = self.0.allocate(size, num::Align::ONE)?;
        Some(grant)
    }

    fn address(&self, grant: &Self::Grant) -> usize {
        self.0.span(grant).start()
    }

    fn free(&mut self, grant: Self::Grant) {
        black_box(self.0.free(grant));
    }

    fn bookkeeping(&self) -> Option<usize> {
        Some(self.0.bookkeeping())
    }
}

/// A port of AsmJit's. It has no `Drop`, and `reset` skips every other block: what it maps stays mapped. Nothing was ever written there.
struct JitAllocator2(Box<JitAllocator>);

impl Allocator for JitAllocator2 {
    type Grant = *const u8;
    const NAME: &'static str = "jit-allocator2";

    fn new(_: usize, _: usize) -> Self {
        Self(JitAllocator::new(JitAllocatorOptions {
            use_dual_mapping: false,
            fill_unused_memory: false,
            ..JitAllocatorOptions::default()
        }))
    }

    fn allocate(&mut self, size: usize) -> Option<Self::Grant> {
        let (run, _) = self.0.alloc(size).ok()?;
        Some(run)
    }

    fn address(&self, grant: &Self::Grant) -> usize {
        grant.addr()
    }

    fn free(&mut self, grant: Self::Grant) {
        // SAFETY: a grant comes from `allocate`, and is given up here.
        let freed = unsafe { self.0.release(grant) };
        freed.expect("it was allocated");
    }

    fn bookkeeping(&self) -> Option<usize> {
        None
    }
}

const ROUNDS: usize = 5;
const OPERATIONS: usize = 10_000_000;
const MEAN: usize = (8 + 1031) / 2;

/// Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((u128::from(self.0) * bound as u128) >> 64) as usize
    }

    fn size(&mut self) -> usize {
        8 + self.below(1024)
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

fn filled<A: Allocator>(heap: &mut A, sizes: &[usize], grants: &mut Vec<A::Grant>) -> f64 {
    let start = Instant::now();
    for &size in sizes {
        grants.push(heap.allocate(black_box(size)).expect("there is room"));
    }
    start.elapsed().as_nanos() as f64 / sizes.len() as f64
}

fn emptied<A: Allocator>(heap: &mut A, grants: Vec<A::Grant>) -> f64 {
    let (count, start) = (grants.len() as f64, Instant::now());
    for grant in grants {
        heap.free(grant);
    }
    start.elapsed().as_nanos() as f64 / count
}

/// Of `count` live spans after a random half of them was freed and as many others allocated, those that begin in another.
fn overlapping<A: Allocator>(count: usize) -> usize {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut heap = A::new(2 * count * MEAN, count);
    let mut live = Vec::with_capacity(count);
    for half in 0..2 {
        while live.len() < count {
            let size = random.size();
            live.push((heap.allocate(size).expect("there is room"), size));
        }
        if half == 0 {
            random.shuffle(&mut live);
            let freed = live.split_off(count / 2);
            freed.into_iter().for_each(|(grant, _)| heap.free(grant));
        }
    }
    let span = |(grant, size): &(A::Grant, usize)| {
        let start = heap.address(grant);
        (start, start + size)
    };
    let mut spans: Vec<(usize, usize)> = live.iter().map(span).collect();
    spans.sort_unstable();
    let mut taken = 0;
    let begins_in_another = |&&(start, end): &&(usize, usize)| {
        let is_taken = start < taken;
        taken = taken.max(end);
        is_taken
    };
    spans.iter().filter(begins_in_another).count()
}

/// One row of the first table.
fn speed<A: Allocator>(count: usize) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut rounds = [(); 3].map(|()| Vec::new());
    let mut kept = None;
    for _ in 0..ROUNDS {
        let sizes: Vec<usize> = (0..count).map(|_| random.size()).collect();
        let mut grants = Vec::with_capacity(count);

        let mut heap = A::new(2 * count * MEAN, count);
        rounds[0].push(filled(&mut heap, &sizes, &mut grants));
        kept = heap.bookkeeping();
        random.shuffle(&mut grants);
        rounds[1].push(emptied(&mut heap, mem::take(&mut grants)));

        let mut heap = A::new(2 * count * MEAN, count);
        filled(&mut heap, &sizes, &mut grants);
        random.shuffle(&mut grants);
        emptied(&mut heap, grants.split_off(count / 2));
        let sizes: Vec<usize> = (0..count / 2).map(|_| random.size()).collect();
        grants.reserve(sizes.len());
        rounds[2].push(filled(&mut heap, &sizes, &mut grants));
    }
    let [allocate, free, refill] = rounds.map(median);
    let kept = match kept {
        Some(bytes) => format!("{:.1}", bytes as f64 / count as f64),
        None => "-".into(),
    };
    let name = A::NAME;
    let overlapping = overlapping::<A>(count);
    println!(
        "{name:<16} {count:>8} {allocate:>9.1} {free:>7.1} {refill:>7.1} {kept:>10} {overlapping:>11}"
    );
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Random operations on a heap of which `count` spans are 70 %. `look` is called after every hundredth of them, with the
/// number of operations and the bytes asked for. Nanoseconds for each, and requests refused.
fn wear(count: usize, mut look: impl FnMut(&Spans, usize, usize)) -> (f64, usize) {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let size = count * MEAN * 10 / 7;
    let mut heap = Spans::new(size, 2 * count);
    let mut grants = Vec::new();
    let (mut asked, mut refused) = (0, 0);
    let start = Instant::now();
    for operation in 1..=OPERATIONS {
        let occupied = asked as f64 / size as f64;
        if occupied < 0.69 || (occupied < 0.71 && random.below(2) == 0) {
            let size = random.size();
            match heap.allocate(size) {
                Some(grant) => {
                    grants.push((grant, size));
                    asked += size;
                }
                None => refused += 1,
            }
        } else {
            let (grant, size) = grants.swap_remove(random.below(grants.len()));
            heap.free(grant);
            asked -= size;
        }
        if operation % (OPERATIONS / 100) == 0 {
            look(&heap, operation, asked);
        }
    }
    let each = start.elapsed().as_nanos() as f64 / OPERATIONS as f64;
    (each, refused)
}

/// Of the free bytes, those in one span; beside the bytes asked for, those below the frontier; in percent.
fn fragments(Spans(spans): &Spans, asked: usize) -> [f64; 2] {
    let whole = spans.largest_free() as f64 / spans.free_bytes() as f64;
    [whole, spans.frontier() as f64 / asked as f64 - 1.0].map(|part| 100.0 * part)
}

/// One row of the second table.
fn worn(count: usize) {
    let (mut least, mut most) = (100.0_f64, 0.0_f64);
    let (each, refused) = wear(count, |heap, operations, asked| {
        let [whole, waste] = fragments(heap, asked);
        if operations > 2_000_000 {
            (least, most) = (least.min(whole), most.max(waste));
        }
    });
    let name = Spans::NAME;
    println!("{name:<16} {count:>8} {each:>9.1} {refused:>8} {least:>7.1}% {most:>7.2}%");
}

/// What rounding wastes, in percent of what was asked for.
fn internal_waste() -> f64 {
    let mut heap = Spans::new(1 << 30, 0);
    let mut random = Random(1);
    let sizes = [(); 100_000].map(|()| random.size());
    let grants = sizes.map(|size| heap.allocate(size).expect("there is room"));
    let granted: usize = grants.iter().map(|grant| heap.0.span(grant).size()).sum();
    100.0 * (granted as f64 / sizes.iter().sum::<usize>() as f64 - 1.0)
}

/// Both tables.
fn tables() {
    println!("allocator           spans  allocate    free  refill  kept/span overlapping");
    for count in [100_000, 1_000_000] {
        speed::<Spans>(count);
        speed::<JitAllocator2>(count);
    }
    println!("internal waste {:.2} %", internal_waste());
    println!();
    println!("allocator           spans operation  refused  largest    waste");
    for count in [10_000, 100_000, 1_000_000] {
        worn(count);
    }
}

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let plot = arguments.iter().position(|argument| argument == "plot");
    let Some(plot) = plot else {
        return tables();
    };
    let count = arguments.get(plot + 1).and_then(|count| count.parse().ok());
    wear(
        count.expect("plot needs a number of spans"),
        |heap, operations, asked| {
            let [whole, waste] = fragments(heap, asked);
            println!("{operations}\t{whole:.2}\t{waste:.2}");
        },
    );
}
