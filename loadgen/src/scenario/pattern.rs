//! Texts that differ from client to client: topics, filters, client ids, user names.
//!
//! `{index}` counts the clients of the group from 0, `{number}` from 1; `{index/N}` and `{index%N}`
//! divide them into groups; `{message%N}` makes a client go round N topics, one message on each;
//! `{group}` is the name of the group and `{run}` differs from run to run.

use std::fmt::Write as _;

use ringmq_problem::Complaint;

/// A parsed pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Run,
    Group,
    Client {
        from: u32,
        divide: u32,
        modulus: u32,
    },
    Message {
        modulus: u32,
    },
}

/// What a pattern is filled with.
#[derive(Clone, Copy, Debug)]
pub struct Filling<'a> {
    /// `{run}`.
    pub run: &'a str,
    /// `{group}`.
    pub group: &'a str,
    /// `{index}`.
    pub index: u32,
    /// `{message%N}`: which of the N.
    pub message: u32,
}

impl Pattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Pattern, Complaint> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let (before, inside) = rest.split_at(open);
            let Some((name, after)) = inside[1..].split_once('}') else {
                return Err(Complaint::new(
                    "has `{` without `}`",
                    "close the brace, as in {index}",
                ));
            };
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(Piece::parse(name)?);
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        let messages = |piece: &&Piece| matches!(piece, Piece::Message { .. });
        if pieces.iter().filter(messages).count() > 1 {
            return Err(Complaint::new(
                "has {message%N} twice",
                "write it once: N is the number of topics of a client",
            ));
        }
        Ok(Pattern {
            text: text.to_owned(),
            pieces,
        })
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Texts that one client goes round.
    pub fn message_count(&self) -> u32 {
        let modulus = |piece: &Piece| match piece {
            Piece::Message { modulus } => Some(*modulus),
            Piece::Text(_) | Piece::Run | Piece::Group | Piece::Client { .. } => None,
        };
        self.pieces.iter().find_map(modulus).unwrap_or(1)
    }

    /// The same for every client.
    pub fn is_common(&self) -> bool {
        !self
            .pieces
            .iter()
            .any(|piece| matches!(piece, Piece::Client { .. } | Piece::Message { .. }))
    }

    /// The text for one client; replaces what is in `out`.
    pub fn fill(&self, filling: Filling<'_>, out: &mut String) {
        out.clear();
        for piece in &self.pieces {
            let number = match piece {
                Piece::Text(text) => {
                    out.push_str(text);
                    continue;
                }
                Piece::Run => {
                    out.push_str(filling.run);
                    continue;
                }
                Piece::Group => {
                    out.push_str(filling.group);
                    continue;
                }
                Piece::Client {
                    from,
                    divide,
                    modulus,
                } => from + filling.index / divide % modulus,
                Piece::Message { modulus } => filling.message % modulus,
            };
            let _ = write!(out, "{number}");
        }
    }
}

impl Piece {
    fn parse(name: &str) -> Result<Piece, Complaint> {
        let unknown = || {
            Complaint::new(
                format!("has `{{{name}}}`, which is not a placeholder"),
                "use {index}, {number}, {index/N}, {index%N}, {message%N}, {group} or {run}",
            )
        };
        let (variable, operation) = match name.find(['/', '%']) {
            None => (name, None),
            Some(at) => {
                let number: u32 = name[at + 1..].parse().map_err(|_| unknown())?;
                if number == 0 {
                    return Err(unknown());
                }
                (&name[..at], Some((name.as_bytes()[at], number)))
            }
        };
        match (variable, operation) {
            ("run", None) => Ok(Piece::Run),
            ("group", None) => Ok(Piece::Group),
            ("message", Some((b'%', modulus))) => Ok(Piece::Message { modulus }),
            ("index" | "number", operation) => {
                let (divide, modulus) = match operation {
                    None => (1, u32::MAX),
                    Some((b'/', divide)) => (divide, u32::MAX),
                    Some((_, modulus)) => (1, modulus),
                };
                Ok(Piece::Client {
                    from: u32::from(variable == "number"),
                    divide,
                    modulus,
                })
            }
            _ => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_filled() {
        let filling = Filling {
            run: "5f3a",
            group: "g",
            index: 27,
            message: 12,
        };
        for (pattern, expected) in [
            ("plain/+/#", "plain/+/#"),
            ("{run}/{group}-{index}", "5f3a/g-27"),
            ("t/{number}", "t/28"),
            ("{index/10}/{index%10}", "2/7"),
            ("{number%10}", "8"),
            ("a{message%10}b", "a2b"),
            ("{index}{index}", "2727"),
        ] {
            let mut out = "left over".to_owned();
            Pattern::parse(pattern).unwrap().fill(filling, &mut out);
            assert_eq!(out, expected, "{pattern}");
        }
    }

    #[test]
    fn wrong_patterns_are_refused() {
        for pattern in [
            "{",
            "{indx}",
            "{index%0}",
            "{index%x}",
            "{message}",
            "{message%2}{message%3}",
            "{run%2}",
        ] {
            assert!(Pattern::parse(pattern).is_err(), "{pattern}");
        }
    }
}
