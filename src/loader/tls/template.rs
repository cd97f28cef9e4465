//! What blocks are made from.

use crate::num::{Address, Align};

/// Bytes that a part of a block begins with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    /// In the block, in bytes.
    pub(super) offset: usize,
    /// Where they are, for as long as the program is alive.
    pub(super) address: Address,
    /// In bytes.
    pub(super) size: usize,
}

/// What a thread's block of a program is.
#[derive(Debug)]
pub(super) struct Template {
    /// In bytes.
    pub(super) size: usize,
    pub(super) align: Align,
    /// What is in none of them is zero.
    pub(super) pieces: Vec<Piece>,
}
