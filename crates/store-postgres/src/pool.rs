//! Connections, and a bound on how long anything may take.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bartizan_store::StoreError;
use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use futures_util::future::BoxFuture;
use tokio_postgres::NoTls;
use tokio_postgres::config::SslMode;

use crate::address::Address;
use crate::error::unavailable;
use crate::nodes::Listener;
use crate::tls::Tls;

/// How long anything may take, getting a connection included. Statements end after two seconds by themselves.
const PATIENCE: Duration = Duration::from_millis(2_800);
/// How long to wait for a connection, old or new.
const CONNECT_PATIENCE: Duration = Duration::from_millis(1_500);
const CONNECTIONS_MAX: usize = 16;
/// Apart from those, so that no rush of logins comes between a node and its lease.
const LEASE_CONNECTIONS_MAX: usize = 2;

/// A role or database may be set not to wait for the disk. What we acknowledge is durable.
const SESSION: &str = "select set_config('synchronous_commit', 'on', false) \
                       where current_setting('synchronous_commit') = 'off'";

/// The pool, a small one for leases, and a connection that listens.
#[derive(Clone)]
pub(crate) struct Connections {
    pool: Pool,
    leases: Pool,
    pub(crate) listener: Arc<Listener>,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connections")
    }
}

/// Nothing came back in time.
#[derive(Debug, thiserror::Error)]
#[error("the server did not answer within {} ms", PATIENCE.as_millis())]
struct TooSlow;

impl Connections {
    /// A pool for `address`; connects at first use.
    pub(crate) fn new(address: &Address) -> Result<Self, StoreError> {
        let tls = match address.config.get_ssl_mode() {
            SslMode::Disable => None,
            _ => Some(Tls::new(address.roots.as_deref()).map_err(unavailable)?),
        };
        let listener = Arc::new(Listener::new(address.config.clone(), tls.clone()));
        let pool = self::pool(address, tls.clone(), CONNECTIONS_MAX)?;
        let leases = self::pool(address, tls, LEASE_CONNECTIONS_MAX)?;
        Ok(Self { pool, leases, listener })
    }

    /// Runs `work` on a connection within [`PATIENCE`]. A connection that took too long is closed, not used again: what
    /// it was asked may still be going on.
    pub(crate) async fn run<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: for<'c> FnOnce(&'c mut Object) -> BoxFuture<'c, Result<T, StoreError>>,
    {
        run_on(&self.pool, work).await
    }

    /// The same for what a node's lease depends on.
    pub(crate) async fn run_for_lease<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: for<'c> FnOnce(&'c mut Object) -> BoxFuture<'c, Result<T, StoreError>>,
    {
        run_on(&self.leases, work).await
    }
}

async fn run_on<T, F>(pool: &Pool, work: F) -> Result<T, StoreError>
where
    F: for<'c> FnOnce(&'c mut Object) -> BoxFuture<'c, Result<T, StoreError>>,
{
    let mut held = None;
    let answer = tokio::time::timeout(PATIENCE, async {
        let connection = held.insert(pool.get().await.map_err(unavailable)?);
        work(connection).await
    })
    .await;
    answer.unwrap_or_else(|_| {
        drop(held.map(Object::take));
        Err(unavailable(TooSlow))
    })
}
fn pool(address: &Address, tls: Option<Tls>, size: usize) -> Result<Pool, StoreError> {
    let recycle = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = match tls {
        None => Manager::from_config(address.config.clone(), NoTls, recycle),
        Some(tls) => Manager::from_config(address.config.clone(), tls, recycle),
    };
    let prepare = Hook::async_fn(|client: &mut deadpool_postgres::ClientWrapper, _| {
        Box::pin(async move { client.batch_execute(SESSION).await.map_err(HookError::Backend) })
    });
    Pool::builder(manager)
        .max_size(size)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(CONNECT_PATIENCE))
        .create_timeout(Some(CONNECT_PATIENCE))
        .recycle_timeout(Some(CONNECT_PATIENCE))
        .post_create(prepare)
        .build()
        .map_err(unavailable)
}
