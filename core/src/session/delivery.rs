//! A message on its way to one client.

use std::num::NonZeroU32;
use std::sync::Arc;

use crate::codec::QoS;
use crate::message::Message;
use crate::topic::TopicFilter;

/// A message on its way to one client: what its subscriptions made of it.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The message.
    pub message: Arc<Message>,
    /// The smaller of the message's and the subscription's QoS [MQTT-3.8.4-8].
    pub qos: QoS,
    /// RETAIN flag to send.
    pub retain: bool,
    /// `None`: subscriptions without identifier, none of them shared.
    pub matched: Option<Arc<KeptMatch>>,
    /// The generation of the rules by which the client may have it.
    pub rules: u32,
}

/// Which subscriptions a client gets a message by, where it matters later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptMatch {
    /// Subscription identifiers to send.
    pub subscription_ids: Box<[NonZeroU32]>,
    /// The shared subscription that chose the client; the message goes to another member if the
    /// session ends before it was delivered.
    pub share: Option<Arc<TopicFilter>>,
}

impl Delivery {
    /// Subscription identifiers to send.
    pub fn subscription_ids(&self) -> &[NonZeroU32] {
        self.matched
            .as_deref()
            .map_or(&[], |matched| &matched.subscription_ids)
    }

    /// The shared subscription that chose the client.
    pub fn share(&self) -> Option<&Arc<TopicFilter>> {
        self.matched.as_deref()?.share.as_ref()
    }
}

impl PartialEq for Delivery {
    fn eq(&self, other: &Delivery) -> bool {
        self.message.parts().payload == other.message.parts().payload
            && self.message.topic() == other.message.topic()
            && (self.qos, self.retain) == (other.qos, other.retain)
            && self.matched == other.matched
    }
}

impl Eq for Delivery {}
