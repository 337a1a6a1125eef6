//! The load generator for MQTT brokers that comes with Ringmq.
//!
//! Start reading at [`report`], which says what a run measures.
#![forbid(unsafe_code)]

pub mod report;
