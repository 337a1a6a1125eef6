//! What the service manager is told (`sd_notify(3)`): that the broker is ready, reads its settings again, or stops; and, if
//! it asks for that, that every shard is alive. Nothing without a service manager.

use std::time::{Duration, Instant};

use ringmq::Broker;
use sd_notify::NotifyState;
use tracing::warn;

/// Clients can connect, or the reload is done.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Everything is read again.
pub fn reloading() {
    // Without the time, systemd waits for READY=1 of another reload.
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, now]);
    }
}

/// The clients are being told to go.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, state) {
        warn!(%error, "the service manager cannot be told: it may think that the broker hangs");
    }
}

/// Reports that all shards are alive, as long as they are: each is woken, and has to have made a turn by the next look.
#[derive(Debug)]
pub struct Watchdog {
    interval: Duration,
    next: Instant,
    /// Of each shard, when it was woken.
    turns: Vec<u64>,
}

impl Watchdog {
    /// `None`: nobody asks (`WatchdogSec=`).
    pub fn asked_for(now: Instant) -> Option<Watchdog> {
        let mut patience_us = 0;
        sd_notify::watchdog_enabled(false, &mut patience_us).then(|| Watchdog {
            // One look that finds a shard in a long turn is not yet the end.
            interval: Duration::from_micros(patience_us) / 3,
            next: now,
            turns: Vec::new(),
        })
    }

    /// To be called again and again.
    pub fn look(&mut self, now: Instant, broker: &Broker) {
        if now < self.next {
            return;
        }
        self.next = now + self.interval;
        let counts = broker.counts();
        let turns: Vec<u64> = counts.iter().map(|counts| counts.turns).collect();
        if let Some(shard) = self.first_stuck(&turns) {
            warn!(
                shard,
                "the shard has made no turn since it was woken: no sign of life for the service manager"
            );
        } else {
            tell(&[NotifyState::Watchdog]);
        }
        self.turns = turns;
        broker.wake();
    }

    fn first_stuck(&self, turns: &[u64]) -> Option<usize> {
        let mut pairs = self.turns.iter().zip(turns);
        pairs.position(|(then, now)| then == now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_made_no_turn_is_stuck() {
        let mut watchdog = Watchdog {
            interval: Duration::ZERO,
            next: Instant::now(),
            turns: Vec::new(),
        };
        assert_eq!(watchdog.first_stuck(&[0, 0]), None, "none was woken yet");
        watchdog.turns = vec![4, 9];
        assert_eq!(watchdog.first_stuck(&[5, 9]), Some(1));
        assert_eq!(watchdog.first_stuck(&[5, 10]), None);
    }
}
