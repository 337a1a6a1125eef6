//! Wills of links that have ended, until it is known what had to become of them.

use std::time::Duration;

use ringmq_core::time::Instant;

use crate::broken::Broken;
use crate::link::{Goodbye, Link, LinkIndex};
use crate::message::{Fate, MessageIndex};
use crate::oracle::Oracle;

/// The will of a link that has ended.
#[derive(Clone, Copy, Debug)]
pub struct LeftWill {
    pub client: usize,
    pub link: LinkIndex,
    pub message: MessageIndex,
    /// The broker may not publish it earlier unless the session ends.
    pub not_before: Instant,
    pub delayed: bool,
    /// How long the broker may wait with it.
    pub delay_max: Duration,
    pub goodbye: Option<Goodbye>,
}

impl LeftWill {
    /// Whether the broker must have published it by then, if its client has not come back.
    /// `lateness`: time that starts have not counted.
    pub fn is_published_by(&self, now: Instant, link: &Link, lateness: Duration) -> bool {
        let disarmed = self.goodbye.is_some_and(|goodbye| goodbye.reason == 0);
        let known_at = link.closed_at.or(link.ended_at);
        let is_over =
            known_at.is_some_and(|at| now >= at + self.delay_max + TIMER_SLACK + lateness);
        link.confirmed && !disarmed && is_over
    }

    /// The client has a connection again, so the fate of the will is sealed. `unanswered`: in
    /// between it wrote a CONNECT that the broker may have seen. `asked_at`: when it wrote the one
    /// that was answered; `judged_until`: how far the broker had judged then who stays away.
    pub fn decide(
        &self,
        session_present: bool,
        unanswered: bool,
        asked_at: Instant,
        judged_until: Instant,
        link: &Link,
        oracle: &mut Oracle,
    ) -> Result<(), Broken> {
        if !link.confirmed {
            // Perhaps the broker never saw the CONNECT that carried it.
            return Ok(());
        }
        let disarmed = self.goodbye.is_some_and(|goodbye| goodbye.reason == 0);
        let is_late = !unanswered && self.is_published_by(judged_until, link, oracle.lateness);
        let returned = self.delayed && (session_present || unanswered) && !is_late;
        let in_time = session_present && asked_at < self.not_before;
        let fate = if disarmed && link.goodbye_read || self.delayed && in_time {
            Fate::Never
        } else if disarmed && link.closed_at.is_some() || returned {
            // It depends on what the shard saw first.
            Fate::Open
        } else {
            Fate::Settled(oracle.tick)
        };
        if fate == Fate::Never && oracle.will_was_delivered(self.message) {
            return Err(Broken::new(
                "no will after DISCONNECT, or after a return within its delay",
                format!("{self:?}"),
            ));
        }
        oracle.will_decided(self.message, fate);
        Ok(())
    }
}

/// Timers may be this late without breaking a promise.
const TIMER_SLACK: Duration = Duration::from_secs(1);
