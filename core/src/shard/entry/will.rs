//! The will of a CONNECT: whether the broker takes it, and as what message it is kept.
//!
//! Not here: when it is published (`on_close.rs`).

use crate::auth::Identity;
use crate::codec::Connect;
use crate::message::{Author, Message, MessageParts};
use crate::refusal::Refusal;
use crate::session::Will;
use crate::shard::Shard;
use crate::shard::delivery::routes;
use crate::stages::Stamp;
use crate::topic::{TopicLimits, TopicName};
use std::sync::Arc;
use std::time::Duration;

impl Shard {
    pub(super) fn will_of(
        &self,
        connect: &Connect<'_>,
        client_id: &str,
        identity: &Identity,
    ) -> Result<Option<Box<Will>>, Refusal> {
        let Some(will) = &connect.will else {
            return Ok(None);
        };
        let offered = &self.config.limits;
        if will.qos > offered.qos_max {
            return Err(Refusal::Qos); // [MQTT-3.2.2-12]
        }
        if will.retain && !offered.retain_available {
            return Err(Refusal::Retain); // [MQTT-3.2.2-13]
        }
        if will.properties.user_properties.count() > offered.user_properties_max {
            return Err(Refusal::UserProperties);
        }
        let limits = TopicLimits::of(offered);
        // [MQTT-3.1.3-11]
        let topic = will.topic.as_bytes();
        if TopicName::parse(topic, &limits).is_err() {
            return Err(Refusal::WillTopic);
        }
        if routes::is_reserved(topic) && !routes::is_state_of(client_id, topic) {
            return Err(Refusal::ReservedTopic);
        }
        if !self.may_publish_as(identity, client_id, topic) {
            return Err(Refusal::WillDenied); // And once more when it is due (threat 69).
        }
        if !self.accepts_payload(will.properties.payload_format, will.payload) {
            return Err(Refusal::PayloadFormat);
        }
        let author = will.retain && self.dispatch.access.acl.is_some();
        let author = author.then(|| {
            Arc::new(Author {
                user: identity.user.clone(),
                client_id: client_id.into(),
                rules: identity.rules().cloned(),
            })
        });
        let mut properties = Vec::new();
        will.properties.write_forwarded(&mut properties);
        let message = Message::new(
            MessageParts {
                topic,
                properties: &properties,
                payload: will.payload,
                qos: will.qos,
                retain: will.retain,
                expires_at: None,
                publisher: self.home.client_key(client_id),
                author: author.as_ref(),
            },
            Stamp::UNKNOWN,
        );
        let delay = will.properties.delay_s.unwrap_or(0);
        Ok(Some(Box::new(Will {
            message: Arc::new(message),
            expiry_s: will.properties.message_expiry_s,
            delay: Duration::from_secs(u64::from(delay)),
        })))
    }
}
