//! From a message and its routes to bytes on connections.
//!
//! `routes` finds the subscribers (`traffic` counts topics there), `rules` and `guard` check permissions; `offer` decides between sending,
//! queueing and dropping; `send` writes, `pump` sends queued messages, `run` does all of it once for many
//! similar messages.

pub(in crate::shard) mod answer;
pub(in crate::shard) mod dispatch;
pub(in crate::shard) mod encodings;
pub(in crate::shard) mod guard;
pub(in crate::shard) mod losses;
pub(in crate::shard) mod offer;
pub(in crate::shard) mod pump;
pub(in crate::shard) mod routes;
pub(in crate::shard) mod rules;
pub(in crate::shard) mod run;
pub(in crate::shard) mod send;
pub(in crate::shard) mod traffic;
