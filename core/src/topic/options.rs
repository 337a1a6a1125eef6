//! What a client asked for with one subscription.

use std::num::NonZeroU32;

use crate::codec::QoS;

/// What a client asked for with one subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionOptions {
    /// Granted maximum QoS.
    pub qos: QoS,
    /// Leave out what the session itself publishes [MQTT-3.8.3-3].
    pub no_local: bool,
    /// Keep the RETAIN flag of the PUBLISH [MQTT-3.3.1-13].
    pub retain_as_published: bool,
    /// Subscription Identifier, if the client gave one.
    pub subscription_id: Option<NonZeroU32>,
}
