//! Shared subscriptions: joining and leaving a group, and the path of a message to one of its members.
//!
//! Not here: which member is chosen (`groups.rs`).

use super::suback::PendingSuback;
use std::cmp::min;
use std::sync::Arc;

use hashbrown::HashSet;

use super::groups::{Place, Wish};
use super::locals::Local;
use super::suback::Outcomes;
use crate::codec::{QoS, Suback};
use crate::connection::BufferPool;
use crate::ids::GroupId;
use crate::ids::JoinId;
use crate::ids::{PacketId, SessionId};
use crate::limits::Limits;
use crate::session::Standing;
use crate::session::{Delivery, Grounds, Memberships, Session};
use crate::shard::Shard;
use crate::shard::delivery::dispatch::{Cause, Dispatch, Offering, Terms, is_ready};
use crate::shard::mail::message::{ShardMsg, Share};
use crate::shard::mail::outbox::Outbox;
use crate::shard::sys::metrics::DropReason;
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
        let grounds = Grounds {
            subscription_ids: options.subscription_id.into_iter().collect(),
            share: Some(filter.clone()),
        };
        let local = Local {
            session: id,
            qos: options.qos,
            retain_as_published: options.retain_as_published,
            grounds: Arc::new(grounds),
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
        now: Instant,
        id: SessionId,
        joins: Joins,
        packet_id: PacketId,
        outcomes: Outcomes,
        out: &mut Outbox,
    ) {
        let others = self.config.shards - 1;
        if others == 0 || joins.0.is_empty() {
            self.send_suback(id, packet_id, &outcomes, out);
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
                since: now,
            };
            out.post(shard, message);
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

    /// Ends the membership of a session, which may have ended itself. Other shards are still to hear of it.
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
    pub(in crate::shard) fn on_share(&mut self, now: Instant, share: Share, out: &mut Outbox) {
        let dispatch = &mut self.dispatch;
        dispatch.metrics.forwards_received += 1;
        if share.message.expires_at.is_some_and(|at| at <= now) {
            // [MQTT-3.3.2-5]
            dispatch.note_drop(now, DropReason::Expired, share.message.topic(), out);
            return;
        }
        let Some(group) = dispatch.shares.find(&share.filter) else {
            // Everyone has left since: it is as if nobody had subscribed.
            dispatch.metrics.forwards_useless += 1;
            return;
        };
        let mut offering = Offering::of(&share.message);
        dispatch.begin();
        dispatch.share_here(now, &mut offering, group, Some(share.wish), share.hops, out);
    }

    /// Gives what a session that has ended was chosen for to other members: what waited, and what
    /// was sent with QoS 1 and not acknowledged. Nothing else changes hands [MQTT-4.8.2-5].
    pub(in crate::shard) fn pass_on(&mut self, now: Instant, ended: Session, out: &mut Outbox) {
        if self.is_shutting_down {
            return; // Every member leaves.
        }
        let Session { window, queue, .. } = ended;
        for delivery in window.into_unacknowledged().chain(queue) {
            self.pass_on_one(now, &delivery, out);
        }
    }

    fn pass_on_one(&mut self, now: Instant, delivery: &Delivery, out: &mut Outbox) {
        let dispatch = &mut self.dispatch;
        let group = delivery
            .share()
            .and_then(|filter| dispatch.shares.find(filter));
        let Some(group) = group else { return };
        if delivery.message.expires_at.is_some_and(|at| at <= now) {
            dispatch.note_drop(now, DropReason::Expired, delivery.message.topic(), out);
            return;
        }
        let hash = self.routes.hash(delivery.message.topic());
        let mut offering = Offering::of(&delivery.message);
        dispatch.begin();
        dispatch.share_out(now, &mut offering, group, hash, out);
    }
}

impl Dispatch {
    /// Hands a message to one member of a group, wherever it lives.
    pub(in crate::shard) fn share_out(
        &mut self,
        now: Instant,
        offering: &mut Offering<'_>,
        group: GroupId,
        topic_hash: u64,
        out: &mut Outbox,
    ) {
        let publisher = offering.parts.publisher;
        let wish = self.shares.choose(group, topic_hash, publisher);
        match self.shares.is_own(wish) {
            true => self.share_here(now, offering, group, Some(wish.session), 0, out),
            false => self.post_share(offering, group, wish, 0, out),
        }
    }

    /// Hands a message to a member of this shard, or to one of another shard if there is a better
    /// one.
    pub(in crate::shard) fn share_here(
        &mut self,
        now: Instant,
        offering: &mut Offering<'_>,
        group: GroupId,
        wish: Option<SessionId>,
        hops: u8,
        out: &mut Outbox,
    ) {
        let sessions = &self.sessions;
        let inflight = |id| sessions.get(id).map_or(0, |session| session.window.open());
        match self.shares.place(group, wish, hops, inflight) {
            Place::Here(local) => self.offer_shared(now, offering, &local, out),
            Place::Away(local) => {
                let qos = min(local.qos, offering.parts.qos);
                let session = self.sessions.get(local.session);
                // Nobody is better off than a client that is there, with a full queue.
                let is_there = session.is_some_and(|session| session.link.is_some());
                if is_there || (self.limits.share_queued_while_away && qos > QoS::AtMostOnce) {
                    self.offer_shared(now, offering, &local, out);
                } else {
                    self.note_drop(now, DropReason::NoMember, offering.parts.topic, out);
                }
            }
            Place::There(wish) => self.post_share(offering, group, wish, hops + 1, out),
            Place::Nowhere => self.note_drop(now, DropReason::NoMember, offering.parts.topic, out),
        }
    }

    fn offer_shared(
        &mut self,
        now: Instant,
        offering: &mut Offering<'_>,
        local: &Local,
        out: &mut Outbox,
    ) {
        let topic = offering.parts.topic;
        if !self.may_receive(local.session, topic) {
            // Its membership is about to end: other rules came, and the review has not come by.
            self.drop_for(now, local.session, DropReason::Denied, topic, out);
            return;
        }
        let terms = Terms {
            rules: self.rules,
            qos: min(local.qos, offering.parts.qos),
            retain: local.retain_as_published && offering.parts.retain,
            cause: Cause::Shared(&local.grounds),
        };
        self.offer_on(now, offering, local.session, terms, out);
        self.note_standing(local.session);
    }

    fn post_share(
        &mut self,
        offering: &mut Offering<'_>,
        group: GroupId,
        wish: Wish,
        hops: u8,
        out: &mut Outbox,
    ) {
        self.metrics.forwards_sent += 1;
        let share = Share {
            message: offering.share().clone(),
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
