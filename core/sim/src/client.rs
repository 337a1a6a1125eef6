//! A client of the broker: its session, its connection, and the rules it holds the broker to.
//!
//! Invariants:
//! - `outgoing` is in the order of first transmission, and so is what is sent again;
//! - a packet identifier is in use exactly while its exchange is open.
//!
//! Not here: which messages are owed (`oracle.rs`), what the client does next (`world.rs`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use ringmq_core::codec::{QoS, Version};
use ringmq_core::time::Instant;

use crate::link::{Link, LinkIndex};
use crate::oracle::{Broken, MessageIndex, Oracle, Tick};
use crate::pipe::Pipe;
use crate::subscription::Subscription;
use crate::tamper::Sabotage;
use crate::wire::{self, Ack, Connack, Delivery, Packet, Reader, SubscribeOptions};

/// What does not change about a client.
#[derive(Clone, Debug)]
pub struct Traits {
    pub version: Version,
    /// Session expiry that it asks for, and the one that holds; 0: the session ends with the
    /// connection.
    pub session_expiry_asked_s: u32,
    pub session_expiry_s: u32,
    pub receive_maximum: Option<u16>,
    /// QoS 1 and 2 messages that the broker may have open towards it.
    pub inflight_max: u16,
    /// Keep alive that it asks for, and the one that holds.
    pub keep_alive_asked_s: u16,
    pub keep_alive_s: u16,
    pub topic_alias_max: u16,
    /// QoS of its subscriptions to retained topics, so that their deliveries have one order.
    pub value_qos: QoS,
    pub ack_later_percent: u64,
}

/// One client.
#[derive(Debug)]
pub struct Client {
    pub index: usize,
    pub name: String,
    pub traits: Traits,
    pub state: State,
    sabotage: Option<Sabotage>,
    /// Bytes that it has written and that the world has not yet put on the link.
    pub to_send: Vec<u8>,
    /// Its latest link, also after it is lost.
    pub link: Option<LinkIndex>,
    pub last_sent_at: Instant,
    pub session: Session,
    reader: Reader,
    /// Connection: what the broker sent at QoS 1 and 2 and is not settled.
    unsettled: BTreeSet<u16>,
    /// Connection: acknowledgements that are put off.
    pub later: VecDeque<(Ack, u16)>,
    requests: BTreeMap<u16, Request>,
    /// Connection: QoS 0 messages that no PINGRESP has confirmed, and how many each PING covers.
    unconfirmed: VecDeque<MessageIndex>,
    pings: VecDeque<usize>,
    resumed: bool,
    aliases_in: BTreeMap<u16, String>,
    aliases_out: BTreeMap<String, u16>,
    alias_out_max: u16,
    receive_maximum_out: u16,
}

/// Whether there is a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Off,
    /// CONNECT is written.
    Connecting {
        clean_start: bool,
        asked_at: Instant,
        /// Up to when the broker had judged then who stays away for too long.
        judged_until: Instant,
    },
    Open,
}

/// What outlives a connection.
#[derive(Debug, Default)]
pub struct Session {
    pub past: Past,
    pub outgoing: VecDeque<Outgoing>,
    /// QoS 2 messages received and not released.
    received: BTreeMap<u16, MessageIndex>,
    last_packet_id: u16,
}

/// What the client knows about its session at the broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Past {
    /// There is none, or an empty one.
    #[default]
    None,
    /// There is one, and the last connection to it ended then.
    Known { lost_at: Instant },
    /// Who knows.
    Doubt,
    /// A CONNECT without answer may have begun a new one: the next CONNECT has a clean start, so
    /// that the two are not taken for each other.
    CleanDoubt,
}

/// A QoS 1 or 2 message on its way to the broker.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing {
    pub packet_id: u16,
    pub message: MessageIndex,
    /// PUBREC came.
    released: bool,
}

/// Whether a PUBLISH uses a topic alias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AliasWish {
    None,
    Use,
    /// An alias that is in use gets another topic.
    Replace,
}

#[derive(Debug)]
enum Request {
    Subscribe {
        request: u64,
        filters: Vec<(String, SubscribeOptions)>,
    },
    Unsubscribe {
        begun: Tick,
        filters: Vec<String>,
    },
}

/// What the world has to know of a packet that a client got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Nothing,
    Connected { session_present: bool },
}

impl Client {
    pub fn new(index: usize, traits: Traits, sabotage: Option<Sabotage>) -> Client {
        Client {
            index,
            name: format!("client-{index}"),
            traits,
            state: State::Off,
            sabotage,
            to_send: Vec::new(),
            link: None,
            last_sent_at: Instant::ZERO,
            session: Session::default(),
            reader: Reader::default(),
            unsettled: BTreeSet::new(),
            later: VecDeque::new(),
            requests: BTreeMap::new(),
            unconfirmed: VecDeque::new(),
            pings: VecDeque::new(),
            resumed: false,
            aliases_in: BTreeMap::new(),
            aliases_out: BTreeMap::new(),
            alias_out_max: 0,
            receive_maximum_out: u16::MAX,
        }
    }

    pub fn v5(&self) -> bool {
        self.traits.version == Version::V5
    }

    /// The client may write packets now.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Nothing is under way in either direction, as far as the client can see.
    pub fn is_settled(&self) -> bool {
        self.is_open()
            && self.session.outgoing.is_empty()
            && self.session.received.is_empty()
            && self.unsettled.is_empty()
            && self.later.is_empty()
            && self.requests.is_empty()
            && self.pings.is_empty()
    }

    /// Every QoS 0 message has been confirmed.
    pub fn is_confirmed(&self) -> bool {
        self.unconfirmed.is_empty()
    }

    pub fn request_count(&self) -> usize {
        self.requests.len()
    }

    /// Writes CONNECT on a link of its own.
    pub fn connect(
        &mut self,
        clean_start: bool,
        will: Option<&wire::Will>,
        judged_until: Instant,
        oracle: &mut Oracle,
    ) {
        self.forget_connection();
        oracle.link_asked(self.index);
        if clean_start {
            self.drop_session(oracle);
        }
        self.state = State::Connecting {
            clean_start,
            asked_at: oracle.now,
            judged_until,
        };
        let mut connect = wire::Connect {
            version: self.traits.version,
            client_id: &self.name,
            clean_start,
            keep_alive_s: self.traits.keep_alive_asked_s,
            session_expiry_s: self.traits.session_expiry_asked_s,
            receive_maximum: self.traits.receive_maximum,
            topic_alias_max: self.traits.topic_alias_max,
            will,
        };
        if let Some(sabotage) = self.sabotage {
            sabotage.connect(&mut connect);
        }
        self.write(&wire::connect(&connect), oracle.now);
    }

    /// The connection is gone, whoever ended it.
    pub fn lose_connection(&mut self, now: Instant) {
        self.session.past = match self.state {
            State::Off => self.session.past,
            State::Open => Past::Known { lost_at: now },
            State::Connecting {
                clean_start: true, ..
            } => Past::CleanDoubt,
            // The unanswered CONNECT may have renewed the session, or begun one.
            State::Connecting { .. } => match self.session.past {
                Past::Known { lost_at } if self.session_expiry() > RUN_MAX => {
                    Past::Known { lost_at }
                }
                Past::None => Past::None,
                Past::Known { .. } | Past::Doubt | Past::CleanDoubt => Past::CleanDoubt,
            },
        };
        self.forget_connection();
    }

    pub fn session_expiry(&self) -> Duration {
        Duration::from_secs(self.traits.session_expiry_s.into())
    }

    fn forget_connection(&mut self) {
        self.state = State::Off;
        self.reader = Reader::default();
        self.to_send.clear();
        self.unsettled.clear();
        self.later.clear();
        self.requests.clear();
        self.unconfirmed.clear();
        self.pings.clear();
        self.aliases_in.clear();
        self.aliases_out.clear();
        self.alias_out_max = 0;
        self.receive_maximum_out = u16::MAX;
    }

    fn drop_session(&mut self, oracle: &mut Oracle) {
        self.session.outgoing.clear();
        self.session.received.clear();
        oracle.session_begun(self.index);
    }

    /// Writes a message. At QoS 1 and 2 it stays in `outgoing` until it is settled.
    pub fn publish(&mut self, message: MessageIndex, alias: AliasWish, oracle: &Oracle) {
        let mut packet_id = 0;
        if oracle.message(message).qos == QoS::AtMostOnce {
            self.unconfirmed.push_back(message);
        } else {
            packet_id = self.free_packet_id();
            self.session.outgoing.push_back(Outgoing {
                packet_id,
                message,
                released: false,
            });
        }
        self.write_publish(message, packet_id, false, alias, oracle);
    }

    /// Whether the broker's Receive Maximum allows one more. Before CONNACK tells it, one is safe.
    pub fn may_publish(&self) -> bool {
        let known = if self.is_open() { OUTGOING_MAX } else { 1 };
        self.session.outgoing.len() < usize::from(self.receive_maximum_out.min(known))
    }

    /// Whether a message on this topic is still on its way.
    pub fn is_publishing_to(&self, topic: &str, oracle: &Oracle) -> bool {
        let mut outgoing = self.session.outgoing.iter();
        outgoing.any(|outgoing| oracle.message(outgoing.message).topic == topic)
    }

    fn write_publish(
        &mut self,
        message: MessageIndex,
        packet_id: u16,
        dup: bool,
        wish: AliasWish,
        oracle: &Oracle,
    ) {
        let message = oracle.message(message);
        let mut topic = message.topic.as_str();
        let mut alias = None;
        let known = self.aliases_out.get(topic).copied();
        let has_free = self.aliases_out.len() < usize::from(self.alias_out_max);
        match (wish, known) {
            (AliasWish::None, _) => {}
            (AliasWish::Use, Some(known)) => {
                alias = Some(known);
                topic = "";
            }
            (AliasWish::Use, None) if has_free => {
                let taken = |alias: &u16| self.aliases_out.values().any(|other| other == alias);
                alias = (1..=self.alias_out_max).find(|alias| !taken(alias));
            }
            // [MQTT-3.3.2-12] An alias that had another topic, or this one.
            (AliasWish::Use, None) | (AliasWish::Replace, _) => {
                alias = self.aliases_out.pop_first().map(|(_, alias)| alias);
            }
        }
        if let Some(alias) = alias.filter(|_| !topic.is_empty()) {
            self.aliases_out.insert(topic.to_owned(), alias);
        }
        let bytes = wire::publish(
            self.traits.version,
            &wire::Publish {
                topic,
                payload: &message.payload,
                qos: message.qos,
                dup,
                retain: message.version.is_some(),
                packet_id,
                alias,
                expiry_s: message.expiry_s,
                label: message.label.as_deref(),
            },
        );
        self.write(&bytes, oracle.now);
    }

    pub fn subscribe(
        &mut self,
        request: u64,
        subscription_id: u32,
        filters: Vec<(String, SubscribeOptions)>,
        oracle: &mut Oracle,
    ) {
        let packet_id = self.free_packet_id();
        let version = self.traits.version;
        let bytes = wire::subscribe(version, packet_id, subscription_id, &filters);
        self.write(&bytes, oracle.now);
        for (filter, options) in &filters {
            oracle.subscribe_begun(
                self.index,
                Subscription::asked(filter.clone(), *options, subscription_id, request),
            );
        }
        self.requests
            .insert(packet_id, Request::Subscribe { request, filters });
    }

    pub fn unsubscribe(&mut self, filters: Vec<String>, oracle: &mut Oracle) {
        let packet_id = self.free_packet_id();
        let bytes = wire::unsubscribe(self.traits.version, packet_id, &filters);
        self.write(&bytes, oracle.now);
        for filter in &filters {
            oracle.unsubscribe_begun(self.index, filter);
        }
        let begun = oracle.tick;
        self.requests
            .insert(packet_id, Request::Unsubscribe { begun, filters });
    }

    pub fn ping(&mut self, now: Instant) {
        self.pings.push_back(self.unconfirmed.len());
        self.write(&wire::pingreq(), now);
    }

    pub fn disconnect(&mut self, reason: u8, session_expiry_s: Option<u32>, now: Instant) {
        let reason = self.sabotage.map_or(reason, |s| s.goodbye(reason));
        let bytes = wire::disconnect(self.traits.version, reason, session_expiry_s);
        self.write(&bytes, now);
    }

    /// Sends the oldest acknowledgement that was put off.
    pub fn acknowledge_one(&mut self, now: Instant) {
        if let Some((ack, packet_id)) = self.later.pop_front() {
            self.write_ack(ack, packet_id, now);
        }
    }

    fn acknowledge(&mut self, ack: Ack, packet_id: u16, put_off: bool, now: Instant) {
        // Acknowledgements keep their order [MQTT-4.6.0-2]: none overtakes one that waits.
        if put_off || !self.later.is_empty() {
            self.later.push_back((ack, packet_id));
        } else {
            self.write_ack(ack, packet_id, now);
        }
    }

    fn write_ack(&mut self, ack: Ack, packet_id: u16, now: Instant) {
        match ack {
            Ack::Puback => {
                self.unsettled.remove(&packet_id);
            }
            Ack::Pubcomp => {
                self.unsettled.remove(&packet_id);
                self.session.received.remove(&packet_id);
            }
            Ack::Pubrec | Ack::Pubrel => {}
        }
        self.write(&wire::ack(ack, packet_id), now);
    }

    fn write(&mut self, bytes: &[u8], now: Instant) {
        self.to_send.extend(bytes);
        self.last_sent_at = now;
    }

    fn free_packet_id(&mut self) -> u16 {
        loop {
            // A small range, so that identifiers come back soon.
            self.session.last_packet_id = self.session.last_packet_id % PACKET_IDS + 1;
            let packet_id = self.session.last_packet_id;
            let taken = self
                .session
                .outgoing
                .iter()
                .any(|o| o.packet_id == packet_id)
                || self.requests.contains_key(&packet_id);
            if !taken {
                return packet_id;
            }
        }
    }

    /// Takes `size` bytes in.
    pub fn feed(&mut self, bytes: &mut Pipe, size: usize) {
        self.reader.feed(bytes, size);
    }

    /// The next packet that came whole.
    pub fn next_packet(&mut self) -> Result<Option<Packet>, Broken> {
        let packet = self.reader.next(self.traits.version);
        packet.map_err(|error| self.broken("the broker's packets are valid", error))
    }

    /// Takes in a packet. `put_off`: the acknowledgement it asks for comes later.
    pub fn on_packet(
        &mut self,
        packet: Packet,
        put_off: bool,
        oracle: &mut Oracle,
    ) -> Result<Outcome, Broken> {
        if let State::Connecting { .. } = self.state {
            return match packet {
                Packet::Connack(connack) => self.on_connack(&connack, oracle),
                Packet::Publish(_)
                | Packet::Ack { .. }
                | Packet::Suback { .. }
                | Packet::Unsuback { .. }
                | Packet::Pingresp
                | Packet::Disconnect { .. } => {
                    Err(self.broken("CONNACK comes first", format!("{packet:?}")))
                }
            };
        }
        match packet {
            Packet::Connack(_) => return Err(self.broken("CONNACK comes once", "again")),
            Packet::Publish(delivery) => self.on_publish(delivery, put_off, oracle)?,
            Packet::Ack {
                ack,
                packet_id,
                reason,
            } => self.on_ack(ack, packet_id, reason, put_off, oracle)?,
            Packet::Suback { packet_id, codes } => self.on_suback(packet_id, &codes, oracle)?,
            Packet::Unsuback { packet_id, codes } => self.on_unsuback(packet_id, &codes, oracle)?,
            Packet::Pingresp => {
                let Some(covered) = self.pings.pop_front() else {
                    return Err(self.broken("PINGRESP answers PINGREQ", "no ping is open"));
                };
                for message in self.unconfirmed.drain(..covered) {
                    oracle.settled(message);
                }
                for later in &mut self.pings {
                    *later -= covered;
                }
            }
            // Whether the broker had a reason is judged where it closes the link.
            Packet::Disconnect { reason: _ } => {}
        }
        Ok(Outcome::Nothing)
    }

    fn on_connack(&mut self, connack: &Connack, oracle: &mut Oracle) -> Result<Outcome, Broken> {
        if connack.code != 0 {
            return Err(self.broken("a valid CONNECT is accepted", format!("{connack:?}")));
        }
        let State::Connecting { clean_start, .. } = self.state else {
            unreachable!("the caller saw the state");
        };
        let asked = self.traits.keep_alive_asked_s;
        let held = Some(self.traits.keep_alive_s).filter(|&held| held != asked && self.v5());
        if connack.keep_alive_s != held {
            return Err(self.broken("CONNACK tells the keep alive that holds", connack));
        }
        let asked_s = self.traits.session_expiry_asked_s;
        let held_s = Some(self.traits.session_expiry_s);
        if self.v5() && connack.session_expiry_s != held_s.filter(|&held| held != asked_s) {
            return Err(self.broken("CONNACK tells the session expiry that holds", connack));
        }
        self.state = State::Open;
        self.resumed = connack.session_present;
        self.alias_out_max = connack.topic_alias_max;
        self.receive_maximum_out = connack.receive_maximum;
        oracle.link_opened(self.index);
        if connack.session_present {
            self.resend(oracle);
        } else if !clean_start {
            self.drop_session(oracle);
        }
        Ok(Outcome::Connected {
            session_present: connack.session_present,
        })
    }

    /// [MQTT-4.4.0-1] What is not settled is sent again, in order.
    fn resend(&mut self, oracle: &mut Oracle) {
        for outgoing in self.session.outgoing.clone() {
            if outgoing.released {
                self.write(&wire::ack(Ack::Pubrel, outgoing.packet_id), oracle.now);
            } else {
                oracle.resent(outgoing.message);
                let packet_id = outgoing.packet_id;
                self.write_publish(outgoing.message, packet_id, true, AliasWish::None, oracle);
            }
        }
    }

    fn on_publish(
        &mut self,
        mut delivery: Delivery,
        put_off: bool,
        oracle: &mut Oracle,
    ) -> Result<(), Broken> {
        self.resolve_alias(&mut delivery)?;
        let packet_id = delivery.packet_id;
        if delivery.qos == QoS::AtMostOnce {
            oracle.delivered(self.index, &delivery)?;
            return Ok(());
        }
        if !self.unsettled.insert(packet_id) {
            return Err(self.broken("a packet identifier is free when it is used", delivery));
        }
        if self.unsettled.len() > usize::from(self.traits.inflight_max) {
            return Err(self.broken("the Receive Maximum holds", delivery));
        }
        if delivery.qos == QoS::AtLeastOnce {
            oracle.delivered(self.index, &delivery)?;
            self.acknowledge(Ack::Puback, packet_id, put_off, oracle.now);
            return Ok(());
        }
        match self.session.received.get(&packet_id) {
            None => {
                let message = oracle.delivered(self.index, &delivery)?;
                self.session.received.insert(packet_id, message);
            }
            Some(&known) => {
                let message = oracle.identify(self.index, &delivery)?;
                let deletion = delivery.payload.is_empty();
                if !delivery.dup || message != known && !deletion {
                    return Err(self.broken("a packet identifier keeps its message", delivery));
                }
            }
        }
        self.acknowledge(Ack::Pubrec, packet_id, put_off, oracle.now);
        Ok(())
    }

    fn resolve_alias(&mut self, delivery: &mut Delivery) -> Result<(), Broken> {
        let Some(alias) = delivery.alias else {
            return Ok(());
        };
        if alias == 0 || alias > self.traits.topic_alias_max {
            return Err(self.broken("topic aliases keep within the maximum", alias));
        }
        if delivery.topic.is_empty() {
            let Some(topic) = self.aliases_in.get(&alias) else {
                return Err(self.broken("a topic alias is introduced first", alias));
            };
            delivery.topic.clone_from(topic);
        } else {
            self.aliases_in.insert(alias, delivery.topic.clone());
        }
        Ok(())
    }

    fn on_ack(
        &mut self,
        ack: Ack,
        packet_id: u16,
        reason: u8,
        put_off: bool,
        oracle: &mut Oracle,
    ) -> Result<(), Broken> {
        if ack == Ack::Pubrel {
            // After a resume PUBREL may come for what was settled on the old connection; it does not
            // count against the Receive Maximum of the new one [MQTT-4.9.0-2].
            if !self.unsettled.contains(&packet_id) && !self.resumed {
                return Err(self.broken("PUBREL answers PUBREC", packet_id));
            }
            self.acknowledge(Ack::Pubcomp, packet_id, put_off, oracle.now);
            return Ok(());
        }
        let outgoing = &mut self.session.outgoing;
        let position = outgoing.iter().position(|o| o.packet_id == packet_id);
        let Some(position) = position else {
            return Err(self.broken("acknowledgements match", format!("{ack:?} {packet_id}")));
        };
        let message = outgoing[position].message;
        let matches = match ack {
            Ack::Puback => oracle.message(message).qos == QoS::AtLeastOnce,
            Ack::Pubrec => {
                oracle.message(message).qos == QoS::ExactlyOnce && !outgoing[position].released
            }
            Ack::Pubcomp => outgoing[position].released,
            Ack::Pubrel => unreachable!("handled above"),
        };
        // 0x92: the broker had forgotten the exchange, because the last PUBCOMP was lost.
        let forgotten = ack == Ack::Pubcomp && self.resumed && reason == 0x92;
        if !matches || reason >= 0x80 && !forgotten {
            let detail = format!("{ack:?} {packet_id} with reason {reason:#x}");
            return Err(self.broken("acknowledgements match", detail));
        }
        if ack == Ack::Pubrec {
            outgoing[position].released = true;
            self.acknowledge(Ack::Pubrel, packet_id, put_off, oracle.now);
        } else {
            outgoing.remove(position);
            oracle.settled(message);
        }
        Ok(())
    }

    fn on_suback(
        &mut self,
        packet_id: u16,
        codes: &[u8],
        oracle: &mut Oracle,
    ) -> Result<(), Broken> {
        let Some(Request::Subscribe { request, filters }) = self.requests.remove(&packet_id) else {
            return Err(self.broken("SUBACK answers SUBSCRIBE", packet_id));
        };
        let granted: Vec<u8> = filters
            .iter()
            .map(|(_, options)| options.qos as u8)
            .collect();
        if codes != granted {
            return Err(self.broken("the QoS asked for is granted", format!("{codes:?}")));
        }
        for (filter, _) in &filters {
            oracle.subscribed(self.index, request, filter);
        }
        Ok(())
    }

    fn on_unsuback(
        &mut self,
        packet_id: u16,
        codes: &[u8],
        oracle: &mut Oracle,
    ) -> Result<(), Broken> {
        let Some(Request::Unsubscribe { begun, filters }) = self.requests.remove(&packet_id) else {
            return Err(self.broken("UNSUBACK answers UNSUBSCRIBE", packet_id));
        };
        if self.v5() && codes.len() != filters.len() {
            return Err(self.broken("UNSUBACK has a code for each filter", codes.len()));
        }
        for (position, filter) in filters.iter().enumerate() {
            let existed = oracle.unsubscribed(self.index, filter, begun);
            let expected = existed.map(|existed| if existed { 0 } else { 0x11 });
            let code = codes.get(position).copied();
            if self.v5() && expected.is_some() && expected != code {
                let detail = format!("{code:?} for {filter}, expected {expected:?}");
                return Err(self.broken("UNSUBACK tells whether there was one", detail));
            }
        }
        Ok(())
    }

    /// Judges `session_present` of the CONNACK that just came. `earlier`: this client's links
    /// before, oldest first.
    pub fn check_session_present(
        &self,
        session_present: bool,
        connecting: State,
        earlier: &[&Link],
    ) -> Result<(), Broken> {
        let State::Connecting {
            clean_start,
            asked_at,
            judged_until,
        } = connecting
        else {
            unreachable!("CONNACK came in another state");
        };
        let expiry = self.session_expiry();
        let confirmed = earlier.iter().rev().find(|link| link.confirmed);
        let closed_at = confirmed.and_then(|link| link.closed_at.or(link.ended_at));
        // As long as the broker holds any of them open, the session lives.
        let all_ended = earlier.iter().all(|link| link.ended_at.is_some());
        let ended_at = earlier
            .iter()
            .filter_map(|link| link.ended_at)
            .max()
            .filter(|_| all_ended);
        // The broker may have known earlier than the client that the connection was gone.
        let alive_until = |lost_at: Instant| closed_at.unwrap_or(lost_at).min(lost_at) + expiry;
        let expected = if clean_start {
            Some(false)
        } else {
            match self.session.past {
                Past::None if earlier.is_empty() => Some(false),
                Past::None | Past::Doubt | Past::CleanDoubt => None,
                Past::Known { lost_at } if asked_at < alive_until(lost_at) => Some(true),
                Past::Known { .. } => ended_at
                    .filter(|&at| judged_until > at + expiry + SESSION_SLACK)
                    .map(|_| false),
            }
        };
        if expected.is_none_or(|expected| expected == session_present) {
            return Ok(());
        }
        let detail = format!(
            "CONNACK says {session_present}, past {:?}",
            self.session.past
        );
        Err(self.broken("a session lives exactly as long as it should", detail))
    }

    fn broken(&self, promise: &'static str, detail: impl std::fmt::Debug) -> Broken {
        Broken::new(promise, format!("{}: {detail:?}", self.name))
    }
}

/// Open exchanges of one client: enough for every order of things, few enough to settle soon.
const OUTGOING_MAX: u16 = 20;
/// Packet identifiers that a client uses; more than it can have open.
const PACKET_IDS: u16 = 60;
/// Longer than any run takes: a session with a longer expiry does not end by itself.
pub const RUN_MAX: Duration = Duration::from_secs(1800);
/// Sessions may live that much longer than they have to.
const SESSION_SLACK: Duration = Duration::from_secs(2);
