//! Packets that arrive together are handled together (`run.rs`), and nobody can tell: two brokers get the same
//! packets, one in pieces of many, the other one by one, and every client has to get the same bytes from both,
//! and the same things have to be counted.

#[path = "conversations/world.rs"]
#[allow(dead_code, reason = "the conversations need more of it")]
mod world;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ringmq_core::auth::{Access, Acl, read_acl_file};
use ringmq_core::codec::{
    Connect, ConnectProperties, Publish, PublishProperties, QoS, Subscribe, SubscribeOptions,
    Subscription, Subscriptions, Version,
};
use ringmq_core::ids::PacketId;
use ringmq_core::limits::Limits;
use world::{Feed, SocketId, Users, World};

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];
const TOPICS: [&str; 6] = ["t", "t/u", "denied", "$SYS/x", "elsewhere", ""];
const FILTERS: [&str; 5] = ["t", "t/#", "+", "#", "denied"];
/// In brokers of their own, of one shard: nobody promises in which order a client gets what two of its
/// subscriptions match, if one is shared, or what comes to it by way of a member that had no room.
const SHARED_FILTERS: [&str; 3] = ["$share/g/t", "$share/g/t/u", "elsewhere"];
const ACL: &str = "topic readwrite #\ntopic deny denied\n";

/// Numbers that look random; SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// Two brokers that are told the same.
struct Twins {
    worlds: [World; 2],
    stalled: BTreeSet<SocketId>,
}

impl Twins {
    fn new(shards: usize, limits: Limits, has_rules: bool) -> Twins {
        let limits = Arc::new(limits);
        let worlds = std::array::from_fn(|_| {
            let mut access = Access::default();
            if has_rules {
                let mut acl = Acl::new(false);
                read_acl_file(ACL, &mut acl).expect("the rules are right");
                access.acl = Some(Arc::new(acl));
            }
            World::with_access(shards, &limits, Feed::Whole, access, Users::default())
        });
        Twins {
            worlds,
            stalled: BTreeSet::new(),
        }
    }

    fn open(&mut self) -> SocketId {
        let [first, second] = self.worlds.each_mut().map(World::open);
        assert_eq!(first, second);
        first
    }

    /// To the first as one piece, to the second packet by packet. Meanwhile nobody takes anything, so that
    /// as much waits for each socket in both.
    fn send(&mut self, socket: SocketId, packets: &[Vec<u8>]) {
        self.each(|world| world.sockets().for_each(|socket| world.stall(socket, true)));
        let [whole, single] = &mut self.worlds;
        whole.send(socket, &packets.concat());
        packets
            .iter()
            .for_each(|packet| single.send(socket, packet));
        for socket in self.worlds[0].sockets() {
            if !self.stalled.contains(&socket) {
                self.each(|world| world.stall(socket, false));
            }
        }
    }

    fn stall(&mut self, socket: SocketId, is_stalled: bool) {
        match is_stalled {
            true => self.stalled.insert(socket),
            false => self.stalled.remove(&socket),
        };
        self.each(|world| world.stall(socket, is_stalled));
    }

    fn each(&mut self, change: impl Fn(&mut World)) {
        self.worlds.iter_mut().for_each(change);
    }

    fn compare(&self, seed: u64) {
        let [whole, single] = &self.worlds;
        for socket in whole.sockets() {
            assert_eq!(
                whole.received(socket),
                single.received(socket),
                "seed {seed}, socket {socket}"
            );
            assert_eq!(
                whole.is_closed(socket),
                single.is_closed(socket),
                "seed {seed}"
            );
        }
        // Bytes behind the end of a connection are counted if they came with it.
        let counts = |world: &World| -> Vec<String> {
            let text = format!("{:#?}", world.metrics().collect::<Vec<_>>());
            let lines = text
                .lines()
                .filter(|line| !line.contains(" bytes_received"));
            lines.map(str::to_owned).collect()
        };
        let both = counts(whole).into_iter().zip(counts(single)).enumerate();
        for (number, (whole, single)) in both {
            assert_eq!(whole, single, "seed {seed}, line {number} of the counts");
        }
    }
}

struct Client {
    socket: SocketId,
    version: Version,
}

fn connect(twins: &mut Twins, dice: &mut Dice, name: &str) -> Client {
    let version = dice.pick(&VERSIONS);
    let mut properties = ConnectProperties::default();
    if version == Version::V5 {
        properties.session_expiry_s = dice.one_in(2).then_some(1000);
        properties.maximum_packet_size = dice.one_in(4).then_some(24);
        properties.topic_alias_maximum = dice.one_in(4).then_some(2);
    }
    let mut packet = Vec::new();
    Connect {
        version,
        clean_start: dice.one_in(2),
        keep_alive: 0,
        client_id: name,
        will: None,
        user_name: None,
        password: None,
        properties,
    }
    .encode(&mut packet);
    let socket = twins.open();
    twins.send(socket, &[packet]);
    Client { socket, version }
}

fn subscribe(twins: &mut Twins, dice: &mut Dice, client: &Client, filters: &[&str]) {
    let is_v5 = client.version == Version::V5;
    let filter = dice.pick(filters);
    let options = SubscribeOptions {
        qos: dice.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce]),
        no_local: is_v5 && !filter.starts_with('$') && dice.one_in(3),
        retain_as_published: is_v5 && dice.one_in(3),
        ..SubscribeOptions::default()
    };
    let mut packet = Vec::new();
    Subscribe {
        packet_id: PacketId::new(9).expect("not 0"),
        subscription_id: (is_v5 && dice.one_in(3)).then_some(7),
        filters: Subscriptions::listed(&[Subscription { filter, options }]),
        user_properties: Default::default(),
    }
    .encode(client.version, &mut packet);
    twins.send(client.socket, &[packet]);
}

/// Packets, most of them on the topic of the one before.
fn publishes(dice: &mut Dice, version: Version, may_be_acknowledged: bool) -> Vec<Vec<u8>> {
    let mut topic = dice.pick(&TOPICS[..2]);
    let mut packets = Vec::new();
    for number in 0..1 + dice.below(12) {
        if dice.one_in(6) {
            topic = dice.pick(&TOPICS[..5]);
        }
        if dice.one_in(200) {
            topic = dice.pick(&TOPICS);
        }
        let qos = match may_be_acknowledged && dice.one_in(8) {
            true => QoS::AtLeastOnce,
            false => QoS::AtMostOnce,
        };
        let mut properties = PublishProperties::default();
        if version == Version::V5 && dice.one_in(8) {
            properties.content_type = Some("c");
        }
        let mut packet = Vec::new();
        Publish {
            dup: false,
            qos,
            retain: dice.one_in(10),
            topic: topic.as_bytes(),
            packet_id: PacketId::new(number as u16 + 1).filter(|_| qos > QoS::AtMostOnce),
            properties,
            payload: &[b'0' + number as u8; 20][..dice.below(20)],
        }
        .encode(version, &mut packet);
        packets.push(packet);
    }
    packets
}

#[test]
fn packets_that_come_together_are_delivered_as_if_they_came_one_by_one() {
    for seed in 0..600 {
        let mut dice = Dice(seed);
        // A client that does not take what it is sent is not read, and what it says later is dropped or not by what
        // others have taken meanwhile. So where little may wait, who publishes gets nothing.
        let is_tight = dice.one_in(3);
        let limits = Limits {
            unsent_bytes_max: if is_tight { 100 } else { 100_000 },
            ..Limits::default()
        };
        let has_rules = dice.one_in(3);
        let (filters, shards) = match dice.one_in(4) {
            true => (&SHARED_FILTERS[..], 1),
            false => (&FILTERS[..], 1 + dice.below(3)),
        };
        let mut twins = Twins::new(shards, limits, has_rules);
        let mut clients: Vec<Client> = (0..5)
            .map(|number| connect(&mut twins, &mut dice, &format!("c{number}")))
            .collect();
        for _ in 0..30 {
            let at = dice.below(clients.len());
            let client = &clients[at];
            let socket = client.socket;
            match dice.below(10) {
                _ if twins.worlds[0].is_closed(socket) => {
                    clients[at] = connect(&mut twins, &mut dice, &format!("c{at}"));
                }
                0..3 if !is_tight || at > 0 => subscribe(&mut twins, &mut dice, client, filters),
                3 => {
                    twins.stall(socket, dice.one_in(2));
                }
                4 => twins.send(socket, &[b"\xE0\0".to_vec()]),
                _ => {
                    let client = if is_tight { &clients[0] } else { client };
                    let packets = publishes(&mut dice, client.version, !is_tight);
                    twins.send(client.socket, &packets);
                }
            }
            twins.compare(seed);
        }
        for client in &clients {
            twins.stall(client.socket, false);
        }
        twins.each(|world| world.wait(Duration::from_secs(1)));
        twins.compare(seed);
    }
}
