//! From what a user wrote to a [`Value`], or to what is wrong with it and how to put it right.

use ringmq::admin::AdminAddress;
use ringmq::auth::http::HttpUrl;
use ringmq::transport::{Network, Origin};
use ringmq_problem::secret::hide_in_url;

use super::super::jwt::KeyFile;
use super::super::listen::Listen;
use super::units::{SIZE_UNITS, TIME_UNITS, Unit};
use super::{Complaint, Items, Kind, NO_CORES, Value, nearest};

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
            let what = format!("holds `{}`, which {what}", hide_in_url(text));
            Complaint::new(what, "write http://HOST:PORT/PATH or https://HOST/PATH")
        }),
        Items::Keys => text.parse::<KeyFile>().map(|_| ()).map_err(|what| {
            Complaint::new(
                format!("holds `{text}`, {what}"),
                "write ALGORITHM:FILE, or ALGORITHM@KID:FILE, such as \
                 \"RS256:/etc/ringmq/issuer.pem\"",
            )
        }),
        Items::Networks => text.parse::<Network>().map(|_| ()).map_err(|()| {
            let what = format!("holds `{text}`, which is neither an address nor a network");
            Complaint::new(what, "write a list such as [\"10.0.0.0/8\", \"::1\"]")
        }),
        Items::AdminAddresses => text.parse::<AdminAddress>().map(|_| ()).map_err(|what| {
            let what = format!("holds `{text}`, which {what}");
            Complaint::new(
                what,
                "write unix:auto, unix:/run/ringmq/admin.sock or 127.0.0.1:18830",
            )
        }),
        Items::Origins if matches!(text, "*" | "null") => Ok(()),
        Items::Origins => Origin::parse(text)
            .map(|_| ())
            .map_err(|fault| Complaint::new(format!("holds `{text}`, which {fault}"), fault.fix())),
    }
}

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

const LOG_LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

/// As many as the kernel's CPU sets name by default.
const CORES_MAX: usize = 1024;
