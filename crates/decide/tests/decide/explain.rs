//! Explanations, and who can reach what.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::world::{BASE, NOW, ask, invoke, name, real_alice, situation, snapshot, user};
use bartizan_decide::{Change, Door, Page, Question, Reader, RuleOutcome, Search, Snapshot, Supposed};
use bartizan_model::record::VerdictKind;
use bartizan_model::{Action, AskFacts, AssuranceLevel, EntityRef, Situation, Tenant};
use proptest::prelude::*;

const HOURS: &str = r#"
@id("daytime") @description("Work is done by day.") @owner("people-team")
permit (principal in Group::"contractors", action in Action::"model:use", resource)
when { context.assurance.level >= 2 && resource.environment == "development" && context has purpose && context.purpose == "support" };
"#;

fn question<'a>(
    caller: &'a bartizan_identify::Caller,
    resource: &'a EntityRef,
    facts: &'a AskFacts,
    situation: &'a Situation,
) -> Question<'a> {
    Question { caller, action: Action::ModelInvoke, resource, facts, situation }
}

fn told(reader: Reader) -> bartizan_decide::Explanation {
    let snapshot = snapshot(HOURS);
    let (caller, resource, facts) = (
        user("carol", AssuranceLevel::Aal1),
        EntityRef::new(name("Model"), name("dev")),
        AskFacts::default(),
    );
    let situation = crate::world::stated("secret business");
    snapshot.explain(&question(&caller, &resource, &facts, &situation), &Door::model_calls(), reader)
}

#[test]
fn a_near_miss_shows_the_condition_that_failed_and_what_it_saw() {
    let told = told(Reader::ALL);
    assert_eq!((told.verdict, told.members.len()), (VerdictKind::Deny, 1));
    let rule = &told.members[0].rules[0];
    assert_eq!((rule.id.as_str(), rule.outcome), ("daytime", RuleOutcome::Near));
    assert_eq!(rule.description.as_deref(), Some("Work is done by day."));
    assert_eq!(rule.owner.as_deref(), Some("people-team"));
    let failed: Vec<(&str, Vec<&str>)> = rule
        .clauses
        .iter()
        .filter(|c| c.failed())
        .map(|c| (c.text.as_str(), c.values.iter().map(|v| v.value.as_str()).collect()))
        .collect();
    assert_eq!(
        failed,
        [
            ("context.assurance.level >= 2", vec!["1"]),
            ("context.purpose == \"support\"", vec!["\"secret business\""]),
        ]
    );
    let text = told.to_string();
    for part in [
        "`daytime` would permit (people-team)",
        "context.assurance.level is 1",
        "does not hold",
        "would change it: context.assurance.level >= 2",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn values_are_masked_by_the_readers_own_rights() {
    let masked = told(Reader { rules: true, personal: false });
    let all = serde_json::to_string(&masked).unwrap() + &masked.to_string();
    assert!(all.contains("(hidden)") && !all.contains("secret business"), "{all}");
    assert!(all.contains("context.assurance.level is 1"), "what is not personal is shown");
    let caller = told(Reader::CALLER);
    assert!(caller.members.is_empty() && caller.texts.is_empty() && caller.changes.is_empty());
    // Names of others are personal too.
    let owner = r#"@id("own") permit (principal is Agent, action, resource is Model) when { principal.owner == User::"carol" };"#;
    let snapshot = snapshot(owner);
    let (resource, facts, situation) =
        (EntityRef::new(name("Model"), name("dev")), AskFacts::default(), situation());
    let agent = crate::world::agent("reporter");
    for (reader, shown) in
        [(Reader { rules: true, personal: false }, "(hidden)"), (Reader::ALL, "User::\"alice\"")]
    {
        let told = snapshot.explain(&question(&agent, &resource, &facts, &situation), &Door::none(), reader);
        assert_eq!(told.members[0].rules[0].clauses[0].values[0].value, shown);
    }
}

#[test]
fn what_would_change_it_names_the_membership_that_a_permit_asks_for() {
    let rules = format!(
        "{BASE}@id(\"others\") permit (principal in Role::\"other\", action == Action::\"model:embed\", resource);"
    );
    let told = invoke(&snapshot(&rules), &user("mallory", AssuranceLevel::Aal1), "dev");
    let wanted = Change::Membership {
        rule: name("engineers"),
        member: "User::\"mallory\"".to_owned(),
        of: "Group::\"engineers\"".to_owned(),
    };
    assert_eq!((told.changes, told.changes_incomplete), (vec![wanted], false));
}

#[test]
fn inv_same_an_explanation_is_the_decisions_own_evidence() {
    let strong = r#"@id("strong") @remedy("step_up(level: 3)") forbid (principal, action == Action::"model:invoke", resource) when { resource.environment == "production" } unless { context.assurance.level >= 3 };"#;
    let snapshot = snapshot(&format!("{BASE}{strong}{HOURS}"));
    let alice = real_alice();
    for model in ["dev", "prod", "weights", "no-such"] {
        let (resource, facts, situation) =
            (EntityRef::new(name("Model"), name(model)), AskFacts::default(), situation());
        let told = snapshot.explain(
            &question(&alice, &resource, &facts, &situation),
            &Door::model_calls(),
            Reader::ALL,
        );
        let decided =
            snapshot.decide(&alice, ask(model, Action::ModelInvoke), &situation, &Door::model_calls());
        assert_eq!(told.evidence, decided.evidence, "{model}");
    }
}

fn search<'a>(ask: &'a Supposed, tenant: &'a Tenant, door: &'a Door) -> Search<'a> {
    Search { ask, tenant, now: NOW, door }
}

fn supposed(who: &str, action: Action, model: &str) -> Supposed {
    Supposed::new(who.to_owned().try_into().unwrap(), action, name(model))
}

fn names(found: &bartizan_decide::Found) -> Vec<String> {
    found.items.iter().map(|item| format!("{} {:?}", item.name, item.verdict)).collect()
}

#[test]
fn who_can_and_what_can_are_answered_from_policy_and_entities() {
    let two = r#"@id("two") @remedy("approve(1, use_within: 1h)") forbid (principal, action == Action::"model:invoke", resource == Model::"weights") unless { context.approvals.contains("two") };"#;
    let snapshot = snapshot(&format!("{BASE}{two}"));
    let (tenant, door, page) = (Tenant::default_tenant(), Door::model_calls(), Page::default());
    let ask = supposed("user/nobody", Action::ModelInvoke, "weights");
    let found = snapshot.search_subjects(search(&ask, &tenant, &door), &page);
    assert_eq!(names(&found), ["agent/reporter Hold", "user/alice Hold", "user/carol Hold"]);
    assert!(
        !found.incomplete && found.evaluated == 3,
        "mallory and the stranger match no permit and cost no evaluation"
    );
    let permitted = Page { permitted_only: true, ..Page::default() };
    assert!(snapshot.search_subjects(search(&ask, &tenant, &door), &permitted).items.is_empty());
    let ask = supposed("user/alice", Action::ModelInvoke, "nothing");
    assert_eq!(
        names(&snapshot.search_resources(search(&ask, &tenant, &door), &page)),
        ["dev Permit", "prod Permit", "weights Hold"]
    );
    let ask = supposed("user/alice", Action::ModelInvoke, "dev");
    assert_eq!(
        names(&snapshot.search_actions(search(&ask, &tenant, &door), &page)),
        ["model:embed Permit", "model:invoke Permit", "model:list Permit"]
    );
    let ask = supposed("user/alice", Action::ModelInvoke, "no-such");
    let none = snapshot.search_subjects(search(&ask, &tenant, &door), &page);
    assert!(none.items.is_empty() && !none.incomplete);
}

fn pages(snapshot: &Snapshot, ask: &Supposed, limit: usize) -> Vec<String> {
    let (tenant, door) = (Tenant::default_tenant(), Door::model_calls());
    let (mut out, mut page) = (Vec::new(), Page { limit, ..Page::default() });
    for _ in 0..50 {
        let found = snapshot.search_subjects(search(ask, &tenant, &door), &page);
        assert!(found.items.len() <= limit);
        assert_eq!(found.incomplete, found.next.is_some(), "never cut short without saying so");
        out.extend(names(&found));
        match found.next {
            Some(next) => page.after = Some(next),
            None => return out,
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn pages_of_any_size_add_up_to_the_whole_answer(limit in 1..6_usize, model in proptest::sample::select(vec!["dev", "prod"])) {
        let snapshot = snapshot(BASE);
        let ask = supposed("user/nobody", Action::ModelInvoke, model);
        let whole = pages(&snapshot, &ask, 1_000);
        prop_assert_eq!(pages(&snapshot, &ask, limit), whole);
    }
}
