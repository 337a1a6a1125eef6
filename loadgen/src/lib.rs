//! The load generator for MQTT brokers that comes with Ringmq.
//!
//! Start reading at [`scenario`], which says what can be done, and [`report`], which says what is
//! measured.
#![forbid(unsafe_code)]

pub mod admin;
pub mod agent;
pub mod assemble;
pub mod bound;
pub mod capacity;
pub mod capture;
pub mod cli;
pub mod cloud;
pub mod course;
pub mod csv;
pub mod driver;
pub mod engine;
pub mod find;
pub mod fleet;
pub mod histograms;
pub mod inside;
pub mod junit;
pub mod ledger;
pub mod meter;
pub mod metrics;
pub mod page;
pub mod panel;
pub mod payload;
pub mod peer;
pub mod plan;
pub mod process;
pub mod progress;
pub mod recovery;
pub mod report;
pub mod runs;
pub mod scenario;
pub mod search;
pub mod secrets;
pub mod self_check;
pub mod setup;
pub mod shared;
pub mod sources;
pub mod storm;
pub mod summary;
pub mod sys;
pub mod tally;
pub mod times;
pub mod tls;
pub mod verdict;
pub mod websocket;
