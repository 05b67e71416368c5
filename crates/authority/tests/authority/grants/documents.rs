//! Clients that are known by a document of their own, from the first request to the token; and how clients prove themselves.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bartizan_authority::authorize::{Desk, Outcome, Person};
use bartizan_authority::clients::{Authenticated, Client, Registry, Request};
use bartizan_authority::kept::{Kept as _, Reach, Session, keep};
use bartizan_authority::oauth::{Form, MetadataClients, OauthError, Settings, TokenAnswer};
use bartizan_authority::{Authority, grant};
use bartizan_base::Digest;
use bartizan_control::View;
use bartizan_jose::testing::ForeignKey;
use bartizan_model::{Action, Risk, SessionId, Tenant};
use http::HeaderMap;
use serde_json::{Value, json};

use crate::grants::world::{GATEWAY, ISSUER, Kept, World, alice, claims, code, form};

const APP: &str = "https://app.example/client";
const CALLBACK: &str = "http://127.0.0.1:4711/cb";
/// RFC 7636, Appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

struct Scene {
    world: World,
    authority: Authority,
    desk: Desk,
    person: Person,
}

impl Scene {
    async fn new() -> Self {
        let world = World::new(Kept::Memory).await;
        let trusted =
            MetadataClients { scopes: ["model:list".to_owned()].into(), ..MetadataClients::default() };
        let settings = Settings {
            metadata_clients: Some(trusted),
            default_scopes: ["model:list".to_owned()].into(),
            ..(*world.authority.settings).clone()
        };
        let authority = Authority { settings: Arc::new(settings), ..world.authority.clone() };
        let desk = Desk::new(Arc::new(Registry::new(authority.clone(), world.fetch.clone())));
        let session = Session {
            id: SessionId::new(world.now(), &*authority.control.random),
            secret: Digest::of(b""),
            principal: alice(),
            assurance: world.login(),
            began: world.now(),
            ends: world.now().saturating_add(Duration::from_secs(36_000)),
            idle_ends: world.now().saturating_add(Duration::from_secs(36_000)),
            agent: String::new(),
            network: String::new(),
            device: None,
            risk: Risk::default(),
            reach: Reach::Full,
        };
        let person = Person { caller: world.person(&alice()), session };
        let change = keep(&Tenant::default_tenant(), person.session.id.to_string(), &person.session).unwrap();
        assert_eq!(person.session.owner(), alice().id.to_string());
        let work = async |_: &View, _: &Tenant| Ok((vec![change], ()));
        authority
            .control
            .change_with(&person.caller, Action::SessionAuthenticate, &"test", work)
            .await
            .unwrap();
        let scene = Self { world, authority, desk, person };
        scene.publish(&json!({}));
        scene
    }

    /// Publishes the client's document, changed.
    fn publish(&self, change: &Value) {
        let mut document =
            json!({"client_id": APP, "client_name": "An app", "redirect_uris": ["http://127.0.0.1/cb"]});
        document.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        self.world.fetch.0.lock().unwrap().insert(APP.to_owned(), document);
    }

    async fn ask(&self) -> Result<Outcome, OauthError> {
        let form = form(&[
            ("client_id", APP),
            ("redirect_uri", CALLBACK),
            ("response_type", "code"),
            ("scope", "model:list"),
            ("resource", GATEWAY),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ]);
        self.desk.authorize(&form, Some(&self.person)).await
    }

    async fn consent(&self) -> String {
        match self.ask().await.unwrap() {
            Outcome::Consent(id) => id,
            other => panic!("{other:?}"),
        }
    }

    async fn allow(&self, id: &str) -> String {
        let ask = self.desk.consent(id, &self.person).await.unwrap();
        let answer = self.desk.allow(id, &ask.token, &self.person, None).await.unwrap();
        let address = answer.address().expose().clone();
        let query = address.split_once('?').unwrap().1;
        Form::parse(query.as_bytes()).unwrap().get("code").unwrap_or_else(|| panic!("{address}")).to_owned()
    }

    /// What the token endpoint does with a code.
    async fn redeem(&self, code: &str, more: &[(&str, &str)]) -> Result<TokenAnswer, OauthError> {
        let pairs =
            [("client_id", APP), ("code", code), ("redirect_uri", CALLBACK), ("code_verifier", VERIFIER)];
        let form = form(&[&pairs[..], more].concat());
        let agreed = grant::agreed(&self.authority, &form, self.world.now()).await?;
        let client = self.authenticate(&form, agreed).await?;
        grant::code(&self.authority, &client, &form).await
    }

    async fn authenticate(&self, form: &Form, agreed: Option<Client>) -> Result<Authenticated, OauthError> {
        let uri = format!("{ISSUER}/oauth/token");
        let headers = HeaderMap::new();
        let request =
            Request { headers: &headers, form, uri: &uri, certificate: None, now: self.world.now() };
        self.desk.registry().authenticate(&request, agreed).await
    }
}

#[tokio::test]
async fn attack_12_a_client_known_by_its_document_is_asked_about_each_time_with_its_host() {
    let scene = Scene::new().await;
    for _ in 0..2 {
        let id = scene.consent().await;
        let ask = scene.desk.consent(&id, &scene.person).await.unwrap();
        assert_eq!(ask.host.as_deref(), Some("app.example"));
        assert_eq!(ask.redirect_host, "127.0.0.1:4711");
        assert!(ask.local && !ask.identified);
        let code = scene.allow(&id).await;
        let answer = scene.redeem(&code, &[]).await.unwrap();
        assert_eq!(claims(answer.access_token.expose()).client_id.as_deref(), Some(APP));
    }
}

#[tokio::test]
async fn attack_34_36_a_document_that_is_not_there_or_not_acceptable_makes_no_client_and_is_not_kept() {
    let scene = Scene::new().await;
    scene.world.fetch.0.lock().unwrap().clear();
    assert_eq!(code(scene.ask().await), "invalid_client");
    for change in [
        json!({"client_secret": "s"}),
        json!({"client_secret_expires_at": 0}),
        json!({"token_endpoint_auth_method": "client_secret_basic"}),
        json!({"client_id": "https://app.example/Client"}),
    ] {
        scene.publish(&change);
        // Within its bounds what was fetched is kept, so it is looked at again only later.
        scene.world.pass(301).await;
        assert_eq!(code(scene.ask().await), "invalid_client_metadata");
    }
    scene.publish(&json!({"redirect_uris": ["https://app.example/cb"]}));
    scene.world.pass(301).await;
    assert_eq!(code(scene.ask().await), "invalid_request", "an address that is not in the document");
}

#[tokio::test]
async fn attack_35_what_was_agreed_to_counts_whatever_the_document_says_later() {
    let scene = Scene::new().await;
    let key = ForeignKey::p256("evil").unwrap();
    let taken_over = json!({
        "client_name": "Your bank",
        "redirect_uris": ["http://127.0.0.1/cb", "https://evil.example/cb"],
        "token_endpoint_auth_method": "private_key_jwt",
        "jwks": {"keys": [key.public_jwk()]},
    });
    // Between the page and the answer.
    let id = scene.consent().await;
    scene.publish(&taken_over);
    scene.world.pass(301).await;
    assert_eq!(scene.desk.consent(&id, &scene.person).await.unwrap().client, "An app");
    // Between the answer and the token: the new keys are worth nothing, and the client as it was comes in.
    let code_of = scene.allow(&id).await;
    let now = scene.world.now().as_secs();
    let assertion = json!({"iss": APP, "sub": APP, "aud": ISSUER, "iat": now, "exp": now + 60, "jti": "1"});
    let assertion = key.sign("client-authentication+jwt", &assertion).unwrap();
    let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let forged = [("client_assertion", assertion.as_str()), ("client_assertion_type", kind)];
    assert_eq!(code(scene.redeem(&code_of, &forged).await), "invalid_client");
    assert!(scene.redeem(&code_of, &[]).await.is_ok());
    // And what it is now must be agreed to anew.
    let ask = scene.desk.consent(&scene.consent().await, &scene.person).await.unwrap();
    assert_eq!(ask.client, "Your bank");
}

#[tokio::test]
async fn attack_04_a_code_of_another_session_or_of_a_withdrawn_grant_is_nothing() {
    let scene = Scene::new().await;
    let text = scene.allow(&scene.consent().await).await;
    let grants = scene.authority.list_grants(&scene.person.caller).await.unwrap().value;
    scene.authority.withdraw_grant(&scene.person.caller, grants.first().unwrap().id).await.unwrap();
    assert_eq!(code(scene.redeem(&text, &[]).await), "invalid_grant");
    let late = scene.allow(&scene.consent().await).await;
    scene.world.pass(61).await;
    assert_eq!(code(scene.redeem(&late, &[]).await), "invalid_grant", "a code lives a minute");
    // Who asked is who answers: another session of the same person does not.
    let id = scene.consent().await;
    let ask = scene.desk.consent(&id, &scene.person).await.unwrap();
    let mut other = scene.person.clone();
    other.session.id = SessionId::new(scene.world.now(), &*scene.authority.control.random);
    assert!(scene.desk.consent(&id, &other).await.is_err());
    assert!(scene.desk.allow(&id, &ask.token, &other, None).await.is_err());
    // Less than was asked for can be allowed, and never more.
    let more: BTreeSet<String> = ["model:list", "key:create"].map(str::to_owned).into();
    let answer = scene.desk.allow(&id, &ask.token, &scene.person, Some(&more)).await.unwrap();
    let address = answer.address().expose();
    let given = Form::parse(address.split_once('?').unwrap().1.as_bytes()).unwrap();
    assert_eq!(scene.redeem(given.get("code").unwrap(), &[]).await.unwrap().scope, "model:list");
}

#[tokio::test]
async fn attack_15_an_assertion_is_for_us_alone_of_now_by_the_clients_own_key_and_taken_once() {
    let scene = Scene::new().await;
    let (key, other) = (ForeignKey::p256("k1").unwrap(), ForeignKey::p256("k1").unwrap());
    scene.publish(
        &json!({"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [key.public_jwk()]}}),
    );
    let client = scene.desk.registry().find(APP).await.unwrap();
    let now = scene.world.now().as_secs();
    let good = json!({"iss": APP, "sub": APP, "aud": ISSUER, "iat": now, "exp": now + 60, "jti": "1"});
    let show = async |key: &ForeignKey, change: Value| {
        let mut assertion = good.clone();
        assertion.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let text = key.sign("client-authentication+jwt", &assertion).unwrap();
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        let form = form(&[("client_assertion", &text), ("client_assertion_type", kind)]);
        scene.authenticate(&form, Some(client.clone())).await
    };
    for change in [
        json!({"aud": "https://other.example/token"}),
        json!({"aud": [ISSUER, "https://other.example"]}),
        json!({"aud": [ISSUER]}),
        json!({"aud": format!("{ISSUER}/oauth/token")}),
        json!({"iss": "https://app.example/other"}),
        json!({"exp": now - 100}),
        json!({"exp": now + 1_000}),
        json!({"iat": now + 1_000, "exp": now + 1_060}),
        json!({"jti": null}),
    ] {
        assert_eq!(code(show(&key, change.clone()).await), "invalid_client", "{change}");
    }
    assert_eq!(code(show(&other, json!({})).await), "invalid_client", "another key of the same id");
    let proven = show(&key, json!({})).await.unwrap();
    assert!(proven.proven && proven.used.len() == 1);
    assert_eq!(code(show(&key, json!({})).await), "invalid_client", "taken once");
    assert!(show(&key, json!({"jti": "2"})).await.is_ok());
    // Merely named, such a client is nobody.
    assert_eq!(code(scene.authenticate(&form(&[("client_id", APP)]), Some(client)).await), "invalid_client");
}
