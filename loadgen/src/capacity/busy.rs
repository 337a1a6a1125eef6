//! Busy is not load: an event loop that pays for waking up.
//!
//! A broker that works in turns pays a wake-up `w` whenever work comes and it sleeps, and `c` for
//! each message. With `R` messages per second at random times (M/G/1 with setup), it is asleep for
//! `1 - busy` of the time, so it wakes up `R (1 - busy)` times per second:
//!
//! ```text
//! busy = R c + R (1 - busy) w,   so   busy = R (c + w) / (1 + R w)
//! ```
//!
//! The limit is 1/c, whatever w is. So a broker that is 37 % busy at 20,000 messages per second may be
//! at 1 % of what it can do: who extrapolates CPU linearly buys many times too much.

/// The share of its core that an event loop uses. `rate` per second, `cost_s` for each message,
/// `wakeup_s` for each time it wakes up.
///
/// Rates beyond the limit keep it busy all the time.
pub fn busy(rate: f64, cost_s: f64, wakeup_s: f64) -> f64 {
    (rate * (cost_s + wakeup_s) / (1.0 + rate * wakeup_s)).min(1.0)
}

/// The same where messages come evenly spaced, from one source: each of them finds it asleep, until
/// there is no time to sleep.
pub fn busy_even(rate: f64, cost_s: f64, wakeup_s: f64) -> f64 {
    (rate * (cost_s + wakeup_s)).min(1.0)
}

/// `(cost_s, wakeup_s)` of an event loop from rates and how busy it was, for random arrivals: linear
/// in both, as the formula of the module shows. It takes a low rate and a high one.
pub fn fit(measured: &[(f64, f64)]) -> (f64, f64) {
    let rows: Vec<Vec<f64>> = measured
        .iter()
        .map(|(rate, busy)| vec![*rate, rate * (1.0 - busy)])
        .collect();
    let targets: Vec<f64> = measured.iter().map(|(_, busy)| *busy).collect();
    match super::nnls(&rows, &targets)[..] {
        [cost_s, wakeup_s] => (cost_s, wakeup_s),
        _ => (0.0, 0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs an event loop from one random arrival to the next.
    fn simulate(rate: f64, cost_s: f64, wakeup_s: f64) -> f64 {
        let mut random = fastrand::Rng::with_seed(4);
        let (mut now, mut free_at, mut worked) = (0.0_f64, 0.0_f64, 0.0);
        for _ in 0..200_000 {
            now += -(1.0 - random.f64()).ln() / rate;
            let is_asleep = now > free_at;
            let work = cost_s + if is_asleep { wakeup_s } else { 0.0 };
            free_at = free_at.max(now) + work;
            worked += work;
        }
        worked / now.max(free_at)
    }

    #[test]
    fn the_formula_is_what_a_simulated_loop_does() {
        for (rate, cost, wakeup) in [
            (20_000.0, 0.47e-6, 28e-6),
            (100_000.0, 0.47e-6, 28e-6),
            (50_000.0, 10e-6, 5e-6),
            (1000.0, 100e-6, 0.0),
        ] {
            let (formula, simulated) = (busy(rate, cost, wakeup), simulate(rate, cost, wakeup));
            assert!(
                (formula / simulated - 1.0).abs() < 0.01,
                "{formula} {simulated}"
            );
        }
        assert!((busy(20_000.0, 0.47e-6, 28e-6) - 0.365).abs() < 0.001);
        assert_eq!(
            (busy(1e9, 1e-6, 1e-6), busy_even(1e9, 1e-6, 1e-6)),
            (1.0, 1.0)
        );
        assert!(busy_even(20_000.0, 0.47e-6, 28e-6) > 0.56);
    }

    #[test]
    fn cost_and_wakeup_are_found_again() {
        let (cost, wakeup) = (0.5e-6, 20e-6);
        let rates = [1e3, 1e4, 1e5, 1e6];
        let measured = rates.map(|rate| (rate, busy(rate, cost, wakeup)));
        let (found_cost, found_wakeup) = fit(&measured);
        assert!((found_cost / cost - 1.0).abs() < 1e-3, "{found_cost}");
        assert!((found_wakeup / wakeup - 1.0).abs() < 1e-3, "{found_wakeup}");
        assert_eq!(fit(&[]), (0.0, 0.0));
    }
}
