//! Where tokens are looked for.

use super::*;

fn request(
    user_name: Option<&str>,
    password: Option<&str>,
    exchange: Option<(&str, &str)>,
) -> AuthRequest {
    AuthRequest {
        conn: ConnId {
            index: 0,
            generation: 0,
        },
        peer: Default::default(),
        version: Version::V5,
        client_id: "c1".into(),
        user_name: user_name.map(Into::into),
        password: password.map(|text| text.as_bytes().into()),
        exchange: exchange.map(|(method, data)| Exchange {
            method: method.into(),
            data: data.as_bytes().into(),
        }),
        known: None,
        deadline: Instant::ZERO,
    }
}

#[test]
fn what_does_not_look_like_a_token_is_left_to_other_authenticators() {
    let signer = Signer::new(Algorithm::Hs256);
    let by_password = jwt(JwtConfig::default(), vec![signer.key(None)]);
    let by_name = JwtConfig {
        field: TokenField::UserName,
        ..JwtConfig::default()
    };
    let by_name = jwt(by_name, vec![signer.key(None)]);
    let token = &*signer.sign(&json!({"sub": "alice", "exp": 4_000_000_000_u64}));
    let wrong = &*format!("{token}A");
    let (yes, no) = (Some(true), Some(false));
    for (jwt, request, expected) in [
        (&by_password, request(Some("alice"), Some(token), None), yes),
        (&by_password, request(None, Some(token), None), yes),
        (&by_password, request(Some("bob"), Some(token), None), no),
        (&by_password, request(Some("alice"), Some(wrong), None), no),
        (
            &by_password,
            request(Some("alice"), Some("secret"), None),
            None,
        ),
        (
            &by_password,
            request(Some("alice"), Some("a.b.c"), None),
            None,
        ),
        (
            &by_password,
            request(Some("alice"), Some("eyJ.a.b"), None),
            no,
        ),
        (&by_password, request(Some("alice"), None, None), None),
        (&by_password, request(Some(token), None, None), None),
        (&by_name, request(Some(token), None, None), yes),
        (&by_name, request(Some(token), Some("x"), None), yes),
        (&by_name, request(Some("alice"), Some(token), None), None),
        (&by_name, request(None, Some(token), None), None),
        (
            &by_password,
            request(None, None, Some((METHOD, token))),
            yes,
        ),
        (
            &by_name,
            request(Some("alice"), None, Some((METHOD, token))),
            yes,
        ),
        (
            &by_name,
            request(Some("bob"), None, Some((METHOD, token))),
            no,
        ),
        (
            &by_password,
            request(None, None, Some((METHOD, "secret"))),
            no,
        ),
        (&by_password, request(None, None, Some((METHOD, ""))), no),
        (
            &by_password,
            request(None, Some(token), Some(("jwt", token))),
            None,
        ),
    ] {
        let verdict = jwt.judge(&request);
        let is_granted = verdict.as_ref().map(|v| matches!(v, Verdict::Granted(_)));
        assert_eq!(is_granted, expected, "{request:?}");
    }
    let Some(Verdict::Granted(identity)) = by_password.judge(&request(None, Some(token), None))
    else {
        panic!("it was let in");
    };
    assert_eq!(identity.proof, Proof::Token { issuer: 1 });
    assert!(identity.expires_at.is_some_and(|at| at > clock()));
}

#[test]
fn secrets_and_tokens_are_never_logged() {
    let signer = Signer::of_secret(Algorithm::Hs256, b"a secret of thirty-two bytes, ok!");
    let jwt = jwt(JwtConfig::default(), vec![signer.key(None)]);
    assert!(!format!("{jwt:?}").contains("secret"));
    let shown = request(None, Some("eyJ.secret.x"), Some((METHOD, "eyJ.secret.x")));
    assert!(!format!("{shown:?} {:?}", shown.exchange).contains("secret"));
}

/// Fault T21: the end of a connection is a span from the moment when its token was judged, by a
/// clock that nobody sets. What the time of day does later concerns only tokens that are shown
/// then.
#[test]
fn the_time_of_day_counts_while_a_token_is_judged_and_not_after() {
    let signer = Signer::new(Algorithm::Hs256);
    let jwt = jwt(JwtConfig::default(), vec![signer.key(None)]);
    let token = signer.sign(&good_claims());
    let leeway = JwtConfig::default().demands.leeway;
    let end_at = |booted_s: u64, time: u64| {
        let now = Instant::ZERO + Duration::from_secs(booted_s);
        let shower = Shower {
            client_id: "c1",
            user_name: None,
        };
        match jwt.decide_at(now, Duration::from_secs(time), token.as_bytes(), shower) {
            Verdict::Granted(identity) => identity.expires_at,
            Verdict::Denied(_) | Verdict::Unavailable => None,
        }
    };
    const YEAR: u64 = 365 * 24 * 3600;
    let after = |booted_s: u64, span: u64| {
        Some(Instant::ZERO + Duration::from_secs(booted_s + span) + leeway)
    };
    for (booted_s, time, expected) in [
        (1000, NOW, after(1000, 60)),
        (5000, NOW, after(5000, 60)),
        (1000, NOW + 59, after(1000, 1)),
        // The clock of the machine was set.
        (1000, NOW + YEAR, None),
        (1000, NOW - YEAR, after(1000, YEAR + 60)),
    ] {
        assert_eq!(end_at(booted_s, time), expected, "{booted_s} {time}");
    }
}
