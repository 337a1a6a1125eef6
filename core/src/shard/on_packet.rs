//! Bytes from a connected client: cut into packets, each passed to its handler.

use super::Shard;
use super::mail::end::End;
use super::mail::turn::Turn;
use crate::codec::{
    self, Ack, Auth, DecodeError, Direction, Disconnect, Frame, FrameRules, PacketKind, Publish,
    PublishRun, ReasonCode, Subscribe, Unsubscribe, Version,
};
use crate::connection::Connection;
use crate::ids::{ConnId, SessionId};
use crate::refusal::{Refusal, Violation};
use crate::session::Expiry;

/// Whether the next packet of the connection is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Continue,
    /// The connection was ended by the packet.
    Ended,
}

impl Shard {
    pub(super) fn on_received(&mut self, conn: ConnId, bytes: &[u8], turn: &mut Turn<'_>) {
        match self.connections.get(conn) {
            Some(Connection::Open(id)) => self.read_packets(*id, bytes, turn),
            Some(Connection::AwaitConnect(_)) => self.on_received_first(conn, bytes, turn),
            Some(Connection::Authenticating(_)) => self.on_received_early(conn, bytes, turn),
            // [MQTT-3.14.4-1] What follows the end of a connection is not looked at.
            Some(Connection::Closing(_) | Connection::HandedOver | Connection::Vacant) | None => {}
        }
    }

    fn read_packets(&mut self, id: SessionId, mut bytes: &[u8], turn: &mut Turn<'_>) {
        let size = bytes.len();
        let published_before = self.paced_count();
        self.dispatch.metrics.bytes_received += size as u64;
        let session = self.session(id);
        let version = session.version;
        let link = session.link.as_mut().expect("an open connection");
        link.counts.bytes += size as u64;
        // Out of the link while packets borrow from it.
        let mut framer = std::mem::take(&mut link.framer);
        let rules = FrameRules {
            version: Some(version),
            size_max: self.config.limits.packet_size_max,
            direction: Direction::FromClient,
        };
        self.release_partial(&framer);
        let mut is_whole = false;
        // Of a run that was refused each packet is looked at.
        let mut refused_until = usize::MAX;
        loop {
            if bytes.len() <= refused_until
                && framer.is_between_packets()
                && let Some(run) = PublishRun::of(bytes, version, rules.size_max as usize)
            {
                if self.on_run(id, &run, turn) {
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
                    self.on_packet(id, version, &frame, turn)
                }
                Err(error) => Err(error.into()),
            };
            match flow {
                Ok(Flow::Continue) => self.dispatch.note_turn(id),
                Ok(Flow::Ended) => return,
                Err(violation) => {
                    self.dispatch.metrics.violations += 1;
                    self.end_link(id, End::Refused(violation), turn);
                    return;
                }
            }
        }
        if self.admit_partial(&framer).is_err() {
            self.dispatch.metrics.violations += 1;
            let violation = Violation::Rule(Refusal::PartialsFull);
            self.end_link(id, End::Refused(violation), turn);
            return;
        }
        let link = self.link(id);
        link.framer = framer;
        if is_whole {
            // [MQTT-3.1.2-22] A packet that never becomes whole does not keep a client alive.
            link.last_packet_at = turn.now;
        }
        self.heed_unsent(id, turn.out);
        if self.config.limits.has_rates() {
            let published = self.paced_count() - published_before;
            if let Err(violation) = self.keep_pace(id, size, published, turn) {
                self.dispatch.metrics.violations += 1;
                self.end_link(id, End::Refused(violation), turn);
            }
        }
    }

    fn on_packet(
        &mut self,
        id: SessionId,
        version: Version,
        frame: &Frame<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<Flow, Violation> {
        // Each kind is decoded on its own: `Packet` is as large as its largest kind, and moving it
        // would cost an acknowledgement more than everything else.
        const FROM: Direction = Direction::FromClient;
        self.dispatch.journal.begin();
        self.dispatch.metrics.packets_received += 1;
        if self.dispatch.traces.is_some() {
            self.trace_frame(id, version, FROM, frame);
        }
        match frame.kind {
            PacketKind::Publish => {
                self.on_publish(id, &Publish::decode(frame, version, FROM)?, turn)?;
            }
            PacketKind::Puback => {
                self.on_puback(id, &Ack::decode(frame, version, FROM)?, turn)?;
            }
            PacketKind::Pubrec => {
                self.on_pubrec(id, &Ack::decode(frame, version, FROM)?, turn)?;
            }
            PacketKind::Pubrel => self.on_pubrel(id, &Ack::decode(frame, version, FROM)?, turn.out),
            PacketKind::Pubcomp => {
                self.on_pubcomp(id, &Ack::decode(frame, version, FROM)?, turn)?;
            }
            PacketKind::Subscribe => {
                self.on_subscribe(id, &Subscribe::decode(frame, version)?, turn)?;
            }
            PacketKind::Unsubscribe => {
                self.on_unsubscribe(id, &Unsubscribe::decode(frame, version)?, turn.out)?;
            }
            PacketKind::Pingreq if !frame.body.is_empty() => {
                return Err(DecodeError::TrailingBytes.into());
            }
            PacketKind::Pingreq => self.write(id, turn.out, codec::encode_pingresp), // [MQTT-3.12.4-1]
            PacketKind::Disconnect => {
                let disconnect = Disconnect::decode(frame, version, FROM)?;
                return self.on_disconnect(id, &disconnect, turn);
            }
            PacketKind::Auth => return self.on_auth(id, &Auth::decode(frame, FROM)?, turn),
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
        id: SessionId,
        disconnect: &Disconnect<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<Flow, Violation> {
        let expiry_max_s = self.config.limits.session_expiry_max_s;
        if let Some(expiry_s) = disconnect.properties.session_expiry_s {
            if self.link(id).connect_expiry_s == 0 && expiry_s > 0 {
                return Err(Violation::Protocol(
                    "a Session Expiry Interval after CONNECT without one",
                ));
            }
            self.session(id).expiry = Expiry::from_seconds(expiry_s, expiry_max_s);
            self.record_terms(id);
        }
        let end = match disconnect.reason {
            ReasonCode::Success => End::Disconnected, // [MQTT-3.14.4-3]
            _ => End::DisconnectedWithWill,
        };
        self.end_link(id, end, turn);
        Ok(Flow::Ended)
    }
}
