//! Random records and queries out of one small vocabulary, so that they often meet.

use bartizan_base::random::SeededRandom;
use bartizan_base::{Digest, Id, IdKind, Name, Timestamp, json};
use bartizan_model::record::{
    Became, Body, DirectoryChange, End, ErasedClass, ErasureBasis, Grounds, Intent, Outcome, Record, Refusal,
    System, VERSION, VerdictKind, What, Who,
};
use bartizan_model::{
    Action, CredentialKind, Detector, EntityRef, Obligation, Offer, PrincipalKind, ReasonCode, Target, Tenant,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::Field;

/// The moment around which records are written, in microseconds.
pub const NOW_US: u64 = 1_795_000_000_000_000;

const NAMES: &[&str] = &["gpt-4o", "gpt-4o-mini", "gpu", "claude", "house", "openai", "p@x.org", "a..b", "Z"];
const TEXTS: &[&str] =
    &["", "openai.chat", "a¶b", "Ünï-CODE İx", "quo\"te\\", "名前 x", "\u{10ffff}z", "a b"];
const NUMBERS: &[u64] = &[0, 1, 2, 3, 200, 404, 1_000, 4_096, 1 << 40, (1 << 53) - 1];

fn id<K: IdKind + std::fmt::Debug>() -> impl Strategy<Value = Id<K>> + Clone {
    (1_u64..4).prop_map(|seed| Id::new(Timestamp::from_micros(NOW_US), &SeededRandom::new(seed)))
}

fn name() -> impl Strategy<Value = Name> {
    select(NAMES).prop_map(Name::literal)
}

fn digest() -> impl Strategy<Value = Digest> {
    (0_u8..3).prop_map(|n| Digest::of(&[n]))
}

fn number() -> impl Strategy<Value = u64> {
    select(NUMBERS)
}

fn moment() -> impl Strategy<Value = Timestamp> {
    // Few different moments: ties have to be broken.
    (0_u64..6).prop_map(|n| Timestamp::from_micros(NOW_US - n * 3_600_000_000))
}

fn reason() -> impl Strategy<Value = ReasonCode> {
    prop_oneof![
        select(&[ReasonCode::AssuranceTooLow, ReasonCode::Forbidden, ReasonCode::StreamEnded][..]),
        Just(ReasonCode::Custom(Name::literal("red-zone"))),
    ]
}

fn who() -> impl Strategy<Value = Who> {
    let kinds =
        [PrincipalKind::Anonymous, PrincipalKind::User, PrincipalKind::Agent, PrincipalKind::Workload];
    let credentials = [
        CredentialKind::None,
        CredentialKind::ApiKey,
        CredentialKind::AccessToken,
        CredentialKind::Claim,
        CredentialKind::Recovery,
        CredentialKind::Login,
        CredentialKind::Session,
        CredentialKind::Client,
        CredentialKind::Certificate,
        CredentialKind::Event,
        CredentialKind::House,
    ];
    (
        (id(), select(kinds.to_vec()), vec(id(), 0..3)),
        (select(credentials.to_vec()), option::of(id()), option::of(name()), 0_u8..5),
    )
        .prop_map(|((subject, subject_kind, actors), (credential, key, issuer, assurance))| Who {
            subject,
            subject_kind,
            actors,
            credential,
            key,
            issuer,
            assurance,
        })
}

fn what() -> impl Strategy<Value = What> {
    (select(Action::ALL), name(), select(TEXTS), number(), digest()).prop_map(
        |(action, name, dialect, bytes, body)| What {
            action,
            resource: EntityRef::new(Name::literal(action.resource_type()), name),
            dialect: dialect.to_owned(),
            bytes,
            body,
        },
    )
}

fn grounds() -> impl Strategy<Value = Grounds> {
    (vec(name(), 0..3), digest(), digest()).prop_map(|(rules, policy, other)| Grounds {
        rules,
        policy,
        slice: other,
        context: other,
        engine: Name::literal("cedar-4"),
    })
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        Just(Target::House),
        (id(), digest()).prop_map(|(of, body)| Target::Cached { of, body }),
        (0..9u64, 0..9u64, digest(), digest()).prop_map(|(asked, permitted, body, policy)| Target::Answer {
            asked,
            permitted,
            body,
            policy
        }),
        (name(), digest()).prop_map(|(name, body)| Target::Direct { name, body }),
        (select(&["POST", "GET"][..]), name(), select(TEXTS), digest()).prop_map(
            |(method, upstream, path, body)| {
                Target::Upstream { method: method.into(), upstream, path: path.to_owned(), body }
            }
        ),
    ]
}

fn intent() -> impl Strategy<Value = Body> {
    (id(), who(), what(), grounds(), any::<bool>(), target()).prop_map(
        |(id, who, what, grounds, redact, target)| {
            let obligation = Obligation::redact([Detector::Email]);
            let obligations = redact.then_some(obligation).into_iter().collect();
            Body::Intent(Intent { id, who, what, grounds, obligations, target, kept: None })
        },
    )
}

fn refusal() -> impl Strategy<Value = Body> {
    let verdicts = [VerdictKind::StepUp, VerdictKind::Justify, VerdictKind::Hold, VerdictKind::Deny];
    (
        (id(), who(), option::of(what()), select(verdicts.to_vec())),
        (vec(reason(), 1..3), any::<bool>(), option::of(grounds()), number()),
    )
        .prop_map(|((id, who, what, verdict), (reasons, offer, grounds, repeated))| {
            let offers = offer.then_some(Offer::StepUp { level: 3, max_age_s: None }).into_iter().collect();
            Body::Refusal(Refusal { id, who, what, verdict, reasons, offers, grounds, repeated })
        })
}

fn outcome() -> impl Strategy<Value = Body> {
    let end = prop_oneof![
        Just(End::Done),
        Just(End::Abandoned),
        Just(End::Unknown),
        reason().prop_map(|reason| End::Failed { reason }),
    ];
    (
        (id(), end, option::of(select(&[200_u16, 404, 500][..])), number()),
        (option::of(number()), option::of(number()), number(), number()),
    )
        .prop_map(|((of, end, status, bytes), (input_tokens, output_tokens, redacted, took_us))| {
            Body::Outcome(Outcome {
                of,
                end,
                status,
                bytes,
                input_tokens,
                output_tokens,
                redacted,
                took_us,
                kept: None,
                given: None,
            })
        })
}

fn system() -> impl Strategy<Value = Body> {
    prop_oneof![
        select(TEXTS).prop_map(|version| System::Started { version: version.to_owned() }),
        Just(System::Stopped),
        number().prop_map(|bytes| System::TailCut { bytes }),
        select(TEXTS).prop_map(|what| System::Recovered { what: what.to_owned() }),
        Just(System::Initialised),
        (option::of(digest()), option::of(reason()))
            .prop_map(|(bundle, reason)| System::PolicyRejected { bundle, reason }),
        (digest(), number(), number()).prop_map(|(candidate, compared, flips)| System::PolicyCompared {
            candidate,
            compared,
            flips
        }),
        (number(), number(), number()).prop_map(|(same, differing, not_replayable)| {
            System::ReplayChecked { same, differing, not_replayable }
        }),
        (digest(), digest()).prop_map(|(bundle, slice)| System::DecisionMismatch {
            bundle,
            slice,
            context: slice,
            rules: Vec::new(),
        }),
        (0..1_000_u64, digest()).prop_map(|(size, root)| System::Checkpoint {
            origin: "example.org/log/acme/2026q4".to_owned(),
            size,
            root
        }),
        (id(), id(), select(ErasureBasis::ALL), number()).prop_map(|(erasure, of, basis, items)| {
            System::Erased {
                erasure,
                of,
                class: ErasedClass::Subject,
                basis,
                items,
                payloads: 1,
                first_us: None,
                last_us: Some(Timestamp::from_micros(NOW_US)),
            }
        }),
        number().prop_map(|items| System::Expired { items, payloads: 2 }),
        number().prop_map(|erasures| System::Reapplied { erasures }),
        (0..1_000_u64, digest(), id()).prop_map(|(size, root, of)| System::Removed {
            origin: "example.org/log/acme/2024q4".to_owned(),
            size,
            root,
            of
        }),
        (id(), id()).prop_map(|(of, whom)| System::DirectoryChanged {
            of,
            changes: vec![DirectoryChange { kind: Name::literal("user"), whom, became: Became::Disabled }],
        }),
        (0..1_000_u64).prop_map(|size| System::Unwitnessed { size, seconds: 601 }),
    ]
    .prop_map(Body::System)
}

/// A record of the default tenant.
pub fn record() -> impl Strategy<Value = Record> {
    (id(), number(), moment(), prop_oneof![3 => intent(), 3 => refusal(), 3 => outcome(), 1 => system()])
        .prop_map(|(node, seq, time_us, body)| Record {
            v: VERSION,
            tenant: Tenant::default_tenant(),
            node,
            seq,
            time_us,
            body,
        })
}

/// A record as it stands in a log.
pub fn entry() -> impl Strategy<Value = Vec<u8>> {
    record().prop_map(|record| json::canonical(&record).unwrap_or_default())
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A value of a field as it may be typed, mostly one that records have.
fn value(field: Field) -> BoxedStrategy<String> {
    use crate::Type;
    let shown = |id: String| prop_oneof![Just(id.clone()), Just(format!("{}*", id.get(..6).unwrap_or(&id)))];
    match field.value_type() {
        Type::Word => {
            let words: Vec<String> = field.words().into_iter().map(Into::into).collect();
            let starts = words.clone();
            prop_oneof![
                4 => select(words),
                1 => select(starts).prop_map(|w| format!("{}*", w.get(..2).unwrap_or(&w))),
            ]
            .boxed()
        }
        Type::Id("prn") => id::<bartizan_base::id::kinds::Principal>().prop_flat_map(move |i| shown(i.to_string())).boxed(),
        Type::Id("key") => id::<bartizan_base::id::kinds::Key>().prop_flat_map(move |i| shown(i.to_string())).boxed(),
        Type::Id("dec") => id::<bartizan_base::id::kinds::Decision>().prop_flat_map(move |i| shown(i.to_string())).boxed(),
        Type::Id(_) => id::<bartizan_base::id::kinds::Node>().prop_flat_map(move |i| shown(i.to_string())).boxed(),
        Type::Digest => digest().prop_flat_map(move |d| shown(d.to_string())).boxed(),
        Type::Name => prop_oneof![
            4 => select(NAMES).prop_map(quote),
            2 => select(TEXTS).prop_map(quote),
            1 => select(&["gpt*", "System", "Model", "log/a", "log/b", "log/*", "\"\u{10ffff}\"*", "\"\"*", "\"名\"*"][..])
                .prop_map(str::to_owned),
        ]
        .boxed(),
        Type::Number | Type::Bytes => number().prop_map(|n| n.to_string()).boxed(),
        Type::Duration => number().prop_map(|n| format!("{n}us")).boxed(),
        Type::Time => moment().prop_map(|t| t.to_string()).boxed(),
    }
}

fn condition() -> impl Strategy<Value = String> {
    select(Field::ALL).prop_flat_map(|field| {
        let name = field.name();
        let value = value(field);
        let is = prop_oneof![4 => Just(":"), 1 => Just("!=")];
        let list = (is.clone(), vec(value.clone(), 1..4))
            .prop_map(move |(is, values)| format!("{name}{is}({})", values.join(", ")));
        let single = (is.clone(), value.clone()).prop_map(move |(is, value)| format!("{name}{is}{value}"));
        let present = is.prop_map(move |is| format!("{name}{is}*"));
        if !field.value_type().is_ordered() {
            return prop_oneof![6 => single, 2 => list, 1 => present].boxed();
        }
        let compared = (select(&[">", ">=", "<", "<="][..]), value.clone())
            .prop_map(move |(operator, value)| format!("{name} {operator} {value}"));
        let range = (value.clone(), value).prop_map(move |(a, b)| format!("{name}:{a}..{b}"));
        prop_oneof![2 => single, 1 => list, 1 => present, 4 => compared, 2 => range].boxed()
    })
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        select(TEXTS).prop_map(quote),
        select(NAMES).prop_map(quote),
        select(&["gpt 4o", "assurance too", "too assurance", "refusal", "x", "api key", "ünï code", "b"][..])
            .prop_map(quote),
        select(&["gp*", "\"openai ch\"*", "assur*", "zz*", "dec_01*", "refusal"][..]).prop_map(str::to_owned),
    ]
}

/// The text of a query. A few are not queries: ranges may be empty, phrases without a word.
pub fn query() -> impl Strategy<Value = String> {
    let ago = select(&["since:1h", "until:2h", "since:90m", "time>3h", "time:4h..1h", "until:now"][..]);
    let leaf = prop_oneof![6 => condition(), 2 => text(), 1 => ago.prop_map(str::to_owned)];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            2 => vec(inner.clone(), 1..4).prop_map(|parts| format!("({})", parts.join(" "))),
            2 => vec(inner.clone(), 1..4).prop_map(|parts| format!("({})", parts.join(" or "))),
            1 => inner.clone().prop_map(|part| format!("-{part}")),
            1 => inner.prop_map(|part| format!("not {part}")),
        ]
    })
}
