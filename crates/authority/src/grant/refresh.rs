//! Refresh tokens, presented (RFC 6749, 6; RFC 9700, 4.14).

use bartizan_base::Timestamp;
use bartizan_identify::Identifier;
use bartizan_model::{Action, GrantId, GrantType, Problem, ReasonCode, Tenant};
use serde::Serialize;

use crate::Authority;
use crate::clients::{Authenticated, Client};
use crate::grants::{OF_ONE_MAX, end_family, end_grant, unread};
use crate::issue::{Issue, OpenId};
use crate::kept::{Grant, Held, Session, find, find_of, owner};
use crate::oauth::{Form, OauthError, TokenAnswer};
use crate::refresh::{Family, Presented, Standing, hasty};
use crate::userinfo::about;

/// How often a withdrawal is tried where somebody else changes the family at the same time.
const ATTEMPTS: usize = 5;

/// Answers a refresh token with an access token and the next refresh token.
///
/// # Errors
/// `invalid_grant` for whatever does not hold. A token that was used before, and not just now, ends its family first.
pub async fn refresh(
    authority: &Authority,
    client: &Authenticated,
    form: &Form,
) -> Result<TokenAnswer, OauthError> {
    let token = match form.need("refresh_token").map(Presented::parse) {
        Ok(Some(token)) => token,
        Ok(None) => return Err(authority.refused(OauthError::grant()).await),
        Err(error) => return Err(authority.refused(error).await),
    };
    let id = token.family.to_string();
    authority.issue_for(&id, || Box::pin(next(authority, client, form, &token))).await
}

async fn next(
    authority: &Authority,
    client: &Authenticated,
    form: &Form,
    token: &Presented,
) -> Result<Issue, OauthError> {
    let now = authority.control.clock.now();
    let held = find::<Family>(&*authority.rows, &token.family.to_string(), now).await?;
    let Some(held) = held.filter(|held| held.tenant == authority.settings.tenant) else {
        return Err(OauthError::grant());
    };
    let family = &held.value;
    let standing = family.hold(token, now, &*authority.control.random);
    if matches!(standing, Standing::Foreign) {
        return Err(OauthError::grant());
    }
    if family.withdrawn.is_some() {
        return Err(OauthError::grant().because(ReasonCode::CredentialRevoked));
    }
    let rightful = family.client == client.client.id && family.is_held_by(client.bound);
    match standing {
        Standing::Present { .. } | Standing::Hasty if !rightful => Err(OauthError::grant()),
        Standing::Hasty => Err(hasty()),
        Standing::Present { family: next, text } => {
            check_session(authority, family, now).await?;
            let change = held.replace(&next)?;
            Ok(issue(client, family, form)?.next_refresh(text).with([change]))
        }
        Standing::Repeated { text } if rightful => {
            check_session(authority, family, now).await?;
            Ok(issue(client, family, form)?.next_refresh(text))
        }
        // Somebody else has a copy, or one that was thrown away comes back: nobody can say who is who, so nobody goes on.
        Standing::Repeated { .. } | Standing::Reused | Standing::Foreign => {
            tracing::warn!(
                family = held.id,
                "a refresh token came back after it was used; its family is withdrawn"
            );
            end(authority, &client.client, held, "a refresh token came back").await?;
            Err(OauthError::grant().because(ReasonCode::CredentialRevoked))
        }
    }
}

fn issue(client: &Authenticated, family: &Family, form: &Form) -> Result<Issue, OauthError> {
    let rights = family.rights.clone();
    let issue = if family.held {
        Issue::new(GrantType::RefreshToken, client, rights)?
    } else {
        Issue::handed(GrantType::RefreshToken, client, rights)?
    };
    let openid = OpenId { nonce: None, about: about(family.rights.get()) };
    Ok(issue.asked(form)?.openid(openid))
}

/// A family that goes with a session ends with it.
async fn check_session(authority: &Authority, family: &Family, now: Timestamp) -> Result<(), OauthError> {
    let Some(session) = family.rights.get().session else { return Ok(()) };
    let held = find::<Session>(&*authority.rows, &session.to_string(), now).await?;
    let alive = held.is_some_and(|held| {
        held.tenant == family.rights.get().tenant && held.value.principal.id == family.subject().id
    });
    if alive { Ok(()) } else { Err(OauthError::grant().because(ReasonCode::CredentialExpired)) }
}

/// What is asked for when a family is ended; its digest is recorded.
#[derive(Serialize)]
struct Ending<'a> {
    family: &'a str,
    because: &'a str,
}

/// Ends a family: recorded, and before anything is told. By the house itself: it must not hang on what policy lets the person
/// do, or on whether they may come in just now, because they may again tomorrow.
///
/// Of a client whose consent is never remembered, the consent ends with the last login that rests on it: nothing could come of it
/// any more, and it must not look to the person as if something could.
pub(crate) async fn end(
    authority: &Authority,
    client: &Client,
    mut held: Held<Family>,
    because: &str,
) -> Result<(), OauthError> {
    let now = authority.control.clock.now();
    let house = Identifier::house(held.tenant.clone());
    for _ in 0..ATTEMPTS {
        let ending = Ending { family: &held.id, because };
        let ended = authority
            .control
            .change_with(&house, Action::IdentityChange, &ending, async |view, tenant| {
                let mut changes = end_family(&view.state, &held, now)?.to_vec();
                if !client.is_identified() {
                    for consent in resting(authority, client, &held, tenant, now).await? {
                        changes.extend(end_grant(&view.state, &consent, now)?);
                    }
                }
                Ok((changes, ()))
            })
            .await;
        match ended {
            Err(stopped) if stopped.problem.reason == ReasonCode::Conflict => {}
            other => return Ok(other.map(drop)?),
        }
        match find::<Family>(&*authority.rows, &held.id, now).await? {
            Some(again) if again.value.withdrawn.is_none() => held = again,
            _ => return Ok(()),
        }
    }
    Err(ReasonCode::Busy.into())
}

/// The consents to `client` that nothing rests on but the family `held`.
async fn resting(
    authority: &Authority,
    client: &Client,
    held: &Held<Family>,
    tenant: &Tenant,
    now: Timestamp,
) -> Result<Vec<Held<Grant>>, Problem> {
    let rows = &*authority.rows;
    let owner = owner(held.value.subject());
    let families = find_of::<Family>(rows, tenant, &owner, OF_ONE_MAX, now).await.map_err(unread)?;
    let rests = |family: &Held<Family>, id: &GrantId| {
        family.id != held.id
            && family.value.withdrawn.is_none()
            && family.value.rights.get().grants.contains(id)
    };
    let mut out = Vec::new();
    for id in held.value.rights.get().grants.iter().filter(|id| !families.iter().any(|f| rests(f, id))) {
        let consent = find::<Grant>(rows, &id.to_string(), now).await.map_err(unread)?;
        out.extend(consent.filter(|consent| {
            let of_client = consent.value.client == client.id && consent.value.agent.is_none();
            consent.tenant == *tenant && of_client
        }));
    }
    Ok(out)
}
