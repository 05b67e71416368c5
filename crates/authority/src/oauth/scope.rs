//! Scopes: actions, groups of actions, and those of OpenID Connect.

use std::collections::BTreeSet;

use bartizan_model::Action;

use super::{OauthCode, OauthError};

/// Scopes that are not actions (OpenID Connect Core, 5.4 and 11).
pub(crate) const IDENTITY: &[&str] = &["openid", "profile", "email", "offline_access"];

/// Groups of actions that a scope may name, as the schema of policies has them.
const GROUPS: &[&str] = &["model:use", "self:use", "house:read", "house:change"];

/// The most scopes in one request.
const COUNT_MAX: usize = 64;

/// Whether there is such a scope.
#[must_use]
pub fn is_known(scope: &str) -> bool {
    IDENTITY.contains(&scope) || GROUPS.contains(&scope) || scope.parse::<Action>().is_ok()
}

/// Reads the value of `scope` (RFC 6749, 3.3).
///
/// # Errors
/// `invalid_scope` for one that is unknown or malformed.
pub fn parse_scope(text: &str) -> Result<BTreeSet<String>, OauthError> {
    let mut out = BTreeSet::new();
    for scope in text.split(' ').filter(|scope| !scope.is_empty()) {
        if !is_known(scope) || out.len() == COUNT_MAX {
            return Err(OauthError::new(OauthCode::InvalidScope, "a scope is unknown"));
        }
        out.insert(scope.to_owned());
    }
    Ok(out)
}

/// Scopes as the protocol writes them.
#[must_use]
pub fn write_scope(scopes: &BTreeSet<String>) -> String {
    scopes.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_actions_groups_and_those_of_openid_connect() {
        let scopes = parse_scope("openid  model:invoke model:use model:invoke").unwrap();
        assert_eq!(write_scope(&scopes), "model:invoke model:use openid");
        assert!(parse_scope("model:invent").is_err());
        assert!(parse_scope("OPENID").is_err());
    }
}
