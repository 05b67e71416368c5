use bartizan_authority::grant;
use bartizan_authority::grants::GiveGrant;
use bartizan_authority::oauth::{OauthError, TokenAnswer};

use crate::grants::world::{GATEWAY, Kept, TOOLS, World, alice, claims, code, form, id};

const ACCESS: &str = "urn:ietf:params:oauth:token-type:access_token";

async fn exchange(
    world: &World,
    client: (&str, Option<u8>),
    subject: &str,
    more: &[(&str, &str)],
) -> Result<TokenAnswer, OauthError> {
    let client = world.client(client.0, client.1);
    let mut pairs = vec![("subject_token", subject), ("subject_token_type", ACCESS)];
    pairs.extend(more);
    grant::exchange(&world.authority, &client, &form(&pairs)).await
}

async fn allow(
    world: &World,
    agent: &'static str,
    scopes: &[&str],
    resources: &[&str],
    uses_max: Option<u64>,
) -> bartizan_model::GrantId {
    let give = GiveGrant {
        agent: agent.parse().unwrap(),
        client: None,
        scopes: scopes.iter().map(|s| (*s).to_owned()).collect(),
        resources: resources.iter().map(|s| (*s).to_owned()).collect(),
        life_s: 3_600,
        uses_max,
    };
    world.authority.give_grant(&world.person(&alice()), &give).await.unwrap().value.id
}

/// A token of alice's that the client of `agent` holds: it logged her in itself.
async fn held_by(world: &World, client: &str, key: Option<u8>) -> String {
    let grant = world.consent(client, None).await;
    world.log_in(&world.client(client, key), &grant, GATEWAY).await.access_token.expose().clone()
}

#[tokio::test]
async fn an_agent_acts_for_a_person_as_she_allowed_it_and_no_further() {
    let world = World::new(Kept::Memory).await;
    let token = held_by(&world, "helper-app", None).await;
    assert_eq!(
        code(exchange(&world, ("helper-app", None), &token, &[]).await),
        "access_denied",
        "nobody allowed it"
    );
    let grant = allow(&world, "helper", &["model:invoke"], &[GATEWAY], None).await;
    world.pass(100).await;
    let answer = exchange(&world, ("helper-app", None), &token, &[]).await.unwrap();
    assert_eq!((answer.issued_token_type, answer.token_type), (Some(ACCESS), "Bearer"));
    assert!(answer.refresh_token.is_none() && answer.id_token.is_none());
    let (new, old) = (claims(answer.access_token.expose()), claims(&token));
    assert_eq!(new.sub, alice().id.to_string());
    assert_eq!(new.actors().collect::<Vec<_>>(), [id(3).to_string()]);
    assert_eq!(new.scope.as_deref(), Some("model:invoke"), "what both allow");
    assert_eq!(new.times.expires, old.times.expires, "it does not outlive what it came from");
    assert_eq!((new.auth_time, new.acr.clone()), (old.auth_time, old.acr));
    let own = new.others["bartizan"].as_object().unwrap();
    assert_eq!(own["grant"], grant.to_string());
    assert_eq!(own["under"].as_array().unwrap().len(), 2, "the consent and its family");
}

#[tokio::test]
async fn rfc_8693_actors_nest_outermost_first_and_chains_end_at_four() {
    let world = World::new(Kept::Memory).await;
    let mut token = held_by(&world, "helper-app", None).await;
    for (number, agent) in ["helper", "second", "third", "fourth", "fifth"].into_iter().enumerate() {
        allow(&world, agent, &["model:invoke"], &[GATEWAY], None).await;
        let app: &str = ["helper-app", "second-app", "third-app", "fourth-app", "fifth-app"][number];
        // It is handed on by presenting it as the audience: each is at the gateway's address here.
        let client = world.client(app, None);
        let mut client = client;
        client.client.serves.insert(GATEWAY.to_owned());
        let asked = form(&[("subject_token", &token), ("subject_token_type", ACCESS)]);
        let answer = grant::exchange(&world.authority, &client, &asked).await;
        if number == 4 {
            assert_eq!(code(answer), "invalid_request", "the chain would be too long");
            break;
        }
        token = answer.unwrap().access_token.expose().clone();
        let expected: Vec<_> =
            (3..=3 + u8::try_from(number).unwrap()).rev().map(|n| id(n).to_string()).collect();
        assert_eq!(claims(&token).actors().collect::<Vec<_>>(), expected);
    }
    let payload: serde_json::Value =
        serde_json::from_slice(bartizan_jose::Jws::parse(&token).unwrap().unverified_payload()).unwrap();
    assert_eq!(payload["act"]["act"]["act"]["act"]["sub"], id(3).to_string());
}

#[tokio::test]
async fn attack_17_nothing_grows_by_an_exchange() {
    let world = World::new(Kept::Memory).await;
    let token = held_by(&world, "helper-app", None).await;
    allow(&world, "helper", &["model:invoke", "model:list"], &[GATEWAY], None).await;
    let app = ("helper-app", None);
    for (more, expected) in [
        (&[("scope", "model:invoke tool:call")][..], "access_denied"),
        (&[("scope", "house:change")], "access_denied"),
        (&[("scope", "model:invent")], "invalid_scope"),
        (&[("resource", TOOLS)], "access_denied"),
        (&[("resource", "https://evil.example")], "access_denied"),
        (&[("audience", GATEWAY), ("resource", TOOLS)], "invalid_target"),
        (&[("requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token")], "invalid_request"),
        (&[("actor_token_type", ACCESS)], "invalid_request"),
        (&[("actor_token", "forged"), ("actor_token_type", ACCESS)], "invalid_request"),
    ] {
        assert_eq!(code(exchange(&world, app, &token, more).await), expected, "{more:?}");
    }
    // A token of somebody else's client, for a service that the exchanger is not.
    let others = world.token(GATEWAY).await;
    assert_eq!(code(exchange(&world, app, &others, &[]).await), "invalid_request");
    for forged in ["", "x.y.z", &format!("{}x", token.split_at(token.len() - 1).0)] {
        assert!(exchange(&world, app, forged, &[]).await.is_err());
    }
    // Who acts already does not act again, and a person acts for nobody.
    let acting = exchange(&world, app, &token, &[]).await.unwrap().access_token.expose().clone();
    assert_eq!(code(exchange(&world, app, &acting, &[]).await), "invalid_request");
    let actor = [("actor_token", token.as_str()), ("actor_token_type", ACCESS)];
    assert_eq!(code(exchange(&world, app, &token, &actor).await), "invalid_request");
    // Over is over.
    world.pass(301).await;
    assert_eq!(code(exchange(&world, app, &token, &[]).await), "invalid_request");
}

#[tokio::test]
async fn attack_17_whoever_is_disabled_or_forbidden_anywhere_in_the_chain_gets_nothing() {
    let world = World::new(Kept::Memory).await;
    let token = held_by(&world, "barred-app", None).await;
    allow(&world, "barred", &["model:invoke"], &[GATEWAY], None).await;
    assert_eq!(
        code(exchange(&world, ("barred-app", None), &token, &[]).await),
        "access_denied",
        "policy says so"
    );
    let token = held_by(&world, "helper-app", None).await;
    let grant = allow(&world, "helper", &["model:invoke"], &[GATEWAY], None).await;
    let acting =
        exchange(&world, ("helper-app", None), &token, &[]).await.unwrap().access_token.expose().clone();
    world.authority.withdraw_grant(&world.person(&alice()), grant).await.unwrap();
    assert_eq!(code(exchange(&world, ("helper-app", None), &token, &[]).await), "access_denied");
    let mut client = world.client("second-app", None);
    client.client.serves.insert(GATEWAY.to_owned());
    allow(&world, "second", &["model:invoke"], &[GATEWAY], None).await;
    let asked = form(&[("subject_token", &acting), ("subject_token_type", ACCESS)]);
    assert_eq!(
        code(grant::exchange(&world.authority, &client, &asked).await),
        "invalid_request",
        "dead with its grant"
    );
}

#[tokio::test]
async fn attack_18_a_bound_token_is_exchanged_by_its_holder_or_audience_and_stays_bound() {
    let world = World::new(Kept::Memory).await;
    let token = held_by(&world, "helper-app", Some(1)).await;
    allow(&world, "helper", &["model:invoke"], &[GATEWAY], None).await;
    for key in [None, Some(2)] {
        assert_eq!(
            code(exchange(&world, ("helper-app", key), &token, &[]).await),
            "invalid_request",
            "{key:?}"
        );
    }
    let bound = exchange(&world, ("helper-app", Some(1)), &token, &[]).await.unwrap();
    assert_eq!(bound.token_type, "DPoP");
    // A service that it is for binds it to a key of its own, and cannot make it a bearer token.
    allow(&world, "second", &["model:invoke"], &[GATEWAY], None).await;
    let asked = form(&[("subject_token", &token), ("subject_token_type", ACCESS)]);
    let service = |key| {
        let mut client = world.client("second-app", key);
        client.client.serves.insert(GATEWAY.to_owned());
        client
    };
    assert_eq!(code(grant::exchange(&world.authority, &service(None), &asked).await), "invalid_request");
    let own = grant::exchange(&world.authority, &service(Some(7)), &asked).await.unwrap();
    let (new, old) = (claims(own.access_token.expose()), claims(&token));
    assert!(new.cnf.is_some() && new.cnf != old.cnf);
}

#[tokio::test]
async fn a_token_reaches_another_address_only_where_everybody_allowed_it() {
    let world = World::new(Kept::Memory).await;
    let token = held_by(&world, "helper-app", None).await;
    allow(&world, "helper", &["tool:call"], &[TOOLS], None).await;
    let app = ("helper-app", None);
    assert_eq!(code(exchange(&world, app, &token, &[]).await), "access_denied", "not at the gateway");
    let answer = exchange(&world, app, &token, &[("resource", TOOLS)]).await.unwrap();
    let new = claims(answer.access_token.expose());
    assert!(new.is_for(TOOLS) && !new.is_for(GATEWAY));
    assert_eq!(new.scope.as_deref(), Some("tool:call"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_bound_on_uses_holds_for_exchanges_that_come_at_once() {
    let world = std::sync::Arc::new(World::new(Kept::Sqlite).await);
    let token = held_by(&world, "helper-app", None).await;
    allow(&world, "helper", &["model:invoke"], &[GATEWAY], Some(3)).await;
    let tasks: Vec<_> = (0..10)
        .map(|_| {
            let (world, token) = (world.clone(), token.clone());
            tokio::spawn(async move { exchange(&world, ("helper-app", None), &token, &[]).await.is_ok() })
        })
        .collect();
    let mut issued = 0;
    for task in tasks {
        issued += usize::from(task.await.unwrap());
    }
    assert_eq!(issued, 3);
}

#[tokio::test]
async fn what_somebody_allowed_is_found_behind_a_great_deal_else() {
    let world = World::new(Kept::Memory).await;
    let token = held_by(&world, "helper-app", None).await;
    for _ in 0..201 {
        world.consent("helper-app", None).await;
    }
    // The newest is the last to be read.
    allow(&world, "helper", &["model:invoke"], &[GATEWAY], None).await;
    world.pass(100).await;
    exchange(&world, ("helper-app", None), &token, &[]).await.unwrap();
}
