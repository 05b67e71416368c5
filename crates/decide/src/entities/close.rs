//! Changes: what is written, and what it means for everything below.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use cedar_policy::EntityUid;

use super::names::Ready;
use super::node::Node;
use super::{ABOVE_MAX, DEPTH_MAX, Entities, EntitiesError, Upsert};

/// How far the closing of one entity has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closing {
    Due,
    Open,
    Done,
}

type ByNumber<T> = HashMap<u32, T, BuildHasherDefault<Ready>>;

impl Entities {
    /// Writes all, then closes the ancestors of whatever stands below a changed parent.
    pub(super) fn apply(
        &mut self,
        upserts: Vec<Upsert>,
        removals: &[EntityUid],
    ) -> Result<(), EntitiesError> {
        let mut moved = Vec::new();
        for removed in removals {
            moved.extend(self.forget(removed));
        }
        for upsert in upserts {
            moved.extend(self.write(upsert)?);
        }
        self.close(moved)
    }

    /// Writes one entity; its number if its ancestors may have changed.
    fn write(&mut self, upsert: Upsert) -> Result<Option<u32>, EntitiesError> {
        let Upsert { uid, facts, parents: named, person } = upsert;
        let id = self.name(&uid)?;
        let digest = facts.digest(&uid, &named)?;
        let mut parents = Vec::with_capacity(named.len());
        for parent in &named {
            parents.push(self.name(parent)?);
        }
        parents.sort_unstable();
        parents.dedup();
        let mut points_to = Vec::new();
        for target in facts.points_to() {
            points_to.push(self.names.of(&target).ok_or(EntitiesError::TooMany)?);
        }
        points_to.sort_unstable();
        points_to.dedup();
        let Some(old) = self.nodes.get(id).cloned() else { return Err(EntitiesError::TooMany) };
        let moved = *old.parents != *parents;
        if moved {
            self.link(id, &old.parents, &parents);
        }
        self.declared += usize::from(!old.declared);
        let node = Node {
            uid: old.uid.clone(),
            kind: old.kind,
            declared: true,
            person,
            height: old.height,
            parents: parents.into(),
            above: old.above.clone(),
            points_to: points_to.into(),
            digest,
            facts,
        };
        self.nodes.update(id, |slot| *slot = Some(Arc::new(node)));
        Ok(moved.then_some(id))
    }

    /// Forgets what is known of an entity; its number if something may have lost ancestors.
    fn forget(&mut self, uid: &EntityUid) -> Option<u32> {
        let id = self.names.find(uid)?;
        let old = self.nodes.get(id).filter(|node| node.declared)?.clone();
        self.declared -= 1;
        self.link(id, &old.parents, &[]);
        let has_members = self.below.get(id).is_some_and(|members| !members.is_empty());
        let bare = has_members.then(|| Arc::new(Node::bare(id, old.uid.clone(), old.kind)));
        self.nodes.update(id, |slot| *slot = bare);
        (has_members && !old.parents.is_empty()).then_some(id)
    }

    /// The number of a name, which has a node from now on.
    fn name(&mut self, uid: &EntityUid) -> Result<u32, EntitiesError> {
        let id = self.names.of(uid).ok_or(EntitiesError::TooMany)?;
        if self.nodes.get(id).is_none() {
            let node = Arc::new(Node::bare(id, uid.clone(), self.names.kind(uid.type_name())));
            self.nodes.update(id, |slot| *slot = Some(node));
        }
        Ok(id)
    }

    /// Notes `id` under its parents.
    fn link(&mut self, id: u32, old: &[u32], new: &[u32]) {
        for parent in old.iter().filter(|parent| new.binary_search(parent).is_err()) {
            self.below.update(*parent, |slot| {
                if let Some(members) = slot {
                    members.remove(id);
                    if members.is_empty() {
                        *slot = None;
                    }
                }
            });
        }
        for parent in new.iter().filter(|parent| old.binary_search(parent).is_err()) {
            self.below.update(*parent, |slot| slot.get_or_insert_default().insert(id));
        }
    }

    /// Closes the ancestors of `moved` and of everything below them.
    fn close(&mut self, moved: Vec<u32>) -> Result<(), EntitiesError> {
        let mut due: ByNumber<Closing> = ByNumber::default();
        let mut queue = moved;
        let mut order = Vec::new();
        while let Some(id) = queue.pop() {
            if due.insert(id, Closing::Due).is_none() {
                order.push(id);
                queue.extend(self.below.get(id).into_iter().flat_map(super::members::Members::iter));
            }
        }
        for id in order {
            self.close_one(id, &mut due)?;
        }
        Ok(())
    }

    /// Closes one entity after its parents, without recursion: a hostile hierarchy is as deep as it likes until it is refused.
    fn close_one(&mut self, id: u32, due: &mut ByNumber<Closing>) -> Result<(), EntitiesError> {
        let mut stack = vec![id];
        while let Some(id) = stack.last().copied() {
            let Some(node) = self.nodes.get(id) else {
                stack.pop();
                continue;
            };
            match due.get(&id) {
                Some(Closing::Due) => {
                    due.insert(id, Closing::Open);
                    for parent in &node.parents {
                        match due.get(parent) {
                            Some(Closing::Open) => return Err(EntitiesError::Cycle(node.uid.to_string())),
                            Some(Closing::Due) => stack.push(*parent),
                            Some(Closing::Done) | None => {}
                        }
                    }
                }
                Some(Closing::Open) => {
                    due.insert(id, Closing::Done);
                    stack.pop();
                    // The node is borrowed no longer, so that it is changed in its place and not in a copy.
                    let (above, height) = self.closed(id, node)?;
                    self.nodes.update(id, |slot| {
                        if let Some(node) = slot {
                            let node = Arc::make_mut(node);
                            (node.above, node.height) = (above, height);
                        }
                    });
                }
                // It stood on the stack twice, below two of its members.
                Some(Closing::Done) | None => {
                    stack.pop();
                }
            }
        }
        Ok(())
    }

    /// Itself and what is above its parents, and how many levels that is.
    fn closed(&self, id: u32, node: &Node) -> Result<(Box<[u32]>, u8), EntitiesError> {
        let mut above = vec![id];
        let mut height = 0;
        let mut seen: HashSet<u32, BuildHasherDefault<Ready>> = HashSet::default();
        for parent in node.parents.iter().filter_map(|parent| self.nodes.get(*parent)) {
            height = height.max(parent.height.saturating_add(1));
            if node.parents.len() <= 8 {
                above.extend(parent.above.iter());
            } else {
                above.extend(parent.above.iter().filter(|id| seen.insert(**id)));
            }
            if above.len() > 8 * ABOVE_MAX {
                break;
            }
        }
        above.sort_unstable();
        above.dedup();
        if usize::from(height) > DEPTH_MAX {
            return Err(EntitiesError::Deep(node.uid.to_string()));
        }
        if above.len() > ABOVE_MAX + 1 {
            return Err(EntitiesError::Wide(node.uid.to_string()));
        }
        Ok((above.into(), height))
    }
}
