//! Between an agent and what the threads of a run share here: its boards are shown here, and it
//! hears how far the run is.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use super::Elsewhere;
use super::clock::Offset;
use super::link::{Heard, Link};
use super::protocol::{BoardNow, Boards, Ended, Order, Report, State};
use crate::engine::Event;
use crate::shared::{Shared, Stage};
use crate::times::Times;

/// What connects an agent to a run.
#[derive(Debug)]
pub(super) struct Pump {
    pub(super) link: Link,
    pub(super) offset: Offset,
    /// Which of the machines.
    pub(super) machine: usize,
    /// Its threads, among those of the plan.
    pub(super) own: Range<usize>,
    /// How late its threads were.
    pub(super) lag: Times,
    /// Why it is lost, and how long after the run had begun.
    pub(super) lost: Option<String>,
    shared: Arc<Shared>,
    elsewhere: Elsewhere,
    events: Sender<Event>,
    /// To the pumps of all other agents.
    others: Vec<Sender<Order>>,
    inbox: Receiver<Order>,
    ended: Vec<bool>,
    told: Option<State>,
    told_at: Instant,
    heard_at: Instant,
    /// Since when the run is at its end.
    ending_at: Option<Instant>,
}

/// What a pump works on.
pub(super) struct Pipes {
    pub(super) shared: Arc<Shared>,
    pub(super) elsewhere: Elsewhere,
    pub(super) events: Sender<Event>,
    pub(super) others: Vec<Sender<Order>>,
    pub(super) inbox: Receiver<Order>,
}

impl Pump {
    pub(super) fn new(
        link: Link,
        offset: Offset,
        machine: usize,
        own: Range<usize>,
        pipes: Pipes,
    ) -> Pump {
        Pump {
            link,
            offset,
            machine,
            ended: vec![false; own.len()],
            own,
            lag: Times::default(),
            lost: None,
            shared: pipes.shared,
            elsewhere: pipes.elsewhere,
            events: pipes.events,
            others: pipes.others,
            inbox: pipes.inbox,
            told: None,
            told_at: Instant::now(),
            heard_at: Instant::now(),
            ending_at: None,
        }
    }

    /// Until all threads of the agent have ended, or it is lost.
    pub(super) fn run(mut self) -> Pump {
        self.link.say(&Order::Start {
            origin_ns: self.offset.to_theirs(self.shared.origin_ns),
        });
        while self.lost.is_none() && !self.ended.iter().all(|ended| *ended) {
            match self.link.hear(LOOK) {
                Heard::Report(report, _) => {
                    self.heard_at = Instant::now();
                    if let Err(why) = self.on_report(*report) {
                        self.lose(&why);
                    }
                }
                Heard::Nothing => self.look_at_time(),
                Heard::End => {
                    let why = self.link.why_gone();
                    self.lose(&why);
                }
            }
            self.tell();
        }
        self
    }

    fn look_at_time(&mut self) {
        let host = &self.link.host;
        if self.heard_at.elapsed() > SILENCE_MAX {
            let why = format!("{host}: nothing was heard of it for {SILENCE_MAX:?}");
            return self.lose(&why);
        }
        if self.shared.stage() == Stage::End {
            let since = *self.ending_at.get_or_insert_with(Instant::now);
            if since.elapsed() > END_MAX {
                let why = format!("{host}: did not end within {END_MAX:?}");
                self.lose(&why);
            }
        }
    }

    fn on_report(&mut self, report: Report) -> Result<(), String> {
        let offset = self.offset;
        match report {
            Report::Boards(boards) => self.show(&boards),
            Report::Sequences(all) => {
                all.iter().for_each(|some| some.note(&self.shared.plan));
                for other in &self.others {
                    // One that is lost does not need them.
                    let _ = other.send(Order::Sequences(all.clone()));
                }
            }
            Report::Interval(interval) => {
                self.lag.add(&interval.lag);
                self.send(Event::Interval(interval));
            }
            Report::Sys(mut updates) => {
                for update in &mut updates {
                    update.at_ns = offset.to_ours(update.at_ns);
                }
                self.send(Event::Sys(updates));
            }
            Report::Fatal { why } => self.send(Event::Fatal(format!("{}: {why}", self.link.host))),
            Report::Ended(ended) => return self.on_ended(*ended),
            Report::Hello(_)
            | Report::Clock { .. }
            | Report::Refused { .. }
            | Report::Ready { .. }
            | Report::Settled(_) => {
                return Err(format!("{}: said something out of turn", self.link.host));
            }
        }
        Ok(())
    }

    fn show(&self, boards: &Boards) {
        self.elsewhere.note_cpu(self.machine, boards.cpu_us);
        let ours = &self.shared.boards[self.own.clone()];
        for (board, now) in ours.iter().zip(&boards.boards) {
            now.moved(|at| self.offset.to_ours(at)).show_on(board);
        }
    }

    fn on_ended(&mut self, ended: Ended) -> Result<(), String> {
        let is_known = ended.counts.len() == self.shared.plan.groups.len()
            && ended.times.len() == self.shared.plan.groups.len();
        if !self.own.contains(&ended.thread) || !is_known {
            return Err(format!(
                "{}: ended a thread that it has not",
                self.link.host
            ));
        }
        self.ended[ended.thread - self.own.start] = true;
        for some in &ended.sequences {
            some.note(&self.shared.plan);
        }
        self.send(Event::Ended(Box::new(ended.into_thread())));
        Ok(())
    }

    /// Tells how far the run is, if that has changed. What others have sent comes before: a
    /// question may be about it.
    fn tell(&mut self) {
        let state = State::of(&self.shared);
        while let Ok(order) = self.inbox.try_recv() {
            self.link.say(&order);
        }
        if self.told != Some(state) || self.told_at.elapsed() > TELL_EVERY {
            self.told = Some(state);
            self.told_at = Instant::now();
            let theirs = state.moved(|at| self.offset.to_theirs(at));
            self.link.say(&Order::State(theirs));
        }
    }

    /// The run is over for it: nothing of its clients is known any more.
    fn lose(&mut self, why: &str) {
        self.link.cut();
        self.lost = Some(why.to_owned());
        // First of all: it must not look as if everybody were connected, or done.
        self.send(Event::Lost(why.to_owned()));
        for board in &self.shared.boards[self.own.clone()] {
            let last = BoardNow {
                ready: 0,
                unfinished: 0,
                pending: 0,
                unacknowledged: 0,
                ..BoardNow::of(board)
            };
            last.show_on(board);
        }
        let groups = self.shared.plan.groups.len();
        for (at, ended) in self.ended.iter().enumerate() {
            if !ended {
                let unknown = Ended::unknown(self.own.start + at, groups);
                self.send(Event::Ended(Box::new(unknown.into_thread())));
            }
        }
    }

    fn send(&self, event: Event) {
        // The control of a run that is over listens no more.
        let _ = self.events.send(event);
    }
}

/// How long the control of the run and its agents wait for each other.
const LOOK: Duration = Duration::from_millis(3);
/// An agent shows its boards fifty times a second.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Agents that hear nothing end.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Longer than threads take to end their clients.
const END_MAX: Duration = Duration::from_secs(25);
