//! Devices without a browser (RFC 8628): a program shows a code, somebody types it in elsewhere, sees who asks for what, and
//! allows it or not.
//!
//! The one who types is told which client asks, from which network and since when, because whoever sends somebody such a code
//! wants their name to be used (phishing). Codes are short, so guessing is bounded: a few wrong ones of one person, and not many
//! of all together. What is allowed is bound to the session in which it was, as with any other consent; the house itself is
//! never changed by a token that began so.

mod answer;
mod code;
mod limits;

use std::collections::BTreeSet;
use std::time::Duration;

use bartizan_base::{Digest, Timestamp};
use bartizan_identify::Identifier;
use bartizan_model::{Action, GrantType, ReasonCode};
use bartizan_secret::Secret;
use bartizan_store::RowKind;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub use answer::DeviceAsk;
pub(crate) use limits::Limits;

use crate::Authority;
use crate::clients::{Authenticated, Client};
use crate::issue::{Issue, OpenId, Rights, one_resource};
use crate::kept::{Kept, find, keep};
use crate::oauth::{Form, OauthCode, OauthError, TokenAnswer, parse_scope};
use crate::userinfo::about;

/// How long somebody has for typing and answering.
pub const LIFE: Duration = Duration::from_secs(600);
/// How often the device asks, at most.
pub const INTERVAL: Duration = Duration::from_secs(5);
/// How long a request is kept after its time, so that the device hears that it is over.
const MEMORY: Duration = Duration::from_secs(600);
/// What every device code begins with.
const PREFIX: &str = "bdc_";

/// A request of a device.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// SHA-256 of the code that people type.
    user_code: Digest,
    /// The client, as it was then.
    client: Client,
    /// What it asks for.
    scopes: BTreeSet<String>,
    /// Where it would hold.
    resource: String,
    /// From which network it asked, shortened to what people recognise.
    network: String,
    /// When it asked.
    began: Timestamp,
    /// How it stands.
    state: State,
}

/// How a request stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// Nobody has answered.
    Waiting,
    /// Somebody has allowed it.
    Allowed(Box<Rights>),
    /// Somebody has not.
    Denied,
}

impl Kept for Request {
    const KIND: RowKind = RowKind::DeviceCode;

    fn owner(&self) -> String {
        owner(&self.user_code)
    }

    fn expires(&self) -> Option<Timestamp> {
        Some(self.began.saturating_add(LIFE + MEMORY))
    }
}

/// How rows name the code that people type.
fn owner(user_code: &Digest) -> String {
    format!("code:{user_code}")
}

/// Under what a device code lies.
fn row_id(text: &str) -> String {
    Digest::of(text.as_bytes()).to_string()
}

impl Request {
    fn is_over(&self, now: Timestamp) -> bool {
        self.began.saturating_add(LIFE) <= now
    }
}

/// What is asked; its digest is recorded.
#[derive(Serialize)]
struct Asked<'a> {
    client: &'a str,
    device: &'a str,
    scopes: &'a BTreeSet<String>,
    resource: &'a str,
    network: &'a str,
}

impl Authority {
    /// Begins the authorization of a device (RFC 8628, 3.1). `network` is from where the device asks.
    ///
    /// # Errors
    /// What is wrong with it, or that too many are waiting.
    pub async fn begin_device(
        &self,
        client: &Authenticated,
        form: &Form,
        network: &str,
    ) -> Result<Map<String, Value>, OauthError> {
        match self.device_begun(client, form, network).await {
            Ok(begun) => Ok(begun),
            Err(error) => Err(self.refused(error).await),
        }
    }

    async fn device_begun(
        &self,
        client: &Authenticated,
        form: &Form,
        network: &str,
    ) -> Result<Map<String, Value>, OauthError> {
        let now = self.control.clock.now();
        let program = &client.client;
        if !program.may(GrantType::DeviceCode) {
            return Err(OauthError::new(
                OauthCode::UnauthorizedClient,
                "the client may not use device codes",
            ));
        }
        // Left aside, it would become a token for more than was asked for.
        if form.has("authorization_details") {
            let why = "a device asks for scopes alone";
            return Err(OauthError::new(OauthCode::InvalidAuthorizationDetails, why));
        }
        let scopes = match form.get("scope") {
            Some(text) => parse_scope(text)?,
            None => &self.settings.default_scopes & &program.scopes,
        };
        if scopes.is_empty() || !scopes.is_subset(&program.scopes) || scopes.iter().any(|s| is_grave(s)) {
            return Err(OauthError::new(
                OauthCode::InvalidScope,
                "a scope is none that a device may ask for",
            ));
        }
        let all = crate::grant::resources(self, program);
        let resource = match one_resource(form)? {
            Some(named) => all.get(named),
            None => self.default_resource(program).and_then(|usual| all.get(usual)),
        };
        let resource = resource
            .cloned()
            .ok_or_else(|| OauthError::new(OauthCode::InvalidTarget, "a resource is unknown"))?;
        if !self.issuing.devices.may_begin(network, &program.id, now) {
            let many = OauthError::new(OauthCode::TemporarilyUnavailable, "too many devices are waiting");
            return Err(many.because(ReasonCode::Busy));
        }
        let user_code = code::draw(&*self.control.random);
        let device_code = self.device_code();
        let request = Request {
            user_code: code::digest(&user_code),
            client: program.clone(),
            scopes,
            resource,
            network: network.to_owned(),
            began: now,
            state: State::Waiting,
        };
        let id = row_id(device_code.expose());
        let asked = Asked {
            client: &program.id,
            device: &id,
            scopes: &request.scopes,
            resource: &request.resource,
            network,
        };
        // Nobody is proven yet: the house keeps the question, and gives nothing for it.
        let house = Identifier::house(self.settings.tenant.clone());
        let mut changes = client.used.clone();
        changes.push(keep(&self.settings.tenant, id.as_str(), &request)?);
        self.control.change_with(&house, Action::TokenIssue, &asked, async |_, _| Ok((changes, ()))).await?;
        let page = format!("{}/device", self.issuer);
        let shown = code::shown(&user_code);
        let told = json!({
            "device_code": device_code.expose(),
            "user_code": shown,
            "verification_uri_complete": format!("{page}?user_code={shown}"),
            "verification_uri": page,
            "expires_in": LIFE.as_secs(),
            "interval": INTERVAL.as_secs(),
        });
        match told {
            Value::Object(told) => Ok(told),
            _ => Err(ReasonCode::Internal.into()),
        }
    }

    fn device_code(&self) -> Secret<String> {
        let mut bytes = zeroize::Zeroizing::new([0; 32]);
        self.control.random.fill(bytes.as_mut_slice());
        Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes.as_slice())))
    }
}

/// Answers a device that asks whether somebody has allowed it (RFC 8628, 3.4).
///
/// # Errors
/// `authorization_pending`, `slow_down`, `expired_token`, `access_denied`; `invalid_grant` for everything else.
pub async fn device(
    authority: &Authority,
    client: &Authenticated,
    form: &Form,
) -> Result<TokenAnswer, OauthError> {
    let id = form.get("device_code").map(row_id).unwrap_or_default();
    authority.issue_for(&id, || Box::pin(allowed(authority, client, form))).await
}

async fn allowed(authority: &Authority, client: &Authenticated, form: &Form) -> Result<Issue, OauthError> {
    let now = authority.control.clock.now();
    let id = row_id(form.need("device_code")?);
    let held = find::<Request>(&*authority.rows, &id, now).await?;
    let held = held
        .filter(|held| held.tenant == authority.settings.tenant && held.value.client.id == client.client.id);
    let held = held.ok_or_else(OauthError::grant)?;
    if held.value.is_over(now) {
        return Err(OauthError::new(OauthCode::ExpiredToken, "nobody answered in time"));
    }
    if !authority.issuing.devices.may_poll(&id, now) {
        return Err(OauthError::new(OauthCode::SlowDown, "ask five seconds later than you did"));
    }
    match &held.value.state {
        State::Waiting => Err(OauthError::new(OauthCode::AuthorizationPending, "nobody has answered yet")),
        State::Denied => Err(OauthError::new(OauthCode::AccessDenied, "the person did not allow it")),
        State::Allowed(rights) => {
            let openid = OpenId { nonce: None, about: about(rights.get()) };
            let issue = Issue::new(GrantType::DeviceCode, client, (**rights).clone())?;
            issue.with([held.remove()]).openid(openid).refreshable().asked(form)
        }
    }
}

/// Whether a scope is about the house itself: nobody allows that by typing a code.
fn is_grave(scope: &str) -> bool {
    use Action as A;
    scope == "house:change"
        || scope.parse::<A>().is_ok_and(|action| {
            matches!(
                action,
                A::ResourceApply
                    | A::KeyCreate
                    | A::KeyRotate
                    | A::KeyRevoke
                    | A::EpochAdvance
                    | A::LockChange
                    | A::DeliveryRetry
                    | A::UpstreamTest
                    | A::PolicyApply
                    | A::HouseClaim
                    | A::HouseRecover
                    | A::SubjectErase
                    | A::SubjectHold
                    | A::LedgerRemove
                    | A::ClientRegister
                    | A::IdentityChange
                    | A::ApprovalDecide
                    | A::ReviewDecide
                    | A::IncidentHandle
                    | A::ConfigurationChange
                    | A::ContentRead
                    | A::SessionEndorse
                    | A::SignalSend
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_20_what_changes_the_house_is_never_asked_for_by_a_device() {
        for grave in ["house:change", "policy:apply", "identity:change", "approval:decide", "content:read"] {
            assert!(is_grave(grave), "{grave}");
        }
        for harmless in ["openid", "model:use", "model:invoke", "house:read", "grant:list"] {
            assert!(!is_grave(harmless), "{harmless}");
        }
    }
}
