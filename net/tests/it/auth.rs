//! Users, rules and their reload, with the program as it runs: files on disk, MQTT on a socket.

use std::fs::{self, Permissions};
use std::io::{BufReader, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::program::{Broker, Folder, RINGMQ, refused, subscribe};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use rustix::process::{Pid, Resource, Rlimit, geteuid, getrlimit, prlimit};
use sha2::Sha256;

#[test]
fn users_log_in_with_their_password_and_may_do_what_the_rules_say() {
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
fn a_reload_applies_all_files_or_none() {
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
    // The shards take it on with their next turn: this client's first packet may meet the old
    // rules.
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
fn tokens_admit_while_they_and_their_key_are_valid() {
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
        (vec!["--password-file", &users], "there are no rules"),
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
fn files_written_by_mosquitto_passwd_are_accepted() {
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

/// Fault T30: whatever a reload meets, no login and no filter is judged by half of it.
#[test]
fn reloads_under_load_open_nothing() {
    let folder = Folder::new();
    let users = folder.passwd("users", "alice", "secret");
    let both = [
        "user alice\ntopic read a\ntopic read b\n",
        "user alice\ntopic read b\ntopic deny a\n",
    ];
    let acl = folder.write("acl", both[0]);
    let broker = Broker::start(&["--password-file", &users, "--acl-file", &acl]);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..3)
            .map(|index| {
                let (broker, is_over) = (&broker, &is_over);
                scope.spawn(move || {
                    let id = format!("c{index}");
                    let mut rounds = 0;
                    while !is_over.load(Ordering::Relaxed) || rounds < 3 {
                        let (mut alice, code) = broker.connect(&id, Some(("alice", "secret")));
                        assert_eq!(code, 0);
                        assert_eq!(subscribe(&mut alice, "b"), 0);
                        assert_eq!(subscribe(&mut alice, "c"), 0x80);
                        assert!([0, 0x80].contains(&subscribe(&mut alice, "a")));
                        assert_eq!(broker.connect(&id, Some(("bob", "secret"))).1, 4);
                        assert_eq!(broker.connect(&id, None).1, 5);
                        rounds += 1;
                    }
                })
            })
            .collect();
        for round in 0..100 {
            // Half-written, empty, something else, and whole.
            for text in [
                "user alice\ntopic read c\ntopi",
                "",
                "topic write #\nx\n",
                both[round % 2],
            ] {
                // As a whole: no reader can tell a file that changes while it reads.
                let path = folder.write("acl", text);
                let file = fs::File::options().append(true).open(path).unwrap();
                // Not a moment ago, or the broker would wait for more.
                let written = SystemTime::now() - Duration::from_secs(2);
                file.set_modified(written).unwrap();
                broker.hang_up();
            }
        }
        is_over.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().unwrap();
        }
    });
    let (mut alice, _) = broker.connect("last", Some(("alice", "secret")));
    // The last of them comes into force with a next turn.
    while subscribe(&mut alice, "a") != 0x80 {}
}

/// Threat 91: a file that its reader may not read, met by a user who is not root.
#[test]
fn a_file_without_permission_refuses_the_start_and_a_reload() {
    const NOBODY: u32 = 65534;
    let folder = Folder::new();
    let users = folder.passwd("users", "alice", "secret");
    let acl = folder.write("acl", "pattern readwrite a\n");
    let set = |path: &str, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    // Root reads everything, so the broker runs as somebody else then, from where that one can
    // reach it.
    let is_root = geteuid().is_root();
    let program = folder.path("ringmq");
    fs::copy(RINGMQ, &program).unwrap();
    let command = || {
        let mut command = Command::new(&program);
        if is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.args(["--password-file", &users, "--acl-file", &acl]);
        command
    };
    set(&users, 0o000);
    let refused = command().arg("--check-config").output().unwrap();
    let errors = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{errors}");
    assert!(errors.contains("users: the password file may not be read by this user"));
    assert!(errors.contains("chown USER"), "{errors}");
    set(&users, 0o644);
    let mut broker = Broker::start_with(command());
    for path in [&users, &acl] {
        set(path, 0o000);
        broker.hang_up();
        broker.wait_for("may not be read by this user");
        broker.wait_for("everything stays as it was");
        set(path, 0o644);
        let (mut alice, code) = broker.connect("c", Some(("alice", "secret")));
        assert_eq!((code, subscribe(&mut alice, "a")), (0, 0));
    }
}

/// Threat 91: on a disk without room a file of users stays as it is.
#[test]
fn a_full_disk_costs_no_user() {
    let folder = Folder::new();
    let users = folder.passwd("users", "alice", "secret");
    let disk = folder.path("disk");
    fs::create_dir(&disk).unwrap();
    // A file system of two pages, in a name space of its own.
    let script = "mount -t tmpfs -o size=8k,nr_inodes=9 none \"$2\" && cp \"$1\" \"$2/users\" \
         && head -c 4096 /dev/zero > \"$2/fill\" && \"$3\" passwd --pbkdf2 --iterations 4096 --batch \"$2/users\" bob hidden; \
         echo \"code $?\"; ls \"$2\"; cmp \"$1\" \"$2/users\" && echo unchanged";
    let output = Command::new("unshare")
        .args([
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            script,
            "sh",
        ])
        .args([&users, &disk, RINGMQ])
        .output();
    let Ok(output) = output else {
        return; // Without name spaces there is no such disk to be had.
    };
    let (said, errors) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    if !said.contains("code ") || errors.contains("unshare") || errors.contains("mount:") {
        return;
    }
    assert!(
        errors.contains("No space left on device"),
        "{said} {errors}"
    );
    assert!(errors.contains("fix: check the folder"), "{errors}");
    assert_eq!(
        said, "code 2\nfill\nusers\nunchanged\n",
        "nothing is left behind"
    );
}
