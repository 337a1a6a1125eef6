//! A delivery that was not settled, as it survives a restart.

use super::Delivery;

/// A delivery that was not settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsettled {
    /// Certainly not sent.
    Unsent(Delivery),
    /// May have been sent, perhaps not: goes again, with DUP [MQTT-3.3.1-1].
    MaybeSent(Delivery),
    /// The client has it, or is not to have it any more: PUBREL is due [MQTT-4.3.3-6].
    Released,
}
