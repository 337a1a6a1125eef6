//! Tools for data directories: what is in one, whether it is sound, and another one made of it.
//!
//! - `survey`: reads everything, damage included; `inspect` and `verify` show it.
//! - `repair`, `backup`: a directory that a start takes, of a damaged or a running one.
//! - `lines`, `transfer`: export and import, as lines of JSON.
//! - `state`: writes what was read as a checkpoint.
//!
//! Not here: the command line and how results are shown (the program).

mod backup;
mod lines;
mod repair;
mod survey;
#[cfg(test)]
mod tests;
mod transfer;

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use ringmq_core::store::Clocks;
use ringmq_core::time::Instant;
use ringmq_ring::wall_clock;

use super::data_dir::DataDir;
use super::error::{StoreError, StoreFault};
use super::state::When;

pub use backup::{Backup, backup};
pub use repair::{Repair, repair};
pub use survey::{Epoch, File, Flaw, Hints, LargeSession, Shard, Survey, Totals};
pub use transfer::{Transfer, export, import};

/// Reads everything in a data directory, and changes nothing.
pub fn survey(path: &Path) -> Result<Survey, ToolError> {
    let directory = open(path)?;
    Ok(survey::read(&directory)?.0)
}

/// Why a tool could not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolError {
    /// Of which kind.
    pub kind: ToolErrorKind,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

/// Kinds of errors; each has an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolErrorKind {
    /// The directory is damaged, and the tool needs a sound one.
    Damaged,
    /// The tool was asked for something that it does not do.
    Wrong,
    /// Reading or writing failed.
    Failed,
    /// A broker has the directory.
    InUse,
}

impl ToolError {
    fn new(kind: ToolErrorKind, what: impl Into<String>, fix: impl Into<String>) -> ToolError {
        ToolError {
            kind,
            what: what.into(),
            fix: fix.into(),
        }
    }

    fn failed(action: &str, path: &Path, error: &dyn fmt::Display) -> ToolError {
        let what = format!("cannot {action} {}: {error}", path.display());
        ToolError::new(ToolErrorKind::Failed, what, FIX_FAILED)
    }
}

impl fmt::Display for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  fix: {}", self.what, self.fix)
    }
}

impl std::error::Error for ToolError {}

impl From<StoreError> for ToolError {
    fn from(error: StoreError) -> ToolError {
        let path = error.path.display();
        match &error.fault {
            StoreFault::Locked { pid } => {
                let who = pid.map_or(String::new(), |pid| format!(" (pid {pid})"));
                ToolError::new(
                    ToolErrorKind::InUse,
                    format!("{path} is in use by a running broker or tool{who}"),
                    format!(
                        "stop it first, or look at a copy: ringmq log backup {path} TARGET works \
                         beside a running broker"
                    ),
                )
            }
            StoreFault::System { .. } => {
                ToolError::new(ToolErrorKind::Failed, error.what(), FIX_FAILED)
            }
            StoreFault::NoParent | StoreFault::NotADirectory | StoreFault::Foreign { .. } => {
                let what = format!("{path} is not a data directory of ringmq");
                ToolError::new(ToolErrorKind::Wrong, what, "name the broker's --data-dir")
            }
            StoreFault::Newer { .. } | StoreFault::NewerLog { .. } => ToolError::new(
                ToolErrorKind::Wrong,
                error.what(),
                "use the tools of that version",
            ),
            StoreFault::NoManifest
            | StoreFault::Incomplete
            | StoreFault::NewerEpoch { .. }
            | StoreFault::DamagedManifest { .. }
            | StoreFault::Damaged { .. }
            | StoreFault::Clock(_) => {
                ToolError::new(ToolErrorKind::Damaged, error.what(), error.fix())
            }
        }
    }
}

/// An epoch of a tool: of no boot, so that times are those of the wall clock.
fn epoch_of_tool(number: u32) -> When {
    When {
        number,
        boot_id: "none".to_owned(),
        clocks: wall_clocks(),
    }
}

/// Now, where times are those of the wall clock.
fn wall_clocks() -> Clocks {
    let wall_ns = wall_clock();
    Clocks {
        boot: Instant::from_nanos(wall_ns),
        wall_ns,
    }
}

/// Opens a directory that is there already.
fn open(path: &Path) -> Result<DataDir, ToolError> {
    let found = fs::metadata(path);
    if let Err(error) = &found
        && error.kind() == ErrorKind::PermissionDenied
    {
        return Err(ToolError::failed("look at", path, error));
    }
    if !found.is_ok_and(|found| found.is_dir()) {
        let what = format!("{} is not a directory", path.display());
        let fix = "name the broker's --data-dir";
        return Err(ToolError::new(ToolErrorKind::Wrong, what, fix));
    }
    Ok(DataDir::open_existing(path)?)
}

const FIX_FAILED: &str = "check its owner (run it as the user of the broker), its mode, and the space on its file system";
