//! Any bytes as a token, and any claims and header in a token that is signed: nothing panics, nothing is proven
//! without the key, there is one way only to write a token, and what is granted has a name and an end.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use ringmq::auth::jwt::{
    Algorithm, Jwt, JwtConfig, Key, LocalKey, Shower, Token, is_like_a_token, read_set,
};

const SECRET: &[u8] = b"the secret of a fuzz target, 32 b";
const TIME: Duration = Duration::from_secs(1_700_000_000);

static JWT: LazyLock<Jwt> = LazyLock::new(|| {
    let key = Key::read(Algorithm::Hs256, Some("k"), SECRET).expect("it is long enough");
    let local = LocalKey {
        key,
        fingerprint: 1,
    };
    Jwt::new(JwtConfig::default(), vec![local], Vec::new())
});

fuzz_target!(|input: &[u8]| {
    let shower = Shower {
        client_id: "c",
        user_name: None,
    };
    let _ = is_like_a_token(input);
    if let Ok(token) = Token::parse(input, 8192) {
        let _ = token.claims();
        assert_eq!(input.iter().filter(|&&byte| byte == b'.').count(), 2);
    }
    assert!(
        JWT.check(input, shower, TIME).is_err(),
        "nobody guesses a signature"
    );
    if let Ok(keys) = read_set(input, false) {
        assert!(
            keys.iter()
                .all(|(key, _)| !key.algorithm.name().starts_with("HS"))
        );
    }
    // A header and claims, cut at the first zero.
    let mut parts = input.splitn(2, |&byte| byte == 0);
    let (Some(header), Some(claims)) = (parts.next(), parts.next()) else {
        return;
    };
    let text = sign(header, claims);
    if let Ok((grant, issuer)) = JWT.check(text.as_bytes(), shower, TIME) {
        assert_eq!(issuer, 1);
        assert!(!grant.user.is_empty());
        assert!(grant.lasts.is_some_and(|lasts| !lasts.is_zero()));
        // Any other spelling of it is none.
        for other in [
            format!("{text}="),
            format!("{text}."),
            format!(" {text}"),
            format!("{text}A"),
        ] {
            assert!(JWT.check(other.as_bytes(), shower, TIME).is_err());
        }
    }
});

fn sign(header: &[u8], claims: &[u8]) -> String {
    let (header, claims) = (
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims),
    );
    let signed = format!("{header}.{claims}");
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let signature = hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}
