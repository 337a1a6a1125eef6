//! Bounds of the whole broker on real sockets: connections in total and per address, rates.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use ringmq::{Admission, Broker, BrokerConfig};
use ringmq_core::limits::Limits;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use crate::mqtt::Connect;

fn start(admission: Admission, limits: Limits) -> Broker {
    Broker::start(&BrokerConfig {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()],
        shards: 2,
        admission,
        limits,
        ..BrokerConfig::default()
    })
    .unwrap()
}

fn address(broker: &Broker) -> SocketAddr {
    broker.local_addresses()[0]
}

/// A connection from 127.0.0.`host`.
fn connect_from(broker: &Broker, host: u8) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::from(([127, 0, 0, host], 0))).unwrap();
    connect(&socket, &address(broker)).unwrap();
    let stream = TcpStream::from(socket);
    let timeout = Some(Duration::from_secs(10));
    stream.set_read_timeout(timeout).unwrap();
    stream
}

/// A CONNECT of MQTT 5.0 with clean start and without keep alive.
fn connect_packet(id: &str) -> Vec<u8> {
    let connect = Connect {
        version: 5,
        ..Connect::old(id)
    };
    connect.packet()
}

/// What the broker answers to a CONNECT: the reason code; `None` if it closes without one.
fn answer(stream: &mut TcpStream, id: &str) -> Option<u8> {
    let gone = |kind| {
        let gone = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
        assert!(gone.contains(&kind), "{kind:?}");
    };
    if let Err(error) = stream.write_all(&connect_packet(id)) {
        gone(error.kind());
        return None;
    }
    let mut head = [0; 2];
    match stream.read(&mut head[..1]) {
        Ok(0) => return None,
        Ok(_) => {}
        Err(error) => {
            gone(error.kind());
            return None;
        }
    }
    stream.read_exact(&mut head[1..]).unwrap();
    assert_eq!(head[0], 0x20);
    let mut body = vec![0; usize::from(head[1])];
    stream.read_exact(&mut body).unwrap();
    Some(body[1])
}

fn ping(stream: &mut TcpStream) {
    stream.write_all(&[0xC0, 0]).unwrap();
    let mut pong = [0; 2];
    stream.read_exact(&mut pong).unwrap();
    assert_eq!(pong, [0xD0, 0]);
}

fn stop(broker: Broker) {
    broker.shutdown();
    broker.join();
}

/// As many clients as there is room for, whatever the kernel does with the order.
fn fill(broker: &Broker, count: usize) -> Vec<TcpStream> {
    let streams = (0..count).map(|n| {
        let mut stream = connect_from(broker, 1);
        assert_eq!(answer(&mut stream, &format!("c{n}")), Some(0));
        stream
    });
    streams.collect()
}

// (threat 40)
#[test]
fn a_thousand_clients_too_many_are_refused_and_those_that_were_there_stay() {
    const ROOM: usize = 50;
    let admission = Admission {
        connections_max: ROOM,
        ..Admission::default()
    };
    let broker = start(admission, Limits::default());
    let mut clients = fill(&broker, ROOM);
    let mut told = 0;
    for n in 0..1000 {
        let mut stream = connect_from(&broker, 1);
        match answer(&mut stream, &format!("late{n}")) {
            // Quota exceeded.
            Some(0x97) => told += 1,
            Some(code) => panic!("{code:#x}"),
            None => {}
        }
    }
    assert!(told > 500, "{told} of 1,000 were told why");
    clients.iter_mut().for_each(ping);
    // Silent ones take the places of those that are told, not of those that may stay.
    let silent: Vec<_> = (0..200).map(|_| connect_from(&broker, 1)).collect();
    clients.iter_mut().for_each(ping);
    drop(clients.pop());
    let begun = Instant::now();
    while answer(&mut connect_from(&broker, 1), "next") != Some(0) {
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
    drop(silent);
    stop(broker);
}

#[test]
fn a_full_broker_names_another_one() {
    let admission = Admission {
        connections_max: 1,
        ..Admission::default()
    };
    let limits = Limits {
        server_reference: "b:1883".into(),
        ..Limits::default()
    };
    let broker = start(admission, limits);
    let _client = fill(&broker, 1);
    assert_eq!(answer(&mut connect_from(&broker, 1), "x"), Some(0x9C));
    stop(broker);
}

// (threat 28): idle clients without a keep alive, all from one address.
#[test]
fn one_address_cannot_take_every_place() {
    let admission = Admission {
        connections_max: 1000,
        connections_per_address_max: 100,
        ..Admission::default()
    };
    let broker = start(admission, Limits::default());
    let mut hogs = Vec::new();
    for n in 0..1200 {
        let mut stream = connect_from(&broker, 1);
        match answer(&mut stream, &format!("hog{n}")) {
            Some(0) => hogs.push(stream),
            Some(0x97) | None => {}
            Some(code) => panic!("{code:#x}"),
        }
    }
    assert_eq!(hogs.len(), 100);
    let mut honest = connect_from(&broker, 2);
    assert_eq!(answer(&mut honest, "honest"), Some(0));
    ping(&mut honest);
    // A place of the address comes back with its connection.
    drop(hogs.pop());
    let begun = Instant::now();
    while answer(&mut connect_from(&broker, 1), "hog") != Some(0) {
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
    stop(broker);
}

#[test]
fn an_address_that_connects_too_often_is_told_so_and_others_are_not() {
    let admission = Admission {
        connect_rate_per_address_max: 5,
        ..Admission::default()
    };
    let broker = start(admission, Limits::default());
    let answers: Vec<_> = (0..40)
        .map(|n| answer(&mut connect_from(&broker, 1), &format!("c{n}")))
        .collect();
    // Two shards: five of each at once, and a few with the time that this takes.
    let admitted = answers.iter().filter(|code| **code == Some(0)).count();
    assert!((5..35).contains(&admitted), "{admitted}");
    let refused = answers.iter().filter(|code| **code == Some(0x9F)).count();
    assert_eq!(admitted + refused, 40);
    assert_eq!(answer(&mut connect_from(&broker, 3), "other"), Some(0));
    stop(broker);
}

#[test]
fn clients_of_a_storm_wait_and_all_are_served() {
    let admission = Admission {
        connect_rate_max: 50,
        ..Admission::default()
    };
    let broker = start(admission, Limits::default());
    let mut streams: Vec<_> = (0..200).map(|_| connect_from(&broker, 1)).collect();
    for (n, stream) in streams.iter_mut().enumerate() {
        assert_eq!(answer(stream, &format!("c{n}")), Some(0));
    }
    let throttled: u64 = broker.counts().iter().map(|c| c.accepts_throttled).sum();
    assert!(throttled > 0);
    stop(broker);
}

#[test]
fn a_client_above_its_rate_is_read_less_and_loses_nothing() {
    let limits = Limits {
        message_rate_max: 1000,
        ..Limits::default()
    };
    let broker = start(Admission::default(), limits);
    let mut canary = connect_from(&broker, 1);
    assert_eq!(answer(&mut canary, "canary"), Some(0));
    let mut client = connect_from(&broker, 1);
    assert_eq!(answer(&mut client, "fast"), Some(0));
    // QoS 1, so that each is answered: a burst of 1,000, and 500 more.
    let packet = [0x32, 6, 0, 1, b't', 0, 1, 0];
    client.write_all(&packet.repeat(1500)).unwrap();
    ping(&mut canary);
    // PUBACK with "no matching subscribers".
    let mut answers = vec![0; 5 * 1500];
    client.read_exact(&mut answers).unwrap();
    assert!(answers.chunks(5).all(|ack| ack == [0x40, 3, 0, 1, 0x10]));
    let paused: u64 = broker.counts().iter().map(|c| c.reads_paused).sum();
    assert!(paused > 0);
    stop(broker);
}
