//! Rules against what they mean, level by level, over a small alphabet.

use super::*;
use crate::topic::TopicLimits;

fn rule(effect: Effect, pattern: &str) -> Rule {
    Rule {
        effect,
        publish: true,
        receive: true,
        pattern: Pattern::parse(pattern, true).unwrap(),
    }
}

fn acl(rules: &[(Effect, &str)]) -> Acl {
    let mut acl = Acl::new(false);
    let everyone = acl.rules_mut(Subject::Everyone);
    everyone
        .own
        .extend(rules.iter().map(|&(effect, pattern)| rule(effect, pattern)));
    acl
}

fn who<'a>(user: Option<&'a str>, client_id: &'a str) -> Who<'a> {
    Who {
        user,
        client_id,
        rules: None,
    }
}

fn filter(text: &str) -> TopicFilter {
    let limits = crate::limits::Limits::default();
    TopicFilter::parse(text, &TopicLimits::of(&limits)).unwrap()
}

/// Threats 64 and 65.
#[test]
fn client_names_are_substituted_only_if_they_cannot_act_as_patterns() {
    for (pattern, user, client_id, topic, expected) in [
        ("dev/%c/#", None, "c1", "dev/c1/x", true),
        ("dev/%c/#", None, "c1", "dev/c1", true),
        ("dev/%c/#", None, "c1", "dev/c2/x", false),
        ("dev/%c/#", None, "#", "dev/#/x", false),
        ("dev/%c/#", None, "#", "dev/c1/x", false),
        ("dev/%c/#", None, "+", "dev/c1/x", false),
        ("dev/%c/#", None, "a/b", "dev/a/b/x", false),
        ("dev/%c/#", None, "+/x", "dev/c1/x", false),
        ("dev/%c/#", None, "a\0", "dev/a\0/x", false),
        ("dev/%c/#", None, "$share/g/#", "dev/$share/g/x", false),
        ("dev/%c/#", None, "%c", "dev/%c/x", false),
        ("dev/%c/#", Some("admin"), "%u", "dev/admin/x", false),
        ("dev/%c/#", None, ".*", "dev/c1/x", false),
        ("dev/%c/#", None, "a|b", "dev/a/x", false),
        ("dev/%c/#", None, "(", "dev/(/x", true),
        ("dev/%c/#", None, "", "dev//x", false),
        ("%c/#", None, "$SYS", "$SYS/broker/uptime", false),
        ("%u/#", Some("$SYS"), "c", "$SYS/broker/uptime", false),
        ("u/%u", Some("alice"), "c", "u/alice", true),
        ("u/%u", None, "alice", "u/alice", false),
        ("u/%u", Some(""), "c", "u/", false),
        ("%u-%c/x", Some("a"), "b", "a-b/x", true),
        ("%u-%c/x", Some("a-b"), "c", "a-b-c/x", true),
        ("%u%c", Some("ab"), "c", "abc", true),
        ("x%c", None, "y", "xy", true),
        ("x%c", None, "y", "xyz", false),
        ("100%/%c", None, "y", "100%/y", true),
        ("%d/%c", None, "y", "%d/y", true),
    ] {
        let allowed = acl(&[(Effect::Allow, pattern)]);
        let is_allowed = allowed.allows(who(user, client_id), Action::Publish, topic.as_bytes());
        assert_eq!(
            is_allowed, expected,
            "{pattern} {user:?} {client_id} {topic}"
        );
    }
}

#[test]
fn deny_rules_match_widely_for_names_that_cannot_be_substituted() {
    for (pattern, user, client_id, topic, expected) in [
        ("dev/%c/cmd", None, "c1", "dev/c1/cmd", false),
        ("dev/%c/cmd", None, "c1", "dev/c2/cmd", true),
        ("dev/%c/cmd", None, "c+", "dev/c1/cmd", false),
        ("dev/%u/cmd", None, "c", "dev/c1/cmd", false),
        ("dev/%u/cmd", None, "c", "dev/c1/other", true),
        ("dev/x%c/cmd", None, "+", "dev/x1/cmd", false),
        ("dev/x%c/cmd", None, "+", "dev/y1/cmd", true),
        ("%c/#", None, "+", "$SYS/x", true),
    ] {
        let mut acl = acl(&[(Effect::Deny, pattern)]);
        acl.allow_by_default = true;
        let is_allowed = acl.allows(who(user, client_id), Action::Receive, topic.as_bytes());
        assert_eq!(is_allowed, expected, "{pattern} {client_id} {topic}");
    }
}

#[test]
fn deny_wins_and_no_rule_means_deny() {
    let acl = acl(&[
        (Effect::Allow, "a/#"),
        (Effect::Deny, "a/b/#"),
        (Effect::Allow, "a/b/c"),
    ]);
    for (topic, expected) in [
        ("a", true),
        ("a/x", true),
        ("a/b", false),
        ("a/b/c", false),
        ("b", false),
        ("$SYS/x", false),
        ("", false),
    ] {
        let is_allowed = acl.allows(who(None, "c"), Action::Receive, topic.as_bytes());
        assert_eq!(is_allowed, expected, "{topic}");
    }
}

/// Threats 71 and 72.
#[test]
fn a_filter_is_granted_to_the_extent_that_its_topics_are() {
    use Extent::{All, Nothing, Part};
    let allow = Effect::Allow;
    let deny = Effect::Deny;
    for (rules, text, expected) in [
        (&[(allow, "a/#")][..], "a/b", All),
        (&[(allow, "a/#")], "a/#", All),
        (&[(allow, "a/#")], "a/+/c", All),
        (&[(allow, "a/#")], "a", All),
        (&[(allow, "a/#")], "#", Part),
        (&[(allow, "a/#")], "+/b", Part),
        (&[(allow, "a/#")], "b/#", Nothing),
        (&[(allow, "a/#")], "$share/g/a/b", All),
        (&[(allow, "a/#")], "$share/g/b", Nothing),
        (&[(allow, "#")], "#", All),
        (&[(allow, "#")], "$SYS/#", Nothing),
        (&[(allow, "$SYS/#")], "#", Nothing),
        (&[(allow, "$SYS/#")], "$SYS/broker/+", All),
        (&[(allow, "+")], "#", Part),
        (&[(allow, "+/+")], "a/#", Part),
        (&[(allow, "a/+")], "a/+", All),
        (&[(allow, "a/b")], "a/+", Part),
        (&[(allow, "a/+/#")], "a/#", Part),
        (&[(allow, "#"), (deny, "secret/#")], "#", Part),
        (&[(allow, "#"), (deny, "secret/#")], "secret/#", Nothing),
        (
            &[(allow, "#"), (deny, "secret/#")],
            "$share/g/secret/#",
            Nothing,
        ),
        (&[(allow, "#"), (deny, "secret/#")], "+/x", Part),
        (&[(allow, "#"), (deny, "secret/#")], "open/#", All),
        (&[(allow, "dev/%c/#")], "dev/c/#", All),
        (&[(allow, "dev/%c/#")], "dev/d/#", Nothing),
        (&[(allow, "dev/%c/#")], "dev/+/x", Part),
        (&[], "a", Nothing),
    ] {
        let extent = acl(rules).extent(who(None, "c"), &filter(text));
        assert_eq!(extent, expected, "{rules:?} {text}");
    }
}

#[test]
fn a_verdict_on_a_filter_holds_for_each_of_its_topics() {
    let mut seed = 7u64;
    let mut below = |end: usize| {
        // Knuth's MMIX generator.
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % end
    };
    let topics = all_texts(&["a", "b", "$x", ""], 3);
    let filters = all_texts(&["a", "$x", "+", "#", ""], 3);
    let filters: Vec<String> = filters
        .into_iter()
        .filter(|text| Pattern::parse(text, false).is_ok())
        .collect();
    let client = who(Some("a"), "b");
    for _ in 0..3000 {
        let count = 1 + below(3);
        let mut rules = Vec::new();
        for _ in 0..count {
            let effect = match below(3) {
                0 => Effect::Deny,
                _ => Effect::Allow,
            };
            let pattern = filters[below(filters.len())].replace("$x", "%c");
            rules.push((effect, pattern));
        }
        let borrowed: Vec<(Effect, &str)> = rules.iter().map(|(e, p)| (*e, &**p)).collect();
        let acl = acl(&borrowed);
        let text = &filters[below(filters.len())];
        let wanted = filter(text);
        let extent = acl.extent(client, &wanted);
        for topic in topics.iter().filter(|topic| !topic.is_empty()) {
            if !wanted.matches(topic.as_bytes()) {
                continue;
            }
            let is_allowed = acl.allows(client, Action::Receive, topic.as_bytes());
            match extent {
                Extent::All => assert!(is_allowed, "{rules:?} {text} {topic}"),
                Extent::Nothing => assert!(!is_allowed, "{rules:?} {text} {topic}"),
                Extent::Part => {}
            }
        }
    }
}

#[test]
fn a_pattern_matches_what_a_filter_of_the_same_text_matches() {
    let filters = all_texts(&["a", "$x", "+", "#", ""], 3);
    for text in filters.iter().filter(|text| !text.is_empty()) {
        let Ok(pattern) = Pattern::parse(text, true) else {
            continue;
        };
        for topic in all_texts(&["a", "b", "$x", ""], 3) {
            if topic.is_empty() {
                continue;
            }
            let expected = filter(text).matches(topic.as_bytes());
            let got = pattern.matches(topic.as_bytes(), who(None, "c"), Effect::Allow);
            assert_eq!(got, expected, "{text} {topic}");
        }
    }
}

/// All texts of up to so many of these levels.
fn all_texts(levels: &[&str], depth: usize) -> Vec<String> {
    let mut texts: Vec<String> = levels.iter().map(|level| level.to_string()).collect();
    let mut last = texts.clone();
    for _ in 1..depth {
        last = last
            .iter()
            .flat_map(|text| levels.iter().map(move |level| format!("{text}/{level}")))
            .collect();
        texts.extend(last.iter().cloned());
    }
    texts
}
