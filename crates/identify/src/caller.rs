//! Who is asking, verified.

use std::collections::BTreeSet;
use std::sync::Arc;

use bartizan_base::{Name, Timestamp};
use bartizan_model::record::Who;
use bartizan_model::{
    Action, Assurance, Binding, CredentialKind, GrantId, KeyId, Member, Principal, PrincipalId,
    PrincipalKind, Risk, SessionId, Tenant,
};
use serde::{Deserialize, Serialize};

use crate::ground::Ground;
use crate::step_up::Lifted;

/// Who is asking: the subject responsible, the actors in between, and what they presented. Made only by this crate
/// after verification, never deserialised from anything.
#[derive(Clone, Debug)]
pub struct Caller {
    pub(crate) tenant: Tenant,
    pub(crate) subject: Member,
    pub(crate) actors: Vec<Member>,
    pub(crate) client: Option<Name>,
    pub(crate) credential: CredentialKind,
    pub(crate) key: Option<KeyId>,
    pub(crate) issuer: Option<Name>,
    pub(crate) scopes: Scopes,
    pub(crate) issued: Timestamp,
    pub(crate) expires: Timestamp,
    pub(crate) supposed: bool,
    pub(crate) session: Option<SessionId>,
    pub(crate) grant: Option<GrantId>,
    /// What it rests on, to be looked at again while a stream runs.
    pub(crate) ground: Ground,
    /// Another login by which they were proven more surely, for one thing.
    pub(crate) lifted: Option<Arc<Lifted>>,
}

/// What a credential may be used for. Scopes only shrink what policy grants; they never add to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scopes {
    /// No limit of its own.
    All,
    /// Only these actions.
    Only(BTreeSet<Action>),
}

impl Scopes {
    /// Whether `action` is covered.
    #[must_use]
    pub fn cover(&self, action: Action) -> bool {
        match self {
            Self::All => true,
            Self::Only(actions) => actions.contains(&action),
        }
    }

    /// The fewest words of a scope that say the same: groups that are covered whole, and the actions that are left. None where
    /// there is no limit.
    #[must_use]
    pub fn words(&self) -> Option<BTreeSet<&'static str>> {
        let Self::Only(actions) = self else { return None };
        let word = |action: &Action| {
            let whole = |group: &&str| Action::in_scope(group).all(|one| actions.contains(&one));
            action.group().filter(whole).unwrap_or(action.name())
        };
        Some(actions.iter().map(word).collect())
    }
}

impl Caller {
    /// Nobody proven, in `tenant`'s house.
    #[must_use]
    pub fn anonymous(tenant: Tenant) -> Self {
        let nobody = PrincipalId::from_parts(Timestamp::from_micros(0), [0; 10]);
        Self {
            tenant,
            subject: Member {
                principal: Principal {
                    kind: PrincipalKind::Anonymous,
                    name: Name::literal("anonymous"),
                    id: nobody,
                },
                assurance: Assurance::default(),
                binding: Binding::None,
                device: None,
                risk: Risk::default(),
            },
            actors: Vec::new(),
            client: None,
            credential: CredentialKind::None,
            key: None,
            issuer: None,
            scopes: Scopes::Only(BTreeSet::new()),
            issued: Timestamp::default(),
            expires: Timestamp::MAX,
            supposed: false,
            session: None,
            grant: None,
            ground: Ground::None,
            lifted: None,
        }
    }

    /// Somebody supposed, for questions such as "what if". `decide` explains for them but never permits.
    #[must_use]
    pub fn suppose(tenant: Tenant, subject: Member, actors: Vec<Member>) -> Self {
        Self { subject, actors, scopes: Scopes::All, supposed: true, ..Self::anonymous(tenant) }
    }

    /// Somebody who asked once, as it was recorded: supposed as well, and never permitted.
    #[must_use]
    pub fn recalled(
        tenant: Tenant,
        subject: Member,
        actors: Vec<Member>,
        credential: CredentialKind,
        scopes: Scopes,
    ) -> Self {
        Self { credential, scopes, ..Self::suppose(tenant, subject, actors) }
    }

    /// Whether the caller is only supposed.
    #[must_use]
    pub const fn is_supposed(&self) -> bool {
        self.supposed
    }

    /// The organisation.
    #[must_use]
    pub const fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// The one responsible.
    #[must_use]
    pub const fn subject(&self) -> &Member {
        &self.subject
    }

    /// Those in between, outermost first.
    #[must_use]
    pub fn actors(&self) -> &[Member] {
        &self.actors
    }

    /// Everybody whose rights count: the subject, then the actors.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        std::iter::once(&self.subject).chain(&self.actors)
    }

    /// The client program as it names itself: context, not a member.
    #[must_use]
    pub const fn client(&self) -> Option<&Name> {
        self.client.as_ref()
    }

    /// What was presented.
    #[must_use]
    pub const fn credential(&self) -> CredentialKind {
        self.credential
    }

    /// Which key was presented, where it was one of ours.
    #[must_use]
    pub const fn key(&self) -> Option<KeyId> {
        self.key
    }

    /// The session of ours that the credential comes from.
    #[must_use]
    pub const fn session(&self) -> Option<SessionId> {
        self.session
    }

    /// The grant of ours that the credential was issued under.
    #[must_use]
    pub const fn grant(&self) -> Option<GrantId> {
        self.grant
    }

    /// What the credential may be used for.
    #[must_use]
    pub const fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    /// When the credential was issued.
    #[must_use]
    pub const fn issued(&self) -> Timestamp {
        self.issued
    }

    /// When the credential ends.
    #[must_use]
    pub const fn expires(&self) -> Timestamp {
        self.expires
    }

    /// Whether they were proven more surely than their credential is, for one thing ([`crate::StepUps`]).
    #[must_use]
    pub const fn is_lifted(&self) -> bool {
        self.lifted.is_some()
    }

    /// Whether nobody was proven.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.subject.principal.kind == PrincipalKind::Anonymous
    }

    /// The caller as records name them: by pseudonyms.
    #[must_use]
    pub fn who(&self) -> Who {
        Who {
            subject: self.subject.principal.id,
            subject_kind: self.subject.principal.kind,
            actors: self.actors.iter().map(|m| m.principal.id).collect(),
            credential: self.credential,
            key: self.key,
            issuer: self.issuer.clone(),
            assurance: self.subject.assurance.level.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_said_in_the_fewest_words_that_cover_the_same_and_no_more() {
        let all = |word: &str| Action::in_scope(word).collect::<BTreeSet<_>>();
        let words = |actions: BTreeSet<Action>| Scopes::Only(actions).words().unwrap();
        let mut actions = all("house:read");
        actions.extend(all("content:read"));
        assert_eq!(words(actions.clone()), ["content:read", "house:read"].into());
        actions.remove(&Action::PolicyRead);
        let fewer = words(actions.clone());
        assert!(!fewer.contains("house:read") && !fewer.contains("policy:read"));
        let again: BTreeSet<_> = fewer.iter().flat_map(|word| Action::in_scope(word)).collect();
        assert_eq!(again, actions);
        assert_eq!((words(BTreeSet::new()).len(), Scopes::All.words()), (0, None));
    }
}
