//! The connection of a session: what it takes, what is on its way to it, and why it is not read.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;

use super::{AliasUse, HeldAnswers, InboundAliases, LinkCounts, OutboundAliases, Until};
use crate::auth::{METHOD, ScramStep};
use crate::codec::{self, Framer, PublishParts, QoS, Version};
use crate::connection::{BufferPool, Egress};
use crate::ids::ConnId;
use crate::rate::Pace;
use crate::time::Instant;

/// The connection of a session.
#[derive(Debug)]
pub struct Link {
    /// Which connection.
    pub conn: ConnId,
    /// Where the client is; `None`: on this machine, at a Unix socket.
    pub peer: Option<SocketAddr>,
    /// When its CONNECT took effect.
    pub since: Instant,
    /// What went over it.
    pub counts: LinkCounts,
    /// The client is a bridge: its subscriptions are No Local and Retain As Published.
    pub is_bridge: bool,
    /// The packet that has arrived in part.
    pub framer: Framer,
    /// What is to be sent.
    pub egress: Egress,
    /// Silence after which the client counts as lost; `None`: never [MQTT-3.1.2-22].
    pub silence_max: Option<Duration>,
    /// Why the shell was asked to read no more.
    pub pauses: Pauses,
    /// How far the client is ahead of the rates of messages and bytes.
    pub message_pace: Pace,
    /// As `message_pace`.
    pub byte_pace: Pace,
    /// When a client that was too fast is read again; there is a timer for it.
    pub paced_until: Option<Instant>,
    /// When the last whole packet came.
    pub last_packet_at: Instant,
    /// When the keep-alive timer fires; it is moved on lazily.
    pub keep_alive_at: Option<Instant>,
    /// PUBLISH packets with QoS 1 and 2 that the client takes at once [MQTT-3.3.4-9].
    pub receive_maximum: u16,
    /// Largest packet that the client takes [MQTT-3.1.2-24].
    pub packet_size_max: u32,
    /// Reason strings are welcome on any packet [MQTT-3.1.2-29].
    pub problem_information: bool,
    /// Session Expiry Interval of CONNECT, in seconds; zero forbids another one in DISCONNECT.
    pub connect_expiry_s: u32,
    /// When what the client has proven holds no longer; there is a timer for it.
    pub expires_at: Option<Instant>,
    /// When its rules are asked for again, or end; there is a timer for it.
    pub lease_at: Option<Instant>,
    /// The shell has been asked for its rules, and has not answered.
    pub lease_is_asked: bool,
    /// How far the client is in proving anew who it is; `None`: CONNECT named no authentication method.
    pub reauth: Option<Reauth>,
    /// Topic aliases of the client; `None` until it sets one.
    pub aliases: Option<Box<InboundAliases>>,
    /// Topic aliases that the broker may set [MQTT-3.1.2-26]; mostly 0.
    pub alias_out_max: u16,
    /// Topic aliases of the broker; `None` until it may set one and has something to send.
    pub aliases_out: Option<Box<OutboundAliases>>,
    /// Answers that wait until they are durable; `None`: none does.
    pub held: Option<Box<HeldAnswers>>,
}

impl Link {
    /// Appends what `encode` writes to the output of the connection. Here and below, `dirty` gets the
    /// connection if its output is to be asked for.
    pub fn write(
        &mut self,
        pool: &mut BufferPool,
        dirty: &mut Vec<ConnId>,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        self.write_packets(pool, dirty, 1, encode);
    }

    /// Appends what `encode` writes, which is so many packets, to the output of the connection.
    pub fn write_packets(
        &mut self,
        pool: &mut BufferPool,
        dirty: &mut Vec<ConnId>,
        count: u32,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        if let Some(held) = &mut self.held
            && held.is_corked()
        {
            held.append_to_connack(count, encode);
            return;
        }
        let buffer = self.egress.buffer(pool);
        let before = buffer.len();
        encode(buffer);
        let size = buffer.len() - before;
        if self.egress.grew_by(count, size, &mut pool.unsent) {
            dirty.push(self.conn);
        }
    }

    /// Appends an answer to the output of the connection: it may wait a little for others to go with. Nothing is
    /// corked.
    pub fn write_answer(
        &mut self,
        pool: &mut BufferPool,
        dirty: &mut Vec<ConnId>,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        let buffer = self.egress.buffer(pool);
        let before = buffer.len();
        encode(buffer);
        let size = buffer.len() - before;
        if self.egress.grew_by_answers(1, size, &mut pool.unsent) {
            dirty.push(self.conn);
        }
    }

    /// Writes one packet now, or holds it back.
    pub fn write_after(
        &mut self,
        until: Option<Until>,
        pool: &mut BufferPool,
        dirty: &mut Vec<ConnId>,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        match until {
            None => self.write(pool, dirty, encode),
            // What is held for a subscriber does not keep it from publishing.
            Some(until) => _ = self.hold(until, encode),
        }
    }

    /// Appends what `encode` writes, with a Reason String if the client wants it [MQTT-3.1.2-29] and
    /// takes the size of the packet with it.
    pub fn write_reasoned(
        &mut self,
        pool: &mut BufferPool,
        dirty: &mut Vec<ConnId>,
        text: &str,
        encode: impl Fn(Option<&str>, &mut Vec<u8>),
    ) {
        let encode = self.reasoned(text, encode);
        self.write(pool, dirty, encode);
    }

    /// What writes a packet with a Reason String if the client wants it and takes its size.
    pub fn reasoned<'a, E: Fn(Option<&str>, &mut Vec<u8>)>(
        &self,
        text: &'a str,
        encode: E,
    ) -> impl FnOnce(&mut Vec<u8>) + use<'a, E> {
        let text = Some(text).filter(|_| self.problem_information);
        let size_max = self.packet_size_max as usize;
        move |buffer| {
            let before = buffer.len();
            encode(text, buffer);
            if text.is_some() && buffer.len() - before > size_max {
                buffer.truncate(before);
                encode(None, buffer);
            }
        }
    }

    /// Holds an answer back. True if the client is to be read no more.
    #[must_use]
    pub fn hold(&mut self, until: Until, encode: impl FnOnce(&mut Vec<u8>)) -> bool {
        let held = self.held.get_or_insert_default();
        held.push(until, 1, encode);
        held.is_too_much()
    }

    /// Everything that is written from here on waits behind a CONNACK.
    pub fn is_corked(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.is_corked())
    }

    /// Bytes that have not left: the socket has not taken them, or they wait for the log.
    pub fn unsent_bytes(&self) -> u32 {
        let held = self.held.as_ref().map_or(0, |held| held.bytes());
        self.egress.unsent_bytes().saturating_add(held as u32)
    }

    /// Puts a topic alias into the parts of a PUBLISH if that is of use. `may_wait`: others may overtake it,
    /// so it introduces none. `None` if the client does not take a packet of its size.
    pub fn admit<'a>(
        &mut self,
        version: Version,
        qos: QoS,
        may_wait: bool,
        mut parts: PublishParts<'a>,
        hasher: &FixedState,
    ) -> Option<PublishParts<'a>> {
        if self.alias_out_max > 0 {
            let max = self.alias_out_max;
            let aliases = self
                .aliases_out
                .get_or_insert_with(|| Box::new(OutboundAliases::new(max, hasher.clone())));
            match aliases.look_up(parts.topic) {
                AliasUse::None => {}
                AliasUse::Known(alias) => {
                    parts.topic = b"";
                    parts.topic_alias = Some(alias);
                }
                AliasUse::Introduce(_) if may_wait => {}
                AliasUse::Introduce(alias) => {
                    let with_alias = PublishParts {
                        topic_alias: Some(alias),
                        ..parts
                    };
                    // Without the alias it may be just small enough.
                    if codec::publish_size(version, qos, &with_alias) <= self.packet_size_max {
                        aliases.introduce(parts.topic);
                        return Some(with_alias);
                    }
                }
            }
        }
        (codec::publish_size(version, qos, &parts) <= self.packet_size_max).then_some(parts)
    }

    /// Adds a reason not to read. True if it is the first: the shell is to be asked to stop.
    #[must_use]
    pub fn pause(&mut self, why: Pause) -> bool {
        let was_read = self.pauses.is_empty();
        self.pauses.insert(why);
        was_read
    }

    /// A reason not to read is gone. True if it was the last: the shell is to be asked to read on.
    #[must_use]
    pub fn resume(&mut self, now: Instant, why: Pause) -> bool {
        if self.pauses.is_empty() {
            return false;
        }
        self.pauses.remove(why);
        if self.pauses.is_empty() {
            // It may have been sending all the while: its silence counts from here.
            self.last_packet_at = now;
        }
        self.pauses.is_empty()
    }
}

/// How far a client is in proving anew who it is, by the authentication method of its CONNECT.
#[derive(Debug)]
pub enum Reauth {
    /// By SCRAM-SHA-256; `None`: it has not begun.
    Scram(Option<ScramStep>),
    /// By a method that the shell judges.
    Shell {
        /// Its name.
        method: Arc<str>,
        /// The shell has been asked.
        is_asked: bool,
    },
}

impl Reauth {
    /// Not begun yet.
    pub fn by(method: &Arc<str>) -> Reauth {
        match &**method {
            METHOD => Reauth::Scram(None),
            _ => Reauth::Shell {
                method: method.clone(),
                is_asked: false,
            },
        }
    }

    /// The authentication method.
    pub fn method(&self) -> &str {
        match self {
            Reauth::Scram(_) => METHOD,
            Reauth::Shell { method, .. } => method,
        }
    }
}

/// A reason not to read a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Pause {
    /// The client does not take its answers.
    Unsent = 1,
    /// The client sends more than it may.
    Pace = 2,
    /// Too many answers wait for the log.
    Log = 4,
}

/// Reasons not to read a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pauses(u8);

impl Pauses {
    /// There is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Adds one.
    pub fn insert(&mut self, why: Pause) {
        self.0 |= why as u8;
    }

    /// Takes one away.
    pub fn remove(&mut self, why: Pause) {
        self.0 &= !(why as u8);
    }
}
