//! Sessions: what the broker keeps for a client, connected or not.

mod alias;
mod counts;
mod delivery;
pub(crate) mod gather;
mod held;
mod link;
mod losses;
mod queue;
mod receipts;
mod restore;
mod standing;
mod table;
#[cfg(test)]
mod testing;
mod unsettled;
mod will;
mod window;

use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::HashSet;

pub use alias::{AliasUse, InboundAliases, OutboundAliases};
pub use counts::LinkCounts;
pub use delivery::{Delivery, KeptMatch};
pub use gather::Feed;
pub use held::{HeldAnswers, Until};
pub use link::{Link, Pause, Pauses, Reauth};
pub use losses::{LossTally, Losses};
pub use queue::Queue;
pub use receipts::Receipts;
pub use restore::{restore, unsettled};
pub use standing::Standing;
pub use table::Sessions;
pub use unsettled::Unsettled;
pub use will::Will;
pub use window::{
    AckError, Acknowledged, GivenUp, LogProgress, PubrelDue, Resend, Window, WindowRooms,
};

use crate::auth::Identity;
use crate::codec::Version;
use crate::ids::ClientKey;
use crate::ids::{GroupId, SessionNo, TurnSeq};
use crate::message::Author;
use crate::time::Instant;
use crate::topic::TopicFilter;
use crate::trace_set::TraceSet;

/// One session [MQTT-4.1.0-1].
///
/// Invariants:
/// - `expires_at` and `will_at` are set only while `link` is `None`, and each has its timer.
/// - a session whose `expiry` is zero has a link: it ends with its connection.
#[derive(Debug)]
pub struct Session {
    /// Identifies the session among all shards [MQTT-3.1.3-2].
    pub client_id: Box<str>,
    /// What it is called in the log; `None`: it ends with its connection, or nothing is recorded.
    pub no: Option<SessionNo>,
    /// The last turn in which something was recorded or posted for it: its answers wait for that.
    pub turn: TurnSeq,
    /// The last turn in which it took a message of QoS 2, which is sent when that is durable.
    pub taken_in: TurnSeq,
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
    /// What its client has lost.
    pub losses: Losses,
    /// `None`: never was in a group of a shared subscription.
    pub memberships: Option<Box<Memberships>>,
    /// The traces that it belongs to.
    pub traced: TraceSet,
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

impl Session {
    /// Something waits until the client can take it.
    pub fn is_owed(&self) -> bool {
        !self.queue.is_empty() || self.window.has_resends() || self.feed.is_some()
    }

    /// Messages are kept for a next connection.
    pub fn outlives_connection(&self) -> bool {
        self.expiry != Expiry::WithConnection
    }

    /// Panics if an invariant does not hold. Walks all that the session holds: for tests and the simulator.
    pub fn assert_invariants(&self) {
        self.window.assert_invariants(self.queue.next_to_send());
        self.queue.assert_invariants();
        self.receipts.assert_invariants();
        if let Some(feed) = &self.feed {
            feed.assert_invariants();
        }
        if self.link.is_some() {
            let is_timed = self.expires_at.is_some() || self.will_at.is_some();
            assert!(!is_timed, "a session does not end under its client");
        } else {
            assert!(self.outlives_connection(), "it ends with its connection");
            let open = (self.window.open(), self.receipts.open());
            assert_eq!(open, (0, 0), "an exchange is open on a connection");
            assert!(
                self.window.is_empty() || self.window.has_resends(),
                "what is open goes again on the next connection"
            );
        }
        assert!(
            self.will_at.is_none() || self.will.is_some(),
            "a will that is due has not been published"
        );
        if self.outlives_connection() {
            self.window.assert_kept();
        }
    }
}
