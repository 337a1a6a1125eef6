//! Packets that arrive together are handled together (`run.rs`), without a visible difference: two
//! brokers get the same packets, one many at a time, the other one by one, and clients must get the
//! same bytes from both, with the same counts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::dice::Dice;
use crate::world::{Feed, SocketId, Users, World};
use ringmq_core::auth::{Access, Acl, read_acl_file};
use ringmq_core::codec::{
    Connect, ConnectProperties, Publish, PublishProperties, QoS, Subscribe, SubscribeOptions,
    Subscription, Subscriptions, Version,
};
use ringmq_core::ids::PacketId;
use ringmq_core::limits::Limits;

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];
const TOPICS: [&str; 6] = ["t", "t/u", "denied", "$SYS/x", "elsewhere", ""];
const FILTERS: [&str; 5] = ["t", "t/#", "+", "#", "denied"];
/// In brokers of one shard: from another shard what is shared may come later than what is not, by
/// way of a member that had no room.
const SHARED_FILTERS: [&str; 2] = ["$share/g/t", "$share/g/elsewhere"];
const ACL: &str = "topic readwrite #\ntopic deny denied\n";

/// Two brokers that are told the same.
struct Twins {
    worlds: [World; 2],
    stalled: BTreeSet<SocketId>,
    records: [Vec<String>; 2],
}

/// What clients publish, and how much of it may wait.
struct Style {
    packets_max: usize,
    payload_sizes: &'static [usize],
    /// What some clients take at most.
    packet_size_max: u32,
    unsent_bytes_max: u32,
    total_unsent_bytes_max: u64,
    /// A client that does not take what it is sent is not read, and what it says later is dropped
    /// or not by what others have taken meanwhile. So where little may wait, who publishes gets
    /// nothing.
    is_tight: bool,
}

const STYLES: [Style; 5] = [
    Style {
        packets_max: 12,
        payload_sizes: &[0, 1, 5, 10, 19],
        packet_size_max: 24,
        unsent_bytes_max: 1_000_000,
        total_unsent_bytes_max: 100_000_000,
        is_tight: false,
    },
    // Three or four messages.
    Style {
        packets_max: 12,
        payload_sizes: &[0, 1, 5, 10, 19],
        packet_size_max: 24,
        unsent_bytes_max: 100,
        total_unsent_bytes_max: 100_000_000,
        is_tight: true,
    },
    // More than a run has, and more than a parcel has.
    Style {
        packets_max: 300,
        payload_sizes: &[0, 0, 1],
        packet_size_max: 24,
        unsent_bytes_max: 1_000_000,
        total_unsent_bytes_max: 100_000_000,
        is_tight: false,
    },
    // Where the length of a packet begins to need two bytes, in one version before the other.
    Style {
        packets_max: 6,
        payload_sizes: &[122, 123, 124, 125, 126],
        packet_size_max: 130,
        unsent_bytes_max: 1_000_000,
        total_unsent_bytes_max: 100_000_000,
        is_tight: false,
    },
    // What waits for all sockets together is bounded, and packets are as large as a run.
    Style {
        packets_max: 20,
        payload_sizes: &[10, 400, 1000, 3000, 4089, 5000],
        packet_size_max: 1010,
        unsent_bytes_max: 1_000_000,
        total_unsent_bytes_max: 100_000,
        is_tight: true,
    },
];

impl Twins {
    fn new(shards: usize, limits: Limits) -> Twins {
        let limits = Arc::new(limits);
        let worlds = std::array::from_fn(|_| {
            let access = Access::default();
            World::with_access(shards, &limits, Feed::Whole, access, Users::default())
        });
        Twins {
            worlds,
            stalled: BTreeSet::new(),
            records: Default::default(),
        }
    }

    fn replace_rules(&mut self, has_rules: bool) {
        self.each(|world| {
            let mut access = Access::default();
            if has_rules {
                let mut acl = Acl::new(false);
                read_acl_file(ACL, &mut acl).expect("the rules are right");
                access.acl = Some(Arc::new(acl));
            }
            world.replace_access(access);
        });
    }

    fn open(&mut self) -> SocketId {
        let [first, second] = self.worlds.each_mut().map(World::open);
        assert_eq!(first, second);
        first
    }

    /// To the first as one piece, or cut anywhere, to the second packet by packet. Meanwhile nobody
    /// takes anything, so that as much waits for each socket in both.
    fn send(&mut self, dice: &mut Dice, socket: SocketId, packets: &[Vec<u8>]) {
        self.each(|world| world.sockets().for_each(|socket| world.stall(socket, true)));
        let [whole, single] = &mut self.worlds;
        let bytes = packets.concat();
        let cut = match dice.one_in(3) {
            true => dice.below(bytes.len()),
            false => 0,
        };
        whole.send(socket, &bytes[..cut]);
        whole.send(socket, &bytes[cut..]);
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

    fn compare(&mut self, seed: u64) {
        for (world, records) in self.worlds.iter_mut().zip(&mut self.records) {
            let taken = world.take_records();
            records.extend(taken.iter().map(|record| format!("{record:?}")));
        }
        // Of several shards, in any order.
        self.records.iter_mut().for_each(|records| records.sort());
        let [whole, single] = &self.records;
        assert_eq!(whole, single, "seed {seed}");
        let [whole, single] = &self.worlds;
        assert_eq!(whole.gauges(), single.gauges(), "seed {seed}");
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

fn connect(twins: &mut Twins, dice: &mut Dice, name: &str, style: &Style) -> Client {
    let version = dice.pick(&VERSIONS);
    let mut properties = ConnectProperties::default();
    if version == Version::V5 {
        properties.session_expiry_s = dice.one_in(2).then_some(1000);
        properties.maximum_packet_size = dice.one_in(4).then_some(style.packet_size_max);
        properties.topic_alias_maximum = dice.one_in(4).then_some(2);
    }
    let mut packet = Vec::new();
    Connect {
        is_bridge: false,
        version,
        clean_start: dice.one_in(2),
        keep_alive: dice.pick(&[0, 0, 10]),
        client_id: name,
        will: None,
        user_name: None,
        password: None,
        properties,
    }
    .encode(&mut packet);
    let socket = twins.open();
    twins.send(dice, socket, &[packet]);
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
    twins.send(dice, client.socket, &[packet]);
}

/// Packets, most of them on the topic of the one before.
fn publishes(dice: &mut Dice, version: Version, style: &Style) -> Vec<Vec<u8>> {
    let mut topic = dice.pick(&TOPICS[..2]);
    let mut packets = Vec::new();
    for number in 0..1 + dice.below(style.packets_max) {
        if dice.one_in(6) {
            topic = dice.pick(&TOPICS[..5]);
        }
        if dice.one_in(200) {
            topic = dice.pick(&TOPICS);
        }
        let qos = match !style.is_tight && dice.one_in(8) {
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
            payload: &vec![number as u8; dice.pick(style.payload_sizes)],
        }
        .encode(version, &mut packet);
        packets.push(packet);
    }
    packets
}

#[test]
fn packets_that_arrive_together_are_delivered_as_if_they_had_arrived_one_by_one() {
    let mut runs_passed = 0;
    for seed in 0..600 {
        let mut dice = Dice::new(seed);
        let style = &STYLES[seed as usize % STYLES.len()];
        let limits = Limits {
            unsent_bytes_max: style.unsent_bytes_max,
            total_unsent_bytes_max: style.total_unsent_bytes_max,
            ..Limits::default()
        };
        let (filters, shards) = match dice.one_in(4) {
            true => ([&FILTERS[..], &SHARED_FILTERS].concat(), 1),
            false => (FILTERS.to_vec(), 1 + dice.below(3)),
        };
        let mut twins = Twins::new(shards, limits);
        let mut clients: Vec<Client> = (0..5)
            .map(|number| connect(&mut twins, &mut dice, &format!("c{number}"), style))
            .collect();
        for _ in 0..30 {
            let at = dice.below(clients.len());
            let client = &clients[at];
            let socket = client.socket;
            match dice.below(14) {
                _ if twins.worlds[0].is_closed(socket) => {
                    clients[at] = connect(&mut twins, &mut dice, &format!("c{at}"), style);
                }
                0..4 if !style.is_tight || at > 0 => {
                    subscribe(&mut twins, &mut dice, client, &filters);
                }
                4 => twins.stall(socket, dice.one_in(2)),
                5 => twins.send(&mut dice, socket, &[b"\xE0\0".to_vec()]),
                6 => twins.replace_rules(dice.one_in(2)),
                7 => twins.each(|world| world.wait(Duration::from_secs(4))),
                _ => {
                    let client = if style.is_tight { &clients[0] } else { client };
                    let packets = publishes(&mut dice, client.version, style);
                    twins.send(&mut dice, client.socket, &packets);
                }
            }
            twins.compare(seed);
        }
        for client in &clients {
            twins.stall(client.socket, false);
        }
        twins.each(|world| world.wait(Duration::from_secs(1)));
        twins.compare(seed);
        let [whole, single] = &twins.worlds;
        assert_eq!(single.runs_passed, 0);
        runs_passed += whole.runs_passed;
    }
    assert!(runs_passed > 1000, "only {runs_passed} runs");
}

#[test]
fn a_payload_that_looks_like_packets_stays_a_payload_however_it_is_split() {
    let looks = b"\x30\x03\0\x01t\x30\x03\0\x01t".repeat(3);
    let publish = [&b"\x30\x22\0\x02in"[..], &looks].concat();
    for cut in 0..publish.len() {
        let limits = Arc::new(Limits::default());
        let mut world = World::new(1, &limits, Feed::Whole);
        let socket = world.open();
        world.send(socket, b"\x10\x0D\0\x04MQTT\x04\x02\0\0\0\x01a");
        world.send(socket, b"\x82\x06\0\x01\0\x01#\0");
        let before = world.received(socket).len();
        // Once more behind it: then the framer holds a packet that it has given out.
        for bytes in [&publish[..cut], &[&publish[cut..], &publish].concat()] {
            world.send(socket, bytes);
        }
        assert_eq!(
            world.received(socket)[before..],
            publish.repeat(2),
            "cut at {cut}"
        );
    }
}
