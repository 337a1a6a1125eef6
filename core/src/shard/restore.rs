//! A start: a shard takes over what was recovered from the disk.
//!
//! Invariant: nobody is accepted before every shard has restored its part, so no publish misses a subscription.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashSet;

use super::Shard;
use super::delivery::dispatch::Outgoing;
use super::mail::turn::Turn;
use super::share::groups::Wish;
use super::share::on_share::Joins;
use super::timers::Timer;
use crate::ids::{SessionId, SessionNo, TurnSeq};
use crate::session::gather::Wanted;
use crate::session::{Delivery, Expiry, Losses, Receipts, Session, Unsettled, Will, restore};
use crate::store::{
    After, Owed, RecoveredDelivery, RecoveredPart, RecoveredSession, RecoveredSubscription,
};
use crate::time::Instant;
use crate::topic::{SubscriptionOptions, TopicFilter};
use crate::trace_set::TraceSet;

impl Shard {
    /// Takes over what was recovered; before the first event. No bound refuses anything: it was accepted once.
    pub fn restore(&mut self, now: Instant, part: RecoveredPart) {
        for message in part.retained {
            self.retained.restore(message);
        }
        self.set_retained_timer(now);
        for (index, (no, session)) in part.sessions.into_iter().enumerate() {
            let id = self.restore_session(now, no, session);
            assert_eq!(
                id,
                RecoveredPart::session_id(index),
                "the other shards count on it"
            );
        }
        for member in part.members {
            let wish = Wish {
                shard: member.shard,
                session: member.session,
            };
            let shares = &mut self.dispatch.shares;
            shares.join_remote(&member.filter, wish, now);
        }
        self.owed = part.owed;
        self.restored_at = now;
        self.review_soon(now);
        // It is all that older epochs are needed for.
        self.checkpoints.want();
    }

    fn restore_session(
        &mut self,
        now: Instant,
        no: SessionNo,
        mut recovered: RecoveredSession,
    ) -> SessionId {
        let identity = self.dispatch.access.recorded(recovered.user.take());
        if !self.dispatch.access.knows(&identity) {
            recovered.will = None; // The review ends the session (threat 73).
        }
        let (expires_at, will_at) = ends_of(&recovered, now);
        let is_lost = recovered.away.is_none();
        let rules = self.dispatch.rules.wrapping_sub(1); // Whoever may have it is asked again.
        let next = recovered.next_delivery;
        let sent_below = recovered.sent_below;
        let deliveries = recovered.deliveries.into_iter().map(|(no, delivery)| {
            let delivery = unsettled(delivery, no < sent_below, rules);
            (no, delivery)
        });
        let (window, queue) = restore(deliveries, next);
        let mut receipts = Receipts::restored(recovered.next_ticket, recovered.partials);
        for id in recovered.receipts {
            receipts.insert(id);
        }
        receipts.rewind();
        let key = self.home.client_key(&recovered.client_id);
        let held = &mut self.dispatch.held;
        held.queued_messages += queue.len() as u64;
        held.queued_bytes += queue.bytes();
        held.inflight_bytes += window.bytes();
        let id = self.dispatch.sessions.insert(Session {
            client_id: recovered.client_id,
            no: Some(no),
            turn: TurnSeq::default(),
            taken_in: TurnSeq::default(),
            key,
            identity: Arc::new(identity),
            author: None,
            version: recovered.version,
            expiry: Expiry::from_seconds(recovered.expiry_s, u32::MAX),
            link: None,
            subscriptions: HashSet::with_hasher(self.dispatch.hasher.clone()),
            window,
            queue,
            receipts,
            will: recovered.will.map(Box::new),
            expires_at,
            will_at,
            feed: None,
            losses: Losses::default(),
            memberships: None,
            traced: TraceSet::default(),
        });
        if let Some(at) = expires_at {
            self.timers.set(at, Timer::Expiry(id));
        }
        if let Some(at) = will_at {
            self.timers.set(at, Timer::Will(id));
        }
        if is_lost {
            self.record_away(id, now);
        }
        for (filter, subscription) in recovered.subscriptions {
            self.restore_subscription(now, id, filter, subscription);
        }
        id
    }

    /// Ends what was over when the broker started: a client that comes before the timers fire is too late.
    pub(super) fn end_what_was_over(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        let restored_at = self.restored_at;
        let session = self.session(id);
        if session.expires_at.is_some_and(|at| at <= restored_at) {
            self.dispatch.metrics.sessions_expired += 1;
            self.end_session(id, turn);
        } else if session.will_at.is_some_and(|at| at <= restored_at) {
            self.publish_will(id, turn);
        }
    }

    fn restore_subscription(
        &mut self,
        now: Instant,
        id: SessionId,
        filter: TopicFilter,
        subscription: RecoveredSubscription,
    ) {
        let options = SubscriptionOptions {
            qos: subscription.options.qos,
            no_local: subscription.options.no_local,
            retain_as_published: subscription.options.retain_as_published,
            subscription_id: subscription.subscription_id,
        };
        self.session(id).subscriptions.insert(filter.clone());
        if filter.share_name().is_some() {
            // The other shards restore it themselves.
            self.join(now, id, filter, options, &mut Joins::default());
            return;
        }
        self.index_subscription(id, &filter, options);
        if subscription.is_gathering {
            self.gather_again(id, filter, options);
        }
    }

    /// Starts once more to collect the retained messages of a subscription; the others are asked in the first turn.
    fn gather_again(&mut self, id: SessionId, filter: TopicFilter, options: SubscriptionOptions) {
        let owners = self.owners_of(&filter);
        let dispatch = &mut self.dispatch;
        let session = dispatch.sessions.get_mut(id).expect("it was just restored");
        let wanted = Wanted {
            owners,
            filter: Arc::new(filter),
            options,
            no_local_key: options.no_local.then_some(session.key),
        };
        let replaced = dispatch.gathers.start(&mut session.feed, id, wanted);
        assert_eq!(replaced, None, "a filter is restored once");
    }

    /// Something of the start is left for the first turn.
    pub(super) fn is_restoring(&self) -> bool {
        !self.owed.is_empty() || self.dispatch.gathers.has_steps()
    }

    /// Gives to others what sessions left them that ended before the start.
    pub(super) fn give_owed(&mut self, turn: &mut Turn<'_>) {
        for (no, owed) in std::mem::take(&mut self.owed) {
            if let Some(will) = &owed.will {
                self.publish_owed_will(no, &owed, will, turn);
            }
            let rules = self.dispatch.rules.wrapping_sub(1); // Whoever may have it is asked.
            for delivery in owed.shared.into_values() {
                match unsettled(delivery, false, rules) {
                    Unsettled::Unsent(delivery) | Unsettled::MaybeSent(delivery) => {
                        self.pass_on_one(&delivery, turn);
                    }
                    Unsettled::Released => unreachable!("its client has it"),
                }
            }
            self.record_passed(Some(no));
        }
    }

    fn publish_owed_will(&mut self, no: SessionNo, owed: &Owed, will: &Will, turn: &mut Turn<'_>) {
        let message = super::on_close::with_expiry(will, turn.now);
        let identity = self.dispatch.access.recorded(owed.user.clone());
        self.dispatch.journal.then(After::WillGone(no));
        if !self.may_publish_as(&identity, &owed.client_id, message.topic()) {
            return; // Other rules than at CONNECT (threat 69).
        }
        let hash = self.routes.hash(message.topic());
        let Ok(routes) = self.find_routes(message.topic(), hash) else {
            return; // Its topic is too long or too deep by now.
        };
        self.publish_along(hash, routes, &mut Outgoing::of(&message), turn);
        self.dispatch.metrics.wills_published += 1;
    }
}

/// When a session ends and when its will is due; a client that was connected counts as lost at the start.
fn ends_of(recovered: &RecoveredSession, now: Instant) -> (Option<Instant>, Option<Instant>) {
    let mut expires_at = recovered.expires_at();
    let mut will_at = recovered.will_at();
    if recovered.away.is_none() {
        let seconds = |count: u32| Duration::from_secs(u64::from(count));
        expires_at = (recovered.expiry_s != u32::MAX).then(|| now + seconds(recovered.expiry_s));
        will_at = recovered.will.as_ref().map(|will| now + will.delay);
    }
    (expires_at, will_at)
}

fn unsettled(delivery: RecoveredDelivery, is_sent: bool, rules: u32) -> Unsettled {
    match delivery {
        RecoveredDelivery::Pubrel => Unsettled::Released,
        RecoveredDelivery::Message {
            message,
            qos,
            retain,
            matched,
            may_have_been_sent,
        } => {
            let delivery = Delivery {
                message,
                qos,
                retain,
                matched,
                rules,
            };
            if is_sent || may_have_been_sent {
                Unsettled::MaybeSent(delivery)
            } else {
                Unsettled::Unsent(delivery)
            }
        }
    }
}
