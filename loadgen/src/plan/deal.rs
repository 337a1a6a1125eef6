//! Who lives where, if several machines make a run: a publisher and its subscribers on the same
//! one, as far as the topics tell, so that latencies are those of one clock.
//!
//! Clients that are connected by topics, directly or by others, are a *circle*. Circles of the same
//! kind are dealt out evenly; one that is too large for a machine is spread over all.

use std::collections::{BTreeMap, HashMap};

use super::{PlannedGroup, Streams};

/// The clients of a group in the order in which they live on the threads of all machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Places {
    /// By place, the number of the client that has it.
    pub(super) order: Box<[u32]>,
    /// By thread, its first place; and the end.
    pub(super) cuts: Box<[u32]>,
    /// The thread of all clients, if they have to live on one.
    pub(super) thread: Option<usize>,
}

/// Machines, and threads of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) machines: usize,
    pub(super) threads_each: usize,
}

/// The places of all groups; `None` if everybody is in place already. The groups are those of a
/// plan in which clients live in the order of their numbers.
pub(super) fn deal(
    groups: &[PlannedGroup],
    streams: &Streams,
    shape: Shape,
) -> Option<Vec<Places>> {
    let mut circles = Circles::of(groups, streams, shape.machines * shape.threads_each);
    let homes = circles.homes(groups, shape.machines);
    let places: Vec<Places> = groups
        .iter()
        .enumerate()
        .map(|(group, planned)| {
            let homes = |client| homes[circles.node(group, client)];
            places_of(planned, homes, shape)
        })
        .collect();
    let threads = shape.machines * shape.threads_each;
    let stays = |(planned, places): (&PlannedGroup, &Places)| {
        let in_order = places.order.iter().copied().eq(0..planned.clients);
        let cuts = (0..threads).map(|thread| planned.clients_on(thread, threads).start);
        let same_cuts = || places.cuts[..threads].iter().copied().eq(cuts);
        match planned.thread {
            Some(_) => in_order && places.thread == planned.thread,
            None => in_order && same_cuts(),
        }
    };
    (!groups.iter().zip(&places).all(stays)).then_some(places)
}

/// The clients of a machine behind those of the one before, each machine's spread over its threads.
fn places_of(planned: &PlannedGroup, home: impl Fn(u32) -> Option<usize>, shape: Shape) -> Places {
    let (machines, each) = (shape.machines, shape.threads_each);
    if let Some(thread) = planned.thread {
        let home = (planned.clients > 0).then(|| home(0)).flatten();
        return Places {
            order: (0..planned.clients).collect(),
            cuts: Box::default(),
            thread: Some(home.map_or(thread, |machine| machine * each + thread % each)),
        };
    }
    let mut lists = vec![Vec::new(); machines];
    for client in 0..planned.clients {
        // One of a circle that is spread lives where its number says.
        let by_number = || ((client as usize + 1) * machines - 1) / planned.clients as usize;
        lists[home(client).unwrap_or_else(by_number)].push(client);
    }
    let mut cuts = Vec::new();
    let mut first = 0;
    for list in &lists {
        let at = |thread: usize| first + (thread * list.len() / each) as u32;
        cuts.extend((0..each).map(at));
        first += list.len() as u32;
    }
    cuts.push(first);
    Places {
        order: lists.concat().into(),
        cuts: cuts.into(),
        thread: None,
    }
}

/// All clients of all groups, joined by topics.
struct Circles {
    /// By client, another one of its circle, or itself.
    parents: Vec<usize>,
    /// The first client of each group.
    first: Vec<usize>,
}

impl Circles {
    fn of(groups: &[PlannedGroup], streams: &Streams, threads: usize) -> Circles {
        let mut count = 0;
        let first = groups.iter().map(|planned| {
            let first = count;
            count += planned.clients as usize;
            first
        });
        let first = first.collect();
        let mut circles = Circles {
            parents: (0..count).collect(),
            first,
        };
        // What many subscribe to is walked through once.
        let mut seen: HashMap<*const super::Matched, usize> = HashMap::new();
        for (group, planned) in groups.iter().enumerate() {
            for (client, reading) in planned.readers.iter().enumerate() {
                let reader = circles.node(group, client as u32);
                let share = reading.share.as_ref().map(|share| &share.matched);
                for matched in reading.own.iter().chain(share) {
                    let key = std::sync::Arc::as_ptr(matched);
                    if let Some(other) = seen.insert(key, reader) {
                        circles.join(reader, other);
                        continue;
                    }
                    for stream in matched.streams() {
                        let sender = streams.slot(stream) / threads;
                        let planned = &groups[sender];
                        let client = (stream - planned.first_stream) / planned.topics;
                        let publisher = circles.node(sender, client);
                        circles.join(reader, publisher);
                    }
                }
            }
        }
        // All members of a shared subscription live on one thread.
        for (group, planned) in groups
            .iter()
            .enumerate()
            .filter(|(_, g)| g.thread.is_some())
        {
            for client in 1..planned.clients {
                circles.join(circles.node(group, 0), circles.node(group, client));
            }
        }
        circles
    }

    fn node(&self, group: usize, client: u32) -> usize {
        self.first[group] + client as usize
    }

    fn root(&mut self, mut node: usize) -> usize {
        while self.parents[node] != node {
            self.parents[node] = self.parents[self.parents[node]];
            node = self.parents[node];
        }
        node
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.root(one), self.root(other));
        // The lowest number stands for all: circles are dealt in the order of their first clients.
        self.parents[one.max(other)] = one.min(other);
    }

    /// By client, its machine; `None`: its circle is spread.
    fn homes(&mut self, groups: &[PlannedGroup], machines: usize) -> Vec<Option<usize>> {
        // By circle, the number of its clients in each group.
        let mut kinds: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for (group, planned) in groups.iter().enumerate() {
            for client in 0..planned.clients {
                let root = self.root(self.node(group, client));
                let counts = kinds.entry(root).or_insert_with(|| vec![0; groups.len()]);
                counts[group] += 1;
            }
        }
        let mut by_kind: BTreeMap<Vec<u32>, Vec<usize>> = BTreeMap::new();
        for (root, counts) in kinds {
            by_kind.entry(counts).or_default().push(root);
        }
        let fair = self.parents.len().div_ceil(machines) as f64;
        let mut loads = vec![0; machines];
        let mut homes: HashMap<usize, usize> = HashMap::new();
        // The largest first: small ones fill up what is left.
        let size = |counts: &Vec<u32>| counts.iter().map(|count| *count as usize).sum::<usize>();
        let mut all: Vec<(Vec<u32>, Vec<usize>)> = by_kind.into_iter().collect();
        all.sort_by_key(|(counts, _)| std::cmp::Reverse(size(counts)));
        for (counts, roots) in all {
            let size = size(&counts);
            if size as f64 > fair * SURPLUS_MAX {
                loads.iter_mut().for_each(|load| *load += size / machines);
                continue;
            }
            let shares = shares(roots.len(), &loads);
            let mut next = roots.into_iter();
            for (machine, count) in shares.into_iter().enumerate() {
                loads[machine] += count * size;
                homes.extend(next.by_ref().take(count).map(|root| (root, machine)));
            }
        }
        let nodes = 0..self.parents.len();
        nodes
            .map(|node| homes.get(&self.root(node)).copied())
            .collect()
    }
}

/// How many of so many equal circles each machine gets: as many as the others, or one more if it
/// has the least to do.
fn shares(count: usize, loads: &[usize]) -> Vec<usize> {
    let mut shares = vec![count / loads.len(); loads.len()];
    let mut by_load: Vec<usize> = (0..loads.len()).collect();
    // The last ones first, as clients that are spread by their numbers are.
    by_load.sort_by_key(|machine| (loads[*machine], std::cmp::Reverse(*machine)));
    for machine in by_load.into_iter().take(count % loads.len()) {
        shares[machine] += 1;
    }
    shares
}

/// So much more than its part a machine may get before a circle is spread.
const SURPLUS_MAX: f64 = 1.25;

#[cfg(test)]
mod tests {
    use crate::agent::crossing::Crossing;
    use crate::plan::Plan;
    use crate::scenario::file;

    fn plan(text: &str, machines: usize, each: usize) -> Plan {
        let scenario = file::parse("f.toml", text).unwrap();
        Plan::for_machines(scenario, "0000", (machines, each), false).unwrap()
    }

    fn group(name: &str, clients: u32, keys: &str) -> String {
        format!("[[group]]\nname = \"{name}\"\nclients = {clients}\n{keys}\n")
    }

    /// The share of the deliveries that cross, and the clients of each machine.
    fn dealt(text: &str, machines: usize, each: usize) -> (f64, Vec<usize>) {
        let plan = plan(text, machines, each);
        for stream in 0..plan.streams.count() as u32 {
            plan.streams.note_sent(stream, 1);
        }
        let share = Crossing::of(&plan, each).share(&plan);
        let clients = (0..machines).map(|machine| {
            let threads = machine * each..(machine + 1) * each;
            let groups = 0..plan.groups.len();
            let on = |group| threads.clone().map(move |thread| (group, thread));
            let all = groups.flat_map(on);
            all.map(|(group, thread)| plan.clients_on(group, thread).len())
                .sum()
        });
        (share, clients.collect())
    }

    #[test]
    fn a_publisher_and_its_subscribers_share_a_machine_as_far_as_topics_tell() {
        let publish = |topic: &str| format!("publish = \"{topic}\"\nrate = 1");
        let subscribe = |filter: &str| format!("subscribe = \"{filter}\"");
        for (groups, machines, share, clients) in [
            // Pairs, and those whose numbers are mixed.
            (
                [
                    group("s", 6, &subscribe("t/{index}")),
                    group("p", 6, &publish("t/{index}")),
                ],
                2,
                0.0,
                vec![6, 6],
            ),
            (
                [
                    group("s", 4, &subscribe("t/{index}")),
                    group("p", 12, &publish("t/{index%4}")),
                ],
                2,
                0.0,
                vec![8, 8],
            ),
            (
                [
                    group("s", 9, &subscribe("t/{index/3}/+")),
                    group("p", 3, &publish("t/{index}/x")),
                ],
                3,
                0.0,
                vec![4, 4, 4],
            ),
            // What everybody reads is spread.
            (
                [
                    group("s", 6, &subscribe("t/+")),
                    group("p", 6, &publish("t/{index}")),
                ],
                2,
                0.5,
                vec![6, 6],
            ),
            // Two shared subscriptions, each with its publishers.
            (
                [
                    group("s", 3, &subscribe("$share/g/t/#")),
                    group("p", 3, &publish("t/{index}")),
                ],
                1,
                0.0,
                vec![6],
            ),
        ] {
            let text = groups.concat();
            for each in [1, 2] {
                let (found, found_clients) = dealt(&text, machines, each);
                assert!((found - share).abs() < 1e-9, "{each}: {found}: {text}");
                assert_eq!(found_clients, clients, "{each}: {text}");
            }
        }
    }

    #[test]
    fn shared_subscriptions_live_with_their_publishers() {
        let mut text = String::new();
        for name in ["a", "b"] {
            text += &group(
                &format!("s{name}"),
                3,
                &format!("subscribe = \"$share/g/{name}/#\""),
            );
            let keys = format!("publish = \"{name}/{{index}}\"\nrate = 1");
            text += &group(&format!("p{name}"), 5, &keys);
        }
        assert_eq!(dealt(&text, 2, 2), (0.0, vec![8, 8]));
    }

    #[test]
    fn every_client_keeps_its_number_wherever_it_lives() {
        let text = group("s", 5, "subscribe = \"t/{index}/#\"")
            + &group(
                "p",
                20,
                "publish = \"t/{index%5}/{index}\"\nrate = \"zipf(100, 1)\"",
            );
        let (one, two) = (plan(&text, 1, 1), plan(&text, 2, 2));
        let topics = |plan: &Plan| {
            let all = 0..plan.streams.count() as u32;
            let mut all: Vec<Vec<u8>> = all.map(|s| plan.streams.topic(s).to_vec()).collect();
            all.sort();
            all
        };
        assert_eq!(topics(&one), topics(&two));
        let mut numbers: Vec<u32> = (0..20).map(|place| two.groups[1].number(place)).collect();
        assert!(
            !numbers.is_sorted(),
            "circles are dealt out whole: {numbers:?}"
        );
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..20));
        for place in 0..20 {
            let topic = two.streams.topic(two.groups[1].stream(place, 0));
            let number = two.groups[1].number(place);
            assert_eq!(topic, format!("t/{}/{number}", number % 5).as_bytes());
        }
    }
}
