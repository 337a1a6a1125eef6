//! The shard: a synchronous, deterministic state machine.
//!
//! [`Shard::handle`] takes one event and runs to completion. Where to read on: an event's way
//! starts in `on_*.rs`; `delivery` is the way out of a message, `session/gather.rs` the one subtle
//! protocol between shards.

mod asked;
mod checkpoint;
mod checkpoints;
mod delivery;
mod durable;
mod entry;
mod interest;
mod invariants;
mod mail;
mod on_ack;
mod on_close;
mod on_packet;
mod on_publish;
mod on_subscribe;
mod output;
mod pace;
mod partials;
mod remains;
mod restore;
mod retained;
mod scarce;
mod share;
mod sys;
mod timers;
mod traced;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::ids::JoinId;
pub use crate::loss::{Bound, DropReason, Loss};
pub use delivery::traffic::Summary;
pub use mail::ask::{
    Answer, Ask, Disconnected, LinkRow, SessionFilter, SessionPage, SessionQuery, SessionRow,
};
pub use mail::end::End;
pub use mail::event::{CloseCause, Deadlines, Event, Heard, ProcessCounts};
pub use mail::findings::{
    ClientLosses, ClientQuery, Dealt, Fate, LeaveOrder, MatchPlace, MessageTerms, Publishing,
    QueuedRow, RetainedQuery, RetainedRow, Rows, SubscriberQuery, SubscriberRow, SubscriptionRow,
    TallyRow, TopicOrder, TopicPage, TopicQuery, TopicRow, Traffic, Whose,
};
pub use mail::message::{MsgClass, Page, Question, ShardMsg, Share};
pub use mail::note::{Arrival, Departure, Note, NoteKinds, Notes, Party};
pub use mail::outbox::{Close, Handover, Outbox, Reading};
pub use mail::parcel::{Parcel, Piece};
pub use mail::record::Record;
pub use mail::trace::{
    DeliveryStep, RulesStep, TraceEvent, TraceOf, TraceOrder, TracePage, Traced, TracedMessage,
    TracedPacket, TracedPublish,
};
pub use remains::Remains;
pub use sys::cases::{Cases, LossPage, LossQuery, LossRow};
pub use sys::metrics::{Gauges, Metrics};
pub use sys::records::TOPIC_SIZE_MAX;
pub use sys::report::{Holdings, Report};
pub use sys::traces::Traces;

use checkpoints::Checkpoints;
use delivery::dispatch::{Dispatch, Held};
use delivery::routes::RouteCache;
use mail::turn::Turn;
use retained::pages::Pages;
use share::groups::Shares;
use share::suback::PendingSuback;
use sys::state::Sys;
use timers::{Timer, Timers};

use crate::auth::{Access, Identity, ScramServer};
use crate::connection::{Connection, Connections, Unsent};
use crate::home::Home;
use crate::ids::{ConnId, SessionId, SessionNo, ShardId};
use crate::limits::Limits;
use crate::session::Sessions;
use crate::session::{Link, Pause, Session};
use crate::store::{Journal, LogConfig, Owed};
use crate::time::Instant;
use crate::topic::{Interest, InterestTable, RetainedStore, SubscriptionIndex, TopicLimits};

/// What a shard is made with.
#[derive(Clone)]
pub struct ShardConfig {
    /// Which shard it is.
    pub id: ShardId,
    /// How many shards there are; `id < shards`.
    pub shards: usize,
    /// Secret of this process: keys every hash that a client could aim at, and seeds the shard's
    /// random generator. The same for all shards.
    pub secret: [u64; 2],
    /// The bounds.
    pub limits: Arc<Limits>,
    /// The table that all shards share; it tells durable interest apart if there are logs.
    pub interest: Arc<InterestTable>,
    /// How often `$SYS` is published; zero: never.
    pub sys_interval: Duration,
    /// Who may connect, until `Event::AccessReplaced`.
    pub access: Arc<Access>,
    /// The log; `None`: nothing outlives the process.
    pub log: Option<LogConfig>,
}

/// One shard.
#[derive(Debug)]
pub struct Shard {
    config: ShardConfig,
    home: Home,
    connections: Connections,
    dispatch: Dispatch,
    index: SubscriptionIndex,
    interest: Interest,
    routes: RouteCache,
    retained: RetainedStore,
    pages: Pages,
    /// When the `Retained` timer is set for.
    retained_purge_at: Option<Instant>,
    timers: Timers,
    /// SUBACK packets that wait for other shards: one turn of theirs, and while it takes longer, no
    /// socket is read for more.
    subacks: HashMap<JoinId, PendingSuback, FixedState>,
    last_join: u64,
    /// For names, not for secrets.
    random: fastrand::Rng,
    /// Properties of the PUBLISH at hand, as they travel on.
    properties: Vec<u8>,
    /// Memory of the packets that have arrived in part, over all connections.
    partial_bytes: u64,
    is_shutting_down: bool,
    /// The server that clients are sent to in a drain; empty: none.
    drained_to: Box<str>,
    /// Sessions whose client is connected.
    connected_count: u64,
    sys: Sys,
    scram: ScramServer,
    /// Of everybody who proved nothing.
    anonymous: Arc<Identity>,
    /// Where the review of sessions goes on, and when; see `review.rs`.
    review: Option<(u32, Instant)>,
    /// Connections and sessions that it has ended so far.
    reviewed: (u32, u32),
    /// Of sessions that ended before the start: given to others in the first turn.
    owed: Vec<(SessionNo, Owed)>,
    /// When it took over what was recovered; zero: nothing was.
    restored_at: Instant,
    checkpoints: Checkpoints,
}

impl Shard {
    /// A shard without clients.
    pub fn new(config: ShardConfig) -> Shard {
        assert!(
            config.id.index() < config.shards,
            "a shard is one of the shards"
        );
        let home = Home::new(config.secret, config.shards);
        let limits = config.limits.clone();
        let topic_limits = TopicLimits::of(&limits);
        let seed = config.secret[0] ^ config.secret[1].rotate_left(32);
        let interest = config.interest.clone();
        let shares = Shares::new(config.id, limits.share_strategy, interest, seed);
        let sys = Sys::new(config.sys_interval, config.id, config.shards);
        let mut timers = Timers::default();
        if sys.is_on() {
            timers.set(Instant::ZERO, Timer::Sys); // Due as soon as there is a time.
        }
        Shard {
            home,
            connections: Connections::default(),
            dispatch: Dispatch::new(
                limits.clone(),
                Sessions::new(home),
                shares,
                config.access.clone(),
                match &config.log {
                    Some(log) => Journal::on(*log, config.shards),
                    None => Journal::default(),
                },
                config.shards - 1,
                seed,
            ),
            index: SubscriptionIndex::new(seed),
            interest: Interest::new(config.id),
            routes: RouteCache::new(seed, topic_limits),
            retained: RetainedStore::new(&limits, seed),
            pages: Pages::default(),
            retained_purge_at: None,
            timers,
            subacks: HashMap::default(),
            last_join: 0,
            random: fastrand::Rng::with_seed(seed ^ (config.id.index() as u64) << 56),
            properties: Vec::new(),
            partial_bytes: 0,
            is_shutting_down: false,
            drained_to: Box::default(),
            connected_count: 0,
            sys,
            scram: ScramServer::new(config.access.scram.clone(), nonce_key(&config)),
            anonymous: Arc::default(),
            review: None,
            reviewed: (0, 0),
            owed: Vec::new(),
            restored_at: Instant::ZERO,
            checkpoints: Checkpoints::default(),
            config,
        }
    }

    /// Which shard this is.
    pub fn id(&self) -> ShardId {
        self.config.id
    }

    /// Takes in one event and puts the effects into `out`. Never blocks, never fails.
    pub fn handle(&mut self, now: Instant, event: Event<'_>, out: &mut Outbox) {
        let turn = &mut Turn { now, out };
        self.dispatch.journal.begin();
        if let Some(traces) = &mut self.dispatch.traces {
            traces.now = now;
        }
        match event {
            Event::Accepted { conn, peer, since } => self.on_accepted(conn, peer, since, turn.out),
            Event::Identified { conn, peer } => self.on_identified(conn, peer),
            Event::Unwelcome { conn, refusal } => self.on_unwelcome(conn, refusal),
            Event::Received { conn, bytes } => self.on_received(conn, bytes, turn),
            Event::SendProgress { conn, size } => self.on_send_progress(conn, size, turn),
            Event::Closed { conn, why } => self.on_closed(conn, why, turn),
            Event::FromShard { from, message } => self.on_shard_msg(from, message, turn),
            Event::AuthDecided {
                conn,
                was_known,
                verdict,
            } => self.on_auth_decided(conn, was_known, verdict, turn),
            Event::AccessReplaced { access } => self.on_access_replaced(access, turn),
            Event::DiskDone(done) => self.on_disk_done(done, turn.out),
            Event::SpaceChanged { is_scarce } => self.on_space_changed(is_scarce),
            Event::ShellCounted { counts, process } => self.sys.note_shell(counts, process),
            Event::DeadlineReached { heard } => self.on_deadline(heard, turn),
            Event::Asked { ask } => self.on_asked(ask, turn),
            Event::ShutdownRequested => self.on_shutdown(turn),
        }
        self.feed_gathers(turn);
        self.dispatch.journal.end_event();
        if cfg!(debug_assertions) {
            self.assert_settled();
        }
    }

    /// When to call with `Event::DeadlineReached` at the latest, once what bears on it was heard.
    pub fn deadlines(&self) -> Deadlines {
        let deadlines = self.timers.next();
        let is_due = self.pages.are_due() || self.is_restoring();
        let pages = is_due.then_some(Instant::ZERO); // In the next turn.
        let records = self.dispatch.records.next_deadline();
        let log = self.dispatch.journal.deadline();
        let slice = self.checkpoints.deadline();
        let of_clock = [deadlines.of_clock, pages, records, log, slice];
        Deadlines {
            of_clock: of_clock.into_iter().flatten().min(),
            ..deadlines
        }
    }

    /// CONNECT was seen whole on this connection, and it stays on this shard.
    pub fn is_home(&self, conn: ConnId) -> bool {
        match self.connections.get(conn) {
            Some(Connection::Authenticating(_) | Connection::Open(_) | Connection::Closing(_)) => {
                true
            }
            Some(Connection::Vacant | Connection::AwaitConnect(_) | Connection::HandedOver)
            | None => false,
        }
    }

    /// What the shard has counted since its start.
    pub fn metrics(&self) -> &Metrics {
        &self.dispatch.metrics
    }

    /// What the shard holds. Walks all sessions: for tests and slow reports.
    pub fn gauges(&self) -> Gauges {
        if cfg!(debug_assertions) {
            self.assert_invariants();
        }
        let mut gauges = Gauges {
            connections: self.connections.len(),
            sessions: self.dispatch.sessions.len(),
            subscriptions: self.index.len() + self.dispatch.shares.local_count(),
            groups: self.dispatch.shares.group_count(),
            subacks_pending: self.subacks.len(),
            retained: self.retained.len(),
            timers: self.timers.len(),
            gathers: self.dispatch.gathers.len(),
            cursors: self.pages.len(),
            partial_bytes: self.partial_bytes,
            ..Gauges::default()
        };
        for (_, session) in self.dispatch.sessions.iter() {
            gauges.queued_messages += session.queue.len();
            gauges.queued_bytes += session.queue.bytes();
            gauges.inflight += session.window.unsettled_count();
            gauges.inflight_bytes += session.window.bytes();
            gauges.receipts += session.receipts.len();
            gauges.wills += usize::from(session.will.is_some());
        }
        let mut unsent = Unsent::default();
        for conn in self.connections.ids() {
            let egress = match self.connections.get(conn) {
                Some(Connection::Open(id)) => {
                    let session = self.dispatch.sessions.get(*id);
                    session.and_then(|session| Some(&session.link.as_ref()?.egress))
                }
                Some(Connection::Authenticating(waiting)) => Some(&waiting.egress),
                Some(Connection::Closing(egress)) => Some(&**egress),
                Some(Connection::Vacant | Connection::AwaitConnect(_) | Connection::HandedOver)
                | None => None,
            };
            if let Some(egress) = egress {
                unsent.packets += u64::from(egress.unsent_packets());
                unsent.bytes += u64::from(egress.unsent_bytes());
            }
        }
        gauges.unsent_bytes = unsent.bytes;
        assert_eq!(
            unsent, self.dispatch.pool.unsent,
            "what is not sent is counted as it changes"
        );
        let held = Held {
            queued_messages: gauges.queued_messages as u64,
            queued_bytes: gauges.queued_bytes,
            inflight_bytes: gauges.inflight_bytes,
        };
        assert_eq!(
            held, self.dispatch.held,
            "what is held is counted as it changes"
        );
        gauges
    }

    /// A session that the caller knows to be live.
    pub(super) fn session(&mut self, id: SessionId) -> &mut Session {
        self.dispatch
            .sessions
            .get_mut(id)
            .expect("the caller knows a live session")
    }

    /// The link of a session that the caller knows to be connected.
    pub(super) fn link(&mut self, id: SessionId) -> &mut Link {
        self.dispatch.sessions.link_mut(id)
    }

    fn on_send_progress(&mut self, conn: ConnId, size: u32, turn: &mut Turn<'_>) {
        self.dispatch.metrics.bytes_sent += u64::from(size);
        match self.connections.get_mut(conn) {
            Some(Connection::Open(id)) => {
                let id = *id;
                let session = self
                    .dispatch
                    .sessions
                    .get_mut(id)
                    .expect("an open connection has a session");
                let link = session
                    .link
                    .as_mut()
                    .expect("an open connection is its session's link");
                link.counts.bytes += u64::from(size);
                link.egress.sent(size, &mut self.dispatch.pool.unsent);
                if link.egress.unsent_bytes() < self.config.limits.unsent_bytes_max {
                    pace::resume(link, Pause::Unsent, turn);
                }
                self.dispatch.pump(id, turn);
            }
            Some(Connection::Authenticating(waiting)) => {
                waiting.egress.sent(size, &mut self.dispatch.pool.unsent);
            }
            Some(Connection::Closing(egress)) => egress.sent(size, &mut self.dispatch.pool.unsent),
            Some(Connection::Vacant | Connection::AwaitConnect(_) | Connection::HandedOver)
            | None => {}
        }
    }

    fn on_deadline(&mut self, heard: Heard, turn: &mut Turn<'_>) {
        assert!(
            heard.everywhere <= heard.here && heard.here <= turn.now,
            "no shell has heard what is still to come: {heard:?} at {:?}",
            turn.now
        );
        self.dispatch.records.flush(turn);
        self.make_pages(turn);
        self.give_owed(turn);
        while let Some(timer) = self.timers.pop_due(turn.now, heard) {
            match timer {
                Timer::Connect(conn) => self.on_connect_deadline(conn, turn),
                Timer::KeepAlive(session) => self.on_keep_alive(heard, session, turn),
                Timer::Lease(session) => self.on_lease(heard, session, turn),
                Timer::Credentials(session) => self.on_credentials_expired(session, turn),
                Timer::Pace(session) => self.on_pace(session, turn),
                Timer::Will(session) => self.on_will_due(session, turn),
                Timer::Expiry(session) => self.on_session_expired(session, turn),
                Timer::Review => self.on_review(turn),
                Timer::Sys => self.on_sys(turn),
                Timer::SysTotals => self.on_sys_totals(turn),
                Timer::Retained => {
                    self.retained_purge_at = None;
                    self.retained.purge_expired(turn.now);
                    self.set_retained_timer(turn.now);
                }
            }
        }
    }

    /// Sets the purge timer for the earliest retained message that expires. What a bounded purge
    /// left over is due in the next turns, not in this one.
    fn set_retained_timer(&mut self, now: Instant) {
        let soonest = now + Duration::from_millis(1);
        let next = self.retained.next_expiry().map(|at| at.max(soonest));
        if next == self.retained_purge_at {
            return;
        }
        if let Some(at) = self.retained_purge_at.take() {
            self.timers.cancel(at, Timer::Retained);
        }
        if let Some(at) = next {
            self.timers.set(at, Timer::Retained);
            self.retained_purge_at = Some(at);
        }
    }
}

impl fmt::Debug for ShardConfig {
    /// Short: tests compare whole shards by their text, hundreds of thousands of times.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardConfig")
            .field("id", &self.id)
            .field("shards", &self.shards)
            .finish_non_exhaustive()
    }
}

/// The key of the nonces of one shard, which is no other shard's.
fn nonce_key(config: &ShardConfig) -> [u8; 32] {
    let [first, second] = config.secret.map(u64::to_be_bytes);
    let shard = (config.id.index() as u64).to_be_bytes();
    crate::auth::derive_key(b"nonces of SCRAM", &[&first, &second, &shard])
}
