//! How clients come in: CONNECT, the proof of who they are, and what a change of the rules does to those
//! who are in.

pub(in crate::shard) mod authenticate;
pub(in crate::shard) mod connack;
pub(in crate::shard) mod exchange;
pub(in crate::shard) mod on_accepted;
pub(in crate::shard) mod on_auth;
pub(in crate::shard) mod on_connect;
pub(in crate::shard) mod on_lease;
pub(in crate::shard) mod recorded;
pub(in crate::shard) mod refuse;
pub(in crate::shard) mod review;
pub(in crate::shard) mod terms;
pub(in crate::shard) mod will;
