//! How often the clients of a group send: all the same, or each at a rate of its own.

use ringmq_problem::Complaint;

use super::value;
use crate::payload::mix;

/// Messages per second of the clients of a group. Which of them a client has is drawn once, and is
/// the same in a run with the same id.
#[derive(Clone, Debug, PartialEq)]
pub enum Rates {
    /// `10`: of each.
    Same(f64),
    /// `2..20`: any between.
    Between(f64, f64),
    /// `1:90,10:10`: rates and their weights.
    Weighted(Vec<(f64, u64)>),
    /// `lognormal(0.2, 1.1)`: the median, and the standard deviation of the logarithm.
    LogNormal(f64, f64),
    /// `zipf(10, 1.1)`: the first client, and how fast the others fall behind it: the k-th sends a
    /// k^1.1-th of that.
    Zipf(f64, f64),
}

impl Rates {
    /// Reads what a user writes.
    pub fn parse(text: &str) -> Result<Rates, Complaint> {
        if let Some((low, high)) = text.split_once("..") {
            let (low, high) = (value::rate(low.trim())?, value::rate(high.trim())?);
            if low > high {
                let what = format!("is `{text}`, whose first rate is the larger one");
                return Err(Complaint::new(what, "write the smaller one first"));
            }
            return Ok(Rates::Between(low, high));
        }
        if let Some((name, rest)) = text.split_once('(') {
            return Rates::distribution(text, name.trim(), rest);
        }
        if text.contains(':') {
            let mut all = Vec::new();
            for part in text.split(',') {
                let Some((rate, weight)) = part.trim().split_once(':') else {
                    let what = format!("holds `{part}`, which has no weight");
                    return Err(Complaint::new(what, "write RATE:WEIGHT,RATE:WEIGHT"));
                };
                all.push((value::rate(rate)?, value::count(weight, 1, 1_000_000)?));
            }
            return Ok(Rates::Weighted(all));
        }
        Ok(Rates::Same(value::rate(text)?))
    }

    fn distribution(text: &str, name: &str, rest: &str) -> Result<Rates, Complaint> {
        let wrong = || {
            let what = format!("is `{text}`, which is no distribution of rates");
            Complaint::new(
                what,
                "write lognormal(MEDIAN, SIGMA) or zipf(MOST, EXPONENT)",
            )
        };
        let inside = rest.trim_end().strip_suffix(')').ok_or_else(wrong)?;
        let (rate, shape) = inside.split_once(',').ok_or_else(wrong)?;
        let rate = value::rate(rate.trim())?;
        let shape = shape.trim().parse::<f64>().ok();
        let shape = shape.filter(|shape| (0.0..=SHAPE_MAX).contains(shape));
        match (name, shape) {
            ("lognormal", Some(sigma)) => Ok(Rates::LogNormal(rate, sigma)),
            ("zipf", Some(exponent)) => Ok(Rates::Zipf(rate, exponent)),
            _ => Err(wrong()),
        }
    }

    /// As a user would write it.
    pub fn show(&self) -> String {
        let rate = |rate: &f64| value::show_rate(*rate);
        match self {
            Rates::Same(all) => rate(all),
            Rates::Between(low, high) => format!("{}..{}", rate(low), rate(high)),
            Rates::Weighted(all) => {
                let parts = all
                    .iter()
                    .map(|(of, weight)| format!("{}:{weight}", rate(of)));
                parts.collect::<Vec<_>>().join(",")
            }
            Rates::LogNormal(median, sigma) => format!("lognormal({}, {sigma})", rate(median)),
            Rates::Zipf(most, exponent) => format!("zipf({}, {exponent})", rate(most)),
        }
    }

    /// Of the client with this number.
    pub fn of(&self, client: u32, seed: u64) -> f64 {
        let first = mix(seed ^ mix(u64::from(client) + 1));
        let share = |draw: u64| ((draw >> 11) + 1) as f64 / (1u64 << 53) as f64;
        match self {
            Rates::Same(all) => *all,
            Rates::Between(low, high) => low + (high - low) * share(first),
            Rates::Weighted(all) => {
                let sum: u64 = all.iter().map(|(_, weight)| weight).sum();
                let mut left = (share(first) * sum as f64).ceil() as u64;
                for (rate, weight) in all {
                    if left <= *weight {
                        return *rate;
                    }
                    left -= weight;
                }
                all.last().map_or(RATE_MIN, |(rate, _)| *rate)
            }
            Rates::LogNormal(median, sigma) => {
                // Box and Muller.
                let (one, other) = (share(first), share(mix(first)));
                let normal = (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * other).cos();
                (median * (sigma * normal).exp()).clamp(RATE_MIN, RATE_MAX)
            }
            Rates::Zipf(most, exponent) => {
                (most / (f64::from(client) + 1.0).powf(*exponent)).max(RATE_MIN)
            }
        }
    }

    /// All of them, so many times as often.
    #[must_use]
    pub fn times(&self, factor: f64) -> Rates {
        match self {
            Rates::Same(all) => Rates::Same(all * factor),
            Rates::Between(low, high) => Rates::Between(low * factor, high * factor),
            Rates::Weighted(all) => {
                let times = |(rate, weight): &(f64, u64)| (rate * factor, *weight);
                Rates::Weighted(all.iter().map(times).collect())
            }
            Rates::LogNormal(median, sigma) => Rates::LogNormal(median * factor, *sigma),
            Rates::Zipf(most, exponent) => Rates::Zipf(most * factor, *exponent),
        }
    }

    /// Of so many clients together.
    pub fn sum(&self, clients: u32, seed: u64) -> f64 {
        match self {
            Rates::Same(all) => all * f64::from(clients),
            Rates::Between(..) | Rates::Weighted(_) | Rates::LogNormal(..) | Rates::Zipf(..) => {
                (0..clients).map(|client| self.of(client, seed)).sum()
            }
        }
    }
}

/// One message in some years: the time of the next one is still a number.
const RATE_MIN: f64 = 1e-8;
const RATE_MAX: f64 = 1e7;
/// Steeper ones are those of a single client.
const SHAPE_MAX: f64 = 10.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_read_back() {
        for text in [
            "10",
            "0.5",
            "2..20",
            "1:90,10:10",
            "lognormal(0.2, 1.1)",
            "zipf(10, 1.1)",
        ] {
            assert_eq!(Rates::parse(text).unwrap().show(), text);
        }
        for text in [
            "",
            "9..3",
            "1:2,3",
            "normal(1, 2)",
            "zipf(1)",
            "zipf(1, x)",
            "zipf(1, 2",
        ] {
            assert!(Rates::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn clients_have_the_distribution_that_was_asked_for() {
        let all = |text: &str| -> Vec<f64> {
            let rates = Rates::parse(text).unwrap();
            let mut all: Vec<f64> = (0..10_000).map(|client| rates.of(client, 7)).collect();
            let sum = rates.sum(10_000, 7);
            assert!((sum - all.iter().sum::<f64>()).abs() < 1e-6 * sum, "{text}");
            let double = rates.times(2.0).sum(10_000, 7);
            assert!((double - 2.0 * sum).abs() < 1e-6 * sum, "{text}");
            all.sort_by(f64::total_cmp);
            all
        };
        let between = all("2..20");
        assert!(between[0] >= 2.0 && between[9999] <= 20.0);
        assert!((between[5000] - 11.0).abs() < 0.5, "{}", between[5000]);
        let weighted = all("1:90,10:10");
        let many = weighted.iter().filter(|rate| **rate == 10.0).count();
        assert!((900..1100).contains(&many), "{many}");
        let lognormal = all("lognormal(0.2, 1.1)");
        assert!(
            (lognormal[5000] / 0.2 - 1.0).abs() < 0.06,
            "{}",
            lognormal[5000]
        );
        // One standard deviation above.
        let high = lognormal[8413] / (0.2 * 1.1f64.exp());
        assert!((high - 1.0).abs() < 0.1, "{high}");
        let zipf = all("zipf(10, 1)");
        assert_eq!((zipf[9999], zipf[9998]), (10.0, 5.0));
    }
}
