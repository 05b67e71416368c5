//! Exact things that a credential is for (RFC 9396): a bound in every decision, and a fact for policy.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use bartizan_base::Timestamp;
use bartizan_decide::{Door, Explanation, Question, Reader, Snapshot};
use bartizan_identify::{Caller, Scopes};
use bartizan_model::detail::Wanted;
use bartizan_model::record::VerdictKind;
use bartizan_model::{
    Action, AskFacts, AssuranceLevel, CredentialKind, Detail, EntityRef, Member, Offer, PrincipalKind,
    ReasonCode, Situation, Tenant,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::world::{BASE, member, name, situation, snapshot};

fn details(all: &[Value]) -> Vec<Detail> {
    all.iter().map(|one| Detail::read(one).unwrap()).collect()
}

fn caller(members: &[Member], details: Option<Vec<Detail>>) -> Caller {
    let (subject, actors) = members.split_first().unwrap();
    let within = (Scopes::All, details);
    let token = CredentialKind::AccessToken;
    Caller::recalled(Tenant::default_tenant(), subject.clone(), actors.to_vec(), token, within)
}

fn alice(details: Option<Vec<Detail>>) -> Caller {
    caller(&[member(PrincipalKind::User, "alice", AssuranceLevel::Aal3)], details)
}

fn ask(snapshot: &Snapshot, caller: &Caller, action: Action, model: &str, at: &Situation) -> Explanation {
    let resource = EntityRef::new(name("Model"), name(model));
    let facts = AskFacts::default();
    let question = Question { caller, action, resource: &resource, facts: &facts, situation: at };
    snapshot.explain(&question, &Door::model_calls(), Reader::ALL)
}

fn invoke(snapshot: &Snapshot, caller: &Caller, model: &str) -> Explanation {
    ask(snapshot, caller, Action::ModelInvoke, model, &situation())
}

fn on(models: &[&str]) -> Value {
    let models: Vec<String> = models.iter().map(|model| format!("Model::{model}")).collect();
    json!({"type": "bartizan_action", "action": "model:invoke", "resources": models})
}

#[test]
fn a_credential_for_exact_things_is_for_nothing_else_and_it_is_said_what_to_ask_for() {
    let base = snapshot(BASE);
    let only = alice(Some(details(&[on(&["dev"])])));
    assert_eq!(invoke(&base, &only, "dev").verdict, VerdictKind::Permit);
    for (action, model) in
        [(Action::ModelInvoke, "prod"), (Action::ModelEmbed, "dev"), (Action::ModelList, "dev")]
    {
        assert_eq!(ask(&base, &alice(None), action, model, &situation()).verdict, VerdictKind::Permit);
        let told = ask(&base, &only, action, model, &situation());
        assert_eq!((told.verdict, told.reasons), (VerdictKind::Deny, vec![ReasonCode::DetailsInsufficient]));
        let wanted =
            Wanted::Action { action, resources: [format!("Model::{model}").parse().unwrap()].into() };
        assert_eq!(told.offers, [Offer::Authorize { authorization_details: vec![wanted.clone()] }]);
        // With what is offered it is permitted.
        let more = Detail::read(&serde_json::to_value(&wanted).unwrap()).unwrap();
        assert_eq!(
            ask(&base, &alice(Some(vec![more])), action, model, &situation()).verdict,
            VerdictKind::Permit
        );
    }
    // Whatever was in the token: where none of it is anything known, it is for nothing.
    assert_eq!(invoke(&base, &alice(Some(Vec::new())), "dev").reasons, [ReasonCode::DetailsInsufficient]);
}

#[test]
fn details_never_add_to_what_policy_grants_and_what_would_not_help_is_not_offered() {
    let base = snapshot(BASE);
    let mallory = |details| caller(&[member(PrincipalKind::User, "mallory", AssuranceLevel::Aal3)], details);
    let covered = invoke(&base, &mallory(Some(details(&[on(&["dev"])]))), "dev");
    assert_eq!((covered.verdict, covered.reasons), (VerdictKind::Deny, vec![ReasonCode::NoMatchingPermit]));
    let beyond = invoke(&base, &mallory(Some(details(&[on(&["prod"])]))), "dev");
    assert_eq!((beyond.reasons, beyond.offers), (vec![ReasonCode::DetailsInsufficient], Vec::new()));
}

#[test]
fn policy_can_ask_for_a_credential_for_exactly_this() {
    let rule = r#"@id("exact") @reason("authorization_details_insufficient")
        forbid (principal, action == Action::"model:invoke", resource == Model::"prod")
        unless { context has details && context.details has uses_max && context.details.uses_max <= 3 };"#;
    let strict = snapshot(&format!("{BASE}{rule}"));
    assert_eq!(invoke(&strict, &alice(None), "dev").verdict, VerdictKind::Permit);
    let told = invoke(&strict, &alice(None), "prod");
    assert_eq!((told.verdict, told.reasons), (VerdictKind::Deny, vec![ReasonCode::DetailsInsufficient]));
    // A token without a bound in number would not do, so it is not offered.
    assert_eq!(told.offers, []);
    let bounded = |uses: u64| {
        let mut one = on(&["prod"]);
        one["uses"] = uses.into();
        one["until"] = (situation().now.as_secs() + 60).into();
        one["id"] = bartizan_model::DetailId::from_parts(situation().now, [7; 10]).to_string().into();
        alice(Some(details(&[one])))
    };
    assert_eq!(invoke(&strict, &bounded(3), "prod").verdict, VerdictKind::Permit);
    assert_eq!(invoke(&strict, &bounded(4), "prod").reasons, [ReasonCode::DetailsInsufficient]);
    let plain = r#"@id("exact") @reason("authorization_details_insufficient")
        forbid (principal, action == Action::"model:invoke", resource == Model::"prod") unless { context has details };"#;
    let told = invoke(&snapshot(&format!("{BASE}{plain}")), &alice(None), "prod");
    assert!(matches!(&told.offers[..], [Offer::Authorize { .. }]), "{told}");
}

#[test]
fn what_is_allowed_until_then_is_over_then() {
    let base = snapshot(BASE);
    let end = situation().now.as_secs() + 10;
    let mut one = on(&["dev"]);
    one["until"] = end.into();
    let caller = alice(Some(details(&[one])));
    let at =
        |secs| ask(&base, &caller, Action::ModelInvoke, "dev", &Situation::at(Timestamp::from_secs(secs)));
    assert_eq!(at(end - 1).verdict, VerdictKind::Permit);
    assert_eq!(at(end).reasons, [ReasonCode::DetailsInsufficient]);
}

fn any_member() -> impl Strategy<Value = Member> {
    let who = prop_oneof![
        3 => proptest::sample::select(vec!["alice", "carol", "mallory"]).prop_map(|n| (PrincipalKind::User, n)),
        2 => proptest::sample::select(vec!["reporter", "stranger"]).prop_map(|n| (PrincipalKind::Agent, n)),
    ];
    (who, 0..5_u8)
        .prop_map(|((kind, name), level)| member(kind, name, AssuranceLevel::from_number(level).unwrap()))
}

fn any_detail() -> impl Strategy<Value = Detail> {
    let models =
        proptest::collection::btree_set(proptest::sample::select(vec!["dev", "prod", "weights"]), 1..3);
    let action = proptest::sample::select(vec!["model:invoke", "model:embed", "model:list"]);
    (models, action, proptest::option::of(0_u64..20)).prop_map(|(models, action, until)| {
        let mut one = on(&models.into_iter().collect::<Vec<_>>());
        one["action"] = action.into();
        if let Some(until) = until {
            one["until"] = (situation().now.as_secs() - 10 + until).into();
        }
        Detail::read(&one).unwrap()
    })
}

const RULES: [&str; 5] = [
    r#"@id("r0") @remedy("step_up(level: 2)") forbid (principal, action, resource == Model::"prod") unless { context.assurance.level >= 2 };"#,
    r#"@id("r1") @remedy("redact(email)") forbid (principal in Group::"contractors", action in Action::"model:use", resource) unless { context.obligations.contains("redact:email") };"#,
    r#"@id("r2") forbid (principal, action == Action::"model:embed", resource);"#,
    r#"@id("r3") permit (principal is Agent, action, resource == Model::"dev");"#,
    r#"@id("r4") @remedy("justify") forbid (principal is User, action == Action::"model:invoke", resource == Model::"dev") unless { context has purpose };"#,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn inv_narrow_with_details_nothing_is_allowed_that_is_not_without_them(
        members in proptest::collection::vec(any_member(), 1..4),
        all in proptest::collection::vec(any_detail(), 0..4),
        rules in proptest::collection::btree_set(0..RULES.len(), 0..4),
    ) {
        let text: String = rules.iter().map(|rule| RULES[*rule]).collect();
        let snapshot = snapshot(&format!("{BASE}{text}"));
        let (free, bound) = (caller(&members, None), caller(&members, Some(all.clone())));
        for action in [Action::ModelInvoke, Action::ModelEmbed, Action::ModelList] {
            for model in ["dev", "prod", "weights"] {
                let without = ask(&snapshot, &free, action, model, &situation());
                let with = ask(&snapshot, &bound, action, model, &situation());
                let resource = EntityRef::new(name("Model"), name(model));
                let asked = (action, &resource);
                let covered = all.iter().any(|one| one.covers(asked, &AskFacts::default(), situation().now).is_some());
                if covered {
                    // No rule looks at them, so they change nothing.
                    prop_assert_eq!((with.verdict, &with.obligations, &with.reasons), (without.verdict, &without.obligations, &without.reasons));
                } else {
                    prop_assert_eq!((with.verdict, &with.reasons[..]), (VerdictKind::Deny, &[ReasonCode::DetailsInsufficient][..]));
                    prop_assert_eq!(with.offers.is_empty(), without.verdict == VerdictKind::Deny);
                }
            }
        }
    }
}
