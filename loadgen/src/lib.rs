//! The load generator for MQTT brokers that comes with Ringmq.
//!
//! Start reading at [`scenario`], which says what can be done, and [`report`], which says what is
//! measured.
#![forbid(unsafe_code)]

pub mod ledger;
pub mod meter;
pub mod page;
pub mod payload;
pub mod plan;
pub mod problem;
pub mod report;
pub mod scenario;
pub mod times;
