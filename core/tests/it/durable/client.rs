//! A client of MQTT 3.1.1 that keeps its session: it answers what it gets, remembers it, and goes on after a crash.

use std::collections::{BTreeMap, BTreeSet};

use crate::world::{SocketId, World};

/// A message that a client publishes: its number, and how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exchange {
    Published(u32, u8),
    /// PUBREC has come.
    Released,
}

#[derive(Debug, Default)]
pub struct Client {
    name: String,
    /// Its session ends with its connection.
    pub is_clean: bool,
    /// What it shows, as the user "u".
    pub password: Option<&'static str>,
    /// The message of its will, of QoS 1.
    pub will: Option<u32>,
    /// With the next packet it says DISCONNECT, in one segment, and closes.
    pub is_leaving: bool,
    socket: Option<SocketId>,
    read: usize,
    is_connected: bool,
    next_id: u16,
    exchanges: BTreeMap<u16, Exchange>,
    /// Identifiers of QoS 2 that were received and not released.
    noted: BTreeSet<u16>,
    /// How often each message came.
    pub got: BTreeMap<u32, u32>,
    /// Messages whose PUBACK or PUBREC came.
    pub acked: BTreeSet<u32>,
    pub is_subscribed: bool,
    pub last_session_present: Option<bool>,
}

impl Client {
    pub fn new(name: &str) -> Client {
        Client {
            name: name.to_owned(),
            ..Client::default()
        }
    }

    pub fn connect(&mut self, world: &mut World) {
        let socket = world.open();
        (self.socket, self.read, self.is_connected) = (Some(socket), 0, false);
        let mut bytes = b"\x10\x00\x00\x04MQTT\x04\x00\x00\x00\x00".to_vec();
        bytes[9] = u8::from(self.is_clean) << 1;
        bytes.push(self.name.len() as u8);
        bytes.extend_from_slice(self.name.as_bytes());
        if let Some(number) = self.will {
            bytes[9] |= 0x0C;
            bytes.extend_from_slice(b"\x00\x01t\x00\x04");
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        if let Some(password) = self.password {
            bytes[9] |= 0xC0;
            for text in ["u", password] {
                bytes.extend_from_slice(&[0, text.len() as u8]);
                bytes.extend_from_slice(text.as_bytes());
            }
        }
        bytes[1] = bytes.len() as u8 - 2;
        world.send(socket, &bytes);
    }

    /// Connects with MQTT 5.0 to its session, which is to end with this connection.
    pub fn connect_for_the_last_time(&mut self, world: &mut World) {
        self.lose();
        let mut bytes = b"\x10\x00\x00\x04MQTT\x05\x00\x00\x00\x00\x00".to_vec();
        bytes.push(self.name.len() as u8);
        bytes.extend_from_slice(self.name.as_bytes());
        bytes[1] = bytes.len() as u8 - 2;
        let socket = world.open();
        world.send(socket, &bytes);
    }

    pub fn is_up(&self, world: &World) -> bool {
        self.is_connected && self.socket.is_some_and(|socket| !world.is_closed(socket))
    }

    /// The broker is gone.
    pub fn lose(&mut self) {
        (self.socket, self.is_connected) = (None, false);
    }

    pub fn cut(&mut self, world: &mut World) {
        if let Some(socket) = self.socket.take() {
            world.cut(socket, ringmq_core::shard::CloseCause::PeerClosed);
        }
        self.is_connected = false;
    }

    pub fn subscribe(&mut self, world: &mut World, filter: &str, qos: u8) {
        let mut bytes = vec![0x82, 0, 0xFF, 0xFF, 0, filter.len() as u8];
        bytes.extend_from_slice(filter.as_bytes());
        bytes.push(qos);
        bytes[1] = bytes.len() as u8 - 2;
        self.send(world, &bytes);
    }

    pub fn publish(&mut self, world: &mut World, number: u32, qos: u8) {
        if self.exchanges.len() > 3 {
            return;
        }
        self.next_id = self.next_id % 1000 + 1;
        let id = self.next_id;
        self.exchanges.insert(id, Exchange::Published(number, qos));
        self.send_publish(world, id, number, qos, false);
    }

    pub fn send_publish(&mut self, world: &mut World, id: u16, number: u32, qos: u8, dup: bool) {
        let mut bytes = vec![0x30 | qos << 1 | u8::from(dup) << 3, 9, 0, 1, b't'];
        bytes.extend_from_slice(&id.to_be_bytes());
        bytes.extend_from_slice(&number.to_be_bytes());
        self.send(world, &bytes);
    }

    pub fn publish_retained(&mut self, world: &mut World, topic: u8, number: u32) -> u16 {
        self.retain(world, topic, number, 1)
    }

    pub fn retain(&mut self, world: &mut World, topic: u8, number: u32, qos: u8) -> u16 {
        self.next_id = self.next_id % 1000 + 1;
        let id = self.next_id;
        self.exchanges.insert(id, Exchange::Published(number, qos));
        let mut bytes = vec![0x31 | qos << 1, 9, 0, 1, topic];
        bytes.extend_from_slice(&id.to_be_bytes());
        bytes.extend_from_slice(&number.to_be_bytes());
        self.send(world, &bytes);
        id
    }

    pub fn send(&mut self, world: &mut World, bytes: &[u8]) {
        let Some(socket) = self.socket else { return };
        if std::mem::take(&mut self.is_leaving) {
            world.send(socket, &[bytes, b"\xE0\x00"].concat());
            self.lose();
        } else {
            world.send(socket, bytes);
        }
    }

    pub fn unsubscribe(&mut self, world: &mut World, filter: &str) {
        let mut bytes = vec![0xA2, 0, 0xFF, 0xFE, 0, filter.len() as u8];
        bytes.extend_from_slice(filter.as_bytes());
        bytes[1] = bytes.len() as u8 - 2;
        self.send(world, &bytes);
    }

    /// Reads what has come and answers it. True if there was something.
    pub fn read(&mut self, world: &mut World) -> bool {
        let Some(socket) = self.socket else {
            return false;
        };
        let packet = {
            let rest = &world.received(socket)[self.read..];
            if rest.len() < 2 || rest.len() < 2 + usize::from(rest[1]) {
                return false;
            }
            rest[..2 + usize::from(rest[1])].to_vec()
        };
        self.read += packet.len();
        self.on_packet(world, &packet);
        true
    }

    fn on_packet(&mut self, world: &mut World, packet: &[u8]) {
        let id = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        let answer = |kind: u8, id: u16| [kind, 2, (id >> 8) as u8, id as u8];
        match packet[0] >> 4 {
            2 => {
                assert!(!self.is_connected && packet[3] == 0, "{packet:?}");
                self.is_connected = true;
                self.last_session_present = Some(packet[2] == 1);
                for (id, exchange) in self.exchanges.clone() {
                    match exchange {
                        Exchange::Published(number, qos) => {
                            self.send_publish(world, id, number, qos, true);
                        }
                        Exchange::Released => self.send(world, &answer(0x62, id)),
                    }
                }
            }
            3 => self.on_publish(world, packet),
            4 => {
                if let Some(Exchange::Published(number, 1)) = self.exchanges.remove(&id(2)) {
                    self.acked.insert(number);
                }
            }
            5 => {
                if let Some(Exchange::Published(number, 2)) =
                    self.exchanges.insert(id(2), Exchange::Released)
                {
                    self.acked.insert(number);
                }
                self.send(world, &answer(0x62, id(2)));
            }
            6 => {
                self.noted.remove(&id(2));
                self.send(world, &answer(0x70, id(2)));
            }
            7 => _ = self.exchanges.remove(&id(2)),
            9 => self.is_subscribed = true,
            _ => panic!("{packet:?}"),
        }
    }

    fn on_publish(&mut self, world: &mut World, packet: &[u8]) {
        assert!(self.is_connected, "CONNACK comes first");
        let qos = packet[0] >> 1 & 3;
        let id = u16::from_be_bytes([packet[5], packet[6]]);
        let number = packet.last_chunk::<4>().expect("payloads are numbers");
        let number = u32::from_be_bytes(*number);
        match qos {
            0 => *self.got.entry(number).or_default() += 1,
            1 => {
                *self.got.entry(number).or_default() += 1;
                self.send(world, &[0x40, 2, packet[5], packet[6]]);
            }
            _ => {
                if self.noted.insert(id) {
                    *self.got.entry(number).or_default() += 1;
                }
                self.send(world, &[0x50, 2, packet[5], packet[6]]);
            }
        }
    }

    /// Nothing of its own is under way.
    pub fn is_idle(&self) -> bool {
        self.exchanges.is_empty()
    }
}
