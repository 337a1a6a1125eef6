//! A disk that loses what it was not asked to keep: operations end when the scheduler says so, and a crash does any part
//! of those that have not ended, sector by sector.
//!
//! Invariants:
//! - a process that is killed loses nothing that was written, the loss of power only what was not synced;
//! - a name is durable when its directory was synced, which `Create` and `Publish` do before they end, and `Remove`
//!   does not.
//!
//! Not here: when operations end, and when the broker crashes (`broker.rs`, `world.rs`).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ringmq_core::home::Home;
use ringmq_core::ids::{LogPosition, ShardId};
use ringmq_core::store::{
    CheckpointReader, Clocks, Damage, DiskDone, DiskError, DiskOp, Downtime, FileKind, FileName,
    LogConfig, LogEnd, LogIdentity, LogReader, OpId, Policy, ReadConfig, Record, Recovered, Shift,
    Source,
};
use ringmq_core::time::Instant;

use crate::tamper::Sabotage;

/// What is left of the files of a broker.
#[derive(Debug)]
pub struct Disk {
    secret: [u64; 2],
    segment_size: u64,
    sabotage: Option<Sabotage>,
    epochs: Vec<Epoch>,
    files: BTreeMap<Path, File>,
    /// Checkpoints without a name.
    unnamed: BTreeMap<Path, File>,
    /// Removed, and the directory was not synced since.
    removed: BTreeMap<Path, File>,
    /// What was asked and has not ended, by shard.
    queues: Vec<VecDeque<DiskOp>>,
    /// Nothing ends on these shards.
    pub held: Vec<bool>,
    /// When answers may leave.
    pub policy: Policy,
    /// Bytes that files may take up; `None`: any number.
    pub room: Option<usize>,
    /// Writes that have ended.
    writes: u64,
    /// What each sync under way makes durable: writes that had ended before it was asked for.
    syncs: BTreeMap<OpId, u64>,
    /// Checkpoints that were begun, and on which shard the last one was.
    pub(crate) begun: usize,
    begun_on: usize,
    /// Checkpoints that got their names.
    pub published: usize,
    /// Bytes written to a checkpoint at once, at most.
    pub largest_slice: usize,
    /// How often the power was lost.
    boot: u32,
    /// Time that the last start did not count, since the wall clock contradicted the logs.
    pub ignored: Duration,
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// It is killed: what was written is there.
    Kill,
    /// The power is lost: of what was not synced any sector may be there.
    Power,
}

/// A start: its number and shards, and where each log ended if it has.
#[derive(Clone, Debug)]
struct Epoch {
    number: u32,
    shards: usize,
    cut: Option<Vec<LogPosition>>,
    boot: u32,
}

type Path = (u32, usize, FileName);

#[derive(Debug, Default)]
struct File {
    bytes: Vec<u8>,
    /// What the loss of power brings back: sectors as they were before each write that is not synced, with its number.
    unsynced: BTreeMap<usize, Vec<(u64, [u8; SECTOR])>>,
    /// The directory was not synced since it got its name.
    is_name_unsynced: bool,
}

impl Disk {
    /// An empty disk of a broker with this secret, whose logs have segments of this size in bytes.
    pub fn new(secret: [u64; 2], segment_size: u64) -> Disk {
        Disk {
            secret,
            segment_size,
            sabotage: None,
            epochs: Vec::new(),
            files: BTreeMap::new(),
            unnamed: BTreeMap::new(),
            removed: BTreeMap::new(),
            queues: Vec::new(),
            held: Vec::new(),
            policy: Policy::Always,
            room: None,
            writes: 0,
            syncs: BTreeMap::new(),
            begun: 0,
            begun_on: 0,
            published: 0,
            largest_slice: 0,
            boot: 0,
            ignored: Duration::ZERO,
        }
    }

    /// Breaks a rule from now on.
    pub(crate) fn with_sabotage(mut self, sabotage: Option<Sabotage>) -> Disk {
        self.sabotage = sabotage;
        self
    }

    /// Reads all there is, and begins an epoch.
    ///
    /// # Errors
    /// What was durable is damaged, which an honest disk never is.
    pub fn start(&mut self, shards: usize, now: Clocks) -> Result<Recovered, Damage> {
        let recovered = self.recover(now)?;
        let number = self.epochs.last().map_or(1, |last| last.number + 1);
        self.epochs.push(Epoch {
            number,
            shards,
            cut: None,
            boot: self.boot,
        });
        self.queues = (0..shards).map(|_| VecDeque::new()).collect();
        self.held = vec![false; shards];
        Ok(recovered)
    }

    /// What a shard of the present epoch writes its log with.
    pub fn log_config(&self, shard: ShardId) -> LogConfig {
        LogConfig {
            shard,
            epoch: self.number(),
            log_id: LOG_ID,
            segment_size: self.segment_size,
            block_size: SECTOR as u32,
            policy: self.policy,
        }
    }

    /// A shard asks for something.
    pub fn submit(&mut self, shard: usize, op: DiskOp) {
        if let DiskOp::Write { file, block, .. } = &op
            && file.kind == FileKind::Checkpoint
        {
            self.largest_slice = self.largest_slice.max(block.size());
        }
        if let DiskOp::Create { file, .. } = &op
            && file.kind == FileKind::Checkpoint
        {
            self.begun += 1;
            self.begun_on = shard;
        }
        if let DiskOp::Sync { op, .. } = &op {
            self.syncs.insert(*op, self.writes);
        }
        self.queues[shard].push_back(op);
    }

    /// Nothing ends any more but on the shard that has begun a checkpoint.
    pub(crate) fn hold_others(&mut self) {
        for (at, held) in self.held.iter_mut().enumerate() {
            *held |= at != self.begun_on;
        }
    }

    /// Bytes of all files.
    pub fn used(&self) -> usize {
        let files = self.files.values().chain(self.unnamed.values());
        files.map(|file| file.bytes.len()).sum()
    }

    fn has_room_for(&mut self, shard: usize, op: &DiskOp) -> bool {
        let (file, end) = match op {
            DiskOp::Create { file, size, .. } => (*file, *size as usize),
            DiskOp::Write {
                file, at, block, ..
            } => (*file, *at as usize + block.size()),
            DiskOp::Sync { .. } | DiskOp::Publish { .. } | DiskOp::Remove { .. } => return true,
        };
        let there = self.file((self.number(), shard, file));
        let grows = end.saturating_sub(there.map_or(0, |file| file.bytes.len()));
        grows == 0 || self.room.is_none_or(|room| self.used() + grows <= room)
    }

    /// Operations of a shard that have not ended.
    pub fn waiting(&self, shard: usize) -> usize {
        self.queues[shard].len()
    }

    /// Ends the operation of this place in the queue of a shard.
    pub fn end_one(&mut self, shard: usize, at: usize) -> Option<DiskDone> {
        let op = self.queues[shard].remove(at)?;
        if !self.has_room_for(shard, &op) {
            return Some(op.answered(Err(DiskError::Full)));
        }
        let number = self.number();
        let result = Ok(());
        let (op, block) = match op {
            DiskOp::Create { op, file, size } => {
                self.create((number, shard, file), size as usize);
                (op, None)
            }
            DiskOp::Write {
                op,
                file,
                at,
                block,
                sync,
            } => {
                let lies = self.sabotage == Some(Sabotage::AnswerBeforeSync);
                self.write((number, shard, file), at as usize, block.bytes());
                if sync && !lies {
                    self.sync((number, shard, file), u64::MAX);
                }
                (op, Some(block))
            }
            DiskOp::Sync { op, file } => {
                let upto = self.syncs.remove(&op).expect("it was asked for");
                self.sync((number, shard, file), upto);
                (op, None)
            }
            DiskOp::Publish { op, file } => {
                self.publish((number, shard, file));
                self.sync_names(number, shard);
                self.published += 1;
                (op, None)
            }
            DiskOp::Remove { op, file } => {
                self.remove((number, shard, file));
                (op, None)
            }
        };
        Some(DiskDone { op, result, block })
    }

    /// Fails the operation of this place in the queue of a shard: any part of it was done.
    pub fn fail_one(
        &mut self,
        shard: usize,
        at: usize,
        coin: &mut dyn FnMut() -> bool,
    ) -> Option<DiskDone> {
        let op = self.queues[shard].remove(at)?;
        let (DiskOp::Create { op: id, .. }
        | DiskOp::Write { op: id, .. }
        | DiskOp::Sync { op: id, .. }
        | DiskOp::Publish { op: id, .. }
        | DiskOp::Remove { op: id, .. }) = op;
        self.do_partly(shard, op, coin);
        Some(DiskDone {
            op: id,
            result: Err(DiskError::Failed(EIO)),
            block: None,
        })
    }

    /// The process ends, or the power does: of what has not ended any part may be there.
    pub fn crash(&mut self, how: Crash, coin: &mut dyn FnMut() -> bool) {
        for shard in 0..self.queues.len() {
            for op in std::mem::take(&mut self.queues[shard]) {
                self.do_partly(shard, op, coin);
            }
        }
        if how == Crash::Power {
            self.boot += 1;
            self.lose_power(coin);
        }
        // A start removes them.
        self.unnamed.clear();
        self.syncs.clear();
    }

    fn do_partly(&mut self, shard: usize, op: DiskOp, coin: &mut dyn FnMut() -> bool) {
        let number = self.number();
        match op {
            DiskOp::Create { file, size, .. } if coin() => {
                let path = (number, shard, file);
                self.create(path, size as usize);
                self.note_name_unsynced(path);
            }
            DiskOp::Write {
                file, at, block, ..
            } => {
                for (index, sector) in block.bytes().chunks(SECTOR).enumerate() {
                    if coin() {
                        let at = at as usize + index * SECTOR;
                        self.write((number, shard, file), at, sector);
                    }
                }
            }
            DiskOp::Publish { file, .. } if coin() => {
                let path = (number, shard, file);
                self.publish(path);
                self.note_name_unsynced(path);
            }
            DiskOp::Remove { file, .. } if coin() => self.remove((number, shard, file)),
            DiskOp::Create { .. }
            | DiskOp::Publish { .. }
            | DiskOp::Remove { .. }
            | DiskOp::Sync { .. } => {}
        }
    }

    fn lose_power(&mut self, coin: &mut dyn FnMut() -> bool) {
        for (path, file) in std::mem::take(&mut self.removed) {
            if coin() {
                self.files.entry(path).or_insert(file);
            }
        }
        self.files
            .retain(|_, file| !file.is_name_unsynced || coin());
        for file in self.files.values_mut() {
            file.is_name_unsynced = false;
            for (sector, before) in std::mem::take(&mut file.unsynced) {
                if coin() {
                    file.bytes[sector * SECTOR..][..SECTOR].copy_from_slice(&before[0].1);
                }
            }
        }
    }

    fn write(&mut self, path: Path, at: usize, bytes: &[u8]) {
        let number = self.writes;
        if let Some(file) = self.file(path) {
            file.write(number, at, bytes);
            self.writes += 1;
        }
    }

    /// Makes the writes before this one durable.
    fn sync(&mut self, path: Path, upto: u64) {
        if let Some(file) = self.file(path) {
            file.unsynced.retain(|_, writes| {
                writes.retain(|(number, _)| *number >= upto);
                !writes.is_empty()
            });
        }
    }

    fn create(&mut self, path: Path, size: usize) {
        let (number, shard, name) = path;
        let bytes = vec![0; size];
        let file = File {
            bytes,
            ..File::default()
        };
        match name.kind {
            FileKind::Log => self.files.insert(path, file),
            FileKind::Checkpoint => self.unnamed.insert(path, file),
        };
        if self.sabotage == Some(Sabotage::NamesUnsynced) {
            self.note_name_unsynced(path);
        } else {
            self.sync_names(number, shard);
        }
        if self.sabotage == Some(Sabotage::HastyRemoval) && name.kind == FileKind::Checkpoint {
            self.files.retain(|&(n, s, file), _| {
                let is_its_own = (n, s, file.kind) == (number, shard, FileKind::Log);
                !is_its_own || file.position >= name.position
            });
        }
    }

    /// Syncs the content, and gives it its name.
    fn publish(&mut self, path: Path) {
        if let Some(mut file) = self.unnamed.remove(&path) {
            file.unsynced.clear();
            self.files.insert(path, file);
        }
    }

    fn remove(&mut self, path: Path) {
        self.unnamed.remove(&path);
        if let Some(file) = self.files.remove(&path) {
            self.removed.insert(path, file);
        }
    }

    fn note_name_unsynced(&mut self, path: Path) {
        if let Some(file) = self.files.get_mut(&path) {
            file.is_name_unsynced = true;
        }
    }

    fn sync_names(&mut self, number: u32, shard: usize) {
        let is_there = |path: &Path| (path.0, path.1) == (number, shard);
        self.removed.retain(|path, _| !is_there(path));
        if self.sabotage != Some(Sabotage::NamesUnsynced) {
            for (path, file) in &mut self.files {
                file.is_name_unsynced &= !is_there(path);
            }
        }
    }

    fn number(&self) -> u32 {
        self.epochs.last().expect("it was started").number
    }

    /// A file that is written; it may have been removed meanwhile.
    fn file(&mut self, path: Path) -> Option<&mut File> {
        match path.2.kind {
            FileKind::Log => self.files.get_mut(&path),
            FileKind::Checkpoint => self.unnamed.get_mut(&path),
        }
    }

    fn recover(&mut self, now: Clocks) -> Result<Recovered, Damage> {
        let mut recovered = Recovered::new(self.secret);
        let shifts = self.shifts(now)?;
        for (index, shift) in shifts.into_iter().enumerate() {
            let epoch = self.epochs[index].clone();
            let home = Home::new(self.secret, epoch.shards);
            let ends: Result<Vec<LogPosition>, Damage> = (0..epoch.shards)
                .map(|shard| self.recover_shard(&epoch, shard, &home, shift, &mut recovered))
                .collect();
            let ends = ends?;
            if self.sabotage != Some(Sabotage::LoseRetains) {
                recovered.end_epoch();
            }
            self.epochs[index].cut = Some(ends);
        }
        recovered.check().expect("a client has one session");
        if self.sabotage != Some(Sabotage::ReadUnsynced) {
            // What counts from now on must not be lost any more.
            for file in self.files.values_mut() {
                file.unsynced.clear();
                file.is_name_unsynced = false;
            }
        }
        self.forget_epochs();
        Ok(recovered)
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
            self.removed.retain(|(epoch, ..), _| !gone.contains(epoch));
        }
    }

    /// From the clock of each epoch to the present one. The clocks of all boots are one here, so whatever is not
    /// zero makes things late, or early.
    fn shifts(&mut self, now: Clocks) -> Result<Vec<Shift>, Damage> {
        let (mut shifts, mut later, mut onward) = (Vec::new(), now, Shift::NONE);
        let boots = self.epochs.chunk_by(|a, b| a.boot == b.boot);
        for epochs in boots.collect::<Vec<_>>().into_iter().rev() {
            if epochs[0].boot < self.boot
                && let Some(last) = self.last_clocks(epochs)?
            {
                onward = self.shift(last, later).then(onward);
                later = last;
            }
            shifts.extend(epochs.iter().map(|_| onward));
        }
        let late = |shift: &Shift| shift.apply(MIDDLE).saturating_since(MIDDLE);
        self.ignored = shifts.iter().map(late).max().unwrap_or_default();
        shifts.reverse();
        Ok(shifts)
    }

    /// What an operator decides who does not know which clock was wrong.
    fn shift(&self, last: Clocks, later: Clocks) -> Shift {
        let downtime = match self.sabotage {
            Some(Sabotage::TrustWallClock) => Downtime::Counted,
            Some(_) | None => Downtime::Checked,
        };
        let ignored = |_| Downtime::Ignored.shift(last, later);
        let shift = downtime.shift(last, later).or_else(ignored);
        shift.expect("nothing is odd about what is ignored")
    }

    /// The last reading of both clocks in the logs of a boot.
    fn last_clocks(&self, epochs: &[Epoch]) -> Result<Option<Clocks>, Damage> {
        let mut last: Option<Clocks> = None;
        for epoch in epochs {
            for shard in 0..epoch.shards {
                let end = self.read_shard(epoch, shard, &mut |_, _| {})?;
                let all = last.into_iter().chain(end.clocks);
                last = all.max_by_key(|clocks| clocks.boot);
            }
        }
        Ok(last)
    }

    fn recover_shard(
        &self,
        epoch: &Epoch,
        shard: usize,
        home: &Home,
        shift: Shift,
        recovered: &mut Recovered,
    ) -> Result<LogPosition, Damage> {
        let has_checkpoint = self.checkpoint(epoch, shard).is_some();
        if has_checkpoint {
            recovered.begin_checkpoint(home, ShardId::new(shard));
        }
        let mut is_in_log = !has_checkpoint;
        let end = self.read_shard(epoch, shard, &mut |record, kind| {
            let is_checkpoint = kind == FileKind::Checkpoint;
            if !is_checkpoint && !std::mem::replace(&mut is_in_log, true) {
                recovered.end_checkpoint();
            }
            let source = Source {
                is_checkpoint,
                shift,
            };
            recovered.apply(record, source);
        })?;
        if !is_in_log {
            recovered.end_checkpoint();
        }
        Ok(end.end)
    }

    fn checkpoint(&self, epoch: &Epoch, shard: usize) -> Option<(FileName, &File)> {
        let mut checkpoints = self.files_of(epoch, shard, FileKind::Checkpoint);
        checkpoints.next_back()
    }

    fn files_of(
        &self,
        epoch: &Epoch,
        shard: usize,
        kind: FileKind,
    ) -> impl DoubleEndedIterator<Item = (FileName, &File)> {
        let number = epoch.number;
        let all = self.files.iter();
        let of_shard =
            all.filter(move |((e, s, file), _)| (*e, *s, file.kind) == (number, shard, kind));
        of_shard.map(|((.., name), file)| (*name, file))
    }

    /// Reads the checkpoint and the log of a shard.
    fn read_shard(
        &self,
        epoch: &Epoch,
        shard: usize,
        to: &mut dyn FnMut(Record<'_>, FileKind),
    ) -> Result<LogEnd, Damage> {
        let identity = LogIdentity {
            log_id: LOG_ID,
            epoch: epoch.number,
            shard: ShardId::new(shard),
        };
        let mut from = LogEnd {
            end: LogPosition(0),
            clocks: None,
        };
        if let Some((name, file)) = self.checkpoint(epoch, shard) {
            let mut reader = CheckpointReader::new(identity, SECTOR as u32, name);
            reader.feed(&file.bytes, &mut |record| to(record, FileKind::Checkpoint))?;
            from = reader.finish()?;
        }
        let mut reader = LogReader::new(ReadConfig {
            identity,
            block_size: SECTOR as u32,
            from: from.end,
            cut: epoch.cut.as_ref().map(|ends| ends[shard]),
        });
        for (name, file) in self.files_of(epoch, shard, FileKind::Log) {
            if name.position >= from.end {
                reader.feed(name, &file.bytes, &mut |record| to(record, FileKind::Log))?;
            }
        }
        let LogEnd { end, clocks } = reader.finish()?;
        let clocks = clocks.or(from.clocks);
        Ok(LogEnd { end, clocks })
    }
}

impl File {
    /// Writes, beyond the end too.
    fn write(&mut self, number: u64, at: usize, bytes: &[u8]) {
        assert!(at.is_multiple_of(SECTOR), "blocks begin with a sector");
        if self.bytes.len() < at + bytes.len() {
            self.bytes.resize(at + bytes.len(), 0);
        }
        for (index, sector) in bytes.chunks(SECTOR).enumerate() {
            let at = at + index * SECTOR;
            let there = &mut self.bytes[at..at + SECTOR];
            let before = (&*there).try_into().expect("it is as long as a sector");
            let writes = self.unsynced.entry(at / SECTOR).or_default();
            writes.push((number, before));
            there.copy_from_slice(sector);
        }
    }
}

const LOG_ID: u128 = 0x5EED;
/// What a disk writes as a whole.
const SECTOR: usize = 512;
const EIO: i32 = 5;
/// Far from both ends of time.
const MIDDLE: Instant = Instant::from_nanos(1 << 62);
