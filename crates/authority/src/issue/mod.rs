//! Issuing: the one place where tokens of the house are signed.
//!
//! Every way to a token (a code, a refresh token, an exchange …) ends in one [`Issue`]: rights that were narrowed from rights.
//! [`Authority::issue`] compares both once more, asks policy in the name of the whole chain, holds the marks of everybody
//! concerned against the revision that the rights are of, counts the use of grants, and only then signs.

mod bound;
mod claims;
mod rights;

use std::time::Duration;

use bartizan_base::{Name, Timestamp};
use bartizan_control::View;
use bartizan_identify::{Actor, Caller, Proof, Scopes};
use bartizan_jose::Confirmation;
use bartizan_model::{
    Action, CredentialKind, FamilyId, GrantType, Principal, Problem, ReasonCode, Risk, Tenant, TokenId,
};
use bartizan_secret::Secret;
use bartizan_store::Change;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::{Map, Value};

pub use bound::BoundTo;
pub(crate) use claims::{OWN, level};
pub use rights::{NarrowError, Rights, Root};

use crate::clients::{Authenticated, Bound};
use crate::keys::Rings;
use crate::oauth::{OauthCode, OauthError, TokenAnswer, write_scope};
use crate::refresh::Family;
use crate::stripes::Stripes;
use crate::{Authority, grants, marks};

/// How long access tokens and ID tokens live.
pub const TOKEN_LIFE: Duration = Duration::from_secs(300);

/// How often a change is worked out anew when somebody else was quicker.
const ATTEMPTS: usize = 5;

/// What issuing remembers between requests: opened keys, and who is at work on what.
#[derive(Debug, Default)]
pub struct Issuing {
    pub(crate) rings: Rings,
    pub(crate) stripes: Stripes,
    pub(crate) people: marks::People,
}

/// What a token is issued for. Made of rights that somebody has, and made smaller from there.
#[derive(Debug)]
#[must_use = "nothing is issued before `Authority::issue`"]
pub struct Issue {
    by: GrantType,
    from: Rights,
    rights: Rights,
    client: Holder,
    openid: Option<OpenId>,
    refresh: Refreshing,
    kind: Option<&'static str>,
    changes: Vec<Change>,
}

/// The client that asks, as far as issuing looks at it.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    pub(crate) id: String,
    pub(crate) name: Name,
    pub(crate) public: bool,
    pub(crate) refreshes: bool,
    pub(crate) bound: Bound,
}

/// What an ID token says beside what the rights say.
#[derive(Clone, Debug, Default)]
pub struct OpenId {
    /// What the client asked to have sent back.
    pub nonce: Option<String>,
    /// Names and addresses, as the scopes allow.
    pub about: Map<String, Value>,
}

#[derive(Debug)]
enum Refreshing {
    /// No refresh token.
    No,
    /// The first of a new family, whose tokens may be used for these rights.
    Begin(Box<Rights>),
    /// The next of its family.
    Next(Secret<String>),
}

/// What the ask says; its digest is recorded.
#[derive(Serialize)]
struct Asked<'a> {
    grant_type: &'a str,
    client: &'a str,
    token: TokenId,
    audience: &'a str,
    scope: &'a str,
    grants: Vec<String>,
    details: &'a [Value],
    refresh: bool,
}

impl Issue {
    /// A token for the holder of `rights`, who has proven to hold what they are bound to. Cut to what the client may have.
    ///
    /// # Errors
    /// When the rights are bound to another key, or the client's tokens must be bound and it has shown no key.
    pub fn new(by: GrantType, client: &Authenticated, rights: Rights) -> Result<Self, OauthError> {
        let narrowed = rights.clone().held_with(client.bound.confirmation())?;
        Self::of(by, client, rights, narrowed)
    }

    /// A token for somebody to whom the holder of `rights` hands them, who has shown a key of their own.
    ///
    /// # Errors
    /// When the rights are bound and the client has shown no key.
    pub fn handed(by: GrantType, client: &Authenticated, rights: Rights) -> Result<Self, OauthError> {
        let narrowed = rights.clone().handed_to(client.bound.confirmation())?;
        Self::of(by, client, rights, narrowed)
    }

    fn of(
        by: GrantType,
        authenticated: &Authenticated,
        from: Rights,
        narrowed: Rights,
    ) -> Result<Self, OauthError> {
        let client = &authenticated.client;
        if !client.may(by) {
            return Err(OauthError::new(
                OauthCode::UnauthorizedClient,
                "the client may not use this grant type",
            ));
        }
        if client.bound && authenticated.bound.confirmation().is_none() {
            return Err(OauthError::request("tokens of this client are bound: send a proof of possession")
                .because(ReasonCode::BindingRequired));
        }
        let mut rights = narrowed.scoped_within(&client.scopes);
        if !client.resources.is_empty() {
            rights = rights.at_within(&client.resources);
        }
        Ok(Self {
            by,
            from,
            rights,
            client: Holder {
                id: client.id.clone(),
                name: client.name.clone(),
                public: client.is_public(),
                refreshes: client.may(GrantType::RefreshToken),
                bound: authenticated.bound,
            },
            openid: None,
            refresh: Refreshing::No,
            kind: None,
            changes: authenticated.used.clone(),
        })
    }

    /// Narrows the rights.
    ///
    /// # Errors
    /// What `narrow` says.
    pub fn narrow(
        mut self,
        narrow: impl FnOnce(Rights) -> Result<Rights, NarrowError>,
    ) -> Result<Self, OauthError> {
        self.rights = narrow(self.rights)?;
        Ok(self)
    }

    /// For these scopes and this address, where the request names any (RFC 6749, 3.3; RFC 8707).
    ///
    /// # Errors
    /// `invalid_scope` or `invalid_target` for more than there is.
    pub fn asked(self, form: &crate::oauth::Form) -> Result<Self, OauthError> {
        let scopes = form.get("scope").map(crate::oauth::parse_scope).transpose()?;
        let resource = one_resource(form)?.map(str::to_owned);
        let details = form.get("authorization_details").map(read_details).transpose()?;
        self.narrow(|rights| {
            let rights = scopes.map_or_else(|| Ok(rights.clone()), |scopes| rights.clone().scoped(scopes))?;
            let rights = details.map_or_else(|| Ok(rights.clone()), |d| rights.clone().detailed(d))?;
            rights.at(resource.as_deref())
        })
    }

    /// With an ID token, where the scope `openid` is among the rights.
    pub fn openid(mut self, openid: OpenId) -> Self {
        self.openid = Some(openid);
        self
    }

    /// With the first refresh token of a new family, where the client may have one. Its tokens may be used for all that this
    /// issue is for at this moment, at every address that is left: so this comes before [`Issue::asked`].
    pub fn refreshable(mut self) -> Self {
        if self.client.refreshes {
            self.refresh = Refreshing::Begin(Box::new(self.rights.clone()));
        }
        self
    }

    /// With the next refresh token of its family.
    pub(crate) fn next_refresh(mut self, text: Secret<String>) -> Self {
        self.refresh = Refreshing::Next(text);
        self
    }

    /// Answered as an exchange (RFC 8693).
    pub(crate) const fn exchanged(mut self, kind: &'static str) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Together with these changes, or not at all.
    pub fn with(mut self, changes: impl IntoIterator<Item = Change>) -> Self {
        self.changes.extend(changes);
        self
    }

    /// The rights as they are narrowed up to now.
    #[must_use]
    pub const fn rights(&self) -> &Rights {
        &self.rights
    }
}

/// The one address that a request names (RFC 8707; `audience` of RFC 8693 means the same here).
///
/// # Errors
/// `invalid_target` for several: a token of ours is for one.
pub fn one_resource(form: &crate::oauth::Form) -> Result<Option<&str>, OauthError> {
    let mut named = form.all("resource").chain(form.all("audience"));
    let first = named.next();
    if named.any(|other| Some(other) != first) {
        return Err(OauthError::new(
            OauthCode::InvalidTarget,
            "a token is for one resource; ask for several tokens",
        ));
    }
    Ok(first)
}

fn read_details(text: &str) -> Result<Vec<Value>, OauthError> {
    let limits = bartizan_base::json::Limits { bytes_max: 16 * 1024, depth_max: 8, nodes_max: 500 };
    match bartizan_base::json::parse(text.as_bytes(), limits) {
        Ok(Value::Array(details)) if !details.is_empty() => Ok(details),
        _ => Err(OauthError::new(
            OauthCode::InvalidAuthorizationDetails,
            "authorization_details is a JSON array of objects",
        )),
    }
}

/// What comes of signing.
struct Signed {
    access: Secret<String>,
    id: Option<Secret<String>>,
    life_s: u64,
}

impl Authority {
    /// Works an issue out and issues it; again where somebody else was quicker with the same thing. Only one at a time of this
    /// process works on `what`.
    ///
    /// # Errors
    /// What `work` or [`Authority::issue`] say. A refusal is recorded before it is told.
    pub async fn issue_for<'a>(
        &self,
        what: &str,
        work: impl Fn() -> BoxFuture<'a, Result<Issue, OauthError>> + Send + Sync,
    ) -> Result<TokenAnswer, OauthError> {
        let _alone = self.issuing.stripes.lock(what).await;
        let mut result = Err(OauthError::from(ReasonCode::Busy));
        for _ in 0..ATTEMPTS {
            result = match work().await {
                Ok(issue) => self.issue(issue).await,
                Err(error) => Err(self.refused(error).await),
            };
            if !matches!(&result, Err(error) if error.reason == ReasonCode::Conflict) {
                break;
            }
        }
        result
    }

    /// Records that nobody could be proven by what was sent, unless it is recorded already.
    pub async fn refused(&self, error: OauthError) -> OauthError {
        let waits = matches!(error.code, OauthCode::AuthorizationPending | OauthCode::SlowDown);
        if waits || error.decision.is_some() || error.reason == ReasonCode::Conflict {
            return error;
        }
        let nobody = Caller::anonymous(self.settings.tenant.clone());
        let stopped = self.control.refuse_caller(&nobody, error.reason.clone()).await;
        // Where even the refusal cannot be recorded, that is what is told.
        if stopped.receipt.is_none() {
            return stopped.into();
        }
        OauthError { decision: stopped.problem.decision, ..error }
    }

    /// Issues tokens: the only place that signs them.
    ///
    /// # Errors
    /// When policy says no, when anybody or anything concerned has ended since the rights began, when a grant was used up,
    /// or when somebody else was quicker (`Conflict`, for [`Authority::issue_for`]).
    pub async fn issue(&self, mut issue: Issue) -> Result<TokenAnswer, OauthError> {
        let now = self.control.clock.now();
        let refresh = match std::mem::replace(&mut issue.refresh, Refreshing::No) {
            Refreshing::No => None,
            Refreshing::Next(text) => Some(text),
            Refreshing::Begin(rights) => {
                let id = FamilyId::new(now, &*self.control.random);
                let begun = Family::begin(id, &issue.client, &rights, now, &*self.control.random)?;
                issue.rights = issue.rights.used_by(id);
                issue.changes.push(begun.1);
                Some(begun.0)
            }
        };
        if !issue.rights.are_within(&issue.from) {
            tracing::error!("rights would grow; nothing is issued");
            return Err(ReasonCode::Internal.into());
        }
        let rights = issue.rights.get();
        let audience = match (rights.resources.first(), rights.resources.len()) {
            (Some(only), 1) => only.clone(),
            _ => return Err(self.refused(NarrowError::Resource.into()).await),
        };
        if rights.ends <= now {
            return Err(self.refused(NarrowError::Ended.into()).await);
        }
        if rights.scopes.is_empty() {
            let none = OauthError::new(OauthCode::InvalidScope, "nothing that was allowed is left");
            return Err(self.refused(none).await);
        }
        let caller = self
            .member_of(&issue.rights, issue.client.bound, Some(&issue.client.name), Action::TokenIssue)
            .await?;
        let mut changes = issue.changes.clone();
        match grants::spend(self, rights, &changes, now).await {
            Ok(uses) => changes.extend(uses),
            Err(error) => return Err(self.refused(error).await),
        }
        let token = TokenId::new(now, &*self.control.random);
        let scope = write_scope(&rights.scopes);
        let asked = Asked {
            grant_type: issue.by.name(),
            client: &issue.client.id,
            token,
            audience: &audience,
            scope: &scope,
            grants: rights.grants.iter().map(ToString::to_string).collect(),
            details: &rights.details,
            refresh: refresh.is_some(),
        };
        let sign = async |view: &View, _: &Tenant| self.sign(view, &issue, &audience, token, now);
        let signed = if changes.is_empty() {
            self.control.read_with(&caller, Action::TokenIssue, &asked, sign).await?.value
        } else {
            let work = async |view: &View, tenant: &Tenant| Ok((changes, sign(view, tenant).await?));
            self.control.change_with(&caller, Action::TokenIssue, &asked, work).await?.value
        };
        Ok(TokenAnswer {
            access_token: signed.access,
            token_type: match rights.binding {
                Some(BoundTo(Confirmation::Key(_) | Confirmation::Both(..))) => "DPoP",
                _ => "Bearer",
            },
            expires_in_s: signed.life_s,
            refresh_token: refresh,
            id_token: signed.id,
            scope,
            authorization_details: rights.details.clone(),
            issued_token_type: issue.kind,
        })
    }

    /// The chain of `rights` as a caller, alive and the same as when the rights began.
    pub(crate) async fn member_of(
        &self,
        rights: &Rights,
        bound: Bound,
        client: Option<&Name>,
        action: Action,
    ) -> Result<Caller, OauthError> {
        let now = self.control.clock.now();
        let rights = rights.get();
        let proof = Proof {
            tenant: rights.tenant.clone(),
            kind: rights.subject.kind,
            name: rights.subject.name.clone(),
            assurance: rights.assurance.clone(),
            binding: bound.binding(),
            device: None,
            risk: Risk::default(),
            // The person's login is not credited to whoever acts for them; the key is the outermost actor's.
            actors: rights
                .actors
                .iter()
                .map(|actor| Actor {
                    kind: actor.kind,
                    name: actor.name.clone(),
                    assurance: Default::default(),
                    binding: bound.binding(),
                })
                .collect(),
            client: client.cloned(),
            credential: CredentialKind::Client,
            scopes: Scopes::Only([action].into()),
            issued: now,
            expires: rights.ends,
        };
        let dead = match self.control.house.prove(&proof) {
            // Somebody of the same name who was declared anew is somebody else.
            Ok(caller) if caller.members().map(|m| &m.principal).eq(members(rights)) => return Ok(caller),
            Ok(caller) => (Box::new(caller), ReasonCode::PrincipalDisabled),
            Err(dead) => dead,
        };
        let (caller, reason) = dead;
        let stopped = self.control.refuse_caller(&caller, reason.clone()).await;
        let decision = stopped.problem.decision;
        Err(if stopped.receipt.is_none() || reason.status() == 503 {
            stopped.into()
        } else {
            OauthError { decision, ..OauthError::grant().because(reason) }
        })
    }

    /// Everything is decided: signs.
    fn sign(
        &self,
        view: &View,
        issue: &Issue,
        audience: &str,
        token: TokenId,
        now: Timestamp,
    ) -> Result<Signed, Problem> {
        let rights = issue.rights.get();
        marks::alive(&view.state, &issue.from, &issue.client.name)?;
        let signer = self.signer(view)?;
        let ends = rights.ends.min(now.saturating_add(TOKEN_LIFE));
        let broken = |error: bartizan_jose::IssueError| {
            tracing::error!(%error, "a token could not be signed");
            Problem::new(ReasonCode::Internal)
        };
        let holder = (issue.client.id.as_str(), audience);
        let access = claims::access(&self.issuer, rights, holder, token, view.state.revision, (now, ends));
        let access = signer.issue(&access).map_err(broken)?;
        let id = match &issue.openid {
            Some(openid) if rights.scopes.contains("openid") => {
                let hash = signer.algorithm().half_hash(access.expose());
                let id = claims::id(&self.issuer, rights, &issue.client.id, openid, hash, (now, ends));
                Some(signer.issue(&id).map_err(broken)?)
            }
            _ => None,
        };
        // What a token says is whole seconds.
        Ok(Signed { access, id, life_s: ends.as_secs().saturating_sub(now.as_secs()) })
    }
}

/// Subject and actors, as callers have them.
fn members(rights: &Root) -> impl Iterator<Item = &Principal> {
    std::iter::once(&rights.subject).chain(&rights.actors)
}

#[cfg(test)]
#[path = "tests.rs"]
pub(crate) mod tests;
