//! A client of the control API: blocking, small, one request a command.

use std::time::Duration;

use bartizan_secret::Secret;
use serde_json::Value;

use crate::ExitCode;

/// Where requests go and as whom.
#[derive(Clone, Debug)]
pub struct Client {
    base: String,
    key: Option<Secret<String>>,
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
}

impl ClientError {
    /// The exit code that fits.
    #[must_use]
    pub fn exit(&self) -> ExitCode {
        match self {
            Self::Refused { status, reason, .. } => ExitCode::of(*status, reason),
            Self::Unreachable { .. } | Self::Foreign => ExitCode::Failed,
        }
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { reason, .. } => Some(format!("see `bartizan explain {reason}`")),
            Self::Unreachable { .. } => {
                Some("start it with `bartizan serve`, or name it with --control-url".to_owned())
            }
            Self::Foreign => None,
        }
    }
}

impl Client {
    /// A client of the control API at `base`.
    #[must_use]
    pub fn new(base: &str, key: Option<Secret<String>>) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(60)))
            .max_redirects(0)
            .build();
        Self { base: base.trim_end_matches('/').to_owned(), key, agent: config.into() }
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
        let unreachable = |error: ureq::Error| ClientError::Unreachable {
            base: self.base.clone(),
            message: error.to_string(),
        };
        let mut request = http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {}", key.expose()));
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request =
            request.body(body.map(Value::to_string).unwrap_or_default()).map_err(|_| ClientError::Foreign)?;
        let mut answer = self.agent.run(request).map_err(unreachable)?;
        let text = answer.body_mut().read_to_string().map_err(unreachable)?;
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
        let unreachable = |error: ureq::Error| ClientError::Unreachable {
            base: self.base.clone(),
            message: error.to_string(),
        };
        let mut request = self.agent.post(format!("{}{path}", self.base)).content_type("application/json");
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {}", key.expose()));
        }
        let mut answer = request.send(body.to_string()).map_err(unreachable)?;
        let found = answer.headers().get(header).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let bytes = answer.body_mut().with_config().limit(BYTES_MAX).read_to_vec().map_err(unreachable)?;
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
}

fn refused(status: u16, body: Value) -> ClientError {
    let text_of = |pointer| body.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    ClientError::Refused { status, reason: text_of("/reason"), message: text_of("/message"), body }
}
