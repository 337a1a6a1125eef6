//! The result file of a run: what `--json FILE` writes and everything else reads.
//!
//! One file is one run against one broker. [`ResultFile::read`] takes it back in.
//!
//! Conventions:
//! - times are microseconds (`_us`), seconds (`_s`) or milliseconds since 1970 (`_unix_ms`); sizes
//!   are bytes; rates are per second of the measured window; shares are 0 to 1, where 1 is one
//!   whole core.
//! - *window*: the measured part of the run. Warm-up comes before it, the drain after it. Rates and
//!   CPU are those of the window; latencies those of messages whose intended time lies in it,
//!   however late they arrived; the ledger counts every message of the run.
//! - *delivery*: one message arriving at one subscriber. A message for ten subscribers owes ten.
//! - what was not measured is absent (`null` or left out), never zero.
//!
//! Not here: the raw histograms (`--histograms FILE`, HdrHistogram's log format), pages and plots.

mod storm;

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::inside::Inside;
use crate::tally::tally;
pub use storm::{Failure, PhaseLatency, Return, Storm};

/// The value of [`ResultFile::format`].
pub const FORMAT: &str = "ringload-result";
/// Goes up when a field changes its meaning or goes away; new optional fields leave it.
pub const FORMAT_VERSION: u32 = 1;

/// Everything about one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResultFile {
    /// [`FORMAT`].
    pub format: String,
    /// [`FORMAT_VERSION`].
    pub version: u32,
    /// What was run, where, against what.
    pub run: Run,
    /// Whether the numbers are valid statements about the broker.
    pub validity: Validity,
    /// Over all groups.
    pub totals: Totals,
    /// By group of clients, in the order of the scenario.
    pub groups: Vec<Group>,
    /// By QoS of the delivery, which is the lower one of publication and subscription; ascending,
    /// only those that occur.
    pub qos: Vec<QosResult>,
    /// Second by second, from the beginning of the publishing to the end of the drain.
    pub timeline: Vec<Second>,
    /// What the broker used; with `--pid`.
    pub broker: Option<BrokerCost>,
    /// What the broker counted itself; if it publishes `$SYS`.
    pub sys: Option<Sys>,
    /// What the broker's control plane said of its bounds and stages; with `--admin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside: Option<Inside>,
    /// What went wrong, by kind; empty in a run without trouble.
    pub troubles: Vec<Trouble>,
    /// By stage, those that took place; empty without stages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageResult>,
    /// What a storm came to; its phases are the stages. Absent without `[storm]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storm: Option<Storm>,
    /// What became of each threshold; empty without thresholds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verdicts: Vec<Verdict>,
    /// The machines that made the run, with `--on`; absent if ringload made it itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agents: Option<Agents>,
}

/// The machines that made a run for the one that led it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agents {
    /// Of the deliveries that were owed, the share whose publisher and subscriber were on different
    /// machines.
    pub crossing_share: f64,
    /// Their latencies are known to within this.
    pub clock_error_us: f64,
    /// False if that is above a tenth of their median: then latencies were not judged.
    pub latency_judged: bool,
    /// In the order of `--on`.
    pub machines: Vec<Agent>,
}

/// A machine that made a part of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// As ssh knows it.
    pub host: String,
    /// Clients there.
    pub clients: u64,
    /// What it is.
    pub machine: Machine,
    /// Its clock minus that of who led, when the run began.
    pub clock_ahead_us: f64,
    /// That is known to within this: half of the shortest of 16 round trips, and what the clocks
    /// drifted during the run.
    pub clock_error_us: f64,
    /// Whether it kept up. What makes one of them invalid makes the run invalid.
    pub validity: Validity,
}

/// What was run, where, against what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Given with `--label`: how tables and plots name this run. Absent: the target.
    pub label: Option<String>,
    /// Version of ringload; of a release with the commit.
    pub ringload: String,
    /// The command line, program name first; secrets are `***`.
    pub command: Vec<String>,
    /// Identifies the run, in payloads and in `{run}` of topics and client ids.
    pub run_id: String,
    /// When it began.
    pub started_unix_ms: u64,
    /// What was to be done.
    pub scenario: ScenarioNote,
    /// The broker's address, `127.0.0.1:1883`.
    pub target: String,
    /// Where ringload ran.
    pub machine: Machine,
    /// How long each part took.
    pub phases: Phases,
    /// Why it ended.
    pub ended: Ended,
}

/// What was to be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScenarioNote {
    /// `pairs`, or what the file calls itself.
    pub name: String,
    /// One line for people.
    pub about: String,
    /// The whole scenario as TOML, all options applied: `ringload run` on it repeats the run, once
    /// passwords that stood in it are written again in place of `***`.
    pub toml: String,
}

/// Where ringload ran.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Name of the processor.
    pub cpu: String,
    /// Cores that ringload may use.
    pub cores: u32,
    /// Memory of the machine.
    pub memory_bytes: u64,
    /// Kernel release.
    pub kernel: String,
    /// Load average over one minute when the run began.
    pub load_before: f64,
    /// Its name; absent in results of earlier versions, like all that follows.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// How the kernel chooses the speed of the first core: `performance`, `schedutil`; absent if
    /// that is not the kernel's business, as in most virtual machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub governor: Option<String>,
    /// Settings of the kernel that change what a broker can do, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sysctls: Vec<(String, String)>,
}

/// How long each part took, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phases {
    /// Until every client was connected and subscribed.
    pub connect_s: f64,
    /// Publishing, not measured.
    pub warmup_s: f64,
    /// Publishing, measured: the window.
    pub window_s: f64,
    /// From the last publication until everything owed had arrived, or nothing more did.
    pub drain_s: f64,
}

/// A stage of a run, or a step of one. Messages belong to the stage in which they were due.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageResult {
    /// Its name in the scenario, or its number.
    pub name: String,
    /// When it began, seconds after the first publication.
    pub at_s: f64,
    /// How long it took.
    pub span_s: f64,
    /// The load at its beginning, as a share of the groups' rates; 1 is all of them.
    pub load_from: f64,
    /// The load at its end.
    pub load_to: f64,
    /// Messages published per second.
    pub sent_per_s: f64,
    /// Deliveries per second.
    pub received_per_s: f64,
    /// Absent if no delivery has a stamp.
    pub latency: Option<LatencyPair>,
    /// What became of what was owed. What arrived again or in disorder belongs to the stage in
    /// which it arrived.
    pub ledger: Ledger,
    /// CPU of the broker, cores; absent without `--pid`.
    pub broker_cores: Option<f64>,
}

/// What became of a threshold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// As it was written.
    pub threshold: String,
    /// The stage that it is for; absent if it is for the run.
    pub stage: Option<String>,
    /// What it came to.
    pub judgement: Judgement,
    /// What was measured, in microseconds, bytes, messages per second or as a share; absent if it
    /// has no value.
    pub value: Option<f64>,
    /// The value with its unit, or why there is none; for people.
    pub shown: String,
}

/// What a threshold came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Judgement {
    /// It was kept.
    Passed,
    /// It was not, or what it asks for was never measured.
    Missed,
    /// The run is invalid: its numbers say nothing about the broker.
    NotJudged,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// Its time was over, or all its messages sent.
    Planned,
    /// By Ctrl-C or SIGTERM; the numbers are those up to there.
    Interrupted,
    /// The broker was gone, or of a group nobody was left.
    Broken,
    /// A stage said what must not go on for so long, and it did (`abort`); the numbers are those up
    /// to there.
    Aborted,
    /// A machine that made a part of the run was lost, with what it knew; the numbers are those of
    /// the others.
    Lost,
    /// Nothing could be measured: the first reason in `validity` says why. Every number is 0.
    Failed,
}

/// Whether the numbers say something about the broker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validity {
    /// No reason to doubt. A run with losses is valid; one that the generator held back is not.
    pub valid: bool,
    /// Why not; empty if valid.
    pub reasons: Vec<Reason>,
    /// What the generator itself used.
    pub generator: Generator,
}

/// A reason why a run is invalid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// Which check.
    pub check: Check,
    /// A sentence with the numbers and what to do, for people.
    pub text: String,
}

/// The checks that ringload makes of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// A thread of the generator had no CPU time left.
    Cpu,
    /// Something else took the cores of the generator: it was ready to run, and had to wait.
    CpuWait,
    /// It sent later than it had planned, on its own account.
    ScheduleLag,
    /// It ran out of local ports.
    Ports,
    /// It ran out of open files.
    Files,
    /// It could not keep its books of so many missing messages.
    Ledger,
    /// The window was cut short.
    Interrupted,
    /// The run did not take place.
    Failed,
    /// A machine that made a part of the run was lost.
    Agent,
}

/// What the generator itself used, in the window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generator {
    /// By thread.
    pub threads: Vec<ThreadUse>,
    /// How late messages were sent through the generator's own fault; absent without an open loop.
    pub schedule_lag: Option<Latency>,
    /// Local addresses that clients were bound to; empty if the kernel chose.
    pub sources: Vec<String>,
    /// Files that the process may open.
    pub files_max: u64,
}

/// What a thread of the generator used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThreadUse {
    /// CPU time per time, user and system; absent if the window never began.
    pub cpu_share: Option<f64>,
    /// Time in which it was ready to run and had no core; absent if the kernel does not tell.
    pub wait_share: Option<f64>,
}

/// Over all groups.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Totals {
    /// Clients of the scenario.
    pub clients: u64,
    /// Of those, connected when the publishing began.
    pub connected: u64,
    /// Connections per second while clients were connecting.
    pub connects_per_s: f64,
    /// Messages published per second.
    pub sent_per_s: f64,
    /// Deliveries per second.
    pub received_per_s: f64,
    /// Payload bytes delivered per second.
    pub received_bytes_per_s: f64,
    /// Of all deliveries that have a stamp; absent if there is none.
    pub latency: Option<LatencyPair>,
    /// Of all QoS.
    pub ledger: Ledger,
}

/// A group of clients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its name in the scenario.
    pub name: String,
    /// Clients of it.
    pub clients: u64,
    /// `3.1.1` or `5.0`.
    pub protocol: String,
    /// Over TLS.
    pub tls: bool,
    /// What carries MQTT, where that is neither TCP nor TLS alone: `WebSocket`, `WebSocket, TLS`,
    /// `Unix socket`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<String>,
    /// Clients of it that were connected when the publishing began.
    pub connected: u64,
    /// From the first packet of the TCP handshake to CONNACK.
    pub connect: Option<Latency>,
    /// Connections that were lost or cut on purpose and made again.
    pub reconnects: u64,
    /// What it published; absent for a group that does not.
    pub publish: Option<Published>,
    /// What it received; absent for a group that does not subscribe.
    pub receive: Option<Receipts>,
}

/// What a group published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// 0, 1 or 2.
    pub qos: u8,
    /// The topic pattern, as in the scenario.
    pub topic: String,
    /// Payload sizes, as in the scenario.
    pub payload: String,
    /// How it is paced.
    pub pace: Pace,
    /// Messages sent in the whole run.
    pub sent: u64,
    /// In the window.
    pub sent_per_s: f64,
    /// PUBACK and PUBCOMP that came, in the whole run; 0 at QoS 0.
    pub acknowledged: u64,
    /// Of those, refused by reason code (MQTT 5.0).
    pub refused: u64,
    /// From the sending of a message to its PUBACK or PUBCOMP; absent at QoS 0.
    pub acknowledge: Option<Latency>,
    /// Of those sent at QoS 1 and 2: the last acknowledgement never came. Absent at QoS 0.
    pub unacknowledged: Option<u64>,
    /// Messages that were due and never sent, because their client was gone or had no room: not
    /// owed.
    pub skipped: u64,
}

/// How a group publishes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Pace {
    /// Open loop: by schedule, whatever the broker does.
    Rate {
        /// Messages per second of each client.
        per_client: f64,
    },
    /// Closed loop: the next message when an earlier one was delivered. Its latencies hide the
    /// pauses of a broker (coordinated omission).
    Window {
        /// Messages outstanding per client.
        per_client: u64,
    },
}

/// What a group received.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipts {
    /// QoS asked for.
    pub qos: u8,
    /// The filter patterns, as in the scenario.
    pub filters: Vec<String>,
    /// Deliveries in the whole run, all kinds.
    pub received: u64,
    /// In the window.
    pub received_per_s: f64,
    /// Payload bytes, in the window.
    pub received_bytes_per_s: f64,
    /// Absent if no delivery has a stamp.
    pub latency: Option<LatencyPair>,
    /// From SUBSCRIBE to each retained message that it brought; absent if there was none.
    pub retained: Option<Latency>,
    /// Losses here are planned for (`may_lose`), and not part of the totals and the QoS lines.
    pub may_lose: bool,
    /// What became of what was owed.
    pub ledger: Ledger,
}

/// One QoS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QosResult {
    /// 0, 1 or 2.
    pub qos: u8,
    /// Messages published at this QoS, in the whole run.
    pub sent: u64,
    /// In the window.
    pub sent_per_s: f64,
    /// Deliveries at this QoS, in the whole run, all kinds.
    pub received: u64,
    /// In the window.
    pub received_per_s: f64,
    /// Absent if no delivery has a stamp.
    pub latency: Option<LatencyPair>,
    /// What became of what was owed.
    pub ledger: Ledger,
}

tally! {
    /// What became of the deliveries that were owed. `owed == delivered + lost + excused`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Ledger {
        /// Every message once for every subscription it matched (for a shared group: once).
        pub owed: u64,
        /// Came, the first time each; corrupt ones count.
        pub delivered: u64,
        /// Never came.
        pub lost: u64,
        /// Did not arrive, and did not have to: the publication was refused or never acknowledged,
        /// or the subscriber was away without a session that could wait.
        pub excused: u64,
        /// Came again. At QoS 1 the standard permits it.
        pub duplicated: u64,
        /// Of those, with the DUP flag: sent again on purpose.
        pub duplicated_marked: u64,
        /// Came after a later message of the same publisher on the same topic.
        pub out_of_order: u64,
        /// Payload or topic is not what was published.
        pub corrupt: u64,
        /// Came to a client that had not subscribed to it.
        pub misrouted: u64,
        /// Came with another QoS than the lower one of publication and subscription.
        pub wrong_qos: u64,
        /// Came with RETAIN although it was not what a subscription brought.
        #[serde(default)]
        pub wrong_retain: u64,
        /// From another run, or not from ringload at all.
        pub foreign: u64,
        /// Of the delivered: too small (under 16 bytes) to carry publisher, sequence and checksum.
        /// Of these only the number is known; a duplicate can hide a loss.
        pub unchecked: u64,
        /// False where order was not looked at: shared groups with very many members and
        /// publishers.
        pub order_checked: bool,
    }
}

/// Two views of the same deliveries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatencyPair {
    /// From the time at which the schedule wanted the message sent. What a pause of the broker
    /// costs is all in here. In a closed loop there is no schedule: both are the same.
    pub corrected: Latency,
    /// From the time at which the message was handed to the socket.
    pub uncorrected: Latency,
}

/// A distribution of times. Values are exact to three digits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// How many values.
    pub count: u64,
    /// Smallest.
    pub min_us: u64,
    /// Mean.
    pub mean_us: f64,
    /// 50 % are at most this.
    pub p50_us: u64,
    /// 90 %.
    pub p90_us: u64,
    /// 99 %.
    pub p99_us: u64,
    /// 99.9 %.
    pub p999_us: u64,
    /// 99.99 %.
    pub p9999_us: u64,
    /// Largest.
    pub max_us: u64,
    /// For plots: percentile (0 to 100) and value, both ascending; denser towards 100. May be
    /// empty.
    pub curve: Vec<(f64, u64)>,
}

/// One second of the publishing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Second {
    /// Where it begins: seconds after the first publication; the window begins at `warmup_s`.
    pub at_s: f64,
    /// Its length: 1, the last one less.
    pub span_s: f64,
    /// Messages published.
    pub sent: u64,
    /// Deliveries.
    pub received: u64,
    /// Payload bytes delivered.
    pub received_bytes: u64,
    /// Connections that were made.
    pub connects: u64,
    /// Troubles: connections lost, messages refused, corrupt deliveries.
    pub errors: u64,
    /// Corrected latency of what arrived in it; absent if nothing did.
    pub p50_us: Option<u64>,
    /// The same.
    pub p99_us: Option<u64>,
    /// The same.
    pub max_us: Option<u64>,
    /// CPU of the broker, cores; absent without `--pid`.
    pub broker_cpu: Option<f64>,
    /// Memory of the broker at its end; absent without `--pid`.
    pub broker_rss_bytes: Option<u64>,
    /// Clients connected and subscribed at its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<u64>,
    /// CPU of ringload, cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generator_cpu: Option<f64>,
    /// Corrected latency of what arrived in it, for heat maps; absent if nothing did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latencies: Option<Buckets>,
}

/// How many times fell into which range: range number n begins at 2^(n/4) microseconds, so that
/// each is 19 % longer than the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Buckets {
    /// Number of the first range.
    pub first: u32,
    /// Its count, and those of the ranges behind it, up to the last one that is not empty.
    pub counts: Vec<u64>,
}

impl Buckets {
    /// The range of a time; less than a microsecond counts as one.
    pub fn number(us: u64) -> u32 {
        ((us.max(1) as f64).log2() * RANGES_PER_OCTAVE).floor() as u32
    }

    /// Where a range begins, microseconds.
    pub fn begin(number: u32) -> f64 {
        (f64::from(number) / RANGES_PER_OCTAVE).exp2()
    }

    /// Adds to the range of a time.
    pub fn add(&mut self, us: u64, count: u64) {
        self.add_to(Buckets::number(us), count);
    }

    /// Adds to a range.
    pub fn add_to(&mut self, number: u32, count: u64) {
        if self.counts.is_empty() {
            self.first = number;
        }
        let missing = self.first.saturating_sub(number) as usize;
        self.counts.splice(0..0, std::iter::repeat_n(0, missing));
        self.first = self.first.min(number);
        let at = (number - self.first) as usize;
        self.counts.resize(self.counts.len().max(at + 1), 0);
        self.counts[at] += count;
    }

    /// Each range that is not empty, with its count.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        let all = (self.first..).zip(self.counts.iter().copied());
        all.filter(|(_, count)| *count > 0)
    }
}

/// What the broker used, in the window unless said otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerCost {
    /// Its processes.
    pub pids: Vec<u32>,
    /// The command line of the first one.
    pub command: String,
    /// User CPU, cores. Like all that follows, absent if a process of the broker was gone.
    pub user_cores: Option<f64>,
    /// System CPU, cores.
    pub system_cores: Option<f64>,
    /// User CPU per delivery; absent if nothing was delivered.
    pub user_ns_per_delivery: Option<f64>,
    /// System CPU per delivery; absent if nothing was delivered.
    pub system_ns_per_delivery: Option<f64>,
    /// User and system CPU per connection, while clients were connecting; absent if that was too
    /// little to tell.
    pub connect_us_per_connection: Option<f64>,
    /// Resident memory before the first client connected.
    pub rss_before_bytes: Option<u64>,
    /// Resident memory when all were connected and subscribed, before anything was published.
    pub rss_connected_bytes: Option<u64>,
    /// Of that, what one connection costs; absent with less than 100 connections, and if the broker
    /// had memory left from earlier ones.
    pub rss_per_connection_bytes: Option<f64>,
    /// Largest resident memory of its life (VmHWM), at the end of the run.
    pub rss_peak_bytes: Option<u64>,
    /// Cores that it may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cores: Option<u32>,
    /// Files that it may open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files_max: Option<u64>,
}

/// What the broker counted, beside what ringload counted over the same time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sys {
    /// `$SYS/broker/version`.
    pub version: Option<String>,
    /// Seconds from the first to the last report of the broker that the counts below compare.
    pub span_s: f64,
    /// The counters that both sides know.
    pub counters: Vec<SysCounter>,
    /// Every topic below `$SYS`, with the last value, by name.
    pub last: Vec<(String, String)>,
}

/// One counter of the broker beside ours.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SysCounter {
    /// `$SYS/broker/publish/messages/received`.
    pub topic: String,
    /// How much the broker's value grew.
    pub broker: f64,
    /// How much ours grew between the arrivals of the same two reports.
    pub ours: f64,
}

/// What went wrong, by kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trouble {
    /// For people: "closed by the broker".
    pub kind: String,
    /// How often.
    pub count: u64,
    /// The first case, with client and reason.
    pub first: String,
}

impl ResultFile {
    /// Reads a result file; says what is wrong with one that is none.
    pub fn read(path: &Path) -> io::Result<ResultFile> {
        let bytes = std::fs::read(path)?;
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let head: Head = serde_json::from_slice(&bytes)
            .map_err(|error| invalid(format!("is not a result file of ringload: {error}")))?;
        if head.format != FORMAT || head.version != FORMAT_VERSION {
            return Err(invalid(format!(
                "has format {} {}, this ringload reads {FORMAT} {FORMAT_VERSION}",
                head.format, head.version
            )));
        }
        serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))
    }

    /// The file, readable for people too.
    pub fn to_json(&self) -> String {
        let mut text =
            serde_json::to_string_pretty(self).expect("no map with other keys than text");
        text.push('\n');
        text
    }
}

/// What is looked at first.
#[derive(Deserialize)]
struct Head {
    format: String,
    version: u32,
}

/// Ranges of [`Buckets`] from a time to twice of it.
const RANGES_PER_OCTAVE: f64 = 4.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_range_that_begins_before_it() {
        let mut buckets = Buckets::default();
        for us in [100, 0, 1, 99, 100, 3_600_000_000] {
            buckets.add(us, 1);
            let number = Buckets::number(us);
            let (begin, end) = (Buckets::begin(number), Buckets::begin(number + 1));
            let us = us.max(1) as f64;
            assert!(begin <= us && us < end, "{us}: {begin} to {end}");
        }
        let all: Vec<(u32, u64)> = buckets.iter().collect();
        assert_eq!(all, [(0, 2), (26, 3), (126, 1)]);
    }
}
