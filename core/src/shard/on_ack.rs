//! Acknowledgements, both ways.

use super::Shard;
use super::mail::outbox::Outbox;
use super::mail::turn::Turn;
use crate::codec::{self, AckKind, ReasonCode, ReasonProperties, Version};
use crate::ids::{PacketId, SessionId};
use crate::origin::Origin;
use crate::refusal::{Refusal, Violation};
use crate::session::{AckError, Acknowledged};
use crate::stages::Stage;
use crate::store::Record;

const WRONG_KIND: Violation =
    Violation::Protocol("an acknowledgement of the other QoS, or out of turn");

impl Shard {
    /// Sends PUBACK or PUBREC: a reason code without error, or what was refused.
    pub(super) fn send_ack(
        &mut self,
        id: SessionId,
        kind: AckKind,
        packet_id: PacketId,
        outcome: Result<ReasonCode, Refusal>,
        out: &mut Outbox,
    ) {
        let version = self.session(id).version;
        match outcome {
            Err(refusal) if version == Version::V5 => {
                self.answer_reasoned(id, out, refusal.text(), |reason_string, buffer| {
                    let ack = codec::Ack {
                        packet_id,
                        reason: refusal.code(),
                        properties: ReasonProperties {
                            reason_string,
                            ..ReasonProperties::EMPTY
                        },
                    };
                    ack.encode(kind, version, buffer);
                });
            }
            // MQTT 3.1.1 has no negative acknowledgement [MQTT-3.3.5-2]: the message was dropped.
            Ok(_) | Err(_) => self.dispatch.answer(id, out, |buffer| {
                let reason = outcome.unwrap_or(ReasonCode::Success);
                codec::Ack::with_reason(packet_id, reason).encode(kind, version, buffer);
            }),
        }
    }

    pub(super) fn on_puback(
        &mut self,
        id: SessionId,
        ack: &codec::Ack<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Violation> {
        let outcome = self
            .dispatch
            .settle(id, |window| window.on_puback(ack.packet_id));
        self.on_settled(id, outcome, turn)
    }

    /// An exchange is complete: what waits for its place can go.
    fn on_settled(
        &mut self,
        id: SessionId,
        outcome: Result<Acknowledged, AckError>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Violation> {
        match outcome {
            Ok(Acknowledged { no, sent_at }) => {
                if let Some(sent_at) = sent_at.moment() {
                    let span = (sent_at, turn.now);
                    self.dispatch.note_stage(id, Stage::Ack, span);
                }
                self.dispatch.note_settled(id, no);
                self.dispatch.pump(id, turn);
                Ok(())
            }
            // A leftover of an earlier connection.
            Err(AckError::NotFound) => Ok(()),
            Err(AckError::WrongKind) => Err(WRONG_KIND),
        }
    }

    pub(super) fn on_pubrec(
        &mut self,
        id: SessionId,
        ack: &codec::Ack<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Violation> {
        let packet_id = ack.packet_id;
        if ack.reason.is_error() {
            let outcome = self
                .dispatch
                .settle(id, |window| window.on_pubrec_refused(packet_id));
            return self.on_settled(id, outcome, turn);
        }
        let version = self.session(id).version;
        match self
            .dispatch
            .settle(id, |window| window.on_pubrec(packet_id))
        {
            // [MQTT-4.3.3-4]
            Ok(due) => self.dispatch.release_delivery(id, packet_id, due, turn.out),
            // MQTT 3.1.1 cannot say so: the PUBREL goes without a reason and frees the identifier.
            Err(AckError::NotFound) => {
                self.answer_unknown(id, AckKind::Pubrel, packet_id, version, turn.out);
            }
            Err(AckError::WrongKind) => return Err(WRONG_KIND),
        }
        Ok(())
    }

    pub(super) fn on_pubcomp(
        &mut self,
        id: SessionId,
        ack: &codec::Ack<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Violation> {
        let outcome = self
            .dispatch
            .settle(id, |window| window.on_pubcomp(ack.packet_id));
        self.on_settled(id, outcome, turn)
    }

    /// [MQTT-4.3.3-11] A PUBREL is always answered.
    pub(super) fn on_pubrel(&mut self, id: SessionId, ack: &codec::Ack<'_>, out: &mut Outbox) {
        let session = self.session(id);
        let was_open = session.receipts.remove(ack.packet_id);
        // PUBREC left, and the note that all have the message was lost in a crash. What comes next under this
        // identifier is another message, even if it is marked as a repetition.
        let partial = session.receipts.end_partial(ack.packet_id);
        let (version, no) = (session.version, session.no);
        if was_open || partial.is_some() {
            if let Some(no) = no {
                let journal = &mut self.dispatch.journal;
                if let Some(ticket) = partial {
                    let id = ack.packet_id;
                    journal.record(&Record::Spread(Origin { no, id, ticket }));
                }
                journal.record_released(no, ack.packet_id);
            }
            self.dispatch.answer(id, out, |buffer| {
                codec::encode_pubcomp(buffer, ack.packet_id);
            })
        } else {
            self.answer_unknown(id, AckKind::Pubcomp, ack.packet_id, version, out)
        }
    }

    /// No exchange has this identifier. It is no refusal: after a loss it happens to everybody.
    fn answer_unknown(
        &mut self,
        id: SessionId,
        kind: AckKind,
        packet_id: PacketId,
        version: Version,
        out: &mut Outbox,
    ) {
        let text = "no message in flight has this packet identifier";
        self.answer_reasoned(id, out, text, |reason_string, buffer| {
            let ack = codec::Ack {
                packet_id,
                reason: ReasonCode::PacketIdentifierNotFound,
                properties: ReasonProperties {
                    reason_string,
                    ..ReasonProperties::EMPTY
                },
            };
            ack.encode(kind, version, buffer);
        });
    }
}
