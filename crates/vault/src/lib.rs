//! Personal data that can be erased.
//!
//! A leaf of the ledger never changes, so it holds no personal data: pseudonyms, commitments ([`Commitment`]) and
//! references to payloads ([`PayloadRef`]). What they stand for lies here, under a key for each subject; destroying that
//! key erases the subject, and every proof of the ledger stays valid. `docs/vault.md` tells it to people.
//!
//! Everything blocks on the disk: call it where blocking is allowed.
//!
//! [`Commitment`]: bartizan_model::Commitment
//! [`PayloadRef`]: bartizan_model::PayloadRef

mod address;
mod check;
mod chunks;
mod commit;
mod crypt;
mod erase;
mod error;
mod expire;
mod files;
mod hold;
mod items;
mod kind;
mod payload;
mod schema;
mod vault;

#[cfg(test)]
mod tests;

pub use address::Place;
pub use check::Checked;
pub use commit::Opening;
pub use erase::{Erased, Erasure};
pub use error::VaultError;
pub use expire::{Expired, Retention};
pub use hold::{Hold, HoldSpec};
pub use items::{Field, Item, VALUE_MAX};
pub use kind::Kind;
pub use payload::PAYLOAD_MAX;
pub use vault::Vault;
