//! What all trials of a search say together.
//!
//! The share of good seconds falls with the load as a logistic curve of its logarithm, from what it
//! is without any load:
//!
//! ```text
//! P(good | R) = (1 - epsilon) / (1 + exp((ln R - m) / s))
//! ```
//!
//! The posterior is computed on a grid, with a prior that is flat in m, ln s and epsilon. Where it
//! changes quickly depends on the loads that were tried, so the values of m are dense around each
//! of them and sparse between: an even grid over a search that began a hundred times too high would
//! miss the limit altogether.
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
    if !has_both {
        return None;
    }
    let (spreads, epsilons) = (spreads(), epsilons());
    let axis = limits(&seen);
    let grid = Grid::of(&seen, &axis, &spreads, &epsilons);
    let m = |share| quantile(&axis, &grid.m, share).exp();
    let epsilon = |share| quantile(&epsilons, &grid.epsilon, share);
    Some(Estimate {
        load: m(0.5),
        low: m(0.025),
        high: m(0.975),
        spread: quantile(&spreads, &grid.spread, 0.5).exp(),
        epsilon: Epsilon {
            mean: mean(&epsilons, &grid.epsilon),
            low: epsilon(0.025),
            high: epsilon(0.975),
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
    fn of(seen: &[Tried], axis: &[f64], spreads: &[f64], epsilons: &[f64]) -> Grid {
        let mut grid = Grid {
            m: vec![0.0; axis.len()],
            spread: vec![0.0; spreads.len()],
            epsilon: vec![0.0; epsilons.len()],
        };
        let loads: Vec<f64> = seen.iter().map(|tried| tried.load.ln()).collect();
        let mut curve = vec![0.0; seen.len()];
        for (at_m, m) in axis.iter().enumerate() {
            let (left, right) = cell(axis, at_m);
            for (at_spread, spread) in spreads.iter().enumerate() {
                let spread = spread.exp();
                for (good, load) in curve.iter_mut().zip(&loads) {
                    *good = 1.0 / (1.0 + ((load - m) / spread).exp());
                }
                for (at_epsilon, epsilon) in epsilons.iter().enumerate() {
                    let weight = (right - left) * likelihood(seen, &curve, *epsilon);
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

/// The values of m, ascending: around each load, at distances that double.
fn limits(seen: &[Tried]) -> Vec<f64> {
    let loads = seen.iter().map(|tried| tried.load.ln());
    let around = |load: f64| {
        let steps = (0..STEPS).map(|step| STEP * f64::from(1 << step));
        let both = steps.flat_map(move |step| [load - step, load + step]);
        both.chain([load])
    };
    let (first, last) = (seen[0].load.ln(), seen[seen.len() - 1].load.ln());
    let is_within = |m: &f64| (first - MARGIN..=last + MARGIN).contains(m);
    let mut values: Vec<f64> = loads.flat_map(around).filter(is_within).collect();
    values.sort_by(f64::total_cmp);
    values.dedup_by(|next, before| *next - *before < STEP / 2.0);
    values
}

/// ln s, from 0.2 % (a wall, with trials that are 2 % apart) to 30 % (a slope).
fn spreads() -> Vec<f64> {
    (0..24)
        .map(|at| -6.2 + 5.0 * f64::from(at) / 23.0)
        .collect()
}

/// With more than 40 % of the seconds bad at any load, half of them good is no statement.
fn epsilons() -> Vec<f64> {
    (0..17).map(|at| 0.4 * f64::from(at) / 16.0).collect()
}

/// What a value of an axis stands for: up to the middle between it and its neighbours.
fn cell(axis: &[f64], at: usize) -> (f64, f64) {
    let before = axis[at.saturating_sub(1)];
    let next = axis[(at + 1).min(axis.len() - 1)];
    ((before + axis[at]) / 2.0, (axis[at] + next) / 2.0)
}

fn mean(axis: &[f64], weights: &[f64]) -> f64 {
    let weighted = axis
        .iter()
        .zip(weights)
        .map(|(value, weight)| value * weight);
    weighted.sum::<f64>() / weights.iter().sum::<f64>()
}

/// The value below which this share of the weight lies.
fn quantile(axis: &[f64], weights: &[f64], share: f64) -> f64 {
    let wanted = share * weights.iter().sum::<f64>();
    let mut below = 0.0;
    for (at, weight) in weights.iter().enumerate() {
        if below + weight >= wanted && *weight > 0.0 {
            let (left, right) = cell(axis, at);
            return left + (right - left) * (wanted - below) / weight;
        }
        below += weight;
    }
    axis[axis.len() - 1]
}

/// How far the limit may lie outside of the loads that were tried.
const MARGIN: f64 = 0.2;
/// The smallest distance of values of m from a load: half of the smallest s.
const STEP: f64 = 0.001;
/// Distances from a load: they double up to a factor of 60.
const STEPS: u32 = 13;

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
