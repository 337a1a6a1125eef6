//! Filters to values: an exact filter is one hash lookup, a filter with wildcards a path in a tree.
//!
//! The walk of one topic is iterative. It visits a node at most once (a node is one path of levels
//! and `+`), so it never costs more than the tree has nodes; at each level of the topic it can only
//! branch into the literal level and `+`, and at most `PLUS_LEVELS_MAX` branches wait at any time.
//!
//! An exact filter is known by a keyed hash of 128 bits instead of its text, which saves its memory
//! and the cache miss of comparing it. That two of a billion filters have the same hash is less
//! likely than 2^-68, and without the key nobody can look for two that have.
//!
//! Invariant: a node without children carries a value: `remove` prunes what `insert` grew.

use super::filter::TopicFilter;
use super::hash::{Digest, DigestKey};
use super::levels::{LevelTree, NONE, NodeIndex, ROOT, split_level};
use super::name::TopicName;
use super::table::{Hashed, Table};

/// A map from topic filters to `V` that is asked by topic name. A share name is not part of the
/// key: shared subscriptions have a tree of their own.
pub struct FilterTree<V> {
    exact: Table<Exact<V>>,
    exact_key: DigestKey,
    wild: LevelTree<Wild<V>>,
    wild_count: usize,
}

struct Exact<V> {
    digest: Digest,
    value: V,
}

impl<V> Hashed for Exact<V> {
    fn hash(&self) -> u64 {
        self.digest.hash()
    }
}

/// What stands at the end of a path.
struct Wild<V> {
    /// The filter that ends here.
    here: Option<V>,
    /// The filter that ends with `#` below here.
    below: Option<V>,
}

impl<V> FilterTree<V> {
    /// An empty map; `seed` keys its hashes and has to be a secret.
    pub fn new(seed: u64) -> FilterTree<V> {
        FilterTree {
            exact: Table::new(),
            exact_key: DigestKey::new(!seed),
            wild: LevelTree::new(seed),
            wild_count: 0,
        }
    }

    /// Filters in the map.
    pub fn len(&self) -> usize {
        self.exact.len() + self.wild_count
    }

    /// There is no filter.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Nodes that the filters with wildcards take: what a hostile set of filters costs.
    pub fn node_count(&self) -> usize {
        self.wild.len()
    }

    /// The value of a filter.
    pub fn get(&self, filter: &TopicFilter) -> Option<&V> {
        if filter.is_exact() {
            return self.exact_of(filter.pattern().as_bytes());
        }
        let (node, is_below) = self.find(filter)?;
        self.wild.value(node).slot(is_below).as_ref()
    }

    /// The value of a filter, to change it.
    pub fn get_mut(&mut self, filter: &TopicFilter) -> Option<&mut V> {
        if filter.is_exact() {
            let digest = self.exact_key.digest(filter.pattern().as_bytes());
            return self
                .exact
                .find_mut(digest.hash(), |entry| entry.digest == digest)
                .map(|entry| &mut entry.value);
        }
        let (node, is_below) = self.find(filter)?;
        self.wild.value_mut(node).slot_mut(is_below).as_mut()
    }

    /// The value of a filter, made first if there is none; and whether it was made.
    pub fn get_or_insert_with(
        &mut self,
        filter: &TopicFilter,
        make: impl FnOnce() -> V,
    ) -> (&mut V, bool) {
        if filter.is_exact() {
            let digest = self.exact_key.digest(filter.pattern().as_bytes());
            let is_it = |entry: &Exact<V>| entry.digest == digest;
            let new = || Exact {
                digest,
                value: make(),
            };
            let (entry, is_new) = self.exact.find_or_insert(digest.hash(), is_it, new);
            return (&mut entry.value, is_new);
        }
        let (node, is_below) = self.grow(filter);
        let slot = self.wild.value_mut(node).slot_mut(is_below);
        let is_new = slot.is_none();
        self.wild_count += usize::from(is_new);
        (slot.get_or_insert_with(make), is_new)
    }

    /// Takes a filter out.
    pub fn remove(&mut self, filter: &TopicFilter) -> Option<V> {
        if filter.is_exact() {
            let digest = self.exact_key.digest(filter.pattern().as_bytes());
            let removed = self
                .exact
                .remove(digest.hash(), |entry| entry.digest == digest);
            return removed.map(|entry| entry.value);
        }
        let (node, is_below) = self.find(filter)?;
        let removed = self.wild.value_mut(node).slot_mut(is_below).take()?;
        self.wild_count -= 1;
        self.prune(node);
        Some(removed)
    }

    /// Shows the value of every filter that matches the topic, in no particular order.
    pub fn visit<'a>(&'a self, topic: TopicName<'_>, mut found: impl FnMut(&'a V)) {
        if let Some(value) = self.exact_of(topic.as_bytes()) {
            found(value);
        }
        if self.wild_count > 0 {
            self.walk(topic, found);
        }
    }

    /// All values, in no particular order.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        let wild = self.wild.live_nodes().flat_map(|node| {
            let Wild { here, below } = self.wild.value(node);
            here.iter().chain(below)
        });
        self.exact.iter().map(|entry| &entry.value).chain(wild)
    }

    /// Panics if an invariant does not hold; walks all filters.
    pub fn assert_invariants(&self) {
        self.exact.assert_invariants();
        self.wild.assert_invariants();
        assert_eq!(self.values().count(), self.len(), "filters are counted");
        for node in self.wild.live_nodes().filter(|&node| node != ROOT) {
            let is_needed = !self.wild.is_leaf(node) || !self.wild.value(node).is_empty();
            assert!(is_needed, "a node without children carries a value");
        }
    }

    fn walk<'a>(&'a self, topic: TopicName<'_>, mut found: impl FnMut(&'a V)) {
        let mut waiting = Waiting::new();
        let mut at = ROOT;
        let mut rest = Some(topic.as_bytes());
        // [MQTT-4.7.2-1] a leading wildcard does not see `$` topics.
        let mut wildcards_see = !topic.is_system();
        loop {
            let wild = self.wild.value(at);
            if let Some(value) = wild.below.as_ref().filter(|_| wildcards_see) {
                found(value);
            }
            let next = match rest {
                None => {
                    if let Some(value) = &wild.here {
                        found(value);
                    }
                    None
                }
                Some(text) => {
                    let (level, after) = split_level(text);
                    let plus = if wildcards_see {
                        self.wild.plus(at)
                    } else {
                        NONE
                    };
                    let next = self.step(at, level, plus, after, &mut waiting);
                    rest = after;
                    next
                }
            };
            wildcards_see = true;
            at = match next {
                Some(node) => node,
                None => match waiting.pop() {
                    Some((node, after)) => {
                        rest = after;
                        node
                    }
                    None => return,
                },
            };
        }
    }

    /// Goes one level down: into `+` if there is one, and then the literal level has to wait. (The
    /// other way round, more branches than a filter has `+` could wait.)
    fn step<'t>(
        &self,
        at: NodeIndex,
        level: &[u8],
        plus: NodeIndex,
        after: Option<&'t [u8]>,
        waiting: &mut Waiting<'t>,
    ) -> Option<NodeIndex> {
        let literal = self.wild.literal(at, level);
        if plus == NONE {
            return literal;
        }
        if let Some(literal) = literal {
            waiting.push(literal, after);
        }
        Some(plus)
    }

    fn exact_of(&self, text: &[u8]) -> Option<&V> {
        let digest = self.exact_key.digest(text);
        self.exact
            .find(digest.hash(), |entry| entry.digest == digest)
            .map(|entry| &entry.value)
    }

    /// The node of a filter with wildcards, and whether it is the `#` below that node.
    fn find(&self, filter: &TopicFilter) -> Option<(NodeIndex, bool)> {
        let mut at = ROOT;
        for level in filter.pattern().as_bytes().split(|byte| *byte == b'/') {
            if level == b"#" {
                return Some((at, true));
            }
            at = self.wild.child(at, level)?;
        }
        Some((at, false))
    }

    fn grow(&mut self, filter: &TopicFilter) -> (NodeIndex, bool) {
        let mut at = ROOT;
        for level in filter.pattern().as_bytes().split(|byte| *byte == b'/') {
            if level == b"#" {
                return (at, true);
            }
            at = match self.wild.child(at, level) {
                Some(child) => child,
                None => self.wild.add_child(at, level),
            };
        }
        (at, false)
    }

    fn prune(&mut self, from: NodeIndex) {
        let mut at = from;
        while at != ROOT && self.wild.is_leaf(at) && self.wild.value(at).is_empty() {
            at = self.wild.remove_leaf(at);
        }
    }
}

impl<V> std::fmt::Debug for FilterTree<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FilterTree")
            .field("filters", &self.len())
            .field("nodes", &self.node_count())
            .finish()
    }
}

impl<V> Default for Wild<V> {
    fn default() -> Wild<V> {
        Wild {
            here: None,
            below: None,
        }
    }
}

impl<V> Wild<V> {
    fn is_empty(&self) -> bool {
        self.here.is_none() && self.below.is_none()
    }

    fn slot(&self, is_below: bool) -> &Option<V> {
        if is_below { &self.below } else { &self.here }
    }

    fn slot_mut(&mut self, is_below: bool) -> &mut Option<V> {
        if is_below {
            &mut self.below
        } else {
            &mut self.here
        }
    }
}

/// Literal branches that wait while the walk is in the `+` beside them. One waits for each `+` on
/// the way to the current node, so there are never more than a filter can have.
struct Waiting<'t> {
    branches: [(NodeIndex, Option<&'t [u8]>); TopicFilter::PLUS_LEVELS_MAX],
    count: usize,
}

impl<'t> Waiting<'t> {
    fn new() -> Waiting<'t> {
        Waiting {
            branches: [(NONE, None); TopicFilter::PLUS_LEVELS_MAX],
            count: 0,
        }
    }

    fn push(&mut self, node: NodeIndex, rest: Option<&'t [u8]>) {
        self.branches[self.count] = (node, rest);
        self.count += 1;
    }

    fn pop(&mut self) -> Option<(NodeIndex, Option<&'t [u8]>)> {
        self.count = self.count.checked_sub(1)?;
        Some(self.branches[self.count])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::subscribers::Subscribers;
    use super::super::testing::{Random, filter, name};
    use super::*;

    #[test]
    fn a_filter_at_the_root_outlives_the_last_node_below_it() {
        let mut tree = FilterTree::new(1);
        tree.get_or_insert_with(&filter("#"), || 1);
        tree.get_or_insert_with(&filter("a/+"), || 2);
        tree.remove(&filter("a/+"));
        assert_eq!(tree.get(&filter("#")), Some(&1));
        assert_eq!(tree.remove(&filter("#")), Some(1));
    }

    #[test]
    fn a_tree_answers_like_a_list_of_filters() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let mut tree = FilterTree::new(seed);
            let mut model: HashMap<TopicFilter, u64> = HashMap::new();
            // First growing, then shrinking to nothing.
            for step in 0..400 {
                let filter = random.filter();
                if random.below(400) >= step {
                    let value = random.next();
                    let is_known = model.contains_key(&filter);
                    let (found, is_new) = tree.get_or_insert_with(&filter, || value);
                    assert_eq!(is_new, !is_known);
                    assert_eq!(found, model.entry(filter.clone()).or_insert(value));
                    *found = value;
                    model.insert(filter.clone(), value);
                } else {
                    assert_eq!(tree.remove(&filter), model.remove(&filter), "seed {seed}");
                }
                assert_eq!(tree.get(&filter), model.get(&filter), "seed {seed}");
                assert_eq!(tree.get_mut(&filter), model.get_mut(&filter));
                assert_eq!(tree.len(), model.len());
                let topic = random.topic();
                let mut found = Vec::new();
                tree.visit(name(&topic), |value| found.push(*value));
                let matching = model.iter().filter(|(f, _)| f.matches(topic.as_bytes()));
                let mut expected: Vec<u64> = matching.map(|(_, value)| *value).collect();
                found.sort_unstable();
                expected.sort_unstable();
                assert_eq!(found, expected, "seed {seed}: {topic}");
            }
            for (filter, value) in model {
                assert_eq!(tree.remove(&filter), Some(value));
            }
            assert!(tree.is_empty());
            assert_no_memory(&tree);
        }
    }

    #[test]
    fn a_node_with_one_subscriber_fits_a_cache_line() {
        assert_eq!(LevelTree::<Wild<Subscribers>>::node_size(), 64 + 2 * 9);
        assert_eq!(size_of::<Exact<Subscribers>>(), 32);
    }

    #[test]
    fn the_walk_of_a_hostile_set_of_filters_ends_within_its_bounds() {
        // THREATS 9, T15: every path through ten levels of `a` and `+`, and no filter that matches.
        let mut tree = FilterTree::new(1);
        for ways in 0_u32..1 << 10 {
            let level = |bit: u32| if (ways >> bit) & 1 == 1 { "+/" } else { "a/" };
            let text: String = (0..10).map(level).collect();
            tree.get_or_insert_with(&filter(&format!("{text}z")), || ways);
        }
        // The path without any `+` is an exact filter, which needs no nodes.
        assert_eq!(tree.node_count(), (1 << 11) - 2 + (1 << 10) - 2);
        let topic = "a/".repeat(10);
        tree.visit(name(&format!("{topic}y")), |_| unreachable!());
        let mut count = 0;
        tree.visit(name(&format!("{topic}z")), |_| count += 1);
        assert_eq!(count, 1 << 10);
        // The most branches that can wait: 16 `+` beside 16 literal levels.
        let mut tree = FilterTree::new(1);
        let deep = filter(&format!("{}#", "+/".repeat(16)));
        tree.get_or_insert_with(&deep, || 0);
        for depth in 1..=16 {
            let beside = format!("{}a/z", "+/".repeat(depth - 1));
            tree.get_or_insert_with(&filter(&beside), || depth as u32);
        }
        let mut found = Vec::new();
        tree.visit(name(&"a/".repeat(127)), |value| found.push(*value));
        assert_eq!(found, [0]);
    }

    #[test]
    fn the_deepest_filters_cost_a_node_per_level_and_leave_nothing() {
        // THREATS 10
        let mut tree = FilterTree::new(1);
        let filters: Vec<TopicFilter> = (0..1000)
            .map(|n| filter(&format!("{n}{}#", "/".repeat(127))))
            .collect();
        for filter in &filters {
            tree.get_or_insert_with(filter, || ());
        }
        assert_eq!(tree.node_count(), 127 * 1000);
        for filter in &filters {
            tree.remove(filter);
        }
        assert_no_memory(&tree);
    }

    fn assert_no_memory<V>(tree: &FilterTree<V>) {
        assert_eq!(tree.node_count(), 0);
        assert_eq!(tree.exact.capacity(), 0);
        assert_eq!(tree.wild.capacity(), (1, 0));
    }
}
