//! Records by chance, and a disk that waits to be told.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use fastrand::Rng;

use super::*;
use crate::codec::{QoS, RetainHandling, SubscribeOptions, Version};
use crate::ids::{ClientKey, DeliveryNo, LogPosition, PacketId, SessionNo};
use crate::origin::Origin;
use crate::session::KeptMatch;
use crate::time::Instant;
use crate::topic::{TopicFilter, TopicLimits};

/// A record of any kind, with fields of any size that a test can afford.
pub(super) fn with_record<T>(rng: &mut Rng, use_it: impl FnOnce(Record<'_>) -> T) -> T {
    let no = SessionNo(number(rng));
    let texts = [text(rng), text(rng), text(rng)];
    let payload = vec![rng.u8(..); size(rng, 300)];
    let (receivers, ranges) = (receivers(rng), ranges(rng));
    let message = message(rng, &texts, &payload);
    let receivers = Receivers::listed(&receivers);
    let ranges = DeliveryRanges::listed(&ranges);
    let id = PacketId::new(rng.u16(1..)).unwrap();
    let (delivery, next_delivery) = (DeliveryNo(number(rng)), DeliveryNo(number(rng)));
    let body = BodyNo(number(rng));
    let topic = message.topic;
    let origin = Origin {
        no,
        id,
        ticket: number(rng),
    };
    let next = number(rng);
    use_it(match rng.u8(..22) {
        0 => Record::Message(MessageRecord {
            message,
            origin: rng.bool().then_some(origin),
            body: rng.bool().then_some(body),
            receivers,
        }),
        1 => Record::MoreReceivers { body, receivers },
        2 => Record::Received { no, id },
        3 => Record::Released { no, id },
        4 => Record::Phase2 { no, delivery },
        5 => Record::Settled { no, ranges },
        6 => Record::Retained(message),
        7 => Record::Unretained { topic },
        8 => Record::Numbers { no, next_delivery },
        9 => Record::Footer(Footer {
            records: number(rng),
        }),
        10 => Record::Spread(origin),
        11 => Record::Reached { origin, receivers },
        12 => Record::Tickets { no, next },
        13 => Record::Kept(origin),
        _ => session_record(rng, no, message, &texts[0]),
    })
}

/// The same record, about another session.
pub(super) fn about(record: Record<'_>, no: SessionNo) -> Record<'_> {
    match record {
        Record::Opened(opened) => Record::Opened(Opened { no, ..opened }),
        Record::Changed(changed) => Record::Changed(Changed { no, ..changed }),
        Record::Ended(_) => Record::Ended(no),
        Record::Away { at, .. } => Record::Away { no, at },
        Record::Will(will) => Record::Will(WillRecord { no, ..will }),
        Record::WillGone(_) => Record::WillGone(no),
        Record::Subscribed(subscribed) => Record::Subscribed(SubscribedRecord { no, ..subscribed }),
        Record::Unsubscribed { filter, .. } => Record::Unsubscribed { no, filter },
        Record::Gather { filter, .. } => Record::Gather { no, filter },
        Record::GatherDone { filter, .. } => Record::GatherDone { no, filter },
        Record::Passed(_) => Record::Passed(no),
        Record::Received { id, .. } => Record::Received { no, id },
        Record::Released { id, .. } => Record::Released { no, id },
        Record::Phase2 { delivery, .. } => Record::Phase2 { no, delivery },
        Record::Settled { ranges, .. } => Record::Settled { no, ranges },
        Record::Numbers { next_delivery, .. } => Record::Numbers { no, next_delivery },
        Record::Spread(origin) => Record::Spread(Origin { no, ..origin }),
        Record::Kept(origin) => Record::Kept(Origin { no, ..origin }),
        Record::Reached { origin, receivers } => {
            let origin = Origin { no, ..origin };
            Record::Reached { origin, receivers }
        }
        Record::Tickets { next, .. } => Record::Tickets { no, next },
        Record::Message(_)
        | Record::MoreReceivers { .. }
        | Record::Retained(_)
        | Record::Unretained { .. }
        | Record::Footer(_) => record,
    }
}

/// A message that these sessions take.
pub(super) fn with_message<T>(
    rng: &mut Rng,
    receivers: Receivers<'_>,
    use_it: impl FnOnce(Record<'_>) -> T,
) -> T {
    let texts = [text(rng), text(rng), text(rng)];
    let payload = vec![rng.u8(..); size(rng, 300)];
    let message = StoredMessage {
        author: None,
        ..message(rng, &texts, &payload)
    };
    use_it(Record::Message(MessageRecord {
        message,
        body: None,
        origin: None,
        receivers,
    }))
}

/// Some of the sessions below `sessions`, each with a delivery below `deliveries`.
pub(super) fn receivers_of(rng: &mut Rng, sessions: u64, deliveries: u64) -> Vec<Receiver> {
    let mut list = receivers(rng);
    for receiver in &mut list {
        receiver.no = SessionNo(rng.u64(..sessions));
        receiver.delivery = DeliveryNo(rng.u64(..deliveries));
    }
    list
}

fn message<'a>(rng: &mut Rng, texts: &'a [String; 3], payload: &'a [u8]) -> StoredMessage<'a> {
    StoredMessage {
        topic: texts[1].as_bytes(),
        properties: if rng.bool() { b"" } else { b"\x01\x01" },
        payload,
        qos: QoS::from_bits(rng.u8(..3)).unwrap(),
        retain: rng.bool(),
        expires_at: rng.bool().then(|| Instant::from_nanos(number(rng))),
        publisher: ClientKey(rng.u64(..)),
        author: rng.bool().then_some(AuthorRecord {
            user: rng.bool().then_some(&*texts[0]),
            client_id: &texts[2],
            had_rules: rng.bool(),
        }),
    }
}

fn session_record<'a>(
    rng: &mut Rng,
    no: SessionNo,
    message: StoredMessage<'a>,
    client_id: &'a str,
) -> Record<'a> {
    let versions = [Version::V31, Version::V311, Version::V5];
    let terms = SessionTerms {
        user: rng.bool().then_some(client_id),
        version: rng.choice(versions).unwrap(),
        expiry_s: rng.u32(1..),
    };
    let filter = filter(rng);
    let at = Instant::from_nanos(number(rng));
    match rng.u8(..11) {
        0 => Record::Opened(Opened {
            no,
            client_id,
            terms,
        }),
        1 => Record::Changed(Changed { no, terms }),
        2 => Record::Ended(no),
        3 => Record::Away { no, at },
        4 => Record::Will(WillRecord {
            no,
            message,
            expiry_s: rng.bool().then(|| rng.u32(..)),
            delay_s: rng.u32(..),
        }),
        5 => Record::WillGone(no),
        6 => Record::Unsubscribed { no, filter },
        7 => Record::Gather { no, filter },
        8 => Record::GatherDone { no, filter },
        9 => Record::Passed(no),
        _ => Record::Subscribed(SubscribedRecord {
            no,
            filter,
            options: SubscribeOptions {
                qos: QoS::from_bits(rng.u8(..3)).unwrap(),
                no_local: rng.bool(),
                retain_as_published: rng.bool(),
                retain_handling: RetainHandling::SendIfNew,
            },
            subscription_id: NonZeroU32::new(rng.u32(..3) * rng.u32(..1000)),
        }),
    }
}

/// Small ones and large ones.
fn number(rng: &mut Rng) -> u64 {
    rng.u64(..) >> rng.u32(..64)
}

/// Seldom a large one.
fn size(rng: &mut Rng, bound: usize) -> usize {
    match rng.u8(..20) {
        0 => rng.usize(..bound * 50),
        _ => rng.usize(..bound),
    }
}

/// A topic, or any other name.
fn text(rng: &mut Rng) -> String {
    let size = 1 + size(rng, 20);
    (0..size)
        .map(|_| rng.choice(['a', '/', 'ü', 'z']).unwrap())
        .collect()
}

fn filter(rng: &mut Rng) -> TopicFilter {
    let text = match rng.u8(..3) {
        0 => format!("$share/g{}/{}/+", rng.u8(..3), text(rng)),
        1 => format!("{}/#", text(rng)),
        _ => text(rng),
    };
    TopicFilter::parse(&text, &LIMITS).unwrap()
}

fn receivers(rng: &mut Rng) -> Vec<Receiver> {
    let mut list = Vec::new();
    for _ in 0..rng.u8(..4) {
        let terms = ReceiverTerms {
            qos: QoS::from_bits(rng.u8(1..3)).unwrap(),
            retain: rng.bool(),
            matched: rng.bool().then(|| Arc::new(matched(rng))),
            may_have_been_sent: rng.bool(),
        };
        for _ in 0..=rng.u8(..5) {
            list.push(Receiver {
                no: SessionNo(number(rng)),
                delivery: DeliveryNo(number(rng)),
                terms: terms.clone(),
            });
        }
    }
    list
}

/// Not nothing at all: that is `None`.
fn matched(rng: &mut Rng) -> KeptMatch {
    let share = rng.bool().then(|| Arc::new(filter(rng)));
    let ids = rng.usize(usize::from(share.is_none())..3);
    let ids = (0..ids).map(|_| NonZeroU32::new(rng.u32(1..=268_435_455)).unwrap());
    KeptMatch {
        subscription_ids: ids.collect(),
        share,
    }
}

fn ranges(rng: &mut Rng) -> Vec<DeliveryRange> {
    let range = |rng: &mut Rng| {
        let first = number(rng) / 2;
        DeliveryRange {
            first: DeliveryNo(first),
            last: DeliveryNo(first + number(rng) / 2),
        }
    };
    (0..rng.u8(..5)).map(|_| range(rng)).collect()
}

pub(super) const LIMITS: TopicLimits = TopicLimits {
    size_max: u16::MAX,
    levels_max: u16::MAX,
};

/// A record of a log of this boot.
pub(super) const IN_LOG: Source = Source {
    is_checkpoint: false,
    shift: Shift::NONE,
};
/// The same, of a checkpoint.
pub(super) const IN_CHECKPOINT: Source = Source {
    is_checkpoint: true,
    shift: Shift::NONE,
};

/// A disk that does what it is asked when the test says so, in any order.
#[derive(Debug, Default)]
pub(super) struct ScriptedDisk {
    /// Asked and not answered.
    pub(super) waiting: Vec<DiskOp>,
    /// The segments, by position: what was written is in them once it was answered.
    pub(super) segments: BTreeMap<u64, Vec<u8>>,
}

impl ScriptedDisk {
    /// Answers the operation at `index` of `waiting`.
    pub(super) fn answer(&mut self, index: usize, result: Result<(), DiskError>) -> DiskDone {
        let op = self.waiting.remove(index);
        if result.is_ok() {
            self.carry_out(&op);
        }
        op.answered(result)
    }

    fn carry_out(&mut self, op: &DiskOp) {
        match op {
            DiskOp::Create { file, size, .. } => {
                let previous = self
                    .segments
                    .insert(file.position.0, vec![0; *size as usize]);
                assert!(previous.is_none(), "{file} was made twice");
            }
            DiskOp::Write {
                file, at, block, ..
            } => {
                let segment = self.segments.get_mut(&file.position.0);
                let segment = segment.expect("it was made before it is written");
                let at = *at as usize;
                assert_eq!(block.bytes().as_ptr().align_offset(Block::ALIGNMENT), 0);
                let place = &mut segment[at..at + block.size()];
                assert!(
                    place.iter().all(|byte| *byte == 0),
                    "{file} is written again at {at}"
                );
                place.copy_from_slice(block.bytes());
            }
            DiskOp::Remove { file, .. } => {
                let removed = self.segments.remove(&file.position.0);
                assert!(removed.is_some(), "{file} is not there");
            }
            DiskOp::Sync { file, .. } => assert!(self.segments.contains_key(&file.position.0)),
            DiskOp::Publish { file, .. } => unreachable!("a log publishes nothing: {file}"),
        }
    }

    /// Reads everything, and gives the topics of its `Unretained` records.
    pub(super) fn topics(&self, config: ReadConfig) -> Result<(Vec<String>, LogEnd), Damage> {
        topics(&self.segments, config)
    }
}

/// Reads segments, and gives the topics of their `Unretained` records.
pub(super) fn topics(
    segments: &BTreeMap<u64, Vec<u8>>,
    config: ReadConfig,
) -> Result<(Vec<String>, LogEnd), Damage> {
    let mut topics = Vec::new();
    let mut reader = LogReader::new(config);
    for (position, bytes) in segments {
        let file = FileName {
            kind: FileKind::Log,
            position: LogPosition(*position),
        };
        reader.feed(file, bytes, &mut |record| match record {
            Record::Unretained { topic } => topics.push(String::from_utf8(topic.into()).unwrap()),
            other => panic!("{other:?} was not written"),
        })?;
    }
    reader.finish().map(|end| (topics, end))
}
