//! What a storm came to, from what the threads hand over.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::engine::Outcome;
use crate::fleet::StormTally;
use crate::meter::Place;
use crate::report::{Ended, Failure, Judgement, PhaseLatency, Return, Storm, Verdict};
use crate::scenario::stage::Part;
use crate::scenario::storm::{Event, Storm as Spec};
use crate::scenario::value::show_span;
use crate::times::Delays;

/// The phases that took place, as parts of the run.
pub(super) fn phases(outcome: &Outcome) -> Vec<Part> {
    let (course, _) = outcome.shared.course();
    let part = |(name, number): (&&str, usize)| Part {
        name: (*name).to_owned(),
        stage: number,
        from: 1.0,
        to: 1.0,
        span: Duration::ZERO,
        spread: Duration::ZERO,
    };
    let named = PHASES.iter().zip(0..course.segments().len());
    named.map(part).collect()
}

/// The storm of a run, if it had one, and its verdict.
pub(super) fn storm(outcome: &Outcome) -> Option<(Storm, Verdict)> {
    let spec = outcome.shared.plan.scenario.storm.as_ref()?;
    let mut all = StormTally::default();
    let (mut silent, mut silent_closed) = (0, 0);
    for (tally, sockets) in outcome.threads.iter().filter_map(|one| one.storm.as_ref()) {
        add(&mut all, tally);
        silent += sockets.0;
        silent_closed += sockets.1;
    }
    all.returns_us.sort_unstable();
    let recovered_s = outcome.recovered_s.map(|seconds| seconds as f64);
    let at_s = spec.before.as_secs_f64();
    let after = || outcome.seconds.iter().filter(|second| second.at_s >= at_s);
    let mut failures: Vec<Failure> = all
        .failures
        .iter()
        .map(|(why, count)| Failure {
            why: why.clone(),
            count: *count,
        })
        .collect();
    failures.sort_by_key(|failure| std::cmp::Reverse(failure.count));
    let mut storm = Storm {
        event: spec.event.show().to_owned(),
        hit: all.hit,
        backoff: spec.backoff.show(),
        at_s,
        within_s: spec.within.as_secs_f64(),
        back_wanted: spec.back,
        limits: spec
            .limits
            .iter()
            .map(|limit| limit.as_str().to_owned())
            .collect(),
        recovered_s,
        back: all.returns_us.len() as u64,
        returns: SHARES.iter().map(|share| returned(&all, *share)).collect(),
        attempts: all.attempts,
        failures,
        connect: all.connect.latency(),
        lag: all.lag.latency(),
        sessions: all.sessions,
        sessions_present: all.sessions_present,
        first_message: all.first_message.latency(),
        handshakes_full: all.handshakes_full,
        handshakes_resumed: all.handshakes_resumed,
        silent,
        silent_closed,
        memory_peak_bytes: after().filter_map(|second| second.broker_rss_bytes).max(),
        cpu_peak_cores: after()
            .filter_map(|second| second.broker_cpu)
            .max_by(f64::total_cmp),
        latencies: latencies(outcome, spec),
        sentence: String::new(),
    };
    let published_s = outcome.phases.window_s;
    let cut_short = (outcome.ended != Ended::Planned).then_some(published_s - at_s);
    storm.sentence = sentence(&storm, spec, cut_short);
    let verdict = verdict(&storm, spec);
    Some((storm, verdict))
}

fn add(sum: &mut StormTally, tally: &StormTally) {
    sum.hit += tally.hit;
    sum.returns_us.extend(&tally.returns_us);
    sum.attempts += tally.attempts;
    for (why, count) in &tally.failures {
        *sum.failures.entry(why.clone()).or_default() += count;
    }
    sum.connect.add(&tally.connect);
    sum.lag.add(&tally.lag);
    sum.sessions += tally.sessions;
    sum.sessions_present += tally.sessions_present;
    sum.first_message.add(&tally.first_message);
    sum.handshakes_full += tally.handshakes_full;
    sum.handshakes_resumed += tally.handshakes_resumed;
}

/// When a share of the clients was back.
fn returned(all: &StormTally, share: f64) -> Return {
    let wanted = (all.hit as f64 * share).ceil() as usize;
    let last = wanted.checked_sub(1).and_then(|at| all.returns_us.get(at));
    Return {
        share,
        after_s: last.map(|us| *us as f64 / 1e6),
    }
}

fn latencies(outcome: &Outcome, spec: &Spec) -> Vec<PhaseLatency> {
    let groups = &outcome.shared.plan.scenario.groups;
    let mut sums: BTreeMap<(u32, u16), Delays> = BTreeMap::new();
    for (Place { segment, group, .. }, delays) in &outcome.delays {
        sums.entry((*segment, *group)).or_default().add(delays);
    }
    let shown = sums.into_iter().filter_map(|((segment, group), delays)| {
        let (phase, group) = (
            PHASES.get(segment as usize)?,
            groups.get(usize::from(group))?,
        );
        let latency = delays.corrected().latency()?;
        Some(PhaseLatency {
            phase: (*phase).to_owned(),
            group: group.name.clone(),
            is_bystander: !spec.hits(group),
            count: latency.count,
            p50_us: latency.p50_us,
            p99_us: latency.p99_us,
            max_us: latency.max_us,
        })
    });
    shown.collect()
}

/// `cut_short`: for how many seconds after the storm the run went on, if it ended early.
fn sentence(storm: &Storm, spec: &Spec, cut_short: Option<f64>) -> String {
    let (hit, back) = (storm.hit, storm.back);
    let what = match spec.event {
        Event::Cut => "were cut",
        Event::Silence => "fell silent",
        Event::Takeover => "were taken over",
    };
    let clients = if hit == 1 { "client" } else { "clients" };
    match storm.recovered_s {
        Some(seconds) => {
            let all = storm
                .returned(1.0)
                .map(|after_s| format!(", all back after {after_s:.1} s"));
            let all = all.unwrap_or_else(|| format!(", {back} of them back"));
            format!("recovered in {seconds:.0} s after {hit} {clients} {what}{all}")
        }
        None => {
            let verb = match cut_short {
                Some(seconds) if seconds <= 0.0 => {
                    return "not known to recover: the run ended before the storm".to_owned();
                }
                Some(seconds) => {
                    format!("not known to recover: the run ended {seconds:.0} s")
                }
                None => format!("did not recover within {}", show_span(spec.within)),
            };
            let failed: u64 = storm.failures.iter().map(|failure| failure.count).sum();
            format!(
                "{verb} after {hit} {clients} {what}: {back} back, \
                 {failed} of {} attempts failed",
                storm.attempts
            )
        }
    }
}

fn verdict(storm: &Storm, spec: &Spec) -> Verdict {
    let is_right = storm
        .recovered_s
        .is_some_and(|seconds| seconds <= storm.within_s);
    Verdict {
        threshold: format!("recovery within {}", show_span(spec.within)),
        stage: None,
        judgement: match is_right {
            true => Judgement::Passed,
            false => Judgement::Missed,
        },
        value: storm.recovered_s.map(|seconds| seconds * 1e6),
        shown: match storm.recovered_s {
            Some(seconds) => format!("{seconds:.0} s"),
            None => format!("{} of {} back", storm.back, storm.hit),
        },
    }
}

/// The names of the phases, in their order.
const PHASES: [&str; 4] = ["before", "away", "returning", "after"];
/// Whose returns are told.
const SHARES: [f64; 4] = [0.5, 0.9, 0.99, 1.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_back_with_the_client_that_completes_it() {
        let tally = StormTally {
            hit: 10,
            returns_us: (1..=9).map(|n| n * 1_000_000).collect(),
            ..StormTally::default()
        };
        for (share, expected) in [
            (0.5, Some(5.0)),
            (0.9, Some(9.0)),
            (0.99, None),
            (1.0, None),
        ] {
            assert_eq!(returned(&tally, share).after_s, expected, "{share}");
        }
        let nobody = StormTally::default();
        assert_eq!(returned(&nobody, 0.5).after_s, None);
    }

    #[test]
    fn the_sentence_says_whether_and_when() {
        let spec = Spec::default();
        let mut storm = Storm {
            hit: 1000,
            back: 1000,
            recovered_s: Some(7.0),
            returns: vec![Return {
                share: 1.0,
                after_s: Some(6.25),
            }],
            attempts: 1500,
            within_s: 120.0,
            failures: vec![Failure {
                why: "no answer".to_owned(),
                count: 500,
            }],
            ..Storm::default()
        };
        assert_eq!(
            sentence(&storm, &spec, None),
            "recovered in 7 s after 1000 clients were cut, all back after 6.2 s"
        );
        assert_eq!(verdict(&storm, &spec).judgement, Judgement::Passed);
        (storm.recovered_s, storm.back) = (None, 12);
        assert_eq!(
            sentence(&storm, &spec, None),
            "did not recover within 2m after 1000 clients were cut: 12 back, 500 of 1500 attempts \
             failed"
        );
        assert_eq!(
            sentence(&storm, &spec, Some(4.2)),
            "not known to recover: the run ended 4 s after 1000 clients were cut: 12 back, 500 of \
             1500 attempts failed"
        );
        let never = sentence(&storm, &spec, Some(-1.0));
        assert!(never.ends_with("the run ended before the storm"), "{never}");
        assert_eq!(verdict(&storm, &spec).judgement, Judgement::Missed);
        assert_eq!(verdict(&storm, &spec).shown, "12 of 1000 back");
    }
}
