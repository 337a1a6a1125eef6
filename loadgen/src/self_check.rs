//! Checks whether the generator itself was the bottleneck of a run.

use crate::agent::notes::Agents;
use crate::engine::Outcome;
use crate::report::{Check, Ended, Generator, Reason, ThreadUse, Validity};
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
pub fn check(outcome: &Outcome, lag: &Times, facts: Facts, agents: Option<&Agents>) -> Validity {
    let threads: Vec<ThreadUse> = outcome.threads.iter().map(|thread| thread.used).collect();
    let mut reasons = match agents {
        Some(agents) => agents.reasons(outcome, &facts),
        None => check_trial(&threads, lag, &facts),
    };
    let resources = Resources {
        ports_exhausted: outcome.ports_exhausted,
        files_exhausted: outcome.files_exhausted,
        ledger_is_exact: outcome
            .threads
            .iter()
            .all(|thread| thread.ledger.is_exact()),
        ended: outcome.ended,
    };
    reasons.extend(check_resources(&resources, &facts));
    Validity {
        valid: reasons.is_empty(),
        reasons,
        generator: Generator {
            threads,
            schedule_lag: lag.latency(),
            sources: facts.sources,
            files_max: facts.files_max,
        },
    }
}

/// The same of one trial of a search: what its threads used, and how late they were.
pub fn check_trial(threads: &[ThreadUse], lag: &Times, facts: &Facts) -> Vec<Reason> {
    let mut reasons = check_threads(threads, facts);
    reasons.extend(check_schedule(lag, facts));
    reasons
}

/// CPU that the threads used, and that they waited for.
fn check_threads(threads: &[ThreadUse], facts: &Facts) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for (number, used) in threads.iter().enumerate() {
        let share = used.cpu_share.filter(|share| *share > CPU_SHARE_MAX);
        if let Some(share) = share.filter(|_| !facts.broker_is_busy) {
            let text = format!(
                "thread {number} of the generator used {:.0} % of its core, so the broker may be \
                 faster than measured: give it more --threads, or a core of its own (--cores)",
                share * 100.0
            );
            reasons.push(reason(Check::Cpu, text));
        }
        if let Some(wait) = used.wait_share.filter(|wait| *wait > WAIT_SHARE_MAX) {
            let text = format!(
                "thread {number} of the generator waited for its core for {:.0} % of the window: \
                 another process uses it; free the core, or choose others with --cores",
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
        "1 % of the messages were sent {lag} us late or more through the generator's own fault (up \
         to {bound} us is acceptable), which shows in the latencies: use more --threads or a lower \
         rate"
    );
    (lag > bound).then(|| reason(Check::ScheduleLag, text))
}

/// What may have run out.
struct Resources {
    ports_exhausted: u64,
    files_exhausted: u64,
    ledger_is_exact: bool,
    ended: Ended,
}

/// What ran out.
fn check_resources(resources: &Resources, facts: &Facts) -> Vec<Reason> {
    let (ports, files) = (resources.ports_exhausted, resources.files_exhausted);
    let checks = [
        (
            Check::Ports,
            ports > 0,
            format!("{ports} connections found no local port: add addresses with --source"),
        ),
        (
            Check::Files,
            files > 0,
            format!(
                "{files} connections found no free file descriptor: raise the limit (ulimit -n {})",
                facts.files_max * 2
            ),
        ),
        (
            Check::Ledger,
            !resources.ledger_is_exact,
            "more gaps than the ledger can hold: its counts are not exact; use a lower rate or \
             fewer clients"
                .to_owned(),
        ),
        (
            Check::Interrupted,
            // One that is lost has a reason of its own.
            !matches!(
                resources.ended,
                Ended::Planned | Ended::Aborted | Ended::Lost
            ),
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
/// How late a timer on a busy machine may be.
const LAG_US_MAX: u64 = 1000;
/// The generator may add this part to the broker's own 99 %.
const LAG_PARTS: u64 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(p99_us: u64, broker_is_busy: bool) -> Facts {
        Facts {
            p99_us: Some(p99_us),
            broker_is_busy,
            sources: Vec::new(),
            files_max: 100,
        }
    }

    fn checks(reasons: Vec<Reason>) -> Vec<Check> {
        reasons.into_iter().map(|reason| reason.check).collect()
    }

    #[test]
    fn a_generator_without_cpu_is_the_limit_unless_the_broker_has_none_either() {
        for (cpu_share, wait_share, broker_is_busy, expected) in [
            (0.5, Some(0.01), false, &[][..]),
            (0.97, Some(0.01), false, &[Check::Cpu]),
            (0.97, Some(0.01), true, &[]),
            (0.5, Some(0.2), false, &[Check::CpuWait]),
            (0.5, None, false, &[]),
        ] {
            let used = ThreadUse {
                cpu_share: Some(cpu_share),
                wait_share,
            };
            let reasons = check_threads(&[ThreadUse::default(), used], &facts(0, broker_is_busy));
            assert!(
                reasons
                    .iter()
                    .all(|reason| reason.text.starts_with("thread 1 "))
            );
            assert_eq!(checks(reasons), expected, "{cpu_share} {wait_share:?}");
        }
    }

    #[test]
    fn a_schedule_that_was_not_kept_counts_when_it_shows_in_the_latencies() {
        let mut lag = Times::default();
        assert!(check_schedule(&lag, &facts(0, false)).is_none());
        for _ in 0..95 {
            lag.record(50);
        }
        for _ in 0..5 {
            lag.record(3000);
        }
        for (p99_us, expected) in [(200, true), (10_000, true), (100_000, false)] {
            let reason = check_schedule(&lag, &facts(p99_us, false));
            assert_eq!(reason.is_some(), expected, "{p99_us}");
        }
    }

    #[test]
    fn what_ran_out_is_named() {
        let fine = || Resources {
            ports_exhausted: 0,
            files_exhausted: 0,
            ledger_is_exact: true,
            ended: Ended::Planned,
        };
        let broken = Resources {
            ports_exhausted: 3,
            files_exhausted: 4,
            ledger_is_exact: false,
            ended: Ended::Interrupted,
        };
        assert_eq!(checks(check_resources(&fine(), &facts(0, false))), []);
        let reasons = check_resources(&broken, &facts(0, false));
        assert!(reasons[0].text.contains("--source") && reasons[1].text.contains("ulimit -n 200"));
        let expected = [
            Check::Ports,
            Check::Files,
            Check::Ledger,
            Check::Interrupted,
        ];
        assert_eq!(checks(reasons), expected);
    }
}
