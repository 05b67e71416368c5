//! The index: it finds what the meaning of queries says, its pages stay, and it can be thrown away.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what the tests share may fail like a test")]

mod broken;
mod cursor;
mod pages;
mod speed;
mod world;
