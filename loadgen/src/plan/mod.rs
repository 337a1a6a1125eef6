//! Derives from a scenario what each client does: topics become streams, filters become the streams
//! they match, clients are assigned to threads.
//!
//! Invariants:
//! - stream `first_stream + place * topics + k` is the client with that place in its group, on its
//!   topic number `k`. Places are the clients' numbers, but for runs on several machines.
//! - clients with the same index in groups of the same size live on the same thread, so pairs do;
//!   all members of a shared subscription live on one thread.
//! - the filters of one client match no stream twice, so it is owed exactly one copy.

mod deal;
mod planner;
mod streams;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use ringmq_core::codec::QoS;
use ringmq_problem::Problem;

use crate::payload::mix;
use crate::scenario::{Group, Scenario};
use deal::{Places, Shape};
use planner::Planner;
pub use planner::TOPIC_LIMITS;
pub use streams::{Matched, Streams};

/// Everything that follows from a scenario before it runs.
#[derive(Debug)]
pub struct Plan {
    /// What is to be done.
    pub scenario: Scenario,
    /// The groups of the scenario, and behind them the one that listens to `$SYS`, if it is wanted.
    pub specs: Vec<Group>,
    /// The group that listens to `$SYS`.
    pub sys_group: Option<usize>,
    /// `{run}`.
    pub run: String,
    /// Threads of the generator.
    pub threads: usize,
    /// By group.
    pub groups: Vec<PlannedGroup>,
    /// All streams.
    pub streams: Streams,
    /// The publishing group of each slot.
    senders: Box<[u16]>,
}

/// Groups and streams; on several machines, those that belong together live together.
fn plan_groups(
    specs: &[Group],
    run: &str,
    shape: Shape,
) -> Result<(Vec<PlannedGroup>, Streams), Problem> {
    let threads = shape.machines * shape.threads_each;
    let (groups, streams) = Planner::new(specs, run, threads).plan(None)?;
    if shape.machines == 1 {
        return Ok((groups, streams));
    }
    match deal::deal(&groups, &streams, shape) {
        None => Ok((groups, streams)),
        places => Planner::new(specs, run, threads).plan(places),
    }
}

/// What follows for a group.
#[derive(Debug)]
pub struct PlannedGroup {
    /// The stream of its first client's first topic.
    pub first_stream: u32,
    /// Topics of each client; 0 for a group that does not publish.
    pub topics: u32,
    /// What each client subscribes to; empty for a group that does not.
    pub readers: Vec<Reading>,
    /// The thread of all its clients; `None`: spread.
    thread: Option<usize>,
    clients: u32,
    /// Clients live in another order than that of their numbers.
    places: Option<Places>,
}

/// What a client subscribes to.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Streams that it gets for itself.
    pub own: Option<Arc<Matched>>,
    /// The shared subscription that it is a member of.
    pub share: Option<Arc<Share>>,
}

/// A shared subscription.
#[derive(Debug)]
pub struct Share {
    /// Tells shares apart.
    pub id: u32,
    /// Streams that one of its members gets.
    pub matched: Arc<Matched>,
    /// Clients that are in it.
    pub members: u32,
}

impl Plan {
    /// Makes the plan; the problems name what cannot be done.
    pub fn new(
        scenario: Scenario,
        run: &str,
        threads: usize,
        with_sys: bool,
    ) -> Result<Plan, Vec<Problem>> {
        Plan::for_machines(scenario, run, (1, threads), with_sys)
    }

    /// The same for several machines, with so many threads each, which are numbered through.
    pub fn for_machines(
        scenario: Scenario,
        run: &str,
        (machines, threads_each): (usize, usize),
        with_sys: bool,
    ) -> Result<Plan, Vec<Problem>> {
        let threads = machines * threads_each;
        let mut problems = scenario.check();
        let mut specs = scenario.groups.clone();
        let sys_group = (with_sys && !specs.is_empty()).then_some(specs.len());
        if sys_group.is_some() {
            specs.push(specs[0].listener_to_sys());
        }
        if problems.is_empty() {
            let shape = Shape {
                machines,
                threads_each,
            };
            match plan_groups(&specs, run, shape) {
                Ok((groups, streams)) => {
                    let plan = Plan {
                        senders: (0..specs.len() * threads)
                            .map(|slot| (slot / threads) as u16)
                            .collect(),
                        sys_group,
                        specs,
                        run: run.to_owned(),
                        threads,
                        groups,
                        streams,
                        scenario,
                    };
                    if cfg!(debug_assertions) {
                        plan.check_invariants();
                    }
                    return Ok(plan);
                }
                Err(problem) => problems.push(problem),
            }
        }
        Err(problems)
    }

    /// Panics if an invariant is broken.
    fn check_invariants(&self) {
        let mut owed = vec![0; self.streams.count()];
        let mut shares: HashMap<u32, (usize, u32)> = HashMap::new();
        for (index, group) in self.groups.iter().enumerate() {
            let mut next = 0;
            for thread in 0..self.threads {
                for client in self.clients_on(index, thread) {
                    assert_eq!(client, next, "each client lives on one thread");
                    next += 1;
                    for topic in 0..group.topics {
                        let slot = self.streams.slot(group.stream(client, topic));
                        assert_eq!(slot, index * self.threads + thread, "a stream's publisher");
                    }
                }
            }
            assert_eq!(next, group.clients, "each client lives somewhere");
            for reading in &group.readers {
                for stream in reading.own.iter().flat_map(|own| own.streams()) {
                    owed[stream as usize] += 1;
                }
                if let Some(share) = &reading.share {
                    let thread = group.thread.expect("members of a share are not spread");
                    let (home, members) = shares.entry(share.id).or_insert((thread, 0));
                    assert_eq!(*home, thread, "all members live on one thread");
                    *members += 1;
                    if *members == 1 {
                        for stream in share.matched.streams() {
                            owed[stream as usize] += 1;
                        }
                    }
                }
            }
        }
        for reading in self.groups.iter().flat_map(|group| &group.readers) {
            if let Some(share) = &reading.share {
                assert_eq!(share.members, shares[&share.id].1, "members of a share");
            }
        }
        for (stream, owed) in owed.into_iter().enumerate() {
            let copies = self.streams.copies(stream as u32);
            assert_eq!(copies, owed, "what a message of stream {stream} owes");
        }
    }

    /// The clients of a group that live on a thread.
    pub fn clients_on(&self, group: usize, thread: usize) -> Range<u32> {
        self.groups[group].clients_on(thread, self.threads)
    }

    /// The thread that publishes on a slot of [`Streams::slot`].
    pub fn thread_of(&self, slot: usize) -> usize {
        slot % self.threads
    }

    /// The group that publishes on a stream. Its number is looked up, because every delivery asks,
    /// and a division takes longer.
    #[inline]
    pub fn sender(&self, stream: u32) -> &Group {
        &self.specs[usize::from(self.senders[self.streams.slot(stream)])]
    }

    /// QoS of a stream.
    pub fn qos(&self, stream: u32) -> QoS {
        self.sender(stream).qos
    }

    /// What the chances of a group are drawn from: the same in a run with the same id.
    pub fn seed(&self, group: usize) -> u64 {
        let of_run = |hash: u64, byte: u8| mix(hash ^ u64::from(byte));
        self.run.bytes().fold(group as u64 + 1, of_run)
    }

    /// Messages per second of a whole group, by its schedule; 0 without one.
    pub fn per_s(&self, group: usize) -> f64 {
        let spec = &self.specs[group];
        let rates = spec.rate.as_ref().filter(|_| spec.publish.is_some());
        rates.map_or(0.0, |rates| rates.sum(spec.clients, self.seed(group)))
    }

    /// Pairs of members of shared subscriptions and streams on a thread.
    pub fn shared_pairs(&self, thread: usize) -> u64 {
        let here = self
            .groups
            .iter()
            .filter(|group| group.thread == Some(thread));
        here.flat_map(|group| &group.readers)
            .filter_map(|reading| reading.share.as_ref())
            .map(|share| share.matched.count() as u64)
            .sum()
    }
}

impl PlannedGroup {
    /// The number of the client with this place: what `{index}` stands for.
    pub fn number(&self, place: u32) -> u32 {
        match &self.places {
            Some(places) => places.order[place as usize],
            None => place,
        }
    }

    fn clients_on(&self, thread: usize, threads: usize) -> Range<u32> {
        if let (None, Some(places)) = (self.thread, &self.places) {
            return places.cuts[thread]..places.cuts[thread + 1];
        }
        match self.thread {
            Some(only) if only == thread => 0..self.clients,
            Some(_) => 0..0,
            None => {
                let at = |thread: usize| {
                    (thread as u64 * u64::from(self.clients) / threads as u64) as u32
                };
                at(thread)..at(thread + 1)
            }
        }
    }

    /// The stream of a client's topic.
    pub fn stream(&self, index: u32, topic: u32) -> u32 {
        self.first_stream + index * self.topics + topic
    }
}
