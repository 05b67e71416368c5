//! The reference backend: a state in memory, for tests and simulation.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bartizan_base::{Digest, Timestamp};
use bartizan_model::KeyId;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};

use crate::{Change, Checkpoints, Founding, State, Store, StoreError, Warrant};

/// A state that lives as long as the process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
    checkpoints: Mutex<BTreeMap<String, (u64, Digest)>>,
}

impl MemoryStore {
    fn with<T: Send + 'static>(&self, work: impl FnOnce(&mut State) -> T) -> BoxFuture<'static, T> {
        ready(work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))).boxed()
    }
}

impl<W: Warrant> Store<W> for MemoryStore {
    fn found(&self, founding: Founding) -> BoxFuture<'_, Result<(), StoreError>> {
        self.with(|state| state.found(founding))
    }

    fn load(&self) -> BoxFuture<'_, Result<State, StoreError>> {
        self.with(|state| Ok(state.clone()))
    }

    fn revision(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.with(|state| Ok(state.revision))
    }

    fn apply<'a>(&'a self, warrant: &'a W, changes: Vec<Change>) -> BoxFuture<'a, Result<u64, StoreError>> {
        self.with(|state| state.apply(warrant.tenant(), &changes).map(|()| state.revision))
    }

    fn touch_keys(&self, uses: Vec<(KeyId, Timestamp)>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.with(|state| {
            state.touch(&uses);
            Ok(())
        })
    }
}

impl Checkpoints for MemoryStore {
    fn latest(&self, log: &str) -> BoxFuture<'_, Result<Option<(u64, Digest)>, StoreError>> {
        let all = self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner);
        ready(Ok(all.get(log).copied())).boxed()
    }

    fn swap(
        &self,
        log: &str,
        old: Option<(u64, Digest)>,
        new: (u64, Digest),
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        let mut all = self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let same = all.get(log).copied() == old;
        if same {
            all.insert(log.to_owned(), new);
        }
        ready(Ok(same)).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_conforms() {
        let memory = MemoryStore::default();
        crate::conformance::store(&memory).await;
        crate::conformance::checkpoints(&memory).await;
    }
}
