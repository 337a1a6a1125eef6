//! Batches: what is written, checked and kept as a whole.
//!
//! ```text
//! batch: header, 64 bytes | records, one behind the other | zeros up to a multiple of the block size
//!
//! header, little endian:
//!  0 magic u32          | 4 crc32c of header[8..64] | 8 crc32c of the records | 12 size of the records u32
//! 16 position u64       | 24 durable_upto u64       | 32 log id, low half u64 | 40 wall clock ns u64
//! 48 boot clock ns u64  | 56 epoch u32              | 60 shard u8 | 61 format u8 | 62 flags u8 | 63 zero
//! ```
//!
//! The position of a batch is that of its first byte. One that stands elsewhere, or that another epoch,
//! shard or log wrote, does not count. In a log `durable_upto` vouches for all before that position; in a
//! checkpoint it is where the log goes on. The log id is random and shown nowhere, so that no payload can
//! pose as a batch.

use super::block::Block;
use super::disk::Clocks;
use super::record::Record;
use crate::ids::{LogPosition, ShardId};
use crate::time::Instant;

/// Whose batches: three numbers that no other log has together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogIdentity {
    /// Of the data directory; random.
    pub log_id: u128,
    /// Counts the starts.
    pub epoch: u32,
    /// Which shard of this epoch.
    pub shard: ShardId,
}

/// What stands in the header of a batch beside its checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Whose batch.
    pub identity: LogIdentity,
    /// Of its first byte: in the log, or in the file of a checkpoint.
    pub position: LogPosition,
    /// See the head of the module.
    pub durable_upto: LogPosition,
    /// When it was written.
    pub clocks: Clocks,
    /// Where it belongs.
    pub place: Place,
}

/// Where a batch belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A segment of the log, with more to come.
    Log,
    /// A segment of the log, as its last one: what is behind it in the segment is not used.
    EndOfSegment,
    /// A checkpoint.
    Checkpoint,
}

/// A batch that is being put together.
#[derive(Debug)]
pub struct Batch {
    /// Room for the header, then the records.
    block: Block,
}

impl Batch {
    /// Bytes of a header.
    pub const HEADER_SIZE: usize = 64;

    /// A batch without records, in memory that is used again.
    pub fn new(mut memory: Block) -> Batch {
        memory.truncate(0);
        memory.extend(&[0; Batch::HEADER_SIZE]);
        Batch { block: memory }
    }

    /// Appends a record.
    #[inline]
    pub fn push(&mut self, record: &Record<'_>) {
        self.block.append(|out| record.encode(out));
    }

    /// Bytes so far, header included.
    pub fn size(&self) -> usize {
        self.block.size()
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.size() == Batch::HEADER_SIZE
    }

    /// Moves what is behind the first `size` bytes to another batch, which has no records yet.
    pub fn split_off(&mut self, size: usize, rest: &mut Batch) {
        assert!(rest.is_empty() && size >= Batch::HEADER_SIZE);
        rest.block.extend(&self.block.bytes()[size..]);
        self.block.truncate(size);
    }

    /// The batch as it is written.
    pub fn finish(self, stamp: &Stamp, block_size: u32) -> Block {
        let mut block = self.block;
        let (head, body) = block.bytes_mut().split_at_mut(Batch::HEADER_SIZE);
        let body_size = u32::try_from(body.len()).expect("a batch fits into a segment");
        let header = Header {
            body_crc: crc32c::crc32c(body),
            body_size,
            stamp: *stamp,
        };
        head.copy_from_slice(&header.encode());
        block.pad(block_size as usize);
        block
    }
}

/// The header of a batch that was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) body_size: u32,
    pub(super) stamp: Stamp,
    body_crc: u32,
}

/// What stands at a place where a batch may begin.
#[derive(Debug)]
pub(super) enum Found {
    /// A header of this log.
    Header(Header),
    /// One that a newer version wrote.
    Newer,
    /// Anything else.
    Nothing,
}

impl Header {
    fn encode(&self) -> [u8; Batch::HEADER_SIZE] {
        let Stamp {
            identity,
            position,
            durable_upto,
            clocks,
            place,
        } = self.stamp;
        let mut out = [0; Batch::HEADER_SIZE];
        out[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        out[8..12].copy_from_slice(&self.body_crc.to_le_bytes());
        out[12..16].copy_from_slice(&self.body_size.to_le_bytes());
        out[16..24].copy_from_slice(&position.0.to_le_bytes());
        out[24..32].copy_from_slice(&durable_upto.0.to_le_bytes());
        out[32..40].copy_from_slice(&(identity.log_id as u64).to_le_bytes());
        out[40..48].copy_from_slice(&clocks.wall_ns.to_le_bytes());
        out[48..56].copy_from_slice(&clocks.boot.as_nanos().to_le_bytes());
        out[56..60].copy_from_slice(&identity.epoch.to_le_bytes());
        out[60] = identity.shard.index() as u8;
        out[61] = FORMAT;
        out[62] = match place {
            Place::Log => 0,
            Place::EndOfSegment => 1,
            Place::Checkpoint => 2,
        };
        let crc = crc32c::crc32c(&out[8..]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Looks for a header of `identity` at the begin of `bytes`. Where it says it stands is left to the
    /// caller.
    pub(super) fn find(bytes: &[u8], identity: LogIdentity) -> Found {
        let Some(head) = bytes.first_chunk::<{ Batch::HEADER_SIZE }>() else {
            return Found::Nothing;
        };
        let u32_at = |at: usize| u32::from_le_bytes(field(head, at));
        let u64_at = |at: usize| u64::from_le_bytes(field(head, at));
        // Most of what is looked at is zeros.
        if u32_at(0) != MAGIC || u32_at(4) != crc32c::crc32c(&head[8..]) {
            return Found::Nothing;
        }
        let is_ours = u64_at(32) == identity.log_id as u64
            && u32_at(56) == identity.epoch
            && usize::from(head[60]) == identity.shard.index();
        if !is_ours {
            return Found::Nothing;
        }
        let place = match head[62] {
            0 => Place::Log,
            1 => Place::EndOfSegment,
            2 => Place::Checkpoint,
            _ => return Found::Newer,
        };
        // Their headers and records say the same in all of these.
        if !(1..=FORMAT).contains(&head[61]) {
            return Found::Newer;
        }
        Found::Header(Header {
            body_crc: u32_at(8),
            body_size: u32_at(12),
            stamp: Stamp {
                identity,
                position: LogPosition(u64_at(16)),
                durable_upto: LogPosition(u64_at(24)),
                clocks: Clocks {
                    wall_ns: u64_at(40),
                    boot: Instant::from_nanos(u64_at(48)),
                },
                place,
            },
        })
    }

    /// Whether the first batch of a segment was written to another data directory. Only the first: what stands
    /// further on in a segment that is used again may be a payload of the past, which may be anything.
    pub(super) fn is_foreign(segment: &[u8], identity: LogIdentity) -> bool {
        let Some(head) = segment.first_chunk::<{ Batch::HEADER_SIZE }>() else {
            return false;
        };
        u32::from_le_bytes(field(head, 0)) == MAGIC
            && u32::from_le_bytes(field(head, 4)) == crc32c::crc32c(&head[8..])
            && u64::from_le_bytes(field(head, 32)) != identity.log_id as u64
    }

    /// Bytes of the whole batch.
    pub(super) fn size(&self, block_size: u32) -> u64 {
        let used = Batch::HEADER_SIZE as u64 + u64::from(self.body_size);
        used.next_multiple_of(u64::from(block_size))
    }

    /// The records, if they are whole. `bytes` begin with the header.
    pub(super) fn body<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let body = bytes
            .get(Batch::HEADER_SIZE..)?
            .get(..self.body_size as usize)?;
        (crc32c::crc32c(body) == self.body_crc).then_some(body)
    }
}

fn field<const SIZE: usize>(head: &[u8; Batch::HEADER_SIZE], at: usize) -> [u8; SIZE] {
    *head[at..]
        .first_chunk()
        .expect("fields lie within the header")
}

/// "RMQB".
const MAGIC: u32 = u32::from_le_bytes(*b"RMQB");
/// Of batches and records. A version reads all formats up to its own, and refuses later ones.
pub const FORMAT: u8 = 1;
