//! `$SYS`, counters, and samples of drops and refusals, traces.

pub(in crate::shard) mod cases;
pub(in crate::shard) mod metrics;
pub(in crate::shard) mod on_sys;
pub(in crate::shard) mod records;
pub(in crate::shard) mod report;
pub(in crate::shard) mod state;
pub(in crate::shard) mod texts;
pub(in crate::shard) mod traces;
