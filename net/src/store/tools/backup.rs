//! Backup of a directory that a broker may be using: a consistent copy, with everything that was
//! acknowledged before it began.
//!
//! Links hold the files, so that the broker cannot remove or reuse them meanwhile. Then all logs are
//! cut at one time, that of the newest batch in any of them: what stands before was written once and
//! does not change any more. The copy is sealed there, so that any damage to it shows.
//!
//! Why one time for all: a shard records that something has left it when another one has it
//! durably. So whoever has the first batch has the second one too, in that order: the clock is the
//! same for all shards, and a batch bears the time at which its turn ended.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use ringmq_core::ids::{LogPosition, ShardId};
use ringmq_core::store::{FileName, LogIdentity, LogReader, ReadConfig, last_clocks};
use ringmq_core::time::Instant;
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;

use super::super::data_dir::{DataDir, Listing, private_directory, sync_directory};
use super::super::error::{StoreError, StoreFault};
use super::super::manifest::{Epoch, Manifest};
use super::survey::Survey;
use super::{ToolError, ToolErrorKind, survey};

/// What a backup holds.
#[derive(Debug, Serialize)]
pub struct Backup {
    /// What was found in the copy when it was read again.
    pub survey: Survey,
    /// Bytes that were copied.
    pub copied_bytes: u64,
}

/// Copies a data directory to `target`, which must not exist or be empty.
pub fn backup(path: &Path, target: &Path) -> Result<Backup, ToolError> {
    let source = DataDir::unlocked(path);
    if !path.is_dir() || source.read_manifest()?.is_none() {
        let what = format!("{} is not a data directory with logs", path.display());
        let fix = "name the broker's --data-dir";
        return Err(ToolError::new(ToolErrorKind::Wrong, what, fix));
    }
    refuse_target(path, target)?;
    let failed = |error: io::Error| ToolError::failed("back up to", target, &error);
    let pins = Pins::new(path).map_err(|error| match error.kind() {
        ErrorKind::ReadOnlyFilesystem => {
            let what = format!("{} is on a read-only file system", path.display());
            let fix = format!("copy it: cp -a {} {}", path.display(), target.display());
            ToolError::new(ToolErrorKind::Wrong, what, fix)
        }
        _ => ToolError::failed("link in", path, &error),
    })?;
    let held = hold(&source, &pins)?;
    let made = fs::create_dir_all(target).and_then(|()| {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(target, fs::Permissions::from_mode(0o700))
    });
    made.map_err(failed)?;
    let copied = held.copy(&DataDir::unlocked(target), failed);
    drop(pins);
    let checked = copied.and_then(|copied_bytes| {
        let survey = check(path, target)?;
        Ok(Backup {
            survey,
            copied_bytes,
        })
    });
    if checked.is_err() {
        // It was empty before, and what is in it is of no use.
        let _ = fs::remove_dir_all(target);
    }
    checked
}

/// Reads the copy again.
fn check(path: &Path, target: &Path) -> Result<Survey, ToolError> {
    let survey = survey(target)?;
    let Some(flaw) = survey.flaws.first() else {
        return Ok(survey);
    };
    let path = path.display();
    Err(ToolError::new(
        ToolErrorKind::Damaged,
        format!("{}: {}", flaw.path.display(), flaw.what),
        format!("{path} may be damaged: stop the broker, and ringmq log verify {path}"),
    ))
}

fn refuse_target(path: &Path, target: &Path) -> Result<(), ToolError> {
    // The part of it that exists decides where it will be.
    let mut exists = target.ancestors().filter_map(|part| {
        let part = if part.as_os_str().is_empty() {
            Path::new(".")
        } else {
            part
        };
        part.canonicalize().ok()
    });
    if let (Some(place), Ok(source)) = (exists.next(), path.canonicalize())
        && place.starts_with(source)
    {
        let what = format!("{} is in the directory that is backed up", target.display());
        let fix = "name a directory elsewhere, best on another disk";
        return Err(ToolError::new(ToolErrorKind::Wrong, what, fix));
    }
    let parent = target
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent
        && !parent.is_dir()
    {
        let what = format!("{} is no directory", parent.display());
        let fix = "make it first, or mount the disk that it is on";
        return Err(ToolError::new(ToolErrorKind::Wrong, what, fix));
    }
    let what = match fs::read_dir(target).map(|mut entries| entries.next().is_none()) {
        Ok(true) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Ok(false) => format!("{} is not empty", target.display()),
        Err(error) => format!("{} cannot be used: {error}", target.display()),
    };
    let fix = "name a directory that does not exist yet";
    Err(ToolError::new(ToolErrorKind::Wrong, what, fix))
}

/// Links to the files of a backup, in the directory that is backed up; gone at the end.
struct Pins {
    path: PathBuf,
    /// Locked: others see that they are needed.
    _lock: File,
}

impl Pins {
    fn new(directory: &Path) -> io::Result<Pins> {
        remove_stale(directory)?;
        let path = directory.join(format!("backup-{}.tmp", std::process::id()));
        private_directory(&path)?;
        let lock = File::open(&path)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Pins { path, _lock: lock })
    }

    fn clear(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            fs::remove_dir_all(entry?.path())?;
        }
        Ok(())
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        // What is left takes up space until the next backup.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Links of a backup that was killed.
fn remove_stale(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_pins = name.starts_with("backup-") && name.ends_with(".tmp");
        if is_pins
            && let Ok(pins) = File::open(entry.path())
            && flock(&pins, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// What a backup copies.
struct Held {
    manifest: Manifest,
    shards: Vec<HeldShard>,
    /// What was written later does not belong to it.
    until: Instant,
}

/// The files of one shard in one epoch, held by links.
struct HeldShard {
    source: PathBuf,
    /// Of the links.
    path: PathBuf,
    identity: LogIdentity,
    block_size: u32,
    cut: Option<LogPosition>,
    checkpoint: Option<FileName>,
    segments: Vec<FileName>,
}

/// Holds all files that the manifest of this moment needs.
fn hold(source: &DataDir, pins: &Pins) -> Result<Held, ToolError> {
    for _ in 0..TRIES_MAX {
        let Some(manifest) = source.read_manifest()? else {
            break;
        };
        match try_hold(source, manifest, pins) {
            Ok(held) => return Ok(held),
            // The broker has removed something meanwhile, since a checkpoint took its place.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(ToolError::failed("link in", source.path(), &error)),
        }
        let cleared = pins.clear();
        cleared.map_err(|error| ToolError::failed("clear", &pins.path, &error))?;
    }
    Err(StoreError::new(source.path(), StoreFault::Incomplete).into())
}

fn try_hold(source: &DataDir, manifest: Manifest, pins: &Pins) -> io::Result<Held> {
    let links = DataDir::unlocked(&pins.path);
    let mut shards = Vec::new();
    for epoch in &manifest.epochs {
        private_directory(&links.epoch_path(epoch.number))?;
        for shard in 0..epoch.shards {
            let identity = LogIdentity {
                log_id: manifest.log_id,
                epoch: epoch.number,
                shard: ShardId::new(shard),
            };
            let mut held = HeldShard {
                source: source.shard_path(epoch.number, shard),
                path: links.shard_path(epoch.number, shard),
                identity,
                block_size: manifest.block_size,
                cut: epoch.cut.as_ref().map(|cut| cut[shard]),
                checkpoint: None,
                segments: Vec::new(),
            };
            held.link_all()?;
            shards.push(held);
        }
    }
    // What checkpoints hold is older than that, too: a log is durable up to what its checkpoint says.
    let mut until = Instant::ZERO;
    for shard in &shards {
        until = until.max(shard.written_at()?);
    }
    for shard in &mut shards {
        shard.link_later()?;
    }
    Ok(Held {
        manifest,
        shards,
        until,
    })
}

impl Held {
    /// Copies it, and writes the manifest last: without it the copy is known to be none. Gives how
    /// many bytes were copied.
    fn copy(
        &self,
        copy: &DataDir,
        failed: impl Fn(io::Error) -> ToolError + Copy,
    ) -> Result<u64, ToolError> {
        let mut sealed = self.manifest.clone();
        let last = sealed.epochs.last_mut().expect("a manifest has an epoch");
        let (number, boot_id) = (last.number + 1, last.boot_id.clone());
        let mut cut = Vec::new();
        let mut bytes = 0;
        for epoch in &self.manifest.epochs {
            copy.make_epoch(epoch.number, epoch.shards)?;
        }
        for shard in &self.shards {
            let end = match shard.cut {
                Some(end) => end,
                None => shard.end(self.until)?,
            };
            if shard.cut.is_none() {
                cut.push(end);
            }
            let epoch = shard.identity.epoch;
            let target = copy.shard_path(epoch, shard.identity.shard.index());
            bytes += shard.copy(&target, end).map_err(failed)?;
        }
        last.cut = Some(cut);
        copy.make_epoch(number, 1)?;
        sealed.epochs.push(Epoch {
            number,
            shards: 1,
            boot_id,
            cut: None,
        });
        copy.write_manifest(&sealed)?;
        Ok(bytes)
    }
}

impl HeldShard {
    fn link_all(&mut self) -> io::Result<()> {
        private_directory(&self.path)?;
        let listing = self.list()?;
        self.checkpoint = listing.checkpoints.last().copied();
        if let Some(file) = self.checkpoint {
            self.link(file)?;
        }
        let begin = self.begin();
        for &file in listing.logs.iter().filter(|file| file.position >= begin) {
            self.link(file)?;
            self.segments.push(file);
        }
        Ok(())
    }

    /// Links the segments that have been begun since.
    fn link_later(&mut self) -> io::Result<()> {
        if self.cut.is_some() {
            return Ok(());
        }
        let mut next = match self.segments.last() {
            Some(last) => {
                let found = fs::metadata(self.path.join(last.to_string()))?;
                last.position.0 + found.len()
            }
            None => self.begin().0,
        };
        for file in self.list()?.logs {
            if file.position.0 < next {
                continue;
            }
            if file.position.0 > next {
                return Err(ErrorKind::NotFound.into()); // It has come and gone.
            }
            self.link(file)?;
            self.segments.push(file);
            next += fs::metadata(self.path.join(file.to_string()))?.len();
        }
        Ok(())
    }

    fn list(&self) -> io::Result<Listing> {
        Listing::of(&self.source).map_err(|_| ErrorKind::NotFound.into())
    }

    fn link(&self, file: FileName) -> io::Result<()> {
        let name = file.to_string();
        fs::hard_link(self.source.join(&name), self.path.join(&name))
    }

    /// From where on the log is needed.
    fn begin(&self) -> LogPosition {
        self.checkpoint.map_or(LogPosition(0), |file| file.position)
    }

    /// When the newest batch of an open log was written; long ago, if there is none.
    fn written_at(&self) -> io::Result<Instant> {
        if self.cut.is_some() {
            return Ok(Instant::ZERO);
        }
        for &file in self.segments.iter().rev() {
            let bytes = fs::read(self.path.join(file.to_string()))?;
            if let Some(clocks) = last_clocks(self.identity, self.block_size, file, &bytes) {
                return Ok(clocks.boot);
            }
        }
        Ok(Instant::ZERO)
    }

    /// Where the log ended at that time. The broker goes on writing while it is read, so what is
    /// missing at one place and vouched for at a later one may just have been written: it is damaged
    /// if it is missing once more.
    fn end(&self, until: Instant) -> Result<LogPosition, ToolError> {
        let mut from = self.begin();
        let mut missed = None;
        loop {
            let config = ReadConfig {
                identity: self.identity,
                block_size: self.block_size,
                from,
                cut: None,
            };
            let mut reader = LogReader::new(config).until(until);
            let mut result = Ok(());
            for &file in &self.segments {
                let path = self.path.join(file.to_string());
                let bytes = fs::read(&path);
                let bytes = bytes.map_err(|error| ToolError::failed("read", &path, &error))?;
                if file.position.0 + bytes.len() as u64 <= from.0 {
                    continue;
                }
                result = reader.feed(file, &bytes, &mut |_| {});
                if result.is_err() {
                    break;
                }
            }
            let damage = match result.and_then(|()| reader.finish()) {
                Ok(end) => return Ok(end.end),
                Err(damage) => damage,
            };
            from = LogPosition(damage.file.position.0 + damage.at);
            if missed.replace(from) == Some(from) {
                let (epoch, shard) = (self.identity.epoch, self.identity.shard.index());
                // The links stand in DIR/backup-PID.tmp/e0007/s00.
                let root = self.path.ancestors().nth(3).unwrap_or(&self.path).display();
                return Err(ToolError::new(
                    ToolErrorKind::Damaged,
                    format!("{root}/e{epoch:04}/s{shard:02}: {damage}"),
                    format!("stop the broker, and ringmq log verify {root}"),
                ));
            }
        }
    }

    /// Gives how many bytes were copied.
    fn copy(&self, target: &Path, end: LogPosition) -> io::Result<u64> {
        let mut bytes = 0;
        if let Some(file) = self.checkpoint {
            bytes += self.copy_file(target, file, u64::MAX)?;
        }
        for &file in &self.segments {
            let size = end.0.saturating_sub(file.position.0);
            if size > 0 {
                bytes += self.copy_file(target, file, size)?;
            }
        }
        sync_directory(target)?;
        Ok(bytes)
    }

    fn copy_file(&self, target: &Path, file: FileName, size_max: u64) -> io::Result<u64> {
        let name = file.to_string();
        let mut from = File::open(self.path.join(&name))?.take(size_max);
        let mut options = File::options();
        let options = options.write(true).create_new(true).mode(0o600);
        let mut to = options.open(target.join(&name))?;
        let bytes = io::copy(&mut from, &mut to)?;
        to.sync_all()?;
        Ok(bytes)
    }
}

/// A checkpoint ends meanwhile at most now and then.
const TRIES_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::super::super::folder::Folder;
    use super::super::super::played::PlayedShard;
    use super::super::super::recovery;
    use super::*;
    use crate::store::StoreConfig;
    use ringmq_core::limits::Limits;
    use ringmq_core::store::{Downtime, Policy};

    fn open(path: &Path) -> recovery::Opened {
        let config = StoreConfig {
            data_dir: path.to_owned(),
            policy: Policy::Always,
            free_bytes_min: 0,
            downtime: Downtime::Checked,
        };
        recovery::open(&config, SHARDS).unwrap()
    }

    /// Whatever moves is recorded by the shard that gets it before the one that had it lets go.
    struct Moves {
        shards: Vec<PlayedShard>,
        /// By thing: its shard, and how often it has moved.
        things: Vec<(usize, usize)>,
        now: u64,
    }

    impl Moves {
        fn tick(&mut self) -> Instant {
            self.now += 1;
            Instant::from_nanos(self.now)
        }

        fn move_some(&mut self, rng: &mut Rng) {
            for _ in 0..rng.usize(..100) {
                let at = rng.usize(..self.things.len());
                let (shard, moves) = self.things[at];
                let to = rng.usize(..SHARDS);
                let now = self.tick();
                if rng.u8(..4) == 0 {
                    self.shards[to].begin_segment(now);
                }
                self.shards[to].open(&format!("thing {at}, move {}", moves + 1), now);
                let now = self.tick();
                self.shards[shard].end(&format!("thing {at}, move {moves}"), now);
                self.things[at] = (to, moves + 1);
            }
        }
    }

    #[test]
    fn what_moves_between_shards_meanwhile_is_in_a_backup() {
        let mut rng = Rng::with_seed(1);
        for _ in 0..20 {
            let folder = Folder::new();
            let path = folder.path().join("data");
            let opened = open(&path);
            let shards = (0..SHARDS).map(|shard| PlayedShard::new(&opened, shard, 32 << 10));
            let mut moves = Moves {
                shards: shards.collect(),
                things: vec![(0, 0); 10],
                now: 0,
            };
            for at in 0..moves.things.len() {
                let now = moves.tick();
                moves.shards[0].open(&format!("thing {at}, move 0"), now);
            }
            moves.move_some(&mut rng);
            let before = moves.things.clone();

            let pins = Pins::new(&path).unwrap();
            let held = hold(&DataDir::unlocked(&path), &pins).unwrap();
            moves.move_some(&mut rng);
            let target = folder.path().join("backup");
            private_directory(&target).unwrap();
            let failed = |error| ToolError::failed("copy to", &target, &error);
            held.copy(&DataDir::unlocked(&target), failed).unwrap();

            let mut starts = open(&target);
            let starts = starts.take_starts(&Limits::default());
            let parts = starts.iter().flat_map(|start| &start.part.sessions);
            let mut found: Vec<_> = parts.map(|(_, found)| &*found.client_id).collect();
            found.sort_unstable();
            let things = before.iter().enumerate();
            let mut expected: Vec<_> = things
                .map(|(at, (_, moves))| format!("thing {at}, move {moves}"))
                .collect();
            expected.sort_unstable();
            assert_eq!(found, expected);
        }
    }

    const SHARDS: usize = 3;
}
