//! Infrastructure traffic that carries something out: records on their way to other systems. Where it may go is a closed list,
//! each entry with bounds of its own; every address passes the same guard as an ask's.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::USER_AGENT;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use rustls::ClientConfig;

use crate::egress::{CONNECT_PATIENCE, Connector, Stream};
use crate::send::{FetchError, Upstreams, is_plain};

/// What may be exchanged over HTTP: a closed list. Redirects are never followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangePolicy {
    /// Records to a receiver: `POST`, no query, an answer of at most 16 KiB within 15 seconds.
    Webhook {
        /// Whether its address may be private, and may then be `http`.
        allow_private: bool,
    },
    /// A checkpoint to a witness (C2SP tlog-witness): `POST`, no query, an answer of at most 64 KiB within 5 seconds. Its
    /// address is one of the bootstrap configuration, so it may be private.
    Witness,
    /// The document that a client program publishes about itself: `GET`, no query, `https`, at most 5 KiB within 5 seconds.
    ClientDocument {
        /// Whether its address may be private, and may then have another port than 443.
        allow_private: bool,
    },
    /// The keys of a client program: the same, at most 64 KiB.
    ClientKeys {
        /// Whether its address may be private, and may then have another port than 443.
        allow_private: bool,
    },
    /// The keys of a SPIFFE trust domain: `GET`, no query, `https`, at most 256 KiB within 5 seconds.
    TrustBundle {
        /// Whether its address may be private, and may then be `http`.
        allow_private: bool,
    },
    /// Another provider of identity or of accounts, or what a resource says of itself on the way there: `GET` or `POST`, an answer
    /// of at most 64 KiB within 10 seconds.
    Provider {
        /// Whether its address may be private, and may then be `http`.
        allow_private: bool,
    },
    /// The resource of a connected account, under its token: `GET`, `POST` or `DELETE`, an answer of at most 4 MiB within 30
    /// seconds.
    Connected {
        /// Whether its address may be private, and may then be `http`.
        allow_private: bool,
    },
    /// Security events to a receiver, or the question for them to a sender (RFC 8935, RFC 8936): `POST`, no query, an answer
    /// of at most 1 MiB within 15 seconds.
    Events {
        /// Whether its address may be private, and may then be `http`.
        allow_private: bool,
    },
    /// Objects of an S3-compatible store: `GET`, `HEAD` and `PUT`, an answer of at most 16 MiB within 60 seconds.
    Objects {
        /// Whether its address may be private, and may then be `http`.
        allow_private: bool,
    },
}

/// Where a connection that does not speak HTTP may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DialPolicy {
    /// Whether its address may be private.
    pub allow_private: bool,
    /// Whether TLS is spoken, with the certificate checked against the host's name.
    pub tls: bool,
}

impl ExchangePolicy {
    const fn allow_private(self) -> bool {
        match self {
            Self::Webhook { allow_private }
            | Self::Events { allow_private }
            | Self::Objects { allow_private }
            | Self::Provider { allow_private }
            | Self::Connected { allow_private }
            | Self::ClientDocument { allow_private }
            | Self::TrustBundle { allow_private }
            | Self::ClientKeys { allow_private } => allow_private,
            Self::Witness => true,
        }
    }

    const fn answer_max(self) -> usize {
        match self {
            Self::Webhook { .. } => 16 << 10,
            Self::Witness | Self::ClientKeys { .. } | Self::Provider { .. } => 64 << 10,
            Self::TrustBundle { .. } => 256 << 10,
            Self::Connected { .. } => 4 << 20,
            Self::Events { .. } => 1 << 20,
            Self::ClientDocument { .. } => 5 << 10,
            Self::Objects { .. } => 16 << 20,
        }
    }

    const fn patience(self) -> Duration {
        match self {
            Self::Webhook { .. } | Self::Events { .. } => Duration::from_secs(15),
            Self::Witness
            | Self::ClientDocument { .. }
            | Self::ClientKeys { .. }
            | Self::TrustBundle { .. } => Duration::from_secs(5),
            Self::Provider { .. } => Duration::from_secs(10),
            Self::Connected { .. } => Duration::from_secs(30),
            Self::Objects { .. } => Duration::from_secs(60),
        }
    }

    fn permits(self, request: &Request<Bytes>) -> bool {
        let (method, uri) = (request.method(), request.uri());
        let fits = match self {
            Self::Webhook { .. } | Self::Witness | Self::Events { .. } => {
                method == Method::POST && uri.query().is_none()
            }
            Self::TrustBundle { .. } => method == Method::GET && uri.query().is_none(),
            Self::Provider { .. } => matches!(*method, Method::GET | Method::POST),
            Self::Connected { .. } => matches!(*method, Method::GET | Method::POST | Method::DELETE),
            Self::Objects { .. } => matches!(*method, Method::GET | Method::HEAD | Method::PUT),
            Self::ClientDocument { allow_private } | Self::ClientKeys { allow_private } => {
                let port = allow_private || matches!(uri.port_u16(), None | Some(443));
                method == Method::GET && uri.query().is_none() && uri.scheme_str() == Some("https") && port
            }
        };
        fits && is_plain(uri) && (self.allow_private() || uri.scheme_str() == Some("https"))
    }
}

impl Upstreams {
    /// Sends an infrastructure request of a closed list and gives the whole answer, whatever its status.
    ///
    /// # Errors
    /// [`FetchError`], none of which shows headers or body.
    pub async fn exchange(
        &self,
        policy: ExchangePolicy,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, FetchError> {
        if !policy.permits(&request) {
            return Err(FetchError::Address);
        }
        let mut request = request.map(Full::new);
        let agent = HeaderValue::from_static(concat!("bartizan/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(USER_AGENT, agent);
        let work = async {
            let answer = self.pool_for(policy, request.uri()).request(request).await;
            let (head, body) = answer.map_err(|e| FetchError::Exchange(Box::new(e)))?.into_parts();
            let body =
                Limited::new(body, policy.answer_max()).collect().await.map_err(|_| FetchError::Body)?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        tokio::time::timeout(policy.patience(), work).await.map_err(|_| FetchError::Timeout)?
    }

    /// Under mutual TLS to processes of the house, where that is set up; they are the witnesses.
    fn pool_for(&self, policy: ExchangePolicy, uri: &http::Uri) -> &crate::send::Pool {
        let ours = policy == ExchangePolicy::Witness && uri.scheme_str() == Some("https");
        self.mutual().filter(|_| ours).unwrap_or_else(|| self.pool(policy.allow_private()))
    }

    /// Connects to `host` for a protocol that is not HTTP.
    ///
    /// # Errors
    /// [`FetchError::Exchange`] when the address is forbidden or cannot be reached, [`FetchError::Timeout`].
    pub async fn dial(&self, policy: DialPolicy, host: &str, port: u16) -> Result<Stream, FetchError> {
        let work = self.dialer(policy.allow_private).open(host.to_owned(), port, policy.tls);
        let stream = tokio::time::timeout(CONNECT_PATIENCE, work).await.map_err(|_| FetchError::Timeout)?;
        stream.map_err(|e| FetchError::Exchange(Box::new(e)))
    }

    /// The addresses of `host` that the guard lets through, at least one, for what must connect by itself.
    ///
    /// # Errors
    /// As for [`Upstreams::dial`].
    pub async fn checked(
        &self,
        allow_private: bool,
        host: &str,
        port: u16,
    ) -> Result<Vec<SocketAddr>, FetchError> {
        let dialer = self.dialer(allow_private);
        let work = tokio::time::timeout(CONNECT_PATIENCE, dialer.checked(host, port));
        work.await.map_err(|_| FetchError::Timeout)?.map_err(|e| FetchError::Exchange(Box::new(e)))
    }

    /// The client's side of TLS, for what must connect by itself: our roots, our provider, no protocol by ALPN.
    #[must_use]
    pub fn client_tls(&self) -> ClientConfig {
        self.dialer.tls.as_ref().clone()
    }

    fn dialer(&self, allow_private: bool) -> Connector {
        Connector { allow_private, ..self.dialer.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(policy: ExchangePolicy, method: &str, uri: &str) -> bool {
        policy.permits(&Request::builder().method(method).uri(uri).body(Bytes::new()).unwrap())
    }

    #[test]
    fn a_webhook_is_a_post_without_query_under_tls_unless_private_addresses_are_allowed() {
        let [public, private] = [false, true].map(|allow_private| ExchangePolicy::Webhook { allow_private });
        assert!(asks(public, "POST", "https://siem.example/in"));
        assert!(!asks(public, "POST", "http://siem.example/in"));
        assert!(asks(private, "POST", "http://127.0.0.1:9/in"));
        for (method, uri) in [
            ("GET", "https://siem.example/in"),
            ("PUT", "https://siem.example/in"),
            ("POST", "https://siem.example/in?token=x"),
            ("POST", "https://user@siem.example/in"),
            ("POST", "https://2130706433/in"),
            ("POST", "/in"),
        ] {
            assert!(!asks(private, method, uri), "{method} {uri}");
        }
    }

    #[test]
    fn attack_34_what_a_client_publishes_is_fetched_from_plain_public_https_addresses_only() {
        for make in [
            |allow_private| ExchangePolicy::ClientDocument { allow_private },
            |allow_private| ExchangePolicy::ClientKeys { allow_private },
        ] {
            let [public, private] = [false, true].map(make);
            assert!(asks(public, "GET", "https://app.example/client"));
            assert!(asks(public, "GET", "https://app.example:443/client"));
            assert!(asks(private, "GET", "https://127.0.0.1:8443/client"));
            for uri in ["https://app.example:8443/client", "https://app.example:22/client"] {
                assert!(!asks(public, "GET", uri), "{uri}");
            }
            for (method, uri) in [
                ("POST", "https://app.example/client"),
                ("GET", "http://app.example/client"),
                ("GET", "https://app.example/client?u=1"),
                ("GET", "https://user@app.example/client"),
                ("GET", "https://2130706433/client"),
                ("GET", "https://0x7f.1/client"),
                ("GET", "ftp://app.example/client"),
            ] {
                assert!(!asks(private, method, uri), "{method} {uri}");
            }
        }
    }

    #[test]
    fn attack_34_providers_of_accounts_are_reached_at_plain_addresses_under_tls_only() {
        for make in [
            |allow_private| ExchangePolicy::Provider { allow_private },
            |allow_private| ExchangePolicy::Connected { allow_private },
        ] {
            let [public, private] = [false, true].map(make);
            assert!(asks(public, "GET", "https://as.example/authorize?x=1"));
            assert!(asks(public, "POST", "https://as.example/token"));
            assert!(asks(private, "POST", "http://127.0.0.1:9/token"));
            for (method, uri) in [
                ("GET", "http://as.example/"),
                ("PUT", "https://as.example/"),
                ("GET", "https://user@as.example/"),
                ("GET", "https://2130706433/"),
                ("GET", "https://0x7f.1/"),
            ] {
                assert!(!asks(public, method, uri), "{method} {uri}");
            }
        }
    }

    #[test]
    fn attack_34_trust_bundles_are_read_from_plain_addresses_under_tls_only() {
        let [public, private] =
            [false, true].map(|allow_private| ExchangePolicy::TrustBundle { allow_private });
        assert!(asks(public, "GET", "https://spire.acme.example:8443/bundle"));
        assert!(asks(private, "GET", "http://127.0.0.1:9/bundle"));
        for (method, uri) in [
            ("GET", "http://acme.example/bundle"),
            ("POST", "https://acme.example/bundle"),
            ("GET", "https://acme.example/bundle?x=1"),
            ("GET", "https://user@acme.example/bundle"),
            ("GET", "https://2130706433/bundle"),
        ] {
            assert!(!asks(public, method, uri), "{method} {uri}");
        }
    }

    #[test]
    fn an_object_store_is_read_and_written_but_never_deleted_from() {
        let policy = ExchangePolicy::Objects { allow_private: false };
        assert!(asks(policy, "PUT", "https://store.example/b/o"));
        assert!(asks(policy, "GET", "https://store.example/b/o?versionId=1"));
        assert!(!asks(policy, "DELETE", "https://store.example/b/o"));
        assert!(!asks(policy, "POST", "https://store.example/b?delete"));
        assert!(!asks(policy, "PUT", "http://store.example/b/o"));
    }
}
