//! `ringload capture`: from a running broker to a scenario that puts the same load on any broker.
//!
//! Clients become groups of those that do the same; topics keep their depth, their branching and the lengths of
//! their levels, and nothing else ([`anonymous`]). From Ringmq everything comes from its control plane
//! ([`clients`]); from any broker, a subscriber sees topics, sizes and rates ([`topics`]), and what it
//! cannot see is assumed and marked so in the file.

mod anonymous;
mod class;
mod clients;
mod listen;
mod shape;
mod sizes;
mod topics;
mod write;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::admin::Admin;
use crate::cli::RunOptions;
use crate::plan::Plan;
use crate::progress::short;
use crate::runs::{self, INTERRUPTED};
use crate::scenario::{Scenario, value};
use crate::setup::{self, Failure};
use anonymous::Anonymiser;
use class::Class;
use clients::{Clients, Filter, Row};
use listen::Limits;
use sizes::Shares;
pub use topics::Assumed;
use topics::Topics;
use write::Profile;

/// What is captured, and where to.
#[derive(Debug)]
pub struct Request {
    /// What is looked at.
    pub source: Source,
    /// For how long.
    pub span: Duration,
    /// The file.
    pub out: PathBuf,
    /// What cannot be seen.
    pub assumed: Assumed,
    /// No progress, no summary.
    pub is_quiet: bool,
}

/// What is looked at.
#[derive(Debug)]
pub enum Source {
    /// Ringmq's control plane.
    Admin(Admin),
    /// Any broker, as a subscriber: the only group of the scenario.
    Subscribe {
        /// Where, and how to get in.
        options: Box<RunOptions>,
        /// To what.
        filter: String,
    },
}

/// What was captured.
struct Found {
    classes: Vec<Class>,
    /// The first group that was only assumed.
    first_assumed: usize,
    /// Messages per second from clients, and to them if that is known.
    sent_per_s: f64,
    received_per_s: Option<f64>,
    span: Duration,
    notes: Vec<String>,
}

/// Captures, writes the file, says what is in it; gives the exit code.
pub fn capture(request: &Request) -> Result<u8, Failure> {
    let interrupted = setup::on_interrupt().map_err(|error| Failure::Run(error.to_string()))?;
    let is_over = || interrupted.load(Ordering::Relaxed);
    let found = match &request.source {
        Source::Admin(admin) => from_admin(admin, request, &is_over),
        Source::Subscribe { options, filter } => listened(options, filter, request, &is_over),
    };
    let mut found = found.map_err(Failure::Run)?;
    let profile = profile_of(&found).map_err(Failure::Run)?;
    let (clients, groups) = (
        profile.scenario.client_count(),
        profile.scenario.groups.len(),
    );
    let sums = replayed(&profile.scenario);
    let doubts = doubts(&found, sums.as_ref());
    found.notes.extend(doubts);
    let head = head(&found, &request.source);
    let text = write::text(&profile, &head);
    runs::write(&request.out, text.as_bytes()).map_err(Failure::Run)?;
    if !request.is_quiet {
        let mut out = io::stdout();
        let _ = writeln!(
            out,
            "{}: {clients} clients in {groups} groups, {} messages/s from clients{}",
            request.out.display(),
            short(found.sent_per_s),
            match found.received_per_s {
                Some(per_s) => format!(", {} to them", short(per_s)),
                None => String::new(),
            }
        );
        for note in &found.notes {
            let _ = writeln!(out, "  {note}");
        }
        let _ = writeln!(out, "run it: ringload run {}", run_name(&request.out));
    }
    Ok(if is_over() { INTERRUPTED } else { 0 })
}

/// A file without a folder, and not of TOML by its name, would be taken for a built-in scenario.
fn run_name(path: &std::path::Path) -> String {
    let text = path.display().to_string();
    match text.contains('/') || text.ends_with(".toml") {
        true => text,
        false => format!("./{text}"),
    }
}

/// From Ringmq: two looks at its counters, and lists of its clients between them.
fn from_admin(
    admin: &Admin,
    request: &Request,
    is_over: &dyn Fn() -> bool,
) -> Result<Found, String> {
    let begun = Instant::now();
    let before = Counted::of(admin)?;
    let mut clients = Clients::default();
    let step = (request.span / LISTS).max(LIST_EVERY_MIN).min(request.span);
    let mut next = Duration::ZERO;
    loop {
        let is_last = begun.elapsed() >= request.span || (is_over() && clients.span_s() > 0.0);
        list(admin, &mut clients, begun.elapsed())?;
        if is_last || (is_over() && clients.span_s() > 0.0) {
            break;
        }
        request.progress(begun.elapsed(), &format!("{} clients", clients.count()));
        next = (next + step).min(request.span);
        while begun.elapsed() < next && !is_over() {
            std::thread::sleep(LOOK.min(next.saturating_sub(begun.elapsed())));
        }
    }
    let after = Counted::of(admin)?;
    let mut ask = |id: &str| -> Result<Vec<Filter>, String> {
        let path = format!("/api/v1/clients/{}/subscriptions?limit=200", encoded(id));
        match admin.json(&path) {
            Ok(mut answer) => serde_json::from_value(answer["subscriptions"].take())
                .map_err(|error| format!("{}: {error}", admin.shown())),
            // It has gone meanwhile.
            Err(why) if why.contains("no session") => Ok(Vec::new()),
            Err(why) => Err(why),
        }
    };
    let classes = clients.classes(&after.sizes_since(&before), &mut ask)?;
    if classes.is_empty() {
        return Err(format!("{}: no client was connected", admin.shown()));
    }
    let classes = class::join(classes);
    let (sent_per_s, received_per_s) = clients.per_s();
    let mut notes = vec![
        "RETAIN and the times between messages are not known; messages are spread evenly"
            .to_owned(),
    ];
    let counted = after.publishes_since(&before);
    if (sent_per_s / counted.max(f64::MIN_POSITIVE) - 1.0).abs() > DOUBT && counted > 1.0 {
        notes.push(format!(
            "clients that came and went have sent {} of {} messages/s, and are left out",
            short((counted - sent_per_s).max(0.0)),
            short(counted)
        ));
    }
    Ok(Found {
        first_assumed: classes.len(),
        classes,
        sent_per_s,
        received_per_s: Some(received_per_s),
        span: Duration::from_secs_f64(clients.span_s()),
        notes,
    })
}

/// One list of the clients that are connected.
fn list(admin: &Admin, clients: &mut Clients, at: Duration) -> Result<(), String> {
    clients.begin_list(at.as_secs_f64());
    let (mut wrong, mut is_whole) = (None, false);
    admin.lines(
        "/api/v1/clients?connected=true",
        |line| match serde_json::from_str::<Row>(line) {
            Ok(row) => clients.add(row),
            Err(_) if line.contains("\"missing_shards\":[]") => is_whole = true,
            Err(_) if line.contains("\"missing_shards\"") => {
                wrong = Some("a shard does not answer; try again".to_owned());
            }
            Err(error) => {
                let fix = "a capture needs a Ringmq of the version of this ringload";
                wrong = Some(format!(
                    "its list of clients is not understood: {error}; {fix}"
                ));
            }
        },
    )?;
    match wrong {
        Some(why) => Err(format!("{}: {why}", admin.shown())),
        None if !is_whole => Err(format!("{}: its list of clients broke off", admin.shown())),
        None => Ok(()),
    }
}

/// `GET /api/v1/profile`, as far as it is needed.
#[derive(Debug, Deserialize)]
struct Counted {
    uptime_s: f64,
    publishes_in: [u64; 3],
    payload_sizes: Vec<CountedSize>,
}

#[derive(Debug, Deserialize)]
struct CountedSize {
    min: u32,
    count: u64,
}

impl Counted {
    fn of(admin: &Admin) -> Result<Counted, String> {
        serde_json::from_value(admin.json("/api/v1/profile")?)
            .map_err(|error| format!("{}: its profile is not understood: {error}", admin.shown()))
    }

    fn sizes_since(&self, before: &Counted) -> Shares {
        let mut sizes = Shares::default();
        for size in &self.payload_sizes {
            let mut earlier = before.payload_sizes.iter();
            let earlier = earlier.find(|earlier| earlier.min == size.min);
            let grown = size
                .count
                .saturating_sub(earlier.map_or(0, |earlier| earlier.count));
            if grown > 0 {
                sizes.add_size(size.min as usize, grown as f64);
            }
        }
        sizes
    }

    fn publishes_since(&self, before: &Counted) -> f64 {
        let sum = |counted: &Counted| counted.publishes_in.iter().sum::<u64>();
        let grown = sum(self).saturating_sub(sum(before)) as f64;
        grown / (self.uptime_s - before.uptime_s).max(0.001)
    }
}

/// From any broker, as one of its subscribers.
fn listened(
    options: &RunOptions,
    filter: &str,
    request: &Request,
    is_over: &dyn Fn() -> bool,
) -> Result<Found, String> {
    let mut topics = Topics::default();
    let limits = Limits {
        span: request.span,
        is_over,
    };
    let mut shown = Duration::ZERO;
    let span = listen::listen(options, &[filter, "$SYS/#"], &limits, &mut |message| {
        topics.add(&message);
        if message.at >= shown + SHOW_EVERY {
            shown = message.at;
            let (messages, topics) = topics.counts();
            request.progress(shown, &format!("{messages} messages on {topics} topics"));
        }
    })?;
    let (messages, _) = topics.counts();
    if messages == 0 {
        return Err(format!(
            "{}: nothing was published on `{filter}` for {}",
            options.target,
            value::show_span(span)
        ));
    }
    let guess = topics.guess(span.as_secs_f64(), request.assumed, class::join);
    Ok(Found {
        classes: guess.classes,
        first_assumed: guess.first_assumed,
        sent_per_s: messages as f64 / span.as_secs_f64(),
        received_per_s: None,
        span,
        notes: guess.notes,
    })
}

impl Request {
    fn progress(&self, passed: Duration, what: &str) {
        if !self.is_quiet {
            let _ = writeln!(
                io::stderr(),
                "{:.0} of {:.0} s: {what}",
                passed.as_secs_f64(),
                self.span.as_secs_f64()
            );
        }
    }
}

fn profile_of(found: &Found) -> Result<Profile, String> {
    let names = Anonymiser::new()?;
    let mut scenario = write::scenario(&found.classes, &names);
    scenario.name = "profile".to_owned();
    scenario.about = format!(
        "Captured in {}: {} messages/s",
        value::show_span(rounded(found.span)),
        short(found.sent_per_s)
    );
    scenario.duration = rounded(found.span).max(DURATION_MIN);
    let mut assumed = Vec::new();
    for group in &scenario.groups {
        let number = group
            .name
            .split('-')
            .nth(1)
            .and_then(|number| number.parse().ok());
        let index: usize = number.expect("a group has a number");
        if index > found.first_assumed {
            assumed.push((group.name.clone(), "clients"));
            assumed.push((group.name.clone(), "subscribe"));
        } else if found.received_per_s.is_none() {
            assumed.push((group.name.clone(), "clients"));
        }
    }
    Ok(Profile { scenario, assumed })
}

/// Messages per second from clients and to them, when the profile is run; or why it cannot be.
fn replayed(scenario: &Scenario) -> Result<(f64, f64), String> {
    let plan = Plan::new(scenario.clone(), "0000", 1, false);
    let plan = plan.map_err(|problems| problems[0].to_string())?;
    let (mut sent, mut received) = (0.0, 0.0);
    for (index, group) in scenario.groups.iter().enumerate() {
        let planned = &plan.groups[index];
        let streams = group.clients * planned.topics;
        let per_s = plan.per_s(index);
        let copies = (0..streams).map(|at| plan.streams.copies(planned.first_stream + at));
        let copies: u64 = copies.map(u64::from).sum();
        sent += per_s;
        received += per_s * copies as f64 / f64::from(streams.max(1));
    }
    Ok((sent, received))
}

/// What a replay does not do as it was captured.
fn doubts(found: &Found, sums: Result<&(f64, f64), &String>) -> Vec<String> {
    let (sent, received) = match sums {
        Ok(sums) => sums,
        Err(why) => return vec![format!("one process cannot run it as it is: {why}")],
    };
    let mut notes = Vec::new();
    let pairs = [
        ("from clients", Some(found.sent_per_s), *sent),
        ("to clients", found.received_per_s, *received),
    ];
    for (what, captured, replayed) in pairs {
        let Some(captured) = captured.filter(|captured| *captured > 0.0) else {
            continue;
        };
        let error = replayed / captured - 1.0;
        if error.abs() > DOUBT {
            notes.push(format!(
                "a replay has {} messages/s {what}, {:+.1} % of what was captured",
                short(replayed),
                error * 100.0
            ));
        }
    }
    notes
}

/// What stands above the profile.
fn head(found: &Found, source: &Source) -> Vec<String> {
    let from = match source {
        Source::Admin(_) => "the control plane of Ringmq",
        Source::Subscribe { .. } => "what a subscriber sees",
    };
    let mut head = vec![
        format!(
            "Captured by ringload {} from {from}: {} messages/s{}.",
            env!("CARGO_PKG_VERSION"),
            short(found.sent_per_s),
            match found.received_per_s {
                Some(per_s) => format!(", {} deliveries/s", short(per_s)),
                None => String::new(),
            }
        ),
        "Names of topics are keyed hashes, the key is gone. Groups of fewer than 5 clients joined others."
            .to_owned(),
    ];
    head.extend(found.notes.iter().cloned());
    head
}

fn rounded(span: Duration) -> Duration {
    Duration::from_secs(span.as_secs_f64().round() as u64)
}

/// An identifier, as a part of a path.
fn encoded(id: &str) -> String {
    let mut text = String::new();
    for byte in id.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                text.push(char::from(byte));
            }
            _ => text += &format!("%{byte:02X}"),
        }
    }
    text
}

/// Lists in the time of a capture: each shows some more topics, and who has come and gone.
const LISTS: u32 = 10;
const LIST_EVERY_MIN: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(100);
const SHOW_EVERY: Duration = Duration::from_secs(10);
/// A shorter replay says little.
const DURATION_MIN: Duration = Duration::from_secs(10);
/// What differs by more is said.
const DOUBT: f64 = 0.02;

#[cfg(test)]
mod tests;
