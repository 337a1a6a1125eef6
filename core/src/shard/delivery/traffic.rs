//! How much is published on each topic of late.
//!
//! A topic counts where its routes are cached, in memory that a publish has just read. What the cache gives
//! up goes into a summary, which forgets the topics with the least and knows how much that was at most.
//!
//! Counts are those of the present window and the one before, so that what was busy yesterday is not
//! at the top for ever.
//!
//! Invariant: what is counted of a topic is never too much, and too little by at most
//! [`Summary::error`].

use std::fmt;
use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::shard::mail::findings::{TopicOrder, Traffic};
use crate::shard::sys::records::TOPIC_SIZE_MAX;
use crate::time::Instant;

/// Which window it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Windows {
    number: u32,
    ends_at: Instant,
}

impl Windows {
    /// The last that was moved on to.
    pub fn number(self) -> u32 {
        self.number
    }

    /// Moves on to the window of `now`. Once in a window it is another one.
    pub fn advance(&mut self, now: Instant) -> u32 {
        if now >= self.ends_at {
            self.number = window_of(now);
            self.ends_at = Instant::ZERO + WINDOW * (self.number + 1);
        }
        self.number
    }
}

/// The number of the window of a moment.
pub fn window_of(now: Instant) -> u32 {
    (now.as_nanos() / WINDOW.as_nanos() as u64) as u32
}

/// How long ago the window before the present one began.
pub fn span_of(now: Instant) -> Duration {
    let before = window_of(now).saturating_sub(1);
    now.saturating_since(Instant::ZERO + WINDOW * before)
}

/// What was published in a window and in the one before.
#[derive(Clone, Copy, Default)]
pub struct Tally {
    window: u32,
    present: Traffic,
    before: Traffic,
}

impl Tally {
    /// Counts in the present window.
    pub fn add(&mut self, window: u32, more: Traffic) {
        if self.window != window {
            *self = self.moved_to(window);
        }
        self.present.add(more);
    }

    /// As it is in a later window.
    fn moved_to(self, window: u32) -> Tally {
        let (present, before) = match window.saturating_sub(self.window) {
            0 => (self.present, self.before),
            1 => (Traffic::default(), self.present),
            _ => Default::default(),
        };
        Tally {
            window,
            present,
            before,
        }
    }

    /// Both windows together, as seen from a later one.
    pub fn total(self, window: u32) -> Traffic {
        let Tally {
            mut present,
            before,
            ..
        } = self.moved_to(window);
        present.add(before);
        present
    }

    /// Of two topics, or of one that was counted in two places.
    fn merge(self, other: Tally, window: u32, how: impl Fn(Traffic, Traffic) -> Traffic) -> Tally {
        let (mine, other) = (self.moved_to(window), other.moved_to(window));
        Tally {
            window,
            present: how(mine.present, other.present),
            before: how(mine.before, other.before),
        }
    }
}

impl fmt::Debug for Tally {
    /// No numbers: what a shard does next does not depend on them, and tests compare shards by
    /// their text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tally")
    }
}

/// The topics that are not in the cache any more.
#[derive(Default)]
pub struct Summary {
    /// By the keyed hash of the topic, with its beginning.
    topics: HashMap<u64, (Box<[u8]>, Tally), FixedState>,
    /// What a topic may have had when it was forgotten, all times together.
    forgotten: Tally,
}

impl Summary {
    /// Topics in it.
    pub const TOPICS_MAX: usize = 1024;

    /// Takes over what a topic has counted so far.
    pub fn add(&mut self, window: u32, hash: u64, topic: Box<[u8]>, tally: Tally) {
        if tally.total(window).is_none() {
            return;
        }
        if let Some((_, known)) = self.topics.get_mut(&hash) {
            *known = known.merge(tally, window, sum);
            return;
        }
        if self.topics.len() == Summary::TOPICS_MAX {
            self.forget_some(window);
        }
        let topic = match topic.len() > TOPIC_SIZE_MAX {
            true => topic[..TOPIC_SIZE_MAX].into(),
            false => topic,
        };
        self.topics.insert(hash, (topic, tally));
    }

    /// Keeps the quarter with the most messages, and the one with the most bytes.
    fn forget_some(&mut self, window: u32) {
        let quarter = Summary::TOPICS_MAX / 4;
        let least_of = |of: fn(Traffic) -> u64| {
            let values = self.topics.values();
            let mut values: Vec<u64> = values.map(|(_, tally)| of(tally.total(window))).collect();
            let (_, least, _) = values.select_nth_unstable_by(quarter, |a, b| b.cmp(a));
            *least
        };
        let messages = least_of(|traffic| traffic.messages);
        let bytes = least_of(|traffic| traffic.bytes);
        let mut most = Tally::default();
        self.topics.retain(|_, (_, tally)| {
            let total = tally.total(window);
            let is_kept = total.messages > messages || total.bytes > bytes;
            if !is_kept {
                most = most.merge(*tally, window, Traffic::max);
            }
            is_kept
        });
        self.forgotten = self.forgotten.merge(most, window, sum);
    }

    /// By how much a topic may have been counted too little.
    pub fn error(&self, window: u32) -> Traffic {
        self.forgotten.total(window)
    }

    /// All topics in it.
    pub fn topics(&self, window: u32) -> impl Iterator<Item = Counted<'_>> {
        self.topics
            .iter()
            .map(move |(key, (topic, tally))| Counted {
                key: Some(*key),
                topic,
                traffic: tally.total(window),
            })
    }

    /// Panics if an invariant does not hold.
    pub fn assert_invariants(&self) {
        assert!(
            self.topics.len() <= Summary::TOPICS_MAX,
            "the summary is bounded"
        );
    }
}

/// A topic, and what was published on it.
#[derive(Clone, Copy, Debug)]
pub struct Counted<'a> {
    /// Its hash; `None`: it is whole, and has to be hashed.
    pub key: Option<u64>,
    /// The topic, or its beginning.
    pub topic: &'a [u8],
    pub traffic: Traffic,
}

impl TopicOrder {
    /// By what topics are ordered.
    pub fn of(self, traffic: Traffic) -> u64 {
        match self {
            TopicOrder::Messages => traffic.messages,
            TopicOrder::Bytes => traffic.bytes,
        }
    }
}

fn sum(mut one: Traffic, other: Traffic) -> Traffic {
    one.add(other);
    one
}

/// How long a window is: an answer is about one to two of them.
const WINDOW: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn traffic(messages: u64) -> Traffic {
        Traffic {
            messages,
            bytes: 10 * messages,
        }
    }

    #[test]
    fn what_is_older_than_two_windows_is_not_counted() {
        let mut windows = Windows::default();
        let mut tally = Tally::default();
        for (second, more, expected) in
            [(0, 1, 1), (59, 1, 2), (60, 1, 3), (119, 1, 4), (120, 1, 3)]
        {
            tally.add(windows.advance(at(second)), traffic(more));
            assert_eq!(tally.total(window_of(at(second))), traffic(expected));
        }
        assert_eq!(tally.total(window_of(at(185))), traffic(1));
        assert_eq!(tally.total(window_of(at(240))), Traffic::default());
        assert_eq!(span_of(at(185)), Duration::from_secs(65));
        assert_eq!(span_of(at(7)), Duration::from_secs(7));
    }

    /// What is listed of a topic is at most what there was, and together with the error at least that.
    #[test]
    fn a_summary_says_how_wrong_it_may_be() {
        for seed in 0..50 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut summary = Summary::default();
            let mut model: BTreeMap<u64, Traffic> = BTreeMap::new();
            let topics = random.u64(10..6000);
            for _ in 0..20_000 {
                // A few topics have most of it.
                let hash = random.u64(..topics).min(random.u64(..topics));
                let more = Traffic {
                    messages: random.u64(1..5),
                    bytes: random.u64(..100),
                };
                let mut tally = Tally::default();
                tally.add(7, more);
                let topic = hash.to_string().into_bytes().into();
                summary.add(7, hash, topic, tally);
                summary.assert_invariants();
                model.entry(hash).or_default().add(more);
            }
            let error = summary.error(7);
            let listed: BTreeMap<u64, Traffic> = summary
                .topics(7)
                .map(|row| (row.key.unwrap(), row.traffic))
                .collect();
            for (hash, exact) in model {
                let counted = listed.get(&hash).copied().unwrap_or_default();
                let fits = |counted: u64, exact: u64, error: u64| {
                    counted <= exact && exact <= counted + error
                };
                assert!(
                    fits(counted.messages, exact.messages, error.messages)
                        && fits(counted.bytes, exact.bytes, error.bytes),
                    "seed {seed}: {counted:?} of {exact:?}, error {error:?}"
                );
            }
            if topics <= Summary::TOPICS_MAX as u64 {
                assert_eq!(error, Traffic::default(), "nothing was forgotten");
            }
        }
    }

    #[test]
    fn long_topics_are_cut_and_idle_ones_not_kept() {
        let mut summary = Summary::default();
        let mut tally = Tally::default();
        summary.add(1, 1, b"idle"[..].into(), tally);
        tally.add(1, traffic(1));
        summary.add(1, 2, vec![b'x'; 5000].into(), tally);
        let rows: Vec<Counted<'_>> = summary.topics(1).collect();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].topic.len(), TOPIC_SIZE_MAX);
    }
}
