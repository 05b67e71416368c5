//! One at a time: requests about the same thing wait for each other in this process, so that they do not fail for each
//! other. Between processes the versions of rows decide.

use bartizan_base::Digest;
use tokio::sync::{Mutex, MutexGuard};

/// How many things can be worked on at once; two that share a stripe wait without need.
const STRIPES: usize = 256;

/// Locks for things by their names.
#[derive(Debug)]
pub(crate) struct Stripes(Vec<Mutex<()>>);

impl Default for Stripes {
    fn default() -> Self {
        Self((0..STRIPES).map(|_| Mutex::default()).collect())
    }
}

impl Stripes {
    /// Waits until nobody else of this process is at work on `what`. Nothing is waited for where nothing is named.
    pub(crate) async fn lock(&self, what: &str) -> Option<MutexGuard<'_, ()>> {
        let [first, second, ..] = *Digest::of(what.as_bytes()).as_bytes();
        let stripe = usize::from(u16::from_be_bytes([first, second])) % STRIPES;
        match self.0.get(stripe) {
            Some(mutex) if !what.is_empty() => Some(mutex.lock().await),
            _ => None,
        }
    }
}
