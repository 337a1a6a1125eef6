//! Tokens against what RFC 7515, 7519, 8037 and 8725 say of them.

mod claims;
mod judge;
mod keys;
mod remote;
mod signer;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ringmq_core::auth::{AuthRequest, Exchange, Verdict};
use ringmq_core::codec::Version;
use ringmq_core::ids::ConnId;
use ringmq_core::refusal::Refusal;
use ringmq_core::time::Instant;
use serde_json::{Value, json};
use signer::Signer;

use super::*;

/// The time of day at which tokens are looked at.
const NOW: u64 = 1_700_000_000;

fn jwt(config: JwtConfig, keys: Vec<Key>) -> Jwt {
    let numbered = keys.into_iter().zip(1..);
    let local = numbered.map(|(key, fingerprint)| LocalKey { key, fingerprint });
    Jwt::new(config, local.collect(), Vec::new())
}

fn check(jwt: &Jwt, token: &str) -> Result<(Grant, u64), Refusal> {
    check_shown(jwt, token, "c1", None)
}

fn check_shown(
    jwt: &Jwt,
    token: &str,
    client_id: &str,
    user_name: Option<&str>,
) -> Result<(Grant, u64), Refusal> {
    let shower = Shower {
        client_id,
        user_name,
    };
    let checked = jwt.check(token.as_bytes(), shower, Duration::from_secs(NOW));
    checked.map_err(|fault| fault.refusal)
}

/// What tokens of these tests say unless they say something else.
fn good_claims() -> Value {
    json!({"sub": "alice", "exp": NOW + 60})
}

/// The vectors of the RFCs: RFC 7515 A.1 to A.3, RFC 8037 A.4.
#[test]
fn the_example_tokens_of_the_rfcs_verify() {
    let payload = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    for (jwk, header, payload, signature) in [
        (
            r#"{"kty":"oct","alg":"HS256","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#,
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
            payload,
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        ),
        (
            r#"{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}"#,
            "eyJhbGciOiJSUzI1NiJ9",
            payload,
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
        ),
        (
            r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#,
            "eyJhbGciOiJFUzI1NiJ9",
            payload,
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
        (
            r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
            "eyJhbGciOiJFZERTQSJ9",
            "RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        ),
    ] {
        let set = format!("{{\"keys\":[{jwk}]}}");
        let (key, _) = read_set(set.as_bytes(), true).unwrap().remove(0);
        let text = format!("{header}.{payload}.{signature}");
        let token = Token::parse(text.as_bytes(), 8192).unwrap();
        assert_eq!(token.algorithm, key.algorithm);
        assert!(key.verifies(token.signed, &token.signature), "{header}");
        assert!(!key.verifies(&token.signed[1..], &token.signature));
        assert!(!key.verifies(token.signed, &token.signature[1..]));
        assert!(!key.verifies(token.signed, b""));
    }
}

#[test]
fn every_algorithm_verifies_its_own_tokens_and_no_others() {
    let signers: Vec<Signer> = Algorithm::ALL.into_iter().map(Signer::new).collect();
    for signer in &signers {
        let jwt = jwt(JwtConfig::default(), vec![signer.key(None)]);
        let (grant, issuer) = check(&jwt, &signer.sign(&good_claims())).unwrap();
        assert_eq!((&*grant.user, issuer), ("alice", 1));
        assert_eq!(grant.lasts, Some(Duration::from_secs(60 + 30)));
        assert_eq!(grant.rules, None);
        for other in &signers {
            if other.algorithm != signer.algorithm {
                let refusal = check(&jwt, &other.sign(&good_claims()));
                assert_eq!(refusal.unwrap_err(), Refusal::TokenKey);
            }
        }
        // Signed by somebody else.
        let refusal = check(&jwt, &Signer::new(signer.algorithm).sign(&good_claims()));
        assert_eq!(
            refusal.unwrap_err(),
            Refusal::TokenSignature,
            "{:?}",
            signer.algorithm
        );
    }
}

/// RFC 8725, 2.1: the public key is no secret, and `none` is no signature.
#[test]
fn a_token_does_not_choose_how_it_is_verified() {
    for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
        let signer = Signer::new(algorithm);
        let jwt = jwt(JwtConfig::default(), vec![signer.key(None)]);
        let (pem, der) = (signer.public_pem(), signer.public_der());
        for secret in [pem.as_bytes(), pem.trim_end().as_bytes(), &der] {
            for (name, hash) in [("HS256", Algorithm::Hs256), ("HS512", Algorithm::Hs512)] {
                let forger = Signer::of_secret(hash, secret);
                let token = forger.sign_as(&json!({"alg": name}), &good_claims());
                assert_eq!(check(&jwt, &token).unwrap_err(), Refusal::TokenKey);
                // As if it were the algorithm of the key.
                let token = forger.sign_as(&json!({"alg": algorithm.name()}), &good_claims());
                assert_eq!(check(&jwt, &token).unwrap_err(), Refusal::TokenSignature);
            }
        }
        for none in ["none", "None", "NONE", "nOnE", ""] {
            let unsigned = |signature: &str| {
                let header = encode(&json!({"alg": none}));
                format!("{header}.{}.{signature}", encode(&good_claims()))
            };
            assert_eq!(check(&jwt, &unsigned("")).unwrap_err(), Refusal::TokenKey);
            assert_eq!(
                check(&jwt, &unsigned("AAAA")).unwrap_err(),
                Refusal::TokenKey
            );
        }
        let unsigned = format!(
            "{}.{}.",
            encode(&json!({"alg": algorithm.name()})),
            encode(&good_claims())
        );
        assert_eq!(check(&jwt, &unsigned).unwrap_err(), Refusal::TokenSignature);
    }
}

/// Rules of RFC 7515, and more than one way to write the same.
#[test]
fn anything_but_an_exact_token_is_rejected() {
    let signer = Signer::new(Algorithm::Es256);
    let jwt = jwt(JwtConfig::default(), vec![signer.key(Some("k1"))]);
    let good = signer.sign(&good_claims());
    assert!(check(&jwt, &good).is_ok());
    let parts: Vec<&str> = good.split('.').collect();
    let [header, payload, signature] = parts[..] else {
        panic!("{good}");
    };
    let other_last = |text: &str| {
        // Bits that stand for nothing.
        let last = text.as_bytes()[text.len() - 1];
        let position = ALPHABET.iter().position(|&c| c == last).unwrap();
        format!(
            "{}{}",
            &text[..text.len() - 1],
            ALPHABET[position ^ 1] as char
        )
    };
    let malformed = Refusal::TokenMalformed;
    for (token, expected) in [
        (String::new(), malformed),
        ("..".to_owned(), malformed),
        (format!("{header}.{payload}"), malformed),
        (format!("{good}.{signature}"), malformed),
        (format!("{good}."), malformed),
        (format!("{good}="), malformed),
        (format!("{good}\n"), malformed),
        (format!(" {good}"), malformed),
        (format!("{header}=.{payload}.{signature}"), malformed),
        (good.replace('.', ".."), malformed),
        (
            format!("{header}.{payload}.{}", other_last(signature)),
            malformed,
        ),
        (format!("{header}.{payload}.{}", &signature[1..]), malformed),
        (format!("{header}.{payload}.{}", "+".repeat(86)), malformed),
        (format!("{header}.{payload}."), Refusal::TokenSignature),
        (format!("{header}.{payload}.AAAA"), Refusal::TokenSignature),
        (
            format!("{header}.{}.{signature}", encode(&json!({"sub": "root"}))),
            Refusal::TokenSignature,
        ),
        (
            format!(
                "{}.{payload}.{signature}",
                encode(&json!({"alg": "ES256", "x": 1}))
            ),
            Refusal::TokenSignature,
        ),
        ("x".repeat(8193), malformed),
        (format!("{good}{}", "A".repeat(8192)), malformed),
    ] {
        assert_eq!(check(&jwt, &token).unwrap_err(), expected, "{token}");
    }
    // DER, as ECDSA has it elsewhere, is no signature of a JWS.
    let der = signer.sign_der(&good_claims());
    assert_eq!(check(&jwt, &der).unwrap_err(), Refusal::TokenSignature);
}

#[test]
fn malformed_headers_are_refused() {
    let signer = Signer::new(Algorithm::EdDsa);
    let jwt = jwt(JwtConfig::default(), vec![signer.key(Some("k1"))]);
    for (header, expected) in [
        (r#"{"alg":"EdDSA"}"#, Ok(())),
        (r#"{"alg":"Ed25519"}"#, Ok(())),
        (
            r#"{"alg":"EdDSA","kid":"k1","typ":"JWT","jku":"http://127.0.0.1:1/","x5u":"file:///etc/passwd"}"#,
            Ok(()),
        ),
        (r#"{"alg":"EdDSA","kid":"k2"}"#, Err(Refusal::TokenKey)),
        (r#"{"alg":"EdDSA","kid":""}"#, Err(Refusal::TokenKey)),
        (
            r#"{"alg":"EdDSA","kid":"../../etc/passwd"}"#,
            Err(Refusal::TokenKey),
        ),
        (
            r#"{"alg":"EdDSA","kid":"k1' OR '1'='1"}"#,
            Err(Refusal::TokenKey),
        ),
        (r#"{"alg":"EdDSA","kid":1}"#, Err(Refusal::TokenMalformed)),
        (
            r#"{"alg":"EdDSA","kid":null}"#,
            Err(Refusal::TokenMalformed),
        ),
        (
            r#"{"alg":"EdDSA","kid":["k1"]}"#,
            Err(Refusal::TokenMalformed),
        ),
        (
            r#"{"alg":"EdDSA","alg":"EdDSA"}"#,
            Err(Refusal::TokenMalformed),
        ),
        (
            r#"{"alg":"none","alg":"EdDSA"}"#,
            Err(Refusal::TokenMalformed),
        ),
        (r#"{"alg":"eddsa"}"#, Err(Refusal::TokenKey)),
        (r#"{"alg":["EdDSA"]}"#, Err(Refusal::TokenMalformed)),
        (r#"{"alg":null}"#, Err(Refusal::TokenMalformed)),
        (r#"{}"#, Err(Refusal::TokenMalformed)),
        (
            r#"{"alg":"EdDSA","crit":["exp"],"exp":1}"#,
            Err(Refusal::TokenMalformed),
        ),
        (r#"{"alg":"EdDSA","crit":[]}"#, Err(Refusal::TokenMalformed)),
        (
            r#"{"alg":"EdDSA","b64":false}"#,
            Err(Refusal::TokenMalformed),
        ),
        (r#"{"alg":"EdDSA"} x"#, Err(Refusal::TokenMalformed)),
        (r#"["EdDSA"]"#, Err(Refusal::TokenMalformed)),
    ] {
        let token = signer.sign_text(header, &good_claims().to_string());
        assert_eq!(check(&jwt, &token).map(|_| ()), expected, "{header}");
    }
}

fn encode(json: &Value) -> String {
    URL_SAFE_NO_PAD.encode(json.to_string())
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
