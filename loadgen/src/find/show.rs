//! What a search says while it goes on, and in the end.

use std::io::{self, IsTerminal as _, Write as _};

use super::file::{CapacityFile, Outcome, TrialNote, rounded};
use super::{FindOptions, Vary};
use crate::progress::micros;
use crate::search::Answer;

/// A search begins.
pub(super) fn begin(options: &FindOptions, number: u32) {
    if options.run.quiet {
        return;
    }
    let limits: Vec<&str> = options.limits.iter().map(|limit| limit.as_str()).collect();
    let mut text = format!(
        "{}: {} of `{}` with {}",
        options.run.target,
        match options.vary {
            Vary::Rate => "the largest rate",
            Vary::Connections => "the most connections",
            Vary::Scale => "the largest scale",
        },
        options.run.scenario.name,
        limits.join(", ")
    );
    if options.repeat > 1 {
        text += &format!("; search {} of {}", number + 1, options.repeat);
    }
    err(&format!("{text}\n"));
}

/// A trial or a confirmation is over. Trials are numbered as the answer counts them.
pub(super) fn trial(
    options: &FindOptions,
    confirms: bool,
    note: &TrialNote,
    span_s: f64,
    answer: &Answer,
) {
    if options.run.quiet {
        return;
    }
    let word = match note.outcome {
        Outcome::Good => "good",
        Outcome::Bad => "bad",
        Outcome::Void => "void",
    };
    let p99 = note.p99_us.map_or("-".to_owned(), micros);
    let connect = match note.connect_p99_us {
        Some(us) => format!("  connect p99 {:>8}", micros(us)),
        None => String::new(),
    };
    let known = match (answer.lower, answer.upper) {
        (None, None) => String::new(),
        (lower, upper) => {
            let end = |load: Option<f64>| load.map_or("?".to_owned(), rounded);
            format!("  [{} .. {}]", end(lower), end(upper))
        }
    };
    let why = match note.why.as_str() {
        "" => String::new(),
        why => format!("  {}", first_words(why)),
    };
    let number = match confirms {
        true => "conf".to_owned(),
        false => answer.trials.to_string(),
    };
    err(&format!(
        "{number:>4}  {span_s:4.1} s  {:>10}{}  {word:4}  p99 {p99:>8}{connect}{known}{why}\n",
        rounded(note.load),
        match options.vary {
            Vary::Rate => "/s",
            Vary::Connections | Vary::Scale => "",
        }
    ));
}

/// All that is known.
pub(super) fn end(file: &CapacityFile, quiet: bool, to_stdout: bool) {
    let text = super::file::summary(file);
    match (quiet, to_stdout) {
        (true, _) => {}
        (false, true) => err(&text),
        (false, false) => out(&text),
    }
}

/// What is the result.
pub(super) fn out(text: &str) {
    // There is nobody left to report a failure to.
    let _ = io::stdout().write_all(text.as_bytes());
}

fn err(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// So much of a reason that a line stays one, on a terminal.
fn first_words(text: &str) -> String {
    let text = text.split([':', ';']).next().unwrap_or(text);
    let width = match io::stderr().is_terminal() {
        true => WHY_WIDTH,
        false => usize::MAX,
    };
    text.chars().take(width).collect()
}

const WHY_WIDTH: usize = 60;
