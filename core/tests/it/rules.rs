//! For random rules, filters, topics and reloads: what is delivered is readable by the rules that
//! hold by then, what is readable is delivered, and nothing that was refused to its publisher
//! arrives.
//!
//! The rules are judged here by a matcher that shares nothing with that of the broker.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::dice::Dice;
use crate::world::{Feed, SocketId, Users, World};
use ringmq_core::auth::{Access, Acl, read_acl_file};
use ringmq_core::limits::Limits;
use ringmq_core::shard::CloseCause;

const CLIENTS: [&str; 4] = ["a", "b", "c", "x+"];
const LEVELS: [&str; 4] = ["a", "b", "c", "$x"];

/// A rule of the file, as a person reads it.
#[derive(Clone, Debug)]
struct Rule {
    is_pattern: bool,
    access: &'static str,
    topic: String,
}

#[derive(Default)]
struct Client {
    socket: Option<SocketId>,
    parsed_size: usize,
    /// Filters that were granted and not shared.
    filters: Vec<String>,
}

/// What is known of a message, by its payload.
struct Sent {
    author: usize,
    topic: String,
    was_allowed: bool,
}

struct Play {
    random: Dice,
    world: World,
    rules: Vec<Rule>,
    clients: Vec<Client>,
    sent: BTreeMap<u32, Sent>,
    /// Deliveries that were checked.
    checked: usize,
}

#[test]
fn clients_get_exactly_what_they_may_read() {
    let mut checked = 0;
    for seed in 0..1000 {
        let mut play = Play::new(seed);
        for _ in 0..150 {
            play.step(seed);
        }
        checked += play.checked;
    }
    assert!(checked > 20_000, "only {checked} deliveries were checked");
}

impl Play {
    fn new(seed: u64) -> Play {
        let mut random = Dice::new(seed);
        let rules = random_rules(&mut random);
        let shards = 1 + random.below(3);
        let limits = Arc::new(Limits::default());
        let access = access_of(&rules);
        Play {
            world: World::with_access(shards, &limits, Feed::Whole, access, Users::default()),
            random,
            rules,
            clients: CLIENTS.iter().map(|_| Client::default()).collect(),
            sent: BTreeMap::new(),
            checked: 0,
        }
    }

    fn step(&mut self, seed: u64) {
        let index = self.random.below(CLIENTS.len());
        let Some(socket) = self.clients[index].socket else {
            return self.connect(index, seed);
        };
        match self.random.below(8) {
            0 => {
                self.world.cut(socket, CloseCause::PeerClosed);
                self.clients[index].socket = None;
            }
            1 => {
                self.rules = random_rules(&mut self.random);
                self.world.replace_access(access_of(&self.rules));
            }
            2 | 3 => self.subscribe(index, socket, seed),
            _ => self.publish(index, socket, seed),
        }
        self.read_all(seed);
    }

    fn connect(&mut self, index: usize, seed: u64) {
        let socket = self.world.open();
        let mut body = b"\x00\x04MQTT\x04\x00\x00\x00".to_vec();
        put(&mut body, CLIENTS[index]);
        self.send(socket, 0x10, &body);
        self.clients[index].socket = Some(socket);
        self.clients[index].parsed_size = 0;
        self.read_all(seed);
    }

    fn subscribe(&mut self, index: usize, socket: SocketId, seed: u64) {
        let mut levels: Vec<&str> = (0..1 + self.random.below(3))
            .map(|_| match self.random.below(3) {
                0 => "+",
                _ => LEVELS[self.random.below(LEVELS.len())],
            })
            .collect();
        if self.random.below(3) == 0 {
            levels.push("#");
        }
        let filter = levels.join("/");
        let is_shared = self.random.below(6) == 0;
        let text = match is_shared {
            true => format!("$share/g/{filter}"),
            false => filter.clone(),
        };
        let mut body = vec![0, 1];
        put(&mut body, &text);
        body.push(self.random.below(2) as u8);
        self.send(socket, 0x82, &body);
        let granted = self.read(index, seed);
        if granted == Some(true) && !is_shared {
            self.clients[index].filters.push(filter);
        }
    }

    fn publish(&mut self, index: usize, socket: SocketId, seed: u64) {
        let levels: Vec<&str> = (0..1 + self.random.below(3))
            .map(|_| LEVELS[self.random.below(LEVELS.len())])
            .collect();
        let topic = levels.join("/");
        let number = self.sent.len() as u32;
        let was_allowed = self.allows(index, "write", &topic);
        let sent = Sent {
            author: index,
            topic: topic.clone(),
            was_allowed,
        };
        self.sent.insert(number, sent);
        let retain = self.random.below(4) == 0;
        let mut body = Vec::new();
        put(&mut body, &topic);
        body.extend([0, 1]);
        body.extend(number.to_be_bytes());
        self.send(socket, 0x32 | u8::from(retain), &body);
        let before = self.checked;
        let mut expected = 0;
        for (reader, client) in self.clients.iter().enumerate() {
            let is_subscribed = client.filters.iter().any(|filter| matches(filter, &topic));
            let is_here = client.socket.is_some();
            if is_subscribed && is_here && was_allowed && self.allows(reader, "read", &topic) {
                expected += 1;
            }
        }
        self.read_all(seed);
        let arrived = self.checked - before;
        assert!(
            arrived >= expected,
            "seed {seed}: {arrived} of {expected} got {topic}"
        );
    }

    fn send(&mut self, socket: SocketId, first: u8, body: &[u8]) {
        let mut packet = vec![first, u8::try_from(body.len()).expect("texts are short")];
        packet.extend_from_slice(body);
        self.world.send(socket, &packet);
    }

    fn read_all(&mut self, seed: u64) {
        for index in 0..CLIENTS.len() {
            self.read(index, seed);
        }
    }

    /// Takes in what came; gives whether a SUBACK granted something, if one came.
    fn read(&mut self, index: usize, seed: u64) -> Option<bool> {
        let socket = self.clients[index].socket?;
        let received = self.world.received(socket).to_vec();
        let mut bytes = &received[self.clients[index].parsed_size..];
        self.clients[index].parsed_size = received.len();
        let mut granted = None;
        let mut acks = Vec::new();
        while let [first, size, rest @ ..] = bytes {
            let (body, next) = rest.split_at(usize::from(*size));
            bytes = next;
            match first >> 4 {
                3 => acks.extend(self.check(index, *first, body, seed)),
                9 => granted = Some(body[2] < 0x80),
                _ => {}
            }
        }
        for ack in acks {
            self.send(socket, 0x40, &ack);
        }
        granted
    }

    /// A message that came: the client may have it by the rules that hold. Gives its identifier.
    fn check(&mut self, index: usize, first: u8, body: &[u8], seed: u64) -> Option<[u8; 2]> {
        let topic_end = 2 + usize::from(body[1]);
        let topic = std::str::from_utf8(&body[2..topic_end]).expect("a topic is text");
        let has_id = first & 0b110 != 0;
        let (id, payload) = match has_id {
            true => (
                Some([body[topic_end], body[topic_end + 1]]),
                &body[topic_end + 2..],
            ),
            false => (None, &body[topic_end..]),
        };
        let number = u32::from_be_bytes(payload.try_into().expect("a number was sent"));
        let sent = &self.sent[&number];
        let name = CLIENTS[index];
        assert_eq!(sent.topic, topic);
        assert!(
            sent.was_allowed,
            "seed {seed}: {name} got what was refused, on {topic}"
        );
        let may_read = self.allows(index, "read", topic);
        assert!(
            may_read,
            "seed {seed}: {name} got {topic}: {:?}",
            self.rules
        );
        if first & 1 == 1 {
            let may_write = self.allows(sent.author, "write", topic);
            assert!(may_write, "seed {seed}: {name} got {topic} of a stranger");
        }
        self.checked += 1;
        id
    }

    fn allows(&self, client: usize, access: &str, topic: &str) -> bool {
        let mut is_allowed = false;
        for rule in &self.rules {
            if rule.access != "deny" && rule.access != "readwrite" && rule.access != access {
                continue;
            }
            let name = CLIENTS[client];
            let has_name = rule.is_pattern && rule.topic.contains("%c");
            let filter = match (has_name, name.contains('+'), rule.access) {
                (false, _, _) => rule.topic.clone(),
                (true, false, _) => rule.topic.replace("%c", name),
                // A name that cannot stand: any level for those who deny, none for those who allow.
                (true, true, "deny") => rule.topic.replace("%c", "+"),
                (true, true, _) => continue,
            };
            if matches(&filter, topic) {
                match rule.access {
                    "deny" => return false,
                    _ => is_allowed = true,
                }
            }
        }
        is_allowed
    }
}

/// Level by level, by recursion.
fn matches(filter: &str, topic: &str) -> bool {
    fn rest(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) | ([], []) => true,
            ([f, fs @ ..], [t, ts @ ..]) => (*f == "+" || f == t) && rest(fs, ts),
            _ => false,
        }
    }
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let filter: Vec<&str> = filter.split('/').collect();
    let topic: Vec<&str> = topic.split('/').collect();
    rest(&filter, &topic)
}

fn random_rules(random: &mut Dice) -> Vec<Rule> {
    let count = 1 + random.below(5);
    let rules = (0..count).map(|_| {
        let is_pattern = random.below(2) == 0;
        let mut levels: Vec<&str> = (0..1 + random.below(3))
            .map(|at| match random.below(6) {
                0 | 1 => "+",
                // At the beginning it could be a level of the broker's.
                2 if is_pattern && at > 0 => "%c",
                _ => LEVELS[random.below(LEVELS.len())],
            })
            .collect();
        match random.below(3) {
            0 => levels.push("#"),
            1 => levels = vec!["#"],
            _ => {}
        }
        Rule {
            is_pattern,
            access: ["read", "write", "readwrite", "readwrite", "deny"][random.below(5)],
            topic: levels.join("/"),
        }
    });
    rules.collect()
}

fn access_of(rules: &[Rule]) -> Access {
    let mut text = String::new();
    for rule in rules {
        let keyword = if rule.is_pattern { "pattern" } else { "topic" };
        text += &format!("{keyword} {} {}\n", rule.access, rule.topic);
    }
    let mut acl = Acl::new(false);
    read_acl_file(&text, &mut acl).expect("the rules are right");
    Access {
        acl: Some(Arc::new(acl)),
        ..Access::default()
    }
}

fn put(body: &mut Vec<u8>, text: &str) {
    body.extend([0, text.len() as u8]);
    body.extend_from_slice(text.as_bytes());
}
