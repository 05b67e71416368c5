//! Whose word is taken for a token of ours: workloads of other platforms, assertions of identity providers.

use std::collections::{BTreeMap, BTreeSet};

use bartizan_base::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::client::PrincipalRef;
use crate::directory::Status;
use crate::pattern::SubjectPattern;
use crate::{AssuranceLevel, PrincipalKind};

/// A rule by which a client comes to a token of ours with another issuer's (RFC 7523, 2.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FederationSpec {
    /// Whether it is followed.
    #[serde(default)]
    pub status: Status,
    /// The exact `iss`; for SPIFFE the trust domain, as `spiffe://trust.domain`.
    pub issuer: String,
    /// Where the issuer's keys are; for SPIFFE the address of its trust bundle. Absent only where `trust_bundle` holds them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub jwks_url: String,
    /// The trust bundle of a SPIFFE trust domain itself, where it is not to be fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_bundle: Option<serde_json::Value>,
    /// Whether that address may be private or loopback.
    #[serde(default)]
    pub allow_private: bool,
    /// What its tokens must name as their audience; the authority's own issuer if absent. Assertions of identity providers
    /// always name the issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// What kind of token is taken.
    #[serde(default)]
    pub takes: FederatedToken,
    /// Who its subjects are here. The first that fits counts; a subject that fits none is nobody.
    pub subjects: Vec<FederatedSubject>,
    /// The clients that may use it; none for all that may use such assertions.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub clients: BTreeSet<Name>,
    /// The most that may be given.
    pub scopes: BTreeSet<Name>,
    /// The addresses where it may hold; none for all that the client may have.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub resources: BTreeSet<String>,
    /// What `acr` values of an identity provider are worth, as levels 0 to 4. One that is not listed is worth AAL1.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub acr: BTreeMap<String, u8>,
    /// The most its word is worth, 0 to 4.
    #[serde(default = "default_cap")]
    pub assurance_cap: u8,
}

const fn default_cap() -> u8 {
    2
}

/// What kind of token a rule is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FederatedToken {
    /// A workload's token of its platform: Kubernetes, CI, SPIFFE.
    #[default]
    Workload,
    /// An identity provider's assertion about a person, made for a client and for us (ID-JAG).
    IdentityAssertion,
}

/// Who a subject of another issuer is here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FederatedSubject {
    /// The `sub`.
    pub subject: SubjectPattern,
    /// Claims that must be texts of exactly this value, such as `repository`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, String>,
    /// Who it is. Absent for the person whose name is the value of `name_claim`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<PrincipalRef>,
    /// The claim that holds a person's name in our directory, where `principal` is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_claim: Option<String>,
}

impl FederationSpec {
    /// What `acr` is worth from this issuer.
    #[must_use]
    pub fn assurance(&self, acr: Option<&str>) -> AssuranceLevel {
        let claimed = acr.and_then(|a| self.acr.get(a)).copied().unwrap_or(1);
        AssuranceLevel::from_number(claimed.min(self.assurance_cap)).unwrap_or(AssuranceLevel::None)
    }

    /// Who `subject` is here, whose other claims `claim` tells.
    #[must_use]
    pub fn who(&self, subject: &str, claim: impl Fn(&str) -> Option<String>) -> Option<PrincipalRef> {
        let fits = |rule: &&FederatedSubject| {
            rule.subject.matches(subject)
                && rule.claims.iter().all(|(name, value)| claim(name).as_ref() == Some(value))
        };
        let rule = self.subjects.iter().find(fits)?;
        match (&rule.principal, &rule.name_claim) {
            (Some(principal), None) => Some(principal.clone()),
            (None, Some(name)) => {
                let name = if name == "sub" { subject.to_owned() } else { claim(name)? };
                Some(PrincipalRef { kind: PrincipalKind::User, name: name.parse().ok()? })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_who_the_first_rule_that_fits_says_and_nobody_otherwise() {
        let spec: FederationSpec = serde_json::from_value(serde_json::json!({
            "issuer": "https://ci.example", "jwks_url": "https://ci.example/jwks", "scopes": ["model:invoke"],
            "subjects": [
                {"subject": "repo:org/*", "claims": {"environment": "production"},
                 "principal": {"kind": "workload", "name": "deployer"}},
                {"subject": "person-*", "name_claim": "login"},
                {"subject": "neither"},
            ],
        }))
        .unwrap();
        let claims = |name: &str| match name {
            "environment" => Some("production".to_owned()),
            "login" => Some("alice".to_owned()),
            _ => None,
        };
        let name = |subject| spec.who(subject, claims).map(|who| who.name.to_string());
        assert_eq!(name("repo:org/app"), Some("deployer".to_owned()));
        assert_eq!(name("person-1"), Some("alice".to_owned()));
        assert_eq!(name("neither"), None);
        assert_eq!(name("repo:other/app"), None);
        assert_eq!(spec.who("repo:org/app", |_| None), None);
        assert_eq!(spec.who("person-1", |_| Some("not a name".to_owned())), None);
    }
}
