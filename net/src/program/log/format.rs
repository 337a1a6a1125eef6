//! From an event to its line, as text or as JSON.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// `2026-01-02T03:04:05.000006Z  WARN ringmq::probe: text key=value`.
pub(super) struct TextFormat;

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
pub(super) struct JsonFormat;

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

/// The longest value of a field: a client identifier at its default bound fits four times.
pub(super) const VALUE_CHARS_MAX: usize = 1024;
