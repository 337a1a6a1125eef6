//! What the broker counts itself, beside what ringload counts.
//!
//! Brokers publish their counters every so often. The growth between two such reports is compared with
//! ours between the arrivals of the same two, so that neither side is ahead by more than what was on its
//! way. The first report is often a retained one, from before the run and perhaps from the middle of another: it is
//! taken only if there are not two later ones.

use std::collections::BTreeMap;

use crate::engine::SysSample;
use crate::report::{Sys, SysCounter};

/// The report; `None` if the broker said nothing of itself.
pub fn compare(samples: &[SysSample], lost: u64) -> Option<Sys> {
    let first = samples.first()?;
    let mut series: BTreeMap<&str, (&SysSample, &SysSample)> = BTreeMap::new();
    for sample in samples {
        let topic = sample.update.topic.as_str();
        let (first, last) = series.entry(topic).or_insert((sample, sample));
        if first.update.retained && !last.update.retained && !sample.update.retained {
            *first = last;
        }
        *last = sample;
    }
    let last_at = samples
        .iter()
        .map(|sample| sample.update.at_ns)
        .max()
        .unwrap_or(0);
    let version = series.iter().find(|(topic, _)| topic.ends_with("/version"));
    let counter = |(topic, (first, last)): (&&str, &(&SysSample, &SysSample))| {
        let kind = Kind::of(topic)?;
        if first.update.at_ns == last.update.at_ns {
            return None;
        }
        let number = |sample: &SysSample| sample.update.value.trim().parse::<f64>().ok();
        let ours = match kind {
            Kind::Received => last.sent - first.sent,
            Kind::Sent => last.received - first.received,
            Kind::Dropped => lost,
        };
        Some(SysCounter {
            topic: (*topic).to_owned(),
            broker: number(last)? - number(first)?,
            ours: ours as f64,
        })
    };
    Some(Sys {
        version: version.map(|(_, (_, last))| last.update.value.clone()),
        span_s: last_at.saturating_sub(first.update.at_ns) as f64 / 1e9,
        counters: series.iter().filter_map(counter).collect(),
        last: series
            .iter()
            .take(TOPICS_MAX)
            .map(|(topic, (_, last))| ((*topic).to_owned(), last.update.value.clone()))
            .collect(),
    })
}

/// Counters that both sides have.
enum Kind {
    /// PUBLISH packets that the broker received.
    Received,
    /// PUBLISH packets that it sent.
    Sent,
    /// Messages that it dropped.
    Dropped,
}

impl Kind {
    /// By the end of the topic: Mosquitto and those who follow it, then EMQX.
    fn of(topic: &str) -> Option<Kind> {
        let is_total = !topic.contains("/load/") && !topic.contains("/shards/");
        let ends = |end: &str| is_total && topic.ends_with(end);
        if ends("/publish/messages/received") || ends("/metrics/messages/received") {
            Some(Kind::Received)
        } else if ends("/publish/messages/sent") || ends("/metrics/messages/sent") {
            Some(Kind::Sent)
        } else if ends("/publish/messages/dropped") || ends("/metrics/messages/dropped") {
            Some(Kind::Dropped)
        } else {
            None
        }
    }
}

/// A broker with more topics is cut off there.
const TOPICS_MAX: usize = 2000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::SysUpdate;

    fn sample(at_s: u64, topic: &str, value: &str, ours: u64) -> SysSample {
        SysSample {
            update: SysUpdate {
                at_ns: at_s * 1_000_000_000,
                retained: false,
                topic: topic.to_owned(),
                value: value.to_owned(),
            },
            sent: ours,
            received: ours * 2,
        }
    }

    #[test]
    fn growth_is_compared_between_the_same_reports() {
        let samples = [
            sample(1, "$SYS/broker/version", "x 1.0", 0),
            sample(1, "$SYS/broker/publish/messages/received", "100", 0),
            sample(1, "$SYS/broker/publish/messages/sent", "5", 0),
            sample(11, "$SYS/broker/publish/messages/received", "1100", 1001),
            sample(11, "$SYS/broker/publish/messages/sent", "2005", 1001),
            sample(11, "$SYS/broker/load/publish/messages/sent", "7", 1001),
        ];
        let sys = compare(&samples, 0).unwrap();
        assert_eq!(sys.version.as_deref(), Some("x 1.0"));
        assert_eq!(sys.span_s, 10.0);
        let counters: Vec<_> = sys
            .counters
            .iter()
            .map(|c| (c.topic.as_str(), c.broker, c.ours))
            .collect();
        assert_eq!(
            counters,
            [
                ("$SYS/broker/publish/messages/received", 1000.0, 1001.0),
                ("$SYS/broker/publish/messages/sent", 2000.0, 2002.0),
            ]
        );
        assert!(compare(&[], 0).is_none());
    }

    #[test]
    fn a_retained_report_is_the_first_one_only_if_it_has_to_be() {
        let topic = "$SYS/broker/publish/messages/received";
        let mut samples = vec![
            sample(1, topic, "100", 0),
            sample(2, topic, "5000", 10),
            sample(3, topic, "5990", 1000),
        ];
        samples[0].update.retained = true;
        let counter = |samples: &[SysSample]| {
            let sys = compare(samples, 0).unwrap();
            (sys.counters[0].broker, sys.counters[0].ours)
        };
        assert_eq!(counter(&samples), (990.0, 990.0));
        samples.remove(1);
        assert_eq!(counter(&samples), (5890.0, 1000.0));
    }
}
