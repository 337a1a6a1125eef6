//! Repair: what can be read of a damaged directory becomes one that a start takes.
//!
//! Damaged batches are left out, all others are kept. The files as they were stay in the directory,
//! as links below `before-repair-N`, made durable before anything else is changed.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use serde::Serialize;

use super::super::data_dir::{DataDir, MANIFEST, private_directory, sync_directory};
use super::super::manifest::Manifest;
use super::super::state;
use super::survey::{Survey, read, totals};
use super::{ToolError, ToolErrorKind, epoch_of_tool};

/// What a repair found and did.
#[derive(Debug, Serialize)]
pub struct Repair {
    /// As the directory was found; if it was damaged, with what was kept.
    pub survey: Survey,
    /// Where the files are as they were; none if nothing was damaged, and nothing changed.
    pub copy: Option<PathBuf>,
    /// Clients that seemed to have two sessions: the older one is gone.
    pub doubled_clients: Vec<String>,
    /// Exchanges of QoS 2 that were dropped, since they contradicted others.
    pub dropped_exchanges: u64,
}

/// Repairs a directory, if it is damaged.
pub fn repair(path: &Path) -> Result<Repair, ToolError> {
    let owner = fs::metadata(path).map_err(|error| ToolError::failed("look at", path, &error))?;
    if owner.uid() != geteuid().as_raw() {
        let (what, uid) = (path.display(), owner.uid());
        return Err(ToolError::new(
            ToolErrorKind::Wrong,
            format!("{what} belongs to user {uid}, who could not use what this user writes"),
            format!("sudo -u '#{uid}' ringmq log repair {what}"),
        ));
    }
    let directory = super::open(path)?;
    let (mut survey, found) = read(&directory)?;
    let mut repair = Repair {
        copy: None,
        doubled_clients: Vec::new(),
        dropped_exchanges: 0,
        survey: Survey {
            flaws: std::mem::take(&mut survey.flaws),
            ..survey
        },
    };
    let Some((manifest, mut recovered)) = found.filter(|_| !repair.survey.flaws.is_empty()) else {
        return Ok(repair);
    };
    let mended = recovered.mend();
    repair.doubled_clients = mended.doubled.iter().map(ToString::to_string).collect();
    repair.dropped_exchanges = mended.exchanges;
    repair.survey.totals = totals(&recovered);
    let copy = keep_copy(&directory, &manifest);
    repair.copy = Some(copy.map_err(|error| ToolError::failed("keep a copy in", path, &error))?);
    let changed = state::write(
        &directory,
        &manifest,
        epoch_of_tool(manifest.last().number + 1),
        &recovered,
    )?;
    let removed = directory.remove_other_epochs(&changed);
    removed.map_err(|error| ToolError::failed("remove old logs from", path, &error))?;
    Ok(repair)
}

/// Links to all files of the logs, and a copy of the manifest.
fn keep_copy(directory: &DataDir, manifest: &Manifest) -> io::Result<PathBuf> {
    let path = directory.path();
    let mut names = (1..).map(|number| path.join(format!("before-repair-{number}")));
    let copy = names
        .find(|name| !name.exists())
        .expect("names do not run out");
    private_directory(&copy)?;
    let target = DataDir::unlocked(&copy);
    for epoch in &manifest.epochs {
        private_directory(&target.epoch_path(epoch.number))?;
        for shard in 0..epoch.shards {
            let to = target.shard_path(epoch.number, shard);
            let from = directory.shard_path(epoch.number, shard);
            if !from.is_dir() {
                continue;
            }
            private_directory(&to)?;
            for entry in fs::read_dir(from)? {
                let entry = entry?;
                fs::hard_link(entry.path(), to.join(entry.file_name()))?;
            }
            sync_directory(&to)?;
        }
        sync_directory(&target.epoch_path(epoch.number))?;
    }
    fs::copy(path.join(MANIFEST), copy.join(MANIFEST))?;
    fs::File::open(copy.join(MANIFEST))?.sync_all()?;
    sync_directory(&copy)?;
    sync_directory(path)?;
    Ok(copy)
}
