//! A TLS session takes whatever a peer sends, in any chunks, and holds no more than a message: bytes of a
//! stranger, and those of a real client into which others are mixed. What it decrypts is what the client
//! has said.
//!
//! Input: a byte that chooses the version and whether a client begins, four chunk sizes that repeat, steps.
#![no_main]

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use libfuzzer_sys::fuzz_target;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use ringmq::transport::{Decoded, Failure, Scratch, Stack, TlsFiles, Transport};
use ringmq::{Endpoint, ListenerConfig};
use ringmq_core::connection::Output;
use ringmq_core::time::Instant;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

fuzz_target!(|input: &[u8]| {
    let Some((&[selector, ref sizes @ ..], mut rest)) = input.split_first_chunk::<5>() else {
        return;
    };
    let place = place();
    let mut server = Server {
        transport: place.stack.transport().expect("it has TLS"),
        scratch: Scratch::default(),
        sizes: sizes.map(|size| 1 + usize::from(size)),
        plain: Vec::new(),
        is_alive: true,
    };
    if selector & 1 == 0 {
        server.take_in(rest);
        return;
    }
    let config = &place.clients[usize::from(selector >> 1 & 1)];
    let name = "localhost".try_into().expect("a name");
    let mut client = ClientConnection::new(Arc::clone(config), name).expect("a client");
    let (mut said, mut is_honest) = (Vec::new(), true);
    while let Some((&step, after)) = rest.split_first() {
        rest = after;
        let (argument, after) = rest.split_at(rest.len().min(usize::from(step & 0x1F)));
        match step >> 5 {
            0..=2 => {}
            3 => {
                use std::io::Write as _;
                if client.writer().write_all(argument).is_ok() {
                    said.extend_from_slice(argument);
                }
                rest = after;
            }
            // Bytes of nobody in between.
            4 => {
                is_honest &= argument.is_empty();
                server.take_in(argument);
                rest = after;
            }
            // A byte of the client's changes on the way.
            5 => is_honest &= !server.hear(&mut client, Some(step & 0x1F)),
            6 => drop(client.refresh_traffic_keys()),
            // What a client says after that is for nobody.
            _ => {
                client.send_close_notify();
                is_honest = false;
            }
        }
        server.hear(&mut client, None);
        server.say(&mut client);
    }
    let heard = &server.plain;
    assert!(
        said.starts_with(heard),
        "what was decrypted is what was said"
    );
    if is_honest && server.is_alive && !client.is_handshaking() && !client.wants_write() {
        assert_eq!(heard.len(), said.len(), "an honest client is heard");
    }
});

struct Server {
    transport: Box<Transport>,
    scratch: Scratch,
    sizes: [usize; 4],
    plain: Vec<u8>,
    is_alive: bool,
}

impl Server {
    /// All that the client has to send; true if a byte of it was changed.
    fn hear(&mut self, client: &mut ClientConnection, change: Option<u8>) -> bool {
        let mut flight = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut flight).expect("a vector takes all");
        }
        let place = change.map(|at| usize::from(at) * flight.len() / 32);
        if let Some(byte) = place.and_then(|at| flight.get_mut(at)) {
            *byte ^= 0x40;
        }
        let is_changed = change.is_some() && !flight.is_empty();
        self.take_in(&flight);
        is_changed
    }

    fn take_in(&mut self, mut bytes: &[u8]) {
        for size in self.sizes.into_iter().cycle() {
            if bytes.is_empty() || !self.is_alive {
                return;
            }
            let (chunk, after) = bytes.split_at(bytes.len().min(size));
            bytes = after;
            let decoded = self
                .transport
                .decode(Instant::ZERO, chunk, &mut self.scratch);
            self.note(decoded);
            while self.is_alive && self.transport.is_due() {
                let advanced = self.transport.advance(Instant::ZERO, &mut self.scratch);
                self.note(advanced);
            }
        }
    }

    fn note(&mut self, decoded: Result<Decoded, Failure>) {
        self.plain.extend_from_slice(&self.scratch.plain);
        match decoded {
            Ok(decoded) if !decoded.ended => {}
            // As the reactor does it: whoever has ended TLS is answered, and not read any more.
            Ok(_) => {
                self.transport.finish();
                self.is_alive = false;
            }
            Err(_) => self.is_alive = false,
        }
        assert!(self.transport.partial_size() <= 64 * 1024 + 1024);
    }

    /// What the session answers goes to the client, which may not like it.
    fn say(&mut self, client: &mut ClientConnection) {
        let mut wire = self.transport.take_pending();
        if self.transport.is_open() {
            let output = Output::One(b"hello".to_vec());
            if let (Output::One(bytes), _) =
                self.transport.encode(output, Vec::new(), &mut self.scratch)
            {
                wire.extend(bytes);
            }
        }
        let mut wire = wire.as_slice();
        while !wire.is_empty() {
            let is_read = client.read_tls(&mut wire).is_ok_and(|size| size > 0);
            if !is_read || client.process_new_packets().is_err() {
                return;
            }
            let mut heard = Vec::new();
            use std::io::Read as _;
            let _ = client.reader().read_to_end(&mut heard);
        }
    }
}

struct Place {
    stack: Arc<Stack>,
    /// Of TLS 1.3 and of 1.2.
    clients: [Arc<ClientConfig>; 2],
}

/// A certificate of this run.
fn place() -> &'static Place {
    static PLACE: OnceLock<Place> = OnceLock::new();
    PLACE.get_or_init(|| {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let folder = std::env::temp_dir().join(format!("ringmq-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let file = |name: &str, text: String| -> PathBuf {
            let path = folder.join(name);
            std::fs::write(&path, text).expect("a file");
            path
        };
        let mut config = ListenerConfig::plain(Endpoint::Unix(PathBuf::new()));
        config.tls = Some(TlsFiles {
            certificates: vec![file("cert.pem", cert.pem())],
            keys: vec![file("key.pem", signing_key.serialize_pem())],
            ..TlsFiles::default()
        });
        let stack = Arc::new(Stack::load(&config).expect("its files are right"));
        let _ = std::fs::remove_dir_all(&folder);
        let client = |version| {
            let mut roots = RootCertStore::empty();
            let der: CertificateDer<'static> = cert.der().clone();
            roots.add(der).expect("a root");
            let provider = Arc::new(aws_lc_rs::default_provider());
            let config = ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(&[version])
                .expect("versions")
                .with_root_certificates(roots)
                .with_no_client_auth();
            Arc::new(config)
        };
        Place {
            stack,
            clients: [
                client(&rustls::version::TLS13),
                client(&rustls::version::TLS12),
            ],
        }
    })
}
