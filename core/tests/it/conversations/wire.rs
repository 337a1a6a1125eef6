//! MQTT packets as bytes: what clients say, and what the broker says back.
//!
//! Written from the standard and apart from the broker's codec, so that one is tested by the other.

use super::lexer::{self, Word, put_varint};
use super::properties::{Encoding, Property, Value, fit, put_text};

/// A version of the protocol, by its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    V31 = 3,
    V311 = 4,
    V5 = 5,
}

impl Version {
    pub fn named(name: &str) -> Option<Version> {
        match name {
            "v31" => Some(Version::V31),
            "v311" => Some(Version::V311),
            "v5" => Some(Version::V5),
            _ => None,
        }
    }
}

/// A packet of the broker, or what a script expects of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub kind: &'static str,
    pub fields: Vec<(&'static str, Value)>,
}

impl Packet {
    /// The number in a field.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.fields.iter().find_map(|(field, value)| match value {
            Value::Number(number) if *field == name => Some(*number),
            _ => None,
        })
    }
}

/// Type numbers 1 to 15.
pub const KINDS: [&str; 15] = [
    "CONNECT",
    "CONNACK",
    "PUBLISH",
    "PUBACK",
    "PUBREC",
    "PUBREL",
    "PUBCOMP",
    "SUBSCRIBE",
    "SUBACK",
    "UNSUBSCRIBE",
    "UNSUBACK",
    "PINGREQ",
    "PINGRESP",
    "DISCONNECT",
    "AUTH",
];

/// The fields of a client's packet as the script gives them.
struct Spoken<'a> {
    version: Version,
    /// Words without key.
    plain: Vec<&'a str>,
    /// Words with key that are not properties.
    fields: Vec<(&'a str, &'a str)>,
    properties: Vec<u8>,
    will_properties: Vec<u8>,
}

impl<'a> Spoken<'a> {
    /// `names` are the fields that are not properties.
    fn of(words: &'a [Word], version: Version, names: &[&str]) -> Result<Spoken<'a>, String> {
        let mut spoken = Spoken {
            version,
            plain: Vec::new(),
            fields: Vec::new(),
            properties: Vec::new(),
            will_properties: Vec::new(),
        };
        for word in words {
            match lexer::key_value(word) {
                Some((key, value)) if names.contains(&key) => spoken.fields.push((key, value)),
                Some((key, value)) => {
                    let property = Property::named(key).ok_or(format!("no field {key}"))?;
                    // What follows the will's topic belongs to the will.
                    let section = match spoken.field("will") {
                        Some(_) => &mut spoken.will_properties,
                        None => &mut spoken.properties,
                    };
                    property.encode(&property.parse(value)?, section)?;
                }
                None => spoken.plain.push(word),
            }
        }
        Ok(spoken)
    }

    fn field(&self, name: &str) -> Option<&'a str> {
        self.fields
            .iter()
            .find(|(field, _)| *field == name)
            .map(|(_, value)| *value)
    }

    fn text(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        self.field(name).map(lexer::text).transpose()
    }

    fn number<T: TryFrom<u64>>(&self, name: &str, default: u64) -> Result<T, String> {
        fit(self.field(name).map_or(Ok(default), lexer::number)?)
    }

    fn plain_number<T: TryFrom<u64>>(&self, index: usize) -> Result<T, String> {
        let word = self.plain.get(index).ok_or("a number is missing")?;
        fit(lexer::number(word)?)
    }

    fn put_properties(&self, out: &mut Vec<u8>) -> Result<(), String> {
        put_section(self.version, &self.properties, out)
    }
}

fn put_section(version: Version, section: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    if version == Version::V5 {
        put_varint(out, section.len());
        out.extend_from_slice(section);
    } else if !section.is_empty() {
        return Err("only 5.0 has properties".into());
    }
    Ok(())
}

/// The bytes of a client's packet. `name` is the client, whose identifier it is unless it says
/// otherwise.
pub fn encode(words: &[Word], version: Version, name: &str) -> Result<Vec<u8>, String> {
    let (kind, words) = words.split_first().ok_or("no packet")?;
    if kind == "raw" {
        return lexer::raw(words);
    }
    let kinds = 1..=KINDS.len() as u8;
    let number = kinds
        .zip(KINDS)
        .find(|(_, k)| k == kind)
        .ok_or(format!("no packet {kind}"))?
        .0;
    let mut body = Vec::new();
    let flags = match kind.as_str() {
        "CONNECT" => encode_connect(words, version, name, &mut body)?,
        "PUBLISH" => encode_publish(words, version, &mut body)?,
        "SUBSCRIBE" => encode_subscribe(words, version, &mut body)?,
        "UNSUBSCRIBE" => {
            let spoken = Spoken::of(words, version, &[])?;
            body.extend(spoken.plain_number::<u16>(0)?.to_be_bytes());
            spoken.put_properties(&mut body)?;
            for filter in &spoken.plain[1..] {
                put_text(&mut body, &lexer::text(filter)?)?;
            }
            2
        }
        "PUBACK" | "PUBREC" | "PUBREL" | "PUBCOMP" => {
            let spoken = Spoken::of(words, version, &[])?;
            body.extend(spoken.plain_number::<u16>(0)?.to_be_bytes());
            put_reason(&spoken, 1, &mut body)?;
            if kind == "PUBREL" { 2 } else { 0 }
        }
        "DISCONNECT" | "AUTH" => {
            put_reason(&Spoken::of(words, version, &[])?, 0, &mut body)?;
            0
        }
        "PINGREQ" if words.is_empty() => 0,
        _ => return Err(format!("clients do not say {kind}; use raw")),
    };
    let mut packet = vec![number << 4 | flags];
    put_varint(&mut packet, body.len());
    packet.extend(body);
    Ok(packet)
}

/// Reason and properties, in the shortest form that holds them.
fn put_reason(spoken: &Spoken<'_>, index: usize, out: &mut Vec<u8>) -> Result<(), String> {
    let has_reason = spoken.plain.len() > index;
    if !has_reason && spoken.properties.is_empty() {
        return Ok(());
    }
    out.push(if has_reason {
        spoken.plain_number(index)?
    } else {
        0
    });
    if !spoken.properties.is_empty() {
        spoken.put_properties(out)?;
    }
    Ok(())
}

fn encode_connect(
    words: &[Word],
    version: Version,
    name: &str,
    out: &mut Vec<u8>,
) -> Result<u8, String> {
    let names = [
        "id", "clean", "keep", "will", "payload", "qos", "retain", "user", "pass", "bridge",
    ];
    let spoken = Spoken::of(words, version, &names)?;
    if let Some(unknown) = spoken
        .plain
        .iter()
        .find(|word| Version::named(word).is_none())
    {
        return Err(format!("CONNECT does not know {unknown}"));
    }
    let (protocol, level) = match version {
        Version::V31 => ("MQIsdp", 3),
        Version::V311 => ("MQTT", 4),
        Version::V5 => ("MQTT", 5),
    };
    let will = spoken.text("will")?;
    let user = spoken.text("user")?;
    let pass = spoken.text("pass")?;
    let flags = spoken.number::<u8>("clean", 1)? << 1
        | u8::from(will.is_some()) << 2
        | spoken.number::<u8>("qos", 0)? << 3
        | spoken.number::<u8>("retain", 0)? << 5
        | u8::from(pass.is_some()) << 6
        | u8::from(user.is_some()) << 7;
    put_text(out, protocol.as_bytes())?;
    let bridge_bit = spoken.number::<u8>("bridge", 0)? << 7;
    out.extend([level | bridge_bit, flags]);
    out.extend(spoken.number::<u16>("keep", 0)?.to_be_bytes());
    spoken.put_properties(out)?;
    put_text(out, &spoken.text("id")?.unwrap_or_else(|| name.into()))?;
    if let Some(topic) = will {
        put_section(version, &spoken.will_properties, out)?;
        put_text(out, &topic)?;
        put_text(out, &spoken.text("payload")?.unwrap_or_default())?;
    }
    for text in [user, pass].iter().flatten() {
        put_text(out, text)?;
    }
    Ok(0)
}

fn encode_publish(words: &[Word], version: Version, out: &mut Vec<u8>) -> Result<u8, String> {
    let spoken = Spoken::of(words, version, &["payload", "qos", "retain", "dup", "id"])?;
    let [topic] = spoken.plain[..] else {
        return Err("PUBLISH names one topic".into());
    };
    let qos = spoken.number::<u8>("qos", 0)?;
    put_text(out, &lexer::text(topic)?)?;
    if let Some(id) = spoken.field("id") {
        out.extend(fit::<u16>(lexer::number(id)?)?.to_be_bytes());
    } else if qos > 0 {
        return Err("QoS 1 and 2 take an id".into());
    }
    spoken.put_properties(out)?;
    out.extend(spoken.text("payload")?.unwrap_or_default());
    Ok(spoken.number::<u8>("dup", 0)? << 3 | qos << 1 | spoken.number::<u8>("retain", 0)?)
}

/// Options stand behind their filter.
fn encode_subscribe(words: &[Word], version: Version, out: &mut Vec<u8>) -> Result<u8, String> {
    let mut properties = Vec::new();
    let mut filters: Vec<(Vec<u8>, u8)> = Vec::new();
    let (id, words) = words.split_first().ok_or("SUBSCRIBE needs an id")?;
    for word in words {
        let Some((key, value)) = lexer::key_value(word) else {
            filters.push((lexer::text(word)?, 0));
            continue;
        };
        let shift = match key {
            "qos" | "options" => 0,
            "nl" => 2,
            "rap" => 3,
            "rh" => 4,
            _ => {
                let property = Property::named(key).ok_or(format!("no option {key}"))?;
                property.encode(&property.parse(value)?, &mut properties)?;
                continue;
            }
        };
        let (_, options) = filters.last_mut().ok_or("an option follows its filter")?;
        *options |= fit::<u8>(lexer::number(value)?)? << shift;
    }
    out.extend(fit::<u16>(lexer::number(id)?)?.to_be_bytes());
    put_section(version, &properties, out)?;
    for (filter, options) in filters {
        put_text(out, &filter)?;
        out.push(options);
    }
    Ok(2)
}

/// Size of the packet at the front of `bytes`, if it is there whole.
pub fn packet_size(bytes: &[u8]) -> Option<usize> {
    let mut size = 0;
    for (index, byte) in bytes.get(1..)?.iter().take(4).enumerate() {
        size += usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let whole = index + 2 + size;
            return (bytes.len() >= whole).then_some(whole);
        }
    }
    None
}

/// Reads one whole packet of the broker.
pub fn decode(bytes: &[u8], version: Version) -> Result<Packet, String> {
    let header_size = 1
        + bytes[1..]
            .iter()
            .position(|b| b & 0x80 == 0)
            .ok_or("no length")?
        + 1;
    let kind = *KINDS
        .get(usize::from(bytes[0] >> 4).wrapping_sub(1))
        .ok_or("packet type 0")?;
    let flags = bytes[0] & 0x0F;
    let mut reader = Reader {
        rest: &bytes[header_size..],
    };
    let mut packet = Packet {
        kind,
        fields: Vec::new(),
    };
    let fields = &mut packet.fields;
    let expected_flags = match kind {
        "PUBLISH" => flags,
        "PUBREL" => 2,
        _ => 0,
    };
    if flags != expected_flags {
        return Err(format!("{kind} with flags {flags:04b}"));
    }
    match kind {
        "CONNACK" => {
            let acknowledge_flags = reader.byte()?;
            if acknowledge_flags > 1 {
                return Err("CONNACK with reserved flags".into());
            }
            fields.push(("sp", Value::Number(acknowledge_flags.into())));
            fields.push(("code", Value::Number(reader.byte()?.into())));
            if version == Version::V5 {
                reader.properties(fields)?;
            }
        }
        "PUBLISH" => reader.publish(flags, version, fields)?,
        "PUBACK" | "PUBREC" | "PUBREL" | "PUBCOMP" => {
            fields.push(("id", Value::Number(reader.two_bytes()?)));
            reader.reason(version, fields)?;
        }
        "SUBACK" | "UNSUBACK" => {
            fields.push(("id", Value::Number(reader.two_bytes()?)));
            if version == Version::V5 {
                reader.properties(fields)?;
            }
            if kind == "SUBACK" || version == Version::V5 {
                let codes = std::mem::take(&mut reader.rest);
                let codes = codes.iter().map(|&code| code.into()).collect();
                fields.push(("codes", Value::Numbers(codes)));
            }
        }
        "DISCONNECT" | "AUTH" if version == Version::V5 => reader.reason(version, fields)?,
        "PINGRESP" => {}
        _ => return Err(format!("brokers do not say {kind} in this version")),
    }
    match reader.rest.is_empty() {
        true => Ok(packet),
        false => Err(format!("{kind} is longer than its fields")),
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, size: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self
            .rest
            .split_at_checked(size)
            .ok_or("the packet is cut short")?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn two_bytes(&mut self) -> Result<u64, String> {
        Ok(self
            .take(2)?
            .iter()
            .fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
    }

    fn text(&mut self) -> Result<Vec<u8>, String> {
        let size = self.two_bytes()?;
        Ok(self.take(size as usize)?.to_vec())
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0;
        for index in 0..4 {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << (7 * index);
            if byte & 0x80 == 0 {
                let is_minimal = byte != 0 || index == 0;
                return is_minimal
                    .then_some(value)
                    .ok_or("an integer is too long".into());
            }
        }
        Err("an integer is too long".into())
    }

    fn properties(&mut self, fields: &mut Vec<(&'static str, Value)>) -> Result<(), String> {
        let size = self.varint()?;
        let mut section = Reader {
            rest: self.take(size as usize)?,
        };
        while !section.rest.is_empty() {
            let id = section.byte()?;
            let property = Property::numbered(id).ok_or(format!("no property {id}"))?;
            let value = match property.encoding {
                Encoding::Byte => Value::Number(section.byte()?.into()),
                Encoding::TwoBytes => Value::Number(section.two_bytes()?),
                Encoding::FourBytes => {
                    Value::Number(section.two_bytes()? << 16 | section.two_bytes()?)
                }
                Encoding::VariableByteInteger => Value::Number(section.varint()?),
                Encoding::Text => Value::Text(section.text()?),
                Encoding::Pair => Value::Pair(section.text()?, section.text()?),
            };
            fields.push((property.name, value));
        }
        Ok(())
    }

    fn reason(
        &mut self,
        version: Version,
        fields: &mut Vec<(&'static str, Value)>,
    ) -> Result<(), String> {
        let has_reason = version == Version::V5 && !self.rest.is_empty();
        let reason = if has_reason { self.byte()? } else { 0 };
        fields.push(("code", Value::Number(reason.into())));
        if has_reason && !self.rest.is_empty() {
            self.properties(fields)?;
        }
        Ok(())
    }

    fn publish(
        &mut self,
        flags: u8,
        version: Version,
        fields: &mut Vec<(&'static str, Value)>,
    ) -> Result<(), String> {
        let qos = flags >> 1 & 3;
        fields.push(("topic", Value::Text(self.text()?)));
        fields.push(("qos", Value::Number(qos.into())));
        fields.push(("retain", Value::Number((flags & 1).into())));
        fields.push(("dup", Value::Number((flags >> 3).into())));
        if qos > 0 {
            fields.push(("id", Value::Number(self.two_bytes()?)));
        }
        if version == Version::V5 {
            self.properties(fields)?;
        }
        fields.push((
            "payload",
            Value::Text(std::mem::take(&mut self.rest).to_vec()),
        ));
        Ok(())
    }
}
