//! Keys, and which of them a token is tried with.

use super::*;

#[test]
fn a_key_is_found_by_its_name_and_its_algorithm() {
    let (old, new, other) = (
        Signer::new(Algorithm::Es256),
        Signer::new(Algorithm::Es256),
        Signer::new(Algorithm::EdDsa),
    );
    let keys = vec![old.key(Some("old")), new.key(Some("new")), other.key(None)];
    let jwt = jwt(JwtConfig::default(), keys);
    for (signer, kid, expected) in [
        (&old, Some("old"), Ok(1)),
        (&new, Some("new"), Ok(2)),
        (&old, Some("new"), Err(Refusal::TokenSignature)),
        (&old, None, Ok(1)),
        (&new, None, Ok(2)),
        (&new, Some("newer"), Err(Refusal::TokenKey)),
        (&other, Some("newer"), Ok(3)),
        (&other, Some("old"), Ok(3)),
        (&other, None, Ok(3)),
    ] {
        let mut header = json!({"alg": signer.algorithm.name()});
        if let Some(kid) = kid {
            header["kid"] = json!(kid);
        }
        let checked = check(&jwt, &signer.sign_as(&header, &good_claims()));
        assert_eq!(checked.map(|(_, issuer)| issuer), expected, "{kid:?}");
    }
}

#[test]
fn keys_are_read_or_the_reason_is_given() {
    let (rsa, ec, ed) = (
        Signer::new(Algorithm::Rs256),
        Signer::new(Algorithm::Es256),
        Signer::new(Algorithm::EdDsa),
    );
    let fault = |algorithm, content: &str| Key::read(algorithm, None, content.as_bytes()).err();
    let private = ec.private_pem();
    let two = format!("{}{}", ec.public_pem(), ed.public_pem());
    for (algorithm, content, expected) in [
        (Algorithm::Rs256, &*rsa.public_pem(), None),
        (Algorithm::Ps512, &rsa.public_pem(), None),
        (Algorithm::Es256, &ec.public_pem(), None),
        (Algorithm::EdDsa, &ed.public_pem(), None),
        (Algorithm::Es384, &ec.public_pem(), Some(KeyFault::Mismatch)),
        (Algorithm::Rs256, &ec.public_pem(), Some(KeyFault::Mismatch)),
        (
            Algorithm::Es256,
            &rsa.public_pem(),
            Some(KeyFault::Mismatch),
        ),
        (
            Algorithm::EdDsa,
            &rsa.public_pem(),
            Some(KeyFault::Mismatch),
        ),
        (Algorithm::EdDsa, &ec.public_pem(), Some(KeyFault::Mismatch)),
        (
            Algorithm::Hs256,
            &rsa.public_pem(),
            Some(KeyFault::NoSecret),
        ),
        (Algorithm::Es256, &private, Some(KeyFault::Private)),
        (Algorithm::Es256, &two, Some(KeyFault::SeveralPem)),
        (Algorithm::Es256, "", Some(KeyFault::Empty)),
        (Algorithm::Es256, " \n", Some(KeyFault::Empty)),
        (
            Algorithm::Es256,
            "-----BEGIN PUBLIC KEY-----\n",
            Some(KeyFault::NoPem),
        ),
        (Algorithm::Es256, "hello", Some(KeyFault::NoPem)),
        (Algorithm::Rs256, RSA_1024, Some(KeyFault::Mismatch)),
        (Algorithm::Hs256, "", Some(KeyFault::Empty)),
        (Algorithm::Hs256, "\n", Some(KeyFault::Empty)),
        (
            Algorithm::Hs256,
            "0123456789012345678901234567890\n",
            Some(KeyFault::Short),
        ),
        (
            Algorithm::Hs256,
            "01234567890123456789012345678901\r\n",
            None,
        ),
        (
            Algorithm::Hs384,
            "01234567890123456789012345678901",
            Some(KeyFault::Short),
        ),
    ] {
        assert_eq!(
            fault(algorithm, content),
            expected,
            "{algorithm:?} {content:?}"
        );
    }
    // A certificate has a key, too.
    let generated = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
    assert_eq!(fault(Algorithm::Es256, &generated.cert.pem()), None);
    assert_eq!(
        fault(Algorithm::Rs256, &generated.cert.pem()),
        Some(KeyFault::Mismatch)
    );
}

/// What cannot be used is not used in another way (threat 80).
#[test]
fn keys_of_a_set_are_used_or_skipped() {
    let ec = Signer::new(Algorithm::Es256);
    let good = ec.jwk();
    let count = |jwks: Value, allow_secrets| {
        let set = json!({"keys": jwks}).to_string();
        read_set(set.as_bytes(), allow_secrets).map(|keys| keys.len())
    };
    let with = |name: &str, value: Value| {
        let mut jwk = good.clone();
        jwk[name] = value;
        jwk
    };
    let secret = json!({"kty": "oct", "alg": "HS256", "k": "A".repeat(43)});
    for (jwk, is_used) in [
        (good.clone(), true),
        (with("alg", json!("ES256")), true),
        (with("use", json!("sig")), true),
        (with("key_ops", json!(["verify"])), true),
        (with("kid", json!("x")), true),
        (with("x5c", json!(["?"])), true),
        (with("use", json!("enc")), false),
        (with("use", json!(1)), false),
        (with("key_ops", json!(["sign"])), false),
        (with("key_ops", json!("verify")), false),
        (with("kid", json!(7)), false),
        (with("alg", json!("ES384")), false),
        (with("alg", json!("RS256")), false),
        (with("alg", json!("HS256")), false),
        (with("alg", json!("none")), false),
        (with("alg", json!(null)), false),
        (with("crv", json!("P-384")), false),
        (with("crv", json!("secp256k1")), false),
        (with("kty", json!("RSA")), false),
        (with("kty", json!("oct")), false),
        (with("x", json!("AAAA")), false),
        (with("y", json!(good["x"])), false),
        (
            json!({"kty": "OKP", "crv": "X25519", "x": "A".repeat(43)}),
            false,
        ),
        (json!({"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}), false),
        (json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"}), false),
        (json!({"kty": "RSA", "n": "", "e": ""}), false),
        (json!("key"), false),
        (secret.clone(), false),
    ] {
        // Beside one that is good.
        let expected = Ok(1 + usize::from(is_used));
        assert_eq!(count(json!([jwk, good]), false), expected, "{jwk}");
        let alone = if is_used {
            Ok(1)
        } else {
            Err(KeyFault::NothingUsable)
        };
        assert_eq!(count(json!([jwk]), false), alone, "{jwk}");
    }
    assert_eq!(count(json!([secret]), true), Ok(1));
    assert_eq!(
        count(json!([{"kty": "oct", "k": "A".repeat(43)}]), true),
        Err(KeyFault::NothingUsable)
    );
    assert_eq!(
        count(json!(vec![good.clone(); 101]), true),
        Err(KeyFault::TooMany)
    );
    for text in ["", "{}", "[]", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#] {
        assert_eq!(
            read_set(text.as_bytes(), true).err(),
            Some(KeyFault::NoSet),
            "{text}"
        );
    }
    assert_eq!(count(json!([]), true), Err(KeyFault::NothingUsable));
    // RSA as a JWK is the same key as in PEM.
    let rsa = Signer::new(Algorithm::Ps256);
    let set = json!({"keys": [rsa.jwk()]}).to_string();
    let (key, _) = read_set(set.as_bytes(), false).unwrap().remove(0);
    assert_eq!(key.algorithm, Algorithm::Ps256);
    assert!(
        check(
            &jwt(JwtConfig::default(), vec![key]),
            &rsa.sign(&good_claims())
        )
        .is_ok()
    );
}

#[test]
fn a_fingerprint_identifies_the_key_and_the_requirements() {
    let config = JwtConfig::default();
    let mut other = config.clone();
    other.demands.audiences.push("mqtt".to_owned());
    let all = [
        fingerprint(&config, b"a"),
        fingerprint(&config, b"b"),
        fingerprint(&other, b"a"),
    ];
    assert_eq!(all[0], fingerprint(&config.clone(), b"a"));
    assert!(all[0] != all[1] && all[0] != all[2] && all[1] != all[2]);
}

/// `openssl genrsa 1024 | openssl rsa -pubout`
const RSA_1024: &str = "\
-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDPjW+wb8mf7GZIqYw8HiU9Ce/q
NjDvMmA0osAJ9dwKjnq4aS9Jfwlyn5Ex7dFSyOi6rb+72cjuOUpBzXGfvHuBl66Z
BMOMJs8+k1GHYAjX62sNmRVrX3/fWYICPi8pImCuxyuGbFRl2aGS/Gn7ov+7HZ9n
C652a+TL+ONnY1ufGwIDAQAB
-----END PUBLIC KEY-----
";
