//! The command line.
//!
//! Keys of scenarios come from the table in `scenario::keys`; only what is not a key of a scenario
//! is defined here.

mod help;
mod overlay;
mod target;

use std::collections::HashMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lexopt::Arg;

use crate::process;
use crate::scenario::keys;
use crate::scenario::{Scenario, builtin, file, value};
use crate::sources::Sources;
use help::{COMMANDS, FLAGS};
pub use help::{Help, list, list_as_json, manual, version_line};
use overlay::{SHORTHANDS, apply_set, apply_shorthand, apply_tls_scheme, parse_group};
use ringmq_problem::{Complaint, Place, Problem, nearest};
pub use target::choose;
use target::{Target, resolve};

/// What is to be done.
#[derive(Debug)]
pub enum Command {
    /// Run a scenario.
    Run(Box<RunOptions>),
    /// List the scenarios that are built in; as JSON, for programs.
    List {
        /// As JSON.
        json: bool,
    },
    /// Print a scenario.
    Show(Box<Scenario>),
    /// Make a page of results: the rest of the command line is `page`'s to read.
    Report,
    /// Print a help text.
    Help(Help),
    /// Print the version.
    Version,
}

/// How a scenario is to be run.
#[derive(Debug)]
pub struct RunOptions {
    /// What to do, all options applied.
    pub scenario: Scenario,
    /// The broker, as written.
    pub target: String,
    /// Its addresses, in the order in which they are tried.
    pub addresses: Vec<SocketAddr>,
    /// Threads of the generator.
    pub threads: usize,
    /// Cores to bind them to.
    pub cores: Vec<usize>,
    /// Local addresses, if given.
    pub sources: Option<Sources>,
    /// Processes of the broker.
    pub pids: Vec<u32>,
    /// Name for tables and plots.
    pub label: Option<String>,
    /// Where to write the result; `-` is stdout.
    pub json: Option<PathBuf>,
    /// Where to write the raw histograms.
    pub histograms: Option<PathBuf>,
    /// Number of the run, if given.
    pub run: Option<u16>,
    /// Count clients that cannot connect.
    pub keep_going: bool,
    /// Show no progress and no summary.
    pub quiet: bool,
    /// Listen to `$SYS`.
    pub with_sys: bool,
    /// Wait for it at the end.
    pub sys_wait: Duration,
    /// Exit with 3 on faults and invalid runs.
    pub strict: bool,
    /// Print the scenario and stop.
    pub print: bool,
}

/// Everything that was given, before it is understood.
#[derive(Default)]
struct Given {
    scenario: Option<String>,
    groups: Vec<String>,
    sets: Vec<String>,
    values: HashMap<&'static str, String>,
}

impl Command {
    /// Reads the arguments, without the name of the program.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, Vec<Problem>> {
        let mut parser = lexopt::Parser::from_args(args);
        let one = |problem| vec![problem];
        let first = match parser.next().map_err(|error| one(not_an_option(&error)))? {
            None | Some(Arg::Short('h')) => return Ok(Command::Help(Help::Short)),
            Some(Arg::Long("help")) => return Ok(Command::Help(Help::Run)),
            Some(Arg::Short('V') | Arg::Long("version")) => return Ok(Command::Version),
            Some(Arg::Value(word)) => word.to_string_lossy().into_owned(),
            Some(Arg::Long(name)) => return Err(one(before_command(&format!("--{name}")))),
            Some(Arg::Short(letter)) => return Err(one(before_command(&format!("-{letter}")))),
        };
        match first.as_str() {
            "help" => Command::help(&mut parser).map_err(one),
            "list" => Command::list(&mut parser).map_err(one),
            "report" => Ok(Command::Report),
            "run" | "show" => {
                let given = match Given::read(&mut parser).map_err(one)? {
                    Read::Given(given) => *given,
                    Read::Help(help) => return Ok(Command::Help(help)),
                };
                if first == "show" && given.scenario.is_none() {
                    let fix =
                        "write ringload show NAME; `ringload list` shows the names".to_owned();
                    return Err(one(problem("show", "needs a scenario", fix)));
                }
                let options = given.understand()?;
                if first == "show" || options.print {
                    return Ok(Command::Show(Box::new(options.scenario)));
                }
                Ok(Command::Run(Box::new(options)))
            }
            other => {
                let fix = match nearest(other, COMMANDS.iter().map(|(name, _)| *name)) {
                    Some(near) => format!("did you mean `ringload {near}`?"),
                    None if builtin::text(other).is_some() || other.ends_with(".toml") => {
                        format!("did you mean `ringload run {other}`?")
                    }
                    None => SEE_HELP.to_owned(),
                };
                Err(one(problem(&format!("`{other}`"), "is not a command", fix)))
            }
        }
    }

    /// `ringload help [COMMAND]`.
    fn help(parser: &mut lexopt::Parser) -> Result<Command, Problem> {
        let Some(arg) = parser.next().map_err(|error| not_an_option(&error))? else {
            return Ok(Command::Help(Help::Short));
        };
        let Arg::Value(word) = arg else {
            return Err(problem(
                "help",
                "takes no option",
                "write ringload help COMMAND".to_owned(),
            ));
        };
        let word = word.to_string_lossy();
        match Help::of(&word) {
            Some(help) => Ok(Command::Help(help)),
            None => {
                let names: Vec<&str> = COMMANDS.iter().map(|(name, _)| *name).collect();
                let fix = match nearest(&word, names.iter().copied()) {
                    Some(near) => format!("did you mean `ringload help {near}`?"),
                    None => format!("the commands are {}", names.join(", ")),
                };
                Err(problem(&format!("help: `{word}`"), "is not a command", fix))
            }
        }
    }

    /// `ringload list [--json]`.
    fn list(parser: &mut lexopt::Parser) -> Result<Command, Problem> {
        let mut json = false;
        while let Some(arg) = parser.next().map_err(|error| not_an_option(&error))? {
            let text = match arg {
                Arg::Long("json") => {
                    json = true;
                    continue;
                }
                Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help(Help::List)),
                Arg::Long(name) => format!("--{name}"),
                Arg::Short(letter) => format!("-{letter}"),
                Arg::Value(text) => format!("`{}`", text.to_string_lossy()),
            };
            let fix = "write ringload list, or ringload list --json".to_owned();
            return Err(problem(&format!("list: {text}"), "is too much", fix));
        }
        Ok(Command::List { json })
    }
}

/// What the arguments of `run` and `show` say.
enum Read {
    Given(Box<Given>),
    Help(Help),
}

impl Given {
    fn read(parser: &mut lexopt::Parser) -> Result<Read, Problem> {
        let mut given = Given::default();
        while let Some(arg) = parser.next().map_err(|error| not_an_option(&error))? {
            match arg {
                Arg::Short('h') => return Ok(Read::Help(Help::Short)),
                Arg::Long("help") => return Ok(Read::Help(Help::Run)),
                Arg::Short('t') => given.give("target", parser)?,
                Arg::Short('q') => given.give("quiet", parser)?,
                Arg::Long(name) => {
                    let name = name.to_owned();
                    let known = FLAGS.iter().find(|flag| flag.name == name);
                    let flag = known.ok_or_else(|| unknown_option(&name))?;
                    given.give(flag.name, parser)?;
                }
                Arg::Short(letter) => return Err(unknown_option(&letter.to_string())),
                Arg::Value(text) => {
                    let text = text.to_string_lossy().into_owned();
                    if let Some(first) = given.scenario.replace(text) {
                        let fix = "name one scenario".to_owned();
                        return Err(problem(
                            &format!("`{first}`"),
                            "is one scenario too many",
                            fix,
                        ));
                    }
                }
            }
        }
        Ok(Read::Given(Box::new(given)))
    }

    fn give(&mut self, name: &'static str, parser: &mut lexopt::Parser) -> Result<(), Problem> {
        let flag = FLAGS.iter().find(|flag| flag.name == name);
        let placeholder = flag.map_or("", |flag| flag.placeholder);
        let text = if placeholder.is_empty() {
            "true".to_owned()
        } else {
            let missing = |_| {
                problem(
                    &format!("--{name}"),
                    "needs a value",
                    format!("write --{name} {placeholder}"),
                )
            };
            parser
                .value()
                .map_err(missing)?
                .to_string_lossy()
                .into_owned()
        };
        match name {
            "group" => self.groups.push(text),
            "set" => self.sets.push(text),
            _ => {
                if self.values.insert(name, text).is_some() {
                    let fix = "give it once".to_owned();
                    return Err(problem(
                        &format!("--{name}"),
                        "is given more than once",
                        fix,
                    ));
                }
            }
        }
        Ok(())
    }

    fn understand(mut self) -> Result<RunOptions, Vec<Problem>> {
        let one = |problem| vec![problem];
        let target = self
            .take("target")
            .unwrap_or_else(|| "127.0.0.1".to_owned());
        let target = Target::parse(&target).map_err(|complaint| one(at("target", complaint)))?;
        let scenario = self.scenario(target.tls)?;
        let has_tls = scenario.groups.iter().any(|group| group.tls);
        let target = target.with_port(if has_tls { 8883 } else { 1883 });
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
        let addresses = resolve(&target, ours).map_err(|complaint| one(at("target", complaint)))?;
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
            target,
            addresses,
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

    /// A file to write after the run: what stands in its way is said before.
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
    fn scenario(&mut self, tls: Option<bool>) -> Result<Scenario, Vec<Problem>> {
        let mut scenario = match &self.scenario {
            None if self.groups.is_empty() => {
                let fix = "name one, as in `ringload run pairs`, or describe groups with --group; `ringload list` shows what there is";
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
        problems.extend(tls.and_then(|tls| apply_tls_scheme(&mut scenario, tls).err()));
        if !changes.is_empty() {
            // What it says of itself may not be true any more.
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

fn unknown_option(name: &str) -> Problem {
    let dashes = if name.chars().count() == 1 { "-" } else { "--" };
    let fix = match nearest(name, FLAGS.iter().map(|flag| flag.name)) {
        Some(flag) => format!("did you mean --{flag}?"),
        None if keys::of_group(&name.replace('-', "_")).is_some() => {
            format!(
                "it is a key of a group: --set GROUP.{}=VALUE",
                name.replace('-', "_")
            )
        }
        None => SEE_HELP.to_owned(),
    };
    problem(&format!("{dashes}{name}"), "is not an option", fix)
}

fn before_command(option: &str) -> Problem {
    problem(
        option,
        "comes before the command",
        "write ringload run SCENARIO first, then options".to_owned(),
    )
}

/// The parser fails only at a value for an option that takes none, and at text that is no option.
fn not_an_option(error: &lexopt::Error) -> Problem {
    match error {
        lexopt::Error::UnexpectedValue { option, .. } => {
            problem(option, "takes no value", format!("write {option} alone"))
        }
        other => problem(
            "an argument",
            &format!("is wrong: {other}"),
            SEE_HELP.to_owned(),
        ),
    }
}

fn at(name: &str, complaint: Complaint) -> Problem {
    complaint.at(Place::CommandLine, format!("--{name}"))
}

fn problem(subject: &str, what: &str, fix: String) -> Problem {
    Complaint::new(what, fix).at(Place::CommandLine, subject)
}

/// As a file: what the program prints.
pub const STDOUT: &str = "-";
const SEE_HELP: &str = "`ringload --help` lists everything";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::keys;

    fn parse(line: &str) -> Result<Command, String> {
        Command::parse(line.split_whitespace().map(OsString::from))
            .map_err(|problems| problems[0].to_string())
    }

    fn scenario(line: &str) -> Scenario {
        match parse(line) {
            Ok(Command::Run(options)) => options.scenario,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn options_are_laid_over_a_scenario() {
        let changed = scenario(
            "run pairs --rate 400 --qos 1 --publishers 7 --payload 16..32 --duration 3 \
             --set subscribers.clients=8 --set drain=1s --protocol 5.0",
        );
        let publishers = &changed.groups[1];
        assert_eq!(
            (publishers.rate, publishers.window, publishers.clients),
            (Some(400.0), None, 7)
        );
        assert_eq!(publishers.payload.show(), "16..32");
        assert_eq!(changed.groups[0].clients, 8);
        assert_eq!(changed.duration, Duration::from_secs(3));
        assert_eq!(changed.drain, Duration::from_secs(1));
        assert!(changed.groups.iter().all(|group| group.qos as u8 == 1));
        assert!(changed.to_toml().contains("protocol = \"5.0\""));
    }

    #[test]
    fn a_target_without_a_port_gets_the_usual_one() {
        for (line, expected) in [
            ("run pairs", "127.0.0.1:1883"),
            ("run pairs -t 127.0.0.2", "127.0.0.2:1883"),
            ("run pairs -t 127.0.0.2 --tls insecure", "127.0.0.2:8883"),
            ("run pairs -t 127.0.0.2:7", "127.0.0.2:7"),
            ("run pairs -t ::1", "[::1]:1883"),
            ("run pairs -t [::1]", "[::1]:1883"),
            ("run pairs -t [::1]:7", "[::1]:7"),
            ("run pairs -t mqtt://127.0.0.2", "127.0.0.2:1883"),
            ("run pairs -t mqtts://127.0.0.2", "127.0.0.2:8883"),
            ("run pairs -t mqtts://127.0.0.2:7/", "127.0.0.2:7"),
        ] {
            let Ok(Command::Run(options)) = parse(line) else {
                panic!("{line}");
            };
            assert_eq!(options.target, expected, "{line}");
            assert_eq!(options.addresses, [expected.parse().unwrap()], "{line}");
        }
    }

    #[test]
    fn groups_are_described_on_the_command_line() {
        let args = [
            "run",
            "--group",
            "name=s subscribe=a/{index} subscribe=b/+",
            "--group",
            "publish=a/0 rate=5",
        ];
        let Ok(Command::Run(options)) = Command::parse(args.map(OsString::from)) else {
            panic!("not a run")
        };
        let groups = &options.scenario.groups;
        assert_eq!(
            (groups[0].name.as_str(), groups[0].subscribe.len()),
            ("s", 2)
        );
        assert_eq!(
            (groups[1].name.as_str(), groups[1].rate),
            ("group-2", Some(5.0))
        );
    }

    #[test]
    fn a_wrong_command_line_says_what_to_write() {
        for (line, expected) in [
            (
                "runn pairs",
                "`runn` is not a command\n  fix: did you mean `ringload run`?",
            ),
            (
                "pairs",
                "`pairs` is not a command\n  fix: did you mean `ringload run pairs`?",
            ),
            (
                "--qos 1",
                "--qos comes before the command\n  fix: write ringload run SCENARIO first, then options",
            ),
            ("run", "run needs a scenario\n  fix: name one"),
            (
                "run pars",
                "`pars` is not a scenario\n  fix: did you mean `pairs`?",
            ),
            ("run pairs fan-in", "`pairs` is one scenario too many"),
            (
                "run pairs --durration 3",
                "--durration is not an option\n  fix: did you mean --duration?",
            ),
            ("run pairs --keep-alive 3", "--keep-alive is not an option"),
            (
                "run pairs --duration",
                "--duration needs a value\n  fix: write --duration TIME",
            ),
            (
                "run pairs --qos 1 --qos 2",
                "--qos is given more than once\n  fix: give it once",
            ),
            (
                "run pairs --qos 7",
                "--qos is `7`, which is not a QoS\n  fix: write 0, 1 or 2",
            ),
            (
                "run pairs --duration 3x",
                "--duration is `3x`, whose unit is not us, ms, s, m, h or d",
            ),
            (
                "run pairs --rate 1 --window 2",
                "--window conflicts with --rate",
            ),
            (
                "run pairs --quiet=yes",
                "--quiet takes no value\n  fix: write --quiet alone",
            ),
            (
                "run pairs --cores 4000",
                "--cores holds 4000, which is not a core that this process may use",
            ),
            (
                "run pairs --json /does/not/exist.json",
                "--json is `/does/not/exist.json`, whose folder does not exist",
            ),
            (
                "run pairs --histograms /",
                "--histograms is `/`, which is a folder",
            ),
            (
                "run connect --rate 7",
                "--rate applies to no group of this scenario",
            ),
            (
                "run pairs --set clients=7",
                "--set clients=7 sets a key of a group\n  fix: name the group: subscribers or publishers.clients",
            ),
            (
                "run pairs --set x.clients=7",
                "--set x.clients=7 names no group\n  fix: the groups are subscribers, publishers",
            ),
            (
                "run pairs --set publishers.client=7",
                "--set publishers.client=7 sets no key\n  fix: did you mean `clients`?",
            ),
            (
                "run pairs --group publish=a",
                "group-3.publish needs a pace",
            ),
            ("run pairs --group x", "--group: `x` has no value"),
            (
                "run pairs --target nowhere:x",
                "--target is `nowhere:x`, which is not an address",
            ),
            (
                "run pairs --cores 3-1",
                "--cores holds `3-1`, which is neither a number nor a range",
            ),
            (
                "run pairs --source here",
                "--source holds `here`, which is neither an address",
            ),
            ("run pairs --run-id xyz", "--run-id is `xyz`"),
            ("show", "show needs a scenario"),
            (
                "run pairs -t ws://127.0.0.1:8083/mqtt",
                "--target is a ws:// address, and ringload does not speak WebSocket\n  fix: name the broker's port",
            ),
            (
                "run pairs -t mqtt://127.0.0.1 --tls insecure",
                "--target is a mqtt:// address, and the group subscribers connects over TLS\n  fix: write mqtts://",
            ),
            (
                "run pairs -t ::1 --source 127.0.0.1",
                "--target is `[::1]:1883`, which has IPv6 addresses only, and --source has those of IPv4",
            ),
            (
                "run pairs --password-file /does/not/exist",
                "--password-file is `/does/not/exist`, which cannot be used",
            ),
            (
                "run pairs --histograms -",
                "--histograms is `-`, which only --json can be",
            ),
            (
                "list pairs",
                "list: `pairs` is too much\n  fix: write ringload list",
            ),
            (
                "help rum",
                "help: `rum` is not a command\n  fix: did you mean `ringload help run`?",
            ),
            ("help --json", "help takes no option"),
        ] {
            let problem = parse(line).unwrap_err();
            assert!(
                problem.starts_with(&format!("command line: {expected}")),
                "{line}\n{problem}"
            );
        }
    }

    #[test]
    fn the_manual_lists_every_option_and_key() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/ringload.md");
        let page = std::fs::read_to_string(path).unwrap();
        let mark = page.find("<!-- Written by a test").unwrap();
        let written_by_hand = &page[..mark + page[mark..].find('\n').unwrap() + 1];
        let whole = format!("{written_by_hand}{}", manual());
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &whole).unwrap();
        } else {
            assert!(
                page == whole,
                "run UPDATE_DOCS=1 cargo test -p ringload the_manual"
            );
        }
    }

    #[test]
    fn a_file_that_is_missing_says_so() {
        let problem = parse("run ./does/not/exist.toml").unwrap_err();
        assert!(
            problem.starts_with("./does/not/exist.toml: the scenario file does not exist"),
            "{problem}"
        );
    }

    #[test]
    fn the_help_is_complete_and_no_wider_than_a_terminal() {
        let help = Help::Run.text();
        for line in help.lines() {
            assert!(line.chars().count() <= 108, "{line}");
        }
        for key in keys::group_keys() {
            assert!(
                help.contains(&format!("      {} = ", key.name)),
                "{}",
                key.name
            );
        }
        assert_eq!(
            list().lines().filter(|line| !line.starts_with(' ')).count(),
            builtin::ALL.len()
        );
    }

    #[test]
    fn the_short_help_fits_a_screen_and_every_command_has_one() {
        for line in ["", "-h", "help", "run -h", "show -h"] {
            assert!(
                matches!(parse(line), Ok(Command::Help(Help::Short))),
                "{line}"
            );
        }
        for line in ["--help", "run --help", "help run", "help show"] {
            assert!(
                matches!(parse(line), Ok(Command::Help(Help::Run))),
                "{line}"
            );
        }
        for (name, _) in COMMANDS {
            let help = Help::of(name).unwrap();
            assert!(help.text().contains(&format!("ringload {name}")), "{name}");
        }
        let short = Help::Short.text();
        assert!(short.lines().count() <= 24, "{short}");
        assert!(
            short.lines().all(|line| line.chars().count() <= 80),
            "{short}"
        );
    }

    #[test]
    fn the_list_for_programs_has_every_scenario() {
        let list: serde_json::Value = serde_json::from_str(&list_as_json()).unwrap();
        let names: Vec<&str> = list
            .as_array()
            .unwrap()
            .iter()
            .map(|scenario| scenario["name"].as_str().unwrap())
            .collect();
        let expected: Vec<&str> = builtin::ALL.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, expected);
        assert!(list[0]["about"].as_str().unwrap().len() > 10);
    }

    #[test]
    fn no_password_is_shown() {
        let path = std::env::temp_dir().join(format!("ringload-password-{}", std::process::id()));
        std::fs::write(&path, "\u{feff}S3cret\r\nmore\n").unwrap();
        let in_file = format!("run pairs --user u --password-file {}", path.display());
        for line in [
            "run pairs --user u --password S3cret",
            "run pairs --user u --set publishers.password=S3cret --set subscribers.password=S3cret",
            "run --group name=g;subscribe=a;user=u;password=S3cret",
            &in_file,
        ] {
            let words = line
                .split(' ')
                .map(|word| OsString::from(word.replace(';', " ")));
            let Ok(Command::Run(options)) = Command::parse(words) else {
                panic!("{line}");
            };
            let group = options.scenario.groups.last().unwrap();
            assert_eq!(
                group.password.as_ref().unwrap().as_str(),
                "S3cret",
                "{line}"
            );
            let shown = options.scenario.to_toml();
            assert!(!shown.contains("S3cret"), "{line}: {shown}");
        }
        std::fs::remove_file(&path).unwrap();
    }
}
