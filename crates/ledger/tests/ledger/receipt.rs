use bartizan_ledger::{
    Checkpoint, CheckpointError, NoteError, ProofError, Receipt, VerifierKey, leaf_hash, prove_inclusion,
};

use crate::world::{MemoryLog, entry, signer};

const ORIGIN: &str = "example.com/default/2026q4";

fn receipt(size: u64, index: u64) -> Receipt {
    let log = MemoryLog::of(size);
    Receipt {
        index,
        proof: prove_inclusion(&log, size, index).unwrap(),
        checkpoint: Checkpoint { origin: ORIGIN.to_owned(), size, root: log.appender.root() }
            .sign(&signer(ORIGIN, 1)),
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
        assert_eq!(Receipt::parse(&with_extra), Ok(receipt));
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
