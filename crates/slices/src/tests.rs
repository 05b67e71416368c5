//! Kept, found again, erased, expired; and what of it lies on the disk.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bartizan_base::random::SeededRandom;
use bartizan_base::{Clock as _, Name, Timestamp};
use bartizan_decide::{Bundle, CompiledBundle, Door, Entities, KeptAsk, NotReplayable, Replayed, Snapshot};
use bartizan_identify::Caller;
use bartizan_keys::Sealer;
use bartizan_model::directory::Spec;
use bartizan_model::{
    Action, AskFacts, Assurance, AssuranceLevel, Binding, DecisionId, Document, EntityRef, Label, Member,
    Principal, PrincipalId, PrincipalKind, Risk, Situation, Tenant,
};
use bartizan_rt::SystemClock;
use bartizan_secret::Secret;
use bartizan_store::State;
use bartizan_vault::Vault;
use serde_json::{Value, json};

use crate::{Keep, Settings, Slices};

const RULES: &str = r#"@id("all") permit (principal in Role::"model-user", action, resource);
@id("late") forbid (principal, action, resource) when { context.time.hour > 22 };"#;

struct House {
    folder: tempfile::TempDir,
    vault: Vault,
    state: Arc<State>,
    snapshot: Arc<Snapshot>,
}

fn person(n: u8) -> PrincipalId {
    PrincipalId::from_parts(Timestamp::from_secs(1), [n; 10])
}

fn document(name: &str, id: Option<u8>, spec: Value) -> (Tenant, Document, u64) {
    let spec: Spec = serde_json::from_value(spec).unwrap();
    (Tenant::default_tenant(), Document { name: name.parse().unwrap(), principal: id.map(person), spec }, 1)
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sealer = Arc::new(Sealer::new(Secret::new([7; 32])));
        let vault = Vault::open(folder.path(), sealer, Arc::new(SeededRandom::new(1))).unwrap();
        let mut state = State {
            documents: vec![
                document("alice-liddell", Some(1), json!({"kind": "user", "roles": ["model-user"]})),
                document(
                    "reporter",
                    Some(2),
                    json!({"kind": "agent", "owner": "alice-liddell", "purpose": "reports", "roles": ["model-user"]}),
                ),
                document("bob-dylan", Some(3), json!({"kind": "user", "roles": ["model-user"]})),
                document(
                    "gpt",
                    None,
                    json!({"kind": "model", "upstream": "openai", "dialects": ["openai.chat"], "environment": "development"}),
                ),
            ]
            .into(),
            ..State::default()
        };
        state.sort();
        let documents: Vec<_> = state.documents.iter().map(|(_, d, _)| d.clone()).collect();
        let bundle = Bundle { files: [("a.cedar".to_owned(), RULES.to_owned())].into() };
        let compiled = Arc::new(CompiledBundle::compile(&bundle).unwrap());
        let snapshot = Snapshot::new(Some(compiled), Arc::new(Entities::build(&documents).unwrap()));
        Self { folder, vault, state: Arc::new(state), snapshot: Arc::new(snapshot) }
    }

    fn slices(&self, bytes_max: u64) -> Slices {
        let settings = Settings {
            folder: self.folder.path().join("slices"),
            keep_for: Duration::from_secs(3_600),
            bytes_max,
            queue_max: 100_000,
        };
        let (clock, random) = (Arc::new(SystemClock::new()), Arc::new(SeededRandom::new(2)));
        Slices::open(&settings, self.vault.clone(), clock, random).unwrap()
    }

    fn keep(&self, slices: &Slices, decision: DecisionId, who: (PrincipalKind, &str, u8)) -> Replayed {
        let ask = Arc::new(ask(who, decision.timestamp()));
        let outcome = self.snapshot.replay_fast(&ask, &Tenant::default_tenant());
        slices.keep(Keep {
            tenant: Tenant::default_tenant(),
            decision,
            ask,
            snapshot: self.snapshot.clone(),
            state: self.state.clone(),
            slice: outcome.grounds.slice,
        });
        outcome
    }

    fn erase(&self, slices: &Slices, n: u8) {
        self.vault.erase_subject(&Tenant::default_tenant(), person(n), Timestamp::from_secs(3_000)).unwrap();
        slices.forget(&Tenant::default_tenant(), person(n));
    }

    /// Everything that lies in the folder of slices.
    fn disk(&self) -> Vec<u8> {
        let files = std::fs::read_dir(self.folder.path().join("slices")).unwrap();
        files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
    }
}

fn ask((kind, name, id): (PrincipalKind, &str, u8), now: Timestamp) -> KeptAsk {
    let member = Member {
        principal: Principal { kind, name: name.parse().unwrap(), id: person(id) },
        assurance: Assurance { level: AssuranceLevel::Aal2, at: now, ..Assurance::default() },
        binding: Binding::None,
        device: None,
        risk: Risk::default(),
    };
    let situation = Situation {
        now,
        network: Some([192, 0, 2, 77].into()),
        purpose: Some("to look after the white rabbit".parse().unwrap()),
        session: Label::bottom(),
        ..Situation::at(now)
    };
    let caller = Caller::suppose(Tenant::default_tenant(), member, Vec::new());
    let resource = EntityRef::new(Name::literal("Model"), Name::literal("gpt"));
    KeptAsk::of(
        &caller,
        Action::ModelInvoke,
        &resource,
        &AskFacts::default(),
        &situation,
        &Door::model_calls(),
    )
}

fn decision(second: u64, n: u8) -> DecisionId {
    DecisionId::from_parts(Timestamp::from_secs(second), [n; 10])
}

const ALICE: (PrincipalKind, &str, u8) = (PrincipalKind::User, "alice-liddell", 1);
const REPORTER: (PrincipalKind, &str, u8) = (PrincipalKind::Agent, "reporter", 2);
const BOB: (PrincipalKind, &str, u8) = (PrincipalKind::User, "bob-dylan", 3);

#[test]
fn what_was_kept_is_decided_again_bit_for_bit_also_after_a_restart() {
    let house = House::new();
    let tenant = Tenant::default_tenant();
    let recorded = {
        let slices = house.slices(1 << 30);
        let recorded: Vec<_> = [ALICE, REPORTER, BOB]
            .into_iter()
            .zip(1..)
            .map(|(who, n)| (decision(2_000, n), house.keep(&slices, decision(2_000, n), who)))
            .collect();
        slices.flush().unwrap();
        recorded
    };
    let slices = house.slices(1 << 30);
    let bundle = house.snapshot.bundle().cloned();
    for (id, outcome) in recorded {
        let found = slices.find(&tenant, id).unwrap().unwrap();
        let entities = Entities::from_slice(found.documents.iter().map(Vec::as_slice)).unwrap();
        let again = Snapshot::new(bundle.clone(), Arc::new(entities)).replay(&found.ask, &tenant);
        assert_eq!(outcome.differences(&again), Vec::<String>::new());
        assert_eq!((found.slice, again.grounds.rules.len()), (outcome.grounds.slice, 1));
    }
    let other = Tenant(Name::literal("other"));
    assert_eq!(slices.find(&other, decision(2_000, 1)).unwrap().unwrap_err(), NotReplayable::SliceMissing);
}

#[test]
fn nothing_personal_lies_in_the_folder_in_clear() {
    let house = House::new();
    let slices = house.slices(1 << 30);
    for (who, n) in [ALICE, REPORTER, BOB].into_iter().zip(1..) {
        house.keep(&slices, decision(2_000, n), who);
    }
    slices.flush().unwrap();
    let disk = house.disk();
    let holds = |text: &str| disk.windows(text.len()).any(|w| w == text.as_bytes());
    assert!(holds("development"), "what is not personal is there in clear, so the test can see");
    for personal in ["liddell", "dylan", "192.0.2.77", "rabbit"] {
        assert!(!holds(personal), "{personal}");
    }
}

#[test]
fn after_an_erasure_nothing_of_a_person_is_decided_again_and_everything_else_still_is() {
    let house = House::new();
    let (slices, tenant) = (house.slices(1 << 30), Tenant::default_tenant());
    for (who, n) in [ALICE, REPORTER, BOB].into_iter().zip(1..) {
        house.keep(&slices, decision(2_000, n), who);
    }
    slices.flush().unwrap();
    house.erase(&slices, 1);
    let why = |n| slices.find(&tenant, decision(2_000, n)).unwrap().err();
    assert_eq!(why(1), Some(NotReplayable::Erased));
    // The agent's own entity names its owner.
    assert_eq!(why(2), Some(NotReplayable::Erased));
    assert_eq!(why(3), None);
    // What comes later lies under a new key, and brings no ask of before back.
    house.keep(&slices, decision(4_000, 9), ALICE);
    slices.flush().unwrap();
    assert_eq!(slices.find(&tenant, decision(4_000, 9)).unwrap().err(), None);
    assert_eq!(why(1), Some(NotReplayable::Erased));
}

#[test]
fn what_is_too_old_goes_and_says_so_with_everything_that_only_it_needed() {
    let house = House::new();
    let (slices, tenant) = (house.slices(1 << 30), Tenant::default_tenant());
    house.keep(&slices, decision(2_000, 1), ALICE);
    house.keep(&slices, decision(9_000, 3), BOB);
    slices.tidy(Timestamp::from_secs(9_001)).unwrap();
    let why = |at, n| slices.find(&tenant, decision(at, n)).unwrap().err();
    assert_eq!(why(2_000, 1), Some(NotReplayable::Expired));
    assert_eq!(why(9_000, 3), None);
    assert_eq!(why(9_000, 4), Some(NotReplayable::SliceMissing), "never kept, and not too old");
    let connection = rusqlite::Connection::open(house.folder.path().join("slices/slices.db")).unwrap();
    let count = |table: &str| {
        connection.query_row(&format!("select count(*) from {table}"), [], |r| r.get::<_, i64>(0)).unwrap()
    };
    let left = (count("asks"), count("slices"), count("nodes"));
    slices.tidy(Timestamp::from_secs(90_000)).unwrap();
    assert_eq!((left.0, left.1), (1, 1));
    assert_eq!((count("asks"), count("slices"), count("members"), count("nodes")), (0, 0, 0, 0));
}

#[test]
fn beyond_the_bound_the_oldest_go() {
    let house = House::new();
    let (slices, tenant) = (house.slices(400_000), Tenant::default_tenant());
    let id = |n: u64| DecisionId::from_parts(Timestamp::from_secs(2_000 + n), [0; 10]);
    (0..1_000).for_each(|n| drop(house.keep(&slices, id(n), ALICE)));
    slices.tidy(Timestamp::from_secs(3_001)).unwrap();
    assert!(slices.stats().bytes.load(Relaxed) <= 400_000);
    assert_eq!(slices.find(&tenant, id(0)).unwrap().err(), Some(NotReplayable::Expired));
    assert_eq!(slices.find(&tenant, id(999)).unwrap().err(), None);
}

#[test]
fn a_changed_row_is_damage_and_a_lost_one_is_missing() {
    let house = House::new();
    let (slices, tenant) = (house.slices(1 << 30), Tenant::default_tenant());
    house.keep(&slices, decision(2_000, 1), ALICE);
    slices.flush().unwrap();
    let connection = rusqlite::Connection::open(house.folder.path().join("slices/slices.db")).unwrap();
    let why = || slices.find(&tenant, decision(2_000, 1)).unwrap().err();
    let node: Vec<u8> =
        connection.query_row("select node from nodes where under = ''", [], |r| r.get(0)).unwrap();
    let bytes: Vec<u8> =
        connection.query_row("select bytes from nodes where node = ?1", [&node], |r| r.get(0)).unwrap();
    connection.execute("update nodes set bytes = ?2 where node = ?1", (&node, b"{}")).unwrap();
    assert_eq!(why(), Some(NotReplayable::Damaged));
    connection.execute("update nodes set bytes = ?2 where node = ?1", (&node, &bytes)).unwrap();
    assert_eq!(why(), None);
    connection.execute("delete from nodes where node = ?1", [&node]).unwrap();
    assert_eq!(why(), Some(NotReplayable::SliceMissing));
    connection.execute("update asks set bytes = zeroblob(300)", []).unwrap();
    assert_eq!(why(), Some(NotReplayable::Damaged));
}

/// Prints what keeping costs; the bound is far above what a slow machine needs.
#[test]
fn keeping_costs_little_and_most_decisions_add_their_ask_alone() {
    let house = House::new();
    let slices = house.slices(1 << 30);
    let id = |n: u64| DecisionId::from_parts(Timestamp::from_secs(2_000 + n), [0; 10]);
    house.keep(&slices, id(0), ALICE);
    slices.flush().unwrap();
    let ask = Arc::new(ask(ALICE, Timestamp::from_secs(2_000)));
    let slice = house.snapshot.replay_fast(&ask, &Tenant::default_tenant()).grounds.slice;
    let (count, before) = (10_000, slices.stats().worked_us.load(Relaxed));
    let clock = SystemClock::new();
    let began = clock.monotonic_us();
    for n in 1..=count {
        slices.keep(Keep {
            tenant: Tenant::default_tenant(),
            decision: id(n),
            ask: ask.clone(),
            snapshot: house.snapshot.clone(),
            state: house.state.clone(),
            slice,
        });
    }
    let caller_ns = (clock.monotonic_us() - began) * 1_000 / count;
    slices.flush().unwrap();
    let writer_us = (slices.stats().worked_us.load(Relaxed) - before) / count;
    slices.tidy(Timestamp::from_secs(2_000)).unwrap();
    let bytes = slices.stats().bytes.load(Relaxed) / count;
    println!("per decision: {caller_ns} ns where it is decided, {writer_us} us on the writer, {bytes} bytes");
    assert_eq!(slices.stats().lost.load(Relaxed), 0);
    assert!(bytes < 3_000, "{bytes}");
}
