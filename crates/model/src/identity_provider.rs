//! Another provider of identity, at which people of the house may log in (OpenID Connect).

use std::collections::BTreeMap;

use bartizan_base::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AssuranceLevel, Status};

/// A provider, what of it is believed, and how much.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentityProviderSpec {
    /// Whether one may log in by it.
    #[serde(default)]
    pub status: Status,
    /// The exact `iss`; its metadata is found below it.
    pub issuer: String,
    /// What we are called there.
    pub client_id: String,
    /// Which sealed credential is our secret there; none for a public client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Name>,
    /// Whether its addresses may be private, and may then be `http`.
    #[serde(default)]
    pub allow_private: bool,
    /// The claim that says what somebody is called in our directory, where the provider is the one who gives those names and
    /// never gives one twice. Without, somebody must have linked their account there. Never an address for mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_claim: Option<Name>,
    /// What its `acr` values are worth, as levels 0 to 4. A value not listed is worth AAL1.
    #[serde(default)]
    pub acr: BTreeMap<String, u8>,
    /// The most its word is worth, 0 to 4.
    #[serde(default = "default_cap")]
    pub assurance_cap: u8,
}

const fn default_cap() -> u8 {
    2
}

impl IdentityProviderSpec {
    /// What `acr` is worth from this provider: at least one factor was used, and never more than the cap.
    #[must_use]
    pub fn assurance(&self, acr: Option<&str>) -> AssuranceLevel {
        let claimed = acr.and_then(|a| self.acr.get(a)).copied().unwrap_or(1);
        AssuranceLevel::from_number(claimed.min(self.assurance_cap)).unwrap_or(AssuranceLevel::None)
    }
}
