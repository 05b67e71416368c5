use bartizan_base::Digest;
use bartizan_ledger::{
    Checkpoint, CheckpointError, CosignError, Cosigner, CosignerKey, NoteError, SIGNATURES_MAX,
    UnverifiedNote, VerifierKey, add_cosignatures,
};
use proptest::prelude::*;

use crate::world::{cosigner, signer};

/// The checkpoint and time that the specification shows, cosigned by the key of seed 4, 4, 4, …; the line was worked out
/// with another implementation of Ed25519, and accepted by another of cosignatures.
const TEXT: &str = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
const TIME_S: u64 = 1_679_315_147;
const KEY: &str = "witness.example/w1+141f260a+BMqTrBcFGHBx1nuDx/8O/oEI6OxFMFdddyaHkzPb2r58";
const LINE: &str = "— witness.example/w1 FB8mCgAAAABkGFDL82BuVAliPYXLWoJdqTHPN+gVatFS5l4TLdVUdui5SWFBYaPFa5qCTXt9\
    oXy6f2KKtotpN9mICDJhWyA+srs/Ag==\n";

const ORIGIN: &str = "log.example";

fn signed(size: u64) -> String {
    Checkpoint { origin: ORIGIN.to_owned(), size, root: Digest::of(&size.to_be_bytes()) }
        .sign(&signer(ORIGIN, 1))
}

/// What a note says, without its signatures.
fn text(signed: &str) -> String {
    signed.rsplit_once("\n\n").unwrap().0.to_owned() + "\n"
}

fn log() -> VerifierKey {
    signer(ORIGIN, 1).verifier().clone()
}

fn key(cosigner: &Cosigner) -> CosignerKey {
    cosigner.verifier().clone()
}

#[test]
fn keys_and_cosignatures_are_those_of_the_specification() {
    let witness = cosigner("witness.example/w1", 4);
    assert_eq!(witness.verifier().to_string(), KEY);
    assert_eq!(KEY.parse(), Ok(key(&witness)));
    assert_eq!(witness.cosign(TEXT, TIME_S).unwrap(), LINE);
    // The key of a public witness.
    let public = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2";
    assert_eq!(public.parse::<CosignerKey>().unwrap().to_string(), public);
}

#[test]
fn keys_of_logs_and_of_cosigners_are_not_taken_for_each_other() {
    assert_eq!(log().to_string().parse::<CosignerKey>(), Err(NoteError::Key));
    assert_eq!(KEY.parse::<VerifierKey>(), Err(NoteError::Key));
    // One seed and one name give two key ids, and no signature of one stands for the other.
    let both = signed(3);
    let same = cosigner(ORIGIN, 1);
    let cosigned = Checkpoint::open_cosigned(both.as_bytes(), &log(), &[key(&same)]).unwrap();
    assert_eq!(cosigned.cosignatures, []);
    let only = format!("{}\n{}", text(&both), same.cosign(&text(&both), 1).unwrap());
    assert_eq!(Checkpoint::open(only.as_bytes(), &log()), Err(CheckpointError::Note(NoteError::Unsigned)));
}

#[test]
fn only_checkpoints_are_cosigned_and_never_without_a_time() {
    let witness = cosigner("w", 2);
    for time_s in [0, 1 << 63, u64::MAX] {
        assert_eq!(witness.cosign(TEXT, time_s), Err(CosignError::Time));
    }
    assert!(witness.cosign(TEXT, (1 << 63) - 1).is_ok());
    for text in ["", "text\n", "o\n01\nx\n"] {
        assert_eq!(witness.cosign(text, 1), Err(CosignError::Checkpoint), "{text:?}");
    }
}

#[test]
fn a_cosignature_without_a_time_is_refused_however_well_it_is_signed() {
    use aws_lc_rs::signature::Ed25519KeyPair;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let (pair, witness) = (Ed25519KeyPair::from_seed_unchecked(&[2; 32]).unwrap(), cosigner("w", 2));
    for (time_s, accepted) in [(0_u64, false), (1, true), (1 << 63, false)] {
        let note = signed(3);
        let signature = pair.sign(format!("cosignature/v1\ntime {time_s}\n{}", text(&note)).as_bytes());
        let good = witness.cosign(&text(&note), 1).unwrap();
        let good = STANDARD.decode(good.trim().rsplit_once(' ').unwrap().1).unwrap();
        let line = [&good[..4], &time_s.to_be_bytes(), signature.as_ref()].concat();
        let note = format!("{note}— w {}\n", STANDARD.encode(line));
        let opened = Checkpoint::open_cosigned(note.as_bytes(), &log(), &[key(&witness)]);
        assert_eq!(opened.is_ok(), accepted, "{time_s}");
    }
}

#[test]
fn one_note_is_verified_against_the_log_and_any_number_of_cosigners() {
    let witnesses: Vec<_> = (0..20).map(|n| cosigner(&format!("w{n}.example"), 50 + n)).collect();
    let (mut note, text) = (signed(9), text(&signed(9)));
    for (time_s, witness) in (100..).zip(&witnesses) {
        note += &witness.cosign(&text, time_s).unwrap();
    }
    let known: Vec<_> = witnesses.iter().skip(5).map(key).collect();
    let cosigned = Checkpoint::open_cosigned(note.as_bytes(), &log(), &known).unwrap();
    assert_eq!(cosigned.checkpoint.size, 9);
    let told: Vec<_> = cosigned.cosignatures.iter().map(|c| (c.name().to_owned(), c.time_s())).collect();
    let expected: Vec<_> = (5..20).map(|n| (format!("w{n}.example"), 100 + n)).collect();
    assert_eq!(told, expected, "unknown ones are passed over");
    assert!(cosigned.cosignatures.iter().all(|c| note.contains(c.line())));
}

#[test]
fn a_known_cosigner_that_fails_or_signs_twice_refuses_the_note() {
    let (w1, w2) = (cosigner("w1", 2), cosigner("w2", 3));
    let (note, other) = (signed(9), signed(10));
    let open = |lines: &[String], known: &[&Cosigner]| {
        let known: Vec<_> = known.iter().map(|w| key(w)).collect();
        let note = format!("{note}{}", lines.concat());
        Checkpoint::open_cosigned(note.as_bytes(), &log(), &known).map(|c| c.cosignatures.len())
    };
    let good = w1.cosign(&text(&note), 7).unwrap();
    let replayed = w2.cosign(&text(&other), 7).unwrap();
    assert_eq!(open(&[good.clone(), replayed.clone()], &[&w1]), Ok(1));
    let failed = Err(CheckpointError::Note(NoteError::Signature));
    assert_eq!(open(&[good.clone(), replayed], &[&w1, &w2]), failed);
    // The same key at another time is a second signature all the same.
    let later = w1.cosign(&text(&note), 8).unwrap();
    let twice = Err(CheckpointError::Note(NoteError::Duplicate));
    assert_eq!(open(&[good.clone(), later.clone()], &[&w1]), twice);
    assert_eq!(open(&[good.clone(), good.clone()], &[&w1]), twice);
    assert_eq!(open(&[good, later], &[&w2]), Ok(0));
}

#[test]
fn one_public_key_counts_once_under_whatever_names() {
    // The message does not commit to the name: whoever holds one key could sign under two.
    let (a, b) = (cosigner("a", 2), cosigner("b", 2));
    let note = signed(9);
    let lines = [a.cosign(&text(&note), 7).unwrap(), b.cosign(&text(&note), 7).unwrap()].concat();
    let note = UnverifiedNote::parse(format!("{note}{lines}").as_bytes()).unwrap();
    assert_eq!(note.cosigned_by(&[key(&a), key(&b)]).unwrap().len(), 1);
    assert_eq!(note.cosigned_by(&[key(&a), key(&a)]).unwrap().len(), 1);
}

#[test]
fn cosignatures_are_appended_once_and_to_their_own_checkpoint_only() {
    let witnesses: Vec<_> = (0..3).map(|n| cosigner(&format!("w{n}"), 50 + n)).collect();
    let keys: Vec<_> = witnesses.iter().map(key).collect();
    let note = signed(9);
    let lines: String = witnesses.iter().map(|w| w.cosign(&text(&note), 7).unwrap()).collect();
    let whole = format!("{note}{lines}");
    let cosigned = Checkpoint::open_cosigned(whole.as_bytes(), &log(), &keys).unwrap().cosignatures;
    assert_eq!(add_cosignatures(&note, &cosigned), Ok(whole.clone()));
    assert_eq!(add_cosignatures(&whole, &cosigned), Ok(whole.clone()), "again changes nothing");
    assert_eq!(add_cosignatures(&signed(10), &cosigned), Err(NoteError::Signature));
    assert_eq!(add_cosignatures("no note\n", &cosigned), Err(NoteError::Shape));
    // Full of other people's lines.
    let stranger = cosigner("stranger", 9).cosign(&text(&note), 1).unwrap();
    let full = format!("{note}{}", stranger.repeat(SIGNATURES_MAX - 1));
    assert_eq!(add_cosignatures(&full, &cosigned), Err(NoteError::Shape));
}

#[test]
fn any_changed_byte_of_a_cosigned_checkpoint_is_refused_or_costs_the_cosignature() {
    let witness = cosigner("w.example", 2);
    let note = signed(9);
    let note = format!("{note}{}", witness.cosign(&text(&note), 1_700_000_000).unwrap());
    let whole = |bytes: &[u8]| {
        Checkpoint::open_cosigned(bytes, &log(), &[key(&witness)]).is_ok_and(|c| c.cosignatures.len() == 1)
    };
    assert!(whole(note.as_bytes()));
    for at in 0..note.len() {
        for bit in 0..8 {
            let mut bytes = note.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            assert!(!whole(&bytes), "byte {at}, bit {bit}");
        }
        assert!(!whole(&note.as_bytes()[..at]), "cut at {at}");
    }
}

#[test]
fn cosigner_keys_mistyped_are_refused() {
    for text in [
        KEY.replace("141f260a", "141F260A"),
        KEY.replace("141f260a", "141f260b"),
        KEY.replace("/w1", "/w2"),
        KEY.replace("BMqT", "BcqT"),
        KEY.replace("r58", "r5"),
        format!("{KEY} "),
        "w+00000000+".to_owned(),
        String::new(),
    ] {
        assert_eq!(text.parse::<CosignerKey>(), Err(NoteError::Key), "{text}");
    }
    assert!(Cosigner::from_seed("a b", &[1; 32]).is_err());
}

#[test]
fn debug_output_of_a_cosigner_does_not_contain_its_seed() {
    let shown = format!("{:?}", Cosigner::from_seed("a", &[0xa7; 32]).unwrap());
    assert!(shown.contains("a+"), "{shown}");
    assert!(!shown.contains("167") && !shown.to_lowercase().contains("a7a7"), "{shown}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn cosignatures_round_trip(
        name in "[a-zé./0-9]{1,20}", seed in any::<[u8; 32]>(), time_s in 1..=i64::MAX as u64, size in any::<u64>(),
    ) {
        let cosigner = Cosigner::from_seed(&name, &seed).unwrap();
        prop_assert_eq!(cosigner.verifier().to_string().parse(), Ok(key(&cosigner)));
        let note = signed(size);
        let line = cosigner.cosign(&text(&note), time_s).unwrap();
        let whole = format!("{note}{line}");
        let read = Checkpoint::open_cosigned(whole.as_bytes(), &log(), &[key(&cosigner)]).unwrap();
        let [cosignature] = &read.cosignatures[..] else { panic!("one cosignature") };
        prop_assert_eq!((cosignature.time_s(), cosignature.line()), (time_s, &*line));
        prop_assert_eq!(cosignature.key(), cosigner.verifier());
    }
}
