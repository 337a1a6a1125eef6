//! Keys that an issuer publishes on the network, as a JWK Set.
//!
//! A thread fetches them: at start, periodically, and when a token names an unknown key. Threads
//! that check tokens never wait for it.
//!
//! Invariants:
//! - while there are no keys, or only ones that are too old, tokens get the verdict "unavailable"
//!   (threat 80).
//! - a set that cannot be fetched or parsed leaves the current keys in place.
//! - tokens of strangers cause at most one fetch in [`MISS_PAUSE`].

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use ringmq_core::time::Instant;
use tracing::{error, info, warn};

use super::keys::{Key, KeyFault, read_set};
use crate::auth::http::{HttpClient, HttpError, HttpUrl};
use crate::transport::TlsProblem;
use ringmq_ring::clock;

/// Where keys come from, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteConfig {
    /// Address of the JWK Set.
    pub url: HttpUrl,
    /// CAs that its server has to come from; none: those of the machine.
    pub cas: Vec<PathBuf>,
    /// How often it is fetched.
    pub refresh: Duration,
    /// Time for one answer.
    pub timeout: Duration,
    /// How old keys may get while it cannot be fetched.
    pub stale_max: Duration,
}

/// The keys of one address.
pub struct RemoteKeys {
    shared: Arc<Shared>,
    /// Asks the thread for another fetch; the thread ends with it.
    wake: Sender<()>,
    /// For the thread, until there is one.
    woken: Mutex<Option<Receiver<()>>>,
    /// When a token last made it ask.
    missed_at: AtomicU64,
}

struct Shared {
    config: RemoteConfig,
    client: ArcSwap<HttpClient>,
    fetched: ArcSwapOption<Fetched>,
    /// A fetch is under way, or asked for.
    is_busy: AtomicBool,
}

/// What came last.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) keys: Vec<Key>,
    at: Instant,
}

impl Fetched {
    /// A key of this name is among them.
    pub(super) fn names(&self, kid: Option<&str>) -> bool {
        let mut kids = self.keys.iter().filter_map(|key| key.kid.as_deref());
        kid.is_some_and(|kid| kids.any(|own| own == kid))
    }
}

/// Why no keys came.
#[derive(Debug)]
pub enum FetchError {
    /// No answer, or none that is whole.
    Http(HttpError),
    /// Another status than 200.
    Status(u16),
    /// Not a set of keys.
    Keys(KeyFault),
}

/// All that are alive: a reload goes on with the keys that are there.
static LIVE: Mutex<Vec<Weak<RemoteKeys>>> = Mutex::new(Vec::new());

impl RemoteKeys {
    /// Those of this address, by these terms. Nothing is fetched before [`RemoteKeys::begin`].
    pub fn of(config: &RemoteConfig) -> Result<Arc<RemoteKeys>, TlsProblem> {
        // A new client each time: the CA files may have changed.
        let client = HttpClient::new(&config.cas, CA_SETTING, Vec::new())?;
        let mut live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
        live.retain(|one| one.strong_count() > 0);
        let known = live.iter().filter_map(Weak::upgrade);
        let mut known = known.filter(|one| one.shared.config == *config);
        if let Some(known) = known.next() {
            known.shared.client.store(Arc::new(client));
            return Ok(known);
        }
        let made = Arc::new(RemoteKeys::new(config.clone(), client));
        live.push(Arc::downgrade(&made));
        Ok(made)
    }

    fn new(config: RemoteConfig, client: HttpClient) -> RemoteKeys {
        let (wake, woken) = bounded(1);
        RemoteKeys {
            shared: Arc::new(Shared {
                config,
                client: ArcSwap::from_pointee(client),
                fetched: ArcSwapOption::empty(),
                is_busy: AtomicBool::new(true),
            }),
            wake,
            woken: Mutex::new(Some(woken)),
            missed_at: AtomicU64::new(0),
        }
    }

    /// Starts to fetch, once.
    pub fn begin(&self) {
        let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(woken) = woken.take() else {
            return;
        };
        let url = &self.shared.config.url;
        if !url.is_private() {
            warn!(%url, "token keys are fetched over plain HTTP: anyone on the path can replace \
                         them and let anybody in; use https");
        }
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name("jwks".to_owned());
        if let Err(error) = thread.spawn(move || shared.run(&woken)) {
            error!(%error, "cannot start the thread that fetches token keys; tokens signed with \
                            them are refused");
        }
    }

    /// The keys, if they are not too old.
    pub(super) fn keys(&self, now: Instant) -> Option<Arc<Fetched>> {
        let fetched = self.shared.fetched.load_full();
        fetched.filter(|f| now.saturating_since(f.at) <= self.shared.config.stale_max)
    }

    /// A token names a key that is not among them. Whether there may be another answer in a moment.
    pub(super) fn miss(&self, now: Instant) -> bool {
        if self.shared.is_busy.load(Ordering::Acquire) {
            return true;
        }
        let missed_at = Instant::from_nanos(self.missed_at.load(Ordering::Relaxed));
        if missed_at != Instant::ZERO && now < missed_at + MISS_PAUSE {
            return false;
        }
        self.missed_at.store(now.as_nanos(), Ordering::Relaxed);
        self.shared.is_busy.store(true, Ordering::Release);
        // If it is full, the thread has been asked already.
        let _ = self.wake.try_send(());
        true
    }

    /// Fetches them now.
    #[cfg(test)]
    pub(super) fn fetch(&self) -> Result<usize, FetchError> {
        let fetched = self.shared.fetch();
        self.shared.is_busy.store(false, Ordering::Release);
        fetched
    }

    /// For tests: a fetch is under way or asked for.
    #[cfg(test)]
    pub(super) fn is_busy(&self) -> bool {
        self.shared.is_busy.load(Ordering::Acquire)
    }

    /// For tests: without being known to others.
    #[cfg(test)]
    pub(super) fn alone(config: RemoteConfig) -> RemoteKeys {
        let client = HttpClient::new(&[], CA_SETTING, Vec::new()).expect("no CA is read");
        RemoteKeys::new(config, client)
    }
}

impl Shared {
    fn run(&self, woken: &Receiver<()>) {
        let url = &self.config.url;
        let mut pause = RETRY_MIN;
        loop {
            let wait = match self.fetch() {
                Ok(count) => {
                    info!(%url, count, "fetched token keys");
                    pause = RETRY_MIN;
                    self.config.refresh
                }
                Err(error) => {
                    let has_keys = self.fetched.load().is_some();
                    warn!(
                        setting = URL_SETTING,
                        %url,
                        has_keys,
                        "cannot fetch token keys: {error}"
                    );
                    let wait = pause.min(self.config.refresh);
                    pause = (pause * 2).min(RETRY_MAX);
                    wait
                }
            };
            self.is_busy.store(false, Ordering::Release);
            match woken.recv_timeout(wait) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.is_busy.store(true, Ordering::Release);
        }
    }

    /// How many keys came.
    fn fetch(&self) -> Result<usize, FetchError> {
        let config = &self.config;
        let client = self.client.load_full();
        let answer = client.get(&config.url, config.timeout);
        let answer = answer.map_err(FetchError::Http)?;
        if answer.status != 200 {
            return Err(FetchError::Status(answer.status));
        }
        let keys = read_set(&answer.body, false).map_err(FetchError::Keys)?;
        let keys: Vec<Key> = keys.into_iter().map(|(key, _)| key).collect();
        let count = keys.len();
        let at = clock();
        self.fetched.store(Some(Arc::new(Fetched { keys, at })));
        Ok(count)
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FetchError::Http(error) => error.fmt(f),
            FetchError::Status(status) => write!(f, "the response has status {status}"),
            FetchError::Keys(fault) => write!(f, "the response {fault}"),
        }
    }
}

impl std::error::Error for FetchError {}

impl fmt::Debug for RemoteKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteKeys")
            .field("url", &self.shared.config.url)
            .finish_non_exhaustive()
    }
}

/// What the log calls the settings.
const URL_SETTING: &str = "jwt.jwks_url";
const CA_SETTING: &str = "jwt.jwks_ca";
/// Between two fetches that tokens with unknown keys bring about.
pub const MISS_PAUSE: Duration = Duration::from_secs(10);
/// After a first failure; twice as long after each further one.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
