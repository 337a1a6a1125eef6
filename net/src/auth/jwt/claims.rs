//! The claims of a token, against the broker's requirements (RFC 7519, 4.1).

use std::sync::Arc;
use std::time::Duration;

use ringmq_core::auth::{Effect, Pattern, Rule};
use serde_json::{Map, Value};

use super::Fault;

/// Where something stands among the claims: the name of one, or a JSON Pointer (RFC 6901) such as
/// `/acl/publish`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Claim(pub String);

/// Which tokens are accepted, and what is read from them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Demands {
    /// Accepted issuers; empty: anyone with the key.
    pub issuers: Vec<String>,
    /// The audiences that the broker belongs to; empty: only tokens without an audience.
    pub audiences: Vec<String>,
    /// By how much clocks may differ.
    pub leeway: Duration,
    /// Tokens that never expire are rejected.
    pub expiry_required: bool,
    /// Who the client is.
    pub user: Claim,
    /// The user name of CONNECT, if there is one, has to be that of the token.
    pub user_name_checked: bool,
    /// The client identifier that CONNECT has to have; empty: any.
    pub client_id: Claim,
    /// Topic filters that the client may publish to.
    pub publish: Claim,
    /// Topic filters that the client may subscribe to.
    pub subscribe: Claim,
    /// Topic filters that it may do neither with.
    pub deny: Claim,
    /// Topic filters that it may not publish to.
    pub deny_publish: Claim,
    /// Topic filters that it may not subscribe to.
    pub deny_subscribe: Claim,
}

impl Default for Demands {
    fn default() -> Demands {
        let claim = |name: &str| Claim(name.to_owned());
        Demands {
            issuers: Vec::new(),
            audiences: Vec::new(),
            leeway: Duration::from_secs(30),
            expiry_required: true,
            user: claim("sub"),
            user_name_checked: true,
            client_id: claim(""),
            publish: claim("/acl/publish"),
            subscribe: claim("/acl/subscribe"),
            deny: claim("/acl/deny"),
            deny_publish: claim("/acl/deny_publish"),
            deny_subscribe: claim("/acl/deny_subscribe"),
        }
    }
}

/// Who shows a token.
#[derive(Clone, Copy, Debug)]
pub struct Shower<'a> {
    /// Its client identifier; empty: the broker will choose one.
    pub client_id: &'a str,
    /// The user name beside the token.
    pub user_name: Option<&'a str>,
}

/// What a token gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who the client is.
    pub user: Box<str>,
    /// For how long, leeway included; `None`: for ever.
    pub lasts: Option<Duration>,
    /// Rules of its own; `None`: the token has no word on that.
    pub rules: Option<Arc<[Rule]>>,
}

impl Demands {
    /// Looks at the claims. `time` is the time of day, since 1970.
    pub fn check(
        &self,
        claims: &Map<String, Value>,
        shower: Shower<'_>,
        time: Duration,
    ) -> Result<Grant, Fault> {
        let lasts = self.check_times(claims, time)?;
        self.check_names(claims)?;
        let user = match self.user.of(claims) {
            Some(Value::String(user)) if is_name(user) => user,
            Some(_) | None => return Err(Fault::NO_USER),
        };
        let shown = shower.user_name.filter(|name| !name.is_empty());
        if self.user_name_checked && shown.is_some_and(|name| name != user) {
            return Err(Fault::OTHER_USER);
        }
        if !self.client_id.0.is_empty() {
            match self.client_id.of(claims) {
                Some(Value::String(id)) if id == shower.client_id && !id.is_empty() => {}
                Some(_) | None => return Err(Fault::OTHER_CLIENT),
            }
        }
        Ok(Grant {
            user: user.as_str().into(),
            lasts,
            rules: self.rules(claims)?,
        })
    }

    /// For how long the token is good.
    fn check_times(
        &self,
        claims: &Map<String, Value>,
        time: Duration,
    ) -> Result<Option<Duration>, Fault> {
        let latest_start = time + self.leeway;
        for name in ["nbf", "iat"] {
            if date(claims, name)?.is_some_and(|at| at > latest_start) {
                return Err(Fault::EARLY);
            }
        }
        match date(claims, "exp")? {
            Some(at) => match (at + self.leeway).checked_sub(time) {
                Some(lasts) if !lasts.is_zero() => Ok(Some(lasts)),
                Some(_) | None => Err(Fault::EXPIRED),
            },
            None if self.expiry_required => Err(Fault::NO_EXPIRY),
            None => Ok(None),
        }
    }

    fn check_names(&self, claims: &Map<String, Value>) -> Result<(), Fault> {
        match claims.get("iss") {
            _ if self.issuers.is_empty() => {}
            Some(Value::String(issuer)) if self.issuers.contains(issuer) => {}
            Some(_) | None => return Err(Fault::ISSUER),
        }
        let is_ours = |name: &Value| {
            name.as_str()
                .is_some_and(|n| self.audiences.iter().any(|a| a == n))
        };
        match claims.get("aud") {
            // A token for others must be rejected (RFC 7519, 4.1.3).
            None if self.audiences.is_empty() => Ok(()),
            Some(Value::Array(names)) if names.iter().any(is_ours) => Ok(()),
            Some(name @ Value::String(_)) if is_ours(name) => Ok(()),
            Some(_) | None => Err(Fault::AUDIENCE),
        }
    }

    /// All filters of all lists. What cannot be read makes the token none: it might have denied
    /// something. An object that is there for rules and has none allows nothing.
    fn rules(&self, claims: &Map<String, Value>) -> Result<Option<Arc<[Rule]>>, Fault> {
        let mut rules = self.check_form(claims)?.then(Vec::new);
        for (claim, effect, publish, receive) in [
            (&self.publish, Effect::Allow, true, false),
            (&self.subscribe, Effect::Allow, false, true),
            (&self.deny, Effect::Deny, true, true),
            (&self.deny_publish, Effect::Deny, true, false),
            (&self.deny_subscribe, Effect::Deny, false, true),
        ] {
            let filters = match claim.of(claims) {
                None => continue,
                Some(Value::Array(filters)) => filters.iter().collect(),
                Some(filter) => vec![filter],
            };
            let rules = rules.get_or_insert_with(Vec::new);
            for filter in filters {
                let pattern = filter
                    .as_str()
                    .and_then(|text| Pattern::parse(text, true).ok());
                rules.push(Rule {
                    effect,
                    publish,
                    receive,
                    pattern: pattern.ok_or(Fault::RULE)?,
                });
            }
        }
        Ok(rules.map(Into::into))
    }
}

impl Demands {
    /// Every claim that is looked at.
    fn all_claims(&self) -> [&Claim; 7] {
        let [publish, subscribe, deny, deny_publish, deny_subscribe] = self.claims_of_rules();
        [
            &self.user,
            &self.client_id,
            publish,
            subscribe,
            deny,
            deny_publish,
            deny_subscribe,
        ]
    }

    fn claims_of_rules(&self) -> [&Claim; 5] {
        [
            &self.publish,
            &self.subscribe,
            &self.deny,
            &self.deny_publish,
            &self.deny_subscribe,
        ]
    }

    /// Whether there is an object that claims of rules stand in, such as `acl`. It has to be one,
    /// and to hold nothing but what is looked at: rules in the form of another broker, or with a
    /// slip of the pen, are none that could be left out.
    fn check_form(&self, claims: &Map<String, Value>) -> Result<bool, Fault> {
        let mut is_there = false;
        for claim in self.claims_of_rules() {
            let mut path = claim.path();
            path.pop();
            let mut members = claims;
            for depth in 1..=path.len() {
                members = match members.get(&path[depth - 1]) {
                    None => break,
                    Some(Value::Object(inner)) => inner,
                    Some(_) => return Err(Fault::RULE_FORM),
                };
                if depth == path.len() {
                    self.check_members(&path, members)?;
                    is_there = true;
                }
            }
        }
        Ok(is_there)
    }

    fn check_members(&self, path: &[String], members: &Map<String, Value>) -> Result<(), Fault> {
        let all = self.all_claims().map(Claim::path);
        let is_known = |name: &String| {
            all.iter()
                .any(|known| known.strip_prefix(path).and_then(<[_]>::first) == Some(name))
        };
        if members.keys().all(is_known) {
            Ok(())
        } else {
            Err(Fault::RULE_FORM)
        }
    }
}

impl Claim {
    /// From outside to inside.
    fn path(&self) -> Vec<String> {
        match self.0.strip_prefix('/') {
            None if self.0.is_empty() => Vec::new(),
            None => vec![self.0.clone()],
            Some(path) => {
                let names = path.split('/');
                names
                    .map(|name| name.replace("~1", "/").replace("~0", "~"))
                    .collect()
            }
        }
    }

    fn of<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        let Some(path) = self.0.strip_prefix('/') else {
            return claims.get(&self.0).filter(|_| !self.0.is_empty());
        };
        let (first, rest) = match path.split_once('/') {
            Some((first, _)) => (first, &path[first.len()..]),
            None => (path, ""),
        };
        let first = first.replace("~1", "/").replace("~0", "~");
        claims.get(&first)?.pointer(rest)
    }
}

/// A NumericDate: seconds, perhaps with a fraction (RFC 7519, 2). What is not one makes the token
/// none, rather than one without a date (threat 81).
fn date(claims: &Map<String, Value>, name: &str) -> Result<Option<Duration>, Fault> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let date = match value.as_u64() {
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => value
            .as_f64()
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
    };
    match date.filter(|&date| date <= DATE_MAX) {
        Some(date) => Ok(Some(date)),
        None => Err(Fault::DATE),
    }
}

/// What a user name of CONNECT could be: no more than that fits, and nothing that MQTT forbids in
/// text.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= usize::from(u16::MAX) && !name.contains('\0')
}

/// The last second of the year 9999.
const DATE_MAX: Duration = Duration::from_secs(253_402_300_799);
