//! Callers who present one of our API keys.

use bartizan_base::{Name, Timestamp};
use bartizan_model::{Assurance, AssuranceLevel, Binding, CredentialKind, Member, ReasonCode, Risk};

use crate::caller::{Caller, Scopes};
use crate::directory::{Directory, KeyEntry};
use crate::ground::Ground;
use crate::own::Refusal;

/// Whom a key stands for, if it and they are in use.
pub(crate) fn api_key(directory: &Directory, key: &KeyEntry, now: Timestamp) -> Result<Caller, Refusal> {
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
        ground: Ground::Key(key.digest),
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
