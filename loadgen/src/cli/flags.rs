//! The options of `run`, `show`, `find-max` and `storm` that are no keys of a scenario.

/// An option of `run`, `show`, `find-max` or `storm` that is not a key of a scenario.
pub(super) struct Flag {
    pub(super) name: &'static str,
    pub(super) of: Of,
    /// Empty for one without a value.
    pub(super) placeholder: &'static str,
    pub(super) about: &'static str,
}

/// The commands that have an option.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// Every command with a scenario.
    All,
    /// `run` and `show`.
    Run,
    /// `run`, `show` and `storm`.
    Runs,
    /// `find-max`.
    Find,
    /// `storm`.
    Storm,
}

/// The options of a command.
pub(super) fn flags_of(command: &str) -> impl Iterator<Item = &'static Flag> {
    let own = match command {
        FIND_MAX => &[Of::Find][..],
        STORM => &[Of::Runs, Of::Storm],
        _ => &[Of::Runs, Of::Run],
    };
    FLAGS
        .iter()
        .filter(move |flag| flag.of == Of::All || own.contains(&flag.of))
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
        "preset",
        "SERVICE",
        "The service of a cloud at --target: aws-iot-core, azure-iot-hub or azure-event-grid; see \
         the key of the same name",
    ),
    run_flag(
        "duration",
        "TIME",
        "Length of the measured window; overrides the scenario",
    ),
    run_flag(
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
    runs_flag(
        "rate",
        "RATE",
        "Open loop: messages per second of each publishing client",
    ),
    runs_flag(
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
    runs_flag(
        "speed",
        "FACTOR",
        "Multiply the rate of each client: 2 is the same, twice as fast",
    ),
    runs_flag(
        "scale",
        "FACTOR",
        "Multiply the clients of each group, and so the subscribers of what goes to all",
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
        "admin",
        "URL",
        "Control plane of Ringmq: unix:PATH, http://HOST:PORT or https://HOST:PORT. What the broker \
         counts of its own bounds and stages becomes part of the result",
    ),
    flag(
        "admin-token",
        "FILE",
        "File with a token for it, of the role viewer",
    ),
    flag(
        "admin-ca",
        "FILE",
        "File with the CA of its certificate; default: those of the system",
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
    runs_flag(
        "histograms",
        "FILE",
        "Write the histograms of every second, corrected and uncorrected, in HdrHistogram's log \
         format",
    ),
    runs_flag(
        "threshold",
        "LIMIT",
        "What the run has to keep to, besides the thresholds of the scenario: \"latency.p99 < 5ms\"; \
         repeatable",
    ),
    runs_flag(
        "junit",
        "FILE",
        "Write what became of the thresholds as JUnit, for build servers",
    ),
    runs_flag("csv", "FILE", "Write a table with a line for each second"),
    runs_flag(
        "metrics",
        "ADDRESS:PORT",
        "Show the run to Prometheus while it goes on, at http://ADDRESS:PORT/metrics",
    ),
    flag("run-id", "HEX", "Id of the run, 0 to ffff; default random"),
    flag(
        "keep-going",
        "",
        "Count clients that cannot connect or subscribe instead of ending the run",
    ),
    runs_flag(
        "no-sys",
        "",
        "Do not subscribe to the broker's $SYS topics; saves one connection",
    ),
    runs_flag(
        "sys-wait",
        "TIME",
        "How long to wait at the end for a $SYS report that covers the whole run; default 0s",
    ),
    runs_flag(
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
    run_flag(
        "on",
        "HOST,HOST",
        "Make the run on these machines: each gets a part of the clients, and one result comes of \
         it. ringload is started there over ssh",
    ),
    run_flag(
        "ssh",
        "COMMAND",
        "With --on: how to run a program on a host; default ssh. \"ssh -p 2222 -i key\"",
    ),
    run_flag(
        "remote",
        "FILE",
        "With --on: ringload on those hosts; default ringload",
    ),
    runs_flag(
        "print",
        "",
        "Print the scenario with all options applied, and exit",
    ),
    find_flag(
        "slo",
        "LIMIT",
        "What every second has to keep to: \"latency.p99 < 5ms\", \"lost = 0\"; repeatable. Default: \
         the thresholds of the scenario",
    ),
    find_flag(
        "vary",
        "rate|connections|scale",
        "What is varied: the rates of all publishers, by the same factor; the number of clients, \
         with as many messages as before; or both. Default rate",
    ),
    find_flag(
        "to-the-end",
        "",
        "With --vary connections or scale: do not stop before memory, files or tables run out",
    ),
    find_flag(
        "confirm",
        "TIME",
        "How long the load that was found is confirmed; 0 leaves that out; default 60s",
    ),
    find_flag(
        "quick",
        "",
        "Within 5 % instead of 2 %, in a third of the time",
    ),
    find_flag(
        "up-to",
        "LOAD",
        "Try no more messages per second, or connections, than this",
    ),
    find_flag(
        "repeat",
        "N",
        "Search so many times, and say the median and the range; default 1",
    ),
    find_flag(
        "restart",
        "COMMAND",
        "Start the broker again before each search, with sh -c; if the command prints a number last, \
         that is its process (--pid)",
    ),
    storm_flag("cut", "SHARE", "Hit so many of the clients; default 100%"),
    storm_flag(
        "event",
        "cut|silence|takeover",
        "How connections end: they are closed without DISCONNECT, their clients fall silent with \
         open sockets, or second clients with the same identifiers connect; default cut",
    ),
    storm_flag(
        "of",
        "GROUP[,GROUP]",
        "Hit clients of these groups only; the others are bystanders. Default: all",
    ),
    storm_flag(
        "backoff",
        "exp(BASE, FACTOR, MOST, full|equal|none)",
        "How long clients wait before they return, and FACTOR times as long after each attempt \
         that failed; repeatable: a run for each. Default exp(1s, 2, 60s, full)",
    ),
    storm_flag(
        "slo",
        "LIMIT",
        "What a second keeps to once the broker has recovered: \"latency.p99 < 5ms\"; repeatable. \
         Default: those thresholds of the scenario that are known second by second",
    ),
    storm_flag(
        "back",
        "SHARE",
        "How many of the clients have to be back then; default 99%",
    ),
    storm_flag(
        "before",
        "TIME",
        "How long is published before the storm, whole seconds; default 5s",
    ),
    storm_flag(
        "within",
        "TIME",
        "How long the recovery may take, whole seconds; default 2m",
    ),
];

const fn flag(name: &'static str, placeholder: &'static str, about: &'static str) -> Flag {
    Flag {
        name,
        of: Of::All,
        placeholder,
        about,
    }
}

const fn run_flag(name: &'static str, placeholder: &'static str, about: &'static str) -> Flag {
    Flag {
        of: Of::Run,
        ..flag(name, placeholder, about)
    }
}

const fn runs_flag(name: &'static str, placeholder: &'static str, about: &'static str) -> Flag {
    Flag {
        of: Of::Runs,
        ..flag(name, placeholder, about)
    }
}

const fn storm_flag(name: &'static str, placeholder: &'static str, about: &'static str) -> Flag {
    Flag {
        of: Of::Storm,
        ..flag(name, placeholder, about)
    }
}

const fn find_flag(name: &'static str, placeholder: &'static str, about: &'static str) -> Flag {
    Flag {
        of: Of::Find,
        ..flag(name, placeholder, about)
    }
}

/// The command that searches.
pub(super) const FIND_MAX: &str = "find-max";
/// The command that cuts everybody.
pub(super) const STORM: &str = "storm";
