//! What the arguments of `run`, `show`, `find-max` and `storm` say, and what they mean together.

use std::collections::HashMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use ringmq_problem::{Complaint, Problem};

use super::factors::{apply_scale, apply_speed};
use super::flags::{STORM, flags_of};
use super::overlay::{SHORTHANDS, apply_set, apply_shorthand, apply_tls_scheme, parse_group};
use super::target::{Target, host_of};
use super::{RunOptions, STDOUT, at, problem};
use crate::admin::{Access, Admin};
use crate::agent::On;
use crate::cloud::{self, Endpoint};
use crate::find::{self, FindOptions, Vary};
use crate::process;
use crate::scenario::threshold::Threshold;
use crate::scenario::{Scenario, builtin, file, value};
use crate::search::Goal;
use crate::sources::Sources;

/// Everything that was given, before it is understood.
#[derive(Default)]
pub(super) struct Given {
    pub(super) scenario: Option<String>,
    groups: Vec<String>,
    sets: Vec<String>,
    limits: Vec<String>,
    pub(super) slos: Vec<String>,
    pub(super) backoffs: Vec<String>,
    /// For `storm`.
    is_storm: bool,
    values: HashMap<&'static str, String>,
}

impl Given {
    /// Takes what clap has split.
    pub(super) fn of(command: &str, matches: &ArgMatches) -> Result<Given, Problem> {
        let texts = |name: &str| -> Vec<String> {
            let all = matches.get_many::<OsString>(name).unwrap_or_default();
            all.map(|text| text.to_string_lossy().into_owned())
                .collect()
        };
        let mut given = Given {
            is_storm: command == STORM,
            ..Given::default()
        };
        let scenarios = texts("scenario");
        if let [first, _, ..] = scenarios.as_slice() {
            let fix = "name one scenario".to_owned();
            return Err(problem(
                &format!("`{first}`"),
                "is one scenario too many",
                fix,
            ));
        }
        given.scenario = scenarios.into_iter().next();
        for flag in flags_of(command) {
            let all = match flag.placeholder.is_empty() {
                true => vec!["true".to_owned(); usize::from(matches.get_count(flag.name))],
                false => texts(flag.name),
            };
            match (flag.name, all.as_slice()) {
                (_, []) => {}
                ("group", _) => given.groups = all,
                ("set", _) => given.sets = all,
                ("backoff", _) => given.backoffs = all,
                ("slo", _) => given.slos = all,
                ("threshold", _) => given.limits = all,
                (name, [only]) => {
                    given.values.insert(name, only.clone());
                }
                (name, _) => {
                    let fix = "give it once".to_owned();
                    return Err(problem(
                        &format!("--{name}"),
                        "is given more than once",
                        fix,
                    ));
                }
            }
        }
        Ok(given)
    }

    /// An option was given.
    pub(super) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Groups are described on the command line.
    pub(super) fn has_groups(&self) -> bool {
        !self.groups.is_empty()
    }

    /// The same for a search.
    pub(super) fn understand_search(mut self) -> Result<FindOptions, Vec<Problem>> {
        let one = |problem| vec![problem];
        let limits = std::mem::take(&mut self.slos);
        let read = |name: &'static str, complaint: Complaint| one(at(name, complaint));
        let vary = self.vary().map_err(|c| read("vary", c))?;
        let to_the_end = self.take("to-the-end").is_some();
        let goal = self.goal(vary)?;
        let repeat = match self.take("repeat") {
            Some(text) => value::count(&text, 1, 100).map_err(|c| read("repeat", c))? as u32,
            None => 1,
        };
        let restart = self.take("restart");
        if repeat > 1 && restart.is_none() {
            let what = "needs --restart: searches of one process are not independent";
            return Err(read(
                "repeat",
                Complaint::new(what, "add --restart COMMAND"),
            ));
        }
        // What a broker says of itself has its place in runs.
        self.values.insert("no-sys", "true".to_owned());
        let mut run = self.understand()?;
        let limits = match limits.is_empty() {
            true => run.scenario.thresholds.clone(),
            false => limits
                .iter()
                .map(|text| Threshold::parse(text))
                .collect::<Result<_, _>>()
                .map_err(|complaint| read("slo", complaint))?,
        };
        run.scenario = find::prepared(run.scenario, vary)?;
        let problems = find::check(&run.scenario, &limits, vary);
        if !problems.is_empty() {
            return Err(problems);
        }
        check_needs_pid(limits.iter(), !run.pids.is_empty()).map_err(one)?;
        Ok(FindOptions {
            run,
            limits,
            repeat,
            restart,
            goal,
            vary,
            to_the_end,
        })
    }

    /// What a search makes larger.
    fn vary(&mut self) -> Result<Vary, Complaint> {
        match self.take("vary").as_deref() {
            None | Some("rate") => Ok(Vary::Rate),
            Some("connections") => Ok(Vary::Connections),
            Some("scale") => Ok(Vary::Scale),
            Some(other) => {
                let what = format!("is `{other}`, which cannot be varied");
                let fix = "write rate, connections or scale";
                Err(Complaint::new(what, fix))
            }
        }
    }

    /// How exactly a search is to be, and how long.
    fn goal(&mut self, vary: Vary) -> Result<Goal, Vec<Problem>> {
        let read = |name: &'static str, complaint: Complaint| vec![at(name, complaint)];
        let mut goal = Goal::default();
        let is_quick = self.take("quick").is_some();
        (goal.trials_per_load, goal.width) = match (vary, is_quick) {
            (Vary::Rate, false) => (goal.trials_per_load, goal.width),
            (Vary::Rate, true) => (QUICK_TRIALS, QUICK_WIDTH),
            (Vary::Connections | Vary::Scale, false) => (STEP_TRIALS, STEP_WIDTH),
            (Vary::Connections | Vary::Scale, true) => (1, QUICK_STEP_WIDTH),
        };
        if let Some(text) = self.take("confirm") {
            let span = value::span(&text).map_err(|c| read("confirm", c))?;
            goal.confirm_s = span.as_secs_f64().ceil() as u32;
        }
        if let Some(text) = self.take("up-to") {
            goal.load_max = value::rate(&text).map_err(|c| read("up-to", c))?;
        }
        Ok(goal)
    }

    /// Checks all of it, and lays it over the scenario.
    pub(super) fn understand(mut self) -> Result<RunOptions, Vec<Problem>> {
        let one = |problem| vec![problem];
        let written = self
            .take("target")
            .unwrap_or_else(|| "127.0.0.1".to_owned());
        let on = self.on(&written).map_err(one)?;
        let target = Target::parse(&written).map_err(|complaint| one(at("target", complaint)))?;
        let scenario = self.scenario(&target)?;
        let warnings = check_places(&scenario, on.is_some(), &target.endpoint())?;
        let has_tls = scenario.groups.iter().any(|group| group.tls);
        let place = target.with_port(has_tls);
        let read = |name: &'static str, complaint: Complaint| one(at(name, complaint));
        let threads = match self.take("threads") {
            Some(text) => value::count(&text, 1, 64).map_err(|c| read("threads", c))? as usize,
            None => 1,
        };
        let numbers = |text: Option<String>, name| match text {
            None => Ok(Vec::new()),
            Some(text) => parse_list(&text).map_err(|complaint| one(at(name, complaint))),
        };
        let cores = numbers(self.take("cores"), "cores")?;
        // Other machines have cores of their own.
        if on.is_none() {
            check_cores(&cores).map_err(|complaint| one(at("cores", complaint)))?;
        }
        let pids = numbers(self.take("pid"), "pid")?;
        check_needs_pid(all_limits(&scenario), !pids.is_empty()).map_err(one)?;
        let sources = self.take("source").map(|text| Sources::parse(&text));
        let sources = sources.transpose().map_err(|c| read("source", c))?;
        let ours = sources.as_ref().map_or(&[][..], Sources::addresses);
        let resolved = target.resolve(&place, ours);
        let peers = resolved.map_err(|complaint| one(at("target", complaint)))?;
        let run = self.take("run-id").map(|text| run_id(&text));
        let metrics = self.take("metrics").map(|text| address_of(&text));
        let sys_wait = self
            .take("sys-wait")
            .map(|text| value::span(&text))
            .transpose();
        let is_cloud = scenario.preset.is_some();
        Ok(RunOptions {
            scenario,
            websocket: target.websocket(&place),
            target: target.shown(&place),
            host: host_of(&place).to_owned(),
            peers,
            threads,
            cores,
            sources,
            pids: pids.into_iter().map(|pid| pid as u32).collect(),
            admin: self.admin().map_err(one)?,
            label: self.take("label"),
            json: self.take_file("json").map_err(one)?,
            histograms: self.take_file("histograms").map_err(one)?,
            junit: self.take_file("junit").map_err(one)?,
            csv: self.take_file("csv").map_err(one)?,
            metrics: metrics.transpose().map_err(|c| read("metrics", c))?,
            run: run.transpose().map_err(|c| read("run-id", c))?,
            keep_going: self.take("keep-going").is_some(),
            quiet: self.take("quiet").is_some(),
            // A service of a cloud has no $SYS, and ends connections that ask for it.
            with_sys: self.take("no-sys").is_none() && !is_cloud,
            sys_wait: sys_wait
                .map_err(|c| read("sys-wait", c))?
                .unwrap_or_default(),
            strict: self.take("strict").is_some(),
            print: self.take("print").is_some(),
            warnings,
            on,
        })
    }

    /// The machines that make the run; `target` is the broker as it was written.
    fn on(&mut self, target: &str) -> Result<Option<On>, Problem> {
        let (ssh, remote) = (self.take("ssh"), self.take("remote"));
        let Some(hosts) = self.take("on") else {
            let without = [("ssh", &ssh), ("remote", &remote)];
            return match without.iter().find(|(_, value)| value.is_some()) {
                Some((name, _)) => {
                    let what = "is given without --on";
                    Err(at(name, Complaint::new(what, "add --on HOST,HOST")))
                }
                None => Ok(None),
            };
        };
        if self.values.contains_key("source") {
            let what = "is about this machine, and --on has others make the run";
            return Err(at("source", Complaint::new(what, "leave it out")));
        }
        let ssh = ssh.as_deref().unwrap_or("ssh");
        Ok(Some(On {
            hosts: On::parse_hosts(&hosts).map_err(|c| at("on", c))?,
            ssh: On::parse_ssh(ssh).map_err(|c| at("ssh", c))?,
            remote: remote.unwrap_or_else(|| "ringload".to_owned()),
            target: target.to_owned(),
        }))
    }

    /// The control plane of the broker, if it is named.
    fn admin(&mut self) -> Result<Option<Admin>, Problem> {
        let [address, token, ca] = ["admin", "admin-token", "admin-ca"].map(|name| self.take(name));
        admin_of(address.as_deref(), token.as_deref(), ca.as_deref())
    }

    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        self.values.remove(name)
    }

    /// A file to write after the run: problems with it are reported before.
    fn take_file(&mut self, name: &str) -> Result<Option<PathBuf>, Problem> {
        let Some(path) = self.take(name).map(PathBuf::from) else {
            return Ok(None);
        };
        if path.as_os_str() == STDOUT {
            return match name {
                "json" => Ok(Some(path)),
                _ => {
                    let what = "is `-`, which only --json can be";
                    Err(at(name, Complaint::new(what, "name a file")))
                }
            };
        }
        check_file(name, &path)?;
        Ok(Some(path))
    }

    /// The scenario that is named, or none yet.
    fn base(&self) -> Result<Scenario, Vec<Problem>> {
        Ok(match &self.scenario {
            None if self.groups.is_empty() => {
                let fix = "name one, as in `ringload run pairs`, or describe groups with --group; \
                           `ringload list` shows what there is";
                return Err(vec![problem("run", "needs a scenario", fix.to_owned())]);
            }
            None => unnamed(),
            Some(name) if name.contains('/') || name.ends_with(".toml") => {
                file::read(name.as_ref())?
            }
            Some(name) => builtin::load(name)?,
        })
    }

    /// The scenario with everything from the command line laid over it.
    fn scenario(&mut self, target: &Target) -> Result<Scenario, Vec<Problem>> {
        let mut scenario = self.base()?;
        let mut problems = Vec::new();
        for text in &self.groups {
            match parse_group(text, scenario.groups.len()) {
                Ok(group) => scenario.groups.push(group),
                Err(problem) => problems.push(problem),
            }
        }
        if self.values.contains_key("rate") && self.values.contains_key("window") {
            let what = "conflicts with --rate: a load is either an open or a closed loop";
            problems.push(problem("--window", what, "keep one of them".to_owned()));
        }
        let mut changes = Vec::new();
        for flag in SHORTHANDS {
            if let Some(text) = self.values.remove(flag) {
                match flag {
                    "duration" | "warmup" => {}
                    "user" | "password" | "password-file" => changes.push(format!("--{flag}")),
                    _ => changes.push(format!("--{flag} {text}")),
                }
                problems.extend(apply_shorthand(&mut scenario, flag, &text).err());
            }
        }
        for text in &self.sets {
            if !text.contains("password") {
                changes.push(text.clone());
            }
            problems.extend(apply_set(&mut scenario, text).err());
        }
        for flag in ["speed", "scale"] {
            let Some(text) = self.values.remove(flag) else {
                continue;
            };
            changes.push(format!("--{flag} {text}"));
            problems.extend(match flag {
                "speed" => apply_speed(&mut scenario, &text).err(),
                _ => apply_scale(&mut scenario, &text).err(),
            });
        }
        if self.is_storm {
            scenario = scenario.into_storm();
            problems.extend(self.apply_storm(&mut scenario));
        }
        for text in &self.limits {
            match Threshold::parse(text) {
                Ok(limit) => scenario.thresholds.push(limit),
                Err(complaint) => problems.push(at("threshold", complaint)),
            }
        }
        let applied = |scheme| apply_tls_scheme(&mut scenario, scheme).err();
        problems.extend(target.scheme.and_then(applied));
        cloud::fill::fill(&mut scenario, &target.endpoint());
        if !changes.is_empty() {
            // Its description may no longer be true.
            scenario.about += &format!(" (changed: {})", changes.join(", "));
        }
        if problems.is_empty() {
            problems = scenario.check();
        }
        if problems.is_empty() {
            Ok(scenario)
        } else {
            Err(problems)
        }
    }
}

/// What cannot be made from several machines, or what the service of a preset would refuse, is a
/// problem; gives what is slow or dear there.
fn check_places(
    scenario: &Scenario,
    has_machines: bool,
    endpoint: &Endpoint,
) -> Result<Vec<String>, Vec<Problem>> {
    if has_machines && scenario.storm.is_some() {
        let what = "is not for storms, which one machine makes";
        return Err(vec![at("on", Complaint::new(what, "leave out --on"))]);
    }
    if !scenario.preset_check {
        return Ok(Vec::new());
    }
    let findings = cloud::check::check(scenario, endpoint);
    match findings.refused.is_empty() {
        true => Ok(findings.warnings.iter().map(ToString::to_string).collect()),
        false => Err(findings
            .refused
            .into_iter()
            .map(|(_, problem)| problem)
            .collect()),
    }
}

/// The scenario of groups that are described on the command line.
fn unnamed() -> Scenario {
    let mut scenario = Scenario::default();
    scenario.name = "command-line".to_owned();
    scenario.about = "Described on the command line".to_owned();
    scenario
}

/// What `--admin`, `--admin-token` and `--admin-ca` say together.
pub(super) fn admin_of(
    address: Option<&str>,
    token: Option<&str>,
    ca: Option<&str>,
) -> Result<Option<Admin>, Problem> {
    let Some(address) = address else {
        for (name, value) in [("admin-token", token), ("admin-ca", ca)] {
            if value.is_some() {
                let complaint = Complaint::new("is given without --admin", "add --admin URL");
                return Err(at(name, complaint));
            }
        }
        return Ok(None);
    };
    let access = Access { address, token, ca };
    let admin = Admin::of(&access).map_err(|(name, complaint)| at(name, complaint))?;
    Ok(Some(admin))
}

/// Whether an option names a file that can be written.
pub(super) fn check_file(name: &str, path: &Path) -> Result<(), Problem> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let what = match folder {
        Some(folder) if !folder.is_dir() => "whose folder does not exist",
        _ if path.is_dir() => "which is a folder",
        _ => return Ok(()),
    };
    let what = format!("is `{}`, {what}", path.display());
    Err(at(
        name,
        Complaint::new(what, "name a file in an existing folder"),
    ))
}

fn run_id(text: &str) -> Result<u16, Complaint> {
    u16::from_str_radix(text, 16).map_err(|_| {
        let what = format!("is `{text}`, which is not a run id");
        Complaint::new(what, "write 0 to ffff")
    })
}

fn address_of(text: &str) -> Result<SocketAddr, Complaint> {
    text.parse().map_err(|_| {
        let what = format!("is `{text}`, which is not an address with a port");
        Complaint::new(what, "write such as 127.0.0.1:9100")
    })
}

/// Every limit of a scenario.
fn all_limits(scenario: &Scenario) -> impl Iterator<Item = &Threshold> {
    let of_stages = scenario.stages.iter().flat_map(|stage| {
        let abort = stage.abort.iter().map(|abort| &abort.threshold);
        stage.thresholds.iter().chain(abort)
    });
    let of_storm = scenario.storm.iter().flat_map(|storm| &storm.limits);
    scenario.thresholds.iter().chain(of_stages).chain(of_storm)
}

/// A limit of what the broker uses can only be judged if its processes are known.
fn check_needs_pid<'a>(
    mut limits: impl Iterator<Item = &'a Threshold>,
    has_pids: bool,
) -> Result<(), Problem> {
    match limits.find(|limit| limit.metric.needs_pid() && !has_pids) {
        None => Ok(()),
        Some(limit) => {
            let what = format!(
                "is missing, and `{}` is about the process of the broker",
                limit.as_str()
            );
            let fix = "add --pid, with a broker on this machine".to_owned();
            Err(problem("--pid", &what, fix))
        }
    }
}

/// A load is clear after three trials, and bounds lie within 5 %: a search of half a minute.
const QUICK_TRIALS: u32 = 6;
const QUICK_WIDTH: f64 = 0.05;
/// Connecting everybody takes long: two trials that agree, or one that is quick.
const STEP_TRIALS: u32 = 3;
const STEP_WIDTH: f64 = 0.05;
const QUICK_STEP_WIDTH: f64 = 0.1;

fn check_cores(cores: &[usize]) -> Result<(), Complaint> {
    let ours = process::own_cores();
    match cores.iter().find(|core| !ours.contains(core)) {
        None => Ok(()),
        Some(core) => {
            let what = format!("holds {core}, which is not a core that this process may use");
            let ours: Vec<String> = ours.iter().map(usize::to_string).collect();
            Err(Complaint::new(
                what,
                format!("choose from {}", ours.join(",")),
            ))
        }
    }
}

/// `1,4-6`.
fn parse_list(text: &str) -> Result<Vec<usize>, Complaint> {
    let complaint = |part: &str| {
        let what = format!("holds `{part}`, which is neither a number nor a range");
        Complaint::new(what, "write a list such as 3 or 0-3,6")
    };
    let mut numbers = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) else {
            return Err(complaint(part));
        };
        if first > last || last - first > 4096 {
            return Err(complaint(part));
        }
        numbers.extend((first..=last).map(|number| number as usize));
    }
    Ok(numbers)
}
