//! The entities as one evaluation sees them: those of the store, and what exists for this ask alone.

use std::sync::Arc;

use cedar_policy::{Entity, EntityUid};

use super::names::PASSING;
use super::node::Node;
use super::{ABOVE_MAX, Entities, EntitiesError};
use crate::inner::Facts;

/// Entities with what exists for one ask.
#[derive(Debug)]
pub(crate) struct View<'a> {
    entities: &'a Entities,
    /// What is said for this ask, by number.
    passing: Vec<(u32, Arc<Node>)>,
    /// Names that the store never heard of; they get no lasting number, or anybody could fill the store by asking.
    unheard: Vec<EntityUid>,
}

impl<'a> View<'a> {
    /// The entities alone.
    pub(crate) const fn of(entities: &'a Entities) -> Self {
        Self { entities, passing: Vec::new(), unheard: Vec::new() }
    }

    /// The entities with `overlay`: an entity of its own, or attributes and parents added to one of the store.
    ///
    /// # Errors
    /// A cycle, too many ancestors, or parents added to something that others are in.
    pub(crate) fn with(entities: &'a Entities, overlay: &[Entity]) -> Result<Self, EntitiesError> {
        let mut view = Self::of(entities);
        for entity in overlay {
            let uid = entity.uid();
            let id = view.number(&uid)?;
            let mut facts = Facts::of(entity)?;
            let mut parents = Vec::new();
            for parent in Facts::parents_of(entity) {
                parents.push(view.number(&parent)?);
            }
            if let Some(below) = view.node(id) {
                facts = below.facts.overlaid(&facts);
                parents.extend(&below.parents);
            }
            parents.sort_unstable();
            parents.dedup();
            let moved = view.node(id).map_or(&[][..], |node| &node.parents) != parents.as_slice();
            if moved && entities.below.get(id).is_some() {
                let why = "others are in it, so its parents cannot change for one ask";
                return Err(EntitiesError::Refused(uid.to_string(), why.to_owned()));
            }
            let mut points_to = Vec::new();
            for target in facts.points_to() {
                points_to.push(view.number(&target)?);
            }
            points_to.sort_unstable();
            points_to.dedup();
            let digest = facts.digest(&uid, &view.uids(&parents))?;
            let kind = entities.names.kind(uid.type_name());
            let mut node = Node::bare(id, uid, kind);
            (node.declared, node.parents, node.points_to) = (true, parents.into(), points_to.into());
            (node.digest, node.facts) = (digest, facts);
            view.passing.retain(|(at, _)| *at != id);
            view.passing.push((id, Arc::new(node)));
        }
        view.close()?;
        Ok(view)
    }

    /// Closes what exists for this ask: each round carries ancestors one level further.
    fn close(&mut self) -> Result<(), EntitiesError> {
        for _ in 0..=self.passing.len() {
            let mut closed = Vec::with_capacity(self.passing.len());
            for (id, node) in &self.passing {
                let mut above = vec![*id];
                for parent in &node.parents {
                    match self.node(*parent) {
                        Some(parent) => above.extend(&parent.above),
                        None => above.push(*parent),
                    }
                }
                if above.iter().filter(|at| *at == id).count() > 1 {
                    return Err(EntitiesError::Cycle(node.uid.to_string()));
                }
                above.sort_unstable();
                above.dedup();
                if above.len() > ABOVE_MAX + 1 {
                    return Err(EntitiesError::Wide(node.uid.to_string()));
                }
                closed.push((*id, Arc::new(Node { above: above.into(), ..node.as_ref().clone() })));
            }
            self.passing = closed;
        }
        Ok(())
    }

    /// The number of a name within this ask.
    fn number(&mut self, uid: &EntityUid) -> Result<u32, EntitiesError> {
        if let Some(known) = self.find(uid) {
            return Ok(known);
        }
        let id = u32::try_from(self.unheard.len()).ok().and_then(|n| n.checked_add(PASSING));
        self.unheard.push(uid.clone());
        id.filter(|id| *id < u32::MAX).ok_or(EntitiesError::TooMany)
    }

    pub(crate) fn find(&self, uid: &EntityUid) -> Option<u32> {
        self.entities.names.find(uid).or_else(|| {
            let at = self.unheard.iter().position(|known| known == uid)?;
            u32::try_from(at).ok()?.checked_add(PASSING)
        })
    }

    pub(crate) fn node(&self, id: u32) -> Option<&Node> {
        let passing = self.passing.iter().find(|(at, _)| *at == id).map(|(_, node)| node);
        passing.or_else(|| self.entities.nodes.get(id)).map(Arc::as_ref)
    }

    /// The node of something declared.
    pub(crate) fn declared(&self, uid: &EntityUid) -> Option<(u32, &Node)> {
        let id = self.find(uid)?;
        self.node(id).filter(|node| node.declared).map(|node| (id, node))
    }

    /// The names of numbers.
    pub(crate) fn uids(&self, ids: &[u32]) -> Vec<EntityUid> {
        let unheard = |id: u32| self.unheard.get(id.checked_sub(PASSING)? as usize).cloned();
        ids.iter()
            .filter_map(|id| self.node(*id).map(|node| node.uid.clone()).or_else(|| unheard(*id)))
            .collect()
    }

    /// What the attributes of `node` name and is declared.
    pub(crate) fn pointed<'v>(&'v self, node: &'v Node) -> impl Iterator<Item = (u32, &'v Node)> {
        node.points_to.iter().filter_map(|id| Some((*id, self.node(*id)?))).filter(|(_, node)| node.declared)
    }

    /// Everything that `roots` reach: themselves, what their attributes name, and the ancestors of both. This is what an
    /// evaluation is recorded to have seen; validation proves that no rule looks further ([`crate::evaluate::LEVEL`]).
    pub(crate) fn reach(&self, roots: [&Node; 2]) -> impl Iterator<Item = &Node> {
        let [one, other] = roots;
        let mut ids = Vec::with_capacity(one.above.len() + other.above.len());
        for root in roots {
            ids.extend_from_slice(&root.above);
            for target in root.points_to.iter().filter_map(|id| self.node(*id)) {
                ids.extend_from_slice(&target.above);
            }
        }
        ids.sort_unstable();
        ids.dedup();
        ids.into_iter().filter_map(|id| self.node(id)).filter(|node| node.declared)
    }
}
