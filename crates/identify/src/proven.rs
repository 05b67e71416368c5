//! Callers whom the authority has verified itself.

use bartizan_base::{Name, Timestamp};
use bartizan_model::{
    Assurance, Binding, CredentialKind, Device, Member, PrincipalKind, ReasonCode, Risk, Tenant,
};

use crate::caller::{Caller, Scopes};
use crate::directory::Directory;

/// What the authority has verified: an authenticator, a session, a client's own credential. Whoever can make one can be
/// anybody, so it is for `bartizan-authority` alone.
#[derive(Clone, Debug)]
pub struct Proof {
    /// Whose house.
    pub tenant: Tenant,
    /// What kind of being.
    pub kind: PrincipalKind,
    /// Who.
    pub name: Name,
    /// How surely, and when.
    pub assurance: Assurance,
    /// By what this request is bound.
    pub binding: Binding,
    /// From which device.
    pub device: Option<Device>,
    /// How risky.
    pub risk: Risk,
    /// Who acts for them, outermost first.
    pub actors: Vec<Actor>,
    /// The client program as it names itself.
    pub client: Option<Name>,
    /// What was presented.
    pub credential: CredentialKind,
    /// What it may be used for.
    pub scopes: Scopes,
    /// When it was issued.
    pub issued: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
}

/// Somebody who acts for another.
#[derive(Clone, Debug)]
pub struct Actor {
    /// What kind of being.
    pub kind: PrincipalKind,
    /// Who.
    pub name: Name,
    /// How surely, and when: of its own, never the subject's.
    pub assurance: Assurance,
    /// By what it is bound.
    pub binding: Binding,
}

impl Proof {
    /// The caller, if everybody in it may come in now. Marks of epochs are held against what the proof says it was issued at.
    ///
    /// # Errors
    /// Why not, with the caller as far as known, for the record.
    pub fn caller(&self, directory: &Directory, now: Timestamp) -> Result<Caller, (Box<Caller>, ReasonCode)> {
        let nobody = |reason| (Box::new(Caller::anonymous(self.tenant.clone())), reason);
        let principal = directory.active(&self.tenant, self.kind, &self.name, now).map_err(nobody)?;
        let actors = self.actors.iter().map(|actor| {
            let principal = directory.active(&self.tenant, actor.kind, &actor.name, now).map_err(nobody)?;
            Ok(Member {
                principal,
                assurance: actor.assurance.clone(),
                binding: actor.binding,
                device: None,
                risk: Risk::default(),
            })
        });
        let caller = Caller {
            subject: Member {
                principal,
                assurance: self.assurance.clone(),
                binding: self.binding,
                device: self.device.clone(),
                risk: self.risk.clone(),
            },
            actors: actors.collect::<Result<_, _>>()?,
            client: self.client.clone(),
            credential: self.credential,
            scopes: self.scopes.clone(),
            issued: self.issued,
            expires: self.expires,
            ..Caller::anonymous(self.tenant.clone())
        };
        if self.expires <= now {
            return Err((Box::new(caller), ReasonCode::CredentialExpired));
        }
        let mark = caller.members().map(|m| directory.not_before(&self.tenant, &m.principal)).max();
        if mark.is_some_and(|mark| self.issued < mark) {
            return Err((Box::new(caller), ReasonCode::CredentialRevoked));
        }
        Ok(caller)
    }
}
