//! Sans-IO parsers: OpenAI and Anthropic requests, answers and streams; messages of the Model Context Protocol.
//!
//! A body is read strictly once, and what is forwarded is what was read: changes are splices in the original bytes, never a
//! re-serialisation, so no reader can see another value than the one that was decided on.

mod answer;
pub mod api;
pub mod authzen;
mod challenge;
mod error;
mod extras;
pub mod links;
mod list;
pub mod mcp;
mod request;
mod scan;
mod splice;
mod stream;

pub use answer::{Usage, answer_texts, usage_of};
pub use challenge::{Challenge, ProtectedResource, RESOURCE_METADATA};
pub use error::{error_body, error_event};
pub use list::{model_body, models_body};
pub use request::{Edits, ModelRequest, parse_request};
pub use scan::{Node, Span};
pub use splice::splice;
pub use stream::{FrameSplitter, PieceMasker, StreamRewriter};
