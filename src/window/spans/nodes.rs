//! What is known of each span, in 16 bytes: the links between neighbours, and within a bin.

use std::mem;
use std::ops::{Index, IndexMut};

/// The node that closes the ring of neighbours: an empty span in use, below the first and above the last. As a link: none.
pub(super) const ROOT: u32 = 0;

/// Tags of [`Node::lead`], above what a granule, a node or a bin can be.
pub(super) const FREE: u32 = 1 << 31;
pub(super) const FIRST: u32 = 1 << 30;
pub(super) const TAGS: u32 = FREE | FIRST;

/// A span, in use or free.
///
/// A free one needs five links and numbers, but never stands beside another: where it begins and ends, its neighbours know.
#[derive(Clone, Copy, Default)]
pub(super) struct Node {
    /// The neighbours, by offset.
    pub(super) below: u32,
    pub(super) above: u32,
    /// In use: where it begins. Free: `FREE`, and what is before it in its bin, or `FIRST` and the bin.
    pub(super) lead: u32,
    /// In use: where it ends. Free: what is behind it in its bin.
    pub(super) trail: u32,
}

impl Node {
    pub(super) fn is_free(self) -> bool {
        self.lead & FREE != 0
    }

    /// No span at all. It looks like a free one, so that nobody takes it for one in use.
    fn unused(next: u32) -> Self {
        Self {
            above: next,
            lead: FREE,
            ..Self::default()
        }
    }

    pub(super) fn start(self) -> u32 {
        debug_assert!(!self.is_free(), "a free span does not know its bounds");
        self.lead
    }

    pub(super) fn end(self) -> u32 {
        debug_assert!(!self.is_free(), "a free span does not know its bounds");
        self.trail
    }
}

/// The nodes, in chunks: growing never copies what is there, and a chunk without nodes goes back to the heap.
pub(super) struct Nodes {
    /// Node n is in chunk n / CHUNK. Each is as long as its nodes were ever many, with room for CHUNK of them, so that memory is
    /// touched as it is needed. Absent chunks come back before new ones.
    chunks: Vec<Option<Vec<Node>>>,
    /// Apart from the chunks, so that the table that every access reads stays small.
    census: Vec<Census>,
    /// Invariant: bit c is set if chunk c is there and has an unused node.
    room: Vec<u64>,
    /// Invariant: no lower word of `room` has a bit set.
    lowest: usize,
    absent: Vec<u32>,
    /// A chunk without nodes that is kept, so that one node does not fetch and drop a chunk again and again.
    spare: Option<u32>,
}

/// Nodes of a chunk: 128 KiB, which a heap asks the system for in one piece. Many small pieces would make it grow step by step,
/// and each step keeps the other threads of the process from fetching pages.
const CHUNK: usize = 8192;

/// Who lives in a chunk.
#[derive(Clone, Copy, Default)]
struct Census {
    live: u16,
    /// One more than the first unused slot below the chunk's length, or 0; the others follow by [`Node::above`].
    unused: u16,
}

impl Nodes {
    pub(super) fn new() -> Self {
        let mut nodes = Self {
            chunks: Vec::new(),
            census: Vec::new(),
            room: Vec::new(),
            lowest: 0,
            absent: Vec::new(),
            spare: None,
        };
        assert!(nodes.add() == ROOT, "the first node is the root");
        nodes
    }

    /// A node, from the lowest chunk that has one: what is used together then lies together.
    pub(super) fn add(&mut self) -> u32 {
        while self.room.get(self.lowest) == Some(&0) {
            self.lowest += 1;
        }
        let chunk = match self.room.get(self.lowest) {
            Some(word) => self.lowest * 64 + word.trailing_zeros() as usize,
            None => self.grow(),
        };
        let census = &mut self.census[chunk];
        census.live += 1;
        if usize::from(census.live) == CHUNK {
            self.room[chunk / 64] &= !(1 << (chunk % 64));
        }
        if census.live == 1 {
            self.spare = None;
        }
        let nodes = self.chunks[chunk].as_mut();
        let nodes = nodes.expect("a chunk with room is there");
        let slot = match usize::from(census.unused).checked_sub(1) {
            Some(slot) => {
                census.unused = mem::take(&mut nodes[slot]).above as u16;
                slot
            }
            None => {
                nodes.push(Node::default());
                nodes.len() - 1
            }
        };
        (chunk * CHUNK + slot) as u32
    }

    pub(super) fn remove(&mut self, own: u32) {
        let chunk = own as usize / CHUNK;
        let census = &mut self.census[chunk];
        let unused = mem::replace(&mut census.unused, (own as usize % CHUNK) as u16 + 1);
        census.live -= 1;
        let is_empty = census.live == 0;
        self.room[chunk / 64] |= 1 << (chunk % 64);
        self.lowest = self.lowest.min(chunk / 64);
        self[own] = Node::unused(u32::from(unused));
        if is_empty {
            if self.spare.is_none() {
                self.spare = Some(chunk as u32);
            } else {
                self.chunks[chunk] = None;
                self.room[chunk / 64] &= !(1 << (chunk % 64));
                self.absent.push(chunk as u32);
            }
        }
    }

    /// Adds a chunk of unused nodes.
    fn grow(&mut self) -> usize {
        let chunk = self.absent.pop().map_or(self.chunks.len(), |c| c as usize);
        if chunk == self.chunks.len() {
            self.chunks.push(None);
            self.census.push(Census::default());
            self.room.resize(chunk / 64 + 1, 0);
        }
        self.chunks[chunk] = Some(Vec::with_capacity(CHUNK));
        self.census[chunk] = Census::default();
        self.room[chunk / 64] |= 1 << (chunk % 64);
        self.lowest = chunk / 64;
        chunk
    }

    /// Bytes that were touched.
    pub(super) fn bookkeeping(&self) -> usize {
        let nodes: usize = self.chunks.iter().flatten().map(Vec::len).sum();
        nodes * size_of::<Node>()
            + self.chunks.capacity() * size_of::<Option<Vec<Node>>>()
            + self.census.capacity() * size_of::<Census>()
            + self.room.capacity() * size_of::<u64>()
            + self.absent.capacity() * size_of::<u32>()
    }

    /// How many nodes are in use.
    #[cfg(test)]
    pub(super) fn live(&self) -> usize {
        self.census.iter().map(|c| usize::from(c.live)).sum()
    }
}

impl Index<u32> for Nodes {
    type Output = Node;

    fn index(&self, own: u32) -> &Node {
        let chunk = self.chunks[own as usize / CHUNK].as_ref();
        &chunk.expect("no link leads to a chunk that was dropped")[own as usize % CHUNK]
    }
}

impl IndexMut<u32> for Nodes {
    fn index_mut(&mut self, own: u32) -> &mut Node {
        let chunk = self.chunks[own as usize / CHUNK].as_mut();
        &mut chunk.expect("no link leads to a chunk that was dropped")[own as usize % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(nodes: &Nodes) -> usize {
        nodes.chunks.iter().flatten().count()
    }

    #[test]
    fn nodes_come_in_order_and_the_lowest_unused_chunk_first() {
        let mut nodes = Nodes::new();
        let count = 200 * CHUNK as u32;
        for own in 1..count {
            assert_eq!(nodes.add(), own);
        }
        for own in [100_000, 5000, 70_000] {
            nodes.remove(own);
        }
        assert_eq!(nodes.add(), 5000);
        assert_eq!(nodes.add(), 70_000);
        assert_eq!(nodes.add(), 100_000);
        assert_eq!(nodes.add(), count);
    }

    #[test]
    fn chunks_without_nodes_go_back_but_for_one() {
        let mut nodes = Nodes::new();
        let count = 10 * CHUNK as u32;
        (1..count).for_each(|own| assert_eq!(nodes.add(), own));
        assert_eq!(kept(&nodes), 10);
        (1..count).for_each(|own| nodes.remove(own));
        assert_eq!((kept(&nodes), nodes.live()), (2, 1));
        let mut again: Vec<u32> = (1..count).map(|_| nodes.add()).collect();
        again.sort();
        assert!((1..count).eq(again), "a node twice, or one beyond");
        assert_eq!(kept(&nodes), 10);
    }

    #[test]
    fn one_node_more_and_less_does_not_fetch_and_drop_a_chunk() {
        let mut nodes = Nodes::new();
        (1..CHUNK as u32).for_each(|own| assert_eq!(nodes.add(), own));
        for _ in 0..3 {
            let own = nodes.add();
            assert_eq!(own as usize, CHUNK);
            nodes.remove(own);
            assert_eq!(kept(&nodes), 2);
        }
    }
}
