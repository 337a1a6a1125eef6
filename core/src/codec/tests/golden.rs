//! Bytes of each packet, written by hand from the standard.

use std::num::NonZeroU32;

use super::*;
use crate::ids::PacketId;
use Direction::{FromClient, FromServer};
use Version::{V5, V31, V311};

fn packet_id(value: u16) -> PacketId {
    PacketId::new(value).unwrap()
}

/// `text` decodes to `packet`, and `packet` encodes to `text`.
fn check(version: Version, direction: Direction, text: &str, packet: Packet<'_>) {
    let expected = bytes(text);
    let mut framer = Framer::default();
    let frame = whole_frame(&mut framer, &expected, &rules(version, direction)).unwrap();
    assert_eq!(frame.raw, expected);
    assert_eq!(decode(&frame, version, direction), Ok(packet), "{text}");
    let mut out = vec![0xEE];
    packet.encode(version, &mut out);
    assert_eq!(out[1..], expected, "{text}");
}

/// `text` decodes to `packet`, which has a shorter encoding.
fn check_decode(version: Version, direction: Direction, text: &str, packet: Packet<'_>) {
    let packet_bytes = bytes(text);
    let mut framer = Framer::default();
    let frame = whole_frame(&mut framer, &packet_bytes, &rules(version, direction)).unwrap();
    assert_eq!(decode(&frame, version, direction), Ok(packet), "{text}");
}

/// Encoded user properties.
fn user<'a>(buffer: &'a mut Vec<u8>, pairs: &[(&str, &str)]) -> UserProperties<'a> {
    for &pair in pairs {
        UserProperties::push(buffer, pair);
    }
    UserProperties::parse(buffer).unwrap()
}

fn plain_connect(version: Version) -> Connect<'static> {
    Connect {
        is_bridge: false,
        version,
        clean_start: true,
        keep_alive: 60,
        client_id: "ab",
        will: None,
        user_name: None,
        password: None,
        properties: ConnectProperties::default(),
    }
}

#[test]
fn connect() {
    check(
        V31,
        FromClient,
        "10 10  00 06 'MQIsdp 03 02 00 3C  00 02 'ab",
        Packet::Connect(plain_connect(V31)),
    );
    check(
        V311,
        FromClient,
        "10 0E  00 04 'MQTT 04 02 00 3C  00 02 'ab",
        Packet::Connect(plain_connect(V311)),
    );
    check(
        V5,
        FromClient,
        "10 0F  00 04 'MQTT 05 02 00 3C 00  00 02 'ab",
        Packet::Connect(plain_connect(V5)),
    );
    check(
        V311,
        FromClient,
        "10 1D  00 04 'MQTT 04 F4 FF FF  00 00  00 01 'w 00 02 00 FF  00 03 'bob 00 03 70 00 80",
        Packet::Connect(Connect {
            is_bridge: false,
            clean_start: false,
            keep_alive: 65_535,
            client_id: "",
            will: Some(Will {
                qos: QoS::ExactlyOnce,
                retain: true,
                topic: "w",
                payload: &[0x00, 0xFF],
                properties: WillProperties::default(),
            }),
            user_name: Some("bob"),
            password: Some(&[0x70, 0x00, 0x80]),
            ..plain_connect(V311)
        }),
    );
}

#[test]
fn connect_with_every_property() {
    let (mut connect_user, mut will_user) = (Vec::new(), Vec::new());
    check(
        V5,
        FromClient,
        "10 65  00 04 'MQTT 05 4E 00 00 \
         24  11 FF FF FF FF  21 FF FF  27 00 00 00 01  22 00 0A  19 01  17 00 \
             15 00 01 'm  16 00 02 00 01  26 00 01 'k 00 01 'v \
         00 02 'ab \
         28  18 00 00 00 05  01 01  02 00 00 00 3C  03 00 01 'c  08 00 03 'a/b  09 00 01 FF \
             26 00 01 'k 00 01 '1  26 00 01 'k 00 01 '2 \
         00 01 'w 00 00  00 02 'pw",
        Packet::Connect(Connect {
            is_bridge: false,
            keep_alive: 0,
            will: Some(Will {
                qos: QoS::AtLeastOnce,
                retain: false,
                topic: "w",
                payload: &[],
                properties: WillProperties {
                    delay_s: Some(5),
                    payload_format: Some(true),
                    message_expiry_s: Some(60),
                    content_type: Some("c"),
                    response_topic: Some("a/b"),
                    correlation_data: Some(&[0xFF]),
                    user_properties: user(&mut will_user, &[("k", "1"), ("k", "2")]),
                    raw: &[],
                },
            }),
            // [MQTT-3.1.2-19] A password without a user name is legal in 5.0.
            password: Some(b"pw"),
            properties: ConnectProperties {
                session_expiry_s: Some(u32::MAX),
                receive_maximum: Some(65_535),
                maximum_packet_size: Some(1),
                topic_alias_maximum: Some(10),
                request_response_information: Some(true),
                request_problem_information: Some(false),
                authentication_method: Some("m"),
                authentication_data: Some(&[0, 1]),
                user_properties: user(&mut connect_user, &[("k", "v")]),
            },
            ..plain_connect(V5)
        }),
    );
}

#[test]
fn a_v31_connect_may_end_before_the_user_name() {
    let packet = bytes("10 10  00 06 'MQIsdp 03 C2 00 3C  00 02 'ab");
    let mut framer = Framer::default();
    let frame = whole_frame(&mut framer, &packet, &rules(V31, FromClient)).unwrap();
    assert_eq!(Connect::decode(&frame), Ok(plain_connect(V31)));
}

#[test]
fn connack() {
    let accepted = Connack::new(true, ReasonCode::Success);
    check(V311, FromServer, "20 02 01 00", Packet::Connack(accepted));
    check(V5, FromServer, "20 03 01 00 00", Packet::Connack(accepted));
    check(
        V31,
        FromServer,
        "20 02 00 04",
        Packet::Connack(Connack::new(false, ReasonCode::BadUserNameOrPassword)),
    );
    // [MQTT-3.1.3-8] of 3.1.1
    check(
        V311,
        FromServer,
        "20 02 00 02",
        Packet::Connack(Connack::new(false, ReasonCode::ClientIdentifierNotValid)),
    );
    check(
        V5,
        FromServer,
        "20 03 00 87 00",
        Packet::Connack(Connack::new(false, ReasonCode::NotAuthorized)),
    );
    let mut buffer = Vec::new();
    check(
        V5,
        FromServer,
        "20 42 00 00 3F  11 00 00 00 01  21 00 01  24 01  25 00  27 00 00 10 00  12 00 02 'id \
         22 00 05  1F 00 01 'r  26 00 01 'k 00 01 'v  28 01  29 00  2A 01  13 00 1E  1A 00 02 'ri \
         1C 00 02 'sr  15 00 01 'm  16 00 01 AB",
        Packet::Connack(Connack {
            session_present: false,
            reason: ReasonCode::Success,
            properties: ConnackProperties {
                session_expiry_s: Some(1),
                receive_maximum: Some(1),
                maximum_qos: Some(QoS::AtLeastOnce),
                retain_available: Some(false),
                maximum_packet_size: Some(4096),
                assigned_client_id: Some("id"),
                topic_alias_maximum: Some(5),
                reason_string: Some("r"),
                user_properties: user(&mut buffer, &[("k", "v")]),
                wildcard_available: Some(true),
                subscription_ids_available: Some(false),
                shared_available: Some(true),
                server_keep_alive: Some(30),
                response_information: Some("ri"),
                server_reference: Some("sr"),
                authentication_method: Some("m"),
                authentication_data: Some(&[0xAB]),
            },
        }),
    );
}

#[test]
fn a_refusal_never_says_session_present() {
    // [MQTT-3.2.2-6]
    for (version, expected) in [
        (V31, "20 02 00 03"),
        (V311, "20 02 00 03"),
        (V5, "20 03 00 97 00"),
    ] {
        let mut out = Vec::new();
        Connack::new(true, ReasonCode::QuotaExceeded).encode(version, &mut out);
        assert_eq!(out, bytes(expected));
    }
}

const PUBLISH: Publish<'static> = Publish {
    dup: false,
    qos: QoS::AtMostOnce,
    retain: false,
    topic: b"a/b",
    packet_id: None,
    properties: PublishProperties {
        payload_format: None,
        message_expiry_s: None,
        topic_alias: None,
        response_topic: None,
        correlation_data: None,
        content_type: None,
        subscription_ids: SubscriptionIds::NONE,
        user_properties: UserProperties::NONE,
        raw: &[],
    },
    payload: b"",
};

#[test]
fn publish() {
    for direction in DIRECTIONS {
        for (version, text, packet) in [
            (V31, "30 05 00 03 'a/b", PUBLISH),
            (
                V311,
                "31 07 00 03 'a/b 'hi",
                Publish {
                    retain: true,
                    payload: b"hi",
                    ..PUBLISH
                },
            ),
            (
                V311,
                "3A 08 00 03 'a/b FF FE 00",
                Publish {
                    dup: true,
                    qos: QoS::AtLeastOnce,
                    packet_id: PacketId::new(0xFFFE),
                    payload: &[0],
                    ..PUBLISH
                },
            ),
            (
                V5,
                "34 09 00 03 'a/b 00 01 00 'x",
                Publish {
                    qos: QoS::ExactlyOnce,
                    packet_id: PacketId::new(1),
                    payload: b"x",
                    ..PUBLISH
                },
            ),
            (
                V5,
                "30 06 00 00 03 23 00 01",
                Publish {
                    topic: b"",
                    properties: PublishProperties {
                        topic_alias: Some(1),
                        ..PUBLISH.properties
                    },
                    ..PUBLISH
                },
            ),
        ] {
            check(version, direction, text, Packet::Publish(packet));
        }
    }
}

#[test]
fn publish_with_every_property() {
    let mut buffer = Vec::new();
    check(
        V5,
        FromServer,
        "30 34 00 03 'a/b 2B  01 01  02 00 00 00 09  23 00 07  08 00 01 'r  09 00 02 00 FF \
         03 00 02 'ct  0B 01  0B FF FF FF 7F  26 00 01 'k 00 01 'v  26 00 00 00 00 'pay",
        Packet::Publish(Publish {
            properties: PublishProperties {
                payload_format: Some(true),
                message_expiry_s: Some(9),
                topic_alias: Some(7),
                response_topic: Some("r"),
                correlation_data: Some(&[0, 0xFF]),
                content_type: Some("ct"),
                subscription_ids: SubscriptionIds::listed(&[1, 268_435_455]),
                user_properties: user(&mut buffer, &[("k", "v"), ("", "")]),
                raw: &[],
            },
            payload: b"pay",
            ..PUBLISH
        }),
    );
}

#[test]
fn properties_travel_on_in_the_order_received() {
    for (section, expected) in [
        ("", ""),
        ("01 01", "01 01"),
        ("23 00 01", ""),
        ("02 00 00 00 01  23 00 01", ""),
        ("23 00 01  26 00 01 'a 00 00", "26 00 01 'a 00 00"),
        ("26 00 01 'a 00 00  23 00 01", "26 00 01 'a 00 00"),
        (
            "26 00 01 'b 00 00  02 00 00 00 01  26 00 01 'a 00 00  23 00 01  01 00  03 00 00",
            "26 00 01 'b 00 00  26 00 01 'a 00 00  01 00  03 00 00",
        ),
        ("0B 01  09 00 01 0B  0B 80 01", "09 00 01 0B"),
    ] {
        let section = bytes(section);
        let mut packet = vec![
            0x30,
            4 + section.len() as u8,
            0,
            1,
            b't',
            section.len() as u8,
        ];
        packet.extend_from_slice(&section);
        let mut framer = Framer::default();
        let frame = whole_frame(&mut framer, &packet, &rules(V5, FromServer)).unwrap();
        let publish = Publish::decode(&frame, V5, FromServer).unwrap();
        let mut out = vec![0xEE];
        publish.properties.write_forwarded(&mut out);
        assert_eq!(out[1..], bytes(expected));
        let mut scratch = vec![0xEE];
        assert_eq!(publish.properties.forwarded(&mut scratch), bytes(expected));
    }
}

#[test]
fn an_encoded_publish_can_be_patched() {
    let parts = PublishParts {
        topic: b"a/b",
        properties: &bytes("01 01"),
        message_expiry_s: Some(3),
        topic_alias: Some(2),
        subscription_ids: &[NonZeroU32::MIN, NonZeroU32::new(128).unwrap()],
        payload: b"pay",
    };
    let head = PublishHead {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: true,
    };
    let expected_v5 = "33 1A 00 03 'a/b 12 34 0F  23 00 02  02 00 00 00 03  0B 01  0B 80 01  01 01";
    for (version, expected) in [
        (V31, "33 0A 00 03 'a/b 12 34"),
        (V311, "33 0A 00 03 'a/b 12 34"),
        (V5, expected_v5),
    ] {
        let mut out = vec![0xEE];
        let at = encode_publish_without_payload(version, head, 0x1234, &parts, &mut out);
        assert_eq!(out[1..], bytes(expected));
        out.clear();
        out.push(0xEE);
        assert_eq!(encode_publish(version, head, 0x1234, &parts, &mut out), at);
        assert_eq!(out[1..], [bytes(expected), b"pay".to_vec()].concat());
        assert_eq!(
            publish_size(version, head.qos, &parts) as usize,
            out.len() - 1
        );
        // Patched, it is another client's packet.
        out[at.first_byte_at] = PublishHead {
            dup: true,
            qos: QoS::ExactlyOnce,
            retain: false,
        }
        .first_byte();
        out[at.packet_id_at..at.packet_id_at + 2].copy_from_slice(&[0, 9]);
        let mut framer = Framer::default();
        let frame = whole_frame(&mut framer, &out[1..], &rules(version, FromServer)).unwrap();
        let publish = Publish::decode(&frame, version, FromServer).unwrap();
        assert!(publish.dup && !publish.retain);
        assert_eq!(publish.qos, QoS::ExactlyOnce);
        assert_eq!(publish.packet_id, PacketId::new(9));
        assert_eq!(publish.payload, b"pay");
    }
}

#[test]
fn computed_sizes_match_the_encoding_at_every_boundary() {
    let payload = vec![0; 2_097_160];
    let mut out = Vec::new();
    for payload_size in [0, 100, 120, 130, 16_370, 16_390, 2_097_140, 2_097_160] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            for version in VERSIONS {
                for properties_size in [0, 127, 128, 16_384] {
                    let parts = PublishParts {
                        topic: b"t",
                        properties: &payload[..properties_size],
                        payload: &payload[..payload_size],
                        ..PublishParts::default()
                    };
                    let head = PublishHead {
                        qos,
                        ..PublishHead::default()
                    };
                    out.clear();
                    encode_publish(version, head, u16::from(qos as u8), &parts, &mut out);
                    assert_eq!(publish_size(version, qos, &parts) as usize, out.len());
                }
            }
        }
    }
}

#[test]
fn acknowledgements() {
    type Wrap = fn(Ack<'static>) -> Packet<'static>;
    let kinds: [(&str, Wrap); 4] = [
        ("40", Packet::Puback),
        ("50", Packet::Pubrec),
        ("62", Packet::Pubrel),
        ("70", Packet::Pubcomp),
    ];
    let success = Ack::success(packet_id(0x1234));
    for (first, wrap) in kinds {
        for direction in DIRECTIONS {
            for version in VERSIONS {
                check(
                    version,
                    direction,
                    &format!("{first} 02 12 34"),
                    wrap(success),
                );
            }
            // Longer forms of "success".
            for rest in ["03 12 34 00", "04 12 34 00 00"] {
                check_decode(V5, direction, &format!("{first} {rest}"), wrap(success));
            }
        }
    }
    let refused = Ack::with_reason(packet_id(1), ReasonCode::NotAuthorized);
    check(V5, FromServer, "40 03 00 01 87", Packet::Puback(refused));
    check_decode(V5, FromServer, "40 04 00 01 87 00", Packet::Puback(refused));
    let mut buffer = Vec::new();
    check(
        V5,
        FromServer,
        "50 0F 00 01 10 0B  1F 00 01 'r  26 00 01 'k 00 01 'v",
        Packet::Pubrec(Ack {
            packet_id: packet_id(1),
            reason: ReasonCode::NoMatchingSubscribers,
            properties: ReasonProperties {
                reason_string: Some("r"),
                user_properties: user(&mut buffer, &[("k", "v")]),
            },
        }),
    );
}

#[test]
fn reasons_and_properties_do_not_reach_older_clients() {
    let mut out = Vec::new();
    for version in [V31, V311] {
        out.clear();
        let refused = Ack::with_reason(packet_id(1), ReasonCode::NotAuthorized);
        refused.encode(AckKind::Puback, version, &mut out);
        assert_eq!(out, bytes("40 02 00 01"));
    }
}

#[test]
fn short_encoders() {
    let mut out = Vec::new();
    encode_puback(&mut out, packet_id(1));
    encode_pubrec(&mut out, packet_id(2));
    encode_pubrel(&mut out, packet_id(3));
    encode_pubcomp(&mut out, packet_id(4));
    encode_pingreq(&mut out);
    encode_pingresp(&mut out);
    assert_eq!(
        out,
        bytes("40 02 00 01  50 02 00 02  62 02 00 03  70 02 00 04  C0 00  D0 00")
    );
}

#[test]
fn subscribe() {
    let with_qos = |filter, qos| Subscription {
        filter,
        options: SubscribeOptions::with_qos(qos),
    };
    let lines = [
        with_qos("a/+", QoS::AtMostOnce),
        with_qos("#", QoS::ExactlyOnce),
    ];
    let subscribe = Subscribe {
        packet_id: packet_id(10),
        subscription_id: None,
        filters: Subscriptions::listed(&lines),
        user_properties: UserProperties::NONE,
    };
    for version in [V31, V311] {
        check(
            version,
            FromClient,
            "82 0C 00 0A  00 03 'a/+ 00  00 01 23 02",
            Packet::Subscribe(subscribe),
        );
    }
    check(
        V5,
        FromClient,
        "82 0D 00 0A 00  00 03 'a/+ 00  00 01 23 02",
        Packet::Subscribe(subscribe),
    );
    // MQTT 3.1 may repeat it with DUP.
    check_decode(
        V31,
        FromClient,
        "8A 0C 00 0A  00 03 'a/+ 00  00 01 23 02",
        Packet::Subscribe(subscribe),
    );
    let mut buffer = Vec::new();
    let options = SubscribeOptions {
        qos: QoS::AtLeastOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::DoNotSend,
    };
    check(
        V5,
        FromClient,
        "82 11 00 0A 0A  0B 80 01  26 00 01 'k 00 01 'v  00 01 't 2D",
        Packet::Subscribe(Subscribe {
            subscription_id: Some(128),
            filters: Subscriptions::listed(&[Subscription {
                filter: "t",
                options,
            }]),
            user_properties: user(&mut buffer, &[("k", "v")]),
            ..subscribe
        }),
    );
}

#[test]
fn suback() {
    let granted = [
        ReasonCode::GrantedQos0,
        ReasonCode::GrantedQos2,
        ReasonCode::UnspecifiedError,
    ];
    let suback = Suback {
        packet_id: packet_id(10),
        reasons: Reasons::listed(&granted),
        properties: ReasonProperties::EMPTY,
    };
    for version in [V31, V311] {
        check(
            version,
            FromServer,
            "90 05 00 0A 00 02 80",
            Packet::Suback(suback),
        );
    }
    check(
        V5,
        FromServer,
        "90 06 00 0A 00 00 02 80",
        Packet::Suback(suback),
    );
    check(
        V5,
        FromServer,
        "90 08 00 0A 04  1F 00 01 'r 97",
        Packet::Suback(Suback {
            reasons: Reasons::listed(&[ReasonCode::QuotaExceeded]),
            properties: ReasonProperties {
                reason_string: Some("r"),
                ..ReasonProperties::EMPTY
            },
            ..suback
        }),
    );
    // In 3.1.1 [MQTT-3.9.3-2] the refusals of 5.0 do not leak.
    let mut out = Vec::new();
    let refused = [ReasonCode::NotAuthorized];
    Suback {
        reasons: Reasons::listed(&refused),
        ..suback
    }
    .encode(V311, &mut out);
    assert_eq!(out, bytes("90 03 00 0A 80"));
}

#[test]
fn unsubscribe_and_unsuback() {
    let unsubscribe = Unsubscribe {
        packet_id: packet_id(11),
        filters: Filters::listed(&["a", "b/c"]),
        user_properties: UserProperties::NONE,
    };
    for version in [V31, V311] {
        check(
            version,
            FromClient,
            "A2 0A 00 0B  00 01 'a  00 03 'b/c",
            Packet::Unsubscribe(unsubscribe),
        );
        check(
            version,
            FromServer,
            "B0 02 00 0B",
            Packet::Unsuback(Unsuback {
                packet_id: packet_id(11),
                reasons: Reasons::listed(&[]),
                properties: ReasonProperties::EMPTY,
            }),
        );
    }
    check(
        V5,
        FromClient,
        "A2 0B 00 0B 00  00 01 'a  00 03 'b/c",
        Packet::Unsubscribe(unsubscribe),
    );
    check(
        V5,
        FromServer,
        "B0 05 00 0B 00 00 11",
        Packet::Unsuback(Unsuback {
            packet_id: packet_id(11),
            reasons: Reasons::listed(&[ReasonCode::Success, ReasonCode::NoSubscriptionExisted]),
            properties: ReasonProperties::EMPTY,
        }),
    );
}

#[test]
fn pings() {
    for version in VERSIONS {
        check(version, FromClient, "C0 00", Packet::Pingreq);
        check(version, FromServer, "D0 00", Packet::Pingresp);
    }
}

#[test]
fn disconnect() {
    let normal = Disconnect::new(ReasonCode::NormalDisconnection);
    for version in VERSIONS {
        check(version, FromClient, "E0 00", Packet::Disconnect(normal));
    }
    for text in ["E0 01 00", "E0 02 00 00"] {
        check_decode(V5, FromClient, text, Packet::Disconnect(normal));
    }
    check(
        V5,
        FromClient,
        "E0 01 04",
        Packet::Disconnect(Disconnect::new(ReasonCode::DisconnectWithWill)),
    );
    check(
        V5,
        FromServer,
        "E0 01 8E",
        Packet::Disconnect(Disconnect::new(ReasonCode::SessionTakenOver)),
    );
    check(
        V5,
        FromClient,
        "E0 07 00 05  11 00 00 00 00",
        Packet::Disconnect(Disconnect {
            properties: DisconnectProperties {
                session_expiry_s: Some(0),
                ..DisconnectProperties::default()
            },
            ..normal
        }),
    );
    let mut buffer = Vec::new();
    check(
        V5,
        FromServer,
        "E0 12 9D 10  1F 00 01 'r  26 00 01 'k 00 01 'v  1C 00 02 'sr",
        Packet::Disconnect(Disconnect {
            reason: ReasonCode::ServerMoved,
            properties: DisconnectProperties {
                session_expiry_s: None,
                reason_string: Some("r"),
                user_properties: user(&mut buffer, &[("k", "v")]),
                server_reference: Some("sr"),
            },
        }),
    );
}

#[test]
fn auth() {
    check(
        V5,
        FromServer,
        "F0 00",
        Packet::Auth(Auth {
            reason: ReasonCode::Success,
            properties: AuthProperties::default(),
        }),
    );
    for (direction, code, reason) in [
        (FromClient, "18", ReasonCode::ContinueAuthentication),
        (FromClient, "19", ReasonCode::ReAuthenticate),
        (FromServer, "18", ReasonCode::ContinueAuthentication),
        (FromServer, "00", ReasonCode::Success),
    ] {
        check(
            V5,
            direction,
            &format!("F0 0E {code} 0C  15 00 01 'm  16 00 01 00  1F 00 01 'r"),
            Packet::Auth(Auth {
                reason,
                properties: AuthProperties {
                    authentication_method: Some("m"),
                    authentication_data: Some(&[0]),
                    reason_string: Some("r"),
                    user_properties: UserProperties::NONE,
                },
            }),
        );
    }
}
