//! Encodings of one message: a fan-out encodes a packet once per variant, not per subscriber.

use crate::codec::PublishRun;
use crate::topic::Route;
use std::num::NonZeroU32;

use crate::codec;
use crate::codec::{PublishHead, PublishParts, QoS, Version};
use crate::ids::PacketId;
use crate::message::MessageParts;
use crate::time::Instant;

/// The packet of the message at hand, in each variant that some subscriber needed.
#[derive(Debug, Default)]
pub(in crate::shard) struct Encodings {
    /// By `version is 5.0`, then by `QoS is not 0`.
    variants: [[Encoded; 2]; 2],
}

#[derive(Debug, Default)]
pub(in crate::shard) struct Encoded {
    /// Empty: not encoded yet.
    pub(in crate::shard) bytes: Vec<u8>,
    packet_id_at: usize,
}

impl Encoded {
    /// Appends the packet, with what differs from one subscriber to the next.
    pub(in crate::shard) fn write(
        &self,
        head: PublishHead,
        id: Option<PacketId>,
        buffer: &mut Vec<u8>,
    ) {
        let at = buffer.len();
        buffer.extend_from_slice(&self.bytes);
        buffer[at] = head.first_byte();
        if let Some(id) = id {
            let id_at = at + self.packet_id_at;
            buffer[id_at..id_at + 2].copy_from_slice(&id.get().to_be_bytes());
        }
    }
}

impl Encodings {
    pub(in crate::shard) fn reset(&mut self) {
        for encoded in self.variants.iter_mut().flatten() {
            encoded.bytes.clear();
        }
    }

    pub(in crate::shard) fn get(
        &mut self,
        now: Instant,
        version: Version,
        qos: QoS,
        parts: &MessageParts<'_>,
    ) -> &Encoded {
        let is_v5 = version == Version::V5;
        let encoded = &mut self.variants[usize::from(is_v5)][usize::from(qos > QoS::AtMostOnce)];
        if encoded.bytes.is_empty() {
            let head = PublishHead {
                dup: false,
                qos,
                retain: false,
            };
            // Any identifier: each subscriber's own is patched in.
            let id = u16::from(qos > QoS::AtMostOnce);
            let parts = publish_parts(now, parts, &[]);
            let at = codec::encode_publish(version, head, id, &parts, &mut encoded.bytes);
            encoded.packet_id_at = at.packet_id_at;
        }
        encoded
    }
}

/// The parts of a PUBLISH, as they are at this moment.
pub(in crate::shard) fn publish_parts<'a>(
    now: Instant,
    parts: &MessageParts<'a>,
    subscription_ids: &'a [NonZeroU32],
) -> PublishParts<'a> {
    PublishParts {
        topic: parts.topic,
        properties: parts.properties,
        message_expiry_s: remaining_s(now, parts.expires_at),
        topic_alias: None,
        subscription_ids,
        payload: parts.payload,
    }
}

/// Seconds left, rounded up: a message forwarded at once keeps its interval [MQTT-3.3.2-6].
fn remaining_s(now: Instant, expires_at: Option<Instant>) -> Option<u32> {
    let nanos = expires_at?.saturating_since(now).as_nanos();
    Some(u32::try_from(nanos.div_ceil(1_000_000_000)).unwrap_or(u32::MAX))
}

/// What runs are worked on with.
#[derive(Debug, Default)]
pub struct RunScratch {
    /// The packets of the run at hand in the version that is not its publisher's. Empty: not encoded yet.
    pub(in crate::shard) encoded: Vec<u8>,
    /// Routes that are served one message at a time.
    pub(in crate::shard) singly: Vec<Route>,
}

/// Bytes that a run has at most, in any version.
pub(in crate::shard) fn size_max(run: &PublishRun<'_>) -> u32 {
    run.bytes.len() as u32 + run.count * PublishRun::GROWTH_MAX as u32
}
