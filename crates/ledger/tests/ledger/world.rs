//! A log in memory, and the definitions of RFC 6962 word by word.

use std::collections::BTreeMap;
use std::convert::Infallible;

use bartizan_base::Digest;
use bartizan_ledger::{Appender, Cosigner, NoteSigner, Tile, TileSource, empty_root, leaf_hash, node_hash};

#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryLog {
    pub(crate) files: BTreeMap<Tile, Vec<u8>>,
    pub(crate) appender: Appender,
}

impl MemoryLog {
    /// A log of entries 0 to before `size`, all written at once.
    pub(crate) fn of(size: u64) -> Self {
        let mut log = Self::default();
        log.grow_to(size);
        log
    }

    pub(crate) fn grow_to(&mut self, size: u64) {
        while self.appender.size() < size {
            self.appender.append(&entry(self.appender.size())).unwrap();
        }
        for file in self.appender.take_files() {
            let before = self.files.insert(file.tile, file.bytes.clone());
            assert!(before.is_none(), "{} was written twice", file.tile.path());
        }
    }
}

impl TileSource for MemoryLog {
    type Error = Infallible;

    fn read(&self, tile: Tile) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.files.get(&tile).cloned())
    }
}

pub(crate) fn entry(index: u64) -> Vec<u8> {
    format!("{{\"seq\":{index}}}").into_bytes()
}

pub(crate) fn leaves(size: u64) -> Vec<Digest> {
    (0..size).map(|index| leaf_hash(&entry(index))).collect()
}

pub(crate) fn signer(name: &str, seed: u8) -> NoteSigner {
    NoteSigner::from_seed(name, &[seed; 32]).unwrap()
}

pub(crate) fn cosigner(name: &str, seed: u8) -> Cosigner {
    Cosigner::from_seed(name, &[seed; 32]).unwrap()
}

/// RFC 6962, 2.1.
pub(crate) fn mth(d: &[Digest]) -> Digest {
    match d {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = d.split_at(split(d.len()));
            node_hash(&mth(left), &mth(right))
        }
    }
}

/// RFC 6962, 2.1.1.
pub(crate) fn path(m: usize, d: &[Digest]) -> Vec<Digest> {
    if d.len() == 1 {
        return Vec::new();
    }
    let k = split(d.len());
    let (mut below, sibling) =
        if m < k { (path(m, &d[..k]), mth(&d[k..])) } else { (path(m - k, &d[k..]), mth(&d[..k])) };
    below.push(sibling);
    below
}

/// RFC 6962, 2.1.2.
pub(crate) fn subproof(m: usize, d: &[Digest], whole: bool) -> Vec<Digest> {
    if m == d.len() {
        return if whole { Vec::new() } else { vec![mth(d)] };
    }
    let k = split(d.len());
    let (mut below, sibling) = if m <= k {
        (subproof(m, &d[..k], whole), mth(&d[k..]))
    } else {
        (subproof(m - k, &d[k..], false), mth(&d[..k]))
    };
    below.push(sibling);
    below
}

fn split(n: usize) -> usize {
    let mut k = 1;
    while k * 2 < n {
        k *= 2;
    }
    k
}
