//! What the model tests share: a random generator, and filters and topics over an alphabet so small
//! that they meet all the time.

use super::filter::TopicFilter;
use super::name::{TopicLimits, TopicName};
use crate::ids::SessionId;

/// Xorshift64*: enough for tests, and the seed is all it takes to replay one.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 8
    }

    /// A number in `0..end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
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
