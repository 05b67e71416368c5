//! Tokens of external accounts, on their way to what they are for and to nothing else.

use bartizan_base::Timestamp;
use bartizan_model::PrincipalId;
use bartizan_secret::Secret;
use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, HeaderName, HeaderValue, PROXY_AUTHORIZATION};
use http::{Request, Response, Uri};

use crate::infra::ExchangePolicy;
use crate::send::{FetchError, Upstreams, is_plain};

/// Headers in which a credential of the caller could come along.
pub(crate) const CREDENTIALS: [HeaderName; 7] = [
    AUTHORIZATION,
    PROXY_AUTHORIZATION,
    COOKIE,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
    crate::sigv4::TOKEN,
];

/// The token of somebody's external account, for one resource, one person and one agent. It can be put in by whoever has it and
/// is taken out by the exit alone: there is no way to read, print, copy or serialise it.
///
/// ```compile_fail
/// fn read(released: bartizan_upstream::Released) -> String { released.token.expose().clone() }
/// ```
/// ```compile_fail
/// fn copy(released: &bartizan_upstream::Released) -> bartizan_upstream::Released { released.clone() }
/// ```
pub struct Released {
    pub(crate) token: Secret<String>,
    resource: Uri,
    pub(crate) allow_private: bool,
    user: PrincipalId,
    agent: Option<PrincipalId>,
    since: Timestamp,
}

impl std::fmt::Debug for Released {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Released")
            .field("resource", &self.resource)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl Released {
    /// A token for `resource`, for a person and perhaps an agent. None for an address that nothing may be sent to.
    #[must_use]
    pub fn new(
        token: Secret<String>,
        resource: &str,
        allow_private: bool,
        (user, agent): (PrincipalId, Option<PrincipalId>),
        since: Timestamp,
    ) -> Option<Self> {
        let resource: Uri = resource.parse().ok()?;
        let fits = is_plain(&resource) && (allow_private || resource.scheme_str() == Some("https"));
        fits.then_some(Self { token, resource, allow_private, user, agent, since })
    }

    /// Whether it was released for exactly these.
    #[must_use]
    pub fn is_for(&self, user: PrincipalId, agent: Option<PrincipalId>) -> bool {
        self.user == user && self.agent == agent
    }

    /// When it was renewed last: a later one replaces it.
    #[must_use]
    pub const fn since(&self) -> Timestamp {
        self.since
    }

    /// Whether `uri` is the resource or lies below it.
    pub(crate) fn covers(&self, uri: &Uri) -> bool {
        let same = uri.scheme() == self.resource.scheme() && uri.authority() == self.resource.authority();
        let prefix = self.resource.path().trim_end_matches('/');
        let below =
            uri.path().strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let dots = uri
            .path()
            .split('/')
            .any(|s| matches!(s.replace("%2e", ".").replace("%2E", ".").as_str(), "." | ".."));
        same && below && !dots
    }
}

impl Upstreams {
    /// Sends a request to the resource of an external account with its token: for a door that holds a recorded intent for it, and
    /// for trying a connection. Whatever credential the request carried is gone (attack 39).
    ///
    /// # Errors
    /// `Address` when it would go anywhere but to the resource; else as for [`Upstreams::exchange`].
    pub async fn connected(
        &self,
        released: &Released,
        mut request: Request<Bytes>,
    ) -> Result<Response<Bytes>, FetchError> {
        if !released.covers(request.uri()) {
            return Err(FetchError::Address);
        }
        let headers = request.headers_mut();
        for name in CREDENTIALS {
            headers.remove(name);
        }
        let text = Secret::new(format!("Bearer {}", released.token.expose()));
        let mut value = HeaderValue::from_str(text.expose()).map_err(|_| FetchError::Address)?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
        self.exchange(ExchangePolicy::Connected { allow_private: released.allow_private }, request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn released(resource: &str) -> Released {
        let user = PrincipalId::from_parts(Timestamp::from_secs(1), [1; 10]);
        let token = Secret::new("outside-token".to_owned());
        Released::new(token, resource, true, (user, None), Timestamp::from_secs(1)).unwrap()
    }

    #[test]
    fn attack_39_a_token_goes_to_its_resource_and_nowhere_else() {
        let token = released("https://tools.example/mcp");
        for good in
            ["https://tools.example/mcp", "https://tools.example/mcp/", "https://tools.example/mcp/x?y=1"]
        {
            assert!(token.covers(&good.parse().unwrap()), "{good}");
        }
        for bad in [
            "https://tools.example/",
            "https://tools.example/mcpx",
            "https://tools.example/mcp/../admin",
            "https://tools.example/mcp/%2E%2e/admin",
            "https://tools.example:8443/mcp",
            "https://evil.example/mcp",
            "http://tools.example/mcp",
            "https://tools.example@evil.example/mcp",
            "/mcp",
        ] {
            assert!(!token.covers(&bad.parse().unwrap()), "{bad}");
        }
    }

    #[test]
    fn a_released_token_never_shows() {
        let token = released("https://tools.example/mcp");
        assert!(!format!("{token:?} {token:#?}").contains("outside-token"));
    }

    #[test]
    fn nothing_is_released_for_an_address_that_nothing_goes_to() {
        let user = PrincipalId::from_parts(Timestamp::from_secs(1), [1; 10]);
        for bad in
            ["http://tools.example/", "https://u@tools.example/", "javascript:1", "/x", "https://2130706433/"]
        {
            let token = Secret::new("t".to_owned());
            assert!(
                Released::new(token, bad, false, (user, None), Timestamp::from_secs(1)).is_none(),
                "{bad}"
            );
        }
    }
}
