use std::fs;

use bartizan_ledger::{
    Checkpoint, Cosigner, NOTE_MAX, Policy, Receipt, add_cosignatures, prove_inclusion, read_cosignatures,
};
use bartizan_verify::{Demand, Reason, Report, verify_log, verify_receipt_under};

use crate::command::{run, text};
use crate::world::{Log, entry, faults, key};

fn witness(n: u8) -> Cosigner {
    Cosigner::from_seed(&format!("w{n}.example"), &[100 + n; 32]).unwrap()
}

/// Two of three witnesses.
fn policy() -> String {
    let lines: String = (1..=3).map(|n| format!("witness w{n} {}\n", witness(n).verifier())).collect();
    format!("log {}\n{lines}group g 2 w1 w2 w3\nquorum g\n", key())
}

/// The log's checkpoint, cosigned by these.
fn cosigned(log: &Log, by: &[u8]) -> String {
    let signed = String::from_utf8(log.checkpoint()).unwrap();
    let body = Checkpoint::open(signed.as_bytes(), &key()).unwrap().text();
    by.iter().fold(signed, |signed, n| {
        let line = witness(*n).cosign(&body, 1_790_000_000).unwrap();
        let read = read_cosignatures(line.as_bytes(), &signed, &[witness(*n).verifier().clone()]).unwrap();
        add_cosignatures(&signed, &read).unwrap()
    })
}

fn verify(log: &Log, checkpoint: &str) -> Report {
    fs::write(log.path("checkpoint"), checkpoint).unwrap();
    let policy = Policy::parse(policy().as_bytes()).unwrap();
    let demand = Demand { key: &key(), old: None, policy: Some(&policy), growing: false };
    verify_log(log.folder.path(), &demand)
}

#[test]
fn a_log_cosigned_by_the_quorum_holds_and_tells_by_whom() {
    let log = Log::of(300);
    let report = verify(&log, &cosigned(&log, &[3, 1]));
    assert!(report.ok, "{report}");
    let told =
        "quorum: cosigned by w1.example at 2026-09-21T14:13:20.000Z, w3.example at 2026-09-21T14:13:20.000Z";
    assert!(report.checks.iter().any(|check| check.what == told), "{report}");
}

#[test]
fn too_few_cosignatures_fail_the_quorum_and_nothing_else() {
    let log = Log::of(300);
    for by in [&[][..], &[2]] {
        let report = verify(&log, &cosigned(&log, by));
        assert_eq!(faults(&report), [("quorum", "checkpoint", None, Reason::Quorum)]);
        assert_eq!(report.checks.iter().filter(|check| !check.ok).count(), 1, "{report}");
    }
    let report = verify(&log, &cosigned(&log, &[2]));
    assert!(report.to_string().contains("(`g` needs 2 of 3 and has 1 (`w1` has not cosigned, "), "{report}");
}

#[test]
fn cosignatures_of_another_checkpoint_do_not_count() {
    let mut log = Log::of(300);
    let before = cosigned(&log, &[1, 2]);
    log.grow_to(301);
    let lines = before.rsplit_once("\n\n").unwrap().1.split_once('\n').unwrap().1.to_owned();
    let grafted = String::from_utf8(log.checkpoint()).unwrap() + &lines;
    assert_eq!(
        faults(&verify(&log, &grafted)),
        [("quorum", "checkpoint", None, Reason::Checkpoint)],
        "a known witness whose signature does not hold"
    );
}

#[test]
fn a_log_that_the_policy_does_not_list_is_refused() {
    let log = Log::of(3);
    let other = policy().replace(&key().to_string(), &crate::world::other_key().to_string());
    let policy = Policy::parse(other.as_bytes()).unwrap();
    fs::write(log.path("checkpoint"), cosigned(&log, &[1, 2])).unwrap();
    let demand = Demand { key: &key(), old: None, policy: Some(&policy), growing: false };
    let report = verify_log(log.folder.path(), &demand);
    assert_eq!(faults(&report), [("quorum", "checkpoint", None, Reason::UnknownLog)]);
}

#[test]
fn a_receipt_holds_with_its_quorum_only() {
    let log = Log::of(300);
    let folder = tempfile::tempdir().unwrap();
    let (file, leaf, policy_file) =
        (folder.path().join("r"), folder.path().join("e"), folder.path().join("p"));
    fs::write(&leaf, entry(7)).unwrap();
    fs::write(&policy_file, policy()).unwrap();
    let proof = prove_inclusion(&log, 300, 7).unwrap();
    let policy = Policy::parse(policy().as_bytes()).unwrap();
    for (by, holds) in [(&[1, 2][..], true), (&[1, 2, 3], true), (&[1], false), (&[], false)] {
        let receipt = Receipt { index: 7, proof: proof.clone(), checkpoint: cosigned(&log, by), extra: None };
        fs::write(&file, receipt.text()).unwrap();
        let report = verify_receipt_under(&file, &leaf, &key(), Some(&policy));
        assert_eq!(report.ok, holds, "{report}");
        assert!(verify_receipt_under(&file, &leaf, &key(), None).ok, "without the policy it holds");
        let key = key().to_string();
        let args =
            ["receipt", text(&file), "--entry", text(&leaf), "--key", &key, "--policy", text(&policy_file)];
        let (code, out) = run(&args);
        assert_eq!(code, Some(i32::from(!holds)), "{out}");
        assert!(holds || out.contains("is not cosigned as the policy demands"), "{out}");
    }
    fs::write(&leaf, entry(8)).unwrap();
    let report = verify_receipt_under(&file, &leaf, &key(), Some(&policy));
    assert!(!report.ok);
}

#[test]
fn a_checkpoint_swollen_with_lines_is_refused() {
    let log = Log::of(3);
    let stranger =
        witness(9).cosign(&Checkpoint::open(&log.checkpoint(), &key()).unwrap().text(), 1).unwrap();
    let many = cosigned(&log, &[1, 2]) + &stranger.repeat(98);
    assert_eq!(faults(&verify(&log, &many)), [("checkpoint", "checkpoint", None, Reason::Checkpoint)]);
    let long = cosigned(&log, &[1, 2]) + &"x".repeat(NOTE_MAX);
    assert_eq!(faults(&verify(&log, &long)), [("checkpoint", "checkpoint", None, Reason::TooLong)]);
}
