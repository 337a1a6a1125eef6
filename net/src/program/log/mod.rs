//! The log: lines on stderr, as text or as JSON.
//!
//! Invariants:
//! - One event is one line, whatever a client's names contain: long values are truncated, and
//!   control characters and anything that could pass for another field are escaped or quoted, once
//!   in `format.rs` and not at each call.
//! - A thread that logs never waits for stderr, nor for another thread that logs: lines go through a
//!   bounded queue to a separate thread; what does not fit is counted, and the count is logged. The one
//!   lock on the way is the queue's own, held for as long as it takes to wake that thread.
//! - What was logged before the process ends is written, also on a panic.
//! - One place in the code logs a limited number of lines a second (`budget.rs`), not counting
//!   debug and trace. The rest is counted too: a client that provokes warnings cannot bury those of
//!   others.

mod budget;
mod format;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing_subscriber::filter::{FilterExt as _, ParseError, Targets, dynamic_filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use budget::Budgets;
use format::{JsonFormat, TextFormat};

/// The filter of this process.
static FILTER: OnceLock<ArcSwap<Filter>> = OnceLock::new();

/// The queue of the log of this process.
static QUEUE: OnceLock<Sender<Item>> = OnceLock::new();

/// Starts to log to stderr, once in a process; [`finish`] it before the process ends. `filter` and
/// `format` are those of the settings, already checked.
pub fn start(filter: &str, format: &str) -> io::Result<()> {
    let filter = Filter::of(filter).map_err(io::Error::other)?;
    let filter = FILTER.get_or_init(|| ArcSwap::from_pointee(filter));
    let (queue, items) = bounded(QUEUE_LINES_MAX);
    let budgets = Arc::new(Budgets::new());
    let lines = Lines {
        queue: queue.clone(),
        lost: Arc::default(),
    };
    let thread = LogThread {
        items,
        lost: Arc::clone(&lines.lost),
        budgets: Arc::clone(&budgets),
        json: format == "json",
        unwritten: 0,
    };
    std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || thread.run(io::stderr()))?;
    let rate = dynamic_filter_fn(move |metadata, _| budgets.take(metadata, Instant::now()));
    let layer = tracing_subscriber::fmt::layer().with_writer(lines);
    let layer = match format {
        "json" => layer.event_format(JsonFormat).boxed(),
        _ => layer.event_format(TextFormat).boxed(),
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(Current(filter).and(rate)))
        .try_init()
        .map_err(io::Error::other)?;
    if QUEUE.set(queue).is_ok() {
        flush_before_a_panic();
    }
    Ok(())
}

/// The filter in force.
pub fn filter() -> String {
    FILTER
        .get()
        .map_or_else(String::new, |filter| filter.load().text.clone())
}

/// Puts another filter in force: one that was checked.
pub fn set_filter(text: &str) {
    let (Some(current), Ok(filter)) = (FILTER.get(), Filter::of(text)) else {
        return;
    };
    current.store(Arc::new(filter));
    // What was not worth asking about may be of interest.
    tracing::callsite::rebuild_interest_cache();
    ringmq::log_filter_has_changed();
}

/// A filter, as it was written and as it is asked.
#[derive(Debug)]
struct Filter {
    text: String,
    targets: Targets,
}

impl Filter {
    fn of(text: &str) -> Result<Filter, ParseError> {
        let targets = text.parse()?;
        let text = text.to_owned();
        Ok(Filter { text, targets })
    }
}

/// The filter that is in force at the time. Takes no lock.
#[derive(Clone, Copy, Debug)]
struct Current(&'static ArcSwap<Filter>);

impl<S> layer::Filter<S> for Current {
    fn enabled(&self, metadata: &Metadata<'_>, context: &layer::Context<'_, S>) -> bool {
        layer::Filter::<S>::enabled(&self.0.load().targets, metadata, context)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        layer::Filter::<S>::callsite_enabled(&self.0.load().targets, metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        layer::Filter::<S>::max_level_hint(&self.0.load().targets)
    }
}

/// A panic ends the process: what led to it is in lines that wait.
fn flush_before_a_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        finish();
        report(panic);
    }));
}

/// Waits until everything logged so far is written, or a second.
pub fn finish() {
    let Some(queue) = QUEUE.get() else {
        return;
    };
    let (done, written) = bounded(1);
    // If nobody reads stderr, waiting is of no use.
    if queue
        .send_timeout(Item::Flush(done), FLUSH_TIME_MAX)
        .is_ok()
    {
        let _ = written.recv_timeout(FLUSH_TIME_MAX);
    }
}

#[derive(Debug)]
enum Item {
    Line(Vec<u8>),
    Flush(Sender<()>),
}

/// The end of the queue that the threads of the broker write to.
#[derive(Clone, Debug)]
struct Lines {
    queue: Sender<Item>,
    lost: Arc<AtomicU64>,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}

impl io::Write for Lines {
    /// The formatter hands over whole lines.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.queue.try_send(Item::Line(line.to_vec())) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the lines. A failing stderr is no reason to stop serving clients.
struct LogThread {
    items: Receiver<Item>,
    lost: Arc<AtomicU64>,
    budgets: Arc<Budgets>,
    json: bool,
    /// Lines that could not be written since one last could.
    unwritten: u64,
}

impl LogThread {
    fn run(mut self, mut target: impl io::Write) {
        let mut reported = Instant::now();
        loop {
            let ended = match self.items.recv_timeout(REPORT_EVERY) {
                Ok(Item::Line(line)) => {
                    self.put(&mut target, &line);
                    false
                }
                Ok(Item::Flush(done)) => {
                    self.report(&mut target);
                    let _ = target.flush();
                    let _ = done.send(());
                    false
                }
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => true,
            };
            if ended || reported.elapsed() >= REPORT_EVERY {
                reported = Instant::now();
                self.report(&mut target);
            }
            if ended {
                return;
            }
        }
    }

    /// Logs what was left out since the last time.
    fn report(&mut self, target: &mut impl io::Write) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            self.warn(
                target,
                &format!("{lost} lines lost: stderr is read too slowly"),
            );
        }
        for (place, count) in self.budgets.take_left_out() {
            self.warn(target, &format!("{count} more lines of {place} left out"));
        }
    }

    fn warn(&mut self, target: &mut impl io::Write, text: &str) {
        let line = self.line(text);
        self.put(target, line.as_bytes());
    }

    /// Writes a line, or counts it: the disk may be full for a while.
    fn put(&mut self, target: &mut impl io::Write, line: &[u8]) {
        if self.unwritten > 0 {
            let lost = format!("{} lines lost: stderr had no room", self.unwritten);
            // The one before may have been cut off.
            let notice = format!("\n{}", self.line(&lost));
            if target.write_all(notice.as_bytes()).is_err() {
                self.unwritten += 1;
                return;
            }
            self.unwritten = 0;
        }
        if target.write_all(line).is_err() {
            self.unwritten = 1;
        }
    }

    /// A line of the log's own.
    fn line(&self, text: &str) -> String {
        let mut time = String::new();
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        // Neither the time nor the text holds anything that JSON would have to escape.
        if self.json {
            format!(
                "{{\"timestamp\":\"{time}\",\"level\":\"WARN\",\"message\":\"{text}\",\"target\":\"{TARGET}\"}}\n"
            )
        } else {
            format!("{time}  WARN {TARGET}: {text}\n")
        }
    }
}

/// About 1 MiB of lines of usual length.
const QUEUE_LINES_MAX: usize = 8192;

const REPORT_EVERY: Duration = Duration::from_secs(1);
const FLUSH_TIME_MAX: Duration = Duration::from_millis(500);
const TARGET: &str = "ringmq::log";

#[cfg(test)]
mod tests;
