//! The closed catalogue: an example of every kind of record, and of what a kind can say in different ways. Golden files, the
//! reference page and the checks by foreign programs are made of it.

use std::sync::Arc;

use bartizan_base::{Digest, Name, Timestamp, json};
use bartizan_model::record::{
    Became, Body, DirectoryChange, End, ErasedClass, ErasureBasis, Grounds, Intent, Kept, Outcome, Record,
    Refusal, System, VERSION, VerdictKind, What, Who,
};
use bartizan_model::{
    Action, BoundBy, Commitment, CredentialKind, DataKeyId, DecisionId, Detector, EntityRef, ErasureId,
    KeyId, NodeId, Obligation, Offer, PayloadRef, PrincipalId, PrincipalKind, Quorum, ReasonCode, Share,
    Target, Tenant,
};

use crate::Placed;

/// The log that the examples stand in.
pub const ORIGIN: &str = "bartizan.example/audit/default/2026q4";

/// Some entry of a version that nobody knows yet.
const LATER: &str = r#"{"choice":"approve","kind":"vote","node":"nod_019aa17e0c00700080000000000000ff","of":"apr_019aa17e0c007000800000000000000a","seq":99,"tenant":"default","time_us":1795161700000000,"v":2}"#;

/// The example of a kind.
#[must_use]
pub fn example(kind: crate::Kind) -> Body {
    use crate::Kind;
    match kind {
        Kind::Intent => intent(Action::ModelInvoke),
        Kind::Refusal => Body::Refusal(Refusal {
            repeated: 3,
            ..refusal(VerdictKind::Deny, &[ReasonCode::NoMatchingPermit], Vec::new())
        }),
        Kind::Outcome => outcome(End::Done),
        Kind::Started => Body::System(System::Started { version: "0.1.0".to_owned() }),
        Kind::Stopped => Body::System(System::Stopped),
        Kind::TailCut => Body::System(System::TailCut { bytes: 212 }),
        Kind::Recovered => Body::System(System::Recovered {
            what: format!("enrolled administrator {}; returned to bundle version 3 as version 5", person()),
        }),
        Kind::Initialised => Body::System(System::Initialised),
        Kind::Checkpoint => Body::System(System::Checkpoint {
            origin: "example.org/log/default/2026q4".to_owned(),
            size: 70_000,
            root: Digest::of(b"a root"),
        }),
        Kind::Unwitnessed => Body::System(System::Unwitnessed { size: 70_000, seconds: 660 }),
        Kind::Erased => Body::System(System::Erased {
            erasure: ErasureId::from_parts(start(), [11; 10]),
            of: DecisionId::from_parts(start(), [2; 10]),
            class: ErasedClass::Subject,
            basis: ErasureBasis::ConsentWithdrawn,
            items: 12,
            payloads: 3,
            first_us: Some(start()),
            last_us: Some(start()),
        }),
        Kind::Expired => Body::System(System::Expired { items: 12, payloads: 3 }),
        Kind::Reapplied => Body::System(System::Reapplied { erasures: 2 }),
        Kind::Removed => Body::System(System::Removed {
            origin: "example.org/log/default/2024q4".to_owned(),
            size: 70_000,
            root: Digest::of(b"a root"),
            of: DecisionId::from_parts(start(), [2; 10]),
        }),
        Kind::DirectoryChanged => Body::System(System::DirectoryChanged {
            of: DecisionId::from_parts(start(), [2; 10]),
            changes: vec![DirectoryChange {
                kind: Name::literal("user"),
                whom: person(),
                became: Became::Disabled,
            }],
        }),
        Kind::PolicyRejected => Body::System(System::PolicyRejected {
            bundle: Some(Digest::of(b"a broken bundle")),
            reason: Some(ReasonCode::PolicySignatureInvalid),
        }),
        Kind::PolicyCompared => Body::System(System::PolicyCompared {
            candidate: Digest::of(b"a candidate"),
            compared: 4_200,
            flips: 17,
        }),
        Kind::ReplayChecked => {
            Body::System(System::ReplayChecked { same: 198, differing: 0, not_replayable: 2 })
        }
        Kind::DecisionMismatch => Body::System(System::DecisionMismatch {
            bundle: Digest::of(b"a bundle"),
            slice: Digest::of(b"entities"),
            context: Digest::of(b"conditions"),
            rules: vec![Name::literal("prod-models-need-strong-login")],
        }),
    }
}

/// Every example: one of each kind, then every action, the other verdicts, the other ends, and what cannot be known.
#[must_use]
pub fn placed() -> Vec<Placed> {
    let kinds = crate::Kind::ALL.iter().map(|kind| example(*kind));
    // Proving an identity is an ask of its own only where it failed.
    let actions = Action::ALL
        .iter()
        .filter(|a| !matches!(a, Action::ModelInvoke | Action::SessionAuthenticate))
        .map(|action| intent(*action));
    let bodies = kinds.chain(actions).chain(refusals()).chain(ends());
    let known = (0_u64..).zip(bodies).map(|(seq, body)| {
        let record = Record {
            v: VERSION,
            tenant: Tenant::default_tenant(),
            node: NodeId::from_parts(start(), [0xa; 10]),
            seq,
            time_us: Timestamp::from_micros(start().as_micros() + seq * 1_000_001),
            body,
        };
        // A record is always JSON; if one were not, the golden files would not be the same.
        json::canonical(&record).unwrap_or_default()
    });
    let entries: Vec<_> = known.chain([LATER.as_bytes().to_vec(), b"not JSON | = \\".to_vec()]).collect();
    let size = entries.len() as u64;
    let origin: Arc<str> = ORIGIN.into();
    (0..).zip(&entries).map(|(index, entry)| Placed::read(origin.clone(), index, size, entry)).collect()
}

fn refusals() -> Vec<Body> {
    let step_up = vec![Offer::StepUp { level: 3, max_age_s: Some(900) }];
    let of = |count, role| vec![Share { count, role: Some(Name::literal(role)) }];
    let alternatives = [of(2, "model-security"), of(1, "head-of-models")];
    let quorum = Quorum::new(alternatives).into_iter();
    let approve = quorum.map(|any_of| Offer::Approve { any_of, use_within_s: 1_800 }).collect();
    let bind = vec![Offer::BindDevice { by: [BoundBy::Dpop].into() }];
    let purposes = ["support", "research"].into_iter().filter_map(|p| p.parse().ok()).collect();
    let red_zone = ReasonCode::Custom(Name::literal("red-zone"));
    let mut out = vec![
        refusal(VerdictKind::StepUp, &[ReasonCode::AssuranceTooLow], step_up),
        refusal(VerdictKind::StepUp, &[ReasonCode::BindingRequired], bind),
        refusal(
            VerdictKind::Justify,
            &[ReasonCode::JustificationRequired],
            vec![Offer::Justify { purposes }],
        ),
        refusal(VerdictKind::Hold, &[ReasonCode::ApprovalRequired, red_zone], approve),
        refusal(VerdictKind::Deny, &[ReasonCode::PolicyError], Vec::new()),
        Refusal {
            what: Some(what(Action::PolicyApply)),
            ..refusal(VerdictKind::Deny, &[ReasonCode::Constitution], Vec::new())
        },
        Refusal {
            what: Some(what(Action::KeyCreate)),
            ..refusal(VerdictKind::Deny, &[ReasonCode::Forbidden], Vec::new())
        },
        // Understood by nobody, so nothing is known of what was asked.
        Refusal {
            what: None,
            grounds: None,
            ..refusal(VerdictKind::Deny, &[ReasonCode::JsonDuplicateKey], Vec::new())
        },
    ];
    for reason in [ReasonCode::CredentialMissing, ReasonCode::TokenSignatureInvalid] {
        out.push(Refusal {
            who: nobody(),
            what: None,
            grounds: None,
            ..refusal(VerdictKind::Deny, &[reason], Vec::new())
        });
    }
    out.push(Refusal {
        who: nobody(),
        what: Some(what(Action::SessionAuthenticate)),
        ..refusal(VerdictKind::Deny, &[ReasonCode::CredentialExpired], Vec::new())
    });
    out.into_iter().map(Body::Refusal).collect()
}

fn ends() -> Vec<Body> {
    vec![
        outcome(End::Abandoned),
        outcome(End::Failed { reason: ReasonCode::UpstreamTimeout }),
        outcome(End::Failed { reason: ReasonCode::StreamEnded }),
        outcome(End::Unknown),
        Body::System(System::PolicyRejected { bundle: None, reason: None }),
    ]
}

fn payload() -> PayloadRef {
    PayloadRef {
        sha256: Digest::of(b"a sealed payload"),
        bytes: 2_048,
        key: DataKeyId::from_parts(start(), [12; 10]),
    }
}

fn start() -> Timestamp {
    Timestamp::from_micros(1_795_161_600_123_456)
}

fn person() -> PrincipalId {
    PrincipalId::from_parts(start(), [1; 10])
}

fn decision() -> DecisionId {
    DecisionId::from_parts(start(), [2; 10])
}

fn who() -> Who {
    Who {
        subject: person(),
        subject_kind: PrincipalKind::User,
        actors: vec![PrincipalId::from_parts(start(), [3; 10]), PrincipalId::from_parts(start(), [4; 10])],
        credential: CredentialKind::AccessToken,
        key: None,
        issuer: Some(Name::literal("https://idp.example")),
        assurance: 2,
    }
}

fn program() -> Who {
    Who {
        subject_kind: PrincipalKind::Workload,
        actors: Vec::new(),
        credential: CredentialKind::ApiKey,
        key: Some(KeyId::from_parts(start(), [5; 10])),
        issuer: None,
        assurance: 1,
        ..who()
    }
}

fn nobody() -> Who {
    Who {
        subject: PrincipalId::from_parts(Timestamp::from_micros(0), [0; 10]),
        subject_kind: PrincipalKind::Anonymous,
        actors: Vec::new(),
        credential: CredentialKind::None,
        key: None,
        issuer: None,
        assurance: 0,
    }
}

fn what(action: Action) -> What {
    let model = EntityRef::new(Name::literal("Model"), Name::literal("gpt-4o"));
    let (resource, dialect) = match action {
        Action::ModelInvoke => (model, "openai.chat"),
        Action::ModelEmbed => (model, "openai.embeddings"),
        Action::ModelList => (model, "list"),
        action if EntityRef::of_the_house(action).is_some() => {
            (EntityRef::of_the_house(action).unwrap_or_else(EntityRef::system), "control")
        }
        action => (EntityRef::new(Name::literal(action.resource_type()), Name::literal("one")), "control"),
    };
    What { action, resource, dialect: dialect.to_owned(), bytes: 1_234, body: Digest::of(b"a request") }
}

fn grounds() -> Grounds {
    Grounds {
        rules: vec![Name::literal("contractors-see-masked-data"), Name::literal("everybody-may")],
        policy: Digest::of(b"a policy bundle"),
        slice: Digest::of(b"an entity slice"),
        context: Digest::of(b"a context"),
        engine: Name::literal("cedar-4.14.1"),
    }
}

fn intent(action: Action) -> Body {
    let path = match action {
        Action::ModelInvoke => Some("/v1/chat/completions"),
        Action::ModelEmbed => Some("/v1/embeddings"),
        _ => None,
    };
    let target = match (action, path) {
        (_, Some(path)) => {
            let body = Digest::of(b"a request, capped and redacted");
            Target::post(Name::literal("openai-eu"), path.to_owned(), body)
        }
        (Action::AccessEvaluate | Action::AccessSearch, None) => Target::Answer {
            asked: 3,
            permitted: 2,
            body: Digest::of(b"an answer"),
            policy: Digest::of(b"a policy bundle"),
        },
        (_, None) => Target::House,
    };
    let obligations = [
        Obligation::Cap { output_tokens_max: 512 },
        Obligation::DoNotKeep,
        Obligation::redact([Detector::Email, Detector::Card]),
        Obligation::StripTools,
        Obligation::Watch,
    ];
    Body::Intent(Intent {
        id: decision(),
        who: if action == Action::ModelEmbed { program() } else { who() },
        what: what(action),
        grounds: grounds(),
        obligations: if action == Action::ModelInvoke {
            obligations.into_iter().collect()
        } else {
            Default::default()
        },
        target,
        kept: Some(Kept {
            prompt: payload(),
            committed: [(Name::literal("network"), Commitment::from_mac(Digest::of(b"a commitment")))].into(),
        }),
    })
}

fn refusal(verdict: VerdictKind, reasons: &[ReasonCode], offers: Vec<Offer>) -> Refusal {
    Refusal {
        id: decision(),
        who: who(),
        what: Some(what(Action::ModelInvoke)),
        verdict,
        reasons: reasons.to_vec(),
        offers,
        grounds: Some(grounds()),
        repeated: 0,
    }
}

fn outcome(end: End) -> Body {
    let ended = matches!(end, End::Done);
    Body::Outcome(Outcome {
        of: decision(),
        end,
        status: ended.then_some(200),
        bytes: 5_678,
        input_tokens: ended.then_some(321),
        output_tokens: ended.then_some(123),
        redacted: ended.into(),
        took_us: 1_500_250,
        kept: Some(payload()),
        given: None,
    })
}
