//! The properties of MQTT 5.0: their names in scripts, their identifiers, their encodings.

use super::lexer;

/// A field of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Number(u64),
    Text(Vec<u8>),
    Pair(Vec<u8>, Vec<u8>),
    Numbers(Vec<u64>),
    /// Expected only: whatever it is, under that name from here on.
    Variable(String),
    /// Expected only: any number but zero.
    NonZero,
    /// Expected only: one of these.
    OneOf(&'static [u64]),
    /// Expected only: the field is not there.
    Absent,
}

/// How a property is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Byte,
    TwoBytes,
    FourBytes,
    VariableByteInteger,
    Text,
    Pair,
}

/// A property.
#[derive(Clone, Copy, Debug)]
pub struct Property {
    pub name: &'static str,
    pub id: u8,
    pub encoding: Encoding,
}

impl Property {
    pub fn named(name: &str) -> Option<Property> {
        PROPERTIES
            .iter()
            .copied()
            .find(|property| property.name == name)
    }

    pub fn numbered(id: u8) -> Option<Property> {
        PROPERTIES
            .iter()
            .copied()
            .find(|property| property.id == id)
    }

    /// Reads the value of a script.
    pub fn parse(self, value: &str) -> Result<Value, String> {
        if let Some(name) = value.strip_prefix('@') {
            return Ok(Value::Variable(name.into()));
        }
        if value == "none" {
            return Ok(Value::Absent);
        }
        match self.encoding {
            Encoding::Byte
            | Encoding::TwoBytes
            | Encoding::FourBytes
            | Encoding::VariableByteInteger => lexer::number(value).map(Value::Number),
            Encoding::Text => lexer::text(value).map(Value::Text),
            Encoding::Pair => {
                let (key, value) = value.split_once(':').ok_or("a pair is key:value")?;
                Ok(Value::Pair(lexer::text(key)?, lexer::text(value)?))
            }
        }
    }

    /// Appends the property to a property section.
    pub fn encode(self, value: &Value, out: &mut Vec<u8>) -> Result<(), String> {
        out.push(self.id);
        match (self.encoding, value) {
            (Encoding::Byte, Value::Number(number)) => out.push(fit(*number)?),
            (Encoding::TwoBytes, Value::Number(number)) => {
                out.extend(fit::<u16>(*number)?.to_be_bytes());
            }
            (Encoding::FourBytes, Value::Number(number)) => {
                out.extend(fit::<u32>(*number)?.to_be_bytes());
            }
            (Encoding::VariableByteInteger, Value::Number(number)) => {
                lexer::put_varint(out, fit::<u32>(*number)? as usize);
            }
            (Encoding::Text, Value::Text(text)) => put_text(out, text)?,
            (Encoding::Pair, Value::Pair(key, value)) => {
                put_text(out, key)?;
                put_text(out, value)?;
            }
            (encoding, value) => return Err(format!("{value:?} is no {encoding:?}")),
        }
        Ok(())
    }
}

/// Appends a string or binary data.
pub fn put_text(out: &mut Vec<u8>, text: &[u8]) -> Result<(), String> {
    out.extend(fit::<u16>(text.len() as u64)?.to_be_bytes());
    out.extend_from_slice(text);
    Ok(())
}

/// A number of a script in the type of its field.
pub fn fit<T: TryFrom<u64>>(number: u64) -> Result<T, String> {
    T::try_from(number).map_err(|_| format!("{number} does not fit its field"))
}

const fn property(name: &'static str, id: u8, encoding: Encoding) -> Property {
    Property { name, id, encoding }
}

const PROPERTIES: &[Property] = &[
    property("format", 0x01, Encoding::Byte),
    property("expires", 0x02, Encoding::FourBytes),
    property("content", 0x03, Encoding::Text),
    property("response_topic", 0x08, Encoding::Text),
    property("correlation", 0x09, Encoding::Text),
    property("subid", 0x0B, Encoding::VariableByteInteger),
    property("expiry", 0x11, Encoding::FourBytes),
    property("assigned", 0x12, Encoding::Text),
    property("server_keep", 0x13, Encoding::TwoBytes),
    property("auth", 0x15, Encoding::Text),
    property("auth_data", 0x16, Encoding::Text),
    property("problem", 0x17, Encoding::Byte),
    property("delay", 0x18, Encoding::FourBytes),
    property("response", 0x19, Encoding::Byte),
    property("response_info", 0x1A, Encoding::Text),
    property("server", 0x1C, Encoding::Text),
    property("reason", 0x1F, Encoding::Text),
    property("rm", 0x21, Encoding::TwoBytes),
    property("alias_max", 0x22, Encoding::TwoBytes),
    property("alias", 0x23, Encoding::TwoBytes),
    property("max_qos", 0x24, Encoding::Byte),
    property("retain_ok", 0x25, Encoding::Byte),
    property("prop", 0x26, Encoding::Pair),
    property("max", 0x27, Encoding::FourBytes),
    property("wildcard_ok", 0x28, Encoding::Byte),
    property("subid_ok", 0x29, Encoding::Byte),
    property("shared_ok", 0x2A, Encoding::Byte),
];
