//! What goes in and out of a shard: events, messages between shards, effects.

pub(in crate::shard) mod ask;
pub(in crate::shard) mod by_shard;
pub(in crate::shard) mod end;
pub(in crate::shard) mod event;
pub(in crate::shard) mod findings;
pub(in crate::shard) mod message;
pub(in crate::shard) mod note;
pub(in crate::shard) mod on_shard_msg;
pub(in crate::shard) mod outbox;
pub(in crate::shard) mod parcel;
pub(in crate::shard) mod record;
pub(in crate::shard) mod trace;
pub(in crate::shard) mod turn;
