//! What a scenario does that no run of a plan did: nothing is predicted about that.

use super::file::PlanFile;
use crate::scenario::{Group, Scenario};

/// What it is called, and whether a group does it.
type Kind<'a> = (&'static str, &'a dyn Fn(&Group) -> bool);

/// Sentences without a full stop, one for each kind, naming the groups that do it.
pub fn uncovered(scenario: &Scenario, file: &PlanFile) -> Vec<String> {
    let kinds: [Kind<'_>; 5] = [
        ("over TLS, and the plan was made without", &|group| {
            group.tls && file.tls == Some(false)
        }),
        ("without TLS, and the plan was made over it", &|group| {
            !group.tls && file.tls == Some(true)
        }),
        ("with wildcards in filters", &|group| {
            let mut filters = group.subscribe.iter();
            filters.any(|filter| filter.as_str().contains(['+', '#']))
        }),
        ("with retained messages", &|group| group.retain),
        ("with messages queued for clients that are away", &|group| {
            let leaves = group.online.is_some() || group.cut_every.is_some();
            leaves && !group.clean && !group.subscribe.is_empty()
        }),
    ];
    let of_kind = |(what, does): &Kind<'_>| {
        let groups = scenario.groups.iter().filter(|group| does(group));
        let names: Vec<String> = groups.map(|group| format!("`{}`", group.name)).collect();
        (!names.is_empty()).then(|| format!("{} {what}", names.join(", ")))
    };
    kinds.iter().filter_map(of_kind).collect()
}

#[cfg(test)]
mod tests {
    use super::super::file::tests::sample;
    use super::*;
    use crate::scenario::file;

    fn found(more: &str, tls: Option<bool>) -> Vec<String> {
        let toml = format!(
            "[[group]]\nname = 'a'\nclients = 2\nsubscribe = 'x/{{index}}'\nrate = 1\n\
             publish = 'x/{{index}}'\n{more}\n"
        );
        let plan = PlanFile {
            tls,
            ..sample(1, 5e-6)
        };
        uncovered(&file::parse("a", &toml).unwrap(), &plan)
    }

    #[test]
    fn what_was_measured_is_not_named() {
        assert!(found("", Some(false)).is_empty());
        assert!(found("tls = true", Some(true)).is_empty());
        // A plan of an earlier version does not say.
        assert!(found("tls = true", None).is_empty());
    }

    #[test]
    fn what_was_not_measured_is_named_with_its_groups() {
        for (more, tls, expected) in [
            (
                "tls = true",
                false,
                "`a` over TLS, and the plan was made without",
            ),
            ("", true, "`a` without TLS, and the plan was made over it"),
            ("retain = true", false, "`a` with retained messages"),
            (
                "clean = false\ncut_every = '5s'\nreconnect = true",
                false,
                "`a` with messages queued for clients that are away",
            ),
            (
                "[[group]]\nname = 'b'\nclients = 1\nsubscribe = 'x/+'",
                false,
                "`b` with wildcards in filters",
            ),
        ] {
            assert_eq!(found(more, Some(tls)), [expected], "{more}");
        }
    }
}
