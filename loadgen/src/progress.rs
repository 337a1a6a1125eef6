//! What is shown on stderr while a run goes on: a panel on a terminal, lines elsewhere.

use std::io::Write as _;

use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::panel;
use crate::report::Second;
use crate::shared::Stage;

/// Shows how a run goes.
#[derive(Debug)]
pub struct Progress {
    kind: Kind,
    next_ns: u64,
    /// Time, sent and received when it was last shown.
    last: Option<(u64, u64, u64)>,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Nothing.
    Off,
    /// A panel, drawn over again. What draws it knows how to take it away, too.
    Live(Term, ProgressBar),
    /// A line every five seconds, for logs.
    Lines,
}

/// The state of a run.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    /// What is run: the scenario and the broker.
    pub name: &'a str,
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
    /// The seconds of the publishing so far.
    pub seconds: &'a [Second],
}

impl Snapshot<'_> {
    /// What the run is doing, in a word or two.
    pub fn step(&self) -> &'static str {
        match self.stage {
            Stage::Connect => "connecting",
            Stage::Publish if self.now_ns < self.window.0 => "warming up",
            Stage::Publish => "measuring",
            Stage::Drain => "draining",
            Stage::End => "ending",
        }
    }

    /// How much of the window is over, if that is known.
    pub fn share(&self) -> Option<f64> {
        let (start, end) = self.window;
        let is_known = self.stage == Stage::Publish && self.now_ns >= start;
        let is_known = is_known && end > start && end != u64::MAX;
        is_known.then(|| ((self.now_ns - start) as f64 / (end - start) as f64).min(1.0))
    }
}

impl Progress {
    /// A panel on a terminal, lines elsewhere; or nothing at all.
    pub fn new(quiet: bool) -> Progress {
        let term = Term::stderr();
        let kind = match (quiet, term.is_term()) {
            (true, _) => Kind::Off,
            (false, true) => {
                let target = ProgressDrawTarget::term(term.clone(), REDRAWS_PER_S);
                let style = ProgressStyle::with_template("{msg}").expect("a valid template");
                let bar = ProgressBar::with_draw_target(None, target).with_style(style);
                Kind::Live(term, bar)
            }
            (false, false) => Kind::Lines,
        };
        Progress {
            kind,
            next_ns: 0,
            last: None,
        }
    }

    /// It is time to show something.
    pub fn is_due(&self, now_ns: u64) -> bool {
        !matches!(self.kind, Kind::Off) && now_ns >= self.next_ns
    }

    /// Shows it.
    pub fn show(&mut self, snapshot: &Snapshot<'_>) {
        let interval = match &self.kind {
            Kind::Off => return,
            Kind::Live(term, bar) => {
                let (_, width) = term.size();
                let is_colored = console::colors_enabled_stderr();
                bar.set_message(panel::draw(snapshot, usize::from(width), is_colored));
                LIVE_NS
            }
            Kind::Lines => {
                let _ = writeln!(std::io::stderr(), "{}", self.line(snapshot));
                LINES_NS
            }
        };
        self.next_ns = snapshot.now_ns + interval;
        self.last = Some((snapshot.now_ns, snapshot.sent, snapshot.received));
    }

    /// The panel goes away.
    pub fn finish(&mut self) {
        if let Kind::Live(_, bar) = &self.kind {
            bar.finish_and_clear();
        }
    }

    fn line(&self, s: &Snapshot<'_>) -> String {
        let elapsed = (s.now_ns - s.began_ns) as f64 / 1e9;
        let step = match s.share() {
            Some(share) => format!("{} {:3.0} %", s.step(), share * 100.0),
            None => s.step().to_owned(),
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
        let last = s.seconds.last();
        if let Some(p99) = last.and_then(|second| second.p99_us) {
            line += &format!("  p99 {}", micros(p99));
        }
        if let Some(cpu) = last.and_then(|second| second.broker_cpu) {
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
/// What the terminal is asked for at most.
const REDRAWS_PER_S: u8 = 10;
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
