//! What goes back to the caller.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bartizan_model::{DecisionId, Label};
use bartizan_record::Receipt;
use bytes::Bytes;
use futures_util::stream::{BoxStream, Stream, StreamExt as _};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;

use crate::release::Guarded;

/// The header that says the label of what an answer holds.
pub(crate) const LABEL: &str = "x-bartizan-label";

/// Says the label of what an answer holds, as JSON.
pub(crate) fn label(headers: &mut HeaderMap, label: &Label) {
    if let Some(value) = serde_json::to_string(label).ok().and_then(|text| HeaderValue::try_from(text).ok()) {
        headers.insert(LABEL, value);
    }
}

/// An answer of the data plane.
pub type Reply = Response<ReplyBody>;

/// The body of an answer: whole, or passed on piece by piece under guard.
#[derive(Debug)]
pub enum ReplyBody {
    /// Whole.
    Full(Full<Bytes>),
    /// Piece by piece.
    Guarded(Box<Guarded>),
    /// Messages of a server of tools, one by one.
    Messages(Messages),
}

/// What is released message by message.
pub struct Messages(BoxStream<'static, Result<Bytes, BrokenOff>>);

impl Messages {
    pub(crate) fn new(stream: impl Stream<Item = Result<Bytes, BrokenOff>> + Send + 'static) -> Self {
        Self(stream.boxed())
    }
}

impl std::fmt::Debug for Messages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Messages")
    }
}

/// The upstream broke off and the format has no way to say so: the connection is torn down, which callers notice.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off")]
pub struct BrokenOff;

impl From<Infallible> for BrokenOff {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.get_mut() {
            Self::Full(full) => Pin::new(full).poll_frame(cx).map_err(Into::into),
            Self::Guarded(guarded) => Pin::new(guarded.as_mut()).poll_frame(cx),
            Self::Messages(messages) => messages.0.poll_next_unpin(cx).map_ok(Frame::data),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(full) => full.is_end_stream(),
            Self::Guarded(_) | Self::Messages(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(full) => full.size_hint(),
            Self::Guarded(_) | Self::Messages(_) => SizeHint::default(),
        }
    }
}

/// A whole JSON answer.
pub(crate) fn json(status: u16, body: Bytes) -> Reply {
    let mut reply = Response::new(ReplyBody::Full(Full::new(body)));
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

/// Tells how limits stand.
pub(crate) fn tell(headers: &mut HeaderMap, fields: &[(&'static str, String)]) {
    for (name, value) in fields {
        if let Ok(value) = HeaderValue::try_from(value.as_str()) {
            headers.insert(*name, value);
        }
    }
}

/// Names the decision and the receipt, and keeps the answer out of caches.
pub(crate) fn mark(headers: &mut HeaderMap, decision: DecisionId, receipt: Option<&Receipt>) {
    let mut set = |name: &'static str, text: String| {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(name, value);
        }
    };
    set("bartizan-decision", decision.to_string());
    set("x-request-id", decision.to_string());
    if let Some(receipt) = receipt {
        set("bartizan-receipt", receipt.to_string());
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}
