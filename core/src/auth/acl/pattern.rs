//! The topics of a rule: a topic filter in which `%u` and `%c` may stand for the user name and the
//! client identifier.
//!
//! No strings are concatenated: the name is compared with its part of the topic, so it can neither
//! act as a wildcard nor be expanded again.

use std::fmt;

use super::{Effect, Who};

/// The topics of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    levels: Box<[Level]>,
    /// Names stand in it.
    is_template: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Level {
    Literal(Box<str>),
    /// `+`
    One,
    /// `#`
    Rest,
    Template(Box<[Piece]>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    User,
    Client,
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, level) in self.levels.iter().enumerate() {
            if index > 0 {
                f.write_str("/")?;
            }
            match level {
                Level::Literal(text) => f.write_str(text)?,
                Level::One => f.write_str("+")?,
                Level::Rest => f.write_str("#")?,
                Level::Template(pieces) => pieces.iter().try_for_each(|piece| {
                    f.write_str(match piece {
                        Piece::Text(text) => text,
                        Piece::User => "%u",
                        Piece::Client => "%c",
                    })
                })?,
            }
        }
        Ok(())
    }
}

/// What is wrong with the topic of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternFault {
    /// Nothing is there.
    Empty,
    /// More than a topic can have.
    TooLong,
    /// A zero byte.
    Malformed,
    /// `#` not at the end, or a wildcard beside other characters of its level.
    Wildcard,
    /// It begins with `$share/`: rules are asked about the filter behind that, so it could never
    /// match.
    Shared,
}

impl Pattern {
    /// Reads a topic filter; with `has_names`, `%u` and `%c` in it stand for names.
    pub fn parse(text: &str, has_names: bool) -> Result<Pattern, PatternFault> {
        match text.len() {
            0 => return Err(PatternFault::Empty),
            size if size > usize::from(u16::MAX) => return Err(PatternFault::TooLong),
            _ if text.contains('\0') => return Err(PatternFault::Malformed),
            _ if text.starts_with("$share/") => return Err(PatternFault::Shared),
            _ => {}
        }
        let mut levels = Vec::new();
        for level in text.split('/') {
            if levels.last() == Some(&Level::Rest) {
                return Err(PatternFault::Wildcard);
            }
            levels.push(match level {
                "+" => Level::One,
                "#" => Level::Rest,
                _ if level.contains(['+', '#']) => return Err(PatternFault::Wildcard),
                _ if has_names && (level.contains("%u") || level.contains("%c")) => {
                    Level::Template(pieces(level).into())
                }
                _ => Level::Literal(level.into()),
            });
        }
        let is_template = levels
            .iter()
            .any(|level| matches!(level, Level::Template(_)));
        Ok(Pattern {
            levels: levels.into(),
            is_template,
        })
    }

    /// Whether the rule is about this topic.
    pub fn matches(&self, topic: &[u8], who: Who<'_>, effect: Effect) -> bool {
        let Some(names) = self.names(who, effect) else {
            return false;
        };
        // [MQTT-4.7.2-1]
        if topic.first() == Some(&b'$') && self.begins_with_wildcard() {
            return false;
        }
        let mut levels = self.levels.iter();
        let mut topic = topic.split(|&byte| byte == b'/');
        loop {
            match (levels.next(), topic.next()) {
                (Some(Level::Rest), _) | (None, None) => return true,
                (Some(level), Some(text)) if level.is_equal(text, &names) => {}
                (Some(_) | None, _) => return false,
            }
        }
    }

    /// Whether the rule is about every topic that the filter matches. May say no where several
    /// levels of thought would say yes.
    pub fn covers(&self, filter: &str, who: Who<'_>, effect: Effect) -> bool {
        let Some(names) = self.names(who, effect) else {
            return false;
        };
        if filter.starts_with('$') && self.begins_with_wildcard() {
            return false;
        }
        let mut levels = self.levels.iter();
        let mut filter = filter.split('/');
        loop {
            match (levels.next(), filter.next()) {
                (Some(Level::Rest), _) | (None, None) => return true,
                (Some(_), Some("#")) => return false,
                (Some(level), Some("+")) if !level.is_any(&names) => return false,
                (Some(_), Some("+")) => {}
                (Some(level), Some(text)) if level.is_equal(text.as_bytes(), &names) => {}
                (Some(_) | None, _) => return false,
            }
        }
    }

    /// Whether there is a topic that the rule is about and the filter matches.
    pub fn meets(&self, filter: &str, who: Who<'_>, effect: Effect) -> bool {
        let Some(names) = self.names(who, effect) else {
            return false;
        };
        let has_wildcard_first = filter.starts_with(['+', '#']);
        if filter.starts_with('$') && self.begins_with_wildcard()
            || has_wildcard_first && self.begins_with_dollar()
        {
            return false;
        }
        let mut levels = self.levels.iter();
        let mut filter = filter.split('/');
        loop {
            match (levels.next(), filter.next()) {
                (Some(Level::Rest), _) | (_, Some("#")) | (None, None) => return true,
                (Some(_), Some("+")) => {}
                (Some(level), Some(text)) if level.is_equal(text.as_bytes(), &names) => {}
                (Some(_) | None, _) => return false,
            }
        }
    }

    /// What stands for the names. `None`: the rule says nothing about this client. A rule that
    /// denies always does: where a name cannot stand, anything may.
    fn names<'a>(&self, who: Who<'a>, effect: Effect) -> Option<Names<'a>> {
        let names = Names {
            user: who.user.filter(|user| can_stand(user)),
            client_id: Some(who.client_id).filter(|id| can_stand(id)),
        };
        let is_whole = !self.is_template
            || self.levels.iter().all(|level| match level {
                Level::Template(pieces) => pieces.iter().all(|piece| match piece {
                    Piece::Text(_) => true,
                    Piece::User => names.user.is_some(),
                    Piece::Client => names.client_id.is_some(),
                }),
                Level::Literal(_) | Level::One | Level::Rest => true,
            });
        match effect {
            Effect::Allow if !is_whole => None,
            Effect::Allow | Effect::Deny => Some(names),
        }
    }

    fn begins_with_wildcard(&self) -> bool {
        match &self.levels[0] {
            Level::One | Level::Rest => true,
            // A name that may be substituted does not begin with a dollar sign.
            Level::Template(pieces) => !matches!(pieces[0], Piece::Text(_)),
            Level::Literal(_) => false,
        }
    }

    fn begins_with_dollar(&self) -> bool {
        let text = match &self.levels[0] {
            Level::Literal(text) => text,
            Level::Template(pieces) => match &pieces[0] {
                Piece::Text(text) => text,
                Piece::User | Piece::Client => return false,
            },
            Level::One | Level::Rest => return false,
        };
        text.starts_with('$')
    }
}

/// The names that can stand in a topic.
struct Names<'a> {
    user: Option<&'a str>,
    client_id: Option<&'a str>,
}

impl Level {
    /// Whether it is about this level of a topic.
    fn is_equal(&self, text: &[u8], names: &Names<'_>) -> bool {
        match self {
            Level::One | Level::Rest => true,
            Level::Literal(literal) => literal.as_bytes() == text,
            Level::Template(pieces) => {
                let mut rest = text;
                for piece in pieces {
                    let piece = match piece {
                        Piece::Text(text) => Some(&**text),
                        Piece::User => names.user,
                        Piece::Client => names.client_id,
                    };
                    let Some(piece) = piece else {
                        return true; // A deny rule, and a name that must not be substituted.
                    };
                    match rest.strip_prefix(piece.as_bytes()) {
                        Some(behind) => rest = behind,
                        None => return false,
                    }
                }
                rest.is_empty()
            }
        }
    }

    /// Whether it is about every level that there can be.
    fn is_any(&self, names: &Names<'_>) -> bool {
        match self {
            Level::One | Level::Rest => true,
            Level::Literal(_) => false,
            Level::Template(pieces) => match pieces.first() {
                Some(Piece::User) => names.user.is_none(),
                Some(Piece::Client) => names.client_id.is_none(),
                Some(Piece::Text(_)) | None => false,
            },
        }
    }
}

/// A name with one of these in it could be more than one level, a wildcard, or a template itself;
/// one that begins with a dollar sign could reach what is the broker's.
fn can_stand(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('$')
        && !name.contains(['+', '#', '/', '%'])
        && !name.contains(char::is_control)
}

fn pieces(level: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = level;
    while !rest.is_empty() {
        let (piece, size) = match rest {
            _ if rest.starts_with("%u") => (Piece::User, 2),
            _ if rest.starts_with("%c") => (Piece::Client, 2),
            _ => {
                let user = rest.find("%u").unwrap_or(rest.len());
                let client = rest.find("%c").unwrap_or(rest.len());
                let size = user.min(client);
                (Piece::Text(rest[..size].into()), size)
            }
        };
        pieces.push(piece);
        rest = &rest[size..];
    }
    pieces
}

impl fmt::Display for PatternFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PatternFault::Empty => "is empty",
            PatternFault::TooLong => "is longer than 65535 bytes",
            PatternFault::Malformed => "has a zero byte in it",
            PatternFault::Wildcard => {
                "has a wildcard in the wrong place: `+` and `#` stand alone in their level, and `#` is the last"
            }
            PatternFault::Shared => {
                "begins with `$share/`, and would never match: write the filter behind the name of the group, as for \
                 any subscription"
            }
        })
    }
}
