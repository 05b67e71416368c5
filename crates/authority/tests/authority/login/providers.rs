//! Logging in by another provider: number 51 of the catalogue.

use std::sync::{Arc, Mutex};

use bartizan_authority::login::upstream::{ProviderAnswer, Providers, Returned, Sent};
use bartizan_base::{Clock as _, Name};
use bartizan_control::Stopped;
use bartizan_jose::testing::ForeignKey;
use bartizan_model::{AssuranceLevel, Document, IdentityProviderSpec, ReasonCode, Spec, Status};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use crate::login::world::{Browser, World};
use crate::login::{enrol, reason, with_passkey};

pub(crate) const HERE: &str = "https://login.company.example";
pub(crate) const THERE: &str = "https://login.other.example";

/// A provider that says what it is told to say.
#[derive(Debug)]
pub(crate) struct Fake {
    key: ForeignKey,
    /// What the next ID token says beside the usual, and instead of it.
    claims: Mutex<Value>,
    metadata: Mutex<Value>,
    seen: Mutex<Vec<String>>,
    keys: Mutex<Option<ForeignKey>>,
}

impl Fake {
    pub(crate) fn new() -> Arc<Self> {
        let key = ForeignKey::p256("k1").unwrap();
        Arc::new(Self {
            key,
            claims: Mutex::new(json!({})),
            metadata: Mutex::new(json!({})),
            seen: Mutex::default(),
            keys: Mutex::default(),
        })
    }

    pub(crate) fn say(&self, claims: Value) {
        *self.claims.lock().unwrap() = claims;
    }
}

pub(crate) fn merged(mut base: Value, more: &Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        base[name] = value.clone();
        if value.is_null() {
            base.as_object_mut().unwrap().remove(name);
        }
    }
    base
}

impl Providers for Fake {
    fn send(&self, sent: Sent) -> BoxFuture<'_, Option<Bytes>> {
        let issuer = if sent.url.starts_with(HERE) { HERE } else { THERE };
        let value = if sent.url.ends_with("openid-configuration") {
            let at = |path: &str| format!("{issuer}{path}");
            let base = json!({"issuer": issuer, "authorization_endpoint": at("/authorize"), "token_endpoint": at("/token"),
                "jwks_uri": at("/keys"), "authorization_response_iss_parameter_supported": issuer == THERE});
            merged(base, &self.metadata.lock().unwrap())
        } else if sent.url.ends_with("/keys") {
            let keys = self.keys.lock().unwrap();
            json!({"keys": [keys.as_ref().unwrap_or(&self.key).public_jwk()]})
        } else {
            self.seen.lock().unwrap().push(sent.form.as_ref().unwrap().expose().clone());
            let claims = self.claims.lock().unwrap().clone();
            // What is too long to be signed by our own means comes all the same.
            let long = || {
                let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
                format!(
                    "{}.{}.{}",
                    part(&json!({"alg": "ES256", "kid": "k1"})),
                    part(&claims),
                    "A".repeat(86)
                )
            };
            let token = self.key.sign("JWT", &claims).unwrap_or_else(long);
            json!({"id_token": token, "token_type": "Bearer"})
        };
        Box::pin(async move { Some(Bytes::from(value.to_string())) })
    }
}

fn provider(name: &'static str, issuer: &str, name_claim: Option<&'static str>) -> Document {
    let spec = IdentityProviderSpec {
        status: Status::Active,
        issuer: issuer.to_owned(),
        client_id: "bartizan".to_owned(),
        credential: None,
        allow_private: false,
        name_claim: name_claim.map(Name::literal),
        acr: [("gold".to_owned(), 4), ("silver".to_owned(), 2)].into(),
        assurance_cap: 3,
        scopes: [Name::literal("groups")].into(),
        groups: None,
        creates: None,
    };
    Document { name: Name::literal(name), principal: None, spec: Spec::IdentityProvider(spec) }
}

async fn world(name_claim: Option<&'static str>) -> (World, Arc<Fake>) {
    let fake = Fake::new();
    let documents = vec![provider("company", HERE, name_claim), provider("other", THERE, name_claim)];
    (World::with(Some(fake.clone()), documents).await, fake)
}

pub(crate) struct Way {
    state: String,
    nonce: String,
}

pub(crate) async fn begin(world: &World, browser: &Browser, name: &str) -> Way {
    let to = world.login.to_provider(&browser.visitor(), name, "/account", None).await.unwrap();
    way(to.expose())
}

fn way(to: &str) -> Way {
    let url = url::Url::parse(to).unwrap();
    let get = |name: &str| url.query_pairs().find(|(n, _)| n == name).unwrap().1.into_owned();
    assert_eq!(get("code_challenge_method"), "S256");
    if get("redirect_uri").ends_with("/company") && url.query().unwrap().contains("acr_values") {
        assert_eq!(get("acr_values"), "gold silver", "the surest first");
        assert_eq!(get("scope"), "openid profile groups");
    }
    Way { state: get("state"), nonce: get("nonce") }
}

pub(crate) fn usual(world: &World, way: &Way, sub: &str) -> Value {
    let now = world.clock.now().as_secs();
    json!({"iss": HERE, "aud": "bartizan", "sub": sub, "nonce": way.nonce, "iat": now, "exp": now + 300, "auth_time": now})
}

pub(crate) async fn end(
    world: &World,
    browser: &Browser,
    name: &str,
    way: &Way,
    iss: Option<&str>,
) -> Result<ProviderAnswer, Stopped> {
    let returned = Returned { code: Some("c1"), state: Some(&way.state), iss };
    world.login.from_provider(&browser.visitor(), name, &returned, None).await
}

pub(crate) async fn log_in(world: &World, fake: &Fake, more: Value) -> Result<ProviderAnswer, Stopped> {
    let browser = Browser::new(&world.login);
    let way = begin(world, &browser, "company").await;
    fake.say(merged(usual(world, &way, "alice"), &more));
    end(world, &browser, "company", &way, None).await
}

#[tokio::test]
async fn a_provider_that_gives_names_lets_its_people_in_with_what_its_word_is_worth() {
    let (world, fake) = world(Some("sub")).await;
    for (acr, level) in [
        (json!("silver"), AssuranceLevel::Aal2),
        (json!("gold"), AssuranceLevel::Aal2PhishingResistant),
        (json!("platinum"), AssuranceLevel::Aal1),
        (json!(null), AssuranceLevel::Aal1),
    ] {
        let mut browser = Browser::new(&world.login);
        let way = begin(&world, &browser, "company").await;
        fake.say(merged(usual(&world, &way, "alice"), &json!({"acr": acr})));
        let ProviderAnswer::Entered(entered, onward) =
            end(&world, &browser, "company", &way, None).await.unwrap()
        else {
            panic!("it was for logging in")
        };
        browser.take(&entered);
        let who = world.who(&browser).await.unwrap();
        let assurance = &who.session.value.assurance;
        assert_eq!(
            (assurance.level, assurance.via.as_ref().unwrap().as_str()),
            (level, "company"),
            "the cap is 3"
        );
        assert_eq!((onward.as_str(), who.principal.name.as_str()), ("/account", "alice"));
    }
    let sent = fake.seen.lock().unwrap().join(" ");
    assert!(sent.contains("code_verifier=") && sent.contains("grant_type=authorization_code"));
    // When is not said: not just now, then.
    let mut browser = Browser::new(&world.login);
    let way = begin(&world, &browser, "company").await;
    fake.say(merged(usual(&world, &way, "alice"), &json!({"auth_time": null, "acr": "gold"})));
    let ProviderAnswer::Entered(entered, _) = end(&world, &browser, "company", &way, None).await.unwrap()
    else {
        panic!("it was for logging in")
    };
    browser.take(&entered);
    let who = world.who(&browser).await.unwrap();
    assert_eq!(
        reason(world.login.offer_passkey(&browser.visitor(), &who, false).await),
        ReasonCode::LoginTooOld
    );
}

#[tokio::test]
async fn attack_51_id_tokens_of_others_for_others_old_or_without_our_nonce_are_refused() {
    let (world, fake) = world(Some("sub")).await;
    let now = world.clock.now().as_secs();
    for more in [
        json!({"iss": THERE}),
        json!({"iss": format!("{HERE}/")}),
        json!({"aud": "somebody-else"}),
        json!({"aud": ["bartizan", "somebody-else"]}),
        json!({"nonce": null}),
        json!({"nonce": "n"}),
        json!({"exp": now - 61, "iat": now - 300}),
        json!({"iat": now + 120}),
        json!({"sub": null}),
    ] {
        assert_eq!(reason(log_in(&world, &fake, more.clone()).await), ReasonCode::ProviderRefused, "{more}");
    }
    *fake.keys.lock().unwrap() = ForeignKey::p256("k1");
    world.advance(11 * 60);
    assert_eq!(reason(log_in(&world, &fake, json!({})).await), ReasonCode::ProviderRefused, "by another key");
    *fake.keys.lock().unwrap() = None;
    world.advance(11);
    assert!(log_in(&world, &fake, json!({})).await.is_ok(), "its keys are read anew");
}

#[tokio::test]
async fn attack_51_no_provider_answers_for_another() {
    let (world, fake) = world(Some("sub")).await;
    let browser = Browser::new(&world.login);
    let way = begin(&world, &browser, "company").await;
    fake.say(usual(&world, &way, "alice"));
    assert_eq!(reason(end(&world, &browser, "other", &way, None).await), ReasonCode::ProviderRefused);
    assert_eq!(
        reason(end(&world, &browser, "company", &way, Some(THERE)).await),
        ReasonCode::ProviderRefused
    );
    // One that says that it names itself must do so.
    let there = begin(&world, &browser, "other").await;
    fake.say(merged(usual(&world, &there, "alice"), &json!({"iss": THERE})));
    assert_eq!(reason(end(&world, &browser, "other", &there, None).await), ReasonCode::ProviderRefused);
    assert!(end(&world, &browser, "other", &there, Some(THERE)).await.is_ok());
    // Metadata of another issuer is not believed.
    *fake.metadata.lock().unwrap() = json!({"issuer": THERE});
    world.advance(11 * 60);
    let refused = world.login.to_provider(&browser.visitor(), "company", "/account", None).await;
    assert_eq!(reason(refused), ReasonCode::ProviderRefused);
    *fake.metadata.lock().unwrap() = json!({"token_endpoint": "http://login.company.example/token"});
    let refused = world.login.to_provider(&browser.visitor(), "company", "/account", None).await;
    assert_eq!(reason(refused), ReasonCode::ProviderRefused, "in clear");
}

#[tokio::test]
async fn attack_51_the_way_back_is_of_one_browser_and_good_once() {
    let (world, fake) = world(Some("sub")).await;
    let (mine, theirs) = (Browser::new(&world.login), Browser::new(&world.login));
    let way = begin(&world, &mine, "company").await;
    fake.say(usual(&world, &way, "alice"));
    assert_eq!(
        reason(end(&world, &theirs, "company", &way, None).await),
        ReasonCode::LoginStale,
        "planted on somebody"
    );
    end(&world, &mine, "company", &way, None).await.unwrap();
    assert_eq!(reason(end(&world, &mine, "company", &way, None).await), ReasonCode::LoginStale);
    let late = begin(&world, &mine, "company").await;
    world.advance(301);
    assert_eq!(reason(end(&world, &mine, "company", &late, None).await), ReasonCode::LoginStale);
}

#[tokio::test]
async fn attack_51_addresses_for_mail_link_nobody() {
    for claim in [None, Some("email")] {
        let (world, fake) = world(claim).await;
        for more in
            [json!({"email": "alice", "email_verified": true}), json!({"email": "alice", "sub": "s-1"})]
        {
            assert_eq!(reason(log_in(&world, &fake, more).await), ReasonCode::LoginFailed, "{claim:?}");
        }
    }
    let (world, fake) = world(Some("sub")).await;
    assert_eq!(
        reason(log_in(&world, &fake, json!({"sub": "mallory"})).await),
        ReasonCode::LoginFailed,
        "nobody is made"
    );
}

#[tokio::test]
async fn attack_51_accounts_are_linked_by_their_owner_once_and_by_issuer_and_subject() {
    let (world, fake) = world(None).await;
    let (hers, mut key) = with_passkey(&world, "alice", "k1").await;
    let (his, _) = with_passkey(&world, "bob", "k2").await;
    let (alice, bob) = (world.who(&hers).await.unwrap(), world.who(&his).await.unwrap());
    let to = world.login.to_provider(&hers.visitor(), "company", "/account", Some(&alice)).await.unwrap();
    let back = way(to.expose());
    fake.say(usual(&world, &back, "s-1"));
    // The way was begun in her session: it neither logs anybody in, nor links his.
    assert_eq!(reason(end(&world, &hers, "company", &back, None).await), ReasonCode::LoginStale);
    let returned = Returned { code: Some("c"), state: Some(&back.state), iss: None };
    let crossed = world.login.from_provider(&his.visitor(), "company", &returned, Some(&bob)).await;
    assert_eq!(reason(crossed), ReasonCode::LoginStale);
    let linked =
        world.login.from_provider(&hers.visitor(), "company", &returned, Some(&alice)).await.unwrap();
    assert!(matches!(linked, ProviderAnswer::Linked));
    assert!(matches!(
        log_in(&world, &fake, json!({"sub": "s-1"})).await.unwrap(),
        ProviderAnswer::Entered(..)
    ));
    assert_eq!(reason(log_in(&world, &fake, json!({"sub": "s-2"})).await), ReasonCode::LoginFailed);
    // The same subject for somebody else.
    let to = world.login.to_provider(&his.visitor(), "company", "/account", Some(&bob)).await.unwrap();
    let back = way(to.expose());
    fake.say(usual(&world, &back, "s-1"));
    let returned = Returned { code: Some("c"), state: Some(&back.state), iss: None };
    let taken = world.login.from_provider(&his.visitor(), "company", &returned, Some(&bob)).await;
    assert_eq!(reason(taken), ReasonCode::Conflict);
    // The same subject at another provider is somebody else.
    let browser = Browser::new(&world.login);
    let there = begin(&world, &browser, "other").await;
    fake.say(merged(usual(&world, &there, "s-1"), &json!({"iss": THERE})));
    assert_eq!(reason(end(&world, &browser, "other", &there, Some(THERE)).await), ReasonCode::LoginFailed);
    world.advance(11 * 60);
    let old = world.who(&hers).await.unwrap();
    let late = world.login.to_provider(&hers.visitor(), "company", "/account", Some(&old)).await;
    assert_eq!(reason(late), ReasonCode::LoginTooOld);
    enrol(&world, &hers, &old, &mut key).await.unwrap_err();
}
