//! Retained messages for new subscriptions, across shards: asked for and answered. What a
//! subscription is still due is `session/gather.rs`, the store `topic/retained.rs`.

pub(in crate::shard) mod on_query;
pub(in crate::shard) mod pages;
