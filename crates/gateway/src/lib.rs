//! Listeners and routes of the data plane.
//!
//! [`serve`] is the one accept loop of the house: the control API and the operations listener use it too, so bounds
//! on connections, heads and time hold everywhere.

mod forwarded;
mod openapi;
mod route;
mod server;

pub use forwarded::{NoNetwork, TrustedProxies};
pub use openapi::decision_openapi;
pub use route::Gateway;
pub use server::{ServeError, Served, ServerLimits, serve};
