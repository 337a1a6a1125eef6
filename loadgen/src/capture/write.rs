//! From groups of clients to a scenario.
//!
//! The topics of each publishing group have a first level of their own, so a filter reaches one group and no
//! other. Who gets a part of the messages of a group subscribes to a branch of its topics: a level is
//! divided into as many branches as it takes, by client ([`Cut::Client`]) or by message ([`Cut::Message`]). So a
//! replay has the rates and the fan-out that were captured, whatever the topics and filters were.

use ringmq_core::codec::{QoS, Version};

use super::anonymous::Anonymiser;
use super::class::{Class, Publishes, Want};
use super::shape::Level;
use crate::payload::STREAMS_MAX;
use crate::scenario::keys;
use crate::scenario::value;
use crate::scenario::{Group, Keyed as _, Scenario};
use ringmq_problem::Place;

/// A scenario, and which of its values were assumed: group and key.
#[derive(Debug)]
pub(super) struct Profile {
    pub(super) scenario: Scenario,
    pub(super) assumed: Vec<(String, &'static str)>,
}

/// The topics of a publishing group.
struct Space {
    /// Patterns of the levels.
    levels: Vec<String>,
    cuts: Vec<Placed>,
}

/// A level that divides the topics of a group.
struct Placed {
    cut: Cut,
    /// Which level.
    at: usize,
    /// What stands before the number.
    prefix: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// Clients are divided into so many branches.
    Client(u32),
    /// Each client goes round so many branches.
    Message(u32),
}

impl Cut {
    fn branches(self) -> u32 {
        match self {
            Cut::Client(count) | Cut::Message(count) => count,
        }
    }
}

/// So many of so many branches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    taken: u32,
    of: u32,
}

impl Part {
    /// The simplest part that is near enough; `None`: all of it.
    fn of(share: f64) -> Option<Part> {
        if share >= WHOLE {
            return None;
        }
        let part = |taken: u32| {
            let of = (f64::from(taken) / share)
                .round()
                .clamp(f64::from(taken), 4e6) as u32;
            Part { taken, of }
        };
        let error = |part: &Part| (part.share() / share - 1.0).abs();
        let all = (1..=TAKEN_MAX).map(part);
        let best = all.clone().min_by(|a, b| error(a).total_cmp(&error(b)));
        let near = all.clone().find(|part| error(part) < NEAR);
        near.or(best).filter(|part| part.of > part.taken)
    }

    fn share(self) -> f64 {
        f64::from(self.taken) / f64::from(self.of)
    }
}

/// Writes groups as a scenario.
pub(super) fn scenario(classes: &[Class], names: &Anonymiser) -> Scenario {
    let mut scenario = Scenario::default();
    let parts: Vec<Vec<(Want, Option<Part>)>> = classes
        .iter()
        .map(|class| parts_of(class, classes))
        .collect();
    let spaces: Vec<Option<Space>> = classes
        .iter()
        .enumerate()
        .map(|(index, class)| {
            let publishes = class.publishes.as_ref()?;
            let wanted = parts.iter().flatten().filter(|(want, _)| want.of == index);
            let wanted: Vec<Part> = wanted.filter_map(|(_, part)| *part).collect();
            let cuts = cuts_of(wanted, class.clients as u32);
            Some(space(publishes, index, &cuts, class.clients as u32, names))
        })
        .collect();
    let firsts: Vec<String> = spaces
        .iter()
        .flatten()
        .map(|space| space.levels[0].clone())
        .collect();
    assert!(are_distinct(&firsts), "a filter reaches one group");
    for (index, class) in classes.iter().enumerate() {
        let filters = filters_of(index, &parts[index], &spaces);
        scenario
            .groups
            .extend(groups_of(index, class, spaces[index].as_ref(), &filters));
    }
    scenario
}

fn are_distinct(names: &[String]) -> bool {
    let mut sorted = names.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).all(|pair| pair[0] != pair[1])
}

/// What each client of a group gets of others, as parts of their messages.
fn parts_of(class: &Class, all: &[Class]) -> Vec<(Want, Option<Part>)> {
    let mut has_shared = false;
    let mut wants = class.wants.clone();
    wants.sort_by(|a, b| b.per_s.total_cmp(&a.per_s));
    let mut parts = Vec::new();
    for mut want in wants {
        let sent = all[want.of].sent_per_s();
        if sent <= 0.0 || want.per_s <= sent * SHARE_MIN {
            continue;
        }
        // A client has one shared subscription: the others give it its part without one.
        let together = want.per_s * class.clients / sent;
        want.is_shared &= !has_shared && together >= WHOLE;
        has_shared |= want.is_shared;
        let part = match want.is_shared {
            true => None,
            false => Part::of(want.per_s / sent),
        };
        parts.push((want, part));
    }
    parts
}

/// Levels that divide the messages of a group into these parts.
fn cuts_of(mut parts: Vec<Part>, clients: u32) -> Vec<Cut> {
    // The finest first: others may be some of its branches.
    parts.sort_by_key(|part| std::cmp::Reverse(part.of));
    let mut cuts: Vec<Cut> = Vec::new();
    for part in parts {
        if cuts.iter().any(|cut| fitted(*cut, part).is_some()) {
            continue;
        }
        let by_message = !cuts.iter().any(|cut| matches!(cut, Cut::Message(_)));
        let streams = u64::from(clients) * u64::from(part.of);
        let is_even = clients.is_multiple_of(part.of) || clients / part.of >= EVEN_CLIENTS;
        if is_even || !by_message || streams > u64::from(STREAMS_MAX / 16) {
            cuts.push(Cut::Client(part.of.min(clients).max(1)));
        } else {
            cuts.push(Cut::Message(part.of));
        }
    }
    cuts.truncate(CUTS_MAX);
    cuts
}

/// How many branches of a cut are this part; `None`: no number is near enough.
fn fitted(cut: Cut, part: Part) -> Option<u32> {
    let branches = cut.branches();
    let taken = (part.share() * f64::from(branches)).round().max(1.0);
    let error = (taken / f64::from(branches) / part.share() - 1.0).abs();
    (error < NEAR && taken <= f64::from(TAKEN_MAX)).then_some(taken as u32)
}

/// The topics of a group: the levels that differ carry the cuts.
fn space(
    publishes: &Publishes,
    index: usize,
    cuts: &[Cut],
    clients: u32,
    names: &Anonymiser,
) -> Space {
    let mut levels = Vec::new();
    let mut placed = Vec::new();
    let mut left = cuts.iter().copied();
    let has_message = cuts.iter().any(|cut| matches!(cut, Cut::Message(_)));
    // One level for the topics that a client has besides.
    let mut more = (!has_message && publishes.topics > 1).then_some(publishes.topics);
    let first = Level::default();
    let shape = &publishes.shape.levels;
    let rest = shape
        .iter()
        .skip(1)
        .chain(std::iter::repeat_n(&first, CUTS_MAX + 1));
    let head = shape.first().unwrap_or(&first);
    levels.push(unique(index, head, names));
    for (at, level) in (1..).zip(rest) {
        let name = |size: usize| names.name(index, &format!("{at}/{:?}", level.text), size);
        if let (Some(_), true) = (&level.text, at < shape.len()) {
            levels.push(name(level.size.min(LEVEL_SIZE_MAX)));
            continue;
        }
        let numbered = |count: u32| {
            let digits = count.saturating_sub(1).max(1).ilog10() as usize + 1;
            name(level.size.min(LEVEL_SIZE_MAX).saturating_sub(digits))
        };
        if let Some(cut) = left.next() {
            let prefix = numbered(cut.branches());
            levels.push(match cut {
                Cut::Client(count) => format!("{prefix}{{index%{count}}}"),
                Cut::Message(count) => format!("{prefix}{{message%{count}}}"),
            });
            placed.push(Placed { cut, at, prefix });
        } else if let Some(count) = more.take() {
            levels.push(format!("{}{{message%{count}}}", numbered(count)));
        } else if at < shape.len() {
            let count = level.values.clamp(1, clients);
            levels.push(match count == clients {
                true => format!("{}{{index}}", numbered(count)),
                false => format!("{}{{index%{count}}}", numbered(count)),
            });
        } else {
            break;
        }
    }
    Space {
        levels,
        cuts: placed,
    }
}

/// A first level that no other group has.
fn unique(index: usize, level: &Level, names: &Anonymiser) -> String {
    let number = index.to_string();
    let size = level
        .size
        .clamp(1, LEVEL_SIZE_MAX)
        .saturating_sub(number.len());
    let text = level.text.as_deref().unwrap_or_default();
    let name = names.name(index, text, size.max(1));
    // Letters in place of the digits, so that the name ends where the number begins.
    let letters = number
        .bytes()
        .map(|digit| char::from(b'A' + (digit - b'0')));
    name + &letters.collect::<String>()
}

/// The filters of a group.
fn filters_of(
    index: usize,
    parts: &[(Want, Option<Part>)],
    spaces: &[Option<Space>],
) -> Vec<String> {
    let mut filters = Vec::new();
    for (want, part) in parts {
        let space = spaces[want.of].as_ref().expect("it publishes");
        let root = &space.levels[0];
        let Some(part) = part else {
            filters.push(match want.is_shared {
                true => format!("$share/g{index}/{root}/#"),
                false => format!("{root}/#"),
            });
            continue;
        };
        let nearest = |placed: &&Placed| {
            let taken = fitted(placed.cut, *part);
            (taken.is_none(), taken.unwrap_or(u32::MAX))
        };
        let Some(placed) = space.cuts.iter().min_by_key(nearest) else {
            filters.push(format!("{root}/#"));
            continue;
        };
        let branches = placed.cut.branches();
        let about = (part.share() * f64::from(branches)).round() as u32;
        let taken = fitted(placed.cut, *part).unwrap_or(about.clamp(1, TAKEN_MAX));
        let before = "/+".repeat(placed.at - 1);
        let after = match placed.at + 1 == space.levels.len() {
            true => "",
            false => "/#",
        };
        let branch = |which: &str| format!("{root}{before}/{}{which}{after}", placed.prefix);
        if taken >= branches {
            filters.push(format!("{root}/#"));
        } else if taken == 1 {
            filters.push(branch(&format!("{{index%{branches}}}")));
        } else {
            // Evenly apart: clients go round from the first one on, and a run may end before they are round.
            filters.extend((0..taken).map(|nth| branch(&(nth * branches / taken).to_string())));
        }
    }
    filters
}

/// The group, or two if its payloads are of both kinds.
fn groups_of(index: usize, class: &Class, space: Option<&Space>, filters: &[String]) -> Vec<Group> {
    let kind = match (&class.publishes, filters.is_empty()) {
        (Some(_), true) => "publishers",
        (Some(_), false) => "clients",
        (None, false) => "subscribers",
        (None, true) => "idle",
    };
    let name = format!("{kind}-{}", index + 1);
    let clients = (class.clients.round() as u32).max(1);
    let Some((publishes, space)) = class.publishes.as_ref().zip(space) else {
        let mut keys = Keys::of(class, &name, clients, class.wanted_qos);
        keys.set_list("subscribe", filters);
        return vec![keys.group];
    };
    let whole = publishes.per_s * class.clients;
    let (small, large) = publishes.sizes.split();
    let share = small.total() / publishes.sizes.total().max(f64::MIN_POSITIVE);
    let few = (share * f64::from(clients))
        .round()
        .clamp(1.0, f64::from(clients.max(2) - 1)) as u32;
    let halves = match (share > KIND_MIN, share < 1.0 - KIND_MIN, clients) {
        (true, true, 2..) => vec![
            (format!("{name}-small"), few, share, &small),
            (name, clients - few, 1.0 - share, &large),
        ],
        (_, is_large, _) => vec![(name, clients, 1.0, if is_large { &large } else { &small })],
    };
    let halves = halves.into_iter().map(|(name, clients, share, sizes)| {
        let mut keys = Keys::of(class, &name, clients, publishes.qos);
        keys.set("publish", &space.levels.join("/"));
        keys.set("payload", &sizes.text());
        keys.set("rate", &rate_text(whole * share / f64::from(clients)));
        if publishes.retain {
            keys.set("retain", "true");
        }
        keys.set_list("subscribe", filters);
        keys.group
    });
    halves.collect()
}

/// Six digits say it to a millionth.
fn rate_text(per_s: f64) -> String {
    let per_s = per_s.clamp(PER_S_MIN, PER_S_MAX);
    let digits = (5.0 - per_s.log10().floor()).max(0.0) as i32;
    let factor = 10_f64.powi(digits);
    value::show_rate((per_s * factor).round() / factor)
}

/// Sets the keys of a group, as a file would.
struct Keys {
    group: Group,
}

impl Keys {
    fn of(class: &Class, name: &str, clients: u32, qos: QoS) -> Keys {
        let mut keys = Keys {
            group: Group::at(Place::CommandLine),
        };
        let terms = class.terms;
        keys.set("name", name);
        keys.set("clients", &clients.to_string());
        if terms.version == Version::V5 {
            keys.set("protocol", "5.0");
        }
        keys.set("keep_alive", &format!("{}s", terms.keep_alive_s));
        if terms.expiry_s > 0 {
            keys.set("clean", "false");
            if terms.version == Version::V5 {
                let span = std::time::Duration::from_secs(terms.expiry_s.min(EXPIRY_MAX_S));
                keys.set("session_expiry", &value::show_span(span));
            }
        }
        keys.set("qos", &(qos as u8).to_string());
        keys
    }

    fn set(&mut self, key: &str, text: &str) {
        self.set_all(key, &[text]);
    }

    fn set_list(&mut self, key: &str, texts: &[String]) {
        if !texts.is_empty() {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            self.set_all(key, &texts);
        }
    }

    fn set_all(&mut self, name: &str, texts: &[&str]) {
        let key = keys::of_group(name).expect("a key of groups");
        let set = self.group.set(key, texts, Place::CommandLine);
        assert!(
            set.is_ok(),
            "a captured value is one of a scenario: {set:?}"
        );
    }
}

/// The file: its head, and what was assumed marked as such.
pub(super) fn text(profile: &Profile, head: &[String]) -> String {
    let mut text: String = head.iter().map(|line| format!("# {line}\n")).collect();
    let mut group = String::new();
    for line in profile.scenario.to_toml().lines() {
        if let Some(name) = line.strip_prefix("name = ") {
            group = name.trim_matches('"').to_owned();
        }
        let mut assumed = profile.assumed.iter();
        let is_assumed = assumed.any(|(of, key)| {
            *of == group && line.strip_prefix(key).is_some_and(|r| r.starts_with(" ="))
        });
        text += line;
        text += if is_assumed { "  # assumed\n" } else { "\n" };
    }
    text
}

/// A share from which on it is all: rates are not known better.
const WHOLE: f64 = 0.985;
/// Who gets less of a group gets nothing.
const SHARE_MIN: f64 = 1e-6;
/// Parts that are as near need no more branches.
const NEAR: f64 = 0.004;
/// Branches that a client subscribes to.
const TAKEN_MAX: u32 = 32;
/// Levels that divide.
const CUTS_MAX: usize = 4;
/// With so many clients in each branch, branches are alike.
const EVEN_CLIENTS: u32 = 64;
/// Fewer payloads of the other kind than this share are left out.
const KIND_MIN: f64 = 0.002;
/// A longer level is cut: nothing depends on it.
const LEVEL_SIZE_MAX: usize = 200;
/// Slower and faster ones are no rates of a scenario.
const PER_S_MIN: f64 = 1.2e-5;
const PER_S_MAX: f64 = 1e7;
const EXPIRY_MAX_S: u64 = 30 * 86_400;
