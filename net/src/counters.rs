//! Counters of a shard's reactor. The reactor counts in plain integers and publishes them once per
//! turn; anybody may read the published values at any time, though not as a consistent snapshot.

use std::sync::atomic::{AtomicU64, Ordering};

use ringmq_core::time::Instant;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One reading of the counters. All of them only grow, from the start of the shard.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counts {
            /// Adds what another shard has counted.
            pub(crate) fn add(&mut self, other: &Counts) {
                $(self.$name += other.$name;)*
            }

            /// Each with its name.
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }

        /// The published counters of one shard.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            /// When its turn began.
            pub(crate) pulse: Pulse,
            $($name: AtomicU64,)*
        }

        impl Counters {
            /// Makes a reading visible. One writer only.
            pub(crate) fn publish(&self, counts: &Counts) {
                $(self.$name.store(counts.$name, Ordering::Relaxed);)*
            }

            /// The values last published.
            pub(crate) fn read(&self) -> Counts {
                Counts { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Turns of the reactor.
    turns,
    /// Completions handled.
    completions,
    /// Connections accepted by a listener of this shard.
    accepted,
    /// Connections closed at once, because the connection limit was reached.
    refused,
    /// Times that accepting stopped for a while, because clients exceeded `connect_rate_max`.
    accepts_throttled,
    /// Times that accepting paused, because file descriptors ran out.
    accept_pauses,
    /// TLS handshakes completed.
    tls_handshakes,
    /// TLS handshakes that resumed a session.
    tls_resumed,
    /// Connections ended by a layer below MQTT: PROXY, TLS, WebSocket.
    transports_failed,
    /// Connections to a listener for proxies from elsewhere than a trusted proxy.
    proxies_refused,
    /// Connections that moved to another shard.
    moved,
    /// Connections closed.
    closed,
    /// Chunks received.
    receives,
    /// Bytes received.
    received_bytes,
    /// Sends started.
    sends,
    /// Bytes sent.
    sent_bytes,
    /// Sends that took a part of an output: it was large, or the kernel stopped.
    short_sends,
    /// Times that reading a connection paused, because it did not read its responses.
    reads_paused,
    /// Clients refused, because too many were waiting to be authenticated.
    auth_overflows,
    /// Receives that found no free buffer.
    buffers_exhausted,
    /// Times that the completion queue was too small.
    overflows,
    /// Submissions that the kernel put off.
    submits_again,
    /// Messages from other shards.
    messages,
    /// Times that a full inbox of another shard stopped this one from reading its sockets.
    stalls,
    /// Times that the reactor went to sleep.
    parks,
    /// Times that it was about to, and found work.
    parks_averted,
}

/// When the turn of a shard began, for whoever watches whether it ends.
#[derive(Debug, Default)]
pub(crate) struct Pulse(AtomicU64);

impl Pulse {
    /// A turn begins. One writer only.
    pub(crate) fn begin(&self, now: Instant) {
        self.0.store(now.as_nanos(), Ordering::Relaxed);
    }

    /// The shard has nothing to do.
    pub(crate) fn rest(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// When the turn began that has not ended; `None`: the shard rests.
    pub(crate) fn began(&self) -> Option<Instant> {
        let nanos = self.0.load(Ordering::Relaxed);
        (nanos > 0).then(|| Instant::from_nanos(nanos))
    }
}

macro_rules! tallies {
    ($($(#[$doc:meta])* $variant:ident, $name:literal;)*) => {
        /// What is counted for the whole broker, outside of the shards.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Tally {
            $($(#[$doc])* $variant,)*
        }

        impl Tally {
            const NAMES: [&'static str; [$($name,)*].len()] = [$($name,)*];
        }
    };
}

tallies! {
    /// The configuration was read again and came into force.
    ReloadsDone, "reloads/done";
    /// It was read again, and something was wrong with it.
    ReloadsFailed, "reloads/failed";
    /// The hook for authentication knew a client.
    AuthenticationAllowed, "hooks/authentication/allowed";
    /// It refused a client.
    AuthenticationDenied, "hooks/authentication/denied";
    /// It left a client to the other authenticators.
    AuthenticationIgnored, "hooks/authentication/ignored";
    /// It did not answer in time, or not in a form that is understood.
    AuthenticationFailed, "hooks/authentication/failed";
    /// Clients whose own deadline passed while it was asked.
    AuthenticationOutOfTime, "hooks/authentication/out_of_time";
    /// It was not asked, because it had failed so often.
    AuthenticationCutOff, "hooks/authentication/cut_off";
    /// The hook for authorization gave rules.
    AuthorizationAllowed, "hooks/authorization/allowed";
    /// It refused a client.
    AuthorizationDenied, "hooks/authorization/denied";
    /// It had nothing to say of a client.
    AuthorizationIgnored, "hooks/authorization/ignored";
    /// It did not answer in time, or in a way that nobody understands.
    AuthorizationFailed, "hooks/authorization/failed";
    /// Clients whose own time was up while it was asked.
    AuthorizationOutOfTime, "hooks/authorization/out_of_time";
    /// It was not asked, because it had failed so often.
    AuthorizationCutOff, "hooks/authorization/cut_off";
    /// Clients for whose passwords or tokens too many others waited.
    LoginOverflows, "logins/overflows";
    /// Clients for whose hooks too many others waited.
    HookOverflows, "hooks/overflows";
}

/// What was counted outside of the shards since the start. Any thread may add to it.
#[derive(Debug, Default)]
pub struct Tallies {
    counts: [AtomicU64; Tally::NAMES.len()],
    warnings: AtomicU64,
}

impl Tallies {
    /// Counts one more.
    pub fn add(&self, tally: Tally) {
        self.counts[tally as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The settings that have come into force deserve so many warnings.
    pub fn set_warnings(&self, count: usize) {
        self.warnings.store(count as u64, Ordering::Relaxed);
    }

    /// How many they deserve.
    pub(crate) fn warnings(&self) -> u64 {
        self.warnings.load(Ordering::Relaxed)
    }

    /// Each with its name, which is made of topic levels.
    pub fn named(&self) -> Vec<(&'static str, u64)> {
        let counts = self
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        Tally::NAMES.into_iter().zip(counts).collect()
    }
}

/// Adds one or more to a counter of the reactor.
macro_rules! count {
    ($counts:expr, $name:ident) => {
        $counts.$name += 1
    };
    ($counts:expr, $name:ident, $by:expr) => {
        $counts.$name += u64::from($by)
    };
}
pub(crate) use count;
