//! Shared subscriptions: the groups, which member gets a message, and how members come and go
//! [MQTT 5.0, 4.8.2].

mod group;
pub(in crate::shard) mod groups;
mod locals;
pub(in crate::shard) mod on_share;
pub(in crate::shard) mod suback;
