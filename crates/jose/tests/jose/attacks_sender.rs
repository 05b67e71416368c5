//! Attacks 14 and 31 to 33 of the catalogue, and 43: who presents a token.

use bartizan_base::Digest;
use bartizan_jose::*;
use bartizan_secret::Secret;
use serde_json::{Value, json};

use crate::support::*;

fn refused(proof: &str, rules: &DpopRules<'_>) -> DpopError {
    DpopProof::verify(proof, rules).unwrap_err()
}

/// The good proof with a changed header or changed claims, signed anew by its key.
fn reproven(header: impl FnOnce(&mut Value), claims: impl FnOnce(&mut Value)) -> String {
    let random = bartizan_base::random::SeededRandom::new(1);
    // The same randomness, so the same key as `ed25519()`.
    let key = testing::ForeignKey::ed25519("k", &random).unwrap();
    let (mut head, mut body) = opened(&prove(&ed25519(), &proof()));
    header(&mut head);
    claims(&mut body);
    key.sign_with(&head, &body).unwrap()
}

#[test]
fn attack_31_a_proof_for_another_method_address_moment_or_token_is_refused() {
    let key = ed25519();
    let good = prove(&key, &proof());
    assert_eq!(DpopProof::verify(&good, &proof_rules()).unwrap().key(), key.thumbprint());
    assert_eq!(DpopProof::verify(&reproven(|_| (), |_| ()), &proof_rules()).unwrap().key(), key.thumbprint());
    for method in ["GET", "post", "POST ", ""] {
        assert_eq!(refused(&good, &DpopRules { method, ..proof_rules() }), DpopError::Method);
    }
    for uri in [
        "https://ai.example/mcp/tools/",
        "https://ai.example/mcp",
        "http://ai.example/mcp/tools",
        "https://ai.example:8443/mcp/tools",
        "https://evil.example/mcp/tools",
        "https://ai.example/MCP/tools",
        "nonsense",
    ] {
        assert_eq!(refused(&good, &DpopRules { uri, ..proof_rules() }), DpopError::Uri, "{uri}");
    }
    // Equal addresses in other words: the default port, case of the host, needless escapes, a query.
    for htu in [
        "https://ai.example:443/mcp/tools",
        "HTTPS://AI.example/mcp/tools",
        "https://ai.example/m%63p/tools",
        "https://ai.example/mcp/tools?x=1#y",
    ] {
        let proof = prove(&key, &DpopProof { htu: htu.to_owned(), ..proof() });
        assert!(DpopProof::verify(&proof, &proof_rules()).is_ok(), "{htu}");
    }
    for htu in [
        "https://ai.example:80/mcp/tools",
        "https://ai.example@evil.example/mcp/tools",
        "https://ai.example/x/../mcp/tools",
        "/mcp/tools",
    ] {
        assert_eq!(
            refused(&reproven(|_| (), |c| c["htu"] = json!(htu)), &proof_rules()),
            DpopError::Uri,
            "{htu}"
        );
    }
    let at = |now| DpopProof::verify(&good, &DpopRules { now, ..proof_rules() }).map(drop);
    assert_eq!((at(after(59)), at(after(60))), (Ok(()), Err(DpopError::Stale)));
    assert_eq!((at(before(6)), at(before(7))), (Ok(()), Err(DpopError::Stale)));
    let lax = DpopRules { age_max: secs(86_400), skew: secs(86_400), ..proof_rules() };
    assert_eq!(
        refused(&good, &DpopRules { now: after(300), ..lax }),
        DpopError::Stale,
        "five minutes at most"
    );
    assert_eq!(refused(&good, &DpopRules { now: before(62), ..lax }), DpopError::Stale);
    let bound = prove(&key, &DpopProof { ath: ath("token"), ..proof() });
    let with = |token| DpopRules { access_token: Some(token), ..proof_rules() };
    assert_eq!(DpopProof::verify(&bound, &with("token")).unwrap().token(), ath("token"));
    assert_eq!(refused(&bound, &with("token2")), DpopError::AccessToken);
    assert_eq!(refused(&good, &with("token")), DpopError::AccessToken, "no `ath` at all");
    for ath in [json!("short"), json!(1), json!(Digest::of(b"token").to_string())] {
        let proof = reproven(|_| (), |c| c["ath"] = ath);
        assert_eq!(refused(&proof, &with("token")), TokenError::Claim("ath").into());
    }
}

#[test]
fn attack_31_a_proof_with_a_missing_foreign_or_old_nonce_asks_for_a_fresh_one() {
    let key = ed25519();
    let nonces = Nonces::new(Secret::new([7; 32]), secs(60));
    let others = Nonces::new(Secret::new([8; 32]), secs(60));
    let rules = DpopRules { nonce: NonceRule::Required(&nonces), ..proof_rules() };
    let with = |nonce: Option<String>| prove(&key, &DpopProof { nonce, ..proof() });
    for fresh in [NOW, before(60), after(60)] {
        assert!(DpopProof::verify(&with(Some(nonces.current(fresh))), &rules).is_ok());
    }
    for nonce in [
        None,
        Some("x".to_owned()),
        Some(others.current(NOW)),
        Some(nonces.current(before(121))),
        Some(nonces.current(after(121))),
    ] {
        assert_eq!(refused(&with(nonce), &rules), DpopError::UseNonce);
    }
    assert_eq!(
        refused(&reproven(|_| (), |c| c["nonce"] = json!("")), &rules),
        TokenError::Claim("nonce").into()
    );
    assert!(!format!("{nonces:?}").contains('7'));
}

#[test]
fn attack_31_a_proof_is_known_again_by_its_id_and_key_whatever_else_it_says() {
    let (key, other) = (ed25519(), key(Algorithm::Es256, 2));
    let seen = |key: &SigningKey, proof: &DpopProof| {
        DpopProof::verify(&prove(key, proof), &proof_rules()).unwrap().replay()
    };
    let first = seen(&key, &proof());
    assert_eq!(first.until, before(1).saturating_add(secs(65)), "until it is too old by any clock");
    let again = DpopProof { issued: before(3), htu: format!("{URI}?again"), ..proof() };
    assert_eq!(seen(&key, &again).id, first.id);
    assert_ne!(seen(&key, &DpopProof { jti: "pr-2".to_owned(), ..proof() }).id, first.id);
    assert_ne!(seen(&other, &proof()).id, first.id, "nobody can use up another's ids");
}

#[test]
fn attack_31_private_symmetric_foreign_and_missing_keys_in_the_header_are_refused() {
    let other = key(Algorithm::Ed25519, 9).public().to_json();
    let private = |jwk: &mut Value| jwk["d"] = json!(b64([1; 32]));
    assert_eq!(
        refused(&reproven(|h| private(&mut h["jwk"]), |_| ()), &proof_rules()),
        JwkError::Private.into()
    );
    let oct = json!({"kty": "oct", "k": "AA"});
    assert_eq!(refused(&reproven(|h| h["jwk"] = oct, |_| ()), &proof_rules()), JwkError::Private.into());
    let signature = DpopError::from(JwsError::Signature);
    assert_eq!(refused(&reproven(|h| h["jwk"]["x"] = other["x"].clone(), |_| ()), &proof_rules()), signature);
    let algorithm = DpopError::from(JwsError::Algorithm);
    for alg in ["HS256", "none", "ES384"] {
        assert_eq!(refused(&reproven(|h| h["alg"] = json!(alg), |_| ()), &proof_rules()), algorithm, "{alg}");
    }
    for alg in ["ES256", "RS256", "PS256"] {
        let proof = reproven(|h| h["alg"] = json!(alg), |_| ());
        assert_eq!(refused(&proof, &proof_rules()), JwkError::Member("alg").into(), "{alg}");
    }
    for (name, value) in [("alg", "ES256"), ("alg", "none"), ("use", "enc")] {
        let proof = reproven(|h| h["jwk"][name] = json!(value), |_| ());
        assert_eq!(refused(&proof, &proof_rules()), JwkError::Member("alg").into(), "{name}");
    }
    assert!(
        DpopProof::verify(&reproven(|h| h["jwk"]["alg"] = json!("Ed25519"), |_| ()), &proof_rules()).is_ok()
    );
    let header = DpopError::from(JwsError::Header);
    assert_eq!(
        refused(&reproven(|h| drop(h.as_object_mut().unwrap().remove("jwk")), |_| ()), &proof_rules()),
        header
    );
    for (name, value) in [
        ("kid", json!("k")),
        ("jku", json!("https://evil.example")),
        ("x5c", json!(["AA"])),
        ("crit", json!(["jwk"])),
    ] {
        assert_eq!(refused(&reproven(|h| h[name] = value, |_| ()), &proof_rules()), header, "{name}");
    }
    for typ in ["JWT", "at+jwt", "dpop"] {
        assert_eq!(
            refused(&reproven(|h| h["typ"] = json!(typ), |_| ()), &proof_rules()),
            TokenError::Type.into()
        );
    }
    for name in ["jti", "htm", "htu", "iat"] {
        let proof = reproven(|_| (), |c| drop(c.as_object_mut().unwrap().remove(name)));
        assert_eq!(refused(&proof, &proof_rules()), TokenError::Claim(name).into());
    }
    let long = reproven(|_| (), |c| c["jti"] = json!("j".repeat(257)));
    assert_eq!(refused(&long, &proof_rules()), TokenError::Claim("jti").into());
    assert!(DpopProof::verify(&format!("{0},{0}", prove(&ed25519(), &proof())), &proof_rules()).is_err());
}

struct Holder {
    token: Verified<AccessClaims>,
    text: String,
    proven: ProvenKey,
}

/// Verifies a token bound as `cnf` says, and a proof for it by the key of `seed`.
fn holder(cnf: Option<Confirmation>, jti: &str, seed: u64) -> Holder {
    let issuer = ed25519();
    let claims = AccessClaims { cnf, jti: Some(jti.to_owned()), ..access() };
    let text = issue(&issuer, &claims);
    let token = check_access(&text, &jwks(&[&issuer])).unwrap();
    let proof = prove(&key(Algorithm::Es256, seed), &DpopProof { ath: ath(&text), ..proof() });
    let rules = DpopRules { access_token: Some(&text), ..proof_rules() };
    let proven = DpopProof::verify(&proof, &rules).unwrap();
    Holder { token, text, proven }
}

const BEARER: Presentation<'static> = Presentation { scheme: Scheme::Bearer, certificate: None };

fn by(proven: &ProvenKey) -> Presentation<'_> {
    Presentation { scheme: Scheme::Dpop(proven), certificate: None }
}

#[test]
fn attack_32_a_bound_token_is_no_bearer_token_and_a_bearer_token_is_not_bound() {
    let jkt = key(Algorithm::Es256, 5).thumbprint();
    let bound = holder(Some(Confirmation::Key(jkt)), "a", 5);
    assert_eq!(bound.token.bound(&by(&bound.proven)), Ok(Bound::Key(jkt)));
    assert_eq!(bound.token.bound(&BEARER), Err(BindingError::Downgrade));
    let bearer = holder(None, "b", 5);
    assert_eq!(bearer.token.bound(&BEARER), Ok(Bound::Bearer));
    assert_eq!(bearer.token.bound(&by(&bearer.proven)), Err(BindingError::NotBound));
    // The right key with a proof for another token, or one that was made for no token.
    let second = holder(Some(Confirmation::Key(jkt)), "c", 5);
    assert_eq!(second.token.bound(&by(&bound.proven)), Err(BindingError::OtherToken));
    let tokenless = DpopProof::verify(
        &prove(&key(Algorithm::Es256, 5), &DpopProof { ath: ath(&bound.text), ..proof() }),
        &proof_rules(),
    )
    .unwrap();
    assert_eq!(bound.token.bound(&by(&tokenless)), Err(BindingError::OtherToken));
    let stolen = holder(Some(Confirmation::Key(jkt)), "a", 6);
    assert_eq!(stolen.token.bound(&by(&stolen.proven)), Err(BindingError::OtherKey));
}

#[test]
fn attack_33_a_token_bound_to_a_certificate_needs_that_certificate() {
    let (mine, theirs) = (X5t::of_certificate(b"my certificate"), X5t::of_certificate(b"another"));
    let bound = holder(Some(Confirmation::Certificate(mine)), "a", 5);
    let with = |certificate| Presentation { certificate, ..BEARER };
    assert_eq!(bound.token.bound(&with(Some(mine))), Ok(Bound::Certificate(mine)));
    assert_eq!(bound.token.bound(&with(None)), Err(BindingError::CertificateMissing));
    assert_eq!(bound.token.bound(&with(Some(theirs))), Err(BindingError::OtherCertificate));
    assert_eq!(bound.token.bound(&by(&bound.proven)), Err(BindingError::NotBound));
    // Both at once: one does not do.
    let jkt = key(Algorithm::Es256, 5).thumbprint();
    let both = holder(Some(Confirmation::Both(jkt, mine)), "b", 5);
    let full = Presentation { certificate: Some(mine), ..by(&both.proven) };
    assert_eq!(both.token.bound(&full), Ok(Bound::Both(jkt, mine)));
    assert_eq!(both.token.bound(&with(Some(mine))), Err(BindingError::Downgrade));
    assert_eq!(both.token.bound(&by(&both.proven)), Err(BindingError::CertificateMissing));
}

#[test]
fn rfc_8705_3_1_the_thumbprint_is_the_sha_256_of_the_der_in_base64url() {
    assert_eq!(X5t::of_certificate(b"abc").to_string(), "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0");
    assert_eq!("ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0".parse(), Ok(X5t::of_certificate(b"abc")));
    for bad in [
        "",
        "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa1",
        "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0",
        "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0=",
    ] {
        assert_eq!(bad.parse::<X5t>(), Err(ThumbprintError), "{bad}");
    }
}

#[test]
fn attack_14_a_refresh_token_is_redeemed_by_the_key_or_certificate_it_is_bound_to_alone() {
    let (mine, theirs) = (ed25519(), key(Algorithm::Ed25519, 2));
    let proven = |key: &SigningKey| DpopProof::verify(&prove(key, &proof()), &proof_rules()).unwrap();
    let (mine, theirs) = (proven(&mine), proven(&theirs));
    let bound = Some(Confirmation::Key(mine.key()));
    assert_eq!(Confirmation::redeem(bound, Some(&mine), None), Ok(()));
    assert_eq!(Confirmation::redeem(bound, Some(&theirs), None), Err(BindingError::OtherKey));
    assert_eq!(Confirmation::redeem(bound, None, None), Err(BindingError::Downgrade));
    assert_eq!(Confirmation::redeem(None, Some(&mine), None), Ok(()));
    let x5t = X5t::of_certificate(b"mine");
    let both = Some(Confirmation::Both(mine.key(), x5t));
    assert_eq!(Confirmation::redeem(both, Some(&mine), Some(x5t)), Ok(()));
    assert_eq!(Confirmation::redeem(both, Some(&mine), None), Err(BindingError::CertificateMissing));
    let other = Some(X5t::of_certificate(b"theirs"));
    assert_eq!(Confirmation::redeem(both, Some(&mine), other), Err(BindingError::OtherCertificate));
}

#[test]
fn attack_43_what_a_cache_is_keyed_by_differs_for_every_token() {
    let (a, b) = (holder(None, "a", 5), holder(None, "b", 5));
    assert_ne!(a.token.digest(), b.token.digest());
    assert_eq!(Jws::parse(&a.text).unwrap().digest(), a.token.digest());
    // The same claims signed by another key, which an epoch of the first key must not spare.
    let other = key(Algorithm::Ed25519, 2);
    let token = check_access(&issue(&other, a.token.claims()), &jwks(&[&other])).unwrap();
    assert_eq!(token.claims(), a.token.claims());
    assert_ne!((token.digest(), token.signer()), (a.token.digest(), a.token.signer()));
}
