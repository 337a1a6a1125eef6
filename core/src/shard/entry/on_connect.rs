//! A connection's way to its session: accept, CONNECT, handover, takeover, CONNACK.

use super::terms::cap_keep_alive;
use super::terms::packet_size_max;
use super::terms::wanted_expiry_s;
use super::terms::wants_problem_information;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashSet;

use crate::auth::PeerIdentity;
use crate::shard::mail::end::End;
use crate::shard::mail::outbox::{Close, Handover, Outbox};
use crate::shard::mail::turn::Turn;

use super::refuse::Stranger;
use crate::auth::Identity;
use crate::codec::{
    Connack, ConnackProperties, Connect, DecodeError, Direction, FrameRules, Framer, QoS,
    ReasonCode, Version, is_encodable,
};
use crate::connection::{AuthStep, AwaitConnect, Connection, Egress};
use crate::ids::{ConnId, SessionId};
use crate::limits::{Limits, Redirect};
use crate::message::{Author, Message, MessageParts};
use crate::rate::Pace;
use crate::refusal::Refusal;
use crate::session::{Expiry, Link, Pauses, Queue, Reauth, Receipts, Session, Will, Window};
use crate::shard::Shard;
use crate::shard::delivery::routes;
use crate::shard::timers::Timer;
use crate::time::Instant;
use crate::topic::{TopicLimits, TopicName};

/// Who sent a CONNECT.
pub struct Proven {
    /// Who it is.
    pub identity: Arc<Identity>,
    /// The authentication method of CONNECT; `None`: it named none.
    pub by: Option<ProvenBy>,
}

/// An authentication method by which somebody was let in.
pub struct ProvenBy {
    /// Its name.
    pub method: Arc<str>,
    /// What the method has to say at last.
    pub data: Vec<u8>,
}

/// What a CONNECT is granted; CONNACK tells what differs from the wish.
struct Grant {
    session_present: bool,
    assigned_client_id: Option<Box<str>>,
    /// Keep alive that holds, in seconds; 0 is "none".
    keep_alive_s: u16,
    /// Session Expiry Interval that holds, in seconds.
    session_expiry_s: u32,
    /// Where others may answer it, if it asked.
    response_information: Option<Box<str>>,
    /// Who the client is.
    proven: Proven,
}

impl Grant {
    fn of(connect: &Connect<'_>, limits: &Limits, proven: Proven) -> Grant {
        Grant {
            session_present: false,
            assigned_client_id: None,
            keep_alive_s: cap_keep_alive(connect.keep_alive, limits.keep_alive_max_s),
            session_expiry_s: wanted_expiry_s(connect).min(limits.session_expiry_max_s),
            response_information: None,
            proven,
        }
    }
}

impl Shard {
    pub(in crate::shard) fn on_accepted(
        &mut self,
        conn: ConnId,
        peer: PeerIdentity,
        since: Instant,
        out: &mut Outbox,
    ) {
        self.dispatch.metrics.connections += 1;
        self.connections.insert(
            conn,
            AwaitConnect {
                since,
                peer,
                unwelcome: None,
                framer: Framer::default(),
            },
        );
        let deadline = since + self.config.limits.connect_deadline;
        self.timers.set(deadline, Timer::Connect(conn));
        if self.is_shutting_down {
            self.leave_await(conn, Connection::Closing(Box::default()));
            out.closes.push(Close { conn, flush: false });
        }
    }

    pub(in crate::shard) fn on_identified(&mut self, conn: ConnId, peer: PeerIdentity) {
        if let Some(waiting) = self.awaiting(conn) {
            waiting.peer = peer;
        }
    }

    pub(in crate::shard) fn on_unwelcome(&mut self, conn: ConnId, refusal: Refusal) {
        if let Some(waiting) = self.awaiting(conn) {
            waiting.unwelcome = Some(refusal);
        }
    }

    /// A connection before its CONNECT, unless it was closed in the same turn.
    fn awaiting(&mut self, conn: ConnId) -> Option<&mut AwaitConnect> {
        match self.connections.get_mut(conn)? {
            Connection::AwaitConnect(waiting) => Some(waiting),
            Connection::Vacant
            | Connection::Authenticating(_)
            | Connection::Open(_)
            | Connection::Closing(_)
            | Connection::HandedOver => None,
        }
    }

    /// Bytes of a connection that has not sent its CONNECT whole.
    pub(in crate::shard) fn on_received_first(
        &mut self,
        conn: ConnId,
        mut bytes: &[u8],
        turn: &mut Turn<'_>,
    ) {
        let Some(Connection::AwaitConnect(waiting)) = self.connections.get_mut(conn) else {
            unreachable!("the caller saw the state");
        };
        let mut framer = std::mem::take(&mut waiting.framer);
        let unwelcome = waiting.unwelcome;
        let rules = self.connect_rules();
        self.release_partial(&framer);
        let frame = match framer.next(&mut bytes, &rules) {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                self.wait_on(conn, framer, turn);
                return;
            }
            Err(DecodeError::PacketTooLarge) => {
                self.refuse_too_large(conn, framer, bytes, turn);
                return;
            }
            Err(_) => {
                // [MQTT-3.1.0-1] [MQTT-3.1.4-6 (3.1.1: 3.1.4-1)] nothing is said to a stranger.
                self.dispatch.metrics.violations += 1;
                self.turn_away(conn, Refusal::ConnectMalformed, turn);
                return;
            }
        };
        match Connect::decode(&frame) {
            Err(error) => {
                let version = answer_version(error, frame.body);
                self.count_connect(frame.raw.len());
                self.refuse_malformed(conn, error, version, turn);
            }
            Ok(connect) => {
                if let Some(refusal) = unwelcome.or(self.redirection()) {
                    // Before it moves to its home: it is not to stay at all.
                    self.count_connect(frame.raw.len());
                    let stranger = Stranger::of(&connect);
                    self.refuse(conn, &stranger, refusal.into(), turn);
                    return;
                }
                let target = self.home.of_client(connect.client_id);
                if !connect.client_id.is_empty() && target != self.config.id {
                    let mut all = Vec::with_capacity(frame.raw.len() + bytes.len());
                    all.extend_from_slice(frame.raw);
                    all.extend_from_slice(bytes);
                    self.leave_await(conn, Connection::HandedOver);
                    self.dispatch.metrics.handovers += 1;
                    turn.out.handovers.push(Handover {
                        conn,
                        target,
                        bytes: all,
                    });
                    return;
                }
                self.count_connect(frame.raw.len());
                self.authenticate(conn, &connect, frame.raw, bytes, turn);
            }
        }
    }

    /// What all clients are told, if they are to go elsewhere.
    fn redirection(&self) -> Option<Refusal> {
        match self.config.limits.server_redirect {
            Redirect::WhenFull => None,
            Redirect::Temporarily => Some(Refusal::Redirected),
            Redirect::Permanently => Some(Refusal::Moved),
        }
    }

    /// What the first packet of a connection may be.
    pub(in crate::shard) fn connect_rules(&self) -> FrameRules {
        FrameRules {
            version: None,
            size_max: self.config.limits.connect_size_max,
            direction: Direction::FromClient,
        }
    }

    /// Counted here only, not where the connection came from.
    fn count_connect(&mut self, size: usize) {
        self.dispatch.metrics.packets_received += 1;
        self.dispatch.metrics.bytes_received += size as u64;
    }

    /// A CONNECT above `connect_size_max`. Whether it is answered depends on its version, which stands behind
    /// the header that told its size: it waits for that, and for no more.
    fn refuse_too_large(
        &mut self,
        conn: ConnId,
        mut framer: Framer,
        bytes: &[u8],
        turn: &mut Turn<'_>,
    ) {
        let body = framer.refused_body(bytes);
        if body.len() < BEGINNING_OF_V5.len() && BEGINNING_OF_V5.starts_with(body) {
            self.wait_on(conn, framer, turn);
            return;
        }
        let error = DecodeError::PacketTooLarge;
        let version = answer_version(error, body);
        self.dispatch.metrics.violations += 1;
        self.refuse_malformed(conn, error, version, turn);
    }

    /// The CONNECT has not arrived whole: keeps what there is of it.
    fn wait_on(&mut self, conn: ConnId, part: Framer, turn: &mut Turn<'_>) {
        if self.admit_partial(&part).is_err() {
            self.dispatch.metrics.connects_refused += 1;
            self.turn_away(conn, Refusal::PartialsFull, turn);
            return;
        }
        match self.connections.get_mut(conn) {
            Some(Connection::AwaitConnect(waiting)) => waiting.framer = part,
            Some(
                Connection::Vacant
                | Connection::Authenticating(_)
                | Connection::Open(_)
                | Connection::Closing(_)
                | Connection::HandedOver,
            )
            | None => unreachable!("the caller saw a waiting connection"),
        }
    }

    /// The time for a CONNECT and for the proof of who sent it is up. Who only waits for our answer is told
    /// so; who has something to say itself is closed without a word.
    pub(in crate::shard) fn on_connect_deadline(&mut self, conn: ConnId, turn: &mut Turn<'_>) {
        // The timer has just fired: it is put back for whoever ends the wait, and cancels it.
        let (since, is_ours_to_say) = match self.connections.get(conn) {
            Some(Connection::AwaitConnect(waiting)) => (waiting.since, false),
            Some(Connection::Authenticating(waiting)) => {
                let is_asked = matches!(waiting.step, AuthStep::Asked { .. });
                (waiting.since, is_asked)
            }
            Some(
                Connection::Vacant
                | Connection::Open(_)
                | Connection::Closing(_)
                | Connection::HandedOver,
            )
            | None => unreachable!("the timer goes with the wait"),
        };
        let deadline = since + self.config.limits.connect_deadline;
        self.timers.set(deadline, Timer::Connect(conn));
        match is_ours_to_say {
            true => self.refuse_waiting(conn, Refusal::AuthenticationDown.into(), turn),
            false => self.turn_away(conn, Refusal::ConnectDeadline, turn),
        }
    }

    /// Ends the wait for CONNECT, or for the proof of who sent it.
    pub(in crate::shard) fn leave_await(&mut self, conn: ConnId, next: Connection) {
        let (since, size) = match self.connections.replace(conn, next) {
            Connection::AwaitConnect(waiting) => (waiting.since, waiting.framer.memory_size()),
            Connection::Authenticating(waiting) => {
                let known = (waiting.since, waiting.held_size());
                waiting.egress.abandon(&mut self.dispatch.pool.unsent);
                known
            }
            Connection::Vacant
            | Connection::Open(_)
            | Connection::Closing(_)
            | Connection::HandedOver => unreachable!("the caller saw a waiting connection"),
        };
        let deadline = since + self.config.limits.connect_deadline;
        self.timers.cancel(deadline, Timer::Connect(conn));
        self.release(size);
    }

    /// What waits to be sent on a connection that is not open yet.
    pub(in crate::shard) fn take_early_egress(&mut self, conn: ConnId) -> Egress {
        match self.connections.get_mut(conn) {
            Some(Connection::Authenticating(waiting)) => std::mem::take(&mut waiting.egress),
            Some(
                Connection::Vacant
                | Connection::AwaitConnect(_)
                | Connection::Open(_)
                | Connection::Closing(_)
                | Connection::HandedOver,
            )
            | None => Egress::default(),
        }
    }

    /// A CONNECT takes effect: its sender is known, and `check_connect` has passed.
    pub(in crate::shard) fn on_connect(
        &mut self,
        conn: ConnId,
        connect: &Connect<'_>,
        proven: Proven,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        let mut grant = Grant::of(connect, &self.config.limits, proven);
        let client_id: Box<str> = if connect.client_id.is_empty() {
            let assigned = self.assign_client_id();
            grant.assigned_client_id = Some(assigned.clone());
            assigned
        } else {
            connect.client_id.into()
        };
        grant.response_information = self.response_information(connect, &client_id);
        if connect.properties.maximum_packet_size.is_some() {
            let mut buffer = Vec::new();
            self.connack(connect, &grant)
                .encode(connect.version, &mut buffer);
            if buffer.len() > packet_size_max(connect) as usize {
                return Err(Refusal::AnswerTooLarge); // [MQTT-3.1.2-24]
            }
        }
        let will = self.will_of(connect, &client_id, &grant.proven.identity)?;
        let id = self.session_for(connect, client_id, &mut grant, turn)?;
        // The same user, perhaps with another password or other rights.
        self.renew_identity(id, grant.proven.identity.clone(), turn.out);
        self.link_session(turn.now, conn, id, connect, will, &grant);
        self.dispatch.metrics.connects += 1;
        self.send_connack(id, connect, &grant, turn.out);
        self.dispatch.pump(id, turn);
        Ok(())
    }

    pub(in crate::shard) fn check_connect(&self, connect: &Connect<'_>) -> Result<(), Refusal> {
        let limits = &self.config.limits;
        if self.is_shutting_down {
            return Err(Refusal::ShuttingDown);
        }
        if connect.properties.user_properties.count() > limits.user_properties_max {
            return Err(Refusal::UserProperties);
        }
        if connect.client_id.len() > usize::from(limits.client_id_size_max) {
            return Err(Refusal::ClientId);
        }
        // [MQTT-3.1.3-8] (3.1.1); MQTT 3.1 has no empty identifier at all.
        let may_be_empty = match connect.version {
            Version::V31 => false,
            Version::V311 => connect.clean_start,
            Version::V5 => true,
        };
        if connect.client_id.is_empty() && !may_be_empty {
            return Err(Refusal::ClientId);
        }
        Ok(())
    }

    fn will_of(
        &self,
        connect: &Connect<'_>,
        client_id: &str,
        identity: &Identity,
    ) -> Result<Option<Box<Will>>, Refusal> {
        let Some(will) = &connect.will else {
            return Ok(None);
        };
        let offered = &self.config.limits;
        if will.qos > offered.qos_max {
            return Err(Refusal::Qos); // [MQTT-3.2.2-12]
        }
        if will.retain && !offered.retain_available {
            return Err(Refusal::Retain); // [MQTT-3.2.2-13]
        }
        if will.properties.user_properties.count() > offered.user_properties_max {
            return Err(Refusal::UserProperties);
        }
        let limits = TopicLimits::of(offered);
        // [MQTT-3.1.3-11]
        let topic = will.topic.as_bytes();
        if TopicName::parse(topic, &limits).is_err() {
            return Err(Refusal::WillTopic);
        }
        if routes::is_reserved(topic) && !routes::is_state_of(client_id, topic) {
            return Err(Refusal::ReservedTopic);
        }
        if !self.may_publish_as(identity, client_id, topic) {
            return Err(Refusal::WillDenied); // And once more when it is due (threat 69).
        }
        if !self.accepts_payload(will.properties.payload_format, will.payload) {
            return Err(Refusal::PayloadFormat);
        }
        let author = will.retain && self.dispatch.access.acl.is_some();
        let author = author.then(|| {
            Arc::new(Author {
                user: identity.user.clone(),
                client_id: client_id.into(),
                rules: identity.rules().cloned(),
            })
        });
        let mut properties = Vec::new();
        will.properties.write_forwarded(&mut properties);
        let message = Message::new(MessageParts {
            topic,
            properties: &properties,
            payload: will.payload,
            qos: will.qos,
            retain: will.retain,
            expires_at: None,
            publisher: self.home.client_key(client_id),
            author: author.as_ref(),
        });
        let delay = will.properties.delay_s.unwrap_or(0);
        Ok(Some(Box::new(Will {
            message: Arc::new(message),
            expiry_s: will.properties.message_expiry_s,
            delay: Duration::from_secs(u64::from(delay)),
        })))
    }

    /// Response Information, for a client that asks for it [MQTT-3.1.2-28].
    fn response_information(&self, connect: &Connect<'_>, client_id: &str) -> Option<Box<str>> {
        let wanted = connect.properties.request_response_information == Some(true);
        let pattern = Some(&*self.config.limits.response_information)
            .filter(|pattern| wanted && !pattern.is_empty())?;
        if !pattern.contains(CLIENT_ID_MARK) {
            return Some(pattern.into());
        }
        // With these in it, it would stand for topics that are not its own.
        let is_plain = !client_id.contains(['/', '+', '#']);
        let text = is_plain.then(|| pattern.replace(CLIENT_ID_MARK, client_id))?;
        // A long identifier may make it too long for a property.
        is_encodable(&text).then(|| text.into())
    }

    /// A name that no client has, whose home is here [MQTT-3.1.3-6].
    fn assign_client_id(&mut self) -> Box<str> {
        loop {
            let name = format!("auto-{:016x}", self.random.u64(..));
            let is_home = self.home.of_client(&name) == self.config.id;
            if is_home && self.dispatch.sessions.find(&name).is_none() {
                return name.into();
            }
        }
    }

    /// Takes over, resumes, replaces or creates the session of a client.
    fn session_for(
        &mut self,
        connect: &Connect<'_>,
        client_id: Box<str>,
        grant: &mut Grant,
        turn: &mut Turn<'_>,
    ) -> Result<SessionId, Refusal> {
        let identity = grant.proven.identity.clone();
        if let Some(id) = self.dispatch.sessions.find(&client_id) {
            let session = self.dispatch.sessions.get(id).expect("just found");
            if session.identity.user != identity.user {
                // Before anything is done to a session of somebody else (threats 61, 70).
                return Err(Refusal::OtherUser);
            }
            if session.link.is_some() {
                // [MQTT-3.1.4-3] (3.1.1: 3.1.4-2)
                self.dispatch.metrics.takeovers += 1;
                self.end_link(id, End::Refused(Refusal::TakenOver.into()), turn);
            }
        }
        if let Some(id) = self.dispatch.sessions.find(&client_id) {
            // Its timers may be due, but have not fired: this CONNECT came before that was certain, so the client is
            // back in time [MQTT-4.1.0-2] [MQTT-3.1.3-9].
            if !connect.clean_start {
                grant.session_present = true;
                return Ok(id); // [MQTT-3.1.2-5]
            }
            self.end_session(id, turn); // [MQTT-3.1.2-4]
        }
        if self.dispatch.sessions.len() >= self.config.limits.sessions_max as usize {
            return Err(Refusal::SessionsFull);
        }
        let key = self.home.client_key(&client_id);
        Ok(self.dispatch.sessions.insert(Session {
            client_id,
            key,
            identity,
            author: None,
            version: connect.version,
            expiry: Expiry::WithConnection,
            link: None,
            subscriptions: HashSet::with_hasher(self.dispatch.hasher.clone()),
            window: Window::default(),
            queue: Queue::default(),
            receipts: Receipts::default(),
            will: None,
            expires_at: None,
            will_at: None,
            feed: None,
            memberships: None,
        }))
    }

    fn link_session(
        &mut self,
        now: Instant,
        conn: ConnId,
        id: SessionId,
        connect: &Connect<'_>,
        will: Option<Box<Will>>,
        grant: &Grant,
    ) {
        let limits = self.config.limits.clone();
        let egress = self.take_early_egress(conn);
        self.leave_await(conn, Connection::Open(id));
        self.connected_count += 1;
        // [MQTT-3.1.2-22] One and a half times the keep alive.
        let silence_max = (grant.keep_alive_s > 0)
            .then(|| Duration::from_millis(u64::from(grant.keep_alive_s) * 1500));
        let stated = connect.properties.receive_maximum;
        let receive_maximum = stated.unwrap_or(limits.inflight_messages_max);
        let keep_alive_at = silence_max.map(|span| now + span);
        if let Some(at) = keep_alive_at {
            self.timers.set(at, Timer::KeepAlive(id));
        }
        let session = self
            .dispatch
            .sessions
            .get_mut(id)
            .expect("the session was made or found");
        if let Some(at) = session.expires_at.take() {
            self.timers.cancel(at, Timer::Expiry(id));
        }
        if let Some(at) = session.will_at.take() {
            self.timers.cancel(at, Timer::Will(id)); // [MQTT-3.1.3-9]
        }
        session.version = connect.version;
        session.expiry = Expiry::from_seconds(grant.session_expiry_s, u32::MAX);
        session.will = will;
        session.link = Some(Link {
            conn,
            is_bridge: connect.is_bridge,
            framer: Framer::default(),
            egress,
            silence_max,
            pauses: Pauses::default(),
            message_pace: Pace::default(),
            byte_pace: Pace::default(),
            paced_until: None,
            last_packet_at: now,
            keep_alive_at,
            receive_maximum,
            packet_size_max: packet_size_max(connect),
            problem_information: wants_problem_information(connect),
            connect_expiry_s: wanted_expiry_s(connect),
            expires_at: None,
            lease_at: None,
            lease_is_asked: false,
            reauth: grant.proven.by.as_ref().map(|by| Reauth::by(&by.method)),
            aliases: None,
            // [MQTT-3.1.2-27] Absent is 0.
            alias_out_max: connect
                .properties
                .topic_alias_maximum
                .unwrap_or(0)
                .min(limits.topic_alias_outbound_max),
            aliases_out: None,
        });
        self.set_ends_of(id, &grant.proven.identity);
    }

    fn send_connack(
        &mut self,
        id: SessionId,
        connect: &Connect<'_>,
        grant: &Grant,
        out: &mut Outbox,
    ) {
        let connack = self.connack(connect, grant);
        let session = self.dispatch.sessions.get_mut(id).expect("just linked");
        let link = session.link.as_mut().expect("just linked");
        self.dispatch.metrics.controls_sent += 1;
        link.write(&mut self.dispatch.pool, out, |buffer| {
            connack.encode(connect.version, buffer)
        });
    }

    fn connack<'a>(&self, connect: &Connect<'_>, grant: &'a Grant) -> Connack<'a> {
        let limits = &self.config.limits;
        let expiry_s = grant.session_expiry_s;
        let keep_alive_s = grant.keep_alive_s;
        let by = grant.proven.by.as_ref();
        Connack {
            session_present: grant.session_present,
            reason: ReasonCode::Success,
            properties: ConnackProperties {
                session_expiry_s: Some(expiry_s).filter(|&s| s != wanted_expiry_s(connect)),
                receive_maximum: Some(limits.receive_maximum).filter(|&max| max < u16::MAX),
                // [MQTT-3.2.2-9] Absent is 2.
                maximum_qos: Some(limits.qos_max).filter(|&qos| qos < QoS::ExactlyOnce),
                retain_available: Some(false).filter(|_| !limits.retain_available),
                maximum_packet_size: Some(limits.packet_size_max),
                assigned_client_id: grant.assigned_client_id.as_deref(),
                topic_alias_maximum: Some(limits.topic_alias_max).filter(|&max| max > 0),
                // Absent is "yes".
                wildcard_available: Some(false).filter(|_| !limits.wildcards_available),
                shared_available: Some(false).filter(|_| !limits.share_available),
                // [MQTT-3.2.2-21]
                server_keep_alive: Some(keep_alive_s).filter(|&s| s != connect.keep_alive),
                response_information: grant.response_information.as_deref(),
                // [MQTT-4.12.0-5] [MQTT-4.12.0-6]
                authentication_method: by.map(|by| &*by.method),
                authentication_data: by.map(|by| &*by.data).filter(|data| !data.is_empty()),
                ..ConnackProperties::default()
            },
        }
    }
}

/// The version in which a CONNECT that cannot be read is answered; `None`: not at all.
fn answer_version(error: DecodeError, body: &[u8]) -> Option<Version> {
    let says_v5 = body.starts_with(BEGINNING_OF_V5);
    error.connack_version().or(says_v5.then_some(Version::V5))
}

/// Name and level of the protocol, as a CONNECT of MQTT 5.0 has them.
const BEGINNING_OF_V5: &[u8] = b"\x00\x04MQTT\x05";
/// Stands for the client identifier in settings.
const CLIENT_ID_MARK: &str = "%c";
