//! The texts of `--help`, of `list` and of the manual, generated from the tables that define
//! options and keys.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint, value_parser};
use ringmq_problem::papers::Shell;

use super::flags::{FIND_MAX, FLAGS, Flag, Of, STORM, flags_of};
use super::{capture, forecast};
use crate::page::Request;
use crate::scenario::{builtin, file, keys};

pub(super) const COMMANDS: [(&str, &str); 13] = [
    ("run", "[SCENARIO] [OPTION]..."),
    (FIND_MAX, "SCENARIO --slo LIMIT"),
    (STORM, "SCENARIO [OPTION]..."),
    ("list", "[--json]"),
    ("show", "SCENARIO [OPTION]..."),
    ("report", "FILE... [OPTION]..."),
    ("capture", "--admin URL"),
    ("plan", "--pid PID [OPTION]..."),
    ("predict", "PLAN SCENARIO"),
    ("agent", ""),
    ("completions", "bash|zsh|fish"),
    ("man", "[DIRECTORY]"),
    ("help", "[COMMAND]"),
];

const COMMANDS_ABOUT: [&str; 13] = [
    "Run a scenario against a broker",
    "Find the largest rate within limits",
    "Cut all clients, see the recovery",
    "List the built-in scenarios",
    "Print a scenario as a file to edit",
    "Make a page of results",
    "Make a scenario of what a broker does",
    "Measure what a broker's work costs",
    "Say from a plan what a scenario takes",
    "Do a part of a run for `ringload run --on`",
    "Make completions for a shell",
    "Print the man page, or write all pages",
    "All options and keys of a command",
];

/// What is used most, in the words of one line.
const COMMON: [(&str, &str); 5] = [
    ("target", "the broker [127.0.0.1:1883]"),
    ("rate", "messages per second of each publisher (open loop)"),
    ("duration", "the measured window"),
    ("pid", "processes of the broker, to measure what it uses"),
    ("json", "write the result to a file, or to stdout with -"),
];

/// A help text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Help {
    /// What fits a screen: `-h`.
    Short,
    /// Everything about `run` and `show`: `--help`.
    Run,
    /// About `find-max`.
    FindMax,
    /// About `storm`.
    Storm,
    /// About `list`.
    List,
    /// About `report`.
    Report,
    /// About `capture`.
    Capture,
    /// About `plan`.
    Plan,
    /// About `predict`.
    Predict,
    /// About `agent`.
    Agent,
    /// About `completions`.
    Completions,
    /// About `man`.
    Man,
}

impl Help {
    /// The full text about a command.
    pub fn of(command: &str) -> Option<Help> {
        match command {
            "run" | "show" => Some(Help::Run),
            FIND_MAX => Some(Help::FindMax),
            STORM => Some(Help::Storm),
            "list" => Some(Help::List),
            "report" => Some(Help::Report),
            "capture" => Some(Help::Capture),
            "plan" => Some(Help::Plan),
            "predict" => Some(Help::Predict),
            "agent" => Some(Help::Agent),
            "completions" => Some(Help::Completions),
            "man" => Some(Help::Man),
            "help" => Some(Help::Short),
            _ => None,
        }
    }

    /// The text.
    pub fn text(self) -> String {
        let of = |name: &str| {
            let mut root = command();
            root.build();
            let command = root.find_subcommand_mut(name);
            let command = command.expect("a command of the program");
            command.render_long_help().to_string()
        };
        match self {
            Help::Short => short(),
            Help::Run => format!("{}\n\n{}", version_line(), of("run")),
            Help::FindMax => of(FIND_MAX),
            Help::Storm => of(STORM),
            Help::List => of("list"),
            Help::Report => of("report"),
            Help::Capture => of("capture"),
            Help::Plan => of("plan"),
            Help::Predict => of("predict"),
            Help::Agent => of("agent"),
            Help::Completions => of("completions"),
            Help::Man => of("man"),
        }
    }
}

/// The whole command line, as clap takes it.
pub fn command() -> Command {
    let names = COMMANDS.iter().zip(COMMANDS_ABOUT);
    let commands = names.map(|((name, _), about)| {
        let command = Command::new(*name).about(about);
        let command = match *name {
            "run" | "show" => with_flags(command, name)
                .after_long_help(about_scenarios())
                .override_usage(
                    "ringload run [SCENARIO] [OPTION]...\n       ringload show SCENARIO [OPTION]...",
                ),
            FIND_MAX => with_flags(command, name)
                .long_about(ABOUT_FIND_MAX)
                .after_long_help(FIND_MAX_EXAMPLES)
                .override_usage("ringload find-max SCENARIO --slo LIMIT... [OPTION]..."),
            STORM => with_flags(command, name)
                .long_about(ABOUT_STORM)
                .after_long_help(STORM_EXAMPLES)
                .override_usage("ringload storm SCENARIO [OPTION]..."),
            "list" => command.arg(
                Arg::new("json")
                    .long("json")
                    .action(ArgAction::SetTrue)
                    .help("As an array of objects with `name` and `about`, for programs"),
            ),
            "report" => with_request(command),
            "agent" => command.long_about(ABOUT_AGENT),
            "capture" => capture::with_capture(command),
            "plan" => forecast::with_plan(command),
            "predict" => forecast::with_predict(command),
            "completions" => command.arg(
                Arg::new("shell")
                    .required(true)
                    .value_parser(value_parser!(Shell))
                    .help("The shell"),
            ),
            "man" => command.arg(
                Arg::new("directory")
                    .value_parser(value_parser!(PathBuf))
                    .value_hint(ValueHint::DirPath)
                    .help("Write a page for each command there; it has to exist"),
            ),
            _ => command
                .disable_help_flag(true)
                .arg(Arg::new("command").help("About this command")),
        };
        command.help_template(HELP).max_term_width(HELP_COLUMNS)
    });
    Command::new("ringload")
        .version(env!("RINGMQ_VERSION"))
        .about("A load generator for MQTT brokers")
        .disable_help_subcommand(true)
        .args_conflicts_with_subcommands(true)
        .subcommands(commands)
}

/// What `report` is asked for.
pub(super) fn request_of(matches: &ArgMatches) -> Request {
    let one = |name: &str| matches.get_one::<PathBuf>(name).cloned();
    let files = matches.get_many::<PathBuf>("files");
    Request {
        files: files.unwrap_or_default().cloned().collect(),
        page: one("out").unwrap_or_else(|| PathBuf::from("report.html")),
        svg: one("svg"),
        title: matches.get_one::<String>("title").cloned(),
    }
}

fn with_request(command: Command) -> Command {
    let path = |name: &'static str, hint| {
        let parser = value_parser!(PathBuf);
        Arg::new(name).value_parser(parser).value_hint(hint)
    };
    command
        .long_about(
            "Turns result files (ringload run --json) into one self-contained page with tables and plots, runs of the \
             same scenario side by side. Runs of one scenario with the same --label are rounds: numbers are their medians.",
        )
        .arg(
            path("files", ValueHint::AnyPath)
                .value_name("FILE|FOLDER")
                .required(true)
                .action(ArgAction::Append)
                .num_args(1..)
                .help("Result files; a folder stands for all result files below it"),
        )
        .arg(
            path("out", ValueHint::FilePath)
                .short('o')
                .long("out")
                .value_name("FILE")
                .help("Write the page to this file [default: report.html]"),
        )
        .arg(
            path("svg", ValueHint::DirPath)
                .long("svg")
                .value_name("FOLDER")
                .help("Also write the plots, one SVG file each"),
        )
        .arg(
            Arg::new("title")
                .long("title")
                .value_name("TEXT")
                .help("Heading of the page [default: brokers and scenarios]"),
        )
}

fn with_flags(command: Command, name: &str) -> Command {
    command
        .arg(
            Arg::new("scenario")
                .value_name("SCENARIO")
                .value_parser(value_parser!(OsString))
                .action(ArgAction::Append)
                .num_args(0..)
                .help("The name of a built-in scenario, or the path of a TOML file"),
        )
        .args(flags_of(name).map(arg_of))
        .next_line_help(true)
}

/// Some options of `run` for another command.
pub(super) fn with_some(command: Command, names: &[&str]) -> Command {
    let flags = flags_of("run").filter(|flag| names.contains(&flag.name));
    command.args(flags.map(arg_of))
}

/// An option of `run`, as clap takes it.
fn arg_of(flag: &Flag) -> Arg {
    let arg = Arg::new(flag.name).long(flag.name).help(flag.about);
    let arg = match flag.name {
        "target" => arg.short('t'),
        "quiet" => arg.short('q'),
        _ => arg,
    };
    if flag.placeholder.is_empty() {
        return arg.action(ArgAction::Count);
    }
    let hint = match flag.name {
        "json" | "histograms" | "junit" | "csv" | "password-file" | "tls" | "admin-token"
        | "admin-ca" => ValueHint::FilePath,
        _ => ValueHint::Unknown,
    };
    arg.value_name(flag.placeholder)
        .value_parser(value_parser!(OsString))
        .value_hint(hint)
        .allow_hyphen_values(true)
        .action(ArgAction::Append)
}

/// Without what is needed once, at installation, and what the last line says.
fn put_usage(text: &mut String) {
    text.push_str("Usage:\n");
    let all = COMMANDS.iter().zip(COMMANDS_ABOUT);
    for ((name, arguments), about) in
        all.filter(|((name, _), _)| !["agent", "completions", "man", "help"].contains(name))
    {
        let line = format!("{name} {arguments}");
        let _ = writeln!(text, "  ringload {line:30} {about}");
    }
}

fn option_line(flag: &Flag) -> String {
    let short = match flag.name {
        "target" => "-t, ",
        "quiet" => "-q, ",
        _ => "    ",
    };
    let line = format!("{short}--{} {}", flag.name, flag.placeholder);
    line.trim_end().to_owned()
}

/// The text of `-h`.
fn short() -> String {
    let mut text = format!("{}\n\n", version_line());
    put_usage(&mut text);
    text.push_str("\nOptions of run, the most common:\n");
    for (name, about) in COMMON {
        let flag = FLAGS.iter().find(|flag| flag.name == name);
        let line = option_line(flag.expect("every common option is one"));
        let line = line.replace("[SCHEME://]", "");
        let _ = writeln!(text, "  {line:26} {about}");
    }
    text.push_str(
        "\nExamples:\n\
         \x20 ringload run pairs                     as many messages as the broker can take\n\
         \x20 ringload run pairs --rate 400 --qos 1  20,000 per second, and their latencies\n\
         ringload help COMMAND has every option of a command, ringload --help every key.\n",
    );
    text
}

/// What stands below the options of `run` in `--help`.
fn about_scenarios() -> String {
    let mut text = String::from(UNITS);
    text.push_str("\n\nKeys of a scenario file, above the first [[group]]:\n");
    for key in keys::SCENARIO {
        let _ = writeln!(text, "      {} = {}", key.name, key.placeholder);
        put_wrapped(&mut text, key.about);
    }
    text.push_str("\nKeys of [storm], in place of warmup and duration:\n");
    for key in keys::STORM {
        let _ = writeln!(text, "      {} = {}", key.name, key.placeholder);
        put_wrapped(&mut text, key.about);
    }
    text.push_str("\nKeys of a [[stage]], in place of warmup and duration:\n");
    for key in keys::STAGE {
        let _ = writeln!(text, "      {} = {}", key.name, key.placeholder);
        put_wrapped(&mut text, key.about);
    }
    text.push_str("\nKeys of a [[group]], also for --group and --set:\n");
    for (subject, group_keys) in keys::GROUP {
        let _ = writeln!(text, "  {subject}:");
        for key in group_keys {
            let _ = writeln!(text, "      {} = {}", key.name, key.placeholder);
            put_wrapped(&mut text, key.about);
        }
    }
    text.push_str(PATTERNS);
    text
}

/// Options and keys as they stand in the manual.
pub fn manual() -> String {
    let mut text = String::from("\n## Options of `ringload run`\n\n| option | |\n|---|---|\n");
    let put = |text: &mut String, flag: &Flag| {
        let name = format!("--{} {}", flag.name, flag.placeholder);
        put_row(text, name.trim_end(), flag.about);
    };
    flags_of("run").for_each(|flag| put(&mut text, flag));
    text.push_str("\n## Options of `ringload find-max`\n\n");
    let shared = FLAGS.iter().filter(|flag| flag.of == Of::All);
    let shared: Vec<String> = shared.map(|flag| format!("`--{}`", flag.name)).collect();
    let _ = writeln!(
        text,
        "Those of `run` that say who connects where, and how: {}; and\n",
        shared.join(", ")
    );
    text.push_str("| option | |\n|---|---|\n");
    let own = FLAGS.iter().filter(|flag| flag.of == Of::Find);
    own.for_each(|flag| put(&mut text, flag));
    text.push_str(
        "\n## Options of `ringload storm`\n\nThose of `run` but `--duration` and `--warmup`; and\n\n\
         | option | |\n|---|---|\n",
    );
    let own = FLAGS.iter().filter(|flag| flag.of == Of::Storm);
    own.for_each(|flag| put(&mut text, flag));
    text.push_str(
        "\n## Keys of a scenario\n\nAbove the first `[[group]]`:\n\n| key | |\n|---|---|\n",
    );
    for key in keys::SCENARIO {
        put_row(
            &mut text,
            &format!("{} = {}", key.name, key.placeholder),
            key.about,
        );
    }
    text.push_str("\nIn `[storm]`:\n\n| key | |\n|---|---|\n");
    for key in keys::STORM {
        put_row(
            &mut text,
            &format!("{} = {}", key.name, key.placeholder),
            key.about,
        );
    }
    text.push_str("\nIn a `[[stage]]`:\n\n| key | |\n|---|---|\n");
    for key in keys::STAGE {
        put_row(
            &mut text,
            &format!("{} = {}", key.name, key.placeholder),
            key.about,
        );
    }
    for (subject, group_keys) in keys::GROUP {
        let _ = writeln!(
            text,
            "\nIn a `[[group]]`, {subject}:\n\n| key | |\n|---|---|"
        );
        for key in group_keys {
            put_row(
                &mut text,
                &format!("{} = {}", key.name, key.placeholder),
                key.about,
            );
        }
    }
    text
}

fn put_row(text: &mut String, name: &str, about: &str) {
    // A bar would end the cell.
    let escape = |text: &str| text.replace('|', "\\|");
    let _ = writeln!(text, "| `{}` | {} |", escape(name), escape(about));
}

/// Name, version and what it is.
pub fn version_line() -> String {
    format!(
        "ringload {}, a load generator for MQTT brokers",
        env!("RINGMQ_VERSION")
    )
}

/// The text of `list --json`.
pub fn list_as_json() -> String {
    let scenarios = builtin::ALL.iter().map(|(name, toml)| {
        let about = file::parse(name, toml).map_or(String::new(), |scenario| scenario.about);
        serde_json::json!({ "name": name, "about": about })
    });
    let list = serde_json::Value::Array(scenarios.collect());
    format!("{list:#}\n")
}

/// The text of `list`.
pub fn list() -> String {
    let mut text = String::new();
    for (name, toml) in builtin::ALL {
        let about = match file::parse(name, toml) {
            Ok(scenario) => scenario.about,
            Err(_) => String::new(),
        };
        let _ = writeln!(text, "{name}");
        put_wrapped(&mut text, &about);
    }
    text
}

fn put_wrapped(text: &mut String, about: &str) {
    let mut column = 0;
    for word in about.split_whitespace() {
        if column == 0 || column + 1 + word.chars().count() > HELP_COLUMNS {
            if column > 0 {
                text.push('\n');
            }
            let _ = write!(text, "{:HELP_INDENT$}", "");
            column = HELP_INDENT;
        } else {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += word.chars().count();
    }
    text.push('\n');
}

const ABOUT_FIND_MAX: &str = "\
Finds the largest rate at which a broker keeps to limits: trials of one second on clients that stay connected, by the
method of RFC 9971, then a minute at the rate that was found. Says how sure that is, and what the broker is bound by.";

const ABOUT_AGENT: &str = "\
Does a part of a run for the machine that leads it, `ringload run --on`, which starts it over ssh and talks to it in
lines of JSON on its stdin and stdout. It is not for people, and ends when its stdin does.";

const FIND_MAX_EXAMPLES: &str = "
Examples:
  ringload find-max pairs --slo \"latency.p99 < 5ms\" --slo \"lost = 0\" --pid $(pidof ringmq)
          How many messages per second 50 pairs may send, and what stops the broker
  ringload find-max ./mine.toml --json capacity.json --confirm 5m
          With the thresholds of the scenario

Exit codes: 0 found, 1 could not run, 2 wrong command line or scenario, 3 the generator or other programs did not let
it see more, 4 no load keeps to the limits, 130 ended by Ctrl-C: what is known so far is shown.";

const ABOUT_STORM: &str = "\
Cuts all clients of a scenario at once, or a share of them. They stay away and return by their \
back-off, and the broker has recovered when they are back and five seconds in a row keep to the \
limits.";

const STORM_EXAMPLES: &str = "
Examples:
  ringload storm reconnect-storm --pid $(pidof ringmq) --slo \"latency.p99 < 50ms\"
          When all clients are back after a cut, and when latencies are what they were
  ringload storm ./mine.toml --cut 50% --backoff \"exp(1s, 2, 60s, full)\" --backoff \"exp(1s, 1, 1s, none)\"
          With which back-off half of the clients get back
  ringload storm takeover-storm
          What bystanders notice when 5,000 identifiers are taken over; silent-death is the like

Exit codes: those of `ringload run`; 4 if the broker did not recover, with none of the back-offs.";

const HELP: &str = "{usage-heading} {usage}\n\n{about-with-newline}\n{all-args}{after-help}";

const UNITS: &str = "\
Times are seconds or have a unit (us, ms, s, m, h), sizes are bytes or have a unit (KiB, MiB), rates are per
second or have a unit (/s, /m, /h).";

const PATTERNS: &str = "
Patterns: {index} counts the clients of a group from 0, {number} from 1; {index/N} and {index%N} divide them;
{message%N} makes a client go round N topics; {group} and {run} are names.

Examples:
  ringload run pairs --pid $(pidof ringmq) --cores 1
          As many messages as the broker can take, and what each costs it
  ringload run pairs --rate 400 --qos 1 --json result.json
          20,000 messages per second by schedule, and their latencies
  ringload run --group \"clients=100 subscribe=a/#\" --group \"clients=10 publish=a/{index} rate=5\"
          Groups described on the command line

Exit codes: 0 done, 1 could not run, or something went wrong with the broker (see `trouble` lines), 2 wrong
command line or scenario, 3 done but invalid (with thresholds or --strict) or with faults (--strict), 4 a
threshold was missed, 130 ended by Ctrl-C.";

const HELP_COLUMNS: usize = 96;
const HELP_INDENT: usize = 10;
