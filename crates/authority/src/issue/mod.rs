//! Issuing: the one place where tokens of the house are signed.
//!
//! Every way to a token (a code, a refresh token, an exchange …) ends in one [`Issue`]: rights that were narrowed from rights.
//! [`Authority::issue`](crate::Authority::issue) compares both once more, asks policy in the name of the whole chain, holds the
//! marks of everybody concerned against the revision that the rights are of, counts the use of grants, and only then signs.

mod bound;
mod claims;
mod rights;
mod sign;

use std::time::Duration;

use bartizan_base::Name;
use bartizan_model::{GrantType, ReasonCode};
use bartizan_secret::Secret;
use bartizan_store::Change;
use serde_json::{Map, Value};

pub use bound::BoundTo;
pub(crate) use claims::{OWN, level};
pub use rights::{NarrowError, Rights, Root};
pub(crate) use sign::{is_same, proof};

use crate::clients::{Authenticated, Bound};
use crate::keys::Rings;
use crate::oauth::{OauthCode, OauthError};
use crate::stripes::Stripes;

/// How long access tokens and ID tokens live.
pub const TOKEN_LIFE: Duration = Duration::from_secs(300);

/// What issuing remembers between requests: opened keys, and who is at work on what.
#[derive(Debug, Default)]
pub struct Issuing {
    pub(crate) rings: Rings,
    pub(crate) stripes: Stripes,
    pub(crate) devices: crate::device::Limits,
    pub(crate) refusals: crate::authorize::Refusals,
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

pub(crate) fn read_details(text: &str) -> Result<Vec<Value>, OauthError> {
    let limits = bartizan_base::json::Limits { bytes_max: 16 * 1024, depth_max: 8, nodes_max: 500 };
    match bartizan_base::json::parse(text.as_bytes(), limits) {
        Ok(Value::Array(details)) if !details.is_empty() => Ok(details),
        _ => Err(OauthError::new(
            OauthCode::InvalidAuthorizationDetails,
            "authorization_details is a JSON array of objects",
        )),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
pub(crate) mod tests;
