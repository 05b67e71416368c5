//! Attacks 22 to 30 of the catalogue: the token's form, its algorithm, its keys, its times.

use bartizan_jose::testing::ForeignKey;
use bartizan_jose::*;
use serde_json::{Value, json};

use crate::support::*;

fn payload() -> Value {
    opened(&issue(&ed25519(), &access())).1
}

fn header(key: &SigningKey) -> Value {
    json!({"alg": key.algorithm().name(), "typ": "at+jwt", "kid": key.kid()})
}

/// The good token's claims, changed and signed anew by its own key, under its own header.
fn resigned(change: impl FnOnce(&mut Value)) -> Result<Verified<AccessClaims>, TokenError> {
    let random = bartizan_base::random::SeededRandom::new(7);
    let key = ForeignKey::ed25519("k", &random).unwrap();
    let keys = Jwks::parse(json!({"keys": [key.public_jwk()]}).to_string().as_bytes()).unwrap();
    let mut claims = payload();
    change(&mut claims);
    check_access(&key.sign("at+jwt", &claims).unwrap(), &keys)
}

#[test]
fn attack_22_no_algorithm_no_signature_and_an_empty_secret_are_refused() {
    let key = ed25519();
    let keys = jwks(&[&key]);
    for alg in ["none", "None", "NONE", "nOnE", "", "HS256", "HS512"] {
        let head = json!({"alg": alg, "typ": "at+jwt", "kid": key.kid()});
        for signature in [&[][..], &[0; 64]] {
            let error = check_access(&forged(&head, &payload(), signature), &keys).unwrap_err();
            assert_eq!(error, JwsError::Algorithm.into(), "{alg}");
        }
    }
    let mut head = header(&key);
    assert_eq!(check_access(&forged(&head, &payload(), &[]), &keys).unwrap_err(), JwsError::Signature.into());
    head.as_object_mut().unwrap().remove("alg");
    assert_eq!(check_access(&forged(&head, &payload(), &[]), &keys).unwrap_err(), JwsError::Algorithm.into());
    assert_eq!(Algorithm::named("none"), None);
    assert!(Algorithm::ALL.iter().all(|a| !a.name().eq_ignore_ascii_case("none")));
}

#[test]
fn attack_23_the_algorithm_is_the_keys_and_never_the_headers() {
    let (ed, ec) = (ed25519(), key(Algorithm::Es256, 2));
    let keys = jwks(&[&ed, &ec]);
    for (key, others) in
        [(&ed, ["ES256", "RS256", "PS256", "HS256"]), (&ec, ["EdDSA", "Ed25519", "RS256", "HS256"])]
    {
        for alg in others {
            // The key's own signature, so that only the name of the algorithm is wrong.
            let token = issue(key, &access());
            let (mut head, claims) = opened(&token);
            head["alg"] = json!(alg);
            let signature = unb64(token.rsplit('.').next().unwrap());
            let error = check_access(&forged(&head, &claims, &signature), &keys).unwrap_err();
            assert_eq!(error, JwsError::Algorithm.into(), "{alg}");
        }
    }
    // The public key as the secret of a MAC: the classic.
    let secret = aws_lc_rs::hmac::Key::new(
        aws_lc_rs::hmac::HMAC_SHA256,
        &unb64(ed.public().to_json()["x"].as_str().unwrap()),
    );
    let head = json!({"alg": "HS256", "typ": "at+jwt", "kid": ed.kid()});
    let signed = format!("{}.{}", b64(head.to_string()), b64(payload().to_string()));
    let token = format!("{signed}.{}", b64(aws_lc_rs::hmac::sign(&secret, signed.as_bytes())));
    assert_eq!(check_access(&token, &keys).unwrap_err(), JwsError::Algorithm.into());
    // EdDSA is Ed25519 here; keys of other curves are not taken, so that the old name cannot mean them.
    for crv in ["Ed448", "X25519", "X448"] {
        let set = json!({"keys": [{"kty": "OKP", "crv": crv, "x": b64([9; 32]), "alg": "EdDSA"}]});
        assert!(Jwks::parse(set.to_string().as_bytes()).unwrap().is_empty(), "{crv}");
    }
}

#[test]
fn attack_24_a_key_id_is_only_a_name_of_a_known_key() {
    let key = ed25519();
    let keys = jwks(&[&key]);
    for kid in
        ["../../dev/null", "' OR 1=1 --", "a\r\nb", "", &key.kid().to_ascii_lowercase(), &"k".repeat(128)]
    {
        let mut head = header(&key);
        head["kid"] = json!(kid);
        assert_eq!(
            check_access(&forged(&head, &payload(), &[1; 64]), &keys).unwrap_err(),
            JwsError::UnknownKey.into()
        );
    }
    for kid in [json!("k".repeat(129)), json!(7), json!(["a"]), json!(null), json!({"a": 1})] {
        let mut head = header(&key);
        head["kid"] = kid;
        assert_eq!(
            check_access(&forged(&head, &payload(), &[1; 64]), &keys).unwrap_err(),
            JwsError::Header.into()
        );
    }
    let mut head = header(&key);
    head["kid"] = json!("k".repeat(10_000));
    assert_eq!(
        check_access(&forged(&head, &payload(), &[1; 64]), &keys).unwrap_err(),
        JwsError::Shape.into()
    );
    // Without an id there is a choice only where there is no choice.
    let second = crate::support::key(Algorithm::Ed25519, 2);
    let mut head = header(&key);
    head.as_object_mut().unwrap().remove("kid");
    let token = forged(&head, &payload(), &[1; 64]);
    assert_eq!(check_access(&token, &jwks(&[&key, &second])).unwrap_err(), JwsError::UnknownKey.into());
    assert_eq!(check_access(&token, &keys).unwrap_err(), JwsError::Signature.into());
}

#[test]
fn attack_25_keys_and_addresses_of_keys_in_the_header_and_critical_extensions_are_refused() {
    let (key, evil) = (ed25519(), crate::support::key(Algorithm::Ed25519, 666));
    let keys = jwks(&[&key]);
    let evil_set = json!({"keys": [evil.public().to_json()]});
    for (name, value) in [
        ("jwk", evil.public().to_json()),
        ("jku", json!("https://evil.example/jwks")),
        ("x5u", json!("https://evil.example/cert")),
        ("x5c", json!(["AAAA"])),
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("enc", json!("A128GCM")),
    ] {
        let mut head = header(&evil);
        head[name] = value;
        let error = check_access(&forged(&head, &payload(), &[1; 64]), &keys).unwrap_err();
        assert_eq!(error, JwsError::Header.into(), "{name}");
    }
    assert!(check_access(&issue(&evil, &access()), &keys).is_err());
    assert!(Jwks::parse(evil_set.to_string().as_bytes()).is_ok());
}

#[test]
fn attack_26_a_token_of_one_profile_is_refused_by_every_other_also_when_it_lies_about_its_type() {
    let random = bartizan_base::random::SeededRandom::new(3);
    let key = ForeignKey::ed25519("k", &random).unwrap();
    let keys = Jwks::parse(json!({"keys": [key.public_jwk()]}).to_string().as_bytes()).unwrap();
    let own = ed25519();
    let own_keys = jwks(&[&own]);
    for (kind, token) in tokens(&own) {
        for (reader, read) in READERS {
            assert_eq!(read(&token, &own_keys).is_ok(), *reader == kind, "{kind} read as {reader}");
        }
        // The claims of one under the type of another, signed by a key that is trusted for all: only types that are not explicit
        // can be borrowed, and then the claims tell them apart. Of access tokens and grants only audience and nonce do, as
        // without types they are what ID tokens are.
        let claims = opened(&token).1;
        for typ in [Some("JWT"), Some("jwt"), Some("application/JWT"), Some(""), None] {
            let mut head = json!({"alg": "EdDSA", "kid": "k"});
            if let Some(typ) = typ {
                head["typ"] = json!(typ);
            }
            let untyped = key.sign_with(&head, &claims).unwrap();
            for (reader, read) in READERS.iter().filter(|(reader, _)| *reader != kind) {
                let excused = *reader == "workload" && matches!(kind, "access" | "id-jag");
                assert!(excused || read(&untyped, &keys).is_err(), "{kind} as {typ:?} read as {reader}");
            }
        }
    }
    // Types are media types: in any case, with or without their prefix.
    for typ in ["AT+JWT", "application/at+jwt", "Application/At+Jwt"] {
        assert!(check_access(&key.sign(typ, &payload()).unwrap(), &keys).is_ok(), "{typ}");
    }
    for typ in ["at", "at+jwt ", "text/at+jwt", "application/", "application/application/at+jwt", "JWT"] {
        assert_eq!(
            check_access(&key.sign(typ, &payload()).unwrap(), &keys).unwrap_err(),
            TokenError::Type,
            "{typ}"
        );
    }
}

#[test]
fn attack_40_a_token_for_one_audience_or_of_one_issuer_is_refused_at_another() {
    let key = ed25519();
    let keys = jwks(&[&key]);
    let token = issue(&key, &access());
    let at = |issuer, audience| {
        check::<AccessClaims>(&token, &keys, &AccessRules { issuer, audience, ..access_rules() }).map(drop)
    };
    assert_eq!(at(ISSUER, AUDIENCE), Ok(()));
    for audience in [
        "https://ai.example",
        "https://ai.example/mcp/",
        "https://ai.example/mcp2",
        "https://AI.example/mcp",
        "",
    ] {
        assert_eq!(at(ISSUER, audience), Err(TokenError::Audience), "{audience}");
    }
    for issuer in ["https://as.example/", "https://as.example.evil.example", "https://AS.example", ""] {
        assert_eq!(at(issuer, AUDIENCE), Err(TokenError::Issuer), "{issuer}");
    }
}

#[test]
fn attack_27_members_that_stand_twice_wrong_types_deep_nesting_and_huge_tokens_are_refused_before_cryptography()
 {
    for (name, bad) in [
        ("iss", json!(["https://as.example"])),
        ("sub", json!(null)),
        ("sub", json!("")),
        ("sub", json!("al\u{0}ice")),
        ("sub", json!("a".repeat(3_000))),
        ("aud", json!(7)),
        ("aud", json!([])),
        ("aud", json!([AUDIENCE, 7])),
        ("aud", json!({"a": AUDIENCE})),
        ("aud", json!(vec![AUDIENCE; 33])),
        ("exp", json!(-1)),
        ("exp", json!("1800000280")),
        ("exp", json!(1_800_000_280.5)),
        ("exp", json!(1e300)),
        ("exp", json!(u64::MAX)),
        ("exp", json!(253_402_300_800_u64)),
        ("iat", json!(-5)),
        ("nbf", json!(true)),
        ("scope", json!(["a", "b"])),
        ("scope", json!("a  b")),
        ("scope", json!("a\"b")),
        ("amr", json!("pwd")),
        ("cnf", json!({})),
        ("cnf", json!({"jkt": "short"})),
        ("cnf", json!({"jwk": {}})),
        ("cnf", json!({"jkt": "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs", "kid": "x"})),
        ("act", json!("agent")),
        ("act", json!({"act": {"sub": "a"}})),
        ("may_act", json!([])),
        ("authorization_details", json!([{"no": "type"}])),
        ("jti", json!(1)),
        ("client_id", json!(false)),
    ] {
        let error = resigned(|c| c[name] = bad.clone()).unwrap_err();
        assert!(matches!(error, TokenError::Claim(_)), "{name} {bad}: {error}");
    }
    for name in ["iss", "sub", "aud", "exp", "iat", "client_id", "jti"] {
        let error = resigned(|c| drop(c.as_object_mut().unwrap().remove(name))).unwrap_err();
        assert_eq!(error, TokenError::Claim(name));
    }
    let key = ed25519();
    let keys = jwks(&[&key]);
    let raw = |payload: &str| {
        check_access(&format!("{}.{}.{}", b64(header(&key).to_string()), b64(payload), b64([1; 64])), &keys)
    };
    let twice = payload().to_string().replacen('{', r#"{"sub":"mallory","#, 1);
    let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(20), "]".repeat(20));
    let many = format!(r#"{{"a":[{}1]}}"#, "1,".repeat(1_500));
    for bad in [twice.as_str(), &deep, &many, "[]", "null", "\"x\"", "", "{", "{}{}", "\u{feff}{}"] {
        // The signature is none, and that is not what is said: the form is looked at first.
        assert_eq!(raw(bad).unwrap_err(), TokenError::Malformed, "{bad}");
    }
    let head_twice = format!(r#"{{"alg":"Ed25519","typ":"at+jwt","kid":"{}","alg":"none"}}"#, key.kid());
    let token = format!("{}.{}.{}", b64(head_twice), b64(payload().to_string()), b64([1; 64]));
    assert_eq!(Jws::parse(&token).unwrap_err(), JwsError::Shape);
    let huge = "a".repeat(1 << 20);
    assert_eq!(Jws::parse(&format!("{huge}.{huge}.{huge}")).unwrap_err(), JwsError::Shape);
    // Only the signature is long, which no other bound sees.
    let long = forged(&header(&key), &payload(), &[1; 6_500]);
    assert_eq!(Jws::parse(&long).unwrap_err(), JwsError::Shape);
    let mut act = json!({"sub": "x0"});
    for n in 1..ACTORS_MAX {
        act = json!({"sub": format!("x{n}"), "act": act});
    }
    assert_eq!(
        resigned(|c| c["act"] = act.clone()).unwrap().actors().collect::<Vec<_>>(),
        ["x3", "x2", "x1", "x0"]
    );
    assert_eq!(
        resigned(|c| c["act"] = json!({"sub": "x", "act": act})).unwrap_err(),
        TokenError::ChainTooLong
    );
}

#[test]
fn attack_28_zero_and_der_signatures_loose_base64_and_keys_of_small_order_are_refused() {
    let (ed, ec) = (ed25519(), key(Algorithm::Es256, 2));
    let keys = jwks(&[&ed, &ec]);
    let claims = payload();
    let order = unb64("_____wAAAAD__________7zm-q2nF56E87nKwvxjJVE");
    let der = [&[0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01][..], &[0; 56]].concat();
    let one = [&[0; 31][..], &[1], &order].concat();
    for signature in [&[0; 64][..], &one, &der, &[1; 63], &[1; 65], &[0xff; 64]] {
        let error = check_access(&forged(&header(&ec), &claims, signature), &keys).unwrap_err();
        assert_eq!(error, JwsError::Signature.into());
    }
    // A true signature, in DER.
    let good = issue(&ec, &access());
    let (front, signature) = good.rsplit_once('.').unwrap();
    let signature = unb64(signature);
    let (r, s) = signature.split_at(32);
    let der = [&[0x30, 70, 2, 33, 0][..], r, &[2, 33, 0], s].concat();
    assert_eq!(
        check_access(&format!("{front}.{}", b64(der)), &keys).unwrap_err(),
        JwsError::Signature.into()
    );
    for loose in [
        format!("{good}="),
        format!("{good}=="),
        format!("{good}\n"),
        format!(" {good}"),
        good.replace('-', "+").replace('_', "/") + "+",
        format!("{good}."),
        good.replace('.', ".."),
    ] {
        assert_eq!(check_access(&loose, &keys).unwrap_err(), JwsError::Shape.into());
    }
    // Bits left over in the last character.
    let last = good.chars().last().unwrap();
    for other in ('A'..='Z').chain('a'..='z').chain('0'..='9').filter(|c| *c != last) {
        let mut changed = good.clone();
        changed.pop();
        changed.push(other);
        assert!(check_access(&changed, &keys).is_err());
    }
    let filled = |first: u8, last: u8| [&[first][..], &[0xff; 30], &[last]].concat();
    let small = [
        vec![0; 32],
        [&[1][..], &[0; 31]].concat(),
        filled(0xec, 0x7f),
        // Second spellings of zero, of one, and of 18.
        filled(0xed, 0x7f),
        filled(0xee, 0x7f),
        filled(0xff, 0x7f),
        unb64("JuiVj8KyJ7BFw_SJ8u-Y8NXfrAXTxjM5sTgCiG1T_AU"),
        unb64("xxdqcD1N2E-6PAt2DRBnDyogU_osOczGTsf9d5KsA3o"),
    ];
    for x in small {
        for sign in [0, 0x80] {
            let mut x = x.clone();
            *x.last_mut().unwrap() |= sign;
            let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": b64(&x)});
            let set = json!({"keys": [jwk]});
            assert_eq!(Jwks::parse(set.to_string().as_bytes()).unwrap_err(), JwkError::Point);
        }
    }
    // Why it matters: under the neutral point this one signature holds for every message.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let signature = [neutral, [0; 32]].concat();
    let key = aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ED25519, neutral);
    assert!(key.verify(b"anything", &signature).is_ok());
}

#[test]
fn attack_29_poisoned_key_sets_are_refused() {
    let key = ed25519().public().to_json();
    let parse = |keys: Value| Jwks::parse(json!({"keys": keys}).to_string().as_bytes());
    let with = |name: &str, value: Value| {
        let mut changed = key.clone();
        changed[name] = value;
        changed
    };
    assert_eq!(parse(json!([key, key])).unwrap_err(), JwkError::Duplicate(ed25519().kid().to_owned()));
    for name in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
        assert_eq!(parse(json!([with(name, json!("AA"))])).unwrap_err(), JwkError::Private, "{name}");
    }
    assert_eq!(parse(json!([{"kty": "oct", "k": "AA"}])).unwrap_err(), JwkError::Private);
    assert!(parse(json!([with("use", json!("enc"))])).unwrap().is_empty());
    for alg in ["ES256", "HS256", "none", "RS256"] {
        assert!(parse(json!([with("alg", json!(alg))])).unwrap().is_empty(), "{alg}");
    }
    assert_eq!(parse(json!([with("kid", json!("k".repeat(129)))])).unwrap_err(), JwkError::Member("kid"));
    assert_eq!(parse(json!([with("x", json!("AA"))])).unwrap_err(), JwkError::Member("x"));
    assert_eq!(parse(json!([{"crv": "Ed25519"}])).unwrap_err(), JwkError::Member("kty"));
    let many: Vec<Value> = (0..65).map(|n| with("kid", json!(n.to_string()))).collect();
    assert_eq!(parse(json!(many)).unwrap_err(), JwkError::TooMany);
    let off_curve = json!({"kty": "EC", "crv": "P-256", "x": b64([1; 32]), "y": b64([1; 32])});
    assert_eq!(parse(json!([off_curve])).unwrap_err(), JwkError::Point);
    for (n, e) in [
        (vec![0x80; 128], vec![1, 0, 1]),
        (vec![0x80; 513], vec![1, 0, 1]),
        (vec![0xff; 256], vec![1]),
        (vec![0xff; 256], vec![2]),
        (vec![0xff; 256], vec![0, 3]),
        (vec![0xff; 256], vec![1; 9]),
        ([vec![0], vec![0xff; 256]].concat(), vec![3]),
    ] {
        assert_eq!(parse(json!([{"kty": "RSA", "n": b64(n), "e": b64(e)}])).unwrap_err(), JwkError::RsaSize);
    }
    for text in ["", "[]", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#, r#"{"keys":[1]}"#] {
        assert!(Jwks::parse(text.as_bytes()).is_err(), "{text}");
    }
    assert!(Jwks::parse(format!(r#"{{"keys":[],"x":"{}"}}"#, "x".repeat(70_000)).as_bytes()).is_err());
    // Another issuer's key under the same id is another key.
    let stranger =
        ForeignKey::ed25519(ed25519().kid(), &bartizan_base::random::SeededRandom::new(9)).unwrap();
    let forged = stranger.sign("at+jwt", &payload()).unwrap();
    assert_eq!(check_access(&forged, &jwks(&[&ed25519()])).unwrap_err(), JwsError::Signature.into());
}

#[test]
fn attack_30_tokens_from_the_future_past_their_end_or_held_too_long_are_refused_and_no_skew_is_more_than_a_minute()
 {
    let token = issue(
        &ed25519(),
        &AccessClaims { times: Times { not_before: Some(before(5)), ..times() }, ..access() },
    );
    let keys = jwks(&[&ed25519()]);
    let at = |now, skew, life| {
        let time = TimeRules { now, skew: secs(skew), life_max: secs(life) };
        check::<AccessClaims>(&token, &keys, &AccessRules { time, ..access_rules() }).map(drop)
    };
    assert_eq!(at(after(309), 30, 600), Ok(()));
    assert_eq!(at(after(310), 30, 600), Err(TokenError::Expired));
    assert_eq!(at(before(35), 30, 600), Ok(()));
    assert_eq!(at(before(36), 30, 600), Err(TokenError::NotYetValid), "not before");
    assert_eq!(at(after(339), 3_600, 600), Ok(()));
    assert_eq!(at(after(340), 3_600, 600), Err(TokenError::Expired), "a skew of an hour counts as a minute");
    assert_eq!(at(before(66), 3_600, 600), Err(TokenError::NotYetValid));
    assert_eq!(at(NOW, 30, 290), Ok(()));
    assert_eq!(at(NOW, 30, 289), Err(TokenError::TooLongLived));
    assert_eq!(resigned(|c| c["iat"] = json!(NOW.as_secs() + 31)).unwrap_err(), TokenError::NotYetValid);
    let (iat, exp) = (json!(NOW.as_secs() + 20), json!(NOW.as_secs() + 10));
    assert_eq!(resigned(|c| (c["iat"], c["exp"]) = (iat, exp)).unwrap_err(), TokenError::TooLongLived);
}
