//! The Model Context Protocol, without I/O: messages read strictly and with positions, revisions with their headers, the
//! framing of streams, and the words of answers.
//!
//! What is authorised is what is sent: a message that goes on is put together of exactly those members that were read, each
//! with its own bytes, and no other member goes along.

mod message;
mod mirror;
mod revision;
mod sse;
mod words;

pub use message::{Kind, Message, MessageError};
pub use mirror::{MarkError, MirrorError, Mirrored};
pub use revision::{
    HeaderError, Heads, META_CAPABILITIES, META_CLIENT, META_LOG_LEVEL, META_SUBSCRIPTION, META_VERSION,
    Revision, encode_name,
};
pub use sse::{Event, EventReader, EventTooLong, event_of, event_under};
pub use words::{LABEL, code_of, error_words, notification_words, request_words, result_words};
