//! Every bound of a shard, in one place. Each queue, table, loop and retry of the core names its
//! bound here; the command line and the configuration file fill this struct.

use std::time::Duration;

use crate::codec::QoS;

/// The bounds of one shard. All shards of a broker share one value.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Time from accept to a complete CONNECT; then the connection is closed. Absolute: bytes that
    /// trickle in do not extend it.
    pub connect_deadline: Duration,
    /// Largest CONNECT packet in bytes. A client that has not been let in yet may not make the
    /// broker hold more than this.
    pub connect_size_max: u32,
    /// Largest packet in bytes that a client may send, fixed header included [MQTT-3.2.2-15].
    pub packet_size_max: u32,
    /// Longest client identifier in bytes.
    pub client_id_size_max: u16,
    /// Longest topic name or topic filter in bytes.
    pub topic_size_max: u16,
    /// Most levels of a topic name or topic filter.
    pub topic_levels_max: u16,
    /// Most subscriptions of one client.
    pub subscriptions_max: u32,
    /// Keep alive imposed on clients that ask for more or for none (0 = no cap), in seconds.
    pub keep_alive_max_s: u16,
    /// Longest session expiry in seconds; MQTT 3.1.1 sessions with clean session 0 get it too.
    pub session_expiry_max_s: u32,
    /// QoS 1 and 2 messages in flight to a client that names no Receive Maximum.
    pub inflight_messages_max: u16,
    /// Bytes of the messages in flight to a client, as far as they are kept for a reconnect. One
    /// message may always be.
    pub inflight_bytes_max: u32,
    /// QoS 2 messages a client may have open towards the broker; the Receive Maximum of CONNACK.
    pub receive_maximum: u16,
    /// Close a client that exceeds the Receive Maximum (0x93); off: tolerate it up to 65,535.
    pub receive_maximum_enforced: bool,
    /// QoS 1 and 2 messages that wait for one client, beyond those in flight.
    pub queued_messages_max: u32,
    /// Bytes of the messages that wait for one client.
    pub queued_bytes_max: u32,
    /// QoS 1 and 2 messages that wait for all clients of one shard together.
    pub total_queued_messages_max: u32,
    /// Bytes of the messages that wait for all clients of one shard or are in flight to them and kept
    /// for a reconnect.
    pub total_queued_bytes_max: u64,
    /// Unsent bytes of one connection above which QoS 0 messages to it are dropped.
    pub unsent_bytes_max: u32,
    /// Unsent bytes of all connections of one shard; above, a connection to which a good deal waits
    /// to be sent counts as if it had `unsent_bytes_max`.
    pub total_unsent_bytes_max: u64,
    /// Bytes of packets that have arrived in part, over all connections of one shard. Above, the
    /// connection that adds to them is closed, unless its own part is small.
    pub partial_bytes_max: u64,
    /// Topic aliases a client may use towards the broker; 0 turns them off.
    pub topic_alias_max: u16,
    /// Topic aliases that the broker uses towards a client that takes as many; 0 turns them off.
    pub topic_alias_outbound_max: u16,
    /// Refuse payloads that claim to be UTF-8 and are not (0x99). Off: nothing looks into payloads,
    /// which costs their bytes a second reading.
    pub payload_format_checked: bool,
    /// Retained messages of one shard.
    pub retained_messages_max: u32,
    /// Bytes of the retained messages of one shard.
    pub retained_bytes_max: u64,
    /// Retained messages that a shard prepares for one subscription at a time.
    pub retained_page_max: u32,
    /// Sessions of one shard, connected or not.
    pub sessions_max: u32,
    /// User properties of a CONNECT, a will or a PUBLISH.
    pub user_properties_max: u32,
    /// PUBLISH packets per second of one client, after a burst of as many; 0: any.
    pub message_rate_max: u32,
    /// Bytes per second of one client, after a burst of as many; 0: any.
    pub byte_rate_max: u32,
    /// What happens to a client that sends more than that.
    pub rate_exceeded: RateExceeded,
    /// Highest QoS that clients may publish with and are granted [MQTT-3.2.2-9].
    pub qos_max: QoS,
    /// Clients may publish retained messages.
    pub retain_available: bool,
    /// Clients may subscribe with wildcards.
    pub wildcards_available: bool,
    /// Response Information for clients that ask for it, with `%c` for the client identifier; empty:
    /// none.
    pub response_information: Box<str>,
    /// Where clients find another server; empty: nowhere.
    pub server_reference: Box<str>,
    /// Which clients are sent there.
    pub server_redirect: Redirect,
    /// Shared subscriptions may be made.
    pub share_available: bool,
    /// How a shared subscription chooses the member that gets a message.
    pub share_strategy: ShareStrategy,
    /// While no member of a shared subscription is connected, QoS 1 and 2 messages wait for one
    /// whose session is kept; off: they are dropped.
    pub share_queued_while_away: bool,
}

/// How a shared subscription chooses the member that gets a message. Each passes over members that
/// are away, out of quota or slow as long as there is a better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareStrategy {
    /// Members take turns, in a sequence of each publisher's shard.
    RoundRobin,
    /// Anyone.
    Random,
    /// Always the one who joined first.
    Sticky,
    /// By a hash of the publisher's client identifier.
    HashClient,
    /// By a hash of the topic name.
    HashTopic,
    /// Shards take turns, and on each the member with the fewest messages in flight gets it.
    LeastInFlight,
}

impl ShareStrategy {
    /// All of them.
    pub const ALL: [ShareStrategy; 6] = [
        ShareStrategy::RoundRobin,
        ShareStrategy::Random,
        ShareStrategy::Sticky,
        ShareStrategy::HashClient,
        ShareStrategy::HashTopic,
        ShareStrategy::LeastInFlight,
    ];

    /// Its name in settings.
    pub const fn name(self) -> &'static str {
        match self {
            ShareStrategy::RoundRobin => "round-robin",
            ShareStrategy::Random => "random",
            ShareStrategy::Sticky => "sticky",
            ShareStrategy::HashClient => "hash-client",
            ShareStrategy::HashTopic => "hash-topic",
            ShareStrategy::LeastInFlight => "least-in-flight",
        }
    }
}

impl Limits {
    /// Some rate of clients is bounded.
    pub fn has_rates(&self) -> bool {
        self.message_rate_max > 0 || self.byte_rate_max > 0
    }
}

/// What happens to a client that sends more per second than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateExceeded {
    /// Its socket is read less: it is slowed down, and nothing is lost.
    Slow,
    /// It is told (0x96), and closed.
    Disconnect,
}

impl RateExceeded {
    /// All of them.
    pub const ALL: [RateExceeded; 2] = [RateExceeded::Slow, RateExceeded::Disconnect];

    /// Its name in settings.
    pub const fn name(self) -> &'static str {
        match self {
            RateExceeded::Slow => "slow",
            RateExceeded::Disconnect => "disconnect",
        }
    }
}

/// Which clients are sent to another server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirect {
    /// Those for whom there is no room here, if there is another server.
    WhenFull,
    /// All, for the time being.
    Temporarily,
    /// All, for good.
    Permanently,
}

impl Redirect {
    /// All of them.
    pub const ALL: [Redirect; 3] = [
        Redirect::WhenFull,
        Redirect::Temporarily,
        Redirect::Permanently,
    ];

    /// Its name in settings.
    pub const fn name(self) -> &'static str {
        match self {
            Redirect::WhenFull => "when-full",
            Redirect::Temporarily => "temporarily",
            Redirect::Permanently => "permanently",
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connect_deadline: Duration::from_secs(10),
            connect_size_max: 64 * 1024,
            packet_size_max: 1024 * 1024,
            client_id_size_max: 256,
            topic_size_max: 4096,
            topic_levels_max: 128,
            subscriptions_max: 10_000,
            keep_alive_max_s: 0,
            session_expiry_max_s: 7 * 24 * 3600,
            inflight_messages_max: 1024,
            inflight_bytes_max: 8 * 1024 * 1024,
            receive_maximum: 1024,
            receive_maximum_enforced: true,
            queued_messages_max: 10_000,
            queued_bytes_max: 8 * 1024 * 1024,
            total_queued_messages_max: 10_000_000,
            total_queued_bytes_max: 1024 * 1024 * 1024,
            // One packet of the largest size can wait while another one is being sent.
            unsent_bytes_max: 2 * 1024 * 1024,
            total_unsent_bytes_max: 1024 * 1024 * 1024,
            partial_bytes_max: 64 * 1024 * 1024,
            topic_alias_max: 1024,
            topic_alias_outbound_max: 16,
            payload_format_checked: false,
            retained_messages_max: 1_000_000,
            retained_bytes_max: 1024 * 1024 * 1024,
            retained_page_max: 256,
            sessions_max: 10_000_000,
            user_properties_max: 256,
            message_rate_max: 0,
            byte_rate_max: 0,
            rate_exceeded: RateExceeded::Slow,
            qos_max: QoS::ExactlyOnce,
            retain_available: true,
            wildcards_available: true,
            response_information: Box::default(),
            server_reference: Box::default(),
            server_redirect: Redirect::WhenFull,
            share_available: true,
            share_strategy: ShareStrategy::RoundRobin,
            share_queued_while_away: true,
        }
    }
}
