//! The program as a user meets it: options, messages, exit codes, signals.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::mqtt::{Connect, old_publish_packet};
use crate::program::Folder;

const RINGMQ: &str = env!("CARGO_BIN_EXE_ringmq");

/// A file of its own for each test, gone at the end of it.
struct File(PathBuf);

impl File {
    fn new(contents: &[u8]) -> File {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ringmq-cli-{}-{count}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, contents).unwrap();
        File(path)
    }

    fn name(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A running broker; killed if the test fails.
struct Broker {
    process: Child,
    address: SocketAddr,
    greeting: String,
}

impl Broker {
    fn start(args: &[&str]) -> Broker {
        let mut process = Command::new(RINGMQ)
            .args(["--listen", "127.0.0.1:0"])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut greeting = String::new();
        let mut lines = BufReader::new(process.stdout.take().unwrap());
        while !greeting.contains("stop it with Ctrl-C") {
            if lines.read_line(&mut greeting).unwrap() == 0 {
                let mut errors = String::new();
                let mut stderr = process.stderr.take().unwrap();
                stderr.read_to_string(&mut errors).unwrap();
                panic!("the broker did not start: {errors}");
            }
        }
        let address = greeting
            .split_once("listens on ")
            .and_then(|(_, rest)| rest.split_whitespace().next())
            .and_then(|address| address.parse().ok())
            .expect("the greeting names the address");
        Broker {
            process,
            address,
            greeting,
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.id()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// Waits for the end, at most 5 seconds: exit code, and what it logged.
    fn end(mut self) -> (Option<i32>, String) {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                break status;
            }
            assert!(
                start.elapsed() < Duration::from_secs(5),
                "it goes on and on"
            );
            std::thread::sleep(Duration::from_millis(10));
        };
        let mut log = String::new();
        let mut stderr = self.process.stderr.take().unwrap();
        stderr.read_to_string(&mut log).unwrap();
        (status.code(), log)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(args: &[&str]) -> Output {
    Command::new(RINGMQ).args(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A client that said CONNECT and got CONNACK 0.
fn connect(address: SocketAddr, version: u8) -> TcpStream {
    connect_with(address, version, 60)
}

fn connect_with(address: SocketAddr, version: u8, keep_alive_s: u16) -> TcpStream {
    let mut client = TcpStream::connect(address).unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let connect = Connect {
        version,
        keep_alive_s,
        ..Connect::old("")
    };
    client.write_all(&connect.packet()).unwrap();
    let mut head = [0; 2];
    client.read_exact(&mut head).unwrap();
    assert_eq!(head[0], 0x20);
    let mut rest = vec![0; usize::from(head[1])];
    client.read_exact(&mut rest).unwrap();
    assert_eq!(rest[1], 0);
    client
}

#[test]
fn help_lists_every_setting() {
    let output = run(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = stdout(&output);
    // The keys of the file that the program prints are all the settings there are.
    let file = stdout(&run(&["--print-config"]));
    let keys: Vec<&str> = file
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(" = "))
        .map(|(key, _)| key)
        .collect();
    assert!(keys.len() >= 30, "{keys:?}");
    for key in keys {
        let flag = match key {
            "filter" => "--log ".to_owned(),
            "format" => "--log-format ".to_owned(),
            // One at a time.
            "keys" => "--jwt-key ".to_owned(),
            "issuers" => "--jwt-issuer ".to_owned(),
            "audiences" => "--jwt-audience ".to_owned(),
            // The option says that it is about tokens.
            "token_in" | "token_size_max" => {
                format!("--jwt-{}", key["token_".len()..].replace('_', "-"))
            }
            // Keys that need it have their section, or more, in the option: --tls-version-min.
            _ => format!("-{}", key.replace('_', "-")),
        };
        assert!(help.contains(&flag), "{flag}");
    }
}

#[test]
fn the_version_is_printed() {
    for flag in ["--version", "-V"] {
        let output = run(&[flag]);
        assert_eq!(output.status.code(), Some(0));
        let expected = format!("ringmq {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(stdout(&output), expected);
    }
}

#[test]
fn a_wrong_option_is_a_wrong_setting() {
    let output = run(&["--shard", "2"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        stderr(&output),
        "ringmq: command line: --shard is not an option\n  fix: did you mean --shards?\n"
    );
    assert_eq!(stdout(&output), "");
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_the_reason() {
    let latin1 = File::new(b"[log]\n# gr\xfc\xdfe\n");
    let large = File::new(&vec![b'#'; 2 << 20]);
    for (file, reason) in [
        ("/nonexistent/ringmq.toml", "does not exist"),
        ("/tmp", "is a directory"),
        (
            latin1.name(),
            "is not UTF-8: the first wrong byte is number 10, on line 2",
        ),
        (large.name(), "is larger than 1024 KiB"),
        ("/dev/zero", "is larger than 1024 KiB"),
    ] {
        let output = run(&["--config", file]);
        assert_eq!(output.status.code(), Some(2));
        let message = stderr(&output);
        let expected = format!("ringmq: {file}: the configuration file {reason}");
        assert!(message.starts_with(&expected), "{message}");
        assert!(message.contains("\n  fix: "), "{message}");
    }
}

#[test]
fn a_file_without_permission_is_named_with_the_reason() {
    // Root reads everything.
    if rustix::process::geteuid().is_root() {
        return;
    }
    let file = File::new(b"");
    std::fs::set_permissions(&file.0, std::fs::Permissions::from_mode(0o0)).unwrap();
    let output = run(&["--config", file.name()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("may not be read by this user"));
}

#[test]
fn all_mistakes_of_a_file_are_reported_with_their_lines() {
    let file = File::new(b"[limits]\npacket_size_max = \"64KB\"\n\n[network]\nlisen = \"x\"\n");
    let output = run(&["--check-config", "--config", file.name()]);
    assert_eq!(output.status.code(), Some(2));
    let name = file.name();
    let expected = format!(
        "ringmq: {name}:2:19: limits.packet_size_max is `64KB`, whose unit `KB` is not known\n\
         \x20 2 | packet_size_max = \"64KB\"\n\
         \x20   |                   ^^^^^^\n\
         \x20 fix: did you mean 64KiB?\n\
         ringmq: {name}:5:1: network.lisen is not a setting\n\
         \x20 5 | lisen = \"x\"\n\
         \x20   | ^^^^^\n\
         \x20 fix: did you mean `listen`?\n"
    );
    assert_eq!(stderr(&output), expected);
}

#[test]
fn check_config_shows_what_differs_from_the_defaults() {
    let file = File::new(b"[limits]\npacket_size_max = \"2MiB\"\nreceive_maximum = 1024\n");
    let output = run(&["-c", file.name(), "--shards=2", "--check-config"]);
    assert_eq!(output.status.code(), Some(0));
    let name = file.name();
    let expected = format!(
        "{name}: ok\n\
         2 settings differ from the default:\n\
         \x20 runtime.shards = 2  (command line; default \"auto\")\n\
         \x20 limits.packet_size_max = \"2MiB\"  ({name}:2:19; default \"1MiB\")\n"
    );
    assert_eq!(stdout(&output), expected);
    assert_eq!(stderr(&output), "");
}

#[test]
fn a_printed_configuration_is_one_without_changes() {
    let file = File::new(&run(&["--print-config"]).stdout);
    let output = run(&["--config", file.name(), "--check-config"]);
    let expected = format!("{}: ok\nevery setting has its default\n", file.name());
    assert_eq!(stdout(&output), expected, "{}", stderr(&output));
}

#[test]
fn an_open_address_needs_permission() {
    let output = run(&["--listen", "0.0.0.0:0"]);
    assert_eq!(output.status.code(), Some(2));
    let message = stderr(&output);
    assert!(message.contains("allow_anonymous = true"), "{message}");
}

#[test]
fn a_port_in_use_names_who_has_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let output = run(&["--listen", &address]);
    assert_eq!(output.status.code(), Some(1));
    let message = stderr(&output);
    let expected = format!("{address} is already in use by ");
    assert!(message.contains(&expected), "{message}");
    let pid = format!("(pid {})\n", std::process::id());
    assert!(message.contains(&pid), "{message}");
}

#[test]
fn a_second_broker_does_not_share_the_port_of_the_first() {
    let first = Broker::start(&["--shards", "1"]);
    let output = run(&["--shards", "1", "--listen", &first.address.to_string()]);
    assert_eq!(output.status.code(), Some(1));
    let message = stderr(&output);
    let pid = format!("ringmq (pid {})", first.process.id());
    assert!(message.contains(&pid), "{message}");
}

#[test]
fn a_core_that_does_not_exist_stops_the_start() {
    let output = run(&["--listen", "127.0.0.1:0", "--cores", "1000"]);
    assert_eq!(output.status.code(), Some(1));
    let message = stderr(&output);
    assert!(message.contains("core 1000 is not among"), "{message}");
}

#[test]
fn the_greeting_shows_how_to_try_it() {
    let broker = Broker::start(&["--shards", "1", "--cores", "0"]);
    let (host, port) = (broker.address.ip(), broker.address.port());
    for line in [
        "1 shard, pinned to core 0 (as runtime.cores says); room for ".to_owned(),
        "limits: packets of 1MiB; ".to_owned(),
        format!("  mosquitto_sub -h {host} -p {port} -t 'demo/#' -v\n"),
        format!("  mosquitto_pub -h {host} -p {port} -t demo/hello -m 'Hello'\n"),
    ] {
        assert!(broker.greeting.contains(&line), "{}", broker.greeting);
    }
}

#[test]
fn clients_are_told_when_a_signal_stops_the_broker() {
    for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
        let broker = Broker::start(&["--shards", "2"]);
        let mut old = connect(broker.address, 4);
        let mut new = connect(broker.address, 5);
        let start = Instant::now();
        broker.signal(signal);
        let mut bytes = Vec::new();
        new.read_to_end(&mut bytes).unwrap();
        // [MQTT-3.14.2] DISCONNECT 0x8B: server shutting down; perhaps with properties.
        assert_eq!((bytes[0], bytes[2]), (0xe0, 0x8b), "{bytes:x?}");
        let mut bytes = Vec::new();
        old.read_to_end(&mut bytes).unwrap();
        assert!(
            bytes.is_empty(),
            "MQTT 3.1.1 has no DISCONNECT for servers: {bytes:x?}"
        );
        drop((old, new));
        let (code, log) = broker.end();
        assert_eq!(code, Some(0), "{log}");
        assert!(start.elapsed() < Duration::from_secs(5));
        assert!(log.contains(&format!("stopping signal={name}")), "{log}");
        assert!(log.trim_end().ends_with("stopped"), "{log}");
    }
}

/// The affinity mask is the thread's that starts the broker.
#[test]
fn a_confined_broker_pins_its_shards() {
    let mine = sched_getaffinity(None).unwrap();
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|&core| mine.is_set(core))
        .collect();
    let [first, _, ..] = cores[..] else {
        return;
    };
    let start = move || {
        let mut one = CpuSet::new();
        one.set(first);
        sched_setaffinity(None, &one).unwrap();
        Broker::start(&[])
    };
    let broker = std::thread::spawn(start).join().unwrap();
    let line = format!("1 shard, pinned to core {first} (the process is confined to them)");
    assert!(broker.greeting.contains(&line), "{}", broker.greeting);
}

const PINGREQ: [u8; 2] = [0xC0, 0];

fn expect_pingresps(client: &mut TcpStream, count: usize) {
    let mut answers = vec![0; 2 * count];
    client.read_exact(&mut answers).unwrap();
    assert_eq!(answers, [0xD0, 0].repeat(count));
}

/// What a virtual machine does that moves to another host.
#[test]
fn clients_that_sent_in_time_outlive_a_pause_of_the_broker() {
    let broker = Broker::start(&["--shards", "2"]);
    let connect = |_| connect_with(broker.address, 5, 2);
    let mut clients: Vec<TcpStream> = (0..20).map(connect).collect();
    broker.signal(Signal::STOP);
    // Far beyond one and a half times their keep alive.
    let pings = 20;
    for _ in 0..pings {
        std::thread::sleep(Duration::from_millis(300));
        for client in &mut clients {
            client.write_all(&PINGREQ).unwrap();
        }
    }
    broker.signal(Signal::CONT);
    for client in &mut clients {
        expect_pingresps(client, pings);
    }
    for client in &mut clients {
        client.write_all(&PINGREQ).unwrap();
        expect_pingresps(client, 1);
    }
}

/// Memory of the process that is its own, in kilobytes.
fn private_kilobytes(broker: &Broker) -> u64 {
    let path = format!("/proc/{}/status", broker.process.id());
    let status = std::fs::read_to_string(path).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let size = line.unwrap().trim().strip_suffix(" kB").unwrap();
    size.parse().unwrap()
}

#[test]
fn memory_of_a_peak_is_given_back() {
    let broker = Broker::start(&["--shards", "1"]);
    let mut client = connect(broker.address, 4);
    let mut retain = |payload: &[u8]| {
        for number in 0..2000 {
            let packet = old_publish_packet(&format!("peak/{number}"), payload, true);
            client.write_all(&packet).unwrap();
        }
        client.write_all(&PINGREQ).unwrap();
        expect_pingresps(&mut client, 1);
    };
    let before = private_kilobytes(&broker);
    retain(&[b'x'; 16 * 1024]);
    let full = private_kilobytes(&broker);
    assert!(full > before + 30_000, "{before} kB, then {full} kB");
    retain(b"");
    let end = Instant::now() + Duration::from_secs(60);
    while private_kilobytes(&broker) > before + (full - before) / 4 {
        assert!(
            Instant::now() < end,
            "{} kB stay",
            private_kilobytes(&broker)
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_second_signal_cuts_the_stop_short() {
    for (signal, expected) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let broker = Broker::start(&["--shards", "1"]);
        // A client that got its goodbye and does not close keeps the broker waiting for a while.
        let mut client = connect(broker.address, 5);
        broker.signal(signal);
        client.read_to_end(&mut Vec::new()).unwrap();
        broker.signal(signal);
        let (code, log) = broker.end();
        assert_eq!(code, Some(expected), "{log}");
        drop(client);
    }
}

#[test]
fn a_hangup_does_not_end_the_broker() {
    let broker = Broker::start(&["--shards", "1"]);
    broker.signal(Signal::HUP);
    connect(broker.address, 5);
    broker.signal(Signal::TERM);
    let (code, log) = broker.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("reloaded"), "{log}");
}

#[test]
fn a_closed_stdout_does_not_end_the_broker() {
    let mut broker = Broker::start(&["--shards", "1", "--log-format", "json"]);
    // Its other end is gone since the greeting was read; so is this one of stderr.
    drop(broker.process.stderr.take());
    broker.signal(Signal::HUP);
    connect(broker.address, 4);
    broker.signal(Signal::TERM);
    assert_eq!(broker.process.wait().unwrap().code(), Some(0));
}

#[test]
fn a_json_log_is_one_object_per_line() {
    let broker = Broker::start(&["--shards", "1", "--log-format", "json"]);
    broker.signal(Signal::TERM);
    let (_, log) = broker.end();
    assert!(log.lines().count() >= 3, "{log}");
    for line in log.lines() {
        assert!(
            line.starts_with("{\"timestamp\":\"") && line.ends_with('}'),
            "{line}"
        );
    }
    assert!(log.contains("\"message\":\"started\""), "{log}");
}

#[test]
fn an_idle_broker_has_the_threads_that_it_needs() {
    let folder = Folder::new();
    let admin = format!("unix:{}", folder.path("admin.sock"));
    let broker = Broker::start(&["--shards", "2", "--admin", &admin]);
    let tasks = format!("/proc/{}/task", broker.process.id());
    let names = || {
        let tasks = std::fs::read_dir(&tasks).unwrap();
        let mut names: Vec<String> = tasks
            .map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap())
            .map(|name| name.trim().to_owned())
            .collect();
        names.sort();
        names
    };
    // Each executor brings a thread for calls that block; the allocator has one.
    let expected = [
        "control",
        "jemalloc_bg_thd",
        "log",
        "ringmq",
        "shard-0",
        "shard-0",
        "shard-1",
        "shard-1",
        "signals",
    ];
    // A thread takes on its name when it first runs.
    let deadline = Instant::now() + Duration::from_secs(10);
    while names() != expected {
        assert!(Instant::now() < deadline, "{:?}", names());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_connect_that_is_too_large_is_answered_so_that_the_answer_can_be_read() {
    let broker = Broker::start(&["--shards", "1", "--connect-size-max", "64KiB"]);
    for version in [4, 5] {
        let mut client = TcpStream::connect(broker.address).unwrap();
        let timeout = Some(Duration::from_secs(60));
        client.set_read_timeout(timeout).unwrap();
        let mut connect = vec![
            0x10, 0xE0, 0xA7, 0x12, 0, 4, b'M', b'Q', b'T', b'T', version,
        ];
        connect.resize(4 + 300_000, 0);
        // Nobody stops in the middle of a packet: all of it is sent before anything is read.
        client.write_all(&connect).unwrap();
        let mut answer = Vec::new();
        client
            .read_to_end(&mut answer)
            .expect("an end, and no reset");
        match version {
            5 => assert_eq!((answer[0], answer[3]), (0x20, 0x95)),
            _ => assert!(answer.is_empty()),
        }
    }
}
