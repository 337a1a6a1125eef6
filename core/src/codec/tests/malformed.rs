//! Malformed packets and what each is refused with. "Row" is a row of the list of known broker
//! vulnerabilities that this broker is tested against.

use super::*;
use Direction::{FromClient, FromServer};
use ReasonCode::{
    MalformedPacket as Malformed, PacketTooLarge, ProtocolError as Protocol, TopicAliasInvalid,
    TopicNameInvalid, UnsupportedProtocolVersion as Unsupported,
};
use Version::{V5, V31, V311};

/// A packet with this first byte and this body.
fn packet(first_byte: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    super::super::wire::put_packet(&mut out, first_byte, |out| out.extend_from_slice(body));
    out
}

/// Each row: a body in text and the reason, for packets of one first byte.
fn check(versions: &[Version], direction: Direction, first_byte: u8, rows: &[(&str, ReasonCode)]) {
    for &version in versions {
        for (text, reason) in rows {
            let stream = packet(first_byte, &bytes(text));
            let (count, end) = run_stream(&stream, Some(version), direction);
            assert_eq!(count, 0, "{first_byte:02X} {text} {version:?}");
            assert_eq!(
                end.map_err(DecodeError::reason),
                Err(*reason),
                "{first_byte:02X} {text} {version:?}"
            );
        }
    }
}

/// CONNECT in all versions: body and reason.
fn check_connect(rows: &[(&str, ReasonCode)]) {
    for (text, reason) in rows {
        let (count, end) = run_stream(&packet(0x10, &bytes(text)), None, FromClient);
        assert_eq!(count, 0, "{text}");
        assert_eq!(end.map_err(DecodeError::reason), Err(*reason), "{text}");
    }
}

#[test]
fn connect() {
    check_connect(&[
        // Row 14: cut at fields.
        ("", Malformed),
        ("00 04 'MQT", Malformed),
        ("00 04 'MQTT", Malformed),
        ("00 04 'MQTT 04 02 00", Malformed),
        // [MQTT-3.1.3-3]
        ("00 04 'MQTT 04 02 00 3C", Malformed),
        ("00 04 'MQTT 05 02 00 3C 00", Malformed),
        // [MQTT-2.2.2-1] of 5.0: the property length is missing.
        ("00 04 'MQTT 05 02 00 3C", Malformed),
        // [MQTT-3.1.2-3] Row 23.
        ("00 04 'MQTT 04 03 00 3C 00 00", Malformed),
        ("00 06 'MQIsdp 03 03 00 3C 00 00", Malformed),
        ("00 04 'MQTT 05 03 00 3C 00 00 00", Malformed),
        // [MQTT-3.1.2-11], [MQTT-3.1.2-13]: will QoS 1, 2, will retain, without a will.
        ("00 04 'MQTT 04 0A 00 3C 00 00", Malformed),
        ("00 04 'MQTT 04 12 00 3C 00 00", Malformed),
        ("00 04 'MQTT 04 22 00 3C 00 00", Malformed),
        ("00 04 'MQTT 05 0A 00 3C 00 00 00", Malformed),
        // [MQTT-3.1.2-12]: will QoS 3.
        ("00 04 'MQTT 04 1E 00 3C 00 00 00 01 't 00 00", Malformed),
        (
            "00 04 'MQTT 05 1E 00 3C 00 00 00 00 00 01 't 00 00",
            Malformed,
        ),
        // [MQTT-3.1.2-9]: the will, its topic, its payload are missing.
        ("00 04 'MQTT 04 06 00 3C 00 00", Malformed),
        ("00 04 'MQTT 04 06 00 3C 00 00 00 01 't", Malformed),
        ("00 04 'MQTT 05 06 00 3C 00 00 00", Malformed),
        ("00 04 'MQTT 05 06 00 3C 00 00 00 00 00 01 't", Malformed),
        // In 3.1.1 [MQTT-3.1.2-22]: password without user name.
        ("00 04 'MQTT 04 42 00 3C 00 00 00 01 'p", Malformed),
        ("00 06 'MQIsdp 03 42 00 3C 00 01 'c 00 01 'p", Malformed),
        // [MQTT-3.1.2-17], [MQTT-3.1.2-19]: announced and missing.
        ("00 04 'MQTT 04 82 00 3C 00 00", Malformed),
        ("00 04 'MQTT 04 C2 00 3C 00 00 00 01 'u", Malformed),
        ("00 04 'MQTT 05 42 00 3C 00 00 00", Malformed),
        // [MQTT-3.1.2-16], [MQTT-3.1.2-18]: there and not announced.
        ("00 04 'MQTT 04 02 00 3C 00 00 00 01 'u", Malformed),
        (
            "00 04 'MQTT 05 82 00 3C 00 00 00 00 01 'u 00 01 'p",
            Malformed,
        ),
        ("00 06 'MQIsdp 03 02 00 3C 00 01 'c 00", Malformed),
        // [MQTT-3.1.3-11]
        (
            "00 04 'MQTT 04 06 00 3C 00 00 00 00 00 00",
            TopicNameInvalid,
        ),
        (
            "00 04 'MQTT 04 06 00 3C 00 00 00 03 'a/+ 00 00",
            TopicNameInvalid,
        ),
        (
            "00 04 'MQTT 05 06 00 3C 00 00 00 00 00 01 23 00 00",
            TopicNameInvalid,
        ),
        // [MQTT-3.1.2-1], [MQTT-3.1.2-2]
        ("00 04 'MQTX 04 02 00 3C 00 00", Unsupported),
        ("00 04 'mqtt 04 02 00 3C 00 00", Unsupported),
        ("00 00 04 02 00 3C 00 00", Unsupported),
        ("00 06 'MQIsdp 04 02 00 3C 00 00", Unsupported),
        ("00 04 'MQTT 03 02 00 3C 00 00", Unsupported),
        ("00 04 'MQTT 00 02 00 3C 00 00", Unsupported),
        ("00 04 'MQTT 06 02 00 3C 00 00 00", Unsupported),
        ("00 04 'MQTT 86 02 00 3C 00 00", Unsupported),
        // A level of the future may have another layout behind it: the level decides.
        ("00 04 'MQTT 06", Unsupported),
    ]);
}

#[test]
fn an_unsupported_level_is_answered_in_the_nearest_version() {
    for (text, expected) in [
        ("00 04 'MQTT 03 02 00 3C 00 00", Some(V311)),
        ("00 06 'MQIsdp 04 02 00 3C 00 00", Some(V311)),
        ("00 06 'MQIsdp 84 02 00 3C 00 00", Some(V311)),
        ("00 04 'MQTT 06 02 00 3C 00 00 00", Some(V5)),
        ("00 04 'MQTT 85 02 00 3C 00 00 00", Some(V5)),
        ("00 04 'HTTP 05 02 00 3C 00 00 00", None),
        ("00 04 'MQTT 05 03 00 3C 00 00 00", None),
    ] {
        let (_, end) = run_stream(&packet(0x10, &bytes(text)), None, FromClient);
        assert_eq!(end.unwrap_err().connack_version(), expected, "{text}");
    }
}

/// Sections and reasons; `front` and `back` stand around a section with a length of one byte.
fn check_properties(
    direction: Direction,
    first_byte: u8,
    (front, back): (&str, &str),
    rows: &[(&str, ReasonCode)],
) {
    for (text, reason) in rows {
        let section = bytes(text);
        let size = u8::try_from(section.len()).unwrap();
        let body = [bytes(front), vec![size], section, bytes(back)].concat();
        let stream = packet(first_byte, &body);
        let version = (first_byte != 0x10).then_some(V5);
        let (count, end) = run_stream(&stream, version, direction);
        assert_eq!(count, 0, "{first_byte:02X} {text}");
        assert_eq!(
            end.map_err(DecodeError::reason),
            Err(*reason),
            "{first_byte:02X} {text}"
        );
    }
}

const CONNECT: (&str, &str) = ("00 04 'MQTT 05 02 00 3C", "00 00");
const WILL: (&str, &str) = ("00 04 'MQTT 05 06 00 3C 00 00 00", "00 01 't 00 00");
const PUBLISH: (&str, &str) = ("00 01 't", "");
const CONNACK: (&str, &str) = ("00 00", "");

/// A section with this property, from its identifier to its value.
const VALID_PROPERTIES: [(u8, &str); 27] = [
    (0x01, "01 01"),
    (0x02, "02 00 00 00 01"),
    (0x03, "03 00 01 'c"),
    (0x08, "08 00 01 'r"),
    (0x09, "09 00 01 FF"),
    (0x0B, "0B 01"),
    (0x11, "11 00 00 00 01"),
    (0x12, "12 00 01 'i"),
    (0x13, "13 00 01"),
    (0x15, "15 00 01 'm"),
    (0x16, "16 00 01 FF"),
    (0x17, "17 01"),
    (0x18, "18 00 00 00 01"),
    (0x19, "19 01"),
    (0x1A, "1A 00 01 'r"),
    (0x1C, "1C 00 01 's"),
    (0x1F, "1F 00 01 'r"),
    (0x21, "21 00 01"),
    (0x22, "22 00 01"),
    (0x23, "23 00 01"),
    (0x24, "24 01"),
    (0x25, "25 01"),
    (0x26, "26 00 01 'k 00 01 'v"),
    (0x27, "27 00 00 00 01"),
    (0x28, "28 01"),
    (0x29, "29 01"),
    (0x2A, "2A 01"),
];

/// The table of properties of the standard: which packet takes which. The third column is what the
/// packet takes twice, the fourth what goes before it (authentication data needs a method).
#[test]
fn each_packet_takes_only_its_own_properties_and_each_once() {
    let ack: &[u8] = &[0x1F, 0x26];
    let connect: &[u8] = &[0x11, 0x15, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27];
    let will: &[u8] = &[0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26];
    let connack: &[u8] = &[
        0x11, 0x12, 0x13, 0x15, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29,
        0x2A,
    ];
    let publish: &[u8] = &[0x01, 0x02, 0x03, 0x08, 0x09, 0x23, 0x26];
    let publish_down: &[u8] = &[0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23, 0x26];
    for (direction, first_byte, (front, back), taken) in [
        (FromClient, 0x10, CONNECT, connect),
        (FromClient, 0x10, WILL, will),
        (FromServer, 0x20, CONNACK, connack),
        (FromClient, 0x30, PUBLISH, publish),
        (FromServer, 0x30, PUBLISH, publish_down),
        (FromClient, 0x40, ("00 01 00", ""), ack),
        (FromServer, 0x50, ("00 01 00", ""), ack),
        (FromClient, 0x62, ("00 01 00", ""), ack),
        (FromServer, 0x70, ("00 01 00", ""), ack),
        (FromClient, 0x82, ("00 01", "00 01 't 00"), &[0x0B, 0x26]),
        (FromServer, 0x90, ("00 01", "00"), ack),
        (FromClient, 0xA2, ("00 01", "00 01 't"), &[0x26]),
        (FromServer, 0xB0, ("00 01", "00"), ack),
        (FromClient, 0xE0, ("00", ""), &[0x11, 0x1F, 0x26]),
        (FromServer, 0xE0, ("00", ""), &[0x1C, 0x1F, 0x26]),
        // AUTH cannot do without a method: its other properties stand behind one.
        (FromClient, 0xF0, ("18", ""), &[0x15]),
    ] {
        let run = |section: &[u8]| {
            let size = u8::try_from(section.len()).unwrap();
            let body = [&bytes(front)[..], &[size], section, &bytes(back)].concat();
            let version = (first_byte != 0x10).then_some(V5);
            run_stream(&packet(first_byte, &body), version, direction).1
        };
        for (id, text) in VALID_PROPERTIES {
            let name = format!("{id:02X} in {first_byte:02X} {direction:?}");
            let property = bytes(text);
            if !taken.contains(&id) {
                let reason = run(&property).unwrap_err().reason();
                assert!(matches!(reason, Malformed | Protocol), "{name}");
                continue;
            }
            assert_eq!(run(&property), Ok(()), "{name}");
            let twice = [&property[..], &property].concat();
            let may_repeat = id == 0x26 || (id == 0x0B && first_byte == 0x30);
            let expected = if may_repeat {
                Ok(())
            } else {
                Err(DecodeError::PropertyTwice(id))
            };
            assert_eq!(run(&twice), expected, "{name}");
            // Row 22: cut anywhere.
            for size in 1..property.len() {
                let reason = run(&property[..size]).unwrap_err().reason();
                assert_eq!(reason, Malformed, "{name} cut to {size}");
            }
        }
        for id in 0..=255u8 {
            if VALID_PROPERTIES.iter().all(|(valid, _)| *valid != id) {
                assert_eq!(
                    run(&[id, 0, 0, 0, 0, 0]),
                    Err(DecodeError::PropertyUnknown(id)),
                    "{first_byte:02X}"
                );
            }
        }
    }
}

#[test]
fn values_of_properties() {
    check_properties(
        FromClient,
        0x10,
        CONNECT,
        &[
            // Row 27: the edges of Receive Maximum are legal but for 0.
            ("21 00 00", Protocol),
            ("27 00 00 00 00", Protocol),
            ("17 02", Protocol),
            ("19 02", Protocol),
            ("16 00 01 FF", Protocol),
            ("15 00 01 FF", Malformed),
            // [MQTT-1.5.7-1]
            ("26 00 01 FF 00 00", Malformed),
            ("26 00 00 00 01 00", Malformed),
        ],
    );
    check_properties(
        FromClient,
        0x10,
        WILL,
        &[
            ("01 02", Protocol),
            ("08 00 01 23", Protocol),
            ("03 00 02 C0 80", Malformed),
        ],
    );
    check_properties(
        FromServer,
        0x20,
        CONNACK,
        &[
            ("21 00 00", Protocol),
            ("27 00 00 00 00", Protocol),
            // [MQTT-3.2.2-9] 2 is the default and never sent.
            ("24 02", Protocol),
            ("25 02", Protocol),
            ("28 02", Protocol),
            ("29 02", Protocol),
            ("2A 02", Protocol),
            ("16 00 01 FF", Protocol),
        ],
    );
    check_properties(
        FromClient,
        0x30,
        PUBLISH,
        &[
            ("01 02", Protocol),
            // [MQTT-3.3.2-8]
            ("23 00 00", TopicAliasInvalid),
            // [MQTT-3.3.2-14] Row 24.
            ("08 00 03 'a/#", Protocol),
            ("08 00 01 '+", Protocol),
            // [MQTT-3.3.4-6]
            ("0B 01", Protocol),
            // [MQTT-3.3.2-13], [MQTT-3.3.2-19]
            ("08 00 01 80", Malformed),
            ("03 00 01 80", Malformed),
        ],
    );
    check_properties(
        FromServer,
        0x30,
        PUBLISH,
        &[
            ("0B 00", Protocol),
            // [MQTT-1.5.5-1] Row 3.
            ("0B 80 00", Malformed),
            ("0B FF FF FF FF 01", Malformed),
        ],
    );
    check_properties(
        FromClient,
        0x82,
        ("00 01", "00 01 't 00"),
        &[
            ("0B 00", Protocol),
            ("0B 80 00", Malformed),
            ("0B 80 80 80 80 01", Malformed),
        ],
    );
    // [MQTT-3.14.2-2]
    check_properties(
        FromServer,
        0xE0,
        ("00", ""),
        &[("11 00 00 00 00", Protocol)],
    );
    check_properties(FromClient, 0xE0, ("00", ""), &[("1C 00 01 's", Protocol)]);
    for direction in DIRECTIONS {
        check_properties(
            direction,
            0xF0,
            ("18", ""),
            &[
                ("", Protocol),
                ("16 00 01 FF", Protocol),
                ("15 00 01 'm 15 00 01 'm", Protocol),
                ("15 00 01 'm 16 00 00 16 00 00", Protocol),
                ("15 00 01 'm 1F 00 00 1F 00 00", Protocol),
                ("15 00 01 'm 11 00 00 00 00", Malformed),
            ],
        );
    }
}

// Row 27 (the bug class: a limit read as a signed number).
#[test]
fn the_limits_of_integers_arrive_unchanged() {
    for value in [1, 32_767, 32_768, 65_535] {
        let connect = Connect {
            is_bridge: false,
            version: V5,
            clean_start: true,
            keep_alive: value,
            client_id: "",
            will: None,
            user_name: None,
            password: None,
            properties: ConnectProperties {
                receive_maximum: Some(value),
                topic_alias_maximum: Some(value),
                maximum_packet_size: Some(u32::from(value) << 16),
                ..ConnectProperties::default()
            },
        };
        let mut out = Vec::new();
        connect.encode(&mut out);
        let mut framer = Framer::default();
        let frame = whole_frame(&mut framer, &out, &rules(V5, FromClient)).unwrap();
        assert_eq!(Connect::decode(&frame), Ok(connect));
    }
}

// Rows 3 and 12: property lengths that are too long for an integer, for the packet, or not minimal.
#[test]
fn property_lengths() {
    for length in [
        "80 00",
        "80 80 80 80 01",
        "FF FF FF FF 01",
        "FF FF FF 7F",
        "05",
        "80",
        "80 01",
    ] {
        check_connect(&[(
            &format!("00 04 'MQTT 05 02 00 3C {length} 00 00"),
            Malformed,
        )]);
        check(
            &[V5],
            FromClient,
            0x30,
            &[(&format!("00 01 't {length}"), Malformed)],
        );
        check(
            &[V5],
            FromClient,
            0x40,
            &[(&format!("00 01 00 {length}"), Malformed)],
        );
        check(
            &[V5],
            FromClient,
            0x82,
            &[(&format!("00 01 {length} 00"), Malformed)],
        );
        // Row 18 has such a DISCONNECT.
        check(
            &[V5],
            FromClient,
            0xE0,
            &[(&format!("00 {length}"), Malformed)],
        );
    }
    // A property may not reach over the end of the section into the next field.
    check_connect(&[
        ("00 04 'MQTT 05 02 00 3C 03 11 00 00 00 00 00 00", Malformed),
        ("00 04 'MQTT 05 02 00 3C 03 15 00 01 00 00", Malformed),
    ]);
}

#[test]
fn publish() {
    for direction in DIRECTIONS {
        check(
            &VERSIONS,
            direction,
            0x30,
            &[
                ("", Malformed),
                ("00", Malformed),
                ("00 02 'a", Malformed),
                // [MQTT-4.7.3-1] Row 7 (CVE-2021-34432).
                ("00 00 00", Protocol),
            ],
        );
        check(
            &VERSIONS,
            direction,
            0x32,
            &[
                // Row 15: no packet identifier.
                ("00 03 'a/b", Malformed),
                ("00 03 'a/b 00", Malformed),
                // [MQTT-2.2.1-3], in 3.1.1 [MQTT3-2.3.1-1]
                ("00 03 'a/b 00 00 00", Protocol),
            ],
        );
        // [MQTT-3.3.1-2], [MQTT-3.3.1-4]
        for first_byte in [0x36, 0x37, 0x3E, 0x38, 0x39] {
            check(
                &VERSIONS,
                direction,
                first_byte,
                &[("00 03 'a/b 00 01 00", Malformed)],
            );
        }
        check(
            &[V5],
            direction,
            0x30,
            &[
                // [MQTT-2.2.2-1] of 5.0: the property length is missing.
                ("00 01 't", Malformed),
                ("00 00 00", Protocol),
            ],
        );
    }
}

// The flags are checked on decode as well: frames may come from elsewhere than a framer.
#[test]
fn a_hand_made_frame_is_checked_too() {
    let body = bytes("00 03 'a/b 00 01 00");
    for (kind, flags) in [
        (PacketKind::Publish, 0b0110),
        (PacketKind::Publish, 0b1000),
        (PacketKind::Pubrel, 0),
        (PacketKind::Subscribe, 0),
        (PacketKind::Pingreq, 1),
        (PacketKind::Connack, 0),
    ] {
        let frame = Frame {
            kind,
            flags,
            body: &body,
            raw: &body,
        };
        assert!(decode(&frame, V5, FromClient).is_err());
    }
}

#[test]
fn acknowledgements() {
    for (first_byte, bad_reason) in [(0x40, "10"), (0x50, "92"), (0x62, "80"), (0x70, "10")] {
        check(
            &VERSIONS,
            FromClient,
            first_byte,
            &[
                ("", Malformed),
                ("00", Malformed),
                // [MQTT-2.2.1-3]
                ("00 00", Protocol),
            ],
        );
        check(
            &[V31, V311],
            FromClient,
            first_byte,
            &[("00 01 00", Malformed)],
        );
        check(
            &[V5],
            FromClient,
            first_byte,
            &[
                // [MQTT-3.4.2-1] and its like: no such reason; a reason of other packets.
                ("00 01 03", Malformed),
                ("00 01 FF", Malformed),
                (&format!("00 01 {bad_reason}"), Protocol),
                ("00 01 00 00 00", Malformed),
            ],
        );
    }
}

#[test]
fn subscribe_and_unsubscribe() {
    check(
        &[V31, V311],
        FromClient,
        0x82,
        &[
            ("00 00 00 01 't 00", Protocol),
            // [MQTT-3.8.3-2] Row 16 (CVE-2024-50948): nothing behind the packet identifier.
            ("00 01", Protocol),
            // Row 14: ends behind the filter.
            ("00 01 00 01 't", Malformed),
            ("00 01 00 05 't", Malformed),
            ("00 01 00 01 't 00 00", Malformed),
            // In 3.1.1 [MQTT-3.8.3-4]
            ("00 01 00 01 't 03", Malformed),
            ("00 01 00 01 't 04", Malformed),
            ("00 01 00 01 't 80", Malformed),
        ],
    );
    check(
        &[V5],
        FromClient,
        0x82,
        &[
            ("00 00 00 00 01 't 00", Protocol),
            ("00 01", Malformed),
            ("00 01 00", Protocol),
            ("00 01 00 00 01 't", Malformed),
            // [MQTT-3.8.3-5]
            ("00 01 00 00 01 't 40", Malformed),
            ("00 01 00 00 01 't 80", Malformed),
            ("00 01 00 00 01 't 03", Malformed),
            ("00 01 00 00 01 't 30", Protocol),
            // [MQTT-3.8.3-4]
            ("00 01 00 00 0A '$share/g/t 04", Protocol),
            // An error in a later line.
            ("00 01 00 00 01 't 00 00 01 't 03", Malformed),
        ],
    );
    check(
        &[V31, V311],
        FromClient,
        0xA2,
        &[
            ("00 00 00 01 't", Protocol),
            // [MQTT-3.10.3-2]
            ("00 01", Protocol),
            ("00 01 00", Malformed),
            ("00 01 00 02 't", Malformed),
        ],
    );
    check(
        &[V5],
        FromClient,
        0xA2,
        &[
            ("00 01", Malformed),
            ("00 01 00", Protocol),
            ("00 01 00 00 02 't", Malformed),
        ],
    );
}

#[test]
fn answers_of_a_server() {
    check(
        &VERSIONS,
        FromServer,
        0x20,
        &[
            ("", Malformed),
            ("00", Malformed),
            // [MQTT-3.2.2-1]
            ("02 00 00", Malformed),
        ],
    );
    check(
        &[V31, V311],
        FromServer,
        0x20,
        &[("00 06", Malformed), ("00 00 00", Malformed)],
    );
    check(&[V311], FromServer, 0x20, &[("01 05", Protocol)]);
    check(
        &[V5],
        FromServer,
        0x20,
        &[
            ("00 00", Malformed),
            ("00 01 00", Protocol),
            ("00 03 00", Malformed),
            // [MQTT-3.2.2-6]
            ("01 87 00", Protocol),
        ],
    );
    check(
        &[V31, V311],
        FromServer,
        0x90,
        &[
            ("00 01", Protocol),
            ("00 01 03", Malformed),
            ("00 01 87", Malformed),
        ],
    );
    check(
        &[V5],
        FromServer,
        0x90,
        &[
            ("00 01 00", Protocol),
            ("00 01 00 03", Malformed),
            ("00 01 00 10", Protocol),
        ],
    );
    check(&[V31, V311], FromServer, 0xB0, &[("00 01 00", Malformed)]);
    check(
        &[V5],
        FromServer,
        0xB0,
        &[
            ("00 01", Malformed),
            ("00 01 00", Protocol),
            ("00 01 00 01", Protocol),
        ],
    );
    check(&VERSIONS, FromServer, 0xD0, &[("00", Malformed)]);
    check(&[V31, V311], FromServer, 0xE0, &[("", Protocol)]);
}

#[test]
fn disconnect_auth_and_ping() {
    check(&VERSIONS, FromClient, 0xC0, &[("00", Malformed)]);
    // In 3.1.1 [MQTT-3.14.1-1]
    check(&[V31, V311], FromClient, 0xE0, &[("00", Malformed)]);
    check(
        &[V5],
        FromClient,
        0xE0,
        &[
            // [MQTT-3.14.2-1]
            ("8E", Protocol),
            ("03", Malformed),
            ("00 00 00", Malformed),
        ],
    );
    check(&[V5], FromServer, 0xE0, &[("04", Protocol)]);
    check(&[V31, V311], FromClient, 0xF0, &[("", Malformed)]);
    check(
        &[V5],
        FromClient,
        0xF0,
        &[
            // [MQTT-3.15.2-1] A client does not say "success".
            ("", Protocol),
            ("00 00", Protocol),
            ("18", Malformed),
            ("17 00", Malformed),
            ("18 04 15 00 01 'm 00", Malformed),
        ],
    );
    check(&[V5], FromServer, 0xF0, &[("19 04 15 00 01 'm", Protocol)]);
}

// Row 6 (CVE-2021-28166) and its kind: packets of the other side.
#[test]
fn packets_that_only_the_other_side_sends_are_refused() {
    for kind in PacketKind::ALL {
        for direction in DIRECTIONS {
            if !kind.sent_by(direction) {
                for version in VERSIONS {
                    let stream = packet(kind.first_byte(0), &[]);
                    let (_, end) = run_stream(&stream, Some(version), direction);
                    assert_eq!(end, Err(DecodeError::WrongDirection(kind)));
                }
            }
        }
    }
}

// Streams that broke other brokers, from CONNECT on: packets before the error, and the error.
#[test]
fn streams_that_broke_other_brokers() {
    for (row, text, expected_count, expected) in [
        (
            6,
            "10 10 00 04 'MQTT 05 02 00 3C 03 21 00 14 00 00 29 02 00 01 E0 00",
            1,
            Some(Protocol),
        ),
        (
            18,
            "10 10 00 04 'MQTT 05 02 00 3C 03 21 00 14 00 00 62 02 D3 01 E0 02 00 20",
            2,
            Some(Malformed),
        ),
        (19, "40 02 00 01", 0, Some(Protocol)),
        (
            20,
            "10 0E 00 04 'MQTT 04 02 00 3C 00 02 'ab 82 06 00 01 00 01 't 00 30 03 00 01 't",
            3,
            None,
        ),
        (
            4,
            "10 0E 00 04 'MQTT 04 02 00 3C 00 02 'ab 30 80 80 80 80 01 30 03 00 01 't",
            1,
            Some(Malformed),
        ),
        (
            14,
            "10 0E 00 04 'MQTT 04 02 00 3C 00 02 'ab 82 80 08 00 01 00 01 't",
            1,
            None,
        ),
        (
            15,
            "10 0E 00 04 'MQTT 04 02 00 3C 00 02 'ab 32 05 00 03 61 2f 62",
            1,
            Some(Malformed),
        ),
        (
            5,
            "10 0E 00 04 'MQTT 04 02 00 3C 00 02 'ab 80 FF FF FF 7F",
            1,
            Some(Malformed),
        ),
        (
            5,
            "10 0E 00 04 'MQTT 04 02 00 3C 00 02 'ab 82 FF FF FF 7F",
            1,
            Some(PacketTooLarge),
        ),
    ] {
        let (count, end) = run_stream(&bytes(text), None, FromClient);
        assert_eq!(count, expected_count, "row {row}");
        assert_eq!(end.err().map(DecodeError::reason), expected, "row {row}");
    }
}

// Row 8 (CVE-2017-7653): each string of each packet. [MQTT-1.5.4-1], [MQTT-1.5.4-2]
#[test]
fn strings_are_checked_in_every_field() {
    for bad in [
        "C0 80",
        "ED A0 80",
        "F4 90 80 80",
        "80",
        "E2 82",
        "00",
        "1F",
        "7F",
        "C2 85",
    ] {
        let size = bytes(bad).len();
        let s = format!("00 {size:02X} {bad}");
        check_connect(&[
            (&format!("00 04 'MQTT 04 02 00 3C {s}"), Malformed),
            (
                &format!("00 04 'MQTT 04 06 00 3C 00 00 {s} 00 00"),
                Malformed,
            ),
            (&format!("00 04 'MQTT 04 82 00 3C 00 00 {s}"), Malformed),
        ]);
        check(
            &[V31, V311],
            FromClient,
            0x82,
            &[(&format!("00 01 {s} 00"), Malformed)],
        );
        check(
            &[V31, V311],
            FromClient,
            0xA2,
            &[(&format!("00 01 {s}"), Malformed)],
        );
        check_properties(
            FromClient,
            0x10,
            CONNECT,
            &[(&format!("15 {s}"), Malformed)],
        );
        for id in ["03", "08"] {
            check_properties(FromClient, 0x10, WILL, &[(&format!("{id} {s}"), Malformed)]);
            check_properties(
                FromClient,
                0x30,
                PUBLISH,
                &[(&format!("{id} {s}"), Malformed)],
            );
        }
        for id in ["12", "15", "1A", "1C", "1F"] {
            check_properties(
                FromServer,
                0x20,
                CONNACK,
                &[(&format!("{id} {s}"), Malformed)],
            );
        }
        for user in [format!("26 {s} 00 00"), format!("26 00 00 {s}")] {
            let row = [(&user[..], Malformed)];
            check_properties(FromClient, 0x10, CONNECT, &row);
            check_properties(FromClient, 0x10, WILL, &row);
            check_properties(FromClient, 0x30, PUBLISH, &row);
            check_properties(FromClient, 0x40, ("00 01 00", ""), &row);
            check_properties(FromClient, 0x82, ("00 01", "00 01 't 00"), &row);
            check_properties(FromClient, 0xA2, ("00 01", "00 01 't"), &row);
            check_properties(FromClient, 0xE0, ("00", ""), &row);
        }
    }
}

// Row 11 (CVE-2021-41039): time is linear in the size, whatever the properties are.
#[test]
fn many_user_properties_are_read_once() {
    let mut section = Vec::new();
    for _ in 0..200_000 {
        UserProperties::push(&mut section, ("", ""));
    }
    let mut body = bytes("00 04 'MQTT 05 02 00 3C");
    super::super::wire::put_varint(&mut body, section.len() as u32);
    body.extend_from_slice(&section);
    body.extend_from_slice(&[0, 0]);
    let stream = packet(0x10, &body);
    let mut framer = Framer::default();
    let frame = whole_frame(&mut framer, &stream, &rules(V5, FromClient)).unwrap();
    let connect = Connect::decode(&frame).unwrap();
    assert_eq!(connect.properties.user_properties.iter().count(), 200_000);
}

// Row 9 (CVE-2019-11779): depth costs no stack here; the topic parsers limit it.
#[test]
fn deep_topics_decode() {
    let deep = "/".repeat(65_535);
    let lines = [Subscription {
        filter: &deep,
        options: SubscribeOptions::default(),
    }];
    for version in VERSIONS {
        let mut out = Vec::new();
        Subscribe {
            packet_id: crate::ids::PacketId::new(1).unwrap(),
            subscription_id: None,
            filters: Subscriptions::listed(&lines),
            user_properties: UserProperties::NONE,
        }
        .encode(version, &mut out);
        assert_eq!(run_stream(&out, Some(version), FromClient), (1, Ok(())));
    }
}
