//! The clock of the broker.

use ringmq_core::time::Instant;
use rustix::time::{ClockId, clock_gettime};

/// `CLOCK_BOOTTIME`: goes on while the machine sleeps, as sessions and keep alives do. Served by
/// the vDSO, without a system call.
pub fn clock() -> Instant {
    let time = clock_gettime(ClockId::Boottime);
    // Neither is negative: time since the boot.
    let (seconds, nanos) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    Instant::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}
