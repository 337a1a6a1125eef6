//! What the clients of Ringmq do, from lists of them (`GET /api/v1/clients`), the filters of some, and the
//! sizes of all payloads (`GET /api/v1/profile`).
//!
//! Counters are those of a connection: what grew between two lists was sent between them, and a
//! connection that was not in the list before has sent all of it since.
//!
//! Invariant: the rates of all clients together are what the broker has counted, but for what a connection
//! did after its last list.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ringmq_core::codec::{QoS, Version};
use serde::Deserialize;

use super::class::{Class, Publishes, Terms, Want};
use super::shape::{Cover, Shape, matched_share, shapes_of};
use super::sizes::{Shares, share_out};

/// A row of the list, as far as it is needed.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Row {
    pub(super) client_id: String,
    pub(super) protocol: String,
    pub(super) connected_for_s: Option<u64>,
    pub(super) silence_max_s: Option<f64>,
    pub(super) expiry_s: Option<u64>,
    pub(super) r#in: u64,
    pub(super) out: u64,
    pub(super) in_payload_bytes: u64,
    pub(super) in_qos1: u32,
    pub(super) in_qos2: u32,
    pub(super) subscriptions: u64,
    pub(super) topic: Option<String>,
}

/// A subscription of a client.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Filter {
    pub(super) filter: String,
    pub(super) qos: u8,
}

/// All clients that were seen.
#[derive(Debug, Default)]
pub(super) struct Clients {
    by_id: HashMap<String, Client>,
    /// Seconds from the first list to each.
    lists: Vec<f64>,
}

#[derive(Debug)]
struct Client {
    last: Row,
    /// In how many spans between lists it was there.
    present: usize,
    sent: u64,
    qos: [u64; 3],
    payload_bytes: u64,
    received: u64,
    topics: BTreeSet<String>,
}

/// What is asked of a client whose group wants to know.
pub(super) type Ask<'a> = dyn FnMut(&str) -> Result<Vec<Filter>, String> + 'a;

impl Clients {
    /// Begins a list, so many seconds after the first.
    pub(super) fn begin_list(&mut self, at_s: f64) {
        self.lists.push(at_s);
    }

    /// A row of the list.
    pub(super) fn add(&mut self, row: Row) {
        let now = self.lists.len() - 1;
        let Some(client) = self.by_id.get_mut(&row.client_id) else {
            let client = Client::new(row, now > 0);
            self.by_id.insert(client.last.client_id.clone(), client);
            return;
        };
        client.update(row);
    }

    /// Seconds from the first list to the last.
    pub(super) fn span_s(&self) -> f64 {
        self.lists.last().map_or(0.0, |last| last - self.lists[0])
    }

    /// Messages per second from all clients, and to them.
    pub(super) fn per_s(&self) -> (f64, f64) {
        let span = self.span_s();
        let sum = |of: fn(&Client) -> u64| self.by_id.values().map(of).sum::<u64>() as f64 / span;
        (sum(|client| client.sent), sum(|client| client.received))
    }

    /// How many identifiers were seen.
    pub(super) fn count(&self) -> usize {
        self.by_id.len()
    }

    /// Groups of those that do the same, and the messages per second that the broker has sent of itself.
    /// `sizes` is what was counted of all payloads meanwhile.
    pub(super) fn classes(
        &self,
        sizes: &Shares,
        ask: &mut Ask<'_>,
    ) -> Result<(Vec<Class>, f64), String> {
        let topics: BTreeSet<&str> = self
            .by_id
            .values()
            .flat_map(|client| client.topics.iter().map(String::as_str))
            .collect();
        let topics: Vec<&str> = topics.into_iter().collect();
        let (shapes, of) = shapes_of(&topics);
        let shape_of: HashMap<&str, usize> = topics.iter().copied().zip(of).collect();
        let grains = [2.0, 1.0, 0.5];
        let sorted = grains.map(|grain| self.sort(&shape_of, grain));
        let [.., coarse] = &sorted;
        let few = |groups: &&BTreeMap<Key, Vec<&Client>>| groups.len() <= KEYS_MAX;
        let groups = sorted.iter().find(few).unwrap_or(coarse);
        let means: Vec<(f64, f64)> = groups
            .values()
            .map(|members| {
                let sum = |of: fn(&Client) -> u64| members.iter().map(|one| of(one)).sum::<u64>();
                let (sent, bytes) = (sum(|one| one.sent), sum(|one| one.payload_bytes));
                (sent as f64, bytes as f64 / sent.max(1) as f64)
            })
            .collect();
        let shares = share_out(sizes, &means);
        let mut classes: Vec<Class> = Vec::new();
        for ((key, members), sizes) in groups.iter().zip(shares) {
            classes.push(self.class(key, members, &shapes, sizes));
        }
        let publishing = self.publishing(&classes, groups.values());
        let mut own_per_s = 0.0;
        for (index, (_, members)) in groups.iter().enumerate() {
            let (wants, qos) = self.wants(members, &publishing, ask)?;
            let received: u64 = members.iter().map(|client| client.received).sum();
            if let (None, true) = (&wants, received > 0) {
                own_per_s += received as f64 / self.span_s();
            }
            classes[index].wants = wants.unwrap_or_default();
            classes[index].wanted_qos = qos;
        }
        Ok((classes, own_per_s))
    }

    fn sort(&self, shapes: &HashMap<&str, usize>, grain: f64) -> BTreeMap<Key, Vec<&Client>> {
        let mut groups: BTreeMap<Key, Vec<&Client>> = BTreeMap::new();
        let mut clients: Vec<(&String, &Client)> = self.by_id.iter().collect();
        clients.sort_by_key(|(id, _)| *id);
        for (_, client) in clients {
            if client.present > 0 {
                let key = client.key(shapes, self.span_s(), grain);
                groups.entry(key).or_default().push(client);
            }
        }
        groups
    }

    fn class(&self, key: &Key, members: &[&Client], shapes: &[Shape], sizes: Shares) -> Class {
        let spans = (self.lists.len() - 1).max(1);
        let present: usize = members.iter().map(|client| client.present).sum();
        let clients = present as f64 / spans as f64;
        let sent: u64 = members.iter().map(|client| client.sent).sum();
        let topics = members.iter().map(|client| client.topics.len());
        let typical = topics.clone().sum::<usize>() as f64 / members.len() as f64;
        let publishes = Publishes {
            per_s: sent as f64 / self.span_s() / clients,
            qos: key.qos,
            retain: false,
            sizes,
            shape: key
                .shape
                .map(|shape| shapes[shape].clone())
                .unwrap_or_default(),
            topics: typical.round().max(1.0) as u32,
        };
        Class {
            clients,
            terms: key.terms,
            publishes: (publishes.per_s >= PER_S_MIN).then_some(publishes),
            wants: Vec::new(),
            wanted_qos: QoS::AtMostOnce,
        }
    }

    fn publishing<'a>(
        &self,
        classes: &[Class],
        members: impl Iterator<Item = &'a Vec<&'a Client>>,
    ) -> Vec<Source> {
        let both = classes.iter().zip(members).enumerate();
        both.filter_map(|(of, (class, members))| {
            let publishes = class.publishes.as_ref()?;
            let topics = members
                .iter()
                .flat_map(|client| client.topics.iter().cloned());
            Some(Source {
                of,
                per_s: class.sent_per_s(),
                shape: publishes.shape.clone(),
                topics: spread(topics.collect(), SOURCE_TOPICS)
                    .into_iter()
                    .collect(),
            })
        })
        .collect()
    }

    /// What each of these clients gets of whom, and with which QoS at most. `None`: only what the broker says of
    /// itself.
    fn wants(
        &self,
        members: &[&Client],
        sources: &[Source],
        ask: &mut Ask<'_>,
    ) -> Result<(Option<Vec<Want>>, QoS), String> {
        let received: u64 = members.iter().map(|client| client.received).sum();
        let present: usize = members.iter().map(|client| client.present).sum();
        let spans = (self.lists.len() - 1).max(1);
        let clients = present as f64 / spans as f64;
        let got_per_s = received as f64 / self.span_s() / clients;
        let subscribe = members
            .iter()
            .filter(|client| client.last.subscriptions > 0);
        let asked: Vec<&&Client> = spread(subscribe.collect(), SAMPLES);
        let mut qos = QoS::AtMostOnce;
        let mut covers = vec![Covered::default(); sources.len()];
        let mut is_load = asked.is_empty();
        for client in &asked {
            for filter in ask(&client.last.client_id)? {
                // Reports of the broker are no load of its clients.
                let is_own =
                    filter.filter.starts_with('$') && !filter.filter.starts_with("$share/");
                if is_own {
                    continue;
                }
                is_load = true;
                qos = qos.max(QoS::from_bits(filter.qos).unwrap_or_default());
                for (source, covered) in sources.iter().zip(&mut covers) {
                    covered.add(&filter.filter, source, clients);
                }
            }
        }
        if !is_load {
            return Ok((None, qos));
        }
        let parts = divided(got_per_s, asked.len(), sources, &covers);
        let wants = parts.into_iter().zip(sources).zip(&covers);
        let wants = wants.filter(|((per_s, _), _)| *per_s >= PER_S_MIN);
        let wants = wants.map(|((per_s, source), covered)| Want {
            of: source.of,
            per_s,
            is_shared: covered.shared > 0.0,
        });
        Ok((Some(wants.collect()), qos))
    }
}

/// Groups of one key do the same, as far as the list tells.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    terms: Terms,
    qos: QoS,
    shape: Option<usize>,
    subscriptions: u64,
    /// Logarithms of rates and of the mean size; `None`: there is none.
    sent: Option<i32>,
    size: Option<i32>,
    received: Option<i32>,
}

/// A group that publishes.
struct Source {
    of: usize,
    per_s: f64,
    shape: Shape,
    /// Some of its topics.
    topics: BTreeSet<String>,
}

/// How much of a source the filters of some clients match.
#[derive(Clone, Debug, Default)]
struct Covered {
    /// How many of them get all of it.
    all: f64,
    /// How much the others get, as a share that is only right beside those of other sources.
    part: f64,
    /// Of that, through shared subscriptions.
    shared: f64,
}

impl Covered {
    fn add(&mut self, filter: &str, source: &Source, clients: f64) {
        let plain = filter
            .strip_prefix("$share/")
            .and_then(|rest| rest.split_once('/'));
        let (plain, is_shared) = match plain {
            Some((_, plain)) => (plain, true),
            None => (filter, false),
        };
        // Nothing is known of the topics: a filter that names some says nothing of them.
        let is_unknown = source.shape.levels.is_empty();
        let cover = match is_unknown && plain != "#" {
            true => Cover::None,
            false => source.shape.cover(plain),
        };
        let share = match cover {
            Cover::None => return,
            Cover::All if !is_shared => {
                self.all += 1.0;
                return;
            }
            Cover::All => 1.0,
            Cover::Part => {
                let seen = matched_share(plain, &source.topics);
                seen.max(0.5 / source.topics.len().max(1) as f64)
            }
        };
        match is_shared {
            true => {
                self.shared += share / clients.max(1.0);
                self.part += share / clients.max(1.0);
            }
            false => self.part += share,
        }
    }
}

/// What a client gets of each source, from what it gets of all: the filters say of whom all of it comes, the
/// rest is divided by how much the others match.
fn divided(got_per_s: f64, asked: usize, sources: &[Source], covers: &[Covered]) -> Vec<f64> {
    let asked = asked.max(1) as f64;
    let whole = |(source, covered): (&Source, &Covered)| source.per_s * covered.all / asked;
    let part = |(source, covered): (&Source, &Covered)| source.per_s * covered.part / asked;
    let both = || sources.iter().zip(covers);
    let (wholes, parts): (f64, f64) = (both().map(whole).sum(), both().map(part).sum());
    let is_near = (got_per_s - wholes).abs() <= NEAR * got_per_s.max(wholes);
    let rest = match is_near {
        true => 0.0,
        false => (got_per_s - wholes).max(0.0),
    };
    // Some of it was lost, or came in a span between lists that others had no part in.
    let kept = match wholes > got_per_s && !is_near {
        true => got_per_s / wholes,
        false => 1.0,
    };
    let all: f64 = sources.iter().map(|source| source.per_s).sum();
    let is_known = wholes > 0.0 || parts > 0.0;
    let each = |(source, covered): (&Source, &Covered)| {
        if !is_known {
            // The filters match nothing that was seen: it may come from anybody.
            return got_per_s * source.per_s / all.max(f64::MIN_POSITIVE);
        }
        let more = match parts > 0.0 {
            true => rest * part((source, covered)) / parts,
            false => 0.0,
        };
        whole((source, covered)) * kept + more
    };
    both().map(each).collect()
}

impl Client {
    fn new(row: Row, is_late: bool) -> Client {
        let mut client = Client {
            last: Row::default(),
            present: 0,
            sent: 0,
            qos: [0; 3],
            payload_bytes: 0,
            received: 0,
            topics: BTreeSet::new(),
        };
        // In the first list, what was before it does not count.
        if is_late {
            client.grow(&Row::default(), &row);
            client.present = 1;
        }
        client.take(row);
        client
    }

    fn update(&mut self, row: Row) {
        // Another connection, with counters of its own.
        let is_same = row.connected_for_s >= self.last.connected_for_s
            && row.r#in >= self.last.r#in
            && row.out >= self.last.out;
        let before = match is_same {
            true => std::mem::take(&mut self.last),
            false => Row::default(),
        };
        self.grow(&before, &row);
        self.present += 1;
        self.take(row);
    }

    fn grow(&mut self, before: &Row, after: &Row) {
        let sent = after.r#in.saturating_sub(before.r#in);
        let first = u64::from(after.in_qos1.wrapping_sub(before.in_qos1));
        let second = u64::from(after.in_qos2.wrapping_sub(before.in_qos2));
        self.sent += sent;
        self.qos[0] += sent.saturating_sub(first + second);
        self.qos[1] += first;
        self.qos[2] += second;
        self.payload_bytes += after
            .in_payload_bytes
            .saturating_sub(before.in_payload_bytes);
        self.received += after.out.saturating_sub(before.out);
    }

    fn take(&mut self, row: Row) {
        if let Some(topic) = row
            .topic
            .as_ref()
            .filter(|_| self.topics.len() < TOPICS_MAX)
        {
            self.topics.insert(topic.clone());
        }
        self.last = row;
    }

    fn key(&self, shapes: &HashMap<&str, usize>, span_s: f64, grain: f64) -> Key {
        let log = |number: f64| (number > 0.0).then(|| (number.log2() * grain).round() as i32);
        let most = (0..3).max_by_key(|qos| self.qos[*qos]).unwrap_or(0);
        let sends = self.sent > 0;
        let topic = self.topics.first().filter(|_| sends);
        let mean = self.payload_bytes as f64 / self.sent.max(1) as f64;
        Key {
            terms: terms_of(&self.last),
            qos: QoS::from_bits(most as u8).unwrap_or_default(),
            shape: topic.and_then(|topic| shapes.get(topic.as_str()).copied()),
            subscriptions: self.last.subscriptions,
            sent: log(self.sent as f64 / span_s),
            size: log(mean.max(1.0)).filter(|_| sends),
            received: log(self.received as f64 / span_s),
        }
    }
}

fn terms_of(row: &Row) -> Terms {
    // A client counts as lost after one and a half times its keep alive.
    let keep_alive = row.silence_max_s.map_or(0.0, |span| (span / 1.5).round());
    Terms {
        version: match row.protocol.as_str() {
            "5.0" => Version::V5,
            _ => Version::V311,
        },
        expiry_s: row.expiry_s.unwrap_or(u64::MAX),
        keep_alive_s: keep_alive.clamp(0.0, f64::from(u16::MAX)) as u16,
    }
}

/// Some of them, from everywhere.
fn spread<T>(all: Vec<T>, count: usize) -> Vec<T> {
    let step = all.len().div_ceil(count).max(1);
    all.into_iter().step_by(step).collect()
}

/// Clients of a group that are asked for their filters.
const SAMPLES: usize = 24;
/// Topics of a group that filters are tried on.
const SOURCE_TOPICS: usize = 500;
/// Groups before similar ones join.
const KEYS_MAX: usize = 150;
/// Topics that are noted of a client.
const TOPICS_MAX: usize = 12;
/// Rates that differ by less are the same: lists are not made at one moment.
const NEAR: f64 = 0.03;
/// Who sends less is silent.
const PER_S_MIN: f64 = 2e-5;

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, sent: u64, got: u64, topic: Option<&str>) -> Row {
        Row {
            client_id: id.to_owned(),
            protocol: "3.1.1".to_owned(),
            connected_for_s: Some(100),
            silence_max_s: Some(90.0),
            expiry_s: Some(0),
            r#in: sent,
            out: got,
            in_payload_bytes: sent * 100,
            in_qos1: sent as u32,
            subscriptions: u64::from(got > 0 || topic.is_none()),
            topic: topic.map(str::to_owned),
            ..Row::default()
        }
    }

    /// 100 devices that publish once a second, of which each of ten dashboards gets a tenth, and five workers
    /// all of it together.
    fn fleet() -> Clients {
        let mut clients = Clients::default();
        for (list, at_s) in [0.0, 10.0].into_iter().enumerate() {
            clients.begin_list(at_s);
            let grown = |per_s: u64| 1000 + per_s * at_s as u64;
            for device in 0..100 {
                let topic = format!("telemetry/{}/{device}", device % 10);
                clients.add(row(&format!("d{device}"), grown(1), 0, Some(&topic)));
            }
            for dashboard in 0..10 {
                clients.add(row(&format!("b{dashboard}"), 0, grown(10), None));
            }
            for worker in 0..5 {
                clients.add(row(&format!("w{worker}"), 0, grown(20), None));
            }
            clients.add(row("s", 0, grown(3), None));
            if list == 1 {
                // It came later: all of it counts.
                clients.add(row("late", 50, 0, Some("other")));
            }
        }
        clients
    }

    fn filters(id: &str) -> Vec<Filter> {
        let number = &id[1..];
        let filter = match &id[..1] {
            "s" => "$SYS/#".to_owned(),
            "b" => format!("telemetry/{number}/+"),
            "w" => "$share/w/telemetry/#".to_owned(),
            other => panic!("{other} has no filters"),
        };
        vec![Filter { filter, qos: 1 }]
    }

    #[test]
    fn groups_are_those_that_do_the_same_and_get_what_they_got() {
        let clients = fleet();
        assert_eq!((clients.span_s(), clients.count()), (10.0, 117));
        assert_eq!(clients.per_s(), (105.0, 203.0));
        let mut sizes = Shares::default();
        sizes.add_size(100, 1050.0);
        let mut ask = |id: &str| Ok(filters(id));
        let (classes, own_per_s) = clients.classes(&sizes, &mut ask).unwrap();
        assert_eq!(own_per_s, 3.0);
        let shown: Vec<(f64, f64, f64)> = classes
            .iter()
            .map(|class| (class.clients, class.sent_per_s(), class.wanted_per_s()))
            .collect();
        // Five of nothing is the late one: it was there for one span of one.
        assert!(shown.contains(&(100.0, 100.0, 0.0)), "{shown:?}");
        assert!(shown.contains(&(10.0, 0.0, 10.0)), "{shown:?}");
        assert!(shown.contains(&(5.0, 0.0, 20.0)), "{shown:?}");
        assert!(shown.contains(&(1.0, 0.0, 0.0)), "{shown:?}");
        assert!(shown.contains(&(1.0, 5.0, 0.0)), "{shown:?}");
        let devices = classes
            .iter()
            .position(|class| class.clients == 100.0)
            .unwrap();
        let publishes = classes[devices].publishes.as_ref().unwrap();
        assert_eq!(publishes.qos, QoS::AtLeastOnce);
        assert_eq!(publishes.sizes.text(), "100");
        assert_eq!(publishes.shape.levels.len(), 3);
        assert_eq!(classes[devices].terms.keep_alive_s, 60);
        let workers = classes.iter().find(|class| class.clients == 5.0).unwrap();
        let want = Want {
            of: devices,
            per_s: 20.0,
            is_shared: true,
        };
        assert_eq!(workers.wants, [want]);
        assert_eq!(workers.wanted_qos, QoS::AtLeastOnce);
        let dashboards = classes.iter().find(|class| class.clients == 10.0).unwrap();
        assert!(!dashboards.wants[0].is_shared);
    }

    #[test]
    fn a_client_that_came_back_has_sent_what_its_connection_did() {
        let mut clients = Clients::default();
        clients.begin_list(0.0);
        clients.add(row("c", 500, 0, Some("t")));
        clients.begin_list(1.0);
        clients.add(row("c", 7, 0, Some("t")));
        clients.begin_list(2.0);
        clients.add(Row {
            connected_for_s: Some(1),
            ..row("c", 9, 0, Some("t"))
        });
        assert_eq!(clients.per_s(), (8.0, 0.0));
    }

    #[test]
    fn what_comes_from_several_is_divided_by_the_filters() {
        let source = |of, per_s, topics: &[&str]| {
            let (shapes, _) = shapes_of(topics);
            Source {
                of,
                per_s,
                shape: shapes[0].clone(),
                topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            }
        };
        let commands: Vec<String> = (0..10).map(|n| format!("command/{n}")).collect();
        let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
        let sources = [source(0, 200.0, &commands), source(1, 0.2, &["alarm"])];
        let of = |filters: &[&str], got| {
            let mut covers = vec![Covered::default(); 2];
            for filter in filters {
                for (source, covered) in sources.iter().zip(&mut covers) {
                    covered.add(filter, source, 1.0);
                }
            }
            divided(got, 1, &sources, &covers)
        };
        for (filters, got, expected) in [
            (&["command/77", "alarm"][..], 0.4, [0.2, 0.2]),
            (&["#"], 200.2, [200.0, 0.2]),
            (&["#"], 199.0, [200.0, 0.2]),
            (&["#"], 100.1, [100.0, 0.1]),
            (&["alarm"], 0.2, [0.0, 0.2]),
            (&["else"], 20.02, [20.0, 0.02]),
        ] {
            for (found, expected) in of(filters, got).into_iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 1e-6,
                    "{filters:?} {got}: {found}"
                );
            }
        }
    }
}
