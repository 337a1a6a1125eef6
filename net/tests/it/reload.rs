//! Reloads of a file whose listeners are not those that run, with the program as it runs.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::certificates::Authority;
use crate::program::{Broker, Folder, RINGMQ, connect_packet, subscribe};
use rustls::pki_types::ServerName;
use rustls::{ALL_VERSIONS, ClientConfig, ClientConnection, StreamOwned};

/// A broker that listens where its file says.
fn start(config: &str) -> Broker {
    let mut command = Command::new(RINGMQ);
    command.args(["--config", config]);
    Broker::start_on(command)
}

/// Over TLS; `None` if there is no CONNACK.
fn connect_tls(
    broker: &Broker,
    config: &Arc<ClientConfig>,
) -> Option<StreamOwned<ClientConnection, TcpStream>> {
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, broker.socket());
    stream.write_all(&connect_packet("c", None)).ok()?;
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).ok()?;
    assert_eq!(connack, [0x20, 2, 0, 0]);
    Some(stream)
}

/// Threat 91: listeners run until a restart, with whatever guards them; the file is good with
/// others.
#[test]
fn a_reload_opens_no_listener_that_runs_until_a_restart() {
    let folder = Folder::new();
    let authority = Authority::new();
    let files = authority.mutual_files();
    folder.passwd("users", "alice", "secret");
    let users = "[auth]\npassword_file = \"users\"\ndefault = \"allow\"\n";
    let certificates = format!(
        "[tls]\ncertificate = {:?}\nkey = {:?}\nclient_ca = {:?}\nclient_certificate = \"required\"\n\
         [auth]\ndefault = \"allow\"\n",
        files.certificates[0], files.keys[0], files.client_cas[0]
    );
    for (host, next, complaint) in [
        (
            "0.0.0.0",
            "[network]\nlisten = \"127.0.0.1:0\"\n",
            "0.0.0.0:0, which other machines can reach",
        ),
        (
            "0.0.0.0",
            "[network]\nlisten = \"127.0.0.1:0\"\nallow_anonymous = true\n",
            "0.0.0.0:0, which the file does not open",
        ),
        (
            "0.0.0.0",
            &format!("[network]\nlisten = \"mqtts://0.0.0.0:0\"\n{certificates}"),
            "0.0.0.0:0, which other machines can reach",
        ),
        (
            "127.0.0.1",
            &format!("[network]\nlisten = \"mqtts://127.0.0.1:0\"\n{certificates}"),
            "127.0.0.1:0, which the file does not open",
        ),
    ] {
        let first = format!("[network]\nlisten = \"{host}:0\"\n{users}");
        let config = folder.write("ringmq.toml", &first);
        let mut broker = start(&config);
        let alice = Some(("alice", "secret"));
        assert_eq!((broker.code(None), broker.code(alice)), (5, 0));
        folder.write("ringmq.toml", next);
        // By the change alone, and when it is asked for.
        for _ in 0..2 {
            let line = broker.wait_for("reload");
            assert!(line.contains("network.listen"), "{line}");
            assert!(line.contains(complaint), "{line}");
            assert!(line.contains("restart the broker"), "{line}");
            broker.wait_for("everything stays as it was");
            assert_eq!((broker.code(None), broker.code(alice)), (5, 0), "{next}");
            broker.hang_up();
        }
    }
}

/// Threats 84 and 91.
#[test]
fn a_reload_goes_on_to_demand_certificates_where_the_listener_stays() {
    let folder = Folder::new();
    let authority = Authority::new();
    let files = authority.mutual_files();
    folder.write("acl", "pattern readwrite own/%u\n");
    let stranger = authority.client_config(None, ALL_VERSIONS);
    let own = authority.client("dev-1", 1);
    let known = authority.client_config(Some(&own), ALL_VERSIONS);
    let tls = format!(
        "[tls]\ncertificate = {:?}\nkey = {:?}\n",
        files.certificates[0], files.keys[0]
    );
    let demands = format!(
        "client_ca = {:?}\nclient_certificate = \"required\"\nidentity = \"cn\"\n",
        files.client_cas[0]
    );
    let rules = "[auth]\nacl_file = \"acl\"\n";
    let first = format!("[network]\nlisten = \"mqtts://0.0.0.0:0\"\n{tls}{demands}{rules}");
    let config = folder.write("ringmq.toml", &first);
    let mut broker = start(&config);
    let holds = |broker: &Broker| {
        assert!(connect_tls(broker, &stranger).is_none());
        let mut client = connect_tls(broker, &known).unwrap();
        let codes = ["own/dev-1", "own/dev-2"].map(|filter| subscribe(&mut client, filter));
        assert_eq!(codes, [0, 0x80]);
    };
    holds(&broker);
    // Without rules they would be gone for those who have certificates.
    let local = format!("[network]\nlisten = \"mqtts://127.0.0.1:0\"\n{tls}");
    folder.write("ringmq.toml", &local);
    for _ in 0..2 {
        broker.hang_up();
        let line = broker.wait_for("there are no rules");
        assert!(line.contains("restart the broker"), "{line}");
        broker.wait_for("everything stays as it was");
        holds(&broker);
    }
    // With them there is nothing wrong, but TLS is that of the listener that runs.
    folder.write("ringmq.toml", &format!("{local}{rules}"));
    for _ in 0..2 {
        broker.hang_up();
        for setting in [
            "network.listen",
            "tls.client_certificate",
            "tls.client_ca",
            "tls.identity",
        ] {
            let line = broker.wait_for("it needs a restart");
            assert!(line.contains(setting), "{line}");
        }
        let line = broker.wait_for("reloaded");
        assert!(!line.contains("tls."), "{line}");
        holds(&broker);
    }
}

/// Threat 91.
#[test]
fn a_reload_applies_what_needs_no_restart() {
    let folder = Folder::new();
    folder.passwd("users", "alice", "secret");
    folder.write("acl", "pattern readwrite a\n");
    let first = "[network]\nlisten = \"0.0.0.0:0\"\n\
                 [auth]\npassword_file = \"users\"\nacl_file = \"acl\"\n";
    let config = folder.write("ringmq.toml", first);
    let mut broker = start(&config);
    folder.write("other", "pattern readwrite b\n");
    let next = first.replace("0.0.0.0", "127.0.0.1");
    folder.write("ringmq.toml", &next.replace("\"acl\"", "\"other\""));
    broker.hang_up();
    let line = broker.wait_for("it needs a restart");
    assert!(line.contains("network.listen"), "{line}");
    let line = broker.wait_for("reloaded");
    assert!(line.contains("auth.acl_file"), "{line}");
    assert_eq!(broker.code(None), 5);
    let (mut alice, code) = broker.connect("c", Some(("alice", "secret")));
    assert_eq!(code, 0);
    // The shards take it on with their next turn.
    while subscribe(&mut alice, "b") != 0 {}
    assert_eq!(subscribe(&mut alice, "a"), 0x80);
}

/// At the start and at a reload; nothing is refused for it.
#[test]
fn readable_secrets_and_expiring_certificates_are_warnings() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let authority = Authority::new();
    let users = folder.passwd("users", "alice", "secret");
    let soon = authority.client_with("soon", 1, |params| {
        params.not_after = std::time::SystemTime::now().into();
        params.not_after += std::time::Duration::from_secs(5 * 86_400 + 3600);
    });
    let config = format!(
        "[network]\nlisten = \"mqtts://127.0.0.1:0\"\n[tls]\ncertificate = {:?}\nkey = {:?}\n\
         [auth]\npassword_file = \"users\"\ndefault = \"allow\"\n",
        soon.certificate, soon.key
    );
    let mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    };
    mode(users.as_ref(), 0o644);
    mode(&soon.key, 0o600);
    let config = folder.write("ringmq.toml", &config);
    let checked = Command::new(RINGMQ)
        .args(["--check-config", "--config", &config])
        .output()
        .unwrap();
    let report = String::from_utf8(checked.stdout).unwrap();
    assert!(checked.status.success(), "{report}");
    let told = [
        "users: the file holds secrets, and may be read by everybody on this machine",
        "`CN=soon` ends in 5 days",
    ];
    for text in told {
        assert!(report.contains(text), "{report}");
    }
    let mut broker = start(&config);
    let tells = |broker: &mut Broker| {
        for text in told {
            let line = broker.wait_for(text);
            assert!(line.contains("WARN") && line.contains("Fix: "), "{line}");
        }
    };
    tells(&mut broker);
    broker.hang_up();
    tells(&mut broker);
    broker.wait_for("reloaded");
    // What is mended is told no more.
    mode(users.as_ref(), 0o640);
    broker.hang_up();
    let line = broker.wait_for("WARN");
    assert!(line.contains(told[1]), "{line}");
}

/// Half a list of users would end the sessions of the others.
#[test]
fn a_reload_waits_while_somebody_may_be_writing() {
    let folder = Folder::new();
    let users = folder.passwd("users", "alice", "secret");
    let mut broker = Broker::start(&["--password-file", &users, "--access-default", "allow"]);
    // By the clock of a machine that is ahead: it stays a moment ago however slow this test is.
    let file = File::options().append(true).open(&users).unwrap();
    let hour = Duration::from_secs(3600);
    file.set_modified(SystemTime::now() + hour).unwrap();
    broker.hang_up();
    let line = broker.wait_for("the reload waits");
    assert!(line.contains(&users), "{line}");
    let line = broker.wait_for("reloaded");
    assert!(line.contains("SIGHUP"), "{line}");
    assert_eq!(broker.code(Some(("alice", "secret"))), 0);
    file.set_modified(SystemTime::now() - hour).unwrap();
    broker.hang_up();
    let line = broker.wait_for("reload");
    assert!(line.contains("reloaded"), "it waits for nobody: {line}");
}
