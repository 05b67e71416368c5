//! The same on real stores: random policies against an oracle of our own (`tests/outside/retrieve.py`).

use super::*;

/// A real store: how its route says it is reached, and what must be declared beside.
#[derive(Clone, Copy, Debug)]
enum Real {
    Pgvector,
    Chroma,
}

#[expect(clippy::disallowed_methods, reason = "the runner says where the stores are")]
fn told(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name}: run by tests/outside/retrieve.py"))
}

/// Runs SQL as the superuser of the real server.
fn psql(sql: &str) -> String {
    let (psql, port) = (told("BARTIZAN_RETRIEVE_PSQL"), told("BARTIZAN_RETRIEVE_PORT"));
    let output = std::process::Command::new(psql)
        .args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-d",
            "postgres",
            "-p",
            &port,
            "-c",
            sql,
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

impl Real {
    /// An empty store.
    fn fresh(self) -> (Value, Vec<Value>) {
        match self {
            Self::Pgvector => {
                psql("DROP TABLE IF EXISTS chunks");
                psql(include_str!("../../../retrieve/pgvector.sql"));
                let port: u16 = told("BARTIZAN_RETRIEVE_PORT").parse().unwrap();
                let server = json!({"host": "127.0.0.1", "port": port, "database": "postgres", "user": "retrieval", "tls": false, "allow_private": true});
                (json!({"type": "pgvector", "server": server, "table": "public.chunks"}), Vec::new())
            }
            Self::Chroma => {
                let base = told("BARTIZAN_RETRIEVE_CHROMA");
                let client = Client::new(&base, None);
                // A name of its own for each: a collection inherits from one that was deleted (docs/filters.md).
                let name = bartizan_model::DecisionId::new(
                    bartizan_base::Clock::now(&bartizan_rt::SystemClock::new()),
                    &bartizan_rt::SystemRandom::new(),
                )
                .to_string();
                let made = client.call(
                    "POST",
                    "/api/v2/tenants/default_tenant/databases/default_database/collections",
                    Some(&json!({"name": name, "configuration": {"hnsw": {"space": "cosine"}}})),
                );
                let id = made.unwrap()["id"].as_str().unwrap().to_owned();
                let upstream = json!({"name": "shelf", "spec": {"kind": "upstream", "base_url": base, "allow_private": true}});
                (json!({"type": "chroma", "upstream": "shelf", "collection": id}), vec![upstream])
            }
        }
    }
}

/// What the rules of the real tests look at, kept here as the oracle: nothing of the house decides by it.
#[derive(Clone, Debug)]
struct Leaf {
    id: String,
    confidentiality: &'static str,
    sensitivity: &'static str,
    categories: Vec<&'static str>,
    environment: Option<&'static str>,
    project: bool,
    owner: Option<&'static str>,
    readers: Vec<&'static str>,
    groups: Vec<&'static str>,
    year: Option<i64>,
}

/// A caller of the real tests, with their group.
type Person = (&'static str, &'static str);
type Holds = fn(&Leaf, Person) -> bool;

/// Conditions with what they mean.
const CONDITIONS: &[(&str, Holds)] = &[
    (r#"["public", "internal"].contains(resource.confidentiality)"#, |leaf, _| {
        ["public", "internal"].contains(&leaf.confidentiality)
    }),
    (r#"resource.confidentiality != "restricted""#, |leaf, _| leaf.confidentiality != "restricted"),
    (r#"resource has owner && resource.owner == principal"#, |leaf, (name, _)| leaf.owner == Some(name)),
    (r#"resource has readers && resource.readers.contains(principal)"#, |leaf, (name, _)| {
        leaf.readers.contains(&name)
    }),
    (r#"resource has reader_groups && principal in resource.reader_groups"#, |leaf, (_, group)| {
        leaf.groups.contains(&group)
    }),
    (r#"!(resource has readers)"#, |leaf, _| leaf.readers.is_empty()),
    (r#"resource.categories.contains("hr")"#, |leaf, _| leaf.categories.contains(&"hr")),
    (r#"resource.categories.containsAny(["hr", "health"])"#, |leaf, _| !leaf.categories.is_empty()),
    (r#"resource in Project::"support""#, |leaf, _| leaf.project),
    (r#"resource has environment && resource.environment == "production""#, |leaf, _| {
        leaf.environment == Some("production")
    }),
    (r#"resource has owner && resource.owner == User::"carol""#, |leaf, _| leaf.owner == Some("carol")),
    // Nothing that Chroma can be asked: decided row by row.
    (r#"resource.sensitivity like "h*""#, |leaf, _| leaf.sensitivity == "high"),
    // Nothing that any store can be asked.
    (r#"resource has owner && resource.owner in Group::"engineers""#, |leaf, _| leaf.owner == Some("alice")),
];

/// A random number below `n`.
fn roll(seed: &mut u64, n: usize) -> usize {
    // SplitMix64.
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    usize::try_from((z ^ (z >> 31)) % n as u64).unwrap()
}

fn some<T: Copy>(seed: &mut u64, of: &[T]) -> Vec<T> {
    of.iter().filter(|_| roll(seed, 3) == 0).copied().collect()
}

fn leaf(seed: &mut u64, n: usize) -> Leaf {
    let one = |seed: &mut u64, of: &[&'static str]| of.get(roll(seed, of.len() + 1)).copied();
    Leaf {
        id: format!("leaf-{n}"),
        confidentiality: ["public", "internal", "confidential", "restricted"][roll(seed, 4)],
        sensitivity: ["low", "medium", "high"][roll(seed, 3)],
        categories: some(seed, &["hr", "health"]),
        environment: one(seed, &["production", "development"]),
        project: roll(seed, 2) == 0,
        owner: one(seed, &["alice", "carol"]),
        readers: some(seed, &["alice", "carol", "mallory"]),
        groups: some(seed, &["engineers", "contractors"]),
        year: (roll(seed, 3) > 0).then_some(2_000 + roll(seed, 30) as i64),
    }
}

impl Leaf {
    fn body(&self, seed: &mut u64) -> Value {
        let mut metadata = json!({"lang": "en"});
        if let Some(year) = self.year {
            metadata["year"] = json!(year);
        }
        let near =
            |seed: &mut u64| json!([1.0 + roll(seed, 100) as f64 / 50.0, roll(seed, 100) as f64 / 50.0]);
        let mut passages =
            vec![json!({"text": format!("text of {}", self.id), "vector": near(seed), "metadata": metadata})];
        if roll(seed, 4) == 0 {
            passages.push(json!({"text": "and more", "vector": near(seed), "metadata": metadata}));
        }
        let mut body = json!({
            "collection": "guides", "passages": passages, "confidentiality": self.confidentiality, "sensitivity": self.sensitivity,
            "categories": self.categories, "readers": self.readers, "reader_groups": self.groups, "source_time": ago(60),
        });
        for (name, value) in [
            ("environment", self.environment),
            ("owner", self.owner),
            ("project", self.project.then_some("support")),
        ] {
            if let Some(value) = value {
                body[name] = json!(value);
            }
        }
        body
    }
}

async fn inv_filter(real: Real) {
    let mut seed: u64 = told("BARTIZAN_RETRIEVE_SEED").parse().unwrap();
    let rounds: usize = told("BARTIZAN_RETRIEVE_ROUNDS").parse().unwrap();
    println!("{real:?}, seed {seed}");
    let store = blocking(move || real.fresh()).await;
    let more = json!({"k_max": 100, "searches_per_minute": 1_000_000, "check_max": 1_000});
    let library = Library::on(Arc::default(), store, more, RULES).await;
    let mut leaves: Vec<Leaf> = (0..48).map(|n| leaf(&mut seed, n)).collect();
    for leaf in &leaves {
        let path = format!("/retrieve/handbook/documents/{}", leaf.id);
        let told = library.send(&library.librarian, "PUT", &path, leaf.body(&mut seed)).await;
        assert_eq!(told.status, 200, "{leaf:?}: {}", told.body);
    }
    if matches!(real, Real::Pgvector) {
        // INV-TENANT: everything once more, as another tenant's and as another collection's.
        blocking(|| {
            let own: Vec<String> = psql("SELECT string_agg(quote_ident(column_name), ', ') FROM information_schema.columns WHERE table_name = 'chunks' AND column_name NOT IN ('key', 'tenant', 'collection')").split(", ").map(str::to_owned).collect();
            let own = own.join(", ");
            psql(&format!("INSERT INTO chunks (key, tenant, collection, {own}) SELECT 'a' || key, 'acme', collection, {own} FROM chunks"));
            psql(&format!("INSERT INTO chunks (key, tenant, collection, {own}) SELECT 'b' || key, 'default', 'board', {own} FROM chunks WHERE tenant = 'default'"));
        })
        .await;
    }
    let people: [(Person, Secret<String>); 3] = [
        (("alice", "engineers"), library.house.alice.1.clone()),
        (("carol", "contractors"), library.house.carol.clone()),
        (("mallory", "none"), library.house.mallory.clone()),
    ];
    let (mut given, mut withheld, mut expect) = (0, 0, 3_u64);
    for round in 0..rounds {
        let permits: Vec<_> =
            (0..=roll(&mut seed, 3)).map(|_| CONDITIONS[roll(&mut seed, CONDITIONS.len())]).collect();
        let forbids: Vec<_> =
            (0..roll(&mut seed, 3)).map(|_| CONDITIONS[roll(&mut seed, CONDITIONS.len())]).collect();
        let mut rules =
            RULES.lines().filter(|line| line.contains("librarians-fill")).collect::<Vec<_>>().join("\n");
        rules.push_str("\n@id(\"all-search\") permit (principal, action == Action::\"collection:retrieve\", resource == Collection::\"guides\");\n");
        for (kind, conditions) in [("permit", &permits), ("forbid", &forbids)] {
            for (n, (text, _)) in conditions.iter().enumerate() {
                writeln!(rules, "@id(\"{kind}-{n}\") {kind} (principal is User, action == Action::\"document:read\", resource) when {{ {text} }};").unwrap();
            }
        }
        let (admin, files) = (library.admin.clone(), json!({"policy.cedar": POLICY, "library.cedar": rules}));
        blocking(move || {
            admin.call("PUT", "/api/v1/policy", Some(&json!({"files": files, "expect": expect}))).unwrap()
        })
        .await;
        expect += 1;
        // Some lists change at their source, some documents go.
        if round % 2 == 1 {
            let at = roll(&mut seed, leaves.len());
            let (readers, groups) = (some(&mut seed, &["alice", "carol"]), some(&mut seed, &["engineers"]));
            let changed = &mut leaves[at];
            (changed.readers, changed.groups, changed.owner) = (readers, groups, None);
            let body = json!({"collection": "guides", "source_time": ago(0), "readers": changed.readers, "reader_groups": changed.groups});
            let path = format!("/retrieve/handbook/documents/{}/access", changed.id);
            let told = library.send(&library.librarian, "PUT", &path, body).await;
            assert_eq!(told.status, 200, "{}", told.body);
        } else if round % 4 == 2 {
            let gone = leaves.swap_remove(roll(&mut seed, leaves.len()));
            let path = format!("/retrieve/handbook/documents/{}?collection=guides", gone.id);
            assert_eq!(library.send(&library.librarian, "DELETE", &path, Value::Null).await.status, 200);
        }
        for (person, key) in &people {
            let may = |leaf: &&Leaf| {
                permits.iter().any(|(_, holds)| holds(leaf, *person))
                    && !forbids.iter().any(|(_, holds)| holds(leaf, *person))
            };
            let since = 2_000 + roll(&mut seed, 30) as i64;
            let filter = json!({"field": "year", "at_least": since});
            for (more, own) in [(json!({"k": 100}), None), (json!({"k": 100, "where": filter}), Some(since))]
            {
                let expected: BTreeSet<&str> = leaves
                    .iter()
                    .filter(may)
                    .filter(|leaf| own.is_none_or(|since| leaf.year.is_some_and(|year| year >= since)))
                    .map(|leaf| leaf.id.as_str())
                    .collect();
                let told = library.search(key, more.clone()).await;
                let found: BTreeSet<&str> = told.documents().into_iter().collect();
                assert_eq!(found, expected, "{real:?} {person:?} {more}\n{rules}");
                given += found.len();
                withheld += leaves.len() - found.len();
            }
        }
    }
    println!("{real:?}: {rounds} policies, {given} documents given, {withheld} withheld");
    assert!(given > 50 && withheld > 50, "the rules tell apart nothing");
    library.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a real store: tests/outside/retrieve.py"]
async fn inv_filter_through_the_real_door_on_pgvector() {
    inv_filter(Real::Pgvector).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a real store: tests/outside/retrieve.py"]
async fn inv_filter_through_the_real_door_on_chroma() {
    inv_filter(Real::Chroma).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a real store: tests/outside/retrieve.py"]
async fn pitfall_a_service_account_above_all_rules_behind_retrieval() {
    let (mut store, beside) = blocking(|| Real::Pgvector.fresh()).await;
    store["server"]["user"] = json!("postgres");
    let library = Library::on(Arc::default(), (store, beside), json!({}), RULES).await;
    let told = library.search(&library.house.alice.1.clone(), json!({})).await;
    assert_eq!((told.status, reason(&told.body)), (502, "upstream_invalid"), "{}", told.body);
    let text = told.body.to_string();
    for leak in ["superuser", "postgres", "chunks", "role"] {
        assert!(!text.contains(leak), "{leak}: {text}");
    }
    library.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a real store: tests/outside/retrieve.py"]
async fn the_nearest_that_one_may_see_come_first_and_k_counts_after_the_filter() {
    for real in [Real::Pgvector, Real::Chroma] {
        let store = blocking(move || real.fresh()).await;
        let library = Library::on(Arc::default(), store, json!({"scores": true}), RULES).await;
        // A hundred that nobody may see lie nearer than three that alice may.
        let passages: Vec<Value> = (0..100)
            .map(|n| json!({"text": format!("secret {n}"), "vector": [1.0, 0.001 * f64::from(n)]}))
            .collect();
        library.written("secrets", "", json!({"passages": passages, "confidentiality": "restricted"})).await;
        for (id, vector) in [("near", [1.0, 0.3]), ("far", [0.1, 1.0]), ("middle", [1.0, 1.0])] {
            library.written(id, "", json!({"passages": [{"text": id, "vector": vector}]})).await;
        }
        let alice = library.house.alice.1.clone();
        let two = library.search(&alice, json!({"vector": [1.0, 0.0], "k": 2})).await;
        assert_eq!(two.documents(), ["near", "middle"], "{real:?}");
        let all = library.search(&alice, json!({"vector": [1.0, 0.0], "k": 10})).await;
        assert_eq!(all.documents(), ["near", "middle", "far"], "{real:?}");
        let scores: Vec<f64> =
            all.body["passages"].as_array().unwrap().iter().map(|p| p["score"].as_f64().unwrap()).collect();
        assert!(scores.is_sorted(), "{scores:?}");
        library.house.stop().await;
    }
}
