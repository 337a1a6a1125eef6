//! The loads that were tried, and what they are: bounds, or open.

use super::{Cause, Tried, Verdict};

/// Every load that was tried, ascending.
#[derive(Clone, Debug, Default)]
pub(super) struct Loads {
    tried: Vec<Tried>,
    void: Void,
}

/// Void trials by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Void {
    pub(super) generator: u32,
    pub(super) machine: u32,
}

/// What the trials at a load show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// The load is met.
    Lower,
    /// The load is missed.
    Upper,
    /// More trials may decide either way.
    Open,
}

/// The closest bounds on both sides; `lower < upper`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Bracket {
    pub(super) lower: Option<f64>,
    pub(super) upper: Option<f64>,
}

impl Loads {
    /// Adds a trial; gives back what is known of its load.
    pub(super) fn record(&mut self, load: f64, verdict: Verdict) -> Tried {
        let at = self.tried.partition_point(|tried| tried.load < load);
        if self.tried.get(at).is_none_or(|tried| tried.load > load) {
            let tried = Tried {
                load,
                good: 0,
                bad: 0,
                void: 0,
            };
            self.tried.insert(at, tried);
        }
        let tried = &mut self.tried[at];
        match verdict {
            Verdict::Good => tried.good += 1,
            Verdict::Bad => tried.bad += 1,
            Verdict::Void(cause) => {
                tried.void += 1;
                match cause {
                    Cause::Generator => self.void.generator += 1,
                    Cause::Machine => self.void.machine += 1,
                }
            }
        }
        *tried
    }

    /// What a load is, if `trials` suffice.
    pub(super) fn class(&self, load: f64, trials: u32) -> Class {
        let found = self.tried.iter().find(|tried| tried.load == load);
        found.map_or(Class::Open, |tried| class_of(tried, trials))
    }

    /// The closest bounds. Of contradicting ones the lowest upper bound counts. Loads from `below`
    /// on are not looked at, and are an upper bound.
    pub(super) fn bracket(&self, trials: u32, below: Option<f64>) -> Bracket {
        let mut bracket = Bracket::default();
        for tried in &self.tried {
            if below.is_some_and(|below| tried.load >= below) {
                break;
            }
            match class_of(tried, trials) {
                Class::Lower => bracket.lower = Some(tried.load),
                Class::Upper => {
                    bracket.upper = Some(tried.load);
                    return bracket;
                }
                Class::Open => {}
            }
        }
        bracket.upper = below;
        bracket
    }

    /// All of them.
    pub(super) fn tried(&self) -> &[Tried] {
        &self.tried
    }

    /// How many trials there were.
    pub(super) fn trials(&self) -> u32 {
        let count = |tried: &Tried| tried.good + tried.bad + tried.void;
        self.tried.iter().map(count).sum()
    }

    /// Of those, void.
    pub(super) fn void(&self) -> Void {
        self.void
    }

    /// Void trials and all trials at loads below this one.
    pub(super) fn void_below(&self, load: f64) -> (u32, u32) {
        let below = self.tried.iter().take_while(|tried| tried.load < load);
        below.fold((0, 0), |(void, trials), tried| {
            (
                void + tried.void,
                trials + tried.good + tried.bad + tried.void,
            )
        })
    }

    pub(super) fn highest_good(&self) -> Option<f64> {
        let good = self.tried.iter().rfind(|tried| tried.good > 0);
        good.map(|tried| tried.load)
    }

    pub(super) fn lowest_bad(&self) -> Option<f64> {
        let bad = self.tried.iter().find(|tried| tried.bad > 0);
        bad.map(|tried| tried.load)
    }
}

impl Void {
    /// The cause of most of them.
    pub(super) fn main_cause(self) -> Cause {
        if self.generator >= self.machine {
            Cause::Generator
        } else {
            Cause::Machine
        }
    }
}

/// RFC 9971, Appendix A, for trials of equal length and an exceed ratio of one half.
fn class_of(tried: &Tried, trials: u32) -> Class {
    let (bad, count) = (tried.bad, tried.good + tried.bad);
    let missing = trials.saturating_sub(count);
    if 2 * bad > count + missing {
        Class::Upper
    } else if 2 * (bad + missing) <= count + missing {
        Class::Lower
    } else {
        Class::Open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_a_bound_once_what_is_missing_cannot_change_it() {
        for (good, bad, trials, expected) in [
            (0, 0, 20, Class::Open),
            (9, 0, 20, Class::Open),
            (10, 0, 20, Class::Lower),
            (10, 10, 20, Class::Lower),
            (0, 10, 20, Class::Open),
            (0, 11, 20, Class::Upper),
            (9, 10, 20, Class::Open),
            (9, 11, 20, Class::Upper),
            // With three trials, two of a kind decide.
            (1, 1, 3, Class::Open),
            (2, 1, 3, Class::Lower),
            (1, 2, 3, Class::Upper),
            // More trials than were asked for: the majority.
            (12, 11, 9, Class::Lower),
            (11, 12, 9, Class::Upper),
        ] {
            let tried = Tried {
                load: 1.0,
                good,
                bad,
                void: 3,
            };
            assert_eq!(class_of(&tried, trials), expected, "{good} {bad} {trials}");
        }
    }

    #[test]
    fn of_contradicting_bounds_the_lowest_upper_one_counts() {
        let mut loads = Loads::default();
        for (load, verdict) in [
            (100.0, Verdict::Good),
            (120.0, Verdict::Bad),
            (140.0, Verdict::Good),
            (110.0, Verdict::Good),
        ] {
            loads.record(load, verdict);
        }
        let bracket = |lower, upper| Bracket { lower, upper };
        assert_eq!(loads.bracket(1, None), bracket(Some(110.0), Some(120.0)));
        assert_eq!(
            loads.bracket(1, Some(105.0)),
            bracket(Some(100.0), Some(105.0))
        );
        assert_eq!(loads.bracket(1, Some(50.0)), bracket(None, Some(50.0)));
        assert_eq!(loads.bracket(9, None), bracket(None, None));
    }
}
