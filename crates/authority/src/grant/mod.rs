//! Ways to a token. Each ends in one [`crate::issue::Issue`].

mod code;

pub use code::{agreed, code};
