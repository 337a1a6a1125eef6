//! Peers that do not keep to TLS, or that overdo it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use ringmq::transport::{Origins, ProxyRules};
use ringmq::{Broker, ListenerConfig};
use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use rustls::{ALL_VERSIONS, ClientConnection};

use super::tls::tls;
use super::{address, config, local, start, stop, tcp, with_tls};
use crate::certificates::Authority;
use crate::mqtt::{Client, connect_packet};

/// What the broker says until it closes. A reset is an end too.
fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(size @ 1..) = stream.read(&mut chunk) {
        all.extend_from_slice(&chunk[..size]);
    }
    all
}

/// The first flight of a client.
fn hello(authority: &Authority) -> Vec<u8> {
    let name = ServerName::try_from("localhost").unwrap();
    let config = authority.client_config(None, ALL_VERSIONS);
    let mut client = ClientConnection::new(config, name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

// Fault T22. Garbage, a truncated record, a record that is too long: an alert, and the end.
#[test]
fn what_is_not_tls_is_answered_with_an_alert_and_closed() {
    let authority = Authority::new();
    let broker = start(vec![with_tls(authority.files()), local()]);
    let mut canary = Client::open(tcp(address(&broker, 1)), "canary");
    let mut altered = hello(&authority);
    altered[5] ^= 0xFF;
    for bytes in [
        connect_packet("plain", 0),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0; 5],
        b"\x16\x03\x01\xFF\xFF".to_vec(),
        b"\x16\x03\x01\0\0".repeat(1000),
        b"\x17\x03\x03\0\x01x".to_vec(),
        altered,
    ] {
        let mut stream = tcp(address(&broker, 0));
        stream.write_all(&bytes).unwrap();
        let answer = read_to_end(&mut stream);
        assert!(answer.is_empty() || answer[0] == 21, "{answer:?}");
        canary.ping();
    }
    let failed: u64 = broker.counts().iter().map(|c| c.transports_failed).sum();
    assert_eq!(failed, 7);
    stop(broker);
}

// Threat 90: what made rustls loop or panic once.
#[test]
fn a_hello_may_come_in_any_pieces_and_be_followed_by_anything() {
    let authority = Authority::new();
    let broker = start(vec![with_tls(authority.files())]);
    let hello = hello(&authority);
    // Byte by byte, and as many small records.
    let by_record: Vec<u8> = hello[5..]
        .chunks(8)
        .flat_map(|piece| [&[0x16, 3, 1, 0, piece.len() as u8], piece].concat())
        .collect();
    for (bytes, piece_size) in [(&hello, 1), (&by_record, 500)] {
        let mut stream = tcp(address(&broker, 0));
        for piece in bytes.chunks(piece_size) {
            stream.write_all(piece).unwrap();
        }
        let mut head = [0; 3];
        stream.read_exact(&mut head).unwrap();
        assert_eq!(head, [22, 3, 3], "the hello of the server");
    }
    for last in [
        b"\x15\x03\x03\0\x02\x01\0".as_slice(),
        b"\x15\x03\x03\0\x02\x02\x28",
    ] {
        let mut stream = tcp(address(&broker, 0));
        stream.write_all(&[&hello, last].concat()).unwrap();
        read_to_end(&mut stream);
    }
    let config = authority.client_config(None, ALL_VERSIONS);
    Client::open(tls(address(&broker, 0), &config), "still").ping();
    stop(broker);
}

// Threat 39, fault T22.
#[test]
fn a_flood_of_key_updates_ends_the_connection() {
    let authority = Authority::new();
    let broker = start(vec![with_tls(authority.files()), local()]);
    let config = authority.client_config(None, &[&TLS13]);
    let mut canary = Client::open(tcp(address(&broker, 1)), "canary");
    let mut client = Client::open(tls(address(&broker, 0), &config), "floods");
    // Some are a client's right.
    for _ in 0..5 {
        client.stream.conn.refresh_traffic_keys().unwrap();
        client.ping();
    }
    let mut flood = Vec::new();
    for _ in 0..1000 {
        client.stream.conn.refresh_traffic_keys().unwrap();
        client.stream.conn.write_tls(&mut flood).unwrap();
    }
    // It may be closed before all of it is sent.
    let _ = client.stream.sock.write_all(&flood);
    let answer = read_to_end(&mut client.stream.sock);
    assert!(answer.len() < 40 * 100, "not every update is answered");
    canary.ping();
    stop(broker);
}

// Fault T11: the deadline of CONNECT is that of the layers too, however slowly bytes come.
#[test]
fn a_client_that_sends_no_connect_is_closed_at_the_deadline() {
    let authority = Authority::new();
    let websocket = ListenerConfig {
        websocket: Some(Origins::default()),
        ..local()
    };
    let proxied = ListenerConfig {
        proxy: Some(ProxyRules {
            trusted: vec!["127.0.0.1".parse().unwrap()],
            takes_common_name: false,
        }),
        ..local()
    };
    let mut config = config(vec![
        with_tls(authority.files()),
        websocket,
        proxied,
        local(),
    ]);
    config.limits.connect_deadline = Duration::from_millis(400);
    let broker = Broker::start(&config).unwrap();
    let hello = hello(&authority);
    let request = b"GET /mqtt HTTP/1.1\r\nHost: x\r\n";
    let silent: Vec<TcpStream> = (0..4).map(|index| tcp(address(&broker, index))).collect();
    let slow: Vec<_> = [&hello[..], request, b"PROXY TCP4 192.0.2.1 192.0.2.2 1"]
        .into_iter()
        .enumerate()
        .map(|(index, bytes)| {
            let (mut stream, bytes) = (tcp(address(&broker, index)), bytes.to_vec());
            thread::spawn(move || {
                stream
                    .set_read_timeout(Some(Duration::from_millis(20)))
                    .unwrap();
                for byte in bytes.iter().chain(std::iter::repeat(&b'x')).take(1000) {
                    if stream.write_all(&[*byte]).is_err() {
                        return true;
                    }
                    match stream.read(&mut [0; 64]) {
                        Ok(0) => return true,
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                        Ok(_) | Err(_) => return true,
                    }
                }
                false
            })
        })
        .collect();
    for mut stream in silent {
        assert_eq!(read_to_end(&mut stream), b"");
    }
    for thread in slow {
        assert!(thread.join().unwrap(), "closed while it trickled");
    }
    stop(broker);
}
