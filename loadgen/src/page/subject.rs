//! Result files, sorted for comparison: by scenario, then by what was measured.
//!
//! Runs of one scenario with one label are rounds of one subject. Numbers are medians over its
//! valid rounds; curves are those of the round in the middle.

use crate::report::{Group, Pace, ResultFile};

/// The runs of one scenario.
pub(super) struct Scenario {
    pub(super) title: String,
    pub(super) about: String,
    pub(super) subjects: Vec<Subject>,
}

/// The runs of one broker.
pub(super) struct Subject {
    pub(super) label: String,
    /// The same label has the same colour in all scenarios: its index by first appearance.
    pub(super) color: usize,
    /// The best one first; invalid ones behind the valid ones.
    rounds: Vec<ResultFile>,
}

/// The median of a number over rounds, with its spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

/// Sorts files by scenario and label, in the order of their appearance.
pub(super) fn arrange(files: Vec<ResultFile>) -> Vec<Scenario> {
    let mut labels: Vec<String> = Vec::new();
    let mut scenarios: Vec<(String, Scenario)> = Vec::new();
    for file in files {
        let (key, label) = (key(&file), label(&file));
        let color = position_or_push(&mut labels, &label);
        let at = scenarios.iter().position(|(known, _)| *known == key);
        let at = at.unwrap_or_else(|| {
            let scenario = Scenario {
                title: title(&file),
                about: file.run.scenario.about.clone(),
                subjects: Vec::new(),
            };
            scenarios.push((key, scenario));
            scenarios.len() - 1
        });
        let subjects = &mut scenarios[at].1.subjects;
        match subjects.iter_mut().find(|subject| subject.label == label) {
            Some(subject) => subject.rounds.push(file),
            None => subjects.push(Subject {
                label,
                color,
                rounds: vec![file],
            }),
        }
    }
    let mut scenarios: Vec<Scenario> = scenarios.into_iter().map(|(_, s)| s).collect();
    for scenario in &mut scenarios {
        scenario.subjects.sort_by_key(|subject| subject.color);
        scenario.subjects.iter_mut().for_each(Subject::sort);
    }
    scenarios
}

impl Subject {
    fn sort(&mut self) {
        self.rounds.sort_by(|one, other| {
            let by_validity = other.validity.valid.cmp(&one.validity.valid);
            by_validity.then(merit(other).total_cmp(&merit(one)))
        });
    }

    /// All rounds, invalid ones too.
    pub(super) fn rounds(&self) -> &[ResultFile] {
        &self.rounds
    }

    /// No round can be trusted.
    pub(super) fn is_invalid(&self) -> bool {
        !self.rounds[0].validity.valid
    }

    /// The rounds that count: the valid ones, or all if none is.
    pub(super) fn counted(&self) -> &[ResultFile] {
        let valid = self.rounds.iter().filter(|file| file.validity.valid);
        match valid.count() {
            0 => &self.rounds,
            count => &self.rounds[..count],
        }
    }

    /// The round in the middle.
    pub(super) fn typical(&self) -> &ResultFile {
        let counted = self.counted();
        &counted[counted.len() / 2]
    }

    /// A number over the rounds that count; absent if no round has it.
    pub(super) fn spread(&self, of: impl Fn(&ResultFile) -> Option<f64>) -> Option<Spread> {
        let mut values: Vec<f64> = self.counted().iter().filter_map(of).collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => f64::midpoint(values[middle - 1], values[middle]),
            _ => values[middle],
        };
        Some(Spread { median, min, max })
    }

    /// A count, added up over all rounds: a loss in one round is a loss.
    pub(super) fn sum(&self, of: impl Fn(&ResultFile) -> u64) -> u64 {
        self.rounds.iter().map(of).sum()
    }
}

/// What the best round has most of. An open loop brings what it sends, so its delay decides.
fn merit(file: &ResultFile) -> f64 {
    let mut paces = file
        .groups
        .iter()
        .filter_map(|group| group.publish.as_ref());
    match (paces.next(), &file.totals.latency) {
        (Some(publish), Some(latency)) if matches!(publish.pace, Pace::Rate { .. }) => {
            -(latency.corrected.p99_us as f64)
        }
        (Some(_), _) => file.totals.received_per_s,
        (None, _) => file.totals.connects_per_s,
    }
}

fn label(file: &ResultFile) -> String {
    let run = &file.run;
    run.label.clone().unwrap_or_else(|| run.target.clone())
}

/// What makes two runs comparable: the same clients do the same.
fn key(file: &ResultFile) -> String {
    let groups: Vec<String> = file.groups.iter().map(describe).collect();
    format!("{}\n{}", file.run.scenario.name, groups.join("\n"))
}

/// `pairs, QoS 1`; QoS is what runs of one scenario differ by most often.
fn title(file: &ResultFile) -> String {
    let mut qos: Vec<u8> = file
        .groups
        .iter()
        .filter_map(|group| Some(group.publish.as_ref()?.qos))
        .collect();
    qos.sort_unstable();
    qos.dedup();
    let qos: Vec<String> = qos.iter().map(u8::to_string).collect();
    if qos.is_empty() {
        file.run.scenario.name.clone()
    } else {
        format!("{}, QoS {}", file.run.scenario.name, qos.join(" and "))
    }
}

/// One line about a group of clients.
pub(super) fn describe(group: &Group) -> String {
    let plural = if group.clients == 1 { "" } else { "s" };
    let mut parts = vec![format!(
        "{} client{plural}, MQTT {}",
        group.clients, group.protocol
    )];
    if group.tls {
        parts.push("TLS".to_owned());
    }
    if let Some(publish) = &group.publish {
        let pace = match publish.pace {
            Pace::Rate { per_client } => format!("{per_client}/s each"),
            Pace::Window { per_client } => {
                format!("closed loop, {per_client} in flight each")
            }
        };
        parts.push(format!(
            "publish to {} at QoS {}, payload {}, {pace}",
            publish.topic, publish.qos, publish.payload
        ));
    }
    if let Some(receive) = &group.receive {
        let filters = receive.filters.join(" ");
        parts.push(format!("subscribe to {filters} at QoS {}", receive.qos));
    }
    format!("{}: {}", group.name, parts.join("; "))
}

fn position_or_push(labels: &mut Vec<String>, label: &str) -> usize {
    let known = labels.iter().position(|known| known == label);
    known.unwrap_or_else(|| {
        labels.push(label.to_owned());
        labels.len() - 1
    })
}
