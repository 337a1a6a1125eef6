//! A retained message of QoS 2 whose publisher, subscriber and owner of the topic have a log each: every schedule of two
//! messages with one packet identifier, of a value that somebody else retains meanwhile, and of up to three crashes. A crash
//! leaves any prefix of each log that holds what was synced. A start reads all logs from their beginning.
//!
//! The promise: what the subscriber has been given is retained, or what was retained later. And each start finds what
//! the one before it has found, and what was recorded since. Without any one of the rules of `Recovered::end_epoch`, some
//! schedule breaks that.

use std::collections::HashSet;

/// Who has which log.
const PUBLISHER: usize = 0;
const SUBSCRIBER: usize = 1;
const OWNER: usize = 2;
const LOGS: usize = 3;
const MESSAGES: u8 = 2;
const CRASHES: u8 = 3;
/// The value of somebody else.
const OTHER: u8 = 9;

/// What is left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    None,
    /// What a subscriber has, and the owner has not heard of, is retained.
    Completed,
    /// The owner records what it has heard of.
    Kept,
    /// It is retained where the logs of the start end that was interrupted, not behind those that came later.
    AtTheEpoch,
}

/// Messages are named by their tickets, which are their values.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Record {
    Message(u8),
    Retained(u8),
    Kept(u8),
    Spread(u8),
    /// A start has read the log up to here.
    Epoch,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    logs: [Vec<Record>; LOGS],
    synced: [usize; LOGS],
    /// Under way to the subscriber and to the owner.
    mail: [Option<u8>; LOGS],
    /// The message that has no receipt yet, or the next one.
    ticket: u8,
    is_published: bool,
    /// The subscriber has it since before a crash.
    has_reached: bool,
    has_other: bool,
    /// What the last start has found.
    found: Option<u8>,
    crashes: u8,
}

impl State {
    fn first() -> State {
        State {
            logs: Default::default(),
            synced: [0; LOGS],
            mail: [None; LOGS],
            ticket: 0,
            is_published: false,
            has_reached: false,
            has_other: false,
            found: None,
            crashes: 0,
        }
    }

    fn next(&self, without: Rule) -> Vec<Result<State, State>> {
        let mut next = Vec::new();
        let mut add = |change: &dyn Fn(&mut State)| {
            let mut state = self.clone();
            change(&mut state);
            next.push(Ok(state));
        };
        let is_synced = |log: usize| self.synced[log] == self.logs[log].len();
        // The identifier is free again when that is durable.
        if self.ticket < MESSAGES && !self.is_published && is_synced(PUBLISHER) {
            add(&|state| {
                state.is_published = true;
                state.mail[SUBSCRIBER] = Some(state.ticket).filter(|_| !state.has_reached);
                state.mail[OWNER] = Some(state.ticket);
            });
        }
        if !self.has_other {
            add(&|state| {
                state.has_other = true;
                state.logs[OWNER].push(Record::Retained(OTHER));
            });
        }
        if let Some(ticket) = self.mail[SUBSCRIBER] {
            add(&|state| {
                state.mail[SUBSCRIBER] = None;
                state.logs[SUBSCRIBER].push(Record::Message(ticket));
            });
        }
        if let Some(ticket) = self.mail[OWNER] {
            add(&|state| {
                state.mail[OWNER] = None;
                state.logs[OWNER].extend([Record::Retained(ticket), Record::Kept(ticket)]);
            });
        }
        for log in 0..LOGS {
            if self.synced[log] < self.logs[log].len() {
                add(&|state| state.synced[log] = state.logs[log].len());
            }
        }
        if self.is_published && self.mail == [None; LOGS] && (0..LOGS).all(is_synced) {
            add(&|state| {
                state.logs[PUBLISHER].push(Record::Spread(state.ticket));
                state.ticket += 1;
                (state.is_published, state.has_reached) = (false, false);
            });
        }
        if self.crashes < CRASHES {
            let kept = |log: usize| self.synced[log]..=self.logs[log].len();
            for a in kept(0) {
                for b in kept(1) {
                    next.extend(kept(2).filter_map(|c| self.crash([a, b, c], without)));
                }
            }
        }
        next
    }

    /// `None`: records of one event are kept as a whole, or not at all. `Err`: the promise is broken.
    fn crash(&self, kept: [usize; LOGS], without: Rule) -> Option<Result<State, State>> {
        let mut state = self.clone();
        state.crashes += 1;
        state.mail = [None; LOGS];
        for (log, kept) in state.logs.iter_mut().zip(kept) {
            if let Some(Record::Kept(_)) = log.get(kept) {
                return None;
            }
            log.truncate(kept);
        }
        // The publisher repeats what has no receipt, or goes on.
        let is_spread = |record: &Record| matches!(record, Record::Spread(_));
        let spread = state.logs[PUBLISHER].iter().filter(|one| is_spread(one));
        state.ticket = spread.count() as u8;
        state.is_published = false;
        let message = Record::Message(state.ticket);
        state.has_reached = state.logs[SUBSCRIBER].contains(&message);
        state.has_other &= state.logs[OWNER].contains(&Record::Retained(OTHER));
        let expected = state.expected();
        state
            .logs
            .iter_mut()
            .for_each(|log| log.push(Record::Epoch));
        state.synced = [0, 1, 2].map(|log| state.logs[log].len());
        state.found = state.recover(without);
        let has = |ticket: &u8| state.logs[SUBSCRIBER].contains(&Record::Message(*ticket));
        let last = (0..MESSAGES).rev().find(has);
        let is_older = last.is_some_and(|last| state.found.is_none_or(|found| found < last));
        let is_wrong = is_older || state.found != expected;
        Some(if is_wrong { Err(state) } else { Ok(state) })
    }

    /// What is retained after the one crash that has come since the last start.
    fn expected(&self) -> Option<u8> {
        let since = |record: &&Record| **record != Record::Epoch;
        let recorded = self.logs[OWNER].iter().rev().take_while(since);
        let retained = recorded.filter_map(|record| match record {
            Record::Retained(value) => Some(*value),
            _ => None,
        });
        let before = retained.clone().next().or(self.found);
        let is_heard_of = self.logs[OWNER].contains(&Record::Kept(self.ticket));
        let is_owed = self.has_reached && !is_heard_of;
        let was_given = self.was_given();
        if is_owed && !was_given {
            Some(self.ticket)
        } else {
            before
        }
    }

    /// The subscriber had the message before the last start, which has retained it.
    fn was_given(&self) -> bool {
        let log = &self.logs[SUBSCRIBER];
        let start = log.iter().rposition(|record| *record == Record::Epoch);
        start.is_some_and(|start| log[..start].contains(&Record::Message(self.ticket)))
    }

    /// All logs, start by start.
    fn recover(&self, without: Rule) -> Option<u8> {
        let epochs = [0, 1, 2].map(|log| {
            let records = self.logs[log].split(|record| *record == Record::Epoch);
            records.collect::<Vec<_>>()
        });
        let (mut retained, mut spread) = (None, 0);
        let (mut taken, mut kept) = (HashSet::new(), HashSet::new());
        for at in 0..epochs[OWNER].len() {
            for record in epochs.iter().flat_map(|log| log[at]) {
                match record {
                    Record::Message(ticket) => _ = taken.insert(*ticket),
                    Record::Retained(value) => retained = Some(*value),
                    Record::Kept(ticket) if without != Rule::Kept => _ = kept.insert(*ticket),
                    Record::Kept(_) | Record::Epoch => {}
                    Record::Spread(ticket) => spread = ticket + 1,
                }
            }
            // Behind the mark of the last start nothing is read yet.
            let is_last = at + 2 == epochs[OWNER].len();
            let is_end = match without {
                Rule::Completed => false,
                Rule::AtTheEpoch => is_last,
                Rule::None | Rule::Kept => at + 1 < epochs[OWNER].len(),
            };
            if is_end && taken.contains(&spread) && kept.insert(spread) {
                retained = Some(spread);
            }
        }
        retained
    }
}

/// Looks at all states; false as soon as the promise is broken.
fn holds(without: Rule) -> bool {
    let mut seen = HashSet::from([State::first()]);
    let mut open = vec![State::first()];
    let mut has_ended = false;
    while let Some(state) = open.pop() {
        has_ended |= state.ticket == MESSAGES;
        for next in state.next(without) {
            let Ok(next) = next else { return false };
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    assert!(has_ended, "some schedule comes to its end");
    true
}

#[test]
fn what_a_subscriber_has_been_given_is_retained() {
    assert!(holds(Rule::None));
}

#[test]
fn without_any_one_rule_an_older_value_is_retained() {
    for rule in [Rule::Completed, Rule::Kept, Rule::AtTheEpoch] {
        assert!(!holds(rule), "{rule:?} is not needed");
    }
}
