//! Why a data directory cannot be used, and what to do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Something is wrong with a data directory. The text names the file and the fix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError {
    /// The file or directory.
    pub path: PathBuf,
    /// What is wrong with it.
    pub fault: StoreFault,
}

/// What is wrong with a file or directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreFault {
    /// Another broker uses the directory.
    Locked {
        /// Its process, if it has written its number.
        pid: Option<u32>,
    },
    /// The directory is not there, and its parent is not there either.
    NoParent,
    /// It is no directory.
    NotADirectory,
    /// The directory is not empty, and was not made by Ringmq: it has this entry.
    Foreign {
        /// A name.
        entry: String,
    },
    /// There are logs, but no manifest.
    NoManifest,
    /// The manifest names a directory or a file that is not there.
    Incomplete,
    /// The manifest is not as it was written.
    DamagedManifest {
        /// What shows it.
        what: String,
    },
    /// A newer version has written it.
    Newer {
        /// The number of its format.
        format: u64,
    },
    /// In this directory, a log or a checkpoint is not as it was written.
    Damaged {
        /// Which file, at which byte, and what shows it.
        what: String,
    },
    /// In this directory, a newer version has written a log or a checkpoint.
    NewerLog {
        /// Which file, and at which byte.
        what: String,
    },
    /// A system call failed.
    System {
        /// What was tried: "write it".
        action: &'static str,
        /// In words.
        message: String,
    },
}

impl StoreError {
    pub(crate) fn new(path: &Path, fault: StoreFault) -> StoreError {
        StoreError {
            path: path.to_owned(),
            fault,
        }
    }

    /// A system call failed that was to do this to a file.
    pub(crate) fn system(
        path: &Path,
        action: &'static str,
    ) -> impl FnOnce(io::Error) -> StoreError {
        let path = path.to_owned();
        move |error| {
            let message = error.to_string();
            StoreError {
                path,
                fault: StoreFault::System { action, message },
            }
        }
    }
}

impl std::error::Error for StoreError {}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        let directory = self.path.parent().unwrap_or(Path::new("/")).display();
        match &self.fault {
            StoreFault::Locked { pid: Some(pid) } => write!(
                f,
                "the data directory {path} is in use by another broker (pid {pid}); stop it \
                 (kill {pid}), or name another directory"
            ),
            StoreFault::Locked { pid: None } => write!(
                f,
                "the data directory {path} is in use by another broker; find it with `fuser -v \
                 {path}/LOCK`, or name another directory"
            ),
            StoreFault::NoParent => write!(
                f,
                "the data directory {path} does not exist, and neither does the one above it; \
                 check the path, or make it: mkdir -p {path}"
            ),
            StoreFault::NotADirectory => {
                write!(f, "{path} is not a directory; name a directory")
            }
            StoreFault::Foreign { entry } => write!(
                f,
                "{path} is not a data directory of ringmq: it has `{entry}`; name an empty \
                 directory, or one that does not exist yet"
            ),
            StoreFault::NoManifest => write!(
                f,
                "{path} has logs, but no MANIFEST: it was copied in part; copy it again, MANIFEST \
                 included, or name an empty directory to begin without what it held"
            ),
            StoreFault::Incomplete => write!(
                f,
                "{path} is missing, though {directory} says that it is there; was the data \
                 directory copied in part? Copy it again, or restore a backup"
            ),
            StoreFault::DamagedManifest { what } => write!(
                f,
                "{path} is damaged: {what}; restore it from a backup of the data directory"
            ),
            StoreFault::Newer { format } => write!(
                f,
                "{path} was written by a newer version of ringmq (format {format}); run that \
                 version, or name an empty directory"
            ),
            StoreFault::Damaged { what } => write!(
                f,
                "{path}: {what}; see what is lost with `ringmq log verify`, then restore a backup of the \
                 data directory, or leave out what is damaged with `ringmq log repair`"
            ),
            StoreFault::NewerLog { what } => {
                write!(
                    f,
                    "{path}: {what}; run that version, or name an empty directory"
                )
            }
            StoreFault::System { action, message } => write!(
                f,
                "cannot {action}: {path}: {message}; check its owner, its mode and the space on \
                 its file system"
            ),
        }
    }
}
