//! The control plane: HTTP for operators and for programs, on a thread of its own.
//!
//! It reads no state of a shard. It asks ([`Asker`]), within a deadline, and reports a shard that does not answer. A
//! request costs the shards some integers to copy; the text is made here.
//!
//! The subjects: `address` and `socket` (where it listens), `server` (connections), `guard` (who may do what), `api` (all routes, with
//! `describe` and `fields` for their description), `routes` (what is answered), `listing` and `subject` (lists), `explain`, `losses`, `objects`, `drain`, `live` and `page` (for browsers),
//! `gzip` (answers that are compressed), `metrics` (what is measured), `stalls` and `frames` (turns that do not end).

mod address;
mod api;
mod asker;
mod bulk;
mod clock;
mod describe;
mod drain;
mod explain;
mod fields;
mod findings;
mod frames;
mod guard;
mod gzip;
mod listing;
mod live;
mod losses;
mod metrics;
mod objects;
mod page;
mod problem;
mod process;
mod profile;
mod room;
mod routes;
mod scene;
mod server;
mod settings;
mod socket;
mod stalls;
mod steward;
mod subject;
mod tls;
mod tokens;
mod top;
mod topics;
mod traced;
mod traces;
mod view;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use ringmq_core::limits::Limits;
use serde::Serialize;
use tokio::sync::oneshot;
use tracing::warn;

pub use address::AdminAddress;
pub use api::row_keys;
pub use asker::Asker;
pub(crate) use asker::LISTINGS_MAX;
pub(crate) use listing::LIMIT_MAX;
pub(crate) use live::STREAMS_MAX;
pub(crate) use server::{
    BODY_SIZE_MAX as ORDER_SIZE_MAX, CONNECTIONS_MAX, HEAD_SIZE_MAX, HEAD_TIME_MAX,
};
pub use socket::{AdminError, sockets_of_user};
pub use steward::{Changes, Decision, Flaw, Steward};
pub use tls::AdminTls;
pub use tokens::{Role, Tokens, line_of, to_hex};
pub(crate) use traces::{KEPT_MAX, SPAN_MAX};

use crate::counters::Tallies;
use drain::Drain;
use live::Live;
use settings::LogChoice;
use socket::Socket;
use stalls::Stalls;
use traces::Traces;

/// How the control plane is to run.
#[derive(Clone, Debug, Default)]
pub struct AdminConfig {
    /// Where it listens; empty: nothing starts.
    pub listen: Vec<AdminAddress>,
    /// Metrics are for everybody who reaches a TCP address.
    pub has_open_metrics: bool,
    /// There is a page for browsers, and what it shows live.
    pub has_page: bool,
    /// Over TCP it is HTTPS, with these certificates; `None`: HTTP.
    pub tls: Option<Arc<AdminTls>>,
    /// Who may do what over TCP; others may come at any time.
    pub tokens: Arc<ArcSwap<Tokens>>,
    /// Who reloads, and chooses what is logged; `None`: nobody.
    pub steward: Option<Arc<dyn Steward>>,
    /// A turn of a shard that takes longer is reported; zero: none is.
    pub stall_threshold: Duration,
}

/// What is known of the broker without asking.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Of the program.
    pub version: &'static str,
    /// When it started.
    pub started_at: SystemTime,
    /// Where clients connect.
    pub listeners: Vec<String>,
    /// Most connections, all shards together.
    pub connections_max: u64,
    /// Where sessions and messages are kept.
    pub data_dir: Option<String>,
    /// The bounds of a shard.
    pub limits: Arc<Limits>,
    /// What is counted outside of the shards.
    pub tallies: Arc<Tallies>,
    /// The settings in force.
    pub settings: Arc<ArcSwap<Vec<SettingShown>>>,
}

/// A setting, for people.
#[derive(Clone, Debug, Serialize)]
pub struct SettingShown {
    /// Table of the configuration file.
    pub section: &'static str,
    /// Key within it.
    pub key: &'static str,
    /// As a user would write it. Settings hold no secrets, but for user names and queries of
    /// URLs, which are `***`.
    pub value: String,
    /// Its default.
    pub default: String,
    /// A new value needs a restart.
    pub needs_restart: bool,
    /// What it does.
    pub help: &'static str,
}

/// A running control plane. It ends when this is dropped.
#[derive(Debug)]
pub struct Admin {
    addresses: Vec<String>,
    control: Arc<Control>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the requests share.
#[derive(Debug)]
struct Control {
    asker: Asker,
    facts: Facts,
    has_open_metrics: bool,
    has_page: bool,
    live: Live,
    tokens: Arc<ArcSwap<Tokens>>,
    tls: Option<Arc<AdminTls>>,
    steward: Option<Arc<dyn Steward>>,
    log: LogChoice,
    stalls: Arc<Stalls>,
    is_stopping: AtomicBool,
    /// The drain under way, or done.
    drain: Mutex<Option<Arc<Drain>>>,
    traces: Traces,
    /// Requests answered, by route and status. As many as there are routes, times what they answer.
    requests: Mutex<BTreeMap<(String, u16), u64>>,
}

impl Control {
    fn count(&self, route: &str, status: u16) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((route.to_owned(), status)).or_default() += 1;
    }

    fn requests(&self) -> Vec<((String, u16), u64)> {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests
            .iter()
            .map(|(key, count)| (key.clone(), *count))
            .collect()
    }

    fn drain(&self) -> Option<Arc<Drain>> {
        let drain = self.drain.lock().unwrap_or_else(PoisonError::into_inner);
        drain.clone()
    }

    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }
}

impl Admin {
    /// Opens the sockets and starts the thread. A socket of the runtime directory that cannot be made is left out, with
    /// a warning: brokers run without one.
    ///
    /// # Errors
    /// An address that was asked for by name cannot be had, or the thread cannot start.
    pub fn start(config: AdminConfig, facts: Facts, asker: Asker) -> Result<Admin, StartProblem> {
        let mut sockets = Vec::new();
        for address in &config.listen {
            match (Socket::open(address), address) {
                (Ok(socket), _) => sockets.push(socket),
                (Err(error), AdminAddress::Auto) => warn!("{error}"),
                (Err(error), AdminAddress::Unix(_) | AdminAddress::Tcp(_)) => {
                    return Err(StartProblem::Socket(error));
                }
            }
        }
        let control = Arc::new(Control {
            stalls: Arc::new(Stalls::new(asker.shards())),
            asker,
            facts,
            has_open_metrics: config.has_open_metrics,
            has_page: config.has_page,
            live: Live::default(),
            tokens: config.tokens,
            tls: config.tls,
            steward: config.steward,
            log: LogChoice::default(),
            is_stopping: AtomicBool::new(false),
            drain: Mutex::default(),
            traces: Traces::default(),
            requests: Mutex::default(),
        });
        let mut admin = Admin {
            addresses: sockets
                .iter()
                .map(|socket| shown(socket, &control))
                .collect(),
            control: Arc::clone(&control),
            stop: None,
            thread: None,
        };
        if sockets.is_empty() {
            return Ok(admin);
        }
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("control".to_owned());
        let thread =
            thread.spawn(move || server::run(control, sockets, config.stall_threshold, stopped));
        admin.stop = Some(stop);
        admin.thread = Some(thread.map_err(StartProblem::Thread)?);
        Ok(admin)
    }

    /// Where it listens, with real ports.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// The broker is about to stop: it is not ready from here on.
    pub fn note_stopping(&self) {
        self.control.is_stopping.store(true, Ordering::Relaxed);
    }
}

/// An address for people.
fn shown(socket: &Socket, control: &Control) -> String {
    let address = socket.address().to_string();
    match control.tls {
        Some(_) => address.replace("http://", "https://"),
        None => address,
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        // The thread waits for this; if it is gone, it has panicked, and that has been reported.
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Why the control plane cannot start.
#[derive(Debug)]
pub enum StartProblem {
    /// An address cannot be listened on.
    Socket(AdminError),
    /// The thread cannot be started.
    Thread(io::Error),
}

impl std::error::Error for StartProblem {}

impl std::fmt::Display for StartProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartProblem::Socket(error) => error.fmt(f),
            StartProblem::Thread(error) => write!(f, "no thread for the control plane: {error}"),
        }
    }
}
