//! Shards for tests, played by their logs alone.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use ringmq_core::codec::Version;
use ringmq_core::ids::{SessionNo, ShardId, TurnSeq};
use ringmq_core::limits::Limits;
use ringmq_core::store::{
    Block, Clocks, DiskDone, DiskOp, FileName, Log, LogConfig, OpId, Opened as OpenedRecord,
    Record, SessionTerms,
};
use ringmq_core::time::Instant;

use super::recovery::Opened;

/// A shard that records which sessions are opened and ended, each in a turn of its own.
pub(super) struct PlayedShard {
    config: LogConfig,
    path: PathBuf,
    log: Log,
    turns: u64,
    sessions: HashMap<String, SessionNo>,
}

impl PlayedShard {
    pub(super) fn new(opened: &Opened, shard: usize, segment_size: u64) -> PlayedShard {
        let config = LogConfig {
            segment_size,
            ..opened.log_config(ShardId::new(shard), &Limits::default())
        };
        let path = opened.shard_path(shard);
        let mut ops = Vec::new();
        let mut log = Log::new(config, &mut ops);
        carry_out(&mut log, &mut ops, &path, Clocks::default());
        PlayedShard {
            config,
            path,
            log,
            turns: 0,
            sessions: HashMap::new(),
        }
    }

    pub(super) fn open(&mut self, client_id: &str, now: Instant) {
        let no = SessionNo::new(self.config.epoch, self.config.shard, self.turns);
        self.sessions.insert(client_id.to_owned(), no);
        self.record(&opened_record(no, client_id), clocks(now));
    }

    pub(super) fn end(&mut self, client_id: &str, now: Instant) {
        let no = self.sessions.remove(client_id).expect("it was opened here");
        self.record(&Record::Ended(no), clocks(now));
    }

    /// What comes next stands in another file.
    pub(super) fn begin_segment(&mut self, now: Instant) {
        let mut ops = Vec::new();
        self.log.begin_segment(clocks(now), &mut ops);
        carry_out(&mut self.log, &mut ops, &self.path, clocks(now));
    }

    pub(super) fn record(&mut self, record: &Record<'_>, clocks: Clocks) {
        self.turns += 1;
        let mut ops = Vec::new();
        self.log.push(record);
        let turn = TurnSeq(self.turns);
        self.log.end_turn(turn, clocks, &mut ops);
        carry_out(&mut self.log, &mut ops, &self.path, clocks);
        assert_eq!(self.log.durable(), turn);
    }
}

fn clocks(now: Instant) -> Clocks {
    Clocks {
        boot: now,
        wall_ns: now.as_nanos(),
    }
}

pub(super) fn opened_record(no: SessionNo, client_id: &str) -> Record<'_> {
    Record::Opened(OpenedRecord {
        no,
        client_id,
        terms: SessionTerms {
            user: None,
            version: Version::V5,
            expiry_s: u32::MAX,
        },
    })
}

/// Does everything that the log asks for, at once.
pub(super) fn carry_out(log: &mut Log, ops: &mut Vec<DiskOp>, directory: &Path, clocks: Clocks) {
    while !ops.is_empty() {
        for op in std::mem::take(ops) {
            let (op, block) = do_op(op, directory);
            let result = Ok(());
            let done = DiskDone { op, result, block };
            log.on_done(done, clocks, ops).unwrap();
        }
    }
}

pub(super) fn do_op(op: DiskOp, directory: &Path) -> (OpId, Option<Block>) {
    use std::os::unix::fs::FileExt as _;
    let path_of = |file: FileName| directory.join(file.to_string());
    match op {
        DiskOp::Create { op, file, size } => {
            let file = File::create(path_of(file)).unwrap();
            file.set_len(size).unwrap();
            (op, None)
        }
        DiskOp::Write {
            op,
            file,
            at,
            block,
            ..
        } => {
            let file = File::options().write(true).open(path_of(file)).unwrap();
            file.write_all_at(block.bytes(), at).unwrap();
            (op, Some(block))
        }
        DiskOp::Sync { op, .. } | DiskOp::Publish { op, .. } => (op, None),
        DiskOp::Remove { op, file } => {
            fs::remove_file(path_of(file)).unwrap();
            (op, None)
        }
    }
}
