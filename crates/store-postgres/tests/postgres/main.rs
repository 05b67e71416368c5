//! The suite on a real PostgreSQL, and what only a server can suffer.

#![expect(clippy::unwrap_used, reason = "what the tests share may fail like a test")]

mod outage;

use std::fmt::Debug;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bartizan_base::{Digest, Timestamp};
use bartizan_model::{NodeId, Tenant};
use bartizan_secret::Secret;
use bartizan_store::conformance::{self, TestWarrant, World};
use bartizan_store::{
    Change, Checkpoints as _, ClaimRow, Enforced, EpochKind, EpochRow, Founding, LEASE, Nodes as _, Row,
    RowKind, Store, StoreError,
};
use bartizan_store_postgres::{OpenError, PostgresStore};
use bartizan_testkit::postgres::Server;

static SERVER: LazyLock<Server> = LazyLock::new(Server::start);

/// What no answer may exceed.
const BOUND: Duration = Duration::from_secs(3);

struct Postgres;

impl World for Postgres {
    type Place = String;
    type Store = PostgresStore;

    async fn empty(&self) -> String {
        SERVER.create_schema()
    }

    async fn open(&self, place: &String) -> PostgresStore {
        open(place).await.unwrap()
    }
}

bartizan_store::conformance_tests!(Postgres);

#[test]
fn random_operations_match_the_model() {
    bartizan_store::conformance::random_operations_match_the_model(&Postgres, 12);
}

async fn open(url: &str) -> Result<PostgresStore, OpenError> {
    PostgresStore::open(&Secret::new(url.to_owned())).await
}

async fn revision(store: &PostgresStore) -> Result<u64, StoreError> {
    Store::<TestWarrant>::revision(store).await
}

fn name(url: &str) -> &str {
    url.rsplit_once('/').unwrap().1
}

#[track_caller]
fn assert_unavailable<T: Debug>(answer: &Result<Result<T, StoreError>, tokio::time::error::Elapsed>) {
    assert!(matches!(answer, Ok(Err(StoreError::Unavailable(_)))), "{answer:?}");
}

#[tokio::test]
async fn migrating_twice_and_at_once_happens_once() {
    let url = SERVER.create_database();
    let stores = futures_util::future::join_all((0..4).map(|_| open(&url))).await;
    assert!(stores.iter().all(Result::is_ok), "{stores:?}");
    open(&url).await.unwrap();
    assert_eq!(
        SERVER.psql(name(&url), "select string_agg(version::text, ',' order by version) from schema_version"),
        "1,2,3,4,5"
    );
    assert_eq!(SERVER.psql(name(&url), "select count(*) from installation"), "1");
}

#[tokio::test]
async fn a_schema_of_a_newer_version_is_corrupt() {
    let url = SERVER.create_database();
    open(&url).await.unwrap();
    SERVER.psql(name(&url), "insert into schema_version values (1000)");
    match open(&url).await {
        Err(OpenError::Store(StoreError::Corrupt(text))) => assert!(text.contains("newer version"), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn tables_of_another_program_are_corrupt_and_left_alone() {
    let url = SERVER.create_database();
    SERVER.psql(name(&url), "create table sealed (theirs text)");
    let opened = open(&url).await;
    assert!(matches!(opened, Err(OpenError::Store(StoreError::Corrupt(_)))), "{opened:?}");
    let tables = "select string_agg(tablename, ',') from pg_tables where schemaname = 'public'";
    assert_eq!(SERVER.psql(name(&url), tables), "sealed");
}

#[tokio::test]
async fn a_missing_table_or_an_unreadable_row_is_corrupt() {
    for damage in [
        "drop table epochs",
        "alter table epochs alter column not_before_us type text",
        "alter table epochs drop column not_before_us",
        "delete from installation",
        "insert into documents values ('default', 'group', 'g', '{\"not\": \"a document\"}', 1)",
        "insert into epochs values ('default', 'tenant', 'a', -1)",
        "insert into epochs values ('a tenant', 'tenant', 'a', 1)",
        "update installation set revision = -1",
    ] {
        let url = SERVER.create_database();
        let store = open(&url).await.unwrap();
        // A row for the damage to show in.
        SERVER.psql(name(&url), "insert into epochs values ('default', 'tenant', 'z', 1)");
        SERVER.psql(name(&url), damage);
        let loaded = Store::<TestWarrant>::load(&store).await;
        assert!(matches!(loaded, Err(StoreError::Corrupt(_))), "{damage}: {loaded:?}");
    }
}

#[tokio::test]
async fn a_row_locked_by_somebody_else_is_unavailable_in_time_and_recovers() {
    let url = SERVER.create_database();
    let (store, other) = (open(&url).await.unwrap(), open(&url).await.unwrap());
    assert!(store.swap("log", None, (1, Digest::of(b"r"))).await.unwrap());
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let held = async {
        client.batch_execute("begin; select * from checkpoints for update").await.unwrap();
        let swap = store.swap("log", Some((1, Digest::of(b"r"))), (2, Digest::of(b"s")));
        assert_unavailable(&tokio::time::timeout(BOUND, swap).await);
        // Reading goes on meanwhile.
        assert_eq!(other.latest("log").await.unwrap(), Some((1, Digest::of(b"r"))));
        client.batch_execute("rollback").await.unwrap();
        assert!(store.swap("log", Some((1, Digest::of(b"r"))), (2, Digest::of(b"s"))).await.unwrap());
    };
    tokio::select! {
        () = held => {}
        broken = connection => panic!("{broken:?}"),
    }
}

#[tokio::test]
async fn a_connection_ended_by_the_server_is_replaced() {
    let url = SERVER.create_database();
    let store = open(&url).await.unwrap();
    assert_eq!(revision(&store).await.unwrap(), 0);
    let end = "select pg_terminate_backend(pid, 5000) from pg_stat_activity \
               where application_name = 'bartizan' and datname = current_database()";
    SERVER.psql(name(&url), end);
    // The first question may be the one that finds out.
    let answers = [revision(&store).await, revision(&store).await];
    assert!(matches!(answers[0], Ok(0) | Err(StoreError::Unavailable(_))), "{answers:?}");
    assert!(matches!(answers[1], Ok(0)), "{answers:?}");
}

#[tokio::test]
async fn a_session_set_not_to_wait_for_the_disk_waits() {
    let url = SERVER.create_database();
    SERVER.psql("postgres", &format!("alter database {} set synchronous_commit = off", name(&url)));
    let store = open(&url).await.unwrap();
    assert!(store.swap("log", None, (1, Digest::of(b"r"))).await.unwrap());
    // What the pool's hook did, seen by the only means that look into another session: a trigger of the database.
    SERVER.psql(
        name(&url),
        "create function see() returns trigger language plpgsql as $$ begin \
         if current_setting('synchronous_commit') = 'off' then raise 'careless'; end if; return new; end $$; \
         create trigger see before update on checkpoints for each row execute function see()",
    );
    assert!(store.swap("log", Some((1, Digest::of(b"r"))), (2, Digest::of(b"s"))).await.unwrap());
}

#[tokio::test]
async fn a_wrong_database_user_or_port_is_unavailable_and_names_no_password() {
    let port = SERVER.port();
    for url in [
        format!("postgres://postgres:hunter2@127.0.0.1:{port}/missing"),
        format!("postgres://nobody:hunter2@127.0.0.1:{port}/postgres"),
        "postgres://postgres:hunter2@127.0.0.1:1/postgres".to_owned(),
    ] {
        let opened = tokio::time::timeout(BOUND, open(&url)).await.unwrap();
        let shown = format!("{opened:?}");
        assert!(matches!(opened, Err(OpenError::Store(StoreError::Unavailable(_)))), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

fn node(number: u8) -> NodeId {
    NodeId::from_parts(Timestamp::from_secs(1), [number; 10])
}

const fn at(revision: u64) -> Enforced {
    Enforced { revision, policy: revision }
}

async fn founded(url: &str) -> PostgresStore {
    let store = open(url).await.unwrap();
    let founding = Founding {
        recovery: (1, vec!["key".to_owned()]),
        claim: ClaimRow { digest: Digest::of(b"claim"), expires: Timestamp::MAX },
        documents: Vec::new(),
        bundle: None,
    };
    Store::<TestWarrant>::found(&store, founding).await.unwrap();
    store
}

async fn apply(store: &PostgresStore, change: Change) -> Result<u64, StoreError> {
    store.apply(&TestWarrant::of(&Tenant::default_tenant()), vec![change]).await
}

fn revoke(name: &str) -> Change {
    Change::AdvanceEpoch(EpochRow {
        tenant: Tenant::default_tenant(),
        kind: EpochKind::Session,
        name: name.parse().unwrap(),
        not_before: Timestamp::from_secs(5),
        revision: 0,
    })
}

#[tokio::test]
async fn inv_epoch_a_node_hears_of_a_revocation_or_the_revocation_finds_its_lease() {
    let url = SERVER.create_database();
    let (store, other) = (founded(&url).await, open(&url).await.unwrap());
    for round in 1..40 {
        let (revoked, heard) = tokio::join!(apply(&store, revoke("s")), other.confirm(node(1), at(round)));
        let (revoked, heard) = (revoked.unwrap(), heard.unwrap());
        // Whoever changed the state looks after that, and finds the node's promise unless the node has heard.
        let seen = store.nodes().await.unwrap();
        let found = seen.iter().any(|n| n.node == node(1) && !n.out && !n.enforced.is_at(revoked, false));
        assert!(heard == revoked || found, "round {round}: {heard} of {revoked}, {seen:?}");
        other.confirm(node(1), at(revoked)).await.unwrap();
        let seen = store.nodes().await.unwrap();
        assert!(seen.iter().all(|n| n.enforced == at(revoked)), "{seen:?}");
        store.leave(node(1)).await.unwrap();
        assert!(store.nodes().await.unwrap().is_empty());
    }
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "it is real time that is measured")]
async fn inv_epoch_a_lease_runs_out_by_the_databases_clock() {
    let store = founded(&SERVER.create_database()).await;
    store.confirm(node(1), at(1)).await.unwrap();
    let begun = std::time::Instant::now();
    while !store.nodes().await.unwrap()[0].out {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let lasted = begun.elapsed();
    assert!(lasted > LEASE - Duration::from_millis(100) && lasted < LEASE * 3, "{lasted:?}");
    store.confirm(node(1), at(1)).await.unwrap();
    assert!(!store.nodes().await.unwrap()[0].out, "it is back");
}

#[tokio::test]
async fn a_change_of_the_state_is_heard_by_who_listens_and_one_of_rows_is_not() {
    let url = SERVER.create_database();
    let (store, other) = (founded(&url).await, open(&url).await.unwrap());
    // Connecting counts as a word.
    tokio::time::timeout(BOUND, other.moved()).await.unwrap();
    let row = Row {
        tenant: Tenant::default_tenant(),
        kind: RowKind::Session,
        id: "s".to_owned(),
        owner: String::new(),
        expires: None,
        version: 0,
        body: "{}".to_owned(),
    };
    apply(&store, Change::PutRow { row, expect: None }).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(100), other.moved()).await.is_err());
    apply(&store, revoke("s")).await.unwrap();
    tokio::time::timeout(BOUND, other.moved()).await.unwrap();
    // The server ends the connection: the next wait connects again.
    let end = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where query ilike 'listen%' \
               and datname = current_database()";
    SERVER.psql(name(&url), end);
    tokio::time::timeout(BOUND, other.moved()).await.unwrap();
}

#[tokio::test]
async fn rows_change_while_somebody_else_changes_the_state() {
    let url = SERVER.create_database();
    let store = founded(&url).await;
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let held = async {
        client.batch_execute("begin; select * from installation for update").await.unwrap();
        for n in 0..20 {
            let row = Row {
                tenant: Tenant::default_tenant(),
                kind: RowKind::Session,
                id: format!("s{n}"),
                owner: String::new(),
                expires: None,
                version: 0,
                body: "{}".to_owned(),
            };
            let put = apply(&store, Change::PutRow { row, expect: None });
            tokio::time::timeout(Duration::from_millis(900), put).await.unwrap().unwrap();
        }
        let state = tokio::time::timeout(BOUND, apply(&store, revoke("s"))).await;
        assert_unavailable(&state);
        client.batch_execute("rollback").await.unwrap();
    };
    tokio::select! {
        () = held => {}
        broken = connection => panic!("{broken:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lesson_litellm_34732_counts_are_looked_at_and_taken_in_one_step() {
    let place = SERVER.create_schema();
    let (one, other) = (open(&place).await.unwrap(), open(&place).await.unwrap());
    conformance::lesson_litellm_34732_counts_are_looked_at_and_taken_in_one_step(
        Arc::new(one),
        Arc::new(other),
    )
    .await;
}

#[tokio::test]
async fn counts_that_are_over_are_swept() {
    let store = open(&SERVER.create_schema()).await.unwrap();
    conformance::counts_that_are_over_are_swept(Arc::new(store)).await;
}
