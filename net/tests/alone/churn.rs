//! Clients that come and go leave no memory behind.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ringmq::{Broker, BrokerConfig};

use crate::alone;

const ROUNDS: usize = 6;
const CLIENTS_PER_ROUND: usize = 1000;
/// What the allocator and the kernel may do between two rounds without any leak.
const NOISE_BYTES: usize = 2 * 1024 * 1024;

/// Bytes of this process that are in memory.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// A client that leaves everything behind that its version lets it: a session that ends with the
/// connection, a will, a retained message that it deletes again, messages in flight, half a packet.
fn come_and_go(address: SocketAddr, index: usize) {
    let mut stream = TcpStream::connect(address).unwrap();
    let timeout = Some(Duration::from_secs(20));
    stream.set_read_timeout(timeout).unwrap();
    let id = format!("churn-{index:05}");
    let mut bytes = vec![0x10, 12 + 3 + 4 + 11, 0, 4];
    // Clean session, and a will of QoS 1.
    bytes.extend_from_slice(b"MQTT\x04\x0E\x00\x00\x00\x0B");
    bytes.extend_from_slice(id.as_bytes());
    bytes.extend_from_slice(b"\x00\x01w\x00\x02on");
    bytes.extend_from_slice(&[0x82, 6, 0, 1, 0, 1, b'#', 2]);
    // A topic of its own, retained with 1000 bytes and deleted, and QoS 2 that is never released.
    let topic = format!("churn/{index:05}");
    for (first, payload) in [(0x31, vec![b'x'; 1000]), (0x31, Vec::new())] {
        let size = 2 + topic.len() + payload.len();
        bytes.push(first);
        if size > 127 {
            bytes.extend_from_slice(&[(size % 128) as u8 | 0x80, (size / 128) as u8]);
        } else {
            bytes.push(size as u8);
        }
        bytes.extend_from_slice(&[0, topic.len() as u8]);
        bytes.extend_from_slice(topic.as_bytes());
        bytes.extend_from_slice(&payload);
    }
    bytes.extend_from_slice(&[0x34, 6, 0, 1, b'q', 0, 9, b'x', 0xC0, 0, 0x30, 100, 0]);
    stream.write_all(&bytes).unwrap();
    // PINGRESP is the answer to everything before it, but for what is still on its way to us.
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !seen.windows(2).any(|pair| pair == [0xD0, 0]) {
        let size = stream.read(&mut buffer).unwrap();
        assert!(size > 0, "the broker closed the connection: {seen:?}");
        seen.extend_from_slice(&buffer[..size]);
    }
}

// (threat 36) (threat 13)
#[test]
fn clients_that_come_and_go_leave_no_memory_behind() {
    let _process = alone();
    let broker = Broker::start(&BrokerConfig {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()],
        shards: 2,
        ..BrokerConfig::default()
    })
    .unwrap();
    let address = broker.local_addresses()[0];
    let mut after = Vec::new();
    for round in 0..ROUNDS {
        for index in 0..CLIENTS_PER_ROUND {
            come_and_go(address, round * CLIENTS_PER_ROUND + index);
        }
        after.push(resident_bytes());
    }
    // The first rounds fill what is kept for use again.
    let (warm, last) = (after[1], after[ROUNDS - 1]);
    assert!(last <= warm + NOISE_BYTES, "{after:?}");
    broker.shutdown();
    broker.join();
}
