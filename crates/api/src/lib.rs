//! The control API over HTTP: JSON in, JSON out, every call an ask.

mod body;
mod door;
mod mount;
pub mod oauth;
mod openapi;
mod route;
mod signals;

pub use door::Published;
pub use mount::{Arrived, Mount};
pub use openapi::openapi;
pub use route::{Api, ROUTES, Route};
pub use signals::SignalsMount;
