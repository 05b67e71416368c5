//! Asking, and signing.

use bartizan_base::{Name, Timestamp};
use bartizan_control::View;
use bartizan_identify::{Actor, Caller, Proof, Scopes};
use bartizan_jose::Confirmation;
use bartizan_model::{
    Action, Binding, CredentialKind, FamilyId, Principal, Problem, ReasonCode, Risk, Tenant, TokenId,
};
use bartizan_secret::Secret;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::Value;

use super::{BoundTo, Issue, NarrowError, Refreshing, Rights, TOKEN_LIFE, claims};
use crate::clients::Bound;
use crate::oauth::{OauthCode, OauthError, TokenAnswer, write_scope};
use crate::refresh::Family;
use crate::{Authority, grants, marks};

/// How often a change is worked out anew when somebody else was quicker.
const ATTEMPTS: usize = 5;

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
            Refreshing::Begin(rights) if !rights.are_within(&issue.from) => return Err(grown()),
            Refreshing::Begin(rights) => {
                let id = FamilyId::new(now, &*self.control.random);
                let begun = Family::begin(id, &issue.client, &rights, now, &*self.control.random)?;
                issue.rights = issue.rights.used_by(id);
                issue.changes.push(begun.1);
                Some(begun.0)
            }
        };
        if !issue.rights.are_within(&issue.from) {
            return Err(grown());
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
        let mut proof = proof(rights, action, now);
        proof.binding = bound.binding();
        // The key is the outermost actor's, who asks.
        proof.actors.iter_mut().take(1).for_each(|actor| actor.binding = bound.binding());
        proof.client = client.cloned();
        let dead = match self.control.house.prove(&proof) {
            // Somebody of the same name who was declared anew is somebody else.
            Ok(caller) if is_same(&caller, rights) => return Ok(caller),
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

/// What is never to happen, because rights only shrink.
fn grown() -> OauthError {
    tracing::error!("rights would grow; nothing is issued");
    ReasonCode::Internal.into()
}

/// What the authority has verified of the chain of `rights`, to ask for `action` and nothing else.
pub(crate) fn proof(rights: &Rights, action: Action, now: Timestamp) -> Proof {
    let rights = rights.get();
    // The person's login is not credited to whoever acts for them.
    let acting = |actor: &Principal| Actor {
        kind: actor.kind,
        name: actor.name.clone(),
        assurance: Default::default(),
        binding: Binding::None,
    };
    Proof {
        tenant: rights.tenant.clone(),
        kind: rights.subject.kind,
        name: rights.subject.name.clone(),
        assurance: rights.assurance.clone(),
        binding: Binding::None,
        device: None,
        risk: Risk::default(),
        actors: rights.actors.iter().map(acting).collect(),
        client: None,
        credential: CredentialKind::Client,
        scopes: Scopes::Only([action].into()),
        issued: now,
        expires: rights.ends,
    }
}

/// Whether a caller is of the same people as rights: somebody of the same name who was declared anew is somebody else.
pub(crate) fn is_same(caller: &Caller, rights: &Rights) -> bool {
    let rights = rights.get();
    let members = std::iter::once(&rights.subject).chain(&rights.actors);
    caller.members().map(|member| &member.principal).eq(members)
}
