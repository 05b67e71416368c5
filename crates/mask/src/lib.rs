//! Detectors and redaction over text, whole or in pieces.
//!
//! One law holds everything together: masking a text in pieces gives what masking it whole gives, however it is cut. It
//! holds by construction, since both work segment by segment (see [`Masker`]).

mod detect;
mod stream;

pub use detect::{Masked, Masker};
pub use stream::StreamMasker;
