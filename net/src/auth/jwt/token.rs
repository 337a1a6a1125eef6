//! A token on the wire: a JWS in compact form (RFC 7515), parsed strictly.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::algorithm::Algorithm;
use super::{Fault, json};

/// A token whose signature nobody has looked at.
#[derive(Debug)]
pub struct Token<'a> {
    /// How it says that it is signed.
    pub algorithm: Algorithm,
    /// The key that it names.
    pub kid: Option<String>,
    /// What is signed: header and claims as they stand.
    pub signed: &'a [u8],
    /// The signature.
    pub signature: Vec<u8>,
    payload: &'a [u8],
}

/// Whether something is meant to be a token: three parts, the first of which begins an object. What
/// is none is a password, perhaps.
pub fn is_like_a_token(text: &[u8]) -> bool {
    // The Base64 of `{` and whatever follows.
    let begins = matches!(text, [b'e', b'w'..=b'z' | b'0'..=b'9' | b'-' | b'_', ..]);
    begins && text.iter().filter(|&&byte| byte == b'.').count() == 2
}

impl Token<'_> {
    /// Reads one of at most `size_max` bytes.
    pub fn parse(text: &[u8], size_max: usize) -> Result<Token<'_>, Fault> {
        if text.len() > size_max {
            return Err(Fault::SIZE);
        }
        let mut parts = text.split(|&byte| byte == b'.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Fault::FORM);
        };
        let signed = &text[..header.len() + 1 + payload.len()];
        let header = decode(header).and_then(|text| json::read_object(&text));
        let header = header.ok_or(Fault::FORM)?;
        // What has to be understood and is not (RFC 7515, 4.1.11).
        if header.contains_key("crit") || header.contains_key("b64") {
            return Err(Fault::CRITICAL);
        }
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.clone()),
            Some(_) => return Err(Fault::FORM),
        };
        let algorithm = match header.get("alg") {
            Some(Value::String(name)) => Algorithm::named(name).ok_or(Fault::ALGORITHM)?,
            Some(_) | None => return Err(Fault::FORM),
        };
        Ok(Token {
            algorithm,
            kid,
            signed,
            signature: decode(signature).ok_or(Fault::FORM)?,
            payload,
        })
    }

    /// What it says, once its signature is known to be right.
    pub fn claims(&self) -> Result<serde_json::Map<String, Value>, Fault> {
        let text = decode(self.payload).ok_or(Fault::FORM)?;
        json::read_object(&text).ok_or(Fault::FORM)
    }
}

/// Base64 as RFC 7515 has it: without padding, and with nothing in the bits that are left over, so
/// that there is one way only to write a token.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}
