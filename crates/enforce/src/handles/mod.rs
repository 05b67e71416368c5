//! Results that stay at the gateway: whoever asked gets a handle, which can be passed on and not be read (DESIGN 6).
//!
//! What nobody has read steers nobody, so it does not enter the session that asked for it. Handed on it counts: the ask that hands
//! it on is judged as if the session had read it, and what comes of that carries its label. Single values come out of it alone,
//! under a schema that leaves no room for words ([`extract`]).

mod extract;
mod given;
mod store;

pub use extract::PATH as EXTRACT;
pub(crate) use given::Handed;
pub(crate) use store::{Content, Handles};
