//! A disk that loses what it was not asked to keep: operations end when the test says so, and a crash does any part of
//! those that have not ended, sector by sector.

use std::collections::{BTreeMap, VecDeque};

use ringmq_core::home::Home;
use ringmq_core::ids::{LogPosition, ShardId};
use ringmq_core::store::{
    CheckpointReader, Clocks, DiskDone, DiskError, DiskOp, FileKind, FileName, LogConfig, LogEnd,
    LogIdentity, LogReader, OpId, Policy, ReadConfig, Recovered, Shift, Source,
};

use crate::dice::Dice;

pub const SECRET: [u64; 2] = [0x0123_4567_89AB_CDEF, 0xFEDC_BA98_7654_3210];
const LOG_ID: u128 = 0x5EED;
const BLOCK_SIZE: u32 = 512;
const SEGMENT_SIZE: u64 = 16 * 1024;

/// A start: its number and shards, and where each log ended if it has.
#[derive(Clone, Debug)]
struct Epoch {
    number: u32,
    shards: usize,
    cut: Option<Vec<LogPosition>>,
}

/// A write that is not durable.
#[derive(Debug)]
struct Unsynced {
    number: u64,
    path: Path,
    at: u64,
    before: Vec<u8>,
}

type Path = (u32, usize, FileName);

#[derive(Debug, Default)]
pub struct Disk {
    epochs: Vec<Epoch>,
    files: BTreeMap<Path, Vec<u8>>,
    /// Checkpoints without a name, and what was asked and has not ended.
    unnamed: BTreeMap<Path, Vec<u8>>,
    queues: Vec<VecDeque<DiskOp>>,
    /// Nothing ends on these shards.
    pub held: Vec<bool>,
    pub published: usize,
    /// When answers may leave; `None`: always.
    pub policy: Option<Policy>,
    /// Bytes that files may take up; `None`: any number.
    pub room: Option<usize>,
    /// Writes that a loss of power may take.
    unsynced: Vec<Unsynced>,
    /// What each sync under way makes durable: writes that had ended before it was asked for.
    syncs: BTreeMap<OpId, u64>,
    writes: u64,
    /// Bytes written to a checkpoint at once, at most.
    pub largest_slice: usize,
}

impl Disk {
    /// Reads all there is, and begins an epoch.
    pub fn start(&mut self, shards: usize, now: Clocks) -> Recovered {
        let recovered = self.recover(now);
        let number = self.epochs.last().map_or(1, |last| last.number + 1);
        self.epochs.push(Epoch {
            number,
            shards,
            cut: None,
        });
        self.queues = (0..shards).map(|_| VecDeque::new()).collect();
        self.held = vec![false; shards];
        recovered
    }

    pub fn log_config(&self, shard: ShardId) -> LogConfig {
        LogConfig {
            shard,
            epoch: self.epochs.last().expect("it was started").number,
            log_id: LOG_ID,
            segment_size: SEGMENT_SIZE,
            block_size: BLOCK_SIZE,
            policy: self.policy.unwrap_or(Policy::Always),
        }
    }

    pub fn submit(&mut self, shard: usize, op: DiskOp) {
        if let DiskOp::Write { file, block, .. } = &op
            && file.kind == FileKind::Checkpoint
        {
            self.largest_slice = self.largest_slice.max(block.size());
        }
        if let DiskOp::Sync { op, .. } = &op {
            self.syncs.insert(*op, self.writes);
        }
        self.queues[shard].push_back(op);
    }

    /// Ends the operation of this place in the queue of a shard.
    pub fn end_one(&mut self, shard: usize, at: usize) -> Option<DiskDone> {
        let op = self.queues[shard].remove(at)?;
        let number = self.epochs.last().expect("it was started").number;
        if !self.has_room_for(number, shard, &op) {
            return Some(refused(op));
        }
        let result = Ok(());
        let (op, block) = match op {
            DiskOp::Create { op, file, size } => {
                self.file(number, shard, file).resize(size as usize, 0);
                (op, None)
            }
            DiskOp::Write {
                op,
                file,
                at,
                block,
                sync,
            } => {
                let content = self.file(number, shard, file);
                let end = content.len().min(at as usize + block.size());
                let before = content[end.min(at as usize)..end].to_vec();
                write(content, at, block.bytes());
                if !sync {
                    self.note_unsynced((number, shard, file), at, before);
                }
                (op, Some(block))
            }
            DiskOp::Sync { op, file } => {
                let upto = self.syncs.remove(&op).expect("it was asked for");
                self.note_synced((number, shard, file), upto);
                (op, None)
            }
            DiskOp::Publish { op, file } => {
                let path = (number, shard, file);
                self.note_synced(path, self.writes);
                let bytes = self.unnamed.remove(&path).expect("it was written");
                self.files.insert(path, bytes);
                self.published += 1;
                (op, None)
            }
            DiskOp::Remove { op, file } => {
                self.files.remove(&(number, shard, file));
                (op, None)
            }
        };
        Some(DiskDone { op, result, block })
    }

    /// Bytes of all files.
    pub fn used(&self) -> usize {
        let files = self.files.values().chain(self.unnamed.values());
        files.map(Vec::len).sum()
    }

    fn has_room_for(&mut self, epoch: u32, shard: usize, op: &DiskOp) -> bool {
        let (file, end) = match op {
            DiskOp::Create { file, size, .. } => (*file, *size as usize),
            DiskOp::Write {
                file, at, block, ..
            } => (*file, *at as usize + block.size()),
            DiskOp::Sync { .. } | DiskOp::Publish { .. } | DiskOp::Remove { .. } => return true,
        };
        let grows = end.saturating_sub(self.file(epoch, shard, file).len());
        grows == 0 || self.room.is_none_or(|room| self.used() + grows <= room)
    }

    fn note_unsynced(&mut self, path: Path, at: u64, before: Vec<u8>) {
        let number = self.writes;
        self.writes += 1;
        self.unsynced.push(Unsynced {
            number,
            path,
            at,
            before,
        });
    }

    fn note_synced(&mut self, path: Path, upto: u64) {
        let is_kept = |write: &Unsynced| write.path != path || write.number >= upto;
        self.unsynced.retain(is_kept);
    }

    /// The power ends: of what is not synced any sector may be gone.
    pub fn lose_power(&mut self, dice: &mut Dice) {
        for write in std::mem::take(&mut self.unsynced) {
            let Some(file) = self.files.get_mut(&write.path) else {
                continue; // It was removed.
            };
            for (index, sector) in write.before.chunks(512).enumerate() {
                if dice.one_in(2) {
                    let at = write.at as usize + index * 512;
                    file[at..at + sector.len()].copy_from_slice(sector);
                }
            }
        }
        self.crash(dice);
    }

    pub fn waiting(&self, shard: usize) -> usize {
        self.queues[shard].len()
    }

    fn file(&mut self, epoch: u32, shard: usize, file: FileName) -> &mut Vec<u8> {
        let path = (epoch, shard, file);
        match file.kind {
            FileKind::Log => self.files.entry(path).or_default(),
            FileKind::Checkpoint => self.unnamed.entry(path).or_default(),
        }
    }

    /// The process ends, or the power does: of what has not ended any sector may be there.
    pub fn crash(&mut self, dice: &mut Dice) {
        let number = self.epochs.last().expect("it was started").number;
        for shard in 0..self.queues.len() {
            for op in std::mem::take(&mut self.queues[shard]) {
                match op {
                    DiskOp::Create { file, size, .. } if dice.one_in(2) => {
                        self.file(number, shard, file).resize(size as usize, 0);
                    }
                    DiskOp::Write {
                        file, at, block, ..
                    } => {
                        for (index, sector) in block.bytes().chunks(512).enumerate() {
                            if dice.one_in(2) {
                                let at = at + index as u64 * 512;
                                write(self.file(number, shard, file), at, sector);
                            }
                        }
                    }
                    DiskOp::Publish { file, .. } if dice.one_in(2) => {
                        let path = (number, shard, file);
                        if let Some(bytes) = self.unnamed.remove(&path) {
                            self.files.insert(path, bytes);
                        }
                    }
                    DiskOp::Remove { file, .. } if dice.one_in(2) => {
                        self.files.remove(&(number, shard, file));
                    }
                    _ => {}
                }
            }
        }
        self.unnamed.clear();
        self.unsynced.clear();
        self.syncs.clear();
    }

    fn recover(&mut self, now: Clocks) -> Recovered {
        let mut recovered = Recovered::new(SECRET);
        for index in 0..self.epochs.len() {
            let epoch = self.epochs[index].clone();
            let home = Home::new(SECRET, epoch.shards);
            let ends: Vec<LogPosition> = (0..epoch.shards)
                .map(|shard| self.read_shard(&epoch, shard, &home, now, &mut recovered))
                .collect();
            self.epochs[index].cut = Some(ends);
        }
        recovered.check().expect("a client has one session");
        self.forget_epochs();
        recovered
    }

    /// An epoch whose shards all have a checkpoint needs none of those before it.
    fn forget_epochs(&mut self) {
        let is_whole = |epoch: &Epoch| {
            (0..epoch.shards).all(|shard| {
                let mut paths = self.files.keys();
                paths.any(|(e, s, file)| {
                    (*e, *s, file.kind) == (epoch.number, shard, FileKind::Checkpoint)
                })
            })
        };
        if let Some(at) = self.epochs.iter().rposition(is_whole) {
            let gone: Vec<u32> = self.epochs.drain(..at).map(|epoch| epoch.number).collect();
            self.files.retain(|(epoch, ..), _| !gone.contains(epoch));
        }
    }

    fn read_shard(
        &self,
        epoch: &Epoch,
        shard: usize,
        home: &Home,
        now: Clocks,
        recovered: &mut Recovered,
    ) -> LogPosition {
        let identity = LogIdentity {
            log_id: LOG_ID,
            epoch: epoch.number,
            shard: ShardId::new(shard),
        };
        let of_shard = |kind| {
            let files = self.files.iter();
            files
                .filter(move |((e, s, file), _)| (*e, *s, file.kind) == (epoch.number, shard, kind))
        };
        let source = |is_checkpoint| Source {
            is_checkpoint,
            shift: Shift::since(now, now, true),
        };
        let mut from = LogPosition(0);
        if let Some(((.., file), bytes)) = of_shard(FileKind::Checkpoint).next_back() {
            recovered.begin_checkpoint(home, ShardId::new(shard));
            let mut reader = CheckpointReader::new(identity, BLOCK_SIZE, *file);
            let mut apply = |record: ringmq_core::store::Record<'_>| {
                recovered.apply(record, source(true));
            };
            reader
                .feed(bytes, &mut apply)
                .expect("a checkpoint with a name is whole");
            from = reader
                .finish()
                .expect("a checkpoint with a name is whole")
                .end;
            recovered.end_checkpoint();
        }
        let mut reader = LogReader::new(ReadConfig {
            identity,
            block_size: BLOCK_SIZE,
            from,
            cut: epoch.cut.as_ref().map(|ends| ends[shard]),
        });
        for ((.., file), bytes) in of_shard(FileKind::Log) {
            if file.position >= from {
                let mut apply = |record: ringmq_core::store::Record<'_>| {
                    recovered.apply(record, source(false));
                };
                reader
                    .feed(*file, bytes, &mut apply)
                    .expect("an honest disk is not rotten");
            }
        }
        let LogEnd { end, .. } = reader.finish().expect("an honest disk is not rotten");
        end
    }
}

/// The disk has no room for it.
fn refused(op: DiskOp) -> DiskDone {
    let (op, block) = match op {
        DiskOp::Write { op, block, .. } => (op, Some(block)),
        DiskOp::Create { op, .. }
        | DiskOp::Sync { op, .. }
        | DiskOp::Publish { op, .. }
        | DiskOp::Remove { op, .. } => (op, None),
    };
    DiskDone {
        op,
        result: Err(DiskError::Full),
        block,
    }
}

fn write(file: &mut Vec<u8>, at: u64, bytes: &[u8]) {
    let at = at as usize;
    if file.len() < at + bytes.len() {
        file.resize(at + bytes.len(), 0);
    }
    file[at..at + bytes.len()].copy_from_slice(bytes);
}
