//! What the authority issues and takes back, on a whole house.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "what the tests share may fail like a test, and many ask at once"
)]

mod acts;
mod documents;
mod exact;
mod exchange;
mod keys;
mod life;
mod refresh;
mod sponsor;
mod ways;
mod world;
