use super::*;
use crate::issue::tests::{key, rights};
use bartizan_base::random::SeededRandom;

fn holder(public: bool) -> Holder {
    Holder {
        id: "cli".to_owned(),
        name: Name::literal("cli"),
        public,
        refreshes: true,
        bound: Bound::default(),
    }
}

const fn at(seconds: u64) -> Timestamp {
    Timestamp::from_secs(200 + seconds)
}

/// A family at second 0, and the text of its first token.
fn family(random: &SeededRandom) -> (Family, Secret<String>) {
    let id = FamilyId::new(at(0), random);
    let (text, change) = Family::begin(id, &holder(true), &rights(), at(0), random).unwrap();
    let Change::PutRow { row, expect: None } = change else { panic!("a new row") };
    assert_eq!((row.kind, row.id), (RowKind::Refresh, id.to_string()));
    assert!(!row.body.contains(text.expose().as_str()));
    (serde_json::from_str(&row.body).unwrap(), text)
}

fn shown(text: &Secret<String>) -> Presented {
    Presented::parse(text.expose()).unwrap()
}

fn rotated(
    family: &Family,
    text: &Secret<String>,
    now: Timestamp,
    random: &SeededRandom,
) -> (Family, Secret<String>) {
    match family.hold(&shown(text), now, random) {
        Standing::Present { family, text } => (*family, text),
        other => panic!("{other:?}"),
    }
}

#[test]
fn attack_13_within_the_grace_window_a_token_gets_the_same_successor_and_after_it_ends_the_family() {
    let random = SeededRandom::new(1);
    let (first, one) = family(&random);
    let (second, two) = rotated(&first, &one, at(10), &random);
    assert_ne!(one.expose(), two.expose());
    for now in [10, 30, 54] {
        let Standing::Repeated { text } = second.hold(&shown(&one), at(now), &random) else {
            panic!("{now}")
        };
        assert_eq!(text.expose(), two.expose());
    }
    assert!(matches!(second.hold(&shown(&one), at(55), &random), Standing::Reused));
}

#[test]
fn attack_13_a_chain_of_rotations_within_the_window_leads_everybody_to_the_present_token() {
    let random = SeededRandom::new(2);
    let (mut family, one) = family(&random);
    let (mut texts, mut text) = (vec![one.clone()], one);
    for step in 1..=4 {
        (family, text) = rotated(&family, &text, at(step * 10), &random);
        texts.push(text.clone());
    }
    // Rotated at 10, 20, 30 and 40 seconds; at 60 the first is out of its window.
    let standing: Vec<_> = texts
        .iter()
        .map(|t| match family.hold(&shown(t), at(60), &random) {
            Standing::Present { .. } => "present",
            Standing::Repeated { text } => {
                assert_eq!(text.expose(), texts[4].expose());
                "repeated"
            }
            Standing::Reused => "reused",
            _ => "other",
        })
        .collect();
    assert_eq!(standing, ["reused", "repeated", "repeated", "repeated", "present"]);
}

#[test]
fn texts_that_were_never_of_the_family_do_nothing_to_it() {
    let random = SeededRandom::new(3);
    let (family, text) = family(&random);
    let bytes = URL_SAFE_NO_PAD.decode(text.expose().strip_prefix(PREFIX).unwrap()).unwrap();
    // Whoever knows the id of a family, but held none of its tokens.
    let mut guessed = bytes.clone();
    guessed[ID_LEN..].fill(7);
    let guessed = Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&guessed)));
    assert!(matches!(family.hold(&shown(&guessed), at(1), &random), Standing::Foreign));
    assert!(!family.is_member(&shown(&guessed)));
    for text in [
        "",
        "brt_",
        "brt_!!",
        text.expose().split_at(1).1,
        &format!("{}A", text.expose()),
        text.expose().split_at(60).0,
    ] {
        assert!(Presented::parse(text).is_none(), "{text}");
    }
    // Somebody who held one, and changes its secret, is somebody who held one.
    let mut changed = bytes;
    *changed.last_mut().unwrap() ^= 1;
    let changed = Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&changed)));
    assert!(matches!(family.hold(&shown(&changed), at(1), &random), Standing::Reused));
}

#[test]
fn what_is_kept_holds_no_secret_and_no_token_can_be_made_of_it() {
    let random = SeededRandom::new(4);
    let (first, one) = family(&random);
    let (second, two) = rotated(&first, &one, at(10), &random);
    let kept = serde_json::to_string(&second).unwrap();
    for text in [&one, &two] {
        let bytes = URL_SAFE_NO_PAD.decode(text.expose().strip_prefix(PREFIX).unwrap()).unwrap();
        let secret: [u8; 32] = bytes[ID_LEN + PROOF_LEN..].try_into().unwrap();
        let proof = &bytes[ID_LEN..ID_LEN + PROOF_LEN];
        assert!(!kept.contains(&URL_SAFE_NO_PAD.encode(secret)));
        assert!(!kept.contains(&Digest::from_bytes(secret).to_string()));
        assert!(!kept.contains(&URL_SAFE_NO_PAD.encode(proof)));
    }
    assert!(!format!("{:?}", shown(&two)).contains(two.expose().split_at(30).1));
}

#[test]
fn attack_14_a_public_clients_family_is_held_by_its_key_and_a_proven_clients_by_any_key() {
    let random = SeededRandom::new(5);
    let (family, _) = family(&random);
    let bound = |number: Option<u8>| Bound { key: number.and_then(|n| key(n).key()), certificate: None };
    assert!(family.is_held_by(bound(Some(1))));
    assert!(!family.is_held_by(bound(Some(2))) && !family.is_held_by(bound(None)));
    let proven = Family { held: false, ..family };
    assert!(proven.is_held_by(bound(Some(2))));
    assert!(!proven.is_held_by(bound(None)), "what is bound never becomes a bearer token");
}

#[test]
fn a_family_ends_by_itself_when_it_is_not_used_and_at_last_in_any_case() {
    let random = SeededRandom::new(6);
    let id = FamilyId::new(at(0), &random);
    let long = Rights::root(crate::issue::Root { ends: Timestamp::MAX, ..rights().get().clone() });
    let (_, change) = Family::begin(id, &holder(false), &long, at(0), &random).unwrap();
    let Change::PutRow { row, .. } = change else { panic!("a row") };
    assert_eq!(row.expires, Some(at(0).saturating_add(IDLE)));
    let family: Family = serde_json::from_str(&row.body).unwrap();
    assert_eq!(family.rights.get().ends, at(0).saturating_add(ABSOLUTE));
    let late = Family { used: at(0).saturating_add(ABSOLUTE), ..family };
    assert_eq!(late.expires(), Some(at(0).saturating_add(ABSOLUTE)));
}

#[test]
fn a_family_does_not_rotate_faster_than_programs_refresh() {
    let random = SeededRandom::new(7);
    let (mut family, mut text) = family(&random);
    for _ in 0..RECENT_MAX {
        (family, text) = rotated(&family, &text, at(1), &random);
    }
    assert!(matches!(family.hold(&shown(&text), at(2), &random), Standing::Hasty));
    let (family, _) = rotated(&family, &text, at(60), &random);
    assert_eq!(family.rotations, RECENT_MAX as u64 + 1);
}
