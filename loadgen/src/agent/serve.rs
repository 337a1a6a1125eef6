//! `ringload agent`: does a part of a run for the machine that leads it, which is at the other end
//! of stdin and stdout.

use std::io::{BufRead, Write};
use std::ops::Range;
use std::process;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::crossing::Crossing;
use super::job::Part;
use super::protocol::{
    BoardNow, Boards, Ended, HELLO, Hello, Job, Order, Report, Sequences, Settlement,
};
use crate::engine::{self, Event, Threads};
use crate::ledger::Ledger;
use crate::process::{CpuTime, machine};
use crate::shared::{Shared, Stage, now_ns};

/// Where reports go: lines are whole, whoever writes them.
#[derive(Clone)]
struct Reporter(Arc<Mutex<Box<dyn Write + Send>>>);

/// Serves who is at the other end until it closes; gives the exit code.
pub fn serve(input: impl BufRead + Send + 'static, output: impl Write + Send + 'static) -> u8 {
    let reporter = Reporter(Arc::new(Mutex::new(Box::new(output))));
    reporter.say(&Report::Hello(Hello {
        program: HELLO.to_owned(),
        version: env!("RINGMQ_VERSION").to_owned(),
    }));
    let (sender, orders) = mpsc::channel();
    let clock = reporter.clone();
    std::thread::spawn(move || read_orders(input, &clock, |order| sender.send(order).is_ok()));
    match serve_run(&reporter, &orders) {
        Some(()) => 0,
        None => 1,
    }
}

/// One run, from the job to the settlement; `None` if it did not come to that.
fn serve_run(reporter: &Reporter, orders: &Receiver<Order>) -> Option<()> {
    let Ok(Order::Job(job)) = orders.recv() else {
        return None;
    };
    let part = match job.set_up() {
        Ok(part) => part,
        Err(why) => {
            reporter.say(&Report::Refused { why });
            return None;
        }
    };
    let sources = part.options.sources.addresses().iter();
    reporter.say(&Report::Ready {
        machine: machine(),
        streams: part.plan.streams.count() as u64,
        sources: sources.map(ToString::to_string).collect(),
        files_max: part.files_max,
    });
    let Ok(Order::Start { origin_ns }) = orders.recv() else {
        return None;
    };
    let mut running = match Running::start(reporter, &job, part, origin_ns) {
        Ok(running) => running,
        Err(why) => {
            reporter.say(&Report::Fatal { why });
            return None;
        }
    };
    running.run(orders);
    running.settle(orders)
}

/// Reads orders to the end. The time is told at once: what waits with it would make it old.
fn read_orders(input: impl BufRead, reporter: &Reporter, mut each: impl FnMut(Order) -> bool) {
    for line in input.split(b'\n') {
        let Ok(line) = line else {
            return;
        };
        // Who leads speaks another language.
        let Ok(order) = serde_json::from_slice(&line) else {
            return;
        };
        if let Order::Clock = order {
            reporter.say(&Report::Clock { at_ns: now_ns() });
        } else if !each(order) {
            return;
        }
    }
}

impl Reporter {
    fn say(&self, report: &Report) {
        let mut line = serde_json::to_vec(report).expect("no map with other keys than text");
        line.push(b'\n');
        let mut output = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // If nobody reads it, stdin has ended too.
        let _ = output.write_all(&line).and_then(|()| output.flush());
    }
}

/// A part of a run that is going on.
struct Running {
    reporter: Reporter,
    shared: Arc<Shared>,
    own: Range<usize>,
    threads: Threads,
    /// Deliveries go from one machine to another.
    crosses: bool,
    ledgers: Vec<Ledger>,
    /// Number of the last question that was answered, and whether all limited publishers were done.
    answered: u64,
    finished: bool,
    shown_at: Instant,
    heard_at: Instant,
    abandoned: bool,
}

impl Running {
    fn start(
        reporter: &Reporter,
        job: &Job,
        part: Part,
        origin_ns: u64,
    ) -> Result<Running, String> {
        let crosses = Crossing::of(&part.plan, job.threads).is_any();
        let own = job.own_threads();
        let threads = engine::start_part(part.plan, &part.options, own.clone(), origin_ns)?;
        Ok(Running {
            reporter: reporter.clone(),
            shared: threads.shared.clone(),
            own,
            threads,
            crosses,
            ledgers: Vec::new(),
            answered: 0,
            finished: false,
            shown_at: Instant::now(),
            heard_at: Instant::now(),
            abandoned: false,
        })
    }

    /// Until all threads have ended.
    fn run(&mut self, orders: &Receiver<Order>) {
        while self.ledgers.len() < self.own.len() {
            match self.threads.events.recv_timeout(LOOK) {
                Ok(event) => self.on_event(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.follow(orders);
            // What comes behind the last end would be taken for an answer.
            if self.shown_at.elapsed() >= SHOW && self.ledgers.len() < self.own.len() {
                self.show();
            }
        }
        for handle in self.threads.handles.drain(..) {
            let _ = handle.join();
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Fatal(why) => self.reporter.say(&Report::Fatal { why }),
            Event::Interval(interval) => self.reporter.say(&Report::Interval(interval)),
            Event::Sys(updates) => self.reporter.say(&Report::Sys(updates)),
            Event::Ended(ended) => {
                let (report, ledger) = Ended::of(*ended, &self.shared.plan);
                self.ledgers.push(ledger);
                // The last that its board shows.
                self.show();
                self.reporter.say(&Report::Ended(Box::new(report)));
            }
            Event::Report(_) => unreachable!("no report was asked for"),
            Event::Lost(_) => unreachable!("an agent leads nobody"),
        }
    }

    /// Does what it is told; alone, it ends.
    fn follow(&mut self, orders: &Receiver<Order>) {
        loop {
            match orders.try_recv() {
                Ok(order) => {
                    self.heard_at = Instant::now();
                    self.obey(order);
                }
                Err(TryRecvError::Empty) if self.heard_at.elapsed() < SILENCE_MAX => return,
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return self.abandon(),
            }
        }
    }

    fn obey(&self, order: Order) {
        match order {
            Order::State(state) => state.apply(&self.shared),
            Order::Sequences(all) => all.iter().for_each(|some| some.note(&self.shared.plan)),
            // Out of turn.
            Order::Clock | Order::Job(_) | Order::Start { .. } | Order::Settle(_) => {}
        }
    }

    /// Nobody leads any more: clients disconnect.
    fn abandon(&mut self) {
        if !std::mem::replace(&mut self.abandoned, true) {
            self.shared.set_stage(Stage::End);
        }
    }

    /// Reports how far the threads are. Before an answer comes what it is about: what was sent
    /// before it.
    fn show(&mut self) {
        self.shown_at = Instant::now();
        let boards = &self.shared.boards[self.own.clone()];
        let boards: Vec<BoardNow> = boards.iter().map(BoardNow::of).collect();
        let answered = boards.iter().map(|board| board.answered).min().unwrap_or(0);
        let finished = boards.iter().all(|board| board.unfinished == 0);
        let is_news = answered > self.answered || (finished && !self.finished);
        (self.answered, self.finished) = (answered, finished);
        if self.crosses && is_news {
            let all = Sequences::of(&self.shared.plan, self.own.clone());
            self.reporter.say(&Report::Sequences(all));
        }
        let cpu = CpuTime::of(&[process::id()]).unwrap_or_default();
        self.reporter.say(&Report::Boards(Boards {
            cpu_us: (cpu.total_s() * 1e6) as u64,
            boards,
        }));
    }

    /// Waits for what all machines have sent, and says what arrived of it here.
    fn settle(&self, orders: &Receiver<Order>) -> Option<()> {
        let mut done = None;
        while let Ok(order) = orders.recv_timeout(SILENCE_MAX) {
            if let Order::Settle(sent) = order {
                if sent.last.len() != self.shared.plan.streams.count() {
                    return None;
                }
                let settlement = Settlement::of(&self.shared.plan, &self.ledgers, &sent);
                self.reporter.say(&Report::Settled(settlement));
                done = Some(());
            }
        }
        done
    }
}

/// What comes and what is ordered waits so long at most.
const LOOK: Duration = Duration::from_millis(5);
/// The same for what boards show.
const SHOW: Duration = Duration::from_millis(20);
/// Who leads says something every second: this is a machine that was switched off.
const SILENCE_MAX: Duration = Duration::from_secs(30);
