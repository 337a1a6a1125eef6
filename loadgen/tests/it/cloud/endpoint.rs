//! An endpoint that keeps to the limits of a cloud's service: it closes or refuses as the service
//! does, and notes why.

use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ringload::cloud::Service;
use ringload::cloud::limits::{Limits, Rule};
use ringload::cloud::sas::Key;
use ringmq_core::codec::{
    Connack, Connect, Direction, Frame, FrameRules, Framer, PACKET_SIZE_MAX, PacketKind, Publish,
    PublishProperties, QoS, ReasonCode, Reasons, Suback, Subscribe, Version, encode_pingresp,
    encode_puback,
};
use ringmq_core::ids::PacketId;
use ringmq_core::topic::{TopicFilter, TopicLimits};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

/// What a service is emulated with.
#[derive(Clone, Debug)]
pub struct Setup {
    pub service: Service,
    /// The name of the endpoint.
    pub name: &'static str,
    /// It is on port 443 in truth.
    pub is_https: bool,
    /// Of the devices, or of a policy of this name.
    pub key: Key,
    pub policy: Option<&'static str>,
}

/// An endpoint that runs until the test ends.
#[derive(Debug)]
pub struct Endpoint {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    refused: Vec<Rule>,
    published: u64,
    /// By client id: where deliveries go, and what it subscribed to.
    clients: HashMap<String, Reader>,
    connects: u64,
}

#[derive(Debug)]
struct Reader {
    number: u64,
    deliveries: Sender<Delivery>,
    filters: Vec<(TopicFilter, QoS)>,
}

#[derive(Clone, Debug)]
struct Delivery {
    topic: Vec<u8>,
    payload: Vec<u8>,
    qos: QoS,
}

impl Endpoint {
    /// With `server.pem`, `server.key` and `ca.pem` from a folder.
    pub fn start(setup: Setup, folder: &Path) -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let config = Arc::new(server_config(folder));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (state, setup) = (shared.clone(), setup.clone());
                let (config, stream) = (config.clone(), stream.unwrap());
                std::thread::spawn(move || {
                    if let Err(Some(rule)) = serve(&setup, config, stream, &state) {
                        state.lock().unwrap().refused.push(rule);
                    }
                });
            }
        });
        Endpoint { port, state }
    }

    /// What it refused, each once.
    pub fn refused(&self) -> Vec<Rule> {
        let mut rules = self.state.lock().unwrap().refused.clone();
        rules.sort_unstable();
        rules.dedup();
        rules
    }

    pub fn published(&self) -> u64 {
        self.state.lock().unwrap().published
    }
}

fn server_config(folder: &Path) -> ServerConfig {
    let read = |name: &str| CertificateDer::pem_file_iter(folder.join(name)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(read("ca.pem").map(Result::unwrap));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            read("server.pem").map(Result::unwrap).collect(),
            PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"x-amzn-mqtt-ca".to_vec(), b"mqtt".to_vec()];
    config
}

/// Why a connection is closed: a rule, or nothing that is the client's fault.
type Closed = Option<Rule>;

fn serve(
    setup: &Setup,
    config: Arc<ServerConfig>,
    mut stream: TcpStream,
    state: &Mutex<State>,
) -> Result<(), Closed> {
    stream.set_nodelay(true).unwrap();
    let mut tls = ServerConnection::new(config).unwrap();
    while tls.is_handshaking() {
        // Who leaves meanwhile has broken no rule: ringload ends once another client was refused.
        tls.complete_io(&mut stream)
            .map_err(|error| (error.kind() == ErrorKind::InvalidData).then_some(Rule::Tls))?;
    }
    if tls.server_name() != Some(setup.name) {
        return Err(Some(Rule::Sni));
    }
    let has_certificate = tls.peer_certificates().is_some();
    let alpn: &[u8] = if has_certificate {
        b"x-amzn-mqtt-ca"
    } else {
        b"mqtt"
    };
    if setup.is_https && tls.alpn_protocol() != Some(alpn) {
        return Err(Some(Rule::Alpn));
    }
    stream.set_read_timeout(Some(TICK)).unwrap();
    let (sender, deliveries) = mpsc::channel();
    let mut client = Client {
        setup,
        limits: setup.service.limits(),
        has_certificate,
        stream: StreamOwned::new(tls, stream),
        state,
        sender,
        deliveries,
        version: None,
        id: String::new(),
        number: 0,
        ends_at_s: u64::MAX,
        held: Vec::new(),
        held_since: Instant::now(),
        recent: VecDeque::new(),
        last_id: 0,
    };
    let served = client.serve();
    client.forget();
    served
}

struct Client<'a> {
    setup: &'a Setup,
    limits: &'static Limits,
    has_certificate: bool,
    stream: StreamOwned<ServerConnection, TcpStream>,
    state: &'a Mutex<State>,
    sender: Sender<Delivery>,
    deliveries: Receiver<Delivery>,
    version: Option<Version>,
    id: String,
    /// Of this connection.
    number: u64,
    /// When its token ends.
    ends_at_s: u64,
    /// PUBACKs that are held back, as far away services do.
    held: Vec<PacketId>,
    held_since: Instant,
    /// Publications of the last second: when, and how large.
    recent: VecDeque<(Instant, usize)>,
    last_id: u16,
}

impl Client<'_> {
    fn serve(&mut self) -> Result<(), Closed> {
        let mut framer = Framer::default();
        let mut buffer = [0; 65_536];
        loop {
            let size = match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(size) => size,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    0
                }
                Err(_) => return Ok(()),
            };
            let mut bytes = &buffer[..size];
            loop {
                let rules = FrameRules {
                    version: self.version,
                    size_max: PACKET_SIZE_MAX,
                    direction: Direction::FromClient,
                };
                let Some(frame) = framer.next(&mut bytes, &rules).map_err(|_| None)? else {
                    break;
                };
                match self.version {
                    None => self.on_connect(&frame)?,
                    Some(version) => self.on_frame(&frame, version)?,
                }
            }
            self.tick()?;
        }
    }

    fn tick(&mut self) -> Result<(), Closed> {
        if now_s() > self.ends_at_s {
            return Err(Some(Rule::Token));
        }
        let is_current = self
            .state
            .lock()
            .unwrap()
            .clients
            .get(&self.id)
            .map(|c| c.number);
        if self.version.is_some() && is_current != Some(self.number) {
            return Err(Some(Rule::Twice));
        }
        let mut out = Vec::new();
        if self.held_since.elapsed() >= HOLD {
            self.held_since = Instant::now();
            for id in self.held.drain(..) {
                encode_puback(&mut out, id);
            }
        }
        while let Ok(delivery) = self.deliveries.try_recv() {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            Publish {
                dup: false,
                qos: delivery.qos,
                retain: false,
                topic: &delivery.topic,
                packet_id: (delivery.qos > QoS::AtMostOnce)
                    .then(|| PacketId::new(self.last_id).unwrap()),
                properties: PublishProperties::default(),
                payload: &delivery.payload,
            }
            .encode(self.version.unwrap(), &mut out);
        }
        self.send(&out)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Closed> {
        let sent = self
            .stream
            .write_all(bytes)
            .and_then(|()| self.stream.flush());
        sent.map_err(|_| None)
    }

    fn forget(&mut self) {
        let mut state = self.state.lock().unwrap();
        if state
            .clients
            .get(&self.id)
            .is_some_and(|c| c.number == self.number)
        {
            state.clients.remove(&self.id);
        }
        self.stream.conn.send_close_notify();
    }

    fn on_connect(&mut self, frame: &Frame<'_>) -> Result<(), Closed> {
        let connect = Connect::decode(frame).map_err(|_| None)?;
        let (setup, limits) = (self.setup, self.limits);
        let check = |is_right: bool, rule: Rule| match is_right {
            true => Ok(()),
            false => Err(Some(rule)),
        };
        check(limits.versions.contains(&connect.version), Rule::Protocol)?;
        let id = connect.client_id;
        check(
            !id.is_empty() && id.len() <= limits.client_id_size_max,
            Rule::ClientId,
        )?;
        let user = connect.user_name.unwrap_or_default();
        match setup.service {
            Service::AwsIotCore => {
                check(self.has_certificate || !user.is_empty(), Rule::Identity)?;
            }
            Service::AzureEventGrid => check(self.has_certificate, Rule::Identity)?,
            Service::AzureIotHub => {
                let form = format!("{}/{id}/?api-version=", setup.name);
                check(user.starts_with(&form), Rule::User)?;
                let token = std::str::from_utf8(connect.password.unwrap_or_default());
                let end = until(setup, id, token.unwrap_or_default());
                check(self.has_certificate || end.is_some(), Rule::Identity)?;
                self.ends_at_s = end.unwrap_or(u64::MAX);
            }
        }
        let is_alive = connect.keep_alive <= limits.keep_alive_max_s;
        check(
            is_alive || !limits.rules.contains(&Rule::KeepAlive),
            Rule::KeepAlive,
        )?;
        self.version = Some(connect.version);
        self.id = id.to_owned();
        let mut connack = Connack::new(false, ReasonCode::Success);
        let most_s = limits.session_max_s.unwrap_or(u64::MAX);
        let kept_s = connect.properties.session_expiry_s.unwrap_or(0);
        let mut state = self.state.lock().unwrap();
        if connect.version == Version::V5 && u64::from(kept_s) > most_s {
            // It is not refused: it becomes shorter.
            state.refused.push(Rule::Session);
            connack.properties.session_expiry_s = Some(most_s as u32);
        }
        state.connects += 1;
        self.number = state.connects;
        let reader = Reader {
            number: self.number,
            deliveries: self.sender.clone(),
            filters: Vec::new(),
        };
        // The one before finds out that it is no more.
        state.clients.insert(self.id.clone(), reader);
        drop(state);
        let mut out = Vec::new();
        connack.encode(connect.version, &mut out);
        self.send(&out)
    }

    fn on_frame(&mut self, frame: &Frame<'_>, version: Version) -> Result<(), Closed> {
        match frame.kind {
            PacketKind::Subscribe => self.on_subscribe(frame, version),
            PacketKind::Publish => {
                let publish = Publish::decode(frame, version, Direction::FromClient);
                self.on_publish(&publish.map_err(|_| None)?)
            }
            PacketKind::Pingreq => {
                let mut out = Vec::new();
                encode_pingresp(&mut out);
                self.send(&out)
            }
            PacketKind::Disconnect => Err(None),
            _ => Ok(()),
        }
    }

    fn on_publish(&mut self, publish: &Publish<'_>) -> Result<(), Closed> {
        let topic = std::str::from_utf8(publish.topic).map_err(|_| None)?;
        let is_aws = self.setup.service == Service::AwsIotCore;
        if publish.qos == QoS::ExactlyOnce {
            // One of them never answers, the others close.
            self.state.lock().unwrap().refused.push(Rule::Qos);
            return if is_aws { Ok(()) } else { Err(None) };
        }
        if publish.payload.len() as u64 > self.limits.payload_max {
            return Err(Some(Rule::Payload));
        }
        let own = format!("devices/{}/messages/events/", self.id);
        let is_own = self.setup.service != Service::AzureIotHub || topic.starts_with(&own);
        if topic.len() > self.limits.topic_size_max || self.is_deep(topic) || !is_own {
            return Err(Some(Rule::Topic));
        }
        let size = publish.payload.len() as u64;
        if publish.retain && self.limits.retained_max.is_some_and(|most| size > most) {
            return Err(Some(Rule::Retain));
        }
        self.count(publish.payload.len())?;
        if let Some(id) = publish.packet_id {
            if self.held.is_empty() {
                self.held_since = Instant::now();
            }
            self.held.push(id);
            let most = self.limits.inflight_max.map_or(usize::MAX, usize::from);
            if self.held.len() > most {
                return Err(Some(Rule::Inflight));
            }
        }
        self.pass_on(publish);
        Ok(())
    }

    /// Counts what came within a second.
    fn count(&mut self, size: usize) -> Result<(), Closed> {
        let now = Instant::now();
        self.recent.push_back((now, size));
        while self
            .recent
            .front()
            .is_some_and(|(at, _)| now - *at >= Duration::from_secs(1))
        {
            self.recent.pop_front();
        }
        // Late ones come together: that is not the fault of who sends evenly.
        let spare = 1.5;
        let bytes: usize = self.recent.iter().map(|(_, size)| size).sum();
        let rate_max = self.limits.rate_max.unwrap_or(f64::MAX) * spare;
        if self.recent.len() as f64 > rate_max {
            return Err(Some(Rule::Rate));
        }
        let bandwidth_max = self.limits.bandwidth_max.unwrap_or(f64::MAX) * spare;
        if bytes as f64 > bandwidth_max {
            return Err(Some(Rule::Bandwidth));
        }
        Ok(())
    }

    fn pass_on(&self, publish: &Publish<'_>) {
        let mut state = self.state.lock().unwrap();
        state.published += 1;
        for reader in state.clients.values() {
            let matches = |(filter, _): &&(TopicFilter, QoS)| filter.matches(publish.topic);
            if let Some((_, qos)) = reader.filters.iter().find(matches) {
                let delivery = Delivery {
                    topic: publish.topic.to_vec(),
                    payload: publish.payload.to_vec(),
                    qos: publish.qos.min(*qos),
                };
                let _ = reader.deliveries.send(delivery);
            }
        }
    }

    fn is_deep(&self, topic: &str) -> bool {
        let slashes = topic.bytes().filter(|byte| *byte == b'/').count();
        self.limits.slashes_max.is_some_and(|most| slashes > most)
    }

    fn on_subscribe(&mut self, frame: &Frame<'_>, version: Version) -> Result<(), Closed> {
        let subscribe = Subscribe::decode(frame, version).map_err(|_| None)?;
        let mut filters = Vec::new();
        let mut reasons = Vec::new();
        let own = format!("devices/{}/messages/devicebound/#", self.id);
        for line in subscribe.filters.iter() {
            let is_right = match self.setup.service {
                Service::AwsIotCore => !self.is_deep(line.filter),
                Service::AzureEventGrid => !line.filter.starts_with("$share/"),
                Service::AzureIotHub => line.filter == own || line.filter.starts_with("$iothub/"),
            };
            if !is_right {
                return Err(Some(Rule::Filter));
            }
            if line.options.qos == QoS::ExactlyOnce {
                return Err(Some(Rule::Qos));
            }
            let limits = TopicLimits {
                size_max: 1000,
                levels_max: 100,
            };
            filters.push((
                TopicFilter::parse(line.filter, &limits).unwrap(),
                line.options.qos,
            ));
            reasons.push(match line.options.qos {
                QoS::AtMostOnce => ReasonCode::GrantedQos0,
                QoS::AtLeastOnce | QoS::ExactlyOnce => ReasonCode::GrantedQos1,
            });
        }
        if self
            .limits
            .filters_max
            .is_some_and(|most| filters.len() > most)
        {
            return Err(Some(Rule::Filter));
        }
        if let Some(reader) = self.state.lock().unwrap().clients.get_mut(&self.id) {
            reader.filters.extend(filters);
        }
        let mut out = Vec::new();
        Suback {
            packet_id: subscribe.packet_id,
            reasons: Reasons::listed(&reasons),
            properties: Default::default(),
        }
        .encode(version, &mut out);
        self.send(&out)
    }
}

/// When a token ends, if it is one for this device, signed by the right key and not over.
fn until(setup: &Setup, device: &str, token: &str) -> Option<u64> {
    let fields = token.strip_prefix("SharedAccessSignature ")?;
    let fields: HashMap<&str, &str> = fields
        .split('&')
        .filter_map(|f| f.split_once('='))
        .collect();
    let resource = *fields.get("sr")?;
    let until_s: u64 = fields.get("se")?.parse().ok()?;
    let wanted = match setup.policy {
        Some(_) => setup.name.to_owned(),
        None => format!("{}%2Fdevices%2F{device}", setup.name),
    };
    let signature = setup.key.signature(resource, until_s);
    let signature = signature
        .replace('+', "%2B")
        .replace('/', "%2F")
        .replace('=', "%3D");
    let is_right = resource == wanted
        && *fields.get("sig")? == signature
        && fields.get("skn").copied() == setup.policy
        && until_s > now_s();
    is_right.then_some(until_s)
}

fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

const TICK: Duration = Duration::from_millis(5);
/// How long acknowledgements take.
const HOLD: Duration = Duration::from_millis(100);
