//! The state of one client; no behaviour.

use std::collections::VecDeque;

use ringmq_core::codec::{Direction, FrameRules, Framer, PACKET_SIZE_MAX, Version};

use crate::ledger::ReaderId;
use crate::payload::Lateness;

/// A client. Kept small: there are tens of thousands.
#[derive(Debug)]
pub(super) struct Client {
    /// Index among all groups.
    pub(super) group: u16,
    /// Index in its group.
    pub(super) index: u32,
    pub(super) phase: Phase,
    /// Is in `Outbox::dirty`.
    pub(super) dirty: bool,
    /// Was connected and subscribed before.
    pub(super) settled: bool,
    /// Sent PINGREQ, and nothing came since.
    pub(super) pinged: bool,
    /// Said DISCONNECT at the end of the run: no session of it is left.
    pub(super) parted: bool,
    /// Keep alive of this connection: the broker's, if it set one; 0: none.
    pub(super) keep_alive_s: u16,
    /// Packets that arrived in part.
    pub(super) framer: Framer,
    /// What is to be sent.
    pub(super) out: Vec<u8>,
    /// Bytes given to the socket that it has not accepted yet.
    pub(super) flying: u32,
    /// Counts connections, so that a late deadline is known as such.
    pub(super) attempt: u32,
    /// When it began to connect; from SUBSCRIBE on, when that was sent.
    pub(super) since: u64,
    /// When it last had something to send.
    pub(super) sent_at: u64,
    pub(super) publisher: Option<Box<Publisher>>,
    pub(super) reader: Option<Box<Reader>>,
}

/// The life of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not connected; waits for its turn, if it has one.
    Away,
    /// The TCP handshake is in progress.
    Dialing,
    /// CONNECT is sent.
    Greeting,
    /// SUBSCRIBE is sent.
    Subscribing,
    /// Connected, and subscribed if it subscribes.
    Ready,
    /// The socket is being closed; dials again at that time, if there is one.
    Closing(Option<u64>),
    /// Will not reconnect.
    Gone,
}

/// The publishing half of a client.
#[derive(Debug)]
pub(super) struct Publisher {
    /// QoS 1 and 2 messages without their last acknowledgement, in the order sent.
    pub(super) inflight: VecDeque<InFlight>,
    /// Most of them.
    pub(super) inflight_max: u16,
    /// Last packet identifier.
    pub(super) last_id: u16,
    /// Identifiers that were in use when they began from 1 again.
    pub(super) stuck: Vec<u16>,
    /// Times at which messages should have been sent for which there was no room.
    pub(super) pending: VecDeque<u64>,
    /// Topic of the next message.
    pub(super) topic: u32,
    /// Topics that were drawn.
    pub(super) drawn: u32,
    /// For each topic that has an alias on this connection, which is its number and one: whether
    /// the broker was told.
    pub(super) introduced: Vec<bool>,
    /// Messages that it may still take on; `u64::MAX` without a limit.
    pub(super) left: u64,
    /// All its messages are sent and settled.
    pub(super) finished: bool,
    /// What became of its retained messages at the end.
    pub(super) removal: Removal,
    /// For each stage that is over for it, the last sequence of each of its topics.
    pub(super) parts_ended: Vec<u32>,
}

/// What became of the retained messages of a publisher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Removal {
    /// They are there, if there are any.
    #[default]
    Due,
    /// Their removal is sent, with DISCONNECT behind it: when the broker closes, it has read both.
    Sent,
    /// The broker has removed them.
    Done,
}

/// The topic alias of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Alias {
    pub(super) number: u16,
    /// The broker knows it, so it replaces the topic.
    pub(super) is_known: bool,
}

/// A message without its last acknowledgement. Its bytes follow from this.
#[derive(Clone, Copy, Debug)]
pub(super) struct InFlight {
    pub(super) id: u16,
    /// PUBREC came: PUBREL is what to repeat.
    pub(super) released: bool,
    pub(super) lateness: Lateness,
    pub(super) stream: u32,
    pub(super) sequence: u32,
    pub(super) stamp_us: u32,
}

/// The subscribed half of a client.
#[derive(Debug)]
pub(super) struct Reader {
    /// What it gets for itself.
    pub(super) own: Option<ReaderId>,
    /// What its shared subscription gets.
    pub(super) share: Option<ReaderId>,
    /// QoS 2 messages between PUBLISH and PUBREL, in the order received.
    pub(super) receipts: VecDeque<u16>,
    /// PUBACK and PUBCOMP that the socket was not given yet: the broker cannot have counted these
    /// messages off.
    pub(super) unsettled: u32,
    /// When its subscriptions were last acknowledged.
    pub(super) subscribed_at: u64,
    /// Some of its streams have payloads without a header.
    pub(super) takes_small: bool,
}

impl Client {
    pub(super) fn new(group: u16, index: u32) -> Client {
        Client {
            group,
            index,
            phase: Phase::Away,
            dirty: false,
            settled: false,
            pinged: false,
            parted: false,
            keep_alive_s: 0,
            framer: Framer::default(),
            out: Vec::new(),
            flying: 0,
            attempt: 0,
            since: 0,
            sent_at: 0,
            publisher: None,
            reader: None,
        }
    }

    /// What the broker may send at this point.
    pub(super) fn rules(&self, version: Version) -> FrameRules {
        FrameRules {
            version: (self.phase != Phase::Greeting).then_some(version),
            size_max: PACKET_SIZE_MAX,
            direction: Direction::FromServer,
        }
    }
}

impl Publisher {
    /// The alias of a topic, and whether the broker already knows it: then it replaces the topic.
    pub(super) fn alias(&mut self, topic: u32) -> Option<Alias> {
        let introduced = self.introduced.get_mut(topic as usize)?;
        Some(Alias {
            number: topic as u16 + 1,
            is_known: std::mem::replace(introduced, true),
        })
    }

    /// The next packet identifier that is not in use. There is one: `inflight_max` is below 65,535.
    pub(super) fn next_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            if self.last_id == 0 {
                self.stuck = self.inflight.iter().map(|entry| entry.id).collect();
                continue;
            }
            if !self.stuck.contains(&self.last_id) {
                return self.last_id;
            }
        }
    }

    /// The Receive Maximum of the broker for this connection; that of an earlier one does not
    /// count. [MQTT-3.3.4-9]
    pub(super) fn limit_inflight(&mut self, wanted: u16, receive_maximum: Option<u16>) {
        self.inflight_max = wanted
            .min(INFLIGHT_MAX)
            .min(receive_maximum.unwrap_or(u16::MAX));
        assert!(
            self.inflight_max > 0,
            "a receive maximum of 0 does not pass the decoder"
        );
    }

    /// The position of the message with this identifier.
    pub(super) fn position(&self, id: u16) -> Option<usize> {
        self.inflight.iter().position(|entry| entry.id == id)
    }
}

impl Client {
    /// How long it may be quiet before it pings: some time before the keep alive is over
    /// [MQTT-3.1.2-20].
    pub(super) fn ping_ns(&self) -> Option<u64> {
        (self.keep_alive_s > 0).then(|| u64::from(self.keep_alive_s) * 1_000_000_000 * 3 / 4)
    }
}

/// Identifiers are skipped while they are in use: half of them always is free.
pub(super) const INFLIGHT_MAX: u16 = 32_768;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_client_is_small() {
        assert!(size_of::<Client>() <= 160, "{}", size_of::<Client>());
    }

    #[test]
    fn an_alias_is_introduced_once_and_only_as_many_as_the_broker_takes() {
        let mut publisher = Publisher {
            introduced: vec![false; 2],
            ..publisher()
        };
        let alias = |number, is_known| Some(Alias { number, is_known });
        let said: Vec<Option<Alias>> = [0, 1, 2, 0, 1, 2]
            .map(|topic| publisher.alias(topic))
            .into();
        let (first, second) = (alias(1, false), alias(2, false));
        assert_eq!(
            said,
            [first, second, None, alias(1, true), alias(2, true), None]
        );
    }

    fn publisher() -> Publisher {
        Publisher {
            inflight: VecDeque::new(),
            inflight_max: 10,
            last_id: 0,
            stuck: Vec::new(),
            pending: VecDeque::new(),
            topic: 0,
            drawn: 0,
            introduced: Vec::new(),
            left: u64::MAX,
            finished: false,
            removal: Removal::Due,
            parts_ended: Vec::new(),
        }
    }

    #[test]
    fn identifiers_in_use_are_skipped_after_a_round() {
        let mut publisher = publisher();
        for id in [2, 3] {
            publisher.inflight.push_back(InFlight {
                id,
                released: false,
                lateness: Lateness::default(),
                stream: 0,
                sequence: 1,
                stamp_us: 0,
            });
        }
        publisher.last_id = u16::MAX - 1;
        let ids: Vec<u16> = (0..4).map(|_| publisher.next_id()).collect();
        assert_eq!(ids, [u16::MAX, 1, 4, 5]);
    }
}
