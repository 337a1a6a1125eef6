//! A message of a run, from the moment a client begins to publish it.
//!
//! Not here: who got it (`oracle`).

use std::time::Duration;

use ringmq_core::codec::QoS;
use ringmq_core::time::Instant;

use crate::wire::Payload;

/// Position in the order of all events of a run.
pub type Tick = u64;

/// Names a message of a run; travels in its payload.
pub type MessageIndex = usize;

/// A message that a client began to publish, or a will that it left.
#[derive(Clone, Debug)]
pub struct Message {
    pub publisher: usize,
    /// Counts the messages of its publisher.
    pub seq: u32,
    pub topic: String,
    pub qos: QoS,
    pub payload: Payload,
    /// Travels as a user property between MQTT 5 clients.
    pub label: Option<String>,
    pub expiry_s: Option<u32>,
    /// The broker gets it between the two, and counts its expiry from then on.
    pub begun_at: Instant,
    pub settled_at: Option<Instant>,
    /// A delayed will comes no earlier, unless the session ends.
    pub not_before: Option<Instant>,
    pub is_will: bool,
    /// Place among the values of a retained topic; such topics have one writer.
    pub version: Option<u32>,
    pub begun: Tick,
    /// Times that its publisher sent it.
    pub sends: u32,
    pub fate: Fate,
}

impl Message {
    /// Whether the broker may have dropped it by now.
    pub fn may_have_expired(&self, now: Instant) -> bool {
        self.expiry_s
            .is_some_and(|s| self.begun_at + Duration::from_secs(s.into()) <= now)
    }
}

/// Whether the broker took a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// A will whose client is connected.
    Armed,
    /// Not known (yet).
    Open,
    /// It did, by that tick.
    Settled(Tick),
    /// It must not have: the will of a client that disconnected.
    Never,
}

/// What a client is about to publish.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    pub publisher: usize,
    pub topic: &'a str,
    pub qos: QoS,
    /// Bytes of payload beyond the header that names the message; `None` deletes a retained value.
    pub padding: Option<usize>,
    pub retained: bool,
    /// With a user property that names the message.
    pub is_labelled: bool,
    pub expiry_s: Option<u32>,
}

/// The payload of a message: its index, then bytes that depend on it.
pub fn payload(index: MessageIndex, padding: usize) -> Vec<u8> {
    let index = u32::try_from(index).expect("a run has few messages");
    let mut bytes = Vec::with_capacity(4 + padding + 4);
    bytes.extend(index.to_le_bytes());
    let mut state = index.wrapping_mul(0x9E37_79B9) | 1;
    while bytes.len() < 4 + padding {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(4 + padding);
    bytes
}
