//! An MQTT 3.1.1 and 5.0 broker for Linux servers.
//!
//! [`Broker`] runs shards of `ringmq-core`, each on its own core: a thread with a glommio executor,
//! and a second io_uring for the sockets (`ringmq-ring`). Start reading at `reactor`.
#![forbid(unsafe_code)]

pub mod admin;
mod admission;
pub mod auth;
pub mod bounds;
mod broker;
mod counters;
mod date;
mod error;
mod inbox;
mod passed;
mod patience;
mod random;
mod reactor;
pub mod store;
pub mod transport;

pub use admission::Admission;
pub use broker::{Broker, BrokerConfig, TlsReload};
pub use counters::{Counts, Tallies, Tally};
pub use error::{ListenProblem, RingProblem, StartError};
pub use patience::Patience;
pub use reactor::Core;
pub use reactor::log_filter_has_changed;
#[doc(hidden)]
pub use reactor::rig;
pub use ringmq_ring::{RingConfig, Wait};
pub use transport::{Endpoint, ListenerConfig};

/// The atomics of the inbox and its handshake; the models in `tests` put loom's in their place.
mod atomics {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
}
