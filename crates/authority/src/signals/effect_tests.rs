use bartizan_model::directory::{PrincipalSpec, Status};
use bartizan_model::{PrincipalId, PrincipalKind, asset::DeviceSpec};
use serde_json::{Value, json};

use super::*;
use crate::signals::subject::About;

const OWN: &str = "https://house.example";

fn person(name: &str, number: u8) -> Document {
    Document {
        name: name.parse().unwrap(),
        principal: Some(PrincipalId::from_parts(Timestamp::from_secs(1), [number; 10])),
        spec: Spec::User(PrincipalSpec::default()),
    }
}

fn issuer(claim: &str) -> IssuerSpec {
    IssuerSpec {
        status: Status::Active,
        issuer: "https://idp.example".to_owned(),
        audience: "gateway".to_owned(),
        jwks_url: "https://idp.example/keys".to_owned(),
        allow_private: false,
        subject_claim: claim.to_owned(),
        subject_kind: PrincipalKind::User,
        acr: std::collections::BTreeMap::new(),
        assurance_cap: 2,
        events: None,
    }
}

fn state() -> State {
    let (ours, theirs) = (Tenant::default_tenant(), Tenant("other".parse().unwrap()));
    let laptop = Document {
        name: "laptop".parse().unwrap(),
        principal: None,
        spec: Spec::Device(DeviceSpec { compliant: true, ..DeviceSpec::default() }),
    };
    State {
        revision: 9,
        documents: vec![
            (ours.clone(), person("alice", 1), 3),
            (ours, laptop, 4),
            (theirs, person("mallory", 2), 5),
        ]
        .into(),
        ..State::default()
    }
}

fn about(subject: &Value) -> About {
    About::read(subject.as_object().unwrap()).unwrap()
}

fn changes_on(state: &State, spec: &IssuerSpec, subject: &Value, happened: &[Happened]) -> Vec<Change> {
    let tenant = Tenant::default_tenant();
    let ground =
        Ground { state, tenant: &tenant, spec, own: OWN, session: None, now: Timestamp::from_secs(50) };
    ground.changes(&about(subject), happened).unwrap()
}

fn changes(subject: &Value, happened: &[Happened]) -> Vec<Change> {
    changes_on(&state(), &issuer("sub"), subject, happened)
}

fn marks_of(changes: &[Change]) -> Vec<(EpochKind, String)> {
    let marks = changes.iter().filter_map(|change| match change {
        Change::AdvanceEpoch(row) => Some((row.kind, row.name.to_string())),
        _ => None,
    });
    marks.collect()
}

fn sub(name: &str) -> Value {
    json!({"format": "iss_sub", "iss": "https://idp.example", "sub": name})
}

#[test]
fn attack_53_what_is_ended_elsewhere_is_ended_here_for_the_person_it_is_about() {
    let alice = (EpochKind::Principal, "user/alice".to_owned());
    let own = person("alice", 1).principal.unwrap().to_string();
    for subject in [
        sub("alice"),
        json!({"format": "opaque", "id": "alice"}),
        json!({"format": "iss_sub", "iss": OWN, "sub": own}),
        json!({"format": "complex", "user": sub("alice"), "session": {"format": "opaque", "id": "theirs"}}),
        json!({"format": "complex", "user": sub("alice"), "device": {"format": "opaque", "id": "laptop"}}),
        json!({"format": "aliases", "identifiers": [{"format": "email", "email": "a@example.org"}, sub("alice")]}),
    ] {
        let ended = changes(&subject, &[Happened::Ended]);
        assert_eq!(marks_of(&ended), std::slice::from_ref(&alice), "{subject}");
        assert_eq!(ended.len(), 1);
    }
    assert!(changes(&sub("alice"), &[Happened::Nothing]).is_empty());
    let email = json!({"format": "email", "email": "alice"});
    assert!(changes(&email, &[Happened::Ended]).is_empty(), "its subjects are named otherwise");
    assert_eq!(marks_of(&changes_on(&state(), &issuer("email"), &email, &[Happened::Ended])), [alice]);
}

#[test]
fn attack_52_a_subject_of_another_tenant_is_nobody_and_one_of_another_issuer_is_refused() {
    let theirs = person("mallory", 2).principal.unwrap().to_string();
    for subject in [sub("mallory"), json!({"format": "iss_sub", "iss": OWN, "sub": theirs}), sub("nobody")] {
        assert!(changes(&subject, &[Happened::Ended, Happened::Barred("x")]).is_empty(), "{subject}");
    }
    let foreign = json!({"format": "iss_sub", "iss": "https://elsewhere.example", "sub": "alice"});
    for subject in [foreign.clone(), json!({"format": "complex", "user": foreign})] {
        assert!(about(&subject).is_foreign(&issuer("sub"), OWN));
    }
    assert!(!about(&sub("alice")).is_foreign(&issuer("sub"), OWN));
    for broken in [
        json!({}),
        json!({"format": "iss_sub", "iss": "https://idp.example"}),
        json!({"format": "email", "email": 5}),
        json!({"format": "complex", "user": "alice"}),
        json!({"format": "aliases", "identifiers": [{"format": "aliases", "identifiers": []}]}),
        json!({"format": "opaque", "id": "x".repeat(600)}),
    ] {
        assert!(About::read(broken.as_object().unwrap()).is_err(), "{broken}");
    }
}

#[test]
fn a_leaked_credential_makes_a_standing_that_only_a_lower_risk_takes_away() {
    let leaked = changes(&sub("alice"), &[Happened::Barred("credential_compromised")]);
    assert_eq!(marks_of(&leaked).len(), 1);
    let Some(Change::PutRow { row, expect: None }) = leaked.last() else { panic!("{leaked:?}") };
    let risk: Risk = serde_json::from_str(&row.body).unwrap();
    assert_eq!(
        (risk.level, risk.reasons.first().unwrap().as_str()),
        (RiskLevel::High, "credential_compromised")
    );
    assert_eq!(row.id, person("alice", 1).principal.unwrap().to_string());
    let mut state = state();
    state.rows = vec![Row { version: 4, ..row.clone() }].into();
    let spec = issuer("sub");
    let ended = changes_on(&state, &spec, &sub("alice"), &[Happened::Ended]);
    assert_eq!(ended.len(), 1, "the standing stays");
    let higher = changes_on(&state, &spec, &sub("alice"), &[Happened::Risk(RiskLevel::Medium)]);
    assert!(matches!(higher.as_slice(), [Change::PutRow { expect: Some(4), .. }]), "{higher:?}");
    let lower = changes_on(&state, &spec, &sub("alice"), &[Happened::Risk(RiskLevel::Low)]);
    assert!(matches!(lower.as_slice(), [Change::DeleteRow { expect: 4, .. }]), "{lower:?}");
    let enabled = [Happened::Lifted("account_disabled")];
    assert!(changes_on(&state, &spec, &sub("alice"), &enabled).is_empty(), "it was another reason");
    let body = row.body.replace("credential_compromised", "account_disabled");
    state.rows = vec![Row { version: 4, body, ..row.clone() }].into();
    let lifted = changes_on(&state, &spec, &sub("alice"), &enabled);
    assert!(matches!(lifted.as_slice(), [Change::DeleteRow { expect: 4, .. }]), "{lifted:?}");
    // In one event token, the strictest counts.
    let both = [Happened::Risk(RiskLevel::High), Happened::Risk(RiskLevel::Low)];
    assert!(matches!(changes_on(&state, &spec, &sub("alice"), &both).as_slice(), [Change::PutRow { .. }]));
}

#[test]
fn a_device_that_does_not_keep_the_rules_is_noted_and_what_is_bound_to_it_ends() {
    let device = json!({"format": "complex", "device": {"format": "opaque", "id": "laptop"}});
    let changes_to = changes(&device, &[Happened::Compliance(false)]);
    assert_eq!(marks_of(&changes_to), [(EpochKind::Device, "laptop".to_owned())]);
    let compliant = |changes: &[Change]| match changes.last() {
        Some(Change::PutDocument {
            document: Document { spec: Spec::Device(spec), .. },
            expect: Some(4),
        }) => (spec.compliant, spec.seen_us),
        other => panic!("{other:?}"),
    };
    assert_eq!(compliant(&changes_to), (false, Some(Timestamp::from_secs(50))));
    let again = changes(&device, &[Happened::Compliance(true)]);
    assert_eq!((marks_of(&again).len(), compliant(&again).0), (0, true));
    let unknown = json!({"format": "complex", "device": {"format": "opaque", "id": "phone"}});
    assert!(changes(&unknown, &[Happened::Compliance(false)]).is_empty());
}
