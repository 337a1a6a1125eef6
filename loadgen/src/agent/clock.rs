//! How far the clock of another machine is from ours.
//!
//! A question and its answer bracket the reading of the other clock: it lies somewhere between both
//! readings of ours, so the middle is wrong by half of the round trip at most. The shortest of some
//! round trips says it best. Clocks drift: it is asked again at the end, and the difference is part
//! of the error.

/// What one round trip told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundTrip {
    /// Our clock when the question left.
    pub asked_ns: u64,
    /// The other clock when it was read.
    pub theirs_ns: u64,
    /// Our clock when the answer was here.
    pub answered_ns: u64,
}

/// The difference of two clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offset {
    /// Theirs minus ours.
    pub ahead_ns: i64,
    /// The difference is known to within this.
    pub error_ns: u64,
}

impl RoundTrip {
    fn span_ns(&self) -> u64 {
        self.answered_ns.saturating_sub(self.asked_ns)
    }
}

impl Offset {
    /// From some round trips, one at least.
    pub fn of(trips: &[RoundTrip]) -> Offset {
        let shortest = trips.iter().min_by_key(|trip| trip.span_ns());
        let trip = shortest.expect("a clock is asked once at least");
        let middle_ns = trip.asked_ns + trip.span_ns() / 2;
        Offset {
            ahead_ns: trip.theirs_ns.wrapping_sub(middle_ns) as i64,
            error_ns: trip.span_ns().div_ceil(2),
        }
    }

    /// The error over a run that began with this offset and ended with another one.
    pub fn error_until(self, end: Offset) -> u64 {
        self.error_ns.max(end.error_ns) + self.ahead_ns.abs_diff(end.ahead_ns)
    }

    /// A time of ours on their clock; what is no time stays as it is.
    pub fn to_theirs(self, ours_ns: u64) -> u64 {
        moved(ours_ns, self.ahead_ns)
    }

    /// A time of theirs on our clock.
    pub fn to_ours(self, theirs_ns: u64) -> u64 {
        moved(theirs_ns, self.ahead_ns.wrapping_neg())
    }
}

/// 0 and the largest number are no times: never yet, and never.
fn moved(at_ns: u64, by_ns: i64) -> u64 {
    match at_ns {
        0 | u64::MAX => at_ns,
        at => at.saturating_add_signed(by_ns).clamp(1, u64::MAX - 1),
    }
}

/// Round trips of a measurement: a busy machine answers some of them late, hardly all.
pub const TRIPS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_is_within_its_error_whatever_the_way_takes() {
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..2000 {
            let ahead = random.i64(-1_000_000_000_000..1_000_000_000_000);
            let mut ours = 5_000_000_000_000_u64;
            let trips: Vec<RoundTrip> = (0..TRIPS)
                .map(|_| {
                    let asked_ns = ours;
                    let there = ours + random.u64(1..300_000);
                    ours = there + random.u64(1..300_000);
                    RoundTrip {
                        asked_ns,
                        theirs_ns: there.wrapping_add_signed(ahead),
                        answered_ns: ours,
                    }
                })
                .collect();
            let offset = Offset::of(&trips);
            let shortest = trips.iter().map(RoundTrip::span_ns).min().unwrap();
            assert!(offset.error_ns <= shortest / 2 + 1);
            assert!(offset.ahead_ns.abs_diff(ahead) <= offset.error_ns + 1);
            let at = 7_000_000_000_000;
            assert_eq!(offset.to_ours(offset.to_theirs(at)), at);
        }
    }

    #[test]
    fn drift_is_part_of_the_error_and_what_is_no_time_is_not_moved() {
        let at = |ahead_ns, error_ns| Offset { ahead_ns, error_ns };
        assert_eq!(at(1000, 30).error_until(at(900, 50)), 150);
        assert_eq!(at(-5, 30).error_until(at(5, 20)), 40);
        let ahead = at(77, 1);
        assert_eq!((ahead.to_theirs(0), ahead.to_ours(u64::MAX)), (0, u64::MAX));
        assert_eq!(at(-100, 1).to_theirs(50), 1);
    }
}
