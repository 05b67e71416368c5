//! Another issuer's word for a token of ours (RFC 7523, 2.1): workloads with the token of their platform, clients with an
//! identity provider's assertion about a person (ID-JAG). Whose word counts, for whom and for how much, is said by the
//! directory's `federation` documents.

use std::collections::BTreeSet;
use std::time::Duration;

use bartizan_base::{Name, Timestamp, json};
use bartizan_identify::spiffe::{TrustDomain, verify_jwt};
use bartizan_jose::{
    IdJagClaims, IdJagRules, Jws, Profile, TimeRules, WorkloadClaims, WorkloadRules, verify,
};
use bartizan_model::{
    Assurance, AssuranceLevel, FederatedToken, FederationSpec, GrantType, Principal, PrincipalKind,
    PrincipalRef, ReasonCode, Spec, Status, Tenant,
};
use bartizan_store::{Change, State};
use serde_json::Value;

use super::client_credentials::{principal_of, resources};
use crate::authorize::details;
use crate::clients::{Authenticated, HoldError, Registry};
use crate::issue::{BoundTo, Issue, Rights, Root, TOKEN_LIFE};
use crate::oauth::{Form, OauthCode, OauthError, TokenAnswer, parse_scope};

/// How far another issuer's clock may be off.
const SKEW: Duration = Duration::from_secs(30);
/// The longest life of a workload's token: platforms give them for an hour, some for a day.
const WORKLOAD_LIFE_MAX: Duration = Duration::from_secs(24 * 3_600);
/// The longest life of an assertion about a person.
const ASSERTION_LIFE_MAX: Duration = Duration::from_secs(600);
/// The most rules that are tried for one assertion.
const RULES_MAX: usize = 16;
const LIMITS: json::Limits = json::Limits { bytes_max: 16 << 10, depth_max: 8, nodes_max: 500 };

/// Answers an assertion. There is no refresh token: the assertion's issuer is asked again.
///
/// # Errors
/// `invalid_grant` in one text for every cause.
pub async fn jwt_bearer(
    registry: &Registry,
    client: &Authenticated,
    form: &Form,
) -> Result<TokenAnswer, OauthError> {
    let authority = registry.authority();
    // An assertion that may be taken once is taken at the first attempt; so it is worked out once.
    let worked = bearer(registry, client, form).await;
    match worked {
        Ok(issue) => authority.issue(issue).await,
        Err(error) => Err(authority.refused(error).await),
    }
}

/// What an assertion is worth.
struct Word {
    subject: PrincipalRef,
    assurance: Assurance,
    /// The scopes that it is for; none for no limit of its own.
    scopes: Option<BTreeSet<String>>,
    resources: Vec<String>,
    details: Vec<Value>,
    binding: Option<BoundTo>,
    ends: Timestamp,
    used: Option<Change>,
}

async fn bearer(registry: &Registry, client: &Authenticated, form: &Form) -> Result<Issue, OauthError> {
    let authority = registry.authority();
    let now = authority.control.clock.now();
    let view = authority.control.house.view(&authority.settings.tenant)?;
    let text = form.need("assertion")?;
    let jws = Jws::parse(text).map_err(|_| OauthError::grant())?;
    let takes = if jws.is_typ(IdJagClaims::TYP) {
        FederatedToken::IdentityAssertion
    } else {
        FederatedToken::Workload
    };
    for (name, rule) in rules(&view.state, &authority.settings.tenant, client, &jws, takes) {
        let word = match takes {
            FederatedToken::Workload => workload(registry, rule, name, &jws, now).await?,
            FederatedToken::IdentityAssertion => person(registry, rule, name, client, &jws, now).await?,
        };
        let Some(mut word) = word else { continue };
        if !word.details.is_empty() {
            let asked = details::of_request(&word.details, &view.state, &client.client.tenant, now)?;
            word.details = details::allowed(&asked, word.ends, now, &*authority.control.random);
        }
        let subject = principal_of(&view.state, &authority.settings.tenant, &word.subject);
        let subject = subject.ok_or_else(OauthError::grant)?;
        let reach = reach(resources(authority, &client.client), rule, &word.resources);
        let rights = rights(word, subject, &client.client.tenant, reach, rule, (view.state.revision, now));
        let (rights, used) = rights;
        return Issue::new(GrantType::JwtBearer, client, rights)?.with(used).asked(form);
    }
    Err(OauthError::grant())
}

/// The rules about the issuer that an assertion names.
fn rules<'a>(
    state: &'a State,
    tenant: &Tenant,
    client: &Authenticated,
    jws: &Jws<'_>,
    takes: FederatedToken,
) -> Vec<(&'a Name, &'a FederationSpec)> {
    let claims = json::parse(jws.unverified_payload(), LIMITS).unwrap_or_default();
    let claimed = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (iss, sub) = (claimed("iss"), claimed("sub"));
    let of_issuer = |rule: &FederationSpec| match rule.issuer.strip_prefix("spiffe://") {
        Some(_) => sub.strip_prefix(&rule.issuer).is_some_and(|path| path.starts_with('/')),
        None => rule.issuer == iss,
    };
    let fits = |rule: &FederationSpec| {
        rule.status == Status::Active
            && rule.takes == takes
            && of_issuer(rule)
            && (rule.clients.is_empty() || rule.clients.iter().any(|name| name.as_str() == client.client.id))
    };
    let all = state.documents.iter().filter_map(|(owner, document, _)| match &document.spec {
        Spec::Federation(rule) if owner == tenant && fits(rule) => Some((&document.name, rule)),
        _ => None,
    });
    all.take(RULES_MAX).collect()
}

/// Why a word does not count is for the log.
fn refused(rule: &Name, error: &HoldError) {
    match error {
        HoldError::Token(error) => tracing::info!(%rule, %error, "an assertion was refused"),
        HoldError::Keys(error) => tracing::warn!(%rule, %error, "the issuer's keys could not be had"),
    }
}

async fn workload(
    registry: &Registry,
    rule: &FederationSpec,
    name: &Name,
    jws: &Jws<'_>,
    now: Timestamp,
) -> Result<Option<Word>, OauthError> {
    let ours = &*registry.authority().issuer;
    let audience = rule.audience.as_deref().unwrap_or(ours);
    let held = match TrustDomain::of_issuer(&rule.issuer) {
        // For its own workloads the house vouches alone.
        Some(domain) if TrustDomain::of_address(ours).as_ref() == Some(&domain) => return Ok(None),
        Some(domain) => {
            let hold = |bundle: &_| verify_jwt(jws, bundle, audience, now).map(|svid| svid.claims);
            registry.hold_by_bundle(&domain, rule, now, hold).await
        }
        None => {
            let time = TimeRules { now, skew: SKEW, life_max: WORKLOAD_LIFE_MAX };
            let rules = WorkloadRules { issuer: &rule.issuer, audience, time };
            let hold = |keys: &_| verify::<WorkloadClaims>(jws, keys, &rules);
            registry.hold_by(&rule.jwks_url, rule.allow_private, now, hold).await
        }
    };
    let claims = match held {
        Ok(claims) => claims,
        Err(error) => {
            refused(name, &error);
            return Ok(None);
        }
    };
    let other = |name: &str| claims.others.get(name).and_then(Value::as_str).map(str::to_owned);
    // A person's name in a workload's token is a person that nobody has authenticated.
    let subject = rule.who(&claims.sub, other).filter(|who| who.kind != PrincipalKind::User);
    Ok(subject.map(|subject| Word {
        subject,
        assurance: Assurance {
            level: AssuranceLevel::Aal1.min(rule.assurance(None)),
            methods: Vec::new(),
            at: claims.times.issued.min(now),
            via: Some(name.clone()),
        },
        scopes: None,
        resources: Vec::new(),
        details: Vec::new(),
        binding: None,
        // Platforms let a workload present the same token again and again: it is not taken once, but nothing outlives it.
        ends: claims.times.expires,
        used: None,
    }))
}

async fn person(
    registry: &Registry,
    rule: &FederationSpec,
    name: &Name,
    client: &Authenticated,
    jws: &Jws<'_>,
    now: Timestamp,
) -> Result<Option<Word>, OauthError> {
    if !client.proven {
        return Err(OauthError::new(OauthCode::UnauthorizedClient, "the client must prove what it is"));
    }
    let rules = IdJagRules {
        issuer: &rule.issuer,
        audience: &registry.authority().issuer,
        client_id: &client.client.id,
        time: TimeRules { now, skew: SKEW, life_max: ASSERTION_LIFE_MAX },
    };
    let held = registry
        .hold_by(&rule.jwks_url, rule.allow_private, now, |keys| verify::<IdJagClaims>(jws, keys, &rules))
        .await;
    let claims = match held {
        // Its actors have names that only the other issuer knows.
        Ok(claims) if claims.act.is_empty() => claims,
        Ok(_) => return Ok(None),
        Err(error) => {
            refused(name, &error);
            return Ok(None);
        }
    };
    let other = |name: &str| claims.others.get(name).and_then(Value::as_str).map(str::to_owned);
    let Some(subject) = rule.who(&claims.sub, other) else { return Ok(None) };
    let Some(used) = registry.take_once(claims.replay(&rules.time), now)? else {
        return Err(OauthError::grant().because(ReasonCode::CredentialRevoked));
    };
    Ok(Some(Word {
        subject,
        assurance: Assurance {
            level: rule.assurance(claims.acr.as_deref()),
            methods: claims.amr.iter().filter_map(|method| method.parse().ok()).collect(),
            // Not said is not now.
            at: claims.auth_time.unwrap_or_default(),
            via: Some(name.clone()),
        },
        scopes: Some(claims.scope.as_deref().map(parse_scope).transpose()?.unwrap_or_default()),
        resources: claims.resource.clone(),
        details: claims.authorization_details.clone(),
        binding: claims.cnf.map(BoundTo),
        ends: claims.times.expires,
        used: Some(used),
    }))
}

/// Where it may hold: at what the client may have, the rule is for and the assertion names.
fn reach(mut all: BTreeSet<String>, rule: &FederationSpec, named: &[String]) -> BTreeSet<String> {
    all.retain(|resource| {
        (rule.resources.is_empty() || rule.resources.contains(resource))
            && (named.is_empty() || named.contains(resource))
    });
    all
}

fn rights(
    word: Word,
    subject: Principal,
    tenant: &Tenant,
    resources: BTreeSet<String>,
    rule: &FederationSpec,
    (since, now): (u64, Timestamp),
) -> (Rights, Option<Change>) {
    let most: BTreeSet<String> = rule.scopes.iter().map(ToString::to_string).collect();
    let scopes = word.scopes.map_or_else(|| most.clone(), |asked| &asked & &most);
    let root = Root {
        tenant: tenant.clone(),
        subject,
        actors: Vec::new(),
        scopes,
        resources,
        details: word.details,
        assurance: word.assurance,
        session: None,
        device: None,
        grants: Vec::new(),
        family: None,
        binding: word.binding,
        since,
        ends: word.ends.min(now.saturating_add(TOKEN_LIFE)),
    };
    (Rights::root(root), word.used)
}
