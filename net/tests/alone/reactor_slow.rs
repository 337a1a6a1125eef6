//! Slow subscribers on real sockets: they cost a bounded amount of memory, and nobody else
//! anything.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ringmq::{Broker, BrokerConfig};

use crate::alone;

const PAYLOAD_SIZE: usize = 4096;
/// PUBLISH: type, two bytes of length, topic `t`, payload.
const PACKET_SIZE: usize = 1 + 2 + 3 + PAYLOAD_SIZE;
const BATCH: usize = 50;
/// 80 MiB in all: many times what sockets and queues hold.
const BATCHES: usize = 400;

fn start() -> Broker {
    Broker::start(&BrokerConfig {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()],
        shards: 2,
        sys_interval: Duration::from_millis(50),
        ..BrokerConfig::default()
    })
    .unwrap()
}

/// An MQTT 3.1.1 client with a clean session.
fn client(broker: &Broker, id: &str) -> TcpStream {
    let mut stream = TcpStream::connect(broker.local_addresses()[0]).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut connect = vec![0x10, 12 + id.len() as u8, 0, 4];
    connect.extend(b"MQTT\x04\x02\x00\x00\x00");
    connect.push(id.len() as u8);
    connect.extend(id.as_bytes());
    stream.write_all(&connect).unwrap();
    expect(&mut stream, &[0x20, 2, 0, 0]);
    stream
}

fn subscribe(stream: &mut TcpStream, filter: &str, qos: u8) {
    let mut bytes = vec![0x82, 5 + filter.len() as u8, 0, 1, 0, filter.len() as u8];
    bytes.extend(filter.as_bytes());
    bytes.push(qos);
    stream.write_all(&bytes).unwrap();
    expect(stream, &[0x90, 3, 0, 1, qos]);
}

fn expect(stream: &mut TcpStream, expected: &[u8]) {
    let mut bytes = vec![0; expected.len()];
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes, expected);
}

fn publish() -> Vec<u8> {
    let size = 3 + PAYLOAD_SIZE;
    let mut packet = vec![
        0x30,
        (size % 128) as u8 | 0x80,
        (size / 128) as u8,
        0,
        1,
        b't',
    ];
    packet.resize(PACKET_SIZE, b'x');
    packet
}

/// The first value of a topic of `$SYS` above zero.
fn sys_count(broker: &Broker, topic: &str) -> u64 {
    let mut stream = client(broker, "sys");
    let mut bytes = vec![0x82, 5 + topic.len() as u8, 0, 1, 0, topic.len() as u8];
    bytes.extend(topic.as_bytes());
    bytes.push(0);
    stream.write_all(&bytes).unwrap();
    expect(&mut stream, &[0x90, 3, 0, 1, 0]);
    loop {
        let mut head = [0; 2];
        stream.read_exact(&mut head).unwrap();
        let mut body = vec![0; usize::from(head[1])];
        stream.read_exact(&mut body).unwrap();
        let text = String::from_utf8(body[2 + topic.len()..].to_vec()).unwrap();
        match text.parse().unwrap() {
            0 => {}
            count => return count,
        }
    }
}

/// Memory of the process that is its own, in bytes.
fn private_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:"));
    let kilobytes = line.unwrap().trim().strip_suffix(" kB").unwrap();
    kilobytes.parse::<usize>().unwrap() * 1024
}

#[test]
fn stalled_subscribers_cost_bounded_memory_and_slow_nobody_down() {
    const STALLED: usize = 8;
    let _process = alone();
    let broker = start();
    let stalled: Vec<TcpStream> = (0..STALLED)
        .map(|n| {
            let mut stream = client(&broker, &format!("stalled-{n}"));
            subscribe(&mut stream, "t", n as u8 % 2);
            stream
        })
        .collect();
    let mut good: Vec<TcpStream> = (0..4)
        .map(|n| {
            let mut stream = client(&broker, &format!("good-{n}"));
            subscribe(&mut stream, "t", 0);
            stream
        })
        .collect();
    let mut publisher = client(&broker, "publisher");
    let batch = publish().repeat(BATCH);
    let before = private_bytes();
    // Each batch is taken before the next, so that nobody is slow but those that are stalled.
    let mut taken = vec![0; batch.len()];
    for _ in 0..BATCHES {
        publisher.write_all(&batch).unwrap();
        for stream in &mut good {
            stream.read_exact(&mut taken).unwrap();
            assert!(taken == batch, "all of it, in order");
        }
    }
    let grown = private_bytes().saturating_sub(before);
    assert!(
        grown < 64 << 20,
        "{grown} bytes for {STALLED} that take nothing"
    );
    for counts in broker.counts() {
        assert_eq!(
            (counts.stalls, counts.reads_paused),
            (0, 0),
            "nobody was slowed down"
        );
    }
    let dropped = sys_count(&broker, "$SYS/broker/publish/messages/dropped");
    assert!(
        dropped as usize > STALLED * BATCHES * BATCH / 2,
        "{dropped}"
    );
    drop(stalled);
    broker.shutdown();
    broker.join();
}
