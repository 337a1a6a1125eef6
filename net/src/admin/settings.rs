//! The settings and the log: what a file would change, reloading, another filter for a while.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};
use tracing::info;

use super::Control;
use super::clock;
use super::guard::Caller;
use super::problem::Problem;
use super::steward::{Decision, Flaw, Steward};

type Shared = State<Arc<Control>>;

/// Whose filter of the log is in force.
#[derive(Debug, Default)]
pub(super) struct LogChoice(Mutex<Choice>);

#[derive(Clone, Copy, Debug, Default)]
struct Choice {
    /// How often one was made.
    number: u64,
    /// When that of the settings comes back.
    ends_at: Option<Instant>,
}

/// Another filter.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogOrder {
    filter: String,
    /// Seconds.
    r#for: Option<u64>,
}

/// A configuration file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckOrder {
    toml: String,
    /// For messages.
    name: Option<String>,
}

/// Nothing to say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReloadOrder {}

impl LogChoice {
    /// Notes a new choice; gives its number.
    fn choose(&self, ends_at: Option<Instant>) -> u64 {
        let mut choice = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        choice.number += 1;
        choice.ends_at = ends_at;
        choice.number
    }

    fn now(&self) -> Choice {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `GET /log`.
pub(super) async fn log(State(control): Shared) -> Result<Json<Value>, Problem> {
    Ok(Json(log_view(&control, steward(&control)?)))
}

fn log_view(control: &Control, steward: &dyn Steward) -> Value {
    let (filter, configured) = (steward.log_filter(), configured(control));
    // A reload may have ended it before.
    let ends_at = control.log.now().ends_at.filter(|_| filter != configured);
    json!({
        "filter": filter,
        "configured": configured,
        "for_s": ends_at.map(clock::seconds_left),
    })
}

/// The filter of the settings.
fn configured(control: &Control) -> String {
    let settings = control.facts.settings.load();
    let mut rows = settings.iter();
    let row = rows.find(|row| (row.section, row.key) == ("log", "filter"));
    row.map_or_else(String::new, |row| row.value.clone())
}

/// `PUT /log`.
pub(super) async fn set_log(
    State(control): Shared,
    Extension(Caller(caller)): Extension<Caller>,
    order: Result<Json<LogOrder>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let fix = "send {\"filter\": \"info,ringmq::clients=debug\"}, perhaps with for (seconds)";
    let Json(order) = order.map_err(|e| Problem::new(e.status(), e.body_text(), fix))?;
    let span = order.r#for.map(Duration::from_secs);
    if span.is_some_and(|span| span.is_zero() || span > LOG_SPAN_MAX) {
        let what = "a filter is for 1 second to 7 days";
        let fix = "leave `for` out to keep it until the next reload";
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, what, fix);
        return Err(problem.for_ctl("leave --for out to keep it until the next reload"));
    }
    let steward = steward(&control)?;
    let set = steward.set_log_filter(&order.filter);
    set.map_err(|flaw| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, flaw.what, flaw.fix))?;
    let ends_at = span.map(|span| Instant::now() + span);
    let number = control.log.choose(ends_at);
    info!(target: "ringmq::admin", caller, filter = order.filter, r#for = order.r#for, "log filter");
    if let Some(at) = ends_at {
        tokio::spawn(put_back(Arc::clone(&control), number, at));
    }
    Ok(Json(log_view(&control, steward)))
}

/// The filter of the settings comes back, unless there is another choice by then.
async fn put_back(control: Arc<Control>, number: u64, at: Instant) {
    sleep_until(at).await;
    if control.log.now().number != number {
        return;
    }
    let configured = configured(&control);
    if let Ok(steward) = steward(&control)
        && steward.log_filter() != configured
        && steward.set_log_filter(&configured).is_ok()
    {
        control.log.choose(None);
        info!(target: "ringmq::admin", "the log filter is that of the settings again");
    }
}

/// `POST /config/check`.
pub(super) async fn check(
    State(control): Shared,
    order: Result<Json<CheckOrder>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let fix = "send {\"toml\": \"the text of a configuration file\"}, perhaps with its name";
    let Json(order) = order.map_err(|e| Problem::new(e.status(), e.body_text(), fix))?;
    let decision = decided(steward(&control)?.check(order.toml, order.name)).await?;
    let problem = |flaw: Flaw| json!({"what": flaw.what, "excerpt": flaw.excerpt, "fix": flaw.fix});
    let (changes, problems) = match decision {
        Ok(changes) => (changes, Vec::new()),
        Err(flaws) => (Default::default(), flaws.into_iter().map(problem).collect()),
    };
    Ok(Json(json!({
        "valid": problems.is_empty(),
        "problems": problems,
        "changes": changes.taken_on,
        "needs_restart": changes.left,
        "warnings": changes.warnings,
    })))
}

/// `POST /reload`.
pub(super) async fn reload(
    State(control): Shared,
    Extension(Caller(caller)): Extension<Caller>,
    order: Result<Json<ReloadOrder>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Json(ReloadOrder {}) =
        order.map_err(|e| Problem::new(e.status(), e.body_text(), "send {}"))?;
    info!(target: "ringmq::admin", caller, "reload");
    let decision = decided(steward(&control)?.reload(format!("asked for by {caller}"))).await?;
    let changes = decision.map_err(|flaws| {
        let what = flaws
            .iter()
            .map(|flaw| format!("{} (fix: {})", flaw.what, flaw.fix));
        let what: Vec<String> = what.collect();
        let fix = "everything stays as it was: mend this, and reload again";
        Problem::new(StatusCode::CONFLICT, what.join("; "), fix)
    })?;
    Ok(Json(json!({
        "changes": changes.taken_on,
        "needs_restart": changes.left,
        "warnings": changes.warnings,
    })))
}

async fn decided(
    decision: Decision,
) -> Result<Result<super::steward::Changes, Vec<Flaw>>, Problem> {
    let decided = tokio::time::timeout(DECISION_TIME_MAX, decision).await;
    let decided = decided.ok().and_then(Result::ok);
    decided.ok_or_else(|| {
        let what = "the broker does not get to it";
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            what,
            "try again; see its log",
        )
    })
}

fn steward(control: &Control) -> Result<&dyn Steward, Problem> {
    control.steward.as_deref().ok_or_else(|| {
        let what = "this broker has no settings of its own";
        Problem::new(StatusCode::NOT_FOUND, what, "ask the program that runs it")
    })
}

/// A filter for longer is one of the settings.
const LOG_SPAN_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Reading users and certificates again takes so long at most.
const DECISION_TIME_MAX: Duration = Duration::from_secs(30);
