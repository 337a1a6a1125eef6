//! Spans of time that differ from client to client.

use std::time::Duration;

use ringmq_problem::Complaint;

use super::value;

/// Some span, drawn each time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spans {
    /// `10m`: always the same.
    Fixed(Duration),
    /// `1m..10m`: any between.
    Between(Duration, Duration),
    /// `exp(10m)`: with this mean, and no memory: as likely to end now as at any time.
    Exponential(Duration),
}

impl Spans {
    /// Reads what a user writes.
    pub fn parse(text: &str) -> Result<Spans, Complaint> {
        let span = |text: &str| {
            let span = value::span(text.trim())?;
            if span < SPAN_MIN {
                let what = format!("is {}, which is too short", text.trim());
                return Err(Complaint::new(what, "write 1ms or more"));
            }
            Ok(span)
        };
        if let Some(mean) = text
            .strip_prefix("exp(")
            .and_then(|text| text.strip_suffix(')'))
        {
            return Ok(Spans::Exponential(span(mean)?));
        }
        match text.split_once("..") {
            Some((low, high)) => {
                let (low, high) = (span(low)?, span(high)?);
                if low > high {
                    let what = format!("is `{text}`, whose first time is the longer one");
                    return Err(Complaint::new(what, "write the shorter one first"));
                }
                Ok(Spans::Between(low, high))
            }
            None => Ok(Spans::Fixed(span(text)?)),
        }
    }

    /// As a user would write it.
    pub fn show(&self) -> String {
        let show = |span: &Duration| value::show_span(*span);
        match self {
            Spans::Fixed(span) => show(span),
            Spans::Between(low, high) => format!("{}..{}", show(low), show(high)),
            Spans::Exponential(mean) => format!("exp({})", show(mean)),
        }
    }

    /// One of them, in nanoseconds; `draw` is any number, as random as can be.
    pub fn pick_ns(&self, draw: u64) -> u64 {
        let share = ((draw >> 11) + 1) as f64 / (1u64 << 53) as f64;
        let span = match self {
            Spans::Fixed(span) => span.as_nanos() as f64,
            Spans::Between(low, high) => {
                let (low, high) = (low.as_nanos() as f64, high.as_nanos() as f64);
                low + (high - low) * share
            }
            Spans::Exponential(mean) => -share.ln() * mean.as_nanos() as f64,
        };
        span as u64
    }
}

/// Clients do not come and go more often than that.
const SPAN_MIN: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::mix;

    #[test]
    fn spans_read_back_and_have_their_mean() {
        for (text, mean_s) in [("10s", 10.0), ("1s..3s", 2.0), ("exp(4s)", 4.0)] {
            let spans = Spans::parse(text).unwrap();
            assert_eq!(spans.show(), text);
            let sum: u64 = (0..20_000).map(|n| spans.pick_ns(mix(n + 1))).sum();
            let mean = sum as f64 / 20_000.0 / 1e9;
            assert!((mean / mean_s - 1.0).abs() < 0.03, "{text}: {mean}");
        }
        for text in ["", "0", "3s..1s", "exp(", "exp(x)", "1..2 parsecs"] {
            assert!(Spans::parse(text).is_err(), "{text}");
        }
    }
}
