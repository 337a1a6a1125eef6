//! Writes what was recovered as the checkpoint of an epoch with one shard: a start splits it among
//! its own.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use ringmq_core::ids::{LogPosition, ShardId};
use ringmq_core::store::{CheckpointWriter, Clocks, DiskOp, FileName, LogIdentity, Recovered};

use super::data_dir::DataDir;
use super::error::StoreError;
use super::keeper;
use super::manifest::{Epoch, Manifest};

/// Which epoch is made of what was recovered, and on which clock.
pub(super) struct When {
    pub(super) number: u32,
    pub(super) boot_id: String,
    pub(super) clocks: Clocks,
}

/// Makes an epoch of this, and a manifest that names it alone. Before that is written, what was
/// there holds.
pub(super) fn write(
    directory: &DataDir,
    manifest: &Manifest,
    when: When,
    recovered: &Recovered,
) -> Result<Manifest, StoreError> {
    let changed = Manifest {
        epochs: vec![write_epoch(directory, manifest, when, recovered)?],
        ..manifest.clone()
    };
    directory.write_manifest(&changed)?;
    Ok(changed)
}

/// Makes an epoch of this, which no manifest names yet.
pub(super) fn write_epoch(
    directory: &DataDir,
    manifest: &Manifest,
    when: When,
    recovered: &Recovered,
) -> Result<Epoch, StoreError> {
    let When {
        number,
        boot_id,
        clocks,
    } = when;
    directory.make_epoch(number, 1)?;
    let identity = LogIdentity {
        log_id: manifest.log_id,
        epoch: number,
        shard: ShardId::new(0),
    };
    let path = directory.shard_path(number, 0);
    let mut disk = Disk {
        directory: &path,
        ops: Vec::new(),
        result: Ok(()),
    };
    let at = LogPosition(0);
    let mut writer = CheckpointWriter::new(identity, manifest.block_size, at, 0, &mut disk.ops);
    let written = disk.write_checkpoint(&mut writer, clocks, recovered);
    written.map_err(StoreError::system(&path, "write a checkpoint to it"))?;
    Ok(Epoch {
        number,
        shards: 1,
        boot_id,
        cut: None,
    })
}

/// Does at once what the writer asks for.
struct Disk<'a> {
    directory: &'a Path,
    ops: Vec<DiskOp>,
    /// The first error; nothing is done behind it.
    result: std::io::Result<()>,
}

impl Disk<'_> {
    fn write_checkpoint(
        mut self,
        writer: &mut CheckpointWriter,
        clocks: Clocks,
        recovered: &Recovered,
    ) -> std::io::Result<()> {
        recovered.records(&mut |record| {
            writer.push(record);
            if writer.open_size() >= BATCH_SIZE {
                writer.write(clocks, &mut self.ops);
                self.carry_out(writer);
            }
        });
        self.carry_out(writer);
        std::mem::replace(&mut self.result, Ok(()))?;
        writer.close(clocks, &mut self.ops);
        self.carry_out(writer);
        self.result
    }

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
