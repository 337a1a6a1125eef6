//! Shared subscriptions: joining and leaving a group, and the path of a message to one of its
//! members.
//!
//! Not here: who is chosen (`groups.rs`).

use super::suback::PendingSuback;
use std::cmp::min;
use std::sync::Arc;

use hashbrown::HashSet;

use super::groups::{ShareTarget, Wish};
use super::locals::Local;
use super::suback::Outcomes;
use crate::codec::{QoS, Suback};
use crate::connection::BufferPool;
use crate::ids::GroupId;
use crate::ids::JoinId;
use crate::ids::{PacketId, SessionId, SessionNo};
use crate::limits::Limits;
use crate::loss::DropReason;
use crate::session::Standing;
use crate::session::{Delivery, KeptMatch, Memberships, Session};
use crate::shard::Shard;
use crate::shard::delivery::dispatch::{DeliveryOptions, Dispatch, Matched, Outgoing, is_ready};
use crate::shard::mail::message::{ShardMsg, Share};
use crate::shard::mail::outbox::Outbox;
use crate::shard::mail::turn::Turn;
use crate::store::After;
use crate::time::Instant;
use crate::topic::{SubscriptionOptions, TopicFilter};

/// The shared subscriptions of one SUBSCRIBE.
#[derive(Debug, Default)]
pub struct Joins(Vec<Arc<TopicFilter>>);

impl Shard {
    /// Makes a session a member of a group of this shard, or changes its terms there.
    pub(in crate::shard) fn join(
        &mut self,
        now: Instant,
        id: SessionId,
        filter: TopicFilter,
        options: SubscriptionOptions,
        joins: &mut Joins,
    ) {
        let filter = Arc::new(filter);
        let replaced = self.dispatch.shares.options(&filter, id);
        self.add_durable_interest(id, &filter, replaced, options);
        let matched = KeptMatch {
            subscription_ids: options.subscription_id.into_iter().collect(),
            share: Some(filter.clone()),
        };
        let local = Local {
            session: id,
            qos: options.qos,
            retain_as_published: options.retain_as_published,
            matched: Arc::new(matched),
        };
        let dispatch = &mut self.dispatch;
        let group = dispatch.shares.join_local(&filter, local, now);
        // What the other groups were told last may be out of date.
        dispatch.note_standing(id);
        let session = dispatch.sessions.get_mut(id).expect("the member is live");
        let standing = standing_of(session, &dispatch.pool, &dispatch.limits);
        let memberships = session.memberships.get_or_insert_with(|| {
            Box::new(Memberships {
                standing,
                groups: HashSet::default(),
            })
        });
        memberships.groups.insert(group);
        dispatch.shares.set_standing(group, id, standing);
        joins.0.push(filter);
    }

    /// Tells all shards of new members; SUBACK follows when all have heard.
    pub(in crate::shard) fn suback_after(
        &mut self,
        id: SessionId,
        joins: Joins,
        packet_id: PacketId,
        outcomes: Outcomes,
        turn: &mut Turn<'_>,
    ) {
        let others = self.config.shards - 1;
        if others == 0 || joins.0.is_empty() {
            self.send_suback(id, packet_id, &outcomes, turn.out);
            return;
        }
        self.last_join += 1;
        let join = JoinId(self.last_join);
        let pending = PendingSuback {
            conn: self.link(id).conn,
            session: id,
            packet_id,
            outcomes,
            missing: others,
        };
        self.subacks.insert(join, pending);
        let filters: Arc<[Arc<TopicFilter>]> = joins.0.into();
        for shard in self.other_shards() {
            let message = ShardMsg::Join {
                join,
                filters: filters.clone(),
                session: id,
                since: turn.now,
            };
            turn.out.post(shard, message);
        }
    }

    pub(in crate::shard) fn on_join_ack(&mut self, join: JoinId, out: &mut Outbox) {
        let pending = self
            .subacks
            .get_mut(&join)
            .expect("a join is asked for once");
        pending.missing -= 1;
        if pending.missing > 0 {
            return;
        }
        let pending = self.subacks.remove(&join).expect("just seen");
        let session = self.dispatch.sessions.get(pending.session);
        let conn = session.and_then(|session| Some(session.link.as_ref()?.conn));
        if conn == Some(pending.conn) {
            self.send_suback(pending.session, pending.packet_id, &pending.outcomes, out);
        }
    }

    fn send_suback(
        &mut self,
        id: SessionId,
        packet_id: PacketId,
        outcomes: &Outcomes,
        out: &mut Outbox,
    ) {
        self.write_outcomes(id, outcomes, out, |reasons, properties, version, buffer| {
            let suback = Suback {
                packet_id,
                reasons,
                properties,
            };
            suback.encode(version, buffer); // [MQTT-3.8.4-6]
        });
    }

    /// Ends the membership of a session, which may have ended itself. Other shards are still to
    /// hear of it.
    pub(in crate::shard) fn leave(&mut self, id: SessionId, filter: &TopicFilter) {
        let dispatch = &mut self.dispatch;
        let group = dispatch.shares.leave_local(filter, id);
        let group = group.expect("sessions and groups agree on members");
        if let Some(session) = dispatch.sessions.get_mut(id)
            && let Some(memberships) = &mut session.memberships
        {
            memberships.groups.remove(&group);
        }
    }

    /// A message for a member of this shard, chosen by another one.
    pub(in crate::shard) fn on_share(&mut self, share: Share, turn: &mut Turn<'_>) {
        let dispatch = &mut self.dispatch;
        dispatch.metrics.forwards_received += 1;
        if share.message.expires_at.is_some_and(|at| at <= turn.now) {
            // [MQTT-3.3.2-5]
            dispatch.note_drop(DropReason::Expired, share.message.topic(), turn);
            return;
        }
        let Some(group) = dispatch.shares.find(&share.filter) else {
            // Everyone has left since: it is as if nobody had subscribed.
            dispatch.metrics.forwards_useless += 1;
            return;
        };
        let mut outgoing = Outgoing::of(&share.message);
        outgoing.exchange = share.exchange;
        outgoing.may_be_recorded = share.may_be_recorded;
        outgoing.traced = dispatch.traces_of(share.message.topic());
        dispatch.begin();
        dispatch.share_here(&mut outgoing, group, Some(share.wish), share.hops, turn);
    }

    /// Gives what a session that has ended was chosen for to other members: what waited, and what
    /// was sent with QoS 1 and not acknowledged. Nothing else changes hands [MQTT-4.8.2-5].
    pub(in crate::shard) fn pass_on(&mut self, ended: Session, turn: &mut Turn<'_>) {
        if self.is_shutting_down {
            return; // Every member leaves.
        }
        let Session {
            window, queue, no, ..
        } = ended;
        for delivery in window.into_unacknowledged().chain(queue.into_waiting()) {
            self.pass_on_one(&delivery, turn);
        }
        self.record_passed(no);
    }

    /// What a session left to its groups was given to others: it is owed until that is durable everywhere.
    pub(in crate::shard) fn record_passed(&mut self, no: Option<SessionNo>) {
        if let Some(no) = no {
            self.dispatch.journal.then(After::Passed(no));
        }
    }

    pub(in crate::shard) fn pass_on_one(&mut self, delivery: &Delivery, turn: &mut Turn<'_>) {
        let dispatch = &mut self.dispatch;
        let group = delivery
            .share()
            .and_then(|filter| dispatch.shares.find(filter));
        let Some(group) = group else { return };
        if delivery.message.expires_at.is_some_and(|at| at <= turn.now) {
            dispatch.note_drop(DropReason::Expired, delivery.message.topic(), turn);
            return;
        }
        let hash = self.routes.hash(delivery.message.topic());
        let mut outgoing = Outgoing::of(&delivery.message);
        dispatch.begin();
        dispatch.share_out(&mut outgoing, group, hash, turn);
    }
}

impl Dispatch {
    /// Hands a message to one member of a group, wherever it lives.
    pub(in crate::shard) fn share_out(
        &mut self,
        outgoing: &mut Outgoing<'_>,
        group: GroupId,
        topic_hash: u64,
        turn: &mut Turn<'_>,
    ) {
        let publisher = outgoing.parts.publisher;
        let wish = self.shares.choose(group, topic_hash, publisher);
        if self.shares.is_own(wish) {
            self.share_here(outgoing, group, Some(wish.session), 0, turn)
        } else {
            self.post_share(outgoing, group, wish, 0, turn.out)
        }
    }

    /// Hands a message to a member of this shard, or to one of another shard if there is a better
    /// one.
    pub(in crate::shard) fn share_here(
        &mut self,
        outgoing: &mut Outgoing<'_>,
        group: GroupId,
        wish: Option<SessionId>,
        hops: u8,
        turn: &mut Turn<'_>,
    ) {
        let sessions = &self.sessions;
        let inflight = |id| sessions.get(id).map_or(0, |session| session.window.open());
        match self.shares.place(group, wish, hops, inflight) {
            ShareTarget::Here(local) => self.offer_shared(outgoing, &local, turn),
            ShareTarget::Away(local) => {
                let qos = min(local.qos, outgoing.parts.qos);
                let session = self.sessions.get(local.session);
                // Nobody is better off than a client that is there, with a full queue.
                let is_there = session.is_some_and(|session| session.link.is_some());
                if is_there || (self.limits.share_queued_while_away && qos > QoS::AtMostOnce) {
                    self.offer_shared(outgoing, &local, turn);
                } else {
                    self.note_drop(DropReason::NoMember, outgoing.parts.topic, turn);
                }
            }
            ShareTarget::There(wish) => self.post_share(outgoing, group, wish, hops + 1, turn.out),
            ShareTarget::Nowhere => {
                self.note_drop(DropReason::NoMember, outgoing.parts.topic, turn)
            }
        }
    }

    fn offer_shared(&mut self, outgoing: &mut Outgoing<'_>, local: &Local, turn: &mut Turn<'_>) {
        let topic = outgoing.parts.topic;
        if !self.may_receive(local.session, topic) {
            // Its membership is about to end: other rules came, and the review has not come by.
            self.drop_for(local.session, DropReason::Denied, topic, turn);
            return;
        }
        let options = DeliveryOptions {
            rules: self.rules,
            qos: min(local.qos, outgoing.parts.qos),
            retain: local.retain_as_published && outgoing.parts.retain,
            matched: Matched::Shared(&local.matched),
        };
        self.offer_on(outgoing, local.session, options, turn);
        self.journal.end_message(&outgoing.parts, outgoing.origin());
        self.note_standing(local.session);
    }

    fn post_share(
        &mut self,
        outgoing: &mut Outgoing<'_>,
        group: GroupId,
        wish: Wish,
        hops: u8,
        out: &mut Outbox,
    ) {
        self.metrics.forwards_sent += 1;
        if outgoing.parts.qos > QoS::AtMostOnce && outgoing.may_be_recorded {
            self.journal.note_posted(wish.shard);
        }
        let share = Share {
            message: outgoing.share().clone(),
            exchange: outgoing.exchange.clone(),
            may_be_recorded: outgoing.may_be_recorded,
            filter: self.shares.filter(group).clone(),
            wish: wish.session,
            hops,
        };
        out.post(wish.shard, ShardMsg::Share(share));
    }

    /// Tells the groups of a session how well it can take messages, if that has changed.
    pub(in crate::shard) fn note_standing(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        if session.memberships.is_none() {
            return;
        }
        let standing = standing_of(session, &self.pool, &self.limits);
        let memberships = session.memberships.as_mut().expect("just seen");
        if memberships.standing == standing {
            return;
        }
        memberships.standing = standing;
        for &group in &memberships.groups {
            self.shares.set_standing(group, id, standing);
        }
    }
}

/// How well a session can take messages: what it is given goes out at once only if nothing waits.
fn standing_of(session: &Session, pool: &BufferPool, limits: &Limits) -> Standing {
    let (count_max, bytes_max) = (limits.queued_messages_max, limits.queued_bytes_max);
    let has_room = session.queue.has_room(1, count_max, bytes_max);
    match &session.link {
        Some(link) if is_ready(session, link, pool, limits) => Standing::Ready,
        Some(_) if has_room => Standing::Online,
        None if has_room => Standing::Away,
        Some(_) | None => Standing::Full,
    }
}
