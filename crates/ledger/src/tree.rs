//! Hashing after RFC 6962, section 2.1.

use bartizan_base::Digest;

/// The hash of one entry.
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Digest {
    Digest::of_parts(&[&[0], entry])
}

/// The hash of one entry whose bytes stand behind a zero in the same memory: `zero_and_entry` is both. Whoever can lay
/// entries down like this saves a copy or a context for each.
#[must_use]
pub fn leaf_hash_behind_zero(zero_and_entry: &[u8]) -> Digest {
    debug_assert_eq!(zero_and_entry.first(), Some(&0));
    Digest::of(zero_and_entry)
}

/// The hash of two subtrees.
#[must_use]
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    let mut node = [1; 65];
    let (_, hashes) = node.split_at_mut(1);
    for (to, from) in hashes.as_chunks_mut::<32>().0.iter_mut().zip([left, right]) {
        *to = *from.as_bytes();
    }
    Digest::of(&node)
}

/// The root of a tree without entries.
#[must_use]
pub fn empty_root() -> Digest {
    Digest::of(b"")
}

/// The tree seen from its end: the roots of the perfect subtrees that make it up. Enough to append and to know the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RightEdge {
    size: u64,
    /// Roots of perfect subtrees with their heights, the largest first.
    peaks: Vec<(u32, Digest)>,
}

impl RightEdge {
    /// The tree without entries.
    #[must_use]
    pub const fn new() -> Self {
        Self { size: 0, peaks: Vec::new() }
    }

    /// How many entries the tree has.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Appends an entry by its leaf hash.
    pub fn append(&mut self, leaf: Digest) {
        self.append_subtree(0, leaf);
    }

    /// Appends 2^`height` entries by the root over them, as tiles of higher levels keep it. The size so far must be a
    /// multiple of 2^`height`; heights from 64 on change nothing.
    pub fn append_subtree(&mut self, mut height: u32, mut hash: Digest) {
        let Some(added) = 1_u64.checked_shl(height) else { return };
        while let Some((_, left)) = self.peaks.pop_if(|(h, _)| *h == height) {
            hash = node_hash(&left, &hash);
            height += 1;
        }
        self.peaks.push((height, hash));
        self.size = self.size.saturating_add(added);
    }

    /// The roots of the perfect subtrees, the smallest first.
    pub(crate) fn peaks(&self) -> impl Iterator<Item = Digest> {
        self.peaks.iter().rev().map(|(_, hash)| *hash)
    }

    /// The tree's root.
    #[must_use]
    pub fn root(&self) -> Digest {
        root_of_peaks(self.peaks())
    }
}

/// The root over perfect subtrees, given the smallest first.
pub(crate) fn root_of_peaks(mut peaks: impl Iterator<Item = Digest>) -> Digest {
    let Some(last) = peaks.next() else { return empty_root() };
    peaks.fold(last, |right, left| node_hash(&left, &right))
}

/// The root over `leaves`.
#[must_use]
pub fn root_of(leaves: &[Digest]) -> Digest {
    let mut edge = RightEdge::new();
    leaves.iter().for_each(|leaf| edge.append(*leaf));
    edge.root()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// MTH as RFC 6962 writes it.
    fn mth(leaves: &[Digest]) -> Digest {
        match leaves.len() {
            0 => empty_root(),
            1 => leaves[0],
            n => {
                let k = n.next_power_of_two() / 2;
                node_hash(&mth(&leaves[..k]), &mth(&leaves[k..]))
            }
        }
    }

    #[test]
    fn the_right_edge_agrees_with_the_definition_at_every_small_size() {
        let leaves: Vec<_> = (0_u32..300).map(|i| leaf_hash(&i.to_be_bytes())).collect();
        for n in 0..=leaves.len() {
            assert_eq!(root_of(&leaves[..n]), mth(&leaves[..n]), "size {n}");
        }
    }

    #[test]
    fn whole_subtrees_append_like_their_entries() {
        let leaves: Vec<_> = (0_u32..300).map(|i| leaf_hash(&i.to_be_bytes())).collect();
        for n in 0..leaves.len() {
            let mut edge = RightEdge::new();
            let (full, rest) = leaves[..n].split_at(n / 32 * 32);
            full.chunks(32).for_each(|chunk| edge.append_subtree(5, root_of(chunk)));
            rest.iter().for_each(|leaf| edge.append(*leaf));
            let mut one_by_one = RightEdge::new();
            leaves[..n].iter().for_each(|leaf| one_by_one.append(*leaf));
            assert_eq!(edge, one_by_one, "size {n}");
        }
    }
}
