//! `ringload` as a program: against Ringmq, and against a broker that does wrong on purpose.

// The configuration of clippy allows it in functions marked as tests, but not in what they share.
#![allow(clippy::unwrap_used)]

mod agents;
mod capture;
mod ceiling;
mod cloud;
mod common;
mod duties;
mod faults;
mod restarts;
mod result_file;
mod scenarios;
mod stages;
mod storms;
mod tls;
mod transports;
