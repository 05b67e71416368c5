//! The memory backend passes the suite, and with it the reference model does.

use std::sync::Arc;

use bartizan_store::conformance::{self, World};
use bartizan_store::{MemoryCounters, MemoryStore};

struct Memory;

impl World for Memory {
    type Place = MemoryStore;
    type Store = MemoryStore;

    async fn empty(&self) -> MemoryStore {
        MemoryStore::new()
    }

    async fn open(&self, place: &MemoryStore) -> MemoryStore {
        place.clone()
    }
}

bartizan_store::conformance_tests!(Memory);

#[test]
fn random_operations_match_the_model() {
    bartizan_store::conformance::random_operations_match_the_model(&Memory, 128);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lesson_litellm_34732_counts_are_looked_at_and_taken_in_one_step() {
    let counters = Arc::new(MemoryCounters::default());
    conformance::lesson_litellm_34732_counts_are_looked_at_and_taken_in_one_step(counters.clone(), counters)
        .await;
}

#[tokio::test]
async fn counts_that_are_over_are_swept() {
    conformance::counts_that_are_over_are_swept(Arc::new(MemoryCounters::default())).await;
}
