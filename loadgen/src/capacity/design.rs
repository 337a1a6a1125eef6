//! The runs of a plan: what varies, and in which order.
//!
//! Each run is a load of its own, described as `ringload run --group` takes it. Rates, QoS and
//! sizes vary in a Latin square, so that no two of them rise together; fan-out and fan-in have runs
//! of their own, because a square over them too would take hours. The order is random, so that a
//! machine that gets slower does not look like large payloads; one and the same run stands between
//! every four, and shows how well the machine repeats itself.

/// A run of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// For people; without commas.
    pub name: String,
    /// Groups, as `--group` takes them.
    pub groups: Vec<String>,
    /// What it is for.
    pub purpose: Purpose,
}

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The costs come from it.
    Fit,
    /// It shows how well the machine repeats itself; the costs come from it too.
    Reference,
    /// The model is tested with it, and does not see it before.
    HeldOut,
}

/// Connections of the runs that show what each of them takes, ascending: a broker keeps memory, so
/// a smaller number behind a larger one would show nothing.
pub const IDLE: [u32; 4] = [500, 1000, 2000, 4000];

/// Many connections that do nothing.
pub fn idle(connections: u32) -> Run {
    Run {
        name: format!("{connections} connections"),
        groups: vec![format!("name=idle clients={connections} connecting_max=50")],
        purpose: Purpose::Fit,
    }
}

/// A closed loop of small messages: the scale of the rates.
pub fn closed_loop() -> Run {
    let mut run = pairs("closed loop", 0, 64, 0.0);
    run.groups[1] = format!("name=publishers clients={PAIRS} publish={TOPIC} window=4");
    run
}

/// Everything behind the closed loop, in its order; `scale` is how many messages per second that
/// got through.
pub fn runs(scale: f64, is_quick: bool) -> Vec<Run> {
    let mut fit = square(scale, is_quick);
    fit.extend(fans(scale));
    if !is_quick {
        let again = fit.clone();
        fit.extend(again);
    }
    fastrand::Rng::with_seed(SEED).shuffle(&mut fit);
    let mut runs = Vec::new();
    for (index, run) in fit.into_iter().enumerate() {
        if index % BLOCK == 0 {
            runs.push(reference(scale));
        }
        runs.push(run);
    }
    runs.push(reference(scale));
    runs.extend(held_out(scale));
    runs
}

/// Rates, QoS and sizes; two of three rates of each pair, all three without `is_quick`.
fn square(scale: f64, is_quick: bool) -> Vec<Run> {
    let mut runs = Vec::new();
    for (qos, qos_cost) in QOS_COSTS.into_iter().enumerate() {
        for (at, (size, size_cost)) in SIZE_COSTS.into_iter().enumerate() {
            let kept = if is_quick { 2 } else { PARTS.len() };
            for step in 0..kept {
                let part = PARTS[(qos + at + step) % PARTS.len()];
                let rate = scale * part / (qos_cost * size_cost);
                let name = format!("QoS {qos} {size} B {:.0}/s", rate);
                runs.push(pairs(&name, qos as u8, size, rate));
            }
        }
    }
    runs
}

/// One topic for many, and many topics for one.
fn fans(scale: f64) -> Vec<Run> {
    let mut runs = Vec::new();
    for part in [PARTS[1], PARTS[2]] {
        for subscribers in [10, 200] {
            runs.push(fan_out(Purpose::Fit, subscribers, 0, 64, scale * part));
        }
        runs.push(fan_in(scale * part));
    }
    runs.push(fan_out(Purpose::Fit, 10, 1, 1024, scale * PARTS[1] / 3.0));
    runs
}

fn reference(scale: f64) -> Run {
    Run {
        purpose: Purpose::Reference,
        ..pairs("reference", 0, 64, scale * PARTS[1])
    }
}

/// Loads that were not fitted: another size, another fan-out, and a mix beyond the range.
fn held_out(scale: f64) -> [Run; 3] {
    let between = Run {
        purpose: Purpose::HeldOut,
        ..pairs("QoS 1 2 KiB", 1, 2048, scale * 0.2 / 4.0)
    };
    let wide = fan_out(Purpose::HeldOut, 500, 0, 256, scale * 0.2);
    let telemetry = scale * 0.1;
    let mixed = Run {
        name: "mixed".to_owned(),
        groups: vec![
            "name=dashboards clients=3 subscribe=ringload/{run}/telemetry/#".to_owned(),
            "name=answers clients=50 qos=2 subscribe=ringload/{run}/command/{index}".to_owned(),
            format!(
                "name=devices clients=300 qos=1 publish=ringload/{{run}}/telemetry/{{index}} \
                 payload=32:70,256:25,2KiB:5 rate={}",
                telemetry / 4.0 / 300.0
            ),
            format!(
                "name=operators clients=10 qos=2 publish=ringload/{{run}}/command/{{message%50}} \
                 payload=200 rate={}",
                telemetry / 20.0 / 10.0
            ),
        ],
        purpose: Purpose::HeldOut,
    };
    [between, wide, mixed]
}

/// Publishers with a subscriber each.
fn pairs(name: &str, qos: u8, size: u32, rate: f64) -> Run {
    let each = rate / f64::from(PAIRS);
    Run {
        name: name.to_owned(),
        groups: vec![
            format!("name=subscribers clients={PAIRS} qos={qos} subscribe={TOPIC}"),
            format!(
                "name=publishers clients={PAIRS} qos={qos} publish={TOPIC} payload={size} \
                 rate={each}"
            ),
        ],
        purpose: Purpose::Fit,
    }
}

/// One topic that so many get; `rate` counts deliveries.
fn fan_out(purpose: Purpose, subscribers: u32, qos: u8, size: u32, rate: f64) -> Run {
    let each = rate / f64::from(subscribers) / f64::from(FAN_PUBLISHERS);
    Run {
        name: format!("fan-out {subscribers} QoS {qos} {rate:.0}/s"),
        groups: vec![
            format!(
                "name=subscribers clients={subscribers} qos={qos} subscribe=ringload/{{run}}/all"
            ),
            format!(
                "name=publishers clients={FAN_PUBLISHERS} qos={qos} publish=ringload/{{run}}/all \
                 payload={size} rate={each}"
            ),
        ],
        purpose,
    }
}

/// Many topics that one gets.
fn fan_in(rate: f64) -> Run {
    let each = rate / f64::from(PAIRS);
    Run {
        name: format!("fan-in {rate:.0}/s"),
        groups: vec![
            "name=subscribers clients=1 subscribe=ringload/{run}/in/#".to_owned(),
            format!(
                "name=publishers clients={PAIRS} publish=ringload/{{run}}/in/{{index}} rate={each}"
            ),
        ],
        purpose: Purpose::Fit,
    }
}

/// So many that none of them sends two messages in the time of a turn.
const PAIRS: u32 = 200;
const FAN_PUBLISHERS: u32 = 10;
const TOPIC: &str = "ringload/{run}/pairs/{index}";
/// Parts of what the closed loop got through. Less than 2 % is a CPU time that the kernel's clock
/// of 10 ms cannot show in a few seconds; with more than 40 % the machine of both is full.
const PARTS: [f64; 3] = [0.02, 0.1, 0.4];
/// What a message costs beside one of QoS 0, roughly: so that no run is an overload.
const QOS_COSTS: [f64; 3] = [1.0, 2.5, 5.0];
/// Sizes, and the same for them.
const SIZE_COSTS: [(u32, f64); 3] = [(64, 1.0), (1024, 1.3), (8192, 4.0)];
/// Runs between two references.
const BLOCK: usize = 4;
const SEED: u64 = 15;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capacity::load::Load;
    use crate::cli::{Command, RunOptions};
    use crate::plan::Plan;

    fn options(run: &Run) -> RunOptions {
        let groups = run
            .groups
            .iter()
            .flat_map(|group| ["--group".into(), group.into()]);
        let arguments = std::iter::once("run".into()).chain(groups);
        match Command::parse(arguments) {
            Ok(Command::Run(options)) => *options,
            other => panic!("{}: {other:?}", run.name),
        }
    }

    #[test]
    fn every_run_is_a_scenario_with_a_load() {
        for is_quick in [true, false] {
            let runs = runs(100_000.0, is_quick);
            let mut loads = Vec::new();
            for run in &runs {
                let plan = Plan::new(options(run).scenario, "0001", 1, false).unwrap();
                let load = Load::of(&plan).unwrap();
                assert!(
                    load.publications > 0.0 && load.deliveries > 0.0,
                    "{}",
                    run.name
                );
                assert!(load.deliveries <= 40_001.0, "{}: {load:?}", run.name);
                loads.push(load);
            }
            let count = |purpose| runs.iter().filter(|run| run.purpose == purpose).count();
            assert_eq!(count(Purpose::HeldOut), 3);
            assert_eq!(count(Purpose::Fit), if is_quick { 25 } else { 68 });
            assert!(
                count(Purpose::Reference) >= runs.len() / 6,
                "{}",
                runs.len()
            );
            // The lowest and the highest rate differ by more than ten.
            let rates = loads.iter().map(|load| load.deliveries);
            assert!(rates.clone().fold(0.0, f64::max) > 10.0 * rates.fold(f64::MAX, f64::min));
        }
        options(&closed_loop());
        let scenario = options(&idle(500)).scenario;
        assert_eq!(scenario.client_count(), 500);
    }
}
