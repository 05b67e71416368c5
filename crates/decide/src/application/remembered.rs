//! What the questions of one call have in common: read once, whatever number of them there is.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};

use bartizan_base::{Digest, json};
use cedar_policy::{Context, EntityId, EntityTypeName, EntityUid, Schema};
use serde_json::Value;

use super::{Untranslated, chain};
use crate::context::Circumstances;
use crate::inner::{self, Fact};
use crate::needs::Needs;

/// Circumstances that are kept; questions of one call seldom tell more than one kind of them.
const TOLD_MAX: usize = 8;
/// Names of types that are kept.
const KINDS_MAX: usize = 256;

/// Names and circumstances that were read before.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    kinds: RefCell<HashMap<String, EntityTypeName>>,
    told: RefCell<VecDeque<(EntityUid, Value, Told)>>,
}

/// A context that is made already.
#[derive(Clone, Debug)]
pub(super) struct Told {
    context: Context,
    digest: Digest,
}

impl Remembered {
    pub(super) fn uid(&self, kind: &str, id: &str) -> Result<EntityUid, Untranslated> {
        if let Some(known) = self.kinds.borrow().get(kind) {
            return Ok(EntityUid::from_type_name_and_id(known.clone(), EntityId::new(id)));
        }
        let read: EntityTypeName = kind.parse().map_err(|_| Untranslated::Unknown)?;
        let mut kinds = self.kinds.borrow_mut();
        if kinds.len() < KINDS_MAX {
            kinds.insert(kind.to_owned(), read.clone());
        }
        Ok(EntityUid::from_type_name_and_id(read, EntityId::new(id)))
    }

    /// The context of `action` with what was told, as the schema reads it.
    ///
    /// # Errors
    /// When the schema does not.
    pub(super) fn circumstances(
        &self,
        action: &EntityUid,
        told: Value,
        schema: &Schema,
    ) -> Result<Told, String> {
        let same = |(of, text, _): &&(EntityUid, Value, Told)| of == action && *text == told;
        if let Some((_, _, known)) = self.told.borrow().iter().find(same) {
            return Ok(known.clone());
        }
        let digest = Digest::of(&json::canonical(&told).map_err(|e| e.to_string())?);
        let context = Context::from_json_value(told.clone(), Some((schema, action)));
        let made = Told { context: context.map_err(|e| chain(&e))?, digest };
        let mut kept = self.told.borrow_mut();
        if kept.len() >= TOLD_MAX {
            kept.pop_front();
        }
        kept.push_back((action.clone(), told, made.clone()));
        Ok(made)
    }
}

impl Circumstances for Told {
    fn fact(&self, name: &str, member: Option<&str>, _: Needs) -> Option<Option<Fact>> {
        let found = inner::attribute(&self.context, name)?;
        match (found, member) {
            (Some(whole), Some(member)) => whole.member(member),
            (found, _) => Some(found),
        }
    }

    fn context(&self, _: Needs) -> Option<Context> {
        Some(self.context.clone())
    }

    fn digest(&self) -> Option<Digest> {
        Some(self.digest)
    }

    fn stale(&self) -> &[&'static str] {
        &[]
    }
}
