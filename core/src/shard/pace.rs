//! Pausing reads: from clients that do not take their responses, and from those above their rate limit.
//! TCP slows them down, and nothing is lost.
//!
//! Invariant: the shell has been asked not to read a connection exactly while `Link::pauses` is not empty.

use super::Shard;
use super::mail::outbox::{Outbox, Reading};
use super::mail::turn::Turn;
use super::timers::Timer;
use crate::ids::SessionId;
use crate::limits::RateExceeded;
use crate::refusal::{Refusal, Violation};
use crate::session::{Link, Pause};

impl Shard {
    /// After a read: has the shell stop reading from a client that does not take its answers, so
    /// that these stay bounded by twice the bytes that subscriptions may pile up, and what is
    /// received already.
    pub(super) fn heed_unsent(&mut self, id: SessionId, out: &mut Outbox) {
        let bytes_max = self.config.limits.unsent_bytes_max.saturating_mul(2);
        let link = self.link(id);
        if link.egress.unsent_bytes() > bytes_max {
            pause(link, Pause::Unsent, out);
        }
    }

    /// PUBLISH packets so far, if they have a rate.
    pub(super) fn paced_count(&self) -> u64 {
        match self.config.limits.message_rate_max {
            0 => 0,
            _ => self.dispatch.metrics.publishes_received.iter().sum(),
        }
    }

    /// After a read of so many bytes and messages: slows a client down that sends more than it may,
    /// or ends its connection.
    ///
    /// # Errors
    /// It sends more than it may, and that is to end the connection.
    pub(super) fn keep_pace(
        &mut self,
        id: SessionId,
        bytes: usize,
        messages: u64,
        turn: &mut Turn<'_>,
    ) -> Result<(), Violation> {
        let limits = self.config.limits.clone();
        let link = self.link(id);
        let mut goes_on_at = None;
        if limits.message_rate_max > 0 {
            let taken = link
                .message_pace
                .take(turn.now, messages, limits.message_rate_max);
            goes_on_at = goes_on_at.max(taken.err());
        }
        if limits.byte_rate_max > 0 {
            let taken = link
                .byte_pace
                .take(turn.now, bytes as u64, limits.byte_rate_max);
            goes_on_at = goes_on_at.max(taken.err());
        }
        let Some(at) = goes_on_at else {
            return Ok(());
        };
        match limits.rate_exceeded {
            RateExceeded::Disconnect => Err(Refusal::MessageRate.into()), // [MQTT-U17]
            RateExceeded::Slow => {
                // What was received before the shell stopped still counts, and may take longer.
                let first = link.paced_until.is_none();
                if let Some(before) = link.paced_until.replace(at) {
                    self.timers.cancel(before, Timer::Pace(id));
                }
                pause(self.link(id), Pause::Pace, turn.out);
                self.timers.set(at, Timer::Pace(id));
                if first {
                    let refusal = Refusal::MessageRate;
                    self.dispatch.note_refusal(id, refusal, b"", turn);
                }
                Ok(())
            }
        }
    }

    /// A client that was too fast may go on.
    pub(super) fn on_pace(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        let link = self.link(id);
        link.paced_until = None; // The timer has just fired: nothing to cancel.
        resume(link, Pause::Pace, turn);
    }
}

/// Has the shell stop reading a connection, for one more reason.
pub(super) fn pause(link: &mut Link, why: Pause, out: &mut Outbox) {
    if link.pause(why) {
        let (conn, paused) = (link.conn, true);
        out.readings.push(Reading { conn, paused });
    }
}

/// Has the shell read a connection again, if this was the last reason not to.
pub(super) fn resume(link: &mut Link, why: Pause, turn: &mut Turn<'_>) {
    if link.resume(turn.now, why) {
        let (conn, paused) = (link.conn, false);
        turn.out.readings.push(Reading { conn, paused });
    }
}
