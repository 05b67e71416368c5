//! Callers who are no principals of the directory, and may do one thing only.

use bartizan_base::{Digest, Timestamp};
use bartizan_model::{Action, CredentialKind, ReasonCode, Tenant};
use bartizan_secret::constant_time_eq;

use crate::caller::{Caller, Scopes};
use crate::identifier::Identifier;
use crate::recovery::{QuorumError, RecoverySignature, verify_quorum};

impl Identifier {
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
}
