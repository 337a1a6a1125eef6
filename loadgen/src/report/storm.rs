//! What a storm came to: the part of a result that only a run with `[storm]` has.

use serde::{Deserialize, Serialize};

use super::Latency;

/// A storm, and the recovery from it. Its phases are the stages of the result.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storm {
    /// `cut`, `silence` or `takeover`.
    pub event: String,
    /// Clients that it hit.
    pub hit: u64,
    /// By which they return, as in the scenario.
    pub backoff: String,
    /// When it was, seconds after the first publication.
    pub at_s: f64,
    /// How long the recovery might take.
    pub within_s: f64,
    /// The share of the clients that had to be back in a good second.
    pub back_wanted: f64,
    /// What a good second had to keep to besides.
    pub limits: Vec<String>,
    /// When the good seconds began, seconds after the storm; absent if five in a row never came.
    pub recovered_s: Option<f64>,
    /// Of the clients that it hit, back at the end.
    pub back: u64,
    /// How long it took until so many were back.
    pub returns: Vec<Return>,
    /// Attempts to connect.
    pub attempts: u64,
    /// Attempts that failed, and clients that were closed after their return, by reason; the most
    /// frequent first.
    pub failures: Vec<Failure>,
    /// From when an attempt was due to its CONNACK.
    pub connect: Option<Latency>,
    /// From when an attempt was due until ringload dialled: of that, its own share.
    pub lag: Option<Latency>,
    /// CONNACKs for clients with a session.
    pub sessions: u64,
    /// Of those, with the session present.
    pub sessions_present: u64,
    /// From the return of a client to its first message.
    pub first_message: Option<Latency>,
    /// Handshakes of TLS in full.
    pub handshakes_full: u64,
    /// Those that went on with an earlier session.
    pub handshakes_resumed: u64,
    /// Sockets that were left open and silent.
    pub silent: u64,
    /// Of those, closed by the broker up to the end.
    pub silent_closed: u64,
    /// Largest resident memory of the broker in a second after the storm; with `--pid`.
    pub memory_peak_bytes: Option<u64>,
    /// Most CPU of the broker in such a second, cores.
    pub cpu_peak_cores: Option<f64>,
    /// Latencies of each group in each phase, where there are any.
    pub latencies: Vec<PhaseLatency>,
    /// The verdict, for people.
    pub sentence: String,
}

/// How long it took until a share of the clients was back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Return {
    /// 0 to 1.
    pub share: f64,
    /// Seconds after the storm; absent if so many never were.
    pub after_s: Option<f64>,
}

/// Attempts that failed for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// For people: `refused: ServerBusy (0x89)`.
    pub why: String,
    /// How many.
    pub count: u64,
}

/// Latencies of what a group received that was due in a phase, from when it was due.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseLatency {
    /// `before`, `away`, `returning` or `after`.
    pub phase: String,
    /// The group.
    pub group: String,
    /// None of its clients was hit.
    pub is_bystander: bool,
    /// Deliveries.
    pub count: u64,
    /// 50 % are at most this.
    pub p50_us: u64,
    /// 99 %.
    pub p99_us: u64,
    /// The largest.
    pub max_us: u64,
}

impl Storm {
    /// When a share of the clients was back.
    pub fn returned(&self, share: f64) -> Option<f64> {
        let known = self.returns.iter().find(|one| one.share == share);
        known.and_then(|one| one.after_s)
    }
}
