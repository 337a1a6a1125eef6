//! Many clients or retained messages at once: disconnected, ended, deleted.
//!
//! The answer is a line a second with how many so far, and one at the end. It goes on for as long as somebody reads it.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use http_body_util::channel::{Channel, Sender};
use ringmq_core::ids::ShardId;
use ringmq_core::shard::{Answer, Ask, RetainedQuery, SessionFilter, SessionQuery};
use ringmq_core::topic::TopicFilter;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::info;

use super::guard::{Caller, permit};
use super::objects::refuse_own;
use super::problem::Problem;
use super::routes::{begin_listing, read_filter};
use super::{Control, Role};

type Shared = State<Arc<Control>>;

/// Which clients are to be disconnected.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DisconnectOrder {
    client: Option<Box<str>>,
    prefix: Option<Box<str>>,
    user: Option<Box<str>>,
    address: Option<IpAddr>,
    queued_min: Option<usize>,
    #[serde(default)]
    all: bool,
    /// Publish their wills.
    #[serde(default = "yes")]
    will: bool,
    rate: Option<u32>,
    #[serde(default)]
    dry_run: bool,
}

fn yes() -> bool {
    true
}

/// Which sessions are to end.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EndOrder {
    connected: Option<bool>,
    client: Option<Box<str>>,
    prefix: Option<Box<str>>,
    user: Option<Box<str>>,
    address: Option<IpAddr>,
    queued_min: Option<usize>,
    #[serde(default)]
    all: bool,
    rate: Option<u32>,
    #[serde(default)]
    dry_run: bool,
}

/// Which retained messages are to be deleted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeleteOrder {
    filter: String,
    /// Only count them.
    #[serde(default)]
    dry_run: bool,
    /// So many a second at most; without it, as fast as it goes.
    rate: Option<u32>,
}

/// `POST /clients/disconnect`.
pub(super) async fn disconnect(
    State(control): Shared,
    Extension(caller): Extension<Caller>,
    Extension(role): Extension<Role>,
    order: Result<Json<DisconnectOrder>, JsonRejection>,
) -> Result<Response, Problem> {
    let is_dry = order.as_ref().is_ok_and(|Json(order)| order.dry_run);
    permit(&caller, role, is_dry)?;
    let fix = "send {\"prefix\": \"meter-\"}, or user, address, queued_min, all";
    let order = read(order, fix)?;
    let filter = SessionFilter {
        is_connected: Some(true),
        client_id: order.client,
        prefix: order.prefix.unwrap_or_default(),
        user: order.user,
        address: order.address,
        queued_messages_min: order.queued_min.unwrap_or(0),
    };
    refuse_all(&filter, order.all)?;
    let what = What::Disconnect(filter, order.will);
    sweep(control, caller, what, (order.rate, order.dry_run))
}

/// `POST /sessions/delete`.
pub(super) async fn end_sessions(
    State(control): Shared,
    Extension(caller): Extension<Caller>,
    Extension(role): Extension<Role>,
    order: Result<Json<EndOrder>, JsonRejection>,
) -> Result<Response, Problem> {
    let is_dry = order.as_ref().is_ok_and(|Json(order)| order.dry_run);
    permit(&caller, role, is_dry)?;
    let fix = "send {\"prefix\": \"meter-\"}, or connected, user, address, queued_min, all";
    let order = read(order, fix)?;
    let filter = SessionFilter {
        is_connected: order.connected,
        client_id: order.client,
        prefix: order.prefix.unwrap_or_default(),
        user: order.user,
        address: order.address,
        queued_messages_min: order.queued_min.unwrap_or(0),
    };
    refuse_all(&filter, order.all || order.connected.is_some())?;
    sweep(
        control,
        caller,
        What::Sessions(filter),
        (order.rate, order.dry_run),
    )
}

/// `POST /retained/delete`.
pub(super) async fn delete_retained(
    State(control): Shared,
    Extension(caller): Extension<Caller>,
    Extension(role): Extension<Role>,
    order: Result<Json<DeleteOrder>, JsonRejection>,
) -> Result<Response, Problem> {
    let is_dry = order.as_ref().is_ok_and(|Json(order)| order.dry_run);
    permit(&caller, role, is_dry)?;
    let fix = "send {\"filter\": \"a/#\"}, perhaps with dry_run and rate";
    let order = read(order, fix)?;
    refuse_own(&order.filter)?;
    let what = What::Retained(read_filter(&order.filter)?);
    sweep(control, caller, what, (order.rate, order.dry_run))
}

fn read<T>(order: Result<Json<T>, JsonRejection>, fix: &str) -> Result<T, Problem> {
    let Json(order) = order.map_err(|e| Problem::new(e.status(), e.body_text(), fix))?;
    Ok(order)
}

/// What is about everybody has to say so.
fn refuse_all(filter: &SessionFilter, all: bool) -> Result<(), Problem> {
    let SessionFilter {
        is_connected: _,
        client_id,
        prefix,
        user,
        address,
        queued_messages_min,
    } = filter;
    let is_narrow = client_id.is_some()
        || !prefix.is_empty()
        || user.is_some()
        || address.is_some()
        || *queued_messages_min > 0;
    if is_narrow || all {
        return Ok(());
    }
    let what = "this is about all clients";
    let fix = "name some by prefix, user, address or queued_min, or send \"all\": true";
    let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, what, fix);
    Err(problem.for_ctl("name some: --prefix, --user, --address or --queued-min; or say --all"))
}

/// What is to be done.
#[derive(Debug)]
enum What {
    /// With their wills.
    Disconnect(SessionFilter, bool),
    Sessions(SessionFilter),
    Retained(TopicFilter),
}

impl What {
    /// For the log, and for the last line: what was done, and what would be.
    fn names(&self) -> (&'static str, &'static str, &'static str) {
        match self {
            What::Disconnect(..) => ("disconnect many", "disconnected", "would_disconnect"),
            What::Sessions(_) => ("end sessions", "deleted", "would_delete"),
            What::Retained(_) => ("delete retained", "deleted", "would_delete"),
        }
    }

    /// Asks for a page, to be dealt with or only looked at.
    fn ask(&self, from: u32, rows_max: usize, is_dry: bool) -> Ask {
        let sessions = |filter: &SessionFilter| SessionQuery {
            from,
            rows_max,
            filter: filter.clone(),
        };
        let retained = |filter: &TopicFilter| RetainedQuery {
            from,
            rows_max,
            filter: Some(filter.clone()),
        };
        match (self, is_dry) {
            (What::Disconnect(filter, _) | What::Sessions(filter), true) => {
                Ask::Sessions(sessions(filter))
            }
            (What::Retained(filter), true) => Ask::Retained(retained(filter)),
            (What::Disconnect(filter, with_will), false) => Ask::DisconnectPage {
                query: sessions(filter),
                with_will: *with_will,
            },
            (What::Sessions(filter), false) => Ask::EndPage(sessions(filter)),
            (What::Retained(filter), false) => Ask::UnretainPage(retained(filter)),
        }
    }
}

impl fmt::Display for What {
    /// For the log: `clients: connected, prefix meter-, without their wills`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Disconnect(filter, true) => write!(f, "clients: {}", in_words(filter)),
            What::Disconnect(filter, false) => {
                write!(f, "clients: {}, without their wills", in_words(filter))
            }
            What::Sessions(filter) => write!(f, "sessions: {}", in_words(filter)),
            What::Retained(filter) => {
                write!(f, "retained messages: filter {}", word(filter.as_str()))
            }
        }
    }
}

fn in_words(filter: &SessionFilter) -> String {
    let SessionFilter {
        is_connected,
        client_id,
        prefix,
        user,
        address,
        queued_messages_min,
    } = filter;
    let prefix = Some(prefix).filter(|prefix| !prefix.is_empty());
    let least = Some(queued_messages_min).filter(|least| **least > 0);
    let parts = [
        is_connected.map(|is| if is { "connected" } else { "not connected" }.to_owned()),
        client_id.as_ref().map(|id| format!("client {}", word(id))),
        prefix.map(|prefix| format!("prefix {}", word(prefix))),
        user.as_ref().map(|user| format!("user {}", word(user))),
        address.map(|address| format!("address {address}")),
        least.map(|least| format!("at least {least} queued")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    match parts.is_empty() {
        true => "all".to_owned(),
        false => parts.join(", "),
    }
}

/// In quotes if it could pass for more than one word.
fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:+#$@".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("{text:?}"),
    }
}

/// A sweep under way. It ends when its reader is gone.
struct Sweep {
    control: Arc<Control>,
    leave: OwnedSemaphorePermit,
    caller: String,
    what: What,
    rate: u32,
    is_dry: bool,
}

fn sweep(
    control: Arc<Control>,
    Caller(caller): Caller,
    what: What,
    (rate, is_dry): (Option<u32>, bool),
) -> Result<Response, Problem> {
    if rate == Some(0) {
        let what = "a rate of 0 a second would never end";
        let fix = "write a rate from 1, or none for as fast as it goes";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, what, fix));
    }
    let sweep = Sweep {
        leave: begin_listing(&control)?,
        rate: rate.unwrap_or(u32::MAX),
        is_dry,
        control,
        caller,
        what,
    };
    let (sender, channel) = Channel::<Bytes, io::Error>::new(1);
    tokio::spawn(sweep.run(sender));
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::new(channel)).into_response())
}

impl Sweep {
    async fn run(self, mut sender: Sender<Bytes, io::Error>) {
        let began = Instant::now();
        let (_, done, would) = self.what.names();
        let (mut count, mut missing) = (0_u64, Vec::new());
        let mut told_at = began;
        for shard in 0..self.control.asker.shards() {
            let mut next = Some(0);
            while let Some(from) = next {
                let Some((more, after)) = self.step(shard, from).await else {
                    missing.push(shard);
                    break;
                };
                count += more;
                next = after;
                let is_due = told_at.elapsed() >= TOLD_EVERY;
                let so_far = format!("{done}_so_far");
                if is_due && !tell(&mut sender, &json!({so_far: count})).await {
                    return self.log(count, "its reader is gone");
                }
                if is_due {
                    told_at = Instant::now();
                }
                if !self.is_dry {
                    let due = Duration::from_secs_f64(count as f64 / f64::from(self.rate));
                    sleep_until(began + due).await;
                }
            }
        }
        self.log(count, "done");
        let name = if self.is_dry { would } else { done };
        tell(
            &mut sender,
            &json!({name: count, "missing_shards": missing}),
        )
        .await;
    }

    /// A page of a shard: how many, and where to go on. `None`: it does not answer.
    async fn step(&self, shard: usize, from: u32) -> Option<(u64, Option<u32>)> {
        // A tenth of a second of the rate.
        let rows_max = (self.rate / 10).max(1) as usize;
        let ask = self.what.ask(from, rows_max, self.is_dry);
        let asker = &self.control.asker;
        let answer = asker
            .ask_page(&self.leave, ShardId::new(shard), ask)
            .await?;
        match answer {
            Answer::Sessions(page) => Some((page.rows.len() as u64, page.next)),
            Answer::Retained(page) => Some((page.rows.len() as u64, page.next)),
            Answer::DisconnectPage(dealt)
            | Answer::EndPage(dealt)
            | Answer::UnretainPage(dealt) => Some((u64::from(dealt.count), dealt.next)),
            _ => None,
        }
    }

    fn log(&self, count: u64, outcome: &str) {
        let (what, ..) = self.what.names();
        let of = self.what.to_string();
        let (caller, dry_run) = (&self.caller, self.is_dry);
        info!(target: "ringmq::admin", caller, of, dry_run, count, outcome, "{what}");
    }
}

/// False if nobody reads.
async fn tell(sender: &mut Sender<Bytes, io::Error>, line: &Value) -> bool {
    let line = Bytes::from(format!("{line}\n"));
    matches!(
        timeout(READER_TIME_MAX, sender.send_data(line)).await,
        Ok(Ok(()))
    )
}

const TOLD_EVERY: Duration = Duration::from_secs(1);
/// A reader that takes nothing for so long is gone.
const READER_TIME_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_says_in_words_who_was_meant() {
        let filter = SessionFilter {
            is_connected: Some(true),
            prefix: "meter-".into(),
            user: Some("a, user b".into()),
            queued_messages_min: 7,
            ..SessionFilter::default()
        };
        assert_eq!(
            What::Disconnect(filter, false).to_string(),
            "clients: connected, prefix meter-, user \"a, user b\", at least 7 queued, \
             without their wills"
        );
        let all = What::Sessions(SessionFilter::default());
        assert_eq!(all.to_string(), "sessions: all");
    }

    #[test]
    fn what_is_about_everybody_has_to_say_so() {
        let some = SessionFilter {
            prefix: "a".into(),
            ..SessionFilter::default()
        };
        let everybody = SessionFilter {
            is_connected: Some(true),
            ..SessionFilter::default()
        };
        assert!(refuse_all(&some, false).is_ok());
        assert!(refuse_all(&everybody, true).is_ok());
        assert!(refuse_all(&everybody, false).is_err());
    }
}
