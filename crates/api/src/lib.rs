//! The control API over HTTP: JSON in, JSON out, every call an ask.

mod route;

pub use route::{Api, ROUTES, Route};
