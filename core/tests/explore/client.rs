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

#[derive(Debug)]
pub struct Client {
    role: Role,
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
    pub fn connect(world: &mut World, role: Role) -> Client {
        let mut client = Client {
            role,
            socket: 0,
            is_online: false,
            collected: 0,
            outgoing: VecDeque::new(),
            incoming: VecDeque::new(),
            published: 0,
            open: Vec::new(),
            receipts: Vec::new(),
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
                true => encode_ack(AckKind::Pubrel, open.id),
                false => encode_publish(open, true),
            });
        }
    }

    fn open_connection(&mut self, world: &mut World, session_present: bool) {
        self.socket = world.open();
        self.is_online = true;
        self.collected = 0;
        let connect = Connect {
            version: Version::V5,
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
                session_expiry_s: Some(1000),
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
        subscribe.encode(Version::V5, &mut bytes);
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
        self.outgoing.push_back(encode_publish(open, false));
    }

    /// Takes over what the broker sent since, packet by packet.
    pub fn collect(&mut self, world: &World) {
        let mut input = &world.received(self.socket)[self.collected..];
        self.collected += input.len();
        let rules = FrameRules {
            version: Some(Version::V5),
            size_max: u32::MAX,
            direction: Direction::FromServer,
        };
        let mut framer = Framer::default();
        while let Some(frame) = framer
            .next(&mut input, &rules)
            .expect("the broker's frames")
        {
            self.incoming.push_back(frame.raw.to_vec());
        }
    }

    /// Handles the oldest packet from the broker.
    pub fn receive(&mut self) {
        let bytes = self.incoming.pop_front().expect("steps saw a packet");
        let rules = FrameRules {
            version: Some(Version::V5),
            size_max: u32::MAX,
            direction: Direction::FromServer,
        };
        let mut input = &bytes[..];
        let mut framer = Framer::default();
        let frame = framer
            .next(&mut input, &rules)
            .expect("a frame")
            .expect("whole");
        match decode(&frame, Version::V5, Direction::FromServer).expect("a packet") {
            Packet::Publish(publish) => self.on_publish(&publish),
            Packet::Puback(ack) => self.settle(ack.packet_id, QoS::AtLeastOnce),
            Packet::Pubrec(ack) => {
                if let Some(open) = self.open.iter_mut().find(|open| open.id == ack.packet_id) {
                    open.is_released = true;
                }
                self.outgoing
                    .push_back(encode_ack(AckKind::Pubrel, ack.packet_id));
            }
            Packet::Pubrel(ack) => {
                self.receipts.retain(|id| *id != ack.packet_id);
                self.outgoing
                    .push_back(encode_ack(AckKind::Pubcomp, ack.packet_id));
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
                self.outgoing.push_back(encode_ack(AckKind::Puback, id));
            }
            QoS::ExactlyOnce => {
                if self.receipts.contains(&id) {
                    assert!(publish.dup, "a repetition says so [MQTT-3.3.1-1]");
                } else {
                    self.receipts.push(id);
                    self.delivered.push(message);
                }
                self.outgoing.push_back(encode_ack(AckKind::Pubrec, id));
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
}

fn encode_publish(open: Open, dup: bool) -> Vec<u8> {
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
    publish.encode(Version::V5, &mut bytes);
    bytes
}

fn encode_ack(kind: AckKind, id: PacketId) -> Vec<u8> {
    let mut bytes = Vec::new();
    Ack::success(id).encode(kind, Version::V5, &mut bytes);
    bytes
}
