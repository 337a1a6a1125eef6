//! What each shard reports to the one that publishes the sums.

use super::metrics::Metrics;
use crate::sizes::SizeCounts;
use crate::stages::Stages;
use crate::time::Instant;

/// What a shard has counted and holds.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What it has counted since its start.
    pub metrics: Metrics,
    /// What it holds.
    pub holdings: Holdings,
    /// How long things took; `None`: was not asked for.
    pub stages: Option<Box<Stages>>,
    /// Sizes of the payloads of PUBLISH packets received; `None`: was not asked for.
    pub sizes: Option<Box<SizeCounts>>,
}

impl Report {
    /// Adds what another shard tells.
    pub fn add(&mut self, other: &Report) {
        self.metrics.add(&other.metrics);
        if let Some(stages) = &other.stages {
            self.stages.get_or_insert_default().add(stages);
        }
        if let Some(sizes) = &other.sizes {
            self.sizes.get_or_insert_default().add(sizes);
        }
        let (sum, more) = (&mut self.holdings, &other.holdings);
        sum.sockets += more.sockets;
        sum.sessions += more.sessions;
        sum.connected += more.connected;
        sum.shared_subscriptions += more.shared_subscriptions;
        sum.subscriptions += more.subscriptions;
        sum.queued_messages += more.queued_messages;
        sum.queued_bytes += more.queued_bytes;
        sum.inflight_bytes += more.inflight_bytes;
        sum.unsent_packets += more.unsent_packets;
        sum.unsent_bytes += more.unsent_bytes;
        sum.retained_messages += more.retained_messages;
        sum.retained_bytes += more.retained_bytes;
    }
}

/// What a shard holds, as far as it is known without a walk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Holdings {
    /// Connections in any state.
    pub sockets: u64,
    /// Sessions, connected or not.
    pub sessions: u64,
    /// Sessions whose client is connected.
    pub connected: u64,
    /// Subscriptions that are not shared.
    pub subscriptions: u64,
    /// Shared subscriptions.
    pub shared_subscriptions: u64,
    /// Messages in queues.
    pub queued_messages: u64,
    /// Bytes in queues.
    pub queued_bytes: u64,
    /// Bytes of messages that were sent and are kept until they are acknowledged.
    pub inflight_bytes: u64,
    /// Packets that wait for sockets.
    pub unsent_packets: u64,
    /// Bytes that wait for sockets.
    pub unsent_bytes: u64,
    /// Retained messages of topics that belong here.
    pub retained_messages: u64,
    /// Bytes of those.
    pub retained_bytes: u64,
}

/// Exponential moving averages, per minute.
#[derive(Debug, Default)]
pub(in crate::shard) struct Loads {
    pub(in crate::shard) updated_at: Instant,
    counts: [u64; Loads::NAMES.len()],
    pub(in crate::shard) averages: [[f64; 3]; Loads::NAMES.len()],
}

impl Loads {
    pub(in crate::shard) const MINUTES: [u32; 3] = [1, 5, 15];
    pub(in crate::shard) const NAMES: [&'static str; 9] = [
        "messages/received",
        "messages/sent",
        "publish/dropped",
        "publish/received",
        "publish/sent",
        "bytes/received",
        "bytes/sent",
        "sockets",
        "connections",
    ];

    pub(in crate::shard) fn update(&mut self, now: Instant, metrics: &Metrics) {
        let elapsed_s = now.saturating_since(self.updated_at).as_secs_f64();
        if elapsed_s == 0.0 {
            return;
        }
        let counts = [
            metrics.packets_received,
            metrics.packets_sent(),
            metrics.dropped.iter().sum(),
            metrics.publishes_received.iter().sum(),
            metrics.publishes_sent.iter().sum(),
            metrics.bytes_received,
            metrics.bytes_sent,
            metrics.sockets_opened(),
            metrics.connects,
        ];
        for (index, &count) in counts.iter().enumerate() {
            // Reports are from different moments: the sum of sockets may go down.
            let grown = count.saturating_sub(self.counts[index]);
            let per_minute = grown as f64 * 60.0 / elapsed_s;
            for (minutes, average) in Loads::MINUTES.iter().zip(&mut self.averages[index]) {
                let kept = (-elapsed_s / (60.0 * f64::from(*minutes))).exp();
                *average = per_minute + kept * (*average - per_minute);
            }
        }
        self.counts = counts;
        self.updated_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_averages_approach_the_rate_per_minute_each_at_its_own_pace() {
        let mut loads = Loads::default();
        let mut metrics = Metrics::default();
        for step in 1..=90 {
            metrics.bytes_received += 100;
            loads.update(Instant::from_nanos(step * 10_000_000_000), &metrics);
            if step == 6 {
                // One minute: 1 - 1/e of 600 per minute.
                assert!((loads.averages[5][0] - 379.27).abs() < 0.01);
            }
        }
        let [one, five, fifteen] = loads.averages[5];
        assert!((one - 600.0).abs() < 0.01, "{one}");
        assert!((five - 570.13).abs() < 0.01, "{five}");
        assert!((fifteen - 379.27).abs() < 0.01, "{fifteen}");
    }
}
