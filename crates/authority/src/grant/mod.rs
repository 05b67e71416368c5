//! The ways to a token. Each works out what may be issued, and leaves the issuing to [`crate::Authority::issue_for`].

mod client_credentials;
mod code;
mod exchange;
mod jwt_bearer;
mod refresh;

pub use crate::device::device;
pub use client_credentials::client_credentials;
pub(crate) use client_credentials::{conditions_of, own_rights, principal_of, resources};
pub use code::{agreed, code};
pub use exchange::exchange;
pub use jwt_bearer::jwt_bearer;
pub(crate) use refresh::end;
pub use refresh::refresh;
