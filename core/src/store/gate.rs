//! Holds acknowledgements back until the log is durable up to the record they stand for.
//!
//! Acknowledgements leave in the order in which they came [MQTT-4.6.0-2] [MQTT-4.6.0-3]: one that
//! needs nothing waits behind one that does.
//!
//! Invariant: `waiting` is empty or its first acknowledgement needs more than `persisted`.

use std::collections::VecDeque;

use crate::ids::LogPosition;

/// The gate of one shard.
#[derive(Debug)]
pub struct Gate<A> {
    persisted: LogPosition,
    waiting: VecDeque<(LogPosition, A)>,
}

impl<A> Gate<A> {
    /// A gate with nothing waiting. With persistence off no record is written and every
    /// acknowledgement needs position 0, which is safe from the start.
    pub fn new() -> Gate<A> {
        Gate {
            persisted: LogPosition::default(),
            waiting: VecDeque::new(),
        }
    }

    /// Gives the acknowledgement back if it may be sent now; otherwise keeps it.
    pub fn ack(&mut self, needs: LogPosition, ack: A) -> Option<A> {
        if self.waiting.is_empty() && needs <= self.persisted {
            return Some(ack);
        }
        self.waiting.push_back((needs, ack));
        None
    }

    /// Notes that the log is durable up to `upto`. Call [`Gate::release`] until it is empty.
    pub fn persisted(&mut self, upto: LogPosition) {
        self.persisted = self.persisted.max(upto);
    }

    /// The next acknowledgement that may be sent.
    pub fn release(&mut self) -> Option<A> {
        let &(needs, _) = self.waiting.front()?;
        if needs > self.persisted {
            return None;
        }
        self.waiting.pop_front().map(|(_, ack)| ack)
    }

    /// Acknowledgements that wait.
    pub fn waiting_count(&self) -> usize {
        self.waiting.len()
    }
}

impl<A> Default for Gate<A> {
    fn default() -> Gate<A> {
        Gate::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_records_every_ack_passes_at_once() {
        let mut gate = Gate::new();
        assert_eq!(gate.ack(LogPosition(0), 1), Some(1));
        assert_eq!(gate.ack(LogPosition(0), 2), Some(2));
        assert_eq!(gate.waiting_count(), 0);
    }

    #[test]
    fn acks_wait_for_their_record_and_keep_their_order() {
        let mut gate = Gate::new();
        assert_eq!(gate.ack(LogPosition(5), "a"), None);
        assert_eq!(
            gate.ack(LogPosition(0), "b"),
            None,
            "not before the one ahead of it"
        );
        assert_eq!(gate.ack(LogPosition(7), "c"), None);
        gate.persisted(LogPosition(4));
        assert_eq!(gate.release(), None);
        gate.persisted(LogPosition(6));
        assert_eq!(gate.release(), Some("a"));
        assert_eq!(gate.release(), Some("b"));
        assert_eq!(gate.release(), None);
        gate.persisted(LogPosition(3));
        gate.persisted(LogPosition(7));
        assert_eq!(gate.release(), Some("c"));
        assert_eq!(gate.waiting_count(), 0);
    }
}
