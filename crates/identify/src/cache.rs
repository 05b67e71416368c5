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

#[cfg(test)]
mod tests {
    use bartizan_base::random::SeededRandom;
    use bartizan_jose::{Algorithm, SigningKey, Times};
    use bartizan_model::Tenant;

    use super::*;
    use crate::caller::Caller;
    use crate::epochs::Issued;
    use crate::genuine::Source;

    #[test]
    fn however_many_tokens_are_shown_no_more_are_kept_than_there_is_room_for() {
        let signer = SigningKey::generate(Algorithm::Ed25519, &SeededRandom::new(1)).unwrap().thumbprint();
        let at = Timestamp::from_secs;
        for room in [1, 16, 160, 1_600] {
            let cache = Cache::new(room);
            for n in 0..5_000_u32 {
                let times = Times { issued: at(1), not_before: None, expires: at(100 + u64::from(n % 7)) };
                let token = Digest::of(&n.to_be_bytes());
                let genuine = Arc::new(Genuine {
                    caller: Caller::anonymous(Tenant::default_tenant()),
                    source: Source::Own,
                    token,
                    signer,
                    times,
                    bound_to: None,
                    audience: String::new(),
                    issued: Issued::Elsewhere { at: at(1) },
                    marks: Box::default(),
                    device: None,
                });
                cache.put(genuine, at(if n < 2_500 { 50 } else { 103 }));
                assert!(cache.get(&token).is_some(), "{n}");
                assert!(cache.len() <= room.max(16), "{n}: {} of {room}", cache.len());
            }
            assert!(cache.len() > room / 2, "{} of {room}", cache.len());
        }
    }
}
