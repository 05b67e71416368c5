//! Inclusion and consistency proofs (RFC 6962, 2.1.1 and 2.1.2; verification after RFC 9162, 2.1.3.2 and 2.1.4.2).

use std::collections::BTreeMap;

use bartizan_base::Digest;

use crate::source::{ReadError, Source, read_hashes};
use crate::tile::{TILE_WIDTH, Tile};
use crate::tree::{empty_root, fold_right, node_hash, root_of, split_point};

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

/// The proof does not show what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the proof does not lead to the root")]
pub struct InvalidProof;

/// Proves that entry `index` is in the log of `size` entries: the sibling hashes from the leaf to the root.
///
/// The tiles are not checked against a root here; [`verify_inclusion`] does that for the result.
///
/// # Errors
/// [`ProveError`].
pub fn prove_inclusion<S: Source>(
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
/// The tiles are not checked against a root here; [`verify_consistency`] does that for the result.
///
/// # Errors
/// [`ProveError`].
pub fn prove_consistency<S: Source>(
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

/// Checks that the entry with hash `leaf` stands at `index` in the tree of `size` leaves with this `root`.
///
/// # Errors
/// [`InvalidProof`]; also when the proof is longer or shorter than it must be.
pub fn verify_inclusion(
    leaf: &Digest,
    index: u64,
    size: u64,
    root: &Digest,
    proof: &[Digest],
) -> Result<(), InvalidProof> {
    if index >= size {
        return Err(InvalidProof);
    }
    let (mut node, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return Err(InvalidProof);
        }
        if node % 2 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            (node, last) = climb(node, last);
        } else {
            hash = node_hash(&hash, sibling);
        }
        (node, last) = (node / 2, last / 2);
    }
    if last == 0 && hash == *root { Ok(()) } else { Err(InvalidProof) }
}

/// Checks that the tree of `old.0` leaves with root `old.1` is the beginning of that of `new.0` with `new.1`.
///
/// # Errors
/// [`InvalidProof`]; also when the proof is longer or shorter than it must be, or `old` is larger than `new`.
pub fn verify_consistency(
    old: (u64, &Digest),
    new: (u64, &Digest),
    proof: &[Digest],
) -> Result<(), InvalidProof> {
    let ((old_size, old_root), (new_size, new_root)) = (old, new);
    if old_size == 0 || old_size == new_size {
        let same = if old_size == 0 { *old_root == empty_root() } else { old_root == new_root };
        return if same && proof.is_empty() { Ok(()) } else { Err(InvalidProof) };
    }
    if old_size > new_size || proof.is_empty() {
        return Err(InvalidProof);
    }
    // A perfect old tree is itself the first node of the path, and left out of the proof.
    let known = old_size.is_power_of_two().then_some(old_root);
    let mut path = known.into_iter().chain(proof);
    let first = path.next().ok_or(InvalidProof)?;
    let shift = (old_size - 1).trailing_ones();
    let (mut node, mut last) = ((old_size - 1).unbounded_shr(shift), (new_size - 1).unbounded_shr(shift));
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in path {
        if last == 0 {
            return Err(InvalidProof);
        }
        if node % 2 == 1 || node == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            (node, last) = climb(node, last);
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        (node, last) = (node / 2, last / 2);
    }
    if last == 0 && old_hash == *old_root && new_hash == *new_root { Ok(()) } else { Err(InvalidProof) }
}

/// Skips the levels on which an even last node has no sibling and simply moves up.
const fn climb(node: u64, last: u64) -> (u64, u64) {
    if node == 0 {
        return (node, last);
    }
    let levels = node.trailing_zeros();
    (node >> levels, last >> levels)
}

/// The roots of parts of a tree, computed from its tiles. Each tile is read once.
struct Tree<'a, S> {
    source: &'a S,
    size: u64,
    tiles: BTreeMap<Tile, Vec<Digest>>,
}

impl<'a, S: Source> Tree<'a, S> {
    const fn new(source: &'a S, size: u64) -> Self {
        Self { source, size, tiles: BTreeMap::new() }
    }

    /// The root over the leaves from `start` to before `end`. `start` is a multiple of a power of two not below
    /// `end - start`, so the perfect subtrees below are aligned.
    fn root(&mut self, start: u64, end: u64) -> Result<Digest, ProveError<S::Error>> {
        let (mut at, mut subtrees) = (start, Vec::new());
        while at < end {
            let height = (end - at).ilog2();
            subtrees.push(self.perfect(height, at)?);
            at += 1 << height;
        }
        Ok(fold_right(subtrees.into_iter()).unwrap_or_else(empty_root))
    }

    /// The root of the perfect subtree of `2^height` leaves that begins at leaf `start`.
    fn perfect(&mut self, height: u32, start: u64) -> Result<Digest, ProveError<S::Error>> {
        let level = u8::try_from(height / 8).map_err(|_| ProveError::OutOfRange)?;
        let first = start >> (8 * level);
        let tile = Tile::at(level, first / u64::from(TILE_WIDTH), self.size).ok_or(ProveError::OutOfRange)?;
        let hashes = match self.tiles.entry(tile) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(read_hashes(self.source, tile)?)
            }
        };
        let from = usize::try_from(first % u64::from(TILE_WIDTH)).map_err(|_| ProveError::OutOfRange)?;
        let covered = hashes.get(from..from + (1 << (height % 8))).ok_or(ProveError::OutOfRange)?;
        Ok(root_of(covered))
    }
}
