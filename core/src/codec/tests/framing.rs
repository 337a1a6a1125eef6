//! Cutting frames: any chunking, memory, and what is refused before the body is there.

use super::random::Random;
use super::*;
use Direction::{FromClient, FromServer};
use Version::{V5, V31, V311};

fn owned(frame: &Frame<'_>) -> (PacketKind, u8, Vec<u8>, Vec<u8>) {
    (
        frame.kind,
        frame.flags,
        frame.body.to_vec(),
        frame.raw.to_vec(),
    )
}

/// All frames of a stream that comes in chunks, and how it ended. Checks the framer's memory on the
/// way.
#[expect(clippy::type_complexity, reason = "a list of frames and an error")]
fn cut<'a>(
    chunks: impl Iterator<Item = &'a [u8]>,
    rules: &FrameRules,
) -> (
    Vec<(PacketKind, u8, Vec<u8>, Vec<u8>)>,
    Result<usize, DecodeError>,
) {
    let mut framer = Framer::default();
    let mut frames = Vec::new();
    for mut chunk in chunks {
        loop {
            match framer.next(&mut chunk, rules) {
                Ok(Some(frame)) => frames.push(owned(&frame)),
                Ok(None) => break,
                Err(error) => {
                    // An error repeats: nothing behind it is looked at.
                    assert_eq!(framer.next(&mut chunk, rules), Err(error));
                    return (frames, Err(error));
                }
            }
        }
        assert!(chunk.is_empty(), "all input is used");
        assert!(framer.memory_size() <= (2 * framer.partial_size()).max(512));
        if framer.partial_size() == 0 {
            assert_eq!(framer.memory_size(), 0, "an idle connection holds nothing");
        }
    }
    let partial_size = framer.partial_size();
    assert_eq!(framer.into_partial().len(), partial_size);
    (frames, Ok(partial_size))
}

fn random_stream(random: &mut Random, version: Version, direction: Direction) -> Vec<u8> {
    let mut stream = Vec::new();
    for _ in 0..random.below(8) {
        random
            .packet(version, direction)
            .encode(version, &mut stream);
    }
    match random.below(4) {
        // A stream that ends early.
        0 => stream.truncate(random.below(stream.len() + 1)),
        // A stream with an error in it.
        1 if !stream.is_empty() => {
            let at = random.below(stream.len());
            stream[at] ^= 1 << random.below(8);
        }
        _ => {}
    }
    stream
}

#[test]
fn any_chunking_gives_the_same_frames() {
    let mut random = Random::new(0xC0DEC);
    for _ in 0..4_000 {
        let version = random.pick(&VERSIONS);
        let direction = random.pick(&DIRECTIONS);
        let rules = FrameRules {
            version: Some(version),
            size_max: 100_000,
            direction,
        };
        let stream = random_stream(&mut random, version, direction);
        let whole = cut(std::iter::once(&stream[..]), &rules);
        assert_eq!(cut(stream.chunks(1), &rules), whole);
        let size = 1 + random.below(40);
        assert_eq!(cut(stream.chunks(size), &rules), whole);
        let mut cuts: Vec<usize> = (0..4).map(|_| random.below(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|ends| &stream[ends[0]..ends[1]]);
        assert_eq!(cut(pieces, &rules), whole);
    }
}

#[test]
fn whole_packets_are_not_copied() {
    let stream = bytes("C0 00 30 05 00 03 'a/b C0 00");
    let mut input = &stream[..];
    let mut framer = Framer::default();
    let mut count = 0;
    let range = stream.as_ptr_range();
    while let Some(frame) = framer.next(&mut input, &rules(V5, FromClient)).unwrap() {
        assert!(range.contains(&frame.raw.as_ptr()));
        count += 1;
        assert_eq!(framer.memory_size(), 0);
    }
    assert_eq!(count, 3);
}

#[test]
fn packets_behind_a_connect_are_not_handed_over_with_it() {
    let stream = bytes("10 0E  00 04 'MQTT 04 02 00 3C  00 02 'ab 30 05 00");
    let rules = FrameRules {
        version: None,
        size_max: 64 * 1024,
        direction: FromClient,
    };
    let mut framer = Framer::default();
    assert_eq!(framer.next(&mut &stream[..5], &rules), Ok(None));
    assert_eq!(framer.partial_size(), 5);
    let mut input = &stream[5..];
    let connect = framer.next(&mut input, &rules).unwrap().unwrap();
    assert_eq!(connect.raw, &stream[..16]);
    assert_eq!(input, &stream[16..]);
    assert_eq!(framer.partial_size(), 0);
    assert!(framer.into_partial().is_empty());
}

/// Which first bytes each version and side may send, from the tables of the standards.
fn first_byte_is_legal(byte: u8, version: Version, direction: Direction) -> bool {
    let publish = byte >> 4 == 3 && byte & 0b0110 != 0b0110 && byte & 0b1110 != 0b1000;
    let both = publish || [0x40, 0x50, 0x62, 0x70].contains(&byte);
    let (own, own_v5, own_v31): (&[u8], &[u8], &[u8]) = match direction {
        FromClient => (
            &[0x10, 0x82, 0xA2, 0xC0, 0xE0],
            &[0xF0],
            &[0x6A, 0x8A, 0xAA],
        ),
        FromServer => (&[0x20, 0x90, 0xB0, 0xD0], &[0xE0, 0xF0], &[0x6A]),
    };
    both || own.contains(&byte)
        || (version == V5 && own_v5.contains(&byte))
        || (version == V31 && own_v31.contains(&byte))
}

// [MQTT-2.1.3-1], in 3.1.1 [MQTT3-2.2.2-2]. Row 23 of the threat list.
#[test]
fn every_first_byte_is_judged_before_the_rest_arrives() {
    for direction in DIRECTIONS {
        for version in VERSIONS {
            for byte in 0..=255u8 {
                let mut framer = Framer::default();
                let first = [byte];
                let verdict = framer
                    .next(&mut &first[..], &rules(version, direction))
                    .map(drop);
                let legal = first_byte_is_legal(byte, version, direction);
                assert_eq!(
                    verdict.is_ok(),
                    legal,
                    "{byte:02X} {version:?} {direction:?}"
                );
                if let Err(error) = verdict {
                    assert_eq!(framer.memory_size(), 0);
                    assert!(matches!(
                        error.reason(),
                        ReasonCode::MalformedPacket | ReasonCode::ProtocolError
                    ));
                }
            }
        }
    }
}

// [MQTT-3.1.0-1] Rows 2 (CVE-2023-0809) and 19 of the threat list.
#[test]
fn before_connect_everything_else_is_refused_on_its_first_byte() {
    for direction in DIRECTIONS {
        for byte in 0..=255u8 {
            let rules = FrameRules {
                version: None,
                size_max: 64 * 1024,
                direction,
            };
            let mut framer = Framer::default();
            let legal = match direction {
                FromClient => byte == 0x10,
                FromServer => byte == 0x20 || byte == 0xF0,
            };
            let first = [byte];
            let is_ok = framer.next(&mut &first[..], &rules).is_ok();
            assert_eq!(is_ok, legal, "{byte:02X}");
            assert!(legal || framer.memory_size() == 0);
        }
    }
}

// Rows 1 (CVE-2017-7651), 5 and 25 of the threat list; [MQTT-3.2.2-15].
#[test]
fn a_large_packet_is_refused_on_its_header() {
    for (version, size_max, text) in [
        (None, 64 * 1024, "10 FF FF FF 7F"),
        (None, 64 * 1024, "10 FE FF 03"),
        (Some(V311), 1024 * 1024, "82 FF FF FF 7F"),
        (Some(V5), 1024 * 1024, "30 FF FF FF 7F"),
        (Some(V5), 10, "30 09"),
        (Some(V5), 1, "C0 00"),
    ] {
        let rules = FrameRules {
            version,
            size_max,
            direction: FromClient,
        };
        let header = bytes(text);
        let (frames, end) = cut(header.chunks(1), &rules);
        assert!(frames.is_empty());
        assert_eq!(end, Err(DecodeError::PacketTooLarge), "{text}");
    }
    // The largest that fits, and memory for what came, not for what was declared.
    let rules = FrameRules {
        version: Some(V5),
        size_max: PACKET_SIZE_MAX,
        direction: FromClient,
    };
    let mut framer = Framer::default();
    let mut input = &bytes("30 FF FF FF 7F 00 01")[..];
    assert_eq!(framer.next(&mut input, &rules), Ok(None));
    assert!(framer.memory_size() <= 64);
}

// Rows 3 (CVE-2026-21888) and 4 (CVE-2025-66168, CVE-2026-40046) of the threat list.
#[test]
fn a_bad_length_smuggles_nothing() {
    for length in [
        "80 80 80 80 01",
        "FF FF FF FF 01",
        "80 00",
        "81 80 00",
        "80 80 80 00",
    ] {
        for first in ["30", "82", "C0"] {
            let stream = bytes(&format!("{first} {length} 30 05 00 03 'a/b"));
            for size in 1..=stream.len() {
                let (frames, end) = cut(stream.chunks(size), &rules(V311, FromClient));
                assert!(frames.is_empty());
                assert_eq!(
                    end,
                    Err(DecodeError::VariableByteInteger),
                    "{first} {length}"
                );
            }
        }
    }
}

#[test]
fn a_buffer_is_reused_within_an_input_and_freed_at_its_end() {
    let mut framer = Framer::default();
    let rules = rules(V311, FromClient);
    let packet = bytes("30 05 00 03 'a/b");
    assert_eq!(framer.next(&mut &packet[..3], &rules), Ok(None));
    let stream = [&packet[3..], &packet, &packet[..2]].concat();
    let mut input = &stream[..];
    for _ in 0..2 {
        let frame = framer.next(&mut input, &rules).unwrap().unwrap();
        assert_eq!(frame.raw, packet);
    }
    assert_eq!(framer.next(&mut input, &rules), Ok(None));
    assert_eq!(framer.partial_size(), 2);
    let mut input = &packet[2..];
    assert!(framer.next(&mut input, &rules).unwrap().is_some());
    assert_eq!(framer.next(&mut input, &rules), Ok(None));
    assert_eq!(framer.memory_size(), 0);
}

#[test]
fn stricter_rules_apply_to_the_packet_that_is_arriving() {
    let mut framer = Framer::default();
    let stream = bytes("30 05 00 03 'a/b 30 05 00 03 'a/b");
    let strict = FrameRules {
        size_max: 6,
        ..rules(V311, FromClient)
    };
    assert_eq!(
        framer.next(&mut &stream[..3], &rules(V311, FromClient)),
        Ok(None)
    );
    let mut input = &stream[3..];
    for _ in 0..2 {
        assert_eq!(
            framer.next(&mut input, &strict),
            Err(DecodeError::PacketTooLarge)
        );
    }
}
