//! The progress line on stderr.

use std::io::{IsTerminal as _, Write as _};

use crate::shared::Stage;

/// Shows how a run goes.
#[derive(Debug)]
pub struct Progress {
    kind: Kind,
    next_ns: u64,
    /// Time, sent and received when it was last shown.
    last: Option<(u64, u64, u64)>,
    width: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing.
    Off,
    /// One line, written over again.
    Live,
    /// A line every five seconds, for logs.
    Lines,
}

/// The state of a run.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    /// The time.
    pub now_ns: u64,
    /// When the run began.
    pub began_ns: u64,
    /// Where it stands.
    pub stage: Stage,
    /// Beginning and end of the window.
    pub window: (u64, u64),
    /// Clients of the scenario.
    pub clients: u64,
    /// Connected and subscribed.
    pub ready: u64,
    /// Messages published.
    pub sent: u64,
    /// Deliveries.
    pub received: u64,
    /// Troubles.
    pub errors: u64,
    /// Of the last second.
    pub p99_us: Option<u64>,
    /// Cores, in the last second.
    pub broker_cpu: Option<f64>,
}

impl Progress {
    /// Live on a terminal, in lines elsewhere; or not at all.
    pub fn new(quiet: bool) -> Progress {
        let kind = match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Kind::Off,
            (false, true) => Kind::Live,
            (false, false) => Kind::Lines,
        };
        Progress {
            kind,
            next_ns: 0,
            last: None,
            width: 0,
        }
    }

    /// It is time to show something.
    pub fn is_due(&self, now_ns: u64) -> bool {
        self.kind != Kind::Off && now_ns >= self.next_ns
    }

    /// Shows it.
    pub fn show(&mut self, snapshot: &Snapshot) {
        let line = self.line(snapshot);
        let interval = match self.kind {
            Kind::Off => return,
            Kind::Live => {
                // What is left of a longer line is written over.
                let _ = write!(std::io::stderr(), "\r{line:width$}", width = self.width);
                self.width = line.chars().count();
                LIVE_NS
            }
            Kind::Lines => {
                let _ = writeln!(std::io::stderr(), "{line}");
                LINES_NS
            }
        };
        self.next_ns = snapshot.now_ns + interval;
        self.last = Some((snapshot.now_ns, snapshot.sent, snapshot.received));
    }

    /// The last line is over.
    pub fn finish(&mut self) {
        if self.kind == Kind::Live && self.width > 0 {
            let _ = write!(std::io::stderr(), "\r{:width$}\r", "", width = self.width);
            self.width = 0;
        }
    }

    fn line(&self, s: &Snapshot) -> String {
        let elapsed = (s.now_ns - s.began_ns) as f64 / 1e9;
        let (start, end) = s.window;
        let step = match s.stage {
            Stage::Connect => "connecting".to_owned(),
            Stage::Publish if s.now_ns < start => "warming up".to_owned(),
            Stage::Publish if end > start && end != u64::MAX => {
                let share = (s.now_ns - start) as f64 / (end - start) as f64;
                format!("measuring {:3.0} %", share.min(1.0) * 100.0)
            }
            Stage::Publish => "measuring".to_owned(),
            Stage::Drain => "draining".to_owned(),
            Stage::End => "ending".to_owned(),
        };
        let mut line = format!(
            "{elapsed:6.1} s  {step:15} clients {}/{}",
            s.ready, s.clients
        );
        if s.stage != Stage::Connect
            && let Some((at, sent, received)) = self.last
        {
            let span = (s.now_ns - at).max(1) as f64 / 1e9;
            let rate = |now: u64, before: u64| short(now.saturating_sub(before) as f64 / span);
            line += &format!(
                "  in {}/s  out {}/s",
                rate(s.sent, sent),
                rate(s.received, received)
            );
        }
        if let Some(p99) = s.p99_us {
            line += &format!("  p99 {}", micros(p99));
        }
        if let Some(cpu) = s.broker_cpu {
            line += &format!("  broker {cpu:.2} cores");
        }
        if s.errors > 0 {
            line += &format!("  errors {}", s.errors);
        }
        line
    }
}

/// A number with three digits or so: `123`, `45.2k`, `1.23M`.
pub fn short(number: f64) -> String {
    match number {
        n if n >= 1e9 => format!("{:.2}G", n / 1e9),
        n if n >= 1e6 => format!("{:.2}M", n / 1e6),
        n if n >= 1e4 => format!("{:.1}k", n / 1e3),
        n if n >= 100.0 || n == n.trunc() => format!("{n:.0}"),
        n => format!("{n:.1}"),
    }
}

/// A time for people: `85 us`, `3.42 ms`, `1.20 s`.
pub fn micros(us: u64) -> String {
    match us {
        0..1000 => format!("{us} us"),
        1000..1_000_000 => format!("{:.2} ms", us as f64 / 1e3),
        _ => format!("{:.2} s", us as f64 / 1e6),
    }
}

const LIVE_NS: u64 = 200_000_000;
const LINES_NS: u64 = 5_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (number, expected) in [
            (0.0, "0"),
            (0.2, "0.2"),
            (7.0, "7"),
            (123.4, "123"),
            (9999.0, "9999"),
            (45_210.0, "45.2k"),
            (1_234_000.0, "1.23M"),
        ] {
            assert_eq!(short(number), expected);
        }
        for (us, expected) in [(85, "85 us"), (3420, "3.42 ms"), (1_200_000, "1.20 s")] {
            assert_eq!(micros(us), expected);
        }
    }
}
