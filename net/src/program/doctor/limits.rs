//! Limits of the process and the kernel: files, memory, queues, connections.

use super::machine::{Machine, Needs, Row, Verdict};

/// The rows, in the order of the result. A row that does not apply is left out.
pub(super) const ROWS: &[fn(&Machine, &Needs) -> Option<Row>] = &[
    kernel,
    io_uring,
    open_files,
    nr_open,
    file_max,
    locked_memory,
    somaxconn,
    syn_backlog,
    netdev_backlog,
    tcp_mem,
    tcp_buffers,
    memory,
    conntrack,
    local_ports,
    map_count,
    huge_pages,
    swap,
];

fn kernel(machine: &Machine, _: &Needs) -> Option<Row> {
    let release = machine.text("proc/sys/kernel/osrelease")?;
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next()?.parse::<u32>().ok();
    let is_new = (next()?, next()?) >= (6, 1);
    let row = Row::fine(
        "kernel",
        &release,
        "6.1, for what the rings of the shards need",
    );
    Some(row.unless(
        is_new,
        Verdict::Refused,
        "run a newer kernel; of containers, on the host",
    ))
}

fn io_uring(machine: &Machine, _: &Needs) -> Option<Row> {
    let disabled = machine.sysctl("kernel.io_uring_disabled")?; // Since 6.6.
    let row = Row::fine(
        "kernel.io_uring_disabled",
        disabled,
        "0: the shards do all input and output by io_uring",
    );
    let row = row.unless_set(disabled == 0, "kernel.io_uring_disabled=0");
    let verdict = match disabled {
        0 => Verdict::Ok,
        1 => Verdict::Warning, // Those of kernel.io_uring_group may.
        _ => Verdict::Refused,
    };
    Some(Row { verdict, ..row })
}

fn open_files(machine: &Machine, needs: &Needs) -> Option<Row> {
    let limit = limit(machine, "Max open files")?;
    let (files, why) = needs.files();
    let fix = format!(
        "LimitNOFILE={files} in the systemd unit, --ulimit nofile={files} of the container, or \
         `ulimit -Hn {files}` as root before the start"
    );
    let row = Row::fine(
        "open files (ulimit -Hn)",
        shown(limit),
        format!("{files}: {why}"),
    );
    Some(row.unless(limit >= files, Verdict::Warning, fix))
}

fn nr_open(machine: &Machine, needs: &Needs) -> Option<Row> {
    let found = machine.sysctl("fs.nr_open")?;
    let (files, why) = needs.files();
    let row = Row::fine("fs.nr_open", found, format!("{files}: {why}"));
    Some(row.unless_set(found >= files, &format!("fs.nr_open={files}")))
}

fn file_max(machine: &Machine, needs: &Needs) -> Option<Row> {
    let found = machine.sysctl("fs.file-max")?;
    let in_use = *machine.sysctls("fs.file-nr")?.first()?;
    let (files, why) = needs.files();
    let needed = in_use + files;
    let row = Row::fine(
        "fs.file-max",
        found,
        format!("{needed}: {why}, and {in_use} in use on this machine"),
    );
    Some(row.unless_set(found >= needed, &format!("fs.file-max={needed}")))
}

fn locked_memory(machine: &Machine, _: &Needs) -> Option<Row> {
    let limit = limit(machine, "Max locked memory")?;
    let needed = 512 * 1024;
    let row = Row::fine(
        "locked memory (ulimit -l)",
        shown(limit),
        format!("{needed} bytes, for the rings"),
    );
    let fix =
        "LimitMEMLOCK= of the systemd unit, --ulimit memlock=-1 of the container, or ulimit -l";
    Some(row.unless(limit >= needed, Verdict::Refused, fix))
}

fn somaxconn(machine: &Machine, _: &Needs) -> Option<Row> {
    let found = machine.sysctl("net.core.somaxconn")?;
    let row = Row::fine(
        "net.core.somaxconn",
        found,
        format!("{BACKLOG}: connections that may wait for each listener, as it asks for"),
    );
    Some(row.unless_set(found >= BACKLOG, &format!("net.core.somaxconn={BACKLOG}")))
}

fn syn_backlog(machine: &Machine, _: &Needs) -> Option<Row> {
    let name = "net.ipv4.tcp_max_syn_backlog";
    let found = machine.sysctl(name)?;
    let has_cookies = machine.sysctl("net.ipv4.tcp_syncookies") != Some(0);
    let row = Row::fine(
        name,
        found,
        format!("{BACKLOG}, or SYN cookies: handshakes under way when all clients come back"),
    );
    Some(row.unless_set(
        found >= BACKLOG || has_cookies,
        &format!("{name}={BACKLOG}"),
    ))
}

fn netdev_backlog(machine: &Machine, needs: &Needs) -> Option<Row> {
    let name = "net.core.netdev_max_backlog";
    let found = machine.sysctl(name)?;
    let needed = (needs.rate / 100).max(1000);
    let row = Row::fine(
        name,
        found,
        format!(
            "{needed}: packets of 10 ms at {} messages per second, at least 1000",
            needs.rate
        ),
    );
    Some(row.unless_set(found >= needed, &format!("{name}={needed}")))
}

fn tcp_mem(machine: &Machine, needs: &Needs) -> Option<Row> {
    let found = machine.sysctls("net.ipv4.tcp_mem")?;
    let [low, pressure, max] = found.try_into().ok()?;
    let needed = needs.connections * PAGES_PER_CONNECTION;
    let row = Row::fine(
        "net.ipv4.tcp_mem",
        format!("{low} {pressure} {max} pages"),
        format!(
            "{needed} pages before pressure begins: {PAGES_PER_CONNECTION} for each of {} connections",
            needs.connections
        ),
    );
    let setting = format!(
        "net.ipv4.tcp_mem={} {needed} {}",
        needed / 4 * 3,
        needed * 2
    );
    Some(row.unless_set(pressure >= needed, &setting))
}

fn tcp_buffers(machine: &Machine, needs: &Needs) -> Option<Row> {
    let received = *machine.sysctls("net.ipv4.tcp_rmem")?.get(1)?;
    let sent = *machine.sysctls("net.ipv4.tcp_wmem")?.get(1)?;
    let max = *machine.sysctls("net.ipv4.tcp_mem")?.get(2)? * PAGE_SIZE;
    let slow = needs.connections * sent;
    let row = Row::fine(
        "net.ipv4.tcp_rmem, tcp_wmem",
        format!("{received} and {sent} bytes to begin with"),
        format!(
            "{slow} bytes within tcp_mem ({max}): one send buffer for each connection, if all are slow"
        ),
    );
    let each = (max / needs.connections.max(1)).clamp(4096, sent);
    let setting = format!("net.ipv4.tcp_wmem=4096 {each} 4194304");
    Some(row.unless_set(slow <= max, &setting))
}

/// Of the machine and of every control group.
fn memory(machine: &Machine, needs: &Needs) -> Option<Row> {
    let available = machine.field("proc/meminfo", "MemAvailable")?;
    let available = available.split(' ').next()?.parse::<u64>().ok()? * 1024;
    let bounds = machine.cgroup("memory.max");
    let bounds = bounds.iter().filter_map(|text| text.parse::<u64>().ok());
    let found = bounds.chain([available]).min()?;
    let needed = MEMORY_BASE + needs.connections * MEMORY_PER_CONNECTION;
    let row = Row::fine(
        "memory",
        format!("{} MiB", found >> 20),
        format!(
            "{} MiB: {} MiB, and {} KiB for each of {} connections, most of it in the kernel; queued and retained \
             messages come on top",
            needed >> 20,
            MEMORY_BASE >> 20,
            MEMORY_PER_CONNECTION >> 10,
            needs.connections
        ),
    );
    let fix = "raise the memory limit of the service or container, or lower connections_max";
    Some(row.unless(found >= needed, Verdict::Warning, fix))
}

fn conntrack(machine: &Machine, needs: &Needs) -> Option<Row> {
    let name = "net.netfilter.nf_conntrack_max";
    let found = machine.sysctl(name)?;
    let in_use = machine.sysctl("net.netfilter.nf_conntrack_count")?;
    let needed = in_use + needs.connections * 5 / 4;
    let row = Row::fine(
        name,
        found,
        format!(
            "{needed}: {in_use} in use, {} connections, and a quarter that is closing",
            needs.connections
        ),
    );
    Some(row.unless_set(found >= needed, &format!("{name}={needed}")))
}

/// A port of a listener may be given to a connection of this machine while the broker is down.
fn local_ports(machine: &Machine, needs: &Needs) -> Option<Row> {
    let range = machine.sysctls("net.ipv4.ip_local_port_range")?;
    let [first, last] = range.try_into().ok()?;
    let reserved = machine.text("proc/sys/net/ipv4/ip_local_reserved_ports");
    let reserved = reserved.unwrap_or_default();
    let is_reserved = |port: u64| {
        reserved.split(',').any(|part| {
            let (low, high) = part.split_once('-').unwrap_or((part, part));
            low.parse().is_ok_and(|low: u64| low <= port)
                && high.parse().is_ok_and(|high: u64| port <= high)
        })
    };
    let taken = needs.ports.iter().map(|port| u64::from(*port));
    let taken = taken.filter(|port| (first..=last).contains(port) && !is_reserved(*port));
    let taken: Vec<String> = taken.map(|port| port.to_string()).collect();
    let taken = taken.join(",");
    let row = Row::fine(
        "net.ipv4.ip_local_port_range",
        format!("{first} to {last}"),
        "no port of a listener in it: a connection from this machine may take it while the broker is down",
    );
    let setting = format!("net.ipv4.ip_local_reserved_ports={taken}");
    Some(row.unless_set(taken.is_empty(), &setting))
}

fn map_count(machine: &Machine, needs: &Needs) -> Option<Row> {
    let found = machine.sysctl("vm.max_map_count")?;
    let needed = 16 * 1024 + needs.shards * 256;
    let row = Row::fine(
        "vm.max_map_count",
        found,
        format!("{needed}: 256 for each shard, and 16384 for the allocator"),
    );
    Some(row.unless_set(found >= needed, &format!("vm.max_map_count={needed}")))
}

fn huge_pages(machine: &Machine, _: &Needs) -> Option<Row> {
    let path = "sys/kernel/mm/transparent_hugepage/enabled";
    let text = machine.text(path)?;
    let (_, rest) = text.split_once('[')?;
    let (found, _) = rest.split_once(']')?;
    let row = Row::fine(
        "transparent huge pages",
        found,
        "madvise or never: with always, memory that was given back is taken again, and the kernel moves pages meanwhile",
    );
    let fix = format!("echo madvise > /{path}");
    Some(row.unless(found != "always", Verdict::Warning, fix))
}

fn swap(machine: &Machine, _: &Needs) -> Option<Row> {
    let swaps = machine.text("proc/swaps")?.lines().skip(1).count();
    let swappiness = machine.sysctl("vm.swappiness")?;
    let row = Row::fine(
        "swap",
        format!("{swaps} in use, vm.swappiness = {swappiness}"),
        "none, or swappiness of at most 10: a page that comes from a disk stops its shard for milliseconds",
    );
    Some(row.unless_set(swaps == 0 || swappiness <= 10, "vm.swappiness=1"))
}

/// The hard limit, from `/proc/self/limits`.
fn limit(machine: &Machine, name: &str) -> Option<u64> {
    let value = machine.field("proc/self/limits", name)?;
    match value.split_ascii_whitespace().nth(1)? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

fn shown(limit: u64) -> String {
    match limit {
        u64::MAX => "unlimited".to_owned(),
        limit => limit.to_string(),
    }
}

/// As the listeners ask for.
const BACKLOG: u64 = 4096;
/// One for what is received and one for what is sent.
const PAGES_PER_CONNECTION: u64 = 2;
const PAGE_SIZE: u64 = 4096;
/// Of a broker without clients, with its buffers.
const MEMORY_BASE: u64 = 128 << 20;
/// 2 KiB in the broker, the rest the kernel's: a socket, its file, and a page each way.
const MEMORY_PER_CONNECTION: u64 = 16 << 10;

#[cfg(test)]
mod tests {
    use super::super::machine::testing::{check, judged};
    use super::*;

    #[test]
    fn the_kernel_is_judged() {
        use Verdict::{Ok, Refused, Warning};
        let release = "proc/sys/kernel/osrelease";
        let disabled = "proc/sys/kernel/io_uring_disabled";
        check(&[
            ("kernel", kernel, &[(release, "6.1.0-13\n")], Ok, "6.1.0"),
            ("kernel", kernel, &[(release, "5.15.0\n")], Refused, "newer"),
            ("uring", io_uring, &[(disabled, "0\n")], Ok, "0"),
            ("uring", io_uring, &[(disabled, "1\n")], Warning, "=0"),
            ("uring", io_uring, &[(disabled, "2\n")], Refused, "=0"),
        ]);
    }

    #[test]
    fn files_and_memory_of_the_process_are_judged() {
        use Verdict::{Ok, Refused, Warning};
        let many = "Limit   Soft Limit  Hard Limit  Units\nMax open files            1024     1048576    files\n\
                    Max locked memory         8388608   unlimited   bytes\n";
        let few = "Max open files            1024     4096    files\nMax locked memory  65536 65536 bytes\n";
        let limits = "proc/self/limits";
        let (nr_open_file, max) = ("proc/sys/fs/nr_open", "proc/sys/fs/file-max");
        let used = ("proc/sys/fs/file-nr", "5000\t0\t99\n");
        let info = ("proc/meminfo", "MemTotal: 9 kB\nMemAvailable: 4194304 kB\n");
        let group = ("proc/self/cgroup", "0::/x\n");
        let bound = ("sys/fs/cgroup/x/memory.max", "1073741824\n");
        check(&[
            ("files", open_files, &[(limits, many)], Ok, "1048576"),
            (
                "files",
                open_files,
                &[(limits, few)],
                Warning,
                "LimitNOFILE=100200",
            ),
            ("locked", locked_memory, &[(limits, many)], Ok, "unlimited"),
            (
                "locked",
                locked_memory,
                &[(limits, few)],
                Refused,
                "LimitMEMLOCK",
            ),
            ("nr", nr_open, &[(nr_open_file, "1048576")], Ok, "1048576"),
            (
                "nr",
                nr_open,
                &[(nr_open_file, "1024")],
                Warning,
                "fs.nr_open=100200",
            ),
            (
                "max",
                file_max,
                &[(max, "9223372036854775807"), used],
                Ok,
                "9223372036854775807",
            ),
            (
                "max",
                file_max,
                &[(max, "104000"), used],
                Warning,
                "fs.file-max=105200",
            ),
            ("memory", memory, &[info], Ok, "4096 MiB"),
            (
                "memory",
                memory,
                &[info, group, bound],
                Warning,
                "memory limit",
            ),
        ]);
    }

    #[test]
    fn queues_and_buffers_of_the_network_are_judged() {
        use Verdict::{Ok, Warning};
        let (core, ipv4) = ("proc/sys/net/core", "proc/sys/net/ipv4");
        let path = |folder: &str, name: &str| -> &'static str { format!("{folder}/{name}").leak() };
        let (wait, syn) = (path(core, "somaxconn"), path(ipv4, "tcp_max_syn_backlog"));
        let no_cookies = (path(ipv4, "tcp_syncookies"), "0");
        let packets = path(core, "netdev_max_backlog");
        let mem = path(ipv4, "tcp_mem");
        let read = (path(ipv4, "tcp_rmem"), "4096 131072 6291456");
        let write = (path(ipv4, "tcp_wmem"), "4096 16384 4194304");
        let (track, count) = (
            "proc/sys/net/netfilter/nf_conntrack_max",
            ("proc/sys/net/netfilter/nf_conntrack_count", "10"),
        );
        let range = path(ipv4, "ip_local_port_range");
        let reserved = (path(ipv4, "ip_local_reserved_ports"), "80,1800-1900");
        check(&[
            ("wait", somaxconn, &[(wait, "4096")], Ok, "4096"),
            (
                "wait",
                somaxconn,
                &[(wait, "128")],
                Warning,
                "net.core.somaxconn=4096",
            ),
            ("syn", syn_backlog, &[(syn, "256")], Ok, "256"),
            (
                "syn",
                syn_backlog,
                &[(syn, "256"), no_cookies],
                Warning,
                "tcp_max_syn_backlog=4096",
            ),
            ("net", netdev_backlog, &[(packets, "2000")], Ok, "2000"),
            (
                "net",
                netdev_backlog,
                &[(packets, "1000")],
                Warning,
                "netdev_max_backlog=2000",
            ),
            ("mem", tcp_mem, &[(mem, "1 200000 300000")], Ok, "200000"),
            (
                "mem",
                tcp_mem,
                &[(mem, "1 2 3")],
                Warning,
                "'net.ipv4.tcp_mem=150000 200000 400000'",
            ),
            (
                "buffers",
                tcp_buffers,
                &[(mem, "1 2 400000"), read, write],
                Ok,
                "16384",
            ),
            (
                "buffers",
                tcp_buffers,
                &[(mem, "1 2 200000"), read, write],
                Warning,
                "tcp_wmem=4096 8192",
            ),
            (
                "track",
                conntrack,
                &[(track, "262144"), count],
                Ok,
                "262144",
            ),
            (
                "track",
                conntrack,
                &[(track, "65536"), count],
                Warning,
                "nf_conntrack_max=125010",
            ),
            ("ports", local_ports, &[(range, "32768 60999")], Ok, "32768"),
            (
                "ports",
                local_ports,
                &[(range, "1024 60999"), reserved],
                Ok,
                "1024",
            ),
            (
                "ports",
                local_ports,
                &[(range, "1024 60999")],
                Warning,
                "reserved_ports=1883",
            ),
        ]);
    }

    #[test]
    fn the_memory_of_the_kernel_is_judged() {
        use Verdict::{Ok, Warning};
        let maps = "proc/sys/vm/max_map_count";
        let huge = "sys/kernel/mm/transparent_hugepage/enabled";
        let swaps = "proc/swaps";
        let one = "Filename Type Size\n/dev/sda2 partition 999\n";
        let eager = ("proc/sys/vm/swappiness", "60");
        let calm = ("proc/sys/vm/swappiness", "1");
        check(&[
            ("maps", map_count, &[(maps, "65530")], Ok, "65530"),
            (
                "maps",
                map_count,
                &[(maps, "1000")],
                Warning,
                "vm.max_map_count=17408",
            ),
            (
                "huge",
                huge_pages,
                &[(huge, "always [madvise] never\n")],
                Ok,
                "madvise",
            ),
            (
                "huge",
                huge_pages,
                &[(huge, "[always] madvise never\n")],
                Warning,
                "madvise",
            ),
            (
                "swap",
                swap,
                &[(swaps, "Filename Type Size\n"), eager],
                Ok,
                "0 in use",
            ),
            ("swap", swap, &[(swaps, one), calm], Ok, "1 in use"),
            (
                "swap",
                swap,
                &[(swaps, one), eager],
                Warning,
                "vm.swappiness=1",
            ),
        ]);
    }

    #[test]
    fn what_a_machine_does_not_tell_has_no_row() {
        for row in ROWS {
            assert_eq!(judged("limits-nothing", &[], *row), None);
        }
    }
}
