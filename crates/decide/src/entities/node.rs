//! One entity as the store keeps it.

use bartizan_base::Digest;
use cedar_policy::EntityUid;

use crate::inner::Facts;

/// An entity, or a name that others are in and that nothing was declared under.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) uid: EntityUid,
    /// The number of its type.
    pub(crate) kind: u32,
    pub(crate) declared: bool,
    /// A person in use.
    pub(super) person: bool,
    /// How many levels are above it.
    pub(super) height: u8,
    pub(crate) parents: Box<[u32]>,
    /// Itself and everything above, sorted.
    pub(crate) above: Box<[u32]>,
    /// What its attributes name.
    pub(super) points_to: Box<[u32]>,
    pub(crate) digest: Digest,
    pub(crate) facts: Facts,
}

impl Node {
    /// A name without anything.
    pub(super) fn bare(id: u32, uid: EntityUid, kind: u32) -> Self {
        Self {
            uid,
            kind,
            declared: false,
            person: false,
            height: 0,
            parents: Box::default(),
            above: Box::from([id]),
            points_to: Box::default(),
            digest: Digest::from_bytes([0; 32]),
            facts: Facts::default(),
        }
    }

    /// Whether it is `id` or lies in it.
    pub(crate) fn is_in(&self, id: u32) -> bool {
        self.above.binary_search(&id).is_ok()
    }
}
