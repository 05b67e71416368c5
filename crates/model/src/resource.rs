//! References to entities of the policy.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use bartizan_base::{Name, Text};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::Action;

/// What an entity is called within its type: any text of at most 1,024 bytes without control characters. Things with a
/// kind of their own are called by their [`Name`]; those of other systems keep the ids they have there.
pub type EntityName = Text<1024>;

/// An entity within a tenant: its type in the policy schema and its name, printed as `Model::"gpt-4o"`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EntityRef {
    /// The entity type of the schema, such as `Model`.
    #[serde(rename = "type")]
    pub kind: Name,
    /// The name, unique within its type and tenant.
    pub name: EntityName,
}

impl EntityRef {
    /// The entity `name` of type `kind`.
    #[must_use]
    pub fn new(kind: Name, name: impl Into<EntityName>) -> Self {
        Self { kind, name: name.into() }
    }

    /// The parts of our own house of which there is one: always there, and all called `bartizan`.
    pub const OF_THE_HOUSE: [&'static str; 4] = ["Configuration", "Ledger", "Policy", "System"];

    /// Our own house as a resource: what administrative actions apply to that concern no part of it.
    #[must_use]
    pub fn system() -> Self {
        Self::new(Name::literal("System"), Name::literal("bartizan"))
    }

    /// What of our own house an action applies to; none where there can be several, or where it is about something else.
    #[must_use]
    pub fn of_the_house(action: Action) -> Option<Self> {
        let kind = action.resource_type();
        Self::OF_THE_HOUSE.contains(&kind).then(|| Self::new(Name::literal(kind), Name::literal("bartizan")))
    }
}

impl fmt::Display for EntityRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::\"{}\"", self.kind, self.name.escape_debug())
    }
}

impl fmt::Debug for EntityRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The name of an entity type: identifiers joined by `::`, such as `Shop::Order`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct TypeName(Name);

impl TypeName {
    /// The name.
    #[must_use]
    pub const fn as_name(&self) -> &Name {
        &self.0
    }
}

/// Why a text names no entity or no type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Not a type.
    #[error("an entity type is written `Order` or `Shop::Order`: letters, digits and `_`, at most 128 bytes")]
    NotAType,
    /// No type in front of the name.
    #[error("an entity is written `Group::staff`, or with any text `Shop::Order::\"2026::7\"`")]
    NotAnEntity,
    /// The name breaks its bound.
    #[error("the name of an entity has at most 1,024 bytes and no control characters")]
    Name,
}

impl FromStr for TypeName {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let identifier = |part: &str| {
            part.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        if !text.split("::").all(identifier) {
            return Err(PathError::NotAType);
        }
        text.parse().map(Self).map_err(|_| PathError::NotAType)
    }
}

impl<'de> Deserialize<'de> for TypeName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl fmt::Display for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl JsonSchema for TypeName {
    fn schema_name() -> Cow<'static, str> {
        "TypeName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*(::[A-Za-z_][A-Za-z0-9_]*)*$", "maxLength": 128})
    }
}

/// An entity as people write it: `Group::staff`, or with any text as its name `Shop::Order::"2026::7"`, where `"` and `\`
/// are written `\"` and `\\`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityPath {
    /// The type.
    pub kind: TypeName,
    /// The name within the type.
    pub name: EntityName,
}

impl EntityPath {
    /// The entity.
    #[must_use]
    pub fn entity(&self) -> EntityRef {
        EntityRef { kind: self.kind.0.clone(), name: self.name.clone() }
    }
}

impl FromStr for EntityPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let (kind, name) = match text.strip_suffix('"').and_then(|rest| rest.split_once("::\"")) {
            Some((kind, quoted)) => (kind, unquoted(quoted)?),
            None => {
                let (kind, name) = text.rsplit_once("::").ok_or(PathError::NotAnEntity)?;
                if name.is_empty() || name.contains(['"', '\\']) {
                    return Err(PathError::NotAnEntity);
                }
                (kind, name.to_owned())
            }
        };
        Ok(Self { kind: kind.parse()?, name: name.parse().map_err(|_| PathError::Name)? })
    }
}

/// What stands between the quotes.
fn unquoted(quoted: &str) -> Result<String, PathError> {
    let mut out = String::with_capacity(quoted.len());
    let mut characters = quoted.chars();
    while let Some(c) = characters.next() {
        out.push(match c {
            '"' => return Err(PathError::NotAnEntity),
            '\\' => characters.next().filter(|c| matches!(c, '"' | '\\')).ok_or(PathError::NotAnEntity)?,
            c => c,
        });
    }
    Ok(out)
}

impl fmt::Display for EntityPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty()
            || self.name.starts_with(':')
            || self.name.contains(['"', '\\'])
            || self.name.contains("::")
        {
            let name = self.name.replace('\\', "\\\\").replace('"', "\\\"");
            write!(f, "{}::\"{name}\"", self.kind)
        } else {
            write!(f, "{}::{}", self.kind, self.name)
        }
    }
}

impl fmt::Debug for EntityPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for EntityPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EntityPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for EntityPath {
    fn schema_name() -> Cow<'static, str> {
        "EntityPath".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "description": "`Group::staff`, or with any text as its name `Shop::Order::\"2026::7\"`."})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_are_read_in_both_ways_of_writing_them() {
        let read = |text: &str| text.parse::<EntityPath>().map(|p| (p.kind.to_string(), p.name.to_string()));
        let ok = |kind: &str, name: &str| Ok((kind.to_owned(), name.to_owned()));
        assert_eq!(read("Group::staff"), ok("Group", "staff"));
        assert_eq!(read("Shop::Order::7"), ok("Shop::Order", "7"));
        assert_eq!(read(r#"Shop::Order::"a::b \" c""#), ok("Shop::Order", r#"a::b " c"#));
        assert_eq!(read("Group::any text é/"), ok("Group", "any text é/"));
        for bad in [
            "Group",
            "Group::",
            "::x",
            "1x::y",
            "Gr oup::x",
            "Group::\"",
            "Group::a\"b",
            "Group::\"a\"b\"",
            "",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(read(&format!("Group::{}", "x".repeat(1_025))), Err(PathError::Name));
        assert_eq!(read("Group::a\u{0}"), Err(PathError::Name));
        assert_eq!(read(&format!("{}::x", "T".repeat(129))), Err(PathError::NotAType));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(kind in "[A-Z][a-z0-9_]{0,5}(::[A-Z][a-z]{0,3}){0,2}", name in "([a-z:\"\\\\ é]|::){0,12}") {
            let path = EntityPath { kind: kind.parse().unwrap(), name: name.parse().unwrap() };
            prop_assert_eq!(path.to_string().parse::<EntityPath>(), Ok(path));
        }
    }
}
