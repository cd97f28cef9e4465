//! Decisions read from bytes: whoever makes up bytes makes up a case. For the tests and for the fuzz targets only.
#![allow(dead_code)] // Each of them uses its own part.

/// The decisions that are left. Behind the end of the bytes all of them are zero.
#[derive(Clone, Debug)]
pub(crate) struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether everything was decided.
    pub(crate) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// A number of so many bytes, at most eight.
    pub(crate) fn number(&mut self, size: usize) -> u64 {
        let (own, rest) = self.0.split_at(size.min(self.0.len()));
        self.0 = rest;
        let mut number = [0; 8];
        number[..own.len()].copy_from_slice(own);
        u64::from_le_bytes(number)
    }

    /// A number below `limit`, which takes no more bytes than it needs.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        let bits = usize::BITS - limit.saturating_sub(1).leading_zeros();
        let number = self.number(bits.div_ceil(8) as usize);
        (number % limit as u64) as usize
    }

    /// One of some.
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// Checks cases that are read from made-up bytes: so many, of at most so many bytes each, the same ones in every run. Then each of
/// the fuzz target's seeds, among them whatever once failed.
#[cfg(test)]
pub(crate) fn made_up<T: std::fmt::Debug>(
    target: &str,
    cases: usize,
    longest: usize,
    read: impl Fn(&[u8]) -> T,
    check: impl Fn(&T),
) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64; // Marsaglia's xorshift64.
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 11
    };
    for _ in 0..cases {
        let size = random() as usize % (longest + 1);
        let bytes: Vec<u8> = (0..size).map(|_| random() as u8).collect();
        check(&Said(read(&bytes)).0);
    }
    let seeds = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    let Ok(seeds) = std::fs::read_dir(seeds.join(target)) else {
        return; // They are not part of the published package.
    };
    for seed in seeds {
        let path = seed.expect("a folder's entry").path();
        let bytes = std::fs::read(path).expect("a seed is a file");
        check(&Said(read(&bytes)).0);
    }
}

/// A case that is said if its check panics.
#[cfg(test)]
struct Said<T: std::fmt::Debug>(T);

#[cfg(test)]
impl<T: std::fmt::Debug> Drop for Said<T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{:#?}", self.0);
        }
    }
}
