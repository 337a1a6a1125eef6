//! The settings on the command line: their options, and what was given.
//!
//! Settings come from the table in `mod.rs`; only what is not a setting is defined here.
//!
//! Not here: the other commands of the program, and what clap refuses (`line.rs`).

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint};

use super::file::{Place, Problem};
use super::value::{Items, Kind, Value};
use super::{SECTIONS, Setting, TABLE};

/// What the command line says about the broker.
#[derive(Debug)]
pub struct CommandLine {
    /// What to do.
    pub action: Action,
    /// The configuration file.
    pub file: Option<PathBuf>,
    /// Settings given on the command line.
    pub given: Vec<(&'static Setting, Value)>,
}

/// What to do with a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Run the broker.
    Run,
    /// Say whether the configuration is right.
    CheckConfig,
    /// Print the whole configuration as a file.
    PrintConfig,
}

impl CommandLine {
    /// Understands what clap has split; all problems at once.
    pub fn read(matches: &ArgMatches) -> Result<CommandLine, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut given = Vec::new();
        for row in TABLE {
            match matches.get_many::<OsString>(row.flag) {
                None => {}
                Some(texts) => match value_of(row, texts) {
                    Ok(value) => {
                        let at = matches.indices_of(row.flag).and_then(|mut all| all.next());
                        given.push((at, row, value));
                    }
                    Err(problem) => problems.push(problem),
                },
            }
        }
        // As they were written.
        given.sort_by_key(|(at, ..)| *at);
        let given = given.into_iter().map(|(_, row, value)| (row, value));
        let mut files = matches.get_many::<OsString>(CONFIG).unwrap_or_default();
        let file = files.next().map(PathBuf::from);
        if files.next().is_some() {
            problems.push(given_twice(CONFIG));
        }
        let action = match (matches.get_flag(CHECK), matches.get_flag(PRINT)) {
            (_, true) => Action::PrintConfig,
            (true, false) => Action::CheckConfig,
            (false, false) => Action::Run,
        };
        match problems.is_empty() {
            true => Ok(CommandLine {
                action,
                file,
                given: given.collect(),
            }),
            false => Err(problems),
        }
    }
}

/// Adds the option of every setting, and those that say what to do with them.
pub fn with_options(command: Command) -> Command {
    let own = [
        Arg::new(CONFIG)
            .short('c')
            .long(CONFIG)
            .value_name("FILE")
            .value_parser(clap::value_parser!(OsString))
            .value_hint(ValueHint::FilePath)
            .allow_hyphen_values(true)
            .action(ArgAction::Append)
            .help("Read settings from a TOML file")
            .long_help(
                "Read settings from this TOML file. The command line overrides the file, the file the defaults",
            ),
        Arg::new(CHECK)
            .long(CHECK)
            .action(ArgAction::SetTrue)
            .conflicts_with(PRINT)
            .help("Check the settings, show which differ from the defaults, and exit"),
        Arg::new(PRINT)
            .long(PRINT)
            .action(ArgAction::SetTrue)
            .help("Print all settings as a configuration file, and exit"),
        Arg::new(IMPORT)
            .long(IMPORT)
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .value_hint(ValueHint::FilePath)
            .exclusive(true)
            .help("Print a mosquitto.conf as a configuration file, and exit"),
    ];
    let sections = SECTIONS.iter();
    let settings = sections.flat_map(|(section, about)| {
        let heading = format!("{about}, section [{section}] of the file");
        let rows = TABLE.iter().filter(|row| row.section == *section);
        rows.map(move |row| option_of(row).help_heading(heading.clone()))
    });
    command.args(own).args(settings)
}

fn option_of(row: &'static Setting) -> Arg {
    let words: &[&str] = match row.kind {
        Kind::Choice(words) => words,
        Kind::Switch => &["true", "false"],
        _ => &[],
    };
    let arg = Arg::new(row.flag)
        .long(row.flag)
        .action(ArgAction::Append)
        .value_parser(AnyText(words))
        .hide_possible_values(true)
        .allow_hyphen_values(true)
        .value_hint(hint_of(row.kind))
        .help(first_sentence(row.help))
        .long_help(row.about());
    match row.kind {
        // A switch stands alone, or carries its value after "=".
        Kind::Switch => arg
            .value_name("true|false")
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
        Kind::Choice(words) => arg.value_name(words.join("|")),
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
        | Kind::Directory => arg.value_name(row.kind.placeholder()),
    }
}

fn hint_of(kind: Kind) -> ValueHint {
    match kind {
        Kind::List(Items::Paths) => ValueHint::FilePath,
        Kind::List(Items::Urls) => ValueHint::Url,
        Kind::Directory => ValueHint::DirPath,
        Kind::List(
            Items::Networks | Items::Origins | Items::Keys | Items::Texts | Items::AdminAddresses,
        )
        | Kind::Count(_)
        | Kind::PowerOfTwo(_)
        | Kind::Size(_)
        | Kind::Seconds(_)
        | Kind::Millis(_)
        | Kind::Switch
        | Kind::Addresses
        | Kind::Cores
        | Kind::Choice(_)
        | Kind::LogFilter
        | Kind::Text => ValueHint::Unknown,
    }
}

/// For a shell, which has one line for each option.
fn first_sentence(help: &'static str) -> &'static str {
    let end = help.find(". ").unwrap_or(help.len());
    help[..end].trim_end_matches('.')
}

/// Takes any text: settings are read by the table. The words are for completions.
#[derive(Clone, Debug)]
struct AnyText(&'static [&'static str]);

impl TypedValueParser for AnyText {
    type Value = OsString;

    fn parse_ref(
        &self,
        _command: &Command,
        _arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<OsString, clap::Error> {
        Ok(value.to_owned())
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let words = self.0.iter().map(PossibleValue::new);
        (!self.0.is_empty()).then(|| Box::new(words) as Box<dyn Iterator<Item = PossibleValue>>)
    }
}

/// What all the texts mean together that were given for a setting.
fn value_of<'a>(
    row: &'static Setting,
    texts: impl Iterator<Item = &'a OsString>,
) -> Result<Value, Problem> {
    let mut all: Option<Value> = None;
    for text in texts {
        let value = row
            .parse(&text.to_string_lossy())
            .map_err(|complaint| complaint.at(Place::CommandLine, format!("--{}", row.flag)))?;
        match (&mut all, value) {
            (Some(Value::Addresses(all)), Value::Addresses(more)) => all.extend(more),
            (Some(Value::List(all)), Value::List(more)) => all.extend(more),
            (Some(_), _) => return Err(given_twice(row.flag)),
            (None, value) => all = Some(value),
        }
    }
    Ok(all.expect("an option that was given has a value"))
}

fn given_twice(flag: &str) -> Problem {
    Problem {
        place: Place::CommandLine,
        subject: format!("--{flag}"),
        what: "is given more than once".to_owned(),
        fix: "give it once".to_owned(),
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

const CONFIG: &str = "config";
/// Stands alone: it is not about settings of this program.
pub const IMPORT: &str = "import-mosquitto";
const CHECK: &str = "check-config";
const PRINT: &str = "print-config";
