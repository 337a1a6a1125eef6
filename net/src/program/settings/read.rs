//! From a value of TOML to a [`Value`] of its setting.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeValue};

use super::Setting;
use super::value::{Complaint, Kind, Value};

/// Reads a value of the file; a complaint comes with the place of what it is about.
pub(super) fn read_toml(row: &Setting, value: &Spanned<DeValue<'_>>) -> Result<Value, Misplaced> {
    let wrong_type = |what: &str| {
        Complaint::new(
            format!("is {what}, but has to be {}", row.kind.noun()),
            format!("write {}", row.kind.hint()),
        )
    };
    let read = match value.get_ref() {
        DeValue::String(text) => match row.kind {
            Kind::Count(_) if row.auto.is_none() || text.as_ref() != "auto" => {
                Err(wrong_type("text in quotes"))
            }
            Kind::PowerOfTwo(_) | Kind::Switch => Err(wrong_type("text in quotes")),
            Kind::Count(_)
            | Kind::Size(_)
            | Kind::Seconds(_)
            | Kind::Millis(_)
            | Kind::Addresses
            | Kind::List(_)
            | Kind::Cores
            | Kind::Choice(_)
            | Kind::LogFilter
            | Kind::Text
            | Kind::Directory => row.parse(text),
        },
        DeValue::Integer(integer) => {
            let digits = integer.as_str();
            match u64::from_str_radix(digits, integer.radix()) {
                Ok(number) => row.kind.take_number(number),
                Err(_) => Err(Complaint::new(
                    format!("is {digits}, which is out of range"),
                    format!("write {}", row.kind.hint()),
                )),
            }
        }
        DeValue::Boolean(on) if row.kind == Kind::Switch => Ok(Value::Switch(*on)),
        DeValue::Boolean(_) => Err(wrong_type("true or false")),
        DeValue::Array(items)
            if matches!(row.kind, Kind::Addresses | Kind::List(_) | Kind::Cores) =>
        {
            return read_list(row, items, value.span());
        }
        DeValue::Array(_) => Err(wrong_type("a list")),
        DeValue::Float(_) => Err(wrong_type("a number with a point")),
        DeValue::Datetime(_) => Err(wrong_type("a date or time")),
        DeValue::Table(_) => Err(wrong_type("a table")),
    };
    read.map_err(|complaint| (value.span(), complaint))
}

/// Each item is read as if it stood alone; the lists are then joined.
fn read_list(row: &Setting, items: &DeArray<'_>, span: Range<usize>) -> Result<Value, Misplaced> {
    let write = || format!("write {}", row.kind.hint());
    let mut list: Option<Value> = None;
    for item in items {
        if item.get_ref().is_array() {
            return Err((
                item.span(),
                Complaint::new("holds a list in a list", write()),
            ));
        }
        let read = read_toml(row, item)?;
        match (&mut list, read) {
            (Some(Value::Addresses(all)), Value::Addresses(more)) => all.extend(more),
            (Some(Value::List(all)), Value::List(more)) => all.extend(more),
            (Some(Value::Cores(all)), Value::Cores(more)) => {
                if let Some(core) = more.iter().find(|core| all.contains(core)) {
                    let what = format!("names core {core} twice");
                    return Err((item.span(), Complaint::new(what, "name each core once")));
                }
                all.extend(more);
            }
            (None, Value::Auto) | (Some(_), _) => {
                return Err((item.span(), Complaint::new("holds auto in a list", write())));
            }
            (None, first) => list = Some(first),
        }
    }
    match row.kind {
        Kind::Addresses => Ok(list.unwrap_or(Value::Addresses(Vec::new()))),
        Kind::List(_) => Ok(list.unwrap_or(Value::List(Vec::new()))),
        _ => list.ok_or_else(|| (span, Complaint::new("is an empty list", write()))),
    }
}

/// A complaint, and the bytes of the file that it is about.
pub(super) type Misplaced = (Range<usize>, Complaint);
