//! Clients that say anything, valid and broken (threat 43), to a broker of one to three shards: nothing panics,
//! every answer is a packet that a server may send in the client's version, and when all have gone
//! and every session has expired the shards hold nothing but retained messages.
//!
//! Input: one byte for the number of shards, then steps of one byte and their arguments.
#![no_main]

#[path = "../../tests/conversations/world.rs"]
#[allow(dead_code, reason = "the conversations need more of it")]
mod world;

use std::sync::Arc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use ringmq_core::codec::{
    Ack, AckKind, Connect, ConnectProperties, Direction, FrameRules, Framer, Publish,
    PublishProperties, QoS, RetainHandling, Subscribe, SubscribeOptions, Subscription,
    Subscriptions, Version, Will, WillProperties, decode,
};
use ringmq_core::ids::PacketId;
use ringmq_core::limits::Limits;
use ringmq_core::shard::{CloseCause, Gauges};
use world::{Feed, SocketId, World};

const TOPICS: [&str; 8] = ["a", "a/b", "a/b/c", "/", "", "$SYS/a", "a/+", "b"];
const FILTERS: [&str; 8] = ["a", "a/#", "+/b", "#", "+", "$share/g/a", "a/b", "a#"];
const IDS: [&str; 4] = ["one", "two", "three", ""];

fuzz_target!(|input: &[u8]| {
    let mut input = Input(input);
    let shards = 1 + usize::from(input.byte()) % 3;
    let mut play = Play {
        world: World::new(shards, &Arc::new(limits()), Feed::Whole),
        clients: [None; 4],
        versions: Vec::new(),
    };
    // A bound on the steps, so that one input cannot take for ever.
    for _ in 0..200 {
        if input.0.is_empty() {
            break;
        }
        play.step(&mut input);
    }
    play.end();
});

/// Small ones, so that they are met.
fn limits() -> Limits {
    Limits {
        packet_size_max: 512,
        receive_maximum: 3,
        inflight_messages_max: 3,
        queued_messages_max: 4,
        subscriptions_max: 4,
        topic_alias_max: 2,
        retained_messages_max: 3,
        unsent_bytes_max: 4096,
        sessions_max: 3,
        ..Limits::default()
    }
}

/// The rest of the input; zeros when it is used up.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        byte
    }

    fn bytes(&mut self) -> &'a [u8] {
        let size = usize::from(self.byte()).min(self.0.len());
        let (bytes, rest) = self.0.split_at(size);
        self.0 = rest;
        bytes
    }

    fn qos(&mut self) -> QoS {
        QoS::from_bits(self.byte() % 3).expect("below three")
    }

    fn packet_id(&mut self) -> PacketId {
        PacketId::new(u16::from(self.byte() % 6) + 1).expect("not zero")
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }
}

struct Play {
    world: World,
    /// Connections that the steps speak of.
    clients: [Option<SocketId>; 4],
    /// What the client of a socket announced, by socket.
    versions: Vec<Version>,
}

impl Play {
    fn step(&mut self, input: &mut Input<'_>) {
        let step = input.byte();
        let client = usize::from(step >> 4) % self.clients.len();
        let Some(socket) = self.clients[client] else {
            return self.open(client, step & 0b1000 == 0, input);
        };
        let version = self.versions[socket];
        let mut packet = Vec::new();
        match step & 0b111 {
            0 => packet.extend_from_slice(input.bytes()),
            1 => subscribe(version, input, &mut packet),
            2 | 3 => publish(version, input, &mut packet),
            4 => acknowledge(version, input, &mut packet),
            5 => {
                // Almost a packet.
                publish(version, input, &mut packet);
                let at = usize::from(input.byte()) % packet.len();
                packet[at] = input.byte();
            }
            6 => {
                let seconds = u64::from(input.byte()) * 3;
                self.world.wait(Duration::from_secs(seconds));
            }
            _ => match input.byte() % 4 {
                0 => self.lose(client, socket),
                1 => self.world.stall(socket, true),
                2 => self.world.stall(socket, false),
                _ => packet.extend_from_slice(&[0xE0, 0]),
            },
        }
        self.world.send(socket, &packet);
        if self.world.is_closed(socket) {
            self.clients[client] = None;
        }
    }

    fn open(&mut self, client: usize, is_valid: bool, input: &mut Input<'_>) {
        let socket = self.world.open();
        self.clients[client] = Some(socket);
        let mut packet = Vec::new();
        let version = input.pick(&[Version::V5, Version::V311, Version::V5, Version::V31]);
        self.versions.push(version);
        if is_valid {
            connect(version, input, &mut packet);
        } else {
            packet.extend_from_slice(input.bytes());
        }
        self.world.send(socket, &packet);
        if self.world.is_closed(socket) {
            self.clients[client] = None;
        }
    }

    fn lose(&mut self, client: usize, socket: SocketId) {
        self.world.cut(socket, CloseCause::Failed(104));
        self.clients[client] = None;
    }

    fn end(mut self) {
        for socket in self.world.sockets() {
            self.world.stall(socket, false);
        }
        for socket in self.world.sockets() {
            self.world.cut(socket, CloseCause::PeerClosed);
            self.check_answers(socket);
        }
        self.world.wait(Duration::from_secs(8 * 24 * 3600));
        for gauges in self.world.gauges() {
            let nothing = Gauges {
                retained: gauges.retained,
                timers: gauges.timers.min(gauges.retained),
                ..Gauges::default()
            };
            assert_eq!(gauges, nothing);
        }
    }

    fn check_answers(&self, socket: SocketId) {
        let mut bytes = self.world.received(socket);
        // Whatever a broken CONNECT made the broker think, its refusal is in one of two versions.
        let version = match bytes {
            [0x20, 2, ..] => Version::V311,
            _ if bytes.first() == Some(&0x20) => Version::V5,
            _ => self.versions[socket],
        };
        let rules = FrameRules {
            version: Some(version),
            size_max: u32::MAX,
            direction: Direction::FromServer,
        };
        let mut framer = Framer::default();
        while let Some(frame) = framer.next(&mut bytes, &rules).expect("frames of a server") {
            decode(&frame, version, Direction::FromServer).expect("packets of a server");
        }
        assert_eq!(framer.partial_size(), 0, "a packet was cut off");
    }
}

fn connect(version: Version, input: &mut Input<'_>, out: &mut Vec<u8>) {
    let flags = input.byte();
    let will = Will {
        qos: input.qos(),
        retain: flags & 2 != 0,
        topic: "a/b",
        payload: b"gone",
        properties: WillProperties {
            delay_s: (flags & 4 != 0).then_some(5),
            message_expiry_s: (flags & 8 != 0).then_some(5),
            ..WillProperties::default()
        },
    };
    let connect = Connect {
        version,
        clean_start: flags & 16 != 0,
        keep_alive: u16::from(flags & 1) * 10,
        client_id: input.pick(&IDS),
        will: (flags & 32 != 0).then_some(will),
        user_name: None,
        password: None,
        properties: ConnectProperties {
            session_expiry_s: (flags & 64 != 0).then_some(20),
            receive_maximum: (flags & 128 != 0).then_some(1),
            maximum_packet_size: (flags & 128 != 0).then_some(40),
            topic_alias_maximum: (flags & 64 != 0).then_some(2),
            ..ConnectProperties::default()
        },
    };
    connect.encode(out);
}

fn subscribe(version: Version, input: &mut Input<'_>, out: &mut Vec<u8>) {
    let filter = input.pick(&FILTERS);
    let bits = input.byte();
    let lines = [Subscription {
        filter,
        options: SubscribeOptions {
            qos: input.qos(),
            no_local: bits & 1 != 0,
            retain_as_published: bits & 2 != 0,
            retain_handling: match bits >> 2 & 3 {
                0 | 3 => RetainHandling::Send,
                1 => RetainHandling::SendIfNew,
                _ => RetainHandling::DoNotSend,
            },
        },
    }];
    if bits & 16 != 0 {
        let filters = ringmq_core::codec::Filters::listed(std::slice::from_ref(&lines[0].filter));
        let unsubscribe = ringmq_core::codec::Unsubscribe {
            packet_id: input.packet_id(),
            filters,
            user_properties: Default::default(),
        };
        return unsubscribe.encode(version, out);
    }
    let subscribe = Subscribe {
        packet_id: input.packet_id(),
        subscription_id: (bits & 32 != 0).then_some(7),
        filters: Subscriptions::listed(&lines),
        user_properties: Default::default(),
    };
    subscribe.encode(version, out);
}

fn publish(version: Version, input: &mut Input<'_>, out: &mut Vec<u8>) {
    let bits = input.byte();
    let qos = input.qos();
    let alias = (bits & 4 != 0 && version == Version::V5).then_some(1 + u16::from(bits >> 6));
    let publish = Publish {
        dup: bits & 1 != 0 && qos > QoS::AtMostOnce,
        qos,
        retain: bits & 2 != 0,
        topic: input.pick(&TOPICS).as_bytes(),
        packet_id: (qos > QoS::AtMostOnce).then(|| input.packet_id()),
        properties: PublishProperties {
            topic_alias: alias,
            message_expiry_s: (bits & 8 != 0).then_some(6),
            ..PublishProperties::default()
        },
        payload: &b"payload of some bytes"[..usize::from(bits >> 3) % 20],
    };
    publish.encode(version, out);
}

fn acknowledge(version: Version, input: &mut Input<'_>, out: &mut Vec<u8>) {
    let kinds = [
        AckKind::Puback,
        AckKind::Pubrec,
        AckKind::Pubrel,
        AckKind::Pubcomp,
    ];
    let kind = input.pick(&kinds);
    Ack::success(input.packet_id()).encode(kind, version, out);
}
