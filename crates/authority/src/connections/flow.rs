//! The code flow as a client (OAuth 2.1, 4.1 and 4.3; RFC 7636, 8707, 9207): what is asked, what is believed of the answers.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use bartizan_base::{Random, Timestamp};
use bartizan_model::OutsideAuthentication;
use bartizan_secret::{Secret, constant_time_eq};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Request, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::ConnectError;
use super::discovery::Server;
use super::outside::{Outside, object, post, text};
use crate::oauth::{Form, push_pair};

/// The longest token that is taken, in bytes.
const TOKEN_MAX: usize = 16 << 10;

/// What we are at a server. Not kept with the secret in it.
#[derive(Clone)]
pub struct OurClient {
    /// Our id there.
    pub id: String,
    /// How we prove it.
    pub authentication: OutsideAuthentication,
    /// The secret, where there is one.
    pub secret: Option<Secret<String>>,
}

impl std::fmt::Debug for OurClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OurClient").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What was sent with the browser, to be held against what comes back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sent {
    /// The server, as it described itself then.
    pub server: Server,
    /// Our id there.
    pub client_id: String,
    /// Where the answer goes, to the letter.
    pub redirect: String,
    /// For what the tokens are.
    pub resource: String,
    /// What was asked for.
    pub scopes: BTreeSet<String>,
}

/// The secrets of one flow: 256 bits each.
pub struct FlowSecrets {
    /// Names the flow, and nothing else.
    pub state: Secret<String>,
    /// Proves at the end that it is the one who began.
    pub verifier: Secret<String>,
}

impl std::fmt::Debug for FlowSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FlowSecrets(…)")
    }
}

impl FlowSecrets {
    /// Fresh ones.
    #[must_use]
    pub fn new(random: &dyn Random) -> Self {
        let fresh = || {
            let mut bytes = [0; 32];
            random.fill(&mut bytes);
            Secret::new(URL_SAFE_NO_PAD.encode(bytes))
        };
        Self { state: fresh(), verifier: fresh() }
    }
}

/// The address that the person's browser is sent to.
#[must_use]
pub fn authorization_address(sent: &Sent, secrets: &FlowSecrets) -> String {
    let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, secrets.verifier.expose().as_bytes()));
    let scope = sent.scopes.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    let mut query = String::new();
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", &sent.client_id),
        ("redirect_uri", &sent.redirect),
        ("state", secrets.state.expose()),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
        ("resource", &sent.resource),
        ("scope", &scope),
    ] {
        if !value.is_empty() {
            push_pair(&mut query, name, value);
        }
    }
    let joint = if sent.server.authorize.contains('?') { '&' } else { '?' };
    format!("{}{joint}{query}", sent.server.authorize)
}

/// What is asked for: what was declared, else what this very request needs, else all that the resource knows; what was given
/// before as well; never more than the bound. `offline_access` where the server knows it, so that it lasts.
#[must_use]
pub fn scopes_to_ask(
    declared: &BTreeSet<String>,
    needed: &BTreeSet<String>,
    known: &BTreeSet<String>,
    before: &BTreeSet<String>,
    bound: Option<&BTreeSet<String>>,
    offline: bool,
) -> BTreeSet<String> {
    let first = [needed, declared, known].into_iter().find(|set| !set.is_empty());
    let mut out: BTreeSet<String> =
        first.into_iter().flatten().chain(declared).chain(before).cloned().collect();
    if offline && !out.is_empty() {
        out.insert("offline_access".to_owned());
    }
    match bound {
        Some(bound) => out.intersection(bound).cloned().collect(),
        None => out,
    }
}

/// Holds the answer that came by way of the browser against what was sent, and gives the code.
///
/// # Errors
/// `Issuer` when another server answers, also with an error (RFC 9207, 2.4); `Refused` when the server says no; `State` when it
/// belongs to another flow. Nothing of the answer is used before its issuer is known.
pub fn answered(sent: &Sent, state: &str, answer: &Form) -> Result<Secret<String>, ConnectError> {
    let given = answer.get("state").unwrap_or_default();
    if !constant_time_eq(given.as_bytes(), state.as_bytes()) {
        return Err(ConnectError::State);
    }
    match answer.get("iss") {
        Some(iss) if iss == sent.server.issuer => {}
        Some(_) => return Err(ConnectError::Issuer),
        None if sent.server.sends_iss => return Err(ConnectError::Issuer),
        None => {}
    }
    if let Some(error) = answer.get("error") {
        return Err(ConnectError::Refused(plain(error)));
    }
    answer
        .get("code")
        .filter(|code| !code.is_empty())
        .map(|c| Secret::new(c.to_owned()))
        .ok_or(ConnectError::Answer)
}

/// Tokens of an external account.
pub struct Tokens {
    /// For the resource.
    pub access: Secret<String>,
    /// When it ends; none where the server does not say.
    pub expires: Option<Timestamp>,
    /// For the next ones.
    pub refresh: Option<Secret<String>>,
    /// What they are for, where the server says so.
    pub scopes: Option<BTreeSet<String>>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens")
            .field("expires", &self.expires)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

/// Redeems a code.
///
/// # Errors
/// `Refused` with the server's code, or that it answered something else than RFC 6749 says.
pub async fn redeem(
    outside: &dyn Outside,
    sent: &Sent,
    client: &OurClient,
    code: &Secret<String>,
    verifier: &Secret<String>,
    (private, now): (bool, Timestamp),
) -> Result<Tokens, ConnectError> {
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code.expose()),
        ("redirect_uri", &sent.redirect),
        ("code_verifier", verifier.expose()),
        ("resource", &sent.resource),
    ];
    tokens(outside, &sent.server.token, client, &form, (private, now)).await
}

/// Redeems a refresh token; the answer may bring the next one.
///
/// # Errors
/// As for [`redeem`].
pub async fn refresh(
    outside: &dyn Outside,
    sent: &Sent,
    client: &OurClient,
    token: &Secret<String>,
    (private, now): (bool, Timestamp),
) -> Result<Tokens, ConnectError> {
    let form =
        [("grant_type", "refresh_token"), ("refresh_token", token.expose()), ("resource", &sent.resource)];
    tokens(outside, &sent.server.token, client, &form, (private, now)).await
}

/// Ends a token at the server (RFC 7009). Says whether the server took it.
pub async fn revoke(
    outside: &dyn Outside,
    sent: &Sent,
    client: &OurClient,
    (token, hint): (&Secret<String>, &str),
    private: bool,
) -> bool {
    let Some(address) = &sent.server.revoke else { return false };
    let form = [("token", token.expose().as_str()), ("token_type_hint", hint)];
    let Ok(request) = authenticated(address, client, &form) else { return false };
    outside.exchange(request, private).await.is_ok_and(|answer| answer.status() == StatusCode::OK)
}

async fn tokens(
    outside: &dyn Outside,
    address: &str,
    client: &OurClient,
    form: &[(&str, &str)],
    (private, now): (bool, Timestamp),
) -> Result<Tokens, ConnectError> {
    let answer = outside.exchange(authenticated(address, client, form)?, private).await?;
    if answer.status() != StatusCode::OK {
        let code = object(&answer).ok().and_then(|o| text(&o, "error").map(plain));
        return Err(code.map_or(ConnectError::Answer, ConnectError::Refused));
    }
    read_tokens(&object(&answer)?, now)
}

fn read_tokens(answer: &Value, now: Timestamp) -> Result<Tokens, ConnectError> {
    // A token of another kind would have to be presented in another way than we can.
    if !text(answer, "token_type").is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")) {
        return Err(ConnectError::Answer);
    }
    let token = |name: &str| match answer.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(t))
            if !t.is_empty() && t.len() <= TOKEN_MAX && t.bytes().all(|b| b.is_ascii_graphic()) =>
        {
            Ok(Some(Secret::new(t.clone())))
        }
        Some(_) => Err(ConnectError::Answer),
    };
    let expires = answer.get("expires_in").and_then(Value::as_u64);
    let scopes =
        text(answer, "scope").map(|s| s.split(' ').filter(|s| !s.is_empty()).map(str::to_owned).collect());
    Ok(Tokens {
        access: token("access_token")?.ok_or(ConnectError::Answer)?,
        expires: expires.map(|seconds| now.saturating_add(Duration::from_secs(seconds))),
        refresh: token("refresh_token")?,
        scopes,
    })
}

/// A request in which we prove what we are.
fn authenticated(
    address: &str,
    client: &OurClient,
    form: &[(&str, &str)],
) -> Result<Request<Bytes>, ConnectError> {
    let mut body = String::new();
    form.iter().for_each(|(name, value)| push_pair(&mut body, name, value));
    let secret = client.secret.as_ref().map(|s| s.expose().as_str());
    let mut header = None;
    match (client.authentication, secret) {
        (OutsideAuthentication::None, _) => push_pair(&mut body, "client_id", &client.id),
        (OutsideAuthentication::ClientSecretPost, Some(secret)) => {
            push_pair(&mut body, "client_id", &client.id);
            push_pair(&mut body, "client_secret", secret);
        }
        (OutsideAuthentication::ClientSecretBasic, Some(secret)) => {
            // Both halves are form-encoded first (RFC 6749, 2.3.1).
            let half = |text: &str| {
                let mut out = String::new();
                crate::oauth::push_encoded(&mut out, text);
                out
            };
            let text = Secret::new(format!("{}:{}", half(&client.id), half(secret)));
            let value = Secret::new(format!("Basic {}", STANDARD.encode(text.expose())));
            let mut value = HeaderValue::from_str(value.expose()).map_err(|_| ConnectError::Client)?;
            value.set_sensitive(true);
            header = Some(value);
        }
        _ => return Err(ConnectError::Client),
    }
    let mut request = post(address, body)?;
    if let Some(header) = header {
        request.headers_mut().insert(AUTHORIZATION, header);
    }
    Ok(request)
}

/// Registers us at a server (RFC 7591): for trying a connection where nothing else was agreed on.
///
/// # Errors
/// When the server does not take it.
pub async fn register(
    outside: &dyn Outside,
    server: &Server,
    (name, redirect): (&str, &str),
    private: bool,
) -> Result<OurClient, ConnectError> {
    let address = server.register.as_deref().ok_or(ConnectError::Client)?;
    let local = redirect.starts_with("http://");
    let method = if server.authentication.is_empty() || server.authentication.contains("none") {
        "none"
    } else if server.authentication.contains("client_secret_basic") {
        "client_secret_basic"
    } else {
        "client_secret_post"
    };
    let wish = json!({
        "client_name": name,
        "redirect_uris": [redirect],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": method,
        "application_type": if local { "native" } else { "web" },
    });
    let mut request = post(address, wish.to_string())?;
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let answer = outside.exchange(request, private).await?;
    if !answer.status().is_success() {
        return Err(ConnectError::Client);
    }
    let given = object(&answer)?;
    let authentication = match text(&given, "token_endpoint_auth_method").unwrap_or(method) {
        "none" => OutsideAuthentication::None,
        "client_secret_basic" => OutsideAuthentication::ClientSecretBasic,
        "client_secret_post" => OutsideAuthentication::ClientSecretPost,
        _ => return Err(ConnectError::Client),
    };
    Ok(OurClient {
        id: text(&given, "client_id").ok_or(ConnectError::Client)?.to_owned(),
        authentication,
        secret: text(&given, "client_secret").map(|s| Secret::new(s.to_owned())),
    })
}

/// An error code of theirs, shortened to what such a code may hold.
fn plain(code: &str) -> String {
    code.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')).take(60).collect()
}
