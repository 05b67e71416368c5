//! Clients for themselves (RFC 6749, 4.4).

use std::collections::BTreeSet;

use bartizan_base::{Name, Timestamp};
use bartizan_model::{
    Assurance, AssuranceLevel, Conditions, GrantType, Principal, PrincipalRef, Spec, Tenant,
};
use bartizan_store::State;

use crate::Authority;
use crate::clients::{Authenticated, Client};
use crate::issue::{Issue, Rights, Root};
use crate::oauth::{Form, IDENTITY, OauthCode, OauthError, TokenAnswer};

/// Answers a client that asks for itself. There is no refresh token: it can ask again.
///
/// # Errors
/// `unauthorized_client` for one that proves nothing or is nobody of its own.
pub async fn client_credentials(
    authority: &Authority,
    client: &Authenticated,
    form: &Form,
) -> Result<TokenAnswer, OauthError> {
    // Nothing is counted or used up, so nobody waits for anybody.
    authority.issue_for("", || Box::pin(for_itself(authority, client, form))).await
}

async fn for_itself(authority: &Authority, client: &Authenticated, form: &Form) -> Result<Issue, OauthError> {
    let view = authority.control.house.view(&authority.settings.tenant)?;
    let rights = own_rights(authority, &view.state, client, authority.control.clock.now())?;
    Issue::new(GrantType::ClientCredentials, client, rights)?.asked(form)
}

/// What a client may do as the principal that it is.
pub(crate) fn own_rights(
    authority: &Authority,
    state: &State,
    authenticated: &Authenticated,
    now: Timestamp,
) -> Result<Rights, OauthError> {
    let client = &authenticated.client;
    let Some(subject) = principal(state, client).filter(|_| authenticated.proven) else {
        return Err(OauthError::new(OauthCode::UnauthorizedClient, "the client does not act for itself"));
    };
    Ok(Rights::root(Root {
        tenant: client.tenant.clone(),
        subject,
        actors: Vec::new(),
        scopes: without_identity(&client.scopes),
        resources: resources(authority, client),
        details: Vec::new(),
        assurance: Assurance {
            // One factor, whatever it is: nobody was there.
            level: AssuranceLevel::Aal1,
            methods: vec![Name::literal("key")],
            at: now,
            via: None,
        },
        session: None,
        device: None,
        grants: Vec::new(),
        family: None,
        binding: None,
        since: state.revision,
        ends: now.saturating_add(crate::issue::TOKEN_LIFE),
    }))
}

/// Who a client is when it acts for itself.
pub(super) fn principal(state: &State, client: &Client) -> Option<Principal> {
    principal_of(state, &client.tenant, client.principal.as_ref()?)
}

/// The principal of that kind and name.
pub(crate) fn principal_of(state: &State, tenant: &Tenant, named: &PrincipalRef) -> Option<Principal> {
    let found = state.documents.iter().find(|(owner, document, _)| {
        owner == tenant && document.name == named.name && document.spec.principal_kind() == Some(named.kind)
    });
    let (_, document, _) = found?;
    Some(Principal { kind: named.kind, name: named.name.clone(), id: document.principal? })
}

/// What the sponsor of an agent or workload demands of it.
pub(crate) fn conditions_of<'a>(state: &'a State, principal: &Principal) -> Option<&'a Conditions> {
    state.documents.iter().find_map(|(_, document, _)| match &document.spec {
        Spec::Agent(spec) | Spec::Workload(spec) if document.principal == Some(principal.id) => {
            Some(&spec.conditions)
        }
        _ => None,
    })
}

/// The addresses that a client may have tokens for.
pub(crate) fn resources(authority: &Authority, client: &Client) -> BTreeSet<String> {
    let all = &authority.settings.resources;
    if client.resources.is_empty() { all.clone() } else { &client.resources & all }
}

/// Scopes that are about what is done, not about who somebody is.
fn without_identity(scopes: &BTreeSet<String>) -> BTreeSet<String> {
    scopes.iter().filter(|scope| !IDENTITY.contains(&scope.as_str())).cloned().collect()
}
