//! The PROXY protocol: who is believed, and what becomes of it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

use ringmq::transport::{Origins, ProxyRules};
use ringmq::{Broker, Core, ListenerConfig};
use ringmq_core::auth::PeerIdentity;
use ringmq_core::connection::Output;
use ringmq_core::ids::ConnId;
use ringmq_core::shard::{Deadlines, Event, Outbox};
use ringmq_core::time::Instant;
use rustls::ALL_VERSIONS;

use super::tls::tls;
use super::{address, config, local, start, stop, tcp, with_tls};
use crate::certificates::Authority;
use crate::mqtt::{Client, connect_packet, exchange};

/// A core that tells who its connections are, when they have said something.
struct Witness {
    peers: Vec<(ConnId, PeerIdentity)>,
    /// Those that have said something.
    home: Vec<ConnId>,
    seen: Sender<(PeerIdentity, Vec<u8>)>,
}

impl Core for Witness {
    fn handle(&mut self, _now: Instant, event: Event<'_>, _out: &mut Outbox) {
        match event {
            Event::Accepted { conn, peer, .. } => self.peers.push((conn, peer)),
            Event::Identified { conn, peer } => {
                let known = self.peers.iter_mut().find(|(known, _)| *known == conn);
                known.unwrap().1 = peer;
            }
            Event::Received { conn, bytes } => {
                let known = self.peers.iter().find(|(known, _)| *known == conn);
                let _ = self.seen.send((known.unwrap().1.clone(), bytes.to_vec()));
                self.home.push(conn);
            }
            _ => {}
        }
    }
    fn deadlines(&self) -> Deadlines {
        Deadlines::default()
    }
    fn take_output(&mut self, _conn: ConnId) -> Option<Output> {
        None
    }
    fn recycle(&mut self, _output: Output) {}
    fn is_home(&self, conn: ConnId) -> bool {
        self.home.contains(&conn)
    }
}

fn witness(listen: Vec<ListenerConfig>) -> (Broker, Receiver<(PeerIdentity, Vec<u8>)>) {
    let (seen, witnessed) = channel();
    let mut config = config(listen);
    config.shards = 1;
    let broker = Broker::start_with(&config, move |_| Witness {
        peers: Vec::new(),
        home: Vec::new(),
        seen: seen.clone(),
    });
    (broker.unwrap(), witnessed)
}

fn proxied(trusted: &str, listener: ListenerConfig) -> ListenerConfig {
    ListenerConfig {
        proxy: Some(ProxyRules {
            trusted: vec![trusted.parse().unwrap()],
            takes_common_name: true,
        }),
        ..listener
    }
}

/// The end of a connection: no byte came.
fn is_closed(mut stream: TcpStream) -> bool {
    !matches!(stream.read(&mut [0]), Ok(1))
}

// Threat 89.
#[test]
fn a_trusted_proxy_tells_who_the_client_is() {
    let (broker, witnessed) = witness(vec![proxied("127.0.0.0/8", local())]);
    let v2 = {
        let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
        let ssl = b"\x20\0\x0D\x02\0\0\0\0\x22\0\x05dev-1";
        header.extend((12 + ssl.len() as u16).to_be_bytes());
        header.extend([192, 0, 2, 1, 192, 0, 2, 2, 0x12, 0x34, 7, 0x5B]);
        header.extend(ssl);
        header
    };
    let announced: SocketAddr = "192.0.2.1:4660".parse().unwrap();
    for (header, address_of_client, name) in [
        (
            b"PROXY TCP4 192.0.2.1 192.0.2.2 4660 1883\r\n".to_vec(),
            Some(announced),
            None,
        ),
        (b"PROXY UNKNOWN\r\n".to_vec(), None, None),
        (v2, Some(announced), Some("dev-1")),
    ] {
        let mut stream = tcp(address(&broker, 0));
        let own = stream.local_addr().unwrap();
        stream.write_all(&header).unwrap();
        stream.write_all(b"hello").unwrap();
        let mut bytes = Vec::new();
        while bytes.len() < 5 {
            let (peer, more) = witnessed.recv().unwrap();
            assert_eq!(peer.address, Some(address_of_client.unwrap_or(own)));
            assert_eq!(peer.name.as_deref(), name);
            bytes.extend(more);
        }
        assert_eq!(
            bytes, b"hello",
            "what follows the header, and nothing of it"
        );
    }
    for header in [
        b"hello".as_slice(),
        b"PROXY TCP9\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xFF\xFF",
    ] {
        let mut stream = tcp(address(&broker, 0));
        stream.write_all(header).unwrap();
        assert!(is_closed(stream), "{header:?}");
    }
    assert!(witnessed.try_recv().is_err(), "nobody else was heard");
    stop(broker);
}

// A proxy that names nobody: UNKNOWN, LOCAL, UNSPEC, or no name in the TLV.
#[test]
fn clients_without_a_name_are_refused_where_the_proxy_has_to_name_them() {
    let v2 = |head: &[u8], rest: &[u8]| {
        let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
        header.extend(head);
        header.extend((rest.len() as u16).to_be_bytes());
        header.extend(rest);
        header
    };
    let addresses = [192, 0, 2, 1, 192, 0, 2, 2, 0x12, 0x34, 7, 0x5B];
    let with_tlv = |tlv: &[u8]| v2(b"\x21\x11", &[&addresses, tlv].concat());
    let named = with_tlv(b"\x20\0\x0D\x02\0\0\0\0\x22\0\x05dev-1");
    let nameless = [
        b"PROXY TCP4 192.0.2.1 192.0.2.2 4660 1883\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        v2(b"\x20\0", b""),
        v2(b"\x21\0", b""),
        with_tlv(b""),
        with_tlv(b"\x20\0\x05\x01\0\0\0\0"),
    ];
    for allow_unproven in [false, true] {
        let mut config = config(vec![proxied("127.0.0.0/8", local())]);
        config.access.allow_unproven = allow_unproven;
        let broker = Broker::start(&config).unwrap();
        let gets_in = |header: &[u8]| {
            let mut stream = tcp(address(&broker, 0));
            stream.write_all(header).unwrap();
            stream.write_all(&connect_packet("c", 0)).unwrap();
            let mut head = [0; 4];
            stream.read_exact(&mut head).unwrap();
            (head[0], head[3] == 0)
        };
        assert_eq!(gets_in(&named), (0x20, true));
        for header in &nameless {
            assert_eq!(gets_in(header), (0x20, allow_unproven), "{header:?}");
        }
        stop(broker);
    }
}

#[test]
fn only_proxies_may_connect_where_proxies_are_expected() {
    let (broker, witnessed) = witness(vec![proxied("192.0.2.0/24", local()), local()]);
    let mut stream = tcp(address(&broker, 0));
    let _ = stream.write_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 4660 1883\r\nhello");
    assert!(is_closed(stream));
    // Where none are expected, a header is but bytes.
    let mut stream = tcp(address(&broker, 1));
    stream.write_all(b"PROXY").unwrap();
    let (peer, bytes) = witnessed.recv().unwrap();
    assert_eq!(peer.address, Some(stream.local_addr().unwrap()));
    assert_eq!(bytes, b"PROXY");
    assert_eq!(broker.counts()[0].proxies_refused, 1);
    stop(broker);
}

#[test]
fn the_name_in_a_client_certificate_is_who_the_client_is() {
    let authority = Authority::new();
    let (broker, witnessed) = witness(vec![with_tls(authority.mutual_files())]);
    for version in ALL_VERSIONS {
        let own = authority.client("dev-7", 7);
        let config = authority.client_config(Some(&own), &[version]);
        // The second session is resumed.
        for _ in 0..2 {
            let mut stream = tls(address(&broker, 0), &config);
            stream.write_all(b"hello").unwrap();
            let (peer, _) = witnessed.recv().unwrap();
            assert_eq!(peer.name.as_deref(), Some("dev-7"));
            assert_eq!(peer.address, Some(stream.sock.local_addr().unwrap()));
        }
    }
    stop(broker);
}

// Every layer at once: PROXY, TLS, WebSocket.
#[test]
fn all_layers_work_on_top_of_each_other() {
    let authority = Authority::new();
    let all = ListenerConfig {
        websocket: Some(Origins::default()),
        ..proxied("127.0.0.1", with_tls(authority.files()))
    };
    let broker = start(vec![all, proxied("127.0.0.1", local())]);
    let mut config = (*authority.client_config(None, ALL_VERSIONS)).clone();
    config.alpn_protocols.clear();
    let config = std::sync::Arc::new(config);
    let header = b"PROXY TCP4 192.0.2.1 192.0.2.2 4660 1883\r\n";
    for index in 0..4 {
        let mut stream = tls(address(&broker, 0), &config);
        stream.sock.write_all(header).unwrap();
        let websocket = super::websocket::Ws::open(stream, 5000);
        let mut client = Client::open(websocket, &format!("all-{index}"));
        let mut stream = tcp(address(&broker, 1));
        stream.write_all(header).unwrap();
        let mut other = Client::open(stream, &format!("proxied-{index}"));
        exchange(&mut other, &mut client, &format!("t/{index}"));
        exchange(&mut client, &mut other, &format!("u/{index}"));
    }
    stop(broker);
}
