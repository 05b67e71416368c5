//! The database: how it is opened, so that what was deleted does not linger, and its schema as numbered steps.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::VaultError;
use crate::error::{file, sort};

/// Marks the file as ours (`application_id`): "btzv".
const APPLICATION: i32 = 0x6274_7a76;

/// Step `n` leads from version `n` to `n + 1`. A step once released is never edited.
const STEPS: &[&str] = &[include_str!("../migrations/0001_vault.sql")];

/// How long to wait for another process that holds the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// Opens the database at `path` (mode 0600) and brings its schema up to date.
///
/// # Errors
/// `Unavailable` when it cannot be opened or another process has it; `Database` when it is damaged, not ours, or newer.
pub(crate) fn open(path: &Path) -> Result<Connection, VaultError> {
    protect(path).map_err(file(path))?;
    let mut connection = Connection::open(path).map_err(sort)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(sort)?;
    connection.set_prepared_statement_cache_capacity(64);
    for (pragma, value) in [
        // One process has the vault: it sweeps files that no row names, which would be another's half-written ones.
        ("locking_mode", "exclusive"),
        // No write-ahead log: it holds old and new rows until some later checkpoint. Of the rollback journals, `delete`
        // and `truncate` give the blocks with the old rows back to the file system as they are. `persist` keeps the file,
        // so that `sweep` can overwrite it before it is cut. Committing zeroes and syncs the journal's head, so a journal
        // that is overwritten between transactions is never one that recovery would want.
        ("journal_mode", "persist"),
        // Every commit reaches the disk before it is acknowledged.
        ("synchronous", "full"),
        // Deleted cells and freed pages are filled with zeros in the same transaction.
        ("secure_delete", "on"),
        // What `vacuum` and sorting need aside stays in memory, rather than in files elsewhere.
        ("temp_store", "memory"),
        ("foreign_keys", "on"),
        ("trusted_schema", "off"),
    ] {
        connection.pragma_update(None, pragma, value).map_err(sort)?;
    }
    let found: String = connection.query_row("pragma quick_check(1)", [], |row| row.get(0)).map_err(sort)?;
    if found != "ok" {
        return Err(VaultError::Database(found));
    }
    migrate(&mut connection)?;
    Ok(connection)
}

/// Runs `work` in one transaction that holds the write lock from its beginning.
pub(crate) fn write<T>(
    connection: &mut Connection,
    work: impl FnOnce(&Transaction<'_>) -> Result<T, VaultError>,
) -> Result<T, VaultError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sort)?;
    let done = work(&transaction)?;
    transaction.commit().map_err(sort)?;
    Ok(done)
}

/// Rewrites the database without what was deleted, then overwrites and cuts the journal.
///
/// `secure_delete` alone is not enough: when SQLite moves cells between pages to balance a tree, copies may stay in the
/// unused part of the page that they left, and nobody knows of them when the cell is deleted later. `vacuum` builds every
/// page anew.
pub(crate) fn rewrite(connection: &Connection, path: &Path) -> Result<(), VaultError> {
    connection.execute_batch("vacuum").map_err(sort)?;
    let journal = journal(path);
    match wipe(&journal) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(file(&journal)),
    }
}

fn journal(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-journal");
    name.into()
}

/// Overwrites a file with zeros, durably, and cuts it to nothing. On media and file systems that write elsewhere instead
/// of in place this is no more than an attempt; the proof of an erasure is the destroyed key.
pub(crate) fn wipe(path: &Path) -> io::Result<()> {
    const PIECE: usize = 64 * 1024;
    let mut file = OpenOptions::new().write(true).open(path)?;
    let zeros = [0; PIECE];
    let mut left = file.metadata()?.len();
    while left > 0 {
        let piece = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
        file.write_all(zeros.get(..piece).unwrap_or_default())?;
        left -= piece as u64;
    }
    file.sync_data()?;
    file.set_len(0)?;
    file.sync_all()
}

/// Makes the file ours alone before a byte is written to it, and its name durable.
fn protect(path: &Path) -> io::Result<()> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn migrate(connection: &mut Connection) -> Result<(), VaultError> {
    write(connection, |transaction| {
        let number = |pragma: &str| -> Result<i32, VaultError> {
            transaction.pragma_query_value(None, pragma, |row| row.get(0)).map_err(sort)
        };
        let (application, version) = (number("application_id")?, number("user_version")?);
        let tables: i64 = transaction
            .query_row("select count(*) from sqlite_schema", [], |row| row.get(0))
            .map_err(sort)?;
        let is_new = application == 0 && version == 0 && tables == 0;
        if !is_new && application != APPLICATION {
            return Err(VaultError::Database("the file is a database of another program".to_owned()));
        }
        let known = i32::try_from(STEPS.len()).unwrap_or(i32::MAX);
        let done = usize::try_from(version).ok().filter(|done| *done <= STEPS.len()).ok_or_else(|| {
            VaultError::Database(format!(
                "its schema has version {version}, this program knows up to {known}"
            ))
        })?;
        if done == STEPS.len() {
            return Ok(());
        }
        for step in STEPS.iter().skip(done) {
            transaction.execute_batch(step).map_err(sort)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION).map_err(sort)?;
        transaction.pragma_update(None, "user_version", known).map_err(sort)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use bartizan_base::Random as _;
    use bartizan_base::random::SeededRandom;

    #[test]
    fn the_database_is_opened_so_that_nothing_lingers_and_every_commit_waits_for_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let connection = open(&folder.path().join("vault.db")).unwrap();
        let text = |name| connection.pragma_query_value(None, name, |row| row.get::<_, String>(0)).unwrap();
        let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(text("journal_mode"), "persist");
        assert_eq!(text("locking_mode"), "exclusive");
        assert_eq!(number("secure_delete"), 1);
        assert_eq!(number("synchronous"), 2, "2 is FULL");
        assert_eq!(number("temp_store"), 2, "2 is MEMORY");
        assert_eq!(number("foreign_keys"), 1);
    }

    /// Shows first that `secure_delete` alone leaves copies behind: without that, this would show nothing.
    #[test]
    fn rewriting_removes_the_copies_that_balancing_trees_left_behind() {
        let mut lingering = 0;
        for seed in 0..6 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("vault.db");
            let mut connection = open(&path).unwrap();
            let random = SeededRandom::new(seed);
            let rows: Vec<([u8; 32], Vec<u8>)> = (0..400)
                .map(|_| {
                    let (mut key, mut length) = ([0; 32], [0; 2]);
                    random.fill(&mut key);
                    random.fill(&mut length);
                    let mut value = vec![0; 50 + usize::from(u16::from_be_bytes(length) % 850)];
                    random.fill(&mut value);
                    (key, value)
                })
                .collect();
            write(&mut connection, |transaction| {
                transaction.execute("create table t (k blob primary key, v blob) without rowid", []).unwrap();
                for (key, value) in &rows {
                    transaction.execute("insert into t values (?1, ?2)", (key, value)).unwrap();
                }
                Ok(())
            })
            .unwrap();
            let (gone, _) = rows.split_at(130);
            for (key, _) in gone {
                write(&mut connection, |transaction| {
                    transaction.execute("delete from t where k = ?1", [key]).map_err(sort)
                })
                .unwrap();
            }
            // How many deleted values of which the file holds some sixteen bytes.
            let found = |file: &Path| {
                let bytes = fs::read(file).unwrap();
                let windows: HashSet<&[u8]> = bytes.windows(16).collect();
                gone.iter()
                    .filter(|(_, value)| value.chunks_exact(16).any(|part| windows.contains(part)))
                    .count()
            };
            let journal = journal(&path);
            lingering += found(&path);
            assert!(found(&journal) > 0, "the journal holds what was deleted");
            rewrite(&connection, &path).unwrap();
            assert_eq!((found(&path), found(&journal)), (0, 0), "{seed}");
        }
        assert!(lingering > 0);
    }

    #[test]
    fn a_file_of_another_program_a_newer_one_or_garbage_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vault.db");
        Connection::open(&path).unwrap().execute_batch("create table t (x)").unwrap();
        assert!(matches!(open(&path), Err(VaultError::Database(_))));
        fs::remove_file(&path).unwrap();
        open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        assert!(matches!(open(&path), Err(VaultError::Database(_))));
        fs::write(&path, "garbage".repeat(1_000)).unwrap();
        assert!(matches!(open(&path), Err(VaultError::Database(_))));
    }

    #[test]
    fn wiping_leaves_an_empty_file_for_the_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vault.db");
        open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(journal(&path)).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, vec![7; 200_000]).unwrap();
        wipe(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    }
}
