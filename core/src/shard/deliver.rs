//! From a message and its routes to bytes on connections.
//!
//! A fan-out encodes a packet once per variant (version, with or without packet identifier) and
//! copies it to each subscriber. A QoS 0 message is never allocated: it is encoded from the packet it
//! came in, or from the parcel of another shard.
//!
//! Invariants:
//! - a QoS 1 or 2 message is sent only if nothing waits before it in the session, so that order
//!   is kept on every path [MQTT-4.6.0-5].
//! - the bytes that wait for one socket stay below `unsent_bytes_max` plus one packet.
//! - what can wait (retained and queued messages, QoS 1 and 2) is sent only while a quarter of that waits.
//!
//! Not here: who gets a message (`routes.rs`), retained snapshots (`gather.rs`).

use std::cmp::min;
use std::num::NonZeroU32;
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::encodings::{Encodings, publish_parts};
use super::gather::Gathers;
use super::metrics::{DropReason, Metrics};
use super::outbox::Outbox;
use super::records::{Loss, Records, Subject};
use super::refusal::Refusal;
use super::run::RunScratch;
use super::share::Shares;
use crate::auth::Access;
use crate::codec::{self, PublishHead, PublishParts, QoS, Version};
use crate::connection::BufferPool;
use crate::ids::{PacketId, SessionId};
use crate::limits::Limits;
use crate::message::{Message, MessageParts};
use crate::session::{
    AliasUse, Delivery, Grounds, Link, OutboundAliases, Resend, Session, Sessions, Window,
    WindowRooms,
};
use crate::time::Instant;
use crate::topic::Route;

/// The sessions of a shard and what it takes to send to them.
#[derive(Debug)]
pub struct Dispatch {
    pub limits: Arc<Limits>,
    pub sessions: Sessions,
    pub gathers: Gathers,
    pub pool: BufferPool,
    pub metrics: Metrics,
    pub records: Records,
    pub shares: Shares,
    pub held: Held,
    window_rooms: WindowRooms,
    /// Who may connect, and what they may do.
    pub access: Arc<Access>,
    /// Counts the times that `access` was replaced.
    pub rules: u32,
    encodings: Encodings,
    pub(super) runs: RunScratch,
    /// Keys tables whose keys clients choose.
    pub hasher: FixedState,
}

/// What the sessions of a shard keep for their clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Messages in queues.
    pub queued_messages: u64,
    /// Memory of those. A message that waits for several clients counts for each.
    pub queued_bytes: u64,
    /// Memory of the messages that are in flight and kept.
    pub inflight_bytes: u64,
}

impl Held {
    /// A message has left a queue.
    fn dequeue(&mut self, message: &Message) {
        self.queued_messages -= 1;
        self.queued_bytes -= message.size() as u64;
    }

    /// It is as much as may be.
    pub fn is_full(&self, limits: &Limits) -> bool {
        self.queued_bytes + self.inflight_bytes >= limits.total_queued_bytes_max
            || self.queued_messages >= u64::from(limits.total_queued_messages_max)
    }
}

/// A message being delivered: borrowed from its packet until somebody has to keep it.
#[derive(Debug)]
pub struct Offering<'a> {
    pub parts: MessageParts<'a>,
    shared: Option<Arc<Message>>,
}

impl<'a> Offering<'a> {
    /// Of a packet that is being handled.
    pub fn new(parts: MessageParts<'a>) -> Offering<'a> {
        Offering {
            parts,
            shared: None,
        }
    }

    /// Of a message that is shared already.
    pub fn of(message: &'a Arc<Message>) -> Offering<'a> {
        Offering {
            parts: message.parts(),
            shared: Some(message.clone()),
        }
    }

    /// The message to keep; the first call makes the one copy.
    pub fn share(&mut self) -> &Arc<Message> {
        self.shared
            .get_or_insert_with(|| Arc::new(Message::new(self.parts)))
    }
}

/// How one subscriber gets a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    pub qos: QoS,
    pub retain: bool,
    pub cause: Cause<'a>,
    /// The generation of the rules.
    pub rules: u32,
}

/// Why one subscriber gets a message.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cause<'a> {
    /// Subscriptions of its own, with these identifiers.
    Own(&'a [NonZeroU32]),
    /// A shared subscription chose it.
    Shared(&'a Arc<Grounds>),
}

impl Cause<'_> {
    fn ids(&self) -> &[NonZeroU32] {
        match self {
            Cause::Own(ids) => ids,
            Cause::Shared(grounds) => &grounds.subscription_ids,
        }
    }

    /// To keep beside the message.
    fn grounds(&self) -> Option<Arc<Grounds>> {
        match *self {
            Cause::Own([]) => None,
            Cause::Own(ids) => Some(Arc::new(Grounds {
                subscription_ids: ids.into(),
                share: None,
            })),
            Cause::Shared(grounds) => Some(grounds.clone()),
        }
    }
}

impl Terms<'_> {
    fn delivery(&self, offering: &mut Offering<'_>) -> Delivery {
        Delivery {
            message: offering.share().clone(),
            qos: self.qos,
            retain: self.retain,
            grounds: self.cause.grounds(),
            rules: self.rules,
        }
    }
}

impl Dispatch {
    /// No sessions yet.
    pub fn new(
        limits: Arc<Limits>,
        sessions: Sessions,
        shares: Shares,
        access: Arc<Access>,
        others: usize,
        seed: u64,
    ) -> Dispatch {
        Dispatch {
            access,
            rules: 0,
            limits,
            sessions,
            gathers: Gathers::new(others, seed),
            pool: BufferPool::new(),
            metrics: Metrics::default(),
            records: Records::default(),
            shares,
            held: Held::default(),
            window_rooms: WindowRooms::default(),
            encodings: Encodings::default(),
            runs: RunScratch::default(),
            hasher: FixedState::with_seed(seed),
        }
    }

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
    pub(super) fn offer_on(
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

    /// Sends at once: the session is connected and has room.
    fn send(
        &mut self,
        now: Instant,
        offering: &mut Offering<'_>,
        to: SessionId,
        terms: Terms<'_>,
        out: &mut Outbox,
    ) {
        let session = self.sessions.get_mut(to).expect("offer looked it up");
        let version = session.version;
        let parts = offering.parts;
        let link = session.link.as_ref().expect("offer saw a link");
        // A client with aliases gets an encoding of its own, which costs the message its copy.
        let is_plain = terms.cause.ids().is_empty()
            && parts.payload.len() < SHARED_PAYLOAD_SIZE_MIN
            && link.alias_out_max == 0;
        if !is_plain {
            self.send_delivery(now, to, terms.delivery(offering), out);
            return;
        }
        let Session {
            link,
            window,
            expiry,
            ..
        } = session;
        let link = link.as_mut().expect("offer saw a link");
        let encoded = self.encodings.get(now, version, terms.qos, &parts);
        if encoded.bytes.len() > link.packet_size_max as usize {
            self.drop_for(now, to, DropReason::PacketTooLarge, parts.topic, out);
            return;
        }
        let id = (terms.qos > QoS::AtMostOnce).then(|| {
            // Whoever shares the subscription gets it if this session ends without having it.
            let is_kept = *expiry != crate::session::Expiry::WithConnection
                || matches!(terms.cause, Cause::Shared(_));
            let kept = is_kept.then(|| terms.delivery(offering));
            if is_kept {
                self.held.inflight_bytes += Message::size_of(&parts) as u64;
            }
            self.window_rooms.lend(window);
            window.push(terms.qos, kept)
        });
        self.metrics.sent(terms.qos, parts.payload.len());
        link.write(&mut self.pool, out, |buffer| {
            let at = buffer.len();
            buffer.extend_from_slice(&encoded.bytes);
            buffer[at] = PublishHead {
                dup: false,
                qos: terms.qos,
                retain: terms.retain,
            }
            .first_byte();
            if let Some(id) = id {
                let id_at = at + encoded.packet_id_at;
                buffer[id_at..id_at + 2].copy_from_slice(&id.get().to_be_bytes());
            }
        });
    }

    /// Sends one delivery to a connected session with room, in its own encoding. Drops it, counted,
    /// if the client does not take packets of its size.
    pub fn send_delivery(
        &mut self,
        now: Instant,
        to: SessionId,
        delivery: Delivery,
        out: &mut Outbox,
    ) {
        let session = self.sessions.get_mut(to).expect("the caller looked it up");
        let is_kept = session.outlives_connection() || delivery.share().is_some();
        let version = session.version;
        let link = session.link.as_mut().expect("the caller saw a link");
        let message_parts = delivery.message.parts();
        let parts = publish_parts(now, &message_parts, delivery.subscription_ids());
        // [MQTT-3.1.2-25] Dropped as if it had been sent.
        let Some(parts) = link.admit(version, delivery.qos, parts, &self.hasher) else {
            let topic = delivery.message.topic();
            self.drop_for(now, to, DropReason::PacketTooLarge, topic, out);
            return;
        };
        let mut id = None;
        if delivery.qos > QoS::AtMostOnce {
            if is_kept {
                self.held.inflight_bytes += delivery.message.size() as u64;
            }
            self.window_rooms.lend(&mut session.window);
            id = Some(
                session
                    .window
                    .push(delivery.qos, is_kept.then(|| delivery.clone())),
            );
        }
        self.metrics
            .sent(delivery.qos, delivery.message.parts().payload.len());
        let sending = Sending {
            version,
            delivery: &delivery,
            parts,
            id,
            dup: false,
        };
        sending.write(link, &mut self.pool, out);
    }

    /// Sends what a session is owed, as far as its client takes it: first what an earlier
    /// connection left open, then the queue, then retained messages.
    pub fn pump(&mut self, now: Instant, to: SessionId, out: &mut Outbox) {
        let Some(session) = self.sessions.get(to) else {
            return;
        };
        // Asked with every acknowledgement; mostly there is neither.
        let is_member = session.memberships.is_some();
        if session.is_owed() {
            self.pump_out(now, to, out);
        }
        if is_member {
            self.note_standing(to);
        }
    }

    fn pump_out(&mut self, now: Instant, to: SessionId, out: &mut Outbox) {
        while let Some(session) = self.sessions.get_mut(to) {
            let Some(link) = &mut session.link else {
                return;
            };
            if is_busy(link, &self.pool, &self.limits) {
                return; // SendProgress calls again.
            }
            if let Some(resend) = session.window.next_resend(link.receive_maximum) {
                self.resend(now, to, resend, out);
                continue;
            }
            if session.window.has_resends() {
                return;
            }
            let has_room = session
                .window
                .has_room(link.receive_maximum, self.limits.inflight_bytes_max);
            // The queue goes before retained messages: what waits there on a topic is not later than
            // the snapshot, or else it has voided it.
            if has_room && let Some(delivery) = session.queue.pop() {
                self.held.dequeue(&delivery.message);
                if delivery.message.expires_at.is_some_and(|at| at <= now) {
                    // [MQTT-3.3.2-5]
                    let topic = delivery.message.topic();
                    self.drop_for(now, to, DropReason::Expired, topic, out);
                } else if self.may_still_have(now, to, &delivery, out) {
                    self.send_delivery(now, to, delivery, out);
                }
                continue;
            }
            let Some(mut delivery) = self.gathers.next(now, has_room, &mut session.feed) else {
                return;
            };
            // Nothing is missed that was never to be had: no drop.
            if self.may_have_retained(to, &delivery.message) {
                delivery.rules = self.rules;
                self.send_delivery(now, to, delivery, out);
            }
        }
    }

    /// Whether the rules let a client have what waited for it. If not, that is counted.
    fn may_still_have(
        &mut self,
        now: Instant,
        to: SessionId,
        delivery: &Delivery,
        out: &mut Outbox,
    ) -> bool {
        let topic = delivery.message.topic();
        let may = delivery.rules == self.rules || self.may_receive(to, topic);
        if !may {
            self.drop_for(now, to, DropReason::Denied, topic, out);
        }
        may
    }

    fn resend(&mut self, now: Instant, to: SessionId, resend: Resend, out: &mut Outbox) {
        match resend {
            Resend::Pubrel(id) => self.send_pubrel(to, id, out),
            Resend::Publish(id, delivery)
                if delivery.rules != self.rules
                    && !self.may_receive(to, delivery.message.topic()) =>
            {
                self.give_up(now, to, id, &delivery, DropReason::Denied, out);
            }
            Resend::Publish(id, delivery) => {
                let session = self.sessions.get_mut(to).expect("pump looked it up");
                let version = session.version;
                let link = session.link.as_mut().expect("pump saw a link");
                let message_parts = delivery.message.parts();
                let parts = publish_parts(now, &message_parts, delivery.subscription_ids());
                let Some(parts) = link.admit(version, delivery.qos, parts, &self.hasher) else {
                    self.give_up(now, to, id, &delivery, DropReason::PacketTooLarge, out);
                    return;
                };
                self.metrics
                    .sent(delivery.qos, delivery.message.parts().payload.len());
                let sending = Sending {
                    version,
                    delivery: &delivery,
                    parts,
                    id: Some(id),
                    dup: true,
                };
                sending.write(link, &mut self.pool, out);
            }
        }
    }

    /// A message that was sent on an earlier connection is not sent again.
    fn give_up(
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

    fn send_pubrel(&mut self, to: SessionId, id: PacketId, out: &mut Outbox) {
        self.metrics.controls_sent += 1;
        let link = self.sessions.link_mut(to);
        let encode = |buffer: &mut Vec<u8>| codec::encode_pubrel(buffer, id);
        link.write(&mut self.pool, out, encode);
    }
}

/// Whether a message of QoS 1 or 2 for a connected session can go out at once: nothing waits before it.
pub(super) fn is_ready(session: &Session, link: &Link, pool: &BufferPool, limits: &Limits) -> bool {
    session.queue.is_empty()
        && !session.window.has_resends()
        && session
            .window
            .has_room(link.receive_maximum, limits.inflight_bytes_max)
        && !is_busy(link, pool, limits)
}

/// Whether what can wait has to: so much waits for the socket of a client, or for those of the shard
/// together, that the rest of what may is left to messages that cannot wait. A client that keeps up with
/// these loses none of them while it is given retained or queued ones.
fn is_busy(link: &Link, pool: &BufferPool, limits: &Limits) -> bool {
    let bytes = link.egress.unsent_bytes();
    bytes > limits.unsent_bytes_max / UNSENT_SHARE_OF_WAITING
        || (bytes > UNSENT_SIZE_SMALL && pool.unsent.bytes > limits.total_unsent_bytes_max / 2)
}

/// Whether a client takes its messages too slowly: so much waits for its socket, or a good deal while
/// too much waits for those of the shard together.
fn is_slow(link: &Link, pool: &BufferPool, limits: &Limits) -> bool {
    let bytes = link.egress.unsent_bytes();
    bytes > limits.unsent_bytes_max
        || (bytes > UNSENT_SIZE_SMALL && pool.unsent.bytes > limits.total_unsent_bytes_max)
}

impl Link {
    /// Appends what `encode` writes to the output of the connection.
    pub(super) fn write(
        &mut self,
        pool: &mut BufferPool,
        out: &mut Outbox,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        self.write_packets(pool, out, 1, encode);
    }

    /// Appends what `encode` writes, which is so many packets, to the output of the connection.
    pub(super) fn write_packets(
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
    pub(super) fn write_reasoned(
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
    fn admit<'a>(
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

/// One PUBLISH on its way to one client.
struct Sending<'a> {
    version: Version,
    delivery: &'a Delivery,
    /// Of `delivery`, as the client takes them.
    parts: PublishParts<'a>,
    id: Option<PacketId>,
    dup: bool,
}

impl Sending<'_> {
    fn write(&self, link: &mut Link, pool: &mut BufferPool, out: &mut Outbox) {
        let head = PublishHead {
            dup: self.dup,
            qos: self.delivery.qos,
            retain: self.delivery.retain,
        };
        let id = self.id.map_or(0, PacketId::get);
        if self.parts.payload.len() < SHARED_PAYLOAD_SIZE_MIN {
            link.write(pool, out, |buffer| {
                codec::encode_publish(self.version, head, id, &self.parts, buffer);
            });
            return;
        }
        link.write(pool, out, |buffer| {
            codec::encode_publish_without_payload(self.version, head, id, &self.parts, buffer);
        });
        let payload = self.delivery.message.payload();
        if link.egress.push_shared(payload, &mut pool.unsent) {
            out.dirty.push(link.conn);
        }
    }
}

/// What can wait takes a quarter of what may wait for a socket: by default that and one packet of the
/// largest size leave a quarter for others.
const UNSENT_SHARE_OF_WAITING: u32 = 4;

/// A connection to which no more waits to be sent is never slow because of others.
const UNSENT_SIZE_SMALL: u32 = 64 * 1024;

/// A payload of this size or more is not copied to each subscriber but sent from where it is: a
/// gathering send costs more than a plain one, and at 16 KiB the copy costs more than that.
const SHARED_PAYLOAD_SIZE_MIN: usize = 16 * 1024;
