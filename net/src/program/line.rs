//! The command line of the program: its commands, its help, and what is said of one that is wrong.
//!
//! Options of settings come from the table (`settings`), commands from the types beside what carries them out. clap splits the
//! arguments; what it refuses is said as a `Problem`, as all else is.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Command, CommandFactory as _, FromArgMatches, Parser, ValueHint};
use ringmq_problem::papers::{self, Shell};
use ringmq_problem::usage::{path_of, problem_of, subject_of};
use ringmq_problem::{Complaint, Place, Problem, nearest};

use crate::settings::cli::{self, CommandLine};
use crate::{VERSION, ctl, data, doctor, passwd};

/// What a command line asks for.
#[derive(Debug)]
pub enum Order {
    /// The broker, or its settings.
    Broker(CommandLine),
    /// A configuration of Mosquitto as one of ours.
    Import(PathBuf),
    /// A user in a password file.
    Passwd(passwd::Line),
    /// A tool for data directories.
    Log(data::Line),
    /// Something of a running broker.
    Ctl(ctl::Line),
    /// A look at the machine.
    Doctor(doctor::Line),
    /// Pages for `man`, written into a directory.
    ManPages(PathBuf),
    /// A text to print: a help text, the version, completions.
    Say(String),
}

/// Reads the arguments, without the name of the program.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Order, Vec<Problem>> {
    let args: Vec<OsString> = args.into_iter().collect();
    let mut root = command();
    let named = std::iter::once(OsString::from(NAME)).chain(args.iter().cloned());
    let matches = match root.try_get_matches_from_mut(named) {
        Ok(matches) => matches,
        Err(error) => return refused(&error, &root, &args),
    };
    match matches.subcommand() {
        None => match matches.get_one::<PathBuf>(cli::IMPORT) {
            Some(file) => Ok(Order::Import(file.clone())),
            None => CommandLine::read(&matches).map(Order::Broker),
        },
        Some(("passwd", matches)) => Ok(Order::Passwd(taken(matches))),
        Some(("log", matches)) => Ok(Order::Log(taken(matches))),
        Some(("ctl", matches)) => Ok(Order::Ctl(taken(matches))),
        Some(("doctor", matches)) => Ok(Order::Doctor(taken(matches))),
        Some(("completions", matches)) => {
            let Completions { shell } = taken(matches);
            Ok(Order::Say(papers::completions(command_of_shells(), shell)))
        }
        Some(("man", matches)) => match taken(matches) {
            ManPages {
                directory: Some(directory),
            } => Ok(Order::ManPages(directory)),
            ManPages { directory: None } => Ok(Order::Say(papers::man_page(command()))),
        },
        Some(("help", matches)) => {
            let Help { command } = taken(matches);
            help_of(&root, &command)
        }
        Some((other, _)) => unreachable!("clap takes no command `{other}`"),
    }
}

/// The whole command line, as clap takes it.
pub fn command() -> Command {
    let help = with_form(Help::command());
    root().disable_help_subcommand(true).subcommand(help)
}

/// The same for completions: clap's own `help` knows the commands that may follow it.
fn command_of_shells() -> Command {
    root()
}

fn root() -> Command {
    let root = Command::new(NAME)
        .version(VERSION)
        .about("An MQTT 3.1.1 and 5.0 broker for Linux servers")
        .override_usage("ringmq [--config FILE] [SETTING]...\n       ringmq COMMAND ...")
        .before_long_help(version_line())
        .after_long_help(AFTER_HELP)
        .help_template(ROOT_HELP)
        .max_term_width(HELP_COLUMNS)
        .args_conflicts_with_subcommands(true);
    let tools = [
        passwd::Line::command(),
        data::Line::command(),
        ctl::Line::command(),
        doctor::Line::command(),
        Completions::command(),
        ManPages::command(),
    ];
    cli::with_options(root).subcommands(tools.map(with_form))
}

fn with_form(tool: Command) -> Command {
    tool.help_template(TOOL_HELP).max_term_width(HELP_COLUMNS)
}

/// Make completions for a shell
#[derive(Debug, Parser)]
#[command(name = "completions", after_help = COMPLETIONS_AFTER_HELP)]
struct Completions {
    /// The shell
    shell: Shell,
}

/// Print the man page, or write the pages of all commands
#[derive(Debug, Parser)]
#[command(name = "man")]
struct ManPages {
    /// Write all pages there; it has to exist
    #[arg(value_hint = ValueHint::DirPath)]
    directory: Option<PathBuf>,
}

/// Print a help text
#[derive(Debug, Parser)]
#[command(name = "help", disable_help_flag = true)]
struct Help {
    /// About this command
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
}

fn taken<T: FromArgMatches>(matches: &clap::ArgMatches) -> T {
    let read = T::from_arg_matches(matches);
    read.unwrap_or_else(|error| unreachable!("clap has checked the arguments: {error}"))
}

/// Help and version win over what stands beside them; all else is a problem.
fn refused(error: &clap::Error, root: &Command, args: &[OsString]) -> Result<Order, Vec<Problem>> {
    let is_root = path_of(root, args).len() == 1;
    match error.kind() {
        ErrorKind::DisplayHelp if is_root && wants_short_help(args) => Ok(Order::Say(short_help())),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            Ok(Order::Say(error.render().to_string()))
        }
        ErrorKind::InvalidSubcommand if is_root => {
            let is_first = args
                .first()
                .is_some_and(|arg| arg == OsStr::new(&subject_of(error)));
            Err(vec![stray_argument(&subject_of(error), root, is_first)])
        }
        // A command behind options.
        ErrorKind::ArgumentConflict if root.find_subcommand(subject_of(error)).is_some() => {
            Err(vec![stray_argument(&subject_of(error), root, false)])
        }
        ErrorKind::UnknownArgument if args.first().is_some_and(|arg| arg == "help") => {
            let complaint = Complaint::new("takes no option", SEE_HELP);
            Err(vec![complaint.at(Place::CommandLine, "help")])
        }
        _ => Err(vec![problem_of(error, root, args)]),
    }
}

/// clap does not say which of the two options it has met.
fn wants_short_help(args: &[OsString]) -> bool {
    let mut asked = args.iter().filter(|arg| *arg == "-h" || *arg == "--help");
    asked.next().is_some_and(|arg| arg == "-h")
}

fn stray_argument(text: &str, root: &Command, is_first: bool) -> Problem {
    let names = root.get_subcommands().map(Command::get_name);
    let ctl = root.find_subcommand("ctl");
    let verbs = ctl.into_iter().flat_map(Command::get_subcommands);
    let near = |names: Vec<&str>| nearest(text, names.into_iter()).map(str::to_owned);
    let command = near(names.collect()).or_else(|| {
        let verb = near(verbs.map(Command::get_name).collect())?;
        Some(format!("ctl {verb}"))
    });
    let fix = match command.filter(|_| is_first) {
        Some(command) => format!("did you mean `{NAME} {command}`?"),
        None if text.ends_with(".toml") || text.contains('/') => {
            format!("did you mean --config {text}?")
        }
        None => SEE_HELP.to_owned(),
    };
    let what = "is not an option, and there are no other arguments";
    Complaint::new(what, fix).at(Place::CommandLine, format!("`{text}`"))
}

/// `ringmq help [COMMAND]...`: as `ringmq COMMAND... --help`.
fn help_of(root: &Command, names: &[String]) -> Result<Order, Vec<Problem>> {
    let mut innermost = root;
    for name in names {
        let Some(found) = innermost.find_subcommand(name) else {
            return Err(vec![no_such_command(innermost, name)]);
        };
        innermost = found;
    }
    match innermost.get_name() {
        NAME | "help" => Ok(Order::Say(short_help())),
        _ => parse(
            names
                .iter()
                .map(String::as_str)
                .chain(["--help"])
                .map(OsString::from),
        ),
    }
}

fn no_such_command(among: &Command, name: &str) -> Problem {
    let all: Vec<&str> = among.get_subcommands().map(Command::get_name).collect();
    let fix = match (nearest(name, all.iter().copied()), all.is_empty()) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, false) => format!("the commands are {}", all.join(", ")),
        (None, true) => SEE_HELP.to_owned(),
    };
    let complaint = Complaint::new("is not a command", fix);
    complaint.at(Place::CommandLine, format!("help: `{name}`"))
}

/// The text of `-h`: what fits a screen.
fn short_help() -> String {
    format!("{}\n\n{SHORT_HELP}", version_line())
}

/// Name, version and what it is.
fn version_line() -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!("{NAME} {version}, an MQTT 3.1.1 and 5.0 broker for Linux servers")
}

const NAME: &str = "ringmq";
const SEE_HELP: &str = "`ringmq --help` lists every option";
const HELP_COLUMNS: usize = 92;
const ROOT_HELP: &str = "{before-help}{usage-heading} {usage}\n\n{all-args}{after-help}";
const TOOL_HELP: &str = "{usage-heading} {usage}\n\n{about-with-newline}\n{all-args}{after-help}";

const SHORT_HELP: &str = "\
Usage: ringmq [--config FILE] [SETTING]...
       ringmq passwd [OPTION]... FILE USER   Edit a password file
       ringmq log COMMAND DIR ...            Repair and back up stored data
       ringmq ctl COMMAND                    Show and control a running broker
       ringmq doctor                         Check whether this machine is fit
       ringmq help [COMMAND]                 Print a help text

  -c, --config FILE       Read settings from a TOML file
      --check-config      Check the settings, and stop
      --print-config      Print all settings as a file, and stop
      --listen ADDRESS    Where: 0.0.0.0:1883, mqtts://..., ws://..., wss://...
      --allow-anonymous   Let clients in without a password
      --password-file FILE, --acl-file FILE, --certificate FILE, --key FILE

Examples:
  ringmq                                           This machine only, port 1883
  ringmq --listen 0.0.0.0:1883 --allow-anonymous   Everybody on the network
  ringmq --print-config > ringmq.toml              A file to start from

ringmq --help lists every setting.
";

const AFTER_HELP: &str = "\
Sizes are bytes or have a unit (B, KiB, MiB, GiB, TiB); times are seconds or have a unit (ms, s, m, h, d). A running broker \
reloads users, rules and certificates, and the settings that name their files, when they change or on SIGHUP. Others need a \
restart.

Examples:
  ringmq
          Serve this machine only, on port 1883
  ringmq --listen 0.0.0.0:1883 --allow-anonymous
          Serve everybody on the network, without passwords
  ringmq --listen mqtts://127.0.0.1:8883 --certificate server.pem --key server.key
          Serve this machine over TLS
  ringmq --password-file passwords --acl-file rules
          Admit clients with a password; see `ringmq passwd --help`
  ringmq --print-config > ringmq.toml
          Write a file to start from

Exit codes: 0 stopped as requested, 1 could not run, 2 wrong settings, 74 what is to be kept cannot be stored any more, 130 or 143 cut short \
by a second SIGINT or SIGTERM.";

const COMPLETIONS_AFTER_HELP: &str = "\
Examples:
  ringmq completions bash > ~/.local/share/bash-completion/completions/ringmq
  ringmq completions zsh > ~/.zfunc/_ringmq
  ringmq completions fish > ~/.config/fish/completions/ringmq.fish";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::cli::Action;

    fn order(line: &str) -> Result<Order, String> {
        super::parse(line.split_whitespace().map(OsString::from))
            .map_err(|problems| problems[0].to_string())
    }

    fn broker(line: &str) -> Result<CommandLine, String> {
        match order(line)? {
            Order::Broker(line) => Ok(line),
            other => panic!("{line}: {other:?}"),
        }
    }

    fn said(line: &str) -> String {
        match order(line) {
            Ok(Order::Say(text)) => text,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn options_are_read() {
        let line =
            broker("--listen 127.0.0.1:1 --listen=[::1]:2 --shards 2 --allow-anonymous -c x")
                .unwrap();
        let shown: Vec<String> = line
            .given
            .iter()
            .map(|(row, value)| format!("{}={}", row.flag, row.show(value)))
            .collect();
        assert_eq!(
            shown,
            [
                "listen=127.0.0.1:1, [::1]:2",
                "shards=2",
                "allow-anonymous=true"
            ]
        );
        assert_eq!(line.file, Some(PathBuf::from("x")));
        assert_eq!(line.action, Action::Run);
    }

    #[test]
    fn a_wrong_command_line_says_what_to_write() {
        for (line, expected) in [
            (
                "--shard 2",
                "--shard is not an option\n  fix: did you mean --shards?",
            ),
            (
                "--max-packet-size 2",
                "--max-packet-size is not an option\n  fix: did you mean --packet-size-max?",
            ),
            (
                "-x",
                "-x is not an option\n  fix: `ringmq --help` lists every option",
            ),
            (
                "--shards",
                "--shards needs a value\n  fix: write --shards N",
            ),
            (
                "--shards 0",
                "--shards is 0, which is out of range\n  fix: write a value from 1 to 64",
            ),
            (
                "--shards 1 --shards 2",
                "--shards is given more than once\n  fix: give it once",
            ),
            (
                "ringmq.toml",
                "`ringmq.toml` is not an option, and there are no other arguments\n  fix: did you \
                 mean --config ringmq.toml?",
            ),
            (
                "start",
                "`start` is not an option, and there are no other arguments\n  fix: `ringmq \
                 --help` lists every option",
            ),
            (
                "help me",
                "help: `me` is not a command\n  fix: the commands are passwd, log, ctl, doctor, \
                 completions, man, help",
            ),
            (
                "--shards 1 help",
                "`help` is not an option, and there are no other arguments\n  fix: `ringmq --help` \
                 lists every option",
            ),
            (
                "--check-config=x",
                "--check-config takes no value\n  fix: leave out what follows the equals sign",
            ),
            (
                "--listen localhost:1883",
                "--listen holds `localhost:1883`, which is not IP:PORT\n  fix: did you mean \
                 127.0.0.1:1883? Host names are not resolved",
            ),
            (
                "--allow-anonymous=yes",
                "--allow-anonymous is `yes`, which is neither true nor false\n  fix: write true or \
                 false",
            ),
        ] {
            assert_eq!(
                order(line).unwrap_err(),
                format!("command line: {expected}"),
                "{line}"
            );
        }
    }

    #[test]
    fn all_wrong_values_are_reported_at_once() {
        let line = "--shards 0 --log-format x --shards 2";
        let problems = super::parse(line.split(' ').map(OsString::from)).unwrap_err();
        let subjects: Vec<&str> = problems.iter().map(|p| p.subject.as_str()).collect();
        assert_eq!(subjects, ["--shards", "--log-format"]);
    }

    #[test]
    fn mistakes_in_commands_are_said_in_the_same_words() {
        for (line, expected) in [
            (
                "passwdd x",
                "`passwdd` is not an option, and there are no other arguments\n  fix: did you \
                 mean `ringmq passwd`?",
            ),
            (
                "ctl clients lst",
                "ctl: `lst` is not a command\n  fix: did you mean `ringmq ctl clients list`?",
            ),
            (
                "ctl clients list --limt 3",
                "ctl: --limt is not an option\n  fix: did you mean --limit?",
            ),
            (
                "ctl --output xml status",
                "ctl: --output is `xml`\n  fix: write table, json or csv",
            ),
            (
                "ctl clients list --limit x",
                "ctl: --limit takes a number, and `x` is none\n  fix: write --limit N",
            ),
            (
                "ctl clients list --away --connected",
                "ctl: --away and --connected do not go together\n  fix: keep one of them",
            ),
            (
                "ctl clients show",
                "ctl: clients show needs CLIENT\n  fix: `ringmq ctl clients show --help` lists \
                 every option",
            ),
            (
                "ctl retained delete",
                "ctl: retained delete needs TOPIC or --filter\n  fix: `ringmq ctl retained delete",
            ),
            (
                "ctl retained delete x --filter y",
                "ctl: TOPIC and --filter do not go together\n  fix: keep one of them",
            ),
            (
                "ctl trace",
                "ctl: trace needs CLIENT, --topic FILTER or --address IP\n  fix: `ringmq ctl trace",
            ),
            (
                "ctl trace x --topic y",
                "ctl: CLIENT and --topic do not go together\n  fix: keep one of them",
            ),
            (
                "ctl traces end x",
                "ctl: ID takes a number, and `x` is none\n  fix: write a number",
            ),
            (
                "ctl sessions delete --all --rate 0",
                "ctl: --rate is `0`: nothing would ever be done; leave --rate out for as fast as \
                 it goes\n  fix: write --rate N",
            ),
            (
                "completions tcsh",
                "completions: SHELL is `tcsh`\n  fix: write bash, zsh or fish",
            ),
            ("help --json", "help takes no option"),
            (
                "--check-config --print-config",
                "--check-config and --print-config do not go together\n  fix: keep one of them",
            ),
        ] {
            let problem = order(line).unwrap_err();
            assert!(
                problem.starts_with(&format!("command line: {expected}")),
                "{line}\n{problem}"
            );
        }
    }

    #[test]
    fn help_and_version_win() {
        let whole = said("--shards 2 --help --nonsense");
        assert!(whole.contains("--receive-maximum-enforced"), "{whole}");
        assert_eq!(said("--check-config -V"), format!("ringmq {VERSION}\n"));
        assert_eq!(said("-h"), short_help());
        assert_eq!(said("help"), short_help());
        assert_eq!(said("help passwd"), said("passwd --help"));
        assert_eq!(said("help ctl clients"), said("ctl clients --help"));
        for tool in ["passwd", "log", "ctl", "doctor", "completions", "man"] {
            let help = said(&format!("{tool} --help"));
            let usage = format!("Usage: ringmq {tool}");
            assert!(help.starts_with(&usage), "{help}");
        }
    }

    #[test]
    fn the_short_help_fits_a_screen_and_names_only_what_there_is() {
        let help = short_help();
        assert!(help.lines().count() <= 24, "{help}");
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        let flags = help.split("--").skip(1).filter_map(|text| {
            let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '-')?;
            (end > 0).then(|| &text[..end])
        });
        let command = command();
        for flag in flags {
            let mut known = command.get_arguments().filter_map(clap::Arg::get_long);
            assert!(
                flag == "help" || known.any(|known| known == flag),
                "--{flag}"
            );
        }
    }

    #[test]
    fn no_line_of_the_help_is_wider_than_a_terminal() {
        for command in ["", "passwd ", "log ", "ctl ", "ctl clients list ", "man "] {
            for line in said(&format!("{command}--help")).lines() {
                assert!(line.chars().count() <= HELP_COLUMNS, "{line}");
            }
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn shells_and_man_know_every_command_and_setting() {
        for shell in ["bash", "zsh", "fish"] {
            let script = said(&format!("completions {shell}"));
            for word in ["password-file", "clients", "verify", "fix-script"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
        let page = said("man").replace('\\', "");
        for row in crate::settings::TABLE {
            assert!(page.contains(&format!("--{}", row.flag)), "{}", row.flag);
        }
    }
}
