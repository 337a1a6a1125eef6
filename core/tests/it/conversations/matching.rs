//! What a script expects of a packet, against the packet.

use std::collections::BTreeMap;

use super::lexer::{self, Word};
use super::properties::{Property, Value};
use super::wire::{KINDS, Packet};

/// Names that a script gave to values it met.
pub type Variables = BTreeMap<String, Value>;

/// Reads an expectation.
pub fn parse(words: &[Word]) -> Result<Packet, String> {
    let (kind, words) = words.split_first().ok_or("no packet")?;
    let kind = *KINDS
        .iter()
        .find(|k| *k == kind)
        .ok_or(format!("no packet {kind}"))?;
    let mut positions = match kind {
        "CONNACK" | "DISCONNECT" | "AUTH" => &["code"][..],
        "PUBLISH" => &["topic"],
        "PUBACK" | "PUBREC" | "PUBREL" | "PUBCOMP" => &["id", "code"],
        "SUBACK" | "UNSUBACK" => &["id"],
        _ => &[],
    }
    .iter();
    let mut fields = Vec::new();
    for word in words {
        let (name, value) = match lexer::key_value(word) {
            Some(("granted", value)) => ("codes", value),
            Some((name, value)) => (name, value),
            None => (
                *positions.next().ok_or(format!("{word} has no place"))?,
                word.as_str(),
            ),
        };
        fields.push(field(name, value)?);
    }
    if let Some(missing) = positions.find(|name| matches!(**name, "topic" | "id")) {
        return Err(format!("{kind} is expected without {missing}"));
    }
    Ok(Packet { kind, fields })
}

fn field(name: &str, value: &str) -> Result<(&'static str, Value), String> {
    if let Some(property) = Property::named(name) {
        return Ok((property.name, property.parse(value)?));
    }
    let names = [
        "sp", "code", "qos", "retain", "dup", "id", "topic", "payload", "codes",
    ];
    let name = *names
        .iter()
        .find(|n| **n == name)
        .ok_or(format!("no field {name}"))?;
    if let Some(variable) = value.strip_prefix('@') {
        return Ok((name, Value::Variable(variable.into())));
    }
    let value = match name {
        "topic" | "payload" => Value::Text(lexer::text(value)?),
        "codes" => Value::Numbers(
            value
                .split(',')
                .map(lexer::number)
                .collect::<Result<_, _>>()?,
        ),
        "code" if value == "ok" => Value::Number(0),
        _ => Value::Number(lexer::number(value)?),
    };
    Ok((name, value))
}

/// Whether the packet is the expected one. A field that the script does not name has to have its
/// default; `announced` are the defaults of an accepting CONNACK.
pub fn check(
    expected: &Packet,
    got: &Packet,
    announced: &[(&'static str, Value)],
    variables: &mut Variables,
) -> Result<(), String> {
    if expected.kind != got.kind {
        return Err(format!("it is a {}", got.kind));
    }
    let accepts = got.kind == "CONNACK" && got.number("code") == Some(0);
    let announced = if accepts { announced } else { &[] };
    let mut bound = variables.clone();
    let names = expected
        .fields
        .iter()
        .chain(&got.fields)
        .map(|(name, _)| *name);
    let announced_names = announced.iter().map(|(name, _)| *name);
    for name in names.chain(announced_names) {
        let wanted = values(&expected.fields, name);
        if name == "reason" && wanted.is_empty() {
            continue; // `stage.rs` checks who gets one; its text is for people.
        }
        let found = values(&got.fields, name);
        let wanted = match wanted.is_empty() {
            true => match values(announced, name) {
                values if values.is_empty() => default(got.kind, name).into_iter().collect(),
                values => values,
            },
            false => wanted
                .into_iter()
                .filter(|value| *value != Value::Absent)
                .collect(),
        };
        let fits = wanted.len() == found.len()
            && wanted
                .iter()
                .zip(&found)
                .all(|(wanted, found)| fits(wanted, found, &mut bound));
        if !fits {
            return Err(format!(
                "its {name} is {}, not {}",
                show_all(&found),
                show_all(&wanted)
            ));
        }
    }
    *variables = bound;
    Ok(())
}

fn values(fields: &[(&'static str, Value)], name: &str) -> Vec<Value> {
    fields
        .iter()
        .filter(|(field, _)| *field == name)
        .map(|(_, value)| value.clone())
        .collect()
}

fn default(kind: &str, name: &str) -> Option<Value> {
    match (kind, name) {
        (_, "sp" | "qos" | "retain" | "dup") => Some(Value::Number(0)),
        ("PUBLISH", "id") => Some(Value::NonZero),
        ("PUBLISH", "payload") => Some(Value::Text(Vec::new())),
        // A broker may say that nobody was subscribed.
        ("PUBACK" | "PUBREC", "code") => Some(Value::OneOf(&[0, 0x10])),
        (_, "code") => Some(Value::Number(0)),
        ("UNSUBACK", "codes") => Some(Value::OneOf(&[0])),
        _ => None,
    }
}

fn fits(wanted: &Value, found: &Value, variables: &mut Variables) -> bool {
    match (wanted, found) {
        (Value::Variable(name), found) => match variables.get(name) {
            Some(value) => value == found,
            None => variables.insert(name.clone(), found.clone()).is_none(),
        },
        (Value::NonZero, Value::Number(number)) => *number > 0,
        (Value::OneOf(allowed), Value::Number(number)) => allowed.contains(number),
        (Value::OneOf(allowed), Value::Numbers(numbers)) => {
            numbers.iter().all(|number| allowed.contains(number))
        }
        (wanted, found) => wanted == found,
    }
}

/// A packet as a script would say it.
pub fn show(packet: &Packet) -> String {
    let mut line = packet.kind.to_string();
    for (name, value) in &packet.fields {
        let is_default = match default(packet.kind, name) {
            Some(Value::OneOf(allowed)) => *value == Value::Number(allowed[0]),
            Some(default) => *value == default,
            None => false,
        };
        if !is_default {
            line.push_str(&format!(" {name}={}", show_value(value)));
        }
    }
    line
}

fn show_all(values: &[Value]) -> String {
    match values {
        [] => "absent".into(),
        values => values
            .iter()
            .map(show_value)
            .collect::<Vec<_>>()
            .join(" and "),
    }
}

fn show_value(value: &Value) -> String {
    match value {
        Value::Number(number) if *number >= 0x80 => format!("{number}(0x{number:02X})"),
        Value::Number(number) => number.to_string(),
        Value::Text(text) => show_text(text),
        Value::Pair(key, value) => format!("{}:{}", show_text(key), show_text(value)),
        Value::Numbers(numbers) => numbers
            .iter()
            .map(|n| format!("{n:#04x}"))
            .collect::<Vec<_>>()
            .join(","),
        Value::Variable(name) => format!("@{name}"),
        Value::NonZero => "not zero".into(),
        Value::OneOf(allowed) => format!("one of {allowed:?}"),
        Value::Absent => "none".into(),
    }
}

fn show_text(text: &[u8]) -> String {
    const SHOWN: usize = 80;
    let shown = String::from_utf8_lossy(&text[..text.len().min(SHOWN)]).into_owned();
    match text.len() > SHOWN {
        true => format!("{shown:?}… ({} bytes)", text.len()),
        false => format!("{shown:?}"),
    }
}
