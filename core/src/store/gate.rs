//! Which turns of a shard are durable, here and on the shards that they posted to; and who waits for them.
//!
//! The unit is the turn. A turn needs the log of its own shard if it recorded something, and of each other shard to
//! which it posted what may be recorded there. Behind such posts goes a mark; the other shard answers it as soon
//! as what it recorded and passed on for this source is durable: never for its whole turn, or two busy shards would
//! wait for each other without end. Nor does a mark wait for those before it: two shards that pass messages on to
//! each other would do the same. So what a mark waits for was always posted after it: nothing is passed on with a mark
//! that came without one.
//!
//! Invariant: the last of `turns` is the present one; the first is not done, or is the present one.
//!
//! Not here: what waits (`session/held.rs`), the log itself (`log.rs`).

use std::collections::VecDeque;

use super::record::Record;
use crate::ids::{SessionId, SessionNo, ShardId, TurnSeq};
use crate::origin::Origin;
use crate::topic::ShardSet;

/// The gate of one shard.
#[derive(Debug)]
pub struct Gate {
    /// Number of `turns[0]`.
    first: TurnSeq,
    turns: VecDeque<OpenTurn>,
    /// The log of this shard is durable up to this turn.
    own: TurnSeq,
    /// What each shard has vouched for, and what it is owed.
    peers: Vec<Peer>,
}

/// A turn that is not done, or the present one.
#[derive(Debug, Default)]
struct OpenTurn {
    is_recorded: bool,
    /// It recorded something that nobody waits for.
    is_lazy: bool,
    /// It is done only when all turns before it are.
    is_behind_all: bool,
    /// Shards that it posted to, and that have not answered its mark.
    posted: ShardSet,
    waiting: Vec<SessionId>,
    after: Vec<After>,
}

/// What is recorded once a turn is durable everywhere: until then it is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The will of this session was published.
    WillGone(SessionNo),
    /// What this session, which has ended, had of its groups was given to other members.
    Passed(SessionNo),
    /// A QoS 2 message of this session that other shards got. Were it recorded before they have it durably, its
    /// repetition after a crash would be taken for one, and the message would be lost to them.
    Spread(Origin),
}

impl After {
    /// What to record.
    pub fn record(self) -> Record<'static> {
        match self {
            After::WillGone(no) => Record::WillGone(no),
            After::Passed(no) => Record::Passed(no),
            After::Spread(origin) => Record::Spread(origin),
        }
    }
}

/// Another shard.
#[derive(Debug, Default)]
struct Peer {
    /// What was done for it since its last mark.
    since_mark: Needs,
    /// Its marks that are not answered.
    marks: VecDeque<Mark>,
}

/// What has to be durable before a mark is answered.
#[derive(Debug, Default)]
struct Needs {
    /// The log of this shard, up to here.
    own: TurnSeq,
    /// What was passed on, by turn: to which shards.
    passed_on: Vec<(TurnSeq, ShardSet)>,
}

#[derive(Debug)]
struct Mark {
    upto: TurnSeq,
    needs: Needs,
}

/// What has become possible.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Sessions whose held answers are to be looked at.
    pub sessions: Vec<SessionId>,
    /// What is to be recorded now.
    pub after: Vec<After>,
    /// Answers to marks: to whom, and the first and last of the turns with marks in a row that are answered.
    pub durable: Vec<(ShardId, [TurnSeq; 2])>,
}

impl Gate {
    /// A gate among `shards` shards, before the first turn.
    pub fn new(shards: usize) -> Gate {
        Gate {
            first: TurnSeq(1),
            turns: VecDeque::from([OpenTurn::default()]),
            own: TurnSeq(0),
            peers: (0..shards).map(|_| Peer::default()).collect(),
        }
    }

    /// The present turn.
    pub fn turn(&self) -> TurnSeq {
        TurnSeq(self.first.0 + self.turns.len() as u64 - 1)
    }

    /// The present turn has recorded something.
    pub fn note_recorded(&mut self) {
        self.present().is_recorded = true;
    }

    /// The present turn has recorded something that nobody waits for.
    pub fn note_lazy(&mut self) {
        self.present().is_lazy = true;
    }

    /// The present turn has posted something that `shard` may record.
    pub fn note_posted(&mut self, shard: ShardId) {
        let present = self.present();
        present.posted = present.posted.with(shard);
    }

    /// The present turn has recorded something for `source`, or passed something on to `passed_on`.
    pub fn note_done_for(&mut self, source: ShardId, is_recorded: bool, passed_on: ShardSet) {
        let turn = self.turn();
        let needs = &mut self.peers[source.index()].since_mark;
        if is_recorded {
            needs.own = turn;
        }
        match needs.passed_on.last_mut() {
            _ if passed_on.is_empty() => {}
            Some((last, shards)) if *last == turn => {
                *shards = passed_on.iter().fold(*shards, ShardSet::with);
            }
            Some(_) | None => needs.passed_on.push((turn, passed_on)),
        }
    }

    /// Whether everything of a turn is durable. The present one is if it did nothing durable so far.
    pub fn is_done(&self, turn: TurnSeq) -> bool {
        match self.turns.get(self.index(turn)) {
            Some(open) => {
                turn < self.first
                    || ((!open.is_recorded || self.own >= turn)
                        && open.posted.is_empty()
                        && (!open.is_behind_all || turn == self.first))
            }
            None => unreachable!("{turn:?} is still to come"),
        }
    }

    /// An answer to a session waits for a turn that is not done.
    pub fn wait(&mut self, turn: TurnSeq, session: SessionId) {
        assert!(!self.is_done(turn), "nobody waits for what is done");
        let index = self.index(turn);
        let waiting = &mut self.turns[index].waiting;
        if waiting.last() != Some(&session) {
            waiting.push(session);
        }
    }

    /// Has something recorded once the present turn is done.
    pub fn then(&mut self, after: After) {
        self.present().after.push(after);
    }

    /// Has something else recorded once this turn is done.
    pub fn replace(&mut self, turn: TurnSeq, former: After, after: After) {
        assert!(turn >= self.first, "what is done was recorded");
        let index = self.index(turn);
        let of_turn = &mut self.turns[index].after;
        let at = of_turn.iter().position(|other| *other == former);
        of_turn[at.expect("it is still to come")] = after;
    }

    /// The turn to wait for by whoever waits for all turns up to `last`, if they are not done.
    pub fn behind_all(&mut self, last: TurnSeq) -> TurnSeq {
        if last < self.first {
            return last;
        }
        self.present().is_behind_all = true;
        self.turn()
    }

    /// Closes the present turn if it did something durable, or has something recorded afterwards. Gives its number and the shards that are to
    /// get a mark.
    pub fn end_turn(&mut self) -> Option<(TurnSeq, ShardSet)> {
        let turn = self.turn();
        let present = self.present();
        let posted = present.posted;
        let has_recorded = present.is_recorded || present.is_lazy;
        let has_any = has_recorded || present.is_behind_all || !present.after.is_empty();
        if !has_any && posted.is_empty() {
            return None;
        }
        self.turns.push_back(OpenTurn::default());
        Some((turn, posted))
    }

    /// The log of this shard is durable up to a turn.
    pub fn on_own_durable(&mut self, upto: TurnSeq, released: &mut Released) {
        let first = TurnSeq(self.own.0 + 1);
        self.own = self.own.max(upto);
        self.release([first, upto], released);
    }

    /// Another shard is durable for what was posted to it in these turns.
    pub fn on_peer_durable(
        &mut self,
        peer: ShardId,
        [first, last]: [TurnSeq; 2],
        released: &mut Released,
    ) {
        assert!(last < self.turn(), "a mark is posted when its turn ends");
        for turn in (first.max(self.first).0..=last.0).map(TurnSeq) {
            let index = self.index(turn);
            let open = &mut self.turns[index];
            open.posted = open.posted.without(peer);
        }
        self.release([first, last], released);
    }

    /// A mark of another shard.
    pub fn on_mark(&mut self, from: ShardId, upto: TurnSeq, released: &mut Released) {
        let peer = &mut self.peers[from.index()];
        let needs = std::mem::take(&mut peer.since_mark);
        peer.marks.push_back(Mark { upto, needs });
        self.answer_marks(from, released);
    }

    /// The last turn that has recorded something.
    pub fn last_recorded(&self) -> TurnSeq {
        let present = self.turns.back().expect("there is always one");
        let is_idle = !present.is_recorded && !present.is_lazy;
        TurnSeq(self.turn().0 - u64::from(is_idle))
    }

    /// The first turn that is not done, or the present one.
    pub fn oldest_open(&self) -> TurnSeq {
        self.first
    }

    /// Turns that are not done, the present one not counted.
    pub fn open_count(&self) -> usize {
        self.turns.len() - 1
    }

    /// Looks at these turns, of which some may be done now.
    fn release(&mut self, [first, last]: [TurnSeq; 2], released: &mut Released) {
        let present = self.turn();
        for turn in (first.max(self.first).0..=last.0.min(present.0)).map(TurnSeq) {
            if turn < present && self.is_done(turn) {
                let index = self.index(turn);
                let open = &mut self.turns[index];
                released.sessions.append(&mut open.waiting);
                released.after.append(&mut open.after);
            }
        }
        while self.turns.len() > 1 && self.is_done(self.first) {
            let done = self.turns.pop_front().expect("there is more than one");
            // A turn that needed nobody was never looked at.
            released.sessions.extend(done.waiting);
            released.after.extend(done.after);
            self.first.0 += 1;
        }
        for shard in (0..self.peers.len()).map(ShardId::new) {
            self.answer_marks(shard, released);
        }
    }

    fn answer_marks(&mut self, from: ShardId, released: &mut Released) {
        // Those before it wait for what they passed on; none of them stays long.
        let mut index = 0;
        let mut is_in_row = false;
        while let Some(mark) = self.peers[from.index()].marks.get(index) {
            if mark.needs.own > self.own {
                break;
            }
            if !self.have_heard(&mark.needs.passed_on) {
                index += 1;
                is_in_row = false;
                continue;
            }
            let upto = mark.upto;
            self.peers[from.index()].marks.remove(index);
            match released.durable.last_mut() {
                Some((_, [_, last])) if is_in_row => *last = upto,
                Some(_) | None => released.durable.push((from, [upto, upto])),
            }
            is_in_row = true;
        }
    }

    fn have_heard(&self, passed_on: &[(TurnSeq, ShardSet)]) -> bool {
        passed_on.iter().all(|&(turn, shards)| {
            turn < self.first || self.turns[self.index(turn)].posted.and(shards).is_empty()
        })
    }

    fn present(&mut self) -> &mut OpenTurn {
        self.turns.back_mut().expect("there is always one")
    }

    /// Where a turn stands in `turns`; 0 for those that are done.
    fn index(&self, turn: TurnSeq) -> usize {
        turn.0.saturating_sub(self.first.0) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(index: u32) -> SessionId {
        SessionId {
            index,
            generation: 0,
        }
    }

    #[test]
    fn an_answer_waits_for_the_log_of_its_own_turn_only() {
        let mut gate = Gate::new(1);
        assert!(gate.is_done(gate.turn()), "nothing was recorded");
        assert_eq!(gate.end_turn(), None);
        gate.note_recorded();
        let first = gate.turn();
        gate.wait(first, session(1));
        gate.wait(first, session(1));
        assert_eq!(gate.end_turn(), Some((TurnSeq(1), ShardSet::EMPTY)));
        assert!(gate.is_done(gate.turn()));
        gate.note_recorded();
        gate.wait(gate.turn(), session(2));
        gate.end_turn();
        let mut released = Released::default();
        gate.on_own_durable(first, &mut released);
        assert_eq!(released.sessions, [session(1)]);
        assert!(gate.is_done(first) && !gate.is_done(TurnSeq(2)));
        gate.on_own_durable(TurnSeq(2), &mut released);
        assert_eq!(released.sessions, [session(1), session(2)]);
        assert_eq!(gate.open_count(), 0);
    }

    #[test]
    fn a_slow_shard_delays_only_the_turns_that_need_it() {
        let (own, slow) = (TurnSeq(2), ShardId::new(1));
        let mut gate = Gate::new(3);
        gate.note_posted(slow);
        gate.wait(gate.turn(), session(1));
        gate.then(After::WillGone(SessionNo(7)));
        gate.end_turn();
        gate.note_recorded();
        gate.wait(gate.turn(), session(2));
        gate.end_turn();
        let mut released = Released::default();
        gate.on_own_durable(own, &mut released);
        assert_eq!(released.sessions, [session(2)]);
        assert!(released.after.is_empty());
        assert_eq!(gate.open_count(), 2, "the first is not done");
        gate.on_peer_durable(slow, [TurnSeq(1); 2], &mut released);
        assert_eq!(released.sessions, [session(2), session(1)]);
        assert_eq!(released.after, [After::WillGone(SessionNo(7))]);
        assert_eq!(gate.open_count(), 0);
    }

    #[test]
    fn a_mark_is_answered_when_what_was_done_for_its_source_is_durable() {
        let (a, b) = (ShardId::new(1), ShardId::new(2));
        let mut gate = Gate::new(3);
        let mut released = Released::default();
        gate.on_mark(a, TurnSeq(5), &mut released);
        assert_eq!(
            released.durable,
            [(a, [TurnSeq(5); 2])],
            "nothing was done for it"
        );
        released.durable.clear();

        gate.note_recorded();
        gate.note_done_for(a, true, ShardSet::EMPTY);
        gate.note_done_for(b, false, ShardSet::EMPTY.with(a));
        gate.note_posted(a);
        gate.on_mark(a, TurnSeq(6), &mut released);
        gate.on_mark(b, TurnSeq(9), &mut released);
        gate.end_turn();
        gate.on_mark(a, TurnSeq(7), &mut released);
        assert!(released.durable.is_empty());
        gate.on_own_durable(TurnSeq(1), &mut released);
        assert_eq!(
            released.durable,
            [(a, [TurnSeq(6), TurnSeq(7)])],
            "for a, not for its whole turn"
        );
        released.durable.clear();
        gate.on_peer_durable(a, [TurnSeq(1); 2], &mut released);
        assert_eq!(released.durable, [(b, [TurnSeq(9); 2])]);
    }

    // (seed 0x79c0 of the simulator)
    #[test]
    fn who_comes_back_waits_for_all_turns_of_its_session() {
        let slow = ShardId::new(1);
        let mut gate = Gate::new(3);
        gate.note_posted(slow);
        gate.end_turn();
        gate.note_recorded();
        gate.end_turn();
        let mut released = Released::default();
        gate.on_own_durable(TurnSeq(2), &mut released);
        assert!(gate.is_done(TurnSeq(2)) && !gate.is_done(TurnSeq(1)));
        let turn = gate.behind_all(TurnSeq(2));
        assert!(!gate.is_done(turn));
        gate.wait(turn, session(1));
        assert_eq!(gate.end_turn(), Some((turn, ShardSet::EMPTY)));
        gate.on_peer_durable(slow, [TurnSeq(1); 2], &mut released);
        assert_eq!(released.sessions, [session(1)]);
        assert_eq!(gate.behind_all(turn), turn, "nothing is open");
        assert_eq!(gate.end_turn(), None);
    }

    // (seed 0x26dd of the simulator)
    #[test]
    fn two_shards_that_pass_on_to_each_other_do_not_wait_for_each_other() {
        let peer = ShardId::new(1);
        let mut gate = Gate::new(2);
        let mut released = Released::default();
        // The other one does the same at the same time, with what this one posted in turn 1.
        gate.note_posted(peer);
        gate.end_turn();
        gate.note_posted(peer);
        gate.note_done_for(peer, false, ShardSet::EMPTY.with(peer));
        gate.on_mark(peer, TurnSeq(1), &mut released);
        gate.end_turn();
        gate.note_recorded();
        gate.note_done_for(peer, true, ShardSet::EMPTY);
        gate.on_mark(peer, TurnSeq(2), &mut released);
        gate.end_turn();
        assert!(released.durable.is_empty());
        gate.on_own_durable(TurnSeq(3), &mut released);
        assert_eq!(released.durable, [(peer, [TurnSeq(2); 2])], "it overtakes");
        released.durable.clear();
        gate.on_peer_durable(peer, [TurnSeq(2); 2], &mut released);
        assert_eq!(released.durable, [(peer, [TurnSeq(1); 2])]);
    }
}
