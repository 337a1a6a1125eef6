//! The texts of `--help`, of `list` and of the manual, generated from the tables that define
//! options and keys.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint, value_parser};
use ringmq_problem::papers::Shell;

use crate::page::Request;
use crate::scenario::{builtin, file, keys};

/// An option of `run` that is not a key of a scenario.
pub(super) struct Flag {
    pub(super) name: &'static str,
    /// Empty for one without a value.
    pub(super) placeholder: &'static str,
    about: &'static str,
}

pub(super) const FLAGS: &[Flag] = &[
    flag(
        "target",
        "[SCHEME://]HOST[:PORT]",
        "The broker; default 127.0.0.1, and port 1883 or, with TLS, 8883. Schemes: mqtt, mqtts, ws \
         and wss (with a path: ws://HOST:PORT/mqtt), or unix:FILE; mqtts and wss turn TLS on for \
         every group. All addresses of a name are tried",
    ),
    flag(
        "duration",
        "TIME",
        "Length of the measured window; overrides the scenario",
    ),
    flag(
        "warmup",
        "TIME",
        "How long to publish before the window; overrides the scenario",
    ),
    flag(
        "publishers",
        "N",
        "Clients in every group that only publishes",
    ),
    flag(
        "subscribers",
        "N",
        "Clients in every group that only subscribes",
    ),
    flag(
        "rate",
        "RATE",
        "Open loop: messages per second of each publishing client",
    ),
    flag(
        "window",
        "N",
        "Closed loop: messages in flight per publishing client",
    ),
    flag("qos", "0|1|2", "QoS of every group"),
    flag(
        "payload",
        "SIZES",
        "Payload sizes of every publishing group",
    ),
    flag("protocol", "3.1.1|5.0", "MQTT version of every group"),
    flag("user", "PATTERN", "User names of every group"),
    flag(
        "password",
        "PATTERN",
        "Passwords of every group. Other users of this machine can see them while ringload runs",
    ),
    flag(
        "password-file",
        "FILE",
        "Read the password of every group from the first line of a file",
    ),
    flag(
        "tls",
        "FILE|insecure",
        "TLS for every group: with a file of certificates that vouch for the broker, or with any \
         certificate",
    ),
    flag(
        "group",
        "KEY=VALUE...",
        "Add a group, described by the keys below; repeatable",
    ),
    flag(
        "set",
        "[GROUP.]KEY=VALUE",
        "Set a key of the scenario, or of one group; repeatable",
    ),
    flag("threads", "N", "Threads of the generator; default 1"),
    flag(
        "cores",
        "LIST",
        "Cores to pin the threads to, such as 1 or 2-3,6",
    ),
    flag(
        "source",
        "LIST",
        "Local addresses for the clients, such as 127.0.0.2-127.0.0.9; default: chosen by the \
         kernel, with more loopback addresses if ports would run out",
    ),
    flag(
        "pid",
        "LIST",
        "Process ids of the broker, whose CPU and memory become part of the result",
    ),
    flag(
        "label",
        "NAME",
        "Name of this run in reports; default: the target",
    ),
    flag(
        "json",
        "FILE",
        "Write the result as JSON; - prints it, and the summary goes to stderr",
    ),
    flag(
        "histograms",
        "FILE",
        "Write the histograms of every second, corrected and uncorrected, in HdrHistogram's log \
         format",
    ),
    flag("run-id", "HEX", "Id of the run, 0 to ffff; default random"),
    flag(
        "keep-going",
        "",
        "Count clients that cannot connect or subscribe instead of ending the run",
    ),
    flag(
        "no-sys",
        "",
        "Do not subscribe to the broker's $SYS topics; saves one connection",
    ),
    flag(
        "sys-wait",
        "TIME",
        "How long to wait at the end for a $SYS report that covers the whole run; default 0s",
    ),
    flag(
        "strict",
        "",
        "Exit with 3 if the run is invalid or has faults: deliveries lost, duplicated, out of \
         order, corrupt or misrouted",
    ),
    flag(
        "quiet",
        "",
        "No progress and no summary, only the reason of a failure",
    ),
    flag(
        "print",
        "",
        "Print the scenario with all options applied, and exit",
    ),
];

const fn flag(name: &'static str, placeholder: &'static str, about: &'static str) -> Flag {
    Flag {
        name,
        placeholder,
        about,
    }
}

pub(super) const COMMANDS: [(&str, &str); 7] = [
    ("run", "[SCENARIO] [OPTION]..."),
    ("list", "[--json]"),
    ("show", "SCENARIO [OPTION]..."),
    ("report", "FILE... [OPTION]..."),
    ("completions", "bash|zsh|fish"),
    ("man", "[DIRECTORY]"),
    ("help", "[COMMAND]"),
];

const COMMANDS_ABOUT: [&str; 7] = [
    "Run a scenario against a broker",
    "List the built-in scenarios",
    "Print a scenario as a file to start from",
    "Make a page of results",
    "Make completions for a shell",
    "Print the man page, or write all pages",
    "All options and keys of a command",
];

/// What is used most, in the words of one line.
const COMMON: [(&str, &str); 8] = [
    ("target", "the broker [127.0.0.1:1883]"),
    ("rate", "messages per second of each publisher (open loop)"),
    ("window", "messages in flight per publisher (closed loop)"),
    ("qos", "QoS of all clients"),
    ("duration", "the measured window"),
    ("pid", "processes of the broker, to measure what it uses"),
    ("json", "write the result to a file, or to stdout with -"),
    ("quiet", "show only why a run failed"),
];

/// A help text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Help {
    /// What fits a screen: `-h`.
    Short,
    /// Everything about `run` and `show`: `--help`.
    Run,
    /// About `list`.
    List,
    /// About `report`.
    Report,
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
            "list" => Some(Help::List),
            "report" => Some(Help::Report),
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
            Help::List => of("list"),
            Help::Report => of("report"),
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
            "run" | "show" => with_flags(command).override_usage(
                "ringload run [SCENARIO] [OPTION]...\n       ringload show SCENARIO [OPTION]...",
            ),
            "list" => command.arg(
                Arg::new("json")
                    .long("json")
                    .action(ArgAction::SetTrue)
                    .help("As an array of objects with `name` and `about`, for programs"),
            ),
            "report" => with_request(command),
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

fn with_flags(command: Command) -> Command {
    let flags = FLAGS.iter().map(|flag| {
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
            "json" | "histograms" | "password-file" | "tls" => ValueHint::FilePath,
            _ => ValueHint::Unknown,
        };
        arg.value_name(flag.placeholder)
            .value_parser(value_parser!(OsString))
            .value_hint(hint)
            .allow_hyphen_values(true)
            .action(ArgAction::Append)
    });
    command
        .arg(
            Arg::new("scenario")
                .value_name("SCENARIO")
                .value_parser(value_parser!(OsString))
                .action(ArgAction::Append)
                .num_args(0..)
                .help("The name of a built-in scenario, or the path of a TOML file"),
        )
        .args(flags)
        .next_line_help(true)
        .after_long_help(about_scenarios())
}

/// Without what is needed once, at installation.
fn put_usage(text: &mut String) {
    text.push_str("Usage:\n");
    let all = COMMANDS.iter().zip(COMMANDS_ABOUT);
    for ((name, arguments), about) in
        all.filter(|((name, _), _)| !["completions", "man"].contains(name))
    {
        let line = format!("{name} {arguments}");
        let _ = writeln!(text, "  ringload {line:28} {about}");
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
         \nringload --help has every option and key.\n",
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
    for flag in FLAGS {
        let name = format!("--{} {}", flag.name, flag.placeholder);
        put_row(&mut text, name.trim_end(), flag.about);
    }
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
command line or scenario, 3 done but invalid or with faults (--strict), 130 ended by Ctrl-C.";

const HELP_COLUMNS: usize = 96;
const HELP_INDENT: usize = 10;
