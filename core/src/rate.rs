//! Rates: units per second, with a burst of one second's worth. A token bucket without a clock and without
//! tokens: it stores only up to when the units taken are paid for, and `now` is passed in.
//!
//! Not here: what happens to clients that are too fast (`shard/pace.rs`, the shell's accepts).

use std::time::Duration;

use crate::time::Instant;

/// How far somebody is ahead of a rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// What was taken so far is paid for by then.
    paid_at: Instant,
}

/// What may be taken at once after a rest.
const BURST: Duration = Duration::from_secs(1);
/// Who was too fast may go on once this much of the burst is there again: in ten goes a second.
const REST: Duration = Duration::from_millis(900);
/// Nobody waits longer, whatever was taken.
const DEBT_MAX: Duration = Duration::from_secs(60);

impl Pace {
    /// Takes `count` units of `per_second`. They are taken in any case: who was too fast waits
    /// until `Err`.
    pub fn take(&mut self, now: Instant, count: u64, per_second: u32) -> Result<(), Instant> {
        let nanos = u128::from(count) * 1_000_000_000 / u128::from(per_second.max(1));
        let span = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let paid_at = self.paid_at.max(now) + span;
        self.paid_at = paid_at.min(now + BURST + DEBT_MAX);
        if self.paid_at.saturating_since(now) <= BURST {
            Ok(())
        } else {
            Err(self.goes_on_at())
        }
    }

    /// Takes `count` units if they are there, and nothing otherwise.
    pub fn try_take(&mut self, now: Instant, count: u64, per_second: u32) -> bool {
        let mut taken = *self;
        let is_there = taken.take(now, count, per_second).is_ok();
        if is_there {
            *self = taken;
        }
        is_there
    }

    /// When somebody who was too fast may go on.
    pub fn goes_on_at(&self) -> Instant {
        Instant::from_nanos(
            self.paid_at
                .as_nanos()
                .saturating_sub(REST.as_nanos() as u64),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(1_000_000_000_000 + millis * 1_000_000)
    }

    #[test]
    fn a_burst_of_one_second_passes_and_then_the_rate_holds() {
        let mut pace = Pace::default();
        for _ in 0..100 {
            assert_eq!(pace.take(at(0), 1, 100), Ok(()));
        }
        // One more is available after 1,010 ms, and a tenth of a second's worth after 110.
        assert_eq!(pace.take(at(0), 1, 100), Err(at(110)));
        assert_eq!(pace.take(at(110), 10, 100), Ok(()));
        assert_eq!(pace.take(at(110), 1, 100), Err(at(220)));
        // A pause restores the burst, and no more.
        assert_eq!(pace.take(at(100_000), 100, 100), Ok(()));
        assert!(pace.take(at(100_000), 1, 100).is_err());
    }

    #[test]
    fn over_ten_seconds_as_much_passes_as_the_rate_says() {
        for (rate, size) in [(1, 1), (1000, 1), (1000, 64), (1_000_000, 4096)] {
            let (mut pace, mut millis, mut taken) = (Pace::default(), 0, 0);
            while millis < 10_000 {
                taken += size;
                millis += match pace.take(at(millis), size, rate) {
                    Ok(()) => 0,
                    Err(until) => until.saturating_since(at(millis)).as_millis() as u64 + 1,
                };
            }
            let expected = u64::from(rate) * 11;
            let slack = u64::from(rate) / 5 + 2 * size;
            assert!(taken.abs_diff(expected) <= slack, "{taken} of {expected}");
        }
    }

    #[test]
    fn nobody_waits_forever_and_nothing_overflows() {
        let mut pace = Pace::default();
        assert_eq!(pace.take(at(0), u64::MAX, 1), Err(at(60_100)));
        assert_eq!(pace.take(at(0), u64::MAX, u32::MAX), Err(at(60_100)));
        assert_eq!(pace.take(at(61_000), 1, u32::MAX), Ok(()));
    }

    #[test]
    fn a_pace_without_debt_takes_only_what_is_there() {
        let mut pace = Pace::default();
        let passed = (0..1000).filter(|_| pace.try_take(at(0), 1, 10)).count();
        assert_eq!(passed, 10);
        assert!(pace.try_take(at(100), 1, 10));
        assert!(!pace.try_take(at(100), 1, 10));
    }
}
