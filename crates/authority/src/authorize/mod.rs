//! The authorization endpoint: from a request in somebody's browser to a code (OAuth 2.1, 4.1; OpenID Connect Core, 3.1.2).
//!
//! Nothing is kept for somebody who is not proven. A request on its way through a login, or pushed (RFC 9126), is sealed into
//! the `request_uri` that stands for it; rows begin with a person who is signed in. Every answer names the issuer (RFC 9207),
//! and nothing is ever sent to an address that the client has not registered.

mod answer;
pub mod consent;
mod details;
pub mod fatigue;
mod logout;
mod pending;
mod request;
mod sealed;

use std::collections::BTreeSet;
use std::sync::Arc;

use bartizan_base::{Digest, Timestamp};
use bartizan_identify::Caller;
use bartizan_jose::Replay;
use bartizan_model::AssuranceLevel;
use bartizan_secret::Secret;
use bartizan_store::Change;
use serde_json::{Value, json};

pub use answer::Answer;
pub(crate) use consent::meaning;
pub(crate) use details::TYPES as DETAIL_TYPES;
pub(crate) use fatigue::Refusals;
pub use logout::LoggedOut;
pub(crate) use pending::Code;
use pending::{Pending, give_code};
pub(crate) use request::ACRS;
use request::Wish;
use sealed::{Sealed, Sealing};

use crate::clients::{Authenticated, Client, Registry, use_up};
use crate::kept::{Grant, Held, Session, best_of, owner};
use crate::oauth::{Form, OauthCode, OauthError};

/// Somebody who is signed in, as whoever keeps sessions has found out.
#[derive(Clone, Debug)]
pub struct Person {
    /// Their session.
    pub session: Session,
    /// The same as a caller.
    pub caller: Caller,
}

/// Where the browser goes.
#[derive(Debug)]
pub enum Outcome {
    /// Back to the client, with a code or an error.
    Back(Answer),
    /// To log in, or to prove more, and then on.
    Login {
        /// The path and query to come back to.
        resume: String,
        /// How surely they must then be proven.
        level: AssuranceLevel,
        /// Whether somebody who is signed in must prove themselves again.
        again: bool,
    },
    /// To the page where the person answers; by the id of the request.
    Consent(String),
}

/// The authorization endpoint, and what stands around it.
#[derive(Debug)]
pub struct Desk {
    registry: Arc<Registry>,
    sealing: Sealing,
    /// What tokens of consent pages follow from.
    consent: Secret<[u8; 32]>,
}

impl Desk {
    /// The desk for the clients of `registry`.
    #[must_use]
    pub fn new(registry: Arc<Registry>) -> Self {
        let control = &registry.authority().control;
        let consent = control.sealer.derive("oauth consent");
        let sealing = Sealing::new(control.sealer.derived("authorization requests"), control.random.clone());
        Self { registry, sealing, consent }
    }

    /// The clients.
    #[must_use]
    pub const fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    fn now(&self) -> Timestamp {
        self.registry.authority().control.clock.now()
    }

    /// Takes a request that a client pushes (RFC 9126), and says by what `request_uri` it is named.
    ///
    /// # Errors
    /// What is wrong with it: the same checks as in the browser.
    pub async fn push(&self, client: &Authenticated, form: &Form) -> Result<Value, OauthError> {
        if form.has("request_uri") {
            return Err(OauthError::request("a request that is pushed names no other one"));
        }
        let now = self.now();
        let mut form = form.clone().without(&["client_secret", "client_assertion", "client_assertion_type"]);
        if let Some(key) = client.bound.key {
            let key = key.to_string();
            if form.get("dpop_jkt").is_some_and(|named| named != key) {
                return Err(OauthError::new(
                    OauthCode::InvalidDpopProof,
                    "the proof is not by the key of dpop_jkt",
                ));
            }
            form = Form::of(
                form.pairs()
                    .filter(|(name, _)| *name != "dpop_jkt")
                    .map(own)
                    .chain([("dpop_jkt".to_owned(), key)]),
            )?;
        }
        form = Form::of(
            form.pairs()
                .filter(|(name, _)| *name != "client_id")
                .map(own)
                .chain([("client_id".to_owned(), client.client.id.clone())]),
        )?;
        // Of a client that is known by its document, what it says now counts, not what somebody agreed to once.
        let present = self.registry.find(&client.client.id).await?;
        let redirect = request::redirect(&present, &form)?;
        let view = self.registry.authority().control.house.view(&client.client.tenant)?;
        Wish::read(self.registry.authority(), &view, present, redirect, &form, now)?;
        let life = self.registry.authority().settings.request_life;
        let sealed = Sealed {
            pairs: form.pairs().map(own).collect(),
            began: now,
            until: now.saturating_add(life),
            pushed: true,
        };
        let name = self.sealing.seal(&client.client.tenant, &sealed)?;
        Ok(json!({"request_uri": name, "expires_in": life.as_secs()}))
    }

    /// Answers a request in somebody's browser. `person` is who is signed in there.
    ///
    /// # Errors
    /// Only what must be told on a page of our own, because there is no address to send it to.
    pub async fn authorize(&self, form: &Form, person: Option<&Person>) -> Result<Outcome, OauthError> {
        let authority = self.registry.authority();
        let now = self.now();
        let id = form.need("client_id")?.to_owned();
        let client = self.registry.find(&id).await?;
        let (sealed, name) = match form.get("request_uri") {
            None => (None, None),
            Some(name) => (Some(self.sealing.open(&client.tenant, name, now)?), Some(name.to_owned())),
        };
        let pushed = sealed.as_ref().is_some_and(|s| s.pushed);
        let (form, began) = match &sealed {
            // What stands beside a request that was pushed counts for nothing (RFC 9126, 4; RFC 9101, 6.3).
            Some(sealed) => (Form::of(sealed.pairs.iter().cloned())?, sealed.began),
            None => (form.clone(), now),
        };
        if form.get("client_id") != Some(id.as_str()) {
            return Err(OauthError::new(
                OauthCode::InvalidRequestUri,
                "the request was pushed by another client",
            ));
        }
        let redirect = request::redirect(&client, &form)?;
        // From here on there is somewhere to send errors to.
        let answer = Answer::to(&redirect, form.get("state"), &authority.issuer);
        let worked = async {
            if client.pushed && !pushed {
                return Err(OauthError::request("this client pushes its requests"));
            }
            let view = authority.control.house.view(&client.tenant)?;
            let wish = Wish::read(authority, &view, client, redirect, &form, began)?;
            self.decide(wish, &form, name, pushed, person, now).await
        };
        match worked.await {
            Ok(outcome) => Ok(outcome),
            Err(error) => Ok(Outcome::Back(answer.error(&error))),
        }
    }

    async fn decide(
        &self,
        wish: Wish,
        form: &Form,
        name: Option<String>,
        pushed: bool,
        person: Option<&Person>,
        now: Timestamp,
    ) -> Result<Outcome, OauthError> {
        let person = match person {
            Some(person) if !self.must_prove_more(&wish, person, now)? => person,
            signed_in => {
                if wish.prompt.none {
                    return Err(OauthError::new(OauthCode::LoginRequired, "somebody has to log in"));
                }
                let name = match name {
                    Some(name) => name,
                    None => self.seal_on(&wish, form, pushed)?,
                };
                let resume = Form::of([
                    ("client_id".to_owned(), wish.client.id.clone()),
                    ("request_uri".to_owned(), name),
                ])?;
                let resume = format!("/oauth/authorize?{}", resume.to_query());
                return Ok(Outcome::Login { resume, level: wish.level, again: signed_in.is_some() });
            }
        };
        let used = name.map(|name| self.use_name(&wish, &name)).transpose()?;
        if !wish.prompt.consent
            && let Some(grant) = self.remembered(&wish, person, now).await?
        {
            return Ok(Outcome::Back(self.answer_again(&wish, person, &grant, used, now).await?));
        }
        if wish.prompt.none {
            return Err(OauthError::new(OauthCode::ConsentRequired, "the person has to be asked"));
        }
        fatigue::may_ask(self.registry.authority(), person, &wish.client.id, now).await?;
        let id = Pending::begin(self.registry.authority(), wish, person, used, now).await?;
        Ok(Outcome::Consent(id))
    }

    /// Whether somebody who is signed in must log in again, or prove more, for this request.
    fn must_prove_more(&self, wish: &Wish, person: &Person, now: Timestamp) -> Result<bool, OauthError> {
        let proven = &person.session.assurance;
        let since_asked = proven.at >= wish.began;
        if proven.level < wish.level {
            if since_asked {
                // They have just tried, and this is all they have.
                return Err(OauthError::new(
                    OauthCode::UnmetAuthentication,
                    "the login is not as sure as was asked for",
                ));
            }
            return Ok(true);
        }
        let stale = wish.age_max.is_some_and(|age| now.saturating_since(proven.at) > age);
        Ok((wish.prompt.login || stale) && !since_asked)
    }

    /// Seals a request that came by its parameters, for the way through the login.
    fn seal_on(&self, wish: &Wish, form: &Form, pushed: bool) -> Result<String, OauthError> {
        let until = wish.began.saturating_add(self.registry.authority().settings.request_life);
        let sealed = Sealed { pairs: form.pairs().map(own).collect(), began: wish.began, until, pushed };
        self.sealing.seal(&wish.client.tenant, &sealed)
    }

    /// The change that uses a request up: one is answered once.
    fn use_name(&self, wish: &Wish, name: &str) -> Result<Change, OauthError> {
        let id = Digest::of_parts(&[b"request_uri\0", name.as_bytes()]);
        let until = wish.began.saturating_add(self.registry.authority().settings.request_life);
        Ok(use_up(&wish.client.tenant, Replay { id, until })?)
    }

    /// What the person allowed this client before that covers the request. Only of clients whose identity is proven: anybody
    /// can call themselves by another one's name.
    async fn remembered(
        &self,
        wish: &Wish,
        person: &Person,
        now: Timestamp,
    ) -> Result<Option<Grant>, OauthError> {
        if !wish.client.is_identified() || !wish.details.is_empty() {
            return Ok(None);
        }
        let (rows, principal) = (&*self.registry.authority().rows, &person.session.principal);
        let covers = |held: &Held<Grant>| {
            let grant = &held.value;
            grant.client == wish.client.id
                && grant.principal == *principal
                && grant.withdrawn.is_none()
                && grant.agent.is_none()
                && grant.uses_max.is_none()
                && grant.details.is_empty()
                && wish.scopes.is_subset(&grant.scopes)
                && wish.resources.is_subset(&grant.resources)
                && grant.session.is_none_or(|session| session == person.session.id)
        };
        // The one that lasts longest, so that a person is asked again as late as can be.
        let later = |one: &Grant, other: &Grant| one.ends > other.ends;
        let found = best_of(rows, &wish.client.tenant, &owner(principal), now, covers, later).await?;
        Ok(found.map(|held| held.value))
    }

    async fn answer_again(
        &self,
        wish: &Wish,
        person: &Person,
        grant: &Grant,
        used: Option<Change>,
        now: Timestamp,
    ) -> Result<Answer, OauthError> {
        let scopes: BTreeSet<String> = wish.scopes.clone();
        let grant = Grant { scopes, ..grant.clone() };
        let code =
            give_code(self.registry.authority(), wish, person, &grant, Vec::from_iter(used), now).await?;
        Ok(Answer::to(&wish.redirect, wish.state.as_deref(), &self.registry.authority().issuer).code(&code))
    }

    /// A client as an authorization request names it, for pages.
    ///
    /// # Errors
    /// As for [`Registry::find`].
    pub async fn client(&self, id: &str) -> Result<Client, OauthError> {
        self.registry.find(id).await
    }
}

fn own((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}
