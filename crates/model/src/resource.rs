//! References to entities of the policy.

use std::fmt;

use bartizan_base::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An entity within a tenant: its type in the policy schema and its name, printed as `Model::"gpt-4o"`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EntityRef {
    /// The entity type of the schema, such as `Model`.
    #[serde(rename = "type")]
    pub kind: Name,
    /// The name, unique within its type and tenant.
    pub name: Name,
}

impl EntityRef {
    /// The entity `name` of type `kind`.
    #[must_use]
    pub const fn new(kind: Name, name: Name) -> Self {
        Self { kind, name }
    }

    /// Our own house as a resource: what administrative actions apply to.
    #[must_use]
    pub fn system() -> Self {
        Self { kind: Name::literal("System"), name: Name::literal("bartizan") }
    }
}

impl fmt::Display for EntityRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::\"{}\"", self.kind, self.name)
    }
}

impl fmt::Debug for EntityRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
