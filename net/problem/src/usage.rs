//! What clap finds wrong with a command line, as a [`Problem`].
//!
//! clap says what it found in fields, and this module puts them into the words of all other
//! messages: what is wrong, and what to write instead.
//!
//! Not here: values, which the programs read themselves.

use std::error::Error as _;
use std::ffi::OsString;
use std::num::ParseIntError;

use clap::error::{ContextKind, ContextValue, Error, ErrorKind};
use clap::{Arg, Command};

use crate::{Complaint, Place, Problem, nearest};

/// The problem that `error` stands for, when `root` read `args`, which have no name of the program.
pub fn problem_of(error: &Error, root: &Command, args: &[OsString]) -> Problem {
    let path = path_of(root, args);
    let found = Found { error, path: &path };
    let (subject, complaint) = found.complaint();
    match path.as_slice() {
        [_, command, ..] => {
            let what = format!("{subject} {}", complaint.what);
            let subject = format!("{}:", command.get_name());
            Complaint::new(what.trim(), complaint.fix).at(Place::CommandLine, subject)
        }
        _ => complaint.at(Place::CommandLine, subject),
    }
}

/// The commands that `args` name, from the program itself to the innermost. Right behind the program's own options there is
/// none.
pub fn path_of<'a>(root: &'a Command, args: &[OsString]) -> Vec<&'a Command> {
    let mut path = vec![root];
    for (index, arg) in args.iter().enumerate() {
        let innermost = path[path.len() - 1];
        match innermost.find_subcommand(arg) {
            Some(command) => path.push(command),
            None if index == 0 => break,
            None => {}
        }
    }
    path
}

/// The text that clap names as what is wrong: an option with its dashes, or an argument.
pub fn subject_of(error: &Error) -> String {
    let kinds = [ContextKind::InvalidArg, ContextKind::InvalidSubcommand];
    let texts = kinds.iter().flat_map(|kind| texts(error, *kind));
    let text = texts.into_iter().next().unwrap_or_default();
    // What may come more than once.
    text.trim_end_matches("...").to_owned()
}

struct Found<'a> {
    error: &'a Error,
    path: &'a [&'a Command],
}

impl Found<'_> {
    /// The subject, and what is wrong with it.
    fn complaint(&self) -> (String, Complaint) {
        let named = subject_of(self.error);
        let (name, placeholder) = split(&named);
        // An argument has no option in front.
        let written = match placeholder.is_empty() {
            true => format!("another {name}"),
            false => format!("{name} {placeholder}"),
        };
        let value = texts(self.error, ContextKind::InvalidValue).join(" ");
        let say = |what: String, fix: String| (name.clone(), Complaint::new(what, fix));
        match self.error.kind() {
            ErrorKind::UnknownArgument if named.starts_with('-') => {
                say("is not an option".to_owned(), self.like_option(&named))
            }
            ErrorKind::UnknownArgument => self.too_many(&named),
            ErrorKind::InvalidSubcommand => {
                let what = "is not a command".to_owned();
                (
                    format!("`{named}`"),
                    Complaint::new(what, self.like_command(&named)),
                )
            }
            ErrorKind::InvalidValue if value.is_empty() => {
                say("needs a value".to_owned(), format!("write {written}"))
            }
            ErrorKind::InvalidValue => {
                let valid = texts(self.error, ContextKind::ValidValue);
                say(format!("is `{value}`"), format!("write {}", or(&valid)))
            }
            ErrorKind::ValueValidation => {
                let fix = format!("write {written}");
                let source = self.error.source();
                match source.filter(|source| !source.is::<ParseIntError>()) {
                    Some(source) => say(format!("is `{value}`: {source}"), fix),
                    None => {
                        let fix = match placeholder.is_empty() {
                            true => "write a number".to_owned(),
                            false => fix,
                        };
                        say(format!("takes a number, and `{value}` is none"), fix)
                    }
                }
            }
            ErrorKind::TooManyValues => say(
                "takes no value".to_owned(),
                "leave out what follows the equals sign".to_owned(),
            ),
            ErrorKind::ArgumentConflict => self.conflict(&name),
            ErrorKind::MissingRequiredArgument => self.missing(),
            ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                let names = self.subcommands();
                let what = format!("a command is needed: {}", or(&names));
                (String::new(), Complaint::new(what, self.see_help()))
            }
            _ => {
                // Nothing that these programs declare leads here; what clap says is better than nothing.
                let text = self.error.to_string();
                let first = text.lines().next().unwrap_or_default();
                let what = first.trim_start_matches("error: ").to_owned();
                (String::new(), Complaint::new(what, self.see_help()))
            }
        }
    }

    fn too_many(&self, argument: &str) -> (String, Complaint) {
        let inner = self.inner_name();
        let (subject, what) = match inner.is_empty() {
            true => (format!("`{argument}`"), "is one argument too many"),
            false => (inner, "takes no more arguments"),
        };
        (subject, Complaint::new(what, self.see_help()))
    }

    fn conflict(&self, name: &str) -> (String, Complaint) {
        let others = texts(self.error, ContextKind::PriorArg);
        let other = others
            .first()
            .map(|other| split(other).0)
            .unwrap_or_default();
        let complaint = match other == name {
            true => Complaint::new("is given more than once", "give it once"),
            false => Complaint::new(
                format!("and {other} do not go together"),
                "keep one of them",
            ),
        };
        (name.to_owned(), complaint)
    }

    fn missing(&self) -> (String, Complaint) {
        let inner = self.inner_name();
        let missing = texts(self.error, ContextKind::InvalidArg);
        let missing: Vec<String> = missing.iter().map(|name| self.needed(name)).collect();
        if !inner.is_empty() || missing.iter().any(|name| name.starts_with('-')) {
            let what = format!("needs {}", and(&missing));
            return (inner, Complaint::new(what, self.see_help()));
        }
        // All of them, also those that are there: which one is missing is not to be seen.
        let needed = self.innermost().get_positionals();
        let needed = needed.filter(|arg| arg.is_required_set()).map(placeholder);
        let needed: Vec<String> = needed.collect();
        let verb = if needed.len() == 1 { "is" } else { "are" };
        let what = format!("{} {verb} needed", and(&needed));
        (String::new(), Complaint::new(what, self.see_help()))
    }

    /// What is missing, or what may stand in its place.
    fn needed(&self, named: &str) -> String {
        let name = bare(named);
        if name.contains('|') {
            let words: Vec<String> = name.split('|').map(str::to_owned).collect();
            return or(&words);
        }
        let command = self.innermost();
        let mut positionals = command.get_positionals();
        let found = positionals.find(|arg| !arg.is_required_set() && placeholder(arg) == name);
        let others = found.map(|arg| command.get_arg_conflicts_with(arg));
        let others = others.into_iter().flatten().filter_map(Arg::get_long);
        let others = others.map(|long| format!("--{long}"));
        or(&std::iter::once(name).chain(others).collect::<Vec<_>>())
    }

    fn like_option(&self, name: &str) -> String {
        let all = self.path.iter().flat_map(|command| command.get_arguments());
        let longs: Vec<&str> = all.filter_map(Arg::get_long).collect();
        match nearest(name.trim_start_matches('-'), longs.into_iter()) {
            Some(flag) => format!("did you mean --{flag}?"),
            None => self.see_help(),
        }
    }

    fn like_command(&self, name: &str) -> String {
        let names = self.subcommands();
        match nearest(name, names.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{} {near}`?", self.whole_name()),
            None => self.see_help(),
        }
    }

    fn see_help(&self) -> String {
        format!("`{} --help` lists every option", self.whole_name())
    }

    fn subcommands(&self) -> Vec<String> {
        let all = self.innermost().get_subcommands();
        all.map(|command| command.get_name().to_owned()).collect()
    }

    fn innermost(&self) -> &Command {
        self.path[self.path.len() - 1]
    }

    /// `ringmq log verify`.
    fn whole_name(&self) -> String {
        let names: Vec<&str> = self.path.iter().map(|c| c.get_name()).collect();
        names.join(" ")
    }

    /// `verify`, without the program and its command.
    fn inner_name(&self) -> String {
        let inner = self.path.iter().skip(2);
        let names: Vec<&str> = inner.map(|c| c.get_name()).collect();
        names.join(" ")
    }
}

fn texts(error: &Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    }
}

/// `--shards <N>` as `--shards` and `N`.
fn split(named: &str) -> (String, String) {
    if named.starts_with(['[', '<']) {
        return (bare(named), String::new());
    }
    let (name, placeholder) = named.split_once([' ', '=', '[']).unwrap_or((named, ""));
    (bare(name), bare(placeholder))
}

/// Without the brackets around what a user has to fill in.
fn bare(text: &str) -> String {
    text.replace(['<', '>', '[', ']'], "").replace("...", "")
}

fn placeholder(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    names.iter().map(|name| name.to_string()).collect()
}

fn or(words: &[String]) -> String {
    list(words, "or")
}

fn and(words: &[String]) -> String {
    list(words, "and")
}

/// `a, b or c`.
fn list(words: &[String], last: &str) -> String {
    match words {
        [] => String::new(),
        [only] => only.clone(),
        [most @ .., end] => format!("{} {last} {end}", most.join(", ")),
    }
}
