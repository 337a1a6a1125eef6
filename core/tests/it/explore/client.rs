//! A client that keeps its session over reconnects, as the standard demands of it.

use std::collections::VecDeque;

use ringmq_core::codec::{
    Ack, AckKind, Connect, ConnectProperties, Direction, FrameRules, Framer, Packet, Publish,
    PublishProperties, QoS, Subscribe, SubscribeOptions, Subscription, Subscriptions, Version,
    decode,
};
use ringmq_core::ids::PacketId;

use crate::world::{SocketId, World};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Publisher,
    Subscriber,
}

/// What both clients speak.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub version: Version,
    /// What the subscriber states, and what the publisher keeps to; 0: nothing.
    pub receive_maximum: u16,
}

#[derive(Debug)]
pub struct Client {
    role: Role,
    terms: Terms,
    pub socket: SocketId,
    pub is_online: bool,
    /// Bytes of the socket that were cut into packets.
    collected: usize,
    /// Packets on their way to the broker.
    pub outgoing: VecDeque<Vec<u8>>,
    /// Packets on their way from the broker.
    pub incoming: VecDeque<Vec<u8>>,
    /// Messages published so far; the last is the payload of the last.
    pub published: u8,
    /// What the publisher has open, in order.
    open: Vec<Open>,
    /// QoS 2 identifiers that the subscriber has received and not released.
    receipts: Vec<PacketId>,
    /// What the broker has sent on this connection and not heard the last of.
    held: Vec<PacketId>,
    /// Payloads that the subscriber's application got.
    pub delivered: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Open {
    id: PacketId,
    message: u8,
    qos: QoS,
    /// PUBREC came: only PUBREL is sent again.
    is_released: bool,
}

impl Client {
    pub fn connect(world: &mut World, role: Role, terms: Terms) -> Client {
        let mut client = Client {
            role,
            terms,
            socket: 0,
            is_online: false,
            collected: 0,
            outgoing: VecDeque::new(),
            incoming: VecDeque::new(),
            published: 0,
            open: Vec::new(),
            receipts: Vec::new(),
            held: Vec::new(),
            delivered: Vec::new(),
        };
        client.open_connection(world, false);
        client
    }

    /// The connection is gone, with what is on its way.
    pub fn lose(&mut self) {
        self.is_online = false;
        self.outgoing.clear();
        self.incoming.clear();
    }

    /// After a loss: resumes, and sends again what is open [MQTT-4.4.0-1].
    pub fn reconnect(&mut self, world: &mut World) {
        self.open_connection(world, true);
        for open in self.open.clone() {
            self.outgoing.push_back(match open.is_released {
                true => self.encode_ack(AckKind::Pubrel, open.id),
                false => self.encode_publish(open, true),
            });
        }
    }

    fn open_connection(&mut self, world: &mut World, session_present: bool) {
        self.socket = world.open();
        self.is_online = true;
        self.collected = 0;
        self.held.clear();
        let is_v5 = self.terms.version == Version::V5;
        let connect = Connect {
            is_bridge: false,
            version: self.terms.version,
            clean_start: false,
            keep_alive: 0,
            client_id: match self.role {
                Role::Publisher => "publisher",
                Role::Subscriber => "subscriber",
            },
            will: None,
            user_name: None,
            password: None,
            properties: ConnectProperties {
                session_expiry_s: is_v5.then_some(1000),
                receive_maximum: self.takes_only(),
                ..ConnectProperties::default()
            },
        };
        let mut bytes = Vec::new();
        connect.encode(&mut bytes);
        world.send(self.socket, &bytes);
        self.collect(world);
        let connack = self.incoming.pop_front().expect("CONNACK comes at once");
        assert_eq!(connack[0], 0x20);
        assert_eq!(connack[2] == 1, session_present, "session present");
        assert_eq!(connack[3], 0, "accepted");
    }

    /// The Receive Maximum that its CONNECT states.
    fn takes_only(&self) -> Option<u16> {
        (self.role == Role::Subscriber && self.terms.receive_maximum > 0)
            .then_some(self.terms.receive_maximum)
    }

    /// The Receive Maximum of the broker has room for one more [MQTT-3.3.4-7].
    pub fn may_publish(&self) -> bool {
        let maximum = usize::from(self.terms.receive_maximum);
        maximum == 0 || self.open.len() < maximum
    }

    pub fn subscribe(&mut self, world: &mut World) {
        let lines = [Subscription {
            filter: "t",
            options: SubscribeOptions::with_qos(QoS::ExactlyOnce),
        }];
        let subscribe = Subscribe {
            packet_id: PacketId::new(1).expect("not zero"),
            subscription_id: None,
            filters: Subscriptions::listed(&lines),
            user_properties: Default::default(),
        };
        let mut bytes = Vec::new();
        subscribe.encode(self.terms.version, &mut bytes);
        world.send(self.socket, &bytes);
        self.collect(world);
        let suback = self.incoming.pop_front().expect("SUBACK comes at once");
        assert_eq!(suback[0], 0x90);
    }

    pub fn publish(&mut self, qos: QoS) {
        self.published += 1;
        // The lowest identifier that is free: reuse is what goes wrong first.
        let id = (1..)
            .filter_map(PacketId::new)
            .find(|id| self.open.iter().all(|open| open.id != *id))
            .expect("there are more identifiers than messages");
        let open = Open {
            id,
            message: self.published,
            qos,
            is_released: false,
        };
        self.open.push(open);
        self.outgoing.push_back(self.encode_publish(open, false));
    }

    /// Takes over what the broker sent since, packet by packet.
    pub fn collect(&mut self, world: &World) {
        let mut input = &world.received(self.socket)[self.collected..];
        self.collected += input.len();
        let rules = FrameRules {
            version: Some(self.terms.version),
            size_max: u32::MAX,
            direction: Direction::FromServer,
        };
        let mut framer = Framer::default();
        while let Some(frame) = framer
            .next(&mut input, &rules)
            .expect("the broker's frames")
        {
            let packet = decode(&frame, self.terms.version, Direction::FromServer);
            if let Ok(Packet::Publish(publish)) = packet {
                self.held.extend(publish.packet_id);
            }
            self.incoming.push_back(frame.raw.to_vec());
        }
        // [MQTT-3.3.4-9] [MQTT-4.9.0-1]
        let maximum = self.takes_only().map_or(usize::MAX, usize::from);
        assert!(self.held.len() <= maximum, "{:?} are open", self.held);
    }

    /// Takes the oldest packet that is on its way to the broker.
    pub fn send(&mut self) -> Vec<u8> {
        let packet = self.outgoing.pop_front().expect("steps saw a packet");
        // PUBACK and PUBCOMP give a unit of the Receive Maximum back.
        if let [0x40 | 0x70, _, high, low, ..] = packet[..] {
            let id = u16::from_be_bytes([high, low]);
            self.held.retain(|held| held.get() != id);
        }
        packet
    }

    /// Handles the oldest packet from the broker.
    pub fn receive(&mut self) {
        let bytes = self.incoming.pop_front().expect("steps saw a packet");
        let rules = FrameRules {
            version: Some(self.terms.version),
            size_max: u32::MAX,
            direction: Direction::FromServer,
        };
        let mut input = &bytes[..];
        let mut framer = Framer::default();
        let frame = framer
            .next(&mut input, &rules)
            .expect("a frame")
            .expect("whole");
        match decode(&frame, self.terms.version, Direction::FromServer).expect("a packet") {
            Packet::Publish(publish) => self.on_publish(&publish),
            Packet::Puback(ack) => self.settle(ack.packet_id, QoS::AtLeastOnce),
            Packet::Pubrec(ack) => {
                if let Some(open) = self.open.iter_mut().find(|open| open.id == ack.packet_id) {
                    open.is_released = true;
                }
                self.outgoing
                    .push_back(self.encode_ack(AckKind::Pubrel, ack.packet_id));
            }
            Packet::Pubrel(ack) => {
                self.receipts.retain(|id| *id != ack.packet_id);
                self.outgoing
                    .push_back(self.encode_ack(AckKind::Pubcomp, ack.packet_id));
            }
            Packet::Pubcomp(ack) => self.settle(ack.packet_id, QoS::ExactlyOnce),
            other => panic!("nobody asked for {other:?}"),
        }
    }

    fn on_publish(&mut self, publish: &Publish<'_>) {
        let id = publish.packet_id.expect("QoS 1 and 2 only");
        let message = publish.payload[0];
        match publish.qos {
            QoS::AtMostOnce => panic!("QoS 0 was not asked for"),
            QoS::AtLeastOnce => {
                self.delivered.push(message);
                self.outgoing
                    .push_back(self.encode_ack(AckKind::Puback, id));
            }
            QoS::ExactlyOnce => {
                if self.receipts.contains(&id) {
                    assert!(publish.dup, "a repetition says so [MQTT-3.3.1-1]");
                } else {
                    self.receipts.push(id);
                    self.delivered.push(message);
                }
                self.outgoing
                    .push_back(self.encode_ack(AckKind::Pubrec, id));
            }
        }
    }

    /// The exchange is complete. An answer to a repetition may come after that.
    fn settle(&mut self, id: PacketId, qos: QoS) {
        self.open.retain(|open| open.id != id || open.qos != qos);
    }

    pub fn is_settled(&self) -> bool {
        self.open.is_empty()
    }

    fn encode_publish(&self, open: Open, dup: bool) -> Vec<u8> {
        let publish = Publish {
            dup,
            qos: open.qos,
            retain: false,
            topic: b"t",
            packet_id: Some(open.id),
            properties: PublishProperties::default(),
            payload: &[open.message],
        };
        let mut bytes = Vec::new();
        publish.encode(self.terms.version, &mut bytes);
        bytes
    }

    fn encode_ack(&self, kind: AckKind, id: PacketId) -> Vec<u8> {
        let mut bytes = Vec::new();
        Ack::success(id).encode(kind, self.terms.version, &mut bytes);
        bytes
    }
}
