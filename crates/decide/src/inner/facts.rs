//! What is known of an entity, kept small: the engine's own form of an entity takes more than a kilobyte.

use std::sync::Arc;

use bartizan_base::Digest;
use bartizan_model::Conditions;
use cedar_policy::{Entity, EntityUid};
use cedar_policy_core::ast::{Literal, PartialValue, Value, ValueKind};
use cedar_policy_core::entities::CedarValueJson;
use smol_str::SmolStr;

use super::json;
use super::value::Fact;
use crate::entities::EntitiesError;

/// Attributes and tags, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    attributes: Box<[(SmolStr, Value)]>,
    tags: Box<[(SmolStr, Value)]>,
    /// Of agents and workloads: what their sponsor demands, read from the attribute of that name.
    bounds: Option<Arc<Conditions>>,
}

/// The attribute of agents and workloads that holds the sponsor's conditions, as JSON.
pub(crate) const CONDITIONS: &str = "conditions";

impl Facts {
    /// The facts of an entity.
    ///
    /// # Errors
    /// When a value is not known, or cannot be written as JSON that means it alone.
    pub(crate) fn of(entity: &Entity) -> Result<Self, EntitiesError> {
        let inner: &cedar_policy_core::ast::Entity = entity.as_ref();
        let known = |(name, value): (&SmolStr, &PartialValue)| match value {
            PartialValue::Value(value) => Ok((name.clone(), value.clone())),
            PartialValue::Residual(_) => {
                Err(EntitiesError::Refused(entity.uid().to_string(), format!("`{name}` is not known")))
            }
        };
        let attributes: Box<[(SmolStr, Value)]> = inner.attrs().map(known).collect::<Result<_, _>>()?;
        Ok(Self {
            bounds: bounds_among(&entity.uid(), &attributes)?,
            attributes,
            tags: inner.tags().map(known).collect::<Result<_, _>>()?,
        })
    }

    /// What the sponsor demands of it.
    pub(crate) fn bounds(&self) -> Option<&Conditions> {
        self.bounds.as_deref()
    }

    /// Of attributes by name, in the order of their names.
    ///
    /// # Errors
    /// When the conditions among them cannot be read.
    pub(crate) fn of_attributes(
        uid: &EntityUid,
        attributes: impl Iterator<Item = (SmolStr, Fact)>,
    ) -> Result<Self, EntitiesError> {
        let attributes: Box<[_]> = attributes.map(|(name, fact)| (name, fact.into_value())).collect();
        Ok(Self { bounds: bounds_among(uid, &attributes)?, attributes, tags: Box::default() })
    }

    /// These, with `others` added or in their place.
    pub(crate) fn overlaid(&self, others: &Self) -> Self {
        let join = |below: &[(SmolStr, Value)], above: &[(SmolStr, Value)]| {
            let mut all: Vec<_> = above.to_vec();
            all.extend(below.iter().filter(|(name, _)| above.iter().all(|(n, _)| n != name)).cloned());
            all.sort_by(|a, b| a.0.cmp(&b.0));
            all.into_boxed_slice()
        };
        Self {
            attributes: join(&self.attributes, &others.attributes),
            tags: join(&self.tags, &others.tags),
            bounds: self.bounds.clone(),
        }
    }

    /// An attribute.
    pub(super) fn attribute(&self, name: &str) -> Option<&Value> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// A tag.
    pub(super) fn tag(&self, name: &str) -> Option<&Value> {
        self.tags.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Attributes and tags in the engine's own form.
    pub(crate) fn attributes(&self) -> impl Iterator<Item = (SmolStr, PartialValue)> {
        self.attributes.iter().map(|(name, value)| (name.clone(), PartialValue::Value(value.clone())))
    }

    pub(crate) fn tags(&self) -> impl Iterator<Item = (SmolStr, PartialValue)> {
        self.tags.iter().map(|(name, value)| (name.clone(), PartialValue::Value(value.clone())))
    }

    /// The entities that attributes and tags name.
    pub(crate) fn points_to(&self) -> Vec<EntityUid> {
        let mut out = Vec::new();
        for (_, value) in self.attributes.iter().chain(&self.tags) {
            entities_in(value, &mut out);
        }
        out
    }

    /// The entity as a document: Cedar's JSON format for entities, in canonical form (RFC 8785; whole numbers are written
    /// exactly whatever their size), parents and sets sorted.
    pub(crate) fn document(&self, uid: &EntityUid, parents: &[EntityUid]) -> Option<Vec<u8>> {
        let mut out = b"{\"attrs\":".to_vec();
        write_members(&self.attributes, &mut out)?;
        out.extend_from_slice(b",\"parents\":");
        let mut written: Vec<Vec<u8>> = parents.iter().map(written_uid).collect();
        written.sort_unstable();
        json::write_list(&written, &mut out);
        if !self.tags.is_empty() {
            out.extend_from_slice(b",\"tags\":");
            write_members(&self.tags, &mut out)?;
        }
        out.extend_from_slice(b",\"uid\":");
        out.extend_from_slice(&written_uid(uid));
        out.push(b'}');
        Some(out)
    }

    /// The direct parents of an entity that was not closed.
    pub(crate) fn parents_of(entity: &Entity) -> Vec<EntityUid> {
        let inner: &cedar_policy_core::ast::Entity = entity.as_ref();
        inner.parents().map(|parent| EntityUid::from(parent.clone())).collect()
    }

    pub(crate) fn digest(&self, uid: &EntityUid, parents: &[EntityUid]) -> Result<Digest, EntitiesError> {
        let refused =
            || EntitiesError::Refused(uid.to_string(), "a fact cannot be written as JSON".to_owned());
        Ok(Digest::of(&self.document(uid, parents).ok_or_else(refused)?))
    }
}

/// The conditions among the attributes of an agent or workload. What cannot be read refuses the entity: an agent without its
/// conditions would be a wider one.
fn bounds_among(
    uid: &EntityUid,
    attributes: &[(SmolStr, Value)],
) -> Result<Option<Arc<Conditions>>, EntitiesError> {
    let Some((_, value)) = attributes.iter().find(|(name, _)| name == CONDITIONS) else { return Ok(None) };
    if !matches!(uid.type_name().to_string().as_str(), "Agent" | "Workload") {
        return Ok(None);
    }
    let read = match &value.value {
        ValueKind::Lit(Literal::String(text)) => serde_json::from_str(text).ok(),
        _ => None,
    };
    let unread = || EntitiesError::Refused(uid.to_string(), "its conditions cannot be read".to_owned());
    Ok(Some(Arc::new(read.ok_or_else(unread)?)))
}

/// Every entity that `value` names.
fn entities_in(value: &Value, out: &mut Vec<EntityUid>) {
    match &value.value {
        ValueKind::Lit(Literal::EntityUID(uid)) => out.push(EntityUid::from(uid.as_ref().clone())),
        ValueKind::Lit(_) | ValueKind::ExtensionValue(_) => {}
        ValueKind::Set(set) => set.authoritative.iter().for_each(|value| entities_in(value, out)),
        ValueKind::Record(members) => members.values().for_each(|value| entities_in(value, out)),
    }
}

fn written_uid(uid: &EntityUid) -> Vec<u8> {
    let mut out = b"{\"id\":".to_vec();
    json::write_text(uid.id().unescaped(), &mut out);
    out.extend_from_slice(b",\"type\":");
    let kind = uid.type_name();
    if kind.namespace_components().next().is_none() {
        json::write_text(kind.basename(), &mut out);
    } else {
        json::write_text(&kind.to_string(), &mut out);
    }
    out.push(b'}');
    out
}

fn write_members(members: &[(SmolStr, Value)], out: &mut Vec<u8>) -> Option<()> {
    let mut sorted: Vec<(&str, &Value)> =
        members.iter().map(|(name, value)| (name.as_str(), value)).collect();
    sorted.sort_by(|a, b| json::by_name(a.0, b.0));
    out.push(b'{');
    for (n, (name, value)) in sorted.into_iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        json::write_text(name, out);
        out.push(b':');
        write_value(value, out)?;
    }
    out.push(b'}');
    Some(())
}

fn write_value(value: &Value, out: &mut Vec<u8>) -> Option<()> {
    match &value.value {
        ValueKind::Lit(Literal::Bool(flag)) => out.extend_from_slice(if *flag { b"true" } else { b"false" }),
        ValueKind::Lit(Literal::Long(number)) => out.extend_from_slice(number.to_string().as_bytes()),
        ValueKind::Lit(Literal::String(text)) => json::write_text(text, out),
        ValueKind::Lit(Literal::EntityUID(uid)) => {
            out.extend_from_slice(b"{\"__entity\":");
            out.extend_from_slice(&written_uid(&EntityUid::from(uid.as_ref().clone())));
            out.push(b'}');
        }
        ValueKind::Set(set) => {
            let mut written = Vec::new();
            for item in set.authoritative.iter() {
                let mut one = Vec::new();
                write_value(item, &mut one)?;
                written.push(one);
            }
            written.sort_unstable();
            json::write_list(&written, out);
        }
        ValueKind::Record(members) => {
            // A record of that shape would read as an entity or an extension's value.
            if members.keys().any(|name| matches!(name.as_str(), "__entity" | "__extn" | "__expr")) {
                return None;
            }
            let members: Vec<(SmolStr, Value)> =
                members.iter().map(|(n, v)| (n.clone(), v.clone())).collect();
            write_members(&members, out)?;
        }
        ValueKind::ExtensionValue(_) => {
            let written = serde_json::to_value(CedarValueJson::from_value(value.clone()).ok()?).ok()?;
            out.extend_from_slice(&bartizan_base::json::canonical(&written).ok()?);
        }
    }
    Some(())
}
