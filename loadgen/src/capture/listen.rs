//! Listens to a broker as one subscriber, and hands over every message.
//!
//! Blocking: one connection, in the thread that asks.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use ringmq_core::codec::{
    Ack, BarePublish, Connack, Connect, ConnectProperties, Direction, Frame, FrameRules, Framer,
    PACKET_SIZE_MAX, PacketKind, QoS, RetainHandling, Suback, Subscribe, SubscribeOptions,
    Subscription, Subscriptions, Version, encode_pingreq, encode_puback, encode_pubcomp,
    encode_pubrec,
};
use ringmq_core::ids::PacketId;

use crate::cli::{self, RunOptions};
use crate::peer::Peer;
use crate::scenario::Group;
use crate::scenario::pattern::{Filling, Pattern};
use crate::tls::Terms;

/// A message that arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) topic: &'a str,
    pub(super) payload: &'a [u8],
    pub(super) qos: QoS,
    pub(super) retain: bool,
    /// Since the subscription.
    pub(super) at: Duration,
}

/// How long to listen, and who may end it.
pub(super) struct Limits<'a> {
    pub(super) span: Duration,
    pub(super) is_over: &'a dyn Fn() -> bool,
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// A subscriber.
struct Listener {
    stream: Box<dyn Stream>,
    version: Version,
    qos: QoS,
    filters: Vec<String>,
    /// CONNACK has come.
    is_greeted: bool,
    framer: Framer,
    out: Vec<u8>,
}

/// Subscribes, and listens until the time is over.
pub(super) fn listen(
    options: &RunOptions,
    filters: &[&str],
    limits: &Limits<'_>,
    take: &mut dyn FnMut(Message<'_>),
) -> Result<Duration, String> {
    let group = options.scenario.groups.first();
    let group = group.expect("the subscriber is a group");
    let mut listener = Listener {
        stream: open(options, group)?,
        version: group.protocol,
        qos: group.qos,
        filters: filters.iter().map(|filter| (*filter).to_owned()).collect(),
        is_greeted: false,
        framer: Framer::default(),
        out: Vec::new(),
    };
    let failed = |error: io::Error| format!("{}: {error}", options.target);
    listener.put_connect(group);
    listener.flush().map_err(failed)?;
    listener.run(limits, take).map_err(failed)
}

fn open(options: &RunOptions, group: &Group) -> Result<Box<dyn Stream>, String> {
    let failed = |error: io::Error| format!("{}: {error}; is the broker running?", options.target);
    let stream: Box<dyn Stream> = match cli::choose(&options.peers)? {
        Peer::Tcp(address) => {
            let stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(failed)?;
            stream.set_read_timeout(Some(LOOK)).map_err(failed)?;
            Box::new(stream)
        }
        Peer::Unix(address) => {
            let path = address.path_bytes().unwrap_or_default();
            let path = String::from_utf8_lossy(path).into_owned();
            let stream = UnixStream::connect(path).map_err(failed)?;
            stream.set_read_timeout(Some(LOOK)).map_err(failed)?;
            Box::new(stream)
        }
    };
    let terms = Terms::of(group, &options.host).map_err(|problem| problem.to_string())?;
    Ok(match terms {
        Some(terms) => Box::new(terms.over(stream)?),
        None => stream,
    })
}

impl Listener {
    fn put_connect(&mut self, group: &Group) {
        let filled = |pattern: &Option<Pattern>| {
            let mut text = String::new();
            let filling = Filling {
                run: "capture",
                group: &group.name,
                index: 0,
                message: 0,
            };
            let pattern = pattern.as_ref()?;
            pattern.fill(filling, &mut text);
            Some(text)
        };
        let (user, password) = (filled(&group.user), filled(&group.password));
        let client_id = format!("ringload-capture-{}", std::process::id());
        Connect {
            is_bridge: false,
            version: self.version,
            clean_start: true,
            keep_alive: KEEP_ALIVE_S,
            client_id: &client_id,
            will: None,
            user_name: user.as_deref(),
            password: password.as_ref().map(String::as_bytes),
            properties: ConnectProperties::default(),
        }
        .encode(&mut self.out);
    }

    fn put_subscribe(&mut self) {
        let options = SubscribeOptions {
            qos: self.qos,
            no_local: false,
            // A message that is retained shows as such, and old ones do not come.
            retain_as_published: true,
            retain_handling: RetainHandling::DoNotSend,
        };
        let lines = self
            .filters
            .iter()
            .map(|filter| Subscription { filter, options });
        let lines: Vec<Subscription<'_>> = lines.collect();
        Subscribe {
            packet_id: PacketId::new(1).expect("1 is not 0"),
            subscription_id: None,
            filters: Subscriptions::listed(&lines),
            user_properties: Default::default(),
        }
        .encode(self.version, &mut self.out);
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.out)?;
        self.out.clear();
        self.stream.flush()
    }

    /// Gives how long it has listened.
    fn run(
        &mut self,
        limits: &Limits<'_>,
        take: &mut dyn FnMut(Message<'_>),
    ) -> io::Result<Duration> {
        let opened = Instant::now();
        let mut began = None;
        let mut pinged = opened;
        let mut buffer = vec![0; BUFFER_SIZE];
        loop {
            let passed = began.map(|began: Instant| began.elapsed());
            match passed {
                Some(passed) if passed >= limits.span || (limits.is_over)() => return Ok(passed),
                None if opened.elapsed() > PATIENCE => {
                    return Err(io::Error::other("it does not answer CONNECT and SUBSCRIBE"));
                }
                _ => {}
            }
            if pinged.elapsed() > PING {
                encode_pingreq(&mut self.out);
                pinged = Instant::now();
            }
            if !self.out.is_empty() {
                self.flush()?;
            }
            let size = match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::Error::other("the broker closed the connection")),
                Ok(size) => size,
                Err(error) if is_timeout(&error) => continue,
                Err(error) => return Err(error),
            };
            let mut input = &buffer[..size];
            let mut framer = std::mem::take(&mut self.framer);
            loop {
                let rules = FrameRules {
                    version: self.is_greeted.then_some(self.version),
                    size_max: PACKET_SIZE_MAX,
                    direction: Direction::FromServer,
                };
                let frame = framer.next(&mut input, &rules).map_err(malformed)?;
                let Some(frame) = frame else {
                    break;
                };
                if frame.kind == PacketKind::Suback {
                    self.on_suback(&frame)?;
                    began = Some(Instant::now());
                    continue;
                }
                let at = began.map_or(Duration::ZERO, |began| began.elapsed());
                self.on_frame(&frame, at, take)?;
            }
            self.framer = framer;
        }
    }

    fn on_frame(
        &mut self,
        frame: &Frame<'_>,
        at: Duration,
        take: &mut dyn FnMut(Message<'_>),
    ) -> io::Result<()> {
        match frame.kind {
            PacketKind::Connack => {
                let connack = Connack::decode(frame, self.version).map_err(malformed)?;
                match connack.reason.is_error() {
                    true => Err(io::Error::other(format!(
                        "the broker refused the subscriber: {:?}; see --user and --password-file",
                        connack.reason
                    ))),
                    false => {
                        self.is_greeted = true;
                        self.put_subscribe();
                        Ok(())
                    }
                }
            }
            PacketKind::Publish => {
                let publish = BarePublish::decode(frame, self.version).map_err(malformed)?;
                if let Some(id) = publish.packet_id {
                    match publish.head.qos {
                        QoS::AtLeastOnce => encode_puback(&mut self.out, id),
                        QoS::AtMostOnce | QoS::ExactlyOnce => encode_pubrec(&mut self.out, id),
                    }
                }
                // Before MQTT 5.0, only what was retained earlier comes with RETAIN.
                let is_old = publish.head.retain && self.version < Version::V5;
                if !publish.head.dup
                    && !is_old
                    && let Ok(topic) = std::str::from_utf8(publish.topic)
                {
                    take(Message {
                        topic,
                        payload: publish.payload,
                        qos: publish.head.qos,
                        retain: publish.head.retain,
                        at,
                    });
                }
                Ok(())
            }
            PacketKind::Pubrel => {
                let ack = Ack::decode(frame, self.version, Direction::FromServer);
                encode_pubcomp(&mut self.out, ack.map_err(malformed)?.packet_id);
                Ok(())
            }
            PacketKind::Disconnect => Err(io::Error::other("the broker sent DISCONNECT")),
            _ => Ok(()),
        }
    }

    fn on_suback(&self, frame: &Frame<'_>) -> io::Result<()> {
        let suback = Suback::decode(frame, self.version).map_err(malformed)?;
        match suback.reasons.iter().next() {
            Some(reason) if reason.is_error() => Err(io::Error::other(format!(
                "the broker refused the subscription: {reason:?}; its rules have to allow it"
            ))),
            _ => Ok(()),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

fn malformed(error: impl std::fmt::Debug) -> io::Error {
    io::Error::other(format!("what came is not MQTT: {error:?}"))
}

const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at the time.
const LOOK: Duration = Duration::from_millis(100);
const KEEP_ALIVE_S: u16 = 60;
const PING: Duration = Duration::from_secs(20);
const BUFFER_SIZE: usize = 256 * 1024;
