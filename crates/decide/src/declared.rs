//! What a bundle's schema declares, for those who have to fit facts of others into it.

use std::collections::BTreeMap;

use cedar_policy::SchemaFragment;
use serde_json::{Map, Value};

/// The members of a record and whether each must be there.
pub(crate) type Members = BTreeMap<String, Member>;

/// A member of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) required: bool,
    /// The members of its own, where it is a record.
    pub(crate) members: Option<Members>,
}

/// Attributes by entity type and context members by action, both by their full names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Declared {
    entities: BTreeMap<String, Members>,
    /// By namespace and id, as in `Photo::Action::"view"`.
    contexts: BTreeMap<(String, String), Members>,
}

/// How deep types may refer to each other: far beyond what people write, so that a circle ends.
const DEPTH_MAX: usize = 32;

impl Declared {
    pub(crate) fn of(fragments: &[SchemaFragment]) -> Self {
        let all: Vec<Value> = fragments.iter().filter_map(|f| f.clone().to_json_value().ok()).collect();
        let namespaces: Vec<(&String, &Value)> =
            all.iter().filter_map(Value::as_object).flat_map(Map::iter).collect();
        let common: BTreeMap<String, &Value> = namespaces
            .iter()
            .flat_map(|(space, body)| {
                members_of(body, "commonTypes").map(|(name, kind)| (qualified(space, name), kind))
            })
            .collect();
        let mut out = Self::default();
        for (space, body) in namespaces {
            let types = Types { space, common: &common };
            for (name, kind) in members_of(body, "entityTypes") {
                let shape = kind.get("shape").and_then(|shape| types.record(shape, 0)).unwrap_or_default();
                out.entities.insert(qualified(space, name), shape);
            }
            for (id, action) in members_of(body, "actions") {
                let context = action.pointer("/appliesTo/context");
                let context = context.and_then(|context| types.record(context, 0)).unwrap_or_default();
                out.contexts.insert((space.clone(), id.clone()), context);
            }
        }
        out
    }

    /// The attributes that a type declares; none for a type that nobody declares.
    pub(crate) fn attributes(&self, kind: &str) -> Option<&Members> {
        self.entities.get(kind)
    }

    /// What the context of an action has; none for an action that nobody declares.
    pub(crate) fn context(&self, namespace: &str, action: &str) -> Option<&Members> {
        self.contexts.get(&(namespace.to_owned(), action.to_owned()))
    }

    /// The ids of the actions of a namespace.
    pub(crate) fn actions<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a str> {
        let all = self.contexts.keys();
        all.filter(move |(space, _)| space == namespace).map(|(_, id)| id.as_str())
    }
}

struct Types<'a> {
    space: &'a str,
    common: &'a BTreeMap<String, &'a Value>,
}

impl Types<'_> {
    /// The members of a record type, also of one that is named.
    fn record(&self, kind: &Value, depth: usize) -> Option<Members> {
        if depth > DEPTH_MAX {
            return None;
        }
        match kind.get("type")?.as_str()? {
            "Record" => {
                let attributes = kind.get("attributes")?.as_object()?;
                let member = |value: &Value| Member {
                    required: value.get("required").and_then(Value::as_bool).unwrap_or(true),
                    members: self.record(value, depth + 1),
                };
                Some(attributes.iter().map(|(name, value)| (name.clone(), member(value))).collect())
            }
            "EntityOrCommon" => self.named(kind.get("name")?.as_str()?, depth),
            name => self.named(name, depth),
        }
    }

    fn named(&self, name: &str, depth: usize) -> Option<Members> {
        let found = self.common.get(&qualified(self.space, name)).or_else(|| self.common.get(name))?;
        self.record(found, depth + 1)
    }
}

fn qualified(space: &str, name: &str) -> String {
    if space.is_empty() || name.contains("::") { name.to_owned() } else { format!("{space}::{name}") }
}

fn members_of<'a>(body: &'a Value, name: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    body.get(name).and_then(Value::as_object).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(texts: &[&str]) -> Declared {
        let fragments: Vec<_> =
            texts.iter().map(|t| SchemaFragment::from_cedarschema_str(t).unwrap().0).collect();
        Declared::of(&fragments)
    }

    fn names(members: &Members) -> Vec<(&str, bool)> {
        members.iter().map(|(name, member)| (name.as_str(), member.required)).collect()
    }

    #[test]
    fn attributes_and_contexts_are_found_through_named_types_and_namespaces() {
        let all = declared(&[
            "type Base = { role?: String }; entity user { role?: String }; entity record { status: String, owner?: user };
             action read, write appliesTo { principal: user, resource: record, context: { action: { soft?: Bool }, ip?: ipaddr } };",
            "namespace Photo { type Ctx = { album: String }; entity Person, Picture; action view appliesTo { principal: Person, resource: Picture, context: Ctx }; }",
        ]);
        assert_eq!(names(all.attributes("user").unwrap()), [("role", false)]);
        assert_eq!(names(all.attributes("record").unwrap()), [("owner", false), ("status", true)]);
        assert_eq!(all.attributes("Photo::Person"), Some(&Members::new()));
        assert_eq!(all.attributes("nobody"), None);
        let read = all.context("", "read").unwrap();
        assert_eq!(names(read), [("action", true), ("ip", false)]);
        assert_eq!(names(read["action"].members.as_ref().unwrap()), [("soft", false)]);
        assert_eq!(names(all.context("Photo", "view").unwrap()), [("album", true)]);
        assert_eq!(all.context("", "view"), None);
        assert_eq!(all.actions("").collect::<Vec<_>>(), ["read", "write"]);
    }
}
