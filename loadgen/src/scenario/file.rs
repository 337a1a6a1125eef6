//! Scenario files: from TOML to [`Scenario`]. All mistakes are reported at once, each with its
//! place.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{self, Form};
use super::{Group, Scenario};
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
            ("group", DeValue::Array(groups)) => {
                for item in groups {
                    match item.get_ref() {
                        DeValue::Table(table) => {
                            source.read_group(&mut scenario, table, item.span(), &mut problems);
                        }
                        _ => problems.push(source.not_a_group(item.span())),
                    }
                }
            }
            ("group", _) => problems.push(source.not_a_group(key.span())),
            (name, _) => match keys::of_scenario(name) {
                None => problems.push(source.unknown(name, "", key.span())),
                Some(key) => {
                    let read = texts_of(value, key.form).and_then(|texts| {
                        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                        (key.set)(&mut scenario, &texts)
                    });
                    if let Err(complaint) = read {
                        problems.push(complaint.at(source.place(value.span()), key.name));
                    }
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

impl Source<'_> {
    fn read_group(
        &self,
        scenario: &mut Scenario,
        table: &DeTable<'_>,
        span: Range<usize>,
        problems: &mut Vec<Problem>,
    ) {
        let mut group = Group::at(self.place(span));
        // The name first: messages about the other keys use it.
        let name_first = |(key, _): &(&Spanned<_>, &Spanned<DeValue<'_>>)| {
            let key: &std::borrow::Cow<'_, str> = key.get_ref();
            key.as_ref() != "name"
        };
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(name_first);
        for (key, value) in entries {
            let name = key.get_ref().as_ref();
            let Some(key) = keys::of_group(name) else {
                problems.push(self.unknown(name, &group.subject(""), key.span()));
                continue;
            };
            let place = self.place(value.span());
            let set = match texts_of(value, key.form) {
                Ok(texts) => {
                    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                    group.set(key, &texts, place)
                }
                Err(complaint) => Err(complaint.at(place, group.subject(name))),
            };
            problems.extend(set.err());
        }
        scenario.groups.push(group);
    }

    fn place(&self, span: Range<usize>) -> Place {
        Place::Line(Box::new(LinePlace::of(self.name, self.text, span)))
    }

    fn not_a_group(&self, span: Range<usize>) -> Problem {
        Complaint::new("is not a group", "begin a group with [[group]]")
            .at(self.place(span), "group")
    }

    fn syntax_problem(&self, error: &toml::de::Error) -> Problem {
        let what = format!("is not TOML: {}", error.message());
        let fix =
            "write KEY = VALUE lines, with text in \"quotes\", and [[group]] above each group";
        Complaint::new(what, fix).at(self.place(error.span().unwrap_or(0..0)), "this line")
    }

    /// `prefix` is empty for a key outside of any group.
    fn unknown(&self, key: &str, prefix: &str, span: Range<usize>) -> Problem {
        let outside = keys::SCENARIO.iter().map(|key| key.name).chain(["group"]);
        let inside = keys::group_keys().map(|key| key.name);
        let (here, elsewhere, there): (Vec<_>, Vec<_>, _) = match prefix {
            "" => (outside.collect(), inside.collect(), "in a [[group]]"),
            _ => (
                inside.collect(),
                outside.collect(),
                "above the first [[group]]",
            ),
        };
        let fix = if elsewhere.contains(&key) {
            format!("`{key}` belongs {there}")
        } else if let Some(near) = nearest(key, here.iter().copied()) {
            format!("did you mean `{near}`?")
        } else {
            "`ringload --help` lists every key".to_owned()
        };
        let subject = format!("{prefix}{}", printable(key));
        Complaint::new("is not a key", fix).at(self.place(span), subject)
    }
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
