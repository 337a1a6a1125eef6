//! Builds the result file from what the threads hand over.

mod failed;
mod stages;
mod storm;

use std::collections::HashMap;

use ringmq_core::codec::QoS;

use crate::agent::notes::Agents;
use crate::engine::{BrokerSamples, Outcome};
use crate::ledger::{Sent, Settled};
use crate::meter::{Counts, GroupTimes};
use crate::plan::Plan;
use crate::process::{self, Memory};
use crate::report::{
    self, BrokerCost, Group, Ledger, Machine, Pace, Published, QosResult, Receipts, ResultFile,
    Run, ScenarioNote, Totals, Trouble,
};
use crate::scenario::value;
use crate::secrets;
use crate::self_check::{self, Facts};
use crate::sys;
use crate::tally::Tally as _;
use crate::times::Delays;
use crate::verdict;
pub use failed::failed;
pub use stages::part_ends_of;

/// What a result contains besides the outcome of the run.
#[derive(Debug)]
pub struct Context {
    /// `--label`.
    pub label: Option<String>,
    /// The command line.
    pub command: Vec<String>,
    /// The broker.
    pub target: String,
    /// What carries MQTT, if it is neither TCP nor TLS alone.
    pub carrier: Option<&'static str>,
    /// Where ringload runs.
    pub machine: Machine,
    /// Processes of the broker.
    pub pids: Vec<u32>,
    /// Its command line.
    pub broker_command: String,
    /// Cores that the broker may use.
    pub broker_cores: u32,
    /// Local addresses.
    pub sources: Vec<String>,
    /// Files that the process may open.
    pub files_max: u64,
    /// The machines that made the run, if ringload did not make it itself.
    pub agents: Option<Agents>,
}

/// The result of a run.
pub fn assemble(outcome: &Outcome, context: Context) -> ResultFile {
    let sums = Sums::of(outcome);
    let totals = sums.totals(outcome);
    let broker = outcome
        .broker
        .map(|samples| broker_cost(&samples, outcome, &totals, &context));
    let facts = Facts {
        p99_us: totals.latency.as_ref().map(|pair| pair.corrected.p99_us),
        broker_is_busy: broker.as_ref().is_some_and(|broker| {
            let used = broker.user_cores.zip(broker.system_cores);
            let bound = BUSY_SHARE * f64::from(context.broker_cores);
            used.is_some_and(|(user, system)| user + system > bound)
        }),
        sources: context.sources,
        files_max: context.files_max,
    };
    let plan = &outcome.shared.plan;
    let agents = context.agents.as_ref();
    let mut groups = sums.groups(plan);
    let agents_report = agents.map(|agents| agents.report(outcome, &facts, &groups));
    let validity = self_check::check(outcome, &outcome.lag, facts, agents);
    let (stages, mut verdicts) = stages::judged(&sums, outcome, broker.as_ref());
    let (storm, of_storm) = storm::storm(outcome).unzip();
    verdicts.splice(0..0, of_storm);
    if !validity.valid {
        verdict::withhold(&mut verdicts);
    } else if let Some(agents) = agents {
        agents.withhold(&mut verdicts, &groups);
    }
    for group in &mut groups {
        group.transport = context.carrier.map(|carrier| match group.tls {
            true => format!("{carrier}, TLS"),
            false => carrier.to_owned(),
        });
    }
    ResultFile {
        format: report::FORMAT.to_owned(),
        version: report::FORMAT_VERSION,
        run: Run {
            label: context.label,
            ringload: env!("RINGMQ_VERSION").to_owned(),
            command: secrets::masked(&context.command),
            run_id: plan.run.clone(),
            started_unix_ms: outcome.started_unix_ms,
            scenario: ScenarioNote {
                name: plan.scenario.name.clone(),
                about: plan.scenario.about.clone(),
                toml: plan.scenario.to_toml(),
            },
            target: context.target,
            machine: context.machine,
            phases: outcome.phases,
            ended: outcome.ended,
        },
        validity,
        groups,
        troubles: troubles(outcome, &sums.qos(plan)),
        qos: sums.qos(plan),
        sys: sys::compare(&outcome.sys),
        inside: None,
        totals,
        timeline: outcome.seconds.clone(),
        broker,
        stages,
        storm,
        verdicts,
        agents: agents_report,
    }
}

/// What all threads did, by group.
struct Sums {
    counts: Vec<Counts>,
    /// In the window.
    window: Vec<Counts>,
    window_s: f64,
    times: Vec<GroupTimes>,
    delays: HashMap<(usize, u8), Delays>,
    settled: HashMap<(u16, QoS), Settled>,
    orders_checked: bool,
}

impl Sums {
    fn of(outcome: &Outcome) -> Sums {
        let plan = &outcome.shared.plan;
        let groups = plan.specs.len();
        let mut sums = Sums {
            counts: vec![Counts::default(); groups],
            window: vec![Counts::default(); groups],
            window_s: outcome.phases.window_s,
            times: vec![GroupTimes::default(); groups],
            delays: HashMap::new(),
            settled: HashMap::new(),
            orders_checked: true,
        };
        let mut parts = [HashMap::new()];
        settle(outcome, &[], &mut parts);
        [sums.settled] = parts;
        for thread in &outcome.threads {
            for group in 0..groups {
                sums.counts[group].add(&thread.meter.counts[group]);
                sums.times[group].add(&thread.meter.times[group]);
                if let Some([start, end]) = &thread.window {
                    sums.window[group].add(&end[group].since(&start[group]));
                }
            }
            sums.orders_checked &= thread.ledger.checks_shared_order();
        }
        for (place, delays) in &outcome.delays {
            sums.delays
                .entry((usize::from(place.group), place.qos))
                .or_default()
                .add(delays);
        }
        sums
    }

    fn per_s(&self, count: u64) -> f64 {
        if self.window_s > 0.0 {
            count as f64 / self.window_s
        } else {
            0.0
        }
    }

    fn groups(&self, plan: &Plan) -> Vec<Group> {
        let count = plan.scenario.groups.len();
        (0..count).map(|index| self.group(plan, index)).collect()
    }

    fn group(&self, plan: &Plan, index: usize) -> Group {
        let spec = &plan.specs[index];
        let (counts, times) = (&self.counts[index], &self.times[index]);
        let connects = times.connect.count();
        Group {
            name: spec.name.clone(),
            clients: u64::from(spec.clients),
            protocol: value::show_protocol(spec.protocol).to_owned(),
            tls: spec.tls,
            transport: None,
            connected: connects.saturating_sub(counts.reconnects),
            connect: times.connect.latency(),
            reconnects: counts.reconnects,
            publish: spec.publish.as_ref().map(|topic| Published {
                qos: spec.qos as u8,
                topic: topic.as_str().to_owned(),
                payload: spec.payload.show(),
                pace: match (&spec.rate, spec.window) {
                    (Some(_), _) => Pace::Rate {
                        per_client: plan.per_s(index) / f64::from(spec.clients),
                    },
                    (None, window) => Pace::Window {
                        per_client: u64::from(window.unwrap_or(0)),
                    },
                },
                sent: counts.sent,
                sent_per_s: self.per_s(self.window[index].sent),
                acknowledged: counts.acknowledged,
                refused: counts.refused,
                acknowledge: times.acknowledge.latency(),
                unacknowledged: (spec.qos > QoS::AtMostOnce).then_some(counts.unacknowledged),
                skipped: counts.skipped,
            }),
            receive: (!spec.subscribe.is_empty()).then(|| self.receipts(plan, index)),
        }
    }

    fn receipts(&self, plan: &Plan, index: usize) -> Receipts {
        let spec = &plan.specs[index];
        let all = self.counts[index].received_all();
        let window = self.window[index].received_all();
        let mut delays = Delays::default();
        let mut ledger = self.new_ledger();
        for qos in QOS_ALL {
            if let Some(of_qos) = self.delays.get(&(index, qos as u8)) {
                delays.add(of_qos);
            }
            if let Some(settled) = self.settled.get(&(index as u16, qos)) {
                settled.add_to(&mut ledger);
            }
        }
        all.add_to(&mut ledger);
        Receipts {
            qos: spec.qos as u8,
            filters: spec
                .subscribe
                .iter()
                .map(|filter| filter.as_str().to_owned())
                .collect(),
            received: all.count,
            received_per_s: self.per_s(window.count),
            received_bytes_per_s: self.per_s(window.bytes),
            latency: delays.latency(),
            retained: self.times[index].retained.latency(),
            may_lose: spec.may_lose,
            ledger,
        }
    }

    fn qos(&self, plan: &Plan) -> Vec<QosResult> {
        QOS_ALL
            .into_iter()
            .filter_map(|qos| self.one_qos(plan, qos))
            .collect()
    }

    fn one_qos(&self, plan: &Plan, qos: QoS) -> Option<QosResult> {
        let mut result = QosResult {
            qos: qos as u8,
            sent: 0,
            sent_per_s: 0.0,
            received: 0,
            received_per_s: 0.0,
            latency: None,
            ledger: self.new_ledger(),
        };
        let mut delays = Delays::default();
        for (index, spec) in plan.scenario.groups.iter().enumerate() {
            if spec.publish.is_some() && spec.qos == qos {
                result.sent += self.counts[index].sent;
                result.sent_per_s += self.per_s(self.window[index].sent);
            }
            if spec.may_lose {
                continue;
            }
            let received = &self.counts[index].received[qos as usize];
            result.received += received.count;
            result.received_per_s += self.per_s(self.window[index].received[qos as usize].count);
            received.add_to(&mut result.ledger);
            if let Some(settled) = self.settled.get(&(index as u16, qos)) {
                settled.add_to(&mut result.ledger);
            }
            if let Some(of_qos) = self.delays.get(&(index, qos as u8)) {
                delays.add(of_qos);
            }
        }
        result.latency = delays.latency();
        let occurs = result.sent + result.received + result.ledger.owed > 0;
        occurs.then_some(result)
    }

    fn totals(&self, outcome: &Outcome) -> Totals {
        let plan = &outcome.shared.plan;
        let mut totals = Totals {
            clients: plan.scenario.client_count(),
            connected: outcome.connected,
            ledger: self.new_ledger(),
            ..Totals::default()
        };
        if outcome.connecting_s > 0.0 {
            totals.connects_per_s = outcome.connected as f64 / outcome.connecting_s;
        }
        let mut delays = Delays::default();
        for result in self.qos(plan) {
            totals.sent_per_s += result.sent_per_s;
            totals.ledger.add(&result.ledger);
        }
        for (index, spec) in plan.scenario.groups.iter().enumerate() {
            let window = self.window[index].received_all();
            totals.received_per_s += self.per_s(window.count);
            totals.received_bytes_per_s += self.per_s(window.bytes);
            let of_group = QOS_ALL
                .iter()
                .filter_map(|qos| self.delays.get(&(index, *qos as u8)));
            if !spec.may_lose {
                of_group.for_each(|of_qos| delays.add(of_qos));
            }
        }
        totals.latency = delays.latency();
        totals
    }

    fn new_ledger(&self) -> Ledger {
        Ledger {
            order_checked: self.orders_checked,
            ..Ledger::default()
        }
    }
}

/// What became of what was owed in each part of the run; see `Ledger::settle_parts`.
fn settle(outcome: &Outcome, ends: &[Vec<u32>], parts: &mut [HashMap<(u16, QoS), Settled>]) {
    if let Some(settlement) = &outcome.settled {
        // The ledgers are on other machines.
        return settlement.add_to(parts);
    }
    let plan = &outcome.shared.plan;
    let uncertain = uncertain(outcome);
    let last = plan.streams.last_sequences();
    let sent = Sent {
        last: &last,
        qos: &|stream| plan.qos(stream),
        uncertain: &uncertain,
    };
    for thread in &outcome.threads {
        thread.ledger.settle_parts(sent, ends, parts);
    }
}

/// Messages that the broker refused or never acknowledged, ascending.
pub fn uncertain(outcome: &Outcome) -> Vec<(u32, u32)> {
    let threads = outcome.threads.iter();
    let all = threads.flat_map(|thread| thread.uncertain.iter().copied());
    let mut all: Vec<(u32, u32)> = all.collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn broker_cost(
    samples: &BrokerSamples,
    outcome: &Outcome,
    totals: &Totals,
    context: &Context,
) -> BrokerCost {
    let (before, connected) = (samples.before, samples.connected);
    let mut cost = BrokerCost {
        pids: context.pids.clone(),
        command: context.broker_command.clone(),
        rss_before_bytes: before.memory.map(|memory| memory.resident),
        rss_connected_bytes: connected.memory.map(|memory| memory.resident),
        rss_peak_bytes: samples.end.memory.map(|memory| memory.peak),
        cores: Some(context.broker_cores),
        files_max: context
            .pids
            .first()
            .and_then(|pid| process::files_max_of(*pid)),
        ..BrokerCost::default()
    };
    if let (Some((start, Some(at_start))), Some((end, Some(at_end)))) =
        (samples.window_start, samples.window_end)
    {
        let span = end.saturating_sub(start).max(1) as f64 / 1e9;
        let used = at_end.since(at_start);
        let (user, system) = (used.user_s / span, used.system_s / span);
        (cost.user_cores, cost.system_cores) = (Some(user), Some(system));
        if totals.received_per_s > 0.0 {
            cost.user_ns_per_delivery = Some(user * 1e9 / totals.received_per_s);
            cost.system_ns_per_delivery = Some(system * 1e9 / totals.received_per_s);
        }
    }
    let count = outcome.connected as f64;
    if let (Some(before), Some(connected)) = (before.cpu, connected.cpu) {
        let used = connected.since(before).total_s();
        let is_enough = outcome.connected > 0 && used >= CONNECT_CPU_MIN_S;
        cost.connect_us_per_connection = is_enough.then(|| used * 1e6 / count);
    }
    if let (Some(before), Some(connected)) = (before.memory, connected.memory)
        && outcome.connected >= CONNECTIONS_MIN
    {
        cost.rss_per_connection_bytes = memory_of_one(before, connected, count);
    }
    cost
}

/// Unknown if the connections reused the memory of earlier ones: the broker was larger before, or
/// grew by less than any connection needs.
fn memory_of_one(before: Memory, connected: Memory, count: f64) -> Option<f64> {
    let each = (connected.resident as f64 - before.resident as f64) / count;
    let is_fresh = before.peak < connected.resident;
    (is_fresh && each >= CONNECTION_SIZE_MIN).then_some(each)
}

fn troubles(outcome: &Outcome, qos: &[QosResult]) -> Vec<Trouble> {
    let all = outcome.troubles.0.iter();
    let noted = all.map(|(kind, (count, first))| Trouble {
        kind: kind.clone(),
        count: *count,
        first: first.clone(),
    });
    let is_kept = outcome.shared.plan.scenario.restarts;
    let broken = is_kept.then(|| promises_broken(qos));
    noted.chain(broken.into_iter().flatten()).collect()
}

/// What a broker that is restarted has promised, and not kept. The ledger has excused what it never
/// acknowledged.
fn promises_broken(qos: &[QosResult]) -> impl Iterator<Item = Trouble> {
    let lost: u64 = qos.iter().map(|line| line.ledger.lost).sum();
    let exactly_once = qos.iter().filter(|line| line.qos == QoS::ExactlyOnce as u8);
    let twice: u64 = exactly_once.map(|line| line.ledger.duplicated).sum();
    let trouble = |kind: &str, count, first: &str| Trouble {
        kind: kind.to_owned(),
        count,
        first: first.to_owned(),
    };
    [
        trouble(LOST, lost, "a message that was acknowledged never arrived"),
        trouble(TWICE, twice, "a message of QoS 2 arrived again"),
    ]
    .into_iter()
    .filter(|trouble| trouble.count > 0)
}

/// Cores that a process may use.
pub fn cores_of(pid: Option<&u32>) -> u32 {
    pid.and_then(|pid| process::allowed_cores(*pid))
        .unwrap_or(1)
}

/// Trouble: an acknowledgement that was not true.
pub const LOST: &str = "acknowledged and lost";
/// Trouble: more than QoS 2 allows.
pub const TWICE: &str = "QoS 2 more than once";
const QOS_ALL: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
/// A broker that uses this share of its cores is at its limit.
const BUSY_SHARE: f64 = 0.9;
/// The kernel counts in hundredths of a second: less would be a guess.
const CONNECT_CPU_MIN_S: f64 = 0.05;
/// With fewer connections, other memory of the broker is larger than what they take.
const CONNECTIONS_MIN: u64 = 100;
/// A connection cannot need less: a socket, a client identifier and a few numbers take more in any
/// broker.
const CONNECTION_SIZE_MIN: f64 = 128.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_was_there_before_is_not_that_of_connections() {
        let memory = |resident, peak| Memory { resident, peak };
        for (before, connected, expected) in [
            (
                memory(2000, 2000),
                memory(1_002_000, 1_002_000),
                Some(1000.0),
            ),
            // Nothing grew, or hardly anything.
            (memory(900_000, 900_000), memory(900_000, 900_000), None),
            (memory(900_000, 900_000), memory(901_000, 901_000), None),
            (memory(900_000, 900_000), memory(800_000, 900_000), None),
            // It had more before, and has given back a part of it.
            (
                memory(500_000, 2_000_000),
                memory(1_500_000, 2_000_000),
                None,
            ),
        ] {
            assert_eq!(
                memory_of_one(before, connected, 1000.0),
                expected,
                "{before:?} {connected:?}"
            );
        }
    }
}
