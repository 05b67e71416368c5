//! What every backend must do, run against each of them.

use bartizan_base::random::SeededRandom;
use bartizan_base::{Digest, Name, Timestamp};
use bartizan_model::directory::{PrincipalSpec, Spec};
use bartizan_model::{DecisionId, Document, KeyId, Principal, PrincipalId, PrincipalKind, Tenant};

use crate::{
    Change, Checkpoints, ClaimRow, EpochKind, EpochRow, Founding, KeyRow, Store, StoreError, Warrant,
};

/// A warrant for tests.
#[derive(Clone, Debug)]
pub struct TestWarrant(pub Tenant);

impl Warrant for TestWarrant {
    fn tenant(&self) -> &Tenant {
        &self.0
    }

    fn decision(&self) -> DecisionId {
        DecisionId::from_parts(Timestamp::default(), [0; 10])
    }
}

fn name(text: &str) -> Name {
    Name::literal(Box::leak(text.to_owned().into_boxed_str()))
}

fn user(text: &str) -> Document {
    let id = PrincipalId::from_parts(Timestamp::default(), [1; 10]);
    Document { name: name(text), principal: Some(id), spec: Spec::User(PrincipalSpec::default()) }
}

fn key(seed: u64, tenant: &Tenant) -> KeyRow {
    let at = Timestamp::from_secs(1_000);
    KeyRow {
        id: KeyId::new(at, &SeededRandom::new(seed)),
        tenant: tenant.clone(),
        handle: format!("btz_{seed}"),
        digest: Digest::of(&seed.to_be_bytes()),
        principal: Principal {
            kind: PrincipalKind::User,
            name: name("alice"),
            id: PrincipalId::from_parts(at, [1; 10]),
        },
        label: "laptop".to_owned(),
        scopes: None,
        created: at,
        expires: Timestamp::from_secs(9_000),
        revoked: None,
        last_used: None,
    }
}

fn founding() -> Founding {
    Founding {
        recovery: (1, vec!["public".to_owned()]),
        claim: ClaimRow { digest: Digest::of(b"claim"), expires: Timestamp::from_secs(5_000) },
        documents: Vec::new(),
        bundle: None,
    }
}

fn is_conflict<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Conflict(_)))
}

/// Runs the suite on an empty backend; panics where it differs.
///
/// # Panics
/// Where the backend does not do what the contract says.
#[expect(clippy::unwrap_used, reason = "a test suite: an unexpected error is a failed test")]
pub async fn store(store: &dyn Store<TestWarrant>) {
    let tenant = Tenant::default_tenant();
    let (ours, theirs) = (TestWarrant(tenant.clone()), TestWarrant(Tenant(name("other"))));
    assert_eq!(store.load().await.unwrap().revision, 0);
    store.found(founding()).await.unwrap();
    assert!(is_conflict(&store.found(founding()).await), "founded twice");
    assert_eq!((store.revision().await.unwrap(), store.load().await.unwrap().revision), (1, 1));

    // Documents: new, changed at the right revision, refused at a wrong one, other tenants apart.
    let put = |d: &str, expect| Change::PutDocument { document: user(d), expect };
    assert_eq!(store.apply(&ours, vec![put("alice", None)]).await.unwrap(), 2);
    assert!(is_conflict(&store.apply(&ours, vec![put("alice", None)]).await), "declared twice");
    assert!(
        is_conflict(&store.apply(&ours, vec![put("bob", None), put("alice", Some(1))]).await),
        "lost update"
    );
    assert_eq!(store.load().await.unwrap().documents.len(), 1, "half a set was applied");
    assert_eq!(store.apply(&ours, vec![put("alice", Some(2)), put("bob", None)]).await.unwrap(), 3);
    assert_eq!(store.apply(&theirs, vec![put("alice", None)]).await.unwrap(), 4);
    let delete = Change::DeleteDocument { kind: "user".to_owned(), name: name("bob"), expect: 3 };
    assert!(
        is_conflict(&store.apply(&theirs, vec![delete.clone()]).await),
        "inv_tenant: removed in another tenant"
    );
    store.apply(&ours, vec![delete]).await.unwrap();
    assert_eq!(store.load().await.unwrap().documents.len(), 2);

    // Keys: unique, an earlier end is kept, only ever shortened, never another tenant's.
    let row = key(1, &tenant);
    store.apply(&ours, vec![Change::AddKey(row.clone())]).await.unwrap();
    assert!(is_conflict(&store.apply(&ours, vec![Change::AddKey(row.clone())]).await), "the same key twice");
    assert!(
        is_conflict(&store.apply(&theirs, vec![Change::AddKey(key(2, &tenant))]).await),
        "inv_tenant: key of another tenant"
    );
    let revoke = |s| Change::RevokeKey { id: row.id, at: Timestamp::from_secs(s) };
    assert!(
        is_conflict(&store.apply(&theirs, vec![revoke(1)]).await),
        "inv_tenant: key revoked by another tenant"
    );
    store.apply(&ours, vec![revoke(2_000), revoke(3_000)]).await.unwrap();
    let shorten = |s| Change::ShortenKey { id: row.id, expires: Timestamp::from_secs(s) };
    store.apply(&ours, vec![shorten(8_000)]).await.unwrap();
    assert!(is_conflict(&store.apply(&ours, vec![shorten(8_001)]).await), "a key's end moved later");
    let before = store.revision().await.unwrap();
    store
        .touch_keys(vec![(row.id, Timestamp::from_secs(1_500)), (row.id, Timestamp::from_secs(1_200))])
        .await
        .unwrap();
    assert_eq!(store.revision().await.unwrap(), before, "last use moved the revision");
    let kept = store.load().await.unwrap().keys.into_iter().next().unwrap();
    assert_eq!(kept.revoked, Some(Timestamp::from_secs(2_000)));
    assert_eq!(
        (kept.expires, kept.last_used),
        (Timestamp::from_secs(8_000), Some(Timestamp::from_secs(1_500)))
    );

    // Epochs never go back.
    let epoch = |s| {
        let row = EpochRow {
            tenant: tenant.clone(),
            kind: EpochKind::Principal,
            name: name("user/alice"),
            not_before: Timestamp::from_secs(s),
        };
        Change::AdvanceEpoch(row)
    };
    store.apply(&ours, vec![epoch(50)]).await.unwrap();
    store.apply(&ours, vec![epoch(40)]).await.unwrap();
    let marks: Vec<_> = store.load().await.unwrap().epochs.into_iter().map(|e| e.not_before).collect();
    assert_eq!(marks, [Timestamp::from_secs(50)]);

    // The claim: the right one, in time, once.
    let claim = |text: &[u8], s| Change::UseClaim { digest: Digest::of(text), now: Timestamp::from_secs(s) };
    assert!(is_conflict(&store.apply(&ours, vec![claim(b"other", 1)]).await), "another claim was taken");
    assert!(
        is_conflict(&store.apply(&ours, vec![claim(b"claim", 5_000)]).await),
        "a claim was taken after its end"
    );
    store.apply(&ours, vec![claim(b"claim", 1)]).await.unwrap();
    assert!(is_conflict(&store.apply(&ours, vec![claim(b"claim", 1)]).await), "a claim was taken twice");
}

/// Runs the suite of the lock store on an empty backend; panics where it differs.
///
/// # Panics
/// Where the backend does not do what the contract says.
#[expect(clippy::unwrap_used, reason = "a test suite: an unexpected error is a failed test")]
pub async fn checkpoints(store: &dyn Checkpoints) {
    let at = |n: u64| (n, Digest::of(&n.to_be_bytes()));
    assert_eq!(store.latest("log").await.unwrap(), None);
    assert!(store.swap("log", None, at(1)).await.unwrap());
    assert!(!store.swap("log", None, at(2)).await.unwrap(), "a second beginning");
    assert!(!store.swap("log", Some(at(2)), at(3)).await.unwrap(), "swapped from what it is not");
    assert!(store.swap("log", Some(at(1)), at(3)).await.unwrap());
    assert_eq!(store.latest("log").await.unwrap(), Some(at(3)));
    assert_eq!(store.latest("other").await.unwrap(), None);
    // Of two who swap from the same, one wins.
    let (one, two) = futures_util::future::join(
        store.swap("log", Some(at(3)), at(4)),
        store.swap("log", Some(at(3)), at(5)),
    )
    .await;
    assert!(one.unwrap() != two.unwrap());
}
