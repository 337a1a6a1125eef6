//! Clients that say anything, valid and broken (threat 43), to a broker of one to three shards that is
//! short of something: nothing panics, every answer is a packet that a server may send in the client's
//! version, and when all have gone and every session has expired the shards hold nothing but retained
//! messages.
//!
//! Input: four bytes for the broker (its shards and feed, limits, strategy of shared subscriptions, users
//! and rules), then steps of one byte and their arguments.
#![no_main]

#[path = "../../tests/it/conversations/access.rs"]
#[allow(dead_code, reason = "the conversations need more of it")]
mod access;
#[path = "conversation/broker.rs"]
mod broker;
#[path = "conversation/input.rs"]
mod input;
#[path = "conversation/say.rs"]
mod say;
#[path = "../../tests/it/world.rs"]
#[allow(dead_code, reason = "the conversations need more of it")]
mod world;

use std::time::Duration;

use input::Input;
use libfuzzer_sys::fuzz_target;
use ringmq_core::auth::Verdict;
use ringmq_core::codec::{
    Ack, AckKind, Direction, FrameRules, Framer, Packet, QoS, Version, decode,
};
use ringmq_core::shard::{CloseCause, Gauges};
use ringmq_core::refusal::Refusal;
use world::{SocketId, World};

fuzz_target!(|input: &[u8]| {
    let mut input = Input(input);
    let mut play = Play {
        world: broker::open(&mut input),
        clients: [None; 4],
        sockets: Vec::new(),
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

struct Play {
    world: World,
    /// Connections that the steps speak of.
    clients: [Option<SocketId>; 4],
    /// By socket.
    sockets: Vec<Far>,
}

/// The far end of a connection.
struct Far {
    /// What the client announced.
    version: Version,
    /// Bytes of what it received that it has answered.
    answered: usize,
    /// The last words of an exchange of AUTH packets.
    server_data: Vec<u8>,
}

impl Play {
    fn step(&mut self, input: &mut Input<'_>) {
        let step = input.byte();
        let client = usize::from(step >> 4) % self.clients.len();
        let Some(socket) = self.clients[client] else {
            return self.open(client, step & 0b1000 == 0, input);
        };
        let version = self.sockets[socket].version;
        let mut packet = Vec::new();
        match step & 0b1111 {
            0 => packet.extend_from_slice(input.bytes()),
            1 | 2 => say::subscribe(version, input, &mut packet),
            3 | 4 => say::publish(version, input, &mut packet),
            5 => say::acknowledge(version, input, &mut packet),
            6 => almost(version, input, &mut packet),
            7 => self.wait(input),
            8 | 9 => self.answer(socket, &mut packet),
            10 => say::retain_many(version, input, &mut packet),
            11 => say::request(version, input, &mut packet),
            12 => {
                self.answer(socket, &mut Vec::new());
                let server_data = &self.sockets[socket].server_data;
                say::authenticate(server_data, input, &mut packet);
            }
            13 => say::disconnect(version, input, &mut packet),
            14 => self.happen(client, socket, input),
            _ => {
                // In one segment.
                say::subscribe(version, input, &mut packet);
                say::publish(version, input, &mut packet);
            }
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
        self.sockets.push(Far {
            version,
            answered: 0,
            server_data: Vec::new(),
        });
        if is_valid {
            say::connect(version, input, &mut packet);
        } else {
            packet.extend_from_slice(input.bytes());
        }
        self.world.send(socket, &packet);
        if self.world.is_closed(socket) {
            self.clients[client] = None;
        }
    }

    fn wait(&mut self, input: &mut Input<'_>) {
        let span = u64::from(input.byte());
        self.world.wait(match span {
            0..=127 => Duration::from_secs(span * 3),
            _ => Duration::from_millis(span - 127),
        });
    }

    /// What is not said but happens.
    fn happen(&mut self, client: usize, socket: SocketId, input: &mut Input<'_>) {
        let bits = input.byte();
        match bits % 8 {
            0 => {
                self.world.cut(socket, CloseCause::Failed(104));
                self.clients[client] = None;
            }
            1 | 2 => self.world.stall(socket, true),
            3 => self.world.stall(socket, false),
            4 => {
                let (access, users) = broker::access(bits >> 3);
                self.world.replace_access(access);
                self.world.users = users;
            }
            5 => self.world.users.is_slow = bits & 8 == 0,
            6 => self.world.answer(match bits >> 3 & 3 {
                0 => Some(&Verdict::Denied(Refusal::BadPassword)),
                1 => Some(&Verdict::Unavailable),
                _ => None,
            }),
            // Seldom: hardly anything happens after it.
            _ if bits >= 0xF0 => self.world.shut_down(),
            _ => {}
        }
    }

    /// What a client that keeps to the standard says to all that came since the last time.
    fn answer(&mut self, socket: SocketId, out: &mut Vec<u8>) {
        let far = &mut self.sockets[socket];
        let version = far.version;
        let mut bytes = &self.world.received(socket)[far.answered..];
        let rules = FrameRules {
            version: Some(version),
            size_max: u32::MAX,
            direction: Direction::FromServer,
        };
        let mut framer = Framer::default();
        while let Ok(Some(frame)) = framer.next(&mut bytes, &rules) {
            far.answered += frame.raw.len();
            let (kind, id) = match decode(&frame, version, Direction::FromServer) {
                Ok(Packet::Publish(publish)) => match (publish.qos, publish.packet_id) {
                    (QoS::AtLeastOnce, Some(id)) => (AckKind::Puback, id),
                    (QoS::ExactlyOnce, Some(id)) => (AckKind::Pubrec, id),
                    (_, _) => continue,
                },
                Ok(Packet::Pubrec(ack)) if !ack.reason.is_error() => {
                    (AckKind::Pubrel, ack.packet_id)
                }
                Ok(Packet::Pubrel(ack)) => (AckKind::Pubcomp, ack.packet_id),
                Ok(Packet::Auth(auth)) => {
                    let data = auth.properties.authentication_data.unwrap_or_default();
                    far.server_data = data.to_vec();
                    continue;
                }
                Ok(_) | Err(_) => continue,
            };
            Ack::success(id).encode(kind, version, out);
        }
    }

    fn end(mut self) {
        self.world.users.is_slow = false;
        self.world.answer(None);
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
                // For retained messages that expire, and two for reports.
                timers: gauges.timers.min(gauges.retained + 2),
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
            [0x20 | 0xF0, ..] => Version::V5,
            _ => self.sockets[socket].version,
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

/// A packet with one byte that is not right.
fn almost(version: Version, input: &mut Input<'_>, out: &mut Vec<u8>) {
    match input.byte() & 3 {
        0 => say::publish(version, input, out),
        1 => say::subscribe(version, input, out),
        2 => say::acknowledge(version, input, out),
        _ => say::authenticate(b"", input, out),
    }
    let at = usize::from(input.byte()) % out.len();
    out[at] = input.byte();
}
