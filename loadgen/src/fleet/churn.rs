//! Clients that come and go: each stays for a while, leaves, and returns.
//!
//! A client that waits for acknowledgements stays until it has them, as a device would. What would
//! have been due while a publisher is away is not sent later.

use std::cmp::Reverse;

use super::Fleet;
use super::client::Phase;
use super::life::Loss;
use crate::payload::mix;
use crate::shared::Stage;

impl Fleet {
    /// The client is there, and the publishing goes on: it leaves at some time.
    pub(super) fn plan_to_leave(&mut self, index: u32, now: u64) {
        if let Some(online_ns) = self.draw_span(index, true) {
            let attempt = self.clients[index as usize].attempt;
            self.leaves.push(Reverse((now + online_ns, index, attempt)));
        }
    }

    /// The publishing begins: those who are there begin to leave.
    pub(super) fn plan_all_to_leave(&mut self, now: u64) {
        for index in 0..self.clients.len() as u32 {
            if self.clients[index as usize].phase == Phase::Ready {
                self.plan_to_leave(index, now);
            }
        }
    }

    /// Those whose time has come leave.
    pub(super) fn leave_due(&mut self, now: u64) {
        while let Some(&Reverse((at, index, attempt))) = self.leaves.peek()
            && at <= now
            && now < self.shared.window_end()
        {
            self.leaves.pop();
            let client = &self.clients[index as usize];
            if client.attempt != attempt || client.phase != Phase::Ready {
                continue;
            }
            let publisher = client.publisher.as_deref();
            let waits = publisher.is_some_and(|publisher| {
                !publisher.inflight.is_empty() || !publisher.pending.is_empty()
            });
            if waits {
                self.leaves.push(Reverse((now + WAIT_NS, index, attempt)));
            } else {
                self.lose(index, now, Loss::Ours);
            }
        }
    }

    /// When a client that leaves returns; `None` if it is not one that comes and goes.
    pub(super) fn returns_at(&self, index: u32, now: u64) -> Option<u64> {
        let away_ns = self.draw_span(index, false)?;
        Some(match self.stage {
            Stage::Connect | Stage::Publish => now + away_ns,
            Stage::Drain | Stage::End => now,
        })
    }

    /// Nothing is published any more: sessions that waited get what they are owed.
    pub(super) fn return_all(&mut self, now: u64) {
        let specs = &self.shared.plan.specs;
        let comes_and_goes = |index: u32| {
            specs[usize::from(self.clients[index as usize].group)]
                .online
                .is_some()
        };
        let delayed = std::mem::take(&mut self.delayed).into_iter();
        self.delayed = delayed
            .map(|Reverse((at, index))| {
                Reverse((if comes_and_goes(index) { now } else { at }, index))
            })
            .collect();
    }

    /// How long a client stays, or stays away, this time.
    fn draw_span(&self, index: u32, online: bool) -> Option<u64> {
        let client = &self.clients[index as usize];
        let group = usize::from(client.group);
        let spec = &self.shared.plan.specs[group];
        let spans = spec.online.as_ref()?;
        let spans = match (online, &spec.away) {
            (true, _) => spans,
            (false, Some(away)) => away,
            (false, None) => return Some(0),
        };
        let seed = mix(self.shared.plan.seed(group) ^ u64::from(client.index));
        let draw = mix(seed ^ (u64::from(client.attempt) << 1 | u64::from(online)));
        Some(spans.pick_ns(draw))
    }
}

/// A client that waits for acknowledgements looks again after this time.
const WAIT_NS: u64 = 10_000_000;
