//! The fast writer against the canonical one.

use super::*;
use crate::told::{self, Head, ToldIntent, ToldRefusal};
use bartizan_base::{Digest, Name, Timestamp};
use bartizan_decide::{PermitParts, Refused};
use bartizan_model::record::{
    Body, End, Grounds, Intent, Kept, Outcome, Record, Refusal, System, VERSION, VerdictKind, What, Who,
};
use bartizan_model::{
    Action, BoundBy, Commitment, CredentialKind, DataKeyId, DecisionId, Detector, EntityRef, KeyId, NodeId,
    Obligation, Offer, PayloadRef, PrincipalId, PrincipalKind, Quorum, ReasonCode, Target, Tenant,
};
use proptest::option::of;
use proptest::prelude::*;

fn moment() -> impl Strategy<Value = Timestamp> {
    // Up to the year 2255; later ones go the slow way.
    (0..=SEQ_PLACE).prop_map(Timestamp::from_micros)
}

macro_rules! id {
    ($type:ty) => {
        (moment(), any::<[u8; 10]>()).prop_map(|(now, random)| <$type>::from_parts(now, random))
    };
}

fn name() -> impl Strategy<Value = Name> {
    "[a-zA-Z0-9._:/@+-]{1,20}".prop_map(|n| n.parse().unwrap())
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(SEQ_PLACE), 0..=SEQ_PLACE]
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest::from_bytes)
}

fn reason() -> impl Strategy<Value = ReasonCode> {
    prop_oneof![proptest::sample::select(ReasonCode::ALL), name().prop_map(ReasonCode::Custom)]
}

fn who() -> impl Strategy<Value = Who> {
    let kinds = [PrincipalKind::User, PrincipalKind::Agent, PrincipalKind::Anonymous];
    let subject = (id!(PrincipalId), proptest::sample::select(kinds.to_vec()));
    let actors = proptest::collection::vec(id!(PrincipalId), 0..3);
    (subject, actors, of(id!(KeyId)), of(name()), 0..5_u8).prop_map(
        |((subject, subject_kind), actors, key, issuer, assurance)| Who {
            subject,
            subject_kind,
            actors,
            credential: CredentialKind::ApiKey,
            key,
            issuer,
            assurance,
        },
    )
}

fn what() -> impl Strategy<Value = What> {
    let action = proptest::sample::select(Action::ALL);
    // Texts that nobody checked: any characters, also ones that must be escaped or look like members.
    let dialect = prop_oneof![any::<String>(), Just("\",\"seq\":9007199254740991,\"".to_owned())];
    (action, name(), name(), dialect, number(), digest()).prop_map(
        |(action, kind, name, dialect, bytes, body)| What {
            action,
            resource: EntityRef::new(kind, name),
            dialect,
            bytes,
            body,
        },
    )
}

fn grounds() -> impl Strategy<Value = Grounds> {
    (proptest::collection::vec(name(), 0..4), digest(), name()).prop_map(|(rules, digest, engine)| Grounds {
        rules,
        policy: digest,
        slice: digest,
        context: digest,
        engine,
    })
}

fn obligation() -> impl Strategy<Value = Obligation> {
    prop_oneof![
        number().prop_map(|output_tokens_max| Obligation::Cap { output_tokens_max }),
        Just(Obligation::StripTools),
        Just(Obligation::Keep),
        Just(Obligation::Watch),
        Just(Obligation::Hide),
        proptest::collection::btree_set(name(), 0..3).prop_map(|hosts| Obligation::StripLinks { hosts }),
        Just(Obligation::redact(Detector::ALL.iter().cloned())),
    ]
}

fn target() -> impl Strategy<Value = Target> {
    let method = prop_oneof![Just("POST"), Just("GET")];
    let upstream = (method, name(), any::<String>(), digest()).prop_map(|(method, upstream, path, body)| {
        Target::Upstream { method: method.into(), upstream, path, body }
    });
    let number = || 0..1_u64 << 53;
    let answer = (number(), number(), digest(), digest())
        .prop_map(|(asked, permitted, body, policy)| Target::Answer { asked, permitted, body, policy });
    let direct = (name(), digest()).prop_map(|(name, body)| Target::Direct { name, body });
    let cached = (id!(DecisionId), digest()).prop_map(|(of, body)| Target::Cached { of, body });
    prop_oneof![Just(Target::House), upstream, answer, direct, cached]
}

fn offer() -> impl Strategy<Value = Offer> {
    prop_oneof![
        (0..5_u8, of(number())).prop_map(|(level, max_age_s)| Offer::StepUp { level, max_age_s }),
        Just(Offer::Justify { purposes: ["support".parse().unwrap()].into() }),
        Just(Offer::Justify { purposes: [].into() }),
        Just(Offer::BindDevice { by: BoundBy::ALL.iter().copied().collect() }),
        (of(name()), number()).prop_map(|(role, use_within_s)| Offer::Approve {
            any_of: Quorum::of(2, role).unwrap(),
            use_within_s
        }),
    ]
}

fn payload() -> impl Strategy<Value = PayloadRef> {
    (digest(), number(), id!(DataKeyId)).prop_map(|(sha256, bytes, key)| PayloadRef { sha256, bytes, key })
}

fn kept() -> impl Strategy<Value = Kept> {
    let commitment = digest().prop_map(Commitment::from_mac);
    (payload(), proptest::collection::btree_map(name(), commitment, 0..4))
        .prop_map(|(prompt, committed)| Kept { prompt, committed })
}

fn body() -> impl Strategy<Value = Body> {
    let obligations = proptest::collection::vec(obligation(), 0..4);
    let intent = (id!(DecisionId), who(), what(), grounds(), obligations, target(), of(kept())).prop_map(
        |(id, who, what, grounds, obligations, target, kept)| {
            let obligations = obligations.into_iter().collect();
            Body::Intent(Intent { id, who, what, grounds, obligations, target, kept })
        },
    );
    let reasons = proptest::collection::vec(reason(), 1..3);
    let offers = proptest::collection::vec(offer(), 0..3);
    let refusal = (id!(DecisionId), who(), of(what()), reasons, offers, of(grounds()), number()).prop_map(
        |(id, who, what, reasons, offers, grounds, repeated)| {
            let verdict = VerdictKind::Hold;
            Body::Refusal(Refusal { id, who, what, verdict, reasons, offers, grounds, repeated })
        },
    );
    let end =
        prop_oneof![Just(End::Unknown), Just(End::Done), reason().prop_map(|reason| End::Failed { reason })];
    let counts = (number(), of(number()), of(number()), number());
    let outcome = (id!(DecisionId), end, of(any::<u16>()), counts, of(payload())).prop_map(
        |(of, end, status, (bytes, input_tokens, output_tokens, redacted), kept)| {
            let took_us = bytes;
            Body::Outcome(Outcome {
                of,
                end,
                status,
                bytes,
                input_tokens,
                output_tokens,
                redacted,
                took_us,
                kept,
                given: None,
            })
        },
    );
    let system = prop_oneof![
        any::<String>().prop_map(|version| System::Started { version }),
        Just(System::Stopped),
        number().prop_map(|bytes| System::TailCut { bytes }),
        of(digest()).prop_map(|bundle| System::PolicyRejected { bundle, reason: None }),
    ];
    prop_oneof![intent, refusal, outcome, system.prop_map(Body::System)]
}

fn record() -> impl Strategy<Value = Record> {
    (name(), id!(NodeId), moment(), body()).prop_map(|(tenant, node, time_us, body)| Record {
        v: VERSION,
        tenant: Tenant(tenant),
        node,
        seq: SEQ_PLACE,
        time_us,
        body,
    })
}

fn head_of(record: &Record) -> Head<'_> {
    Head { tenant: &record.tenant, node: record.node, time: record.time_us }
}

/// The record of a verdict, encoded from what `decide` gives; none for other records.
fn told_as_decided(record: &Record) -> Option<Result<Encoded, RecordError>> {
    let (tenant, head) = (record.tenant.clone(), head_of(record));
    match record.body.clone() {
        Body::Intent(Intent { id, who, what, grounds, obligations, target, kept }) => {
            let (expires, uses) = (record.time_us, Vec::new());
            let parts = PermitParts { id, tenant, who, what, grounds, obligations, expires, uses };
            Some(Encoded::of(&ToldIntent::of(head, &parts, &target, kept.as_ref())))
        }
        Body::Refusal(Refusal { id, who, what, verdict, reasons, offers, grounds, repeated: 0 }) => {
            let (holds, discoverable) = (Vec::new(), false);
            let refused =
                Refused { id, tenant, who, what, verdict, reasons, offers, holds, grounds, discoverable };
            Some(Encoded::of(&ToldRefusal::of(head, &refused)))
        }
        Body::Refusal(_) | Body::Outcome(_) | Body::System(_) => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_fast_writer_agrees_with_the_canonical_one(record in record(), seq in 1..SEQ_PLACE) {
        let numbered = Record { seq, ..record.clone() };
        let encoded = told::encode(head_of(&record), &record.body).unwrap();
        let mut entry = Vec::new();
        encoded.write(seq, &mut entry);
        prop_assert!(entry.len() <= encoded.len());
        if let Some(by_reference) = told_as_decided(&record) {
            prop_assert_eq!(&by_reference.unwrap().bytes, &encoded.bytes);
        }
        let expected = json::canonical(&numbered).unwrap();
        prop_assert_eq!(String::from_utf8_lossy(&entry), String::from_utf8_lossy(&expected));
        prop_assert_eq!(serde_json::from_slice::<Record>(&entry).unwrap(), numbered);
        // And it was the fast one that wrote it.
        let mut writer = Writer::new();
        prop_assert!(record.serialize(&mut writer).is_ok());
    }

    #[test]
    fn any_json_is_written_canonically_one_way_or_the_other(
        text in any::<String>(), keys in proptest::collection::btree_map(any::<String>(), any::<i32>(), 0..6),
    ) {
        let value = serde_json::json!({"text": text, "map": keys, "list": [1.5, null, true, -3], "b": {"a": [], "": {}}});
        prop_assert_eq!(canonical(&value).unwrap(), json::canonical(&value).unwrap());
        prop_assert_eq!(canonical(&keys).unwrap(), json::canonical(&keys).unwrap());
    }
}

#[test]
fn names_with_a_common_beginning_and_double_names_are_put_in_order_or_left_to_the_slow_way() {
    let names = ["b", "a", "ab", "a\"", "a!", "a ", "", "é", "\u{10000}", "\u{ffff}"];
    let map: std::collections::HashMap<_, _> = names.into_iter().zip(0..).collect();
    assert_eq!(canonical(&map).unwrap(), json::canonical(&map).unwrap());
    assert_eq!(canonical(&u64::MAX).unwrap(), json::canonical(&u64::MAX).unwrap());
}
