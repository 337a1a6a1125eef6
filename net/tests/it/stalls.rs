//! Real stalls of each kind, seen by the control plane.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant as Clock, SystemTime};

use ringmq::admin::{Admin, AdminAddress, AdminConfig, Facts};
use ringmq::{Broker, BrokerConfig, Core};
use ringmq_core::connection::Output;
use ringmq_core::ids::ConnId;
use ringmq_core::shard::{Close, Deadlines, Event, Outbox};
use ringmq_core::time::Instant;
use rustix::process::setpriority_process;
use rustix::thread::gettid;
use serde_json::Value;

use crate::program::Folder;

/// A core that stalls as the bytes of its clients say.
#[derive(Default)]
struct Staller {
    connections: HashMap<ConnId, ()>,
}

impl Core for Staller {
    fn handle(&mut self, _: Instant, event: Event<'_>, out: &mut Outbox) {
        match event {
            Event::Accepted { conn, .. } => _ = self.connections.insert(conn, ()),
            Event::Received { bytes: b"r", .. } => compute_for_ever(),
            Event::Received { bytes: b"w", .. } => be_kept_from_the_core(),
            Event::Received { bytes: b"b", .. } => stall(|| thread::sleep(STALL)),
            Event::Closed { conn, .. } => _ = self.connections.remove(&conn),
            Event::ShutdownRequested => {
                let all = self.connections.keys();
                out.closes
                    .extend(all.map(|&conn| Close { conn, flush: false }));
            }
            _ => {}
        }
    }

    fn deadlines(&self) -> Deadlines {
        Deadlines::default()
    }

    fn take_output(&mut self, _: ConnId) -> Option<Output> {
        None
    }

    fn recycle(&mut self, _: Output) {}

    fn is_home(&self, conn: ConnId) -> bool {
        self.connections.contains_key(&conn)
    }
}

/// Whether the stall was seen, which ends it.
static IS_SEEN: AtomicBool = AtomicBool::new(false);

/// Does something for 150 ms, and until it was seen.
fn stall(step: impl Fn()) {
    let begin = Clock::now();
    while begin.elapsed() < STALL || !IS_SEEN.load(Ordering::Relaxed) {
        step();
    }
}

#[inline(never)]
fn compute_for_ever() {
    // Other programs are not to make it wait; without leave for that it may take more than one attempt.
    let _ = setpriority_process(Some(gettid()), -19);
    stall(std::hint::spin_loop);
}

/// Others of a higher priority take the core, to which the shard is pinned, until that was seen.
fn be_kept_from_the_core() {
    let others = [(); 3].map(|()| {
        thread::spawn(|| {
            while !IS_SEEN.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        })
    });
    setpriority_process(Some(gettid()), 19).unwrap();
    stall(std::hint::spin_loop);
    others.into_iter().for_each(|other| other.join().unwrap());
}

fn stalls(socket: &str) -> Vec<Value> {
    let mut stream = UnixStream::connect(socket).unwrap();
    let request = "GET /api/v1/stalls HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    body["stalls"].as_array().unwrap().clone()
}

/// What a machine does beside this decides how often a stall is seen as what it is, so some may be seen as
/// another kind: the test waits for one that is seen right.
#[test]
fn a_stall_of_each_kind_is_seen_as_what_it_is() {
    let folder = Folder::new();
    let socket = folder.path("admin.sock");
    let allowed = rustix::thread::sched_getaffinity(None).unwrap();
    let core = (0..1024).find(|core| allowed.is_set(*core)).unwrap();
    let mut config = BrokerConfig {
        cores: vec![core],
        ..BrokerConfig::default()
    };
    config.listen = vec![
        "127.0.0.1:0"
            .parse::<std::net::SocketAddr>()
            .unwrap()
            .into(),
    ];
    let facts = Facts {
        limits: Arc::default(),
        version: "test",
        started_at: SystemTime::now(),
        listeners: Vec::new(),
        connections_max: 10,
        data_dir: None,
        tallies: Arc::default(),
        settings: Arc::default(),
    };
    for (order, kind) in [(b"r", "running"), (b"b", "blocked"), (b"w", "waiting")] {
        let broker = Broker::start_with(&config, |_| Staller::default()).unwrap();
        let admin = AdminConfig {
            listen: vec![AdminAddress::Unix(socket.clone().into())],
            stall_threshold: Duration::from_millis(60),
            ..AdminConfig::default()
        };
        let admin = Admin::start(admin, facts.clone(), broker.asker()).unwrap();
        let mut client = TcpStream::connect(broker.local_addresses()[0]).unwrap();
        let found = (0..ATTEMPTS_MAX).find_map(|attempt| {
            IS_SEEN.store(false, Ordering::Relaxed);
            client.write_all(order).unwrap();
            wait_for(|| stalls(&socket).len() > attempt);
            IS_SEEN.store(true, Ordering::Relaxed);
            wait_for(|| stalls(&socket)[0]["has_ended"] == true);
            stalls(&socket)
                .into_iter()
                .find(|stall| stall["kind"] == kind)
        });
        let stall = found.unwrap_or_else(|| panic!("no {kind} stall: {:#?}", stalls(&socket)));
        assert!(stall["took_ms"].as_u64().unwrap() >= 60, "{stall}");
        let functions = stall["functions"].to_string();
        assert_eq!(
            functions.contains("compute_for_ever"),
            kind == "running",
            "{stall}"
        );
        drop((admin, client));
        broker.shutdown();
        broker.join();
    }
}

fn wait_for(mut is_so: impl FnMut() -> bool) {
    let begin = Clock::now();
    while !is_so() {
        assert!(
            begin.elapsed() < Duration::from_secs(30),
            "nothing was seen"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

const STALL: Duration = Duration::from_millis(150);
const ATTEMPTS_MAX: usize = 30;
