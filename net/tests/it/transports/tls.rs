//! TLS: versions, names, resumption, client certificates, reload.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{DistinguishedName, DnType};
use ringmq::transport::{Demand, IdentityField, Origins, TlsFiles};
use ringmq::{Broker, ListenerConfig, StartError};
use ringmq_core::auth::{Acl, read_acl_file};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ALL_VERSIONS, ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, StreamOwned,
    SupportedProtocolVersion,
};

use super::{address, local, start, stop, tcp, with_tls};
use crate::certificates::{Authority, Pair};
use crate::mqtt::{Client, connect_packet, exchange, subscribe_packet};

pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// Connects; the handshake goes on with the first read or write.
pub fn tls(address: SocketAddr, config: &Arc<ClientConfig>) -> TlsStream {
    tls_for(address, config, "localhost")
}

fn tls_for(address: SocketAddr, config: &Arc<ClientConfig>, host: &str) -> TlsStream {
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
    StreamOwned::new(connection, tcp(address))
}

/// Whether a client with this configuration gets a CONNACK.
fn gets_in(address: SocketAddr, config: &Arc<ClientConfig>) -> bool {
    let mut stream = tls(address, config);
    let mut first = [0];
    let sent = stream.write_all(&connect_packet("tries", 0));
    sent.is_ok() && stream.read_exact(&mut first).is_ok() && first == [0x20]
}

// Both versions, clients whose home is either shard, records of every size.
#[test]
fn clients_talk_over_tls_whichever_shard_they_live_on() {
    let authority = Authority::new();
    let broker = start(vec![with_tls(authority.files()), local()]);
    for (version, wanted) in [
        (&TLS12, ProtocolVersion::TLSv1_2),
        (&TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let config = authority.client_config(None, &[version]);
        for index in 0..6 {
            let (id, topic) = (format!("s{index}"), format!("t/{index}"));
            let mut subscriber = Client::open(tls(address(&broker, 0), &config), &id);
            assert_eq!(subscriber.stream.conn.protocol_version(), Some(wanted));
            assert_eq!(subscriber.stream.conn.alpn_protocol(), Some(&b"mqtt"[..]));
            let mut publisher =
                Client::open(tls(address(&broker, 0), &config), &format!("p{index}"));
            exchange(&mut publisher, &mut subscriber, &topic);
            let mut plain = Client::open(tcp(address(&broker, 1)), &format!("q{index}"));
            exchange(&mut plain, &mut subscriber, &topic);
            // DISCONNECT: the broker ends TLS, so nothing was cut off.
            subscriber.send(b"\xE0\0");
            let mut rest = Vec::new();
            subscriber.stream.read_to_end(&mut rest).unwrap();
            assert_eq!(rest, b"");
        }
    }
    let moved: u64 = broker.counts().iter().map(|c| c.moved).sum();
    assert!(moved > 0, "some clients were handed over");
    stop(broker);
}

#[test]
fn a_client_gets_the_certificate_of_the_name_that_it_asks_for() {
    let authority = Authority::new();
    let pairs = ["localhost", "mqtt.example", "*.wild.example"].map(|name| authority.server(name));
    let broker = start(vec![with_tls(TlsFiles {
        certificates: pairs.iter().map(|pair| pair.certificate.clone()).collect(),
        keys: pairs.iter().map(|pair| pair.key.clone()).collect(),
        ..TlsFiles::default()
    })]);
    let config = authority.client_config(None, ALL_VERSIONS);
    // The client checks the name of the certificate, so a wrong one is no connection.
    for name in ["mqtt.example", "a.wild.example", "localhost", "127.0.0.1"] {
        Client::open(tls_for(address(&broker, 0), &config, name), "sni");
    }
    let mut other = tls_for(address(&broker, 0), &config, "nobody.example");
    assert!(
        other.write_all(b"x").is_err(),
        "it sees who is there, and goes"
    );
    stop(broker);
}

#[test]
fn a_client_that_reconnects_resumes_its_tls_session() {
    let authority = Authority::new();
    let listen = vec![with_tls(authority.mutual_files())];
    let broker = start(listen.clone());
    let own = authority.client("dev-1", 1);
    for version in [&TLS12, &TLS13] {
        let config = authority.client_config(Some(&own), &[version]);
        let mut kinds = Vec::new();
        for _ in 0..3 {
            let mut client = Client::open(tls(address(&broker, 0), &config), "again");
            client.ping();
            kinds.push(client.stream.conn.handshake_kind().unwrap());
        }
        let expected = [
            HandshakeKind::Full,
            HandshakeKind::Resumed,
            HandshakeKind::Resumed,
        ];
        assert_eq!(kinds, expected, "{version:?}");
    }
    // A reload that changes nothing here ends no session, and checks the clients all the same.
    let config = authority.client_config(Some(&own), &[&TLS13]);
    Client::open(tls(address(&broker, 0), &config), "before").ping();
    broker.publish_tls(Broker::load_tls(&listen).unwrap());
    let mut after = Client::open(tls(address(&broker, 0), &config), "after");
    after.ping();
    assert_eq!(
        after.stream.conn.handshake_kind(),
        Some(HandshakeKind::Resumed)
    );
    let counts = broker.counts();
    assert_eq!(counts.iter().map(|c| c.tls_handshakes).sum::<u64>(), 8);
    assert_eq!(counts.iter().map(|c| c.tls_resumed).sum::<u64>(), 5);
    stop(broker);
}

#[test]
fn a_version_that_is_too_old_is_refused() {
    let authority = Authority::new();
    let broker = start(vec![with_tls(TlsFiles {
        only_tls13: true,
        ..authority.files()
    })]);
    let opens = |version: &'static SupportedProtocolVersion| {
        gets_in(
            address(&broker, 0),
            &authority.client_config(None, &[version]),
        )
    };
    assert!(opens(&TLS13));
    assert!(!opens(&TLS12));
    stop(broker);
}

// Threat 84, over MQTT and over WebSocket.
#[test]
fn only_clients_with_a_good_certificate_get_in() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let files = TlsFiles {
        client_crls: vec![authority.crl(&[2], 2099)],
        ..authority.mutual_files()
    };
    let websocket = ListenerConfig {
        websocket: Some(Origins::default()),
        ..with_tls(files.clone())
    };
    let optional = with_tls(TlsFiles {
        client_certificate: Demand::Optional,
        ..files.clone()
    });
    let broker = start(vec![with_tls(files), websocket, optional]);
    let good = authority.client("good", 1);
    let bad = [
        authority.client("revoked", 2),
        authority.client_with("expired", 3, |params| {
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }),
        authority.client_with("early", 4, |params| {
            params.not_before = rcgen::date_time_ymd(2090, 1, 1);
        }),
        authority.client_with("wrong-eku", 5, |params| {
            params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        }),
        authority.client_with("nameless", 6, |params| {
            params.distinguished_name = rcgen::DistinguishedName::new();
        }),
        stranger.client("stranger", 1),
    ];
    for version in ALL_VERSIONS {
        let with = |pair: Option<&Pair>| authority.client_config(pair, &[version]);
        let over_mqtt = |pair| gets_in(address(&broker, 0), &with(pair));
        let over_websocket = |pair| {
            let mut config = (*with(pair)).clone();
            config.alpn_protocols.clear();
            let mut stream = tls(address(&broker, 1), &Arc::new(config));
            let asked = stream.write_all(b"GET ");
            // Whoever is let in is told that the rest is missing; the others hear an alert.
            asked.is_ok() && stream.write_all(b"\r\n\r\n").is_ok() && {
                let mut answer = [0; 12];
                stream.read_exact(&mut answer).is_ok() && answer == *b"HTTP/1.1 400"
            }
        };
        assert!(over_mqtt(Some(&good)) && over_websocket(Some(&good)));
        assert!(!over_mqtt(None) && !over_websocket(None), "{version:?}");
        for pair in &bad {
            let name = pair.certificate.display();
            assert!(!over_mqtt(Some(pair)), "{name} {version:?}");
            assert!(!over_websocket(Some(pair)), "{name} {version:?}");
            assert!(!gets_in(address(&broker, 2), &with(Some(pair))), "{name}");
        }
        assert!(gets_in(address(&broker, 2), &with(None)), "it is optional");
    }
    stop(broker);
}

// Threat 64, fault T28: a name in a certificate is compared, never read.
#[test]
fn an_ambiguous_name_in_a_certificate_identifies_nobody() {
    let authority = Authority::new();
    let mut acl = Acl::new(false);
    read_acl_file("pattern readwrite u/%u/x\n", &mut acl).unwrap();
    let mut config = super::config(vec![with_tls(authority.mutual_files())]);
    config.access.acl = Some(Arc::new(acl));
    let broker = Broker::start(&config).unwrap();
    let rows = [
        ("dev-1", "u/dev-1/x", 1),
        ("dev-1", "u/dev-2/x", 0x87),
        ("dev.*", "u/dev-1/x", 0x87),
        ("+", "u/dev-1/x", 0x87),
        ("+", "u/+/x", 0x87),
        ("#", "u/#", 0x87),
        ("dev/1", "u/dev/1/x", 0x87),
        ("%u", "u/%u/x", 0x87),
        ("$share", "u/$share/x", 0x87),
    ];
    for (index, (name, filter, expected)) in rows.into_iter().enumerate() {
        let own = authority.client_with("client", 1, |params| {
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
        });
        let own = authority.client_config(Some(&own), ALL_VERSIONS);
        let mut client = Client::open(tls(address(&broker, 0), &own), &format!("c{index}"));
        client.send(&subscribe_packet(filter));
        let (first, body) = client.packet();
        assert_eq!(
            (first, body.last()),
            (0x90, Some(&expected)),
            "{name} {filter}"
        );
    }
    stop(broker);
}

// Threats 77 and 84: less security than asked for is no start.
#[test]
fn a_listener_whose_files_cannot_be_used_does_not_start() {
    let authority = Authority::new();
    let good = authority.mutual_files();
    let write = |name: &str, text: &[u8]| -> PathBuf {
        fs::write(authority.path(name), text).unwrap();
        authority.path(name)
    };
    let empty = write("empty.pem", b"");
    let junk = write(
        "junk.pem",
        b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
    );
    let half = {
        let whole = fs::read(authority.ca()).unwrap();
        write("half.pem", &whole[..whole.len() / 2])
    };
    let missing = authority.path("missing.pem");
    let other = authority.server("other");
    let no_identity = TlsFiles {
        identity: IdentityField::CommonName,
        ..authority.files()
    };
    let mut cases = vec![("an identity without certificates", no_identity, None)];
    for file in [&empty, &junk, &half, &missing] {
        let named = |change: fn(&mut TlsFiles, PathBuf)| {
            let mut files = good.clone();
            change(&mut files, file.clone());
            files
        };
        for files in [
            named(|files, file| files.certificates = vec![file]),
            named(|files, file| files.keys = vec![file]),
            named(|files, file| files.client_cas = vec![file]),
            named(|files, file| files.client_crls = vec![file]),
        ] {
            cases.push(("a bad file", files, Some(file.clone())));
        }
    }
    let mismatch = TlsFiles {
        keys: vec![other.key.clone()],
        ..good.clone()
    };
    cases.push(("the key of another", mismatch, Some(other.key)));
    let no_ca = TlsFiles {
        client_cas: Vec::new(),
        ..good.clone()
    };
    cases.push(("no CA", no_ca, None));
    let no_key = TlsFiles {
        keys: Vec::new(),
        ..good.clone()
    };
    cases.push(("no key", no_key, None));
    for (what, files, named) in cases {
        let error = Broker::start(&super::config(vec![with_tls(files.clone())])).unwrap_err();
        let StartError::Tls { problem, .. } = error else {
            panic!("{what}: {error}")
        };
        assert_eq!(problem.file, named, "{what}: {problem}");
        assert!(!problem.fix.is_empty());
    }
    stop(start(vec![with_tls(good)]));
}

#[test]
fn new_files_apply_to_new_connections_and_nobody_is_dropped() {
    let authority = Authority::new();
    let listen = vec![with_tls(authority.files()), local()];
    let broker = start(listen.clone());
    let config = authority.client_config(None, ALL_VERSIONS);
    let mut old = Client::open(tls(address(&broker, 0), &config), "old");
    let first = old.stream.conn.peer_certificates().unwrap()[0].clone();
    // The same names with new keys: until both are written, they do not fit.
    let server = authority.server("localhost");
    let kept = fs::read(&server.key).unwrap();
    fs::write(&server.key, &kept[..kept.len() / 2]).unwrap();
    assert!(Broker::load_tls(&listen).is_err(), "half-written");
    assert!(gets_in(address(&broker, 0), &config), "all is as it was");
    fs::write(&server.key, &kept).unwrap();
    broker.publish_tls(Broker::load_tls(&listen).unwrap());
    let fresh = authority.client_config(None, ALL_VERSIONS);
    let new = Client::open(tls(address(&broker, 0), &fresh), "new");
    let second = new.stream.conn.peer_certificates().unwrap()[0].clone();
    assert_ne!(first, second, "the new certificate is shown");
    old.ping();
    // A session of the old terms is not resumed, and its client gets in all the same.
    let again = Client::open(tls(address(&broker, 0), &config), "again");
    assert_eq!(
        again.stream.conn.handshake_kind(),
        Some(HandshakeKind::Full)
    );
    stop(broker);
}

// Whoever has begun a handshake is judged by what holds when it ends.
#[test]
fn a_client_revoked_during_its_handshake_does_not_get_in() {
    let authority = Authority::new();
    let files = TlsFiles {
        client_crls: vec![authority.crl(&[], 2099)],
        ..authority.mutual_files()
    };
    let listen = vec![with_tls(files)];
    let broker = start(listen.clone());
    let (good, revoked) = (authority.client("good", 1), authority.client("bad", 2));
    for version in ALL_VERSIONS {
        authority.crl(&[], 2099);
        broker.publish_tls(Broker::load_tls(&listen).unwrap());
        let begin = |own| {
            let config = authority.client_config(Some(own), &[version]);
            let mut stream = tls(address(&broker, 0), &config);
            stream.conn.write_tls(&mut stream.sock).unwrap();
            // The broker has answered: its part of the handshake is under way.
            stream.sock.peek(&mut [0]).unwrap();
            stream
        };
        let begun = [begin(&revoked), begin(&good)];
        authority.crl(&[2], 2099);
        broker.publish_tls(Broker::load_tls(&listen).unwrap());
        let gets_in = begun.map(|mut stream| {
            let mut first = [0];
            let sent = stream.write_all(&connect_packet("tries", 0));
            sent.is_ok() && stream.read_exact(&mut first).is_ok() && first == [0x20]
        });
        assert_eq!(gets_in, [false, true], "{version:?}");
    }
    stop(broker);
}

// Certificates are optional, and nobody is welcome without one.
#[test]
fn clients_without_a_certificate_are_refused_where_one_is_asked_for() {
    let authority = Authority::new();
    let optional = with_tls(TlsFiles {
        client_certificate: Demand::Optional,
        identity: IdentityField::None,
        ..authority.mutual_files()
    });
    let own = authority.client("own", 1);
    for (allow_unproven, expected) in [(false, [true, false, true]), (true, [true, true, true])] {
        let mut config = super::config(vec![optional.clone(), local()]);
        config.access.allow_unproven = allow_unproven;
        let broker = Broker::start(&config).unwrap();
        let with = |pair| {
            let config = authority.client_config(pair, ALL_VERSIONS);
            let mut client = tls(address(&broker, 0), &config);
            client.write_all(&connect_packet("tries", 0)).unwrap();
            connack(&mut client) == 0
        };
        let mut plain = tcp(address(&broker, 1));
        plain.write_all(&connect_packet("plain", 0)).unwrap();
        let found = [with(Some(&own)), with(None), connack(&mut plain) == 0];
        assert_eq!(found, expected);
        stop(broker);
    }
}

/// The reason code of a CONNACK.
fn connack(stream: &mut (impl std::io::Read + std::io::Write)) -> u8 {
    let mut head = [0; 4];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[0], 0x20);
    head[3]
}

// Fault T22: clients that would not be let in any more are closed, and only they.
#[test]
fn a_revoked_client_is_closed_when_the_list_is_read() {
    let authority = Authority::new();
    let files = TlsFiles {
        client_crls: vec![authority.crl(&[], 2099)],
        ..authority.mutual_files()
    };
    let listen = vec![with_tls(files), local()];
    let broker = start(listen.clone());
    let open = |name: &str, serial| {
        let own = authority.client(name, serial);
        let config = authority.client_config(Some(&own), ALL_VERSIONS);
        Client::open(tls(address(&broker, 0), &config), name)
    };
    let mut kept: Vec<_> = (10..14)
        .map(|serial| open(&format!("kept-{serial}"), serial))
        .collect();
    let mut gone: Vec<_> = (20..24)
        .map(|serial| open(&format!("gone-{serial}"), serial))
        .collect();
    let mut plain = Client::open(tcp(address(&broker, 1)), "plain");
    authority.crl(&[20, 21, 22, 23], 2099);
    broker.publish_tls(Broker::load_tls(&listen).unwrap());
    for client in &mut gone {
        client.expect_end(b"");
    }
    kept.iter_mut().for_each(Client::ping);
    plain.ping();
    // A list that is out of date lets nobody in, as unknown as everybody's standing is.
    authority.crl(&[], 2021);
    broker.publish_tls(Broker::load_tls(&listen).unwrap());
    for client in &mut kept {
        client.expect_end(b"");
    }
    plain.ping();
    stop(broker);
}
