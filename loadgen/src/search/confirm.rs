//! Percentiles over many seconds, with an interval that knows that neighbours are alike.
//!
//! The latencies of one second are not independent: a pause delays thousands of messages at once.
//! An interval from order statistics takes them for independent, and is far too narrow. Here whole
//! seconds are drawn with replacement, a thousand times: a bootstrap of the seconds.

use serde::{Deserialize, Serialize};

use crate::times::Times;

/// A percentile of the deliveries of some seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pooled {
    /// Which: 0.99.
    pub quantile: f64,
    /// Of all deliveries of all seconds.
    pub value_us: u64,
    /// The lower end of its 95 % interval.
    pub low_us: u64,
    /// The upper end.
    pub high_us: u64,
    /// Deliveries.
    pub count: u64,
    /// Seconds that have one.
    pub seconds: u32,
}

/// The percentile of all deliveries, with its interval; one histogram for each second. `None`
/// without deliveries.
///
/// The same seconds give the same interval: the draws come from a fixed seed.
pub fn pooled(seconds: &[Times], quantile: f64) -> Option<Pooled> {
    let table = Table::of(seconds);
    let ones = vec![1; table.seconds];
    let value_us = table.quantile(&ones, quantile)?;
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut draws: Vec<u64> = (0..DRAWS)
        .filter_map(|_| {
            let mut weights = vec![0; table.seconds];
            for _ in 0..table.seconds {
                weights[random.usize(..table.seconds)] += 1;
            }
            table.quantile(&weights, quantile)
        })
        .collect();
    draws.sort_unstable();
    Some(Pooled {
        quantile,
        value_us,
        low_us: draws[DRAWS * 25 / 1000],
        high_us: draws[DRAWS * 975 / 1000],
        count: table.count(),
        seconds: table.seconds as u32,
    })
}

/// Deliveries that a percentile needs: ten beyond it, or it is the whim of a few. 1,000 for the
/// 99th, 10,000 for the 99.9th. A trial with fewer cannot judge it, a confirmation may.
pub fn deliveries_min(quantile: f64) -> u64 {
    let beyond = (1.0 - quantile).max(f64::EPSILON);
    // 10 / (1 - 0.999) is 10,000.000000000009.
    (BEYOND_MIN / beyond - ROUNDING).ceil() as u64
}

/// How many deliveries took at most so long, by second: sums for any weights of the seconds.
struct Table {
    seconds: usize,
    /// Values that occur, ascending.
    values: Vec<u64>,
    /// For each value in turn, one count for each second.
    at_most: Vec<u64>,
}

impl Table {
    fn of(seconds: &[Times]) -> Table {
        let histograms: Vec<_> = seconds.iter().filter_map(Times::as_histogram).collect();
        let mut values: Vec<u64> = histograms
            .iter()
            .flat_map(|histogram| {
                histogram
                    .iter_recorded()
                    .map(|step| step.value_iterated_to())
            })
            .collect();
        values.sort_unstable();
        values.dedup();
        let mut at_most = vec![0; values.len() * histograms.len()];
        for (second, histogram) in histograms.iter().enumerate() {
            let (mut sum, mut steps) = (0, histogram.iter_recorded().peekable());
            for (row, value) in values.iter().enumerate() {
                while let Some(step) = steps.next_if(|step| step.value_iterated_to() <= *value) {
                    sum += step.count_since_last_iteration();
                }
                at_most[row * histograms.len() + second] = sum;
            }
        }
        Table {
            seconds: histograms.len(),
            values,
            at_most,
        }
    }

    fn sum(&self, row: usize, weights: &[u64]) -> u64 {
        let counts = &self.at_most[row * self.seconds..][..self.seconds];
        counts
            .iter()
            .zip(weights)
            .map(|(count, weight)| count * weight)
            .sum()
    }

    fn count(&self) -> u64 {
        let ones = vec![1; self.seconds];
        self.values
            .len()
            .checked_sub(1)
            .map_or(0, |last| self.sum(last, &ones))
    }

    /// The smallest value that this share of the weighted deliveries does not exceed.
    fn quantile(&self, weights: &[u64], quantile: f64) -> Option<u64> {
        let last = self.values.len().checked_sub(1)?;
        let wanted = (quantile * self.sum(last, weights) as f64).ceil().max(1.0) as u64;
        let (mut low, mut high) = (0, last);
        while low < high {
            let middle = (low + high) / 2;
            if self.sum(middle, weights) >= wanted {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Some(self.values[low])
    }
}

/// Resamples.
const DRAWS: usize = 1000;
const SEED: u64 = 9971;
const BEYOND_MIN: f64 = 10.0;
const ROUNDING: f64 = 1e-6;

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds of `count` deliveries around `typical` microseconds; some are slow as a whole.
    fn seconds(count: u64, slow: &[usize]) -> Vec<Times> {
        let mut random = fastrand::Rng::with_seed(7);
        let second = |index: usize, random: &mut fastrand::Rng| {
            let mut times = Times::default();
            for _ in 0..count {
                let factor = if slow.contains(&index) { 100 } else { 1 };
                times.record(random.u64(100..200) * factor);
            }
            times
        };
        (0..60).map(|index| second(index, &mut random)).collect()
    }

    #[test]
    fn the_percentile_of_all_seconds_is_that_of_their_sum() {
        let seconds = seconds(1000, &[3, 40]);
        let mut sum = Times::default();
        seconds.iter().for_each(|times| sum.add(times));
        for quantile in [0.5, 0.9, 0.99, 0.999] {
            let pooled = pooled(&seconds, quantile).unwrap();
            let wanted = sum.quantile(quantile).unwrap();
            assert!(
                pooled.value_us.abs_diff(wanted) <= wanted / 500,
                "{pooled:?} {wanted}"
            );
            assert!(pooled.low_us <= pooled.value_us && pooled.value_us <= pooled.high_us);
            assert_eq!((pooled.count, pooled.seconds), (60_000, 60));
        }
    }

    #[test]
    fn one_bad_second_makes_the_interval_wide_and_many_calm_ones_narrow() {
        let calm = pooled(&seconds(1000, &[]), 0.99).unwrap();
        assert!(calm.high_us - calm.low_us <= 2, "{calm:?}");
        // One of sixty seconds has more than 1 % of all deliveries: the 99th percentile is in it,
        // or it is not drawn at all.
        let uneven = pooled(&seconds(1000, &[30]), 0.99).unwrap();
        assert!(uneven.low_us < 200 && uneven.high_us > 10_000, "{uneven:?}");
    }

    #[test]
    fn seconds_without_deliveries_are_no_seconds() {
        assert_eq!(pooled(&[], 0.99), None);
        assert_eq!(pooled(&[Times::default()], 0.99), None);
        let mut one = Times::default();
        one.record(5);
        let pooled = pooled(&[Times::default(), one], 0.99).unwrap();
        assert_eq!((pooled.value_us, pooled.seconds, pooled.count), (5, 1, 1));
    }

    #[test]
    fn a_percentile_needs_ten_deliveries_beyond_it() {
        for (quantile, expected) in [(0.5, 20), (0.99, 1000), (0.999, 10_000)] {
            assert_eq!(deliveries_min(quantile), expected);
        }
    }
}
