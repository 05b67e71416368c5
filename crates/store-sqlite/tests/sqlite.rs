//! The suite on SQLite, and what only a file can suffer.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what the tests share may fail like a test")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use bartizan_base::{Digest, Timestamp};
use bartizan_model::Tenant;
use bartizan_store::conformance::{self, TestWarrant, World};
use bartizan_store::{
    Checkpoints as _, ClaimRow, Counters as _, Founding, STEP_BYTES_KEPT, STEPS_CLEARED, STEPS_KEPT, Since,
    State, Store, StoreError,
};
use bartizan_store_sqlite::{SqliteCounters, SqliteStore};
use tempfile::TempDir;

struct Sqlite;

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("state.db")
    }

    fn open(&self) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(&self.path())
    }
}

impl World for Sqlite {
    type Place = Place;
    type Store = SqliteStore;

    async fn empty(&self) -> Place {
        Place::new()
    }

    async fn open(&self, place: &Place) -> SqliteStore {
        place.open().unwrap()
    }
}

bartizan_store::conformance_tests!(Sqlite);

#[test]
fn random_operations_match_the_model() {
    bartizan_store::conformance::random_operations_match_the_model(&Sqlite, 24);
}

async fn revision(store: &SqliteStore) -> Result<u64, StoreError> {
    Store::<TestWarrant>::revision(store).await
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn every_file_is_readable_by_the_owner_alone() {
    let place = Place::new();
    let store = place.open().unwrap();
    assert!(store.swap("log", None, (1, Digest::of(b"r"))).await.unwrap());
    for entry in fs::read_dir(place.0.path()).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn a_file_with_wider_permissions_is_narrowed() {
    let place = Place::new();
    fs::write(place.path(), b"").unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o644)).unwrap();
    place.open().unwrap();
    assert_eq!(mode(&place.path()), 0o600);
}

#[tokio::test]
async fn commits_are_synced_to_a_write_ahead_log() {
    let place = Place::new();
    drop(place.open().unwrap());
    let raw = rusqlite::Connection::open(place.path()).unwrap();
    let journal: String = raw.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!(journal, "wal");
}

#[track_caller]
fn assert_corrupt(place: &Place, message: &str) {
    match place.open() {
        Err(StoreError::Corrupt(text)) => assert!(text.contains(message), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_that_is_no_database_is_corrupt() {
    let place = Place::new();
    fs::write(place.path(), "not a database, but long enough to be one ".repeat(50)).unwrap();
    assert_corrupt(&place, "not a database");
}

#[test]
fn a_database_of_another_program_is_corrupt_and_left_alone() {
    let place = Place::new();
    let raw = rusqlite::Connection::open(place.path()).unwrap();
    raw.execute_batch("create table theirs (x); insert into theirs values (1)").unwrap();
    assert_corrupt(&place, "another program");
    let tables: i64 = raw.query_row("select count(*) from sqlite_schema", [], |row| row.get(0)).unwrap();
    assert_eq!(tables, 1);
}

#[test]
fn a_schema_of_a_newer_version_is_corrupt() {
    let place = Place::new();
    drop(place.open().unwrap());
    rusqlite::Connection::open(place.path()).unwrap().pragma_update(None, "user_version", 1_000).unwrap();
    assert_corrupt(&place, "newer version");
}

#[test]
fn a_damaged_page_is_corrupt() {
    let place = Place::new();
    drop(place.open().unwrap());
    let mut bytes = fs::read(place.path()).unwrap();
    for byte in bytes.iter_mut().skip(4_096).take(64) {
        *byte = 0xff;
    }
    fs::write(place.path(), bytes).unwrap();
    assert_corrupt(&place, "");
}

#[tokio::test]
async fn a_missing_table_or_an_unreadable_row_is_corrupt() {
    for damage in [
        "drop table epochs",
        "insert into documents values ('default', 'group', 'g', '{\"not\": \"a document\"}', 1)",
        "insert into documents values ('default', 'group', 'g', \
         '{\"name\": \"other\", \"spec\": {\"kind\": \"group\", \"parents\": []}}', 1)",
        "insert into epochs values ('default', 'tenant', 'a', -1, 1)",
        "insert into epochs values ('a tenant', 'tenant', 'a', 1, 1)",
        "insert into side_rows values ('signing_key', 'k', 'default', '', null, -1, '{}')",
        "insert into side_rows values ('signing_key', 'k', 'a tenant', '', null, 1, '{}')",
        "update installation set revision = -1",
        "update installation set claim_digest = 'xyz', claim_expires_us = 1",
    ] {
        let place = Place::new();
        let store = place.open().unwrap();
        rusqlite::Connection::open(place.path()).unwrap().execute_batch(damage).unwrap();
        let loaded = Store::<TestWarrant>::load(&store).await;
        assert!(matches!(loaded, Err(StoreError::Corrupt(_))), "{damage}: {loaded:?}");
    }
}

#[tokio::test]
async fn a_database_locked_by_another_process_is_unavailable_for_writing_and_readable() {
    let place = Place::new();
    let store = place.open().unwrap();
    let raw = rusqlite::Connection::open(place.path()).unwrap();
    raw.execute_batch("begin immediate").unwrap();
    let swapped = store.swap("log", None, (1, Digest::of(b"r"))).await;
    assert!(matches!(swapped, Err(StoreError::Unavailable(_))), "{swapped:?}");
    assert_eq!(revision(&store).await.unwrap(), 0);
    raw.execute_batch("rollback").unwrap();
    assert!(store.swap("log", None, (1, Digest::of(b"r"))).await.unwrap());
}

/// The child of the next test: tells every checkpoint that was acknowledged. Alone it does nothing.
#[test]
#[ignore = "runs as a child of `inv_ack_a_killed_writer_loses_nothing_acknowledged`"]
fn writer() {
    let mut path = String::new();
    std::io::stdin().read_line(&mut path).unwrap();
    if path.is_empty() {
        return;
    }
    let store = SqliteStore::open(Path::new(path.trim_end())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut latest = None;
    for size in 1_u64.. {
        let next = (size, Digest::of(&size.to_be_bytes()));
        assert!(runtime.block_on(store.swap("log", latest, next)).unwrap());
        println!("\nacknowledged {size}");
        latest = Some(next);
    }
}

#[tokio::test]
async fn inv_ack_a_killed_writer_loses_nothing_acknowledged() {
    let place = Place::new();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writer", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{}", place.path().display()).unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = 0_u64;
    for size in
        lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("acknowledged ")?.parse().ok())
    {
        acknowledged = size;
        if size == 30 {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(acknowledged >= 30, "{acknowledged}");
    let (size, root) = place.open().unwrap().latest("log").await.unwrap().unwrap();
    // One more may have become durable without having been told.
    assert!(size == acknowledged || size == acknowledged + 1, "{size} {acknowledged}");
    assert_eq!(root, Digest::of(&size.to_be_bytes()));
}

#[test]
fn a_folder_that_is_missing_is_unavailable() {
    let place = Place::new();
    let store = SqliteStore::open(&place.0.path().join("missing/state.db"));
    assert!(matches!(store, Err(StoreError::Unavailable(_))), "{store:?}");
}

async fn founded(place: &Place) -> SqliteStore {
    let store = place.open().unwrap();
    let founding = Founding {
        recovery: (1, vec!["key".to_owned()]),
        claim: ClaimRow { digest: Digest::of(b"claim"), expires: Timestamp::MAX },
        documents: Vec::new(),
        bundle: None,
    };
    Store::<TestWarrant>::found(&store, founding).await.unwrap();
    store
}

async fn nothing(store: &SqliteStore) -> u64 {
    store.apply(&TestWarrant::of(&Tenant::default_tenant()), Vec::new()).await.unwrap()
}

async fn since(store: &SqliteStore, of: &State) -> Result<Since, StoreError> {
    Store::<TestWarrant>::changes_since(store, of.revision, of.mark, 9_999).await
}

#[tokio::test]
async fn steps_that_are_too_long_ago_are_cleared_away_and_what_is_before_them_is_too_old() {
    let place = Place::new();
    let store = founded(&place).await;
    let first: State = Store::<TestWarrant>::load(&store).await.unwrap();
    nothing(&store).await;
    assert!(matches!(since(&store, &first).await, Ok(Since::Steps(steps)) if steps.len() == 1));
    // Many changes later.
    let raw = rusqlite::Connection::open(place.path()).unwrap();
    let later = STEPS_KEPT + 2 * STEPS_CLEARED - 1;
    raw.execute("update installation set revision = ?1", [i64::try_from(later).unwrap()]).unwrap();
    let last: State = Store::<TestWarrant>::load(&store).await.unwrap();
    assert_eq!(since(&store, &last).await.unwrap(), Since::Steps(Vec::new()));
    assert_eq!(nothing(&store).await, later + 1);
    let kept = || raw.query_row("select group_concat(revision) from steps", [], |row| row.get(0));
    assert_eq!(kept(), Ok((later + 1).to_string()));
    assert_eq!(since(&store, &first).await.unwrap(), Since::TooOld);
    assert!(matches!(since(&store, &last).await, Ok(Since::Steps(steps)) if steps.len() == 1));
    // And those that are more than there is room for.
    let room = i64::try_from(STEP_BYTES_KEPT).unwrap();
    raw.execute(
        "update installation set revision = revision + ?1 - 2",
        [i64::try_from(STEPS_CLEARED).unwrap()],
    )
    .unwrap();
    nothing(&store).await;
    raw.execute(
        "update steps set upto = upto + ?1 where revision = (select max(revision) from steps)",
        [room],
    )
    .unwrap();
    nothing(&store).await;
    let kept: Result<i64, _> = raw.query_row("select count(*) from steps", [], |row| row.get(0));
    assert_eq!(kept, Ok(2));
}

#[tokio::test]
async fn attack_13_a_step_that_was_changed_in_the_database_is_not_followed() {
    let place = Place::new();
    let store = founded(&place).await;
    let first: State = Store::<TestWarrant>::load(&store).await.unwrap();
    nothing(&store).await;
    nothing(&store).await;
    let raw = rusqlite::Connection::open(place.path()).unwrap();
    for damage in [
        "update steps set body = '[{\"delete_row\": [\"standing\", \"x\"]}]' where revision = 3",
        "update steps set mark = (select mark from steps where revision = 2) where revision = 3",
        "update steps set follows = null where revision = 3",
        "update steps set revision = 4 where revision = 3; update installation set revision = 4",
    ] {
        raw.execute_batch("create temp table kept as select * from steps").unwrap();
        raw.execute_batch(damage).unwrap();
        let since = since(&store, &first).await;
        assert!(matches!(since, Err(StoreError::Corrupt(_)) | Ok(Since::TooOld)), "{damage}: {since:?}");
        raw.execute_batch("delete from steps; insert into steps select * from kept; drop table kept")
            .unwrap();
    }
}

#[tokio::test]
async fn a_database_of_an_earlier_version_is_followed_from_its_first_change_on() {
    let place = Place::new();
    let store = founded(&place).await;
    let raw = rusqlite::Connection::open(place.path()).unwrap();
    // As an earlier version left it: no steps, and no mark.
    raw.execute_batch("update installation set mark = null; delete from steps").unwrap();
    let mut state: State = Store::<TestWarrant>::load(&store).await.unwrap();
    assert_eq!(state.mark, None);
    nothing(&store).await;
    // It goes on writing beside this one for a while, without a step.
    let Ok(Since::Steps(steps)) = since(&store, &state).await else { panic!("it is followed") };
    steps.iter().for_each(|step| state.follow(step).unwrap());
    assert_eq!(state, Store::<TestWarrant>::load(&store).await.unwrap());
    raw.execute_batch("update installation set revision = revision + 1").unwrap();
    assert_eq!(since(&store, &state).await.unwrap(), Since::TooOld);
    let mut state: State = Store::<TestWarrant>::load(&store).await.unwrap();
    nothing(&store).await;
    let Ok(Since::Steps(steps)) = since(&store, &state).await else { panic!("it is followed again") };
    steps.iter().for_each(|step| state.follow(step).unwrap());
    assert_eq!(state, Store::<TestWarrant>::load(&store).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lesson_litellm_34732_counts_are_looked_at_and_taken_in_one_step() {
    let place = Place::new();
    let open = || Arc::new(SqliteCounters::open(&place.path()).unwrap());
    conformance::lesson_litellm_34732_counts_are_looked_at_and_taken_in_one_step(open(), open()).await;
}

#[tokio::test]
async fn counts_that_are_over_are_swept_and_those_that_are_not_outlive_the_process() {
    let place = Place::new();
    conformance::counts_that_are_over_are_swept(Arc::new(SqliteCounters::open(&place.path()).unwrap())).await;
    let again = Arc::new(SqliteCounters::open(&place.path()).unwrap());
    assert_eq!(
        again.sweep_counters(Timestamp::MAX, 9).await.unwrap(),
        1,
        "the one that is not over was still there"
    );
}
