//! The counters of a shard.

use crate::codec::{PublishRun, QoS};
use crate::loss::DropReason;
use crate::refusal::Refusal;

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
    /// Packets of every kind received.
    pub packets_received: u64,
    /// Packets sent that are not PUBLISH.
    pub controls_sent: u64,
    /// Bytes of all packets received here; of a CONNECT where it was accepted.
    pub bytes_received: u64,
    /// Bytes that sockets took.
    pub bytes_sent: u64,
    /// Payload of the PUBLISH packets received.
    pub payload_bytes_received: u64,
    /// Payload of the PUBLISH packets sent.
    pub payload_bytes_sent: u64,
    /// Sessions that expired.
    pub sessions_expired: u64,
    /// Messages not delivered, by [`DropReason`].
    pub dropped: [u64; DropReason::COUNT],
    /// What clients wanted and did not get, by [`Refusal`].
    pub refused: Tally<{ Refusal::COUNT }>,
}

/// One count for each value of an enum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally<const N: usize>(pub [u64; N]);

impl<const N: usize> Default for Tally<N> {
    fn default() -> Tally<N> {
        Tally([0; N])
    }
}

impl Metrics {
    /// Counts a message that is not delivered.
    pub fn drop(&mut self, reason: DropReason) {
        self.dropped[reason as usize] += 1;
    }

    /// Counts a refusal.
    pub fn refuse(&mut self, refusal: Refusal) {
        self.refused.0[refusal as usize] += 1;
    }

    /// Counts a PUBLISH to a client.
    pub fn sent(&mut self, qos: QoS, payload_size: usize) {
        self.publishes_sent[qos as usize] += 1;
        self.payload_bytes_sent += payload_size as u64;
    }

    /// Counts the packets of a run that came from a client.
    pub fn received_run(&mut self, run: &PublishRun<'_>) {
        self.packets_received += u64::from(run.count);
        self.publishes_received[QoS::AtMostOnce as usize] += u64::from(run.count);
        self.payload_bytes_received += run.payload_bytes as u64;
    }

    /// Counts the packets of a run to a client.
    pub fn sent_run(&mut self, run: &PublishRun<'_>) {
        self.publishes_sent[QoS::AtMostOnce as usize] += u64::from(run.count);
        self.payload_bytes_sent += run.payload_bytes as u64;
    }

    /// Connections that listeners accepted. One that moves is counted by both shards.
    pub fn sockets_opened(&self) -> u64 {
        self.connections.saturating_sub(self.handovers)
    }

    /// Packets of every kind sent.
    pub fn packets_sent(&self) -> u64 {
        self.controls_sent + self.publishes_sent.iter().sum::<u64>()
    }

    /// Adds what another shard has counted.
    pub fn add(&mut self, other: &Metrics) {
        let Metrics {
            connections,
            handovers,
            connects,
            connects_refused,
            violations,
            takeovers,
            keep_alive_timeouts,
            publishes_received,
            publishes_sent,
            forwards_sent,
            forwards_received,
            forwards_useless,
            wills_published,
            packets_received,
            controls_sent,
            bytes_received,
            bytes_sent,
            payload_bytes_received,
            payload_bytes_sent,
            sessions_expired,
            dropped,
            refused,
        } = other;
        self.connections += connections;
        self.handovers += handovers;
        self.connects += connects;
        self.connects_refused += connects_refused;
        self.violations += violations;
        self.takeovers += takeovers;
        self.keep_alive_timeouts += keep_alive_timeouts;
        add_each(&mut self.publishes_received, publishes_received);
        add_each(&mut self.publishes_sent, publishes_sent);
        self.forwards_sent += forwards_sent;
        self.forwards_received += forwards_received;
        self.forwards_useless += forwards_useless;
        self.wills_published += wills_published;
        self.packets_received += packets_received;
        self.controls_sent += controls_sent;
        self.bytes_received += bytes_received;
        self.bytes_sent += bytes_sent;
        self.payload_bytes_received += payload_bytes_received;
        self.payload_bytes_sent += payload_bytes_sent;
        self.sessions_expired += sessions_expired;
        add_each(&mut self.dropped, dropped);
        add_each(&mut self.refused.0, &refused.0);
    }
}

fn add_each(sums: &mut [u64], more: &[u64]) {
    for (sum, value) in sums.iter_mut().zip(more) {
        *sum += value;
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
    /// Subscriptions of all sessions, shared ones among them.
    pub subscriptions: usize,
    /// Groups of shared subscriptions that the shard knows of.
    pub groups: usize,
    /// SUBACK packets that wait for other shards.
    pub subacks_pending: usize,
    /// Messages in queues.
    pub queued_messages: usize,
    /// Bytes in queues.
    pub queued_bytes: u64,
    /// QoS 1 and 2 exchanges towards clients.
    pub inflight: usize,
    /// Memory of the messages of those, as far as they are kept.
    pub inflight_bytes: u64,
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
    /// Places in the retained store between two pages of a gather.
    pub cursors: usize,
    /// Memory of the packets that have arrived in part.
    pub partial_bytes: u64,
    /// Bytes that wait for sockets.
    pub unsent_bytes: u64,
}
