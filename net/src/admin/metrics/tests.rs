use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use ringmq_core::shard::Report;
use ringmq_core::stages::{Recorder, Stage};
use ringmq_core::time::Instant;

use super::*;
use crate::admin::Facts;
use crate::admin::asker::ShardState;
use crate::admin::process::{Process, Schedule};
use crate::admin::stalls::Totals;
use crate::counters::Counts;

/// What a shard answers: nothing has happened, but for one turn.
fn report() -> Report {
    let mut recorder = Recorder::default();
    recorder.record(Stage::Turn, Instant::ZERO, Instant::from_nanos(20_000));
    Report {
        stages: Some(recorder.stages()),
        ..Report::default()
    }
}

fn scene(shards: usize) -> Scene {
    let state = ShardState {
        is_responding: true,
        report: Some(report()),
        counts: Counts::default(),
        inbox_messages: 3,
        schedule: Some(Schedule::default()),
    };
    Scene {
        facts: Facts {
            limits: Arc::default(),
            version: "1.2.3",
            started_at: UNIX_EPOCH,
            listeners: Vec::new(),
            connections_max: 7,
            data_dir: None,
            tallies: Arc::default(),
            settings: Arc::default(),
        },
        shards: vec![state; shards],
        total: report(),
        counts: Counts::default(),
        tallies: crate::Tallies::default().named(),
        process: Process::look(),
        requests: vec![(("/metrics".to_owned(), 200), 5)],
        certificates: vec![("mqtts://[::1]:8883".to_owned(), Duration::from_secs(9))],
        stalls: vec![Totals::default(); shards],
        is_stopping: false,
        is_draining: false,
    }
}

/// Lines that hold a number.
fn series(text: &str) -> usize {
    text.lines().filter(|line| !line.starts_with('#')).count()
}

#[test]
fn the_number_of_series_keeps_its_budget() {
    for shards in [1, 2, 64] {
        let scene = scene(shards);
        let small = series(&render(&scene, Place::Small, Form::Prometheus));
        assert!(
            small <= 700 + 5 * shards,
            "{small} series for {shards} shards"
        );
        let large = series(&render(&scene, Place::Shards, Form::Prometheus));
        assert!(large <= 320 * shards, "{large} series for {shards} shards");
    }
}

#[test]
fn both_formats_have_the_names_of_the_table() {
    let scene = scene(2);
    for (form, end) in [(Form::Prometheus, ""), (Form::OpenMetrics, "# EOF\n")] {
        for place in [Place::Small, Place::Shards] {
            let text = render(&scene, place, form);
            assert!(text.ends_with(end), "{form:?}");
            for metric in TABLE.iter().filter(|metric| metric.place == place) {
                let name = exported(metric);
                let is_there = text.lines().any(|line| {
                    let rest = line.strip_prefix(&name);
                    rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
                });
                assert!(is_there, "{form:?}: {name}");
            }
        }
    }
    let text = render(&scene, Place::Small, Form::Prometheus);
    assert!(
        text.contains("\nringmq_build_info{version=\"1.2.3\"} 1\n"),
        "{text}"
    );
    assert!(
        text.contains("\nringmq_shard_inbox_messages{shard=\"1\"} 3\n"),
        "{text}"
    );
    for line in [
        "ringmq_stage_duration_seconds_bucket{stage=\"turn\",le=\"1.52587890625e-05\"} 0\n",
        "ringmq_stage_duration_seconds_bucket{stage=\"turn\",le=\"3.0517578125e-05\"} 1\n",
        "ringmq_stage_duration_seconds_bucket{stage=\"turn\",le=\"8\"} 1\n",
        "ringmq_stage_duration_seconds_bucket{stage=\"turn\",le=\"+Inf\"} 1\n",
        "ringmq_stage_duration_seconds_sum{stage=\"turn\"} 0.00002\n",
        "ringmq_stage_duration_seconds_count{stage=\"ack\"} 0\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(
        text.contains("# TYPE ringmq_connections_accepted_total counter"),
        "{text}"
    );
}

#[test]
fn names_are_unique_and_follow_the_rules_of_prometheus() {
    for (index, metric) in TABLE.iter().enumerate() {
        let name = metric.name;
        assert!(
            name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
            "{name}"
        );
        assert!(!name.ends_with("_total"), "{name}: a counter gets it");
        assert!(
            metric.help.ends_with('.') && !metric.help.contains('|'),
            "{name}"
        );
        assert!(
            TABLE[..index].iter().all(|other| other.name != name),
            "{name}"
        );
    }
}

fn exported(metric: &Metric) -> String {
    match metric.kind {
        Kind::Counter => format!("{}_total", metric.name),
        Kind::Gauge => metric.name.to_owned(),
        Kind::Histogram => format!("{}_bucket", metric.name),
    }
}

fn page() -> String {
    let mut text = String::from(INTRODUCTION);
    for (place, title) in [
        (Place::Small, "/metrics"),
        (Place::Shards, "/metrics/shards"),
    ] {
        let _ = write!(
            text,
            "\n## {title}\n\n| metric | type | labels | what it says |\n|---|---|---|---|\n"
        );
        for metric in TABLE.iter().filter(|metric| metric.place == place) {
            let kind = match metric.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            let labels: Vec<String> = metric.labels.iter().map(|l| format!("`{l}`")).collect();
            let name = match metric.kind {
                Kind::Counter => exported(metric),
                Kind::Gauge | Kind::Histogram => metric.name.to_owned(),
            };
            let (labels, help) = (labels.join(", "), metric.help);
            let _ = writeln!(text, "| `{name}` | {kind} | {labels} | {help} |");
        }
    }
    text
}

#[test]
fn the_page_of_metrics_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    let update = "run: UPDATE_DOCS=1 cargo test -p ringmq the_page_of_metrics";
    assert_eq!(written, page(), "docs/metrics.md is out of date: {update}");
}

/// Names of metrics, with the labels that their selectors use, in rules and boards.
fn mentions(text: &str) -> Vec<(&str, Vec<&str>)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = text.char_indices().filter(|(at, _)| {
        let is_start = !text[..*at].ends_with(is_name);
        is_start
            && ["ringmq_", "process_"]
                .iter()
                .any(|p| text[*at..].starts_with(p))
    });
    let mention = |(at, _)| {
        let text: &str = &text[at..];
        let (name, rest) = text.split_at(text.find(|c| !is_name(c)).unwrap_or(text.len()));
        let selector = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let selector = selector.map_or("", |(selector, _)| selector);
        let labels = selector
            .split(',')
            .filter_map(|one| one.split_once(['=', '!']));
        (name, labels.map(|(label, _)| label.trim()).collect())
    };
    starts.map(mention).collect()
}

#[test]
fn rules_and_board_use_metrics_that_exist() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
    for file in [
        "alert-rules.yml",
        "alert-rules-test.yml",
        "grafana-board.json",
    ] {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        let mentions = mentions(&text);
        assert!(mentions.len() > 10, "{file}");
        for (name, labels) in mentions {
            let metric = TABLE.iter().find(|metric| exported(metric) == name);
            let metric = metric.unwrap_or_else(|| panic!("{file}: {name} is not in the table"));
            for label in labels {
                let is_known = metric.labels.contains(&label) || OF_PROMETHEUS.contains(&label);
                assert!(is_known, "{file}: {name} has no label {label}");
            }
        }
    }
}

/// Prometheus adds them to every series.
const OF_PROMETHEUS: [&str; 2] = ["instance", "job"];

#[test]
fn every_alert_has_its_section_of_the_manual_and_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let named = |text: &str, before: &str| -> Vec<String> {
        let lines = text.lines();
        let names = lines.filter_map(|line| line.trim_start().strip_prefix(before));
        names.map(|name| name.trim().to_owned()).collect()
    };
    let rules = read("packaging/alert-rules.yml");
    let alerts = named(&rules, "- alert: ");
    assert_eq!(named(&read("../docs/alerts.md"), "## "), alerts);
    let sections = alerts.iter().map(|alert| alert.to_lowercase());
    let links: Vec<String> = sections
        .map(|name| format!("docs/alerts.md#{name}"))
        .collect();
    assert_eq!(named(&rules, "manual: "), links);
    let tests = read("packaging/alert-rules-test.yml");
    for link in links {
        assert!(tests.contains(&format!("manual: {link} ")), "{link}");
    }
}

const INTRODUCTION: &str = "\
# Metrics

<!-- Written by a test from the table in net/src/admin/metrics/table.rs: \
UPDATE_DOCS=1 cargo test -p ringmq the_page_of_metrics -->

The control plane ([operations.md](operations.md)) has two pages for Prometheus: `/metrics`, which every installation should read, and
`/metrics/shards`, which helps to find out what a shard is doing. Both come as OpenMetrics if the reader asks for that, and otherwise in
the text format 0.0.4. Labels have values from closed sets, so the number of series does not depend on the clients: below 700 and 5 per
shard on the first page, below 320 per shard on the second. Counters count from the start of the broker. A shard that does not answer
within a second shows in `ringmq_shard_responding`; what it counts is then as old as its last answer. What the kernel does not tell has no
series.

To read them over TCP, give Prometheus a token of the role `metrics` ([operations.md](operations.md#over-tcp)):

```yaml
scrape_configs:
  - job_name: ringmq
    authorization: { credentials_file: /etc/prometheus/ringmq.token }
    static_configs: [{ targets: [\"127.0.0.1:18830\"] }]
```
";
