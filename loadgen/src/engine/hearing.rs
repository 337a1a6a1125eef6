//! Detects a broker that stopped responding.

use std::sync::atomic::Ordering;

use crate::shared::{Shared, UNKNOWN};

/// When something last came from the broker.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    /// Deliveries and acknowledgements up to then.
    heard: u64,
    at_ns: u64,
    /// Messages published up to then that owe a delivery or an acknowledgement.
    asked: u64,
}

impl Hearing {
    /// Looks whether something came. Before the publishing begins nothing has to.
    pub(super) fn listen(&mut self, shared: &Shared, now: u64) {
        let heard = shared.sum(|board| board.heard.load(Ordering::Relaxed));
        if heard != self.heard || now <= shared.publish_at() {
            let asked = shared.sum(|board| board.asked.load(Ordering::Relaxed));
            *self = Hearing {
                heard,
                at_ns: now,
                asked,
            };
        }
    }

    /// After the drain: the report about a broker that had stopped responding while messages were
    /// still being published. Single messages that it lost are a matter of the ledger.
    pub(super) fn silence(&self, shared: &Shared) -> Option<String> {
        let asked = shared.sum(|board| board.asked.load(Ordering::Relaxed));
        let unacknowledged = shared.sum(|board| board.unacknowledged.load(Ordering::Relaxed));
        let outstanding = match shared.outstanding() {
            UNKNOWN => 0,
            count => count,
        };
        let is_closed_loop = shared.plan.specs.iter().any(|group| group.window.is_some());
        let facts = Facts {
            heard: self.heard,
            asked_since: asked.saturating_sub(self.asked),
            waiting: outstanding + unacknowledged,
            silent_ns: shared.window_end().saturating_sub(self.at_ns),
            is_closed_loop,
        };
        facts.verdict()
    }
}

/// What the verdict depends on.
struct Facts {
    heard: u64,
    asked_since: u64,
    waiting: u64,
    /// Up to the end of the window.
    silent_ns: u64,
    is_closed_loop: bool,
}

impl Facts {
    fn verdict(&self) -> Option<String> {
        let waiting = self.waiting;
        if waiting == 0 {
            return None;
        }
        if self.heard == 0 {
            return Some(format!(
                "no delivery and no acknowledgement arrived, {waiting} were due"
            ));
        }
        // In a closed loop nothing is sent while nothing arrives.
        let many = self.asked_since >= MANY || (self.is_closed_loop && waiting >= MANY);
        let seconds = self.silent_ns as f64 / 1e9;
        (self.silent_ns >= SILENCE_NS && many).then(|| {
            format!(
                "nothing arrived in the last {seconds:.1} s of the window or after it, \
                 {waiting} deliveries and acknowledgements were due"
            )
        })
    }
}

/// A broker may pause; one that pauses for so long and does not recover in the drain is gone.
const SILENCE_NS: u64 = 1_000_000_000;
/// With fewer messages it may only have lost them.
const MANY: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_loses_messages_is_not_a_silent_one() {
        let second = 1_000_000_000;
        // Heard, asked since, waiting, silence, closed loop.
        for (heard, asked_since, waiting, silent_ns, is_closed_loop, expected) in [
            (0, 5, 5, second / 10, false, true),
            (0, 0, 0, 9 * second, false, false),
            (100, 50, 50, 2 * second, false, true),
            (100, 50, 0, 2 * second, false, false),
            (100, 50, 50, second / 2, false, false),
            (100, 1, 30, 9 * second, false, false),
            (100, 0, 50, 2 * second, true, true),
            (100, 0, 2, 2 * second, true, false),
        ] {
            let facts = Facts {
                heard,
                asked_since,
                waiting,
                silent_ns,
                is_closed_loop,
            };
            let verdict = facts.verdict();
            assert_eq!(
                verdict.is_some(),
                expected,
                "{heard} {asked_since} {waiting} {silent_ns} {is_closed_loop}: {verdict:?}"
            );
        }
    }
}
