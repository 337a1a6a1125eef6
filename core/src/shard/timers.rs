//! Deadlines of one shard, ordered by time.
//!
//! Ordered sets, not heaps: a cancelled deadline is removed, so that nothing remains of clients that are gone.
//! There is one set per kind of evidence that could avert a deadline: such a deadline fires only once that
//! evidence would have been heard (`Heard`), so that no client pays for a pause of the broker.

use std::collections::BTreeSet;

use super::mail::event::{Deadlines, Heard};
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

impl Timer {
    /// What has to be heard before it may fire.
    fn evidence(self) -> Evidence {
        match self {
            Timer::Pace(_) | Timer::Retained | Timer::Review | Timer::Sys | Timer::SysTotals => {
                Evidence::None
            }
            Timer::Connect(_) | Timer::KeepAlive(_) | Timer::Credentials(_) | Timer::Lease(_) => {
                Evidence::Here
            }
            Timer::Will(_) | Timer::Expiry(_) => Evidence::Everywhere,
        }
    }
}

/// What could avert a timer that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evidence {
    /// Nothing.
    None,
    /// What a connection of this shard has said.
    Here,
    /// A client that is back, perhaps on its way from another shard.
    Everywhere,
}

impl Evidence {
    const COUNT: usize = 3;
}

/// The set.
///
/// Invariant: a timer stands in `due` at the index of its evidence.
#[derive(Debug, Default)]
pub struct Timers {
    due: [BTreeSet<(Instant, Timer)>; Evidence::COUNT],
}

impl Timers {
    /// Sets a timer.
    pub fn set(&mut self, at: Instant, timer: Timer) {
        let fresh = self.due[timer.evidence() as usize].insert((at, timer));
        debug_assert!(fresh, "a timer is set once");
    }

    /// Removes a timer that was set for `at`.
    pub fn cancel(&mut self, at: Instant, timer: Timer) {
        let removed = self.due[timer.evidence() as usize].remove(&(at, timer));
        debug_assert!(
            removed,
            "only a timer that is set can be cancelled: {timer:?}"
        );
    }

    /// Takes the earliest of the timers that are due and may be judged.
    pub fn pop_due(&mut self, now: Instant, heard: Heard) -> Option<Timer> {
        let judged_upto = [now, heard.here, heard.everywhere];
        let firsts = self.due.iter().zip(judged_upto);
        let &first = firsts
            .filter_map(|(due, upto)| due.first().filter(|(at, _)| *at <= upto))
            .min()?;
        self.due[first.1.evidence() as usize].pop_first();
        Some(first.1)
    }

    /// All that are set.
    pub fn iter(&self) -> impl Iterator<Item = (Instant, Timer)> {
        self.due.iter().flatten().copied()
    }

    /// The earliest deadlines.
    pub fn next(&self) -> Deadlines {
        let first = |evidence: Evidence| self.due[evidence as usize].first().map(|&(at, _)| at);
        Deadlines {
            of_clock: first(Evidence::None),
            of_connections: first(Evidence::Here),
            of_absence: first(Evidence::Everywhere),
        }
    }

    /// Timers that are set.
    pub fn len(&self) -> usize {
        self.due.iter().map(BTreeSet::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: SessionId = SessionId {
        index: 1,
        generation: 0,
    };

    #[test]
    fn timers_fire_in_order_and_cancelled_ones_never() {
        let at = Instant::from_nanos;
        let mut timers = Timers::default();
        timers.set(at(30), Timer::Retained);
        timers.set(at(10), Timer::Will(SESSION));
        timers.set(at(20), Timer::Expiry(SESSION));
        timers.cancel(at(20), Timer::Expiry(SESSION));
        assert_eq!(timers.next().earliest(), Some(at(10)));
        let mut pop = |now| timers.pop_due(now, Heard::all(now));
        assert_eq!(pop(at(9)), None);
        assert_eq!(pop(at(40)), Some(Timer::Will(SESSION)));
        assert_eq!(pop(at(40)), Some(Timer::Retained));
        assert_eq!(pop(at(40)), None);
        assert_eq!(timers.len(), 0);
    }

    #[test]
    fn a_timer_that_a_client_could_avert_fires_once_everything_sent_in_time_was_heard() {
        let at = Instant::from_nanos;
        let mut timers = Timers::default();
        timers.set(at(10), Timer::Will(SESSION));
        timers.set(at(11), Timer::KeepAlive(SESSION));
        timers.set(at(12), Timer::Sys);
        let mut pop = |here, everywhere| {
            let heard = Heard {
                here: at(here),
                everywhere: at(everywhere),
            };
            timers.pop_due(at(40), heard)
        };
        assert_eq!(pop(5, 5), Some(Timer::Sys));
        assert_eq!(pop(10, 9), None);
        assert_eq!(pop(11, 9), Some(Timer::KeepAlive(SESSION)));
        assert_eq!(pop(40, 9), None);
        assert_eq!(pop(40, 10), Some(Timer::Will(SESSION)));
    }
}
