//! The command lines of `plan` and `predict`. Both take some options of `run`, which are understood
//! there.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command as Clap, ValueHint, value_parser};
use ringmq_problem::Problem;

use super::given::check_file;
use super::help::with_some;
use super::{Command, problem};
use crate::capacity::measure::Request;
use crate::capacity::predict::Question;
use crate::scenario::Scenario;

/// What `ringload predict` is asked for.
#[derive(Debug)]
pub struct PredictRequest {
    /// Plans of one broker.
    pub plans: Vec<PathBuf>,
    /// What it is to do.
    pub scenario: Scenario,
    /// Cores and connections.
    pub question: Question,
}

pub(super) fn with_plan(command: Clap) -> Clap {
    let command = command.long_about(
        "Measures what messages and connections cost a broker on this machine: some forty short \
         runs with --quick. The broker should be fresh, and nothing else should run. `ringload \
         predict` answers from the result.",
    );
    with_some(command, &PASSED_TO_PLAN)
        .arg(
            Arg::new("quick")
                .long("quick")
                .action(ArgAction::SetTrue)
                .help("Fewer runs: 4 minutes in place of 10"),
        )
        .arg(
            Arg::new("out")
                .short('o')
                .long("out")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .value_hint(ValueHint::FilePath)
                .help("Write the plan to this file [default: plan.json]"),
        )
        .next_line_help(true)
}

pub(super) fn with_predict(command: Clap) -> Clap {
    let command = command
        .long_about(
            "Says what a scenario takes on a machine that was planned: CPU, how much more there \
             may be, and how many connections fit. With plans for two numbers of threads it also \
             says what more cores do.",
        )
        .arg(
            Arg::new("files")
                .value_name("PLAN.json... SCENARIO")
                .value_parser(value_parser!(OsString))
                .value_hint(ValueHint::FilePath)
                .action(ArgAction::Append)
                .num_args(0..)
                .help("Plans of one broker, and the scenario: its name, or the path of a file"),
        )
        .arg(
            Arg::new("cores")
                .long("cores")
                .value_name("N")
                .value_parser(value_parser!(u32).range(1..=CORES_MAX))
                .help("What other cores of this kind hold"),
        )
        .arg(
            Arg::new("connections")
                .long("connections")
                .value_name("N")
                .value_parser(value_parser!(u64).range(1..))
                .help("Connections, in place of those of the scenario"),
        );
    with_some(command, &PASSED_TO_PREDICT).next_line_help(true)
}

pub(super) fn plan(matches: &ArgMatches) -> Result<Command, Problem> {
    let out = matches.get_one::<PathBuf>("out").cloned();
    let out = out.unwrap_or_else(|| PathBuf::from("plan.json"));
    check_file("out", &out)?;
    Ok(Command::Plan(Request {
        passed: passed(matches, &PASSED_TO_PLAN),
        out,
        is_quick: matches.get_flag("quick"),
    }))
}

pub(super) fn predict(matches: &ArgMatches) -> Result<Command, Vec<Problem>> {
    let files = matches.get_many::<OsString>("files").unwrap_or_default();
    let is_plan = |file: &&OsString| file.to_string_lossy().ends_with(".json");
    let (plans, scenario): (Vec<&OsString>, Vec<&OsString>) = files.partition(is_plan);
    if plans.is_empty() {
        let fix = "write ringload predict plan.json SCENARIO; `ringload plan` makes the plan";
        return Err(vec![problem("predict", "needs a plan", fix.to_owned())]);
    }
    let options = passed(matches, &PASSED_TO_PREDICT);
    let arguments = std::iter::once("run".into()).chain(scenario.into_iter().cloned());
    match Command::parse(arguments.chain(options))? {
        Command::Run(options) => Ok(Command::Predict(Box::new(PredictRequest {
            plans: plans.into_iter().map(PathBuf::from).collect(),
            scenario: options.scenario,
            question: Question {
                cores: matches.get_one("cores").copied(),
                connections: matches.get_one("connections").copied(),
            },
        }))),
        other => Ok(other),
    }
}

/// Options of `run`, as they were given.
pub(super) fn passed(matches: &ArgMatches, names: &[&str]) -> Vec<OsString> {
    let of = |name: &&str| {
        let name = (*name).to_owned();
        let values = matches.get_many::<OsString>(&name).unwrap_or_default();
        values
            .flat_map(|value| [format!("--{name}").into(), value.clone()])
            .collect::<Vec<OsString>>()
    };
    names.iter().flat_map(of).collect()
}

/// Who the broker is, and how to get in.
const PASSED_TO_PLAN: [&str; 10] = [
    "target",
    "pid",
    "protocol",
    "user",
    "password",
    "password-file",
    "tls",
    "threads",
    "cores",
    "source",
];
/// What changes a scenario.
const PASSED_TO_PREDICT: [&str; 7] = [
    "publishers",
    "subscribers",
    "rate",
    "qos",
    "payload",
    "group",
    "set",
];
/// More than any machine has; a typing error.
const CORES_MAX: i64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, Vec<Problem>> {
        Command::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn a_plan_passes_on_what_every_run_needs() {
        let line = "plan --pid 7 --quick -t mqtts://broker --user me -o x.json";
        let Ok(Command::Plan(request)) = parse(line) else {
            panic!("not a plan");
        };
        assert!(request.is_quick && request.out.to_str() == Some("x.json"));
        assert_eq!(
            request.passed,
            ["--target", "mqtts://broker", "--pid", "7", "--user", "me"]
        );
        let Ok(Command::Plan(request)) = parse("plan") else {
            panic!("not a plan");
        };
        assert!(!request.is_quick && request.out.to_str() == Some("plan.json"));
    }

    #[test]
    fn a_prediction_takes_plans_a_scenario_and_what_changes_it() {
        let line = "predict a.json pairs b.json --rate 20 --set subscribers.qos=1 --cores 16";
        let Ok(Command::Predict(request)) = parse(line) else {
            panic!("not a prediction");
        };
        assert_eq!(
            request.plans,
            [PathBuf::from("a.json"), PathBuf::from("b.json")]
        );
        let rate = request.scenario.groups[1].rate.as_ref();
        assert_eq!(rate.map(|rates| rates.show()).as_deref(), Some("20"));
        let expected = Question {
            cores: Some(16),
            connections: None,
        };
        assert_eq!(request.question, expected);
    }

    #[test]
    fn what_is_missing_is_said() {
        for (line, expected) in [
            (
                "predict pairs",
                "predict needs a plan\n  fix: write ringload predict plan.json",
            ),
            ("predict a.json", "run needs a scenario"),
            (
                "predict a.json pars",
                "`pars` is not a scenario\n  fix: did you mean `pairs`?",
            ),
            ("predict a.json pairs --cores 0", "predict: --cores"),
            (
                "predict a.json pairs --duration 5",
                "predict: --duration is not an option",
            ),
            ("plan --rate 5", "plan: --rate is not an option"),
        ] {
            let problems = parse(line).unwrap_err();
            let problem = problems[0].to_string();
            assert!(
                problem.starts_with(&format!("command line: {expected}")),
                "{line}\n{problem}"
            );
        }
    }
}
