//! Everything that one look at the broker shows.

use std::time::{Duration, SystemTime};

use ringmq_core::shard::Report;

use super::asker::ShardState;
use super::process::Process;
use super::stalls::Totals;
use super::{Control, Facts};
use crate::counters::Counts;

/// The broker at a moment.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) facts: Facts,
    pub(super) shards: Vec<ShardState>,
    /// Of all shards, as far as they have ever answered.
    pub(super) total: Report,
    /// What the reactors have counted.
    pub(super) counts: Counts,
    /// What is counted outside of the shards, by name.
    pub(super) tallies: Vec<(&'static str, u64)>,
    pub(super) process: Process,
    /// Requests of the control plane, by route and status.
    pub(super) requests: Vec<((String, u16), u64)>,
    /// For each listener with TLS: when its first certificate ends, since 1970.
    pub(super) certificates: Vec<(String, Duration)>,
    /// Turns that took too long, by shard and kind.
    pub(super) stalls: Vec<Totals>,
    pub(super) is_stopping: bool,
    pub(super) is_draining: bool,
}

impl Scene {
    pub(super) async fn look(control: &Control) -> Scene {
        let shards = control.asker.snapshot().await;
        let mut total = Report::default();
        let mut counts = Counts::default();
        for shard in &shards {
            if let Some(report) = &shard.report {
                total.add(report);
            }
            counts.add(&shard.counts);
        }
        Scene {
            facts: control.facts.clone(),
            shards,
            total,
            counts,
            tallies: control.facts.tallies.named(),
            process: Process::look(),
            requests: control.requests(),
            stalls: control.stalls.totals(),
            certificates: control.asker.certificates(),
            is_stopping: control.is_stopping(),
            is_draining: control.drain().is_some(),
        }
    }

    /// The broker serves clients, and every shard answers.
    pub(super) fn is_ready(&self) -> bool {
        !self.is_stopping
            && !self.is_draining
            && self.shards.iter().all(|shard| shard.is_responding)
    }

    /// A count that is made outside of the shards.
    pub(super) fn tally(&self, name: &str) -> u64 {
        let found = self.tallies.iter().find(|(known, _)| *known == name);
        found.map_or(0, |(_, count)| *count)
    }

    pub(super) fn uptime(&self) -> Duration {
        let elapsed = SystemTime::now().duration_since(self.facts.started_at);
        elapsed.unwrap_or_default() // The clock was set back.
    }
}
