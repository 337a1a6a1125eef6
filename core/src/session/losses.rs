//! What a client has lost: messages that did not reach it, and what it was refused.
//!
//! Invariant: one tally for each reason that has occurred, so there are at most as many as there
//! are reasons.

use std::fmt;

use crate::loss::{Bound, Cut, Loss};
use crate::time::Instant;

/// The losses of one session. They end with it, and are not stored.
#[derive(Default)]
pub struct Losses {
    tallies: Vec<LossTally>,
}

/// The losses of one session for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossTally {
    /// The reason.
    pub loss: Loss,
    /// How many.
    pub count: u64,
    /// When the first was.
    pub first_at: Instant,
    /// When the last was.
    pub last_at: Instant,
    /// The topic or filter of the last.
    pub topic: Cut,
    /// The bound that the last reached.
    pub bound: Option<Bound>,
}

impl Losses {
    /// Counts one.
    pub fn note(&mut self, loss: Loss, topic: &[u8], bound: Option<Bound>, now: Instant) {
        match self.tallies.iter_mut().find(|tally| tally.loss == loss) {
            Some(tally) => {
                tally.count += 1;
                tally.last_at = now;
                tally.topic = Cut::of(topic);
                tally.bound = bound;
            }
            None => self.tallies.push(LossTally {
                loss,
                count: 1,
                first_at: now,
                last_at: now,
                topic: Cut::of(topic),
                bound,
            }),
        }
    }

    /// By reason, in the order of their first occurrence.
    pub fn tallies(&self) -> &[LossTally] {
        &self.tallies
    }
}

impl fmt::Debug for Losses {
    /// Nothing: what a shard does next does not depend on it, and tests compare shards by their
    /// text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Losses")
    }
}
