//! What the kernel says about processes and threads: CPU time, memory, names.

use std::fs;

use rustix::thread::CpuSet;
use rustix::time::{ClockId, clock_gettime};

use crate::report::Machine;
use crate::secrets::masked;

/// CPU time of some processes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CpuTime {
    /// In user space.
    pub user_s: f64,
    /// In the kernel.
    pub system_s: f64,
}

/// Resident memory of some processes, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// At this moment.
    pub resident: u64,
    /// The most there ever was.
    pub peak: u64,
}

impl CpuTime {
    /// Of these processes; `None` if one of them is gone: what it had used is not known any more.
    pub fn of(pids: &[u32]) -> Option<CpuTime> {
        let tick = 1.0 / rustix::param::clock_ticks_per_second() as f64;
        let mut sum = CpuTime::default();
        for pid in pids {
            let (user, system) = ticks_of(*pid)?;
            sum.user_s += user as f64 * tick;
            sum.system_s += system as f64 * tick;
        }
        Some(sum)
    }

    /// What was used since.
    pub fn since(self, earlier: CpuTime) -> CpuTime {
        CpuTime {
            user_s: (self.user_s - earlier.user_s).max(0.0),
            system_s: (self.system_s - earlier.system_s).max(0.0),
        }
    }

    /// User and system.
    pub fn total_s(self) -> f64 {
        self.user_s + self.system_s
    }
}

impl Memory {
    /// Of these processes; `None` if one of them is gone.
    pub fn of(pids: &[u32]) -> Option<Memory> {
        let mut sum = Memory::default();
        for pid in pids {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            sum.resident += kib_of(&status, "VmRSS:")? * 1024;
            sum.peak += kib_of(&status, "VmHWM:")? * 1024;
        }
        Some(sum)
    }
}

/// The process exists.
pub fn is_alive(pid: u32) -> bool {
    ticks_of(pid).is_some()
}

/// Cores that a process may use.
pub fn allowed_cores(pid: u32) -> Option<u32> {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).ok()?)?;
    let set = rustix::thread::sched_getaffinity(Some(pid)).ok()?;
    Some(set.count())
}

/// Cores that this process may use.
pub fn own_cores() -> Vec<usize> {
    let set = rustix::thread::sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    (0..CpuSet::MAX_CPU)
        .filter(|core| set.is_set(*core))
        .collect()
}

/// The command line of a process, without its secrets.
pub fn command_of(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let parts = bytes
        .split(|byte| *byte == 0)
        .filter(|part| !part.is_empty());
    let parts: Vec<String> = parts
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .collect();
    masked(&parts).join(" ")
}

/// CPU time of the calling thread.
pub fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Time that the calling thread was ready to run and had no core; `None` if the kernel does not
/// tell.
pub fn thread_wait_ns() -> Option<u64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().nth(1)?.parse().ok()
}

/// Time that the threads of this process were ready to run and had no core; those that have ended are
/// not in it. `None` if the kernel does not tell.
pub fn own_wait_ns() -> Option<u64> {
    let tasks = fs::read_dir("/proc/self/task").ok()?;
    let wait = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    let waits: Vec<u64> = tasks.flatten().filter_map(wait).collect();
    (!waits.is_empty()).then(|| waits.into_iter().sum())
}

/// Local ports for connections from one address (ip_local_port_range of ip(7)).
pub fn local_ports() -> u64 {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut ends = text.split_whitespace().map(str::parse::<u64>);
    match (ends.next(), ends.next()) {
        (Some(Ok(first)), Some(Ok(last))) if first <= last => last - first + 1,
        _ => DEFAULT_PORTS,
    }
}

/// Files that a process may open; `None` if it is gone, or of somebody else.
pub fn files_max_of(pid: u32) -> Option<u64> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// Settings of the kernel that a result should tell; those that there are.
fn sysctls() -> Vec<(String, String)> {
    let read = |name: &&str| {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        let text = fs::read_to_string(path).ok()?;
        let words: Vec<&str> = text.split_whitespace().collect();
        Some(((*name).to_owned(), words.join(" ")))
    };
    SYSCTLS.iter().filter_map(read).collect()
}

/// The machine that ringload runs on.
pub fn machine() -> Machine {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find(|line| line.starts_with("model name"));
    let cpu = model
        .and_then(|line| line.split_once(':'))
        .map_or("", |(_, name)| name.trim());
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let cores = rustix::thread::sched_getaffinity(None).map_or(0, |set| set.count());
    Machine {
        cpu: if cpu.is_empty() {
            "unknown".to_owned()
        } else {
            cpu.to_owned()
        },
        cores,
        memory_bytes: kib_of(&meminfo, "MemTotal:").unwrap_or(0) * 1024,
        kernel: rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned(),
        load_before: load
            .split_whitespace()
            .next()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0.0),
        host: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        governor: fs::read_to_string(GOVERNOR)
            .ok()
            .map(|text| text.trim().to_owned()),
        sysctls: sysctls(),
    }
}

/// Binds the calling thread to a core.
pub fn pin_to(core: usize) -> std::io::Result<()> {
    if core >= CpuSet::MAX_CPU {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    let mut set = CpuSet::new();
    set.set(core);
    rustix::thread::sched_setaffinity(None, &set)?;
    Ok(())
}

fn ticks_of(pid: u32) -> Option<(u64, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program comes first, in parentheses; it may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    // A process that has ended and was not waited for has numbers, but does nothing any more.
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    let mut fields = fields.skip(10);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn kib_of(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Of the first core: they differ only where somebody wanted them to.
const GOVERNOR: &str = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";
/// What bounds connections and their buffers, and what io_uring may do.
const SYSCTLS: [&str; 12] = [
    "fs.nr_open",
    "kernel.io_uring_disabled",
    "net.core.netdev_max_backlog",
    "net.core.rmem_max",
    "net.core.somaxconn",
    "net.core.wmem_max",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_mem",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "net.netfilter.nf_conntrack_max",
];
/// What Linux begins with: 32,768 to 60,999.
const DEFAULT_PORTS: u64 = 28_232;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_of_this_process() {
        let me = std::process::id();
        let before = CpuTime::of(&[me]).unwrap();
        let start = thread_cpu_ns();
        while thread_cpu_ns() - start < 50_000_000 {}
        assert!(CpuTime::of(&[me]).unwrap().since(before).total_s() >= 0.03);
        let memory = Memory::of(&[me]).unwrap();
        assert!(memory.resident > 100_000 && memory.peak >= memory.resident);
        assert!(is_alive(me) && command_of(me).contains("ringload"));
        let machine = machine();
        assert!(machine.cores > 0 && machine.memory_bytes > 1 << 20 && !machine.kernel.is_empty());
        assert!((1..=65_536).contains(&local_ports()));
    }

    #[test]
    fn a_process_that_is_gone_has_no_figures() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        // It ends, and is not waited for: its numbers stand still.
        while is_alive(pid) {
            std::thread::yield_now();
        }
        for pids in [&[pid][..], &[std::process::id(), pid]] {
            assert_eq!((CpuTime::of(pids), Memory::of(pids)), (None, None));
        }
        child.wait().unwrap();
        assert_eq!(CpuTime::of(&[pid]), None);
    }
}
