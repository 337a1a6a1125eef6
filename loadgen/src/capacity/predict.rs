//! `ringload predict`: what a scenario takes on a machine that was planned.

use std::fmt::Write as _;

use super::file::PlanFile;
use super::load::Load;
use super::model::Interval;
use super::room::{self, Ends, Room};
use super::scale::{self, Scaled};
use super::uncovered::uncovered;
use crate::scenario::Scenario;

/// What is asked beside the scenario.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// Cores of the broker.
    pub cores: Option<u32>,
    /// Connections, in place of those of the scenario.
    pub connections: Option<u64>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// What the scenario asks for.
    pub load: Load,
    /// Threads of the broker, in the plan that answers.
    pub threads: u32,
    /// CPU that it takes, cores.
    pub cores: Interval,
    /// How many times the scenario there may be at most, by CPU.
    pub factor_max: Interval,
    /// Room for connections; absent if memory was not measured.
    pub room: Option<Room>,
    /// Memory of one connection, bytes: of the broker, and of the kernel.
    pub memory: Option<(f64, f64)>,
    /// The same as `factor_max` with other cores, and the numbers of threads that were measured;
    /// absent unless asked, or if that cannot be said.
    pub scaled: Option<Scaled>,
    /// The number of cores that was asked for.
    pub cores_asked: Option<u32>,
    /// Numbers of threads that were measured, ascending.
    pub measured: Vec<u32>,
    /// How well the machine repeats itself, as a share.
    pub repeats_within: f64,
    /// Held-out runs: name, and by which share the prediction was too high.
    pub held_out: Vec<(String, f64)>,
    /// Why the model is not good enough here.
    pub doubt: Option<String>,
    /// What the scenario does and the plan has not measured.
    pub uncovered: Vec<String>,
}

/// Predicts from one plan, or from several of the same broker with other numbers of threads: the
/// one with the most threads answers, the others show how it scales.
///
/// # Panics
/// Without a plan.
pub fn predict(
    files: &[PlanFile],
    scenario: &Scenario,
    mut load: Load,
    question: Question,
) -> Result<Prediction, String> {
    if let Some(connections) = question.connections {
        load.connections = connections as f64;
    }
    let file = files
        .iter()
        .max_by_key(|file| file.threads)
        .expect("a plan");
    let model = file.model()?;
    let repeats_within = file.repeats_within();
    let factor_max = model.factor_max(&load).widened(repeats_within);
    let mut measured: Vec<u32> = files.iter().map(|file| file.threads).collect();
    measured.sort_unstable();
    measured.dedup();
    let scaled = match question.cores {
        Some(cores) => scaled(files, &load, cores)?,
        None => None,
    };
    let widened = |scaled: Scaled| {
        // The uncertainty of what was measured comes on top.
        let (low, high) = (
            factor_max.low / factor_max.value,
            factor_max.high / factor_max.value,
        );
        Scaled {
            rate: scaled.rate,
            low: scaled.low * low,
            high: scaled.high * high,
        }
    };
    let kernel = file.kernel_memory.map_or(0.0, |slope| slope.slope);
    let whole = file.memory.map(|mut slope| {
        let of = file.kernel_memory.unwrap_or(slope);
        let (low, high) = match file.kernel_memory {
            Some(_) => (of.low.max(0.0), of.high.max(0.0)),
            None => (0.0, 0.0),
        };
        slope.slope += kernel;
        slope.low += low;
        slope.high += high;
        slope
    });
    Ok(Prediction {
        load,
        threads: file.threads,
        cores: model.cores(&load).widened(repeats_within),
        factor_max,
        room: whole.map(|slope| room::connections_max(&slope, &file.limits)),
        memory: file.memory.map(|slope| (slope.slope, kernel)),
        scaled: scaled.map(widened),
        cores_asked: question.cores,
        measured,
        repeats_within,
        held_out: file
            .held_out
            .iter()
            .map(|run| (run.name.clone(), run.error()))
            .collect(),
        doubt: file.doubt(),
        uncovered: uncovered(scenario, file),
    })
}

/// How many times the load other cores hold.
fn scaled(files: &[PlanFile], load: &Load, cores: u32) -> Result<Option<Scaled>, String> {
    let of = |file: &PlanFile| Ok((file.threads, file.model()?.factor_max(load).value));
    let points: Vec<(u32, f64)> = files.iter().map(of).collect::<Result<_, String>>()?;
    Ok(scale::scale(&points, cores))
}

impl Prediction {
    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let load = &self.load;
        let _ = writeln!(
            text,
            "load         {} messages/s in, {} deliveries/s, {} MiB/s, {} connections",
            short(load.publications),
            short(load.deliveries),
            short(load.kib / 1024.0),
            short(load.connections)
        );
        let _ = writeln!(
            text,
            "CPU          {:.3} cores (95 %: {:.3}-{:.3}); the broker has {}",
            self.cores.value,
            self.cores.low,
            self.cores.high,
            counted(self.threads)
        );
        self.put_most(&mut text);
        self.put_connections(&mut text);
        self.put_cores(&mut text);
        self.put_trust(&mut text);
        text
    }

    fn put_most(&self, text: &mut String) {
        let most = self.factor_max;
        if !most.value.is_finite() {
            let _ = writeln!(
                text,
                "most         not limited by CPU: the scenario publishes nothing"
            );
            return;
        }
        let _ = writeln!(
            text,
            "most         {} times that (95 %: {}-{}): {} messages/s in, {} deliveries/s\n\
             \x20            by CPU alone; what still meets a latency is for `ringload find-max`",
            short(most.value),
            short(most.low),
            short(most.high),
            short(self.load.publications * most.value),
            short(self.load.deliveries * most.value)
        );
    }

    fn put_connections(&self, text: &mut String) {
        let (Some(room), Some((broker, kernel))) = (self.room, self.memory) else {
            text.push_str("connections  not known: the broker's memory did not grow with them\n");
            return;
        };
        let ends = match room.ends {
            Ends::Memory => "memory",
            Ends::Files => "open files",
            Ends::Conntrack => "the table of the firewall",
        };
        let _ = writeln!(
            text,
            "connections  {} fit (95 %: {}-{}), limited by {ends}; {:.1} KiB each: {:.1} \
             broker, {:.1} kernel",
            short(room.connections),
            short(room.low),
            short(room.high),
            (broker + kernel) / 1024.0,
            broker / 1024.0,
            kernel / 1024.0
        );
        if self.load.connections > room.connections {
            let _ = writeln!(
                text,
                "             TOO FEW for the {} of this load",
                short(self.load.connections)
            );
        }
    }

    fn put_cores(&self, text: &mut String) {
        let Some(cores) = self.cores_asked else {
            return;
        };
        let measured: Vec<String> = self.measured.iter().map(u32::to_string).collect();
        let measured = measured.join(", ");
        let label = format!("{cores} cores");
        let Some(scaled) = self.scaled else {
            let _ = writeln!(
                text,
                "{label:12} not known: the plan is for {}; make another one for a broker with more \
                 or fewer, and name both",
                counted(self.threads)
            );
            return;
        };
        let _ = writeln!(
            text,
            "{label:12} {} times that ({}-{}; numbers of threads that were measured: {measured}): \
             {} messages/s in, {} deliveries/s",
            short(scaled.rate),
            short(scaled.low),
            short(scaled.high),
            short(self.load.publications * scaled.rate),
            short(self.load.deliveries * scaled.rate)
        );
    }

    fn put_trust(&self, text: &mut String) {
        let held_out: Vec<String> = self
            .held_out
            .iter()
            .map(|(name, error)| format!("{name} {:+.0} %", error * 100.0))
            .collect();
        let _ = writeln!(
            text,
            "trust        this machine repeats itself within {:.0} %, so does this; held out: {}",
            self.repeats_within * 100.0,
            match held_out.is_empty() {
                true => "none".to_owned(),
                false => held_out.join(", "),
            }
        );
        for what in &self.uncovered {
            let _ = writeln!(
                text,
                "NOT COVERED: {what}: it may cost more; use `ringload find-max` on your scenario"
            );
        }
        if let Some(doubt) = &self.doubt {
            let _ = writeln!(
                text,
                "NOT GOOD ENOUGH HERE: {doubt}; use `ringload find-max` on your scenario"
            );
        }
    }
}

/// `1 thread`, `2 threads`.
pub(super) fn counted(threads: u32) -> String {
    match threads {
        1 => "1 thread".to_owned(),
        threads => format!("{threads} threads"),
    }
}

/// `1.9 M`, `41,200`, `0.42`.
fn short(number: f64) -> String {
    match number {
        number if number >= 999_500.0 => format!("{:.2} M", number / 1e6),
        number if number >= 999.5 => {
            let whole = number.round() as u64;
            format!("{},{:03}", whole / 1000, whole % 1000)
        }
        number if number >= 9.95 => format!("{number:.0}"),
        number if number >= 0.1 => format!("{number:.1}"),
        number => format!("{number:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::tests::sample;
    use super::*;

    fn scenario() -> Scenario {
        let toml = "[[group]]\nname = 'a'\nclients = 1\nsubscribe = 'x/+'\n[[group]]\nname = 'b'\n\
                    clients = 1\npublish = 'x/y'\nrate = 1";
        crate::scenario::file::parse("a", toml).unwrap()
    }

    fn load() -> Load {
        Load {
            publications: 10_000.0,
            deliveries: 30_000.0,
            kib: 1024.0,
            arrivals: 10_000.0,
            connections: 5000.0,
            ..Load::default()
        }
    }

    #[test]
    fn a_prediction_says_what_it_knows_and_how_well() {
        let prediction =
            predict(&[sample(2, 5e-6)], &scenario(), load(), Question::default()).unwrap();
        // 40,000 messages at 5 us are 0.2 of a core, of two: ten times that.
        assert!(
            (prediction.cores.value - 0.2).abs() < 0.005,
            "{prediction:?}"
        );
        assert!(
            (prediction.factor_max.value - 10.0).abs() < 0.3,
            "{prediction:?}"
        );
        let text = prediction.text();
        for part in [
            "10,000 messages/s in, 30,000 deliveries/s",
            "0.200 cores (95 %: ",
            "the broker has 2 threads",
            "10 times that",
            "limited by open files; 2.0 KiB each: 2.0 broker, 0.0 kernel",
            "repeats itself within 4 %, so does this; held out: mixed +4 %",
            "NOT COVERED: `a` with wildcards in filters: ",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(
            !text.contains("cores  ") && !text.contains("NOT GOOD"),
            "{text}"
        );
        assert!(prediction.cores.low <= 0.2 / 1.03 && prediction.cores.high >= 0.2 * 1.03);
    }

    #[test]
    fn more_cores_take_plans_with_two_numbers_of_threads() {
        let question = Question {
            cores: Some(16),
            connections: Some(2_000_000),
        };
        let alone = predict(&[sample(2, 5e-6)], &scenario(), load(), question).unwrap();
        let text = alone.text();
        assert!(
            text.contains("16 cores     not known: the plan is for 2 threads; make another one"),
            "{text}"
        );
        assert!(
            text.contains("TOO FEW for the 2.00 M of this load"),
            "{text}"
        );

        let files = [sample(2, 5e-6 * 1.16), sample(1, 5e-6)];
        let both = predict(&files, &scenario(), load(), question).unwrap();
        assert_eq!((both.threads, both.measured.clone()), (2, vec![1, 2]));
        let scaled = both.scaled.unwrap();
        // Five times the load on one thread; 12.3 times that at the most on 16.
        assert!(scaled.high > 61.0 && scaled.low < 25.0, "{scaled:?}");
        assert!(
            both.text()
                .contains("numbers of threads that were measured: 1, 2)"),
            "{}",
            both.text()
        );
    }

    #[test]
    fn a_model_that_failed_its_test_says_so() {
        let mut file = sample(2, 5e-6);
        file.held_out[0].measured = 2.0;
        let text = predict(&[file], &scenario(), load(), Question::default())
            .unwrap()
            .text();
        assert!(
            text.contains("NOT GOOD ENOUGH HERE: `mixed` was -48 % off"),
            "{text}"
        );

        let mut file = sample(2, 5e-6);
        file.memory = None;
        let idle = Load {
            connections: 10.0,
            ..Load::default()
        };
        let text = predict(&[file], &scenario(), idle, Question::default())
            .unwrap()
            .text();
        assert!(
            text.contains("not limited by CPU") && text.contains("did not grow"),
            "{text}"
        );
    }

    #[test]
    fn numbers_are_short() {
        for (number, expected) in [
            (1_900_000.0, "1.90 M"),
            (41_200.4, "41,200"),
            (1000.0, "1,000"),
            (63.0, "63"),
            (4.84, "4.8"),
            (0.0421, "0.042"),
        ] {
            assert_eq!(short(number), expected);
        }
    }
}
