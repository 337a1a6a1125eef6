//! The start: from what the data directory holds to what each shard begins with.
//!
//! All epochs are read in order, each with all its shards, into one state. What the newest log says is made durable
//! before anybody is told of it: a process that was killed may have left it in the cache. Then the manifest seals it,
//! and names the epoch that the shards are going to write.
//!
//! Not here: what records mean (`ringmq_core::store`).

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use ringmq_core::home::Home;
use ringmq_core::ids::{LogPosition, ShardId};
use ringmq_core::limits::Limits;
use ringmq_core::store::{
    CheckpointReader, Clocks, Damage, DamageKind, Downtime, FileName, LogConfig, LogEnd,
    LogIdentity, LogReader, OddClock, Policy, ReadConfig, Record, Recovered, RecoveredDelivery,
    RecoveredPart, RecoveredSession, Shift, Source,
};
use ringmq_core::time::Instant;
use ringmq_ring::{clock, wall_clock};
use tracing::{info, warn};

use super::data_dir::{DataDir, Listing, sync_directory};
use super::error::{StoreError, StoreFault};
use super::examine::{BLOCK_SIZE, Direct, try_direct};
use super::keeper::{self, KeeperConfig, KeeperLink};
use super::manifest::{Epoch, Manifest};
use super::seal::Reuse;
use super::{StoreConfig, seal, segment_size, state};
use crate::error::StartError;
use crate::inbox::Inbox;
use crate::random::random_words;

/// A data directory that was read, and is ready to be written.
#[derive(Debug)]
pub(crate) struct Opened {
    directory: DataDir,
    manifest: Manifest,
    direct: bool,
    policy: Policy,
    free_bytes_min: u64,
    recovered: Recovered,
}

/// What a shard is started with.
#[derive(Debug)]
pub(crate) struct ShardStart {
    /// Where it records.
    pub(crate) log: LogConfig,
    /// What it begins with.
    pub(crate) part: RecoveredPart,
}

/// Reads a data directory, and begins an epoch of so many shards in it.
pub(crate) fn open(config: &StoreConfig, shards: usize) -> Result<Opened, StoreError> {
    let (directory, found) = DataDir::open(&config.data_dir)?;
    let path = directory.path();
    let direct = try_direct(path).or_else(|error| match &found {
        Some(manifest) if give_up_spare(&directory, manifest) => try_direct(path),
        Some(_) | None => Err(error),
    });
    let direct = direct.map_err(StoreError::system(path, "write to it"))?;
    let boot_id = boot_id();
    let (manifest, recovered) = match found {
        None => {
            let manifest = first_manifest(path)?;
            let recovered = Recovered::new(manifest.secret);
            (manifest, recovered)
        }
        Some(mut manifest) => {
            let began = clock();
            let mut reading = Reading::new(&directory, &manifest, &boot_id, config.downtime);
            let ends = reading.read_all()?;
            let (mut recovered, now) = (reading.recovered, reading.now);
            let is_set_right = reading.is_set_right;
            let checked = recovered.check();
            checked.map_err(|error| damaged(path, error.to_string()))?;
            report(&recovered, clock().saturating_since(began), path);
            report_expired(&recovered, now.boot);
            let last = manifest.epochs.last_mut();
            last.expect("a manifest has an epoch").cut = Some(ends);
            let is_joined = is_set_right || manifest.epochs.len() >= EPOCHS_MAX;
            let manifest = match is_joined {
                true => join_epochs(&directory, manifest, &boot_id, now, &mut recovered),
                false => manifest,
            };
            (manifest, recovered)
        }
    };
    let manifest = begin_epoch(&directory, manifest, shards, boot_id)?;
    Ok(Opened {
        direct: direct == Direct::Yes,
        policy: config.policy,
        free_bytes_min: config.free_bytes_min,
        directory,
        manifest,
        recovered,
    })
}

impl Opened {
    /// The secret of `Home`, the same from one start to the next.
    pub(crate) fn secret(&self) -> [u64; 2] {
        self.manifest.secret
    }

    /// What each shard is started with. What was recovered is gone then.
    pub(crate) fn take_starts(&mut self, limits: &Limits) -> Vec<ShardStart> {
        let shards = self.manifest.last().shards;
        let secret = self.secret();
        let recovered = std::mem::replace(&mut self.recovered, Recovered::new(secret));
        let parts = recovered.split(&Home::new(secret, shards), shards);
        let parts = parts.into_iter().enumerate();
        parts
            .map(|(index, part)| ShardStart {
                log: self.log_config(ShardId::new(index), limits),
                part,
            })
            .collect()
    }

    /// Where a shard of the present epoch has its files.
    pub(super) fn shard_path(&self, shard: usize) -> PathBuf {
        let present = self.manifest.last();
        self.directory.shard_path(present.number, shard)
    }

    pub(super) fn log_config(&self, shard: ShardId, limits: &Limits) -> LogConfig {
        LogConfig {
            shard,
            epoch: self.manifest.last().number,
            log_id: self.manifest.log_id,
            segment_size: segment_size(limits),
            block_size: self.manifest.block_size,
            policy: self.policy,
        }
    }

    /// Makes the segments that the logs begin with. What a client does first would wait for them otherwise.
    pub(crate) fn prepare(&self, limits: &Limits) -> Result<(), StoreError> {
        let present = self.manifest.last();
        for shard in 0..present.shards {
            let path = self.shard_path(shard);
            let made = keeper::make_spare(&path, segment_size(limits));
            made.map_err(StoreError::system(&path, "make a segment of the log"))?;
        }
        let noted = self.directory.note_begun(present.number, present.shards);
        let path = self.directory.epoch_path(present.number);
        noted.map_err(StoreError::system(&path, "begin it"))
    }

    /// Hands the directory to its keeper.
    pub(crate) fn keep(
        self,
        inboxes: &Arc<[Inbox]>,
        limits: &Limits,
    ) -> Result<(KeeperLink, JoinHandle<()>), StartError> {
        keeper::start(KeeperConfig {
            directory: self.directory,
            manifest: self.manifest,
            direct: self.direct,
            segment_size: segment_size(limits),
            free_bytes_min: self.free_bytes_min,
            inboxes: Arc::clone(inboxes),
        })
    }
}

/// Of a directory that holds nothing. It has no epoch yet.
pub(super) fn first_manifest(path: &Path) -> Result<Manifest, StoreError> {
    let words: Result<[u64; 4], _> = random_words();
    let random = StoreError::system(path, "draw random numbers for it");
    let [high, low, first, second] = words.map_err(|errno| random(errno.into()))?;
    Ok(Manifest {
        log_id: u128::from(high) << 64 | u128::from(low),
        secret: [first, second],
        block_size: BLOCK_SIZE,
        epochs: Vec::new(),
    })
}

/// An epoch goes when the shards of a later one have checkpoints. A process that is killed again and again, each time
/// before it is so far, leaves one after the other: before they are too many to be read, one checkpoint replaces them.
/// It also does if times in them were set right: the next start would come upon them again.
fn join_epochs(
    directory: &DataDir,
    manifest: Manifest,
    boot_id: &str,
    clocks: Clocks,
    recovered: &mut Recovered,
) -> Manifest {
    let when = state::When {
        number: manifest.last().number + 1,
        boot_id: boot_id.to_owned(),
        clocks,
    };
    recovered.tell_partials();
    match state::write_epoch(directory, &manifest, when, recovered) {
        // It has no log. The manifest that names it names the next epoch as well.
        Ok(joined) => Manifest {
            epochs: vec![Epoch {
                cut: Some(vec![LogPosition(0)]),
                ..joined
            }],
            ..manifest
        },
        // What was there holds.
        Err(error) => {
            let path = directory.path().display();
            let count = manifest.epochs.len();
            warn!(directory = %path, %error, "the logs of {count} starts could not be joined");
            manifest
        }
    }
}

/// Seals what was read, and makes a place for what comes.
fn begin_epoch(
    directory: &DataDir,
    mut manifest: Manifest,
    shards: usize,
    boot_id: String,
) -> Result<Manifest, StoreError> {
    let number = manifest.epochs.last().map_or(1, |last| last.number + 1);
    // Starts that came to nothing leave nothing.
    let mut kept = Vec::new();
    for epoch in manifest.epochs {
        if holds_something(directory, &epoch)? {
            kept.push(epoch);
        }
    }
    manifest.epochs = kept;
    manifest.epochs.push(Epoch {
        number,
        shards,
        boot_id,
        cut: None,
    });
    let begun = || {
        directory.make_epoch(number, shards)?;
        directory.write_manifest(&manifest)
    };
    if let Err(error) = begun() {
        // The disk may be full, to the last block.
        if !give_up_spare(directory, &manifest) {
            return Err(error);
        }
        begun()?;
    }
    clean(directory, &manifest);
    Ok(manifest)
}

/// Removes a spare, if there is one that a start does not look for. Gives whether it has.
fn give_up_spare(directory: &DataDir, manifest: &Manifest) -> bool {
    let epochs = manifest.epochs.iter().rev();
    let mut shards = epochs
        .flat_map(|epoch| (0..epoch.shards).map(|shard| directory.shard_path(epoch.number, shard)));
    shards.any(|path| {
        // Without a log, the spare shows that it was not begun.
        let has_log = Listing::of(&path).is_ok_and(|listing| !listing.logs.is_empty());
        has_log && keeper::spares(&path).any(|spare| fs::remove_file(spare).is_ok())
    })
}

/// Something was logged, or the whole state stands in a checkpoint, behind which nothing needs to be.
fn holds_something(directory: &DataDir, epoch: &Epoch) -> Result<bool, StoreError> {
    if epoch.cut.iter().flatten().any(|end| end.0 > 0) {
        return Ok(true);
    }
    for shard in 0..epoch.shards {
        let listing = Listing::of(&directory.shard_path(epoch.number, shard))?;
        if !listing.checkpoints.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Gives back the space of what is not needed, to the epoch that begins first of all. What cannot be removed is in
/// nobody's way.
fn clean(directory: &DataDir, manifest: &Manifest) {
    let present = manifest.last();
    let shards = (0..present.shards).map(|shard| directory.shard_path(present.number, shard));
    let mut reuse = Reuse::new(&shards.collect::<Vec<_>>());
    let mut cleaned = Ok(());
    for epoch in &manifest.epochs {
        for (shard, &end) in epoch.cut.iter().flatten().enumerate() {
            let path = directory.shard_path(epoch.number, shard);
            cleaned = cleaned.and(seal::cut_off(&path, end, &mut reuse));
        }
    }
    let others = directory.other_epochs(manifest);
    cleaned = cleaned
        .and(others)
        .and_then(|others| reuse.take_all(&others));
    cleaned = cleaned.and(directory.remove_other_epochs(manifest));
    if let Err(error) = cleaned {
        let path = directory.path().display();
        warn!(directory = %path, %error, "old logs take up more space than they need");
    }
}

/// One line for the log.
fn report(recovered: &Recovered, took: Duration, path: &Path) {
    let is_message = |delivery: &&RecoveredDelivery| match delivery {
        RecoveredDelivery::Message { .. } => true,
        RecoveredDelivery::Pubrel => false,
    };
    let sessions = recovered.sessions.values();
    let queued = sessions.map(|session| session.deliveries.values().filter(is_message).count());
    info!(
        "recovered {}, {}, {} in {:.1} s from {}",
        counted(recovered.sessions.len(), "session"),
        counted(queued.sum(), "queued message"),
        counted(recovered.retained.len(), "retained message"),
        took.as_secs_f64(),
        path.display()
    );
}

/// What a start finds to be over goes without another word.
fn report_expired(recovered: &Recovered, now: Instant) {
    let is_over = |at: Option<Instant>| at.is_some_and(|at| at <= now);
    let (over, going_on): (Vec<_>, Vec<_>) = recovered
        .sessions
        .values()
        .partition(|session| is_over(session.expires_at()));
    let of_session = |session: &&RecoveredSession| {
        let left = session.deliveries.values();
        let messages = left.filter(|left| match left {
            RecoveredDelivery::Message { message, .. } => is_over(message.expires_at),
            RecoveredDelivery::Pubrel => false,
        });
        messages.count()
    };
    let queued: usize = going_on.iter().map(of_session).sum();
    let retained = recovered.retained.iter();
    let retained = retained
        .filter(|message| is_over(message.expires_at))
        .count();
    if over.len() + queued + retained > 0 {
        info!(
            "of these, {}, {} and {} have expired",
            counted(over.len(), "session"),
            counted(queued, "queued message"),
            counted(retained, "retained message")
        );
    }
}

/// "1,000 sessions".
fn counted(number: usize, noun: &str) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    let plural = if number == 1 { "" } else { "s" };
    let _ = write!(text, " {noun}{plural}");
    text
}

/// A data directory that is being read.
struct Reading<'a> {
    directory: &'a DataDir,
    manifest: &'a Manifest,
    boot_id: &'a str,
    now: Clocks,
    downtime: Downtime,
    /// Time was not taken as the wall clock and the logs tell it together.
    is_set_right: bool,
    recovered: Recovered,
    progress: Progress,
}

/// The files of one shard in one epoch.
struct ShardFiles {
    path: PathBuf,
    identity: LogIdentity,
    block_size: u32,
    cut: Option<LogPosition>,
    checkpoint: Option<FileName>,
    /// From the checkpoint on.
    segments: Vec<FileName>,
}

impl<'a> Reading<'a> {
    fn new(
        directory: &'a DataDir,
        manifest: &'a Manifest,
        boot_id: &'a str,
        downtime: Downtime,
    ) -> Reading<'a> {
        Reading {
            directory,
            manifest,
            boot_id,
            now: Clocks {
                boot: clock(),
                wall_ns: wall_clock(),
            },
            downtime,
            is_set_right: false,
            recovered: Recovered::new(manifest.secret),
            progress: Progress::new(directory.path()),
        }
    }

    /// Reads all epochs. Gives where the logs of the last one end.
    fn read_all(&mut self) -> Result<Vec<LogPosition>, StoreError> {
        let mut epochs = Vec::new();
        for epoch in &self.manifest.epochs {
            let shards = (0..epoch.shards).map(|shard| self.find_files(epoch, ShardId::new(shard)));
            epochs.push((epoch, shards.collect::<Result<Vec<_>, _>>()?));
        }
        let shifts = self.shifts(&epochs)?;
        let mut ends = Vec::new();
        for ((epoch, shards), shift) in epochs.iter().zip(shifts) {
            let read = shards.iter();
            let read = read.map(|files| self.read_shard(epoch, files, shift));
            ends = read.collect::<Result<_, _>>()?;
            self.recovered.end_epoch();
        }
        Ok(ends)
    }

    fn read_shard(
        &mut self,
        epoch: &Epoch,
        files: &ShardFiles,
        shift: Shift,
    ) -> Result<LogPosition, StoreError> {
        let (recovered, progress) = (&mut self.recovered, &mut self.progress);
        if files.checkpoint.is_some() {
            let home = Home::new(self.manifest.secret, epoch.shards);
            recovered.begin_checkpoint(&home, files.identity.shard);
            let source = Source {
                is_checkpoint: true,
                shift,
            };
            files.read_checkpoint(progress, &mut |record| recovered.apply(record, source))?;
            recovered.end_checkpoint();
        }
        let source = Source {
            is_checkpoint: false,
            shift,
        };
        let end = files.read_log(progress, &mut |record| recovered.apply(record, source))?;
        if epoch.cut.is_none() {
            files.sync()?;
        }
        Ok(end.end)
    }

    /// From the clock of each epoch to the present one: boot by boot, from the present one back.
    fn shifts(&mut self, epochs: &[(&Epoch, Vec<ShardFiles>)]) -> Result<Vec<Shift>, StoreError> {
        let (mut shifts, mut later, mut onward) = (Vec::new(), self.now, Shift::NONE);
        let boots = epochs.chunk_by(|a, b| a.0.boot_id == b.0.boot_id);
        for boot in boots.collect::<Vec<_>>().into_iter().rev() {
            let is_present = boot[0].0.boot_id == self.boot_id;
            let last = match is_present {
                true => None,
                false => self.last_clocks(boot)?,
            };
            if let Some(last) = last {
                let odd = OddClock::between(last, later);
                let shift = self.downtime.shift(last, later);
                let refused = |odd| StoreError::new(self.directory.path(), StoreFault::Clock(odd));
                onward = shift.map_err(refused)?.then(onward);
                self.is_set_right |= odd.is_some() || self.downtime == Downtime::Ignored;
                later = last;
            }
            let shift = if is_present { Shift::NONE } else { onward };
            shifts.extend(boot.iter().map(|_| shift));
        }
        shifts.reverse();
        Ok(shifts)
    }

    /// The last reading of both clocks in the logs of a boot. It has to be known before their records are, so they are
    /// read twice.
    fn last_clocks(
        &mut self,
        boot: &[(&Epoch, Vec<ShardFiles>)],
    ) -> Result<Option<Clocks>, StoreError> {
        let mut last: Option<Clocks> = None;
        for files in boot.iter().flat_map(|(_, shards)| shards) {
            let progress = &mut self.progress;
            let mut found = files.read_log(progress, &mut |_| {})?.clocks;
            if found.is_none() {
                found = files.read_checkpoint(progress, &mut |_| {})?;
            }
            last = last
                .into_iter()
                .chain(found)
                .max_by_key(|clocks| clocks.boot);
        }
        Ok(last)
    }

    fn find_files(&self, epoch: &Epoch, shard: ShardId) -> Result<ShardFiles, StoreError> {
        let path = self.directory.shard_path(epoch.number, shard.index());
        let listing = Listing::of(&path)?;
        for stray in &listing.strays {
            warn!(directory = %path.display(), name = stray, "a file that is not of ringmq is ignored");
        }
        if epoch.cut.is_none()
            && let Some(cut) = listing.find_cut(&path)?
        {
            return Err(damaged(&path, cut.what));
        }
        let checkpoint = listing.checkpoints.last().copied();
        let from = checkpoint.map_or(LogPosition(0), |file| file.position);
        let mut segments = listing.logs;
        segments.retain(|file| file.position >= from);
        let identity = LogIdentity {
            log_id: self.manifest.log_id,
            epoch: epoch.number,
            shard,
        };
        Ok(ShardFiles {
            path,
            identity,
            block_size: self.manifest.block_size,
            cut: epoch.cut.as_ref().map(|cut| cut[shard.index()]),
            checkpoint,
            segments,
        })
    }
}

impl ShardFiles {
    /// Reads the checkpoint, if there is one. Gives the clocks when it was finished.
    fn read_checkpoint(
        &self,
        progress: &mut Progress,
        to: &mut dyn FnMut(Record<'_>),
    ) -> Result<Option<Clocks>, StoreError> {
        let Some(file) = self.checkpoint else {
            return Ok(None);
        };
        let path = self.path.join(file.to_string());
        let failed = || StoreError::system(&path, "read it");
        let mut reader = CheckpointReader::new(self.identity, self.block_size, file);
        let mut content = File::open(&path).map_err(failed())?;
        let mut piece = vec![0; PIECE_SIZE];
        loop {
            let size = content.read(&mut piece).map_err(failed())?;
            if size == 0 {
                break;
            }
            let fed = reader.feed(&piece[..size], to);
            fed.map_err(|damage| self.damaged(damage))?;
            progress.note(size);
        }
        let end = reader.finish().map_err(|damage| self.damaged(damage))?;
        Ok(end.clocks)
    }

    fn read_log(
        &self,
        progress: &mut Progress,
        to: &mut dyn FnMut(Record<'_>),
    ) -> Result<LogEnd, StoreError> {
        let mut reader = LogReader::new(ReadConfig {
            identity: self.identity,
            block_size: self.block_size,
            from: self.checkpoint.map_or(LogPosition(0), |file| file.position),
            cut: self.cut,
        });
        for &file in &self.segments {
            let path = self.path.join(file.to_string());
            let failed = || StoreError::system(&path, "read it");
            let mut content = File::open(&path).map_err(failed())?;
            let mut bytes = Vec::new();
            let mut head = content.by_ref().take(self.block_size.into());
            head.read_to_end(&mut bytes).map_err(failed())?;
            let is_unused = reader.ends_before(file, &bytes);
            if !is_unused {
                content.read_to_end(&mut bytes).map_err(failed())?;
                let fed = reader.feed(file, &bytes, to);
                fed.map_err(|damage| self.damaged(damage))?;
            }
            progress.note(bytes.len());
        }
        reader.finish().map_err(|damage| self.damaged(damage))
    }

    /// Makes durable what was read.
    fn sync(&self) -> Result<(), StoreError> {
        for file in self.checkpoint.iter().chain(&self.segments) {
            let path = self.path.join(file.to_string());
            let synced = File::open(&path).and_then(|file| file.sync_all());
            synced.map_err(StoreError::system(&path, "sync it"))?;
        }
        sync_directory(&self.path).map_err(StoreError::system(&self.path, "sync it"))
    }

    fn damaged(&self, damage: Damage) -> StoreError {
        let what = damage.to_string();
        match damage.kind {
            DamageKind::Newer => StoreError::new(&self.path, StoreFault::NewerLog { what }),
            DamageKind::Lost
            | DamageKind::Malformed
            | DamageKind::Unfinished
            | DamageKind::Foreign => damaged(&self.path, what),
        }
    }
}

fn damaged(path: &Path, what: String) -> StoreError {
    StoreError::new(path, StoreFault::Damaged { what })
}

/// Says how far it is, once in a second.
struct Progress {
    path: PathBuf,
    read_bytes: u64,
    say_at: Instant,
}

impl Progress {
    fn new(path: &Path) -> Progress {
        Progress {
            path: path.to_owned(),
            read_bytes: 0,
            say_at: clock() + SAY_INTERVAL,
        }
    }

    fn note(&mut self, bytes: usize) {
        self.read_bytes += bytes as u64;
        let now = clock();
        if now >= self.say_at {
            self.say_at = now + SAY_INTERVAL;
            let (read, path) = (self.read_bytes >> 20, self.path.display());
            info!("recovering from {path}: {read} MiB read");
        }
    }
}

/// Another one after each start of the machine.
fn boot_id() -> String {
    match fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        Ok(text) => text.trim().to_owned(),
        // As if the machine were started each time: then the wall clock counts.
        Err(_) => format!("unknown at {}", wall_clock()),
    }
}

/// So many starts in a row may be killed before they are joined. Each may have left a segment per shard, which the next start
/// reads, in some tenths of a second.
const EPOCHS_MAX: usize = 8;
const SAY_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of a checkpoint that are read at once.
const PIECE_SIZE: usize = 1 << 20;

#[cfg(test)]
mod tests;
