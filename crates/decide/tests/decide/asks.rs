//! Decisions: the rules of the design in every combination, chains, errors, and the index against the whole set.
#![expect(clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::sync::Arc;

use crate::world::{
    BASE, NOW, ask, documents, door, explain, invoke, member, name, real_alice, situation, snapshot, user,
};
use bartizan_decide::{Bundle, CompiledBundle, Door, Entities, Snapshot, Verdict};
use bartizan_identify::Caller;
use bartizan_model::action::ModelCall;
use bartizan_model::record::VerdictKind;
use bartizan_model::{
    Action, Activity, AssuranceLevel, Counts, Group, Obligation, ObligationKind, Offer, PrincipalKind,
    ReasonCode, Risk, Situation, Tenant, Windows,
};
use proptest::prelude::*;

const STRONG: &str = r#"
@id("prod-models-need-strong-login") @reason("assurance_too_low") @remedy("step_up(level: 3, max_age: 15m)")
forbid (principal, action == Action::"model:invoke", resource) when { resource.environment == "production" }
unless { context.assurance.level >= 3 && context.assurance.age_s <= 900 };
"#;
const MASKED: &str = r#"
@id("contractors-see-masked-data") @reason("personal_data") @remedy("redact(pii)")
forbid (principal in Group::"contractors", action in Action::"model:use", resource)
unless { context.obligations.contains("redact:pii") };
"#;
const TWO: &str = r#"
@id("two-people-for-weights") @reason("approval_required") @remedy("approve(2, role: \"model-security\", use_within: 30m)")
forbid (principal, action == Action::"model:invoke", resource == Model::"weights")
unless { context.approvals.contains("two-people-for-weights") };
"#;

#[test]
fn inv_deny_no_bundle_an_empty_one_and_no_matching_rule_deny_each_with_its_reason() {
    let entities = Arc::new(Entities::build(&documents()).unwrap());
    let alice = user("alice", AssuranceLevel::Aal1);
    let without = invoke(&Snapshot::new(None, entities), &alice, "dev");
    assert_eq!((without.verdict, without.reasons), (VerdictKind::Deny, vec![ReasonCode::PolicyMissing]));
    let empty = invoke(&snapshot(""), &alice, "dev");
    assert_eq!((empty.verdict, empty.reasons), (VerdictKind::Deny, vec![ReasonCode::PolicyMissing]));
    let none = invoke(&snapshot(BASE), &user("mallory", AssuranceLevel::Aal3), "dev");
    assert_eq!((none.verdict, none.reasons), (VerdictKind::Deny, vec![ReasonCode::NoMatchingPermit]));
    let missing = invoke(&snapshot(BASE), &alice, "no-such-model");
    assert_eq!((missing.verdict, missing.reasons), (VerdictKind::Deny, vec![ReasonCode::NoMatchingPermit]));
}

/// agentgateway: a policy of nothing but denials denied everything, and nobody was told why; one with conditions that could not be
/// looked at was as if it were not there.
#[test]
fn lesson_agentgateway_1058_rules_that_only_forbid_permit_nothing_and_take_away_no_more_than_they_name() {
    let (alice, carol) = (user("alice", AssuranceLevel::Aal1), user("carol", AssuranceLevel::Aal1));
    let told = invoke(&snapshot(MASKED), &alice, "dev");
    assert_eq!((told.verdict, told.reasons), (VerdictKind::Deny, vec![ReasonCode::NoMatchingPermit]));
    let beside = snapshot(&format!("{BASE}{MASKED}"));
    let told = invoke(&beside, &alice, "dev");
    assert_eq!((told.verdict, told.obligations.is_empty()), (VerdictKind::Permit, true));
    assert!(!invoke(&beside, &carol, "dev").obligations.is_empty(), "and those it does name");
}

#[test]
fn inv_deny_a_rule_that_errs_denies_although_the_engine_would_skip_it() {
    let erring = r#"@id("erring") forbid (principal, action, resource) when { 9223372036854775807 + context.time.hour + 1 > 0 };"#;
    let snapshot = snapshot(&format!("{BASE}{erring}"));
    let told = invoke(&snapshot, &user("alice", AssuranceLevel::Aal1), "dev");
    assert_eq!((told.verdict, told.reasons), (VerdictKind::Deny, vec![ReasonCode::PolicyError]));
    assert_eq!(told.evidence.erred, [name("erring")]);
}

#[test]
fn the_rules_of_the_design_give_their_verdicts_in_every_combination() {
    let all = snapshot(&format!("{BASE}{STRONG}{MASKED}{TWO}"));
    let (weak, strong) = (AssuranceLevel::Aal1, AssuranceLevel::Aal2PhishingResistant);
    for (who, level, model, verdict, obliged) in [
        ("alice", weak, "dev", VerdictKind::Permit, false),
        ("alice", weak, "prod", VerdictKind::StepUp, false),
        ("alice", strong, "prod", VerdictKind::Permit, false),
        ("alice", strong, "weights", VerdictKind::Hold, false),
        ("alice", weak, "weights", VerdictKind::Hold, false),
        ("carol", weak, "dev", VerdictKind::Permit, true),
        ("carol", weak, "prod", VerdictKind::StepUp, true),
        ("carol", strong, "prod", VerdictKind::Permit, true),
        ("carol", strong, "weights", VerdictKind::Hold, true),
        ("mallory", strong, "dev", VerdictKind::Deny, false),
        ("mallory", strong, "weights", VerdictKind::Deny, false),
    ] {
        let told = invoke(&all, &user(who, level), model);
        assert_eq!((told.verdict, !told.obligations.is_empty()), (verdict, obliged), "{who} {model}: {told}");
    }
    // Both remedies are offered where both are needed, the strongest naming the verdict and the first reason.
    let told = invoke(&all, &user("alice", weak), "weights");
    assert_eq!(told.offers.len(), 2);
    assert_eq!(told.reasons, [ReasonCode::ApprovalRequired, ReasonCode::AssuranceTooLow]);
    assert!(told.offers.contains(&Offer::StepUp { level: 3, max_age_s: Some(900) }));
    // Without a permit behind them remedies are not offered: they would not help.
    let told = invoke(&all, &user("mallory", weak), "weights");
    assert_eq!((told.offers.len(), told.reasons), (0, vec![ReasonCode::NoMatchingPermit]));
}

#[test]
fn a_door_that_cannot_apply_an_obligation_gets_no_permit() {
    let told = explain(
        &snapshot(&format!("{BASE}{MASKED}")),
        &user("carol", AssuranceLevel::Aal1),
        Action::ModelInvoke,
        "dev",
        &Door::none(),
    );
    assert_eq!((told.verdict, told.reasons), (VerdictKind::Deny, vec![ReasonCode::ObligationUnsupported]));
}

#[test]
fn inv_chain_a_chain_never_has_a_right_that_a_member_lacks() {
    let all = snapshot(&format!("{BASE}{STRONG}{MASKED}{TWO}"));
    let agent = |who| member(PrincipalKind::Agent, who, AssuranceLevel::None);
    for person in ["alice", "carol", "mallory"] {
        for actor in ["reporter", "stranger"] {
            for model in ["dev", "prod", "weights"] {
                for level in [AssuranceLevel::Aal1, AssuranceLevel::Aal2PhishingResistant] {
                    let subject = member(PrincipalKind::User, person, level);
                    let chain =
                        Caller::suppose(Tenant::default_tenant(), subject.clone(), vec![agent(actor)]);
                    let alone = [
                        Caller::suppose(Tenant::default_tenant(), subject, Vec::new()),
                        Caller::suppose(Tenant::default_tenant(), agent(actor), Vec::new()),
                    ];
                    let strongest = alone.iter().map(|c| invoke(&all, c, model).verdict).max().unwrap();
                    let told = invoke(&all, &chain, model);
                    assert!(
                        told.verdict >= strongest,
                        "{person} {actor} {model}: {:?} below {strongest:?}",
                        told.verdict
                    );
                    for one in &alone {
                        let demanded = invoke(&all, one, model).obligations;
                        assert!(
                            told.verdict != VerdictKind::Permit
                                || demanded.iter().all(|o| told.obligations.iter().any(|t| t == o))
                        );
                    }
                }
            }
        }
    }
    // A person's strong login is not credited to the agent, and an agent cannot log in again.
    let chain = Caller::suppose(
        Tenant::default_tenant(),
        member(PrincipalKind::User, "alice", AssuranceLevel::Aal3),
        vec![agent("reporter")],
    );
    assert_eq!(invoke(&all, &chain, "prod").verdict, VerdictKind::Deny);
}

#[test]
fn the_constitution_is_above_every_bundle() {
    let everything = snapshot(r#"@id("everything") permit (principal, action, resource);"#);
    let agent = Caller::suppose(
        Tenant::default_tenant(),
        member(PrincipalKind::Agent, "reporter", AssuranceLevel::Aal3),
        Vec::new(),
    );
    for action in [Action::PolicyApply, Action::KeyCreate, Action::ResourceApply, Action::EpochAdvance] {
        let told = explain(&everything, &agent, action, "", &door());
        assert_eq!(
            (told.verdict, told.reasons),
            (VerdictKind::Deny, vec![ReasonCode::Constitution]),
            "{action}"
        );
    }
    let alice = user("alice", AssuranceLevel::Aal1);
    assert_eq!(explain(&everything, &alice, Action::PolicyApply, "", &door()).verdict, VerdictKind::Permit);
    // The claim and the recovery keys are not a matter of policy.
    assert_eq!(explain(&everything, &alice, Action::HouseClaim, "", &door()).verdict, VerdictKind::Deny);
    assert_eq!(explain(&everything, &alice, Action::HouseRecover, "", &door()).verdict, VerdictKind::Deny);
}

#[test]
fn bundles_that_would_surprise_are_refused_with_their_place() {
    for (text, expected) in [
        ("permit (principal, action, resource);", "unique `@id("),
        (
            r#"@id("a") permit (principal, action, resource); @id("a") permit (principal, action, resource);"#,
            "stands twice",
        ),
        (
            r#"@id("a") permit (principal, action, resource) when { resource.secret_level > 3 };"#,
            "secret_level",
        ),
        (r#"@id("a") @reason("custom:x") forbid (principal, action, resource);"#, "not declared"),
        (r#"@id("a") @reason("whatever") forbid (principal, action, resource);"#, "unknown reason"),
        (r#"@id("a") @remedy("redact(pii)") forbid (principal, action, resource);"#, "does not lift it"),
        (r#"@id("a") @remedy("justify") permit (principal, action, resource);"#, "only a forbid"),
        (
            r#"@id("a") permit (principal, action, resource) when { context.obligations.contains("redact:pii") };"#,
            "may stand only",
        ),
        (
            r#"@id("a") forbid (principal, action, resource) unless { !context.approvals.contains("a") };"#,
            "may stand only",
        ),
        (
            r#"@id("a") forbid (principal, action, resource) when { context.approvals.contains("a") };"#,
            "may stand only",
        ),
        (
            r#"@id("a") forbid (principal, action, resource) unless { context.obligations == ["x"] };"#,
            "may stand only",
        ),
        (
            r#"@id("a") @remedy("approve(1, use_within: 1m)") forbid (principal, action, resource) unless { context.approvals.contains("b") };"#,
            "does not lift it",
        ),
        (r#"@id("constitution-x") permit (principal, action, resource);"#, "the house's own"),
        (r#"@id("a") permit (principal == User::"x", action, resource in Rol::"y");"#, "Rol"),
        ("permit (principal", "p.cedar"),
    ] {
        let bundle = Bundle { files: [("p.cedar".to_owned(), text.to_owned())].into() };
        let errors = CompiledBundle::compile(&bundle).unwrap_err().to_string();
        assert!(errors.contains(expected), "{text}\n{errors}");
    }
}

#[test]
fn a_permit_ends_with_the_credential_and_scopes_only_shrink() {
    let snapshot = snapshot(&format!("{BASE}{STRONG}"));
    let alice = real_alice();
    let decision = snapshot.decide(&alice, ask("dev", Action::ModelInvoke), &situation(), &door());
    let Verdict::Permit(permit) = decision.verdict else { panic!() };
    assert_eq!(permit.expires(), NOW.saturating_add(std::time::Duration::from_secs(10)));
    let Verdict::Deny(refused) =
        snapshot.decide(&alice, ask("dev", Action::ModelEmbed), &situation(), &door()).verdict
    else {
        panic!()
    };
    assert_eq!(refused.reasons, [ReasonCode::ScopeInsufficient]);
}

#[test]
fn a_supposed_caller_is_explained_to_but_never_permitted() {
    let snapshot = snapshot(BASE);
    let supposed = user("alice", AssuranceLevel::Aal3);
    assert_eq!(invoke(&snapshot, &supposed, "dev").verdict, VerdictKind::Permit);
    assert!(matches!(
        snapshot.decide(&supposed, ask("dev", Action::ModelInvoke), &situation(), &door()).verdict,
        Verdict::Deny(_)
    ));
}

fn rule(n: usize, (effect, principal, action, resource, tail): (bool, u8, u8, u8, u8)) -> String {
    let principal = [
        "principal",
        "principal == User::\"alice\"",
        "principal in Group::\"engineers\"",
        "principal is User",
        "principal is Agent in Group::\"engineers\"",
    ][usize::from(principal % 5)];
    let action = [
        "action",
        "action == Action::\"model:invoke\"",
        "action in Action::\"model:use\"",
        "action in [Action::\"model:list\", Action::\"model:embed\"]",
    ][usize::from(action % 4)];
    let resource = [
        "resource",
        "resource == Model::\"dev\"",
        "resource in Environment::\"production\"",
        "resource is Model",
    ][usize::from(resource % 4)];
    let tail = ["", " when { context.assurance.level >= 2 }", " unless { context.time.hour > 12 }"]
        [usize::from(tail % 3)];
    let resource = if tail.is_empty() || resource.contains("Model") { resource } else { "resource is Model" };
    format!(
        "@id(\"r{n}\") {} ({principal}, {action}, {resource}){tail};\n",
        if effect { "permit" } else { "forbid" }
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn inv_same_the_index_and_the_whole_set_decide_alike(
        rules in proptest::collection::vec((any::<bool>(), any::<u8>(), any::<u8>(), any::<u8>(), any::<u8>()), 1..12),
    ) {
        let text: String = rules.iter().enumerate().map(|(n, r)| rule(n, *r)).collect();
        let bundle = Bundle { files: [("p.cedar".to_owned(), text.clone())].into() };
        // Some combinations cannot apply to anything, which validation refuses; those are not the subject here.
        let Ok(compiled) = CompiledBundle::compile(&bundle) else { return Ok(()) };
        let snapshot = Snapshot::new(Some(Arc::new(compiled)), Arc::new(Entities::build(&documents()).unwrap()));
        for caller in [real_alice(), user("mallory", AssuranceLevel::Aal2)] {
            for action in [Action::ModelInvoke, Action::ModelList] {
                for model in ["dev", "prod"] {
                    let indexed = snapshot.decide(&caller, ask(model, action), &situation(), &door());
                    let whole = snapshot.decide_reference(&caller, ask(model, action), &situation(), &door());
                    let facts = |d: &bartizan_decide::Decision<ModelCall>| {
                        let e = &d.evidence;
                        (std::mem::discriminant(&d.verdict), e.permits.clone(), e.forbids.clone(), e.erred.clone())
                    };
                    prop_assert_eq!(facts(&indexed), facts(&whole), "{}", text);
                    prop_assert_eq!(&indexed.evidence.near, &whole.evidence.near, "{}", text);
                }
            }
        }
    }
}

#[test]
fn sampled_decisions_are_compared_with_the_whole_set() {
    let shadow = Arc::new(bartizan_decide::Shadow::one_in(1));
    let snapshot = snapshot(&format!("{BASE}{STRONG}{MASKED}{TWO}")).watched(shadow.clone());
    for model in ["dev", "prod", "weights"] {
        let decision = snapshot.decide(&real_alice(), ask(model, Action::ModelInvoke), &situation(), &door());
        assert!(decision.evidence.erred.is_empty());
    }
    assert_eq!(shadow.check(), []);
    assert_eq!((shadow.checked(), shadow.dropped(), shadow.mismatches()), (3, 0, 0));
}

#[test]
fn rules_that_look_beyond_what_is_in_reach_are_refused_with_the_reason() {
    let schema = "entity Region { lead: User, name: String }; entity Site { region: Region }; entity Lab { site: Site }; \
        action \"lab:enter\" appliesTo { principal: [User], resource: [Lab], context: Context };";
    let compile = |condition: &str| {
        let rule = format!(
            "@id(\"a\") permit (principal, action == Action::\"lab:enter\", resource) when {{ {condition} }};"
        );
        let files = [("a.cedar".to_owned(), rule), ("schema/a.cedarschema".to_owned(), schema.to_owned())];
        CompiledBundle::compile(&Bundle { files: files.into() }).map(drop).map_err(|e| e.to_string())
    };
    assert_eq!(compile("resource.site.region == Region::\"south\""), Ok(()));
    let told = compile("resource.site.region.name == \"north\"").unwrap_err();
    assert!(told.contains("not further (2 levels)"), "{told}");
    let told = compile("User::\"alice\".status == \"active\"").unwrap_err();
    assert!(told.contains("a.cedar"), "{told}");
}

#[test]
fn obligations_of_several_rules_are_united() {
    let more = r#"@id("short") @remedy("cap(output_tokens: 100)") forbid (principal in Group::"contractors", action == Action::"model:invoke", resource)
        unless { context.obligations.contains("cap:output_tokens") };
        @id("shorter") @remedy("cap(output_tokens: 50)") forbid (principal, action == Action::"model:invoke", resource == Model::"dev")
        unless { context.obligations.contains("cap:output_tokens") };"#;
    let told =
        invoke(&snapshot(&format!("{BASE}{MASKED}{more}")), &user("carol", AssuranceLevel::Aal1), "dev");
    assert_eq!(
        (told.verdict, told.obligations.output_tokens_max(), told.obligations.detectors().len()),
        (VerdictKind::Permit, Some(50), Group::Pii.members().len())
    );
    assert!(told.obligations.iter().all(|o| !matches!(o, Obligation::StripTools)));
}

#[test]
fn keeping_is_an_obligation_that_a_door_must_offer_and_that_contradicts_not_keeping() {
    let kept = r#"@id("kept") @remedy("keep(content)") forbid (principal, action in Action::"model:use", resource)
        unless { context.obligations.contains("keep:content") };"#;
    let not = r#"@id("not-kept") @remedy("do_not_keep") forbid (principal in Group::"contractors", action in Action::"model:use", resource)
        unless { context.obligations.contains("do_not_keep") };"#;
    let snapshot = snapshot(&format!("{BASE}{kept}{not}"));
    let door = Door::model_calls();
    let decide = |who: &str, door: &Door| {
        let told = explain(&snapshot, &user(who, AssuranceLevel::Aal1), Action::ModelInvoke, "dev", door);
        (told.verdict, told.reasons.first().cloned(), told.obligations.contains(ObligationKind::Keep))
    };
    assert_eq!(decide("alice", &door), (VerdictKind::Permit, None, true));
    let unsupported = Some(ReasonCode::ObligationUnsupported);
    let without = door.clone().without(ObligationKind::Keep);
    assert_eq!(decide("alice", &without), (VerdictKind::Deny, unsupported.clone(), false));
    // Carol is bound by both rules: no door can do both, so neither is done.
    assert_eq!(decide("carol", &door), (VerdictKind::Deny, unsupported, false));
}

#[test]
fn who_reads_or_runs_the_house_does_not_thereby_read_what_was_kept() {
    let reads = r#"@id("all") permit (principal, action in [Action::"house:read", Action::"house:change"], resource);"#;
    let content = r#"@id("content") permit (principal, action == Action::"content:read", resource);"#;
    let told = |rules: &str, caller: &Caller| {
        let told = explain(&snapshot(rules), caller, Action::ContentRead, "", &Door::none());
        (told.verdict, told.reasons.first().cloned())
    };
    let alice = user("alice", AssuranceLevel::Aal3);
    assert_eq!(told(reads, &alice), (VerdictKind::Deny, Some(ReasonCode::NoMatchingPermit)));
    assert_eq!(told(content, &alice), (VerdictKind::Permit, None));
    let nobody = Caller::anonymous(Tenant::default_tenant());
    assert_eq!(told(content, &nobody).0, VerdictKind::Deny);
    let erase = explain(&snapshot(reads), &alice, Action::SubjectErase, "", &Door::none());
    assert_eq!(erase.verdict, VerdictKind::Permit);
}

#[test]
fn deep_and_long_conditions_are_refused_and_do_not_end_the_process() {
    let nested = |open: &str, inner: &str, close: &str, n: usize| {
        format!("{}{inner}{}", open.repeat(n), close.repeat(n))
    };
    let compile = |condition: &str| {
        let rule = format!("@id(\"a\") forbid (principal, action, resource) when {{ {condition} }};");
        CompiledBundle::compile(&Bundle { files: [("a.cedar".to_owned(), rule)].into() })
    };
    for n in [1_000, 100_000] {
        for condition in [
            nested("(", "true", ")", n),
            nested("context.request.stream && ", "true", "", n),
            nested("1 + ", "1 > 0", "", n),
            nested("if context.request.stream then ", "true", " else false", n),
            nested("[", "1", "]", n),
            nested("{a:", "1", "}", n),
            nested("context", "", ".a", n),
            nested("context", "", "[\"a\"]", n),
            nested("!", "true", "", n),
            nested("1 == ", "1", "", n),
            nested("principal in ", "principal", "", n),
        ] {
            let told: String = condition.chars().take(20).collect();
            assert!(compile(&condition).is_err(), "{n} {told}");
        }
        let schema = format!("namespace A {{ type T = {}; }}", nested("Set<", "Long", ">", n));
        let files = [("a.cedar".to_owned(), BASE.to_owned()), ("schema/a.cedarschema".to_owned(), schema)];
        assert!(CompiledBundle::compile(&Bundle { files: files.into() }).is_err());
    }
    // As deep as is allowed, on the small stack of a test's thread.
    for condition in [
        nested("(", "context.request.stream", ")", 15),
        nested("context.request.stream && ", "context.request.stream", "", 32),
        nested("if context.request.stream then ", "context.request.stream", " else false", 32),
    ] {
        assert!(compile(&condition).is_ok());
    }
}

#[test]
fn what_was_known_but_is_too_old_denies_and_stands_in_the_evidence() {
    let rule = r#"@id("low-risk") @reason("custom:risk") forbid (principal, action == Action::"model:invoke", resource)
        unless { context has risk && context.risk.level == "low" };"#;
    let files =
        [("p.cedar", format!("{BASE}{rule}")), ("bundle.toml", r#"reasons = ["custom:risk"]"#.to_owned())];
    let bundle = Bundle { files: files.map(|(name, text)| (name.to_owned(), text)).into() };
    let compiled = Arc::new(CompiledBundle::compile(&bundle).unwrap());
    let snapshot = Snapshot::new(Some(compiled), Arc::new(Entities::build(&documents()).unwrap()));
    let told = |assessed_s_ago: Option<i64>| {
        let mut alice = member(PrincipalKind::User, "alice", AssuranceLevel::Aal1);
        if let Some(ago) = assessed_s_ago {
            let at = NOW.as_secs().saturating_add_signed(-ago);
            alice.risk = Risk {
                level: bartizan_model::RiskLevel::Low,
                at: bartizan_base::Timestamp::from_secs(at),
                ..Risk::default()
            };
        }
        let caller = Caller::suppose(Tenant::default_tenant(), alice, Vec::new());
        let told = explain(&snapshot, &caller, Action::ModelInvoke, "dev", &door());
        (told.verdict, told.evidence.stale.into_iter().map(|n| n.to_string()).collect::<Vec<_>>())
    };
    let stale = vec!["risk".to_owned()];
    assert_eq!(told(Some(900)), (VerdictKind::Permit, vec![]));
    assert_eq!(told(Some(901)), (VerdictKind::Deny, stale.clone()));
    assert_eq!(told(Some(-60)), (VerdictKind::Permit, vec![]));
    assert_eq!(told(Some(-3_600)), (VerdictKind::Deny, stale));
    assert_eq!(told(None), (VerdictKind::Deny, vec![]));
}

#[test]
fn recent_activity_decides_and_is_part_of_what_is_recorded() {
    let rule = r#"@id("slow") forbid (principal, action == Action::"model:invoke", resource)
        unless { context has activity.caller && context.activity.caller.hour.denials < 2 };"#;
    let snapshot = snapshot(&format!("{BASE}{rule}"));
    let alice = real_alice();
    let recorded = |activity: Option<Activity>| {
        let situation = Situation { activity: activity.map(Arc::new), ..situation() };
        match snapshot.decide(&alice, ask("dev", Action::ModelInvoke), &situation, &door()).verdict {
            Verdict::Permit(permit) => Some(permit.spend().grounds.context),
            Verdict::Deny(_) => None,
            other => panic!("{other:?}"),
        }
    };
    let denials = |denials| {
        let hour = Counts { denials, ..Counts::default() };
        Some(Activity { caller: Some(Windows { hour, ..Windows::default() }), ..Activity::default() })
    };
    // Counts that are unknown are not counts of nothing.
    assert_eq!(
        (recorded(None), recorded(Some(Activity::default())), recorded(denials(2))),
        (None, None, None)
    );
    let (none, one) = (recorded(denials(0)).unwrap(), recorded(denials(1)).unwrap());
    assert_ne!(none, one);
    assert_eq!(Some(one), recorded(denials(1)));
}
