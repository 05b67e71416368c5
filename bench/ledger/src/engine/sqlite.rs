//! SQLite as an append-only table: write-ahead log, `synchronous=FULL`, and a group commit in front, since one transaction
//! a record is fifty times slower.

use std::path::{Path, PathBuf};

use bartizan_bench::Error;
use rusqlite::Connection;

use super::group::Group;
use super::{Engine, at_least, record};

pub struct Sqlite {
    path: PathBuf,
    group: Group,
}

impl Sqlite {
    pub fn start(folder: &Path) -> Result<Self, Error> {
        let path = folder.join("records.db");
        let mut connection = Connection::open(&path)?;
        // A checkpoint every 64 MiB instead of every 4: it copies everything once more, and this is SQLite at its best.
        for (pragma, value) in
            [("journal_mode", "wal"), ("synchronous", "full"), ("wal_autocheckpoint", "16384")]
        {
            connection.pragma_update(None, pragma, value)?;
        }
        connection.execute_batch("create table record (id integer primary key, body blob not null)")?;
        let group = Group::start(move |records| {
            let transaction = connection.transaction()?;
            {
                let mut insert = transaction.prepare_cached("insert into record (body) values (?1)")?;
                for record in records {
                    insert.execute([record])?;
                }
            }
            Ok(transaction.commit()?)
        })?;
        Ok(Self { path, group })
    }
}

impl Engine for Sqlite {
    async fn append(&self, number: u64) -> Result<(), Error> {
        self.group.append(record(number)).await
    }

    /// One for each commit; those of checkpoints come on top.
    async fn syncs(&self) -> Result<Option<u64>, Error> {
        Ok(Some(self.group.batches()))
    }

    async fn check(&self, acknowledged: u64) -> Result<(), Error> {
        self.group.end()?;
        let connection = Connection::open(&self.path)?;
        at_least(
            connection
                .query_row("select count(distinct substr(body, 1, 8)) from record", [], |row| row.get(0))?,
            acknowledged,
        )
    }
}

/// Which SQLite is measured.
pub fn sqlite_version() -> &'static str {
    rusqlite::version()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_found_again_and_lost_ones_are_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let sqlite = Sqlite::start(folder.path()).unwrap();
            for number in 0..10 {
                sqlite.append(number).await.unwrap();
            }
            sqlite.check(10).await.unwrap();
            Connection::open(&sqlite.path).unwrap().execute("delete from record where id = 4", []).unwrap();
            assert!(sqlite.check(10).await.unwrap_err().to_string().contains("9 are there"));
        });
    }
}
