use std::sync::Arc;

use bartizan_base::json;
use bartizan_model::{
    Assurance, AssuranceLevel, Binding, CodeFacts, Confidentiality, HandleFacts, Integrity, Label, Principal,
    PrincipalId, Tenant,
};
use cedar_policy::{EntityUid, EvalResult, Expression, Request, Schema};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::facts::CONTEXT;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn ago(seconds: u64) -> Timestamp {
    Timestamp::from_secs(NOW.as_secs() - seconds)
}

fn member(kind: PrincipalKind) -> Member {
    Member {
        principal: Principal { kind, name: Name::literal("x"), id: PrincipalId::from_parts(NOW, [1; 10]) },
        assurance: Assurance {
            level: AssuranceLevel::Aal2,
            methods: vec![Name::literal("pwd")],
            at: ago(100),
            via: None,
        },
        binding: Binding::None,
        device: Some(Device {
            name: Name::literal("laptop"),
            key_matches_binding: true,
            attested: true,
            managed: true,
            compliant: false,
            seen: ago(3_600),
        }),
        risk: Risk { level: RiskLevel::Medium, score: 40, at: ago(60), reasons: Vec::new() },
    }
}

/// Everything that can be known of an ask.
fn full() -> Situation {
    let counts = |n| Counts { cost_micro: n, denials: n, exports: n, requests: n, resources: n, tokens: n };
    let windows = Windows { day: counts(3), hour: counts(2), minute: counts(1) };
    let activity =
        Activity { agent: Some(windows), caller: Some(windows), key: Some(windows), session: Some(windows) };
    Situation {
        activity: Some(Arc::new(activity)),
        network: Some([10, 0, 0, 1].into()),
        purpose: Some("reports".parse().unwrap()),
        session_age_s: Some(50),
        session_depth: Some(3),
        session: Label { categories: ["health".parse().unwrap()].into(), ..Label::default() },
        ..Situation::at(NOW)
    }
}

/// Everything that a request can hold.
fn everything() -> AskFacts {
    let digest = bartizan_base::Digest::of(b"1");
    let code = CodeFacts { bytes: 1, digest, files: 2, files_bytes: 3, stdin_bytes: 4 };
    let handles = HandleFacts {
        bytes: 5,
        categories: ["health".parse().unwrap()].into(),
        confidentiality: Confidentiality::Internal,
        count: 1,
        integrity: Integrity::Untrusted,
        sources: ["tool/mail/read".to_owned()].into(),
        steered_by: Integrity::Trusted,
    };
    AskFacts {
        code: Some(code),
        handles: Some(handles),
        operation: Some("read".to_owned()),
        output_tokens_max: Some(9),
        ..AskFacts::default()
    }
}

/// Calls `test` with the conditions of a lone person as `member`, in `situation`.
fn with<T>(
    member: Member,
    situation: &Situation,
    facts: &AskFacts,
    test: impl FnOnce(Conditions<'_>) -> T,
) -> T {
    let none = BTreeSet::new();
    let caller = Caller::suppose(Tenant::default_tenant(), member, Vec::new());
    let member = caller.members().next().unwrap();
    let zone = "Asia/Kolkata".parse().unwrap();
    // Known where everything is.
    let covering = Covering { exact: true, uses_max: Some(3), ..Covering::default() };
    let covering = situation.network.map(|_| covering);
    let asking = Asking { caller: &caller, member, place: 0, situation, facts, called: None, covering, zone };
    test(Conditions::of(asking, &none, &none))
}

/// Calls `test` with the conditions of some person.
pub(crate) fn with_conditions<T>(test: impl FnOnce(&Conditions<'_>) -> T) -> T {
    with(member(PrincipalKind::User), &full(), &AskFacts::default(), |conditions| test(&conditions))
}

fn schema() -> &'static Schema {
    crate::platform::schema().unwrap()
}

fn request(conditions: &Conditions<'_>, needs: Needs) -> Request {
    let id = |text: &str| text.parse::<EntityUid>().unwrap();
    let (user, action, model) = (id("User::\"x\""), id("Action::\"model:invoke\""), id("Model::\"m\""));
    Request::new(user, action, model, conditions.context(needs).unwrap(), Some(schema())).unwrap()
}

/// What the context holds at a path, if anything.
fn told(conditions: &Conditions<'_>, path: &str) -> Option<EvalResult> {
    let request = request(conditions, Needs::ALL);
    let text = format!("if context has {path} then context.{path} else \"absent\"");
    let value = cedar_policy::eval_expression(
        &request,
        &cedar_policy::Entities::empty(),
        &text.parse::<Expression>().unwrap(),
    );
    value.ok().filter(|value| *value != EvalResult::String("absent".to_owned()))
}

fn number(conditions: &Conditions<'_>, path: &str) -> Option<i64> {
    match told(conditions, path)? {
        EvalResult::Long(number) => Some(number),
        other => panic!("{path}: {other:?}"),
    }
}

fn word(conditions: &Conditions<'_>, path: &str) -> Option<String> {
    match told(conditions, path)? {
        EvalResult::String(word) => Some(word),
        other => panic!("{path}: {other:?}"),
    }
}

#[test]
fn the_context_fits_the_schema_and_holds_every_fact_that_is_supplied() {
    let facts = everything();
    with(member(PrincipalKind::User), &full(), &facts, |conditions| {
        for fact in CONTEXT {
            // Sessions are counted as soon as there are some.
            let later = fact.later || fact.name.starts_with("grant.");
            assert_eq!(told(&conditions, fact.name).is_none(), later, "{}", fact.name);
        }
    });
    let bare = Member { device: None, risk: Risk::default(), ..member(PrincipalKind::User) };
    with(bare, &Situation::at(NOW), &AskFacts::default(), |conditions| {
        for fact in CONTEXT.iter().filter(|f| f.optional) {
            assert_eq!(told(&conditions, fact.name), None, "{}", fact.name);
        }
    });
}

#[test]
fn time_is_told_in_the_zone_of_the_bundle() {
    // 2027-01-15T08:00:00Z, a Friday; India is five and a half hours ahead.
    with(member(PrincipalKind::User), &full(), &AskFacts::default(), |c| {
        let numbers =
            ["time.hour", "time.minute", "time.weekday", "time.epoch_s"].map(|path| number(&c, path));
        assert_eq!(numbers, [Some(13), Some(30), Some(5), Some(1_800_000_000)]);
        assert_eq!(word(&c, "time.date").unwrap(), "2027-01-15");
        assert_eq!(word(&c, "time.zone").unwrap(), "Asia/Kolkata");
    });
    let late = Situation { now: Timestamp::from_secs(1_800_044_000), ..full() };
    with(member(PrincipalKind::User), &late, &AskFacts::default(), |c| {
        assert_eq!((number(&c, "time.hour"), number(&c, "time.weekday")), (Some(1), Some(6)));
        assert_eq!(word(&c, "time.date").unwrap(), "2027-01-16");
    });
}

#[test]
fn what_is_too_old_or_from_the_future_is_absent_and_noted_as_stale() {
    let stale = |now: Timestamp| {
        let situation = Situation { now, ..full() };
        with(member(PrincipalKind::User), &situation, &AskFacts::default(), |c| {
            let present = (told(&c, "risk").is_some(), told(&c, "device").is_some());
            (c.stale.clone(), present, number(&c, "assurance.age_s").unwrap())
        })
    };
    let at = |seconds: i64| Timestamp::from_secs(NOW.as_secs().saturating_add_signed(seconds));
    assert_eq!(stale(at(0)), (vec![], (true, true), 100));
    // The last second in which the risk is young enough, and the next.
    assert_eq!(stale(at(840)), (vec![], (true, true), 940));
    assert_eq!(stale(at(841)), (vec!["risk"], (false, true), 941));
    // A clock that jumps a day ahead.
    assert_eq!(stale(at(86_400)), (vec!["device", "risk"], (false, false), 86_500));
    // A clock that goes back: first as far as clocks differ, then further, then an hour.
    assert_eq!(stale(at(-120)), (vec![], (true, true), 0));
    assert_eq!(stale(at(-121)), (vec!["risk"], (false, true), 0));
    assert_eq!(stale(at(-161)), (vec!["risk"], (false, true), 9_007_199_254_740_991));
    let hour_and_more = (vec!["device", "risk"], (false, false), 9_007_199_254_740_991);
    assert_eq!(stale(at(-3_661)), hour_and_more);
}

#[test]
fn a_device_that_is_only_named_is_absent_and_nobodys_risk_is_not_low() {
    let mut named = member(PrincipalKind::User);
    named.device.as_mut().unwrap().key_matches_binding = false;
    named.risk = Risk { at: NOW, ..Risk::default() };
    with(named, &full(), &AskFacts::default(), |c| {
        assert_eq!((told(&c, "device"), told(&c, "risk"), c.stale.len()), (None, None, 0));
    });
}

#[test]
fn an_agent_on_its_own_is_told_from_one_that_acts_for_somebody() {
    let told = |chain: &[PrincipalKind]| {
        let mut members = chain.iter().map(|kind| member(*kind));
        let subject = members.next().unwrap();
        let delegation =
            Delegation::of(&Caller::suppose(Tenant::default_tenant(), subject, members.collect()));
        (delegation.autonomous, delegation.chain_length, delegation.subject_kind)
    };
    use PrincipalKind::{Agent, Anonymous, User, Workload};
    assert_eq!(told(&[User]), (false, 1, "user"));
    assert_eq!(told(&[User, Agent]), (false, 2, "user"));
    assert_eq!(told(&[Agent]), (true, 1, "agent"));
    assert_eq!(told(&[Workload, Agent, Agent]), (true, 3, "workload"));
    assert_eq!(told(&[Workload]), (false, 1, "workload"));
    assert_eq!(told(&[Anonymous]), (false, 1, "anonymous"));
}

#[test]
fn addresses_are_told_by_their_kind() {
    for (address, kind) in [
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("169.254.169.254", "link_local"),
        ("fe80::1", "link_local"),
        ("10.1.2.3", "private"),
        ("100.64.0.1", "private"),
        ("fd00::1", "private"),
        ("::ffff:192.168.0.1", "private"),
        ("8.8.8.8", "public"),
        ("100.128.0.1", "public"),
        ("2001:db8::1", "public"),
    ] {
        let situation = Situation { network: Some(address.parse().unwrap()), ..full() };
        with(member(PrincipalKind::User), &situation, &AskFacts::default(), |c| {
            assert_eq!(word(&c, "network.kind").unwrap(), kind, "{address}");
        });
    }
}

#[test]
fn only_what_a_rule_looks_at_is_made() {
    with(member(PrincipalKind::User), &full(), &AskFacts::default(), |conditions| {
        let made = |text: &str| {
            let policy: cedar_policy::Policy =
                format!("permit (principal, action, resource) when {{ {text} }};").parse().unwrap();
            let context = conditions.context(Needs::of(&policy.to_json().unwrap())).unwrap();
            let mut names: Vec<String> = context.into_iter().map(|(name, _)| name).collect();
            names.sort();
            names
        };
        assert_eq!(made("context.time.hour < 8"), ["time"]);
        assert_eq!(made("context has activity.key && context.activity.key.day.tokens < 8"), ["activity"]);
        assert_eq!(made("true"), Vec::<String>::new());
    });
}

#[test]
fn a_stated_purpose_is_text_whatever_stands_in_it() {
    for purpose in [
        "\" || true",
        "reports\"]; permit (principal, action, resource); //",
        "\\u{0}",
        "*",
        "é\u{202e}",
        "context.purpose",
        "",
    ] {
        let situation = Situation { purpose: Some(purpose.parse().unwrap()), ..full() };
        with(member(PrincipalKind::User), &situation, &AskFacts::default(), |c| {
            assert_eq!(word(&c, "purpose").as_deref(), Some(purpose));
        });
    }
}

#[test]
fn what_is_told_alone_is_what_the_whole_context_holds() {
    let facts = everything();
    let same = |conditions: &Conditions<'_>| {
        let context = conditions.context(Needs::ALL).unwrap();
        let mut there = 0;
        for fact in CONTEXT.iter().filter(|fact| !fact.name.starts_with("grant")) {
            let (name, member) = match fact.name.split_once('.') {
                Some((name, member)) => (name, Some(member)),
                None => (fact.name, None),
            };
            if member.is_some_and(|member| member.contains('.')) {
                continue;
            }
            let whole = inner::attribute(&context, name).unwrap();
            let held = match (whole, member) {
                (Some(whole), Some(member)) => whole.member(member).unwrap(),
                (whole, _) => whole,
            };
            let alone = conditions.fact(name, member, Needs::ALL).unwrap();
            there += usize::from(alone.is_some());
            assert_eq!(format!("{alone:?}"), format!("{held:?}"), "{}", fact.name);
        }
        there
    };
    let full = with(member(PrincipalKind::User), &full(), &facts, |conditions| same(&conditions));
    let bare = Member { device: None, risk: Risk::default(), ..member(PrincipalKind::User) };
    let bare = with(bare, &Situation::at(NOW), &AskFacts::default(), |conditions| same(&conditions));
    assert!(full > bare && bare > 20, "{full} {bare}");
    with(member(PrincipalKind::User), &Situation::at(NOW), &facts, |conditions| {
        // Nobody speaks of the members of a text, and what nobody supplies is absent.
        assert!(conditions.fact("binding", Some("kind"), Needs::ALL).is_none());
        assert!(conditions.fact("unheard of", None, Needs::ALL).is_some_and(|fact| fact.is_none()));
        assert!(conditions.fact("assurance", Some("unheard of"), Needs::ALL).is_some_and(|f| f.is_none()));
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_conditions_are_canonical_as_they_are_written(
        texts in prop::collection::btree_set(".{0,8}", 0..3),
        purpose in prop::option::of("[ -~äé\u{1f600}]{0,12}"),
        (bytes, age, tokens) in (0_u64..1 << 50, any::<u32>(), prop::option::of(0_u64..1 << 40)),
        stream: bool,
        confidential: bool,
    ) {
        let extras = [bartizan_model::RequestExtra::Urls, bartizan_model::RequestExtra::Files].into();
        let request = AskFacts { bytes, stream, extras, output_tokens_max: tokens, dialect: "openai.chat".to_owned(), ..if stream { everything() } else { AskFacts::default() } };
        let mut situation = Situation { purpose: purpose.map(|p| p.parse().unwrap()), ..full() };
        if confidential {
            situation.session.confidentiality = Confidentiality::Confidential;
            situation.session.integrity = Integrity::Untrusted;
            situation.activity = None;
            situation.session.categories = ["health".parse().unwrap(), "finance".parse().unwrap()].into();
        }
        let mut who = member(PrincipalKind::User);
        who.risk.at = Timestamp::from_secs(u64::from(age));
        with(who, &situation, &request, |conditions| {
            let conditions = Conditions { approvals: &texts, obligations: &texts, ..conditions };
            let canonical = json::canonical(&conditions).unwrap();
            let mut written = Vec::new();
            conditions.write(&mut written).unwrap();
            prop_assert_eq!(String::from_utf8(written), String::from_utf8(canonical.clone()));
            prop_assert_eq!(String::from_utf8(serde_json::to_vec(&conditions).unwrap()), String::from_utf8(canonical));
            let read: Value = serde_json::from_slice(&serde_json::to_vec(&conditions).unwrap()).unwrap();
            prop_assert_eq!(read["approvals"].as_array().unwrap().len(), texts.len());
            Ok(())
        })?;
    }
}
