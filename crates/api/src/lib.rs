//! The control API over HTTP: JSON in, JSON out, every call an ask.

mod answers;
mod body;
mod connections;
mod described;
mod door;
mod grants;
mod mount;
pub mod oauth;
mod openapi;
mod route;
pub mod scim;
mod session_labels;
mod signals;
mod signing_keys;
mod workloads;

pub use connections::ConnectionsDesk;
pub use described::{By, Described, MOUNTED};
pub use door::Published;
pub use grants::{GrantsDesk, grants};
pub use mount::{Arrived, Mount};
pub use openapi::openapi;
pub use route::{Api, ROUTES, Route};
pub use session_labels::session_labels;
pub use signals::SignalsMount;
pub use signing_keys::signing_keys;
pub use workloads::{BUNDLE, workloads};
