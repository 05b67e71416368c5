//! The request path as one readable stack: identify, assess, decide, record, enforce.
//!
//! Start at [`Gate::call_model`](path::Gate::call_model) in `path.rs`; each step there is one line, and each line names the
//! module that does it.

mod access;
mod acknowledge;
mod admit;
mod afterwards;
mod apis;
mod assess;
mod cache;
mod code;
mod doors;
mod fetch;
mod follow;
mod handles;
mod keep;
mod keeper;
mod known;
pub mod limits;
mod locks;
mod mask;
mod masking;
mod mesh;
mod metrics;
mod models;
mod path;
mod policies;
mod prepare;
mod receive;
mod refuse;
mod release;
mod reply;
mod request;
mod retired;
mod retrieve;
mod routing;
mod scrub;
mod session;
mod sql;
mod tally;
mod tools;
mod trace;
mod world;

pub use access::Access;
pub use afterwards::{Afterwards, Trial};
pub use apis::Accounts;
pub use bartizan_store::LEASE;
pub use cache::CacheBounds;
pub use code::PREFIX as CODE_PREFIX;
pub use doors::{Published, is_proven};
pub use handles::EXTRACT;
pub use keeper::Keeper;
pub use limits::Limiter;
pub use mesh::{Asked, Checked, Content, OWN_HEADERS, Permitted, Refusal};
pub use metrics::Metrics;
pub use path::{Bounds, Gate, Parts, PublicUrl};
pub use policies::{InForce, Policies};
pub use release::Guarded;
pub use reply::{Messages, Reply, ReplyBody};
pub use retrieve::Written;
pub use sql::PREFIX as QUERY_PREFIX;
pub use tools::{Conversation, Definition, DefinitionKind, Errand, Outgoing, ToolServers, ToolStop};
pub use trace::Traces;
pub use world::{Staged, TenantWorld, World};
