//! Scenario files: from TOML to [`Scenario`]. All mistakes are reported at once, each with its
//! place.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{self, Form, Key};
use super::stage::Stage;
use super::storm::Storm;
use super::{Group, Keyed, Scenario};
use crate::secrets::{MASK, masked_line};
use ringmq_problem::file::FileFault;
use ringmq_problem::{Complaint, LinePlace, Place, Problem, nearest, printable};

/// Reads a scenario file. What no key shows alone is left to [`Scenario::check`].
pub fn read(path: &Path) -> Result<Scenario, Vec<Problem>> {
    let name = path.display().to_string();
    let text = read_text(path, &name).map_err(|problem| vec![problem])?;
    parse(&name, &text)
}

/// Reads the text of a scenario file with this name.
pub fn parse(name: &str, text: &str) -> Result<Scenario, Vec<Problem>> {
    let source = Source { name, text };
    let (root, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        // After a syntax error the rest of the table is a guess: no second-hand complaints.
        let syntax = |error: &toml::de::Error| source.syntax_problem(error);
        return Err(errors.iter().take(PROBLEMS_MAX).map(syntax).collect());
    }
    let mut scenario = Scenario {
        place: Place::File(name.to_owned()),
        ..Scenario::default()
    };
    let mut problems = Vec::new();
    for (key, value) in root.get_ref() {
        let name = key.get_ref().as_ref();
        match (name, value.get_ref()) {
            ("group", value) => {
                scenario.groups = source.read_tables(value, key.span(), &mut problems);
            }
            ("stage", value) => {
                scenario.stages = source.read_tables(value, key.span(), &mut problems);
            }
            (Storm::NAME, DeValue::Table(table)) => {
                let storm = source.read_table(table, key.span(), &mut problems);
                scenario.storm = Some(storm);
            }
            (Storm::NAME, _) => {
                let complaint = Complaint::new("is not a table", "begin it with [storm]");
                problems.push(complaint.at(source.place(key.span()), Storm::NAME));
            }
            (name, _) => match keys::of_scenario(name) {
                None => problems.push(source.unknown(name, None, key.span())),
                Some(key) => {
                    let place = source.place(value.span());
                    let set = match texts_of(value, key.form) {
                        Ok(texts) => {
                            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                            scenario.set(key, &texts, place)
                        }
                        Err(complaint) => Err(complaint.at(place, key.name)),
                    };
                    problems.extend(set.err());
                }
            },
        }
    }
    // The table is sorted by name: people read from top to bottom.
    problems.sort_by_key(|problem| match &problem.place {
        Place::Line(place) => (place.line, place.column),
        Place::Default | Place::CommandLine | Place::File(_) => (0, 0),
    });
    problems.truncate(PROBLEMS_MAX);
    if problems.is_empty() {
        Ok(scenario)
    } else {
        Err(problems)
    }
}

/// A file that was read.
struct Source<'a> {
    name: &'a str,
    text: &'a str,
}

/// What stands in `[brackets]`.
trait Table: Keyed {
    /// `group`.
    const NAME: &'static str;

    fn at(place: Place) -> Self;
    fn key(name: &str) -> Option<&'static Key<Self>>;
    fn keys() -> Vec<&'static str>;
}

macro_rules! table {
    ($kind:ty, $name:literal, $of:path, $all:expr) => {
        impl Table for $kind {
            const NAME: &'static str = $name;

            fn at(place: Place) -> Self {
                <$kind>::at(place)
            }

            fn key(name: &str) -> Option<&'static Key<Self>> {
                $of(name)
            }

            fn keys() -> Vec<&'static str> {
                $all.map(|key| key.name).collect()
            }
        }
    };
}

table!(Group, "group", keys::of_group, keys::group_keys());
table!(Stage, "stage", keys::of_stage, keys::STAGE.iter());
table!(Storm, "storm", keys::of_storm, keys::STORM.iter());

impl Source<'_> {
    fn read_tables<T: Table>(
        &self,
        value: &DeValue<'_>,
        span: Range<usize>,
        problems: &mut Vec<Problem>,
    ) -> Vec<T> {
        let DeValue::Array(items) = value else {
            problems.push(self.not_a_table(T::NAME, span));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in items {
            match item.get_ref() {
                DeValue::Table(table) => tables.push(self.read_table(table, item.span(), problems)),
                _ => problems.push(self.not_a_table(T::NAME, item.span())),
            }
        }
        tables
    }

    fn read_table<T: Table>(
        &self,
        table: &DeTable<'_>,
        span: Range<usize>,
        problems: &mut Vec<Problem>,
    ) -> T {
        let mut read = T::at(self.place(span));
        // The name first: messages about the other keys use it.
        let name_first = |(key, _): &(&Spanned<_>, &Spanned<DeValue<'_>>)| {
            let key: &std::borrow::Cow<'_, str> = key.get_ref();
            key.as_ref() != "name"
        };
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(name_first);
        for (key, value) in entries {
            let name = key.get_ref().as_ref();
            let Some(key) = T::key(name) else {
                let inside = Inside {
                    table: T::NAME,
                    keys: T::keys(),
                    subject: read.subject(""),
                };
                problems.push(self.unknown(name, Some(inside), key.span()));
                continue;
            };
            let place = self.place(value.span());
            let set = match texts_of(value, key.form) {
                Ok(texts) => {
                    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                    read.set(key, &texts, place)
                }
                Err(complaint) => Err(complaint.at(place, read.subject(name))),
            };
            problems.extend(set.err());
        }
        read
    }

    fn place(&self, span: Range<usize>) -> Place {
        let mut place = LinePlace::of(self.name, self.text, span);
        if let Some((text, at)) = masked_line(&place.text) {
            let end = at + MASK.len();
            place.text = text;
            // What was marked within the value is the mask now.
            if place.column > at {
                (place.column, place.width) = (at + 1, MASK.len());
            } else {
                place.width = place.width.min(end + 1 - place.column);
            }
        }
        Place::Line(Box::new(place))
    }

    fn not_a_table(&self, name: &str, span: Range<usize>) -> Problem {
        let what = format!("is not a {name}");
        Complaint::new(what, format!("begin a {name} with [[{name}]]")).at(self.place(span), name)
    }

    fn syntax_problem(&self, error: &toml::de::Error) -> Problem {
        let what = format!("is not TOML: {}", error.message());
        let fix =
            "write KEY = VALUE lines, with text in \"quotes\", and [[group]] above each group";
        Complaint::new(what, fix).at(self.place(error.span().unwrap_or(0..0)), "this line")
    }

    /// `inside` is nothing for a key outside of any table.
    fn unknown(&self, key: &str, inside: Option<Inside>, span: Range<usize>) -> Problem {
        let above = keys::SCENARIO.iter().map(|key| key.name);
        let above: Vec<_> = above
            .chain([Group::NAME, Stage::NAME, Storm::NAME])
            .collect();
        let here = inside.as_ref().map_or(&above, |inside| &inside.keys);
        let table = inside.as_ref().map(|inside| inside.table);
        let places = [
            (table.is_some(), above.clone(), "above the first [[group]]"),
            (table != Some(Group::NAME), Group::keys(), "in a [[group]]"),
            (table != Some(Stage::NAME), Stage::keys(), "in a [[stage]]"),
            (table != Some(Storm::NAME), Storm::keys(), "in [storm]"),
        ];
        let mut elsewhere = places
            .iter()
            .filter(|(is_elsewhere, keys, _)| *is_elsewhere && keys.contains(&key));
        let fix = if let Some((_, _, there)) = elsewhere.next() {
            format!("`{key}` belongs {there}")
        } else if let Some(near) = nearest(key, here.iter().copied()) {
            format!("did you mean `{near}`?")
        } else {
            "`ringload --help` lists every key".to_owned()
        };
        let prefix = inside.map_or(String::new(), |inside| inside.subject);
        let subject = format!("{prefix}{}", printable(key));
        Complaint::new("is not a key", fix).at(self.place(span), subject)
    }
}

/// The table that a key stands in.
struct Inside {
    table: &'static str,
    keys: Vec<&'static str>,
    subject: String,
}

/// The value as a user would write it in text.
fn texts_of(value: &Spanned<DeValue<'_>>, form: Form) -> Result<Vec<String>, Complaint> {
    match (value.get_ref(), form) {
        (DeValue::Array(items), Form::List) => {
            let mut texts = Vec::new();
            for item in items {
                texts.push(text_of(item.get_ref())?);
            }
            Ok(texts)
        }
        (value, _) => text_of(value).map(|text| vec![text]),
    }
}

fn text_of(value: &DeValue<'_>) -> Result<String, Complaint> {
    let refused = |what: &str| {
        let fix = "write a number, true or false, or text in \"quotes\"";
        Err(Complaint::new(format!("is {what}"), fix))
    };
    match value {
        DeValue::String(text) => Ok(text.as_ref().to_owned()),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) => Ok(number.to_string()),
            Err(_) => refused("a number that is too large"),
        },
        DeValue::Float(float) => Ok(float.as_str().to_owned()),
        DeValue::Boolean(on) => Ok(on.to_string()),
        DeValue::Datetime(_) => refused("a date or time"),
        DeValue::Array(_) => refused("a list"),
        DeValue::Table(_) => refused("a table"),
    }
}

fn read_text(path: &Path, name: &str) -> Result<String, Problem> {
    let problem = |what: String, fix: &str| {
        Complaint::new(what, fix).at(Place::File(name.to_owned()), "the scenario file")
    };
    let bytes = ringmq_problem::file::read_bytes(path, FILE_SIZE_MAX).map_err(|fault| {
        let fix = match fault {
            FileFault::TooLarge(_) => "check the path: no scenario is that large",
            FileFault::Missing
            | FileFault::Forbidden
            | FileFault::Directory
            | FileFault::Utf16
            | FileFault::NotUtf8 { .. }
            | FileFault::Changing
            | FileFault::Unreadable(_) => {
                "check the path; `ringload list` shows the scenarios that are built in"
            }
        };
        problem(fault.to_string(), fix)
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let start = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes());
        let place = LinePlace::of(name, &text, start..start);
        Complaint::new("is not UTF-8", "save the file as UTF-8")
            .at(Place::Line(Box::new(place)), "this line")
    })
}

/// More problems than these are one problem: the wrong file.
const PROBLEMS_MAX: usize = 10;

/// A scenario has a few KiB; this keeps `ringload run /dev/sda` from filling the memory.
const FILE_SIZE_MAX: u64 = 1 << 20;
