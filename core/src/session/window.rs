//! Outgoing QoS 1 and QoS 2 window of one session.
//!
//! Holds what was sent and not yet settled, in send order, so that a reconnect can replay it. Each entry
//! stands for a delivery number, and the packet identifier follows from that: the window is one run of
//! numbers, and an acknowledgement finds its entry by subtraction. An entry that is settled out of order
//! stays as a hole until everything before it is settled. A number that is never sent (its message
//! expired in the queue, or was denied) is a hole from the beginning.
//!
//! A session that outlives the broker must not use an identifier again before it is durable that its last
//! exchange is settled: a crash would bring that one back while the client is in the new one. Settling
//! says nothing of the log. Only when half of the identifiers are in use, the window notes how far it
//! has come, and in which turn; when that turn is durable, so much is free.
//!
//! Invariants:
//! - from the oldest number that is open, or whose settling may be lost, to the last one sent are
//!   `ID_COUNT` numbers at most, so an identifier names at most one exchange [MQTT-2.2.1-4].
//! - the order of `entries` is the order of first transmission [MQTT-4.6.0-1], and of the numbers.
//! - `entries[..cursor]` were sent on this connection; `open` of them hold a unit of the client's
//!   Receive Maximum [MQTT-3.3.4-9].
//! - the first entry is not settled.
//! - `bytes` is the sum of the sizes of the messages in `entries`.
//! - an empty window holds no memory (`WindowRooms`).
//!
//! Not here: who gives the numbers, what to send next (`queue.rs`), bytes (`egress.rs`), durability (`store`).

use std::collections::VecDeque;
use std::fmt;

use super::Delivery;
use super::Unsettled;
use crate::codec::QoS;
use crate::ids::{DeliveryNo, PacketId, TurnSeq};
use crate::stages::Stamp;
use crate::time::Instant;

/// Identifiers run from 1 to 65,535.
const ID_COUNT: u64 = 65_535;

/// The window.
#[derive(Debug, Default)]
pub struct Window {
    entries: VecDeque<Entry>,
    /// Number of `entries[0]`; of an empty window, one more than the last that was in it.
    first: DeliveryNo,
    /// `None`: what is settled is free at once.
    log_hold: Option<Box<LogHold>>,
    /// Memory of the messages that are kept.
    bytes: u64,
    /// Entries before this index were sent on this connection.
    cursor: u32,
    /// Sent PUBLISH packets of this connection whose exchange is not complete.
    open: u16,
    /// `first` modulo `ID_COUNT`, so that messages and acknowledgements take no division.
    first_remainder: u16,
}

/// What a log keeps from being used again.
#[derive(Debug)]
struct LogHold {
    /// All numbers below are settled, and that is durable.
    floor: DeliveryNo,
    /// All below this number were settled when this turn was recorded.
    noted: Option<(TurnSeq, DeliveryNo)>,
}

/// How far the log of a shard is.
#[derive(Clone, Copy, Debug)]
pub struct LogProgress {
    /// The last turn that has recorded something: everything that was settled so far is in it or before.
    pub recorded: TurnSeq,
    /// The last turn that is durable, and with it all before it.
    pub durable: TurnSeq,
}

#[derive(Debug)]
struct Entry {
    state: State,
    /// Counted in `open`.
    holds_quota: bool,
    /// When it was sent on this connection.
    sent_at: Stamp,
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

impl Entry {
    /// A number that is not sent.
    const HOLE: Entry = Entry {
        state: State::Settled,
        holds_quota: false,
        sent_at: Stamp::UNKNOWN,
        delivery: None,
    };

    fn assert_invariants(&self, is_sent: bool) {
        assert!(is_sent || !self.holds_quota, "quota is for what was sent");
        let kept = self.delivery.as_ref().map(|delivery| delivery.qos);
        match self.state {
            State::Sent1 => assert!(matches!(kept, None | Some(QoS::AtLeastOnce))),
            State::Sent2 => assert!(matches!(kept, None | Some(QoS::ExactlyOnce))),
            State::Released => assert_eq!(kept, None, "the client has it"),
            State::Settled => assert!(kept.is_none() && !self.holds_quota, "it is over"),
        }
        if is_sent && matches!(self.state, State::Sent1 | State::Sent2) {
            assert!(self.holds_quota, "each PUBLISH takes quota");
        }
    }
}

/// An acknowledgement that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckError {
    /// No exchange with this identifier is open.
    NotFound,
    /// The exchange of this identifier is of the other QoS.
    WrongKind,
}

/// An exchange that is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Of which delivery.
    pub no: DeliveryNo,
    /// When that was sent on this connection.
    pub sent_at: Stamp,
}

/// PUBREC has come, so PUBREL is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PubrelDue {
    /// Of which delivery.
    pub no: DeliveryNo,
    /// It was due before.
    pub is_repeated: bool,
}

/// What became of a PUBLISH that is not sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenUp {
    /// QoS 1: nothing is left of it.
    Settled(DeliveryNo),
    /// QoS 2: PUBREL is due.
    Released(DeliveryNo),
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

    /// Whether the PUBLISH of this number may be sent to a client with this Receive Maximum, if the messages
    /// that are kept may take so much.
    pub fn has_room(&self, no: DeliveryNo, receive_maximum: u16, bytes_max: u32) -> bool {
        self.open < receive_maximum
            && self.has_identifier(no)
            && (self.bytes < u64::from(bytes_max) || self.bytes == 0)
    }

    /// Whether the identifier of this number, the next one to be sent, is free.
    pub fn has_identifier(&self, no: DeliveryNo) -> bool {
        let oldest = match &self.log_hold {
            Some(hold) => hold.floor,
            None => self.oldest_open(no),
        };
        no.0 - oldest.0 < ID_COUNT
    }

    /// From here on what is settled is free only when that is durable. Below `floor` all is.
    pub fn hold_for_log(&mut self, floor: DeliveryNo) {
        assert!(
            self.entries.is_empty() || floor <= self.first,
            "what is open is not settled"
        );
        let noted = None;
        self.log_hold = Some(Box::new(LogHold { floor, noted }));
    }

    /// Frees identifiers, as far as the log allows and `next`, the next number to be sent, may need them. If then
    /// [`Window::has_identifier`] says no, and nothing is open, the session waits for the log alone:
    /// this has to be called again when more is durable.
    pub fn free_identifiers(&mut self, next: DeliveryNo, log: LogProgress) {
        let oldest_open = self.oldest_open(next);
        let Some(hold) = &mut self.log_hold else {
            return;
        };
        // Early enough that the log is through before they run out.
        if next.0 - hold.floor.0 < ID_COUNT / 2 {
            return;
        }
        if let Some((_, below)) = hold.noted.take_if(|(turn, _)| *turn <= log.durable) {
            hold.floor = below;
        }
        if hold.noted.is_none() && oldest_open > hold.floor {
            hold.noted = Some((log.recorded, oldest_open));
        }
    }

    /// Memory of the messages that are kept for a reconnect.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Enters a PUBLISH that is sent now, and gives its identifier. `delivery` is kept for a
    /// reconnect; `None` if the session ends with its connection.
    pub fn push(
        &mut self,
        now: Instant,
        no: DeliveryNo,
        qos: QoS,
        delivery: Option<Delivery>,
    ) -> PacketId {
        assert!(!self.has_resends(), "resends go before new messages");
        let state = match qos {
            QoS::AtLeastOnce => State::Sent1,
            QoS::ExactlyOnce => State::Sent2,
            QoS::AtMostOnce => unreachable!("QoS 0 has no window"),
        };
        self.go_to(no);
        let id = self.id_at(self.entries.len());
        self.bytes += size_of_kept(&delivery);
        self.entries.push_back(Entry {
            state,
            holds_quota: true,
            sent_at: Stamp::of(now),
            delivery,
        });
        self.open += 1;
        self.cursor = self.entries.len() as u32;
        id
    }

    /// Enters what is open after a restart, in the order of the numbers: it goes again on the next
    /// connection. `None`: only the PUBREL.
    pub(super) fn reopen(&mut self, no: DeliveryNo, delivery: Option<Delivery>) {
        let state = match delivery.as_ref().map(|delivery| delivery.qos) {
            Some(QoS::AtLeastOnce) => State::Sent1,
            Some(QoS::ExactlyOnce) => State::Sent2,
            Some(QoS::AtMostOnce) => unreachable!("QoS 0 has no window"),
            None => State::Released,
        };
        self.go_to(no);
        self.bytes += size_of_kept(&delivery);
        self.entries.push_back(Entry {
            state,
            holds_quota: false,
            sent_at: Stamp::UNKNOWN,
            delivery,
        });
    }

    /// The next entry will be the one of this number.
    fn go_to(&mut self, no: DeliveryNo) {
        debug_assert!(self.has_identifier(no), "ask has_room first");
        if no != self.no_at(self.entries.len()) {
            self.skip_to(no);
        }
        assert!(
            (self.entries.len() as u64) < ID_COUNT,
            "the window is full: ask has_room first"
        );
    }

    /// Numbers up to this one are not sent.
    fn skip_to(&mut self, no: DeliveryNo) {
        assert!(no > self.no_at(self.entries.len()), "numbers ascend");
        if self.entries.is_empty() {
            self.first = no;
            self.first_remainder = (no.0 % ID_COUNT) as u16;
        } else {
            let count = no.0 - self.first.0;
            assert!(count < ID_COUNT, "the window is full: ask has_room first");
            self.entries.resize_with(count as usize, || Entry::HOLE);
        }
    }

    /// PUBACK: the message is delivered.
    pub fn on_puback(&mut self, id: PacketId) -> Result<Acknowledged, AckError> {
        self.settle_from(State::Sent1, id)
    }

    /// PUBREC without an error: the message is dropped here, PUBREL is to be sent. Also for a
    /// repeated PUBREC.
    pub fn on_pubrec(&mut self, id: PacketId) -> Result<PubrelDue, AckError> {
        let index = self.find(id)?;
        let is_repeated = match self.entries[index].state {
            State::Sent2 => {
                self.release(index);
                false
            }
            State::Released => true,
            State::Sent1 => return Err(AckError::WrongKind),
            State::Settled => unreachable!("find skips settled entries"),
        };
        let no = self.no_at(index);
        Ok(PubrelDue { no, is_repeated })
    }

    /// PUBREC with an error: the exchange ends, the message is not delivered [MQTT-4.4.0-2].
    pub fn on_pubrec_refused(&mut self, id: PacketId) -> Result<Acknowledged, AckError> {
        self.settle_from(State::Sent2, id)
    }

    /// PUBCOMP: the exchange is complete.
    pub fn on_pubcomp(&mut self, id: PacketId) -> Result<Acknowledged, AckError> {
        self.settle_from(State::Released, id)
    }

    /// Gives up a PUBLISH that was to be sent again.
    ///
    /// With QoS 2 the client may have noted the identifier on an earlier connection, and would take the next message
    /// with it for this one: the exchange is not forgotten but finished, by PUBREL. With QoS 1 it keeps nothing.
    pub fn give_up(&mut self, id: PacketId) -> GivenUp {
        let index = self.find(id);
        let index = index.expect("what is to be sent again is not settled");
        let no = self.no_at(index);
        match self.entries[index].state {
            State::Sent1 => {
                self.settle(index);
                GivenUp::Settled(no)
            }
            State::Sent2 => {
                self.give_quota_back(index);
                self.release(index);
                GivenUp::Released(no)
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
    pub fn next_resend(&mut self, now: Instant, receive_maximum: u16) -> Option<Resend> {
        while let Some(entry) = self.entries.get_mut(self.cursor as usize) {
            let index = self.cursor as usize;
            match entry.state {
                State::Settled => self.cursor += 1,
                State::Released => {
                    entry.sent_at = Stamp::of(now);
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
                    entry.sent_at = Stamp::of(now);
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

    /// What is not settled, beginning with `from`.
    pub(super) fn unsettled(
        &self,
        from: DeliveryNo,
    ) -> impl Iterator<Item = (DeliveryNo, Unsettled)> {
        let begin = from.0.saturating_sub(self.first.0) as usize;
        let entries = self.entries.iter().enumerate().skip(begin);
        entries.filter_map(move |(index, entry)| {
            let unsettled = match entry.state {
                State::Sent1 | State::Sent2 => {
                    let delivery = entry.delivery.clone();
                    Unsettled::MaybeSent(delivery.expect("a session that outlives keeps it"))
                }
                State::Released => Unsettled::Released,
                State::Settled => return None,
            };
            Some((self.no_at(index), unsettled))
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

    /// Panics if an invariant does not hold, or `next`, the next number to be sent, is behind. Walks the
    /// window: for tests and the simulator.
    pub fn assert_invariants(&self, next: DeliveryNo) {
        let (mut bytes, mut open) = (0, 0);
        for (index, entry) in self.entries.iter().enumerate() {
            bytes += size_of_kept(&entry.delivery);
            open += u16::from(entry.holds_quota);
            entry.assert_invariants(index < self.cursor as usize);
        }
        assert_eq!(self.bytes, bytes, "bytes are counted as they change");
        assert_eq!(self.open, open, "what holds quota is counted");
        assert!(self.cursor as usize <= self.entries.len());
        let is_settled = |entry: &Entry| entry.state == State::Settled;
        assert!(
            !self.entries.front().is_some_and(is_settled),
            "the first entry is not settled"
        );
        assert_eq!(self.first_remainder, (self.first.0 % ID_COUNT) as u16);
        let end = self.no_at(self.entries.len());
        assert!(
            end <= next,
            "what was sent has a lower number than what was not"
        );
        let mut oldest = self.oldest_open(next);
        if let Some(hold) = &self.log_hold {
            let noted = hold.noted.map_or(oldest, |(_, below)| below);
            assert!(
                hold.floor <= noted && noted <= oldest,
                "what is open is held"
            );
            oldest = hold.floor;
        }
        assert!(
            end.0.saturating_sub(oldest.0) <= ID_COUNT,
            "an identifier names one exchange"
        );
        if self.entries.is_empty() {
            assert_eq!(
                self.entries.capacity(),
                0,
                "an empty window holds no memory"
            );
        }
    }

    /// Panics if a message is missing that may have to be sent again.
    pub(super) fn assert_kept(&self) {
        for entry in &self.entries {
            let is_publish = matches!(entry.state, State::Sent1 | State::Sent2);
            assert_eq!(
                entry.delivery.is_some(),
                is_publish,
                "it goes again as it is"
            );
        }
    }

    fn no_at(&self, index: usize) -> DeliveryNo {
        DeliveryNo(self.first.0 + index as u64)
    }

    /// The oldest number that is not settled, if `next` is the next one to be sent.
    fn oldest_open(&self, next: DeliveryNo) -> DeliveryNo {
        if self.entries.is_empty() {
            next
        } else {
            self.first
        }
    }

    fn id_at(&self, index: usize) -> PacketId {
        let remainder = wrapped(u64::from(self.first_remainder) + index as u64);
        PacketId::new(remainder as u16 + 1).expect("one more than a remainder is not zero")
    }

    fn find(&self, id: PacketId) -> Result<usize, AckError> {
        let remainder = u64::from(id.get()) - 1;
        let index = wrapped(remainder + ID_COUNT - u64::from(self.first_remainder)) as usize;
        match self.entries.get(index) {
            Some(entry) if entry.state != State::Settled => Ok(index),
            Some(_) | None => Err(AckError::NotFound),
        }
    }

    /// Settles an exchange that is in this state.
    fn settle_from(&mut self, state: State, id: PacketId) -> Result<Acknowledged, AckError> {
        let index = self.find(id)?;
        if self.entries[index].state != state {
            return Err(AckError::WrongKind);
        }
        let settled = Acknowledged {
            no: self.no_at(index),
            sent_at: self.entries[index].sent_at,
        };
        self.settle(index);
        Ok(settled)
    }

    /// Only PUBREL and PUBCOMP are left of the exchange.
    fn release(&mut self, index: usize) {
        let entry = &mut self.entries[index];
        entry.state = State::Released;
        self.bytes -= size_of_kept(&entry.delivery.take());
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
            self.first.0 += 1;
            self.first_remainder = wrapped(u64::from(self.first_remainder) + 1) as u16;
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

/// A sum of two remainders, modulo `ID_COUNT`; for every message and acknowledgement, so without a division.
fn wrapped(sum: u64) -> u64 {
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
    use crate::session::testing;
    use std::collections::BTreeMap;
    use std::ops::{Deref, DerefMut};

    fn delivery(text: &str, qos: QoS) -> Delivery {
        testing::delivery(text.as_bytes(), qos, None)
    }

    /// A window, and the numbers of what goes into it.
    #[derive(Default)]
    struct Numbered {
        window: Window,
        next: DeliveryNo,
    }

    impl Numbered {
        fn has_room(&self, receive_maximum: u16) -> bool {
            self.window.has_room(self.next, receive_maximum, u32::MAX)
        }

        fn push(&mut self, qos: QoS, delivery: Option<Delivery>) -> PacketId {
            let no = self.next;
            self.next.0 += 1;
            self.window.push(Instant::ZERO, no, qos, delivery)
        }

        fn free_identifiers(&mut self, log: LogProgress) {
            self.window.free_identifiers(self.next, log);
        }

        /// So many numbers are not sent.
        fn skip(&mut self, count: u64) {
            self.next.0 += count;
        }
    }

    impl Deref for Numbered {
        type Target = Window;

        fn deref(&self) -> &Window {
            &self.window
        }
    }

    impl DerefMut for Numbered {
        fn deref_mut(&mut self) -> &mut Window {
            &mut self.window
        }
    }

    fn id(value: u16) -> PacketId {
        PacketId::new(value).unwrap()
    }

    #[test]
    fn identifiers_are_unique_and_wrap_without_zero() {
        let mut window = Numbered::default();
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
        let mut window = Numbered::default();
        let stuck = window.push(QoS::AtLeastOnce, None);
        for _ in 1..ID_COUNT {
            assert!(window.has_room(2));
            let id = window.push(QoS::AtLeastOnce, None);
            assert_ne!(id, stuck);
            window.on_puback(id).unwrap();
        }
        assert!(
            !window.has_room(2),
            "the next identifier would be the stuck one"
        );
        window.on_puback(stuck).unwrap();
        assert!(window.has_room(2));
        assert!(window.is_empty());
    }

    #[test]
    fn the_next_message_with_the_identifier_of_one_that_was_given_up_is_new_to_its_client() {
        let mut window = Numbered::default();
        let mut noted = std::collections::HashSet::new();
        let given_up = window.push(QoS::ExactlyOnce, Some(delivery("x", QoS::ExactlyOnce)));
        noted.insert(given_up);
        window.rewind();
        let resend = window.next_resend(Instant::ZERO, 1);
        assert!(matches!(resend, Some(Resend::Publish(id, _)) if id == given_up));
        assert_eq!(
            window.give_up(given_up),
            GivenUp::Released(DeliveryNo(0)),
            "the exchange is finished by PUBREL"
        );
        assert_eq!(
            (window.open(), window.bytes()),
            (0, 0),
            "it takes up nothing"
        );
        // If PUBREL is lost, it is what is sent again.
        window.rewind();
        assert_eq!(
            window.next_resend(Instant::ZERO, 1),
            Some(Resend::Pubrel(given_up))
        );
        let go_round = |window: &mut Numbered| {
            for _ in 1..ID_COUNT {
                let id = window.push(QoS::AtLeastOnce, None);
                assert_ne!(id, given_up);
                window.on_puback(id).unwrap();
            }
        };
        go_round(&mut window);
        assert!(!window.has_room(9), "its identifier is not free yet");
        noted.remove(&given_up);
        window.on_pubcomp(given_up).unwrap();
        assert!(window.is_empty());
        assert_eq!(window.push(QoS::ExactlyOnce, None), given_up);
        assert!(!noted.contains(&given_up));
    }

    #[test]
    fn of_qos_1_nothing_is_left_of_what_was_given_up() {
        let mut window = Numbered::default();
        let id = window.push(QoS::AtLeastOnce, Some(delivery("x", QoS::AtLeastOnce)));
        window.rewind();
        assert!(window.next_resend(Instant::ZERO, 1).is_some());
        assert_eq!(window.give_up(id), GivenUp::Settled(DeliveryNo(0)));
        assert!(window.is_empty());
        assert_eq!(
            window.on_puback(id),
            Err(AckError::NotFound),
            "from the earlier connection"
        );
    }

    #[test]
    fn acknowledgements_of_the_wrong_kind_or_of_nothing_are_told_apart() {
        let mut window = Numbered::default();
        let one = window.push(QoS::AtLeastOnce, None);
        let two = window.push(QoS::ExactlyOnce, None);
        assert_eq!(window.on_puback(id(77)), Err(AckError::NotFound));
        assert_eq!(window.on_puback(two), Err(AckError::WrongKind));
        assert_eq!(window.on_pubrec(one), Err(AckError::WrongKind));
        assert_eq!(window.on_pubcomp(two), Err(AckError::WrongKind));
        let due = |is_repeated| {
            let no = DeliveryNo(1);
            Ok(PubrelDue { no, is_repeated })
        };
        assert_eq!(window.on_pubrec(two), due(false));
        assert_eq!(window.on_pubrec(two), due(true), "answered again");
        assert_eq!(
            window.on_pubcomp(two).map(|settled| settled.no),
            Ok(DeliveryNo(1))
        );
        assert_eq!(window.on_pubcomp(two), Err(AckError::NotFound));
        assert_eq!(
            window.on_puback(one).map(|settled| settled.no),
            Ok(DeliveryNo(0))
        );
        assert_eq!(window.on_puback(one), Err(AckError::NotFound));
    }

    // [MQTT-4.4.0-1] [MQTT-4.3.3-6]
    #[test]
    fn a_reconnect_replays_in_order_and_pubrel_instead_of_a_received_publish() {
        let mut window = Numbered::default();
        let a = window.push(QoS::AtLeastOnce, Some(delivery("a", QoS::AtLeastOnce)));
        let b = window.push(QoS::ExactlyOnce, Some(delivery("b", QoS::ExactlyOnce)));
        let c = window.push(QoS::ExactlyOnce, Some(delivery("c", QoS::ExactlyOnce)));
        let d = window.push(QoS::AtLeastOnce, Some(delivery("d", QoS::AtLeastOnce)));
        window.on_pubrec(b).unwrap();
        window.on_puback(a).unwrap();
        window.rewind();
        assert_eq!(
            window.next_resend(Instant::ZERO, 1),
            Some(Resend::Pubrel(b))
        );
        let resent = window.next_resend(Instant::ZERO, 1);
        assert_eq!(
            resent,
            Some(Resend::Publish(c, delivery("c", QoS::ExactlyOnce)))
        );
        assert_eq!(
            window.next_resend(Instant::ZERO, 1),
            None,
            "the quota of one is used up"
        );
        assert!(window.has_resends());
        window.on_pubrec(c).unwrap();
        assert_eq!(
            window.next_resend(Instant::ZERO, 1),
            None,
            "quota returns with PUBCOMP"
        );
        window.on_pubcomp(c).unwrap();
        assert!(
            matches!(window.next_resend(Instant::ZERO, 1), Some(Resend::Publish(id, _)) if id == d)
        );
        assert!(!window.has_resends());
    }

    #[test]
    fn an_empty_window_holds_no_memory_and_the_next_one_gets_it() {
        assert_eq!(size_of::<Entry>(), 32);
        let mut rooms = WindowRooms::default();
        let (mut one, mut two) = (Numbered::default(), Numbered::default());
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
        let mut window = Numbered::default();
        for text in ["a", "b", "c"] {
            assert!(window.has_room(3));
            window.push(QoS::AtLeastOnce, Some(delivery(text, QoS::AtLeastOnce)));
        }
        for _ in 0..100 {
            assert!(!window.has_room(3) || window.has_resends());
            window.rewind();
            for _ in 0..3 {
                assert!(window.next_resend(Instant::ZERO, 3).is_some());
            }
            assert_eq!(window.next_resend(Instant::ZERO, 3), None);
        }
        for value in 1..=3 {
            window.on_puback(id(value)).unwrap();
        }
        assert!(window.has_room(1));
    }

    #[test]
    fn a_number_that_is_not_sent_is_a_hole() {
        let mut window = Numbered::default();
        window.skip(2);
        let a = window.push(QoS::AtLeastOnce, None);
        assert_eq!((a, window.entries.len()), (id(3), 1), "nothing is before");
        window.skip(4);
        let b = window.push(QoS::ExactlyOnce, None);
        assert_eq!((b, window.entries.len()), (id(8), 6));
        for hole in 4..8 {
            assert_eq!(window.on_puback(id(hole)), Err(AckError::NotFound));
        }
        assert_eq!((window.unsettled_count(), window.open()), (2, 2));
        assert_eq!(
            window.on_puback(a).map(|settled| settled.no),
            Ok(DeliveryNo(2))
        );
        assert_eq!(window.entries.len(), 1, "holes go with what was before");
        window.assert_invariants(window.next);
        assert_eq!(
            window.on_pubrec_refused(b).map(|settled| settled.no),
            Ok(DeliveryNo(7))
        );
        assert!(window.is_empty());
    }

    #[test]
    fn holes_take_identifiers_while_something_before_them_is_open() {
        let mut window = Numbered::default();
        window.skip(ID_COUNT - 1);
        let stuck = window.push(QoS::AtLeastOnce, None);
        assert_eq!(stuck, id(65_535));
        window.skip(ID_COUNT - 1);
        assert!(!window.has_room(9), "the next one has the same identifier");
        window.on_puback(stuck).unwrap();
        assert!(window.has_room(9), "nothing is open");
        assert_eq!(window.push(QoS::AtLeastOnce, None), stuck);
        window.on_puback(stuck).unwrap();
        window.skip(3 * ID_COUNT + 1);
        assert!(
            window.has_room(9),
            "no gap is too large for an empty window"
        );
        assert_eq!(window.push(QoS::AtLeastOnce, None), id(2));
        assert_eq!(window.entries.len(), 1);
    }

    /// What a number may become in the model.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Fate {
        Sent(QoS),
        /// In this turn; not sent before, or acknowledged.
        Settled(TurnSeq),
    }

    /// Sends, skips and acknowledges at random, and compares with a map of all numbers that are open, or
    /// whose settling is not durable. Gives how many were sent.
    fn compare_with_map(seed: u64, with_log: bool) -> u32 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut sent = 0;
        let (mut window, mut rooms) = (Numbered::default(), WindowRooms::default());
        let mut fates: BTreeMap<u64, Fate> = BTreeMap::new();
        let mut log = LogProgress {
            recorded: TurnSeq(0),
            durable: TurnSeq(0),
        };
        if with_log {
            window.hold_for_log(DeliveryNo(0));
        }
        for step in 0..3_000 {
            log.recorded.0 += 1;
            if random.u8(..) < 20 {
                log.durable.0 = random.u64(log.durable.0..=log.recorded.0);
            }
            fates.retain(|_, fate| match *fate {
                Fate::Sent(_) => true,
                Fate::Settled(turn) => with_log && turn > log.durable,
            });
            match random.u8(..10) {
                // Dropped before they are sent.
                0 => {
                    let most = [3, 300, 3_000, 200_000][random.usize(..4)];
                    let count = random.u64(1..most);
                    // One stands for all: the oldest one counts.
                    fates.insert(window.next.0, Fate::Settled(log.recorded));
                    window.skip(count);
                }
                1..=5 => {
                    sent += u32::from(send(&mut window, &mut fates, &mut random, with_log));
                }
                _ => acknowledge(&mut window, &mut fates, &mut random, log.recorded),
            }
            window.free_identifiers(log);
            if step % 16 == 0 {
                rooms.take_back(&mut window);
                window.assert_invariants(window.next);
            }
        }
        assert!(window.next.0 > 10 * ID_COUNT, "they have gone round");
        sent
    }

    /// Whether one could be sent.
    fn send(
        window: &mut Numbered,
        fates: &mut BTreeMap<u64, Fate>,
        random: &mut fastrand::Rng,
        with_log: bool,
    ) -> bool {
        let no = window.next.0;
        let oldest = fates.keys().next().map_or(no, |oldest| *oldest);
        let is_free = no - oldest < ID_COUNT;
        let has_room = window.has_room(u16::MAX);
        if with_log {
            assert!(
                is_free || !has_room,
                "{no}: {oldest} is not settled for good"
            );
        } else {
            assert_eq!(has_room, is_free, "{no}: the oldest one is {oldest}");
        }
        if !has_room {
            return false;
        }
        let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce][random.usize(..2)];
        let id = window.push(qos, None);
        assert_eq!(u64::from(id.get()), no % ID_COUNT + 1);
        fates.insert(no, Fate::Sent(qos));
        true
    }

    fn acknowledge(
        window: &mut Numbered,
        fates: &mut BTreeMap<u64, Fate>,
        random: &mut fastrand::Rng,
        turn: TurnSeq,
    ) {
        let sent = fates.iter().filter_map(|(no, fate)| match *fate {
            Fate::Sent(qos) => Some((*no, qos)),
            Fate::Settled(_) => None,
        });
        let sent: Vec<(u64, QoS)> = sent.collect();
        let ids: std::collections::BTreeSet<u64> = sent.iter().map(|s| s.0 % ID_COUNT).collect();
        assert_eq!(ids.len(), sent.len(), "no identifier is in use twice");
        assert_eq!(window.unsettled_count(), sent.len());
        if sent.is_empty() {
            return;
        }
        let (no, qos) = sent[random.usize(..sent.len())];
        let id = DeliveryNo(no).packet_id();
        let settled = match qos {
            QoS::ExactlyOnce => {
                assert_eq!(window.on_pubrec(id).unwrap().no, DeliveryNo(no));
                window.on_pubcomp(id)
            }
            QoS::AtMostOnce | QoS::AtLeastOnce => window.on_puback(id),
        };
        assert_eq!(settled.map(|settled| settled.no), Ok(DeliveryNo(no)));
        fates.insert(no, Fate::Settled(turn));
    }

    #[test]
    fn an_identifier_names_one_exchange_whatever_is_sent_skipped_and_acknowledged() {
        for seed in 0..4 {
            for with_log in [false, true] {
                let sent = compare_with_map(seed, with_log);
                assert!(sent > 500, "{sent} of some 1,500");
            }
        }
    }

    #[test]
    fn identifiers_wait_for_the_log_and_come_back_when_it_is_durable() {
        let mut window = Numbered::default();
        window.hold_for_log(DeliveryNo(0));
        let log = |recorded, durable| LogProgress {
            recorded: TurnSeq(recorded),
            durable: TurnSeq(durable),
        };
        for turn in 1..=ID_COUNT {
            assert!(window.has_room(9));
            let id = window.push(QoS::AtLeastOnce, None);
            window.on_puback(id).unwrap();
            window.free_identifiers(log(turn, 0));
        }
        assert!(window.is_empty() && !window.has_room(9), "all may be lost");
        // Half of them were noted first.
        window.free_identifiers(log(ID_COUNT, ID_COUNT / 2 + 1));
        assert!(window.has_room(9));
        window.push(QoS::AtLeastOnce, None);
        window.assert_invariants(window.next);
        window.skip(ID_COUNT / 2);
        assert!(!window.has_room(9));
        window.free_identifiers(log(ID_COUNT, ID_COUNT - 1));
        assert!(!window.has_room(9), "the turn is not durable");
        window.free_identifiers(log(ID_COUNT, ID_COUNT));
        assert!(window.has_room(9));
        window.skip(ID_COUNT / 2);
        window.free_identifiers(log(ID_COUNT + 1, ID_COUNT));
        window.free_identifiers(log(ID_COUNT + 1, ID_COUNT + 1));
        assert!(!window.has_room(9), "one is open");
    }
}
