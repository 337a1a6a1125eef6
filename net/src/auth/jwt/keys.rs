//! Keys that verify tokens: from PEM, from a secret, from a JWK Set (RFC 7517).
//!
//! Invariant: a key has one algorithm and is used with no other. So a token cannot choose how it is
//! verified: neither `none`, nor with a public key used as a secret.

use std::fmt;

use aws_lc_rs::hmac;
use aws_lc_rs::rsa::PublicEncryptingKey;
use aws_lc_rs::signature::{
    ED25519, ParsedPublicKey, RsaPublicKeyComponents, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::pem::{PemObject as _, SectionKind};
use serde_json::{Map, Value};
use x509_cert::der::{Decode as _, Encode as _};

use super::algorithm::{Algorithm, Family};
use super::json;

/// One key.
#[derive(Clone)]
pub struct Key {
    /// Its name; `None`: it is tried for tokens that name any key, or none.
    pub kid: Option<Box<str>>,
    /// What it is for.
    pub algorithm: Algorithm,
    material: Material,
}

#[derive(Clone)]
enum Material {
    Public(ParsedPublicKey),
    Secret(Box<hmac::Key>),
}

/// Why something cannot be a key for an algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFault {
    /// There is nothing in it.
    Empty,
    /// No PEM, or none of a public key.
    NoPem,
    /// More than one.
    SeveralPem,
    /// The other half, which is nobody's business here.
    Private,
    /// PEM, where a secret is needed.
    NoSecret,
    /// A secret that is shorter than the hash.
    Short,
    /// A key of another kind, or a broken one, or RSA below 2048 or above 8192 bits.
    Mismatch,
    /// No JWK Set.
    NoSet,
    /// A JWK Set without a key that can be used here.
    NothingUsable,
    /// More keys than [`KEYS_MAX`].
    TooMany,
}

impl Key {
    /// From the content of a file: a public key or a certificate in PEM, or a secret. A line break
    /// at the end does not belong to the secret.
    pub fn read(algorithm: Algorithm, kid: Option<&str>, content: &[u8]) -> Result<Key, KeyFault> {
        let material = match algorithm.family() {
            Family::Hmac(_) => {
                let line = content.strip_suffix(b"\n").unwrap_or(content);
                let secret = line.strip_suffix(b"\r").unwrap_or(line);
                if contains(secret, b"-----BEGIN ") {
                    return Err(KeyFault::NoSecret);
                }
                secret_key(algorithm, secret)?
            }
            Family::Rsa(_) | Family::Ecdsa(..) | Family::Ed25519 => {
                Material::Public(public_key(algorithm, &read_pem(content)?)?)
            }
        };
        Ok(Key {
            kid: kid.map(Into::into),
            algorithm,
            material,
        })
    }

    /// Whether the signature is one of this key.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Public(key) => key.verify_sig(message, signature).is_ok(),
            Material::Secret(key) => hmac::verify(key, message, signature).is_ok(),
        }
    }

    /// Whether it may have signed a token that names that key.
    pub(super) fn answers_to(&self, kid: Option<&str>) -> bool {
        match (&self.kid, kid) {
            (Some(own), Some(named)) => **own == *named,
            (None, _) | (_, None) => true,
        }
    }
}

/// Reads a JWK Set. Keys that are for something else, or that cannot be read, are passed over (RFC
/// 7517, 5); secrets have no place in a set that anybody can read (`allow_secrets`). Each key comes
/// with the bytes that it was made of.
pub fn read_set(text: &[u8], allow_secrets: bool) -> Result<Vec<(Key, Vec<u8>)>, KeyFault> {
    let set = json::read_object(text).ok_or(KeyFault::NoSet)?;
    let Some(Value::Array(jwks)) = set.get("keys") else {
        return Err(KeyFault::NoSet);
    };
    if jwks.len() > KEYS_MAX {
        return Err(KeyFault::TooMany);
    }
    let jwks = jwks.iter().filter_map(Value::as_object);
    let read = |jwk| {
        let key = read_jwk(jwk, allow_secrets)?;
        Some((key, serde_json::to_vec(jwk).ok()?))
    };
    let keys: Vec<(Key, Vec<u8>)> = jwks.filter_map(read).collect();
    if keys.is_empty() {
        Err(KeyFault::NothingUsable)
    } else {
        Ok(keys)
    }
}

fn read_jwk(jwk: &Map<String, Value>, allow_secrets: bool) -> Option<Key> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
    let is_for_signatures = match (jwk.get("use"), jwk.get("key_ops")) {
        (Some(purpose), _) if purpose != "sig" => false,
        (_, Some(Value::Array(operations))) => operations.iter().any(|o| o == "verify"),
        (_, Some(_)) => false,
        (_, None) => true,
    };
    let kid = match jwk.get("kid") {
        None => None,
        Some(Value::String(kid)) => Some(kid.as_str().into()),
        Some(_) => return None,
    };
    let algorithm = match jwk.get("alg") {
        Some(Value::String(name)) => Algorithm::named(name)?,
        Some(_) => return None,
        None => match (text("kty")?, text("crv")) {
            ("RSA", _) => Algorithm::Rs256,
            ("EC", Some("P-256")) => Algorithm::Es256,
            ("EC", Some("P-384")) => Algorithm::Es384,
            ("OKP", Some("Ed25519")) => Algorithm::EdDsa,
            _ => return None,
        },
    };
    let material = match (algorithm.family(), text("kty")?) {
        (Family::Hmac(_), "oct") if allow_secrets => secret_key(algorithm, &bytes("k")?).ok()?,
        (Family::Rsa(parameters), "RSA") => {
            let (n, e) = (bytes("n")?, bytes("e")?);
            let n = strip_zeros(&n);
            let bits = n.len() * 8 - n.first()?.leading_zeros() as usize;
            let components = RsaPublicKeyComponents {
                n,
                e: strip_zeros(&e),
            };
            let key = components.to_parsed_public_key(parameters).ok();
            Material::Public(key.filter(|_| RSA_BITS.contains(&bits))?)
        }
        (Family::Ecdsa(parameters, size, curve), "EC") if text("crv") == Some(curve) => {
            let (x, y) = (bytes("x")?, bytes("y")?);
            if (x.len(), y.len()) != (size, size) {
                return None;
            }
            let point = [&[4], &x[..], &y[..]].concat(); // Uncompressed.
            Material::Public(ParsedPublicKey::new(parameters, point).ok()?)
        }
        (Family::Ed25519, "OKP") if text("crv") == Some("Ed25519") => {
            let x = bytes("x").filter(|x| x.len() == 32)?;
            Material::Public(ParsedPublicKey::new(&ED25519, x).ok()?)
        }
        _ => return None,
    };
    is_for_signatures.then_some(Key {
        kid,
        algorithm,
        material,
    })
}

fn secret_key(algorithm: Algorithm, secret: &[u8]) -> Result<Material, KeyFault> {
    let Family::Hmac(hash) = algorithm.family() else {
        return Err(KeyFault::Mismatch);
    };
    match secret.len() {
        0 => Err(KeyFault::Empty),
        size if size < algorithm.secret_size_min() => Err(KeyFault::Short),
        _ => Ok(Material::Secret(Box::new(hmac::Key::new(hash, secret)))),
    }
}

/// `spki` is a `SubjectPublicKeyInfo`.
fn public_key(algorithm: Algorithm, spki: &[u8]) -> Result<ParsedPublicKey, KeyFault> {
    let parameters: &'static dyn VerificationAlgorithm = match algorithm.family() {
        Family::Hmac(_) => return Err(KeyFault::Mismatch),
        Family::Rsa(parameters) => {
            // Knows the sizes.
            PublicEncryptingKey::from_der(spki).map_err(|_| KeyFault::Mismatch)?;
            parameters
        }
        Family::Ecdsa(parameters, ..) => parameters,
        Family::Ed25519 => &ED25519,
    };
    ParsedPublicKey::new(parameters, spki).map_err(|_| KeyFault::Mismatch)
}

/// The `SubjectPublicKeyInfo` of the one key or certificate in PEM.
fn read_pem(content: &[u8]) -> Result<Vec<u8>, KeyFault> {
    if content.trim_ascii().is_empty() {
        return Err(KeyFault::Empty);
    }
    let mut found = None;
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(content) {
        let (kind, der) = section.map_err(|_| KeyFault::NoPem)?;
        let spki = match kind {
            SectionKind::PublicKey => der,
            SectionKind::Certificate => {
                let certificate = x509_cert::Certificate::from_der(&der);
                let certificate = certificate.map_err(|_| KeyFault::NoPem)?;
                let spki = certificate.tbs_certificate.subject_public_key_info;
                spki.to_der().map_err(|_| KeyFault::NoPem)?
            }
            SectionKind::RsaPrivateKey | SectionKind::PrivateKey | SectionKind::EcPrivateKey => {
                return Err(KeyFault::Private);
            }
            _ => continue,
        };
        if found.replace(spki).is_some() {
            return Err(KeyFault::SeveralPem);
        }
    }
    found.ok_or(KeyFault::NoPem)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Some writers put a zero in front of numbers whose first bit is set.
fn strip_zeros(number: &[u8]) -> &[u8] {
    let first = number.iter().position(|&byte| byte != 0);
    &number[first.unwrap_or(number.len())..]
}

impl fmt::Debug for Key {
    // Secrets belong in no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("kid", &self.kid)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for KeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyFault::Empty => "is empty",
            KeyFault::NoPem => "has no public key or certificate in PEM",
            KeyFault::SeveralPem => "has more than one key or certificate",
            KeyFault::Private => "has a private key, which only the issuer of tokens should have",
            KeyFault::NoSecret => "has PEM instead of a secret",
            KeyFault::Short => "has a secret shorter than the hash of its algorithm",
            KeyFault::Mismatch => {
                "has no key of the type that its algorithm needs; RSA keys need 2048 to 8192 bits"
            }
            KeyFault::NoSet => "is not a JWK Set",
            KeyFault::NothingUsable => "has no key that can verify tokens here",
            KeyFault::TooMany => "has more than 100 keys",
        })
    }
}

const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// More than any issuer rotates through; at most so many are looked through for a token.
pub const KEYS_MAX: usize = 100;
