//! Retained messages for new subscriptions, across shards. The store itself is `topic/retained.rs`.

pub(in crate::shard) mod gather;
pub(in crate::shard) mod on_query;
pub(in crate::shard) mod pages;
