//! The raw histograms: one line per second, group and QoS in HdrHistogram's log format, which the
//! tools of that project read, plot and merge.
//!
//! Tags are `GROUP.qosN.corrected` and `GROUP.qosN.uncorrected`; values are microseconds.

use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use crate::times::{Delays, Times};

/// The lines before the first histogram.
pub fn header(scenario: &str, target: &str, began: SystemTime) -> Vec<u8> {
    let mut text = Vec::new();
    let mut builder = IntervalLogWriterBuilder::new();
    builder
        .add_comment(&format!(
            "[ringload {}: {scenario} against {target}]",
            env!("CARGO_PKG_VERSION")
        ))
        .add_comment(
            "[Values are microseconds. corrected: from the time the schedule wanted; \
             uncorrected: from the socket]",
        )
        .with_start_time(began)
        .with_base_time(began);
    // Writing to memory does not fail.
    let _ = builder
        .begin_log_with(&mut text, &mut V2DeflateSerializer::new())
        .map(drop);
    text
}

/// Appends both views of what arrived in a second.
pub fn append(text: &mut Vec<u8>, second: u64, span_s: f64, name: &str, delays: &Delays) {
    let views = [
        ("corrected", delays.corrected()),
        ("uncorrected", delays.uncorrected()),
    ];
    for (view, times) in views {
        append_times(text, second, span_s, &format!("{name}.{view}"), &times);
    }
}

fn append_times(text: &mut Vec<u8>, second: u64, span_s: f64, tag: &str, times: &Times) {
    let Some(histogram) = times.as_histogram() else {
        return;
    };
    let mut serializer = V2DeflateSerializer::new();
    let builder = IntervalLogWriterBuilder::new();
    let span = Duration::from_secs_f64(span_s);
    if let Ok(mut log) = builder.begin_log_with(text, &mut serializer) {
        // Names of groups have neither commas nor spaces, so that they are tags.
        let _ = log.write_histogram(histogram, Duration::from_secs(second), span, Tag::new(tag));
    }
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;

    #[test]
    fn the_log_reads_back() {
        let mut delays = Delays::default();
        delays.record(100, 0, 1);
        delays.record(100, 5000, 1);
        let mut text = header("pairs", "127.0.0.1:1883", SystemTime::UNIX_EPOCH);
        append(&mut text, 3, 1.0, "subscribers.qos1", &delays);
        let mut seen = Vec::new();
        for entry in IntervalLogIterator::new(&text) {
            if let LogEntry::Interval(interval) = entry.unwrap() {
                let bytes = base64_decode(interval.encoded_histogram());
                let histogram: hdrhistogram::Histogram<u64> =
                    Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
                let tag = interval.tag().unwrap().as_str().to_owned();
                seen.push((
                    tag,
                    interval.start_timestamp().as_secs(),
                    histogram.len(),
                    histogram.max() / 100,
                ));
            }
        }
        let expected = [
            ("subscribers.qos1.corrected".to_owned(), 3, 2, 51),
            ("subscribers.qos1.uncorrected".to_owned(), 3, 2, 1),
        ];
        assert_eq!(seen, expected);
    }

    fn base64_decode(text: &str) -> Vec<u8> {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::new());
        for byte in text.bytes().filter(|byte| *byte != b'=') {
            let value = ALPHABET.iter().position(|letter| *letter == byte).unwrap();
            bits = bits << 6 | value as u32;
            count += 6;
            if count >= 8 {
                count -= 8;
                bytes.push((bits >> count) as u8);
            }
        }
        bytes
    }
}
