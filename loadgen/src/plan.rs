//! Derives from a scenario what each client does: topics become streams, filters become the streams
//! they match, clients are assigned to threads.
//!
//! Invariants:
//! - stream `first_stream + index * topics + k` is client `index` of a group on its topic number
//!   `k`.
//! - clients with the same index in groups of the same size live on the same thread, so pairs do;
//!   all members of a shared subscription live on one thread.
//! - the filters of one client match no stream twice, so it is owed exactly one copy.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use ringmq_core::codec::QoS;
use ringmq_core::topic::{FilterTree, TopicFilter, TopicLimits, TopicName};

use crate::payload::STREAMS_MAX;
use crate::scenario::pattern::{Filling, Pattern};
use crate::scenario::{Group, Scenario};
use ringmq_problem::{Complaint, Problem};

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

/// Streams that some filters match.
#[derive(Debug, PartialEq, Eq)]
pub enum Matched {
    /// From the first on.
    Range {
        /// The first.
        first: u32,
        /// How many.
        count: u32,
    },
    /// Ascending.
    List(Box<[u32]>),
}

/// All streams of a run.
#[derive(Debug, Default)]
pub struct Streams {
    topics: Vec<u8>,
    /// Where the topic of each stream ends in `topics`.
    ends: Vec<u32>,
    /// Publishing group and thread of each stream: `group * threads + thread`.
    slots: Vec<u16>,
    /// Deliveries that a message of each stream owes.
    copies: Vec<u32>,
    /// Last sequence sent. Written by the publisher's thread alone.
    sent: Box<[AtomicU32]>,
    by_topic: OnceLock<HashMap<Box<[u8]>, u32>>,
}

impl Plan {
    /// Makes the plan; the problems name what cannot be done.
    pub fn new(
        scenario: Scenario,
        run: &str,
        threads: usize,
        with_sys: bool,
    ) -> Result<Plan, Vec<Problem>> {
        let mut problems = scenario.check();
        let mut specs = scenario.groups.clone();
        let sys_group = (with_sys && !specs.is_empty()).then_some(specs.len());
        if sys_group.is_some() {
            specs.push(specs[0].listener_to_sys());
        }
        if problems.is_empty() {
            let mut planner = Planner::new(&specs, run, threads);
            match planner.plan() {
                Ok((groups, streams)) => {
                    return Ok(Plan {
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
                    });
                }
                Err(problem) => problems.push(problem),
            }
        }
        Err(problems)
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
    fn clients_on(&self, thread: usize, threads: usize) -> Range<u32> {
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

impl Streams {
    /// How many.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// The topic of a stream.
    #[inline]
    pub fn topic(&self, stream: u32) -> &[u8] {
        let stream = stream as usize;
        let start = if stream == 0 {
            0
        } else {
            self.ends[stream - 1] as usize
        };
        &self.topics[start..self.ends[stream] as usize]
    }

    /// Publishing group and thread, as one number.
    #[inline]
    pub fn slot(&self, stream: u32) -> usize {
        usize::from(self.slots[stream as usize])
    }

    /// Deliveries that a message owes.
    #[inline]
    pub fn copies(&self, stream: u32) -> u32 {
        self.copies[stream as usize]
    }

    /// Takes the next sequence; for the thread of the publisher alone. `None` at the end of the
    /// numbers.
    #[inline]
    pub fn next_sequence(&self, stream: u32) -> Option<u32> {
        let sent = &self.sent[stream as usize];
        let next = sent.load(Ordering::Relaxed).checked_add(1)?;
        sent.store(next, Ordering::Relaxed);
        Some(next)
    }

    /// The last sequence sent.
    pub fn last_sequence(&self, stream: u32) -> u32 {
        self.sent[stream as usize].load(Ordering::Relaxed)
    }

    /// The last sequence sent of every stream.
    pub fn last_sequences(&self) -> Vec<u32> {
        self.sent
            .iter()
            .map(|sent| sent.load(Ordering::Relaxed))
            .collect()
    }

    /// The stream of a topic. Asked for only where a payload does not say it, so that the map is
    /// made only then.
    pub fn find(&self, topic: &[u8]) -> Option<u32> {
        let all = || (0..self.count() as u32).map(|stream| (self.topic(stream).into(), stream));
        let by_topic = self.by_topic.get_or_init(|| all().collect());
        by_topic.get(topic).copied()
    }
}

impl Matched {
    /// Of these streams, ascending.
    pub fn of(streams: Vec<u32>) -> Matched {
        match (streams.first(), streams.last()) {
            (Some(&first), Some(&last)) if (last - first) as usize == streams.len() - 1 => {
                Matched::Range {
                    first,
                    count: streams.len() as u32,
                }
            }
            _ => Matched::List(streams.into()),
        }
    }

    /// How many.
    pub fn count(&self) -> usize {
        match self {
            Matched::Range { count, .. } => *count as usize,
            Matched::List(streams) => streams.len(),
        }
    }

    /// Where a stream stands among them.
    #[inline]
    pub fn position(&self, stream: u32) -> Option<usize> {
        match self {
            Matched::Range { first, count } => {
                let position = stream.wrapping_sub(*first);
                (position < *count).then_some(position as usize)
            }
            Matched::List(streams) => streams.binary_search(&stream).ok(),
        }
    }

    /// All of them.
    pub fn streams(&self) -> impl Iterator<Item = u32> + '_ {
        let (range, list) = match self {
            Matched::Range { first, count } => (*first..*first + *count, &[][..]),
            Matched::List(streams) => (0..0, &**streams),
        };
        range.chain(list.iter().copied())
    }
}

struct Planner<'a> {
    specs: &'a [Group],
    run: &'a str,
    threads: usize,
    streams: Streams,
    filters: Filters,
}

/// Distinct filters, and the streams that each matches.
#[derive(Default)]
struct Filters {
    ids: HashMap<String, u32>,
    parsed: Vec<TopicFilter>,
    streams: Vec<Vec<u32>>,
}

impl<'a> Planner<'a> {
    fn new(specs: &'a [Group], run: &'a str, threads: usize) -> Planner<'a> {
        Planner {
            specs,
            run,
            threads,
            streams: Streams::default(),
            filters: Filters::default(),
        }
    }

    fn plan(&mut self) -> Result<(Vec<PlannedGroup>, Streams), Problem> {
        let mut groups = self.place_groups();
        for (index, group) in groups.iter_mut().enumerate() {
            group.first_stream = self.streams.count() as u32;
            self.add_streams(index, group)?;
        }
        let mut wanted: Vec<Vec<Vec<u32>>> = Vec::new();
        for group in self.specs {
            wanted.push(self.add_filters(group)?);
        }
        self.filters.match_streams(&self.streams);
        self.streams.copies = vec![0; self.streams.count()];
        self.streams.sent = (0..self.streams.count())
            .map(|_| AtomicU32::new(0))
            .collect();
        let mut classes = Classes::default();
        let mut cells = 0;
        for ((planned, group), wanted) in groups.iter_mut().zip(self.specs).zip(&wanted) {
            for filters in wanted {
                let reading = classes.reading(filters, &self.filters, group)?;
                cells += reading.own.as_ref().map_or(0, |own| own.count());
                if cells > CELLS_MAX {
                    let what =
                        format!("asks for more than {CELLS_MAX} pairs of subscriber and topic");
                    let fix = "use fewer clients, or several processes";
                    return Err(problem(group, "subscribe", what, fix));
                }
                planned.readers.push(reading);
            }
        }
        classes.finish(&mut groups, &mut self.streams);
        Ok((groups, std::mem::take(&mut self.streams)))
    }

    /// Groups that share a subscription go to one thread, the same for the same filter.
    fn place_groups(&self) -> Vec<PlannedGroup> {
        let mut threads: HashMap<&str, usize> = HashMap::new();
        let groups = self.specs.iter();
        groups
            .map(|group| {
                let mut filters = group.subscribe.iter().map(Pattern::as_str);
                let shared = filters.find(|filter| filter.starts_with("$share/"));
                let count = threads.len();
                PlannedGroup {
                    first_stream: 0,
                    topics: group.topic_count(),
                    readers: Vec::new(),
                    thread: shared
                        .map(|filter| *threads.entry(filter).or_insert(count % self.threads)),
                    clients: group.clients,
                }
            })
            .collect()
    }

    fn add_streams(&mut self, index: usize, planned: &PlannedGroup) -> Result<(), Problem> {
        let group = &self.specs[index];
        let Some(pattern) = &group.publish else {
            return Ok(());
        };
        let count = u64::from(group.clients) * u64::from(planned.topics);
        if self.streams.count() as u64 + count > u64::from(STREAMS_MAX) {
            let what = format!("makes more than {STREAMS_MAX} topics");
            return Err(problem(
                group,
                "publish",
                what,
                "use fewer clients or a smaller {message%N}",
            ));
        }
        let mut topic = String::new();
        for thread in 0..self.threads {
            for client in planned.clients_on(thread, self.threads) {
                for message in 0..planned.topics {
                    pattern.fill(self.filling(group, client, message), &mut topic);
                    if let Err(error) = TopicName::parse(topic.as_bytes(), &LIMITS) {
                        let what = format!("becomes `{topic}`, which is not a topic ({error:?})");
                        return Err(problem(
                            group,
                            "publish",
                            what,
                            "write a topic without + and #",
                        ));
                    }
                    self.streams.topics.extend_from_slice(topic.as_bytes());
                    self.streams.ends.push(self.streams.topics.len() as u32);
                    self.streams
                        .slots
                        .push((index * self.threads + thread) as u16);
                }
            }
        }
        Ok(())
    }

    /// By client, the ids of its filters.
    fn add_filters(&mut self, group: &Group) -> Result<Vec<Vec<u32>>, Problem> {
        if group.subscribe.is_empty() {
            return Ok(Vec::new());
        }
        let mut text = String::new();
        let mut wanted = Vec::with_capacity(group.clients as usize);
        for client in 0..group.clients {
            let mut ids = Vec::with_capacity(group.subscribe.len());
            for pattern in &group.subscribe {
                pattern.fill(self.filling(group, client, 0), &mut text);
                let id = self.filters.id(&text).map_err(|error| {
                    let what = format!("becomes `{text}`, which is not a topic filter ({error:?})");
                    problem(
                        group,
                        "subscribe",
                        what,
                        "see the rules of topic filters in MQTT",
                    )
                })?;
                if ids.contains(&id) {
                    return Err(overlap(group, &text));
                }
                ids.push(id);
            }
            wanted.push(ids);
        }
        Ok(wanted)
    }

    fn filling(&self, group: &'a Group, index: u32, message: u32) -> Filling<'a> {
        Filling {
            run: self.run,
            group: &group.name,
            index,
            message,
        }
    }
}

impl Filters {
    fn id(&mut self, text: &str) -> Result<u32, ringmq_core::topic::TopicError> {
        if let Some(id) = self.ids.get(text) {
            return Ok(*id);
        }
        let id = self.parsed.len() as u32;
        self.parsed.push(TopicFilter::parse(text, &LIMITS)?);
        self.streams.push(Vec::new());
        self.ids.insert(text.to_owned(), id);
        Ok(id)
    }

    fn match_streams(&mut self, streams: &Streams) {
        // Filters that differ only in their share name have one place in the tree.
        let mut tree: FilterTree<Vec<u32>> = FilterTree::new(0);
        for (id, filter) in self.parsed.iter().enumerate() {
            match tree.get_mut(filter) {
                Some(ids) => ids.push(id as u32),
                None => {
                    tree.insert(filter, vec![id as u32]);
                }
            }
        }
        for stream in 0..streams.count() as u32 {
            let Ok(topic) = TopicName::parse(streams.topic(stream), &LIMITS) else {
                continue;
            };
            tree.visit(topic, |ids| {
                for id in ids {
                    self.streams[*id as usize].push(stream);
                }
            });
        }
    }
}

/// What clients subscribe to, made once for all that want the same.
#[derive(Default)]
struct Classes {
    own: HashMap<Vec<u32>, (Arc<Matched>, u32)>,
    shares: HashMap<u32, (Arc<Matched>, u32)>,
    /// The share of each reading, in order.
    share_of: Vec<Option<u32>>,
}

impl Classes {
    fn reading(
        &mut self,
        filters: &[u32],
        all: &Filters,
        group: &Group,
    ) -> Result<Reading, Problem> {
        let is_shared = |id: &&u32| all.parsed[**id as usize].share_name().is_some();
        let share = filters.iter().find(is_shared).copied();
        let own: Vec<u32> = filters
            .iter()
            .filter(|id| !is_shared(id))
            .copied()
            .collect();
        let mut reading = Reading {
            own: None,
            share: None,
        };
        if !own.is_empty() {
            if !self.own.contains_key(&own) {
                let mut streams: Vec<u32> = own
                    .iter()
                    .flat_map(|id| &all.streams[*id as usize])
                    .copied()
                    .collect();
                streams.sort_unstable();
                if streams.windows(2).any(|pair| pair[0] == pair[1]) {
                    return Err(overlap(group, all.parsed[own[0] as usize].as_str()));
                }
                self.own
                    .insert(own.clone(), (Arc::new(Matched::of(streams)), 0));
            }
            if let Some((matched, clients)) = self.own.get_mut(&own) {
                *clients += 1;
                reading.own = Some(matched.clone());
            }
        }
        if let Some(id) = share {
            let new = || (Arc::new(Matched::of(all.streams[id as usize].clone())), 0);
            let (matched, members) = self.shares.entry(id).or_insert_with(new);
            *members += 1;
            let twice = |own: &Arc<Matched>| {
                own.streams()
                    .any(|stream| matched.position(stream).is_some())
            };
            if reading.own.as_ref().is_some_and(twice) {
                return Err(overlap(group, all.parsed[id as usize].as_str()));
            }
        }
        self.share_of.push(share);
        Ok(reading)
    }

    /// Gives every member its share, and every stream the number of its copies.
    fn finish(self, groups: &mut [PlannedGroup], streams: &mut Streams) {
        let shares: HashMap<u32, Arc<Share>> = self
            .shares
            .into_iter()
            .map(|(id, (matched, members))| {
                let share = Share {
                    id,
                    matched,
                    members,
                };
                (id, Arc::new(share))
            })
            .collect();
        let readings = groups.iter_mut().flat_map(|group| &mut group.readers);
        for (reading, id) in readings.zip(&self.share_of) {
            reading.share = id.and_then(|id| shares.get(&id).cloned());
        }
        let shared = shares.values().map(|share| (&share.matched, 1));
        let own = self
            .own
            .values()
            .map(|(matched, clients)| (matched, *clients));
        for (matched, copies) in shared.chain(own) {
            for stream in matched.streams() {
                streams.copies[stream as usize] += copies;
            }
        }
    }
}

fn problem(group: &Group, key: &str, what: String, fix: &str) -> Problem {
    group.problem(key, Complaint::new(what, fix))
}

fn overlap(group: &Group, filter: &str) -> Problem {
    let what = format!("has overlapping filters for one client, `{filter}` and another");
    let fix = "make them disjoint: MQTT does not say how many copies overlapping filters deliver, and ringload counts copies";
    problem(group, "subscribe", what, fix)
}

/// What a packet of MQTT can carry.
const LIMITS: TopicLimits = TopicLimits {
    size_max: u16::MAX,
    levels_max: u16::MAX,
};
/// 8 bytes each: 1 GiB.
const CELLS_MAX: usize = 128 << 20;
