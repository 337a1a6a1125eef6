//! Times of the day, as answers have them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::date::date;

/// So long ago, as `2026-01-02T03:04:05Z`.
pub(super) fn ago(span: Duration) -> String {
    let at = SystemTime::now().checked_sub(span);
    let since = at.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    date(since.unwrap_or_default())
}
