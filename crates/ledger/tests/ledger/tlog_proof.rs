use bartizan_ledger::{
    Checkpoint, CheckpointError, NoteError, TLOG_PROOF_MAX, TlogProof, TlogProofError, prove_inclusion,
};

use crate::world::{MemoryLog, entry, signer};

const ORIGIN: &str = "example.com/default/2026q4";

fn proof(size: u64, index: u64) -> TlogProof {
    let log = MemoryLog::of(size);
    TlogProof {
        extra: None,
        index,
        hashes: prove_inclusion(&log, size, index).unwrap(),
        checkpoint: Checkpoint::sign(&signer(ORIGIN, 1), size, log.appender.root()).unwrap(),
    }
}

fn known() -> [bartizan_ledger::VerifierKey; 1] {
    [signer(ORIGIN, 1).verifier_key().clone()]
}

#[test]
fn receipts_round_trip_and_verify() {
    for (size, index) in [(1, 0), (2, 1), (300, 0), (300, 299), (257, 256)] {
        for extra in [None, Some(Vec::new()), Some(b"why".to_vec())] {
            let proof = TlogProof { extra, ..proof(size, index) };
            let read = TlogProof::from_bytes(proof.to_string().as_bytes()).unwrap();
            assert_eq!(read, proof);
            assert_eq!(read.verify(&entry(index), &known()).unwrap().size, size);
        }
    }
}

#[test]
fn a_receipt_holds_for_its_own_entry_index_and_key_only() {
    let good = proof(300, 7);
    assert!(matches!(good.verify(&entry(8), &known()), Err(TlogProofError::NotIncluded(_))));
    let moved = TlogProof { index: 8, ..good.clone() };
    assert!(matches!(moved.verify(&entry(7), &known()), Err(TlogProofError::NotIncluded(_))));
    assert_eq!(
        good.verify(&entry(7), &[signer(ORIGIN, 2).verifier_key().clone()]),
        Err(TlogProofError::Checkpoint(CheckpointError::Note(NoteError::Unsigned)))
    );
    let replayed = TlogProof { checkpoint: proof(301, 7).checkpoint, ..good };
    assert!(matches!(replayed.verify(&entry(7), &known()), Err(TlogProofError::NotIncluded(_))));
}

#[test]
fn any_changed_byte_of_a_receipt_is_refused() {
    let text = proof(20, 11).to_string();
    for at in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1;
        let verified = TlogProof::from_bytes(&bytes).and_then(|proof| proof.verify(&entry(11), &known()));
        assert!(verified.is_err(), "byte {at}");
        let cut = TlogProof::from_bytes(&text.as_bytes()[..at]);
        assert!(cut.and_then(|proof| proof.verify(&entry(11), &known())).is_err(), "cut at {at}");
    }
}

#[test]
fn malformed_receipts_are_refused() {
    let good = proof(20, 11).to_string();
    let hash = good.lines().nth(2).unwrap();
    for bad in [
        good.replace("@v1", "@v2"),
        good.replace("index 11", "index 011"),
        good.replace("index 11", "index +11"),
        good.replace("index 11\n", ""),
        good.replace("index 11", "extra !\nindex 11"),
        good.replace("index 11", "extra YQ==\nextra YQ==\nindex 11"),
        good.replace("index 11", "index 11\nindex 11"),
        good.replace("index 11", &format!("index 11{}", format!("\n{hash}").repeat(64))),
        good.replace('\n', "\r\n"),
        good.replace("\n\n", "\n"),
        String::new(),
    ] {
        assert!(matches!(TlogProof::from_bytes(bad.as_bytes()), Err(TlogProofError::Malformed(_))), "{bad}");
    }
    assert_eq!(TlogProof::from_bytes(&vec![b'\n'; TLOG_PROOF_MAX + 1]), Err(TlogProofError::TooLong));
}
