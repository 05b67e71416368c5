//! What lies directly in something: sorted numbers in chunks, so that one more member of a large group copies one chunk.

use std::sync::Arc;

/// Members of a chunk before it is split.
const CHUNK_MAX: usize = 1024;

/// A sorted set of numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Members(Arc<Vec<Arc<Vec<u32>>>>);

impl Members {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().flat_map(|chunk| chunk.iter().copied())
    }

    /// The chunk that `id` is or would be in.
    fn chunk_of(&self, id: u32) -> usize {
        self.0.partition_point(|chunk| chunk.first().is_some_and(|first| *first <= id)).saturating_sub(1)
    }

    pub(super) fn insert(&mut self, id: u32) {
        let at = self.chunk_of(id);
        let chunks = Arc::make_mut(&mut self.0);
        let Some(chunk) = chunks.get_mut(at) else {
            chunks.push(Arc::new(vec![id]));
            return;
        };
        if let Err(place) = chunk.binary_search(&id) {
            let chunk = Arc::make_mut(chunk);
            chunk.insert(place, id);
            if chunk.len() > CHUNK_MAX {
                let upper = chunk.split_off(CHUNK_MAX / 2);
                chunks.insert(at + 1, Arc::new(upper));
            }
        }
    }

    pub(super) fn remove(&mut self, id: u32) {
        let at = self.chunk_of(id);
        let chunks = Arc::make_mut(&mut self.0);
        let Some(chunk) = chunks.get_mut(at) else { return };
        if let Ok(place) = chunk.binary_search(&id) {
            let chunk = Arc::make_mut(chunk);
            chunk.remove(place);
            if chunk.is_empty() {
                chunks.remove(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn members_are_a_sorted_set_and_copies_stay(changes in prop::collection::vec((0_u32..6_000, prop::bool::weighted(0.8)), 0..6_000)) {
            let mut members = Members::default();
            let mut model = BTreeSet::new();
            let mut copies = Vec::new();
            for (n, (id, inserted)) in changes.into_iter().enumerate() {
                if inserted {
                    members.insert(id);
                    model.insert(id);
                } else {
                    members.remove(id);
                    model.remove(&id);
                }
                if n % 1_500 == 0 {
                    copies.push((members.clone(), model.clone()));
                }
            }
            copies.push((members, model));
            for (members, model) in copies {
                prop_assert!(members.iter().eq(model.iter().copied()));
                prop_assert_eq!(members.is_empty(), model.is_empty());
            }
        }
    }
}
