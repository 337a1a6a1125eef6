//! What a shard counts.

/// Why a message did not reach a client that was subscribed to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DropReason {
    /// QoS 0, and the client's socket takes bytes too slowly (`unsent_bytes_max`).
    SlowSocket,
    /// QoS 1 or 2, and the client's queue is full (`queued_messages_max`, `queued_bytes_max`).
    QueueFull,
    /// Larger than the client's Maximum Packet Size [MQTT-3.1.2-25].
    PacketTooLarge,
    /// Its expiry passed before it was sent [MQTT-3.3.2-5].
    Expired,
    /// The retained store is full (`retained_messages_max`, `retained_bytes_max`).
    RetainedFull,
}

impl DropReason {
    /// How many reasons there are.
    pub const COUNT: usize = 5;
    /// All of them, in the order of [`Metrics::dropped`].
    pub const ALL: [DropReason; DropReason::COUNT] = [
        DropReason::SlowSocket,
        DropReason::QueueFull,
        DropReason::PacketTooLarge,
        DropReason::Expired,
        DropReason::RetainedFull,
    ];
}

/// Counters of one shard since its start. They only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Connections accepted by the listener of this shard or handed to it.
    pub connections: u64,
    /// Connections handed to another shard.
    pub handovers: u64,
    /// CONNECT packets answered with success.
    pub connects: u64,
    /// CONNECT packets refused.
    pub connects_refused: u64,
    /// Connections closed by a protocol violation of the client.
    pub violations: u64,
    /// Sessions taken over by a second connection.
    pub takeovers: u64,
    /// Clients lost to their keep alive.
    pub keep_alive_timeouts: u64,
    /// PUBLISH packets received, by QoS.
    pub publishes_received: [u64; 3],
    /// Messages handed to a client's connection, by QoS.
    pub publishes_sent: [u64; 3],
    /// Messages sent to other shards.
    pub forwards_sent: u64,
    /// Messages that came from other shards.
    pub forwards_received: u64,
    /// Forwards that no subscription of this shard wanted.
    pub forwards_useless: u64,
    /// Wills published.
    pub wills_published: u64,
    /// Sessions that expired.
    pub sessions_expired: u64,
    /// Messages not delivered, by [`DropReason`].
    pub dropped: [u64; DropReason::COUNT],
}

impl Metrics {
    /// Counts a message that is not delivered.
    pub fn drop(&mut self, reason: DropReason) {
        self.dropped[reason as usize] += 1;
    }
}

/// How much of everything a shard holds at a moment. All are zero once every client has gone, every
/// session has ended and every retained message is deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Connections in any state.
    pub connections: usize,
    /// Sessions, connected or not.
    pub sessions: usize,
    /// Subscriptions of all sessions.
    pub subscriptions: usize,
    /// Messages in queues.
    pub queued_messages: usize,
    /// Bytes in queues.
    pub queued_bytes: u64,
    /// QoS 1 and 2 exchanges towards clients.
    pub inflight: usize,
    /// QoS 2 exchanges from clients.
    pub receipts: usize,
    /// Retained messages.
    pub retained: usize,
    /// Wills of sessions.
    pub wills: usize,
    /// Timers that are set.
    pub timers: usize,
    /// Retained gathers under way.
    pub gathers: usize,
    /// Memory of the packets that have arrived in part.
    pub partial_bytes: u64,
    /// Bytes that wait for sockets.
    pub unsent_bytes: u64,
}
