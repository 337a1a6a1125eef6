//! Outgoing QoS 1 and QoS 2 window of one session.
//!
//! Holds what was sent and not yet settled, in send order, so that a reconnect can replay it.
//! Packet identifiers are handed out in sequence, so that the window is one run of identifiers and
//! an acknowledgement finds its entry by subtraction. An entry that is settled out of order stays
//! as a hole until everything before it is settled.
//!
//! Invariants:
//! - `entries.len() <= ID_COUNT`, so an identifier names at most one entry [MQTT-2.2.1-4].
//! - the order of `entries` is the order of first transmission [MQTT-4.6.0-1].
//! - `entries[..cursor]` were sent on this connection; `open` of them hold a unit of the client's
//!   Receive Maximum [MQTT-3.3.4-9].
//! - the first entry is not settled.
//! - `bytes` is the sum of the sizes of the messages in `entries`.
//! - an empty window holds no memory (`WindowRooms`).
//!
//! Not here: what to send next (`queue.rs`), bytes (`egress.rs`), durability (`store`).

use std::collections::VecDeque;
use std::fmt;

use super::queue::Delivery;
use crate::codec::QoS;
use crate::ids::PacketId;

/// Identifiers run from 1 to 65,535.
const ID_COUNT: usize = 65_535;

/// The window.
#[derive(Debug, Default)]
pub struct Window {
    entries: VecDeque<Entry>,
    /// Sequence number of `entries[0]`, modulo `ID_COUNT`; its identifier is one more.
    first: u16,
    /// Entries before this index were sent on this connection.
    cursor: u32,
    /// Sent PUBLISH packets of this connection whose exchange is not complete.
    open: u16,
    /// Memory of the messages that are kept.
    bytes: u64,
}

#[derive(Debug)]
struct Entry {
    state: State,
    /// Counted in `open`.
    holds_quota: bool,
    /// What to send again after a reconnect; sessions that end with their connection keep nothing.
    delivery: Option<Delivery>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// QoS 1, waits for PUBACK.
    Sent1,
    /// QoS 2, waits for PUBREC.
    Sent2,
    /// QoS 2, PUBREL is due or sent: waits for PUBCOMP.
    Released,
    Settled,
}

/// An acknowledgement that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckError {
    /// No exchange with this identifier is open.
    NotFound,
    /// The exchange of this identifier is of the other QoS.
    WrongKind,
}

/// Something to send again after a reconnect.
#[derive(Debug, PartialEq, Eq)]
pub enum Resend {
    /// The PUBLISH, with DUP [MQTT-3.3.1-1].
    Publish(PacketId, Delivery),
    /// Only the PUBREL: the PUBLISH has been received [MQTT-4.3.3-6].
    Pubrel(PacketId),
}

impl Window {
    /// PUBLISH packets of this connection whose exchange is not complete.
    pub fn open(&self) -> usize {
        usize::from(self.open)
    }

    /// Whether one more PUBLISH may be sent to a client with this Receive Maximum, if the messages that
    /// are kept may take so much.
    pub fn has_room(&self, receive_maximum: u16, bytes_max: u32) -> bool {
        self.open < receive_maximum
            && self.entries.len() < ID_COUNT
            && (self.bytes < u64::from(bytes_max) || self.bytes == 0)
    }

    /// Memory of the messages that are kept for a reconnect.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Enters a PUBLISH that is sent now, and gives its identifier. `delivery` is kept for a
    /// reconnect; `None` if the session ends with its connection.
    pub fn push(&mut self, qos: QoS, delivery: Option<Delivery>) -> PacketId {
        assert!(
            self.entries.len() < ID_COUNT,
            "the window is full: ask has_room first"
        );
        assert!(!self.has_resends(), "resends go before new messages");
        let state = match qos {
            QoS::AtLeastOnce => State::Sent1,
            QoS::ExactlyOnce => State::Sent2,
            QoS::AtMostOnce => unreachable!("QoS 0 has no window"),
        };
        let id = self.id_at(self.entries.len());
        self.bytes += size_of_kept(&delivery);
        self.entries.push_back(Entry {
            state,
            holds_quota: true,
            delivery,
        });
        self.open += 1;
        self.cursor += 1;
        id
    }

    /// PUBACK: the message is delivered.
    pub fn on_puback(&mut self, id: PacketId) -> Result<(), AckError> {
        let index = self.find(id)?;
        match self.entries[index].state {
            State::Sent1 => self.settle(index),
            State::Sent2 | State::Released => return Err(AckError::WrongKind),
            State::Settled => unreachable!("find skips settled entries"),
        }
        Ok(())
    }

    /// PUBREC without an error: the message is dropped here, PUBREL is to be sent. Also for a
    /// repeated PUBREC.
    pub fn on_pubrec(&mut self, id: PacketId) -> Result<(), AckError> {
        let index = self.find(id)?;
        let entry = &mut self.entries[index];
        match entry.state {
            State::Sent2 | State::Released => {
                entry.state = State::Released;
                self.bytes -= size_of_kept(&entry.delivery.take());
                Ok(())
            }
            State::Sent1 => Err(AckError::WrongKind),
            State::Settled => unreachable!("find skips settled entries"),
        }
    }

    /// PUBREC with an error: the exchange ends, the message is not delivered [MQTT-4.4.0-2].
    pub fn on_pubrec_refused(&mut self, id: PacketId) -> Result<(), AckError> {
        let index = self.find(id)?;
        match self.entries[index].state {
            State::Sent2 => self.settle(index),
            State::Sent1 | State::Released => return Err(AckError::WrongKind),
            State::Settled => unreachable!("find skips settled entries"),
        }
        Ok(())
    }

    /// PUBCOMP: the exchange is complete.
    pub fn on_pubcomp(&mut self, id: PacketId) -> Result<(), AckError> {
        let index = self.find(id)?;
        match self.entries[index].state {
            State::Released => self.settle(index),
            State::Sent1 | State::Sent2 => return Err(AckError::WrongKind),
            State::Settled => unreachable!("find skips settled entries"),
        }
        Ok(())
    }

    /// Gives up a PUBLISH that was to be sent again. True: PUBREL is due.
    ///
    /// With QoS 2 the client may have noted the identifier on an earlier connection, and would take the next message
    /// with it for this one: the exchange is not forgotten but finished, by PUBREL. With QoS 1 it keeps nothing.
    pub fn give_up(&mut self, id: PacketId) -> bool {
        let index = self
            .find(id)
            .expect("what is to be sent again is not settled");
        match self.entries[index].state {
            State::Sent1 => {
                self.settle(index);
                false
            }
            State::Sent2 => {
                self.give_quota_back(index);
                let entry = &mut self.entries[index];
                entry.state = State::Released;
                self.bytes -= size_of_kept(&entry.delivery.take());
                true
            }
            State::Released | State::Settled => unreachable!("neither is a PUBLISH to send again"),
        }
    }

    /// The connection is gone: everything open has to be sent again on the next one, against a
    /// fresh quota [MQTT-4.9.0-1].
    pub fn rewind(&mut self) {
        self.cursor = 0;
        self.open = 0;
        for entry in &mut self.entries {
            entry.holds_quota = false;
        }
    }

    /// Something of an earlier connection is still to be sent on this one.
    pub fn has_resends(&self) -> bool {
        (self.cursor as usize) < self.entries.len()
    }

    /// The next thing to send again, in the original order; `None` when there is none or when the
    /// quota is used up.
    pub fn next_resend(&mut self, receive_maximum: u16) -> Option<Resend> {
        while let Some(entry) = self.entries.get_mut(self.cursor as usize) {
            let index = self.cursor as usize;
            match entry.state {
                State::Settled => self.cursor += 1,
                State::Released => {
                    self.cursor += 1;
                    return Some(Resend::Pubrel(self.id_at(index)));
                }
                State::Sent1 | State::Sent2 => {
                    if self.open >= receive_maximum {
                        return None;
                    }
                    let delivery = entry
                        .delivery
                        .clone()
                        .expect("a session that outlives keeps its messages");
                    entry.holds_quota = true;
                    self.open += 1;
                    self.cursor += 1;
                    return Some(Resend::Publish(self.id_at(index), delivery));
                }
            }
        }
        None
    }

    /// The QoS 1 messages that were not acknowledged, of a session that ends. A QoS 2 message stays
    /// with its client [MQTT-4.8.2-5].
    pub fn into_unacknowledged(self) -> impl Iterator<Item = Delivery> {
        self.entries
            .into_iter()
            .filter_map(|entry| match entry.state {
                State::Sent1 => entry.delivery,
                State::Sent2 | State::Released | State::Settled => None,
            })
    }

    /// Exchanges that are not complete.
    pub fn unsettled_count(&self) -> usize {
        self.entries
            .iter()
            .filter(|e| e.state != State::Settled)
            .count()
    }

    /// Nothing is open.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn id_at(&self, index: usize) -> PacketId {
        let sequence = wrapped(usize::from(self.first) + index);
        PacketId::new(sequence as u16 + 1).expect("one more than a sequence number is not zero")
    }

    fn find(&self, id: PacketId) -> Result<usize, AckError> {
        let sequence = usize::from(id.get()) - 1;
        let index = wrapped(sequence + ID_COUNT - usize::from(self.first));
        match self.entries.get(index) {
            Some(entry) if entry.state != State::Settled => Ok(index),
            Some(_) | None => Err(AckError::NotFound),
        }
    }

    /// The exchange takes up none of the client's Receive Maximum any more.
    fn give_quota_back(&mut self, index: usize) {
        if std::mem::take(&mut self.entries[index].holds_quota) {
            assert!(
                self.open > 0,
                "an exchange holds quota that was not counted"
            );
            self.open -= 1;
        }
    }

    fn settle(&mut self, index: usize) {
        let entry = &mut self.entries[index];
        entry.state = State::Settled;
        self.bytes -= size_of_kept(&entry.delivery.take());
        self.give_quota_back(index);
        while self
            .entries
            .front()
            .is_some_and(|e| e.state == State::Settled)
        {
            self.entries.pop_front();
            self.first = wrapped(usize::from(self.first) + 1) as u16;
            self.cursor = self.cursor.saturating_sub(1);
        }
    }
}

/// Memory for entries that no window uses: a window takes some with its first message and gives it back
/// with its last, so that an idle one holds none, and a busy one does not grow anew each time.
#[derive(Default)]
pub struct WindowRooms {
    free: Vec<VecDeque<Entry>>,
}

impl fmt::Debug for WindowRooms {
    /// What is free is no part of the state: tests compare whole shards by their text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WindowRooms").finish_non_exhaustive()
    }
}

impl WindowRooms {
    /// Before a message is entered.
    pub fn lend(&mut self, window: &mut Window) {
        if window.entries.capacity() == 0
            && let Some(room) = self.free.pop()
        {
            window.entries = room;
        }
    }

    /// After something was settled.
    pub fn take_back(&mut self, window: &mut Window) {
        if !window.entries.is_empty() {
            return;
        }
        let room = std::mem::take(&mut window.entries);
        let is_kept = (1..=KEPT_CAPACITY_MAX).contains(&room.capacity());
        if is_kept && self.free.len() < KEPT_COUNT_MAX {
            self.free.push(room);
        }
    }
}

/// A sum of two sequence numbers, modulo `ID_COUNT`; for every message and acknowledgement, so without a
/// division.
fn wrapped(sum: usize) -> usize {
    if sum < ID_COUNT { sum } else { sum - ID_COUNT }
}

fn size_of_kept(delivery: &Option<Delivery>) -> u64 {
    delivery
        .as_ref()
        .map_or(0, |delivery| delivery.message.size() as u64)
}

/// Room for more entries than this, of 32 bytes each, goes back to the allocator.
const KEPT_CAPACITY_MAX: usize = 256;
/// Rooms that are kept at most: 8 MiB in all, if every one is as large as it may be.
const KEPT_COUNT_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ClientKey;
    use crate::message::{Message, MessageParts};
    use std::sync::Arc;

    fn delivery(text: &str, qos: QoS) -> Delivery {
        let message = Message::new(MessageParts {
            topic: b"t",
            properties: b"",
            payload: text.as_bytes(),
            qos,
            retain: false,
            expires_at: None,
            publisher: ClientKey(0),
            author: None,
        });
        Delivery {
            message: Arc::new(message),
            qos,
            retain: false,
            matched: None,
            rules: 0,
        }
    }

    fn id(value: u16) -> PacketId {
        PacketId::new(value).unwrap()
    }

    #[test]
    fn identifiers_are_unique_and_wrap_without_zero() {
        let mut window = Window::default();
        let mut last = 0;
        for round in 0..200_000u32 {
            let id = window.push(QoS::AtLeastOnce, None);
            assert_eq!(u32::from(id.get()), round % 65_535 + 1);
            assert_ne!(id.get(), last);
            last = id.get();
            window.on_puback(id).unwrap();
        }
        assert!(window.is_empty());
    }

    // THREATS 52: an identifier that stays in flight is never used again.
    #[test]
    fn a_stuck_identifier_stalls_the_window_and_is_not_reused() {
        let mut window = Window::default();
        let stuck = window.push(QoS::AtLeastOnce, None);
        for _ in 1..ID_COUNT {
            assert!(window.has_room(2, u32::MAX));
            let id = window.push(QoS::AtLeastOnce, None);
            assert_ne!(id, stuck);
            window.on_puback(id).unwrap();
        }
        assert!(
            !window.has_room(2, u32::MAX),
            "the next identifier would be the stuck one"
        );
        window.on_puback(stuck).unwrap();
        assert!(window.has_room(2, u32::MAX));
        assert!(window.is_empty());
    }

    #[test]
    fn the_next_message_with_the_identifier_of_one_that_was_given_up_is_new_to_its_client() {
        let mut window = Window::default();
        let mut noted = std::collections::HashSet::new();
        let given_up = window.push(QoS::ExactlyOnce, Some(delivery("x", QoS::ExactlyOnce)));
        noted.insert(given_up);
        window.rewind();
        let resend = window.next_resend(1);
        assert!(matches!(resend, Some(Resend::Publish(id, _)) if id == given_up));
        assert!(
            window.give_up(given_up),
            "the exchange is finished by PUBREL"
        );
        assert_eq!(
            (window.open(), window.bytes()),
            (0, 0),
            "it takes up nothing"
        );
        // If PUBREL is lost, it is what is sent again.
        window.rewind();
        assert_eq!(window.next_resend(1), Some(Resend::Pubrel(given_up)));
        let go_round = |window: &mut Window| {
            for _ in 1..ID_COUNT {
                let id = window.push(QoS::AtLeastOnce, None);
                assert_ne!(id, given_up);
                window.on_puback(id).unwrap();
            }
        };
        go_round(&mut window);
        assert!(
            !window.has_room(9, u32::MAX),
            "its identifier is not free yet"
        );
        noted.remove(&given_up);
        window.on_pubcomp(given_up).unwrap();
        assert!(window.is_empty());
        assert_eq!(window.push(QoS::ExactlyOnce, None), given_up);
        assert!(!noted.contains(&given_up));
    }

    #[test]
    fn of_qos_1_nothing_is_left_of_what_was_given_up() {
        let mut window = Window::default();
        let id = window.push(QoS::AtLeastOnce, Some(delivery("x", QoS::AtLeastOnce)));
        window.rewind();
        assert!(window.next_resend(1).is_some());
        assert!(!window.give_up(id));
        assert!(window.is_empty());
        assert_eq!(
            window.on_puback(id),
            Err(AckError::NotFound),
            "from the earlier connection"
        );
    }

    #[test]
    fn acknowledgements_of_the_wrong_kind_or_of_nothing_are_told_apart() {
        let mut window = Window::default();
        let one = window.push(QoS::AtLeastOnce, None);
        let two = window.push(QoS::ExactlyOnce, None);
        assert_eq!(window.on_puback(id(77)), Err(AckError::NotFound));
        assert_eq!(window.on_puback(two), Err(AckError::WrongKind));
        assert_eq!(window.on_pubrec(one), Err(AckError::WrongKind));
        assert_eq!(window.on_pubcomp(two), Err(AckError::WrongKind));
        assert_eq!(window.on_pubrec(two), Ok(()));
        assert_eq!(
            window.on_pubrec(two),
            Ok(()),
            "a repeated PUBREC is answered again"
        );
        assert_eq!(window.on_pubcomp(two), Ok(()));
        assert_eq!(window.on_pubcomp(two), Err(AckError::NotFound));
        assert_eq!(window.on_puback(one), Ok(()));
        assert_eq!(window.on_puback(one), Err(AckError::NotFound));
    }

    // [MQTT-4.4.0-1] [MQTT-4.3.3-6]
    #[test]
    fn a_reconnect_replays_in_order_and_pubrel_instead_of_a_received_publish() {
        let mut window = Window::default();
        let a = window.push(QoS::AtLeastOnce, Some(delivery("a", QoS::AtLeastOnce)));
        let b = window.push(QoS::ExactlyOnce, Some(delivery("b", QoS::ExactlyOnce)));
        let c = window.push(QoS::ExactlyOnce, Some(delivery("c", QoS::ExactlyOnce)));
        let d = window.push(QoS::AtLeastOnce, Some(delivery("d", QoS::AtLeastOnce)));
        window.on_pubrec(b).unwrap();
        window.on_puback(a).unwrap();
        window.rewind();
        assert_eq!(window.next_resend(1), Some(Resend::Pubrel(b)));
        let resent = window.next_resend(1);
        assert_eq!(
            resent,
            Some(Resend::Publish(c, delivery("c", QoS::ExactlyOnce)))
        );
        assert_eq!(window.next_resend(1), None, "the quota of one is used up");
        assert!(window.has_resends());
        window.on_pubrec(c).unwrap();
        assert_eq!(window.next_resend(1), None, "quota returns with PUBCOMP");
        window.on_pubcomp(c).unwrap();
        assert!(matches!(window.next_resend(1), Some(Resend::Publish(id, _)) if id == d));
        assert!(!window.has_resends());
    }

    #[test]
    fn an_empty_window_holds_no_memory_and_the_next_one_gets_it() {
        assert_eq!(size_of::<Entry>(), 32);
        let (mut rooms, mut one, mut two) =
            (WindowRooms::default(), Window::default(), Window::default());
        let mut ids = Vec::new();
        for _ in 0..100 {
            rooms.lend(&mut one);
            ids.push(one.push(QoS::AtLeastOnce, None));
        }
        let capacity = one.entries.capacity();
        for id in ids {
            assert!(one.entries.capacity() == capacity, "it is in use");
            one.on_puback(id).unwrap();
            rooms.take_back(&mut one);
        }
        assert_eq!(one.entries.capacity(), 0);
        rooms.lend(&mut two);
        assert_eq!(two.entries.capacity(), capacity);
        rooms.take_back(&mut two);
        rooms.take_back(&mut two);
        assert_eq!(rooms.free.len(), 1, "nothing is given back twice");
    }

    // THREATS 53: the quota starts afresh with each connection.
    #[test]
    fn the_quota_does_not_leak_over_reconnects() {
        let mut window = Window::default();
        for text in ["a", "b", "c"] {
            assert!(window.has_room(3, u32::MAX));
            window.push(QoS::AtLeastOnce, Some(delivery(text, QoS::AtLeastOnce)));
        }
        for _ in 0..100 {
            assert!(!window.has_room(3, u32::MAX) || window.has_resends());
            window.rewind();
            for _ in 0..3 {
                assert!(window.next_resend(3).is_some());
            }
            assert_eq!(window.next_resend(3), None);
        }
        for value in 1..=3 {
            window.on_puback(id(value)).unwrap();
        }
        assert!(window.has_room(1, u32::MAX));
    }
}
