//! How long the stages of a broker took between two snapshots.

use super::{Snapshot, Stage};

/// A stage between two snapshots.
#[derive(Clone, Debug, PartialEq)]
pub struct StageTime {
    /// `inbox`.
    pub name: String,
    /// How often.
    pub count: u64,
    /// Half of them took at most this long, microseconds.
    pub p50_us: f64,
    /// 99 % of them.
    pub p99_us: f64,
}

/// Every stage that took place often enough.
pub fn stage_times(before: &Snapshot, after: &Snapshot) -> Vec<StageTime> {
    let of = |(name, after): (&String, &Buckets)| {
        let before = before.stages.get(name)?;
        let grown = grown(before, after)?;
        let count = grown.last().map_or(0, |(_, count)| *count);
        (count >= COUNT_MIN).then(|| StageTime {
            name: name.clone(),
            count,
            p50_us: quantile_us(&grown, 0.5),
            p99_us: quantile_us(&grown, 0.99),
        })
    };
    after.stages.iter().filter_map(of).collect()
}

/// What the stages took at a good load, and at a bad one.
pub fn stages_at(good: &[Snapshot; 2], bad: &[Snapshot; 2]) -> Vec<Stage> {
    let good = stage_times(&good[0], &good[1]);
    let bad = stage_times(&bad[0], &bad[1]);
    let of = |bad: StageTime| {
        let good = good.iter().find(|good| good.name == bad.name)?;
        Some(Stage {
            name: bad.name,
            good_us: good.p99_us,
            bad_us: bad.p99_us,
        })
    };
    bad.into_iter().filter_map(of).collect()
}

/// Upper bounds in seconds, with how many were at most that.
type Buckets = Vec<(f64, u64)>;

/// `None`: it was counted anew, or in another way.
fn grown(before: &Buckets, after: &Buckets) -> Option<Buckets> {
    if before.len() != after.len() {
        return None;
    }
    let both = before.iter().zip(after);
    both.map(|((_, before), (bound, after))| Some((*bound, after.checked_sub(*before)?)))
        .collect()
}

/// Within a bucket, times are taken to lie evenly.
fn quantile_us(buckets: &Buckets, share: f64) -> f64 {
    let total = buckets.last().map_or(0, |(_, count)| *count) as f64;
    let wanted = (share * total).max(1.0);
    let (mut low, mut below) = (0.0, 0.0);
    for (bound, upto) in buckets {
        let upto = *upto as f64;
        if upto >= wanted {
            let part = (wanted - below) / (upto - below).max(1.0);
            let high = if bound.is_finite() { *bound } else { low };
            return (low + (high - low) * part) * 1e6;
        }
        (low, below) = (*bound, upto);
    }
    low * 1e6
}

/// Fewer say nothing about a 99th percentile.
const COUNT_MIN: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(counts: &[u64]) -> Snapshot {
        let bounds = [0.001, 0.002, 0.004, f64::INFINITY];
        let buckets = bounds.into_iter().zip(counts.iter().copied()).collect();
        Snapshot {
            stages: [("turn".to_owned(), buckets)].into(),
            ..Snapshot::default()
        }
    }

    #[test]
    fn times_are_those_between_the_snapshots() {
        let (before, after) = (at(&[5, 5, 5, 5]), at(&[55, 105, 105, 105]));
        let times = stage_times(&before, &after);
        let expected = StageTime {
            name: "turn".to_owned(),
            count: 100,
            p50_us: 1000.0,
            p99_us: 1980.0,
        };
        assert_eq!(times, [expected]);
        let worse = at(&[55, 105, 205, 305]);
        let stages = stages_at(&[before.clone(), after.clone()], &[after.clone(), worse]);
        assert_eq!(
            (stages[0].good_us.round(), stages[0].bad_us),
            (1980.0, 4000.0)
        );
        assert_eq!(stage_times(&after, &before), [], "it was restarted");
        assert_eq!(stage_times(&before, &at(&[6, 7, 8, 9])), [], "too few");
    }
}
