//! The verdicts as a JUnit file, which the dashboards of build servers read.

use std::fmt::Write as _;

use crate::report::{Ended, Judgement, ResultFile, Verdict};

/// One test for each threshold, and one that the run is valid.
pub fn junit(result: &ResultFile) -> String {
    let is_missed = |verdict: &&Verdict| verdict.judgement == Judgement::Missed;
    let is_open = |verdict: &&Verdict| verdict.judgement == Judgement::NotJudged;
    let failures = result.verdicts.iter().filter(is_missed).count();
    let invalid = usize::from(!result.validity.valid);
    let errors = result.verdicts.iter().filter(is_open).count() + invalid;
    let phases = &result.run.phases;
    let time = phases.connect_s + phases.warmup_s + phases.window_s + phases.drain_s;
    let name = escape(&result.run.scenario.name);
    let counts = format!(
        "tests=\"{}\" failures=\"{failures}\" errors=\"{errors}\" time=\"{time:.3}\"",
        result.verdicts.len() + 1
    );
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {counts}>\n  \
         <testsuite name=\"{name}\" {counts}>\n"
    );
    let reasons = result.validity.reasons.iter();
    let reasons = reasons.map(|reason| reason.text.as_str());
    let why: Vec<&str> = ended(result).into_iter().chain(reasons).collect();
    let (why, in_one_line) = (why.join("\n"), why.join("; "));
    put_case(
        &mut text,
        &name,
        "the run is valid",
        invalid.gt(&0).then_some(("error", why)),
    );
    for verdict in &result.verdicts {
        let case = match &verdict.stage {
            Some(stage) => format!("{stage}: {}", verdict.threshold),
            None => verdict.threshold.clone(),
        };
        let fault = match verdict.judgement {
            Judgement::Passed => None,
            Judgement::Missed => Some(("failure", verdict.shown.clone())),
            Judgement::NotJudged => Some(("error", unjudged(verdict, &in_one_line))),
        };
        put_case(&mut text, &name, &case, fault);
    }
    text.push_str("  </testsuite>\n</testsuites>\n");
    text
}

/// Why the run ended before its time, where no reason of its validity says it.
fn ended(result: &ResultFile) -> Option<&'static str> {
    match result.run.ended {
        Ended::Broken => Some("all connections were lost"),
        Ended::Lost => Some("an agent was lost"),
        Ended::Interrupted => Some("the run was interrupted"),
        Ended::Planned | Ended::Aborted | Ended::Failed => None,
    }
}

/// Why a threshold was not judged, with what was measured nevertheless.
fn unjudged(verdict: &Verdict, why: &str) -> String {
    let shown = &verdict.shown;
    match (why, verdict.value) {
        ("", _) => format!("not judged: {shown}"),
        (why, None) => format!("not judged: {shown}: {why}"),
        (why, Some(_)) => format!("not judged: {why}; measured: {shown}"),
    }
}

/// A test; what is wrong with it: the element that says so, and why.
fn put_case(text: &mut String, suite: &str, name: &str, fault: Option<(&str, String)>) {
    let name = escape(name);
    let _ = write!(text, "    <testcase classname=\"{suite}\" name=\"{name}\"");
    let _ = match fault {
        None => writeln!(text, "/>"),
        Some((kind, why)) => writeln!(
            text,
            ">\n      <{kind} message=\"{}\"/>\n    </testcase>",
            escape(&why)
        ),
    };
}

/// Text in an attribute. XML has no control characters.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::report::{Check, Reason};

    fn result() -> ResultFile {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/examples/first.json");
        let mut result = ResultFile::read(&path).unwrap();
        result.validity.valid = true;
        result.validity.reasons.clear();
        let verdict = |threshold: &str, stage: Option<&str>, judgement| Verdict {
            threshold: threshold.to_owned(),
            stage: stage.map(str::to_owned),
            judgement,
            value: Some(1.0),
            shown: "7 ms".to_owned(),
        };
        result.verdicts = vec![
            verdict("latency.p99 < 5ms", None, Judgement::Missed),
            verdict("lost = 0", Some("spike & \"more\""), Judgement::Passed),
        ];
        result
    }

    #[test]
    fn a_missed_limit_is_a_failure_and_an_invalid_run_an_error() {
        let mut result = result();
        let text = junit(&result);
        for part in [
            "tests=\"3\" failures=\"1\" errors=\"0\"",
            "name=\"the run is valid\"/>",
            "name=\"latency.p99 &lt; 5ms\">\n      <failure message=\"7 ms\"/>",
            "name=\"spike &amp; &quot;more&quot;: lost = 0\"/>",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        result.validity.valid = false;
        result.validity.reasons = vec![Reason {
            check: Check::Cpu,
            text: "busy\nall the time".to_owned(),
        }];
        crate::verdict::withhold(&mut result.verdicts);
        let text = junit(&result);
        for part in [
            "failures=\"0\" errors=\"3\"",
            "<error message=\"busy&#10;all the time\"/>",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        result.run.ended = Ended::Broken;
        let text = junit(&result);
        for part in [
            "<error message=\"all connections were lost&#10;busy&#10;all the time\"/>",
            "<error message=\"not judged: all connections were lost; busy&#10;all the time; \
             measured: 7 ms\"/>",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
