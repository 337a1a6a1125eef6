//! The streams of a run: every topic of every publisher, with its sequence numbers; and which of
//! them a filter matches.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// All streams of a run.
#[derive(Debug, Default)]
pub struct Streams {
    topics: Vec<u8>,
    /// Where the topic of each stream ends in `topics`.
    ends: Vec<u32>,
    /// Publishing group and thread of each stream: `group * threads + thread`.
    slots: Vec<u16>,
    /// Deliveries that a message of each stream owes.
    copies: Vec<u32>,
    /// Last sequence sent. Written by the publisher's thread alone.
    sent: Box<[AtomicU32]>,
    by_topic: OnceLock<HashMap<Box<[u8]>, u32>>,
}

impl Streams {
    /// Adds the next stream. Streams of one slot come one after the other.
    pub(super) fn push(&mut self, topic: &[u8], slot: u16) {
        assert!(self.sent.is_empty(), "no stream comes after the last");
        self.topics.extend_from_slice(topic);
        self.ends.push(self.topics.len() as u32);
        self.slots.push(slot);
    }

    /// No stream follows.
    pub(super) fn close(&mut self) {
        self.copies = vec![0; self.count()];
        self.sent = (0..self.count()).map(|_| AtomicU32::new(0)).collect();
    }

    /// A message of this stream owes so many more deliveries.
    pub(super) fn add_copies(&mut self, stream: u32, count: u32) {
        self.copies[stream as usize] += count;
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// The topic of a stream.
    #[inline]
    pub fn topic(&self, stream: u32) -> &[u8] {
        let stream = stream as usize;
        let start = if stream == 0 {
            0
        } else {
            self.ends[stream - 1] as usize
        };
        &self.topics[start..self.ends[stream] as usize]
    }

    /// Publishing group and thread, as one number.
    #[inline]
    pub fn slot(&self, stream: u32) -> usize {
        usize::from(self.slots[stream as usize])
    }

    /// Deliveries that a message owes.
    #[inline]
    pub fn copies(&self, stream: u32) -> u32 {
        self.copies[stream as usize]
    }

    /// Takes the next sequence; for the thread of the publisher alone. `None` at the end of the
    /// numbers.
    #[inline]
    pub fn next_sequence(&self, stream: u32) -> Option<u32> {
        let sent = &self.sent[stream as usize];
        let next = sent.load(Ordering::Relaxed).checked_add(1)?;
        sent.store(next, Ordering::Relaxed);
        Some(next)
    }

    /// Notes what was sent on another machine.
    pub fn note_sent(&self, stream: u32, last: u32) {
        if let Some(sent) = self.sent.get(stream as usize) {
            sent.store(last, Ordering::Relaxed);
        }
    }

    /// The last sequence sent.
    pub fn last_sequence(&self, stream: u32) -> u32 {
        self.sent[stream as usize].load(Ordering::Relaxed)
    }

    /// The last sequence sent of every stream.
    pub fn last_sequences(&self) -> Vec<u32> {
        self.sent
            .iter()
            .map(|sent| sent.load(Ordering::Relaxed))
            .collect()
    }

    /// The stream of a topic. Asked for only where a payload does not say it, so that the map is
    /// made only then.
    pub fn find(&self, topic: &[u8]) -> Option<u32> {
        let all = || (0..self.count() as u32).map(|stream| (self.topic(stream).into(), stream));
        let by_topic = self.by_topic.get_or_init(|| all().collect());
        by_topic.get(topic).copied()
    }
}

/// Streams that some filters match.
#[derive(Debug, PartialEq, Eq)]
pub enum Matched {
    /// From the first on.
    Range {
        /// The first.
        first: u32,
        /// How many.
        count: u32,
    },
    /// Ascending.
    List(Box<[u32]>),
}

impl Matched {
    /// Of these streams, ascending.
    pub fn of(streams: Vec<u32>) -> Matched {
        match (streams.first(), streams.last()) {
            (Some(&first), Some(&last)) if (last - first) as usize == streams.len() - 1 => {
                Matched::Range {
                    first,
                    count: streams.len() as u32,
                }
            }
            _ => Matched::List(streams.into()),
        }
    }

    /// How many.
    pub fn count(&self) -> usize {
        match self {
            Matched::Range { count, .. } => *count as usize,
            Matched::List(streams) => streams.len(),
        }
    }

    /// Where a stream stands among them.
    #[inline]
    pub fn position(&self, stream: u32) -> Option<usize> {
        match self {
            Matched::Range { first, count } => {
                let position = stream.wrapping_sub(*first);
                (position < *count).then_some(position as usize)
            }
            Matched::List(streams) => streams.binary_search(&stream).ok(),
        }
    }

    /// All of them.
    pub fn streams(&self) -> impl Iterator<Item = u32> + '_ {
        let (range, list) = match self {
            Matched::Range { first, count } => (*first..*first + *count, &[][..]),
            Matched::List(streams) => (0..0, &**streams),
        };
        range.chain(list.iter().copied())
    }
}
