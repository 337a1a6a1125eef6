//! The clocks of the broker.

use ringmq_core::time::Instant;
use rustix::time::{ClockId, clock_gettime};

/// `CLOCK_BOOTTIME`: goes on while the machine sleeps, as sessions and keep alives do. Served by
/// the vDSO, without a system call.
pub fn clock() -> Instant {
    Instant::from_nanos(nanos(ClockId::Boottime))
}

/// `CLOCK_REALTIME`, in nanoseconds since 1970: tells how much time passed between two boots.
pub fn wall_clock() -> u64 {
    nanos(ClockId::Realtime)
}

fn nanos(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    // Neither is negative: the time since the boot, and since 1970.
    let (seconds, nanos) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}
