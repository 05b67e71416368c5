use std::collections::BTreeSet;

use bartizan_ledger::{
    Appender, ENTRY_MAX, EntryTooLong, PathError, Tile, bundle_entries, encode_bundle, tiles_added, tiles_for,
};
use proptest::prelude::*;

use crate::world::{MemoryLog, entry, leaves, mth};

fn paths(tiles: impl IntoIterator<Item = Tile>) -> Vec<String> {
    tiles.into_iter().map(|tile| tile.path()).collect()
}

#[test]
fn a_tree_of_70_000_has_the_tiles_of_the_specification() {
    let all = tiles_for(70_000);
    let count = |level, full| all.iter().filter(|tile| tile.level == level && tile.is_full() == full).count();
    assert_eq!((count(Some(0), true), count(Some(1), true), count(Some(2), true)), (273, 1, 0));
    assert_eq!(count(None, true), 273);
    let partial = all.iter().filter(|tile| !tile.is_full()).copied();
    assert_eq!(
        paths(partial),
        ["tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1", "tile/entries/273.p/112"]
    );
}

#[test]
fn a_tree_of_256_has_a_full_tile_and_one_hash_above() {
    assert_eq!(paths(tiles_for(256)), ["tile/0/000", "tile/1/000.p/1", "tile/entries/000"]);
    assert_eq!(paths(tiles_for(0)), [] as [&str; 0]);
    assert_eq!(
        paths(tiles_added(255, 257)),
        ["tile/0/000", "tile/0/001.p/1", "tile/1/000.p/1", "tile/entries/000", "tile/entries/001.p/1"]
    );
    assert_eq!(paths(tiles_added(300, 300)), [] as [&str; 0]);
    assert_eq!(paths(tiles_added(300, 299)), [] as [&str; 0]);
    assert_eq!(Tile::at(Some(0), 1, 256), None);
    assert_eq!(Tile::at(Some(40), 0, u64::MAX), None);
    assert_eq!(Tile::at(Some(7), u64::MAX, u64::MAX), None);
}

#[test]
fn paths_print_in_groups_of_three_digits() {
    let tile = Tile::at(Some(3), 1_234_067, u64::MAX).unwrap();
    assert_eq!(tile.path(), "tile/3/x001/x234/067");
    assert_eq!("tile/3/x001/x234/067".parse(), Ok(tile));
    let bundle = Tile { level: None, index: 1_000, width: 8 };
    assert_eq!("tile/entries/x001/000.p/8".parse(), Ok(bundle));
}

#[test]
fn every_other_spelling_of_a_path_is_refused() {
    for path in [
        "",
        "checkpoint",
        "/tile/0/000",
        "tile",
        "tile/",
        "tile/0",
        "tile/0/",
        "tile/0/0",
        "tile/0/00",
        "tile/0/0000",
        "tile/00/000",
        "tile/+0/000",
        "tile/8/000",
        "tile/64/000",
        "tile/0/x000/001",
        "tile/0/001/001",
        "tile/0/x001",
        "tile/0/x001/x001",
        "tile/0/xx01/001",
        "tile/0/1000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/",
        "tile/0/000.p",
        "tile/0/000.p/1/2",
        "tile/0/000.p/1.p/1",
        "tile/0/+00",
        "tile/0/-01",
        "tile/0/../000",
        "tile/entries/../../000",
        "tile/entries",
        "tile/data/000",
        "tile/8/0/000",
        "tile/0/000 ",
        "tile/0/٠٠٠",
        "tile/0/x018/x446/x744/x073/x709/x551/616",
        "tile/0/000\0",
        "TILE/0/000",
    ] {
        assert_eq!(path.parse::<Tile>(), Err(PathError), "{path}");
    }
}

#[test]
fn bundles_that_break_off_are_refused_at_every_byte() {
    let bundle = encode_bundle([&b""[..], b"a", b"bc"]).unwrap();
    assert_eq!(bundle, b"\0\0\0\x01a\0\x02bc");
    assert_eq!(bundle_entries(&bundle).unwrap(), [&b""[..], b"a", b"bc"]);
    for end in (0..bundle.len()).filter(|end| ![0, 2, 5].contains(end)) {
        assert_eq!(bundle_entries(&bundle[..end]), None, "cut at {end}");
    }
}

#[test]
fn bundles_of_more_entries_than_a_full_one_are_refused() {
    assert_eq!(bundle_entries(&vec![0; 2 * 256]).unwrap().len(), 256);
    assert_eq!(bundle_entries(&vec![0; 2 * 257]), None);
}

#[test]
fn an_entry_too_long_leaves_the_log_as_it_was() {
    let mut log = Appender::new();
    assert!(log.append(&vec![b'x'; ENTRY_MAX]).is_ok());
    let before = (log.size(), log.root());
    assert_eq!(log.append(&vec![b'x'; ENTRY_MAX + 1]), Err(EntryTooLong));
    assert_eq!((log.size(), log.root()), before);
    let files = log.take_files();
    assert_eq!(files.last().unwrap().bytes.len(), 2 + ENTRY_MAX);
}

#[test]
fn files_hold_the_hashes_and_entries_of_the_specification() {
    let size = 66_000;
    let (log, leaves) = (MemoryLog::of(size), leaves(size));
    for tile in tiles_for(size) {
        let bytes = &log.files[&tile];
        let first = usize::try_from(tile.index * 256).unwrap();
        let items = first..first + usize::from(tile.width);
        match tile.level {
            Some(level) => {
                let span = 1 << (8 * usize::from(level));
                let expected: Vec<_> = items.map(|i| mth(&leaves[i * span..(i + 1) * span])).collect();
                assert_eq!(tile.hashes(bytes).unwrap(), expected, "{}", tile.path());
            }
            None => {
                let expected: Vec<_> = items.map(|i| entry(i as u64)).collect();
                assert_eq!(bundle_entries(bytes).unwrap(), expected, "{}", tile.path());
            }
        }
    }
    assert_eq!(log.appender.root(), mth(&leaves));
    assert_eq!(log.files.keys().copied().collect::<BTreeSet<_>>(), tiles_for(size).into_iter().collect());
}

#[test]
fn a_tile_of_another_width_than_its_own_or_the_full_one_is_refused() {
    let tile = Tile::at(Some(0), 0, 3).unwrap();
    let bytes = vec![7; 256 * 32];
    assert_eq!(tile.hashes(&bytes[..96]).unwrap().len(), 3);
    assert_eq!(tile.hashes(&bytes).unwrap().len(), 3);
    for length in [0, 32, 64, 95, 97, 128, 255 * 32, 256 * 32 - 1] {
        assert_eq!(tile.hashes(&bytes[..length]), None, "{length} bytes");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn paths_round_trip(level in prop::option::of(0_u8..8), index in any::<u64>(), shift in 0_u32..64, size in any::<u64>()) {
        if let Some(tile) = Tile::at(level, index >> shift, size) {
            prop_assert_eq!(tile.path().parse(), Ok(tile));
            prop_assert_eq!(tile.full().path().parse(), Ok(tile.full()));
        }
    }

    #[test]
    fn hostile_paths_do_not_panic(path in "(tile/)?([0-9]{1,3}|entries)?/?([x0-9]{0,4}/){0,8}[0-9]{0,4}(\\.p/[0-9]{0,4})?") {
        if let Ok(tile) = path.parse::<Tile>() {
            prop_assert_eq!(tile.path(), path);
        }
    }

    #[test]
    fn what_is_added_is_what_is_new(old in 0_u64..200_000, more in 0_u64..2_000) {
        let before: BTreeSet<Tile> = tiles_for(old).into_iter().collect();
        let expected: Vec<Tile> =
            tiles_for(old + more).into_iter().filter(|tile| !before.contains(tile)).collect();
        prop_assert_eq!(tiles_added(old, old + more).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn growing_in_steps_writes_the_same_files_as_at_once(steps in prop::collection::vec(0_u64..400, 1..6)) {
        let mut grown = MemoryLog::default();
        for step in &steps {
            grown.grow_to(grown.appender.size() + step);
        }
        let whole = MemoryLog::of(grown.appender.size());
        prop_assert_eq!(grown.appender.root(), whole.appender.root());
        for (tile, bytes) in &whole.files {
            prop_assert_eq!(grown.files.get(tile), Some(bytes), "{}", tile.path());
        }
    }
}
