//! What a caller gets: the messages of a server up to the answer.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bartizan_model::ReasonCode;
use bartizan_record::Running;
use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Sleep};

use crate::link::Link;

/// Why a conversation broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The server ended, or ended its line.
    #[error("the tool server ended")]
    Ended,
    /// Nothing came for too long.
    #[error("the tool server does not answer")]
    Silent,
    /// The server wrote what is no message, too long a one, or too many that nobody asked for.
    #[error("the tool server wrote what is no message")]
    Rubbish,
    /// What was sent to the server is no message that it is given.
    #[error("this is no message that the tool server is given")]
    Malformed,
    /// As many calls of this session are open as may be.
    #[error("too many calls are open")]
    Busy,
}

impl Broken {
    /// The reason code it is told by.
    #[must_use]
    pub const fn reason(self) -> ReasonCode {
        match self {
            Self::Ended => ReasonCode::UpstreamTruncated,
            Self::Silent => ReasonCode::UpstreamTimeout,
            Self::Rubbish => ReasonCode::UpstreamInvalid,
            Self::Malformed => ReasonCode::BodyMalformed,
            Self::Busy => ReasonCode::Busy,
        }
    }
}

/// A conversation that has begun: its messages, and the effect to be told how it ended.
#[derive(Debug)]
pub struct Conversation {
    /// The messages.
    pub messages: Messages,
    /// The effect.
    pub running: Running,
}

/// JSON-RPC messages of a server that belong to one request: progress and questions of the server first, at last the response, under
/// the caller's own id; then nothing more. Empty for what is not answered. Dropped before its end, it cancels the request.
#[derive(Debug)]
pub struct Messages(Inner);

#[derive(Debug)]
enum Inner {
    /// Known already, or nothing.
    Known(Option<Bytes>),
    Open(Open),
}

/// The receiving end of a request in a [`Link`].
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) link: Arc<Link>,
    pub(crate) number: u64,
    pub(crate) notes: mpsc::Receiver<Bytes>,
    /// Bytes of notes that wait.
    pub(crate) held: Arc<AtomicUsize>,
    pub(crate) last: oneshot::Receiver<Result<Bytes, Broken>>,
    pub(crate) ended: Option<Result<Bytes, Broken>>,
    pub(crate) patience: Duration,
    pub(crate) silence: Pin<Box<Sleep>>,
    pub(crate) done: bool,
}

impl Messages {
    /// Nothing is to be waited for.
    pub(crate) const fn none() -> Self {
        Self(Inner::Known(None))
    }

    /// An answer that is here already.
    pub(crate) const fn known(answer: Bytes) -> Self {
        Self(Inner::Known(Some(answer)))
    }

    pub(crate) const fn open(open: Open) -> Self {
        Self(Inner::Open(open))
    }
}

impl Stream for Messages {
    type Item = Result<Bytes, Broken>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.0 {
            Inner::Known(answer) => Poll::Ready(answer.take().map(Ok)),
            Inner::Open(open) => open.poll(cx),
        }
    }
}

impl Open {
    #[expect(clippy::disallowed_methods, reason = "the timer of the runtime takes its own clock's instants")]
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        if self.done {
            return Poll::Ready(None);
        }
        // The end is looked at first: once it is here every note that came before it waits, and nothing follows them.
        if self.ended.is_none()
            && let Poll::Ready(last) = Pin::new(&mut self.last).poll(cx)
        {
            self.ended = Some(last.unwrap_or(Err(Broken::Ended)));
        }
        match self.notes.poll_recv(cx) {
            Poll::Ready(Some(note)) => {
                self.held.fetch_sub(note.len(), Ordering::Relaxed);
                let next = Instant::now() + self.patience;
                self.silence.as_mut().reset(next);
                Poll::Ready(Some(Ok(note)))
            }
            Poll::Ready(None) => {
                self.done = true;
                // It may have come since it was looked for above.
                let ended = self.ended.take().or_else(|| self.last.try_recv().ok());
                Poll::Ready(Some(ended.unwrap_or(Err(Broken::Ended))))
            }
            Poll::Pending => {
                if self.silence.as_mut().poll(cx).is_ready() {
                    self.done = true;
                    self.link.give_up(self.number, true);
                    return Poll::Ready(Some(Err(Broken::Silent)));
                }
                Poll::Pending
            }
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.done {
            self.link.give_up(self.number, false);
        }
    }
}
