//! What is known of an entity, kept small: the engine's own form of an entity takes more than a kilobyte.

use bartizan_base::Digest;
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
}

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
        Ok(Self {
            attributes: inner.attrs().map(known).collect::<Result<_, _>>()?,
            tags: inner.tags().map(known).collect::<Result<_, _>>()?,
        })
    }

    /// Attributes by name, in the order of their names.
    pub(crate) fn of_attributes(attributes: impl Iterator<Item = (SmolStr, Fact)>) -> Self {
        let attributes = attributes.map(|(name, fact)| (name, fact.into_value())).collect();
        Self { attributes, tags: Box::default() }
    }

    /// These, with `others` added or in their place.
    pub(crate) fn overlaid(&self, others: &Self) -> Self {
        let join = |below: &[(SmolStr, Value)], above: &[(SmolStr, Value)]| {
            let mut all: Vec<_> = above.to_vec();
            all.extend(below.iter().filter(|(name, _)| above.iter().all(|(n, _)| n != name)).cloned());
            all.sort_by(|a, b| a.0.cmp(&b.0));
            all.into_boxed_slice()
        };
        Self { attributes: join(&self.attributes, &others.attributes), tags: join(&self.tags, &others.tags) }
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
