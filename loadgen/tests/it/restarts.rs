//! A broker that is killed and started again during a run, in a process of its own.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs, thread};

use crate::common::broker::{Script, Scripted};
use crate::common::{Done, run, start};
use ringmq::store::StoreConfig;
use ringmq::{Broker, BrokerConfig};
use ringmq_core::store::{Downtime, Policy};

/// Where the broker that this process is keeps its data; empty: nowhere.
const DATA: &str = "RINGLOAD_TEST_DATA";
/// Where it listens.
const PORT: &str = "RINGLOAD_TEST_PORT";

/// Not a test: the broker of the tests below, which start it as a process that they can kill.
#[test]
#[ignore = "is a process of other tests"]
fn a_broker_until_it_is_killed() {
    let Ok(port) = env::var(PORT) else {
        return;
    };
    let data = env::var(DATA).unwrap();
    let listen = SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()));
    let store = (!data.is_empty()).then(|| StoreConfig {
        data_dir: PathBuf::from(data),
        policy: Policy::Always,
        free_bytes_min: 0,
        downtime: Downtime::Checked,
    });
    let config = BrokerConfig {
        listen: vec![listen.into()],
        shards: 2,
        store,
        ..BrokerConfig::default()
    };
    let _broker = Broker::start(&config).unwrap();
    loop {
        thread::park();
    }
}

/// That process; ends with the test, however that ends.
struct Process(Child);

impl Process {
    fn start(port: u16, data: &Path) -> Process {
        let name = "restarts::a_broker_until_it_is_killed";
        let child = Command::new(env::current_exe().unwrap())
            .args([name, "--exact", "--ignored"])
            .env(PORT, port.to_string())
            .env(DATA, data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        Process(child.unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// One that nobody listens on now.
fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn wait_until_it_listens(port: u16) {
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        thread::sleep(Duration::from_millis(10));
    }
}

/// A run during which the broker is killed twice.
fn killed_twice(data: &Path) -> Done {
    let port = free_port();
    let mut broker = Process::start(port, data);
    wait_until_it_listens(port);
    let args = [
        "restarts",
        "--rate",
        "50",
        "--warmup",
        "0",
        "--duration",
        "6s",
        "--no-sys",
    ];
    let running = start(port, &args);
    for _ in 0..2 {
        thread::sleep(Duration::from_millis(1500));
        drop(broker);
        broker = Process::start(port, data);
    }
    running.finish()
}

fn kinds(done: &Done) -> Vec<&str> {
    let troubles = done.result().troubles.iter();
    troubles.map(|trouble| trouble.kind.as_str()).collect()
}

#[test]
fn what_a_broker_acknowledged_outlives_it() {
    let data = env::temp_dir().join(format!("ringload-restarts-{}", std::process::id()));
    fs::create_dir(&data).unwrap();
    let done = killed_twice(&data.join("data"));
    fs::remove_dir_all(&data).unwrap();
    assert_eq!((done.code, kinds(&done)), (Some(0), vec![]), "{done:#?}");
    let result = done.result();
    let ledger = result.totals.ledger;
    assert_eq!((ledger.lost, ledger.excused), (0, 0), "{done:#?}");
    assert!(ledger.owed > 0 && ledger.delivered == ledger.owed);
    for group in &result.groups {
        assert!(group.reconnects >= group.clients, "{}", group.name);
    }
}

#[test]
fn a_broker_that_forgets_sessions_is_found_out() {
    let done = killed_twice(Path::new(""));
    assert_eq!(done.code, Some(1), "{done:#?}");
    assert!(kinds(&done).contains(&"session was lost"), "{done:#?}");
}

#[test]
fn what_is_acknowledged_and_lost_or_comes_twice_is_found_out() {
    let script = Script {
        lose: [5, 6].into(),
        duplicate: [9].into(),
        ..Script::default()
    };
    for (qos, expected) in [
        ("1", vec!["acknowledged and lost"]),
        ("2", vec!["acknowledged and lost", "QoS 2 more than once"]),
    ] {
        let broker = Scripted::start(script.clone());
        let args = [
            "pairs",
            "--publishers",
            "1",
            "--subscribers",
            "1",
            "--rate",
            "500",
            "--qos",
            qos,
            "--set",
            "publishers.messages=50",
            "--set",
            "drain=500ms",
            "--no-sys",
            "--set",
            "restarts=true",
            "--set",
            "publishers.clean=false",
            "--set",
            "subscribers.clean=false",
            "--set",
            "publishers.reconnect=true",
            "--set",
            "subscribers.reconnect=true",
        ];
        let done = run(broker.port, &args);
        assert_eq!(
            (done.code, kinds(&done)),
            (Some(1), expected),
            "QoS {qos} {done:#?}"
        );
    }
}
