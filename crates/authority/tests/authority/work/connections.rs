use std::sync::Arc;

use bartizan_authority::Authority;
use bartizan_authority::clients::{Fetch, FetchFailed, Fetched, Registry, Wanted};
use bartizan_authority::connections::{Begun, Connect, ConnectionView, Connections};
use bartizan_authority::oauth::{Form, MetadataClients, Settings};
use bartizan_base::Name;
use bartizan_control::EpochToAdvance;
use bartizan_identify::Caller;
use bartizan_model::{PrincipalKind, ReasonCode};
use bartizan_store::EpochKind;
use futures_util::future::BoxFuture;
use serde_json::json;

use crate::work::provider::{ISSUER, field};
use crate::work::world::{World, provider_spec};

fn tools() -> Name {
    Name::literal("tools")
}

fn wish(agent: Option<&'static str>) -> Connect {
    Connect {
        provider: tools(),
        agent: agent.map(Name::literal),
        client: None,
        redirect: None,
        scopes: Default::default(),
    }
}

async fn begin(world: &World, caller: &Caller, agent: Option<&'static str>) -> Begun {
    world.connections.begin(caller, &wish(agent)).await.unwrap().value
}

fn state(begun: &Begun) -> String {
    field(begun.address.split_once('?').unwrap().1, "state")
}

fn answer(pairs: &[(&str, &str)]) -> Form {
    Form::of(pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))).unwrap()
}

fn good(begun: &Begun) -> Form {
    answer(&[("state", &state(begun)), ("iss", ISSUER), ("code", "c1")])
}

async fn connect(world: &World, caller: &Caller, agent: Option<&'static str>) -> ConnectionView {
    let begun = begin(world, caller, agent).await;
    world.connections.finish(caller, &good(&begun)).await.unwrap().value
}

async fn refused(world: &World, caller: &Caller) -> ReasonCode {
    world.connections.release(caller, &tools()).await.unwrap_err().problem.reason
}

#[tokio::test]
async fn an_account_is_connected_used_renewed_and_withdrawn() {
    let world = World::new().await;
    let alice = world.user("alice");
    let begun = begin(&world, &alice, Some("helper")).await;
    let query = begun.address.split_once('?').unwrap().1.to_owned();
    assert_eq!(begun.host, "as.example");
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", "house"),
        ("code_challenge_method", "S256"),
        ("resource", "https%3A%2F%2Ftools.example%2Fmcp"),
        ("redirect_uri", "https%3A%2F%2Fhouse.example%2Fconnections%2Fanswer"),
        // `admin` is more than we ever ask for, whatever the resource knows.
        ("scope", "files%3Aread%20offline_access"),
    ] {
        assert_eq!(field(&query, name), value, "{query}");
    }
    assert!(state(&begun).len() >= 43);
    let made = world.connections.finish(&alice, &good(&begun)).await.unwrap().value;
    assert_eq!((made.provider, made.issuer.as_str()), (tools(), ISSUER));
    let sent = world.provider.last("/token");
    assert!(field(&sent, "code_verifier").len() >= 43 && field(&sent, "authorization").starts_with("Basic "));
    assert_eq!(field(&sent, "resource"), "https%3A%2F%2Ftools.example%2Fmcp");

    let through = world.through("alice", "helper");
    let first = world.connections.release(&through, &tools()).await.unwrap();
    assert_eq!(world.provider.count("/token"), 1);
    world.advance(280);
    let second = world.connections.release(&through, &tools()).await.unwrap();
    assert_eq!(world.provider.count("/token"), 2, "it ends within the margin, so it is renewed");
    assert!(second.since() > first.since());
    // After a 401 with the old one, the one that was renewed meanwhile does.
    world.connections.release_anew(&through, &tools(), &first).await.unwrap();
    assert_eq!(world.provider.count("/token"), 2);
    world.connections.release_anew(&through, &tools(), &second).await.unwrap();
    assert_eq!(world.provider.count("/token"), 3);

    assert_eq!(world.provider.alive(), 1);
    assert!(world.connections.withdraw(&alice, made.id).await.unwrap().value);
    assert_eq!(world.provider.alive(), 0, "ended at the provider as well");
    assert_eq!(refused(&world, &through).await, ReasonCode::ConnectionNeeded);
    assert!(world.connections.list(&alice).await.unwrap().value.is_empty());
}

#[tokio::test]
async fn attack_38_a_connection_is_for_one_person_one_agent_and_one_client() {
    let world = World::new().await;
    connect(&world, &world.user("alice"), Some("helper")).await;
    assert!(world.connections.release(&world.through("alice", "helper"), &tools()).await.is_ok());
    let mut elsewhere = world.proof(PrincipalKind::User, "alice", Some("helper"));
    elsewhere.client = Some(Name::literal("another-program"));
    let agent_alone = world.prove(&world.proof(PrincipalKind::Agent, "helper", None)).unwrap();
    for caller in [
        world.user("alice"),
        world.through("alice", "stranger"),
        world.through("bob", "helper"),
        world.user("bob"),
        world.prove(&elsewhere).unwrap(),
        agent_alone,
    ] {
        assert_eq!(refused(&world, &caller).await, ReasonCode::ConnectionNeeded, "{:?}", caller.who());
    }
    // Nobody else sees or ends it either.
    let bob = world.user("bob");
    assert!(world.connections.list(&bob).await.unwrap().value.is_empty());
    let id = world.connections.list(&world.user("alice")).await.unwrap().value[0].id;
    assert_eq!(world.connections.withdraw(&bob, id).await.unwrap_err().problem.reason, ReasonCode::NotFound);
    // An agent never connects anything in a person's name.
    let stopped = world.connections.begin(&world.through("alice", "helper"), &wish(None)).await.unwrap_err();
    assert_eq!(stopped.problem.reason, ReasonCode::Forbidden);
}

#[tokio::test]
async fn attack_05_an_answer_of_another_issuer_is_refused_before_its_code_is_used() {
    let world = World::new().await;
    let alice = world.user("alice");
    for iss in
        [Some("https://as.example"), Some("https://evil.example"), Some("https://as.example/tenant/"), None]
    {
        let begun = begin(&world, &alice, None).await;
        let state = state(&begun);
        let mut pairs = vec![("state", state.as_str()), ("code", "c1")];
        pairs.extend(iss.map(|iss| ("iss", iss)));
        let stopped = world.connections.finish(&alice, &answer(&pairs)).await.unwrap_err();
        assert_eq!(stopped.problem.reason, ReasonCode::UpstreamInvalid, "{iss:?}");
    }
    // Also of errors: what another server says is not believed.
    let begun = begin(&world, &alice, None).await;
    let pairs = [("state", &*state(&begun)), ("iss", "https://evil.example"), ("error", "access_denied")];
    let stopped = world.connections.finish(&alice, &answer(&pairs)).await.unwrap_err();
    assert_eq!(stopped.problem.reason, ReasonCode::UpstreamInvalid);
    assert_eq!(world.provider.count("/token"), 0, "no code went anywhere");
}

#[tokio::test]
async fn attack_42_a_state_is_of_one_person_and_of_one_use() {
    let world = World::new().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let begun = begin(&world, &alice, None).await;
    // The enemy's answer in somebody else's browser, and the other way round.
    let stopped = world.connections.finish(&bob, &good(&begun)).await.unwrap_err();
    assert_eq!(stopped.problem.reason, ReasonCode::BodyMalformed);
    for forged in ["", "guess", &"A".repeat(43)] {
        let form = answer(&[("state", forged), ("iss", ISSUER), ("code", "c")]);
        assert!(world.connections.finish(&alice, &form).await.is_err());
    }
    assert_eq!(world.provider.count("/token"), 0);
    let form = good(&begun);
    let (one, two) =
        tokio::join!(world.connections.finish(&alice, &form), world.connections.finish(&alice, &form));
    assert_eq!([one.is_ok(), two.is_ok()].iter().filter(|ok| **ok).count(), 1);
    assert_eq!(world.provider.count("/token"), 1);
    // Too late is too late.
    let begun = begin(&world, &alice, None).await;
    world.advance(601);
    assert!(world.connections.finish(&world.user("alice"), &good(&begun)).await.is_err());
}

#[tokio::test]
async fn attack_41_descriptions_of_another_resource_or_issuer_are_refused() {
    let world = World::new().await;
    let alice = world.user("alice");
    let begin = async || world.connections.begin(&alice, &wish(None)).await.unwrap_err().problem.reason;
    let original = world.provider.habits.lock().unwrap().resource.clone();
    for resource in
        ["https://evil.example/mcp", "https://tools.example/mcp/deeper", "https://tools.example/mc"]
    {
        world.provider.set(|h| h.resource["resource"] = resource.into());
        assert_eq!(begin().await, ReasonCode::UpstreamInvalid, "{resource}");
    }
    world.provider.set(|h| h.resource = original);
    // The server describes itself under another name.
    for issuer in ["https://evil.example", "https://as.example", "https://as.example/tenant/"] {
        world.provider.set(|h| h.metadata["issuer"] = issuer.into());
        assert_eq!(begin().await, ReasonCode::UpstreamInvalid, "{issuer}");
    }
    world.provider.set(|h| h.metadata["issuer"] = ISSUER.into());
    // Stated by an administrator, no other issuer is taken, whatever the resource says.
    let mut spec = provider_spec();
    spec["issuer"] = "https://other.example".into();
    world.declare("tools", spec).await;
    assert_eq!(begin().await, ReasonCode::UpstreamInvalid);
}

#[tokio::test]
async fn attack_41_tokens_stay_with_the_issuer_and_resource_they_came_from() {
    let world = World::new().await;
    let alice = world.user("alice");
    connect(&world, &alice, None).await;
    assert!(world.connections.release(&alice, &tools()).await.is_ok());
    for (member, value) in [("issuer", "https://other.example"), ("resource", "https://moved.example/mcp")] {
        let mut spec = provider_spec();
        spec[member] = value.into();
        world.declare("tools", spec).await;
        assert_eq!(refused(&world, &alice).await, ReasonCode::ConnectionNeeded, "{member}");
        world.advance(290);
        assert!(world.connections.release(&world.user("alice"), &tools()).await.is_err());
        assert_eq!(world.provider.count("/token"), 1, "no refresh token went to anybody");
        world.clock.set_wall(bartizan_base::Timestamp::parse_rfc3339("2026-11-21T12:00:00Z").unwrap());
    }
}

#[tokio::test]
async fn attack_44_an_address_that_a_browser_would_run_is_never_given_out() {
    let world = World::new().await;
    let alice = world.user("alice");
    for bad in
        ["javascript:alert(1)", "file:///etc/passwd", "http://as.example/authorize", "data:text/html,x"]
    {
        world.provider.set(|h| h.metadata["authorization_endpoint"] = bad.into());
        let stopped = world.connections.begin(&alice, &wish(None)).await.unwrap_err();
        assert_eq!(stopped.problem.reason, ReasonCode::EgressForbidden, "{bad}");
    }
    world.provider.set(|h| h.metadata["authorization_endpoint"] = "https://as.example/authorize".into());
    for member in ["token_endpoint", "revocation_endpoint"] {
        world.provider.set(|h| h.metadata[member] = "http://169.254.169.254/".into());
        let stopped = world.connections.begin(&alice, &wish(None)).await.unwrap_err();
        assert_eq!(stopped.problem.reason, ReasonCode::EgressForbidden, "{member}");
        world.provider.set(|h| h.metadata[member] = "https://as.example/token".into());
    }
}

#[tokio::test]
async fn attack_03_a_server_without_pkce_is_refused() {
    let world = World::new().await;
    for methods in [json!(null), json!([]), json!(["plain"]), json!("S256")] {
        world.provider.set(|h| h.metadata["code_challenge_methods_supported"] = methods.clone());
        let stopped = world.connections.begin(&world.user("alice"), &wish(None)).await.unwrap_err();
        assert_eq!(stopped.problem.reason, ReasonCode::UpstreamInvalid, "{methods}");
    }
}

#[tokio::test]
async fn many_who_need_the_next_token_at_once_are_one_renewal() {
    let world = World::new().await;
    let alice = world.user("alice");
    connect(&world, &alice, None).await;
    world.advance(290);
    let alice = world.user("alice");
    // Two nodes on one database, each with its own memory of who is renewing.
    let other = Connections::new(world.authority.clone(), world.provider.clone());
    let tools = tools();
    let asks = (0..20).map(|n| if n % 2 == 0 { &world.connections } else { &other }.release(&alice, &tools));
    let all = futures_util::future::join_all(asks).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!(world.provider.count("/token"), 2, "one for the code, one for the renewal");
}

#[tokio::test]
async fn where_the_server_takes_documents_we_are_known_by_ours_and_prove_the_code_alone() {
    const DOCUMENT: &str = "https://house.example/connections/client";
    let world = World::new().await;
    let mut spec = provider_spec();
    spec["client"] = json!({"by": "document"});
    world.declare("tools", spec).await;
    let alice = world.user("alice");
    // A server that does not say so would not know us.
    assert!(world.connections.begin(&alice, &wish(None)).await.is_err());
    world.provider.set(|habits| habits.metadata["client_id_metadata_document_supported"] = json!(true));
    let begun = begin(&world, &alice, None).await;
    let query = begun.address.split_once('?').unwrap().1.to_owned();
    let ours = Form::parse(query.as_bytes()).unwrap();
    assert_eq!(ours.get("client_id"), Some(DOCUMENT));
    world.connections.finish(&alice, &good(&begun)).await.unwrap();
    let sent = world.provider.last("/token");
    assert_eq!(field(&sent, "authorization"), "");
    assert!(field(&sent, "client_id").ends_with("client") && field(&sent, "code_verifier").len() >= 43);
    // Whoever reads the document as we read those of others finds a client that may do exactly that.
    let document = world.connections.document().unwrap();
    assert_eq!(document["client_id"], DOCUMENT);
    assert_eq!(document["token_endpoint_auth_method"], "none");
    let redirects = document["redirect_uris"].as_array().unwrap();
    assert!(redirects.iter().any(|redirect| redirect.as_str() == ours.get("redirect_uri")));
    let fetch = Arc::new(Published(document));
    let settings = Settings { metadata_clients: Some(MetadataClients::default()), ..Settings::default() };
    let others = Authority { settings: Arc::new(settings), ..world.authority.clone() };
    let client = Registry::new(others, fetch).find(DOCUMENT).await.unwrap();
    assert!(client.is_public() && client.id == DOCUMENT);
}

/// Whatever is asked for, this is there.
#[derive(Debug)]
struct Published(serde_json::Value);

impl Fetch for Published {
    fn fetch<'a>(&'a self, _: Wanted, _: &'a str, _: bool) -> BoxFuture<'a, Result<Fetched, FetchFailed>> {
        let body = self.0.to_string().into();
        Box::pin(async { Ok(Fetched { body, fresh: None }) })
    }
}

#[tokio::test]
async fn a_connection_that_the_provider_has_ended_is_not_tried_again() {
    let world = World::new().await;
    let alice = world.user("alice");
    let made = connect(&world, &alice, None).await;
    // Ended there, by the person.
    let refresh = world.kept().await;
    assert!(!refresh.contains("outside-refresh"));
    use bartizan_authority::connections::Outside as _;
    let request = http::Request::post("https://as.example/revoke");
    world.provider.exchange(request.body("token=outside-refresh-1".into()).unwrap(), false).await.unwrap();
    world.advance(290);
    let alice = world.user("alice");
    assert_eq!(refused(&world, &alice).await, ReasonCode::ConnectionNeeded);
    assert_eq!(refused(&world, &alice).await, ReasonCode::ConnectionNeeded);
    assert_eq!(world.provider.count("/token"), 2);
    let listed = world.connections.list(&alice).await.unwrap().value;
    assert!(listed.iter().any(|c| c.id == made.id && !c.alive));
    // Connected anew, it replaces the dead one.
    connect(&world, &alice, None).await;
    assert_eq!(world.connections.list(&alice).await.unwrap().value.len(), 1);
}

#[tokio::test]
async fn attack_53_what_a_person_connected_is_dead_with_them() {
    let world = World::new().await;
    let alice = world.user("alice");
    connect(&world, &alice, Some("helper")).await;
    let through = world.through("alice", "helper");
    world.advance(5);
    let epoch = EpochToAdvance { kind: EpochKind::Principal, name: Name::literal("user/alice") };
    world.authority.control.advance_epoch(&world.user("root"), &epoch).await.unwrap();
    assert_eq!(refused(&world, &through).await, ReasonCode::CredentialRevoked);
    // What is connected afterwards lives.
    world.advance(5);
    connect(&world, &world.user("alice"), Some("helper")).await;
    assert!(world.connections.release(&world.through("alice", "helper"), &tools()).await.is_ok());
    world.declare("alice", json!({"kind": "user", "status": "disabled"})).await;
    assert!(world.connections.release(&through, &tools()).await.is_err());
}

#[tokio::test]
async fn inv_credential_no_answer_and_nothing_kept_holds_a_token_in_clear() {
    let world = World::new().await;
    let alice = world.user("alice");
    let begun = begin(&world, &alice, None).await;
    let made = world.connections.finish(&alice, &good(&begun)).await.unwrap();
    let listed = world.connections.list(&alice).await.unwrap();
    let released = world.connections.release(&alice, &tools()).await.unwrap();
    let seen = format!(
        "{made:?}{}{listed:?}{}{released:?}{}",
        serde_json::to_string(&made.value).unwrap(),
        serde_json::to_string(&listed.value).unwrap(),
        world.kept().await,
    );
    for secret in ["outside-access", "outside-refresh", crate::work::provider::CLIENT_SECRET] {
        assert!(!seen.contains(secret), "{secret}");
    }
    let verifier = field(&world.provider.last("/token"), "code_verifier");
    assert!(!seen.contains(&verifier) && !begun.address.contains(&verifier));
}
