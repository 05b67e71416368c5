//! Detectors and masking over text, whole or in pieces.
//!
//! One law holds everything together: masking a text in pieces gives what masking it whole gives, however it is cut. It
//! holds by construction. A text is read once, by *finders*; each says of every place whether a match begins
//! there, by a bounded number of bytes before and after it, and up to which place it is sure. What all
//! are sure of is released; nothing else is. A whole text is a text in one piece.
//!
//! Matches may overlap: the one that begins first counts, of those the longest; what a later one has beyond it is masked too,
//! so nothing that any detector found is left over.

mod canary;
mod check;
mod custom;
mod digits;
mod find;
mod fold;
mod ids;
mod json;
mod marks;
mod masker;
mod numbers;
mod secrets;
mod stream;

pub use custom::{Custom, CustomError};
pub use json::TextMasker;
pub use masker::{Masked, Masker, MaskerError, Replace};

/// How far back a finder may look from where a match begins, in bytes after folding.
pub(crate) const BEFORE: usize = 96;
