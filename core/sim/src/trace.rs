//! What happened in a run: a hash of it, and its text on request.

use std::fmt::Arguments;

/// The log of one run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    steps: u64,
    printed: bool,
}

impl Trace {
    /// An empty log; with `printed`, every entry goes to standard output.
    pub fn new(printed: bool) -> Trace {
        Trace {
            hash: FNV_OFFSET,
            steps: 0,
            printed,
        }
    }

    /// Logs that `what` happened to `values`. The text is only made when it is printed.
    pub fn log(&mut self, what: What, values: [u64; 3], text: Arguments<'_>) {
        self.steps += 1;
        for value in [what as u64].into_iter().chain(values) {
            self.fold(value);
        }
        if self.printed {
            println!("{:>7} {what:?} {text}", self.steps);
        }
    }

    /// Whether the text is printed.
    pub fn is_printed(&self) -> bool {
        self.printed
    }

    /// Folds bytes into the hash.
    pub fn mix(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.fold(u64::from_le_bytes(*word));
        }
        for &byte in rest {
            self.fold(u64::from(byte));
        }
    }

    fn fold(&mut self, value: u64) {
        self.hash = (self.hash ^ value).wrapping_mul(FNV_PRIME);
        self.hash ^= self.hash >> 29;
    }

    /// Equal for two runs exactly when the same happened, up to collisions.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

/// Kinds of log entries.
#[derive(Clone, Copy, Debug)]
pub enum What {
    /// A client did something.
    Client,
    /// A client got a packet.
    Packet,
    /// A shard took in an event.
    Event,
    /// A message of a shard became visible to its target.
    Post,
    /// A socket took output.
    Output,
    /// The network did something.
    Network,
    /// Time passed.
    Time,
    /// A phase of the run begins.
    Phase,
}

const FNV_OFFSET: u64 = 0xCBF2_9CE4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01B3;
