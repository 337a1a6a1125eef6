//! Mosquitto's `acl_file`.
//!
//! `topic` lines apply to the user named last, and before the first `user` line to anonymous
//! clients; `pattern` lines apply to everyone. Differences from Mosquitto: a `deny` wins wherever
//! it is, even over the user's own allowing lines, and a client identifier with a slash is not
//! substituted for `%c`.

use std::fmt;

use super::acl::{Acl, Effect, Pattern, PatternFault, Rule, Subject};
use super::{file_lines, is_deceptive};

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AclFileError {
    /// Counted from 1; 0 stands for the file as a whole.
    pub line: usize,
    /// What it is.
    pub fault: AclFault,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AclFault {
    /// There is no rule in it.
    Empty,
    /// It begins with none of the words that there are.
    Keyword,
    /// `user` without a name.
    NoUser,
    /// The user name has something in it that nobody sees.
    UserName,
    /// What stands before the topic is no access.
    Access,
    /// The topic is no topic filter.
    Topic(PatternFault),
}

/// Reads a file and adds its rules.
pub fn read_acl_file(text: &str, acl: &mut Acl) -> Result<(), AclFileError> {
    let mut user: Option<&str> = None;
    let mut count = 0;
    for (number, line) in file_lines(text) {
        let (keyword, rest) = split_word(line);
        let rule = match keyword {
            "user" if rest.is_empty() => Err(AclFault::NoUser),
            "user" if is_deceptive(rest) => Err(AclFault::UserName),
            "user" => {
                user = Some(rest);
                continue;
            }
            "topic" => parse_rule(rest, false),
            "pattern" => parse_rule(rest, true),
            _ => Err(AclFault::Keyword),
        };
        let rule = rule.map_err(|fault| AclFileError {
            line: number,
            fault,
        })?;
        let subject = match (keyword, user) {
            ("pattern", _) => Subject::Everyone,
            (_, Some(user)) => Subject::User(user),
            (_, None) => Subject::Anonymous,
        };
        acl.rules_mut(subject).own.push(rule);
        count += 1;
    }
    match count {
        0 => Err(AclFileError {
            line: 0,
            fault: AclFault::Empty,
        }),
        _ => Ok(()),
    }
}

/// `[ACCESS] TOPIC`.
fn parse_rule(text: &str, has_names: bool) -> Result<Rule, AclFault> {
    let (first, rest) = split_word(text);
    let (access, topic) = match rest {
        // A single word is the topic, even if it is a keyword.
        "" => ("readwrite", first),
        _ => (first, rest),
    };
    let (effect, publish, receive) = match access {
        "read" => (Effect::Allow, false, true),
        "write" => (Effect::Allow, true, false),
        "readwrite" => (Effect::Allow, true, true),
        "deny" => (Effect::Deny, true, true),
        _ => return Err(AclFault::Access),
    };
    Ok(Rule {
        effect,
        publish,
        receive,
        pattern: Pattern::parse(topic, has_names).map_err(AclFault::Topic)?,
    })
}

/// The first word, and what follows it.
fn split_word(text: &str) -> (&str, &str) {
    match text.split_once([' ', '\t']) {
        Some((word, rest)) => (word, rest.trim_start()),
        None => (text, ""),
    }
}

impl fmt::Display for AclFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AclFault::Empty => f.write_str("has no rule in it"),
            AclFault::Keyword => f.write_str("begins with none of `user`, `topic` and `pattern`"),
            AclFault::NoUser => f.write_str("names no user"),
            AclFault::UserName => {
                f.write_str("has a user name with a character that cannot be seen")
            }
            AclFault::Access => {
                f.write_str("has before its topic none of `read`, `write`, `readwrite` and `deny`")
            }
            AclFault::Topic(fault) => write!(f, "has a topic that {fault}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::acl::{Action, Who};

    fn read(text: &str) -> Result<Acl, AclFileError> {
        let mut acl = Acl::new(false);
        read_acl_file(text, &mut acl).map(|()| acl)
    }

    #[test]
    fn rules_apply_to_the_users_that_the_file_names() {
        let acl = read(
            "# Comment\n\ntopic read public/#\nuser alice\ntopic a\n\ttopic   write  out/it self \r\n\
             topic deny a/secret\nuser bob smith\ntopic readwrite b/#\npattern read dev/%c/in\n\
             pattern u/%u/#\ntopic read %u/literal",
        )
        .unwrap();
        let (publish, receive) = (Action::Publish, Action::Receive);
        for (user, action, topic, expected) in [
            (None, receive, "public/x", true),
            (None, publish, "public/x", false),
            (None, receive, "a", false),
            (None, receive, "dev/c1/in", true),
            (None, receive, "u//x", false),
            (Some("alice"), receive, "public/x", false),
            (Some("alice"), receive, "a", true),
            (Some("alice"), publish, "a", true),
            (Some("alice"), publish, "out/it self", true),
            (Some("alice"), receive, "out/it self", false),
            (Some("alice"), receive, "a/secret", false),
            (Some("alice"), publish, "u/alice/x", true),
            (Some("alice"), publish, "u/bob/x", false),
            (Some("bob smith"), publish, "b/x", true),
            (Some("bob smith"), receive, "%u/literal", true),
            (Some("bob smith"), receive, "bob smith/literal", false),
            (Some("bob"), publish, "b/x", false),
            (Some("carol"), receive, "dev/c1/in", true),
            (Some("carol"), receive, "dev/c2/in", false),
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
    fn one_faulty_line_makes_the_file_invalid() {
        let topic = |fault| AclFault::Topic(fault);
        for (text, line, fault) in [
            ("", 0, AclFault::Empty),
            ("# x\nuser alice\n", 0, AclFault::Empty),
            ("topic a\nfoo bar", 2, AclFault::Keyword),
            ("Topic a", 1, AclFault::Keyword),
            ("user", 1, AclFault::NoUser),
            ("user alice\u{FEFF}\ntopic a", 1, AclFault::UserName),
            ("user alice\u{A0}\ntopic a", 1, AclFault::UserName),
            ("topic a\n\u{FEFF}topic b", 2, AclFault::Keyword),
            ("topic", 1, topic(PatternFault::Empty)),
            ("pattern read", 0, AclFault::Empty),
            ("topic reed a", 1, AclFault::Access),
            ("topic a b", 1, AclFault::Access),
            ("topic read a/#/b", 1, topic(PatternFault::Wildcard)),
            ("topic a+", 1, topic(PatternFault::Wildcard)),
            ("topic deny $share/g/a", 1, topic(PatternFault::Shared)),
            ("pattern read dev/%c+", 1, topic(PatternFault::Wildcard)),
            ("topic read a\0", 1, topic(PatternFault::Malformed)),
        ] {
            match read(text) {
                Err(error) => assert_eq!((error.line, error.fault), (line, fault), "{text}"),
                // One word is a topic.
                Ok(_) => assert_eq!(text, "pattern read"),
            }
        }
    }
}
