//! The keeper: a thread that does for all shards what takes long or has no place in a ring: making, naming and
//! removing files.
//!
//! It keeps a spare segment ahead for each shard, so that a log need not wait for its next one, and looks at the free
//! space: if that would not do for a checkpoint and the spares any more, shards are told to refuse what would be stored.
//! From then on the spares are what is kept back: acknowledgements and whatever ends something are recorded in them.
//!
//! Segments are filled with zeros piece by piece, between other errands, and at half the pace of the disk as long as no log
//! is far into its present segment: what clients wait for are the syncs of the logs, and these would wait for the zeros.
//!
//! It also drops epochs from the manifest once nobody needs them: when every shard has a checkpoint in the present
//! one. It has the lock of the data directory, and ends, and gives it back, when the last shard has ended.
//!
//! Invariants:
//! - every errand is answered once, into the inbox of the shard.
//! - an answer without an error promises that content and name are durable.
//! - a directory has at most [`SPARES_MAX`] spares; these are given back before anything is refused for lack of space.
//!
//! Not here: writes and syncs of open files (`reactor/disk.rs`).

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use ringmq_core::ids::ShardId;
use ringmq_core::store::{DiskDone, DiskError, FileKind, FileName, OpId};
use rustix::fs::{Mode, OFlags, statvfs};
use rustix::io::Errno;
use tracing::{info, warn};

use super::data_dir::{DataDir, UNFINISHED, sync_directory};
use super::manifest::Manifest;
use super::zeros::Zeros;
use crate::error::{StartError, system_error};
use crate::inbox::Inbox;

/// What a shard has the keeper do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Errand {
    /// Make a file of zeros; a segment that was removed may serve as well.
    Create { file: FileName, size: u64 },
    /// Give a finished checkpoint its name.
    Publish { file: FileName },
    /// The file is not needed any more.
    Remove { file: FileName },
}

/// What became of an errand.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) done: DiskDone,
    /// A file that was made, open for writing.
    pub(crate) opened: Opened,
}

/// Where shards leave their errands. The keeper ends when all of these are gone.
#[derive(Clone, Debug)]
pub(crate) struct KeeperLink {
    errands: Sender<(ShardId, OpId, Errand)>,
    /// Some log will soon need its next segment.
    is_urgent: Arc<AtomicBool>,
}

/// A file that was made, open for writing; `None`: the errand was another one.
type Opened = Option<(FileName, Arc<OwnedFd>)>;

/// Errands, in the order in which they were left.
pub(crate) type Errands = Receiver<(ShardId, OpId, Errand)>;

impl KeeperLink {
    /// A link, and its other end.
    pub(crate) fn new() -> (KeeperLink, Errands) {
        // Shards have few errands under way at a time: bounded by what their logs ask for.
        let (sender, errands) = unbounded();
        let link = KeeperLink {
            errands: sender,
            is_urgent: Arc::default(),
        };
        (link, errands)
    }

    /// The answer comes with [`Inbox::take_kept`].
    pub(crate) fn ask(&self, shard: ShardId, op: OpId, errand: Errand) {
        let sent = self.errands.send((shard, op, errand));
        sent.expect("the keeper outlives the shards");
    }

    /// What is being made will soon be needed: it is made as fast as the disk can.
    pub(crate) fn hurry(&self) {
        // Nothing else depends on it.
        self.is_urgent.store(true, Ordering::Relaxed);
    }

    /// Whether [`KeeperLink::hurry`] was called since the keeper had nothing to do.
    #[cfg(test)]
    pub(crate) fn is_urgent(&self) -> bool {
        self.is_urgent.load(Ordering::Relaxed)
    }
}

/// What the keeper is made with.
#[derive(Debug)]
pub(crate) struct KeeperConfig {
    pub(crate) directory: DataDir,
    /// As it was written last.
    pub(crate) manifest: Manifest,
    /// Files are written past the cache of the kernel.
    pub(crate) direct: bool,
    /// Bytes of each segment.
    pub(crate) segment_size: u64,
    /// With less space, in bytes, what would be stored is refused.
    pub(crate) free_bytes_min: u64,
    /// One per shard of the present epoch.
    pub(crate) inboxes: Arc<[Inbox]>,
}

/// Starts the keeper.
pub(crate) fn start(config: KeeperConfig) -> Result<(KeeperLink, JoinHandle<()>), StartError> {
    let (link, errands) = KeeperLink::new();
    let keeper = Keeper::new(config, Arc::clone(&link.is_urgent));
    let thread = thread::Builder::new()
        .name("keeper".to_owned())
        .spawn(move || keeper.run(&errands))
        .map_err(|e| system_error("start a thread", e))?;
    Ok((link, thread))
}

struct Keeper {
    config: KeeperConfig,
    is_urgent: Arc<AtomicBool>,
    /// Segments to be made, in the order of the errands.
    wanted: VecDeque<Wanted>,
    /// What is being made.
    filling: Option<(Wanted, Zeros)>,
    /// When its next piece is due.
    piece_at: Instant,
    /// When the free space is looked at.
    look_at: Instant,
    /// By shard: it has a checkpoint in the present epoch.
    has_checkpoint: Vec<bool>,
    /// By shard: size of its last checkpoint.
    checkpoint_bytes: Vec<u64>,
    is_scarce: bool,
    /// The last spare could not be made for lack of space.
    lacks_room: bool,
}

/// A segment that is to be made of zeros.
#[derive(Debug)]
struct Wanted {
    directory: PathBuf,
    size: u64,
    /// Who waits for it, and its name; `None`: it is a spare.
    errand: Option<(ShardId, OpId, FileName)>,
}

impl Keeper {
    fn new(config: KeeperConfig, is_urgent: Arc<AtomicBool>) -> Keeper {
        let shards = config.inboxes.len();
        assert_eq!(
            config.manifest.last().shards,
            shards,
            "of the present epoch"
        );
        let now = Instant::now();
        Keeper {
            config,
            is_urgent,
            wanted: VecDeque::new(),
            filling: None,
            piece_at: now,
            look_at: now,
            has_checkpoint: vec![false; shards],
            checkpoint_bytes: vec![0; shards],
            is_scarce: false,
            lacks_room: false,
        }
    }

    fn run(mut self, errands: &Errands) {
        loop {
            match errands.recv_timeout(self.pause(Instant::now())) {
                Ok((shard, op, errand)) => {
                    if let Some(kept) = self.carry_out(shard, op, errand) {
                        self.config.inboxes[shard.index()].put_kept(kept);
                    }
                    self.look_at = Instant::now();
                    if !errands.is_empty() {
                        continue; // Somebody waits.
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if !self.is_busy() {
                // Whoever needs its next segment soon says so again with each write.
                self.is_urgent.store(false, Ordering::Relaxed);
            } else if self.pause(Instant::now()).is_zero()
                && let Some((shard, kept)) = self.make_some()
            {
                self.config.inboxes[shard.index()].put_kept(kept);
            }
            if self.filling.is_none() {
                // What is half made would count twice.
                self.look(Instant::now());
            }
        }
    }

    fn is_busy(&self) -> bool {
        self.filling.is_some() || !self.wanted.is_empty()
    }

    /// How long there is nothing to do, but for errands.
    fn pause(&self, now: Instant) -> Duration {
        if !self.is_busy() {
            return self.look_at.saturating_duration_since(now);
        }
        if self.is_urgent.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        self.piece_at.saturating_duration_since(now)
    }

    fn look(&mut self, now: Instant) {
        if now < self.look_at {
            return;
        }
        self.look_at = now + LOOK_INTERVAL;
        match free_bytes(self.config.directory.path()) {
            Ok(free) => self.keep_ahead(free),
            Err(error) => warn!(%error, "the free space is not known"),
        }
    }

    /// Has a spare made for a shard that has none, if so much free space is left that this leaves enough. When it is
    /// made, the next one is seen to.
    fn keep_ahead(&mut self, free_bytes: u64) {
        let KeeperConfig {
            directory,
            manifest,
            segment_size,
            ..
        } = &self.config;
        let present = manifest.last();
        let size = *segment_size;
        let paths = (0..present.shards).map(|shard| directory.shard_path(present.number, shard));
        let mut without: Vec<_> = paths
            .filter(|path| find_spare(path, size).is_none())
            .collect();
        let wanted = self.bytes_wanted() + size * without.len() as u64;
        // A little more ends it than begins it: it is not to come and go with every segment.
        let margin = if self.is_scarce { wanted / 8 } else { 0 };
        let is_scarce = free_bytes < wanted + margin;
        let lacks_room = self.lacks_room && !without.is_empty();
        if is_scarce && self.give_back_spares() {
            self.look_at = Instant::now();
            return;
        }
        if !is_scarce && !without.is_empty() && !self.is_busy() {
            self.wanted.push_back(Wanted {
                directory: without.swap_remove(0),
                size,
                errand: None,
            });
        }
        // A quota shows only in what failed.
        self.tell(is_scarce || lacks_room, free_bytes, wanted);
    }

    /// Removes the spares that only save the work of filling the next one. Tells whether there were any.
    fn give_back_spares(&self) -> bool {
        let present = self.config.manifest.last();
        let directory = &self.config.directory;
        let paths = (0..present.shards).map(|shard| directory.shard_path(present.number, shard));
        let removed = paths.flat_map(|path| {
            (SPARES_KEPT + 1..=SPARES_MAX).map(move |number| spare(&path, number))
        });
        // What cannot be removed is not given back.
        removed
            .filter(|spare| fs::remove_file(spare).is_ok())
            .count()
            > 0
    }

    /// Goes on with the first segment that is to be made; gives the answer to who waits for it once it is.
    fn make_some(&mut self) -> Option<(ShardId, Kept)> {
        let (wanted, outcome) = match self.filling.take() {
            None => {
                let wanted = self.wanted.pop_front()?;
                let aside = wanted.directory.join(NEW_LOG);
                if find_spare(&wanted.directory, wanted.size).is_some() {
                    (wanted, Ok(())) // There is one by now.
                } else {
                    match Zeros::begin(&aside, wanted.size, self.config.direct) {
                        Ok(zeros) => {
                            self.filling = Some((wanted, zeros));
                            return None;
                        }
                        Err(error) => (wanted, Err(error)),
                    }
                }
            }
            Some((wanted, mut zeros)) if zeros.is_short() => {
                let began = Instant::now();
                let is_synced = !self.is_urgent.load(Ordering::Relaxed);
                let written = zeros.write_piece(is_synced);
                self.piece_at = Instant::now() + began.elapsed().min(PAUSE_MAX);
                match written {
                    Ok(()) => {
                        self.filling = Some((wanted, zeros));
                        return None;
                    }
                    Err(error) => (wanted, Err(error)),
                }
            }
            Some((wanted, zeros)) => {
                let finished = zeros.finish();
                let made = finished.and_then(|()| keep_spare(&wanted.directory, wanted.size));
                (wanted, made)
            }
        };
        self.end_making(wanted, outcome)
    }

    /// A segment was made, and is a spare now.
    fn end_making(&mut self, wanted: Wanted, outcome: io::Result<()>) -> Option<(ShardId, Kept)> {
        match wanted.errand {
            Some((shard, op, file)) => {
                let opened =
                    outcome.and_then(|()| self.take_segment(&wanted.directory, file, wanted.size));
                self.look_at = Instant::now();
                Some((shard, self.answer(op, opened, &wanted.directory)))
            }
            None => {
                match outcome {
                    Ok(()) => {
                        self.lacks_room = false;
                        self.look_at = Instant::now();
                    }
                    Err(error) => {
                        let directory = wanted.directory.display();
                        warn!(%directory, %error, "no segment could be made ahead");
                        self.lacks_room = disk_error(&error) == DiskError::Full;
                    }
                }
                None
            }
        }
    }

    /// Nothing is ever freed without a checkpoint, which has to fit.
    fn bytes_wanted(&self) -> u64 {
        let live: u64 = self.checkpoint_bytes.iter().sum();
        self.config.free_bytes_min.max(live + live / 4)
    }

    fn tell(&mut self, is_scarce: bool, free_bytes: u64, wanted: u64) {
        if is_scarce == self.is_scarce {
            return;
        }
        self.is_scarce = is_scarce;
        let path = self.config.directory.path().display();
        let (free, wanted) = (free_bytes >> 20, wanted >> 20);
        if is_scarce {
            warn!(
                "the disk of {path} is almost full, with {free} MiB free where {wanted} MiB are needed: messages \
                 that would be stored, retained messages and new sessions are refused (0x97) until there is room"
            );
        } else {
            info!("the disk of {path} has room again: {free} MiB free");
        }
        for inbox in self.config.inboxes.iter() {
            inbox.set_scarce(is_scarce);
        }
    }

    /// Gives the answer, unless the segment has to be made first.
    fn carry_out(&mut self, shard: ShardId, op: OpId, errand: Errand) -> Option<Kept> {
        let epoch = self.config.manifest.last().number;
        let directory = self.config.directory.shard_path(epoch, shard.index());
        let outcome = match errand {
            Errand::Create { file, size } if file.kind == FileKind::Log => {
                if find_spare(&directory, size).is_none() {
                    self.wanted.push_back(Wanted {
                        directory,
                        size,
                        errand: Some((shard, op, file)),
                    });
                    return None;
                }
                self.take_segment(&directory, file, size)
            }
            Errand::Create { file, size } => create(&directory, file, size)
                .and_then(|path| open_for_writing(&path, self.config.direct))
                .map(|opened| Some((file, opened))),
            Errand::Publish { file } => publish(&directory, file).map(|size| {
                self.checkpoint_bytes[shard.index()] = size;
                self.note_checkpoint(shard);
                None
            }),
            Errand::Remove { file } => {
                let spares_max = if self.is_scarce {
                    SPARES_KEPT
                } else {
                    SPARES_MAX
                };
                remove(&directory, file, spares_max).map(|()| None)
            }
        };
        Some(self.answer(op, outcome, &directory))
    }

    /// Makes a spare the segment of this name.
    fn take_segment(&self, directory: &Path, file: FileName, size: u64) -> io::Result<Opened> {
        let path = take_spare(directory, file, size)?;
        let opened = open_for_writing(&path, self.config.direct)?;
        Ok(Some((file, opened)))
    }

    fn answer(&self, op: OpId, outcome: io::Result<Opened>, directory: &Path) -> Kept {
        let (result, opened) = match outcome {
            Ok(opened) => (Ok(()), opened),
            Err(error) => {
                let directory = directory.display();
                warn!(%directory, %error, "a file could not be made, named or removed");
                (Err(disk_error(&error)), None)
            }
        };
        let done = DiskDone {
            op,
            result,
            block: None,
        };
        Kept { done, opened }
    }

    /// What older epochs hold stands in the checkpoints, too, once there is one of each shard.
    fn note_checkpoint(&mut self, shard: ShardId) {
        self.has_checkpoint[shard.index()] = true;
        let KeeperConfig {
            directory,
            manifest,
            ..
        } = &mut self.config;
        if manifest.epochs.len() == 1 || self.has_checkpoint.contains(&false) {
            return;
        }
        let mut shorter = manifest.clone();
        shorter.epochs.drain(..manifest.epochs.len() - 1);
        if let Err(error) = directory.write_manifest(&shorter) {
            // The next checkpoint tries again. Until then a start has more to read.
            warn!(%error, "old epochs are kept");
            return;
        }
        *manifest = shorter;
        if let Err(error) = directory.remove_other_epochs(manifest) {
            let path = directory.path().display();
            warn!(directory = %path, %error, "old epochs are not needed, but could not be removed");
        }
    }
}

/// Makes a checkpoint, durably. It gets its name later.
pub(super) fn create(directory: &Path, file: FileName, size: u64) -> io::Result<PathBuf> {
    assert_eq!(file.kind, FileKind::Checkpoint, "segments were spares");
    let path = unfinished(&directory.join(file.to_string()));
    Zeros::fill(&path, size, false)?;
    sync_directory(directory)?;
    Ok(path)
}

/// Makes a spare a segment, durably.
fn take_spare(directory: &Path, file: FileName, size: u64) -> io::Result<PathBuf> {
    let path = directory.join(file.to_string());
    let spare = find_spare(directory, size).ok_or(ErrorKind::NotFound)?;
    fs::rename(spare, &path)?;
    sync_directory(directory)?;
    Ok(path)
}

/// Gives its size, in bytes.
pub(super) fn publish(directory: &Path, file: FileName) -> io::Result<u64> {
    let path = directory.join(file.to_string());
    let aside = unfinished(&path);
    let content = File::open(&aside)?;
    content.sync_all()?;
    fs::rename(&aside, &path)?;
    sync_directory(directory)?;
    Ok(content.metadata()?.len())
}

/// A segment becomes a spare, if there are not enough: whoever writes to it next need not fill it with zeros.
fn remove(directory: &Path, file: FileName, spares_max: usize) -> io::Result<()> {
    let path = directory.join(file.to_string());
    let mut places = spares(directory).take(spares_max);
    match file.kind {
        FileKind::Log => match places.find(|spare| !spare.exists()) {
            Some(spare) => {
                fs::rename(path, &spare)?;
                // A backup that holds it by a link would be overwritten. By the old name no link
                // is made any more.
                match fs::metadata(&spare)?.nlink() {
                    1 => Ok(()),
                    _ => fs::remove_file(spare),
                }
            }
            None => fs::remove_file(path),
        },
        FileKind::Checkpoint => {
            remove_if_there(&unfinished(&path))?;
            remove_if_there(&path)
        }
    }
}

/// Sees to it that a log may have a segment of this size later: one that is there, or a new one.
pub(super) fn make_spare(directory: &Path, size: u64) -> io::Result<()> {
    for spare in spares(directory) {
        if fs::metadata(&spare).is_ok_and(|found| found.len() != size) {
            fs::remove_file(spare)?; // What it takes up may be missing.
        }
    }
    if find_spare(directory, size).is_some() {
        return Ok(());
    }
    Zeros::fill(&directory.join(NEW_LOG), size, false)?;
    keep_spare(directory, size)
}

/// A segment that was made is a spare from now on.
fn keep_spare(directory: &Path, size: u64) -> io::Result<()> {
    let aside = directory.join(NEW_LOG);
    // One of another size is of no use, and in the way.
    let is_free = |spare: &PathBuf| fs::metadata(spare).map_or(true, |found| found.len() != size);
    match spares(directory).find(is_free) {
        Some(spare) => fs::rename(aside, spare),
        None => fs::remove_file(aside),
    }
}

/// Bytes that this process may still write there.
fn free_bytes(path: &Path) -> io::Result<u64> {
    let found = statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

fn find_spare(directory: &Path, size: u64) -> Option<PathBuf> {
    let mut places = spares(directory);
    places.find(|spare| fs::metadata(spare).is_ok_and(|found| found.len() == size))
}

pub(super) fn spares(directory: &Path) -> impl Iterator<Item = PathBuf> {
    (1..=SPARES_MAX).map(move |number| spare(directory, number))
}

/// Where a spare is, counted from 1.
pub(super) fn spare(directory: &Path, number: usize) -> PathBuf {
    directory.join(format!("spare-{number}.log"))
}

/// The name of a checkpoint until it is finished.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(UNFINISHED);
    PathBuf::from(name)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn open_for_writing(path: &Path, direct: bool) -> io::Result<Arc<OwnedFd>> {
    let mut flags = OFlags::WRONLY | OFlags::CLOEXEC;
    flags.set(OFlags::DIRECT, direct);
    Ok(Arc::new(rustix::fs::open(path, flags, Mode::empty())?))
}

fn disk_error(error: &io::Error) -> DiskError {
    match Errno::from_io_error(error) {
        Some(Errno::NOSPC | Errno::DQUOT) => DiskError::Full,
        errno => DiskError::Failed(errno.unwrap_or(Errno::IO).raw_os_error()),
    }
}

/// How often the free space is looked at, besides each time that something was done.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A segment that is being made.
const NEW_LOG: &str = "new.log.tmp";
/// Segments that are kept to be used again: as many as a checkpoint lets go of at once if little else is stored. A log
/// that goes round in these never waits for zeros.
pub(super) const SPARES_MAX: usize = 5;
/// Of these, when space is scarce: one for the log, while another is on its way to it.
const SPARES_KEPT: usize = 2;
/// The longest pause between two pieces: of a disk that stands still, no more is to be learned from waiting.
const PAUSE_MAX: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use ringmq_core::ids::LogPosition;

    use super::super::folder::Folder;
    use super::super::manifest::Epoch;
    use super::super::zeros::PIECE_SIZE;
    use super::*;

    fn log(position: u64) -> FileName {
        FileName {
            kind: FileKind::Log,
            position: LogPosition(position),
        }
    }

    fn checkpoint(position: u64) -> FileName {
        FileName {
            kind: FileKind::Checkpoint,
            position: LogPosition(position),
        }
    }

    /// A keeper of two shards in epoch 2, whose errands are carried out at once.
    fn keeper(folder: &Folder) -> (Keeper, PathBuf) {
        let (directory, _) = DataDir::open(folder.path()).unwrap();
        let epoch = |number, cut: Option<Vec<LogPosition>>| Epoch {
            number,
            shards: 2,
            boot_id: "b".to_owned(),
            cut,
        };
        let manifest = Manifest {
            log_id: 5,
            secret: [1, 2],
            block_size: 4096,
            epochs: vec![epoch(1, Some(vec![LogPosition(0); 2])), epoch(2, None)],
        };
        for number in [1, 2] {
            directory.make_epoch(number, 2).unwrap();
        }
        directory.write_manifest(&manifest).unwrap();
        let path = directory.shard_path(2, 0);
        let config = KeeperConfig {
            directory,
            manifest,
            direct: false,
            segment_size: 4096,
            free_bytes_min: 1 << 20,
            inboxes: (0..2).map(|_| Inbox::new(1).unwrap()).collect(),
        };
        let keeper = Keeper::new(config, Arc::default());
        (keeper, path)
    }

    fn carry_out(keeper: &mut Keeper, errand: Errand) -> Result<(), DiskError> {
        let kept = keeper.carry_out(ShardId::new(0), OpId(7), errand);
        let kept = kept.unwrap_or_else(|| make(keeper).expect("it was wanted"));
        let is_file = matches!(errand, Errand::Create { .. }) && kept.done.result.is_ok();
        assert_eq!((kept.done.op, kept.opened.is_some()), (OpId(7), is_file));
        kept.done.result
    }

    /// Makes what is wanted; gives the last answer.
    fn make(keeper: &mut Keeper) -> Option<Kept> {
        let mut last = None;
        while keeper.is_busy() {
            last = keeper.make_some().map(|(_, kept)| kept).or(last);
        }
        last
    }

    /// Looks at the free space until nothing more is to be made.
    fn keep_ahead(keeper: &mut Keeper, free_bytes: u64) {
        keeper.keep_ahead(free_bytes);
        while keeper.is_busy() {
            make(keeper);
            keeper.keep_ahead(free_bytes);
        }
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<String> = entries
            .map(|entry| name(entry).into_string().unwrap())
            .collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_segment_is_made_of_zeros_and_used_again_under_another_name() {
        let folder = Folder::new();
        let (mut keeper, path) = keeper(&folder);
        const SIZE: u64 = (5 * PIECE_SIZE / 2) as u64;
        for position in [0, 1, 2, 3] {
            let file = log(position);
            carry_out(&mut keeper, Errand::Create { file, size: SIZE }).unwrap();
            let made = path.join(file.to_string());
            assert_eq!(fs::read(&made).unwrap(), vec![0; SIZE as usize]);
            let found = fs::metadata(&made).unwrap();
            assert_eq!(found.mode() & 0o777, 0o600);
            assert!(found.blocks() * 512 >= SIZE, "no holes");
        }
        fs::write(path.join(log(0).to_string()), "old").unwrap();
        for position in [0, 1] {
            let file = log(position);
            carry_out(&mut keeper, Errand::Remove { file }).unwrap();
        }
        let kept = [2, 3].map(|position| log(position).to_string());
        assert_eq!(names(&path)[..2], kept);
        assert_eq!(names(&path)[2..], ["spare-1.log", "spare-2.log"]);
        // The first one has another size than wanted.
        let (file, size) = (log(4), SIZE);
        carry_out(&mut keeper, Errand::Create { file, size }).unwrap();
        assert_eq!(
            names(&path)[2..],
            [log(4).to_string(), "spare-1.log".to_owned()]
        );
    }

    #[test]
    fn spares_are_given_back_before_anything_is_refused() {
        let folder = Folder::new();
        let (mut keeper, path) = keeper(&folder);
        let files: Vec<_> = (0..7).map(log).collect();
        for &file in &files {
            let size = 4096;
            carry_out(&mut keeper, Errand::Create { file, size }).unwrap();
        }
        for &file in &files {
            carry_out(&mut keeper, Errand::Remove { file }).unwrap();
        }
        assert_eq!(names(&path).len(), SPARES_MAX);
        keeper.keep_ahead((1 << 20) - 1);
        assert_eq!(names(&path), ["spare-1.log", "spare-2.log"]);
        assert!(!keeper.is_scarce, "the space is looked at again first");
        keeper.keep_ahead((1 << 20) - 1);
        assert!(keeper.is_scarce);
        for file in [log(7), log(8), log(9)] {
            let size = 4096;
            carry_out(&mut keeper, Errand::Create { file, size }).unwrap();
        }
        for file in [log(7), log(8), log(9)] {
            carry_out(&mut keeper, Errand::Remove { file }).unwrap();
        }
        assert_eq!(names(&path), ["spare-1.log", "spare-2.log"]);
    }

    #[test]
    fn a_segment_that_a_backup_holds_is_not_used_again() {
        let folder = Folder::new();
        let (mut keeper, path) = keeper(&folder);
        let (file, size) = (log(1), 4096);
        carry_out(&mut keeper, Errand::Create { file, size }).unwrap();
        let held = folder.path().join("held");
        fs::hard_link(path.join(file.to_string()), &held).unwrap();
        carry_out(&mut keeper, Errand::Remove { file }).unwrap();
        assert_eq!(names(&path), [""; 0]);
        assert_eq!(fs::metadata(held).unwrap().nlink(), 1);
    }

    #[test]
    fn a_checkpoint_has_its_name_once_it_is_published() {
        let folder = Folder::new();
        let (mut keeper, path) = keeper(&folder);
        let (file, size) = (checkpoint(16), 0);
        carry_out(&mut keeper, Errand::Create { file, size }).unwrap();
        assert_eq!(names(&path), [format!("{file}.tmp")]);
        carry_out(&mut keeper, Errand::Publish { file }).unwrap();
        assert_eq!(names(&path), [file.to_string()]);
        carry_out(&mut keeper, Errand::Remove { file }).unwrap();
        carry_out(&mut keeper, Errand::Create { file, size }).unwrap();
        carry_out(&mut keeper, Errand::Remove { file }).unwrap();
        assert_eq!(names(&path), [""; 0]);
    }

    #[test]
    fn what_cannot_be_done_is_answered_with_the_error() {
        let folder = Folder::new();
        let (mut keeper, path) = keeper(&folder);
        let missing = DiskError::Failed(Errno::NOENT.raw_os_error());
        for errand in [
            Errand::Publish {
                file: checkpoint(1),
            },
            Errand::Remove { file: log(1) },
        ] {
            assert_eq!(carry_out(&mut keeper, errand), Err(missing));
        }
        fs::create_dir(path.join("new.log.tmp")).unwrap();
        let (file, size) = (log(1), 1);
        let is_directory = DiskError::Failed(Errno::ISDIR.raw_os_error());
        let created = carry_out(&mut keeper, Errand::Create { file, size });
        assert_eq!(created, Err(is_directory));
        for errno in [Errno::NOSPC, Errno::DQUOT] {
            assert_eq!(disk_error(&errno.into()), DiskError::Full);
        }
    }

    #[test]
    fn old_epochs_go_when_every_shard_has_a_checkpoint() {
        let folder = Folder::new();
        let (mut keeper, _) = keeper(&folder);
        let old = folder.path().join("e0001");
        for (index, is_kept) in [(0, true), (0, true), (1, false), (1, false)] {
            let (shard, file) = (ShardId::new(index), checkpoint(index as u64));
            let create = Errand::Create { file, size: 0 };
            for errand in [create, Errand::Publish { file }] {
                let kept = keeper.carry_out(shard, OpId(0), errand).unwrap();
                assert_eq!(kept.done.result, Ok(()));
            }
            assert_eq!(old.exists(), is_kept);
        }
        drop(keeper);
        let (_, manifest) = DataDir::open(folder.path()).unwrap();
        let numbers = manifest.unwrap().epochs;
        assert!(numbers.iter().map(|epoch| epoch.number).eq([2]));
    }

    #[test]
    fn a_spare_is_made_ahead_while_there_is_space() {
        let folder = Folder::new();
        let (mut keeper, path) = keeper(&folder);
        let inboxes = Arc::clone(&keeper.config.inboxes);
        let is_scarce = || inboxes.iter().map(Inbox::is_scarce).collect::<Vec<_>>();
        let other = keeper.config.directory.shard_path(2, 1);
        let enough = (1 << 20) + 2 * 4096;
        // Not with the last bytes: a checkpoint has to fit.
        keep_ahead(&mut keeper, enough - 1);
        assert_eq!((names(&path).len(), is_scarce()), (0, vec![true; 2]));
        keep_ahead(&mut keeper, enough);
        assert_eq!(is_scarce(), [true; 2], "it does not come and go");
        keep_ahead(&mut keeper, enough + enough / 8);
        assert_eq!(is_scarce(), [false; 2]);
        assert_eq!(
            (names(&path), names(&other)),
            (
                vec!["spare-1.log".to_owned()],
                vec!["spare-1.log".to_owned()]
            )
        );
        // Only what is missing is made, and needs space.
        keep_ahead(&mut keeper, 1 << 20);
        assert_eq!((names(&path).len(), is_scarce()), (1, vec![false; 2]));
        let (file, size) = (log(0), 4096);
        carry_out(&mut keeper, Errand::Create { file, size }).unwrap();
        assert_eq!(names(&path), [log(0).to_string()]);
        keep_ahead(&mut keeper, 1 << 20);
        assert_eq!(is_scarce(), [true; 2]);
        // What was kept back is still used.
        let file = log(4096);
        carry_out(&mut keeper, Errand::Create { file, size }).unwrap();
        carry_out(&mut keeper, Errand::Remove { file: log(0) }).unwrap();
        keep_ahead(&mut keeper, 2 << 20);
        assert_eq!((names(&path).len(), is_scarce()), (2, vec![false; 2]));
    }

    #[test]
    fn the_next_checkpoint_has_to_fit() {
        let folder = Folder::new();
        let (mut keeper, path) = keeper(&folder);
        let (file, size) = (checkpoint(0), 0);
        carry_out(&mut keeper, Errand::Create { file, size }).unwrap();
        fs::write(path.join(format!("{file}.tmp")), vec![0; 2 << 20]).unwrap();
        assert_eq!(keeper.bytes_wanted(), 1 << 20);
        carry_out(&mut keeper, Errand::Publish { file }).unwrap();
        assert_eq!(keeper.bytes_wanted(), (2 << 20) + (1 << 19));
    }

    #[test]
    fn answers_come_into_the_inbox_and_the_keeper_ends_with_the_shards() {
        let folder = Folder::new();
        let (keeper, _) = keeper(&folder);
        let inboxes = Arc::clone(&keeper.config.inboxes);
        let (link, thread) = start(keeper.config).unwrap();
        for number in 0..100 {
            let (file, size) = (checkpoint(number), 0);
            let errand = Errand::Create { file, size };
            link.ask(ShardId::new(1), OpId(number), errand);
        }
        drop(link);
        thread.join().unwrap();
        assert!(inboxes[1].has_news() && !inboxes[0].has_news());
        let kept = std::iter::from_fn(|| inboxes[1].take_kept());
        assert!(kept.map(|kept| kept.done.op.0).eq(0..100));
        DataDir::open(folder.path()).expect("the lock is free again");
    }
}
