//! The lease, while the state is followed: it is never longer than what is in force allows.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what the tests share may fail like a test"
)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bartizan_base::random::SeededRandom;
use bartizan_base::time::ManualClock;
use bartizan_base::{Digest, Timestamp};
use bartizan_enforce::{Keeper, Policies};
use bartizan_keys::PolicySigner;
use bartizan_model::action::ChangeState;
use bartizan_model::{Document, KeyId, NodeId, ReasonCode, Tenant};
use bartizan_record::{IntentRecorded, RealDisk, Recorder};
use bartizan_secret::Secret;
use bartizan_store::conformance::TestWarrant;
use bartizan_store::{
    BundleRow, Change, ClaimRow, Enforced, EpochKind, EpochRow, Founding, MemoryStore, NodeRow, Nodes, Since,
    State, Store, StoreError,
};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join, pending, ready};
use tokio::sync::Semaphore;

type Recorded = IntentRecorded<ChangeState>;

/// A state database whose answers about changes wait, and in whose place another can be put.
#[derive(Debug)]
struct Slow {
    store: Mutex<MemoryStore>,
    answers: Semaphore,
    loads: Mutex<u32>,
}

impl Slow {
    fn store(&self) -> MemoryStore {
        self.store.lock().unwrap().clone()
    }

    fn port(&self) -> Arc<dyn Store<Recorded>> {
        Arc::new(self.store())
    }
}

impl Store<Recorded> for Slow {
    fn found(&self, _: Founding) -> BoxFuture<'_, Result<(), StoreError>> {
        ready(Ok(())).boxed()
    }

    fn load(&self) -> BoxFuture<'_, Result<State, StoreError>> {
        *self.loads.lock().unwrap() += 1;
        async move { self.port().load().await }.boxed()
    }

    fn changes_since(
        &self,
        revision: u64,
        mark: Option<Digest>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Since, StoreError>> {
        async move {
            self.answers.acquire().await.unwrap().forget();
            self.port().changes_since(revision, mark, limit).await
        }
        .boxed()
    }

    fn revision(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        async move { self.port().revision().await }.boxed()
    }

    fn apply<'a>(&'a self, _: &'a Recorded, _: Vec<Change>) -> BoxFuture<'a, Result<u64, StoreError>> {
        ready(Err(StoreError::Conflict("not here".to_owned()))).boxed()
    }

    fn bundle<'a>(&'a self, _: &'a Tenant, _: u64) -> BoxFuture<'a, Result<Option<BundleRow>, StoreError>> {
        ready(Ok(None)).boxed()
    }

    fn bundle_files<'a>(
        &'a self,
        _: &'a Tenant,
        _: Digest,
    ) -> BoxFuture<'a, Result<Option<BTreeMap<String, String>>, StoreError>> {
        ready(Ok(None)).boxed()
    }

    fn touch_keys(&self, _: Vec<(KeyId, Timestamp)>) -> BoxFuture<'_, Result<(), StoreError>> {
        ready(Ok(())).boxed()
    }

    fn last_used<'a>(
        &'a self,
        _: &'a Tenant,
    ) -> BoxFuture<'a, Result<BTreeMap<KeyId, Timestamp>, StoreError>> {
        ready(Ok(BTreeMap::new())).boxed()
    }
}

/// What a node tells the others goes to whichever database is there.
#[derive(Debug)]
struct Told(Arc<Slow>);

impl Nodes for Told {
    fn confirm(&self, node: NodeId, enforced: Enforced) -> BoxFuture<'_, Result<u64, StoreError>> {
        async move { self.0.store().confirm(node, enforced).await }.boxed()
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeRow>, StoreError>> {
        async move { self.0.store().nodes().await }.boxed()
    }

    fn leave(&self, node: NodeId) -> BoxFuture<'_, Result<(), StoreError>> {
        async move { self.0.store().leave(node).await }.boxed()
    }

    fn moved(&self) -> BoxFuture<'_, ()> {
        pending().boxed()
    }
}

struct House {
    keeper: Arc<Keeper>,
    slow: Arc<Slow>,
    clock: Arc<ManualClock>,
    _folder: tempfile::TempDir,
}

async fn founded() -> MemoryStore {
    let store = MemoryStore::new();
    let role = serde_json::json!({"name": "anchor", "spec": {"kind": "role"}});
    let role: Document = serde_json::from_value(role).unwrap();
    let founding = Founding {
        recovery: (1, vec!["key".to_owned()]),
        claim: ClaimRow { digest: Digest::of(b"claim"), expires: Timestamp::MAX },
        documents: vec![(Tenant::default_tenant(), role)],
        bundle: None,
    };
    Store::<TestWarrant>::found(&store, founding).await.unwrap();
    store
}

/// Something is revoked: the revision moves.
async fn revoke(store: &MemoryStore, name: &str) {
    let tenant = Tenant::default_tenant();
    let row = EpochRow {
        tenant: tenant.clone(),
        kind: EpochKind::Principal,
        name: name.parse().unwrap(),
        not_before: Timestamp::from_secs(7),
        revision: 0,
    };
    store.apply(&TestWarrant::of(&tenant), vec![Change::AdvanceEpoch(row)]).await.unwrap();
}

impl House {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_795_000_000)));
        let store = Mutex::new(founded().await);
        let slow = Arc::new(Slow { store, answers: Semaphore::new(0), loads: Mutex::default() });
        let signer = PolicySigner::from_seed(&Secret::new([9; 32])).unwrap();
        let node = NodeId::new(Timestamp::from_secs(1), &SeededRandom::new(7));
        let config = bartizan_record::Config::new(
            folder.path().to_owned(),
            node,
            "test.example/log".to_owned(),
            Secret::new([8; 32]),
            "test".to_owned(),
        );
        let recorder = Recorder::open(config, clock.clone(), Arc::new(RealDisk), Arc::new(slow.store()));
        let recorder = recorder.await.unwrap();
        let policies = Policies::open(&folder.path().join("policy"), signer.verifier().unwrap()).unwrap();
        let told = Arc::new(Told(slow.clone()));
        let keeper = Keeper::open(slow.clone(), told, node, recorder, clock.clone(), policies, None);
        let keeper = Arc::new(keeper.await.unwrap());
        Self { keeper, slow, clock, _folder: folder }
    }

    async fn told(&self) -> u64 {
        self.slow.store().nodes().await.unwrap()[0].enforced.revision
    }

    fn pass(&self, ms: u64) {
        self.clock.advance(Duration::from_millis(ms));
    }

    fn decides(&self) -> bool {
        let current = self.keeper.current();
        assert!(matches!(current, Ok(_) | Err(ReasonCode::SnapshotStale)));
        current.is_ok()
    }
}

#[tokio::test]
async fn inv_epoch_what_is_heard_of_and_not_in_force_is_not_confirmed_and_keeps_no_lease_going() {
    let house = House::new().await;
    assert_eq!((house.keeper.revision(), house.told().await, house.decides()), (1, 1, true));
    revoke(&house.slow.store(), "user/alice").await;
    for _ in 0..5 {
        // Hearing never waits for what there is to take in.
        house.pass(190);
        assert_eq!(house.keeper.hear().await.unwrap(), 2);
        assert_eq!((house.keeper.revision(), house.told().await), (1, 1));
    }
    assert!(house.decides(), "950 ms after the asking whose answer is in force");
    house.pass(51);
    assert_eq!(house.keeper.hear().await.unwrap(), 2);
    assert!(!house.decides(), "however often it was heard of");
    // Once it is in force, what was heard before counts from when it was asked.
    house.slow.answers.add_permits(1);
    house.keeper.follow_heard().await.unwrap();
    assert_eq!((house.keeper.revision(), house.told().await, house.decides()), (2, 2, true));
    assert_eq!(*house.slow.loads.lock().unwrap(), 1, "it was loaded whole at the start alone");
}

#[tokio::test]
async fn inv_epoch_who_follows_slowly_decides_as_long_as_what_was_heard_a_second_ago_is_in_force() {
    let house = House::new().await;
    // Each change takes 800 ms to be in force; asking goes on meanwhile.
    for revision in 2..8 {
        revoke(&house.slow.store(), "user/alice").await;
        assert_eq!(house.keeper.hear().await.unwrap(), revision);
        let hearing = async {
            for _ in 0..4 {
                house.pass(200);
                assert_eq!(house.keeper.hear().await.unwrap(), revision);
                assert_eq!(house.keeper.revision(), revision - 1);
                assert!(house.decides());
            }
            house.slow.answers.add_permits(1);
        };
        let (followed, ()) = join(house.keeper.follow_heard(), hearing).await;
        followed.unwrap();
        assert_eq!((house.keeper.revision(), house.told().await), (revision, revision));
    }
}

#[tokio::test]
async fn attack_13_a_database_that_was_put_back_and_went_on_is_not_decided_on() {
    let house = House::new().await;
    house.slow.answers.add_permits(100);
    revoke(&house.slow.store(), "user/alice").await;
    house.keeper.watch().await.unwrap();
    assert_eq!(house.keeper.revision(), 2);
    // Put back to its founding: what was revoked is forgotten, and it goes on past where it was.
    let back = founded().await;
    for name in ["user/bob", "user/carol", "user/dave"] {
        revoke(&back, name).await;
    }
    *house.slow.store.lock().unwrap() = back;
    for _ in 0..6 {
        let watched = house.keeper.watch().await;
        assert!(matches!(&watched, Err(StoreError::Corrupt(_))), "{watched:?}");
        house.pass(200);
    }
    assert_eq!(house.keeper.revision(), 2, "what is known stays");
    assert!(!house.decides());
}
