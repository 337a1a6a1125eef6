//! What is noted for traces: packets, and what is decided about messages.
//!
//! Nothing here changes what happens. Who is not traced comes by with one test in each place.
//!
//! Not here: the traces (`sys/traces.rs`), how they begin and end (`asked/traces.rs`).

use std::net::SocketAddr;
use std::time::Duration;

use super::Shard;
use super::delivery::dispatch::Dispatch;
use super::delivery::guard::who_is;
use super::mail::end::End;
use super::mail::trace::{DeliveryStep, Traced, TracedMessage, TracedPacket, TracedPublish};
use super::on_publish::PublishNote;
use super::sys::records::TOPIC_SIZE_MAX;
use crate::auth::Action;
use crate::codec::{
    self, Direction, Frame, FrameRules, Framer, Packet, Publish, PublishRun, QoS, Version,
};
use crate::connection::{Connection, Output};
use crate::ids::{ConnId, SessionId};
use crate::loss::{Bound, Loss};
use crate::refusal::Refusal;
use crate::session::{Delivery, Session};
use crate::stages::Stage;
use crate::time::Instant;
use crate::trace_set::TraceSet;

impl Dispatch {
    /// The traces of a topic.
    pub(in crate::shard) fn traces_of(&self, topic: &[u8]) -> TraceSet {
        let traces = self.traces.as_ref();
        traces.map_or(TraceSet::default(), |traces| traces.of_topic(topic))
    }

    /// Notes what has become of a message for a subscriber. `of`: the traces of its topic.
    #[inline]
    pub(in crate::shard) fn trace_delivery(
        &mut self,
        to: SessionId,
        of: TraceSet,
        what: (&[u8], QoS),
        step: DeliveryStep,
    ) {
        if self.traces.is_some() {
            self.trace_step(to, of, what, step);
        }
    }

    /// Notes that a message has been sent, perhaps one that has waited.
    #[inline]
    pub(in crate::shard) fn trace_given(
        &mut self,
        to: SessionId,
        has_waited: bool,
        delivery: &Delivery,
    ) {
        if self.traces.is_some() {
            let topic = delivery.message.topic();
            let step = match has_waited {
                true => DeliveryStep::SentFromQueue,
                false => DeliveryStep::Sent(1),
            };
            let of = self.traces_of(topic);
            self.trace_step(to, of, (topic, delivery.qos), step);
        }
    }

    #[cold]
    fn trace_step(
        &mut self,
        to: SessionId,
        of: TraceSet,
        (topic, qos): (&[u8], QoS),
        step: DeliveryStep,
    ) {
        let (Some(traces), Some(session)) = (&mut self.traces, self.sessions.get(to)) else {
            return;
        };
        let set = session.traced.with(of);
        if set.is_any() {
            let topic = cut(topic);
            let what = Traced::Delivery { topic, qos, step };
            traces.push(set, who(session), what);
        }
    }

    /// Notes what a client does not get, or something refused to it. `None`: nobody in particular.
    pub(in crate::shard) fn trace_loss(
        &mut self,
        of: Option<SessionId>,
        loss: Loss,
        topic: &[u8],
        bound: Option<Bound>,
    ) {
        let Some(traces) = &mut self.traces else {
            return;
        };
        let session = of.and_then(|id| self.sessions.get(id));
        let set = session.map_or(TraceSet::default(), |session| session.traced);
        let set = set.with(traces.of_topic(topic));
        if set.is_any() {
            let what = Traced::Delivery {
                topic: cut(topic),
                qos: QoS::AtMostOnce,
                step: DeliveryStep::Lost(loss, bound),
            };
            traces.push(set, session.map_or(("", None), who), what);
        }
    }

    /// Records how long something of a client took, and notes it.
    #[inline]
    pub(in crate::shard) fn note_stage(
        &mut self,
        id: SessionId,
        stage: Stage,
        (since, until): (Instant, Instant),
    ) {
        self.stages.record(stage, since, until);
        if self.traces.is_some() {
            self.trace_stage(id, stage, until.saturating_since(since));
        }
    }

    #[cold]
    fn trace_stage(&mut self, id: SessionId, stage: Stage, took: Duration) {
        if let (Some(traces), Some(session)) = (&mut self.traces, self.sessions.get(id)) {
            traces.push_stage(session.traced, who(session), (stage, took));
        }
    }

    /// Notes something about a client.
    pub(in crate::shard) fn trace_client(&mut self, id: SessionId, what: Traced) {
        if let (Some(traces), Some(session)) = (&mut self.traces, self.sessions.get(id)) {
            traces.push(session.traced, who(session), what);
        }
    }

    /// Notes that a connection is not let in.
    pub(in crate::shard) fn trace_stranger(
        &mut self,
        client_id: &str,
        peer: Option<SocketAddr>,
        refusal: Refusal,
    ) {
        if let Some(traces) = &mut self.traces {
            let set = traces.of_client(client_id, peer);
            traces.push(set, (client_id, peer), Traced::Refused(refusal));
        }
    }
}

impl Shard {
    /// The shell has seen how long something took, of a connection or, if of none, a turn. For
    /// traces: it records such things itself.
    #[inline]
    pub fn trace_stage(&mut self, of: Option<ConnId>, stage: Stage, span: (Instant, Instant)) {
        if self.dispatch.traces.is_some() {
            self.trace_stage_of(of, stage, span);
        }
    }

    #[cold]
    fn trace_stage_of(
        &mut self,
        of: Option<ConnId>,
        stage: Stage,
        (since, until): (Instant, Instant),
    ) {
        let took = until.saturating_since(since);
        let traces = self.dispatch.traces.as_mut();
        let traces = traces.expect("there are some");
        traces.now = until;
        match of {
            None => traces.push_turn(took),
            Some(conn) => {
                if let Some(Connection::Open(id)) = self.connections.get(conn) {
                    self.dispatch.trace_stage(*id, stage, took);
                }
            }
        }
    }

    /// A client has connected or gone: which traces are of it.
    pub(super) fn find_traces_of(&mut self, id: SessionId) {
        let Some(session) = self.dispatch.sessions.get_mut(id) else {
            return;
        };
        let peer = session.link.as_ref().and_then(|link| link.peer);
        let traces = self.dispatch.traces.as_ref();
        session.traced = traces.map_or(TraceSet::default(), |traces| {
            traces.of_client(&session.client_id, peer)
        });
    }

    /// Notes that a connection ends, and what is still sent on it.
    pub(super) fn trace_end(&mut self, id: SessionId, end: End) {
        let session = self.session(id);
        let version = session.version;
        let is_told = !matches!(end, End::Lost(_));
        if is_told && let Some(link) = &session.link {
            let pending = link.egress.pending_bytes();
            self.trace_bytes(id, version, Direction::FromServer, &pending);
        }
        self.dispatch.trace_client(id, Traced::Ended(end.name()));
    }

    /// Notes a packet of a client.
    pub(super) fn trace_frame(
        &mut self,
        id: SessionId,
        version: Version,
        direction: Direction,
        frame: &Frame<'_>,
    ) {
        let dispatch = &mut self.dispatch;
        let (Some(traces), Some(session)) = (&mut dispatch.traces, dispatch.sessions.get(id))
        else {
            return;
        };
        if !session.traced.is_any() {
            return;
        }
        let payload_max = traces.payload_max(session.traced);
        // What cannot be read ends the connection, and that is noted.
        if let Ok(packet) = codec::decode(frame, version, direction) {
            let packet = traced_packet(&packet, frame.raw.len(), payload_max);
            traces.push(
                session.traced,
                who(session),
                Traced::Packet(direction, packet),
            );
        }
    }

    /// Notes the packets of a run.
    pub(super) fn trace_run(&mut self, id: SessionId, run: &PublishRun<'_>) {
        let session = self.session(id);
        let version = session.version;
        if !session.traced.is_any() {
            return;
        }
        self.trace_bytes(id, version, Direction::FromClient, run.bytes);
    }

    /// Notes what leaves for a client.
    pub(super) fn trace_output(&mut self, id: SessionId, output: &Output) {
        let version = self.session(id).version;
        match output {
            Output::One(bytes) => self.trace_bytes(id, version, Direction::FromServer, bytes),
            Output::Many(chunks) => {
                let slices: Vec<&[u8]> = chunks.iter().map(|chunk| chunk.as_slice()).collect();
                self.trace_bytes(id, version, Direction::FromServer, &slices.concat());
            }
        }
    }

    /// Notes packets: whole ones, one behind the other.
    pub(super) fn trace_bytes(
        &mut self,
        id: SessionId,
        version: Version,
        direction: Direction,
        mut bytes: &[u8],
    ) {
        let rules = FrameRules {
            version: Some(version),
            size_max: u32::MAX,
            direction,
        };
        let mut framer = Framer::default();
        while let Ok(Some(frame)) = framer.next(&mut bytes, &rules) {
            self.trace_frame(id, version, direction, &frame);
        }
    }

    /// Notes what a client has published, or wanted to. `of`: the traces of the topic, as far as it was accepted.
    #[inline]
    pub(super) fn trace_published(
        &mut self,
        id: SessionId,
        note: &PublishNote<'_>,
        of: TraceSet,
        payload: &[u8],
    ) {
        if self.dispatch.traces.is_some() {
            self.trace_publish(id, note, of, payload);
        }
    }

    fn trace_publish(
        &mut self,
        id: SessionId,
        note: &PublishNote<'_>,
        of: TraceSet,
        payload: &[u8],
    ) {
        let of = match note.refused {
            None => of,
            Some(_) => self.dispatch.traces_of(note.topic),
        };
        let set = of.with(self.session(id).traced);
        if !set.is_any() {
            return;
        }
        let (subscribers, groups, shards) = self.reach(note);
        let dispatch = &mut self.dispatch;
        let (Some(traces), Some(session)) = (&mut dispatch.traces, dispatch.sessions.get(id))
        else {
            return;
        };
        let is_denied = note.refused == Some(Refusal::PublishDenied);
        let acl = dispatch.access.acl.as_deref().filter(|_| is_denied);
        let denied_by = acl.and_then(|acl| {
            let checked = acl.check(who_is(session), Action::Publish, note.topic);
            checked.err()?.map(|rule| rule.to_string().into())
        });
        let message = TracedMessage {
            topic: cut(note.topic),
            topic_alias: None,
            qos: note.qos,
            retain: note.retain,
            dup: false,
            payload_size: note.payload_size,
            payload: beginning(payload, traces.payload_max(set)),
        };
        let what = Traced::Published(TracedPublish {
            message,
            count: note.count,
            refused: note.refused,
            denied_by,
            subscribers,
            groups,
            shards,
        });
        traces.push(set, who(session), what);
    }

    /// How many subscribers, groups and other shards a message goes to.
    fn reach(&mut self, note: &PublishNote<'_>) -> (usize, usize, usize) {
        let hash = self.routes.hash(note.topic);
        let routes = match note.refused {
            None => self.find_routes(note.topic, hash).ok(),
            Some(_) => None,
        };
        let Some(routes) = routes else {
            return (0, 0, 0);
        };
        let own = self.config.id;
        let others = routes.shards.iter().filter(|id| *id != own).count();
        let reach = (routes.routes.len(), routes.groups.len(), others);
        self.routes.put(hash, routes);
        reach
    }
}

fn who(session: &Session) -> (&str, Option<SocketAddr>) {
    let peer = session.link.as_ref().and_then(|link| link.peer);
    (&session.client_id, peer)
}

fn cut(topic: &[u8]) -> Box<[u8]> {
    beginning(topic, TOPIC_SIZE_MAX)
}

fn beginning(bytes: &[u8], size_max: usize) -> Box<[u8]> {
    bytes[..bytes.len().min(size_max)].into()
}

/// What is told of a packet.
fn traced_packet(packet: &Packet<'_>, size: usize, payload_max: usize) -> TracedPacket {
    const LIST_SIZE_MAX: usize = TracedPacket::LIST_SIZE_MAX;
    let mut traced = TracedPacket {
        kind: packet.kind(),
        size,
        packet_id: None,
        reasons: Vec::new(),
        filters: Vec::new(),
        message: None,
    };
    match packet {
        Packet::Publish(publish) => {
            traced.packet_id = publish.packet_id;
            traced.message = Some(message_of(publish, payload_max));
        }
        Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubrel(ack) | Packet::Pubcomp(ack) => {
            traced.packet_id = Some(ack.packet_id);
            traced.reasons.push(ack.reason);
        }
        Packet::Subscribe(subscribe) => {
            traced.packet_id = Some(subscribe.packet_id);
            let filters = subscribe.filters.iter().take(LIST_SIZE_MAX);
            let filter = |filter: &str| filter.chars().take(TOPIC_SIZE_MAX).collect::<String>();
            traced.filters = filters.map(|s| filter(s.filter).into()).collect();
        }
        Packet::Unsubscribe(unsubscribe) => {
            traced.packet_id = Some(unsubscribe.packet_id);
            let filters = unsubscribe.filters.iter().take(LIST_SIZE_MAX);
            let filter = |filter: &str| filter.chars().take(TOPIC_SIZE_MAX).collect::<String>();
            traced.filters = filters.map(|s| filter(s).into()).collect();
        }
        Packet::Suback(suback) => {
            traced.packet_id = Some(suback.packet_id);
            traced.reasons = suback.reasons.iter().take(LIST_SIZE_MAX).collect();
        }
        Packet::Unsuback(unsuback) => {
            traced.packet_id = Some(unsuback.packet_id);
            traced.reasons = unsuback.reasons.iter().take(LIST_SIZE_MAX).collect();
        }
        Packet::Connack(connack) => traced.reasons.push(connack.reason),
        Packet::Disconnect(disconnect) => traced.reasons.push(disconnect.reason),
        Packet::Auth(auth) => traced.reasons.push(auth.reason),
        Packet::Connect(_) | Packet::Pingreq | Packet::Pingresp => {}
    }
    traced
}

fn message_of(publish: &Publish<'_>, payload_max: usize) -> TracedMessage {
    TracedMessage {
        topic: cut(publish.topic),
        topic_alias: publish.properties.topic_alias,
        qos: publish.qos,
        retain: publish.retain,
        dup: publish.dup,
        payload_size: publish.payload.len(),
        payload: beginning(publish.payload, payload_max),
    }
}
