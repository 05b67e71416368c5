use std::fs;
use std::path::Path;

use bartizan_base::Digest;
use bartizan_ledger::{Checkpoint, verify_consistency, verify_inclusion};
use bartizan_verify::{Comparison, Reason, Verdict, compare};
use serde_json::Value;

use crate::command::{run, text};
use crate::world::{Log, entry, key, other_signer, signer};

fn of(a: &Path, b: &Path) -> Comparison {
    let comparison = compare(a, b, &key());
    let consistent = matches!(comparison.verdict, Verdict::Same | Verdict::Extended);
    assert_eq!(comparison.ok, consistent, "{comparison}");
    comparison
}

/// A log of `size` entries, whose entries from `fork` on are others.
fn forked(size: u64, fork: u64) -> Log {
    let mut log = Log::of(0);
    log.grow_with(size, |index| entry(if index >= fork { index + 1_000_000 } else { index }));
    log
}

/// Checks the JSON as somebody would who trusts nobody but the key: only hashing and signatures.
pub(crate) fn proves_two_histories(report: &Value) -> Option<u64> {
    let digest = |value: &Value| value.as_str().unwrap().parse::<Digest>().unwrap();
    let digests = |value: &Value| value.as_array().unwrap().iter().map(digest).collect::<Vec<_>>();
    let [a, b] = ["a", "b"].map(|side| {
        let note = report[side]["checkpoint"].as_str().unwrap();
        Checkpoint::open(note.as_bytes(), &key()).unwrap()
    });
    let (small, large) = if a.size <= b.size { (&a, &b) } else { (&b, &a) };
    let then = &report["then"];
    assert_eq!(then["size"], small.size);
    let root_then = digest(&then["root"]);
    verify_consistency((small.size, root_then), (large.size, large.root), &digests(&then["proof"])).unwrap();
    assert_ne!(root_then, small.root, "the larger checkpoint commits to another root at that size");
    let difference = report.get("first_difference")?;
    let index = difference["index"].as_u64().unwrap();
    for (side, checkpoint) in [("a", &a), ("b", &b)] {
        let Checkpoint { size, root, .. } = checkpoint;
        let leaf = &difference[side];
        verify_inclusion(digest(&leaf["hash"]), index, *size, &digests(&leaf["proof"]), root).unwrap();
    }
    assert_ne!(difference["a"]["hash"], difference["b"]["hash"]);
    Some(index)
}

#[test]
fn views_of_one_history_are_the_same_extended_or_rolled_back() {
    for (a, b, verdict) in [
        (0, 0, Verdict::Same),
        (300, 300, Verdict::Same),
        (0, 1, Verdict::Extended),
        (255, 256, Verdict::Extended),
        (256, 700, Verdict::Extended),
        (300, 0, Verdict::RolledBack),
        (700, 300, Verdict::RolledBack),
    ] {
        let (log_a, log_b) = (Log::of(a), Log::of(b));
        let comparison = of(log_a.folder.path(), log_b.folder.path());
        assert_eq!(comparison.verdict, verdict, "{a} {b}: {comparison}");
        assert_eq!((comparison.fault, comparison.first_difference), (None, None));
    }
}

#[test]
fn a_fork_is_found_at_its_first_entry_and_proven_to_whoever_has_the_key() {
    for (a, b, fork) in [
        (1, 1, 0),
        (2, 2, 1),
        (300, 300, 0),
        (300, 300, 255),
        (300, 300, 256),
        (300, 300, 299),
        (300, 700, 123),
        (700, 300, 299),
        (256, 257, 200),
    ] {
        let (log_a, log_b) = (Log::of(a), forked(b, fork));
        let comparison = of(log_a.folder.path(), log_b.folder.path());
        assert_eq!(comparison.verdict, Verdict::Forked, "{a} {b} {fork}: {comparison}");
        let report = serde_json::to_value(&comparison).unwrap();
        assert_eq!(proves_two_histories(&report), Some(fork), "{a} {b}");
    }
}

#[test]
fn a_fork_beyond_the_smaller_view_is_no_fork_of_it() {
    let (log_a, log_b) = (Log::of(300), forked(700, 300));
    assert_eq!(of(log_a.folder.path(), log_b.folder.path()).verdict, Verdict::Extended);
}

#[test]
fn one_folder_and_one_checkpoint_suffice_to_prove_a_fork() {
    let (log, other) = (Log::of(700), forked(300, 50));
    let kept = other.path("kept");
    fs::copy(other.path("checkpoint"), &kept).unwrap();
    for (a, b) in [(log.folder.path(), &*kept), (&*kept, log.folder.path())] {
        let comparison = of(a, b);
        assert_eq!((comparison.verdict, &comparison.first_difference), (Verdict::Forked, &None));
        assert_eq!(proves_two_histories(&serde_json::to_value(&comparison).unwrap()), None);
    }
    // Of one size not even a folder is needed.
    let same = forked(700, 50);
    let comparison = of(&log.path("checkpoint"), &same.path("checkpoint"));
    assert_eq!(comparison.verdict, Verdict::Forked);
    proves_two_histories(&serde_json::to_value(&comparison).unwrap());
    assert_eq!(of(&log.path("checkpoint"), &log.path("checkpoint")).verdict, Verdict::Same);
}

#[test]
fn without_tiles_of_the_larger_view_nothing_is_decided() {
    let (small, large) = (Log::of(300), Log::of(700));
    let comparison = of(small.folder.path(), &large.path("checkpoint"));
    assert_eq!(comparison.verdict, Verdict::Undecided);
    assert_eq!(comparison.fault.unwrap().reason, Reason::Missing);
}

#[test]
fn damaged_tiles_are_never_taken_for_a_fork() {
    let (old, log) = (Log::of(300), Log::of(700));
    for name in log.files().into_iter().filter(|name| name.starts_with("tile/") && !name.contains("entries"))
    {
        let good = fs::read(log.path(&name)).unwrap();
        for at in [0, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(log.path(&name), bad).unwrap();
            let comparison = of(old.folder.path(), log.folder.path());
            // A tile that the proof does not need may be anything here; `log` finds it.
            assert!(
                matches!(comparison.verdict, Verdict::Undecided | Verdict::Extended),
                "{name} at {at}: {comparison}"
            );
        }
        fs::remove_file(log.path(&name)).unwrap();
        let verdict = of(old.folder.path(), log.folder.path()).verdict;
        assert!(matches!(verdict, Verdict::Undecided | Verdict::Extended), "{name} gone");
        fs::write(log.path(&name), good).unwrap();
    }
    // The tile from which the root of 300 entries is made.
    log.change("tile/0/001", |bytes| bytes[0] ^= 1);
    assert_eq!(of(old.folder.path(), log.folder.path()).fault.unwrap().reason, Reason::TileRoot);
}

#[test]
fn a_fork_stays_proven_when_the_tiles_that_show_its_first_entry_are_damaged() {
    let (log, other) = (Log::of(300), forked(300, 123));
    log.change("tile/0/000", |bytes| bytes[32 * 50] ^= 1);
    let comparison = of(log.folder.path(), other.folder.path());
    assert_eq!((comparison.verdict, &comparison.first_difference), (Verdict::Forked, &None));
    assert_eq!(comparison.fault.as_ref().unwrap().reason, Reason::TileRoot);
    proves_two_histories(&serde_json::to_value(&comparison).unwrap());
}

#[test]
fn what_the_log_has_not_signed_accuses_nobody() {
    let (log, forged) = (Log::of(300), forked(300, 7));
    let checkpoint = Checkpoint::open(&forged.checkpoint(), &key()).unwrap();
    let by_other = Checkpoint { origin: "other.example".to_owned(), ..checkpoint.clone() };
    for note in
        [checkpoint.sign(&other_signer()), by_other.sign(&signer()), "nothing".to_owned(), String::new()]
    {
        fs::write(forged.path("checkpoint"), note).unwrap();
        for (a, b) in [(&log, &forged), (&forged, &log)] {
            let comparison = of(a.folder.path(), b.folder.path());
            assert_eq!(comparison.verdict, Verdict::Undecided);
            assert_eq!(comparison.fault.unwrap().reason, Reason::Checkpoint);
        }
    }
    let gone = of(log.folder.path(), Path::new("/nonexistent"));
    assert_eq!(gone.fault.unwrap().reason, Reason::Missing);
}

#[test]
fn the_command_exits_0_for_one_history_and_1_for_anything_else() {
    let (small, large, other) = (Log::of(300), Log::of(700), forked(700, 123));
    let key = key().to_string();
    let run = |a: &Log, b: &Log, output: &str| {
        run(&["compare", text(a.folder.path()), text(b.folder.path()), "--key", &key, "--output", output])
    };
    assert_eq!(run(&small, &large, "text"), (Some(0), "ok   extended: 700 entries extend 300\n".to_owned()));
    let (code, out) = run(&large, &small, "text");
    assert_eq!(code, Some(1));
    assert!(out.starts_with("FAIL rolled back: "), "{out}");
    let (code, out) = run(&small, &other, "text");
    assert_eq!(
        (code, &*out),
        (Some(1), "FAIL forked: the log has signed two histories, which differ at entry 123 first\n")
    );
    let (code, out) = run(&small, &other, "json");
    assert_eq!(code, Some(1));
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["verdict"], "forked");
    assert_eq!(proves_two_histories(&report), Some(123));
}
