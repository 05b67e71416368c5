//! The ways to a token. Each works out what may be issued, and leaves the issuing to [`crate::Authority::issue_for`].

mod code;
mod refresh;

pub use code::{agreed, code};
pub use refresh::refresh;
