//! The few packets of MQTT that these tests need, over any stream.

use std::io::{Read, Write};

/// CONNECT of MQTT 5.0 with a clean start; `packet_size_max` 0 states none.
pub fn connect_packet(client_id: &str, packet_size_max: u32) -> Vec<u8> {
    let mut body = b"\0\x04MQTT\x05\x02\0\x3C".to_vec();
    match packet_size_max {
        0 => body.push(0),
        size => {
            body.extend([5, 0x27]);
            body.extend(size.to_be_bytes());
        }
    }
    body.extend((client_id.len() as u16).to_be_bytes());
    body.extend(client_id.as_bytes());
    packet(0x10, &body)
}

pub fn publish_packet(topic: &str, payload: &[u8], id: u16) -> Vec<u8> {
    let mut body = (topic.len() as u16).to_be_bytes().to_vec();
    body.extend(topic.as_bytes());
    body.extend(id.to_be_bytes());
    body.push(0);
    body.extend(payload);
    packet(0x32, &body)
}

pub fn subscribe_packet(filter: &str) -> Vec<u8> {
    let mut body = b"\0\x01\0".to_vec();
    body.extend((filter.len() as u16).to_be_bytes());
    body.extend(filter.as_bytes());
    body.push(1);
    packet(0x82, &body)
}

pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut rest = body.len();
    loop {
        let low = (rest % 128) as u8;
        rest /= 128;
        bytes.push(low | if rest > 0 { 0x80 } else { 0 });
        if rest == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

/// A client over some stream of plaintext.
pub struct Client<S> {
    pub stream: S,
}

impl<S: Read + Write> Client<S> {
    /// Connects; CONNACK 0 is here when this returns.
    pub fn open(stream: S, client_id: &str) -> Client<S> {
        Client::open_with(stream, &connect_packet(client_id, 0))
    }

    pub fn open_with(stream: S, connect: &[u8]) -> Client<S> {
        let mut client = Client { stream };
        client.send(connect);
        let (first, body) = client.packet();
        assert_eq!((first, body[1]), (0x20, 0), "CONNACK");
        client
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
        self.stream.flush().unwrap();
    }

    pub fn packet(&mut self) -> (u8, Vec<u8>) {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).unwrap();
        let first = byte[0];
        let (mut size, mut shift) = (0usize, 0);
        loop {
            self.stream.read_exact(&mut byte).unwrap();
            size |= usize::from(byte[0] & 0x7F) << shift;
            shift += 7;
            if byte[0] < 0x80 {
                break;
            }
        }
        let mut body = vec![0; size];
        self.stream.read_exact(&mut body).unwrap();
        (first, body)
    }

    pub fn subscribe(&mut self, filter: &str) {
        self.send(&subscribe_packet(filter));
        assert_eq!(self.packet().0, 0x90, "SUBACK");
    }

    /// Publishes at QoS 1; the acknowledgement is here when this returns.
    pub fn publish(&mut self, topic: &str, payload: &[u8]) {
        self.send(&publish_packet(topic, payload, 7));
        assert_eq!(self.packet().0, 0x40, "PUBACK");
    }

    /// The payload of the next packet, a PUBLISH at QoS 1 without properties but an alias, which is
    /// acknowledged.
    pub fn message(&mut self) -> Vec<u8> {
        let (first, body) = self.packet();
        assert_eq!(first & 0xF6, 0x32, "PUBLISH at QoS 1");
        let topic_size = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let id = &body[2 + topic_size..][..2];
        self.send(&packet(0x40, id));
        let properties_size = usize::from(body[4 + topic_size]);
        body[5 + topic_size + properties_size..].to_vec()
    }

    /// Everything sent before was handled when this returns.
    pub fn ping(&mut self) {
        self.send(b"\xC0\0");
        assert_eq!(self.packet(), (0xD0, Vec::new()), "PINGRESP");
    }

    /// The broker has closed the connection: nothing but `last` came.
    pub fn expect_end(&mut self, last: &[u8]) {
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = self.stream.read_to_end(&mut rest);
        assert_eq!(rest, last);
    }
}

/// Both ways through a publisher and a subscriber, with payloads of several sizes.
pub fn exchange<P: Read + Write, S: Read + Write>(
    publisher: &mut Client<P>,
    subscriber: &mut Client<S>,
    topic: &str,
) {
    subscriber.subscribe(topic);
    for size in [0, 1, 100, 5000, 16_384, 70_000, 500_000] {
        let payload: Vec<u8> = (0..size).map(|i: u32| (i * 7 % 251) as u8).collect();
        publisher.publish(topic, &payload);
        assert!(subscriber.message() == payload, "{size} bytes");
    }
    subscriber.ping();
}
