//! The text format of Prometheus, as far as Ringmq writes it.

use std::collections::BTreeMap;

use crate::bound::Snapshot;

/// The samples of an endpoint.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<Sample>);

/// A number with its name and labels.
#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Samples {
    /// Reads a page; lines that are no samples are left out.
    pub fn parse(text: &str) -> Samples {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Samples(lines.filter_map(Sample::parse).collect())
    }

    /// The sum of all samples with this name.
    pub fn sum(&self, name: &str) -> Option<f64> {
        let mut values = self.0.iter().filter(|sample| sample.name == name);
        let first = values.next()?.value;
        Some(values.fold(first, |sum, sample| sum + sample.value))
    }

    /// What says how often a bound of the broker was reached, and how long its stages took.
    pub(super) fn add_to(&self, snapshot: &mut Snapshot) {
        for sample in &self.0 {
            let label = |name: &str| sample.labels.get(name).map_or("", String::as_str);
            match sample.name.as_str() {
                "ringmq_messages_dropped_total" => {
                    let reason = label("reason");
                    if BOUNDS.contains(&reason) {
                        snapshot
                            .own
                            .insert(format!("dropped/{reason}"), sample.value as u64);
                    }
                }
                "ringmq_stage_duration_seconds_bucket" => {
                    let bound = label("le").parse().unwrap_or(f64::INFINITY);
                    let stage = snapshot
                        .stages
                        .entry(label("stage").to_owned())
                        .or_default();
                    stage.push((bound, sample.value as u64));
                }
                _ => {}
            }
        }
        for (name, metric) in STOPS {
            if let Some(count) = self.sum(metric) {
                snapshot.own.insert(name.to_owned(), count as u64);
            }
        }
    }
}

impl Sample {
    /// `name{label="value"} 7`.
    fn parse(line: &str) -> Option<Sample> {
        let (name, rest) = match line.find(['{', ' ']) {
            Some(at) if line[at..].starts_with('{') => (&line[..at], &line[at + 1..]),
            Some(at) => {
                let value = line[at..].trim().split(' ').next()?.parse().ok()?;
                return Some(Sample {
                    name: line[..at].to_owned(),
                    labels: BTreeMap::new(),
                    value,
                });
            }
            None => return None,
        };
        // Ringmq's labels have no quotes, braces or commas in their values, but for listeners.
        let (inside, value) = rest.rsplit_once('}')?;
        let labels = inside.split("\",").filter_map(|label| {
            let (name, value) = label.split_once("=\"")?;
            Some((name.to_owned(), value.trim_end_matches('"').to_owned()))
        });
        Some(Sample {
            name: name.to_owned(),
            labels: labels.collect(),
            value: value.trim().split(' ').next()?.parse().ok()?,
        })
    }
}

/// Reasons for losses that are bounds of the broker: not what expired or was not allowed.
const BOUNDS: [&str; 4] = ["slow_socket", "queue_full", "shard_full", "retained_full"];
/// What keeps a shard from reading, and the metric that counts it.
const STOPS: [(&str, &str); 2] = [
    ("inbox_full", "ringmq_shard_inbox_full_total"),
    ("reads_paused", "ringmq_shard_reads_paused_total"),
];

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# HELP ringmq_messages_dropped Messages.\n\
ringmq_messages_dropped_total{reason=\"queue_full\"} 7\n\
ringmq_messages_dropped_total{reason=\"expired\"} 9\n\
ringmq_stage_duration_seconds_bucket{le=\"0.5\",stage=\"turn\"} 3\n\
ringmq_stage_duration_seconds_bucket{le=\"+Inf\",stage=\"turn\"} 4\n\
ringmq_shard_inbox_full_total{shard=\"0\"} 1\n\
ringmq_shard_inbox_full_total{shard=\"1\"} 2\n\
process_cpu_seconds_total 1.5\n\
nonsense\n";

    #[test]
    fn bounds_and_stages_are_found() {
        let samples = Samples::parse(TEXT);
        assert_eq!(samples.sum("process_cpu_seconds_total"), Some(1.5));
        assert_eq!(samples.sum("nothing"), None);
        let mut snapshot = Snapshot::default();
        samples.add_to(&mut snapshot);
        let own = [
            ("dropped/queue_full".to_owned(), 7),
            ("inbox_full".to_owned(), 3),
        ];
        assert_eq!(snapshot.own, BTreeMap::from(own));
        let turn = vec![(0.5, 3), (f64::INFINITY, 4)];
        assert_eq!(snapshot.stages, BTreeMap::from([("turn".to_owned(), turn)]));
    }
}
