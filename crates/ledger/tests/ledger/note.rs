use bartizan_base::Digest;
use bartizan_ledger::{
    Checkpoint, CheckpointError, KeyError, NOTE_MAX, NoteError, Signer, VerifierKey, empty_root, open_note,
    sign_note,
};
use bartizan_secret::Secret;
use proptest::prelude::*;
use signed_note::{Note, StandardVerifier, VerifierList};

use crate::world::signer;

/// The example of Go's `sumdb/note`, which the specification generalises.
const NEUMANN: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const NEUMANN_NOTE: &str = "If you think cryptography is the answer to your problem,\n\
    then you don't know what your problem is.\n\
    \n\
    — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

fn key(signer: &Signer) -> VerifierKey {
    signer.verifier_key().clone()
}

#[test]
fn the_published_example_note_opens() {
    let known = [NEUMANN.parse::<VerifierKey>().unwrap()];
    let opened = open_note(NEUMANN_NOTE.as_bytes(), &known).unwrap();
    assert!(opened.text().ends_with("your problem is.\n"));
    assert_eq!(opened.signers(), known);
    assert_eq!(known[0].to_string(), NEUMANN);
}

#[test]
fn any_changed_byte_of_a_note_is_refused() {
    let known = [NEUMANN.parse().unwrap()];
    for at in 0..NEUMANN_NOTE.len() {
        let mut note = NEUMANN_NOTE.as_bytes().to_vec();
        note[at] ^= 1;
        assert!(open_note(&note, &known).is_err(), "byte {at}");
        assert!(open_note(&note[..at], &known).is_err(), "cut at {at}");
    }
}

#[test]
fn verifier_keys_mistyped_or_of_other_types_are_refused() {
    let good = signer("example.com/log", 1).verifier_key().to_string();
    let (name_id, key) = good.rsplit_once('+').unwrap();
    for (text, error) in [
        (String::new(), KeyError::Shape),
        ("example.com".to_owned(), KeyError::Shape),
        (good.replace("example.com/log", ""), KeyError::Name),
        (good.replace("example.com/log", "a b"), KeyError::Name),
        (good.replace("example.com/log", "a\u{a0}b"), KeyError::Name),
        (good.replace("example.com/log", "a\nb"), KeyError::Name),
        (good.replace("example.com/log", "example.com/Log"), KeyError::Id),
        (name_id.to_uppercase() + "+" + key, KeyError::Id),
        (format!("{name_id}+{}", key.replacen('A', "B", 1)), KeyError::Type),
        (format!("{name_id}+AQ=="), KeyError::Shape),
        (format!("{name_id}+"), KeyError::Shape),
        (format!("{good} "), KeyError::Shape),
    ] {
        assert_eq!(text.parse::<VerifierKey>().unwrap_err(), error, "{text}");
    }
}

#[test]
fn signatures_of_unknown_keys_are_passed_over_also_under_a_known_name() {
    let (ours, other) = (signer("log", 1), signer("log", 2));
    let note = sign_note("text\n", &[&other, &ours, &signer("witness", 3)]).unwrap();
    assert_eq!(open_note(note.as_bytes(), &[key(&ours)]).unwrap().signers(), [key(&ours)]);
    let foreign = sign_note("text\n", &[&other]).unwrap();
    assert_eq!(open_note(foreign.as_bytes(), &[key(&ours)]), Err(NoteError::Unsigned));
    assert_eq!(open_note(foreign.as_bytes(), &[]), Err(NoteError::Unsigned));
}

#[test]
fn one_failing_signature_of_a_known_key_refuses_the_note_whoever_else_signed() {
    let (a, b) = (signer("a", 1), signer("b", 2));
    let one = sign_note("one\n", &[&a]).unwrap();
    let two = sign_note("two\n", &[&b]).unwrap();
    let line = two.lines().last().unwrap();
    let note = format!("{one}{line}\n");
    assert_eq!(open_note(note.as_bytes(), &[key(&a)]).unwrap().text(), "one\n");
    assert_eq!(
        open_note(note.as_bytes(), &[key(&a), key(&b)]),
        Err(NoteError::BadSignature("b".parse().unwrap()))
    );
}

#[test]
fn a_known_key_that_signs_twice_is_refused() {
    let a = signer("a", 1);
    let note = sign_note("one\n", &[&a, &a]).unwrap();
    assert_eq!(open_note(note.as_bytes(), &[key(&a)]), Err(NoteError::Duplicate("a".parse().unwrap())));
}

#[test]
fn sixteen_signatures_and_more_are_read_but_not_without_end() {
    let ours = signer("log", 0);
    let others: Vec<Signer> = (1..64).map(|n| signer(&format!("witness{n}"), n)).collect();
    let all: Vec<&Signer> = others.iter().chain([&ours]).collect();
    let note = sign_note("text\n", &all).unwrap();
    assert!(open_note(note.as_bytes(), &[key(&ours)]).is_ok());
    let more = format!("{note}{}\n", note.lines().last().unwrap());
    assert_eq!(open_note(more.as_bytes(), &[]), Err(NoteError::TooLong));
    let huge = "x".repeat(NOTE_MAX) + "\n";
    assert_eq!(open_note(huge.as_bytes(), &[]), Err(NoteError::TooLong));
    assert_eq!(sign_note(&huge, &[&ours]), Err(NoteError::TooLong));
}

#[test]
fn the_last_empty_line_separates() {
    let a = signer("a", 1);
    let inner = sign_note("inner\n", &[&a]).unwrap();
    for text in ["one\n\ntwo\n", "\n", "one\n\n", inner.as_str()] {
        let note = sign_note(text, &[&a]).unwrap();
        assert_eq!(open_note(note.as_bytes(), &[key(&a)]).unwrap().text(), text);
    }
}

#[test]
fn malformed_notes_and_texts_are_refused() {
    let a = signer("a", 1);
    for text in ["", "no line feed", "tab\t\n", "cr\r\n", "nul\0\n"] {
        assert!(matches!(sign_note(text, &[&a]), Err(NoteError::Malformed(_))), "{text:?}");
    }
    let good = sign_note("text\n", &[&a]).unwrap();
    for note in [
        good.trim_end().to_owned(),
        good.replace('—', "-"),
        good.replace("— a ", "— a  "),
        good.replace("— a ", "—  "),
        good.replace("— a ", "— a+b "),
        good.replace("\n\n", "\n"),
        good.replace("=\n", "\n"),
        format!("{good}\n"),
        format!("{good}trailing\n"),
        "text\n\n".to_owned(),
        "text\n\n— a AAAA\n".to_owned(),
    ] {
        assert!(matches!(open_note(note.as_bytes(), &[key(&a)]), Err(NoteError::Malformed(_))), "{note}");
    }
    assert!(open_note(b"\xff\n\n", &[]).is_err());
}

#[test]
fn debug_output_of_a_signer_does_not_contain_its_seed() {
    let seed = [0xa7; 32];
    let shown = format!("{:?}", Signer::ed25519("a".parse().unwrap(), &Secret::new(seed)).unwrap());
    assert!(shown.contains("a+"), "{shown}");
    assert!(!shown.contains("167") && !shown.to_lowercase().contains("a7a7"), "{shown}");
}

#[test]
fn checkpoints_read_and_print_in_one_spelling_only() {
    let text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
    let checkpoint: Checkpoint = text.parse().unwrap();
    assert_eq!((checkpoint.size, checkpoint.to_string().as_str()), (20_852_163, text));
    let empty = Checkpoint { origin: "a".parse().unwrap(), size: 0, root: empty_root() };
    assert_eq!(empty.to_string().parse(), Ok(empty));
    for bad in [
        String::new(),
        text.trim_end().to_owned(),
        text.replace("20852163", "020852163"),
        text.replace("20852163", "+20852163"),
        text.replace("20852163", "-1"),
        text.replace("20852163", "0x10"),
        text.replace("20852163", "20852163 "),
        text.replace("20852163", "18446744073709551616"),
        text.replace("20852163", ""),
        text.replace("20852163", "0"),
        text.replace("q2I=", "q2I"),
        text.replace("q2I=", "q2J="),
        text.replace("CsUY", ""),
        text.replace("example.com/behind-the-sofa", ""),
        text.replace("example.com/behind-the-sofa", "with space"),
        format!("{text}extension\n"),
        format!("{text}\n"),
        format!("\n{text}"),
    ] {
        assert!(matches!(bad.parse::<Checkpoint>(), Err(CheckpointError::Malformed(_))), "{bad}");
    }
}

#[test]
fn inv_tenant_a_checkpoint_of_one_log_does_not_pass_for_anothers() {
    let (a, b) = (signer("house/a/2026q4", 1), signer("house/b/2026q4", 2));
    let root = Digest::of(b"root");
    let note = Checkpoint::sign(&a, 7, root).unwrap();
    let known = [key(&a), key(&b)];
    assert_eq!(Checkpoint::open(note.as_bytes(), &known).unwrap().size, 7);
    assert_eq!(
        Checkpoint::open(note.as_bytes(), &[key(&b)]),
        Err(CheckpointError::Note(NoteError::Unsigned))
    );
    // B signs a checkpoint that claims to be A's.
    let text = Checkpoint { origin: "house/a/2026q4".parse().unwrap(), size: 7, root }.to_string();
    let forged = sign_note(&text, &[&b]).unwrap();
    assert_eq!(
        Checkpoint::open(forged.as_bytes(), &known),
        Err(CheckpointError::NotByItsLog("house/a/2026q4".parse().unwrap()))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn signed_note_verifies_what_we_sign(
        name in "[a-zé./0-9]{1,20}", seed in any::<[u8; 32]>(), text in "[^\\x00-\\x1f]{0,40}(\n[^\\x00-\\x1f]{0,9}){0,4}\n",
    ) {
        let signer = Signer::ed25519(name.parse().unwrap(), &Secret::new(seed)).unwrap();
        let note = sign_note(&text, &[&signer]).unwrap();
        let verifier = StandardVerifier::new(&signer.verifier_key().to_string()).unwrap();
        let theirs = Note::from_bytes(note.as_bytes()).unwrap();
        let known = VerifierList::new(vec![Box::new(verifier)]);
        prop_assert_eq!(theirs.verify(&known).unwrap().0.len(), 1);
        prop_assert_eq!(theirs.text(), text.as_bytes());
        let ours = open_note(note.as_bytes(), &[key(&signer)]).unwrap();
        prop_assert_eq!(ours.text(), text);
    }

    #[test]
    fn damaged_notes_are_judged_as_signed_note_does(at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let signer = signer("example.com/log", 9);
        let mut note = sign_note("one\n\ntwo\n", &[&signer]).unwrap().into_bytes();
        let at = at.index(note.len());
        note[at] = to;
        let verifier = StandardVerifier::new(&signer.verifier_key().to_string()).unwrap();
        let known = VerifierList::new(vec![Box::new(verifier)]);
        let theirs = Note::from_bytes(&note).ok().filter(|note| note.verify(&known).is_ok());
        let ours = open_note(&note, &[key(&signer)]).ok();
        prop_assert_eq!(
            ours.as_ref().map(|note| note.text().as_bytes()),
            theirs.as_ref().map(signed_note::Note::text)
        );
    }

    #[test]
    fn hostile_checkpoints_do_not_panic(text in "[a-z]{0,3}\n[0-9]{0,22}\n[A-Za-z0-9+/=]{0,45}\n?") {
        if let Ok(checkpoint) = text.parse::<Checkpoint>() {
            prop_assert_eq!(checkpoint.to_string(), text);
        }
    }
}
