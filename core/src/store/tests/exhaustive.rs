//! A small log and a small checkpoint, and everything that can happen to them: each crash with each subset of
//! the sectors that were not durable, each cut, each flipped bit. What was durable is found, or the damage
//! is named.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::ids::{LogPosition, SessionNo, ShardId, TurnSeq};
use crate::store::testing::{ScriptedDisk, topics};
use crate::store::*;
use crate::time::Instant;

/// Four blocks: five batches and the end of the first segment fill two segments.
const SEGMENT: u64 = 2048;
const BLOCK: u32 = 512;
const SECTOR: usize = 512;
/// Bytes of the topic of each batch: two of them take two blocks.
const SIZES: [usize; 6] = [20, 600, 600, 30, 440, 10];

type Segments = BTreeMap<u64, Vec<u8>>;

/// What was written, in order, and where each write lies in the log.
struct History {
    writes: Vec<(Range<u64>, Vec<u8>)>,
    identity: LogIdentity,
    end: LogPosition,
    topics: Vec<String>,
    /// Which write each topic is in.
    write_of: Vec<usize>,
}

/// Writes the batches, two under way at a time, then the empty one of a pause.
fn history() -> History {
    let mut ops = Vec::new();
    let mut clocks = Clocks::default();
    let config = LogConfig {
        shard: ShardId::new(0),
        epoch: 1,
        log_id: 77,
        segment_size: SEGMENT,
        block_size: BLOCK,
        policy: Policy::Always,
    };
    let mut log = Log::new(config, &mut ops);
    let mut disk = ScriptedDisk::default();
    let mut writes = Vec::new();
    let topic_of = |turn: usize| format!("{turn}{}", "x".repeat(SIZES[turn]));
    for turn in 0..SIZES.len() + 1 {
        if turn < SIZES.len() {
            let topic = topic_of(turn);
            log.push(&Record::Unretained {
                topic: topic.as_bytes(),
            });
            log.end_turn(TurnSeq(turn as u64 + 1), clocks, &mut ops);
        }
        loop {
            note_writes(&ops, &mut writes);
            disk.waiting.append(&mut ops);
            // The last write stays under way, so that each batch knows of all but the one before it.
            let left = usize::from(turn < SIZES.len());
            if disk.waiting.len() <= left {
                break;
            }
            let done = disk.answer(0, Ok(()));
            log.on_done(done, clocks, &mut ops).unwrap();
        }
    }
    clocks.boot = log.deadline().unwrap();
    log.on_deadline(clocks, &mut ops);
    note_writes(&ops, &mut writes);
    let topics: Vec<String> = (0..SIZES.len()).map(topic_of).collect();
    let write_of = topics.iter().map(|topic| {
        let is_in = |bytes: &[u8]| {
            bytes
                .windows(topic.len())
                .any(|part| part == topic.as_bytes())
        };
        writes.iter().position(|(_, bytes)| is_in(bytes)).unwrap()
    });
    History {
        write_of: write_of.collect(),
        writes,
        identity: log.identity(),
        end: log.position(),
        topics,
    }
}

fn note_writes(ops: &[DiskOp], writes: &mut Vec<(Range<u64>, Vec<u8>)>) {
    for op in ops {
        if let DiskOp::Write {
            file, at, block, ..
        } = op
        {
            let begin = file.position.0 + at;
            writes.push((begin..begin + block.size() as u64, block.bytes().to_vec()));
        }
    }
}

fn put(segments: &mut Segments, at: u64, bytes: &[u8]) {
    let segment = segments.get_mut(&(at / SEGMENT * SEGMENT)).unwrap();
    let at = (at % SEGMENT) as usize;
    segment[at..at + bytes.len()].copy_from_slice(bytes);
}

impl History {
    fn segments(&self, writes: usize) -> Segments {
        let mut segments = Segments::new();
        for index in 0..=self.end.0 / SEGMENT {
            segments.insert(index * SEGMENT, vec![0; SEGMENT as usize]);
        }
        for (range, bytes) in &self.writes[..writes] {
            put(&mut segments, range.start, bytes);
        }
        segments
    }

    fn config(&self, cut: Option<LogPosition>) -> ReadConfig {
        ReadConfig {
            identity: self.identity,
            block_size: BLOCK,
            from: LogPosition(0),
            cut,
        }
    }

    /// How many topics are in the first `writes` writes.
    fn topics_in(&self, writes: usize) -> usize {
        self.write_of
            .iter()
            .filter(|write| **write < writes)
            .count()
    }
}

// (threat T3)
#[test]
fn after_a_crash_the_log_ends_with_a_whole_batch_and_nothing_durable_is_missing() {
    let history = history();
    assert_eq!(
        history.segments(0).len(),
        3,
        "two segments and the beginning of a third"
    );
    let mut subsets = 0;
    for synced in 0..=history.writes.len() {
        // Up to two more are under way, and any of their sectors are on the disk. The empty batch at the end
        // goes alone.
        let empty = history.writes.len() - 1;
        let end = if synced < empty {
            empty.min(synced + 2)
        } else {
            empty + 1
        };
        let under_way = &history.writes[synced..end];
        let sectors: Vec<(u64, &[u8])> = under_way
            .iter()
            .flat_map(|(range, bytes)| {
                let places = (range.start..range.end).step_by(SECTOR);
                places.zip(bytes.chunks(SECTOR))
            })
            .collect();
        for subset in 0..1_u32 << sectors.len() {
            let mut segments = history.segments(synced);
            for (index, (at, bytes)) in sectors.iter().enumerate() {
                if subset >> index & 1 == 1 {
                    put(&mut segments, *at, bytes);
                }
            }
            let (found, _) = topics(&segments, history.config(None)).unwrap();
            assert!(found == history.topics[..found.len()], "in order");
            let whole = under_way
                .iter()
                .map(|(range, _)| range.clone())
                .map(|range| {
                    let is_there = |at: u64| {
                        let index = sectors.iter().position(|(begin, _)| *begin == at).unwrap();
                        subset >> index & 1 == 1
                    };
                    range.step_by(SECTOR).all(is_there)
                });
            let whole = whole.take_while(|is_whole| *is_whole).count();
            assert_eq!(found.len(), history.topics_in(synced + whole));
            subsets += 1;
        }
    }
    assert!(subsets > 40, "{subsets}");
}

// (threat T3) (threat T4) (threat 92)
#[test]
fn a_flipped_bit_is_found_unless_nobody_reads_it() {
    let history = history();
    let whole = history.segments(history.writes.len());
    let last = history.writes.last().unwrap().0.clone();
    let mut unnoticed = 0;
    for at in 0..history.end.0 {
        for bit in 0..8 {
            let mut segments = whole.clone();
            let segment = segments.get_mut(&(at / SEGMENT * SEGMENT)).unwrap();
            segment[(at % SEGMENT) as usize] ^= 1 << bit;
            // The log of a crash: only the empty batch at the end has nobody to vouch for it.
            let in_crashed = topics(&segments, history.config(None));
            // A log that was read before, up to its end.
            let in_sealed = topics(&segments, history.config(Some(history.end)));
            let is_last = last.contains(&at);
            match (in_crashed, in_sealed) {
                (Ok((found, _)), Ok(sealed)) => {
                    assert!(found == history.topics && sealed.0 == found, "byte {at}");
                    unnoticed += 1;
                }
                (Ok((found, end)), Err(damage)) => {
                    assert!(is_last && found == history.topics, "byte {at}: {damage}");
                    assert_eq!(end.end.0, last.start);
                    check_place(&history, &damage, at);
                }
                (Err(one), Err(other)) => {
                    assert_eq!(one, other);
                    check_place(&history, &one, at);
                }
                (Err(damage), Ok(_)) => panic!("byte {at}: {damage}"),
            }
        }
    }
    // Padding, and what the end of a segment leaves out.
    let used: u64 = SIZES.iter().map(|size| 64 + 5 + *size as u64).sum();
    assert!(
        unnoticed < 8 * (history.end.0 - used),
        "{unnoticed} bits are not noticed"
    );
}

/// The damage is in the batch in which the byte lies.
fn check_place(history: &History, damage: &Damage, at: u64) {
    let begin = damage.file.position.0 + damage.at;
    let (range, _) = history
        .writes
        .iter()
        .find(|(range, _)| range.contains(&at))
        .unwrap();
    assert_eq!(begin, range.start, "byte {at}: {damage}");
}

#[test]
fn what_is_cut_off_is_found_missing_if_something_behind_it_or_an_earlier_start_knows() {
    let history = history();
    let whole = history.segments(history.writes.len());
    for cut in (0..history.end.0).step_by(SECTOR) {
        let mut segments = whole.clone();
        for (begin, bytes) in &mut segments {
            let kept = cut.saturating_sub(*begin).min(SEGMENT) as usize;
            bytes[kept..].fill(0);
        }
        let (found, end) = topics(&segments, history.config(None)).unwrap();
        assert!(found == history.topics[..found.len()] && end.end.0 <= cut);
        assert!(topics(&segments, history.config(Some(history.end))).is_err());
        // The same with shorter files, or without them.
        segments.iter_mut().for_each(|(begin, bytes)| {
            bytes.truncate(cut.saturating_sub(*begin).min(SEGMENT) as usize);
        });
        assert_eq!(
            topics(&segments, history.config(None)).unwrap(),
            (found.clone(), end)
        );
        segments.retain(|begin, _| *begin < cut);
        assert_eq!(
            topics(&segments, history.config(None)).unwrap(),
            (found, end)
        );
        // A file that is cut, with others behind it.
        let mut segments = whole.clone();
        segments
            .get_mut(&(cut / SEGMENT * SEGMENT))
            .unwrap()
            .truncate((cut % SEGMENT) as usize);
        if cut < history.writes.last().unwrap().0.start / SEGMENT * SEGMENT {
            assert!(
                topics(&segments, history.config(None)).is_err(),
                "cut at {cut}"
            );
        }
    }
    let mut segments = whole;
    segments.remove(&0);
    let damage = topics(&segments, history.config(None)).unwrap_err();
    assert_eq!((damage.file.position.0, damage.at), (0, 0));
}

#[test]
fn batches_of_others_do_not_count() {
    let history = history();
    let segments = history.segments(history.writes.len());
    let identity = history.identity;
    let others = [
        LogIdentity {
            epoch: 2,
            ..identity
        },
        LogIdentity {
            shard: ShardId::new(1),
            ..identity
        },
    ];
    for identity in others {
        let config = ReadConfig {
            identity,
            ..history.config(None)
        };
        let (found, end) = topics(&segments, config).unwrap();
        assert_eq!(
            (found.len(), end.end, end.clocks),
            (0, LogPosition(0), None)
        );
    }
    // A segment of another data directory is none that is empty.
    let config = ReadConfig {
        identity: LogIdentity {
            log_id: 78,
            ..identity
        },
        ..history.config(None)
    };
    let damage = topics(&segments, config).unwrap_err();
    assert_eq!((damage.at, damage.kind), (0, DamageKind::Foreign));
    // The first batch once more, at another place.
    let mut segments = history.segments(0);
    put(&mut segments, 0, &history.writes[0].1);
    put(&mut segments, 512, &history.writes[0].1);
    let (found, end) = topics(&segments, history.config(None)).unwrap();
    assert_eq!((found.len(), end.end), (1, LogPosition(512)));
}

#[test]
fn the_last_clocks_are_found_without_reading_the_records() {
    let history = history();
    let end = topics(
        &history.segments(history.writes.len()),
        history.config(None),
    );
    let clocks = end.unwrap().1.clocks;
    assert!(clocks.is_some_and(|clocks| clocks.boot > Instant::ZERO));
    let last = |writes, position| {
        let segments = history.segments(writes);
        let file = FileName {
            kind: FileKind::Log,
            position: LogPosition(position),
        };
        last_clocks(history.identity, BLOCK, file, &segments[&position])
    };
    let all = history.writes.len();
    assert_eq!(last(all, 2 * SEGMENT), clocks);
    assert_eq!(last(all - 1, 2 * SEGMENT), Some(Clocks::default()));
    assert_eq!(last(1, 0), Some(Clocks::default()));
    assert_eq!(last(0, 0), None);
}

const CHECKPOINT: FileName = FileName {
    kind: FileKind::Checkpoint,
    position: LogPosition(4096),
};

/// A checkpoint of three batches, with this as its last record.
fn checkpoint(identity: LogIdentity, last: Record<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for index in 0..3 {
        let mut batch = Batch::new(Block::default());
        for no in 0..5 {
            batch.push(&Record::Ended(SessionNo(index * 5 + no)));
        }
        if index == 2 {
            batch.push(&last);
        }
        let stamp = Stamp {
            identity,
            position: LogPosition(bytes.len() as u64),
            durable_upto: CHECKPOINT.position,
            clocks: Clocks {
                boot: Instant::from_nanos(index),
                wall_ns: 5,
            },
            place: Place::Checkpoint,
        };
        bytes.extend_from_slice(batch.finish(&stamp, BLOCK).bytes());
    }
    // The file may be larger than what is in it.
    bytes.resize(bytes.len() + BLOCK as usize, 0);
    bytes
}

fn read_checkpoint(
    identity: LogIdentity,
    bytes: &[u8],
    piece: usize,
) -> Result<(Vec<u64>, LogEnd), Damage> {
    let mut ended = Vec::new();
    let mut reader = CheckpointReader::new(identity, BLOCK, CHECKPOINT);
    for piece in bytes.chunks(piece) {
        reader.feed(piece, &mut |record| match record {
            Record::Ended(no) => ended.push(no.0),
            other => panic!("{other:?} was not written"),
        })?;
    }
    reader.finish().map(|end| (ended, end))
}

#[test]
fn a_checkpoint_is_whole_or_damaged() {
    let identity = history().identity;
    let footer = Record::Footer(Footer { records: 15 });
    let bytes = checkpoint(identity, footer);
    let expected: Vec<u64> = (0..15).collect();
    for piece in [1, 100, 512, 700, 1024, 10_000] {
        let (ended, end) = read_checkpoint(identity, &bytes, piece).unwrap();
        assert_eq!((&ended, end.end), (&expected, CHECKPOINT.position));
        let clocks = Clocks {
            boot: Instant::from_nanos(2),
            wall_ns: 5,
        };
        assert_eq!(end.clocks, Some(clocks));
    }
    let written = bytes.len() - BLOCK as usize;
    for size in 0..written {
        assert!(read_checkpoint(identity, &bytes[..size], 512).is_err());
    }
    for at in 0..written {
        for bit in 0..8 {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << bit;
            match read_checkpoint(identity, &bytes, 1024) {
                Ok((ended, _)) => assert!(ended == expected && at % SECTOR > 64, "byte {at}"),
                Err(damage) => assert_eq!(damage.at as usize, at / SECTOR * SECTOR),
            }
        }
    }
    let miscounted = checkpoint(identity, Record::Footer(Footer { records: 14 }));
    let unfinished = checkpoint(identity, Record::Ended(SessionNo(15)));
    for (bytes, expected) in [
        (miscounted, DamageKind::Lost),
        (unfinished, DamageKind::Lost),
    ] {
        assert_eq!(
            read_checkpoint(identity, &bytes, 512).unwrap_err().kind,
            expected
        );
    }
    let cut = read_checkpoint(identity, &bytes[..1024], 512).unwrap_err();
    assert_eq!(cut.kind, DamageKind::Unfinished);
    assert_eq!(
        cut.to_string(),
        "0000000000001000.ckp is damaged at byte 1024: the checkpoint ends before it is complete"
    );
}
