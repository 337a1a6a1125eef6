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
//! Not here: who gets a message (`routes.rs`), retained snapshots (`retained/gather.rs`).

use super::dispatch::Cause;
use super::dispatch::Dispatch;
use super::dispatch::Offering;
use super::dispatch::Terms;
use super::dispatch::is_ready;
use super::dispatch::is_slow;
use std::cmp::min;
use std::num::NonZeroU32;

use foldhash::fast::FixedState;

use crate::codec;
use crate::codec::{PublishParts, QoS, Version};
use crate::connection::BufferPool;
use crate::ids::{PacketId, SessionId};
use crate::message::Message;
use crate::refusal::Refusal;
use crate::session::{AliasUse, Delivery, Link, OutboundAliases, Session, Window};
use crate::shard::mail::outbox::Outbox;
use crate::shard::mail::record::Loss;
use crate::shard::sys::metrics::DropReason;
use crate::shard::sys::records::Subject;
use crate::time::Instant;
use crate::topic::Route;

impl Dispatch {
    /// Counts a message that is lost to subscribers of any shard, and samples it.
    pub fn note_drop(&mut self, now: Instant, reason: DropReason, topic: &[u8], out: &mut Outbox) {
        self.metrics.drop(reason);
        let subject = Subject::of("", topic);
        self.records.note(now, Loss::Dropped(reason), subject, out);
    }

    /// Counts a message that a subscriber does not get, and samples it.
    pub fn drop_for(
        &mut self,
        now: Instant,
        to: SessionId,
        reason: DropReason,
        topic: &[u8],
        out: &mut Outbox,
    ) {
        self.metrics.drop(reason);
        self.sample(now, to, Loss::Dropped(reason), topic, out);
    }

    /// Counts what a client wanted and did not get, and samples it.
    pub fn note_refusal(
        &mut self,
        now: Instant,
        id: SessionId,
        refusal: Refusal,
        topic: &[u8],
        out: &mut Outbox,
    ) {
        self.metrics.refuse(refusal);
        self.sample(now, id, Loss::Refused(refusal), topic, out);
    }

    /// Samples what became of a message, with the name of the client.
    fn sample(&mut self, now: Instant, of: SessionId, loss: Loss, topic: &[u8], out: &mut Outbox) {
        let session = self.sessions.get(of);
        let client = session.map_or("", |session| &*session.client_id);
        self.records
            .note(now, loss, Subject::of(client, topic), out);
    }

    /// Hands a message to subscribers of this shard: those that `routes` names, with the list `ids` that was
    /// filled with them.
    pub fn deliver_local(
        &mut self,
        now: Instant,
        offering: &mut Offering<'_>,
        routes: &[Route],
        ids: &[NonZeroU32],
        out: &mut Outbox,
    ) {
        self.begin();
        for route in routes {
            self.offer(now, offering, route, ids, out);
        }
    }

    /// Before the first delivery of another message.
    pub fn begin(&mut self) {
        self.encodings.reset();
    }

    fn offer(
        &mut self,
        now: Instant,
        offering: &mut Offering<'_>,
        route: &Route,
        ids: &[NonZeroU32],
        out: &mut Outbox,
    ) {
        let session = self
            .sessions
            .get_mut(route.session())
            .expect("only live sessions have subscriptions");
        let terms = match session.key == offering.parts.publisher {
            false => route.delivery(ids),
            true => match route.delivery_to_publisher(ids) {
                Some(terms) => terms,
                None => return, // [MQTT-3.8.3-3] all of its subscriptions are No Local.
            },
        };
        let terms = Terms {
            qos: min(terms.qos, offering.parts.qos),
            // [MQTT-3.3.1-12] [MQTT-3.3.1-13]
            retain: terms.retain_as_published && offering.parts.retain,
            cause: Cause::Own(terms.ids),
            rules: self.rules,
        };
        if offering.parts.retain
            && let Some(feed) = &mut session.feed
        {
            feed.note_live(offering.share(), &mut self.gathers);
        }
        let is_member = session.memberships.is_some();
        self.offer_on(now, offering, route.session(), terms, out);
        if is_member {
            self.note_standing(route.session());
        }
    }

    /// Sends a message to a live session, or keeps it until that can be, or drops it. Afterwards the
    /// groups of the session have to hear how it stands.
    pub(in crate::shard) fn offer_on(
        &mut self,
        now: Instant,
        offering: &mut Offering<'_>,
        to: SessionId,
        terms: Terms<'_>,
        out: &mut Outbox,
    ) {
        let session = self
            .sessions
            .get(to)
            .expect("the caller knows a live session");
        let Some(link) = &session.link else {
            if terms.qos > QoS::AtMostOnce {
                self.enqueue(now, offering, to, terms, out);
            }
            return;
        };
        if terms.qos == QoS::AtMostOnce {
            if is_slow(link, &self.pool, &self.limits) {
                let topic = offering.parts.topic;
                self.drop_for(now, to, DropReason::SlowSocket, topic, out);
                return;
            }
        } else if !is_ready(session, link, &self.pool, &self.limits)
            || (self.held.is_full(&self.limits) && session.outlives_connection())
        {
            self.enqueue(now, offering, to, terms, out);
            return;
        }
        self.send(now, offering, to, terms, out);
    }

    /// Appends a message to the queue of a session, or drops it; which costs no allocation. What has
    /// expired in a full queue makes room.
    fn enqueue(
        &mut self,
        now: Instant,
        offering: &mut Offering<'_>,
        to: SessionId,
        terms: Terms<'_>,
        out: &mut Outbox,
    ) {
        let size = Message::size_of(&offering.parts) as u64;
        let mut full = self.lacks_room(to, size);
        if full.is_some() {
            self.drop_expired(now, to, out);
            full = self.lacks_room(to, size);
        }
        if let Some(reason) = full {
            self.drop_for(now, to, reason, offering.parts.topic, out);
            return;
        }
        let session = self.sessions.get_mut(to).expect("offer looked it up");
        session.queue.push(terms.delivery(offering));
        self.held.queued_messages += 1;
        self.held.queued_bytes += size;
    }

    /// Why a message of `size` bytes cannot wait for a session.
    fn lacks_room(&self, of: SessionId, size: u64) -> Option<DropReason> {
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
    fn drop_expired(&mut self, now: Instant, of: SessionId, out: &mut Outbox) {
        let session = self.sessions.get_mut(of).expect("offer looked it up");
        for delivery in session.queue.take_expired(now) {
            self.held.dequeue(&delivery.message);
            let topic = delivery.message.topic();
            self.drop_for(now, of, DropReason::Expired, topic, out);
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
        now: Instant,
        to: SessionId,
        id: PacketId,
        delivery: &Delivery,
        why: DropReason,
        out: &mut Outbox,
    ) {
        if self.settle(to, |window| window.give_up(id)) {
            self.send_pubrel(to, id, out);
        }
        self.drop_for(now, to, why, delivery.message.topic(), out);
    }

    pub(in crate::shard) fn send_pubrel(&mut self, to: SessionId, id: PacketId, out: &mut Outbox) {
        self.metrics.controls_sent += 1;
        let link = self.sessions.link_mut(to);
        let encode = |buffer: &mut Vec<u8>| codec::encode_pubrel(buffer, id);
        link.write(&mut self.pool, out, encode);
    }
}

impl Link {
    /// Appends what `encode` writes to the output of the connection.
    pub(in crate::shard) fn write(
        &mut self,
        pool: &mut BufferPool,
        out: &mut Outbox,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        self.write_packets(pool, out, 1, encode);
    }

    /// Appends what `encode` writes, which is so many packets, to the output of the connection.
    pub(in crate::shard) fn write_packets(
        &mut self,
        pool: &mut BufferPool,
        out: &mut Outbox,
        count: u32,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        let buffer = self.egress.buffer(pool);
        let before = buffer.len();
        encode(buffer);
        let size = buffer.len() - before;
        if self.egress.grew_by(count, size, &mut pool.unsent) {
            out.dirty.push(self.conn);
        }
    }

    /// Appends what `encode` writes, with a Reason String if the client wants it [MQTT-3.1.2-29] and
    /// takes the size of the packet with it.
    pub(in crate::shard) fn write_reasoned(
        &mut self,
        pool: &mut BufferPool,
        out: &mut Outbox,
        text: &str,
        encode: impl Fn(Option<&str>, &mut Vec<u8>),
    ) {
        let text = Some(text).filter(|_| self.problem_information);
        let size_max = self.packet_size_max as usize;
        self.write(pool, out, |buffer| {
            let before = buffer.len();
            encode(text, buffer);
            if text.is_some() && buffer.len() - before > size_max {
                buffer.truncate(before);
                encode(None, buffer);
            }
        });
    }

    /// Puts a topic alias into the parts of a PUBLISH if that is of use. `None` if the client does
    /// not take a packet of its size.
    pub(in crate::shard) fn admit<'a>(
        &mut self,
        version: Version,
        qos: QoS,
        mut parts: PublishParts<'a>,
        hasher: &FixedState,
    ) -> Option<PublishParts<'a>> {
        if self.alias_out_max > 0 {
            let max = self.alias_out_max;
            let aliases = self
                .aliases_out
                .get_or_insert_with(|| Box::new(OutboundAliases::new(max, hasher.clone())));
            match aliases.look_up(parts.topic) {
                AliasUse::None => {}
                AliasUse::Known(alias) => {
                    parts.topic = b"";
                    parts.topic_alias = Some(alias);
                }
                AliasUse::Introduce(alias) => {
                    let with_alias = PublishParts {
                        topic_alias: Some(alias),
                        ..parts
                    };
                    // Without the alias it may be just small enough.
                    if codec::publish_size(version, qos, &with_alias) <= self.packet_size_max {
                        aliases.introduce(parts.topic);
                        return Some(with_alias);
                    }
                }
            }
        }
        (codec::publish_size(version, qos, &parts) <= self.packet_size_max).then_some(parts)
    }
}
