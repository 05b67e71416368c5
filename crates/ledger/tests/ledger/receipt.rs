use bartizan_ledger::{
    Checkpoint, CheckpointError, NoteError, Policy, ProofError, Receipt, ReceiptError, Refused, VerifierKey,
    leaf_hash, prove_inclusion,
};
use proptest::prelude::*;

use crate::world::{MemoryLog, cosigner, entry, signer};

const ORIGIN: &str = "example.com/default/2026q4";

fn receipt(size: u64, index: u64) -> Receipt {
    let log = MemoryLog::of(size);
    Receipt {
        index,
        proof: prove_inclusion(&log, size, index).unwrap(),
        checkpoint: Checkpoint { origin: ORIGIN.to_owned(), size, root: log.appender.root() }
            .sign(&signer(ORIGIN, 1)),
        extra: None,
    }
}

fn key(seed: u8) -> VerifierKey {
    signer(ORIGIN, seed).verifier().clone()
}

#[test]
fn receipts_round_trip_and_verify() {
    for (size, index) in [(1, 0), (2, 1), (300, 0), (300, 299), (257, 256)] {
        let receipt = receipt(size, index);
        let read = Receipt::parse(&receipt.text()).unwrap();
        assert_eq!(read, receipt);
        assert_eq!(read.verify(leaf_hash(&entry(index)), &key(1)).unwrap().size, size);
        let with_extra = receipt.text().replace("\nindex", "\nextra d2h5\nindex");
        let kept = Receipt { extra: Some(b"why".to_vec()), ..receipt };
        assert_eq!(kept.text(), with_extra);
        assert_eq!(Receipt::parse(&with_extra), Ok(kept));
    }
}

#[test]
fn a_receipt_holds_for_its_own_entry_index_key_and_checkpoint_only() {
    let good = receipt(300, 7);
    let leaf = leaf_hash(&entry(7));
    assert_eq!(good.verify(leaf_hash(&entry(8)), &key(1)), Err(ProofError::Root));
    assert!(Receipt { index: 8, ..good.clone() }.verify(leaf, &key(1)).is_err());
    assert!(Receipt { index: 300, ..good.clone() }.verify(leaf, &key(1)).is_err());
    assert_eq!(
        good.verify(leaf, &key(2)),
        Err(ProofError::Checkpoint(CheckpointError::Note(NoteError::Unsigned)))
    );
    let replayed = Receipt { checkpoint: receipt(301, 7).checkpoint, ..good };
    assert!(replayed.verify(leaf, &key(1)).is_err());
}

#[test]
fn any_changed_byte_of_a_receipt_is_refused() {
    let text = receipt(20, 11).text();
    let verify = |bytes: &[u8]| {
        let text = std::str::from_utf8(bytes).ok()?;
        Receipt::parse(text).ok()?.verify(leaf_hash(&entry(11)), &key(1)).ok()
    };
    assert!(verify(text.as_bytes()).is_some());
    for at in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1;
        assert_eq!(verify(&bytes), None, "byte {at}");
        assert_eq!(verify(&text.as_bytes()[..at]), None, "cut at {at}");
    }
}

#[test]
fn malformed_receipts_are_refused() {
    let good = receipt(20, 11).text();
    let hash = good.lines().nth(2).unwrap();
    for bad in [
        good.replace("@v1", "@v2"),
        good.replace("index 11", "index 011"),
        good.replace("index 11", "index +11"),
        good.replace("index 11", "index 18446744073709551616"),
        good.replace("index 11\n", ""),
        good.replace("index 11", "extra !\nindex 11"),
        good.replace("index 11", "extra YQ==\nextra YQ==\nindex 11"),
        good.replace("index 11", "index 11\nindex 11"),
        good.replace("index 11", &format!("index 11{}", format!("\n{hash}").repeat(64))),
        good.replace('\n', "\r\n"),
        good.replace("\n\n", "\n"),
        String::new(),
    ] {
        assert_eq!(Receipt::parse(&bad), Err(ProofError::Shape), "{bad}");
    }
}

#[test]
fn a_receipt_keeps_its_cosignatures_and_holds_only_under_a_policy_they_satisfy() {
    let (w1, w2) = (cosigner("w1.example", 11), cosigner("w2.example", 12));
    let mut good = receipt(300, 7);
    let text = good.checkpoint.split_once("\n\n").unwrap().0.to_owned() + "\n";
    good.checkpoint += &w1.cosign(&text, 5).unwrap();
    let good = Receipt::parse(&good.text()).unwrap();
    let policy = |quorum: &str| {
        let (w1, w2) = (w1.verifier(), w2.verifier());
        let text =
            format!("log {}\nwitness a {w1}\nwitness b {w2}\ngroup both all a b\nquorum {quorum}\n", key(1));
        Policy::parse(text.as_bytes()).unwrap()
    };
    let leaf = leaf_hash(&entry(7));
    let cosigned = good.verify_under(leaf, &key(1), &policy("a")).unwrap();
    assert_eq!((cosigned.checkpoint.size, cosigned.cosignatures.len()), (300, 1));
    let missing = good.verify_under(leaf, &key(1), &policy("both")).unwrap_err();
    assert_eq!(missing.to_string(), "`both` needs 2 of 2 and has 1 (`b` has not cosigned)");
    assert_eq!(
        good.verify_under(leaf_hash(b"other"), &key(1), &policy("a")),
        Err(ReceiptError::Proof(ProofError::Root))
    );
    assert_eq!(
        good.verify_under(leaf, &key(2), &policy("a")),
        Err(ReceiptError::Policy(Refused::UnknownLog))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn receipts_round_trip_byte_for_byte(
        index in any::<u64>(),
        proof in prop::collection::vec(any::<[u8; 32]>(), 0..=64),
        extra in prop::option::of(prop::collection::vec(any::<u8>(), 0..100)),
        checkpoint in "[a-z\n]{0,40}",
    ) {
        let proof = proof.into_iter().map(bartizan_base::Digest::from_bytes).collect();
        let receipt = Receipt { index, proof, checkpoint, extra };
        prop_assert_eq!(Receipt::parse(&receipt.text()), Ok(receipt));
    }
}
