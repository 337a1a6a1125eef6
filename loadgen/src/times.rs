//! Distributions of times: HdrHistogram, in microseconds.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::report::{Buckets, Latency, LatencyPair};

/// A distribution of times. Uses no memory before the first value.
#[derive(Clone, Debug, Default)]
pub struct Times(Option<Histogram<u64>>);

/// Times of deliveries, seen from the schedule and from the socket.
///
/// Most messages leave on time: their two times are one, and are recorded once.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Delays {
    on_time: Times,
    late_corrected: Times,
    late_uncorrected: Times,
}

impl Times {
    /// What another machine measured; `None` if its bounds are not ours.
    pub fn of_histogram(histogram: Histogram<u64>) -> Option<Times> {
        let bounds = (histogram.low(), histogram.high(), histogram.sigfig());
        (bounds == (1, MICROS_MAX, DIGITS)).then_some(Times(Some(histogram)))
    }

    /// Adds a value.
    #[inline]
    pub fn record(&mut self, micros: u64) {
        self.record_many(micros, 1);
    }

    /// Adds a value so many times.
    #[inline]
    fn record_many(&mut self, micros: u64, count: u64) {
        self.histogram().saturating_record_n(micros, count);
    }

    /// Adds all values of another distribution.
    pub fn add(&mut self, other: &Times) {
        if let Some(histogram) = &other.0 {
            self.histogram()
                .add(histogram)
                .expect("all histograms have the same bounds");
        }
    }

    /// How many values.
    pub fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::len)
    }

    /// The value that this share of all values does not exceed.
    pub fn quantile(&self, quantile: f64) -> Option<u64> {
        let histogram = self.0.as_ref().filter(|histogram| !histogram.is_empty())?;
        Some(histogram.value_at_quantile(quantile))
    }

    /// The mean.
    pub fn mean(&self) -> Option<f64> {
        self.as_histogram().map(Histogram::mean)
    }

    /// The histogram, if there is a value.
    pub fn as_histogram(&self) -> Option<&Histogram<u64>> {
        self.0.as_ref().filter(|histogram| !histogram.is_empty())
    }

    /// The same, coarse; `None` without values.
    pub fn buckets(&self) -> Option<Buckets> {
        let mut buckets = Buckets::default();
        for step in self.as_histogram()?.iter_recorded() {
            buckets.add(step.value_iterated_to(), step.count_at_value());
        }
        Some(buckets)
    }

    /// What a report says of it; `None` without values.
    pub fn latency(&self) -> Option<Latency> {
        let histogram = self.as_histogram()?;
        let at = |quantile: f64| histogram.value_at_quantile(quantile);
        let mut curve: Vec<(f64, u64)> = Vec::new();
        for step in histogram.iter_quantiles(CURVE_STEPS) {
            let point = (
                step.quantile_iterated_to() * 100.0,
                step.value_iterated_to().min(histogram.max()),
            );
            if curve.last().is_none_or(|last| last.0 < point.0) {
                curve.push(point);
            }
        }
        Some(Latency {
            count: histogram.len(),
            min_us: histogram.min(),
            mean_us: histogram.mean(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            p9999_us: at(0.9999),
            max_us: histogram.max(),
            curve,
        })
    }

    fn histogram(&mut self) -> &mut Histogram<u64> {
        self.0.get_or_insert_with(|| {
            Histogram::new_with_bounds(1, MICROS_MAX, DIGITS).expect("valid bounds")
        })
    }
}

impl Delays {
    /// Adds `count` deliveries: the time since their socket got them, and how late that was.
    pub fn record(&mut self, uncorrected: u64, lateness: u64, count: u64) {
        if lateness == 0 {
            self.on_time.record_many(uncorrected, count);
        } else {
            self.late_corrected
                .record_many(uncorrected + lateness, count);
            self.late_uncorrected.record_many(uncorrected, count);
        }
    }

    /// Adds all of another.
    pub fn add(&mut self, other: &Delays) {
        self.on_time.add(&other.on_time);
        self.late_corrected.add(&other.late_corrected);
        self.late_uncorrected.add(&other.late_uncorrected);
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.on_time.count() + self.late_corrected.count() == 0
    }

    /// Times since the schedule wanted the message sent.
    pub fn corrected(&self) -> Times {
        let mut times = self.on_time.clone();
        times.add(&self.late_corrected);
        times
    }

    /// Times since the socket got the message.
    pub fn uncorrected(&self) -> Times {
        let mut times = self.on_time.clone();
        times.add(&self.late_uncorrected);
        times
    }

    /// What a report says of it; `None` without values.
    pub fn latency(&self) -> Option<LatencyPair> {
        Some(LatencyPair {
            corrected: self.corrected().latency()?,
            uncorrected: self.uncorrected().latency()?,
        })
    }
}

/// An hour: longer times count as that.
const MICROS_MAX: u64 = 3_600_000_000;
/// Values are exact to a thousandth.
const DIGITS: u8 = 3;
/// Points of a curve per halving of the distance to 100 %: some 60 for a million values.
const CURVE_STEPS: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_messages_count_once_in_each_view() {
        let mut delays = Delays::default();
        for _ in 0..99 {
            delays.record(100, 0, 1);
        }
        delays.record(100, 1_000_000, 1);
        let pair = delays.latency().unwrap();
        assert_eq!((pair.corrected.count, pair.uncorrected.count), (100, 100));
        assert_eq!(pair.uncorrected.max_us, 100);
        assert!(pair.corrected.max_us >= 1_000_000);
        assert_eq!(pair.corrected.p90_us, 100);
        let curve = &pair.corrected.curve;
        assert!(curve.is_sorted() && curve.len() > 3, "{curve:?}");
        assert_eq!(curve.last().map(|point| point.0), Some(100.0));
    }

    #[test]
    fn no_values_have_no_percentiles() {
        assert_eq!(Times::default().latency(), None);
        assert_eq!(Delays::default().latency(), None);
    }
}
