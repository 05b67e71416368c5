//! A witnessed receipt as files: two proofs, one line that answers.

use std::fs;
use std::path::PathBuf;

use bartizan_ledger::{
    Appender, Checkpoint, Cosigner, NoteSigner, Receipt, WitnessedReceipt, inclusion_proof, leaf_hash,
    prove_inclusion,
};

use crate::command::{run, text};
use crate::world::{Log, ORIGIN, entry, key};

const OPERATOR: &str = "log.example/operator/all";

fn witness(n: u8) -> Cosigner {
    Cosigner::from_seed(&format!("w{n}.example"), &[100 + n; 32]).unwrap()
}

/// Two of three witnesses, of any log.
fn policy() -> String {
    let lines: String = (1..=3).map(|n| format!("witness w{n} {}\n", witness(n).verifier())).collect();
    format!("{lines}group g 2 w1 w2 w3\nquorum g\n")
}

/// The receipt of the entry 7, with these witnesses.
fn receipt(log: &Log, by: &[u8]) -> WitnessedReceipt {
    let note = String::from_utf8(log.checkpoint()).unwrap();
    let head = Checkpoint::open(note.as_bytes(), &key()).unwrap();
    let told = format!(
        r#"{{"event":"checkpoint","kind":"system","origin":"{ORIGIN}","root":"{}","size":{},"tenant":"operator","v":1}}"#,
        head.root, head.size
    );
    let entries = [b"{}".to_vec(), told.clone().into_bytes()];
    let mut appender = Appender::new();
    for entry in &entries {
        appender.append(entry).unwrap();
    }
    let operator = Checkpoint { origin: OPERATOR.to_owned(), size: 2, root: appender.root() };
    let mut checkpoint = operator.sign(&NoteSigner::from_seed(OPERATOR, &[7; 32]).unwrap());
    for n in by {
        checkpoint += &witness(*n).cosign(&operator.text(), 1_790_000_000).unwrap();
    }
    let leaves: Vec<_> = entries.iter().map(|entry| leaf_hash(entry)).collect();
    WitnessedReceipt {
        receipt: Receipt {
            index: 7,
            proof: prove_inclusion(log, head.size, 7).unwrap(),
            checkpoint: note,
            extra: None,
        },
        told: told.into_bytes(),
        witnessed: Receipt { index: 1, proof: inclusion_proof(&leaves, 1).unwrap(), checkpoint, extra: None },
    }
}

struct Files {
    _folder: tempfile::TempDir,
    proof: PathBuf,
    entry: PathBuf,
    policy: PathBuf,
}

fn files(proof: &str, of: u64) -> Files {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let files = Files { proof: at("proof"), entry: at("entry"), policy: at("policy"), _folder: folder };
    fs::write(&files.proof, proof).unwrap();
    fs::write(&files.entry, entry(of)).unwrap();
    fs::write(&files.policy, policy()).unwrap();
    files
}

fn verify(files: &Files, policy: bool) -> (Option<i32>, String) {
    let key = key().to_string();
    let mut arguments = vec!["receipt", text(&files.proof), "--entry", text(&files.entry), "--key", &key];
    if policy {
        arguments.extend(["--policy", text(&files.policy)]);
    }
    run(&arguments)
}

#[test]
fn one_command_says_that_the_entry_was_in_the_log_that_so_many_witnesses_cosigned() {
    let log = Log::of(20);
    let (code, out) = verify(&files(&receipt(&log, &[1, 3]).text(), 7), true);
    assert_eq!(code, Some(0), "{out}");
    assert_eq!(
        out,
        "ok   receipt: entry 7 of 20 in log.example/default/2026q4\n\
         ok   told: entry 1 of 2 in log.example/operator/all\n\
         ok   witnessed: the entry was in the log that 2 witnesses cosigned: w1.example at \
         2026-09-21T14:13:20.000Z, w3.example at 2026-09-21T14:13:20.000Z\n"
    );
}

#[test]
fn what_does_not_hold_exits_1_with_its_reason_and_never_the_answer() {
    let log = Log::of(20);
    let good = receipt(&log, &[1, 3]);
    let mixed = WitnessedReceipt { receipt: receipt(&Log::of(21), &[]).receipt, ..good.clone() };
    for (proof, of, with_policy, reason) in [
        (receipt(&log, &[2]).text(), 7, true, "(`g` needs 2 of 3 and has 1"),
        (good.text(), 8, true, "does not lead from the entry"),
        (good.text(), 7, false, "(`--policy`)"),
        (mixed.text(), 7, true, "holds proofs that do not make one"),
        (good.text().replace("\ntold ", "\ntold  "), 7, true, "is not a receipt"),
        (good.text() + "\n", 7, true, "is not a checkpoint of this log"),
    ] {
        let (code, out) = verify(&files(&proof, of), with_policy);
        assert_eq!(code, Some(1), "{out}");
        assert!(out.starts_with("FAIL receipt:") && !out.contains("witnesses cosigned"), "{out}");
        assert!(out.contains(reason), "{reason}: {out}");
    }
}
