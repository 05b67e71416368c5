//! An authorization request, read and checked.

use std::collections::BTreeSet;
use std::time::Duration;

use bartizan_base::Timestamp;
use bartizan_control::View;
use bartizan_jose::{Jkt, normal_uri};
use bartizan_model::{AssuranceLevel, GrantType};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::details;
use crate::Authority;
use crate::clients::{Client, is_same};
use crate::oauth::{Form, OauthCode, OauthError, parse_scope};

/// What `acr` says of levels (OpenID Connect EAP ACR Values for the upper two).
pub(crate) const ACRS: &[(&str, AssuranceLevel)] = &[
    ("aal1", AssuranceLevel::Aal1),
    ("aal2", AssuranceLevel::Aal2),
    ("phr", AssuranceLevel::Aal2PhishingResistant),
    ("phrh", AssuranceLevel::Aal3),
];

/// The longest `state` and `nonce`, in bytes.
const ECHO_MAX: usize = 1_024;
/// The most addresses in one request.
const RESOURCES_MAX: usize = 10;

/// What a client wishes, within what it may.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Wish {
    /// The client, as it was when the request was read.
    pub(super) client: Client,
    /// Where the answer goes.
    pub(super) redirect: String,
    pub(super) state: Option<String>,
    pub(super) nonce: Option<String>,
    /// The challenge (RFC 7636), of the one method `S256`.
    pub(super) challenge: String,
    /// The key that the code is bound to (RFC 9449, 10).
    pub(super) key: Option<String>,
    pub(super) scopes: BTreeSet<String>,
    pub(super) resources: BTreeSet<String>,
    pub(super) details: Vec<Value>,
    pub(super) prompt: Prompt,
    pub(super) age_max: Option<Duration>,
    /// How surely the person must be proven. Policy asks for what it asks for, whatever stands here.
    pub(super) level: AssuranceLevel,
    /// When the request first came.
    pub(super) began: Timestamp,
}

/// What `prompt` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Prompt {
    pub(super) none: bool,
    pub(super) login: bool,
    pub(super) consent: bool,
}

/// Where answers go. What is wrong here is told on a page of our own.
pub(super) fn redirect(client: &Client, form: &Form) -> Result<String, OauthError> {
    let refuse = || OauthError::request("redirect_uri is not one that the client has registered");
    if !client.may(GrantType::AuthorizationCode) {
        return Err(OauthError::new(OauthCode::UnauthorizedClient, "the client asks for no codes"));
    }
    match form.get("redirect_uri") {
        Some(asked) => {
            let known = client.redirects.iter().any(|registered| is_same(registered, asked));
            if known { Ok(asked.to_owned()) } else { Err(refuse()) }
        }
        None => {
            let mut all = client.redirects.iter();
            match (all.next(), all.next()) {
                (Some(only), None) => Ok(only.clone()),
                _ => Err(refuse()),
            }
        }
    }
}

impl Wish {
    /// Reads a request whose client and redirect are checked.
    pub(super) fn read(
        authority: &Authority,
        view: &View,
        client: Client,
        redirect: String,
        form: &Form,
        began: Timestamp,
    ) -> Result<Self, OauthError> {
        if form.has("request") {
            return Err(OauthError::new(OauthCode::RequestNotSupported, "push the request instead"));
        }
        match form.get("response_type") {
            Some("code") => {}
            Some(_) => {
                return Err(OauthError::new(OauthCode::UnsupportedResponseType, "only code is answered"));
            }
            None => return Err(OauthError::request("response_type is missing")),
        }
        if form.get("response_mode").is_some_and(|mode| mode != "query") {
            return Err(OauthError::request("only response_mode query is answered"));
        }
        let echo = |name: &str| match form.get(name) {
            Some(text) if text.len() > ECHO_MAX => Err(OauthError::request(format!("{name} is too long"))),
            text => Ok(text.map(str::to_owned)),
        };
        let key = form.get("dpop_jkt").map(str::parse::<Jkt>).transpose();
        let key =
            key.map_err(|_| OauthError::request("dpop_jkt is no thumbprint"))?.map(|key| key.to_string());
        let details = form.get("authorization_details");
        let details =
            details.map(|text| details::read(text, &view.state, &client.tenant, began)).transpose()?;
        Ok(Self {
            state: echo("state")?,
            nonce: echo("nonce")?,
            challenge: challenge(form)?,
            key,
            scopes: scopes(authority, &client, form)?,
            resources: resources(authority, &client, form)?,
            details: details.unwrap_or_default(),
            prompt: prompt(form)?,
            age_max: age_max(form)?,
            level: level(form),
            client,
            redirect,
            began,
        })
    }
}

fn challenge(form: &Form) -> Result<String, OauthError> {
    let challenge =
        form.get("code_challenge").ok_or_else(|| OauthError::request("code_challenge is missing"))?;
    if form.get("code_challenge_method") != Some("S256") {
        return Err(OauthError::request("code_challenge_method is S256 and no other"));
    }
    // The base64url form of 32 bytes, which is what a thumbprint is as well.
    challenge.parse::<Jkt>().map_err(|_| OauthError::request("code_challenge is no SHA-256 in base64url"))?;
    Ok(challenge.to_owned())
}

fn scopes(authority: &Authority, client: &Client, form: &Form) -> Result<BTreeSet<String>, OauthError> {
    let asked = match form.get("scope") {
        Some(text) => parse_scope(text)?,
        None => {
            let default = &authority.settings.default_scopes;
            client.scopes.intersection(default).cloned().collect()
        }
    };
    if asked.is_empty() || !asked.is_subset(&client.scopes) {
        return Err(OauthError::new(
            OauthCode::InvalidScope,
            "a scope is more than this client may be given",
        ));
    }
    Ok(asked)
}

fn resources(authority: &Authority, client: &Client, form: &Form) -> Result<BTreeSet<String>, OauthError> {
    let refuse = || {
        OauthError::new(OauthCode::InvalidTarget, "a resource is unknown, or none that this client may use")
    };
    let mut out = BTreeSet::new();
    for asked in form.all("resource") {
        out.insert(authority.resource(asked).ok_or_else(refuse)?.to_owned());
    }
    if out.is_empty() {
        out.extend(authority.default_resource(client).map(str::to_owned));
    }
    let within = client.resources.is_empty() || out.is_subset(&client.resources);
    let known = out.iter().all(|resource| authority.settings.resources.contains(resource));
    if out.is_empty() || out.len() > RESOURCES_MAX || !within || !known { Err(refuse()) } else { Ok(out) }
}

impl Authority {
    /// The address that is meant where a request of `client` names none.
    #[must_use]
    pub fn default_resource<'a>(&'a self, client: &'a Client) -> Option<&'a str> {
        let settings = &self.settings;
        let usual = settings.default_resource.as_ref().or(settings.resources.first());
        let usual = usual.filter(|usual| client.resources.is_empty() || client.resources.contains(*usual));
        usual.or(client.resources.first()).map(String::as_str)
    }

    /// The address that the authority issues tokens for and that is meant by `asked` (RFC 8707): the same, but for what
    /// RFC 3986 holds to be the same. In the spelling of the house.
    #[must_use]
    pub fn resource(&self, asked: &str) -> Option<&str> {
        let plain = |uri: &str| !uri.contains(['?', '#']);
        let wanted = normal_uri(asked).filter(|_| plain(asked))?;
        self.settings
            .resources
            .iter()
            .find(|known| normal_uri(known).is_some_and(|known| known == wanted))
            .map(String::as_str)
    }
}

fn prompt(form: &Form) -> Result<Prompt, OauthError> {
    let mut out = Prompt::default();
    for word in form.get("prompt").unwrap_or_default().split(' ').filter(|word| !word.is_empty()) {
        match word {
            "none" => out.none = true,
            // Who wants to choose an account logs in anew: there is one to a browser.
            "login" | "select_account" => out.login = true,
            "consent" => out.consent = true,
            _ => return Err(OauthError::request("prompt holds an unknown word")),
        }
    }
    if out.none && (out.login || out.consent) {
        return Err(OauthError::request("prompt none stands alone"));
    }
    Ok(out)
}

fn age_max(form: &Form) -> Result<Option<Duration>, OauthError> {
    let refuse = |_| OauthError::request("max_age is no number of seconds");
    form.get("max_age").map(|text| text.parse().map(Duration::from_secs).map_err(refuse)).transpose()
}

/// The lowest of the levels that would do. Unknown ones are no demands (OpenID Connect Core, 5.5.1.1).
fn level(form: &Form) -> AssuranceLevel {
    let words = form.get("acr_values").unwrap_or_default().split(' ');
    let levels =
        words.filter_map(|word| ACRS.iter().find(|(name, _)| *name == word).map(|(_, level)| *level));
    levels.min().unwrap_or(AssuranceLevel::None)
}
