//! Files of zeros, which become segments and checkpoints; made in pieces, between which other things can be done.
//!
//! Invariant: a file that is not finished is removed: what there is of it takes up space that may be missing.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use ringmq_core::store::Block;
use rustix::fs::OFlags;

/// A file that is being filled.
///
/// Not by `fallocate`: the first write to each of its blocks would change the metadata of the file, which the sync would
/// then have to write as well.
pub(super) struct Zeros {
    file: File,
    path: PathBuf,
    piece: Block,
    /// Bytes to come.
    left: u64,
    is_finished: bool,
}

impl Zeros {
    /// Makes the file, empty. `direct`: it is written past the cache of the kernel.
    pub(super) fn begin(path: &Path, size: u64, direct: bool) -> io::Result<Zeros> {
        let mut flags = OFlags::empty();
        flags.set(OFlags::DIRECT, direct);
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(flags.bits().cast_signed())
            .open(path)?;
        let piece_size = PIECE_SIZE.min(usize::try_from(size).unwrap_or(PIECE_SIZE));
        let mut piece = Block::with_capacity(piece_size);
        piece.append(|memory| memory.resize(memory.len() + piece_size, 0));
        Ok(Zeros {
            file,
            path: path.to_owned(),
            piece,
            left: size,
            is_finished: false,
        })
    }

    /// Makes the whole file, durably.
    pub(super) fn fill(path: &Path, size: u64, direct: bool) -> io::Result<()> {
        let mut zeros = Zeros::begin(path, size, direct)?;
        while zeros.is_short() {
            zeros.write_piece(false)?;
        }
        zeros.finish()
    }

    /// Something is to come.
    pub(super) fn is_short(&self) -> bool {
        self.left > 0
    }

    /// Writes the next piece, and waits until it is on the disk if that is wanted.
    pub(super) fn write_piece(&mut self, is_synced: bool) -> io::Result<()> {
        let whole = self.piece.size();
        let size = whole.min(usize::try_from(self.left).unwrap_or(whole));
        self.file.write_all(&self.piece.bytes()[..size])?;
        self.left -= size as u64;
        if is_synced {
            self.file.sync_data()?;
        }
        Ok(())
    }

    /// The file is there and durable; its name is not yet.
    pub(super) fn finish(mut self) -> io::Result<()> {
        assert!(!self.is_short(), "it is written to its end");
        self.file.sync_all()?;
        self.is_finished = true;
        Ok(())
    }
}

impl Drop for Zeros {
    fn drop(&mut self) {
        if !self.is_finished {
            // If that fails as well, the next one that is made begins with it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Written at once: so little that a sync of a log does not wait for it for long.
pub(super) const PIECE_SIZE: usize = 1 << 20;
