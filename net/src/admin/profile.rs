//! What clients do, as counts: from two answers, and two lists of the clients, `ringload capture` makes a scenario.
//!
//! No client, no topic: those are in the lists.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use ringmq_core::shard::Report;
use ringmq_core::sizes::SizeCounts;
use serde::Serialize;

use super::Control;
use super::scene::Scene;

/// Counters since the start, and what is held.
#[derive(Debug, Serialize)]
pub(super) struct ProfileView {
    version: &'static str,
    uptime_s: f64,
    shards: usize,
    connections: u64,
    sessions: u64,
    subscriptions: u64,
    shared_subscriptions: u64,
    retained_messages: u64,
    connects: u64,
    connects_refused: u64,
    connections_closed: u64,
    packets_in: u64,
    packets_out: u64,
    /// By QoS.
    publishes_in: [u64; 3],
    publishes_out: [u64; 3],
    payload_bytes_in: u64,
    payload_bytes_out: u64,
    dropped: u64,
    /// Of the payloads that clients have published.
    payload_sizes: Vec<SizeView>,
    missing_shards: Vec<usize>,
}

/// Payloads of similar size.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct SizeView {
    min: u32,
    max: u32,
    count: u64,
}

/// `GET /profile`.
pub(super) async fn profile(State(control): State<Arc<Control>>) -> Json<ProfileView> {
    Json(ProfileView::of(&Scene::look(&control).await))
}

impl ProfileView {
    fn of(scene: &Scene) -> ProfileView {
        let Report {
            metrics,
            holdings,
            sizes,
            ..
        } = &scene.total;
        let shards = scene.shards.iter().enumerate();
        let missing = shards.filter(|(_, shard)| !shard.is_responding);
        ProfileView {
            version: scene.facts.version,
            uptime_s: scene.uptime().as_secs_f64(),
            shards: scene.shards.len(),
            connections: holdings.sockets,
            sessions: holdings.sessions,
            subscriptions: holdings.subscriptions,
            shared_subscriptions: holdings.shared_subscriptions,
            retained_messages: holdings.retained_messages,
            connects: metrics.connects,
            connects_refused: metrics.connects_refused,
            connections_closed: scene.counts.closed,
            packets_in: metrics.packets_received,
            packets_out: metrics.packets_sent(),
            publishes_in: metrics.publishes_received,
            publishes_out: metrics.publishes_sent,
            payload_bytes_in: metrics.payload_bytes_received,
            payload_bytes_out: metrics.payload_bytes_sent,
            dropped: metrics.dropped.iter().sum(),
            payload_sizes: sizes.as_deref().map(size_views).unwrap_or_default(),
            missing_shards: missing.map(|(index, _)| index).collect(),
        }
    }
}

fn size_views(sizes: &SizeCounts) -> Vec<SizeView> {
    let view = |(class, count)| {
        let bounds = SizeCounts::bounds(class);
        SizeView {
            min: *bounds.start(),
            max: *bounds.end(),
            count,
        }
    };
    sizes.counted().map(view).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sizes_that_occur_are_shown() {
        let mut sizes = SizeCounts::default();
        sizes.record(3, 7);
        sizes.record(1000, 2);
        let row = |min, max, count| SizeView { min, max, count };
        assert_eq!(size_views(&sizes), [row(3, 3, 7), row(960, 1023, 2)]);
    }
}
