//! A circuit breaker: a failing service is not called for a while, so that nobody waits for it.
//!
//! Invariant: while it is open, one attempt per pause is let through, and nothing else.
//!
//! Not here: what counts as a failure (`mod.rs`).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ringmq_core::time::Instant;

/// Shared by the threads that ask.
#[derive(Debug)]
pub(super) struct Breaker {
    failures_max: u32,
    pause: Duration,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Everybody goes through; so many failed since the last that did not.
    Closed { failures: u32 },
    /// Nobody goes through until then.
    Open { until: Instant },
    /// One goes through, to see.
    Probing,
}

/// What a failure or a success has brought about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing that was not known.
    None,
    /// The first failure since all was well.
    First,
    /// From here on nobody goes through.
    Opened,
    /// All is well again.
    Closed,
}

impl Breaker {
    /// Opens after so many failures in a row.
    pub(super) fn new(failures_max: u32, pause: Duration) -> Breaker {
        Breaker {
            failures_max: failures_max.max(1),
            pause,
            state: Mutex::new(State::Closed { failures: 0 }),
        }
    }

    /// Whether a request may be made; who makes one has to report its outcome.
    pub(super) fn admits(&self, now: Instant) -> bool {
        self.change(|state| match *state {
            State::Closed { .. } => true,
            State::Open { until } if now >= until => {
                *state = State::Probing;
                true
            }
            State::Open { .. } | State::Probing => false,
        })
    }

    pub(super) fn succeeded(&self) -> Turn {
        self.change(|state| {
            let before = std::mem::replace(state, State::Closed { failures: 0 });
            match before {
                State::Closed { failures: 0 } => Turn::None,
                State::Closed { .. } | State::Open { .. } | State::Probing => Turn::Closed,
            }
        })
    }

    pub(super) fn failed(&self, now: Instant) -> Turn {
        let until = now + self.pause;
        self.change(|state| match state {
            State::Closed { failures } => {
                *failures += 1;
                let count = *failures;
                match count {
                    _ if count >= self.failures_max => {
                        *state = State::Open { until };
                        Turn::Opened
                    }
                    1 => Turn::First,
                    _ => Turn::None,
                }
            }
            State::Probing => {
                *state = State::Open { until };
                Turn::None
            }
            // It was let through before.
            State::Open { .. } => Turn::None,
        })
    }

    /// The client's time ran out before the service answered, which says nothing about the service.
    /// If this was the trial request, the next one takes its place.
    pub(super) fn abandoned(&self, now: Instant) {
        self.change(|state| match state {
            State::Probing => *state = State::Open { until: now },
            State::Closed { .. } | State::Open { .. } => {}
        });
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn it_opens_after_consecutive_failures_and_admits_one_attempt_per_pause() {
        let breaker = Breaker::new(3, Duration::from_secs(10));
        assert!(breaker.admits(at(0)));
        assert_eq!(breaker.failed(at(0)), Turn::First);
        assert_eq!(breaker.failed(at(0)), Turn::None);
        assert_eq!(breaker.succeeded(), Turn::Closed);
        assert_eq!(breaker.failed(at(1)), Turn::First);
        assert_eq!(breaker.failed(at(1)), Turn::None);
        assert!(
            breaker.admits(at(1)),
            "three in a row are too many, two are not"
        );
        assert_eq!(breaker.failed(at(1)), Turn::Opened);
        assert_eq!(
            breaker.failed(at(5)),
            Turn::None,
            "this one does not make the pause longer"
        );
        assert!(!breaker.admits(at(10)));
        assert!(breaker.admits(at(11)));
        assert!(!breaker.admits(at(11)), "one at a time");
        assert_eq!(breaker.failed(at(12)), Turn::None);
        assert!(!breaker.admits(at(21)));
        assert!(breaker.admits(at(22)));
        assert_eq!(breaker.succeeded(), Turn::Closed);
        assert!(breaker.admits(at(22)) && breaker.admits(at(22)));
        assert_eq!(breaker.succeeded(), Turn::None);
    }

    #[test]
    fn a_client_out_of_time_says_nothing_about_the_service() {
        let breaker = Breaker::new(2, Duration::from_secs(10));
        assert_eq!(breaker.failed(at(0)), Turn::First);
        for _ in 0..10 {
            assert!(breaker.admits(at(0)));
            breaker.abandoned(at(0));
        }
        assert!(breaker.admits(at(0)), "it is not open");
        assert_eq!(breaker.failed(at(0)), Turn::Opened, "nor was it forgiven");
        breaker.abandoned(at(1));
        assert!(!breaker.admits(at(9)));
        assert!(breaker.admits(at(10)));
        breaker.abandoned(at(11));
        assert!(breaker.admits(at(11)), "the next one tries");
        assert!(!breaker.admits(at(11)), "one at a time");
    }
}
