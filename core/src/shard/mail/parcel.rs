//! The messages of one turn for one shard, in one piece of memory.
//!
//! A message for another shard is appended to those already going there. Allocated separately, it would be
//! written on one core and freed on the other, which costs an allocator more than the copy.
//!
//! Not here: messages that must stay the same object everywhere (`session/gather.rs` compares retained ones
//! by address), and those that are cheaper to share than to copy.

use crate::codec::{PublishRun, QoS, Version};
use crate::ids::ClientKey;
use crate::message::MessageParts;
use crate::time::Instant;

/// Messages in the order they were published.
///
/// Layout of each: [`Head`] in fields of fixed size, topic name, forwarded properties, payload, without gaps; of
/// a run the head and its packets.
#[derive(Clone, Debug, Default)]
pub struct Parcel {
    bytes: Vec<u8>,
    count: u32,
}

impl Parcel {
    /// Whether a message may travel like this.
    pub fn suits(parts: &MessageParts<'_>) -> bool {
        !parts.retain && parts.author.is_none() && body_size(parts) <= BODY_SIZE_MAX
    }

    /// Whether there is room for this message. An empty parcel has room for any that suits.
    pub fn has_room(&self, parts: &MessageParts<'_>) -> bool {
        self.bytes.len() + HEAD_SIZE + body_size(parts) <= SIZE_MAX && self.count < COUNT_MAX
    }

    /// Appends a message that suits.
    pub fn push(&mut self, parts: &MessageParts<'_>) {
        debug_assert!(Parcel::suits(parts) && self.has_room(parts));
        let head = Head {
            expires_at: parts.expires_at.map_or(NEVER, Instant::as_nanos),
            publisher: parts.publisher.0,
            topic_size: parts.topic.len() as u16,
            properties_size: parts.properties.len() as u16,
            payload_size: parts.payload.len() as u16,
            kind: parts.qos as u8,
        };
        self.begin(head);
        self.bytes.extend_from_slice(parts.topic);
        self.bytes.extend_from_slice(parts.properties);
        self.bytes.extend_from_slice(parts.payload);
        self.count += 1;
    }

    fn begin(&mut self, head: Head) {
        if self.bytes.capacity() == 0 {
            self.bytes.reserve_exact(SIZE_MAX);
        }
        self.bytes.extend_from_slice(&head.to_bytes());
    }

    /// Whether there is room for a run. An empty parcel has room for any.
    pub fn has_room_for_run(&self, run: &PublishRun<'_>) -> bool {
        self.bytes.len() + HEAD_SIZE + run.bytes.len() <= SIZE_MAX
            && self.count + run.count <= COUNT_MAX
    }

    /// Appends a run.
    pub fn push_run(&mut self, publisher: ClientKey, run: &PublishRun<'_>) {
        debug_assert!(self.has_room_for_run(run));
        let head = Head {
            expires_at: NEVER,
            publisher: publisher.0,
            topic_size: 0,
            properties_size: 0,
            payload_size: run.bytes.len() as u16,
            kind: match run.version {
                Version::V5 => Kind::RunV5,
                Version::V31 | Version::V311 => Kind::RunV3,
            } as u8,
        };
        self.begin(head);
        self.bytes.extend_from_slice(run.bytes);
        self.count += run.count;
    }

    /// How many messages.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// No messages.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The messages, in order.
    pub fn iter(&self) -> impl Iterator<Item = Piece<'_>> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let (head, body) = rest.split_first_chunk::<HEAD_SIZE>()?;
            let head = Head::from_bytes(head);
            let (topic, body) = body.split_at(usize::from(head.topic_size));
            let (properties, body) = body.split_at(usize::from(head.properties_size));
            let (payload, body) = body.split_at(usize::from(head.payload_size));
            rest = body;
            let publisher = ClientKey(head.publisher);
            if let Some(version) = head.run_version() {
                let run = PublishRun::of(payload, version, usize::MAX);
                return Some(Piece::Run(publisher, run.expect("it went in as one")));
            }
            Some(Piece::Message(MessageParts {
                topic,
                properties,
                payload,
                qos: head.qos(),
                retain: false,
                expires_at: (head.expires_at != NEVER)
                    .then(|| Instant::from_nanos(head.expires_at)),
                publisher,
                author: None,
            }))
        })
    }

    /// Empty again, with its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }
}

/// What a parcel holds.
#[derive(Clone, Copy, Debug)]
pub enum Piece<'a> {
    /// One message.
    Message(MessageParts<'a>),
    /// The messages of a run, and who published them.
    Run(ClientKey, PublishRun<'a>),
}

/// What stands before each message or run.
struct Head {
    /// In nanoseconds; [`NEVER`] without an expiry.
    expires_at: u64,
    publisher: u64,
    topic_size: u16,
    properties_size: u16,
    payload_size: u16,
    /// The QoS of a message, or a [`Kind`].
    kind: u8,
}

/// What is not a message of its own: the packets of a run, in the place of the payload.
enum Kind {
    RunV3 = 3,
    RunV5 = 4,
}

impl Head {
    fn to_bytes(&self) -> [u8; HEAD_SIZE] {
        let mut bytes = [0; HEAD_SIZE];
        bytes[..8].copy_from_slice(&self.expires_at.to_ne_bytes());
        bytes[8..16].copy_from_slice(&self.publisher.to_ne_bytes());
        bytes[16..18].copy_from_slice(&self.topic_size.to_ne_bytes());
        bytes[18..20].copy_from_slice(&self.properties_size.to_ne_bytes());
        bytes[20..22].copy_from_slice(&self.payload_size.to_ne_bytes());
        bytes[22] = self.kind;
        bytes
    }

    fn from_bytes(bytes: &[u8; HEAD_SIZE]) -> Head {
        let wide = |at: usize| u64::from_ne_bytes(*bytes[at..].first_chunk().expect("in range"));
        let size = |at: usize| u16::from_ne_bytes(*bytes[at..].first_chunk().expect("in range"));
        Head {
            expires_at: wide(0),
            publisher: wide(8),
            topic_size: size(16),
            properties_size: size(18),
            payload_size: size(20),
            kind: bytes[22],
        }
    }

    fn run_version(&self) -> Option<Version> {
        match self.kind {
            kind if kind == Kind::RunV3 as u8 => Some(Version::V311),
            kind if kind == Kind::RunV5 as u8 => Some(Version::V5),
            _ => None,
        }
    }

    fn qos(&self) -> QoS {
        match self.kind {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        }
    }
}

fn body_size(parts: &MessageParts<'_>) -> usize {
    parts.topic.len() + parts.properties.len() + parts.payload.len()
}

/// The end of time: an expiry that saturates there means the same.
const NEVER: u64 = u64::MAX;
const HEAD_SIZE: usize = 24;
/// A larger message that is in no run is copied once and shared. The sizes of its parts fit two bytes.
const BODY_SIZE_MAX: usize = 2048;
/// Parcels stay in the caches of both cores.
const SIZE_MAX: usize = 16 * 1024;
/// An inbox takes a parcel as a whole if it has any room: it may hold this much more than its bound.
const COUNT_MAX: u32 = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn parts<'a>(topic: &'a [u8], properties: &'a [u8], payload: &'a [u8]) -> MessageParts<'a> {
        MessageParts {
            topic,
            properties,
            payload,
            qos: QoS::AtMostOnce,
            retain: false,
            expires_at: None,
            publisher: ClientKey(7),
            author: None,
        }
    }

    #[test]
    fn messages_come_out_as_they_went_in() {
        let large = vec![3; 1500];
        let mut parcel = Parcel::default();
        let mut put = Vec::new();
        for (number, qos) in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]
            .into_iter()
            .enumerate()
        {
            let number = number as u64;
            let expiries = [
                None,
                Some(Instant::ZERO),
                Some(Instant::from_nanos(u64::MAX - 1)),
            ];
            for expires_at in expiries {
                for body in [
                    parts(b"a", b"", b""),
                    parts(b"a/b", b"\x03\0\x01x", b"payload"),
                    parts("/é".as_bytes(), b"", &large),
                ] {
                    put.push(MessageParts {
                        qos,
                        expires_at,
                        publisher: ClientKey(number.wrapping_sub(1)),
                        ..body
                    });
                }
            }
        }
        for parts in &put {
            assert!(Parcel::suits(parts) && parcel.has_room(parts));
            parcel.push(parts);
        }
        assert_eq!(parcel.len(), put.len());
        let show = |piece: Piece<'_>| format!("{piece:?}");
        let got: Vec<_> = parcel.iter().map(show).collect();
        let put: Vec<_> = put.into_iter().map(Piece::Message).map(show).collect();
        assert_eq!(got, put);
        parcel.clear();
        assert!(parcel.is_empty());
        assert_eq!(parcel.iter().count(), 0);
    }

    #[test]
    fn runs_come_out_among_messages_as_they_went_in() {
        let bytes_v3 = b"\x30\x05\0\x01t12\x30\x03\0\x01t\x30\x04\0\x01t3";
        let bytes_v5 = b"\x30\x06\0\x01t\x0012\x30\x04\0\x01t\0";
        let runs = [
            PublishRun::of(bytes_v3, Version::V311, 99).unwrap(),
            PublishRun::of(bytes_v5, Version::V5, 99).unwrap(),
        ];
        let message = parts(b"t", b"", b"x");
        let mut parcel = Parcel::default();
        parcel.push_run(ClientKey(3), &runs[0]);
        parcel.push(&message);
        parcel.push_run(ClientKey(4), &runs[1]);
        parcel.push(&message);
        assert_eq!(parcel.len(), 7);
        let got: Vec<_> = parcel.iter().collect();
        let [
            Piece::Run(ClientKey(3), first),
            Piece::Message(_),
            Piece::Run(ClientKey(4), second),
            Piece::Message(last),
        ] = got[..]
        else {
            panic!("{got:?}");
        };
        assert_eq!([first, second], runs);
        assert_eq!(format!("{last:?}"), format!("{message:?}"));
    }

    #[test]
    fn a_parcel_of_runs_is_bounded_by_size_and_by_count() {
        for (payload_size, count, runs) in [(0, 64, 2), (450, 8, 4)] {
            let mut packets = Vec::new();
            for _ in 0..64 {
                let payload = vec![0; payload_size];
                let body = parts(b"t", b"", &payload);
                let body =
                    crate::shard::delivery::encodings::publish_parts(Instant::ZERO, &body, &[]);
                let head = crate::codec::PublishHead::default();
                crate::codec::encode_publish(Version::V311, head, 0, &body, &mut packets);
            }
            let run = PublishRun::of(&packets, Version::V311, 999).unwrap();
            assert_eq!(run.count, count);
            let mut parcel = Parcel::default();
            while parcel.has_room_for_run(&run) {
                parcel.push_run(ClientKey(1), &run);
            }
            assert_eq!(parcel.len() as u32, runs * count);
            assert_eq!(parcel.bytes.capacity(), SIZE_MAX);
        }
    }

    #[test]
    fn a_parcel_is_bounded_by_size_and_by_count() {
        let largest = vec![0; BODY_SIZE_MAX - 1];
        for (payload, count) in [(&largest[..], 7), (b"", 128)] {
            let parts = parts(b"t", b"", payload);
            let mut parcel = Parcel::default();
            while parcel.has_room(&parts) {
                parcel.push(&parts);
            }
            assert_eq!(parcel.len(), count);
            assert_eq!(parcel.bytes.capacity(), SIZE_MAX);
        }
    }

    #[test]
    fn retained_and_large_messages_do_not_suit() {
        let plain = parts(b"t", b"", b"x");
        assert!(Parcel::suits(&plain));
        let retained = MessageParts {
            retain: true,
            ..plain
        };
        assert!(!Parcel::suits(&retained));
        let large = vec![0; BODY_SIZE_MAX];
        assert!(!Parcel::suits(&parts(b"t", b"", &large)));
        assert!(Parcel::suits(&parts(b"t", b"", &large[1..])));
    }
}
