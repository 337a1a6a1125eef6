//! The io_uring of a thread: sockets, receive buffers, sends on their way, and the clock.
//!
//! All unsafe code of Ringmq is in this package: in `kernel` (submissions and completions),
//! `buffers`, `sends` (memory that is shared with the kernel), `socket` (calls that have no safe
//! interface) and `sample` (a signal that shows where a thread is). Every other package forbids it. Start reading at `ring`.

#[allow(unsafe_code)]
mod buffers;
mod clock;
mod files;
mod flight;
#[allow(unsafe_code)]
mod kernel;
mod ring;
#[allow(unsafe_code)]
mod sample;
#[allow(unsafe_code)]
mod sends;
#[allow(unsafe_code)]
mod socket;
mod tag;

pub use buffers::Lease;
pub use clock::{clock, wall_clock};
pub use flight::Flight;
pub use kernel::{KernelRing, Target};
pub use ring::{
    Completion, FileWrite, Input, Receive, Received, Ring, RingConfig, Submission, Wait,
};
pub use sample::{Sample, Sampler};
pub use socket::{bind_source, wakeup_file};
