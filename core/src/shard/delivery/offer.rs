//! A message offered to a session: sent, queued or dropped.
//!
//! A fan-out encodes a packet once per variant (version, with or without packet identifier) and
//! copies it to each subscriber. A QoS 0 message is never allocated: it is encoded from the packet it
//! came in, or from the parcel of another shard.
//!
//! Invariants:
//! - a QoS 1 or 2 message is sent only if nothing is queued before it in the session, so that order
//!   is kept on every path [MQTT-4.6.0-5].
//! - the unsent bytes of a socket stay below `unsent_bytes_max` plus one packet.
//! - what can wait (retained and queued messages, QoS 1 and 2) is sent only while less than a quarter of
//!   that is unsent.
//!
//! Not here: who gets a message (`routes.rs`), what is noted of a loss (`losses.rs`), retained snapshots (`session/gather.rs`).

use super::answer::note_taken;
use super::dispatch::DeliveryOptions;
use super::dispatch::Dispatch;
use super::dispatch::Matched;
use super::dispatch::Outgoing;
use super::dispatch::is_ready;
use super::dispatch::is_slow;
use std::cmp::min;
use std::num::NonZeroU32;

use crate::codec;
use crate::codec::QoS;
use crate::ids::{PacketId, SessionId};
use crate::loss::DropReason;
use crate::message::Message;
use crate::origin::Reached;
use crate::session::{Delivery, GivenUp, PubrelDue, Session, Window};
use crate::shard::mail::outbox::Outbox;
use crate::shard::mail::trace::DeliveryStep;
use crate::shard::mail::turn::Turn;
use crate::topic::Route;

impl Dispatch {
    /// Hands a message to subscribers of this shard: those that `routes` names, with the list `ids` that was
    /// filled with them.
    pub fn deliver_local(
        &mut self,
        outgoing: &mut Outgoing<'_>,
        routes: &[Route],
        ids: &[NonZeroU32],
        turn: &mut Turn<'_>,
    ) {
        self.begin();
        let reached = outgoing.reached();
        for route in routes {
            if let Some(reached) = &reached
                && self.has_reached(reached, route.session())
            {
                self.note_retained(outgoing, route.session());
                continue;
            }
            self.offer(outgoing, route, ids, turn);
        }
        self.journal.end_message(&outgoing.parts, outgoing.origin());
    }

    fn has_reached(&self, reached: &Reached, session: SessionId) -> bool {
        let no = self.sessions.get(session).and_then(|session| session.no);
        no.is_some_and(|no| reached.sessions.contains(&no))
    }

    /// A session has a message already: what is retained is not to send it an older one.
    fn note_retained(&mut self, outgoing: &mut Outgoing<'_>, session: SessionId) {
        let session = self.sessions.get_mut(session);
        if outgoing.parts.retain
            && let Some(feed) = session.and_then(|session| session.feed.as_mut())
        {
            feed.note_live(outgoing.share(), &mut self.gathers);
        }
    }

    /// Before the first delivery of another message.
    pub fn begin(&mut self) {
        self.encodings.reset();
    }

    fn offer(
        &mut self,
        outgoing: &mut Outgoing<'_>,
        route: &Route,
        ids: &[NonZeroU32],
        turn: &mut Turn<'_>,
    ) {
        let session = self
            .sessions
            .get_mut(route.session())
            .expect("only live sessions have subscriptions");
        let granted = if session.key == outgoing.parts.publisher {
            match route.delivery_to_publisher(ids) {
                Some(granted) => granted,
                None => return, // [MQTT-3.8.3-3] all of its subscriptions are No Local.
            }
        } else {
            route.delivery(ids)
        };
        let options = DeliveryOptions {
            qos: min(granted.qos, outgoing.parts.qos),
            // [MQTT-3.3.1-12] [MQTT-3.3.1-13]
            retain: granted.retain_as_published && outgoing.parts.retain,
            matched: Matched::Own(granted.ids),
            rules: self.rules,
        };
        if outgoing.parts.retain
            && let Some(feed) = &mut session.feed
        {
            feed.note_live(outgoing.share(), &mut self.gathers);
        }
        let is_member = session.memberships.is_some();
        self.offer_on(outgoing, route.session(), options, turn);
        if is_member {
            self.note_standing(route.session());
        }
    }

    /// Sends a message to a live session, or keeps it until that can be, or drops it. Afterwards the
    /// groups of the session have to hear how it stands.
    pub(in crate::shard) fn offer_on(
        &mut self,
        outgoing: &mut Outgoing<'_>,
        to: SessionId,
        options: DeliveryOptions<'_>,
        turn: &mut Turn<'_>,
    ) {
        let session = self
            .sessions
            .get(to)
            .expect("the caller knows a live session");
        let Some(link) = &session.link else {
            if options.qos > QoS::AtMostOnce {
                self.enqueue(outgoing, to, options, turn);
            }
            return;
        };
        if options.qos == QoS::AtMostOnce {
            if is_slow(link, &self.pool, &self.limits) {
                let topic = outgoing.parts.topic;
                self.drop_for(to, DropReason::SlowSocket, topic, turn);
                return;
            }
        } else if !is_ready(session, link, &self.pool, &self.limits)
            || (self.held.is_full(&self.limits) && session.outlives_connection())
        {
            self.enqueue(outgoing, to, options, turn);
            return;
        }
        self.send(outgoing, to, options, turn);
    }

    /// Appends a message to the queue of a session, or drops it; which costs no allocation. What has
    /// expired in a full queue makes room.
    fn enqueue(
        &mut self,
        outgoing: &mut Outgoing<'_>,
        to: SessionId,
        options: DeliveryOptions<'_>,
        turn: &mut Turn<'_>,
    ) {
        let size = Message::size_of(&outgoing.parts) as u64;
        let mut full = self.lacks_room(to, size);
        if full.is_some() {
            self.drop_expired(to, turn);
            full = self.lacks_room(to, size);
        }
        if let Some(reason) = full {
            self.drop_for(to, reason, outgoing.parts.topic, turn);
            return;
        }
        let session = self.sessions.get_mut(to).expect("offer looked it up");
        let no = session.queue.push(options.delivery(outgoing));
        note_taken(
            &mut self.journal,
            (session.no, &mut session.taken_in),
            no,
            (options.qos, options.retain),
            || options.matched.kept(),
        );
        self.held.queued_messages += 1;
        self.held.queued_bytes += size;
        let step = DeliveryStep::Queued(session.queue.len() - 1);
        let what = (outgoing.parts.topic, options.qos);
        self.trace_delivery(to, outgoing.traced, what, step);
    }

    /// Why a message of `size` bytes cannot wait for a session.
    pub(in crate::shard) fn lacks_room(&self, of: SessionId, size: u64) -> Option<DropReason> {
        let queue = &self.sessions.get(of).expect("offer looked it up").queue;
        let limits = &*self.limits;
        if !queue.has_room(size, limits.queued_messages_max, limits.queued_bytes_max) {
            Some(DropReason::QueueFull)
        } else if self.held.is_full(limits) {
            Some(DropReason::ShardFull)
        } else {
            None
        }
    }

    /// Drops what has expired in the queue of a session.
    fn drop_expired(&mut self, of: SessionId, turn: &mut Turn<'_>) {
        let session = self.sessions.get_mut(of).expect("offer looked it up");
        for (no, delivery) in session.queue.take_expired(turn.now) {
            self.note_settled(of, no);
            self.held.dequeue(&delivery.message);
            let topic = delivery.message.topic();
            self.drop_for(of, DropReason::Expired, topic, turn);
        }
    }

    /// Changes the window of a session in a way that may settle exchanges.
    pub fn settle<T>(&mut self, session: SessionId, change: impl FnOnce(&mut Window) -> T) -> T {
        let session = self.sessions.get_mut(session);
        let window = &mut session.expect("the caller knows a live session").window;
        let before = window.bytes();
        let result = change(window);
        self.held.inflight_bytes -= before - window.bytes();
        self.window_rooms.take_back(window);
        result
    }

    /// Forgets what a session that has ended held.
    pub fn release(&mut self, session: &Session) {
        self.held.queued_messages -= session.queue.len() as u64;
        self.held.queued_bytes -= session.queue.bytes();
        self.held.inflight_bytes -= session.window.bytes();
    }

    /// A message that was sent on an earlier connection is not sent again.
    pub(in crate::shard) fn give_up(
        &mut self,
        to: SessionId,
        id: PacketId,
        delivery: &Delivery,
        why: DropReason,
        turn: &mut Turn<'_>,
    ) {
        match self.settle(to, |window| window.give_up(id)) {
            GivenUp::Settled(no) => self.note_settled(to, no),
            GivenUp::Released(no) => {
                let is_repeated = false;
                let due = PubrelDue { no, is_repeated };
                self.release_delivery(to, id, due, turn.out);
            }
        }
        self.drop_for(to, why, delivery.message.topic(), turn);
    }

    pub(in crate::shard) fn send_pubrel(&mut self, to: SessionId, id: PacketId, out: &mut Outbox) {
        self.metrics.controls_sent += 1;
        let link = self.sessions.link_mut(to);
        let encode = |buffer: &mut Vec<u8>| codec::encode_pubrel(buffer, id);
        link.write(&mut self.pool, &mut out.dirty, encode);
    }
}
