//! What a connection still has to send.
//!
//! Small packets are copied one behind the other into one buffer, so that a turn's output is one
//! send; large payloads travel as shared chunks, without a copy. The shell pulls everything that is
//! pending in one [`Output`] and owns it until the socket has taken it; what comes meanwhile
//! gathers behind it.
//!
//! Invariants:
//! - `unsent_bytes == pending bytes here + bytes of the output in flight`.
//! - an idle connection holds no buffer: `chunks` and `tail` have no capacity when nothing pends.
//!
//! Not here: when to drop (`deliver.rs`), sockets (the shell).

use bytes::Bytes;

use super::pool::BufferPool;

/// Output of one connection that is not with the socket yet, and the count of what is.
#[derive(Debug, Default)]
pub struct Egress {
    chunks: Vec<Chunk>,
    tail: Vec<u8>,
    unsent_bytes: u32,
    /// Stands in `Outbox::dirty`.
    dirty: bool,
}

/// A piece of output.
#[derive(Debug)]
pub enum Chunk {
    /// Owned; goes back to the pool when sent.
    Own(Vec<u8>),
    /// Part of a message that others may send too.
    Shared(Bytes),
}

/// Everything that pended on one connection, in order, never empty.
#[derive(Debug)]
pub enum Output {
    /// The usual case: one contiguous buffer.
    One(Vec<u8>),
    /// With large payloads in it: for a gathering send.
    Many(Vec<Chunk>),
}

impl Chunk {
    /// The bytes to send.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Chunk::Own(bytes) => bytes,
            Chunk::Shared(bytes) => bytes,
        }
    }
}

impl Output {
    /// Bytes in it.
    pub fn size(&self) -> usize {
        match self {
            Output::One(bytes) => bytes.len(),
            Output::Many(chunks) => chunks.iter().map(|c| c.as_slice().len()).sum(),
        }
    }
}

impl Egress {
    /// The buffer to append packets to; call [`Egress::grew`] afterwards.
    pub fn buffer(&mut self, pool: &mut BufferPool) -> &mut Vec<u8> {
        if self.tail.capacity() == 0 {
            self.tail = pool.take();
        }
        &mut self.tail
    }

    /// Counts `size` bytes appended to [`Egress::buffer`]. True when the connection has to be
    /// reported dirty.
    #[must_use]
    pub fn grew(&mut self, size: usize) -> bool {
        self.unsent_bytes = self.unsent_bytes.saturating_add(size as u32);
        !std::mem::replace(&mut self.dirty, true)
    }

    /// Appends a payload without copying it. True when the connection has to be reported dirty.
    #[must_use]
    pub fn push_shared(&mut self, payload: Bytes) -> bool {
        let size = payload.len();
        if self.tail.capacity() > 0 {
            self.chunks.push(Chunk::Own(std::mem::take(&mut self.tail)));
        }
        self.chunks.push(Chunk::Shared(payload));
        self.grew(size)
    }

    /// Everything that pends, once. Clears the dirty mark.
    pub fn take(&mut self) -> Option<Output> {
        self.dirty = false;
        let tail = std::mem::take(&mut self.tail);
        if self.chunks.is_empty() {
            return (!tail.is_empty()).then_some(Output::One(tail));
        }
        let mut chunks = std::mem::take(&mut self.chunks);
        if !tail.is_empty() {
            chunks.push(Chunk::Own(tail));
        }
        Some(Output::Many(chunks))
    }

    /// The socket took `size` bytes of an output.
    pub fn sent(&mut self, size: u32) {
        assert!(
            size <= self.unsent_bytes,
            "the socket took more than it was given"
        );
        self.unsent_bytes -= size;
    }

    /// Bytes that the socket has not taken: pending here or in flight.
    pub fn unsent_bytes(&self) -> u32 {
        self.unsent_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_packets_leave_as_one_buffer_and_large_payloads_uncopied() {
        let mut pool = BufferPool::new();
        let mut egress = Egress::default();
        egress.buffer(&mut pool).extend_from_slice(b"ab");
        assert!(
            egress.grew(2),
            "the first output makes the connection dirty"
        );
        egress.buffer(&mut pool).extend_from_slice(b"c");
        assert!(!egress.grew(1), "it is dirty already");
        assert!(matches!(egress.take(), Some(Output::One(bytes)) if bytes == b"abc"));
        assert_eq!(egress.unsent_bytes(), 3, "taken is not sent");

        let payload = Bytes::from(vec![7; 100]);
        egress.buffer(&mut pool).extend_from_slice(b"head");
        assert!(egress.grew(4));
        assert!(!egress.push_shared(payload.clone()));
        egress.buffer(&mut pool).extend_from_slice(b"next");
        assert!(!egress.grew(4));
        let Some(Output::Many(chunks)) = egress.take() else {
            panic!("three chunks")
        };
        let slices: Vec<&[u8]> = chunks.iter().map(Chunk::as_slice).collect();
        assert_eq!(slices, [b"head", &payload[..], b"next"]);
        assert_eq!(slices[1].as_ptr(), payload.as_ptr());
        egress.sent(3 + 108);
        assert_eq!(egress.unsent_bytes(), 0);
        assert!(egress.take().is_none());
        assert_eq!(
            egress.tail.capacity() + egress.chunks.capacity(),
            0,
            "idle holds no buffer"
        );
    }
}
