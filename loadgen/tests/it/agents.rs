//! Runs on several machines: a script in place of ssh starts their agents here.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::common::broker::{Script, Scripted};
use crate::common::{Done, run, start};
use ringload::report::{Check, Ended, Judgement, Ledger};
use rustix::process::{Pid, Signal, kill_process};

/// What is run in place of ssh, with the host as its first argument.
struct Ssh {
    path: PathBuf,
}

impl Ssh {
    fn new(script: &str) -> Ssh {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("ringload-ssh-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, format!("host=$1\nshift\n{script}\n")).unwrap();
        Ssh { path }
    }

    /// One that works.
    fn plain() -> Ssh {
        Ssh::new("echo \"Welcome to $host!\"\nexec \"$@\"")
    }

    /// Options for a run on some hosts.
    fn on<'a>(&self, hosts: &'a str, more: &[&'a str]) -> Vec<String> {
        let ssh = format!("sh {}", self.path.display());
        let remote = env!("CARGO_BIN_EXE_ringload");
        let own = ["--on", hosts, "--ssh", &ssh, "--remote", remote];
        own.iter().chain(more).map(ToString::to_string).collect()
    }

    fn run(&self, broker: &Scripted, hosts: &str, args: &[&str]) -> Done {
        let on = self.on(hosts, &[]);
        let on = on.iter().map(String::as_str);
        let all: Vec<&str> = args.iter().copied().chain(on).collect();
        run(broker.port, &all)
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Four publishers with 100 messages each.
fn four<'a>(scenario: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec![
        scenario,
        "--set",
        "publishers.messages=100",
        "--publishers",
        "4",
        "--rate",
        "1000",
        "--set",
        "drain=1s",
        "--no-sys",
    ];
    args.extend_from_slice(more);
    args
}

fn expected(owed: u64, change: impl FnOnce(&mut Ledger)) -> Ledger {
    let mut ledger = Ledger {
        owed,
        delivered: owed,
        order_checked: true,
        ..Ledger::default()
    };
    change(&mut ledger);
    ledger
}

#[test]
fn two_machines_and_one_come_to_the_same_ledger() {
    let ssh = Ssh::plain();
    // Each of four subscribers gets what its own publisher sends, or what all send.
    for (scenario, owed, crossing) in [("pairs", 400, 0.0), ("all", 1600, 0.5)] {
        for qos in ["0", "1", "2"] {
            let more = ["--qos", qos, "--subscribers", "4", "--strict"];
            let all = "subscribers.subscribe=ringload/{run}/pairs/+";
            let mut args = four("pairs", &more);
            if scenario == "all" {
                args.extend(["--set", all]);
            }
            for hosts in [None, Some("one"), Some("one,two")] {
                let broker = Scripted::start(Script::default());
                let done = match hosts {
                    None => run(broker.port, &args),
                    Some(hosts) => ssh.run(&broker, hosts, &args),
                };
                let result = done.result();
                let what = format!("{scenario} at QoS {qos} on {hosts:?}: {done:#?}");
                assert_eq!(result.totals.ledger, expected(owed, |_| {}), "{what}");
                assert!(result.troubles.is_empty(), "{what}");
                assert_eq!(result.run.ended, Ended::Planned, "{what}");
                assert_eq!(result.totals.connected, 8, "{what}");
                let timed = &result.totals.latency.as_ref().unwrap().corrected;
                // The first ones are on the edge of the window, as far as clocks agree.
                assert!(timed.count + 32 >= owed && timed.count <= owed, "{what}");
                let Some(agents) = &result.agents else {
                    assert_eq!(hosts, None, "{what}");
                    continue;
                };
                let count = hosts.unwrap().split(',').count();
                let clients: Vec<u64> = agents.machines.iter().map(|m| m.clients).collect();
                assert_eq!(clients, vec![8 / count as u64; count], "{what}");
                let share = if count == 1 { 0.0 } else { crossing };
                assert!((agents.crossing_share - share).abs() < 1e-9, "{what}");
                // Each second is the sum of all machines.
                let sent: u64 = result.timeline.iter().map(|second| second.sent).sum();
                assert_eq!(sent, 400, "{what}");
                assert!(done.stdout.contains("agent     one: "), "{what}");
            }
        }
    }
}

#[test]
fn faults_are_counted_exactly_whichever_machine_sees_them() {
    let ssh = Ssh::plain();
    let lost: BTreeSet<u64> = [1, 20, 21, 77, 800, 1599, 1600].into();
    let twice: BTreeSet<u64> = [30, 1000].into();
    let broker = Scripted::start(Script {
        lose: lost.clone(),
        duplicate: twice.clone(),
        ..Script::default()
    });
    let all = "subscribers.subscribe=ringload/{run}/pairs/+";
    let more = ["--subscribers", "4", "--qos", "1", "--set", all];
    let done = ssh.run(&broker, "one,two,three", &four("pairs", &more));
    let wanted = expected(1600, |ledger| {
        ledger.lost = lost.len() as u64;
        ledger.delivered -= ledger.lost;
        ledger.duplicated = twice.len() as u64;
    });
    assert_eq!(done.result().totals.ledger, wanted, "{done:#?}");
}

#[test]
fn stages_and_thresholds_are_those_of_all_machines() {
    let ssh = Ssh::plain();
    let broker = Scripted::start(Script::default());
    let file = std::env::temp_dir().join(format!("ringload-stages-{}.toml", std::process::id()));
    fs::write(
        &file,
        "name = \"stages\"\nthresholds = [\"lost = 0\", \"latency.p99 < 1h\"]\n\
         [[stage]]\nname = \"half\"\nfor = \"500ms\"\nrate = \"50 %\"\n\
         thresholds = [\"lost = 0\"]\n\
         [[stage]]\nname = \"whole\"\nfor = \"500ms\"\n\
         [[group]]\nname = \"s\"\nclients = 4\nsubscribe = \"{run}/+\"\n\
         [[group]]\nname = \"p\"\nclients = 4\nqos = 1\npublish = \"{run}/{index}\"\nrate = 100\n",
    )
    .unwrap();
    let done = ssh.run(
        &broker,
        "one,two",
        &[&file.display().to_string(), "--no-sys"],
    );
    fs::remove_file(&file).unwrap();
    let result = done.result();
    let owed: Vec<u64> = result
        .stages
        .iter()
        .map(|stage| stage.ledger.owed)
        .collect();
    let delivered: u64 = result
        .stages
        .iter()
        .map(|stage| stage.ledger.delivered)
        .sum();
    assert_eq!(owed.len(), 2, "{done:#?}");
    // 100 and 200 messages for four subscribers; the edges of stages fall between messages.
    assert!(
        owed[0].abs_diff(400) <= 32 && owed[1].abs_diff(800) <= 32,
        "{owed:?}"
    );
    let ledger = result.totals.ledger;
    assert_eq!(
        (owed.iter().sum::<u64>(), delivered),
        (ledger.owed, ledger.owed)
    );
    let judged: Vec<Judgement> = result.verdicts.iter().map(|v| v.judgement).collect();
    let agents = result.agents.as_ref().unwrap();
    let latency = match (result.validity.valid, agents.latency_judged) {
        (true, true) => Judgement::Passed,
        _ => Judgement::NotJudged,
    };
    let lost = match result.validity.valid {
        true => Judgement::Passed,
        false => Judgement::NotJudged,
    };
    assert_eq!(judged, [lost, latency, lost], "{done:#?}");
}

#[test]
fn a_machine_that_is_lost_ends_the_run_and_makes_it_invalid() {
    // Where it is killed, and what the others had done by then.
    let mark = std::env::temp_dir().join(format!("ringload-lost-{}", std::process::id()));
    let ssh = Ssh::new(&format!(
        "[ $host = one ] && exec \"$@\"\nexec 3<&0\n\"$@\" <&3 3<&- &\nexec 3<&-\n\
         while kill -0 $! 2>/dev/null; do [ -e {} ] && kill -9 $!; sleep 0.02; done\n\
         wait $!\nexit $?",
        mark.display()
    ));
    let broker = Scripted::start(Script::default());
    let args = ssh.on(
        "one,two",
        &["pairs", "--duration", "60s", "--warmup", "100ms"],
    );
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let more = [
        "--publishers",
        "4",
        "--subscribers",
        "4",
        "--rate",
        "200",
        "--set",
        "drain=200ms",
    ];
    let running = start(broker.port, &[&args[..], &more].concat());
    while broker.counted().published < 400 {
        std::thread::sleep(Duration::from_millis(10));
    }
    fs::write(&mark, "").unwrap();
    let done = running.finish();
    fs::remove_file(&mark).unwrap();
    let result = done.result();
    assert_eq!(
        (done.code, result.run.ended),
        (Some(1), Ended::Lost),
        "{done:#?}"
    );
    assert!(result.run.phases.window_s < 50.0);
    let mut reasons = result.validity.reasons.iter();
    let lost = reasons.find(|reason| reason.check == Check::Agent);
    let text = &lost.unwrap_or_else(|| panic!("{done:#?}")).text;
    assert!(text.starts_with("two: the agent "), "{text}");
    let machines = &result.agents.as_ref().unwrap().machines;
    let reasons = &machines[1].validity.reasons;
    assert_eq!(reasons.len(), 1, "{machines:#?}");
    assert!(result.totals.ledger.delivered > 0 && done.stdout.contains("an agent was lost"));
}

#[test]
fn who_cannot_do_its_part_says_why_before_anything_is_sent() {
    let version = "echo '{\"hello\":{\"program\":\"ringload agent\",\"version\":\"0.0.1\"}}'; cat";
    for (script, hosts, code, expected) in [
        (
            "exit 255",
            "one",
            1,
            "one: cannot be reached; `ssh one true` has to work",
        ),
        (
            "echo 'Permission denied' >&2; exit 255",
            "one",
            1,
            "one: cannot be reached (Permission denied)",
        ),
        (
            "exec no-such-program-here",
            "one,two",
            1,
            "one: there is no such program (",
        ),
        (
            "exit 2",
            "one",
            1,
            "one: its ringload has no agents; install version",
        ),
        (version, "one", 1, "one has ringload 0.0.1, and this is "),
        (
            "[ $host = two ] && ulimit -n 64\nexec \"$@\"",
            "one,two",
            1,
            "two cannot do its part: 200 clients need 272 open files",
        ),
        ("exec \"$@\"", "one,one", 2, "--on has one twice"),
        (
            "exec \"$@\"",
            "one,-x",
            2,
            "--on has `-x`, which is not a host",
        ),
    ] {
        let ssh = Ssh::new(script);
        let broker = Scripted::start(Script::default());
        let args = [
            "pairs",
            "--publishers",
            "200",
            "--subscribers",
            "200",
            "--no-sys",
        ];
        let done = ssh.run(&broker, hosts, &args);
        assert_eq!(done.code, Some(code), "{script}: {done:#?}");
        assert!(done.stderr.contains(expected), "{script}: {}", done.stderr);
        assert_eq!(broker.counted().connects, 0, "{script}");
        let ended = done.result.as_ref().map(|result| result.run.ended);
        assert_eq!(ended, (code == 1).then_some(Ended::Failed), "{script}");
    }
}

#[test]
fn what_machines_would_have_to_know_of_each_other_at_once_is_refused() {
    let ssh = Ssh::plain();
    let broker = Scripted::start(Script::default());
    for (args, expected) in [
        (
            &["fan-out", "--window", "1"][..],
            "window is a closed loop, and subscribers",
        ),
        (
            &[
                "fan-out",
                "--rate",
                "1",
                "--set",
                "subscribers.reconnect=true",
            ],
            "subscribers.reconnect makes subscribers miss messages of other machines",
        ),
        (
            &["pairs", "--source", "127.0.0.2"],
            "--source is about this machine",
        ),
    ] {
        let done = ssh.run(&broker, "one,two", args);
        assert_eq!(done.code, Some(2), "{args:?}: {done:#?}");
        assert!(done.stderr.contains(expected), "{args:?}: {}", done.stderr);
    }
    assert_eq!(broker.counted().connects, 0);
}

#[test]
fn a_broker_that_refuses_is_reported_with_the_machine_that_noticed() {
    let ssh = Ssh::plain();
    let broker = Scripted::start(Script {
        close_at_once: true,
        ..Script::default()
    });
    let done = ssh.run(&broker, "one,two", &four("pairs", &[]));
    assert_eq!(done.code, Some(1), "{done:#?}");
    let is_named = [
        "one: closed by the broker: client ",
        "two: closed by the broker: client ",
    ]
    .iter()
    .any(|name| done.stderr.contains(name));
    assert!(is_named, "{}", done.stderr);
}

#[test]
fn ctrl_c_ends_all_machines_in_order() {
    let ssh = Ssh::plain();
    let broker = Scripted::start(Script::default());
    let args = ssh.on("one,two", &["pairs", "--duration", "60s", "--warmup", "0s"]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let more = ["--publishers", "4", "--subscribers", "4", "--rate", "200"];
    let running = start(broker.port, &[&args[..], &more].concat());
    while broker.counted().published < 400 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let pid = Pid::from_raw(running.child.id() as i32).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let done = running.finish();
    let result = done.result();
    assert_eq!(
        (done.code, result.run.ended),
        (Some(130), Ended::Interrupted),
        "{done:#?}"
    );
    let ledger = result.totals.ledger;
    assert_eq!(
        (ledger.lost, ledger.owed),
        (0, ledger.delivered),
        "{done:#?}"
    );
    assert!(ledger.owed >= 400);
}

#[test]
fn passwords_reach_the_machines_and_nothing_else() {
    let ssh = Ssh::plain();
    let broker = Scripted::start(Script::default());
    let secret = std::env::temp_dir().join(format!("ringload-secret-{}", std::process::id()));
    fs::write(&secret, "S3cret-{index}\n").unwrap();
    let path = secret.display().to_string();
    let more = [
        "--user",
        "u",
        "--password-file",
        &path,
        "--subscribers",
        "4",
    ];
    let done = ssh.run(&broker, "one,two", &four("pairs", &more));
    fs::remove_file(&secret).unwrap();
    assert_eq!(
        done.result().totals.ledger,
        expected(400, |_| {}),
        "{done:#?}"
    );
    let all = format!("{}{}{}", done.stdout, done.stderr, done.result().to_json());
    assert!(!all.contains("S3cret"), "{all}");
}
