//! Parts of the control listener with paths of their own: OAuth, provisioning, pages.

use std::fmt::Debug;
use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::Response;
use http::request::Parts;
use http_body_util::Full;

/// A request, whole.
#[derive(Debug)]
pub struct Arrived {
    /// Method, path, headers.
    pub head: Parts,
    /// The body, within [`Mount::body_max`].
    pub body: Bytes,
    /// From where.
    pub peer: SocketAddr,
}

/// Answers for some paths of the control listener. Each looks after its own callers.
pub trait Mount: Debug + Send + Sync {
    /// Whether it answers for `path`.
    fn takes(&self, path: &str) -> bool;

    /// The longest body it takes, in bytes.
    fn body_max(&self) -> usize {
        64 * 1024
    }

    /// Answers.
    fn answer(&self, arrived: Arrived) -> BoxFuture<'_, Response<Full<Bytes>>>;
}
