//! What arrives after a reload that it has not seen: connections over TLS from another shard,
//! verdicts.

use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use ringmq_core::auth::{AuthRequest, Identity, Verdict};
use ringmq_core::codec::Version;
use ringmq_core::refusal::Refusal;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;
use crate::auth::Authenticators;
use crate::inbox::{Decision, Moved};
use crate::reactor::slot::Newcomer;
use crate::transport::{
    Demand, Endpoint, IdentityField, ListenerConfig, Scratch, TlsFiles, Transport,
};

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// Files of a listener that trusts one CA or another.
struct Files {
    folder: PathBuf,
    own: Issuer,
    other: Issuer,
}

impl Files {
    fn new() -> Files {
        let name = format!("ringmq-arrivals-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let files = Files {
            folder,
            own: issuer("own"),
            other: issuer("other"),
        };
        let (certificate, key) = files.issue("localhost", ExtendedKeyUsagePurpose::ServerAuth);
        files.write("server.pem", &certificate.pem());
        files.write("server.key", &key.serialize_pem());
        files
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn issue(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.own).unwrap(), key)
    }

    fn listener(&self, ca: &Issuer) -> ListenerConfig {
        ListenerConfig {
            tls: Some(TlsFiles {
                certificates: vec![self.folder.join("server.pem")],
                keys: vec![self.folder.join("server.key")],
                client_cas: vec![self.write("ca.pem", &ca.pem())],
                client_certificate: Demand::Required,
                identity: IdentityField::CommonName,
                ..TlsFiles::default()
            }),
            ..ListenerConfig::plain(Endpoint::Unix("x".into()))
        }
    }

    /// A client of the own CA.
    fn client(&self) -> ClientConnection {
        let (certificate, key) = self.issue("client", ExtendedKeyUsagePurpose::ClientAuth);
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(self.own.der().clone()).unwrap();
        let config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        ClientConnection::new(Arc::new(config), name).unwrap()
    }
}

fn issuer(name: &str) -> Issuer {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// The layers of a connection whose handshake is done.
fn established(stack: &Arc<Stack>, mut client: ClientConnection) -> Box<Transport> {
    let mut transport = stack.transport().unwrap();
    let mut scratch = Scratch::default();
    let now = Instant::ZERO;
    while client.is_handshaking() || !transport.is_open() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        transport.decode(now, &wire, &mut scratch).unwrap();
        while transport.is_due() {
            transport.advance(now, &mut scratch).unwrap();
        }
        let answer = transport.take_pending();
        client.read_tls(&mut answer.as_slice()).unwrap();
        client.process_new_packets().unwrap();
    }
    transport
}

/// Nobody looks at a connection on its way.
#[test]
fn a_connection_that_arrives_is_judged_by_the_current_terms_of_its_listener() {
    let files = Files::new();
    for (ca_by_then, expected) in [
        (&files.own, &["accepted 0", "received 0 CONNECT"][..]),
        (&files.other, &["accepted 0"]),
    ] {
        let stack = Arc::new(Stack::load(&files.listener(&files.own)).unwrap());
        let transport = established(&stack, files.client());
        let terms = Stack::load_terms(&files.listener(ca_by_then)).unwrap();
        stack.replace_terms(terms.unwrap());
        let mut bench = Bench::new();
        let moved = Box::new(Moved {
            socket: socket(),
            newcomer: Newcomer {
                peer: PeerIdentity::default(),
                since: Instant::ZERO,
                permit: Permit::Regular(None),
            },
            transport: Some(transport),
            bytes: b"CONNECT".to_vec(),
        });
        bench.reactor.inbox().send(ShardId::new(1), moved).unwrap();
        let ops = bench.turn();
        assert_eq!(bench.events(), expected);
        // Whoever is not let in is told so by TLS, and closed.
        let is_told = ops.iter().any(|op| matches!(op, Op::Send(0, _)));
        assert_eq!(is_told, expected.len() == 1, "{ops:?}");
    }
    std::fs::remove_dir_all(&files.folder).unwrap();
}

/// Of authenticators that a reload has replaced while they judged.
#[test]
fn a_verdict_of_replaced_authenticators_admits_nobody() {
    let mut bench = Bench::new();
    let decide = |bench: &mut Bench, index, verdict| {
        let request = AuthRequest {
            conn: ConnId {
                index,
                generation: 0,
            },
            peer: Default::default(),
            version: Version::V5,
            client_id: "c".into(),
            user_name: None,
            password: None,
            exchange: None,
            known: None,
            deadline: Instant::ZERO,
        };
        let decision = Box::new(Decision {
            request,
            verdict,
            generation: 0,
        });
        bench.reactor.inbox().decide(decision).unwrap();
        bench.turn();
    };
    let granted = || Verdict::Granted(Identity::default());
    decide(&mut bench, 1, granted());
    bench.reactor.shared.auth.replace(Authenticators::default());
    // Asked again, where there is no room here.
    decide(&mut bench, 2, granted());
    decide(&mut bench, 3, Verdict::Denied(Refusal::BadPassword));
    let events = bench.events();
    assert!(events[0].starts_with("decided 1 Granted"), "{events:?}");
    assert_eq!(
        events[1..],
        ["decided 2 Unavailable", "decided 3 Denied(BadPassword)"]
    );
}
