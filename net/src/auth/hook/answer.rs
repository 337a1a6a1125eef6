//! The response of a hook, parsed strictly: anything unknown invalidates all of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ringmq_core::auth::{Effect, Pattern, Rule};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The answer to a question about a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) decision: Decision,
    /// Who the client is, if not who it says.
    pub(super) user: Option<Box<str>>,
    /// Rules for this client alone.
    pub(super) rules: Option<Arc<[Rule]>>,
    /// How long that holds.
    pub(super) lasts: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Decision {
    Allow,
    Deny,
    /// Another authenticator decides about this client.
    Ignore,
}

/// As it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    result: Decision,
    user: Option<String>,
    rules: Option<WrittenRules>,
    /// Seconds.
    expires_in: Option<u64>,
}

/// The lists of a table of the rules file.
#[derive(Default)]
struct WrittenRules(Vec<Rule>);

impl Answer {
    /// Nothing but a decision.
    pub(super) fn plain(decision: Decision) -> Answer {
        Answer {
            decision,
            user: None,
            rules: None,
            lasts: None,
        }
    }

    /// Reads the body of a response; otherwise what is wrong with it.
    pub(super) fn parse(body: &[u8]) -> Result<Answer, String> {
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err("it is no JSON object".to_owned()); // A list would do for a struct.
        }
        let written: Written = serde_json::from_slice(body).map_err(|e| e.to_string())?;
        if written.user.as_deref() == Some("") {
            return Err("the user name is empty".to_owned());
        }
        if written.expires_in == Some(0) {
            return Err("it has expired already".to_owned());
        }
        Ok(Answer {
            decision: written.result,
            user: written.user.map(Into::into),
            rules: written.rules.map(|rules| rules.0.into()),
            lasts: written.expires_in.map(Duration::from_secs),
        })
    }
}

/// By hand, because what is derived would read a list, too, and drop the first of two equal keys.
impl<'de> Deserialize<'de> for WrittenRules {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<WrittenRules, D::Error> {
        deserializer.deserialize_map(RulesVisitor)
    }
}

struct RulesVisitor;

impl<'de> Visitor<'de> for RulesVisitor {
    type Value = WrittenRules;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("lists of filters by what they allow or deny")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WrittenRules, A::Error> {
        let mut rules = WrittenRules::default();
        while let Some(key) = map.next_key::<String>()? {
            let (effect, publish, receive) = match key.as_str() {
                "publish" => (Effect::Allow, true, false),
                "subscribe" => (Effect::Allow, false, true),
                "deny" => (Effect::Deny, true, true),
                "deny_publish" => (Effect::Deny, true, false),
                "deny_subscribe" => (Effect::Deny, false, true),
                _ => return Err(A::Error::unknown_field(&key, KEYS)),
            };
            for filter in map.next_value::<Vec<String>>()? {
                let pattern = Pattern::parse(&filter, true).map_err(|fault| {
                    A::Error::custom(format_args!("`{}` {fault}", filter.escape_debug()))
                })?;
                rules.0.push(Rule {
                    effect,
                    publish,
                    receive,
                    pattern,
                });
            }
        }
        Ok(rules)
    }
}

const KEYS: &[&str] = &[
    "publish",
    "subscribe",
    "deny",
    "deny_publish",
    "deny_subscribe",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_parsed_as_intended() {
        let answer = Answer::parse(
            br#"{"result": "allow", "user": "alice", "expires_in": 60,
                "rules": {"publish": ["a/%c/#"], "deny": ["a/b"]}}"#,
        )
        .unwrap();
        assert_eq!(answer.decision, Decision::Allow);
        assert_eq!(answer.user.as_deref(), Some("alice"));
        assert_eq!(answer.lasts, Some(Duration::from_secs(60)));
        let rules = answer.rules.unwrap();
        let kinds: Vec<_> = rules
            .iter()
            .map(|r| (r.effect, r.publish, r.receive))
            .collect();
        assert_eq!(
            kinds,
            [(Effect::Allow, true, false), (Effect::Deny, true, true)]
        );
        let plain = Answer::parse(br#"{"result":"ignore"}"#);
        assert_eq!(plain, Ok(Answer::plain(Decision::Ignore)));
        let none = Answer::parse(br#"{"result":"allow","rules":{}}"#).unwrap();
        assert_eq!(
            none.rules.as_deref(),
            Some(&[][..]),
            "rules that allow nothing"
        );
    }

    // An answer that is not understood permits nothing (threat 82).
    #[test]
    fn an_answer_that_is_not_understood_is_rejected() {
        for body in [
            &b""[..],
            b"ok",
            b"true",
            b"null",
            b"[]",
            b"{}",
            br#"{"result":true}"#,
            br#"{"result":"Allow"}"#,
            br#"{"result":"allow","result":"deny"}"#,
            br#"{"result":"allow","rule":{}}"#,
            br#"{"result":"allow","rules":{"denied":["a"]}}"#,
            br#"{"result":"allow","rules":{"publish":"a"}}"#,
            br#"{"result":"allow","rules":{"publish":["a/#/b"]}}"#,
            br#"{"result":"allow","rules":[]}"#,
            br#"{"result":"allow","rules":[["a"],["a"],[],[],[]]}"#,
            br#"["allow",null,null,null]"#,
            br#"{"result":"allow","user":""}"#,
            br#"{"result":"allow","user":7}"#,
            br#"{"result":"allow","expires_in":0}"#,
            br#"{"result":"allow","expires_in":"60"}"#,
            br#"{"result":"allow","expires_in":-1}"#,
            br#"{"result":"allow","expires_in":1e400}"#,
            br#"{"result":"allow","expires_in":1.5}"#,
            br#"{"result":"allow"} {"result":"deny"}"#,
            b"{\"result\":\"allow\",\"user\":\"\xff\"}",
        ] {
            assert!(Answer::parse(body).is_err(), "{}", body.escape_ascii());
        }
    }
}
