//! When a broker has recovered from a storm: a state machine without a clock.
//!
//! Seconds go in, good or not. The broker has recovered with the first second that begins five good
//! ones in a row.

/// Looks at the seconds after a storm.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// So many good seconds in a row show it.
    wanted: u64,
    /// The first second after the storm.
    from: u64,
    /// Good seconds that begin later than that after it come too late.
    within: u64,
    /// The second that is next.
    next: u64,
    /// Where the good seconds at hand began.
    since: Option<u64>,
    recovered: Option<u64>,
}

impl Recovery {
    /// After a storm that comes right before the second `from`: so many good seconds are wanted,
    /// which begin within so many.
    pub fn new(from: u64, wanted: u64, within: u64) -> Recovery {
        assert!(wanted > 0, "nothing shows nothing");
        Recovery {
            wanted,
            from,
            within,
            next: from,
            since: None,
            recovered: None,
        }
    }

    /// A second is over. Those before the storm do not count, and one that nobody looked at was not
    /// good.
    pub fn see(&mut self, second: u64, is_good: bool) {
        if second < self.next || self.recovered.is_some() {
            return;
        }
        if !is_good || second > self.next {
            self.since = None;
        }
        self.next = second + 1;
        if is_good {
            let since = *self.since.get_or_insert(second);
            if self.next - since >= self.wanted && since - self.from <= self.within {
                self.recovered = Some(since - self.from);
            }
        }
    }

    /// How many seconds after the storm the good ones began; `None` if there were not enough.
    pub fn recovered_s(&self) -> Option<u64> {
        self.recovered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `+` is a good second, `-` is not, `.` was not looked at; three come before the storm.
    fn recovered(seconds: &str) -> Option<u64> {
        let mut recovery = Recovery::new(3, 5, 7);
        for (second, sign) in seconds.chars().enumerate() {
            if sign != '.' {
                recovery.see(second as u64, sign == '+');
            }
        }
        recovery.recovered_s()
    }

    #[test]
    fn five_good_seconds_in_a_row_are_a_recovery() {
        for (seconds, expected) in [
            ("+++", None),
            ("+++-----", None),
            ("+++++++", None),
            ("++++++++", Some(0)),
            ("------+++++", Some(3)),
            ("+++-++++-+++++", Some(6)),
            ("+++-++++-++++", None),
            ("+++-------+++++", Some(7)),
            ("+++--------+++++", None),
            // What comes later does not undo it.
            ("+++--+++++---", Some(2)),
            // A second without a report breaks the row.
            ("+++-++.+++++", Some(4)),
            ("+++-++.+++", None),
        ] {
            assert_eq!(recovered(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn a_second_that_is_reported_twice_counts_once() {
        let mut recovery = Recovery::new(0, 2, 9);
        recovery.see(0, true);
        recovery.see(0, true);
        assert_eq!(recovery.recovered_s(), None);
        recovery.see(1, true);
        assert_eq!(recovery.recovered_s(), Some(0));
    }
}
