//! Writes and syncs of files that are with the kernel: the blocks that it reads from until they complete.
//!
//! A write that is to be durable is a chain of two operations: the write, and an fdatasync that begins once it is
//! done. The kernel reports a chain once: with the outcome of the sync or, if the write failed or was short, with that
//! of the write; then there is no sync.
//!
//! Invariants:
//! - a place is either free or holds an operation; `free` lists each free one once.
//! - a block stays in its place, and its file open, from `launch` to `land`; its bytes are on the heap.
//! - a chain that the kernel took in two pieces is no chain: its sync may have begun before its write was done. It
//!   counts as failed, and its place is never used again, because nobody knows when the write ends.
//!
//! Not here: what is written, and when (`ringmq_core::store`).

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use io_uring::types::{Fd, FsyncFlags};
use io_uring::{opcode, squeue};
use ringmq_core::store::{Block, OpId};
use rustix::io::Errno;

use crate::ring::FileWrite;
use crate::tag::Tag;

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Files {
    places: Vec<Option<InFlight>>,
    free: Vec<u32>,
}

/// An operation that is with the kernel.
#[derive(Debug)]
struct InFlight {
    op: OpId,
    /// Keeps the file open: the kernel has its number only, until it takes the submission.
    _file: Arc<OwnedFd>,
    block: Option<Block>,
    shape: Shape,
}

/// How the kernel was given an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// A write, or a sync.
    Single,
    /// A write and its sync.
    Chain,
    /// A chain that was taken in two pieces; each may be reported.
    Cut { is_reported: bool },
}

/// How an operation ended.
#[derive(Debug)]
pub(crate) struct Landed {
    pub(crate) op: OpId,
    pub(crate) result: Result<(), Errno>,
    pub(crate) block: Option<Block>,
}

impl Files {
    /// Stores the block for the kernel, and makes the entries that write it: to be submitted together.
    pub(crate) fn launch_write(
        &mut self,
        op: OpId,
        file: &Arc<OwnedFd>,
        write: FileWrite,
    ) -> Vec<squeue::Entry> {
        let FileWrite { at, block, sync } = write;
        let shape = if sync { Shape::Chain } else { Shape::Single };
        let fd = Fd(file.as_raw_fd());
        let (index, stored) = self.store(InFlight {
            op,
            _file: Arc::clone(file),
            block: Some(block),
            shape,
        });
        let bytes = stored.bytes();
        let size = u32::try_from(bytes.len()).expect("a block is far smaller than 4 GiB");
        let write = opcode::Write::new(fd, bytes.as_ptr(), size)
            .offset(at)
            .build()
            .user_data(Tag::Write.with(u64::from(index)));
        if !sync {
            return vec![write];
        }
        let flags = squeue::Flags::IO_LINK | squeue::Flags::SKIP_SUCCESS;
        vec![write.flags(flags), sync_entry(fd, index)]
    }

    /// Makes the entry that syncs a file.
    pub(crate) fn launch_sync(&mut self, op: OpId, file: &Arc<OwnedFd>) -> Vec<squeue::Entry> {
        let (index, _) = self.store(InFlight {
            op,
            _file: Arc::clone(file),
            block: None,
            shape: Shape::Single,
        });
        vec![sync_entry(Fd(file.as_raw_fd()), index)]
    }

    fn store(&mut self, operation: InFlight) -> (u32, &InFlight) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            (self.places.len() - 1) as u32
        });
        let place = &mut self.places[index as usize];
        assert!(place.is_none(), "a free place holds no operation");
        (index, place.insert(operation))
    }

    /// Takes back what completed. `None`: the other piece of a chain that was cut.
    pub(crate) fn land(
        &mut self,
        tag: Tag,
        index: usize,
        result: Result<u32, Errno>,
    ) -> Option<Landed> {
        let place = &mut self.places[index];
        let stored = place.as_mut().expect("an operation completes once");
        let op = stored.op;
        if let Shape::Cut { is_reported } = &mut stored.shape {
            let is_first = !std::mem::replace(is_reported, true);
            return is_first.then_some(Landed {
                op,
                result: Err(Errno::NOMEM),
                block: None,
            });
        }
        let size = stored.bytes().len();
        let result = match (tag, result) {
            (Tag::Write, Ok(written)) if written as usize == size => {
                let is_single = stored.shape == Shape::Single;
                assert!(is_single, "of a chain that goes well, the sync is reported");
                Ok(())
            }
            // It is not known why; whoever is told it so would not write again anyway.
            (Tag::Write, Ok(_)) => Err(Errno::IO),
            (_, result) => result.map(|_| ()),
        };
        let block = place.take().and_then(|stored| stored.block);
        self.free.push(index as u32);
        Some(Landed { op, result, block })
    }

    /// The kernel took a part of what was submitted, so that a chain may have been cut. Gives how many more
    /// completions may come for it.
    pub(crate) fn distrust_chains(&mut self) -> usize {
        let mut count = 0;
        for stored in self.places.iter_mut().flatten() {
            if stored.shape == Shape::Chain {
                stored.shape = Shape::Cut { is_reported: false };
                count += 1;
            }
        }
        count
    }

    /// Panics if an invariant is broken.
    #[cfg(test)]
    pub(crate) fn invariants(&self) {
        let mut free = self.free.clone();
        free.sort_unstable();
        let empty = (0..self.places.len()).filter(|&index| self.places[index].is_none());
        assert!(
            empty.eq(free.iter().map(|&index| index as usize)),
            "each free place is listed once"
        );
    }
}

impl InFlight {
    fn bytes(&self) -> &[u8] {
        self.block.as_ref().map_or(&[], Block::bytes)
    }
}

fn sync_entry(fd: Fd, index: u32) -> squeue::Entry {
    let entry = opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC).build();
    entry.user_data(Tag::Sync.with(u64::from(index)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(files: &mut Files, op: u64) {
        let file = Arc::new(OwnedFd::from(std::fs::File::open("/dev/null").unwrap()));
        let mut block = Block::default();
        block.extend(&[7; 4096]);
        let write = FileWrite {
            at: 0,
            block,
            sync: true,
        };
        assert_eq!(files.launch_write(OpId(op), &file, write).len(), 2);
    }

    #[test]
    fn a_chain_has_one_outcome() {
        for (tag, reported, expected) in [
            (Tag::Sync, Ok(0), Ok(())),
            (Tag::Sync, Err(Errno::IO), Err(Errno::IO)),
            (Tag::Write, Err(Errno::NOSPC), Err(Errno::NOSPC)),
            (Tag::Write, Ok(512), Err(Errno::IO)),
        ] {
            let mut files = Files::default();
            chain(&mut files, 5);
            let landed = files.land(tag, 0, reported).unwrap();
            assert_eq!((landed.op, landed.result), (OpId(5), expected));
            assert_eq!(landed.block.unwrap().bytes(), [7; 4096]);
            files.invariants();
        }
    }

    #[test]
    fn a_chain_that_was_cut_has_failed_and_keeps_its_place() {
        let mut files = Files::default();
        chain(&mut files, 1);
        assert_eq!(files.distrust_chains(), 1);
        assert_eq!(files.distrust_chains(), 0);
        let landed = files.land(Tag::Sync, 0, Ok(0)).unwrap();
        assert_eq!((landed.op, landed.result), (OpId(1), Err(Errno::NOMEM)));
        assert!(landed.block.is_none(), "the kernel may still read it");
        assert!(files.land(Tag::Write, 0, Err(Errno::IO)).is_none());
        chain(&mut files, 2);
        assert!(files.land(Tag::Sync, 1, Ok(0)).unwrap().result.is_ok());
        files.invariants();
    }
}
