//! Traces: everything about a client, a topic or an address, as it happens.
//!
//! Shards note events and wait to be asked for them ([`ringmq_core::shard::Traces`]); while there are traces, they are
//! asked ten times a second. A trace remembers its last events, so whoever reads them may come later.
//!
//! Invariants: there are at most [`TraceSet::TRACES_MAX`] traces, each for at most [`SPAN_MAX`]; a trace remembers
//! [`KEPT_MAX`] events; what is forgotten or left out is counted. An index is used again only after its trace has ended
//! on every shard.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::{Body, Bytes};
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use http_body_util::channel::{Channel, Sender};
use ringmq_core::ids::ShardId;
use ringmq_core::shard::{Answer, Ask, TraceEvent, TraceOf, TraceOrder};
use ringmq_core::trace_set::TraceSet;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::info;

use super::Control;
use super::clock;
use super::guard::Caller;
use super::problem::Problem;
use super::routes::{no_answer, read_filter};
use super::traced;

type Shared = State<Arc<Control>>;

/// All traces.
#[derive(Debug, Default)]
pub(super) struct Traces {
    /// Held over questions: traces begin and end one after the other.
    list: tokio::sync::Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    traces: Vec<Arc<Trace>>,
    /// Of all that ever were.
    count: u64,
    /// Somebody asks the shards.
    is_asked_for: bool,
}

/// A trace.
#[derive(Debug)]
struct Trace {
    id: u64,
    order: TraceOrder,
    began: SystemTime,
    ends_at: Instant,
    kept: Mutex<Kept>,
    /// Events so far, to be woken by; closed at its end.
    count: watch::Sender<u64>,
}

/// The last events.
#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Bytes>,
    /// Events before the first of these.
    forgotten: u64,
    /// Events that a shard had no room for.
    left_out: u64,
    has_ended: bool,
}

/// What is to be traced: one of the first three.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TraceRequest {
    client: Option<Box<str>>,
    /// A topic, or a filter.
    topic: Option<String>,
    address: Option<IpAddr>,
    /// Seconds.
    r#for: Option<u64>,
    /// Bytes of each payload.
    payload: Option<usize>,
    /// How long things took.
    #[serde(default)]
    stages: bool,
}

/// `POST /traces`.
pub(super) async fn begin(
    State(control): Shared,
    Extension(Caller(caller)): Extension<Caller>,
    request: Result<Json<TraceRequest>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Json(request) = request.map_err(|error| {
        let fix =
            "send client, topic or address, perhaps with for (seconds), payload (bytes) and stages";
        Problem::new(error.status(), error.body_text(), fix)
    })?;
    let has_stages = request.stages;
    let (of, span, payload_max) = read(request)?;
    let mut list = control.traces.list.lock().await;
    let is_free = |index: &u8| list.traces.iter().all(|trace| trace.order.index != *index);
    let Some(index) = (0..TraceSet::TRACES_MAX as u8).find(is_free) else {
        let what = format!("there are {} traces already", TraceSet::TRACES_MAX);
        let fix = "end one: DELETE /api/v1/traces/ID; GET /api/v1/traces lists them";
        let problem = Problem::new(StatusCode::CONFLICT, what, fix);
        return Err(
            problem.for_ctl("end one: `ringmq ctl traces end ID`; `traces list` lists them")
        );
    };
    let order = TraceOrder {
        index,
        of,
        payload_max,
        has_stages,
    };
    if let Err(shard) = start(&control, &order).await {
        stop(&control, &order).await;
        return Err(no_answer(shard));
    }
    list.count += 1;
    let trace = Arc::new(Trace {
        id: list.count,
        order,
        began: SystemTime::now(),
        ends_at: Instant::now() + span,
        kept: Mutex::default(),
        count: watch::Sender::new(0),
    });
    list.traces.push(Arc::clone(&trace));
    if !std::mem::replace(&mut list.is_asked_for, true) {
        tokio::spawn(run(Arc::clone(&control)));
    }
    let view = trace.view();
    info!(target: "ringmq::admin", caller, trace = %view, "trace");
    Ok(Json(view))
}

fn read(request: TraceRequest) -> Result<(TraceOf, Duration, usize), Problem> {
    let wrong = |what: String, fix: &str| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, what, fix);
    let of = match (request.client, request.topic, request.address) {
        (Some(client), None, None) if client.is_empty() => {
            let fix = "write the identifier of a client";
            return Err(wrong("no client has an empty identifier".to_owned(), fix));
        }
        (Some(client), None, None) => TraceOf::Client(client),
        (None, Some(topic), None) if topic.starts_with("$share/") => {
            let what = "this is a shared subscription, and no message has such a topic";
            let fix = "write the filter without $share and the share name, such as a/#";
            return Err(wrong(what.to_owned(), fix));
        }
        (None, Some(topic), None) => TraceOf::Topic(read_filter(&topic)?),
        (None, None, Some(address)) => TraceOf::Address(address),
        _ => {
            let fix = "send one of client, topic and address";
            return Err(wrong("this is not one thing to trace".to_owned(), fix));
        }
    };
    let span = Duration::from_secs(request.r#for.unwrap_or(SPAN_S));
    if span.is_zero() || span > SPAN_MAX {
        let what = format!("a trace of {} s cannot be had", span.as_secs());
        let fix = format!("write 1 to {}", SPAN_MAX.as_secs());
        return Err(wrong(what, &fix));
    }
    let payload_max = request.payload.unwrap_or(0);
    if payload_max > TraceOrder::PAYLOAD_SIZE_MAX {
        let what = format!("{payload_max} bytes of each payload are too many");
        let fix = format!("write at most {}", TraceOrder::PAYLOAD_SIZE_MAX);
        return Err(wrong(what, &fix));
    }
    Ok((of, span, payload_max))
}

/// `GET /traces`.
pub(super) async fn list(State(control): Shared) -> Json<Value> {
    let list = control.traces.list.lock().await;
    let views: Vec<Value> = list.traces.iter().map(|trace| trace.view()).collect();
    Json(json!({"traces": views}))
}

/// `GET /traces/ID`: what it remembers, and then what happens, until it ends.
pub(super) async fn follow(
    State(control): Shared,
    id: Result<Path<u64>, PathRejection>,
) -> Result<Response, Problem> {
    let trace = control.traces.find(id).await?;
    let (sender, channel) = Channel::<Bytes, io::Error>::new(1);
    tokio::spawn(send(trace, sender));
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::new(channel)).into_response())
}

/// `DELETE /traces/ID`.
pub(super) async fn end(
    State(control): Shared,
    Extension(Caller(caller)): Extension<Caller>,
    id: Result<Path<u64>, PathRejection>,
) -> Result<Json<Value>, Problem> {
    let trace = control.traces.find(id).await?;
    let mut list = control.traces.list.lock().await;
    finish(&control, &mut list, &trace).await;
    let id = trace.id;
    info!(target: "ringmq::admin", caller, id, "trace ended");
    Ok(Json(
        json!({"deleted": id, "events": *trace.count.borrow()}),
    ))
}

impl Traces {
    async fn find(&self, id: Result<Path<u64>, PathRejection>) -> Result<Arc<Trace>, Problem> {
        let Path(id) = id.map_err(|error| {
            let fix = "GET /api/v1/traces lists all";
            Problem::new(error.status(), error.body_text(), fix).for_ctl(LISTED)
        })?;
        let list = self.list.lock().await;
        let found = list.traces.iter().find(|trace| trace.id == id).cloned();
        found.ok_or_else(|| {
            let what = format!("there is no trace {id}, or it has ended");
            let fix = "GET /api/v1/traces lists all";
            Problem::new(StatusCode::NOT_FOUND, what, fix).for_ctl(LISTED)
        })
    }
}

impl Trace {
    fn view(&self) -> Value {
        let (client, topic, address) = match &self.order.of {
            TraceOf::Client(client) => (Some(&**client), None, None),
            TraceOf::Topic(filter) => (None, Some(filter.as_str()), None),
            TraceOf::Address(address) => (None, None, Some(address)),
        };
        let kept = self.kept();
        json!({
            "id": self.id,
            "client": client,
            "topic": topic,
            "address": address,
            "payload": self.order.payload_max,
            "stages": self.order.has_stages,
            "began": clock::ago(self.began.elapsed().unwrap_or_default()),
            "ends_in_s": clock::seconds_left(self.ends_at),
            "events": kept.forgotten + kept.lines.len() as u64,
            "left_out": kept.left_out,
        })
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, line: Bytes) {
        let mut kept = self.kept();
        if kept.lines.len() == KEPT_MAX {
            kept.lines.pop_front();
            kept.forgotten += 1;
        }
        kept.lines.push_back(line);
    }

    fn note_left_out(&self, count: u64) {
        self.kept().left_out += count;
    }

    /// Wakes those who read.
    fn tell(&self) {
        let kept = self.kept();
        let count = kept.forgotten + kept.lines.len() as u64;
        drop(kept);
        self.count.send_replace(count);
    }
}

/// Asks the shards for as long as there are traces.
async fn run(control: Arc<Control>) {
    loop {
        sleep(ASKED_EVERY).await;
        let mut list = control.traces.list.lock().await;
        gather(&control, &list.traces).await;
        let now = Instant::now();
        let ended = list.traces.iter().filter(|trace| trace.ends_at <= now);
        let ended: Vec<Arc<Trace>> = ended.cloned().collect();
        for trace in &ended {
            finish(&control, &mut list, trace).await;
            info!(target: "ringmq::admin", id = trace.id, "trace ended: its time is up");
        }
        if list.traces.is_empty() {
            list.is_asked_for = false;
            return;
        }
    }
}

/// Begins a trace on all shards; gives one that does not answer.
async fn start(control: &Control, order: &TraceOrder) -> Result<(), usize> {
    for index in 0..control.asker.shards() {
        let shard = ShardId::new(index);
        let begun = control.asker.ask_traced(shard, Ask::Trace(order.clone()));
        if begun.await.is_none() {
            return Err(index);
        }
        if matches!(order.of, TraceOf::Address(_)) {
            find_traced(control, shard).await.ok_or(index)?;
        }
    }
    Ok(())
}

/// Ends a trace on all shards that answer.
async fn stop(control: &Control, order: &TraceOrder) {
    for shard in (0..control.asker.shards()).map(ShardId::new) {
        let index = order.index;
        let ended = control.asker.ask_traced(shard, Ask::EndTrace { index });
        if ended.await.is_some() && matches!(order.of, TraceOf::Address(_)) {
            find_traced(control, shard).await;
        }
    }
}

/// Has a shard look at all its clients again.
async fn find_traced(control: &Control, shard: ShardId) -> Option<()> {
    let mut next = Some(0);
    while let Some(from) = next {
        let ask = Ask::FindTraced { from };
        let Some(Answer::FindTraced(after)) = control.asker.ask_traced(shard, ask).await else {
            return None;
        };
        next = after;
    }
    Some(())
}

/// Ends a trace, with all that it has told by then.
async fn finish(control: &Control, list: &mut List, trace: &Arc<Trace>) {
    if trace.kept().has_ended {
        return;
    }
    stop(control, &trace.order).await;
    gather(control, &list.traces).await;
    list.traces.retain(|other| other.id != trace.id);
    trace.kept().has_ended = true;
    trace.tell();
}

/// Takes what the shards have noted, in the order of time.
async fn gather(control: &Control, traces: &[Arc<Trace>]) {
    let mut events: Vec<(Duration, usize, TraceEvent)> = Vec::new();
    for index in 0..control.asker.shards() {
        let mut has_more = true;
        while has_more && events.len() < EVENTS_AT_ONCE_MAX {
            let asked = control.asker.ask_traced(ShardId::new(index), Ask::Traced);
            let Some(Answer::Traced(page)) = asked.await else {
                break; // It keeps them, and is asked again.
            };
            has_more = page.has_more;
            let now = UNIX_EPOCH.elapsed().unwrap_or_default();
            let at = |event: &TraceEvent| now.saturating_sub(event.ago);
            let page_events = page.events.into_iter();
            events.extend(page_events.map(|event| (at(&event), index, event)));
            if page.left_out > 0 {
                traces
                    .iter()
                    .for_each(|trace| trace.note_left_out(page.left_out));
            }
        }
    }
    // Stable: those of one shard stay in their order.
    events.sort_by_key(|(at, _, _)| *at);
    for (at, shard, event) in &events {
        for trace in traces
            .iter()
            .filter(|trace| event.traces.contains(trace.order.index))
        {
            let mut view = traced::view(event, trace.order.payload_max);
            view["at"] = clock::at(*at).into();
            view["at_unix_us"] = u64::try_from(at.as_micros()).unwrap_or(u64::MAX).into();
            view["shard"] = (*shard).into();
            trace.add(Bytes::from(format!("{view}\n")));
        }
    }
    traces.iter().for_each(|trace| trace.tell());
}

/// Sends the events of a trace until it ends, or nobody reads.
async fn send(trace: Arc<Trace>, mut sender: Sender<Bytes, io::Error>) {
    let mut changes = trace.count.subscribe();
    let mut next = 0;
    loop {
        let (lines, has_ended) = {
            let kept = trace.kept();
            next = next.max(kept.forgotten);
            let skipped = usize::try_from(next - kept.forgotten).unwrap_or(usize::MAX);
            let lines: Vec<Bytes> = kept.lines.iter().skip(skipped).cloned().collect();
            let end = json!({
                "ended": true,
                "events": kept.forgotten + kept.lines.len() as u64,
                "left_out": kept.left_out,
            });
            (lines, kept.has_ended.then_some(end))
        };
        next += lines.len() as u64;
        let mut text = lines.concat();
        if let Some(end) = &has_ended {
            text.extend_from_slice(format!("{end}\n").as_bytes());
        }
        if !text.is_empty() {
            let sent = timeout(READER_TIME_MAX, sender.send_data(Bytes::from(text))).await;
            if !matches!(sent, Ok(Ok(()))) {
                return sender.abort(io::Error::from(io::ErrorKind::TimedOut));
            }
        }
        if has_ended.is_some() || changes.changed().await.is_err() {
            return;
        }
    }
}

/// For users of `ringmq ctl`.
const LISTED: &str = "`ringmq ctl traces list` lists all";
/// How long a trace is, if the request does not say.
const SPAN_S: u64 = 600;
/// A day.
pub(crate) const SPAN_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Events that a trace remembers.
pub(crate) const KEPT_MAX: usize = 4096;
/// So often shards are asked.
const ASKED_EVERY: Duration = Duration::from_millis(100);
/// Events of one round; what is left comes with the next.
const EVENTS_AT_ONCE_MAX: usize = 16 * 1024;
/// A reader that takes nothing for so long is gone.
const READER_TIME_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    fn request(json: &str) -> Result<(TraceOf, Duration, usize), String> {
        let request = serde_json::from_str(json).unwrap();
        read(request).map_err(|problem| problem.detail().to_owned())
    }

    #[test]
    fn one_thing_is_traced_within_bounds() {
        for (json, is_right) in [
            (r#"{"client": "a"}"#, true),
            (r#"{"topic": "a/#", "for": 86400, "payload": 1024}"#, true),
            (r#"{"address": "::1"}"#, true),
            ("{}", false),
            (r#"{"client": ""}"#, false),
            (r#"{"topic": "$share/g/a"}"#, false),
            (r#"{"client": "a", "topic": "b"}"#, false),
            (r#"{"topic": "a/#/b"}"#, false),
            (r#"{"client": "a", "for": 0}"#, false),
            (r#"{"client": "a", "for": 86401}"#, false),
            (r#"{"client": "a", "payload": 1025}"#, false),
        ] {
            assert_eq!(request(json).is_ok(), is_right, "{json}");
        }
        let (_, span, payload) = request(r#"{"client": "a"}"#).unwrap();
        assert_eq!((span.as_secs(), payload), (600, 0));
    }

    #[test]
    fn a_trace_forgets_its_oldest_events_and_counts_them() {
        let trace = Trace {
            id: 1,
            order: TraceOrder {
                index: 0,
                of: TraceOf::Client("a".into()),
                payload_max: 0,
                has_stages: false,
            },
            began: SystemTime::now(),
            ends_at: Instant::now(),
            kept: Mutex::default(),
            count: watch::Sender::new(0),
        };
        for number in 0..KEPT_MAX + 5 {
            trace.add(Bytes::from(format!("{number}\n")));
        }
        trace.note_left_out(7);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let text = runtime.unwrap().block_on(async {
            trace.kept().has_ended = true;
            let (sender, channel) = Channel::<Bytes, io::Error>::new(1);
            tokio::spawn(send(Arc::new(trace), sender));
            let body = http_body_util::BodyExt::collect(channel).await;
            String::from_utf8(body.unwrap().to_bytes().to_vec()).unwrap()
        });
        assert!(text.starts_with("5\n6\n"), "{}", &text[..20]);
        let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        let events = KEPT_MAX + 5;
        assert_eq!(
            last,
            json!({"ended": true, "events": events, "left_out": 7})
        );
    }
}
