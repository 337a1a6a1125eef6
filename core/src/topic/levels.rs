//! A tree of topic levels; what the filter tree and the retained store have in common.
//!
//! All edges to literal levels are in one hash table keyed by (parent, level text), all nodes in
//! one slab: a node with a million children costs no more per child than a node with one, and
//! nothing is recursive. What a walk over a large tree pays for is cache misses: so a node is one
//! line, and the edges from a node to `+` and to an only child need no look into the table.
//!
//! Invariants:
//! - `nodes[ROOT]` always exists; every other live node is the `plus` of its parent or has an edge.
//! - `literals` of a node is the number of its children but for `plus`.
//! - `latest` of a node is a literal child of it, or `NONE`.
//! - a free node keeps no text and no value; `parent` links the free nodes of its chunk.

use std::ops::{Index, IndexMut};

use super::hash::HashKey;
use super::table::{Hashed, Table, widen};

/// Position of a node in the slab.
pub(super) type NodeIndex = u32;

/// The node above the first level.
pub(super) const ROOT: NodeIndex = 0;

/// Stands for "no node".
pub(super) const NONE: NodeIndex = u32::MAX;

/// The tree. `T` is what a user of it keeps per node.
pub(super) struct LevelTree<T> {
    nodes: Slab<T>,
    live_count: usize,
    edges: Table<Edge>,
    key: HashKey,
}

/// One level of some topic or filter.
#[repr(align(64))]
struct Node<T> {
    parent: NodeIndex,
    plus: NodeIndex,
    latest: NodeIndex,
    literals: u32,
    level: Level,
    value: T,
}

struct Edge {
    hash: u32,
    child: NodeIndex,
}

impl<T: Default> LevelTree<T> {
    pub(super) fn new(seed: u64) -> LevelTree<T> {
        LevelTree {
            nodes: Slab::of(Node::root()),
            live_count: 0,
            edges: Table::new(),
            key: HashKey::new(seed),
        }
    }

    /// Nodes below the root.
    pub(super) fn len(&self) -> usize {
        self.live_count
    }

    /// Bytes that one node costs, edge included (a table is at least 7/16 full).
    pub(super) const fn node_size() -> usize {
        size_of::<Node<T>>() + 2 * (size_of::<Edge>() + 1)
    }

    pub(super) fn parent(&self, node: NodeIndex) -> NodeIndex {
        self.nodes[node].parent
    }

    /// Neither a literal child nor `+`.
    pub(super) fn is_leaf(&self, node: NodeIndex) -> bool {
        let node = &self.nodes[node];
        node.literals == 0 && node.plus == NONE
    }

    /// The child for the level `+`, or `NONE`.
    pub(super) fn plus(&self, node: NodeIndex) -> NodeIndex {
        self.nodes[node].plus
    }

    /// Children of a node but for `+`.
    pub(super) fn literals(&self, node: NodeIndex) -> u32 {
        self.nodes[node].literals
    }

    pub(super) fn level(&self, node: NodeIndex) -> &[u8] {
        self.nodes[node].level.as_bytes()
    }

    pub(super) fn value(&self, node: NodeIndex) -> &T {
        &self.nodes[node].value
    }

    pub(super) fn value_mut(&mut self, node: NodeIndex) -> &mut T {
        &mut self.nodes[node].value
    }

    /// The child of `parent` for a level.
    pub(super) fn child(&self, parent: NodeIndex, level: &[u8]) -> Option<NodeIndex> {
        if level == b"+" {
            return Some(self.plus(parent)).filter(|plus| *plus != NONE);
        }
        self.literal(parent, level)
    }

    /// The child of `parent` for a level of a topic, which is never `+`.
    pub(super) fn literal(&self, parent: NodeIndex, level: &[u8]) -> Option<NodeIndex> {
        let node = &self.nodes[parent];
        if node.literals == 0 {
            return None;
        }
        if node.literals == 1 && node.latest != NONE {
            return Some(node.latest).filter(|only| self.is_child(*only, parent, level));
        }
        let hash = self.edge_hash(parent, level);
        let is_it = |edge: &Edge| edge.hash == hash && self.is_child(edge.child, parent, level);
        self.edges.find(widen(hash), is_it).map(|edge| edge.child)
    }

    /// Adds a child that is not there yet.
    pub(super) fn add_child(&mut self, parent: NodeIndex, level: &[u8]) -> NodeIndex {
        let child = self.nodes.insert(Node {
            parent,
            level: Level::new(level),
            ..Node::root()
        });
        self.live_count += 1;
        if level == b"+" {
            self.nodes[parent].plus = child;
            return child;
        }
        let node = &mut self.nodes[parent];
        node.literals += 1;
        node.latest = child;
        let hash = self.edge_hash(parent, level);
        self.edges.insert_unique(Edge { hash, child });
        child
    }

    /// Removes a node without children and returns its parent.
    pub(super) fn remove_leaf(&mut self, node: NodeIndex) -> NodeIndex {
        assert!(node != ROOT, "the root stays");
        assert!(self.is_leaf(node), "a node with children stays");
        let leaf = self.nodes.remove(node);
        self.live_count -= 1;
        let parent = &mut self.nodes[leaf.parent];
        if parent.plus == node {
            parent.plus = NONE;
        } else {
            parent.literals -= 1;
            if parent.latest == node {
                parent.latest = NONE;
            }
            let hash = self.edge_hash(leaf.parent, leaf.level.as_bytes());
            let edge = self.edges.remove(widen(hash), |edge| edge.child == node);
            assert!(edge.is_some(), "every literal level has an edge");
        }
        self.shrink();
        leaf.parent
    }

    /// Gives the rest of the slab back when only the root is left; the table does so by itself.
    fn shrink(&mut self) {
        if self.live_count == 0 {
            // The root stays: it carries the value of the filter `#`.
            let root = std::mem::replace(&mut self.nodes[ROOT], Node::root());
            self.nodes = Slab::of(root);
        }
    }

    /// All nodes in use, the root included.
    pub(super) fn live_nodes(&self) -> impl Iterator<Item = NodeIndex> + use<'_, T> {
        self.nodes.live()
    }

    /// What stands at a position, if it was ever in use, and whether there are positions behind it. A node that is
    /// not in use has the default.
    pub(super) fn at(&self, index: NodeIndex) -> (Option<&T>, bool) {
        let is_more = (index as usize + 1) < self.nodes.places();
        (self.nodes.at(index).map(|node| &node.value), is_more)
    }

    /// Panics if an invariant does not hold; walks all nodes.
    pub(super) fn assert_invariants(&self) {
        self.edges.assert_invariants();
        self.nodes.assert_invariants();
        let mut literals = vec![0; self.nodes.places()];
        let (mut live_count, mut edge_count) = (0, 0);
        for node in self.live_nodes().filter(|&node| node != ROOT) {
            live_count += 1;
            let Node { parent, level, .. } = &self.nodes[node];
            if self.plus(*parent) == node {
                continue;
            }
            let found = self.literal(*parent, level.as_bytes());
            assert_eq!(found, Some(node), "a node has an edge from its parent");
            literals[*parent as usize] += 1;
            edge_count += 1;
        }
        assert_eq!(live_count, self.live_count, "nodes are counted");
        assert_eq!(edge_count, self.edges.len(), "an edge leads to a live node");
        for node in self.live_nodes() {
            let Node {
                plus,
                latest,
                literals: counted,
                ..
            } = self.nodes[node];
            assert_eq!(counted, literals[node as usize], "children are counted");
            for child in [plus, latest].into_iter().filter(|&child| child != NONE) {
                assert_eq!(self.parent(child), node, "a child knows its parent");
            }
            assert!(latest == NONE || latest != plus, "`latest` is a literal");
        }
    }

    /// Nodes and edges that there is memory for.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> (usize, usize) {
        (self.nodes.capacity(), self.edges.capacity())
    }

    fn is_child(&self, child: NodeIndex, parent: NodeIndex, level: &[u8]) -> bool {
        let node = &self.nodes[child];
        node.parent == parent && node.level.as_bytes() == level
    }

    fn edge_hash(&self, parent: NodeIndex, level: &[u8]) -> u32 {
        // Half of a keyed 64-bit hash is one of 32 bits.
        self.key.hash(parent, level) as u32
    }
}

impl<T: Default> Node<T> {
    fn root() -> Node<T> {
        Node {
            parent: NONE,
            plus: NONE,
            latest: NONE,
            literals: 0,
            level: Level::new(b""),
            value: T::default(),
        }
    }
}

impl Hashed for Edge {
    fn hash(&self) -> u64 {
        widen(self.hash)
    }
}

/// Nodes in chunks. To grow, a `Vec` of a million aligned nodes would copy all of them; and a chunk
/// whose nodes are all free gives its memory back, wherever it stands.
///
/// Invariant: `open` names each chunk with fewer than `CHUNK` live nodes once, and no other.
struct Slab<T> {
    chunks: Vec<Chunk<T>>,
    open: Vec<u32>,
}

struct Chunk<T> {
    nodes: Vec<Node<T>>,
    /// The free nodes among `nodes`, linked by `parent`.
    free_head: NodeIndex,
    live_count: usize,
}

impl<T> Chunk<T> {
    const EMPTY: Chunk<T> = Chunk {
        nodes: Vec::new(),
        free_head: NONE,
        live_count: 0,
    };
}

impl<T: Default> Slab<T> {
    /// A slab of one node, which takes no memory for others.
    fn of(first: Node<T>) -> Slab<T> {
        Slab {
            chunks: vec![Chunk {
                nodes: vec![first],
                live_count: 1,
                ..Chunk::EMPTY
            }],
            open: vec![0],
        }
    }

    fn insert(&mut self, node: Node<T>) -> NodeIndex {
        let chunk_index = *self.open.last().unwrap_or(&(self.chunks.len() as u32));
        if chunk_index as usize == self.chunks.len() {
            self.chunks.push(Chunk::EMPTY);
            self.open.push(chunk_index);
        }
        let chunk = &mut self.chunks[chunk_index as usize];
        chunk.live_count += 1;
        if chunk.live_count == CHUNK {
            self.open.pop();
        }
        if chunk.free_head == NONE {
            let index = chunk_index as usize * CHUNK + chunk.nodes.len();
            chunk.nodes.push(node);
            return NodeIndex::try_from(index)
                .ok()
                .filter(|index| *index != NONE)
                .expect("fewer than 2^32 nodes");
        }
        let index = chunk.free_head;
        let place = &mut chunk.nodes[index as usize % CHUNK];
        chunk.free_head = std::mem::replace(place, node).parent;
        index
    }

    fn remove(&mut self, index: NodeIndex) -> Node<T> {
        let chunk = &mut self.chunks[index as usize / CHUNK];
        let free = Node {
            parent: chunk.free_head,
            ..Node::root()
        };
        let node = std::mem::replace(&mut chunk.nodes[index as usize % CHUNK], free);
        chunk.free_head = index;
        if chunk.live_count == CHUNK {
            self.open.push(index / CHUNK as NodeIndex);
        }
        chunk.live_count -= 1;
        if chunk.live_count == 0 {
            *chunk = Chunk::EMPTY;
        }
        node
    }

    /// Indices below this may be in use.
    fn places(&self) -> usize {
        self.chunks.len() * CHUNK
    }

    /// A node, in use or not, if there is memory for it.
    fn at(&self, index: NodeIndex) -> Option<&Node<T>> {
        let index = index as usize;
        self.chunks.get(index / CHUNK)?.nodes.get(index % CHUNK)
    }

    /// The nodes in use.
    fn live(&self) -> impl Iterator<Item = NodeIndex> + use<'_, T> {
        self.chunks.iter().enumerate().flat_map(|(index, chunk)| {
            let first = (index * CHUNK) as NodeIndex;
            let mut is_free = vec![false; chunk.nodes.len()];
            let mut free = chunk.free_head;
            while free != NONE {
                let place = free as usize % CHUNK;
                let was_free = std::mem::replace(&mut is_free[place], true);
                assert!(!was_free, "the free list of a chunk ends");
                free = chunk.nodes[place].parent;
            }
            (first..)
                .zip(is_free)
                .filter_map(|(node, is_free)| (!is_free).then_some(node))
        })
    }

    fn assert_invariants(&self) {
        let mut open = self.open.clone();
        open.sort_unstable();
        let has_room = |(_, chunk): &(usize, &Chunk<T>)| chunk.live_count < CHUNK;
        let expected = self.chunks.iter().enumerate().filter(has_room);
        let expected = expected.map(|(index, _)| index as u32);
        assert!(expected.eq(open), "chunks with room are listed once");
        let counted: usize = self.chunks.iter().map(|chunk| chunk.live_count).sum();
        assert_eq!(counted, self.live().count(), "live nodes are counted");
    }

    #[cfg(test)]
    fn capacity(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.nodes.capacity()).sum()
    }
}

impl<T> Index<NodeIndex> for Slab<T> {
    type Output = Node<T>;

    fn index(&self, index: NodeIndex) -> &Node<T> {
        let index = index as usize;
        &self.chunks[index / CHUNK].nodes[index % CHUNK]
    }
}

impl<T> IndexMut<NodeIndex> for Slab<T> {
    fn index_mut(&mut self, index: NodeIndex) -> &mut Node<T> {
        let index = index as usize;
        &mut self.chunks[index / CHUNK].nodes[index % CHUNK]
    }
}

/// Text of one level. Short ones stand in the node itself, because a pointer to follow is what a
/// walk over a large tree pays for.
enum Level {
    Short { size: u8, bytes: [u8; SHORT_MAX] },
    Long(Box<Box<[u8]>>),
}

impl Level {
    fn new(text: &[u8]) -> Level {
        if text.len() > SHORT_MAX {
            return Level::Long(Box::new(text.into()));
        }
        let mut bytes = [0; SHORT_MAX];
        bytes[..text.len()].copy_from_slice(text);
        Level::Short {
            size: text.len() as u8,
            bytes,
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Level::Short { size, bytes } => &bytes[..usize::from(*size)],
            Level::Long(text) => text,
        }
    }
}

/// Cuts the first level off: its text, and what follows the slash if there is one.
pub(super) fn split_level(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'/', text) {
        Some(slash) => (&text[..slash], Some(&text[slash + 1..])),
        None => (text, None),
    }
}

/// 14 bytes with a size and the discriminant are the size of the two words they replace.
const SHORT_MAX: usize = 14;

/// Nodes of a chunk: 64 KiB.
const CHUNK: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// What stays does not keep what goes: in the retained store `$SYS` stays for ever.
    #[test]
    fn a_chunk_without_nodes_gives_its_memory_back() {
        let mut tree = LevelTree::<()>::new(1);
        let kept = tree.add_child(ROOT, b"kept");
        let name = |n: u32| format!("{n}").into_bytes();
        for round in 0..3 {
            let nodes: Vec<NodeIndex> = (0..100_000)
                .map(|n| tree.add_child(kept, &name(n)))
                .collect();
            assert_eq!(tree.len(), 100_001);
            // In another order than they came.
            for (at, _) in nodes.iter().enumerate() {
                tree.remove_leaf(nodes[(at * 7919 + round) % nodes.len()]);
            }
            assert_eq!(tree.literal(ROOT, b"kept"), Some(kept));
            assert_eq!(tree.len(), 1);
            assert!(
                tree.nodes.capacity() <= 2 * CHUNK,
                "{}",
                tree.nodes.capacity()
            );
        }
    }
}
