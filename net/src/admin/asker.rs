//! Asking the shards: each question has a deadline, and a shard that does not answer is not waited for.
//!
//! Invariant: an inbox gets at most `ASKS_MAX` questions at once, by kind: [`LISTINGS_MAX`] listings, [`SINGLES_MAX`]
//! about one client, one for a snapshot, one for traces. So a question finds no room only if the shard has not answered earlier ones.

use std::sync::Arc;
use std::time::Duration;

use ringmq_core::home::Home;
use ringmq_core::ids::ShardId;
use ringmq_core::shard::{Answer, Ask, Report};
use rustix::process::Pid;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use super::process::{Schedule, schedule_of};
use super::stalls::{Stalls, Watch};
use crate::admission::Permits;
use crate::counters::{Counters, Counts};
use crate::inbox::{ASKS_MAX, Asked, Inbox};
use crate::transport::Stack;

/// Asks the shards of a broker.
#[derive(Debug)]
pub struct Asker {
    inboxes: Arc<[Inbox]>,
    counters: Vec<Arc<Counters>>,
    home: Home,
    thread_ids: Vec<(ShardId, Pid)>,
    permits: Arc<Permits>,
    stacks: Vec<Arc<Stack>>,
    listings: Arc<Semaphore>,
    singles: Semaphore,
    traced: Semaphore,
    /// What each shard said last.
    last: Mutex<Vec<Option<Report>>>,
}

/// A shard at a moment.
#[derive(Clone, Debug, Default)]
pub(super) struct ShardState {
    /// It has answered. Otherwise `report` is older.
    pub(super) is_responding: bool,
    /// What it has counted and holds; `None`: it has never answered.
    pub(super) report: Option<Report>,
    /// What its reactor has counted.
    pub(super) counts: Counts,
    /// Messages of other shards that wait.
    pub(super) inbox_messages: u64,
    /// What the kernel says of its thread; `None`: nothing.
    pub(super) schedule: Option<Schedule>,
}

impl Asker {
    pub(crate) fn new(
        inboxes: Arc<[Inbox]>,
        counters: Vec<Arc<Counters>>,
        home: Home,
        thread_ids: Vec<(ShardId, Pid)>,
        permits: Arc<Permits>,
        stacks: Vec<Arc<Stack>>,
    ) -> Asker {
        let last = vec![None; inboxes.len()];
        Asker {
            inboxes,
            counters,
            home,
            thread_ids,
            permits,
            stacks,
            listings: Arc::new(Semaphore::new(LISTINGS_MAX)),
            singles: Semaphore::new(SINGLES_MAX),
            traced: Semaphore::new(1),
            last: Mutex::new(last),
        }
    }

    /// What watches the shards for turns longer than `threshold`.
    pub(super) fn watch(&self, stalls: Arc<Stalls>, threshold: Duration) -> Watch {
        Watch::new(stalls, threshold, &self.counters, &self.thread_ids)
    }

    /// For each listener with TLS: when its first certificate ends, since 1970.
    pub(super) fn certificates(&self) -> Vec<(String, Duration)> {
        let ends = self.stacks.iter().filter_map(|stack| {
            let ends = stack.certificate_ends()?;
            Some((stack.name().to_owned(), ends))
        });
        ends.collect()
    }

    /// How many shards there are.
    pub(super) fn shards(&self) -> usize {
        self.inboxes.len()
    }

    /// Where the session of a client is.
    pub(super) fn home_of(&self, client_id: &str) -> ShardId {
        self.home.of_client(client_id)
    }

    /// The shard that keeps what is retained on a topic.
    pub(super) fn home_of_topic(&self, topic: &str) -> ShardId {
        self.home.of_topic(topic.as_bytes())
    }

    /// From here on, no shard accepts a connection.
    pub(super) fn shut_doors(&self) {
        self.permits.shut_doors(true);
        self.inboxes.iter().for_each(Inbox::nudge);
    }

    /// Shards accept connections again.
    pub(super) fn open_doors(&self) {
        self.permits.shut_doors(false);
        self.inboxes.iter().for_each(Inbox::nudge);
    }

    /// Leave to list sessions, if not too many do.
    pub(super) fn begin_listing(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.listings).try_acquire_owned().ok()
    }

    /// Asks for a page; `_leave` is held by whoever lists. `None`: the shard does not answer.
    pub(super) async fn ask_page(
        &self,
        _leave: &OwnedSemaphorePermit,
        shard: ShardId,
        ask: Ask,
    ) -> Option<Answer> {
        let asked = self.send(shard, ask);
        timeout_at(deadline(), asked).await.ok()?.ok()
    }

    /// Asks about one client. `None`: its shard does not answer.
    pub(super) async fn ask_one(&self, shard: ShardId, ask: Ask) -> Option<Answer> {
        self.ask_in_turn(&self.singles, shard, ask).await
    }

    /// Asks about traces, or changes them. `None`: the shard does not answer.
    pub(super) async fn ask_traced(&self, shard: ShardId, ask: Ask) -> Option<Answer> {
        self.ask_in_turn(&self.traced, shard, ask).await
    }

    async fn ask_in_turn(&self, room: &Semaphore, shard: ShardId, ask: Ask) -> Option<Answer> {
        let deadline = deadline();
        let leave = timeout_at(deadline, room.acquire()).await.ok()?;
        let _leave = leave.expect("the semaphore is never closed");
        let asked = self.send(shard, ask);
        timeout_at(deadline, asked).await.ok()?.ok()
    }

    /// What all shards hold. Takes no longer than the deadline, once it is its turn.
    pub(super) async fn snapshot(&self) -> Vec<ShardState> {
        let mut last = self.last.lock().await;
        let deadline = deadline();
        let shards = (0..self.shards()).map(ShardId::new);
        let asked: Vec<_> = shards.map(|shard| self.send(shard, Ask::Report)).collect();
        let mut states = Vec::new();
        for (index, asked) in asked.into_iter().enumerate() {
            let answer = timeout_at(deadline, asked).await;
            let report = match answer {
                Ok(Ok(Answer::Report(report))) => Some(*report),
                Ok(Ok(_) | Err(_)) | Err(_) => None,
            };
            let is_responding = report.is_some();
            if is_responding {
                last[index] = report;
            }
            let thread = self.thread_ids.iter().find(|(id, _)| id.index() == index);
            states.push(ShardState {
                is_responding,
                report: last[index].clone(),
                counts: self.counters[index].read(),
                inbox_messages: self.inboxes[index].messages_count() as u64,
                schedule: thread.and_then(|(_, thread)| schedule_of(*thread)),
            });
        }
        states
    }

    fn send(&self, shard: ShardId, ask: Ask) -> oneshot::Receiver<Answer> {
        let (reply, answer) = oneshot::channel();
        self.inboxes[shard.index()].ask(Asked { ask, reply });
        answer
    }
}

fn deadline() -> Instant {
    Instant::now() + ANSWER_TIME_MAX
}

/// A shard that takes longer is reported as not responding.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);
/// Listings under way; a further one is refused.
pub(crate) const LISTINGS_MAX: usize = 4;
/// Questions about one client under way; further ones wait their turn.
const SINGLES_MAX: usize = 3;
const _: () = assert!(LISTINGS_MAX + SINGLES_MAX + 2 == ASKS_MAX);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Admission;

    #[test]
    fn a_shard_that_does_not_answer_is_reported_and_the_others_are_not_kept() {
        let inboxes: Arc<[Inbox]> = [(); 2].map(|()| Inbox::new(8).unwrap()).into();
        let counters = vec![Arc::default(), Arc::default()];
        let asker = Asker::new(
            Arc::clone(&inboxes),
            counters,
            Home::new([0; 2], 2),
            Vec::new(),
            Arc::new(Permits::new(Admission::default())),
            Vec::new(),
        );
        // The first shard answers once; nobody reads the inbox of the second.
        let answers = std::thread::spawn(move || {
            let asked = loop {
                if let Some(asked) = inboxes[0].take_ask() {
                    break asked;
                }
                std::thread::yield_now();
            };
            assert_eq!(asked.ask, Ask::Report);
            asked.reply.send(Answer::Report(Box::default())).unwrap();
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let runtime = runtime.unwrap();
        let states = runtime.block_on(asker.snapshot());
        answers.join().unwrap();
        let responding: Vec<bool> = states.iter().map(|state| state.is_responding).collect();
        assert_eq!(responding, [true, false]);
        assert!(states[1].report.is_none());
        // The questions of a stuck shard do not pile up: what finds no room fails at once.
        for _ in 0..3 * ASKS_MAX {
            drop(asker.send(ShardId::new(1), Ask::Report));
        }
        let refused = asker.send(ShardId::new(1), Ask::Report);
        assert!(runtime.block_on(refused).is_err());
    }
}
