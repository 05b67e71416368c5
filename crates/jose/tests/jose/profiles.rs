//! Properties of all profiles, and what keys and errors show.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bartizan_base::Digest;
use bartizan_base::random::SeededRandom;
use bartizan_jose::*;
use bartizan_secret::Secret;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::support::*;

fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9:/._é -]{1,24}"
}

fn names() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(name(), 0..4)
}

fn audience() -> impl Strategy<Value = Audience> {
    prop_oneof![name().prop_map(Audience::One), prop::collection::vec(name(), 1..4).prop_map(Audience::Many)]
}

fn actor() -> impl Strategy<Value = Actor> {
    (name(), prop::option::of(name()), prop::option::of(name())).prop_map(|(sub, iss, client_id)| Actor {
        sub,
        iss,
        client_id,
    })
}

fn confirmation() -> impl Strategy<Value = Option<Confirmation>> {
    let digest = || any::<[u8; 32]>().prop_map(Digest::from_bytes);
    let (jkt, x5t) = (digest().prop_map(Jkt::from_digest), digest().prop_map(X5t::from_digest));
    (0..4, jkt, x5t).prop_map(|(kind, jkt, x5t)| match kind {
        0 => None,
        1 => Some(Confirmation::Key(jkt)),
        2 => Some(Confirmation::Certificate(x5t)),
        _ => Some(Confirmation::Both(jkt, x5t)),
    })
}

fn others() -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::btree_map(
        "x_[a-z]{1,6}",
        prop_oneof![Just(json!([1, {"a": "b"}])), name().prop_map(Value::from)],
        0..3,
    )
    .prop_map(|members| members.into_iter().collect())
}

prop_compose! {
    fn access_claims()(
        (iss, sub, aud) in (name(), name(), audience()),
        (client_id, jti, sid, acr) in (name(), name(), prop::option::of(name()), prop::option::of(name())),
        (amr, act, may_act) in (names(), prop::collection::vec(actor(), 0..=ACTORS_MAX), prop::option::of(actor())),
        (cnf, others) in (confirmation(), others()),
        scope in prop::option::of("([a-z:]{1,5}( [a-z:]{1,5}){0,3})?"),
        details in 0_usize..3,
        auth_time in prop::option::of(0_u64..1_800_000_000),
        not_before in prop::option::of(0_u64..1_800_000_000),
    ) -> AccessClaims {
        AccessClaims {
            aud,
            times: Times { not_before: not_before.map(bartizan_base::Timestamp::from_secs), ..times() },
            scope,
            acr,
            amr,
            auth_time: auth_time.map(bartizan_base::Timestamp::from_secs),
            sid,
            act,
            may_act,
            cnf,
            authorization_details: vec![json!({"type": "tool", "name": "x"}); details],
            others,
            ..AccessClaims::new(&iss, &sub, "", &client_id, &jti, times())
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_issued_is_read_back_the_same(claims in access_claims(), seed in any::<u64>(), edwards in any::<bool>()) {
        let key = key(if edwards { Algorithm::Ed25519 } else { Algorithm::Es256 }, seed);
        let token = issue(&key, &claims);
        let audience = claims.aud.iter().next().unwrap().to_owned();
        let rules = AccessRules { issuer: &claims.iss, audience: &audience, ..access_rules() };
        let read = check::<AccessClaims>(&token, &jwks(&[&key]), &rules).unwrap();
        prop_assert_eq!(read.claims(), &claims);
        prop_assert_eq!(read.signer(), key.thumbprint());
    }

    #[test]
    fn no_text_makes_a_reader_panic_or_pass(text in prop_oneof![
        "\\PC{0,80}",
        "[A-Za-z0-9_-]{0,60}(\\.[A-Za-z0-9_-]{0,60}){0,4}",
        ("[{}\\[\\]\",:a-z0-9 ]{0,60}", "[{}\\[\\]\",:a-z0-9 ]{0,60}", any::<[u8; 64]>())
            .prop_map(|(h, p, s)| format!("{}.{}.{}", b64(h), b64(p), b64(s))),
    ]) {
        let keys = jwks(&[&ed25519()]);
        for (_, read) in READERS {
            prop_assert!(read(&text, &keys).is_err());
        }
        drop(Jwks::parse(text.as_bytes()));
    }

    #[test]
    fn claim_sets_of_any_shape_signed_by_the_right_key_are_read_or_refused(
        name in prop::sample::select(vec!["iss", "sub", "aud", "exp", "iat", "nbf", "act", "cnf", "scope", "amr", "events", "may_act", "authorization_details", "resource", "sub_id", "nonce"]),
        value in arbitrary_json(),
    ) {
        let key = testing::ForeignKey::ed25519("k", &SeededRandom::new(3)).unwrap();
        let keys = Jwks::parse(json!({"keys": [key.public_jwk()]}).to_string().as_bytes()).unwrap();
        for ((kind, token), (_, read)) in tokens(&ed25519()).into_iter().zip(READERS) {
            let (mut header, mut claims) = opened(&token);
            if kind != "proof" {
                header["kid"] = json!("k");
            }
            claims[name] = value.clone();
            let text = key.sign_with(&header, &claims).unwrap_or_default();
            prop_assert!(catch_unwind(AssertUnwindSafe(|| read(&text, &keys).is_ok())).is_ok());
        }
    }
}

fn arbitrary_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("(sub|act|jkt|x5t#S256|type|[a-z])", inner, 0..4)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

#[test]
fn any_flipped_bit_of_any_token_is_refused() {
    for algorithm in [Algorithm::Ed25519, Algorithm::Es256] {
        let key = key(algorithm, 11);
        let keys = jwks(&[&key]);
        for ((_, good), (kind, read)) in tokens(&key).into_iter().zip(READERS) {
            assert_eq!(read(&good, &keys), Ok(()));
            for at in 0..good.len() * 8 {
                let mut bytes = good.clone().into_bytes();
                bytes[at / 8] ^= 1 << (at % 8);
                let Ok(bad) = String::from_utf8(bytes) else { continue };
                assert!(read(&bad, &keys).is_err(), "{kind}: bit {at} of {good}");
            }
        }
    }
}

#[test]
fn every_profile_is_read_by_its_own_reader_under_keys_of_both_algorithms() {
    for key in [ed25519(), key(Algorithm::Es256, 2)] {
        let keys = jwks(&[&key]);
        for ((kind, token), (reader, read)) in tokens(&key).into_iter().zip(READERS) {
            assert_eq!((kind, read(&token, &keys)), (*reader, Ok(())));
        }
    }
}

#[test]
fn claims_that_no_reader_would_take_are_not_issued() {
    let key = ed25519();
    let refused = |claims: AccessClaims| key.issue(&claims).unwrap_err();
    let incomplete = IssueError::Claims(TokenError::Claim("jti"));
    assert_eq!(refused(AccessClaims { jti: None, ..access() }), incomplete);
    assert_eq!(
        refused(AccessClaims { sub: String::new(), ..access() }),
        IssueError::Claims(TokenError::Claim("sub"))
    );
    let long = AccessClaims { act: vec![Actor::named("a"); ACTORS_MAX + 1], ..access() };
    assert_eq!(refused(long), IssueError::Claims(TokenError::ChainTooLong));
    let big = json!({"x": "x".repeat(7_000)}).as_object().cloned().unwrap();
    assert_eq!(refused(AccessClaims { others: big, ..access() }), IssueError::TooLong);
    // Claims of the profile cannot be slipped in among the others, where they are not checked.
    for (name, value) in [
        ("act", json!({"sub": "x"})),
        ("cnf", json!({"jkt": key.kid()})),
        ("iss", json!("x")),
        ("nbf", json!(1)),
    ] {
        let others = json!({name: value}).as_object().cloned().unwrap();
        assert_eq!(refused(AccessClaims { others, ..access() }), IssueError::Shadowed, "{name}");
    }
    let events = json!({"events": {}}).as_object().cloned().unwrap();
    assert!(key.issue(&IdClaims { others: events, ..id() }).is_err());
}

#[test]
fn keys_come_from_their_private_part_and_neither_keys_nor_errors_show_it() {
    for algorithm in [Algorithm::Ed25519, Algorithm::Es256] {
        let key = key(algorithm, 21);
        let again = SigningKey::from_private(algorithm, key.private().clone()).unwrap();
        assert_eq!(again.public(), key.public());
        assert_eq!(again.kid(), key.thumbprint().to_string());
        let shown = format!("{key:?} {:?} {:?}", key.private(), key.public());
        let secret = key.private().expose();
        for form in [b64(secret), Digest::from_bytes(*secret).to_string(), format!("{secret:?}")] {
            assert!(!shown.contains(&form), "{shown}");
        }
        assert!(["d", "k"].iter().all(|name| key.public().to_json().get(name).is_none()));
    }
    for algorithm in [Algorithm::Rs256, Algorithm::Ps256] {
        assert_eq!(SigningKey::generate(algorithm, &SeededRandom::new(1)).unwrap_err(), KeyError::VerifyOnly);
    }
    for bytes in [[0; 32], [0xff; 32]] {
        let error = SigningKey::from_private(Algorithm::Es256, Secret::new(bytes)).unwrap_err();
        assert_eq!(error, KeyError::Unusable, "no scalar of the curve");
    }
    let errors = [
        TokenError::Issuer.to_string(),
        check_access("secret.secret.secret", &jwks(&[&ed25519()])).unwrap_err().to_string(),
        check_access(&issue(&key(Algorithm::Ed25519, 8), &access()), &jwks(&[&ed25519()]))
            .unwrap_err()
            .to_string(),
    ];
    assert!(errors.iter().all(|e| !e.contains("secret") && !e.contains("alice")), "{errors:?}");
}

#[test]
fn a_set_is_published_and_read_back_by_others_under_thumbprints() {
    let (ed, ec) = (ed25519(), key(Algorithm::Es256, 2));
    let set = Jwks::of([ed.public().clone(), ec.public().clone()]).unwrap();
    let read = Jwks::parse(set.to_json().to_string().as_bytes()).unwrap();
    for key in [&ed, &ec] {
        let found = read.find(Some(key.kid())).unwrap();
        assert_eq!((found, found.thumbprint().to_string().as_str()), (key.public(), key.kid()));
    }
    assert_eq!(set.to_json()["keys"][0]["alg"], "Ed25519");
    assert_eq!(set.to_json()["keys"][0]["use"], "sig");
    assert!(matches!(Jwks::of([ed.public().clone(), ed.public().clone()]), Err(JwkError::Duplicate(_))));
}
