//! `ringmq doctor`: whether this machine is fit for a broker, and what to change. It changes nothing itself.
//!
//! Exit codes: 0 fit, 1 the broker would not start, 2 wrong use, 3 warnings.
//!
//! Not here: what is looked at (`limits`, `hardware`, `counters`), the checks of a start (`probe`), those of files (`access::advice`).

mod counters;
mod hardware;
mod limits;
mod machine;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueHint};
use serde_json::json;

use crate::access::{self, advice::advice};
use crate::probe::facts::{Facts, Holder, raise_limits};
use crate::probe::{Finding, Plan, files_of_broker};
use crate::settings::Settings;
use crate::settings::cli::{Action, CommandLine};
use crate::settings::file::{Configuration, Problem};
use machine::{Machine, Needs, Row, Verdict};

/// Check whether this machine is fit for a broker; changes nothing
#[derive(Debug, Parser)]
#[command(name = "doctor", after_help = AFTER_HELP)]
pub struct Line {
    /// Connections that it is to be fit for; without it, connections_max, or 10000
    #[arg(long, value_name = "N")]
    connections: Option<u64>,
    /// Messages per second, in and out
    #[arg(long, value_name = "M", default_value_t = 100_000)]
    rate: u64,
    /// Watch for so long what the kernel counts
    #[arg(long = "for", value_name = "SPAN", default_value = "1s", value_parser = span)]
    span: Duration,
    /// The settings of the broker
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// Print a shell script that sets what the kernel is to be set to
    #[arg(long, conflicts_with = "json")]
    fix_script: bool,
}

/// What there is to say, and the exit code.
pub fn run(line: &Line) -> Result<(String, u8), Vec<Problem>> {
    let command_line = CommandLine {
        action: Action::Run,
        file: line.config.clone(),
        given: Vec::new(),
    };
    let settings = Configuration::load(&command_line)?.settings;
    let rows = examine(line, &settings);
    let said = match (line.json, line.fix_script) {
        (true, _) => format!("{:#}\n", json!({"verdict": worst(&rows), "rows": rows})),
        (false, true) => script(&rows),
        (false, false) => table(&rows),
    };
    let code = match worst(&rows) {
        Verdict::Ok => 0,
        Verdict::Refused => 1,
        Verdict::Warning => 3,
    };
    Ok((said, code))
}

fn examine(line: &Line, settings: &Settings) -> Vec<Row> {
    // As a start does: what the process may raise itself is no trouble.
    raise_limits();
    let listeners = settings.all_listeners();
    let addresses = listeners.filter_map(|(listen, _)| listen.endpoint.address());
    let addresses: Vec<_> = addresses.collect();
    let facts = Facts::gather(&addresses, settings.store.place());
    let shards = settings.shards.unwrap_or(facts.cores.len());
    let needs = Needs {
        connections: line
            .connections
            .or(settings.connections_max.map(u64::from))
            .unwrap_or(CONNECTIONS_DEFAULT),
        rate: line.rate,
        shards: shards as u64,
        own_files: files_of_broker(settings, shards),
        ports: addresses.iter().map(|address| address.port()).collect(),
    };
    let machine = Machine::this();
    let counted = counters::read(&machine);
    let tables = [limits::ROWS, hardware::ROWS].concat();
    let mut rows: Vec<Row> = tables
        .iter()
        .filter_map(|row| row(&machine, &needs))
        .collect();
    rows.extend(of_start(facts, settings));
    let unusable = access::check(settings).err().unwrap_or_default();
    rows.extend(
        unusable
            .into_iter()
            .map(|problem| of_file(problem, Verdict::Refused)),
    );
    let doubtful = advice(settings).into_iter();
    rows.extend(doubtful.map(|problem| of_file(problem, Verdict::Warning)));
    rows.extend(strangers(settings));
    std::thread::sleep(line.span);
    rows.extend(counters::rows(&counted, &machine, &needs, line.span));
    rows
}

/// `10s`, `5m`: an hour at most.
fn span(text: &str) -> Result<Duration, String> {
    let seconds = match text.strip_suffix('m') {
        Some(minutes) => minutes.parse::<u64>().ok().and_then(|m| m.checked_mul(60)),
        None => text.strip_suffix('s').unwrap_or(text).parse().ok(),
    };
    match seconds {
        Some(seconds @ 0..=3600) => Ok(Duration::from_secs(seconds)),
        _ => Err("write 10s or 5m, up to 60m".to_owned()),
    }
}

/// What a start would find. What has a row of its own is not said twice: only refusals come from there.
fn of_start(mut facts: Facts, settings: &Settings) -> Vec<Row> {
    let running = set_running_aside(&mut facts);
    let refusals = Plan::make(&facts, settings).err().unwrap_or_default();
    if refusals.is_empty() {
        let needed = "rings, addresses, cores and directories as the settings want them";
        let found = match running.is_empty() {
            true => "possible".to_owned(),
            false => format!(
                "possible, once what listens there has ended: {}",
                running.join(", ")
            ),
        };
        return vec![Row::fine("start", found, needed)];
    }
    let of = |Finding { what, fix }| {
        let row = Row::fine("start", what, "a broker that starts");
        row.unless(false, Verdict::Refused, fix)
    };
    refusals.into_iter().map(of).collect()
}

/// A broker that runs has its addresses, and is no trouble for its own next start. Gives what there
/// is: the address, and by which process.
fn set_running_aside(facts: &mut Facts) -> Vec<String> {
    let mut running = Vec::new();
    for bind in &mut facts.binds {
        let holder = bind
            .refusal
            .as_ref()
            .and_then(|refusal| refusal.holder.as_ref());
        if let Some(process) = holder.and_then(Holder::broker) {
            running.push(format!("{} by {process}", bind.address));
            bind.refusal = None;
        }
    }
    running
}

fn of_file(problem: Problem, verdict: Verdict) -> Row {
    let Problem {
        place,
        subject,
        what,
        fix,
    } = problem;
    let row = Row::fine(
        "files",
        format!("{place}: {subject} {what}"),
        "files that can be read and used, and secrets that nobody else can read",
    );
    row.unless(false, verdict, fix)
}

/// Addresses that other machines reach, and that let in everybody.
fn strangers(settings: &Settings) -> Option<Row> {
    let open = settings.all_listeners().filter(|(listen, layers)| {
        let address = listen.endpoint.address();
        let is_public = address.is_some_and(|address| !address.ip().is_loopback());
        is_public && settings.lets_in_nameless(listen, layers)
    });
    let open: Vec<String> = open.map(|(listen, _)| listen.to_string()).collect();
    let row = Row::fine(
        "clients without credentials",
        match open.as_slice() {
            [] => "from this machine at most".to_owned(),
            open => format!("from anywhere: {}", open.join(", ")),
        },
        "from this machine at most",
    );
    let fix = "--password-file, client certificates or tokens, and no --allow-anonymous";
    Some(row.unless(open.is_empty(), Verdict::Warning, fix))
}

fn worst(rows: &[Row]) -> Verdict {
    let has = |verdict| rows.iter().any(|row| row.verdict == verdict);
    match (has(Verdict::Refused), has(Verdict::Warning)) {
        (true, _) => Verdict::Refused,
        (false, true) => Verdict::Warning,
        (false, false) => Verdict::Ok,
    }
}

fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let mark = match row.verdict {
            Verdict::Ok => "ok     ",
            Verdict::Warning => "WARNING",
            Verdict::Refused => "REFUSED",
        };
        let Row {
            name,
            found,
            needed,
            ..
        } = row;
        let _ = match &row.fix {
            None => writeln!(text, "{mark}  {name}: {found}"),
            Some(fix) => writeln!(
                text,
                "{mark}  {name}: {found}\n         needed: {needed}\n         fix: {fix}"
            ),
        };
    }
    let number = |verdict| rows.iter().filter(|row| row.verdict == verdict).count();
    let (refused, warnings) = (number(Verdict::Refused), number(Verdict::Warning));
    let _ = match (refused, warnings) {
        (0, 0) => writeln!(text, "\nfit for the broker"),
        (0, warnings) => writeln!(text, "\nthe broker starts; warnings: {warnings}"),
        (refused, warnings) => {
            writeln!(
                text,
                "\nthe broker does not start: refused: {refused}, warnings: {warnings}"
            )
        }
    };
    text
}

/// Kernel settings are lasting; everything else is a comment, because it is not for a script to decide.
fn script(rows: &[Row]) -> String {
    let mut text = String::from(
        "#!/bin/sh\n# Printed by `ringmq doctor --fix-script`. Read it, and run it as root.\nset -e\n",
    );
    let settings: Vec<&str> = rows
        .iter()
        .filter_map(|row| row.sysctl.as_deref())
        .collect();
    if !settings.is_empty() {
        let lines: String = settings
            .iter()
            .map(|setting| format!("{setting}\n"))
            .collect();
        let _ = write!(
            text,
            "file={SYSCTL_FILE}\n\
             if [ -e \"$file\" ]; then\n    \
                 echo \"$file is there already: these settings go to its end, where they win\"\n\
             fi\n\
             cat >> \"$file\" <<'END'\n{lines}END\nsysctl -p \"$file\"\n"
        );
    }
    for row in rows.iter().filter(|row| row.sysctl.is_none()) {
        if let Some(fix) = &row.fix {
            let said = format!("{}: {}\n  {fix}", row.name, row.found);
            // Names of files may have any character: none leaves the comment.
            for line in said.split(|end: char| end.is_control()) {
                let _ = writeln!(text, "# {line}");
            }
        }
    }
    text
}

/// Read at each boot. What an earlier run has put there stays: it is in force, so this one does not
/// say it again.
const SYSCTL_FILE: &str = "/etc/sysctl.d/90-ringmq.conf";
/// Of a broker whose settings do not say.
const CONNECTIONS_DEFAULT: u64 = 10_000;
const AFTER_HELP: &str = "\
Examples:
  ringmq doctor --connections 1000000
  ringmq doctor --for 1m                   While clients come and go
  ringmq doctor --config /etc/ringmq/ringmq.toml --fix-script > fix.sh

Limits of open files and locked memory are those of this process: run it as the service does. Exit codes: 0 fit, 1 the broker \
does not start, 2 wrong use, 3 warnings.";

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        let fine = Row::fine("kernel", "6.1", "6.1");
        let set = Row::fine("fs.nr_open", 5, "9: why").unless_set(false, "fs.nr_open=9");
        let told =
            Row::fine("memory", "1 MiB", "2 MiB").unless(false, Verdict::Warning, "buy some");
        vec![fine, set, told]
    }

    #[test]
    fn a_table_says_what_was_found_what_is_needed_and_the_fix() {
        let text = table(&rows());
        let expected = "ok       kernel: 6.1\n\
                        WARNING  fs.nr_open: 5\n\
                        \x20        needed: 9: why\n\
                        \x20        fix: sysctl -w fs.nr_open=9\n";
        assert!(text.starts_with(expected), "{text}");
        assert!(
            text.ends_with("\nthe broker starts; warnings: 2\n"),
            "{text}"
        );
    }

    #[test]
    fn a_script_sets_what_the_kernel_can_be_set_to_and_leaves_the_rest_to_people() {
        let text = script(&rows());
        assert!(
            text.contains("cat >> \"$file\" <<'END'\nfs.nr_open=9\nEND\n"),
            "{text}"
        );
        assert!(text.contains("# memory: 1 MiB\n#   buy some\n"), "{text}");
        assert!(!text.contains("kernel"), "{text}");
        let row = Row::fine("files", "a\nreboot\r\u{85}reboot", "none");
        let text = script(&[row.unless(false, Verdict::Warning, "chmod a\nreboot")]);
        assert!(
            !text.lines().any(|line| line.starts_with("reboot")),
            "{text}"
        );
        assert!(!script(&rows()[..1]).contains("sysctl"), "nothing to set");
    }

    #[test]
    fn the_worst_row_decides() {
        let mut rows = rows();
        assert_eq!(worst(&rows), Verdict::Warning);
        assert_eq!(worst(&rows[..1]), Verdict::Ok);
        rows.push(Row::fine("start", "no", "yes").unless(false, Verdict::Refused, "x"));
        assert_eq!(worst(&rows), Verdict::Refused);
    }

    #[test]
    fn a_broker_that_lets_everybody_in_is_told() {
        let mut settings = Settings::default();
        assert_eq!(strangers(&settings).unwrap().verdict, Verdict::Ok);
        settings.allow_anonymous = true;
        settings.listen = vec![crate::settings::listen::Listen::plain(
            "0.0.0.0:1883".parse().unwrap(),
        )];
        let row = strangers(&settings).unwrap();
        assert_eq!(row.verdict, Verdict::Warning);
        assert!(row.found.contains("0.0.0.0:1883"), "{row:?}");
    }

    #[test]
    fn a_broker_that_runs_is_no_trouble_for_its_next_start() {
        use crate::probe::facts::{Bind, BindRefusal};
        let mut facts = Facts::gather(&[], None);
        let bind = |port: u16, process: Option<&str>| Bind {
            address: ([127, 0, 0, 1], port).into(),
            refusal: Some(BindRefusal {
                errno: libc::EADDRINUSE,
                holder: Some(Holder {
                    is_listener: true,
                    process: process.map(str::to_owned),
                }),
            }),
        };
        let others = [Some("mosquitto (pid 7)"), Some("ringmqx (pid 7)"), None];
        facts.binds = vec![bind(1, Some("ringmq (pid 7)"))];
        facts.binds.extend(others.map(|process| bind(2, process)));
        let running = set_running_aside(&mut facts);
        assert_eq!(running, ["127.0.0.1:1 by ringmq (pid 7)"]);
        let refused = facts.binds.iter().map(|bind| bind.refusal.is_some());
        assert_eq!(refused.collect::<Vec<_>>(), [false, true, true, true]);
    }

    #[test]
    fn this_machine_can_be_examined() {
        let line = Line {
            connections: Some(100),
            rate: 1000,
            span: Duration::ZERO,
            config: None,
            json: true,
            fix_script: false,
        };
        let mut settings = Settings::default();
        settings.listen.clear();
        let rows = examine(&line, &settings);
        assert!(rows.len() > 10, "{rows:?}");
    }
}
