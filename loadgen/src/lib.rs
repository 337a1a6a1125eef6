//! The load generator for MQTT brokers that comes with Ringmq.
//!
//! Start reading at [`scenario`], which says what can be done, and [`report`], which says what is
//! measured.
#![forbid(unsafe_code)]

pub mod assemble;
pub mod cli;
pub mod driver;
pub mod engine;
pub mod fleet;
pub mod histograms;
pub mod ledger;
pub mod meter;
pub mod page;
pub mod panel;
pub mod payload;
pub mod peer;
pub mod plan;
pub mod process;
pub mod progress;
pub mod report;
pub mod scenario;
pub mod secrets;
pub mod self_check;
pub mod shared;
pub mod sources;
pub mod summary;
pub mod sys;
pub mod tally;
pub mod times;
pub mod tls;
pub mod websocket;
