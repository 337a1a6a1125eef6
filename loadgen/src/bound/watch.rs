//! Reads what the kernel counts.

use std::fs;
use std::path::{Path, PathBuf};

use super::parse;
use super::{Card, Room, Snapshot, Thread};

/// Watches the processes of a broker, and the machine they run on.
#[derive(Clone, Debug)]
pub struct Watch {
    root: PathBuf,
    pids: Vec<u32>,
    /// The nanoseconds in which `/proc/PID/stat` counts.
    tick_ns: u64,
    page_size: u64,
}

impl Watch {
    /// Of these processes on this machine.
    pub fn of(pids: &[u32]) -> Watch {
        Watch::below(Path::new("/"), pids)
    }

    /// With another root of the file system.
    fn below(root: &Path, pids: &[u32]) -> Watch {
        Watch {
            root: root.to_owned(),
            pids: pids.to_owned(),
            tick_ns: 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1),
            page_size: rustix::param::page_size() as u64,
        }
    }

    /// What was counted up to now; without the bounds of the broker itself.
    pub fn sample(&self, now_ns: u64) -> Snapshot {
        let text = |path: &str| self.text(path);
        let netstat = self.net("netstat").unwrap_or_default();
        Snapshot {
            at_ns: now_ns,
            threads: self
                .pids
                .iter()
                .flat_map(|pid| self.threads(*pid))
                .collect(),
            cores: parse::core_times(&text("proc/stat").unwrap_or_default()),
            packets: self
                .net("softnet_stat")
                .and_then(|text| parse::packets(&text)),
            cards: self.cards(),
            memory: self.memory(),
            resident_bytes: self.resident(),
            socket_memory: self.socket_memory(),
            files: self.files(),
            conntrack: self.conntrack(),
            listen_overflows: parse::netstat(&netstat, "TcpExt", "ListenOverflows"),
            throttled_ns: self.throttled(),
            pressure_ns: text("proc/pressure/cpu").and_then(|text| parse::pressure_ns(&text)),
            own: Default::default(),
            stages: Default::default(),
        }
    }

    /// Memory of the kernel for its own objects and for what is in sockets, of all programs; bytes.
    pub fn kernel_bytes(&self) -> Option<u64> {
        let slab = parse::keyed(&self.text("proc/meminfo")?, "Slab")? * 1024;
        let pages = parse::socket_pages(&self.net("sockstat")?)?;
        Some(slab + pages * self.page_size)
    }

    fn threads(&self, pid: u32) -> Vec<Thread> {
        let folder = format!("proc/{pid}/task");
        let ids = self.names(&folder).into_iter();
        let ids = ids.filter_map(|name| name.parse::<u32>().ok());
        ids.filter_map(|id| self.thread(&format!("{folder}/{id}"), id))
            .collect()
    }

    fn thread(&self, folder: &str, id: u32) -> Option<Thread> {
        let stat = self.text(&format!("{folder}/stat"))?;
        let (name, ticks) = parse::thread_stat(&stat)?;
        let exact = self.text(&format!("{folder}/schedstat"));
        let exact = exact.and_then(|text| parse::schedstat(&text));
        Some(Thread {
            id,
            name: name.to_owned(),
            cpu_ns: exact.map_or(ticks * self.tick_ns, |(cpu, _)| cpu),
            wait_ns: exact.map(|(_, wait)| wait),
        })
    }

    /// Virtual cards have no speed, or say -1.
    fn cards(&self) -> Vec<Card> {
        let names = self.names("sys/class/net").into_iter();
        let card = |name: String| {
            let number = |file: &str| {
                let text = self.text(&format!("sys/class/net/{name}/{file}"))?;
                parse::number(&text)
            };
            let speed = number("speed").filter(|speed| *speed > 0)?;
            let missed = ["rx_missed_errors", "rx_fifo_errors"];
            let missed = missed.map(|file| number(&format!("statistics/{file}")).unwrap_or(0));
            Some(Card {
                received_bytes: number("statistics/rx_bytes")?,
                sent_bytes: number("statistics/tx_bytes")?,
                missed: missed.iter().sum(),
                speed_bits: speed * 1_000_000,
                name,
            })
        };
        names.filter_map(card).collect()
    }

    /// The control group with the least room, or the machine.
    fn memory(&self) -> Option<Room> {
        let groups = self.groups_of("memory", "memory.max", "memory.limit_in_bytes");
        let machine = self.text("proc/meminfo").and_then(|text| {
            let kib = |name| parse::keyed(&text, name).map(|kib| kib * 1024);
            let (total, available) = (kib("MemTotal")?, kib("MemAvailable")?);
            Some(Room {
                used: total.saturating_sub(available),
                limit: total,
            })
        });
        let in_group = |(folder, limit): (String, u64)| {
            let number = |file: &str| parse::number(&self.text(&format!("{folder}/{file}"))?);
            let used = number("memory.current").or_else(|| number("memory.usage_in_bytes"))?;
            let stat = self.text(&format!("{folder}/memory.stat"));
            let stat = stat.unwrap_or_default();
            let cache = ["inactive_file", "total_inactive_file"];
            let cache = cache
                .iter()
                .filter_map(|name| parse::keyed(&stat, name))
                .max();
            let used = used.saturating_sub(cache.unwrap_or(0));
            Some(Room { used, limit })
        };
        // Version 1 writes a limit that no machine has, if there is none.
        let most = machine.map_or(u64::MAX, |room| room.limit);
        let groups = groups.into_iter().filter(|(_, limit)| *limit < most);
        let all = groups.filter_map(in_group).chain(machine);
        all.min_by(Room::by_headroom)
    }

    fn resident(&self) -> Option<u64> {
        let one = |pid: &u32| {
            let status = self.text(&format!("proc/{pid}/status"))?;
            Some(parse::keyed(&status, "VmRSS")? * 1024)
        };
        let sum = self.pids.iter().map(one).sum::<Option<u64>>();
        sum.filter(|_| !self.pids.is_empty())
    }

    fn socket_memory(&self) -> Option<Room> {
        let used = parse::socket_pages(&self.net("sockstat")?)?;
        let limit = parse::socket_pages_max(&self.text("proc/sys/net/ipv4/tcp_mem")?)?;
        Some(Room {
            used: used * self.page_size,
            limit: limit * self.page_size,
        })
    }

    fn files(&self) -> Option<Room> {
        let of = |pid: &u32| {
            let limits = self.text(&format!("proc/{pid}/limits"))?;
            // Of another user's process the kernel shows none.
            let open = fs::read_dir(self.root.join(format!("proc/{pid}/fd"))).ok()?;
            Some(Room {
                used: open.count() as u64,
                limit: parse::files_max(&limits)?,
            })
        };
        self.pids.iter().filter_map(of).min_by(Room::by_headroom)
    }

    fn conntrack(&self) -> Option<Room> {
        let folder = "proc/sys/net/netfilter";
        let number = |file: &str| parse::number(&self.text(&format!("{folder}/{file}"))?);
        Some(Room {
            used: number("nf_conntrack_count")?,
            limit: number("nf_conntrack_max")?,
        })
    }

    /// Of the control group that was stopped for the longest time.
    fn throttled(&self) -> Option<u64> {
        let folders = self.folders_of("cpu").into_iter();
        let texts = folders.filter_map(|folder| self.text(&format!("{folder}/cpu.stat")));
        texts.filter_map(|text| parse::throttled_ns(&text)).max()
    }

    /// Control groups with a limit, and the limit: by the file of version 2, or that of version 1.
    fn groups_of(&self, controller: &str, second: &str, first: &str) -> Vec<(String, u64)> {
        let limit = |folder: String| {
            let files = [second, first].into_iter();
            let mut texts = files.filter_map(|file| self.text(&format!("{folder}/{file}")));
            let limit = texts.find_map(|text| parse::number(&text))?;
            Some((folder, limit))
        };
        let folders = self.folders_of(controller).into_iter();
        folders.filter_map(limit).collect()
    }

    /// The control groups of the broker with this controller, up to the root, of both versions.
    fn folders_of(&self, controller: &str) -> Vec<String> {
        let pid = self.pids.first();
        let text = pid.and_then(|pid| self.text(&format!("proc/{pid}/cgroup")));
        let text = text.unwrap_or_default();
        let second = parse::cgroup(&text, "").map(|folder| ("sys/fs/cgroup".to_owned(), folder));
        let first = parse::cgroup(&text, controller)
            .map(|folder| (format!("sys/fs/cgroup/{controller}"), folder));
        let both = second.into_iter().chain(first);
        both.flat_map(|(mount, folder)| {
            parse::upwards(folder).map(move |folder| format!("{mount}{folder}"))
        })
        .collect()
    }

    /// A file of the network that the broker sees, which in a container is another one.
    fn net(&self, file: &str) -> Option<String> {
        let pid = self.pids.first();
        let theirs = pid.and_then(|pid| self.text(&format!("proc/{pid}/net/{file}")));
        theirs.or_else(|| self.text(&format!("proc/net/{file}")))
    }

    fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok()
    }

    /// What a folder holds, in order.
    fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(path)).into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.collect();
        names.sort_unstable();
        names
    }
}

impl Room {
    /// The share that is used.
    pub fn share(self) -> f64 {
        self.used as f64 / self.limit.max(1) as f64
    }

    /// Orders the one with the least headroom first.
    fn by_headroom(&self, other: &Room) -> std::cmp::Ordering {
        other.share().total_cmp(&self.share())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_watched() {
        let watch = Watch::of(&[std::process::id()]);
        let before = watch.sample(1);
        let begin = crate::process::thread_cpu_ns();
        while crate::process::thread_cpu_ns() - begin < 50_000_000 {}
        let after = watch.sample(2);
        let cpu = |sample: &Snapshot| {
            sample
                .threads
                .iter()
                .map(|thread| thread.cpu_ns)
                .sum::<u64>()
        };
        assert!(cpu(&after) >= cpu(&before) + 40_000_000);
        assert!(!after.cores.is_empty() && after.cores[0].total > 0);
        let (memory, files) = (after.memory.unwrap(), after.files.unwrap());
        assert!(memory.used > 0 && memory.used <= memory.limit, "{memory:?}");
        assert!(files.used >= 3 && files.used < files.limit, "{files:?}");
        assert!(after.resident_bytes.unwrap() > 100_000);
        assert!(watch.kernel_bytes().unwrap() > 100_000);
    }

    #[test]
    fn a_process_that_is_gone_leaves_what_the_machine_tells() {
        let snapshot = Watch::of(&[u32::MAX]).sample(0);
        assert_eq!(
            (
                snapshot.threads.len(),
                snapshot.resident_bytes,
                snapshot.files
            ),
            (0, None, None)
        );
        assert!(!snapshot.cores.is_empty());
    }

    #[test]
    fn the_narrowest_control_group_counts() {
        let root = std::env::temp_dir().join(format!("ringload-watch-{}", std::process::id()));
        let files = [
            ("proc/7/cgroup", "0::/a/b\n"),
            ("proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 900 kB\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/memory.max", "409600\n"),
            ("sys/fs/cgroup/a/memory.current", "300000\n"),
            (
                "sys/fs/cgroup/a/memory.stat",
                "anon 200000\ninactive_file 100000\n",
            ),
            ("sys/fs/cgroup/a/b/cpu.stat", "throttled_usec 3\n"),
            ("sys/fs/cgroup/a/cpu.stat", "throttled_usec 8\n"),
            ("sys/class/net/eth0/speed", "1000\n"),
            ("sys/class/net/eth0/statistics/rx_bytes", "5\n"),
            ("sys/class/net/eth0/statistics/tx_bytes", "6\n"),
            ("sys/class/net/eth1/speed", "-1\n"),
            ("sys/class/net/eth1/statistics/rx_bytes", "5\n"),
        ];
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let snapshot = Watch::below(&root, &[7]).sample(0);
        fs::remove_dir_all(&root).unwrap();
        let room = Room {
            used: 200_000,
            limit: 409_600,
        };
        assert_eq!(
            (snapshot.memory, snapshot.throttled_ns),
            (Some(room), Some(8000))
        );
        let names: Vec<&str> = snapshot
            .cards
            .iter()
            .map(|card| card.name.as_str())
            .collect();
        assert_eq!(
            (names, snapshot.cards[0].speed_bits),
            (vec!["eth0"], 1_000_000_000)
        );
    }
}
