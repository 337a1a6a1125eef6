//! A connection before its CONNECT has arrived whole: accepted, read, handed to the shard of its client, or refused.
//!
//! Not here: who sent the CONNECT (`authenticate.rs`), what it does (`on_connect.rs`).

use super::refuse::Stranger;
use crate::auth::PeerIdentity;
use crate::codec::{Connect, DecodeError, Direction, FrameRules, Framer, Version};
use crate::connection::{AuthStep, AwaitConnect, Connection, Egress};
use crate::ids::ConnId;
use crate::limits::Redirect;
use crate::refusal::Refusal;
use crate::shard::Shard;
use crate::shard::mail::outbox::{Close, Handover, Outbox};
use crate::shard::mail::turn::Turn;
use crate::shard::timers::Timer;
use crate::stages::Stage;
use crate::time::Instant;

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
        // Of the first bytes of all.
        let first = if framer.partial_size() == 0 {
            bytes
        } else {
            b""
        };
        let (unwelcome, since) = (waiting.unwelcome, waiting.since);
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
                self.turn_away(conn, what_it_is(first), turn);
                return;
            }
        };
        match Connect::decode(&frame) {
            Err(error) => {
                let version = answer_version(error, frame.body);
                self.count_connect(frame.raw.len(), since, turn.now);
                self.refuse_malformed(conn, error, version, turn);
            }
            Ok(connect) => {
                if let Some(refusal) = unwelcome.or(self.redirection()) {
                    // Before it moves to its home: it is not to stay at all.
                    self.count_connect(frame.raw.len(), since, turn.now);
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
                self.count_connect(frame.raw.len(), since, turn.now);
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
    fn count_connect(&mut self, size: usize, since: Instant, now: Instant) {
        self.dispatch.stages.record(Stage::Handshake, since, now);
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
        if is_ours_to_say {
            self.refuse_waiting(conn, Refusal::AuthenticationDown.into(), turn)
        } else {
            self.turn_away(conn, Refusal::ConnectDeadline, turn)
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
}

/// What begins like this, if it is not a CONNECT.
fn what_it_is(first: &[u8]) -> Refusal {
    match first {
        // The type of a TLS record (RFC 8446, section 5.1).
        [0x16, ..] => Refusal::TlsHandshake,
        // GET, HEAD, OPTIONS: no packet begins like these.
        [b'G' | b'H' | b'O', ..] => Refusal::HttpRequest,
        // P alone would be PUBREC.
        [b'P', b'O' | b'R' | b'U', ..] => Refusal::HttpRequest,
        _ => Refusal::ConnectMalformed,
    }
}

/// The version in which a CONNECT that cannot be read is answered; `None`: not at all.
fn answer_version(error: DecodeError, body: &[u8]) -> Option<Version> {
    let says_v5 = body.starts_with(BEGINNING_OF_V5);
    error.connack_version().or(says_v5.then_some(Version::V5))
}

/// Name and level of the protocol, as a CONNECT of MQTT 5.0 has them.
const BEGINNING_OF_V5: &[u8] = b"\x00\x04MQTT\x05";
