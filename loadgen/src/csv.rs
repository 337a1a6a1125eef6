//! The seconds of a run as a table, for spreadsheets and plots of one's own.

use std::fmt::Write as _;

use crate::report::{ResultFile, Second};

/// One line for each second; what was not measured is empty.
pub fn csv(result: &ResultFile) -> String {
    let mut text = String::from(HEAD);
    text.push('\n');
    for second in &result.timeline {
        let stage = result.stages.iter().rev();
        let stage = stage
            .filter(|stage| stage.at_s <= second.at_s)
            .find(|stage| second.at_s < stage.at_s + stage.span_s);
        put_line(&mut text, second, stage.map_or("", |stage| &stage.name));
    }
    text
}

fn put_line(text: &mut String, second: &Second, stage: &str) {
    let some = |value: Option<u64>| value.map_or(String::new(), |value| value.to_string());
    let cpu = second.broker_cpu;
    let cells = [
        format!("{:.0}", second.at_s),
        format!("{:.3}", second.span_s),
        quoted(stage),
        second.sent.to_string(),
        second.received.to_string(),
        second.received_bytes.to_string(),
        second.connects.to_string(),
        second.errors.to_string(),
        some(second.p50_us),
        some(second.p99_us),
        some(second.max_us),
        cpu.map_or(String::new(), |cpu| format!("{cpu:.3}")),
        some(second.broker_rss_bytes),
    ];
    let _ = writeln!(text, "{}", cells.join(","));
}

/// As RFC 4180 wants it.
fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

const HEAD: &str = "second,span_s,stage,sent,received,received_bytes,connects,errors,p50_us,p99_us,\
                    max_us,broker_cores,broker_rss_bytes";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::report::StageResult;

    #[test]
    fn every_second_is_a_line_with_its_stage() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/examples/first.json");
        let mut result = ResultFile::read(&path).unwrap();
        let stage = |name: &str, at_s, span_s| StageResult {
            name: name.to_owned(),
            at_s,
            span_s,
            load_from: 1.0,
            load_to: 1.0,
            sent_per_s: 0.0,
            received_per_s: 0.0,
            latency: None,
            ledger: Default::default(),
            broker_cores: None,
        };
        result.stages = vec![stage("up, slowly", 0.0, 1.0), stage("on", 1.0, 1.0)];
        let text = csv(&result);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), result.timeline.len() + 1);
        assert!(lines[1].contains(",\"up, slowly\","), "{}", lines[1]);
        assert!(lines[2].contains(",on,"), "{}", lines[2]);
        assert!(lines[3].contains(",,"), "{}", lines[3]);
        let columns = |line: &str| line.matches(',').count();
        assert_eq!(columns(lines[2]), columns(lines[0]));
        assert_eq!(columns(lines[1]), columns(lines[0]) + 1);
    }
}
