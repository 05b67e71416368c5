//! The sponsor's conditions where tokens are issued, and who may change them.

use bartizan_authority::grant;
use bartizan_authority::grants::GiveGrant;
use bartizan_authority::oauth::{OauthError, TokenAnswer};
use bartizan_authority::scim::{Operation, Scim, Write};
use bartizan_control::Stopped;
use bartizan_identify::{Caller, Scopes};
use bartizan_model::{Document, PrincipalKind, ReasonCode, Spec, Tenant};
use bartizan_scim::{GROUP, USER};
use serde_json::{Value, json};

use crate::grants::world::{GATEWAY, Kept, World, alice, claims, form, somebody};

const ACCESS: &str = "urn:ietf:params:oauth:token-type:access_token";

fn administrator(world: &World) -> Caller {
    world.person(&somebody(PrincipalKind::User, "bob", 2))
}

fn agent(name: &str, more: &Value) -> Document {
    let mut spec = json!({"kind": "agent", "owner": "alice", "purpose": "tests"});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(json!({"name": name, "spec": spec})).unwrap()
}

async fn declare(world: &World, caller: &Caller, document: Document) -> Result<(), Stopped> {
    world.authority.control.apply_documents(caller, &[document]).await.map(drop)
}

async fn bound(world: &World, name: &str, conditions: Value) {
    declare(world, &administrator(world), agent(name, &json!({"conditions": conditions}))).await.unwrap();
}

async fn allow(world: &World, agent: &'static str) -> Result<(), Stopped> {
    let give = GiveGrant {
        agent: agent.parse().unwrap(),
        client: None,
        scopes: ["model:invoke".to_owned()].into(),
        resources: [GATEWAY.to_owned()].into(),
        life_s: 3_600,
        uses_max: None,
        details: Vec::new(),
    };
    world.authority.give_grant(&world.person(&alice()), &give).await.map(drop)
}

async fn exchange(
    world: &World,
    client: &str,
    key: Option<u8>,
    subject: &str,
) -> Result<TokenAnswer, OauthError> {
    let mut client = world.client(client, key);
    client.client.serves.insert(GATEWAY.to_owned());
    let asked = form(&[("subject_token", subject), ("subject_token_type", ACCESS)]);
    grant::exchange(&world.authority, &client, &asked).await
}

async fn alone(world: &World, client: &str) -> Result<TokenAnswer, OauthError> {
    let asked = form(&[("scope", "model:invoke"), ("resource", GATEWAY)]);
    grant::client_credentials(&world.authority, &world.client(client, None), &asked).await
}

/// A token of alice's that the client of `helper` holds.
async fn hers(world: &World, key: Option<u8>) -> String {
    let grant = world.consent("helper-app", None).await;
    world.log_in(&world.client("helper-app", key), &grant, GATEWAY).await.access_token.expose().clone()
}

fn refused(result: Result<TokenAnswer, OauthError>) -> ReasonCode {
    result.map(|answer| claims(answer.access_token.expose()).scope).unwrap_err().reason
}

#[tokio::test]
async fn a_token_is_issued_only_within_what_the_sponsor_of_each_actor_has_set() {
    let world = World::new(Kept::Memory).await;
    let token = hers(&world, None).await;
    allow(&world, "helper").await.unwrap();
    allow(&world, "second").await.unwrap();
    let acting = exchange(&world, "helper-app", None, &token).await.unwrap().access_token.expose().clone();
    exchange(&world, "second-app", None, &acting).await.unwrap();
    alone(&world, "helper-app").await.unwrap();
    // It is 2026-11-18T11:06:40Z, a Wednesday.
    for (conditions, for_her, on_its_own) in [
        (json!({"for_others": false}), true, false),
        (json!({"alone": false}), false, true),
        (json!({"assurance_min": 2}), false, false),
        (json!({"assurance_min": 3}), true, false),
        (json!({"binding": ["dpop"]}), true, true),
        (
            json!({"hours": {"zone": "Europe/Berlin", "from": "12:00", "until": "13:00", "days": ["wed"]}}),
            false,
            false,
        ),
        (json!({"hours": {"zone": "UTC", "from": "12:00", "until": "13:00"}}), true, true),
        (json!({"hours": {"zone": "UTC", "from": "08:00", "until": "18:00", "days": ["thu"]}}), true, true),
        // What it acts on is asked about at the doors; a token is nothing that lies anywhere.
        (json!({"resources": ["Model::gpt-4o"]}), false, false),
    ] {
        bound(&world, "helper", conditions.clone()).await;
        for (result, is_refused) in [
            (exchange(&world, "helper-app", None, &token).await, for_her),
            (alone(&world, "helper-app").await, on_its_own),
        ] {
            match result {
                Ok(_) => assert!(!is_refused, "{conditions}"),
                Err(error) => {
                    assert!(is_refused, "{conditions} {error:?}");
                    assert_eq!(error.reason, ReasonCode::SponsorCondition, "{conditions}");
                    assert!(error.decision.is_some(), "it is recorded");
                }
            }
        }
    }
    // It hands nothing on, whoever asks for it in its name.
    bound(&world, "helper", json!({"delegates": false})).await;
    exchange(&world, "helper-app", None, &token).await.unwrap();
    assert_eq!(refused(exchange(&world, "second-app", None, &acting).await), ReasonCode::SponsorCondition);
    // With its key it is bound.
    bound(&world, "helper", json!({"binding": ["dpop"]})).await;
    let held = hers(&world, Some(1)).await;
    exchange(&world, "helper-app", Some(1), &held).await.unwrap();
}

#[tokio::test]
async fn nobody_lets_an_agent_act_for_them_that_acts_for_nobody() {
    let world = World::new(Kept::Memory).await;
    bound(&world, "helper", json!({"for_others": false})).await;
    let told = allow(&world, "helper").await.unwrap_err();
    assert_eq!(told.problem.reason, ReasonCode::SponsorCondition);
    allow(&world, "second").await.unwrap();
}

#[tokio::test]
async fn an_agent_never_changes_its_own_conditions_nor_in_the_name_of_an_administrator() {
    let world = World::new(Kept::Memory).await;
    bound(&world, "helper", json!({"alone": false, "environments": []})).await;
    let helper = somebody(PrincipalKind::Agent, "helper", 3);
    let itself = world.person(&helper);
    assert_eq!(*itself.scopes(), Scopes::All);
    let freed = || agent("helper", &json!({}));
    let told = declare(&world, &itself, freed()).await.unwrap_err();
    assert_eq!(told.problem.reason, ReasonCode::Constitution);
    // In the chain of somebody who could, it still cannot.
    let administrator = administrator(&world);
    let member = |caller: &Caller| caller.subject().clone();
    let chain = Caller::suppose(Tenant::default_tenant(), member(&administrator), vec![member(&itself)]);
    let told = declare(&world, &chain, freed()).await.unwrap_err();
    assert!(matches!(told.problem.reason, ReasonCode::Constitution | ReasonCode::CredentialMissing));
    // Nor does a person who is only its owner: policy says who declares things.
    let told = declare(&world, &world.person(&alice()), freed()).await.unwrap_err();
    assert_eq!(told.problem.reason, ReasonCode::NoMatchingPermit);
    assert_eq!(alone(&world, "helper-app").await.unwrap_err().reason, ReasonCode::SponsorCondition);
    declare(&world, &administrator, freed()).await.unwrap();
    alone(&world, "helper-app").await.unwrap();
}

#[tokio::test]
async fn an_agent_stops_with_its_sponsor() {
    let world = World::new(Kept::Memory).await;
    let administrator = administrator(&world);
    let token = hers(&world, None).await;
    allow(&world, "helper").await.unwrap();
    let control = &world.authority.control;
    // Another person answers for it from now on, so that whom it acts for stays.
    declare(&world, &administrator, agent("helper", &json!({"owner": "carol"}))).await.unwrap_err();
    let carol: Document = serde_json::from_value(json!({"name": "carol", "spec": {"kind": "user"}})).unwrap();
    declare(&world, &administrator, carol.clone()).await.unwrap();
    declare(&world, &administrator, agent("helper", &json!({"owner": "carol"}))).await.unwrap();
    let issued = alone(&world, "helper-app").await.unwrap().access_token.expose().clone();
    exchange(&world, "helper-app", None, &token).await.unwrap();
    world.pass(1).await;
    let name = "carol".parse().unwrap();
    control.set_standing(&administrator, "user", &name, bartizan_model::Status::Disabled).await.unwrap();
    for result in [alone(&world, "helper-app").await, exchange(&world, "helper-app", None, &token).await] {
        assert_eq!(refused(result), ReasonCode::PrincipalDisabled);
    }
    assert!(!world.is_active(&issued).await);
    // Back again, she answers for it again; what was issued before stays dead.
    control.set_standing(&administrator, "user", &name, bartizan_model::Status::Active).await.unwrap();
    alone(&world, "helper-app").await.unwrap();
    assert!(!world.is_active(&issued).await);
    // She cannot be removed while she answers for something: somebody else has to, or it goes as well.
    let told = control.delete_document(&administrator, "user", &name).await.unwrap_err();
    assert_eq!(told.problem.reason, ReasonCode::Conflict);
}

#[tokio::test]
async fn conditions_that_lead_nowhere_or_could_never_hold_are_not_declared() {
    let world = World::new(Kept::Memory).await;
    let administrator = administrator(&world);
    for bad in [
        json!({"environments": ["nowhere"]}),
        json!({"projects": ["nothing"]}),
        json!({"assurance_min": 9}),
        json!({"alone": false, "for_others": false}),
        json!({"hours": {"zone": "Atlantis", "from": "08:00", "until": "18:00"}}),
        json!({"hours": {"zone": "UTC", "from": "08:00", "until": "08:00"}}),
    ] {
        let told =
            declare(&world, &administrator, agent("helper", &json!({"conditions": bad.clone()}))).await;
        assert_eq!(told.unwrap_err().problem.reason, ReasonCode::Invalid, "{bad}");
    }
    // An environment stays while an agent is confined to it: without it, nothing would be left of the condition.
    let staging: Document =
        serde_json::from_value(json!({"name": "staging", "spec": {"kind": "environment"}})).unwrap();
    declare(&world, &administrator, staging).await.unwrap();
    bound(&world, "helper", json!({"environments": ["staging"]})).await;
    let name = "staging".parse().unwrap();
    let told =
        world.authority.control.delete_document(&administrator, "environment", &name).await.unwrap_err();
    assert_eq!(told.problem.reason, ReasonCode::Conflict);
}

#[tokio::test]
async fn provisioning_reaches_no_agent_and_takes_no_condition_away() {
    let world = World::new(Kept::Memory).await;
    let administrator = administrator(&world);
    let demanded = json!({"alone": false, "hours": {"zone": "UTC", "from": "08:00", "until": "18:00"}});
    bound(&world, "helper", demanded.clone()).await;
    let (control, rows) = (world.authority.control.clone(), world.authority.rows.clone());
    let scim = Scim { control, rows };
    let helper = somebody(PrincipalKind::Agent, "helper", 3).id.to_string();
    let core = json!({"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": "helper"});
    let active = json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
        "Operations": [{"op": "remove", "path": "active"}]});
    for kind in [USER, GROUP] {
        for operation in [
            Operation::Replace { id: &helper, body: &core },
            Operation::Patch { id: &helper, body: &active },
            Operation::Delete { id: &helper },
        ] {
            let write = Write { kind, operation, if_match: None };
            let told = scim.write(&administrator, "https://auth.example/scim/v2", &write).await.unwrap_err();
            assert_eq!(told.error.status, 404, "{told:?}");
        }
    }
    // As a member of a provisioned group it is written down anew, whole.
    let group = json!({"schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"], "displayName": "Helpers",
        "members": [{"value": helper}]});
    let create =
        |body| Write { kind: GROUP, operation: Operation::Create { body, id: None }, if_match: None };
    let made = scim.write(&administrator, "https://auth.example/scim/v2", &create(&group)).await;
    let view = world.view();
    let (_, document, _) = view.state.documents.iter().find(|(_, d, _)| d.name.as_str() == "helper").unwrap();
    let Spec::Agent(spec) = &document.spec else { panic!("{document:?}") };
    assert_eq!(spec.groups.is_empty(), made.is_err(), "{made:?}");
    assert_eq!(serde_json::to_value(&spec.conditions).unwrap(), demanded);
}
