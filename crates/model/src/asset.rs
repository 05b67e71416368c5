//! What is guarded beside models: devices, model families, tools, data, APIs, deployments.

use std::collections::BTreeSet;

use bartizan_base::{Digest, Name, Text, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Confidentiality, Integrity, Label, Status};

/// A thing that is used, read or deployed: all of them are guarded by the same facts. What nobody labelled counts as
/// restricted and untrusted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AssetSpec {
    /// Whether it may be used.
    pub status: Status,
    /// What contains it: the server of a tool, the corpus of a collection, the table of a column.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub within: BTreeSet<Name>,
    /// The project it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<Name>,
    /// The environment it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<Name>,
    /// The person who answers for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Name>,
    /// How sensitive it is to use: `low`, `medium`, `high`.
    pub sensitivity: Name,
    /// How confidential what it holds or gives is.
    pub confidentiality: Confidentiality,
    /// How trustworthy what it holds or gives is.
    pub integrity: Integrity,
    /// Of which categories that is, such as `health`.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub categories: BTreeSet<Name>,
    /// Where people connect the accounts that it is used with, of a tool server or API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<Name>,
    /// Of a document: the people on its access list.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub readers: BTreeSet<Name>,
    /// Of a document: the groups on its access list.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub reader_groups: BTreeSet<Name>,
    /// SHA-256 of it, where it is fixed by its content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// What it is, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<Text<500>>,
}

impl Default for AssetSpec {
    fn default() -> Self {
        Self {
            status: Status::default(),
            within: BTreeSet::new(),
            project: None,
            environment: None,
            owner: None,
            sensitivity: Name::literal("medium"),
            confidentiality: Confidentiality::default(),
            integrity: Integrity::default(),
            categories: BTreeSet::new(),
            connection: None,
            readers: BTreeSet::new(),
            reader_groups: BTreeSet::new(),
            digest: None,
            description: None,
        }
    }
}

impl AssetSpec {
    /// The label of what it holds or gives.
    #[must_use]
    pub fn label(&self) -> Label {
        Label {
            confidentiality: self.confidentiality,
            categories: self.categories.clone(),
            integrity: self.integrity,
        }
    }
}

/// A family of models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FamilySpec {
    /// Families it is part of.
    pub parents: BTreeSet<Name>,
    /// Whose models they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<Name>,
    /// How sensitive its models are to use: `low`, `medium`, `high`.
    pub sensitivity: Name,
    /// What it is, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<Text<500>>,
}

impl Default for FamilySpec {
    fn default() -> Self {
        Self {
            parents: BTreeSet::new(),
            provider: None,
            sensitivity: Name::literal("medium"),
            description: None,
        }
    }
}

/// A device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeviceSpec {
    /// Whether requests from it are let in.
    pub status: Status,
    /// Whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Name>,
    /// Whether the organisation manages it.
    pub managed: bool,
    /// Groups it belongs to.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<Name>,
    /// The thumbprint (RFC 7638) of the key enrolled for it: requests proven by that key come from it (RFC 9449).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Digest>,
    /// SHA-256 of the certificate enrolled for it, in DER: the same for mutual TLS (RFC 8705).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Digest>,
    /// Whether its key was attested when it was enrolled.
    pub attested: bool,
    /// Whether it kept the organisation's rules when it was last looked at.
    pub compliant: bool,
    /// When it was last looked at; policies do not see a device that nobody has looked at for long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen_us: Option<Timestamp>,
}
