//! From two snapshots to the bound: pure.

use std::collections::BTreeMap;

use super::{Bound, CoreTime, Finding, Known, Room, Snapshot, Stage, Thread, What};

/// What a load is bound by, from what was counted before and after it.
///
/// The rows are looked at in their order, and the first that holds is the bound; a row that the
/// kernel tells nothing about is left out.
pub fn bound(before: &Snapshot, after: &Snapshot, known: &Known) -> Bound {
    let span = Span::between(before, after);
    let rows = [
        generator(known),
        span.threads(),
        span.cores_missed(),
        span.steal(),
        span.throttled(),
        span.softirq(),
        span.packets(),
        span.card(),
        span.room(What::Memory, &after.memory),
        span.room(What::SocketMemory, &after.socket_memory),
        span.room(What::Files, &after.files),
        span.room(What::Conntrack, &after.conntrack),
        span.backlog(),
        span.own(),
    ];
    let mut rest: Vec<Finding> = rows.into_iter().flatten().collect();
    let by = match rest.iter().position(|row| row.holds) {
        Some(first) => rest.remove(first),
        None => latency(&known.stages),
    };
    rest.sort_by(|a, b| a.headroom().total_cmp(&b.headroom()));
    Bound { by, rest }
}

/// The threads that share the work of a broker: those like the busiest one that did a tenth of its
/// work at least. `None` if it has done nothing.
pub fn workers(before: &Snapshot, after: &Snapshot) -> Option<u32> {
    let span = Span::between(before, after);
    let uses = span.uses();
    let (busiest, shares) = busiest_kind(&uses)?;
    let is_part = |share: &&f64| **share > 0.0 && **share >= WORKER_PART * busiest.busy;
    let count = shares.iter().filter(is_part).count() as u32;
    (count > 0).then_some(count)
}

/// The busiest thread, and how busy all of its kind are.
fn busiest_kind<'a>(uses: &'a [Use<'a>]) -> Option<(&'a Use<'a>, Vec<f64>)> {
    let busiest = uses.iter().max_by(|a, b| a.busy.total_cmp(&b.busy))?;
    let kind = kind_of(busiest.name);
    let shares = uses.iter().filter(|used| kind_of(used.name) == kind);
    Some((busiest, shares.map(|used| used.busy).collect()))
}

/// Two snapshots and the time between them.
struct Span<'a> {
    before: &'a Snapshot,
    after: &'a Snapshot,
    ns: f64,
}

/// What a thread did, as shares of the time.
struct Use<'a> {
    name: &'a str,
    busy: f64,
    waiting: Option<f64>,
}

impl Span<'_> {
    fn between<'a>(before: &'a Snapshot, after: &'a Snapshot) -> Span<'a> {
        Span {
            before,
            after,
            ns: after.at_ns.saturating_sub(before.at_ns).max(1) as f64,
        }
    }

    fn uses(&self) -> Vec<Use<'_>> {
        let earlier: BTreeMap<u32, &Thread> = self
            .before
            .threads
            .iter()
            .map(|thread| (thread.id, thread))
            .collect();
        let of = |thread: &Thread| {
            // A thread that was not there before has done all of it since.
            let before = earlier.get(&thread.id);
            let cpu = before.map_or(0, |before| before.cpu_ns);
            let wait = before.map_or(Some(0), |before| before.wait_ns);
            let waited = thread.wait_ns.zip(wait);
            let share = |ns: u64| ns as f64 / self.ns;
            (
                share(thread.cpu_ns.saturating_sub(cpu)),
                waited.map(|(after, before)| share(after.saturating_sub(before))),
            )
        };
        let threads = self.after.threads.iter();
        threads
            .map(|thread| {
                let (busy, waiting) = of(thread);
                Use {
                    name: &thread.name,
                    busy,
                    waiting,
                }
            })
            .collect()
    }

    /// The busiest thread, among those of its kind.
    fn threads(&self) -> Option<Finding> {
        let uses = self.uses();
        let (busiest, shares) = busiest_kind(&uses)?;
        let count = shares.len();
        let mean = shares.iter().sum::<f64>() / count as f64;
        let is_uneven = busiest.busy > UNEVEN * mean;
        let holds = busiest.busy >= THREAD_SHARE;
        let (name, busy) = (busiest.name, percent(busiest.busy));
        let rest = (mean * count as f64 - busiest.busy) / (count.max(2) - 1) as f64;
        let (what, said, fix) = match (count, is_uneven) {
            (1, _) => (
                What::OneThread,
                format!("thread `{name}` is busy {busy} of the time, the only one of its kind"),
                "it needs a faster core, or a broker with more threads",
            ),
            (_, true) => (
                What::OneThread,
                format!(
                    "thread `{name}` is busy {busy} of the time, the others of its kind {}",
                    percent(rest)
                ),
                "one of them has too much to do; more cores do not help",
            ),
            (_, false) => (
                What::AllThreads,
                format!(
                    "the {count} threads like `{name}` are busy {} of the time, the busiest {busy}",
                    percent(mean)
                ),
                "the broker needs more cores and threads",
            ),
        };
        Some(finding(what, (busiest.busy, 1.0), holds, said, fix))
    }

    /// Time for which a thread was ready and had no core.
    fn cores_missed(&self) -> Option<Finding> {
        let uses = self.uses();
        let waiting = uses
            .iter()
            .filter_map(|used| Some((used.waiting?, used.name)));
        let (share, said) = match waiting.max_by(|a, b| a.0.total_cmp(&b.0)) {
            Some((share, name)) => (
                share,
                format!(
                    "thread `{name}` waited for a core {} of the time",
                    percent(share)
                ),
            ),
            None => {
                let share = self.growth(|snapshot| snapshot.pressure_ns)? / self.ns;
                let said = format!("some task waited for a core {} of the time", percent(share));
                (share, said)
            }
        };
        let fix = "other programs use the cores: free them, or bind the broker to its own";
        Some(missed(share, said, fix))
    }

    fn steal(&self) -> Option<Finding> {
        let share = self.most_of_a_core(|core| core.steal)?.0;
        let said = format!(
            "the host took a core away {} of the time (steal)",
            percent(share)
        );
        let fix = "the virtual machine does not get the cores that it shows";
        Some(missed(share, said, fix))
    }

    fn throttled(&self) -> Option<Finding> {
        let share = self.growth(|snapshot| snapshot.throttled_ns)? / self.ns;
        let said = format!(
            "the CPU limit of the control group stopped the broker {} of the time",
            percent(share)
        );
        Some(missed(share, said, "raise cpu.max of the group"))
    }

    fn softirq(&self) -> Option<Finding> {
        let (share, core) = self.most_of_a_core(|core| core.softirq)?;
        let said = format!(
            "core {core} spends {} of its time in softirq",
            percent(share)
        );
        let fix =
            "spread the interrupts of the network (RSS, RPS), or keep the broker off that core";
        let holds = share >= SOFTIRQ_SHARE;
        Some(finding(What::Softirq, (share, 1.0), holds, said, fix))
    }

    fn packets(&self) -> Option<Finding> {
        let grown = |of: fn(&super::Packets) -> u64| {
            self.growth(|snapshot| snapshot.packets.as_ref().map(of))
        };
        let processed = grown(|packets| packets.processed)?;
        let dropped = grown(|packets| packets.dropped)?;
        let share = dropped / (processed + dropped).max(1.0);
        let said = format!(
            "the kernel dropped {dropped} of {} packets",
            processed + dropped
        );
        let holds = share > PACKETS_SHARE;
        let fix = "raise net.core.netdev_max_backlog and netdev_budget";
        Some(finding(
            What::Packets,
            (share, PACKETS_SHARE),
            holds,
            said,
            fix,
        ))
    }

    /// The card with the least headroom.
    fn card(&self) -> Option<Finding> {
        let of = |card: &super::Card| {
            let mut before = self.before.cards.iter();
            let before = before.find(|before| before.name == card.name)?;
            let received = card.received_bytes.saturating_sub(before.received_bytes);
            let sent = card.sent_bytes.saturating_sub(before.sent_bytes);
            let bits = received.max(sent) as f64 * 8.0 / (self.ns / 1e9);
            let missed = card.missed.saturating_sub(before.missed);
            Some((bits, card.speed_bits as f64, missed, card.name.clone()))
        };
        let all = self.after.cards.iter().filter_map(of);
        let by_use = |a: &(f64, f64, u64, String), b: &(f64, f64, u64, String)| {
            (a.2.min(1), a.0 / a.1)
                .partial_cmp(&(b.2.min(1), b.0 / b.1))
                .expect("speeds are over 0")
        };
        let (bits, speed, missed, name) = all.max_by(by_use)?;
        let said = format!(
            "{name} carries {:.3} of {:.0} Gbit/s, and had no room for {missed} packets",
            bits / 1e9,
            speed / 1e9
        );
        let holds = bits >= CARD_SHARE * speed || missed > 0;
        let fix = "a faster card, or more of its queues (ethtool -L, -G)";
        Some(finding(What::Card, (bits, speed), holds, said, fix))
    }

    fn room(&self, what: What, room: &Option<Room>) -> Option<Finding> {
        let room = room.as_ref()?;
        let (thing, share_max, fix) = match what {
            What::Memory => ("memory", MEMORY_SHARE, "more memory, or fewer connections"),
            What::SocketMemory => (
                "memory of TCP sockets",
                MEMORY_SHARE,
                "raise net.ipv4.tcp_mem",
            ),
            What::Files => ("open files", COUNT_SHARE, "raise the limit (ulimit -n)"),
            _ => (
                "followed connections",
                COUNT_SHARE,
                "raise net.netfilter.nf_conntrack_max",
            ),
        };
        let said = match what {
            What::Memory | What::SocketMemory => {
                format!("{thing}: {} of {}", mib(room.used), mib(room.limit))
            }
            _ => format!("{thing}: {} of {}", room.used, room.limit),
        };
        let holds = room.share() >= share_max;
        let numbers = (room.used as f64, room.limit as f64);
        Some(finding(what, numbers, holds, said, fix))
    }

    fn backlog(&self) -> Option<Finding> {
        let lost = self.growth(|snapshot| snapshot.listen_overflows)?;
        let said = format!("{lost} connections were lost in a full queue of a listener");
        let fix = "raise net.core.somaxconn and the backlog of the broker";
        Some(finding(What::Backlog, (lost, 0.0), lost > 0.0, said, fix))
    }

    /// The bound of the broker that was reached most often.
    fn own(&self) -> Option<Finding> {
        let grown = self.after.own.iter().filter_map(|(name, after)| {
            // What was not known before has not grown by all of it.
            let before = self.before.own.get(name)?;
            Some((after.saturating_sub(*before), name))
        });
        let (count, name) = grown.max()?;
        let said = match count {
            0 => "no bound of the broker itself was reached".to_owned(),
            count => format!("the broker reached its own bound `{name}` {count} times"),
        };
        let fix = "its manual says what the bound is for";
        Some(finding(
            What::Own,
            (count as f64, 0.0),
            count > 0,
            said,
            fix,
        ))
    }

    /// How much a counter grew; one that began anew has not.
    fn growth(&self, of: impl Fn(&Snapshot) -> Option<u64>) -> Option<f64> {
        let (before, after) = (of(self.before)?, of(self.after)?);
        Some(after.saturating_sub(before) as f64)
    }

    /// The largest share that this had of the time of a core, and of which.
    fn most_of_a_core(&self, of: impl Fn(&CoreTime) -> u64) -> Option<(f64, usize)> {
        let both = self.before.cores.iter().zip(&self.after.cores);
        let shares = both.enumerate().map(|(core, (before, after))| {
            let total = after.total.saturating_sub(before.total).max(1);
            let part = of(after).saturating_sub(of(before));
            (part as f64 / total as f64, core)
        });
        shares.max_by(|a, b| a.0.total_cmp(&b.0))
    }
}

/// Too many trials were void: nothing can be said about the broker.
fn generator(known: &Known) -> Option<Finding> {
    let why = known.generator.as_ref()?;
    Some(Finding {
        what: What::Generator,
        used: 1.0,
        limit: 1.0,
        holds: true,
        sentence: format!("the generator, not the broker: {why}"),
    })
}

/// Nothing that is counted is used up. Which stage grew by the largest factor says where it waits.
fn latency(stages: &[Stage]) -> Finding {
    let grown = stages
        .iter()
        .max_by(|a, b| a.growth().total_cmp(&b.growth()));
    let (used, said) = match grown {
        Some(stage) => (
            stage.growth(),
            format!(
                "latency: of the broker's stages `{}` grew most, from {:.0} to {:.0} us; nothing \
                 that the kernel counts is used up",
                stage.name, stage.good_us, stage.bad_us
            ),
        ),
        None => (
            1.0,
            "latency: nothing that the kernel counts is used up".to_owned(),
        ),
    };
    Finding {
        what: What::Latency,
        used,
        limit: 1.0,
        holds: true,
        sentence: said,
    }
}

impl Stage {
    /// By which factor it got longer.
    fn growth(&self) -> f64 {
        self.bad_us / self.good_us.max(1.0)
    }
}

/// Cores that the broker did not get, as a share of the time.
fn missed(share: f64, said: String, fix: &str) -> Finding {
    let holds = share > MISSED_SHARE;
    finding(What::NoCore, (share, MISSED_SHARE), holds, said, fix)
}

/// A row. What to do is only said where there is something to be done.
fn finding(what: What, (used, limit): (f64, f64), holds: bool, said: String, fix: &str) -> Finding {
    Finding {
        what,
        used,
        limit,
        holds,
        sentence: match holds {
            true => format!("{said}: {fix}"),
            false => said,
        },
    }
}

/// The name without its numbers: threads that do the same.
fn kind_of(name: &str) -> String {
    name.chars()
        .filter(|letter| !letter.is_ascii_digit())
        .collect()
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn mib(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / (1 << 20) as f64)
}

/// Threads of a kind that do less than this part of what the busiest does are spare ones.
const WORKER_PART: f64 = 0.1;
/// A thread that is busier has nothing left.
const THREAD_SHARE: f64 = 0.95;
/// The busiest thread of a kind does so many times the mean: it alone is the bound.
const UNEVEN: f64 = 1.3;
/// A thread that waits for longer than this share has lost its core.
const MISSED_SHARE: f64 = 0.1;
/// A core in softirq for longer has no time for anything else.
const SOFTIRQ_SHARE: f64 = 0.9;
/// TCP repeats dropped packets; from one in 10,000 on it shows in the latencies.
const PACKETS_SHARE: f64 = 1e-4;
/// Headers and gaps between packets take the rest.
const CARD_SHARE: f64 = 0.9;
/// Nearer to the limit the kernel takes time to find more.
const MEMORY_SHARE: f64 = 0.9;
/// Of what is counted one by one.
const COUNT_SHARE: f64 = 0.95;

#[cfg(test)]
mod tests {
    use super::super::{Card, Packets, is_own_bound};
    use super::*;

    /// One second in which nothing is used up.
    fn calm() -> (Snapshot, Snapshot) {
        let thread = |id, name: &str, cpu_ns, wait_ns| Thread {
            id,
            name: name.to_owned(),
            cpu_ns,
            wait_ns: Some(wait_ns),
        };
        let core = |total, softirq, steal| CoreTime {
            total,
            softirq,
            steal,
        };
        let room = |used| {
            Some(Room {
                used,
                limit: 1 << 30,
            })
        };
        let at = |s: u64| Snapshot {
            at_ns: 5_000_000_000 + s * 1_000_000_000,
            threads: vec![
                thread(1, "shard-0", s * 600_000_000, s * 10_000_000),
                thread(2, "shard-1", s * 500_000_000, s * 20_000_000),
                thread(3, "admin", s * 1_000_000, 0),
            ],
            cores: vec![core(s * 100, s * 20, s), core(s * 100, s * 10, s)],
            packets: Some(Packets {
                processed: 7 + s * 100_000,
                dropped: 3,
            }),
            cards: vec![Card {
                name: "eth0".to_owned(),
                received_bytes: s * 1_000_000,
                sent_bytes: s * 2_000_000,
                missed: 4,
                speed_bits: 1_000_000_000,
            }],
            memory: room(1 << 20),
            resident_bytes: Some(1 << 19),
            socket_memory: room(1 << 21),
            files: Some(Room {
                used: 100,
                limit: 1000,
            }),
            conntrack: Some(Room {
                used: 5,
                limit: 1000,
            }),
            listen_overflows: Some(9),
            throttled_ns: Some(77 + s * 1_000_000),
            pressure_ns: Some(s * 900_000_000),
            own: [("dropped/queue_full".to_owned(), 4)].into(),
            stages: BTreeMap::new(),
        };
        (at(0), at(1))
    }

    type Change = fn(&mut Snapshot);

    #[test]
    fn the_resource_that_is_used_up_is_named() {
        let rows: [(What, &str, Change); 15] = [
            (What::OneThread, "thread `shard-0` is busy 97 %", |after| {
                after.threads[0].cpu_ns = 970_000_000;
            }),
            (What::AllThreads, "the 2 threads like `shard-1`", |after| {
                after.threads[0].cpu_ns = 900_000_000;
                after.threads[1].cpu_ns = 960_000_000;
            }),
            (What::OneThread, "the only one of its kind", |after| {
                after.threads[2].cpu_ns = 990_000_000;
            }),
            (What::NoCore, "`shard-1` waited for a core 30 %", |after| {
                after.threads[1].wait_ns = Some(300_000_000);
            }),
            (What::NoCore, "some task waited", |after| {
                after
                    .threads
                    .iter_mut()
                    .for_each(|thread| thread.wait_ns = None);
            }),
            (What::NoCore, "(steal)", |after| after.cores[1].steal = 15),
            (What::NoCore, "raise cpu.max", |after| {
                after.throttled_ns = Some(200_000_000)
            }),
            (What::Softirq, "core 1 spends 93 %", |after| {
                after.cores[1].softirq = 93
            }),
            (What::Packets, "dropped 97 of 100097", |after| {
                after.packets.as_mut().unwrap().dropped = 100;
            }),
            (What::Card, "eth0 carries 0.960 of 1 Gbit/s", |after| {
                after.cards[0].sent_bytes = 120_000_000;
            }),
            (What::Card, "no room for 2 packets", |after| {
                after.cards[0].missed = 6
            }),
            (What::Memory, "memory: 1000 MiB of 1024 MiB", |after| {
                after.memory.as_mut().unwrap().used = 1000 << 20;
            }),
            (What::SocketMemory, "tcp_mem", |after| {
                after.socket_memory.as_mut().unwrap().used = 1000 << 20;
            }),
            (What::Files, "open files: 950 of 1000", |after| {
                after.files.as_mut().unwrap().used = 950;
            }),
            (What::Conntrack, "nf_conntrack_max", |after| {
                after.conntrack.as_mut().unwrap().used = 999;
            }),
        ];
        for (what, text, change) in rows {
            let (before, mut after) = calm();
            change(&mut after);
            let found = bound(&before, &after, &Known::default());
            assert_eq!(found.by.what, what, "{text}: {found:?}");
            assert!(
                found.by.sentence.contains(text),
                "{text}: {}",
                found.by.sentence
            );
            assert!(
                found.by.holds && found.rest.iter().all(|row| !row.holds),
                "{found:?}"
            );
        }
    }

    #[test]
    fn what_should_never_happen_is_a_bound_when_it_does() {
        let (before, mut after) = calm();
        after.own.insert("dropped/queue_full".to_owned(), 30);
        let found = bound(&before, &after, &Known::default());
        assert_eq!((found.by.what, found.by.used), (What::Own, 26.0));
        assert!(found.by.sentence.contains("`dropped/queue_full` 26 times"));
        // The queue of the listener comes before it, and the thread before both.
        after.listen_overflows = Some(10);
        let found = bound(&before, &after, &Known::default());
        assert_eq!((found.by.what, found.by.headroom()), (What::Backlog, 0.0));
        assert_eq!(found.rest[0].what, What::Own);
        after.threads[0].cpu_ns = 990_000_000;
        let found = bound(&before, &after, &Known::default());
        assert_eq!(found.by.what, What::OneThread);
    }

    #[test]
    fn the_generator_comes_first_and_latency_last() {
        let (before, mut after) = calm();
        let stage = |name: &str, good_us, bad_us| Stage {
            name: name.to_owned(),
            good_us,
            bad_us,
        };
        let mut known = Known {
            generator: None,
            stages: vec![stage("inbox", 40.0, 3200.0), stage("turn", 300.0, 400.0)],
        };
        let found = bound(&before, &after, &known);
        assert_eq!((found.by.what, found.by.used), (What::Latency, 80.0));
        assert!(
            found
                .by
                .sentence
                .contains("`inbox` grew most, from 40 to 3200 us")
        );
        assert_eq!(found.rest.len(), 13);
        assert!(found.rest.is_sorted_by(|a, b| a.headroom() <= b.headroom()));
        known.generator = Some("thread 0 used 99 % of its core".to_owned());
        after.threads[0].cpu_ns = 990_000_000;
        let found = bound(&before, &after, &known);
        assert_eq!(found.by.what, What::Generator);
    }

    #[test]
    fn what_the_kernel_does_not_tell_is_left_out() {
        let nothing = Snapshot::default();
        let found = bound(&nothing, &nothing, &Known::default());
        assert_eq!((found.by.what, found.rest.len()), (What::Latency, 0));
        let text = serde_json::to_string(&found).unwrap();
        assert_eq!(serde_json::from_str::<Bound>(&text).unwrap(), found);
    }

    #[test]
    fn threads_that_come_and_go_do_not_confuse() {
        let (before, mut after) = calm();
        after.threads[0].id = 99;
        after.threads.pop();
        let found = bound(&before, &after, &Known::default());
        assert_eq!(found.by.what, What::Latency);
        let threads = found.rest.iter().find(|row| row.what == What::AllThreads);
        assert!((threads.unwrap().used - 0.6).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn threads_that_share_the_work_are_counted() {
        let (before, mut after) = calm();
        assert_eq!(workers(&before, &after), Some(2));
        after.threads[1].cpu_ns = 59_000_000;
        assert_eq!(workers(&before, &after), Some(1));
        assert_eq!(workers(&before, &before), None);
        assert_eq!(workers(&Snapshot::default(), &Snapshot::default()), None);
    }

    #[test]
    fn counters_below_sys_that_are_bounds() {
        for (topic, expected) in [
            ("$SYS/broker/publish/messages/dropped", true),
            ("$SYS/broker/shards/3/dropped/queue_full", true),
            ("$SYS/broker/shards/0/reactor/reads_paused", true),
            ("$SYS/broker/shards/3/dropped/expired", false),
            ("$SYS/broker/shards/3/publish/messages/dropped", false),
            ("$SYS/broker/load/publish/dropped/1min", false),
            ("$SYS/broker/messages/received", false),
        ] {
            assert_eq!(is_own_bound(topic), expected, "{topic}");
        }
    }
}
