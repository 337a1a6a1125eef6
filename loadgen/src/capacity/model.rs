//! From a load to the CPU that it takes.
//!
//! ```text
//! cores = idle + c1 publications + c2 deliveries + c3 acknowledgements + c4 KiB
//!         + w arrivals (1 - cores / threads)
//! ```
//!
//! The last term are the wake-ups of [`busy`](super::busy): an arrival costs one if it finds its
//! thread asleep. What is left at full load are the others, so they alone say how much a broker
//! holds. The costs are fitted to relative errors, none below zero; intervals come from refits on
//! runs that are drawn with replacement.
//!
//! What this model does not know: that a broker takes several messages of one connection at once
//! when it is busy, which makes each of them cheaper. So it says too little for few fast clients,
//! not for many slow ones. Runs at full load are therefore not fitted, and the runs that `plan`
//! holds out show how far it can be trusted.

use serde::{Deserialize, Serialize};

use super::busy::busy;
use super::load::Load;
use super::nnls;

/// A load, and what it took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// For people.
    pub name: String,
    /// What was asked for, as it was measured.
    pub load: Load,
    /// CPU of the broker, cores.
    pub cores: f64,
}

/// What things cost a broker.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Costs {
    /// Cores that it uses without any load.
    pub idle: f64,
    /// Seconds of CPU for each message published.
    pub publication: f64,
    /// For each delivery.
    pub delivery: f64,
    /// For each acknowledgement, in either direction.
    pub acknowledgement: f64,
    /// For each KiB of payload, in either direction.
    pub kib: f64,
    /// For each time that it wakes up.
    pub wakeup: f64,
}

/// The costs, and those of the refits.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Threads that share the work.
    pub threads: f64,
    /// From all runs.
    pub costs: Costs,
    refits: Vec<Costs>,
}

/// A number with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// The number.
    pub value: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Model {
    /// Fits the costs. An error says what is missing.
    ///
    /// # Panics
    /// Without threads.
    pub fn fit(runs: &[Measured], threads: u32) -> Result<Model, String> {
        assert!(threads > 0);
        let threads = f64::from(threads);
        // A broker at its limit does not show what a message costs in peace.
        let is_usable = |run: &&Measured| run.cores > 0.0 && run.cores < USABLE_SHARE * threads;
        let runs: Vec<&Measured> = runs.iter().filter(is_usable).collect();
        if runs.len() < RUNS_MIN {
            return Err(format!(
                "{} runs below the limit of the broker are too few for a model: it takes \
                 {RUNS_MIN}",
                runs.len()
            ));
        }
        let mut random = fastrand::Rng::with_seed(SEED);
        let refits = (0..REFITS).map(|_| {
            let drawn = runs.iter().map(|_| runs[random.usize(..runs.len())]);
            costs_of(&drawn.collect::<Vec<_>>(), threads)
        });
        let refits = refits.collect();
        Ok(Model {
            threads,
            costs: costs_of(&runs, threads),
            refits,
        })
    }

    /// Cores that a load takes.
    pub fn cores(&self, load: &Load) -> Interval {
        self.interval(|costs| costs.cores(load, self.threads))
    }

    /// How many times the load there may be at most, with the same connections; infinite for a load
    /// that costs nothing.
    pub fn factor_max(&self, load: &Load) -> Interval {
        self.interval(|costs| costs.factor_max(load, self.threads))
    }

    /// Each cost with its interval, in the order of the fields of [`Costs`].
    pub fn intervals(&self) -> [Interval; 6] {
        let of: [fn(&Costs) -> f64; 6] = [
            |costs| costs.idle,
            |costs| costs.publication,
            |costs| costs.delivery,
            |costs| costs.acknowledgement,
            |costs| costs.kib,
            |costs| costs.wakeup,
        ];
        of.map(|of| self.interval(of))
    }

    fn interval(&self, of: impl Fn(&Costs) -> f64) -> Interval {
        let mut values: Vec<f64> = self.refits.iter().map(&of).collect();
        values.sort_by(f64::total_cmp);
        Interval {
            value: of(&self.costs),
            low: values[REFITS * 25 / 1000],
            high: values[REFITS * 975 / 1000],
        }
    }
}

impl Costs {
    /// What all but the wake-ups takes, cores.
    fn work(&self, load: &Load) -> f64 {
        self.publication * load.publications
            + self.delivery * load.deliveries
            + self.acknowledgement * load.acknowledgements
            + self.kib * load.kib
    }

    /// Each thread has its part of the work and of the wake-ups.
    fn cores(&self, load: &Load, threads: f64) -> f64 {
        let work = self.idle + self.work(load);
        let wakeups = self.wakeup * load.arrivals;
        threads * busy(work / threads, wakeups / threads)
    }

    fn factor_max(&self, load: &Load, threads: f64) -> f64 {
        (threads - self.idle).max(0.0) / self.work(load)
    }
}

fn costs_of(runs: &[&Measured], threads: f64) -> Costs {
    let row = |run: &&Measured| {
        let load = &run.load;
        vec![
            1.0,
            load.publications,
            load.deliveries,
            load.acknowledgements,
            load.kib,
            load.arrivals * (1.0 - run.cores / threads).max(0.0),
        ]
    };
    let rows: Vec<Vec<f64>> = runs.iter().map(row).collect();
    let targets: Vec<f64> = runs.iter().map(|run| run.cores).collect();
    let found = nnls(&rows, &targets);
    Costs {
        idle: found[0],
        publication: found[1],
        delivery: found[2],
        acknowledgement: found[3],
        kib: found[4],
        wakeup: found[5],
    }
}

impl Interval {
    /// Wider by a factor on both sides: what a machine does not repeat, no model predicts.
    pub fn widened(self, share: f64) -> Interval {
        Interval {
            value: self.value,
            low: self.low.min(self.value) / (1.0 + share),
            high: self.high.max(self.value) * (1.0 + share),
        }
    }
}

/// Fewer runs than twice the terms fit anything.
const RUNS_MIN: usize = 12;
/// Busier threads are at their limit: their load was not what was wanted.
const USABLE_SHARE: f64 = 0.9;
/// The ends of a 95 % interval of 400 refits are the tenth from either side.
const REFITS: usize = 400;
const SEED: u64 = 44;

#[cfg(test)]
mod tests {
    use super::*;

    const TRUTH: Costs = Costs {
        idle: 0.002,
        publication: 2e-6,
        delivery: 3e-6,
        acknowledgement: 1e-6,
        kib: 0.4e-6,
        wakeup: 15e-6,
    };

    /// Runs of a broker with these costs, measured with some noise.
    fn runs(noise: f64, seed: u64) -> Vec<Measured> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut runs = Vec::new();
        for rate in [200.0, 2000.0, 20_000.0, 60_000.0] {
            for (fan_out, acknowledged, size) in [
                (1.0, 0.0, 64.0),
                (1.0, 2.0, 64.0),
                (10.0, 0.0, 64.0),
                (1.0, 0.0, 8192.0),
                (3.0, 4.0, 1024.0),
            ] {
                let publications = rate / fan_out;
                let deliveries = rate;
                let load = Load {
                    publications,
                    deliveries,
                    acknowledgements: acknowledged * publications,
                    kib: (publications + deliveries) * size / 1024.0,
                    arrivals: publications * (1.0 + acknowledged / 2.0),
                    connections: 100.0,
                };
                let noise = (noise * (random.f64() * 2.0 - 1.0)).exp();
                runs.push(Measured {
                    name: format!("{rate} {fan_out}"),
                    load,
                    cores: TRUTH.cores(&load, 2.0) * noise,
                });
            }
        }
        runs
    }

    fn fleet() -> Load {
        Load {
            publications: 5000.0,
            deliveries: 15_000.0,
            acknowledgements: 20_000.0,
            kib: 20_000.0 * 0.5,
            arrivals: 20_000.0,
            connections: 1000.0,
        }
    }

    #[test]
    fn costs_are_found_again() {
        let model = Model::fit(&runs(0.0, 1), 2).unwrap();
        let (found, truth) = (model.costs, TRUTH);
        for (found, truth) in [
            (found.idle, truth.idle),
            (found.publication, truth.publication),
            (found.delivery, truth.delivery),
            (found.acknowledgement, truth.acknowledgement),
            (found.kib, truth.kib),
            (found.wakeup, truth.wakeup),
        ] {
            assert!((found / truth - 1.0).abs() < 0.02, "{found} {truth}");
        }
        let predicted = model.cores(&fleet());
        assert!((predicted.value / TRUTH.cores(&fleet(), 2.0) - 1.0).abs() < 0.005);
    }

    #[test]
    fn intervals_cover_what_a_noisy_machine_would_show() {
        let (mut covered, mut errors) = (0, Vec::new());
        for seed in 0..60 {
            let model = Model::fit(&runs(0.1, seed), 2).unwrap();
            let (predicted, truth) = (model.cores(&fleet()), TRUTH.cores(&fleet(), 2.0));
            covered += u32::from(predicted.low <= truth && truth <= predicted.high);
            errors.push((predicted.value / truth - 1.0).abs());
        }
        errors.sort_by(f64::total_cmp);
        println!("covered {covered} of 60, 95 % within {:.3}", errors[56]);
        // A bootstrap of twenty runs is known to be a little narrow.
        assert!(covered >= 50, "{covered}");
        assert!(errors[56] < 0.1, "{}", errors[56]);
    }

    #[test]
    fn busy_is_not_load() {
        let costs = Costs {
            idle: 0.0,
            publication: 0.0,
            delivery: 0.47e-6,
            acknowledgement: 0.0,
            kib: 0.0,
            wakeup: 28e-6,
        };
        let load = Load {
            publications: 20_000.0,
            deliveries: 20_000.0,
            arrivals: 20_000.0,
            ..Load::default()
        };
        assert!((costs.cores(&load, 1.0) - 0.365).abs() < 0.001);
        assert!((costs.factor_max(&load, 1.0) - 106.4).abs() < 0.1);
        let most = load.times(costs.factor_max(&load, 1.0));
        assert!((costs.cores(&most, 1.0) - 1.0).abs() < 1e-9);
        assert_eq!(costs.cores(&most.times(2.0), 1.0), 1.0);
        assert_eq!(costs.factor_max(&Load::default(), 1.0), f64::INFINITY);
    }

    #[test]
    fn too_few_runs_make_no_model() {
        let mut runs = runs(0.0, 1);
        runs.truncate(11);
        assert!(Model::fit(&runs, 2).unwrap_err().contains("it takes 12"));
        // Runs at the limit do not count.
        let mut runs = super::tests::runs(0.0, 1);
        runs.iter_mut().for_each(|run| run.cores = 1.95);
        assert!(
            Model::fit(&runs, 2)
                .unwrap_err()
                .contains("0 runs below the limit")
        );
    }

    #[test]
    fn a_machine_that_does_not_repeat_itself_widens_what_is_said() {
        let interval = Interval {
            value: 1.0,
            low: 0.9,
            high: 1.2,
        };
        let wide = interval.widened(0.15);
        assert!((wide.low - 0.9 / 1.15).abs() < 1e-9 && (wide.high - 1.38).abs() < 1e-9);
        assert_eq!(wide.value, 1.0);
    }
}
