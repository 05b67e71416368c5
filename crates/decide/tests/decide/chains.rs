//! INV-CHAIN: over any chain the effective right is the intersection of its members' rights.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use crate::world::{BASE, invoke_standing, member, situation, snapshot};
use bartizan_decide::{Explanation, Snapshot, Standing};
use bartizan_identify::Caller;
use bartizan_model::record::VerdictKind;
use bartizan_model::{
    AssuranceLevel, Binding, BoundBy, Member, Obligation, Obligations, Offer, PrincipalKind, Tenant,
};
use proptest::prelude::*;

fn invoke(snapshot: &Snapshot, caller: &Caller, model: &str) -> Explanation {
    invoke_standing(snapshot, caller, model, &situation(), &Standing::default())
}

fn chain(members: &[Member]) -> Caller {
    let (subject, actors) = members.split_first().unwrap();
    Caller::suppose(Tenant::default_tenant(), subject.clone(), actors.to_vec())
}

fn any_member() -> impl Strategy<Value = Member> {
    let who = prop_oneof![
        3 => proptest::sample::select(vec!["alice", "carol", "mallory"]).prop_map(|n| (PrincipalKind::User, n)),
        2 => proptest::sample::select(vec!["reporter", "stranger"]).prop_map(|n| (PrincipalKind::Agent, n)),
    ];
    (who, 0..5_u8, any::<bool>()).prop_map(|((kind, name), level, bound)| Member {
        binding: if bound { crate::world::bound(BoundBy::Dpop) } else { Binding::None },
        ..member(kind, name, AssuranceLevel::from_number(level).unwrap())
    })
}

/// Rules that look at nothing but the member: what a member gets does not depend on the others.
fn any_rule() -> impl Strategy<Value = (u8, u8)> {
    (0..9_u8, 0..4_u8)
}

fn rule(place: usize, (kind, scope): (u8, u8)) -> String {
    let scope = [
        "principal, action == Action::\"model:invoke\", resource",
        "principal in Group::\"contractors\", action in Action::\"model:use\", resource",
        "principal, action in Action::\"model:use\", resource == Model::\"prod\"",
        "principal is Agent, action in Action::\"model:use\", resource",
    ][usize::from(scope)];
    let number = place + 1;
    let (remedy, unless) = [
        ("redact(email)".to_owned(), "context.obligations.contains(\"redact:email\")".to_owned()),
        ("redact(card)".to_owned(), "context.obligations.contains(\"redact:card\")".to_owned()),
        (
            format!("cap(output_tokens: {number}00)"),
            "context.obligations.contains(\"cap:output_tokens\")".to_owned(),
        ),
        ("keep(content)".to_owned(), "context.obligations.contains(\"keep:content\")".to_owned()),
        ("do_not_keep".to_owned(), "context.obligations.contains(\"do_not_keep\")".to_owned()),
        ("step_up(level: 2)".to_owned(), "context.assurance.level >= 2".to_owned()),
        ("bind_device".to_owned(), "context.binding != \"none\"".to_owned()),
        ("justify".to_owned(), "context has purpose".to_owned()),
        ("approve(1, use_within: 1h)".to_owned(), format!("context.approvals.contains(\"r{place}\")")),
    ][usize::from(kind)]
    .clone();
    format!("@id(\"r{place}\") @remedy(\"{remedy}\") forbid ({scope}) unless {{ {unless} }};\n")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn inv_chain_the_verdict_is_the_strongest_of_the_members_and_obligations_are_united(
        members in proptest::collection::vec(any_member(), 1..5),
        rules in proptest::collection::vec(any_rule(), 0..5),
        model in proptest::sample::select(vec!["dev", "prod"]),
    ) {
        let text: String = rules.iter().enumerate().map(|(place, r)| rule(place, *r)).collect();
        let snapshot = snapshot(&format!("{BASE}{text}"));
        let alone: Vec<Explanation> = members.iter().map(|m| invoke(&snapshot, &chain(std::slice::from_ref(m)), model)).collect();
        let together = invoke(&snapshot, &chain(&members), model);
        let strongest = alone.iter().map(|told| told.verdict).max().unwrap();
        let united: Obligations = alone.iter().flat_map(|told| told.obligations.iter().cloned()).collect();
        if strongest == VerdictKind::Deny || united.contradict() {
            prop_assert_eq!(together.verdict, VerdictKind::Deny, "{}\n{}", together, text);
            prop_assert!(together.obligations.is_empty() && together.offers.is_empty());
            return Ok(());
        }
        prop_assert_eq!(together.verdict, strongest, "{}\n{}", together, text);
        prop_assert_eq!(&together.obligations, &united);
        // Caps take the minimum, detectors are joined.
        for told in &alone {
            for obligation in told.obligations.iter() {
                prop_assert!(together.obligations.iter().any(|o| o.is_at_least(obligation)));
            }
            for offer in &told.offers {
                prop_assert!(together.offers.contains(offer), "{:?} of {:?}", offer, together.offers);
            }
        }
    }
}

#[test]
fn a_persons_login_is_never_credited_to_an_agent_nor_anything_else_that_is_its_own() {
    let user = |binding| Member { binding, ..member(PrincipalKind::User, "alice", AssuranceLevel::Aal3) };
    let agent =
        |binding| Member { binding, ..member(PrincipalKind::Agent, "reporter", AssuranceLevel::None) };
    let bound = crate::world::bound(BoundBy::Mtls);
    let strong = snapshot(&format!(
        "{BASE}@id(\"s\") @remedy(\"step_up(level: 2)\") forbid (principal is Agent, action == Action::\"model:invoke\", resource) unless {{ context.assurance.level >= 2 }};"
    ));
    // The person is sure enough; the agent is not, and cannot log in again.
    assert_eq!(invoke(&strong, &chain(&[user(bound), agent(bound)]), "dev").verdict, VerdictKind::Deny);
    let keyed = snapshot(&format!(
        "{BASE}@id(\"b\") @remedy(\"bind_device\") forbid (principal, action == Action::\"model:invoke\", resource) unless {{ context.binding != \"none\" }};"
    ));
    let told = invoke(&keyed, &chain(&[user(bound), agent(Binding::None)]), "dev");
    assert_eq!(told.verdict, VerdictKind::StepUp);
    assert!(matches!(&told.offers[..], [Offer::BindDevice { .. }]));
    assert_eq!(invoke(&keyed, &chain(&[user(bound), agent(bound)]), "dev").verdict, VerdictKind::Permit);
}

#[test]
fn what_one_member_must_do_is_done_for_all_of_them_at_once() {
    // The contractor must be masked, the agent capped: the joint set is applied to both.
    let rules = r#"@id("m") @remedy("redact(pii)") forbid (principal in Group::"contractors", action in Action::"model:use", resource) unless { context.obligations.contains("redact:pii") };
        @id("c") @remedy("cap(output_tokens: 5)") forbid (principal is Agent, action in Action::"model:use", resource) unless { context.obligations.contains("cap:output_tokens") };"#;
    let told = invoke(
        &snapshot(&format!("{BASE}{rules}")),
        &chain(&[
            member(PrincipalKind::User, "carol", AssuranceLevel::Aal1),
            member(PrincipalKind::Agent, "reporter", AssuranceLevel::None),
        ]),
        "dev",
    );
    assert_eq!((told.verdict, told.obligations.output_tokens_max()), (VerdictKind::Permit, Some(5)));
    assert!(told.obligations.iter().any(|o| matches!(o, Obligation::Redact { .. })));
}

#[test]
fn agents_that_act_for_themselves_are_told_from_those_that_act_for_somebody() {
    let alone = r#"@id("never-alone") forbid (principal is Agent, action in Action::"model:use", resource)
        when { resource.environment == "production" && context.delegation.autonomous };"#;
    let snapshot = snapshot(&format!("{BASE}{alone}"));
    let (alice, reporter) = (
        member(PrincipalKind::User, "alice", AssuranceLevel::Aal1),
        member(PrincipalKind::Agent, "reporter", AssuranceLevel::None),
    );
    let verdict = |members: &[Member]| invoke(&snapshot, &chain(members), "prod").verdict;
    assert_eq!(verdict(std::slice::from_ref(&reporter)), VerdictKind::Deny);
    assert_eq!(verdict(&[alice.clone(), reporter.clone()]), VerdictKind::Permit);
    // Whoever starts itself does not become delegated by passing itself on.
    assert_eq!(verdict(&[reporter.clone(), reporter]), VerdictKind::Deny);
}
