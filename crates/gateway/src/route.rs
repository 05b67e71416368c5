//! Which path goes where.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bartizan_enforce::{Access, CODE_PREFIX, EXTRACT, Gate, QUERY_PREFIX, Reply, Written, is_proven};
use bartizan_model::ReasonCode;
use bartizan_wire::Address;
use bytes::Bytes;
use http::{Method, Request};
use http_body::Body;

/// What the decision point can do (AuthZEN 1.0, section 9).
const METADATA: &str = "/.well-known/authzen-configuration";

/// Where corpora are searched and written.
const RETRIEVE: &str = "/retrieve/";

/// The routes of the data plane. There is no path without authentication but metadata, of the decision API and of the doors as
/// protected resources, which say nothing about anybody.
#[derive(Clone, Debug)]
pub struct Gateway {
    gate: Arc<Gate>,
}

impl Gateway {
    /// Routes in front of `gate`.
    #[must_use]
    pub const fn new(gate: Arc<Gate>) -> Self {
        Self { gate }
    }

    /// Answers a request.
    pub async fn answer<B>(&self, request: Request<B>, peer: SocketAddr) -> Reply
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let proven = is_proven(request.headers());
        let mut reply = self.route(request, peer).await;
        if proven {
            self.gate.next_nonce(reply.headers_mut());
        }
        reply
    }

    async fn route<B>(&self, request: Request<B>, peer: SocketAddr) -> Reply
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let peer = Some(peer.ip());
        let path = request.uri().path().to_owned();
        if let Some(dialect) = Address::dialect_at(&path) {
            if request.method() != Method::POST {
                return self.nothing(request, ReasonCode::MethodNotAllowed).await;
            }
            return Box::pin(self.gate.call_model(dialect, request, peer)).await;
        }
        if let Some((access, _)) = Access::ALL.iter().find(|(_, known)| *known == path) {
            if request.method() != Method::POST {
                return self.nothing(request, ReasonCode::MethodNotAllowed).await;
            }
            return self.gate.answer_access(*access, request, peer).await;
        }
        if path == "/mcp" || path.starts_with("/mcp/") {
            return Box::pin(self.gate.answer_mcp(request, peer)).await;
        }
        if let Some(database) = path.strip_prefix(QUERY_PREFIX) {
            if request.method() != Method::POST {
                return self.nothing(request, ReasonCode::MethodNotAllowed).await;
            }
            return Box::pin(self.gate.answer_query(database, request, peer)).await;
        }
        if let Some(runtime) = path.strip_prefix(CODE_PREFIX) {
            if request.method() != Method::POST {
                return self.nothing(request, ReasonCode::MethodNotAllowed).await;
            }
            return Box::pin(self.gate.run_code(runtime, request, peer)).await;
        }
        if path == EXTRACT {
            if request.method() != Method::POST {
                return self.nothing(request, ReasonCode::MethodNotAllowed).await;
            }
            return Box::pin(self.gate.extract(request, peer)).await;
        }
        if let Some(rest) = path.strip_prefix(RETRIEVE) {
            return Box::pin(self.documents(rest, request, peer)).await;
        }
        if path == METADATA && request.method() == Method::GET {
            return self.gate.access_metadata(request.headers());
        }
        if let Some(metadata) = self.gate.resource_metadata(request.method(), &path) {
            return metadata;
        }
        if let Some((api, rest)) = path.strip_prefix("/apis/").map(split) {
            return Box::pin(self.gate.call_api(api, rest, request, peer)).await;
        }
        let model = match path.strip_prefix("/v1/models") {
            Some("") => None,
            Some(rest) if rest.len() > 1 && rest.starts_with('/') => rest.get(1..),
            _ => return self.nothing(request, ReasonCode::NotFound).await,
        };
        if request.method() != Method::GET {
            return self.nothing(request, ReasonCode::MethodNotAllowed).await;
        }
        self.gate.list_models(&request.into_parts().0, model, peer).await
    }

    /// `/{corpus}` is searched; below it, `documents/{id}` and `documents/{id}/access` are written. Names can have slashes, which are
    /// then percent-encoded here.
    async fn documents<B>(&self, rest: &str, request: Request<B>, peer: Option<IpAddr>) -> Reply
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let parts: Vec<Option<String>> = rest.split('/').map(decoded).collect();
        match (request.method(), parts.as_slice()) {
            (&Method::POST, [Some(corpus)]) => self.gate.retrieve(corpus, request, peer).await,
            (&Method::PUT | &Method::DELETE, [Some(corpus), Some(word), Some(id)]) if word == "documents" => {
                let what = if request.method() == Method::PUT { Written::Document } else { Written::Gone };
                self.gate.write_document(what, (corpus, id), request, peer).await
            }
            (&Method::PUT, [Some(corpus), Some(word), Some(id), Some(last)])
                if word == "documents" && last == "access" =>
            {
                self.gate.write_document(Written::Access, (corpus, id), request, peer).await
            }
            (_, [Some(_)]) => self.nothing(request, ReasonCode::MethodNotAllowed).await,
            _ => self.nothing(request, ReasonCode::NotFound).await,
        }
    }

    async fn nothing<B>(&self, request: Request<B>, reason: ReasonCode) -> Reply {
        self.gate.no_such_path(&request.into_parts().0, reason).await
    }
}

/// The first segment of a path, and what follows it with its slash.
fn split(path: &str) -> (&str, &str) {
    path.find('/').map_or((path, ""), |at| path.split_at(at))
}

/// A part of a path without its percent signs; none where that is no text.
fn decoded(part: &str) -> Option<String> {
    percent_encoding::percent_decode_str(part).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}
