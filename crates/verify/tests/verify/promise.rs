//! Promises held against logs that keep them, lose them, or never knew them.

use std::fs;

use bartizan_ledger::{SignedBatch, leaf_hash};
use bartizan_verify::{Reason, verify_promise};

use crate::world::{Log, ORIGIN, entry, key, other_key, signer};

/// The header of the answer that acknowledged the entry `index`, in a batch with its neighbours.
fn header(index: u64) -> String {
    let leaves = (index..index + 3).map(|i| leaf_hash(&entry(i))).collect();
    let promise = SignedBatch::sign("log.example", leaves, &signer()).unwrap().promise(0).unwrap();
    format!("{ORIGIN};nod_x;{index};{};{promise}", leaf_hash(&entry(index)))
}

fn reason(header: &str, key: &bartizan_ledger::VerifierKey, log: Option<&Log>) -> Option<Reason> {
    let report = verify_promise(header, key, log.map(|log| log.folder.path()));
    let fault = report.checks.iter().find(|c| !c.ok).and_then(|c| c.faults.first()).map(|f| f.reason);
    assert_eq!(report.ok, fault.is_none(), "{report}");
    fault
}

#[test]
fn a_kept_promise_names_its_entry_in_logs_of_every_size_around_a_bundle() {
    for size in [3, 255, 256, 257, 600] {
        let log = Log::of(size);
        for index in [0, size / 2, size - 1] {
            assert_eq!(reason(&header(index), &key(), Some(&log)), None, "{index} of {size}");
        }
        let report = verify_promise(&header(size - 1), &key(), Some(log.folder.path()));
        assert!(report.to_string().contains(&format!("it is entry {}", size - 1)), "{report}");
    }
}

#[test]
fn a_log_that_was_cut_or_rewritten_under_its_own_key_has_broken_its_promise() {
    let log = Log::of(10);
    assert_eq!(reason(&header(10), &key(), Some(&log)), Some(Reason::PromiseBroken));
    assert_eq!(reason(&header(10), &key(), None), None, "the promise itself stands");
}

#[test]
fn what_was_not_signed_by_the_key_about_this_record_of_this_log_is_no_promise() {
    let log = Log::of(10);
    let good = header(4);
    assert_eq!(reason(&good, &other_key(), Some(&log)), Some(Reason::Checkpoint));
    assert_eq!(reason(&good, &other_key(), None), Some(Reason::PromiseUnsigned));
    let other_leaf = good.replace(&leaf_hash(&entry(4)).to_string(), &leaf_hash(&entry(5)).to_string());
    assert_eq!(reason(&other_leaf, &key(), None), Some(Reason::PromiseUnsigned));
    assert_eq!(reason(&good.replace("default", "another"), &key(), None), Some(Reason::UnknownLog));
    let cut = good.strip_suffix('=').unwrap();
    for bad in ["", "a;b;c", cut, &good.replace(';', ",")] {
        assert_eq!(reason(bad, &key(), None), Some(Reason::NotAPromise), "{bad}");
    }
    fs::remove_file(log.folder.path().join("checkpoint")).unwrap();
    assert!(reason(&good, &key(), Some(&log)).is_some());
}
