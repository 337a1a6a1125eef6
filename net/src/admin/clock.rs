//! Times of the day, as answers have them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::date::date;

/// A time since 1970, as `2026-01-02T03:04:05.123456Z`.
pub(super) fn at(since_1970: Duration) -> String {
    let seconds = date(since_1970);
    let micros = since_1970.subsec_micros();
    format!("{}.{micros:06}Z", seconds.trim_end_matches('Z'))
}

/// Until then, begun ones counted.
pub(super) fn seconds_left(until: Instant) -> u64 {
    let left = until.saturating_duration_since(Instant::now());
    u64::try_from(left.as_millis().div_ceil(1000)).unwrap_or(u64::MAX)
}

/// So long ago, as `2026-01-02T03:04:05Z`.
pub(super) fn ago(span: Duration) -> String {
    let at = SystemTime::now().checked_sub(span);
    let since = at.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    date(since.unwrap_or_default())
}
