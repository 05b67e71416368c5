//! What is followed is what would be loaded: the whole world, after random histories, whichever way it came about.

use bartizan_base::{Digest, Timestamp};
use bartizan_decide::Bundle;
use bartizan_keys::{Candidate, PolicySigner, Stage, Statement};
use bartizan_model::{EntityRef, Principal, PrincipalId, PrincipalKind};
use bartizan_secret::Secret;
use bartizan_store::conformance::TestWarrant;
use bartizan_store::{
    BundleRow, CandidateRow, Change, ClaimRow, EpochRow, Founding, MemoryStore, Row, Since, Store,
};
use futures_util::FutureExt as _;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

type Memory = dyn Store<TestWarrant>;

const SCHEMA: &str = "entity Todo in [Group, Todo] { done: Bool, owner?: User };";

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().unwrap()
}

fn tenant(n: u8) -> Tenant {
    Tenant(if n == 0 { Name::literal("one") } else { Name::literal("two") })
}

fn document(name: &str, id: Option<u8>, spec: Value) -> Document {
    let principal = id.map(|n| PrincipalId::from_parts(Timestamp::from_secs(3), [n; 10]));
    Document { name: name.parse().unwrap(), principal, spec: serde_json::from_value(spec).unwrap() }
}

/// One of few documents; `how` makes versions of it differ.
fn some_document(tenant: u8, which: u8, how: u8) -> Document {
    let id = Some(tenant * 100 + which);
    let flag = |bit: u8| how & (1 << bit) != 0;
    let status = if flag(0) { "disabled" } else { "active" };
    let groups: Vec<String> = (0..3).filter(|n| flag(n + 1)).map(|n| format!("g{n}")).collect();
    let n = which % 10;
    match which {
        // Renamed now and then: another name, the same pseudonym.
        0..=3 => {
            let name = if n == 3 && flag(5) { "u3-new".to_owned() } else { format!("u{n}") };
            let spec = json!({"kind": "user", "status": status, "suspended": flag(4), "groups": groups});
            document(&name, id, spec)
        }
        10..=13 => {
            let kind = if n < 2 { "agent" } else { "workload" };
            let owner = format!("u{}", how % 4);
            let spec = json!({
                "kind": kind, "owner": owner, "purpose": "tests", "status": status, "groups": groups,
                "expires_us": flag(4).then_some(500_000_000_u64),
            });
            document(&format!("a{n}"), id, spec)
        }
        20..=22 => {
            let parents: Vec<&String> = groups.iter().filter(|g| **g < format!("g{n}")).collect();
            let roles = if flag(4) { vec!["r0"] } else { vec![] };
            document(&format!("g{n}"), id, json!({"kind": "group", "parents": parents, "roles": roles}))
        }
        30..=32 => {
            let owner = flag(4).then_some("u0");
            let key = Digest::of(&[how % 2]);
            let certificate = flag(3).then(|| Digest::of(&[7]));
            let spec = json!({
                "kind": "device", "status": status, "owner": owner, "key": key, "certificate": certificate,
            });
            document(&format!("d{n}"), None, spec)
        }
        40..=41 => {
            let url = format!("https://{}.example", if flag(1) { "a" } else { "b" });
            let spec = json!({
                "kind": "issuer", "status": status, "issuer": url, "audience": "us",
                "jwks_url": "https://a.example/jwks", "assurance_cap": how % 4,
            });
            document(&format!("i{n}"), None, spec)
        }
        50 => document(
            "up",
            None,
            json!({"kind": "upstream", "status": status, "base_url": "https://a.example"}),
        ),
        51 | 52 => {
            let spec = json!({
                "kind": "model", "status": status, "upstream": "up", "dialects": ["openai.chat"],
                "environment": "development", "sensitivity": if flag(1) { "low" } else { "high" },
            });
            document(&format!("m{n}"), None, spec)
        }
        53 => {
            let spec =
                json!({"kind": "enforcement_point", "status": status, "workload": format!("a{}", how % 4)});
            document("point", None, spec)
        }
        _ => {
            let done: Value = if flag(2) { "not a flag".into() } else { flag(1).into() };
            let spec = json!({
                "kind": "entity", "type": "Todo", "id": "todo", "attributes": {"done": done}, "parents": [],
            });
            document("todo", None, spec)
        }
    }
}

/// A change before it is known what the store holds.
#[derive(Clone, Debug)]
enum Draft {
    Put(u8, u8),
    Delete(u8, u8),
    Key(u8),
    Revoke(u8),
    Epoch(u8, u64),
    Standing(u8, Option<u8>),
    Bundle(u8),
}

fn draft() -> impl Strategy<Value = Draft> {
    let which = || {
        prop_oneof![
            6 => prop_oneof![0..4_u8, 10..14_u8, 20..23_u8],
            3 => prop_oneof![30..33_u8, 40..42_u8, 50..54_u8],
        ]
    };
    prop_oneof![
        24 => (which(), any::<u8>()).prop_map(|(which, how)| Draft::Put(which, how)),
        6 => (which(), any::<u8>()).prop_map(|(which, how)| Draft::Delete(which, how)),
        4 => (0..6_u8).prop_map(Draft::Key),
        2 => (0..6_u8).prop_map(Draft::Revoke),
        4 => (0..6_u8, 0..90_u64).prop_map(|(which, at)| Draft::Epoch(which, at)),
        3 => (0..3_u8, any::<Option<u8>>()).prop_map(|(which, risk)| Draft::Standing(which, risk)),
        2 => (0..4_u8).prop_map(Draft::Bundle),
        1 => any::<u8>().prop_map(|how| Draft::Put(60, how)),
        1 => any::<u8>().prop_map(|how| Draft::Delete(60, how)),
    ]
}

struct House {
    signer: PolicySigner,
    after: After,
    _folder: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let signer = PolicySigner::from_seed(&Secret::new([9; 32])).unwrap();
        let policies = Policies::open(&folder.path().join("policy"), signer.verifier().unwrap()).unwrap();
        let after = After { policies: Arc::new(policies), shadow: Arc::default(), issuer: Some("us".into()) };
        Self { signer, after, _folder: folder }
    }

    /// The next version of a tenant's policy: one of few bundles, some with things of their own, some with a candidate.
    fn bundle(&self, tenant: &Tenant, version: u64, which: u8) -> BundleRow {
        let bundle = |which: u8| {
            let rule = format!("@id(\"r{which}\") permit (principal, action, resource);");
            let mut files = BTreeMap::from([("a.cedar".to_owned(), rule)]);
            if which == 1 {
                files.insert("schema/own.cedarschema".to_owned(), SCHEMA.to_owned());
            }
            Bundle { files }
        };
        let (tried, made) = ((which == 2).then(|| bundle(0)), bundle(which));
        let stage = Stage::Shadow { permille: 5 };
        let statement = Statement {
            tenant: tenant.clone(),
            name: made.name(),
            version,
            base: None,
            bundle: made.digest(),
            candidate: tried.as_ref().map(|b| Candidate { bundle: b.digest(), stage, authored: None }),
            restores: None,
            created: Timestamp::from_secs(1),
            author: None,
            authored: None,
        };
        BundleRow {
            tenant: tenant.clone(),
            version,
            base: version - 1,
            digest: made.digest(),
            files: made.files,
            candidate: tried.map(|b| CandidateRow { digest: b.digest(), files: b.files }),
            signed: self.signer.sign(&statement).unwrap(),
        }
    }

    /// The changes, fitting the state. A pseudonym is one document's: who is renamed leaves the old name with it.
    fn changes(&self, number: u8, draft: &Draft, state: &State) -> Vec<Change> {
        let renamed = match draft {
            Draft::Put(which, how) => self.change(number, &Draft::Delete(*which, how ^ 1 << 5), state),
            _ => None,
        };
        let is_other = |change: &Change| match (change, draft) {
            (Change::DeleteDocument { name, .. }, Draft::Put(which, how)) => {
                some_document(number, *which, *how).name != *name
            }
            _ => false,
        };
        renamed.filter(is_other).into_iter().chain(self.change(number, draft, state)).collect()
    }

    /// The change, fitting the state.
    fn change(&self, number: u8, draft: &Draft, state: &State) -> Option<Change> {
        let tenant = tenant(number);
        let expect = |document: &Document| {
            state.document(&tenant, document.spec.kind(), &document.name).map(|(.., revision)| *revision)
        };
        Some(match *draft {
            Draft::Put(which, how) => {
                let document = some_document(number, which, how);
                let expect = expect(&document);
                Change::PutDocument { document, expect }
            }
            Draft::Delete(which, how) => {
                let document = some_document(number, which, how);
                let expect = expect(&document)?;
                Change::DeleteDocument { kind: document.spec.kind().to_owned(), name: document.name, expect }
            }
            Draft::Key(n) => {
                let id = KeyId::from_parts(Timestamp::from_secs(1), [number * 10 + n; 10]);
                if state.key_by_id(id).is_some() {
                    return None;
                }
                Change::AddKey(KeyRow {
                    id,
                    tenant,
                    handle: format!("handle{number}{n}"),
                    digest: Digest::of(&[number, n]),
                    principal: Principal {
                        kind: PrincipalKind::User,
                        name: format!("u{}", n % 4).parse().unwrap(),
                        id: PrincipalId::from_parts(Timestamp::from_secs(3), [number * 100 + n % 4; 10]),
                    },
                    label: String::new(),
                    scopes: None,
                    created: Timestamp::from_secs(10),
                    expires: Timestamp::MAX,
                    revoked: None,
                    last_used: None,
                })
            }
            Draft::Revoke(n) => {
                let id = KeyId::from_parts(Timestamp::from_secs(1), [number * 10 + n; 10]);
                state.key_by_id(id)?;
                Change::RevokeKey { id, at: Timestamp::from_secs(20) }
            }
            Draft::Epoch(n, at) => {
                let names = ["user/u0", "User/u1", "user/u3-new", "agent/a0", "one", "nobody"];
                let kind = if n == 4 { EpochKind::Tenant } else { EpochKind::Principal };
                Change::AdvanceEpoch(EpochRow {
                    tenant,
                    kind,
                    name: names[usize::from(n)].parse().unwrap(),
                    not_before: Timestamp::from_secs(at),
                    revision: 0,
                })
            }
            Draft::Standing(n, risk) => {
                let id = PrincipalId::from_parts(Timestamp::from_secs(3), [number * 100 + n; 10]).to_string();
                let present = state.row(RowKind::Standing, &id);
                let Some(score) = risk else {
                    let expect = present?.version;
                    return Some(Change::DeleteRow { kind: RowKind::Standing, id, expect });
                };
                let body = json!({"level": "high", "score": score % 100, "at": 5, "reasons": []}).to_string();
                let expect = present.map(|row| row.version);
                let kind = RowKind::Standing;
                let row = Row { tenant, kind, id, owner: String::new(), expires: None, version: 0, body };
                Change::PutRow { row, expect }
            }
            Draft::Bundle(which) => {
                let present = state.bundles.iter().find(|b| b.tenant == tenant).map_or(0, |b| b.version);
                Change::PutBundle { bundle: self.bundle(&tenant, present + 1, which) }
            }
        })
    }

    /// Compiles what waits, and puts it in force.
    fn bring_in(&self, world: &World) -> World {
        let _told = self.after.policies.compile_missing(&world.state);
        self.after.world(world, world.state.clone(), &Touched::policy_of(&world.state)).unwrap().0
    }

    /// The world of a state that was loaded whole by somebody who knew nothing.
    fn loaded(&self, state: &State) -> World {
        let (empty, touched) = (World::empty(), Touched::between(&State::default(), state));
        let world = self.after.world(&empty, Arc::new(state.clone()), &touched).unwrap().0;
        assert!(!world.policy_waits());
        world
    }
}

fn same(one: &World, other: &World) -> Result<(), TestCaseError> {
    prop_assert_eq!(&*one.state, &*other.state);
    prop_assert!(one.directory == other.directory, "{:#?}\n{:#?}", one.directory, other.directory);
    let tenants = |world: &World| world.tenants.keys().cloned().collect::<Vec<_>>();
    prop_assert_eq!(tenants(one), tenants(other));
    for (one, other) in one.tenants.values().zip(other.tenants.values()) {
        prop_assert!(**one.policy.entities() == **other.policy.entities());
        let bundle = |t: &TenantWorld| t.policy.bundle().map(|b| b.digest());
        prop_assert_eq!(bundle(one), bundle(other));
        let signed = |t: &TenantWorld| t.in_force.as_ref().map(|f| f.row.signed.clone());
        prop_assert_eq!(signed(one), signed(other));
        let staged = |t: &TenantWorld| t.staged.as_ref().map(|s| (s.digest, s.stage.clone()));
        prop_assert_eq!(staged(one), staged(other));
        if let (Some(one), Some(other)) = (&one.staged, &other.staged) {
            prop_assert!(**one.snapshot.entities() == **other.snapshot.entities());
        }
        prop_assert_eq!(&one.models, &other.models);
        prop_assert_eq!(&one.upstreams, &other.upstreams);
        prop_assert_eq!(&one.issuers, &other.issuers);
        prop_assert_eq!(&one.points, &other.points);
        prop_assert_eq!(one.waits, other.waits);
    }
    Ok(())
}

fn founded() -> MemoryStore {
    let store = MemoryStore::new();
    let anchor = document("anchor", None, json!({"kind": "role"}));
    let founding = Founding {
        recovery: (1, vec!["key".to_owned()]),
        claim: ClaimRow { digest: Digest::of(b"claim"), expires: Timestamp::from_secs(9) },
        documents: vec![(tenant(0), anchor.clone()), (tenant(1), anchor)],
        bundle: None,
    };
    now(Store::<TestWarrant>::found(&store, founding)).unwrap();
    store
}

fn state(store: &Memory) -> State {
    now(store.load()).unwrap()
}

/// Follows to the present, so many steps at a time.
fn follow(house: &House, store: &Memory, mut world: World, limit: usize) -> World {
    loop {
        let since = now(store.changes_since(world.state.revision, world.state.mark, limit)).unwrap();
        let Since::Steps(steps) = since else { panic!("{since:?}") };
        if steps.is_empty() {
            return world;
        }
        let mut state = (*world.state).clone();
        steps.iter().for_each(|step| state.follow(step).unwrap());
        world = house.after.world(&world, Arc::new(state), &Touched::by(&steps)).unwrap().0;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn inv_same_what_is_followed_is_what_is_loaded_whole(
        history in prop::collection::vec((0..2_u8, prop::collection::vec(draft(), 0..5), 0..9_usize), 1..24),
    ) {
        let house = House::new();
        let store = founded();
        let store: &Memory = &store;
        let mut followed = house.loaded(&state(store));
        let mut reloaded = house.loaded(&state(store));
        for (number, drafts, limit) in history {
            for draft in drafts {
                // Each by itself, and what does not fit by now is passed over.
                let changes = house.changes(number, &draft, &state(store));
                if !changes.is_empty() {
                    now(store.apply(&TestWarrant::of(&tenant(number)), changes)).unwrap();
                }
            }
            if limit > 4 {
                continue;
            }
            followed = house.bring_in(&follow(&house, store, followed, limit + 1));
            let present = state(store);
            same(&followed, &house.loaded(&present))?;
            // Loaded whole by somebody who held an earlier one, as where steps are not kept any more.
            let touched = Touched::between(&reloaded.state, &present);
            let next = house.after.world(&reloaded, Arc::new(present), &touched).unwrap().0;
            reloaded = house.bring_in(&next);
            same(&reloaded, &followed)?;
        }
    }
}

#[test]
fn policy_that_is_not_compiled_leaves_what_was_in_force_and_the_rest_goes_on() {
    let (house, store) = (House::new(), founded());
    let store: &Memory = &store;
    let warrant = TestWarrant::of(&tenant(0));
    let apply = |draft: Draft| {
        let change = house.change(0, &draft, &state(store)).unwrap();
        now(store.apply(&warrant, vec![change])).unwrap();
    };
    apply(Draft::Bundle(0));
    let world = house.bring_in(&follow(
        &house,
        store,
        house
            .after
            .world(
                &World::empty(),
                Arc::new(state(&founded())),
                &Touched::between(&State::default(), &state(&founded())),
            )
            .unwrap()
            .0,
        9,
    ));
    let bundle = |world: &World| world.tenants[&tenant(0)].policy.bundle().map(|b| b.digest());
    let before = bundle(&world);
    assert!(before.is_some() && !world.policy_waits());
    apply(Draft::Bundle(3));
    apply(Draft::Put(0, 0));
    let world = follow(&house, store, world, 9);
    assert!(world.policy_waits());
    assert_eq!(bundle(&world), before);
    let user = EntityRef::new(Name::literal("User"), Name::literal("u0"));
    let entities = world.tenants[&tenant(0)].policy.entities();
    assert!(entities.slice_documents(&user, &user).is_some(), "who came meanwhile is there");
    // It waits until it is compiled, whatever else comes.
    apply(Draft::Put(1, 0));
    let world = follow(&house, store, world, 9);
    assert!(world.policy_waits());
    let world = house.bring_in(&world);
    assert!(!world.policy_waits() && bundle(&world) != before);
}
