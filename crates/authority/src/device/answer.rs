//! The one who types the code, and answers.

use std::collections::BTreeSet;

use aws_lc_rs::hmac;
use bartizan_model::{Action, GrantId, GrantType, ReasonCode};
use bartizan_secret::constant_time_eq;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use super::{Request, State, code, owner};
use crate::Authority;
use crate::authorize::{Person, meaning};
use crate::issue::{Rights, Root};
use crate::kept::{Grant, Held, find_of, keep};
use crate::oauth::{OauthCode, OauthError};

/// What a page shows before somebody answers. Everything in it that the client chose is text to be escaped.
#[derive(Clone, Debug)]
pub struct DeviceAsk {
    /// The code, as it is shown on the device: to be compared.
    pub user_code: String,
    /// What the form must give back.
    pub token: String,
    /// What the client calls itself.
    pub client: String,
    /// Whether the house knows the client: an administrator declared it and it proves what it is.
    pub identified: bool,
    /// From which network the device asks.
    pub network: String,
    /// How many seconds ago it asked.
    pub seconds_ago: u64,
    /// Scopes, each with what it means.
    pub scopes: Vec<(String, String)>,
    /// Where it would hold.
    pub resource: String,
    /// Whether it would hold on after the session.
    pub offline: bool,
}

#[derive(Serialize)]
struct Given<'a> {
    grant: GrantId,
    client: &'a str,
    device: &'a str,
    scopes: &'a BTreeSet<String>,
    resource: &'a str,
}

impl Authority {
    /// Who asks for what by the code that somebody has typed.
    ///
    /// # Errors
    /// One text for a code that there is not, that is over, or was answered; and when too many wrong ones were typed.
    pub async fn device_ask(&self, person: &Person, typed: &str) -> Result<DeviceAsk, OauthError> {
        let (user_code, held) = self.typed(person, typed).await?;
        let request = &held.value;
        let now = self.control.clock.now();
        Ok(DeviceAsk {
            user_code: code::shown(&user_code),
            token: self.device_token(person, &held.id),
            client: request.client.display.clone(),
            identified: request.client.is_identified(),
            network: request.network.clone(),
            seconds_ago: now.saturating_since(request.began).as_secs(),
            scopes: request.scopes.iter().map(|scope| (scope.clone(), meaning(scope))).collect(),
            resource: request.resource.clone(),
            offline: is_offline(request),
        })
    }

    /// Somebody allows it. `token` is that of the page.
    ///
    /// # Errors
    /// As for [`Authority::device_ask`]; or what policy says.
    pub async fn allow_device(&self, person: &Person, typed: &str, token: &str) -> Result<(), OauthError> {
        let held = self.answerable(person, typed, token).await?;
        let request = &held.value;
        let now = self.control.clock.now();
        let offline = is_offline(request);
        let session = &person.session;
        let life = if offline { now.saturating_add(self.settings.grant_life) } else { session.ends };
        let grant = Grant {
            id: GrantId::new(now, &*self.control.random),
            principal: session.principal.clone(),
            client: request.client.id.clone(),
            agent: None,
            scopes: request.scopes.clone(),
            resources: [request.resource.clone()].into(),
            details: Vec::new(),
            session: (!offline).then_some(session.id),
            assurance: session.assurance.clone(),
            given: now,
            ends: life,
            uses_max: None,
            uses: 0,
            withdrawn: None,
        };
        let ask = Given {
            grant: grant.id,
            client: &request.client.id,
            device: &held.id,
            scopes: &grant.scopes,
            resource: &request.resource,
        };
        self.control
            .change_with(&person.caller, Action::GrantGive, &ask, async |view, tenant| {
                let rights = Rights::root(Root {
                    tenant: tenant.clone(),
                    subject: grant.principal.clone(),
                    actors: Vec::new(),
                    scopes: grant.scopes.clone(),
                    resources: grant.resources.clone(),
                    details: Vec::new(),
                    assurance: grant.assurance.clone(),
                    session: grant.session,
                    // The session's device is not the one that the tokens go to.
                    device: None,
                    grants: vec![grant.id],
                    family: None,
                    binding: None,
                    since: view.state.revision,
                    ends: grant.ends,
                });
                let allowed = Request { state: State::Allowed(Box::new(rights)), ..request.clone() };
                let changes = [
                    keep(tenant, grant.id.to_string(), &grant).map_err(crate::grants::unread)?,
                    held.replace(&allowed).map_err(crate::grants::unread)?,
                ];
                Ok((changes.into(), ()))
            })
            .await
            .map_err(answered)?;
        self.issuing.devices.answered(&session.principal.id.to_string(), now);
        Ok(())
    }

    /// Somebody does not allow it.
    ///
    /// # Errors
    /// As for [`Authority::device_ask`].
    pub async fn deny_device(&self, person: &Person, typed: &str, token: &str) -> Result<(), OauthError> {
        let held = self.answerable(person, typed, token).await?;
        let denied = Request { state: State::Denied, ..held.value.clone() };
        let change = held.replace(&denied)?;
        self.control
            .change_with(
                &person.caller,
                Action::TokenRevoke,
                &("a device is refused", &held.id),
                async |_, _| Ok((vec![change], ())),
            )
            .await
            .map_err(answered)?;
        let (who, now) = (person.session.principal.id.to_string(), self.control.clock.now());
        self.issuing.devices.answered(&who, now);
        Ok(())
    }

    async fn typed(&self, person: &Person, typed: &str) -> Result<(String, Held<Request>), OauthError> {
        let now = self.control.clock.now();
        let who = person.session.principal.id.to_string();
        if !self.issuing.devices.may_type(&who, now) {
            let wait =
                OauthError::new(OauthCode::TemporarilyUnavailable, "too many wrong codes; wait ten minutes");
            return Err(wait.because(ReasonCode::Busy));
        }
        if !self.issuing.devices.may_answer(&who, now) {
            let text = "you have answered for many devices; wait ten minutes, and ask who sends you codes";
            let wait = OauthError::new(OauthCode::TemporarilyUnavailable, text).because(ReasonCode::Busy);
            return Err(self.refused(wait).await);
        }
        let tenant = &self.settings.tenant;
        if let Some(user_code) = code::typed(typed) {
            let owner = owner(&code::digest(&user_code));
            let found = find_of::<Request>(&*self.rows, tenant, &owner, 2, now).await?;
            let open =
                |held: &Held<Request>| matches!(held.value.state, State::Waiting) && !held.value.is_over(now);
            let mut found = found.into_iter().filter(open);
            // Two devices with one code: nobody can say which is meant.
            if let (Some(held), None) = (found.next(), found.next()) {
                return Ok((user_code, held));
            }
        }
        self.issuing.devices.typed_wrong(&who, now);
        Err(self.refused(gone()).await)
    }

    async fn answerable(
        &self,
        person: &Person,
        typed: &str,
        token: &str,
    ) -> Result<Held<Request>, OauthError> {
        let (_, held) = self.typed(person, typed).await?;
        let expected = self.device_token(person, &held.id);
        if constant_time_eq(expected.as_bytes(), token.as_bytes()) { Ok(held) } else { Err(gone()) }
    }

    /// What the form of a page must give back: it follows from the request and the session, and from nothing that another
    /// site can know.
    fn device_token(&self, person: &Person, request: &str) -> String {
        let key = self.control.sealer.derive("oauth device consent");
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
        let tag = hmac::sign(&key, format!("{}\0{request}", person.session.id).as_bytes());
        URL_SAFE_NO_PAD.encode(tag.as_ref())
    }
}

/// Whether it would hold on after the session.
fn is_offline(request: &Request) -> bool {
    request.client.may(GrantType::RefreshToken) && request.scopes.contains("offline_access")
}

fn gone() -> OauthError {
    OauthError::request("there is no such code: it is mistyped, over, or answered already")
        .because(ReasonCode::NotFound)
}

/// Somebody else has answered meanwhile.
fn answered(stopped: bartizan_control::Stopped) -> OauthError {
    if stopped.problem.reason == ReasonCode::Conflict { gone() } else { stopped.into() }
}
