//! Counts, shared by all nodes: each locked while somebody works on it.

use std::collections::{BTreeMap, BTreeSet};

use bartizan_base::Timestamp;
use bartizan_store::{CounterRow, CounterWork, Counters, StoreError, relational};
use deadpool_postgres::{Object, Transaction};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::error::sort;
use crate::store::{PostgresStore, execute};

/// Locked in the order of their keys, so that no two wait for each other. A commit does not wait for the disk: what a crash of
/// the server forgets is the last moments of counts, never of the state.
const LOCKED: &str = "with quick as materialized (select set_config('synchronous_commit', 'off', true)) \
                      select key, body, expires_us from counters, quick where key = any($1) order by key \
                      for update of counters";

async fn locked(
    transaction: &Transaction<'_>,
    keys: &[String],
) -> Result<BTreeMap<String, CounterRow>, StoreError> {
    let statement = transaction.prepare_cached(LOCKED).await.map_err(sort)?;
    let mut out = BTreeMap::new();
    for row in transaction.query(&statement, &[&keys]).await.map_err(sort)? {
        let (key, body): (String, String) = (row.try_get(0).map_err(sort)?, row.try_get(1).map_err(sort)?);
        let expires = relational::moment("a count", row.try_get(2).map_err(sort)?)?;
        out.insert(key, CounterRow { body, expires });
    }
    Ok(out)
}

async fn work(connection: &mut Object, keys: &[String], work: CounterWork) -> Result<(), StoreError> {
    let transaction = connection.transaction().await.map_err(sort)?;
    let mut rows = locked(&transaction, keys).await?;
    if rows.len() < keys.len() {
        // What is not there cannot be locked. An empty body stands for a count that nobody has begun.
        let sql = "insert into counters (key, body, expires_us) select key, '', 0 from unnest($1::text[]) key \
                   order by key on conflict (key) do nothing";
        execute(&transaction, sql, &[&keys]).await?;
        rows = locked(&transaction, keys).await?;
    }
    rows.retain(|_, row| !row.body.is_empty());
    if work(&mut rows) {
        let (mut keys, mut bodies, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for (key, row) in rows {
            keys.push(key);
            bodies.push(row.body);
            ends.push(relational::micros(row.expires));
        }
        let sql = "update counters set body = new.body, expires_us = new.expires_us \
                   from unnest($1::text[], $2::text[], $3::bigint[]) new (key, body, expires_us) \
                   where counters.key = new.key";
        execute(&transaction, sql, &[&keys, &bodies, &ends]).await?;
        transaction.commit().await.map_err(sort)?;
    }
    Ok(())
}

async fn sweep(connection: &mut Object, now: i64, limit: i64) -> Result<usize, StoreError> {
    let sql = "delete from counters where key in \
               (select key from counters where expires_us < $1 order by key limit $2 for update skip locked)";
    let swept = execute(&*connection, sql, &[&now, &limit]).await?;
    Ok(usize::try_from(swept).unwrap_or(usize::MAX))
}

impl Counters for PostgresStore {
    fn work(&self, keys: BTreeSet<String>, work: CounterWork) -> BoxFuture<'_, Result<(), StoreError>> {
        let keys: Vec<String> = keys.into_iter().collect();
        self.connections()
            .run(move |connection| async move { self::work(connection, &keys, work).await }.boxed())
            .boxed()
    }

    fn sweep_counters(&self, now: Timestamp, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        async move {
            let (now, limit) = (relational::micros(now), relational::signed(limit as u64)?);
            self.connections().run(move |connection| sweep(connection, now, limit).boxed()).await
        }
        .boxed()
    }
}
