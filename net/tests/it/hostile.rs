//! Many clients against real shards on real sockets, each shard on a thread of its own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ringmq::{Broker, BrokerConfig};

use crate::mqtt::{self, Connect};

fn start(shards: usize) -> Broker {
    Broker::start(&BrokerConfig {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()],
        shards,
        ..BrokerConfig::default()
    })
    .unwrap()
}

/// Writes the CONNECT of MQTT 3.1.1 with a clean session.
fn begin(address: SocketAddr, id: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    let timeout = Some(Duration::from_secs(20));
    stream.set_read_timeout(timeout).unwrap();
    stream.set_nodelay(true).unwrap();
    // A broker that closes at once is no reason to stop here.
    let _ = stream.write_all(&Connect::old(id).packet());
    stream
}

fn client(address: SocketAddr, id: &str) -> TcpStream {
    let mut stream = begin(address, id);
    assert_eq!(packet(&mut stream), Some(vec![0x20, 2, 0, 0]));
    stream
}

/// The next packet; they are all short here. `None`: the connection has ended.
fn packet(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 2];
    stream.read_exact(&mut bytes).ok()?;
    assert!(bytes[1] < 128, "{bytes:?}");
    let size = usize::from(bytes[1]);
    bytes.resize(2 + size, 0);
    stream.read_exact(&mut bytes[2..]).ok()?;
    Some(bytes)
}

fn publish(topic: &str, payload: &[u8], is_retained: bool) -> Vec<u8> {
    mqtt::old_publish_packet(topic, payload, is_retained)
}

fn subscribe(filter: &str) -> Vec<u8> {
    mqtt::old_subscribe_packet(filter, 0)
}

// (threat 47) (threat 60): whoever connects last has the connection, and the broker lives on.
#[test]
fn one_identifier_from_many_threads_is_one_client() {
    const THREADS: u64 = 6;
    const CONNECTS: u64 = 150;
    let broker = start(3);
    let address = broker.local_addresses()[0];
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut publisher = client(address, "publisher");
            while !is_over.load(Ordering::Relaxed) {
                publisher.write_all(&publish("t", b"x", false)).unwrap();
                std::thread::sleep(Duration::from_micros(100));
            }
        });
        let storms: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    let mut accepted = 0;
                    for _ in 0..CONNECTS {
                        let mut stream = begin(address, "victim");
                        let _ =
                            stream.write_all(&subscribe(["t", "$share/g/t"][thread as usize % 2]));
                        // Another thread may have taken the session before CONNACK was read.
                        accepted += u64::from(packet(&mut stream).is_some());
                        if thread % 3 > 0 {
                            let _ = packet(&mut stream);
                        }
                    }
                    accepted
                })
            })
            .collect();
        let accepted: u64 = storms.into_iter().map(|storm| storm.join().unwrap()).sum();
        assert!(accepted > 0);
        let mut last = client(address, "victim");
        last.write_all(&subscribe("t")).unwrap();
        while packet(&mut last).unwrap()[0] != 0x90 {}
        assert_eq!(packet(&mut last), Some(publish("t", b"x", false)));
        is_over.store(true, Ordering::Relaxed);
    });
    broker.shutdown();
    broker.join();
}

// (threat 49): what is read under a topic was written under it.
#[test]
fn retained_topics_never_show_the_payload_of_another() {
    const TOPICS: u64 = 40;
    let broker = start(2);
    let address = broker.local_addresses()[0];
    let is_over = AtomicBool::new(false);
    let seen = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for writer in 0..3 {
            let is_over = &is_over;
            scope.spawn(move || {
                let mut stream = client(address, &format!("writer-{writer}"));
                let mut round = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let topic = format!("r/{}", (round * 7 + writer) % TOPICS);
                    let payload = format!("{topic}={round}");
                    // A value is deleted now and then.
                    let payload = if round % 11 == 0 { "" } else { &payload };
                    stream
                        .write_all(&publish(&topic, payload.as_bytes(), true))
                        .unwrap();
                    if round % 50 == 0 {
                        stream.write_all(&[0xC0, 0]).unwrap();
                        assert_eq!(packet(&mut stream), Some(vec![0xD0, 0]));
                    }
                    round += 1;
                }
            });
        }
        let readers: Vec<_> = (0..3)
            .map(|reader| {
                let seen = &seen;
                scope.spawn(move || {
                    for round in 0..40 {
                        let mut stream = client(address, &format!("reader-{reader}-{round}"));
                        stream.write_all(&subscribe("r/+")).unwrap();
                        for _ in 0..60 {
                            let bytes = packet(&mut stream).unwrap();
                            if bytes[0] >> 4 == 3 {
                                check_value(&bytes);
                                seen.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                })
            })
            .collect();
        readers
            .into_iter()
            .for_each(|reader| reader.join().unwrap());
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(seen.into_inner() > 1000);
    broker.shutdown();
    broker.join();
}

fn check_value(publish: &[u8]) {
    let (topic, payload) = publish[4..].split_at(usize::from(publish[3]));
    let named = payload.split(|&byte| byte == b'=').next().unwrap();
    assert!(payload.is_empty() || named == topic, "{publish:?}");
}
