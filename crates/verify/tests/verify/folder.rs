use std::fs;
use std::os::unix::fs::symlink;

use bartizan_ledger::{Checkpoint, NoteSigner};
use bartizan_verify::{Reason, verify_growing_directory};

use crate::world::{Log, ORIGIN, entry, faults, key, signer};

#[test]
fn partial_files_of_earlier_sizes_may_stay_but_not_change() {
    let mut log = Log::of(0);
    for size in [1, 3, 255, 256, 300, 600] {
        log.grow_to(size);
    }
    assert!(log.verify(None).ok);
    let earlier = [
        "tile/0/000.p/1",
        "tile/0/000.p/255",
        "tile/1/000.p/1",
        "tile/0/001.p/44",
        "tile/entries/000.p/3",
        "tile/entries/001.p/44",
    ];
    for name in earlier {
        let good = fs::read(log.path(name)).unwrap();
        for bad in [&good[..good.len() - 1], &[], &[&good[..], &[0, 0]].concat()] {
            fs::write(log.path(name), bad).unwrap();
            assert_eq!(faults(&log.verify(None)), [("tiles", name, None, Reason::Partial)]);
        }
        log.change(name, |file| {
            file.clone_from(&good);
            file[0] ^= 1;
        });
        assert_eq!(faults(&log.verify(None)), [("tiles", name, None, Reason::Partial)]);
        fs::write(log.path(name), good).unwrap();
    }
}

#[test]
fn partial_files_may_go_once_the_full_ones_are_there() {
    let mut log = Log::of(300);
    log.grow_to(600);
    for name in ["tile/0/001.p", "tile/entries/001.p"] {
        fs::remove_dir_all(log.path(name)).unwrap();
    }
    assert!(log.verify(None).ok);
}

#[test]
fn a_rolled_back_checkpoint_is_betrayed_by_the_files_beyond_it() {
    for (old, new) in [(10, 11), (255, 256), (256, 257), (10, 600)] {
        let mut log = Log::of(old);
        let rolled_back = log.checkpoint();
        log.grow_to(new);
        fs::write(log.path("checkpoint"), &rolled_back).unwrap();
        let report = log.verify(None);
        assert!(
            faults(&report).iter().all(|(about, _, _, why)| (*about, *why) == ("folder", Reason::Beyond))
        );
        assert!(!report.ok, "{old} of {new}:\n{report}");
        // Of a log that is being written this is told, not refused.
        let growing = verify_growing_directory(log.folder.path(), &key(), None);
        assert!(growing.ok && !growing.notes.is_empty(), "{growing}");
        // Unless there is an older checkpoint that knows better.
        let later = log.checkpoint();
        let growing = verify_growing_directory(log.folder.path(), &key(), Some(&later));
        assert_eq!(faults(&growing), [("history", "checkpoint", None, Reason::RolledBack)]);
    }
}

#[test]
fn a_growing_log_is_verified_up_to_its_checkpoint_only() {
    let mut log = Log::of(300);
    log.write_to(700, |_| b"not yet signed".to_vec());
    // The partial files of 300 are replaced by full ones that go on.
    for name in ["tile/0/001.p", "tile/entries/001.p"] {
        fs::remove_dir_all(log.path(name)).unwrap();
    }
    let report = verify_growing_directory(log.folder.path(), &key(), None);
    assert!(report.ok, "{report}");
    log.change("tile/entries/001", |bytes| bytes[5] ^= 1);
    assert!(!verify_growing_directory(log.folder.path(), &key(), None).ok);
}

#[test]
fn files_that_no_log_has_are_refused() {
    let log = Log::of(300);
    for name in [
        "README",
        "tile/0/000.txt",
        "tile/0/0",
        "tile/9/000",
        "tile/entries/000.p/x",
        "tile/0/000.p/256",
        "tile/data/000",
        "checkpoint.old",
        "x.new",
        "deep/er/and/deeper",
    ] {
        let path = log.path(name);
        let made: Vec<_> =
            path.ancestors().skip(1).take_while(|p| !p.exists()).map(ToOwned::to_owned).collect();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, b"").unwrap();
        assert_eq!(faults(&log.verify(None)), [("folder", name, None, Reason::Extra)]);
        fs::remove_file(path).unwrap();
        made.iter().for_each(|folder| fs::remove_dir(folder).unwrap());
    }
}

#[test]
fn files_that_a_killed_writer_left_unfinished_are_only_noted() {
    let log = Log::of(300);
    for name in ["checkpoint.new", "tile/0/001.p/44.new", "tile/entries/001.new"] {
        fs::write(log.path(name), b"half").unwrap();
    }
    let report = log.verify(None);
    assert!(report.ok, "{report}");
    assert_eq!(report.notes.len(), 1);
}

#[test]
fn the_key_beside_the_log_must_be_the_one_given() {
    let log = Log::of(3);
    fs::write(log.path("key.vkey"), format!("{}\n", key())).unwrap();
    assert!(log.verify(None).ok);
    let other = NoteSigner::from_seed(ORIGIN, &[8; 32]).unwrap();
    fs::write(log.path("key.vkey"), other.verifier().to_string()).unwrap();
    assert_eq!(faults(&log.verify(None)), [("folder", "key.vkey", None, Reason::OtherKey)]);
}

#[test]
fn links_and_folders_in_place_of_files_are_refused_and_not_followed() {
    let log = Log::of(300);
    let elsewhere = Log::of(300);
    for name in ["checkpoint", "tile/entries/000", "tile/0/000", "tile/1/000.p/1"] {
        fs::rename(log.path(name), log.path("kept")).unwrap();
        symlink(elsewhere.path(name), log.path(name)).unwrap();
        let report = log.verify(None);
        assert!(faults(&report).iter().any(|f| f.1 == name && f.3 == Reason::NotAFile), "{report}");
        fs::remove_file(log.path(name)).unwrap();
        fs::create_dir(log.path(name)).unwrap();
        assert!(!log.verify(None).ok, "{name} is a folder");
        fs::remove_dir(log.path(name)).unwrap();
        fs::rename(log.path("kept"), log.path(name)).unwrap();
    }
    fs::rename(log.path("tile"), log.path("moved")).unwrap();
    symlink(elsewhere.path("tile"), log.path("tile")).unwrap();
    fs::remove_dir_all(log.path("moved")).unwrap();
    assert_eq!(faults(&log.verify(None)), [("folder", "tile", None, Reason::NotAFile)]);
}

#[test]
fn oversized_files_are_not_read_to_their_end() {
    let log = Log::of(300);
    for (name, about) in
        [("checkpoint", "checkpoint"), ("tile/entries/000", "entries"), ("tile/0/000", "tiles")]
    {
        let good = fs::read(log.path(name)).unwrap();
        // Sparse: a terabyte that takes no room.
        fs::File::options().write(true).open(log.path(name)).unwrap().set_len(1 << 40).unwrap();
        let report = log.verify(None);
        assert!(faults(&report).contains(&(about, name, None, Reason::TooLong)), "{report}");
        fs::write(log.path(name), good).unwrap();
    }
}

#[test]
fn a_signed_size_far_beyond_the_files_ends_at_the_first_missing_one() {
    let log = Log::of(300);
    for size in [301, 1 << 40, u64::MAX] {
        let checkpoint =
            Checkpoint { origin: ORIGIN.to_owned(), size, root: bartizan_ledger::leaf_hash(&entry(0)) };
        log.change("checkpoint", |file| *file = checkpoint.sign(&signer()).into_bytes());
        let report = log.verify(None);
        assert!(faults(&report).iter().any(|f| f.0 == "entries" && f.3 == Reason::Missing), "{report}");
    }
}

#[test]
fn a_folder_that_is_not_there_is_refused() {
    let log = Log::of(0);
    let report = bartizan_verify::verify_directory(&log.path("nothing/here"), &key(), None);
    assert_eq!(faults(&report), [("checkpoint", "checkpoint", None, Reason::Missing)]);
}
