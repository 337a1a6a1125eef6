//! The will of a connected client, and of a session whose client is offline [MQTT-3.1.2-7].

use std::sync::Arc;
use std::time::Duration;

use crate::message::Message;

/// A message to publish when its client is lost.
#[derive(Debug)]
pub struct Will {
    /// What to publish. Its expiry starts when it is published, so the message carries none.
    pub message: Arc<Message>,
    /// Message Expiry Interval of the will, in seconds.
    pub expiry_s: Option<u32>,
    /// Time between the loss of the connection and the publication [MQTT-3.1.3-9].
    pub delay: Duration,
}
