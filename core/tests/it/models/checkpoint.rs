//! The checkpoint of one shard, written in slices between turns that change everything, and the log behind it.
//!
//! Sessions lie in slots that are used again. A body with several owners is written once, and the memory of a body that
//! nobody holds is used again at once. The wills of sessions that end are owed until they are durable elsewhere. A
//! crash at any step keeps any prefix of the log that holds at least what was synced.
//!
//! The promise: checkpoint and log say what the whole log says. Each rule of `shard/checkpoint.rs` and
//! `store/recovered.rs` is left out once, and must be missed. What a checkpoint has to wait for on other shards is in
//! `origins.rs`.

use std::collections::{BTreeMap, BTreeSet};

use crate::dice::Dice;

/// A rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    None,
    /// A body stays in memory as long as its number is known.
    BodiesStay,
    /// The file is closed when the log is durable up to its last slice.
    LogFirst,
    /// ... and when what ended sessions owed is durable elsewhere.
    OwedFirst,
    /// The log before the checkpoint goes when that has its name.
    NameFirst,
    /// A delivery has the number that its record says.
    NumbersRecorded,
}

const RULES: [Rule; 5] = [
    Rule::BodiesStay,
    Rule::LogFirst,
    Rule::OwedFirst,
    Rule::NameFirst,
    Rule::NumbersRecorded,
];
const SLOTS: usize = 4;
const TOPICS: u8 = 3;
/// Deliveries in one slice.
const PART: usize = 2;

#[derive(Clone, Debug)]
enum Record {
    Opened(u32),
    Will(u32, u32),
    /// What it had as a will is owed.
    Ended(u32),
    WillGone(u32),
    /// A body, and the sessions that took it, under these numbers.
    Message(u32, Vec<(u32, u64)>),
    Settled(u32, u64),
    Retained(u8, u32),
    Unretained(u8),
    /// In a checkpoint.
    Numbers(u32, u64),
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Session {
    next: u64,
    open: BTreeMap<u64, u32>,
    will: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    sessions: BTreeMap<u32, Session>,
    retained: BTreeMap<u8, u32>,
    owed: BTreeMap<u32, u32>,
}

impl State {
    fn apply(&mut self, record: &Record, is_checkpoint: bool, without: Rule) {
        match record {
            Record::Opened(no) => _ = self.sessions.entry(*no).or_default(),
            Record::Ended(no) => {
                let will = self.sessions.remove(no).and_then(|session| session.will);
                self.owed.extend(will.map(|will| (*no, will)));
            }
            Record::WillGone(no) => _ = self.owed.remove(no),
            Record::Message(body, receivers) => {
                for (no, delivery) in receivers {
                    let Some(session) = self.sessions.get_mut(no) else {
                        continue;
                    };
                    let number = match without {
                        Rule::NumbersRecorded if !is_checkpoint => session.next,
                        _ => *delivery,
                    };
                    let is_covered = number < session.next;
                    if is_checkpoint || !is_covered {
                        session.open.insert(number, *body);
                    }
                    if !is_checkpoint {
                        session.next = session.next.max(number + 1);
                    }
                }
            }
            Record::Retained(topic, body) => _ = self.retained.insert(*topic, *body),
            Record::Unretained(topic) => _ = self.retained.remove(topic),
            Record::Will(no, _) | Record::Settled(no, _) | Record::Numbers(no, _) => {
                let Some(session) = self.sessions.get_mut(no) else {
                    return;
                };
                match record {
                    Record::Will(_, will) => session.will = Some(*will),
                    Record::Settled(_, delivery) => _ = session.open.remove(delivery),
                    Record::Numbers(_, next) => session.next = session.next.max(*next),
                    _ => unreachable!("listed above"),
                }
            }
        }
    }

    /// Bodies that somebody holds.
    fn bodies(&self) -> BTreeSet<u32> {
        let sessions = self.sessions.values();
        let queued = sessions.flat_map(|session| session.open.values().copied());
        queued.chain(self.retained.values().copied()).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// The slot, and of whom deliveries are left from there on.
    Slot(usize, Option<(u32, u64)>),
    Retained(u8),
    /// The file is written; the log has to be durable up to there.
    Log(usize),
    /// It is being given its name.
    Naming,
}

#[derive(Debug)]
struct Checkpoint {
    /// Turns before it.
    position: usize,
    step: Step,
    file: Vec<Record>,
    /// Bodies by address, under the number of the first one that was written.
    numbers: BTreeMap<usize, u32>,
    /// What ended sessions owed when the last slice was written.
    owed: Vec<u32>,
}

struct World {
    without: Rule,
    state: State,
    slots: [Option<u32>; SLOTS],
    /// By turns.
    log: Vec<Vec<Record>>,
    synced: usize,
    current: Option<Checkpoint>,
    /// Position and content of the last one that has its name.
    last: Option<(usize, Vec<Record>)>,
    /// The log before this is gone.
    freed: usize,
    /// Wills that are durable on the shards that got them.
    elsewhere: BTreeSet<u32>,
    /// Where bodies lie.
    memory: BTreeMap<u32, usize>,
    next_no: u32,
    next_body: u32,
}

impl World {
    fn new(without: Rule) -> World {
        World {
            without,
            state: State::default(),
            slots: [None; SLOTS],
            log: Vec::new(),
            synced: 0,
            current: None,
            last: None,
            freed: 0,
            elsewhere: BTreeSet::new(),
            memory: BTreeMap::new(),
            next_no: 0,
            next_body: 0,
        }
    }

    fn turn(&mut self, records: Vec<Record>) {
        for record in &records {
            self.state.apply(record, false, Rule::None);
        }
        self.log.push(records);
        self.use_memory();
    }

    /// Gives bodies that nobody holds back, and the others an address.
    fn use_memory(&mut self) {
        let mut held = self.state.bodies();
        if self.without != Rule::BodiesStay
            && let Some(current) = &self.current
        {
            held.extend(current.numbers.values());
        }
        self.memory.retain(|body, _| held.contains(body));
        for body in held {
            let used: BTreeSet<usize> = self.memory.values().copied().collect();
            let free = (0..).find(|address| !used.contains(address));
            let address = free.expect("memory has no end");
            self.memory.entry(body).or_insert(address);
        }
    }

    fn body(&mut self) -> u32 {
        self.next_body += 1;
        self.next_body
    }

    fn live(&self) -> Vec<u32> {
        self.slots.iter().flatten().copied().collect()
    }

    fn step(&mut self, dice: &mut Dice) -> Result<(), String> {
        match dice.below(24) {
            0..=2 => self.open(dice),
            3 => self.end(dice),
            4..=8 => self.publish(dice),
            9..=12 => self.settle(dice),
            13..=14 => self.retain(dice),
            15 => {
                let owed = self.state.owed.keys().copied();
                let given = owed.filter(|_| dice.one_in(2)).collect::<Vec<_>>();
                self.elsewhere.extend(given);
            }
            16 => {
                let mut owed = self.state.owed.keys().copied();
                if let Some(no) = owed.find(|no| self.elsewhere.contains(no)) {
                    self.turn(vec![Record::WillGone(no)]);
                }
            }
            17..=18 => self.synced += dice.below(self.log.len() - self.synced + 1),
            19..=22 => self.go_on(dice),
            _ => self.crash(dice)?,
        }
        Ok(())
    }

    fn open(&mut self, dice: &mut Dice) {
        let Some(slot) = self.slots.iter().position(Option::is_none) else {
            return;
        };
        let no = self.next_no;
        self.next_no += 1;
        self.slots[slot] = Some(no);
        let mut records = vec![Record::Opened(no)];
        if dice.one_in(2) {
            records.push(Record::Will(no, no + 1_000));
        }
        self.turn(records);
    }

    fn end(&mut self, dice: &mut Dice) {
        let slot = dice.below(SLOTS);
        if let Some(no) = self.slots[slot].take() {
            self.turn(vec![Record::Ended(no)]);
        }
    }

    fn publish(&mut self, dice: &mut Dice) {
        let live = self.live();
        let taking = live.into_iter().filter(|_| !dice.one_in(3));
        let next = |no: u32| (no, self.state.sessions[&no].next);
        let receivers: Vec<(u32, u64)> = taking.map(next).collect();
        let body = self.body();
        self.turn(vec![Record::Message(body, receivers)]);
    }

    fn settle(&mut self, dice: &mut Dice) {
        let sessions = self.state.sessions.iter();
        let open = sessions.flat_map(|(no, one)| one.open.keys().map(move |open| (*no, *open)));
        let open: Vec<(u32, u64)> = open.collect();
        if !open.is_empty() {
            let (no, delivery) = open[dice.below(open.len())];
            self.turn(vec![Record::Settled(no, delivery)]);
        }
    }

    fn retain(&mut self, dice: &mut Dice) {
        let topic = dice.below(usize::from(TOPICS)) as u8;
        let record = match dice.one_in(3) {
            true => Record::Unretained(topic),
            false => Record::Retained(topic, self.body()),
        };
        self.turn(vec![record]);
    }

    /// The next slice of a checkpoint, or the first of another one.
    fn go_on(&mut self, dice: &mut Dice) {
        let Some(mut current) = self.current.take() else {
            if dice.one_in(3) {
                self.current = Some(Checkpoint {
                    position: self.log.len(),
                    step: Step::Slot(0, None),
                    file: Vec::new(),
                    numbers: BTreeMap::new(),
                    owed: Vec::new(),
                });
            }
            return;
        };
        current.step = match current.step {
            Step::Slot(SLOTS, _) => Step::Retained(0),
            Step::Slot(slot, left) => self.write_slot(&mut current, slot, left),
            Step::Retained(TOPICS) => {
                current.owed = self.state.owed.keys().copied().collect();
                Step::Log(self.log.len())
            }
            Step::Retained(topic) => {
                let body = self.state.retained.get(&topic);
                let record = body.map(|body| Record::Retained(topic, *body));
                current.file.extend(record);
                Step::Retained(topic + 1)
            }
            Step::Log(until) => {
                let is_durable = self.synced >= until || self.without == Rule::LogFirst;
                let mut owed = current.owed.iter();
                let is_given = owed.all(|no| self.elsewhere.contains(no));
                match is_durable && (is_given || self.without == Rule::OwedFirst) {
                    true => Step::Naming,
                    false => current.step,
                }
            }
            Step::Naming => {
                self.freed = current.position;
                self.last = Some((current.position, current.file));
                return;
            }
        };
        if current.step == Step::Naming && self.without == Rule::NameFirst {
            self.freed = current.position;
        }
        self.current = Some(current);
    }

    fn write_slot(&self, current: &mut Checkpoint, slot: usize, left: Option<(u32, u64)>) -> Step {
        let Some(no) = self.slots[slot] else {
            return Step::Slot(slot + 1, None);
        };
        let session = &self.state.sessions[&no];
        // The slot may be another session's by now.
        let from = match left {
            Some((begun, from)) if begun == no => from,
            Some(_) | None => {
                current.file.push(Record::Opened(no));
                let will = session.will.map(|will| Record::Will(no, will));
                current.file.extend(will);
                0
            }
        };
        let part: Vec<(u64, u32)> = session
            .open
            .range(from..)
            .take(PART)
            .map(|(delivery, body)| (*delivery, *body))
            .collect();
        for (delivery, body) in &part {
            let number = current.numbers.entry(self.memory[body]).or_insert(*body);
            let record = Record::Message(*number, vec![(no, *delivery)]);
            current.file.push(record);
        }
        let is_last = part.len() < PART;
        if is_last {
            current.file.push(Record::Numbers(no, session.next));
        }
        match part.last() {
            Some((last, _)) if !is_last => Step::Slot(slot, Some((no, last + 1))),
            Some(_) | None => Step::Slot(slot + 1, None),
        }
    }

    fn crash(&mut self, dice: &mut Dice) -> Result<(), String> {
        if let Some(current) = self.current.take()
            && current.step == Step::Naming
            && dice.one_in(2)
        {
            // It has its name though nobody was told.
            self.last = Some((current.position, current.file));
        }
        let position = self.last.as_ref().map_or(0, |(position, _)| *position);
        if position < self.freed {
            return Err("the log behind the last checkpoint is gone".to_owned());
        }
        let kept = self.synced + dice.below(self.log.len() - self.synced + 1);
        let kept = kept.max(position);
        let mut found = State::default();
        for record in self.last.iter().flat_map(|(_, file)| file) {
            found.apply(record, true, self.without);
        }
        for record in self.log[position..kept].iter().flatten() {
            found.apply(record, false, self.without);
        }
        let mut expected = State::default();
        for record in self.log[..kept].iter().flatten() {
            expected.apply(record, false, Rule::None);
        }
        for (no, will) in &expected.owed {
            if !self.elsewhere.contains(no) && found.owed.get(no) != Some(will) {
                return Err(format!("the will of session {no} is forgotten"));
            }
        }
        if (&found.sessions, &found.retained) != (&expected.sessions, &expected.retained) {
            return Err(format!("found {found:?}, expected {expected:?}"));
        }
        self.slots = [None; SLOTS];
        for (slot, no) in self.slots.iter_mut().zip(found.sessions.keys()) {
            *slot = Some(*no);
        }
        self.state = found;
        self.log.truncate(kept);
        self.synced = kept;
        self.use_memory();
        Ok(())
    }
}

fn run(seed: u64, without: Rule) -> Result<(), String> {
    let mut dice = Dice::new(seed);
    let mut world = World::new(without);
    for _ in 0..40 + dice.below(160) {
        world.step(&mut dice)?;
    }
    world.crash(&mut dice)
}

#[test]
fn checkpoint_and_log_say_what_the_whole_log_says() {
    for seed in 0..20_000 {
        if let Err(broken) = run(seed, Rule::None) {
            panic!("seed {seed}: {broken}");
        }
    }
}

#[test]
fn without_any_one_rule_a_checkpoint_says_something_else() {
    for rule in RULES {
        let noticed = (0..SEEDS_MAX).find(|&seed| run(seed, rule).is_err());
        println!("{rule:?}: seed {noticed:?}");
        assert!(noticed.is_some(), "{rule:?} is not needed");
    }
}

const SEEDS_MAX: u64 = 50_000;
