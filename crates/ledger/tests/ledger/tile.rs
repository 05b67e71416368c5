use std::collections::BTreeSet;

use bartizan_ledger::{
    Appender, Bundle, BundleError, ENTRY_MAX, EntryTooLong, PathError, Resource, Tile, encode_entry, entries,
};
use proptest::prelude::*;

use crate::world::{MemoryLog, entry, leaves, mth};

fn paths(tiles: impl Iterator<Item = Tile>) -> Vec<String> {
    tiles.map(|tile| tile.to_string()).collect()
}

#[test]
fn a_tree_of_70_000_has_the_tiles_of_the_specification() {
    let all: Vec<Tile> = Tile::all(70_000).collect();
    let count = |level: u8, full: bool| {
        all.iter().filter(|tile| tile.level() == level && tile.is_full() == full).count()
    };
    assert_eq!((count(0, true), count(1, true), count(2, true)), (273, 1, 0));
    let partial = all.iter().filter(|tile| !tile.is_full()).copied();
    assert_eq!(paths(partial), ["tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"]);
    assert_eq!(Bundle::all(70_000).last().unwrap().to_string(), "tile/entries/273.p/112");
}

#[test]
fn a_tree_of_256_has_a_full_tile_and_one_hash_above() {
    assert_eq!(paths(Tile::all(256)), ["tile/0/000", "tile/1/000.p/1"]);
    assert_eq!(paths(Tile::all(0)), [] as [&str; 0]);
    assert_eq!(paths(Tile::added(255, 257)), ["tile/0/000", "tile/0/001.p/1", "tile/1/000.p/1"]);
    assert_eq!(paths(Tile::added(300, 300)), [] as [&str; 0]);
    assert_eq!(paths(Tile::added(300, 299)), [] as [&str; 0]);
}

#[test]
fn paths_print_in_groups_of_three_digits() {
    let tile = Tile::at(3, 1_234_067, u64::MAX).unwrap();
    assert_eq!(tile.to_string(), "tile/3/x001/x234/067");
    assert_eq!(
        "tile/entries/x001/000.p/8".parse::<Resource>().unwrap().to_string(),
        "tile/entries/x001/000.p/8"
    );
    assert_eq!("checkpoint".parse(), Ok(Resource::Checkpoint));
}

#[test]
fn every_other_spelling_of_a_path_is_refused() {
    for path in [
        "",
        "/checkpoint",
        "checkpoint/",
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
        assert_eq!(path.parse::<Resource>(), Err(PathError), "{path}");
    }
}

#[test]
fn bundles_that_break_off_are_refused_at_every_byte() {
    let mut bundle = Vec::new();
    for text in ["", "a", "bc"] {
        encode_entry(&mut bundle, text.as_bytes()).unwrap();
    }
    assert_eq!(bundle, b"\0\0\0\x01a\0\x02bc");
    let read = |bytes: &[u8]| entries(bytes).map(|e| e.map(<[u8]>::to_vec)).collect::<Result<Vec<_>, _>>();
    assert_eq!(read(&bundle).unwrap(), [&b""[..], b"a", b"bc"]);
    for end in (0..bundle.len()).filter(|end| ![0, 2, 5].contains(end)) {
        assert_eq!(read(&bundle[..end]), Err(BundleError), "cut at {end}");
    }
}

#[test]
fn an_entry_too_long_leaves_the_log_as_it_was() {
    let mut log = Appender::new();
    assert!(log.append(&vec![b'x'; ENTRY_MAX]).is_ok());
    let before = (log.size(), log.root());
    assert_eq!(log.append(&vec![b'x'; ENTRY_MAX + 1]), Err(EntryTooLong));
    assert_eq!((log.size(), log.root()), before);
    let files = log.take_files();
    assert_eq!(files[0].bytes.len(), 2 + ENTRY_MAX);
}

#[test]
fn files_hold_the_hashes_and_entries_of_the_specification() {
    let size = 66_000;
    let (log, leaves) = (MemoryLog::of(size), leaves(size));
    for tile in Tile::all(size) {
        let hashes = tile.hashes(&log.files[&Resource::Tile(tile)]).unwrap();
        assert_eq!(hashes.len(), usize::from(tile.width()));
        for (offset, hash) in hashes.iter().enumerate() {
            let span = 1 << (8 * usize::from(tile.level()));
            let start = (usize::try_from(tile.index()).unwrap() * 256 + offset) * span;
            assert_eq!(*hash, mth(&leaves[start..start + span]), "{tile} at {offset}");
        }
    }
    for bundle in Bundle::all(size) {
        let bytes = &log.files[&Resource::Entries(bundle)];
        let found: Vec<_> = entries(bytes).map(Result::unwrap).collect();
        let start = bundle.index() * 256;
        assert_eq!(
            found,
            (start..start + u64::from(bundle.width())).map(entry).collect::<Vec<_>>(),
            "{bundle}"
        );
    }
    assert_eq!(log.appender.root(), mth(&leaves));
    let expected: BTreeSet<_> =
        Tile::all(size).map(Resource::Tile).chain(Bundle::all(size).map(Resource::Entries)).collect();
    assert_eq!(log.files.keys().copied().collect::<BTreeSet<_>>(), expected);
}

#[test]
fn a_tile_of_another_width_than_its_own_or_the_full_one_is_refused() {
    let tile = Tile::at(0, 0, 3).unwrap();
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
    fn paths_round_trip(level in 0_u8..8, index in any::<u64>(), shift in 0_u32..64, size in any::<u64>()) {
        let index = index >> shift;
        if let Some(tile) = Tile::at(level, index, size) {
            prop_assert_eq!(tile.to_string().parse(), Ok(Resource::Tile(tile)));
            let theirs = tlog_tiles::Tile::new(8, level, index, u32::from(tile.width()), false);
            prop_assert_eq!(tile.to_string(), theirs.path().replacen("tile/8/", "tile/", 1));
        }
        if let Some(bundle) = Bundle::at(index, size) {
            prop_assert_eq!(bundle.to_string().parse(), Ok(Resource::Entries(bundle)));
        }
    }

    #[test]
    fn hostile_paths_do_not_panic(path in "(tile/)?([0-9]{1,3}|entries)?/?([x0-9]{0,4}/){0,8}[0-9]{0,4}(\\.p/[0-9]{0,4})?") {
        if let Ok(resource) = path.parse::<Resource>() {
            prop_assert_eq!(resource.to_string(), path);
        }
    }

    #[test]
    fn added_tiles_agree_with_tlog_tiles(old in 0_u64..200_000, more in 0_u64..2_000) {
        let theirs = tlog_tiles::Tile::new_tiles(8, old, old + more);
        let theirs: Vec<_> = theirs.iter().map(|tile| tile.path().replacen("tile/8/", "tile/", 1)).collect();
        prop_assert_eq!(paths(Tile::added(old, old + more)), theirs);
    }

    #[test]
    fn growing_in_steps_writes_the_same_files_as_at_once(steps in prop::collection::vec(0_u64..400, 1..6)) {
        let mut grown = MemoryLog::default();
        for step in &steps {
            grown.grow_to(grown.appender.size() + step);
        }
        let whole = MemoryLog::of(grown.appender.size());
        prop_assert_eq!(grown.appender.root(), whole.appender.root());
        for (resource, bytes) in &whole.files {
            prop_assert_eq!(grown.files.get(resource), Some(bytes), "{}", resource);
        }
    }
}
