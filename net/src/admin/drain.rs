//! Draining: clients leave one after the other, and no new ones come, before the broker is stopped
//! or worked on.
//!
//! Not ready at once, so that load balancers send nobody any more; after a while no accepts; then
//! clients are disconnected evenly over a span, those first that have been silent for longest. A
//! drain stays until it is cancelled or the process ends.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::{Extension, Json};
use ringmq_core::codec::is_encodable;
use ringmq_core::ids::ShardId;
use ringmq_core::shard::{Answer, Ask, LeaveOrder};
use rustix::process::{Signal, getpid, kill_process};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use super::Control;
use super::guard::Caller;
use super::problem::Problem;
use super::routes::begin_listing;

type Shared = State<Arc<Control>>;

/// How to drain.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DrainOrder {
    /// Seconds until no connection is accepted any more: load balancers take a while to notice.
    #[serde(default = "wait")]
    wait: u32,
    /// Seconds over which clients leave.
    #[serde(default = "over")]
    over: u32,
    /// The server that MQTT 5.0 clients are to use.
    redirect: Option<Box<str>>,
    /// Stop the broker when all have left.
    #[serde(default)]
    then_stop: bool,
}

fn wait() -> u32 {
    10
}

fn over() -> u32 {
    60
}

/// A drain, from its order to its end.
#[derive(Debug)]
pub(super) struct Drain {
    order: DrainOrder,
    began: Instant,
    is_cancelled: AtomicBool,
    phase: AtomicU64,
    /// Clients that were connected when they began to leave.
    total: AtomicU64,
    /// Clients that have been told to leave.
    left: AtomicU64,
}

/// Where a drain is.
const PHASES: [&str; 4] = ["waiting", "leaving", "drained", "stopping"];
const WAITING: u64 = 0;
const LEAVING: u64 = 1;
const DRAINED: u64 = 2;
/// The broker was told to stop: it is too late to cancel.
const STOPPING: u64 = 3;

impl Drain {
    fn view(&self) -> Value {
        let phase = self.phase.load(Ordering::Relaxed) as usize;
        json!({
            "draining": true,
            "phase": PHASES[phase],
            "for_s": self.began.elapsed().as_secs(),
            "wait": self.order.wait,
            "over": self.order.over,
            "redirect": self.order.redirect,
            "then_stop": self.order.then_stop,
            "clients": self.total.load(Ordering::Relaxed),
            "left": self.left.load(Ordering::Relaxed),
        })
    }

    fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }
}

/// `POST /drain`.
pub(super) async fn start(
    State(control): Shared,
    Extension(Caller(caller)): Extension<Caller>,
    order: Result<Json<DrainOrder>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Json(order) = order.map_err(|error| {
        let fix = "send {}, or some of wait and over (seconds), redirect, then_stop";
        Problem::new(error.status(), error.body_text(), fix)
    })?;
    let is_server =
        |text: &str| !text.is_empty() && text.len() <= REDIRECT_SIZE_MAX && is_encodable(text);
    if !order.redirect.as_deref().is_none_or(is_server) {
        let what = "redirect cannot be told to clients";
        let fix = "write a server such as broker-b.example:8883";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, what, fix));
    }
    let leave = begin_listing(&control)?;
    let drain = Arc::new(Drain {
        order,
        began: Instant::now(),
        is_cancelled: AtomicBool::new(false),
        phase: AtomicU64::new(WAITING),
        total: AtomicU64::new(0),
        left: AtomicU64::new(0),
    });
    {
        let mut current = control.drain.lock().unwrap_or_else(PoisonError::into_inner);
        if current.is_some() {
            let what = "the broker is being drained already";
            let fix = "GET /api/v1/drain shows how far it is, DELETE cancels it";
            let problem = Problem::new(StatusCode::CONFLICT, what, fix);
            return Err(problem.for_ctl(
                "`ringmq ctl drain status` shows how far it is, `drain cancel` cancels it",
            ));
        }
        *current = Some(Arc::clone(&drain));
    }
    let order = &drain.order;
    info!(
        target: "ringmq::admin",
        caller, wait = order.wait, over = order.over, redirect = order.redirect.as_deref(),
        then_stop = order.then_stop, "drain"
    );
    let view = drain.view();
    tokio::spawn(run(control, drain, leave));
    Ok(Json(view))
}

/// `GET /drain`.
pub(super) async fn status(State(control): Shared) -> Json<Value> {
    Json(
        control
            .drain()
            .map_or(json!({"draining": false}), |drain| drain.view()),
    )
}

/// `DELETE /drain`.
pub(super) async fn cancel(
    State(control): Shared,
    Extension(Caller(caller)): Extension<Caller>,
) -> Result<Json<Value>, Problem> {
    let mut current = control.drain.lock().unwrap_or_else(PoisonError::into_inner);
    let is_stopping = |drain: &Arc<Drain>| drain.phase.load(Ordering::Relaxed) == STOPPING;
    if current.as_ref().is_some_and(is_stopping) {
        let what = "all clients have left, and the broker is stopping";
        let fix = "it is too late to cancel: start it again";
        return Err(Problem::new(StatusCode::CONFLICT, what, fix));
    }
    let Some(drain) = current.take() else {
        let what = "the broker is not being drained";
        let fix = "there is nothing to cancel";
        return Err(Problem::new(StatusCode::NOT_FOUND, what, fix));
    };
    drain.is_cancelled.store(true, Ordering::Relaxed);
    control.asker.open_doors();
    drop(current);
    let left = drain.left.load(Ordering::Relaxed);
    info!(target: "ringmq::admin", caller, left, "drain cancelled");
    Ok(Json(json!({"draining": false, "left": left})))
}

async fn run(control: Arc<Control>, drain: Arc<Drain>, leave: OwnedSemaphorePermit) {
    sleep_until(drain.began + Duration::from_secs(drain.order.wait.into())).await;
    {
        // Under the lock: a cancel in between would open the doors before they are shut.
        let _current = control.drain.lock().unwrap_or_else(PoisonError::into_inner);
        if drain.is_cancelled() {
            return;
        }
        control.asker.shut_doors();
    }
    let mut queues: Vec<Queue> = Vec::new();
    for (index, shard) in control.asker.snapshot().await.iter().enumerate() {
        let connected = shard
            .report
            .as_ref()
            .map_or(0, |report| report.holdings.connected);
        drain.total.fetch_add(connected, Ordering::Relaxed);
        queues.push(Queue::of(index, connected));
    }
    drain.phase.store(LEAVING, Ordering::Relaxed);
    let began = Instant::now();
    while !queues.iter().all(|queue| queue.is_last && queue.is_done) {
        let elapsed = began.elapsed();
        for queue in &mut queues {
            queue.let_leave(&control, &drain, &leave, elapsed).await;
        }
        if drain.is_cancelled() {
            return;
        }
        sleep(TICK).await;
    }
    let stops = drain.order.then_stop;
    {
        // Under the lock: whoever is told that it is cancelled can rely on that.
        let _current = control.drain.lock().unwrap_or_else(PoisonError::into_inner);
        if drain.is_cancelled() {
            return;
        }
        let phase = if stops { STOPPING } else { DRAINED };
        drain.phase.store(phase, Ordering::Relaxed);
    }
    let left = drain.left.load(Ordering::Relaxed);
    info!(target: "ringmq::admin", left, then_stop = stops, "drained");
    if stops && let Err(error) = kill_process(getpid(), Signal::TERM) {
        warn!(target: "ringmq::admin", %error, "the broker cannot stop itself");
    }
}

/// The clients of a shard that are to leave: swept through once for each of [`IDLE_MINS`], and at
/// the end for those that have come meanwhile.
#[derive(Debug)]
struct Queue {
    shard: usize,
    total: u64,
    left: u64,
    /// Which of [`IDLE_MINS`].
    sweep: usize,
    from: u32,
    /// The span is over.
    is_last: bool,
    /// Clients that the present sweep has found.
    found: u64,
    /// Nobody is left, or the shard does not answer.
    is_done: bool,
}

impl Queue {
    fn of(shard: usize, total: u64) -> Queue {
        Queue {
            shard,
            total,
            left: 0,
            sweep: 0,
            from: 0,
            is_last: false,
            found: 0,
            is_done: false,
        }
    }

    /// Has as many leave as are due by now.
    async fn let_leave(
        &mut self,
        control: &Control,
        drain: &Drain,
        leave: &OwnedSemaphorePermit,
        elapsed: Duration,
    ) {
        let over = Duration::from_secs(drain.order.over.into());
        if elapsed >= over && !self.is_last {
            *self = Queue {
                sweep: IDLE_MINS.len() - 1,
                is_last: true,
                left: self.left,
                ..Queue::of(self.shard, self.total)
            };
        }
        let due = match self.is_last {
            true => u64::MAX,
            false => (self.total as f64 * elapsed.as_secs_f64() / over.as_secs_f64()) as u64,
        };
        while self.left < due && !self.is_done && !drain.is_cancelled() {
            let wanted = u32::try_from(due - self.left).unwrap_or(COUNT_MAX);
            let ask = Ask::Leave(LeaveOrder {
                from: self.from,
                idle_min: IDLE_MINS[self.sweep],
                count_max: wanted.min(COUNT_MAX),
                redirect: drain.order.redirect.clone(),
            });
            let shard = ShardId::new(self.shard);
            let Some(Answer::Leave(dealt)) = control.asker.ask_page(leave, shard, ask).await else {
                self.is_done = true;
                return;
            };
            self.left += u64::from(dealt.count);
            self.found += u64::from(dealt.count);
            drain
                .left
                .fetch_add(u64::from(dealt.count), Ordering::Relaxed);
            match dealt.next {
                Some(next) => self.from = next,
                None => self.begin_sweep(),
            }
        }
    }

    /// All have been looked at.
    fn begin_sweep(&mut self) {
        self.from = 0;
        if self.sweep + 1 < IDLE_MINS.len() {
            self.sweep += 1;
        } else {
            // Whoever comes from here on is met in the last sweep, which is repeated until nobody
            // is found.
            self.is_done = !self.is_last || self.found == 0;
            self.found = 0;
        }
    }
}

/// Silence, in the order of the sweeps: who has said nothing for longest misses the broker least.
const IDLE_MINS: [Duration; 4] = [
    Duration::from_secs(60),
    Duration::from_secs(10),
    Duration::from_secs(1),
    Duration::ZERO,
];
/// So often some leave.
const TICK: Duration = Duration::from_millis(100);
/// Clients that leave at once: a close takes the kernel some 10 us.
const COUNT_MAX: u32 = 256;
/// Bytes of a server reference.
const REDIRECT_SIZE_MAX: usize = 1024;
