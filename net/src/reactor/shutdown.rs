//! Graceful shutdown: no new connections, the core disconnects its clients, the rest is cut off.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringmq_core::ids::ShardId;
use ringmq_core::shard::{CloseCause, Event};
use ringmq_core::time::Instant;

use super::listener::Accepting;
use super::{Core, Reactor};
use crate::inbox::Inbox;
use ringmq_ring::Ring;

/// The end of a shard.
#[derive(Debug)]
pub(super) struct Ending {
    began: Instant,
    /// The connections that were left have been cut.
    is_cut: bool,
}

impl Ending {
    /// When connections that are left are cut.
    fn cut_at(&self, is_hopeless: bool) -> Instant {
        self.began
            + if is_hopeless {
                GIVE_UP_CUT_AFTER
            } else {
                CUT_AFTER
            }
    }

    /// When the reactor ends, whatever is left.
    fn end_at(&self, is_hopeless: bool) -> Instant {
        self.began
            + if is_hopeless {
                GIVE_UP_END_AFTER
            } else {
                END_AFTER
            }
    }
}

impl<R: Ring, C: Core> Reactor<R, C> {
    /// A shutdown was asked for and has not begun.
    pub(super) fn shutdown_is_news(&self) -> bool {
        self.ending.is_none() && self.inbox().shutdown_requested()
    }

    pub(super) fn begin_shutdown_if_asked(&mut self, now: Instant) {
        if !self.shutdown_is_news() {
            return;
        }
        self.ending = Some(Ending {
            began: now,
            is_cut: false,
        });
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            if listener.accepting == Accepting::Armed {
                self.ring.cancel_accept(index);
            }
            listener.accepting = Accepting::Stopped;
        }
        self.core
            .handle(now, Event::ShutdownRequested, &mut self.outbox);
    }

    /// The next time at which something of a shutdown is due.
    pub(super) fn next_of_shutdown(&self) -> Option<Instant> {
        let ending = self.ending.as_ref()?;
        let is_hopeless = self.shared.settled.is_hopeless();
        Some(if ending.is_cut {
            ending.end_at(is_hopeless)
        } else {
            ending.cut_at(is_hopeless)
        })
    }

    pub(super) fn cut_all_if_overdue(&mut self, now: Instant) {
        let is_hopeless = self.shared.settled.is_hopeless();
        let Some(ending) = &mut self.ending else {
            return;
        };
        if ending.is_cut || now < ending.cut_at(is_hopeless) {
            return;
        }
        ending.is_cut = true;
        for conn in self.slots.live() {
            self.cut(now, conn, CloseCause::Requested);
        }
    }

    /// Nothing is left to do in this life.
    pub(super) fn has_ended(&self, now: Instant) -> bool {
        let Some(ending) = &self.ending else {
            return false;
        };
        let is_done = self.slots.live_count() == 0
            && self.outbox.posted_count() == 0
            && self.departures.is_empty();
        let has_ended = match &self.disk {
            None => is_done,
            Some(disk) => {
                let is_settled = is_done && disk.is_idle() && self.core.is_durable();
                self.note_settled(is_settled);
                let settled = &self.shared.settled;
                settled.are_all() || (is_done && settled.is_hopeless())
            }
        };
        has_ended || now >= ending.end_at(self.shared.settled.is_hopeless())
    }

    /// The last one to settle wakes the others.
    fn note_settled(&self, is_settled: bool) {
        let has_changed = self.shared.settled.note(self.id, is_settled);
        if has_changed && is_settled {
            self.shared.inboxes.iter().for_each(Inbox::nudge);
        }
    }
}

/// Which shards have nothing left to do. Those with a log end together: what one of them posts is durable only when
/// the others say so, and as long as it waits for their word it is not settled.
#[derive(Debug)]
pub(crate) struct Settled {
    shards: Box<[AtomicBool]>,
    /// A log has failed: what waits for it waits in vain.
    is_hopeless: AtomicBool,
}

impl Settled {
    /// None is.
    pub(crate) fn new(shards: usize) -> Settled {
        Settled {
            shards: (0..shards).map(|_| AtomicBool::new(false)).collect(),
            is_hopeless: AtomicBool::new(false),
        }
    }

    /// Only for the shard itself; gives whether that is news.
    pub(super) fn note(&self, shard: ShardId, is_settled: bool) -> bool {
        self.shards[shard.index()].swap(is_settled, Ordering::AcqRel) != is_settled
    }

    /// A log has failed: nobody waits for what cannot come.
    pub(super) fn give_up(&self) {
        self.is_hopeless.store(true, Ordering::Release);
    }

    fn is_hopeless(&self) -> bool {
        self.is_hopeless.load(Ordering::Acquire)
    }

    fn are_all(&self) -> bool {
        self.shards
            .iter()
            .all(|settled| settled.load(Ordering::Acquire))
    }
}

/// From the request to the cut: clients get what was on its way to them.
const CUT_AFTER: Duration = Duration::from_secs(3);
/// From the request to the end, so that a stop takes less than 5 s.
const END_AFTER: Duration = Duration::from_secs(4);
/// The same when a log has failed. What is not acknowledged will come again, and clients find the broker that is started
/// in place of this one the sooner: they get their DISCONNECT, and need not close their side.
const GIVE_UP_CUT_AFTER: Duration = Duration::from_millis(300);
/// Before the program loses its patience, 0.9 s after the failure.
const GIVE_UP_END_AFTER: Duration = Duration::from_millis(600);
