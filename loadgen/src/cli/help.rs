//! The texts of `--help`, of `list` and of the manual, generated from the tables that define
//! options and keys.

use std::fmt::Write as _;

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
        "The broker; default 127.0.0.1, and port 1883 or, with TLS, 8883. mqtts:// turns TLS on \
         for every group. All addresses of a name are tried",
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

pub(super) const COMMANDS: [(&str, &str); 5] = [
    ("run", "[SCENARIO] [OPTION]..."),
    ("list", "[--json]"),
    ("show", "SCENARIO [OPTION]..."),
    ("report", "FILE... [OPTION]..."),
    ("help", "[COMMAND]"),
];

const COMMANDS_ABOUT: [&str; 5] = [
    "Run a scenario against a broker",
    "List the built-in scenarios",
    "Print a scenario as a file to start from",
    "Make a page of results",
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
}

impl Help {
    /// The full text about a command.
    pub fn of(command: &str) -> Option<Help> {
        match command {
            "run" | "show" => Some(Help::Run),
            "list" => Some(Help::List),
            "report" => Some(Help::Report),
            "help" => Some(Help::Short),
            _ => None,
        }
    }

    /// The text.
    pub fn text(self) -> String {
        match self {
            Help::Short => short(),
            Help::Run => long(),
            Help::List => LIST.to_owned(),
            Help::Report => crate::page::HELP.to_owned(),
        }
    }
}

const LIST: &str = "\
Usage: ringload list [--json]

Lists the built-in scenarios, each with what it does.

Options:
      --json   as an array of objects with `name` and `about`, for programs
  -h, --help   print this
";

fn put_usage(text: &mut String) {
    text.push_str("Usage:\n");
    for ((name, arguments), about) in COMMANDS.iter().zip(COMMANDS_ABOUT) {
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

/// The text of `--help`.
fn long() -> String {
    let mut text = format!("{}\n\n", version_line());
    put_usage(&mut text);
    text.push_str(
        "\nA SCENARIO is the name of a built-in one, or the path of a TOML file. Times are seconds or\n\
         have a unit (us, ms, s, m, h), sizes are bytes or have a unit (KiB, MiB), rates are per second or\n\
         have a unit (/s, /m, /h).\n\nOptions of run and show:\n",
    );
    for flag in FLAGS {
        let _ = writeln!(text, "  {}", option_line(flag));
        put_wrapped(&mut text, flag.about);
    }
    text.push_str("\nKeys of a scenario file, above the first [[group]]:\n");
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
    text.push_str(
        "\nPatterns: {index} counts the clients of a group from 0, {number} from 1; {index/N} and {index%N}\n\
         divide them; {message%N} makes a client go round N topics; {group} and {run} are names.\n\
         \nExamples:\n\
         \x20 ringload run pairs --pid $(pidof ringmq) --cores 1\n\
         \x20         As many messages as the broker can take, and what each costs it\n\
         \x20 ringload run pairs --rate 400 --qos 1 --json result.json\n\
         \x20         20,000 messages per second by schedule, and their latencies\n\
         \x20 ringload run --group \"clients=100 subscribe=a/#\" --group \"clients=10 publish=a/{index} rate=5\"\n\
         \x20         Groups described on the command line\n\
         \nExit codes: 0 done, 1 could not run, or something went wrong with the broker (see `trouble` lines),\n\
         2 wrong command line or scenario, 3 done but invalid or with faults (--strict), 130 ended by Ctrl-C.\n",
    );
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
        env!("CARGO_PKG_VERSION")
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

const HELP_COLUMNS: usize = 96;
const HELP_INDENT: usize = 10;
