//! What the authority issues and takes back, on a whole house.

#![expect(clippy::unwrap_used, reason = "what the tests share may fail like a test")]
#![expect(clippy::disallowed_methods, reason = "many ask at once; the test waits for each of them")]

mod exchange;
mod keys;
mod life;
mod refresh;
mod ways;
mod world;
