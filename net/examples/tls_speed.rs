//! What TLS costs a broker: handshakes per second of its CPU time, full and resumed, and CPU time
//! per delivery, over TLS beside plain. For any broker: it is seen from outside, by /proc.
//!
//!     tls_speed PID TLS_PORT PLAIN_PORT CA_FILE [SECONDS]
//!
//! Pin the broker to one core and this to another.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)] // A measurement that cannot go on ends.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
};

/// The broker, and how to reach it.
struct Broker {
    pid: u32,
    tls_port: u16,
    plain_port: u16,
    roots: RootCertStore,
    span: Duration,
}

trait Stream: Read + Write {
    fn socket(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Stream for StreamOwned<ClientConnection, TcpStream> {
    fn socket(&self) -> &TcpStream {
        &self.sock
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [pid, tls_port, plain_port, ca, rest @ ..] = arguments.as_slice() else {
        eprintln!("usage: tls_speed PID TLS_PORT PLAIN_PORT CA_FILE [SECONDS]");
        std::process::exit(2);
    };
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(ca).unwrap())
        .unwrap();
    let broker = Broker {
        pid: pid.parse().unwrap(),
        tls_port: tls_port.parse().unwrap(),
        plain_port: plain_port.parse().unwrap(),
        roots,
        span: Duration::from_secs(rest.first().map_or(5, |s| s.parse().unwrap())),
    };
    for version in [&TLS13, &TLS12] {
        for resumed in [false, true] {
            broker.measure_handshakes(version, resumed);
        }
    }
    for (name, version) in [
        ("plain", None),
        ("TLS 1.3", Some(&TLS13)),
        ("TLS 1.2", Some(&TLS12)),
    ] {
        for (subscribers, size) in [(100, 64), (100, 1024), (20, 16_384)] {
            broker.measure_deliveries(name, version, subscribers, size);
        }
    }
}

impl Broker {
    /// CPU time of the broker so far.
    fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }

    fn config(
        &self,
        version: &'static SupportedProtocolVersion,
        resumed: bool,
    ) -> Arc<ClientConfig> {
        let mut config = ClientConfig::builder_with_protocol_versions(&[version])
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        if !resumed {
            config.resumption = Resumption::disabled();
        }
        Arc::new(config)
    }

    fn tls(&self, config: &Arc<ClientConfig>) -> StreamOwned<ClientConnection, TcpStream> {
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
        StreamOwned::new(connection, connect(self.tls_port))
    }

    /// One connection after the other: handshake, CONNECT, CONNACK, DISCONNECT.
    fn measure_handshakes(&self, version: &'static SupportedProtocolVersion, resumed: bool) {
        let config = self.config(version, resumed);
        let mut kinds = [0u64; 2];
        let (began, cpu) = (Instant::now(), self.cpu());
        while began.elapsed() < self.span {
            let mut stream = self.tls(&config);
            open(&mut stream, "handshake");
            let is_resumed = stream.conn.handshake_kind() == Some(HandshakeKind::Resumed);
            kinds[usize::from(is_resumed)] += 1;
            let _ = stream.write_all(b"\xE0\0");
        }
        let cpu = (self.cpu() - cpu).as_secs_f64();
        let [full, resumed] = kinds;
        // The same connections without TLS, to take their cost off.
        let (mut plain, began, plain_cpu) = (0u64, Instant::now(), self.cpu());
        while began.elapsed() < self.span / 2 {
            let mut stream = connect(self.plain_port);
            open(&mut stream, "handshake");
            let _ = stream.write_all(b"\xE0\0");
            plain += 1;
        }
        let plain_us = (self.cpu() - plain_cpu).as_secs_f64() * 1e6 / plain as f64;
        let us = cpu * 1e6 / (full + resumed) as f64;
        println!(
            "{version:?}: {full} full and {resumed} resumed handshakes, {us:.0} us of CPU each \
             with MQTT's CONNECT ({plain_us:.0} us without TLS): {:.0} connections/s and core",
            1e6 / us
        );
    }

    /// One publisher, and subscribers that get everything, at QoS 0.
    fn measure_deliveries(
        &self,
        name: &str,
        version: Option<&'static SupportedProtocolVersion>,
        subscribers: usize,
        size: usize,
    ) {
        let open_stream = || -> Box<dyn Stream> {
            match version {
                Some(version) => Box::new(self.tls(&self.config(version, true))),
                None => Box::new(connect(self.plain_port)),
            }
        };
        let mut receivers: Vec<_> = (0..subscribers)
            .map(|index| {
                let mut stream = open_stream();
                open(&mut stream, &format!("sub-{index}"));
                stream.write_all(b"\x82\x06\0\x01\0\x01t\0").unwrap();
                stream.read_exact(&mut [0; 5]).unwrap();
                stream.socket().set_nonblocking(true).unwrap();
                stream
            })
            .collect();
        let mut publisher = open_stream();
        open(&mut publisher, "pub");
        let packet = publish(size);
        // In rounds, so that no message is dropped: the broker gets some, all come back.
        let burst = packet.repeat((32 * 1024 / packet.len()).clamp(4, 64));
        let per_round = burst.len() * subscribers;
        let mut buffer = vec![0; 1 << 17];
        let (began, cpu, mut rounds) = (Instant::now(), self.cpu(), 0u64);
        while began.elapsed() < self.span {
            publisher.write_all(&burst).unwrap();
            publisher.flush().unwrap();
            let mut got = 0;
            while got < per_round {
                for receiver in &mut receivers {
                    match receiver.read(&mut buffer) {
                        Ok(0) => panic!("closed"),
                        Ok(size) => got += size,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            rounds += 1;
        }
        let deliveries = rounds * (per_round / packet.len()) as u64;
        let ns = (self.cpu() - cpu).as_nanos() as f64 / deliveries as f64;
        println!(
            "{name}: {size} bytes to {subscribers}: {ns:.0} ns of CPU per delivery, {deliveries} \
             deliveries"
        );
    }
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn open(stream: &mut impl ReadWrite, client_id: &str) {
    let mut packet = vec![0x10, 12 + client_id.len() as u8];
    packet.extend(b"\0\x04MQTT\x04\x02\0\x3C");
    packet.extend((client_id.len() as u16).to_be_bytes());
    packet.extend(client_id.as_bytes());
    stream.write_all(&packet).unwrap();
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).unwrap();
    assert_eq!(connack, *b"\x20\x02\0\0");
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

fn publish(size: usize) -> Vec<u8> {
    let mut packet = vec![0x30];
    let mut rest = 3 + size;
    loop {
        let low = (rest % 128) as u8;
        rest /= 128;
        packet.push(low | if rest > 0 { 0x80 } else { 0 });
        if rest == 0 {
            break;
        }
    }
    packet.extend(b"\0\x01t");
    packet.resize(packet.len() + size, 7);
    packet
}
