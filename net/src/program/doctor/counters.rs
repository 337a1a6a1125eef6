//! What the kernel counts since the boot and should not have to count, and whether it still does.
//!
//! What has once happened stays in a counter until the next boot, so it is no reason to warn: only
//! what grows while this looks is.

use std::time::Duration;

use super::machine::{Machine, Needs, Row, Verdict};

/// Something that should not happen.
struct Counter {
    name: &'static str,
    /// What is as needed.
    needed: &'static str,
    /// So much of all that happened may be; 0: nothing.
    share_max_percent: f64,
    read: fn(&Machine) -> Option<Vec<Count>>,
    fix: fn(&Needs, &str) -> Fix,
}

/// How to mend it.
enum Fix {
    Told(String),
    Sysctl(&'static str),
}

/// How often it has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Count {
    /// To what: an interface, say; empty: to the machine.
    of: String,
    bad: u64,
    /// Together with what went well; `None`: nobody counts that.
    all: Option<u64>,
}

/// All counters at a moment.
#[derive(Debug)]
pub(super) struct Counts(Vec<Option<Vec<Count>>>);

/// Reads all of them.
pub(super) fn read(machine: &Machine) -> Counts {
    Counts(
        COUNTERS
            .iter()
            .map(|counter| (counter.read)(machine))
            .collect(),
    )
}

/// A row for each, from what was read before and what there is after such a span.
pub(super) fn rows(before: &Counts, machine: &Machine, needs: &Needs, span: Duration) -> Vec<Row> {
    let after = read(machine);
    let uptime = machine.text("proc/uptime").and_then(|text| {
        let seconds = text.split(' ').next()?;
        seconds.parse::<f64>().ok()
    });
    let booted = uptime.map_or_else(String::new, |seconds| format!(" {} ago", ago(seconds)));
    let rows = COUNTERS.iter().zip(&before.0).zip(&after.0);
    let mut found = Vec::new();
    for ((counter, before), after) in rows {
        if let (Some(before), Some(after)) = (before, after) {
            found.push(counter.row(before, after, (&booted, span), needs));
        }
    }
    found
}

impl Counter {
    fn row(
        &self,
        before: &[Count],
        after: &[Count],
        (booted, span): (&str, Duration),
        needs: &Needs,
    ) -> Row {
        let grown = |now: &Count| {
            let earlier = before.iter().find(|count| count.of == now.of);
            let (bad, all) = earlier.map_or((0, None), |count| (count.bad, count.all));
            Count {
                of: now.of.clone(),
                bad: now.bad.saturating_sub(bad),
                all: now
                    .all
                    .map(|number| number.saturating_sub(all.unwrap_or(0))),
            }
        };
        let pairs = after.iter().map(|now| (now, grown(now)));
        // What grows most; if nothing does, what there is most of.
        let worst = pairs.max_by(|(now, grown), (other, other_grown)| {
            let by_growth = grown.weight().total_cmp(&other_grown.weight());
            by_growth.then_with(|| now.weight().total_cmp(&other.weight()))
        });
        let Some((now, grown)) = worst else {
            return Row::fine(self.name, "nothing that counts", self.needed);
        };
        let of = match &*now.of {
            "" => String::new(),
            of => format!(" of {of}"),
        };
        let found = format!(
            "{}{of} in {}, {} since the boot{booted}",
            grown.shown(),
            shown_span(span),
            now.shown()
        );
        let is_fine = match grown.all {
            Some(_) => grown.weight() * 100.0 < self.share_max_percent || grown.bad == 0,
            None => grown.bad == 0,
        };
        let row = Row::fine(self.name, found, self.needed);
        match (self.fix)(needs, &now.of) {
            Fix::Told(fix) => row.unless(is_fine, Verdict::Warning, fix),
            Fix::Sysctl(setting) => row.unless_set(is_fine, setting),
        }
    }
}

impl Count {
    /// A share if it is one of something, else the number.
    fn weight(&self) -> f64 {
        match self.all {
            Some(all) => self.bad as f64 / all.max(1) as f64,
            None => self.bad as f64,
        }
    }

    fn shown(&self) -> String {
        match self.all {
            Some(_) => format!("{:.3} %", self.weight() * 100.0),
            None => self.bad.to_string(),
        }
    }
}

/// Of control groups with a quota.
fn throttling(machine: &Machine) -> Option<Vec<Count>> {
    let stats = machine.cgroup("cpu.stat");
    let throttled = stats.iter().filter_map(|text| {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix("nr_throttled ")?.parse::<u64>().ok())
    });
    Some(vec![Count {
        of: String::new(),
        bad: throttled.max()?,
        all: None,
    }])
}

fn steal(machine: &Machine) -> Option<Vec<Count>> {
    let times = machine.field("proc/stat", "cpu ")?;
    let words = times.split_ascii_whitespace();
    let times: Option<Vec<u64>> = words.map(|word| word.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guests are in `user` already.
    let times = times?;
    let all = times.get(..8)?.iter().sum();
    Some(vec![Count {
        of: String::new(),
        bad: times[7],
        all: Some(all),
    }])
}

fn interface_drops(machine: &Machine) -> Option<Vec<Count>> {
    let text = machine.text("proc/net/dev")?;
    let counts = text.lines().skip(2).map(|line| {
        let (name, numbers) = line.split_once(':')?;
        let mut numbers = numbers.split_ascii_whitespace().skip(1);
        let packets: u64 = numbers.next()?.parse().ok()?;
        let dropped: u64 = numbers.nth(1)?.parse().ok()?;
        Some(Count {
            of: name.trim().to_owned(),
            bad: dropped,
            all: Some(packets + dropped),
        })
    });
    counts.collect()
}

fn softnet(machine: &Machine) -> Option<Vec<Count>> {
    let text = machine.text("proc/net/softnet_stat")?;
    let dropped = text.lines().filter_map(|line| {
        let word = line.split_ascii_whitespace().nth(1)?;
        u64::from_str_radix(word, 16).ok()
    });
    Some(vec![Count {
        of: String::new(),
        bad: dropped.sum(),
        all: None,
    }])
}

fn listen_overflows(machine: &Machine) -> Option<Vec<Count>> {
    let text = machine.text("proc/net/netstat")?;
    let mut lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let mut pairs = names.split(' ').zip(values.split(' '));
    let (_, found) = pairs.find(|(name, _)| *name == "ListenOverflows")?;
    Some(vec![Count {
        of: String::new(),
        bad: found.parse().ok()?,
        all: None,
    }])
}

/// `3 d`, `21 h`.
fn ago(seconds: f64) -> String {
    let seconds = seconds as u64;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn shown_span(span: Duration) -> String {
    match span.as_secs() {
        1 => "the last second".to_owned(),
        seconds => format!("the last {}", ago(seconds as f64)),
    }
}

/// In the order of the result.
static COUNTERS: [Counter; 5] = [
    Counter {
        name: "CPU throttling",
        needed: "no period in which the quota was used up",
        share_max_percent: 0.0,
        read: throttling,
        fix: |_, _| {
            let fix = "remove the CPU quota of the service or container, or raise it";
            Fix::Told(fix.to_owned())
        },
    },
    Counter {
        name: "steal",
        needed: "less than 1 %: time in which another virtual machine had the core",
        share_max_percent: 1.0,
        read: steal,
        fix: |_, _| {
            let fix = "ask for cores of its own, or move the virtual machine";
            Fix::Told(fix.to_owned())
        },
    },
    Counter {
        name: "packets dropped by interfaces",
        needed: "less than 0.01 %",
        share_max_percent: 0.01,
        read: interface_drops,
        fix: |_, name| Fix::Told(format!("a larger ring: ethtool -G {name} rx 4096")),
    },
    Counter {
        name: "packets dropped before a core took them",
        needed: "0: net.core.netdev_max_backlog is too small, or the cores are too busy",
        share_max_percent: 0.0,
        read: softnet,
        fix: |_, _| Fix::Sysctl("net.core.netdev_max_backlog=10000"),
    },
    Counter {
        name: "connections that found a full backlog",
        needed: "0, of any program",
        share_max_percent: 0.0,
        read: listen_overflows,
        fix: |needs, _| {
            Fix::Told(format!(
                "net.core.somaxconn, more than {} shards, or clients that come back after a \
                 random time",
                needs.shards
            ))
        },
    },
];

#[cfg(test)]
mod tests {
    use super::super::machine::testing::{Fake, needs};
    use super::*;

    /// What a row says of a machine that was so and is so.
    fn judged(name: &str, before: &[(&str, &str)], after: &[(&str, &str)]) -> (Verdict, String) {
        let uptime = ("proc/uptime", "75785.75 26179.77\n");
        let before = Fake::new("before", before);
        let after = Fake::new("after", &[after, &[uptime]].concat());
        let read = read(&before.machine);
        let rows = rows(&read, &after.machine, &needs(), Duration::from_secs(1));
        let row = rows.into_iter().find(|row| row.name == name).expect(name);
        assert_eq!(row.verdict == Verdict::Ok, row.fix.is_none(), "{row:?}");
        (row.verdict, row.found)
    }

    #[test]
    fn what_grows_is_a_reason_to_warn_and_what_has_grown_once_is_not() {
        use Verdict::{Ok, Warning};
        let group = ("proc/self/cgroup", "0::/x\n");
        let stat = "sys/fs/cgroup/x/cpu.stat";
        let throttled = |count: &'static str| [group, (stat, count)];
        let found = judged(
            "CPU throttling",
            &throttled("nr_periods 9\nnr_throttled 7\n"),
            &throttled("nr_periods 19\nnr_throttled 7\n"),
        );
        let expected = "0 in the last second, 7 since the boot 21 h ago";
        assert_eq!(found, (Ok, expected.to_owned()));
        let found = judged(
            "CPU throttling",
            &throttled("nr_throttled 7\n"),
            &throttled("nr_throttled 9\n"),
        );
        assert_eq!(found.0, Warning);
        assert!(found.1.starts_with("2 in the last second"), "{found:?}");

        let overflows = |text: &'static str| [("proc/net/netstat", text)];
        let (old, new) = (
            overflows("TcpExt: A ListenOverflows\nTcpExt: 1 541\nIpExt: B\n"),
            overflows("TcpExt: A ListenOverflows\nTcpExt: 1 542\nIpExt: B\n"),
        );
        let name = "connections that found a full backlog";
        assert_eq!(judged(name, &old, &old).0, Ok);
        assert_eq!(judged(name, &old, &new).0, Warning);

        let soft = |text: &'static str| [("proc/net/softnet_stat", text)];
        let (old, new) = (
            soft("0000aaaa 0000000f 1\n0000bbbb 00000000 2\n"),
            soft("0000aaaa 0000000f 1\n0000bbbb 00000001 2\n"),
        );
        let name = "packets dropped before a core took them";
        assert_eq!(
            judged(name, &old, &old),
            (
                Ok,
                "0 in the last second, 15 since the boot 21 h ago".to_owned()
            )
        );
        assert_eq!(judged(name, &old, &new).0, Warning);
    }

    #[test]
    fn shares_are_those_of_the_last_while() {
        use Verdict::{Ok, Warning};
        let times = |text: &'static str| [("proc/stat", text)];
        let (old, calm, stolen) = (
            times("cpu  100 0 100 700 0 0 0 100 0 0\ncpu0 1\n"),
            times("cpu  150 0 100 850 0 0 0 100 0 0\ncpu0 1\n"),
            times("cpu  150 0 100 840 0 0 0 110 0 0\ncpu0 1\n"),
        );
        let found = judged("steal", &old, &calm);
        let expected = "0.000 % in the last second, 8.333 % since the boot 21 h ago";
        assert_eq!(found, (Ok, expected.to_owned()));
        let found = judged("steal", &old, &stolen);
        assert_eq!((found.0, &found.1[..7]), (Warning, "5.000 %"));

        let head = "Inter-|   Receive\n face |bytes packets errs drop fifo\n";
        let lines = |lo: &str, eth0: &str| format!("{head}    lo: 5 {lo} 0\n  eth0: 5 {eth0} 0\n");
        let (old, same, new) = (
            lines("5 0 0", "1000 0 90"),
            lines("5 0 0", "2000 0 90"),
            lines("5 0 0", "2000 0 91"),
        );
        let name = "packets dropped by interfaces";
        let device = "proc/net/dev";
        assert_eq!(judged(name, &[(device, &old)], &[(device, &same)]).0, Ok);
        let found = judged(name, &[(device, &old)], &[(device, &new)]);
        assert_eq!(found.0, Warning);
        assert!(
            found.1.starts_with("0.100 % of eth0 in the last second"),
            "{found:?}"
        );
    }

    #[test]
    fn what_a_machine_does_not_count_has_no_row() {
        let fake = Fake::new("counters-nothing", &[]);
        let read = read(&fake.machine);
        let rows = rows(&read, &fake.machine, &needs(), Duration::ZERO);
        assert_eq!(rows, []);
    }
}
