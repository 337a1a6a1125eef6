//! What the kernel says of this process.

use std::fs;
use std::time::Duration;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Pid, Resource, getrlimit};

/// The process at a moment; `None`: the kernel does not say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Process {
    /// In seconds.
    pub(super) cpu_s: Option<f64>,
    /// In bytes.
    pub(super) resident_bytes: Option<u64>,
    /// In seconds since 1970.
    pub(super) started_s: Option<f64>,
    /// File descriptors in use; Linux tells since 6.2.
    pub(super) open_fds: Option<u64>,
    /// And how many may be.
    pub(super) max_fds: Option<u64>,
}

impl Process {
    /// Takes some microseconds.
    pub(super) fn look() -> Process {
        let ticks = clock_ticks_per_second() as f64;
        let stat = fs::read_to_string("/proc/self/stat").ok();
        let stat = stat.as_deref().and_then(parse_stat);
        let boot = fs::read_to_string("/proc/stat").ok();
        let boot_s = boot.as_deref().and_then(parse_boot_time);
        let statm = fs::read_to_string("/proc/self/statm").ok();
        let resident = statm.and_then(|text| text.split_ascii_whitespace().nth(1)?.parse().ok());
        let descriptors = fs::metadata("/proc/self/fd").map_or(0, |data| data.len());
        Process {
            cpu_s: stat.map(|(cpu, _)| cpu as f64 / ticks),
            resident_bytes: resident.map(|pages: u64| pages * page_size() as u64),
            started_s: stat
                .zip(boot_s)
                .map(|((_, started), boot)| boot as f64 + started as f64 / ticks),
            open_fds: Some(descriptors).filter(|count| *count > 0),
            max_fds: getrlimit(Resource::Nofile).current,
        }
    }
}

/// A thread at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// How long it has run.
    pub(super) cpu: Duration,
    /// It runs, or could.
    pub(super) is_runnable: bool,
    /// The function of the kernel that it waits in, if the kernel tells: only root is told everywhere.
    pub(super) kernel_function: Option<String>,
}

/// What the kernel says of a thread of this process.
pub(super) fn look_at(thread: Pid) -> Option<Look> {
    let folder = format!("/proc/self/task/{}", thread.as_raw_nonzero());
    let read = |name: &str| fs::read_to_string(format!("{folder}/{name}"));
    let stat = read("stat").ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let kernel_function = read("wchan")
        .ok()
        .filter(|name| !["", "0"].contains(&name.trim()));
    Some(Look {
        cpu: schedule_of(thread)?.cpu,
        is_runnable: rest.trim_start().starts_with('R'),
        kernel_function,
    })
}

/// What the kernel has counted for a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Schedule {
    /// How long it has run.
    pub(super) cpu: Duration,
    /// How long it was ready to run, without a core.
    pub(super) runnable: Duration,
}

/// From `schedstat`: nanoseconds on a core, nanoseconds ready for one.
pub(super) fn schedule_of(thread: Pid) -> Option<Schedule> {
    let path = format!("/proc/self/task/{}/schedstat", thread.as_raw_nonzero());
    parse_schedule(&fs::read_to_string(path).ok()?)
}

fn parse_schedule(text: &str) -> Option<Schedule> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse);
    let cpu = Duration::from_nanos(numbers.next()?.ok()?);
    let runnable = Duration::from_nanos(numbers.next()?.ok()?);
    Some(Schedule { cpu, runnable })
}

/// Time on a core, and time of start since boot, in ticks.
fn parse_stat(text: &str) -> Option<(u64, u64)> {
    // The name of the program stands in parentheses, and may have any itself.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some((field(14)? + field(15)?, field(22)?))
}

/// In seconds since 1970.
fn parse_boot_time(text: &str) -> Option<u64> {
    let mut lines = text.lines();
    lines.find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_how_long_a_thread_ran_and_waited() {
        let schedule = Schedule {
            cpu: Duration::from_nanos(1_500_000_000),
            runnable: Duration::from_nanos(7),
        };
        assert_eq!(parse_schedule("1500000000 7 33\n"), Some(schedule));
        for text in ["", "1", "a b c"] {
            assert_eq!(parse_schedule(text), None, "{text:?}");
        }
        assert!(schedule_of(rustix::thread::gettid()).is_some());
        let look = look_at(rustix::thread::gettid()).unwrap();
        assert!(look.is_runnable, "whoever looks is running: {look:?}");
    }

    #[test]
    fn what_the_kernel_says_is_read() {
        let stat = "12 (a ) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1 0 777 0";
        assert_eq!(parse_stat(stat), Some((200, 777)));
        assert_eq!(parse_stat("12 (a) S"), None);
        assert_eq!(
            parse_boot_time("cpu 1\nbtime 1700000000\n"),
            Some(1_700_000_000)
        );
        let process = Process::look();
        assert!(process.resident_bytes.is_some_and(|bytes| bytes > 1 << 20));
        assert!(process.cpu_s.is_some() && process.started_s.is_some());
    }
}
