//! The clock of the examples that measure.

/// Time that the thread ran, so that a busy machine does not count.
pub fn cpu_nanos() -> u64 {
    let schedstat =
        std::fs::read_to_string("/proc/thread-self/schedstat").expect("this runs on Linux");
    let first = schedstat.split_whitespace().next();
    first
        .and_then(|nanos| nanos.parse().ok())
        .expect("schedstat starts with a number")
}
