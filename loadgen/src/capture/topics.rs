//! What a subscriber sees of a broker: topics with their rates, sizes and QoS. Who publishes, and who gets it
//! besides, nobody tells: those are assumed, or follow from `$SYS`.

use std::collections::BTreeMap;

use ringmq_core::codec::{QoS, Version};

use super::class::{Class, Publishes, Terms, Want};
use super::listen::Message;
use super::shape::shapes_of;
use super::sizes::Shares;
use ringmq_core::sizes::SizeCounts;

/// All topics that were seen.
#[derive(Debug, Default)]
pub(super) struct Topics {
    by_name: BTreeMap<String, Seen>,
    /// Messages on topics beyond [`TOPICS_MAX`], which are taken to be like the others.
    left_out: u64,
    count: u64,
    /// Everything that came, to tell our share of what the broker sent.
    came: u64,
    sys: Counters,
}

/// What came on a topic.
#[derive(Clone, Debug, Default)]
struct Seen {
    by_qos: [u64; 3],
    retained: u64,
    bytes: u64,
    /// By class of size.
    sizes: BTreeMap<u8, u64>,
}

/// Counters of the broker, each when it was first and last said.
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    /// Messages that it received, with what came to us until then.
    received: Option<[u64; 2]>,
    sent: Option<[(u64, u64); 2]>,
    connected: Option<u64>,
}

/// What cannot be seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Assumed {
    /// Deliveries per message.
    pub fanout: Option<f64>,
    /// Clients that publish.
    pub publishers: Option<u32>,
}

/// What groups of clients were made of it, and where that is from.
pub(super) struct Guess {
    pub(super) classes: Vec<Class>,
    /// The first group that was only assumed.
    pub(super) first_assumed: usize,
    /// Sentences for people.
    pub(super) notes: Vec<String>,
}

impl Topics {
    pub(super) fn add(&mut self, message: &Message<'_>) {
        self.came += 1;
        if message.topic.starts_with("$SYS/") {
            return self.sys.note(message, self.came);
        }
        if message.topic.starts_with('$') {
            return;
        }
        self.count += 1;
        if !self.by_name.contains_key(message.topic) {
            if self.by_name.len() == TOPICS_MAX {
                self.left_out += 1;
                return;
            }
            self.by_name
                .insert(message.topic.to_owned(), Seen::default());
        }
        let seen = self.by_name.get_mut(message.topic).expect("just seen");
        let size = message.payload.len();
        seen.by_qos[message.qos as usize] += 1;
        seen.retained += u64::from(message.retain);
        seen.bytes += size as u64;
        *seen
            .sizes
            .entry(SizeCounts::class_of(size) as u8)
            .or_default() += 1;
    }

    /// Messages, and topics.
    pub(super) fn counts(&self) -> (u64, usize) {
        (self.count, self.by_name.len())
    }

    /// Groups of clients that would publish this.
    pub(super) fn guess(
        &self,
        span_s: f64,
        assumed: Assumed,
        join: fn(Vec<Class>) -> Vec<Class>,
    ) -> Guess {
        let mut notes = Vec::new();
        let mut classes = join(self.publishers(span_s));
        if self.left_out > 0 {
            notes.push(format!(
                "{} messages on topics beyond the first {TOPICS_MAX} are added to the others",
                self.left_out
            ));
        }
        match assumed.publishers {
            Some(wanted) => {
                let all: f64 = classes.iter().map(|class| class.clients).sum();
                for class in &mut classes {
                    gather(class, f64::from(wanted) / all.max(1.0));
                }
            }
            None => notes.push(
                "one client is assumed for each topic; --assume publishers=N says how many there are"
                    .to_owned(),
            ),
        }
        let first_assumed = classes.len();
        let (fanout, why) = match (assumed.fanout, self.sys.fanout()) {
            (Some(fanout), _) => (fanout, "as --assume says".to_owned()),
            (None, Some(fanout)) => (fanout, "from $SYS".to_owned()),
            (None, None) => (
                1.0,
                "unknown, so 1 is assumed; --assume fanout=N says what it is".to_owned(),
            ),
        };
        notes.push(format!("deliveries per message: {fanout:.3}, {why}"));
        classes.extend(subscribers(&classes, fanout));
        let known: f64 = classes.iter().map(|class| class.clients).sum();
        if let Some(connected) = self.sys.connected {
            // This one listened.
            let idle = connected as f64 - 1.0 - known;
            notes.push(format!(
                "the broker says that {connected} clients are connected"
            ));
            if idle >= 1.0 {
                classes.push(class_of(idle, None, Vec::new()));
            }
        }
        Guess {
            classes,
            first_assumed,
            notes,
        }
    }

    /// A client for each topic.
    fn publishers(&self, span_s: f64) -> Vec<Class> {
        let names: Vec<&str> = self.by_name.keys().map(String::as_str).collect();
        let (shapes, of) = shapes_of(&names);
        let all: u64 = self.by_name.values().map(Seen::count).sum();
        let more = self.count as f64 / all.max(1) as f64;
        let mut grains = [2.0, 1.0, 0.5].into_iter();
        let mut groups: BTreeMap<Key, Vec<&Seen>> = BTreeMap::new();
        while let Some(grain) = grains.next() {
            groups.clear();
            for (seen, shape) in self.by_name.values().zip(&of) {
                groups
                    .entry(seen.key(*shape, grain))
                    .or_default()
                    .push(seen);
            }
            if groups.len() <= KEYS_MAX {
                break;
            }
        }
        let class = |(key, members): (&Key, &Vec<&Seen>)| {
            let count: u64 = members.iter().map(|seen| seen.count()).sum();
            let bytes: u64 = members.iter().map(|seen| seen.bytes).sum();
            let mut sizes = Shares::default();
            for (size, count) in members.iter().flat_map(|seen| &seen.sizes) {
                sizes.add_class(usize::from(*size), *count as f64);
            }
            sizes.set_mean(bytes as f64 / count as f64);
            let publishes = Publishes {
                per_s: count as f64 * more / span_s / members.len() as f64,
                qos: key.qos,
                retain: key.retain,
                sizes,
                shape: shapes[key.shape].clone(),
                topics: 1,
            };
            class_of(members.len() as f64, Some(publishes), Vec::new())
        };
        groups.iter().map(class).collect()
    }
}

/// Topics of one key have clients that do the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    shape: usize,
    qos: QoS,
    retain: bool,
    rate: i32,
    size: i32,
}

impl Seen {
    fn count(&self) -> u64 {
        self.by_qos.iter().sum()
    }

    fn key(&self, shape: usize, grain: f64) -> Key {
        let log = |number: f64| (number.max(1.0).log2() * grain).round() as i32;
        let most = (0..3).max_by_key(|qos| self.by_qos[*qos]).unwrap_or(0);
        Key {
            shape,
            qos: QoS::from_bits(most as u8).unwrap_or_default(),
            retain: self.retained * 2 > self.count(),
            rate: log(self.count() as f64),
            size: log(self.bytes as f64 / self.count().max(1) as f64),
        }
    }
}

impl Counters {
    fn note(&mut self, message: &Message<'_>, came: u64) {
        let number = std::str::from_utf8(message.payload).ok();
        let number = number.and_then(|text| text.trim().parse::<u64>().ok());
        let Some(number) = number.filter(|_| !message.retain) else {
            return;
        };
        let is_total = !message.topic.contains("/load/") && !message.topic.contains("/shards/");
        let ends = |end: &str| is_total && message.topic.ends_with(end);
        if ends("/publish/messages/received") || ends("/metrics/messages/received") {
            let first = self.received.map_or(number, |[first, _]| first);
            self.received = Some([first, number]);
        } else if ends("/publish/messages/sent") || ends("/metrics/messages/sent") {
            let first = self.sent.map_or((number, came), |[first, _]| first);
            self.sent = Some([first, (number, came)]);
        } else if ends("/clients/connected") {
            self.connected = Some(number);
        }
    }

    /// Deliveries per message, without those to us.
    fn fanout(&self) -> Option<f64> {
        let ([first, last], [from, to]) = (self.received?, self.sent?);
        let received = last.checked_sub(first).filter(|count| *count > 0)?;
        let sent = to.0.checked_sub(from.0)?.saturating_sub(to.1 - from.1);
        Some(sent as f64 / received as f64)
    }
}

/// So many clients in place of one for each topic, each with several topics.
fn gather(class: &mut Class, share: f64) {
    let clients = (class.clients * share).round().max(1.0).min(class.clients);
    let topics = class.clients / clients;
    if let Some(publishes) = &mut class.publishes {
        publishes.topics = topics.round().max(1.0) as u32;
        publishes.per_s *= topics;
    }
    class.clients = clients;
}

/// Clients that get all of it, and one that gets the rest of a fan-out that is not whole.
fn subscribers(classes: &[Class], fanout: f64) -> Vec<Class> {
    let all = |share: f64| -> Vec<Want> {
        let wants = classes.iter().enumerate().map(|(of, class)| Want {
            of,
            per_s: class.sent_per_s() * share,
            is_shared: false,
        });
        wants.collect()
    };
    let mut more = Vec::new();
    let whole = fanout.floor();
    if whole >= 1.0 {
        more.push(class_of(whole, None, all(1.0)));
    }
    if fanout - whole > REST_MIN {
        more.push(class_of(1.0, None, all(fanout - whole)));
    }
    more
}

fn class_of(clients: f64, publishes: Option<Publishes>, wants: Vec<Want>) -> Class {
    let qos = |publishes: &Publishes| publishes.qos;
    Class {
        clients,
        terms: Terms {
            version: Version::V311,
            expiry_s: 0,
            keep_alive_s: 60,
        },
        wanted_qos: publishes.as_ref().map_or(QoS::AtLeastOnce, qos),
        publishes,
        wants,
    }
}

/// Topics that are told apart: some 200 bytes each.
const TOPICS_MAX: usize = 500_000;
/// Groups before similar ones join.
const KEYS_MAX: usize = 150;
/// A smaller part of a fan-out is left out.
const REST_MIN: f64 = 0.005;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::class::join;
    use std::time::Duration;

    fn hear(topics: &mut Topics, topic: &str, payload: &[u8], qos: QoS) {
        topics.add(&Message {
            topic,
            payload,
            qos,
            retain: false,
            at: Duration::ZERO,
        });
    }

    fn fleet() -> Topics {
        let mut topics = Topics::default();
        for second in 0..10 {
            for device in 0..50 {
                let topic = format!("telemetry/{device}");
                hear(&mut topics, &topic, &[0; 90], QoS::AtLeastOnce);
            }
            for camera in 0..8 {
                let topic = format!("camera/{camera}/frame");
                for _ in 0..4 {
                    hear(&mut topics, &topic, &[0; 9000], QoS::AtMostOnce);
                }
            }
            for (name, value) in [("received", second * 82), ("sent", second * 82 * 3)] {
                let topic = format!("$SYS/broker/publish/messages/{name}");
                hear(
                    &mut topics,
                    &topic,
                    value.to_string().as_bytes(),
                    QoS::AtMostOnce,
                );
            }
        }
        topics
    }

    #[test]
    fn topics_become_groups_with_their_rates() {
        let topics = fleet();
        assert_eq!(topics.counts(), (820, 58));
        let assumed = Assumed {
            fanout: Some(2.5),
            publishers: None,
        };
        let guess = topics.guess(10.0, assumed, join);
        let shown: Vec<(f64, f64, f64)> = guess
            .classes
            .iter()
            .map(|class| (class.clients, class.sent_per_s(), class.wanted_per_s()))
            .collect();
        let expected = [
            (50.0, 50.0, 0.0),
            (8.0, 32.0, 0.0),
            (2.0, 0.0, 82.0),
            (1.0, 0.0, 41.0),
        ];
        assert_eq!((shown, guess.first_assumed), (expected.to_vec(), 2));
        let sizes = |class: usize| {
            guess.classes[class]
                .publishes
                .as_ref()
                .unwrap()
                .sizes
                .text()
        };
        assert_eq!((sizes(0), sizes(1)), ("90".to_owned(), "9000".to_owned()));
    }

    #[test]
    fn what_the_broker_says_of_itself_is_not_counted_as_traffic() {
        let topics = fleet();
        // 3 for each message were sent, of which one and the reports were for us.
        let fanout = topics.sys.fanout().unwrap();
        assert!((fanout - 2.0).abs() < 0.05, "{fanout}");
        let assumed = Assumed {
            publishers: Some(29),
            ..Assumed::default()
        };
        let guess = topics.guess(10.0, assumed, join);
        let publishers: Vec<f64> = guess.classes[..2]
            .iter()
            .map(|class| class.clients)
            .collect();
        assert_eq!(publishers, [25.0, 4.0]);
        let sent: f64 = guess.classes.iter().map(Class::sent_per_s).sum();
        assert!((sent - 82.0).abs() < 1e-9);
        let first = guess.classes[0].publishes.as_ref().unwrap();
        assert_eq!((first.topics, first.per_s), (2, 2.0));
    }
}
