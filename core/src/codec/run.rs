//! PUBLISH packets, one behind the other, that differ in nothing but their payload.
//!
//! A client that has much to say mostly says it on one topic, and its packets arrive together. What
//! is true of the first is true of all: their topic is valid or not, the client may publish there
//! or not, they have the same subscribers, who get the same bytes. So a run is handled once, and a
//! subscriber of the publisher's version gets it as it came.
//!
//! Invariant: each packet of a run is one that [`Publish::decode`](super::Publish::decode) takes,
//! with QoS 0, without RETAIN and without properties.

use super::basics::{QoS, Version};
use super::publish::{PublishHead, PublishParts, encode_publish};
use super::wire::varint_at;

/// At least two packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishRun<'a> {
    /// The packets, as their publisher sent them.
    pub bytes: &'a [u8],
    /// The publisher's.
    pub version: Version,
    /// **As received**, see [`Publish::topic`](super::Publish::topic).
    pub topic: &'a [u8],
    /// How many packets.
    pub count: u32,
    /// Bytes of all payloads.
    pub payload_bytes: usize,
    /// Size of the largest packet.
    pub packet_size_max: usize,
}

/// A run is copied as a whole, so it is not to push everything else out of the caches.
const RUN_SIZE_MAX: usize = 4096;
/// Packets of a run at most.
const RUN_COUNT_MAX: u32 = 64;

const FIRST_BYTE: u8 = PublishHead {
    dup: false,
    qos: QoS::AtMostOnce,
    retain: false,
}
.first_byte();

impl<'a> PublishRun<'a> {
    /// The run at the front of `input`, which is the beginning of a packet. `size_max` is that of a
    /// packet. `None` if there are not two packets that make one.
    #[inline]
    pub fn of(input: &'a [u8], version: Version, size_max: usize) -> Option<PublishRun<'a>> {
        let (first, mut rest) = split_packet(input, size_max)?;
        if rest.first() != Some(&FIRST_BYTE) {
            return None; // Most packets are alone.
        }
        let topic_size = usize::from(u16::from_be_bytes(*first.body.first_chunk()?));
        let topic_end = 2 + topic_size;
        let prefix = match version {
            Version::V31 | Version::V311 => first.body.get(..topic_end)?,
            Version::V5 => first.body.get(..topic_end + 1)?,
        };
        let properties_size = prefix.get(topic_end).copied().unwrap_or_default();
        if topic_size == 0 || properties_size != 0 {
            return None;
        }
        let mut run = PublishRun {
            bytes: input,
            version,
            topic: &prefix[2..topic_end],
            count: 0,
            payload_bytes: 0,
            packet_size_max: 0,
        };
        let mut size = 0;
        let mut next = Some((first, rest));
        while let Some((packet, behind)) = next
            && run.count < RUN_COUNT_MAX
            && size + packet.size <= RUN_SIZE_MAX
            && packet.body.starts_with(prefix)
        {
            run.count += 1;
            run.payload_bytes += packet.body.len() - prefix.len();
            run.packet_size_max = run.packet_size_max.max(packet.size);
            size += packet.size;
            rest = behind;
            next = split_packet(rest, size_max);
        }
        run.bytes = &input[..size];
        (run.count > 1).then_some(run)
    }

    /// The payloads, in order.
    pub fn payloads(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let prefix_size = 2 + self.topic.len() + usize::from(self.version == Version::V5);
        let mut rest = self.bytes;
        std::iter::from_fn(move || {
            let (packet, behind) = split_packet(rest, usize::MAX)?;
            rest = behind;
            packet.body.get(prefix_size..)
        })
    }

    /// Whether the packets are the same in another version.
    pub fn is_in(&self, version: Version) -> bool {
        (self.version == Version::V5) == (version == Version::V5)
    }

    /// Appends the packets in another version.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        for payload in self.payloads() {
            let parts = PublishParts {
                topic: self.topic,
                payload,
                ..PublishParts::default()
            };
            encode_publish(version, PublishHead::default(), 0, &parts, out);
        }
    }

    /// What a packet may be larger in another version.
    pub const GROWTH_MAX: usize = 2;
}

struct Packet<'a> {
    size: usize,
    body: &'a [u8],
}

/// The whole PUBLISH packet of QoS 0, without RETAIN, at the front of `input`, and what is behind
/// it.
#[inline]
fn split_packet(input: &[u8], size_max: usize) -> Option<(Packet<'_>, &[u8])> {
    let (&first_byte, behind) = input.split_first()?;
    if first_byte != FIRST_BYTE {
        return None;
    }
    let (remaining_length, length_size) = varint_at(behind).ok()??;
    let size = 1 + length_size + remaining_length as usize;
    let (packet, rest) = input.split_at_checked(size)?;
    let body = &packet[1 + length_size..];
    (size <= size_max).then_some((Packet { size, body }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Direction, FrameRules, Framer, Publish};

    const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

    fn publish<'a>(topic: &'a str, payload: &'a [u8]) -> Publish<'a> {
        Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: topic.as_bytes(),
            packet_id: None,
            properties: Default::default(),
            payload,
        }
    }

    fn stream(version: Version, packets: &[Publish<'_>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for packet in packets {
            packet.encode(version, &mut bytes);
        }
        bytes
    }

    /// How many packets at the front of these are a run, and what a framer makes of its bytes.
    fn run_of(version: Version, packets: &[Publish<'_>]) -> u32 {
        let bytes = stream(version, packets);
        let Some(run) = PublishRun::of(&bytes, version, usize::MAX) else {
            return 0;
        };
        let count = run.count as usize;
        assert_eq!(run.bytes, stream(version, &packets[..count]));
        let payloads: Vec<&[u8]> = packets[..count].iter().map(|p| p.payload).collect();
        assert_eq!(run.payloads().collect::<Vec<_>>(), payloads);
        assert_eq!(run.payload_bytes, payloads.concat().len());
        assert_eq!(run.topic, packets[0].topic);
        let sizes = packets[..count]
            .iter()
            .map(|p| stream(version, &[*p]).len());
        assert_eq!(Some(run.packet_size_max), sizes.max());
        for other in VERSIONS {
            let mut encoded = Vec::new();
            run.encode(other, &mut encoded);
            assert_eq!(encoded, stream(other, &packets[..count]));
            assert_eq!(run.is_in(other), encoded == run.bytes);
        }
        run.count
    }

    #[test]
    fn packets_with_the_same_topic_are_a_run() {
        let long = [7; 300];
        for version in VERSIONS {
            let same = [
                publish("a/b", b"1"),
                publish("a/b", b""),
                publish("a/b", &long),
                publish("a/b", b"22"),
            ];
            assert_eq!(run_of(version, &same), 4);
            assert_eq!(run_of(version, &same[..1]), 0);
            for other in ["a/c", "a/bb", "a/"] {
                let mut packets = same.to_vec();
                packets[2].topic = other.as_bytes();
                assert_eq!(run_of(version, &packets), 2);
                packets[1].topic = other.as_bytes();
                assert_eq!(run_of(version, &packets), 0);
            }
        }
    }

    #[test]
    fn anything_but_a_plain_publish_ends_a_run() {
        for version in VERSIONS {
            let plain = publish("t", b"x");
            let mut others = vec![
                Publish {
                    retain: true,
                    ..plain
                },
                Publish {
                    qos: QoS::AtLeastOnce,
                    packet_id: crate::ids::PacketId::new(1),
                    ..plain
                },
            ];
            if version == Version::V5 {
                let mut with_property = plain;
                with_property.properties.content_type = Some("c");
                others.push(with_property);
            }
            for other in others {
                assert_eq!(run_of(version, &[plain, plain, other, plain]), 2);
                assert_eq!(run_of(version, &[other, plain, plain]), 0);
            }
        }
    }

    #[test]
    fn a_run_is_bounded() {
        let payload = [0; 500];
        let large = [publish("t", &payload); 20];
        assert_eq!(run_of(Version::V311, &large), 8);
        let small = [publish("t", b""); 100];
        assert_eq!(run_of(Version::V5, &small), RUN_COUNT_MAX);
    }

    #[test]
    fn a_run_holds_nothing_that_a_framer_would_refuse() {
        let plain = stream(Version::V311, &[publish("t", b"x"); 3]);
        let size = plain.len() / 3;
        assert!(PublishRun::of(&plain, Version::V311, size).is_some());
        assert_eq!(PublishRun::of(&plain, Version::V311, size - 1), None);
        // The third is not whole; the second has a length that is not in its shortest form.
        let cut = &plain[..3 * size - 1];
        assert_eq!(
            PublishRun::of(cut, Version::V311, 99).map(|run| run.count),
            Some(2)
        );
        let mut longer = plain.clone();
        longer.splice(size + 1..size + 2, [plain[1] | 0x80, 0]);
        assert_eq!(PublishRun::of(&longer, Version::V311, 99), None);
        // Without a topic, or with less of a body than it needs.
        for bytes in [
            &b"\x30\x02\0\0\x30\x02\0\0"[..],
            b"\x30\x00\x30\x00",
            b"\x30\x01\0\x30\x01\0",
            b"\x30\x03\0\x05t\x30\x03\0\x05t",
        ] {
            for version in VERSIONS {
                assert_eq!(PublishRun::of(bytes, version, 99), None, "{bytes:x?}");
            }
        }
        // In 5.0 the properties are missing.
        assert_eq!(
            PublishRun::of(b"\x30\x03\0\x01t\x30\x03\0\x01t", Version::V5, 99),
            None
        );
    }

    #[test]
    fn corrupted_bytes_form_a_run_only_if_they_decode() {
        const BYTES: [u8; 10] = [0x30, 0x30, 0x31, 0, 0, 1, 3, 4, 5, b't'];
        let mut state = 1_u64;
        let mut below = |bound: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as usize % bound
        };
        let mut found = 0;
        for _ in 0..20_000 {
            let version = VERSIONS[below(3)];
            let packets = [publish("t", b"0t"), publish("t", b""), publish("t", b"\0")];
            let mut bytes = stream(version, &packets);
            for _ in 0..1 + below(4) {
                let at = below(bytes.len());
                bytes[at] = BYTES[below(BYTES.len())];
            }
            let Some(run) = PublishRun::of(&bytes, version, 99) else {
                continue;
            };
            found += 1;
            let rules = FrameRules {
                version: Some(version),
                size_max: 99,
                direction: Direction::FromClient,
            };
            let mut framer = Framer::default();
            let mut rest = run.bytes;
            for payload in run.payloads() {
                let frame = framer.next(&mut rest, &rules).unwrap().unwrap();
                let packet = Publish::decode(&frame, version, Direction::FromClient).unwrap();
                assert_eq!(
                    packet,
                    Publish {
                        topic: run.topic,
                        ..publish("", payload)
                    }
                );
            }
            assert!(rest.is_empty());
        }
        assert!(found > 1000, "{found}");
    }
}
