//! The memory backend passes the suite, and with it the reference model does.

use bartizan_store::MemoryStore;
use bartizan_store::conformance::World;

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
