//! Why a data directory cannot be used, and what to do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringmq_core::store::OddClock;

use crate::date::date;

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
    /// A broker has written to an epoch that the manifest does not know: the manifest is an older one.
    NewerEpoch {
        /// Its number.
        epoch: u32,
    },
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
    /// The wall clock contradicts the log.
    Clock(OddClock),
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
        write!(f, "{}; {}", self.what(), self.fix())
    }
}

impl StoreError {
    /// What is wrong, and where.
    pub fn what(&self) -> String {
        let path = self.path.display();
        let root = self.root().display();
        match &self.fault {
            StoreFault::Locked { pid } => {
                let who = pid.map_or(String::new(), |pid| format!(" (pid {pid})"));
                format!("the data directory {path} is in use by another broker{who}")
            }
            StoreFault::NoParent => format!(
                "the data directory {path} does not exist, and neither does the one above it"
            ),
            StoreFault::NotADirectory => format!("{path} is not a directory"),
            StoreFault::Foreign { entry } => {
                format!("{path} is not a data directory of ringmq: it has `{entry}`")
            }
            StoreFault::NoManifest => {
                format!("{path} has logs, but no MANIFEST: it was copied or imported in part")
            }
            StoreFault::Incomplete => {
                format!("{path} is missing, though {root}/MANIFEST names it")
            }
            StoreFault::NewerEpoch { epoch } => format!(
                "{path}/e{epoch:04} was written after {path}/MANIFEST, which does not name it: that \
                 MANIFEST is an older one, and without what is newer the directory is not whole"
            ),
            StoreFault::DamagedManifest { what } => format!("{path} is damaged: {what}"),
            StoreFault::Newer { format } => {
                format!("{path} was written by a newer version of ringmq (format {format})")
            }
            StoreFault::Damaged { what } | StoreFault::NewerLog { what } => {
                format!("{path}: {what}")
            }
            StoreFault::Clock(odd) => said_of_clock(odd, path),
            StoreFault::System { action, message } => {
                format!("cannot {action}: {path}: {message}")
            }
        }
    }

    /// What to do about it.
    pub fn fix(&self) -> String {
        let path = self.path.display();
        let root = self.root().display();
        match &self.fault {
            StoreFault::Locked { pid: Some(pid) } => {
                format!("stop it (kill {pid}), or name another directory")
            }
            StoreFault::Locked { pid: None } => {
                format!("find it with `fuser -v {path}/LOCK`, or name another directory")
            }
            StoreFault::NoParent => format!("check the path, or make it: mkdir -p {path}"),
            StoreFault::NotADirectory => "name a directory".to_owned(),
            StoreFault::Foreign { .. } => {
                "name an empty directory, or one that does not exist yet".to_owned()
            }
            StoreFault::NoManifest => {
                "copy it again, MANIFEST included, or remove it and import again, or name an empty \
                 directory to begin without what it held"
                    .to_owned()
            }
            StoreFault::Incomplete => format!(
                "was the data directory copied in part? Copy it again, restore a backup of all of {root}, or \
                 keep what is left with `ringmq log repair {root}`"
            ),
            StoreFault::NewerEpoch { .. } => format!(
                "put back the MANIFEST that stood there last, or restore a backup of all of {root}"
            ),
            StoreFault::DamagedManifest { .. } => format!(
                "restore a backup of all of {root} (its MANIFEST alone does not fit these logs), or move \
                 {root} away to begin without what it held"
            ),
            StoreFault::Newer { .. } | StoreFault::NewerLog { .. } => {
                "run that version, or name an empty directory".to_owned()
            }
            StoreFault::Damaged { .. } => format!(
                "see what is lost with `ringmq log verify {root}`, then restore a backup of all of \
                 {root}, or leave out what is damaged with `ringmq log repair {root}`"
            ),
            StoreFault::Clock(OddClock { written_ns, now_ns }) if now_ns < written_ns => {
                "set the clock; if it is right, and was wrong before, start once with \
                 --store-downtime ignored"
                    .to_owned()
            }
            StoreFault::Clock(_) => "set the clock; if it is right, start once with \
                                     --store-downtime counted (what has expired by it goes) or \
                                     --store-downtime ignored (nothing does)"
                .to_owned(),
            StoreFault::System { .. } => {
                "check its owner, its mode and the space on its file system".to_owned()
            }
        }
    }

    /// The data directory, for a path of a file or a shard in it.
    fn root(&self) -> &Path {
        let path = &*self.path;
        let above = || path.parent().unwrap_or(path);
        match (&self.fault, is_shard(path)) {
            (_, true) => above().parent().unwrap_or(path),
            (StoreFault::DamagedManifest { .. } | StoreFault::Newer { .. }, false) => above(),
            (_, false) => path,
        }
    }
}

fn said_of_clock(odd: &OddClock, path: std::path::Display<'_>) -> String {
    let OddClock { written_ns, now_ns } = odd;
    let days = now_ns.abs_diff(*written_ns) / (24 * 3600 * 1_000_000_000);
    let date_of = |wall_ns| date(Duration::from_nanos(wall_ns));
    let (written, now) = (date_of(*written_ns), date_of(*now_ns));
    let comparison = match now_ns < written_ns {
        true => "days earlier: one of the two is wrong",
        false => {
            "days later: if one of the two is wrong, sessions and messages would expire too early"
        }
    };
    format!(
        "the log in {path} was last written at {written}, and the clock says {now}, {days} {comparison}"
    )
}

/// The path ends with the epoch and the shard: `e0007/s00`.
fn is_shard(path: &Path) -> bool {
    let mut names = path.iter().rev().filter_map(|name| name.to_str());
    let mut is_numbered = |letter| {
        let number = names.next().and_then(|name| name.strip_prefix(letter));
        number.is_some_and(|digits| digits.parse::<u32>().is_ok())
    };
    is_numbered('s') && is_numbered('e')
}
