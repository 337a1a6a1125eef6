//! A CONNECT takes effect: its session is found, taken over or made, and linked to the connection.
//!
//! Not here: the connection before that (`on_accepted.rs`, `authenticate.rs`), the answer (`connack.rs`).

use super::authenticate::Proven;
use super::connack::Grant;
use super::terms::packet_size_max;
use super::terms::wanted_expiry_s;
use super::terms::wants_problem_information;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashSet;

use crate::shard::mail::end::End;
use crate::shard::mail::note::{Arrival, Note, Party};
use crate::shard::mail::trace::Traced;
use crate::shard::mail::turn::Turn;

use crate::codec::{Connect, Framer, Version};
use crate::connection::Connection;
use crate::ids::{ConnId, SessionId, TurnSeq};
use crate::rate::Pace;
use crate::refusal::Refusal;
use crate::session::{
    Expiry, Link, LinkCounts, Losses, Pauses, Queue, Reauth, Receipts, Session, Will, Window,
};
use crate::shard::Shard;
use crate::shard::timers::Timer;
use crate::time::Instant;
use crate::trace_set::TraceSet;

impl Shard {
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
        let id = self.session_for(conn, connect, client_id, &mut grant, turn)?;
        // The same user, perhaps with another password or other rights.
        self.renew_identity(id, grant.proven.identity.clone(), turn.out);
        let had_will = self.session(id).will.is_some();
        let listener = self.connections.listener_of(conn);
        self.link_session(turn.now, conn, id, connect, will, &grant);
        self.note_arrival(conn, id, connect, listener, &grant, turn);
        self.trace_arrival(id, connect, &grant);
        self.record_connect(id, had_will);
        self.dispatch.metrics.connects += 1;
        self.send_connack(id, connect, &grant, turn.out);
        self.dispatch.pump(id, turn);
        Ok(())
    }

    /// For the log.
    fn note_arrival(
        &self,
        conn: ConnId,
        id: SessionId,
        connect: &Connect<'_>,
        listener: Option<Arc<str>>,
        grant: &Grant,
        turn: &mut Turn<'_>,
    ) {
        if !turn.out.notes.wanted.clients {
            return;
        }
        let session = self.dispatch.sessions.get(id).expect("it was just linked");
        let peer = session.link.as_ref().and_then(|link| link.peer);
        let arrival = Arrival {
            conn,
            party: Party::of(session, peer),
            listener,
            version: connect.version,
            clean: connect.clean_start,
            session_present: grant.session_present,
            keep_alive_s: grant.keep_alive_s,
        };
        turn.out.notes.push(Note::Connected(Box::new(arrival)));
    }

    fn trace_arrival(&mut self, id: SessionId, connect: &Connect<'_>, grant: &Grant) {
        if self.dispatch.traces.is_none() {
            return;
        }
        self.find_traces_of(id);
        let connected = Traced::Connected {
            version: connect.version,
            clean: connect.clean_start,
            session_present: grant.session_present,
            keep_alive_s: grant.keep_alive_s,
        };
        self.dispatch.trace_client(id, connected);
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
        conn: ConnId,
        connect: &Connect<'_>,
        client_id: Box<str>,
        grant: &mut Grant,
        turn: &mut Turn<'_>,
    ) -> Result<SessionId, Refusal> {
        let identity = grant.proven.identity.clone();
        self.check_space_for(connect, &client_id, grant.session_expiry_s)?;
        if let Some(id) = self.dispatch.sessions.find(&client_id) {
            self.end_what_was_over(id, turn);
        }
        if let Some(id) = self.dispatch.sessions.find(&client_id) {
            let session = self.dispatch.sessions.get(id).expect("just found");
            if session.identity.user != identity.user {
                // Before anything is done to a session of somebody else (threats 61, 70).
                return Err(Refusal::OtherUser);
            }
            if session.link.is_some() {
                // [MQTT-3.1.4-3] (3.1.1: 3.1.4-2)
                self.dispatch.metrics.takeovers += 1;
                let by = self.connections.peer_of(conn);
                self.end_link(id, End::TakenOver { by }, turn);
            }
        }
        if let Some(id) = self.dispatch.sessions.find(&client_id) {
            // Its timers may be due, but have not fired: this CONNECT came before that was certain, so the client is
            // back in time [MQTT-4.1.0-2] [MQTT-3.1.3-9].
            if !connect.clean_start {
                grant.session_present = true;
                // What it repeats is answered when all that it ever led to is durable.
                let dispatch = &mut self.dispatch;
                let session = dispatch.sessions.get_mut(id).expect("just found");
                session.turn = dispatch.journal.behind_all(session.turn);
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
            no: None,
            turn: TurnSeq::default(),
            taken_in: TurnSeq::default(),
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
            losses: Losses::default(),
            memberships: None,
            traced: TraceSet::default(),
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
        let peer = self.connections.peer_of(conn);
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
        let session = self.dispatch.sessions.get_mut(id);
        let session = session.expect("the session was made or found");
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
            peer,
            since: now,
            counts: LinkCounts::default(),
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
            held: None,
        });
        self.set_ends_of(id, &grant.proven.identity);
    }
}
