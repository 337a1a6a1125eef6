//! Values of keys: how they are read from text, and how they are shown.

use std::time::Duration;

use ringmq_core::codec::{QoS, Version};

use ringmq_problem::Complaint;

/// A whole number within bounds.
pub fn count(text: &str, min: u64, max: u64) -> Result<u64, Complaint> {
    let fix = || format!("write a number from {min} to {max}");
    let digits: String = text.chars().filter(|&c| c != '_').collect();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let what = format!("is `{text}`, which is not a whole number");
        return Err(Complaint::new(what, fix()));
    }
    match digits.parse() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(Complaint::new(
            format!("is {text}, which is out of range"),
            fix(),
        )),
    }
}

/// Events per second: `10`, `0.5`, `600/m`, `10k`.
pub fn rate(text: &str) -> Result<f64, Complaint> {
    let fix = "write a number per second such as 10, 0.5 or 20k, or 600/m for a number per minute";
    let complaint = |what: &str| Complaint::new(format!("is `{text}`, {what}"), fix);
    let (number, span) = match text.split_once('/') {
        None => (text, 1.0),
        Some((number, "s")) => (number, 1.0),
        Some((number, "m")) => (number, 60.0),
        Some((number, "h")) => (number, 3600.0),
        Some(_) => return Err(complaint("whose unit is not /s, /m or /h")),
    };
    let (digits, factor) = match number.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1000.0),
        None => (number, 1.0),
    };
    let plain: String = digits.chars().filter(|&c| c != '_').collect();
    let value: f64 = plain
        .parse()
        .map_err(|_| complaint("which is not a rate"))?;
    let rate = value * factor / span;
    if !(RATE_MIN..=RATE_MAX).contains(&rate) {
        return Err(complaint("which is out of range"));
    }
    Ok(rate)
}

/// A rate as a user would write it.
pub fn show_rate(rate: f64) -> String {
    format!("{rate}")
}

/// A span of time: seconds, or a number with a unit.
pub fn span(text: &str) -> Result<Duration, Complaint> {
    let fix = "write a number of seconds, or a time such as 500ms, 10s, 5m or 1h";
    let complaint = |what: &str| Complaint::new(format!("is `{text}`, {what}"), fix);
    let (number, unit) = split_unit(text);
    let value: f64 = number
        .parse()
        .map_err(|_| complaint("which is not a time"))?;
    let factor = match unit {
        "" | "s" => 1.0,
        "us" => 1e-6,
        "ms" => 1e-3,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => return Err(complaint("whose unit is not us, ms, s, m, h or d")),
    };
    let seconds = value * factor;
    if !(0.0..=SPAN_MAX_S).contains(&seconds) {
        return Err(complaint("which is out of range"));
    }
    Ok(Duration::from_nanos((seconds * 1e9).round() as u64))
}

/// A span as a user would write it.
pub fn show_span(span: Duration) -> String {
    let micros = span.as_micros();
    match micros {
        0 => "0s".to_owned(),
        _ if micros.is_multiple_of(3_600_000_000) => format!("{}h", micros / 3_600_000_000),
        _ if micros.is_multiple_of(60_000_000) => format!("{}m", micros / 60_000_000),
        _ if micros.is_multiple_of(1_000_000) => format!("{}s", micros / 1_000_000),
        _ if micros.is_multiple_of(1000) => format!("{}ms", micros / 1000),
        _ => format!("{micros}us"),
    }
}

/// Bytes: a number, or one with a unit of 1024.
pub fn size(text: &str, max: u64) -> Result<u64, Complaint> {
    let fix = || format!("write a number of bytes, or a size such as 64KiB, up to {max}");
    let (number, unit) = split_unit(text);
    let factor: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => {
            let what = format!("is `{text}`, whose unit is not B, KiB, MiB or GiB");
            return Err(Complaint::new(what, fix()));
        }
    };
    let Ok(value) = number.parse::<u64>() else {
        let what = format!("is `{text}`, which is not a size");
        return Err(Complaint::new(what, fix()));
    };
    match value.checked_mul(factor) {
        Some(bytes) if bytes <= max => Ok(bytes),
        Some(_) | None => Err(Complaint::new(
            format!("is `{text}`, which is too large"),
            fix(),
        )),
    }
}

/// `true` or `false`.
pub fn switch(text: &str) -> Result<bool, Complaint> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Complaint::new(
            format!("is `{text}`, which is neither true nor false"),
            "write true or false",
        )),
    }
}

/// 0, 1 or 2.
pub fn qos(text: &str) -> Result<QoS, Complaint> {
    match text {
        "0" => Ok(QoS::AtMostOnce),
        "1" => Ok(QoS::AtLeastOnce),
        "2" => Ok(QoS::ExactlyOnce),
        _ => Err(Complaint::new(
            format!("is `{text}`, which is not a QoS"),
            "write 0, 1 or 2",
        )),
    }
}

/// A version of MQTT.
pub fn protocol(text: &str) -> Result<Version, Complaint> {
    match text {
        "3.1.1" | "4" => Ok(Version::V311),
        "5.0" | "5" => Ok(Version::V5),
        _ => Err(Complaint::new(
            format!("is `{text}`, which is not a version that ringload speaks"),
            "write \"3.1.1\" or \"5.0\"",
        )),
    }
}

/// A version as a user would write it.
pub fn show_protocol(version: Version) -> &'static str {
    match version {
        Version::V31 => "3.1",
        Version::V311 => "3.1.1",
        Version::V5 => "5.0",
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

/// One event in a day.
const RATE_MIN: f64 = 1.0 / 86400.0;
/// Ten million per second: no client of ours sends more.
const RATE_MAX: f64 = 1e7;
/// A year.
const SPAN_MAX_S: f64 = 365.0 * 86400.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_spans_and_sizes_are_read_with_their_units() {
        for (text, expected) in [
            ("10", Some(10.0)),
            ("0.5", Some(0.5)),
            ("20k", Some(20_000.0)),
            ("600/m", Some(10.0)),
            ("36/h", Some(0.01)),
            ("0", None),
            ("-1", None),
            ("x", None),
            ("1/d", None),
            ("inf", None),
        ] {
            assert_eq!(rate(text).ok(), expected, "{text}");
        }
        for (text, expected) in [
            ("2", Some(2_000_000)),
            ("0.25", Some(250_000)),
            ("500ms", Some(500_000)),
            ("100us", Some(100)),
            ("5m", Some(300_000_000)),
            ("5 parsecs", None),
            ("", None),
            ("1.2.3", None),
        ] {
            let micros = span(text).ok().map(|span| span.as_micros());
            assert_eq!(micros, expected, "{text}");
        }
        for (text, expected) in [
            ("64", Some(64)),
            ("4KiB", Some(4096)),
            ("1MiB", Some(1 << 20)),
            ("1.5KiB", None),
            ("2MiB", None),
            ("4KB", None),
        ] {
            assert_eq!(size(text, 1 << 20).ok(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for text in ["0s", "100us", "250ms", "10s", "3m", "2h"] {
            assert_eq!(show_span(span(text).unwrap()), text);
        }
        for text in ["0.5", "10", "20000"] {
            assert_eq!(show_rate(rate(text).unwrap()), text);
        }
    }
}
