//! What scenarios are called: by name, and by what they differ in.

use super::text;
use crate::report::{Group, Pace, Published, ResultFile};

/// A title for each of these runs, all of them different: `pairs, QoS 1`, and what runs of the same
/// name differ in besides.
pub(super) fn titles(files: &[&ResultFile]) -> Vec<String> {
    let aspects: Vec<Aspects> = files.iter().map(|file| aspects(file)).collect();
    let name = |index: usize| &files[index].run.scenario.name;
    let mut titles: Vec<String> = Vec::new();
    for index in 0..files.len() {
        let namesakes = (0..files.len()).filter(|other| name(*other) == name(index));
        let namesakes: Vec<usize> = namesakes.collect();
        let mut title = name(index).clone();
        for (aspect, text) in aspects[index].iter().enumerate() {
            let differs = namesakes
                .iter()
                .any(|other| aspects[*other][aspect] != *text);
            // QoS is what runs of one scenario differ by most often.
            if !text.is_empty() && (aspect == QOS || differs) {
                title = format!("{title}, {text}");
            }
        }
        let plain = title.clone();
        let mut number = 1;
        while titles.contains(&title) {
            number += 1;
            title = format!("{plain} ({number})");
        }
        titles.push(title);
    }
    titles
}

/// The same for runs that differ in their load alone, and different for all others.
pub(super) fn family(file: &ResultFile) -> String {
    let mut aspects = aspects(file);
    aspects[LOAD] = String::new();
    format!("{}\n{}", file.run.scenario.name, aspects.join("\n"))
}

/// `pairs, QoS 1`.
pub(super) fn without_load(file: &ResultFile) -> String {
    match &aspects(file)[QOS] {
        qos if qos.is_empty() => file.run.scenario.name.clone(),
        qos => format!("{}, {qos}", file.run.scenario.name),
    }
}

/// Messages per second that all publishers have to send; `None` in a closed loop.
pub(super) fn planned_rate(file: &ResultFile) -> Option<f64> {
    let rates = file
        .groups
        .iter()
        .filter_map(|group| match group.publish.as_ref()?.pace {
            Pace::Rate { per_client } => Some(per_client * group.clients as f64),
            Pace::Window { .. } => None,
        });
    rates.reduce(|sum, rate| sum + rate)
}

/// What runs can differ in, in words; empty where a run has nothing of it.
type Aspects = [String; 6];
const QOS: usize = 0;
const LOAD: usize = 1;

fn aspects(file: &ResultFile) -> Aspects {
    let publishers = || {
        file.groups
            .iter()
            .filter_map(|group| group.publish.as_ref())
    };
    let qos = joined(publishers().map(|publish| publish.qos.to_string()));
    let load = match planned_rate(file) {
        Some(rate) => text::rate(rate),
        None => joined(publishers().filter_map(window)),
    };
    let clients: u64 = file.groups.iter().map(|group| group.clients).sum();
    let payload = joined(publishers().map(|publish| payload(&publish.payload)));
    let of_groups = |of: fn(&Group) -> String| joined(file.groups.iter().map(of));
    [
        prefixed("QoS ", &qos),
        load,
        format!("{} clients", text::count(clients)),
        payload,
        of_groups(|group| format!("MQTT {}", group.protocol)),
        of_groups(|group| transport(group).to_owned()),
    ]
}

/// What carries the packets of a group.
pub(super) fn transport(group: &Group) -> &str {
    match (&group.transport, group.tls) {
        (Some(transport), _) => transport,
        (None, true) => "TLS",
        (None, false) => "TCP",
    }
}

fn window(publish: &Published) -> Option<String> {
    match publish.pace {
        Pace::Window { per_client } => Some(format!("{per_client} in flight")),
        Pace::Rate { .. } => None,
    }
}

fn payload(sizes: &str) -> String {
    sizes.parse().map_or_else(|_| sizes.to_owned(), text::bytes)
}

/// What groups have, each once, in their order.
fn joined(texts: impl Iterator<Item = String>) -> String {
    let mut different: Vec<String> = Vec::new();
    for text in texts {
        if !different.contains(&text) {
            different.push(text);
        }
    }
    different.sort();
    different.join(" and ")
}

fn prefixed(prefix: &str, text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!("{prefix}{text}")
    }
}
