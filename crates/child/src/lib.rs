//! Tool servers whose line stays open.
//!
//! [`Children`] are programs of the bootstrap configuration, run as supervised children that speak MCP over stdio: under another
//! identity or in namespaces of their own, with a cleared environment, closed descriptors, a bounded view of the file system and no
//! network unless granted. Where that cannot be had nothing is started ([`Unavailable`]).
//!
//! [`OldServers`] speak the HTTP+SSE transport of MCP 2024-11-05, over `bartizan-upstream`.
//!
//! Both take an `IntentRecorded<ToolCall>` and give a [`Conversation`]: the messages up to the answer. What goes out carries ids of
//! ours, so that of two callers on one line neither sees, answers or cancels what is the other's.

mod backoff;
mod children;
mod command;
mod ending;
mod event;
mod isolation;
mod lines;
mod link;
mod message;
mod messages;
mod old;
mod places;
mod said;
mod server;
mod settings;
mod spawner;

pub use children::Children;
pub use command::{Bounds, CommandSpec, Unfit};
pub use isolation::{Isolation, Unavailable};
pub use messages::{Broken, Conversation, Messages};
pub use old::OldServers;
pub use settings::{Served, Settings, SetupError, Totals};
