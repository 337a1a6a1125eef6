//! The threads that run the authenticators.
//!
//! Some threads compute: they check passwords. Others wait for services on the network, so that a
//! slow or failing service delays only clients that need it. A request moves from the first kind to
//! the second when it reaches such an authenticator.
//!
//! Invariants:
//! - every accepted request gets one verdict; if its deadline passed before anybody looked at it,
//!   "unavailable".
//! - at most `queue_max` requests wait for the one kind of thread, and at most `waiting_queue_max`
//!   for the other; the verdict on any beyond that is "unavailable".
//! - addresses take turns (`line.rs`): a flood of logins from one does not delay those of others.
//! - a request is judged by the same authenticators from beginning to end; the verdict says by
//!   which, and it is discarded if they have been replaced meanwhile (`Reactor::on_decided`).
//!
//! A shard never waits for a lock: it puts requests into a channel, and a separate thread, the
//! porter, queues them.
//!
//! Threads start on demand, so a broker has as many as its clients have needed at one time. Their
//! priority is lowered: where they share cores with the shards, connected clients come first.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use crossbeam::channel::{Sender, TrySendError, bounded};
use ringmq_core::auth::AuthRequest;
use ringmq_core::ids::ShardId;
use tracing::error;

use super::Authenticators;
use super::office::{Answers, Crew, Job, Judges, Office, Porter, spawn};
use crate::counters::Tallies;
use crate::error::StartError;
use crate::inbox::Inbox;

/// Resources for authentication.
#[derive(Clone, Copy, Debug)]
pub struct AuthServiceConfig {
    /// Most threads, each for one request at a time.
    pub threads: usize,
    /// Requests that may wait for a thread.
    pub queue_max: usize,
    /// Most threads that wait for services on the network, each for one answer at a time.
    pub waiting_threads: usize,
    /// Requests that may wait for one of these.
    pub waiting_queue_max: usize,
}

impl Default for AuthServiceConfig {
    fn default() -> AuthServiceConfig {
        AuthServiceConfig {
            threads: 1,
            queue_max: 1024,
            waiting_threads: 16,
            waiting_queue_max: 1024,
        }
    }
}

/// Accepts the requests of all shards.
#[derive(Debug)]
pub(crate) struct AuthService {
    queue: Sender<Job>,
    judges: Arc<ArcSwap<Judges>>,
    /// That of `judges`, set after them: a verdict of another generation is stale.
    generation: AtomicU64,
    /// Until the first authenticator is configured: a broker that admits everybody needs no
    /// threads.
    porter: Mutex<Option<Porter>>,
}

impl AuthService {
    /// A service whose threads start when they are needed. They end when it is dropped.
    pub(crate) fn start(
        config: AuthServiceConfig,
        authenticators: Authenticators,
        inboxes: &Arc<[Inbox]>,
        tallies: &Arc<Tallies>,
    ) -> Result<AuthService, StartError> {
        let (queue, arriving) = bounded(ARRIVING_MAX);
        let is_needed = !authenticators.is_empty();
        authenticators.begin();
        let judges = Arc::new(ArcSwap::from_pointee(Judges {
            generation: 0,
            authenticators,
        }));
        let office = Office {
            computing: Crew::new("auth", config.threads, config.queue_max),
            waiting: Crew::new("hook", config.waiting_threads, config.waiting_queue_max),
            judges: Arc::clone(&judges),
            answers: Answers {
                inboxes: Arc::clone(inboxes),
                tallies: Arc::clone(tallies),
            },
        };
        let porter = Porter {
            arriving,
            office: Arc::new(office),
        };
        let service = AuthService {
            queue,
            judges,
            generation: AtomicU64::new(0),
            porter: Mutex::new(Some(porter)),
        };
        if is_needed {
            service.open()?;
        }
        Ok(service)
    }

    /// A service that never has room.
    pub(crate) fn closed() -> AuthService {
        let (queue, _) = bounded(1);
        AuthService {
            queue,
            judges: Arc::default(),
            generation: AtomicU64::new(0),
            porter: Mutex::new(None),
        }
    }

    /// Accepts a request, or returns it if the queue is full.
    pub(crate) fn ask(&self, shard: ShardId, request: AuthRequest) -> Result<(), Box<AuthRequest>> {
        let job = Job {
            shard,
            request,
            progress: None,
        };
        self.queue.try_send(job).map_err(|error| match error {
            TrySendError::Full(job) | TrySendError::Disconnected(job) => Box::new(job.request),
        })
    }

    /// Replaces the authenticators. Requests in progress continue with the previous ones, and are
    /// asked again if those grant access.
    pub(crate) fn replace(&self, authenticators: Authenticators) {
        let is_needed = !authenticators.is_empty();
        authenticators.begin();
        let generation = self.generation() + 1;
        self.judges.store(Arc::new(Judges {
            generation,
            authenticators,
        }));
        self.generation.store(generation, Ordering::Release);
        if is_needed && let Err(error) = self.open() {
            error!(%error, "no client can log in; restart the broker");
        }
    }

    /// How often the authenticators have been replaced.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Starts the thread that takes requests up, unless it runs.
    fn open(&self) -> Result<(), StartError> {
        let mut porter = self.porter.lock().unwrap_or_else(PoisonError::into_inner);
        match porter.take() {
            Some(porter) => spawn("auth-porter".to_owned(), move || porter.run()),
            None => Ok(()),
        }
    }
}

/// Requests on their way to the porter, which takes a microsecond for each. Any beyond that are
/// answered "unavailable".
pub(crate) const ARRIVING_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, RecvTimeoutError};
    use std::thread;
    use std::time::Duration;

    use ringmq_core::auth::{Identity, Verdict};
    use ringmq_core::codec::Version;
    use ringmq_core::ids::ConnId;
    use ringmq_core::refusal::Refusal;
    use ringmq_core::time::Instant;
    use ringmq_ring::clock;

    use super::super::Authenticator;
    use super::*;
    use crate::counters::Tally;
    use crate::inbox::Mail;

    /// Judges when the test lets it.
    #[derive(Debug)]
    struct Gate {
        begun: mpsc::Sender<u32>,
        go: Mutex<mpsc::Receiver<Verdict>>,
    }

    impl Authenticator for Gate {
        fn judge(&self, request: &AuthRequest) -> Option<Verdict> {
            self.begun.send(request.conn.index).unwrap();
            Some(self.go.lock().unwrap().recv().unwrap())
        }
    }

    fn request(index: u32, deadline: Instant) -> AuthRequest {
        AuthRequest {
            conn: ConnId {
                index,
                generation: 0,
            },
            peer: Default::default(),
            version: Version::V5,
            client_id: "c".into(),
            user_name: None,
            password: None,
            exchange: None,
            known: None,
            deadline,
        }
    }

    fn next_decision(inbox: &Inbox) -> (u32, Verdict) {
        loop {
            match inbox.take() {
                Some(Mail::Decided(decision)) => {
                    return (decision.request.conn.index, decision.verdict);
                }
                Some(other) => panic!("{other:?}"),
                None => thread::yield_now(),
            }
        }
    }

    #[test]
    fn a_flood_from_one_address_waits_for_itself() {
        let (begun, begins) = mpsc::channel();
        let (go, gate) = mpsc::channel();
        let inboxes: Arc<[Inbox]> = [Inbox::new(16).unwrap()].into();
        let config = AuthServiceConfig {
            threads: 1,
            queue_max: 4,
            ..AuthServiceConfig::default()
        };
        let gate = Gate {
            begun,
            go: Mutex::new(gate),
        };
        let authenticators = Authenticators {
            all: vec![Arc::new(gate)],
            authorization: None,
        };
        let tallies = Arc::default();
        let service = AuthService::start(config, authenticators, &inboxes, &tallies).unwrap();
        let ask = |index: u32, address: &str| {
            let mut request = request(index, clock() + Duration::from_secs(60));
            request.peer.address = Some(address.parse().unwrap());
            service.ask(ShardId::new(0), request).unwrap();
        };
        ask(1, "192.0.2.1:1");
        assert_eq!(begins.recv(), Ok(1));
        // The ports differ, and in the network of a customer the addresses.
        ask(2, "192.0.2.1:2");
        ask(3, "192.0.2.1:3");
        ask(4, "[2001:db8::1]:1");
        ask(5, "[2001:db8::2]:1");
        // Of the two that have as many waiting, either gives way.
        for (index, address, gone) in [(6, "192.0.2.1:4", &[6][..]), (7, "192.0.2.2:1", &[3, 5])] {
            ask(index, address);
            let (found, verdict) = next_decision(&inboxes[0]);
            assert!(verdict == Verdict::Unavailable && gone.contains(&found));
        }
        for expected in [2, 4, 7] {
            go.send(Verdict::Unavailable).unwrap();
            assert_eq!(begins.recv(), Ok(expected));
        }
        let overflows = Tally::LoginOverflows as usize;
        assert_eq!(tallies.named()[overflows], ("logins/overflows", 2));
    }

    #[test]
    fn requests_are_answered_in_order_and_returned_if_the_queue_is_full() {
        let (begun, begins) = mpsc::channel();
        let (go, gate) = mpsc::channel();
        let inboxes: Arc<[Inbox]> = [Inbox::new(4).unwrap(), Inbox::new(4).unwrap()].into();
        let gate = Gate {
            begun,
            go: Mutex::new(gate),
        };
        let config = AuthServiceConfig {
            threads: 1,
            queue_max: 2,
            ..AuthServiceConfig::default()
        };
        let authenticators = Authenticators {
            all: vec![Arc::new(gate)],
            authorization: None,
        };
        let service =
            AuthService::start(config, authenticators, &inboxes, &Arc::default()).unwrap();
        let later = clock() + Duration::from_secs(60);
        let shard = ShardId::new(1);
        service.ask(shard, request(0, later)).unwrap();
        assert_eq!(begins.recv(), Ok(0));
        // One is being judged, two wait, and one of these for somebody who is gone.
        service.ask(shard, request(1, Instant::ZERO)).unwrap();
        service.ask(shard, request(2, later)).unwrap();
        service.ask(shard, request(3, later)).unwrap();
        assert_eq!(next_decision(&inboxes[1]), (3, Verdict::Unavailable));
        let identity = Identity::default();
        go.send(Verdict::Granted(identity.clone())).unwrap();
        assert_eq!(next_decision(&inboxes[1]), (0, Verdict::Granted(identity)));
        assert_eq!(begins.recv(), Ok(2), "number 1 was too late");
        assert_eq!(next_decision(&inboxes[1]), (1, Verdict::Unavailable));
        // Replaced while it is being judged: the answer is the one of before, and says so.
        service.replace(Authenticators::default());
        go.send(Verdict::Granted(Identity::default())).unwrap();
        let decision = loop {
            match inboxes[1].take() {
                Some(Mail::Decided(decision)) => break decision,
                Some(other) => panic!("{other:?}"),
                None => thread::yield_now(),
            }
        };
        assert_eq!(decision.request.conn.index, 2);
        assert_eq!((decision.generation, service.generation()), (0, 1));
        service.ask(shard, request(4, later)).unwrap();
        assert_eq!(
            next_decision(&inboxes[1]),
            (4, Verdict::Denied(Refusal::BadPassword))
        );
        assert!(inboxes[0].take().is_none());
        // The thread ends with the service.
        drop((service, go));
        let last = begins.recv_timeout(Duration::from_secs(60));
        assert_eq!(last, Err(RecvTimeoutError::Disconnected));
    }
}
