//! Attacks 15, 17 to 19, 51 and 52 of the catalogue: what the claims say.

use bartizan_jose::*;
use serde_json::json;

use crate::support::*;

fn assertion_refused(change: impl FnOnce(&mut AssertionClaims)) -> TokenError {
    let (key, mut claims) = (ed25519(), assertion());
    change(&mut claims);
    check::<AssertionClaims>(&issue(&key, &claims), &jwks(&[&key]), &assertion_rules()).unwrap_err()
}

#[test]
fn attack_15_a_client_assertion_for_another_server_a_list_of_audiences_or_a_long_life_is_refused() {
    let key = ed25519();
    let keys = jwks(&[&key]);
    let good = check::<AssertionClaims>(&issue(&key, &assertion()), &keys, &assertion_rules()).unwrap();
    for aud in ["https://as.example/token", "https://as.example/", "https://evil.example/token", CLIENT] {
        assert_eq!(assertion_refused(|c| c.aud = Audience::One(aud.to_owned())), TokenError::Audience);
    }
    for aud in [vec![ISSUER], vec![ISSUER, "https://evil.example"]] {
        let aud = Audience::Many(aud.into_iter().map(str::to_owned).collect());
        assert_eq!(assertion_refused(|c| c.aud = aud), TokenError::Audience, "a list, whatever is in it");
    }
    assert_eq!(assertion_refused(|c| c.client_id = "https://evil.example".to_owned()), TokenError::Client);
    assert_eq!(assertion_refused(|c| c.times.expires = after(331)), TokenError::TooLongLived);
    assert_eq!(assertion_refused(|c| c.times.expires = before(30)), TokenError::Expired);
    // Taken once: the same id is the same, whatever the rest says; another client's is another.
    let again = AssertionClaims { times: Times { expires: after(200), ..times() }, ..assertion() };
    assert_eq!(again.replay(&time()).id, good.replay(&time()).id);
    assert_eq!(good.replay(&time()).until, after(310), "until it has ended by any clock");
    let other = AssertionClaims { client_id: "other".to_owned(), ..assertion() };
    assert_ne!(other.replay(&time()).id, good.replay(&time()).id);
    // Ids and issuers cannot be shifted into one another.
    let (a, b) = (
        AssertionClaims { client_id: "ab".to_owned(), jti: "c".to_owned(), ..assertion() },
        AssertionClaims { client_id: "a".to_owned(), jti: "bc".to_owned(), ..assertion() },
    );
    assert_ne!(a.replay(&time()).id, b.replay(&time()).id);
}

#[test]
fn attack_15_an_assertion_needs_its_claims_and_one_without_its_issue_counts_as_issued_five_minutes_before_its_end()
 {
    let random = bartizan_base::random::SeededRandom::new(3);
    let key = testing::ForeignKey::ed25519("k", &random).unwrap();
    let keys = Jwks::parse(json!({"keys": [key.public_jwk()]}).to_string().as_bytes()).unwrap();
    let read = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut claims = opened(&issue(&ed25519(), &assertion())).1;
        change(&mut claims);
        check::<AssertionClaims>(&key.sign("JWT", &claims).unwrap(), &keys, &assertion_rules())
            .map(Verified::into_claims)
    };
    let remove =
        |name: &'static str| move |c: &mut serde_json::Value| drop(c.as_object_mut().unwrap().remove(name));
    assert_eq!(read(&|_| ()).unwrap(), assertion());
    assert_eq!(read(&remove("iat")).unwrap().times.issued, before(20));
    for name in ["iss", "sub", "aud", "exp", "jti"] {
        assert_eq!(read(&remove(name)).unwrap_err(), TokenError::Claim(name));
    }
    assert_eq!(read(&|c| c["sub"] = json!("alice")).unwrap_err(), TokenError::Client);
    for name in ["events", "nonce", "htm", "at_hash"] {
        assert_eq!(read(&|c| c[name] = json!("x")).unwrap_err(), TokenError::Forbidden(name));
    }
}

fn subject(change: impl FnOnce(&mut AccessClaims)) -> Verified<AccessClaims> {
    let (key, mut claims) = (ed25519(), access());
    claims.scope = Some("a b c".to_owned());
    claims.acr = Some("phr".to_owned());
    claims.auth_time = Some(before(3_000));
    change(&mut claims);
    check_access(&issue(&key, &claims), &jwks(&[&key])).unwrap()
}

fn ask() -> Exchange<'static> {
    Exchange {
        issuer: ISSUER,
        jti: "ex-1",
        client_id: "agent-client",
        actor: Some(Actor::named("reporter")),
        audience: "https://tool.example",
        scope: Some("a c"),
        issued: NOW,
        expires: after(100),
        cnf: None,
    }
}

#[test]
fn attack_17_an_exchanged_token_never_has_more_scope_life_or_assurance_and_names_every_actor() {
    let from = subject(|_| ());
    let to = ask().of(&from).unwrap();
    assert_eq!(
        (to.sub.as_str(), to.scope.as_deref(), to.actors().collect::<Vec<_>>()),
        ("alice", Some("a c"), vec!["reporter"])
    );
    assert_eq!(
        (to.acr.as_deref(), to.auth_time, to.expires()),
        (Some("phr"), Some(before(3_000)), after(100))
    );
    assert_eq!(to.aud, Audience::One("https://tool.example".to_owned()));
    assert_eq!(Exchange { scope: None, ..ask() }.of(&from).unwrap().scope.as_deref(), Some("a b c"));
    assert_eq!(Exchange { scope: Some(""), ..ask() }.of(&from).unwrap().scope.as_deref(), Some(""));
    assert_eq!(Exchange { expires: after(9_000), ..ask() }.of(&from).unwrap().expires(), from.expires());
    for scope in ["d", "a d", "A", "a b c d"] {
        assert_eq!(Exchange { scope: Some(scope), ..ask() }.of(&from), Err(NarrowError::Scope), "{scope}");
    }
    assert_eq!(Exchange { issued: after(280), ..ask() }.of(&from), Err(NarrowError::Expired));
    assert_eq!(Exchange { issuer: "https://other.example", ..ask() }.of(&from), Err(NarrowError::Issuer));
    let secret = subject(|c| drop(c.others.insert("tenant_admin".to_owned(), json!(true))));
    assert!(ask().of(&secret).unwrap().others.is_empty());
}

#[test]
fn attack_17_loops_forged_actors_and_chains_that_are_too_long_are_refused() {
    let by = |sub: &str| Exchange { actor: Some(Actor::named(sub)), ..ask() };
    assert_eq!(by("alice").of(&subject(|_| ())), Err(NarrowError::Loop));
    let mut chain = Vec::new();
    for n in 0..ACTORS_MAX {
        let from = subject(|c| c.act.clone_from(&chain));
        assert_eq!(by("x0").of(&from).is_err(), n > 0, "who acts already");
        let to = by(&format!("x{n}")).of(&from).unwrap();
        assert_eq!(
            to.act.iter().skip(1).cloned().collect::<Vec<_>>(),
            chain,
            "earlier actors stay as they were"
        );
        chain = to.act;
    }
    assert_eq!(by("one more").of(&subject(|c| c.act = chain)), Err(NarrowError::ChainTooLong));
    let named = subject(|c| c.may_act = Some(Actor::named("reporter")));
    assert!(by("reporter").of(&named).is_ok());
    assert_eq!(by("other").of(&named), Err(NarrowError::MayAct));
    // The same name at another issuer is another party.
    let foreign = Actor { iss: Some("https://evil.example".to_owned()), ..Actor::named("reporter") };
    assert_eq!(Exchange { actor: Some(foreign), ..ask() }.of(&named), Err(NarrowError::MayAct));
    let spelled_out = Actor { iss: Some(ISSUER.to_owned()), ..Actor::named("alice") };
    assert_eq!(Exchange { actor: Some(spelled_out), ..ask() }.of(&subject(|_| ())), Err(NarrowError::Loop));
}

#[test]
fn attack_18_a_bound_token_is_not_exchanged_for_a_bearer_token() {
    let key = Confirmation::Key(key(Algorithm::Es256, 5).thumbprint());
    let own = Confirmation::Key(ed25519().thumbprint());
    let bound = subject(|c| c.cnf = Some(key));
    assert_eq!(ask().of(&bound), Err(NarrowError::Unbound));
    assert_eq!(Exchange { cnf: Some(own), ..ask() }.of(&bound).unwrap().cnf, Some(own));
}

#[test]
fn attack_19_an_identity_assertion_of_wrong_type_audience_client_or_issuer_is_refused_and_taken_once() {
    let key = ed25519();
    let keys = jwks(&[&key]);
    let read = |claims: &IdJagClaims| {
        check::<IdJagClaims>(&issue(&key, claims), &keys, &id_jag_rules()).map(Verified::into_claims)
    };
    let good = read(&id_jag()).unwrap();
    let with = |change: &dyn Fn(&mut IdJagClaims)| {
        let mut claims = id_jag();
        change(&mut claims);
        read(&claims).unwrap_err()
    };
    assert_eq!(with(&|c| c.iss = "https://evil.example".to_owned()), TokenError::Issuer);
    assert_eq!(with(&|c| c.aud = Audience::One("https://other.example".to_owned())), TokenError::Audience);
    assert_eq!(with(&|c| c.aud = Audience::Many(vec![AUDIENCE.to_owned()])), TokenError::Audience);
    assert_eq!(with(&|c| c.client_id = "another".to_owned()), TokenError::Client);
    assert_eq!(with(&|c| c.times.expires = after(9_000)), TokenError::TooLongLived);
    let again = IdJagClaims { sub: "bob".to_owned(), ..id_jag() };
    assert_eq!(again.replay(&time()).id, good.replay(&time()).id);
    let id_token = issue(&key, &IdClaims { aud: Audience::One(AUDIENCE.to_owned()), ..id() });
    assert_eq!(check::<IdJagClaims>(&id_token, &keys, &id_jag_rules()).unwrap_err(), TokenError::Type);
}

#[test]
fn attack_51_an_id_token_without_the_nonce_for_another_client_or_of_another_issuer_is_refused() {
    let key = ed25519();
    let keys = jwks(&[&key]);
    let read = |claims: &IdClaims, rules: &IdRules<'_>| {
        check::<IdClaims>(&issue(&key, claims), &keys, rules).map(drop)
    };
    let with = |change: &dyn Fn(&mut IdClaims)| {
        let mut claims = id();
        change(&mut claims);
        read(&claims, &id_rules())
    };
    assert_eq!(with(&|_| ()), Ok(()));
    assert_eq!(with(&|c| c.nonce = None), Err(TokenError::Nonce));
    assert_eq!(with(&|c| c.nonce = Some("other".to_owned())), Err(TokenError::Nonce));
    for iss in ["https://as.example/", "https://as.example.evil.example", "http://as.example"] {
        assert_eq!(with(&|c| c.iss = iss.to_owned()), Err(TokenError::Issuer));
    }
    let list = |all: &[&str]| Audience::Many(all.iter().map(|a| (*a).to_owned()).collect());
    assert_eq!(with(&|c| c.aud = list(&["other"])), Err(TokenError::Audience));
    assert_eq!(with(&|c| c.aud = list(&[CLIENT, "untrusted"])), Err(TokenError::Audience));
    let rules = IdRules { trusted_audiences: &["api"], ..id_rules() };
    let both = IdClaims { aud: list(&[CLIENT, "api"]), ..id() };
    assert_eq!(read(&both, &rules), Err(TokenError::Client), "several, and it is not said whose it is");
    assert_eq!(read(&IdClaims { azp: Some(CLIENT.to_owned()), ..both.clone() }, &rules), Ok(()));
    assert_eq!(read(&IdClaims { azp: Some("api".to_owned()), ..both }, &rules), Err(TokenError::Client));
    let aged = IdRules { age_max: Some(secs(100)), ..id_rules() };
    assert_eq!(read(&id(), &aged), Err(TokenError::Stale), "not said when");
    assert_eq!(read(&IdClaims { auth_time: Some(before(130)), ..id() }, &aged), Ok(()));
    assert_eq!(read(&IdClaims { auth_time: Some(before(131)), ..id() }, &aged), Err(TokenError::Stale));
    assert_eq!(read(&IdClaims { auth_time: Some(after(31)), ..id() }, &aged), Err(TokenError::NotYetValid));
}

#[test]
fn attack_5_an_id_token_that_came_with_another_code_or_access_token_is_refused() {
    for algorithm in [Algorithm::Ed25519, Algorithm::Es256] {
        let key = key(algorithm, 4);
        let claims = IdClaims {
            at_hash: Some(algorithm.half_hash("token")),
            c_hash: Some(algorithm.half_hash("code")),
            ..id()
        };
        let read = |claims: &IdClaims, access_token, code| {
            let rules = IdRules { access_token, code, ..id_rules() };
            check::<IdClaims>(&issue(&key, claims), &jwks(&[&key]), &rules).map(drop)
        };
        assert_eq!(read(&claims, Some("token"), Some("code")), Ok(()));
        assert_eq!(read(&claims, Some("other"), Some("code")), Err(TokenError::Hash));
        assert_eq!(read(&claims, Some("token"), Some("other")), Err(TokenError::Hash));
        assert_eq!(read(&id(), None, Some("code")), Err(TokenError::Claim("c_hash")));
    }
}

#[test]
fn attack_52_an_event_of_another_stream_type_or_time_is_refused_and_taken_once() {
    let key = ed25519();
    let keys = jwks(&[&key]);
    let read =
        |claims: &EventClaims| check::<EventClaims>(&issue(&key, claims), &keys, &event_rules()).map(drop);
    assert_eq!(read(&event()), Ok(()));
    assert_eq!(
        read(&EventClaims { iss: "https://evil.example".to_owned(), ..event() }),
        Err(TokenError::Issuer)
    );
    assert_eq!(
        read(&EventClaims { aud: Audience::One("other".to_owned()), ..event() }),
        Err(TokenError::Audience)
    );
    assert_eq!(read(&EventClaims { issued: before(631), ..event() }), Err(TokenError::Expired));
    assert_eq!(read(&EventClaims { issued: after(31), ..event() }), Err(TokenError::NotYetValid));
    let again = EventClaims { events: json!({"x": {}}).as_object().cloned().unwrap(), ..event() };
    assert_eq!(again.replay(&time()).id, event().replay(&time()).id);
    let empty = EventClaims { events: serde_json::Map::new(), ..event() };
    assert_eq!(key.issue(&empty).unwrap_err(), IssueError::Claims(TokenError::Claim("events")));
}

#[test]
fn a_logout_token_needs_its_event_and_a_subject_or_session_and_has_no_nonce() {
    let random = bartizan_base::random::SeededRandom::new(3);
    let key = testing::ForeignKey::ed25519("k", &random).unwrap();
    let keys = Jwks::parse(json!({"keys": [key.public_jwk()]}).to_string().as_bytes()).unwrap();
    let read = |typ: &str, rules: &LogoutRules<'_>, change: &dyn Fn(&mut serde_json::Value)| {
        let mut claims = opened(&issue(&ed25519(), &logout())).1;
        change(&mut claims);
        check::<LogoutClaims>(&key.sign(typ, &claims).unwrap(), &keys, rules).map(drop)
    };
    let strict = LogoutRules { untyped: false, ..logout_rules() };
    assert_eq!(read("logout+jwt", &strict, &|_| ()), Ok(()));
    assert_eq!(read("JWT", &logout_rules(), &|_| ()), Ok(()));
    assert_eq!(read("JWT", &strict, &|_| ()), Err(TokenError::Type));
    assert_eq!(
        read("logout+jwt", &strict, &|c| c["nonce"] = json!("n")),
        Err(TokenError::Forbidden("nonce"))
    );
    assert_eq!(
        read("logout+jwt", &strict, &|c| c["events"] = json!({"other": {}})),
        Err(TokenError::Claim("events"))
    );
    assert_eq!(read("logout+jwt", &strict, &|c| c["aud"] = json!("other")), Err(TokenError::Audience));
    let neither = |c: &mut serde_json::Value| {
        c.as_object_mut().unwrap().retain(|name, _| name != "sub" && name != "sid")
    };
    assert_eq!(read("logout+jwt", &strict, &neither), Err(TokenError::Claim("sub")));
}

#[test]
fn attack_33_a_workload_of_another_platform_trust_domain_or_audience_is_refused() {
    let key = ed25519();
    let keys = jwks(&[&key]);
    let read = |claims: &WorkloadClaims, issuer: &str| {
        let rules = WorkloadRules { issuer, ..workload_rules() };
        check::<WorkloadClaims>(&issue(&key, claims), &keys, &rules).map(drop)
    };
    assert_eq!(read(&workload(), ISSUER), Ok(()));
    assert_eq!(read(&workload(), "https://evil.example"), Err(TokenError::Issuer));
    let other = WorkloadClaims { aud: Audience::One("other".to_owned()), ..workload() };
    assert_eq!(read(&other, ISSUER), Err(TokenError::Audience));
    let nameless = WorkloadClaims { iss: None, ..workload() };
    assert_eq!(read(&nameless, ISSUER), Err(TokenError::Issuer));
    let spiffe = |sub: &str| {
        read(&WorkloadClaims { iss: None, sub: sub.to_owned(), ..workload() }, "spiffe://prod.example")
    };
    assert_eq!(spiffe("spiffe://prod.example/ns/ml"), Ok(()));
    for sub in [
        "spiffe://dev.example/ns/ml",
        "spiffe://prod.example",
        "spiffe://prod.example/",
        "spiffe://prod.example.evil.example/ns/ml",
        "prod.example/ns",
    ] {
        assert_eq!(spiffe(sub), Err(TokenError::Issuer), "{sub}");
    }
    let pretender = WorkloadClaims { iss: Some("spiffe://prod.example".to_owned()), ..workload() };
    assert_eq!(
        read(&pretender, "spiffe://prod.example"),
        Err(TokenError::Issuer),
        "the name decides, not the claim"
    );
    let again = WorkloadClaims { sub: "another".to_owned(), ..workload() };
    assert_eq!(again.replay(&workload_rules()).unwrap().id, workload().replay(&workload_rules()).unwrap().id);
    assert_eq!(WorkloadClaims { jti: None, ..workload() }.replay(&workload_rules()), None);
}

#[test]
fn attack_26_marks_of_other_kinds_of_token_are_refused_in_events_and_in_tokens_of_workloads() {
    let random = bartizan_base::random::SeededRandom::new(3);
    let key = testing::ForeignKey::ed25519("k", &random).unwrap();
    let keys = Jwks::parse(json!({"keys": [key.public_jwk()]}).to_string().as_bytes()).unwrap();
    for name in ["exp", "sub"] {
        let mut claims = opened(&issue(&ed25519(), &event())).1;
        claims[name] = json!(1);
        let token = key.sign("secevent+jwt", &claims).unwrap();
        assert_eq!(
            check::<EventClaims>(&token, &keys, &event_rules()).unwrap_err(),
            TokenError::Forbidden(name)
        );
    }
    let workload_with = |name: &str, value: serde_json::Value| {
        let mut claims = opened(&issue(&ed25519(), &workload())).1;
        claims[name] = value;
        check::<WorkloadClaims>(&key.sign("JWT", &claims).unwrap(), &keys, &workload_rules()).unwrap_err()
    };
    for name in ["nonce", "at_hash", "c_hash", "events", "htm", "cnf", "act"] {
        assert_eq!(workload_with(name, json!("x")), TokenError::Forbidden(name));
    }
    assert_eq!(workload_with("sub", json!(ISSUER)), TokenError::Claim("sub"), "a client that names itself");
}
