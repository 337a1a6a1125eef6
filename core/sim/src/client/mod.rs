//! A client of the broker, and the rules to which it holds the broker: `connecting` (CONNECT,
//! sessions, DISCONNECT), `publishing` (messages to the broker), `receiving` (messages from it),
//! `subscribing`.
//!
//! Invariants:
//! - `outgoing` is in the order of first transmission, and so is what is sent again;
//! - a packet identifier is in use exactly while its exchange is open.
//!
//! Not here: which messages are owed (`oracle`), what the client does next (`workload.rs`).

mod connecting;
mod publishing;
mod receiving;
mod session;
mod subscribing;

pub use connecting::RUN_MAX;
pub use publishing::AliasWish;
pub use session::Past;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ringmq_core::codec::{QoS, Version};
use ringmq_core::time::Instant;

use self::session::Session;
use crate::broken::Broken;
use crate::link::LinkIndex;
use crate::message::{MessageIndex, Tick};
use crate::oracle::Oracle;
use crate::pipe::Pipe;
use crate::tamper::Sabotage;
use crate::wire::{self, Ack, Packet, Reader, SubscribeOptions};

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
        /// Up to when the broker had then enforced the deadlines of absent clients.
        judged_until: Instant,
    },
    Open,
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

/// What the world has to know about a packet that a client got.
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

    pub fn ping(&mut self, now: Instant) {
        self.pings.push_back(self.unconfirmed.len());
        self.write(&wire::pingreq(), now);
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
                ack: Ack::Pubrel,
                packet_id,
                reason: _,
            } => self.on_pubrel(packet_id, put_off, oracle)?,
            Packet::Ack {
                ack,
                packet_id,
                reason,
            } => self.on_ack(ack, packet_id, reason, put_off, oracle)?,
            Packet::Suback { packet_id, codes } => self.on_suback(packet_id, &codes, oracle)?,
            Packet::Unsuback { packet_id, codes } => self.on_unsuback(packet_id, &codes, oracle)?,
            Packet::Pingresp => self.on_pingresp(oracle)?,
            // Whether the broker had a reason is checked where it closes the link.
            Packet::Disconnect { reason: _ } => {}
        }
        Ok(Outcome::Nothing)
    }

    /// The broker has read everything that was written before the PINGREQ.
    fn on_pingresp(&mut self, oracle: &mut Oracle) -> Result<(), Broken> {
        let Some(covered) = self.pings.pop_front() else {
            return Err(self.broken("PINGRESP answers PINGREQ", "no ping is open"));
        };
        for message in self.unconfirmed.drain(..covered) {
            oracle.settled(message);
        }
        for later in &mut self.pings {
            *later -= covered;
        }
        Ok(())
    }

    fn broken(&self, promise: &'static str, detail: impl std::fmt::Debug) -> Broken {
        Broken::new(promise, format!("{}: {detail:?}", self.name))
    }
}

/// Packet identifiers that a client uses; more than it can have open.
const PACKET_IDS: u16 = 60;
