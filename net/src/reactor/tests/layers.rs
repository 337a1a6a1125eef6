//! Connections with layers below MQTT.

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;
use crate::transport::{Endpoint, ListenerConfig, Origins, TlsFiles};

fn listener() -> ListenerConfig {
    ListenerConfig::plain(Endpoint::Tcp(([127, 0, 0, 1], 0).into()))
}

fn websockets() -> Bench {
    let config = ListenerConfig {
        websocket: Some(Origins::default()),
        ..listener()
    };
    Bench::with_stack(many(), Stack::load(&config).unwrap())
}

fn many() -> Admission {
    Admission {
        connections_max: 100,
        ..Admission::default()
    }
}

/// A listener with TLS, and the first flights of as many clients.
fn tls(count: usize) -> (Stack, Vec<Vec<u8>>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let name = format!("ringmq-layers-{}-{count}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let files = TlsFiles {
        certificates: vec![folder.join("certificate.pem")],
        keys: vec![folder.join("key.pem")],
        ..TlsFiles::default()
    };
    std::fs::write(&files.certificates[0], made.cert.pem()).unwrap();
    std::fs::write(&files.keys[0], made.signing_key.serialize_pem()).unwrap();
    let config = ListenerConfig {
        tls: Some(files),
        ..listener()
    };
    let stack = Stack::load(&config).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = Arc::new(client);
    let hello = || {
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConnection::new(Arc::clone(&client), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    };
    (stack, (0..count).map(|_| hello()).collect())
}

/// Accepts a connection, which is not home.
fn accept(bench: &mut Bench) -> ConnId {
    let before = bench.reactor.slots.live();
    bench.accepted(Ok(socket()), true);
    bench.turn();
    bench.events();
    let mut live = bench.reactor.slots.live().into_iter();
    live.find(|conn| !before.contains(conn)).unwrap()
}

fn receive(bench: &mut Bench, conn: ConnId, bytes: &[u8]) {
    let ring = &mut bench.reactor.ring;
    let lease = Lease::new(ring.chunks.len() as u16, bytes.len() as u32);
    ring.chunks.push(bytes.to_vec());
    ring.lent += 1;
    bench.input(conn, Input::Chunk(lease), false);
}

/// The oldest flight is sent whole.
fn land(bench: &mut Bench) -> Vec<Op> {
    let flight = &bench.reactor.ring.flights[0].1;
    let size: usize = flight.pieces(usize::MAX, usize::MAX).map(<[u8]>::len).sum();
    bench.sent(Ok(size as u32)).turn()
}

fn sends(ops: &[Op]) -> Vec<u32> {
    let sent = ops.iter().filter_map(|op| match op {
        Op::Send(index, _) => Some(*index),
        _ => None,
    });
    sent.collect()
}

fn receives(ops: &[Op]) -> Vec<u32> {
    let received = ops.iter().filter_map(|op| match op {
        Op::Receive(index, _) => Some(*index),
        _ => None,
    });
    received.collect()
}

// Fault T13: a storm of handshakes takes its share of each turn and no more. Those that wait hold
// no receive buffer, and are not read from.
#[test]
fn handshakes_are_spread_over_turns_and_delay_nobody() {
    let (stack, hellos) = tls(10);
    let mut bench = Bench::with_stack(many(), stack);
    let conns: Vec<_> = hellos.iter().map(|_| accept(&mut bench)).collect();
    for (conn, hello) in conns.iter().zip(&hellos) {
        receive(&mut bench, *conn, hello);
    }
    let mut answered = Vec::new();
    for expected in [4, 4, 2, 0] {
        bench.reactor.core.deadlines.of_clock = Some(bench.now); // Something that others wait for.
        let ops = bench.turn();
        assert!(bench.reactor.ring.lent == 0, "no buffer is held");
        assert_eq!(bench.events(), ["deadline"]);
        assert_eq!(sends(&ops).len(), expected, "{ops:?}");
        let mut read = receives(&ops);
        read.sort();
        assert_eq!(read, sends(&ops), "the others are not read from");
        answered.extend(sends(&ops));
    }
    let order: Vec<_> = conns.iter().map(|conn| conn.index).collect();
    assert_eq!(answered, order, "in the order of their coming");
}

#[test]
fn pending_output_of_a_layer_is_sent_before_the_connection_leaves() {
    let mut bench = websockets();
    let conn = accept(&mut bench);
    receive(&mut bench, conn, REQUEST);
    let ops = bench.turn();
    let [Op::Send(0, size), Op::Receive(0, Receive::Once)] = ops[..] else {
        panic!("{ops:?}")
    };
    // CONNECT comes before the answer is sent, and shows that the client lives elsewhere.
    receive(&mut bench, conn, b"\x82\x87\0\0\0\0CONNECT");
    bench.reactor.outbox.handovers.push(Handover {
        conn,
        target: ShardId::new(1),
        bytes: b"CONNECT".to_vec(),
    });
    bench.turn();
    assert_eq!(bench.live_count(), 1, "the answer is on its way");
    bench.sent(Ok(10));
    assert_eq!(bench.turn(), [Op::Send(0, size - 10)], "the rest of it");
    bench.sent(Ok(size as u32 - 10)).turn();
    assert_eq!(bench.live_count(), 0);
    let Some(Mail::Connection(moved)) = bench.reactor.shared.inboxes[1].take() else {
        panic!("it moved")
    };
    assert_eq!(moved.bytes, b"CONNECT");
    assert!(moved.transport.is_some_and(|layers| layers.is_open()));
}

#[test]
fn a_connection_that_moves_in_goes_on_with_its_layers() {
    let mut from = websockets();
    let conn = accept(&mut from);
    receive(&mut from, conn, REQUEST);
    from.turn();
    // A ping in the last chunk is answered at the new home, and half a frame goes on there.
    receive(&mut from, conn, b"\x89\x80\0\0\0\0\x82\x84\0\0\0\0ab");
    from.reactor.outbox.handovers.push(Handover {
        conn,
        target: ShardId::new(0),
        bytes: b"CONNECT".to_vec(),
    });
    from.turn();
    land(&mut from);
    let moved = match from.reactor.inbox().take() {
        Some(Mail::Connection(moved)) => moved,
        other => panic!("{other:?}"),
    };
    let mut bench = websockets();
    bench.reactor.core.home = true;
    let from = ShardId::new(1);
    bench.reactor.inbox().send(from, moved).unwrap();
    let ops = bench.turn();
    assert!(ops.contains(&Op::Send(0, 2)), "the pong: {ops:?}");
    let conn = bench.reactor.slots.live()[0];
    receive(&mut bench, conn, b"cd");
    bench.turn();
    let events = bench.events();
    assert_eq!(events.last().map(String::as_str), Some("received 0 cd"));
}

#[test]
fn the_core_hears_of_its_own_bytes_when_all_of_their_encoding_was_sent() {
    let mut bench = websockets();
    bench.reactor.core.home = true;
    let conn = accept(&mut bench);
    receive(&mut bench, conn, REQUEST);
    bench.turn();
    land(&mut bench);
    bench.events();
    bench.say(conn, "hello");
    assert_eq!(bench.turn(), [Op::Send(0, 7)]);
    bench.sent(Ok(4)).turn();
    assert!(bench.events().is_empty());
    bench.sent(Ok(3)).turn();
    assert_eq!(bench.events(), ["sent 0 5"]);
    assert_eq!(bench.reactor.core.recycled, 1);
}

#[test]
fn a_flushed_close_says_so_in_every_layer_first() {
    let mut bench = websockets();
    bench.reactor.core.home = true;
    let conn = accept(&mut bench);
    receive(&mut bench, conn, REQUEST);
    bench.turn();
    land(&mut bench);
    bench.say(conn, "bye");
    bench.close(conn, true);
    assert_eq!(sends(&bench.turn()), [0], "what pends");
    bench.sent(Ok(5));
    assert_eq!(bench.turn(), [Op::Send(0, 4)], "the close frame");
    bench.sent(Ok(4)).turn();
    bench.input(conn, Input::End, false).turn();
    bench.closed().turn();
    assert_eq!(bench.live_count(), 0);
}

#[test]
fn a_breach_is_answered_and_the_core_hears_no_more() {
    let mut bench = websockets();
    let conn = accept(&mut bench);
    receive(&mut bench, conn, b"\x10\x0C\0\x04MQTT");
    assert_eq!(sends(&bench.turn()), [0], "the refusal");
    bench.say(conn, "never sent");
    receive(&mut bench, conn, b"more");
    assert!(sends(&bench.turn()).is_empty());
    assert_eq!(bench.reactor.counts.transports_failed, 1);
    // The peer takes its time: it is cut.
    bench.after(Duration::from_secs(1));
    assert!(bench.events().is_empty());
    assert_eq!(bench.reactor.partial_bytes, 0);
}

// Threat 33, for what comes before MQTT. The bound of this bench is 64 KiB.
#[test]
fn incomplete_input_is_bounded_over_all_connections() {
    let mut bench = websockets();
    let request = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'y'; 6000]].concat();
    let conns: Vec<_> = (0..20).map(|_| accept(&mut bench)).collect();
    for conn in &conns {
        receive(&mut bench, *conn, &request);
        bench.turn();
        while !bench.reactor.ring.closing.is_empty() {
            bench.closed().turn();
        }
    }
    assert!(bench.reactor.partial_bytes <= 64 * 1024);
    assert!((6..=10).contains(&bench.live_count()));
    // A small one is never closed for what others hold.
    let small = accept(&mut bench);
    receive(&mut bench, small, b"GET /");
    bench.turn();
    let closing = &bench.reactor.ring.closing;
    assert!(closing.iter().all(|(conn, _)| *conn != small));
}

const REQUEST: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Version: 13\r\n\r\n";
