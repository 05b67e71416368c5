use std::fs;

use bartizan_ledger::{Checkpoint, NoteSigner, encode_bundle};
use bartizan_verify::Reason;

use crate::world::{Log, ORIGIN, entry, faults, key, signer};

#[test]
fn good_logs_verify_at_every_border_size() {
    for size in [0, 1, 2, 255, 256, 257, 511, 512, 513, 1_000] {
        let report = Log::of(size).verify(None);
        assert!(report.ok, "{size}:\n{report}");
        assert_eq!((report.size, report.origin.as_str()), (size, ORIGIN));
        assert_eq!(faults(&report), []);
        assert_eq!(report.notes, [] as [&str; 0]);
    }
}

#[test]
fn every_file_flipped_cut_lengthened_or_deleted_is_noticed() {
    for size in [1, 2, 255, 256, 257, 1_000] {
        let log = Log::of(size);
        for name in log.files() {
            let good = fs::read(log.path(&name)).unwrap();
            let noticed = |bytes: &[u8], what: &str| {
                fs::write(log.path(&name), bytes).unwrap();
                assert!(!log.verify(None).ok, "size {size}, {name} {what}");
            };
            // Both ends, and some twenty places between.
            let step = (good.len() / 20).max(1);
            for at in (0..good.len()).step_by(step).chain([good.len() - 1]) {
                let mut bad = good.clone();
                bad[at] ^= 1 << (at % 8);
                noticed(&bad, &format!("flipped at {at}"));
            }
            noticed(&good[..good.len() - 1], "cut by a byte");
            noticed(&good[..good.len().saturating_sub(32)], "cut by a hash");
            noticed(&[], "emptied");
            noticed(&[&good[..], b"\0\0"].concat(), "with an empty entry more");
            noticed(&[&good[..], &[0; 32]].concat(), "with a hash more");
            fs::remove_file(log.path(&name)).unwrap();
            assert!(!log.verify(None).ok, "size {size}, {name} deleted");
            fs::write(log.path(&name), good).unwrap();
        }
        assert!(log.verify(None).ok, "everything was put back");
    }
}

#[test]
fn a_large_log_verifies_and_one_changed_bit_far_inside_is_named() {
    let log = Log::of(70_000);
    assert!(log.verify(None).ok);
    log.change("tile/entries/200", |bytes| {
        let at = bytes.len() - 2;
        bytes[at] ^= 1;
    });
    let report = log.verify(None);
    let last = 200 * 256 + 255;
    assert_eq!(
        faults(&report),
        [
            ("tiles", "tile/0/200", Some(last), Reason::Tile),
            ("tiles", "tile/1/000", Some(200 * 256), Reason::Tile),
            ("tiles", "tile/2/000.p/1", Some(0), Reason::Tile),
            ("root", "checkpoint", None, Reason::Root),
        ]
    );
}

#[test]
fn an_entry_and_its_leaf_hash_changed_together_are_caught_by_the_root() {
    let log = Log::of(3);
    let forged = Log::of(0).grow_forged();
    for name in ["tile/entries/000.p/3", "tile/0/000.p/3"] {
        fs::copy(forged.path(name), log.path(name)).unwrap();
    }
    assert_eq!(faults(&log.verify(None)), [("root", "checkpoint", None, Reason::Root)]);
}

impl Log {
    /// Three entries, the second of which is another one.
    fn grow_forged(mut self) -> Self {
        self.grow_with(3, |index| entry(if index == 1 { 99 } else { index }));
        self
    }
}

#[test]
fn a_missing_bundle_leaves_later_checks_unmade_not_passed() {
    let log = Log::of(600);
    fs::remove_file(log.path("tile/entries/001")).unwrap();
    let report = log.verify(Some(&Log::of(300).checkpoint()));
    assert_eq!(faults(&report), [("entries", "tile/entries/001", None, Reason::Missing)]);
    for about in ["root", "history"] {
        assert!(report.checks.iter().any(|check| check.about == about && !check.ok), "{about}");
    }
}

#[test]
fn missing_tiles_of_every_level_are_named() {
    let log = Log::of(600);
    for name in ["tile/0/000", "tile/0/002.p/88", "tile/1/000.p/2"] {
        fs::rename(log.path(name), log.path("kept")).unwrap();
        let report = log.verify(None);
        assert!(faults(&report).contains(&("tiles", name, None, Reason::Missing)), "{report}");
        fs::rename(log.path("kept"), log.path(name)).unwrap();
    }
}

#[test]
fn bundles_of_more_or_fewer_entries_are_refused() {
    let log = Log::of(257);
    for entries in [&[][..], &[entry(256), entry(257)][..]] {
        let bytes = encode_bundle(entries.iter().map(Vec::as_slice)).unwrap();
        log.change("tile/entries/001.p/1", |file| *file = bytes);
        let report = log.verify(None);
        assert_eq!(faults(&report), [("entries", "tile/entries/001.p/1", Some(256), Reason::Bundle)]);
    }
}

#[test]
fn entries_that_are_no_canonical_records_are_named() {
    let texts: [&[u8]; 9] = [
        br#"{"b":1,"a":2}"#,
        br#"{ "a":1}"#,
        br#"{"a":1,"a":1}"#,
        br#"{"a":1.0}"#,
        b"\"text\"",
        b"[]",
        b"",
        b"\xff",
        b"{\"a\":\"\\u0041\"}",
    ];
    for text in texts {
        let mut log = Log::of(0);
        log.grow_with(3, |index| if index == 1 { text.to_vec() } else { entry(index) });
        let report = log.verify(None);
        let expected = ("records", "tile/entries/000.p/3", Some(1), Reason::NotCanonical);
        assert_eq!(faults(&report), [expected], "{}", text.escape_ascii());
    }
}

#[test]
fn many_faults_are_counted_not_listed() {
    let mut log = Log::of(0);
    log.grow_with(100, |_| b"no record".to_vec());
    let report = log.verify(None);
    let check = report.checks.iter().find(|check| check.about == "records").unwrap();
    assert_eq!((check.faults.len(), check.faults_untold), (10, 90));
}

#[test]
fn checkpoints_of_others_edited_or_resigned_are_refused() {
    let log = Log::of(300);
    let good = fs::read_to_string(log.path("checkpoint")).unwrap();
    let root = Checkpoint::open(good.as_bytes(), &key()).unwrap().root;
    let other_key = NoteSigner::from_seed(ORIGIN, &[8; 32]).unwrap();
    let other_log = NoteSigner::from_seed("log.example/other/2026q4", &[7; 32]).unwrap();
    let other = Checkpoint { origin: "log.example/other/2026q4".to_owned(), size: 300, root };
    for bad in [
        good.replace("300", "299"),
        good.replace("default", "other"),
        Checkpoint { origin: ORIGIN.to_owned(), size: 300, root }.sign(&other_key),
        other.sign(&other_log),
        other.sign(&signer()),
        good.split("\n\n").next().unwrap().to_owned(),
        String::new(),
    ] {
        log.change("checkpoint", |file| *file = bad.clone().into_bytes());
        let report = log.verify(None);
        assert_eq!(faults(&report), [("checkpoint", "checkpoint", None, Reason::Checkpoint)], "{bad}");
    }
    fs::remove_file(log.path("checkpoint")).unwrap();
    assert_eq!(faults(&log.verify(None)), [("checkpoint", "checkpoint", None, Reason::Missing)]);
}

#[test]
fn the_real_key_over_another_root_is_refused() {
    let log = Log::of(300);
    let root = bartizan_ledger::leaf_hash(b"fork");
    let note = Checkpoint { origin: ORIGIN.to_owned(), size: 300, root }.sign(&signer());
    log.change("checkpoint", |file| *file = note.into_bytes());
    assert_eq!(faults(&log.verify(None)), [("root", "checkpoint", None, Reason::Root)]);
}

#[test]
fn a_log_extends_each_of_its_own_checkpoints() {
    let mut log = Log::of(0);
    let olds: Vec<Vec<u8>> = [0, 1, 2, 255, 256, 257, 300].map(|size| log.grow_to(size)).to_vec();
    for old in olds {
        let report = log.verify(Some(&old));
        assert!(report.ok, "{}\n{report}", String::from_utf8_lossy(&old));
        assert_eq!(report.checks.last().unwrap().about, "history");
    }
}

#[test]
fn rewritten_and_rolled_back_history_is_noticed_against_an_older_checkpoint() {
    let mut fork = Log::of(0);
    fork.grow_with(300, |index| if index == 7 { entry(99) } else { entry(index) });
    assert!(fork.verify(None).ok, "by itself the fork is a good log");
    for size in [8, 256, 300] {
        let old = Log::of(size).checkpoint();
        assert_eq!(faults(&fork.verify(Some(&old))), [("history", "checkpoint", None, Reason::Rewritten)]);
    }
    assert!(fork.verify(Some(&Log::of(7).checkpoint())).ok, "up to there they are the same");
    let old = Log::of(301).checkpoint();
    assert_eq!(faults(&fork.verify(Some(&old))), [("history", "checkpoint", None, Reason::RolledBack)]);
    let foreign = Checkpoint { origin: ORIGIN.to_owned(), size: 7, root: bartizan_ledger::empty_root() };
    let foreign = foreign.sign(&NoteSigner::from_seed(ORIGIN, &[8; 32]).unwrap());
    let report = fork.verify(Some(foreign.as_bytes()));
    assert_eq!(faults(&report), [("history", "older checkpoint", None, Reason::Checkpoint)]);
}
