//! What a thread that only runs published code loses while another one publishes beside it.
//!
//! `cargo bench --bench sibling [-- COUNT [ROUNDS]]` prints a line for each neighbour: `neighbour ns/object calls/s loss`. The
//! sibling calls 64 functions of a window, one after the other and all over again; the neighbour has COUNT objects to do
//! (100,000). Every measurement follows one of the sibling alone, and the loss is against that one. All figures are medians of
//! ROUNDS rounds (9) through all neighbours, each with a window of its own, after one that warms up.
//!
//! | neighbour | what it does |
//! |---|---|
//! | `alone` | sleeps: the sibling has the machine to itself |
//! | `window` | publishes in the sibling's window, all objects alive at the end |
//! | `window-again` | the same once more, where those were dropped |
//! | `dedicated` | publishes blocks, at most 20,000 alive, since each takes three kernel mappings |
//! | `copy-warm` | copies the bytes of the same objects, each to a place of its own, into a buffer that was written before |
//! | `copy-fresh` | the same into a new buffer of the heap, whose pages the system fetches on the way |
//! | `copy-warm-paced`, `copy-fresh-paced` | the same, one object whenever `window` has published one, spinning in between |
//! | `spin` | only spins: what is lost to two busy cores |
//!
//! Dropping what was published is not measured, nor is freeing buffers. It takes two cores and nothing else on them.

mod objects;
mod process;

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nearcode::{Image, SectionMemoryManager, Window, Writing};

use self::objects::{Function, Object, window};
use self::process::{arguments, or_end};

const FUNCTIONS: usize = 64;

/// Objects in blocks that are alive at once.
const BLOCKS: usize = 20_000;

/// A measurement goes on for at least this long, whatever the count.
const LEAST: Duration = Duration::from_millis(50);

/// What the sibling and its neighbour share.
struct Shared {
    calls: AtomicU64,
    ends: AtomicBool,
}

impl Shared {
    /// The sibling.
    fn call(&self, functions: &[Function]) {
        let mut calls = 0;
        while !self.ends.load(Ordering::Relaxed) {
            for function in functions {
                // SAFETY: whoever started this thread keeps the images until it ends.
                unsafe { function() };
            }
            calls += functions.len() as u64;
            self.calls.store(calls, Ordering::Relaxed);
        }
    }
}

/// The neighbour's figures for one measurement.
#[derive(Clone, Copy, Default)]
struct Figures {
    objects: usize,
    time: Duration,
    calls: u64,
}

impl Figures {
    fn nanoseconds(&self) -> f64 {
        self.time.as_nanos() as f64 / self.objects as f64
    }

    fn rate(&self) -> f64 {
        self.calls as f64 / self.time.as_secs_f64()
    }

    /// Adds a batch of objects. What comes of it is dropped afterwards.
    fn add<T>(&mut self, shared: &Shared, objects: usize, work: impl FnOnce() -> T) {
        let calls = shared.calls.load(Ordering::Relaxed);
        let start = Instant::now();
        let made = black_box(work());
        self.time += start.elapsed();
        self.calls += shared.calls.load(Ordering::Relaxed) - calls;
        self.objects += objects;
        drop(made);
    }
}

#[derive(Clone, Copy)]
enum Buffer {
    Warm,
    Fresh,
}

#[derive(Clone, Copy)]
enum Pace {
    FlatOut,
    LikeWindow,
}

#[derive(Clone, Copy)]
enum Neighbour {
    Window,
    WindowAgain,
    Dedicated,
    Copy(Buffer, Pace),
    Spin,
}

/// In order: the window is new for the first, and the paced ones follow it.
const NEIGHBOURS: [(&str, Neighbour); 8] = [
    ("window", Neighbour::Window),
    ("window-again", Neighbour::WindowAgain),
    ("dedicated", Neighbour::Dedicated),
    ("copy-warm", Neighbour::Copy(Buffer::Warm, Pace::FlatOut)),
    ("copy-fresh", Neighbour::Copy(Buffer::Fresh, Pace::FlatOut)),
    (
        "copy-warm-paced",
        Neighbour::Copy(Buffer::Warm, Pace::LikeWindow),
    ),
    (
        "copy-fresh-paced",
        Neighbour::Copy(Buffer::Fresh, Pace::LikeWindow),
    ),
    ("spin", Neighbour::Spin),
];

/// The neighbour's side.
struct Bench<'a> {
    shared: &'a Shared,
    object: &'a Object,
    window: &'a Window,
    count: usize,
    /// The bytes of one object.
    bytes: &'a [u8],
    /// Room for all of them, written to before.
    warm: &'a mut [u8],
    /// What the window needed for an object.
    pace: Duration,
}

impl Bench<'_> {
    fn alone(&self) -> Figures {
        let mut figures = Figures::default();
        figures.add(self.shared, self.count, || thread::sleep(LEAST));
        figures
    }

    fn beside(&mut self, neighbour: Neighbour) -> Figures {
        let mut figures = Figures::default();
        while figures.objects < self.count || figures.time < LEAST {
            self.batch(neighbour, &mut figures);
        }
        if let Neighbour::Window = neighbour {
            self.pace = Duration::from_nanos(figures.nanoseconds() as u64);
        }
        figures
    }

    fn batch(&mut self, neighbour: Neighbour, figures: &mut Figures) {
        let (shared, count, bytes) = (self.shared, self.count, self.bytes);
        match neighbour {
            Neighbour::Window | Neighbour::WindowAgain => {
                let manager = SectionMemoryManager::in_window(self.window);
                figures.add(shared, count, || publish(self.object, manager, count));
            }
            Neighbour::Dedicated => {
                let (manager, count) = (SectionMemoryManager::new(), count.min(BLOCKS));
                figures.add(shared, count, || publish(self.object, manager, count));
            }
            Neighbour::Copy(buffer, pace) => {
                let pace = match pace {
                    Pace::FlatOut => Duration::ZERO,
                    Pace::LikeWindow => self.pace,
                };
                match buffer {
                    Buffer::Warm => {
                        figures.add(shared, count, || copy(bytes, self.warm, pace));
                    }
                    Buffer::Fresh => figures.add(shared, count, || {
                        // The system zeroes each page when it is first written to.
                        let mut fresh = vec![0; bytes.len() * count];
                        copy(bytes, &mut fresh, pace);
                        fresh
                    }),
                }
            }
            Neighbour::Spin => figures.add(shared, count, || spin(Instant::now() + LEAST)),
        }
    }
}

fn publish(object: &Object, mut manager: SectionMemoryManager, count: usize) -> Vec<Image> {
    let publish = |number| or_end(object.publish(&mut manager), number);
    (0..count).map(publish).collect()
}

/// Fills `places` with copies of `bytes`, one in each `pace`.
fn copy(bytes: &[u8], places: &mut [u8], pace: Duration) {
    let mut due = Instant::now();
    for place in places.chunks_exact_mut(bytes.len()) {
        black_box(place).copy_from_slice(black_box(bytes));
        if !pace.is_zero() {
            due += pace;
            spin(due);
        }
    }
}

fn spin(until: Instant) {
    while Instant::now() < until {}
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// The figures of one neighbour, one for each round.
#[derive(Default)]
struct Row {
    nanoseconds: Vec<f64>,
    rates: Vec<f64>,
    losses: Vec<f64>,
}

impl Row {
    fn add(&mut self, alone: Figures, beside: Figures) {
        self.nanoseconds.push(beside.nanoseconds());
        self.rates.push(beside.rate());
        let loss = 1.0 - beside.rate() / alone.rate();
        self.losses.push(100.0 * loss);
    }
}

fn main() {
    // cargo bench adds an argument of its own.
    let mut arguments = arguments().into_iter();
    let mut number = |default: usize| {
        let argument = arguments.next();
        argument.map_or(default, |argument| or_end(argument.parse(), 0))
    };
    let (count, rounds) = (number(100_000), number(9));

    let object = or_end(Object::new(1.0), 0);
    let bytes = vec![1; object.size()];
    let mut warm = bytes.repeat(count);
    let mut alone = Vec::new();
    let mut rows = NEIGHBOURS.map(|_| Row::default());
    for round in 0..=rounds {
        let window = window(Writing::TwoAddresses);
        let mut manager = SectionMemoryManager::in_window(&window);
        let function = |number| or_end(object.publish_function(&mut manager), number);
        let (images, functions): (Vec<Image>, Vec<Function>) = (0..FUNCTIONS).map(function).unzip();
        let shared = Shared {
            calls: AtomicU64::new(0),
            ends: AtomicBool::new(false),
        };
        let mut bench = Bench {
            shared: &shared,
            object: &object,
            window: &window,
            count,
            bytes: &bytes,
            warm: &mut warm,
            pace: Duration::ZERO,
        };
        thread::scope(|scope| {
            scope.spawn(|| shared.call(&functions));
            for ((_, neighbour), row) in NEIGHBOURS.into_iter().zip(&mut rows) {
                let (before, beside) = (bench.alone(), bench.beside(neighbour));
                if round > 0 {
                    alone.push(before.rate());
                    row.add(before, beside);
                }
            }
            shared.ends.store(true, Ordering::Relaxed);
        });
        drop(images); // Nobody calls their functions any more.
    }

    println!("alone - {:.0} 0.0%", median(alone));
    for ((name, neighbour), row) in NEIGHBOURS.into_iter().zip(rows) {
        let [nanoseconds, rate, loss] = [row.nanoseconds, row.rates, row.losses].map(median);
        let nanoseconds = match neighbour {
            Neighbour::Spin => "-".into(),
            _ => format!("{nanoseconds:.0}"),
        };
        println!("{name} {nanoseconds} {rate:.0} {loss:.1}%");
    }
}
