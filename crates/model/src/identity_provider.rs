//! Another provider of identity, at which people of the house may log in (OpenID Connect).

use std::collections::{BTreeMap, BTreeSet};

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
    /// What it is asked for beside `openid` and `profile`, such as `groups`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub scopes: BTreeSet<Name>,
    /// What its word about groups is worth; absent for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<GroupMapping>,
    /// Who is made by logging in; absent for nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creates: Option<Creation>,
}

/// What a provider's word about groups is worth. At every login the memberships that are its own become what it says then;
/// what people or provisioning gave stays. Nothing passes that is not listed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupMapping {
    /// The claim of the ID token that names groups there: one text, or a list of texts. Anything else names none.
    pub claim: String,
    /// Which value stands for which group. One value may stand for several, several for one.
    pub map: Vec<MappedGroup>,
}

/// A value of a provider's claim, and the group that it stands for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MappedGroup {
    /// The value, to the letter.
    pub value: String,
    /// Our group.
    pub group: Name,
    /// Whether that membership may make somebody an administrator. A group that would, and does not say so here, cannot be mapped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub administration: bool,
}

/// Who is made by logging in: whoever fulfils all of it. At least one bound must be there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Creation {
    /// The claim that gives the new account its name. It only names: somebody who is called so already is never meant.
    #[serde(default = "default_new_name")]
    pub name_claim: String,
    /// Domains, in lower case, of one of which the verified `email` must be. It admits, and links nobody.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub domains: BTreeSet<String>,
    /// Claims, and the values of which each must have one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub when: BTreeMap<String, BTreeSet<String>>,
}

fn default_new_name() -> String {
    "preferred_username".to_owned()
}

const fn default_cap() -> u8 {
    2
}

impl IdentityProviderSpec {
    /// The groups that its word can give: none while it is not in use.
    pub fn given(&self) -> impl Iterator<Item = &MappedGroup> {
        let mapping = self.groups.as_ref().filter(|_| self.status == Status::Active);
        mapping.into_iter().flat_map(|mapping| &mapping.map)
    }

    /// What makes no sense in it, in words.
    #[must_use]
    pub fn mistake(&self) -> Option<&'static str> {
        let empty = |groups: &GroupMapping| {
            groups.claim.is_empty() || groups.map.iter().any(|mapped| mapped.value.is_empty())
        };
        if self.groups.as_ref().is_some_and(empty) {
            return Some("a claim, and a value of it, cannot be empty");
        }
        let creates = self.creates.as_ref()?;
        if creates.domains.is_empty() && creates.when.is_empty() {
            return Some("whoever is made by logging in must be bounded, by `domains` or `when`");
        }
        let plain = |domain: &String| {
            let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
            !domain.is_empty() && !domain.starts_with('.') && domain.bytes().all(ok)
        };
        if !creates.domains.iter().all(plain) {
            return Some("`domains` are host names in lower case");
        }
        creates
            .when
            .values()
            .any(BTreeSet::is_empty)
            .then_some("a claim of `when` without a value admits nobody")
    }

    /// The `acr` values to ask for, the surest first: most providers say nothing unless they are asked.
    #[must_use]
    pub fn acr_values(&self) -> String {
        let mut values: Vec<(&String, &u8)> = self.acr.iter().filter(|(acr, _)| !acr.contains(' ')).collect();
        values.sort_by_key(|(_, level)| std::cmp::Reverse(**level));
        values.iter().map(|(acr, _)| acr.as_str()).collect::<Vec<_>>().join(" ")
    }

    /// What `acr` is worth from this provider: at least one factor was used, and never more than the cap.
    #[must_use]
    pub fn assurance(&self, acr: Option<&str>) -> AssuranceLevel {
        let claimed = acr.and_then(|a| self.acr.get(a)).copied().unwrap_or(1);
        AssuranceLevel::from_number(claimed.min(self.assurance_cap)).unwrap_or(AssuranceLevel::None)
    }
}
