//! Over TLS, against Ringmq: with a CA, with any certificate, with certificates of clients; and
//! what is said if it does not come about.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::common::broker::{Script, Scripted};
use crate::common::{Done, run, start_command};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use ringload::report::Ended;
use ringmq::transport::{Demand, TlsFiles};
use ringmq::{Broker, BrokerConfig, ListenerConfig};

/// A CA and the files of what it issued.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let folder =
            std::env::temp_dir().join(format!("ringload-tls-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(folder.join("ca.pem"), issuer.pem()).unwrap();
        Authority { issuer, folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn issue(&self, name: &str, usage: ExtendedKeyUsagePurpose) {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params
            .subject_alt_names
            .push(SanType::IpAddress([127, 0, 0, 1].into()));
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(self.folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    /// A broker with a certificate for `localhost` and 127.0.0.1.
    fn broker(&self, client_certificate: Demand) -> Broker {
        self.issue("localhost", ExtendedKeyUsagePurpose::ServerAuth);
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let client_cas = match client_certificate {
            Demand::None => Vec::new(),
            Demand::Optional | Demand::Required => vec![self.folder.join("ca.pem")],
        };
        let listener = ListenerConfig {
            tls: Some(TlsFiles {
                certificates: vec![self.folder.join("localhost.pem")],
                keys: vec![self.folder.join("localhost.key")],
                client_cas,
                client_certificate,
                ..TlsFiles::default()
            }),
            ..address.into()
        };
        Broker::start(&BrokerConfig {
            listen: vec![listener],
            shards: 2,
            ..BrokerConfig::default()
        })
        .unwrap()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(Path::new(&self.folder));
    }
}

fn load(port: u16, more: &[&str]) -> Done {
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
    ];
    let all: Vec<&str> = args.iter().chain(more).copied().collect();
    run(port, &all)
}

#[test]
fn everything_arrives_over_tls() {
    let authority = Authority::new("plain");
    let broker = authority.broker(Demand::None);
    let port = broker.local_addresses()[0].port();
    let ca = authority.path("ca.pem");
    for more in [
        &["--tls", ca.as_str(), "--qos", "0"][..],
        &["--tls", &ca, "--qos", "2", "--payload", "100KiB"],
        &[
            "--tls",
            "insecure",
            "--qos",
            "1",
            "--rate",
            "100",
            "--threads",
            "2",
        ],
        &[
            "--tls",
            &ca,
            "--set",
            "subscribers.tls_name=localhost",
            "--set",
            "publishers.tls_resume=true",
        ],
    ] {
        let done = load(port, more);
        let ledger = done.result().totals.ledger;
        assert!(
            ledger.owed > 0 && ledger.owed == ledger.delivered,
            "{more:?}: {done:#?}"
        );
        assert_eq!(
            (done.code, ledger.corrupt, ledger.duplicated),
            (Some(0), 0, 0),
            "{more:?}"
        );
        assert!(
            done.result()
                .groups
                .iter()
                .all(|group| group.tls && group.connected == 5),
            "{more:?}"
        );
    }
}

#[test]
fn a_broker_that_asks_for_certificates_gets_them() {
    let authority = Authority::new("mutual");
    let broker = authority.broker(Demand::Required);
    let port = broker.local_addresses()[0].port();
    authority.issue("client", ExtendedKeyUsagePurpose::ClientAuth);
    let (ca, certificate, key) = (
        authority.path("ca.pem"),
        authority.path("client.pem"),
        authority.path("client.key"),
    );
    let mut more = vec!["--tls".to_owned(), ca.clone()];
    for group in ["subscribers", "publishers"] {
        for (name, value) in [("tls_cert", &certificate), ("tls_key", &key)] {
            more.extend(["--set".to_owned(), format!("{group}.{name}={value}")]);
        }
    }
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let done = load(port, &more);
    assert_eq!(done.code, Some(0), "{done:#?}");
    assert_eq!(done.result().totals.connected, 10);
    // Without one, the broker says why not.
    let done = load(port, &["--tls", &ca]);
    assert_eq!(done.code, Some(1), "{done:#?}");
    assert!(
        done.stderr.contains("CertificateRequired"),
        "{}",
        done.stderr
    );
}

#[test]
fn a_failed_tls_handshake_is_an_error_with_a_reason() {
    let authority = Authority::new("refused");
    let broker = authority.broker(Demand::None);
    let port = broker.local_addresses()[0].port();
    let ca = authority.path("ca.pem");
    let stranger = Authority::new("stranger");
    let (other, empty) = (stranger.path("ca.pem"), stranger.path("empty.pem"));
    fs::write(&empty, "").unwrap();
    let plain = Scripted::start(Script::default()).port;
    let silent = Scripted::start(Script {
        silent: true,
        ..Script::default()
    });
    for (port, code, expected, more) in [
        (
            port,
            1,
            "TLS: invalid peer certificate: UnknownIssuer",
            &["--tls", other.as_str()][..],
        ),
        (
            port,
            1,
            "TLS: invalid peer certificate: certificate not valid for name",
            &["--tls", &ca, "--set", "subscribers.tls_name=example.org"],
        ),
        (port, 2, "subscribers.tls_ca is `", &["--tls", &empty]),
        (
            port,
            2,
            "subscribers.tls_ca is `/does/not/exist`, which does not exist",
            &["--tls", "/does/not/exist"],
        ),
        (
            port,
            2,
            "subscribers.tls_name is `a b`, which is neither a name nor an address",
            &["--tls", &ca, "--set", "subscribers.tls_name=a b"],
        ),
        (
            port,
            2,
            "subscribers.tls_cert needs its counterpart",
            &["--tls", &ca, "--set", "subscribers.tls_cert=x.pem"],
        ),
        (
            port,
            2,
            "subscribers.tls_resume is set, but the group does not use TLS",
            &["--set", "subscribers.tls_resume=true"],
        ),
        // A plain client of a broker with TLS, and the other way round.
        (
            port,
            1,
            "this port speaks TLS; add --tls",
            &["--set", "answer_timeout=5s"],
        ),
        (
            plain,
            1,
            "client ringload-",
            &["--tls", "insecure", "--set", "answer_timeout=1s"],
        ),
        (
            silent.port,
            1,
            "the TCP handshake or that of TLS was not answered",
            &["--tls", "insecure", "--set", "answer_timeout=500ms"],
        ),
    ] {
        let done = load(port, more);
        assert_eq!(done.code, Some(code), "{more:?}: {done:#?}");
        assert!(done.stderr.contains(expected), "{more:?}: {}", done.stderr);
        // A wrong command line leaves no result, a broker that cannot be reached one that says so.
        let ended = done.result.as_ref().map(|result| result.run.ended);
        assert_eq!(ended, (code == 1).then_some(Ended::Failed), "{more:?}");
    }
}

#[test]
fn handshakes_of_a_storm_are_counted_in_full_and_resumed() {
    let authority = Authority::new("storm");
    let broker = authority.broker(Demand::None);
    let target = format!("mqtts://{}", broker.local_addresses()[0]);
    for (resume, is_resumed) in [("false", false), ("true", true)] {
        let args = [
            "--group",
            &format!("name=crowd clients=6 tls=true tls_resume={resume}"),
            "--tls",
            &authority.path("ca.pem"),
            "--before",
            "1s",
            "--backoff",
            "exp(2s, 1, 2s, full)",
            "--no-sys",
        ];
        let done = start_command("storm", &target, &args).finish();
        let storm = done.result().storm.as_ref().unwrap();
        let (full, resumed) = (storm.handshakes_full, storm.handshakes_resumed);
        assert_eq!(
            (storm.back, full + resumed),
            (6, storm.attempts),
            "{done:#?}"
        );
        assert_eq!(resumed > 0, is_resumed, "{done:#?}");
    }
}
