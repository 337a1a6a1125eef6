//! Output of a connection that has not been sent yet.
//!
//! Small packets are copied into one buffer, so that a turn's output is one send; large payloads
//! travel as shared chunks, without a copy. The shell pulls everything pending as one [`Output`]
//! and owns it until the socket has taken it; newer output collects behind it.
//!
//! Invariants:
//! - `unsent_bytes == pending bytes here + bytes of the output in flight`.
//! - the unsent bytes of all egresses of a shard are counted in its `Unsent`.
//! - an idle connection holds no buffer: `chunks` and `tail` have no capacity when nothing is
//!   pending.
//!
//! Not here: when to drop (`shard/delivery`), sockets (the shell).

use bytes::Bytes;

use super::pool::{BufferPool, Unsent};

/// Output of one connection that is not with the socket yet, and the count of what is.
#[derive(Debug, Default)]
pub struct Egress {
    chunks: Vec<Chunk>,
    tail: Vec<u8>,
    unsent_bytes: u32,
    /// Packets that pend here, and those of the output in flight with its bytes.
    pending_packets: u32,
    flight_packets: u32,
    flight_bytes: u32,
    /// Stands in `Outbox::dirty`.
    dirty: bool,
    /// Something pends that is not an answer; then it is dirty, too.
    pressing: bool,
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

/// What pends on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
    /// Nothing.
    Nothing,
    /// Acknowledgements and other answers, which may wait a little: a send costs more than all else about them.
    Answers,
    /// Something that is to be sent at once.
    Pressing,
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

    /// Counts a packet of `size` bytes appended to [`Egress::buffer`]. True when the connection has
    /// to be reported dirty.
    #[must_use]
    pub fn grew(&mut self, size: usize, unsent: &mut Unsent) -> bool {
        self.grew_by(1, size, unsent)
    }

    /// As [`Egress::grew`], for packets that have `size` bytes together.
    #[must_use]
    pub fn grew_by(&mut self, packets: u32, size: usize, unsent: &mut Unsent) -> bool {
        // Reported anew if it stands there for answers only.
        let is_new = !std::mem::replace(&mut self.pressing, true);
        _ = self.grew_by_answers(packets, size, unsent);
        is_new
    }

    /// As [`Egress::grew_by`], for answers: they may wait a little for others to go with.
    #[must_use]
    pub fn grew_by_answers(&mut self, packets: u32, size: usize, unsent: &mut Unsent) -> bool {
        self.pending_packets += packets;
        unsent.packets += u64::from(packets);
        self.count(size, unsent)
    }

    fn count(&mut self, size: usize, unsent: &mut Unsent) -> bool {
        let size = u32::try_from(size).expect("packets are bounded");
        let sum = self.unsent_bytes.checked_add(size);
        self.unsent_bytes = sum.expect("output is bounded");
        unsent.bytes += u64::from(size);
        !std::mem::replace(&mut self.dirty, true)
    }

    /// Appends the payload of the last packet without copying it. True when the connection has to
    /// be reported dirty.
    #[must_use]
    pub fn push_shared(&mut self, payload: Bytes, unsent: &mut Unsent) -> bool {
        let size = payload.len();
        if self.tail.capacity() > 0 {
            self.chunks.push(Chunk::Own(std::mem::take(&mut self.tail)));
        }
        self.chunks.push(Chunk::Shared(payload));
        self.count(size, unsent)
    }

    /// Everything that pends, once. Clears the dirty mark.
    pub fn take(&mut self) -> Option<Output> {
        self.dirty = false;
        self.pressing = false;
        self.flight_packets += std::mem::take(&mut self.pending_packets);
        self.flight_bytes = self.unsent_bytes;
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

    /// A copy of what pends.
    pub fn pending_bytes(&self) -> Vec<u8> {
        let chunks = self.chunks.iter().map(Chunk::as_slice);
        let slices: Vec<&[u8]> = chunks.chain([&*self.tail]).collect();
        slices.concat()
    }

    /// The socket took `size` bytes of an output.
    pub fn sent(&mut self, size: u32, unsent: &mut Unsent) {
        assert!(
            size <= self.flight_bytes,
            "the socket took more than it was given"
        );
        self.unsent_bytes -= size;
        self.flight_bytes -= size;
        unsent.bytes -= u64::from(size);
        if self.flight_bytes == 0 {
            unsent.packets -= u64::from(std::mem::take(&mut self.flight_packets));
        }
    }

    /// The connection is gone: what waits is not sent.
    pub fn abandon(self, unsent: &mut Unsent) {
        unsent.bytes -= u64::from(self.unsent_bytes);
        unsent.packets -= u64::from(self.pending_packets + self.flight_packets);
    }

    /// Panics if an invariant does not hold.
    pub fn assert_invariants(&self) {
        let chunks = self.chunks.iter().map(|chunk| chunk.as_slice().len());
        let pending = chunks.sum::<usize>() + self.tail.len();
        let unsent = pending + self.flight_bytes as usize;
        assert_eq!(self.unsent_bytes as usize, unsent, "all bytes are counted");
        assert!(self.dirty || pending == 0, "what pends is reported");
        assert!(self.dirty || !self.pressing, "what presses is reported");
        assert!(
            pending > 0 || self.tail.capacity() + self.chunks.capacity() == 0,
            "an idle connection holds no buffer"
        );
        assert!(
            pending > 0 || self.pending_packets == 0,
            "a packet that pends has bytes"
        );
        assert!(
            self.flight_bytes > 0 || self.flight_packets == 0,
            "a packet in flight has bytes"
        );
    }

    /// What pends.
    pub fn pending(&self) -> Pending {
        if self.pressing {
            Pending::Pressing
        } else if self.pending_packets > 0 {
            Pending::Answers
        } else {
            Pending::Nothing
        }
    }

    /// Packets of which some byte is not sent.
    pub fn unsent_packets(&self) -> u32 {
        self.pending_packets + self.flight_packets
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
    fn packets_appended_together_are_counted_individually() {
        let mut pool = BufferPool::new();
        let mut egress = Egress::default();
        let mut unsent = Unsent::default();
        egress.buffer(&mut pool).extend_from_slice(b"123456");
        assert!(egress.grew_by(3, 6, &mut unsent));
        assert_eq!((unsent.packets, unsent.bytes), (3, 6));
        assert_eq!(egress.unsent_packets(), 3);
    }

    #[test]
    fn what_presses_behind_answers_is_reported_anew() {
        let (mut pool, mut unsent) = (BufferPool::new(), Unsent::default());
        let mut egress = Egress::default();
        assert_eq!(egress.pending(), Pending::Nothing);
        let mut grow = |egress: &mut Egress, is_answer: bool| {
            egress.buffer(&mut pool).extend_from_slice(b"ab");
            if is_answer {
                egress.grew_by_answers(1, 2, &mut unsent)
            } else {
                egress.grew(2, &mut unsent)
            }
        };
        assert!(grow(&mut egress, true));
        assert!(!grow(&mut egress, true));
        assert_eq!(egress.pending(), Pending::Answers);
        assert!(grow(&mut egress, false));
        assert!(!grow(&mut egress, true));
        assert!(!grow(&mut egress, false));
        assert_eq!(egress.pending(), Pending::Pressing);
        assert_eq!(egress.take().unwrap().size(), 10);
        assert_eq!(egress.pending(), Pending::Nothing);
        assert!(grow(&mut egress, false));
    }

    #[test]
    fn small_packets_leave_as_one_buffer_and_large_payloads_uncopied() {
        let (mut pool, mut unsent) = (BufferPool::new(), Unsent::default());
        let mut egress = Egress::default();
        egress.buffer(&mut pool).extend_from_slice(b"ab");
        assert!(
            egress.grew(2, &mut unsent),
            "the first output makes the connection dirty"
        );
        egress.buffer(&mut pool).extend_from_slice(b"c");
        assert!(!egress.grew(1, &mut unsent), "it is dirty already");
        assert!(matches!(egress.take(), Some(Output::One(bytes)) if bytes == b"abc"));
        assert_eq!(egress.unsent_bytes(), 3, "taken is not sent");

        let payload = Bytes::from(vec![7; 100]);
        egress.buffer(&mut pool).extend_from_slice(b"head");
        assert!(egress.grew(4, &mut unsent));
        assert!(!egress.push_shared(payload.clone(), &mut unsent));
        egress.buffer(&mut pool).extend_from_slice(b"next");
        assert!(!egress.grew(4, &mut unsent));
        let Some(Output::Many(chunks)) = egress.take() else {
            panic!("three chunks")
        };
        let slices: Vec<&[u8]> = chunks.iter().map(Chunk::as_slice).collect();
        assert_eq!(slices, [b"head", &payload[..], b"next"]);
        assert_eq!(slices[1].as_ptr(), payload.as_ptr());
        assert_eq!((unsent.packets, unsent.bytes), (4, 111));
        egress.sent(3, &mut unsent);
        assert_eq!((unsent.packets, unsent.bytes), (4, 108));
        egress.sent(108, &mut unsent);
        assert_eq!(unsent, Unsent::default());
        assert_eq!(egress.unsent_bytes(), 0);
        assert!(egress.take().is_none());
        assert_eq!(
            egress.tail.capacity() + egress.chunks.capacity(),
            0,
            "idle holds no buffer"
        );
    }
}
