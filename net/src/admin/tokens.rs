//! Tokens of the control plane: who may do what over TCP.
//!
//! A line of the file is `NAME:ROLE:SHA256`, the last being the hash of the token in hexadecimal. Tokens have 256 random
//! bits, so a fast hash hides them.

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Read metrics.
    Metrics,
    /// Read everything.
    Viewer,
    /// Change things.
    Operator,
}

impl Role {
    const ALL: [(&'static str, Role); 3] = [
        ("metrics", Role::Metrics),
        ("viewer", Role::Viewer),
        ("operator", Role::Operator),
    ];

    /// The role of this name.
    pub fn by_name(name: &str) -> Option<Role> {
        let mut all = Role::ALL.iter();
        all.find(|(known, _)| *known == name).map(|(_, role)| *role)
    }
}

/// All tokens.
#[derive(Clone, Debug, Default)]
pub struct Tokens(Vec<Token>);

#[derive(Clone, Debug)]
struct Token {
    name: String,
    role: Role,
    digest: [u8; 32],
}

impl Tokens {
    /// Reads a file of tokens.
    ///
    /// # Errors
    /// The number of a line, from 1, and what is wrong with it.
    pub fn parse(text: &str) -> Result<Tokens, (usize, &'static str)> {
        let mut tokens = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                tokens.push(Token::parse(line).map_err(|what| (index + 1, what))?);
            }
        }
        Ok(Tokens(tokens))
    }

    /// Adds those of another file.
    pub fn extend(&mut self, more: Tokens) {
        self.0.extend(more.0);
    }

    /// Whose token it is, and what it lets them do.
    pub(super) fn find(&self, presented: &str) -> Option<(&str, Role)> {
        let digest: [u8; 32] = Sha256::digest(presented.as_bytes()).into();
        let mut found = None;
        // All of them are compared, so that the time tells nothing.
        for token in &self.0 {
            if bool::from(token.digest.ct_eq(&digest)) {
                found = Some((&*token.name, token.role));
            }
        }
        found
    }
}

impl Token {
    fn parse(line: &str) -> Result<Token, &'static str> {
        let mut parts = line.splitn(3, ':');
        let (Some(name), Some(role), Some(digest)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err("is not NAME:ROLE:SHA256");
        };
        Ok(Token {
            name: name.to_owned(),
            role: Role::by_name(role)
                .ok_or("has a role that is none of metrics, viewer, operator")?,
            digest: from_hex(digest).ok_or("has a hash that is not 64 hexadecimal digits")?,
        })
    }
}

/// The line of the file for a token.
pub fn line_of(name: &str, role: &str, token: &str) -> String {
    let digest = Sha256::digest(token.as_bytes());
    format!("{name}:{role}:{}", to_hex(&digest))
}

/// Lower case.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_by_what_was_presented() {
        let lines = [
            "# tokens".to_owned(),
            line_of("prometheus", "metrics", "abc"),
            String::new(),
            line_of("ada", "operator", "def"),
        ];
        let tokens = Tokens::parse(&lines.join("\n")).unwrap();
        assert_eq!(tokens.find("abc"), Some(("prometheus", Role::Metrics)));
        assert_eq!(tokens.find("def"), Some(("ada", Role::Operator)));
        for wrong in ["", "ab", "abcd", "ABC"] {
            assert_eq!(tokens.find(wrong), None, "{wrong}");
        }
        assert!(Role::Metrics < Role::Viewer && Role::Viewer < Role::Operator);
    }

    #[test]
    fn a_wrong_line_is_named() {
        let digest = "0".repeat(64);
        for (text, expected) in [
            (format!("a:viewer:{digest}"), None),
            (format!("\na:admin:{digest}"), Some(2)),
            ("a:viewer".to_owned(), Some(1)),
            (format!("a:viewer:{digest}0"), Some(1)),
            (format!("a:viewer:{}", "g".repeat(64)), Some(1)),
        ] {
            let line = Tokens::parse(&text).err().map(|(line, _)| line);
            assert_eq!(line, expected, "{text}");
        }
    }
}
