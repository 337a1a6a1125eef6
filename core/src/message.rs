//! An Application Message: immutable, shared between sessions and shards, encoded on demand.

use std::sync::Arc;

use bytes::Bytes;

use crate::auth::Rule;
use crate::codec::QoS;
use crate::ids::ClientKey;
use crate::stages::Stamp;
use crate::time::Instant;

/// One published message. Made once per shard and PUBLISH that has to outlive its packet (a queue, a window,
/// the retained store; another shard, if it is large or retained); a QoS 0 fan-out never makes one.
///
/// Layout of `body`: topic name, forwarded properties, payload, without gaps.
#[derive(Debug)]
pub struct Message {
    body: Bytes,
    topic_size: u16,
    properties_size: u32,
    /// QoS of the PUBLISH.
    pub qos: QoS,
    /// RETAIN flag of the PUBLISH.
    pub retain: bool,
    /// When the message expires [MQTT-3.3.2-5]; `None`: never.
    pub expires_at: Option<Instant>,
    /// Who published it; for No Local [MQTT-3.8.3-3].
    pub publisher: ClientKey,
    /// Whose rights count when it is given out as a retained message; `None`: nobody's.
    pub author: Option<Arc<Author>>,
    /// Since when it is kept.
    pub kept_at: Stamp,
}

/// Who published a retained message.
#[derive(Debug, PartialEq, Eq)]
pub struct Author {
    /// The name that it had proven.
    pub user: Option<Box<str>>,
    /// Its client identifier.
    pub client_id: Box<str>,
    /// The rules that it had brought along.
    pub rules: Option<Arc<[Rule]>>,
}

/// What a [`Message`] is made from.
#[derive(Clone, Copy, Debug)]
pub struct MessageParts<'a> {
    /// A valid topic name.
    pub topic: &'a [u8],
    /// Encoded properties that travel with the message: payload format indicator, content type,
    /// response topic, correlation data and user properties, in the order received
    /// [MQTT-3.3.2-18]. Neither their total length, nor topic alias, expiry or subscription ids.
    pub properties: &'a [u8],
    /// Application payload.
    pub payload: &'a [u8],
    /// QoS of the PUBLISH.
    pub qos: QoS,
    /// RETAIN flag of the PUBLISH.
    pub retain: bool,
    /// When the message expires.
    pub expires_at: Option<Instant>,
    /// Who published it.
    pub publisher: ClientKey,
    /// The same in words, for retained messages.
    pub author: Option<&'a Arc<Author>>,
}

impl Message {
    /// Copies the parts: the one copy that a stored message costs.
    pub fn new(parts: MessageParts<'_>, kept_at: Stamp) -> Message {
        let topic_size = u16::try_from(parts.topic.len()).expect("topic names fit two bytes");
        let properties_size =
            u32::try_from(parts.properties.len()).expect("properties fit four bytes");
        let size = parts.topic.len() + parts.properties.len() + parts.payload.len();
        let mut body = Vec::with_capacity(size);
        body.extend_from_slice(parts.topic);
        body.extend_from_slice(parts.properties);
        body.extend_from_slice(parts.payload);
        Message {
            body: body.into(),
            topic_size,
            properties_size,
            qos: parts.qos,
            retain: parts.retain,
            expires_at: parts.expires_at,
            publisher: parts.publisher,
            author: parts.author.cloned(),
            kept_at,
        }
    }

    /// The message as parts, borrowed.
    pub fn parts(&self) -> MessageParts<'_> {
        let properties_at = usize::from(self.topic_size);
        let payload_at = properties_at + self.properties_size as usize;
        MessageParts {
            topic: &self.body[..properties_at],
            properties: &self.body[properties_at..payload_at],
            payload: &self.body[payload_at..],
            qos: self.qos,
            retain: self.retain,
            expires_at: self.expires_at,
            publisher: self.publisher,
            author: self.author.as_ref(),
        }
    }

    /// Topic name.
    pub fn topic(&self) -> &[u8] {
        &self.body[..usize::from(self.topic_size)]
    }

    /// Application payload, shared with this message.
    pub fn payload(&self) -> Bytes {
        self.body
            .slice(usize::from(self.topic_size) + self.properties_size as usize..)
    }

    /// Bytes that the message keeps in memory, for the accounting of queues.
    pub fn size(&self) -> usize {
        self.body.len() + size_of::<Message>()
    }

    /// What [`Message::size`] will be.
    pub fn size_of(parts: &MessageParts<'_>) -> usize {
        parts.topic.len() + parts.properties.len() + parts.payload.len() + size_of::<Message>()
    }
}
