//! The Merkle tree of RFC 6962: leaf and node hashes, and the right edge from which the root follows.

use bartizan_base::Digest;

/// The hash of a leaf, `SHA-256(0x00 || entry)` (RFC 6962, 2.1).
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Digest {
    Digest::of_parts(&[&[0], entry])
}

/// The hash of an inner node, `SHA-256(0x01 || left || right)` (RFC 6962, 2.1).
#[must_use]
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    Digest::of_parts(&[&[1], left.as_bytes(), right.as_bytes()])
}

/// The root of the tree without leaves, `SHA-256("")` (RFC 6962, 2.1).
#[must_use]
pub fn empty_root() -> Digest {
    Digest::of(&[])
}

/// What must be kept of a tree to append to it: the roots of the perfect subtrees it consists of, largest first.
/// At most 64 digests, whatever the size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RightEdge {
    size: u64,
    stack: Vec<Digest>,
}

impl RightEdge {
    /// The edge of the empty tree.
    #[must_use]
    pub const fn new() -> Self {
        Self { size: 0, stack: Vec::new() }
    }

    /// How many leaves the tree has.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Appends the leaf whose hash is `leaf`.
    pub fn append(&mut self, leaf: Digest) {
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.stack.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.stack.push(hash);
        self.size += 1;
    }

    /// The root of the tree as it stands.
    #[must_use]
    pub fn root(&self) -> Digest {
        fold_right(self.stack.iter().copied()).unwrap_or_else(empty_root)
    }

    /// The roots of the perfect subtrees, largest first.
    pub(crate) fn into_subtrees(self) -> Vec<Digest> {
        self.stack
    }
}

impl Extend<Digest> for RightEdge {
    fn extend<I: IntoIterator<Item = Digest>>(&mut self, leaves: I) {
        for leaf in leaves {
            self.append(leaf);
        }
    }
}

/// The root over hashes of nodes of one height, first to last.
pub(crate) fn root_of(nodes: &[Digest]) -> Digest {
    let mut edge = RightEdge::new();
    edge.extend(nodes.iter().copied());
    edge.root()
}

/// Joins neighbouring subtrees, given from left to right, each at least as large as the next.
pub(crate) fn fold_right(subtrees: impl DoubleEndedIterator<Item = Digest>) -> Option<Digest> {
    subtrees.rev().reduce(|right, left| node_hash(&left, &right))
}

/// The largest power of two below `n`: where RFC 6962 splits a tree of `n` leaves. Zero for trees not to be split.
pub(crate) const fn split_point(n: u64) -> u64 {
    if n < 2 { 0 } else { 1 << (u64::BITS - 1 - (n - 1).leading_zeros()) }
}
