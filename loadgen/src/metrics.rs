//! The run while it goes on, for Prometheus: `--metrics ADDR`.
//!
//! A thread of its own answers one request after the other. It reads the boards of the threads,
//! which are there anyway, so that a scrape costs them nothing.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::report::Second;
use crate::shared::{Board, Shared, Stage};

/// The last second that is over.
pub type Latest = Arc<Mutex<Option<Second>>>;

/// Answers requests until the process ends.
pub fn serve(listener: TcpListener, shared: Arc<Shared>, latest: Latest) -> io::Result<()> {
    let answer = move || {
        for stream in listener.incoming().flatten() {
            let latest = latest
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            // Whoever asks and does not wait for the answer gets none.
            let _ = respond(stream, &text(&shared, latest.as_ref()));
        }
    };
    std::thread::Builder::new()
        .name("metrics".to_owned())
        .spawn(answer)
        .map(drop)
}

/// Whatever is asked for, the metrics are the answer.
fn respond(mut stream: TcpStream, text: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut request = [0; REQUEST_SIZE_MAX];
    let mut size = 0;
    while size < request.len() && !request[..size].windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut request[size..])? {
            0 => break,
            more => size += more,
        }
    }
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        text.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(text.as_bytes())
}

fn text(shared: &Shared, latest: Option<&Second>) -> String {
    let sum = |of: fn(&Board) -> u64| shared.sum(of) as f64;
    let stage = match shared.stage() {
        Stage::Connect => 0.0,
        Stage::Publish => 1.0,
        Stage::Drain => 2.0,
        Stage::End => 3.0,
    };
    let mut text = String::new();
    let mut put = |name: &str, kind: &str, about: &str, values: &[(&str, Option<f64>)]| {
        let values = values
            .iter()
            .filter_map(|(label, value)| Some((label, (*value)?)));
        let values: Vec<_> = values.collect();
        if values.is_empty() {
            return;
        }
        let _ = writeln!(
            text,
            "# HELP ringload_{name} {about}\n# TYPE ringload_{name} {kind}"
        );
        for (label, value) in values {
            let _ = writeln!(text, "ringload_{name}{label} {value}");
        }
    };
    const RELAXED: Ordering = Ordering::Relaxed;
    let clients = shared.plan.scenario.client_count() as f64;
    let of_boards = [
        (
            "messages_sent_total",
            "counter",
            "Messages published",
            sum(|b| b.sent.load(RELAXED)),
        ),
        (
            "deliveries_total",
            "counter",
            "Deliveries",
            sum(|b| b.received.load(RELAXED)),
        ),
        (
            "errors_total",
            "counter",
            "Troubles",
            sum(|b| b.errors.load(RELAXED)),
        ),
        ("clients", "gauge", "Clients of the scenario", clients),
        (
            "clients_ready",
            "gauge",
            "Connected and subscribed",
            sum(|b| b.ready.load(RELAXED)),
        ),
        (
            "messages_waiting",
            "gauge",
            "Messages that are due and wait for their client",
            sum(|b| b.pending.load(RELAXED)),
        ),
        (
            "messages_unacknowledged",
            "gauge",
            "Messages of QoS 1 and 2 without their acknowledgement",
            sum(|b| b.unacknowledged.load(RELAXED)),
        ),
        (
            "stage",
            "gauge",
            "0 connecting, 1 publishing, 2 draining, 3 ending",
            stage,
        ),
    ];
    for (name, kind, about, value) in of_boards {
        put(name, kind, about, &[("", Some(value))]);
    }
    let Some(second) = latest else {
        return text;
    };
    let seconds = |us: Option<u64>| us.map(|us| us as f64 / 1e6);
    put(
        "latency_seconds",
        "gauge",
        "Corrected latency of the last second",
        &[
            ("{quantile=\"0.5\"}", seconds(second.p50_us)),
            ("{quantile=\"0.99\"}", seconds(second.p99_us)),
            ("{quantile=\"1\"}", seconds(second.max_us)),
        ],
    );
    put(
        "broker_cpu_cores",
        "gauge",
        "CPU of the broker in the last second",
        &[("", second.broker_cpu)],
    );
    put(
        "broker_resident_bytes",
        "gauge",
        "Memory of the broker",
        &[("", second.broker_rss_bytes.map(|bytes| bytes as f64))],
    );
    text
}

/// For a request and for its answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// The rest of a longer request is not looked at.
const REQUEST_SIZE_MAX: usize = 4096;
