//! Free output buffers: connections take one when they have something to send and return it when it
//! is sent, so that an idle connection holds none.

/// Buffers of one shard.
#[derive(Debug)]
pub struct BufferPool {
    free: Vec<Vec<u8>>,
    /// What waits for the sockets of the shard.
    pub unsent: Unsent,
}

/// What waits for sockets: pending in an [`Egress`](super::Egress), or handed out and not sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsent {
    /// Packets of which some byte is not sent; those of an output count until all of it is.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Capacity of a fresh buffer: a few small packets.
const FRESH_SIZE: usize = 512;
/// A buffer that grew beyond this is given back to the allocator.
const KEPT_SIZE_MAX: usize = 64 * 1024;
/// Bytes kept at most: `KEPT_COUNT_MAX * KEPT_SIZE_MAX` would be 64 MiB, typical is 1 MiB.
const KEPT_COUNT_MAX: usize = 1024;

impl BufferPool {
    /// An empty pool.
    pub fn new() -> BufferPool {
        BufferPool {
            free: Vec::new(),
            unsent: Unsent::default(),
        }
    }

    /// An empty buffer with some capacity.
    pub fn take(&mut self) -> Vec<u8> {
        self.free
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(FRESH_SIZE))
    }

    /// Gives a buffer back.
    pub fn put(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() == 0
            || buffer.capacity() > KEPT_SIZE_MAX
            || self.free.len() >= KEPT_COUNT_MAX
        {
            return;
        }
        buffer.clear();
        self.free.push(buffer);
    }
}

impl Default for BufferPool {
    fn default() -> BufferPool {
        BufferPool::new()
    }
}
