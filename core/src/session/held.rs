//! Answers of a connection that wait until what they promise is durable: as bytes, in order.
//!
//! Behind a CONNACK that waits everything waits [MQTT-3.2.0-1]; behind any other answer only answers do.
//!
//! Invariant: `bytes` and `packets` are the sums over `answers`; none of those is empty.

use std::collections::VecDeque;

use crate::ids::TurnSeq;

/// The answers; a connection has this only while one waits.
#[derive(Debug, Default)]
pub struct HeldAnswers {
    answers: VecDeque<HeldAnswer>,
    bytes: usize,
    packets: u32,
    is_corked: bool,
}

/// What has to be safe before something leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Until {
    /// What was recorded and posted up to it.
    pub turn: TurnSeq,
    /// It has to survive the loss of power, whatever the policy.
    pub is_synced: bool,
}

#[derive(Debug)]
struct HeldAnswer {
    /// What they wait for.
    until: Until,
    packets: u32,
    bytes: Vec<u8>,
}

impl HeldAnswers {
    /// A connection with this much waiting is not read until most of it has left.
    const BYTES_MAX: usize = 256 * 1024;
    /// The same, in packets.
    pub const PACKETS_MAX: u32 = 1024;

    /// Appends an answer that waits.
    pub fn push(&mut self, until: Until, packets: u32, encode: impl FnOnce(&mut Vec<u8>)) {
        let fits = self.answers.back().is_some_and(|last| last.until == until);
        if !fits {
            self.answers.push_back(HeldAnswer {
                until,
                packets: 0,
                bytes: Vec::new(),
            });
        }
        self.append(packets, encode);
    }

    /// Appends packets that leave with the last answer.
    pub fn append(&mut self, packets: u32, encode: impl FnOnce(&mut Vec<u8>)) {
        let last = self.answers.len().checked_sub(1);
        self.append_to(last.expect("an answer waits"), packets, encode);
    }

    /// Appends packets that wait for CONNACK only. They leave with it: those that are written then must not
    /// overtake them.
    pub fn append_to_connack(&mut self, packets: u32, encode: impl FnOnce(&mut Vec<u8>)) {
        assert!(self.is_corked, "CONNACK has left");
        self.append_to(0, packets, encode);
    }

    fn append_to(&mut self, index: usize, packets: u32, encode: impl FnOnce(&mut Vec<u8>)) {
        let answer = &mut self.answers[index];
        let before = answer.bytes.len();
        encode(&mut answer.bytes);
        answer.packets += packets;
        self.packets += packets;
        self.bytes += answer.bytes.len() - before;
    }

    /// Nothing may leave before the answers that wait now.
    pub fn cork(&mut self) {
        assert_eq!(self.answers.len(), 1, "CONNACK comes first");
        self.is_corked = true;
    }

    /// Everything waits behind a CONNACK.
    pub fn is_corked(&self) -> bool {
        self.is_corked
    }

    /// What the first answers wait for.
    pub fn until(&self) -> Option<Until> {
        Some(self.answers.front()?.until)
    }

    /// Takes the first answers out if what they wait for is done: how many packets, and their bytes.
    pub fn take(&mut self, is_done: impl Fn(Until) -> bool) -> Option<(u32, Vec<u8>)> {
        self.until().filter(|until| is_done(*until))?;
        let first = self.answers.pop_front().expect("just seen");
        self.is_corked = false;
        self.packets -= first.packets;
        self.bytes -= first.bytes.len();
        Some((first.packets, first.bytes))
    }

    /// None waits.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// So much waits that the client is not to ask for more.
    pub fn is_too_much(&self) -> bool {
        self.bytes > HeldAnswers::BYTES_MAX || self.packets > HeldAnswers::PACKETS_MAX
    }

    /// So little waits that the client may ask for more again.
    pub fn is_little(&self) -> bool {
        self.bytes <= HeldAnswers::BYTES_MAX / 4 && self.packets <= HeldAnswers::PACKETS_MAX / 4
    }

    /// Checks the invariants.
    pub fn assert_invariants(&self) {
        let sum = |of: fn(&HeldAnswer) -> usize| self.answers.iter().map(of).sum::<usize>();
        assert_eq!(self.bytes, sum(|answer| answer.bytes.len()));
        assert_eq!(self.packets as usize, sum(|answer| answer.packets as usize));
        assert!(self.answers.iter().all(|answer| !answer.bytes.is_empty()));
        assert!(!self.is_corked || !self.answers.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(text: &'static [u8]) -> impl FnOnce(&mut Vec<u8>) {
        |buffer| buffer.extend_from_slice(text)
    }

    #[test]
    fn answers_leave_in_order_each_with_its_turn() {
        let mut held = HeldAnswers::default();
        let until = |turn, is_synced| Until { turn, is_synced };
        let push = |held: &mut HeldAnswers, turn, is_synced, text| {
            held.push(until(TurnSeq(turn), is_synced), 1, put(text));
        };
        push(&mut held, 2, false, b"connack");
        held.cork();
        held.append(1, put(b"-publish"));
        push(&mut held, 2, false, b"-suback");
        push(&mut held, 2, true, b"publish");
        push(&mut held, 3, false, b"puback");
        held.append_to_connack(1, put(b"-publish"));
        push(&mut held, 1, false, b"late");
        held.assert_invariants();
        assert_eq!(held.take(|until| until.turn < TurnSeq(2)), None);
        assert!(held.is_corked());
        let is_written = |until: Until| until.turn <= TurnSeq(2) && !until.is_synced;
        let (packets, bytes) = held.take(is_written).expect("durable");
        assert_eq!(
            (packets, &*bytes),
            (4, &b"connack-publish-suback-publish"[..])
        );
        assert!(!held.is_corked());
        assert_eq!(held.take(is_written), None, "it has to be synced");
        assert_eq!(held.until(), Some(until(TurnSeq(2), true)));
        let is_synced = |until: Until| until.turn <= TurnSeq(2);
        assert_eq!(held.take(is_synced), Some((1, b"publish".to_vec())));
        assert_eq!(held.take(is_synced), None, "puback is first");
        held.assert_invariants();
        assert_eq!(held.take(|_| true), Some((1, b"puback".to_vec())));
        assert_eq!(held.take(|_| true), Some((1, b"late".to_vec())));
        assert!(held.is_empty() && held.bytes() == 0);
    }
}
