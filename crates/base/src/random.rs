//! Randomness as a parameter.

use std::fmt;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::Digest;

/// Where random bytes come from. The real one is `rt::SystemRandom`, a cryptographic generator.
pub trait Random: fmt::Debug + Send + Sync {
    /// Fills `out` with random bytes.
    fn fill(&self, out: &mut [u8]);
}

/// Bytes that follow from a seed: for tests and simulation, never for keys.
#[derive(Debug)]
pub struct SeededRandom(Mutex<(u64, u64)>);

impl SeededRandom {
    /// The sequence that belongs to `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new((seed, 0)))
    }
}

impl Random for SeededRandom {
    fn fill(&self, out: &mut [u8]) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in out.chunks_mut(32) {
            let block = Digest::of_parts(&[&state.0.to_be_bytes(), &state.1.to_be_bytes()]);
            state.1 = state.1.wrapping_add(1);
            for (to, from) in chunk.iter_mut().zip(block.as_bytes()) {
                *to = *from;
            }
        }
    }
}
