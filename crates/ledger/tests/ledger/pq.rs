use bartizan_base::Digest;
use bartizan_ledger::{
    Checkpoint, CheckpointError, CosignError, Cosigner, CosignerKey, NoteError, Policy, VerifierKey,
};

use crate::world::{cosigner, signer};

const ORIGIN: &str = "log.example";

fn checkpoint() -> Checkpoint {
    Checkpoint { origin: ORIGIN.to_owned(), size: 5, root: Digest::of(b"root") }
}

fn witness() -> Cosigner {
    Cosigner::ml_dsa_44_from_seed("w.example", &[3; 32]).unwrap()
}

fn log() -> VerifierKey {
    signer(ORIGIN, 1).verifier().clone()
}

#[test]
fn ml_dsa_cosignatures_stand_beside_those_of_ed25519() {
    let (pq, classic) = (witness(), cosigner("w.example", 3));
    let keys = [pq.verifier().clone(), classic.verifier().clone()];
    for key in &keys {
        assert_eq!(key.to_string().parse::<CosignerKey>().as_ref(), Ok(key));
    }
    let text = checkpoint().text();
    let note = checkpoint().sign(&signer(ORIGIN, 1))
        + &pq.cosign(&text, 7).unwrap()
        + &classic.cosign(&text, 8).unwrap();
    let cosigned = Checkpoint::open_cosigned(note.as_bytes(), &log(), &keys).unwrap();
    let times: Vec<_> = cosigned.cosignatures.iter().map(bartizan_ledger::Cosignature::time_s).collect();
    assert_eq!(times, [7, 8]);
    let policy = format!("witness a {}\nwitness b {}\ngroup g all a b\nquorum g\n", keys[0], keys[1]);
    assert!(Policy::parse(policy.as_bytes()).unwrap().open_signed_by(note.as_bytes(), &log()).is_ok());
}

#[test]
fn an_ml_dsa_cosignature_holds_for_its_name_time_and_tree_only() {
    let pq = witness();
    let line = pq.cosign(&checkpoint().text(), 7).unwrap();
    let open = |checkpoint: &Checkpoint, cosigner: &Cosigner, line: &str| {
        let note = checkpoint.sign(&signer(&checkpoint.origin, 1)) + line;
        let log = signer(&checkpoint.origin, 1).verifier().clone();
        Checkpoint::open_cosigned(note.as_bytes(), &log, &[cosigner.verifier().clone()])
            .map(|cosigned| cosigned.cosignatures.len())
    };
    assert_eq!(open(&checkpoint(), &pq, &line), Ok(1));
    let failed = Err(CheckpointError::Note(NoteError::Signature));
    for other in [
        Checkpoint { size: 6, ..checkpoint() },
        Checkpoint { root: Digest::of(b"other"), ..checkpoint() },
        Checkpoint { origin: "other.example".to_owned(), ..checkpoint() },
    ] {
        assert_eq!(open(&other, &pq, &line), failed);
    }
    // Under the same public key with another name it is an unknown key's line.
    let renamed = Cosigner::ml_dsa_44_from_seed("v.example", &[3; 32]).unwrap();
    assert_eq!(open(&checkpoint(), &renamed, &line), Ok(0));
}

#[test]
fn extension_lines_and_long_names_are_not_cosigned() {
    let text = checkpoint().text() + "extension\n";
    assert_eq!(witness().cosign(&text, 7), Err(CosignError::Checkpoint));
    assert!(cosigner("w", 3).cosign(&text, 7).is_ok(), "Ed25519 covers them");
    let long = Checkpoint { origin: "o".repeat(256), ..checkpoint() };
    assert_eq!(witness().cosign(&long.text(), 7), Err(CosignError::Key));
    let longest = Checkpoint { origin: "o".repeat(255), ..checkpoint() };
    assert!(witness().cosign(&longest.text(), 7).is_ok());
    assert_eq!(witness().cosign(&checkpoint().text(), 0), Err(CosignError::Time));
}
