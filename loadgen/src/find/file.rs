//! What a search for the largest load found: the file that `ringload find-max --json FILE` writes,
//! and the sentence that says it.
//!
//! Loads are messages published per second, or connections; conventions are those of `report`.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::Vary;
use super::room::Growth;
use crate::bound::{Bound, What};
use crate::progress::micros;
use crate::report::{Machine, ScenarioNote, Trouble};
use crate::search::{Answer, Ceiling, Conclusion, Confirmed};

/// The value of [`CapacityFile::format`].
pub const FORMAT: &str = "ringload-capacity";
/// Goes up when a field changes its meaning or goes away; new optional fields leave it.
pub const FORMAT_VERSION: u32 = 1;

/// Everything about one search, or several of the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapacityFile {
    /// [`FORMAT`].
    pub format: String,
    /// [`FORMAT_VERSION`].
    pub version: u32,
    /// Given with `--label`.
    pub label: Option<String>,
    /// Version of ringload.
    pub ringload: String,
    /// The command line, program name first; secrets are `***`.
    pub command: Vec<String>,
    /// When it began.
    pub started_unix_ms: u64,
    /// Whose rates were varied.
    pub scenario: ScenarioNote,
    /// The broker's address.
    pub target: String,
    /// Where ringload ran.
    pub machine: Machine,
    /// The command line of the broker; empty without `--pid`.
    pub broker_command: String,
    /// What had to be kept to.
    pub limits: Vec<String>,
    /// The answer, for people.
    pub sentence: String,
    /// Why the search came to nothing, or to less than was wanted; absent if it did not.
    pub failed: Option<String>,
    /// By Ctrl-C or SIGTERM.
    pub interrupted: bool,
    /// Searches that were wanted; absent in older files.
    #[serde(default)]
    pub searches: Option<u32>,
    /// What was varied: loads are messages per second, or connections.
    #[serde(default)]
    pub vary: Vary,
    /// One for each search.
    pub rounds: Vec<Round>,
}

/// One search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Round {
    /// What it found.
    pub answer: Answer,
    /// What the lowest bad load was bound by; absent without `--pid`.
    pub bound: Option<Bound>,
    /// What connections take; absent where they were not varied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth: Option<Growth>,
    /// Deliveries that a message owes, in the mean.
    pub deliveries_per_message: f64,
    /// All trials and confirmations, in their order.
    pub trials: Vec<TrialNote>,
    /// What went wrong with connections and messages, by kind.
    pub troubles: Vec<Trouble>,
    /// It did not come to its end: it failed, or was interrupted.
    #[serde(default)]
    pub cut_short: bool,
}

/// One trial or confirmation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrialNote {
    /// When it began, seconds after the first publication.
    pub at_s: f64,
    /// How long it took.
    pub span_s: f64,
    /// The load that was wanted.
    pub load: f64,
    /// What it came to.
    pub outcome: Outcome,
    /// Which limits were missed, or why it is void; empty if it was good.
    pub why: String,
    /// Messages published per second.
    pub sent_per_s: f64,
    /// Deliveries per second.
    pub received_per_s: f64,
    /// Corrected latency; absent if nothing was delivered.
    pub p50_us: Option<u64>,
    /// The same.
    pub p99_us: Option<u64>,
    /// The same.
    pub max_us: Option<u64>,
    /// Deliveries that never came.
    pub lost: u64,
    /// CPU of the broker, cores; absent without `--pid`.
    pub broker_cores: Option<f64>,
    /// 99 % of the connections took at most this, from when they were due; absent where they were
    /// not varied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_p99_us: Option<u64>,
}

/// What a trial came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Every limit was met.
    Good,
    /// One was missed.
    Bad,
    /// The generator or the machine was at fault.
    Void,
}

impl CapacityFile {
    /// The file, readable for people too.
    pub fn to_json(&self) -> String {
        let mut text =
            serde_json::to_string_pretty(self).expect("no map with other keys than text");
        text.push('\n');
        text
    }
}

/// The answer in a sentence; of several searches the one in the middle. A search that failed has
/// none.
pub fn sentence(file: &CapacityFile) -> String {
    let finished = file.rounds.iter().filter(|round| !round.cut_short);
    let finished: Vec<&Round> = finished.collect();
    // The only search shows something before its end, if it was the user who ended it.
    let counted: Vec<&Round> = match &file.failed {
        None if finished.is_empty() => file.rounds.iter().collect(),
        _ => finished.clone(),
    };
    let mut loads: Vec<f64> = counted
        .iter()
        .filter_map(|round| load_of(&round.answer))
        .collect();
    loads.sort_by(f64::total_cmp);
    let Some(typical) = typical(&counted, &loads) else {
        return match (&file.failed, file.interrupted) {
            (Some(why), _) => format!("was not measured: the search failed: {why}"),
            (None, true) => "was not measured: the search had only begun".to_owned(),
            (None, false) => "was not measured".to_owned(),
        };
    };
    let mut text = answer_of(file, typical);
    if typical.cut_short {
        text += "; the search was interrupted: this is what is known so far";
    } else if typical.answer.conclusion == Conclusion::Unfinished {
        text += "; the search ended before it was as close as it was to be";
    }
    if let Some(bound) = typical
        .bound
        .as_ref()
        .filter(|_| is_at_limit(&typical.answer))
    {
        let _ = write!(text, "; bound by: {}", bound.by.sentence);
    }
    if let ([least, .., most], count) = (loads.as_slice(), loads.len()) {
        let (least, most) = (rounded(*least), rounded(*most));
        let _ = write!(text, "; the median of {count} searches, {least} to {most}");
    }
    text + &shortfall(file, finished.len())
}

/// Why fewer searches came to their end than were wanted; empty if none is missing, or the rest of
/// the sentence says it.
fn shortfall(file: &CapacityFile, finished: usize) -> String {
    let wanted = file
        .searches
        .map_or(file.rounds.len(), |wanted| wanted as usize);
    if wanted < 2 || finished >= wanted {
        return String::new();
    }
    let why = match (&file.failed, file.interrupted) {
        (Some(why), _) => format!("the next one failed: {why}"),
        (None, true) => "interrupted".to_owned(),
        (None, false) => return String::new(),
    };
    format!("; {finished} of {wanted} searches finished; {why}")
}

/// What one search has found.
fn answer_of(file: &CapacityFile, round: &Round) -> String {
    let what = format!(
        "of `{}` with {}",
        file.scenario.name,
        file.limits.join(" and ")
    );
    let answer = &round.answer;
    let unit = file.vary.unit();
    let interval = |answer: &Answer| match (answer.low, answer.high) {
        (Some(low), Some(high)) => format!(" (95 %: {}-{})", rounded(low), rounded(high)),
        _ => String::new(),
    };
    match (answer.conclusion, load_of(answer)) {
        (Conclusion::NoneMeets, _) => format!("does not keep to the limits at any load {what}"),
        (Conclusion::AtLeast(ceiling), Some(_)) => {
            let lower = answer.lower.map_or("?".to_owned(), rounded);
            let why = match ceiling {
                Ceiling::Generator => "the generator did not let us see more",
                Ceiling::Machine => {
                    "the generator waited for its core, which others use, so that more could not \
                     be seen"
                }
                Ceiling::LoadMax => "more was not tried",
            };
            let stopped = round
                .growth
                .as_ref()
                .and_then(|growth| growth.stopped.as_ref());
            let why = match (stopped, ceiling) {
                (Some(stopped), Ceiling::LoadMax) => format!("{why}: {stopped}"),
                _ => why.to_owned(),
            };
            format!("holds at least {lower} {unit} {what}; {why}")
        }
        (_, Some(load)) => {
            let load = rounded(load);
            let holds = format!("holds {load} {unit}{} {what}", interval(answer));
            holds + &unconfirmed(answer, file.vary)
        }
        (_, None) => match (answer.lower.or(answer.low), answer.upper.or(answer.high)) {
            (Some(lower), _) => format!("holds {} {unit} {what}, and perhaps more", rounded(lower)),
            (None, Some(upper)) => format!("does not hold {} {unit} {what}", rounded(upper)),
            (None, None) => format!("was not seen at its limit {what}"),
        },
    }
}

/// What the headline owes to confirmations that all failed; empty if one held, or none was made.
fn unconfirmed(answer: &Answer, vary: Vary) -> String {
    match (answer.confirmations.last(), answer.confirmed()) {
        (Some(last), None) => format!(
            " in most seconds, but not over {} s, down to {} {}",
            last.seconds,
            rounded(last.load),
            vary.unit()
        ),
        _ => String::new(),
    }
}

/// A load was seen that the broker does not hold, and it is the broker's own limit.
fn is_at_limit(answer: &Answer) -> bool {
    match answer.conclusion {
        Conclusion::Found | Conclusion::Unfinished => answer.upper.is_some(),
        Conclusion::AtLeast(_) | Conclusion::NoneMeets => false,
    }
}

/// The search whose load is in the middle.
fn typical<'a>(rounds: &[&'a Round], loads: &[f64]) -> Option<&'a Round> {
    let middle = loads.get(loads.len() / 2);
    let mut rounds = rounds.iter().copied();
    match middle {
        Some(load) => rounds.find(|round| load_of(&round.answer) == Some(*load)),
        None => rounds.next(),
    }
}

/// The load that an answer is about.
fn load_of(answer: &Answer) -> Option<f64> {
    match answer.conclusion {
        Conclusion::AtLeast(_) => answer.lower,
        Conclusion::Found | Conclusion::Unfinished => answer.load.or(answer.lower),
        Conclusion::NoneMeets => None,
    }
}

/// The sentence and what stands behind it.
pub fn summary(file: &CapacityFile) -> String {
    let mut text = format!("{} {}\n", file.target, file.sentence);
    for round in &file.rounds {
        put_round(&mut text, round, file.vary);
    }
    text
}

fn put_round(text: &mut String, round: &Round, vary: Vary) {
    let answer = &round.answer;
    if round.cut_short {
        text.push_str("search    did not come to its end\n");
    }
    let void = answer.void_generator + answer.void_machine;
    let _ = writeln!(
        text,
        "trials    {}, of which {void} void ({} by the generator, {} by other programs)",
        answer.trials, answer.void_generator, answer.void_machine
    );
    if !round.cut_short
        && (round.deliveries_per_message - 1.0).abs() > 1e-9
        && let Some(load) = load_of(answer)
    {
        let _ = writeln!(
            text,
            "that is   {} deliveries/s",
            rounded(load * round.deliveries_per_message)
        );
    }
    if let Some(epsilon) = answer.epsilon.filter(|epsilon| epsilon.low > EPSILON_SHOWN) {
        let _ = writeln!(
            text,
            "pauses    {:.0} % of the seconds miss the limits at any load (95 %: {:.0}-{:.0} %)",
            epsilon.mean * 100.0,
            epsilon.low * 100.0,
            epsilon.high * 100.0
        );
    }
    for confirmed in &answer.confirmations {
        put_confirmed(text, confirmed, vary);
    }
    if let Some(growth) = &round.growth {
        put_growth(text, growth);
    }
    if let Some(bound) = &round.bound {
        let first = std::iter::once(&bound.by).filter(|_| !is_at_limit(answer));
        let rows = first.chain(&bound.rest);
        for row in rows
            .filter(|row| row.what != What::Latency)
            .take(ROWS_SHOWN)
        {
            let _ = writeln!(
                text,
                "headroom  {:.0} %: {}",
                row.headroom() * 100.0,
                row.sentence
            );
        }
    }
    for trouble in &round.troubles {
        let _ = writeln!(
            text,
            "trouble   {} x {}: {}",
            trouble.count, trouble.kind, trouble.first
        );
    }
}

fn put_growth(text: &mut String, growth: &Growth) {
    let kib = |bytes: f64| format!("{:.1} KiB", bytes / 1024.0);
    let parts = [
        growth
            .broker_bytes
            .map(|bytes| format!("{} of the broker", kib(bytes))),
        growth
            .machine_bytes
            .map(|bytes| format!("{} with all that shares its memory", kib(bytes))),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if !parts.is_empty() {
        let _ = writeln!(text, "memory    each connection takes {}", parts.join(", "));
    }
}

fn put_confirmed(text: &mut String, confirmed: &Confirmed, vary: Vary) {
    let word = if confirmed.held { "held" } else { "MISSED" };
    let percentiles = confirmed.percentiles.iter().map(|pooled| {
        let times = [pooled.value_us, pooled.low_us, pooled.high_us].map(micros);
        let [value, low, high] = times;
        format!(
            ", p{} {value} (95 %: {low} to {high})",
            pooled.quantile * 100.0
        )
    });
    let percentiles: Vec<String> = percentiles.collect();
    let _ = writeln!(
        text,
        "confirmed {} for {} s: {word}{}",
        load_text(confirmed.load, vary),
        confirmed.seconds,
        percentiles.concat()
    );
}

/// `186,000/s`, or `41,200 connections`.
pub(super) fn load_text(load: f64, vary: Vary) -> String {
    match vary {
        Vary::Rate => format!("{}/s", rounded(load)),
        Vary::Connections | Vary::Scale => format!("{} connections", rounded(load)),
    }
}

/// A load with three digits, and commas: `186,000`.
pub fn rounded(load: f64) -> String {
    if load < 1.0 {
        return format!("{load:.3}");
    }
    let digits = load.log10().floor() as i32;
    let unit = 10f64.powi((digits - 2).max(-1));
    let number = (load / unit).round() * unit;
    if unit < 1.0 {
        return format!("{number:.1}");
    }
    let plain = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in plain.chars().enumerate() {
        if at > 0 && (plain.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Fewer seconds are chance.
const EPSILON_SHOWN: f64 = 0.02;
/// What is nearest to its end says what comes next.
const ROWS_SHOWN: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(conclusion: Conclusion, load: Option<f64>) -> Answer {
        Answer {
            conclusion,
            load,
            low: load.map(|load| load * 0.96),
            high: load.map(|load| load * 1.03),
            spread: None,
            epsilon: None,
            lower: load.map(|load| load * 0.99),
            upper: load.map(|load| load * 1.01),
            trials: 40,
            void_generator: 1,
            void_machine: 2,
            tried: Vec::new(),
            confirmations: Vec::new(),
        }
    }

    fn file(answers: Vec<Answer>) -> CapacityFile {
        let round = |answer| Round {
            answer,
            bound: None,
            growth: None,
            deliveries_per_message: 1.0,
            trials: Vec::new(),
            troubles: Vec::new(),
            cut_short: false,
        };
        CapacityFile {
            format: FORMAT.to_owned(),
            version: FORMAT_VERSION,
            label: None,
            ringload: String::new(),
            command: Vec::new(),
            started_unix_ms: 0,
            scenario: ScenarioNote {
                name: "sensors".to_owned(),
                about: String::new(),
                toml: String::new(),
            },
            target: "b:1883".to_owned(),
            machine: Machine {
                cpu: String::new(),
                cores: 1,
                memory_bytes: 0,
                kernel: String::new(),
                load_before: 0.0,
                host: String::new(),
                governor: None,
                sysctls: Vec::new(),
            },
            broker_command: String::new(),
            limits: vec!["latency.p99 < 5ms".to_owned(), "lost = 0".to_owned()],
            sentence: String::new(),
            failed: None,
            interrupted: false,
            searches: None,
            vary: Vary::Rate,
            rounds: answers.into_iter().map(round).collect(),
        }
    }

    #[test]
    fn what_no_minute_confirmed_is_said_in_the_headline() {
        let minute = |load, held| Confirmed {
            load,
            seconds: 60,
            held,
            percentiles: Vec::new(),
        };
        let mut found = answer(Conclusion::Found, Some(1000.0));
        found.confirmations = vec![minute(980.0, false), minute(960.0, false)];
        let missed = sentence(&file(vec![found.clone()]));
        assert!(
            missed.ends_with(" in most seconds, but not over 60 s, down to 960 msg/s"),
            "{missed}"
        );
        found.confirmations.push(minute(920.0, true));
        let held = sentence(&file(vec![found]));
        assert!(held.ends_with("lost = 0"), "{held}");
    }

    #[test]
    fn what_was_found_is_a_sentence() {
        let limits = "of `sensors` with latency.p99 < 5ms and lost = 0";
        let found = |load| answer(Conclusion::Found, Some(load));
        for (answers, expected) in [
            (
                vec![found(186_123.0)],
                format!("holds 186,000 msg/s (95 %: 179,000-192,000) {limits}"),
            ),
            (
                vec![answer(Conclusion::AtLeast(Ceiling::Machine), Some(1000.0))],
                format!(
                    "holds at least 990 msg/s {limits}; the generator waited for its core, which \
                     others use, so that more could not be seen"
                ),
            ),
            (
                vec![answer(Conclusion::NoneMeets, None)],
                format!("does not keep to the limits at any load {limits}"),
            ),
            (
                vec![found(900.0), found(1200.0), found(1000.0)],
                format!(
                    "holds 1,000 msg/s (95 %: 960-1,030) {limits}; the median of 3 searches, 900 \
                     to 1,200"
                ),
            ),
            (Vec::new(), "was not measured".to_owned()),
        ] {
            assert_eq!(sentence(&file(answers)), expected);
        }
    }

    #[test]
    fn an_interrupted_search_says_what_is_known() {
        let mut unfinished = answer(Conclusion::Unfinished, None);
        unfinished.lower = Some(5000.0);
        let mut file = file(vec![unfinished]);
        file.interrupted = true;
        file.rounds[0].cut_short = true;
        let text = sentence(&file);
        assert!(text.starts_with("holds 5,000 msg/s of"), "{text}");
        assert!(text.ends_with("what is known so far"), "{text}");
    }

    #[test]
    fn a_search_that_failed_claims_nothing() {
        let at_least = answer(Conclusion::AtLeast(Ceiling::LoadMax), Some(300.0));
        let mut file = file(vec![at_least]);
        file.failed = Some("all connections were lost".to_owned());
        file.rounds[0].cut_short = true;
        let expected = "was not measured: the search failed: all connections were lost";
        assert_eq!(sentence(&file), expected);
        file.sentence = sentence(&file);
        assert!(!summary(&file).contains("300"), "{}", summary(&file));
    }

    #[test]
    fn only_searches_that_finished_count() {
        let found = |load| answer(Conclusion::Found, Some(load));
        let mut file = file(vec![found(1000.0), found(3000.0)]);
        file.searches = Some(2);
        file.interrupted = true;
        file.rounds[1].cut_short = true;
        let text = sentence(&file);
        assert!(text.starts_with("holds 1,000 msg/s"), "{text}");
        assert!(
            text.ends_with("; 1 of 2 searches finished; interrupted"),
            "{text}"
        );
        assert!(!text.contains("median"), "{text}");
        (file.interrupted, file.failed) = (false, Some("it died".to_owned()));
        let end = "; 1 of 2 searches finished; the next one failed: it died";
        assert!(sentence(&file).ends_with(end), "{}", sentence(&file));
        file.searches = Some(3);
        file.rounds[1].cut_short = false;
        let end = "; the median of 2 searches, 1,000 to 3,000; 2 of 3 searches finished; the next \
                   one failed: it died";
        assert!(sentence(&file).ends_with(end), "{}", sentence(&file));
    }

    #[test]
    fn loads_have_three_digits() {
        for (load, expected) in [
            (0.25, "0.250"),
            (7.26, "7.3"),
            (99.95, "100.0"),
            (186_499.0, "186,000"),
            (1_234_567.0, "1,230,000"),
            (12.0, "12.0"),
        ] {
            assert_eq!(rounded(load), expected, "{load}");
        }
    }
}
