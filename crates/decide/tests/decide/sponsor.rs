//! The sponsor's conditions on an agent: each of them bounds, and nothing that a tenant writes widens any.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;

use crate::world::{NOW, bound, documents, member, name, situation};
use bartizan_base::Timestamp;
use bartizan_base::random::SeededRandom;
use bartizan_decide::{
    AskedEntity, AskedOf, Bundle, CompiledBundle, Door, Entities, Explanation, Question, Reader,
    RowsQuestion, Snapshot, Verdict, check_conditions,
};
use bartizan_filter::Tree;
use bartizan_identify::{Caller, Directory, Identified, Identifier, KeyEntry, Presented};
use bartizan_model::directory::Spec;
use bartizan_model::record::VerdictKind;
use bartizan_model::{
    Action, AskFacts, AssuranceLevel, BoundBy, Conditions, Document, EnforcementPointSpec, EntityRef, KeyId,
    Member, Obligations, Principal, PrincipalKind, ReasonCode, Situation, Tenant,
};
use bartizan_secret::ApiKey;
use serde_json::{Value, json};

/// As wide as a policy can be.
const ALL: &str = r#"@id("all") permit (principal, action, resource);"#;

const USER: PrincipalKind = PrincipalKind::User;
const AGENT: PrincipalKind = PrincipalKind::Agent;

/// The agent `reporter` under conditions, and a model `lab-model` in the project `lab`, in production.
fn world_of(conditions: &Value) -> Vec<Document> {
    let mut all = documents();
    for document in &mut all {
        match &mut document.spec {
            Spec::Agent(spec) if document.name.as_str() == "reporter" => {
                spec.conditions = serde_json::from_value(conditions.clone()).unwrap();
            }
            _ => {}
        }
    }
    let lab = json!({"name": "lab", "spec": {"kind": "project"}});
    let model = json!({"name": "lab-model", "spec": {"kind": "model", "upstream": "up", "dialects": [],
        "environment": "production", "project": "lab"}});
    all.extend([lab, model].map(|document| serde_json::from_value::<Document>(document).unwrap()));
    all
}

fn snapshot(policy: &str, conditions: &Value) -> Snapshot {
    let bundle = Bundle { files: [("p.cedar".to_owned(), policy.to_owned())].into() };
    let compiled = CompiledBundle::compile(&bundle).unwrap();
    let entities = Entities::build(&world_of(conditions)).unwrap();
    Snapshot::new(Some(Arc::new(compiled)), Arc::new(entities))
}

fn chain(members: &[(PrincipalKind, &str)], level: AssuranceLevel, by: Option<BoundBy>) -> Caller {
    let mut members = members.iter().map(|(kind, who)| Member {
        binding: by.map(bound).unwrap_or_default(),
        ..member(*kind, who, if *kind == USER { level } else { AssuranceLevel::None })
    });
    let subject = members.next().unwrap();
    Caller::suppose(Tenant::default_tenant(), subject, members.collect())
}

fn told(
    snapshot: &Snapshot,
    caller: &Caller,
    action: Action,
    on: &str,
    situation: &Situation,
) -> Explanation {
    let kind = action.resource_type();
    let on = if EntityRef::OF_THE_HOUSE.contains(&kind) { "bartizan" } else { on };
    let resource = EntityRef::new(name(kind), name(on));
    let facts = AskFacts::default();
    let question = Question { caller, action, resource: &resource, facts: &facts, situation };
    snapshot.explain(&question, &Door::model_calls(), Reader::ALL)
}

/// The conditions that forbid it; none where it is permitted.
fn broken(told: &Explanation) -> Vec<String> {
    let rules: Vec<String> = told.evidence.constitution.iter().map(ToString::to_string).collect();
    assert_eq!(told.verdict == VerdictKind::Permit, rules.is_empty(), "{told:?}");
    if !rules.is_empty() {
        assert_eq!(
            (told.verdict, &told.reasons[..]),
            (VerdictKind::Deny, &[ReasonCode::SponsorCondition][..])
        );
        assert!(told.offers.is_empty(), "nothing lifts it: {told:?}");
    }
    rules.iter().map(|rule| rule.strip_prefix("constitution-sponsor-").unwrap().to_owned()).collect()
}

fn for_alice() -> Caller {
    chain(&[(USER, "alice"), (AGENT, "reporter")], AssuranceLevel::Aal2, None)
}

#[test]
fn each_condition_bounds_what_the_widest_policy_permits() {
    let alone = chain(&[(AGENT, "reporter")], AssuranceLevel::None, None);
    let held = |by| chain(&[(USER, "alice"), (AGENT, "reporter")], AssuranceLevel::Aal2, Some(by));
    // Actors stand outermost first: here reporter has handed on to stranger.
    let on = chain(&[(USER, "alice"), (AGENT, "stranger"), (AGENT, "reporter")], AssuranceLevel::Aal2, None);
    let by = chain(&[(USER, "alice"), (AGENT, "reporter"), (AGENT, "stranger")], AssuranceLevel::Aal2, None);
    let own = chain(&[(AGENT, "reporter"), (AGENT, "stranger")], AssuranceLevel::None, None);
    let hers = for_alice();
    for (conditions, caller, model, expected) in [
        (json!({}), &hers, "prod", &[][..]),
        (json!({"environments": ["development"]}), &hers, "dev", &[]),
        (json!({"environments": ["development"]}), &hers, "prod", &["environments"]),
        (json!({"environments": ["development", "production"]}), &hers, "prod", &[]),
        (json!({"projects": ["lab"]}), &hers, "lab-model", &[]),
        (json!({"projects": ["lab"]}), &hers, "prod", &["projects"]),
        (
            json!({"projects": ["lab"], "environments": ["development"]}),
            &hers,
            "lab-model",
            &["environments"],
        ),
        (json!({"resources": ["Model::lab-*"]}), &hers, "lab-model", &[]),
        (json!({"resources": ["Model::lab-*"]}), &hers, "prod", &["resources"]),
        (json!({"resources": ["Tool::*"]}), &hers, "prod", &["resources"]),
        (json!({"resources": ["Environment::prod*"]}), &hers, "prod", &[]),
        (json!({"alone": false}), &hers, "prod", &[]),
        (json!({"alone": false}), &alone, "prod", &["alone"]),
        (json!({"alone": false}), &own, "prod", &["alone"]),
        (json!({"for_others": false}), &alone, "prod", &[]),
        (json!({"for_others": false}), &hers, "prod", &["others"]),
        (json!({"delegates": false}), &hers, "prod", &[]),
        (json!({"delegates": false}), &by, "prod", &[]),
        (json!({"delegates": false}), &on, "prod", &["delegation"]),
        (json!({"delegates": false}), &own, "prod", &["delegation"]),
        (json!({"assurance_min": 2}), &hers, "prod", &[]),
        (json!({"assurance_min": 3}), &hers, "prod", &["assurance"]),
        (json!({"assurance_min": 3}), &alone, "prod", &[]),
        (json!({"binding": ["dpop"]}), &held(BoundBy::Dpop), "prod", &[]),
        (json!({"binding": ["mtls"]}), &held(BoundBy::Dpop), "prod", &["binding"]),
        (json!({"binding": ["dpop", "mtls"]}), &held(BoundBy::Mtls), "prod", &[]),
        (json!({"binding": ["dpop", "mtls"]}), &hers, "prod", &["binding"]),
        // All of them hold at once.
        (
            json!({"alone": false, "environments": ["development"], "binding": ["dpop"]}),
            &alone,
            "prod",
            &["alone", "binding", "environments"],
        ),
    ] {
        let snapshot = snapshot(ALL, &conditions);
        let found = told(&snapshot, caller, Action::ModelInvoke, model, &situation());
        assert_eq!(broken(&found), expected, "{conditions} {model}");
    }
    // Conditions are of one agent: the person herself and other agents are not bounded by them.
    let strict =
        snapshot(ALL, &json!({"resources": ["Tool::none"], "binding": ["mtls"], "assurance_min": 4}));
    for free in [
        chain(&[(USER, "alice")], AssuranceLevel::Aal1, None),
        chain(&[(USER, "alice"), (AGENT, "stranger")], AssuranceLevel::Aal1, None),
    ] {
        assert_eq!(broken(&told(&strict, &free, Action::ModelInvoke, "prod", &situation())), [""; 0]);
    }
}

#[test]
fn hours_are_those_of_the_zone_and_an_unknown_zone_has_none() {
    let at = |text: &str| Situation::at(Timestamp::parse_rfc3339(text).unwrap());
    let office = |zone: &str| {
        json!({"hours": {"zone": zone, "from": "08:00", "until": "18:00",
        "days": ["mon", "tue", "wed", "thu", "fri"]}})
    };
    let berlin = snapshot(ALL, &office("Europe/Berlin"));
    for (when, expected) in [
        // Winter, an hour ahead of UTC; summer, two.
        ("2026-11-20T07:00:00Z", &[][..]),
        ("2026-11-20T06:59:59Z", &["hours"]),
        ("2026-11-20T16:59:59Z", &[]),
        ("2026-11-20T17:00:00Z", &["hours"]),
        ("2026-07-20T06:00:00Z", &[]),
        ("2026-11-21T12:00:00Z", &["hours"]),
        // Already Monday there.
        ("2026-11-22T23:30:00Z", &["hours"]),
    ] {
        let found = told(&berlin, &for_alice(), Action::ModelInvoke, "prod", &at(when));
        assert_eq!(broken(&found), expected, "{when}");
    }
    let nowhere = snapshot(ALL, &office("Europe/Atlantis"));
    let found = told(&nowhere, &for_alice(), Action::ModelInvoke, "prod", &at("2026-11-20T12:00:00Z"));
    assert_eq!(broken(&found), ["hours"]);
}

#[test]
fn inv_narrow_no_rule_remedy_or_scope_lifts_a_condition() {
    let policy = r#"
        @id("all") permit (principal, action, resource);
        @id("reporter-everywhere") permit (principal == Agent::"reporter", action, resource);
        @id("step") @remedy("step_up(level: 3)") forbid (principal, action, resource is Model) unless { context.assurance.level >= 3 };
        @id("approve") @remedy("approve(1, use_within: 1h)") forbid (principal is Agent, action, resource is Model)
            unless { context.approvals.contains("approve") };
    "#;
    let snapshot = snapshot(policy, &json!({"assurance_min": 3, "environments": ["development"]}));
    let found = told(&snapshot, &for_alice(), Action::ModelInvoke, "prod", &situation());
    assert_eq!(broken(&found), ["assurance", "environments"]);
    // Nor does its owner's own right to it, nor that the same rule permits it to everybody else.
    let weak = chain(&[(USER, "alice"), (AGENT, "reporter")], AssuranceLevel::Aal1, None);
    assert_eq!(broken(&told(&snapshot, &weak, Action::ModelInvoke, "dev", &situation())), ["assurance"]);
}

#[test]
fn a_confined_agent_does_nothing_elsewhere_but_sees_to_itself() {
    let snapshot = snapshot(ALL, &json!({"environments": ["development"]}));
    let hers = for_alice();
    for action in [Action::ResourceRead, Action::LedgerRead, Action::ContentRead, Action::AccessSearch] {
        assert_eq!(broken(&told(&snapshot, &hers, action, "", &situation())), ["environments"], "{action}");
    }
    for action in [Action::TokenIssue, Action::TokenIntrospect, Action::GrantList] {
        assert_eq!(broken(&told(&snapshot, &hers, action, "", &situation())), [""; 0], "{action}");
    }
    // Getting a token is bounded by everything else; giving one back by nothing.
    let bounds = json!({"binding": ["mtls"], "for_others": false, "alone": true});
    let snapshot = self::snapshot(ALL, &bounds);
    assert_eq!(broken(&told(&snapshot, &hers, Action::TokenIssue, "", &situation())), ["binding", "others"]);
    assert_eq!(broken(&told(&snapshot, &hers, Action::TokenRevoke, "", &situation())), [""; 0]);
}

#[test]
fn a_thing_that_is_hidden_by_a_condition_is_not_listed_either() {
    let snapshot = snapshot(ALL, &json!({"resources": ["Model::dev"]}));
    let hers = for_alice();
    assert_eq!(broken(&told(&snapshot, &hers, Action::ModelList, "dev", &situation())), [""; 0]);
    assert_eq!(broken(&told(&snapshot, &hers, Action::ModelList, "prod", &situation())), ["resources"]);
}

#[test]
fn inv_same_what_was_kept_of_a_decision_holds_its_conditions() {
    let conditions =
        json!({"environments": ["development"], "hours": {"zone": "UTC", "from": "00:00", "until": "24:00"}});
    let snapshot = snapshot(ALL, &conditions);
    let agent = EntityRef::new(name("Agent"), name("reporter"));
    let mut slices = Vec::new();
    for model in ["dev", "prod"] {
        let resource = EntityRef::new(name("Model"), name(model));
        let person = EntityRef::new(name("User"), name("alice"));
        for who in [&agent, &person] {
            slices.extend(snapshot.entities().slice_documents(who, &resource).unwrap());
        }
    }
    slices.sort();
    slices.dedup();
    let again = Entities::from_slice(slices.iter().map(|(_, document)| document.as_slice())).unwrap();
    let again = Snapshot::new(snapshot.bundle().cloned(), Arc::new(again));
    for model in ["dev", "prod"] {
        let (now, then) = (
            told(&snapshot, &for_alice(), Action::ModelInvoke, model, &situation()),
            told(&again, &for_alice(), Action::ModelInvoke, model, &situation()),
        );
        assert_eq!((now.verdict, now.reasons, now.evidence), (then.verdict, then.reasons, then.evidence));
    }
    // Other conditions are another slice.
    let other = self::snapshot(ALL, &json!({"alone": false}));
    let digest =
        |of: &Snapshot| of.entities().slice_documents(&agent, &EntityRef::new(name("Model"), name("dev")));
    assert_ne!(digest(&snapshot), digest(&other));
    // What cannot be read is no agent without bounds, but none.
    let text = String::from_utf8(
        slices
            .iter()
            .map(|(_, d)| d.clone())
            .find(|d| String::from_utf8_lossy(d).contains("conditions"))
            .unwrap(),
    );
    let spoilt = text.unwrap().replace("environments", "enviroments");
    assert!(Entities::from_slice([spoilt.as_bytes()].into_iter()).is_err());
}

/// The agent itself, by a real key: only such a caller gets a permit, or rows.
fn real_agent(documents: Vec<Document>) -> Caller {
    let key = ApiKey::generate(&SeededRandom::new(1));
    let entry = KeyEntry {
        id: KeyId::from_parts(NOW, [1; 10]),
        tenant: Tenant::default_tenant(),
        digest: key.digest(),
        principal: Principal { kind: AGENT, name: name("reporter"), id: crate::world::id(4) },
        scopes: None,
        created: NOW,
        expires: NOW.saturating_add(std::time::Duration::from_secs(10)),
        revoked: None,
    };
    let all = documents.into_iter().map(|d| (Tenant::default_tenant(), d));
    let directory = Directory::build(1, all, [entry].into_iter(), std::iter::empty());
    let header = format!("Bearer {}", key.text().expose());
    let presented = Presented::from_headers([header.as_bytes()].into_iter(), std::iter::empty()).unwrap();
    match Identifier::new().identify(&directory, &presented, NOW) {
        Identified::Caller(caller) => *caller,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_index_and_the_reference_refuse_alike_and_a_refusal_is_no_permit() {
    for (conditions, permitted) in
        [(json!({"environments": ["production"]}), true), (json!({"alone": false}), false)]
    {
        let (snapshot, caller) = (snapshot(ALL, &conditions), real_agent(world_of(&conditions)));
        let ask = || crate::world::ask("prod", Action::ModelInvoke);
        for decision in [
            snapshot.decide(&caller, ask(), &situation(), &Door::none()),
            snapshot.decide_reference(&caller, ask(), &situation(), &Door::none()),
        ] {
            assert_eq!(matches!(decision.verdict, Verdict::Permit(_)), permitted, "{conditions}");
        }
    }
}

#[test]
fn inv_filter_rows_are_decided_one_by_one_for_a_confined_agent_and_none_are_given_where_it_may_not_act() {
    let filter = |conditions: Value| {
        let (snapshot, caller) = (snapshot(ALL, &conditions), real_agent(world_of(&conditions)));
        let facts = AskFacts::default();
        let (situation, none) = (situation(), Obligations::none());
        let question = RowsQuestion {
            caller: &caller,
            action: Action::DocumentRead,
            rows: "Document",
            facts: &facts,
            situation: &situation,
            applied: &none,
        };
        snapshot.filter(&question, &Door::none())
    };
    assert!(matches!(filter(json!({})), Ok(Tree::Always)));
    assert!(matches!(filter(json!({"delegates": false})), Ok(Tree::Always)));
    assert!(matches!(filter(json!({"alone": false})), Ok(Tree::Never)));
    assert!(filter(json!({"projects": ["lab"]})).is_err(), "which rows lie in it, only each row says");
    assert!(matches!(filter(json!({"projects": ["lab"], "alone": false})), Ok(Tree::Never)));
}

#[test]
fn an_application_is_told_no_where_the_sponsor_says_so_whatever_it_tells_of_the_agent() {
    let shop = r#"namespace Shop { entity Order; action "read" appliesTo { principal: [Agent], resource: Order, context: {} }; }"#;
    let files = [("p.cedar", ALL), ("schema/shop.cedarschema", shop)];
    let files = files.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
    let compiled = Arc::new(CompiledBundle::compile(&Bundle { files }).unwrap());
    // Believed whatever it says, also in the place of what is declared.
    let point = EnforcementPointSpec {
        namespace: Some(name("Shop")),
        types: [(name("agent"), name("Agent"))].into(),
        subject_properties: [name("conditions")].into(),
        overrides: true,
        ..EnforcementPointSpec::of(name("shop"))
    };
    let entity = |kind: &str, id: &str| AskedEntity {
        kind: kind.to_owned(),
        id: id.to_owned(),
        ..AskedEntity::default()
    };
    let mut asked = AskedOf {
        subject: entity("agent", "reporter"),
        action: "read".to_owned(),
        resource: entity("Order", "7"),
        ..AskedOf::default()
    };
    for told in [None, Some("{}")] {
        asked.subject.properties =
            told.map(|text| ("conditions".to_owned(), Value::from(text))).into_iter().collect();
        for (conditions, expected) in [
            (json!({}), None),
            (json!({"delegates": false}), None),
            (json!({"alone": false}), Some("constitution-sponsor-alone")),
            (json!({"binding": ["dpop"]}), Some("constitution-sponsor-binding")),
            (json!({"projects": ["lab"]}), Some("constitution-sponsor-projects")),
            // Nobody declared that order, so it lies nowhere.
            (json!({"resources": ["Shop::Order::7"]}), Some("constitution-sponsor-resources")),
        ] {
            let entities = Entities::build_for(&world_of(&conditions), Some(&compiled)).unwrap();
            let snapshot = Snapshot::new(Some(compiled.clone()), Arc::new(entities));
            let advice = snapshot.advise(&asked, &point, NOW);
            let rules: Vec<&str> = advice.evidence.constitution.iter().map(|rule| rule.as_str()).collect();
            assert_eq!(rules, expected.into_iter().collect::<Vec<_>>(), "{conditions} {advice:?}");
            assert_eq!(advice.permits(), expected.is_none(), "{conditions} {advice:?}");
            let reasons = expected.map(|_| ReasonCode::SponsorCondition);
            assert_eq!(advice.reasons, reasons.into_iter().collect::<Vec<_>>(), "{conditions}");
        }
    }
}

#[test]
fn conditions_that_could_never_hold_are_refused() {
    let read = |value: Value| serde_json::from_value::<Conditions>(value).unwrap();
    let hours =
        |from: &str, until: &str, zone: &str| json!({"hours": {"zone": zone, "from": from, "until": until}});
    assert_eq!(check_conditions(&Conditions::default()), Ok(()));
    assert_eq!(check_conditions(&read(hours("22:00", "06:00", "Europe/Berlin"))), Ok(()));
    for bad in [
        json!({"assurance_min": 5}),
        json!({"alone": false, "for_others": false}),
        hours("08:00", "08:00", "UTC"),
        hours("08:00", "18:00", "Berlin"),
    ] {
        assert!(check_conditions(&read(bad.clone())).is_err(), "{bad}");
    }
}
