//! Verification: from what was presented to a caller.

use std::sync::Arc;
use std::time::Duration;

use bartizan_base::{Digest, Name, Timestamp};
use bartizan_jose::{
    AccessClaims, AccessRules, Audience, Confirmation, DpopError, DpopProof, DpopRules, Jws, JwsError,
    NonceRule, Nonces, Presentation, Scheme, TimeRules, TokenError, verify,
};
use bartizan_model::directory::Status;
use bartizan_model::{ReasonCode, Tenant};

use crate::api_key::api_key;
use crate::cache::Cache;
use crate::caller::Caller;
use crate::certificate::{Certificates, IssuedCertificate, Missing};
use crate::directory::{Directory, Issuer, Own};
use crate::epochs::SKEW;
use crate::foreign::{self, IssuerKeys, LearnError, NoKeys};
use crate::genuine::{Genuine, Source};
use crate::ground::Ground;
use crate::own::{self, Refusal};
use crate::presented::{Presented, Shown};
use crate::replays::Replays;
use crate::spiffe::BundleError;
use crate::trust::NeedBundle;

/// Verified tokens kept, unless it is said otherwise.
const CACHE_MAX: usize = 50_000;
/// How old a proof may be, beside how far its maker's clock may be off.
const PROOF_AGE_MAX: Duration = Duration::from_secs(300);
/// The longest life of a token of ours that is believed.
const OWN_LIFE_MAX: Duration = Duration::from_secs(3_600);
/// The longest life of another issuer's token that is believed.
const FOREIGN_LIFE_MAX: Duration = Duration::from_secs(48 * 3_600);

/// The result of identification.
#[derive(Debug)]
pub enum Identified {
    /// Verified.
    Caller(Box<Caller>),
    /// The keys of this issuer are needed: fetch them, [`Identifier::learn_keys`], and try once more.
    NeedKeys(Name),
    /// The keys of a trust domain are needed: fetch them, [`Identifier::learn_bundle`], and try once more.
    NeedBundle(Box<NeedBundle>),
    /// What the house knows of a certificate of its own is needed: find it, [`Identifier::learn_certificate`], and try once more.
    NeedCertificate(Digest),
    /// Not let in. The caller is named where the credential was genuine but dead.
    Refused {
        /// As far as known, for the record.
        caller: Box<Caller>,
        /// Why.
        reason: ReasonCode,
    },
}

/// Verifies, and remembers what it verified.
#[derive(Debug)]
pub struct Identifier {
    tokens: Cache,
    keys: IssuerKeys,
    certificates: Certificates,
    proofs: Replays,
    nonces: Option<Nonces>,
}

impl Default for Identifier {
    fn default() -> Self {
        Self::new()
    }
}

enum Stop {
    NeedKeys(Name),
    Refused(Box<Caller>, ReasonCode),
}

impl From<Refusal> for Stop {
    fn from((caller, reason): Refusal) -> Self {
        Self::Refused(caller, reason)
    }
}

fn nobody(reason: ReasonCode) -> Stop {
    Stop::Refused(Box::new(Caller::anonymous(Tenant::default_tenant())), reason)
}

impl Identifier {
    /// An identifier that has verified nothing yet, and asks for no nonces.
    #[must_use]
    pub fn new() -> Self {
        Self::with_room_for(CACHE_MAX)
    }

    /// The same with room for about so many verified tokens.
    #[must_use]
    pub fn with_room_for(tokens: usize) -> Self {
        Self {
            tokens: Cache::new(tokens),
            keys: IssuerKeys::default(),
            certificates: Certificates::default(),
            proofs: Replays::new(PROOF_AGE_MAX.saturating_add(SKEW)),
            nonces: None,
        }
    }

    /// The same, asking for one of `nonces` in every proof (RFC 9449, 9): nodes do not tell each other which proofs they have
    /// seen, and a nonce bounds for how long one could be shown to another.
    #[must_use]
    pub fn with_nonces(self, nonces: Nonces) -> Self {
        Self { nonces: Some(nonces), ..self }
    }

    /// The nonce for the next proof, where one is asked for.
    #[must_use]
    pub fn nonce(&self, now: Timestamp) -> Option<String> {
        self.nonces.as_ref().map(|nonces| nonces.current(now))
    }

    /// Verifies what was presented against the present directory. A proof is used up by it.
    #[must_use]
    pub fn identify(&self, directory: &Directory, presented: &Presented, now: Timestamp) -> Identified {
        let result = match presented {
            Presented::Nothing => Err(nobody(ReasonCode::CredentialMissing)),
            Presented::ApiKey(digest) => match directory.key(digest) {
                Some(key) => api_key(directory, key, now).map_err(Stop::from),
                None => Err(nobody(ReasonCode::CredentialUnknown)),
            },
            Presented::Token(shown) => self.token(directory, shown, now),
            Presented::Certificate(shown) => {
                let (certificate, resources) = &**shown;
                match self.certificates.caller(directory, certificate, resources, now, false) {
                    Ok(caller) => Ok(caller),
                    Err(Missing::Bundle(need)) => return Identified::NeedBundle(need),
                    Err(Missing::Issued(x5t)) => return Identified::NeedCertificate(*x5t.digest()),
                    Err(Missing::Refused(caller, reason)) => Err(Stop::Refused(caller, reason)),
                }
            }
        };
        match result {
            Ok(caller) => Identified::Caller(Box::new(caller)),
            Err(Stop::NeedKeys(issuer)) => Identified::NeedKeys(issuer),
            Err(Stop::Refused(caller, reason)) => Identified::Refused { caller, reason },
        }
    }

    /// Somebody who was let in, looked at again while what they were let in for still runs: none once they would not be let in
    /// any more. What they proved then is not asked for again.
    #[must_use]
    pub fn again(&self, directory: &Directory, caller: &Caller, now: Timestamp) -> Option<Caller> {
        let found = self.grounded(directory, caller, now)?;
        match &caller.lifted {
            None => Some(found),
            Some(lifted) => lifted.applied(found, directory, now),
        }
    }

    fn grounded(&self, directory: &Directory, caller: &Caller, now: Timestamp) -> Option<Caller> {
        match &caller.ground {
            Ground::None => None,
            Ground::Key(digest) => api_key(directory, directory.key(digest)?, now).ok(),
            Ground::Token(genuine, bound) => {
                let stands = self.stands(directory, genuine, now);
                let mut found = stands.then(|| genuine.caller(directory, *bound).ok()).flatten()?;
                found.ground = caller.ground.clone();
                Some(found)
            }
            Ground::Certificate(shown) => {
                let (certificate, resources) = &**shown;
                self.certificates.caller(directory, certificate, resources, now, true).ok()
            }
        }
    }

    /// The house itself, for what it does without anybody proven: keeping the authority's signing keys fresh, and questions
    /// of devices until somebody answers them.
    #[must_use]
    pub fn house(tenant: Tenant) -> Caller {
        Caller {
            credential: bartizan_model::CredentialKind::House,
            scopes: crate::Scopes::Only(
                [bartizan_model::Action::IdentityChange, bartizan_model::Action::TokenIssue].into(),
            ),
            ..Caller::anonymous(tenant)
        }
    }

    /// Learns an issuer's keys.
    ///
    /// # Errors
    /// When they are not acceptable; the last good ones stay.
    pub fn learn_keys(&self, issuer: &Name, jwks: &[u8], now: Timestamp) -> Result<(), LearnError> {
        self.keys.learn(issuer, jwks, now)
    }

    /// Learns the keys of a trust domain. What was learned by rules that the directory no longer has is forgotten.
    ///
    /// # Errors
    /// When they are not acceptable, or older than what is known; the last good ones stay.
    pub fn learn_bundle(
        &self,
        directory: &Directory,
        need: &NeedBundle,
        bytes: &[u8],
        now: Timestamp,
    ) -> Result<(), BundleError> {
        self.certificates.trust.learn(directory, need, bytes, now)
    }

    /// Learns what the house has written down of a certificate that it issued.
    pub fn learn_certificate(&self, tenant: Tenant, issued: IssuedCertificate, now: Timestamp) {
        self.certificates.learn(tenant, issued, now);
    }

    fn token(&self, directory: &Directory, shown: &Shown, now: Timestamp) -> Result<Caller, Stop> {
        let genuine = self.genuine(directory, shown, now)?;
        let refused = |reason| Stop::Refused(Box::new(genuine.caller.clone()), reason);
        let bound = self.bound(&genuine, shown, now).map_err(refused)?;
        let mut caller = genuine.caller(directory, bound).map_err(refused)?;
        caller.ground = Ground::Token(genuine, bound);
        Ok(caller)
    }

    /// The token, verified now or remembered and still standing; in either case for this door.
    fn genuine(&self, directory: &Directory, shown: &Shown, now: Timestamp) -> Result<Arc<Genuine>, Stop> {
        // The digest of the whole token: a prefix would let one token stand for another.
        let digest = Digest::of(shown.text.expose().as_bytes());
        if let Some(known) = self.tokens.get(&digest) {
            if self.stands(directory, &known, now) {
                return if for_this_door(&known, shown) {
                    Ok(known)
                } else {
                    let tenant = known.caller.tenant.clone();
                    let caller = Box::new(Caller::anonymous(tenant));
                    Err(Stop::Refused(caller, ReasonCode::TokenAudienceMismatch))
                };
            }
            self.tokens.forget(&digest);
        }
        let genuine = self.verified(directory, shown, now)?;
        if !genuine.is_known_state(directory) {
            // Issued on a state that this node has not seen yet, or on one that was set back: not known is not alive.
            return Err(Stop::Refused(Box::new(genuine.caller), ReasonCode::SnapshotStale));
        }
        if !genuine.is_not_outlived(directory) {
            return Err(Stop::Refused(Box::new(genuine.caller), ReasonCode::CredentialRevoked));
        }
        let genuine = Arc::new(genuine);
        self.tokens.put(genuine.clone(), now);
        Ok(genuine)
    }

    /// Whether a remembered token still holds.
    fn stands(&self, directory: &Directory, genuine: &Genuine, now: Timestamp) -> bool {
        let keys_hold = match &genuine.source {
            Source::Own => true,
            Source::Foreign { issuer, .. } => self.keys.hold(issuer, genuine.signer, now),
        };
        keys_hold && genuine.stands(directory, &times(genuine.source == Source::Own, now))
    }

    /// Verifies a token afresh.
    fn verified(&self, directory: &Directory, shown: &Shown, now: Timestamp) -> Result<Genuine, Stop> {
        let jws = Jws::parse(shown.text.expose()).map_err(|_| nobody(ReasonCode::CredentialMalformed))?;
        if !jws.is_typ("at+jwt") {
            return Err(nobody(ReasonCode::TokenTypeRefused));
        }
        // Whom it claims to be from and for, only to know whose keys to try.
        let claimed = AccessClaims::parse(jws.unverified_payload()).map_err(|e| nobody(reason(e)))?;
        if let Some(own) = directory.own().filter(|own| *own.issuer == *claimed.iss) {
            return own_token(directory, own, &jws, &claimed, shown, now);
        }
        let issuer = directory.issuer(&claimed.iss).filter(|i| i.spec.status == Status::Active);
        let issuer = issuer.ok_or_else(|| nobody(ReasonCode::TokenIssuerUnknown))?;
        self.foreign_token(directory, issuer, &jws, now)
    }

    fn foreign_token(
        &self,
        directory: &Directory,
        issuer: &Issuer,
        jws: &Jws<'_>,
        now: Timestamp,
    ) -> Result<Genuine, Stop> {
        let Issuer { tenant, name, spec, .. } = issuer;
        let refused = |reason| Stop::Refused(Box::new(Caller::anonymous(tenant.clone())), reason);
        let no_keys = |why| match why {
            NoKeys::Fetch => Stop::NeedKeys(name.clone()),
            NoKeys::Refused(reason) => refused(reason),
        };
        let keys = self.keys.of(name, now).map_err(no_keys)?;
        let time = times(false, now);
        let rules = AccessRules { issuer: &spec.issuer, audience: &spec.audience, time, complete: false };
        let token = verify::<AccessClaims>(jws, &keys, &rules).map_err(|error| match error {
            TokenError::Jws(JwsError::UnknownKey) => {
                no_keys(self.keys.ask_again(name, now, ReasonCode::TokenSignatureInvalid))
            }
            error => refused(reason(error)),
        })?;
        Ok(foreign::genuine(directory, issuer, &token, now)?)
    }

    /// What the request proves of the token's holder. Nothing else is asked of a bearer token.
    fn bound(
        &self,
        genuine: &Genuine,
        shown: &Shown,
        now: Timestamp,
    ) -> Result<bartizan_jose::Bound, ReasonCode> {
        let mismatch = |_| ReasonCode::BindingMismatch;
        let certificate = shown.place.certificate;
        let Some(proof) = &shown.proof else {
            let how = Presentation { scheme: Scheme::Bearer, certificate };
            return Confirmation::check(genuine.bound_to, genuine.token, &how).map_err(mismatch);
        };
        if genuine.bound_to.and_then(Confirmation::key).is_none() {
            return Err(ReasonCode::BindingMismatch);
        }
        let rules = DpopRules {
            method: &shown.place.method,
            uri: &shown.place.uri,
            now,
            age_max: PROOF_AGE_MAX,
            skew: SKEW,
            access_token: Some(shown.text.expose()),
            nonce: self.nonces.as_ref().map_or(NonceRule::Off, NonceRule::Required),
        };
        let proven = DpopProof::verify(proof.expose(), &rules).map_err(|error| match error {
            DpopError::UseNonce => ReasonCode::ProofNonceNeeded,
            _ => ReasonCode::ProofRefused,
        })?;
        let how = Presentation { scheme: Scheme::Dpop(&proven), certificate };
        let bound = Confirmation::check(genuine.bound_to, genuine.token, &how).map_err(mismatch)?;
        // Last: only who holds the token's key can fill the memory of proofs.
        self.proofs.take(proven.replay(), now)?;
        Ok(bound)
    }
}

fn times(own: bool, now: Timestamp) -> TimeRules {
    TimeRules { now, skew: SKEW, life_max: if own { OWN_LIFE_MAX } else { FOREIGN_LIFE_MAX } }
}

/// A token of ours must be for what this door answers for; others' are for the audience that was agreed with their issuer.
fn for_this_door(genuine: &Genuine, shown: &Shown) -> bool {
    genuine.source != Source::Own || shown.place.resources.contains(&genuine.audience)
}

fn own_token(
    directory: &Directory,
    own: &Own,
    jws: &Jws<'_>,
    claimed: &AccessClaims,
    shown: &Shown,
    now: Timestamp,
) -> Result<Genuine, Stop> {
    let audience = match &claimed.aud {
        Audience::One(one) if shown.place.resources.contains(one) => one,
        _ => return Err(nobody(ReasonCode::TokenAudienceMismatch)),
    };
    let rules = AccessRules { issuer: &own.issuer, audience, time: times(true, now), complete: true };
    let token = verify::<AccessClaims>(jws, &own.jwks, &rules).map_err(|e| nobody(reason(e)))?;
    // Whose house it is for is said by the key that signed it.
    let tenant =
        own.tenant_of(token.signer(), now).ok_or_else(|| nobody(ReasonCode::TokenSignatureInvalid))?;
    Ok(own::genuine(directory, tenant, &token, audience, now)?)
}

/// What the house calls it.
const fn reason(error: TokenError) -> ReasonCode {
    match error {
        TokenError::Jws(JwsError::Algorithm) => ReasonCode::TokenAlgorithmRefused,
        TokenError::Jws(JwsError::Signature | JwsError::UnknownKey) => ReasonCode::TokenSignatureInvalid,
        TokenError::Type => ReasonCode::TokenTypeRefused,
        TokenError::ChainTooLong => ReasonCode::ChainRefused,
        TokenError::Issuer => ReasonCode::TokenIssuerUnknown,
        TokenError::Audience => ReasonCode::TokenAudienceMismatch,
        TokenError::Expired => ReasonCode::CredentialExpired,
        TokenError::NotYetValid => ReasonCode::CredentialNotYetValid,
        TokenError::Jws(JwsError::Shape | JwsError::Header)
        | TokenError::Malformed
        | TokenError::Claim(_)
        | TokenError::Forbidden(_)
        | TokenError::Client
        | TokenError::TooLongLived
        | TokenError::Nonce
        | TokenError::Hash
        | TokenError::Stale => ReasonCode::CredentialMalformed,
    }
}
