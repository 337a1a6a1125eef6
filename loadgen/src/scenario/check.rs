//! What is wrong with a scenario that no key shows alone.

use std::collections::HashSet;

use ringmq_core::codec::{QoS, Version};

use super::Keyed as _;
use super::{Group, Scenario, Start};
use ringmq_problem::{Complaint, Problem};

impl Scenario {
    /// Everything that is wrong, in the order of the groups.
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.groups.is_empty() {
            let fix =
                "add a [[group]] with `publish` or `subscribe`, or --group on the command line";
            let complaint = Complaint::new("has no group of clients", fix);
            problems.push(complaint.at(self.place.clone(), "the scenario"));
        }
        let mut names = HashSet::new();
        for group in &self.groups {
            if group.name.is_empty() {
                problems.push(group.complain("name", "is missing", "give the group a name"));
            } else if !names.insert(&group.name) {
                problems.push(group.complain(
                    "name",
                    "is given to two groups",
                    "change one of them",
                ));
            }
            group.check_publish(self, &mut problems);
            group.check_subscribe(&mut problems);
            group.check_connect(&mut problems);
            group.check_cuts(&mut problems);
            if self.restarts {
                group.check_restarts(&mut problems);
            }
        }
        self.check_stages(&mut problems);
        self.check_storm(&mut problems);
        self.check_thresholds(&mut problems);
        problems
    }
}

impl Group {
    fn check_publish(&self, scenario: &Scenario, problems: &mut Vec<Problem>) {
        let mut complain =
            |key, what: &str, fix: &str| problems.push(self.complain(key, what, fix));
        let Some(publish) = &self.publish else {
            for key in [
                "rate",
                "window",
                "topics",
                "payload",
                "retain",
                "messages",
                "ramp",
                "inflight_max",
                "topic_aliases",
            ] {
                if self.places.contains_key(key) {
                    let what = "is set, but the group does not publish";
                    complain(key, what, "add `publish`, or remove it");
                }
            }
            return;
        };
        if self.topic_aliases > 0 && self.protocol < Version::V5 {
            complain("topic_aliases", NEEDS_V5, ADD_V5);
        }
        if publish.as_str().is_empty() || publish.as_str().contains(['+', '#']) {
            complain("publish", "is not a topic", "write a topic without + and #");
        }
        if self.topics_zipf.is_some() && self.topic_count() < 2 {
            let what = "is set, but each client has one topic";
            complain("topics", what, "add {message%N} to `publish`, or remove it");
        }
        if self.retain && self.payload.max() == 0 {
            let what = "is empty, which removes retained messages";
            complain("payload", what, "give it a size");
        }
        if self.start == Start::Window {
            let what = "is `window`, but the group publishes";
            complain("start", what, "only subscribers may start with the window");
        }
        self.check_pace(scenario, problems);
    }

    fn check_pace(&self, scenario: &Scenario, problems: &mut Vec<Problem>) {
        let mut complain =
            |key, what: &str, fix: &str| problems.push(self.complain(key, what, fix));
        match (&self.rate, self.window) {
            (Some(_), None) | (None, Some(_)) => {}
            (Some(_), Some(_)) => complain(
                "window",
                "conflicts with `rate`",
                "keep one: `rate` for an open loop, `window` for a closed one",
            ),
            (None, None) => complain(
                "publish",
                "needs a pace",
                "add `rate` (messages per second) or `window` (messages in flight)",
            ),
        }
        if self.rate.is_some() {
            return;
        }
        if !self.ramp.is_zero() {
            complain("ramp", "is set, but a closed loop has no rate", "remove it");
        }
        let no_deliveries = scenario
            .groups
            .iter()
            .all(|group| group.subscribe.is_empty());
        if self.window.is_some() && self.qos == QoS::AtMostOnce && no_deliveries {
            complain(
                "window",
                "never gets feedback: nobody subscribes, and QoS 0 has no acknowledgements",
                "add subscribers, or use QoS 1, or `rate`",
            );
        }
    }

    fn check_subscribe(&self, problems: &mut Vec<Problem>) {
        let mut complain =
            |key, what: &str, fix: &str| problems.push(self.complain(key, what, fix));
        let shared = self
            .subscribe
            .iter()
            .filter(|p| p.as_str().starts_with("$share/"));
        if shared.count() > 1 {
            complain(
                "subscribe",
                "has more than one shared filter",
                "use a group for each",
            );
        }
        if self
            .subscribe
            .iter()
            .any(|pattern| pattern.message_count() > 1)
        {
            complain(
                "subscribe",
                "has {message%N}",
                "that is for `publish`; use + for that level",
            );
        }
        if self.subscribe.is_empty() {
            for key in ["receive_maximum", "receive_rate", "may_lose"] {
                if self.places.contains_key(key) {
                    complain(
                        key,
                        "is set, but the group does not subscribe",
                        "add `subscribe`, or remove it",
                    );
                }
            }
        }
        if self.receive_maximum.is_some() && self.protocol < Version::V5 {
            complain("receive_maximum", NEEDS_V5, ADD_V5);
        }
    }

    /// What has to hold for a message to outlive the broker.
    fn check_restarts(&self, problems: &mut Vec<Problem>) {
        for (is_right, key, fix) in [
            (
                self.qos > QoS::AtMostOnce,
                "qos",
                "write qos = 1 or qos = 2",
            ),
            (!self.clean, "clean", "write clean = false"),
            (self.reconnect, "reconnect", "write reconnect = true"),
        ] {
            if !is_right {
                let what = "does not fit a scenario with `restarts`";
                problems.push(self.complain(key, what, fix));
            }
        }
    }

    fn check_connect(&self, problems: &mut Vec<Problem>) {
        let mut complain =
            |key, what: &str, fix: &str| problems.push(self.complain(key, what, fix));
        for key in [
            "tls_ca",
            "tls_insecure",
            "tls_name",
            "tls_cert",
            "tls_key",
            "tls_resume",
            "tls_alpn",
        ] {
            if self.places.contains_key(key) && !self.tls {
                complain(
                    key,
                    "is set, but the group does not use TLS",
                    "add tls = true",
                );
            }
        }
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            let key = if self.tls_cert.is_some() {
                "tls_cert"
            } else {
                "tls_key"
            };
            complain(
                key,
                "needs its counterpart",
                "set both tls_cert and tls_key",
            );
        }
        if self.sas_key.is_some() && self.password.is_some() {
            let what = "conflicts with `password`";
            complain("sas_key_file", what, "keep one of them");
        }
        if self.client_id.as_str().is_empty() {
            if !self.clean {
                let what = "is empty, so each connection would get another identifier";
                complain("client_id", what, "write a pattern, or use clean = true");
            }
        } else if self.clients > 1 && self.client_id.is_common() {
            complain("client_id", "is the same for every client", "add {index}");
        }
        if self.password.is_some() && self.user.is_none() && self.protocol < Version::V5 {
            complain(
                "password",
                "needs a user name before MQTT 5.0",
                "add `user`",
            );
        }
    }

    /// Connections that end while messages are published.
    fn check_cuts(&self, problems: &mut Vec<Problem>) {
        let mut complain =
            |key, what: &str, fix: &str| problems.push(self.complain(key, what, fix));
        if self.cut_every.is_some() && self.publish.is_some() {
            complain(
                "cut_every",
                "is set, but the group publishes",
                "cut subscribers, or clients that do neither",
            );
        }
        if self.online.is_some() && self.cut_every.is_some() {
            let what = "conflicts with `cut_every`";
            complain("online", what, "keep one: all at once, or each by itself");
        }
        if self.away.is_some() && self.online.is_none() {
            complain(
                "away",
                "is set without `online`",
                "add `online`, or remove it",
            );
        }
        if !self.cut_for.is_zero() && self.cut_every.is_none() {
            complain(
                "cut_for",
                "is set without `cut_every`",
                "add `cut_every`, or remove it",
            );
        }
    }
}

const NEEDS_V5: &str = "needs MQTT 5.0";
const ADD_V5: &str = "add protocol = \"5.0\"";

#[cfg(test)]
mod tests {
    use super::super::file;
    use crate::plan::Plan;

    fn only_problem(text: &str) -> String {
        let planned = |scenario| Plan::new(scenario, "0000", 1, false);
        let problems = match file::parse("f.toml", text).and_then(planned) {
            Err(problems) => problems,
            Ok(_) => Vec::new(),
        };
        assert_eq!(problems.len(), 1, "{text}: {problems:?}");
        problems[0].to_string()
    }

    #[test]
    fn a_wrong_value_is_shown_in_its_line() {
        assert_eq!(
            only_problem("[[group]]\nname = \"p\"\npublish = \"a\"\nrate = \"fast\"\n"),
            "f.toml:4:8: p.rate is `fast`, which is not a rate\n\
             \x20 4 | rate = \"fast\"\n\
             \x20   |        ^^^^^^\n\
             \x20 fix: write a number per second such as 10, 0.5 or 20k, or 600/m for a number per minute"
        );
    }

    #[test]
    fn every_mistake_has_its_message() {
        let group = "[[group]]\nname = \"p\"\n";
        for (text, head, fix) in [
            (
                "",
                "f.toml: the scenario has no group of clients",
                "add a [[group]]",
            ),
            (
                "durations = 1",
                "f.toml:1:1: durations is not a key",
                "did you mean `duration`?",
            ),
            (
                "[[groups]]",
                "f.toml:1:3: groups is not a key",
                "did you mean `group`?",
            ),
            (
                "rate = 1",
                "f.toml:1:1: rate is not a key",
                "`rate` belongs in a [[group]]",
            ),
            (
                "spread = 1",
                "f.toml:1:1: spread is not a key",
                "`spread` belongs in a [[stage]]",
            ),
            (
                "stage = 1",
                "f.toml:1:1: stage is not a stage",
                "begin a stage with [[stage]]",
            ),
            (
                "arrivals = \"often\"\n+subscribe = \"a\"",
                "f.toml:1:12: arrivals is `often`",
                "write constant, poisson or bursts(N)",
            ),
            (
                "thresholds = [\"latncy.p99 < 5ms\"]\n+subscribe = \"a\"",
                "f.toml:1:14: thresholds has `latncy.p99`, which is not measured",
                "did you mean `latency.p99`?",
            ),
            (
                "thresholds = \"q: lost = 0\"\n+subscribe = \"a\"",
                "f.toml:1:14: thresholds has `q: lost = 0`, which names no group",
                "the groups are p",
            ),
            (
                "thresholds = \"acknowledge.p99 < 1s\"\n+publish = \"a\"\nrate = 1",
                "f.toml:1:14: thresholds has `acknowledge.p99 < 1s`, and nothing there is",
                "publishes with QoS 1 or 2",
            ),
            (
                "thresholds = \"rate >= 99 %\"\n+publish = \"a\"\nqos = 1\nwindow = 1",
                "f.toml:1:14: thresholds has `rate >= 99 %`, and a closed loop has no schedule",
                "use `rate` in the group",
            ),
            (
                "[[stage]]\nrate = \"100 %\"\n+subscribe = \"a\"",
                "f.toml:1:1: stage.for says how long the stage takes, and is missing",
                "add for = \"1m\"",
            ),
            (
                "[[stage]]\nfor = \"0s\"\n+subscribe = \"a\"",
                "f.toml:2:7: stage.for is 0, and a stage takes some time",
                "write a time above 0",
            ),
            (
                "[[stage]]\nname = \"x\"\nfor = 1\n[[stage]]\nname = \"x\"\nfor = 1\n+\
                 subscribe = \"a\"",
                "f.toml:5:8: x.name is given to two stages",
                "change one of them",
            ),
            (
                "[[stage]]\nfor = 1\nrate = \"100\"\n+subscribe = \"a\"",
                "f.toml:3:8: stage.rate is `100`, which is no share",
                "write a share such as 100 %",
            ),
            (
                "duration = 1\n[[stage]]\nfor = 1\n+subscribe = \"a\"",
                "f.toml:1:12: duration is set, and the stages say how long the run is",
                "remove it",
            ),
            (
                "[[stage]]\nname = \"x\"\nfor = 1\nthresholds = \"connect.p99 < 1s\"\n+\
                 subscribe = \"a\"",
                "f.toml:4:14: x.thresholds has `connect.p99 < 1s`, which is not told apart",
                "put it above the first [[stage]]",
            ),
            (
                "[[stage]]\nfor = 1\nabort = \"lost > 3 for 5s\"\n+subscribe = \"a\"",
                "f.toml:3:9: stage.abort is `lost > 3 for 5s`, which is not known second by second",
                "use latency.pN",
            ),
            (
                "[[stage]]\nfor = 1\nrate = \"0..1 %\"\n+publish = \"a\"\nqos = 1\nwindow = 1",
                "f.toml:8:10: p.window makes a closed loop, whose rate no stage can change",
                "use `rate`",
            ),
            (
                "+subscribe = \"a\"\naway = \"1s\"",
                "f.toml:4:8: p.away is set without `online`",
                "add `online`",
            ),
            (
                "+subscribe = \"a\"\nonline = \"exp(1s\"",
                "f.toml:4:10: p.online is `exp(1s`, which is not a time",
                "write a number of seconds",
            ),
            (
                "+publish = \"a\"\nrate = 1\ntopics = \"zipf(1)\"",
                "f.toml:5:10: p.topics is set, but each client has one topic",
                "add {message%N}",
            ),
            (
                "[[stage]]\nfor = 1\n+publish = \"a\"\nrate = 1\nmessages = 5",
                "f.toml:7:12: p.messages is set, and the stages say how long the run is",
                "remove it",
            ),
            (
                "group = 1",
                "f.toml:1:1: group is not a group",
                "begin a group with [[group]]",
            ),
            (
                "duration =",
                "f.toml:1:11: this line is not TOML",
                "write KEY = VALUE",
            ),
            (
                "duration = [1]\n",
                "f.toml:1:12: duration is a list",
                "write a number",
            ),
            (
                "+clients = 0",
                "f.toml:3:11: p.clients is 0, which is out of range",
                "write a number from 1",
            ),
            (
                "+duration = 1",
                "f.toml:3:1: p.duration is not a key",
                "belongs above the first [[group]]",
            ),
            (
                "+publish = \"a\"",
                "f.toml:3:11: p.publish needs a pace",
                "add `rate`",
            ),
            (
                "+publish = \"a\"\nrate = 1\nwindow = 1",
                "f.toml:5:10: p.window conflicts with `rate`",
                "keep one",
            ),
            (
                "+publish = \"a/#\"\nrate = 1",
                "f.toml:3:11: p.publish is not a topic",
                "without + and #",
            ),
            (
                "+publish = \"{indx}\"\nrate = 1",
                "f.toml:3:11: p.publish has `{indx}`",
                "use {index}",
            ),
            (
                "+publish = \"a\"\nwindow = 1",
                "f.toml:4:10: p.window never gets feedback",
                "add subscribers",
            ),
            (
                "+subscribe = \"t#\"",
                "f.toml:3:13: p.subscribe becomes `t#`, which is not a topic filter",
                "see the rules of topic filters",
            ),
            (
                "+subscribe = [\"t/#\", \"t/+\"]\n[[group]]\nname = \"q\"\npublish = \"t/a\"\n\
                 rate = 1",
                "f.toml:3:13: p.subscribe has overlapping filters for one client",
                "make them disjoint",
            ),
            (
                "+rate = 1",
                "f.toml:3:8: p.rate is set, but the group does not publish",
                "add `publish`",
            ),
            (
                "+clients = 2\nclient_id = \"x\"",
                "f.toml:4:13: p.client_id is the same for every client",
                "add {index}",
            ),
            (
                "+clean = false\nclient_id = \"\"",
                "f.toml:4:13: p.client_id is empty",
                "write a pattern",
            ),
            (
                "+user = \"u\"\npassword = \"***\"",
                "f.toml:4:12: p.password is `***`, which stands for a hidden password",
                "write the password",
            ),
            (
                "+user = \"u\"\npassword_file = \"/does/not/exist\"",
                "f.toml:4:17: p.password_file is `/does/not/exist`, which cannot be used",
                "name a file",
            ),
            (
                "+topic_aliases = 2\npublish = \"a\"\nrate = 1",
                "f.toml:3:17: p.topic_aliases needs MQTT 5.0",
                "add protocol",
            ),
            (
                "+receive_maximum = 2\nsubscribe = \"a\"",
                "f.toml:3:19: p.receive_maximum needs MQTT 5.0",
                "add protocol",
            ),
            (
                "+[[group]]\nname = \"p\"",
                "f.toml:4:8: p.name is given to two groups",
                "change one",
            ),
            (
                "restarts = true\n[[group]]\nname = \"p\"\nclean = true\nsubscribe = \"a\"\n\
                 qos = 1\nreconnect = true",
                "f.toml:4:9: p.clean does not fit a scenario with `restarts`",
                "write clean = false",
            ),
            (
                "+qos = 3",
                "f.toml:3:7: p.qos is `3`, which is not a QoS",
                "write 0, 1 or 2",
            ),
            (
                "+payload = \"8..99\"\npublish = \"a\"\nrate = 1",
                "f.toml:3:11: p.payload is `8..99`, which mixes",
                "keep to one side",
            ),
        ] {
            let text = match text.split_once('+') {
                Some((before, rest)) => format!("{before}{group}{rest}"),
                None => text.to_owned(),
            };
            let problem = only_problem(&text);
            assert!(problem.starts_with(head), "{text}\n{problem}");
            let fix_line = problem.lines().last().unwrap();
            assert!(
                fix_line.starts_with("  fix: ") && fix_line.contains(fix),
                "{text}\n{problem}"
            );
        }
    }

    #[test]
    fn a_scenario_that_was_shown_reads_back_as_it_was() {
        for (name, text) in super::super::builtin::ALL {
            let scenario = file::parse(name, text).unwrap_or_else(|p| panic!("{}", p[0]));
            assert_eq!(scenario.check(), [], "{name}");
            assert_eq!(&scenario.name, name);
            assert!(!scenario.about.is_empty(), "{name}");
            let shown = scenario.to_toml();
            let again = file::parse(name, &shown).unwrap_or_else(|p| panic!("{}\n{shown}", p[0]));
            assert_eq!(again.to_toml(), shown, "{name}");
        }
    }
}
