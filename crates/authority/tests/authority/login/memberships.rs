//! What other providers say about groups, and who is made by logging in: number 51 of the catalogue, as a provider would try it that
//! wants more than it was given.

use std::collections::{BTreeMap, BTreeSet};

use bartizan_control::Stopped;
use bartizan_model::directory::PrincipalSpec;
use bartizan_model::{Document, IdentityProviderSpec, Principal, ReasonCode, Spec, Status, Tenant};
use serde_json::{Value, json};

use crate::login::providers::{Fake, HERE, THERE, begin, end, log_in, merged, usual};
use crate::login::reason;
use crate::login::world::{Browser, World};

fn document(name: &str, spec: Value) -> Document {
    let members = [("name".to_owned(), name.into()), ("spec".to_owned(), spec)];
    serde_json::from_value(members.into_iter().collect()).unwrap()
}

fn provider(name: &str, issuer: &str, more: Value) -> Document {
    let mut spec =
        json!({"kind": "identity_provider", "issuer": issuer, "client_id": "bartizan", "name_claim": "sub"});
    let Value::Object(more) = more else { panic!("members of a document") };
    spec.as_object_mut().unwrap().extend(more);
    document(name, spec)
}

fn mapping(rows: &[(&str, &str)]) -> Value {
    let map: Vec<Value> = rows.iter().map(|(value, group)| json!({"value": value, "group": group})).collect();
    json!({"claim": "groups", "map": map})
}

fn groups() -> Vec<Document> {
    let mut all: Vec<Document> = ["engineers", "staff", "guests"]
        .iter()
        .map(|name| document(name, json!({"kind": "group"})))
        .collect();
    all.push(document("scribes", json!({"kind": "group", "provisioned": true})));
    all.push(document("operators", json!({"kind": "group", "roles": ["administrator"]})));
    all.push(document("night-shift", json!({"kind": "group", "parents": ["operators"]})));
    all
}

/// A house with groups and one provider, which maps what `groups` says.
async fn world(more: Value) -> (World, std::sync::Arc<Fake>) {
    let fake = Fake::new();
    let mut documents = groups();
    documents.push(provider("company", HERE, more));
    (World::with(Some(fake.clone()), documents).await, fake)
}

async fn apply(world: &World, documents: &[Document]) -> Result<(), Stopped> {
    let control = &world.login.authority.control;
    control.apply_documents(&world.caller(), documents).await.map(drop)
}

fn user(world: &World, name: &str) -> Option<(Document, PrincipalSpec)> {
    let view = world.login.authority.control.house.view(&Tenant::default_tenant()).unwrap();
    view.state.documents.iter().find_map(|(_, document, _)| match &document.spec {
        Spec::User(spec) if document.name.as_str() == name => Some((document.clone(), spec.clone())),
        _ => None,
    })
}

fn federated(world: &World, name: &str) -> BTreeMap<String, BTreeSet<String>> {
    let (_, spec) = user(world, name).unwrap();
    let texts = |groups: &BTreeSet<bartizan_base::Name>| groups.iter().map(ToString::to_string).collect();
    spec.federated.iter().map(|(provider, groups)| (provider.to_string(), texts(groups))).collect()
}

fn of(provider: &str, groups: &[&str]) -> (String, BTreeSet<String>) {
    (provider.to_owned(), groups.iter().map(|group| (*group).to_owned()).collect())
}

async fn log_in_there(world: &World, fake: &Fake, more: Value) -> Result<(), Stopped> {
    let browser = Browser::new(&world.login);
    let way = begin(world, &browser, "other").await;
    fake.say(merged(merged(usual(world, &way, "alice"), &json!({"iss": THERE})), &more));
    end(world, &browser, "other", &way, Some(THERE)).await.map(drop)
}

#[tokio::test]
async fn a_login_replaces_the_memberships_that_are_the_providers_own_and_no_others() {
    let (world, fake) =
        world(json!({"groups": mapping(&[("eng", "engineers"), ("all", "staff"), ("w", "scribes")])})).await;
    // What people and provisioning gave.
    let given = json!({"kind": "user", "groups": ["guests", "scribes"]});
    apply(&world, &[document("alice", given.clone())]).await.unwrap();
    for (said, gets) in [
        (json!(["eng", "all", "unknown"]), vec![of("company", &["engineers", "staff"])]),
        (json!("all"), vec![of("company", &["staff"])]),
        (json!(["w"]), vec![of("company", &["scribes"])]),
        (Value::Null, vec![]),
        (json!(["eng"]), vec![of("company", &["engineers"])]),
        (json!({"eng": true}), vec![]),
        (json!(["eng"]), vec![of("company", &["engineers"])]),
        (json!([7, "eng"]), vec![]),
    ] {
        log_in(&world, &fake, json!({"groups": said})).await.unwrap();
        assert_eq!(federated(&world, "alice"), gets.into_iter().collect(), "{said}");
        let (_, spec) = user(&world, "alice").unwrap();
        let own: Vec<&str> = spec.groups.iter().map(|name| name.as_str()).collect();
        assert_eq!(own, ["guests", "scribes"], "{said}");
    }
    // Declaring somebody anew neither takes nor gives what a login gave.
    log_in(&world, &fake, json!({"groups": "eng"})).await.unwrap();
    let forged = merged(given, &json!({"federated": {"company": ["operators"]}}));
    apply(&world, &[document("alice", forged.clone())]).await.unwrap();
    assert_eq!(federated(&world, "alice"), [of("company", &["engineers"])].into());
    apply(&world, &[document("newcomer", forged)]).await.unwrap();
    assert!(federated(&world, "newcomer").is_empty());
}

#[tokio::test]
async fn two_providers_may_give_one_group_and_it_ends_with_the_last_word_for_it() {
    let (world, fake) = world(json!({"groups": mapping(&[("eng", "engineers")])})).await;
    let map = json!({"groups": mapping(&[("dev", "engineers")])});
    apply(&world, &[provider("other", THERE, map)]).await.unwrap();
    log_in(&world, &fake, json!({"groups": ["eng"]})).await.unwrap();
    log_in_there(&world, &fake, json!({"groups": ["dev"]})).await.unwrap();
    assert_eq!(
        federated(&world, "alice"),
        [of("company", &["engineers"]), of("other", &["engineers"])].into()
    );
    // The value of one is nothing to the other.
    log_in(&world, &fake, json!({"groups": ["dev"]})).await.unwrap();
    assert_eq!(federated(&world, "alice"), [of("other", &["engineers"])].into());
    log_in_there(&world, &fake, json!({"groups": []})).await.unwrap();
    assert!(federated(&world, "alice").is_empty());
}

#[tokio::test]
async fn what_a_mapping_gave_ends_with_it_at_once() {
    let whole = json!({"groups": mapping(&[("eng", "engineers"), ("all", "staff")])});
    let (world, fake) = world(whole.clone()).await;
    let both = json!({"groups": ["eng", "all"]});
    log_in(&world, &fake, both.clone()).await.unwrap();
    let less = provider("company", HERE, json!({"groups": mapping(&[("eng", "engineers")])}));
    apply(&world, &[less]).await.unwrap();
    assert_eq!(federated(&world, "alice"), [of("company", &["engineers"])].into());
    let off = merged(whole.clone(), &json!({"status": "disabled"}));
    apply(&world, &[provider("company", HERE, off)]).await.unwrap();
    assert!(federated(&world, "alice").is_empty());
    apply(&world, &[provider("company", HERE, whole)]).await.unwrap();
    log_in(&world, &fake, both).await.unwrap();
    let control = &world.login.authority.control;
    // A group cannot go while it is mapped.
    let gone =
        control.delete_document(&world.caller(), "group", &bartizan_base::Name::literal("staff")).await;
    assert_eq!(reason(gone), ReasonCode::Conflict);
    let name = bartizan_base::Name::literal("company");
    control.delete_document(&world.caller(), "identity_provider", &name).await.unwrap();
    assert!(federated(&world, "alice").is_empty());
    let gone =
        control.delete_document(&world.caller(), "group", &bartizan_base::Name::literal("staff")).await;
    assert!(gone.is_ok());
}

#[tokio::test]
async fn attack_51_no_word_of_a_provider_makes_an_administrator_unless_the_mapping_says_so() {
    let (world, fake) = world(json!({"groups": mapping(&[("eng", "engineers")])})).await;
    let map = |group: &str, says: bool| {
        let row = json!({"value": "ops", "group": group, "administration": says});
        provider(
            "company",
            HERE,
            json!({"groups": {"claim": "groups", "map": [{"value": "eng", "group": "engineers"}, row]}}),
        )
    };
    // Directly, and through the group that it is in.
    for group in ["operators", "night-shift"] {
        assert_eq!(reason(apply(&world, &[map(group, false)]).await), ReasonCode::Conflict, "{group}");
    }
    // Nor later, behind its back.
    let raised = document("engineers", json!({"kind": "group", "roles": ["administrator"]}));
    assert_eq!(reason(apply(&world, &[raised]).await), ReasonCode::Conflict);
    let raised = document("engineers", json!({"kind": "group", "parents": ["night-shift"]}));
    assert_eq!(reason(apply(&world, &[raised]).await), ReasonCode::Conflict);
    log_in(&world, &fake, json!({"groups": ["ops", "operators", "administrator", "eng"]})).await.unwrap();
    assert_eq!(federated(&world, "alice"), [of("company", &["engineers"])].into());
    apply(&world, &[map("night-shift", true)]).await.unwrap();
    log_in(&world, &fake, json!({"groups": ["ops"]})).await.unwrap();
    assert_eq!(federated(&world, "alice"), [of("company", &["night-shift"])].into());
}

#[tokio::test]
async fn attack_51_ten_thousand_groups_and_groups_that_there_are_not_give_nothing() {
    let (world, fake) = world(json!({"groups": mapping(&[("g9999", "engineers")])})).await;
    log_in(&world, &fake, json!({"groups": ["g9999"]})).await.unwrap();
    // As many as a token holds are looked through, and the one that is mapped is found.
    let fitting: Vec<String> = (9_300..10_000).map(|n| format!("g{n}")).collect();
    log_in(&world, &fake, json!({"groups": fitting})).await.unwrap();
    assert_eq!(federated(&world, "alice"), [of("company", &["engineers"])].into());
    let many: Vec<String> = (0..10_000).map(|n| format!("g{n}")).collect();
    assert_eq!(reason(log_in(&world, &fake, json!({"groups": many})).await), ReasonCode::ProviderRefused);
    let absent = provider("company", HERE, json!({"groups": mapping(&[("x", "absent")])}));
    assert_eq!(reason(apply(&world, &[absent]).await), ReasonCode::Invalid);
}

#[tokio::test]
async fn attack_51_whoever_is_deactivated_stays_dead_whatever_a_provider_says() {
    let more = json!({"groups": mapping(&[("eng", "engineers")]), "creates": {"name_claim": "nick", "when": {"hd": ["x"]}}});
    let (world, fake) = world(more).await;
    let word = json!({"sub": "alice", "groups": "eng", "hd": "x", "nick": "alice2"});
    log_in(&world, &fake, merged(word.clone(), &json!({"groups": null}))).await.unwrap();
    world.disable("alice").await;
    assert_eq!(reason(log_in(&world, &fake, word.clone()).await), ReasonCode::LoginFailed);
    let (_, spec) = user(&world, "alice").unwrap();
    assert!(spec.status == Status::Disabled && spec.federated.is_empty());
    // Removed altogether: the account there is nobody's, and makes nobody new under another name.
    let control = &world.login.authority.control;
    control.delete_document(&world.caller(), "user", &bartizan_base::Name::literal("alice")).await.unwrap();
    assert_eq!(reason(log_in(&world, &fake, word.clone()).await), ReasonCode::LoginFailed);
    assert!(user(&world, "alice").is_none() && user(&world, "alice2").is_none());
    // An administrator can give the name again; then the provider's names count as they did.
    apply(&world, &[document("alice", json!({"kind": "user"}))]).await.unwrap();
    world.advance(1);
    log_in(&world, &fake, word).await.unwrap();
    assert_eq!(federated(&world, "alice"), [of("company", &["engineers"])].into());
}

#[tokio::test]
async fn attack_51_people_are_made_only_where_it_is_allowed_and_never_take_over_anybody() {
    let creates = json!({"domains": ["example.com"]});
    let more = json!({"name_claim": null, "creates": creates, "groups": mapping(&[("eng", "engineers")])});
    let (world, fake) = world(more.clone()).await;
    let word = |sub: &str, name: &str| json!({"sub": sub, "preferred_username": name, "groups": ["eng"], "email": "alice@example.com", "email_verified": true});
    // Her name and her address, by somebody else's account there: nobody comes to what is hers.
    for name in ["alice", "ALICE", "root", "a name", "+member+/0 "] {
        assert_eq!(reason(log_in(&world, &fake, word("s-1", name)).await), ReasonCode::LoginFailed, "{name}");
    }
    let outside = merged(word("s-2", "eve"), &json!({"email_verified": false}));
    assert_eq!(reason(log_in(&world, &fake, outside).await), ReasonCode::LoginFailed);
    assert!(user(&world, "eve").is_none());
    log_in(&world, &fake, word("s-2", "eve")).await.unwrap();
    let (eve, spec) = user(&world, "eve").unwrap();
    assert!(spec.groups.is_empty() && spec.roles.is_empty());
    assert_eq!(federated(&world, "eve"), [of("company", &["engineers"])].into());
    // The same account is the same person, whatever it is called now; another account of that name is not.
    log_in(&world, &fake, word("s-2", "mallory")).await.unwrap();
    assert!(user(&world, "mallory").is_none());
    assert_eq!(reason(log_in(&world, &fake, word("s-3", "eve")).await), ReasonCode::LoginFailed);
    assert_eq!(user(&world, "eve").unwrap().0.principal, eve.principal);
    // A name that somebody had is not given again.
    let control = &world.login.authority.control;
    control.delete_document(&world.caller(), "user", &bartizan_base::Name::literal("eve")).await.unwrap();
    assert_eq!(reason(log_in(&world, &fake, word("s-3", "eve")).await), ReasonCode::LoginFailed);
    // Without bounds it is not declared, and without leave nobody is made.
    let open = merged(more.clone(), &json!({"creates": {}}));
    assert_eq!(reason(apply(&world, &[provider("company", HERE, open)]).await), ReasonCode::Invalid);
    let closed = merged(more, &json!({"creates": null}));
    apply(&world, &[provider("company", HERE, closed)]).await.unwrap();
    assert_eq!(reason(log_in(&world, &fake, word("s-4", "dan")).await), ReasonCode::LoginFailed);
}

#[tokio::test]
async fn somebody_new_does_not_begin_as_an_administrator() {
    let creates = json!({"when": {"hd": ["x"]}});
    let (world, fake) =
        world(json!({"name_claim": null, "creates": creates, "groups": mapping(&[("eng", "engineers")])}))
            .await;
    let word = json!({"sub": "s-1", "preferred_username": "eve", "hd": "x", "groups": ["eng", "ops"], "roles": ["administrator"]});
    log_in(&world, &fake, word).await.unwrap();
    let (document, spec) = user(&world, "eve").unwrap();
    assert!(spec.roles.is_empty());
    let whom = Principal {
        kind: bartizan_model::PrincipalKind::User,
        name: document.name,
        id: document.principal.unwrap(),
    };
    let proof = bartizan_identify::Proof { name: whom.name.clone(), ..world.root() };
    let control = &world.login.authority.control;
    let eve = control.house.prove(&proof).unwrap();
    assert_eq!(reason(control.list_documents(&eve, None).await), ReasonCode::NoMatchingPermit);
}

#[test]
fn a_provider_written_before_groups_were_mapped_is_read_as_it_was() {
    let old = json!({"issuer": "https://x.example", "client_id": "b"});
    let spec: IdentityProviderSpec = serde_json::from_value(old).unwrap();
    assert!(spec.groups.is_none() && spec.creates.is_none() && spec.given().next().is_none());
    let told = serde_json::to_value(&spec).unwrap();
    assert!(told.get("groups").is_none() && told.get("scopes").is_none());
}
