use bartizan_authority::grant;
use bartizan_model::{Action, PrincipalKind};
use serde_json::{Value, json};

use crate::grants::world::{GATEWAY, Kept, TOOLS, World, alice, code, form, somebody};

#[tokio::test]
async fn attack_21_unknown_foreign_dead_and_malformed_tokens_have_one_answer() {
    let world = World::new(Kept::Memory).await;
    let token = world.token(TOOLS).await;
    let told = world.introspect("service-app", &token).await;
    assert_eq!(told["active"], true);
    assert_eq!(
        (told["sub"].as_str(), told["aud"].as_str()),
        (Some(alice().id.to_string().as_str()), Some(TOOLS))
    );
    let nothing = serde_json::Map::from_iter([("active".to_owned(), Value::Bool(false))]);
    let elsewhere = world.token(GATEWAY).await;
    let changed = format!("{}AAAA", token.split_at(token.len() - 4).0);
    for text in [elsewhere.as_str(), &changed, "brt_nonsense", "nonsense", "a.b.c"] {
        assert_eq!(world.introspect("service-app", text).await, nothing, "{text}");
    }
    // A service that the token is not for, and a client that it was not issued to.
    assert_eq!(world.introspect("helper-app", &token).await, nothing);
    world.pass(300).await;
    assert_eq!(world.introspect("service-app", &token).await, nothing, "over");
}

#[tokio::test]
async fn attack_21_whoever_proves_nothing_or_is_nobody_asks_nothing() {
    let world = World::new(Kept::Memory).await;
    let token = world.token(TOOLS).await;
    let ask =
        async |name| world.authority.introspect(&world.client(name, None), &form(&[("token", &token)])).await;
    assert_eq!(code(ask("cli").await), "invalid_client");
    assert_eq!(code(ask("web").await), "unauthorized_client");
}

#[tokio::test]
async fn attack_21_revoking_tells_nobody_what_there_is() {
    let world = World::new(Kept::Memory).await;
    let grant = world.consent("web", None).await;
    let login = world.log_in(&world.client("web", None), &grant, TOOLS).await;
    let refresh = login.refresh_token.unwrap().expose().clone();
    let revoke = async |name, token: &str| {
        world.authority.revoke(&world.client(name, None), &form(&[("token", token)])).await
    };
    for text in ["nonsense", "brt_nonsense", "a.b.c"] {
        revoke("web", text).await.unwrap();
    }
    // Somebody else's: the same answer, and nothing happens.
    revoke("cli", &refresh).await.unwrap();
    revoke("cli", login.access_token.expose()).await.unwrap();
    assert!(world.is_active(login.access_token.expose()).await);
    revoke("web", &refresh).await.unwrap();
    assert!(!world.is_active(login.access_token.expose()).await, "the access token goes with it");
    let asked = form(&[("refresh_token", &refresh), ("resource", TOOLS)]);
    assert_eq!(
        code(grant::refresh(&world.authority, &world.client("web", None), &asked).await),
        "invalid_grant"
    );
    revoke("web", &refresh).await.unwrap();
}

#[tokio::test]
async fn revoking_an_access_token_ends_its_login_and_leaves_the_others() {
    let world = World::new(Kept::Memory).await;
    let grant = world.consent("web", None).await;
    let client = world.client("web", None);
    let one = world.log_in(&client, &grant, TOOLS).await;
    let two = world.log_in(&client, &grant, TOOLS).await;
    world.authority.revoke(&client, &form(&[("token", one.access_token.expose())])).await.unwrap();
    assert!(!world.is_active(one.access_token.expose()).await);
    assert!(world.is_active(two.access_token.expose()).await);
    let refresh = one.refresh_token.unwrap().expose().clone();
    let asked = form(&[("refresh_token", &refresh), ("resource", TOOLS)]);
    assert_eq!(code(grant::refresh(&world.authority, &client, &asked).await), "invalid_grant");
    // One that comes from no grant cannot be told from others of its client.
    let own = grant::client_credentials(&world.authority, &world.client("service-app", None), &form(&[]))
        .await
        .unwrap();
    let asked = form(&[("token", own.access_token.expose())]);
    let revoked = world.authority.revoke(&world.client("service-app", None), &asked).await;
    assert_eq!(code(revoked), "unsupported_token_type");
}

#[tokio::test]
async fn people_see_what_acts_in_their_name_and_withdraw_it() {
    let world = World::new(Kept::Memory).await;
    let grant = world.consent("web", None).await;
    let client = world.client("web", None);
    let login = world.log_in(&client, &grant, TOOLS).await;
    let (alice, bob) = (world.person(&alice()), world.person(&somebody(PrincipalKind::User, "bob", 2)));
    let listed = world.authority.list_grants(&alice).await.unwrap().value;
    assert_eq!(
        (listed.len(), listed[0].id, listed[0].state, listed[0].logins.len()),
        (1, grant.id, "active", 1)
    );
    assert!(world.authority.list_grants(&bob).await.unwrap().value.is_empty());
    assert!(world.authority.withdraw_grant(&bob, grant.id).await.is_err(), "it is not bob's");
    assert!(world.is_active(login.access_token.expose()).await);
    world.authority.withdraw_grant(&alice, grant.id).await.unwrap();
    assert!(!world.is_active(login.access_token.expose()).await);
    let refresh = login.refresh_token.unwrap().expose().clone();
    let asked = form(&[("refresh_token", &refresh), ("resource", TOOLS)]);
    assert_eq!(code(grant::refresh(&world.authority, &client, &asked).await), "invalid_grant");
    assert_eq!(world.authority.list_grants(&alice).await.unwrap().value[0].state, "withdrawn");
}

#[tokio::test]
async fn what_was_allowed_ends_with_its_login_where_it_is_not_remembered() {
    let world = World::new(Kept::Memory).await;
    let (proven, unproven) = (world.consent("web", None).await, world.consent("cli", None).await);
    let alice = world.person(&alice());
    for (name, grant, state) in [("web", &proven, "active"), ("cli", &unproven, "withdrawn")] {
        let client = world.client(name, None);
        let login = world.log_in(&client, grant, TOOLS).await;
        let token = login.refresh_token.unwrap().expose().clone();
        world.authority.revoke(&client, &form(&[("token", &token)])).await.unwrap();
        let listed = world.authority.list_grants(&alice).await.unwrap().value;
        let seen = listed.iter().find(|seen| seen.id == grant.id).unwrap();
        assert_eq!((seen.state, seen.logins.len()), (state, 0), "{name}");
        assert!(!world.is_active(login.access_token.expose()).await);
    }
}

#[tokio::test]
async fn attack_53_a_disabled_person_agent_or_client_is_refused_at_once() {
    let world = World::new(Kept::Memory).await;
    let grant = world.consent("web", None).await;
    let client = world.client("web", None);
    let login = world.log_in(&client, &grant, TOOLS).await;
    let bob = world.person(&somebody(PrincipalKind::User, "bob", 2));
    let spec =
        json!({"name": "alice", "spec": {"kind": "user", "status": "disabled", "roles": [], "groups": []}});
    let document = serde_json::from_value(spec).unwrap();
    world.authority.control.apply_documents(&bob, &[document]).await.unwrap();
    assert!(!world.is_active(login.access_token.expose()).await);
    let refresh = login.refresh_token.unwrap().expose().clone();
    let asked = form(&[("refresh_token", &refresh), ("resource", TOOLS)]);
    assert_eq!(code(grant::refresh(&world.authority, &client, &asked).await), "invalid_grant");
}

#[tokio::test]
async fn every_refusal_and_every_token_is_recorded() {
    let world = World::new(Kept::Memory).await;
    let client = world.client("service-app", None);
    grant::client_credentials(&world.authority, &client, &form(&[])).await.unwrap();
    let refused = grant::client_credentials(&world.authority, &world.client("web", None), &form(&[])).await;
    assert!(refused.unwrap_err().decision.is_some(), "the answer names the record");
    world.authority.control.recorder.seal_now().await.unwrap();
    world.authority.control.archive.follow().await.unwrap();
    let bob = world.person(&somebody(PrincipalKind::User, "bob", 2));
    let search = |query: String| bartizan_control::SearchLedger { query: Some(query), ..Default::default() };
    let issued = search(format!("action:{} subject:{}", Action::TokenIssue, crate::grants::world::id(9)));
    let found = world.authority.control.search_ledger(&bob, &issued).await.unwrap().value;
    assert!(!found.entries.is_empty());
    assert!(found.entries.iter().all(|entry| !entry.entry.contains("eyJ")), "no token stands in a record");
}
