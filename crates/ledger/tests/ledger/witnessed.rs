//! Two proofs, one answer: the entry was in the log that witnesses cosigned.

use bartizan_ledger::{
    Checkpoint, CheckpointError, Cosigner, NoteError, NoteSigner, Policy, ProofError, Receipt, ReceiptError,
    Refused, VerifierKey, WitnessedError, WitnessedReceipt, leaf_hash, prove_inclusion,
};

use crate::world::{MemoryLog, cosigner, entry, signer};

const ORIGIN: &str = "example.com/log/default/2026q4";
const OTHER: &str = "example.com/log/acme/2026q4";
const OPERATOR: &str = "example.com/log/operator/all";

/// A house with two logs of tenants and its log of logs.
struct House {
    seed: u8,
    operator: MemoryLog,
    told: Vec<Vec<u8>>,
}

impl House {
    fn new(seed: u8) -> Self {
        Self { seed, operator: MemoryLog::default(), told: Vec::new() }
    }

    fn tell(&mut self, told: String) -> u64 {
        self.operator.appender.append(told.as_bytes()).unwrap();
        for file in self.operator.appender.take_files() {
            self.operator.files.insert(file.tile, file.bytes);
        }
        self.told.push(told.into_bytes());
        self.told.len() as u64 - 1
    }

    /// The log of logs is told of a log of `size` entries.
    fn tell_of(&mut self, origin: &str, size: u64) -> u64 {
        let root = MemoryLog::of(size).appender.root();
        self.tell(format!(
            r#"{{"event":"checkpoint","kind":"system","origin":"{origin}","root":"{root}","size":{size},"tenant":"operator","v":1}}"#
        ))
    }

    fn receipt(&self, origin: &str, size: u64, index: u64) -> Receipt {
        let log = MemoryLog::of(size);
        receipt(&log, &signer(origin, self.seed), size, index)
    }

    /// The receipt of the entry `index` of the log of logs when it had `size` entries, cosigned.
    fn told(&self, size: u64, index: u64, witnesses: &[&Cosigner]) -> Receipt {
        let mut log = MemoryLog::default();
        for told in self.told.iter().take(usize::try_from(size).unwrap()) {
            log.appender.append(told).unwrap();
        }
        for file in log.appender.take_files() {
            log.files.insert(file.tile, file.bytes);
        }
        let mut receipt = receipt(&log, &signer(OPERATOR, self.seed), size, index);
        let text = receipt.checkpoint.split_once("\n\n").unwrap().0.to_owned() + "\n";
        for witness in witnesses {
            receipt.checkpoint += &witness.cosign(&text, 1_795_161_600).unwrap();
        }
        receipt
    }

    fn key(&self, origin: &str) -> VerifierKey {
        signer(origin, self.seed).verifier().clone()
    }
}

fn receipt(log: &MemoryLog, signer: &NoteSigner, size: u64, index: u64) -> Receipt {
    let root = log.appender.root();
    Receipt {
        index,
        proof: prove_inclusion(log, size, index).unwrap(),
        checkpoint: Checkpoint { origin: signer.verifier().name().to_owned(), size, root }.sign(signer),
        extra: None,
    }
}

fn witnesses() -> (Cosigner, Cosigner) {
    (cosigner("w1.example", 11), cosigner("w2.example", 12))
}

fn policy(log: Option<&VerifierKey>, quorum: &str) -> Policy {
    let (w1, w2) = witnesses();
    let log = log.map(|key| format!("log {key}\n")).unwrap_or_default();
    let text = format!(
        "{log}witness a {}\nwitness b {}\ngroup both all a b\nquorum {quorum}\n",
        w1.verifier(),
        w2.verifier()
    );
    Policy::parse(text.as_bytes()).unwrap()
}

/// A house that was told of 20 entries of one log, 25 of the other, and 33 of the first; the witnessed receipt of the
/// entry 7 of the first, as it was told first, under the log of logs of 3 entries.
fn good() -> (House, WitnessedReceipt) {
    let mut house = House::new(1);
    house.tell_of(ORIGIN, 20);
    house.tell_of(OTHER, 25);
    house.tell_of(ORIGIN, 33);
    let (w1, w2) = witnesses();
    let good = WitnessedReceipt {
        receipt: house.receipt(ORIGIN, 20, 7),
        told: house.told[0].clone(),
        witnessed: house.told(3, 0, &[&w1, &w2]),
    };
    (house, good)
}

fn refused(receipt: &WitnessedReceipt, house: &House, quorum: &str) -> WitnessedError {
    receipt.verify(leaf_hash(&entry(7)), &house.key(ORIGIN), &policy(None, quorum)).unwrap_err()
}

#[test]
fn an_entry_of_a_log_that_witnesses_cosigned_has_one_answer() {
    let (house, good) = good();
    let read = WitnessedReceipt::parse(&good.text()).unwrap();
    assert_eq!(read, good);
    let leaf = leaf_hash(&entry(7));
    for policy in [policy(None, "both"), policy(Some(&house.key(OPERATOR)), "both"), policy(None, "a")] {
        let answer = read.verify(leaf, &house.key(ORIGIN), &policy).unwrap();
        assert_eq!((answer.checkpoint.origin.as_str(), answer.checkpoint.size), (ORIGIN, 20));
        assert_eq!(
            (answer.cosigned.checkpoint.origin.as_str(), answer.cosigned.checkpoint.size),
            (OPERATOR, 3)
        );
        assert_eq!(answer.cosigned.cosignatures.len(), 2);
    }
    // What was told later does as well.
    let (w1, w2) = witnesses();
    let later = WitnessedReceipt {
        receipt: house.receipt(ORIGIN, 33, 7),
        told: house.told[2].clone(),
        witnessed: house.told(3, 2, &[&w1, &w2]),
    };
    assert_eq!(later.verify(leaf, &house.key(ORIGIN), &policy(None, "both")).unwrap().checkpoint.size, 33);
}

#[test]
fn a_receipt_of_another_entry_or_by_another_key_is_refused() {
    let (house, good) = good();
    let key = house.key(ORIGIN);
    let policy = policy(None, "both");
    assert_eq!(
        good.verify(leaf_hash(&entry(8)), &key, &policy),
        Err(WitnessedError::Entry(ProofError::Root))
    );
    let forged = WitnessedReceipt { receipt: House::new(2).receipt(ORIGIN, 20, 7), ..good.clone() };
    assert_eq!(
        refused(&forged, &house, "both"),
        WitnessedError::Entry(ProofError::Checkpoint(CheckpointError::Note(NoteError::Unsigned)))
    );
    // A log of logs by another key, though the witnesses have cosigned it.
    let mut theirs = House::new(2);
    theirs.tell_of(ORIGIN, 20);
    let (w1, w2) = witnesses();
    let forged = WitnessedReceipt { witnessed: theirs.told(1, 0, &[&w1, &w2]), ..good };
    assert!(matches!(refused(&forged, &house, "both"), WitnessedError::Told(_)));
    // One that the policy lists, and that is not this house's.
    let listed = self::policy(Some(&theirs.key(OPERATOR)), "both");
    assert!(matches!(
        forged.verify(leaf_hash(&entry(7)), &key, &listed),
        Err(WitnessedError::Told(ReceiptError::Policy(Refused::UnknownLog)))
    ));
}

#[test]
fn proofs_of_two_receipts_do_not_mix() {
    let (house, good) = good();
    let (w1, w2) = witnesses();
    // What was told at another size of the same log.
    let mixed = WitnessedReceipt {
        told: house.told[2].clone(),
        witnessed: house.told(3, 2, &[&w1, &w2]),
        ..good.clone()
    };
    assert_eq!(refused(&mixed, &house, "both"), WitnessedError::OtherHead);
    // The receipt at another size.
    let mixed = WitnessedReceipt { receipt: house.receipt(ORIGIN, 33, 7), ..good.clone() };
    assert_eq!(refused(&mixed, &house, "both"), WitnessedError::OtherHead);
    // An entry that was told beside the proof of another one.
    let mixed = WitnessedReceipt { told: house.told[2].clone(), ..good.clone() };
    assert_eq!(refused(&mixed, &house, "both"), WitnessedError::Told(ReceiptError::Proof(ProofError::Root)));
    // The two proofs the other way round.
    let mixed = WitnessedReceipt { receipt: good.witnessed.clone(), witnessed: good.receipt.clone(), ..good };
    assert!(matches!(refused(&mixed, &house, "both"), WitnessedError::Entry(_)));
}

#[test]
fn what_another_tenants_log_had_come_to_proves_nothing() {
    let (mut house, good) = good();
    let (w1, w2) = witnesses();
    let other = WitnessedReceipt {
        told: house.told[1].clone(),
        witnessed: house.told(3, 1, &[&w1, &w2]),
        ..good.clone()
    };
    assert_eq!(refused(&other, &house, "both"), WitnessedError::OtherLog(OTHER.to_owned()));
    // Also where the other log has the very same entries.
    let at = house.tell_of(OTHER, 20);
    let other = WitnessedReceipt {
        told: house.told[3].clone(),
        witnessed: house.told(4, at, &[&w1, &w2]),
        ..good.clone()
    };
    assert_eq!(refused(&other, &house, "both"), WitnessedError::OtherLog(OTHER.to_owned()));
    // And under the other tenant's key the receipt is none.
    let key = house.key(OTHER);
    assert!(matches!(
        good.verify(leaf_hash(&entry(7)), &key, &policy(None, "both")),
        Err(WitnessedError::Entry(_))
    ));
}

#[test]
fn a_checkpoint_of_the_log_of_logs_from_before_it_was_told_proves_nothing() {
    let (house, _) = good();
    let (w1, w2) = witnesses();
    let early = house.told(2, 1, &[&w1, &w2]);
    let late = house.told(3, 2, &[&w1, &w2]);
    let older = WitnessedReceipt {
        receipt: house.receipt(ORIGIN, 33, 7),
        told: house.told[2].clone(),
        witnessed: Receipt { checkpoint: early.checkpoint, ..late },
    };
    assert!(matches!(
        refused(&older, &house, "both"),
        WitnessedError::Told(ReceiptError::Proof(ProofError::Index | ProofError::Root | ProofError::Length))
    ));
}

#[test]
fn a_cosignature_that_is_missing_or_is_of_another_checkpoint_is_missed() {
    let (house, good) = good();
    let (w1, w2) = witnesses();
    let one = WitnessedReceipt { witnessed: house.told(3, 0, &[&w1]), ..good.clone() };
    assert_eq!(
        refused(&one, &house, "both").to_string(),
        "the log of logs: `both` needs 2 of 2 and has 1 (`b` has not cosigned)"
    );
    one.verify(leaf_hash(&entry(7)), &house.key(ORIGIN), &policy(None, "a")).unwrap();
    // Those of an older checkpoint under a newer one.
    let old = house.told(2, 0, &[&w1, &w2]);
    let lines: String = old.checkpoint.lines().rev().take(2).map(|line| format!("{line}\n")).collect();
    let mut transplanted = house.told(3, 0, &[]);
    transplanted.checkpoint += &lines;
    let transplanted = WitnessedReceipt { witnessed: transplanted, ..good.clone() };
    assert!(matches!(refused(&transplanted, &house, "both"), WitnessedError::Told(ReceiptError::Policy(_))));
    // A policy that demands nobody makes nobody's checkpoint a witnessed one.
    let nobody = WitnessedReceipt { witnessed: house.told(3, 0, &[]), ..good };
    assert_eq!(refused(&nobody, &house, "none"), WitnessedError::Nobody);
}

#[test]
fn only_an_entry_that_tells_of_a_checkpoint_is_one() {
    let (mut house, good) = good();
    let (w1, w2) = witnesses();
    let first = String::from_utf8(house.told[0].clone()).unwrap();
    for changed in [
        first.replace("\"checkpoint\"", "\"unwitnessed\""),
        first.replace("\"system\"", "\"outcome\""),
        first.replace("\"operator\"", "\"default\""),
        first.replace("\"size\":20", "\"size\":\"20\""),
        first.replace("\"size\":20", "\"size\":1,\"size\":20"),
        first.replace("\"v\":1}", "\"v\":1}}"),
        "checkpoint".to_owned(),
    ] {
        let at = house.tell(changed.clone());
        let size = at + 1;
        let receipt = WitnessedReceipt {
            told: changed.clone().into_bytes(),
            witnessed: house.told(size, at, &[&w1, &w2]),
            ..good.clone()
        };
        assert_eq!(refused(&receipt, &house, "both"), WitnessedError::NotTold, "{changed}");
    }
}

#[test]
fn the_key_must_be_that_of_a_log_of_a_house() {
    let house = House::new(1);
    assert_eq!(house.key(ORIGIN).log_of_logs(), Some(house.key(OPERATOR)));
    for name in ["example.com", "example.com/log", "/default/2026q4"] {
        assert_eq!(signer(name, 1).verifier().log_of_logs(), None, "{name}");
    }
}

#[test]
fn a_witnessed_receipt_has_one_spelling_and_no_byte_of_it_can_change() {
    let (house, good) = good();
    let text = good.text();
    assert!(WitnessedReceipt::is_meant(&text) && !WitnessedReceipt::is_meant(&good.receipt.text()));
    let (key, policy, leaf) = (house.key(ORIGIN), policy(None, "both"), leaf_hash(&entry(7)));
    let verify = |bytes: &[u8]| {
        WitnessedReceipt::parse(str::from_utf8(bytes).ok()?).ok()?.verify(leaf, &key, &policy).ok()
    };
    assert!(verify(text.as_bytes()).is_some());
    for at in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1;
        assert_eq!(verify(&bytes), None, "byte {at}");
        assert_eq!(verify(&text.as_bytes()[..at]), None, "cut at {at}");
    }
    for bad in [
        text.replace("witnessed-proof@v1", "witnessed-proof@v2"),
        text.replace("told ", "told  "),
        text.replace("\n\nc2sp", "\n\n\nc2sp"),
        format!("{text}\n"),
        format!("{text}\n{}", good.receipt.text()),
        text.replace('\n', "\r\n"),
        good.receipt.text(),
        format!("{}\n{}", good.receipt.text(), good.witnessed.text()),
    ] {
        assert_eq!(verify(bad.as_bytes()), None, "{bad}");
    }
}
