//! The authority as use cases, as an enemy would try them.

mod grants;
mod login;
mod work;
