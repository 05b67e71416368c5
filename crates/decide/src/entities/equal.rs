//! Whether two stores of entities say the same, by names: numbers differ from one to the other.

use std::collections::BTreeSet;

use cedar_policy::EntityUid;

use super::Entities;
use super::node::Node;
use super::view::View;

/// What policies see of all entities is the same, and what they do not see because it does not fit.
impl PartialEq for Entities {
    fn eq(&self, other: &Self) -> bool {
        let (ours, theirs) = (View::of(self), View::of(other));
        let above = |view: &View<'_>, node: &Node| -> BTreeSet<EntityUid> {
            view.uids(&node.above).into_iter().collect()
        };
        let same = |node: &Node| {
            theirs.declared(&node.uid).is_some_and(|(_, there)| {
                // A digest is over attributes and parents.
                (node.digest, node.person) == (there.digest, there.person)
                    && above(&ours, node) == above(&theirs, there)
            })
        };
        self.declared == other.declared
            && self.misfits == other.misfits
            && self.nodes.iter().filter(|node| node.declared).all(|node| same(node))
    }
}
