//! Sans-IO parsers: requests, answers and streams of OpenAI, Azure OpenAI, Anthropic, Amazon Bedrock and Gemini; messages of the Model Context Protocol.
//!
//! A body is read strictly once, and what is forwarded is what was read: changes are splices in the original bytes, never a
//! re-serialisation, so no reader can see another value than the one that was decided on.

mod address;
mod answer;
pub mod api;
pub mod authzen;
mod challenge;
mod constrained;
mod error;
mod eventstream;
mod extras;
#[cfg(test)]
mod foreign_tests;
mod frame;
pub mod links;
mod list;
pub mod mcp;
mod places;
mod request;
mod same;
mod scan;
mod splice;
mod stream;

pub use address::Address;
pub use answer::{USAGE, Usage, answer_texts, usage_of};
pub use challenge::{Challenge, ProtectedResource, RESOURCE_METADATA};
pub use constrained::{Constrained, TooWide};
pub use error::{error_body, error_event};
pub use frame::{FrameSplitter, Framing, frame_usage};
pub use list::{model_body, models_body};
pub use request::{Edits, ModelRequest, parse_request};
pub use scan::{Node, Span};
pub use splice::splice;
pub use stream::{PieceMasker, StreamRewriter};
