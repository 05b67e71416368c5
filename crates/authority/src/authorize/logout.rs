//! Logging out at the wish of an application (OpenID Connect RP-Initiated Logout).

use std::time::Duration;

use bartizan_base::{Timestamp, json};
use bartizan_control::View;
use bartizan_jose::{IdClaims, IdRules, Jws, TimeRules, verify};
use bartizan_model::{Action, Problem, Tenant};

use super::{Desk, Person};
use crate::kept::{Session, find};
use crate::login::ended;
use crate::oauth::{Form, OauthError, push_pair};

/// The oldest ID token that says in whose name an application speaks.
const HINT_MAX: Duration = Duration::from_secs(90 * 24 * 3_600);
const LIMITS: json::Limits = json::Limits { bytes_max: 16 << 10, depth_max: 8, nodes_max: 500 };

/// What becomes of a wish to log out.
#[derive(Debug, PartialEq, Eq)]
pub enum LoggedOut {
    /// The session is over, or there was none. The browser goes there, or to a page of ours.
    Done(Option<String>),
    /// The person has to be asked: anybody can send a browser here.
    Ask,
}

impl Desk {
    /// Ends the session of `person`, if the application shows an ID token that it was given in their name. Where the browser
    /// goes then is an address that this application has registered for it.
    ///
    /// # Errors
    /// When an address is named that is not registered, or an ID token shown that is none of ours.
    pub async fn log_out(&self, form: &Form, person: Option<&Person>) -> Result<LoggedOut, OauthError> {
        let hint = form.get("id_token_hint").map(|text| self.read_hint(text)).transpose()?;
        let named = form.get("client_id");
        let client = hint.as_ref().and_then(|hint| hint.aud.iter().next());
        if let (Some(named), Some(client)) = (named, client)
            && named != client
        {
            return Err(OauthError::request("the ID token is another client's"));
        }
        let to = match (form.get("post_logout_redirect_uri"), client) {
            (None, _) => None,
            // Whoever cannot show that they are the client does not choose where people go.
            (Some(_), None) => {
                return Err(OauthError::request("an address needs an id_token_hint beside it"));
            }
            (Some(asked), Some(client)) => {
                let client = self.registry().known(client, self.now()).await?;
                if !client.post_logout_redirects.contains(asked) {
                    return Err(OauthError::request("post_logout_redirect_uri is not registered"));
                }
                Some(with_state(asked, form.get("state")))
            }
        };
        let Some(person) = person else { return Ok(LoggedOut::Done(to)) };
        let Some(hint) = &hint else { return Ok(LoggedOut::Ask) };
        let session = &person.session;
        let same = hint.sub == session.principal.id.to_string()
            && hint.sid.as_ref().is_none_or(|sid| *sid == session.id.to_string());
        if !same {
            return Ok(LoggedOut::Ask);
        }
        let authority = self.registry().authority();
        let (rows, now) = (&*authority.rows, self.now());
        let work = async |view: &View, _: &Tenant| {
            let held = find::<Session>(rows, &session.id.to_string(), now).await;
            let held = held.map_err(|error| Problem::new(error.reason()))?;
            let changes = held.map(|held| ended(&view.state, &held, now)).transpose()?;
            Ok((changes.into_iter().flatten().collect(), ()))
        };
        authority.control.change_with(&person.caller, Action::SessionEnd, &("by", client), work).await?;
        Ok(LoggedOut::Done(to))
    }

    /// An ID token of ours, also one that has ended: it says who was logged in and where, and nothing is given for it.
    fn read_hint(&self, text: &str) -> Result<IdClaims, OauthError> {
        let refuse = || OauthError::request("id_token_hint is no ID token of ours");
        let authority = self.registry().authority();
        let now = self.now();
        let jws = Jws::parse(text).map_err(|_| refuse())?;
        let said = json::parse(jws.unverified_payload(), LIMITS).map_err(|_| refuse())?;
        let issued = said.get("iat").and_then(serde_json::Value::as_u64).ok_or_else(refuse)?;
        let client = said.get("aud").and_then(serde_json::Value::as_str).ok_or_else(refuse)?;
        let issued = Timestamp::from_secs(issued);
        if now.saturating_since(issued) > HINT_MAX || issued > now {
            return Err(refuse());
        }
        let rules = IdRules {
            issuer: &authority.issuer,
            client_id: client,
            trusted_audiences: &[],
            nonce: None,
            age_max: None,
            access_token: None,
            code: None,
            time: TimeRules { now: issued, skew: Duration::ZERO, life_max: HINT_MAX },
        };
        let keys = authority.jwks()?;
        verify::<IdClaims>(&jws, &keys, &rules)
            .map(bartizan_jose::Verified::into_claims)
            .map_err(|_| refuse())
    }
}

fn with_state(address: &str, state: Option<&str>) -> String {
    let Some(state) = state else { return address.to_owned() };
    let mut query = String::new();
    push_pair(&mut query, "state", state);
    let glue = if address.contains('?') { '&' } else { '?' };
    format!("{address}{glue}{query}")
}
