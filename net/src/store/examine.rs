//! A look at a data directory before the start. Judges nothing, and leaves nothing behind.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, StatxFlags, accessat, statfs, statx};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::data_dir::{DataDir, parent_of};
use super::error::StoreError;

/// What there is to know of a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryFacts {
    /// As the settings name it.
    pub path: PathBuf,
    /// What is there.
    pub presence: Presence,
    /// Why nothing can be written to it, or, if it is to be made, to the directory above it; in words.
    pub unwritable: Option<String>,
    /// Why a start would refuse what is in it, whoever writes.
    pub unfit: Option<StoreError>,
    /// Something is stored in it.
    pub is_used: bool,
    /// What it is stored on.
    pub file_system: FileSystem,
    /// Bytes that are free.
    pub free_bytes: u64,
    /// How files can be written past the cache of the kernel.
    pub direct: Direct,
}

/// What is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The directory.
    Directory {
        /// Who may do what: 0o700.
        mode: u32,
        /// It belongs to the user of this process.
        is_own: bool,
    },
    /// Nothing, but the directory above it is there: it can be made.
    Nothing,
    /// Not even the directory above it.
    NoParent,
    /// Something else.
    Other,
}

/// What a directory is stored on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    /// In memory: tmpfs.
    Memory,
    /// On another machine; its name.
    Network(&'static str),
    /// Blocks are never written in place; its name.
    CopyOnWrite(&'static str),
    /// The layer of a container, which ends with it.
    Overlay,
    /// On a disk of this machine, for all that is known.
    Local,
}

/// Whether files can be written past the cache of the kernel (O_DIRECT).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direct {
    /// In blocks of [`BLOCK_SIZE`] bytes.
    Yes,
    /// The file system does not have it, or asks for larger blocks.
    No,
    /// It could not be tried.
    Unknown,
}

impl DirectoryFacts {
    /// Looks at a directory, which need not exist.
    pub fn gather(path: &Path) -> DirectoryFacts {
        let presence = presence_of(path);
        let above = parent_of(path);
        // Where it is, or is going to be.
        let there = match presence {
            Presence::Directory { .. } | Presence::Other => path,
            Presence::Nothing | Presence::NoParent => above,
        };
        let unwritable = match presence {
            Presence::Directory { .. } | Presence::Nothing => accessat(
                CWD,
                there,
                Access::WRITE_OK | Access::EXEC_OK,
                AtFlags::EACCESS,
            )
            .err()
            .map(|errno| errno.to_string()),
            // There is more in the way than that.
            Presence::NoParent | Presence::Other => None,
        };
        let found = match (&unwritable, presence) {
            (None, Presence::Directory { .. }) => DataDir::unlocked(path).find_manifest(),
            (_, _) => Ok(None),
        };
        let system = statfs(there).ok();
        let file_system = system.map_or(FileSystem::Local, |found| named(found.f_type as u64));
        let free_bytes = system.map_or(u64::MAX, |found| {
            found.f_bavail.saturating_mul(found.f_bsize.unsigned_abs())
        });
        let direct = match (&unwritable, presence) {
            (None, Presence::Directory { .. }) => try_direct(path).unwrap_or(Direct::Unknown),
            (_, _) => Direct::Unknown,
        };
        DirectoryFacts {
            path: path.to_owned(),
            presence,
            unwritable,
            is_used: matches!(found, Ok(Some(_))),
            unfit: found.err(),
            file_system,
            free_bytes,
            direct,
        }
    }
}

fn presence_of(path: &Path) -> Presence {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Presence::Directory {
            mode: found.mode() & 0o7777,
            is_own: found.uid() == geteuid().as_raw(),
        },
        Ok(_) => Presence::Other,
        Err(_) if parent_of(path).is_dir() => Presence::Nothing,
        Err(_) => Presence::NoParent,
    }
}

/// Opens a file of the directory for writing past the cache.
pub(super) fn try_direct(directory: &Path) -> io::Result<Direct> {
    let path = directory.join(format!("probe-{}.tmp", std::process::id()));
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::DIRECT;
    let opened = rustix::fs::open(&path, flags, Mode::empty());
    fs::remove_file(&path)?;
    let file = match opened {
        Ok(file) => file,
        Err(Errno::INVAL) => return Ok(Direct::No),
        Err(errno) => return Err(errno.into()),
    };
    // Kernels from 6.1 on tell; where they do not, a page has always been enough.
    let found = statx(&file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN)?;
    let is_told = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::DIOALIGN);
    let (memory, block) = (found.stx_dio_mem_align, found.stx_dio_offset_align);
    let is_fine = !is_told || (block > 0 && BLOCK_SIZE.is_multiple_of(block.max(memory)));
    Ok(if is_fine { Direct::Yes } else { Direct::No })
}

/// By the number that `statfs` gives (`linux/magic.h`).
fn named(magic: u64) -> FileSystem {
    match magic & 0xFFFF_FFFF {
        0x0102_1994 | 0x8584_58F6 => FileSystem::Memory,
        0x6969 => FileSystem::Network("NFS"),
        0x517B | 0xFF53_4D42 | 0xFE53_4D42 => FileSystem::Network("SMB"),
        0x00C3_6400 => FileSystem::Network("Ceph"),
        0x0102_1997 => FileSystem::Network("9P"),
        0x6573_5546 => FileSystem::Network("FUSE"),
        0x9123_683E => FileSystem::CopyOnWrite("Btrfs"),
        0x2FC1_2FC1 => FileSystem::CopyOnWrite("ZFS"),
        0xCA45_1A4E => FileSystem::CopyOnWrite("bcachefs"),
        0x794C_7630 => FileSystem::Overlay,
        _ => FileSystem::Local,
    }
}

/// Bytes that are written at once at least: what the memory of a block is aligned to, and enough for most disks.
pub const BLOCK_SIZE: u32 = 4096;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::folder::Folder;
    use super::*;

    #[test]
    fn a_directory_is_looked_at_and_left_as_it_was() {
        let folder = Folder::new();
        let path = folder.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o750)).unwrap();
        let facts = DirectoryFacts::gather(path);
        let mode = 0o750;
        assert_eq!(facts.presence, Presence::Directory { mode, is_own: true });
        assert_eq!((facts.unwritable, facts.unfit), (None, None));
        assert!(!facts.is_used);
        assert!(facts.free_bytes > 0 && facts.direct != Direct::Unknown);
        assert_eq!(fs::read_dir(path).unwrap().count(), 0);
        fs::write(path.join("file"), "").unwrap();
        let unfit = DirectoryFacts::gather(path).unfit.unwrap();
        assert!(unfit.what().contains("it has `file`"), "{unfit}");
        for (name, expected) in [
            ("file", Presence::Other),
            ("new", Presence::Nothing),
            ("no/new", Presence::NoParent),
        ] {
            let facts = DirectoryFacts::gather(&path.join(name));
            assert_eq!(facts.presence, expected, "{name}");
            assert_eq!(facts.direct, Direct::Unknown);
        }
        let facts = DirectoryFacts::gather(Path::new("/proc"));
        assert!(matches!(facts.presence, Presence::Directory { .. }));
    }

    #[test]
    fn what_a_start_refuses_is_known_before() {
        let folder = Folder::new();
        let manifest = folder.path().join("MANIFEST");
        for (text, expected) in [
            ("", "is damaged"),
            (
                "{\"format\":2}\nx\n",
                "by a newer version of ringmq (format 2)",
            ),
        ] {
            fs::write(&manifest, text).unwrap();
            let unfit = DirectoryFacts::gather(folder.path()).unfit.unwrap();
            assert!(unfit.what().contains(expected), "{unfit}");
        }
        fs::remove_file(&manifest).unwrap();
        fs::create_dir(folder.path().join("e0001")).unwrap();
        let unfit = DirectoryFacts::gather(folder.path()).unfit.unwrap();
        assert!(
            unfit.what().contains("has logs, but no MANIFEST"),
            "{unfit}"
        );
    }

    #[test]
    fn memory_is_told_from_disks() {
        for (path, expected) in [
            ("/dev/shm", FileSystem::Memory),
            ("/proc", FileSystem::Local),
        ] {
            assert_eq!(
                DirectoryFacts::gather(Path::new(path)).file_system,
                expected
            );
        }
    }
}
