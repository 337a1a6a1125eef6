//! Values of settings: their syntax, parsing and display.
//!
//! Invariants:
//! - `kind.parse(&kind.show(&value)) == Ok(value)` for every value that the kind admits.
//! - A [`Value`] that left this module lies within the range of its [`Kind`].

mod hints;
mod parse;
mod units;

pub use parse::parse_cores;
pub use ringmq_problem::{Complaint, nearest};

use super::listen::Listen;
use units::{SIZE_UNITS, TIME_UNITS, show_units};

/// What a setting holds, and in which range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A plain number.
    Count(Range),
    /// A plain number out of 1, 2, 4, 8, ...
    PowerOfTwo(Range),
    /// Bytes: a plain number or one with a unit, `64KiB`.
    Size(Range),
    /// Whole seconds: a plain number or one with a unit, `7d`.
    Seconds(Range),
    /// Milliseconds: a plain number means seconds, or one with a unit, `500ms`.
    Millis(Range),
    /// `true` or `false`.
    Switch,
    /// Addresses to listen on; may be given more than once.
    Addresses,
    /// A list, possibly empty; may be given more than once.
    List(Items),
    /// Processor cores: `0-3,6`; `none` is an empty list.
    Cores,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A level, or levels by module: `info,ringmq::probe=debug`.
    LogFilter,
    /// Any text without quotes, backslashes and control characters; may be empty.
    Text,
    /// The path of a directory, as text; empty: none.
    Directory,
}

/// What a list holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Items {
    /// Names of files.
    Paths,
    /// Addresses, alone or as `ADDRESS/BITS`.
    Networks,
    /// Origins of web pages.
    Origins,
    /// Names of files with keys: `ALGORITHM:FILE`, or `ALGORITHM@KID:FILE`.
    Keys,
    /// Any texts, as of [`Kind::Text`].
    Texts,
    /// Addresses of HTTP.
    Urls,
    /// Where the control plane listens.
    AdminAddresses,
}

/// Smallest and largest value, both allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Smallest.
    pub min: u64,
    /// Largest.
    pub max: u64,
}

/// A value of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// The broker chooses.
    Auto,
    /// In the unit of the kind: pieces, bytes, seconds or milliseconds.
    Number(u64),
    /// On or off.
    Switch(bool),
    /// In the file, none stands for none.
    Addresses(Vec<Listen>),
    /// Items that were checked.
    List(Vec<String>),
    /// At least one core, each once.
    Cores(Vec<usize>),
    /// A word or a log filter.
    Text(String),
}

impl Kind {
    /// A value of this kind as a user would write it.
    pub fn show(self, value: &Value) -> String {
        match value {
            Value::Auto => "auto".to_owned(),
            Value::Number(number) => self.show_number(*number),
            Value::Switch(on) => on.to_string(),
            Value::Addresses(addresses) => join(addresses, ", "),
            Value::List(items) => items.join(", "),
            Value::Cores(cores) if cores.is_empty() => NO_CORES.to_owned(),
            Value::Cores(cores) => join(cores, ","),
            Value::Text(text) => text.clone(),
        }
    }

    /// A value of this kind in TOML.
    pub fn show_toml(self, value: &Value) -> String {
        match value {
            Value::Number(number) => {
                let shown = self.show_number(*number);
                if shown.bytes().all(|byte| byte.is_ascii_digit()) {
                    shown
                } else {
                    format!("\"{shown}\"")
                }
            }
            Value::Switch(on) => on.to_string(),
            Value::Addresses(addresses) => {
                let quoted: Vec<String> = addresses.iter().map(|a| format!("\"{a}\"")).collect();
                format!("[{}]", quoted.join(", "))
            }
            Value::List(items) => {
                let quoted: Vec<String> = items.iter().map(|item| quote(item)).collect();
                format!("[{}]", quoted.join(", "))
            }
            Value::Auto | Value::Cores(_) | Value::Text(_) => format!("\"{}\"", self.show(value)),
        }
    }

    fn show_number(self, number: u64) -> String {
        match self {
            Kind::Size(_) => show_units(number, SIZE_UNITS),
            Kind::Millis(_) => show_units(number, TIME_UNITS),
            Kind::Seconds(_) => match number.checked_mul(1000) {
                Some(millis) => show_units(millis, TIME_UNITS),
                None => number.to_string(),
            },
            Kind::Count(_)
            | Kind::PowerOfTwo(_)
            | Kind::Switch
            | Kind::Addresses
            | Kind::List(_)
            | Kind::Cores
            | Kind::Choice(_)
            | Kind::LogFilter
            | Kind::Text
            | Kind::Directory => number.to_string(),
        }
    }
}

impl Value {
    /// The number of a numeric kind.
    pub fn number(&self) -> u64 {
        let Value::Number(number) = self else {
            unreachable!("a numeric kind holds a number, not {self:?}");
        };
        *number
    }

    /// The number of a numeric kind; `None`: the broker chooses.
    pub fn number_or_auto(&self) -> Option<u64> {
        (*self != Value::Auto).then(|| self.number())
    }

    /// What a switch holds.
    pub fn switch(&self) -> bool {
        let Value::Switch(on) = self else {
            unreachable!("a switch holds true or false, not {self:?}");
        };
        *on
    }

    /// What a list of addresses holds.
    pub fn addresses(self) -> Vec<Listen> {
        let Value::Addresses(addresses) = self else {
            unreachable!("a list of addresses holds them, not {self:?}");
        };
        addresses
    }

    /// What a list holds.
    pub fn list(self) -> Vec<String> {
        let Value::List(items) = self else {
            unreachable!("a list holds its items, not {self:?}");
        };
        items
    }

    /// What a list of cores holds; `None`: the broker chooses.
    pub fn cores_or_auto(self) -> Option<Vec<usize>> {
        if self == Value::Auto {
            return None;
        }
        let Value::Cores(cores) = self else {
            unreachable!("a list of cores holds them, not {self:?}");
        };
        Some(cores)
    }

    /// What a word or a log filter holds.
    pub fn text(self) -> String {
        let Value::Text(text) = self else {
            unreachable!("a word holds text, not {self:?}");
        };
        text
    }
}

/// As a string of TOML.
pub fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn join<T: ToString>(items: &[T], separator: &str) -> String {
    let shown: Vec<String> = items.iter().map(ToString::to_string).collect();
    shown.join(separator)
}

/// A list of cores without any.
const NO_CORES: &str = "none";

#[cfg(test)]
mod tests;
