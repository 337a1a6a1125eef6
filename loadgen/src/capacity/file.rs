//! What `ringload plan` writes and `ringload predict` reads.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::model::{Costs, Interval, Measured, Model};
use super::room::Limits;
use super::slope::Slope;
use crate::report::Machine;

/// The value of [`PlanFile::format`].
pub const FORMAT: &str = "ringload-plan";
/// Goes up when a field changes its meaning or goes away; new optional fields leave it.
pub const FORMAT_VERSION: u32 = 1;

/// One broker on one machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanFile {
    /// [`FORMAT`].
    pub format: String,
    /// [`FORMAT_VERSION`].
    pub version: u32,
    /// Version of ringload.
    pub ringload: String,
    /// The broker's address.
    pub target: String,
    /// The clients spoke TLS; absent in plans of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<bool>,
    /// Its command line, without secrets.
    pub broker: String,
    /// Where both ran.
    pub machine: Machine,
    /// When it began.
    pub started_unix_ms: u64,
    /// How long it took, seconds.
    pub took_s: f64,
    /// Threads of the broker that share the work.
    pub threads: u32,
    /// Deliveries per second that a closed loop of small messages got through.
    pub closed_loop_per_s: f64,
    /// The runs that the costs come from.
    pub runs: Vec<Measured>,
    /// Runs that were made and not used: the generator or the machine was at fault.
    pub void: u32,
    /// What things cost; for readers: `predict` fits them again.
    pub costs: Costs,
    /// CPU per delivery of each repetition of one and the same run, seconds, in their order.
    pub references: Vec<f64>,
    /// Runs that were not fitted, with what was predicted for them.
    pub held_out: Vec<HeldOut>,
    /// Memory of the broker by connection, bytes; absent if it did not grow, or was not measured.
    pub memory: Option<Slope>,
    /// Memory of the kernel by connection, bytes, for the broker's end.
    pub kernel_memory: Option<Slope>,
    /// CPU for a connection that is made, seconds.
    pub connect: Option<f64>,
    /// What ends, apart from CPU.
    pub limits: Limits,
}

/// A run that was not fitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOut {
    /// For people.
    pub name: String,
    /// CPU that was predicted, cores.
    pub predicted: Interval,
    /// CPU that it took.
    pub measured: f64,
}

impl HeldOut {
    /// By which share the prediction was too high; below 0: too low.
    pub fn error(&self) -> f64 {
        self.predicted.value / self.measured - 1.0
    }
}

impl PlanFile {
    /// Reads a plan; says what is wrong with a file that is none.
    pub fn read(path: &Path) -> io::Result<PlanFile> {
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let bytes = std::fs::read(path)?;
        let value: serde_json::Value = serde_json::from_slice(&bytes)
            .map_err(|error| invalid(format!("is not a plan of ringload: {error}")))?;
        if value["format"] != FORMAT || value["version"] != FORMAT_VERSION {
            return Err(invalid(format!(
                "has format {} {}, this ringload reads \"{FORMAT}\" {FORMAT_VERSION}",
                value["format"], value["version"]
            )));
        }
        let file: PlanFile =
            serde_json::from_value(value).map_err(|error| invalid(error.to_string()))?;
        match file.threads {
            0 => Err(invalid("has a broker without threads".to_owned())),
            _ => Ok(file),
        }
    }

    /// The file, readable for people too.
    pub fn to_json(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("no map with other keys than text");
        text + "\n"
    }

    /// The model that its runs make.
    pub fn model(&self) -> Result<Model, String> {
        Model::fit(&self.runs, self.threads)
    }

    /// How well this machine repeats itself: the largest step from one repetition of the same run
    /// to the next, as a share. No model can be better.
    pub fn repeats_within(&self) -> f64 {
        let steps = self.references.windows(2).map(|pair| {
            let ratio = pair[1] / pair[0];
            ratio.max(1.0 / ratio) - 1.0
        });
        steps.fold(0.0, f64::max)
    }

    /// Why the model is not good enough here, if it is not: the runs that it did not see.
    pub fn doubt(&self) -> Option<String> {
        let worst = self
            .held_out
            .iter()
            .max_by(|a, b| a.error().abs().total_cmp(&b.error().abs()));
        match worst {
            None => Some("no run was held out to test it".to_owned()),
            Some(worst) if worst.error().abs() > ERROR_MAX => Some(format!(
                "`{}` was {:+.0} % off",
                worst.name,
                worst.error() * 100.0
            )),
            Some(_) => None,
        }
    }
}

/// A model that is further off than this with runs that it did not see is not good enough.
const ERROR_MAX: f64 = 0.1;

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A plan of a broker whose deliveries cost 5 us of a core each, with this many threads.
    pub(crate) fn sample(threads: u32, per_message_s: f64) -> PlanFile {
        let run = |index: u32| {
            let rate = 500.0 * 1.5_f64.powi(index as i32);
            let load = crate::capacity::load::Load {
                publications: rate,
                deliveries: rate * f64::from(index % 3 + 1),
                acknowledgements: rate * f64::from(index % 2),
                kib: rate * f64::from(index % 5) * 0.1,
                arrivals: rate,
                connections: 100.0,
            };
            Measured {
                name: format!("run {index}"),
                load,
                cores: per_message_s * (load.publications + load.deliveries),
            }
        };
        let runs: Vec<Measured> = (0..14).map(run).collect();
        let mut file = PlanFile {
            format: FORMAT.to_owned(),
            version: FORMAT_VERSION,
            ringload: "0.1.0".to_owned(),
            target: "127.0.0.1:1883".to_owned(),
            tls: Some(false),
            broker: "broker".to_owned(),
            machine: crate::process::machine(),
            started_unix_ms: 0,
            took_s: 200.0,
            threads,
            closed_loop_per_s: 100_000.0,
            runs,
            void: 1,
            costs: Costs {
                idle: 0.0,
                publication: 0.0,
                delivery: 0.0,
                acknowledgement: 0.0,
                kib: 0.0,
                wakeup: 0.0,
            },
            references: vec![5e-6, 5.2e-6, 5.0e-6],
            held_out: vec![HeldOut {
                name: "mixed".to_owned(),
                predicted: Interval {
                    value: 1.04,
                    low: 1.0,
                    high: 1.1,
                },
                measured: 1.0,
            }],
            memory: Some(Slope {
                slope: 2000.0,
                low: 1900.0,
                high: 2200.0,
                base: 20e6,
            }),
            kernel_memory: None,
            connect: Some(30e-6),
            limits: Limits {
                memory_bytes: 8 << 30,
                files: Some(1_000_000),
                conntrack: None,
            },
        };
        file.costs = file.model().unwrap().costs;
        file
    }

    #[test]
    fn a_plan_reads_back_and_anything_else_is_refused() {
        let path = std::env::temp_dir().join(format!("ringload-plan-{}.json", std::process::id()));
        let file = sample(2, 1e-6);
        std::fs::write(&path, file.to_json()).unwrap();
        // The last digit of a number may change.
        let read = PlanFile::read(&path).unwrap();
        assert_eq!(format!("{read:.9?}"), format!("{file:.9?}"));
        for (text, expected) in [
            ("{", "is not a plan"),
            (
                "{\"format\":\"ringload-result\",\"version\":1}",
                "\"ringload-result\" 1",
            ),
            (
                "{\"format\":\"ringload-plan\",\"version\":9}",
                "reads \"ringload-plan\" 1",
            ),
            (
                "{\"format\":\"ringload-plan\",\"version\":1}",
                "missing field",
            ),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = PlanFile::read(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn trust_comes_from_repeats_and_from_runs_that_were_held_out() {
        let mut file = sample(2, 1e-6);
        assert!((file.repeats_within() - 0.04).abs() < 1e-9);
        assert_eq!(file.doubt(), None);
        file.held_out[0].measured = 1.2;
        assert_eq!(file.doubt().as_deref(), Some("`mixed` was -13 % off"));
        file.held_out.clear();
        assert!(file.doubt().unwrap().contains("no run was held out"));
        file.references.clear();
        assert_eq!(file.repeats_within(), 0.0);
    }
}
