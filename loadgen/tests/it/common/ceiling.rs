//! A broker whose limit is known, because it serves by the clock: a message leaves when the one
//! before it has left and its own service is over.

use std::collections::{HashMap, VecDeque};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use ringmq_core::codec::{
    Connack, Connect, Direction, FrameRules, Framer, PACKET_SIZE_MAX, PacketKind, Publish,
    ReasonCode, Reasons, Suback, Subscribe, Version, encode_pingresp, encode_puback,
};

/// What the broker is able to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// What a message takes.
    pub service: Duration,
    /// Nothing is served for the first time in every second one.
    pub pause: Option<(Duration, Duration)>,
    /// Messages beyond so many per second are lost.
    pub loses_beyond: Option<f64>,
    /// A message takes CPU time instead of time.
    pub burns: bool,
}

/// A broker that runs until the test ends.
#[derive(Debug)]
pub struct Ceiling {
    pub port: u16,
    late: Arc<AtomicU64>,
}

impl Ceiling {
    pub fn start(limits: Limits) -> Ceiling {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let broker = Arc::new(Broker::default());
        let late = Arc::new(AtomicU64::new(0));
        let (serving, counted) = (broker.clone(), late.clone());
        std::thread::Builder::new()
            .name("shard-0".to_owned())
            .spawn(move || serving.serve(limits, &counted))
            .unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (broker, stream) = (broker.clone(), stream.unwrap());
                std::thread::spawn(move || broker.read(stream));
            }
        });
        Ceiling { port, late }
    }

    /// How often other programs kept the broker from its core for long: then its limit is not what
    /// it is said to be.
    pub fn disturbances(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }
}

#[derive(Default)]
struct Broker {
    readers: Mutex<HashMap<Vec<u8>, Arc<Mutex<TcpStream>>>>,
    queue: Mutex<VecDeque<Message>>,
    arrived: Condvar,
}

struct Message {
    at: Instant,
    to: Arc<Mutex<TcpStream>>,
    bytes: Vec<u8>,
}

impl Broker {
    /// One connection, until it ends.
    fn read(&self, mut stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        let sender = Arc::new(Mutex::new(stream.try_clone().unwrap()));
        let (mut framer, mut version) = (Framer::default(), None);
        let mut buffer = [0; 65536];
        loop {
            let size = match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(size) => size,
            };
            let (mut bytes, mut out, mut taken) = (&buffer[..size], Vec::new(), Vec::new());
            loop {
                let rules = FrameRules {
                    version,
                    size_max: PACKET_SIZE_MAX,
                    direction: Direction::FromClient,
                };
                let Some(frame) = framer.next(&mut bytes, &rules).unwrap() else {
                    break;
                };
                let known = version.unwrap_or(Version::V311);
                match frame.kind {
                    PacketKind::Connect => {
                        let connect = Connect::decode(&frame).unwrap();
                        version = Some(connect.version);
                        Connack::new(false, ReasonCode::Success).encode(connect.version, &mut out);
                    }
                    PacketKind::Subscribe => {
                        let subscribe = Subscribe::decode(&frame, known).unwrap();
                        let mut reasons = Vec::new();
                        for line in subscribe.filters.iter() {
                            let topic = line.filter.as_bytes().to_vec();
                            self.readers.lock().unwrap().insert(topic, sender.clone());
                            reasons.push(ReasonCode::GrantedQos0);
                        }
                        Suback {
                            packet_id: subscribe.packet_id,
                            reasons: Reasons::listed(&reasons),
                            properties: Default::default(),
                        }
                        .encode(known, &mut out);
                    }
                    PacketKind::Publish => {
                        let publish =
                            Publish::decode(&frame, known, Direction::FromClient).unwrap();
                        if let Some(id) = publish.packet_id {
                            encode_puback(&mut out, id);
                        }
                        taken.extend(self.message(&publish, known));
                    }
                    PacketKind::Pingreq => encode_pingresp(&mut out),
                    PacketKind::Disconnect => return,
                    _ => {}
                }
            }
            let _ = sender.lock().unwrap().write_all(&out);
            if !taken.is_empty() {
                self.queue.lock().unwrap().extend(taken);
                self.arrived.notify_one();
            }
        }
    }

    fn message(&self, publish: &Publish<'_>, version: Version) -> Option<Message> {
        let to = self.readers.lock().unwrap().get(publish.topic)?.clone();
        let mut bytes = Vec::new();
        Publish {
            dup: false,
            qos: ringmq_core::codec::QoS::AtMostOnce,
            packet_id: None,
            retain: false,
            properties: Default::default(),
            ..*publish
        }
        .encode(version, &mut bytes);
        Some(Message {
            at: Instant::now(),
            to,
            bytes,
        })
    }

    fn serve(&self, limits: Limits, late: &AtomicU64) {
        let begin = Instant::now();
        let mut free_at = begin;
        let mut tokens = Tokens::new(limits.loses_beyond, begin);
        loop {
            let mut queue = self.queue.lock().unwrap();
            while queue.is_empty() {
                queue = self.arrived.wait(queue).unwrap();
            }
            let messages = std::mem::take(&mut *queue);
            drop(queue);
            for message in messages {
                if !tokens.take(message.at) {
                    continue;
                }
                if limits.burns {
                    burn(limits.service);
                } else {
                    free_at = limits.leaves(begin, free_at.max(message.at));
                    let now = Instant::now();
                    if free_at > now {
                        std::thread::sleep(free_at - now);
                        let over = free_at.elapsed();
                        late.fetch_add(u64::from(over > LATE), Ordering::Relaxed);
                    }
                }
                let _ = message.to.lock().unwrap().write_all(&message.bytes);
            }
        }
    }
}

impl Limits {
    /// When a message is served whose service can begin at `at`.
    fn leaves(&self, begin: Instant, at: Instant) -> Instant {
        let Some((pause, every)) = self.pause else {
            return at + self.service;
        };
        let into = Duration::from_nanos(
            ((at - begin).as_nanos() % every.as_nanos())
                .try_into()
                .unwrap(),
        );
        at + pause.saturating_sub(into) + self.service
    }
}

/// Messages per second that are not lost; a twentieth of a second may come at a time.
struct Tokens {
    per_s: Option<f64>,
    left: f64,
    at: Instant,
}

impl Tokens {
    fn new(per_s: Option<f64>, at: Instant) -> Tokens {
        Tokens {
            per_s,
            left: per_s.unwrap_or(0.0) / 20.0,
            at,
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        let Some(per_s) = self.per_s else {
            return true;
        };
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.left = (self.left + since * per_s).min(per_s / 20.0);
        let is_kept = self.left >= 1.0;
        if is_kept {
            self.left -= 1.0;
        }
        is_kept
    }
}

fn burn(span: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < span {
        std::hint::spin_loop();
    }
}

/// A thread that has a core is back from its sleep by then.
const LATE: Duration = Duration::from_millis(3);
