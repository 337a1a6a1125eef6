//! Sessions: what the broker keeps for a client, connected or not.

mod alias;
pub(crate) mod gather;
mod queue;
mod receipts;
mod standing;
mod table;
mod will;
mod window;

use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::HashSet;

pub use alias::{AliasUse, InboundAliases, OutboundAliases};
pub use gather::Feed;
pub use queue::{Delivery, Grounds, Queue};
pub use receipts::Receipts;
pub use standing::Standing;
pub use table::Sessions;
pub use will::Will;
pub use window::{AckError, Resend, Window, WindowRooms};

use crate::auth::{Identity, METHOD, ScramStep};
use crate::codec::{Framer, Version};
use crate::connection::Egress;
use crate::ids::GroupId;
use crate::ids::{ClientKey, ConnId};
use crate::message::Author;
use crate::rate::Pace;
use crate::time::Instant;
use crate::topic::TopicFilter;

/// One session [MQTT-4.1.0-1].
///
/// Invariants:
/// - `expires_at` and `will_at` are set only while `link` is `None`, and each has its timer.
/// - a session whose `expiry` is zero has a link: it ends with its connection.
#[derive(Debug)]
pub struct Session {
    /// Identifies the session among all shards [MQTT-3.1.3-2].
    pub client_id: Box<str>,
    /// Keyed hash of `client_id`.
    pub key: ClientKey,
    /// Whom the session belongs to: nobody else may resume it.
    pub identity: Arc<Identity>,
    /// The same for retained messages that it publishes; made when it is first needed.
    pub author: Option<Arc<Author>>,
    /// Version of the present or the last connection.
    pub version: Version,
    /// How long the session outlives its connection.
    pub expiry: Expiry,
    /// The connection; `None` while the client is away.
    pub link: Option<Link>,
    /// Filters subscribed to; their options are in the index.
    pub subscriptions: HashSet<TopicFilter, FixedState>,
    /// QoS 1 and 2 on the way out.
    pub window: Window,
    /// Behind the window.
    pub queue: Queue,
    /// QoS 2 on the way in.
    pub receipts: Receipts,
    /// Published when the client is lost.
    pub will: Option<Box<Will>>,
    /// When an away session ends.
    pub expires_at: Option<Instant>,
    /// When the will of an away session is published.
    pub will_at: Option<Instant>,
    /// Subscriptions whose retained messages are still being gathered or sent.
    pub feed: Option<Box<Feed>>,
    /// `None`: never was in a group of a shared subscription.
    pub memberships: Option<Box<Memberships>>,
}

/// The groups that a session is in.
#[derive(Debug)]
pub struct Memberships {
    /// What the groups were last told of the session.
    pub standing: Standing,
    /// The groups; perhaps none any more, while messages of former ones are still under way.
    // No secret seed: groups are numbered by the shard.
    pub groups: HashSet<GroupId, FixedState>,
}

/// How long a session outlives its connection [MQTT-3.1.2-23].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Not at all.
    WithConnection,
    /// For this long.
    After(Duration),
}

impl Expiry {
    /// From a Session Expiry Interval in seconds, bounded by `max_s`. "Never" (0xFFFFFFFF) is
    /// bounded like any other unless the bound is "never" too.
    pub fn from_seconds(seconds: u32, max_s: u32) -> Expiry {
        match seconds.min(max_s) {
            0 => Expiry::WithConnection,
            u32::MAX => Expiry::After(Duration::MAX),
            bounded => Expiry::After(Duration::from_secs(u64::from(bounded))),
        }
    }
}

/// The connection of a session.
#[derive(Debug)]
pub struct Link {
    /// Which connection.
    pub conn: ConnId,
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

impl Session {
    /// Something waits until the client can take it.
    pub fn is_owed(&self) -> bool {
        !self.queue.is_empty() || self.window.has_resends() || self.feed.is_some()
    }

    /// Messages are kept for a next connection.
    pub fn outlives_connection(&self) -> bool {
        self.expiry != Expiry::WithConnection
    }
}
