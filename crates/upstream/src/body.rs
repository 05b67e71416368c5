//! The body of an answer: passed on as it comes, watched for silence.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bartizan_model::ReasonCode;
use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

/// Why an answer broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The upstream ended the connection in the middle.
    #[error("the upstream broke off")]
    Truncated,
    /// Nothing came for too long.
    #[error("the upstream fell silent")]
    Silent,
}

impl BodyError {
    /// The reason code it is told by.
    #[must_use]
    pub const fn reason(self) -> ReasonCode {
        match self {
            Self::Truncated => ReasonCode::UpstreamTruncated,
            Self::Silent => ReasonCode::UpstreamTimeout,
        }
    }
}

/// The body of an answer.
#[derive(Debug)]
pub struct AnswerBody {
    inner: Incoming,
    patience: Duration,
    silence: Pin<Box<Sleep>>,
}

impl AnswerBody {
    pub(crate) fn new(inner: Incoming, patience: Duration) -> Self {
        Self { inner, patience, silence: Box::pin(tokio::time::sleep(patience)) }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    #[expect(clippy::disallowed_methods, reason = "the timer of the runtime takes its own clock's instants")]
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let next = Instant::now() + self.patience;
                self.silence.as_mut().reset(next);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(_))) => Poll::Ready(Some(Err(BodyError::Truncated))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => match self.silence.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Some(Err(BodyError::Silent))),
                Poll::Pending => Poll::Pending,
            },
        }
    }
}
