//! The real shards on real sockets: one small conversation over every pair of shards. What the
//! packets mean is tested in the core.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use ringmq::{Broker, BrokerConfig, Endpoint, ListenProblem, StartError};

use crate::mqtt::Connect;

fn start(shards: usize) -> Broker {
    Broker::start(&BrokerConfig {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()],
        shards,
        ..BrokerConfig::default()
    })
    .unwrap()
}

/// An MQTT 3.1.1 client with a clean session.
fn client(broker: &Broker, id: &str) -> TcpStream {
    let mut stream = TcpStream::connect(broker.local_addresses()[0]).unwrap();
    let timeout = Some(Duration::from_secs(10));
    stream.set_read_timeout(timeout).unwrap();
    let connect = Connect::old(id).packet();
    // In two pieces, so that the accepting shard receives twice.
    stream.write_all(&connect[..5]).unwrap();
    std::thread::sleep(Duration::from_millis(2));
    stream.write_all(&connect[5..]).unwrap();
    expect(&mut stream, &[0x20, 2, 0, 0]);
    stream
}

fn expect(stream: &mut TcpStream, expected: &[u8]) {
    let mut bytes = vec![0; expected.len()];
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes, expected);
}

#[test]
fn a_message_reaches_subscribers_of_all_shards_and_a_shutdown_says_goodbye() {
    let broker = start(3);
    let mut clients: Vec<_> = (0..12)
        .map(|i| client(&broker, &format!("client-{i}")))
        .collect();
    for stream in &mut clients {
        stream.write_all(&[0x82, 6, 0, 1, 0, 1, b't', 0]).unwrap();
        expect(stream, &[0x90, 3, 0, 1, 0]);
    }
    for sender in 0..clients.len() {
        let publish = [0x30, 4, 0, 1, b't', sender as u8];
        clients[sender].write_all(&publish).unwrap();
        for stream in &mut clients {
            expect(stream, &publish);
        }
    }
    let moved: u64 = broker.counts().iter().map(|c| c.moved).sum();
    assert!(moved > 0, "12 ids of random homes, and none elsewhere");
    let begun = Instant::now();
    broker.shutdown();
    for stream in &mut clients {
        assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0);
    }
    drop(clients);
    broker.join();
    assert!(begun.elapsed() < Duration::from_secs(5));
}

// THREATS 34: what a client is owed stays bounded, and nobody else notices.
#[test]
fn a_client_that_does_not_read_its_acknowledgements_is_not_read_until_it_does() {
    const MESSAGES_MAX: usize = 40_000_000;
    let broker = start(2);
    let mut canary = client(&broker, "canary");
    let mut hog = client(&broker, "hog");
    hog.set_write_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    // PUBLISH of QoS 1 without a payload: seven bytes, and four of acknowledgement.
    let packet = [0x32, 5, 0, 1, b'h', 0, 1];
    let batch = packet.repeat(10_000);
    let mut written = 0;
    let mut pending: &[u8] = &batch;
    while written < MESSAGES_MAX * packet.len() {
        match hog.write(pending) {
            Ok(size) => {
                written += size;
                pending = &pending[size..];
                if pending.is_empty() {
                    pending = &batch;
                }
            }
            Err(_) => break, // The socket has taken nothing for half a second.
        }
    }
    assert!(
        written < MESSAGES_MAX * packet.len(),
        "the broker went on reading"
    );
    canary.write_all(&[0xC0, 0]).unwrap();
    expect(&mut canary, &[0xD0, 0]);
    let paused: u64 = broker.counts().iter().map(|c| c.reads_paused).sum();
    assert!(paused > 0);

    // The rest of the last packet, then every acknowledgement that is owed.
    let mut reader = hog.try_clone().unwrap();
    let rest = pending[..pending.len() % packet.len()].to_vec();
    let owed = (written + rest.len()) / packet.len() * 4;
    let writer = std::thread::spawn(move || {
        hog.set_write_timeout(None).unwrap();
        hog.write_all(&rest).unwrap();
        hog
    });
    let mut acks = vec![0; owed];
    reader.read_exact(&mut acks).unwrap();
    assert!(acks.chunks_exact(4).all(|ack| ack == [0x40, 2, 0, 1]));
    drop(writer.join().unwrap());
    broker.shutdown();
    drop((reader, canary));
    broker.join();
}

#[test]
fn a_refused_connect_is_answered_before_the_close() {
    let broker = start(2);
    let mut stream = TcpStream::connect(broker.local_addresses()[0]).unwrap();
    // Protocol level 9 [MQTT-3.1.2-2].
    let connect = [0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 9, 2, 0, 0, 0, 0];
    stream.write_all(&connect).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer.first(), Some(&0x20), "{answer:?}");
    drop(stream);
    broker.shutdown();
    broker.join();
}

#[test]
fn a_broker_that_cannot_start_says_why_and_leaves_nothing_behind() {
    let broker = start(2);
    let taken = broker.local_addresses()[0];
    let with = |listen: &str, shards, cores: &[usize]| {
        let config = BrokerConfig {
            listen: vec![listen.parse::<SocketAddr>().unwrap().into()],
            shards,
            cores: cores.to_vec(),
            ..BrokerConfig::default()
        };
        Broker::start(&config).unwrap_err()
    };
    let in_use = StartError::Listen {
        endpoint: Endpoint::Tcp(taken),
        problem: ListenProblem::InUse,
    };
    assert_eq!(with(&taken.to_string(), 2, &[]), in_use);
    let address = "192.0.2.1:1883".parse().unwrap();
    let not_local = StartError::Listen {
        endpoint: Endpoint::Tcp(address),
        problem: ListenProblem::NotLocal,
    };
    assert_eq!(with("192.0.2.1:1883", 1, &[]), not_local);
    for (shards, expected) in [(0, 0), (65, 65)] {
        let error = with("127.0.0.1:0", shards, &[]);
        assert_eq!(error, StartError::ShardCount { wanted: expected });
    }
    assert_eq!(
        with("127.0.0.1:0", 1, &[1023]),
        StartError::CoreForbidden { cpu: 1023 }
    );
    assert_eq!(
        with("127.0.0.1:0", 2, &[0]),
        StartError::CoreCount {
            shards: 2,
            cores: 1
        }
    );
    broker.shutdown();
    broker.join();
}
