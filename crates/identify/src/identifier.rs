//! Verification: from what was presented to a caller.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bartizan_base::{Digest, Name, Timestamp};
use bartizan_jose::{AccessClaims, JwkError, Jwks, Jws, JwsError, TimeRules, TokenError as ClaimsError};
use bartizan_model::directory::{IssuerSpec, Status};
use bartizan_model::{
    Action, Assurance, AssuranceLevel, Binding, CredentialKind, Member, Principal, PrincipalKind, ReasonCode,
    Risk, Tenant,
};
use bartizan_secret::constant_time_eq;
use serde_json::Value;

use crate::caller::{Caller, Scopes};
use crate::directory::{Directory, EpochKind, KeyEntry};
use crate::presented::Presented;
use crate::recovery::{QuorumError, RecoverySignature, verify_quorum};

/// Verified tokens kept.
const CACHE_MAX: usize = 10_000;
/// How long an issuer's keys are used without being fetched anew.
const KEYS_AGE_MAX: Duration = Duration::from_secs(24 * 3_600);
/// Between two fetches for a key id that is not known.
const FETCH_GAP: Duration = Duration::from_secs(30);
/// How far an issuer's clock may be off when its tokens are held against an epoch.
const SKEW: Duration = Duration::from_secs(60);

/// The result of identification.
#[derive(Debug)]
pub enum Identified {
    /// Verified.
    Caller(Box<Caller>),
    /// The keys of this issuer are needed: fetch them, [`Identifier::learn_keys`], and try once more.
    NeedKeys(Name),
    /// Not let in. The caller is named where the credential was genuine but dead.
    Refused {
        /// As far as known, for the record.
        caller: Box<Caller>,
        /// Why.
        reason: ReasonCode,
    },
}

/// Why an issuer's keys were not taken. The last good ones stay until they are too old.
#[derive(Debug, thiserror::Error)]
#[error("the issuer's keys are not acceptable")]
pub struct LearnError(#[from] JwkError);

/// Verifies, and remembers what it verified.
#[derive(Debug, Default)]
pub struct Identifier {
    tokens: Mutex<HashMap<Digest, Verified>>,
    keys: Mutex<HashMap<Name, IssuerKeys>>,
}

#[derive(Debug)]
struct IssuerKeys {
    jwks: Jwks,
    learned: Timestamp,
    asked: Timestamp,
}

/// A caller made from a token at one revision of the directory, which covers statuses and epochs: while the revision
/// stands, only the time has to be checked again.
#[derive(Clone, Debug)]
struct Verified {
    revision: u64,
    caller: Caller,
    claims_expire: Timestamp,
}

type Refusal = (Box<Caller>, ReasonCode);

impl Identifier {
    /// An identifier that has verified nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Verifies what was presented against the present directory.
    #[must_use]
    pub fn identify(&self, directory: &Directory, presented: &Presented, now: Timestamp) -> Identified {
        let nobody = || Box::new(Caller::anonymous(Tenant::default_tenant()));
        let result = match presented {
            Presented::Nothing => Err((nobody(), ReasonCode::CredentialMissing)),
            Presented::ApiKey(digest) => match directory.key(digest) {
                Some(key) => api_key(directory, key, now),
                None => Err((nobody(), ReasonCode::CredentialUnknown)),
            },
            Presented::Token(text) => match self.token(directory, text.expose(), now) {
                Ok(caller) => Ok(caller),
                Err(TokenError::NeedKeys(issuer)) => return Identified::NeedKeys(issuer),
                Err(TokenError::Refused(caller, reason)) => Err((caller, reason)),
            },
        };
        match result {
            Ok(caller) => Identified::Caller(Box::new(caller)),
            Err((caller, reason)) => Identified::Refused { caller, reason },
        }
    }

    /// Whoever holds the open claim of the first administrator.
    ///
    /// # Errors
    /// When there is no open claim, it has run out, or another text was presented.
    pub fn claimant(
        tenant: Tenant,
        presented: Digest,
        open: Option<(Digest, Timestamp)>,
        now: Timestamp,
    ) -> Result<Caller, ReasonCode> {
        let (digest, expires) = open.ok_or(ReasonCode::CredentialUnknown)?;
        if !constant_time_eq(digest.as_bytes(), presented.as_bytes()) {
            return Err(ReasonCode::CredentialUnknown);
        }
        if expires <= now {
            return Err(ReasonCode::CredentialExpired);
        }
        Ok(Caller {
            credential: CredentialKind::Claim,
            scopes: Scopes::Only([Action::HouseClaim].into()),
            ..Caller::anonymous(tenant)
        })
    }

    /// Whoever holds enough of the recovery keys, proven by signatures over `message`.
    ///
    /// # Errors
    /// [`QuorumError`] says what is missing or wrong.
    pub fn recoverer(
        tenant: Tenant,
        message: &[u8],
        signatures: &[RecoverySignature],
        (needed, publics): (u32, &[String]),
    ) -> Result<Caller, QuorumError> {
        verify_quorum(message, signatures, publics, needed)?;
        Ok(Caller {
            credential: CredentialKind::Recovery,
            scopes: Scopes::Only([Action::HouseRecover].into()),
            ..Caller::anonymous(tenant)
        })
    }

    /// The house itself, for what it does on a schedule without being asked: keeping the authority's signing keys fresh.
    #[must_use]
    pub fn house(tenant: Tenant) -> Caller {
        Caller {
            credential: CredentialKind::House,
            scopes: Scopes::Only([Action::IdentityChange].into()),
            ..Caller::anonymous(tenant)
        }
    }

    /// Learns an issuer's keys.
    ///
    /// # Errors
    /// When they are not acceptable; the last good ones stay.
    pub fn learn_keys(&self, issuer: &Name, jwks: &[u8], now: Timestamp) -> Result<(), LearnError> {
        let jwks = Jwks::parse(jwks)?;
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.insert(issuer.clone(), IssuerKeys { jwks, learned: now, asked: now });
        Ok(())
    }

    fn token(&self, directory: &Directory, text: &str, now: Timestamp) -> Result<Caller, TokenError> {
        // The digest of the whole token: a prefix would let one token stand for another.
        let digest = Digest::of(text.as_bytes());
        if let Some(found) = self.remembered(&digest, directory.revision(), now) {
            return Ok(found);
        }
        let nobody =
            |reason| TokenError::Refused(Box::new(Caller::anonymous(Tenant::default_tenant())), reason);
        let jws = Jws::parse(text).map_err(|_| nobody(ReasonCode::CredentialMalformed))?;
        if !matches!(jws.typ(), Some("at+jwt" | "application/at+jwt")) {
            return Err(nobody(ReasonCode::TokenTypeRefused));
        }
        // Which issuer it claims, only to know whose keys to try.
        let claimed = AccessClaims::parse(jws.unverified_payload())
            .map_err(|_| nobody(ReasonCode::CredentialMalformed))?;
        let Some((tenant, name, issuer)) =
            directory.issuer(&claimed.iss).filter(|(_, _, i)| i.status == Status::Active)
        else {
            return Err(nobody(ReasonCode::TokenIssuerUnknown));
        };
        let anonymous = |reason| TokenError::Refused(Box::new(Caller::anonymous(tenant.clone())), reason);
        self.check_signature(&jws, name, now).map_err(|error| match error {
            KeyError::Need => TokenError::NeedKeys(name.clone()),
            KeyError::Refused(reason) => anonymous(reason),
        })?;
        let claims = claimed;
        if !claims.is_for(&issuer.audience) {
            return Err(anonymous(ReasonCode::TokenAudienceMismatch));
        }
        if claims.cnf.is_some() {
            // Bound to a key that this form of presenting does not prove (attack: downgrade to a bearer token).
            return Err(anonymous(ReasonCode::TokenTypeRefused));
        }
        TimeRules { now, skew: SKEW, life_max: Duration::MAX }.check(&claims.times).map_err(|e| {
            anonymous(if e == ClaimsError::Expired {
                ReasonCode::CredentialExpired
            } else {
                ReasonCode::CredentialNotYetValid
            })
        })?;
        let caller = from_claims(directory, tenant, name, issuer, &claims, now)
            .map_err(|(c, r)| TokenError::Refused(c, r))?;
        self.remember(digest, directory.revision(), &caller, claims.expires(), now);
        Ok(caller)
    }

    fn remembered(&self, digest: &Digest, revision: u64, now: Timestamp) -> Option<Caller> {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let found = tokens.get(digest)?;
        // A clock set back could make a token valid "again" only within its own life, so that is all that is checked.
        let fresh = found.revision == revision && now < found.claims_expire && now >= found.caller.issued;
        fresh.then(|| found.caller.clone())
    }

    fn remember(
        &self,
        digest: Digest,
        revision: u64,
        caller: &Caller,
        claims_expire: Timestamp,
        now: Timestamp,
    ) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= CACHE_MAX {
            tokens.retain(|_, v| v.revision == revision && now < v.claims_expire);
            if tokens.len() >= CACHE_MAX {
                tokens.clear();
            }
        }
        tokens.insert(digest, Verified { revision, caller: caller.clone(), claims_expire });
    }

    fn check_signature(&self, jws: &Jws<'_>, issuer: &Name, now: Timestamp) -> Result<(), KeyError> {
        let mut all = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(keys) = all.get_mut(issuer) else { return Err(KeyError::Need) };
        if now.saturating_since(keys.learned) > KEYS_AGE_MAX {
            return Err(ask_again(keys, now, ReasonCode::IssuerKeysUnavailable));
        }
        let jwks = keys.jwks.clone();
        let result = {
            drop(all);
            jws.verify(&jwks).map(drop)
        };
        match result {
            Ok(()) => Ok(()),
            Err(JwsError::UnknownKey) => {
                let mut all = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
                let reason = ReasonCode::TokenSignatureInvalid;
                Err(all.get_mut(issuer).map_or(KeyError::Need, |keys| ask_again(keys, now, reason)))
            }
            Err(JwsError::Algorithm) => Err(KeyError::Refused(ReasonCode::TokenAlgorithmRefused)),
            Err(JwsError::Shape | JwsError::Header) => {
                Err(KeyError::Refused(ReasonCode::CredentialMalformed))
            }
            Err(JwsError::Signature) => Err(KeyError::Refused(ReasonCode::TokenSignatureInvalid)),
        }
    }
}

enum TokenError {
    NeedKeys(Name),
    Refused(Box<Caller>, ReasonCode),
}

enum KeyError {
    Need,
    Refused(ReasonCode),
}

/// Fetches again, but not for every token that names a key nobody knows.
fn ask_again(keys: &mut IssuerKeys, now: Timestamp, otherwise: ReasonCode) -> KeyError {
    if now.saturating_since(keys.asked) < FETCH_GAP {
        return KeyError::Refused(otherwise);
    }
    keys.asked = now;
    KeyError::Need
}

fn api_key(directory: &Directory, key: &KeyEntry, now: Timestamp) -> Result<Caller, Refusal> {
    let caller = Caller {
        subject: Member {
            principal: key.principal.clone(),
            // A bearer key is one factor, and as old as the key.
            assurance: Assurance {
                level: AssuranceLevel::Aal1,
                methods: vec![Name::literal("key")],
                at: key.created,
                via: None,
            },
            binding: Binding::None,
            device: None,
            risk: Risk::default(),
        },
        credential: CredentialKind::ApiKey,
        key: Some(key.id),
        scopes: key.scopes.clone().map_or(Scopes::All, Scopes::Only),
        issued: key.created,
        expires: key.expires,
        ..Caller::anonymous(key.tenant.clone())
    };
    let refuse = |reason| Err((Box::new(caller.clone()), reason));
    if key.revoked.is_some() {
        return refuse(ReasonCode::CredentialRevoked);
    }
    if key.expires <= now {
        return refuse(ReasonCode::CredentialExpired);
    }
    match directory.active(&key.tenant, key.principal.kind, &key.principal.name, now) {
        // A principal of the same name declared anew is another one.
        Ok(principal) if principal.id == key.principal.id => {}
        Ok(_) | Err(ReasonCode::CredentialUnknown) => return refuse(ReasonCode::PrincipalDisabled),
        Err(reason) => return refuse(reason),
    }
    if key.created < directory.not_before(&key.tenant, &key.principal) {
        return refuse(ReasonCode::CredentialRevoked);
    }
    Ok(caller)
}

fn from_claims(
    directory: &Directory,
    tenant: &Tenant,
    name: &Name,
    issuer: &IssuerSpec,
    claims: &AccessClaims,
    now: Timestamp,
) -> Result<Caller, Refusal> {
    let nobody = |reason| (Box::new(Caller::anonymous(tenant.clone())), reason);
    let subject = match issuer.subject_claim.as_str() {
        "sub" => Some(claims.sub.as_str()),
        other => claims.others.get(other).and_then(Value::as_str),
    };
    let subject: Name =
        subject.and_then(|s| s.parse().ok()).ok_or_else(|| nobody(ReasonCode::CredentialUnknown))?;
    let principal = directory.active(tenant, issuer.subject_kind, &subject, now).map_err(nobody)?;
    let mut actors = Vec::new();
    for actor in claims.actors() {
        let actor: Name = actor.parse().map_err(|_| nobody(ReasonCode::CredentialUnknown))?;
        let found = directory
            .active(tenant, PrincipalKind::Agent, &actor, now)
            .or_else(|reason| {
                if reason == ReasonCode::CredentialUnknown {
                    directory.active(tenant, PrincipalKind::Workload, &actor, now)
                } else {
                    Err(reason)
                }
            })
            .map_err(nobody)?;
        // An actor presents no login of its own here; the person's is not credited to it.
        actors.push(member(found, Assurance::default()));
    }
    let assurance = Assurance {
        level: issuer.assurance(claims.acr.as_deref()),
        methods: claims.amr.iter().filter_map(|m| m.parse().ok()).collect(),
        at: claims.authenticated(),
        via: Some(name.clone()),
    };
    let caller = Caller {
        subject: member(principal, assurance),
        actors,
        client: claims.client_id.as_deref().and_then(|c| c.parse().ok()),
        credential: CredentialKind::AccessToken,
        issuer: Some(name.clone()),
        scopes: scopes(claims.scope.as_deref()),
        issued: claims.issued(),
        expires: claims.expires(),
        ..Caller::anonymous(tenant.clone())
    };
    // Foreign clocks differ, so what was issued about the time of the mark counts as dead.
    let issued = claims.issued();
    let mark = caller.members().map(|m| directory.not_before(tenant, &m.principal)).max().unwrap_or_default();
    let mark = mark.max(directory.epoch(tenant, EpochKind::Issuer, name));
    if mark > Timestamp::default() && issued <= mark.saturating_add(SKEW) {
        return Err((Box::new(caller), ReasonCode::CredentialRevoked));
    }
    Ok(caller)
}

fn member(principal: Principal, assurance: Assurance) -> Member {
    Member { principal, assurance, binding: Binding::None, device: None, risk: Risk::default() }
}

/// Words that are no actions of ours mean nothing here.
fn scopes(scope: Option<&str>) -> Scopes {
    scope.map_or(Scopes::All, |words| {
        let actions: BTreeSet<Action> = words.split(' ').filter_map(|w| w.parse().ok()).collect();
        Scopes::Only(actions)
    })
}
