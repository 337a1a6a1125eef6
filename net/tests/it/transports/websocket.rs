//! WebSocket on real sockets, plain and over TLS.

use std::io::{self, Read, Write};
use std::sync::Arc;

use ringmq::ListenerConfig;
use ringmq::transport::Origins;
use rustls::ALL_VERSIONS;

use super::tls::tls;
use super::{address, local, start, stop, tcp, with_tls};
use crate::certificates::Authority;
use crate::mqtt::{Client, connect_packet, exchange, packet, subscribe_packet};

/// A client's side of a WebSocket: what is written becomes frames of `frame_size` bytes at most.
pub struct Ws<S> {
    stream: S,
    frame_size: usize,
    /// Payload that was read and not taken.
    payload: Vec<u8>,
    /// Other frames that came: first byte and payload.
    pub controls: Vec<(u8, Vec<u8>)>,
}

impl<S: Read + Write> Ws<S> {
    pub fn open(mut stream: S, frame_size: usize) -> Ws<S> {
        stream.write_all(REQUEST).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 101 "), "{answer:?}");
        Ws {
            stream,
            frame_size,
            payload: Vec::new(),
            controls: Vec::new(),
        }
    }

    /// Reads the next frame; false at the end of the stream.
    fn read_frame(&mut self) -> io::Result<bool> {
        let mut head = [0; 2];
        if self.stream.read(&mut head[..1])? == 0 {
            return Ok(false);
        }
        self.stream.read_exact(&mut head[1..])?;
        assert_eq!(head[1] & 0x80, 0, "a server does not mask");
        let size = match head[1] {
            126 => {
                let mut size = [0; 2];
                self.stream.read_exact(&mut size)?;
                u64::from(u16::from_be_bytes(size))
            }
            127 => {
                let mut size = [0; 8];
                self.stream.read_exact(&mut size)?;
                u64::from_be_bytes(size)
            }
            size => u64::from(size),
        };
        let mut payload = vec![0; size as usize];
        self.stream.read_exact(&mut payload)?;
        // [MQTT-6.0.0-1] [MQTT3-6.0.0-1] What the broker sends is binary, too.
        match head[0] {
            0x82 => self.payload.append(&mut payload),
            first => self.controls.push((first, payload)),
        }
        Ok(true)
    }
}

impl<S: Read + Write> Read for Ws<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.payload.is_empty() {
            if !self.read_frame()? {
                return Ok(0);
            }
        }
        let size = buffer.len().min(self.payload.len());
        buffer[..size].copy_from_slice(&self.payload[..size]);
        self.payload.drain(..size);
        Ok(size)
    }
}

impl<S: Read + Write> Write for Ws<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(self.frame_size)];
        self.stream.write_all(&frame(0x82, piece))?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0xA1, 0x5C, 0x03, 0xFF];
    let mut bytes = vec![first];
    match payload.len() {
        0..=125 => bytes.push(0x80 | payload.len() as u8),
        126..=0xFFFF => {
            bytes.push(0x80 | 126);
            bytes.extend((payload.len() as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend((payload.len() as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(p, m)| p ^ m));
    bytes
}

fn websocket() -> ListenerConfig {
    ListenerConfig {
        websocket: Some(Origins::default()),
        ..local()
    }
}

// Threat 85. [MQTT-6.0.0-2] [MQTT3-6.0.0-2] Packets span frames, and frames hold several packets.
#[test]
fn packets_may_begin_and_end_anywhere_in_frames() {
    let authority = Authority::new();
    let secure = ListenerConfig {
        websocket: Some(Origins::default()),
        ..with_tls(authority.files())
    };
    let broker = start(vec![websocket(), secure]);
    let mut config = (*authority.client_config(None, ALL_VERSIONS)).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let config = Arc::new(config);
    for (index, frame_size) in [1, 2, 7, 125, 126, 4096, 100_000, 1 << 20]
        .into_iter()
        .enumerate()
    {
        let topic = format!("t/{index}");
        let plain = Ws::open(tcp(address(&broker, 0)), frame_size);
        let mut publisher = Client::open(plain, &format!("p{index}"));
        let secure = Ws::open(tls(address(&broker, 1), &config), frame_size.max(125));
        let mut subscriber = Client::open(secure, &format!("s{index}"));
        if frame_size < 100 {
            subscriber.subscribe(&topic);
            publisher.publish(&topic, &[7; 1000]);
            assert_eq!(subscriber.message(), [7; 1000]);
        } else {
            exchange(&mut publisher, &mut subscriber, &topic);
        }
        // Several packets in one frame, with a ping in the middle of a message.
        let burst = [packet(0xC0, b""), packet(0xC0, b"")].concat();
        publisher.stream.frame_size = usize::MAX;
        publisher.send(&burst);
        assert_eq!((publisher.packet().0, publisher.packet().0), (0xD0, 0xD0));
        let parts = [
            frame(0x02, b"\xC0"),
            frame(0x89, b"ping"),
            frame(0x80, b"\0"),
        ]
        .concat();
        publisher.stream.stream.write_all(&parts).unwrap();
        assert_eq!(publisher.packet().0, 0xD0);
        assert!(
            publisher
                .stream
                .controls
                .contains(&(0x8A, b"ping".to_vec()))
        );
    }
    stop(broker);
}

#[test]
fn a_connect_right_behind_the_request_is_not_lost() {
    let broker = start(vec![websocket()]);
    for index in 0..8 {
        let mut stream = tcp(address(&broker, 0));
        let connect = frame(0x82, &connect_packet(&format!("c{index}"), 0));
        let subscribe = frame(0x82, &subscribe_packet("a/b"));
        stream
            .write_all(&[REQUEST, &connect, &subscribe].concat())
            .unwrap();
        let mut answer = Vec::new();
        while !answer.windows(5).any(|w| w == b"\x90\x04\0\x01\0") {
            let mut chunk = [0; 512];
            let size = stream.read(&mut chunk).unwrap();
            assert!(size > 0, "closed after {answer:?}");
            answer.extend_from_slice(&chunk[..size]);
        }
    }
    stop(broker);
}

// Threats 86 and 87, fault T23: the client is told by a close frame, then TCP ends.
#[test]
fn a_breach_is_answered_with_a_close_frame() {
    let broker = start(vec![websocket(), local()]);
    let mut canary = Client::open(tcp(address(&broker, 1)), "canary");
    for (bytes, status) in [
        (frame(0x81, b"text"), 1003u16),
        (b"\x82\xFF\x80\0\0\0\0\0\0\0\x01\x02\x03\x04".to_vec(), 1002),
        (frame(0xC2, b"compressed"), 1002),
        (b"\x82\x01x".to_vec(), 1002),
        (frame(0x80, b"continues nothing"), 1002),
        (frame(0x89, &[0; 126]), 1002),
        (frame(0x89, b"x").repeat(11), 1008),
    ] {
        let mut client = Client::open(Ws::open(tcp(address(&broker, 0)), 1000), "breaks");
        client.stream.stream.write_all(&bytes).unwrap();
        client.expect_end(b"");
        let last = client.stream.controls.last();
        assert_eq!(last, Some(&(0x88, status.to_be_bytes().to_vec())));
        canary.ping();
    }
    stop(broker);
}

#[test]
fn both_sides_close_with_a_frame() {
    let broker = start(vec![websocket()]);
    let mut client = Client::open(Ws::open(tcp(address(&broker, 0)), 1000), "client");
    client.send(b"\xE0\0");
    client.expect_end(b"");
    assert_eq!(client.stream.controls, [(0x88, b"\x03\xE8".to_vec())]);
    let mut client = Client::open(Ws::open(tcp(address(&broker, 0)), 1000), "client");
    client
        .stream
        .stream
        .write_all(&frame(0x88, b"\x03\xE9bye"))
        .unwrap();
    client.expect_end(b"");
    assert_eq!(client.stream.controls, [(0x88, b"\x03\xE9".to_vec())]);
    stop(broker);
}

// Threat 88.
#[test]
fn a_request_for_no_websocket_is_told_so() {
    let broker = start(vec![websocket(), local()]);
    let mut canary = Client::open(tcp(address(&broker, 1)), "canary");
    let long = [
        b"GET / HTTP/1.1\r\nCookie: ".as_slice(),
        &vec![b'x'; 1 << 20],
    ]
    .concat();
    let origin = String::from_utf8(REQUEST.to_vec()).unwrap();
    let origin = origin.replace("\r\n\r\n", "\r\nOrigin: https://evil.example\r\n\r\n");
    for (request, status) in [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".as_slice(), "400"),
        (b"\x10\x0C\0\x04MQTT\x04\x02\0\0\0\0", "400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400"),
        (&long, "431"),
        (origin.as_bytes(), "403"),
    ] {
        let mut stream = tcp(address(&broker, 0));
        // The broker may close before all of it is sent.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        let wanted = format!("HTTP/1.1 {status} ");
        assert!(answer.is_empty() || answer.starts_with(&wanted), "{answer}");
        // A long request may be reset before its answer is read, a short one may not.
        assert!(!answer.is_empty() || request.len() > 8192);
        canary.ping();
    }
    stop(broker);
}

// Threat 63: what is larger than the client takes is dropped, as if it were sent.
#[test]
fn a_message_that_is_too_large_for_the_client_is_dropped() {
    let broker = start(vec![websocket()]);
    let open = || Ws::open(tcp(address(&broker, 0)), 4096);
    let mut subscriber = Client::open_with(open(), &connect_packet("small", 100));
    subscriber.subscribe("t");
    let mut publisher = Client::open(open(), "large");
    publisher.publish("t", &[1; 200]);
    publisher.publish("t", b"fits");
    assert_eq!(subscriber.message(), b"fits");
    stop(broker);
}

const REQUEST: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Version: 13\r\n\r\n";
