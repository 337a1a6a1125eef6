//! A problem in a command line or a settings file: where, what, and how to fix it.
//!
//! The broker and the load generator speak of mistakes with the same words.
#![forbid(unsafe_code)]

pub mod file;
pub mod papers;
pub mod secret;
pub mod usage;

use std::fmt;
use std::ops::Range;

/// Something that the user has to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What it is about: an option, a key, a file.
    pub subject: String,
    /// What is wrong with it; continues the sentence that the subject begins.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

/// Where something was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: the default.
    Default,
    /// On the command line.
    CommandLine,
    /// The file as a whole, or no place in particular.
    File(String),
    /// At one place of a file.
    Line(Box<LinePlace>),
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinePlace {
    /// Name of the file.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// The whole line, printable and without secrets of URLs.
    pub text: String,
    /// Characters to mark, at least 1.
    pub width: usize,
}

/// What is wrong with a value, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// What is wrong, as the end of a sentence that begins with the name of the key.
    pub what: String,
    /// What to do, as an imperative.
    pub fix: String,
}

impl Complaint {
    /// A complaint of these two halves.
    pub fn new(what: impl Into<String>, fix: impl Into<String>) -> Complaint {
        Complaint {
            what: what.into(),
            fix: fix.into(),
        }
    }

    /// Says where, and about what.
    pub fn at(self, place: Place, subject: impl Into<String>) -> Problem {
        Problem {
            place,
            subject: subject.into(),
            what: self.what,
            fix: self.fix,
        }
    }
}

impl LinePlace {
    /// The place of a span of bytes.
    pub fn of(file: &str, text: &str, span: Range<usize>) -> LinePlace {
        let start = char_start(text, span.start);
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let end = char_start(text, span.end.clamp(start, line_end));
        LinePlace {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            text: secret::hide_in_line(&printable(text[line_start..line_end].trim_end())),
            width: text[start..end].chars().count().max(1),
        }
    }

    /// The line with its number, and below it a mark: two lines, without the break at the end.
    pub fn excerpt(&self) -> String {
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        let skip = " ".repeat(self.column - 1);
        let mark = "^".repeat(self.width);
        format!("  {number} | {}\n  {margin} | {skip}{mark}", self.text)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (subject, what) = (&self.subject, &self.what);
        writeln!(f, "{}: {subject} {what}", self.place)?;
        if let Place::Line(place) = &self.place {
            writeln!(f, "{}", place.excerpt())?;
        }
        write!(f, "  fix: {}", self.fix)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Default => f.write_str("default"),
            Place::CommandLine => f.write_str("command line"),
            Place::File(file) => f.write_str(file),
            Place::Line(place) => write!(f, "{}:{}:{}", place.file, place.line, place.column),
        }
    }
}

/// The word that `text` is most likely a misspelling of.
pub fn nearest<'a>(text: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let text: String = text.chars().take(NEAREST_CHARS_MAX).collect();
    // A third of the letters may be wrong: more, and the guess would be noise.
    let distance_max = (text.chars().count() / 3).max(1);
    words
        .map(|word| (word_distance(&text, word), word))
        .filter(|&(distance, _)| distance <= distance_max)
        .min_by_key(|&(distance, word)| (distance, word.len()))
        .map(|(_, word)| word)
}

/// Like the edit distance, but the same parts in another order, or an ending left out, count as
/// one.
fn word_distance(text: &str, word: &str) -> usize {
    let parts = |name: &str| {
        let mut parts: Vec<String> = name.split(['_', '-']).map(str::to_owned).collect();
        parts.sort();
        parts
    };
    let shortened = text.len() >= 4 && word.starts_with(text);
    if text != word && (shortened || parts(text) == parts(word)) {
        return 1;
    }
    edit_distance(text, word)
}

/// Insertions, removals, replacements and swaps of neighbours between two words.
fn edit_distance(source: &str, target: &str) -> usize {
    let source: Vec<char> = source.chars().collect();
    let target: Vec<char> = target.chars().collect();
    let mut rows = vec![vec![0; target.len() + 1]; source.len() + 1];
    for i in 0..=source.len() {
        for j in 0..=target.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(source[i - 1] != target[j - 1]);
                let moved = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                let swapped = i > 1
                    && j > 1
                    && source[i - 1] == target[j - 2]
                    && source[i - 2] == target[j - 1];
                let swap = if swapped {
                    rows[i - 2][j - 2] + 1
                } else {
                    usize::MAX
                };
                replaced.min(moved).min(swap)
            };
        }
    }
    rows[source.len()][target.len()]
}

/// Where the character begins that the byte at `index` is part of.
fn char_start(text: &str, index: usize) -> usize {
    (0..=index.min(text.len()))
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .expect("0 is a boundary")
}

/// Text without what could steer a terminal.
pub fn printable(text: &str) -> String {
    let shown = |c: char| match c {
        '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(shown).collect()
}

/// No key has a name near this length: a longer word is not worth the quadratic comparison.
const NEAREST_CHARS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_marks_its_text_in_its_line() {
        let place = LinePlace::of("f", "a = 1\nwörd = 22\n", 14..16);
        assert_eq!((place.line, place.column, place.width), (2, 8, 2));
        let problem = Complaint::new("is 22", "write 23").at(Place::Line(Box::new(place)), "wörd");
        assert_eq!(
            problem.to_string(),
            "f:2:8: wörd is 22\n  2 | wörd = 22\n    |        ^^\n  fix: write 23"
        );
    }

    #[test]
    fn the_nearest_word_is_found_and_noise_is_not() {
        let words = [
            "client_id",
            "clients",
            "keep_alive",
            "packet_size_max",
            "payload",
        ];
        for (text, expected) in [
            ("client", Some("clients")),
            ("payloda", Some("payload")),
            ("keep", Some("keep_alive")),
            ("max_packet_size", Some("packet_size_max")),
            ("packet_size", Some("packet_size_max")),
            ("wombat", None),
            ("x", None),
        ] {
            assert_eq!(nearest(text, words.iter().copied()), expected, "{text}");
        }
    }
}
