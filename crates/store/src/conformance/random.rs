//! Random operations: whatever is done, the backend holds what the reference model holds.

use std::future::Future;

use bartizan_base::Digest;
use bartizan_model::Tenant;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::feed::{follow, unused};
use super::rows::{
    at, bundle, claim, delete, epoch, founding, group, key, key_id, put, sealed, side_row, tenant,
};
use super::{World, apply};
use crate::{Change, EpochKind, KeyRow, RowKind, State, Store as _};

/// Something done to a store. Numbers choose out of few, so that operations meet.
#[derive(Clone, Debug)]
enum Operation {
    Apply(u8, Vec<Draft>),
    Touch(u8, u64),
    Found,
    Reopen,
    /// A copy follows, so many steps at a time.
    Follow(usize),
}

/// A change before it is known what the store holds.
#[derive(Clone, Debug)]
enum Draft {
    Put { name: u8, right: bool },
    Delete { name: u8, right: bool },
    AddKey { number: u8, foreign: bool },
    Revoke { number: u8, at: u64 },
    Shorten { number: u8, to: u64 },
    Epoch { name: u8, mark: u64 },
    Seal { name: u8, byte: u8 },
    Bundle { right: bool },
    Claim { now: u64 },
    Row { name: u8, right: bool },
    DeleteRow { name: u8, right: bool },
}

fn draft() -> impl Strategy<Value = Draft> {
    let right = || prop::bool::weighted(0.9);
    prop_oneof![
        4 => (0..3_u8, right()).prop_map(|(name, right)| Draft::Put { name, right }),
        2 => (0..3_u8, right()).prop_map(|(name, right)| Draft::Delete { name, right }),
        3 => (0..6_u8, prop::bool::weighted(0.05)).prop_map(|(number, foreign)| Draft::AddKey { number, foreign }),
        2 => (0..6_u8, 0..100_u64).prop_map(|(number, at)| Draft::Revoke { number, at }),
        1 => (0..6_u8, 700..950_u64).prop_map(|(number, to)| Draft::Shorten { number, to }),
        2 => (0..3_u8, 0..50_u64).prop_map(|(name, mark)| Draft::Epoch { name, mark }),
        1 => (0..2_u8, any::<u8>()).prop_map(|(name, byte)| Draft::Seal { name, byte }),
        2 => right().prop_map(|right| Draft::Bundle { right }),
        1 => (990..1_010_u64).prop_map(|now| Draft::Claim { now }),
        2 => (0..3_u8, right()).prop_map(|(name, right)| Draft::Row { name, right }),
        1 => (0..3_u8, right()).prop_map(|(name, right)| Draft::DeleteRow { name, right }),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        12 => (0..2_u8, vec(draft(), 0..4)).prop_map(|(tenant, drafts)| Operation::Apply(tenant, drafts)),
        2 => (0..6_u8, 0..100_u64).prop_map(|(number, at)| Operation::Touch(number, at)),
        1 => Just(Operation::Found),
        1 => Just(Operation::Reopen),
        4 => (1..4_usize).prop_map(Operation::Follow),
    ]
}

impl Draft {
    /// The change, fitting `model` where it is meant to.
    fn change(&self, tenant: &Tenant, model: &State) -> Change {
        let letter = |n: u8| char::from(b'a' + n).to_string();
        let changed = |name: &str| {
            let found = model.documents.iter().find(|(t, d, _)| t == tenant && d.name.as_str() == name);
            found.map(|(_, _, revision)| *revision)
        };
        match *self {
            Self::Put { name, right } => {
                let expect = changed(&letter(name));
                let expect = if right { expect } else { Some(expect.unwrap_or(0) + 1) };
                put(group(&letter(name), &model.revision.to_string()), expect)
            }
            Self::Delete { name, right } => {
                delete(&letter(name), changed(&letter(name)).unwrap_or(1) + u64::from(!right))
            }
            Self::AddKey { number, foreign } => {
                // Handles meet before ids do.
                let mut row = key(tenant, number);
                row.handle = format!("handle{}", number % 5);
                if foreign {
                    Change::AddKey(KeyRow { tenant: other(tenant), ..row })
                } else {
                    Change::AddKey(row)
                }
            }
            Self::Revoke { number, at: moment } => Change::RevokeKey { id: key_id(number), at: at(moment) },
            Self::Shorten { number, to } => Change::ShortenKey { id: key_id(number), expires: at(to) },
            Self::Epoch { name, mark } => {
                let kind = if name == 0 { EpochKind::Tenant } else { EpochKind::Principal };
                Change::AdvanceEpoch(epoch(tenant, kind, &letter(name), mark))
            }
            Self::Seal { name, byte } => Change::PutSealed(sealed(tenant, &letter(name), &[byte])),
            Self::Bundle { right } => {
                let present = model.bundles.iter().find(|b| b.tenant == *tenant).map_or(0, |b| b.version);
                Change::PutBundle { bundle: bundle(tenant, present + if right { 1 } else { 2 }) }
            }
            Self::Row { name, right } => {
                let row = side_row(tenant, RowKind::Standing, &letter(name), "");
                let present = model.row(row.kind, &row.id).map(|row| row.version);
                Change::PutRow { row, expect: if right { present } else { Some(present.unwrap_or(0) + 1) } }
            }
            Self::DeleteRow { name, right } => {
                let (kind, id) = (RowKind::Standing, letter(name));
                let present = model.row(kind, &id).map_or(1, |row| row.version);
                Change::DeleteRow { kind, id, expect: present + u64::from(!right) }
            }
            Self::Claim { now } => {
                let digest = if now % 5 == 0 { Digest::of(b"guess") } else { claim().digest };
                Change::UseClaim { digest, now: at(now) }
            }
        }
    }
}

fn other(than: &Tenant) -> Tenant {
    tenant(if than.0.as_str() == "one" { "two" } else { "one" })
}

/// Runs `cases` random histories against a backend and [`State::apply`] side by side: same answers, same state after
/// every step. `run` drives a future to its end.
pub fn random_operations_match_the_model<W: World>(world: &W, cases: u32) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 64, ..Config::default() };
    TestRunner::new(config)
        .run(&vec(operation(), 1..20), |operations| {
            runtime.block_on(boxed(history(world, operations)));
            Ok(())
        })
        .unwrap();
}

fn boxed<'a>(future: impl Future<Output = ()> + 'a) -> std::pin::Pin<Box<dyn Future<Output = ()> + 'a>> {
    Box::pin(future)
}

async fn history<W: World>(world: &W, operations: Vec<Operation>) {
    let place = world.empty().await;
    let mut store = world.open(&place).await;
    let mut model = State::default();
    store.found(founding()).await.unwrap();
    model.found(founding()).unwrap();
    let mut followed = model.clone();
    for operation in operations {
        match operation {
            Operation::Apply(number, drafts) => {
                let tenant = tenant(if number == 0 { "one" } else { "two" });
                let changes: Vec<Change> = drafts.iter().map(|d| d.change(&tenant, &model)).collect();
                let expected = model.apply(&tenant, &changes).map(|_| model.revision);
                let answer = apply(&store, &tenant, changes).await;
                assert_eq!(format!("{answer:?}"), format!("{expected:?}"));
            }
            Operation::Touch(number, moment) => {
                let uses = vec![(key_id(number), at(moment))];
                model.touch_keys(&uses);
                store.touch_keys(uses).await.unwrap();
            }
            Operation::Found => assert!(store.found(founding()).await.is_err()),
            Operation::Reopen => store = world.open(&place).await,
            Operation::Follow(limit) => {
                assert!(follow::<W>(&store, &mut followed, limit).await.is_some());
                assert_eq!(unused(followed.clone()), unused(model.clone()));
            }
        }
        assert_eq!(store.load().await.unwrap(), model);
        assert_eq!(store.revision().await.unwrap(), model.revision);
    }
}
