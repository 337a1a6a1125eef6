//! A storm, as its clients see it: cut at once, away, and back by their back-off.
//!
//! An open loop: a client dials when its wait is over, however many are connecting, and how long an
//! attempt takes counts from when it was due. The wait for the next one begins when it has failed.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use ringmq_core::codec::encode_pingreq;

use super::Fleet;
use super::client::Phase;
use super::life::{CANNOT, CLOSED, Loss, MALFORMED, NO_ANSWER, REFUSED};
use crate::payload::mix;
use crate::plan::Plan;
use crate::scenario::storm::{self as scenario, Event};
use crate::shared::{Stage, UNKNOWN};
use crate::times::Times;

/// What a storm did on a thread.
#[derive(Clone, Debug, Default)]
pub struct StormTally {
    /// Clients that it hit.
    pub hit: u64,
    /// For each of them that is back, how long that took since the storm, microseconds.
    pub returns_us: Vec<u64>,
    /// Attempts to connect.
    pub attempts: u64,
    /// What became of those that failed, and of clients that were back and were closed again.
    pub failures: BTreeMap<String, u64>,
    /// From when an attempt was due to its CONNACK.
    pub connect: Times,
    /// From when an attempt was due until ringload dialled: of that, its own share.
    pub lag: Times,
    /// CONNACKs for clients with a session.
    pub sessions: u64,
    /// Of those, with the session present.
    pub sessions_present: u64,
    /// From the return of a client to its first message.
    pub first_message: Times,
    /// TLS handshakes of clients that returned.
    pub handshakes_full: u64,
    /// Of sessions of TLS that were resumed.
    pub handshakes_resumed: u64,
}

/// The storm of one thread.
#[derive(Debug)]
pub(super) struct Storm {
    spec: scenario::Storm,
    /// By group.
    hits: Vec<bool>,
    /// They pinged, or need not.
    pinged: bool,
    /// It was.
    over: bool,
    began_at: u64,
    /// By client; empty before the storm.
    victims: Vec<Victim>,
    tally: StormTally,
}

/// A client in a storm.
#[derive(Clone, Copy, Debug, Default)]
struct Victim {
    is_hit: bool,
    /// It had a message since its return.
    has_heard: bool,
    /// Attempts that failed.
    failed: u32,
    /// When the attempt at hand is or was due.
    due_at: u64,
    /// When it was back; 0: it is not.
    back_at: u64,
}

impl Storm {
    pub(super) fn of(plan: &Plan) -> Option<Box<Storm>> {
        let spec = plan.scenario.storm.clone()?;
        let groups = plan.specs.iter().enumerate();
        let hits = groups.map(|(at, group)| plan.sys_group != Some(at) && spec.hits(group));
        Some(Box::new(Storm {
            hits: hits.collect(),
            pinged: spec.event != Event::Silence,
            spec,
            over: false,
            began_at: UNKNOWN,
            victims: Vec::new(),
            tally: StormTally::default(),
        }))
    }

    /// Its clients do not send later what was due while they were away.
    pub(super) fn hits_group(&self, group: usize) -> bool {
        self.hits[group]
    }

    /// When the attempt at hand of a client was due, if the storm has hit it.
    pub(super) fn due_at(&self, client: u32) -> Option<u64> {
        let victim = self.victims.get(client as usize)?;
        (victim.is_hit && victim.back_at == 0).then_some(victim.due_at)
    }

    fn victim(&mut self, client: u32) -> Option<&mut Victim> {
        let victim = self.victims.get_mut(client as usize)?;
        victim.is_hit.then_some(victim)
    }

    /// A delivery arrived.
    #[inline]
    pub(super) fn on_delivery(&mut self, client: u32, now: u64) {
        if let Some(victim) = self.victims.get_mut(client as usize)
            && victim.back_at > 0
            && !std::mem::replace(&mut victim.has_heard, true)
        {
            let us = now.saturating_sub(victim.back_at) / 1000;
            self.tally.first_message.record(us);
        }
    }

    /// A client dials.
    pub(super) fn on_dial(&mut self, client: u32, now: u64) {
        if let Some(due) = self.due_at(client) {
            self.tally.attempts += 1;
            self.tally.lag.record(now.saturating_sub(due) / 1000);
        }
    }

    /// CONNACK of a client with a session.
    pub(super) fn on_session(&mut self, client: u32, is_present: bool) {
        if self.victim(client).is_some() {
            self.tally.sessions += 1;
            self.tally.sessions_present += u64::from(is_present);
        }
    }

    /// CONNACK of a client.
    pub(super) fn on_connack(&mut self, client: u32, now: u64) {
        if let Some(at) = self.due_at(client) {
            self.tally.connect.record(now.saturating_sub(at) / 1000);
        }
    }

    /// A handshake of TLS is done.
    pub(super) fn on_handshake(&mut self, client: u32, is_resumed: bool) {
        if self.victim(client).is_some() {
            match is_resumed {
                true => self.tally.handshakes_resumed += 1,
                false => self.tally.handshakes_full += 1,
            }
        }
    }

    /// What it did, at the end.
    fn into_tally(self) -> StormTally {
        let back = self.victims.iter().filter(|victim| victim.back_at > 0);
        let us = |victim: &Victim| victim.back_at.saturating_sub(self.began_at) / 1000;
        StormTally {
            returns_us: back.map(us).collect(),
            ..self.tally
        }
    }
}

impl Fleet {
    /// When the storm, or what comes right before it, is due.
    pub(super) fn storm_at(&self) -> Option<u64> {
        let storm = self.storm.as_deref().filter(|storm| !storm.over)?;
        let at = self.shared.publish_at();
        let at = at.saturating_add(storm.spec.before.as_nanos() as u64);
        Some(match storm.pinged {
            true => at,
            false => at.saturating_sub(PING_LEAD_NS),
        })
    }

    pub(super) fn storm_due(&mut self, now: u64) {
        while self.storm_at().is_some_and(|at| at <= now) {
            let Some(mut storm) = self.storm.take() else {
                return;
            };
            if storm.pinged {
                storm.over = true;
                self.strike(storm, now);
            } else {
                storm.pinged = true;
                self.ping_all(&storm);
                self.storm = Some(storm);
            }
        }
    }

    /// Who falls silent has just pinged: the keep alive of all of them ends at the same time.
    fn ping_all(&mut self, storm: &Storm) {
        for index in 0..self.clients.len() as u32 {
            if self.is_to_be_hit(storm, index) {
                encode_pingreq(self.out(index));
                self.mark_dirty(index);
            }
        }
    }

    fn is_to_be_hit(&self, storm: &Storm, index: u32) -> bool {
        let client = &self.clients[index as usize];
        client.phase == Phase::Ready
            && storm.hits[usize::from(client.group)]
            && storm.spec.hits_client(client.index)
    }

    fn strike(&mut self, mut storm: Box<Storm>, now: u64) {
        let indexes = 0..self.clients.len() as u32;
        let hit: Vec<u32> = indexes
            .filter(|index| self.is_to_be_hit(&storm, *index))
            .collect();
        storm.victims = vec![Victim::default(); self.clients.len()];
        for index in &hit {
            storm.victims[*index as usize].is_hit = true;
        }
        storm.tally.hit = hit.len() as u64;
        storm.began_at = now;
        let leaves_sockets = storm.spec.event.leaves_sockets();
        for squad in &mut self.squads {
            if storm.hits[squad.group] {
                squad.open_up(now);
            }
        }
        self.storm = Some(storm);
        let board = &self.shared.boards[self.thread];
        board.hit.store(hit.len() as u64, Ordering::Release);
        for index in hit {
            self.lose(index, now, Loss::Ours);
            if leaves_sockets {
                let closed = self.outbox.closes.pop();
                assert_eq!(closed, Some(index), "a loss closes the socket");
                self.outbox.silences.push(index);
            }
        }
    }

    /// A client has lost its connection, or did not get one: when it tries again. `None` if no
    /// storm has hit it.
    pub(super) fn storm_return(&mut self, index: u32, now: u64, loss: &Loss) -> Option<u64> {
        if self.stage == Stage::End {
            return None;
        }
        let client = &self.clients[index as usize];
        let group = usize::from(client.group);
        let seed = self.shared.plan.seed(group) ^ u64::from(client.index) << 20;
        let storm = self.storm.as_deref_mut()?;
        let (event, backoff) = (storm.spec.event, storm.spec.backoff);
        let began_at = storm.began_at;
        let victim = storm.victim(index)?;
        let is_first = *loss == Loss::Ours && began_at == now;
        if victim.back_at > 0 {
            victim.back_at = 0;
            // It was let in: the next wait is the first one.
            victim.failed = 0;
            let board = &self.shared.boards[self.thread];
            board.back.fetch_sub(1, Ordering::AcqRel);
        } else if !is_first {
            victim.failed = victim.failed.saturating_add(1);
        }
        let draw = mix(mix(seed) ^ u64::from(client.attempt));
        victim.due_at = match (event, is_first) {
            (Event::Takeover, true) => now,
            (Event::Takeover | Event::Cut | Event::Silence, _) => {
                now + backoff.wait_ns(victim.failed, draw)
            }
        };
        Some(victim.due_at)
    }

    /// Attempts that fail are what storms are about: they are counted, and are no troubles. True if
    /// it was one.
    pub(super) fn storm_failure(&mut self, index: u32, phase: Phase, loss: &Loss) -> bool {
        let Some(storm) = self.storm.as_deref_mut() else {
            return false;
        };
        if storm.victim(index).is_none() {
            return false;
        }
        let was_back = phase == Phase::Ready;
        *storm
            .tally
            .failures
            .entry(reason(was_back, loss))
            .or_default() += 1;
        true
    }

    /// A client is connected and subscribed.
    pub(super) fn storm_ready(&mut self, index: u32, now: u64) {
        if let Some(storm) = self.storm.as_deref_mut()
            && let Some(victim) = storm.victim(index)
        {
            assert_eq!(victim.back_at, 0, "it was away");
            victim.back_at = now;
            let board = &self.shared.boards[self.thread];
            board.back.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// A handshake of TLS is done.
    pub fn on_handshake(&mut self, index: u32, is_resumed: bool) {
        if let Some(storm) = &mut self.storm {
            storm.on_handshake(index, is_resumed);
        }
    }

    /// What the storm did, once.
    pub fn take_storm(&mut self) -> Option<StormTally> {
        self.storm.take().map(|storm| storm.into_tally())
    }
}

/// Why an attempt failed, in words that do not name the client: reasons are few.
fn reason(was_back: bool, loss: &Loss) -> String {
    let (kind, detail) = match loss {
        Loss::Dial(why) => (CANNOT, why.as_str()),
        Loss::Closed(_) if was_back => return "closed after its return".to_owned(),
        Loss::Closed(why) => (CLOSED, why.as_str()),
        Loss::Silent => return NO_ANSWER.to_owned(),
        Loss::Refused(why) => (REFUSED, why.as_str()),
        Loss::Malformed(why) => (MALFORMED, why.as_str()),
        Loss::Ours => return "closed by ringload".to_owned(),
    };
    // What to do about it stands behind.
    let detail = detail.split(';').next().unwrap_or(detail);
    format!("{kind}: {detail}")
}

/// A ping has gone out by then, and its answer has come.
const PING_LEAD_NS: u64 = 500_000_000;
