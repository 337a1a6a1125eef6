//! Whether the generator itself was the limit of a run.

use crate::engine::Outcome;
use crate::report::{Check, Ended, Generator, Reason, Validity};
use crate::times::Times;

/// What the checks look at, apart from the outcome.
#[derive(Debug)]
pub struct Facts {
    /// 99 % of the deliveries took at most this, corrected.
    pub p99_us: Option<u64>,
    /// The broker used nearly all of the cores that it may use.
    pub broker_is_busy: bool,
    /// Local addresses, as given.
    pub sources: Vec<String>,
    /// Files that the process may open.
    pub files_max: u64,
}

/// Looks at everything that may make the numbers ours instead of the broker's.
pub fn check(outcome: &Outcome, lag: &Times, facts: Facts) -> Validity {
    let mut reasons = check_threads(outcome, &facts);
    reasons.extend(check_schedule(lag, &facts));
    reasons.extend(check_resources(outcome, &facts));
    Validity {
        valid: reasons.is_empty(),
        reasons,
        generator: Generator {
            threads: outcome.threads.iter().map(|thread| thread.used).collect(),
            schedule_lag: lag.latency(),
            sources: facts.sources,
            files_max: facts.files_max,
        },
    }
}

/// CPU that the threads used, and that they waited for.
fn check_threads(outcome: &Outcome, facts: &Facts) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for (number, thread) in outcome.threads.iter().enumerate() {
        let used = thread.used;
        if used.cpu_share > CPU_SHARE_MAX && !facts.broker_is_busy {
            let text = format!(
                "thread {number} of the generator used {:.0} % of its core, so that the broker may be faster \
                 than measured: give it more --threads, or a core of its own (--cores)",
                used.cpu_share * 100.0
            );
            reasons.push(reason(Check::Cpu, text));
        }
        if let Some(wait) = used.wait_share.filter(|wait| *wait > WAIT_SHARE_MAX) {
            let text = format!(
                "thread {number} of the generator waited for a core for {:.0} % of the window: something else \
                 runs there",
                wait * 100.0
            );
            reasons.push(reason(Check::CpuWait, text));
        }
    }
    reasons
}

/// How late messages were by our own fault.
fn check_schedule(lag: &Times, facts: &Facts) -> Option<Reason> {
    let lag = lag.quantile(0.99)?;
    let bound = LAG_US_MAX.max(facts.p99_us.unwrap_or(0) / LAG_PARTS);
    let text = format!(
        "1 % of the messages were sent {lag} us late or more by the generator's own fault (at most {bound} us \
         is fair): the latencies are partly its own"
    );
    (lag > bound).then(|| reason(Check::ScheduleLag, text))
}

/// What ran out.
fn check_resources(outcome: &Outcome, facts: &Facts) -> Vec<Reason> {
    let (ports, files) = (outcome.ports_exhausted, outcome.files_exhausted);
    let is_exact = outcome
        .threads
        .iter()
        .all(|thread| thread.ledger.is_exact());
    let checks = [
        (
            Check::Ports,
            ports > 0,
            format!("{ports} connections found no local port: give more addresses with --source"),
        ),
        (
            Check::Files,
            files > 0,
            format!(
                "{files} connections found no free file: raise the limit (ulimit -n {})",
                facts.files_max * 2
            ),
        ),
        (
            Check::Ledger,
            !is_exact,
            "more messages were missing in between than the ledger can keep: its counts are not exact".to_owned(),
        ),
        (
            Check::Interrupted,
            outcome.ended != Ended::Planned,
            "the run did not last as long as planned".to_owned(),
        ),
    ];
    let failed = checks.into_iter().filter(|(_, failed, _)| *failed);
    failed.map(|(check, _, text)| reason(check, text)).collect()
}

fn reason(check: Check, text: String) -> Reason {
    Reason { check, text }
}

/// A thread that is busier has no room to show what the broker could do.
const CPU_SHARE_MAX: f64 = 0.95;
/// Waiting for the own core that often moves every percentile.
const WAIT_SHARE_MAX: f64 = 0.1;
/// What a timer on a busy machine may be late.
const LAG_US_MAX: u64 = 1000;
/// The generator may add this part to the broker's own 99 %.
const LAG_PARTS: u64 = 5;
