//! Bytes from a connected client: cut into packets, each passed to its handler.

use super::Shard;
use super::mail::end::End;
use super::mail::outbox::Outbox;
use crate::codec::{
    self, Ack, Auth, DecodeError, Direction, Disconnect, Frame, FrameRules, Framer, PacketKind,
    Publish, PublishRun, ReasonCode, Subscribe, Unsubscribe, Version,
};
use crate::connection::Connection;
use crate::ids::{ConnId, SessionId};
use crate::refusal::{Refusal, Violation};
use crate::session::{Expiry, Link, Session};
use crate::time::Instant;

/// Whether the next packet of the connection is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Continue,
    /// The connection was ended by the packet.
    Ended,
}

/// The connections of the shard hold too much of packets that have not arrived whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialsFull;

/// A connection that holds no more of a packet than this is never closed for what others hold.
const PARTIAL_SIZE_SMALL: u64 = 4096;

impl Shard {
    pub(super) fn on_received(
        &mut self,
        now: Instant,
        conn: ConnId,
        bytes: &[u8],
        out: &mut Outbox,
    ) {
        match self.connections.get(conn) {
            Some(Connection::Open(id)) => self.read_packets(now, *id, bytes, out),
            Some(Connection::AwaitConnect(_)) => self.on_received_first(now, conn, bytes, out),
            Some(Connection::Authenticating(_)) => self.on_received_early(now, conn, bytes, out),
            // [MQTT-3.14.4-1] What follows the end of a connection is not looked at.
            Some(Connection::Closing(_) | Connection::HandedOver | Connection::Vacant) | None => {}
        }
    }

    fn read_packets(&mut self, now: Instant, id: SessionId, mut bytes: &[u8], out: &mut Outbox) {
        let size = bytes.len();
        let published_before = self.paced_count();
        self.dispatch.metrics.bytes_received += size as u64;
        let version = self.session(id).version;
        let rules = FrameRules {
            version: Some(version),
            size_max: self.config.limits.packet_size_max,
            direction: Direction::FromClient,
        };
        // Out of the link while packets borrow from it.
        let mut framer = std::mem::take(&mut self.link(id).framer);
        self.release_partial(&framer);
        let mut is_whole = false;
        // Of a run that was refused each packet is looked at.
        let mut refused_until = usize::MAX;
        loop {
            if bytes.len() <= refused_until
                && framer.is_between_packets()
                && let Some(run) = PublishRun::of(bytes, version, rules.size_max as usize)
            {
                if self.on_run(now, id, &run, out) {
                    bytes = &bytes[run.bytes.len()..];
                    is_whole = true;
                    continue;
                }
                refused_until = bytes.len() - run.bytes.len();
            }
            let flow = match framer.next(&mut bytes, &rules) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    is_whole = true;
                    self.on_packet(now, id, version, &frame, out)
                }
                Err(error) => Err(error.into()),
            };
            match flow {
                Ok(Flow::Continue) => {}
                Ok(Flow::Ended) => return,
                Err(violation) => {
                    self.dispatch.metrics.violations += 1;
                    self.end_link(now, id, End::Refused(violation), out);
                    return;
                }
            }
        }
        if self.admit_partial(&framer).is_err() {
            self.dispatch.metrics.violations += 1;
            let violation = Violation::Rule(Refusal::PartialsFull);
            self.end_link(now, id, End::Refused(violation), out);
            return;
        }
        let link = self.link(id);
        link.framer = framer;
        if is_whole {
            // [MQTT-3.1.2-22] A packet that never becomes whole does not keep a client alive.
            link.last_packet_at = now;
        }
        self.heed_unsent(id, out);
        if self.config.limits.has_rates() {
            let published = self.paced_count() - published_before;
            if let Err(violation) = self.keep_pace(now, id, size, published, out) {
                self.dispatch.metrics.violations += 1;
                self.end_link(now, id, End::Refused(violation), out);
            }
        }
    }

    /// Counts what a connection holds of a packet that has arrived in part (threat 33).
    ///
    /// # Errors
    /// All of them hold too much, and this one is not among the small ones. Nothing is counted.
    pub(super) fn admit_partial(&mut self, framer: &Framer) -> Result<(), PartialsFull> {
        self.hold(framer.memory_size())
    }

    /// Takes back what `admit_partial` counted; before the framer goes on or away.
    pub(super) fn release_partial(&mut self, framer: &Framer) {
        self.release(framer.memory_size());
    }

    /// Counts memory that a connection makes the shard keep before anything is done with it.
    ///
    /// # Errors
    /// As `admit_partial`.
    pub(super) fn hold(&mut self, size: usize) -> Result<(), PartialsFull> {
        let size = size as u64;
        let is_over = self.partial_bytes + size > self.config.limits.partial_bytes_max;
        if is_over && size > PARTIAL_SIZE_SMALL {
            return Err(PartialsFull);
        }
        self.partial_bytes += size;
        Ok(())
    }

    /// Takes back what `hold` counted.
    pub(super) fn release(&mut self, size: usize) {
        let size = size as u64;
        assert!(size <= self.partial_bytes, "a part was never counted");
        self.partial_bytes -= size;
    }

    fn on_packet(
        &mut self,
        now: Instant,
        id: SessionId,
        version: Version,
        frame: &Frame<'_>,
        out: &mut Outbox,
    ) -> Result<Flow, Violation> {
        // Each kind is decoded on its own: `Packet` is as large as its largest kind, and moving it
        // would cost an acknowledgement more than everything else.
        const FROM: Direction = Direction::FromClient;
        self.dispatch.metrics.packets_received += 1;
        match frame.kind {
            PacketKind::Publish => {
                self.on_publish(now, id, &Publish::decode(frame, version, FROM)?, out)?;
            }
            PacketKind::Puback => {
                self.on_puback(now, id, &Ack::decode(frame, version, FROM)?, out)?;
            }
            PacketKind::Pubrec => {
                self.on_pubrec(now, id, &Ack::decode(frame, version, FROM)?, out)?;
            }
            PacketKind::Pubrel => self.on_pubrel(id, &Ack::decode(frame, version, FROM)?, out),
            PacketKind::Pubcomp => {
                self.on_pubcomp(now, id, &Ack::decode(frame, version, FROM)?, out)?;
            }
            PacketKind::Subscribe => {
                self.on_subscribe(now, id, &Subscribe::decode(frame, version)?, out)?;
            }
            PacketKind::Unsubscribe => {
                self.on_unsubscribe(id, &Unsubscribe::decode(frame, version)?, out)?;
            }
            PacketKind::Pingreq if !frame.body.is_empty() => {
                return Err(DecodeError::TrailingBytes.into());
            }
            PacketKind::Pingreq => self.write(id, out, codec::encode_pingresp), // [MQTT-3.12.4-1]
            PacketKind::Disconnect => {
                let disconnect = Disconnect::decode(frame, version, FROM)?;
                return self.on_disconnect(now, id, &disconnect, out);
            }
            PacketKind::Auth => return self.on_auth(now, id, &Auth::decode(frame, FROM)?, out),
            // [MQTT-3.1.0-2] Whatever it says.
            PacketKind::Connect => return Err(Violation::Protocol("a second CONNECT")),
            // The server's to send: the framer has refused it.
            PacketKind::Connack
            | PacketKind::Suback
            | PacketKind::Unsuback
            | PacketKind::Pingresp => return Err(DecodeError::WrongDirection(frame.kind).into()),
        }
        Ok(Flow::Continue)
    }

    fn on_disconnect(
        &mut self,
        now: Instant,
        id: SessionId,
        disconnect: &Disconnect<'_>,
        out: &mut Outbox,
    ) -> Result<Flow, Violation> {
        let expiry_max_s = self.config.limits.session_expiry_max_s;
        if let Some(expiry_s) = disconnect.properties.session_expiry_s {
            if self.link(id).connect_expiry_s == 0 && expiry_s > 0 {
                return Err(Violation::Protocol(
                    "a Session Expiry Interval after CONNECT without one",
                ));
            }
            self.session(id).expiry = Expiry::from_seconds(expiry_s, expiry_max_s);
        }
        let end = match disconnect.reason {
            ReasonCode::Success => End::Disconnected, // [MQTT-3.14.4-3]
            _ => End::DisconnectedWithWill,
        };
        self.end_link(now, id, end, out);
        Ok(Flow::Ended)
    }

    /// A session that the caller knows to be live.
    pub(super) fn session(&mut self, id: SessionId) -> &mut Session {
        self.dispatch
            .sessions
            .get_mut(id)
            .expect("the caller knows a live session")
    }

    /// The link of a session that the caller knows to be connected.
    pub(super) fn link(&mut self, id: SessionId) -> &mut Link {
        self.dispatch.sessions.link_mut(id)
    }

    /// Appends what `encode` writes to the output of a connected session, with a Reason String if that
    /// is welcome and fits.
    pub(super) fn write_reasoned(
        &mut self,
        id: SessionId,
        out: &mut Outbox,
        text: &str,
        encode: impl Fn(Option<&str>, &mut Vec<u8>),
    ) {
        let link = self.dispatch.sessions.link_mut(id);
        self.dispatch.metrics.controls_sent += 1;
        link.write_reasoned(&mut self.dispatch.pool, out, text, encode);
    }

    /// Appends what `encode` writes to the output of a connected session.
    pub(super) fn write(
        &mut self,
        id: SessionId,
        out: &mut Outbox,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        let link = self.dispatch.sessions.link_mut(id);
        self.dispatch.metrics.controls_sent += 1;
        link.write(&mut self.dispatch.pool, out, encode);
    }
}
