//! An acknowledgement owed to a publisher.

use crate::codec::{AckKind, ReasonCode};
use crate::ids::{PacketId, SessionId};
use crate::refusal::Refusal;

/// An answer to a PUBLISH of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// To whom.
    pub session: SessionId,
    /// PUBACK or PUBREC.
    pub kind: AckKind,
    /// Of which packet.
    pub packet_id: PacketId,
    /// A reason code without error, or what was refused.
    pub outcome: Result<ReasonCode, Refusal>,
}
