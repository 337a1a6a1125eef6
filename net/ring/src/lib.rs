//! The io_uring of a thread: sockets, receive buffers, sends on their way, and the clock.
//!
//! All unsafe code of Ringmq is in this package: it is what talks to the kernel through memory that
//! both share. Every other package forbids it.
#![deny(unsafe_code)]

#[allow(unsafe_code)]
mod buffers;
mod clock;
mod flight;
#[allow(unsafe_code)]
mod ring;

pub use buffers::Lease;
pub use clock::clock;
pub use flight::Flight;
pub use ring::{
    Completion, Input, KernelRing, Receive, Received, Ring, RingConfig, Submission, Target, Wait,
    bind_source, wakeup_file,
};
