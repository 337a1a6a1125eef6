//! A SUBACK that waits for other shards.

use crate::codec::{ReasonCode, Version};
use crate::ids::{ConnId, PacketId, SessionId};
use crate::refusal::Refusal;

/// A SUBACK that waits until every shard knows the new members.
#[derive(Debug)]
pub struct PendingSuback {
    /// The connection that asked; a later one of the session gets nothing.
    pub(in crate::shard) conn: ConnId,
    pub(in crate::shard) session: SessionId,
    pub(in crate::shard) packet_id: PacketId,
    pub(in crate::shard) outcomes: Outcomes,
    /// Answers that have to come.
    pub(in crate::shard) missing: usize,
}

/// What became of the filters of one packet.
#[derive(Debug)]
pub(in crate::shard) struct Outcomes {
    pub(in crate::shard) version: Version,
    pub(in crate::shard) reasons: Vec<ReasonCode>,
    /// The first refusal.
    pub(in crate::shard) refused: Option<Refusal>,
}

impl Outcomes {
    pub(in crate::shard) fn new(version: Version) -> Outcomes {
        Outcomes {
            version,
            reasons: Vec::new(),
            refused: None,
        }
    }

    pub(in crate::shard) fn push(&mut self, outcome: Result<ReasonCode, Refusal>) {
        self.refused = self.refused.or(outcome.err());
        self.reasons.push(match (outcome, self.version) {
            (Ok(reason), _) => reason,
            // MQTT 3.1.1 has a single failure code [MQTT-3.9.3-2].
            (Err(_), Version::V31 | Version::V311) => ReasonCode::UnspecifiedError,
            (Err(refusal), Version::V5) => refusal.code(),
        });
    }
}
