//! Against `tlog_tiles`, which others have written and use: it reads our tiles, authenticates them against our root, and makes
//! and checks the same proofs. It spells paths as Go's sumdb does, so tiles are handed over by their coordinates.

use bartizan_base::Digest;
use bartizan_ledger::{Checkpoint, Tile, prove_consistency, prove_inclusion};
use tlog_tiles::{
    Error, Hash, TileHashReader, TileReader, check_record, check_tree, prove_record, prove_tree,
};

use crate::world::{MemoryLog, entry, leaves, signer};

const SIZES: [u64; 9] = [1, 2, 3, 255, 256, 257, 511, 600, 1_025];

/// The files of one of our logs, as the foreign reader asks for them.
struct Foreign<'a> {
    log: &'a MemoryLog,
    changed: Option<Tile>,
}

impl TileReader for Foreign<'_> {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[tlog_tiles::Tile]) -> Result<Vec<Vec<u8>>, Error> {
        let read = |asked: &tlog_tiles::Tile| {
            let width = u16::try_from(asked.width()).unwrap();
            let tile = Tile { level: Some(asked.level()), index: asked.level_index(), width };
            let full = Tile { width: 256, ..tile };
            let mut bytes = self.log.files.get(&tile).or_else(|| self.log.files.get(&full)).unwrap().clone();
            bytes.truncate(usize::from(width) * 32);
            if self.changed == Some(tile) {
                bytes[7] ^= 1;
            }
            bytes
        };
        Ok(tiles.iter().map(read).collect())
    }

    fn save_tiles(&self, _: &[tlog_tiles::Tile], _: &[Vec<u8>]) {}
}

fn foreign(digest: Digest) -> Hash {
    Hash(*digest.as_bytes())
}

fn ours(hashes: &[Hash]) -> Vec<Digest> {
    hashes.iter().map(|hash| Digest::from_bytes(hash.0)).collect()
}

#[test]
fn the_foreign_reader_proves_from_our_tiles_what_we_prove_and_accepts_our_proofs() {
    for size in SIZES {
        let log = MemoryLog::of(size);
        let root = foreign(log.appender.root());
        let tiles = Foreign { log: &log, changed: None };
        let reader = TileHashReader::new(size, root, &tiles);
        let leaves = leaves(size);
        for index in (0..size).step_by(53).chain([size - 1]) {
            let theirs = prove_record(size, index, &reader).unwrap();
            assert_eq!(ours(&theirs), prove_inclusion(&log, size, index).unwrap(), "{index} of {size}");
            let proof = prove_inclusion(&log, size, index).unwrap().into_iter().map(foreign).collect();
            let leaf = foreign(leaves[usize::try_from(index).unwrap()]);
            check_record(&proof, size, root, index, leaf).unwrap();
            assert!(check_record(&proof, size, root, index, foreign(Digest::of(b"other"))).is_err());
        }
        for old in SIZES.into_iter().filter(|old| *old < size) {
            let theirs = prove_tree(size, old, &reader).unwrap();
            assert_eq!(ours(&theirs), prove_consistency(&log, old, size).unwrap(), "{old} to {size}");
            let before = foreign(MemoryLog::of(old).appender.root());
            check_tree(&theirs, size, root, old, before).unwrap();
        }
    }
}

#[test]
fn the_foreign_reader_refuses_tiles_of_the_right_edge_that_are_not_of_our_root() {
    // Only those: where subtrees of the edge share a tile, version 0.2.0 passes over as many tiles below it, unchecked. That
    // ours checks every tile is shown elsewhere.
    let log = MemoryLog::of(600);
    let root = foreign(log.appender.root());
    for tile in [(0, 2, 88), (1, 0, 2)] {
        let changed = Some(Tile { level: Some(tile.0), index: tile.1, width: tile.2 });
        let tiles = Foreign { log: &log, changed };
        let reader = TileHashReader::new(600, root, &tiles);
        let index = tile.1 * 256 + 1;
        assert!(prove_record(600, index, &reader).is_err(), "{tile:?}");
    }
}

#[test]
fn the_foreign_parser_reads_our_checkpoints_and_we_sign_the_text_that_it_writes() {
    let head = Checkpoint {
        origin: "example.com/log/default/2026q4".to_owned(),
        size: 600,
        root: MemoryLog::of(600).appender.root(),
    };
    let read = tlog_tiles::Checkpoint::from_bytes(head.text().as_bytes()).unwrap();
    assert_eq!((read.origin(), read.size()), (head.origin.as_str(), head.size));
    assert_eq!(Digest::from_bytes(read.hash().0), head.root);
    assert_eq!(read.to_bytes(), head.text().into_bytes());
    assert!(head.sign(&signer(&head.origin, 1)).starts_with(&String::from_utf8(read.to_bytes()).unwrap()));
    assert_eq!(tlog_tiles::record_hash(&entry(3)), foreign(leaves(4)[3]));
}
