//! Compares the broker's own counters with those of ringload.
//!
//! Brokers publish their counters at intervals. The growth between two reports is compared with our
//! growth between the arrivals of the same two, so the two sides differ by no more than what was in
//! transit. Retained reports are of unknown age: they are shown, never compared. Dropped messages
//! are not compared: losses are known only at the end.

use std::collections::BTreeMap;

use crate::engine::SysSample;
use crate::report::{Sys, SysCounter};

/// The report; `None` if the broker said nothing of itself.
pub fn compare(samples: &[SysSample]) -> Option<Sys> {
    samples.first()?;
    let mut series: BTreeMap<&str, Series<'_>> = BTreeMap::new();
    for sample in samples {
        let topic = sample.update.topic.as_str();
        series
            .entry(topic)
            .or_insert_with(|| Series::new(sample))
            .add(sample);
    }
    let version = series.iter().find(|(topic, _)| topic.ends_with("/version"));
    let counters: Vec<(SysCounter, (u64, u64))> = series
        .iter()
        .filter_map(|(topic, series)| series.counter(topic))
        .collect();
    let first_ns = counters.iter().map(|(_, (first, _))| *first).min();
    let last_ns = counters.iter().map(|(_, (_, last))| *last).max();
    let span_ns = last_ns.unwrap_or(0).saturating_sub(first_ns.unwrap_or(0));
    Some(Sys {
        version: version.map(|(_, series)| series.newest.update.value.clone()),
        span_s: span_ns as f64 / 1e9,
        counters: counters.into_iter().map(|(counter, _)| counter).collect(),
        last: series
            .iter()
            .take(TOPICS_MAX)
            .map(|(topic, series)| ((*topic).to_owned(), series.newest.update.value.clone()))
            .collect(),
    })
}

/// What came on one topic.
struct Series<'a> {
    /// The last one of all, retained or not.
    newest: &'a SysSample,
    /// The first and the last one of those that were published in this run.
    live: Option<(&'a SysSample, &'a SysSample)>,
}

impl<'a> Series<'a> {
    fn new(sample: &'a SysSample) -> Series<'a> {
        Series {
            newest: sample,
            live: None,
        }
    }

    fn add(&mut self, sample: &'a SysSample) {
        self.newest = sample;
        if !sample.update.retained {
            let first = self.live.map_or(sample, |(first, _)| first);
            self.live = Some((first, sample));
        }
    }

    /// The growth on both sides, and when the two reports came; `None` if there are not two, or the
    /// broker began to count anew between them.
    fn counter(&self, topic: &str) -> Option<(SysCounter, (u64, u64))> {
        let kind = Kind::of(topic)?;
        let (first, last) = self.live?;
        let times = (first.update.at_ns, last.update.at_ns);
        let number = |sample: &SysSample| sample.update.value.trim().parse::<f64>().ok();
        let broker = number(last)? - number(first)?;
        if times.0 == times.1 || broker < 0.0 {
            return None;
        }
        let ours = match kind {
            Kind::Received => last.sent - first.sent,
            Kind::Sent => last.received - first.received,
        };
        let counter = SysCounter {
            topic: topic.to_owned(),
            broker,
            ours: ours as f64,
        };
        Some((counter, times))
    }
}

/// Counters that both sides have.
enum Kind {
    /// PUBLISH packets that the broker received.
    Received,
    /// PUBLISH packets that it sent.
    Sent,
}

impl Kind {
    /// By the end of the topic: Mosquitto and brokers that follow it, then EMQX.
    fn of(topic: &str) -> Option<Kind> {
        let is_total = !topic.contains("/load/") && !topic.contains("/shards/");
        let ends = |end: &str| is_total && topic.ends_with(end);
        if ends("/publish/messages/received") || ends("/metrics/messages/received") {
            Some(Kind::Received)
        } else if ends("/publish/messages/sent") || ends("/metrics/messages/sent") {
            Some(Kind::Sent)
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
        let sys = compare(&samples).unwrap();
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
        assert!(compare(&[]).is_none());
    }

    #[test]
    fn a_retained_report_is_never_compared() {
        let topic = "$SYS/broker/publish/messages/received";
        let mut samples = vec![
            sample(1, topic, "100", 0),
            sample(2, topic, "5000", 10),
            sample(3, topic, "5990", 1000),
        ];
        samples[0].update.retained = true;
        let sys = compare(&samples).unwrap();
        assert_eq!(
            (sys.counters[0].broker, sys.counters[0].ours),
            (990.0, 990.0)
        );
        assert_eq!(sys.span_s, 1.0);
        // One report is none to compare; its value is known all the same.
        samples.remove(1);
        let sys = compare(&samples).unwrap();
        assert_eq!((sys.counters.len(), sys.span_s), (0, 0.0));
        assert_eq!(sys.last[0].1, "5990");
    }

    #[test]
    fn a_broker_that_was_restarted_has_not_grown() {
        let topic = "$SYS/broker/publish/messages/sent";
        let samples = [sample(1, topic, "100", 0), sample(2, topic, "7", 50)];
        assert!(compare(&samples).unwrap().counters.is_empty());
    }
}
