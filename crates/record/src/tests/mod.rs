//! Tests of the recorder as a whole, through `PermitParts`: only `decide` makes permits.

mod crash;
mod faults;
mod insider;
mod ledger;
mod operator;
mod process;
mod records;
mod remove;
mod speed;
mod syscalls;
mod twin;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bartizan_base::time::ManualClock;
use bartizan_base::{Digest, Name, Timestamp};
use bartizan_decide::{PermitParts, Refused};
use bartizan_ledger::leaf_hash;
use bartizan_model::action::{ModelCall, ReadLedger};
use bartizan_model::record::{Body, Grounds, Record, VerdictKind, What, Who};
use bartizan_model::{
    Action, CredentialKind, DecisionId, EntityRef, NodeId, Obligations, PrincipalId, PrincipalKind,
    ReasonCode, Target, Tenant,
};
use bartizan_secret::Secret;

use crate::sim::SimDisk;
use crate::{Config, IntentRecorded, OpenError, RecordError, Recorder};

/// 2026-11-20T08:00:00Z.
fn start() -> Timestamp {
    Timestamp::from_secs(1_795_161_600)
}

pub(crate) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(start()))
}

fn node() -> NodeId {
    NodeId::from_parts(start(), [7; 10])
}

pub(crate) fn config() -> Config {
    let seed = Secret::new([5; 32]);
    Config {
        segment_bytes: 4_096,
        ..Config::new(PathBuf::from("/data"), node(), "log.example".to_owned(), seed, "0.1.0".to_owned())
    }
}

async fn open_at(disk: &SimDisk, clock: &Arc<ManualClock>) -> Result<Recorder, OpenError> {
    Recorder::open(config(), clock.clone(), Arc::new(disk.clone()), Arc::new(disk.clone())).await
}

async fn open(disk: &SimDisk) -> Recorder {
    open_at(disk, &clock()).await.unwrap()
}

fn tenant(name: &'static str) -> Tenant {
    Tenant(Name::literal(name))
}

pub(crate) fn id(n: u64) -> DecisionId {
    let [.., a, b] = n.to_be_bytes();
    DecisionId::from_parts(start().saturating_add(Duration::from_millis(n)), [a, b, 0, 0, 0, 0, 0, 0, 0, 0])
}

fn who() -> Who {
    Who {
        subject: PrincipalId::from_parts(start(), [1; 10]),
        subject_kind: PrincipalKind::User,
        actors: Vec::new(),
        credential: CredentialKind::ApiKey,
        key: None,
        issuer: None,
        assurance: 1,
    }
}

pub(crate) fn what() -> What {
    What {
        action: Action::ModelInvoke,
        resource: EntityRef::new(Name::literal("Model"), Name::literal("gpt-4o")),
        dialect: "openai.chat".to_owned(),
        bytes: 1_234,
        body: Digest::of(b"body"),
    }
}

fn grounds() -> Grounds {
    Grounds {
        rules: vec![Name::literal("everybody-may")],
        policy: Digest::of(b"policy"),
        slice: Digest::of(b"slice"),
        context: Digest::of(b"context"),
        engine: Name::literal("cedar-4.14.1"),
    }
}

fn parts_of(tenant: Tenant, n: u64) -> PermitParts {
    PermitParts {
        id: id(n),
        tenant,
        who: who(),
        what: what(),
        grounds: grounds(),
        obligations: Obligations::none(),
        expires: Timestamp::MAX,
        uses: Vec::new(),
    }
}

fn parts(n: u64) -> PermitParts {
    parts_of(Tenant::default_tenant(), n)
}

pub(crate) fn refused(n: u64) -> Refused {
    Refused {
        id: id(n),
        tenant: Tenant::default_tenant(),
        who: who(),
        what: Some(what()),
        verdict: VerdictKind::Deny,
        reasons: vec![ReasonCode::NoMatchingPermit],
        offers: Vec::new(),
        holds: Vec::new(),
        grounds: Some(grounds()),
        discoverable: true,
    }
}

async fn intend(recorder: &Recorder, parts: PermitParts) -> Result<IntentRecorded<ModelCall>, RecordError> {
    recorder.intend_parts(parts, Target::House).await
}

/// Leave to read a tenant's ledger; recorded in another tenant's name would be another leave.
async fn reader(recorder: &Recorder, tenant: Tenant, n: u64) -> IntentRecorded<ReadLedger> {
    recorder.intend_parts(parts_of(tenant, n), Target::House).await.unwrap()
}

/// Everything that is sealed on a disk, by number, straight from the files.
fn sealed(disk: &SimDisk) -> BTreeMap<u64, Record> {
    let mut out = BTreeMap::new();
    let logs: Vec<PathBuf> = disk
        .files()
        .into_keys()
        .filter(|p| p.ends_with("checkpoint"))
        .map(|p| p.parent().unwrap().into())
        .collect();
    for folder in logs {
        out.extend(entries(disk, &folder).iter().map(|e| {
            let record: Record = serde_json::from_slice(e).unwrap();
            (record.seq, record)
        }));
    }
    out
}

/// The entries that the published checkpoint of a log folder covers, with the root checked.
fn entries(disk: &SimDisk, folder: &Path) -> Vec<Vec<u8>> {
    let files = disk.files();
    let checkpoint = String::from_utf8(files[&folder.join("checkpoint")].clone()).unwrap();
    let size: u64 = checkpoint.lines().nth(1).unwrap().parse().unwrap();
    let mut out = Vec::new();
    for tile in bartizan_ledger::tiles_for(size).into_iter().filter(|t| t.level.is_none()) {
        let full = bartizan_ledger::Tile { width: 256, ..tile };
        let bytes =
            files.get(&folder.join(tile.path())).or_else(|| files.get(&folder.join(full.path()))).unwrap();
        let bundle = bartizan_ledger::bundle_entries(bytes).unwrap();
        out.extend(bundle.into_iter().take(tile.width.into()).map(<[u8]>::to_vec));
    }
    let leaves: Vec<Digest> = out.iter().map(|e| leaf_hash(e)).collect();
    let root = bartizan_ledger::root_of(&leaves);
    let key: bartizan_ledger::VerifierKey = verifier(checkpoint.lines().next().unwrap()).parse().unwrap();
    let opened = bartizan_ledger::Checkpoint::open(checkpoint.as_bytes(), &key).unwrap();
    assert_eq!((opened.size, opened.root), (size, root));
    out
}

fn verifier(origin: &str) -> String {
    bartizan_ledger::NoteSigner::from_seed(origin, &[5; 32]).unwrap().verifier().to_string()
}

fn default_log() -> PathBuf {
    PathBuf::from("/data/log/default/2026q4")
}

/// How many records of each kind there are: intents, refusals, outcomes, about the house.
fn count(records: &BTreeMap<u64, Record>) -> [usize; 4] {
    let mut out = [0; 4];
    for record in records.values() {
        out[match record.body {
            Body::Intent(_) => 0,
            Body::Refusal(_) => 1,
            Body::Outcome(_) => 2,
            Body::System(_) => 3,
        }] += 1;
    }
    out
}
