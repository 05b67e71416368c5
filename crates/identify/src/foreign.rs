//! Access tokens of other issuers: what their claims are worth here.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bartizan_base::{Name, Timestamp};
use bartizan_jose::{AccessClaims, Jkt, JwkError, Jwks, Verified};
use bartizan_model::{Assurance, CredentialKind, PrincipalKind, ReasonCode, Tenant};
use serde_json::Value;

use crate::caller::{Caller, Scopes};
use crate::directory::{Directory, Issuer, principal_mark};
use crate::epochs::{EpochKind, Issued, MarkKey, client_mark};
use crate::genuine::{Genuine, Source};
use crate::own::{Refusal, check_chain, details, member, scopes};

/// How long an issuer's keys are used without being fetched anew.
const KEYS_AGE_MAX: Duration = Duration::from_secs(24 * 3_600);
/// Between two fetches for a key id that is not known.
const FETCH_GAP: Duration = Duration::from_secs(30);

/// Why an issuer's keys were not taken. The last good ones stay until they are too old.
#[derive(Debug, thiserror::Error)]
#[error("the issuer's keys are not acceptable")]
pub struct LearnError(#[from] JwkError);

/// The keys of issuers as they were last fetched.
#[derive(Debug, Default)]
pub(crate) struct IssuerKeys(RwLock<HashMap<Name, Learned>>);

#[derive(Debug)]
struct Learned {
    jwks: Arc<Jwks>,
    prints: HashSet<Jkt>,
    learned: Timestamp,
    asked: Timestamp,
}

/// Why there are no keys to verify with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoKeys {
    /// They should be fetched.
    Fetch,
    /// They should have been by now.
    Refused(ReasonCode),
}

impl IssuerKeys {
    pub(crate) fn learn(&self, issuer: &Name, jwks: &[u8], now: Timestamp) -> Result<(), LearnError> {
        let jwks = Arc::new(Jwks::parse(jwks)?);
        let prints = jwks.iter().map(bartizan_jose::Jwk::thumbprint).collect();
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(issuer.clone(), Learned { jwks, prints, learned: now, asked: now });
        Ok(())
    }

    /// The keys of an issuer, unless they are too old.
    pub(crate) fn of(&self, issuer: &Name, now: Timestamp) -> Result<Arc<Jwks>, NoKeys> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match all.get(issuer) {
            None => Err(NoKeys::Fetch),
            Some(keys) if is_fresh(keys, now) => Ok(keys.jwks.clone()),
            Some(_) => {
                drop(all);
                Err(self.ask_again(issuer, now, ReasonCode::IssuerKeysUnavailable))
            }
        }
    }

    /// Whether a key that once verified a token is still one of the issuer's.
    pub(crate) fn hold(&self, issuer: &Name, signer: Jkt, now: Timestamp) -> bool {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(issuer).is_some_and(|keys| is_fresh(keys, now) && keys.prints.contains(&signer))
    }

    /// Fetches again, but not for every token that names a key nobody knows.
    pub(crate) fn ask_again(&self, issuer: &Name, now: Timestamp, otherwise: ReasonCode) -> NoKeys {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let Some(keys) = all.get_mut(issuer) else { return NoKeys::Fetch };
        if now.saturating_since(keys.asked) < FETCH_GAP {
            return NoKeys::Refused(otherwise);
        }
        keys.asked = now;
        NoKeys::Fetch
    }
}

fn is_fresh(keys: &Learned, now: Timestamp) -> bool {
    now.saturating_since(keys.learned) <= KEYS_AGE_MAX
}

/// Who comes with a token of another issuer that holds.
pub(crate) fn genuine(
    directory: &Directory,
    issuer: &Issuer,
    token: &Verified<AccessClaims>,
    now: Timestamp,
) -> Result<Genuine, Refusal> {
    let Issuer { tenant, name, spec, fingerprint } = issuer;
    let nobody = |reason| (Box::new(Caller::anonymous(tenant.clone())), reason);
    let subject = match spec.subject_claim.as_str() {
        "sub" => Some(token.sub.as_str()),
        other => token.others.get(other).and_then(Value::as_str),
    };
    let subject: Name =
        subject.and_then(|s| s.parse().ok()).ok_or_else(|| nobody(ReasonCode::CredentialUnknown))?;
    let principal = directory.active(tenant, spec.subject_kind, &subject, now).map_err(nobody)?;
    let actors = token.actors().map(|actor| acting(directory, tenant, actor, now));
    let actors = actors.collect::<Result<Vec<_>, _>>().map_err(nobody)?;
    check_chain(&principal, &actors).map_err(nobody)?;
    let assurance = Assurance {
        level: spec.assurance(token.acr.as_deref()),
        methods: token.amr.iter().filter_map(|m| m.parse().ok()).collect(),
        at: token.authenticated(),
        via: Some(name.clone()),
    };
    let mut marks: Vec<_> = std::iter::once(&principal)
        .chain(&actors)
        .filter_map(|p| Some((EpochKind::Principal, principal_mark(p)?)))
        .collect();
    marks.push((EpochKind::Tenant, tenant.0.clone()));
    marks.push((EpochKind::Issuer, name.clone()));
    marks.extend(token.client_id.as_deref().and_then(client_mark).map(|name| (EpochKind::Client, name)));
    let caller = Caller {
        subject: member(principal, assurance),
        // An actor presents no login of its own here; the person's is not credited to it.
        actors: actors.into_iter().map(|actor| member(actor, Assurance::default())).collect(),
        client: token.client_id.as_deref().and_then(client_mark),
        credential: CredentialKind::AccessToken,
        issuer: Some(name.clone()),
        scopes: token.scope.as_deref().map_or(Scopes::All, scopes),
        // Its ids are another issuer's: what is bounded in number cannot be counted by them.
        details: details(&token.authorization_details)
            .map(|all| all.iter().filter(|detail| detail.uses.is_none()).cloned().collect()),
        issued: token.issued(),
        expires: token.expires(),
        ..Caller::anonymous(tenant.clone())
    };
    let source = Source::Foreign { issuer: name.clone(), iss: spec.issuer.clone(), declared: *fingerprint };
    Ok(Genuine {
        caller,
        source,
        token: token.digest(),
        signer: token.signer(),
        times: token.times,
        bound_to: token.cnf,
        audience: spec.audience.clone(),
        issued: Issued::Elsewhere { at: token.issued() },
        marks: marks.iter().map(|(kind, name)| MarkKey::of(tenant, *kind, name)).collect(),
        device: None,
    })
}

/// Who acts under a name: an agent, or else a workload.
fn acting(
    directory: &Directory,
    tenant: &Tenant,
    actor: &str,
    now: Timestamp,
) -> Result<bartizan_model::Principal, ReasonCode> {
    let name: Name = actor.parse().map_err(|_| ReasonCode::CredentialUnknown)?;
    directory.active(tenant, PrincipalKind::Agent, &name, now).or_else(|reason| {
        if reason == ReasonCode::CredentialUnknown {
            directory.active(tenant, PrincipalKind::Workload, &name, now)
        } else {
            Err(reason)
        }
    })
}
