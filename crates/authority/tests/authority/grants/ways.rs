use std::collections::BTreeSet;
use std::net::IpAddr;

use bartizan_authority::authorize::Person;
use bartizan_authority::grant;
use bartizan_authority::kept::{Session, keep};
use bartizan_base::random::SeededRandom;
use bartizan_base::{Digest, Timestamp};
use bartizan_jose::testing::ForeignKey;
use bartizan_model::{Action, PrincipalKind, ReasonCode, SessionId, Tenant};
use serde_json::{Value, json};

use crate::grants::world::{GATEWAY, ISSUER, Kept, TOOLS, World, alice, claims, code, form, id, somebody};

#[tokio::test]
async fn a_client_that_is_somebody_gets_a_token_for_itself() {
    let world = World::new(Kept::Memory).await;
    let ask = async |name, key, pairs: &[(&str, &str)]| {
        grant::client_credentials(&world.authority, &world.client(name, key), &form(pairs)).await
    };
    let answer = ask("service-app", None, &[("scope", "model:invoke"), ("resource", TOOLS)]).await.unwrap();
    let said = claims(answer.access_token.expose());
    assert_eq!((said.sub.clone(), said.client_id.as_deref()), (id(9).to_string(), Some("service-app")));
    assert_eq!(said.others["bartizan"]["kind"], "workload");
    assert!(answer.refresh_token.is_none() && answer.id_token.is_none() && said.sid.is_none());
    let before = world.view().state.revision;
    ask("service-app", None, &[]).await.unwrap();
    world.keeper.watch().await.unwrap();
    assert_eq!(world.view().state.revision, before, "nothing that every node has to hear of");
    assert_eq!(code(ask("cli", None, &[]).await), "unauthorized_client", "it proves nothing");
    assert_eq!(code(ask("web", None, &[]).await), "unauthorized_client", "it is nobody");
    assert_eq!(code(ask("service-app", None, &[("scope", "openid")]).await), "invalid_scope");
    assert_eq!(code(ask("service-app", None, &[("scope", "house:change")]).await), "invalid_scope");
    assert_eq!(
        code(ask("service-app", None, &[("resource", "https://evil.example")]).await),
        "invalid_target"
    );
    assert_eq!(code(ask("bound-app", None, &[]).await), "invalid_request", "its tokens are bound");
    assert_eq!(ask("bound-app", Some(1), &[]).await.unwrap().token_type, "DPoP");
    assert_eq!(code(ask("barred-app", None, &[]).await), "access_denied", "policy says so");
}

fn issuer(number: u64) -> ForeignKey {
    ForeignKey::ed25519(&format!("key-{number}"), &SeededRandom::new(number)).unwrap()
}

/// Rules about a platform and an identity provider, and their keys.
async fn federated(world: &World) {
    let mut published = std::collections::HashMap::new();
    published.insert("https://ci.example/jwks".to_owned(), json!({"keys": [issuer(1).public_jwk()]}));
    published.insert("https://idp.example/jwks".to_owned(), json!({"keys": [issuer(2).public_jwk()]}));
    *world.fetch.0.lock().unwrap() = published;
    let rules = [
        json!({"name": "ci", "spec": {"kind": "federation", "issuer": "https://ci.example",
            "jwks_url": "https://ci.example/jwks", "scopes": ["model:invoke"], "resources": [TOOLS],
            "subjects": [{"subject": "repo:org/*:ref:refs/heads/main", "claims": {"environment": "production"},
                "principal": {"kind": "workload", "name": "deployer"}}]}}),
        json!({"name": "idp", "spec": {"kind": "federation", "issuer": "https://idp.example",
            "jwks_url": "https://idp.example/jwks", "takes": "identity_assertion", "scopes": ["model:invoke", "model:list"],
            "acr": {"urn:mfa": 4}, "assurance_cap": 2,
            "subjects": [{"subject": "00u*", "name_claim": "preferred_username"}]}}),
    ];
    let bob = world.person(&somebody(PrincipalKind::User, "bob", 2));
    let rules: Vec<_> = rules.into_iter().map(|rule| serde_json::from_value(rule).unwrap()).collect();
    world.authority.control.apply_documents(&bob, &rules).await.unwrap();
}

async fn bearer(
    world: &World,
    client: (&str, Option<u8>),
    assertion: &str,
    more: &[(&str, &str)],
) -> Result<bartizan_authority::oauth::TokenAnswer, bartizan_authority::oauth::OauthError> {
    let mut pairs = vec![("assertion", assertion)];
    pairs.extend(more);
    grant::jwt_bearer(&world.registry, &world.client(client.0, client.1), &form(&pairs)).await
}

fn with(mut value: Value, name: &str, other: Value) -> Value {
    value[name] = other;
    value
}

#[tokio::test]
async fn a_workload_gets_a_token_for_the_token_of_its_platform() {
    let world = World::new(Kept::Memory).await;
    federated(&world).await;
    let now = world.now().as_secs();
    let good = json!({"iss": "https://ci.example", "sub": "repo:org/app:ref:refs/heads/main", "aud": ISSUER,
        "iat": now, "exp": now + 120, "environment": "production"});
    let sign = |claims: &Value| issuer(1).sign("JWT", claims).unwrap();
    let answer = bearer(&world, ("cli", None), &sign(&good), &[]).await.unwrap();
    let said = claims(answer.access_token.expose());
    assert_eq!((said.sub.clone(), said.scope.as_deref()), (id(10).to_string(), Some("model:invoke")));
    assert!(said.is_for(TOOLS), "the only address that the rule is for");
    assert_eq!(said.times.expires, Timestamp::from_secs(now + 120), "nothing outlives the platform's token");
    for (name, other) in [
        ("iss", json!("https://evil.example")),
        ("sub", json!("repo:org/app:ref:refs/heads/feature")),
        ("sub", json!("repo:other/app:ref:refs/heads/main")),
        ("aud", json!("https://another.example")),
        ("environment", json!("staging")),
        ("exp", json!(now - 60)),
        ("iat", json!(now + 300)),
        ("nonce", json!("n")),
    ] {
        let bad = sign(&with(good.clone(), name, other));
        assert_eq!(code(bearer(&world, ("cli", None), &bad, &[]).await), "invalid_grant", "{name}");
    }
    let forged = ForeignKey::ed25519("key-1", &SeededRandom::new(99)).unwrap().sign("JWT", &good).unwrap();
    assert_eq!(code(bearer(&world, ("cli", None), &forged, &[]).await), "invalid_grant");
    assert_eq!(
        code(bearer(&world, ("cli", None), &sign(&good), &[("scope", "tool:call")]).await),
        "invalid_scope"
    );
    assert_eq!(
        code(bearer(&world, ("cli", None), &sign(&good), &[("resource", GATEWAY)]).await),
        "invalid_target"
    );
}

fn spiffe(name: &str, more: &Value) -> bartizan_model::Document {
    let mut spec = json!({"kind": "federation", "issuer": "spiffe://acme.example", "scopes": ["model:invoke"],
        "subjects": [{"subject": "spiffe://acme.example/ns/*/sa/api", "principal": {"kind": "workload", "name": "deployer"}}]});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(json!({"name": name, "spec": spec})).unwrap()
}

fn bundle(key: &ForeignKey) -> Value {
    let jwk = with(key.public_jwk(), "use", json!("jwt-svid"));
    json!({"keys": [jwk], "spiffe_sequence": 1, "spiffe_refresh_hint": 60})
}

#[tokio::test]
async fn a_workload_of_a_trust_domain_gets_a_token_while_a_document_says_so() {
    const BUNDLE: &str = "https://acme.example/bundle";
    let world = World::new(Kept::Memory).await;
    let bob = world.person(&somebody(PrincipalKind::User, "bob", 2));
    let apply = async |document| world.authority.control.apply_documents(&bob, &[document]).await;
    let now = world.now().as_secs();
    let said = |sub: &str| json!({"sub": sub, "aud": ISSUER, "iat": now, "exp": now + 120});
    let good = issuer(1).sign("JWT", &said("spiffe://acme.example/ns/prod/sa/api")).unwrap();
    let come = async |token: &str| bearer(&world, ("cli", None), token, &[]).await;
    assert_eq!(code(come(&good).await), "invalid_grant", "nobody knows the domain");
    world.fetch.0.lock().unwrap().insert(BUNDLE.to_owned(), bundle(&issuer(1)));
    apply(spiffe("acme", &json!({"jwks_url": BUNDLE}))).await.unwrap();
    assert_eq!(claims(come(&good).await.unwrap().access_token.expose()).sub, id(10).to_string());
    let other = issuer(2).sign("JWT", &said("spiffe://acme.example/ns/prod/sa/api")).unwrap();
    for (why, token) in [
        ("another key", other),
        ("another workload", issuer(1).sign("JWT", &said("spiffe://acme.example/ns/prod/sa/other")).unwrap()),
        (
            "a name of another domain",
            issuer(1).sign("JWT", &said("spiffe://auth.example/workload/x")).unwrap(),
        ),
    ] {
        assert_eq!(code(come(&token).await), "invalid_grant", "{why}");
    }
    // The keys in the document itself instead; both together are refused, as is a bundle that is none.
    let both = spiffe("acme", &json!({"jwks_url": BUNDLE, "trust_bundle": bundle(&issuer(2))}));
    assert_eq!(apply(both).await.unwrap_err().problem.reason, ReasonCode::Invalid);
    let none = spiffe("acme", &json!({"trust_bundle": {"keys": []}}));
    assert_eq!(apply(none).await.unwrap_err().problem.reason, ReasonCode::Invalid);
    apply(spiffe("acme", &json!({"trust_bundle": bundle(&issuer(2))}))).await.unwrap();
    assert_eq!(code(come(&good).await), "invalid_grant");
    let other = issuer(2).sign("JWT", &said("spiffe://acme.example/ns/prod/sa/api")).unwrap();
    assert!(come(&other).await.is_ok());
    // For its own workloads the house vouches alone, whatever a document says.
    let ours = json!({"issuer": "spiffe://auth.example", "trust_bundle": bundle(&issuer(2)), "subjects": [
        {"subject": "spiffe://auth.example/workload/*", "principal": {"kind": "workload", "name": "deployer"}}]});
    apply(spiffe("ours", &ours)).await.unwrap();
    let own = issuer(2).sign("JWT", &said("spiffe://auth.example/workload/deployer")).unwrap();
    assert_eq!(code(come(&own).await), "invalid_grant");
    let gone = "acme".parse().unwrap();
    world.authority.control.delete_document(&bob, "federation", &gone).await.unwrap();
    assert_eq!(code(come(&other).await), "invalid_grant");
}

#[tokio::test]
async fn attack_19_an_identity_assertion_is_taken_once_from_its_issuer_for_its_client_and_for_us() {
    const TYP: &str = "oauth-id-jag+jwt";
    let world = World::new(Kept::Memory).await;
    federated(&world).await;
    let now = world.now().as_secs();
    let good = json!({"iss": "https://idp.example", "sub": "00u1", "aud": ISSUER, "client_id": "web", "jti": "one",
        "iat": now, "exp": now + 300, "scope": "model:invoke openid", "resource": GATEWAY, "acr": "urn:mfa",
        "auth_time": now - 500, "preferred_username": "alice"});
    let sign = |claims: &Value| issuer(2).sign(TYP, claims).unwrap();
    let web = ("web", None);
    for (name, other) in [
        ("iss", json!("https://ci.example")),
        ("aud", json!("https://another.example")),
        ("aud", json!([ISSUER, "https://another.example"])),
        ("client_id", json!("cli")),
        ("exp", json!(now - 60)),
        ("preferred_username", json!("nobody")),
        ("act", json!({"sub": "somebody"})),
    ] {
        let bad = sign(&with(with(good.clone(), name, other), "jti", json!(format!("bad-{name}"))));
        assert_eq!(code(bearer(&world, web, &bad, &[]).await), "invalid_grant", "{name}");
    }
    // An ID token, or an access token, is no assertion.
    for typ in ["JWT", "at+jwt"] {
        let other = issuer(2).sign(typ, &good).unwrap();
        assert_eq!(code(bearer(&world, web, &other, &[]).await), "invalid_grant", "{typ}");
    }
    assert_eq!(
        code(bearer(&world, ("cli", None), &sign(&with(good.clone(), "client_id", json!("cli"))), &[]).await),
        "unauthorized_client"
    );
    let answer = bearer(&world, web, &sign(&good), &[]).await.unwrap();
    let said = claims(answer.access_token.expose());
    assert_eq!((said.sub.clone(), said.scope.as_deref()), (alice().id.to_string(), Some("model:invoke")));
    assert_eq!(said.acr.as_deref(), Some("aal2"), "no more than the cap");
    assert_eq!(said.auth_time, Some(Timestamp::from_secs(now - 500)));
    assert!(said.is_for(GATEWAY) && answer.refresh_token.is_none());
    assert_eq!(code(bearer(&world, web, &sign(&good), &[]).await), "invalid_grant", "taken once");
    // Another node of the house has not seen it, and refuses it all the same.
    let other = bartizan_authority::clients::Registry::new(world.authority.clone(), world.fetch.clone());
    let asked = form(&[("assertion", sign(&good).as_str())]);
    let again = grant::jwt_bearer(&other, &world.client("web", None), &asked).await;
    assert_eq!(code(again), "invalid_grant");
}

/// Alice at her browser.
async fn at_browser(world: &World) -> Person {
    let session = Session {
        id: SessionId::new(world.now(), &*world.authority.control.random),
        secret: Digest::of(b"cookie"),
        principal: alice(),
        assurance: world.login(),
        began: world.now(),
        ends: world.now().saturating_add(std::time::Duration::from_secs(8 * 3_600)),
        idle_ends: world.now().saturating_add(std::time::Duration::from_secs(3_600)),
        agent: "browser".to_owned(),
        network: "192.0.2.0/24".to_owned(),
        device: None,
        risk: Default::default(),
        reach: Default::default(),
    };
    let caller = world.person(&alice());
    let change = keep(&Tenant::default_tenant(), session.id.to_string(), &session).unwrap();
    let work = async |_: &bartizan_control::View, _: &Tenant| Ok((vec![change], ()));
    world
        .authority
        .control
        .change_with(&caller, Action::SessionAuthenticate, &session.id, work)
        .await
        .unwrap();
    Person { session, caller }
}

fn network(_: IpAddr) -> &'static str {
    "198.51.100.0/24"
}

#[tokio::test]
async fn attack_20_a_device_gets_its_token_once_and_only_after_somebody_saw_who_asks() {
    let world = World::new(Kept::Memory).await;
    let client = world.client("cli", None);
    let net = network("198.51.100.7".parse().unwrap());
    let begun =
        world.authority.begin_device(&client, &form(&[("scope", "model:invoke openid")]), net).await.unwrap();
    let device = begun["device_code"].as_str().unwrap().to_owned();
    let shown = begun["user_code"].as_str().unwrap().to_owned();
    assert_eq!((begun["expires_in"].as_u64(), begun["interval"].as_u64()), (Some(600), Some(5)));
    assert!(shown.len() == 9 && begun["verification_uri"] == format!("{ISSUER}/device"));
    let poll = async |name| {
        grant::device(&world.authority, &world.client(name, None), &form(&[("device_code", &device)])).await
    };
    assert_eq!(code(poll("cli").await), "authorization_pending");
    assert_eq!(code(poll("cli").await), "slow_down");
    assert_eq!(code(poll("web").await), "invalid_grant", "somebody else's");
    let person = at_browser(&world).await;
    let ask = world.authority.device_ask(&person, &shown.to_lowercase().replace('-', " ")).await.unwrap();
    assert_eq!((ask.client.as_str(), ask.network.as_str(), ask.identified), ("cli", net, false));
    assert_eq!(
        ask.scopes.iter().map(|(s, _)| s.as_str()).collect::<BTreeSet<_>>(),
        BTreeSet::from(["model:invoke", "openid"])
    );
    assert!(world.authority.allow_device(&person, &shown, "forged").await.is_err(), "only from its own page");
    let other = at_browser(&world).await;
    assert!(world.authority.allow_device(&other, &shown, &ask.token).await.is_err(), "of its own session");
    world.authority.allow_device(&person, &shown, &ask.token).await.unwrap();
    assert!(world.authority.allow_device(&person, &shown, &ask.token).await.is_err(), "answered");
    world.pass(20).await;
    let answer = poll("cli").await.unwrap();
    let said = claims(answer.access_token.expose());
    assert_eq!(said.sid, Some(person.session.id.to_string()), "bound to the session in which it was allowed");
    assert_eq!(said.acr.as_deref(), Some("aal2"));
    world.pass(20).await;
    assert_eq!(code(poll("cli").await), "invalid_grant", "once");
    let refresh = answer.refresh_token.unwrap().expose().clone();
    let again =
        grant::refresh(&world.authority, &client, &form(&[("refresh_token", &refresh)])).await.unwrap();
    world.pass(2 * 3_600).await;
    let refresh = again.refresh_token.unwrap().expose().clone();
    let late = grant::refresh(&world.authority, &client, &form(&[("refresh_token", &refresh)])).await;
    assert_eq!(code(late), "invalid_grant", "it ends with the session");
}

#[tokio::test]
async fn attack_20_codes_are_refused_denied_over_and_bounded() {
    let world = World::new(Kept::Memory).await;
    let client = world.client("cli", None);
    let begin =
        async |scope: &str| world.authority.begin_device(&client, &form(&[("scope", scope)]), "net").await;
    assert_eq!(code(begin("house:change").await), "invalid_scope");
    assert_eq!(code(begin("model:train").await), "invalid_scope");
    let begun = begin("model:invoke").await.unwrap();
    let (device, shown) = (begun["device_code"].as_str().unwrap(), begun["user_code"].as_str().unwrap());
    let poll = async || grant::device(&world.authority, &client, &form(&[("device_code", device)])).await;
    let person = at_browser(&world).await;
    let ask = world.authority.device_ask(&person, shown).await.unwrap();
    world.authority.deny_device(&person, shown, &ask.token).await.unwrap();
    assert_eq!(code(poll().await), "access_denied");
    let second = begin("model:invoke").await.unwrap();
    let device = second["device_code"].as_str().unwrap();
    world.pass(601).await;
    let over = grant::device(&world.authority, &client, &form(&[("device_code", device)])).await;
    assert_eq!(code(over), "expired_token");
    let third = begin("model:invoke").await.unwrap();
    for _ in 0..5 {
        assert_eq!(code(world.authority.device_ask(&person, "BBBB-BBBB").await), "invalid_request");
    }
    let right = third["user_code"].as_str().unwrap();
    assert_eq!(
        code(world.authority.device_ask(&person, right).await),
        "temporarily_unavailable",
        "no more guesses"
    );
}

#[tokio::test]
async fn attack_10_whoever_is_sent_code_after_code_is_not_asked_on_and_on() {
    let world = World::new(Kept::Memory).await;
    let client = world.client("cli", None);
    let person = at_browser(&world).await;
    let begin = async || {
        let asked = form(&[("scope", "model:invoke")]);
        let begun = world.authority.begin_device(&client, &asked, "net").await.unwrap();
        begun["user_code"].as_str().unwrap().to_owned()
    };
    let mut answered = 0;
    let told = loop {
        let shown = begin().await;
        match world.authority.device_ask(&person, &shown).await {
            Ok(ask) => world.authority.deny_device(&person, &shown, &ask.token).await.unwrap(),
            Err(told) => break told,
        }
        answered += 1;
        assert!(answered < 20, "there is no bound");
    };
    assert_eq!((answered, told.code.name()), (10, "temporarily_unavailable"));
    // What is not seen is not allowed either; in ten minutes it is over.
    world.pass(601).await;
    let shown = begin().await;
    assert!(world.authority.device_ask(&at_browser(&world).await, &shown).await.is_ok());
}
