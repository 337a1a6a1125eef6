//! Time of the broker alone, where clients have to be played in between.

use std::time::{Duration, Instant};

/// Adds up the spans between `start` and `stop`.
#[derive(Debug, Default)]
pub struct Stopwatch {
    total: Duration,
    since: Option<Instant>,
}

impl Stopwatch {
    /// Goes on.
    pub fn start(&mut self) {
        assert!(self.since.is_none(), "it runs already");
        self.since = Some(Instant::now());
    }

    /// Pauses.
    pub fn stop(&mut self) {
        let since = self.since.take().expect("it runs");
        self.total += since.elapsed();
    }

    /// All spans so far.
    pub fn total(&self) -> Duration {
        assert!(self.since.is_none(), "it runs");
        self.total
    }
}
