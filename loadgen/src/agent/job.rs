//! The part of an agent: from the options of who leads to a job, and from a job to a plan.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ringmq_problem::Problem;

use super::protocol::Job;
use super::room::{self, Need};
use crate::cli::{self, RunOptions};
use crate::cloud::sas::Key;
use crate::driver::Way;
use crate::engine::Options;
use crate::peer::Peer;
use crate::plan::Plan;
use crate::process;
use crate::scenario::file;
use crate::scenario::pattern::Pattern;
use crate::setup;
use crate::sources::Sources;

impl Job {
    /// The job of a machine; the scenario has no secrets in it, they are beside it.
    pub(super) fn of(options: &RunOptions, run: u16, machines: usize, machine: usize) -> Job {
        let mut scenario = options.scenario.clone();
        let (mut passwords, mut sas_keys) = (Vec::new(), Vec::new());
        for group in &mut scenario.groups {
            let password = group.password.take();
            passwords.push(password.map(|pattern| pattern.as_str().to_owned()));
            sas_keys.push(group.sas_key.take().map(|key| key.to_text()));
            (group.password_file, group.sas_key_file) = (None, None);
        }
        let on = options.on.as_ref();
        Job {
            scenario: scenario.to_toml(),
            passwords,
            sas_keys,
            target: on.map_or_else(String::new, |on| on.target.clone()),
            run,
            threads: options.threads,
            machines,
            machine,
            cores: options.cores.clone(),
            keep_going: options.keep_going,
            with_sys: options.with_sys,
        }
    }

    /// What is run, the same on every machine.
    pub(super) fn plan(&self) -> Result<Plan, Vec<Problem>> {
        let mut scenario = file::parse("the scenario", &self.scenario)?;
        let secrets = self.passwords.iter().zip(&self.sas_keys);
        for (group, (password, sas_key)) in scenario.groups.iter_mut().zip(secrets) {
            let pattern = password.as_deref().map(Pattern::parse);
            // They were read before.
            group.password = pattern.and_then(Result::ok);
            group.sas_key = sas_key.as_deref().and_then(Key::parse);
        }
        let shape = (self.machines, self.threads);
        Plan::for_machines(scenario, &format!("{:04x}", self.run), shape, self.with_sys)
    }

    /// Everything up to the first connection; or why this machine cannot do it.
    pub(super) fn set_up(&self) -> Result<Part, String> {
        let first = |problems: Vec<Problem>| match problems.first() {
            Some(problem) => problem.to_string(),
            None => "the scenario is not understood".to_owned(),
        };
        let plan = self.plan().map_err(first)?;
        let has_tls = plan.specs.iter().any(|group| group.tls);
        let place = cli::reach(&self.target, has_tls)
            .map_err(|complaint| format!("--target {}; fix: {}", complaint.what, complaint.fix))?;
        let way =
            setup::way(&plan, &place, self.own_threads()).map_err(|failure| match failure {
                setup::Failure::Usage(problems) => first(problems),
                setup::Failure::Run(why) => why,
            })?;
        let need = Need::of(&plan, self.own_threads());
        let files_max = setup::open_files(need.clients, self.threads)?;
        let sources = self.sources(&way, &need)?;
        room::check_memory(&need, room::memory_available())?;
        check_cores(&self.cores)?;
        Ok(Part {
            plan,
            options: Options {
                name: String::new(),
                way,
                sources,
                cores: self.cores.clone(),
                pids: Vec::new(),
                run: self.run,
                keep_going: self.keep_going,
                sys_wait: std::time::Duration::ZERO,
                metrics: None,
                interrupted: Arc::new(AtomicBool::new(false)),
                elsewhere: None,
            },
            files_max,
        })
    }

    fn sources(&self, way: &Way, need: &Need) -> Result<Sources, String> {
        let Peer::Tcp(address) = &way.peer else {
            return Ok(Sources::default());
        };
        let ports = process::local_ports();
        let sources = Sources::automatic(*address, need.clients, ports);
        room::check_ports(need.clients, ports, sources.addresses().len())?;
        Ok(sources)
    }
}

fn check_cores(cores: &[usize]) -> Result<(), String> {
    let ours = process::own_cores();
    match cores.iter().find(|core| !ours.contains(core)) {
        None => Ok(()),
        Some(core) => Err(format!(
            "--cores holds {core}, which is not a core that ringload may use there"
        )),
    }
}

/// What an agent needs to begin.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) plan: Plan,
    pub(super) options: Options,
    pub(super) files_max: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Command;

    #[test]
    fn secrets_stand_beside_the_scenario_and_both_sides_make_the_same_plan() {
        let line = "run pairs --on one,two --threads 3 --run-id 7 --user u-{index} --qos 1 \
                    --password S3-{index} --set publishers.payload=16..99 --no-sys";
        let arguments = line.split_whitespace().map(Into::into);
        let Ok(Command::Run(options)) = Command::parse(arguments) else {
            panic!("not a run")
        };
        let job = Job::of(&options, 7, 2, 1);
        assert!(!job.scenario.contains("S3"), "{}", job.scenario);
        assert_eq!(job.own_threads(), 3..6);
        let text = serde_json::to_string(&job).unwrap();
        let job: Job = serde_json::from_str(&text).unwrap();
        let plan = job.plan().unwrap();
        let ours = Plan::for_machines(options.scenario.clone(), "0007", (2, 3), false).unwrap();
        assert_eq!(
            (plan.threads, plan.streams.count()),
            (6, ours.streams.count())
        );
        for stream in 0..plan.streams.count() as u32 {
            assert_eq!(plan.streams.topic(stream), ours.streams.topic(stream));
            assert_eq!(plan.streams.slot(stream), ours.streams.slot(stream));
        }
        for (theirs, ours) in plan.specs.iter().zip(&ours.specs) {
            assert_eq!(
                (&theirs.user, &theirs.password),
                (&ours.user, &ours.password)
            );
            assert_eq!(theirs.payload, ours.payload);
        }
    }
}
