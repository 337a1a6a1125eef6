//! Later versions read what earlier ones wrote. For each format that there was, `format-N` is a data directory with
//! records of each kind, and `format-N.jsonl` what is in it. The last one is written here again, byte by byte.
//!
//! After a change to what is written, raise `FORMAT` in `core/src/store/batch.rs`, see that the reader still
//! understands what earlier ones mean, and have the new directory written:
//!
//! ```sh
//! UPDATE_GOLDEN=1 cargo test -p ringmq golden
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringmq_core::codec::{QoS, RetainHandling, SubscribeOptions, Version};
use ringmq_core::home::Home;
use ringmq_core::ids::{ClientKey, DeliveryNo, LogPosition, PacketId, SessionNo, ShardId};
use ringmq_core::limits::Limits;
use ringmq_core::origin::Origin;
use ringmq_core::session::KeptMatch;
use ringmq_core::store::{
    AuthorRecord, BodyNo, Changed, CheckpointWriter, Clocks, DeliveryRange, DeliveryRanges,
    DiskDone, Downtime, FORMAT, Log, LogConfig, LogIdentity, MessageRecord, Opened, Policy,
    Receiver, ReceiverTerms, Receivers, Record, SessionTerms, StoredMessage, SubscribedRecord,
    WillRecord,
};
use ringmq_core::time::Instant;
use ringmq_core::topic::{TopicFilter, TopicLimits};

use super::super::data_dir::DataDir;
use super::super::folder::Folder;
use super::super::manifest::{Epoch, Manifest};
use super::super::played::{carry_out, do_op};
use super::super::tools::{export, survey};
use super::super::{StoreConfig, recovery};

const FIRST: u32 = 1;
const SECOND: u32 = 2;
const PRESENT: u32 = 3;
const SHARDS: usize = 2;
const SECRET: [u64; 2] = [3, 5];
const BLOCK_SIZE: u32 = 4096;
const SEGMENT_SIZE: u64 = 1 << 20;
/// 2026.
const WALL_NS: u64 = 1_767_225_600_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;

/// What writes one shard of one epoch.
struct Pen {
    path: PathBuf,
    config: LogConfig,
    log: Log,
    turns: u64,
    /// Kinds of records that were written, here and by the other pens.
    kinds: BTreeSet<&'static str>,
}

impl Pen {
    fn new(directory: &DataDir, epoch: u32, shard: usize) -> Pen {
        let config = LogConfig {
            shard: ShardId::new(shard),
            epoch,
            log_id: LOG_ID,
            segment_size: SEGMENT_SIZE,
            block_size: BLOCK_SIZE,
            policy: Policy::Always,
        };
        let path = directory.shard_path(epoch, shard);
        let mut ops = Vec::new();
        let mut log = Log::new(config, &mut ops);
        carry_out(&mut log, &mut ops, &path, clocks(epoch, 0));
        Pen {
            path,
            config,
            log,
            turns: 0,
            kinds: BTreeSet::new(),
        }
    }

    fn clocks(&self) -> Clocks {
        clocks(self.config.epoch, self.turns)
    }

    fn turn(&mut self, records: &[Record<'_>]) {
        self.turns += 1;
        for record in records {
            self.kinds.insert(record.name());
            self.log.push(record);
        }
        let mut ops = Vec::new();
        let clocks = self.clocks();
        let turn = ringmq_core::ids::TurnSeq(self.turns);
        self.log.end_turn(turn, clocks, &mut ops);
        carry_out(&mut self.log, &mut ops, &self.path, clocks);
    }

    /// A checkpoint that takes the place of the log before it.
    fn checkpoint(&mut self, records: &[Record<'_>]) {
        let (mut ops, clocks) = (Vec::new(), self.clocks());
        let position = self.log.begin_segment(clocks, &mut ops);
        carry_out(&mut self.log, &mut ops, &self.path, clocks);
        let LogConfig {
            shard,
            epoch,
            log_id,
            ..
        } = self.config;
        let identity = LogIdentity {
            log_id,
            epoch,
            shard,
        };
        let mut writer = CheckpointWriter::new(identity, BLOCK_SIZE, position, 0, &mut ops);
        for record in records {
            self.kinds.insert(record.name());
            writer.push(record);
        }
        self.kinds.insert("footer");
        writer.close(clocks, &mut ops);
        while writer.outcome().is_none() {
            for op in std::mem::take(&mut ops) {
                let (op, block) = do_op(op, &self.path);
                let result = Ok(());
                writer.on_done(DiskDone { op, result, block }, &mut ops);
            }
        }
        self.log.free_before(position, &mut ops);
        carry_out(&mut self.log, &mut ops, &self.path, clocks);
    }

    /// Cuts off what nothing was written to, as a start does.
    fn end(self) -> (LogPosition, BTreeSet<&'static str>) {
        let end = self.log.position();
        for entry in fs::read_dir(&self.path).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let Some(digits) = name.strip_suffix(".log") else {
                continue;
            };
            let begin = u64::from_str_radix(digits, 16).unwrap();
            if begin >= end.0 {
                fs::remove_file(path).unwrap();
            } else if begin + SEGMENT_SIZE > end.0 {
                let file = File::options().write(true).open(path).unwrap();
                file.set_len(end.0 - begin).unwrap();
            }
        }
        (end, self.kinds)
    }
}

const LOG_ID: u128 = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef;

/// Of a turn: each epoch has a boot of its own.
fn clocks(epoch: u32, turn: u64) -> Clocks {
    let span = turn * SECOND_NS;
    Clocks {
        boot: Instant::from_nanos(1_000 * SECOND_NS + span),
        wall_ns: WALL_NS + u64::from(epoch) * 1_000 * SECOND_NS + span,
    }
}

fn no(epoch: u32, shard: usize, counter: u64) -> SessionNo {
    SessionNo::new(epoch, ShardId::new(shard), counter)
}

/// A name whose home is this shard.
fn on(shard: usize, prefix: &str) -> String {
    let home = Home::new(SECRET, SHARDS);
    let mut names = (0..).map(|number| format!("{prefix}{number}"));
    let found = names.find(|name| home.of_client(name).index() == shard);
    found.expect("there is one")
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text, &TopicLimits::of(&Limits::default())).unwrap()
}

fn message<'a>(topic: &'a str, payload: &'a [u8], qos: QoS) -> StoredMessage<'a> {
    StoredMessage {
        topic: topic.as_bytes(),
        properties: b"",
        payload,
        qos,
        retain: false,
        expires_at: None,
        publisher: ClientKey(7),
        author: None,
    }
}

fn opened(no: SessionNo, client_id: &str) -> Record<'_> {
    Record::Opened(Opened {
        no,
        client_id,
        terms: TERMS,
    })
}

const TERMS: SessionTerms<'_> = SessionTerms {
    user: Some("müller"),
    version: Version::V5,
    expiry_s: 3_600,
};

fn subscribed(no: SessionNo, text: &str, id: u32) -> Record<'static> {
    Record::Subscribed(SubscribedRecord {
        no,
        filter: filter(text),
        options: SubscribeOptions {
            qos: QoS::ExactlyOnce,
            no_local: id == 7,
            retain_as_published: true,
            retain_handling: RetainHandling::SendIfNew,
        },
        subscription_id: NonZeroU32::new(id),
    })
}

fn will(no: SessionNo, topic: &str) -> Record<'_> {
    Record::Will(WillRecord {
        no,
        message: message(topic, b"gone", QoS::AtLeastOnce),
        expiry_s: Some(5),
        delay_s: 30,
    })
}

fn receiver(no: SessionNo, delivery: u64, share: Option<&str>) -> Receiver {
    let ids = NonZeroU32::new(7).into_iter().collect();
    let share = share.map(|text| Arc::new(filter(text)));
    Receiver {
        no,
        delivery: DeliveryNo(delivery),
        terms: ReceiverTerms {
            qos: QoS::AtLeastOnce,
            retain: share.is_none(),
            matched: Some(Arc::new(KeptMatch {
                subscription_ids: ids,
                share,
            })),
            may_have_been_sent: false,
        },
    }
}

fn taken<'a>(message: StoredMessage<'a>, receivers: &'a [Receiver]) -> MessageRecord<'a> {
    MessageRecord {
        message,
        origin: None,
        body: None,
        receivers: Receivers::listed(receivers),
    }
}

fn packet(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

fn origin(no: SessionNo, id: u16, ticket: u64) -> Origin {
    let id = packet(id);
    Origin { no, id, ticket }
}

/// Writes a data directory of two epochs, and a third one in which nothing was done. Gives the kinds of its records.
fn write(path: &Path) -> BTreeSet<&'static str> {
    let (directory, found) = DataDir::open(path).unwrap();
    assert!(found.is_none());
    let mut kinds = BTreeSet::new();
    let mut epochs = Vec::new();
    let tellers: [fn(&mut [Pen]); 2] = [tell_first, tell_second];
    for (number, tell) in (FIRST..).zip(tellers) {
        directory.make_epoch(number, SHARDS).unwrap();
        let mut pens: Vec<Pen> = (0..SHARDS)
            .map(|shard| Pen::new(&directory, number, shard))
            .collect();
        tell(&mut pens);
        directory.note_begun(number, SHARDS).unwrap();
        let ended: Vec<_> = pens.into_iter().map(Pen::end).collect();
        let cut = ended.iter().map(|(end, _)| *end).collect();
        kinds.extend(ended.into_iter().flat_map(|(_, kinds)| kinds));
        epochs.push(Epoch {
            number,
            shards: SHARDS,
            boot_id: format!("boot-{number}"),
            cut: Some(cut),
        });
    }
    epochs.push(Epoch {
        number: PRESENT,
        shards: 1,
        boot_id: format!("boot-{PRESENT}"),
        cut: None,
    });
    directory.make_epoch(PRESENT, 1).unwrap();
    let manifest = Manifest {
        log_id: LOG_ID,
        secret: SECRET,
        block_size: BLOCK_SIZE,
        epochs,
    };
    directory.write_manifest(&manifest).unwrap();
    kinds
}

/// The log of the first epoch.
fn tell_first(pens: &mut [Pen]) {
    let [zero, one] = pens else {
        panic!("two shards")
    };
    let (a, gone, over) = (no(FIRST, 0, 0), no(FIRST, 0, 1), no(FIRST, 0, 2));
    let (p, names) = (no(FIRST, 1, 0), [on(0, "a"), on(1, "p")]);
    zero.turn(&[opened(a, &names[0])]);
    let terms = SessionTerms {
        version: Version::V311,
        user: None,
        expiry_s: u32::MAX,
    };
    one.turn(&[opened(p, &names[1])]);
    one.turn(&[Record::Changed(Changed { no: p, terms })]);
    zero.turn(&[
        subscribed(a, "t/#", 7),
        Record::Gather {
            no: a,
            filter: filter("t/#"),
        },
        subscribed(a, "$share/g/s/+", 0),
        subscribed(a, "x", 0),
    ]);
    zero.turn(&[
        Record::GatherDone {
            no: a,
            filter: filter("t/#"),
        },
        Record::Unsubscribed {
            no: a,
            filter: filter("x"),
        },
    ]);
    tell_ends(zero, gone, over);
    one.turn(&[will(p, "wills/p")]);
    tell_messages(zero, one, a, p);
}

/// Sessions that end: one owes something, the other has given it.
fn tell_ends(pen: &mut Pen, gone: SessionNo, over: SessionNo) {
    let shared = [
        receiver(gone, 0, Some("$share/g/s/+")),
        receiver(over, 0, Some("$share/g/s/+")),
    ];
    let message = message("s/1", b"for the group", QoS::AtLeastOnce);
    pen.turn(&[opened(gone, "gone"), opened(over, "over")]);
    pen.turn(&[will(gone, "wills/gone"), will(over, "wills/over")]);
    pen.turn(&[Record::Message(taken(message, &shared))]);
    pen.turn(&[Record::Ended(gone), Record::Ended(over)]);
    pen.turn(&[Record::WillGone(over), Record::Passed(over)]);
}

fn tell_messages(zero: &mut Pen, one: &mut Pen, a: SessionNo, p: SessionNo) {
    let expires_at = Some(clocks(FIRST, 900).boot);
    let interrupted = StoredMessage {
        properties: b"\x01\x01",
        retain: true,
        expires_at,
        author: Some(AuthorRecord {
            user: None,
            client_id: "p",
            had_rules: false,
        }),
        ..message("t/interrupted", b"\x00\xff", QoS::ExactlyOnce)
    };
    let receivers = [0, 1, 2, 3].map(|delivery| [receiver(a, delivery, None)]);
    zero.turn(&[Record::Message(MessageRecord {
        origin: Some(origin(p, 5, 3)),
        ..taken(interrupted, &receivers[0])
    })]);
    for (receivers, payload) in receivers[1..].iter().zip([b"1", b"2", b"3"]) {
        let message = message("t/1", payload, QoS::AtLeastOnce);
        zero.turn(&[Record::Message(taken(message, receivers))]);
    }
    let ranges = [DeliveryRange {
        first: DeliveryNo(1),
        last: DeliveryNo(2),
    }];
    zero.turn(&[
        Record::Phase2 {
            no: a,
            delivery: DeliveryNo(0),
        },
        Record::Settled {
            no: a,
            ranges: DeliveryRanges::listed(&ranges),
        },
    ]);
    zero.turn(&[
        Record::Retained(message("r/0", b"zero", QoS::AtMostOnce)),
        Record::Kept(origin(p, 11, 2)),
    ]);
    let author = Some(AuthorRecord {
        user: Some("u"),
        client_id: "c",
        had_rules: true,
    });
    one.turn(&[
        Record::Retained(StoredMessage {
            author,
            ..message("r/1", b"one", QoS::AtLeastOnce)
        }),
        Record::Retained(message("r/2", b"two", QoS::AtLeastOnce)),
        Record::Unretained { topic: b"r/2" },
    ]);
    let (first, second) = (packet(9), packet(10));
    one.turn(&[
        Record::Received { no: p, id: first },
        Record::Received { no: p, id: second },
        Record::Released { no: p, id: second },
        Record::Spread(origin(p, 11, 2)),
    ]);
    let at = one.clocks().boot;
    one.turn(&[Record::Away { no: p, at }]);
}

/// The second epoch: a checkpoint of one shard, and logs.
fn tell_second(pens: &mut [Pen]) {
    let [zero, one] = pens else {
        panic!("two shards")
    };
    let (a, b) = (no(FIRST, 0, 0), no(SECOND, 0, 0));
    let names = [on(0, "a"), on(0, "b")];
    zero.turn(&[opened(b, &names[1])]);
    let at = zero.clocks().boot;
    let receivers = [5, 6].map(|delivery| [receiver(a, delivery, None)]);
    let others = [receiver(b, 0, None)];
    let reached = [receiver(b, 0, None), receiver(a, 0, Some("$share/g/s/+"))];
    let body = BodyNo(0);
    let reached = Record::Reached {
        origin: origin(a, 6, 2),
        receivers: Receivers::listed(&reached),
    };
    zero.checkpoint(&[
        opened(a, &names[0]),
        will(a, "wills/a"),
        Record::Away { no: a, at },
        subscribed(a, "t/#", 7),
        Record::Gather {
            no: a,
            filter: filter("t/#"),
        },
        Record::Received {
            no: a,
            id: packet(3),
        },
        Record::Tickets { no: a, next: 4 },
        reached,
        Record::Phase2 {
            no: a,
            delivery: DeliveryNo(4),
        },
        Record::Message(MessageRecord {
            body: Some(body),
            ..taken(message("t/2", b"both", QoS::AtLeastOnce), &receivers[0])
        }),
        Record::Numbers {
            no: a,
            next_delivery: DeliveryNo(6),
        },
        opened(b, &names[1]),
        Record::MoreReceivers {
            body,
            receivers: Receivers::listed(&others),
        },
        Record::Numbers {
            no: b,
            next_delivery: DeliveryNo(1),
        },
        Record::Retained(message("r/0", b"zero", QoS::AtMostOnce)),
    ]);
    let later = message("t/3", b"later", QoS::AtLeastOnce);
    zero.turn(&[Record::Message(taken(later, &receivers[1]))]);
    one.turn(&[opened(no(SECOND, 1, 0), &on(1, "q"))]);
}

/// All files but the lock, by their names below `path`.
fn files(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![path.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap().path();
            let name = entry.strip_prefix(path).unwrap().to_owned();
            if entry.is_dir() {
                open.push(entry);
            } else if name != Path::new("LOCK") {
                found.insert(name, fs::read(entry).unwrap());
            }
        }
    }
    found
}

fn copy(from: &Path, to: &Path) {
    for (name, bytes) in files(from) {
        let path = to.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    // Nothing is in it, so the repository does not have it.
    fs::create_dir_all(to.join(format!("e{PRESENT:04}/s00"))).unwrap();
}

fn golden(format: u8) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/tests");
    folder.join(format!("format-{format}"))
}

/// Without the first line, which names the version that exported it.
fn exported(path: &Path) -> String {
    let mut out = Vec::new();
    export(path, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    text.split_once('\n').unwrap().1.to_owned()
}

#[test]
fn golden_directories_of_all_formats_are_read() {
    for format in 1..=FORMAT {
        let golden = golden(format);
        let folder = Folder::new();
        let path = folder.path().join("data");
        copy(&golden, &path);
        assert_eq!(survey(&path).unwrap().flaws, []);
        let expected = fs::read_to_string(golden.with_extension("jsonl")).unwrap();
        assert_eq!(exported(&path), expected, "format {format}");
        let config = StoreConfig {
            data_dir: path,
            policy: Policy::Always,
            free_bytes_min: 0,
            downtime: Downtime::Ignored,
        };
        let mut opened = recovery::open(&config, 3).unwrap();
        let starts = opened.take_starts(&Limits::default());
        let sessions: usize = starts.iter().map(|start| start.part.sessions.len()).sum();
        let expected = expected.matches("\"type\":\"session\"").count();
        let owed: usize = starts.iter().map(|start| start.part.owed.len()).sum();
        assert_eq!(sessions + owed, expected);
    }
}

#[test]
fn the_golden_directory_is_written_as_it_was() {
    let folder = Folder::new();
    let path = folder.path().join("data");
    let kinds = write(&path);
    let all: BTreeSet<&str> = Record::names().collect();
    assert_eq!(kinds, all, "each kind of record is in it");
    let golden = golden(FORMAT);
    if std::env::var_os("UPDATE_GOLDEN").is_some() && !golden.exists() {
        copy(&path, &golden);
        fs::write(golden.with_extension("jsonl"), exported(&path)).unwrap();
    }
    let (written, expected) = (files(&path), files(&golden));
    let changed = |name: &&PathBuf| written.get(*name) != expected.get(*name);
    let changed: Vec<&PathBuf> = written.keys().filter(changed).collect();
    assert!(
        changed.is_empty() && written.len() == expected.len(),
        "what is written has changed: {changed:?}. The head of {} says what to do.",
        file!()
    );
}
