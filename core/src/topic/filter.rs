//! Topic filters: what a SUBSCRIBE asks for.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::name::{TopicError, TopicLimits, check_bounds, check_text};

/// A valid topic filter, with or without a share name. Cheap to clone: the text is shared.
///
/// Invariants: `#` stands alone in the last level, `+` alone in a level, at most
/// [`PLUS_LEVELS_MAX`](TopicFilter::PLUS_LEVELS_MAX) of them; a share name has at least one
/// character and no `/`, `+` and `#`; the filter behind it is not empty.
#[derive(Clone)]
pub struct TopicFilter {
    text: Arc<str>,
    /// Where the filter starts behind `$share/<name>/`; 0 without a share name.
    pattern_at: u16,
    /// Bytes of the literal levels before the first wildcard; `None`: it starts with a wildcard.
    literal_size: Option<u16>,
    is_exact: bool,
}

impl TopicFilter {
    /// Most `+` levels of one filter. They are what makes a match branch: this bounds the stack of
    /// a walk, and with it the number of ways in which one topic can go through a tree.
    pub const PLUS_LEVELS_MAX: usize = 16;

    /// Checks what a peer sent [MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.8.2-1], [MQTT-4.8.2-2].
    pub fn parse(text: &str, limits: &TopicLimits) -> Result<TopicFilter, TopicError> {
        check_bounds(text.as_bytes(), limits)?;
        check_text(text.as_bytes())?;
        let pattern_at = match text.strip_prefix(SHARE_PREFIX) {
            Some(shared) if shared.is_empty() || shared.starts_with('/') => {
                SHARE_PREFIX.len() + share_size(shared)?
            }
            Some(_) | None => 0,
        };
        let pattern = &text[pattern_at..];
        let shape = Shape::of(pattern)?;
        let size = |bytes: usize| u16::try_from(bytes).map_err(|_| TopicError::TooLong);
        Ok(TopicFilter {
            text: text.into(),
            pattern_at: size(pattern_at)?,
            literal_size: shape.literal_size.map(size).transpose()?,
            is_exact: shape.literal_size == Some(pattern.len()),
        })
    }

    /// The filter as written, share name included.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// `g` in `$share/g/a/b`.
    pub fn share_name(&self) -> Option<&str> {
        match usize::from(self.pattern_at) {
            0 => None,
            pattern_at => Some(&self.text[SHARE_PREFIX.len() + 1..pattern_at - 1]),
        }
    }

    /// The filter without `$share/<name>/`.
    pub fn pattern(&self) -> &str {
        &self.text[usize::from(self.pattern_at)..]
    }

    /// Matches one topic only: there is no wildcard.
    pub fn is_exact(&self) -> bool {
        self.is_exact
    }

    /// The levels of the pattern before its first wildcard level; `None` if that is the first. (An
    /// empty prefix is something else: `/+` has the empty level as its literal prefix.)
    pub fn literal_prefix(&self) -> Option<&str> {
        self.literal_size
            .map(|size| &self.pattern()[..usize::from(size)])
    }

    /// Tells whether the pattern matches a topic name: level by level, without any index.
    pub fn matches(&self, topic: &[u8]) -> bool {
        // [MQTT-4.7.2-1] a leading wildcard does not see `$` topics.
        if self.literal_size.is_none() && topic.first() == Some(&b'$') {
            return false;
        }
        let mut levels = topic.split(|byte| *byte == b'/');
        for wanted in self.pattern().as_bytes().split(|byte| *byte == b'/') {
            // `#` includes the parent level: `a/#` matches `a`.
            if wanted == b"#" {
                return true;
            }
            match levels.next() {
                Some(level) if wanted == b"+" || wanted == level => {}
                Some(_) | None => return false,
            }
        }
        levels.next().is_none()
    }
}

impl PartialEq for TopicFilter {
    fn eq(&self, other: &TopicFilter) -> bool {
        self.text == other.text
    }
}

impl Eq for TopicFilter {}

impl Hash for TopicFilter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Debug for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Bytes of `/<name>/`, given what follows `$share`.
fn share_size(shared: &str) -> Result<usize, TopicError> {
    let named = shared.strip_prefix('/').ok_or(TopicError::MalformedShare)?;
    let (name, pattern) = named.split_once('/').ok_or(TopicError::MalformedShare)?;
    if name.is_empty() || name.contains(['+', '#']) || pattern.is_empty() {
        return Err(TopicError::MalformedShare);
    }
    Ok(name.len() + 2)
}

/// Where the wildcards of a pattern are.
struct Shape {
    literal_size: Option<usize>,
}

impl Shape {
    fn of(pattern: &str) -> Result<Shape, TopicError> {
        let mut wildcard_at = None;
        let mut plus_levels = 0;
        let mut at = 0;
        for level in pattern.split('/') {
            match level {
                "#" if at + 1 == pattern.len() => _ = wildcard_at.get_or_insert(at),
                "+" => {
                    plus_levels += 1;
                    wildcard_at.get_or_insert(at);
                }
                literal if literal.contains(['+', '#']) => {
                    return Err(TopicError::MisplacedWildcard);
                }
                _ => {}
            }
            at += level.len() + 1;
        }
        if plus_levels > TopicFilter::PLUS_LEVELS_MAX {
            return Err(TopicError::TooManyWildcards);
        }
        Ok(Shape {
            // The slash before the wildcard level does not belong to the prefix.
            literal_size: wildcard_at.map_or(Some(pattern.len()), |at| at.checked_sub(1)),
        })
    }
}

/// How shared subscriptions start. `$shared/...` is an ordinary filter, `$share` alone an error.
const SHARE_PREFIX: &str = "$share";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<TopicFilter, TopicError> {
        TopicFilter::parse(text, &TopicLimits::default())
    }

    #[test]
    fn filters_are_checked() {
        use TopicError::{
            Empty, Malformed, MalformedShare, MisplacedWildcard, TooDeep, TooManyWildcards,
        };
        let deep = "/".repeat(128);
        let plus_16 = vec!["+"; 16].join("/");
        let plus_17 = vec!["+"; 17].join("/");
        for (text, expected) in [
            ("a", Ok(())),
            ("#", Ok(())),
            ("+", Ok(())),
            ("/", Ok(())),
            ("a//b/", Ok(())),
            ("+/+/#", Ok(())),
            ("/#", Ok(())),
            ("$SYS/#", Ok(())),
            ("", Err(Empty)),
            // [MQTT-4.7.1-1]
            ("a#", Err(MisplacedWildcard)),
            ("#/a", Err(MisplacedWildcard)),
            ("a/#/b", Err(MisplacedWildcard)),
            ("a/##", Err(MisplacedWildcard)),
            ("##", Err(MisplacedWildcard)),
            ("#/", Err(MisplacedWildcard)),
            // [MQTT-4.7.1-2]
            ("a+", Err(MisplacedWildcard)),
            ("+a/b", Err(MisplacedWildcard)),
            ("a/++", Err(MisplacedWildcard)),
            ("a/+#", Err(MisplacedWildcard)),
            // [MQTT-4.7.3-2]
            ("a\0", Err(Malformed)),
            ("a\u{7f}", Err(Malformed)),
            // [MQTT-4.8.2-1], [MQTT-4.8.2-2], THREATS 17
            ("$share", Err(MalformedShare)),
            ("$share/", Err(MalformedShare)),
            ("$share//", Err(MalformedShare)),
            ("$share//t", Err(MalformedShare)),
            ("$share/g", Err(MalformedShare)),
            ("$share/ab", Err(MalformedShare)),
            ("$share/g/", Err(MalformedShare)),
            ("$share/g#/t", Err(MalformedShare)),
            ("$share/a+/t", Err(MalformedShare)),
            ("$share/#", Err(MalformedShare)),
            ("$share/+/t", Err(MalformedShare)),
            ("$share/g/t#", Err(MisplacedWildcard)),
            ("$share/g//", Ok(())),
            ("$share/g/$SYS/#", Ok(())),
            ("$shared/x", Ok(())),
            ("a/$share", Ok(())),
            // THREATS 9
            (&deep, Err(TooDeep)),
            (&plus_16, Ok(())),
            (&plus_17, Err(TooManyWildcards)),
        ] {
            assert_eq!(parse(text).map(|_| ()), expected, "{text:?}");
        }
    }

    #[test]
    fn hostile_sizes_are_refused() {
        // THREATS 9
        for unit in ["/", "+/", "$share/g//", "a"] {
            let text: String = unit.chars().cycle().take(65_535).collect();
            assert_eq!(parse(&text), Err(TopicError::TooLong));
        }
    }

    #[test]
    fn filters_have_parts() {
        for (text, share_name, pattern, literal_prefix, is_exact) in [
            ("a/b", None, "a/b", Some("a/b"), true),
            ("/", None, "/", Some("/"), true),
            ("#", None, "#", None, false),
            ("+/a", None, "+/a", None, false),
            ("/+", None, "/+", Some(""), false),
            ("//#", None, "//#", Some("/"), false),
            ("a/#", None, "a/#", Some("a"), false),
            ("a/b/+/c/#", None, "a/b/+/c/#", Some("a/b"), false),
            ("$share/g/a/+", Some("g"), "a/+", Some("a"), false),
            ("$share/g//", Some("g"), "/", Some("/"), true),
            ("$share/g/#", Some("g"), "#", None, false),
            (
                "$shared/g/a",
                None,
                "$shared/g/a",
                Some("$shared/g/a"),
                true,
            ),
        ] {
            let filter = parse(text).unwrap();
            assert_eq!(filter.as_str(), text);
            assert_eq!(filter.share_name(), share_name, "{text}");
            assert_eq!(filter.pattern(), pattern, "{text}");
            assert_eq!(filter.literal_prefix(), literal_prefix, "{text}");
            assert_eq!(filter.is_exact(), is_exact, "{text}");
        }
    }

    #[test]
    fn filters_match_topics() {
        for (filter, topic, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/b/", false),
            ("a/b", "A/b", false),
            ("a/+/c", "a/b/c", true),
            ("a/+/c", "a//c", true),
            ("a/+/c", "a/b/b/c", false),
            ("a/#", "a", true),
            ("a/#", "a/", true),
            ("a/#", "a/b/c", true),
            ("a/#", "ab", false),
            ("a/+/#", "a", false),
            ("a/+/#", "a/b", true),
            ("+", "a", true),
            ("+", "/a", false),
            ("+/+", "/a", true),
            ("/+", "/a", true),
            ("+/b", "/b", true),
            ("#", "/", true),
            ("/", "/", true),
            ("+/+", "/", true),
            ("a//b", "a/b", false),
            ("a//b", "a//b", true),
            ("\u{e9}", "e\u{301}", false),
            // [MQTT-4.7.2-1]
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$share/g/#", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("$SYS/+", "$SYS/x", true),
            ("$SYS/#", "$SYS", true),
            ("a/#", "a/$x", true),
            ("a/+", "a/$x", true),
            ("$share/g/a/+", "a/b", true),
        ] {
            let parsed = parse(filter).unwrap();
            assert_eq!(
                parsed.matches(topic.as_bytes()),
                expected,
                "{filter} vs {topic}"
            );
        }
    }
}
