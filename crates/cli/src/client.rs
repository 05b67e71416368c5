//! A client of the control API: blocking, small, one request a command.

use std::sync::Arc;
use std::time::Duration;

use bartizan_secret::Secret;
use serde_json::Value;

use crate::ExitCode;
use crate::login::{Heard, LoginError, SignedIn};

/// Where requests go and as whom.
#[derive(Clone, Debug)]
pub struct Client {
    base: String,
    credential: Credential,
    agent: ureq::Agent,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server said no.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The reason code.
        reason: String,
        /// What it said.
        message: String,
        /// The whole problem, for programs.
        body: Value,
    },
    /// The server could not be reached.
    #[error("cannot reach the control API at {base}: {message}")]
    Unreachable {
        /// Where it was looked for.
        base: String,
        /// What went wrong.
        message: String,
    },
    /// The answer is not what the control API gives.
    #[error("the control API gave an answer that is not its own; is this its address?")]
    Foreign,
    /// There is no token to come with.
    #[error(transparent)]
    Login(#[from] LoginError),
}

impl ClientError {
    /// The exit code that fits.
    #[must_use]
    pub fn exit(&self) -> ExitCode {
        match self {
            Self::Refused { status, reason, .. } => ExitCode::of(*status, reason),
            Self::Unreachable { .. } | Self::Foreign => ExitCode::Failed,
            Self::Login(error) => error.exit(),
        }
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { reason, body, .. } if steps_up(body) => {
                Some(format!("prove more with `bartizan login --again`; see `bartizan explain {reason}`"))
            }
            Self::Refused { reason, .. } => Some(format!("see `bartizan explain {reason}`")),
            Self::Unreachable { .. } => {
                Some("start it with `bartizan serve`, or name it with --control-url".to_owned())
            }
            Self::Foreign => None,
            Self::Login(error) => error.hint(),
        }
    }
}

/// Whether a surer or fresher login would do.
fn steps_up(problem: &Value) -> bool {
    let offers = problem.get("remedies").and_then(Value::as_array);
    offers.into_iter().flatten().any(|offer| offer.get("remedy").and_then(Value::as_str) == Some("step_up"))
}

/// What is presented.
#[derive(Clone, Debug)]
enum Credential {
    Nothing,
    Key(Secret<String>),
    SignedIn(Arc<SignedIn>),
}

impl Client {
    /// A client of the control API at `base`, with an API key.
    #[must_use]
    pub fn new(base: &str, key: Option<Secret<String>>) -> Self {
        Self::with(base, key.map_or(Credential::Nothing, Credential::Key))
    }

    /// A client of the control API at `base` for somebody who is logged in there.
    #[must_use]
    pub fn signed_in(base: &str, who: SignedIn) -> Self {
        Self::with(base, Credential::SignedIn(Arc::new(who)))
    }

    fn with(base: &str, credential: Credential) -> Self {
        Self { base: base.trim_end_matches('/').to_owned(), credential, agent: agent() }
    }

    /// Sends one request to any path and gives back status and body as they are.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn raw(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<(u16, String), ClientError> {
        let mut answer = self.send(method, path, body, headers)?;
        let text = answer.body_mut().read_to_string().map_err(|error| self.unreachable(&error))?;
        Ok((answer.status().as_u16(), text))
    }

    /// Sends one request and gives back the answer's bytes, with the header `header` of it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn bytes(
        &self,
        path: &str,
        body: &Value,
        header: &str,
    ) -> Result<(Vec<u8>, Option<String>), ClientError> {
        /// What one answer may hold.
        const BYTES_MAX: u64 = 256 << 20;
        let mut answer = self.send("POST", path, Some(body), &[])?;
        let found = answer.headers().get(header).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let bytes = answer.body_mut().with_config().limit(BYTES_MAX).read_to_vec();
        let bytes = bytes.map_err(|error| self.unreachable(&error))?;
        if answer.status().as_u16() < 300 {
            return Ok((bytes, found));
        }
        Err(refused(
            answer.status().as_u16(),
            serde_json::from_slice(&bytes).map_err(|_| ClientError::Foreign)?,
        ))
    }

    /// Sends one request and gives back the answer's JSON.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, ClientError> {
        let (status, text) = self.raw(method, path, body, &[])?;
        let value: Value = match serde_json::from_str(&text) {
            Ok(value) => value,
            Err(_) if text.is_empty() && status < 300 => Value::Null,
            Err(_) => return Err(ClientError::Foreign),
        };
        if status < 300 {
            return Ok(value);
        }
        Err(refused(status, value))
    }

    /// Sends a request, again where only a proof's nonce was missing or the token has died before its time: at most once for each
    /// of them. Neither was let in, so nothing happens twice.
    fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<http::Response<ureq::Body>, ClientError> {
        let url = format!("{}{path}", self.base);
        let (mut by_nonce, mut by_token) = (true, true);
        loop {
            let mut request = http::Request::builder().method(method).uri(&url);
            let mut shown = None;
            match &self.credential {
                Credential::Nothing => {}
                Credential::Key(key) => {
                    request = request.header("authorization", format!("Bearer {}", key.expose()));
                }
                Credential::SignedIn(who) => {
                    let presented = who.present(method, &url)?;
                    request = request
                        .header("authorization", presented.authorization.expose().as_str())
                        .header("dpop", presented.proof.expose().as_str());
                    shown = Some((who, presented.token));
                }
            }
            if body.is_some() {
                request = request.header("content-type", "application/json");
            }
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let request = request
                .body(body.map(Value::to_string).unwrap_or_default())
                .map_err(|_| ClientError::Foreign)?;
            let answer = self.agent.run(request).map_err(|error| self.unreachable(&error))?;
            let Some((who, token)) = shown else { return Ok(answer) };
            let text = |value: &'_ http::HeaderValue| value.to_str().ok().map(str::to_owned);
            let nonce = answer.headers().get("dpop-nonce").and_then(text);
            let challenges: Vec<_> =
                answer.headers().get_all("www-authenticate").iter().filter_map(text).collect();
            let challenges = challenges.iter().map(String::as_str);
            match who.hear(answer.status().as_u16(), nonce.as_deref(), challenges) {
                Heard::WithNonce if by_nonce && nonce.is_some() => by_nonce = false,
                Heard::WithToken if by_token => {
                    by_token = false;
                    who.replace(&token)?;
                }
                Heard::Answer | Heard::WithNonce | Heard::WithToken => return Ok(answer),
            }
        }
    }

    fn unreachable(&self, error: &ureq::Error) -> ClientError {
        ClientError::Unreachable { base: self.base.clone(), message: error.to_string() }
    }
}

/// The client underneath: errors are answers, and nothing is followed elsewhere.
pub(crate) fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(60)))
        .max_redirects(0)
        .build();
    config.into()
}

fn refused(status: u16, body: Value) -> ClientError {
    let text_of = |pointer| body.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    ClientError::Refused { status, reason: text_of("/reason"), message: text_of("/message"), body }
}
