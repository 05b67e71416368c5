use bartizan_base::Digest;
use bartizan_ledger::{Checkpoint, CheckpointError, NOTE_MAX, Note, NoteError, NoteSigner, VerifierKey};
use proptest::prelude::*;
use signed_note::{StandardVerifier, VerifierList};

use crate::world::signer;

/// The example of Go's `sumdb/note`, which the specification generalises.
const NEUMANN: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const NEUMANN_NOTE: &str = "If you think cryptography is the answer to your problem,\n\
    then you don't know what your problem is.\n\
    \n\
    — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

fn key(signer: &NoteSigner) -> VerifierKey {
    signer.verifier().clone()
}

/// The signature lines of a note.
fn lines(note: &str) -> &str {
    note.rsplit_once("\n\n").unwrap().1
}

#[test]
fn the_published_example_note_opens() {
    let known = [NEUMANN.parse::<VerifierKey>().unwrap()];
    assert!(Note::open(NEUMANN_NOTE.as_bytes(), &known).unwrap().text.ends_with("your problem is.\n"));
    assert_eq!(known[0].to_string(), NEUMANN);
}

/// The example of the specification.
const FOO: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
const FOO_NOTE: &str = "This is an example message.\n\n\
    — example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

#[test]
fn the_specifications_example_note_opens_under_its_own_key_only() {
    assert!(Note::open(FOO_NOTE.as_bytes(), &[FOO.parse().unwrap()]).is_ok());
    assert_eq!(Note::open(FOO_NOTE.as_bytes(), &[NEUMANN.parse().unwrap()]), Err(NoteError::Unsigned));
}

#[test]
fn a_known_key_that_signs_twice_refuses_the_note_an_unknown_one_does_not() {
    let (a, b) = (signer("a", 1), signer("b", 2));
    let once = a.sign("text\n");
    let twice = format!("{once}{}{}", lines(&b.sign("text\n")), lines(&once));
    assert_eq!(Note::open(twice.as_bytes(), &[key(&a)]), Err(NoteError::Duplicate));
    assert!(Note::open(twice.as_bytes(), &[key(&b)]).is_ok());
}

#[test]
fn any_changed_byte_of_a_note_is_refused() {
    let known = [NEUMANN.parse().unwrap()];
    for at in 0..NEUMANN_NOTE.len() {
        let mut note = NEUMANN_NOTE.as_bytes().to_vec();
        note[at] ^= 1;
        assert!(Note::open(&note, &known).is_err(), "byte {at}");
        assert!(Note::open(&note[..at], &known).is_err(), "cut at {at}");
    }
}

#[test]
fn verifier_keys_mistyped_or_of_other_types_are_refused() {
    let good = signer("example.com/log", 1).verifier().to_string();
    let (name_id, key) = good.rsplit_once('+').unwrap();
    for text in [
        String::new(),
        "example.com".to_owned(),
        good.replace("example.com/log", ""),
        good.replace("example.com/log", "a b"),
        good.replace("example.com/log", "a\u{a0}b"),
        good.replace("example.com/log", "a\nb"),
        good.replace("example.com/log", "example.com/Log"),
        name_id.to_uppercase() + "+" + key,
        format!("{name_id}+{}", key.replacen('A', "B", 1)),
        format!("{name_id}+AQ=="),
        format!("{name_id}+"),
        format!("{good} "),
    ] {
        assert_eq!(text.parse::<VerifierKey>(), Err(NoteError::Key), "{text}");
    }
}

#[test]
fn names_that_cannot_stand_in_a_note_do_not_sign() {
    for name in ["", "a b", "a+b", "a\u{2003}b", "a\nb", "a\0", "a\u{85}"] {
        assert!(NoteSigner::from_seed(name, &[1; 32]).is_err(), "{name:?}");
    }
}

#[test]
fn signatures_of_unknown_keys_are_passed_over_also_under_a_known_name() {
    let (ours, other) = (signer("log", 1), signer("log", 2));
    let foreign = other.sign("text\n");
    let note = format!("{foreign}{}{}", lines(&ours.sign("text\n")), lines(&signer("w", 3).sign("text\n")));
    assert_eq!(Note::open(note.as_bytes(), &[key(&ours)]).unwrap().text, "text\n");
    assert_eq!(Note::open(foreign.as_bytes(), &[key(&ours)]), Err(NoteError::Unsigned));
    assert_eq!(Note::open(foreign.as_bytes(), &[]), Err(NoteError::Unsigned));
}

#[test]
fn one_failing_signature_of_a_known_key_refuses_the_note_whoever_else_signed() {
    let (a, b) = (signer("a", 1), signer("b", 2));
    let note = format!("{}{}", a.sign("one\n"), lines(&b.sign("two\n")));
    assert_eq!(Note::open(note.as_bytes(), &[key(&a)]).unwrap().text, "one\n");
    assert_eq!(Note::open(note.as_bytes(), &[key(&a), key(&b)]), Err(NoteError::Signature));
}

#[test]
fn sixteen_signatures_and_more_are_read_but_not_without_end() {
    let ours = signer("log", 0);
    let mut note = ours.sign("text\n");
    for n in 1..=15 {
        note += lines(&signer(&format!("witness{n}"), n).sign("text\n"));
    }
    assert!(Note::open(note.as_bytes(), &[key(&ours)]).is_ok());
    note += &lines(&signer("w", 99).sign("text\n")).repeat(200);
    assert_eq!(Note::open(note.as_bytes(), &[key(&ours)]), Err(NoteError::Shape));
    let huge = ours.sign(&("x".repeat(NOTE_MAX) + "\n"));
    assert_eq!(Note::open(huge.as_bytes(), &[key(&ours)]), Err(NoteError::Shape));
}

#[test]
fn the_last_empty_line_separates() {
    let a = signer("a", 1);
    let inner = a.sign("inner\n");
    for text in ["one\n\ntwo\n", "\n", "one\n\n", inner.as_str()] {
        let note = a.sign(text);
        assert_eq!(Note::open(note.as_bytes(), &[key(&a)]).unwrap().text, text);
    }
}

#[test]
fn malformed_notes_are_refused() {
    let a = signer("a", 1);
    let good = a.sign("text\n");
    for note in [
        a.sign("tab\t\n"),
        a.sign("cr\r\n"),
        a.sign("nul\0\n"),
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
        "text\n\n— a AAA=\n".to_owned(),
        String::new(),
    ] {
        assert_eq!(Note::open(note.as_bytes(), &[key(&a)]), Err(NoteError::Shape), "{note}");
    }
    assert_eq!(Note::open(b"\xff\n\n", &[]), Err(NoteError::Shape));
}

#[test]
fn debug_output_of_a_signer_does_not_contain_its_seed() {
    let shown = format!("{:?}", NoteSigner::from_seed("a", &[0xa7; 32]).unwrap());
    assert!(shown.contains("a+"), "{shown}");
    assert!(!shown.contains("167") && !shown.to_lowercase().contains("a7a7"), "{shown}");
}

/// What `text` is taken for when the log of its first line has signed it.
fn open_signed(text: &str) -> Result<Checkpoint, CheckpointError> {
    let log = signer("log", 1);
    Checkpoint::open(log.sign(text).as_bytes(), log.verifier())
}

#[test]
fn checkpoints_read_and_print_in_one_spelling_only() {
    let text = "log\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
    let checkpoint = open_signed(text).unwrap();
    assert_eq!((checkpoint.size, checkpoint.text().as_str()), (20_852_163, text));
    for bad in [
        text.replace("20852163", "020852163"),
        text.replace("20852163", "+20852163"),
        text.replace("20852163", "-1"),
        text.replace("20852163", "0x10"),
        text.replace("20852163", "20852163 "),
        text.replace("20852163", "18446744073709551616"),
        text.replace("20852163", ""),
        text.replace("q2I=", "q2I"),
        text.replace("q2I=", "q2J="),
        text.replace("CsUY", ""),
        text.replace("log\n", "\n"),
        text.replace("log\n", ""),
        format!("{text}\n"),
        format!("{text}\nextension\n"),
        format!("\n{text}"),
        "\n".to_owned(),
    ] {
        assert_eq!(open_signed(&bad), Err(CheckpointError::Shape), "{bad:?}");
    }
}

#[test]
fn inv_tenant_a_checkpoint_of_one_log_does_not_pass_for_anothers() {
    // One seed serves all logs of a house; the name tells them apart.
    let (a, b) = (signer("house/a/2026q4", 1), signer("house/b/2026q4", 1));
    let checkpoint = Checkpoint { origin: "house/a/2026q4".to_owned(), size: 7, root: Digest::of(b"root") };
    let note = checkpoint.sign(&a);
    assert_eq!(Checkpoint::open(note.as_bytes(), a.verifier()).unwrap(), checkpoint);
    let unsigned = Err(CheckpointError::Note(NoteError::Unsigned));
    assert_eq!(Checkpoint::open(note.as_bytes(), b.verifier()), unsigned);
    // Also not when B's key signs what claims to be A's.
    assert_eq!(Checkpoint::open(checkpoint.sign(&b).as_bytes(), b.verifier()), Err(CheckpointError::Origin));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn signed_note_verifies_what_we_sign(
        name in "[a-zé./0-9]{1,20}",
        seed in any::<[u8; 32]>(),
        text in "[^\\x00-\\x1f]{0,40}(\n[^\\x00-\\x1f]{0,9}){0,4}\n",
    ) {
        let signer = NoteSigner::from_seed(&name, &seed).unwrap();
        let note = signer.sign(&text);
        let verifier = StandardVerifier::new(&signer.verifier().to_string()).unwrap();
        let theirs = signed_note::Note::from_bytes(note.as_bytes()).unwrap();
        let known = VerifierList::new(vec![Box::new(verifier)]);
        prop_assert_eq!(theirs.verify(&known).unwrap().0.len(), 1);
        prop_assert_eq!(theirs.text(), text.as_bytes());
        prop_assert_eq!(Note::open(note.as_bytes(), &[key(&signer)]).unwrap().text, text);
    }

    #[test]
    fn damaged_notes_are_judged_as_signed_note_does(at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let signer = signer("example.com/log", 9);
        let mut note = signer.sign("one\n\ntwo\n").into_bytes();
        let at = at.index(note.len());
        note[at] = to;
        let verifier = StandardVerifier::new(&signer.verifier().to_string()).unwrap();
        let known = VerifierList::new(vec![Box::new(verifier)]);
        let theirs = signed_note::Note::from_bytes(&note).ok().filter(|note| note.verify(&known).is_ok());
        let ours = Note::open(&note, &[key(&signer)]).ok();
        prop_assert_eq!(
            ours.as_ref().map(|note| note.text.as_bytes()),
            theirs.as_ref().map(signed_note::Note::text)
        );
    }

    #[test]
    fn hostile_checkpoints_do_not_panic(text in "(log)?\n[0-9]{0,22}\n[A-Za-z0-9+/=]{0,45}\n{0,2}") {
        if let Ok(checkpoint) = open_signed(&text) {
            prop_assert_eq!(checkpoint.text(), text);
        }
    }
}
