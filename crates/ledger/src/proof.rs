//! Inclusion and consistency proofs (RFC 6962, 2.1.1 and 2.1.2; verification after RFC 9162, 2.1.3.2 and 2.1.4.2).

use bartizan_base::Digest;

use crate::checkpoint::CheckpointError;
use crate::tree::{empty_root, node_hash, root_of};

/// Why a proof does not prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The entry asked about is beyond the tree.
    #[error("the index is beyond the size of the tree")]
    Index,
    /// Too few or too many hashes.
    #[error("the proof has a wrong number of hashes")]
    Length,
    /// The hashes do not lead to the root.
    #[error("the proof does not lead to the root")]
    Root,
    /// Not a receipt.
    #[error("not a tlog-proof")]
    Shape,
    /// The checkpoint of a receipt.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// The hashes that prove that `leaves[index]` is in the tree over `leaves`, from the leaf upwards.
///
/// # Errors
/// When there is no such leaf.
pub fn inclusion_proof(leaves: &[Digest], index: usize) -> Result<Vec<Digest>, ProofError> {
    if index >= leaves.len() {
        return Err(ProofError::Index);
    }
    if leaves.len() == 1 {
        return Ok(Vec::new());
    }
    let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
    let (mut proof, sibling) = match index.checked_sub(left.len()) {
        None => (inclusion_proof(left, index)?, root_of(right)),
        Some(index) => (inclusion_proof(right, index)?, root_of(left)),
    };
    proof.push(sibling);
    Ok(proof)
}

/// Verifies that `leaf` is the entry `index` of the tree of `size` entries under `root`.
///
/// # Errors
/// [`ProofError`].
pub fn verify_inclusion(
    leaf: Digest,
    index: u64,
    size: u64,
    proof: &[Digest],
    root: &Digest,
) -> Result<(), ProofError> {
    if root_by_inclusion(leaf, index, size, proof)? == *root { Ok(()) } else { Err(ProofError::Root) }
}

/// The root that `proof` leads to from `leaf`, the entry `index` of a tree of `size` entries.
pub(crate) fn root_by_inclusion(
    leaf: Digest,
    index: u64,
    size: u64,
    proof: &[Digest],
) -> Result<Digest, ProofError> {
    if index >= size {
        return Err(ProofError::Index);
    }
    let (mut place, mut last, mut hash) = (index, size - 1, leaf);
    for sibling in proof {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if place & 1 == 1 || place == last {
            hash = node_hash(sibling, &hash);
            while place & 1 == 0 && place != 0 {
                place >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        place >>= 1;
        last >>= 1;
    }
    if last == 0 { Ok(hash) } else { Err(ProofError::Length) }
}

/// Verifies that the tree of `new` extends the tree of `old` (sizes and roots).
///
/// # Errors
/// [`ProofError`].
pub fn verify_consistency(
    old: (u64, Digest),
    new: (u64, Digest),
    proof: &[Digest],
) -> Result<(), ProofError> {
    let ((old_size, old_root), (new_size, new_root)) = (old, new);
    if old_size > new_size {
        return Err(ProofError::Index);
    }
    if old_size == new_size || old_size == 0 {
        // The empty tree has its one root too; whoever claims another has signed nonsense.
        let expected = if old_size == 0 { empty_root() } else { new_root };
        return match (proof.is_empty(), old_root == expected) {
            (true, true) => Ok(()),
            (true, false) => Err(ProofError::Root),
            (false, _) => Err(ProofError::Length),
        };
    }
    let mut path = proof.iter();
    let first = if old_size.is_power_of_two() { Some(&old_root) } else { path.next() };
    let Some(first) = first else { return Err(ProofError::Length) };
    let (mut place, mut last) = (old_size - 1, new_size - 1);
    while place & 1 == 1 {
        place >>= 1;
        last >>= 1;
    }
    let (mut from_old, mut from_new) = (*first, *first);
    for hash in path {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if place & 1 == 1 || place == last {
            from_old = node_hash(hash, &from_old);
            from_new = node_hash(hash, &from_new);
            while place & 1 == 0 && place != 0 {
                place >>= 1;
                last >>= 1;
            }
        } else {
            from_new = node_hash(&from_new, hash);
        }
        place >>= 1;
        last >>= 1;
    }
    match (last, from_old == old_root && from_new == new_root) {
        (0, true) => Ok(()),
        (0, false) => Err(ProofError::Root),
        _ => Err(ProofError::Length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::leaf_hash;

    fn leaves(n: u32) -> Vec<Digest> {
        (0..n).map(|i| leaf_hash(&i.to_be_bytes())).collect()
    }

    #[test]
    fn every_entry_of_every_small_tree_is_proven_and_nothing_else() {
        for n in 1..=70_u32 {
            let leaves = leaves(n);
            let root = root_of(&leaves);
            for index in 0..n {
                let proof = inclusion_proof(&leaves, index as usize).unwrap();
                let leaf = leaves[index as usize];
                assert_eq!(verify_inclusion(leaf, index.into(), n.into(), &proof, &root), Ok(()));
                assert!(
                    verify_inclusion(leaf_hash(b"other"), index.into(), n.into(), &proof, &root).is_err()
                );
                assert!(verify_inclusion(leaf, u64::from(index) + 1, n.into(), &proof, &root).is_err());
                let mut longer = proof.clone();
                longer.push(root);
                assert!(verify_inclusion(leaf, index.into(), n.into(), &longer, &root).is_err());
                if let Some((_, shorter)) = proof.split_last() {
                    assert!(verify_inclusion(leaf, index.into(), n.into(), shorter, &root).is_err());
                }
            }
        }
    }

    #[test]
    fn proofs_of_a_foreign_implementation_hold_here() {
        use ct_merkle::mem_backed_tree::MemoryBackedTree;
        let mut tree = MemoryBackedTree::<sha2::Sha256, Vec<u8>>::new();
        let entries: Vec<Vec<u8>> = (0_u32..65).map(|i| i.to_be_bytes().to_vec()).collect();
        for (i, entry) in entries.iter().enumerate() {
            tree.push(entry.clone());
            let size = i as u64 + 1;
            let root = root_of(&leaves(u32::try_from(size).unwrap()));
            assert_eq!(tree.root().as_bytes().as_slice(), root.as_bytes());
            for old in 1..size {
                let theirs = tree.prove_consistency(usize::try_from(size - old).unwrap());
                let hashes: Vec<Digest> =
                    theirs.as_bytes().chunks(32).map(|c| Digest::from_bytes(c.try_into().unwrap())).collect();
                let old_root = root_of(&leaves(u32::try_from(old).unwrap()));
                assert_eq!(
                    verify_consistency((old, old_root), (size, root), &hashes),
                    Ok(()),
                    "{old} to {size}"
                );
                let forged = leaf_hash(b"fork");
                assert!(verify_consistency((old, forged), (size, root), &hashes).is_err());
            }
        }
    }
}
