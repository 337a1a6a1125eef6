//! Deadlines of one shard, ordered by time.
//!
//! An ordered set, not a heap: a deadline that no longer counts is removed, so that the set holds
//! nothing of clients that are gone.

use std::collections::BTreeSet;

use crate::ids::{ConnId, SessionId};
use crate::time::Instant;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// A connection has to have sent its CONNECT.
    Connect(ConnId),
    /// A client may have been silent for too long; looked at again when it was not.
    KeepAlive(SessionId),
    /// What a client has proven holds no longer.
    Credentials(SessionId),
    /// The rules of a client are to be asked for again, or end.
    Lease(SessionId),
    /// A client that was too fast is read again.
    Pace(SessionId),
    /// A will is to be published.
    Will(SessionId),
    /// A session of an absent client ends.
    Expiry(SessionId),
    /// Retained messages expire.
    Retained,
    /// More sessions are looked at: whom they belong to may be let in no more.
    Review,
    /// `$SYS` of this shard is published.
    Sys,
    /// `$SYS` of the broker is published; on the first shard only.
    SysTotals,
}

/// The set.
#[derive(Debug, Default)]
pub struct Timers {
    due: BTreeSet<(Instant, Timer)>,
}

impl Timers {
    /// Sets a timer.
    pub fn set(&mut self, at: Instant, timer: Timer) {
        let fresh = self.due.insert((at, timer));
        debug_assert!(fresh, "a timer is set once");
    }

    /// Removes a timer that was set for `at`.
    pub fn cancel(&mut self, at: Instant, timer: Timer) {
        let removed = self.due.remove(&(at, timer));
        debug_assert!(
            removed,
            "only a timer that is set can be cancelled: {timer:?}"
        );
    }

    /// Takes the earliest timer that is due.
    pub fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        let &(at, timer) = self.due.first()?;
        if at > now {
            return None;
        }
        self.due.pop_first();
        Some(timer)
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Instant> {
        self.due.first().map(|&(at, _)| at)
    }

    /// Timers that are set.
    pub fn len(&self) -> usize {
        self.due.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_in_order_and_cancelled_ones_never() {
        let at = Instant::from_nanos;
        let session = SessionId {
            index: 1,
            generation: 0,
        };
        let mut timers = Timers::default();
        timers.set(at(30), Timer::Retained);
        timers.set(at(10), Timer::Will(session));
        timers.set(at(20), Timer::Expiry(session));
        timers.cancel(at(20), Timer::Expiry(session));
        assert_eq!(timers.next(), Some(at(10)));
        assert_eq!(timers.pop_due(at(9)), None);
        assert_eq!(timers.pop_due(at(40)), Some(Timer::Will(session)));
        assert_eq!(timers.pop_due(at(40)), Some(Timer::Retained));
        assert_eq!(timers.pop_due(at(40)), None);
        assert_eq!(timers.len(), 0);
    }
}
