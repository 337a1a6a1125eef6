//! The command line: its arguments, and `--help`.
//!
//! Settings come from the table in `mod.rs`; only what is not a setting is defined here.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;

use lexopt::Arg;

use super::file::{Place, Problem};
use super::value;
use super::value::{Kind, Value};
use super::{SECTIONS, Setting, TABLE};
use crate::settings;

/// A command line, read.
#[derive(Debug)]
pub struct CommandLine {
    /// What to do.
    pub action: Action,
    /// The configuration file.
    pub file: Option<PathBuf>,
    /// Settings given on the command line.
    pub given: Vec<(&'static Setting, Value)>,
}

/// What the command line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Run the broker.
    Run,
    /// Say whether the configuration is right.
    CheckConfig,
    /// Print the whole configuration as a file.
    PrintConfig,
    /// Print what fits a screen.
    ShortHelp,
    /// Print the help.
    Help,
    /// Print the help of `ringmq passwd`.
    PasswdHelp,
    /// Print the help of `ringmq log`.
    LogHelp,
    /// Print the version.
    Version,
}

impl CommandLine {
    /// Reads the arguments, without the name of the program.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<CommandLine, Problem> {
        let mut parser = lexopt::Parser::from_args(args);
        let mut line = CommandLine {
            action: Action::Run,
            file: None,
            given: Vec::new(),
        };
        let mut is_first = true;
        while let Some(arg) = parser.next().map_err(|error| not_an_option(&error))? {
            let may_be_command = std::mem::take(&mut is_first);
            match arg {
                Arg::Value(word) if may_be_command && word == "help" => {
                    line.action = help_of(&mut parser)?;
                }
                Arg::Short('h') => line.action = Action::ShortHelp,
                Arg::Long("help") => line.action = Action::Help,
                Arg::Short('V') | Arg::Long("version") => line.action = Action::Version,
                Arg::Long("check-config") => line.choose(Action::CheckConfig),
                Arg::Long("print-config") => line.choose(Action::PrintConfig),
                Arg::Short('c') | Arg::Long("config") => {
                    let path = parser.value().map_err(|_| no_value("config", "FILE"))?;
                    if line.file.replace(PathBuf::from(path)).is_some() {
                        return Err(given_twice("config"));
                    }
                }
                Arg::Long(name) => {
                    let name = name.to_owned();
                    let row = settings::by_flag(&name).ok_or_else(|| unknown_option(&name))?;
                    let value = read_value(row, &mut parser)?;
                    line.give(row, value)?;
                }
                Arg::Short(letter) => return Err(unknown_option(&letter.to_string())),
                Arg::Value(text) => return Err(stray_argument(&text)),
            }
            match line.action {
                Action::ShortHelp
                | Action::Help
                | Action::PasswdHelp
                | Action::LogHelp
                | Action::Version => break,
                Action::Run | Action::CheckConfig | Action::PrintConfig => {}
            }
        }
        Ok(line)
    }

    /// `--help` and `--version` win over everything that stands before them.
    fn choose(&mut self, action: Action) {
        self.action = action;
    }

    fn give(&mut self, row: &'static Setting, value: Value) -> Result<(), Problem> {
        let earlier = self
            .given
            .iter_mut()
            .find(|(known, _)| known.flag == row.flag);
        match (earlier, value) {
            (Some((_, Value::Addresses(all))), Value::Addresses(more)) => all.extend(more),
            (Some((_, Value::List(all))), Value::List(more)) => all.extend(more),
            (Some(_), _) => return Err(given_twice(row.flag)),
            (None, value) => self.given.push((row, value)),
        }
        Ok(())
    }
}

/// `ringmq help [passwd|log]`.
fn help_of(parser: &mut lexopt::Parser) -> Result<Action, Problem> {
    match parser.next().map_err(|error| not_an_option(&error))? {
        None => Ok(Action::ShortHelp),
        Some(Arg::Value(word)) if word == "passwd" => Ok(Action::PasswdHelp),
        Some(Arg::Value(word)) if word == "log" => Ok(Action::LogHelp),
        Some(Arg::Value(word)) => {
            let subject = format!("help: `{}`", word.to_string_lossy());
            let fix = "write ringmq help, ringmq help passwd, ringmq help log, or ringmq --help"
                .to_owned();
            Err(problem(&subject, "is not a command", fix))
        }
        Some(Arg::Long(_) | Arg::Short(_)) => {
            Err(problem("help", "takes no option", SEE_HELP.to_owned()))
        }
    }
}

/// The text of `-h`: what fits a screen.
pub fn short_help() -> String {
    format!(
        "{}\n\n\
         Usage: ringmq [--config FILE] [SETTING]...\n\
         \x20      ringmq passwd [OPTION]... FILE USER   Edit a password file\n\
         \x20      ringmq log COMMAND DIR ...            Inspect, repair, back up a data directory\n\
         \x20      ringmq ctl COMMAND                    Show and control a running broker\n\
         \x20      ringmq help [passwd|log]              Print a help text\n\n\
         \x20 -c, --config FILE     Read settings from a TOML file\n\
         \x20     --check-config    Check the settings, and stop\n\
         \x20     --print-config    Print all settings as a file, and stop\n\
         \x20     --listen ADDRESS  Where to listen: 0.0.0.0:1883, mqtts://..., ws://..., wss://...\n\
         \x20     --allow-anonymous Let clients in without a password\n\
         \x20     --password-file FILE, --acl-file FILE, --certificate FILE, --key FILE\n\n\
         Examples:\n\
         \x20 ringmq                                          This machine only, port 1883\n\
         \x20 ringmq --listen 0.0.0.0:1883 --allow-anonymous  Everybody on the network\n\
         \x20 ringmq --print-config > ringmq.toml             A file to start from\n\n\
         ringmq --help lists every setting.\n",
        version_line()
    )
}

/// The text of `--help`.
pub fn help() -> String {
    let mut text = format!(
        "{}\n\n\
         Usage: ringmq [--config FILE] [SETTING]...\n\
         \x20      ringmq passwd [OPTION]... FILE USER\n\
         \x20      ringmq log inspect|verify|repair|backup|export|import DIR ...\n\
         \x20      ringmq ctl status|ready|shards|clients|token ...\n\
         \x20      ringmq help [passwd|log]\n\n\
         \x20 -c, --config FILE\n\
         \x20         Read settings from this TOML file. The command line overrides the file, the\n\
         \x20         file the defaults\n\
         \x20     --check-config\n\
         \x20         Check the settings, show which differ from the defaults, and exit\n\
         \x20     --print-config\n\
         \x20         Print all settings as a configuration file, and exit\n\
         \x20 -h, --help\n\
         \x20         Print this help; -h prints what fits a screen\n\
         \x20 -V, --version\n\
         \x20         Print the version\n\n\
         Sizes are bytes or have a unit (B, KiB, MiB, GiB, TiB); times are seconds or have a unit\n\
         (ms, s, m, h, d). A running broker reloads users, rules and certificates, and the\n\
         settings that name their files, when they change or on SIGHUP. Others need a restart.\n",
        version_line()
    );
    for (section, about) in SECTIONS {
        let _ = writeln!(text, "\n{about}, section [{section}] of the file:");
        for row in TABLE.iter().filter(|row| row.section == *section) {
            help_row(&mut text, row);
        }
    }
    text.push_str(
        "\nExamples:\n\
         \x20 ringmq\n\
         \x20         Serve this machine only, on port 1883\n\
         \x20 ringmq --listen 0.0.0.0:1883 --allow-anonymous\n\
         \x20         Serve everybody on the network, without passwords\n\
         \x20 ringmq --listen mqtts://127.0.0.1:8883 --certificate server.pem --key server.key\n\
         \x20         Serve this machine over TLS\n\
         \x20 ringmq --password-file passwords --acl-file rules\n\
         \x20         Admit clients with a password; see `ringmq passwd --help`\n\
         \x20 ringmq --print-config > ringmq.toml\n\
         \x20         Write a file to start from\n\n\
         Exit codes: 0 stopped as requested, 1 could not run, 2 wrong settings.\n",
    );
    text
}

/// Name, version and what it is.
pub fn version_line() -> String {
    format!(
        "ringmq {}, an MQTT 3.1.1 and 5.0 broker for Linux servers",
        env!("CARGO_PKG_VERSION")
    )
}

fn help_row(text: &mut String, row: &Setting) {
    let placeholder = match row.kind {
        Kind::Switch => "[=true|false]".to_owned(),
        Kind::Choice(words) => format!(" {}", words.join("|")),
        Kind::Count(_)
        | Kind::PowerOfTwo(_)
        | Kind::Size(_)
        | Kind::Seconds(_)
        | Kind::Millis(_)
        | Kind::Addresses
        | Kind::List(_)
        | Kind::Cores
        | Kind::LogFilter
        | Kind::Text
        | Kind::Directory => format!(" {}", row.kind.placeholder()),
    };
    let again = match row.kind {
        Kind::Addresses | Kind::List(_) => "...",
        Kind::Count(_)
        | Kind::PowerOfTwo(_)
        | Kind::Size(_)
        | Kind::Seconds(_)
        | Kind::Millis(_)
        | Kind::Switch
        | Kind::Cores
        | Kind::Choice(_)
        | Kind::LogFilter
        | Kind::Text
        | Kind::Directory => "",
    };
    let _ = writeln!(text, "      --{}{placeholder}{again}", row.flag);
    for line in wrap(&row.about(), HELP_COLUMNS - HELP_INDENT) {
        let _ = writeln!(text, "{:HELP_INDENT$}{line}", "");
    }
}

fn read_value(row: &'static Setting, parser: &mut lexopt::Parser) -> Result<Value, Problem> {
    let text = match row.kind {
        // A switch stands alone, or carries its value after "=".
        Kind::Switch => match parser.optional_value() {
            Some(text) => text,
            None => return Ok(Value::Switch(true)),
        },
        Kind::Count(_)
        | Kind::PowerOfTwo(_)
        | Kind::Size(_)
        | Kind::Seconds(_)
        | Kind::Millis(_)
        | Kind::Addresses
        | Kind::List(_)
        | Kind::Cores
        | Kind::Choice(_)
        | Kind::LogFilter
        | Kind::Text
        | Kind::Directory => parser
            .value()
            .map_err(|_| no_value(row.flag, row.kind.placeholder()))?,
    };
    let text = text.to_string_lossy();
    row.parse(&text).map_err(|complaint| Problem {
        place: Place::CommandLine,
        subject: format!("--{}", row.flag),
        what: complaint.what,
        fix: complaint.fix,
    })
}

fn unknown_option(name: &str) -> Problem {
    let dashes = if name.chars().count() == 1 { "-" } else { "--" };
    let flags = TABLE.iter().map(|row| row.flag).chain(OTHER_FLAGS);
    let fix = match value::nearest(name, flags) {
        Some(flag) => format!("did you mean --{flag}?"),
        None => SEE_HELP.to_owned(),
    };
    problem(&format!("{dashes}{name}"), "is not an option", fix)
}

fn stray_argument(text: &OsString) -> Problem {
    let text = text.to_string_lossy();
    let fix = if text.ends_with(".toml") || text.contains('/') {
        format!("did you mean --config {text}?")
    } else {
        SEE_HELP.to_owned()
    };
    let what = "is not an option, and there are no other arguments";
    problem(&format!("`{text}`"), what, fix)
}

fn no_value(flag: &str, placeholder: &str) -> Problem {
    problem(
        &format!("--{flag}"),
        "needs a value",
        format!("write --{flag} {placeholder}"),
    )
}

fn given_twice(flag: &str) -> Problem {
    let fix = "give it once".to_owned();
    problem(&format!("--{flag}"), "is given more than once", fix)
}

/// The parser fails only on a value for an option that takes none, and on text that is not an
/// option.
fn not_an_option(error: &lexopt::Error) -> Problem {
    match error {
        lexopt::Error::UnexpectedValue { option, .. } => problem(
            option,
            "takes no value",
            "leave out what follows the equals sign".to_owned(),
        ),
        _ => problem("the command line", &error.to_string(), SEE_HELP.to_owned()),
    }
}

fn problem(subject: &str, what: &str, fix: String) -> Problem {
    Problem {
        place: Place::CommandLine,
        subject: subject.to_owned(),
        what: what.to_owned(),
        fix,
    }
}

/// Breaks text at spaces into lines of at most `columns` characters, where a word permits.
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

const OTHER_FLAGS: [&str; 5] = ["config", "check-config", "print-config", "help", "version"];
const SEE_HELP: &str = "`ringmq --help` lists every option";
const HELP_COLUMNS: usize = 92;
const HELP_INDENT: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<CommandLine, String> {
        CommandLine::parse(line.split_whitespace().map(OsString::from))
            .map_err(|problem| problem.to_string())
    }

    #[test]
    fn options_are_read() {
        let line = parse("--listen 127.0.0.1:1 --listen=[::1]:2 --shards 2 --allow-anonymous -c x")
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
                "help: `me` is not a command\n  fix: write ringmq help, ringmq help passwd, \
                 ringmq help log, or ringmq --help",
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
                parse(line).unwrap_err(),
                format!("command line: {expected}"),
                "{line}"
            );
        }
    }

    #[test]
    fn help_and_version_win() {
        assert_eq!(
            parse("--shards 2 --help --nonsense").unwrap().action,
            Action::Help
        );
        assert_eq!(parse("--check-config -V").unwrap().action, Action::Version);
        for (line, expected) in [
            ("-h", Action::ShortHelp),
            ("help", Action::ShortHelp),
            ("help passwd", Action::PasswdHelp),
            ("help log", Action::LogHelp),
        ] {
            assert_eq!(parse(line).unwrap().action, expected, "{line}");
        }
    }

    #[test]
    fn the_short_help_fits_a_screen_and_names_only_what_there_is() {
        let help = short_help();
        assert!(help.lines().count() <= 24, "{help}");
        for line in help.lines() {
            assert!(line.chars().count() <= HELP_COLUMNS, "{line}");
        }
        let flags = help.split("--").skip(1).filter_map(|text| {
            let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '-')?;
            (end > 0).then(|| &text[..end])
        });
        for flag in flags {
            let is_known = settings::by_flag(flag).is_some() || OTHER_FLAGS.contains(&flag);
            assert!(is_known, "--{flag}");
        }
    }

    #[test]
    fn no_line_of_the_help_is_wider_than_a_terminal() {
        for line in help().lines() {
            assert!(line.chars().count() <= HELP_COLUMNS, "{line}");
        }
    }
}
