//! The few packets of MQTT that these tests need, and a client of them over any stream.

use std::io::{Read, Write};

/// A CONNECT with a clean session.
pub struct Connect<'a> {
    /// 4 is 3.1.1.
    pub version: u8,
    /// Empty: the server chooses one.
    pub client_id: &'a str,
    pub keep_alive_s: u16,
    pub credentials: Option<(&'a str, &'a str)>,
    /// In MQTT 5.0; 0 states none.
    pub packet_size_max: u32,
}

impl<'a> Connect<'a> {
    /// Of MQTT 3.1.1, without keep alive.
    pub fn old(client_id: &'a str) -> Connect<'a> {
        Connect {
            version: 4,
            client_id,
            keep_alive_s: 0,
            credentials: None,
            packet_size_max: 0,
        }
    }

    pub fn packet(&self) -> Vec<u8> {
        let flags = if self.credentials.is_some() { 0xC2 } else { 2 };
        let mut body = vec![];
        put(&mut body, "MQTT");
        body.extend([self.version, flags]);
        body.extend(self.keep_alive_s.to_be_bytes());
        match (self.version, self.packet_size_max) {
            (5, 0) => body.push(0),
            (5, size) => {
                body.extend([5, 0x27]);
                body.extend(size.to_be_bytes());
            }
            _ => {}
        }
        put(&mut body, self.client_id);
        if let Some((user, password)) = self.credentials {
            put(&mut body, user);
            put(&mut body, password);
        }
        packet(0x10, &body)
    }
}

pub fn put(body: &mut Vec<u8>, text: &str) {
    body.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
    body.extend(text.as_bytes());
}

/// CONNECT of MQTT 5.0 with a clean start; `packet_size_max` 0 states none.
pub fn connect_packet(client_id: &str, packet_size_max: u32) -> Vec<u8> {
    let connect = Connect {
        version: 5,
        keep_alive_s: 60,
        packet_size_max,
        ..Connect::old(client_id)
    };
    connect.packet()
}

pub fn publish_packet(topic: &str, payload: &[u8], id: u16) -> Vec<u8> {
    let mut body = vec![];
    put(&mut body, topic);
    body.extend(id.to_be_bytes());
    body.push(0);
    body.extend(payload);
    packet(0x32, &body)
}

/// PUBLISH at QoS 0 of MQTT 3.1.1.
pub fn old_publish_packet(topic: &str, payload: &[u8], is_retained: bool) -> Vec<u8> {
    let mut body = vec![];
    put(&mut body, topic);
    body.extend(payload);
    packet(0x30 | u8::from(is_retained), &body)
}

/// SUBSCRIBE of MQTT 3.1.1 with identifier 1.
pub fn old_subscribe_packet(filter: &str, qos: u8) -> Vec<u8> {
    let mut body = vec![0, 1];
    put(&mut body, filter);
    body.push(qos);
    packet(0x82, &body)
}

pub fn subscribe_packet(filter: &str) -> Vec<u8> {
    let mut body = b"\0\x01\0".to_vec();
    put(&mut body, filter);
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
