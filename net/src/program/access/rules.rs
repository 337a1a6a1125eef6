//! Rules in TOML, with roles: for users, for clients without a name, for everyone.
//!
//! ```toml
//! [roles.sensor]
//! publish = ["sensors/%c/#"]
//! subscribe = ["commands/%c/#"]
//!
//! [users.alice]
//! roles = ["sensor"]
//! deny = ["sensors/secret/#"]
//!
//! [everyone]
//! subscribe = ["news/#"]
//! ```

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use ringmq_core::auth::{Acl, Effect, Pattern, Rule, Rules, Subject, is_deceptive};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::files::{wrong_file, wrong_line};
use crate::settings::file::Problem;
use crate::settings::value::nearest;

/// Reads a file and adds its rules. A role is for the users of the same file.
pub fn read(path: &Path, text: &str, acl: &mut Acl, problems: &mut Vec<Problem>) {
    let before = problems.len();
    let mut reader = Reader {
        path,
        text,
        problems,
    };
    let root = match DeTable::parse(text) {
        Ok(root) => root,
        Err(error) => {
            let span = error.span().unwrap_or(0..0);
            let what = format!("is not TOML: {}", error.message());
            reader.complain(span, "the line", &what, "mend it");
            return;
        }
    };
    let root = root.get_ref();
    let roles = reader.roles(root);
    for (key, value) in root {
        let subject = match key.get_ref().as_ref() {
            "roles" => continue,
            "users" => {
                reader.users(value, &roles, acl);
                continue;
            }
            "anonymous" => Subject::Anonymous,
            "everyone" => Subject::Everyone,
            other => {
                let fix = "the tables are [roles.NAME], [users.NAME], [anonymous] and [everyone]";
                reader.complain(key.span(), other, "is no table of rules", fix);
                continue;
            }
        };
        let rules = reader.rules(value, Some(&roles));
        add(acl.rules_mut(subject), rules);
    }
    if acl.is_empty() && problems.len() == before {
        let what = "has no rule in it: nobody could do anything".to_owned();
        let fix = "write rules, such as [everyone] and subscribe = [\"news/#\"]".to_owned();
        problems.push(wrong_file(path, what, fix));
    }
}

type Roles = HashMap<String, Arc<[Rule]>>;

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn roles(&mut self, root: &DeTable<'_>) -> Roles {
        let mut roles = Roles::new();
        let Some((_, value)) = root.iter().find(|(key, _)| key.get_ref() == "roles") else {
            return roles;
        };
        for (name, value) in self.table(value) {
            let rules = self.rules(value, None);
            roles.insert(name.get_ref().to_string(), rules.own.into());
        }
        roles
    }

    fn users(&mut self, value: &Spanned<DeValue<'_>>, roles: &Roles, acl: &mut Acl) {
        for (name, value) in self.table(value) {
            if is_deceptive(name.get_ref()) {
                let what = "has a blank at an end, or a character that cannot be seen";
                self.complain(name.span(), name.get_ref(), what, "write the name again");
            }
            let rules = self.rules(value, Some(roles));
            add(acl.rules_mut(Subject::User(name.get_ref())), rules);
        }
    }

    /// One table of rules. A role has no roles itself.
    fn rules(&mut self, value: &Spanned<DeValue<'_>>, roles: Option<&Roles>) -> Rules {
        let mut rules = Rules::default();
        for (key, value) in self.table(value) {
            let key_text = key.get_ref().as_ref();
            let (effect, publish, receive) = match (key_text, roles) {
                ("publish", _) => (Effect::Allow, true, false),
                ("subscribe", _) => (Effect::Allow, false, true),
                ("deny", _) => (Effect::Deny, true, true),
                ("deny_publish", _) => (Effect::Deny, true, false),
                ("deny_subscribe", _) => (Effect::Deny, false, true),
                ("roles", Some(roles)) => {
                    rules.roles.extend(self.named_roles(value, roles));
                    continue;
                }
                (other, _) => {
                    let fix = match nearest(other, KEYS.into_iter()) {
                        Some(key) => format!("did you mean `{key}`?"),
                        None => format!("the keys are {}", KEYS.join(", ")),
                    };
                    self.complain(key.span(), other, "is no kind of rule here", &fix);
                    continue;
                }
            };
            for (topic, span) in self.texts(value) {
                match Pattern::parse(&topic, true) {
                    Ok(pattern) => rules.own.push(Rule {
                        effect,
                        publish,
                        receive,
                        pattern,
                    }),
                    Err(fault) => {
                        self.complain(span, &topic, &fault.to_string(), "write a topic filter");
                    }
                }
            }
        }
        rules
    }

    fn named_roles(&mut self, value: &Spanned<DeValue<'_>>, roles: &Roles) -> Vec<Arc<[Rule]>> {
        let mut found = Vec::new();
        for (name, span) in self.texts(value) {
            match roles.get(&name) {
                Some(role) => found.push(Arc::clone(role)),
                None => {
                    let fix = match nearest(&name, roles.keys().map(String::as_str)) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("write [roles.{name}]"),
                    };
                    self.complain(span, &name, "is no role of this file", &fix);
                }
            }
        }
        found
    }

    fn table<'t, 'i>(
        &mut self,
        value: &'t Spanned<DeValue<'i>>,
    ) -> Vec<(
        &'t Spanned<std::borrow::Cow<'i, str>>,
        &'t Spanned<DeValue<'i>>,
    )> {
        let DeValue::Table(table) = value.get_ref() else {
            let fix = "write it in [brackets]";
            self.complain(value.span(), "this", "is no table", fix);
            return Vec::new();
        };
        table.iter().collect()
    }

    /// A list of texts, with their places.
    fn texts(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<(String, Range<usize>)> {
        let mut texts = Vec::new();
        let items = match value.get_ref().as_array() {
            Some(items) => items.iter().collect(),
            None => vec![value],
        };
        for item in items {
            if let DeValue::String(text) = item.get_ref() {
                texts.push((text.to_string(), item.span()));
            } else {
                let fix = "write a list of texts, such as [\"a/#\"]";
                self.complain(item.span(), "this", "is no text", fix);
            }
        }
        texts
    }

    fn complain(&mut self, span: Range<usize>, subject: &str, what: &str, fix: &str) {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        self.problems.push(Problem {
            subject: format!("`{}`", subject.escape_debug()),
            ..wrong_line(self.path, line, what.to_owned(), fix.to_owned())
        });
    }
}

fn add(rules: &mut Rules, more: Rules) {
    rules.own.extend(more.own);
    rules.roles.extend(more.roles);
}

const KEYS: [&str; 6] = [
    "publish",
    "subscribe",
    "deny",
    "deny_publish",
    "deny_subscribe",
    "roles",
];

#[cfg(test)]
mod tests {
    use ringmq_core::auth::{Action, Who};

    use super::*;

    fn load(text: &str) -> Result<Acl, Vec<String>> {
        let mut acl = Acl::new(false);
        let mut problems = Vec::new();
        read(Path::new("r.toml"), text, &mut acl, &mut problems);
        if problems.is_empty() {
            Ok(acl)
        } else {
            Err(problems.iter().map(ToString::to_string).collect())
        }
    }

    #[test]
    fn roles_users_and_everyone_have_their_rules() {
        let acl = load(
            "[roles.sensor]\npublish = [\"s/%c/#\"]\nsubscribe = \"c/%c/#\"\n\
             [roles.reader]\nsubscribe = [\"s/#\"]\n\
             [users.alice]\nroles = [\"sensor\", \"reader\"]\ndeny = [\"s/secret/#\"]\n\
             [users.\"bob smith\"]\ndeny_publish = [\"news/b\"]\n\
             [anonymous]\nsubscribe = [\"hello\"]\n\
             [everyone]\nsubscribe = [\"news/#\"]\npublish = [\"news/#\"]\ndeny_subscribe = [\"news/x\"]\n",
        )
        .unwrap();
        let (publish, receive) = (Action::Publish, Action::Receive);
        for (user, action, topic, expected) in [
            (Some("alice"), publish, "s/c1/x", true),
            (Some("alice"), publish, "s/c2/x", false),
            (Some("alice"), receive, "s/c2/x", true),
            (Some("alice"), receive, "s/secret/x", false),
            (Some("alice"), receive, "hello", false),
            (Some("bob smith"), publish, "news/a", true),
            (Some("bob smith"), publish, "news/b", false),
            (Some("bob smith"), receive, "news/b", true),
            (Some("bob smith"), receive, "news/x", false),
            (Some("bob smith"), publish, "news/x", true),
            (None, receive, "hello", true),
            (None, publish, "hello", false),
            (None, receive, "news/a", true),
        ] {
            let who = Who {
                user,
                client_id: "c1",
                rules: None,
            };
            let is_allowed = acl.allows(who, action, topic.as_bytes());
            assert_eq!(is_allowed, expected, "{user:?} {action:?} {topic}");
        }
    }

    #[test]
    fn every_mistake_is_reported_with_its_line() {
        for (text, expected) in [
            ("", "r.toml: the file has no rule in it"),
            ("[users.a]\n", "has no rule in it"),
            ("x", "r.toml:1: `the line` is not TOML"),
            (
                "[rolls.a]\npublish = []",
                "r.toml:1: `rolls` is no table of rules",
            ),
            (
                "[users.a]\npublsh = []",
                "r.toml:2: `publsh` is no kind of rule here\n  fix: did you mean `publish`?",
            ),
            (
                "[users.a]\nroles = [\"x\"]",
                "r.toml:2: `x` is no role of this file",
            ),
            (
                "[roles.a]\nroles = [\"a\"]",
                "r.toml:2: `roles` is no kind of rule here",
            ),
            (
                "[users.\" a\"]\npublish = []",
                "r.toml:1: ` a` has a blank at an end",
            ),
            (
                "[users.\"a\\u200B\"]\npublish = []",
                "has a blank at an end, or a character that cannot be seen",
            ),
            (
                "[everyone]\nsubscribe = [\"$share/g/a\"]",
                "r.toml:2: `$share/g/a`",
            ),
            ("[users]\na = 1", "r.toml:2: `this` is no table"),
            ("[everyone]\npublish = [\n1]", "r.toml:3: `this` is no text"),
            (
                "[everyone]\npublish = [\"a/#/b\"]",
                "r.toml:2: `a/#/b` has a wildcard in the wrong place",
            ),
        ] {
            let problems = load(text).expect_err(text);
            assert!(problems[0].contains(expected), "{text}: {problems:?}");
        }
    }
}
