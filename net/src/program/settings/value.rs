//! Values of settings: their syntax, parsing and display.
//!
//! Invariants:
//! - `kind.parse(&kind.show(&value)) == Ok(value)` for every value that the kind admits.
//! - A [`Value`] that left this module lies within the range of its [`Kind`].

use ringmq::auth::http::HttpUrl;
use ringmq::transport::{Network, Origin};
pub use ringmq_problem::{Complaint, nearest};

use super::jwt::KeyFile;
use super::listen::Listen;

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
    /// Reads what a user wrote on the command line, or as a string in the file.
    pub fn parse(self, text: &str) -> Result<Value, Complaint> {
        match self {
            Kind::Count(_) | Kind::PowerOfTwo(_) => match parse_digits(text) {
                Some(Ok(number)) => self.check_range(number),
                Some(Err(TooBig)) => Err(self.out_of_range(text)),
                None => Err(Complaint::new(
                    format!("is `{text}`, which is not a whole number"),
                    format!("write {}", self.hint()),
                )),
            },
            Kind::Size(_) => self.parse_units(text, SIZE_UNITS),
            Kind::Seconds(_) | Kind::Millis(_) => self.parse_units(text, TIME_UNITS),
            Kind::Switch => match text {
                "true" => Ok(Value::Switch(true)),
                "false" => Ok(Value::Switch(false)),
                _ => Err(Complaint::new(
                    format!("is `{text}`, which is neither true nor false"),
                    "write true or false",
                )),
            },
            Kind::Addresses => Listen::parse(text).map(|listen| Value::Addresses(vec![listen])),
            // Nothing: the way to write an empty list on the command line.
            Kind::List(_) if text.is_empty() => Ok(Value::List(Vec::new())),
            Kind::List(items) => {
                parse_item(items, text).map(|()| Value::List(vec![text.to_owned()]))
            }
            Kind::Cores => parse_cores(text).map(Value::Cores),
            Kind::Choice(words) if words.contains(&text) => Ok(Value::Text(text.to_owned())),
            Kind::Choice(words) => Err(Complaint::new(
                format!("is `{text}`, which is not an allowed value"),
                format!("write {}", words.join(" or ")),
            )),
            Kind::LogFilter => parse_log_filter(text).map(|()| Value::Text(text.to_owned())),
            Kind::Text | Kind::Directory => parse_text(text).map(Value::Text),
        }
    }

    /// Takes a plain number of the file. For durations it counts seconds.
    pub fn take_number(self, number: u64) -> Result<Value, Complaint> {
        match self {
            Kind::Count(_) | Kind::PowerOfTwo(_) | Kind::Size(_) | Kind::Seconds(_) => {
                self.check_range(number)
            }
            Kind::Millis(_) => match number.checked_mul(1000) {
                Some(millis) => self.check_range(millis),
                None => Err(self.out_of_range(&number.to_string())),
            },
            Kind::Cores => parse_cores(&number.to_string()).map(Value::Cores),
            Kind::Switch
            | Kind::Addresses
            | Kind::List(_)
            | Kind::Choice(_)
            | Kind::LogFilter
            | Kind::Text
            | Kind::Directory => Err(Complaint::new(
                format!("is a number, but has to be {}", self.noun()),
                format!("write {}", self.hint()),
            )),
        }
    }

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

    /// What stands for the value in a usage line.
    pub fn placeholder(self) -> &'static str {
        match self {
            Kind::Count(_) | Kind::PowerOfTwo(_) => "N",
            Kind::Size(_) => "SIZE",
            Kind::Seconds(_) | Kind::Millis(_) => "TIME",
            Kind::Switch => "",
            Kind::Addresses => "[SCHEME://]IP:PORT",
            Kind::List(Items::Paths) => "FILE",
            Kind::List(Items::Networks) => "IP[/BITS]",
            Kind::List(Items::Origins) => "ORIGIN",
            Kind::List(Items::Keys) => "ALGORITHM[@KID]:FILE",
            Kind::List(Items::Texts) => "TEXT",
            Kind::List(Items::Urls) => "URL",
            Kind::Cores => "LIST",
            Kind::Choice(_) => "WORD",
            Kind::LogFilter => "FILTER",
            Kind::Text => "TEXT",
            Kind::Directory => "DIR",
        }
    }

    /// The range in words; empty for kinds without one.
    pub fn range_text(self) -> String {
        match self {
            Kind::Count(range)
            | Kind::PowerOfTwo(range)
            | Kind::Size(range)
            | Kind::Seconds(range)
            | Kind::Millis(range) => {
                format!(
                    "{} to {}",
                    self.show_number(range.min),
                    self.show_number(range.max)
                )
            }
            Kind::Choice(words) => words.join(" or "),
            Kind::Switch
            | Kind::Addresses
            | Kind::List(_)
            | Kind::Cores
            | Kind::LogFilter
            | Kind::Text
            | Kind::Directory => String::new(),
        }
    }

    /// What it has to be, with an article.
    pub fn noun(self) -> &'static str {
        match self {
            Kind::Count(_) => "a whole number",
            Kind::PowerOfTwo(_) => "a power of two",
            Kind::Size(_) => "a size",
            Kind::Seconds(_) | Kind::Millis(_) => "a time span",
            Kind::Switch => "true or false",
            Kind::Addresses => "a list of addresses",
            Kind::List(Items::Paths) => "a list of files",
            Kind::List(Items::Networks) => "a list of networks",
            Kind::List(Items::Origins) => "a list of origins",
            Kind::List(Items::Keys) => "a list of keys",
            Kind::List(Items::Texts) => "a list of texts",
            Kind::List(Items::Urls) => "a list of URLs",
            Kind::Cores => "a list of cores",
            Kind::Choice(_) => "a word",
            Kind::LogFilter => "a log filter",
            Kind::Text => "text",
            Kind::Directory => "a directory",
        }
    }

    /// What may be written, for the end of "write ...".
    pub fn hint(self) -> String {
        match self {
            Kind::Count(_) => format!("a number from {}", self.range_text()),
            Kind::PowerOfTwo(_) => format!("a power of two from {}", self.range_text()),
            Kind::Size(_) => format!(
                "a number of bytes or a size such as \"64KiB\", from {}",
                self.range_text()
            ),
            Kind::Seconds(_) | Kind::Millis(_) => format!(
                "a number of seconds or a time such as \"10s\" or \"7d\", from {}",
                self.range_text()
            ),
            Kind::Switch => "true or false".to_owned(),
            Kind::Addresses => "a list such as [\"127.0.0.1:1883\"]".to_owned(),
            Kind::List(Items::Paths) => "a list such as [\"/etc/ringmq/a.pem\"]".to_owned(),
            Kind::List(Items::Networks) => "a list such as [\"10.0.0.0/8\"]".to_owned(),
            Kind::List(Items::Origins) => "a list such as [\"https://example.com\"]".to_owned(),
            Kind::List(Items::Keys) => {
                "a list such as [\"RS256:/etc/ringmq/issuer.pem\"]".to_owned()
            }
            Kind::List(Items::Texts) => "a list such as [\"one\", \"two\"]".to_owned(),
            Kind::List(Items::Urls) => "a list such as [\"https://login.example/keys\"]".to_owned(),
            Kind::Cores => "a list such as \"0-3,6\", or none".to_owned(),
            Kind::Choice(words) => {
                let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
                quoted.join(" or ")
            }
            Kind::LogFilter => {
                "a level such as \"info\", or \"info,ringmq::probe=debug\"".to_owned()
            }
            Kind::Text => "text in quotes".to_owned(),
            Kind::Directory => "a path such as \"/var/lib/ringmq\"".to_owned(),
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

    fn parse_units(self, text: &str, units: &[Unit]) -> Result<Value, Complaint> {
        let digits_end = text
            .find(|c: char| !c.is_ascii_digit() && c != '_')
            .unwrap_or(text.len());
        let (digits, suffix) = text.split_at(digits_end);
        let suffix = suffix.trim_start();
        let number = match parse_digits(digits) {
            Some(Ok(number)) => number,
            Some(Err(TooBig)) => return Err(self.out_of_range(text)),
            None => return Err(self.not_readable(text)),
        };
        if suffix.is_empty() {
            return self.take_number(number);
        }
        let Some(unit) = units
            .iter()
            .find(|unit| unit.name.eq_ignore_ascii_case(suffix))
        else {
            return Err(self.unknown_unit(text, digits, suffix, units));
        };
        let Some(smallest) = number.checked_mul(unit.factor) else {
            return Err(self.out_of_range(text));
        };
        match self {
            Kind::Seconds(_) if !smallest.is_multiple_of(1000) => Err(Complaint::new(
                format!("is `{text}`, which is not a whole number of seconds"),
                format!("write {}", self.hint()),
            )),
            Kind::Seconds(_) => self.check_range(smallest / 1000),
            Kind::Count(_)
            | Kind::PowerOfTwo(_)
            | Kind::Size(_)
            | Kind::Millis(_)
            | Kind::Switch
            | Kind::Addresses
            | Kind::List(_)
            | Kind::Cores
            | Kind::Choice(_)
            | Kind::LogFilter
            | Kind::Text
            | Kind::Directory => self.check_range(smallest),
        }
    }

    fn check_range(self, number: u64) -> Result<Value, Complaint> {
        let range = match self {
            Kind::Count(range)
            | Kind::PowerOfTwo(range)
            | Kind::Size(range)
            | Kind::Seconds(range)
            | Kind::Millis(range) => range,
            Kind::Switch
            | Kind::Addresses
            | Kind::List(_)
            | Kind::Cores
            | Kind::Choice(_)
            | Kind::LogFilter
            | Kind::Text
            | Kind::Directory => {
                unreachable!("only numbers have a range, not {self:?}")
            }
        };
        if number < range.min || number > range.max {
            return Err(self.out_of_range(&self.show_number(number)));
        }
        if matches!(self, Kind::PowerOfTwo(_)) && !number.is_power_of_two() {
            return Err(Complaint::new(
                format!("is {number}, which is not a power of two"),
                format!("did you mean {}?", number.next_power_of_two()),
            ));
        }
        Ok(Value::Number(number))
    }

    fn out_of_range(self, shown: &str) -> Complaint {
        Complaint::new(
            format!("is {shown}, which is out of range"),
            format!("write a value from {}", self.range_text()),
        )
    }

    fn not_readable(self, text: &str) -> Complaint {
        Complaint::new(
            format!("is `{text}`, which is not {}", self.noun()),
            format!("write {}", self.hint()),
        )
    }

    fn unknown_unit(self, text: &str, digits: &str, suffix: &str, units: &[Unit]) -> Complaint {
        let names: Vec<&str> = units.iter().map(|unit| unit.name).collect();
        let what = format!("is `{text}`, whose unit `{suffix}` is not known");
        let likely = units.iter().find(|unit| {
            unit.lookalikes
                .contains(&suffix.to_ascii_lowercase().as_str())
        });
        match likely {
            Some(unit) => Complaint::new(what, format!("did you mean {digits}{}?", unit.name)),
            None => Complaint::new(what, format!("use one of {}", names.join(", "))),
        }
    }
}

impl Value {
    /// The number of a numeric kind.
    pub fn number(&self) -> u64 {
        match self {
            Value::Number(number) => *number,
            Value::Auto
            | Value::Switch(_)
            | Value::Addresses(_)
            | Value::List(_)
            | Value::Cores(_)
            | Value::Text(_) => unreachable!("a numeric kind holds a number, not {self:?}"),
        }
    }

    /// The number of a numeric kind that may be left to the broker.
    pub fn number_or_auto(&self) -> Option<u64> {
        match self {
            Value::Auto => None,
            Value::Number(_)
            | Value::Switch(_)
            | Value::Addresses(_)
            | Value::List(_)
            | Value::Cores(_)
            | Value::Text(_) => Some(self.number()),
        }
    }
}

impl Value {
    /// What a switch holds.
    pub fn switch(&self) -> bool {
        match self {
            Value::Switch(on) => *on,
            Value::Auto
            | Value::Number(_)
            | Value::Addresses(_)
            | Value::List(_)
            | Value::Cores(_)
            | Value::Text(_) => unreachable!("a switch holds true or false, not {self:?}"),
        }
    }

    /// What a list of addresses holds.
    pub fn addresses(self) -> Vec<Listen> {
        match self {
            Value::Addresses(addresses) => addresses,
            Value::Auto
            | Value::List(_)
            | Value::Number(_)
            | Value::Switch(_)
            | Value::Cores(_)
            | Value::Text(_) => unreachable!("a list of addresses holds them, not {self:?}"),
        }
    }

    /// What a list holds.
    pub fn list(self) -> Vec<String> {
        match self {
            Value::List(items) => items,
            Value::Auto
            | Value::Number(_)
            | Value::Switch(_)
            | Value::Addresses(_)
            | Value::Cores(_)
            | Value::Text(_) => unreachable!("a list holds its items, not {self:?}"),
        }
    }

    /// What a list of cores holds.
    pub fn cores_or_auto(self) -> Option<Vec<usize>> {
        match self {
            Value::Auto => None,
            Value::Cores(cores) => Some(cores),
            Value::Number(_)
            | Value::Switch(_)
            | Value::Addresses(_)
            | Value::List(_)
            | Value::Text(_) => {
                unreachable!("a list of cores holds them, not {self:?}")
            }
        }
    }

    /// What a word or a log filter holds.
    pub fn text(self) -> String {
        match self {
            Value::Text(text) => text,
            Value::Auto
            | Value::Number(_)
            | Value::Switch(_)
            | Value::Addresses(_)
            | Value::List(_)
            | Value::Cores(_) => unreachable!("a word holds text, not {self:?}"),
        }
    }
}

struct TooBig;

/// `None`: not a number at all. Underscores may group the digits.
fn parse_digits(text: &str) -> Option<Result<u64, TooBig>> {
    let digits: String = text.chars().filter(|&c| c != '_').collect();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().map_err(|_| TooBig))
}

fn parse_item(items: Items, text: &str) -> Result<(), Complaint> {
    match items {
        Items::Paths => Ok(()),
        Items::Texts => parse_text(text).map(|_| ()),
        Items::Urls => HttpUrl::parse(text).map(|_| ()).map_err(|what| {
            let what = format!("holds `{text}`, which {what}");
            Complaint::new(what, "write http://HOST:PORT/PATH or https://HOST/PATH")
        }),
        Items::Keys => text.parse::<KeyFile>().map(|_| ()).map_err(|what| {
            Complaint::new(
                format!("holds `{text}`, {what}"),
                "write ALGORITHM:FILE, or ALGORITHM@KID:FILE, such as \"RS256:/etc/ringmq/issuer.pem\"",
            )
        }),
        Items::Networks => text.parse::<Network>().map(|_| ()).map_err(|()| {
            let what = format!("holds `{text}`, which is neither an address nor a network");
            Complaint::new(what, "write a list such as [\"10.0.0.0/8\", \"::1\"]")
        }),
        Items::Origins if matches!(text, "*" | "null") => Ok(()),
        Items::Origins => Origin::parse(text).map(|_| ()).map_err(|fault| {
            Complaint::new(format!("holds `{text}`, which {fault}"), fault.fix())
        }),
    }
}

/// A list of cores without any.
const NO_CORES: &str = "none";

/// `0-3,6`, as the kernel writes it too.
pub fn parse_cores(text: &str) -> Result<Vec<usize>, Complaint> {
    let fix = || "write a list such as \"0-3,6\", or none".to_owned();
    let mut cores = Vec::new();
    if text.trim() == NO_CORES {
        return Ok(cores);
    }
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.trim().parse(), last.trim().parse::<usize>()) else {
            let what = format!("holds `{part}`, which is neither a core nor a range of cores");
            return Err(Complaint::new(what, fix()));
        };
        if first > last || last >= CORES_MAX {
            let what = format!(
                "holds `{part}`, which is not a range within 0-{}",
                CORES_MAX - 1
            );
            return Err(Complaint::new(what, fix()));
        }
        for core in first..=last {
            if cores.contains(&core) {
                let what = format!("names core {core} twice");
                return Err(Complaint::new(what, "name each core once"));
            }
            cores.push(core);
        }
    }
    Ok(cores)
}

fn parse_text(text: &str) -> Result<String, Complaint> {
    let is_odd = |c: char| c.is_control() || matches!(c, '"' | '\\');
    if text.len() > TEXT_SIZE_MAX || text.contains(is_odd) {
        return Err(Complaint::new(
            format!("has more than {TEXT_SIZE_MAX} bytes, or quotes or control characters in it"),
            "write plain text",
        ));
    }
    Ok(text.to_owned())
}

/// Fits a property of MQTT 5.0 with room to spare.
const TEXT_SIZE_MAX: usize = 1024;

/// A bare word has to be a level: a misspelt one would otherwise silently name a module.
fn parse_log_filter(text: &str) -> Result<(), Complaint> {
    for part in text.split(',').map(str::trim) {
        let (module, level) = match part.split_once('=') {
            Some((module, level)) => (Some(module), level),
            None => (None, part),
        };
        if !LOG_LEVELS.contains(&level) || module.is_some_and(str::is_empty) {
            let fix = match nearest(level, LOG_LEVELS.iter().copied()) {
                Some(word) => format!("did you mean `{word}`?"),
                None => format!("use {}, or MODULE=LEVEL", LOG_LEVELS.join(", ")),
            };
            let what = format!("holds `{part}`, which is not a log level");
            return Err(Complaint::new(what, fix));
        }
        let is_ours = |module: &str| module == "ringmq" || module.starts_with("ringmq::");
        if module.is_some_and(|module| !is_ours(module)) {
            let what = format!("holds `{part}`, whose module logs nothing");
            let fix = "name a module of ringmq, such as ringmq::probe=debug";
            return Err(Complaint::new(what, fix));
        }
    }
    Ok(())
}

/// A number in the largest unit that divides it.
fn show_units(number: u64, units: &[Unit]) -> String {
    let fits = |unit: &&Unit| number.is_multiple_of(unit.factor);
    match units.iter().rev().find(fits) {
        Some(unit) if number > 0 && unit.factor > 1 => {
            format!("{}{}", number / unit.factor, unit.name)
        }
        Some(unit) if number > 0 && unit.name == "ms" => format!("{number}ms"),
        Some(_) | None => number.to_string(),
    }
}

/// As a string of TOML.
fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn join<T: ToString>(items: &[T], separator: &str) -> String {
    let shown: Vec<String> = items.iter().map(ToString::to_string).collect();
    shown.join(separator)
}

#[derive(Debug)]
struct Unit {
    name: &'static str,
    factor: u64,
    /// What people write who mean this unit, in lower case.
    lookalikes: &'static [&'static str],
}

const fn unit(name: &'static str, factor: u64, lookalikes: &'static [&'static str]) -> Unit {
    Unit {
        name,
        factor,
        lookalikes,
    }
}

/// Powers of 1024 only: `KB` means 1000 to some and 1024 to others.
const SIZE_UNITS: &[Unit] = &[
    unit("B", 1, &["byte", "bytes"]),
    unit("KiB", 1 << 10, &["k", "kb", "ki"]),
    unit("MiB", 1 << 20, &["m", "mb", "mi"]),
    unit("GiB", 1 << 30, &["g", "gb", "gi"]),
    unit("TiB", 1 << 40, &["t", "tb", "ti"]),
];

/// In milliseconds.
const TIME_UNITS: &[Unit] = &[
    unit("ms", 1, &["msec", "millis", "milliseconds"]),
    unit("s", 1000, &["sec", "secs", "second", "seconds"]),
    unit("m", 60 * 1000, &["min", "mins", "minute", "minutes"]),
    unit("h", 3600 * 1000, &["hour", "hours", "hr"]),
    unit("d", 24 * 3600 * 1000, &["day", "days"]),
];

const LOG_LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

/// As many as the kernel's CPU sets name by default.
const CORES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Kind = Kind::Size(Range {
        min: 1,
        max: 1 << 40,
    });
    const COUNT: Kind = Kind::Count(Range { min: 1, max: 100 });
    const POWER: Kind = Kind::PowerOfTwo(Range { min: 16, max: 256 });
    const SECONDS: Kind = Kind::Seconds(Range {
        min: 0,
        max: 30 * 86_400,
    });
    const MILLIS: Kind = Kind::Millis(Range {
        min: 100,
        max: 60_000,
    });

    #[test]
    fn numbers_with_units_are_read() {
        for (kind, text, expected) in [
            (SIZE, "512", 512),
            (SIZE, "1_000", 1000),
            (SIZE, "64KiB", 65_536),
            (SIZE, "64 kib", 65_536),
            (SIZE, "1TiB", 1 << 40),
            (COUNT, "100", 100),
            (SECONDS, "90", 90),
            (SECONDS, "7d", 7 * 86_400),
            (SECONDS, "2000ms", 2),
            (MILLIS, "250ms", 250),
            (MILLIS, "1m", 60_000),
            (MILLIS, "10", 10_000),
        ] {
            assert_eq!(kind.parse(text), Ok(Value::Number(expected)), "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for (kind, number, shown) in [
            (SIZE, 65_536, "64KiB"),
            (SIZE, 1000, "1000"),
            (SIZE, 1 << 30, "1GiB"),
            (SECONDS, 7 * 86_400, "7d"),
            (SECONDS, 90, "90s"),
            (SECONDS, 0, "0"),
            (MILLIS, 1500, "1500ms"),
            (MILLIS, 10_000, "10s"),
            (COUNT, 7, "7"),
        ] {
            let value = Value::Number(number);
            assert_eq!(kind.show(&value), shown);
            assert_eq!(kind.parse(shown), Ok(value));
        }
    }

    #[test]
    fn a_wrong_value_is_named_with_its_fix() {
        for (kind, text, what, fix) in [
            (
                SIZE,
                "64KB",
                "is `64KB`, whose unit `KB` is not known",
                "did you mean 64KiB?",
            ),
            (
                SIZE,
                "64parsec",
                "is `64parsec`, whose unit `parsec` is not known",
                "use one of B, KiB, MiB, GiB, TiB",
            ),
            (
                SIZE,
                "0",
                "is 0, which is out of range",
                "write a value from 1 to 1TiB",
            ),
            (
                SIZE,
                "99999999TiB",
                "is 99999999TiB, which is out of range",
                "write a value from 1 to 1TiB",
            ),
            (
                SIZE,
                "99999999999999999999999",
                "is 99999999999999999999999, which is out of range",
                "write a value from 1 to 1TiB",
            ),
            (
                SIZE,
                "big",
                "is `big`, which is not a size",
                "write a number of bytes or a size such as \"64KiB\", from 1 to 1TiB",
            ),
            (
                SIZE,
                "-1",
                "is `-1`, which is not a size",
                "write a number of bytes or a size such as \"64KiB\", from 1 to 1TiB",
            ),
            (
                COUNT,
                "1.5",
                "is `1.5`, which is not a whole number",
                "write a number from 1 to 100",
            ),
            (
                COUNT,
                "",
                "is ``, which is not a whole number",
                "write a number from 1 to 100",
            ),
            (
                SECONDS,
                "1500ms",
                "is `1500ms`, which is not a whole number of seconds",
                "write a number of seconds or a time such as \"10s\" or \"7d\", from 0 to 30d",
            ),
            (
                SECONDS,
                "5min",
                "is `5min`, whose unit `min` is not known",
                "did you mean 5m?",
            ),
            (
                MILLIS,
                "2m",
                "is 2m, which is out of range",
                "write a value from 100ms to 1m",
            ),
            (
                POWER,
                "100",
                "is 100, which is not a power of two",
                "did you mean 128?",
            ),
            (
                POWER,
                "512",
                "is 512, which is out of range",
                "write a value from 16 to 256",
            ),
            (
                POWER,
                "x",
                "is `x`, which is not a whole number",
                "write a power of two from 16 to 256",
            ),
            (
                Kind::Switch,
                "yes",
                "is `yes`, which is neither true nor false",
                "write true or false",
            ),
            (
                Kind::Choice(&["text", "json"]),
                "xml",
                "is `xml`, which is not an allowed value",
                "write text or json",
            ),
            (
                Kind::Cores,
                "0-",
                "holds `0-`, which is neither a core nor a range of cores",
                "write a list such as \"0-3,6\", or none",
            ),
            (
                Kind::Cores,
                "3-1",
                "holds `3-1`, which is not a range within 0-1023",
                "write a list such as \"0-3,6\", or none",
            ),
            (
                Kind::Cores,
                "0-2,1",
                "names core 1 twice",
                "name each core once",
            ),
            (
                Kind::LogFilter,
                "inof",
                "holds `inof`, which is not a log level",
                "did you mean `info`?",
            ),
            (
                Kind::LogFilter,
                "ringmq=loud",
                "holds `ringmq=loud`, which is not a log level",
                "use off, error, warn, info, debug, trace, or MODULE=LEVEL",
            ),
            (
                Kind::LogFilter,
                "info,rinqmq::probe=debug",
                "holds `rinqmq::probe=debug`, whose module logs nothing",
                "name a module of ringmq, such as ringmq::probe=debug",
            ),
        ] {
            assert_eq!(kind.parse(text), Err(Complaint::new(what, fix)), "{text}");
        }
    }

    #[test]
    fn an_address_that_is_almost_right_is_put_right() {
        for (text, fix) in [
            ("127.0.0.1", "did you mean 127.0.0.1:1883?"),
            ("::1", "did you mean [::1]:1883?"),
            (
                "1883",
                "did you mean 127.0.0.1:1883 (this machine only) or 0.0.0.0:1883 (every interface)?",
            ),
            (
                ":1884",
                "did you mean 127.0.0.1:1884 (this machine only) or 0.0.0.0:1884 (every interface)?",
            ),
            (
                "localhost:1883",
                "did you mean 127.0.0.1:1883? Host names are not resolved",
            ),
            (
                "broker.example:1883",
                "write an address such as \"127.0.0.1:1883\"; host names are not resolved",
            ),
            (
                "127.0.0.1:70000",
                "write an address such as \"127.0.0.1:1883\"",
            ),
        ] {
            let complaint = Kind::Addresses.parse(text).unwrap_err();
            assert_eq!(complaint.fix, fix, "{text}");
        }
    }

    #[test]
    fn cores_are_numbers_and_ranges() {
        for (text, expected) in [
            ("0", vec![0]),
            ("0-3,6", vec![0, 1, 2, 3, 6]),
            (" 4 , 2-3 ", vec![4, 2, 3]),
            ("none", vec![]),
        ] {
            assert_eq!(Kind::Cores.parse(text), Ok(Value::Cores(expected)));
        }
    }
}
