//! Topic aliases of one connection, client to broker [MQTT-3.3.2-7].
//!
//! Invariant: `topics.len() <= topic_alias_max`, grown by use.

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
