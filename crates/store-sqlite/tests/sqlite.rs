//! The suite on SQLite, and what only a file can suffer.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what the tests share may fail like a test")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bartizan_base::Digest;
use bartizan_store::conformance::{TestWarrant, World};
use bartizan_store::{Checkpoints as _, Store, StoreError};
use bartizan_store_sqlite::SqliteStore;
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
