//! The ledger: which message arrived at which subscriber, exactly.
//!
//! A *cell* is one stream (a publisher on a topic) at one *reader*: a subscribed client, or a
//! shared subscription as a whole. It knows the highest sequence that arrived and the gaps below
//! it, so that a stream without trouble costs 8 bytes and no search.
//!
//! Invariants:
//! - gaps of a cell are disjoint, ascending, below or at `highest`, and never empty.
//! - `sent == base + arrived once + gaps + tail` for each cell, where the tail is what was sent
//!   behind `highest`; so what is owed is always delivered, lost or excused, whatever the broker
//!   does.
//!
//! Not here: what a payload says (`payload`), who is owed what (`plan`).

use std::collections::HashMap;
use std::sync::Arc;

use ringmq_core::codec::QoS;
use serde::{Deserialize, Serialize};

use crate::plan::Matched;
use crate::report;

/// The ledger of one thread: of the readers that live there.
#[derive(Debug, Default)]
pub struct Ledger {
    cells: Vec<Cell>,
    /// Gaps of cells that have some; index 0 means none.
    gaps: Vec<Vec<Gap>>,
    gap_count: usize,
    readers: Vec<Reader>,
    /// Highest sequence by member of a shared subscription and stream; `None`: too many to look at.
    orders: Option<HashMap<(u32, u32), u32, foldhash::fast::FixedState>>,
    /// Gaps that were closed because there were too many.
    overflowed: u64,
}

/// A reader of a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReaderId(u32);

#[derive(Debug)]
struct Reader {
    group: u16,
    qos: QoS,
    matched: Arc<Matched>,
    first_cell: u32,
    /// Away at the end, without a session that waits.
    gone: bool,
    /// Deliveries that do not identify their message, by QoS.
    anonymous: [u64; 3],
}

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    highest: u32,
    gaps: u32,
}

/// Sequences from the first to the last that did not arrive, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Gap {
    first: u32,
    last: u32,
    /// They need not arrive.
    excused: bool,
}

/// What an arrival turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The next one, or one behind a gap; `passed` counts it and the gap.
    Forward {
        /// How far the stream moved on.
        passed: u32,
    },
    /// One that was missing: it arrives after a later one.
    Late,
    /// One that did not have to arrive, and does not count as late.
    Excused,
    /// One that was here before.
    Again,
    /// The reader does not subscribe to the stream.
    Misrouted,
}

impl Arrival {
    /// How far the stream moved on.
    pub fn passed(self) -> u32 {
        match self {
            Arrival::Forward { passed } => passed,
            Arrival::Late | Arrival::Excused | Arrival::Again | Arrival::Misrouted => 0,
        }
    }
}

/// What was sent, for the settlement.
#[derive(Clone, Copy)]
pub struct Sent<'a> {
    /// Last sequence of each stream.
    pub last: &'a [u32],
    /// QoS of each stream.
    pub qos: &'a dyn Fn(u32) -> QoS,
    /// Messages that the broker refused or never acknowledged, as (stream, sequence), ascending.
    pub uncertain: &'a [(u32, u32)],
}

/// What the readers of one group were owed at one QoS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// Owed deliveries.
    pub owed: u64,
    /// Of those, arrived.
    pub delivered: u64,
    /// Of those, missing without an excuse.
    pub lost: u64,
    /// Of those, missing with one.
    pub excused: u64,
}

impl Ledger {
    /// An empty ledger. The order within shared subscriptions is looked at only if there are few
    /// enough pairs of members and streams.
    pub fn new(shared_pairs: u64) -> Ledger {
        Ledger {
            gaps: vec![Vec::new()],
            orders: (shared_pairs <= ORDER_PAIRS_MAX).then(HashMap::default),
            ..Ledger::default()
        }
    }

    /// In place of one that is kept on another machine: it has no readers.
    pub fn elsewhere(checks_shared_order: bool, is_exact: bool) -> Ledger {
        Ledger {
            overflowed: u64::from(!is_exact),
            ..Ledger::new(if checks_shared_order { 0 } else { u64::MAX })
        }
    }

    /// Whether the order within shared subscriptions is looked at.
    pub fn checks_shared_order(&self) -> bool {
        self.orders.is_some()
    }

    /// Adds a reader that gets these streams from their beginning.
    pub fn add(&mut self, group: u16, qos: QoS, matched: Arc<Matched>) -> ReaderId {
        let first_cell = self.cells.len() as u32;
        self.cells
            .resize(self.cells.len() + matched.count(), Cell::default());
        self.readers.push(Reader {
            group,
            qos,
            matched,
            first_cell,
            gone: false,
            anonymous: [0; 3],
        });
        ReaderId(self.readers.len() as u32 - 1)
    }

    /// Notes an arrival.
    #[inline]
    pub fn arrive(&mut self, reader: ReaderId, stream: u32, sequence: u32) -> Arrival {
        let reader = &self.readers[reader.0 as usize];
        let Some(position) = reader.matched.position(stream) else {
            return Arrival::Misrouted;
        };
        let cell = &mut self.cells[reader.first_cell as usize + position];
        let passed = sequence.wrapping_sub(cell.highest);
        if passed == 1 {
            cell.highest = sequence;
            return Arrival::Forward { passed };
        }
        self.arrive_out_of_step(reader.first_cell as usize + position, sequence)
    }

    #[cold]
    fn arrive_out_of_step(&mut self, index: usize, sequence: u32) -> Arrival {
        let cell = self.cells[index];
        if sequence > cell.highest {
            self.push_gap(index, cell.highest + 1, sequence - 1, false);
            self.cells[index].highest = sequence;
            return Arrival::Forward {
                passed: sequence - cell.highest,
            };
        }
        let gaps = &mut self.gaps[cell.gaps as usize];
        let at = gaps.partition_point(|gap| gap.last < sequence);
        let Some(gap) = gaps.get_mut(at).filter(|gap| gap.first <= sequence) else {
            return Arrival::Again;
        };
        let excused = gap.excused;
        match (gap.first == sequence, gap.last == sequence) {
            (true, true) => {
                gaps.remove(at);
                self.gap_count -= 1;
            }
            (true, false) => gap.first += 1,
            (false, true) => gap.last -= 1,
            (false, false) => {
                let rest = Gap {
                    first: sequence + 1,
                    ..*gap
                };
                gap.last = sequence - 1;
                gaps.insert(at + 1, rest);
                self.gap_count += 1;
            }
        }
        if excused {
            Arrival::Excused
        } else {
            Arrival::Late
        }
    }

    fn push_gap(&mut self, index: usize, first: u32, last: u32, excused: bool) {
        if first > last {
            return;
        }
        if self.gap_count >= GAPS_MAX {
            self.overflowed += 1;
        }
        let cell = &mut self.cells[index];
        if cell.gaps == 0 {
            cell.gaps = self.gaps.len() as u32;
            self.gaps.push(Vec::new());
        }
        let gaps = &mut self.gaps[cell.gaps as usize];
        match gaps.last_mut() {
            // Beyond the bound gaps are joined over what arrived between them: see `is_exact`.
            Some(gap)
                if (gap.last + 1 == first && gap.excused == excused)
                    || self.gap_count >= GAPS_MAX =>
            {
                gap.last = last;
            }
            Some(_) | None => {
                gaps.push(Gap {
                    first,
                    last,
                    excused,
                });
                self.gap_count += 1;
            }
        }
    }

    /// False if there were more gaps than the ledger can hold: then counts are not exact.
    pub fn is_exact(&self) -> bool {
        self.overflowed == 0
    }

    /// Whether a member of a shared subscription got this stream in order. Members do not share an
    /// order, each of them has one.
    pub fn is_in_order(&mut self, member: u32, stream: u32, sequence: u32) -> bool {
        let Some(orders) = &mut self.orders else {
            return true;
        };
        let highest = orders.entry((member, stream)).or_insert(0);
        let in_order = sequence > *highest;
        *highest = sequence.max(*highest);
        in_order
    }

    /// Counts a delivery that does not identify its message.
    pub fn arrive_anonymous(&mut self, reader: ReaderId, qos: QoS) {
        self.readers[reader.0 as usize].anonymous[qos as usize] += 1;
    }

    /// The reader was away, without a session that waited: up to the sequence `upto` of each
    /// stream, what it has not got need not arrive, and may. `excused` hears how many messages of a
    /// stream that were.
    pub fn excuse_up_to(
        &mut self,
        reader: ReaderId,
        upto: impl Fn(u32) -> u32,
        mut excused: impl FnMut(u32, u64),
    ) {
        let id = reader.0 as usize;
        let reader = &self.readers[id];
        let (matched, first_cell) = (reader.matched.clone(), reader.first_cell as usize);
        for (position, stream) in matched.streams().enumerate() {
            let (upto, index) = (upto(stream), first_cell + position);
            if upto > self.cells[index].highest {
                self.absorb_anonymous(id, index, upto);
                let highest = self.cells[index].highest;
                self.push_gap(index, highest + 1, upto, true);
                self.cells[index].highest = upto;
                if upto > highest {
                    excused(stream, u64::from(upto - highest));
                }
            }
        }
    }

    /// Deliveries without a name are the earliest that are missing: they are not excused as well.
    fn absorb_anonymous(&mut self, reader: usize, cell: usize, upto: u32) {
        for count in &mut self.readers[reader].anonymous {
            let room = u64::from(upto - self.cells[cell].highest);
            let taken = room.min(*count);
            *count -= taken;
            self.cells[cell].highest += taken as u32;
        }
    }

    /// A retained message replaces all before it: what is missing below `sequence` is excused.
    /// Returns how many that are.
    pub fn excuse_below(&mut self, reader: ReaderId, stream: u32, sequence: u32) -> u32 {
        let reader = &self.readers[reader.0 as usize];
        let Some(position) = reader.matched.position(stream) else {
            return 0;
        };
        let index = reader.first_cell as usize + position;
        let highest = self.cells[index].highest;
        if sequence <= highest + 1 {
            return 0;
        }
        self.push_gap(index, highest + 1, sequence - 1, true);
        self.cells[index].highest = sequence - 1;
        sequence - 1 - highest
    }

    /// The reader is away, or back.
    pub fn set_gone(&mut self, reader: ReaderId, gone: bool) {
        self.readers[reader.0 as usize].gone = gone;
    }

    /// Whether the reader is away.
    pub fn is_gone(&self, reader: ReaderId) -> bool {
        self.readers[reader.0 as usize].gone
    }

    /// Whether the reader subscribes to the stream.
    pub fn reads(&self, reader: ReaderId, stream: u32) -> bool {
        let reader = &self.readers[reader.0 as usize];
        reader.matched.position(stream).is_some()
    }

    /// Panics if an invariant is broken.
    pub fn check_invariants(&self) {
        let mut gap_count = 0;
        let mut owned = vec![false; self.gaps.len()];
        for cell in &self.cells {
            let index = cell.gaps as usize;
            let is_first = !std::mem::replace(&mut owned[index], true);
            assert!(index == 0 || is_first, "two cells have the same gaps");
            let gaps = &self.gaps[index];
            gap_count += gaps.len();
            assert!(
                gaps.iter()
                    .all(|gap| 0 < gap.first && gap.first <= gap.last)
            );
            let is_apart = |pair: &[Gap]| pair[0].last < pair[1].first;
            assert!(
                gaps.windows(2).all(is_apart),
                "gaps ascend and are disjoint"
            );
            let end = gaps.last().map_or(0, |gap| gap.last);
            assert!(end <= cell.highest, "what is behind the highest is no gap");
        }
        assert!(self.gaps[0].is_empty(), "index 0 stands for no gaps");
        assert_eq!(gap_count, self.gap_count, "gaps are counted as they change");
        let mut first_cell = 0;
        for reader in &self.readers {
            assert_eq!(reader.first_cell as usize, first_cell, "cells lie in order");
            first_cell += reader.matched.count();
        }
        assert_eq!(first_cell, self.cells.len(), "each cell has a reader");
    }

    /// Sequence numbers that are still missing without an excuse, if `sent` is all that was sent.
    pub fn outstanding(&self, last: impl Fn(u32) -> u32) -> u64 {
        let of_reader = |reader: &Reader| -> u64 {
            if reader.gone {
                return 0;
            }
            let cells = &self.cells[reader.first_cell as usize..];
            let missing: u64 = reader
                .matched
                .streams()
                .zip(cells)
                .map(|(stream, cell)| {
                    let gaps = self.gaps[cell.gaps as usize].iter();
                    let held: u64 = gaps.filter(|gap| !gap.excused).map(Gap::size).sum();
                    held + u64::from(last(stream).saturating_sub(cell.highest))
                })
                .sum();
            missing.saturating_sub(reader.anonymous.iter().sum())
        };
        self.readers.iter().map(of_reader).sum()
    }

    /// Settles with every reader: by group and QoS of the delivery.
    pub fn settle(&self, sent: Sent<'_>, into: &mut HashMap<(u16, QoS), Settled>) {
        self.settle_parts(sent, &[], std::slice::from_mut(into));
    }

    /// The same for parts of the run, one after the other. `ends` has the last sequence of each
    /// stream in each part but the last one, which ends with what was sent.
    pub fn settle_parts(
        &self,
        sent: Sent<'_>,
        ends: &[Vec<u32>],
        into: &mut [HashMap<(u16, QoS), Settled>],
    ) {
        assert_eq!(
            ends.len() + 1,
            into.len(),
            "the last part ends with the run"
        );
        for reader in &self.readers {
            let mut anonymous = reader.anonymous;
            for (part, into) in into.iter_mut().enumerate() {
                let after = part.checked_sub(1).map(|before| &*ends[before]);
                let mut sums = self.settle_reader(reader, sent, after, ends.get(part));
                for (qos, sum) in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]
                    .into_iter()
                    .zip(&mut sums)
                {
                    // What arrived without a name was one of those that are missing.
                    let found = anonymous[qos as usize].min(sum.lost);
                    anonymous[qos as usize] -= found;
                    sum.lost -= found;
                    sum.delivered += found;
                    if *sum != Settled::default() {
                        into.entry((reader.group, qos)).or_default().add(sum);
                    }
                }
            }
        }
    }

    /// What a reader was owed of sequences behind `after`, up to `end`, by QoS.
    fn settle_reader(
        &self,
        reader: &Reader,
        sent: Sent<'_>,
        after: Option<&[u32]>,
        end: Option<&Vec<u32>>,
    ) -> [Settled; 3] {
        let mut sums = [Settled::default(); 3];
        let cells = &self.cells[reader.first_cell as usize..];
        for (stream, cell) in reader.matched.streams().zip(cells) {
            let number = stream as usize;
            let last = sent.last[number].max(cell.highest);
            let range = Range {
                after: after.map_or(0, |after| after[number]),
                upto: end.map_or(last, |end| end[number]),
            };
            let qos = reader.qos.min((sent.qos)(stream));
            self.settle_cell(
                stream,
                cell,
                reader.gone,
                range,
                sent,
                &mut sums[qos as usize],
            );
        }
        sums
    }

    fn settle_cell(
        &self,
        stream: u32,
        cell: &Cell,
        gone: bool,
        range: Range,
        sent: Sent<'_>,
        sum: &mut Settled,
    ) {
        let gaps = &self.gaps[cell.gaps as usize];
        let (mut lost, mut excused) = (0, 0);
        for gap in gaps {
            if gap.excused {
                excused += range.count(gap.first, gap.last);
            } else {
                lost += range.count(gap.first, gap.last);
            }
        }
        let tail = range.count(cell.highest.saturating_add(1), range.upto);
        if gone {
            excused += tail;
        } else {
            lost += tail;
        }
        if lost > 0 {
            let from = sent.uncertain.partition_point(|entry| *entry < (stream, 0));
            let entries = sent.uncertain[from..].iter();
            let missing = |sequence: u32| {
                let in_gap =
                    |gap: &Gap| !gap.excused && gap.first <= sequence && sequence <= gap.last;
                gaps.iter().any(in_gap) || (sequence > cell.highest && !gone)
            };
            let uncertain = entries
                .take_while(|(of, _)| *of == stream)
                .filter(|(_, sequence)| range.count(*sequence, *sequence) > 0)
                .filter(|(_, sequence)| missing(*sequence))
                .count() as u64;
            let uncertain = uncertain.min(lost);
            lost -= uncertain;
            excused += uncertain;
        }
        let owed = u64::from(range.upto.saturating_sub(range.after));
        sum.owed += owed;
        sum.lost += lost;
        sum.excused += excused;
        sum.delivered += owed - lost - excused;
    }
}

/// Sequences of a part of the run.
#[derive(Clone, Copy, Debug)]
struct Range {
    /// The last one before it.
    after: u32,
    /// Its last one.
    upto: u32,
}

impl Range {
    /// How many of these, both included, are in it.
    fn count(self, first: u32, last: u32) -> u64 {
        let (first, last) = (first.max(self.after.saturating_add(1)), last.min(self.upto));
        u64::from(last.saturating_add(1).saturating_sub(first))
    }
}

impl Gap {
    fn size(&self) -> u64 {
        u64::from(self.last - self.first) + 1
    }
}

impl Settled {
    /// Adds those of other readers.
    pub fn add(&mut self, other: &Settled) {
        self.owed += other.owed;
        self.delivered += other.delivered;
        self.lost += other.lost;
        self.excused += other.excused;
    }

    /// Into the ledger of a report.
    pub fn add_to(&self, ledger: &mut report::Ledger) {
        ledger.owed += self.owed;
        ledger.delivered += self.delivered;
        ledger.lost += self.lost;
        ledger.excused += self.excused;
    }
}

/// 16 bytes of gap each: 512 MiB. More only if a broker loses every other of very many messages.
const GAPS_MAX: usize = 32 << 20;
/// 24 bytes for a pair or so.
const ORDER_PAIRS_MAX: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::payload::mix;

    fn one_stream() -> (Ledger, ReaderId) {
        let mut ledger = Ledger::new(0);
        let matched = Arc::new(Matched::of(vec![5]));
        let reader = ledger.add(0, QoS::ExactlyOnce, matched);
        (ledger, reader)
    }

    fn settle(ledger: &Ledger, last: u32, uncertain: &[(u32, u32)]) -> Settled {
        let mut into = HashMap::new();
        let sent = Sent {
            last: &[0, 0, 0, 0, 0, last],
            qos: &|_| QoS::AtLeastOnce,
            uncertain,
        };
        ledger.settle(sent, &mut into);
        into.remove(&(0, QoS::AtLeastOnce)).unwrap_or_default()
    }

    #[test]
    fn arrivals_are_told_apart() {
        let (mut ledger, reader) = one_stream();
        for (sequence, expected) in [
            (1, Arrival::Forward { passed: 1 }),
            (2, Arrival::Forward { passed: 1 }),
            (2, Arrival::Again),
            (6, Arrival::Forward { passed: 4 }),
            (4, Arrival::Late),
            (4, Arrival::Again),
            (3, Arrival::Late),
            (1, Arrival::Again),
            (7, Arrival::Forward { passed: 1 }),
        ] {
            assert_eq!(ledger.arrive(reader, 5, sequence), expected, "{sequence}");
        }
        assert_eq!(ledger.arrive(reader, 4, 1), Arrival::Misrouted);
        let expected = Settled {
            owed: 9,
            delivered: 6,
            lost: 3,
            excused: 0,
        };
        assert_eq!(settle(&ledger, 9, &[]), expected);
        assert_eq!(ledger.outstanding(|_| 9), 3);
    }

    #[test]
    fn uncertain_messages_are_excused_only_if_they_are_missing() {
        let (mut ledger, reader) = one_stream();
        for sequence in [1, 3, 4] {
            ledger.arrive(reader, 5, sequence);
        }
        let uncertain = [(4, 2), (5, 2), (5, 3), (5, 6), (6, 2)];
        let settled = settle(&ledger, 6, &uncertain);
        assert_eq!(
            (settled.lost, settled.excused, settled.delivered),
            (1, 2, 3)
        );
    }

    #[test]
    fn what_was_sent_while_a_reader_was_away_may_come_and_need_not() {
        let (mut ledger, reader) = one_stream();
        ledger.arrive(reader, 5, 1);
        let mut excused = Vec::new();
        ledger.excuse_up_to(
            reader,
            |_| 10,
            |stream, count| excused.push((stream, count)),
        );
        assert_eq!(excused, [(5, 9)]);
        assert_eq!(ledger.arrive(reader, 5, 9), Arrival::Excused);
        assert_eq!(ledger.arrive(reader, 5, 11), Arrival::Forward { passed: 1 });
        assert_eq!(ledger.arrive(reader, 5, 13), Arrival::Forward { passed: 2 });
        let settled = settle(&ledger, 13, &[]);
        assert_eq!(
            (settled.lost, settled.excused, settled.delivered),
            (1, 8, 4)
        );
        ledger.set_gone(reader, true);
        let settled = settle(&ledger, 20, &[]);
        assert_eq!(
            (settled.lost, settled.excused, settled.delivered),
            (1, 15, 4)
        );
    }

    #[test]
    fn anonymous_deliveries_are_not_excused_as_well() {
        let (mut ledger, reader) = one_stream();
        for _ in 0..4 {
            ledger.arrive_anonymous(reader, QoS::ExactlyOnce);
        }
        let mut excused = 0;
        ledger.excuse_up_to(reader, |_| 10, |_, count| excused += count);
        assert_eq!(excused, 6);
        let settled = settle(&ledger, 10, &[]);
        assert_eq!(
            (settled.lost, settled.excused, settled.delivered),
            (0, 6, 4)
        );
    }

    #[test]
    fn a_retained_message_is_owed_once_and_what_it_replaced_is_not() {
        let (mut ledger, reader) = one_stream();
        ledger.excuse_up_to(reader, |_| 9, |_, _| {});
        assert_eq!(settle(&ledger, 10, &[]).lost, 1);
        assert_eq!(ledger.arrive(reader, 5, 10), Arrival::Forward { passed: 1 });
        assert_eq!(settle(&ledger, 10, &[]).lost, 0);
        assert_eq!(ledger.excuse_below(reader, 5, 20), 9);
        assert_eq!(ledger.arrive(reader, 5, 20), Arrival::Forward { passed: 1 });
        let settled = settle(&ledger, 20, &[]);
        assert_eq!(
            (settled.lost, settled.excused, settled.delivered),
            (0, 18, 2)
        );
    }

    #[test]
    fn deliveries_without_a_name_are_not_lost() {
        let (mut ledger, reader) = one_stream();
        ledger.arrive(reader, 5, 1);
        ledger.arrive_anonymous(reader, QoS::AtLeastOnce);
        let settled = settle(&ledger, 4, &[]);
        assert_eq!((settled.lost, settled.delivered), (2, 2));
        assert_eq!(ledger.outstanding(|_| 4), 2);
    }

    #[test]
    fn members_of_a_shared_subscription_have_an_order_each() {
        let mut ledger = Ledger::new(2);
        for (member, sequence, expected) in [
            (0, 2, true),
            (1, 1, true),
            (0, 5, true),
            (0, 4, false),
            (1, 3, true),
        ] {
            assert_eq!(
                ledger.is_in_order(member, 9, sequence),
                expected,
                "{member} {sequence}"
            );
        }
        let mut ledger = Ledger::new(u64::MAX);
        assert!(!ledger.checks_shared_order() && ledger.is_in_order(0, 0, 1));
    }

    /// Arrivals in any order, some twice, some never: against a set of what was seen.
    #[test]
    fn the_ledger_agrees_with_a_naive_one() {
        for seed in 0..200u64 {
            let (mut ledger, reader) = one_stream();
            let (mut seen, mut highest) = (HashSet::new(), 0u32);
            let last = 60;
            for step in 0..150u64 {
                let draw = mix(seed << 32 | step);
                let near = highest + 1 + (draw >> 8) as u32 % 4;
                let sequence = match draw % 4 {
                    0 => 1 + (draw >> 8) as u32 % last,
                    _ => near.min(last),
                };
                let expected = if seen.contains(&sequence) {
                    Arrival::Again
                } else if sequence > highest {
                    Arrival::Forward {
                        passed: sequence - highest,
                    }
                } else {
                    Arrival::Late
                };
                assert_eq!(
                    ledger.arrive(reader, 5, sequence),
                    expected,
                    "seed {seed} step {step}"
                );
                seen.insert(sequence);
                highest = highest.max(sequence);
                let settled = settle(&ledger, last, &[]);
                assert_eq!(
                    settled.delivered,
                    seen.len() as u64,
                    "seed {seed} step {step}"
                );
                assert_eq!(settled.lost, u64::from(last) - seen.len() as u64);
                ledger.check_invariants();
            }
            let ends = [20, 45].map(|end| vec![0, 0, 0, 0, 0, end]);
            let mut parts = vec![HashMap::new(); 3];
            let sent = Sent {
                last: &[0, 0, 0, 0, 0, last],
                qos: &|_| QoS::AtLeastOnce,
                uncertain: &[],
            };
            ledger.settle_parts(sent, &ends, &mut parts);
            for (part, range) in parts.iter_mut().zip([1..=20, 21..=45, 46..=last]) {
                let settled = part.remove(&(0, QoS::AtLeastOnce)).unwrap();
                let delivered = range.clone().filter(|n| seen.contains(n)).count() as u64;
                assert_eq!(settled.delivered, delivered, "seed {seed} {range:?}");
                assert_eq!(settled.owed, range.count() as u64);
                assert_eq!(settled.lost, settled.owed - delivered);
            }
        }
    }
}
