//! Users, rules and their reload, with the program as it runs: files on disk, MQTT on a socket.

// The configuration of clippy admits it in functions marked as tests, but not in what they share.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use sha2::Sha256;

const RINGMQ: &str = env!("CARGO_BIN_EXE_ringmq");

/// A folder of its own for each test, gone at the end of it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ringmq-auth-{}-{count}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// Puts a file in the place of the one that there is.
    fn write(&self, name: &str, text: &str) -> String {
        let aside = self.0.join("aside");
        fs::write(&aside, text).unwrap();
        fs::rename(&aside, self.0.join(name)).unwrap();
        self.path(name)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn passwd(&self, name: &str, user: &str, password: &str) -> String {
        let path = self.path(name);
        let mut command = Command::new(RINGMQ);
        command.args(["passwd", "--pbkdf2", "--iterations", "4096", "--batch"]);
        if !self.0.join(name).exists() {
            command.arg("--create");
        }
        let output = command.args([&path, user, password]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running broker; killed if the test fails.
struct Broker {
    process: Child,
    address: SocketAddr,
    log: BufReader<std::process::ChildStderr>,
}

impl Broker {
    fn start(args: &[&str]) -> Broker {
        let mut process = Command::new(RINGMQ)
            .args(["--listen", "127.0.0.1:0", "--shards", "2"])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut greeting = String::new();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        while !greeting.contains("stop it with Ctrl-C") {
            if stdout.read_line(&mut greeting).unwrap() == 0 {
                let mut errors = String::new();
                process
                    .stderr
                    .take()
                    .unwrap()
                    .read_to_string(&mut errors)
                    .unwrap();
                panic!("the broker did not start: {errors}");
            }
        }
        let address = greeting.split_once("listens on ").unwrap().1;
        let address = address.split_whitespace().next().unwrap().parse().unwrap();
        let log = BufReader::new(process.stderr.take().unwrap());
        Broker {
            process,
            address,
            log,
        }
    }

    /// Reads the log up to a line with this text.
    fn wait_for(&mut self, text: &str) -> String {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert!(
                self.log.read_line(&mut line).unwrap() > 0,
                "no line with {text}"
            );
        }
        line
    }

    fn hang_up(&self) {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, Signal::HUP).unwrap();
    }

    fn connect(&self, id: &str, credentials: Option<(&str, &str)>) -> (TcpStream, u8) {
        let mut socket = TcpStream::connect(self.address).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let mut body = b"\x00\x04MQTT\x04".to_vec();
        body.push(if credentials.is_some() { 0xC2 } else { 0x02 });
        body.extend([0, 0]);
        put(&mut body, id);
        if let Some((user, password)) = credentials {
            put(&mut body, user);
            put(&mut body, password);
        }
        let mut packet = vec![0x10];
        let mut size = body.len();
        while size > 127 {
            packet.push((size % 128) as u8 | 0x80);
            size /= 128;
        }
        packet.push(size as u8);
        packet.extend(body);
        socket.write_all(&packet).unwrap();
        let mut connack = [0; 4];
        socket.read_exact(&mut connack).unwrap();
        assert_eq!(connack[..3], [0x20, 2, 0]);
        (socket, connack[3])
    }

    /// The return code of a CONNECT.
    fn code(&self, credentials: Option<(&str, &str)>) -> u8 {
        self.connect("c", credentials).1
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn put(body: &mut Vec<u8>, text: &str) {
    body.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
    body.extend(text.as_bytes());
}

/// The code of the SUBACK for a filter.
fn subscribe(socket: &mut TcpStream, filter: &str) -> u8 {
    let mut body = vec![0, 1];
    put(&mut body, filter);
    body.push(0);
    let mut packet = vec![0x82, u8::try_from(body.len()).unwrap()];
    packet.extend(body);
    socket.write_all(&packet).unwrap();
    let mut suback = [0; 5];
    socket.read_exact(&mut suback).unwrap();
    suback[4]
}

/// What a start says that fails.
fn refused(args: &[&str]) -> String {
    let output = Command::new(RINGMQ).args(args).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn users_get_in_by_their_password_and_do_what_the_rules_say() {
    let folder = Folder::new();
    folder.passwd("users", "alice", "secret");
    let users = folder.passwd("users", "bob", "hidden");
    let acl = folder.write("acl", "user alice\ntopic read a/#\npattern read own/%u\n");
    let broker = Broker::start(&["--password-file", &users, "--acl-file", &acl]);
    for (credentials, expected) in [
        (Some(("alice", "secret")), 0),
        (Some(("alice", "secret")), 0),
        (Some(("bob", "hidden")), 0),
        (Some(("alice", "hidden")), 4),
        (Some(("alice", "")), 4),
        (Some(("", "secret")), 4),
        (Some(("carol", "secret")), 4),
        (None, 5),
    ] {
        assert_eq!(broker.code(credentials), expected, "{credentials:?}");
    }
    let (mut alice, _) = broker.connect("c", Some(("alice", "secret")));
    for (filter, expected) in [
        ("a/b", 0),
        ("b", 0x80),
        ("own/alice", 0),
        ("own/bob", 0x80),
        ("#", 0),
    ] {
        assert_eq!(subscribe(&mut alice, filter), expected, "{filter}");
    }
}

/// Threat 91.
#[test]
fn a_reload_takes_on_all_files_or_none() {
    let folder = Folder::new();
    let users = folder.passwd("users", "alice", "secret");
    let acl = folder.write("acl", "pattern readwrite a\n");
    let config = folder.write(
        "ringmq.toml",
        "[auth]\npassword_file = [\"users\"]\nacl_file = [\"acl\"]\n",
    );
    let mut broker = Broker::start(&["--config", &config]);
    let (alice, bob) = (Some(("alice", "secret")), Some(("bob", "hidden")));
    assert_eq!((broker.code(alice), broker.code(bob)), (0, 4));
    // A change of a file is found without being told.
    folder.passwd("users", "bob", "hidden");
    broker.wait_for("reloaded");
    assert_eq!((broker.code(alice), broker.code(bob)), (0, 0));
    // One file is right and the other is not: neither is taken on.
    let good = fs::read_to_string(&users).unwrap();
    folder.write("users", good.split_once('\n').unwrap().0);
    folder.write("acl", "pattern raed a\n");
    broker.hang_up();
    let line = broker.wait_for("acl:1: the line");
    assert!(line.contains("fix:"), "{line}");
    broker.wait_for("everything stays as it was");
    assert_eq!((broker.code(alice), broker.code(bob)), (0, 0));
    for wrong in [
        "",
        "# empty\n",
        "alice:secret\n",
        "alice:$7$101$AAAA\n",
        &good[..good.len() - 9],
    ] {
        folder.write("users", wrong);
        folder.write("acl", "pattern readwrite a\n");
        broker.hang_up();
        broker.wait_for("everything stays as it was");
        assert_eq!((broker.code(alice), broker.code(bob)), (0, 0), "{wrong}");
    }
    fs::remove_file(&users).unwrap();
    broker.hang_up();
    broker.wait_for("everything stays as it was");
    assert_eq!((broker.code(alice), broker.code(bob)), (0, 0));
    fs::create_dir(&users).unwrap();
    broker.hang_up();
    broker.wait_for("everything stays as it was");
    fs::remove_dir(&users).unwrap();
    // Both are right again, and a setting that needs a restart is named.
    folder.write("users", good.split_once('\n').unwrap().0);
    let mut text = fs::read_to_string(&config).unwrap();
    text += "[limits]\ntopic_levels_max = 7\n";
    folder.write("ringmq.toml", &text);
    let (mut session, _) = broker.connect("bob", bob);
    broker.hang_up();
    assert!(
        broker
            .wait_for("needs a restart")
            .contains("limits.topic_levels_max")
    );
    broker.wait_for("reloaded");
    assert_eq!((broker.code(alice), broker.code(bob)), (0, 4));
    // Who is no user any more is gone.
    assert_eq!(session.read(&mut [0; 1]).unwrap_or(0), 0);
    let (mut alice, _) = broker.connect("c", alice);
    assert_eq!(
        (subscribe(&mut alice, "a"), subscribe(&mut alice, "b")),
        (0, 0x80)
    );
    folder.write("acl", "pattern readwrite b\n");
    broker.hang_up();
    broker.wait_for("reloaded");
    // The shards take it on with their next turn: this client's first packet may meet the old rules.
    while subscribe(&mut alice, "b") != 0 {}
    assert_eq!(subscribe(&mut alice, "a"), 0x80);
    let _ = acl;
}

/// Threat 91.
#[test]
fn reloads_that_fail_are_counted() {
    let folder = Folder::new();
    let config = folder.write("ringmq.toml", "[runtime]\nsys_interval = 1\n");
    let mut broker = Broker::start(&["--config", &config]);
    broker.hang_up();
    broker.wait_for("reloaded");
    folder.write("ringmq.toml", "[limits]\nno_such_bound = 1\n");
    for _ in 0..2 {
        broker.hang_up();
        broker.wait_for("everything stays as it was");
    }
    let (mut watcher, _) = broker.connect("watcher", None);
    assert_eq!(subscribe(&mut watcher, "$SYS/broker/reloads/failed"), 0);
    let mut reader = BufReader::new(watcher);
    // Published once a second: what was counted comes with one of the next messages.
    let mut message = Vec::new();
    while !message.ends_with(b"reloads/failed2") {
        let mut head = [0; 2];
        reader.read_exact(&mut head).unwrap();
        message.resize(usize::from(head[1]), 0);
        reader.read_exact(&mut message).unwrap();
    }
}

/// A token of alice's, signed with HS256.
fn token(secret: &str, ends_at: u64) -> String {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let rules = r#"{"subscribe":["a/#"],"deny":["a/no"]}"#;
    let claims = format!(r#"{{"sub":"alice","exp":{ends_at},"acl":{rules}}}"#);
    let signed = format!(
        "{}.{}",
        encode(br#"{"alg":"HS256"}"#),
        encode(claims.as_bytes())
    );
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(signed.as_bytes());
    format!("{signed}.{}", encode(&mac.finalize().into_bytes()))
}

/// Threats 78 and 80.
#[test]
fn tokens_let_in_as_long_as_they_and_their_key_are_good() {
    let (one, other) = (
        "one secret of at least 32 bytes..",
        "another secret, not shorter either",
    );
    let folder = Folder::new();
    folder.write("key", one);
    let config = "[jwt]\nkeys = [\"HS256:key\"]\nleeway = 0\n";
    let config = folder.write("ringmq.toml", config);
    let mut broker = Broker::start(&["--config", &config]);
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = time.as_secs();
    let (good, of_other) = (token(one, now + 3600), token(other, now + 3600));
    for (credentials, expected) in [
        (Some(("", &*good)), 0),
        (Some(("alice", &*good)), 0),
        (Some(("bob", &*good)), 5),
        (Some(("", &*of_other)), 5),
        (Some(("", &*token(one, now - 1))), 5),
        (Some(("", "secret")), 4),
        (None, 5),
    ] {
        assert_eq!(broker.code(credentials), expected, "{credentials:?}");
    }
    let (mut alice, _) = broker.connect("alice", Some(("", &good)));
    for (filter, expected) in [("a/b", 0), ("a/no", 0x80), ("b", 0x80), ("#", 0)] {
        assert_eq!(subscribe(&mut alice, filter), expected, "{filter}");
    }
    // It ends with its token.
    let (mut brief, code) = broker.connect("brief", Some(("", &token(one, now + 5))));
    assert_eq!((code, brief.read(&mut [0; 1]).unwrap_or(0)), (0, 0));
    // A key that is none is not taken on, and one that is ends what the former one proved.
    folder.write("key", "short");
    broker.hang_up();
    broker.wait_for("everything stays as it was");
    assert_eq!(broker.code(Some(("", &good))), 0);
    folder.write("key", other);
    broker.hang_up();
    broker.wait_for("reloaded");
    assert_eq!(alice.read(&mut [0; 1]).unwrap_or(0), 0);
    assert_eq!(broker.code(Some(("", &good))), 5);
    assert_eq!(broker.code(Some(("", &of_other))), 0);
}

/// Threat 91: no file can be opened while a reload runs.
#[test]
fn a_reload_without_descriptors_changes_nothing() {
    let folder = Folder::new();
    let users = folder.passwd("users", "alice", "secret");
    let acl = folder.write("acl", "pattern readwrite a\n");
    let mut broker = Broker::start(&["--password-file", &users, "--acl-file", &acl]);
    let (mut alice, code) = broker.connect("c", Some(("alice", "secret")));
    assert_eq!(code, 0);
    folder.write("acl", "pattern readwrite b\n");
    let pid = Some(Pid::from_child(&broker.process));
    let none = Rlimit {
        current: Some(0),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    let before = prlimit(pid, Resource::Nofile, none).unwrap();
    broker.hang_up();
    let line = broker.wait_for("cannot be read");
    assert!(line.contains("fix:"), "{line}");
    broker.wait_for("everything stays as it was");
    assert_eq!(
        (subscribe(&mut alice, "a"), subscribe(&mut alice, "b")),
        (0, 0x80)
    );
    prlimit(pid, Resource::Nofile, before).unwrap();
    broker.hang_up();
    broker.wait_for("reloaded");
    // The shards take it on with their next turn.
    while subscribe(&mut alice, "b") != 0 {}
    assert_eq!(broker.code(Some(("alice", "secret"))), 0);
}

/// Threats 77 and 83.
#[test]
fn files_that_cannot_be_used_and_open_doors_refuse_the_start() {
    let folder = Folder::new();
    let users = folder.passwd("users", "alice", "secret");
    let missing = folder.path("missing");
    let empty = folder.write("empty", "");
    let plain = folder.write("plain", "alice:secret\n");
    let acl = folder.write("acl", "pattern read #\n");
    let all = ["--access-default", "allow"];
    for (args, expected) in [
        (vec!["--listen", "0.0.0.0:0"], "--allow-anonymous"),
        (
            vec!["--password-file", &users],
            "no rule says what they may do",
        ),
        (
            vec!["--password-file", &missing, "--acl-file", &acl],
            "does not exist",
        ),
        (
            vec!["--password-file", &empty, "--acl-file", &acl],
            "has no user in it",
        ),
        (
            vec!["--password-file", &plain, "--acl-file", &acl],
            "plain:1: the line holds something after",
        ),
        (
            vec!["--password-file", &users, "--acl-file", &empty],
            "has no rule in it",
        ),
        (
            vec!["--password-file", &users, "--acl-file", &missing],
            "does not exist",
        ),
        (
            vec!["--password-file", &users, "--rules-file", &empty],
            "has no rule in it",
        ),
        (
            vec!["--scram-file", &empty, all[0], all[1]],
            "has no user in it",
        ),
        (
            vec!["--scram-file", &users, all[0], all[1]],
            "users:1: the line is wrong",
        ),
    ] {
        let mut checked = args.clone();
        checked.push("--check-config");
        for args in [&args, &checked] {
            let errors = refused(args);
            assert!(errors.contains(expected), "{args:?}: {errors}");
            assert!(!errors.contains("secret"), "{errors}");
        }
    }
    let open = Broker::start(&["--allow-anonymous"]);
    assert_eq!(open.code(None), 0);
    let both = Broker::start(&[
        "--password-file",
        &users,
        all[0],
        all[1],
        "--allow-anonymous",
    ]);
    assert_eq!((both.code(None), both.code(Some(("alice", "no")))), (0, 4));
}

/// The clients of Mosquitto, with its own tools for files.
#[test]
fn mosquitto_s_tools_write_files_that_are_read() {
    let folder = Folder::new();
    let users = folder.path("users");
    let Ok(made) = Command::new("mosquitto_passwd")
        .args(["-c", "-b", &users, "carol", "secret"])
        .output()
    else {
        return; // Not on this machine: the format is tested in the core.
    };
    assert!(made.status.success(), "{made:?}");
    let broker = Broker::start(&["--password-file", &users, "--access-default", "allow"]);
    assert_eq!(broker.code(Some(("carol", "secret"))), 0);
    assert_eq!(broker.code(Some(("carol", "Secret"))), 4);
}
