//! Proxies that ask whether a request may go on to the service behind them: Envoy by `ext_authz` (gRPC and HTTP) and `ext_proc`,
//! nginx, Traefik and Caddy by forward authentication.
//!
//! Every way of asking becomes one [`Asked`], and every answer is made of one [`Checked`]: the ways differ in how they are
//! written, never in what is decided.

mod answer;
mod authz;
mod certificate;
mod forward;
mod process;
mod proto;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bartizan_authority::Authority;
use bartizan_enforce::{Asked, Checked, Gate};
use bartizan_gateway::TrustedProxies;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tonic::body::Body;

use answer::Answer;

/// Whose word is taken for what.
#[derive(Clone, Debug, Default)]
pub struct Peers {
    /// Who may ask: the proxies.
    pub asking: TrustedProxies,
    /// Which of them are believed about the certificates of their clients. A proxy that does not replace the header which tells
    /// of them must not be among these: whoever asks it could name anybody.
    pub certificates: TrustedProxies,
}

/// What the listener for proxies is made of.
#[derive(Debug)]
pub struct Parts {
    /// Where it is decided.
    pub gate: Arc<Gate>,
    /// Who vouches for callers towards services; nobody without.
    pub authority: Option<Authority>,
    /// The proxies.
    pub peers: Peers,
    /// Bytes of a request's body that is shown to us.
    pub body_bytes_max: usize,
}

/// The listener for proxies.
#[derive(Clone, Debug)]
pub struct Mesh(Arc<Parts>);

/// Bytes of a question beside the body that it shows: headers, certificates.
const HEAD_BYTES_MAX: usize = 512 << 10;

impl Mesh {
    /// A listener made of `parts`.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Answers a proxy.
    pub async fn answer<B>(&self, request: Request<B>, peer: SocketAddr) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        let from = peer.ip().to_canonical();
        let media = request.headers().get(CONTENT_TYPE).map(|value| value.as_bytes());
        let grpc = media.is_some_and(|media| media.starts_with(b"application/grpc"));
        if !self.0.peers.asking.trusts(from) {
            tracing::warn!(%peer, "somebody asked who is no proxy of ours: see `listeners.mesh_peers`");
            return if grpc {
                tonic::Status::permission_denied("not a proxy of this house").into_http()
            } else {
                answer::plain(403, "not a proxy of this house")
            };
        }
        let path = request.uri().path();
        match path {
            authz::CHECK if grpc => authz::grpc(self.clone(), request, from).await,
            process::PROCESS if grpc => process::grpc(self.clone(), request, from).await,
            _ if grpc => tonic::Status::unimplemented("no such method").into_http(),
            _ if path.starts_with(forward::PREFIX) => forward::http(self, request, peer).await,
            _ if path.starts_with(authz::PREFIX) => authz::http(self, request, peer).await,
            _ => answer::plain(404, "there is nothing at this path"),
        }
    }

    /// Decides, and lets the authority vouch for the caller towards the service.
    async fn decide(&self, asked: Asked) -> Answer {
        match self.0.gate.check_mesh(asked).await {
            Checked::Refused(refusal) => Answer::Refused(refusal),
            Checked::Permitted(permitted) => {
                let vouched = self.0.authority.as_ref().map(|authority| answer::vouch(authority, &permitted));
                match vouched.transpose() {
                    Ok(identity) => Answer::permitted(&permitted, identity),
                    Err(problem) => Answer::broken(&permitted, &problem),
                }
            }
        }
    }

    fn believes(&self, peer: IpAddr) -> bool {
        self.0.peers.certificates.trusts(peer)
    }

    fn message_max(&self) -> usize {
        self.0.body_bytes_max.saturating_add(HEAD_BYTES_MAX)
    }
}
