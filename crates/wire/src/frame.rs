//! Frames of a stream: told apart, opened and put together again, be they server-sent events or Amazon's messages.

use bartizan_model::directory::Dialect;
use bartizan_model::{Problem, ReasonCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};

use crate::answer::{LIMITS, Usage, usage_of};
use crate::eventstream::{self, EVENT_STREAM, Message};
use crate::scan::{Node, Span};
use crate::splice::splice;

/// How a stream is told apart into frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// Server-sent events.
    #[default]
    Events,
    /// Messages of `application/vnd.amazon.eventstream`.
    Messages,
}

impl Framing {
    /// The framing of an answer in `dialect` with this content type. None for what is no stream in it.
    #[must_use]
    pub fn of(dialect: Dialect, content_type: &[u8]) -> Option<Self> {
        let amazon = matches!(dialect, Dialect::BedrockConverse | Dialect::BedrockInvoke);
        if amazon {
            return content_type.starts_with(EVENT_STREAM.as_bytes()).then_some(Self::Messages);
        }
        content_type.starts_with(b"text/event-stream").then_some(Self::Events)
    }
}

/// The longest frame that is read.
const FRAME_MAX: usize = 8 << 20;

/// Splits bytes into frames, each with its closing empty line, exactly as they came.
#[derive(Debug, Default)]
pub struct FrameSplitter {
    framing: Framing,
    held: BytesMut,
    /// How far the search for the end of the frame has come.
    searched: usize,
}

impl FrameSplitter {
    /// Nothing taken yet.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        Self { framing, ..Self::default() }
    }

    /// Takes bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// The next whole frame.
    ///
    /// # Errors
    /// When a frame is longer than any may be, or a checksum is wrong.
    pub fn whole_frame(&mut self) -> Result<Option<Bytes>, Problem> {
        if self.framing == Framing::Messages {
            return eventstream::whole(&mut self.held);
        }
        let from = self.searched.saturating_sub(3);
        for at in memchr::memchr_iter(b'\n', self.held.get(from..).unwrap_or_default()).map(|at| from + at) {
            let rest = self.held.get(at + 1..).unwrap_or_default();
            let end = match rest {
                [b'\n', ..] => at + 2,
                [b'\r', b'\n', ..] => at + 3,
                _ => continue,
            };
            self.searched = 0;
            return Ok(Some(self.held.split_to(end).freeze()));
        }
        self.searched = self.held.len();
        if self.held.len() > FRAME_MAX {
            return Err(Problem::with_detail(
                ReasonCode::UpstreamInvalid,
                "a frame of the stream is too long",
            ));
        }
        Ok(None)
    }

    /// Whether nothing of a next frame is here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// What is left at the end of the stream: nothing, if the last frame was whole.
    #[must_use]
    pub fn rest(self) -> Bytes {
        self.held.freeze()
    }
}

/// What a frame holds, and how it is put together again around something else.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    /// The JSON in it.
    pub(crate) data: Bytes,
    /// What kind of event it is, where its headers say that.
    pub(crate) kind: Option<String>,
    shell: Shell,
}

#[derive(Clone, Debug)]
enum Shell {
    /// The line with the data.
    Event(Bytes, Span),
    /// The payload.
    Message(Message),
    /// In a member of the payload, in base64 (`invoke-with-response-stream`).
    Chunk(Message, Span),
}

impl Opened {
    /// What stands in a frame; none for one without data (comments, pings of the transport).
    ///
    /// # Errors
    /// When it cannot be read: then it must not be released.
    pub(crate) fn read(frame: &Bytes, dialect: Dialect, framing: Framing) -> Result<Option<Self>, Problem> {
        if framing == Framing::Events {
            let opened = data_of(frame)?.map(|(start, end)| Self {
                data: frame.slice(start..end),
                kind: None,
                shell: Shell::Event(frame.clone(), (start, end)),
            });
            return Ok(opened);
        }
        let message = eventstream::open(frame)?;
        if message.payload.is_empty() {
            return Ok(None);
        }
        let kind = message.header(":event-type").map(str::to_owned);
        if dialect == Dialect::BedrockInvoke && kind.as_deref() == Some("chunk") {
            let invalid = |_| Problem::with_detail(ReasonCode::UpstreamInvalid, "a chunk cannot be read");
            let root = Node::parse(&message.payload, LIMITS).map_err(invalid)?;
            if let Some(node) = root.member("bytes") {
                let text = node.text(&message.payload);
                let inner = text.and_then(|text| STANDARD.decode(text.as_bytes()).ok());
                let data = inner.ok_or_else(|| {
                    Problem::with_detail(ReasonCode::UpstreamInvalid, "a chunk cannot be read")
                })?;
                return Ok(Some(Self {
                    data: data.into(),
                    kind: None,
                    shell: Shell::Chunk(message, node.span()),
                }));
            }
        }
        Ok(Some(Self { data: message.payload.clone(), kind, shell: Shell::Message(message) }))
    }

    /// The frame with other data in it.
    pub(crate) fn with(&self, data: &Bytes) -> Bytes {
        match &self.shell {
            Shell::Event(frame, (start, end)) => {
                let mut out = BytesMut::with_capacity(frame.len() + data.len());
                out.extend_from_slice(frame.get(..*start).unwrap_or_default());
                out.extend_from_slice(data);
                out.extend_from_slice(frame.get(*end..).unwrap_or_default());
                out.freeze()
            }
            Shell::Message(message) => message.with(data),
            Shell::Chunk(message, place) => {
                let text = format!("\"{}\"", STANDARD.encode(data));
                message.with(&splice(&message.payload, vec![(*place, text)]))
            }
        }
    }
}

/// What a whole frame says about tokens.
#[must_use]
pub fn frame_usage(dialect: Dialect, framing: Framing, frame: &Bytes) -> Usage {
    match Opened::read(frame, dialect, framing) {
        Ok(Some(opened)) => usage_of(dialect, &opened.data),
        Ok(None) | Err(_) => Usage::default(),
    }
}

/// The place of the data in a frame; none for frames without data (comments, pings of the transport).
///
/// # Errors
/// When data stands on several lines, which no dialect does and a masker could be led astray by.
fn data_of(frame: &[u8]) -> Result<Option<Span>, Problem> {
    let mut found = None;
    let mut at = 0;
    for line in frame.split_inclusive(|b| *b == b'\n') {
        let trimmed = line.trim_ascii_end();
        if let Some(value) = trimmed.strip_prefix(b"data:") {
            if found.is_some() {
                return Err(Problem::with_detail(
                    ReasonCode::UpstreamInvalid,
                    "the data of a frame stands on several lines",
                ));
            }
            let space = usize::from(value.first() == Some(&b' '));
            found = Some((at + 5 + space, at + trimmed.len()));
        }
        at += line.len();
    }
    Ok(found)
}
