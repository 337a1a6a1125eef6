//! What the machine that leads a run and an agent say to each other: a line of JSON for each
//! message, orders to the agent's stdin, reports from its stdout.
//!
//! Both sides are the same version of ringload, and make the same plan from the same scenario, so
//! that streams, threads and segments have the same numbers everywhere. Times are those of the
//! agent's clock.

use std::ops::Range;
use std::sync::atomic::Ordering;

use ringmq_core::codec::QoS;
use serde::{Deserialize, Serialize};

use crate::engine::{Boundary, Mark, ThreadEnded};
use crate::fleet::{PartEnds, SysUpdate, Troubles};
use crate::ledger::{Ledger, Settled};
use crate::meter::{Counts, GroupTimes, Interval, Meter};
use crate::plan::Plan;
use crate::report::Machine;
use crate::shared::{Board, Shared, Stage};

/// From who leads.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// What does your clock say?
    Clock,
    /// What is to be done.
    Job(Box<Job>),
    /// Connect.
    Start {
        /// When the run began: stamps count from here.
        origin_ns: u64,
    },
    /// How far the run is.
    State(State),
    /// What other machines have sent, of streams with readers elsewhere.
    Sequences(Vec<Sequences>),
    /// What all machines have sent, for the settlement.
    Settle(Box<Sent>),
}

/// From an agent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// The first line.
    Hello(Hello),
    /// What its clock said.
    Clock {
        /// At that moment.
        at_ns: u64,
    },
    /// It cannot do its part.
    Refused {
        /// And why.
        why: String,
    },
    /// It can.
    Ready {
        /// Where it runs.
        machine: Machine,
        /// Streams of its plan.
        streams: u64,
        /// Local addresses of its clients.
        sources: Vec<String>,
        /// Files that it may open.
        files_max: u64,
    },
    /// How far its threads are.
    Boards(Boards),
    /// What it has sent so far, see [`Order::Sequences`].
    Sequences(Vec<Sequences>),
    /// A second of a thread is over.
    Interval(Box<Interval>),
    /// The broker said something of itself.
    Sys(Vec<SysUpdate>),
    /// Continuing makes no sense.
    Fatal {
        /// Because of this.
        why: String,
    },
    /// A thread has ended.
    Ended(Box<Ended>),
    /// What became of what was owed to its readers.
    Settled(Settlement),
}

/// Who an agent is. This is what other versions understand too, so it stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// [`HELLO`]: no other program says this.
    pub program: String,
    /// Of ringload.
    pub version: String,
}

/// The value of [`Hello::program`].
pub const HELLO: &str = "ringload agent";

/// The part of an agent in a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Job {
    /// The scenario, without its passwords.
    pub scenario: String,
    /// By group.
    pub passwords: Vec<Option<String>>,
    /// By group.
    pub sas_keys: Vec<Option<String>>,
    /// The broker as the user wrote it.
    pub target: String,
    /// Number of the run.
    pub run: u16,
    /// Threads of each machine.
    pub threads: usize,
    /// Machines of the run.
    pub machines: usize,
    /// Which of them this is.
    pub machine: usize,
    /// Cores to bind the threads to, in turn.
    pub cores: Vec<usize>,
    /// Clients that cannot connect are counted, and do not end the run.
    pub keep_going: bool,
    /// Somebody listens to `$SYS`.
    pub with_sys: bool,
}

impl Job {
    /// The threads of this machine, among those of the plan.
    pub fn own_threads(&self) -> Range<usize> {
        let first = self.machine * self.threads;
        first..first + self.threads
    }
}

/// How far a run is: see [`Shared`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// 0 to 3, see [`Stage`].
    pub stage: u8,
    /// When publishing begins.
    pub publish_at: u64,
    /// When the window begins.
    pub window_start: u64,
    /// When it ends.
    pub window_end: u64,
    /// Number of the last question.
    pub question: u64,
}

impl State {
    /// What is shared now. The stage is read first: times that belong to it are set before.
    pub fn of(shared: &Shared) -> State {
        State {
            stage: shared.stage() as u8,
            question: shared.question(),
            publish_at: shared.publish_at(),
            window_start: shared.window_start(),
            window_end: shared.window_end(),
        }
    }

    /// The same on another clock.
    pub fn moved(self, to: impl Fn(u64) -> u64) -> State {
        State {
            publish_at: to(self.publish_at),
            window_start: to(self.window_start),
            window_end: to(self.window_end),
            ..self
        }
    }

    /// Makes it that of the threads here.
    pub fn apply(self, shared: &Shared) {
        shared.set_publish_at(self.publish_at);
        shared.set_window_start(self.window_start);
        shared.set_window_end(self.window_end);
        let stage = match self.stage {
            0 => Stage::Connect,
            1 => Stage::Publish,
            2 => Stage::Drain,
            _ => Stage::End,
        };
        if stage > shared.stage() {
            shared.set_stage(stage);
        }
        while shared.question() < self.question {
            shared.ask();
        }
    }
}

/// The last sequences of streams that follow each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequences {
    /// The first stream.
    pub first: u32,
    /// Its last sequence, and those of the streams behind it.
    pub last: Vec<u32>,
}

impl Sequences {
    /// Those of some threads, as they are now.
    pub fn of(plan: &Plan, threads: Range<usize>) -> Vec<Sequences> {
        let mut all = Vec::new();
        for (group, planned) in plan.groups.iter().enumerate().filter(|(_, g)| g.topics > 0) {
            for thread in threads.clone() {
                let clients = plan.clients_on(group, thread);
                if clients.is_empty() {
                    continue;
                }
                let first = planned.stream(clients.start, 0);
                let streams = first..first + clients.len() as u32 * planned.topics;
                let last = streams.map(|stream| plan.streams.last_sequence(stream));
                all.push(Sequences {
                    first,
                    last: last.collect(),
                });
            }
        }
        all
    }

    /// Notes them in a plan.
    pub fn note(&self, plan: &Plan) {
        for (stream, last) in (self.first..).zip(&self.last) {
            plan.streams.note_sent(stream, *last);
        }
    }
}

/// The boards of an agent's threads, see [`Board`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Boards {
    /// CPU time of the agent so far.
    pub cpu_us: u64,
    /// By thread of the machine.
    pub boards: Vec<BoardNow>,
}

macro_rules! board {
    ($($field:ident: $kind:ty,)*) => {
        /// What a [`Board`] shows, field by field.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct BoardNow {
            $(#[doc = concat!("See [`Board::", stringify!($field), "`].")] pub $field: $kind,)*
        }

        impl BoardNow {
            /// As it is now. The answer is read first, and shown last: what it is about is as
            /// new at least.
            pub fn of(board: &Board) -> BoardNow {
                let answered = board.answered.load(Ordering::Acquire);
                let now = BoardNow { $($field: board.$field.load(Ordering::Acquire),)* };
                BoardNow { answered, ..now }
            }

            /// Shows it here.
            pub fn show_on(&self, board: &Board) {
                $(board.$field.store(self.$field, Ordering::Release);)*
            }
        }
    };
}

board! {
    sent: u64,
    received: u64,
    asked: u64,
    owed: u64,
    heard: u64,
    unacknowledged: u64,
    pending: u64,
    errors: u64,
    ready: u64,
    arrived_at: u64,
    heard_at: u64,
    dialed_at: u64,
    settled_at: u64,
    outstanding: u64,
    settling: u32,
    settling_late: u32,
    unfinished: u32,
    answered: u64,
}

impl BoardNow {
    /// The same on another clock.
    pub fn moved(self, to: impl Fn(u64) -> u64) -> BoardNow {
        BoardNow {
            arrived_at: to(self.arrived_at),
            heard_at: to(self.heard_at),
            dialed_at: to(self.dialed_at),
            settled_at: to(self.settled_at),
            ..self
        }
    }
}

/// What a thread hands over, but for its ledger: that stays, and is settled later.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ended {
    /// Which, among those of the plan.
    pub thread: usize,
    /// What it sent.
    pub sequences: Vec<Sequences>,
    /// The ledger looked at the order within shared subscriptions.
    pub checks_shared_order: bool,
    /// The ledger is exact.
    pub is_exact: bool,
    /// By group.
    pub counts: Vec<Counts>,
    /// By group.
    pub times: Vec<GroupTimes>,
    /// What went wrong.
    pub troubles: Troubles,
    /// Messages that the broker refused or never acknowledged.
    pub uncertain: Vec<(u32, u32)>,
    /// Counters when the window began and when it ended.
    pub marks: [Option<Vec<Counts>>; 2],
    pub(crate) window: [Option<Mark>; 2],
    pub(crate) boundaries: Vec<Boundary>,
    /// Where its streams stood when stages ended.
    pub part_ends: Vec<PartEnds>,
    /// Connections without a local port.
    pub ports_exhausted: u64,
    /// Connections without a file.
    pub files_exhausted: u64,
}

impl Ended {
    /// Of a thread here; its ledger stays.
    pub(crate) fn of(ended: ThreadEnded, plan: &Plan) -> (Ended, Ledger) {
        let thread = ended.thread;
        let report = Ended {
            thread,
            sequences: Sequences::of(plan, thread..thread + 1),
            checks_shared_order: ended.ledger.checks_shared_order(),
            is_exact: ended.ledger.is_exact(),
            counts: ended.meter.counts,
            times: ended.meter.times,
            troubles: ended.troubles,
            uncertain: ended.uncertain,
            marks: ended.counts,
            window: ended.window,
            boundaries: ended.boundaries,
            part_ends: ended.part_ends,
            ports_exhausted: ended.ports_exhausted,
            files_exhausted: ended.files_exhausted,
        };
        (report, ended.ledger)
    }

    /// As if the thread had been one of ours.
    pub(crate) fn into_thread(self) -> ThreadEnded {
        let mut meter = Meter::new(self.counts.len());
        (meter.counts, meter.times) = (self.counts, self.times);
        ThreadEnded {
            thread: self.thread,
            ledger: Ledger::elsewhere(self.checks_shared_order, self.is_exact),
            meter,
            troubles: self.troubles,
            uncertain: self.uncertain,
            counts: self.marks,
            window: self.window,
            boundaries: self.boundaries,
            part_ends: self.part_ends,
            // Storms are not made on several machines.
            storm: None,
            ports_exhausted: self.ports_exhausted,
            files_exhausted: self.files_exhausted,
        }
    }

    /// Of a thread that is gone with its machine: nothing is known.
    pub(crate) fn unknown(thread: usize, groups: usize) -> Ended {
        Ended {
            thread,
            sequences: Vec::new(),
            checks_shared_order: true,
            is_exact: true,
            counts: vec![Counts::default(); groups],
            times: vec![GroupTimes::default(); groups],
            troubles: Troubles::default(),
            uncertain: Vec::new(),
            marks: [None, None],
            window: [None, None],
            boundaries: Vec::new(),
            part_ends: Vec::new(),
            ports_exhausted: 0,
            files_exhausted: 0,
        }
    }
}

/// What all machines sent.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sent {
    /// Last sequence of each stream.
    pub last: Vec<u32>,
    /// Messages that the broker refused or never acknowledged, ascending.
    pub uncertain: Vec<(u32, u32)>,
    /// Of each stage but the last, the last sequence of each stream.
    pub ends: Vec<Vec<u32>>,
}

/// What became of what was owed to some readers: of the run, and of each stage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    /// By group and QoS.
    pub whole: Vec<(u16, u8, Settled)>,
    /// By stage, group and QoS.
    pub parts: Vec<Vec<(u16, u8, Settled)>>,
}

/// By group and QoS.
type Lines = std::collections::HashMap<(u16, QoS), Settled>;

impl Settlement {
    /// Settles with the readers of some ledgers.
    pub fn of(plan: &Plan, ledgers: &[Ledger], sent: &Sent) -> Settlement {
        let facts = crate::ledger::Sent {
            last: &sent.last,
            qos: &|stream| plan.qos(stream),
            uncertain: &sent.uncertain,
        };
        let mut whole = [Lines::new()];
        let mut parts = vec![Lines::new(); sent.ends.len() + 1];
        for ledger in ledgers {
            ledger.settle_parts(facts, &[], &mut whole);
            ledger.settle_parts(facts, &sent.ends, &mut parts);
        }
        let listed = |lines: &Lines| {
            let mut all: Vec<_> = lines
                .iter()
                .map(|((group, qos), settled)| (*group, *qos as u8, *settled))
                .collect();
            all.sort_unstable_by_key(|(group, qos, _)| (*group, *qos));
            all
        };
        Settlement {
            whole: listed(&whole[0]),
            parts: parts.iter().map(listed).collect(),
        }
    }

    /// Adds that of another machine.
    pub fn add(&mut self, other: Settlement) {
        self.whole.extend(other.whole);
        let missing = other.parts.len().saturating_sub(self.parts.len());
        self.parts.extend(vec![Vec::new(); missing]);
        for (mine, theirs) in self.parts.iter_mut().zip(other.parts) {
            mine.extend(theirs);
        }
    }

    /// Adds it up, for the whole run (one part) or for its stages.
    pub fn add_to(&self, into: &mut [Lines]) {
        let whole = std::slice::from_ref(&self.whole);
        let parts = match into.len() == self.parts.len() && into.len() > 1 {
            true => &self.parts[..],
            false => whole,
        };
        for (part, into) in parts.iter().zip(into) {
            for (group, qos, settled) in part {
                let qos = QoS::from_bits(*qos).unwrap_or_default();
                into.entry((*group, qos)).or_default().add(settled);
            }
        }
    }
}
