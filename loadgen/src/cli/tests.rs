//! What command lines mean, and what is said of those that mean nothing.

use super::flags::FLAGS;
use super::*;
use crate::find::Vary;
use crate::peer::Peer;
use crate::scenario::keys;
use crate::scenario::rates::Rates;

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
        (&publishers.rate, publishers.window, publishers.clients),
        (&Some(Rates::Same(400.0)), None, 7)
    );
    assert_eq!(publishers.payload.show(), "16..32");
    assert_eq!(changed.groups[0].clients, 8);
    assert_eq!(changed.duration, Duration::from_secs(3));
    assert_eq!(changed.drain, Duration::from_secs(1));
    assert!(changed.groups.iter().all(|group| group.qos as u8 == 1));
    assert!(changed.to_toml().contains("protocol = \"5.0\""));
}

#[test]
fn a_search_makes_an_open_loop_of_the_scenario() {
    let Ok(Command::FindMax(options)) =
        parse("find-max pairs --slo latency.p99<5ms --slo lost=0 --quick --confirm 5 --up-to 20k")
    else {
        panic!("not a search")
    };
    let publishers = &options.run.scenario.groups[1];
    assert_eq!(
        (&publishers.rate, publishers.window),
        (&Some(Rates::Same(1.0)), None)
    );
    let limits: Vec<&str> = options.limits.iter().map(|limit| limit.as_str()).collect();
    assert_eq!(limits, ["latency.p99<5ms", "lost=0"]);
    assert_eq!(
        (options.goal.confirm_s, options.goal.load_max),
        (5, 20_000.0)
    );
    assert_eq!((options.repeat, options.goal.width), (1, 0.05));
}

#[test]
fn a_storm_is_laid_over_a_scenario() {
    let args = [
        "storm",
        "reconnect-storm",
        "--cut",
        "50%",
        "--of",
        "devices",
        "--backoff",
        "exp(1s, 2, 60s, full)",
        "--backoff",
        "exp(2s, 1, 2s, none)",
        "--slo",
        "latency.p99 < 5ms",
        "--within",
        "30s",
        "--threshold",
        "lost = 0",
    ];
    let Ok(Command::Storm(options)) = Command::parse(args.map(OsString::from)) else {
        panic!("not a storm")
    };
    let scenario = &options.run.scenario;
    let storm = scenario.storm.as_ref().unwrap();
    assert_eq!(
        (storm.share, storm.of.join(" ")),
        (0.5, "devices".to_owned())
    );
    assert_eq!(storm.within, Duration::from_secs(30));
    assert_eq!(storm.limits[0].as_str(), "latency.p99 < 5ms");
    assert_eq!(scenario.thresholds[0].as_str(), "lost = 0");
    // What it is about comes from the storm, and not by schedule.
    assert_eq!(scenario.groups[0].cut_every, None);
    let backoffs: Vec<String> = options.backoffs.iter().map(|one| one.show()).collect();
    assert_eq!(backoffs, ["exp(1s, 2, 1m, full)", "exp(2s, 1, 2s, none)"]);
    assert_eq!(storm.backoff, options.backoffs[0]);
    // A scenario with a storm of its own keeps what is not said.
    let Ok(Command::Storm(options)) = parse("storm silent-death --before 3s") else {
        panic!("not a storm")
    };
    let storm = options.run.scenario.storm.as_ref().unwrap();
    assert_eq!(storm.event.show(), "silence");
    assert_eq!(options.backoffs, [storm.backoff]);
    assert!(matches!(parse("storm pairs --print"), Ok(Command::Show(_))));
}

#[test]
fn a_search_for_connections_lets_groups_connect_at_a_rate() {
    let line = "find-max connect --vary connections --slo connect.p99<1s --to-the-end";
    let Ok(Command::FindMax(options)) = parse(line) else {
        panic!("not a search")
    };
    assert_eq!(
        (options.vary, options.to_the_end),
        (Vary::Connections, true)
    );
    assert_eq!(options.run.scenario.groups[0].connect_rate, Some(1000.0));
    assert_eq!(
        (options.goal.trials_per_load, options.goal.width),
        (3, 0.05)
    );
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
        ("run pairs -t ws://127.0.0.2", "ws://127.0.0.2:8083/mqtt"),
        ("run pairs -t wss://127.0.0.2:7/x", "wss://127.0.0.2:7/x"),
        ("run pairs -t unix:/run/x.sock", "unix:/run/x.sock"),
    ] {
        let Ok(Command::Run(options)) = parse(line) else {
            panic!("{line}");
        };
        assert_eq!(options.target, expected, "{line}");
        let place = match expected.split_once("://") {
            None => expected,
            Some((_, rest)) => rest.split('/').next().unwrap(),
        };
        let peers: Vec<String> = options.peers.iter().map(Peer::to_string).collect();
        assert_eq!(peers, [place], "{line}");
        let resource = options.websocket.map(|resource| resource.host);
        assert_eq!(resource.is_some(), expected.starts_with("ws"), "{line}");
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
        (groups[1].name.as_str(), &groups[1].rate),
        ("group-2", &Some(Rates::Same(5.0)))
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
            "--qos comes before the command\n  fix: write ringload run SCENARIO first, then \
             options",
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
            "run pairs --on a,a",
            "--on has a twice\n  fix: name it once",
        ),
        (
            "run pairs --on a --source 127.0.0.2",
            "--source is about this machine, and --on has others make the run",
        ),
        (
            "run pairs --remote x",
            "--remote is given without --on\n  fix: add --on HOST,HOST",
        ),
        (
            "run pairs --preset aws-iot",
            "--preset is `aws-iot`, which is not a preset\n  fix: did you mean aws-iot-core?",
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
            "find-max",
            "find-max needs a scenario\n  fix: write ringload",
        ),
        (
            "find-max pairs",
            "--slo names no latency: a queue that grows for a second would pass\n  fix: add --slo",
        ),
        (
            "find-max pairs --slo latency.p99",
            "--slo has `latency.p99`, which compares nothing",
        ),
        (
            "find-max pairs --slo latency.p99>5ms",
            "--slo has `latency.p99>5ms`, which more load does not break: a search needs what the \
             broker has to keep to\n  fix: write latency.p99 < and the most that is fine",
        ),
        (
            "find-max pairs --slo latency.p99<0ms",
            "--slo has `latency.p99<0ms`, which never holds\n  fix: write a time above 0",
        ),
        (
            "plan -o /nonexistent/p.json",
            "--out is `/nonexistent/p.json`, whose folder does not exist\n  fix: name a file",
        ),
        (
            "find-max pairs --slo connect.p99<5ms",
            "--slo has `connect.p99<5ms`, which no trial of a second has",
        ),
        (
            "find-max pairs --slo q:latency.p99<5ms",
            "--slo has `q:latency.p99<5ms`, which names no group\n  fix: the groups are",
        ),
        (
            "find-max pairs --slo broker.cpu<1 --slo latency.p99<5ms",
            "--pid is missing, and `broker.cpu<1` is about the process of the broker",
        ),
        (
            "find-max connect --slo latency.p99<5ms",
            "`connect` publishes nothing",
        ),
        (
            "find-max restarts --slo latency.p99<5ms",
            "`restarts` is about restarts of the broker",
        ),
        (
            "find-max pairs --slo latency.p99<5ms --repeat 3",
            "--repeat needs --restart",
        ),
        (
            "find-max pairs --vary colours",
            "--vary is `colours`, which cannot be varied",
        ),
        (
            "find-max pairs --duration 3",
            "--duration is not an option\n  fix: it is an option of `ringload run`",
        ),
        (
            "run pairs --slo latency.p99<5ms",
            "--slo is not an option\n  fix: it is an option of `ringload find-max`",
        ),
        (
            "run pairs --metrics 9100",
            "--metrics is `9100`, which is not an address with a port",
        ),
        (
            "run pairs --threshold latency.p99<5",
            "--threshold has `5`, which it cannot be compared with",
        ),
        (
            "run pairs --threshold broker.memory<1GiB",
            "--pid is missing, and `broker.memory<1GiB` is about the process",
        ),
        (
            "run connect --rate 7",
            "--rate applies to no group of this scenario",
        ),
        (
            "run pairs --set clients=7",
            "--set clients=7 sets a key of a group\n  fix: name the group: subscribers or \
             publishers.clients",
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
            "run pairs -t ws://127.0.0.1 --tls insecure",
            "--target is a ws:// address, and the group subscribers connects over TLS\n  fix: write \
             wss://",
        ),
        (
            "run pairs -t unix:/run/x.sock --source 127.0.0.1",
            "--target is a Unix socket, which has nothing to do with --source",
        ),
        (
            "run pairs -t mqtt://127.0.0.1 --tls insecure",
            "--target is a mqtt:// address, and the group subscribers connects over TLS\n  fix: \
             write mqtts://",
        ),
        (
            "run pairs -t ::1 --source 127.0.0.1",
            "--target is `[::1]:1883`, which has IPv6 addresses only, and --source has those of \
             IPv4",
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
fn a_report_is_asked_for_in_any_order() {
    let words = "report a.json --svg plots raw --title=A -o x.html";
    let Ok(Command::Report(request)) = parse(words) else {
        panic!("not a report");
    };
    let expected = Request {
        files: vec!["a.json".into(), "raw".into()],
        page: "x.html".into(),
        svg: Some("plots".into()),
        title: Some("A".to_owned()),
    };
    assert_eq!(request, expected);
    assert!(matches!(
        parse("report a.json --help"),
        Ok(Command::Help(Help::Report))
    ));
    for (line, expected) in [
        ("report", "report: FILE|FOLDER is needed"),
        (
            "report --out",
            "report: --out needs a value\n  fix: write --out FILE",
        ),
        (
            "report a.json --colour",
            "report: --colour is not an option",
        ),
    ] {
        let problem = parse(line).unwrap_err();
        assert!(
            problem.starts_with(&format!("command line: {expected}")),
            "{problem}"
        );
    }
}

#[test]
fn shells_and_man_know_every_option() {
    command().debug_assert();
    for shell in ["bash", "zsh", "fish"] {
        let Ok(Command::Say(script)) = parse(&format!("completions {shell}")) else {
            panic!("no script for {shell}");
        };
        for flag in FLAGS {
            assert!(script.contains(flag.name), "{shell}: {}", flag.name);
        }
    }
    let Ok(Command::Say(page)) = parse("man") else {
        panic!("no page");
    };
    assert!(page.contains("ringload"), "{page}");
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
