//! Turns that do not end: which shard, why, and where it is.
//!
//! A shard says when its turn began. The control thread looks every [`LOOK_INTERVAL`]; from half of the threshold on it asks
//! the kernel about the thread, and says at the threshold which of three it is: *running* (our fault), *waiting* (ready,
//! without a core) or *blocked* (in a system call or a page fault). Of one that runs it takes a sample of the stack.
//!
//! Not here: the sample (`ringmq_ring::Sampler`), names of addresses (`frames.rs`).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use ringmq_core::ids::ShardId;
use ringmq_core::time::Instant;
use ringmq_ring::{Sampler, clock};
use rustix::process::Pid;
use serde::Serialize;
use tracing::warn;

use super::frames::Frames;
use super::process::{Look, look_at};
use crate::counters::Counters;

/// Why a turn does not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// The shard computes.
    Running,
    /// It could, and has no core.
    Waiting,
    /// It waits for the kernel.
    Blocked,
}

impl Kind {
    pub(super) const ALL: [Kind; 3] = [Kind::Running, Kind::Waiting, Kind::Blocked];

    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Running => "running",
            Kind::Waiting => "waiting",
            Kind::Blocked => "blocked",
        }
    }
}

/// A turn that took too long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Stall {
    /// Of which shard.
    pub(super) shard: usize,
    pub(super) kind: Kind,
    /// When it was noticed, since 1970.
    pub(super) noticed_unix_ms: u64,
    /// How long the turn took, to [`LOOK_INTERVAL`]; so far, if it has not ended.
    pub(super) took_ms: u64,
    pub(super) has_ended: bool,
    /// What the kernel says that it waits in.
    pub(super) kernel_function: Option<String>,
    /// Functions, the innermost first: of one that was running.
    pub(super) functions: Vec<String>,
}

/// All that is known of stalls.
#[derive(Debug, Default)]
pub(super) struct Stalls(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// The newest last; the oldest go.
    recent: VecDeque<Stall>,
    totals: Vec<Totals>,
}

/// Of a shard, by kind.
pub(super) type Totals = [Total; Kind::ALL.len()];

/// How many stalls, and how long they took; those that have not ended count with nothing yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Total {
    pub(super) count: u64,
    pub(super) took: Duration,
}

impl Stalls {
    pub(super) fn new(shards: usize) -> Stalls {
        Stalls(Mutex::new(Known {
            recent: VecDeque::new(),
            totals: vec![Totals::default(); shards],
        }))
    }

    /// The newest first.
    pub(super) fn recent(&self) -> Vec<Stall> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.recent.iter().rev().cloned().collect()
    }

    /// By shard.
    pub(super) fn totals(&self) -> Vec<Totals> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.totals.clone()
    }

    fn note(&self, stall: Stall) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.totals[stall.shard][stall.kind as usize].count += 1;
        if known.recent.len() == RECENT_MAX {
            known.recent.pop_front();
        }
        known.recent.push_back(stall);
    }

    /// The turn of a shard has ended, or has not yet, after so long.
    fn go_on(&self, shard: usize, kind: Kind, took: Duration, has_ended: bool) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if has_ended {
            known.totals[shard][kind as usize].took += took;
        }
        let mut recent = known.recent.iter_mut().rev();
        // Others may have pushed it out of the list.
        let found = recent.find(|stall| stall.shard == shard && !stall.has_ended);
        if let Some(stall) = found {
            stall.took_ms = millis(took);
            stall.has_ended = has_ended;
        }
    }
}

/// Watches the shards.
#[derive(Debug)]
pub(super) struct Watch {
    stalls: Arc<Stalls>,
    threshold: Duration,
    shards: Vec<Watched>,
    /// `None`: there is another one in this process, or no signal to be had.
    sampler: Option<Sampler>,
    frames: Option<Frames>,
    /// When those reports were logged that count for the bound.
    logged: VecDeque<Instant>,
}

#[derive(Debug)]
struct Watched {
    counters: Arc<Counters>,
    thread: Option<Pid>,
    suspect: Option<Suspect>,
}

/// A turn that has taken long already.
#[derive(Clone, Debug)]
struct Suspect {
    /// When it began.
    began: Instant,
    /// When the kernel was asked first, and what it said.
    since: (Instant, Option<Look>),
    /// What it turned out to be.
    kind: Option<Kind>,
}

impl Watch {
    pub(super) fn new(
        stalls: Arc<Stalls>,
        threshold: Duration,
        counters: &[Arc<Counters>],
        threads: &[(ShardId, Pid)],
    ) -> Watch {
        let shards = counters.iter().enumerate().map(|(index, counters)| {
            let found = threads.iter().find(|(id, _)| id.index() == index);
            Watched {
                counters: Arc::clone(counters),
                thread: found.map(|(_, thread)| *thread),
                suspect: None,
            }
        });
        let sampler = Sampler::install().unwrap_or_else(|error| {
            warn!(%error, "stalls are reported without the place in the program");
            None
        });
        Watch {
            stalls,
            threshold,
            shards: shards.collect(),
            sampler,
            frames: Frames::of_this_program(),
            logged: VecDeque::new(),
        }
    }

    /// Looks for ever.
    pub(super) async fn run(mut self) {
        let mut times = tokio::time::interval(LOOK_INTERVAL);
        times.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            times.tick().await;
            self.look(clock());
        }
    }

    /// Looks at every shard once.
    pub(super) fn look(&mut self, now: Instant) {
        for shard in 0..self.shards.len() {
            self.look_at(shard, now);
        }
    }

    fn look_at(&mut self, shard: usize, now: Instant) {
        let watched = &mut self.shards[shard];
        let began = watched.counters.pulse.began();
        if let Some(suspect) = &watched.suspect {
            let has_ended = began != Some(suspect.began);
            let took = now.saturating_since(suspect.began);
            if let Some(kind) = suspect.kind {
                self.stalls.go_on(shard, kind, took, has_ended);
            }
            if has_ended {
                watched.suspect = None;
            }
        }
        let Some(began) = began else { return };
        let took = now.saturating_since(began);
        let Some(suspect) = &watched.suspect else {
            if took >= self.threshold / 2 {
                watched.suspect = Some(Suspect {
                    began,
                    since: (now, watched.thread.and_then(look_at)),
                    kind: None,
                });
            }
            return;
        };
        let (since, before) = &suspect.since;
        let span = now.saturating_since(*since);
        if suspect.kind.is_none() && took >= self.threshold && span >= LOOK_INTERVAL / 2 {
            let after = watched.thread.and_then(look_at);
            let kind = classify(before.as_ref(), after.as_ref(), span);
            self.report(shard, kind, after, took, now);
            if let Some(suspect) = &mut self.shards[shard].suspect {
                suspect.kind = Some(kind);
            }
        }
    }

    fn report(
        &mut self,
        shard: usize,
        kind: Kind,
        look: Option<Look>,
        took: Duration,
        now: Instant,
    ) {
        let thread = self.shards[shard].thread.filter(|_| kind == Kind::Running);
        let sampler = self.sampler.as_mut();
        let sample = thread.zip(sampler).and_then(|(thread, s)| s.sample(thread));
        let functions = sample.zip(self.frames.as_ref());
        let functions = functions.map(|(sample, frames)| frames.functions(&sample));
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let stall = Stall {
            shard,
            kind,
            noticed_unix_ms: millis(unix.unwrap_or_default()),
            took_ms: millis(took),
            has_ended: false,
            kernel_function: look.and_then(|look| look.kernel_function),
            functions: functions.unwrap_or_default(),
        };
        if self.may_log(now) {
            log(&stall);
        }
        self.stalls.note(stall);
    }

    /// At most [`LOGGED_MAX`] in a minute: a machine that is overloaded for hours is not to fill its disk too.
    fn may_log(&mut self, now: Instant) -> bool {
        let is_old = |at: &Instant| now.saturating_since(*at) >= Duration::from_secs(60);
        while self.logged.front().is_some_and(is_old) {
            self.logged.pop_front();
        }
        let may_log = self.logged.len() < LOGGED_MAX;
        if may_log {
            self.logged.push_back(now);
        }
        may_log
    }
}

fn log(stall: &Stall) {
    let (shard, kind, for_ms) = (stall.shard, stall.kind.name(), stall.took_ms);
    let place = stall.functions.join(" < ");
    let kernel = stall.kernel_function.as_deref().unwrap_or_default();
    let what = match stall.kind {
        Kind::Running => "a shard has been busy with one turn",
        Kind::Waiting => "a shard waits for a core",
        Kind::Blocked => "a shard waits for the kernel",
    };
    warn!(target: "ringmq::stalls", shard, kind, for_ms, place, kernel, "{what}");
}

/// What a thread has done between two looks.
fn classify(before: Option<&Look>, after: Option<&Look>, span: Duration) -> Kind {
    let (Some(before), Some(after)) = (before, after) else {
        return Kind::Running; // The kernel tells nothing: then nothing but the turn is known.
    };
    let ran = after.cpu.saturating_sub(before.cpu);
    if ran >= span / 2 {
        Kind::Running
    } else if after.is_runnable {
        // What it has waited so far is not in `schedstat` before it runs again.
        Kind::Waiting
    } else {
        Kind::Blocked
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// A stall is noticed so late at most.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// Stalls that are kept: an hour of one a minute.
const RECENT_MAX: usize = 64;
const LOGGED_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn look(cpu_ms: u64, is_runnable: bool) -> Look {
        Look {
            cpu: Duration::from_millis(cpu_ms),
            is_runnable,
            kernel_function: None,
        }
    }

    #[test]
    fn what_a_thread_did_says_why_it_does_not_come_back() {
        let span = Duration::from_millis(50);
        for (before, after, expected) in [
            (look(0, true), look(48, true), Kind::Running),
            // It happened to be seen in a page fault.
            (look(0, true), look(40, false), Kind::Running),
            (look(7, true), look(8, true), Kind::Waiting),
            (look(7, false), look(7, false), Kind::Blocked),
            (look(7, true), look(7, false), Kind::Blocked),
        ] {
            assert_eq!(classify(Some(&before), Some(&after), span), expected);
        }
        assert_eq!(classify(None, None, span), Kind::Running);
    }

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn a_stall_is_counted_once_with_the_time_that_it_took() {
        let counters = [Arc::new(Counters::default()), Arc::default()];
        let stalls = Arc::new(Stalls::new(2));
        let threshold = Duration::from_millis(100);
        let mut watch = Watch::new(Arc::clone(&stalls), threshold, &counters, &[]);
        counters[1].pulse.begin(at(1000));
        for ms in (1000..1200).step_by(10) {
            watch.look(at(ms));
        }
        assert_eq!(stalls.totals()[1][Kind::Running as usize].count, 1);
        let recent = stalls.recent();
        assert_eq!((recent[0].shard, recent[0].took_ms), (1, 190));
        assert!(!recent[0].has_ended);
        counters[1].pulse.rest();
        watch.look(at(1200));
        let took = Duration::from_millis(200);
        assert_eq!(
            stalls.totals()[1][Kind::Running as usize],
            Total { count: 1, took }
        );
        assert!(stalls.recent()[0].has_ended);
        // Turn follows turn, none of them long; nobody else is concerned.
        for ms in (1200..2000).step_by(60) {
            counters[1].pulse.begin(at(ms));
            watch.look(at(ms + 59));
        }
        assert_eq!(stalls.recent().len(), 1);
        assert_eq!(stalls.totals()[0], Totals::default());
    }

    #[test]
    fn the_list_and_the_log_are_bounded() {
        let counters = [Arc::new(Counters::default())];
        let stalls = Arc::new(Stalls::new(1));
        let threshold = Duration::from_millis(100);
        let mut watch = Watch::new(Arc::clone(&stalls), threshold, &counters, &[]);
        for number in 0..100 {
            let began = 1000 + number * 1000;
            counters[0].pulse.begin(at(began));
            for ms in [60, 110, 120] {
                watch.look(at(began + ms));
            }
            counters[0].pulse.rest();
            watch.look(at(began + 130));
            assert!(watch.logged.len() <= LOGGED_MAX);
        }
        assert_eq!(stalls.recent().len(), RECENT_MAX);
        assert_eq!(stalls.totals()[0][Kind::Running as usize].count, 100);
    }
}
