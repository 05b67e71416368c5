//! How a door says what it needs of a caller: challenges (RFC 9110, 11.6.1; RFC 6750, 9449, 9470, 9728) and the metadata of a
//! protected resource (RFC 9728).

use bartizan_model::{BoundBy, Offer, Problem, ReasonCode};
use serde_json::{Value, json};

/// Where metadata of protected resources lie (RFC 9728, 3.1): the path of the resource follows.
pub const RESOURCE_METADATA: &str = "/.well-known/oauth-protected-resource";

/// The algorithms that a proof may be signed with.
const PROOF_ALGORITHMS: [&str; 4] = ["Ed25519", "ES256", "RS256", "PS256"];
/// The values of `acr`, from the level 1 on.
const ACR: [&str; 4] = ["aal1", "aal2", "phr", "phrh"];

/// A resource that tokens are for: an address, and whatever lies below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtectedResource {
    /// Scheme and host as others know them, without a slash at the end.
    pub base: String,
    /// The path, without a slash at the end; empty for everything at `base`.
    pub path: String,
    /// What it is called, for people.
    pub name: &'static str,
    /// The authorization server whose tokens it takes.
    pub issuer: String,
    /// What tokens for it may be asked for.
    pub scopes: Vec<&'static str>,
    /// Whether the listener takes certificates of clients (RFC 8705).
    pub certificates: bool,
}

impl ProtectedResource {
    /// Its identifier: the audience of tokens for it (RFC 8707).
    #[must_use]
    pub fn identifier(&self) -> String {
        format!("{}{}", self.base, self.path)
    }

    /// The path of its metadata.
    #[must_use]
    pub fn metadata_path(&self) -> String {
        format!("{RESOURCE_METADATA}{}", self.path)
    }

    /// Its metadata (RFC 9728, 2).
    #[must_use]
    pub fn metadata(&self) -> Value {
        json!({
            "resource": self.identifier(),
            "resource_name": self.name,
            "authorization_servers": [self.issuer],
            "bearer_methods_supported": ["header"],
            "scopes_supported": self.scopes,
            "dpop_signing_alg_values_supported": PROOF_ALGORITHMS,
            "tls_client_certificate_bound_access_tokens": self.certificates,
        })
    }
}

/// What an answer says about authentication.
#[derive(Clone, Copy, Debug)]
pub struct Challenge<'a> {
    /// Why it is not the answer that was asked for.
    pub problem: &'a Problem,
    /// The resource, where there is an authorization server to get tokens from.
    pub resource: Option<&'a ProtectedResource>,
    /// The scopes that the operation needs, all of them.
    pub scopes: &'a [&'a str],
}

impl Challenge<'_> {
    /// The values of `www-authenticate`; none where authentication is not what is missing.
    #[must_use]
    pub fn values(&self) -> Vec<String> {
        let problem = self.problem;
        let steps_up = problem.offers.iter().any(|offer| matches!(offer, Offer::StepUp { .. }));
        let (error, schemes): (Option<&str>, &[&str]) = match &problem.reason {
            ReasonCode::ScopeInsufficient => (Some("insufficient_scope"), &["Bearer"]),
            // What to ask for stands in the body, under `remedies`: it is no text for a header.
            ReasonCode::DetailsInsufficient => {
                (Some("insufficient_authorization_details"), &["Bearer", "DPoP"])
            }
            ReasonCode::ProofNonceNeeded => (Some("use_dpop_nonce"), &["DPoP"]),
            ReasonCode::ProofRefused => (Some("invalid_dpop_proof"), &["DPoP"]),
            ReasonCode::CredentialMissing => (None, &["Bearer", "DPoP"]),
            ReasonCode::CredentialAmbiguous => (Some("invalid_request"), &["Bearer"]),
            _ if steps_up => (Some("insufficient_user_authentication"), &["Bearer", "DPoP"]),
            _ if self.only_by_proof() => (Some("invalid_token"), &["DPoP"]),
            reason if reason.status() == 401 => (Some("invalid_token"), &["Bearer", "DPoP"]),
            _ => return Vec::new(),
        };
        schemes.iter().map(|scheme| self.value(scheme, error)).collect()
    }

    /// Whether a token bound to a key would do, and nothing else.
    fn only_by_proof(&self) -> bool {
        self.problem.offers.iter().any(
            |offer| matches!(offer, Offer::BindDevice { by } if by.iter().all(|by| *by == BoundBy::Dpop)),
        )
    }

    fn value(&self, scheme: &str, error: Option<&str>) -> String {
        let mut parameters = Vec::new();
        let mut put = |name: &str, value: String| parameters.push(format!("{name}=\"{value}\""));
        put("realm", "bartizan".to_owned());
        if let Some(error) = error {
            put("error", error.to_owned());
            // A code of the closed list, or one of the tenant's own, whose characters need no escape.
            put("error_description", self.problem.reason.code().into_owned());
        }
        for offer in &self.problem.offers {
            if let Offer::StepUp { level, max_age_s } = offer {
                let enough = ACR.get(usize::from(level.saturating_sub(1))..).unwrap_or_default();
                put("acr_values", enough.join(" "));
                if let Some(age) = max_age_s {
                    put("max_age", age.to_string());
                }
            }
        }
        if !self.scopes.is_empty() {
            put("scope", self.scopes.join(" "));
        }
        if let Some(resource) = self.resource {
            put("resource_metadata", format!("{}{}", resource.base, resource.metadata_path()));
        }
        if scheme == "DPoP" {
            put("algs", PROOF_ALGORITHMS.join(" "));
        }
        // Nothing in it holds a quote or backslash: names, numbers, and addresses of ours.
        format!("{scheme} {}", parameters.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource() -> ProtectedResource {
        ProtectedResource {
            base: "https://ai.example".to_owned(),
            path: "/v1".to_owned(),
            name: "Models",
            issuer: "https://id.example".to_owned(),
            scopes: vec!["model:use", "model:list"],
            certificates: false,
        }
    }

    fn values(problem: &Problem) -> Vec<String> {
        Challenge { problem, resource: Some(&resource()), scopes: &["model:invoke"] }.values()
    }

    #[test]
    fn whoever_comes_without_a_token_is_told_where_to_get_one_and_for_what() {
        let values = values(&Problem::new(ReasonCode::CredentialMissing));
        assert_eq!(
            values[0],
            "Bearer realm=\"bartizan\", scope=\"model:invoke\", \
             resource_metadata=\"https://ai.example/.well-known/oauth-protected-resource/v1\""
        );
        assert!(values[1].starts_with("DPoP ") && values[1].contains("algs=\"Ed25519 ES256 RS256 PS256\""));
        assert!(values.iter().all(|value| !value.contains("error")), "{values:?}");
    }

    #[test]
    fn each_refusal_has_the_error_of_its_specification() {
        for (reason, scheme, error) in [
            (ReasonCode::CredentialExpired, "Bearer", "invalid_token"),
            (ReasonCode::BindingMismatch, "Bearer", "invalid_token"),
            (ReasonCode::TokenAudienceMismatch, "Bearer", "invalid_token"),
            (ReasonCode::ScopeInsufficient, "Bearer", "insufficient_scope"),
            (ReasonCode::CredentialAmbiguous, "Bearer", "invalid_request"),
            (ReasonCode::ProofRefused, "DPoP", "invalid_dpop_proof"),
            (ReasonCode::ProofNonceNeeded, "DPoP", "use_dpop_nonce"),
        ] {
            let values = values(&Problem::new(reason.clone()));
            assert!(values[0].starts_with(scheme), "{reason}: {values:?}");
            assert!(values[0].contains(&format!("error=\"{error}\"")), "{reason}: {values:?}");
            assert!(values[0].contains("scope=\"model:invoke\"") && values[0].contains("resource_metadata="));
        }
        for reason in [ReasonCode::NoMatchingPermit, ReasonCode::Forbidden, ReasonCode::SnapshotStale] {
            assert_eq!(values(&Problem::new(reason)), Vec::<String>::new());
        }
    }

    #[test]
    fn whoever_lacks_a_token_for_exactly_this_is_told_so_under_both_schemes() {
        let told = values(&Problem::new(ReasonCode::DetailsInsufficient));
        assert!(told[0].starts_with("Bearer ") && told[1].starts_with("DPoP "), "{told:?}");
        assert!(told.iter().all(|one| one.contains("error=\"insufficient_authorization_details\"")));
        // Another token of the same kind would be used up as well.
        assert!(values(&Problem::new(ReasonCode::DetailsUsedUp)).is_empty());
    }

    #[test]
    fn a_step_up_names_every_authentication_that_is_enough_and_how_old_it_may_be() {
        let offers = vec![Offer::StepUp { level: 3, max_age_s: Some(900) }];
        let problem = Problem { offers, ..Problem::new(ReasonCode::AssuranceTooLow) };
        let values = values(&problem);
        for part in
            ["error=\"insufficient_user_authentication\"", "acr_values=\"phr phrh\"", "max_age=\"900\""]
        {
            assert!(values[0].contains(part), "{part}: {values:?}");
        }
    }

    #[test]
    fn metadata_lie_where_the_specification_puts_them_and_name_the_resource_itself() {
        let at_path = resource();
        assert_eq!(at_path.metadata_path(), "/.well-known/oauth-protected-resource/v1");
        assert_eq!(at_path.metadata()["resource"], "https://ai.example/v1");
        let root = ProtectedResource { path: String::new(), ..resource() };
        assert_eq!(root.metadata_path(), "/.well-known/oauth-protected-resource");
        assert_eq!(root.metadata()["resource"], "https://ai.example");
        assert_eq!(root.metadata()["authorization_servers"], json!(["https://id.example"]));
        // Asking for a refresh token is between client and authority (MCP 2026-07-28).
        assert!(!root.metadata()["scopes_supported"].to_string().contains("offline_access"));
    }
}
