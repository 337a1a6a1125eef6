//! Over WebSocket and Unix sockets, against Ringmq; and what is said if it does not come about.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::common::{Done, start_at};
use rcgen::{CertificateParams, KeyPair, SanType};
use ringmq::transport::{Origins, TlsFiles};
use ringmq::{Broker, BrokerConfig, Endpoint, ListenerConfig};

/// A folder of one test, gone when that ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let name = format!("ringload-way-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// A certificate for 127.0.0.1, by nobody but itself.
    fn certificate(&self) -> TlsFiles {
        let (certificate, key) = (self.0.join("a.pem"), self.0.join("a.key"));
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let address = SanType::IpAddress([127, 0, 0, 1].into());
        params.subject_alt_names.push(address);
        let pair = KeyPair::generate().unwrap();
        let signed = params.self_signed(&pair).unwrap();
        std::fs::write(&certificate, signed.pem()).unwrap();
        std::fs::write(&key, pair.serialize_pem()).unwrap();
        TlsFiles {
            certificates: vec![certificate],
            keys: vec![key],
            ..TlsFiles::default()
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn broker(listeners: Vec<ListenerConfig>) -> Broker {
    Broker::start(&BrokerConfig {
        listen: listeners,
        shards: 2,
        ..BrokerConfig::default()
    })
    .unwrap()
}

fn load(target: &str, more: &[&str]) -> Done {
    let args = [
        "pairs",
        "--publishers",
        "5",
        "--subscribers",
        "5",
        "--duration",
        "300ms",
        "--warmup",
        "100ms",
        "--strict",
    ];
    let all: Vec<&str> = args.iter().chain(more).copied().collect();
    start_at(target, &all).finish()
}

/// Everything arrives, and the result says how.
fn check(target: &str, more: &[&str], transport: &str) {
    let done = load(target, more);
    let result = done.result();
    assert_eq!(result.totals.connected, 10, "{done:#?}");
    let ledger = &result.totals.ledger;
    assert!(
        ledger.owed > 0 && ledger.delivered == ledger.owed,
        "{target}: {ledger:?}"
    );
    assert!(
        result.troubles.is_empty(),
        "{target}: {:?}",
        result.troubles
    );
    for group in &result.groups {
        assert_eq!(group.transport.as_deref(), Some(transport), "{target}");
    }
    assert!(
        result.run.target.starts_with(target),
        "{}",
        result.run.target
    );
}

#[test]
fn everything_arrives_over_websocket() {
    let folder = Folder::new("websocket");
    let plain = ListenerConfig {
        websocket: Some(Origins::default()),
        ..any_port().into()
    };
    let secure = ListenerConfig {
        tls: Some(folder.certificate()),
        ..plain.clone()
    };
    let broker = broker(vec![plain, secure]);
    let [plain, secure] = broker.local_addresses()[..] else {
        panic!("two listeners")
    };
    let large = ["--payload", "100KiB", "--qos", "1", "--window", "3"];
    let target = format!("ws://{plain}");
    check(&target, &["--qos", "0"], "WebSocket");
    check(&target, &["--qos", "2", "--rate", "50"], "WebSocket");
    check(&target, &large, "WebSocket");
    let target = format!("wss://{secure}/mqtt");
    let trusting = ["--tls", "insecure"];
    check(&target, &trusting, "WebSocket, TLS");
    check(&target, &[&trusting[..], &large].concat(), "WebSocket, TLS");
}

#[test]
fn everything_arrives_over_unix_sockets() {
    let folder = Folder::new("unix");
    let path = folder.0.join("mqtt.sock");
    let broker = broker(vec![ListenerConfig::plain(Endpoint::Unix(path.clone()))]);
    let target = format!("unix:{}", path.display());
    check(&target, &["--qos", "0"], "Unix socket");
    check(
        &target,
        &["--qos", "1", "--payload", "100KiB", "--threads", "2"],
        "Unix socket",
    );
    drop(broker);
}

#[test]
fn what_does_not_come_about_is_explained() {
    let folder = Folder::new("refused");
    let broker = broker(vec![any_port().into()]);
    let port = broker.local_addresses()[0].port();
    let gone = folder.0.join("gone.sock");
    for (target, expected) in [
        (
            format!("ws://127.0.0.1:{port}"),
            "the connection ended in the WebSocket handshake",
        ),
        (
            format!("wss://127.0.0.1:{port}"),
            "the connection ended in the TLS handshake",
        ),
        (
            format!("unix:{}", gone.display()),
            "does not exist; start the broker, or check --target",
        ),
    ] {
        let trusting: &[&str] = match target.starts_with("wss") {
            true => &["--tls", "insecure"],
            false => &[],
        };
        let done = load(&target, trusting);
        assert_eq!(done.code, Some(1), "{target}: {done:#?}");
        assert!(done.stderr.contains(expected), "{target}: {}", done.stderr);
    }
}
