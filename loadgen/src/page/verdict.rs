//! What comes before all numbers: whether the runs are valid, kept to their thresholds, and lost
//! nothing.

use maud::{Markup, html};

use super::plots::took_place;
use super::subject::{Scenario, Subject};
use super::text;
use super::view::all_files;
use crate::report::{Check, Judgement, Reason, ResultFile, Verdict};
use crate::summary::faults;

/// One sentence about all runs.
pub(super) fn verdict(scenarios: &[Scenario]) -> Markup {
    let files: Vec<&ResultFile> = all_files(scenarios).collect();
    if files.is_empty() {
        return html! {};
    }
    let judged = |judgement: Judgement| {
        let all = files.iter().flat_map(|file| &file.verdicts);
        all.filter(|verdict| verdict.judgement == judgement).count()
    };
    let (met, missed) = (judged(Judgement::Passed), judged(Judgement::Missed));
    let took: Vec<&ResultFile> = files
        .iter()
        .copied()
        .filter(|file| took_place(file))
        .collect();
    let failed = files.len() - took.len();
    let invalid = took.iter().filter(|file| !file.validity.valid).count();
    let faulty = took
        .iter()
        .filter(|f| !faults(&f.totals.ledger).is_empty())
        .count();
    let mut parts: Vec<String> = of_thresholds(met, missed).into_iter().collect();
    match (failed, files.len()) {
        (0, _) => {}
        (1, 1) => parts.push("the run did not take place".to_owned()),
        (failed, all) if failed == all => parts.push(format!("none of the {all} runs took place")),
        (failed, all) => parts.push(format!("{failed} of {} did not take place", of(all, "run"))),
    }
    match (invalid, took.len()) {
        (0, _) => {}
        (1, 1) => parts.push("the run is not valid".to_owned()),
        (invalid, all) if invalid == all => parts.push(format!("none of the {all} runs is valid")),
        (invalid, all) => parts.push(format!("{invalid} of {} not valid", of(all, "run"))),
    }
    match faulty {
        0 if took.iter().any(|file| file.totals.ledger.owed > 0) => parts.push(match failed {
            0 => "every delivery arrived once and in order".to_owned(),
            _ => "every delivery of the others arrived once and in order".to_owned(),
        }),
        0 => {}
        faulty => parts.push(format!("{faulty} of {} had faults", of(took.len(), "run"))),
    }
    if invalid == 0 && failed == 0 {
        parts.push(match files.len() {
            1 => "the run is valid".to_owned(),
            all => format!("all {all} runs are valid"),
        });
    }
    let (class, sign) = match (missed + faulty + failed, invalid) {
        (0, 0) => ("good", "✓"),
        (0, _) => ("doubt", "!"),
        (_, _) => ("bad", "✗"),
    };
    html! {
        p class={ "verdict " (class) } {
            span.sign aria-hidden="true" { span { (sign) } }
            (capital(&parts.join("; "))) "."
        }
    }
}

fn of_thresholds(met: usize, missed: usize) -> Option<String> {
    match (met, missed) {
        (0, 0) => None,
        (1, 0) => Some("the threshold was met".to_owned()),
        (met, 0) => Some(format!("all {met} thresholds were met")),
        (met, missed) => {
            let all = of(met + missed, "threshold");
            Some(format!("{missed} of {all} missed"))
        }
    }
}

/// What runs had to keep to.
pub(super) fn thresholds(scenarios: &[Scenario]) -> Markup {
    let runs = scenarios.iter().flat_map(|scenario| {
        let subjects = scenario.subjects.iter();
        subjects
            .flat_map(move |subject| subject.rounds().iter().map(move |r| (scenario, subject, r)))
    });
    let runs: Vec<(&Scenario, &Subject, &ResultFile)> = runs
        .filter(|(_, _, round)| !round.verdicts.is_empty())
        .collect();
    html! {
        @if !runs.is_empty() {
            div.card tabindex="0" { table.thresholds {
                thead { tr { th { "threshold" } th { "run" } th { "measured" } th { "verdict" } } }
                tbody { @for (scenario, subject, round) in runs { @for verdict in &round.verdicts {
                    tr {
                        td { code { (verdict.threshold) } }
                        td {
                            bdi { (subject.label) } ", " (scenario.title)
                            @if let Some(stage) = &verdict.stage { ", stage " (stage) }
                        }
                        td { (verdict.shown) }
                        (judgement(verdict))
                    }
                } } }
            } }
        }
    }
}

fn judgement(verdict: &Verdict) -> Markup {
    let (class, text) = match verdict.judgement {
        Judgement::Passed => ("good", "✓ met"),
        Judgement::Missed => ("bad", "✗ missed"),
        Judgement::NotJudged => ("doubt", "? not judged"),
    };
    html! { td class=(class) { (text) } }
}

/// Runs that did not take place, and those that cannot be trusted, by what is wrong with them.
pub(super) fn doubts(scenarios: &[Scenario]) -> Markup {
    let (mut doubts, mut failures): (Vec<Doubt>, Vec<Doubt>) = (Vec::new(), Vec::new());
    for scenario in scenarios {
        for subject in &scenario.subjects {
            for round in subject.rounds() {
                let run = format!("{}, {}", text::isolated(&subject.label), scenario.title);
                for reason in &round.validity.reasons {
                    match reason.check {
                        Check::Failed => add(&mut failures, reason, &run),
                        _ => add(&mut doubts, reason, &run),
                    }
                }
            }
        }
    }
    html! {
        @if !failures.is_empty() {
            div.card.notice {
                p { b { "Did not take place" } ": there is nothing to see of these runs." }
                ul { @for failure in &failures { li { (failure.show()) } } }
            }
        }
        @if !doubts.is_empty() {
            div.card.notice {
                p { b { "Not valid" } ": the generator or the machine was at fault, so these numbers say \
                     little about the broker. They do not count where there is a valid round." }
                ul { @for doubt in &doubts { li { (doubt.show()) } } }
            }
        }
    }
}

/// A check that failed, in some runs.
struct Doubt {
    check: Check,
    /// What was said about the first run.
    text: String,
    /// Each run once, with how often it failed the check.
    runs: Vec<(String, usize)>,
}

fn add(doubts: &mut Vec<Doubt>, reason: &Reason, run: &str) {
    // Runs fail for different reasons, and each has to be said.
    let is_same = |doubt: &Doubt| match reason.check {
        Check::Failed => doubt.text == reason.text,
        check => doubt.check == check,
    };
    let known = doubts.iter().position(is_same);
    let at = known.unwrap_or_else(|| {
        doubts.push(Doubt {
            check: reason.check,
            text: reason.text.clone(),
            runs: Vec::new(),
        });
        doubts.len() - 1
    });
    let runs = &mut doubts[at].runs;
    match runs.iter_mut().find(|(known, _)| known == run) {
        Some((_, count)) => *count += 1,
        None => runs.push((run.to_owned(), 1)),
    }
}

impl Doubt {
    fn show(&self) -> Markup {
        let count: usize = self.runs.iter().map(|(_, count)| count).sum();
        let run = |(name, count): &(String, usize)| match count {
            1 => name.clone(),
            count => format!("{name} ({count} times)"),
        };
        let runs: Vec<String> = self.runs.iter().map(run).collect();
        html! {
            (self.text)
            @if count > 1 {
                details {
                    summary { "and " (count - 1) " more of this kind" }
                    (runs.join("; "))
                }
            } @else {
                " " small { "(" (runs.join("; ")) ")" }
            }
        }
    }
}

/// `1 run`, `3 runs`.
pub(super) fn of(count: usize, name: &str) -> String {
    match count {
        1 => format!("1 {name}"),
        count => format!("{count} {name}s"),
    }
}

pub(super) fn capital(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters
        .next()
        .map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + characters.as_str()
}
