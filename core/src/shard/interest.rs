//! What other shards learn of the subscriptions of this one: the bits of the interest table.
//!
//! Bits of durable sessions are set before those of all and cleared after them, so that a publish that finds this shard
//! by such a subscription knows that it is to be recorded.
//!
//! Not here: the members of shared subscriptions (`share/on_share.rs`).

use super::Shard;
use super::on_subscribe::Dropped;
use crate::codec::QoS;
use crate::ids::{SessionId, SessionNo};
use crate::topic::{SubscriptionOptions, TopicFilter};

impl Shard {
    /// Puts a subscription without a share name into the index. Every later publish finds it.
    pub(super) fn index_subscription(
        &mut self,
        id: SessionId,
        filter: &TopicFilter,
        options: SubscriptionOptions,
    ) {
        let subscribed = self.index.subscribe(filter, id, options);
        self.add_durable_interest(id, filter, subscribed.replaced, options);
        if subscribed.first_of_filter {
            self.interest.add(&self.config.interest, filter);
        }
    }

    /// A session has subscribed, instead of what it had `replaced`.
    pub(super) fn add_durable_interest(
        &mut self,
        id: SessionId,
        filter: &TopicFilter,
        replaced: Option<SubscriptionOptions>,
        options: SubscriptionOptions,
    ) {
        if self.session(id).no.is_none() {
            return;
        }
        let table = &self.config.interest;
        match (replaced.is_some_and(is_recorded), is_recorded(options)) {
            (false, true) => self.interest.add_durable(table, filter),
            (true, false) => self.interest.remove_durable(table, filter),
            (true, true) | (false, false) => {}
        }
    }

    /// Takes a subscription out of its group or of the index, and its interest back if it was the
    /// last. Its session may have ended.
    pub(super) fn forget_subscription(
        &mut self,
        (id, no): (SessionId, Option<SessionNo>),
        filter: &TopicFilter,
        dropped: &mut Dropped,
    ) {
        let removed = if filter.share_name().is_some() {
            let options = self.dispatch.shares.options(filter, id);
            self.leave(id, filter);
            dropped.groups.push(filter.clone());
            options
        } else {
            let unsubscribed = self.index.unsubscribe(filter, id);
            if unsubscribed.last_of_filter {
                self.interest.remove(&self.config.interest, filter);
            }
            unsubscribed.removed
        };
        if is_recorded(removed.expect(AGREED)) && no.is_some() {
            self.interest.remove_durable(&self.config.interest, filter);
        }
    }

    /// A session ends with its connection from now on: nothing that it takes is recorded.
    pub(super) fn end_durable_interest(&mut self, id: SessionId) {
        for filter in self.recorded_filters(id) {
            self.interest.remove_durable(&self.config.interest, &filter);
        }
    }

    /// The filters on which messages for a session are recorded, if it is durable.
    pub(super) fn recorded_filters(&self, id: SessionId) -> Vec<TopicFilter> {
        let session = self.dispatch.sessions.get(id);
        let session = session.expect("the caller knows a live session");
        let is_it = |filter: &&TopicFilter| is_recorded(self.options_of(id, filter));
        session
            .subscriptions
            .iter()
            .filter(is_it)
            .cloned()
            .collect()
    }

    /// The options of a subscription that a session has.
    pub(super) fn options_of(&self, id: SessionId, filter: &TopicFilter) -> SubscriptionOptions {
        let options = if filter.share_name().is_some() {
            self.dispatch.shares.options(filter, id)
        } else {
            self.index.options(filter, id)
        };
        options.expect(AGREED)
    }
}

const AGREED: &str = "sessions agree with index and groups on subscriptions";

/// Messages for a durable session are recorded if it has them with QoS 1 or 2.
fn is_recorded(options: SubscriptionOptions) -> bool {
    options.qos > QoS::AtMostOnce
}
