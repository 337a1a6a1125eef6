//! Writes what was recovered as the checkpoint of an epoch with one shard: a start splits it among
//! its own.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use ringmq_core::ids::{LogPosition, ShardId};
use ringmq_core::store::{CheckpointWriter, DiskOp, FileName, LogIdentity, Recovered};

use super::super::data_dir::DataDir;
use super::super::keeper;
use super::super::manifest::{Epoch, Manifest};
use super::{ToolError, wall_clocks};

/// Makes an epoch of this, and a manifest that names it alone. Before that is written, what was
/// there holds.
pub(super) fn write(
    directory: &DataDir,
    manifest: &Manifest,
    number: u32,
    recovered: &Recovered,
) -> Result<Manifest, ToolError> {
    directory.make_epoch(number, 1)?;
    let identity = LogIdentity {
        log_id: manifest.log_id,
        epoch: number,
        shard: ShardId::new(0),
    };
    let path = directory.shard_path(number, 0);
    let written = write_checkpoint(&path, identity, manifest.block_size, recovered);
    written.map_err(|error| ToolError::failed("write a checkpoint to", &path, &error))?;
    let epoch = Epoch {
        number,
        shards: 1,
        // Of no boot: times are those of the wall clock.
        boot_id: "none".to_owned(),
        cut: None,
    };
    let changed = Manifest {
        epochs: vec![epoch],
        ..manifest.clone()
    };
    directory.write_manifest(&changed)?;
    Ok(changed)
}

fn write_checkpoint(
    directory: &Path,
    identity: LogIdentity,
    block_size: u32,
    recovered: &Recovered,
) -> std::io::Result<()> {
    let clocks = wall_clocks();
    let mut disk = Disk {
        directory,
        ops: Vec::new(),
        result: Ok(()),
    };
    let mut writer = CheckpointWriter::new(identity, block_size, LogPosition(0), 0, &mut disk.ops);
    recovered.records(&mut |record| {
        writer.push(record);
        if writer.open_size() >= BATCH_SIZE {
            writer.write(clocks, &mut disk.ops);
            disk.carry_out(&mut writer);
        }
    });
    disk.carry_out(&mut writer);
    disk.result?;
    writer.close(clocks, &mut disk.ops);
    disk.result = Ok(());
    disk.carry_out(&mut writer);
    disk.result
}

/// Does at once what the writer asks for.
struct Disk<'a> {
    directory: &'a Path,
    ops: Vec<DiskOp>,
    /// The first error; nothing is done behind it.
    result: std::io::Result<()>,
}

impl Disk<'_> {
    fn carry_out(&mut self, writer: &mut CheckpointWriter) {
        while !self.ops.is_empty() {
            for op in std::mem::take(&mut self.ops) {
                if self.result.is_ok() {
                    self.result = self.do_op(&op);
                }
                let left = writer.on_done(op.answered(Ok(())), &mut self.ops);
                assert!(left.is_none(), "only the writer asks");
            }
        }
    }

    fn do_op(&self, op: &DiskOp) -> std::io::Result<()> {
        let unfinished = |file: &FileName| self.directory.join(format!("{file}.tmp"));
        match op {
            DiskOp::Create { file, size, .. } => {
                keeper::create(self.directory, *file, *size).map(drop)
            }
            DiskOp::Write {
                file, at, block, ..
            } => {
                let file = File::options().write(true).open(unfinished(file))?;
                file.write_all_at(block.bytes(), *at)
            }
            DiskOp::Publish { file, .. } => keeper::publish(self.directory, *file).map(drop),
            DiskOp::Sync { .. } | DiskOp::Remove { .. } => {
                unreachable!("a checkpoint asks for neither")
            }
        }
    }
}

/// Bytes that are written, and lost by damage, as a whole.
const BATCH_SIZE: usize = 1 << 16;
