//! Processors, clock and network of a machine.
//!
//! Not here: what they have been through (`counters`).

use std::collections::BTreeSet;

use super::machine::{Machine, Needs, Row, Verdict};
use crate::settings::value::parse_cores;

/// The rows, in the order of the result. A row that does not apply is left out.
pub(super) const ROWS: &[fn(&Machine, &Needs) -> Option<Row>] = &[
    cpu_quota,
    siblings,
    numa,
    governor,
    idle_states,
    clock_source,
    receive_queues,
];

/// The smallest of all control groups.
fn cpu_quota(machine: &Machine, needs: &Needs) -> Option<Row> {
    let bounds = machine.cgroup("cpu.max");
    let quotas = bounds.iter().filter_map(|text| {
        let (quota, period) = text.split_once(' ')?;
        Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
    });
    let found = quotas.min_by(f64::total_cmp);
    if bounds.is_empty() {
        return None;
    }
    let shown = found.map_or("none".to_owned(), |cores| format!("{cores:.1} cores"));
    let shards = needs.shards as f64;
    let row = Row::fine(
        "CPU quota",
        shown,
        format!(
            "{shards} cores, one for each shard, or none: a shard without quota stands still until the next period"
        ),
    );
    let fix =
        "remove the quota (CPUQuota=, --cpus), and use --cores or AllowedCPUs= to bound the broker";
    Some(row.unless(
        found.is_none_or(|cores| cores >= shards),
        Verdict::Warning,
        fix,
    ))
}

/// Two shards on the two threads of a core are worth some 1.3.
fn siblings(machine: &Machine, needs: &Needs) -> Option<Row> {
    let mut cores = BTreeSet::new();
    for core in allowed(machine)? {
        let path = format!("sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
        cores.insert(machine.text(&path)?);
    }
    let found = cores.len() as u64;
    let row = Row::fine(
        "cores",
        format!("{found} for this process"),
        format!(
            "{}: one for each shard, not counting second threads",
            needs.shards
        ),
    );
    let fix = format!("--shards {found}, or give the process more cores");
    Some(row.unless(found >= needs.shards, Verdict::Warning, fix))
}

fn numa(machine: &Machine, _: &Needs) -> Option<Row> {
    let allowed: BTreeSet<usize> = allowed(machine)?.into_iter().collect();
    let nodes = machine.names("sys/devices/system/node");
    let nodes = nodes.iter().filter_map(|name| {
        name.strip_prefix("node")?.parse::<u32>().ok()?;
        let cores = machine.text(&format!("sys/devices/system/node/{name}/cpulist"))?;
        Some((name.clone(), parse_cores(&cores).ok()?))
    });
    let used = nodes.filter(|(_, cores)| cores.iter().any(|core| allowed.contains(core)));
    let used: Vec<String> = used.map(|(name, _)| name).collect();
    if used.is_empty() {
        return None;
    }
    let row = Row::fine(
        "NUMA",
        used.join(", "),
        "one node: memory of another costs twice as much",
    );
    let fix =
        "bind the broker to the node of its network card: numactl --cpunodebind=0 --membind=0";
    Some(row.unless(used.len() == 1, Verdict::Warning, fix))
}

fn governor(machine: &Machine, _: &Needs) -> Option<Row> {
    let found = machine.text("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")?;
    let row = Row::fine(
        "CPU governor",
        &found,
        "performance or schedutil: others raise the clock late, after a burst has come",
    );
    let is_fine = ["performance", "schedutil"].contains(&found.as_str());
    Some(row.unless(
        is_fine,
        Verdict::Warning,
        "cpupower frequency-set -g performance",
    ))
}

fn idle_states(machine: &Machine, _: &Needs) -> Option<Row> {
    let folder = "sys/devices/system/cpu/cpu0/cpuidle";
    let states = machine.names(folder).into_iter().filter_map(|state| {
        let is_off = machine.number(&format!("{folder}/{state}/disable")) == Some(1);
        let latency = machine.number(&format!("{folder}/{state}/latency"))?;
        let name = machine.text(&format!("{folder}/{state}/name"))?;
        (!is_off).then_some((latency, name))
    });
    let (latency_us, name) = states.max()?;
    let row = Row::fine(
        "C-states",
        format!("{name}, {latency_us} us to leave it"),
        "at most 200 us: each message to an idle broker waits so long",
    );
    let fix = "cpupower idle-set -D 200, or intel_idle.max_cstate= on the kernel's command line";
    Some(row.unless(latency_us <= 200, Verdict::Warning, fix))
}

fn clock_source(machine: &Machine, _: &Needs) -> Option<Row> {
    let found = machine.text("sys/devices/system/clocksource/clocksource0/current_clocksource")?;
    let fast = [
        "tsc",
        "kvm-clock",
        "hyperv_clocksource_tsc_page",
        "arch_sys_counter",
    ];
    let row = Row::fine(
        "clock source",
        &found,
        format!(
            "{}: each turn reads the clock twice, without a system call",
            fast.join(", ")
        ),
    );
    let fix =
        "clocksource=tsc on the kernel's command line, if the kernel log does not call it unstable";
    Some(row.unless(fast.contains(&found.as_str()), Verdict::Warning, fix))
}

/// A card with one queue interrupts one core for all packets.
fn receive_queues(machine: &Machine, needs: &Needs) -> Option<Row> {
    let cards = machine.names("sys/class/net").into_iter().filter(|card| {
        // What has no device behind it is no card.
        !machine
            .names(&format!("sys/class/net/{card}/device"))
            .is_empty()
    });
    let narrow = cards.filter(|card| {
        let folder = format!("sys/class/net/{card}/queues");
        let queues = machine.names(&folder);
        let queues: Vec<&String> = queues.iter().filter(|q| q.starts_with("rx-")).collect();
        let spreads = |queue: &&String| {
            let cpus = machine.text(&format!("{folder}/{queue}/rps_cpus"));
            cpus.is_some_and(|mask| mask.chars().any(|c| !['0', ','].contains(&c)))
        };
        queues.len() == 1 && !queues.iter().any(spreads)
    });
    let names = machine.names("sys/class/net");
    let narrow: Vec<String> = narrow.collect();
    if names.is_empty() {
        return None;
    }
    let found = match narrow.as_slice() {
        [] => "more than one for each card".to_owned(),
        cards => format!("one for {}", cards.join(", ")),
    };
    let row = Row::fine(
        "receive queues",
        found,
        "several, or RPS, with more than one shard: otherwise one core takes all packets",
    );
    let card = narrow.first().cloned().unwrap_or_default();
    let fix = format!(
        "ethtool -L {card} combined {}, or echo ffff > /sys/class/net/{card}/queues/rx-0/rps_cpus",
        needs.shards
    );
    Some(row.unless(
        narrow.is_empty() || needs.shards == 1,
        Verdict::Warning,
        fix,
    ))
}

/// The cores that this process may use.
fn allowed(machine: &Machine) -> Option<Vec<usize>> {
    let list = machine.field("proc/self/status", "Cpus_allowed_list")?;
    parse_cores(&list).ok()
}

#[cfg(test)]
mod tests {
    use super::super::machine::testing::{check, judged};
    use super::*;

    #[test]
    fn cores_are_judged() {
        use Verdict::{Ok, Warning};
        let group = ("proc/self/cgroup", "0::/x\n");
        let quota = "sys/fs/cgroup/x/cpu.max";
        let above = ("sys/fs/cgroup/cpu.max", "200000 100000");
        let status = ("proc/self/status", "Name: x\nCpus_allowed_list:\t0-3\n");
        let sibling = |core: usize| -> &'static str {
            format!("sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list").leak()
        };
        let own = [
            (sibling(0), "0"),
            (sibling(1), "1"),
            (sibling(2), "2"),
            (sibling(3), "3"),
        ];
        let pairs = [
            (sibling(0), "0-1"),
            (sibling(1), "0-1"),
            (sibling(2), "2-3"),
            (sibling(3), "2-3"),
        ];
        let all =
            |more: &[(&'static str, &'static str)]| [&[status], more].concat().leak() as &[_];
        let (node0, node1) = (
            "sys/devices/system/node/node0/cpulist",
            "sys/devices/system/node/node1/cpulist",
        );
        check(&[
            (
                "quota",
                cpu_quota,
                &[group, (quota, "max 100000")],
                Ok,
                "none",
            ),
            (
                "quota",
                cpu_quota,
                &[group, (quota, "max 100000"), above],
                Warning,
                "CPUQuota",
            ),
            ("cores", siblings, all(&own), Ok, "4 for"),
            ("cores", siblings, all(&pairs), Warning, "--shards 2"),
            (
                "numa",
                numa,
                all(&[(node0, "0-3"), (node1, "4-7")]),
                Ok,
                "node0",
            ),
            (
                "numa",
                numa,
                all(&[(node0, "0-1"), (node1, "2-3")]),
                Warning,
                "numactl",
            ),
        ]);
    }

    #[test]
    fn clocks_are_judged() {
        use Verdict::{Ok, Warning};
        let governs = "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";
        let source = "sys/devices/system/clocksource/clocksource0/current_clocksource";
        let idle = |state: u32, file: &str| -> &'static str {
            format!("sys/devices/system/cpu/cpu0/cpuidle/state{state}/{file}").leak()
        };
        let light = [(idle(0, "name"), "C1"), (idle(0, "latency"), "2")];
        let deep = [(idle(1, "name"), "C10"), (idle(1, "latency"), "890")];
        let off = [(idle(1, "disable"), "1")];
        check(&[
            (
                "governor",
                governor,
                &[(governs, "schedutil")],
                Ok,
                "schedutil",
            ),
            (
                "governor",
                governor,
                &[(governs, "powersave")],
                Warning,
                "performance",
            ),
            ("idle", idle_states, &light, Ok, "C1, 2 us"),
            (
                "idle",
                idle_states,
                &[light, deep].concat(),
                Warning,
                "cpupower",
            ),
            (
                "idle",
                idle_states,
                &[&light[..], &deep, &off].concat(),
                Ok,
                "C1",
            ),
            ("clock", clock_source, &[(source, "tsc")], Ok, "tsc"),
            (
                "clock",
                clock_source,
                &[(source, "hpet")],
                Warning,
                "clocksource=tsc",
            ),
        ]);
    }

    #[test]
    fn the_network_is_judged() {
        use Verdict::{Ok, Warning};
        let card = ("sys/class/net/eth0/device/vendor", "0x1");
        let (first, second) = (
            "sys/class/net/eth0/queues/rx-0/rps_cpus",
            ("sys/class/net/eth0/queues/rx-1/rps_cpus", "0"),
        );
        check(&[
            (
                "queues",
                receive_queues,
                &[card, (first, "0"), second],
                Ok,
                "more than one",
            ),
            (
                "queues",
                receive_queues,
                &[card, (first, "00,0000000f")],
                Ok,
                "more than one",
            ),
            (
                "queues",
                receive_queues,
                &[card, (first, "00,00000000")],
                Warning,
                "ethtool -L eth0 combined 4",
            ),
        ]);
    }

    #[test]
    fn what_a_machine_does_not_tell_has_no_row() {
        for row in ROWS {
            assert_eq!(judged("hardware-nothing", &[], *row), None);
        }
    }
}
