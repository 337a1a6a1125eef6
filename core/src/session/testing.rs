//! What the tests of sessions are made of.

use std::sync::Arc;

use super::Delivery;
use crate::codec::QoS;
use crate::ids::ClientKey;
use crate::message::{Message, MessageParts};
use crate::stages::Stamp;
use crate::time::Instant;

/// A message with this payload, on its way to a client.
pub fn delivery(payload: &[u8], qos: QoS, expires_at: Option<Instant>) -> Delivery {
    let message = Message::new(
        MessageParts {
            topic: b"t",
            properties: b"",
            payload,
            qos,
            retain: false,
            expires_at,
            publisher: ClientKey(0),
            author: None,
        },
        Stamp::UNKNOWN,
    );
    Delivery {
        message: Arc::new(message),
        qos,
        retain: false,
        matched: None,
        rules: 0,
    }
}
