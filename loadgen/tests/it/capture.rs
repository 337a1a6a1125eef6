//! `ringload capture` of a load on Ringmq, and of its replay: both are the same.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ringload::admin::{Access, Admin};
use ringload::scenario::{Scenario, file};
use ringmq::admin::{AdminAddress, AdminConfig, Facts};
use ringmq::{Broker, BrokerConfig};
use ringmq_core::limits::Limits;
use ringmq_core::sizes::SizeCounts;

use crate::common::{Running, run, start};

/// A broker with a control plane, and a folder for what is captured.
struct Place {
    folder: PathBuf,
    /// Before the broker, which it asks.
    _control: ringmq::admin::Admin,
    broker: Broker,
}

impl Place {
    fn new(name: &str) -> Place {
        let name = format!("ringload-capture-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let broker = Broker::start(&BrokerConfig {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()],
            shards: 2,
            sys_interval: Duration::from_millis(300),
            ..BrokerConfig::default()
        })
        .unwrap();
        let config = AdminConfig {
            listen: vec![AdminAddress::Unix(folder.join("admin.sock"))],
            ..AdminConfig::default()
        };
        let facts = Facts {
            version: "test",
            started_at: SystemTime::now(),
            listeners: Vec::new(),
            connections_max: 1000,
            data_dir: None,
            limits: Arc::new(Limits::default()),
            tallies: Default::default(),
            settings: Default::default(),
        };
        let control = ringmq::admin::Admin::start(config, facts, broker.asker()).unwrap();
        Place {
            folder,
            _control: control,
            broker,
        }
    }

    fn port(&self) -> u16 {
        self.broker.local_addresses()[0].port()
    }

    fn admin(&self) -> String {
        format!("unix:{}", self.folder.join("admin.sock").display())
    }

    /// Starts a load, and waits until it is there.
    fn load(&self, args: &[&str]) -> Running {
        let admin = self.admin();
        let access = Access {
            address: &admin,
            ..Access::default()
        };
        let admin = Admin::of(&access).unwrap();
        let published = || {
            let profile = admin.json("/api/v1/profile").unwrap();
            let all = profile["publishes_in"].as_array().unwrap().clone();
            all.iter().map(|count| count.as_u64().unwrap()).sum::<u64>()
        };
        let before = published();
        let running = start(self.port(), args);
        while published() < before + 500 {
            std::thread::sleep(Duration::from_millis(50));
        }
        running
    }

    fn capture(&self, args: &[&str], name: &str) -> (Output, String, Scenario) {
        let path = self.folder.join(name);
        let output = Command::new(env!("CARGO_BIN_EXE_ringload"))
            .arg("capture")
            .args(args)
            .arg("-o")
            .arg(&path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = std::fs::read_to_string(&path).unwrap();
        let scenario = file::read(&path).unwrap();
        (output, text, scenario)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Ends a load that would go on.
fn stop(mut running: Running) {
    running.child.kill().unwrap();
    running.child.wait().unwrap();
}

/// Messages and deliveries per second that `ringload run` says a profile has.
fn sums(place: &Place, path: &Path) -> (f64, f64) {
    let path = path.display().to_string();
    let done = run(
        place.port(),
        &[&path, "--duration", "2", "--warmup", "0", "--no-sys"],
    );
    assert_eq!(done.code, Some(0), "{done:#?}");
    let ledger = done.result().totals.ledger;
    assert_eq!(ledger.lost, 0, "{done:#?}");
    let sent: u64 = done
        .result()
        .groups
        .iter()
        .filter_map(|group| group.publish.as_ref())
        .map(|published| published.sent)
        .sum();
    (sent as f64, ledger.owed as f64)
}

/// How the payloads of a scenario are spread over classes of size, all groups by what they send.
fn sizes(scenario: &Scenario) -> Vec<f64> {
    let mut shares = vec![0.0; SizeCounts::CLASSES];
    let mut random = fastrand::Rng::with_seed(7);
    for group in &scenario.groups {
        let Some(rates) = &group.rate else { continue };
        let per_s = rates.sum(group.clients, 0);
        for _ in 0..100_000 {
            let size = group.payload.pick(random.u64(..)) as usize;
            shares[SizeCounts::class_of(size)] += per_s;
        }
    }
    let sum: f64 = shares.iter().sum();
    shares.into_iter().map(|share| share / sum).collect()
}

fn distance(one: &[f64], other: &[f64]) -> f64 {
    let mut sum = 0.0_f64;
    let steps = one.iter().zip(other).map(|(a, b)| {
        sum += a - b;
        sum.abs()
    });
    steps.fold(0.0, f64::max)
}

const LOAD: [&str; 10] = [
    "--group",
    "name=devices clients=50 publish=telemetry/{index%5}/{index} rate=40 qos=1 payload=32:90,1000:10",
    "--group",
    "name=dashboards clients=5 subscribe=telemetry/{index}/+",
    "--group",
    "name=workers clients=5 qos=1 protocol=5.0 subscribe=$share/w/telemetry/#",
    "--group",
    "name=idle clients=7",
    "--duration",
    "10m",
];

#[test]
fn a_replay_is_captured_as_what_it_replays() {
    let place = Place::new("replay");
    let running = place.load(&LOAD);
    let source = place.admin();
    let args = ["--admin", &source, "--for", "5s"];
    let (output, text, first) = place.capture(&args, "first.toml");
    stop(running);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("67 clients in 4 groups"), "{said}");
    assert!(
        !text.contains("telem") && !text.contains("ringload-"),
        "{text}"
    );
    assert!(text.contains("$share/"), "{text}");
    assert_eq!(first.client_count(), 67, "{text}");
    let path = place.folder.join("first.toml").display().to_string();
    let running = place.load(&[&path, "--duration", "10m"]);
    let (_, again, second) = place.capture(&args, "second.toml");
    stop(running);
    let (sent, owed) = sums(&place, &place.folder.join("first.toml"));
    let (sent_again, owed_again) = sums(&place, &place.folder.join("second.toml"));
    // Every message goes to a dashboard and a worker.
    for fanout in [owed / sent, owed_again / sent_again] {
        assert!(
            (fanout / 2.0 - 1.0).abs() < 0.02,
            "{fanout}\n{text}\n{again}"
        );
    }
    // Counts over five seconds, on a machine that may be busy.
    for sent in [sent, sent_again] {
        assert!((sent / 4000.0 - 1.0).abs() < 0.1, "{sent}\n{text}\n{again}");
    }
    let distance = distance(&sizes(&first), &sizes(&second));
    assert!(distance < 0.02, "{distance}\n{text}\n{again}");
}

#[test]
fn a_subscriber_sees_topics_and_the_rest_is_marked_as_assumed() {
    let place = Place::new("subscriber");
    let running = place.load(&LOAD);
    let target = format!("127.0.0.1:{}", place.port());
    let args = [
        "--subscribe",
        "telemetry/#",
        "--target",
        &target,
        "--for",
        "3s",
    ];
    let assumed = [&args[..], &["--assume", "fanout=2.5"]].concat();
    let (output, text, scenario) = place.capture(&assumed, "seen.toml");
    stop(running);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("one client is assumed for each topic"),
        "{said}"
    );
    assert!(!text.contains("telem"), "{text}");
    assert!(text.contains("clients = 50  # assumed"), "{text}");
    let devices = &scenario.groups[0];
    assert_eq!((devices.clients, devices.qos as u8), (50, 1), "{text}");
    let per_s = devices.rate.as_ref().unwrap().sum(50, 0);
    assert!((per_s / 2000.0 - 1.0).abs() < 0.1, "{text}");
    let (sent, owed) = sums(&place, &place.folder.join("seen.toml"));
    assert!(
        (owed / sent / 2.5 - 1.0).abs() < 0.02,
        "{owed} of {sent}\n{text}"
    );
}

#[test]
fn what_cannot_be_captured_is_said() {
    let place = Place::new("nothing");
    let of = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_ringload"))
            .arg("capture")
            .args(args)
            .args(["--for", "1s", "-o", "/dev/null"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let target = format!("127.0.0.1:{}", place.port());
    let said = of(&["--subscribe", "a/#", "--target", &target]);
    assert!(
        said.contains("nothing was published on `a/#` for 1s"),
        "{said}"
    );
    let said = of(&["--admin", &place.admin()]);
    assert!(said.contains("no client was connected"), "{said}");
    let said = of(&["--admin", &format!("http://{target}")]);
    assert!(
        said.contains("not HTTP") || said.contains("broke"),
        "{said}"
    );
    let said = of(&["--admin", "unix:/does/not/exist"]);
    assert!(said.contains("is the broker running"), "{said}");
}

#[test]
fn the_bounds_of_the_broker_are_part_of_a_result() {
    let place = Place::new("bounds");
    let source = place.admin();
    let done = run(
        place.port(),
        &[
            "pairs",
            "--rate",
            "20",
            "--duration",
            "1",
            "--warmup",
            "0",
            "--admin",
            &source,
        ],
    );
    assert_eq!(done.code, Some(0), "{done:#?}");
    let inside = done.result().inside.as_ref().unwrap();
    let names: Vec<&str> = inside.bounds.iter().map(|(name, _)| &**name).collect();
    let expected = [
        "dropped/queue_full",
        "dropped/retained_full",
        "dropped/shard_full",
        "dropped/slow_socket",
        "inbox_full",
        "reads_paused",
    ];
    assert_eq!(names, expected);
    assert!(
        inside.stages.iter().any(|stage| stage.name == "turn"),
        "{inside:?}"
    );
    assert!(done.stdout.contains("bounds"), "{}", done.stdout);
    let missing = run(place.port(), &["pairs", "--admin", "unix:/does/not/exist"]);
    assert_eq!(missing.code, Some(1));
    assert!(
        missing.stderr.contains("--admin unix:/does/not/exist"),
        "{}",
        missing.stderr
    );
}
