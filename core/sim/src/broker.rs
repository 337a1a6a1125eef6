//! All shards with their shells: turns and the messages between them, in small steps.
//!
//! It does what the shell over io_uring does, but one visible effect at a time, so that the
//! scheduler can put any other shard's steps between any two of them.
//!
//! Invariants:
//! - an inbox holds at most `inbox_messages_max` messages; while a shard keeps messages that did
//!   not fit, it reads no sockets, but goes on draining its own inbox;
//! - all forwards of a turn become visible before its retains, and those before its answers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ringmq_core::home::Home;
use ringmq_core::ids::ShardId;
use ringmq_core::limits::Limits;
use ringmq_core::shard::{DropReason, Event, Gauges, Heard, MsgClass, ShardConfig, ShardMsg};
use ringmq_core::store::{Clocks, RecoveredPart};
use ringmq_core::time::Instant;
use ringmq_core::topic::InterestTable;

use crate::asker::Asker;
use crate::broken::Broken;
use crate::disk::{Crash, Disk};
use crate::link::{Link, LinkIndex};
use crate::mix::Mix;
use crate::rng::Rng;
use crate::shell::{Arrival, End, Input, Phase, Shell};
use crate::surroundings::Surroundings;
use crate::tamper::Sabotage;
use crate::trace::What;

/// All shards with their shells.
#[derive(Debug)]
pub struct Broker {
    shells: Vec<Shell>,
    interest: Arc<InterestTable>,
    secret: [u64; 2],
    limits: Arc<Limits>,
    /// Where it records; `None`: nowhere.
    disk: Option<Disk>,
    checkpoint_bytes_min: u64,
    /// What the wall clock says of the begin of the run, in nanoseconds since 1970.
    pub wall_begin_ns: u64,
    /// The disk has failed: the process ends.
    pub has_failed: bool,
    inbox_messages_max: usize,
    /// Largest piece in which bytes travel.
    pub chunk_size_max: usize,
    turn_events_max: u64,
    /// Bytes that may wait for one connection, if that is bounded tightly.
    unsent_bytes_max: Option<u32>,
    sabotage: Option<Sabotage>,
    /// Asks the shards at random; `None`: nobody does.
    pub asker: Option<Asker>,
}

impl Broker {
    pub fn new(mix: &Mix, secret: [u64; 2], sabotage: Option<Sabotage>) -> Broker {
        let disk = |_| Disk::new(secret, SEGMENT_SIZE).with_sabotage(sabotage);
        let mut broker = Broker {
            shells: Vec::new(),
            interest: interest_table(mix.shards, secret, false),
            secret,
            limits: Arc::new(mix.limits()),
            disk: mix.disk.as_ref().map(disk),
            checkpoint_bytes_min: mix.disk.as_ref().map_or(0, |d| d.checkpoint_bytes_min),
            wall_begin_ns: WALL_BEGIN_NS,
            has_failed: false,
            inbox_messages_max: mix.inbox_messages_max,
            chunk_size_max: mix.chunk_size_max,
            turn_events_max: mix.turn_events_max,
            unsent_bytes_max: mix.bounds.tight.map(|_| unsent_bytes_max(mix)),
            sabotage,
            asker: None,
        };
        let started = broker.start(mix.shards, Instant::ZERO);
        started.expect("an empty disk is not damaged");
        broker
    }

    /// Starts with what is on the disk.
    fn start(&mut self, shards: usize, now: Instant) -> Result<(), Broken> {
        let (secret, limits) = (self.secret, self.limits.clone());
        self.interest = interest_table(shards, secret, self.disk.is_some());
        self.has_failed = false;
        let clocks = self.clocks(now);
        let mut parts: Vec<Option<RecoveredPart>> = (0..shards).map(|_| None).collect();
        if let Some(disk) = &mut self.disk {
            let recovered = disk.start(shards, clocks).map_err(|damage| {
                Broken::new("what was durable can be read", damage.to_string())
            })?;
            let split = recovered.split(&Home::new(secret, shards), shards);
            parts = split.into_iter().map(Some).collect();
        }
        self.shells = (0..shards)
            .map(|index| {
                let id = ShardId::new(index);
                Shell::new(ShardConfig {
                    id,
                    shards,
                    secret,
                    limits: Arc::clone(&limits),
                    interest: Arc::clone(&self.interest),
                    sys_interval: Duration::ZERO,
                    access: Arc::default(),
                    log: self.disk.as_ref().map(|disk| disk.log_config(id)),
                })
            })
            .collect();
        for (shell, part) in self.shells.iter_mut().zip(parts) {
            if let Some(part) = part {
                shell
                    .shard
                    .set_checkpoint_bytes_min(self.checkpoint_bytes_min);
                shell.shard.restore(now, part);
            }
        }
        Ok(())
    }

    /// The process ends without warning, and starts again with so many shards at some later time.
    pub fn crash(
        &mut self,
        how: Crash,
        shards: usize,
        rng: &mut Rng,
        restart_at: Instant,
    ) -> Result<(), Broken> {
        let disk = self
            .disk
            .as_mut()
            .expect("only a broker with a disk crashes");
        disk.crash(how, &mut || rng.one_in(2));
        self.start(shards, restart_at)
    }

    fn clocks(&self, now: Instant) -> Clocks {
        Clocks {
            boot: now,
            wall_ns: self.wall_begin_ns + now.as_nanos(),
        }
    }

    /// How many checkpoints were begun, and got their names, so far.
    pub fn checkpoints(&self) -> [usize; 2] {
        let disk = self.disk.as_ref();
        disk.map_or([0; 2], |disk| [disk.begun, disk.published])
    }

    /// The disks of all shards but the one that has begun a checkpoint stand still for a while.
    pub fn hold_other_disks(&mut self) {
        let disk = self.disk.as_mut().expect("there is a disk");
        disk.hold_others();
    }

    /// Time that the last start did not count.
    pub fn ignored(&self) -> Duration {
        self.disk
            .as_ref()
            .map_or(Duration::ZERO, |disk| disk.ignored)
    }

    /// The disk of a shard does nothing for a while, or goes on.
    pub fn hold_disk(&mut self, rng: &mut Rng) {
        let at = rng.index(self.shells.len());
        let disk = self.disk.as_mut().expect("there is a disk");
        disk.held[at] = !disk.held[at];
    }

    /// One operation of the disk fails, if one is under way.
    pub fn fail_disk(&mut self, around: &mut Surroundings<'_>) {
        let at = around.rng.index(self.shells.len());
        let disk = self.disk.as_mut().expect("there is a disk");
        let waiting = disk.waiting(at);
        if waiting > 0 {
            let place = around.rng.index(waiting);
            let done = disk.fail_one(at, place, &mut || around.rng.one_in(2));
            let done = done.expect("one is under way");
            self.shells[at].handle(around, Event::DiskDone(done));
        }
    }

    /// Everything that was recorded is durable.
    pub fn is_durable(&self) -> bool {
        self.shells.iter().all(|shell| shell.shard.is_durable())
    }

    /// Operations of the disk that may end on this shard.
    fn waiting(&self, at: usize) -> usize {
        match &self.disk {
            Some(disk) if !disk.held[at] => disk.waiting(at),
            Some(_) | None => 0,
        }
    }

    /// What a shard could take in next.
    fn inputs(&self, at: usize, now: Instant, links: &[Link]) -> Vec<Input> {
        let heard = self.heard(at, now, links);
        let mut inputs = self.shells[at].inputs(now, heard, links);
        inputs.extend((0..self.waiting(at)).map(Input::Disk));
        inputs
    }

    /// A client connects: some listener accepts it.
    pub fn accept(&mut self, link: LinkIndex, around: &mut Surroundings<'_>) {
        let at = around.rng.index(self.shells.len());
        self.shells[at].arrivals.push_back(Arrival {
            link,
            since: around.now,
            bytes: Vec::new(),
        });
    }

    /// The earliest time at which a shard wants to be called.
    pub fn next_deadline(&self) -> Option<Instant> {
        let deadlines = self.shells.iter();
        deadlines
            .filter_map(|s| s.shard.deadlines().earliest())
            .min()
    }

    /// How far a shard has listened.
    fn heard(&self, at: usize, now: Instant, links: &[Link]) -> Heard {
        let heard = |shell: &Shell| shell.heard(now, links);
        let everywhere = self.shells.iter().map(heard).min();
        match self.sabotage {
            Some(Sabotage::JudgeUnheard) => Heard::all(now),
            Some(_) | None => Heard {
                here: heard(&self.shells[at]),
                everywhere: everywhere.expect("there is a shard"),
            },
        }
    }

    /// Up to when every shard has enforced the deadlines of absent clients.
    pub fn judged_until(&self, now: Instant, links: &[Link]) -> Instant {
        let judged = (0..self.shells.len()).map(|at| {
            let heard = self.heard(at, now, links).everywhere;
            let next = self.shells[at].shard.deadlines().of_absence;
            next.unwrap_or(heard).min(heard)
        });
        judged.min().expect("there is a shard")
    }

    /// A shard stops, or all of them do; or it runs again.
    pub fn freeze(&mut self, rng: &mut Rng) {
        let at = rng.index(self.shells.len());
        let frozen = !self.shells[at].frozen;
        let all = rng.one_in(2);
        for (index, shell) in self.shells.iter_mut().enumerate() {
            if all || index == at {
                shell.frozen = frozen;
            }
        }
    }

    /// Every shard and every disk runs.
    pub fn thaw(&mut self) {
        for shell in &mut self.shells {
            shell.frozen = false;
        }
        if let Some(disk) = &mut self.disk {
            disk.held.fill(false);
        }
    }

    /// Whether nothing is left to do before time passes or a client does something.
    pub fn is_idle(&self, now: Instant, links: &[Link]) -> bool {
        self.shells.iter().enumerate().all(|(at, shell)| {
            self.inputs(at, now, links).is_empty()
                && shell.outbox.posted_count() == 0
                && shell.outbox.dirty.is_empty()
                && shell.outbox.closes.is_empty()
                && shell.outbox.handovers.is_empty()
                && !shell.phase.has_posts()
        })
    }

    /// Every client has gone and everything it left was deleted: nothing may remain.
    pub fn check_empty(&self) -> Result<(), Broken> {
        if !self.interest.is_clear() {
            let detail = "the interest table has bits".to_owned();
            return Err(Broken::new("memory goes back to zero", detail));
        }
        for shell in &self.shells {
            let gauges = shell.shard.gauges();
            if gauges != Gauges::default() {
                let detail = format!("shard {} holds {gauges:?}", shell.shard.id());
                return Err(Broken::new("memory goes back to zero", detail));
            }
        }
        Ok(())
    }

    /// What the shards hold, one line each.
    pub fn describe_gauges(&self) -> String {
        let describe = |shell: &Shell| {
            let (gauges, metrics) = (shell.shard.gauges(), shell.shard.metrics());
            format!("shard {}: {gauges:?}, {metrics:?}", shell.shard.id())
        };
        let lines: Vec<String> = self.shells.iter().map(describe).collect();
        lines.join("\n")
    }

    /// What is not idle, for whoever has to find out.
    pub fn describe_busy(&self, now: Instant, links: &[Link]) -> String {
        let describe = |(at, shell): (usize, &Shell)| {
            format!(
                "inputs {:?}, posted {}, inbox {}, stalled {}, phase {:?}",
                self.inputs(at, now, links),
                shell.outbox.posted_count(),
                shell.inbox.len(),
                shell.stalled,
                shell.phase
            )
        };
        let shells: Vec<String> = self.shells.iter().enumerate().map(describe).collect();
        shells.join("; ")
    }

    /// Messages that the shards dropped because a client was too slow.
    pub fn dropped_count(&self) -> u64 {
        let reasons = [DropReason::SlowSocket, DropReason::QueueFull];
        let dropped = |shell: &Shell| reasons.map(|r| shell.shard.metrics().dropped[r as usize]);
        self.shells.iter().flat_map(dropped).sum()
    }

    /// One step of one shard.
    pub fn step(&mut self, around: &mut Surroundings<'_>) -> Result<(), Broken> {
        let at = around.rng.index(self.shells.len());
        if self.shells[at].frozen {
            return Ok(());
        }
        match &mut self.shells[at].phase {
            Phase::Work(0) => self.end_turn(at, around),
            Phase::Work(left) => {
                *left -= 1;
                if let Some(asker) = &mut self.asker {
                    asker.may_ask(&mut self.shells[at].shard, around.now);
                }
                self.take_in(at, around);
                if self.sabotage == Some(Sabotage::IgnorePause) {
                    self.shells[at].forget_pauses();
                }
                if let Some(unsent_bytes_max) = self.unsent_bytes_max {
                    // The answers to what was received in one piece are beyond every bound.
                    let answers = ANSWER_RATIO_MAX * self.chunk_size_max as u32;
                    self.shells[at].check_unsent(unsent_bytes_max.saturating_add(answers))?;
                }
            }
            Phase::Flush { .. } => self.flush_one(at, around),
            Phase::Finish => self.finish_turn(at, around),
        }
        Ok(())
    }

    fn take_in(&mut self, at: usize, around: &mut Surroundings<'_>) {
        let heard = self.heard(at, around.now, around.links);
        let inputs = self.inputs(at, around.now, around.links);
        if inputs.is_empty() {
            self.end_turn(at, around);
            return;
        }
        let shell = &mut self.shells[at];
        match *around.rng.pick(&inputs) {
            Input::Message => {
                let swapped = self.sabotage == Some(Sabotage::SwapMessages);
                if swapped && shell.inbox.len() > 1 && around.rng.one_in(4) {
                    shell.inbox.swap(0, 1);
                }
                let (from, message) = shell.inbox.pop_front().expect("listed as an input");
                shell.handle(around, Event::FromShard { from, message });
            }
            Input::Arrival => shell.adopt(around),
            Input::Read(slot) => shell.read(slot, self.chunk_size_max, around),
            Input::Progress(slot) => {
                let lossy = self.sabotage == Some(Sabotage::DropOutput) && around.rng.one_in(50);
                shell.send(slot, self.chunk_size_max, lossy, around);
            }
            Input::Deadline => {
                shell.handle(around, Event::DeadlineReached { heard });
                shell.note_overdue(heard, around);
            }
            Input::Ended(slot, why) => shell.end(slot, why, around),
            Input::Disk(place) => {
                let disk = self.disk.as_mut().expect("listed as an input");
                let done = disk.end_one(at, place).expect("listed as an input");
                shell.handle(around, Event::DiskDone(done));
            }
        }
    }

    /// What the turn recorded goes to the disk; then its messages become visible.
    fn end_turn(&mut self, at: usize, around: &mut Surroundings<'_>) {
        let clocks = self.clocks(around.now);
        if let Some(disk) = &mut self.disk {
            let shell = &mut self.shells[at];
            shell.end_turn(clocks, around);
            for op in shell.outbox.disk.drain(..) {
                disk.submit(at, op);
            }
            self.has_failed |= shell.outbox.disk_failure.is_some();
        }
        self.begin_flush(at, 0);
    }

    /// Shows one message of the class that is being flushed, or goes on to the next class.
    fn flush_one(&mut self, at: usize, around: &mut Surroundings<'_>) {
        let Phase::Flush { class, posts } = &mut self.shells[at].phase else {
            unreachable!("only called while flushing");
        };
        let class = *class;
        let Some((target, message)) = posts.pop_front() else {
            return self.flush_class_done(at, class);
        };
        if self.shells[target.index()].inbox.len() >= self.inbox_messages_max {
            self.keep_back(at, class, target, message);
            return;
        }
        around.trace.log(
            What::Post,
            [at as u64, target.index() as u64, class as u64],
            format_args!("shard {at} -> {target}: {message:?}"),
        );
        let from = ShardId::new(at);
        let forward = matches!(message, ShardMsg::Forwards(_) | ShardMsg::Forward(..))
            && around.rng.one_in(50);
        let share = matches!(message, ShardMsg::Share(_)) && around.rng.one_in(50);
        let inbox = &mut self.shells[target.index()].inbox;
        match self.sabotage {
            Some(Sabotage::DropForward) if forward => return,
            Some(Sabotage::DropShare) if share => return,
            Some(Sabotage::RepeatShare) if share => inbox.push_back((from, message.clone())),
            Some(Sabotage::RepeatForward) if forward => inbox.push_back((from, message.clone())),
            Some(_) | None => {}
        }
        match (self.sabotage, &message) {
            (Some(Sabotage::HastyReceipt), &ShardMsg::Mark { turn }) => {
                let turns = [turn; 2];
                let answer = (target, ShardMsg::Durable { turns });
                self.shells[at].inbox.push_back(answer);
            }
            (Some(Sabotage::HastyFooter), &ShardMsg::ReceiptsWanted { checkpoint }) => {
                let answer = (target, ShardMsg::ReceiptsDurable { checkpoint });
                self.shells[at].inbox.push_back(answer);
            }
            _ => inbox.push_back((from, message)),
        }
    }

    /// The inbox of `target` is full: puts everything for it back, and stalls.
    fn keep_back(&mut self, at: usize, class: usize, target: ShardId, message: ShardMsg) {
        let class = self.class(class);
        let shell = &mut self.shells[at];
        shell.stalled = true;
        let Phase::Flush { posts, .. } = &mut shell.phase else {
            unreachable!("only called while flushing");
        };
        let mut kept = vec![message];
        let (same, others): (Vec<_>, Vec<_>) =
            posts.drain(..).partition(|(other, _)| *other == target);
        posts.extend(others);
        kept.extend(same.into_iter().map(|(_, message)| message));
        shell.outbox.untake_posts(class, target, kept);
    }

    fn flush_class_done(&mut self, at: usize, class: usize) {
        let shell = &mut self.shells[at];
        // What does not fit holds the later classes back.
        if shell.stalled || class + 1 == MsgClass::COUNT {
            shell.phase = Phase::Finish;
        } else {
            self.begin_flush(at, class + 1);
        }
    }

    fn class(&self, position: usize) -> MsgClass {
        match self.sabotage {
            Some(Sabotage::FlushBackwards) => MsgClass::ALL[MsgClass::COUNT - 1 - position],
            Some(_) | None => MsgClass::ALL[position],
        }
    }

    fn begin_flush(&mut self, at: usize, position: usize) {
        let class = self.class(position);
        let count = self.shells.len();
        let shell = &mut self.shells[at];
        shell.stalled = false;
        if shell.outbox.posted_count() == 0 {
            shell.phase = Phase::Finish; // Nobody could tell the classes from each other.
            return;
        }
        let mut posts = VecDeque::new();
        for target in (0..count).map(ShardId::new) {
            let taken = shell.outbox.take_posts(class, target);
            posts.extend(taken.into_iter().map(|message| (target, message)));
            if self.sabotage == Some(Sabotage::HastyMark) && position == 0 {
                shell.take_marks(target, &mut posts);
            }
        }
        shell.phase = Phase::Flush {
            class: position,
            posts,
        };
    }

    fn finish_turn(&mut self, at: usize, around: &mut Surroundings<'_>) {
        let shell = &mut self.shells[at];
        for conn in std::mem::take(&mut shell.outbox.dirty) {
            shell.mark_dirty(conn);
        }
        for close in std::mem::take(&mut shell.outbox.closes) {
            if self.sabotage == Some(Sabotage::KeepOpen) {
                continue;
            }
            let conn = shell
                .live(close.conn)
                .expect("a close names a live connection");
            conn.end = End::Closing { flush: close.flush };
        }
        let handovers = std::mem::take(&mut shell.outbox.handovers);
        for handover in handovers {
            let shell = &mut self.shells[at];
            let conn = shell
                .live(handover.conn)
                .expect("a handover names a live connection");
            conn.leaving = false;
            conn.end = End::HandedOver;
            let link = conn.link;
            let since = around.links[link].accepted_at;
            self.shells[handover.target.index()]
                .arrivals
                .push_back(Arrival {
                    link,
                    since,
                    bytes: handover.bytes,
                });
        }
        let shell = &mut self.shells[at];
        shell.take_outputs(around.now);
        shell.phase = Phase::Work(1 + around.rng.below(self.turn_events_max));
    }
}

/// What may wait for one connection: messages up to the bound and one beyond it, or answers up to
/// twice the bound.
fn unsent_bytes_max(mix: &Mix) -> u32 {
    let bound = mix.limits().unsent_bytes_max;
    let packet = mix.payload_size_max as u32 + PACKET_HEAD_MAX;
    bound + bound.max(packet)
}

/// A PUBREL of 4 bytes is answered with the reason in words if there is nothing to release.
const ANSWER_RATIO_MAX: u32 = 16;
/// More than a PUBLISH of this workload has beside its payload.
const PACKET_HEAD_MAX: u32 = 100;
/// 2027.
pub const WALL_BEGIN_NS: u64 = 1_800_000_000_000_000_000;
/// Small, so that a log soon begins another one.
const SEGMENT_SIZE: u64 = 64 * 1024;
/// Few buckets, so that filters collide.
const INTEREST_BUCKETS_LOG2: u32 = 6;

/// The table of so many shards; with logs it tells durable interest apart.
fn interest_table(shards: usize, secret: [u64; 2], has_logs: bool) -> Arc<InterestTable> {
    let table = InterestTable::new(shards, INTEREST_BUCKETS_LOG2, secret[0]);
    Arc::new(if has_logs {
        table.with_durable()
    } else {
        table
    })
}
