//! What is known of each span, in 16 bytes: the links between neighbours, and within a bin.

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
    /// Node n is in chunk n / CHUNK.
    chunks: Vec<Chunk>,
    /// Invariant: bit c is set if chunk c has an unused node.
    with_room: Vec<u64>,
    /// Invariant: the lowest chunk with an unused node, or the next one to come.
    lowest: usize,
    /// A chunk without nodes that is kept, so that one node does not fetch and drop a chunk again and again.
    spare: Option<usize>,
    /// For the next chunk.
    coming: Option<Room>,
}

/// Nodes of a chunk: 128 KiB, which a heap asks the system for in one piece. Many small pieces would make it grow step by step,
/// and each step keeps the other threads of the process from fetching pages.
const CHUNK: usize = 8192;

#[derive(Default)]
struct Chunk {
    /// As long as they were ever many, with room for CHUNK of them, so that memory is touched as it is needed; without room
    /// while none of them is used.
    nodes: Vec<Node>,
    live: u32,
    /// Whether all of the memory was touched.
    is_fetched: bool,
    /// One more than the first unused node, or 0; the others follow by [`Node::above`]. Behind them `nodes` can still grow.
    unused: u32,
}

/// Memory for a chunk, fetched where nobody waits for it: whoever touches memory first waits for the system to find it.
pub(crate) struct Room(Vec<Node>);

impl Room {
    pub(crate) fn fetch() -> Self {
        let mut nodes = vec![Node::unused(0); CHUNK]; // Not zero, which would only be promised.
        nodes.clear();
        Self(nodes)
    }
}

impl Nodes {
    pub(super) fn new() -> Self {
        let mut nodes = Self {
            chunks: Vec::new(),
            with_room: Vec::new(),
            lowest: 0,
            spare: None,
            coming: None,
        };
        assert!(
            nodes.add(Node::default()) == ROOT,
            "the first node is the root"
        );
        nodes
    }

    /// A place for a node, in the lowest chunk that has one: what is used together then lies together.
    #[inline] // A node in registers: through memory it would be written in parts and read as a whole, which stalls.
    pub(super) fn add(&mut self, node: Node) -> u32 {
        let index = self.lowest;
        if index == self.chunks.len() {
            self.chunks.push(Chunk::default());
            self.with_room.resize(index / 64 + 1, 0);
            self.with_room[index / 64] |= 1 << (index % 64);
        }
        let chunk = &mut self.chunks[index];
        let slot = match chunk.unused.checked_sub(1) {
            Some(slot) => {
                let unused = &mut chunk.nodes[slot as usize];
                chunk.unused = unused.above;
                *unused = node;
                slot as usize
            }
            None => {
                if chunk.nodes.capacity() == 0 {
                    let room = self.coming.take();
                    chunk.is_fetched = room.is_some();
                    chunk.nodes = room.map_or_else(|| Vec::with_capacity(CHUNK), |room| room.0);
                }
                chunk.nodes.push(node);
                chunk.nodes.len() - 1
            }
        };
        chunk.live += 1;
        if chunk.live as usize == CHUNK {
            self.with_room[index / 64] &= !(1 << (index % 64));
            self.lowest = self.next_with_room(index / 64);
        }
        if self.spare == Some(index) {
            self.spare = None;
        }
        (index * CHUNK + slot) as u32
    }

    /// Whether the next chunk is near, and has no memory.
    pub(super) fn wants_room(&self) -> bool {
        let is_last = self.lowest + 1 == self.chunks.len();
        is_last && self.coming.is_none() && self.chunks[self.lowest].nodes.len() >= CHUNK / 2
    }

    pub(super) fn bring_room(&mut self, room: Room) {
        self.coming.get_or_insert(room); // Two may have found it wanting.
    }

    /// The lowest chunk with room that a word from this one on knows of.
    fn next_with_room(&self, word: usize) -> usize {
        let words = self.with_room.iter().enumerate().skip(word);
        let mut chunks = words
            .filter(|(_, bits)| **bits != 0)
            .map(|(word, bits)| word * 64 + bits.trailing_zeros() as usize);
        chunks.next().unwrap_or(self.chunks.len())
    }

    pub(super) fn remove(&mut self, own: u32) {
        let (index, slot) = (own as usize / CHUNK, own as usize % CHUNK);
        let chunk = &mut self.chunks[index];
        chunk.nodes[slot] = Node::unused(chunk.unused);
        chunk.unused = slot as u32 + 1;
        chunk.live -= 1;
        if chunk.live == 0 {
            if self.spare.is_none() {
                self.spare = Some(index);
            } else {
                *chunk = Chunk::default();
            }
        }
        self.with_room[index / 64] |= 1 << (index % 64);
        self.lowest = self.lowest.min(index);
    }

    /// Bytes that were touched, but for a bit for each chunk.
    pub(super) fn bookkeeping(&self) -> usize {
        let touched = |chunk: &Chunk| match chunk.is_fetched {
            true => chunk.nodes.capacity(),
            false => chunk.nodes.len(),
        };
        let coming = self.coming.as_ref().map_or(0, |room| room.0.capacity());
        let nodes = self.chunks.iter().map(touched).sum::<usize>() + coming;
        nodes * size_of::<Node>() + self.chunks.capacity() * size_of::<Chunk>()
    }

    /// How many nodes are in use.
    #[cfg(any(test, fuzzing))]
    pub(super) fn live(&self) -> usize {
        self.chunks.iter().map(|c| c.live as usize).sum()
    }
}

impl Index<u32> for Nodes {
    type Output = Node;

    fn index(&self, own: u32) -> &Node {
        &self.chunks[own as usize / CHUNK].nodes[own as usize % CHUNK]
    }
}

impl IndexMut<u32> for Nodes {
    fn index_mut(&mut self, own: u32) -> &mut Node {
        &mut self.chunks[own as usize / CHUNK].nodes[own as usize % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(nodes: &Nodes) -> usize {
        nodes
            .chunks
            .iter()
            .filter(|chunk| chunk.nodes.capacity() > 0)
            .count()
    }

    #[test]
    fn nodes_come_in_order_and_the_lowest_unused_chunk_first() {
        let mut nodes = Nodes::new();
        let count = 200 * CHUNK as u32 - 100;
        for own in 1..count {
            assert_eq!(nodes.add(Node::default()), own);
        }
        for own in [100_000, 5000, 1_300_000, 70_000, 900_000] {
            nodes.remove(own);
        }
        for own in [5000, 70_000, 100_000, 900_000, 1_300_000, count] {
            assert_eq!(nodes.add(Node::default()), own);
        }
    }

    #[test]
    fn nodes_are_all_that_takes_memory() {
        let mut nodes = Nodes::new();
        let count = 200 * CHUNK;
        (1..count).for_each(|own| assert_eq!(nodes.add(Node::default()), own as u32));
        let mut rooms = nodes.chunks.iter().map(|chunk| chunk.nodes.capacity());
        assert!(rooms.all(|room| room == CHUNK), "copied, or larger");
        let beside = nodes.bookkeeping() - count * size_of::<Node>();
        let chunks = 200 * size_of::<Chunk>();
        assert!((chunks..3 * chunks).contains(&beside), "{beside}");
    }

    #[test]
    fn the_next_chunk_takes_the_room_that_was_brought_when_it_was_wanted() {
        let mut nodes = Nodes::new();
        let mut brought = Vec::new();
        for own in 1..10 * CHUNK {
            assert_eq!(
                nodes.wants_room(),
                brought.len() <= own / CHUNK && own % CHUNK >= CHUNK / 2
            );
            if nodes.wants_room() && brought.len() < 5 {
                let room = Room::fetch();
                brought.push(room.0.as_ptr());
                let before = nodes.bookkeeping();
                nodes.bring_room(room);
                assert_eq!(nodes.bookkeeping() - before, CHUNK * size_of::<Node>());
            }
            assert_eq!(nodes.add(Node::default()), own as u32);
        }
        let chunks: Vec<_> = nodes.chunks[1..=5]
            .iter()
            .map(|chunk| chunk.nodes.as_ptr())
            .collect();
        assert_eq!(chunks, brought);
    }

    #[test]
    fn chunks_without_nodes_go_back_but_for_one() {
        let mut nodes = Nodes::new();
        let count = 10 * CHUNK as u32;
        (1..count).for_each(|own| assert_eq!(nodes.add(Node::default()), own));
        assert_eq!(kept(&nodes), 10);
        (1..count).for_each(|own| nodes.remove(own));
        assert_eq!((kept(&nodes), nodes.live()), (2, 1));
        let mut again: Vec<u32> = (1..count).map(|_| nodes.add(Node::default())).collect();
        again.sort();
        assert!((1..count).eq(again), "a node twice, or one beyond");
        assert_eq!(kept(&nodes), 10);
    }

    #[test]
    fn one_node_more_and_less_does_not_fetch_and_drop_a_chunk() {
        let mut nodes = Nodes::new();
        (1..CHUNK as u32).for_each(|own| assert_eq!(nodes.add(Node::default()), own));
        for _ in 0..3 {
            let own = nodes.add(Node::default());
            assert_eq!(own as usize, CHUNK);
            nodes.remove(own);
            assert_eq!(kept(&nodes), 2);
        }
    }
}
