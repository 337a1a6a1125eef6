//! The TLS layer against rustls' own client, without sockets: bytes cut and altered at will.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, ConnectionTrafficSecrets, RootCertStore};

use super::*;

mod trust;

/// A listener's terms, and clients that trust its certificate.
struct World {
    terms: Arc<TlsTerms>,
    roots: RootCertStore,
}

impl World {
    fn new() -> World {
        World::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut TlsFiles)) -> World {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let name = format!("ringmq-tls-{}-{:p}", std::process::id(), &made);
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let mut files = TlsFiles {
            certificates: vec![folder.join("certificate.pem")],
            keys: vec![folder.join("key.pem")],
            ..TlsFiles::default()
        };
        change(&mut files);
        std::fs::write(&files.certificates[0], made.cert.pem()).unwrap();
        std::fs::write(&files.keys[0], made.signing_key.serialize_pem()).unwrap();
        let terms = Arc::new(TlsTerms::load(&files, &[b"mqtt"]).unwrap());
        std::fs::remove_dir_all(&folder).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        World { terms, roots }
    }

    fn client(&self, version: &'static rustls::SupportedProtocolVersion) -> ClientConnection {
        let mut provider = default_provider();
        provider.cipher_suites = vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        ];
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![b"mqtt".to_vec()];
        config.enable_secret_extraction = true;
        let name = ServerName::try_from("localhost").unwrap();
        ClientConnection::new(Arc::new(config), name).unwrap()
    }

    /// A client and a server whose handshake is done.
    fn connected(
        &self,
        version: &'static rustls::SupportedProtocolVersion,
    ) -> (ClientConnection, Server) {
        let (mut client, mut server) = (self.client(version), Server::new(&self.terms));
        while client.is_handshaking() || !server.tls.is_established() {
            server.take(&flight(&mut client)).unwrap();
            server.answer(&mut client).unwrap();
        }
        (client, server)
    }
}

/// The layer, driven as the transport does it.
struct Server {
    tls: Tls,
    /// Of the listener.
    terms: Arc<TlsTerms>,
    plain: Vec<u8>,
    wire: Vec<u8>,
    scratch: Vec<u8>,
}

impl Server {
    fn new(terms: &Arc<TlsTerms>) -> Server {
        Server {
            tls: Tls::new(Arc::clone(terms)),
            terms: Arc::clone(terms),
            plain: Vec::new(),
            wire: Vec::new(),
            scratch: Vec::new(),
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), TlsError> {
        if self.tls.is_established() {
            let Server {
                tls,
                plain,
                wire,
                scratch,
                ..
            } = self;
            return tls.decode(bytes, scratch, plain, wire).map(|_| ());
        }
        if self.tls.gather(bytes)? {
            self.advance()?;
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<Taken, TlsError> {
        let Server {
            tls,
            terms,
            plain,
            wire,
            ..
        } = self;
        tls.advance(terms, plain, wire)
    }

    fn take_in_pieces(&mut self, bytes: &[u8], size: usize) -> Result<(), TlsError> {
        bytes.chunks(size).try_for_each(|piece| self.take(piece))
    }

    /// What the server has to say reaches the client.
    fn answer(&mut self, client: &mut ClientConnection) -> Result<(), rustls::Error> {
        let mut wire = self.wire.as_slice();
        while !wire.is_empty() {
            client.read_tls(&mut wire).unwrap();
            client.process_new_packets()?;
        }
        self.wire.clear();
        Ok(())
    }
}

fn flight(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// The same handshake messages in records of `size` bytes.
fn in_records(flight: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in flight[5..].chunks(size) {
        bytes.extend([0x16, 3, 1]);
        bytes.extend((piece.len() as u16).to_be_bytes());
        bytes.extend(piece);
    }
    bytes
}

#[test]
fn a_handshake_and_what_follows_may_come_in_any_pieces() {
    let world = World::new();
    for version in [&TLS12, &TLS13] {
        for size in [1, 2, 5, 6, 100, 1000, 100_000] {
            let (mut client, mut server) = (world.client(version), Server::new(&world.terms));
            // The first flight also in records of its own pieces.
            let hello = in_records(&flight(&mut client), size.clamp(8, 10_000));
            server.take_in_pieces(&hello, size).unwrap();
            server.answer(&mut client).unwrap();
            let payload = vec![7; 40_000];
            std::io::Write::write_all(&mut client.writer(), &payload).unwrap();
            while server.plain.len() < payload.len() {
                let bytes = flight(&mut client);
                server.take_in_pieces(&bytes, size).unwrap();
                server.answer(&mut client).unwrap();
            }
            assert!(server.plain == payload, "{size}");
            assert_eq!(
                server.tls.partial_size(),
                0,
                "an idle connection holds nothing"
            );
            let mut received = vec![0; payload.len()];
            for (to, from) in received.chunks_mut(10_000).zip(payload.chunks(10_000)) {
                server.tls.encode(from, &mut server.wire);
                server.answer(&mut client).unwrap();
                std::io::Read::read_exact(&mut client.reader(), to).unwrap();
            }
            assert!(received == payload, "{size}");
            server.tls.encode(&[9; 20_000], &mut server.wire);
            server.tls.finish(&mut server.wire);
            server.answer(&mut client).unwrap();
            received.clear();
            std::io::Read::read_to_end(&mut client.reader(), &mut received).unwrap();
            assert!(received == [9; 20_000], "two records and the end, {size}");
        }
    }
}

// Threat 90. rustls holds a position in the bytes of the fragment; whoever writes meanwhile has to
// give it the same bytes again, or it panics, and the broker with it.
#[test]
fn half_a_message_after_the_handshake_does_not_keep_the_server_from_writing() {
    let world = World::new();
    let (client, mut server) = world.connected(&TLS13);
    let (sequence, secrets) = client.dangerous_extract_secrets().unwrap().tx;
    let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else {
        panic!("the suite was chosen")
    };
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, key.as_ref()).unwrap());
    let mut nonce = [0; 12];
    nonce.copy_from_slice(iv.as_ref());
    for (byte, of_sequence) in nonce[4..].iter_mut().zip(sequence.to_be_bytes()) {
        *byte ^= of_sequence;
    }
    // The first two bytes of a KeyUpdate, and the kind of their record: a handshake.
    let mut record = vec![0x17, 3, 3, 0, 3 + 16];
    let mut inner = vec![24, 0, 22];
    let nonce = Nonce::assume_unique_for_key(nonce);
    key.seal_in_place_append_tag(nonce, Aad::from(&record[..5]), &mut inner)
        .unwrap();
    record.append(&mut inner);
    server.take(&record).unwrap();
    let before = server.wire.len();
    server.tls.encode(b"still here", &mut server.wire);
    assert!(server.wire.len() > before + 10);
    // A record of another kind in the midst of the message is a breach.
    let failed = server.take(b"\x17\x03\x03\0\x11xxxxxxxxxxxxxxxxx");
    assert!(matches!(failed, Err(TlsError::Protocol(_))), "{failed:?}");
    server.tls.encode(b"too late", &mut server.wire);
    server.tls.finish(&mut server.wire);
}

// What comes is altered at random places, and cut at random ones: no panic, whatever becomes of it.
#[test]
fn altered_bytes_end_the_connection_and_nothing_else() {
    let world = World::new();
    let mut random = fastrand::Rng::with_seed(1);
    let mut draw = |below: usize| random.usize(..below);
    let mut failures = 0;
    for round in 0..600 {
        let version = if round % 2 == 0 { &TLS12 } else { &TLS13 };
        let (mut client, mut server) = (world.client(version), Server::new(&world.terms));
        let mut ended = false;
        let mut alter_in = draw(3);
        for _ in 0..6 {
            let mut bytes = flight(&mut client);
            if client.is_handshaking() && round % 3 == 0 && !bytes.is_empty() && alter_in > 0 {
                bytes = in_records(&bytes, 8 + draw(600));
            }
            if alter_in == 0 && !bytes.is_empty() {
                let at = draw(bytes.len());
                bytes[at] ^= 1 << draw(8);
            }
            alter_in = alter_in.wrapping_sub(1);
            let size = 1 + draw(bytes.len().max(1));
            ended |= server.take_in_pieces(&bytes, size).is_err();
            if server.tls.is_established() {
                server.tls.encode(b"out", &mut server.wire);
                server.tls.finish(&mut server.wire);
            }
            if ended || server.answer(&mut client).is_err() {
                break;
            }
            let _ = std::io::Write::write_all(&mut client.writer(), b"payload");
        }
        failures += usize::from(ended);
    }
    assert!(failures > 200, "most alterations are noticed: {failures}");
}

// Fault T11: whoever pauses in the midst of a message keeps nobody busy.
#[test]
fn a_message_in_several_records_is_not_due_before_more_of_it_came() {
    let world = World::new();
    let mut client = world.client(&TLS13);
    let records = in_records(&flight(&mut client), 100);
    let mut server = Server::new(&world.terms);
    for record in records.chunks(105) {
        assert!(server.wire.is_empty());
        assert!(server.tls.gather(record).unwrap());
        server.advance().unwrap();
        assert!(!server.tls.is_due());
    }
    assert!(!server.wire.is_empty(), "the hello was answered");
}

/// rustls waits for the head of a record, whatever its first byte: a peer that sends no more must
/// not be looked at again and again.
#[test]
fn what_cannot_be_a_record_ends_the_handshake_at_once() {
    let world = World::new();
    for bytes in [
        b"\x18".as_slice(),
        b"G",
        b"\x10\x0C\0\x04",
        b"\x16\x03\x01\xFF\xFF",
    ] {
        let mut server = Server::new(&world.terms);
        assert!(server.tls.gather(bytes).unwrap(), "{bytes:?}");
        let advanced = server.advance();
        assert!(
            matches!(advanced, Err(TlsError::Protocol(_))),
            "{bytes:?}: {advanced:?}"
        );
        assert!(!server.tls.is_due(), "{bytes:?}");
    }
    // Behind the first record of a hello in two.
    let mut client = world.client(&TLS13);
    let records = in_records(&flight(&mut client), 100);
    let mut server = Server::new(&world.terms);
    assert!(server.tls.gather(&records[..105]).unwrap());
    server.advance().unwrap();
    assert!(server.tls.gather(b"G").unwrap());
    assert!(matches!(server.advance(), Err(TlsError::Protocol(_))));
    assert!(!server.tls.is_due());
}

#[test]
fn a_handshake_is_due_when_a_record_is_whole_or_cannot_be_one() {
    let world = World::new();
    for (bytes, expected) in [
        (b"".as_slice(), false),
        (b"\x16", false),
        (b"\x16\x03\x01\0\x02x", false),
        (b"\x16\x03\x01\0\x02xy", true),
        (b"\x16\x03\x01\xFF\xFF", true),
        (b"G", true),
        (b"\x10", true),
        (b"\x15\x03\x01\0\x02", false),
    ] {
        let mut tls = Tls::new(Arc::clone(&world.terms));
        assert_eq!(tls.gather(bytes).unwrap(), expected, "{bytes:?}");
    }
    let mut tls = Tls::new(Arc::clone(&world.terms));
    let long = [b"\x16\x03\x01\x40\0".as_slice(), &[0; 16_000]]
        .concat()
        .repeat(5);
    assert_eq!(tls.gather(&long), Err(TlsError::HandshakeTooLong));
}

/// A hello with a name that rustls refuses.
#[test]
fn an_invalid_server_name_is_reported_as_it_was_sent() {
    let world = World::new();
    let mut client = world.client(&TLS13);
    let mut hello = flight(&mut client);
    let at = hello.windows(9).position(|name| name == b"localhost");
    hello[at.unwrap()..][..9].copy_from_slice(b"the room ");
    let mut server = Server::new(&world.terms);
    let error = server.take(&hello).unwrap_err();
    assert_eq!(error, TlsError::ServerName((*b"the room ").into()));
    let text = error.to_string();
    assert!(
        text.contains("calls the broker `the room ` (SNI)"),
        "{text}"
    );
    assert!(!server.wire.is_empty(), "an alert");
}

#[test]
fn records_are_as_small_as_the_listener_says() {
    let world = World::with(|files| files.record_size = RecordSize(512));
    for version in [&TLS12, &TLS13] {
        let (mut client, mut server) = (world.client(version), Server::new(&world.terms));
        let check = |wire: &[u8]| {
            let mut rest = wire;
            while let [_, _, _, high, low, after @ ..] = rest {
                let size = usize::from(u16::from_be_bytes([*high, *low]));
                assert!(size <= 512 + RECORD_ROOM, "{size}");
                rest = &after[size..];
            }
        };
        while client.is_handshaking() || !server.tls.is_established() {
            server.take(&flight(&mut client)).unwrap();
            check(&server.wire);
            server.answer(&mut client).unwrap();
        }
        server.tls.encode(&[7; 5000], &mut server.wire);
        assert!(server.wire.len() > 5000);
        check(&server.wire);
        server.answer(&mut client).unwrap();
        let mut received = [0; 5000];
        std::io::Read::read_exact(&mut client.reader(), &mut received).unwrap();
        assert_eq!(received, [7; 5000]);
    }
}
