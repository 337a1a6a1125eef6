//! A subscription as its client knows it, and a matcher of its own.

use crate::message::{Fate, Message, Tick};
use crate::wire::SubscribeOptions;

/// One SUBSCRIBE of one filter.
#[derive(Clone, Debug)]
pub struct Subscription {
    pub filter: String,
    pub options: SubscribeOptions,
    /// Subscription identifier; 0 for none.
    pub id: u32,
    /// Counts the SUBSCRIBEs of a run.
    pub request: u64,
    /// Connection on which it was asked for.
    pub link: u32,
    /// Another subscription with this filter may have existed.
    pub renews: bool,
    /// A later SUBSCRIBE with this filter was written.
    pub renewed: bool,
    /// SUBSCRIBE was written: the broker may match from here on.
    pub begun: Tick,
    /// SUBACK came: the broker has to match what begins later.
    pub sure_from: Option<Tick>,
    /// UNSUBSCRIBE was written: the broker may have stopped matching.
    pub unsure_from: Option<Tick>,
    /// UNSUBACK came: the broker must not match what begins later.
    pub ended: Option<Tick>,
}

impl Subscription {
    /// What SUBSCRIBE asks for; the oracle fills in the rest.
    pub fn asked(filter: String, options: SubscribeOptions, id: u32, request: u64) -> Subscription {
        Subscription {
            filter,
            options,
            id,
            request,
            link: 0,
            renews: false,
            renewed: false,
            begun: 0,
            sure_from: None,
            unsure_from: None,
            ended: None,
        }
    }

    /// Whether filter and options let the message through, whenever that is.
    pub fn matches(&self, client: usize, message: &Message) -> bool {
        !(self.options.no_local && message.publisher == client)
            && topic_matches(pattern(&self.filter), &message.topic)
    }

    /// Whether the broker may send the message for this subscription.
    pub fn may_match(&self, client: usize, message: &Message) -> bool {
        self.ended.is_none_or(|ended| message.begun < ended) && self.matches(client, message)
    }

    /// Whether the broker has to send the message for this subscription.
    pub fn surely_matches(&self, client: usize, message: &Message) -> bool {
        self.sure_from.is_some_and(|from| from <= message.begun)
            && self.unsure_from.is_none_or(|from| match message.fate {
                Fate::Settled(at) => at < from,
                Fate::Armed | Fate::Open | Fate::Never => false,
            })
            && self.matches(client, message)
    }

    /// Whether it is the only subscription of its client with this filter, and no end is in sight.
    pub fn is_undisturbed(&self) -> bool {
        !self.renews && !self.renewed && self.unsure_from.is_none()
    }

    /// Whether SUBSCRIBE asked for retained messages.
    pub fn asks_retained(&self) -> bool {
        match self.options.retain_handling {
            0 => true,
            1 => !self.renews,
            _ => false,
        }
    }
}

/// How shared subscriptions begin.
pub const SHARE_PREFIX: &str = "$share/";
/// How the topics begin that only shared subscriptions match.
pub const TOPIC_PREFIX: &str = "$s/";

/// The filter behind `$share/<name>/`, or the whole of another filter.
pub fn pattern(filter: &str) -> &str {
    let shared = filter.strip_prefix(SHARE_PREFIX);
    let behind_name = shared.and_then(|shared| shared.split_once('/'));
    behind_name.map_or(filter, |(_, pattern)| pattern)
}

/// Whether only shared subscriptions match this topic.
pub fn is_for_groups(topic: &str) -> bool {
    topic.starts_with(TOPIC_PREFIX)
}

/// Whether a filter matches a topic name, by the words of the standard (section 4.7).
pub fn topic_matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for part in filter.split('/') {
        match (part, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (part, Some(level)) if part == level => {}
            (_, _) => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_topics() {
        for (filter, topic, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/b/c", false),
            ("a/+", "a/b", true),
            ("a/+", "a", false),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("+/b", "/b", true),
            ("#", "$SYS/x", false),
        ] {
            assert_eq!(
                topic_matches(filter, topic),
                expected,
                "{filter} vs {topic}"
            );
        }
    }
}
