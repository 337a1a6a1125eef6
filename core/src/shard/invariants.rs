//! What holds between two events, beyond what each type asserts of itself.

use super::Shard;
use super::delivery::dispatch::Held;
use super::retained::pages::BUDGET;
use super::timers::Timer;
use crate::connection::Connection;
use crate::session::Session;
use crate::time::Instant;

/// What the sessions and connections of a shard owe, counted one by one.
#[derive(Debug, Default, PartialEq, Eq)]
struct Owed {
    connected: u64,
    partial_bytes: u64,
    timers: usize,
}

impl Shard {
    /// What costs nothing to check: at the end of each event, where assertions are on.
    pub(super) fn assert_settled(&self) {
        let dispatch = &self.dispatch;
        assert!(!dispatch.gathers.has_steps(), "a gather waits for nobody");
        assert!(self.pages.budget <= BUDGET, "more pages than a turn has");
        assert!(
            self.connected_count <= dispatch.sessions.len() as u64,
            "a connected client has a session"
        );
        if self.connections.is_empty() {
            assert_eq!(self.partial_bytes, 0, "held for nobody");
            assert_eq!(self.connected_count, 0, "connected to nothing");
        }
        if dispatch.sessions.is_empty() {
            assert_eq!(dispatch.held, Default::default(), "kept for nobody");
        }
    }

    /// Panics if what is counted as it changes is not what a walk over everything finds, or if the
    /// parts of the shard contradict each other. For tests and the simulator, between two events.
    pub fn assert_invariants(&self) {
        self.assert_state();
        let mut owed = Owed {
            timers: usize::from(self.review.is_some())
                + usize::from(self.retained_purge_at.is_some()),
            ..Owed::default()
        };
        self.dispatch.sessions.assert_invariants();
        let mut held = Held::default();
        for (_, session) in self.dispatch.sessions.iter() {
            held.queued_messages += session.queue.len() as u64;
            held.queued_bytes += session.queue.bytes();
            held.inflight_bytes += session.window.bytes();
            let more = owed_to(session);
            owed.connected += more.connected;
            owed.partial_bytes += more.partial_bytes;
            owed.timers += more.timers;
        }
        for conn in self.connections.ids() {
            owed.partial_bytes += match self.connections.get(conn) {
                Some(Connection::AwaitConnect(waiting)) => {
                    owed.timers += 1;
                    waiting.framer.memory_size() as u64
                }
                Some(Connection::Authenticating(waiting)) => {
                    owed.timers += 1;
                    waiting.held_size() as u64
                }
                Some(
                    Connection::Vacant
                    | Connection::Open(_)
                    | Connection::Closing(_)
                    | Connection::HandedOver,
                )
                | None => 0,
            };
        }
        let mut counted = Owed {
            connected: self.connected_count,
            partial_bytes: self.partial_bytes,
            timers: 0,
        };
        for (at, timer) in self.timers.iter() {
            if !matches!(timer, Timer::Sys | Timer::SysTotals) {
                assert_eq!(self.due_at(timer), Some(at), "{timer:?} is set for nobody");
                counted.timers += 1;
            }
        }
        assert_eq!(counted, owed, "what is owed is counted as it changes");
        assert_eq!(self.dispatch.held, held, "what is kept is counted as well");
    }

    /// What each type promises, and what they promise each other.
    fn assert_state(&self) {
        self.connections.assert_invariants();
        self.index.assert_invariants();
        let cursors = self.pages.placed_count() + usize::from(self.checkpoints.has_cursor());
        self.retained.assert_invariants(cursors);
        self.routes.assert_invariants();
        self.sys.assert_invariants();
        let dispatch = &self.dispatch;
        dispatch.shares.assert_invariants();
        let sessions = || dispatch.sessions.iter();
        let feeds = sessions().filter_map(|(_, session)| session.feed.as_deref());
        dispatch.gathers.assert_invariants(feeds);
        let (mut subscriptions_count, mut durable_count) = (0, 0);
        for (id, session) in sessions() {
            subscriptions_count += session.subscriptions.len();
            if session.no.is_some() {
                durable_count += self.recorded_filters(id).len();
            }
            if let Some(link) = &session.link {
                link.egress.assert_invariants();
                let connection = self.connections.get(link.conn);
                let is_its = matches!(connection, Some(Connection::Open(of)) if *of == id);
                assert!(is_its, "a link is of an open connection");
            }
        }
        self.interest.assert_invariants(
            &self.config.interest,
            self.index.filter_count(),
            durable_count,
        );
        let indexed_count = self.index.len() + dispatch.shares.local_count();
        assert_eq!(
            subscriptions_count, indexed_count,
            "sessions and index agree on subscriptions"
        );
    }

    /// What a timer is set for, by what it is about.
    fn due_at(&self, timer: Timer) -> Option<Instant> {
        let session = |id| self.dispatch.sessions.get(id);
        let link = |id| session(id).and_then(|session| session.link.as_ref());
        match timer {
            Timer::Connect(conn) => {
                let since = match self.connections.get(conn)? {
                    Connection::AwaitConnect(waiting) => waiting.since,
                    Connection::Authenticating(waiting) => waiting.since,
                    Connection::Vacant
                    | Connection::Open(_)
                    | Connection::Closing(_)
                    | Connection::HandedOver => return None,
                };
                Some(since + self.config.limits.connect_deadline)
            }
            Timer::KeepAlive(id) => link(id)?.keep_alive_at,
            Timer::Credentials(id) => link(id)?.expires_at,
            Timer::Lease(id) => link(id)?.lease_at,
            Timer::Pace(id) => link(id)?.paced_until,
            Timer::Will(id) => session(id)?.will_at,
            Timer::Expiry(id) => session(id)?.expires_at,
            Timer::Retained => self.retained_purge_at,
            Timer::Review => self.review.map(|(_, at)| at),
            Timer::Sys | Timer::SysTotals => None,
        }
    }
}

fn owed_to(session: &Session) -> Owed {
    let Some(link) = &session.link else {
        let timers = [session.expires_at, session.will_at];
        return Owed {
            timers: timers.iter().flatten().count(),
            ..Owed::default()
        };
    };
    let timers = [
        link.keep_alive_at,
        link.paced_until,
        link.expires_at,
        link.lease_at,
    ];
    Owed {
        connected: 1,
        partial_bytes: link.framer.memory_size() as u64,
        timers: timers.iter().flatten().count(),
    }
}
