//! Clocks of earlier boots: when what they say falls due on the present one.
//!
//! Deadlines are recorded on the boot clock, which begins anew when the machine does. How much time
//! passed between two boots only the wall clock knows, and that may be wrong: a machine without a
//! battery begins in 1970, a battery that fails gives any year.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use super::disk::Clocks;
use crate::time::Instant;

/// From the boot clock of an earlier boot of the machine to the present one, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shift(i64);

/// Whether the time between two boots counts for what expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Downtime {
    /// As the wall clock says, unless it contradicts the log.
    Checked,
    /// As the wall clock says.
    Counted,
    /// It does not.
    Ignored,
}

/// The wall clock contradicts the log: one of the two times is wrong. Both in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OddClock {
    /// When the log was last written.
    pub written_ns: u64,
    /// The present time, or that of a later log.
    pub now_ns: u64,
}

impl Downtime {
    /// From the clock of a log of an earlier boot to that of a later one. `last`: the latest pair of
    /// clocks in that log.
    pub fn shift(self, last: Clocks, later: Clocks) -> Result<Shift, OddClock> {
        match (self, OddClock::between(last, later)) {
            (Downtime::Checked, Some(odd)) => Err(odd),
            (Downtime::Checked | Downtime::Counted, _) => Ok(Shift::since(last, later)),
            (Downtime::Ignored, _) => Ok(Shift::after(last, later, 0)),
        }
    }
}

impl OddClock {
    /// What contradicts itself in these two pairs of clocks of different boots.
    pub fn between(last: Clocks, later: Clocks) -> Option<OddClock> {
        let (written_ns, now_ns) = (last.wall_ns, later.wall_ns);
        let ahead = Duration::from_nanos(now_ns.saturating_sub(written_ns));
        let behind = Duration::from_nanos(written_ns.saturating_sub(now_ns));
        let is_odd = ahead > AHEAD_MAX || behind > BEHIND_MAX;
        is_odd.then_some(OddClock { written_ns, now_ns })
    }
}

impl Shift {
    /// The clocks are one.
    pub const NONE: Shift = Shift(0);

    /// From the clock of a log to that of a later boot. What has passed since counts by the wall
    /// clock, but never as less than nothing.
    pub fn since(last: Clocks, later: Clocks) -> Shift {
        let passed_ns = later.wall_ns.saturating_sub(last.wall_ns);
        Shift::after(last, later, passed_ns)
    }

    fn after(last: Clocks, later: Clocks, passed_ns: u64) -> Shift {
        let shift = i128::from(later.boot.as_nanos())
            - i128::from(last.boot.as_nanos())
            - i128::from(passed_ns);
        Shift::clamped(shift)
    }

    fn clamped(shift: i128) -> Shift {
        Shift(shift.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64)
    }

    /// This one, and then `next`.
    pub fn then(self, next: Shift) -> Shift {
        Shift::clamped(i128::from(self.0) + i128::from(next.0))
    }

    /// The same moment on the present clock: its beginning if it was before that. Never stays never.
    pub fn apply(self, at: Instant) -> Instant {
        match at.as_nanos() {
            u64::MAX => at,
            nanos => Instant::from_nanos(nanos.saturating_add_signed(self.0)),
        }
    }
}

impl fmt::Display for OddClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OddClock { written_ns, now_ns } = self;
        write!(f, "{now_ns} does not follow {written_ns}")
    }
}

impl Error for OddClock {}

/// A machine may be switched off for so long. Clocks that are wrong are wrong by years.
const AHEAD_MAX: Duration = Duration::from_secs(365 * DAY_S);
/// Corrections, and clocks that keep local time, stay below it.
const BEHIND_MAX: Duration = Duration::from_secs(DAY_S);
const DAY_S: u64 = 24 * 3600;

#[cfg(test)]
mod tests {
    use super::*;

    fn clocks(boot_s: u64, wall_s: u64) -> Clocks {
        Clocks {
            boot: Instant::from_nanos(boot_s * 1_000_000_000),
            wall_ns: wall_s * 1_000_000_000,
        }
    }

    #[test]
    fn a_wall_clock_that_contradicts_the_log_is_told() {
        const NOW: u64 = 1_800_000_000;
        for (last, now, is_odd) in [
            (NOW, NOW, false),
            (NOW, NOW + 31 * DAY_S, false),
            (NOW, NOW + 364 * DAY_S, false),
            (NOW, NOW + 366 * DAY_S, true),
            (60, NOW, true),
            (NOW, NOW - 3600, false),
            (NOW, NOW - 2 * DAY_S, true),
            (NOW, 60, true),
            (60, 30, false),
        ] {
            let (last, now) = (clocks(1000, last), clocks(10, now));
            let checked = Downtime::Checked.shift(last, now);
            assert_eq!(checked.is_err(), is_odd, "{last:?} {now:?}");
            let counted = Downtime::Counted.shift(last, now).unwrap();
            let passed_s =
                (now.wall_ns / 1_000_000_000).saturating_sub(last.wall_ns / 1_000_000_000);
            let at = Instant::from_nanos((1000 + passed_s) * 1_000_000_000);
            assert_eq!(counted.apply(at), now.boot);
            assert_eq!(checked.ok(), (!is_odd).then_some(counted));
            let ignored = Downtime::Ignored.shift(last, now).unwrap();
            assert_eq!(ignored.apply(last.boot), now.boot);
        }
    }

    #[test]
    fn shifts_add_up_over_boots() {
        let [first, second, third] = [clocks(1000, 5_000), clocks(70, 6_000), clocks(3, 6_500)];
        let both = Shift::since(first, second).then(Shift::since(second, third));
        assert_eq!(both, Shift::since(first, third));
    }
}
