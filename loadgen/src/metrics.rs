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
    let mut page = Page::default();
    page.put_boards(shared);
    if let Some(second) = latest {
        page.put_second(second);
    }
    page.0
}

/// In the text format of Prometheus.
#[derive(Default)]
struct Page(String);

impl Page {
    /// A metric with its values, each with its labels; nothing, if none is known.
    fn put(&mut self, head: Head, values: &[(&str, Option<f64>)]) {
        let Head { name, kind, about } = head;
        if values.iter().all(|(_, value)| value.is_none()) {
            return;
        }
        let text = &mut self.0;
        let _ = writeln!(text, "# HELP ringload_{name} {about}");
        let _ = writeln!(text, "# TYPE ringload_{name} {kind}");
        for (label, value) in values {
            if let Some(value) = value {
                let _ = writeln!(text, "ringload_{name}{label} {value}");
            }
        }
    }

    fn put_boards(&mut self, shared: &Shared) {
        const RELAXED: Ordering = Ordering::Relaxed;
        let sum = |of: fn(&Board) -> u64| shared.sum(of) as f64;
        let stage = match shared.stage() {
            Stage::Connect => 0.0,
            Stage::Publish => 1.0,
            Stage::Drain => 2.0,
            Stage::End => 3.0,
        };
        let clients = shared.plan.scenario.client_count() as f64;
        let (sent, received) = (
            sum(|board| board.sent.load(RELAXED)),
            sum(|board| board.received.load(RELAXED)),
        );
        let (errors, ready) = (
            sum(|board| board.errors.load(RELAXED)),
            sum(|board| board.ready.load(RELAXED)),
        );
        let (waiting, unacknowledged) = (
            sum(|board| board.pending.load(RELAXED)),
            sum(|board| board.unacknowledged.load(RELAXED)),
        );
        for (head, value) in [
            (counter("messages_sent_total", "Messages published"), sent),
            (counter("deliveries_total", "Deliveries"), received),
            (counter("errors_total", "Troubles"), errors),
            (gauge("clients", "Clients of the scenario"), clients),
            (gauge("clients_ready", "Connected and subscribed"), ready),
            (
                gauge("messages_waiting", "Due, and waiting for their client"),
                waiting,
            ),
            (
                gauge("messages_unacknowledged", "Of QoS 1 and 2"),
                unacknowledged,
            ),
            (
                gauge("stage", "0 connecting, 1 publishing, 2 draining, 3 ending"),
                stage,
            ),
        ] {
            self.put(head, &[("", Some(value))]);
        }
    }

    fn put_second(&mut self, second: &Second) {
        let seconds = |us: Option<u64>| us.map(|us| us as f64 / 1e6);
        self.put(
            gauge("latency_seconds", "Corrected latency of the last second"),
            &[
                ("{quantile=\"0.5\"}", seconds(second.p50_us)),
                ("{quantile=\"0.99\"}", seconds(second.p99_us)),
                ("{quantile=\"1\"}", seconds(second.max_us)),
            ],
        );
        let head = gauge("broker_cpu_cores", "CPU of the broker in the last second");
        self.put(head, &[("", second.broker_cpu)]);
        let memory = second.broker_rss_bytes.map(|bytes| bytes as f64);
        let head = gauge("broker_resident_bytes", "Memory of the broker");
        self.put(head, &[("", memory)]);
    }
}

/// What stands above a metric.
#[derive(Clone, Copy)]
struct Head {
    name: &'static str,
    kind: &'static str,
    about: &'static str,
}

const fn counter(name: &'static str, about: &'static str) -> Head {
    Head {
        name,
        kind: "counter",
        about,
    }
}

const fn gauge(name: &'static str, about: &'static str) -> Head {
    Head {
        name,
        kind: "gauge",
        about,
    }
}

/// For a request and for its answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// The rest of a longer request is not looked at.
const REQUEST_SIZE_MAX: usize = 4096;
