//! The threads that ask the authenticators.
//!
//! Some threads compute: they check passwords. Others wait for services on the network, so that a
//! service that is slow or down keeps nobody from logging in who does not need it. A request goes from the
//! first to the second when its turn comes to be asked there.
//!
//! Invariants:
//! - every request that was taken is answered once; if its time was up before anybody looked at it, by
//!   saying that nobody can tell.
//! - at most `queue_max` requests wait for the one kind of threads, and at most `waiting_queue_max` for
//!   the other; one that finds no place is told that nobody can tell.
//! - a request is judged by the same authenticators from its beginning to its end.
//!
//! The threads are nice: where they share cores with the shards, clients that are in go first.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use ringmq_core::auth::{AuthRequest, Verdict};
use ringmq_core::ids::ShardId;
use tracing::warn;

use super::{Authenticators, Stage};
use crate::counters::{Tallies, Tally};
use crate::error::{StartError, system_error};
use crate::inbox::{Decision, Inbox};
use crate::time::clock;

/// How much of the machine authentication may take.
#[derive(Clone, Copy, Debug)]
pub struct AuthServiceConfig {
    /// Threads, each for one request at a time.
    pub threads: usize,
    /// Requests that may wait for a thread.
    pub queue_max: usize,
    /// Threads that wait for services on the network, each for one answer at a time.
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

/// Takes requests of all shards.
#[derive(Debug)]
pub(crate) struct AuthService {
    queue: Sender<Job>,
    authenticators: Arc<ArcSwap<Authenticators>>,
}

#[derive(Debug)]
struct Job {
    shard: ShardId,
    request: AuthRequest,
    /// Once somebody has looked at it: by whom it is judged, and how far it is.
    progress: Option<(Arc<Authenticators>, Stage)>,
}

impl AuthService {
    /// Starts the threads. They end when the service is dropped.
    pub(crate) fn start(
        config: AuthServiceConfig,
        authenticators: Authenticators,
        inboxes: &Arc<[Inbox]>,
        tallies: &Arc<Tallies>,
    ) -> Result<AuthService, StartError> {
        let (queue, jobs) = bounded(config.queue_max.max(1));
        let (waiting_queue, waiting_jobs) = bounded(config.waiting_queue_max.max(1));
        authenticators.begin();
        let authenticators = Arc::new(ArcSwap::from_pointee(authenticators));
        let worker = |jobs: &Receiver<Job>, role| Worker {
            jobs: jobs.clone(),
            role,
            authenticators: Arc::clone(&authenticators),
            inboxes: Arc::clone(inboxes),
        };
        for index in 0..config.threads.max(1) {
            let role = Role::Computes {
                queue: waiting_queue.clone(),
                tallies: Arc::clone(tallies),
            };
            let worker = worker(&jobs, role);
            spawn(format!("auth-{index}"), move || worker.run())?;
        }
        for index in 0..config.waiting_threads.max(1) {
            let worker = worker(&waiting_jobs, Role::Waits);
            spawn(format!("hook-{index}"), move || worker.run())?;
        }
        Ok(AuthService {
            queue,
            authenticators,
        })
    }

    /// A service that never has room.
    pub(crate) fn closed() -> AuthService {
        let (queue, _) = bounded(1);
        AuthService {
            queue,
            authenticators: Arc::default(),
        }
    }

    /// Takes a request in, or gives it back if there is no room.
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

    /// From here on others are asked. Requests that are being judged go on with those before.
    pub(crate) fn replace(&self, authenticators: Authenticators) {
        authenticators.begin();
        self.authenticators.store(Arc::new(authenticators));
    }
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> Result<(), StartError> {
    let spawned = thread::Builder::new().name(name).spawn(run);
    spawned
        .map(drop)
        .map_err(|error| system_error("start a thread", error))
}

struct Worker {
    jobs: Receiver<Job>,
    role: Role,
    authenticators: Arc<ArcSwap<Authenticators>>,
    inboxes: Arc<[Inbox]>,
}

/// What a thread is for.
enum Role {
    /// It hands on what has to wait.
    Computes {
        queue: Sender<Job>,
        tallies: Arc<Tallies>,
    },
    Waits,
}

impl Worker {
    fn run(self) {
        // On Linux this is a property of the thread.
        if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
            warn!(%error, "cannot lower the priority of a thread that checks passwords");
        }
        for job in &self.jobs {
            self.work_on(job);
        }
    }

    fn work_on(&self, job: Job) {
        let Job {
            shard,
            request,
            progress,
        } = job;
        if clock() >= request.deadline {
            // Hashing for nobody would delay the others. The shard has closed it, unless it is that of
            // a client which was let in long ago.
            return self.answer(shard, &request, Verdict::Unavailable);
        }
        let (authenticators, stage) =
            progress.unwrap_or_else(|| (self.authenticators.load_full(), Stage::first(&request)));
        let may_wait = matches!(self.role, Role::Waits);
        match (authenticators.judge(&request, stage, may_wait), &self.role) {
            (Ok(verdict), _) => self.answer(shard, &request, verdict),
            (Err(stage), Role::Computes { queue, tallies }) => {
                let job = Job {
                    shard,
                    request,
                    progress: Some((authenticators, stage)),
                };
                if let Err(refused) = queue.try_send(job) {
                    tallies.add(Tally::HookOverflows);
                    let (TrySendError::Full(job) | TrySendError::Disconnected(job)) = refused;
                    self.answer(job.shard, &job.request, Verdict::Unavailable);
                }
            }
            (Err(_), Role::Waits) => unreachable!("nothing waits for who may wait"),
        }
    }

    /// An inbox is full for moments only; an answer whose time is up serves nobody.
    fn answer(&self, shard: ShardId, request: &AuthRequest, verdict: Verdict) {
        let mut decision = Decision {
            conn: request.conn,
            was_known: request.known.is_some(),
            verdict,
        };
        while let Err(refused) = self.inboxes[shard.index()].decide(decision) {
            if clock() >= request.deadline {
                return;
            }
            decision = refused;
            thread::sleep(RETRY_PAUSE);
        }
    }
}

/// Half of the way from an ordinary thread to one that gets only what nobody wants.
const NICENESS: i32 = 10;
const RETRY_PAUSE: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{self, RecvTimeoutError};

    use ringmq_core::auth::Identity;
    use ringmq_core::codec::Version;
    use ringmq_core::ids::ConnId;
    use ringmq_core::shard::Refusal;
    use ringmq_core::time::Instant;

    use super::super::Authenticator;
    use super::*;
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
                Some(Mail::Decided(decision)) => return (decision.conn.index, decision.verdict),
                Some(other) => panic!("{other:?}"),
                None => thread::yield_now(),
            }
        }
    }

    #[test]
    fn requests_are_answered_in_order_and_those_that_find_no_place_come_back() {
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
        let refused = service.ask(shard, request(3, later)).unwrap_err();
        assert_eq!(refused.conn.index, 3);
        let identity = Identity::default();
        go.send(Verdict::Granted(identity.clone())).unwrap();
        assert_eq!(next_decision(&inboxes[1]), (0, Verdict::Granted(identity)));
        assert_eq!(begins.recv(), Ok(2), "number 1 was too late");
        assert_eq!(next_decision(&inboxes[1]), (1, Verdict::Unavailable));
        // Replaced while it is being judged: the answer is the one of before.
        service.replace(Authenticators::default());
        go.send(Verdict::Unavailable).unwrap();
        assert_eq!(next_decision(&inboxes[1]), (2, Verdict::Unavailable));
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
