//! One packet of each kind, as it is on the wire.

use ringmq_core::codec::{
    Ack, AckKind, Auth, AuthProperties, Connack, ConnackProperties, Connect, ConnectProperties,
    Direction, Disconnect, Filters, Publish, PublishProperties, QoS, ReasonCode, ReasonProperties,
    Reasons, Suback, Subscribe, SubscribeOptions, Subscription, Subscriptions, Unsuback,
    Unsubscribe, Version, Will, WillProperties, encode_pingreq, encode_pingresp,
};
use ringmq_core::ids::PacketId;

/// A packet.
pub struct Sample {
    /// Its name in the standard.
    pub name: &'static str,
    /// Who sends it.
    pub direction: Direction,
    /// As it is on the wire.
    pub bytes: Vec<u8>,
}

/// Typical packets of every kind that the version has.
pub fn samples(version: Version) -> Vec<Sample> {
    let mut all = from_client(version);
    all.extend(from_server(version));
    if version == Version::V5 {
        all.push(sample("AUTH", Direction::FromClient, |out| {
            auth().encode(out)
        }));
    }
    all
}

/// The client's last message of a SCRAM exchange, as long as it usually is.
fn auth() -> Auth<'static> {
    Auth {
        reason: ReasonCode::ContinueAuthentication,
        properties: AuthProperties {
            authentication_method: Some("SCRAM-SHA-256"),
            authentication_data: Some(&[b'x'; 104]),
            ..AuthProperties::default()
        },
    }
}

fn connect(version: Version) -> Connect<'static> {
    Connect {
        is_bridge: false,
        version,
        clean_start: true,
        keep_alive: 60,
        client_id: "device-4711",
        will: Some(Will {
            qos: QoS::AtLeastOnce,
            retain: true,
            topic: "site/17/device/4711/online",
            payload: b"0",
            properties: WillProperties::default(),
        }),
        user_name: Some("device"),
        password: Some(b"secret"),
        properties: ConnectProperties::default(),
    }
}

fn sample(name: &'static str, direction: Direction, encode: impl FnOnce(&mut Vec<u8>)) -> Sample {
    let mut bytes = Vec::new();
    encode(&mut bytes);
    Sample {
        name,
        direction,
        bytes,
    }
}

fn id() -> PacketId {
    PacketId::new(4711).expect("not zero")
}

fn publish(qos: QoS) -> Publish<'static> {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic: b"site/17/device/4711/temperature",
        packet_id: (qos > QoS::AtMostOnce).then(id),
        properties: PublishProperties::default(),
        payload: &[b'x'; 64],
    }
}

fn from_client(version: Version) -> Vec<Sample> {
    let client = Direction::FromClient;
    let lines = [Subscription {
        filter: "site/17/device/4711/command/#",
        options: SubscribeOptions::with_qos(QoS::AtLeastOnce),
    }];
    let subscribe = Subscribe {
        packet_id: id(),
        subscription_id: None,
        filters: Subscriptions::listed(&lines),
        user_properties: Default::default(),
    };
    let filters = ["site/17/device/4711/command/#"];
    let unsubscribe = Unsubscribe {
        packet_id: id(),
        filters: Filters::listed(&filters),
        user_properties: Default::default(),
    };
    let ack = |name, kind| {
        sample(name, client, |out| {
            Ack::success(id()).encode(kind, version, out)
        })
    };
    let answer = PublishProperties {
        response_topic: Some("site/17/answers"),
        correlation_data: Some(b"0123456789abcdef"),
        content_type: Some("application/json"),
        message_expiry_s: Some(60),
        ..PublishProperties::default()
    };
    vec![
        sample("CONNECT", client, |out| connect(version).encode(out)),
        sample("PUBLISH QoS 0", client, |out| {
            publish(QoS::AtMostOnce).encode(version, out)
        }),
        sample("PUBLISH QoS 1", client, |out| {
            publish(QoS::AtLeastOnce).encode(version, out)
        }),
        sample("PUBLISH QoS 2", client, |out| {
            publish(QoS::ExactlyOnce).encode(version, out)
        }),
        sample("PUBLISH with properties", client, |out| {
            let properties = answer;
            Publish {
                properties,
                ..publish(QoS::AtLeastOnce)
            }
            .encode(version, out);
        }),
        ack("PUBACK", AckKind::Puback),
        ack("PUBREC", AckKind::Pubrec),
        ack("PUBREL", AckKind::Pubrel),
        ack("PUBCOMP", AckKind::Pubcomp),
        sample("SUBSCRIBE", client, |out| subscribe.encode(version, out)),
        sample("UNSUBSCRIBE", client, |out| {
            unsubscribe.encode(version, out)
        }),
        sample("PINGREQ", client, encode_pingreq),
        sample("DISCONNECT", client, |out| {
            Disconnect::new(ReasonCode::Success).encode(version, out);
        }),
    ]
}

fn from_server(version: Version) -> Vec<Sample> {
    let server = Direction::FromServer;
    let connack = Connack {
        session_present: true,
        reason: ReasonCode::Success,
        properties: ConnackProperties {
            receive_maximum: Some(1024),
            maximum_packet_size: Some(1 << 20),
            topic_alias_maximum: Some(1024),
            ..ConnackProperties::default()
        },
    };
    let reasons = [ReasonCode::GrantedQos1];
    let suback = Suback {
        packet_id: id(),
        reasons: Reasons::listed(&reasons),
        properties: ReasonProperties::EMPTY,
    };
    let unsubscribed = [ReasonCode::Success];
    let unsuback = Unsuback {
        packet_id: id(),
        reasons: Reasons::listed(&unsubscribed),
        properties: ReasonProperties::EMPTY,
    };
    vec![
        sample("CONNACK", server, |out| connack.encode(version, out)),
        sample("SUBACK", server, |out| suback.encode(version, out)),
        sample("UNSUBACK", server, |out| unsuback.encode(version, out)),
        sample("PINGRESP", server, encode_pingresp),
    ]
}
