//! Any body of any kind, version and direction decodes or is refused, without a panic; what decodes
//! encodes to a packet that decodes to the same and encodes to the same bytes.
//!
//! Input: one byte that picks version, direction and form, the first byte of the packet, the body. In
//! the second form the body is two sizes and three parts, and the length of the second part is put
//! in front of it: a fuzzer seldom changes a property section and its length at once.
#![no_main]

use std::num::NonZeroU32;

use libfuzzer_sys::fuzz_target;
use ringmq_core::codec::{
    Connect, DecodeError, Direction, Frame, FrameRules, Framer, PACKET_SIZE_MAX, Packet,
    PacketKind, Publish, PublishHead, PublishParts, Version, decode, encode_publish,
    encode_publish_without_payload, publish_size,
};

fuzz_target!(|input: &[u8]| {
    let [selector, first_byte, body @ ..] = input else {
        return;
    };
    let version = match selector & 0b11 {
        0 => Version::V31,
        1 => Version::V311,
        _ => Version::V5,
    };
    let direction = match selector & 0b100 {
        0 => Direction::FromClient,
        _ => Direction::FromServer,
    };
    let Some(kind) = PacketKind::from_number(first_byte >> 4) else {
        return;
    };
    let body = match selector & 0b1000 {
        0 => body.to_vec(),
        _ => with_section(body),
    };
    let frame = Frame {
        kind,
        flags: first_byte & 0x0F,
        body: &body,
        raw: &body,
    };
    match decode(&frame, version, direction) {
        Ok(packet) => check(packet, version, direction),
        Err(error) => check_error(error),
    }
});

fn with_section(input: &[u8]) -> Vec<u8> {
    let Some((&[front_size, section_size], parts)) = input.split_first_chunk::<2>() else {
        return Vec::new();
    };
    let (front, parts) = parts.split_at(parts.len().min(front_size.into()));
    let (section, back) = parts.split_at(parts.len().min(section_size.into()));
    let low = section.len() as u8;
    let length: &[u8] = match section.len() {
        0..=127 => &[low],
        _ => &[low | 0x80, 1],
    };
    [front, length, section, back].concat()
}

fn check_error(error: DecodeError) {
    assert!(error.reason().is_error());
    assert!(!error.to_string().is_empty());
}

fn check(packet: Packet<'_>, version: Version, direction: Direction) {
    // CONNECT says its version itself.
    let version = match packet {
        Packet::Connect(Connect { version, .. }) => version,
        _ => version,
    };
    let mut encoded = Vec::new();
    packet.encode(version, &mut encoded);
    let decoded = decode_whole(&encoded, version, direction);
    assert_eq!(decoded, packet);
    let mut again = Vec::new();
    decoded.encode(version, &mut again);
    assert_eq!(again, encoded);
    if let Packet::Publish(publish) = packet {
        check_parts(&publish, version);
    }
}

fn decode_whole(mut packet: &[u8], version: Version, direction: Direction) -> Packet<'_> {
    let rules = FrameRules {
        version: Some(version),
        size_max: PACKET_SIZE_MAX,
        direction,
    };
    // The frame is cut from the packet itself, so that it may outlive the framer.
    let whole = packet;
    let mut framer = Framer::default();
    let frame = framer.next(&mut packet, &rules);
    let frame = frame.expect("legal").expect("whole");
    assert!(packet.is_empty());
    let frame = Frame {
        kind: frame.kind,
        flags: frame.flags,
        body: &whole[whole.len() - frame.body.len()..],
        raw: whole,
    };
    decode(&frame, version, direction).expect("what was encoded decodes")
}

/// The way of a broker: what travels on is taken out of one packet and put into another.
fn check_parts(publish: &Publish<'_>, version: Version) {
    let mut written = Vec::new();
    publish.properties.write_forwarded(&mut written);
    let mut scratch = Vec::new();
    let forwarded = publish.properties.forwarded(&mut scratch);
    assert_eq!(forwarded, written);
    let ids: Vec<NonZeroU32> = publish
        .properties
        .subscription_ids
        .iter()
        .map(|id| NonZeroU32::new(id).expect("checked on decode"))
        .collect();
    let parts = PublishParts {
        topic: publish.topic,
        properties: forwarded,
        message_expiry_s: publish.properties.message_expiry_s,
        topic_alias: publish.properties.topic_alias,
        subscription_ids: &ids,
        payload: publish.payload,
    };
    let head = PublishHead {
        dup: publish.dup,
        qos: publish.qos,
        retain: publish.retain,
    };
    let packet_id = publish.packet_id.map_or(0, |id| id.get());
    let mut out = Vec::new();
    let at = encode_publish(version, head, packet_id, &parts, &mut out);
    assert_eq!(out.len(), publish_size(version, head.qos, &parts) as usize);
    assert_eq!(out[at.first_byte_at], head.first_byte());
    let mut front = Vec::new();
    assert_eq!(
        encode_publish_without_payload(version, head, packet_id, &parts, &mut front),
        at
    );
    assert_eq!(front, out[..out.len() - publish.payload.len()]);
    // A server may send all of it, identifiers too.
    let decoded = decode_whole(&out, version, Direction::FromServer);
    assert_eq!(decoded, Packet::Publish(*publish));
}
