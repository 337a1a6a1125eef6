//! The broker as a library and as a program, on real sockets.
//!
//! One binary for all, because each one is linked by itself. What looks at the memory or the limits
//! of the whole process is in `tests/alone`.

// The configuration of clippy allows it in functions marked as tests, but not in what they share.
#![allow(clippy::unwrap_used)]

mod admin;
mod auth;
mod certificates;
mod cli;
mod durable;
mod hooks;
mod hostile;
mod https;
mod mqtt;
mod operate;
mod program;
mod reactor_broker;
mod reactor_limits;
mod reactor_mqtt;
mod reactor_park;
mod reload;
mod stalls;
mod tools;
mod transports;
