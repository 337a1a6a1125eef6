//! What the Message Expiry Interval promises, to the second [MQTT-3.3.2-5] [MQTT-3.3.2-6].
//!
//! The broker counts from when it gets a message until it encodes it for a client. Neither moment
//! is known exactly, but each lies between two that are: the broker has the message between
//! `begun_at` and `settled_at`, and encodes it within `Delivery::encoded`.

use std::time::Duration;

use crate::message::Message;
use crate::wire::Delivery;

/// The promise about the interval that a delivery does not keep, if any. `v5`: the client sees it. `lateness`: time
/// that starts have not counted, since nobody knew how long it was.
pub fn broken_promise(
    message: &Message,
    got: &Delivery,
    v5: bool,
    lateness: Duration,
) -> Option<&'static str> {
    let expiry_s = match (message.expiry_s, got.expiry_s) {
        (None, None) => return None,
        (Some(expiry_s), _) => expiry_s,
        (None, Some(_)) => return Some("the expiry interval travels with the message"),
    };
    let lifetime = Duration::from_secs(expiry_s.into());
    let settled_at = message.settled_at;
    // What was sent before it expired may be sent again [MQTT-4.4.0-1].
    let is_late = settled_at.is_some_and(|at| got.encoded.from >= at + lifetime + lateness);
    if is_late && !got.dup {
        return Some("an expired message is not sent");
    }
    if !v5 {
        return None;
    }
    let Some(left_s) = got.expiry_s else {
        return Some("the expiry interval travels with the message");
    };
    // It is rounded up.
    let left = Duration::from_secs(left_s.into());
    let age_max = got.encoded.by.saturating_since(message.begun_at);
    let age_min = settled_at.map_or(Duration::ZERO, |at| got.encoded.from.saturating_since(at));
    let left_max = lifetime + SECOND + lateness;
    if left + age_max < lifetime || left_s > 0 && left + age_min >= left_max {
        return Some("the expiry interval counts down with the time");
    }
    None
}

const SECOND: Duration = Duration::from_secs(1);
