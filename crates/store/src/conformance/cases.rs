//! The behaviours.

use std::sync::atomic::{AtomicBool, Ordering};

use bartizan_base::{Digest, Timestamp};
use bartizan_model::directory::PrincipalSpec;
use bartizan_model::{Document, PrincipalId, Spec};
use futures_util::future::{join, join_all};

use super::rows::{
    at, bundle, claim, delete, epoch, founding, group, key, key_id, name, put, sealed, side_row, tenant,
};
use super::{World, apply, founded, refuses};
use crate::{
    BundleRow, Change, Checkpoints as _, EpochKind, EpochRow, Founding, KeyRow, ROW_BODY_MAX, ROW_NAME_MAX,
    Row, RowKind, Rows as _, State, Store as _, StoreError,
};

/// How many do a thing at once where only one may succeed.
const RIVALS: u64 = 8;

fn is_conflict<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Conflict(_)))
}

pub async fn an_empty_database_is_at_revision_zero_and_takes_no_changes(world: &impl World) {
    let store = world.open(&world.empty().await).await;
    assert_eq!(store.revision().await.unwrap(), 0);
    assert_eq!(store.load().await.unwrap(), State::default());
    refuses(&store, &tenant("default"), vec![put(group("a", ""), None)]).await;
}

pub async fn founding_happens_once(world: &impl World) {
    let (_place, store) = founded(world).await;
    let state = store.load().await.unwrap();
    assert_eq!((state.revision, &state.recovery), (1, &Some(founding().recovery)));
    assert_eq!(state.claim, Some(claim()));
    let mut other = founding();
    other.recovery = (1, vec!["an intruder's".to_owned()]);
    assert!(is_conflict(&store.found(other).await));
    assert_eq!(store.load().await.unwrap(), state);
}

pub async fn founding_brings_the_first_documents_and_the_first_bundle(world: &impl World) {
    let place = world.empty().await;
    let store = world.open(&place).await;
    let t = tenant("default");
    let documents = vec![(t.clone(), group("staff", "first")), (t.clone(), group("agents", ""))];
    store.found(Founding { documents, bundle: Some(bundle(&t, 1)), ..founding() }).await.unwrap();
    drop(store);
    let store = world.open(&place).await;
    let state = store.load().await.unwrap();
    let expected = vec![(t.clone(), group("agents", ""), 1), (t.clone(), group("staff", "first"), 1)];
    assert_eq!((state.revision, state.documents), (1, expected.into()));
    assert_eq!(state.bundles, [bundle(&t, 1)]);
    apply(
        &store,
        &t,
        vec![put(group("staff", "second"), Some(1)), Change::PutBundle { bundle: bundle(&t, 2) }],
    )
    .await
    .unwrap();
}

pub async fn founding_by_two_at_once_succeeds_for_one(world: &impl World) {
    let place = world.empty().await;
    let (one, two) = (world.open(&place).await, world.open(&place).await);
    let (first, second) = join(one.found(founding()), two.found(founding())).await;
    assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
    assert_eq!(one.revision().await.unwrap(), 1);
}

pub async fn every_kind_of_row_survives_reopening(world: &impl World) {
    let (place, store) = founded(world).await;
    let t = tenant("default");
    let alice = Document {
        name: name("alice"),
        principal: Some(PrincipalId::from_parts(at(3), [7; 10])),
        spec: Spec::User(PrincipalSpec { groups: [name("staff")].into(), ..PrincipalSpec::default() }),
    };
    let mut dead = key(&t, 2);
    dead.revoked = Some(at(20));
    dead.last_used = Some(Timestamp::from_micros(15_000_001));
    dead.expires = Timestamp::MAX;
    let loaded = Row { expires: Some(at(5)), ..side_row(&t, RowKind::SigningKey, "k", "") };
    let changes = vec![
        put(alice.clone(), None),
        put(group("staff", "text with \n, 'quotes' and é"), None),
        Change::AddKey(key(&t, 1)),
        Change::AddKey(dead.clone()),
        Change::AdvanceEpoch(epoch(&t, EpochKind::Principal, "user/alice", 30)),
        Change::AdvanceEpoch(epoch(&t, EpochKind::Tenant, "default", 31)),
        Change::AdvanceEpoch(epoch(&t, EpochKind::Issuer, "corp", 32)),
        Change::AdvanceEpoch(epoch(&t, EpochKind::Session, "ses_1", 33)),
        Change::PutRow { row: loaded.clone(), expect: None },
        Change::PutRow { row: side_row(&t, RowKind::Session, "ses_1", "prn_1"), expect: None },
        Change::PutSealed(sealed(&t, "openai", &[0, 255, 39, 0])),
        Change::PutSealed(sealed(&t, "empty", &[])),
        Change::PutBundle { bundle: bundle(&t, 1) },
    ];
    let expected = State {
        revision: 2,
        mark: None,
        documents: vec![
            (t.clone(), group("staff", "text with \n, 'quotes' and é"), 2),
            (t.clone(), alice, 2),
        ]
        .into(),
        keys: vec![key(&t, 1), dead].into(),
        epochs: vec![
            EpochRow { revision: 2, ..epoch(&t, EpochKind::Principal, "user/alice", 30) },
            EpochRow { revision: 2, ..epoch(&t, EpochKind::Issuer, "corp", 32) },
            EpochRow { revision: 2, ..epoch(&t, EpochKind::Tenant, "default", 31) },
            EpochRow { revision: 2, ..epoch(&t, EpochKind::Session, "ses_1", 33) },
        ]
        .into(),
        sealed: vec![sealed(&t, "empty", &[]), sealed(&t, "openai", &[0, 255, 39, 0])].into(),
        bundles: vec![bundle(&t, 1)].into(),
        recovery: Some(founding().recovery),
        claim: Some(claim()),
        rows: vec![loaded].into(),
        index: Default::default(),
    };
    let mut expected = expected;
    expected.sort();
    assert_eq!(apply(&store, &t, changes).await.unwrap(), 2);
    assert!(store.swap("default/2026", None, (5, Digest::of(b"r"))).await.unwrap());
    let found = store.load().await.unwrap();
    assert_eq!(found, State { mark: found.mark, ..expected });
    drop(store);
    let store = world.open(&place).await;
    assert_eq!(store.load().await.unwrap(), found);
    assert_eq!(store.latest("default/2026").await.unwrap(), Some((5, Digest::of(b"r"))));
}

pub async fn a_change_set_with_one_conflict_changes_nothing(world: &impl World) {
    let (_place, store) = founded(world).await;
    let t = tenant("default");
    apply(&store, &t, vec![put(group("old", "1"), None), Change::AddKey(key(&t, 1))]).await.unwrap();
    let conflicting = Change::PutBundle { bundle: bundle(&t, 7) };
    let good = vec![
        put(group("new", ""), None),
        delete("old", 2),
        Change::AddKey(key(&t, 2)),
        Change::RevokeKey { id: key_id(1), at: at(50) },
        Change::AdvanceEpoch(epoch(&t, EpochKind::Tenant, "default", 9)),
        Change::PutSealed(sealed(&t, "openai", b"x")),
        Change::UseClaim { digest: claim().digest, now: at(1) },
    ];
    // Wherever the conflict stands in the set.
    for place in 0..=good.len() {
        let mut changes = good.clone();
        changes.insert(place, conflicting.clone());
        refuses(&store, &t, changes).await;
    }
    assert_eq!(apply(&store, &t, good).await.unwrap(), 3);
}

pub async fn a_change_set_sees_its_own_earlier_changes(world: &impl World) {
    let (_place, store) = founded(world).await;
    let t = tenant("default");
    refuses(&store, &t, vec![put(group("a", "1"), None), put(group("a", "2"), None)]).await;
    refuses(&store, &t, vec![Change::AddKey(key(&t, 1)), Change::AddKey(key(&t, 1))]).await;
    let changes = vec![
        put(group("a", "1"), None),
        delete("a", 2),
        put(group("a", "2"), None),
        Change::AddKey(key(&t, 1)),
        Change::RevokeKey { id: key_id(1), at: at(40) },
        Change::PutBundle { bundle: bundle(&t, 1) },
        Change::PutBundle { bundle: bundle(&t, 2) },
    ];
    apply(&store, &t, changes).await.unwrap();
    let state = store.load().await.unwrap();
    assert_eq!(state.documents, [(t.clone(), group("a", "2"), 2)]);
    assert_eq!(state.keys.first().unwrap().revoked, Some(at(40)));
    assert_eq!(state.bundles, [bundle(&t, 2)]);
}

pub async fn every_change_set_moves_the_revision_by_one(world: &impl World) {
    let (_place, store) = founded(world).await;
    let t = tenant("default");
    let sets = [
        vec![],
        vec![put(group("a", ""), None), put(group("b", ""), None)],
        vec![Change::AdvanceEpoch(epoch(&t, EpochKind::Tenant, "default", 9))],
        vec![Change::AdvanceEpoch(epoch(&t, EpochKind::Tenant, "default", 8))],
    ];
    for (set, revision) in sets.into_iter().zip(2..) {
        assert_eq!(apply(&store, &t, set).await.unwrap(), revision);
        assert_eq!(store.revision().await.unwrap(), revision);
    }
}

pub async fn a_document_put_on_a_stale_revision_is_refused(world: &impl World) {
    let (_place, store) = founded(world).await;
    let t = tenant("default");
    refuses(&store, &t, vec![put(group("a", "1"), Some(1))]).await;
    apply(&store, &t, vec![put(group("a", "1"), None)]).await.unwrap();
    apply(&store, &t, vec![put(group("a", "2"), Some(2))]).await.unwrap();
    for expect in [None, Some(1), Some(2), Some(4), Some(u64::MAX)] {
        refuses(&store, &t, vec![put(group("a", "lost update"), expect)]).await;
    }
    apply(&store, &t, vec![put(group("a", "3"), Some(3))]).await.unwrap();
    assert_eq!(store.load().await.unwrap().documents, [(t, group("a", "3"), 4)]);
}

pub async fn a_document_deleted_on_a_stale_revision_is_refused(world: &impl World) {
    let (_place, store) = founded(world).await;
    let t = tenant("default");
    apply(&store, &t, vec![put(group("a", "1"), None)]).await.unwrap();
    apply(&store, &t, vec![put(group("a", "2"), Some(2))]).await.unwrap();
    refuses(&store, &t, vec![delete("a", 2)]).await;
    refuses(&store, &t, vec![delete("b", 3)]).await;
    apply(&store, &t, vec![delete("a", 3)]).await.unwrap();
    refuses(&store, &t, vec![delete("a", 3)]).await;
    assert_eq!(store.load().await.unwrap().documents, []);
}

pub async fn concurrent_puts_on_one_revision_succeed_once(world: &impl World) {
    let (place, store) = founded(world).await;
    let (t, other) = (tenant("default"), world.open(&place).await);
    apply(&store, &t, vec![put(group("a", "0"), None)]).await.unwrap();
    let results = join_all((0..RIVALS).map(|n| {
        let through = if n % 2 == 0 { &store } else { &other };
        apply(through, &t, vec![put(group("a", &n.to_string()), Some(2))])
    }))
    .await;
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1, "{results:?}");
    assert!(results.iter().all(|r| r.is_ok() || is_conflict(r)), "{results:?}");
    let winner = results.iter().position(Result::is_ok).unwrap().to_string();
    assert_eq!(other.load().await.unwrap().documents, [(t, group("a", &winner), 3)]);
}

pub async fn concurrent_change_sets_apply_one_after_the_other(world: &impl World) {
    let (place, store) = founded(world).await;
    let (t, other) = (tenant("default"), world.open(&place).await);
    let results = join_all((0..RIVALS).map(|n| {
        let through = if n % 2 == 0 { &store } else { &other };
        apply(through, &t, vec![put(group(&format!("g{n}"), ""), None)])
    }))
    .await;
    let mut revisions: Vec<u64> = results.into_iter().map(Result::unwrap).collect();
    let state = store.load().await.unwrap();
    for (n, revision) in revisions.iter().enumerate() {
        let expected = (t.clone(), group(&format!("g{n}"), ""), *revision);
        assert!(state.documents.iter().any(|row| *row == expected));
    }
    revisions.sort_unstable();
    assert_eq!(revisions, (2..2 + RIVALS).collect::<Vec<_>>());
    assert_eq!(state.revision, 1 + RIVALS);
}

pub async fn a_load_sees_one_revision(world: &impl World) {
    let (place, store) = founded(world).await;
    let (t, other) = (tenant("default"), world.open(&place).await);
    let is_done = AtomicBool::new(false);
    // Document, epoch and bundle always say the same number.
    let write = async {
        for n in 1..=20 {
            let changes = vec![
                put(group("a", &n.to_string()), (n > 1).then_some(n)),
                Change::AdvanceEpoch(epoch(&t, EpochKind::Tenant, "default", n)),
                Change::PutBundle { bundle: bundle(&t, n) },
            ];
            apply(&store, &t, changes).await.unwrap();
        }
        is_done.store(true, Ordering::SeqCst);
    };
    let read = async {
        let mut revision = 1;
        while revision < 21 || !is_done.load(Ordering::SeqCst) {
            let state = other.load().await.unwrap();
            assert!(state.revision >= revision, "{} after {revision}", state.revision);
            revision = state.revision;
            if let Some(n) = revision.checked_sub(1).filter(|n| *n > 0) {
                assert_eq!(state.documents, [(t.clone(), group("a", &n.to_string()), revision)]);
                assert_eq!(
                    state.epochs,
                    [EpochRow { revision, ..epoch(&t, EpochKind::Tenant, "default", n) }]
                );
                assert_eq!(state.bundles, [bundle(&t, n)]);
            }
        }
    };
    join(write, read).await;
}

pub async fn inv_tenant_rows_of_another_tenant_are_refused(world: &impl World) {
    let (_place, store) = founded(world).await;
    let (ours, theirs) = (tenant("ours"), tenant("theirs"));
    let changes = vec![
        put(group("a", "ours"), None),
        Change::AddKey(key(&ours, 1)),
        Change::AdvanceEpoch(epoch(&ours, EpochKind::Tenant, "ours", 5)),
        Change::PutSealed(sealed(&ours, "openai", b"ours")),
        Change::PutBundle { bundle: bundle(&ours, 1) },
    ];
    apply(&store, &ours, changes).await.unwrap();
    for attack in [
        delete("a", 2),
        put(group("a", "theirs"), Some(2)),
        Change::AddKey(key(&ours, 2)),
        // Another tenant's id, handle or digest is taken, too: keys are found without knowing the tenant.
        Change::AddKey(KeyRow { handle: key(&ours, 1).handle, ..key(&theirs, 3) }),
        Change::AddKey(KeyRow { digest: key(&ours, 1).digest, ..key(&theirs, 3) }),
        Change::AddKey(key(&theirs, 1)),
        Change::RevokeKey { id: key_id(1), at: at(1) },
        Change::ShortenKey { id: key_id(1), expires: at(1) },
        Change::AdvanceEpoch(epoch(&ours, EpochKind::Tenant, "ours", 99)),
        Change::PutSealed(sealed(&ours, "openai", b"theirs")),
        Change::PutBundle { bundle: bundle(&ours, 2) },
    ] {
        refuses(&store, &theirs, vec![attack]).await;
    }
}

pub async fn inv_tenant_equal_names_in_two_tenants_are_two_things(world: &impl World) {
    let (_place, store) = founded(world).await;
    let (a, b) = (tenant("a"), tenant("b"));
    for t in [&a, &b] {
        let changes = vec![
            put(group("same", t.0.as_str()), None),
            Change::AdvanceEpoch(epoch(t, EpochKind::Issuer, "same", 5)),
            Change::PutSealed(sealed(t, "same", t.0.as_bytes())),
            Change::PutBundle { bundle: bundle(t, 1) },
        ];
        apply(&store, t, changes).await.unwrap();
    }
    let changes = vec![
        delete("same", 3),
        Change::AdvanceEpoch(epoch(&b, EpochKind::Issuer, "same", 6)),
        Change::PutSealed(sealed(&b, "same", b"new")),
        Change::PutBundle { bundle: bundle(&b, 2) },
    ];
    apply(&store, &b, changes).await.unwrap();
    let state = store.load().await.unwrap();
    assert_eq!(state.documents, [(a.clone(), group("same", "a"), 2)]);
    assert_eq!(
        state.epochs,
        [
            EpochRow { revision: 2, ..epoch(&a, EpochKind::Issuer, "same", 5) },
            EpochRow { revision: 4, ..epoch(&b, EpochKind::Issuer, "same", 6) }
        ]
    );
    assert_eq!(state.sealed, [sealed(&a, "same", b"a"), sealed(&b, "same", b"new")]);
    assert_eq!(state.bundles, [bundle(&a, 1), bundle(&b, 2)]);
}

pub async fn a_key_with_a_known_id_handle_or_digest_is_refused(world: &impl World) {
    let (_place, store) = founded(world).await;
    let t = tenant("default");
    apply(&store, &t, vec![Change::AddKey(key(&t, 1))]).await.unwrap();
    let (known, fresh) = (key(&t, 1), key(&t, 2));
    for twin in [
        KeyRow { id: known.id, ..fresh.clone() },
        KeyRow { handle: known.handle, ..fresh.clone() },
        KeyRow { digest: known.digest, ..fresh.clone() },
    ] {
        refuses(&store, &t, vec![Change::AddKey(twin)]).await;
    }
    apply(&store, &t, vec![Change::AddKey(fresh)]).await.unwrap();
}

pub async fn revoking_a_key_keeps_the_earlier_end(world: &impl World) {
    let (_place, store) = founded(world).await;
    let t = tenant("default");
    refuses(&store, &t, vec![Change::RevokeKey { id: key_id(1), at: at(50) }]).await;
    apply(&store, &t, vec![Change::AddKey(key(&t, 1)), Change::AddKey(key(&t, 2))]).await.unwrap();
    for (revoked, stays) in [(50, 50), (60, 50), (40, 40), (u64::MAX, 40)] {
        apply(&store, &t, vec![Change::RevokeKey { id: key_id(1), at: at(revoked) }]).await.unwrap();
        let state = store.load().await.unwrap();
        assert_eq!(state.keys, [KeyRow { revoked: Some(at(stays)), ..key(&t, 1) }, key(&t, 2)]);
    }
}

pub async fn shortening_a_key_never_lengthens_it(world: &impl World) {
    let (_place, store) = founded(world).await;
    let t = tenant("default");
    let shorten = |expires| vec![Change::ShortenKey { id: key_id(1), expires: at(expires) }];
    refuses(&store, &t, shorten(1)).await;
    apply(&store, &t, vec![Change::AddKey(key(&t, 1))]).await.unwrap();
    refuses(&store, &t, shorten(901)).await;
    apply(&store, &t, shorten(900)).await.unwrap();
    apply(&store, &t, shorten(300)).await.unwrap();
    refuses(&store, &t, shorten(301)).await;
    assert_eq!(store.load().await.unwrap().keys, [KeyRow { expires: at(300), ..key(&t, 1) }]);
}

pub async fn touching_a_key_is_monotonic_and_keeps_the_revision(world: &impl World) {
    let (_place, store) = founded(world).await;
    let t = tenant("default");
    apply(&store, &t, vec![Change::AddKey(key(&t, 1)), Change::AddKey(key(&t, 2))]).await.unwrap();
    store.touch_keys(vec![]).await.unwrap();
    for (used, stays) in [(50, 50), (40, 50), (60, 60)] {
        store.touch_keys(vec![(key_id(1), at(used)), (key_id(9), at(used))]).await.unwrap();
        let state = store.load().await.unwrap();
        assert_eq!(state.revision, 2);
        assert_eq!(state.keys, [KeyRow { last_used: Some(at(stays)), ..key(&t, 1) }, key(&t, 2)]);
    }
    // A change of the key loses nothing of it.
    apply(&store, &t, vec![Change::RevokeKey { id: key_id(1), at: at(70) }]).await.unwrap();
    assert_eq!(store.load().await.unwrap().keys.first().unwrap().last_used, Some(at(60)));
}

pub async fn an_epoch_never_goes_back(world: &impl World) {
    let (_place, store) = founded(world).await;
    let t = tenant("default");
    // The revision moves also where the mark stays: the clock that set it may have gone before the others.
    for (mark, stays, revision) in [(50, 50, 2), (40, 50, 3), (0, 50, 4), (50, 50, 5), (60, 60, 6)] {
        let change = Change::AdvanceEpoch(epoch(&t, EpochKind::Principal, "user/alice", mark));
        apply(&store, &t, vec![change]).await.unwrap();
        let state = store.load().await.unwrap();
        let moved = EpochRow { revision, ..epoch(&t, EpochKind::Principal, "user/alice", stays) };
        assert_eq!(state.epochs, [moved]);
    }
}

pub async fn a_bundle_follows_the_one_in_force(world: &impl World) {
    let (_place, store) = founded(world).await;
    let t = tenant("default");
    let put = |version| vec![Change::PutBundle { bundle: bundle(&t, version) }];
    refuses(&store, &t, put(0)).await;
    refuses(&store, &t, put(2)).await;
    apply(&store, &t, put(1)).await.unwrap();
    refuses(&store, &t, put(1)).await;
    refuses(&store, &t, put(u64::MAX)).await;
    apply(&store, &t, put(2)).await.unwrap();
    assert_eq!(store.load().await.unwrap().bundles, [bundle(&t, 2)]);
    // A version may be left out, the base may not be another.
    let ahead = |base| vec![Change::PutBundle { bundle: BundleRow { base, ..bundle(&t, 9) } }];
    refuses(&store, &t, ahead(1)).await;
    apply(&store, &t, ahead(2)).await.unwrap();
    refuses(&store, &t, vec![Change::PutBundle { bundle: BundleRow { base: 9, ..bundle(&t, 9) } }]).await;
}

pub async fn every_bundle_that_was_in_force_is_kept(world: &impl World) {
    let (place, store) = founded(world).await;
    let (t, other) = (tenant("default"), tenant("other"));
    for version in 1..=3 {
        apply(&store, &t, vec![Change::PutBundle { bundle: bundle(&t, version) }]).await.unwrap();
    }
    refuses(&store, &t, vec![Change::PutBundle { bundle: bundle(&t, 9) }]).await;
    drop(store);
    let store = world.open(&place).await;
    for version in 1..=3 {
        let row = bundle(&t, version);
        assert_eq!(store.bundle(&t, version).await.unwrap(), Some(row.clone()));
        // The same by content, also of one that was only tried.
        let contents = [Some((row.digest, row.files)), row.candidate.map(|c| (c.digest, c.files))];
        for (digest, files) in contents.into_iter().flatten() {
            assert_eq!(store.bundle_files(&t, digest).await.unwrap(), Some(files));
            assert_eq!(store.bundle_files(&other, digest).await.unwrap(), None);
        }
    }
    for (of, version) in [(&t, 0), (&t, 4), (&t, 9), (&other, 1)] {
        assert_eq!(store.bundle(of, version).await.unwrap(), None);
    }
}

pub async fn a_claim_is_used_once(world: &impl World) {
    let (place, store) = founded(world).await;
    let t = tenant("default");
    let claim_use = || vec![Change::UseClaim { digest: claim().digest, now: at(999) }];
    apply(&store, &t, claim_use()).await.unwrap();
    assert_eq!(store.load().await.unwrap().claim, None);
    refuses(&store, &t, claim_use()).await;
    drop(store);
    refuses(&world.open(&place).await, &t, claim_use()).await;
}

pub async fn a_claim_that_ran_out_or_is_another_is_refused(world: &impl World) {
    let (_place, store) = founded(world).await;
    let t = tenant("default");
    for (digest, now) in
        [(claim().digest, at(1_000)), (claim().digest, at(1_001)), (Digest::of(b"guess"), at(1))]
    {
        refuses(&store, &t, vec![Change::UseClaim { digest, now }]).await;
    }
}

pub async fn concurrent_uses_of_a_claim_succeed_once(world: &impl World) {
    let (place, store) = founded(world).await;
    let (t, other) = (tenant("default"), world.open(&place).await);
    let results = join_all((0..RIVALS).map(|n| {
        let through = if n % 2 == 0 { &store } else { &other };
        let who = group(&format!("administrator{n}"), "");
        apply(through, &t, vec![Change::UseClaim { digest: claim().digest, now: at(1) }, put(who, None)])
    }))
    .await;
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1, "{results:?}");
    assert_eq!(store.load().await.unwrap().documents.len(), 1);
}

pub async fn rows_are_found_by_id_and_by_whom_they_belong_to(world: &impl World) {
    let (place, store) = founded(world).await;
    let t = tenant("default");
    let rows = ["b", "a", "C"].map(|id| side_row(&t, RowKind::Session, id, "alice"));
    let other = side_row(&t, RowKind::Session, "d", "bob");
    let put = rows.iter().chain([&other]).map(|row| Change::PutRow { row: row.clone(), expect: None });
    apply(&store, &t, put.collect()).await.unwrap();
    drop(store);
    let store = world.open(&place).await;
    let [b, a, c] = rows;
    assert_eq!(store.row(RowKind::Session, "a").await.unwrap(), Some(a.clone()));
    assert_eq!(store.row(RowKind::Grant, "a").await.unwrap(), None);
    assert_eq!(store.row(RowKind::Session, "A").await.unwrap(), None);
    let of =
        async |owner, after, limit| store.rows_of(&t, RowKind::Session, owner, after, limit).await.unwrap();
    assert_eq!(of("alice", "", 9).await, [c.clone(), a.clone(), b.clone()]);
    assert_eq!(of("alice", "C", 1).await, std::slice::from_ref(&a));
    assert_eq!(of("", "", 9).await, []);
    let all = store.rows(&t, RowKind::Session, "a", 9).await.unwrap();
    assert_eq!(all, [b, other]);
    let nobody = tenant("nobody");
    assert_eq!(store.rows_of(&nobody, RowKind::Session, "alice", "", 9).await.unwrap(), []);
    assert_eq!(store.rows(&nobody, RowKind::Session, "", 9).await.unwrap(), []);
}

pub async fn a_row_changes_only_from_the_version_that_was_read(world: &impl World) {
    let (_place, store) = founded(world).await;
    let t = tenant("default");
    let row = side_row(&t, RowKind::Grant, "g", "alice");
    let put = |body: &str, expect| {
        vec![Change::PutRow { row: Row { body: body.to_owned(), ..row.clone() }, expect }]
    };
    let gone = |expect| vec![Change::DeleteRow { kind: RowKind::Grant, id: "g".to_owned(), expect }];
    refuses(&store, &t, put("1", Some(0))).await;
    refuses(&store, &t, gone(1)).await;
    apply(&store, &t, put("1", None)).await.unwrap();
    apply(&store, &t, put("2", Some(1))).await.unwrap();
    for expect in [None, Some(0), Some(1), Some(3), Some(u64::MAX)] {
        refuses(&store, &t, put("lost update", expect)).await;
    }
    refuses(&store, &t, gone(1)).await;
    let now = store.row(RowKind::Grant, "g").await.unwrap().unwrap();
    assert_eq!((now.version, now.body.as_str()), (2, "2"));
    apply(&store, &t, gone(2)).await.unwrap();
    assert_eq!(store.row(RowKind::Grant, "g").await.unwrap(), None);
}

pub async fn a_row_is_used_once_by_however_many(world: &impl World) {
    let (place, store) = founded(world).await;
    let (t, other) = (tenant("default"), world.open(&place).await);
    let code = Change::PutRow { row: side_row(&t, RowKind::Code, "c", ""), expect: None };
    apply(&store, &t, vec![code]).await.unwrap();
    let results = join_all((0..RIVALS).map(|n| {
        let through = if n % 2 == 0 { &store } else { &other };
        let used = Change::DeleteRow { kind: RowKind::Code, id: "c".to_owned(), expect: 1 };
        let token = side_row(&t, RowKind::Refresh, &format!("r{n}"), "");
        apply(through, &t, vec![used, Change::PutRow { row: token, expect: None }])
    }))
    .await;
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1, "{results:?}");
    assert_eq!(store.rows(&t, RowKind::Refresh, "", 99).await.unwrap().len(), 1);
}

pub async fn a_new_row_is_put_by_one_of_however_many(world: &impl World) {
    let (place, store) = founded(world).await;
    let (t, other) = (tenant("default"), world.open(&place).await);
    for round in 0..4 {
        let id = format!("j{round}");
        let results = join_all((0..RIVALS).map(|n| {
            let through = if n % 2 == 0 { &store } else { &other };
            let used = side_row(&t, RowKind::Used, &id, &n.to_string());
            apply(through, &t, vec![Change::PutRow { row: used, expect: None }])
        }))
        .await;
        let won: Vec<usize> = (0..results.len()).filter(|n| results[*n].is_ok()).collect();
        assert_eq!(won.len(), 1, "{results:?}");
        assert!(results.iter().all(|r| matches!(r, Ok(_) | Err(StoreError::Conflict(_)))), "{results:?}");
        let kept = store.row(RowKind::Used, &id).await.unwrap().unwrap();
        assert_eq!((kept.owner, kept.version), (won[0].to_string(), 1), "the one who was told so");
    }
}

pub async fn rows_and_the_state_change_together_or_not_at_all(world: &impl World) {
    let (place, store) = founded(world).await;
    let (t, other) = (tenant("default"), world.open(&place).await);
    let code = Change::PutRow { row: side_row(&t, RowKind::Code, "c", ""), expect: None };
    apply(&store, &t, vec![code]).await.unwrap();
    // Some use the row up alone, some together with a change of the state.
    let results = join_all((0..RIVALS).map(|n| {
        let through = if n % 2 == 0 { &store } else { &other };
        let mut changes = vec![Change::DeleteRow { kind: RowKind::Code, id: "c".to_owned(), expect: 1 }];
        if n % 3 == 0 {
            changes.push(put(group(&format!("g{n}"), ""), None));
        }
        apply(through, &t, changes)
    }))
    .await;
    let won: Vec<usize> = (0..results.len()).filter(|n| results[*n].is_ok()).collect();
    assert_eq!(won.len(), 1, "{results:?}");
    assert_eq!(store.load().await.unwrap().documents.len(), usize::from(won[0].is_multiple_of(3)));
}

pub async fn rows_move_the_revision_only_where_every_node_holds_them(world: &impl World) {
    let (_place, store) = founded(world).await;
    let t = tenant("default");
    let put = |kind: RowKind| Change::PutRow { row: side_row(&t, kind, "x", ""), expect: None };
    for kind in RowKind::ALL {
        let before = store.revision().await.unwrap();
        let after = apply(&store, &t, vec![put(*kind)]).await.unwrap();
        assert_eq!(after, before + u64::from(kind.is_loaded()), "{kind:?}");
        assert_eq!(store.revision().await.unwrap(), after);
    }
    let loaded = store.load().await.unwrap().rows;
    assert!(loaded.iter().all(|row| row.kind.is_loaded()) && !loaded.is_empty());
    // With anything else in the set it moves.
    let changes = vec![
        Change::DeleteRow { kind: RowKind::Code, id: "x".to_owned(), expect: 1 },
        Change::AdvanceEpoch(epoch(&t, EpochKind::Grant, "g", 5)),
    ];
    let before = store.revision().await.unwrap();
    assert_eq!(apply(&store, &t, changes).await.unwrap(), before + 1);
}

pub async fn rows_that_are_over_are_swept_and_no_others(world: &impl World) {
    let (_place, store) = founded(world).await;
    let t = tenant("default");
    let row = |kind, id: &str, expires| Row { expires, ..side_row(&t, kind, id, "") };
    let rows = [
        row(RowKind::Code, "over", Some(at(9))),
        row(RowKind::Code, "over too", Some(at(9))),
        row(RowKind::Code, "just now", Some(at(10))),
        row(RowKind::Session, "for ever", None),
        row(RowKind::SigningKey, "loaded", Some(at(9))),
    ];
    let put = rows.iter().map(|row| Change::PutRow { row: row.clone(), expect: None });
    apply(&store, &t, put.collect()).await.unwrap();
    let revision = store.revision().await.unwrap();
    assert_eq!(store.sweep(at(10), 1).await.unwrap(), 1);
    assert_eq!(store.sweep(at(10), 99).await.unwrap(), 1);
    assert_eq!(store.sweep(at(10), 99).await.unwrap(), 0);
    assert_eq!(store.revision().await.unwrap(), revision);
    for kept in &rows[2..] {
        assert_eq!(store.row(kept.kind, &kept.id).await.unwrap().as_ref(), Some(kept));
    }
}

pub async fn a_row_without_an_id_or_beyond_its_bounds_is_refused(world: &impl World) {
    let (_place, store) = founded(world).await;
    let t = tenant("default");
    let row = side_row(&t, RowKind::Login, "l", "");
    for bad in [
        Row { id: String::new(), ..row.clone() },
        Row { id: "x".repeat(ROW_NAME_MAX + 1), ..row.clone() },
        Row { owner: "x".repeat(ROW_NAME_MAX + 1), ..row.clone() },
        Row { body: "x".repeat(ROW_BODY_MAX + 1), ..row.clone() },
    ] {
        refuses(&store, &t, vec![Change::PutRow { row: bad, expect: None }]).await;
    }
    let largest = Row { id: "x".repeat(ROW_NAME_MAX), body: "x".repeat(ROW_BODY_MAX), ..row };
    apply(&store, &t, vec![Change::PutRow { row: largest, expect: None }]).await.unwrap();
}

pub async fn inv_tenant_a_row_of_another_tenant_is_neither_replaced_nor_removed(world: &impl World) {
    let (_place, store) = founded(world).await;
    let (ours, theirs) = (tenant("ours"), tenant("theirs"));
    let row = side_row(&ours, RowKind::Passkey, "p", "alice");
    apply(&store, &ours, vec![Change::PutRow { row: row.clone(), expect: None }]).await.unwrap();
    for attack in [
        Change::PutRow { row: row.clone(), expect: Some(1) },
        Change::PutRow { row: Row { tenant: theirs.clone(), ..row.clone() }, expect: Some(1) },
        Change::PutRow { row: Row { tenant: theirs.clone(), ..row.clone() }, expect: None },
        Change::DeleteRow { kind: RowKind::Passkey, id: "p".to_owned(), expect: 1 },
    ] {
        refuses(&store, &theirs, vec![attack]).await;
    }
    assert_eq!(store.row(RowKind::Passkey, "p").await.unwrap(), Some(row));
}

pub async fn a_loaded_state_is_in_order(world: &impl World) {
    let (_place, store) = founded(world).await;
    // The order of code points, whatever the database's collation: capitals before small letters.
    for t in ["b", "B", "a"].map(tenant) {
        let mut changes: Vec<Change> =
            ["z", "A", "a_1", "a-1"].map(|g| put(group(g, ""), None)).into_iter().collect();
        changes.extend(["z", "Z"].map(|s| Change::PutSealed(sealed(&t, s, b""))));
        changes.push(Change::PutBundle { bundle: bundle(&t, 1) });
        apply(&store, &t, changes).await.unwrap();
    }
    let state = store.load().await.unwrap();
    let mut sorted = state.clone();
    sorted.sort();
    assert_eq!(state, sorted);
    let names: Vec<&str> = state.documents.iter().map(|(_, d, _)| d.name.as_str()).collect();
    assert_eq!(names, ["A", "a-1", "a_1", "z"].repeat(3));
}

pub async fn inv_ack_a_checkpoint_moves_only_from_the_latest(world: &impl World) {
    let (place, store) = founded(world).await;
    let root = |n: u8| Digest::of(&[n]);
    assert_eq!(store.latest("log").await.unwrap(), None);
    assert!(!store.swap("log", Some((1, root(1))), (2, root(2))).await.unwrap());
    assert!(store.swap("log", None, (1, root(1))).await.unwrap());
    assert!(!store.swap("log", None, (1, root(1))).await.unwrap());
    assert!(store.swap("log", Some((1, root(1))), (3, root(3))).await.unwrap());
    for stale in [None, Some((1, root(1))), Some((3, root(1))), Some((2, root(3)))] {
        assert!(!store.swap("log", stale, (4, root(4))).await.unwrap(), "{stale:?}");
    }
    assert!(store.swap("other log", None, (0, root(0))).await.unwrap());
    drop(store);
    let store = world.open(&place).await;
    assert_eq!(store.latest("log").await.unwrap(), Some((3, root(3))));
    assert_eq!(store.latest("other log").await.unwrap(), Some((0, root(0))));
}

pub async fn inv_ack_a_checkpoint_never_shrinks_or_changes_its_root(world: &impl World) {
    let (_place, store) = founded(world).await;
    let root = |n: u8| Digest::of(&[n]);
    assert!(store.swap("log", None, (5, root(5))).await.unwrap());
    for bad in [(4, root(4)), (5, root(6)), (0, root(0))] {
        assert!(is_conflict(&store.swap("log", Some((5, root(5))), bad).await), "{bad:?}");
    }
    assert!(store.swap("log", Some((5, root(5))), (5, root(5))).await.unwrap());
    assert_eq!(store.latest("log").await.unwrap(), Some((5, root(5))));
}

pub async fn inv_ack_concurrent_swaps_succeed_once(world: &impl World) {
    let (place, store) = founded(world).await;
    let other = world.open(&place).await;
    let mut latest = None;
    // The first round races to create the row, the second to replace it.
    for round in 1..=2 {
        let swapped = join_all((0..RIVALS).map(|n| {
            let through = if n % 2 == 0 { &store } else { &other };
            through.swap("log", latest, (round, Digest::of(&n.to_be_bytes())))
        }))
        .await;
        let winners: Vec<usize> = swapped
            .iter()
            .enumerate()
            .filter_map(|(n, swapped)| swapped.as_ref().unwrap().then_some(n))
            .collect();
        assert_eq!(winners.len(), 1, "{swapped:?}");
        latest = Some((round, Digest::of(&u64::try_from(winners[0]).unwrap().to_be_bytes())));
        assert_eq!(other.latest("log").await.unwrap(), latest);
    }
}
