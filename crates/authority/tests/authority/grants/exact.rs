//! Exact things that a person lets an agent do (RFC 9396): from the grant through the exchange to what she sees of it.

use bartizan_authority::grant;
use bartizan_authority::grants::GiveGrant;
use bartizan_authority::oauth::{OauthError, TokenAnswer};
use bartizan_base::Timestamp;
use bartizan_model::{Detail, DetailId, Tenant};
use bartizan_store::{CounterRow, detail_key};
use serde_json::{Value, json};

use crate::grants::world::{GATEWAY, Kept, World, alice, claims, code, form};

const ACCESS: &str = "urn:ietf:params:oauth:token-type:access_token";

fn delegate(uses: u64) -> Value {
    json!({"type": "bartizan_action", "action": "agent:delegate", "resources": ["Agent::second"], "uses": uses})
}

fn listing() -> Value {
    json!({"type": "bartizan_action", "action": "session:list", "resources": ["System::bartizan"]})
}

fn give(details: &[Value]) -> GiveGrant {
    GiveGrant {
        agent: "helper".parse().unwrap(),
        client: None,
        scopes: ["model:invoke".to_owned()].into(),
        resources: [GATEWAY.to_owned()].into(),
        life_s: 3_600,
        uses_max: None,
        details: details.to_vec(),
    }
}

async fn exchange(world: &World, token: &str, details: Option<&[Value]>) -> Result<TokenAnswer, OauthError> {
    let details = details.map(|all| Value::from(all.to_vec()).to_string());
    let mut pairs = vec![("subject_token", token), ("subject_token_type", ACCESS)];
    pairs.extend(details.as_deref().map(|text| ("authorization_details", text)));
    grant::exchange(&world.authority, &world.client("helper-app", None), &form(&pairs)).await
}

async fn held(world: &World) -> String {
    let grant = world.consent("helper-app", None).await;
    world.log_in(&world.client("helper-app", None), &grant, GATEWAY).await.access_token.expose().clone()
}

fn read(answer: &TokenAnswer) -> Vec<Detail> {
    answer.authorization_details.iter().map(|one| Detail::read(one).unwrap()).collect()
}

#[tokio::test]
async fn an_agent_gets_tokens_for_exactly_what_was_allowed_and_for_less_where_it_asks_for_less() {
    let world = World::new(Kept::Memory).await;
    let token = held(&world).await;
    let given = world.authority.give_grant(&world.person(&alice()), &give(&[delegate(2), listing()])).await;
    let given = given.unwrap().value;
    assert!(given.details[0].words.contains("Agent::second; at most 2 times; until "), "{given:?}");
    let whole = exchange(&world, &token, None).await.unwrap();
    let all = read(&whole);
    assert_eq!(claims(whole.access_token.expose()).authorization_details, whole.authorization_details);
    assert!(all.iter().all(|one| one.id.is_some()) && all[0].id != all[1].id);
    assert!(all[0].until.is_some(), "what is counted has an end");
    // As it was asked for, without ids; then fewer times.
    let one = read(&exchange(&world, &token, Some(&[delegate(2)])).await.unwrap());
    assert_eq!(one, all[..1]);
    let fewer = read(&exchange(&world, &token, Some(&[delegate(1)])).await.unwrap());
    assert_eq!((fewer[0].id, fewer[0].uses), (all[0].id, Some(1)), "the same count, with less left");
    let unbounded = json!({"type": "bartizan_action", "action": "agent:delegate", "resources": ["Agent::second"], "id": all[0].id});
    let other_id = json!({"type": "bartizan_action", "action": "agent:delegate", "resources": ["Agent::second"], "uses": 2, "id": all[1].id});
    let other = json!({"type": "bartizan_action", "action": "agent:delegate", "resources": ["Agent::second", "Agent::third"], "uses": 2});
    for more in [delegate(3), other_id, other, json!({"type": "payment"})] {
        let refused = exchange(&world, &token, Some(std::slice::from_ref(&more))).await;
        assert_eq!(code(refused), "invalid_authorization_details", "{more}");
    }
    // Not said how often is as often as was allowed.
    assert_eq!(read(&exchange(&world, &token, Some(&[unbounded])).await.unwrap())[0].uses, Some(2));
}

#[tokio::test]
async fn a_person_sees_what_exactly_she_allowed_and_how_often_it_was_done_and_withdraws_it() {
    let world = World::new(Kept::Sqlite).await;
    let token = held(&world).await;
    let person = world.person(&alice());
    let id = world.authority.give_grant(&person, &give(&[delegate(2)])).await.unwrap().value.id;
    let answer = exchange(&world, &token, None).await.unwrap();
    let of: DetailId = read(&answer)[0].id.unwrap();
    let key = detail_key(&Tenant::default_tenant(), of);
    let row = CounterRow { body: "1".to_owned(), expires: Timestamp::MAX };
    let put = key.clone();
    world
        .authority
        .counts
        .work([key].into(), Box::new(move |rows| rows.insert(put, row).is_none()))
        .await
        .unwrap();
    let seen = async || {
        let grants = world.authority.list_grants(&person).await.unwrap().value;
        grants.into_iter().find(|grant| grant.id == id).unwrap()
    };
    let before = seen().await;
    assert_eq!((before.details[0].used, before.state), (Some(1), "active"));
    assert_eq!(before.details[0].detail, answer.authorization_details[0]);
    let told = world.introspect("helper-app", answer.access_token.expose()).await;
    assert_eq!(told["authorization_details"], Value::from(answer.authorization_details.clone()));
    world.pass(1).await;
    world.authority.withdraw_grant(&person, id).await.unwrap();
    world.pass(1).await;
    let dead = world.introspect("helper-app", answer.access_token.expose()).await;
    assert_eq!(Value::Object(dead), json!({"active": false}));
    assert_eq!(seen().await.state, "withdrawn");
}

#[tokio::test]
async fn what_names_nothing_or_what_only_the_authority_gives_is_not_allowed() {
    let world = World::new(Kept::Memory).await;
    let person = world.person(&alice());
    let mut with_id = listing();
    with_id["id"] = json!("det_01890000-0000-7000-8000-000000000000");
    let mut counted = listing();
    counted["uses"] = json!(1);
    for bad in [
        json!({"type": "bartizan_tool", "tool": "absent"}),
        json!({"type": "payment", "amount": 1}),
        json!({"type": "bartizan_action", "action": "session:list", "resources": ["Agent::second"]}),
        with_id,
        counted,
    ] {
        assert!(
            world.authority.give_grant(&person, &give(std::slice::from_ref(&bad))).await.is_err(),
            "{bad}"
        );
    }
}

#[tokio::test]
async fn inv_narrow_where_both_the_token_and_the_agents_grant_are_for_exact_things_both_bind() {
    let world = World::new(Kept::Memory).await;
    let person = world.person(&alice());
    let grant = world.consent("helper-app", None).await;
    let token = world.log_in(&world.client("helper-app", None), &grant, GATEWAY).await;
    world.authority.give_grant(&person, &give(&[listing(), delegate(2)])).await.unwrap();
    let token = exchange(&world, token.access_token.expose(), None).await.unwrap();
    // Now one for exact things is exchanged under a grant for other exact things.
    let second = |details: &[Value]| GiveGrant { agent: "second".parse().unwrap(), ..give(details) };
    let mut client = world.client("second-app", None);
    client.client.serves.insert(GATEWAY.to_owned());
    let subject = token.access_token.expose().clone();
    let asked = form(&[("subject_token", &subject), ("subject_token_type", ACCESS)]);
    world.authority.give_grant(&person, &second(&[delegate(1)])).await.unwrap();
    let refused = grant::exchange(&world.authority, &client, &asked).await;
    assert_eq!(code(refused), "invalid_authorization_details", "it could not be counted for both");
    world.pass(1).await;
    let longer = GiveGrant { life_s: 7_200, ..second(&[listing()]) };
    world.authority.give_grant(&person, &longer).await.unwrap();
    let both = read(&grant::exchange(&world.authority, &client, &asked).await.unwrap());
    assert_eq!(both, read(&token)[..1], "what both allow, under the id that it has");
}

#[tokio::test]
async fn where_details_are_not_taken_they_are_not_left_aside_either() {
    let world = World::new(Kept::Memory).await;
    let details = Value::from(vec![listing()]).to_string();
    let asked = form(&[("scope", "model:invoke"), ("authorization_details", &details)]);
    let begun = world.authority.begin_device(&world.client("cli", None), &asked, "net").await;
    assert_eq!(begun.unwrap_err().code.name(), "invalid_authorization_details");
    let own = grant::client_credentials(&world.authority, &world.client("helper-app", None), &asked).await;
    assert_eq!(code(own), "invalid_authorization_details");
}
