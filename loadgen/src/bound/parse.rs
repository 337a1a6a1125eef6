//! Texts of the kernel (proc(5), the documentation of control groups and of PSI), taken apart. A
//! text that is not as expected gives nothing.

use super::{CoreTime, Packets};

/// `/proc/PID/task/TID/schedstat`: time on a core, time waiting for one; nanoseconds. A kernel that
/// does not count writes zeros.
pub(super) fn schedstat(text: &str) -> Option<(u64, u64)> {
    let mut fields = text.split_whitespace().map(str::parse);
    let (cpu, wait) = (fields.next()?.ok()?, fields.next()?.ok()?);
    (cpu > 0).then_some((cpu, wait))
}

/// `/proc/PID/task/TID/stat`: the name, and the CPU time in ticks. The name is in parentheses, and
/// may hold any of them itself.
pub(super) fn thread_stat(text: &str) -> Option<(&str, u64)> {
    let (_, rest) = text.split_once('(')?;
    let (name, fields) = rest.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    let (user, system) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some((name, user + system))
}

/// `/proc/stat`: the cores that are online, in their order.
pub(super) fn core_times(text: &str) -> Vec<CoreTime> {
    text.lines().filter_map(core_time).collect()
}

/// `cpu3 user nice system idle iowait irq softirq steal guest guest_nice`; the guests' time is part
/// of the first two.
fn core_time(line: &str) -> Option<CoreTime> {
    let (name, fields) = line.split_once(' ')?;
    name.strip_prefix("cpu")?.parse::<u32>().ok()?;
    let fields = fields.split_whitespace().take(8).map(str::parse);
    let fields: Vec<u64> = fields.collect::<Result<_, _>>().ok()?;
    let [.., softirq, steal] = fields[..] else {
        return None;
    };
    (fields.len() == 8).then(|| CoreTime {
        total: fields.iter().sum(),
        softirq,
        steal,
    })
}

/// `/proc/net/softnet_stat`: a line for each core, in hexadecimal: processed, dropped, and others.
pub(super) fn packets(text: &str) -> Option<Packets> {
    let mut sum = Packets::default();
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        let mut field = || u64::from_str_radix(fields.next()?, 16).ok();
        sum.processed += field()?;
        sum.dropped += field()?;
    }
    (sum.processed > 0).then_some(sum)
}

/// `/proc/net/sockstat`: pages that TCP sockets hold.
pub(super) fn socket_pages(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with("TCP:"))?;
    let mut words = line.split_whitespace();
    words.find(|word| *word == "mem")?;
    words.next()?.parse().ok()
}

/// `/proc/sys/net/ipv4/tcp_mem`: the last one of low, pressure and high, in pages.
pub(super) fn socket_pages_max(text: &str) -> Option<u64> {
    text.split_whitespace().nth(2)?.parse().ok()
}

/// `/proc/net/netstat`: a line of names and one of values for each group.
pub(super) fn netstat(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(": "));
    let names = lines.find(|(of, _)| *of == group)?.1;
    let values = lines.find(|(of, _)| *of == group)?.1;
    let at = names.split_whitespace().position(|other| other == name)?;
    values.split_whitespace().nth(at)?.parse().ok()
}

/// `cpu.stat` of a control group: time for which it was stopped, nanoseconds. Version 2 counts
/// microseconds.
pub(super) fn throttled_ns(text: &str) -> Option<u64> {
    let of = |name: &str| keyed(text, name);
    of("throttled_usec")
        .map(|us| us.saturating_mul(1000))
        .or_else(|| of("throttled_time"))
}

/// `/proc/pressure/cpu`: time in which some task waited, nanoseconds.
pub(super) fn pressure_ns(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with("some "))?;
    let (_, total) = line.split_once("total=")?;
    Some(total.trim().parse::<u64>().ok()?.saturating_mul(1000))
}

/// A line `name value`, with a colon behind the name or without, as in `memory.stat`,
/// `/proc/meminfo` and `/proc/PID/status`.
pub(super) fn keyed(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    let mut words = lines.find_map(|mut words| {
        let is_it = words.next()?.trim_end_matches(':') == name;
        is_it.then_some(words)
    })?;
    words.next()?.parse().ok()
}

/// `/proc/PID/limits`: the soft limit of open files; `None` if there is none.
pub(super) fn files_max(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// `/proc/PID/cgroup`: the folder below the mount of a controller; of version 2 with an empty name.
pub(super) fn cgroup<'a>(text: &'a str, controller: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, folder) = rest.split_once(':')?;
        let is_it = controllers.split(',').any(|name| name == controller);
        is_it.then(|| folder.trim_end_matches('/'))
    })
}

/// A folder and all above it.
pub(super) fn upwards(folder: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(folder), |folder| {
        folder.rsplit_once('/').map(|(above, _)| above)
    })
}

/// A file with one number; `max` is none.
pub(super) fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_and_cores_are_read() {
        assert_eq!(schedstat("123456789 2345 17\n"), Some((123_456_789, 2345)));
        assert_eq!(schedstat("0 0 0\n"), None);
        assert_eq!(schedstat(""), None);
        let stat = "4242 (a) (b) 1) R 1 1 1 0 -1 4194560 5382 0 0 0 286 73 20 0 1 0 62 1";
        assert_eq!(thread_stat(stat), Some(("a) (b) 1", 359)));
        assert_eq!(thread_stat("4242 (x) R 1"), None);
        let text = "cpu  10 0 0 90 0 0 0 0 0 0\n\
                    cpu0 6 1 2 80 3 4 5 7 99 99\n\
                    cpu1 1 1 1 1 1 1 1 1\n\
                    intr 17 8\n";
        let core = |total, softirq, steal| CoreTime {
            total,
            softirq,
            steal,
        };
        assert_eq!(core_times(text), [core(108, 5, 7), core(8, 1, 1)]);
        assert_eq!(core_times("cpu0 1 2 3\ncpux 1 2 3 4 5 6 7 8"), []);
    }

    #[test]
    fn packets_and_sockets_are_read() {
        let text = "0000000a 00000001 00000271 00000000\n00000010 00000002 0000028d 00000000\n";
        let expected = Packets {
            processed: 26,
            dropped: 3,
        };
        assert_eq!(packets(text), Some(expected));
        assert_eq!((packets(""), packets("zz 1")), (None, None));
        let sockstat = "sockets: used 16\nTCP: inuse 1 orphan 0 tw 0 alloc 1 mem 77\nUDP: mem 3\n";
        assert_eq!(socket_pages(sockstat), Some(77));
        assert_eq!(socket_pages("UDP: inuse 0 mem 3"), None);
        assert_eq!(socket_pages_max("287898\t383866\t575796\n"), Some(575_796));
        let text = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\n\
                    TcpExt: 0 332 333\n\
                    IpExt: ListenOverflows\nIpExt: 9\n";
        assert_eq!(netstat(text, "TcpExt", "ListenOverflows"), Some(332));
        assert_eq!(netstat(text, "IpExt", "ListenOverflows"), Some(9));
        assert_eq!(netstat(text, "TcpExt", "Missing"), None);
        assert_eq!(netstat(text, "MPTcpExt", "ListenOverflows"), None);
    }

    #[test]
    fn control_groups_are_read() {
        let second = "nr_periods 10\nnr_throttled 4\nthrottled_usec 2500\n";
        let first = "nr_periods 10\nnr_throttled 4\nthrottled_time 2500000\n";
        assert_eq!(
            (throttled_ns(second), throttled_ns(first)),
            (Some(2_500_000), Some(2_500_000))
        );
        assert_eq!(throttled_ns("usage_usec 12\n"), None);
        let text = "some avg10=0.26 avg60=0.44 avg300=5.75 total=3201\nfull avg10=0.00 total=7\n";
        assert_eq!(pressure_ns(text), Some(3_201_000));
        let mixed = "4:memory:/box/one\n2:cpu,cpuacct:/\n0::/user.slice/a.scope\n";
        assert_eq!(cgroup(mixed, "memory"), Some("/box/one"));
        assert_eq!(cgroup(mixed, "cpu"), Some(""));
        assert_eq!(cgroup(mixed, ""), Some("/user.slice/a.scope"));
        assert_eq!(cgroup("0::/x", "memory"), None);
        let folders: Vec<&str> = upwards("/user.slice/a.scope").collect();
        assert_eq!(folders, ["/user.slice/a.scope", "/user.slice", ""]);
        assert_eq!(
            (number("1048576\n"), number("max\n")),
            (Some(1 << 20), None)
        );
    }

    #[test]
    fn limits_and_memory_are_read() {
        let text = "MemTotal:       24683656 kB\nMemAvailable:   23989964 kB\n";
        assert_eq!(keyed(text, "MemAvailable"), Some(23_989_964));
        assert_eq!(
            keyed("anon 5\ninactive_file 77\n", "inactive_file"),
            Some(77)
        );
        assert_eq!(keyed(text, "Mem"), None);
        let limits = "Limit  Soft Limit  Hard Limit  Units\n\
                      Max open files            20000                30000      files     \n";
        assert_eq!(files_max(limits), Some(20_000));
        assert_eq!(
            files_max("Max open files            unlimited   unlimited  files"),
            None
        );
    }
}
