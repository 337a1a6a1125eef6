//! Least squares with coefficients that are not negative: a cost below zero is no cost.

/// The `x >= 0` with the smallest sum of squared *relative* errors of `rows * x` against `targets`.
///
/// Relative, because loads span four orders of magnitude: with absolute errors the largest run
/// would decide alone. The best solution is the plain least squares on the terms that are not 0 in
/// it; with a handful of terms all choices are looked at, so it is exact. Terms that are multiples
/// of others are left out.
///
/// # Panics
/// If a target is not above 0, the rows have different lengths, or more than [`TERMS_MAX`] terms.
pub(super) fn nnls(rows: &[Vec<f64>], targets: &[f64]) -> Vec<f64> {
    assert_eq!(rows.len(), targets.len());
    let terms = rows.first().map_or(0, Vec::len);
    assert!(terms <= TERMS_MAX, "{terms} terms");
    let relative = |row: &Vec<f64>, target: f64| -> Vec<f64> {
        assert!(target > 0.0 && row.len() == terms, "{row:?} for {target}");
        row.iter().map(|value| value / target).collect()
    };
    let pairs = rows.iter().zip(targets);
    let relative: Vec<Vec<f64>> = pairs.map(|(row, target)| relative(row, *target)).collect();
    // Columns of length 1: seconds per message beside cores would lose digits.
    let dot = |a: usize, b: usize| relative.iter().map(|row| row[a] * row[b]).sum::<f64>();
    let lengths: Vec<f64> = (0..terms).map(|term| dot(term, term).sqrt()).collect();
    let is_there = |term: &usize| lengths[*term] > 0.0;
    let sum = |term: usize| relative.iter().map(|row| row[term]).sum::<f64>();
    let mut best = (0.0, vec![0.0; terms]);
    for choice in 1_u32..1 << terms {
        let chosen: Vec<usize> = (0..terms).filter(|term| choice >> term & 1 == 1).collect();
        if !chosen.iter().all(is_there) {
            continue;
        }
        let wanted: Vec<f64> = chosen.iter().map(|a| sum(*a) / lengths[*a]).collect();
        let row = |a: &usize| -> Vec<f64> {
            let cell = |b: &usize| dot(*a, *b) / (lengths[*a] * lengths[*b]);
            chosen.iter().map(cell).collect()
        };
        let Some(found) = solve(chosen.iter().map(row).collect(), wanted.clone()) else {
            continue;
        };
        // At the least squares, the sum of squared errors is smaller by this than without any term.
        let gain: f64 = found
            .iter()
            .zip(&wanted)
            .map(|(x, wanted)| x * wanted)
            .sum();
        if gain > best.0 && found.iter().all(|x| *x >= 0.0) {
            let mut x = vec![0.0; terms];
            for (term, value) in chosen.iter().zip(found) {
                x[*term] = value / lengths[*term];
            }
            best = (gain, x);
        }
    }
    best.1
}

/// Solves a symmetric, positive system by elimination; `None` if rows are multiples of each other.
fn solve(mut rows: Vec<Vec<f64>>, mut right: Vec<f64>) -> Option<Vec<f64>> {
    let size = right.len();
    for at in 0..size {
        let (pivots, pivot_right) = (rows[at].clone(), right[at]);
        if pivots[at] < PIVOT_MIN {
            return None;
        }
        for (row, right) in rows.iter_mut().zip(&mut right).skip(at + 1) {
            let factor = row[at] / pivots[at];
            for (cell, pivot) in row.iter_mut().zip(&pivots).skip(at) {
                *cell -= factor * pivot;
            }
            *right -= factor * pivot_right;
        }
    }
    for at in (0..size).rev() {
        let known: f64 = (at + 1..size)
            .map(|column| rows[at][column] * right[column])
            .sum();
        right[at] = (right[at] - known) / rows[at][at];
    }
    Some(right)
}

/// All choices of them are looked at.
const TERMS_MAX: usize = 8;
/// Of columns of length 1: with less, a term is a multiple of others to six digits.
const PIVOT_MIN: f64 = 1e-12;

#[cfg(test)]
mod tests {
    use super::*;

    fn error(rows: &[Vec<f64>], targets: &[f64], x: &[f64]) -> f64 {
        let predicted = rows
            .iter()
            .map(|row| row.iter().zip(x).map(|(a, x)| a * x).sum::<f64>());
        let relative = predicted
            .zip(targets)
            .map(|(predicted, target)| predicted / target - 1.0);
        relative.map(|error| error * error).sum()
    }

    #[test]
    fn costs_are_found_again() {
        let mut random = fastrand::Rng::with_seed(1);
        let truth = [3.0, 0.0, 0.02, 7.0];
        let rows: Vec<Vec<f64>> = (0..40)
            .map(|_| (0..4).map(|_| 10_f64.powf(random.f64() * 4.0)).collect())
            .collect();
        let cost = |row: &Vec<f64>| row.iter().zip(truth).map(|(a, x)| a * x).sum();
        let targets: Vec<f64> = rows.iter().map(cost).collect();
        for (found, truth) in nnls(&rows, &targets).into_iter().zip(truth) {
            assert!(
                (found - truth).abs() <= 1e-4 * truth.max(0.01),
                "{found} {truth}"
            );
        }
    }

    #[test]
    fn no_feasible_neighbour_is_better() {
        let mut random = fastrand::Rng::with_seed(2);
        for _ in 0..50 {
            let (count, terms) = (random.usize(3..20), random.usize(1..6));
            let rows: Vec<Vec<f64>> = (0..count)
                .map(|_| (0..terms).map(|_| random.f64()).collect())
                .collect();
            let targets: Vec<f64> = (0..count).map(|_| 0.1 + random.f64()).collect();
            let x = nnls(&rows, &targets);
            let best = error(&rows, &targets, &x);
            for term in 0..terms {
                for step in [-1e-3, 1e-3] {
                    let mut other = x.clone();
                    other[term] = (other[term] + step).max(0.0);
                    assert!(
                        error(&rows, &targets, &other) >= best - 1e-9,
                        "{x:?} {term}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_cost_that_would_be_negative_is_none() {
        let rows = [vec![1.0, 1.0], vec![1.0, 2.0], vec![1.0, 3.0]];
        let x = nnls(&rows, &[3.0, 2.0, 1.0]);
        assert_eq!(x[1], 0.0);
        assert!(x[0] > 1.0 && x[0] < 2.0, "{x:?}");
        assert_eq!(nnls(&[], &[]), Vec::<f64>::new());
    }
}
