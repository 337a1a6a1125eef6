//! The command line of `storm`: that of `run`, and what happens to the clients.

use ringmq_problem::{Complaint, Place, Problem};

use super::given::Given;
use super::{at, problem};
use crate::scenario::storm::Backoff;
use crate::scenario::{Keyed as _, Scenario, keys};
use crate::storm::StormOptions;

impl Given {
    /// The same for a storm.
    pub(super) fn understand_storm(self) -> Result<StormOptions, Vec<Problem>> {
        let one_run = ONE_RUN.iter().find(|name| self.has(name));
        if let (Some(name), true) = (one_run, self.backoffs.len() > 1) {
            let what = "is for one run, and several --backoff make several";
            let fix = "give one --backoff, or leave it out";
            return Err(vec![at(name, Complaint::new(what, fix))]);
        }
        let texts = self.backoffs.clone();
        let run = self.understand()?;
        let of_scenario = run.scenario.storm.as_ref().map(|storm| storm.backoff);
        let mut backoffs: Vec<Backoff> = Vec::new();
        for text in &texts {
            let backoff = Backoff::parse(text);
            let backoff = backoff.map_err(|complaint| vec![at("backoff", complaint)])?;
            if backoffs.contains(&backoff) {
                let subject = format!("--backoff {text}");
                let fix = "leave it out".to_owned();
                return Err(vec![problem(&subject, "is given twice", fix)]);
            }
            backoffs.push(backoff);
        }
        if backoffs.is_empty() {
            backoffs.extend(of_scenario);
        }
        Ok(StormOptions { run, backoffs })
    }

    /// Lays what was given over the storm of a scenario. Of several back-offs the first is that of
    /// the scenario.
    pub(super) fn apply_storm(&mut self, scenario: &mut Scenario) -> Vec<Problem> {
        let mut problems = Vec::new();
        let storm = scenario.storm.get_or_insert_default();
        let mut set = |flag: &str, key: &str, texts: &[&str]| {
            let key = keys::of_storm(key).expect("every option of a storm is a key");
            // The user wrote the option, not the key that it stands for.
            let named = |problem| Problem {
                subject: format!("--{flag}"),
                ..problem
            };
            let set = storm.set(key, texts, Place::CommandLine).map_err(named);
            problems.extend(set.err());
        };
        for (flag, key) in PLAIN {
            if let Some(text) = self.take(flag) {
                set(flag, key, &[&text]);
            }
        }
        if let Some(text) = self.take("of") {
            let names: Vec<&str> = text.split(',').map(str::trim).collect();
            set("of", "of", &names);
        }
        let limits: Vec<&str> = self.slos.iter().map(String::as_str).collect();
        if !limits.is_empty() {
            set("slo", "slo", &limits);
        }
        for text in self.backoffs.iter().rev() {
            set("backoff", "backoff", &[text]);
        }
        problems
    }
}

/// Options with the keys that they stand for.
const PLAIN: [(&str, &str); 5] = [
    ("cut", "share"),
    ("event", "event"),
    ("back", "back"),
    ("before", "before"),
    ("within", "within"),
];
/// What has room for one run only.
const ONE_RUN: [&str; 4] = ["histograms", "junit", "csv", "metrics"];
