//! Errors as OAuth tells them.

use bartizan_control::Stopped;
use bartizan_model::{DecisionId, Problem, ReasonCode};
use bartizan_store::StoreError;
use serde_json::{Map, Value};

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident $code:literal $status:literal,)+) => {
        /// An error code of OAuth and what extends it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum OauthCode { $($(#[doc = $doc])+ $variant,)+ }

        impl OauthCode {
            /// The value of `error`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// The HTTP status where the answer is not sent by way of the browser.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)+ }
            }
        }
    };
}

codes! {
    /// A parameter is missing, malformed, or stands twice (RFC 6749).
    InvalidRequest "invalid_request" 400,
    /// The client did not prove what it is (RFC 6749, 5.2).
    InvalidClient "invalid_client" 401,
    /// A code, refresh token or assertion does not hold, or is somebody else's (RFC 6749, 5.2).
    InvalidGrant "invalid_grant" 400,
    /// The client may not do it this way (RFC 6749).
    UnauthorizedClient "unauthorized_client" 400,
    /// Unknown here (RFC 6749, 5.2).
    UnsupportedGrantType "unsupported_grant_type" 400,
    /// Only codes are given (RFC 6749, 4.1.2.1).
    UnsupportedResponseType "unsupported_response_type" 400,
    /// A scope that is unknown, or more than may be given (RFC 6749).
    InvalidScope "invalid_scope" 400,
    /// A resource that is unknown, malformed, or more than may be given (RFC 8707).
    InvalidTarget "invalid_target" 400,
    /// Details that are unknown, malformed, or more than may be given (RFC 9396).
    InvalidAuthorizationDetails "invalid_authorization_details" 400,
    /// Nobody allowed it (RFC 6749, 4.1.2.1).
    AccessDenied "access_denied" 403,
    /// Somebody has to log in, and was not to be asked (OpenID Connect Core, 3.1.2.6).
    LoginRequired "login_required" 400,
    /// Somebody has to allow it, and was not to be asked (OpenID Connect Core, 3.1.2.6).
    ConsentRequired "consent_required" 400,
    /// Something has to be asked, and was not to be (OpenID Connect Core, 3.1.2.6).
    InteractionRequired "interaction_required" 400,
    /// The authentication that was asked for cannot be had (OpenID Connect Unmet Authentication Requirements).
    UnmetAuthentication "unmet_authentication_requirements" 400,
    /// Request objects are not taken by value (OpenID Connect Core, 3.1.2.6).
    RequestNotSupported "request_not_supported" 400,
    /// A request was pushed by somebody else, used already, or is too old (RFC 9101).
    InvalidRequestUri "invalid_request_uri" 400,
    /// The proof of possession does not hold (RFC 9449).
    InvalidDpopProof "invalid_dpop_proof" 400,
    /// The proof needs a nonce of ours, which the answer gives (RFC 9449, 8).
    UseDpopNonce "use_dpop_nonce" 400,
    /// The access token does not hold (RFC 6750).
    InvalidToken "invalid_token" 401,
    /// The access token is for less (RFC 6750).
    InsufficientScope "insufficient_scope" 403,
    /// A redirect address that must not be registered (RFC 7591).
    InvalidRedirectUri "invalid_redirect_uri" 400,
    /// A description of a client that is not accepted (RFC 7591; client identifier metadata documents).
    InvalidClientMetadata "invalid_client_metadata" 400,
    /// The person did not answer yet (RFC 8628).
    AuthorizationPending "authorization_pending" 400,
    /// Asked too often (RFC 8628).
    SlowDown "slow_down" 400,
    /// Too late (RFC 8628).
    ExpiredToken "expired_token" 400,
    /// Too much at once.
    TemporarilyUnavailable "temporarily_unavailable" 503,
    /// Something of ours is broken or out of reach.
    ServerError "server_error" 500,
}

/// Why an endpoint of OAuth says no. Nothing in it may be secret.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}: {description}", code.name())]
pub struct OauthError {
    /// What the protocol calls it.
    pub code: OauthCode,
    /// For developers: ASCII without quotes and backslashes, as RFC 6749 demands.
    pub description: String,
    /// What the house calls it.
    pub reason: ReasonCode,
    /// The decision to look up, where there was one.
    pub decision: Option<DecisionId>,
    /// Whether the client tried `Authorization: Basic`, so that the answer names that scheme.
    pub basic: bool,
}

impl OauthError {
    /// An error that the record knows as a malformed or refused credential or body, after its code.
    #[must_use]
    pub fn new(code: OauthCode, description: impl AsRef<str>) -> Self {
        let reason = match code {
            OauthCode::InvalidClient | OauthCode::InvalidGrant | OauthCode::InvalidToken => {
                ReasonCode::CredentialUnknown
            }
            OauthCode::InvalidDpopProof | OauthCode::UseDpopNonce => ReasonCode::BindingRequired,
            OauthCode::InvalidScope | OauthCode::InsufficientScope => ReasonCode::ScopeInsufficient,
            OauthCode::AccessDenied | OauthCode::UnauthorizedClient => ReasonCode::Forbidden,
            OauthCode::ServerError => ReasonCode::Internal,
            OauthCode::TemporarilyUnavailable | OauthCode::SlowDown => ReasonCode::Busy,
            _ => ReasonCode::BodyMalformed,
        };
        Self { code, description: plain(description.as_ref()), reason, decision: None, basic: false }
    }

    /// The same under another reason of the house.
    #[must_use]
    pub fn because(self, reason: ReasonCode) -> Self {
        Self { reason, ..self }
    }

    /// What was sent is not what the endpoint takes.
    #[must_use]
    pub fn request(description: impl AsRef<str>) -> Self {
        Self::new(OauthCode::InvalidRequest, description)
    }

    /// The client did not prove what it is. One text for every cause, so that nobody learns which clients there are.
    #[must_use]
    pub fn client() -> Self {
        Self::new(OauthCode::InvalidClient, "the client is unknown or did not prove what it is")
    }

    /// The grant does not hold. One text for every cause.
    #[must_use]
    pub fn grant() -> Self {
        Self::new(OauthCode::InvalidGrant, "unknown, expired, used already, or for somebody else")
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.code.status()
    }

    /// The body (RFC 6749, 5.2).
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut out = Map::new();
        out.insert("error".to_owned(), self.code.name().into());
        out.insert("error_description".to_owned(), self.description.as_str().into());
        if let Some(decision) = self.decision {
            out.insert("decision".to_owned(), decision.to_string().into());
        }
        Value::Object(out)
    }
}

/// Only what RFC 6749 lets a description hold: `%x20-21 / %x23-5B / %x5D-7E`, shortened.
fn plain(text: &str) -> String {
    let keep = |c: char| if matches!(c, ' '..='~') && c != '"' && c != '\\' { c } else { '\'' };
    text.chars().take(300).map(keep).collect()
}

impl From<Problem> for OauthError {
    fn from(problem: Problem) -> Self {
        let code = match problem.reason.status() {
            401 | 403 => OauthCode::AccessDenied,
            409 => OauthCode::InvalidGrant,
            400 | 422 => OauthCode::InvalidRequest,
            503 => OauthCode::TemporarilyUnavailable,
            _ => OauthCode::ServerError,
        };
        Self { decision: problem.decision, ..Self::new(code, problem.message()).because(problem.reason) }
    }
}

impl From<ReasonCode> for OauthError {
    fn from(reason: ReasonCode) -> Self {
        Problem::new(reason).into()
    }
}

impl From<Stopped> for OauthError {
    fn from(stopped: Stopped) -> Self {
        stopped.problem.into()
    }
}

impl From<StoreError> for OauthError {
    fn from(error: StoreError) -> Self {
        Problem::new(error.reason()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_holds_only_what_the_standard_lets_it_hold() {
        let error = OauthError::request("a \"quoted\" \\ line\r\nand \u{e9}");
        assert_eq!(error.description, "a 'quoted' ' line''and '");
        assert!(OauthError::request("x".repeat(5_000)).description.len() <= 300);
    }
}
