//! The data directory: who may use it, what is in it, where things are.
//!
//! ```text
//! DATA/                       0700
//!   LOCK                      locked while a broker runs, with its process number
//!   MANIFEST                  0600, see `manifest`
//!   e0007/BEGUN               each shard of epoch 7 has got its first segment
//!   e0007/s00/                epoch 7, shard 0
//!     00000000000a4000.log    named by the position of its first byte
//!     0000000000084000.ckp    checkpoint of what came before that position
//!     spare-1.log             a segment of no position, to be used again
//! ```
//!
//! Invariants:
//! - one process uses a directory, the one that holds the lock.
//! - a name is relied on only after the directory it stands in was synced.
//!
//! Not here: what stands in logs and checkpoints (`ringmq_core::store`); who writes them (`keeper`, the shards).

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ringmq_core::ids::LogPosition;
use ringmq_core::store::{FileKind, FileName};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::SEGMENT_SIZE_MIN;
use super::error::{StoreError, StoreFault};
use super::manifest::Manifest;

/// A data directory that this process has locked.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    /// Locked until it is closed.
    _lock: Option<File>,
}

impl DataDir {
    /// Nobody has stored anything in a directory: what is there is left of a start or an import that came to nothing.
    pub(crate) fn is_unused(path: &Path) -> io::Result<bool> {
        for entry in fs::read_dir(path)? {
            let name = entry?.file_name();
            if ![LOCK, LOST_AND_FOUND].contains(&name.to_string_lossy().as_ref()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Opens and locks a directory; makes it if its parent is there. `None`: nothing was ever stored in it.
    pub(crate) fn open(path: &Path) -> Result<(DataDir, Option<Manifest>), StoreError> {
        make_directory(path)?;
        look_around(path)?;
        let directory = DataDir {
            path: path.to_owned(),
            _lock: Some(lock(path)?),
        };
        let manifest = directory.find_manifest()?;
        Ok((directory, manifest))
    }

    /// The manifest; `None`: nothing was ever stored. Fails if what is there cannot go with it.
    pub(crate) fn find_manifest(&self) -> Result<Option<Manifest>, StoreError> {
        let has_epochs = look_around(&self.path)?;
        let manifest = self.read_manifest()?;
        match &manifest {
            Some(manifest) => self.refuse_newer_epochs(manifest)?,
            None if has_epochs => return Err(StoreError::new(&self.path, StoreFault::NoManifest)),
            None => {}
        }
        Ok(manifest)
    }

    /// An epoch gets its logs after a manifest that names it. One that was to be named next may have a
    /// checkpoint, at position 0, of what the epochs before it hold.
    fn refuse_newer_epochs(&self, manifest: &Manifest) -> Result<(), StoreError> {
        let list = |path: &Path| {
            let path = path.to_owned();
            move |error| StoreError::system(&path, "list it")(error)
        };
        for entry in fs::read_dir(&self.path).map_err(list(&self.path))? {
            let name = entry.map_err(list(&self.path))?.file_name();
            let number = name.to_str().and_then(epoch_number);
            let Some(epoch) = number.filter(|number| *number > manifest.last().number) else {
                continue;
            };
            let path = self.epoch_path(epoch);
            for shard in fs::read_dir(&path).map_err(list(&path))? {
                let shard = shard.map_err(list(&path))?.path();
                if !shard.is_dir() {
                    continue;
                }
                let listing = Listing::of(&shard)?;
                let mut checkpoints = listing.checkpoints.iter();
                if !listing.logs.is_empty() || checkpoints.any(|file| file.position.0 > 0) {
                    return Err(StoreError::new(
                        &self.path,
                        StoreFault::NewerEpoch { epoch },
                    ));
                }
            }
        }
        Ok(())
    }

    /// Opens and locks a directory that is there, for a tool. One that no broker has used has no lock, and
    /// gets none: a tool that another user runs would leave it as his.
    pub(crate) fn open_existing(path: &Path) -> Result<DataDir, StoreError> {
        look_around(path)?;
        let lock = match path.join(LOCK).exists() {
            true => Some(lock(path)?),
            false => None,
        };
        Ok(DataDir {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// The directory as it stands, though a broker may have it.
    pub(crate) fn unlocked(path: &Path) -> DataDir {
        DataDir {
            path: path.to_owned(),
            _lock: None,
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of one shard in one epoch.
    pub(crate) fn shard_path(&self, epoch: u32, shard: usize) -> PathBuf {
        self.epoch_path(epoch).join(format!("s{shard:02}"))
    }

    pub(crate) fn epoch_path(&self, epoch: u32) -> PathBuf {
        self.path.join(format!("e{epoch:04}"))
    }

    pub(crate) fn read_manifest(&self) -> Result<Option<Manifest>, StoreError> {
        let path = self.path.join(MANIFEST);
        let text = match fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::system(&path, "read it")(error)),
        };
        let manifest = Manifest::parse(&text).map_err(|fault| StoreError::new(&path, fault))?;
        Ok(Some(manifest))
    }

    /// Puts a manifest in the place of the one that is there, so that a crash leaves one or the other.
    pub(crate) fn write_manifest(&self, manifest: &Manifest) -> Result<(), StoreError> {
        let aside = self.path.join(MANIFEST_ASIDE);
        let written = (|| {
            let mut file = private_file().truncate(true).open(&aside)?;
            file.write_all(manifest.to_text().as_bytes())?;
            file.sync_all()?;
            fs::rename(&aside, self.path.join(MANIFEST))?;
            sync_directory(&self.path)
        })();
        written.map_err(StoreError::system(&aside, "write the manifest"))
    }

    /// Makes the empty directories of an epoch that no manifest has named yet.
    pub(crate) fn make_epoch(&self, epoch: u32, shards: usize) -> Result<(), StoreError> {
        let path = self.epoch_path(epoch);
        let made = (|| {
            // Of a start that did not get as far as its manifest.
            remove_if_there(&path)?;
            private_directory(&path)?;
            for shard in 0..shards {
                private_directory(&self.shard_path(epoch, shard))?;
            }
            sync_directory(&path)?;
            sync_directory(&self.path)
        })();
        made.map_err(StoreError::system(&path, "make a directory"))
    }

    /// Notes, durably, that each shard of the epoch has a segment.
    pub(crate) fn note_begun(&self, epoch: u32, shards: usize) -> io::Result<()> {
        for shard in 0..shards {
            sync_directory(&self.shard_path(epoch, shard))?;
        }
        let path = self.epoch_path(epoch);
        private_file().open(path.join(BEGUN))?.sync_all()?;
        sync_directory(&path)
    }

    /// Removes the directories of epochs that are not in the manifest.
    pub(crate) fn remove_other_epochs(&self, manifest: &Manifest) -> io::Result<()> {
        for path in self.other_epochs(manifest)? {
            fs::remove_dir_all(path)?;
        }
        sync_directory(&self.path)
    }

    /// The directories of epochs that are not in the manifest.
    pub(crate) fn other_epochs(&self, manifest: &Manifest) -> io::Result<Vec<PathBuf>> {
        let mut others = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let number = entry.file_name().to_str().and_then(epoch_number);
            let is_known = |number| manifest.epochs.iter().any(|epoch| epoch.number == number);
            if number.is_some_and(|number| !is_known(number)) {
                others.push(entry.path());
            }
        }
        Ok(others)
    }
}

/// The files of one shard in one epoch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// Segments, ascending.
    pub(crate) logs: Vec<FileName>,
    /// Checkpoints, ascending.
    pub(crate) checkpoints: Vec<FileName>,
    /// Segments without a name are kept ahead.
    pub(crate) has_spares: bool,
    /// Names that are not ours.
    pub(crate) strays: Vec<String>,
}

impl Listing {
    /// Reads a directory.
    pub(crate) fn of(directory: &Path) -> Result<Listing, StoreError> {
        let mut listing = Listing::default();
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(StoreError::new(directory, StoreFault::Incomplete));
            }
            Err(error) => return Err(StoreError::system(directory, "list it")(error)),
        };
        for entry in entries {
            let entry = entry.map_err(StoreError::system(directory, "list it"))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            match parse_name(&name) {
                Some(file) if file.kind == FileKind::Log => listing.logs.push(file),
                Some(file) => listing.checkpoints.push(file),
                None if is_spare(&name) => listing.has_spares = true,
                None if is_passing(&name) => {}
                None => listing.strays.push(name.into_owned()),
            }
        }
        listing.logs.sort_unstable();
        listing.checkpoints.sort_unstable();
        listing.strays.sort_unstable();
        Ok(listing)
    }
}

/// A segment that is not as a broker has made it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) file: FileName,
    /// Bytes that are there.
    pub(crate) size: u64,
    /// In words.
    pub(crate) what: String,
}

impl Listing {
    /// Looks for a segment that is missing or short, in an epoch that no start has read to its end: all have
    /// their whole size, durably, before they get their names, and the first one goes only when there is
    /// a checkpoint. What stood in such a segment, acknowledged or not, is not known.
    pub(crate) fn find_cut(&self, directory: &Path) -> Result<Option<Cut>, StoreError> {
        let first = FileName {
            kind: FileKind::Log,
            position: LogPosition(0),
        };
        let lost = "what it held is lost, whatever clients were told";
        let has_first = self.logs.first().map(|file| *file == first);
        let is_begun = has_begun(directory) && !self.has_spares;
        if self.checkpoints.is_empty() && !has_first.unwrap_or(!is_begun) {
            let what = format!("{first} is missing, the first segment of the log: {lost}");
            return Ok(Some(Cut {
                file: first,
                size: 0,
                what,
            }));
        }
        let mut sizes = Vec::new();
        for file in &self.logs {
            let path = directory.join(file.to_string());
            let found = fs::metadata(&path).map_err(StoreError::system(&path, "look at it"))?;
            sizes.push(found.len());
        }
        let whole = sizes.iter().copied().max().unwrap_or(0);
        let whole = whole.max(SEGMENT_SIZE_MIN);
        let short = self.logs.iter().zip(sizes).find(|(_, size)| *size < whole);
        Ok(short.map(|(&file, size)| Cut {
            file,
            size,
            what: format!("{file} is cut: it has {size} of {whole} bytes; {lost}"),
        }))
    }
}

/// Each shard of the epoch has been given a segment, of which it makes its first one.
fn has_begun(shard: &Path) -> bool {
    parent_of(shard).join(BEGUN).exists()
}

/// `00000000000a4000.log`, as [`FileName`] shows it.
pub(super) fn parse_name(name: &str) -> Option<FileName> {
    let (digits, extension) = name.split_once('.')?;
    let kind = match extension {
        "log" => FileKind::Log,
        "ckp" => FileKind::Checkpoint,
        _ => return None,
    };
    let position = LogPosition(u64::from_str_radix(digits, 16).ok()?);
    let file = FileName { kind, position };
    // Not `+4000.log`, nor any other way to write the number.
    (file.to_string() == name).then_some(file)
}

/// Files that say nothing: spares, and what was not finished.
pub(super) fn is_passing(name: &str) -> bool {
    name.ends_with(UNFINISHED) || is_spare(name)
}

/// `spare-1.log`.
pub(super) fn is_spare(name: &str) -> bool {
    name.starts_with("spare-") && name.ends_with(".log")
}

/// `e0007`.
fn epoch_number(name: &str) -> Option<u32> {
    let number = name.strip_prefix('e')?.parse().ok()?;
    (format!("e{number:04}") == name).then_some(number)
}

/// The directory, in which anything may be.
fn make_directory(path: &Path) -> Result<(), StoreError> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(StoreError::new(path, StoreFault::NotADirectory)),
        Err(error) if error.kind() == ErrorKind::NotFound => match private_directory(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(StoreError::new(path, StoreFault::NoParent))
            }
            // A symbolic link that leads nowhere.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Err(StoreError::new(path, StoreFault::NotADirectory))
            }
            made => made
                .and_then(|()| sync_directory(parent_of(path)))
                .map_err(StoreError::system(path, "make the data directory")),
        },
        Err(error) => Err(StoreError::system(path, "look at it")(error)),
    }
}

/// Refuses a directory that holds what is not ours, before anything is written to it. Gives whether it holds logs.
fn look_around(path: &Path) -> Result<bool, StoreError> {
    let list = || StoreError::system(path, "list it");
    let (mut foreign, mut is_ours, mut has_epochs) = (None, false, false);
    for entry in fs::read_dir(path).map_err(list())? {
        let name = entry.map_err(list())?.file_name();
        match name.to_string_lossy().as_ref() {
            MANIFEST | LOCK => is_ours = true,
            // Of the file system itself, in its topmost directory.
            LOST_AND_FOUND => {}
            name if name.ends_with(UNFINISHED) => {}
            name if epoch_number(name).is_some() => has_epochs = true,
            name => foreign = Some(name.to_owned()),
        }
    }
    match foreign {
        // Somebody put it there; it is in nobody's way.
        Some(_) if is_ours => Ok(has_epochs),
        Some(entry) => Err(StoreError::new(path, StoreFault::Foreign { entry })),
        None => Ok(has_epochs),
    }
}

/// Takes the lock, and writes down who has it.
fn lock(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join(LOCK);
    let opened = private_file().read(true).open(&path);
    let (opened, is_writable) = match opened {
        // A tool may look at a snapshot; a broker finds out soon enough.
        Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => (File::open(&path), false),
        opened => (opened, true),
    };
    let mut file = opened.map_err(StoreError::system(&path, "open it"))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let mut text = String::new();
            // Only for the message.
            let _ = file.read_to_string(&mut text);
            let pid = text.trim().parse().ok();
            return Err(StoreError::new(directory, StoreFault::Locked { pid }));
        }
        Err(errno) => return Err(StoreError::system(&path, "lock it")(errno.into())),
    }
    if is_writable {
        let noted = file
            .set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        noted.map_err(StoreError::system(&path, "write it"))?;
    }
    Ok(file)
}

/// A file that nobody else may read, made if need be.
pub(super) fn private_file() -> fs::OpenOptions {
    let mut options = File::options();
    options.write(true).create(true).truncate(false).mode(0o600);
    options
}

pub(super) fn private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The directory that a path stands in.
pub(super) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

/// What a file ends with that has not got its name yet.
pub(super) const UNFINISHED: &str = ".tmp";
const LOCK: &str = "LOCK";
const LOST_AND_FOUND: &str = "lost+found";
pub(super) const MANIFEST: &str = "MANIFEST";
/// In an epoch.
const BEGUN: &str = "BEGUN";
const MANIFEST_ASIDE: &str = "MANIFEST.tmp";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::folder::Folder;
    use super::super::manifest::Epoch;
    use super::*;

    fn manifest(epochs: &[u32]) -> Manifest {
        let (last, sealed) = epochs.split_last().unwrap();
        let epoch = |number, cut: Option<Vec<LogPosition>>| Epoch {
            number,
            shards: 2,
            boot_id: "b".to_owned(),
            cut,
        };
        let ends = || Some(vec![LogPosition(4096), LogPosition(0)]);
        let sealed = sealed.iter().map(|&number| epoch(number, ends()));
        Manifest {
            log_id: 5,
            secret: [1, 2],
            block_size: 4096,
            epochs: sealed.chain([epoch(*last, None)]).collect(),
        }
    }

    fn fault(path: &Path) -> StoreFault {
        DataDir::open(path).unwrap_err().fault
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    // (threat 92)
    #[test]
    fn a_directory_is_made_private_and_found_again() {
        let folder = Folder::new();
        let path = folder.path().join("data");
        let (directory, found) = DataDir::open(&path).unwrap();
        assert_eq!(found, None);
        directory.make_epoch(1, 2).unwrap();
        directory.write_manifest(&manifest(&[1])).unwrap();
        for path in [&path, &path.join("e0001"), &directory.shard_path(1, 1)] {
            assert_eq!(mode(path), 0o700, "{path:?}");
        }
        for name in ["MANIFEST", "LOCK"] {
            assert_eq!(mode(&path.join(name)), 0o600, "{name}");
        }
        drop(directory);
        let (directory, found) = DataDir::open(&path).unwrap();
        assert_eq!(found, Some(manifest(&[1])));
        directory.write_manifest(&manifest(&[1, 2])).unwrap();
        assert_eq!(directory.read_manifest().unwrap(), Some(manifest(&[1, 2])));
    }

    #[test]
    fn the_second_broker_is_told_who_has_the_directory() {
        let folder = Folder::new();
        let (directory, _) = DataDir::open(folder.path()).unwrap();
        let error = DataDir::open(folder.path()).unwrap_err();
        let pid = Some(std::process::id());
        assert_eq!(error.fault, StoreFault::Locked { pid });
        let text = error.to_string();
        let pid = format!("pid {}", std::process::id());
        let path = folder.path().display().to_string();
        assert!(text.contains(&pid) && text.contains(&path), "{text}");
        drop(directory);
        DataDir::open(folder.path()).unwrap();
    }

    #[test]
    fn a_directory_of_somebody_else_is_left_alone() {
        let folder = Folder::new();
        fs::write(folder.path().join("passwd"), "x").unwrap();
        let entry = "passwd".to_owned();
        assert_eq!(fault(folder.path()), StoreFault::Foreign { entry });
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "no LOCK in it"
        );
        assert_eq!(
            fault(&folder.path().join("passwd")),
            StoreFault::NotADirectory
        );
        assert_eq!(fault(&folder.path().join("a/b")), StoreFault::NoParent);
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        assert_eq!(fault(&link), StoreFault::NotADirectory);
        let folder = Folder::new();
        fs::create_dir(folder.path().join("lost+found")).unwrap();
        DataDir::open(folder.path()).unwrap();
    }

    #[test]
    fn a_manifest_that_is_missing_or_wrong_is_an_error_with_a_fix() {
        let folder = Folder::new();
        let (directory, _) = DataDir::open(folder.path()).unwrap();
        directory.make_epoch(1, 2).unwrap();
        drop(directory);
        assert_eq!(fault(folder.path()), StoreFault::NoManifest);
        let path = folder.path().join("MANIFEST");
        for (text, expected) in [
            ("", "damaged"),
            ("hello\n", "damaged"),
            ("{\"format\":1}\n", "checksum"),
            ("{\"format\":9}\n", "format 9"),
        ] {
            fs::write(&path, text).unwrap();
            let error = DataDir::open(folder.path()).unwrap_err();
            assert_eq!(error.path, path);
            assert!(error.to_string().contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_directory_that_the_manifest_names_and_that_is_gone_is_an_error() {
        let folder = Folder::new();
        let (directory, _) = DataDir::open(folder.path()).unwrap();
        directory.make_epoch(3, 1).unwrap();
        assert_eq!(
            Listing::of(&directory.shard_path(3, 0)),
            Ok(Listing::default())
        );
        let missing = Listing::of(&directory.shard_path(3, 1)).unwrap_err();
        assert_eq!(missing.fault, StoreFault::Incomplete);
    }

    #[test]
    fn epochs_that_no_manifest_names_are_removed() {
        let folder = Folder::new();
        let (directory, _) = DataDir::open(folder.path()).unwrap();
        for number in [1, 2, 3, 4] {
            directory.make_epoch(number, 1).unwrap();
        }
        fs::write(folder.path().join("e5"), "not an epoch").unwrap();
        directory.remove_other_epochs(&manifest(&[2, 4])).unwrap();
        let left = |name: &str| folder.path().join(name).exists();
        let names = ["e0001", "e0002", "e0003", "e0004", "e5"];
        assert_eq!(names.map(left), [false, true, false, true, true]);
        // A start that got this far and no further.
        fs::write(directory.shard_path(4, 0).join("x"), "").unwrap();
        directory.make_epoch(4, 1).unwrap();
        assert_eq!(
            Listing::of(&directory.shard_path(4, 0)),
            Ok(Listing::default())
        );
    }

    #[test]
    fn files_are_told_apart_by_name() {
        let folder = Folder::new();
        for name in [
            "00000000000a4000.log",
            "0000000000000000.log",
            "0000000004000000.ckp",
            "0000000004000000.ckp.tmp",
            "new.log.tmp",
            "spare-2.log",
            "a4000.log",
            "00000000000A4000.log",
            "notes.txt",
        ] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let file = |kind, position| FileName {
            kind,
            position: LogPosition(position),
        };
        let expected = Listing {
            logs: vec![file(FileKind::Log, 0), file(FileKind::Log, 0xa4000)],
            checkpoints: vec![file(FileKind::Checkpoint, 0x400_0000)],
            has_spares: true,
            strays: ["00000000000A4000.log", "a4000.log", "notes.txt"]
                .map(str::to_owned)
                .to_vec(),
        };
        assert_eq!(Listing::of(folder.path()), Ok(expected));
    }
}
