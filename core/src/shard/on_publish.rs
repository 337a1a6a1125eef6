//! PUBLISH: from a packet to all its subscribers.

use std::sync::Arc;
use std::time::Duration;

use super::Shard;
use super::delivery::dispatch::Outgoing;
use super::delivery::routes;
use super::delivery::routes::CachedRoutes;
use super::mail::findings::Traffic;
use super::mail::message::ShardMsg;
use super::mail::note::Note;
use super::mail::outbox::Outbox;
use super::mail::parcel::Parcel;
use super::mail::turn::Turn;
use super::sys::records::TOPIC_SIZE_MAX;
use crate::codec::{AckKind, DecodeError, Publish, QoS, ReasonCode, Version};
use crate::ids::{ClientKey, PacketId, SessionId};
use crate::loss::DropReason;
use crate::message::{Message, MessageParts};
use crate::origin::{Exchange, Origin, Reached};
use crate::refusal::{Refusal, Violation};
use crate::store::Record;
use crate::topic::TopicError;
use crate::trace_set::TraceSet;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// Handed to every subscriber that there is.
    Delivered,
    /// No shard has a subscriber.
    NoSubscribers,
    /// Clients may not publish on this topic.
    Reserved,
    /// The rules do not let the client publish on this topic.
    Denied,
    /// The retained store is full; subscribers got the message.
    RetainedFull,
    /// The disk is almost full.
    DiskFull,
}

/// What the log says of a PUBLISH, or of a run of them.
pub(super) struct PublishNote<'a> {
    pub(super) topic: &'a [u8],
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) payload_size: usize,
    pub(super) count: u32,
    pub(super) refused: Option<Refusal>,
}

impl Shard {
    pub(super) fn on_publish(
        &mut self,
        id: SessionId,
        publish: &Publish<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Violation> {
        self.count_publish(publish);
        self.check_offer(publish)?;
        let publisher = self.count_received(id, publish.qos, (1, publish.payload.len()));
        if let Some(alias) = publish.properties.topic_alias {
            self.set_alias(id, alias, publish.topic)?;
        }
        if publish.qos == QoS::ExactlyOnce && self.is_repetition(id, publish)? {
            // [MQTT-4.3.3-10] Acknowledged again, not published again.
            self.acknowledge(id, publish, None, Ok(ReasonCode::Success), turn.out);
            return Ok(());
        }
        if !self.accepts_payload(publish.properties.payload_format, publish.payload) {
            return self.refuse_payload(id, publish, turn);
        }
        // Out of the link while the message borrows its topic.
        let mut aliases = None;
        let (topic, hash) = match publish.properties.topic_alias {
            None => (publish.topic, self.routes.hash(publish.topic)),
            Some(alias) => {
                aliases = self.link(id).aliases.take();
                let topic = aliases.as_deref().and_then(|aliases| aliases.get(alias));
                let topic = topic.ok_or(Refusal::TopicAliasUnset)?;
                (&*topic.name, topic.hash)
            }
        };
        self.note_topic(id, hash);
        let lacks_space = self.lacks_space_for(id, hash, publish, topic);
        self.check_can_be_told(id, lacks_space)?;
        let retain = self.retains(id, publish, topic, turn);
        let author = self.author_of(id, retain);
        let properties = self.forwarded_properties(publish);
        let lifetime_s = publish.properties.message_expiry_s;
        let parts = MessageParts {
            topic,
            properties: &properties,
            payload: publish.payload,
            qos: publish.qos,
            retain,
            expires_at: lifetime_s.map(|s| turn.now + Duration::from_secs(u64::from(s))),
            publisher,
            author: author.as_ref(),
        };
        let mut outgoing = Outgoing::new(parts, turn.now);
        let published = if lacks_space {
            Ok(Published::DiskFull)
        } else {
            outgoing.exchange = self.exchange_of(id, publish);
            self.publish(hash, id, &mut outgoing, turn)
        };
        let origin = outgoing.origin();
        let published = published.map(outcome_of);
        if let Ok(outcome) = published {
            let of = outgoing.traced;
            self.note_outcome(id, publish, (topic, of), outcome, turn);
        }
        self.properties = properties;
        if aliases.is_some() {
            self.link(id).aliases = aliases;
        }
        // [MQTT-3.3.2-2] [MQTT-1.5.4-1]
        let outcome = published.map_err(topic_violation)?;
        self.acknowledge(id, publish, origin, outcome, turn.out);
        Ok(())
    }

    /// Counts messages that a client has sent, with the bytes of their payloads, and gives who it is.
    pub(super) fn count_received(
        &mut self,
        id: SessionId,
        qos: QoS,
        (count, payload_bytes): (u32, usize),
    ) -> ClientKey {
        let session = self.session(id);
        if let Some(link) = &mut session.link {
            link.counts.received += u64::from(count);
            link.counts.payload_bytes += payload_bytes as u64;
            if let Some(of) = (qos as usize).checked_sub(1) {
                let acknowledged = &mut link.counts.acknowledged[of];
                *acknowledged = acknowledged.wrapping_add(count);
            }
        }
        session.key
    }

    /// Notes on which topic a client published last.
    pub(super) fn note_topic(&mut self, id: SessionId, hash: u64) {
        if let Some(link) = &mut self.session(id).link {
            link.counts.topic = hash;
        }
    }

    /// Notes what has become of a PUBLISH; `of`: the traces of its topic.
    fn note_outcome(
        &mut self,
        id: SessionId,
        publish: &Publish<'_>,
        (topic, of): (&[u8], TraceSet),
        outcome: Result<ReasonCode, Refusal>,
        turn: &mut Turn<'_>,
    ) {
        if let Err(refusal) = outcome {
            self.dispatch.note_refusal(id, refusal, topic, turn);
        }
        let note = PublishNote {
            topic,
            qos: publish.qos,
            retain: publish.retain,
            payload_size: publish.payload.len(),
            count: 1,
            refused: outcome.err(),
        };
        self.note_published(id, &note, turn.out);
        self.trace_published(id, &note, of, publish.payload);
    }

    /// For the log.
    pub(super) fn note_published(&self, id: SessionId, note: &PublishNote<'_>, out: &mut Outbox) {
        if !out.notes.wanted.packets {
            return;
        }
        let session = self.dispatch.sessions.get(id);
        let session = session.expect("the publisher is live");
        out.notes.push(Note::Published {
            client_id: session.client_id.clone(),
            topic: note.topic[..note.topic.len().min(TOPIC_SIZE_MAX)].into(),
            qos: note.qos,
            retain: note.retain,
            payload_size: note.payload_size,
            count: note.count,
            refused: note.refused,
        });
    }

    /// The properties that subscribers get, in the buffer that `self.properties` keeps; it goes back there after use.
    fn forwarded_properties(&mut self, publish: &Publish<'_>) -> Vec<u8> {
        let mut properties = std::mem::take(&mut self.properties);
        properties.clear();
        publish.properties.write_forwarded(&mut properties);
        properties
    }

    fn count_publish(&mut self, publish: &Publish<'_>) {
        let metrics = &mut self.dispatch.metrics;
        metrics.publishes_received[publish.qos as usize] += 1;
        metrics.payload_bytes_received += publish.payload.len() as u64;
        self.dispatch.sizes.record(publish.payload.len(), 1);
    }

    /// Refuses a payload that is not what its Payload Format Indicator says.
    fn refuse_payload(
        &mut self,
        id: SessionId,
        publish: &Publish<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Violation> {
        let refusal = Refusal::PayloadFormat;
        // QoS 0 has no other answer, and a message that vanishes tells its sender nothing.
        if publish.qos == QoS::AtMostOnce {
            return Err(refusal.into());
        }
        self.dispatch.note_refusal(id, refusal, publish.topic, turn);
        self.acknowledge(id, publish, None, Err(refusal), turn.out);
        Ok(())
    }

    /// Refuses what CONNACK did not offer: the client was told, so it breaks the protocol.
    fn check_offer(&self, publish: &Publish<'_>) -> Result<(), Violation> {
        let limits = &self.config.limits;
        if publish.qos > limits.qos_max {
            return Err(Refusal::Qos.into()); // [MQTT-3.2.2-11]
        }
        if publish.retain && !limits.retain_available {
            return Err(Refusal::Retain.into()); // [MQTT-3.2.2-14]
        }
        if publish.properties.user_properties.count() > limits.user_properties_max {
            return Err(Refusal::UserProperties.into());
        }
        Ok(())
    }

    /// Whether a payload is what its Payload Format Indicator says, if that is to be looked at.
    pub(super) fn accepts_payload(&self, claims_utf8: Option<bool>, payload: &[u8]) -> bool {
        !self.config.limits.payload_format_checked
            || claims_utf8 != Some(true)
            || std::str::from_utf8(payload).is_ok()
    }

    /// Whether a QoS 2 identifier was received before.
    fn is_repetition(&mut self, id: SessionId, publish: &Publish<'_>) -> Result<bool, Violation> {
        let receive_maximum = if self.config.limits.receive_maximum_enforced {
            usize::from(self.config.limits.receive_maximum)
        } else {
            usize::from(u16::MAX)
        };
        let packet_id = publish
            .packet_id
            .expect("the codec gives QoS 2 an identifier");
        let may_forget = self.dispatch.journal.may_forget();
        let session = self.session(id);
        // PUBREL may be what was lost: this is a new message then, or it would be marked as a repetition.
        let is_doubtful = may_forget && !publish.dup && !session.receipts.is_open(packet_id);
        if session.receipts.contains(packet_id) && !is_doubtful {
            return Ok(true);
        }
        // [MQTT-3.3.4-7] MQTT 3.1.1 clients have not been told a maximum.
        if session.version == Version::V5 && session.receipts.open() >= receive_maximum {
            return Err(Refusal::ReceiveMaximum.into());
        }
        Ok(false)
    }

    /// What makes a QoS 2 message come once over any crash: if it goes to other shards, or was under way in one.
    fn exchange_of(&mut self, id: SessionId, publish: &Publish<'_>) -> Option<Arc<Exchange>> {
        if publish.qos != QoS::ExactlyOnce {
            return None;
        }
        let has_others = self.config.shards > 1;
        let packet_id = publish.packet_id?;
        let session = self.session(id);
        let no = session.no?;
        let origin = |ticket| Origin {
            no,
            id: packet_id,
            ticket,
        };
        let (ticket, reached) = match session.receipts.partial(packet_id) {
            Some(partial) if publish.dup => (partial.ticket, Some(partial.reached.clone())),
            Some(partial) => {
                // Its client has forgotten the exchange, so nothing is left to be repeated.
                let ended = origin(partial.ticket);
                session.receipts.end_partial(packet_id);
                let next = session.receipts.take_ticket();
                let journal = &mut self.dispatch.journal;
                journal.record(&Record::Spread(ended));
                journal.record(&Record::Released { no, id: packet_id });
                (next, None)
            }
            None if has_others => (session.receipts.take_ticket(), None),
            None => return None,
        };
        let origin = origin(ticket);
        Some(Arc::new(Exchange { origin, reached }))
    }

    /// Sets the alias of a PUBLISH that names its topic [MQTT-3.3.2-8] [MQTT-3.3.2-12].
    fn set_alias(&mut self, id: SessionId, alias: u16, topic: &[u8]) -> Result<(), Violation> {
        if alias > self.config.limits.topic_alias_max {
            return Err(Refusal::TopicAlias.into()); // [MQTT-3.3.2-9]
        }
        if topic.is_empty() {
            return Ok(());
        }
        // Only topic names are kept: finding the routes checks that it is one.
        let hash = self.routes.hash(topic);
        let routes = self.find_routes(topic, hash).map_err(topic_violation)?;
        self.routes.put(hash, routes);
        self.link(id)
            .aliases
            .get_or_insert_default()
            .set(alias, topic, hash);
        Ok(())
    }

    /// Takes the routes of a topic out of the cache, or finds them; they go back after use.
    ///
    /// # Errors
    /// The bytes are not a topic name.
    pub(super) fn find_routes(
        &mut self,
        topic: &[u8],
        hash: u64,
    ) -> Result<Box<CachedRoutes>, TopicError> {
        let shares = &self.dispatch.shares;
        let interest = &self.config.interest;
        let guard = self.dispatch.guard();
        self.routes
            .take(topic, hash, &self.index, interest, shares, guard)
    }

    /// Hands a message of a client of this shard to all subscribers and to the retained store, if the
    /// client may publish it.
    ///
    /// # Errors
    /// The topic is not a topic name; nothing was done.
    pub(super) fn publish(
        &mut self,
        hash: u64,
        publisher: SessionId,
        outgoing: &mut Outgoing<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<Published, TopicError> {
        let topic = outgoing.parts.topic;
        let mut routes = self.find_routes(topic, hash)?;
        if routes.reserved && !routes::is_state_of(&self.session(publisher).client_id, topic) {
            self.routes.put(hash, routes);
            return Ok(Published::Reserved);
        }
        if !self.may_publish(publisher, topic, &mut routes) {
            self.routes.put(hash, routes);
            return Ok(Published::Denied);
        }
        let traffic = Traffic {
            messages: 1,
            bytes: outgoing.parts.payload.len() as u64,
        };
        self.routes.count(&mut routes, turn.now, traffic);
        Ok(self.publish_along(hash, routes, outgoing, turn))
    }

    /// Hands a message to the subscribers that `routes` names, and to the retained store; gives the
    /// routes back.
    pub(super) fn publish_along(
        &mut self,
        hash: u64,
        routes: Box<CachedRoutes>,
        outgoing: &mut Outgoing<'_>,
        turn: &mut Turn<'_>,
    ) -> Published {
        outgoing.traced = routes.traced;
        let mut published = if routes.routes.is_empty() && routes.groups.is_empty() {
            Published::NoSubscribers
        } else {
            Published::Delivered
        };
        if outgoing.parts.expires_at.is_some_and(|at| at <= turn.now) {
            // [MQTT-3.3.2-5] An interval of 0 is over at once, for subscribers of every shard.
            // Without a subscriber nobody misses it.
            if published == Published::Delivered || !routes.shards.is_empty() {
                let topic = outgoing.parts.topic;
                self.dispatch.note_drop(DropReason::Expired, topic, turn);
            }
        } else {
            self.dispatch
                .deliver_local(outgoing, &routes.routes, &routes.ids, turn);
            let reached = outgoing.reached();
            // A member may live anywhere, and may give the message to another one.
            outgoing.may_be_recorded = !routes.durable.is_empty();
            for &group in &routes.groups {
                let has_it = |reached: &Arc<Reached>| {
                    let filter = self.dispatch.shares.filter(group);
                    reached.groups.contains(filter)
                };
                if reached.as_ref().is_some_and(has_it) {
                    continue;
                }
                self.dispatch.share_out(outgoing, group, hash, turn);
            }
            for shard in routes.shards.iter().filter(|&id| id != self.config.id) {
                published = Published::Delivered;
                self.dispatch.metrics.forwards_sent += 1;
                if outgoing.parts.qos > QoS::AtMostOnce && routes.durable.contains(shard) {
                    self.dispatch.journal.note_posted(shard);
                }
                if outgoing.exchange.is_none() && Parcel::suits(&outgoing.parts) {
                    turn.out.forward(shard, &outgoing.parts);
                } else {
                    let exchange = outgoing.exchange.clone();
                    let message = outgoing.share().clone();
                    turn.out.post(shard, ShardMsg::Forward(message, exchange));
                }
            }
        }
        self.routes.put(hash, routes);
        // After the forwards: rule 1 of gather.rs.
        if outgoing.parts.retain && !self.retain(outgoing, turn) {
            published = Published::RetainedFull;
        }
        published
    }

    /// Hands a retained message to the shard that keeps its topic. False if it is kept nowhere.
    fn retain(&mut self, outgoing: &mut Outgoing<'_>, turn: &mut Turn<'_>) -> bool {
        let owner = self.home.of_topic(outgoing.parts.topic);
        let message = outgoing.share().clone();
        let exchange = outgoing.exchange.clone();
        if owner != self.config.id {
            self.dispatch.journal.note_posted(owner);
            turn.out.post(owner, ShardMsg::Retain(message, exchange));
            return true;
        }
        self.keep_retained(message, exchange.as_deref(), turn)
    }

    /// Stores, replaces or deletes a retained message of a topic of this shard [MQTT-3.3.1-5].
    pub(super) fn keep_retained(
        &mut self,
        message: Arc<Message>,
        exchange: Option<&Exchange>,
        turn: &mut Turn<'_>,
    ) -> bool {
        let topic = message.topic();
        let is_stored = if message.parts().publisher == ClientKey::BROKER {
            self.retained.store_own(message.clone());
            true
        } else {
            let is_stored = self.retained.store(message.clone()).is_ok();
            if is_stored {
                self.record_retained(&message, exchange);
            }
            is_stored
        };
        if !is_stored {
            self.dispatch
                .note_drop(DropReason::RetainedFull, topic, turn);
        }
        self.set_retained_timer(turn.now);
        is_stored
    }

    fn record_retained(&mut self, message: &Message, exchange: Option<&Exchange>) {
        let parts = message.parts();
        let record = if parts.payload.is_empty() {
            Record::Unretained { topic: parts.topic }
        } else {
            Record::Retained(parts.into())
        };
        let journal = &mut self.dispatch.journal;
        journal.record(&record);
        if let Some(exchange) = exchange {
            journal.record(&Record::Kept(exchange.origin));
        }
    }

    /// Notes the identifier of a QoS 2 PUBLISH until PUBREL.
    fn note_receipt(&mut self, id: SessionId, packet_id: PacketId, origin: Option<Origin>) {
        let session = self.session(id);
        let is_new = session.receipts.insert(packet_id);
        session.receipts.end_partial(packet_id);
        if let Some(no) = session.no
            && is_new
        {
            self.dispatch.journal.record_receipt(no, packet_id, origin);
        }
    }

    /// PUBACK or PUBREC, as soon as what it promises is durable [MQTT-4.3.2-4] [MQTT-4.3.3-8].
    fn acknowledge(
        &mut self,
        id: SessionId,
        publish: &Publish<'_>,
        origin: Option<Origin>,
        outcome: Result<ReasonCode, Refusal>,
        out: &mut Outbox,
    ) {
        let Some(packet_id) = publish.packet_id else {
            return;
        };
        let kind = match publish.qos {
            QoS::AtMostOnce => return,
            QoS::AtLeastOnce => AckKind::Puback,
            QoS::ExactlyOnce => AckKind::Pubrec,
        };
        let outcome = match outcome {
            // The subscribers have it. A client that is refused, or does not hear of it, may send it
            // again, and they would get it twice [MQTT-4.3.3-10].
            Err(Refusal::RetainedFull) if kind == AckKind::Pubrec => Ok(ReasonCode::Success),
            outcome => outcome,
        };
        if kind == AckKind::Pubrec && outcome.is_ok() {
            self.note_receipt(id, packet_id, origin);
        }
        self.send_ack(id, kind, packet_id, outcome, out);
    }
}

fn outcome_of(published: Published) -> Result<ReasonCode, Refusal> {
    match published {
        Published::Delivered => Ok(ReasonCode::Success),
        Published::NoSubscribers => Ok(ReasonCode::NoMatchingSubscribers),
        Published::Reserved => Err(Refusal::ReservedTopic),
        Published::Denied => Err(Refusal::PublishDenied),
        Published::RetainedFull => Err(Refusal::RetainedFull),
        Published::DiskFull => Err(Refusal::DiskFull),
    }
}

fn topic_violation(error: TopicError) -> Violation {
    match error {
        TopicError::Malformed => DecodeError::IllFormedUtf8.into(),
        // Without an alias [MQTT-4.7.3-1].
        TopicError::Empty => DecodeError::TopicMissing.into(),
        TopicError::TooLong
        | TopicError::TooDeep
        | TopicError::TooManyWildcards
        | TopicError::MisplacedWildcard
        | TopicError::MalformedShare => Refusal::TopicName.into(),
    }
}
