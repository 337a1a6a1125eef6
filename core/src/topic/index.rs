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
use super::name::TopicName;
use super::routes::{Route, merge};
use super::subscribers::{Subscriber, Subscribers};
use super::tree::FilterTree;
use crate::codec::QoS;
use crate::ids::SessionId;

/// What a client asked for with one subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionOptions {
    /// Granted maximum QoS.
    pub qos: QoS,
    /// Leave out what the session itself publishes [MQTT-3.8.3-3].
    pub no_local: bool,
    /// Keep the RETAIN flag of the PUBLISH [MQTT-3.3.1-13].
    pub retain_as_published: bool,
    /// Subscription Identifier, if the client gave one.
    pub subscription_id: Option<NonZeroU32>,
}

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
        let Some(subscribers) = self.filters.get_mut(filter) else {
            self.filters.insert(filter, Subscribers::One(subscriber));
            self.count += 1;
            return Subscribed {
                replaced: None,
                first_of_filter: true,
            };
        };
        let replaced = subscribers.insert(subscriber);
        self.count += usize::from(replaced.is_none());
        Subscribed {
            replaced,
            first_of_filter: false,
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
