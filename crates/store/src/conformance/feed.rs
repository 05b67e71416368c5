//! The change feed: whoever follows it holds what they would load.

use bartizan_base::Digest;

use super::rows::{at, bundle, claim, delete, epoch, group, key, key_id, put, sealed, side_row, tenant};
use super::{World, apply, founded};
use crate::{
    Change, EpochKind, ROW_BODY_MAX, Row, RowKind, STEP_BYTES_MAX, Since, State, Store as _, StoreError,
};

/// When keys were last used is advisory, and not followed.
pub(super) fn unused(mut state: State) -> State {
    let keys = state.keys.iter().cloned().map(|mut key| {
        key.last_used = None;
        key
    });
    state.keys = keys.collect();
    state
}

/// Follows until there is nothing more; says how many questions that took. None where a step is not kept.
pub(super) async fn follow<W: World>(store: &W::Store, state: &mut State, limit: usize) -> Option<usize> {
    for asked in 1.. {
        match store.changes_since(state.revision, state.mark, limit).await.unwrap() {
            Since::TooOld => return None,
            Since::Steps(steps) if steps.is_empty() => return Some(asked),
            Since::Steps(steps) => {
                assert!(steps.len() <= limit, "{} steps", steps.len());
                steps.iter().for_each(|step| state.follow(step).unwrap());
            }
        }
    }
    None
}

pub async fn what_is_followed_is_what_is_loaded<W: World>(world: &W) {
    let (place, store) = founded(world).await;
    let began = store.load().await.unwrap();
    let t = tenant("default");
    let row = side_row(&t, RowKind::Standing, "s", "");
    let sets = vec![
        vec![
            put(group("staff", "first"), None),
            put(group("gone", ""), None),
            Change::AddKey(key(&t, 1)),
            Change::AddKey(key(&t, 2)),
            Change::AdvanceEpoch(epoch(&t, EpochKind::Principal, "user/alice", 30)),
            Change::PutSealed(sealed(&t, "openai", &[0, 255, 39, 0])),
            Change::PutBundle { bundle: bundle(&t, 1) },
            Change::PutRow { row: row.clone(), expect: None },
            Change::PutRow { row: side_row(&t, RowKind::Session, "ses_1", "prn_1"), expect: None },
        ],
        // With a candidate.
        vec![Change::PutBundle { bundle: bundle(&t, 2) }, put(group("staff", "second"), Some(2))],
        vec![
            Change::RevokeKey { id: key_id(1), at: at(40) },
            Change::ShortenKey { id: key_id(2), expires: at(50) },
            Change::AdvanceEpoch(epoch(&t, EpochKind::Principal, "user/alice", 20)),
            Change::UseClaim { digest: claim().digest, now: at(5) },
        ],
        vec![delete("gone", 2), Change::PutRow { row, expect: Some(1) }],
        vec![],
        vec![Change::DeleteRow { kind: RowKind::Standing, id: "s".to_owned(), expect: 2 }],
    ];
    let many = sets.len();
    let mut each = began.clone();
    for set in sets {
        apply(&store, &t, set).await.unwrap();
        assert_eq!(follow::<W>(&store, &mut each, 1).await, Some(2));
        assert_eq!(each, store.load().await.unwrap());
    }
    let store = world.open(&place).await;
    for (limit, asked) in [(1, many + 1), (4, 3), (100, 2)] {
        let mut followed = began.clone();
        assert_eq!(follow::<W>(&store, &mut followed, limit).await, Some(asked), "at most {limit}");
        assert_eq!(followed, each);
    }
}

pub async fn what_is_not_loaded_is_not_followed<W: World>(world: &W) {
    let (_place, store) = founded(world).await;
    let t = tenant("default");
    let mut state = store.load().await.unwrap();
    let row = side_row(&t, RowKind::Refresh, "r", "prn_1");
    apply(&store, &t, vec![Change::PutRow { row, expect: None }]).await.unwrap();
    assert_eq!(follow::<W>(&store, &mut state, 9).await, Some(1));
    // Together with something that is, it stays out of the step.
    let more = side_row(&t, RowKind::Refresh, "s", "prn_1");
    let set = vec![Change::PutRow { row: more, expect: None }, put(group("staff", ""), None)];
    apply(&store, &t, set).await.unwrap();
    let since = store.changes_since(state.revision, state.mark, 9).await.unwrap();
    assert!(
        matches!(&since, Since::Steps(steps) if steps.len() == 1 && steps[0].writes.len() == 1),
        "{since:?}"
    );
}

pub async fn a_change_set_that_is_refused_is_no_step<W: World>(world: &W) {
    let (_place, store) = founded(world).await;
    let t = tenant("default");
    let mut state = store.load().await.unwrap();
    assert!(apply(&store, &t, vec![put(group("a", ""), None), delete("b", 1)]).await.is_err());
    assert_eq!(follow::<W>(&store, &mut state, 9).await, Some(1));
    assert_eq!(state, store.load().await.unwrap());
}

pub async fn a_step_that_is_too_long_is_loaded_whole<W: World>(world: &W) {
    let (_place, store) = founded(world).await;
    let t = tenant("default");
    let before = store.load().await.unwrap();
    assert_eq!(store.changes_since(0, None, 9).await.unwrap(), Since::TooOld);
    let row = |n: usize| {
        let body = "x".repeat(ROW_BODY_MAX);
        Change::PutRow {
            row: Row { body, ..side_row(&t, RowKind::Standing, &n.to_string(), "") },
            expect: None,
        }
    };
    apply(&store, &t, (0..=STEP_BYTES_MAX / ROW_BODY_MAX).map(row).collect()).await.unwrap();
    let mut after = store.load().await.unwrap();
    apply(&store, &t, vec![put(group("a", ""), None)]).await.unwrap();
    assert_eq!(store.changes_since(before.revision, before.mark, 9).await.unwrap(), Since::TooOld);
    assert_eq!(follow::<W>(&store, &mut after, 9).await, Some(2));
    assert_eq!(after, store.load().await.unwrap());
}

pub async fn attack_13_a_history_that_is_another_is_not_followed<W: World>(world: &W) {
    // One database, and what became of it after it was put back to its founding.
    let ((_one, store), (_other, back)) = (founded(world).await, founded(world).await);
    let t = tenant("default");
    apply(&store, &t, vec![put(group("same", ""), None)]).await.unwrap();
    apply(&back, &t, vec![put(group("same", ""), None)]).await.unwrap();
    let common = store.load().await.unwrap();
    assert_eq!(back.load().await.unwrap(), common, "what happened alike is one history");
    apply(&store, &t, vec![Change::AdvanceEpoch(epoch(&t, EpochKind::Tenant, "default", 31))]).await.unwrap();
    let ours = store.load().await.unwrap();
    let corrupt = |since: &Result<Since, StoreError>| matches!(since, Err(StoreError::Corrupt(_)));
    for n in 0..3 {
        apply(&back, &t, vec![put(group(&format!("g{n}"), ""), None)]).await.unwrap();
        let since = back.changes_since(ours.revision, ours.mark, 9).await;
        assert!(corrupt(&since), "{since:?}");
    }
    let mut followed = common.clone();
    assert!(follow::<W>(&back, &mut followed, 9).await.is_some());
    assert_eq!(followed, back.load().await.unwrap());
    for mark in [None, Some(Digest::of(b"guess"))] {
        let since = store.changes_since(common.revision, mark, 9).await;
        assert!(corrupt(&since), "{since:?}");
    }
}
