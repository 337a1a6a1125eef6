//! Sizes of payloads: from what was counted to what a scenario can say.
//!
//! Sizes are counted in the classes that the broker has too ([`SizeCounts`]). Within a class they are taken
//! to lie evenly, unless one class is all there is and the mean is known. A scenario has at most
//! [`WEIGHTS_MAX`] parts; neighbours with the least together become one, so that the largest error
//! of the distribution is the weight of a part at most.

use std::collections::BTreeMap;

use ringmq_core::sizes::SizeCounts;

use crate::payload::HEADER_SIZE;

/// Shares of payloads by class of size; they need not sum up to anything.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Shares {
    by_class: BTreeMap<usize, f64>,
    /// Bytes and messages, where they are known by themselves.
    mean: Option<f64>,
}

/// A part of a distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Part {
    low: u32,
    high: u32,
    weight: f64,
}

impl Shares {
    /// Some payloads of this class.
    pub(super) fn add_class(&mut self, class: usize, weight: f64) {
        *self.by_class.entry(class).or_default() += weight;
    }

    /// Some payloads of this size.
    pub(super) fn add_size(&mut self, size: usize, weight: f64) {
        self.add_class(SizeCounts::class_of(size), weight);
    }

    /// What their mean is known to be.
    pub(super) fn set_mean(&mut self, mean: f64) {
        self.mean = Some(mean);
    }

    /// Both together, the second with so much weight.
    pub(super) fn merge(&mut self, other: &Shares, weight: f64) {
        let (mine, theirs) = (self.total(), other.total() * weight);
        self.mean = match (self.mean, other.mean) {
            (Some(one), Some(another)) if mine + theirs > 0.0 => {
                Some((one * mine + another * theirs) / (mine + theirs))
            }
            _ => None,
        };
        for (class, share) in &other.by_class {
            self.add_class(*class, share * weight);
        }
    }

    /// The same distribution, with this sum.
    pub(super) fn scaled(&self, sum: f64) -> Shares {
        let factor = sum / self.total().max(f64::MIN_POSITIVE);
        let by_class = self.by_class.iter();
        Shares {
            by_class: by_class
                .map(|(class, share)| (*class, share * factor))
                .collect(),
            mean: self.mean,
        }
    }

    pub(super) fn total(&self) -> f64 {
        self.by_class.values().sum()
    }

    pub(super) fn classes(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        self.by_class.iter().map(|(class, share)| (*class, *share))
    }

    /// Their mean, as far as it is known.
    pub(super) fn mean(&self) -> f64 {
        let sum: f64 = self
            .classes()
            .map(|(class, share)| middle(class) * share)
            .sum();
        self.mean
            .unwrap_or(sum / self.total().max(f64::MIN_POSITIVE))
    }

    /// The largest distance of two distributions (Kolmogorov's).
    #[cfg(test)]
    pub(super) fn distance(&self, other: &Shares) -> f64 {
        let (mine, theirs) = (self.scaled(1.0), other.scaled(1.0));
        let (mut sum, mut most) = (0.0_f64, 0.0_f64);
        for class in 0..SizeCounts::CLASSES {
            let share = |shares: &Shares| shares.by_class.get(&class).copied().unwrap_or(0.0);
            sum += share(&mine) - share(&theirs);
            most = most.max(sum.abs());
        }
        most
    }

    /// Those that no check fits into, and the others: a scenario does not mix them.
    pub(super) fn split(&self) -> (Shares, Shares) {
        let part = |is_small: bool| {
            let classes = self.classes();
            let fitting = classes.filter(|(class, _)| (*class < HEADER_SIZE as usize) == is_small);
            let by_class: BTreeMap<usize, f64> = fitting.collect();
            Shares {
                // All of one kind: then it is theirs.
                mean: self.mean.filter(|_| by_class.len() == self.by_class.len()),
                by_class,
            }
        };
        (part(true), part(false))
    }

    /// As a scenario writes it. All on one side of [`HEADER_SIZE`].
    pub(super) fn text(&self) -> String {
        let total = self.total();
        let classes = self
            .classes()
            .filter(|(_, share)| *share > total * WEIGHT_MIN);
        let parts = classes.map(|(class, share)| {
            let bounds = SizeCounts::bounds(class);
            Part {
                low: *bounds.start(),
                high: (*bounds.end()).min(SIZE_MAX),
                weight: share / total,
            }
        });
        let mut parts: Vec<Part> = parts.filter(|part| part.low <= part.high).collect();
        if let ([only], Some(mean)) = (parts.as_mut_slice(), self.mean) {
            let size = (mean.round() as u32).clamp(only.low, only.high);
            return size.to_string();
        }
        while parts.len() > WEIGHTS_MAX {
            let pairs = parts.windows(2).enumerate();
            let weight = |(_, pair): &(usize, &[Part])| pair[0].weight + pair[1].weight;
            let least = pairs.min_by(|a, b| weight(a).total_cmp(&weight(b)));
            let (at, _) = least.expect("there are more than one");
            parts[at].high = parts[at + 1].high;
            parts[at].weight += parts[at + 1].weight;
            parts.remove(at + 1);
        }
        let part = |part: &Part| {
            let weight = ((part.weight * WEIGHT_SUM).round() as u64).max(1);
            match part.low == part.high {
                true => format!("{}:{weight}", part.low),
                false => format!("{}..{}:{weight}", part.low, part.high),
            }
        };
        match parts.as_slice() {
            [] => HEADER_SIZE.to_string(),
            [only] if only.low == only.high => only.low.to_string(),
            [only] => format!("{}..{}", only.low, only.high),
            all => all.iter().map(part).collect::<Vec<_>>().join(","),
        }
    }
}

/// Shares out what was counted of all payloads to groups of clients, of which only the number and the mean
/// size is known: each gets as much as it sent, has its mean, and together they are what was counted.
///
/// Groups differ by how much larger sizes are preferred: share times exp(tilt * size). That is the least
/// that can be assumed. Rows and columns are fitted in turn.
pub(super) fn share_out(all: &Shares, groups: &[(f64, f64)]) -> Vec<Shares> {
    let classes: Vec<(usize, f64)> = all.scaled(1.0).classes().collect();
    let total: f64 = groups.iter().map(|(count, _)| count).sum();
    if classes.is_empty() || total <= 0.0 {
        return vec![Shares::default(); groups.len()];
    }
    let largest = classes
        .iter()
        .map(|(class, _)| middle(*class))
        .fold(1.0, f64::max);
    let mut columns: Vec<f64> = classes.iter().map(|(_, share)| *share).collect();
    let mut rows = vec![Vec::new(); groups.len()];
    for _ in 0..ROUNDS {
        for (row, (count, mean)) in rows.iter_mut().zip(groups) {
            *row = tilted(&classes, &columns, mean / largest, largest);
            row.iter_mut().for_each(|share| *share *= count / total);
        }
        for (at, column) in columns.iter_mut().enumerate() {
            let sum: f64 = rows.iter().map(|row| row[at]).sum();
            *column *= (classes[at].1 / sum.max(1e-12)).clamp(1e-3, 1e3);
        }
    }
    let shares = |(row, (_, mean)): (&Vec<f64>, &(f64, f64))| {
        let mut shares = Shares::default();
        for ((class, _), share) in classes.iter().zip(row) {
            shares.add_class(*class, *share);
        }
        shares.set_mean(*mean);
        shares
    };
    rows.iter().zip(groups).map(shares).collect()
}

/// The distribution of these weights with this mean, both as shares of the largest size.
fn tilted(classes: &[(usize, f64)], columns: &[f64], mean: f64, largest: f64) -> Vec<f64> {
    let at = |tilt: f64| {
        let sizes = classes.iter().map(|(class, _)| middle(*class) / largest);
        // Beside the exponent of the mean, none is too large for a number.
        let weights = sizes
            .zip(columns)
            .map(|(size, column)| column * (tilt * (size - mean)).clamp(-500.0, 500.0).exp());
        let weights: Vec<f64> = weights.collect();
        let sum: f64 = weights.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        weights
            .into_iter()
            .map(|weight| weight / sum)
            .collect::<Vec<f64>>()
    };
    let mean_of = |shares: &[f64]| -> f64 {
        let both = classes.iter().zip(shares);
        both.map(|((class, _), share)| middle(*class) / largest * share)
            .sum()
    };
    let (mut low, mut high) = (-TILT_MAX, TILT_MAX);
    for _ in 0..HALVINGS {
        let tilt = f64::midpoint(low, high);
        match mean_of(&at(tilt)) < mean {
            true => low = tilt,
            false => high = tilt,
        }
    }
    at(f64::midpoint(low, high))
}

fn middle(class: usize) -> f64 {
    let bounds = SizeCounts::bounds(class);
    f64::midpoint(f64::from(*bounds.start()), f64::from(*bounds.end()))
}

/// Parts of a distribution in a scenario.
const WEIGHTS_MAX: usize = 16;
/// Weights are whole numbers.
const WEIGHT_SUM: f64 = 10_000.0;
/// What is rarer is left out.
const WEIGHT_MIN: f64 = 0.5 / WEIGHT_SUM;
/// The largest payload of a scenario.
const SIZE_MAX: u32 = 64 << 20;
const ROUNDS: usize = 60;
const HALVINGS: usize = 60;
/// With a larger one all are of the largest size, or of the smallest.
const TILT_MAX: f64 = 2000.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::mix;
    use crate::scenario::payload::Sizes;

    /// What a scenario with these sizes sends.
    fn sent(text: &str) -> Shares {
        let sizes = Sizes::parse(text).unwrap();
        let mut shares = Shares::default();
        (0..200_000).for_each(|n| shares.add_size(sizes.pick(mix(n)) as usize, 1.0));
        shares
    }

    #[test]
    fn a_distribution_is_the_same_when_it_is_sent_and_counted_again() {
        for text in [
            "64",
            "32:70,128:25,1KiB:5",
            "64..512",
            "16..100000",
            "20..30:1,1000..9000:3,60000:1",
            "0..15",
        ] {
            let counted = sent(text);
            let again = counted.text();
            assert!(again.split(',').count() <= WEIGHTS_MAX, "{again}");
            let distance = counted.distance(&sent(&again));
            assert!(distance < 0.02, "{text} became {again}: {distance}");
        }
    }

    #[test]
    fn one_size_is_kept_exactly_if_the_mean_is_known() {
        let mut shares = sent("90");
        assert_eq!(shares.text(), "88..95");
        shares.set_mean(90.0);
        assert_eq!(shares.text(), "90");
        let (small, large) = shares.split();
        assert_eq!((small.total(), large.text()), (0.0, "90".to_owned()));
        let (small, large) = sent("3").split();
        assert_eq!((small.text(), large.total()), ("3".to_owned(), 0.0));
    }

    #[test]
    fn what_was_counted_of_all_is_shared_out_by_the_means() {
        let (devices, operators) = (sent("32:70,128:25,1KiB:5"), sent("2000..4000"));
        let mut all = devices.clone();
        all.merge(&operators, 0.1);
        let groups = [(1.0, 105.6), (0.1, 3000.0)];
        let shared = share_out(&all, &groups);
        let mut sum = Shares::default();
        shared.iter().for_each(|shares| sum.merge(shares, 1.0));
        assert!(sum.distance(&all) < 0.01, "{}", sum.distance(&all));
        for (shares, (count, mean)) in shared.iter().zip(groups) {
            assert!((shares.total() / (count / 1.1) - 1.0).abs() < 0.02);
            let classes = Shares {
                mean: None,
                ..shares.clone()
            };
            assert!(
                (classes.mean() / mean - 1.0).abs() < 0.05,
                "{}",
                classes.mean()
            );
        }
        // So far apart they are told apart.
        assert!(
            shared[0].distance(&devices) < 0.02,
            "{}",
            shared[0].distance(&devices)
        );
        assert!(shared[1].distance(&operators) < 0.1);
    }
}
