//! What the arguments of `run` and `show` say, and what they mean together.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use ringmq_problem::{Complaint, Problem};

use super::help::FLAGS;
use super::overlay::{SHORTHANDS, apply_set, apply_shorthand, apply_tls_scheme, parse_group};
use super::target::{Scheme, Target, host_of};
use super::{RunOptions, STDOUT, at, problem};
use crate::process;
use crate::scenario::{Scenario, builtin, file, value};
use crate::sources::Sources;

/// Everything that was given, before it is understood.
#[derive(Default)]
pub(super) struct Given {
    pub(super) scenario: Option<String>,
    groups: Vec<String>,
    sets: Vec<String>,
    values: HashMap<&'static str, String>,
}

impl Given {
    /// Takes what clap has split.
    pub(super) fn of(matches: &ArgMatches) -> Result<Given, Problem> {
        let texts = |name: &str| -> Vec<String> {
            let all = matches.get_many::<OsString>(name).unwrap_or_default();
            all.map(|text| text.to_string_lossy().into_owned())
                .collect()
        };
        let mut given = Given::default();
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
        for flag in FLAGS {
            let all = match flag.placeholder.is_empty() {
                true => vec!["true".to_owned(); usize::from(matches.get_count(flag.name))],
                false => texts(flag.name),
            };
            match (flag.name, all.as_slice()) {
                (_, []) => {}
                ("group", _) => given.groups = all,
                ("set", _) => given.sets = all,
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

    /// Checks all of it, and lays it over the scenario.
    pub(super) fn understand(mut self) -> Result<RunOptions, Vec<Problem>> {
        let one = |problem| vec![problem];
        let target = self
            .take("target")
            .unwrap_or_else(|| "127.0.0.1".to_owned());
        let target = Target::parse(&target).map_err(|complaint| one(at("target", complaint)))?;
        let scenario = self.scenario(target.scheme)?;
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
        check_cores(&cores).map_err(|complaint| one(at("cores", complaint)))?;
        let pids = numbers(self.take("pid"), "pid")?;
        let sources = self.take("source").map(|text| Sources::parse(&text));
        let sources = sources.transpose().map_err(|c| read("source", c))?;
        let ours = sources.as_ref().map_or(&[][..], Sources::addresses);
        let resolved = target.resolve(&place, ours);
        let peers = resolved.map_err(|complaint| one(at("target", complaint)))?;
        let run = self.take("run-id").map(|text| {
            u16::from_str_radix(&text, 16).map_err(|_| {
                Complaint::new(
                    format!("is `{text}`, which is not a run id"),
                    "write 0 to ffff",
                )
            })
        });
        let sys_wait = self
            .take("sys-wait")
            .map(|text| value::span(&text))
            .transpose();
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
            label: self.take("label"),
            json: self.take_file("json").map_err(one)?,
            histograms: self.take_file("histograms").map_err(one)?,
            run: run.transpose().map_err(|c| read("run-id", c))?,
            keep_going: self.take("keep-going").is_some(),
            quiet: self.take("quiet").is_some(),
            with_sys: self.take("no-sys").is_none(),
            sys_wait: sys_wait
                .map_err(|c| read("sys-wait", c))?
                .unwrap_or_default(),
            strict: self.take("strict").is_some(),
            print: self.take("print").is_some(),
        })
    }

    fn take(&mut self, name: &str) -> Option<String> {
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
        let folder = path.parent().filter(|folder| *folder != Path::new(""));
        let what = match folder {
            Some(folder) if !folder.is_dir() => "whose folder does not exist",
            _ if path.is_dir() => "which is a folder",
            _ => return Ok(Some(path)),
        };
        let what = format!("is `{}`, {what}", path.display());
        Err(at(
            name,
            Complaint::new(what, "name a file in an existing folder"),
        ))
    }

    /// The scenario with everything from the command line laid over it.
    fn scenario(&mut self, scheme: Option<Scheme>) -> Result<Scenario, Vec<Problem>> {
        let mut scenario = match &self.scenario {
            None if self.groups.is_empty() => {
                let fix = "name one, as in `ringload run pairs`, or describe groups with --group; \
                           `ringload list` shows what there is";
                return Err(vec![problem("run", "needs a scenario", fix.to_owned())]);
            }
            None => Scenario {
                name: "command-line".to_owned(),
                about: "Described on the command line".to_owned(),
                ..Scenario::default()
            },
            Some(name) if name.contains('/') || name.ends_with(".toml") => {
                file::read(name.as_ref())?
            }
            Some(name) => builtin::load(name)?,
        };
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
        let applied = scheme.and_then(|scheme| apply_tls_scheme(&mut scenario, scheme).err());
        problems.extend(applied);
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
