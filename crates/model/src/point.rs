//! Enforcement points outside the house: applications that ask for decisions and enforce them themselves.

use std::collections::{BTreeMap, BTreeSet};

use bartizan_base::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ObligationKind;
use crate::directory::Status;

/// An application that asks for decisions (OpenID AuthZEN). What it may say of subjects, actions and resources, and how its
/// words map to the bundle's schema. What is not listed here is ignored, so that nobody can argue himself into a right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnforcementPointSpec {
    /// Whether it may ask.
    #[serde(default)]
    pub status: Status,
    /// The workload that asks.
    pub workload: Name,
    /// The namespace of the bundle's schema in which its types and actions are declared; none for no namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Name>,
    /// Entity types of the schema by the names the application has for them, where they differ.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub types: BTreeMap<Name, Name>,
    /// Properties of subjects that it is believed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub subject_properties: BTreeSet<Name>,
    /// Properties of actions that it is believed; policies see them as `context.action`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub action_properties: BTreeSet<Name>,
    /// Properties of resources that it is believed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub resource_properties: BTreeSet<Name>,
    /// Members of the context that it is believed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub context: BTreeSet<Name>,
    /// Whether its word replaces what the directory says of the same property. Off: the directory wins.
    #[serde(default)]
    pub overrides: bool,
    /// Whether what it writes beside `type` and `id` counts as properties, as in drafts of the API before 01.
    #[serde(default)]
    pub flat_properties: bool,
    /// Obligations that it can apply. A permit under others is none.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub applies: BTreeSet<ObligationKind>,
}

impl EnforcementPointSpec {
    /// The application of a workload that is believed nothing.
    #[must_use]
    pub const fn of(workload: Name) -> Self {
        Self {
            status: Status::Active,
            workload,
            namespace: None,
            types: BTreeMap::new(),
            subject_properties: BTreeSet::new(),
            action_properties: BTreeSet::new(),
            resource_properties: BTreeSet::new(),
            context: BTreeSet::new(),
            overrides: false,
            flat_properties: false,
            applies: BTreeSet::new(),
        }
    }
}
