//! Shared access signatures, the passwords of Azure IoT Hub: a resource and an end, signed with a
//! key.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// A key that signs tokens. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Vec<u8>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(***)")
    }
}

impl Key {
    /// Reads a key as the service shows it, in base64.
    pub fn parse(text: &str) -> Option<Key> {
        let bytes = STANDARD.decode(text.trim()).ok()?;
        (!bytes.is_empty()).then_some(Key(bytes))
    }

    /// As the service shows it: a secret.
    pub fn to_text(&self) -> String {
        STANDARD.encode(&self.0)
    }

    /// A token for a resource until a time, in seconds since 1970; with the name of the policy that
    /// the key is of, or none for the key of a device.
    pub fn token(&self, resource: &str, until_s: u64, policy: Option<&str>) -> String {
        let resource = escaped(resource);
        let signature = self.signature(&resource, until_s);
        let mut token = format!(
            "SharedAccessSignature sr={resource}&sig={}&se={until_s}",
            escaped(&signature)
        );
        if let Some(policy) = policy {
            token += &format!("&skn={policy}");
        }
        token
    }

    /// Of an escaped resource and an end.
    pub fn signature(&self, resource: &str, until_s: u64) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("a key of this method has any size");
        mac.update(format!("{resource}\n{until_s}").as_bytes());
        STANDARD.encode(mac.finalize().into_bytes())
    }
}

/// Every byte but letters, digits and `-_.~` as `%xx`.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped += &format!("%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_signed_over_its_resource_and_its_end() {
        // Made with Python's hmac and urllib.parse.
        let key = Key::parse("c2VjcmV0LWtleS1vZi10aGUtaHVi\n").unwrap();
        let token = key.token("hub.azure-devices.net/devices/one", 1_700_000_000, None);
        assert_eq!(
            token,
            "SharedAccessSignature sr=hub.azure-devices.net%2Fdevices%2Fone\
             &sig=jtykpqb52R71Zn01eoZMPrf2wwn2D%2BdufYepKdJ5eV0%3D&se=1700000000"
        );
        let of_policy = key.token("hub.azure-devices.net", 5, Some("device"));
        assert!(of_policy.ends_with("&se=5&skn=device"), "{of_policy}");
        assert!(Key::parse("").is_none() && Key::parse("not base64!").is_none());
        assert_eq!(format!("{key:?}"), "Key(***)");
    }
}
