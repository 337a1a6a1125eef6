//! Lines as they are written.

use std::io::Write as _;
use std::sync::Mutex;

use super::budget::LINES_PER_SECOND;
use super::format::VALUE_CHARS_MAX;
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
