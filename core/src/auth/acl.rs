//! Access rules: who may publish and receive on which topics.
//!
//! Invariants:
//! - a denying rule wins over all allowing ones, whoever they are for.
//! - what no rule mentions is denied, unless the list has another default.
//! - names of clients are compared, never parsed: a substitute for `%u` or `%c` is part of one
//!   level, and a name with a wildcard, a slash or a percent sign is not substituted (threats 64,
//!   65).
//!
//! Not here: when rules are evaluated (`shard`), the file formats (`acl_file.rs`, and the shell).

mod pattern;

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

pub use pattern::{Pattern, PatternFault};

use crate::topic::TopicFilter;

/// All rules. Shared by all shards, never changed.
#[derive(Debug, Default)]
pub struct Acl {
    /// For clients without a name.
    anonymous: Rules,
    /// For users, by name.
    users: HashMap<Box<str>, Rules, FixedState>,
    /// For clients with and without a name.
    everyone: Rules,
    /// What no rule speaks of is allowed.
    allow_by_default: bool,
}

/// Rules for some clients.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Their own.
    pub own: Vec<Rule>,
    /// Those that they share with others.
    pub roles: Vec<Arc<[Rule]>>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it does to those topics.
    pub effect: Effect,
    /// It is about publishing.
    pub publish: bool,
    /// It is about receiving.
    pub receive: bool,
    /// Which topics.
    pub pattern: Pattern,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The topics are open.
    Allow,
    /// The topics are closed, whatever other rules say.
    Deny,
}

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a message.
    Publish,
    /// Get a message.
    Receive,
}

/// Who wants it.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// Its name, if it has proven one.
    pub user: Option<&'a str>,
    /// Its client identifier.
    pub client_id: &'a str,
    /// Rules that it brought along, beside those of the list: what no rule speaks of is denied
    /// then.
    pub rules: Option<&'a [Rule]>,
}

/// How much of what a filter matches somebody may receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Nothing.
    Nothing,
    /// Perhaps not all: each message is looked at.
    Part,
    /// All of it.
    All,
}

/// Whom rules are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// Clients without a name.
    Anonymous,
    /// One user.
    User(&'a str),
    /// All clients.
    Everyone,
}

impl Acl {
    /// No rules.
    pub fn new(allow_by_default: bool) -> Acl {
        Acl {
            allow_by_default,
            ..Acl::default()
        }
    }

    /// The rules for somebody, to add to.
    pub fn rules_mut(&mut self, subject: Subject<'_>) -> &mut Rules {
        match subject {
            Subject::Anonymous => &mut self.anonymous,
            Subject::Everyone => &mut self.everyone,
            Subject::User(name) => self.users.entry(name.into()).or_default(),
        }
    }

    /// Whether somebody may do that on a topic.
    pub fn allows(&self, who: Who<'_>, action: Action, topic: &[u8]) -> bool {
        let mut is_allowed = self.is_open_to(who);
        for rule in self.rules_of(who) {
            if rule.is_about(action) && rule.matches(topic, who) {
                match rule.effect {
                    Effect::Deny => return false,
                    Effect::Allow => is_allowed = true,
                }
            }
        }
        is_allowed
    }

    /// Why somebody may not do that on a topic: the rule that denies it, or `None` if no rule allows it.
    ///
    /// # Errors
    /// It is not allowed.
    pub fn check(&self, who: Who<'_>, action: Action, topic: &[u8]) -> Result<(), Option<Rule>> {
        if self.allows(who, action, topic) {
            return Ok(());
        }
        let mut rules = self.rules_of(who);
        let denies = |rule: &&Rule| {
            rule.effect == Effect::Deny && rule.is_about(action) && rule.matches(topic, who)
        };
        Err(rules.find(denies).cloned())
    }

    /// How much of what a filter matches somebody may receive. The share name does not count
    /// (threat 72).
    pub fn extent(&self, who: Who<'_>, filter: &TopicFilter) -> Extent {
        let filter = filter.pattern();
        let is_open = self.is_open_to(who);
        let (mut meets, mut covers) = (is_open, is_open);
        let mut is_cut = false;
        for rule in self.rules_of(who) {
            if !rule.is_about(Action::Receive) {
                continue;
            }
            match rule.effect {
                Effect::Deny if rule.covers(filter, who) => return Extent::Nothing,
                Effect::Deny => is_cut |= rule.meets(filter, who),
                Effect::Allow => {
                    covers |= rule.covers(filter, who);
                    meets |= covers || rule.meets(filter, who);
                }
            }
        }
        match (meets, covers && !is_cut) {
            (false, _) => Extent::Nothing,
            (true, false) => Extent::Part,
            (true, true) => Extent::All,
        }
    }

    /// What no rule speaks of is allowed.
    fn is_open_to(&self, who: Who<'_>) -> bool {
        self.allow_by_default && who.rules.is_none()
    }

    /// All rules that are for somebody.
    fn rules_of<'a>(&'a self, who: Who<'a>) -> impl Iterator<Item = &'a Rule> {
        let theirs = match who.user {
            None => Some(&self.anonymous),
            Some(user) => self.users.get(user),
        };
        let lists = theirs.into_iter().chain([&self.everyone]);
        let listed = lists.flat_map(|rules| {
            rules
                .own
                .iter()
                .chain(rules.roles.iter().flat_map(|r| &**r))
        });
        listed.chain(who.rules.unwrap_or_default())
    }

    /// How many rules there are, those of a role once for each who has it.
    pub fn len(&self) -> usize {
        let all = [&self.anonymous, &self.everyone].into_iter();
        all.chain(self.users.values()).map(Rules::len).sum()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Rules {
    fn len(&self) -> usize {
        self.own.len() + self.roles.iter().map(|role| role.len()).sum::<usize>()
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.effect {
            Effect::Allow => "allow",
            Effect::Deny => "deny",
        })?;
        f.write_str(match (self.publish, self.receive) {
            (true, true) => "",
            (true, false) => " publish",
            (false, true) => " receive",
            (false, false) => " nothing",
        })?;
        write!(f, " {}", self.pattern)
    }
}

impl Rule {
    /// Opens all topics.
    pub fn everything() -> Rule {
        Rule {
            effect: Effect::Allow,
            publish: true,
            receive: true,
            pattern: Pattern::parse("#", false).expect("a topic filter"),
        }
    }

    fn is_about(&self, action: Action) -> bool {
        match action {
            Action::Publish => self.publish,
            Action::Receive => self.receive,
        }
    }

    fn matches(&self, topic: &[u8], who: Who<'_>) -> bool {
        self.pattern.matches(topic, who, self.effect)
    }

    fn covers(&self, filter: &str, who: Who<'_>) -> bool {
        self.pattern.covers(filter, who, self.effect)
    }

    fn meets(&self, filter: &str, who: Who<'_>) -> bool {
        self.pattern.meets(filter, who, self.effect)
    }
}

#[cfg(test)]
mod tests;
