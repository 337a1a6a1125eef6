//! Slopes that one bad point does not move.

use serde::{Deserialize, Serialize};

/// How much y grows with x.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slope {
    /// Per unit of x: the median of the slopes of all pairs (Theil and Sen).
    pub slope: f64,
    /// The lower end of its 95 % interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// What y is without any x: the median of `y - slope x`.
    pub base: f64,
}

/// The slope of points `(x, y)`; `None` without two different x. The interval is Sen's, from the
/// variance of Kendall's S: with fewer than 5 points it is the range of all pairs.
pub fn theil_sen(points: &[(f64, f64)]) -> Option<Slope> {
    let mut slopes = Vec::new();
    for (index, a) in points.iter().enumerate() {
        for b in &points[index + 1..] {
            if a.0 != b.0 {
                slopes.push((b.1 - a.1) / (b.0 - a.0));
            }
        }
    }
    slopes.sort_by(f64::total_cmp);
    let slope = median(&slopes)?;
    let count = points.len() as f64;
    let deviation = (count * (count - 1.0) * (2.0 * count + 5.0) / 18.0).sqrt();
    let outside = (slopes.len() as f64 - Z * deviation) / 2.0;
    let skipped = (outside.floor().max(0.0) as usize).min((slopes.len() - 1) / 2);
    let mut bases: Vec<f64> = points.iter().map(|(x, y)| y - slope * x).collect();
    bases.sort_by(f64::total_cmp);
    Some(Slope {
        slope,
        low: slopes[skipped],
        high: slopes[slopes.len() - 1 - skipped],
        base: median(&bases)?,
    })
}

/// Of ascending values.
pub(super) fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let upper = sorted.get(middle)?;
    Some(match sorted.len() % 2 {
        0 => (sorted[middle - 1] + upper) / 2.0,
        _ => *upper,
    })
}

/// 95 % of a normal distribution lie within so many deviations.
const Z: f64 = 1.96;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_point_that_is_off_does_not_move_the_slope() {
        let mut points: Vec<(f64, f64)> = (0..10)
            .map(|x| (f64::from(x), 5.0 + 3.0 * f64::from(x)))
            .collect();
        points[7].1 = 1000.0;
        let slope = theil_sen(&points).unwrap();
        assert_eq!((slope.slope, slope.base), (3.0, 5.0));
        assert!(slope.low <= 3.0 && slope.high >= 3.0);
    }

    #[test]
    fn the_interval_covers_the_slope_of_noisy_points() {
        let mut random = fastrand::Rng::with_seed(6);
        let mut covered = 0;
        for _ in 0..500 {
            let points: Vec<(f64, f64)> = (0..12)
                .map(|x| (f64::from(x), 2.0 * f64::from(x) + random.f64() * 10.0))
                .collect();
            let slope = theil_sen(&points).unwrap();
            covered += u32::from(slope.low <= 2.0 && 2.0 <= slope.high);
        }
        assert!((460..=495).contains(&covered), "{covered} of 500");
    }

    #[test]
    fn points_at_one_place_have_no_slope() {
        assert_eq!(theil_sen(&[]), None);
        assert_eq!(theil_sen(&[(1.0, 2.0), (1.0, 3.0)]), None);
        let two = theil_sen(&[(1.0, 2.0), (3.0, 6.0)]).unwrap();
        assert_eq!(
            (two.slope, two.low, two.high, two.base),
            (2.0, 2.0, 2.0, 0.0)
        );
    }
}
