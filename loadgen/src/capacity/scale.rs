//! More cores than were measured.
//!
//! Two models, which disagree where it matters:
//! - *crossing*: shards share nothing, and `1 - 1/S` of the messages cross from one to another at
//!   an extra cost `k`: `X(S) = S X(1) / (1 + k (1 - 1/S))`. The cost levels off, so throughput
//!   grows without end.
//! - *contention*: the Universal Scalability Law, `X(S) = l S / (1 + a (S - 1) + b S (S - 1))`. A
//!   part of the work happens one at a time (a), and all agree with all (b, from three values of S
//!   on). Throughput has an end.
//!
//! Both fit what was measured at 1 and 2; at 16 they can differ by a factor of two and more. Which
//! one holds cannot be known from the small ones, so a prediction beyond what was measured is the
//! range of the two, and says from which numbers of cores it comes.

use super::nnls;

/// Throughput at some number of cores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scaled {
    /// The middle of the two models, as factors.
    pub rate: f64,
    /// The lower model.
    pub low: f64,
    /// The upper one.
    pub high: f64,
}

/// The throughput at `cores` from what was measured: `(cores, rate)`. `None` without two different
/// numbers of cores: one point has no direction.
pub fn scale(measured: &[(u32, f64)], cores: u32) -> Option<Scaled> {
    let first = measured.first()?.0;
    if measured.iter().all(|(at, _)| *at == first) {
        return None;
    }
    let models = [crossing(measured, cores), contention(measured, cores)];
    let low = models[0].min(models[1]);
    let high = models[0].max(models[1]);
    Some(Scaled {
        rate: (low * high).sqrt(),
        low,
        high,
    })
}

/// `S / X = (1 + k (1 - 1/S)) / X(1)`: linear in `1 / X(1)` and `k / X(1)`.
fn crossing(measured: &[(u32, f64)], cores: u32) -> f64 {
    let row = |cores: u32| vec![1.0, 1.0 - 1.0 / f64::from(cores)];
    from_rows(measured, cores, row)
}

/// `S / X = (1 + a (S - 1) + b S (S - 1)) / l`: linear in `1/l`, `a/l` and `b/l`.
fn contention(measured: &[(u32, f64)], cores: u32) -> f64 {
    let mut sizes: Vec<u32> = measured.iter().map(|(cores, _)| *cores).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let has_coherence = sizes.len() > 2;
    let row = |cores: u32| {
        let others = f64::from(cores) - 1.0;
        let mut row = vec![1.0, others];
        if has_coherence {
            row.push(others * f64::from(cores));
        }
        row
    };
    from_rows(measured, cores, row)
}

/// Fits the time that one core takes per message, and turns it into a rate of all cores.
fn from_rows(measured: &[(u32, f64)], cores: u32, row: impl Fn(u32) -> Vec<f64>) -> f64 {
    let rows: Vec<Vec<f64>> = measured.iter().map(|(cores, _)| row(*cores)).collect();
    let times: Vec<f64> = measured
        .iter()
        .map(|(cores, rate)| f64::from(*cores) / rate)
        .collect();
    let coefficients = nnls(&rows, &times);
    let time: f64 = row(cores)
        .iter()
        .zip(coefficients)
        .map(|(a, x)| a * x)
        .sum();
    f64::from(cores) / time
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_is_met_and_what_was_not_is_a_range() {
        // Half of the traffic crossing costs 1.16: k is 0.32, and 16 shards do 12.3 times one.
        let measured = [(1, 100.0), (2, 200.0 / 1.16)];
        let at_2 = scale(&measured, 2).unwrap();
        assert!((at_2.low / (200.0 / 1.16) - 1.0).abs() < 1e-6 && at_2.high / at_2.low < 1.000_01);
        let at_16 = scale(&measured, 16).unwrap();
        assert!((at_16.high - 1230.8).abs() < 1.0, "{at_16:?}");
        assert!(
            (at_16.low - 1600.0 / (1.0 + 0.16 * 15.0)).abs() < 1.0,
            "{at_16:?}"
        );
        assert!(at_16.low < at_16.rate && at_16.rate < at_16.high);
    }

    #[test]
    fn a_law_that_was_measured_widely_is_found_again() {
        let law = |cores: u32| {
            let s = f64::from(cores);
            50.0 * s / (1.0 + 0.03 * (s - 1.0) + 0.001 * s * (s - 1.0))
        };
        let measured: Vec<(u32, f64)> = [1, 2, 4, 8].map(|cores| (cores, law(cores))).to_vec();
        assert!((contention(&measured, 32) / law(32) - 1.0).abs() < 0.001);
        let predicted = scale(&measured, 16).unwrap();
        assert!(predicted.low <= law(16) * 1.001 && law(16) <= predicted.high);
    }

    #[test]
    fn one_number_of_cores_has_no_direction() {
        assert_eq!(scale(&[], 4), None);
        assert_eq!(scale(&[(2, 5.0), (2, 6.0)], 4), None);
    }
}
