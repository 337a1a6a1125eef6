//! The other half: who signs tokens.

use aws_lc_rs::encoding::{AsDer as _, EcPrivateKeyRfc5915Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING,
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair,
};
use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::super::{Algorithm, Key};

/// Who has the private key, or the secret.
pub struct Signer {
    pub algorithm: Algorithm,
    half: Half,
}

enum Half {
    Secret(Vec<u8>),
    Rsa(RsaKeyPair),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signer {
    /// With a key of its own.
    pub fn new(algorithm: Algorithm) -> Signer {
        let half = match algorithm {
            Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => {
                let mut secret = vec![0; 64];
                rand::fill(&mut secret).unwrap();
                secret[63] = b'x'; // No line break.
                Half::Secret(secret)
            }
            Algorithm::Es256 => {
                Half::Ecdsa(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
            }
            Algorithm::Es384 => {
                Half::Ecdsa(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap())
            }
            Algorithm::EdDsa => Half::Ed25519(Ed25519KeyPair::generate().unwrap()),
            Algorithm::Rs256
            | Algorithm::Rs384
            | Algorithm::Rs512
            | Algorithm::Ps256
            | Algorithm::Ps384
            | Algorithm::Ps512 => Half::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
        };
        Signer { algorithm, half }
    }

    pub fn of_secret(algorithm: Algorithm, secret: &[u8]) -> Signer {
        Signer {
            algorithm,
            half: Half::Secret(secret.to_vec()),
        }
    }

    /// What the broker has of it.
    pub fn key(&self, kid: Option<&str>) -> Key {
        let content = match &self.half {
            Half::Secret(secret) => secret.clone(),
            Half::Rsa(_) | Half::Ecdsa(_) | Half::Ed25519(_) => self.public_pem().into_bytes(),
        };
        Key::read(self.algorithm, kid, &content).unwrap()
    }

    pub fn sign(&self, claims: &Value) -> String {
        self.sign_as(&json!({"alg": self.algorithm.name(), "typ": "JWT"}), claims)
    }

    pub fn sign_as(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    pub fn sign_text(&self, header: &str, claims: &str) -> String {
        let signed = signed(header, claims);
        let signature = self.signature(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// With a signature of ASN.1, of the same key.
    pub fn sign_der(&self, claims: &Value) -> String {
        let Half::Ecdsa(pair) = &self.half else {
            panic!("only ECDSA has two forms");
        };
        let private: EcPrivateKeyRfc5915Der<'_> = pair.private_key().as_der().unwrap();
        let public = pair.public_key().as_ref();
        let pair =
            EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_ASN1_SIGNING, private.as_ref());
        let pair = pair.unwrap();
        assert_eq!(pair.public_key().as_ref(), public);
        let signed = signed(&json!({"alg": "ES256"}).to_string(), &claims.to_string());
        let signature = pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    pub fn public_der(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = match &self.half {
            Half::Secret(_) => panic!("a secret is not public"),
            Half::Rsa(pair) => pair.public_key().as_der().unwrap(),
            Half::Ecdsa(pair) => pair.public_key().as_der().unwrap(),
            Half::Ed25519(pair) => pair.public_key().as_der().unwrap(),
        };
        der.as_ref().to_vec()
    }

    pub fn public_pem(&self) -> String {
        pem("PUBLIC KEY", &self.public_der())
    }

    pub fn private_pem(&self) -> String {
        let Half::Ecdsa(pair) = &self.half else {
            panic!("one kind will do");
        };
        let der: EcPrivateKeyRfc5915Der<'_> = pair.private_key().as_der().unwrap();
        pem("EC PRIVATE KEY", der.as_ref())
    }

    pub fn jwk(&self) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.half {
            Half::Secret(secret) => {
                json!({"kty": "oct", "alg": self.algorithm.name(), "k": encode(secret)})
            }
            Half::Rsa(pair) => {
                // SEQUENCE { INTEGER, INTEGER }: headers of 4 bytes, and a zero in front of the
                // modulus.
                let n = &pair.public_key().as_ref()[9..][..256];
                let e = &[1, 0, 1];
                json!({"kty": "RSA", "alg": self.algorithm.name(), "n": encode(n), "e": encode(e)})
            }
            Half::Ecdsa(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = if x.len() == 32 { "P-256" } else { "P-384" };
                json!({"kty": "EC", "crv": curve, "x": encode(x), "y": encode(y)})
            }
            Half::Ed25519(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref())})
            }
        }
    }

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.half {
            Half::Secret(secret) => {
                let hash = match self.algorithm {
                    Algorithm::Hs384 => hmac::HMAC_SHA384,
                    Algorithm::Hs512 => hmac::HMAC_SHA512,
                    _ => hmac::HMAC_SHA256,
                };
                hmac::sign(&hmac::Key::new(hash, secret), message)
                    .as_ref()
                    .to_vec()
            }
            Half::Rsa(pair) => {
                let padding: &'static dyn signature::RsaEncoding = match self.algorithm {
                    Algorithm::Rs384 => &signature::RSA_PKCS1_SHA384,
                    Algorithm::Rs512 => &signature::RSA_PKCS1_SHA512,
                    Algorithm::Ps256 => &signature::RSA_PSS_SHA256,
                    Algorithm::Ps384 => &signature::RSA_PSS_SHA384,
                    Algorithm::Ps512 => &signature::RSA_PSS_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, message, &mut signature)
                    .unwrap();
                signature
            }
            Half::Ecdsa(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Half::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }
}

fn signed(header: &str, claims: &str) -> String {
    let (header, claims) = (
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims),
    );
    format!("{header}.{claims}")
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}
