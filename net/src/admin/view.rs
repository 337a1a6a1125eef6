//! What is shown of the broker, its shards and its clients, as JSON.

use std::time::Duration;

use ringmq_core::codec::Version;
use ringmq_core::session::Expiry;
use ringmq_core::shard::SessionRow;
use serde::Serialize;

use super::asker::ShardState;
use super::scene::Scene;

/// The broker as a whole.
#[derive(Debug, Serialize)]
pub(super) struct BrokerView {
    version: &'static str,
    pid: u32,
    uptime_s: u64,
    ready: bool,
    listeners: Vec<String>,
    data_dir: Option<String>,
    shards: usize,
    shards_responding: usize,
    connections: u64,
    connections_max: u64,
    sessions: u64,
    sessions_connected: u64,
    subscriptions: u64,
    shared_subscriptions: u64,
    retained_messages: u64,
    queued_messages: u64,
    queued_bytes: u64,
    publishes_received: u64,
    publishes_sent: u64,
    messages_dropped: u64,
    connects_refused: u64,
}

impl BrokerView {
    pub(super) fn of(scene: &Scene) -> BrokerView {
        let (metrics, holdings) = (&scene.total.metrics, &scene.total.holdings);
        let responding = scene.shards.iter().filter(|shard| shard.is_responding);
        BrokerView {
            version: scene.facts.version,
            pid: std::process::id(),
            uptime_s: scene.uptime().as_secs(),
            ready: scene.is_ready(),
            listeners: scene.facts.listeners.clone(),
            data_dir: scene.facts.data_dir.clone(),
            shards: scene.shards.len(),
            shards_responding: responding.count(),
            connections: holdings.sockets,
            connections_max: scene.facts.connections_max,
            sessions: holdings.sessions,
            sessions_connected: holdings.connected,
            subscriptions: holdings.subscriptions,
            shared_subscriptions: holdings.shared_subscriptions,
            retained_messages: holdings.retained_messages,
            queued_messages: holdings.queued_messages,
            queued_bytes: holdings.queued_bytes,
            publishes_received: metrics.publishes_received.iter().sum(),
            publishes_sent: metrics.publishes_sent.iter().sum(),
            messages_dropped: metrics.dropped.iter().sum(),
            connects_refused: metrics.connects_refused,
        }
    }
}

/// A shard. What it holds is as old as its last answer.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ShardView {
    shard: usize,
    responding: bool,
    connections: u64,
    sessions: u64,
    subscriptions: u64,
    queued_messages: u64,
    unsent_bytes: u64,
    inbox_messages: u64,
    publishes_received: u64,
    publishes_sent: u64,
    messages_dropped: u64,
    turns: u64,
    parks: u64,
    stalls: u64,
    cpu_s: Option<f64>,
    runnable_s: Option<f64>,
}

impl ShardView {
    pub(super) fn of((index, state): (usize, &ShardState)) -> ShardView {
        let report = state.report.clone().unwrap_or_default();
        let (metrics, holdings) = (&report.metrics, &report.holdings);
        let schedule = state.schedule;
        ShardView {
            shard: index,
            responding: state.is_responding,
            connections: holdings.sockets,
            sessions: holdings.sessions,
            subscriptions: holdings.subscriptions + holdings.shared_subscriptions,
            queued_messages: holdings.queued_messages,
            unsent_bytes: holdings.unsent_bytes,
            inbox_messages: state.inbox_messages,
            publishes_received: metrics.publishes_received.iter().sum(),
            publishes_sent: metrics.publishes_sent.iter().sum(),
            messages_dropped: metrics.dropped.iter().sum(),
            turns: state.counts.turns,
            parks: state.counts.parks,
            stalls: state.counts.stalls,
            cpu_s: schedule.map(|schedule| schedule.cpu.as_secs_f64()),
            runnable_s: schedule.map(|schedule| schedule.runnable.as_secs_f64()),
        }
    }
}

/// A client: its session, and its connection if it has one.
#[derive(Debug, Serialize)]
pub(super) struct ClientView {
    client_id: Box<str>,
    user: Option<Box<str>>,
    connected: bool,
    shard: usize,
    protocol: &'static str,
    peer: Option<String>,
    connected_for_s: Option<u64>,
    silent_for_s: Option<u64>,
    /// Silence after which it counts as lost.
    silence_max_s: Option<f64>,
    bridge: bool,
    /// Its connection is not read at the moment.
    paused: bool,
    unsent_bytes: u32,
    /// Messages from the client, on this connection.
    r#in: u64,
    /// Messages to it.
    out: u64,
    /// Messages for it that were lost.
    dropped: u64,
    /// Both ways.
    bytes: u64,
    in_payload_bytes: u64,
    in_qos1: u32,
    in_qos2: u32,
    /// On which it published last.
    topic: Option<String>,
    subscriptions: usize,
    queued_messages: usize,
    queued_bytes: u64,
    inflight: usize,
    receipts: usize,
    will: bool,
    /// How long the session outlives its connection; `None`: for ever.
    expiry_s: Option<u64>,
    /// When it ends, if the client stays away.
    ends_in_s: Option<u64>,
}

impl ClientView {
    pub(super) fn of(shard: usize, row: SessionRow) -> ClientView {
        let link = row.link.as_ref();
        let counts = link.map(|link| link.counts).unwrap_or_default();
        let topic = row.topic;
        ClientView {
            client_id: row.client_id,
            user: row.identity.user.clone(),
            connected: link.is_some(),
            shard,
            protocol: match row.version {
                Version::V31 => "3.1",
                Version::V311 => "3.1.1",
                Version::V5 => "5.0",
            },
            peer: link.and_then(|link| link.peer).map(|peer| peer.to_string()),
            connected_for_s: link.map(|link| link.connected_for.as_secs()),
            silent_for_s: link.map(|link| link.silent_for.as_secs()),
            silence_max_s: link
                .and_then(|link| link.silence_max)
                .map(|span| span.as_secs_f64()),
            bridge: link.is_some_and(|link| link.is_bridge),
            paused: link.is_some_and(|link| link.is_paused),
            unsent_bytes: link.map_or(0, |link| link.unsent_bytes),
            r#in: counts.received,
            out: counts.sent,
            dropped: counts.dropped,
            bytes: counts.bytes,
            in_payload_bytes: counts.payload_bytes,
            in_qos1: counts.acknowledged[0],
            in_qos2: counts.acknowledged[1],
            topic: topic.map(|topic| String::from_utf8_lossy(&topic).into_owned()),
            subscriptions: row.subscriptions,
            queued_messages: row.queued_messages,
            queued_bytes: row.queued_bytes,
            inflight: row.inflight,
            receipts: row.receipts,
            will: row.has_will,
            expiry_s: match row.expiry {
                Expiry::WithConnection => Some(0),
                Expiry::After(Duration::MAX) => None,
                Expiry::After(span) => Some(span.as_secs()),
            },
            ends_in_s: row.ends_in.map(|span| span.as_secs()),
        }
    }
}
