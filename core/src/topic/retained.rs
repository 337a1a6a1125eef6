//! The retained messages of one shard, by topic.
//!
//! A tree of levels whose nodes also link their children in a list, so that `+` and `#` go through
//! children without knowing their names. All walks use these links: none needs a stack.
//!
//! What a filter matches is gone through page by page, by cursors that stay valid while topics come
//! and go between two pages: the node at which a cursor stands is pinned, so that it is not
//! removed.
//!
//! Invariants:
//! - a node without children has a message or is pinned.
//! - `expiries` holds (instant, node) exactly for the messages that expire.
//! - `bytes` is the sum over messages and nodes; with the last message all memory is given back.

use std::collections::BTreeSet;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::filter::TopicFilter;
use super::levels::{LevelTree, NONE, NodeIndex, ROOT};
use crate::limits::Limits;
use crate::message::Message;
use crate::time::Instant;

/// The retained messages of one shard.
pub struct RetainedStore {
    tree: LevelTree<Level>,
    expiries: BTreeSet<(Instant, NodeIndex)>,
    count: u32,
    bytes: u64,
    count_max: u32,
    bytes_max: u64,
    /// Messages stored so far.
    stored_count: u64,
    /// How many cursors stand at a node.
    pins: HashMap<NodeIndex, u32, FixedState>,
}

/// A place in the store between two pages of what a filter matches. Has to be given back to
/// [`page`](RetainedStore::page) or [`close`](RetainedStore::close).
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Cursor {
    /// The next node to look at, and the level of the filter that leads to it.
    at: NodeIndex,
    depth: usize,
    /// Messages stored after the cursor was opened are left out.
    upto: u64,
}

/// How much one page may take.
#[derive(Clone, Copy, Debug)]
pub struct PageSize {
    /// Messages.
    pub messages: usize,
    /// Bytes of messages, beyond which there is no other one.
    pub bytes: usize,
    /// Nodes to look at; at least one is.
    pub nodes: u32,
}

/// What a topic level has: perhaps a message, and its place among the children of its parent.
struct Level {
    message: Option<Arc<Message>>,
    /// `stored_count` of the store when it came.
    stored_at: u64,
    first_child: NodeIndex,
    next: NodeIndex,
    previous: NodeIndex,
}

/// What became of a retained PUBLISH.
#[derive(Clone, Debug)]
pub struct Replaced {
    /// The message that the topic had.
    pub previous: Option<Arc<Message>>,
}

/// The store is at a bound and the message was not stored; what the topic had stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetainedFull {
    /// As many messages as allowed.
    Count,
    /// As many bytes as allowed.
    Bytes,
}

impl Cursor {
    /// Nothing was looked at yet.
    pub fn is_at_start(&self) -> bool {
        self.at == ROOT
    }
}

impl RetainedStore {
    /// Messages that one call of [`purge_expired`](RetainedStore::purge_expired) takes out: a fifth
    /// of a millisecond.
    pub const PURGED_MAX: u32 = 1024;

    /// An empty store; `seed` keys its hashes and has to be a secret.
    pub fn new(limits: &Limits, seed: u64) -> RetainedStore {
        RetainedStore {
            tree: LevelTree::new(seed),
            expiries: BTreeSet::new(),
            count: 0,
            bytes: 0,
            count_max: limits.retained_messages_max,
            bytes_max: limits.retained_bytes_max,
            stored_count: 0,
            pins: HashMap::default(),
        }
    }

    /// Stores a retained message in place of the one its topic has [MQTT-3.3.1-5]. One without a
    /// payload deletes instead [MQTT-3.3.1-6] and is not kept [MQTT-3.3.1-7].
    pub fn store(&mut self, message: Arc<Message>) -> Result<Replaced, RetainedFull> {
        self.store_within(message, self.count_max, self.bytes_max)
    }

    /// The same for the broker's own messages, which are few: clients that fill the store do not
    /// keep `$SYS` from those who want to know why.
    pub fn store_own(&mut self, message: Arc<Message>) -> Replaced {
        self.store_within(message, u32::MAX, u64::MAX)
            .expect("there is no bound")
    }

    /// The same for what was stored before the broker was started again.
    pub fn restore(&mut self, message: Arc<Message>) {
        self.store_own(message);
    }

    fn store_within(
        &mut self,
        message: Arc<Message>,
        count_max: u32,
        bytes_max: u64,
    ) -> Result<Replaced, RetainedFull> {
        if message.parts().payload.is_empty() {
            let previous = self
                .find(message.topic())
                .and_then(|node| self.delete(node));
            return Ok(Replaced { previous });
        }
        let (deepest, missing) = self.descend(message.topic());
        let added = message.size() as u64 + missing.len() as u64 * NODE_SIZE;
        let previous_size = if missing.is_empty() {
            self.size_at(deepest)
        } else {
            None
        };
        if previous_size.is_none() && self.count >= count_max {
            return Err(RetainedFull::Count);
        }
        let bytes = self.bytes - previous_size.unwrap_or(0) + added;
        if bytes > bytes_max && added > previous_size.unwrap_or(0) {
            return Err(RetainedFull::Bytes);
        }
        let node = missing
            .iter()
            .fold(deepest, |parent, level| self.add_child(parent, level));
        Ok(Replaced {
            previous: self.put(node, message),
        })
    }

    /// A cursor before the first message that a filter matches. Costs nothing.
    pub fn open(&self) -> Cursor {
        Cursor {
            at: ROOT,
            depth: 0,
            upto: self.stored_count,
        }
    }

    /// Appends messages whose topics match the filter of a cursor and that have not expired, in an
    /// order that depends on the history of the store alone. Gives the place to go on from, unless
    /// that was all, and how many nodes were looked at.
    ///
    /// The whole costs as much as the part of the tree that the filter reaches: an exact filter is
    /// one path, `a/b/#` is what lies below `a/b`.
    pub fn page(
        &mut self,
        cursor: Cursor,
        filter: &TopicFilter,
        size: PageSize,
        now: Instant,
        out: &mut Vec<Arc<Message>>,
    ) -> (Option<Cursor>, u32) {
        self.page_of(cursor, &Pattern::of(filter), size, now, out)
    }

    fn page_of(
        &mut self,
        cursor: Cursor,
        pattern: &Pattern<'_>,
        size: PageSize,
        now: Instant,
        out: &mut Vec<Arc<Message>>,
    ) -> (Option<Cursor>, u32) {
        let messages_max = out.len().saturating_add(size.messages);
        let (mut nodes, mut bytes) = (0, 0);
        let mut place = Some((cursor.at, cursor.depth));
        while let Some((at, depth)) = place {
            let is_full = out.len() >= messages_max || bytes >= size.bytes;
            if nodes > 0 && (nodes >= size.nodes || is_full) {
                break;
            }
            nodes += 1;
            if pattern.is_met(depth) {
                bytes += self.collect(at, cursor.upto, now, out);
            }
            place = self.next_place(pattern, at, depth);
        }
        let rest = place.map(|(at, depth)| Cursor {
            at,
            depth,
            ..cursor
        });
        if let Some(rest) = &rest {
            *self.pins.entry(rest.at).or_default() += 1;
        }
        self.close(cursor);
        (rest, nodes)
    }

    /// Appends messages of all topics, those that no wildcard sees included.
    pub fn page_of_all(
        &mut self,
        cursor: Cursor,
        size: PageSize,
        now: Instant,
        out: &mut Vec<Arc<Message>>,
    ) -> Option<Cursor> {
        let all = Pattern {
            levels: Vec::new(),
            is_open: true,
            sees_hidden: true,
        };
        self.page_of(cursor, &all, size, now, out).0
    }

    /// Gives a cursor up.
    pub fn close(&mut self, cursor: Cursor) {
        if cursor.at == ROOT {
            return; // It has no place yet.
        }
        let pins = self.pins.get_mut(&cursor.at);
        let pins = pins.expect("the node of a cursor is pinned");
        *pins -= 1;
        if *pins == 0 {
            self.pins.remove(&cursor.at);
            self.remove_unused(cursor.at);
        }
    }

    /// Appends all messages that match a filter and have not expired.
    #[cfg(test)]
    fn matching(&mut self, filter: &TopicFilter, now: Instant, out: &mut Vec<Arc<Message>>) {
        let all = PageSize {
            messages: usize::MAX,
            bytes: usize::MAX,
            nodes: u32::MAX,
        };
        let (rest, _) = self.page(self.open(), filter, all, now, out);
        assert_eq!(rest, None);
    }

    /// Takes out what has expired at `now`, the oldest first, at most
    /// [`PURGED_MAX`](RetainedStore::PURGED_MAX); returns how many. `next_expiry` tells whether
    /// there is more.
    pub fn purge_expired(&mut self, now: Instant) -> u32 {
        let mut purged_count = 0;
        while purged_count < RetainedStore::PURGED_MAX {
            match self.expiries.first() {
                Some(&(expires_at, node)) if expires_at <= now => {
                    self.delete(node);
                    purged_count += 1;
                }
                Some(_) | None => break,
            }
        }
        purged_count
    }

    /// The message at a place, and whether there are places behind it. A message keeps its place while its topic has
    /// one.
    pub fn at(&self, place: u32) -> (Option<&Arc<Message>>, bool) {
        let (level, is_more) = self.tree.at(place);
        (level.and_then(|level| level.message.as_ref()), is_more)
    }

    /// The message of a topic.
    pub fn get(&self, topic: &[u8]) -> Option<&Arc<Message>> {
        self.tree.value(self.find(topic)?).message.as_ref()
    }

    /// Takes the message of a topic out.
    pub fn remove(&mut self, topic: &[u8]) -> Option<Arc<Message>> {
        let node = self.find(topic)?;
        self.delete(node)
    }

    /// When the next message expires.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.expiries.first().map(|(expires_at, _)| *expires_at)
    }

    /// Messages, those that have expired and are not yet purged included.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// There is no message.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the messages and of the tree that finds them.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Panics if an invariant does not hold, for a store on which so many cursors stand; walks all
    /// nodes.
    pub fn assert_invariants(&self, cursors_count: usize) {
        self.tree.assert_invariants();
        let (mut count, mut bytes, mut expiries) = (0, 0, 0);
        for node in self.tree.live_nodes() {
            let is_pinned = self.pins.contains_key(&node);
            let Level { message, .. } = self.tree.value(node);
            let is_needed = node == ROOT || !self.tree.is_leaf(node);
            assert!(
                is_needed || message.is_some() || is_pinned,
                "nobody needs it"
            );
            bytes += if node == ROOT { 0 } else { NODE_SIZE };
            if let Some(message) = message {
                count += 1;
                bytes += message.size() as u64;
                if let Some(expires_at) = message.expires_at {
                    expiries += 1;
                    let is_listed = self.expiries.contains(&(expires_at, node));
                    assert!(is_listed, "a message that expires is listed");
                }
            }
            self.assert_linked(node);
        }
        assert_eq!((count, bytes), (self.count, self.bytes), "both are counted");
        assert_eq!(expiries, self.expiries.len(), "only what expires is listed");
        let pins: u32 = self.pins.values().sum();
        assert_eq!(pins as usize, cursors_count, "a cursor pins one node");
    }

    /// The children of a node are linked, and know it.
    fn assert_linked(&self, parent: NodeIndex) {
        let (mut before, mut child) = (NONE, self.tree.value(parent).first_child);
        let mut count = 0;
        while child != NONE {
            let Level { next, previous, .. } = *self.tree.value(child);
            assert_eq!(previous, before, "siblings know each other");
            assert_eq!(self.tree.parent(child), parent, "a child knows its parent");
            (before, child) = (child, next);
            count += 1;
        }
        assert_eq!(count, self.tree.literals(parent), "all children are linked");
    }

    /// The node of a topic, if every level of it is there.
    fn find(&self, topic: &[u8]) -> Option<NodeIndex> {
        levels_of(topic).try_fold(ROOT, |at, level| self.tree.literal(at, level))
    }

    /// Goes down as far as there are nodes; returns the last one and the levels that are missing.
    fn descend<'t>(&self, topic: &'t [u8]) -> (NodeIndex, Vec<&'t [u8]>) {
        let mut at = ROOT;
        let mut levels = levels_of(topic);
        while let Some(level) = levels.next() {
            match self.tree.literal(at, level) {
                Some(child) => at = child,
                None => return (at, std::iter::once(level).chain(levels).collect()),
            }
        }
        (at, Vec::new())
    }

    fn size_at(&self, node: NodeIndex) -> Option<u64> {
        let message = self.tree.value(node).message.as_ref()?;
        Some(message.size() as u64)
    }

    fn put(&mut self, node: NodeIndex, message: Arc<Message>) -> Option<Arc<Message>> {
        self.bytes += message.size() as u64;
        self.count += 1;
        self.stored_count += 1;
        self.tree.value_mut(node).stored_at = self.stored_count;
        self.expiries
            .extend(message.expires_at.map(|expires_at| (expires_at, node)));
        let previous = self.tree.value_mut(node).message.replace(message)?;
        self.unaccount(node, &previous);
        // The same instant may just have been entered for this node.
        let current = self.tree.value(node).message.as_ref();
        self.expiries
            .extend(current.and_then(|message| Some((message.expires_at?, node))));
        Some(previous)
    }

    fn delete(&mut self, node: NodeIndex) -> Option<Arc<Message>> {
        let previous = self.tree.value_mut(node).message.take()?;
        self.unaccount(node, &previous);
        self.remove_unused(node);
        Some(previous)
    }

    /// Removes a node and those above it, as far as nothing needs them.
    fn remove_unused(&mut self, node: NodeIndex) {
        let mut at = node;
        while at != ROOT
            && self.tree.is_leaf(at)
            && self.tree.value(at).message.is_none()
            && !self.pins.contains_key(&at)
        {
            at = self.remove_leaf(at);
        }
    }

    fn unaccount(&mut self, node: NodeIndex, message: &Message) {
        self.bytes -= message.size() as u64;
        self.count -= 1;
        if let Some(expires_at) = message.expires_at {
            self.expiries.remove(&(expires_at, node));
        }
    }

    fn add_child(&mut self, parent: NodeIndex, level: &[u8]) -> NodeIndex {
        let child = self.tree.add_child(parent, level);
        let first = std::mem::replace(&mut self.tree.value_mut(parent).first_child, child);
        self.tree.value_mut(child).next = first;
        if first != NONE {
            self.tree.value_mut(first).previous = child;
        }
        self.bytes += NODE_SIZE;
        child
    }

    fn remove_leaf(&mut self, node: NodeIndex) -> NodeIndex {
        let Level { next, previous, .. } = *self.tree.value(node);
        let parent = self.tree.parent(node);
        match previous {
            NONE => self.tree.value_mut(parent).first_child = next,
            previous => self.tree.value_mut(previous).next = next,
        }
        if next != NONE {
            self.tree.value_mut(next).previous = previous;
        }
        self.bytes -= NODE_SIZE;
        self.tree.remove_leaf(node)
    }

    /// `child` or the first sibling after it that a wildcard may see: [MQTT-4.7.2-1] in the first
    /// level it does not see `$` topics.
    fn first_visible(
        &self,
        pattern: &Pattern<'_>,
        parent: NodeIndex,
        child: NodeIndex,
    ) -> NodeIndex {
        let mut child = child;
        while !pattern.sees_hidden
            && parent == ROOT
            && child != NONE
            && self.tree.level(child).starts_with(b"$")
        {
            child = self.tree.value(child).next;
        }
        child
    }

    /// The node after `at`, and the level of the filter that leads to it.
    fn next_place(
        &self,
        pattern: &Pattern<'_>,
        at: NodeIndex,
        depth: usize,
    ) -> Option<(NodeIndex, usize)> {
        let child = match pattern.level(depth) {
            PatternLevel::End => NONE,
            PatternLevel::Any => self.first_visible(pattern, at, self.tree.value(at).first_child),
            PatternLevel::Literal(level) => self.tree.literal(at, level).unwrap_or(NONE),
        };
        if child != NONE {
            return Some((child, depth + 1));
        }
        // After the subtree of `at`: a sibling, here or further up.
        let mut at = at;
        for depth in (1..=depth).rev() {
            let parent = self.tree.parent(at);
            if pattern.level(depth - 1) == PatternLevel::Any {
                let sibling = self.first_visible(pattern, parent, self.tree.value(at).next);
                if sibling != NONE {
                    return Some((sibling, depth));
                }
            }
            at = parent;
        }
        None
    }

    /// Appends the message of a node, and gives its size.
    fn collect(
        &self,
        node: NodeIndex,
        upto: u64,
        now: Instant,
        out: &mut Vec<Arc<Message>>,
    ) -> usize {
        let place = self.tree.value(node);
        let is_alive =
            |message: &&Arc<Message>| message.expires_at.is_none_or(|expires_at| expires_at > now);
        let message = place.message.as_ref().filter(is_alive);
        match message.filter(|_| place.stored_at <= upto) {
            Some(message) => {
                out.push(message.clone());
                message.size()
            }
            None => 0,
        }
    }
}

/// A filter, level by level.
struct Pattern<'a> {
    /// Without `#`.
    levels: Vec<&'a [u8]>,
    /// It ends in `#`: whatever comes after `levels` matches, nothing included.
    is_open: bool,
    /// It matches topics that begin with `$`, too [MQTT-4.7.2-1].
    sees_hidden: bool,
}

/// What has to stand in one level of a topic.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PatternLevel<'a> {
    /// Nothing: the topic has ended.
    End,
    Any,
    Literal(&'a [u8]),
}

impl<'a> Pattern<'a> {
    fn of(filter: &'a TopicFilter) -> Pattern<'a> {
        let mut levels: Vec<&[u8]> = levels_of(filter.pattern().as_bytes()).collect();
        let is_open = levels.pop_if(|last| *last == b"#").is_some();
        Pattern {
            levels,
            is_open,
            sees_hidden: false,
        }
    }

    fn level(&self, depth: usize) -> PatternLevel<'a> {
        match self.levels.get(depth) {
            Some(&b"+") => PatternLevel::Any,
            Some(level) => PatternLevel::Literal(level),
            None if self.is_open => PatternLevel::Any,
            None => PatternLevel::End,
        }
    }

    /// A topic of so many levels, all of which match so far, matches.
    fn is_met(&self, depth: usize) -> bool {
        depth == self.levels.len() || (depth > self.levels.len() && self.is_open)
    }
}

impl std::fmt::Debug for RetainedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RetainedStore")
            .field("messages", &self.count)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Default for Level {
    fn default() -> Level {
        Level {
            message: None,
            stored_at: 0,
            first_child: NONE,
            next: NONE,
            previous: NONE,
        }
    }
}

fn levels_of(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'/')
}

/// What a level costs: without it, deep topics with tiny payloads would take memory unnoticed.
const NODE_SIZE: u64 = LevelTree::<Level>::node_size() as u64;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::testing::{Random, filter};
    use super::*;
    use crate::codec::QoS;
    use crate::ids::ClientKey;
    use crate::message::MessageParts;

    type Model = BTreeMap<String, Arc<Message>>;

    #[test]
    fn a_store_answers_like_a_map_of_topics() {
        for seed in 0..150 {
            let mut random = Random::new(seed);
            let mut store = RetainedStore::new(&Limits::default(), seed);
            let mut model = Model::new();
            for step in 0..400 {
                let now = Instant::from_nanos(step as u64);
                let topic = random.topic();
                if random.below(400) >= step {
                    let expires_at = random.one_in(3).then(|| at(step + random.below(100)));
                    let new = message(&topic, "payload", expires_at);
                    let previous = model.insert(topic, Arc::clone(&new));
                    // [MQTT-3.3.1-5]
                    let replaced = store.store(new).unwrap();
                    assert_same(replaced.previous.as_ref(), previous.as_ref());
                } else {
                    let previous = model.remove(&topic);
                    // [MQTT-3.3.1-6], [MQTT-3.3.1-7]
                    let replaced = store.store(message(&topic, "", None)).unwrap();
                    assert_same(replaced.previous.as_ref(), previous.as_ref());
                }
                if random.one_in(4) {
                    purge(&mut store, &mut model, now);
                }
                let next_expiry = model.values().filter_map(|one| one.expires_at).min();
                assert_eq!(store.next_expiry(), next_expiry);
                assert_eq!(store.len(), model.len());
                check_matching(&mut store, &model, &random.filter(), now);
                check_matching(&mut store, &model, &filter("#"), now);
                check_matching(&mut store, &model, &filter(&random.topic()), now);
            }
            for topic in model.keys() {
                store.store(message(topic, "", None)).unwrap();
            }
            assert_no_memory(&store);
        }
    }

    /// A store that changes between the pages of several cursors. Each has to give, once, what it
    /// would have given at once when it was opened, but for what has changed since.
    #[test]
    fn pages_give_what_was_there_when_the_cursor_was_opened() {
        for seed in 0..300 {
            let mut random = Random::new(seed);
            let mut store = RetainedStore::new(&Limits::default(), seed);
            let mut model = Model::new();
            // Filter, cursor, what was there at the start, what it gave so far.
            let mut walks: Vec<(TopicFilter, Cursor, Model, Vec<Arc<Message>>)> = Vec::new();
            for step in 0..600 {
                if random.one_in(20) {
                    let filter = random.filter();
                    walks.push((filter, store.open(), model.clone(), Vec::new()));
                }
                let topic = random.topic();
                if random.below(600) >= step {
                    let new = message(&topic, "payload", None);
                    model.insert(topic, Arc::clone(&new));
                    store.store(new).unwrap();
                } else {
                    model.remove(&topic);
                    store.store(message(&topic, "", None)).unwrap();
                }
                if walks.is_empty() || random.one_in(3) {
                    continue;
                }
                let (filter, cursor, start, mut given) =
                    walks.swap_remove(random.below(walks.len()));
                if random.one_in(30) {
                    store.close(cursor);
                    continue;
                }
                let size = PageSize {
                    messages: 1 + random.below(3),
                    bytes: usize::MAX,
                    nodes: 1 + random.below(5) as u32,
                };
                let before = given.len();
                let (rest, nodes) = store.page(cursor, &filter, size, Instant::ZERO, &mut given);
                assert!(nodes <= size.nodes && given.len() - before <= size.messages);
                match rest {
                    Some(cursor) => walks.push((filter, cursor, start, given)),
                    None => check_walk(&filter, &start, &model, &given),
                }
            }
            for (_, cursor, _, _) in walks {
                store.close(cursor);
            }
            for topic in model.keys() {
                store.store(message(topic, "", None)).unwrap();
            }
            assert_no_memory(&store);
        }
    }

    fn check_walk(filter: &TopicFilter, start: &Model, end: &Model, given: &[Arc<Message>]) {
        let mut topics: Vec<&[u8]> = given.iter().map(|message| message.topic()).collect();
        topics.sort_unstable();
        topics.dedup();
        assert_eq!(topics.len(), given.len(), "{filter} gave a topic twice");
        for message in given {
            let name = std::str::from_utf8(message.topic()).unwrap();
            assert!(filter.matches(message.topic()), "{filter} gave {name}");
            assert!(
                Arc::ptr_eq(&start[name], message),
                "{name} is not what was there"
            );
        }
        // Unchanged messages were all given.
        for (topic, message) in start {
            let is_same = end.get(topic).is_some_and(|now| Arc::ptr_eq(now, message));
            if is_same && filter.matches(topic.as_bytes()) {
                assert!(
                    topics.contains(&topic.as_bytes()),
                    "{filter} missed {topic}"
                );
            }
        }
    }

    #[test]
    fn a_node_is_still_one_cache_line() {
        assert!(LevelTree::<Level>::node_size() <= 64 + 2 * 9);
    }

    #[test]
    fn a_full_store_refuses_new_messages_and_keeps_its_own() {
        // THREATS 35, T18
        let limits = Limits {
            retained_messages_max: 2,
            ..Limits::default()
        };
        let mut store = RetainedStore::new(&limits, 1);
        store.store(message("a", "1", None)).unwrap();
        store.store(message("b", "1", None)).unwrap();
        let refused = store.store(message("c", "1", None));
        assert_eq!(refused.unwrap_err(), RetainedFull::Count);
        assert!(store.store(message("b", "22", None)).is_ok());
        assert!(store.store(message("a", "", None)).is_ok());
        assert!(store.store(message("c", "1", None)).is_ok());
        assert_eq!(store.len(), 2);
        // The broker's own messages are stored nevertheless, and count.
        store.store_own(message("$SYS/x", "1", None));
        store.store_own(message("$SYS/x", "2", None));
        assert_eq!(store.len(), 3);
        assert!(store.store(message("b", "", None)).is_ok());
        let refused = store.store(message("d", "1", None));
        assert_eq!(refused.unwrap_err(), RetainedFull::Count);
    }

    #[test]
    fn bytes_are_bounded_and_deep_topics_count() {
        // THREATS 35, 10
        let limits = Limits {
            retained_bytes_max: 4000,
            ..Limits::default()
        };
        let mut store = RetainedStore::new(&limits, 1);
        let large = "x".repeat(4000);
        let deep = "/".repeat(127);
        store.store(message("a", "1", None)).unwrap();
        for refused in [("b", &*large), ("a", &large), (&deep, "1")] {
            let refused = store.store(message(refused.0, refused.1, None));
            assert_eq!(refused.unwrap_err(), RetainedFull::Bytes);
        }
        assert_eq!(store.len(), 1);
        store.store(message("a", &large[..3000], None)).unwrap();
        // At the bound, messages can still be deleted or replaced by smaller ones.
        store.store(message("a", &large[..2999], None)).unwrap();
        store.store(message("a", "", None)).unwrap();
        assert_no_memory(&store);
    }

    #[test]
    fn expired_messages_are_purged_a_bounded_number_at_a_time() {
        let mut store = RetainedStore::new(&Limits::default(), 1);
        let count = RetainedStore::PURGED_MAX + 10;
        for n in 0..count {
            let topic = format!("a/{n}");
            store.store(message(&topic, "1", Some(at(5)))).unwrap();
        }
        assert_eq!(store.purge_expired(at(4)), 0);
        let mut found = Vec::new();
        store.matching(&filter("a/+"), at(5), &mut found);
        assert!(found.is_empty());
        assert_eq!(store.purge_expired(at(5)), RetainedStore::PURGED_MAX);
        assert_eq!(store.next_expiry(), Some(at(5)));
        assert_eq!(store.purge_expired(at(5)), 10);
        assert_no_memory(&store);
    }

    #[test]
    fn nobody_reaches_system_topics_with_a_leading_wildcard() {
        // [MQTT-4.7.2-1]
        let mut store = RetainedStore::new(&Limits::default(), 1);
        for topic in ["$SYS/a", "$SYS", "x/a", "x/$a", "/a"] {
            store.store(message(topic, "1", None)).unwrap();
        }
        for (text, expected) in [
            ("#", &["/a", "x/$a", "x/a"][..]),
            ("+/a", &["/a", "x/a"]),
            ("+/#", &["/a", "x/$a", "x/a"]),
            ("+", &[]),
            ("$SYS/#", &["$SYS", "$SYS/a"]),
            ("$SYS/+", &["$SYS/a"]),
            ("x/+", &["x/$a", "x/a"]),
            ("$share/g/+/a", &["/a", "x/a"]),
        ] {
            let mut found = Vec::new();
            store.matching(&filter(text), Instant::ZERO, &mut found);
            let mut topics: Vec<&[u8]> = found.iter().map(|message| message.topic()).collect();
            topics.sort_unstable();
            let expected: Vec<&[u8]> = expected.iter().map(|topic| topic.as_bytes()).collect();
            assert_eq!(topics, expected, "{text}");
        }
    }

    fn purge(store: &mut RetainedStore, model: &mut Model, now: Instant) {
        let before = model.len();
        model.retain(|_, one| one.expires_at.is_none_or(|expires_at| expires_at > now));
        assert_eq!(store.purge_expired(now) as usize, before - model.len());
    }

    fn check_matching(
        store: &mut RetainedStore,
        model: &Model,
        filter: &TopicFilter,
        now: Instant,
    ) {
        let mut found = Vec::new();
        store.matching(filter, now, &mut found);
        found.sort_unstable_by(|a, b| a.topic().cmp(b.topic()));
        let expected: Vec<&Arc<Message>> = model
            .values()
            .filter(|one| one.expires_at.is_none_or(|expires_at| expires_at > now))
            .filter(|one| filter.matches(one.topic()))
            .collect();
        let is_same = |(a, b): (&Arc<Message>, &&Arc<Message>)| Arc::ptr_eq(a, b);
        assert_eq!(found.len(), expected.len(), "{filter}");
        assert!(found.iter().zip(&expected).all(is_same), "{filter}");
    }

    fn assert_same(a: Option<&Arc<Message>>, b: Option<&Arc<Message>>) {
        assert_eq!(a.map(Arc::as_ptr), b.map(Arc::as_ptr));
    }

    fn assert_no_memory(store: &RetainedStore) {
        assert!(store.is_empty());
        assert_eq!(store.bytes(), 0);
        assert_eq!(store.next_expiry(), None);
        assert_eq!(store.tree.len(), 0);
        assert_eq!(store.tree.capacity(), (1, 0));
        assert!(store.pins.is_empty());
    }

    fn at(nanos: usize) -> Instant {
        Instant::from_nanos(nanos as u64)
    }

    fn message(topic: &str, payload: &str, expires_at: Option<Instant>) -> Arc<Message> {
        Arc::new(Message::new(
            MessageParts {
                topic: topic.as_bytes(),
                properties: b"",
                payload: payload.as_bytes(),
                qos: QoS::AtMostOnce,
                retain: true,
                expires_at,
                publisher: ClientKey(0),
                author: None,
            },
            crate::stages::Stamp::UNKNOWN,
        ))
    }
}
