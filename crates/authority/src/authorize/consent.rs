//! The question whether a client may, and its answer. What is allowed is the exact request as it was shown, by the client as
//! it described itself then, in the session in which it was asked.

use std::collections::BTreeSet;

use aws_lc_rs::hmac;
use bartizan_control::View;
use bartizan_model::{Action, GrantId, GrantType, ReasonCode, Tenant};
use bartizan_secret::constant_time_eq;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::Value;

use super::pending::{Code, Pending};
use super::{Answer, Desk, Person, details};
use crate::clients::{Origin, host, is_local};
use crate::grants::unread;
use crate::kept::{Grant, Held, find, keep};
use crate::oauth::{IDENTITY, OauthCode, OauthError};

/// What a page shows before somebody answers. Everything in it that the client chose is text to be escaped.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Which request.
    pub request: String,
    /// What the form must give back.
    pub token: String,
    /// What the client calls itself.
    pub client: String,
    /// The host that vouches for it, where it is known by a document; always to be shown.
    pub host: Option<String>,
    /// The host that the answer is sent to; always to be shown.
    pub redirect_host: String,
    /// The answer goes to a program on the person's own machine: any program there could have asked. To be warned of.
    pub local: bool,
    /// Whether the house knows the client: an administrator declared it and it proves what it is.
    pub identified: bool,
    /// Scopes, each with what it means.
    pub scopes: Vec<(String, String)>,
    /// The addresses where it would hold.
    pub resources: Vec<String>,
    /// What exactly, in words. Where there is any, nothing else is allowed.
    pub details: Vec<String>,
    /// Whether it would hold on after the session.
    pub offline: bool,
}

#[derive(Serialize)]
struct Given<'a> {
    grant: GrantId,
    client: &'a str,
    redirect: &'a str,
    scopes: &'a BTreeSet<String>,
    resources: &'a BTreeSet<String>,
    details: &'a [Value],
}

#[derive(Serialize)]
struct Refused<'a> {
    refused: &'a str,
}

impl Desk {
    /// The question, for whoever is to answer it.
    ///
    /// # Errors
    /// When there is none for them: unknown, over, answered, or of another session. One text for all.
    pub async fn consent(&self, request: &str, person: &Person) -> Result<Ask, OauthError> {
        let held = self.pending(request, person).await?;
        let wish = held.value.wish;
        let client = &wish.client;
        Ok(Ask {
            token: self.consent_token(request, person),
            request: request.to_owned(),
            client: client.display.clone(),
            host: (client.origin == Origin::Document)
                .then(|| host(&client.id).unwrap_or_default().to_owned()),
            redirect_host: host(&wish.redirect).unwrap_or(&wish.redirect).to_owned(),
            local: is_local(&wish.redirect),
            identified: client.is_identified(),
            scopes: wish.scopes.iter().map(|scope| (scope.clone(), meaning(scope))).collect(),
            resources: wish.resources.iter().cloned().collect(),
            details: wish.details.iter().map(details::in_words).collect(),
            offline: is_offline(client.may(GrantType::RefreshToken), &wish.scopes),
        })
    }

    /// Somebody allows it: all that was asked for, or `only` these scopes of it. `token` is that of the page.
    ///
    /// # Errors
    /// As for [`Desk::consent`]; or what policy says.
    pub async fn allow(
        &self,
        request: &str,
        token: &str,
        person: &Person,
        only: Option<&BTreeSet<String>>,
    ) -> Result<Answer, OauthError> {
        let held = self.answerable(request, token, person).await?;
        let authority = self.registry().authority();
        let now = self.now();
        let wish = &held.value.wish;
        let scopes: BTreeSet<String> = match only {
            None => wish.scopes.clone(),
            Some(only) => wish.scopes.intersection(only).cloned().collect(),
        };
        if scopes.is_empty() {
            return self.deny(request, token, person).await;
        }
        let offline = is_offline(wish.client.may(GrantType::RefreshToken), &scopes);
        let ends =
            if offline { now.saturating_add(authority.settings.grant_life) } else { person.session.ends };
        let grant = Grant {
            id: GrantId::new(now, &*authority.control.random),
            principal: person.session.principal.clone(),
            client: wish.client.id.clone(),
            agent: None,
            scopes,
            resources: wish.resources.clone(),
            details: details::allowed(&wish.details, ends, now, &*authority.control.random),
            session: (!offline).then_some(person.session.id),
            assurance: person.session.assurance.clone(),
            given: now,
            ends,
            uses_max: None,
            uses: 0,
            withdrawn: None,
        };
        let ask = Given {
            grant: grant.id,
            client: &wish.client.id,
            redirect: &wish.redirect,
            scopes: &grant.scopes,
            resources: &grant.resources,
            details: &grant.details,
        };
        let agreed = self.registry().keep_agreed(&wish.client, now).await?;
        let work = async |view: &View, tenant: &Tenant| {
            let made = Code::make(authority, wish, person, &grant, view.state.revision, now);
            let (text, code) = made.map_err(unread)?;
            let mut changes =
                vec![held.remove(), keep(tenant, grant.id.to_string(), &grant).map_err(unread)?, code];
            changes.extend(agreed);
            Ok((changes, text))
        };
        let done = authority.control.change_with(&person.caller, Action::GrantGive, &ask, work).await;
        let answer = Answer::to(&wish.redirect, wish.state.as_deref(), &authority.issuer);
        match done {
            Ok(done) => Ok(answer.code(&done.value)),
            // Somebody has answered already.
            Err(stopped) if stopped.problem.reason == ReasonCode::Conflict => Err(gone()),
            // What policy says no to, the client is told as such.
            Err(stopped) if stopped.problem.reason.status() == 403 => Ok(answer.error(&stopped.into())),
            Err(stopped) => Err(stopped.into()),
        }
    }

    /// Somebody does not allow it.
    ///
    /// # Errors
    /// As for [`Desk::consent`].
    pub async fn deny(&self, request: &str, token: &str, person: &Person) -> Result<Answer, OauthError> {
        let held = self.answerable(request, token, person).await?;
        let authority = self.registry().authority();
        let wish = &held.value.wish;
        let ask = Refused { refused: &wish.client.id };
        let work = async |_: &View, _: &Tenant| Ok((vec![held.remove()], ()));
        authority.control.change_with(&person.caller, Action::TokenIssue, &ask, work).await?;
        authority.issuing.refusals.refused(person, &wish.client.id, self.now());
        let error = OauthError::new(OauthCode::AccessDenied, "the person did not allow it");
        Ok(Answer::to(&wish.redirect, wish.state.as_deref(), &authority.issuer).error(&error))
    }

    async fn pending(&self, request: &str, person: &Person) -> Result<Held<Pending>, OauthError> {
        let held = find::<Pending>(&*self.registry().authority().rows, request, self.now()).await?;
        let own = |held: &Held<Pending>| {
            held.tenant == *person.caller.tenant() && held.value.session == person.session.id
        };
        held.filter(own).ok_or_else(gone)
    }

    async fn answerable(
        &self,
        request: &str,
        token: &str,
        person: &Person,
    ) -> Result<Held<Pending>, OauthError> {
        let expected = self.consent_token(request, person);
        if !constant_time_eq(expected.as_bytes(), token.as_bytes()) {
            return Err(gone());
        }
        self.pending(request, person).await
    }

    /// What the form of a page must give back: it follows from the request and the session, and from nothing that another
    /// site can know.
    fn consent_token(&self, request: &str, person: &Person) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.consent.expose());
        let tag = hmac::sign(&key, format!("{}\0{request}", person.session.id).as_bytes());
        URL_SAFE_NO_PAD.encode(tag.as_ref())
    }
}

fn gone() -> OauthError {
    OauthError::request("there is nothing to answer: it is over, answered already, or not for you")
}

fn is_offline(refreshable: bool, scopes: &BTreeSet<String>) -> bool {
    refreshable && scopes.contains("offline_access")
}

/// What a scope means, for people.
pub(crate) fn meaning(scope: &str) -> String {
    if let Ok(action) = scope.parse::<Action>() {
        return action.meaning().trim().to_owned();
    }
    match scope {
        "openid" => "Know who you are.",
        "profile" => "See your name.",
        "email" => "See your address.",
        "offline_access" => "Go on while you are away, until you withdraw it.",
        "model:use" => "Use models in your name.",
        "self:use" => "Look after your own sessions, tokens and grants.",
        "house:read" => "Read the directory, policies and decisions in your name.",
        "house:change" => "Change the house in your name.",
        _ if IDENTITY.contains(&scope) => "Know about you.",
        _ => "Act in your name.",
    }
    .to_owned()
}
