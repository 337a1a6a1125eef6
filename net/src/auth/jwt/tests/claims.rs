//! What tokens say.

use super::*;

/// A broker with demands, and who signs for it.
fn strict() -> (Jwt, Signer, Value) {
    let signer = Signer::new(Algorithm::Hs256);
    let demands = Demands {
        issuers: vec!["one".to_owned(), "two".to_owned()],
        audiences: vec!["mqtt".to_owned()],
        ..Demands::default()
    };
    let config = JwtConfig {
        demands,
        ..JwtConfig::default()
    };
    let good = json!({"sub": "alice", "exp": NOW + 60, "iss": "one", "aud": "mqtt"});
    (jwt(config, vec![signer.key(None)]), signer, good)
}

fn check_rows(rows: &[(&str, Value, Result<(), Refusal>)]) {
    let (jwt, signer, good) = strict();
    for (name, value, expected) in rows {
        let mut some = good.clone();
        some[*name] = value.clone();
        let checked = check(&jwt, &signer.sign(&some)).map(|_| ());
        assert_eq!(checked, *expected, "{name}: {value}");
    }
}

/// What is no date is not a date that is missing (threat 78) (threat 81).
#[test]
fn dates_are_formatted_correctly() {
    let (claims, expired) = (Err(Refusal::TokenClaims), Err(Refusal::TokenExpired));
    check_rows(&[
        ("exp", json!(NOW + 1), Ok(())),
        ("exp", json!(NOW - 29), Ok(())),
        ("exp", json!(NOW - 30), expired),
        ("exp", json!(0), expired),
        ("exp", json!("1"), claims),
        ("exp", json!((NOW + 60).to_string()), claims),
        ("exp", json!(null), claims),
        ("exp", json!(-1), claims),
        ("exp", json!(NOW as f64 + 60.5), Ok(())),
        ("exp", json!(NOW as f64 - 29.5), Ok(())),
        ("exp", json!(NOW as f64 - 30.5), expired),
        ("exp", json!(-0.5), claims),
        ("exp", json!(1e300), claims),
        ("exp", json!(u64::MAX), claims),
        ("exp", json!(253_402_300_799_u64), Ok(())),
        ("exp", json!([NOW + 60]), claims),
        ("exp", json!({}), claims),
        ("exp", json!(true), claims),
        ("nbf", json!(NOW), Ok(())),
        ("nbf", json!(NOW + 30), Ok(())),
        ("nbf", json!(NOW + 31), claims),
        ("nbf", json!("0"), claims),
        ("nbf", json!(null), claims),
        ("nbf", json!(-1), claims),
        ("iat", json!(NOW - 1_000_000), Ok(())),
        ("iat", json!(NOW + 31), claims),
        ("iat", json!("now"), claims),
        ("iat", json!(1.5), Ok(())),
        ("iat", json!(NOW as f64 + 30.5), claims),
    ]);
}

#[test]
fn user_names_are_checked() {
    let claims = Err(Refusal::TokenClaims);
    check_rows(&[
        ("iss", json!("two"), Ok(())),
        ("iss", json!("three"), claims),
        ("iss", json!("One"), claims),
        ("iss", json!(["one"]), claims),
        ("iss", json!(null), claims),
        ("aud", json!(["x", "mqtt"]), Ok(())),
        ("aud", json!(["mqtt", 1]), Ok(())),
        ("aud", json!("mqtt2"), claims),
        ("aud", json!(["x"]), claims),
        ("aud", json!([]), claims),
        ("aud", json!({"mqtt": 1}), claims),
        ("aud", json!(null), claims),
        ("sub", json!("Ödön 1/+#"), Ok(())),
        ("sub", json!(""), claims),
        ("sub", json!("a\0b"), claims),
        ("sub", json!(1), claims),
        ("sub", json!(null), claims),
        (
            "sub",
            json!("x".repeat(70_000)),
            Err(Refusal::TokenMalformed),
        ),
        ("jti", json!({"any": ["thing"]}), Ok(())),
    ]);
}

#[test]
fn missing_or_duplicate_claims_invalidate_a_token() {
    let (jwt, signer, good) = strict();
    for name in ["sub", "exp", "iss", "aud"] {
        let mut some = good.clone();
        some.as_object_mut().unwrap().remove(name);
        assert_eq!(
            check(&jwt, &signer.sign(&some)).unwrap_err(),
            Refusal::TokenClaims,
            "no {name}"
        );
    }
    for text in [
        r#"{"sub":"alice","sub":"alice","exp":1700000060,"iss":"one","aud":"mqtt"}"#,
        r#"{"sub":"alice","exp":1,"exp":1700000060,"iss":"one","aud":"mqtt"}"#,
        r#"{"sub":"alice","exp":1e400,"iss":"one","aud":"mqtt"}"#,
        r#"{"sub":"alice","exp":1700000060,"iss":"one","aud":"mqtt"}}"#,
        r#"["alice"]"#,
        "",
    ] {
        let token = signer.sign_text(r#"{"alg":"HS256"}"#, text);
        assert_eq!(
            check(&jwt, &token).unwrap_err(),
            Refusal::TokenMalformed,
            "{text}"
        );
    }
}

#[test]
fn a_token_for_others_is_rejected_and_one_without_expiry_accepted_only_if_configured() {
    let signer = Signer::new(Algorithm::Hs256);
    let check_with = |demands: Demands, claims: &Value| {
        let config = JwtConfig {
            demands,
            ..JwtConfig::default()
        };
        check(&jwt(config, vec![signer.key(None)]), &signer.sign(claims))
    };
    let named = json!({"sub": "alice", "exp": NOW + 60, "aud": "others", "iss": "any"});
    let refused = check_with(Demands::default(), &named);
    assert_eq!(refused.unwrap_err(), Refusal::TokenClaims);
    let endless = json!({"sub": "alice"});
    let refused = check_with(Demands::default(), &endless);
    assert_eq!(refused.unwrap_err(), Refusal::TokenClaims);
    let lax = Demands {
        expiry_required: false,
        leeway: Duration::ZERO,
        ..Demands::default()
    };
    assert_eq!(check_with(lax.clone(), &endless).unwrap().0.lasts, None);
    for (exp, expected) in [
        (json!(NOW + 1), Ok(())),
        (json!(NOW), Err(Refusal::TokenExpired)),
        (json!(null), Err(Refusal::TokenClaims)),
    ] {
        let claims = json!({"sub": "alice", "exp": exp});
        assert_eq!(
            check_with(lax.clone(), &claims).map(|_| ()),
            expected,
            "{exp}"
        );
    }
}

#[test]
fn a_token_is_for_its_user_and_client() {
    let signer = Signer::new(Algorithm::Hs256);
    let demands = |user: &str, client_id: &str, user_name_checked| Demands {
        user: Claim(user.to_owned()),
        client_id: Claim(client_id.to_owned()),
        user_name_checked,
        ..Demands::default()
    };
    let claims = json!({
        "sub": "alice", "exp": NOW + 60, "device": "c1", "empty": "", "number": 1,
        "mqtt": {"user": "bob", "a/b": "carol"}, "https://x/y": "dave",
    });
    let token = signer.sign(&claims);
    let (client, none) = (Err(Refusal::TokenClient), Err(Refusal::TokenClaims));
    for (demands, client_id, user_name, expected) in [
        (demands("sub", "", true), "any", None, Ok("alice")),
        (demands("sub", "", true), "", Some(""), Ok("alice")),
        (demands("sub", "", true), "any", Some("alice"), Ok("alice")),
        (demands("sub", "", true), "any", Some("bob"), client),
        (demands("sub", "", true), "any", Some("Alice"), client),
        (demands("sub", "", false), "any", Some("bob"), Ok("alice")),
        (demands("sub", "device", true), "c1", None, Ok("alice")),
        (demands("sub", "device", true), "c2", None, client),
        (demands("sub", "device", true), "", None, client),
        (demands("sub", "empty", true), "", None, client),
        (demands("sub", "number", true), "1", None, client),
        (demands("sub", "missing", true), "c1", None, client),
        (
            demands("/mqtt/user", "", true),
            "c1",
            Some("bob"),
            Ok("bob"),
        ),
        (demands("/mqtt/a~1b", "", true), "c1", None, Ok("carol")),
        (demands("https://x/y", "", true), "c1", None, Ok("dave")),
        (demands("mqtt", "", true), "c1", None, none),
        (demands("/mqtt/none", "", true), "c1", None, none),
        (demands("/sub/x", "", true), "c1", None, none),
        (demands("", "", true), "c1", None, none),
        (demands("/", "", true), "c1", None, none),
    ] {
        let config = JwtConfig {
            demands: demands.clone(),
            ..JwtConfig::default()
        };
        let jwt = jwt(config, vec![signer.key(None)]);
        let checked = check_shown(&jwt, &token, client_id, user_name);
        let user = checked.as_ref().map(|(grant, _)| &*grant.user);
        assert_eq!(user, expected.as_deref(), "{demands:?} {client_id}");
    }
}

#[test]
fn rules_are_valid_as_a_whole_or_the_token_is_rejected() {
    let signer = Signer::new(Algorithm::Hs256);
    let jwt = jwt(JwtConfig::default(), vec![signer.key(None)]);
    for (acl, expected) in [
        (json!({}), Some(Some(0))),
        (json!({"publish": []}), Some(Some(0))),
        (
            json!({"publish": ["a/#", "b/%c"], "subscribe": "c/+", "deny": ["d"], "deny_publish": ["e"], "deny_subscribe": ["f"]}),
            Some(Some(6)),
        ),
        // What another broker reads, slips of the pen, nothing at all: meant to bound somebody, and
        // not understood.
        (json!({"other": ["#"]}), None),
        (json!({"pub": ["a"], "sub": ["a"]}), None),
        (json!({"Publish": ["a"]}), None),
        (json!({"publish": ["a/#"], "Deny": ["a/b"]}), None),
        (
            json!([{"permission": "allow", "action": "publish", "topic": "a"}]),
            None,
        ),
        (json!(["#"]), None),
        (json!("publish"), None),
        (json!(null), None),
        (json!({"publish": null}), None),
        (json!({"publish": 1}), None),
        (json!({"publish": {"a": 1}}), None),
        (json!({"publish": ["a", 1]}), None),
        (json!({"publish": ["a/#/b"]}), None),
        (json!({"deny": ["a+"]}), None),
        (json!({"subscribe": [""]}), None),
        (json!({"subscribe": "a\0"}), None),
        // Rules are about the topics of a shared subscription.
        (json!({"subscribe": ["$share/g/a"]}), None),
    ] {
        let mut claims = good_claims();
        claims["acl"] = acl.clone();
        let checked = check(&jwt, &signer.sign(&claims));
        let count = checked
            .ok()
            .map(|(grant, _)| grant.rules.map(|rules| rules.len()));
        assert_eq!(count, expected, "{acl}");
    }
}

#[test]
fn an_object_of_rules_has_no_unknown_members() {
    let signer = Signer::new(Algorithm::Hs256);
    let config = JwtConfig {
        demands: Demands {
            user: Claim("/mqtt/user".to_owned()),
            publish: Claim("/mqtt/may/publish".to_owned()),
            subscribe: Claim("subscribe".to_owned()),
            deny: Claim("/mqtt/never".to_owned()),
            deny_publish: Claim(String::new()),
            ..Demands::default()
        },
        ..JwtConfig::default()
    };
    let jwt = jwt(config, vec![signer.key(None)]);
    for (mqtt, expected) in [
        (json!({"user": "a"}), Some(0)),
        (json!({"user": "a", "may": {"publish": ["x"]}}), Some(1)),
        (
            json!({"user": "a", "may": {"publish": ["x"]}, "never": "y"}),
            Some(2),
        ),
        (json!({"user": "a", "may": {}}), Some(0)),
        (json!({"user": "a", "may": ["x"]}), None),
        (
            json!({"user": "a", "may": {"publish": ["x"], "more": 1}}),
            None,
        ),
        (json!({"user": "a", "more": 1}), None),
    ] {
        let claims = json!({"exp": NOW + 60, "others": {"acl": 1}, "mqtt": mqtt});
        let checked = check(&jwt, &signer.sign(&claims));
        let count = checked
            .ok()
            .map(|(grant, _)| grant.rules.map_or(0, |r| r.len()));
        assert_eq!(count, expected, "{claims}");
    }
    assert!(
        check(&jwt, &signer.sign(&good_claims())).is_err(),
        "no user"
    );
}
