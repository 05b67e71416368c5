//! What lies in rows between a request and its tokens: the question that somebody has to answer, and the code.

use std::time::Duration;

use bartizan_base::{Digest, Timestamp};
use bartizan_control::View;
use bartizan_jose::Confirmation;
use bartizan_model::{Action, GrantId, SessionId, Tenant};
use bartizan_secret::Secret;
use bartizan_store::{Change, RowKind, StoreError};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::Person;
use super::request::Wish;
use crate::Authority;
use crate::clients::Client;
use crate::grants::unread;
use crate::issue::{BoundTo, Rights, Root};
use crate::kept::{Grant, Kept, keep, owner};
use crate::oauth::OauthError;

/// How long a code is remembered after its end, so that it is known when it comes again.
const MEMORY: Duration = Duration::from_secs(24 * 3_600);

/// A question that waits for an answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Pending {
    /// What is asked: the exact request, and the client as it describes itself now.
    pub(super) wish: Wish,
    /// In which session. Nobody else can answer.
    pub(super) session: SessionId,
    /// Whose.
    pub(super) owner: String,
    /// Until when.
    pub(super) until: Timestamp,
}

impl Kept for Pending {
    const KIND: RowKind = RowKind::Request;

    fn owner(&self) -> String {
        self.owner.clone()
    }

    fn expires(&self) -> Option<Timestamp> {
        Some(self.until)
    }
}

#[derive(Serialize)]
struct Begun<'a> {
    client: &'a str,
    scopes: Vec<&'a str>,
    resources: Vec<&'a str>,
}

impl Pending {
    /// Keeps the question, and says by which id.
    pub(super) async fn begin(
        authority: &Authority,
        wish: Wish,
        person: &Person,
        used: Option<Change>,
        now: Timestamp,
    ) -> Result<String, OauthError> {
        let id = secret_text(authority);
        let ask = Begun {
            client: &wish.client.id.clone(),
            scopes: wish.scopes.iter().map(String::as_str).collect(),
            resources: wish.resources.iter().map(String::as_str).collect(),
        };
        let pending = Self {
            wish: wish.clone(),
            session: person.session.id,
            owner: owner(&person.session.principal),
            until: now.saturating_add(authority.settings.request_life),
        };
        let work = async |_: &View, tenant: &Tenant| {
            let mut changes = vec![keep(tenant, id.expose().as_str(), &pending).map_err(unread)?];
            changes.extend(used);
            Ok((changes, ()))
        };
        authority.control.change_with(&person.caller, Action::TokenIssue, &ask, work).await?;
        Ok(id.expose().clone())
    }
}

/// A code, under the digest of its text.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Code {
    /// To whom it was given, as that client was described when it was allowed.
    pub(crate) client: Client,
    /// Where it was sent.
    pub(crate) redirect: String,
    /// What its verifier must hash to.
    pub(crate) challenge: String,
    /// What it stands for.
    pub(crate) rights: Rights,
    /// What the ID token gives back.
    pub(crate) nonce: Option<String>,
    /// The session it was given in; without it, it is nothing.
    pub(crate) session: SessionId,
    /// Under which grant.
    pub(crate) grant: GrantId,
    /// Until when it can be redeemed.
    pub(crate) until: Timestamp,
    /// When it was redeemed.
    pub(crate) spent: Option<Timestamp>,
}

impl Kept for Code {
    const KIND: RowKind = RowKind::Code;

    fn owner(&self) -> String {
        self.grant.to_string()
    }

    fn expires(&self) -> Option<Timestamp> {
        Some(self.until.saturating_add(MEMORY))
    }
}

#[derive(Serialize)]
struct Given<'a> {
    grant: GrantId,
    client: &'a str,
    scopes: Vec<&'a str>,
    resources: Vec<&'a str>,
}

impl Code {
    /// Under what a code lies.
    pub(crate) fn row_id(text: &str) -> String {
        Digest::of(text.as_bytes()).to_string()
    }

    /// A new code for what `grant` allows, of a request that it covers: its text, and the change that keeps it.
    pub(super) fn make(
        authority: &Authority,
        wish: &Wish,
        person: &Person,
        grant: &Grant,
        since: u64,
        now: Timestamp,
    ) -> Result<(Secret<String>, Change), StoreError> {
        let text = secret_text(authority);
        let key =
            wish.key.as_ref().and_then(|key| key.parse().ok()).map(|key| BoundTo(Confirmation::Key(key)));
        let root = Root {
            tenant: wish.client.tenant.clone(),
            subject: person.session.principal.clone(),
            actors: Vec::new(),
            scopes: grant.scopes.clone(),
            resources: wish.resources.clone(),
            details: grant.details.clone(),
            assurance: person.session.assurance.clone(),
            session: grant.session,
            device: person.session.device.clone(),
            grants: vec![grant.id],
            family: None,
            binding: key,
            since,
            ends: grant.ends,
        };
        let code = Self {
            client: wish.client.clone(),
            redirect: wish.redirect.clone(),
            challenge: wish.challenge.clone(),
            rights: Rights::root(root),
            nonce: wish.nonce.clone(),
            session: person.session.id,
            grant: grant.id,
            until: now.saturating_add(authority.settings.code_life),
            spent: None,
        };
        let change = keep(&wish.client.tenant, Self::row_id(text.expose()), &code)?;
        Ok((text, change))
    }
}

/// Gives a code under a grant that is there already.
pub(super) async fn give_code(
    authority: &Authority,
    wish: &Wish,
    person: &Person,
    grant: &Grant,
    with: Vec<Change>,
    now: Timestamp,
) -> Result<Secret<String>, OauthError> {
    let ask = Given {
        grant: grant.id,
        client: &wish.client.id,
        scopes: grant.scopes.iter().map(String::as_str).collect(),
        resources: wish.resources.iter().map(String::as_str).collect(),
    };
    let work = async |view: &View, _: &Tenant| {
        let (text, change) =
            Code::make(authority, wish, person, grant, view.state.revision, now).map_err(unread)?;
        let mut changes = with;
        changes.push(change);
        Ok((changes, text))
    };
    Ok(authority.control.change_with(&person.caller, Action::TokenIssue, &ask, work).await?.value)
}

/// 256 random bits as text.
fn secret_text(authority: &Authority) -> Secret<String> {
    let mut bytes = [0; 32];
    authority.control.random.fill(&mut bytes);
    Secret::new(URL_SAFE_NO_PAD.encode(bytes))
}
