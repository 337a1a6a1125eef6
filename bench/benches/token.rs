//! What a login with a token costs a thread beside the shards: its signature, its claims, its rules.

use std::hint::black_box;
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use criterion::{Criterion, criterion_group, criterion_main};
use ringmq::auth::jwt::{Algorithm, Jwt, JwtConfig, Key, LocalKey, Shower};

const TIME: Duration = Duration::from_secs(1_700_000_000);
const CLAIMS: &str = r#"{"iss":"https://login.example","sub":"dev-7","aud":"mqtt","iat":1700000000,"exp":1700003600,"acl":{"publish":["sensors/%c/#"],"subscribe":["commands/%c/#","news/#"]}}"#;

fn logins(c: &mut Criterion) {
    let mut group = c.benchmark_group("token");
    for (name, algorithm, key, sign) in signers() {
        let header = format!(
            "{{\"alg\":\"{}\",\"typ\":\"JWT\",\"kid\":\"k\"}}",
            algorithm.name()
        );
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let signed = format!(
            "{}.{}",
            encode(header.as_bytes()),
            encode(CLAIMS.as_bytes())
        );
        let token = format!("{signed}.{}", encode(&sign(signed.as_bytes())));
        let key = Key::read(algorithm, Some("k"), &key).expect("a key of that algorithm");
        let local = LocalKey {
            key,
            fingerprint: 1,
        };
        let mut config = JwtConfig::default();
        config.demands.audiences.push("mqtt".to_owned());
        let jwt = Jwt::new(config, vec![local], Vec::new());
        let shower = Shower {
            client_id: "dev-7",
            user_name: None,
        };
        group.bench_function(name, |b| {
            b.iter(|| {
                let checked = jwt.check(black_box(token.as_bytes()), shower, TIME);
                black_box(checked.expect("a good token"));
            });
        });
    }
    group.finish();
}

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;

/// A name, an algorithm, what the broker has of the key, and who signs.
fn signers() -> Vec<(&'static str, Algorithm, Vec<u8>, Sign)> {
    let mut signers: Vec<(_, _, _, Sign)> = Vec::new();
    let secret = vec![7; 32];
    let mac = hmac::Key::new(hmac::HMAC_SHA256, &secret);
    let sign = move |message: &[u8]| hmac::sign(&mac, message).as_ref().to_vec();
    signers.push(("HS256", Algorithm::Hs256, secret, Box::new(sign)));
    let padding: [(_, _, _, &'static dyn RsaEncoding); 3] = [
        (
            "RS256-2048",
            Algorithm::Rs256,
            KeySize::Rsa2048,
            &RSA_PKCS1_SHA256,
        ),
        (
            "RS256-4096",
            Algorithm::Rs256,
            KeySize::Rsa4096,
            &RSA_PKCS1_SHA256,
        ),
        (
            "PS256-2048",
            Algorithm::Ps256,
            KeySize::Rsa2048,
            &RSA_PSS_SHA256,
        ),
    ];
    for (name, algorithm, size, padding) in padding {
        let pair = RsaKeyPair::generate(size).expect("RSA");
        let public = pem(&pair.public_key().as_der().expect("SPKI"));
        let sign = move |message: &[u8]| {
            let mut signature = vec![0; pair.public_modulus_len()];
            pair.sign(padding, &SystemRandom::new(), message, &mut signature)
                .expect("a signature");
            signature
        };
        signers.push((name, algorithm, public, Box::new(sign)));
    }
    for (name, algorithm, curve) in [
        ("ES256", Algorithm::Es256, &ECDSA_P256_SHA256_FIXED_SIGNING),
        ("ES384", Algorithm::Es384, &ECDSA_P384_SHA384_FIXED_SIGNING),
    ] {
        let pair = EcdsaKeyPair::generate(curve).expect("ECDSA");
        let public = pem(&pair.public_key().as_der().expect("SPKI"));
        let sign = move |message: &[u8]| {
            let signature = pair.sign(&SystemRandom::new(), message);
            signature.expect("a signature").as_ref().to_vec()
        };
        signers.push((name, algorithm, public, Box::new(sign)));
    }
    let pair = Ed25519KeyPair::generate().expect("Ed25519");
    let public = pem(&pair.public_key().as_der().expect("SPKI"));
    let sign = move |message: &[u8]| pair.sign(message).as_ref().to_vec();
    signers.push(("EdDSA", Algorithm::EdDsa, public, Box::new(sign)));
    signers
}

fn pem(der: &PublicKeyX509Der<'_>) -> Vec<u8> {
    let der: &[u8] = der.as_ref();
    let text = STANDARD.encode(der);
    format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n").into_bytes()
}

criterion_group!(benches, logins);
criterion_main!(benches);
