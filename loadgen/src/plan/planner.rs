//! From the groups of a scenario to their streams, and to what each client is due.

use std::collections::HashMap;
use std::sync::Arc;

use ringmq_core::topic::{FilterTree, TopicFilter, TopicLimits, TopicName};
use ringmq_problem::{Complaint, Problem};

use super::deal::Places;
use super::{Matched, PlannedGroup, Reading, Share, Streams};
use crate::payload::STREAMS_MAX;
use crate::scenario::pattern::{Filling, Pattern};
use crate::scenario::{Group, Keyed as _};

/// Makes the parts of a plan.
pub(super) struct Planner<'a> {
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
    pub(super) fn new(specs: &'a [Group], run: &'a str, threads: usize) -> Planner<'a> {
        Planner {
            specs,
            run,
            threads,
            streams: Streams::default(),
            filters: Filters::default(),
        }
    }

    /// With `places`, clients live where those say.
    pub(super) fn plan(
        mut self,
        places: Option<Vec<Places>>,
    ) -> Result<(Vec<PlannedGroup>, Streams), Problem> {
        let mut groups = self.place_groups();
        for (group, places) in groups.iter_mut().zip(places.into_iter().flatten()) {
            group.thread = places.thread;
            group.places = Some(places);
        }
        for (index, group) in groups.iter_mut().enumerate() {
            group.first_stream = self.streams.count() as u32;
            self.add_streams(index, group)?;
        }
        let mut wanted: Vec<Vec<Vec<u32>>> = Vec::new();
        for (group, planned) in self.specs.iter().zip(&groups) {
            wanted.push(self.add_filters(group, planned)?);
        }
        self.filters.match_streams(&self.streams);
        self.streams.close();
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
        Ok((groups, self.streams))
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
                    places: None,
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
                    let number = planned.number(client);
                    pattern.fill(self.filling(group, number, message), &mut topic);
                    if let Err(error) = TopicName::parse(topic.as_bytes(), &TOPIC_LIMITS) {
                        let what = format!("becomes `{topic}`, which is not a topic ({error:?})");
                        return Err(problem(
                            group,
                            "publish",
                            what,
                            "write a topic without + and #",
                        ));
                    }
                    let slot = (index * self.threads + thread) as u16;
                    self.streams.push(topic.as_bytes(), slot);
                }
            }
        }
        Ok(())
    }

    /// By client, the ids of its filters.
    fn add_filters(
        &mut self,
        group: &Group,
        planned: &PlannedGroup,
    ) -> Result<Vec<Vec<u32>>, Problem> {
        if group.subscribe.is_empty() {
            return Ok(Vec::new());
        }
        let mut text = String::new();
        let mut wanted = Vec::with_capacity(group.clients as usize);
        for client in 0..group.clients {
            let mut ids = Vec::with_capacity(group.subscribe.len());
            for pattern in &group.subscribe {
                let number = planned.number(client);
                pattern.fill(self.filling(group, number, 0), &mut text);
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
        self.parsed.push(TopicFilter::parse(text, &TOPIC_LIMITS)?);
        self.streams.push(Vec::new());
        self.ids.insert(text.to_owned(), id);
        Ok(id)
    }

    fn match_streams(&mut self, streams: &Streams) {
        // Filters that differ only in their share name have one place in the tree.
        let mut tree: FilterTree<Vec<u32>> = FilterTree::new(0);
        for (id, filter) in self.parsed.iter().enumerate() {
            let (ids, _) = tree.get_or_insert_with(filter, Vec::new);
            ids.push(id as u32);
        }
        for stream in 0..streams.count() as u32 {
            let Ok(topic) = TopicName::parse(streams.topic(stream), &TOPIC_LIMITS) else {
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
                streams.add_copies(stream, copies);
            }
        }
    }
}

fn problem(group: &Group, key: &str, what: String, fix: &str) -> Problem {
    group.problem(key, Complaint::new(what, fix))
}

fn overlap(group: &Group, filter: &str) -> Problem {
    let what = format!("has overlapping filters for one client, `{filter}` and another");
    let fix = "make them disjoint: MQTT does not say how many copies overlapping filters deliver, \
               and ringload counts copies";
    problem(group, "subscribe", what, fix)
}

/// What a packet of MQTT can carry.
pub const TOPIC_LIMITS: TopicLimits = TopicLimits {
    size_max: u16::MAX,
    levels_max: u16::MAX,
};
/// 8 bytes each: 1 GiB.
const CELLS_MAX: usize = 128 << 20;
