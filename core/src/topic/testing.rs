//! What the model tests share: filters and topics over an alphabet so small
//! that they meet all the time.

use super::filter::TopicFilter;
use super::name::{TopicLimits, TopicName};
use crate::ids::SessionId;

/// Chance; the seed is all it takes to replay a test.
pub(super) struct Random(fastrand::Rng);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(fastrand::Rng::with_seed(seed))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// A number in `0..end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0.usize(..end)
    }

    /// True once in `n` times.
    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// 1 to 5 levels, some of them empty, some too long to stand in a node, some with a `$`.
    pub(super) fn topic(&mut self) -> String {
        let levels: Vec<&str> = (0..1 + self.below(5)).map(|_| self.level()).collect();
        let text = levels.join("/");
        if text.is_empty() { "/".into() } else { text }
    }

    /// Like `topic`, with wildcards.
    pub(super) fn filter(&mut self) -> TopicFilter {
        let mut levels: Vec<&str> = (0..1 + self.below(5))
            .map(|_| if self.one_in(3) { "+" } else { self.level() })
            .collect();
        if self.one_in(4) {
            levels.push("#");
        }
        if self.one_in(16) {
            levels = vec!["#"];
        }
        let text = levels.join("/");
        filter(if text.is_empty() { "/" } else { &text })
    }

    pub(super) fn session(&mut self, count: usize) -> SessionId {
        session(self.below(count) as u32)
    }

    fn level(&mut self) -> &'static str {
        [
            "a",
            "b",
            "",
            "$SYS",
            "$",
            "a level of 21 bytes.",
            "a level of 21 bytes!",
        ][[0, 0, 0, 1, 1, 2, 2, 3, 4, 5, 6][self.below(11)]]
    }
}

pub(super) fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text, &TopicLimits::default()).unwrap()
}

pub(super) fn name(text: &str) -> TopicName<'_> {
    TopicName::parse(text.as_bytes(), &TopicLimits::default()).unwrap()
}

pub(super) fn session(index: u32) -> SessionId {
    SessionId {
        index,
        generation: index % 3,
    }
}
