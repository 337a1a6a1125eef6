//! The clients' side: what they send, and what they owe for what they got.

use ringmq_core::codec::{
    Ack, AckKind, Connect, ConnectProperties, Direction, Filters, FrameRules, Framer, Packet,
    Publish, PublishProperties, QoS, Subscribe, SubscribeOptions, Subscription, Subscriptions,
    Unsubscribe, Version, decode,
};
use ringmq_core::ids::PacketId;

/// The CONNECT of a client of its own.
pub fn connect(version: Version, client_id: &str) -> Vec<u8> {
    connect_with(version, client_id, ConnectProperties::default())
}

/// The same, with properties.
pub fn connect_with(
    version: Version,
    client_id: &str,
    properties: ConnectProperties<'_>,
) -> Vec<u8> {
    let connect = Connect {
        is_bridge: false,
        version,
        clean_start: true,
        keep_alive: 600,
        client_id,
        will: None,
        user_name: None,
        password: None,
        properties,
    };
    let mut bytes = Vec::new();
    connect.encode(&mut bytes);
    bytes
}

/// A SUBSCRIBE with one filter.
pub fn subscribe(version: Version, filter: &str, qos: QoS) -> Vec<u8> {
    subscribe_all(version, &[filter], qos)
}

/// A SUBSCRIBE with many filters.
pub fn subscribe_all(version: Version, filters: &[impl AsRef<str>], qos: QoS) -> Vec<u8> {
    let line = |filter| Subscription {
        filter,
        options: SubscribeOptions::with_qos(qos),
    };
    let lines: Vec<Subscription<'_>> = filters.iter().map(|f| line(f.as_ref())).collect();
    let subscribe = Subscribe {
        packet_id: PacketId::new(1).expect("not zero"),
        subscription_id: None,
        filters: Subscriptions::listed(&lines),
        user_properties: Default::default(),
    };
    let mut bytes = Vec::new();
    subscribe.encode(version, &mut bytes);
    bytes
}

/// An UNSUBSCRIBE with one filter.
pub fn unsubscribe(version: Version, filter: &str) -> Vec<u8> {
    unsubscribe_all(version, &[filter])
}

/// An UNSUBSCRIBE with many filters.
pub fn unsubscribe_all(version: Version, filters: &[impl AsRef<str>]) -> Vec<u8> {
    let filters: Vec<&str> = filters.iter().map(AsRef::as_ref).collect();
    let unsubscribe = Unsubscribe {
        packet_id: PacketId::new(1).expect("not zero"),
        filters: Filters::listed(&filters),
        user_properties: Default::default(),
    };
    let mut bytes = Vec::new();
    unsubscribe.encode(version, &mut bytes);
    bytes
}

/// One PUBLISH with identifier 1, retained or with an expiry.
pub fn publish_with(
    version: Version,
    topic: &str,
    qos: QoS,
    retain: bool,
    expiry_s: Option<u32>,
    payload: &[u8],
) -> Vec<u8> {
    let publish = Publish {
        dup: false,
        qos,
        retain,
        topic: topic.as_bytes(),
        packet_id: PacketId::new(1).filter(|_| qos > QoS::AtMostOnce),
        properties: PublishProperties {
            message_expiry_s: expiry_s,
            ..PublishProperties::default()
        },
        payload,
    };
    let mut bytes = Vec::new();
    publish.encode(version, &mut bytes);
    bytes
}

/// `count` PUBLISH packets in a row, identifiers from 1 on.
pub fn publishes(version: Version, topic: &str, qos: QoS, size: usize, count: u16) -> Vec<u8> {
    let payload = vec![b'x'; size];
    let mut bytes = Vec::new();
    for id in 1..=count {
        let publish = Publish {
            dup: false,
            qos,
            retain: false,
            topic: topic.as_bytes(),
            packet_id: PacketId::new(id).filter(|_| qos > QoS::AtMostOnce),
            properties: PublishProperties::default(),
            payload: &payload,
        };
        publish.encode(version, &mut bytes);
    }
    bytes
}

/// Appends what a client owes for the whole packets in `bytes`; returns how many of them were
/// PUBLISH.
pub fn answer(version: Version, bytes: &[u8], out: &mut Vec<u8>) -> u64 {
    let mut published = 0;
    let mut framer = Framer::default();
    let rules = FrameRules {
        version: Some(version),
        size_max: u32::MAX,
        direction: Direction::FromServer,
    };
    let mut input = bytes;
    while let Some(frame) = framer.next(&mut input, &rules).expect("valid packets") {
        let packet = decode(&frame, version, Direction::FromServer).expect("a valid packet");
        let mut owe = |id, kind| Ack::success(id).encode(kind, version, out);
        match packet {
            Packet::Publish(publish) => {
                published += 1;
                match (publish.qos, publish.packet_id) {
                    (QoS::AtLeastOnce, Some(id)) => owe(id, AckKind::Puback),
                    (QoS::ExactlyOnce, Some(id)) => owe(id, AckKind::Pubrec),
                    _ => {}
                }
            }
            Packet::Pubrec(ack) => owe(ack.packet_id, AckKind::Pubrel),
            Packet::Pubrel(ack) => owe(ack.packet_id, AckKind::Pubcomp),
            _ => {}
        }
    }
    published
}
