//! Making proofs from tiles (RFC 6962, 2.1.1 and 2.1.2). Reads a few tiles a level, never the whole tree.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bartizan_base::Digest;

use crate::source::{ReadError, TileSource, read_hashes};
use crate::tile::{ENTRIES_PER_BUNDLE, Tile};
use crate::tree::{RightEdge, root_of};

/// Why a proof could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProveError<E> {
    /// A tile is missing or unusable.
    #[error(transparent)]
    Read(#[from] ReadError<E>),
    /// There is no such entry, or the older size is the larger one.
    #[error("the log has no such entry or size")]
    OutOfRange,
}

/// Proves that entry `index` is in the log of `size` entries: the sibling hashes from the leaf to the root.
///
/// The tiles are not checked against a root here; [`verify_inclusion`](crate::verify_inclusion) does that for the result.
///
/// # Errors
/// [`ProveError`].
pub fn prove_inclusion<S: TileSource>(
    source: &S,
    size: u64,
    index: u64,
) -> Result<Vec<Digest>, ProveError<S::Error>> {
    if index >= size {
        return Err(ProveError::OutOfRange);
    }
    let mut tree = Tree::new(source, size);
    let (mut start, mut end, mut proof) = (0, size, Vec::new());
    while end - start > 1 {
        let middle = start + split_point(end - start);
        if index < middle {
            proof.push(tree.root(middle, end)?);
            end = middle;
        } else {
            proof.push(tree.root(start, middle)?);
            start = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// Proves that the log of `old` entries is the beginning of that of `new` entries. Empty when `old` is zero or
/// `new`.
///
/// The tiles are not checked against a root here; [`verify_consistency`](crate::verify_consistency) does that for the result.
///
/// # Errors
/// [`ProveError`].
pub fn prove_consistency<S: TileSource>(
    source: &S,
    old: u64,
    new: u64,
) -> Result<Vec<Digest>, ProveError<S::Error>> {
    if old > new {
        return Err(ProveError::OutOfRange);
    }
    if old == 0 || old == new {
        return Ok(Vec::new());
    }
    let mut tree = Tree::new(source, new);
    let (mut start, mut end, mut proof) = (0, new, Vec::new());
    while end != old {
        let middle = start + split_point(end - start);
        if old <= middle {
            proof.push(tree.root(middle, end)?);
            end = middle;
        } else {
            proof.push(tree.root(start, middle)?);
            start = middle;
        }
    }
    // A subtree that begins at the first leaf is the old tree itself, whose root the verifier has.
    if start > 0 {
        proof.push(tree.root(start, end)?);
    }
    proof.reverse();
    Ok(proof)
}

/// The root that the log of `size` entries had when it had `then`.
///
/// The tiles are not checked against a root here: a consistency proof from `(then, root)` to the signed root does that.
///
/// # Errors
/// [`ProveError`].
pub fn root_at<S: TileSource>(source: &S, size: u64, then: u64) -> Result<Digest, ProveError<S::Error>> {
    if then > size {
        return Err(ProveError::OutOfRange);
    }
    Tree::new(source, size).root(0, then)
}

/// The roots of parts of a tree, computed from its tiles. Each tile is read once.
struct Tree<'a, S> {
    source: &'a S,
    size: u64,
    tiles: BTreeMap<Tile, Vec<Digest>>,
}

impl<'a, S: TileSource> Tree<'a, S> {
    const fn new(source: &'a S, size: u64) -> Self {
        Self { source, size, tiles: BTreeMap::new() }
    }

    /// The root over the leaves from `start` to before `end`. `start` is a multiple of a power of two not below
    /// `end - start`, so the perfect subtrees below are aligned.
    fn root(&mut self, start: u64, end: u64) -> Result<Digest, ProveError<S::Error>> {
        let (mut at, mut edge) = (start, RightEdge::new());
        while at < end {
            let height = (end - at).ilog2();
            edge.append_subtree(height, self.perfect(height, at)?);
            at += 1 << height;
        }
        Ok(edge.root())
    }

    /// The root of the perfect subtree of `2^height` leaves that begins at leaf `start`.
    fn perfect(&mut self, height: u32, start: u64) -> Result<Digest, ProveError<S::Error>> {
        let level = u8::try_from(height / 8).map_err(|_| ProveError::OutOfRange)?;
        let first = start >> (8 * level);
        let tile =
            Tile::at(Some(level), first / ENTRIES_PER_BUNDLE, self.size).ok_or(ProveError::OutOfRange)?;
        let hashes = match self.tiles.entry(tile) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(read_hashes(self.source, tile)?),
        };
        let from = usize::try_from(first % ENTRIES_PER_BUNDLE).map_err(|_| ProveError::OutOfRange)?;
        let covered = hashes.get(from..from + (1 << (height % 8))).ok_or(ProveError::OutOfRange)?;
        Ok(root_of(covered))
    }
}

/// The largest power of two below `n`, which is two or more: where RFC 6962 splits a tree of `n` leaves.
const fn split_point(n: u64) -> u64 {
    1 << (n - 1).ilog2()
}
