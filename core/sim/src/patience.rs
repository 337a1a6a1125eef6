//! Waiting: the network is healed, nobody comes back, time passes, and every will that is due has
//! to be there (threat 44).

use std::time::Duration;

use crate::broken::Broken;
use crate::client::{Client, State};
use crate::message::Fate;
use crate::world::World;

impl World {
    /// Lets time pass, second by second, while connected clients go on. By then they must have got
    /// what they were owed.
    pub fn wait_for_wills(&mut self) -> Result<(), Broken> {
        self.heal();
        let mut is_at_rest = false;
        for _ in 0..SECONDS {
            self.pass_until(self.oracle.now + Duration::from_secs(1));
            is_at_rest = self.come_to_rest()?;
        }
        // Otherwise something slow is still under way, which is no fault; and slow clients may lose
        // messages.
        if is_at_rest && self.mix.bounds.tight.is_none() {
            self.judge_wills()?;
        }
        Ok(())
    }

    fn judge_wills(&mut self) -> Result<(), Broken> {
        let now = self.oracle.now;
        let left = std::mem::take(&mut self.left_wills);
        let (due, waiting) = left.into_iter().partition(|will| {
            let is_alone = !self.may_have_returned(will, will.link);
            is_alone && will.is_published_by(now, &self.links[will.link], self.oracle.lateness)
        });
        self.left_wills = waiting;
        for will in due {
            let fate = Fate::Settled(self.oracle.tick);
            self.oracle.will_decided(will.message, fate);
            for client in (0..self.clients.len()).filter(|&at| self.clients[at].is_open()) {
                self.oracle.check_arrived(client, will.message)?;
            }
        }
        Ok(())
    }

    /// Connected clients take what comes, until nothing comes any more, or for long enough.
    fn come_to_rest(&mut self) -> Result<bool, Broken> {
        for _ in 0..REST_STEPS_MAX {
            for index in 0..self.clients.len() {
                self.step_client(index)?;
            }
            for _ in 0..SHELL_STEPS {
                self.step_broker()?;
            }
            let is_done = |client: &Client| client.state == State::Off || client.is_settled();
            if self.is_silent() && self.clients.iter().all(is_done) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Longer than wills are delayed, except those that are delayed forever.
const SECONDS: u64 = 12;
const REST_STEPS_MAX: u32 = 1000;
const SHELL_STEPS: u32 = 20;
