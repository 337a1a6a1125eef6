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
//! The limit is 1/c, whatever w is. So a broker that is 37 % busy at 20,000 messages per second may
//! be at 1 % of what it can do: who extrapolates CPU linearly buys many times too much.
//!
//! Messages of one source with even gaps would find it asleep each time, and cost `R (c + w)` up to
//! the limit. Many clients with even gaps, each with its own beginning, are as good as random.

/// The share of its core that an event loop uses: `work` is R c and `wakeups` R w, both as shares
/// of a core. Work beyond the limit keeps it busy all the time.
pub(super) fn busy(work: f64, wakeups: f64) -> f64 {
    ((work + wakeups) / (1.0 + wakeups)).min(1.0)
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
            let formula = busy(rate * cost, rate * wakeup);
            let simulated = simulate(rate, cost, wakeup);
            assert!(
                (formula / simulated - 1.0).abs() < 0.01,
                "{formula} {simulated}"
            );
        }
        assert!((busy(20_000.0 * 0.47e-6, 20_000.0 * 28e-6) - 0.365).abs() < 0.001);
        assert_eq!(
            (busy(2.0, 1.0), busy(1.0, 0.0), busy(0.0, 0.0)),
            (1.0, 1.0, 0.0)
        );
    }
}
