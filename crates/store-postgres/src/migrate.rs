//! The schema, as numbered steps. A step once released is never edited; each runs in one transaction with the number
//! it leads to, and one process migrates at a time.

use bartizan_store::StoreError;
use deadpool_postgres::Object;

use crate::error::sort;

/// "btzs": the lock that migrating processes take. Any number would do that nobody else uses.
const LOCK: i64 = 0x6274_7a73;

/// Step `n` leads from version `n` to `n + 1`.
const STEPS: &[&str] = &[
    include_str!("../migrations/0001_state.sql"),
    include_str!("../migrations/0002_rows.sql"),
    include_str!("../migrations/0003_nodes.sql"),
    include_str!("../migrations/0004_feed.sql"),
    include_str!("../migrations/0005_counters.sql"),
];

/// Brings the schema up to date.
///
/// # Errors
/// `Corrupt` when it was written by a newer version.
pub(crate) async fn migrate(connection: &mut Object) -> Result<(), StoreError> {
    let transaction = connection.transaction().await.map_err(sort)?;
    // Held until the transaction ends; who waits sees what was done meanwhile, since every statement looks afresh.
    transaction.execute("select pg_advisory_xact_lock($1)", &[&LOCK]).await.map_err(sort)?;
    transaction
        .batch_execute("create table if not exists schema_version (version bigint not null)")
        .await
        .map_err(sort)?;
    let row = transaction
        .query_one("select coalesce(max(version), 0) from schema_version", &[])
        .await
        .map_err(sort)?;
    let version: i64 = row.try_get(0).map_err(sort)?;
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    if version > known {
        return Err(StoreError::Corrupt(format!(
            "its schema has version {version}, this program knows up to {known}: it was written by a newer version"
        )));
    }
    let done = usize::try_from(version)
        .map_err(|_| StoreError::Corrupt(format!("its schema has version {version}")))?;
    for (step, leads_to) in STEPS.iter().zip(1_i64..).skip(done) {
        transaction.batch_execute(step).await.map_err(sort)?;
        transaction
            .execute("insert into schema_version (version) values ($1)", &[&leads_to])
            .await
            .map_err(sort)?;
    }
    transaction.commit().await.map_err(sort)
}
