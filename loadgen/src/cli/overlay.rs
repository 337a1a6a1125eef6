//! Options that change a scenario: shorthands, `--set` and `--group`.

use super::target::Scheme;
use super::{SEE_HELP, problem};
use crate::scenario::keys::{self, Form};
use crate::scenario::{Group, Keyed as _, Scenario};
use ringmq_problem::{Place, Problem, nearest};

/// Options that set a key of the scenario, or of all groups that it is meant for.
pub(super) const SHORTHANDS: [&str; 14] = [
    "preset",
    "duration",
    "warmup",
    "publishers",
    "subscribers",
    "rate",
    "window",
    "qos",
    "payload",
    "protocol",
    "user",
    "password",
    "password-file",
    "tls",
];

pub(super) fn apply_shorthand(
    scenario: &mut Scenario,
    flag: &'static str,
    text: &str,
) -> Result<(), Problem> {
    // The user wrote the option, not the key that it stands for.
    let named = |problem| Problem {
        subject: format!("--{flag}"),
        ..problem
    };
    let place = Place::CommandLine;
    if let Some(key) = keys::of_scenario(flag) {
        return scenario.set(key, &[text], place).map_err(named);
    }
    if flag == "tls" {
        return apply_tls(scenario, text).map_err(named);
    }
    let name = match flag {
        "publishers" | "subscribers" => "clients",
        "password-file" => "password_file",
        other => other,
    };
    let key = keys::of_group(name).expect("every shorthand is a key");
    let mut found = false;
    for group in &mut scenario.groups {
        let (publishes, subscribes) = (group.publish.is_some(), !group.subscribe.is_empty());
        let is_meant = match flag {
            "publishers" => publishes && !subscribes,
            "subscribers" => subscribes && !publishes,
            "rate" | "window" | "payload" => publishes,
            _ => true,
        };
        if !is_meant {
            continue;
        }
        found = true;
        match flag {
            "rate" => group.window = None,
            "window" => group.rate = None,
            _ => {}
        }
        group.set(key, &[text], place.clone()).map_err(named)?;
    }
    if found {
        return Ok(());
    }
    let fix = "remove it, or choose another scenario".to_owned();
    Err(problem(
        &format!("--{flag}"),
        "applies to no group of this scenario",
        fix,
    ))
}

/// The scheme of the target: `mqtts://` stands for TLS in every group, `mqtt://` for none.
pub(super) fn apply_tls_scheme(scenario: &mut Scenario, scheme: Scheme) -> Result<(), Problem> {
    let Some(tls) = scheme.tls() else {
        return Ok(());
    };
    if let Some(group) = scenario.groups.iter().find(|group| group.tls && !tls) {
        let what = format!(
            "is a {0}:// address, and the group {1} connects over TLS",
            scheme.word(),
            group.name
        );
        let fix = format!("write {}s://", scheme.word());
        return Err(problem("--target", &what, fix));
    }
    let key = keys::of_group("tls").expect("a key of groups");
    let mut groups = scenario.groups.iter_mut().filter(|_| tls);
    groups.try_for_each(|group| group.set(key, &["true"], Place::CommandLine))
}

/// `--tls insecure`, or `--tls FILE`.
fn apply_tls(scenario: &mut Scenario, text: &str) -> Result<(), Problem> {
    let (name, value) = match text {
        "insecure" => ("tls_insecure", "true"),
        file => ("tls_ca", file),
    };
    for group in &mut scenario.groups {
        for (name, value) in [("tls", "true"), (name, value)] {
            let key = keys::of_group(name).expect("a key of groups");
            group.set(key, &[value], Place::CommandLine)?;
        }
    }
    Ok(())
}

/// `KEY=VALUE` for the scenario, `GROUP.KEY=VALUE` for a group.
pub(super) fn apply_set(scenario: &mut Scenario, text: &str) -> Result<(), Problem> {
    let wrong = |what: &str, fix: String| Err(problem(&format!("--set {text}"), what, fix));
    let Some((path, value)) = text.split_once('=') else {
        return wrong(
            "has no value",
            "write --set KEY=VALUE or --set GROUP.KEY=VALUE".to_owned(),
        );
    };
    let Some((name, key)) = path.split_once('.') else {
        return match keys::of_scenario(path) {
            Some(key) => scenario.set(key, &[value], Place::CommandLine),
            None if keys::of_group(path).is_some() => {
                let names: Vec<&str> = scenario
                    .groups
                    .iter()
                    .map(|group| group.name.as_str())
                    .collect();
                wrong(
                    "sets a key of a group",
                    format!("name the group: {}.{path}", names.join(" or ")),
                )
            }
            None => wrong("sets no key", SEE_HELP.to_owned()),
        };
    };
    let names: Vec<String> = scenario
        .groups
        .iter()
        .map(|group| group.name.clone())
        .collect();
    let Some(group) = scenario.groups.iter_mut().find(|group| group.name == name) else {
        return wrong(
            "names no group",
            format!("the groups are {}", names.join(", ")),
        );
    };
    let Some(key) = keys::of_group(key) else {
        let near = nearest(key, keys::group_keys().map(|key| key.name));
        return wrong(
            "sets no key",
            near.map_or(SEE_HELP.to_owned(), |near| {
                format!("did you mean `{near}`?")
            }),
        );
    };
    match key.name {
        "rate" => group.window = None,
        "window" => group.rate = None,
        _ => {}
    }
    group.set(key, &[value], Place::CommandLine)
}

/// `clients=10 publish=a/{index} rate=5`.
pub(super) fn parse_group(text: &str, number: usize) -> Result<Group, Problem> {
    let mut group = Group::at(Place::CommandLine);
    group.name = format!("group-{}", number + 1);
    let mut lists: Vec<(&'static str, Vec<&str>)> = Vec::new();
    for part in text.split_whitespace() {
        let Some((name, value)) = part.split_once('=') else {
            let fix = "write --group \"KEY=VALUE KEY=VALUE\"".to_owned();
            return Err(problem(&format!("--group: `{part}`"), "has no value", fix));
        };
        let Some(key) = keys::of_group(name) else {
            let near = nearest(name, keys::group_keys().map(|key| key.name));
            let fix = near.map_or(SEE_HELP.to_owned(), |near| {
                format!("did you mean `{near}`?")
            });
            return Err(problem(&format!("--group: {name}"), "is not a key", fix));
        };
        if key.form == Form::List {
            match lists.iter_mut().find(|(name, _)| *name == key.name) {
                Some((_, values)) => values.push(value),
                None => lists.push((key.name, vec![value])),
            }
            continue;
        }
        group.set(key, &[value], Place::CommandLine)?;
    }
    for (name, values) in lists {
        let key = keys::of_group(name).expect("found above");
        group.set(key, &values, Place::CommandLine)?;
    }
    Ok(group)
}
