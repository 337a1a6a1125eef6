//! How many lines each place in the code may write.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tracing::callsite::Identifier;
use tracing::{Level, Metadata};

/// How much each place in the code may still log. A table that only fills, so that nobody needs a
/// lock.
#[derive(Debug)]
pub(super) struct Budgets {
    /// Seconds count from here.
    pub(super) start: Instant,
    /// Each place has the first free entry from that of its hash on.
    places: Vec<OnceLock<Budget>>,
}

/// The lines of one place in the code.
#[derive(Debug)]
struct Budget {
    callsite: Identifier,
    place: String,
    lines_per_second: u32,
    /// In the upper half seconds since the start, in the lower one the lines of that second.
    used: AtomicU64,
    left_out: AtomicU64,
}

impl Budgets {
    /// Nothing is used up.
    pub(super) fn new() -> Budgets {
        Budgets {
            start: Instant::now(),
            places: (0..PLACES_MAX).map(|_| OnceLock::new()).collect(),
        }
    }

    /// Whether one more line of that place may be written.
    pub(super) fn take(&self, metadata: &Metadata<'_>, now: Instant) -> bool {
        // Who asks for debug wants to see everything.
        if *metadata.level() > Level::INFO || !metadata.is_event() {
            return true;
        }
        let second = now.saturating_duration_since(self.start).as_secs();
        // More places than entries: those that come last write what they like.
        self.of(metadata).is_none_or(|budget| budget.take(second))
    }

    fn of(&self, metadata: &Metadata<'_>) -> Option<&Budget> {
        let callsite = metadata.callsite();
        let mut hasher = DefaultHasher::new();
        callsite.hash(&mut hasher);
        let first = hasher.finish() as usize % PLACES_MAX;
        let (before, after) = self.places.split_at(first);
        let mut entries = after.iter().chain(before);
        entries.find_map(|entry| {
            let budget = entry.get_or_init(|| Budget::new(metadata));
            (budget.callsite == callsite).then_some(budget)
        })
    }

    /// The places that left lines out since this was last asked, each with how many.
    pub(super) fn take_left_out(&self) -> Vec<(String, u64)> {
        self.places
            .iter()
            .filter_map(OnceLock::get)
            .map(|budget| {
                let left_out = budget.left_out.swap(0, Ordering::Relaxed);
                (budget.place.clone(), left_out)
            })
            .filter(|(_, left_out)| *left_out > 0)
            .collect()
    }
}

impl Budget {
    fn new(metadata: &Metadata<'_>) -> Budget {
        Budget {
            callsite: metadata.callsite(),
            place: format!("{}:{}", metadata.target(), metadata.line().unwrap_or(0)),
            lines_per_second: match metadata.target() {
                CLIENTS => CLIENT_LINES_PER_SECOND,
                _ => LINES_PER_SECOND,
            },
            used: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
        }
    }

    fn take(&self, second: u64) -> bool {
        let one_more = |used: u64| match (used >> 32 == second, used as u32) {
            (false, _) => Some(second << 32 | 1),
            (true, count) => (count < self.lines_per_second).then_some(used + 1),
        };
        let taken = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        if taken.is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
        taken.is_ok()
    }
}

/// More than a burst of events of one kind is worth reading.
pub(super) const LINES_PER_SECOND: u32 = 20;

/// Where clients come and go, as `ringmq::reactor` has it.
const CLIENTS: &str = "ringmq::clients";
/// Clients that come, and as many that go: a fleet that reconnects at an ordinary pace is logged as a whole.
const CLIENT_LINES_PER_SECOND: u32 = 200;

/// More places in the code than log anything above debug.
const PLACES_MAX: usize = 256;
