//! What all trials of a search say together.
//!
//! The share of good seconds falls with the load as a logistic curve of its logarithm, from what it
//! is without any load:
//!
//! ```text
//! P(good | R) = (1 - epsilon) / (1 + exp((ln R - m) / s))
//! ```
//!
//! The posterior is computed on a grid, with a prior that is flat in m, ln s and epsilon. The grid
//! of m is laid over all loads that were tried, and then over the part of it that has the weight, until
//! that is most of it. So a search that began ten times too high costs no precision.
//!
//! The trials of a search are not a sample: each load was chosen by what came before. A posterior
//! does not mind, as the choice depends on nothing but the data it has seen.

use super::{Epsilon, Tried};

/// The limit, as all trials show it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Estimate {
    /// exp(m): the median.
    pub(super) load: f64,
    /// 2.5 % of the posterior lie below.
    pub(super) low: f64,
    /// 2.5 % lie above.
    pub(super) high: f64,
    /// s: the median.
    pub(super) spread: f64,
    pub(super) epsilon: Epsilon,
}

/// `None` unless there are good trials and bad ones: without, one side is not limited by anything.
pub(super) fn estimate(tried: &[Tried]) -> Option<Estimate> {
    let seen: Vec<Tried> = tried
        .iter()
        .copied()
        .filter(|tried| tried.good + tried.bad > 0)
        .collect();
    let has_both =
        seen.iter().any(|tried| tried.good > 0) && seen.iter().any(|tried| tried.bad > 0);
    let (first, last) = (seen.first()?, seen.last()?);
    if !has_both {
        return None;
    }
    let mut axis = Axis::between(first.load.ln() - MARGIN, last.load.ln() + MARGIN, COARSE);
    for _ in 0..ZOOMS_MAX {
        let part = axis.heavy_part(&Grid::of(&seen, axis).m);
        let is_half = 2.0 * part.step < axis.step;
        axis = part;
        if !is_half {
            break;
        }
    }
    let axis = Axis::between(axis.from, axis.at(axis.count - 1), FINE);
    let grid = Grid::of(&seen, axis);
    let m = |share| axis.quantile(&grid.m, share);
    Some(Estimate {
        load: m(0.5).exp(),
        low: m(0.025).exp(),
        high: m(0.975).exp(),
        spread: SPREADS.quantile(&grid.spread, 0.5).exp(),
        epsilon: Epsilon {
            mean: EPSILONS.mean(&grid.epsilon),
            low: EPSILONS.quantile(&grid.epsilon, 0.025),
            high: EPSILONS.quantile(&grid.epsilon, 0.975),
        },
    })
}

/// The weight of each value of each parameter, over all values of the others.
struct Grid {
    m: Vec<f64>,
    spread: Vec<f64>,
    epsilon: Vec<f64>,
}

impl Grid {
    fn of(seen: &[Tried], axis: Axis) -> Grid {
        let mut grid = Grid {
            m: vec![0.0; axis.count],
            spread: vec![0.0; SPREADS.count],
            epsilon: vec![0.0; EPSILONS.count],
        };
        let mut curve = vec![0.0; seen.len()];
        for at_m in 0..axis.count {
            for at_spread in 0..SPREADS.count {
                let spread = SPREADS.at(at_spread).exp();
                for (good, tried) in curve.iter_mut().zip(seen) {
                    *good = 1.0 / (1.0 + ((tried.load.ln() - axis.at(at_m)) / spread).exp());
                }
                for at_epsilon in 0..EPSILONS.count {
                    let weight = likelihood(seen, &curve, EPSILONS.at(at_epsilon));
                    grid.m[at_m] += weight;
                    grid.spread[at_spread] += weight;
                    grid.epsilon[at_epsilon] += weight;
                }
            }
        }
        grid
    }
}

/// Of all trials; `curve` is the share of good seconds without epsilon. A product of a few hundred
/// factors that are a half on average does not vanish where it matters.
fn likelihood(seen: &[Tried], curve: &[f64], epsilon: f64) -> f64 {
    let mut product = 1.0;
    for (tried, good) in seen.iter().zip(curve) {
        let good = good * (1.0 - epsilon);
        product *= good.powi(tried.good as i32) * (1.0 - good).powi(tried.bad as i32);
        if product == 0.0 {
            break;
        }
    }
    product
}

/// Evenly spaced values of a parameter.
#[derive(Clone, Copy)]
struct Axis {
    from: f64,
    step: f64,
    count: usize,
}

impl Axis {
    const fn between(from: f64, to: f64, count: usize) -> Axis {
        Axis {
            from,
            step: (to - from) / (count - 1) as f64,
            count,
        }
    }

    fn at(self, index: usize) -> f64 {
        self.from + self.step * index as f64
    }

    /// The part that has the weight, with one step more on both sides; as many values.
    fn heavy_part(self, weights: &[f64]) -> Axis {
        let peak = weights.iter().copied().fold(0.0, f64::max);
        let is_heavy = |weight: &f64| *weight >= peak * NEGLIGIBLE;
        let first = weights.iter().position(is_heavy).unwrap_or(0);
        let last = weights.iter().rposition(is_heavy).unwrap_or(self.count - 1);
        let last = (last + 1).min(self.count - 1);
        Axis::between(self.at(first.saturating_sub(1)), self.at(last), self.count)
    }

    fn mean(self, weights: &[f64]) -> f64 {
        let sum: f64 = weights.iter().sum();
        let weighted = weights
            .iter()
            .enumerate()
            .map(|(index, weight)| self.at(index) * weight);
        weighted.sum::<f64>() / sum
    }

    /// The value below which this share of the weight lies. Each value stands for the step around
    /// it, within the axis.
    fn quantile(self, weights: &[f64], share: f64) -> f64 {
        let wanted = share * weights.iter().sum::<f64>();
        let mut below = 0.0;
        for (index, weight) in weights.iter().enumerate() {
            if below + weight >= wanted && *weight > 0.0 {
                let part = (wanted - below) / weight - 0.5;
                let last = self.at(self.count - 1);
                return (self.at(index) + part * self.step).clamp(self.from, last);
            }
            below += weight;
        }
        self.at(self.count - 1)
    }
}

/// How far the limit may lie outside of the loads that were tried.
const MARGIN: f64 = 0.2;
/// Values of m on the way to the part that has the weight, and in it.
const COARSE: usize = 60;
const FINE: usize = 200;
/// From a range of a million to one, four suffice.
const ZOOMS_MAX: usize = 6;
/// Points with less of the weight of the best one are outside.
const NEGLIGIBLE: f64 = 1e-4;
/// ln s, from 0.2 % (a wall, with trials that are 2 % apart) to 30 % (a slope).
const SPREADS: Axis = Axis::between(-6.2, -1.2, 24);
/// More than 40 % of the seconds bad at any load: half of them good is no statement then.
const EPSILONS: Axis = Axis::between(0.0, 0.4, 17);

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(rows: &[(f64, u32, u32)]) -> Vec<Tried> {
        let rows = rows.iter().map(|&(load, good, bad)| Tried {
            load,
            good,
            bad,
            void: 2,
        });
        rows.collect()
    }

    #[test]
    fn the_limit_lies_between_good_and_bad_loads() {
        let estimate = estimate(&tried(&[(100.0, 10, 0), (102.0, 10, 0), (104.0, 0, 11)])).unwrap();
        assert!(
            estimate.low > 101.0 && estimate.high < 105.0,
            "{estimate:?}"
        );
        assert!(estimate.low < estimate.load && estimate.load < estimate.high);
        assert!(
            estimate.epsilon.low < 0.02 && estimate.epsilon.mean < 0.08,
            "{estimate:?}"
        );
    }

    #[test]
    fn seconds_that_are_bad_at_any_load_do_not_move_the_limit() {
        let calm = [(50.0, 20, 0), (100.0, 20, 0), (104.0, 0, 20)];
        let disturbed = [(50.0, 17, 3), (100.0, 16, 4), (104.0, 0, 20)];
        let (calm, disturbed) = (estimate(&tried(&calm)), estimate(&tried(&disturbed)));
        let (calm, disturbed) = (calm.unwrap(), disturbed.unwrap());
        assert!(
            (calm.load / disturbed.load - 1.0).abs() < 0.02,
            "{calm:?} {disturbed:?}"
        );
        let epsilon = disturbed.epsilon;
        assert!(
            epsilon.low > 0.05 && epsilon.low < 0.175 && epsilon.high > 0.175,
            "{epsilon:?}"
        );
        assert!((0.1..0.25).contains(&epsilon.mean), "{epsilon:?}");
    }

    #[test]
    fn one_kind_of_trial_limits_nothing() {
        assert_eq!(estimate(&[]), None);
        assert_eq!(estimate(&tried(&[(100.0, 5, 0), (200.0, 5, 0)])), None);
        assert_eq!(estimate(&tried(&[(100.0, 0, 5), (200.0, 0, 0)])), None);
    }

    #[test]
    fn a_grid_over_a_wide_range_is_as_exact() {
        let near = estimate(&tried(&[(100.0, 10, 0), (102.0, 0, 11)])).unwrap();
        let far = [
            (1.0, 2, 0),
            (100.0, 10, 0),
            (102.0, 0, 11),
            (10_000.0, 0, 2),
        ];
        let far = estimate(&tried(&far)).unwrap();
        assert!(
            (near.load / far.load - 1.0).abs() < 0.002,
            "{near:?} {far:?}"
        );
        assert!(far.high / far.low < 1.1, "{far:?}");
    }
}
