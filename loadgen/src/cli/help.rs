//! The texts of `--help`, of `list` and of the manual: what there is, from the tables that define it.

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
        "HOST[:PORT]",
        "The broker; default 127.0.0.1, and port 1883 or, with TLS, 8883",
    ),
    flag(
        "duration",
        "TIME",
        "The measured window, in place of that of the scenario",
    ),
    flag(
        "warmup",
        "TIME",
        "Publishing before the window, in place of that of the scenario",
    ),
    flag(
        "publishers",
        "N",
        "Clients of every group that publishes and does not subscribe",
    ),
    flag(
        "subscribers",
        "N",
        "Clients of every group that subscribes and does not publish",
    ),
    flag(
        "rate",
        "RATE",
        "Open loop for every group that publishes: messages per second of each client",
    ),
    flag(
        "window",
        "N",
        "Closed loop for every group that publishes: messages underway of each client",
    ),
    flag("qos", "0|1|2", "QoS of every group"),
    flag(
        "payload",
        "SIZES",
        "Payload sizes of every group that publishes",
    ),
    flag("protocol", "3.1.1|5.0", "Version of MQTT of every group"),
    flag("user", "PATTERN", "User names of every group"),
    flag("password", "PATTERN", "Passwords of every group"),
    flag(
        "tls",
        "FILE|insecure",
        "TLS for every group: with a file of certificates that vouch for the broker, or with any certificate",
    ),
    flag(
        "group",
        "KEY=VALUE...",
        "Add a group, with the keys below; may be given more than once",
    ),
    flag(
        "set",
        "[GROUP.]KEY=VALUE",
        "Set any key of the scenario, or of one group; may be given more than once",
    ),
    flag("threads", "N", "Threads of the generator; default 1"),
    flag(
        "cores",
        "LIST",
        "Cores to bind the threads to, as in 1 or 2-3,6",
    ),
    flag(
        "source",
        "LIST",
        "Local addresses for the clients, as in 127.0.0.2-127.0.0.9; default the kernel's choice, and on the loopback network more if ports would run out",
    ),
    flag(
        "pid",
        "LIST",
        "Processes of the broker: what they use becomes part of the result",
    ),
    flag(
        "label",
        "NAME",
        "How reports name this run; default the target",
    ),
    flag("json", "FILE", "Write the result as JSON"),
    flag(
        "histograms",
        "FILE",
        "Write every second's histograms, corrected and uncorrected, in HdrHistogram's log format",
    ),
    flag(
        "run-id",
        "HEX",
        "Number of the run, 0 to ffff; default random",
    ),
    flag(
        "keep-going",
        "",
        "Count clients that cannot connect or subscribe, instead of ending the run",
    ),
    flag(
        "no-sys",
        "",
        "Do not listen to the broker's $SYS topics (it takes one more connection)",
    ),
    flag(
        "sys-wait",
        "TIME",
        "Wait so long at the end for a $SYS report that covers the whole run; default 0s",
    ),
    flag(
        "strict",
        "",
        "Exit with 3 if the run is invalid, or a delivery was lost, duplicated, out of order, corrupt or misrouted",
    ),
    flag(
        "quiet",
        "",
        "Show neither progress nor the summary, only why a run failed",
    ),
    flag(
        "print",
        "",
        "Print the scenario with all options applied, and stop",
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
    ("list", ""),
    ("show", "SCENARIO [OPTION]..."),
    ("report", "FILE... [OPTION]..."),
    ("help", ""),
];

const COMMANDS_ABOUT: [&str; 5] = [
    "Run a scenario against a broker",
    "List the scenarios that are built in",
    "Print a scenario as TOML, to start a file from",
    "Make a page of results; see report --help",
    "Print this help",
];

/// The text of `--help`.
pub fn help() -> String {
    let mut text = format!("{}\n\nUsage:\n", version_line());
    for ((name, arguments), about) in COMMANDS.iter().zip(COMMANDS_ABOUT) {
        let line = format!("{name} {arguments}");
        let _ = writeln!(text, "  ringload {line:30} {about}");
    }
    text.push_str(
        "\nA SCENARIO is the name of one that is built in, or the path of a TOML file. Times are seconds or\n\
         have a unit (us, ms, s, m, h), sizes are bytes or have a unit (KiB, MiB), rates are per second or\n\
         have a unit (/s, /m, /h).\n\nOptions of run and show:\n",
    );
    for flag in FLAGS {
        let short = match flag.name {
            "target" => "-t, ",
            "quiet" => "-q, ",
            _ => "    ",
        };
        let line = format!("  {short}--{} {}", flag.name, flag.placeholder);
        let _ = writeln!(text, "{}", line.trim_end());
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
         \x20         As many messages as the broker can, and what each costs it\n\
         \x20 ringload run pairs --rate 400 --qos 1 --json result.json\n\
         \x20         20,000 messages per second by schedule, and their latencies\n\
         \x20 ringload run --group \"clients=100 subscribe=a/#\" --group \"clients=10 publish=a/{index} rate=5\"\n\
         \x20         Described on the spot\n\
         \nExit codes: 0 done, 1 could not run or the broker was gone, 2 wrong command line or scenario,\n\
         3 done but invalid or with faults (--strict), 130 ended by Ctrl-C.\n",
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
