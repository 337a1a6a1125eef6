//! What a broker is bound by: its threads, the machine, a limit of the kernel, or none of these.
//!
//! [`watch`] takes a [`Snapshot`] of what the kernel counts before and after a load;
//! [`bound`] compares the two. The order of its rows is the order of trust: if the generator was at
//! fault nothing else can be said, and a busy thread explains a full queue, never the other way
//! round. The first row that holds is the bound; the others are listed with their headroom.
//!
//! The thresholds, where they need a reason:
//! - A thread at 95 % of a core has no more: the rest is what the scheduler takes.
//! - Threads of one kind have names that differ only in digits. One of them that does much more
//!   than the mean (1.3 times) is one shard at its limit, and more cores would not help.
//! - A thread that waits for 10 % of the time has lost its core to somebody. Pressure (PSI) is
//!   only looked at if the kernel does not count the waiting of threads: it covers the whole
//!   machine, generator included.
//! - Packets that the kernel drops before TCP sees them count from one in 10,000 on: TCP repeats
//!   them, and fewer do not show in a 99th percentile.
//! - Half of the memory of a control group may be files in the cache, which the kernel gives up:
//!   they are not counted.
//!
//! Not here: which load is looked at (the search), and what a result file keeps of it.

mod classify;
mod parse;
mod stages;
mod watch;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use classify::{bound, workers};
pub use stages::{StageTime, stage_times, stages_at};
pub use watch::Watch;

/// What the kernel has counted up to a moment. What it does not tell is absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// When, nanoseconds of a clock that does not jump.
    pub at_ns: u64,
    /// The threads of the broker.
    pub threads: Vec<Thread>,
    /// The cores of the machine, by number.
    pub cores: Vec<CoreTime>,
    /// Packets between the network cards and TCP, of all cores.
    pub packets: Option<Packets>,
    /// Network cards that know their speed.
    pub cards: Vec<Card>,
    /// Memory of the narrowest control group of the broker, or of the machine; bytes.
    pub memory: Option<Room>,
    /// Resident memory of the broker, bytes.
    pub resident_bytes: Option<u64>,
    /// Memory of all TCP sockets (`net.ipv4.tcp_mem`), bytes.
    pub socket_memory: Option<Room>,
    /// Open files of the process of the broker that has the fewest left.
    pub files: Option<Room>,
    /// Connections that the firewall follows.
    pub conntrack: Option<Room>,
    /// Connections that were lost because the queue of a listener was full.
    pub listen_overflows: Option<u64>,
    /// Time in which the control group was not allowed to run, nanoseconds.
    pub throttled_ns: Option<u64>,
    /// Time in which a task of the machine waited for a core (PSI), nanoseconds.
    pub pressure_ns: Option<u64>,
    /// Bounds of the broker itself, by name: how often each was reached. From its `$SYS` or its
    /// metrics; [`is_own_bound`] tells which.
    pub own: BTreeMap<String, u64>,
    /// How long the stages of the broker took since its start: for each, upper bounds in seconds with how
    /// often it was at most that. From its metrics.
    pub stages: BTreeMap<String, Vec<(f64, u64)>>,
}

/// A thread of the broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thread {
    /// Its number.
    pub id: u32,
    /// Its name: at most 15 bytes.
    pub name: String,
    /// CPU time, nanoseconds.
    pub cpu_ns: u64,
    /// Time in which it was ready and had no core; absent if the kernel does not tell.
    pub wait_ns: Option<u64>,
}

/// Time of a core, in ticks of any length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CoreTime {
    /// All of it.
    pub total: u64,
    /// In network interrupts, mostly.
    pub softirq: u64,
    /// The host ran something else.
    pub steal: u64,
}

/// Packets that came to the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packets {
    /// Taken in.
    pub processed: u64,
    /// Dropped, because the queue of a core was full.
    pub dropped: u64,
}

/// A network card.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Card {
    /// Its name.
    pub name: String,
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Packets that it had no room for.
    pub missed: u64,
    /// In each direction, bits per second.
    pub speed_bits: u64,
}

/// What is used of something that has an end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Used.
    pub used: u64,
    /// The end.
    pub limit: u64,
}

/// What is known beside the counters of the kernel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    /// Why trials were void, if too many were: then the generator was the bound.
    pub generator: Option<String>,
    /// The stages of the broker, at the last good load and at this one.
    pub stages: Vec<Stage>,
}

/// A stage of the way of a message through the broker.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// `inbox`.
    pub name: String,
    /// How long it took at the last good load: 99 % of the cases, microseconds.
    pub good_us: f64,
    /// At this load.
    pub bad_us: f64,
}

/// What a broker is bound by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    /// The first row that holds.
    pub by: Finding,
    /// The other rows that could be looked at, those with the least headroom first.
    pub rest: Vec<Finding>,
}

/// One resource: its use and its limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// Which.
    pub what: What,
    /// Used, in the unit of the limit.
    pub used: f64,
    /// What there is; of a thing that should not happen, how much of it does no harm.
    pub limit: f64,
    /// The resource is used up.
    pub holds: bool,
    /// For people, with the numbers; what to do about it, if it holds.
    pub sentence: String,
}

/// A resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// The load generator.
    Generator,
    /// One thread of the broker, while others of its kind have time left; or its only one.
    OneThread,
    /// All threads of a kind.
    AllThreads,
    /// Cores that the broker was ready to use and did not get.
    NoCore,
    /// A core that handles interrupts of the network.
    Softirq,
    /// Packets that were dropped before TCP saw them.
    Packets,
    /// The speed of a network card.
    Card,
    /// Memory.
    Memory,
    /// Memory of TCP sockets.
    SocketMemory,
    /// Open files.
    Files,
    /// Connections that the firewall follows.
    Conntrack,
    /// Connections that wait to be accepted.
    Backlog,
    /// A bound that the broker has set itself.
    Own,
    /// None of these: it takes too long.
    Latency,
}

impl Finding {
    /// The share of the limit that is left, 0 to 1.
    pub fn headroom(&self) -> f64 {
        match self.limit > 0.0 {
            true => (1.0 - self.used / self.limit).max(0.0),
            false => f64::from(self.used <= 0.0),
        }
    }
}

/// A counter below `$SYS` that counts how often a bound of the broker was reached: messages dropped
/// because something was full, full inboxes, paused reads. Not what expired or was not allowed.
pub fn is_own_bound(topic: &str) -> bool {
    let last = topic.rsplit('/').next().unwrap_or(topic);
    let is_total = !topic.contains("/load/") && !topic.contains("/shards/");
    OWN_BOUNDS.contains(&last) || (is_total && topic.ends_with("/publish/messages/dropped"))
}

/// The last level of such topics, in Ringmq.
const OWN_BOUNDS: [&str; 6] = [
    "slow_socket",
    "queue_full",
    "shard_full",
    "retained_full",
    "inbox_full",
    "reads_paused",
];
