//! The result of a run that came to nothing: a gate reads a file, whatever happened.

use super::Context;
use crate::report::{
    self, Check, Ended, Generator, Judgement, Phases, Reason, ResultFile, Run, ScenarioNote,
    Totals, Validity, Verdict,
};
use crate::scenario::Scenario;
use crate::scenario::{stage, value};
use crate::secrets;

/// The result of a run that did not take place, and why it did not.
pub fn failed(
    scenario: &Scenario,
    run_id: &str,
    started_unix_ms: u64,
    context: Context,
    why: &str,
) -> ResultFile {
    let verdicts = not_judged(scenario);
    ResultFile {
        format: report::FORMAT.to_owned(),
        version: report::FORMAT_VERSION,
        run: Run {
            label: context.label,
            ringload: env!("CARGO_PKG_VERSION").to_owned(),
            command: secrets::masked(&context.command),
            run_id: run_id.to_owned(),
            started_unix_ms,
            scenario: ScenarioNote {
                name: scenario.name.clone(),
                about: scenario.about.clone(),
                toml: scenario.to_toml(),
            },
            target: context.target,
            machine: context.machine,
            phases: Phases::default(),
            ended: Ended::Failed,
        },
        validity: Validity {
            valid: false,
            reasons: vec![Reason {
                check: Check::Failed,
                text: why.to_owned(),
            }],
            generator: Generator {
                sources: context.sources,
                files_max: context.files_max,
                ..Generator::default()
            },
        },
        totals: Totals {
            clients: scenario.client_count(),
            ..Totals::default()
        },
        groups: Vec::new(),
        qos: Vec::new(),
        timeline: Vec::new(),
        broker: None,
        sys: None,
        inside: None,
        troubles: Vec::new(),
        stages: Vec::new(),
        storm: None,
        verdicts,
        agents: None,
    }
}

/// Every limit of a run that did not take place.
fn not_judged(scenario: &Scenario) -> Vec<Verdict> {
    let verdict = |limit: &str, stage: Option<String>| Verdict {
        threshold: limit.to_owned(),
        stage,
        judgement: Judgement::NotJudged,
        value: None,
        shown: "the run did not take place".to_owned(),
    };
    let of_run = scenario.thresholds.iter().map(|limit| limit.as_str());
    let mut verdicts: Vec<Verdict> = of_run.map(|limit| verdict(limit, None)).collect();
    let within = scenario
        .storm
        .iter()
        .map(|storm| value::show_span(storm.within));
    verdicts.extend(within.map(|within| verdict(&format!("recovery within {within}"), None)));
    for part in stage::parts(&scenario.stages) {
        let limits = scenario.stages[part.stage].thresholds.iter();
        verdicts.extend(limits.map(|limit| verdict(limit.as_str(), Some(part.name.clone()))));
    }
    verdicts
}
