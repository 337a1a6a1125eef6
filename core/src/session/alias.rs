//! Topic aliases of one connection, in each direction [MQTT-3.3.2-7].
//!
//! Invariants:
//! - aliases of the client: `topics.len() <= topic_alias_max`, grown by use.
//! - aliases of the broker: `topics` holds `1..=topics.len()`, each once, and `topics.len() <= max`
//!   [MQTT-3.1.2-26]; the client has been told each of them.
//!
//! Half of the aliases of the broker go to the topics that come first, so that a client of few topics
//! has them at once; the other half to topics that are seen for the second time, so that those that
//! come once do not take all. A topic keeps its alias: replacing the one least used would cost the
//! three bytes of an introduction with every message of a client whose topics take turns and are more
//! than its aliases, and save nothing.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::hash::BuildHasher as _;

/// The aliases that a client has set on its connection.
#[derive(Debug, Default)]
pub struct InboundAliases {
    /// By alias - 1; an empty name is not set.
    topics: Vec<AliasTopic>,
}

/// A topic name behind an alias, and its hash in the route cache.
#[derive(Clone, Debug, Default)]
pub struct AliasTopic {
    /// A valid topic name.
    pub name: Box<[u8]>,
    /// See `RouteCache::hash`.
    pub hash: u64,
}

impl InboundAliases {
    /// Sets or replaces what `alias` stands for. `1 <= alias <= topic_alias_max` was checked.
    pub fn set(&mut self, alias: u16, topic: &[u8], hash: u64) {
        let index = usize::from(alias)
            .checked_sub(1)
            .expect("alias 0 is refused by the codec");
        if self.topics.len() <= index {
            self.topics.resize(index + 1, AliasTopic::default());
        }
        if *self.topics[index].name != *topic {
            self.topics[index] = AliasTopic {
                name: topic.into(),
                hash,
            };
        }
    }

    /// What `alias` stands for.
    pub fn get(&self, alias: u16) -> Option<&AliasTopic> {
        let topic = self.topics.get(usize::from(alias).checked_sub(1)?)?;
        (!topic.name.is_empty()).then_some(topic)
    }
}

/// The aliases that the broker has set on the connection of a client that takes some.
#[derive(Debug)]
pub struct OutboundAliases {
    topics: HashMap<Box<[u8]>, u16, FixedState>,
    /// Hashes of topics that were seen once, each in the place that its hash gives it: two topics
    /// may push each other out, which only puts their aliases off. Empty when no alias is left.
    seen: Box<[u32]>,
    max: u16,
}

/// What an alias can do for the message at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AliasUse {
    /// Nothing: send the topic.
    None,
    /// Send the topic and this alias, and then call [`OutboundAliases::introduce`].
    Introduce(u16),
    /// Send this alias alone.
    Known(u16),
}

impl OutboundAliases {
    /// No aliases yet, `max` at most; `hasher` is keyed, because clients choose topics.
    pub fn new(max: u16, hasher: FixedState) -> OutboundAliases {
        assert!(max > 0, "a client without aliases has no table of them");
        OutboundAliases {
            topics: HashMap::with_hasher(hasher),
            seen: vec![0; 2 * usize::from(max)].into(),
            max,
        }
    }

    /// How to send a message on this topic, and notes that it was seen.
    pub fn look_up(&mut self, topic: &[u8]) -> AliasUse {
        // The property takes as many bytes as a topic of this size.
        if topic.len() <= ALIAS_SIZE {
            return AliasUse::None;
        }
        if let Some(&alias) = self.topics.get(topic) {
            return AliasUse::Known(alias);
        }
        let next = self.topics.len() as u16 + 1;
        if next <= self.max.div_ceil(2) {
            return AliasUse::Introduce(next);
        }
        if self.seen.is_empty() {
            return AliasUse::None;
        }
        let hash = self.topics.hasher().hash_one(topic);
        // The high half names, the low half places; 0 is an empty place.
        let name = (hash >> 32) as u32 | 1;
        let index = (hash % self.seen.len() as u64) as usize;
        if std::mem::replace(&mut self.seen[index], name) != name {
            return AliasUse::None;
        }
        AliasUse::Introduce(next)
    }

    /// The client was told the alias that `look_up` proposed for this topic.
    pub fn introduce(&mut self, topic: &[u8]) {
        let alias = self.topics.len() as u16 + 1;
        assert!(alias <= self.max, "no alias was proposed");
        self.topics.insert(topic.into(), alias);
        if alias == self.max {
            self.seen = Box::default();
        }
    }
}

/// Bytes of the property.
const ALIAS_SIZE: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_the_aliases_go_to_the_first_topics_and_half_to_those_seen_again() {
        let mut aliases = OutboundAliases::new(3, FixedState::with_seed(7));
        let mut say = |topic: &str| {
            let alias = aliases.look_up(topic.as_bytes());
            if let AliasUse::Introduce(_) = alias {
                aliases.introduce(topic.as_bytes());
            }
            alias
        };
        assert_eq!(say("abc"), AliasUse::None, "shorter than the property");
        assert_eq!(say("t/one"), AliasUse::Introduce(1));
        assert_eq!(say("t/one"), AliasUse::Known(1));
        assert_eq!(say("t/two"), AliasUse::Introduce(2));
        assert_eq!(say("t/three"), AliasUse::None);
        assert_eq!(say("t/three"), AliasUse::Introduce(3));
        for _ in 0..3 {
            assert_eq!(say("t/four"), AliasUse::None, "all are taken");
        }
        assert_eq!(say("t/one"), AliasUse::Known(1));
        assert_eq!(say("t/two"), AliasUse::Known(2));
        assert_eq!(say("t/three"), AliasUse::Known(3));
        assert!(aliases.seen.is_empty());
    }

    #[test]
    fn an_alias_that_was_proposed_and_not_introduced_is_proposed_again() {
        let mut aliases = OutboundAliases::new(1, FixedState::with_seed(7));
        assert_eq!(aliases.look_up(b"topic"), AliasUse::Introduce(1));
        assert_eq!(aliases.look_up(b"topic"), AliasUse::Introduce(1));
        let mut aliases = OutboundAliases::new(2, FixedState::with_seed(7));
        assert_eq!(aliases.look_up(b"first"), AliasUse::Introduce(1));
        aliases.introduce(b"first");
        assert_eq!(aliases.look_up(b"topic"), AliasUse::None);
        assert_eq!(aliases.look_up(b"topic"), AliasUse::Introduce(2));
        assert_eq!(aliases.look_up(b"topic"), AliasUse::Introduce(2));
    }
}
