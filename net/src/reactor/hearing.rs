//! How far a shard has listened, so that no client is judged by what is still unread in a socket.
//!
//! A shard has heard everything up to a moment once it has taken all that its sockets and its inbox
//! held then. Mostly a turn takes all there is. A turn that leaves something behind sets a mark,
//! and has heard everything up to it when as much was taken as can have been there: that bounds how
//! late deadlines are under constant load. A stalled shard does not read, and hears nothing.
//!
//! Invariants:
//! - `heard` only grows, and is never later than the turn that sets it.
//! - what a shard publishes in the table, it has also handed over: the connections that leave it
//!   are in the inboxes of their homes.
//!
//! Not here: which deadlines wait for what (`ringmq_core::shard::Deadlines`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::utils::CachePadded;
use ringmq_core::ids::ShardId;
use ringmq_core::shard::Heard;
use ringmq_core::time::Instant;

use super::{Core, Reactor};
use ringmq_ring::Ring;

/// How far each shard has listened and passed on what it heard.
#[derive(Debug)]
pub(crate) struct HeardTable(Box<[CachePadded<AtomicU64>]>);

impl HeardTable {
    /// Nothing was heard.
    pub(crate) fn new(shards: usize) -> HeardTable {
        HeardTable((0..shards).map(|_| CachePadded::default()).collect())
    }

    /// Only for the shard itself. Released: a reader finds in its inbox what was handed over
    /// before.
    pub(super) fn publish(&self, shard: ShardId, heard: Instant) {
        self.0[shard.index()].store(heard.as_nanos(), Ordering::Release);
    }

    /// The shard has ended: nothing more comes from it.
    pub(super) fn retire(&self, shard: ShardId) {
        self.0[shard.index()].store(u64::MAX, Ordering::Release);
    }

    /// The other shards, and how far they have listened.
    pub(super) fn others(&self, shard: ShardId) -> impl Iterator<Item = (ShardId, Instant)> {
        let all = self.0.iter().enumerate();
        all.filter(move |&(index, _)| index != shard.index())
            .map(|(index, heard)| {
                let nanos = heard.load(Ordering::Acquire);
                (ShardId::new(index), Instant::from_nanos(nanos))
            })
    }
}

/// What a reactor knows of its own hearing.
#[derive(Debug)]
pub(super) struct Hearing {
    /// Everything that had arrived by then was taken.
    heard: Heard,
    /// The kernel was asked in this turn and had nothing more.
    pub(super) is_dry: bool,
    mark: Mark,
    /// When shards that sleep are asked again how far they have listened.
    ask_again_at: Instant,
}

/// A moment, and what was there to be taken.
#[derive(Debug)]
struct Mark {
    at: Instant,
    /// How far the others had listened, if they were asked. What they handed over by then is in the
    /// mail.
    others: Option<Instant>,
    completions_left: usize,
    mails_left: usize,
}

impl Hearing {
    /// Nothing was heard.
    pub(super) fn new() -> Hearing {
        Hearing {
            heard: Heard::all(Instant::ZERO),
            is_dry: false,
            mark: Mark {
                at: Instant::ZERO,
                others: None,
                completions_left: 0,
                mails_left: 0,
            },
            ask_again_at: Instant::ZERO,
        }
    }

    /// Everything that had come by then was taken.
    pub(super) fn heard(&self) -> Heard {
        self.heard
    }

    /// A completion of the kernel was taken.
    pub(super) fn took_completion(&mut self) {
        self.mark.completions_left = self.mark.completions_left.saturating_sub(1);
    }

    /// Mail was taken.
    pub(super) fn took_mails(&mut self, count: usize) {
        self.mark.mails_left = self.mark.mails_left.saturating_sub(count);
    }
}

impl<R: Ring, C: Core> Reactor<R, C> {
    /// After the turn has taken what it takes: finds out how far the shard has listened. `others`
    /// is what `ask_others` found at the beginning of the turn.
    pub(super) fn note_heard(&mut self, now: Instant, others: Option<Instant>) {
        if self.stalled || !self.held.is_empty() {
            return;
        }
        let sockets_are_read = self.hearing.is_dry
            && self.first.is_empty()
            && self.rearm.is_empty()
            && self.handshakes.is_empty();
        let mails = self.inbox().mail_count();
        let (here, others_then) = if sockets_are_read && mails == 0 {
            (now, others)
        } else {
            let mark = &mut self.hearing.mark;
            if sockets_are_read {
                mark.completions_left = 0;
            }
            if mark.completions_left > 0 || mark.mails_left > 0 {
                return;
            }
            (mark.at, mark.others)
        };
        let heard = &mut self.hearing.heard;
        assert!(
            heard.here <= here && here <= now,
            "a mark is not older than what was heard when it was set"
        );
        heard.here = here;
        if let Some(others) = others_then {
            heard.everywhere = heard.everywhere.max(here.min(others));
        }
        self.hearing.mark = Mark {
            at: now,
            others,
            completions_left: COMPLETIONS_PER_SOCKET
                * (self.slots.live_count() + self.listeners.len()),
            mails_left: mails,
        };
    }

    /// How far the other shards have listened, if that matters now. To be asked before the inbox is
    /// emptied: what they have handed over by then is in it.
    pub(super) fn ask_others(&mut self, now: Instant) -> Option<Instant> {
        let deadline = self.core.deadlines().of_absence;
        let deadline = deadline.filter(|at| *at <= now)?;
        let mut heard = Instant::from_nanos(u64::MAX);
        for (shard, upto) in self.shared.heard.others(self.id) {
            heard = heard.min(upto);
            if upto < deadline && self.hearing.ask_again_at <= now {
                // It may be asleep, with news in its sockets or without.
                self.shared.inboxes[shard.index()].nudge();
            }
        }
        if heard < deadline && self.hearing.ask_again_at <= now {
            self.hearing.ask_again_at = now + ASK_INTERVAL;
        }
        Some(heard)
    }

    /// When the core is to be called next, as far as time alone decides. A stalled shard hears
    /// nothing; it is woken when it may go on.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let deadlines = self.core.deadlines();
        let of_clients = if self.stalled {
            [None; 3]
        } else {
            [
                deadlines.of_connections,
                deadlines
                    .of_absence
                    .map(|at| at.max(self.hearing.ask_again_at)),
                self.flushes.front().map(|(at, _)| *at),
            ]
        };
        let all = of_clients.into_iter().chain([deadlines.of_clock]);
        all.flatten().min()
    }

    /// At the end of a turn: tells the others, once everything that leaves this shard is with its
    /// home.
    pub(super) fn publish_heard(&self) {
        if self.leaving_count == 0 && self.departures.is_empty() {
            self.shared.heard.publish(self.id, self.hearing.heard.here);
        }
    }

    /// The last of all.
    pub(super) fn retire_heard(&self) {
        self.shared.heard.retire(self.id);
    }
}

/// More completions than a socket can have under way: the kernel takes up to 32 chunks from one
/// socket before it turns to the others.
const COMPLETIONS_PER_SOCKET: usize = 64;
/// Shards that are asked how far they have listened wake up within some microseconds, if they get a
/// core.
const ASK_INTERVAL: Duration = Duration::from_millis(1);
