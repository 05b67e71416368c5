//! Attacks on the token itself (catalogue 22 to 30, 40, 43).

use bartizan_base::random::SeededRandom;
use bartizan_jose::testing::ForeignKey;
use bartizan_model::ReasonCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use crate::world::*;

#[test]
fn a_token_of_ours_is_its_subject_with_its_assurance_scopes_session_and_grant() {
    let world = World::new();
    let caller = world.bearer(&world.own(|_| {})).unwrap();
    let subject = caller.subject();
    assert_eq!((subject.principal.name.as_str(), u8::from(subject.assurance.level)), ("alice", 3));
    assert_eq!((subject.assurance.at, subject.assurance.via.clone()), (before(60), None));
    assert_eq!((caller.session(), caller.grant()), (Some(session()), Some(grant())));
    assert!(caller.scopes().cover(bartizan_model::Action::ModelEmbed));
    assert!(!caller.scopes().cover(bartizan_model::Action::ModelList));
    // A token of ours without a scope is for nothing at all.
    let caller = world.bearer(&world.own(|c| c.scope = None)).unwrap();
    assert!(!bartizan_model::Action::ALL.iter().any(|action| caller.scopes().cover(*action)));
    for (acr, level) in [(None, 1), (Some("aal2"), 2), (Some("phrh"), 4), (Some("made-up"), 1)] {
        let token = world.own(|c| c.acr = acr.map(str::to_owned));
        assert_eq!(u8::from(world.bearer(&token).unwrap().subject().assurance.level), level, "{acr:?}");
    }
}

#[test]
fn attack_22_no_algorithm_no_signature_and_an_empty_secret_are_refused() {
    let world = World::new();
    let good = world.own(|_| {});
    let (signed, _) = good.rsplit_once('.').unwrap();
    let payload = URL_SAFE_NO_PAD.encode(world.payload());
    for algorithm in ["none", "None", "HS256", ""] {
        let header = json!({"alg": algorithm, "typ": "at+jwt", "kid": world.key.kid()}).to_string();
        for signature in ["", "AA", &URL_SAFE_NO_PAD.encode([0; 64])] {
            let token = format!("{}.{payload}.{signature}", URL_SAFE_NO_PAD.encode(&header));
            let refused = world.bearer(&token).unwrap_err();
            assert_eq!(refused, ReasonCode::TokenAlgorithmRefused, "{algorithm} {signature}");
        }
    }
    for signature in ["", "AA", &URL_SAFE_NO_PAD.encode([0; 64])] {
        let refused = world.bearer(&format!("{signed}.{signature}")).unwrap_err();
        assert_eq!(refused, ReasonCode::TokenSignatureInvalid, "{signature}");
    }
}

#[test]
fn attack_23_the_algorithm_is_the_keys_and_never_the_headers() {
    let world = World::new();
    for algorithm in ["ES256", "RS256", "PS256", "HS256", "Ed448", "ES256K"] {
        let header = json!({"alg": algorithm, "typ": "at+jwt", "kid": world.key.kid()}).to_string();
        let refused = world.bearer(&world.raw(&header, &world.payload())).unwrap_err();
        assert_eq!(refused, ReasonCode::TokenAlgorithmRefused, "{algorithm}");
    }
    // The older name of the same algorithm is the same algorithm.
    let header = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": world.key.kid()}).to_string();
    assert!(world.bearer(&world.raw(&header, &world.payload())).is_ok());
}

#[test]
fn attack_24_a_key_id_is_only_a_name_and_unknown_ones_ask_for_nothing() {
    let world = World::new();
    for kid in ["../../etc/passwd", "' OR 1=1 --", "a\r\nb", "", &"k".repeat(10_000)] {
        let header = json!({"alg": "Ed25519", "typ": "at+jwt", "kid": kid}).to_string();
        let refused = world.bearer(&world.raw(&header, &world.payload())).unwrap_err();
        let reasons = [ReasonCode::TokenSignatureInvalid, ReasonCode::CredentialMalformed];
        assert!(reasons.contains(&refused), "{kid}: {refused}");
        // At an issuer whose keys are fetched, it does not make us fetch them: they were, a moment ago.
        let header = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": kid});
        let Some(token) = world.company.sign_with(&header, &foreign_claims()) else {
            assert!(kid.len() > 8_000, "{kid}");
            continue;
        };
        let refused = world.bearer(&token).unwrap_err();
        assert!(reasons.contains(&refused), "{kid}: {refused}");
    }
}

#[test]
fn attack_25_keys_addresses_of_keys_and_critical_extensions_in_the_header_are_refused() {
    let world = World::new();
    let stranger = signing(66);
    for (member, value) in [
        ("jwk", stranger.public().to_json()),
        ("jku", json!("https://evil.example/jwks")),
        ("x5u", json!("https://evil.example/cert")),
        ("x5c", json!(["AAAA"])),
        ("crit", json!(["exp"])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
    ] {
        let mut header = world.header();
        header[member] = value;
        for key in [&stranger, &world.key] {
            let token = raw(key, &header.to_string(), &world.payload());
            assert_eq!(world.bearer(&token).unwrap_err(), ReasonCode::CredentialMalformed, "{member}");
        }
    }
}

#[test]
fn attack_26_tokens_of_other_kinds_by_our_own_key_are_no_access_tokens() {
    let world = World::new();
    for typ in ["JWT", "logout+jwt", "dpop+jwt", "secevent+jwt", "oauth-id-jag+jwt", "at+jwt2", ""] {
        let header = json!({"alg": "Ed25519", "typ": typ, "kid": world.key.kid()}).to_string();
        let refused = world.bearer(&world.raw(&header, &world.payload())).unwrap_err();
        assert_eq!(refused, ReasonCode::TokenTypeRefused, "{typ}");
    }
    // In our name by another's key, and in another's name by ours.
    let ours = world.company.sign("at+jwt", &serde_json::from_str(&world.payload()).unwrap()).unwrap();
    assert_eq!(world.bearer(&ours).unwrap_err(), ReasonCode::TokenSignatureInvalid);
    let theirs = world.raw(&world.header().to_string(), &foreign_claims().to_string());
    assert_eq!(world.bearer(&theirs).unwrap_err(), ReasonCode::TokenSignatureInvalid);
}

#[test]
fn attack_27_what_stands_twice_is_of_a_wrong_type_deep_or_huge_is_refused_though_it_is_signed() {
    let world = World::new();
    let (header, good) = (world.header().to_string(), world.payload());
    assert!(world.bearer(&world.raw(&header, &good)).is_ok());
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from} is not in {good}");
        good.replacen(from, to, 1)
    };
    let (iat, exp) = (NOW.as_secs() - 10, NOW.as_secs() + 290);
    let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
    for payload in [
        with("\"scope\":", "\"scope\":\"house:change\",\"scope\":"),
        with(&format!("\"aud\":\"{DOOR}\""), &format!("\"aud\":[\"{DOOR}\",\"https://other.example\"]")),
        with(&format!("\"aud\":\"{DOOR}\""), "\"aud\":7"),
        with(&format!("\"aud\":\"{DOOR}\""), &format!("\"aud\":{{\"x\":\"{DOOR}\"}}")),
        with(&format!("\"iat\":{iat}"), "\"iat\":-1"),
        with(&format!("\"iat\":{iat}"), &format!("\"iat\":\"{iat}\"")),
        with(&format!("\"exp\":{exp}"), "\"exp\":99999999999999"),
        with(&format!("\"exp\":{exp}"), &format!("\"exp\":{}", exp + 86_400)),
        with("\"scope\":", &format!("\"x\":{deep},\"scope\":")),
        with("\"rev\":50", "\"rev\":\"50\""),
        with("\"rev\":50", "\"rev\":-1"),
        with("\"kind\":\"user\"", "\"kind\":\"agent\""),
        with("\"kind\":\"user\"", "\"kind\":\"god\""),
        with("\"bartizan\":", "\"bartizan2\":"),
        with("\"jti\":", "\"jti2\":"),
        with("\"client_id\":", "\"client_id2\":"),
        with("\"sid\":\"ses_", "\"sid\":\"tok_"),
        with("\"grant\":\"grt_", "\"grant\":\"ses_"),
        "[]".to_owned(),
        format!("{good} "),
    ] {
        let token = world.raw(&header, &payload);
        let Err(refused) = world.bearer(&token) else {
            // Space after a claim set is JSON; it is the one that may pass.
            assert!(payload.ends_with("} "), "{payload}");
            continue;
        };
        let reasons = [ReasonCode::CredentialMalformed, ReasonCode::TokenAudienceMismatch];
        assert!(reasons.contains(&refused), "{refused}: {payload}");
    }
    let huge = with("\"scope\":", &format!("\"x\":\"{}\",\"scope\":", "x".repeat(1 << 20)));
    assert_eq!(world.bearer(&world.raw(&header, &huge)).unwrap_err(), ReasonCode::CredentialMalformed);
}

#[test]
fn attack_28_loose_base64_and_signatures_that_were_touched_are_refused() {
    let world = World::new();
    let good = world.own(|_| {});
    assert!(world.bearer(&good).is_ok());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    // 64 bytes leave four bits in the last character: another character with the same first two bits decodes to the same
    // bytes for whoever is loose.
    let last = signature.chars().last().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let place = alphabet.find(last).unwrap();
    let loose = alphabet.as_bytes()[place ^ 1] as char;
    let mut flipped = URL_SAFE_NO_PAD.decode(signature).unwrap();
    flipped[5] ^= 1;
    for signature in [
        format!("{}{loose}", &signature[..signature.len() - 1]),
        format!("{signature}=="),
        format!("{signature}A"),
        signature[..40].to_owned(),
        URL_SAFE_NO_PAD.encode(&flipped),
    ] {
        // Verified before or not: what differs in one character is another token.
        let refused = world.bearer(&format!("{signed}.{signature}")).unwrap_err();
        let reasons = [ReasonCode::TokenSignatureInvalid, ReasonCode::CredentialMalformed];
        assert!(reasons.contains(&refused), "{refused}: {signature}");
    }
}

#[test]
fn attack_29_poisoned_key_sets_are_not_taken_and_the_last_good_one_stays() {
    let world = World::new();
    let token = world.foreign(|_| {});
    assert!(world.bearer(&token).is_ok());
    let evil = ForeignKey::ed25519("evil", &SeededRandom::new(9)).unwrap();
    let mut private = evil.public_jwk();
    private["d"] = json!("AAAA");
    let mut symmetric = json!({"kty": "oct", "k": "AAAA", "kid": "s"});
    symmetric["alg"] = json!("HS256");
    for set in [
        json!({"keys": [evil.public_jwk(), evil.public_jwk()]}),
        json!({"keys": [private]}),
        json!({"keys": [world.company.public_jwk(), symmetric]}),
        json!([]),
        json!({"keys": vec![evil.public_jwk(); 65]}),
    ] {
        let learned = world.identifier.learn_keys(&name("company"), set.to_string().as_bytes(), NOW);
        assert!(learned.is_err(), "{set}");
    }
    assert!(world.bearer(&world.foreign(|c| c["jti"] = json!("2"))).is_ok());
    let forged = evil.sign("at+jwt", &foreign_claims()).unwrap();
    assert_eq!(world.bearer(&forged).unwrap_err(), ReasonCode::TokenSignatureInvalid);
    // A key that its issuer has taken back lets nobody in any more, verified before or not.
    let jwks = json!({"keys": [evil.public_jwk()]}).to_string();
    world.identifier.learn_keys(&name("company"), jwks.as_bytes(), NOW).unwrap();
    assert_eq!(world.bearer(&token).unwrap_err(), ReasonCode::TokenSignatureInvalid);
}

#[test]
fn attack_30_tokens_of_the_future_or_past_their_end_are_refused_and_no_skew_is_more_than_a_minute() {
    let world = World::new();
    let at = |seconds: i64| {
        let now = NOW.as_secs().checked_add_signed(seconds).unwrap();
        bartizan_base::Timestamp::from_secs(now)
    };
    let own = Showing::bearer(&world.own(|c| c.times.not_before = Some(before(10))));
    let foreign = Showing::bearer(&world.foreign(|c| c["nbf"] = json!(NOW.as_secs() - 10)));
    for showing in [own, foreign] {
        let when = |seconds| world.show_with(&world.identifier, &showing, at(seconds));
        for round in 0..2 {
            assert!(when(0).is_ok() && when(349).is_ok() && when(-70).is_ok(), "{round}");
            assert_eq!(when(350).unwrap_err(), ReasonCode::CredentialExpired, "{round}");
            assert_eq!(when(-71).unwrap_err(), ReasonCode::CredentialNotYetValid, "{round}");
        }
    }
}

#[test]
fn attack_40_a_token_for_one_door_is_refused_at_every_other_also_once_it_was_verified() {
    let world = World::new();
    let (files, mail) = ("https://ai.example/mcp/files", "https://ai.example/mcp/mail");
    let token = world.own(|c| c.aud = bartizan_jose::Audience::One(files.to_owned()));
    let showing = Showing::bearer(&token);
    for _ in 0..2 {
        assert!(world.show(&showing.clone().at(&[files])).is_ok());
        for other in [
            &[mail][..],
            &[DOOR, PLANE],
            &[],
            &["https://ai.example/mcp"],
            &["https://ai.example/mcp/files/"],
        ] {
            let refused = world.show(&showing.clone().at(other)).unwrap_err();
            assert_eq!(refused, ReasonCode::TokenAudienceMismatch, "{other:?}");
        }
    }
    // That of the plane holds at all of its doors, and the authority's own address is no door.
    let plane = world.own(|c| c.aud = bartizan_jose::Audience::One(PLANE.to_owned()));
    assert!(world.bearer(&plane).is_ok());
    let token = world.own(|c| c.aud = bartizan_jose::Audience::One(ISSUER.to_owned()));
    assert_eq!(world.bearer(&token).unwrap_err(), ReasonCode::TokenAudienceMismatch);
}

#[test]
fn attack_43_what_was_verified_dies_with_its_key_its_authority_and_its_issuer() {
    let mut world = World::new();
    let (own, foreign) = (world.own(|_| {}), world.foreign(|_| {}));
    let both = |world: &World| (world.bearer(&own).err(), world.bearer(&foreign).err());
    assert_eq!(both(&world), (None, None));
    world.key_until = NOW;
    assert_eq!(both(&world), (Some(ReasonCode::TokenSignatureInvalid), None));
    world.key_until = after(1);
    assert_eq!(both(&world), (None, None));
    world.has_authority = false;
    assert_eq!(both(&world), (Some(ReasonCode::TokenIssuerUnknown), None));
    world.has_authority = true;
    let mut changed = issuer();
    changed.audience = "another".to_owned();
    *world.spec("company") = bartizan_model::directory::Spec::Issuer(changed);
    assert_eq!(both(&world), (None, Some(ReasonCode::TokenAudienceMismatch)));
}

#[test]
fn attack_54_a_token_of_a_state_that_was_set_back_is_not_believed() {
    let mut world = World::new();
    let token = world.own(|_| {});
    assert!(world.bearer(&token).is_ok());
    world.revision = 49;
    assert_eq!(world.bearer(&token).unwrap_err(), ReasonCode::SnapshotStale);
    world.revision = 50;
    assert!(world.bearer(&token).is_ok());
}
