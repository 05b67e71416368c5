//! Tokens that were verified, by the digest of their text: bounded, and never by a part of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bartizan_base::{Digest, Timestamp};

use crate::genuine::Genuine;

/// As many places, each under a lock of its own.
const SHARDS: usize = 16;

/// Verified tokens.
#[derive(Debug)]
pub(crate) struct Cache {
    shards: [Mutex<HashMap<Digest, Arc<Genuine>>>; SHARDS],
    shard_max: usize,
}

impl Cache {
    /// Room for about `max` tokens.
    pub(crate) fn new(max: usize) -> Self {
        Self { shards: Default::default(), shard_max: max.div_ceil(SHARDS).max(1) }
    }

    fn shard(&self, token: &Digest) -> Option<&Mutex<HashMap<Digest, Arc<Genuine>>>> {
        let [first, ..] = token.as_bytes();
        self.shards.get(usize::from(*first) % SHARDS)
    }

    pub(crate) fn get(&self, token: &Digest) -> Option<Arc<Genuine>> {
        self.shard(token)?.lock().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }

    /// Keeps a token. Where there is no room, what is over goes, and else about one in eight, so that a flood of tokens does not
    /// empty the whole.
    pub(crate) fn put(&self, genuine: Arc<Genuine>, now: Timestamp) {
        let token = genuine.token;
        let Some(shard) = self.shard(&token) else { return };
        let mut tokens = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= self.shard_max && !tokens.contains_key(&token) {
            tokens.retain(|_, known| now < known.times.expires);
            if tokens.len() >= self.shard_max {
                let [_, mine, ..] = token.as_bytes();
                tokens.retain(|known, _| {
                    let [_, other, ..] = known.as_bytes();
                    other % 8 != mine % 8
                });
            }
            // Only in a test's tiny one all can be of the same eighth, or none.
            if tokens.len() >= self.shard_max {
                tokens.clear();
            }
        }
        tokens.insert(token, genuine);
    }

    pub(crate) fn forget(&self, token: &Digest) {
        if let Some(shard) = self.shard(token) {
            shard.lock().unwrap_or_else(PoisonError::into_inner).remove(token);
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|s| s.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }
}
