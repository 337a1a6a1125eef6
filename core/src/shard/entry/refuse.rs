//! Connections that are not let in: CONNACK with an error, or not a word.
//!
//! Not here: what is refused (`on_connect.rs`, `authenticate.rs`), the names of it (`refusal.rs`).

use super::terms::{packet_size_max, wants_problem_information};
use crate::codec::{Connack, Connect, DecodeError, ReasonCode, Version};
use crate::connection::Connection;
use crate::ids::ConnId;
use crate::loss::Loss;
use crate::refusal::{Refusal, Violation};
use crate::shard::Shard;
use crate::shard::mail::outbox::Close;
use crate::shard::mail::turn::Turn;
use crate::shard::sys::cases::LossOf;
use crate::shard::sys::records::Subject;

impl Shard {
    /// Closes a connection without a word. It may be sending: what it sends is read for a moment, so that it
    /// sees the end of the stream and not a reset.
    pub(in crate::shard) fn turn_away(
        &mut self,
        conn: ConnId,
        refusal: Refusal,
        turn: &mut Turn<'_>,
    ) {
        self.note_stranger(conn, ("", ""), refusal, turn);
        self.leave_await(conn, Connection::Closing(Box::default()));
        turn.out.closes.push(Close { conn, flush: true });
    }

    /// Counts and samples that a connection is not let in. It still waits for its CONNECT. `user`: as whom it would
    /// come in.
    pub(in crate::shard) fn note_stranger(
        &mut self,
        conn: ConnId,
        (client, user): (&str, &str),
        refusal: Refusal,
        turn: &mut Turn<'_>,
    ) {
        let peer = self.connections.peer_of(conn);
        let subject = Subject {
            client,
            user,
            topic: b"",
            peer,
            by: None,
        };
        self.dispatch.metrics.refuse(refusal);
        self.dispatch.trace_stranger(client, peer, refusal);
        let loss = Loss::Refused(refusal);
        self.dispatch.records.note(loss, subject, turn);
        // Whoever makes names up does not push out what others have lost.
        if self.dispatch.sessions.find(client).is_none() {
            return;
        }
        let case = LossOf {
            loss,
            client: Some((self.home.client_key(client), client)),
            topic: b"",
            bound: None,
        };
        self.dispatch.cases.note(&case, turn.now);
    }

    /// A CONNECT that cannot be read. MQTT 3.1.1 gets an answer only to a wrong protocol level
    /// [MQTT-3.1.2-2], and otherwise none [MQTT-3.1.4-1].
    pub(in crate::shard) fn refuse_malformed(
        &mut self,
        conn: ConnId,
        error: DecodeError,
        version: Option<Version>,
        turn: &mut Turn<'_>,
    ) {
        match version {
            Some(version) => {
                let mut stranger = Stranger::unread(version);
                // Of a version that nobody knows, the least that can be said is understood best.
                let is_unknown = matches!(error, DecodeError::UnsupportedProtocolVersion { .. });
                stranger.problem_information = !is_unknown;
                self.refuse(conn, &stranger, error.into(), turn);
            }
            None => {
                self.dispatch.metrics.connects_refused += 1;
                self.turn_away(conn, counted_as(error), turn);
            }
        }
    }

    /// CONNACK with an error, if the version has one and the client takes its size [MQTT-3.1.2-24],
    /// then close [MQTT-3.2.2-7].
    pub(in crate::shard) fn refuse(
        &mut self,
        conn: ConnId,
        stranger: &Stranger<'_>,
        violation: Violation,
        turn: &mut Turn<'_>,
    ) {
        self.dispatch.metrics.connects_refused += 1;
        let counted = match violation {
            Violation::Rule(refusal) => refusal,
            Violation::Bytes(error) => counted_as(error),
            Violation::Protocol(_) => Refusal::ConnectMalformed,
        };
        let who = (stranger.client_id, stranger.user);
        self.note_stranger(conn, who, counted, turn);
        let mut egress = Box::new(self.take_early_egress(conn));
        let buffer = egress.buffer(&mut self.dispatch.pool);
        let before = buffer.len();
        let elsewhere = &*self.config.limits.server_reference;
        stranger.write_refusal(violation, elsewhere, buffer);
        let size = buffer.len() - before;
        self.dispatch.metrics.controls_sent += u64::from(size > 0);
        if size > 0 && egress.grew(size, &mut self.dispatch.pool.unsent) {
            turn.out.dirty.push(conn);
        }
        self.leave_await(conn, Connection::Closing(egress));
        turn.out.closes.push(Close { conn, flush: true });
    }
}

/// As what a CONNECT that cannot be read is counted.
fn counted_as(error: DecodeError) -> Refusal {
    match error {
        DecodeError::UnsupportedProtocolVersion { .. } => Refusal::ProtocolVersion,
        DecodeError::PacketTooLarge => Refusal::PacketTooLarge,
        _ => Refusal::ConnectMalformed,
    }
}

/// A client that is refused, as far as it is known.
pub(in crate::shard) struct Stranger<'a> {
    client_id: &'a str,
    /// As it says; empty: it names none.
    user: &'a str,
    version: Version,
    packet_size_max: u32,
    problem_information: bool,
}

impl<'a> Stranger<'a> {
    pub(in crate::shard) fn of(connect: &Connect<'a>) -> Stranger<'a> {
        Stranger {
            client_id: connect.client_id,
            user: connect.user_name.unwrap_or_default(),
            version: connect.version,
            packet_size_max: packet_size_max(connect),
            problem_information: wants_problem_information(connect),
        }
    }

    /// Its CONNECT could not be read.
    fn unread(version: Version) -> Stranger<'static> {
        Stranger {
            client_id: "",
            user: "",
            version,
            packet_size_max: u32::MAX,
            problem_information: true,
        }
    }

    /// Appends the CONNACK, with another server if there is no room here, and with a Reason String if
    /// that is welcome; or what of it the client takes [MQTT-3.2.2-19] [MQTT-3.1.2-24].
    fn write_refusal(&self, violation: Violation, elsewhere: &str, buffer: &mut Vec<u8>) {
        let elsewhere = Some(elsewhere).filter(|text| !text.is_empty());
        let (reason, server_reference) = match violation.code() {
            ReasonCode::ServerShuttingDown => (ReasonCode::ServerUnavailable, None), // [MQTT-3.2.2-8]
            code @ (ReasonCode::UseAnotherServer | ReasonCode::ServerMoved) => (code, elsewhere),
            code => match elsewhere.filter(|_| violation.refusal().is_for_want_of_room()) {
                Some(elsewhere) => (ReasonCode::UseAnotherServer, Some(elsewhere)),
                None => (code, None),
            },
        };
        // [MQTT-3.2.2-6] (3.1.1) No return code of it says that the will topic is wrong.
        if self.version < Version::V5 && reason == ReasonCode::TopicNameInvalid {
            return;
        }
        let text = violation.text();
        let text = Some(&*text).filter(|_| self.problem_information);
        let before = buffer.len();
        for (reason_string, server_reference) in [
            (text, server_reference),
            (None, server_reference),
            (None, None),
        ] {
            let mut connack = Connack::new(false, reason);
            connack.properties.reason_string = reason_string;
            connack.properties.server_reference = server_reference;
            connack.encode(self.version, buffer);
            if buffer.len() - before <= self.packet_size_max as usize {
                return;
            }
            buffer.truncate(before);
        }
    }
}
