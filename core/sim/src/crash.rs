//! Disasters: the broker is killed, the power is lost, the disk stands still or fails, the wall clock jumps.

use std::time::Duration;

use crate::broken::Broken;
use crate::broker::WALL_BEGIN_NS;
use crate::disk::Crash;
use crate::surroundings::Surroundings;
use crate::trace::What;
use crate::world::{CONVERGE_STEPS_MAX, World};

impl World {
    /// Sum of the weights of all disasters.
    pub fn disaster_weight(&self) -> u64 {
        let disk = self.mix.disk.as_ref();
        disk.map_or(0, |disk| {
            disk.crash + disk.hold + disk.fail + disk.wall_jump
        })
    }

    /// One of them happens.
    pub fn strike(&mut self) -> Result<(), Broken> {
        let disk = self.mix.disk.clone().expect("only a disk has disasters");
        self.begin_tick();
        let drawn = self.rng.below(self.disaster_weight());
        if drawn < disk.crash {
            return self.crash_somehow();
        }
        if drawn < disk.crash + disk.hold {
            self.broker.hold_disk(&mut self.rng);
        } else if drawn >= disk.crash + disk.hold + disk.fail {
            self.jump_wall_clock();
        } else {
            let mut around = Surroundings {
                now: self.oracle.now,
                rng: &mut self.rng,
                links: &mut self.links,
                trace: &mut self.trace,
                notes: &mut self.notes,
            };
            self.broker.fail_disk(&mut around);
        }
        Ok(())
    }

    /// The broker is killed, or the power lost.
    fn crash_somehow(&mut self) -> Result<(), Broken> {
        let disk = self.mix.disk.as_ref();
        let power_percent = disk.map_or(0, |disk| disk.power_percent);
        let is_power = self.rng.percent(power_percent);
        self.crash(if is_power { Crash::Power } else { Crash::Kill })
    }

    /// Now and then the disks of other shards stand still while a checkpoint is made, and the broker crashes right
    /// behind one: what it lets go of has to be durable. `before`: how many there were.
    pub fn may_disturb_checkpoint(&mut self, before: [usize; 2]) -> Result<(), Broken> {
        let disk = self.mix.disk.as_ref();
        let percent = disk.map_or(0, |disk| disk.checkpoint_crash_percent);
        let [has_begun, has_ended] = [0, 1].map(|at| self.broker.checkpoints()[at] > before[at]);
        if has_begun && percent > 0 && self.rng.percent(percent) {
            self.broker.hold_other_disks();
        }
        if has_ended && percent > 0 && self.rng.percent(percent) {
            return self.crash_somehow();
        }
        Ok(())
    }

    /// Somebody sets the clock, or it begins anew: far enough that a start can tell.
    fn jump_wall_clock(&mut self) {
        let begin_ns = *self.rng.pick(&WALL_BEGINS_NS);
        self.broker.wall_begin_ns = begin_ns;
        let text = format_args!("the wall clock jumps: {begin_ns} at the begin");
        self.trace.log(What::Network, [begin_ns, 0, 201], text);
    }

    /// The broker ends without warning and is started again.
    pub fn crash(&mut self, how: Crash) -> Result<(), Broken> {
        let disk = self
            .mix
            .disk
            .as_ref()
            .expect("only a broker with a disk crashes");
        let shards = match disk.is_resharded {
            true => 1 + self.rng.index(SHARDS_MAX),
            false => self.mix.shards,
        };
        let is_jumpy = disk.wall_jump > 0;
        let now = self.oracle.now;
        self.notes.clear();
        for at in 0..self.links.len() {
            let link = &mut self.links[at];
            if link.ended_at.is_none() {
                link.cut();
                link.broker_done = true;
                link.ended_at = Some(now);
                self.release_will(at);
            }
        }
        self.left_wills.clear();
        self.oracle.broker_crashed();
        for client in &mut self.clients {
            client.broker_crashed(now);
        }
        let down = Duration::from_millis(self.rng.below(DOWN_MS_MAX));
        self.pass_until(now + down);
        self.started_at = self.oracle.now;
        if how == Crash::Power && is_jumpy && self.rng.one_in(2) {
            self.jump_wall_clock();
        }
        let values = [how as u64, shards as u64, 200];
        let text = format_args!("crash: {how:?}; a start with {shards} shards");
        self.trace.log(What::Network, values, text);
        let at = self.started_at;
        self.broker.crash(how, shards, &mut self.rng, at)?;
        self.oracle.lateness += self.broker.ignored();
        Ok(())
    }

    /// Everything was deleted and every session ended, durably: a start finds nothing.
    pub fn check_empty_after_crash(&mut self) -> Result<(), Broken> {
        if self.mix.disk.is_none() {
            return Ok(());
        }
        // What nobody waits for is written after a while.
        self.pass_until(self.oracle.now + Duration::from_secs(1));
        for _ in 0..CONVERGE_STEPS_MAX {
            self.step_broker()?;
            if self.is_silent() && self.broker.is_durable() {
                self.crash(Crash::Power)?;
                return self.broker.check_empty();
            }
        }
        let detail = "something stays recorded and is not durable".to_owned();
        Err(Broken::new("the world comes to rest", detail))
    }
}

/// What the wall clock says of the begin of the run: right, years ahead and behind, and 1970.
const WALL_BEGINS_NS: [u64; 5] = [
    WALL_BEGIN_NS,
    WALL_BEGIN_NS + 2 * YEAR_NS,
    WALL_BEGIN_NS + 50 * YEAR_NS,
    WALL_BEGIN_NS - 2 * YEAR_NS,
    0,
];
const YEAR_NS: u64 = 365 * 24 * 3600 * 1_000_000_000;
/// A start may have so many shards.
const SHARDS_MAX: usize = 4;
/// Nobody restarts a broker sooner or later than that.
const DOWN_MS_MAX: u64 = 3_000;
