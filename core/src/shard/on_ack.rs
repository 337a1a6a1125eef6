//! Acknowledgements, both ways.

use super::Shard;
use super::on_packet::Violation;
use super::outbox::Outbox;
use crate::codec::{self, AckKind, ReasonCode, Version};
use crate::ids::{LogPosition, PacketId, SessionId};
use crate::session::AckError;
use crate::time::Instant;

/// An answer to a PUBLISH of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    pub session: SessionId,
    /// PUBACK or PUBREC.
    pub kind: AckKind,
    pub packet_id: PacketId,
    pub reason: ReasonCode,
}

impl Shard {
    pub(super) fn on_persisted(&mut self, upto: LogPosition, out: &mut Outbox) {
        self.gate.persisted(upto);
        while let Some(ack) = self.gate.release() {
            self.send_ack(ack, out);
        }
    }

    /// Sends an answer, if its client is still connected: after a reconnect the client repeats the
    /// PUBLISH and is answered then.
    pub(super) fn send_ack(&mut self, ack: Ack, out: &mut Outbox) {
        let Some(session) = self.dispatch.sessions.get_mut(ack.session) else {
            return;
        };
        let Some(link) = &mut session.link else {
            return;
        };
        // MQTT 3.1.1 has no negative acknowledgement [MQTT-3.3.5-2]: the message was dropped.
        let reason = match session.version {
            Version::V31 | Version::V311 => ReasonCode::Success,
            Version::V5 => ack.reason,
        };
        self.dispatch.metrics.controls_sent += 1;
        link.write(&mut self.dispatch.pool, out, |buffer| {
            codec::Ack::with_reason(ack.packet_id, reason).encode(
                ack.kind,
                session.version,
                buffer,
            );
        });
    }

    pub(super) fn on_puback(
        &mut self,
        now: Instant,
        id: SessionId,
        ack: &codec::Ack<'_>,
        out: &mut Outbox,
    ) -> Result<(), Violation> {
        match self.session(id).window.on_puback(ack.packet_id) {
            Ok(()) => self.dispatch.pump(now, id, out),
            // A leftover of an earlier connection.
            Err(AckError::NotFound) => {}
            Err(AckError::WrongKind) => return Err(Violation(ReasonCode::ProtocolError)),
        }
        Ok(())
    }

    pub(super) fn on_pubrec(
        &mut self,
        now: Instant,
        id: SessionId,
        ack: &codec::Ack<'_>,
        out: &mut Outbox,
    ) -> Result<(), Violation> {
        let packet_id = ack.packet_id;
        if ack.reason.is_error() {
            match self.session(id).window.on_pubrec_refused(packet_id) {
                Ok(()) => self.dispatch.pump(now, id, out),
                Err(AckError::NotFound) => {}
                Err(AckError::WrongKind) => return Err(Violation(ReasonCode::ProtocolError)),
            }
            return Ok(());
        }
        let session = self.session(id);
        let version = session.version;
        match session.window.on_pubrec(packet_id) {
            // [MQTT-4.3.3-4]
            Ok(()) => self.write(id, out, |buffer| codec::encode_pubrel(buffer, packet_id)),
            // MQTT 3.1.1 cannot say so: the PUBREL goes without a reason and frees the identifier.
            Err(AckError::NotFound) => self.write(id, out, |buffer| {
                let reason = ReasonCode::PacketIdentifierNotFound;
                codec::Ack::with_reason(packet_id, reason).encode(AckKind::Pubrel, version, buffer);
            }),
            Err(AckError::WrongKind) => return Err(Violation(ReasonCode::ProtocolError)),
        }
        Ok(())
    }

    pub(super) fn on_pubcomp(
        &mut self,
        now: Instant,
        id: SessionId,
        ack: &codec::Ack<'_>,
        out: &mut Outbox,
    ) -> Result<(), Violation> {
        match self.session(id).window.on_pubcomp(ack.packet_id) {
            Ok(()) => self.dispatch.pump(now, id, out),
            Err(AckError::NotFound) => {}
            Err(AckError::WrongKind) => return Err(Violation(ReasonCode::ProtocolError)),
        }
        Ok(())
    }

    /// [MQTT-4.3.3-11] A PUBREL is always answered.
    pub(super) fn on_pubrel(&mut self, id: SessionId, ack: &codec::Ack<'_>, out: &mut Outbox) {
        let session = self.session(id);
        let was_open = session.receipts.remove(ack.packet_id);
        let version = session.version;
        let reason = match was_open {
            true => ReasonCode::Success,
            false => ReasonCode::PacketIdentifierNotFound,
        };
        let pubcomp = codec::Ack::with_reason(ack.packet_id, reason);
        self.write(id, out, |buffer| {
            pubcomp.encode(AckKind::Pubcomp, version, buffer)
        });
    }
}
