//! One rumqttc connection whose events can be awaited, the same for both protocol versions.
//!
//! A task polls the library's event loop and hands on what it saw; it ends with the connection,
//! because polling once more would connect again.

use std::fmt;
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS as Qos5;
use rumqttc::v5::mqttbytes::v5 as packet5;
use rumqttc::{QoS, v5};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub use packet5::{Filter, PublishProperties, RetainForwardRule};

/// Why a scenario failed, for a person to read.
pub type Fault = String;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V311,
    V5,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Version::V311 => "3.1.1",
            Version::V5 => "5.0",
        })
    }
}

/// Where one run of a scenario happens: the broker, the version, and client ids and topics of its
/// own.
pub struct Place {
    pub host: String,
    pub port: u16,
    pub version: Version,
    pub tag: String,
}

/// How a client connects; the default is a clean session that ends with the connection.
#[derive(Clone, Default)]
pub struct Options {
    pub keep_session: bool,
    pub keep_alive: Option<Duration>,
    pub will: Option<Will>,
    /// MQTT 5.0: seconds; 300 for a kept session by default.
    pub session_expiry_s: Option<u32>,
    /// MQTT 5.0.
    pub topic_alias_max: Option<u16>,
    /// Name and password in place of those of the environment.
    pub user: Option<(String, String)>,
}

#[derive(Clone)]
pub struct Will {
    pub topic: String,
    pub payload: &'static str,
    pub qos: u8,
    pub retain: bool,
}

/// A received PUBLISH.
#[derive(Clone, Debug)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    /// Empty in MQTT 3.1.1.
    pub properties: PublishProperties,
}

impl Message {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
}

pub struct Client {
    requests: Requests,
    seen: mpsc::UnboundedReceiver<Seen>,
    poll: JoinHandle<()>,
    messages: Vec<Message>,
    connected: Option<bool>,
    /// SUBACKs and UNSUBACKs, as their codes in text.
    answers: Vec<String>,
    /// PUBACKs and PUBCOMPs, and publishes at QoS 0 that were written.
    settled: usize,
    sent: usize,
    closed: Option<String>,
}

enum Requests {
    V311(rumqttc::AsyncClient),
    V5(v5::AsyncClient),
}

enum Seen {
    Connected { session_present: bool },
    Answer(String),
    Settled,
    Message(Message),
    Closed(String),
}

/// User name and password, where `scripts/test-clients` says that users log in.
pub fn user() -> Option<(String, String)> {
    Some((
        std::env::var("MQTT_USER").ok()?,
        std::env::var("MQTT_PASSWORD").ok()?,
    ))
}

/// The listener that `scripts/test-clients` describes in the environment.
fn scheme() -> String {
    std::env::var("MQTT_SCHEME").unwrap_or_else(|_| "mqtt".to_owned())
}

fn transport() -> rumqttc::Transport {
    let read = |name: &str| {
        let path = std::env::var(name).ok()?;
        Some(std::fs::read(path).expect("the file that the environment names"))
    };
    let ca = || read("MQTT_CA").expect("MQTT_CA names a file");
    let own = read("MQTT_CERT").zip(read("MQTT_KEY"));
    match scheme().as_str() {
        "mqtts" => rumqttc::Transport::tls(ca(), own, Some(vec![b"mqtt".to_vec()])),
        "wss" => rumqttc::Transport::wss(ca(), own, None),
        "ws" => rumqttc::Transport::Ws,
        _ => rumqttc::Transport::Tcp,
    }
}

impl Place {
    pub fn topic(&self, rest: &str) -> String {
        format!("{}/{rest}", self.tag)
    }

    pub async fn client(&self, name: &str) -> Result<Client, Fault> {
        self.client_with(name, Options::default()).await
    }

    /// Connects; CONNACK 0 is here once this returns.
    pub async fn client_with(&self, name: &str, options: Options) -> Result<Client, Fault> {
        let id = format!("{}-{name}", self.tag);
        let (sender, seen) = mpsc::unbounded_channel();
        let (requests, poll) = match self.version {
            Version::V311 => {
                let (requests, events) =
                    rumqttc::AsyncClient::new(self.options311(id, options), REQUESTS_MAX);
                (
                    Requests::V311(requests),
                    tokio::spawn(poll311(events, sender)),
                )
            }
            Version::V5 => {
                let (requests, events) =
                    v5::AsyncClient::new(self.options5(id, options), REQUESTS_MAX);
                (Requests::V5(requests), tokio::spawn(poll5(events, sender)))
            }
        };
        let mut client = Client {
            requests,
            seen,
            poll,
            messages: Vec::new(),
            connected: None,
            answers: Vec::new(),
            settled: 0,
            sent: 0,
            closed: None,
        };
        client
            .wait("CONNACK", |client| client.connected.is_some())
            .await?;
        Ok(client)
    }

    /// The library wants a URL for WebSocket, and a host otherwise.
    fn address(&self) -> String {
        match scheme().as_str() {
            scheme @ ("ws" | "wss") => format!("{scheme}://{}:{}/mqtt", self.host, self.port),
            _ => self.host.clone(),
        }
    }

    fn options311(&self, id: String, options: Options) -> rumqttc::MqttOptions {
        let mut result = rumqttc::MqttOptions::new(id, self.address(), self.port);
        result
            .set_transport(transport())
            .set_clean_session(!options.keep_session)
            .set_max_packet_size(PACKET_SIZE_MAX, PACKET_SIZE_MAX)
            .set_inflight(INFLIGHT_MAX);
        if let Some((name, password)) = options.user.or_else(user) {
            result.set_credentials(name, password);
        }
        if let Some(interval) = options.keep_alive {
            result.set_keep_alive(interval);
        }
        if let Some(will) = options.will {
            result.set_last_will(rumqttc::LastWill::new(
                will.topic,
                will.payload,
                qos(will.qos),
                will.retain,
            ));
        }
        result
    }

    fn options5(&self, id: String, options: Options) -> v5::MqttOptions {
        let mut result = v5::MqttOptions::new(id, self.address(), self.port);
        result.set_transport(transport());
        let expiry_s = options
            .session_expiry_s
            .or(options.keep_session.then_some(300));
        result
            .set_clean_start(!options.keep_session)
            .set_max_packet_size(Some(PACKET_SIZE_MAX as u32))
            .set_session_expiry_interval(expiry_s)
            .set_topic_alias_max(options.topic_alias_max)
            .set_outgoing_inflight_upper_limit(INFLIGHT_MAX);
        if let Some((name, password)) = options.user.or_else(user) {
            result.set_credentials(name, password);
        }
        if let Some(interval) = options.keep_alive {
            // The library refuses less than 5 s here.
            result.set_keep_alive(interval.max(Duration::from_secs(5)));
        }
        if let Some(will) = options.will {
            result.set_last_will(packet5::LastWill::new(
                will.topic,
                will.payload,
                qos5(will.qos),
                will.retain,
                None,
            ));
        }
        result
    }
}

impl Client {
    pub fn session_present(&self) -> bool {
        self.connected == Some(true)
    }

    pub fn closed(&self) -> Option<&str> {
        self.closed.as_deref()
    }

    /// Subscribes and returns the codes of the SUBACK in text, such as `[Success(AtLeastOnce)]`.
    pub async fn subscribe(&mut self, filter: &str, level: u8) -> Result<String, Fault> {
        match &self.requests {
            Requests::V311(requests) => requests
                .subscribe(filter, qos(level))
                .await
                .map_err(fault)?,
            Requests::V5(requests) => requests
                .subscribe(filter, qos5(level))
                .await
                .map_err(fault)?,
        }
        self.answer("SUBACK").await
    }

    /// MQTT 5.0: subscribes with every option and maybe an identifier.
    pub async fn subscribe5(&mut self, filter: Filter, id: Option<usize>) -> Result<String, Fault> {
        let requests = self.v5()?;
        match id {
            None => requests.subscribe_many([filter]).await.map_err(fault)?,
            Some(_) => {
                let properties = packet5::SubscribeProperties {
                    id,
                    user_properties: Vec::new(),
                };
                requests
                    .subscribe_many_with_properties([filter], properties)
                    .await
                    .map_err(fault)?;
            }
        }
        self.answer("SUBACK").await
    }

    pub async fn unsubscribe(&mut self, filter: &str) -> Result<String, Fault> {
        match &self.requests {
            Requests::V311(requests) => requests.unsubscribe(filter).await.map_err(fault)?,
            Requests::V5(requests) => requests.unsubscribe(filter).await.map_err(fault)?,
        }
        self.answer("UNSUBACK").await
    }

    /// Hands a publish to the library without waiting for its acknowledgement.
    pub async fn send(
        &mut self,
        topic: &str,
        payload: &[u8],
        level: u8,
        retain: bool,
    ) -> Result<(), Fault> {
        self.sent += 1;
        match &self.requests {
            Requests::V311(requests) => requests
                .publish(topic, qos(level), retain, payload)
                .await
                .map_err(fault),
            Requests::V5(requests) => requests
                .publish(topic, qos5(level), retain, payload.to_vec())
                .await
                .map_err(fault),
        }
    }

    /// MQTT 5.0: like `send`, at QoS 1 and with properties.
    pub async fn send5(
        &mut self,
        topic: &str,
        payload: &[u8],
        properties: PublishProperties,
    ) -> Result<(), Fault> {
        self.sent += 1;
        let payload = payload.to_vec();
        self.v5()?
            .publish_with_properties(topic, Qos5::AtLeastOnce, false, payload, properties)
            .await
            .map_err(fault)
    }

    /// Waits until every publish so far is acknowledged (QoS 0: written).
    pub async fn settle(&mut self) -> Result<(), Fault> {
        self.wait("acknowledgements", |client| client.settled >= client.sent)
            .await
    }

    pub async fn publish(&mut self, topic: &str, payload: &[u8], level: u8) -> Result<(), Fault> {
        self.send(topic, payload, level, false).await?;
        self.settle().await
    }

    pub async fn publish_retained(&mut self, topic: &str, payload: &[u8]) -> Result<(), Fault> {
        self.send(topic, payload, 1, true).await?;
        self.settle().await
    }

    /// Waits for `count` messages and takes everything that is there.
    pub async fn receive(&mut self, count: usize) -> Result<Vec<Message>, Fault> {
        self.wait(&format!("{count} messages"), |client| {
            client.messages.len() >= count
        })
        .await?;
        Ok(std::mem::take(&mut self.messages))
    }

    /// Waits for a message with the payload [`MARKER`] and takes what came before it.
    pub async fn receive_until_marker(&mut self) -> Result<Vec<Message>, Fault> {
        let is_marker = |message: &Message| message.payload == MARKER;
        self.wait("marker", |client| client.messages.iter().any(is_marker))
            .await?;
        let mut taken = std::mem::take(&mut self.messages);
        check(taken.pop().is_some_and(|last| is_marker(&last)), || {
            "the marker is not the last message".into()
        })?;
        Ok(taken)
    }

    /// Ends the connection without DISCONNECT.
    pub async fn cut(mut self) {
        self.poll.abort();
        // The socket is closed when the task, which owns it, is gone.
        drop((&mut self.poll).await);
    }

    /// Sends DISCONNECT and waits for the end of the connection.
    pub async fn close(mut self) -> Result<(), Fault> {
        match &self.requests {
            Requests::V311(requests) => requests.disconnect().await.map_err(fault)?,
            Requests::V5(requests) => requests.disconnect().await.map_err(fault)?,
        }
        self.wait_closed().await.map(drop)
    }

    /// Waits for the end of the connection; why it ended, in the library's words.
    pub async fn wait_closed(&mut self) -> Result<String, Fault> {
        loop {
            match &self.closed {
                Some(why) => return Ok(why.clone()),
                None => self.next("end of the connection").await?,
            }
        }
    }

    async fn answer(&mut self, what: &str) -> Result<String, Fault> {
        self.wait(what, |client| !client.answers.is_empty()).await?;
        Ok(self.answers.remove(0))
    }

    async fn wait(&mut self, what: &str, done: impl Fn(&Client) -> bool) -> Result<(), Fault> {
        while !done(self) {
            if let Some(why) = &self.closed {
                return Err(format!("connection ended ({why}) before {what}"));
            }
            self.next(what).await?;
        }
        Ok(())
    }

    async fn next(&mut self, what: &str) -> Result<(), Fault> {
        let late = || {
            format!(
                "no {what} within {WAIT:?}; {} messages are here",
                self.messages.len()
            )
        };
        match tokio::time::timeout(WAIT, self.seen.recv())
            .await
            .map_err(|_| late())?
        {
            Some(Seen::Connected { session_present }) => self.connected = Some(session_present),
            Some(Seen::Answer(codes)) => self.answers.push(codes),
            Some(Seen::Settled) => self.settled += 1,
            Some(Seen::Message(message)) => self.messages.push(message),
            Some(Seen::Closed(why)) => self.closed = Some(why),
            None => return Err(format!("the event loop is gone before {what}")),
        }
        Ok(())
    }

    fn v5(&self) -> Result<&v5::AsyncClient, Fault> {
        match &self.requests {
            Requests::V311(_) => Err("a scenario of MQTT 5.0 on a 3.1.1 connection".into()),
            Requests::V5(requests) => Ok(requests),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.poll.abort();
    }
}

async fn poll311(mut events: rumqttc::EventLoop, sender: mpsc::UnboundedSender<Seen>) {
    use rumqttc::{Event, Outgoing, Packet};
    loop {
        let seen = match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(ack))) => Seen::Connected {
                session_present: ack.session_present,
            },
            Ok(Event::Incoming(Packet::SubAck(ack))) => {
                Seen::Answer(format!("{:?}", ack.return_codes))
            }
            Ok(Event::Incoming(Packet::UnsubAck(_))) => Seen::Answer("[]".into()),
            Ok(
                Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_))
                | Event::Outgoing(Outgoing::Publish(0)),
            ) => Seen::Settled,
            Ok(Event::Incoming(Packet::Publish(publish))) => Seen::Message(Message {
                topic: publish.topic,
                payload: publish.payload.to_vec(),
                qos: publish.qos as u8,
                retain: publish.retain,
                properties: PublishProperties::default(),
            }),
            Ok(_) => continue,
            Err(why) => Seen::Closed(why.to_string()),
        };
        if hand_on(&sender, seen).is_none() {
            return;
        }
    }
}

async fn poll5(mut events: v5::EventLoop, sender: mpsc::UnboundedSender<Seen>) {
    use packet5::Packet;
    use rumqttc::Outgoing;
    use v5::Event;
    loop {
        let seen = match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(ack))) => Seen::Connected {
                session_present: ack.session_present,
            },
            Ok(Event::Incoming(Packet::SubAck(ack))) => {
                Seen::Answer(format!("{:?}", ack.return_codes))
            }
            Ok(Event::Incoming(Packet::UnsubAck(ack))) => {
                Seen::Answer(format!("{:?}", ack.reasons))
            }
            Ok(
                Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_))
                | Event::Outgoing(Outgoing::Publish(0)),
            ) => Seen::Settled,
            Ok(Event::Incoming(Packet::Publish(publish))) => Seen::Message(Message {
                topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                payload: publish.payload.to_vec(),
                qos: publish.qos as u8,
                retain: publish.retain,
                properties: publish.properties.unwrap_or_default(),
            }),
            Ok(_) => continue,
            Err(why) => Seen::Closed(why.to_string()),
        };
        if hand_on(&sender, seen).is_none() {
            return;
        }
    }
}

/// `None` when polling must stop: after the end of the connection, or when nobody listens any more.
fn hand_on(sender: &mpsc::UnboundedSender<Seen>, seen: Seen) -> Option<()> {
    let goes_on = !matches!(seen, Seen::Closed(_));
    sender.send(seen).ok()?;
    goes_on.then_some(())
}

pub fn check(holds: bool, what: impl FnOnce() -> Fault) -> Result<(), Fault> {
    if holds { Ok(()) } else { Err(what()) }
}

pub fn check_equal<T: PartialEq + fmt::Debug>(
    actual: T,
    expected: T,
    what: &str,
) -> Result<(), Fault> {
    check(actual == expected, || {
        format!("{what}: {actual:?} instead of {expected:?}")
    })
}

fn fault(error: impl fmt::Display) -> Fault {
    error.to_string()
}

fn qos(level: u8) -> QoS {
    match level {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}

pub fn qos5(level: u8) -> Qos5 {
    match level {
        0 => Qos5::AtMostOnce,
        1 => Qos5::AtLeastOnce,
        _ => Qos5::ExactlyOnce,
    }
}

/// The payload that ends what a scenario sends.
pub const MARKER: &[u8] = b"end";
const WAIT: Duration = Duration::from_secs(12);
const REQUESTS_MAX: usize = 200;
const PACKET_SIZE_MAX: usize = 1 << 20;
/// Below the receive maximum of every usual broker: MQTT 3.1.1 has no way to say it.
const INFLIGHT_MAX: u16 = 15;
