//! A small broker that follows a script: which deliveries to lose, repeat, delay, damage.
//!
//! Deliveries are counted from 1 over all subscribers; a script names them by number. Everything
//! goes through one lock, so that the numbers mean something.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringmq_core::codec::{
    Ack, Connack, ConnackProperties, Connect, Direction, Frame, FrameRules, Framer,
    PACKET_SIZE_MAX, PacketKind, Publish, PublishProperties, QoS, ReasonCode, Reasons, Suback,
    Subscribe, SubscriptionIds, Version, encode_pingresp, encode_puback, encode_pubcomp,
    encode_pubrec, encode_pubrel,
};
use ringmq_core::ids::PacketId;
use ringmq_core::topic::{TopicFilter, TopicLimits};

/// What the broker does wrong.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub lose: BTreeSet<u64>,
    pub duplicate: BTreeSet<u64>,
    /// Sent again with DUP, as after a reconnect.
    pub repeat: BTreeSet<u64>,
    /// Sent after the next delivery of the same client.
    pub swap: BTreeSet<u64>,
    /// A byte of the header is changed.
    pub corrupt_header: BTreeSet<u64>,
    /// A byte behind the header is changed.
    pub corrupt_body: BTreeSet<u64>,
    /// The last bytes are cut off.
    pub truncate: BTreeSet<u64>,
    /// Sent under another topic.
    pub wrong_topic: BTreeSet<u64>,
    /// Sent at QoS 0, whatever was asked for.
    pub wrong_qos: BTreeSet<u64>,
    /// Sent to every subscriber, whatever it subscribed to.
    pub misroute: BTreeSet<u64>,
    /// Sent so much later; what comes after it is not held up.
    pub delay: BTreeMap<u64, Duration>,
    /// Before this delivery, nothing happens for a time.
    pub stall: Option<(u64, Duration)>,
    /// Before this delivery, all connections are closed.
    pub close_all: Option<u64>,
    /// Answer to CONNECT.
    pub refuse: Option<ReasonCode>,
    /// So many CONNECTs are let in, and the next so many are not.
    pub turn_away: Option<(u64, u64)>,
    /// Answer to SUBSCRIBE.
    pub refuse_subscribe: bool,
    /// The highest QoS that is granted.
    pub grant: Option<QoS>,
    /// Nothing is ever answered.
    pub silent: bool,
    /// Connections are closed as soon as they are there.
    pub close_at_once: bool,
    /// Sent in place of CONNACK.
    pub garbage: Option<Vec<u8>>,
    /// Publications that are not acknowledged, by number, and not delivered either.
    pub ignore: BTreeSet<u64>,
    /// Publications that are refused (MQTT 5.0), and not delivered.
    pub refuse_publish: BTreeSet<u64>,
    /// From this publication on, nothing is answered any more, not even PINGREQ.
    pub mute: Option<u64>,
    /// At this publication its publisher gets what is no packet.
    pub garble: Option<u64>,
    /// A message from elsewhere, to every subscriber at once, on this topic.
    pub foreign: Option<(String, Vec<u8>)>,
    /// How long the removal of a retained message takes.
    pub removal: Duration,
    /// What CONNACK says besides.
    pub terms: Option<fn(&mut ConnackProperties<'static>)>,
    /// Publications are delivered and never acknowledged.
    pub no_acknowledgements: bool,
    /// At this publication its publisher is thrown out; what it published is not delivered.
    pub throw_out: Option<u64>,
    /// Sent with RETAIN, although it is live.
    pub live_retain: BTreeSet<u64>,
    /// Sent with this topic alias.
    pub alias: BTreeSet<u64>,
    /// Sent with a subscription identifier.
    pub subscription_id: BTreeSet<u64>,
    /// All deliveries up to this one go out together.
    pub gather: Option<u64>,
    /// After `close_all`, nobody is let in any more.
    pub refuse_again: bool,
    /// What new subscribers hear below `$SYS` is retained.
    pub sys_retained: bool,
    /// What is said below `$SYS` when somebody subscribes, and again after this many deliveries.
    pub sys: Option<u64>,
}

/// A broker that runs until the test ends.
#[derive(Debug)]
pub struct Scripted {
    pub port: u16,
    /// Messages that are retained.
    pub retained: Arc<AtomicU64>,
    state: Arc<Mutex<State>>,
}

/// What the broker itself has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub connects: u64,
    pub pings: u64,
    pub published: u64,
    pub delivered: u64,
}

impl Scripted {
    pub fn start(script: Script) -> Scripted {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let retained = Arc::new(AtomicU64::new(0));
        let state = Arc::new(Mutex::new(State {
            script,
            retained: retained.clone(),
            clients: HashMap::new(),
            delivered: 0,
            published: 0,
            connects: 0,
            pings: 0,
            gathered: Vec::new(),
        }));
        let served = state.clone();
        std::thread::spawn(move || {
            for (id, stream) in listener.incoming().enumerate() {
                let (state, stream) = (served.clone(), stream.unwrap());
                std::thread::spawn(move || serve(&state, id, stream));
            }
        });
        Scripted {
            port,
            retained,
            state,
        }
    }

    pub fn counted(&self) -> Counted {
        let state = self.state.lock().unwrap();
        Counted {
            connects: state.connects,
            pings: state.pings,
            published: state.published,
            delivered: state.delivered,
        }
    }
}

struct State {
    script: Script,
    /// Topics are not told apart: scripts retain one message for each.
    retained: Arc<AtomicU64>,
    clients: HashMap<usize, Client>,
    delivered: u64,
    published: u64,
    connects: u64,
    pings: u64,
    /// Bytes that wait for `Script::gather`, with their client.
    gathered: Vec<(usize, Vec<u8>)>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

struct Client {
    stream: TcpStream,
    version: Version,
    subscriptions: Vec<(TopicFilter, QoS)>,
    last_id: u16,
    /// Goes out after the next delivery.
    held: Option<Vec<u8>>,
}

fn serve(state: &Mutex<State>, id: usize, mut stream: TcpStream) {
    let script = state.lock().unwrap().script.clone();
    if script.close_at_once {
        return;
    }
    stream.set_nodelay(true).unwrap();
    let mut framer = Framer::default();
    let mut version = None;
    let mut buffer = [0; 65536];
    loop {
        let size = match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(size) => size,
        };
        if script.silent {
            continue;
        }
        let mut bytes = &buffer[..size];
        loop {
            let rules = FrameRules {
                version,
                size_max: PACKET_SIZE_MAX,
                direction: Direction::FromClient,
            };
            let Some(frame) = framer.next(&mut bytes, &rules).unwrap() else {
                break;
            };
            let mut state = state.lock().unwrap();
            match version {
                None => version = Some(state.on_connect(id, &stream, &frame)),
                Some(version) => {
                    if !state.on_frame(id, version, &frame) {
                        state.clients.remove(&id);
                        return;
                    }
                }
            }
        }
    }
    state.lock().unwrap().clients.remove(&id);
}

impl State {
    fn on_connect(&mut self, id: usize, stream: &TcpStream, frame: &Frame<'_>) -> Version {
        let connect = Connect::decode(frame).unwrap();
        let mut client = Client {
            stream: stream.try_clone().unwrap(),
            version: connect.version,
            subscriptions: Vec::new(),
            last_id: 0,
            held: None,
        };
        self.connects += 1;
        let mut out = Vec::new();
        let is_turned_away = |(after, count): (u64, u64)| {
            self.connects > after && self.connects <= after.saturating_add(count)
        };
        let refusal = match self.script.turn_away.is_some_and(is_turned_away) {
            true => Some(ReasonCode::ServerUnavailable),
            false => self.script.refuse,
        };
        let mut connack = Connack::new(false, refusal.unwrap_or(ReasonCode::Success));
        if let Some(terms) = self.script.terms {
            terms(&mut connack.properties);
        }
        match &self.script.garbage {
            Some(garbage) => out.extend_from_slice(garbage),
            None => connack.encode(connect.version, &mut out),
        }
        client.send(&out);
        let version = client.version;
        self.clients.insert(id, client);
        version
    }

    /// False: the connection is over.
    fn on_frame(&mut self, id: usize, version: Version, frame: &Frame<'_>) -> bool {
        let ack = || {
            Ack::decode(frame, version, Direction::FromClient)
                .unwrap()
                .packet_id
        };
        if self
            .script
            .mute
            .is_some_and(|from| self.published + 1 >= from)
            && !matches!(frame.kind, PacketKind::Subscribe | PacketKind::Disconnect)
        {
            return true;
        }
        let mut out = Vec::new();
        match frame.kind {
            PacketKind::Subscribe => self.on_subscribe(id, version, frame),
            PacketKind::Publish => {
                let publish = Publish::decode(frame, version, Direction::FromClient).unwrap();
                self.on_publish(id, version, &publish);
                if self.script.throw_out == Some(self.published) {
                    self.script.throw_out = None;
                    return false;
                }
            }
            PacketKind::Pubrec => encode_pubrel(&mut out, ack()),
            PacketKind::Pubrel => encode_pubcomp(&mut out, ack()),
            PacketKind::Pingreq => {
                self.pings += 1;
                encode_pingresp(&mut out);
            }
            PacketKind::Disconnect => return false,
            _ => {}
        }
        if let Some(client) = self.clients.get_mut(&id) {
            client.send(&out);
        }
        true
    }

    fn on_subscribe(&mut self, id: usize, version: Version, frame: &Frame<'_>) {
        let subscribe = Subscribe::decode(frame, version).unwrap();
        let client = self.clients.get_mut(&id).unwrap();
        let mut reasons = Vec::new();
        let mut wants_sys = false;
        for line in subscribe.filters.iter() {
            let limits = TopicLimits {
                size_max: 1000,
                levels_max: 100,
            };
            let qos = line
                .options
                .qos
                .min(self.script.grant.unwrap_or(QoS::ExactlyOnce));
            let filter = TopicFilter::parse(line.filter, &limits).unwrap();
            wants_sys |= line.filter.starts_with("$SYS");
            client.subscriptions.push((filter, qos));
            reasons.push(match (self.script.refuse_subscribe, qos) {
                (true, _) => ReasonCode::NotAuthorized,
                (false, QoS::AtMostOnce) => ReasonCode::GrantedQos0,
                (false, QoS::AtLeastOnce) => ReasonCode::GrantedQos1,
                (false, QoS::ExactlyOnce) => ReasonCode::GrantedQos2,
            });
        }
        let mut out = Vec::new();
        Suback {
            packet_id: subscribe.packet_id,
            reasons: Reasons::listed(&reasons),
            properties: Default::default(),
        }
        .encode(version, &mut out);
        client.send(&out);
        if wants_sys && self.script.sys.is_some() {
            self.publish_sys(self.script.sys_retained);
        } else if let Some((topic, payload)) = &self.script.foreign {
            let message = Message {
                topic: topic.as_bytes(),
                payload: payload.clone(),
                qos: QoS::AtMostOnce,
                ..Message::default()
            };
            let bytes = client.encode(&message);
            client.send(&bytes);
        }
    }

    fn publish_sys(&mut self, retain: bool) {
        let values = [
            ("$SYS/broker/version", "scripted version 1".to_owned()),
            (
                "$SYS/broker/publish/messages/received",
                self.published.to_string(),
            ),
        ];
        for client in self.clients.values_mut() {
            for (topic, value) in &values {
                if client
                    .subscriptions
                    .iter()
                    .any(|(filter, _)| filter.matches(topic.as_bytes()))
                {
                    let message = Message {
                        topic: topic.as_bytes(),
                        payload: value.clone().into_bytes(),
                        retain,
                        qos: QoS::AtMostOnce,
                        ..Message::default()
                    };
                    let bytes = client.encode(&message);
                    client.send(&bytes);
                }
            }
        }
    }

    fn on_publish(&mut self, id: usize, version: Version, publish: &Publish<'_>) {
        if publish.retain && publish.payload.is_empty() {
            std::thread::sleep(self.script.removal);
            self.retained.fetch_sub(1, Ordering::SeqCst);
            return;
        }
        if publish.retain {
            self.retained.fetch_add(1, Ordering::SeqCst);
        }
        self.published += 1;
        let number = self.published;
        if self.script.garble == Some(number) {
            self.clients.get_mut(&id).unwrap().send(&[0xF7; 20]);
        }
        if self.script.ignore.contains(&number) {
            return;
        }
        let refused = self.script.refuse_publish.contains(&number);
        if let Some(packet_id) = publish
            .packet_id
            .filter(|_| !self.script.no_acknowledgements)
        {
            let mut out = Vec::new();
            match (refused, publish.qos) {
                (true, QoS::AtLeastOnce) => Ack::with_reason(packet_id, ReasonCode::QuotaExceeded)
                    .encode(ringmq_core::codec::AckKind::Puback, version, &mut out),
                (true, _) => Ack::with_reason(packet_id, ReasonCode::QuotaExceeded).encode(
                    ringmq_core::codec::AckKind::Pubrec,
                    version,
                    &mut out,
                ),
                (false, QoS::AtLeastOnce) => encode_puback(&mut out, packet_id),
                (false, _) => encode_pubrec(&mut out, packet_id),
            }
            self.clients.get_mut(&id).unwrap().send(&out);
        }
        let thrown_out = self.script.throw_out == Some(number);
        if refused || thrown_out || publish.payload.is_empty() {
            return;
        }
        let mut targets: Vec<(usize, QoS)> = Vec::new();
        for (id, client) in &self.clients {
            let matching = client
                .subscriptions
                .iter()
                .find(|(filter, _)| filter.matches(publish.topic));
            if let Some((_, qos)) = matching {
                targets.push((*id, publish.qos.min(*qos)));
            }
        }
        targets.sort_unstable_by_key(|(id, _)| *id);
        for (id, qos) in targets {
            self.deliver(id, qos, publish);
        }
    }

    fn deliver(&mut self, id: usize, qos: QoS, publish: &Publish<'_>) {
        self.delivered += 1;
        let number = self.delivered;
        let script = &self.script;
        if let Some((at, span)) = script.stall
            && at == number
        {
            std::thread::sleep(span);
        }
        if script.close_all == Some(number) {
            for client in self.clients.values() {
                let _ = client.stream.shutdown(Shutdown::Both);
            }
            self.clients.clear();
            if self.script.refuse_again {
                self.script.refuse = Some(ReasonCode::ServerUnavailable);
            }
        }
        if self
            .script
            .sys
            .is_some_and(|every| number.is_multiple_of(every))
        {
            self.publish_sys(false);
        }
        let script = &self.script;
        if script.lose.contains(&number) {
            return;
        }
        let mut payload = publish.payload.to_vec();
        if script.corrupt_header.contains(&number) {
            payload[5] ^= 0x10;
        }
        if script.corrupt_body.contains(&number) {
            payload[40] ^= 1;
        }
        if script.truncate.contains(&number) {
            payload.truncate(payload.len() - 3);
        }
        let mut message = Message {
            topic: if script.wrong_topic.contains(&number) {
                b"elsewhere"
            } else {
                publish.topic
            },
            payload,
            qos: if script.wrong_qos.contains(&number) {
                QoS::AtMostOnce
            } else {
                qos
            },
            dup: false,
            retain: script.live_retain.contains(&number),
            alias: script.alias.contains(&number),
            subscription_id: script.subscription_id.contains(&number),
        };
        if script.misroute.contains(&number) {
            for client in self
                .clients
                .values_mut()
                .filter(|client| !client.subscriptions.is_empty())
            {
                let bytes = client.encode(&message);
                client.send(&bytes);
            }
            return;
        }
        let (twice, again, held) = (
            script.duplicate.contains(&number),
            script.repeat.contains(&number),
            script.swap.contains(&number),
        );
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let mut bytes = client.encode(&message);
        if twice {
            // The second copy is a message of its own, as a broker without memory would send it.
            let second = client.encode(&message);
            bytes.extend_from_slice(&second);
        }
        if again {
            message.dup = true;
            let second = client.encode(&message);
            bytes.extend_from_slice(&second);
        }
        if held {
            client.held = Some(bytes);
            return;
        }
        if let Some(last) = script.gather.filter(|last| *last >= number) {
            self.gathered.push((id, bytes));
            if last == number {
                for (id, bytes) in collect(std::mem::take(&mut self.gathered)) {
                    if let Some(client) = self.clients.get_mut(&id) {
                        client.send(&bytes);
                    }
                }
            }
            return;
        }
        if let Some(span) = script.delay.get(&number).copied() {
            let mut stream = client.stream.try_clone().unwrap();
            std::thread::spawn(move || {
                std::thread::sleep(span);
                let _ = stream.write_all(&bytes);
            });
            return;
        }
        if let Some(held) = client.held.take() {
            bytes.extend_from_slice(&held);
        }
        client.send(&bytes);
    }
}

/// The bytes of each client in one piece.
fn collect(gathered: Vec<(usize, Vec<u8>)>) -> BTreeMap<usize, Vec<u8>> {
    let mut pieces: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
    for (id, bytes) in gathered {
        pieces.entry(id).or_default().extend_from_slice(&bytes);
    }
    pieces
}

#[derive(Default)]
struct Message<'a> {
    topic: &'a [u8],
    payload: Vec<u8>,
    qos: QoS,
    dup: bool,
    retain: bool,
    alias: bool,
    subscription_id: bool,
}

impl Client {
    fn encode(&mut self, message: &Message<'_>) -> Vec<u8> {
        let packet_id = if message.qos == QoS::AtMostOnce {
            None
        } else {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            PacketId::new(self.last_id)
        };
        let mut bytes = Vec::new();
        let ids = [1];
        let mut properties = PublishProperties {
            topic_alias: message.alias.then_some(1),
            ..PublishProperties::default()
        };
        if message.subscription_id {
            properties.subscription_ids = SubscriptionIds::listed(&ids);
        }
        Publish {
            dup: message.dup,
            qos: message.qos,
            retain: message.retain,
            topic: message.topic,
            packet_id,
            properties,
            payload: &message.payload,
        }
        .encode(self.version, &mut bytes);
        bytes
    }

    fn send(&mut self, bytes: &[u8]) {
        // A client that is gone is noticed by its reader.
        let _ = self.stream.write_all(bytes);
    }
}
