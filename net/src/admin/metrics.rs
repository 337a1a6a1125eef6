//! Every metric, once: [`TABLE`] makes `/metrics`, `/metrics/shards` and `docs/metrics.md`.
//!
//! Labels have values from closed sets: never a client, a user, a topic or an address. So the number of series does not
//! depend on the clients.
//!
//! Not here: where the numbers come from (`asker.rs`, `process.rs`).

mod table;

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use ringmq_core::stages::Histogram;

use super::scene::Scene;
pub(super) use table::TABLE;

/// A row of the table.
pub(super) struct Metric {
    /// Which endpoint has it.
    pub(super) place: Place,
    /// Without `_total`, which a counter gets.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Names of its labels.
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
    /// Adds its samples.
    pub(super) read: fn(&Scene, &mut Samples),
}

/// Which endpoint has a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// `/metrics`.
    Small,
    /// `/metrics/shards`.
    Shards,
}

/// What a number does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It only grows, from the start of the broker.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How many spans were how long, from the start of the broker.
    Histogram,
}

/// The samples of one metric: values of its labels, and the number.
#[derive(Debug, Default)]
pub(super) struct Samples(Vec<(Vec<String>, Value)>);

/// A number.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Whole(u64),
    Real(f64),
    Spans(Box<Histogram>),
}

impl From<u64> for Value {
    fn from(number: u64) -> Value {
        Value::Whole(number)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Value {
        Value::Real(number)
    }
}

impl From<&Histogram> for Value {
    fn from(spans: &Histogram) -> Value {
        Value::Spans(Box::new(spans.clone()))
    }
}

impl Samples {
    /// Of a metric without labels.
    pub(super) fn say(&mut self, value: impl Into<Value>) {
        self.0.push((Vec::new(), value.into()));
    }

    /// With a value for each label.
    pub(super) fn say_of<const N: usize>(&mut self, labels: [&str; N], value: impl Into<Value>) {
        let labels = labels.iter().map(ToString::to_string).collect();
        self.0.push((labels, value.into()));
    }
}

/// How a reader wants them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The text format of Prometheus, 0.0.4.
    Prometheus,
    OpenMetrics,
}

impl Form {
    /// What the `Accept` header of a request asks for.
    pub(super) fn of(accept: &str) -> Form {
        match accept.contains("application/openmetrics-text") {
            true => Form::OpenMetrics,
            false => Form::Prometheus,
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Form::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Form::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The text of an endpoint.
pub(super) fn render(scene: &Scene, place: Place, form: Form) -> String {
    let rows = TABLE.iter().filter(|metric| metric.place == place);
    let read = |metric: &'static Metric| {
        let mut samples = Samples::default();
        (metric.read)(scene, &mut samples);
        (metric, samples)
    };
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Reading(rows.map(read).collect())));
    let mut text = String::new();
    let encoded = match form {
        Form::Prometheus => prometheus_text::encode(&mut text, &registry),
        Form::OpenMetrics => text::encode(&mut text, &registry),
    };
    encoded.expect("a string takes everything");
    text
}

/// All metrics of an endpoint at a moment.
struct Reading(Vec<(&'static Metric, Samples)>);

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} metrics", self.0.len())
    }
}

impl Collector for Reading {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (metric, Samples(samples)) in &self.0 {
            if samples.is_empty() {
                continue; // What is not known has no series.
            }
            let kind = match metric.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            // It ends the sentence itself.
            let help = metric.help.trim_end_matches('.');
            let mut encoder = encoder.encode_descriptor(metric.name, help, None, kind)?;
            for (labels, value) in samples {
                let named: Vec<(&str, &str)> = metric
                    .labels
                    .iter()
                    .copied()
                    .zip(labels.iter().map(String::as_str))
                    .collect();
                match named.is_empty() {
                    true => sample(&mut encoder, metric.kind, value)?,
                    false => sample(&mut encoder.encode_family(&named)?, metric.kind, value)?,
                }
            }
        }
        Ok(())
    }
}

fn sample(encoder: &mut MetricEncoder<'_>, kind: Kind, value: &Value) -> fmt::Result {
    match (kind, value) {
        (Kind::Counter, Value::Whole(number)) => {
            encoder.encode_counter::<NoLabelSet, _, u64>(number, None)
        }
        (Kind::Counter, Value::Real(number)) => {
            encoder.encode_counter::<NoLabelSet, _, u64>(number, None)
        }
        (Kind::Gauge, Value::Whole(number)) => encoder.encode_gauge(number),
        (Kind::Gauge, Value::Real(number)) => encoder.encode_gauge(number),
        (Kind::Histogram, Value::Spans(spans)) => {
            let buckets: Vec<(f64, u64)> = spans.classic().collect();
            encoder.encode_histogram::<NoLabelSet>(spans.sum_s(), spans.count(), &buckets, None)
        }
        (Kind::Counter | Kind::Gauge, Value::Spans(_))
        | (Kind::Histogram, Value::Whole(_) | Value::Real(_)) => {
            unreachable!("a row of the table has values of its kind")
        }
    }
}

#[cfg(test)]
mod tests;
