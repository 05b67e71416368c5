//! Changes a second: of rows beside the state (logins, refresh tokens), and of the state itself, by 1, 8 and 32 writers.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bartizan_base::{Digest, Timestamp};
use bartizan_bench::Error;
use bartizan_bench::load::quantile_us;
use bartizan_bench::report::Value;
use bartizan_model::Tenant;
use bartizan_secret::Secret;
use bartizan_store::conformance::TestWarrant;
use bartizan_store::{Change, ClaimRow, EpochKind, EpochRow, Founding, Row, RowKind, Store};
use bartizan_store_postgres::PostgresStore;
use bartizan_store_sqlite::SqliteStore;

use crate::postgres::Server;

const WRITERS: [usize; 3] = [1, 8, 32];

type Shared = Arc<dyn Store<TestWarrant>>;

/// On the embedded database.
pub fn sqlite(folder: &Path, window: Duration) -> Result<Vec<Value>, Error> {
    let file = folder.join("rows.db");
    for suffix in ["", "-wal", "-shm"] {
        drop(std::fs::remove_file(folder.join(format!("rows.db{suffix}"))));
    }
    measure(window, async || Ok(Arc::new(SqliteStore::open(&file)?) as Shared))
}

/// On PostgreSQL.
pub fn postgres(server: &Server, window: Duration) -> Result<Vec<Value>, Error> {
    let url = Secret::new(server.database("rows")?);
    measure(window, async || Ok(Arc::new(PostgresStore::open(&url).await?) as Shared))
}

fn measure(window: Duration, open: impl AsyncFn() -> Result<Shared, Error>) -> Result<Vec<Value>, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let store = open().await?;
        let founding = Founding {
            recovery: (1, vec!["key".to_owned()]),
            claim: ClaimRow { digest: Digest::of(b"claim"), expires: Timestamp::MAX },
            documents: Vec::new(),
            bundle: None,
        };
        store.found(founding).await?;
        let mut values = Vec::new();
        for (what, make) in [("row", row as fn(u64) -> Change), ("state", epoch)] {
            for writers in WRITERS {
                let (rate, latency) = round(&store, writers, window, make).await?;
                let us = |q| quantile_us(&latency, q);
                values.extend([
                    Value::new(format!("{what}_changes_per_second_w{writers}"), Some(rate), "1/s"),
                    Value::new(format!("{what}_change_p50_w{writers}"), us(0.5), "us"),
                    Value::new(format!("{what}_change_p99_w{writers}"), us(0.99), "us"),
                ]);
            }
        }
        Ok(values)
    })
}

/// Each writer makes one change after the other; every one is durable before the next begins.
async fn round(
    store: &Shared,
    writers: usize,
    window: Duration,
    make: fn(u64) -> Change,
) -> Result<(f64, Vec<u64>), Error> {
    let numbers = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    // Ids of one round are not those of another.
    let first = u64::try_from(std::time::UNIX_EPOCH.elapsed()?.as_nanos())?;
    let tasks: Vec<_> = (0..writers)
        .map(|_| {
            let (store, numbers) = (store.clone(), numbers.clone());
            tokio::spawn(async move {
                let warrant = TestWarrant::of(&Tenant::default_tenant());
                let mut latency = Vec::new();
                while began.elapsed() < window {
                    let change = make(first.wrapping_add(numbers.fetch_add(1, Ordering::Relaxed)));
                    let asked = Instant::now();
                    store.apply(&warrant, vec![change]).await?;
                    latency.push(u64::try_from(asked.elapsed().as_nanos()).unwrap_or(u64::MAX));
                }
                Ok::<_, bartizan_store::StoreError>(latency)
            })
        })
        .collect();
    let mut latency = Vec::new();
    for task in tasks {
        latency.extend(task.await??);
    }
    let rate = latency.len() as f64 / began.elapsed().as_secs_f64();
    latency.sort_unstable();
    Ok((rate, latency))
}

fn row(number: u64) -> Change {
    let row = Row {
        tenant: Tenant::default_tenant(),
        kind: RowKind::Refresh,
        id: format!("{number:020}"),
        owner: "prn_somebody".to_owned(),
        expires: Some(Timestamp::MAX),
        version: 0,
        // About what a refresh token's row holds.
        body: format!("{{\"family\":\"{}\"}}", "x".repeat(480)),
    };
    Change::PutRow { row, expect: None }
}

fn epoch(number: u64) -> Change {
    Change::AdvanceEpoch(EpochRow {
        tenant: Tenant::default_tenant(),
        kind: EpochKind::Tenant,
        name: Tenant::default_tenant().0,
        not_before: Timestamp::from_micros(number / 1_000),
        revision: 0,
    })
}
