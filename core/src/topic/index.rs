//! The local index of one shard: which of its sessions want a topic.
//!
//! Invariants:
//! - a session stands at most once in the subscribers of a filter.
//! - `len` is the number of (filter, session) pairs; with the last one all memory is given back.
//! - `generation` differs before and after every change: a route cache that remembers it is void.
//!
//! Not here: shared subscriptions (they need one decision over all shards), who may subscribe.

use std::num::NonZeroU32;

use super::filter::TopicFilter;
use super::matching::Matching;
use super::name::TopicName;
use super::options::SubscriptionOptions;
use super::routes::{Route, merge};
use super::subscribers::{Subscriber, Subscribers};
use super::tree::FilterTree;
use crate::ids::SessionId;

/// What became of [`SubscriptionIndex::subscribe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribed {
    /// The subscription that the session had with this filter [MQTT-3.8.4-3].
    pub replaced: Option<SubscriptionOptions>,
    /// No session of the shard had the filter: tell [`Interest::add`](super::Interest::add).
    pub first_of_filter: bool,
}

/// What became of [`SubscriptionIndex::unsubscribe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribed {
    /// The subscription that ended; `None`: there was none.
    pub removed: Option<SubscriptionOptions>,
    /// No session of the shard has the filter any more: tell
    /// [`Interest::remove`](super::Interest::remove).
    pub last_of_filter: bool,
}

/// The subscriptions of one shard.
#[derive(Debug)]
pub struct SubscriptionIndex {
    filters: FilterTree<Subscribers>,
    count: usize,
    generation: u64,
}

impl SubscriptionIndex {
    /// An empty index; `seed` keys its hashes and has to be a secret.
    pub fn new(seed: u64) -> SubscriptionIndex {
        SubscriptionIndex {
            filters: FilterTree::new(seed),
            count: 0,
            generation: 0,
        }
    }

    /// Adds the subscription of a session, or replaces its options.
    ///
    /// The filter must not have a share name: that subscription belongs to a group, not to one
    /// session.
    pub fn subscribe(
        &mut self,
        filter: &TopicFilter,
        session: SessionId,
        options: SubscriptionOptions,
    ) -> Subscribed {
        assert!(filter.share_name().is_none(), "{filter} belongs to a group");
        let subscriber = Subscriber { session, options };
        self.generation += 1;
        let one = || Subscribers::One(subscriber);
        let (subscribers, first_of_filter) = self.filters.get_or_insert_with(filter, one);
        let replaced = match first_of_filter {
            true => None,
            false => subscribers.insert(subscriber),
        };
        self.count += usize::from(replaced.is_none());
        Subscribed {
            replaced,
            first_of_filter,
        }
    }

    /// Ends the subscription of a session, if it has one with this filter.
    pub fn unsubscribe(&mut self, filter: &TopicFilter, session: SessionId) -> Unsubscribed {
        assert!(filter.share_name().is_none(), "{filter} belongs to a group");
        let absent = Unsubscribed {
            removed: None,
            last_of_filter: false,
        };
        let Some(subscribers) = self.filters.get_mut(filter) else {
            return absent;
        };
        let (removed, last_of_filter) = match subscribers.only() {
            Some(only) if only.session == session => (only.options, true),
            Some(_) => return absent,
            None => match subscribers.remove(session) {
                Some(removed) => (removed, false),
                None => return absent,
            },
        };
        if last_of_filter {
            self.filters.remove(filter);
        }
        self.count -= 1;
        self.generation += 1;
        Unsubscribed {
            removed: Some(removed),
            last_of_filter,
        }
    }

    /// The subscription of a session with a filter that has no share name.
    pub fn options(&self, filter: &TopicFilter, session: SessionId) -> Option<SubscriptionOptions> {
        self.filters.get(filter)?.find(session)
    }

    /// Finds the sessions that want a topic: one route for each, ordered by session, whatever
    /// order they subscribed in. Replaces what is in `routes` and `ids`; the routes refer to `ids`.
    pub fn routes(&self, topic: TopicName<'_>, routes: &mut Vec<Route>, ids: &mut Vec<NonZeroU32>) {
        routes.clear();
        ids.clear();
        self.filters.visit(topic, |subscribers| {
            routes.extend(subscribers.as_slice().iter().map(Route::of));
        });
        merge(routes, ids);
    }

    /// The subscribers of a topic, one by one.
    pub fn matching(&self, topic: TopicName<'_>) -> Matching<'_> {
        let mut filters = Vec::new();
        self.filters.visit(topic, |found| filters.push(found));
        Matching::new(filters)
    }

    /// The subscribers of a filter that has no share name.
    pub fn having(&self, filter: &TopicFilter) -> Matching<'_> {
        Matching::new(self.filters.get(filter).into_iter().collect())
    }

    /// Panics if an invariant does not hold; walks all subscriptions.
    pub fn assert_invariants(&self) {
        self.filters.assert_invariants();
        let mut count = 0;
        for subscribers in self.filters.values() {
            subscribers.assert_invariants();
            count += subscribers.as_slice().len();
        }
        assert_eq!(count, self.count, "subscriptions are counted");
    }

    /// Changes whenever a subscription changes.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Subscriptions.
    pub fn len(&self) -> usize {
        self.count
    }

    /// There is no subscription.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Different filters.
    pub fn filter_count(&self) -> usize {
        self.filters.len()
    }

    /// Nodes that the filters with wildcards take.
    pub fn node_count(&self) -> usize {
        self.filters.node_count()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::routes::Delivery;
    use super::super::testing::{Random, filter, name, session};
    use super::*;
    use crate::codec::QoS;

    type Model = BTreeMap<(String, SessionId), SubscriptionOptions>;

    #[test]
    fn an_index_answers_like_a_list_of_subscriptions() {
        for seed in 0..150 {
            let mut random = Random::new(seed);
            let sessions = [2, 5, 40][seed as usize % 3];
            let mut index = SubscriptionIndex::new(seed);
            let mut model = Model::new();
            for step in 0..500 {
                let filter = random.filter();
                let session = random.session(sessions);
                if random.below(500) >= step {
                    subscribe(
                        &mut index,
                        &mut model,
                        &filter,
                        session,
                        options(&mut random),
                    );
                } else {
                    unsubscribe(&mut index, &mut model, &filter, session);
                }
                assert_eq!(index.len(), model.len());
                assert_eq!(index.is_empty(), model.is_empty());
                check_routes(&index, &model, &random.topic(), seed);
            }
            for (text, session) in model.clone().keys() {
                unsubscribe(&mut index, &mut model, &filter(text), *session);
            }
            assert!(index.is_empty());
            assert_eq!((index.filter_count(), index.node_count()), (0, 0));
        }
    }

    #[test]
    fn a_million_sessions_come_and_go_on_one_filter() {
        // THREATS T15: a scan per removal would take hours here.
        const COUNT: u32 = 1_000_000;
        for text in ["a/b", "a/+"] {
            let filter = filter(text);
            let mut index = SubscriptionIndex::new(1);
            let options = options(&mut Random::new(1));
            for n in 0..COUNT {
                let subscribed = index.subscribe(&filter, session(n), options);
                assert_eq!(subscribed.first_of_filter, n == 0);
            }
            let (mut routes, mut ids) = (Vec::new(), Vec::new());
            index.routes(name("a/b"), &mut routes, &mut ids);
            assert_eq!(routes.len(), COUNT as usize);
            assert!(routes.is_sorted_by_key(|route| route.session()));
            // In a scattered order: the multiplier is odd and not a multiple of 5.
            for n in 0..COUNT {
                let n = (u64::from(n) * 777_777 % u64::from(COUNT)) as u32;
                let unsubscribed = index.unsubscribe(&filter, session(n));
                assert_eq!(unsubscribed.removed, Some(options));
                assert_eq!(unsubscribed.last_of_filter, index.is_empty());
            }
            assert_eq!((index.filter_count(), index.node_count()), (0, 0));
        }
    }

    #[test]
    fn a_subscription_costs_little_memory() {
        assert_eq!(size_of::<Option<Subscribers>>(), 16);
        assert_eq!(size_of::<Route>(), 24);
    }

    #[test]
    fn the_generation_changes_with_every_change_only() {
        let mut index = SubscriptionIndex::new(1);
        let options = options(&mut Random::new(1));
        let a = filter("a/+");
        let mut seen = vec![index.generation()];
        index.subscribe(&a, session(1), options);
        seen.push(index.generation());
        index.subscribe(&a, session(1), options);
        seen.push(index.generation());
        index.subscribe(&a, session(2), options);
        seen.push(index.generation());
        index.unsubscribe(&a, session(2));
        seen.push(index.generation());
        assert!(seen.is_sorted_by(|earlier, later| earlier < later));
        index.unsubscribe(&a, session(2));
        index.unsubscribe(&filter("b"), session(1));
        assert_eq!(Some(&index.generation()), seen.last());
    }

    fn subscribe(
        index: &mut SubscriptionIndex,
        model: &mut Model,
        filter: &TopicFilter,
        session: SessionId,
        options: SubscriptionOptions,
    ) {
        let first_of_filter = !has_filter(model, filter);
        // [MQTT-3.8.4-3]
        let replaced = model.insert((filter.as_str().into(), session), options);
        let expected = Subscribed {
            replaced,
            first_of_filter,
        };
        assert_eq!(index.subscribe(filter, session, options), expected);
    }

    fn unsubscribe(
        index: &mut SubscriptionIndex,
        model: &mut Model,
        filter: &TopicFilter,
        session: SessionId,
    ) {
        let removed = model.remove(&(filter.as_str().into(), session));
        let expected = Unsubscribed {
            removed,
            last_of_filter: removed.is_some() && !has_filter(model, filter),
        };
        assert_eq!(index.unsubscribe(filter, session), expected);
    }

    fn has_filter(model: &Model, filter: &TopicFilter) -> bool {
        model.keys().any(|(text, _)| text == filter.as_str())
    }

    fn check_routes(index: &SubscriptionIndex, model: &Model, topic: &str, seed: u64) {
        let mut wanted: BTreeMap<SessionId, Vec<SubscriptionOptions>> = BTreeMap::new();
        for ((text, session), options) in model {
            if filter(text).matches(topic.as_bytes()) {
                wanted.entry(*session).or_default().push(*options);
            }
        }
        let (mut routes, mut ids) = (Vec::new(), Vec::new());
        index.routes(name(topic), &mut routes, &mut ids);
        check_matching(index, &wanted, topic);
        let found: Vec<SessionId> = routes.iter().map(Route::session).collect();
        assert!(found.iter().eq(wanted.keys()), "seed {seed}: {topic}");
        for (route, options) in routes.iter().zip(wanted.values()) {
            let all = merged(options.iter());
            assert_eq!(
                Some(owned(route.delivery(&ids))),
                all,
                "seed {seed}: {topic}"
            );
            // [MQTT-3.8.3-3]
            let own = merged(options.iter().filter(|options| !options.no_local));
            let to_publisher = route.delivery_to_publisher(&ids).map(owned);
            assert_eq!(to_publisher, own, "seed {seed}: {topic}");
        }
    }

    /// One by one, they are those of the routes, and as those have them.
    fn check_matching(
        index: &SubscriptionIndex,
        wanted: &BTreeMap<SessionId, Vec<SubscriptionOptions>>,
        topic: &str,
    ) {
        let matching = index.matching(name(topic));
        let mut found = BTreeMap::new();
        for filter in 0..matching.len() {
            let mut at = 0;
            while let Some(session) = matching.subscriber(filter, at) {
                at += 1;
                if !matching.is_first(filter, session) {
                    continue;
                }
                let mut ids = Vec::new();
                let route = matching.route(session, &mut ids).expect("it is there");
                let before = found.insert(session, owned(route.delivery(&ids)));
                assert_eq!(before, None, "{session:?} comes twice");
            }
        }
        let merge = |(session, options): (&SessionId, &Vec<SubscriptionOptions>)| {
            (*session, merged(options.iter()).expect("it has some"))
        };
        assert_eq!(found, wanted.iter().map(merge).collect(), "{topic}");
    }

    type Merged = (QoS, bool, Vec<NonZeroU32>);

    /// [MQTT-3.3.4-2], [MQTT-3.3.4-3]
    fn merged<'a>(options: impl Iterator<Item = &'a SubscriptionOptions>) -> Option<Merged> {
        let mut merged: Option<Merged> = None;
        for one in options {
            let all = merged.get_or_insert_default();
            all.0 = all.0.max(one.qos);
            all.1 |= one.retain_as_published;
            all.2.extend(one.subscription_id);
            all.2.sort_unstable();
        }
        merged
    }

    fn owned(delivery: Delivery<'_>) -> Merged {
        let mut ids = delivery.ids.to_vec();
        ids.sort_unstable();
        (delivery.qos, delivery.retain_as_published, ids)
    }

    fn options(random: &mut Random) -> SubscriptionOptions {
        SubscriptionOptions {
            qos: [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][random.below(3)],
            no_local: random.one_in(3),
            retain_as_published: random.one_in(3),
            subscription_id: NonZeroU32::new(random.below(4) as u32),
        }
    }
}
