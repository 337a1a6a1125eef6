//! TLS without sockets: what a record costs the broker, each way, and what a handshake costs it. What
//! the client does is off the watch.

use std::fs;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringmq::rig::transport;
use ringmq::transport::{Scratch, Stack, TlsFiles, Transport};
use ringmq::{Endpoint, ListenerConfig};
use ringmq_bench::Stopwatch;
use ringmq_core::connection::Output;
use ringmq_core::time::Instant;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// A message of 64 bytes payload, one of a KiB, and the largest record.
const SIZES: [usize; 3] = [96, 1056, 16_384];
/// Records that the client prepares at once.
const BATCH: usize = 256;

fn records(c: &mut Criterion) {
    let world = World::new();
    let mut group = c.benchmark_group("TLS record");
    for size in SIZES {
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("decrypt", size), |b| {
            b.iter_custom(|rounds| world.decrypt(size, rounds as usize).total());
        });
        group.bench_function(BenchmarkId::new("encrypt", size), |b| {
            b.iter_custom(|rounds| world.encrypt(size, rounds as usize).total());
        });
    }
    group.finish();
}

fn handshakes(c: &mut Criterion) {
    let world = World::new();
    c.bench_function("TLS handshake", |b| {
        b.iter_custom(|rounds| {
            let mut watch = Stopwatch::default();
            for _ in 0..rounds {
                world.connect(&mut watch);
            }
            watch.total()
        });
    });
}

/// A listener with a certificate of its own, and a client that trusts it.
struct World {
    stack: Arc<Stack>,
    client: Arc<ClientConfig>,
}

impl World {
    fn new() -> World {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
        let own = made.expect("a name and a fresh key");
        let folder = std::env::temp_dir().join(format!("ringmq-bench-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for temporary files");
        let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
        fs::write(&certificate, own.cert.pem()).expect("a writable folder");
        fs::write(&key, own.signing_key.serialize_pem()).expect("a writable folder");
        let address = "127.0.0.1:0".parse().expect("an address");
        let mut config = ListenerConfig::plain(Endpoint::Tcp(address));
        config.tls = Some(TlsFiles {
            certificates: vec![certificate],
            keys: vec![key],
            ..TlsFiles::default()
        });
        let stack = Stack::load(&config).expect("files that were just written");
        fs::remove_dir_all(&folder).expect("a folder of our own");
        let mut roots = RootCertStore::empty();
        roots
            .add(own.cert.der().clone())
            .expect("a valid certificate");
        let mut client = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = vec![b"mqtt".to_vec()];
        // Every handshake is a whole one.
        client.resumption = rustls::client::Resumption::disabled();
        World {
            stack: Arc::new(stack),
            client: Arc::new(client),
        }
    }

    /// A connection behind its handshake, of which the broker's part is on the watch.
    fn connect(&self, watch: &mut Stopwatch) -> (ClientConnection, Transport, Scratch) {
        let name = ServerName::try_from("localhost").expect("a name");
        let made = ClientConnection::new(Arc::clone(&self.client), name);
        let mut client = made.expect("a valid configuration");
        let mut scratch = Scratch::default();
        watch.start();
        let mut server = transport(&self.stack);
        watch.stop();
        while client.is_handshaking() || !server.is_open() {
            let wire = flush(&mut client);
            watch.start();
            server
                .decode(NOW, &wire, &mut scratch)
                .expect("an honest client");
            while server.is_due() {
                server.advance(NOW, &mut scratch).expect("an honest client");
            }
            let answer = server.take_pending();
            watch.stop();
            let read = client
                .read_tls(&mut &answer[..])
                .expect("bytes from memory");
            assert_eq!(read, answer.len(), "the client takes a flight at once");
            client.process_new_packets().expect("an honest server");
        }
        (client, server, scratch)
    }

    fn decrypt(&self, size: usize, count: usize) -> Stopwatch {
        let (mut client, mut server, mut scratch) = self.connect(&mut Stopwatch::default());
        let plain = vec![b'x'; size];
        let mut watch = Stopwatch::default();
        for from in (0..count).step_by(BATCH) {
            let records: Vec<Vec<u8>> = (from..count.min(from + BATCH))
                .map(|_| {
                    let mut writer = client.writer();
                    std::io::Write::write_all(&mut writer, &plain).expect("room for a record");
                    flush(&mut client)
                })
                .collect();
            watch.start();
            for record in &records {
                server
                    .decode(NOW, record, &mut scratch)
                    .expect("a valid record");
            }
            watch.stop();
            assert_eq!(scratch.plain, plain, "the last record");
        }
        watch
    }

    fn encrypt(&self, size: usize, count: usize) -> Stopwatch {
        let (_, mut server, mut scratch) = self.connect(&mut Stopwatch::default());
        let mut output = Output::One(vec![b'x'; size]);
        let mut buffer = Vec::new();
        let mut watch = Stopwatch::default();
        watch.start();
        for _ in 0..count {
            buffer.clear();
            let (Output::One(wire), Some(plain)) = server.encode(output, buffer, &mut scratch)
            else {
                panic!("TLS copies")
            };
            assert!(wire.len() > size, "a record is larger than what it holds");
            (output, buffer) = (plain, wire);
        }
        watch.stop();
        watch
    }
}

/// What the client has for the socket.
fn flush(client: &mut ClientConnection) -> Vec<u8> {
    let mut wire = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut wire).expect("memory takes all");
    }
    wire
}

const NOW: Instant = Instant::from_nanos(1);

criterion_group!(benches, records, handshakes);
criterion_main!(benches);
