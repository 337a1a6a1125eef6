//! The table of a scenario: one row for each subject, and the columns that some subject has.

use super::plots::{connects_per_s, cpu_ns, has_messages, is_open_loop, received_per_s};
use super::subject::{Scenario, Spread, Subject};
use super::text;
use crate::report::{Latency, Ledger, ResultFile};

/// A table, ready to be written.
pub(super) struct Table {
    pub(super) columns: Vec<Head>,
    pub(super) rows: Vec<Row>,
}

/// The head of a column.
pub(super) struct Head {
    pub(super) name: &'static str,
    pub(super) hint: &'static str,
}

/// A subject.
pub(super) struct Row {
    pub(super) label: String,
    pub(super) color: &'static str,
    pub(super) is_invalid: bool,
    pub(super) cells: Vec<Option<Cell>>,
}

/// A number.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cell {
    pub(super) text: String,
    /// The smallest and the largest of several rounds.
    pub(super) spread: Option<String>,
    pub(super) verdict: Verdict,
}

/// How a number is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Plain,
    /// The best of several subjects.
    Best,
    /// It should be zero.
    Bad,
}

/// Fills the table of a scenario.
pub(super) fn of(scenario: &Scenario) -> Table {
    let mut table = Table {
        columns: Vec::new(),
        rows: scenario.subjects.iter().map(row).collect(),
    };
    // Losses come first: the rest is worth nothing without them.
    for fault in &FAULTS {
        let counts = scenario
            .subjects
            .iter()
            .map(|s| s.sum(|f| (fault.of)(&f.totals.ledger)));
        let counts: Vec<u64> = counts.collect();
        if !fault.is_always_shown && counts.iter().all(|count| *count == 0) {
            continue;
        }
        table.columns.push(Head {
            name: fault.name,
            hint: fault.hint,
        });
        for ((row, subject), count) in table.rows.iter_mut().zip(&scenario.subjects).zip(counts) {
            let is_known = subject.rounds().iter().any(|f| f.totals.ledger.owed > 0);
            row.cells.push(is_known.then(|| Cell {
                text: text::count(count),
                spread: None,
                verdict: if count > 0 {
                    Verdict::Bad
                } else {
                    Verdict::Plain
                },
            }));
        }
    }
    for number in &NUMBERS {
        let spreads = scenario
            .subjects
            .iter()
            .map(|subject| subject.spread(number.of));
        let spreads: Vec<Option<Spread>> = spreads.collect();
        if spreads.iter().all(Option::is_none) {
            continue;
        }
        let best = best(number.better, &scenario.subjects, &spreads);
        table.columns.push(number.head());
        let rows = table.rows.iter_mut().zip(&scenario.subjects);
        for ((row, subject), spread) in rows.zip(spreads) {
            let best = best.filter(|_| is_fair(subject));
            row.cells
                .push(spread.map(|spread| number.cell(spread, best)));
        }
    }
    table
}

fn row(subject: &Subject) -> Row {
    Row {
        label: subject.label.clone(),
        color: subject.color,
        is_invalid: subject.is_invalid(),
        cells: Vec::new(),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Better {
    More,
    Less,
}

/// A column of numbers, medians over rounds.
struct Number {
    name: &'static str,
    hint: &'static str,
    better: Better,
    of: fn(&ResultFile) -> Option<f64>,
    text: fn(f64) -> String,
}

impl Number {
    fn head(&self) -> Head {
        Head {
            name: self.name,
            hint: self.hint,
        }
    }

    fn cell(&self, spread: Spread, best: Option<f64>) -> Cell {
        let (min, max) = ((self.text)(spread.min), (self.text)(spread.max));
        Cell {
            text: (self.text)(spread.median),
            spread: (min != max).then(|| format!("{min} to {max}")),
            verdict: if best == Some(spread.median) {
                Verdict::Best
            } else {
                Verdict::Plain
            },
        }
    }
}

/// The best number among subjects that can be compared: valid, and without losses.
fn best(better: Better, subjects: &[Subject], spreads: &[Option<Spread>]) -> Option<f64> {
    if subjects.len() < 2 {
        return None;
    }
    let fair = subjects
        .iter()
        .zip(spreads)
        .filter(|(subject, _)| is_fair(subject));
    let medians = fair.filter_map(|(_, spread)| Some((*spread)?.median));
    match better {
        Better::More => medians.reduce(f64::max),
        Better::Less => medians.reduce(f64::min),
    }
}

/// It may be called the best.
fn is_fair(subject: &Subject) -> bool {
    !subject.is_invalid() && subject.sum(|file| file.totals.ledger.lost) == 0
}

fn corrected(file: &ResultFile) -> Option<&Latency> {
    let latency = &file.totals.latency.as_ref()?.corrected;
    (latency.count > 0).then_some(latency)
}

const NUMBERS: [Number; 12] = [
    Number {
        name: "deliveries",
        hint: "messages that arrived at subscribers, per second of the window",
        better: Better::More,
        of: received_per_s,
        text: text::rate,
    },
    Number {
        name: "CPU per delivery",
        hint: "user and system CPU time of the broker",
        better: Better::Less,
        of: cpu_ns,
        text: text::nanos,
    },
    Number {
        name: "CPU",
        hint: "cores that the broker used, user and system",
        better: Better::Less,
        // In a closed loop, more work in less time is not a fault.
        of: |file| {
            let broker = file.broker.as_ref().filter(|_| is_open_loop(file))?;
            Some(broker.user_cores? + broker.system_cores?)
        },
        text: text::share,
    },
    Number {
        name: "p50",
        hint: "median latency",
        better: Better::Less,
        of: |file| corrected(file).map(|latency| latency.p50_us as f64),
        text: text::micros,
    },
    Number {
        name: "p99",
        hint: "99 % of the latencies are at most this",
        better: Better::Less,
        of: |file| corrected(file).map(|latency| latency.p99_us as f64),
        text: text::micros,
    },
    Number {
        name: "p99.9",
        hint: "99.9 % of the latencies are at most this",
        better: Better::Less,
        of: |file| corrected(file).map(|latency| latency.p999_us as f64),
        text: text::micros,
    },
    Number {
        name: "max",
        hint: "the largest latency",
        better: Better::Less,
        of: |file| corrected(file).map(|latency| latency.max_us as f64),
        text: text::micros,
    },
    Number {
        name: "connections",
        hint: "connections per second, while clients were connecting",
        better: Better::More,
        of: connects_per_s,
        text: text::rate,
    },
    Number {
        name: "CPU per connection",
        hint: "user and system CPU time of the broker, while clients were connecting",
        better: Better::Less,
        of: |file| {
            let broker = file.broker.as_ref().filter(|_| !has_messages(file))?;
            broker.connect_us_per_connection
        },
        text: text::micros,
    },
    Number {
        name: "memory per connection",
        hint: "growth of the broker's resident memory while clients connected, per connection",
        better: Better::Less,
        of: |file| {
            let broker = file.broker.as_ref().filter(|_| !has_messages(file))?;
            broker.rss_per_connection_bytes
        },
        text: text::bytes,
    },
    Number {
        name: "peak memory",
        hint: "largest resident memory of the broker",
        better: Better::Less,
        of: |file| Some(file.broker.as_ref()?.rss_peak_bytes? as f64),
        text: text::bytes,
    },
    Number {
        name: "connected",
        hint: "share of the clients that were connected when publishing began",
        better: Better::More,
        of: |file| {
            let totals = &file.totals;
            let share = totals.connected as f64 / totals.clients.max(1) as f64;
            (totals.connected < totals.clients).then_some(share)
        },
        text: text::share,
    },
];

/// A column of counts that should be zero, summed over rounds.
struct Fault {
    name: &'static str,
    hint: &'static str,
    is_always_shown: bool,
    of: fn(&Ledger) -> u64,
}

const FAULTS: [Fault; 5] = [
    Fault {
        name: "lost",
        hint: "deliveries that were owed and never came, in all rounds",
        is_always_shown: true,
        of: |ledger| ledger.lost,
    },
    Fault {
        name: "duplicated",
        hint: "deliveries that came again; at QoS 1 the standard permits it",
        is_always_shown: false,
        of: |ledger| ledger.duplicated,
    },
    Fault {
        name: "out of order",
        hint: "deliveries that came after a later message of the same publisher on the same topic",
        is_always_shown: true,
        of: |ledger| ledger.out_of_order,
    },
    Fault {
        name: "corrupt",
        hint: "deliveries whose payload or topic is not what was published",
        is_always_shown: false,
        of: |ledger| ledger.corrupt,
    },
    Fault {
        name: "misrouted",
        hint: "deliveries to a client that had not subscribed to them, or with a wrong QoS or \
               RETAIN flag",
        is_always_shown: false,
        of: |ledger| ledger.misrouted + ledger.wrong_qos + ledger.wrong_retain,
    },
];
