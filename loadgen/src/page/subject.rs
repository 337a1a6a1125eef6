//! Result files, sorted for comparison: by scenario, then by what was measured.
//!
//! Runs of one scenario with one label are rounds of one subject. Numbers are medians over its
//! valid rounds; curves are those of the round in the middle.

use super::theme::{self, SERIES_COUNT};
use super::title;
use crate::report::{Group, Pace, ResultFile};
use crate::secrets::masked_address;

/// The runs of one scenario.
pub(super) struct Scenario {
    pub(super) title: String,
    pub(super) about: String,
    pub(super) subjects: Vec<Subject>,
}

/// The runs of one broker.
pub(super) struct Subject {
    pub(super) label: String,
    /// Its class in drawings: the same for the same label in all scenarios, and for a known broker
    /// on all pages.
    pub(super) color: &'static str,
    /// Its number among the labels, by first appearance.
    pub(super) number: usize,
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
    let mut keys: Vec<String> = Vec::new();
    let mut scenarios: Vec<Scenario> = Vec::new();
    for file in files {
        let (key, label) = (key(&file), label(&file));
        let number = position_or_push(&mut labels, &label);
        let at = position_or_push(&mut keys, &key);
        if at == scenarios.len() {
            scenarios.push(Scenario {
                title: String::new(),
                about: file.run.scenario.about.clone(),
                subjects: Vec::new(),
            });
        }
        let subjects = &mut scenarios[at].subjects;
        match subjects.iter_mut().find(|subject| subject.label == label) {
            Some(subject) => subject.rounds.push(file),
            None => subjects.push(Subject {
                label,
                color: "",
                number,
                rounds: vec![file],
            }),
        }
    }
    let colors = colors(&labels);
    for scenario in &mut scenarios {
        scenario.subjects.sort_by_key(|subject| subject.number);
        for subject in &mut scenario.subjects {
            subject.color = theme::series(colors[subject.number]);
            subject.sort();
        }
    }
    let firsts = scenarios
        .iter()
        .map(|scenario| &scenario.subjects[0].rounds[0]);
    let titles = title::titles(&firsts.collect::<Vec<_>>());
    for (scenario, title) in scenarios.iter_mut().zip(titles) {
        scenario.title = title;
    }
    scenarios
}

/// A colour for each label: that of its broker, unless another label of the same broker has it, or
/// the first one that is free.
fn colors(labels: &[String]) -> Vec<usize> {
    let mut colors: Vec<Option<usize>> = Vec::new();
    for label in labels {
        let home = theme::home_color(label).filter(|home| !colors.contains(&Some(*home)));
        colors.push(home);
    }
    for index in 0..colors.len() {
        if colors[index].is_none() {
            let free = (0..SERIES_COUNT).find(|color| !colors.contains(&Some(*color)));
            colors[index] = Some(free.unwrap_or(index % SERIES_COUNT));
        }
    }
    colors.into_iter().flatten().collect()
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
    run.label
        .clone()
        .unwrap_or_else(|| masked_address(&run.target))
}

/// What makes two runs comparable: the same clients do the same.
fn key(file: &ResultFile) -> String {
    let groups: Vec<String> = file.groups.iter().map(describe).collect();
    format!("{}\n{}", file.run.scenario.name, groups.join("\n"))
}

/// One line about a group of clients.
pub(super) fn describe(group: &Group) -> String {
    let plural = if group.clients == 1 { "" } else { "s" };
    let mut parts = vec![format!(
        "{} client{plural}, MQTT {}",
        group.clients, group.protocol
    )];
    let transport = title::transport(group);
    if transport != "TCP" {
        parts.push(transport.to_owned());
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
