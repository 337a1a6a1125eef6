//! What the page shows live: a look at the broker each second, and the last five minutes.
//!
//! Invariants: at most [`SECONDS_MAX`] seconds of [`SERIES`] are remembered; a reader that is slow misses seconds, and nothing
//! waits for it; there are at most [`STREAMS_MAX`] readers.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use http_body_util::channel::{Channel, Sender};
use ringmq_core::loss::DropReason;
use ringmq_core::refusal::Refusal;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::problem::Problem;
use super::scene::Scene;
use super::view::ShardView;
use super::{Control, Facts, Role};

/// The last minutes, and whoever watches.
#[derive(Debug)]
pub(super) struct Live {
    past: Mutex<VecDeque<Second>>,
    newest: watch::Sender<Option<Arc<Frame>>>,
    streams: Arc<Semaphore>,
}

impl Default for Live {
    fn default() -> Live {
        Live {
            past: Mutex::default(),
            newest: watch::Sender::new(None),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        }
    }
}

/// What is remembered.
#[derive(Clone, Copy, Debug)]
struct Second {
    at_ms: u64,
    values: [u64; SERIES.len()],
}

/// The broker at a moment.
#[derive(Clone, Debug, Serialize)]
struct Frame {
    /// Since 1970.
    at_ms: u64,
    uptime_s: u64,
    ready: bool,
    draining: bool,
    stopping: bool,
    totals: BTreeMap<&'static str, u64>,
    shards: Vec<ShardView>,
    /// Messages that subscribers missed, by reason, as far as there were any.
    dropped: BTreeMap<&'static str, u64>,
    /// What was refused to clients, likewise.
    refused: BTreeMap<&'static str, u64>,
}

/// What a reader gets first.
#[derive(Debug, Serialize)]
struct Start<'a> {
    version: &'static str,
    pid: u32,
    listeners: &'a [String],
    data_dir: Option<&'a str>,
    connections_max: u64,
    caller: CallerView<'a>,
    /// A column for each series, and `at_ms`; each second is a row.
    history: BTreeMap<&'static str, Vec<u64>>,
    /// The last frame, if there is one.
    now: Option<&'a Frame>,
}

/// Who watches, and what they may do.
#[derive(Debug, Serialize)]
struct CallerView<'a> {
    name: &'a str,
    role: Role,
}

/// Looks at the broker each second, for as long as the control plane runs.
pub(super) async fn run(control: Arc<Control>) {
    let mut ticks = interval(Duration::from_secs(1));
    // A look that takes long, because a shard does not answer, is not made up for.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let scene = Scene::look(&control).await;
        control.live.note(&scene);
    }
}

impl Live {
    fn note(&self, scene: &Scene) {
        let at = UNIX_EPOCH.elapsed().unwrap_or_default();
        let second = Second {
            at_ms: u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
            values: SERIES.map(|(_, read)| read(scene)),
        };
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        if past.len() == SECONDS_MAX {
            past.pop_front();
        }
        past.push_back(second);
        drop(past);
        self.newest
            .send_replace(Some(Arc::new(Frame::of(scene, &second))));
    }

    fn history(&self) -> BTreeMap<&'static str, Vec<u64>> {
        let past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let column = |index: usize| past.iter().map(|second| second.values[index]).collect();
        let names = SERIES.iter().enumerate();
        let mut history: BTreeMap<_, _> = names.map(|(i, (name, _))| (*name, column(i))).collect();
        history.insert("at_ms", past.iter().map(|second| second.at_ms).collect());
        history
    }
}

impl Frame {
    fn of(scene: &Scene, second: &Second) -> Frame {
        let metrics = &scene.total.metrics;
        let dropped = DropReason::ALL.map(|r| (r.name(), metrics.dropped[r as usize]));
        let refused = Refusal::ALL.map(|r| (r.name(), metrics.refused.0[r as usize]));
        let names = SERIES.iter().map(|(name, _)| *name);
        Frame {
            at_ms: second.at_ms,
            uptime_s: scene.uptime().as_secs(),
            ready: scene.is_ready(),
            draining: scene.is_draining,
            stopping: scene.is_stopping,
            totals: names.zip(second.values).collect(),
            shards: scene.shards.iter().enumerate().map(ShardView::of).collect(),
            dropped: dropped
                .into_iter()
                .filter(|(_, count)| *count > 0)
                .collect(),
            refused: refused
                .into_iter()
                .filter(|(_, count)| *count > 0)
                .collect(),
        }
    }
}

/// Answers with server-sent events: `start` once, `frame` each second.
pub(super) fn stream(
    control: &Arc<Control>,
    (name, role): (&str, Role),
) -> Result<Response, Problem> {
    let Ok(leave) = Arc::clone(&control.live.streams).try_acquire_owned() else {
        let what = "too many watch already";
        let fix = "close another page of this broker";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, what, fix));
    };
    // Before the history is read: no second is missed in between.
    let frames = control.live.newest.subscribe();
    let start = start(control, CallerView { name, role });
    let (sender, channel) = Channel::new(FRAMES_AHEAD);
    tokio::spawn(send(start, frames, sender, leave));
    let kind = [(header::CONTENT_TYPE, "text/event-stream")];
    Ok((kind, Body::new(channel)).into_response())
}

fn start(control: &Control, caller: CallerView<'_>) -> Bytes {
    let newest = control.live.newest.borrow().clone();
    let Facts {
        version,
        listeners,
        data_dir,
        connections_max,
        ..
    } = &control.facts;
    event(
        "start",
        &Start {
            version,
            pid: std::process::id(),
            listeners,
            data_dir: data_dir.as_deref(),
            connections_max: *connections_max,
            caller,
            history: control.live.history(),
            now: newest.as_deref(),
        },
    )
}

async fn send(
    start: Bytes,
    mut frames: watch::Receiver<Option<Arc<Frame>>>,
    mut sender: Sender<Bytes, io::Error>,
    _leave: OwnedSemaphorePermit,
) {
    let mut next = start;
    loop {
        let sent = timeout(READER_TIME_MAX, sender.send_data(next)).await;
        if !matches!(sent, Ok(Ok(()))) || frames.changed().await.is_err() {
            return sender.abort(io::Error::from(io::ErrorKind::TimedOut));
        }
        let frame = frames.borrow_and_update().clone();
        next = event("frame", &*frame.expect("what has changed is there"));
    }
}

fn event(name: &str, content: &impl Serialize) -> Bytes {
    let json = serde_json::to_string(content).expect("text and numbers");
    Bytes::from(format!("event: {name}\ndata: {json}\n\n"))
}

/// Its name, and what it is.
type Series = (&'static str, fn(&Scene) -> u64);

/// What is remembered of each second, by name: counters since the start, and what is held.
#[rustfmt::skip]
const SERIES: [Series; 23] = [
    ("connections", |scene| scene.total.holdings.sockets),
    ("sessions", |scene| scene.total.holdings.sessions),
    ("sessions_connected", |scene| scene.total.holdings.connected),
    ("subscriptions", |scene| scene.total.holdings.subscriptions),
    ("shared_subscriptions", |scene| scene.total.holdings.shared_subscriptions),
    ("retained_messages", |scene| scene.total.holdings.retained_messages),
    ("retained_bytes", |scene| scene.total.holdings.retained_bytes),
    ("queued_messages", |scene| scene.total.holdings.queued_messages),
    ("queued_bytes", |scene| scene.total.holdings.queued_bytes),
    ("inflight_bytes", |scene| scene.total.holdings.inflight_bytes),
    ("unsent_bytes", |scene| scene.total.holdings.unsent_bytes),
    ("accepted", |scene| scene.counts.accepted),
    ("closed", |scene| scene.counts.closed),
    ("connects", |scene| scene.total.metrics.connects),
    ("publishes_received", |scene| scene.total.metrics.publishes_received.iter().sum()),
    ("publishes_sent", |scene| scene.total.metrics.publishes_sent.iter().sum()),
    ("bytes_received", |scene| scene.total.metrics.bytes_received),
    ("bytes_sent", |scene| scene.total.metrics.bytes_sent),
    ("messages_dropped", |scene| scene.total.metrics.dropped.iter().sum()),
    ("refused", |scene| scene.total.metrics.refused.0.iter().sum()),
    ("cpu_ms", |scene| (scene.process.cpu_s.unwrap_or(0.0) * 1000.0) as u64),
    ("resident_bytes", |scene| scene.process.resident_bytes.unwrap_or(0)),
    ("open_fds", |scene| scene.process.open_fds.unwrap_or(0)),
];

/// Five minutes.
const SECONDS_MAX: usize = 300;
/// 56 KiB.
const _: () = assert!(size_of::<Second>() * SECONDS_MAX < 1 << 20);
/// Pages of browsers, mostly: each takes a connection of its listener.
pub(crate) const STREAMS_MAX: usize = 8;
/// Frames that wait for the reader.
const FRAMES_AHEAD: usize = 1;
/// A reader that takes nothing for so long makes room for others.
const READER_TIME_MAX: Duration = Duration::from_secs(30);
