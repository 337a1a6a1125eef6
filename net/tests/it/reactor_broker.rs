//! The reactor on a real ring and real sockets, around cores that are no MQTT brokers.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant as Clock};

use ringmq::{Admission, Broker, BrokerConfig, Core, RingConfig, Wait};
use ringmq_core::connection::{Chunk, Output};
use ringmq_core::ids::{ConnId, ShardId};
use ringmq_core::message::{Message, MessageParts};
use ringmq_core::shard::{Close, CloseCause, Deadlines, Event, Handover, Outbox, ShardMsg};
use ringmq_core::stages::Stamp;
use ringmq_core::time::Instant;

/// What the first byte of a connection asks of a [`Puppet`]; bytes after it are echoed.
const ECHO: u8 = b'e';
/// Handed over to the shard in the second byte, then echoed.
const MOVE: u8 = b'm';
/// Each byte is sent to the shard of that number, which sends it back here, to this connection.
const TELL: u8 = b't';
/// Sends "bye" and closes.
const QUIT: u8 = b'q';
/// Sends as many kilobytes as each byte says, in chunks of 512 bytes.
const POUR: u8 = b'p';
/// Says 'x' in 50 ms.
const WAIT: u8 = b'w';

struct Puppet {
    id: ShardId,
    roles: HashMap<ConnId, (u8, Vec<u8>)>,
    output: HashMap<ConnId, Vec<Chunk>>,
    unsent: HashMap<ConnId, usize>,
    waits: Vec<(Instant, ConnId)>,
    report: Sender<Report>,
}

#[derive(Debug, PartialEq, Eq)]
enum Report {
    Accepted(ShardId, Option<SocketAddr>),
    Closed(ShardId, CloseCause),
}

impl Puppet {
    fn say(&mut self, conn: ConnId, chunk: Chunk, out: &mut Outbox) {
        *self.unsent.entry(conn).or_default() += chunk.as_slice().len();
        self.output.entry(conn).or_default().push(chunk);
        out.dirty.push(conn);
    }

    fn on_received(&mut self, now: Instant, conn: ConnId, bytes: &[u8], out: &mut Outbox) {
        let (role, buffer) = self.roles.get_mut(&conn).expect("accepted");
        let bytes = if *role == 0 {
            buffer.extend_from_slice(bytes);
            if buffer.len() < 2 {
                return;
            }
            if buffer[0] == MOVE && usize::from(buffer[1]) != self.id.index() {
                let bytes = std::mem::take(buffer);
                let target = ShardId::new(usize::from(bytes[1]));
                self.roles.remove(&conn);
                out.handovers.push(Handover {
                    conn,
                    target,
                    bytes,
                });
                return;
            }
            *role = buffer[0];
            std::mem::take(buffer).split_off(1)
        } else {
            bytes.to_vec()
        };
        match *role {
            ECHO | MOVE => self.say(conn, Chunk::Own(bytes), out),
            TELL => {
                for byte in bytes {
                    let mut topic = vec![self.id.index() as u8];
                    topic.extend_from_slice(&conn.index.to_be_bytes());
                    topic.extend_from_slice(&conn.generation.to_be_bytes());
                    out.post(ShardId::new(usize::from(byte)), message(&topic, byte));
                }
            }
            QUIT => {
                self.say(conn, Chunk::Own(b"bye".to_vec()), out);
                out.closes.push(Close { conn, flush: true });
            }
            POUR => {
                for piece in bytes.iter().flat_map(|b| 0..usize::from(*b) * 2) {
                    let shared = vec![piece as u8; 512].into();
                    self.say(conn, Chunk::Shared(shared), out);
                }
            }
            WAIT => self.waits.push((now + Duration::from_millis(50), conn)),
            other => panic!("{other}"),
        }
    }
}

/// 10 bytes of topic: the shard and the connection that asked.
fn message(topic: &[u8], byte: u8) -> ShardMsg {
    let message = Message::new(
        MessageParts {
            topic,
            properties: &[],
            payload: &[byte],
            qos: ringmq_core::codec::QoS::AtMostOnce,
            retain: false,
            expires_at: None,
            publisher: ringmq_core::ids::ClientKey(0),
            author: None,
        },
        Stamp::UNKNOWN,
    );
    ShardMsg::Forward(Arc::new(message), None)
}

impl Core for Puppet {
    fn handle(&mut self, now: Instant, event: Event<'_>, out: &mut Outbox) {
        match event {
            Event::Accepted { conn, peer, since } => {
                assert!(since <= now);
                assert!(self.roles.insert(conn, (0, Vec::new())).is_none());
                let _ = self.report.send(Report::Accepted(self.id, peer.address));
            }
            Event::Received { conn, bytes } => self.on_received(now, conn, bytes, out),
            Event::SendProgress { conn, size } => {
                *self.unsent.get_mut(&conn).expect("sent something") -= size as usize;
            }
            Event::Closed { conn, why } => {
                self.roles.remove(&conn);
                self.output.remove(&conn);
                self.unsent.remove(&conn);
                let _ = self.report.send(Report::Closed(self.id, why));
            }
            Event::FromShard { from, message } => {
                let ShardMsg::Forward(message, _) = message else {
                    panic!("only forwards here")
                };
                let asker = ShardId::new(usize::from(message.topic()[0]));
                if asker == self.id && from != self.id || asker == from && from == self.id {
                    let word = |at: usize| {
                        u32::from_be_bytes(message.topic()[at..at + 4].try_into().unwrap())
                    };
                    let conn = ConnId {
                        index: word(1),
                        generation: word(5),
                    };
                    self.say(conn, Chunk::Own(message.payload().to_vec()), out);
                } else {
                    out.post(from, ShardMsg::Forward(message, None));
                }
            }
            Event::DeadlineReached { .. } => {
                for (_, conn) in std::mem::take(&mut self.waits) {
                    self.say(conn, Chunk::Own(b"x".to_vec()), out);
                }
            }
            Event::ShutdownRequested => {
                for &conn in self.roles.keys() {
                    out.closes.push(Close { conn, flush: true });
                }
            }
            Event::Unwelcome { conn, .. } => out.closes.push(Close { conn, flush: false }),
            Event::Identified { .. }
            | Event::DiskDone(_)
            | Event::SpaceChanged { .. }
            | Event::ShellCounted { .. }
            | Event::Asked { .. }
            | Event::AuthDecided { .. }
            | Event::AccessReplaced { .. } => {}
        }
    }

    fn deadlines(&self) -> Deadlines {
        Deadlines {
            of_clock: self.waits.iter().map(|w| w.0).min(),
            ..Deadlines::default()
        }
    }

    fn take_output(&mut self, conn: ConnId) -> Option<Output> {
        let mut chunks = self.output.remove(&conn)?;
        Some(match (chunks.len(), chunks.remove(0)) {
            (1, Chunk::Own(bytes)) => Output::One(bytes),
            (_, first) => {
                chunks.insert(0, first);
                Output::Many(chunks)
            }
        })
    }

    fn recycle(&mut self, _output: Output) {}

    fn is_home(&self, conn: ConnId) -> bool {
        self.roles.get(&conn).is_some_and(|(role, _)| *role != 0)
    }
}

fn start(config: BrokerConfig) -> (Broker, Receiver<Report>) {
    let (report, reports) = channel();
    let broker = Broker::start_with(&config, move |id| Puppet {
        id,
        roles: HashMap::new(),
        output: HashMap::new(),
        unsent: HashMap::new(),
        waits: Vec::new(),
        report: report.clone(),
    });
    (broker.unwrap(), reports)
}

fn config(shards: usize) -> BrokerConfig {
    BrokerConfig {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()],
        shards,
        ring: RingConfig {
            entries: 256,
            buffers_count: 16,
            buffer_size: 4096,
            ..RingConfig::default()
        },
        ..BrokerConfig::default()
    }
}

fn connect(broker: &Broker) -> TcpStream {
    let stream = TcpStream::connect(broker.local_addresses()[0]).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream
}

fn expect(stream: &mut TcpStream, expected: &[u8]) {
    let mut bytes = vec![0; expected.len()];
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes, expected);
}

fn stop(broker: Broker) {
    let begun = Clock::now();
    broker.shutdown();
    broker.join();
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn bytes_come_back_on_ipv4_and_ipv6() {
    let listen = ["127.0.0.1:0", "[::1]:0"].map(|a| a.parse::<SocketAddr>().unwrap());
    let (broker, reports) = start(BrokerConfig {
        listen: listen.iter().copied().map(Into::into).collect(),
        ..config(1)
    });
    for address in broker.local_addresses() {
        let mut stream = TcpStream::connect(address).unwrap();
        let here = stream.local_addr().unwrap();
        let accepted = Report::Accepted(ShardId::new(0), Some(here));
        assert_eq!(reports.recv().unwrap(), accepted);
        // The first byte alone: a second single shot is needed to see what it is.
        stream.write_all(&[ECHO]).unwrap();
        thread::sleep(Duration::from_millis(20));
        stream.write_all(b"hello").unwrap();
        expect(&mut stream, b"hello");
        for _ in 0..100 {
            stream.write_all(b"again").unwrap();
            expect(&mut stream, b"again");
        }
        stream.shutdown(Shutdown::Write).unwrap();
        let closed = Report::Closed(ShardId::new(0), CloseCause::PeerClosed);
        assert_eq!(reports.recv().unwrap(), closed);
    }
    stop(broker);
}

#[test]
fn a_reactor_that_sleeps_in_the_executor_misses_nothing() {
    misses_nothing(Wait::Executor, Duration::ZERO);
}

#[test]
fn a_reactor_that_polls_before_it_sleeps_misses_nothing() {
    for busy_poll in [Duration::from_micros(1), Duration::from_millis(1)] {
        misses_nothing(Wait::Ring, busy_poll);
    }
}

fn misses_nothing(wait: Wait, busy_poll: Duration) {
    let mut config = BrokerConfig {
        inbox_messages_max: 2,
        ..config(2)
    };
    config.ring.wait = wait;
    config.ring.busy_poll = busy_poll;
    let (broker, _reports) = start(config);
    let mut echo = connect(&broker);
    let mut tell = connect(&broker);
    let mut wait = connect(&broker);
    echo.write_all(&[ECHO]).unwrap();
    tell.write_all(&[TELL]).unwrap();
    for _ in 0..200 {
        echo.write_all(b"ping").unwrap();
        expect(&mut echo, b"ping");
        tell.write_all(&[0, 1]).unwrap();
        let mut bytes = [0; 2];
        tell.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes[0] + bytes[1], 1);
    }
    wait.write_all(&[WAIT, 0]).unwrap();
    expect(&mut wait, b"x");
    assert!(broker.counts().iter().all(|c| c.parks > 0));
    stop(broker);
}

#[test]
fn a_connection_moves_to_its_home_with_all_that_was_received() {
    let (broker, reports) = start(config(3));
    for target in [0, 1, 2, 0, 1, 2] {
        let mut stream = connect(&broker);
        stream.write_all(&[MOVE, target, b'a', b'b']).unwrap();
        expect(&mut stream, &[target, b'a', b'b']);
        stream.write_all(b"cd").unwrap();
        expect(&mut stream, b"cd");
        drop(stream);
        // The last two reports are those of the home.
        let mut last = Vec::new();
        while last.last()
            != Some(&Report::Closed(
                ShardId::new(target.into()),
                CloseCause::PeerClosed,
            ))
        {
            last.push(reports.recv_timeout(Duration::from_secs(10)).unwrap());
        }
        let here = last.iter().filter_map(|r| match r {
            Report::Accepted(_, peer) => *peer,
            Report::Closed(..) => None,
        });
        assert!(here.clone().all(|peer| Some(peer) == here.clone().next()));
    }
    stop(broker);
}

#[test]
fn everything_arrives_when_the_peer_reads_slowly_and_the_buffers_run_out() {
    let (broker, _reports) = start(config(1));
    let mut writers = Vec::new();
    for seed in 0..8u8 {
        let mut stream = connect(&broker);
        let mut reader = stream.try_clone().unwrap();
        let size = 4 * 1024 * 1024;
        let writer = thread::spawn(move || {
            stream.write_all(&[ECHO]).unwrap();
            let bytes: Vec<u8> = (0..size).map(|i| (i / 7) as u8 ^ seed).collect();
            stream.write_all(&bytes).unwrap();
        });
        let reader = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            let mut bytes = vec![0; size];
            reader.read_exact(&mut bytes).unwrap();
            let is_right = |(i, b): (usize, &u8)| *b == (i / 7) as u8 ^ seed;
            assert!(bytes.iter().enumerate().all(is_right));
        });
        writers.extend([writer, reader]);
    }
    for writer in writers {
        writer.join().unwrap();
    }
    stop(broker);
}

#[test]
fn an_output_of_more_chunks_than_one_gathering_send_takes_arrives_whole() {
    let (broker, _reports) = start(config(1));
    let mut stream = connect(&broker);
    stream.write_all(&[POUR, 250]).unwrap();
    // 500 chunks each time; sends gather several times that while one is in flight.
    for _ in 0..7 {
        stream.write_all(&[250]).unwrap();
        thread::sleep(Duration::from_millis(1));
    }
    for _ in 0..8 {
        for piece in 0..500 {
            expect(&mut stream, &[piece as u8; 512]);
        }
    }
    stop(broker);
}

#[test]
fn messages_between_shards_arrive_in_order_through_tiny_inboxes() {
    let (broker, _reports) = start(BrokerConfig {
        inbox_messages_max: 2,
        ..config(3)
    });
    let mut streams: Vec<_> = (0..4).map(|_| connect(&broker)).collect();
    for stream in &mut streams {
        stream.write_all(&[TELL]).unwrap();
        stream.write_all(&[1, 1, 2, 2, 0, 0].repeat(200)).unwrap();
    }
    for stream in &mut streams {
        let mut bytes = vec![0; 1200];
        stream.read_exact(&mut bytes).unwrap();
        for shard in 0..3 {
            assert_eq!(bytes.iter().filter(|b| **b == shard).count(), 400);
        }
    }
    assert!(broker.counts().iter().any(|c| c.stalls > 0));
    stop(broker);
}

#[test]
fn a_flushed_close_sends_first_and_outlives_unread_input() {
    let (broker, reports) = start(config(1));
    let mut stream = connect(&broker);
    stream.write_all(&[QUIT, 0]).unwrap();
    // Unread input would reset the connection if it were closed at once.
    stream.write_all(&[0; 1000]).unwrap();
    thread::sleep(Duration::from_millis(50));
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"bye");
    drop(stream);
    let accepted = reports.recv().unwrap();
    assert!(matches!(accepted, Report::Accepted(..)));
    let closed = Report::Closed(ShardId::new(0), CloseCause::Requested);
    assert_eq!(reports.recv().unwrap(), closed);
    stop(broker);
}

#[test]
fn a_peer_that_never_closes_is_cut_after_a_second() {
    let (broker, reports) = start(config(1));
    let mut stream = connect(&broker);
    stream.write_all(&[QUIT, 0]).unwrap();
    expect(&mut stream, b"bye");
    let begun = Clock::now();
    reports.recv().unwrap();
    let closed = Report::Closed(ShardId::new(0), CloseCause::Requested);
    assert_eq!(reports.recv().unwrap(), closed);
    assert!((500..3000).contains(&begun.elapsed().as_millis()));
    stop(broker);
}

#[test]
fn a_deadline_wakes_a_parked_reactor() {
    let (broker, _reports) = start(config(1));
    let mut stream = connect(&broker);
    for _ in 0..3 {
        let begun = Clock::now();
        stream.write_all(&[WAIT, 0]).unwrap();
        expect(&mut stream, b"x");
        assert!((45..1000).contains(&begun.elapsed().as_millis()));
    }
    assert!(broker.counts()[0].parks > 0);
    stop(broker);
}

#[test]
fn connections_above_the_limit_are_closed_and_the_others_stay() {
    let (broker, _reports) = start(BrokerConfig {
        admission: Admission {
            connections_max: 2,
            ..Admission::default()
        },
        ..config(2)
    });
    let mut first = connect(&broker);
    let mut second = connect(&broker);
    for stream in [&mut first, &mut second] {
        stream.write_all(&[ECHO, b'a']).unwrap();
        expect(stream, b"a");
    }
    let mut third = connect(&broker);
    assert_eq!(third.read(&mut [0; 8]).unwrap_or(0), 0);
    first.write_all(b"still").unwrap();
    expect(&mut first, b"still");
    drop(second);
    // A place becomes free when the broker has seen the close.
    let begun = Clock::now();
    loop {
        let mut fourth = connect(&broker);
        let written = fourth.write_all(&[ECHO, b'z']);
        if written.is_ok() && fourth.read(&mut [0; 1]).unwrap_or(0) == 1 {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
    stop(broker);
}

#[test]
fn an_idle_broker_takes_no_turns() {
    let (broker, _reports) = start(config(2));
    let _idle = connect(&broker);
    thread::sleep(Duration::from_millis(200));
    let before: u64 = broker.counts().iter().map(|c| c.turns).sum();
    thread::sleep(Duration::from_millis(500));
    let after: u64 = broker.counts().iter().map(|c| c.turns).sum();
    assert!(after - before <= 2, "{before} {after}");
    stop(broker);
}

#[test]
fn a_shutdown_cuts_a_peer_that_does_not_read() {
    let (broker, _reports) = start(config(1));
    let mut stream = connect(&broker);
    // More than the socket buffers of both sides take.
    for _ in 0..200 {
        stream.write_all(&[POUR, 250]).unwrap();
    }
    thread::sleep(Duration::from_millis(100));
    stop(broker);
}
