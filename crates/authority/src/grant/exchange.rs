//! Token exchange (RFC 8693): a token of ours for another one, of the same person, with less in it and perhaps one more who
//! acts.
//!
//! Who may present a token: whoever it is for (a service that received it, and saw the proof at its own door), or the client
//! that it was issued to (then with the same proof as anywhere). Who may act: whom the token itself names (`may_act`), or whom
//! the person has allowed by a grant; of several, the one that covers what is asked. For where: the same address, or one
//! that the grants behind the token hold for and the client may have.

use std::collections::BTreeSet;

use bartizan_base::Timestamp;
use bartizan_control::View;
use bartizan_model::{GrantType, Principal, PrincipalKind, ReasonCode};

use super::client_credentials::principal;
use crate::Authority;
use crate::clients::Authenticated;
use crate::grants::is_alive;
use crate::issue::{Issue, NarrowError, Rights, Root, one_resource};
use crate::kept::{Grant, Held, best_of, find, owner};
use crate::oauth::{Form, IDENTITY, OauthCode, OauthError, TokenAnswer, parse_scope};
use crate::own::Own;

/// The type of access tokens (RFC 8693, 3).
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// The same, said of a JWT.
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// Answers an exchange. There is never a refresh token: what was exchanged is exchanged again.
///
/// # Errors
/// `invalid_request` for tokens that are not taken (RFC 8693, 2.2.2), `invalid_target`, `invalid_scope`.
pub async fn exchange(
    authority: &Authority,
    client: &Authenticated,
    form: &Form,
) -> Result<TokenAnswer, OauthError> {
    // Uses of one person's grants are counted one after the other.
    let what = form.get("subject_token").map(|token| bartizan_base::Digest::of(token.as_bytes()).to_string());
    authority.issue_for(&what.unwrap_or_default(), || Box::pin(exchanged(authority, client, form))).await
}

async fn exchanged(authority: &Authority, client: &Authenticated, form: &Form) -> Result<Issue, OauthError> {
    let now = authority.control.clock.now();
    let view = authority.control.house.view(&authority.settings.tenant)?;
    let wanted = form.get("requested_token_type").unwrap_or(ACCESS_TOKEN);
    if !matches!(wanted, ACCESS_TOKEN | JWT) {
        return Err(OauthError::request("only access tokens are given"));
    }
    let subject = token(authority, &view, client, form, ("subject_token", "subject_token_type"))?;
    let actor = actor(authority, &view, client, form)?;
    let origin = &subject.rights;
    let scopes = form.get("scope").map(parse_scope).transpose()?;
    let target = one_resource(form)?.unwrap_or(&subject.audience).to_owned();
    let held_grants = own_grants(authority, origin.get(), now).await?;
    let may_act = subject.claims.may_act.as_ref();
    let Some(actor) = actor else {
        // The token is only made smaller, for the one who has it.
        if may_act.is_some() || subject.client != client.client.id {
            return Err(refuse("nobody is named who would act"));
        }
        let from = reaching(origin, &target, &held_grants, None)?;
        return finish(client, from, scopes, &target, None);
    };
    if let Some(may) = may_act {
        // It goes to the one that it names, and no further.
        if may.sub != actor.id.to_string() || may.iss.as_deref().is_some_and(|iss| *iss != *authority.issuer)
        {
            return Err(refuse("the token lets another party act"));
        }
        let from = reaching(origin, &target, &held_grants, None)?;
        return finish(client, from, scopes, &target, Some((actor, None)));
    }
    let grant = allowed(authority, client, origin.get(), (&actor, scopes.as_ref(), &target), now).await?;
    let from = reaching(origin, &target, &held_grants, Some(&grant.value))?;
    finish(client, from, scopes, &target, Some((actor, Some(&grant.value))))
}

/// A token was presented that cannot be taken (RFC 8693, 2.2.2).
fn refuse(why: &str) -> OauthError {
    OauthError::request(why).because(ReasonCode::CredentialUnknown)
}

/// Reads the subject's or the actor's token, of which the client is the holder or the audience.
fn token(
    authority: &Authority,
    view: &View,
    client: &Authenticated,
    form: &Form,
    (name, kind): (&str, &str),
) -> Result<Own, OauthError> {
    let text = form.need(name)?;
    if !matches!(form.need(kind)?, ACCESS_TOKEN | JWT) {
        return Err(OauthError::request(format!("{kind} is not taken")));
    }
    let own = authority.own(view, text)?.ok_or_else(|| refuse("the token is unknown, or over"))?;
    // Services are named by the addresses that tokens are for.
    let audience = client.proven && client.client.is_at(&own.audience);
    let holder = own.client == client.client.id && holds(&own.rights, client);
    if audience || holder { Ok(own) } else { Err(refuse("the token is somebody else's")) }
}

/// Whether the client has shown the key that a token is bound to.
fn holds(rights: &Rights, client: &Authenticated) -> bool {
    rights.clone().held_with(client.bound.confirmation()).is_ok()
}

/// Who is to act: whom the actor's token stands for, or who the client is.
fn actor(
    authority: &Authority,
    view: &View,
    client: &Authenticated,
    form: &Form,
) -> Result<Option<Principal>, OauthError> {
    if form.get("actor_token").is_none() {
        if form.get("actor_token_type").is_some() {
            return Err(OauthError::request("actor_token_type without actor_token"));
        }
        return Ok(principal(&view.state, &client.client).filter(|_| client.proven));
    }
    let own = token(authority, view, client, form, ("actor_token", "actor_token_type"))?;
    let rights = own.rights.get();
    // A token that says "somebody acts for me" is no proof of who acts.
    if !rights.actors.is_empty() || rights.subject.kind == PrincipalKind::User {
        return Err(refuse("the actor's token is not one of an agent or workload for itself"));
    }
    Ok(Some(rights.subject.clone()))
}

/// The grants behind a token that can still be used.
async fn own_grants(
    authority: &Authority,
    rights: &Root,
    now: Timestamp,
) -> Result<Vec<Held<Grant>>, OauthError> {
    let mut out = Vec::new();
    for id in &rights.grants {
        out.extend(find::<Grant>(&*authority.rows, &id.to_string(), now).await?);
    }
    Ok(out)
}

/// The grant by which somebody lets `actor` act and that covers what is asked; of several the one that ends last.
async fn allowed(
    authority: &Authority,
    client: &Authenticated,
    rights: &Root,
    (actor, scopes, target): (&Principal, Option<&BTreeSet<String>>, &str),
    now: Timestamp,
) -> Result<Held<Grant>, OauthError> {
    let fits = |held: &Held<Grant>| {
        let grant = &held.value;
        grant.agent.as_ref().is_some_and(|agent| agent.id == actor.id)
            && is_alive(grant)
            // For whichever program the agent runs as, or for this one.
            && (grant.client.is_empty() || grant.client == client.client.id)
            && grant.resources.contains(target)
            && scopes.is_none_or(|asked| asked.is_subset(&grant.scopes))
    };
    let later = |one: &Grant, other: &Grant| one.ends > other.ends;
    let own = owner(&rights.subject);
    let grant = best_of(&*authority.rows, &rights.tenant, &own, now, fits, later).await?;
    grant.ok_or_else(|| {
        OauthError::new(OauthCode::AccessDenied, "the person has not allowed it")
            .because(ReasonCode::Forbidden)
    })
}

/// The token's rights at the address that is asked for. They reach it where the token is for it, or where the grant that the
/// token comes from holds for it and so does the one by which the actor may act; otherwise they stay as they are. Where that
/// one is for exact things only, so are they.
fn reaching(
    origin: &Rights,
    target: &str,
    grants: &[Held<Grant>],
    by: Option<&Grant>,
) -> Result<Rights, OauthError> {
    let mut root = origin.get().clone();
    let newest = root.grants.first();
    let comes_from = grants.iter().find(|held| Some(&held.value.id) == newest);
    if comes_from.is_some_and(|held| held.value.resources.contains(target))
        && by.is_none_or(|grant| grant.resources.contains(target))
    {
        root.resources = BTreeSet::from([target.to_owned()]);
    }
    if let Some(grant) = by.filter(|grant| !grant.details.is_empty()) {
        if root.details.is_empty() {
            root.details.clone_from(&grant.details);
        } else {
            root.details.retain(|detail| grant.details.contains(detail));
            if root.details.is_empty() {
                return Err(NarrowError::Details.into());
            }
        }
    }
    Ok(Rights::root(root))
}

fn finish(
    client: &Authenticated,
    from: Rights,
    scopes: Option<BTreeSet<String>>,
    target: &str,
    actor: Option<(Principal, Option<&Grant>)>,
) -> Result<Issue, OauthError> {
    let issue = Issue::handed(GrantType::TokenExchange, client, from)?.exchanged(ACCESS_TOKEN);
    issue.narrow(|mut rights| {
        // Who somebody is, and whether they may be asked again, is not passed on.
        let passed = |scope: &&String| !IDENTITY.contains(&scope.as_str());
        let has: BTreeSet<_> = rights.get().scopes.iter().filter(passed).cloned().collect();
        rights = rights.scoped(has)?;
        if let Some((actor, grant)) = actor {
            rights = rights.by(actor)?;
            if let Some(grant) = grant {
                rights = rights.scoped_within(&grant.scopes).until(grant.ends).under(grant.id);
            }
        }
        if let Some(scopes) = scopes {
            rights = rights.scoped(scopes)?;
        }
        rights.at(Some(target))
    })
}
