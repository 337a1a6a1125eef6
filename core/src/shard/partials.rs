//! Memory of what has arrived in part, or waits for an answer: counted over all connections, and bounded.

use super::Shard;
use crate::codec::Framer;

/// The connections of the shard hold too much of packets that have not arrived whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialsFull;

/// A connection that holds no more of a packet than this is never closed for what others hold.
const PARTIAL_SIZE_SMALL: u64 = 4096;

impl Shard {
    /// Counts what a connection holds of a packet that has arrived in part (threat 33).
    ///
    /// # Errors
    /// All of them hold too much, and this one is not among the small ones. Nothing is counted.
    pub(super) fn admit_partial(&mut self, framer: &Framer) -> Result<(), PartialsFull> {
        self.hold(framer.memory_size())
    }

    /// Takes back what `admit_partial` counted; before the framer goes on or away.
    pub(super) fn release_partial(&mut self, framer: &Framer) {
        self.release(framer.memory_size());
    }

    /// Counts memory that a connection makes the shard keep before anything is done with it.
    ///
    /// # Errors
    /// As `admit_partial`.
    pub(super) fn hold(&mut self, size: usize) -> Result<(), PartialsFull> {
        let size = size as u64;
        let is_over = self.partial_bytes + size > self.config.limits.partial_bytes_max;
        if is_over && size > PARTIAL_SIZE_SMALL {
            return Err(PartialsFull);
        }
        self.partial_bytes += size;
        Ok(())
    }

    /// Takes back what `hold` counted.
    pub(super) fn release(&mut self, size: usize) {
        let size = size as u64;
        assert!(size <= self.partial_bytes, "a part was never counted");
        self.partial_bytes -= size;
    }
}
