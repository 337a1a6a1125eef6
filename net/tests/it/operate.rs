//! What helps to run the program: the doctor, the import of a configuration, the live view.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

use crate::program::{Broker, Folder, RINGMQ};

fn ringmq(args: &[&str]) -> Output {
    Command::new(RINGMQ).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn the_doctor_knows_a_broker_that_runs_from_others() {
    let folder = Folder::new();
    let broker = Broker::start(&[]);
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let start = |address: std::net::SocketAddr| {
        let config = folder.write("x.toml", &format!("[network]\nlisten = [\"{address}\"]\n"));
        let args = ["doctor", "--for", "0s", "--json", "--config", &config];
        let output = ringmq(&args);
        let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
        let rows = rows["rows"].as_array().unwrap();
        let row = rows.iter().find(|row| row["name"] == "start").unwrap();
        row["found"].as_str().unwrap().to_owned()
    };
    let found = start(broker.address);
    let process = format!("{} by ringmq (pid {})", broker.address, broker.process.id());
    assert_eq!(
        found,
        format!("possible, once what listens there has ended: {process}")
    );
    let found = start(other.local_addr().unwrap());
    assert!(found.contains("is already in use"), "{found}");
}

#[test]
fn the_fix_script_adds_to_a_file_that_is_there() {
    let output = ringmq(&[
        "doctor",
        "--for",
        "0s",
        "--connections",
        "2000000000",
        "--fix-script",
    ]);
    let script = text(&output.stdout);
    assert!(script.contains("fs.nr_open="), "{script}");
    let folder = Folder::new();
    let file = folder.write("90-ringmq.conf", "vm.swappiness=1\n");
    // Neither where it belongs, nor for the kernel.
    let script = script.replace("/etc/sysctl.d/90-ringmq.conf", &file);
    let script = script.replace("sysctl -p", "true");
    let run = |script: &str| {
        let output = Command::new("sh").args(["-c", script]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        text(&output.stdout)
    };
    let said = run(&script);
    assert!(said.contains("is there already"), "{said}");
    let kept = fs::read_to_string(&file).unwrap();
    assert!(kept.starts_with("vm.swappiness=1\n"), "{kept}");
    assert!(kept.contains("fs.nr_open="), "{kept}");
    fs::remove_file(&file).unwrap();
    assert_eq!(run(&script), "");
    assert!(fs::read_to_string(&file).unwrap().contains("fs.nr_open="));
}

#[test]
fn a_live_view_without_a_terminal_says_what_to_do() {
    for (args, code, expected) in [
        (&["ctl", "top"][..], 1, "top needs a terminal"),
        (&["ctl", "-o", "json", "top"], 2, "top is for people"),
        (&["ctl", "top", "--by", "nothing"], 2, "--by is `nothing`"),
    ] {
        let output = ringmq(args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(expected), "{said}");
        assert!(said.contains("fix: "), "{said}");
        assert_eq!(output.stdout, b"", "{args:?}");
    }
}

#[test]
fn a_configuration_of_mosquitto_becomes_one_that_can_be_used() {
    let folder = Folder::new();
    let users = folder.passwd("users", "ada", "secret");
    fs::create_dir(folder.path("conf.d")).unwrap();
    folder.write(
        "conf.d/bridge.conf",
        "connection cloud\naddress cloud.example\n",
    );
    let conf = format!(
        "# A broker at home.\nper_listener_settings false\nallow_anonymous false\n\
         password_file {users}\nlistener 0 127.0.0.1\nmax_queued_messages 500\n\
         log_dest syslog\ninclude_dir {}\n",
        folder.path("conf.d")
    );
    let conf = folder.write("mosquitto.conf", &conf);
    let output = ringmq(&["--import-mosquitto", &conf]);
    assert!(output.status.success(), "{output:?}");
    let said = text(&output.stderr);
    for part in [
        &format!("{conf}:7: log_dest syslog\n  the log goes to stderr"),
        "bridge.conf:1: connection cloud\n",
        "bridge.conf:2: address cloud.example\n",
        "8 lines with settings, 3 of them not taken on",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let toml = folder.write("ringmq.toml", &text(&output.stdout));
    let checked = ringmq(&["--config", &toml, "--check-config"]);
    assert!(checked.status.success(), "{checked:?}");
    let report = text(&checked.stdout);
    assert!(
        report.contains("queued-messages-max = 500")
            || report.contains("queued_messages_max = 500"),
        "{report}"
    );
    let broker = Broker::start(&["--config", &toml]);
    let (_, code) = broker.connect("a", Some(("ada", "secret")));
    assert_eq!(code, 0);
    let (_, code) = broker.connect("b", None);
    assert_ne!(code, 0);

    let missing = ringmq(&["--import-mosquitto", &folder.path("nothing.conf")]);
    assert_eq!(missing.status.code(), Some(2), "{missing:?}");
    assert!(text(&missing.stderr).contains("fix: "), "{missing:?}");
    let both = ringmq(&["--import-mosquitto", &conf, "--shards", "2"]);
    assert_eq!(both.status.code(), Some(2), "{both:?}");
}

/// Debian's package has it.
#[test]
fn every_option_of_mosquittos_own_example_is_known() {
    let path = "/usr/share/doc/mosquitto/examples/mosquitto.conf";
    let Ok(example) = fs::read_to_string(path) else {
        return eprintln!("no example of Mosquitto: scripts/install tests installs it");
    };
    let options: BTreeSet<&str> = example
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()))
        .collect();
    assert!(options.len() > 80, "{options:?}");
    let folder = Folder::new();
    let text_of = options.iter().map(|option| format!("{option}\n"));
    let conf = folder.write("all.conf", &text_of.collect::<String>());
    let output = ringmq(&["--import-mosquitto", &conf]);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("no such option"), "{said}");
}
