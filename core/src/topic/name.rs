//! Topic names: what a PUBLISH is addressed to.

use std::fmt;

use crate::codec::utf8;
use crate::limits::Limits;

/// A valid topic name: well-formed UTF-8 of 1 to `size_max` bytes [MQTT-4.7.3-1], [MQTT-4.7.3-3]
/// in at most `levels_max` levels, without U+0000 [MQTT-4.7.3-2], control characters and wildcards
/// [MQTT-3.3.2-2]. Never normalised [MQTT-4.7.3-4].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName<'a>(&'a [u8]);

/// Bounds of topic names and topic filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicLimits {
    /// Most bytes.
    pub size_max: u16,
    /// Most levels; `a/b` has two, `/` has two.
    pub levels_max: u16,
}

/// Why a text is no topic name or no topic filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicError {
    /// No byte at all [MQTT-4.7.3-1].
    Empty,
    /// More bytes than the limit.
    TooLong,
    /// More levels than the limit.
    TooDeep,
    /// More `+` levels than [`TopicFilter::PLUS_LEVELS_MAX`](super::TopicFilter::PLUS_LEVELS_MAX).
    TooManyWildcards,
    /// Ill-formed UTF-8, U+0000 or a control character [MQTT-1.5.4-1], [MQTT-1.5.4-2].
    Malformed,
    /// A wildcard where none may stand [MQTT-3.3.2-2], [MQTT-4.7.1-1], [MQTT-4.7.1-2].
    MisplacedWildcard,
    /// `$share` without a share name or without a filter [MQTT-4.8.2-1], [MQTT-4.8.2-2].
    MalformedShare,
}

impl TopicError {
    /// The text may be fine elsewhere: it is beyond a bound of this broker.
    pub fn is_limit(self) -> bool {
        match self {
            TopicError::TooLong | TopicError::TooDeep | TopicError::TooManyWildcards => true,
            TopicError::Empty
            | TopicError::Malformed
            | TopicError::MisplacedWildcard
            | TopicError::MalformedShare => false,
        }
    }
}

impl TopicLimits {
    /// The part of the limits that is about topics.
    pub fn of(limits: &Limits) -> TopicLimits {
        TopicLimits {
            size_max: limits.topic_size_max,
            levels_max: limits.topic_levels_max,
        }
    }
}

impl<'a> TopicName<'a> {
    /// Checks what a peer sent.
    pub fn parse(bytes: &'a [u8], limits: &TopicLimits) -> Result<TopicName<'a>, TopicError> {
        check_bounds(bytes, limits)?;
        check_text(bytes)?;
        if memchr::memchr2(b'+', b'#', bytes).is_some() {
            return Err(TopicError::MisplacedWildcard);
        }
        Ok(TopicName(bytes))
    }

    /// The name as it stands in packets.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Starts with `$`: reserved for the server, and not seen by filters that start with a wildcard
    /// [MQTT-4.7.2-1].
    pub fn is_system(self) -> bool {
        self.0.first() == Some(&b'$')
    }
}

impl fmt::Display for TopicName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.0))
    }
}

impl fmt::Debug for TopicName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.0))
    }
}

impl From<&Limits> for TopicLimits {
    fn from(limits: &Limits) -> TopicLimits {
        TopicLimits {
            size_max: limits.topic_size_max,
            levels_max: limits.topic_levels_max,
        }
    }
}

impl Default for TopicLimits {
    fn default() -> TopicLimits {
        TopicLimits::from(&Limits::default())
    }
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TopicError::Empty => "empty topic",
            TopicError::TooLong => "topic has too many bytes",
            TopicError::TooDeep => "topic has too many levels",
            TopicError::TooManyWildcards => "topic filter has too many wildcards",
            TopicError::Malformed => "topic is not well-formed UTF-8 without control characters",
            TopicError::MisplacedWildcard => "wildcard where none may stand",
            TopicError::MalformedShare => "malformed shared subscription",
        })
    }
}

impl std::error::Error for TopicError {}

/// Size and number of levels; first, so that a huge text costs no more than its length check.
pub(super) fn check_bounds(text: &[u8], limits: &TopicLimits) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > usize::from(limits.size_max) {
        return Err(TopicError::TooLong);
    }
    let levels = 1 + memchr::memchr_iter(b'/', text).count();
    if levels > usize::from(limits.levels_max) {
        return Err(TopicError::TooDeep);
    }
    Ok(())
}

/// Text that is fit for MQTT, as for any other string of a packet.
pub(super) fn check_text(text: &[u8]) -> Result<&str, TopicError> {
    utf8::check(text).map_err(|_| TopicError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_are_checked() {
        let small = TopicLimits {
            size_max: 8,
            levels_max: 3,
        };
        for (text, expected) in [
            (&b"a"[..], Ok(())),
            (b"/", Ok(())),
            (b"//", Ok(())),
            (b"a b", Ok(())),
            (b"$SYS/x", Ok(())),
            ("\u{e9}/\u{1f600}".as_bytes(), Ok(())),
            (b"12345678", Ok(())),
            (b"", Err(TopicError::Empty)),
            (b"123456789", Err(TopicError::TooLong)),
            (b"///", Err(TopicError::TooDeep)),
            // [MQTT-3.3.2-2]
            (b"+", Err(TopicError::MisplacedWildcard)),
            (b"a/#", Err(TopicError::MisplacedWildcard)),
            (b"a+b", Err(TopicError::MisplacedWildcard)),
            // [MQTT-4.7.3-2], THREATS 8
            (b"a\0b", Err(TopicError::Malformed)),
            (b"a\x01", Err(TopicError::Malformed)),
            (b"a\x7f", Err(TopicError::Malformed)),
            (b"a\xc2\x85", Err(TopicError::Malformed)),
            (b"\xc0\x80", Err(TopicError::Malformed)),
            (b"\xed\xa0\x80", Err(TopicError::Malformed)),
            (b"\xf4\x90\x80\x80", Err(TopicError::Malformed)),
            (b"\xff", Err(TopicError::Malformed)),
            (b"a\xe2\x82", Err(TopicError::Malformed)),
        ] {
            let parsed = TopicName::parse(text, &small);
            assert_eq!(parsed.map(|_| ()), expected, "{text:?}");
            if let Ok(name) = parsed {
                // [MQTT-4.7.3-4]
                assert_eq!(name.as_bytes(), text);
            }
        }
    }

    #[test]
    fn the_largest_hostile_names_are_refused_by_their_bounds() {
        // THREATS 9
        let limits = TopicLimits::default();
        for text in [vec![b'/'; 65_535], vec![b'/'; 4096], vec![b'a'; 4097]] {
            assert!(TopicName::parse(&text, &limits).is_err());
        }
        assert!(TopicName::parse(&[b'/'; 127], &limits).is_ok());
        assert_eq!(
            TopicName::parse(&[b'/'; 128], &limits),
            Err(TopicError::TooDeep)
        );
    }

    #[test]
    fn system_topics_start_with_a_dollar() {
        let limits = TopicLimits::default();
        for (text, expected) in [("$SYS", true), ("$", true), ("a$", false), ("/$", false)] {
            let name = TopicName::parse(text.as_bytes(), &limits).unwrap();
            assert_eq!(name.is_system(), expected, "{text}");
        }
    }
}
