//! Ends a run early, when a stage says that a limit must not be broken for so long.

use crate::report::Second;
use crate::scenario::stage::{self, Stage};
use crate::scenario::threshold::{Abort, Metric, Point, Relation, Threshold, Timed};
use crate::times::Times;

/// Looks at every second that is over.
#[derive(Debug, Default)]
pub(super) struct Watch {
    limits: Vec<Limit>,
    aborted: Option<Aborted>,
}

/// What ended a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Aborted {
    /// Number of the stage.
    pub stage: usize,
    /// What the stage said.
    pub limit: String,
    /// The value in the last of the seconds; absent if there was none.
    pub value: Option<f64>,
}

#[derive(Debug)]
struct Limit {
    stage: usize,
    /// Seconds of the publishing that lie in the stage as a whole.
    first_s: u64,
    end_s: u64,
    abort: Abort,
    /// So many seconds in a row were beyond it.
    count: u64,
}

impl Watch {
    pub(super) fn new(stages: &[Stage]) -> Watch {
        let mut limits: Vec<Limit> = Vec::new();
        let mut begin_ns = 0;
        for (number, stage) in stages.iter().enumerate() {
            let parts = stage::parts(std::slice::from_ref(stage));
            let span_ns: u64 = parts.iter().map(|part| part.span.as_nanos() as u64).sum();
            let end_ns = begin_ns + span_ns;
            limits.extend(stage.abort.clone().map(|abort| Limit {
                stage: number,
                first_s: u64::div_ceil(begin_ns, SECOND_NS),
                end_s: end_ns / SECOND_NS,
                abort,
                count: 0,
            }));
            begin_ns = end_ns;
        }
        Watch {
            limits,
            aborted: None,
        }
    }

    /// A second is over; with the latencies of what arrived in it.
    pub(super) fn see(&mut self, second: &Second, latencies: &Times) {
        let number = second.at_s as u64;
        for limit in &mut self.limits {
            if number < limit.first_s || number >= limit.end_s || self.aborted.is_some() {
                continue;
            }
            let value = value(&limit.abort.threshold, second, latencies);
            limit.count = match limit.is_beyond(value) {
                true => limit.count + 1,
                false => 0,
            };
            if limit.count >= limit.abort.span.as_secs() {
                self.aborted = Some(Aborted {
                    stage: limit.stage,
                    limit: limit.abort.show(),
                    value,
                });
            }
        }
    }

    pub(super) fn aborted(&self) -> Option<&Aborted> {
        self.aborted.as_ref()
    }
}

impl Limit {
    /// Nothing arrives from a broker that hangs: that is as long a latency as can be.
    fn is_beyond(&self, value: Option<f64>) -> bool {
        let threshold = &self.abort.threshold;
        match (value, threshold.metric, threshold.relation) {
            (Some(value), _, _) => threshold.holds(value),
            (None, Metric::Time(..), Relation::Above | Relation::AtLeast) => true,
            (None, _, _) => false,
        }
    }
}

/// What a second has of a metric; `None` if nothing was sent in it, or nothing arrived.
pub(super) fn value(limit: &Threshold, second: &Second, latencies: &Times) -> Option<f64> {
    match limit.metric {
        Metric::Time(Timed::Latency, Point::Max) => latencies.quantile(1.0).map(|us| us as f64),
        Metric::Time(_, Point::Quantile(share)) => latencies.quantile(share).map(|us| us as f64),
        Metric::Time(..) => latencies.mean(),
        Metric::Rate => Some(second.sent as f64 / second.span_s),
        Metric::Received => Some(second.received as f64 / second.span_s),
        Metric::Troubles => Some(second.errors as f64),
        Metric::Cpu => second.broker_cpu,
        Metric::Memory => second.broker_rss_bytes.map(|bytes| bytes as f64),
        Metric::Fault(_) | Metric::CpuPerDelivery | Metric::MemorySlope | Metric::LatencySlope => {
            None
        }
    }
}

const SECOND_NS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn stages(limit: &str) -> Vec<Stage> {
        let stage = |span_ms, abort: Option<&str>| {
            let mut stage = Stage::default();
            stage.span = Duration::from_millis(span_ms);
            stage.abort = abort.map(|text| Abort::parse(text).unwrap());
            stage
        };
        vec![stage(2500, None), stage(6500, Some(limit))]
    }

    /// The second in which the run ends, with one latency in each; 0 stands for none.
    fn ended(limit: &str, latencies: &[u64]) -> Option<usize> {
        let mut watch = Watch::new(&stages(limit));
        for (number, us) in latencies.iter().enumerate() {
            let second = Second {
                at_s: number as f64,
                span_s: 1.0,
                sent: 10,
                received: *us,
                ..Second::default()
            };
            let mut times = Times::default();
            if *us > 0 {
                times.record(*us);
            }
            watch.see(&second, &times);
            if let Some(aborted) = watch.aborted() {
                assert_eq!(aborted.stage, 1);
                return Some(number);
            }
        }
        None
    }

    #[test]
    fn only_seconds_in_a_row_within_the_stage_count() {
        let limit = "latency.p99 > 1ms for 2s";
        for (latencies, expected) in [
            (&[5000, 5000, 5000, 5000, 5000][..], Some(4)),
            (&[9, 9, 9, 5000, 9, 5000, 9], None),
            (&[9, 9, 9, 9, 0, 0, 9], Some(5)),
            (&[9, 9, 9, 9, 9, 9, 9, 9, 5000, 5000], None),
        ] {
            assert_eq!(ended(limit, latencies), expected, "{latencies:?}");
        }
        assert_eq!(ended("received < 5 for 1s", &[9, 9, 9, 9, 2]), Some(4));
    }
}
