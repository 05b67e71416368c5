//! What replay needs of recorded decisions: the ask as it was decided on, and the entities that were in reach.
//!
//! Asks are personal: they hold names, addresses and purposes. So does the entity of a person, and every entity that names
//! one. Each of these is sealed under a key of every person in it; those keys lie in the vault and go with their subjects, so
//! that after an erasure there is nothing to read, also in every copy and backup of this folder. Everything else is kept once,
//! by digest.
//!
//! Keeping never blocks a decision: it happens on a thread of its own, in batches. What a full queue or a crash swallows shows
//! later as `slice_missing`.

mod file;
mod keep;
mod seal;
mod writer;

#[cfg(test)]
mod tests;

pub use file::SlicesError;
pub use keep::{Found, Keep, Settings, Slices, Stats};
