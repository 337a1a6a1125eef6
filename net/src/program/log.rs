//! The log: lines on stderr, as text or as JSON.
//!
//! Invariants:
//! - One event is one line, whatever is in a client's names: long values are truncated, and control characters and
//!   anything that could pass for another field are escaped or quoted, here and not at each call ([`push_cut`]).
//! - A thread that logs takes no lock and never waits for stderr: lines go through a bounded queue to a separate
//!   thread; what does not fit is counted, and the count is logged.
//! - What was logged before the process ends is written, also on a panic.
//! - One place in the code logs at most [`LINES_PER_SECOND`] lines a second, not counting debug and trace.
//!   The rest is counted too: a client that provokes warnings cannot bury those of others.

use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt as _, Targets, dynamic_filter_fn};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The queue of the log of this process.
static QUEUE: OnceLock<Sender<Item>> = OnceLock::new();

/// Starts to log to stderr, once in a process; [`finish`] it before the process ends. `filter` and `format` are those
/// of the settings, already checked.
pub fn start(filter: &str, format: &str) -> io::Result<()> {
    let targets: Targets = filter.parse().map_err(io::Error::other)?;
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
        .with(layer.with_filter(targets.and(rate)))
        .try_init()
        .map_err(io::Error::other)?;
    if QUEUE.set(queue).is_ok() {
        flush_before_a_panic();
    }
    Ok(())
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
    // Nobody reads stderr: then there is nobody to wait for either.
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

/// Writes the lines. A stderr that fails is no reason to stop serving clients.
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

    /// Says what was left out since the last time.
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

/// How much each place in the code may still log. A table that only fills, so that nobody needs a lock.
#[derive(Debug)]
struct Budgets {
    start: Instant,
    /// Each place has the first free entry from that of its hash on.
    places: Vec<OnceLock<Budget>>,
}

/// The lines of one place in the code.
#[derive(Debug)]
struct Budget {
    callsite: Identifier,
    place: String,
    /// Seconds since the start in the upper half, and in the lower one lines written within the last of these.
    used: AtomicU64,
    left_out: AtomicU64,
}

impl Budgets {
    fn new() -> Budgets {
        Budgets {
            start: Instant::now(),
            places: (0..PLACES_MAX).map(|_| OnceLock::new()).collect(),
        }
    }

    /// Whether one more line of that place may be written.
    fn take(&self, metadata: &Metadata<'_>, now: Instant) -> bool {
        // Who asks for debug wants to see everything.
        if *metadata.level() > Level::INFO || !metadata.is_event() {
            return true;
        }
        let second = now.saturating_duration_since(self.start).as_secs();
        // More places than entries: those that come last write what they like.
        self.of(metadata).is_none_or(|budget| budget.take(second))
    }

    fn of(&self, metadata: &Metadata<'_>) -> Option<&Budget> {
        let callsite = metadata.callsite();
        let mut hasher = DefaultHasher::new();
        callsite.hash(&mut hasher);
        let first = hasher.finish() as usize % PLACES_MAX;
        let (before, after) = self.places.split_at(first);
        let mut entries = after.iter().chain(before);
        entries.find_map(|entry| {
            let budget = entry.get_or_init(|| Budget::new(metadata));
            (budget.callsite == callsite).then_some(budget)
        })
    }

    fn take_left_out(&self) -> Vec<(String, u64)> {
        self.places
            .iter()
            .filter_map(OnceLock::get)
            .map(|budget| {
                let left_out = budget.left_out.swap(0, Ordering::Relaxed);
                (budget.place.clone(), left_out)
            })
            .filter(|(_, left_out)| *left_out > 0)
            .collect()
    }
}

impl Budget {
    fn new(metadata: &Metadata<'_>) -> Budget {
        Budget {
            callsite: metadata.callsite(),
            place: format!("{}:{}", metadata.target(), metadata.line().unwrap_or(0)),
            used: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
        }
    }

    fn take(&self, second: u64) -> bool {
        let one_more = |used: u64| match (used >> 32 == second, used as u32) {
            (false, _) => Some(second << 32 | 1),
            (true, count) => (count < LINES_PER_SECOND).then_some(used + 1),
        };
        let taken = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        if taken.is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
        taken.is_ok()
    }
}

/// `2026-01-02T03:04:05.000006Z  WARN ringmq::probe: text key=value`.
struct TextFormat;

impl<S, N> FormatEvent<S, N> for TextFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        event.record(&mut Fields { line: &mut line });
        SystemTime.format_time(&mut writer)?;
        let metadata = event.metadata();
        writeln!(
            writer,
            " {:>5} {}:{line}",
            metadata.level(),
            metadata.target()
        )
    }
}

/// Collects the fields of an event. tracing hands over the message first.
struct Fields<'a> {
    line: &'a mut String,
}

impl Fields<'_> {
    fn push(&mut self, field: &Field, value: &str) {
        self.line.push(' ');
        if field.name() == "message" {
            push_cut(self.line, value, push_text);
            return;
        }
        self.line.push_str(field.name());
        self.line.push('=');
        if !value.is_empty() && value.chars().all(is_plain) {
            self.line.push_str(value);
        } else {
            self.line.push('"');
            push_cut(self.line, value, push_text);
            self.line.push('"');
        }
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        let _ = write!(text, "{value:?}");
        self.push(field, &text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, value);
    }
}

/// One object on a line, its fields beside the time and the level.
struct JsonFormat;

impl<S, N> FormatEvent<S, N> for JsonFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        event.record(&mut JsonFields { line: &mut line });
        writer.write_str("{\"timestamp\":\"")?;
        SystemTime.format_time(&mut writer)?;
        let metadata = event.metadata();
        writeln!(
            writer,
            "\",\"level\":\"{}\"{line},\"target\":\"{}\"}}",
            metadata.level(),
            metadata.target()
        )
    }
}

/// Collects the fields of an event as members of an object.
struct JsonFields<'a> {
    line: &'a mut String,
}

impl JsonFields<'_> {
    fn push_name(&mut self, field: &Field) {
        let _ = write!(self.line, ",\"{}\":", field.name());
    }

    fn push_literal(&mut self, field: &Field, value: impl fmt::Display) {
        self.push_name(field);
        let _ = write!(self.line, "{value}");
    }
}

impl Visit for JsonFields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push_name(field);
        self.line.push('"');
        push_cut(self.line, value, push_json);
        self.line.push('"');
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push_literal(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push_literal(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push_literal(field, value);
    }
}

/// Characters that cannot end a value, start another or steer a terminal.
fn is_plain(c: char) -> bool {
    c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '=')
}

/// The text, cut at a bound, each character as `push` has it.
fn push_cut(line: &mut String, text: &str, push: fn(&mut String, char)) {
    for (index, c) in text.chars().enumerate() {
        if index == VALUE_CHARS_MAX {
            line.push('…');
            return;
        }
        push(line, c);
    }
}

/// Nothing that a terminal or a reader of lines would act on.
fn push_text(line: &mut String, c: char) {
    match c {
        '\'' => line.push(c),
        _ => line.extend(c.escape_debug()),
    }
}

/// The same in JSON.
fn push_json(line: &mut String, c: char) {
    match c {
        '"' | '\\' => line.extend(['\\', c]),
        '\'' => line.push(c),
        _ if c.escape_debug().len() == 1 => line.push(c),
        _ => {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(line, "\\u{unit:04x}");
            }
        }
    }
}

/// More than a burst of events of one kind is worth reading.
const LINES_PER_SECOND: u32 = 20;

/// More places in the code than log anything above debug.
const PLACES_MAX: usize = 256;

/// About 1 MiB of lines of usual length.
const QUEUE_LINES_MAX: usize = 8192;

/// The longest value of a field: a client identifier at its default bound fits four times.
const VALUE_CHARS_MAX: usize = 1024;

const REPORT_EVERY: Duration = Duration::from_secs(1);
const FLUSH_TIME_MAX: Duration = Duration::from_millis(500);
const TARGET: &str = "ringmq::log";

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::Mutex;

    use super::*;

    /// Takes the place of stderr.
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Shared {
        type Writer = Shared;

        fn make_writer(&'a self) -> Shared {
            self.clone()
        }
    }

    /// What `log` writes.
    fn written(json: bool, log: impl FnOnce()) -> String {
        let target = Shared::default();
        let budgets = Budgets::new();
        let now = Instant::now();
        let rate = dynamic_filter_fn(move |metadata, _| budgets.take(metadata, now));
        let layer = tracing_subscriber::fmt::layer().with_writer(target.clone());
        let layer = if json {
            layer.event_format(JsonFormat).boxed()
        } else {
            layer.event_format(TextFormat).boxed()
        };
        let registry = tracing_subscriber::registry().with(layer.with_filter(rate));
        tracing::subscriber::with_default(registry, log);
        let bytes = target.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    /// What `log` writes as text, without the time.
    fn logged(log: impl FnOnce()) -> String {
        let text = written(false, log);
        text.lines()
            .map(|line| format!("{}\n", line.split_once('Z').unwrap().1))
            .collect()
    }

    #[test]
    fn a_client_cannot_forge_a_line_or_a_field() {
        for (client, shown) in [
            ("plain-1", "client=plain-1"),
            ("", "client=\"\""),
            ("a b", "client=\"a b\""),
            ("a=b", "client=\"a=b\""),
            (
                "x\n2026-01-01T00:00:00Z ERROR",
                "client=\"x\\n2026-01-01T00:00:00Z ERROR\"",
            ),
            ("x\" reason=ok", "client=\"x\\\" reason=ok\""),
            ("\u{1b}[2J", "client=\"\\u{1b}[2J\""),
            ("\u{9b}2J", "client=\"\\u{9b}2J\""),
            ("\u{202e}abc", "client=\"\\u{202e}abc\""),
            ("<script>", "client=<script>"),
        ] {
            let line = logged(|| tracing::warn!(target: "t", client = %client, "refused"));
            assert_eq!(line, format!("  WARN t: refused {shown}\n"));
            let line = logged(|| tracing::warn!(target: "t", client, "refused"));
            assert_eq!(line, format!("  WARN t: refused {shown}\n"));
        }
    }

    #[test]
    fn a_message_with_client_text_stays_one_line() {
        let line = logged(|| tracing::info!(target: "t", "hello {}", "a\r\nb"));
        assert_eq!(line, "  INFO t: hello a\\r\\nb\n");
    }

    #[test]
    fn long_values_are_cut() {
        let long = "x".repeat(VALUE_CHARS_MAX + 1) + " ";
        let line = logged(|| tracing::info!(target: "t", long, "m"));
        assert!(line.len() < VALUE_CHARS_MAX + 40, "{}", line.len());
    }

    #[test]
    fn one_place_cannot_flood_the_log_and_another_still_gets_through() {
        let text = logged(|| {
            for number in 0..1000 {
                tracing::warn!(target: "t", number, "flood");
            }
            tracing::warn!(target: "t", "other");
        });
        assert_eq!(text.matches("flood").count(), LINES_PER_SECOND as usize);
        assert_eq!(text.matches("other").count(), 1);
    }

    #[test]
    fn json_holds_the_same_cut_and_escaped() {
        let client = "x\n\"\\\u{1b}[2J\u{202e}é\u{10ffff}";
        let long = "y".repeat(VALUE_CHARS_MAX + 1);
        let line = written(true, || {
            tracing::warn!(target: "t", client, long, count = 3, on = true, "hello {}", "a\r\nb");
        });
        assert_eq!(line.lines().count(), 1);
        assert!(
            line.trim_end()
                .chars()
                .all(|c| c == 'é' || c == '…' || (' '..='~').contains(&c))
        );
        let found: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            found["client"], client,
            "whoever parses it has what the client sent"
        );
        assert_eq!(found["long"], "y".repeat(VALUE_CHARS_MAX) + "…");
        assert_eq!(found["message"], "hello a\r\nb");
        let rest = (
            &found["count"],
            &found["on"],
            &found["level"],
            &found["target"],
        );
        let expected = serde_json::json!([3, true, "WARN", "t"]);
        assert_eq!(
            rest,
            (&expected[0], &expected[1], &expected[2], &expected[3])
        );
        assert!(found["timestamp"].is_string());
    }

    #[test]
    fn a_budget_is_fresh_every_second_and_counts_what_it_left_out() {
        let budgets = Arc::new(Budgets::new());
        let (counted, granted) = (Arc::clone(&budgets), Arc::new(AtomicU64::new(0)));
        let second = Arc::new(AtomicU64::new(0));
        let (at, count) = (Arc::clone(&second), Arc::clone(&granted));
        let rate = dynamic_filter_fn(move |metadata, _| {
            let now = counted.start + Duration::from_secs(at.load(Ordering::Relaxed));
            let grants = counted.take(metadata, now);
            count.fetch_add(u64::from(grants), Ordering::Relaxed);
            grants
        });
        let layer = tracing_subscriber::fmt::layer().with_writer(io::sink);
        let registry = tracing_subscriber::registry().with(layer.with_filter(rate));
        tracing::subscriber::with_default(registry, || {
            for expected in [u64::from(LINES_PER_SECOND), 2 * u64::from(LINES_PER_SECOND)] {
                for _ in 0..100 {
                    tracing::warn!("again");
                }
                assert_eq!(granted.load(Ordering::Relaxed), expected);
                second.fetch_add(1, Ordering::Relaxed);
            }
        });
        let left_out = budgets.take_left_out();
        let sum: u64 = left_out.iter().map(|(_, count)| count).sum();
        assert_eq!(
            (left_out.len(), sum),
            (1, 200 - 2 * u64::from(LINES_PER_SECOND))
        );
        assert!(budgets.take_left_out().is_empty());
    }

    #[test]
    fn a_full_queue_loses_lines_and_says_so() {
        let (queue, items) = bounded(2);
        let mut lines = Lines {
            queue,
            lost: Arc::default(),
        };
        for _ in 0..5 {
            lines.write_all(b"line\n").unwrap();
        }
        let thread = LogThread {
            items,
            lost: Arc::clone(&lines.lost),
            budgets: Arc::new(Budgets::new()),
            json: false,
            unwritten: 0,
        };
        drop(lines);
        let target = Shared::default();
        thread.run(target.clone());
        let text = String::from_utf8(target.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches("line\n").count(), 2, "{text}");
        assert!(text.contains("3 lines lost"), "{text}");
    }

    /// A disk that takes no more than `room` bytes.
    struct Disk {
        room: usize,
        held: Vec<u8>,
    }

    impl io::Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let size = bytes.len().min(self.room);
            if size == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= size;
            self.held.extend_from_slice(&bytes[..size]);
            Ok(size)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    // Threat 91.
    #[test]
    fn a_full_disk_costs_lines_and_says_so_when_there_is_room_again() {
        let (_queue, items) = bounded(1);
        let mut thread = LogThread {
            items,
            lost: Arc::default(),
            budgets: Arc::new(Budgets::new()),
            json: false,
            unwritten: 0,
        };
        let mut disk = Disk {
            room: 8,
            held: Vec::new(),
        };
        for line in ["one\n", "two, cut\n", "three\n", "four\n"] {
            thread.put(&mut disk, line.as_bytes());
        }
        assert_eq!(disk.held, b"one\ntwo,");
        disk.room = 1000;
        for line in ["five\n", "six\n"] {
            thread.put(&mut disk, line.as_bytes());
        }
        let text = String::from_utf8(disk.held).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines[1], &lines[3..]), ("two,", &["five", "six"][..]));
        assert!(
            lines[2].ends_with("3 lines lost: stderr had no room"),
            "{text}"
        );
    }
}
