//! What may be done, in whose name, by whom, until when. It only shrinks (INV-NARROW).

use std::collections::BTreeSet;

use bartizan_base::{Name, Timestamp};
use bartizan_jose::{ACTORS_MAX, Confirmation};
use bartizan_model::{Assurance, Detail, FamilyId, GrantId, Principal, PrincipalKind, SessionId, Tenant};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::bound::BoundTo;
use crate::oauth::{OauthCode, OauthError};

/// What somebody consented to, or a client has of its own: where rights begin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Root {
    /// Whose house.
    pub tenant: Tenant,
    /// In whose name.
    pub subject: Principal,
    /// Who acts for them, outermost first.
    pub actors: Vec<Principal>,
    /// The scopes.
    pub scopes: BTreeSet<String>,
    /// The addresses where they hold (RFC 8707). A token is for one of them.
    pub resources: BTreeSet<String>,
    /// What exactly was allowed (RFC 9396); empty where it was not asked for so.
    pub details: Vec<Value>,
    /// How surely the subject was proven, and when.
    pub assurance: Assurance,
    /// The session that it ends with.
    pub session: Option<SessionId>,
    /// The device that the session is bound to.
    pub device: Option<Name>,
    /// What it was allowed by, the latest first. Each of them can be withdrawn.
    pub grants: Vec<GrantId>,
    /// The family of refresh tokens that it is used by.
    pub family: Option<FamilyId>,
    /// The key that whoever uses it has to hold.
    pub binding: Option<BoundTo>,
    /// The revision of the state that it was allowed on: a mark that was moved later ends it.
    pub since: u64,
    /// When it ends.
    pub ends: Timestamp,
}

/// What may be done, in whose name, by whom, until when. Whatever is made of one of these is within it: there is no way to
/// add a scope, an address or a moment, to renew a login, to drop a binding, a grant or an actor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rights(Root);

/// Why rights cannot be made into what was asked for: it would be more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NarrowError {
    /// A scope that is not in them.
    #[error("a scope that was not allowed")]
    Scope,
    /// An address that is not in them.
    #[error("a resource that was not allowed")]
    Resource,
    /// Details that are not in them, or none where there are some.
    #[error("details that were not allowed")]
    Details,
    /// They have ended.
    #[error("it has ended")]
    Ended,
    /// The actor is the subject, or acts already.
    #[error("the actor is in the chain already")]
    Loop,
    /// People do not act for others.
    #[error("a person does not act for others")]
    Person,
    /// The chain would be too long.
    #[error("the chain of actors would be too long")]
    ChainTooLong,
    /// Something bound would become usable by whoever has it.
    #[error("what is bound to a key stays bound")]
    Unbound,
    /// Another key than the one it is bound to.
    #[error("it is bound to another key")]
    OtherKey,
}

impl From<NarrowError> for OauthError {
    fn from(error: NarrowError) -> Self {
        let code = match error {
            NarrowError::Scope => OauthCode::InvalidScope,
            NarrowError::Resource => OauthCode::InvalidTarget,
            NarrowError::Details => OauthCode::InvalidAuthorizationDetails,
            NarrowError::Ended | NarrowError::OtherKey => OauthCode::InvalidGrant,
            NarrowError::Loop | NarrowError::Person | NarrowError::ChainTooLong | NarrowError::Unbound => {
                OauthCode::InvalidRequest
            }
        };
        Self::new(code, error.to_string())
    }
}

impl Rights {
    /// Rights that begin here. Only for what was just allowed or declared.
    #[must_use]
    pub const fn root(root: Root) -> Self {
        Self(root)
    }

    /// What they are.
    #[must_use]
    pub const fn get(&self) -> &Root {
        &self.0
    }

    /// Only these scopes.
    ///
    /// # Errors
    /// [`NarrowError::Scope`].
    pub fn scoped(mut self, scopes: BTreeSet<String>) -> Result<Self, NarrowError> {
        if !scopes.is_subset(&self.0.scopes) {
            return Err(NarrowError::Scope);
        }
        self.0.scopes = scopes;
        Ok(self)
    }

    /// Without the scopes that are not among `allowed`.
    #[must_use]
    pub fn scoped_within(mut self, allowed: &BTreeSet<String>) -> Self {
        self.0.scopes.retain(|scope| allowed.contains(scope));
        self
    }

    /// For one address; where none is asked for, for the only one there is, or the first.
    ///
    /// # Errors
    /// [`NarrowError::Resource`].
    pub fn at(mut self, resource: Option<&str>) -> Result<Self, NarrowError> {
        let found = match resource {
            None => self.0.resources.first(),
            Some(asked) => self.0.resources.get(asked),
        };
        self.0.resources = BTreeSet::from([found.cloned().ok_or(NarrowError::Resource)?]);
        Ok(self)
    }

    /// Without the addresses that are not among `allowed`.
    #[must_use]
    pub fn at_within(mut self, allowed: &BTreeSet<String>) -> Self {
        self.0.resources.retain(|resource| allowed.contains(resource));
        self
    }

    /// Only these details, named as they were allowed or, without their ids, as they were asked for; or less than they are.
    /// Where there are some, some stay: a token without any could be taken for one that is not limited by them.
    ///
    /// # Errors
    /// [`NarrowError::Details`].
    pub fn detailed(mut self, details: Vec<Value>) -> Result<Self, NarrowError> {
        let meant =
            details.into_iter().map(|detail| meant(detail, &self.0.details)).collect::<Option<Vec<_>>>();
        let details = meant.filter(|details| details_within(details, &self.0.details));
        self.0.details = details.ok_or(NarrowError::Details)?;
        Ok(self)
    }

    /// Ending at `end`, if they do not end before.
    #[must_use]
    pub fn until(mut self, end: Timestamp) -> Self {
        self.0.ends = self.0.ends.min(end);
        self
    }

    /// Used by `actor`, who acts for whoever has them now.
    ///
    /// # Errors
    /// [`NarrowError::Person`], [`NarrowError::Loop`] or [`NarrowError::ChainTooLong`].
    pub fn by(mut self, actor: Principal) -> Result<Self, NarrowError> {
        if !matches!(actor.kind, PrincipalKind::Agent | PrincipalKind::Workload) {
            return Err(NarrowError::Person);
        }
        if self.0.subject.id == actor.id || self.0.actors.iter().any(|present| present.id == actor.id) {
            return Err(NarrowError::Loop);
        }
        if self.0.actors.len() >= ACTORS_MAX {
            return Err(NarrowError::ChainTooLong);
        }
        self.0.actors.insert(0, actor);
        Ok(self)
    }

    /// Allowed by this grant too.
    #[must_use]
    pub fn under(mut self, grant: GrantId) -> Self {
        if !self.0.grants.contains(&grant) {
            self.0.grants.insert(0, grant);
        }
        self
    }

    /// Used by a family of refresh tokens, if they are not yet.
    #[must_use]
    pub(crate) fn used_by(mut self, family: FamilyId) -> Self {
        self.0.family.get_or_insert(family);
        self
    }

    /// Used by the holder of what they are bound to, who has proven `shown`. What is not bound yet is bound to that.
    ///
    /// # Errors
    /// [`NarrowError::Unbound`] or [`NarrowError::OtherKey`].
    pub fn held_with(mut self, shown: Option<Confirmation>) -> Result<Self, NarrowError> {
        if let Some(BoundTo(wanted)) = self.0.binding {
            let shown = shown.ok_or(NarrowError::Unbound)?;
            let key = wanted.key().is_none_or(|key| shown.key() == Some(key));
            let certificate = wanted.certificate().is_none_or(|x5t| shown.certificate() == Some(x5t));
            if !(key && certificate) {
                return Err(NarrowError::OtherKey);
            }
        }
        self.0.binding = shown.map(BoundTo);
        Ok(self)
    }

    /// Handed to somebody else, who has proven `shown` of their own.
    ///
    /// # Errors
    /// [`NarrowError::Unbound`].
    pub fn handed_to(mut self, shown: Option<Confirmation>) -> Result<Self, NarrowError> {
        if self.0.binding.is_some() && shown.is_none() {
            return Err(NarrowError::Unbound);
        }
        self.0.binding = shown.map(BoundTo);
        Ok(self)
    }

    /// Whether they are within `from`: compared member by member, whichever way they were made.
    #[must_use]
    pub fn are_within(&self, from: &Self) -> bool {
        let (new, old) = (&self.0, &from.0);
        let level = new.assurance.level <= old.assurance.level
            && new.assurance.at <= old.assurance.at
            && new.assurance.methods.iter().all(|method| old.assurance.methods.contains(method));
        let distinct: BTreeSet<_> = new.actors.iter().chain([&new.subject]).map(|member| member.id).collect();
        new.tenant == old.tenant
            && new.subject == old.subject
            && new.actors.ends_with(&old.actors)
            && new.actors.len() <= ACTORS_MAX
            && distinct.len() == new.actors.len() + 1
            && new.scopes.is_subset(&old.scopes)
            && new.resources.is_subset(&old.resources)
            && details_within(&new.details, &old.details)
            && level
            && new.session == old.session
            && new.device == old.device
            && new.grants.ends_with(&old.grants)
            && (old.family.is_none() || new.family == old.family)
            && (old.binding.is_none() || new.binding.is_some())
            && new.since <= old.since
            && new.ends <= old.ends
    }
}

fn details_within(new: &[Value], old: &[Value]) -> bool {
    let within = |detail: &Value| {
        old.contains(detail)
            || Detail::read(detail)
                .is_some_and(|new| old.iter().filter_map(Detail::read).any(|old| new.is_within(&old)))
    };
    new.is_empty() == old.is_empty() && new.iter().all(within)
}

/// The detail of `held` that is meant by `asked`, made as small as it says.
fn meant(asked: Value, held: &[Value]) -> Option<Value> {
    if held.contains(&asked) {
        return Some(asked);
    }
    let asked = Detail::read(&asked)?;
    held.iter().filter_map(Detail::read).find_map(|of| {
        let meant = Detail {
            id: asked.id.or(of.id),
            uses: asked.uses.or(of.uses),
            until: asked.until.into_iter().chain(of.until).min(),
            what: asked.what.clone(),
        };
        meant.is_within(&of).then(|| meant.to_json())
    })
}

#[cfg(test)]
#[path = "rights_tests.rs"]
mod tests;
