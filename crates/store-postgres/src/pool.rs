//! Connections, and a bound on how long anything may take.

use std::fmt;
use std::time::Duration;

use bartizan_store::StoreError;
use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use futures_util::future::BoxFuture;
use tokio_postgres::NoTls;
use tokio_postgres::config::SslMode;

use crate::address::Address;
use crate::error::unavailable;
use crate::tls::Tls;

/// How long anything may take, getting a connection included. Statements end after two seconds by themselves.
const PATIENCE: Duration = Duration::from_millis(2_800);
/// How long to wait for a connection, old or new.
const CONNECT_PATIENCE: Duration = Duration::from_millis(1_500);
const CONNECTIONS_MAX: usize = 8;

/// A role or database may be set not to wait for the disk. What we acknowledge is durable.
const SESSION: &str = "select set_config('synchronous_commit', 'on', false) \
                       where current_setting('synchronous_commit') = 'off'";

/// The pool.
#[derive(Clone)]
pub(crate) struct Connections(Pool);

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
    pub(crate) fn new(address: Address) -> Result<Self, StoreError> {
        let recycle = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = if address.config.get_ssl_mode() == SslMode::Disable {
            Manager::from_config(address.config, NoTls, recycle)
        } else {
            let tls = Tls::new(address.roots.as_deref()).map_err(unavailable)?;
            Manager::from_config(address.config, tls, recycle)
        };
        let prepare = Hook::async_fn(|client: &mut deadpool_postgres::ClientWrapper, _| {
            Box::pin(async move { client.batch_execute(SESSION).await.map_err(HookError::Backend) })
        });
        Pool::builder(manager)
            .max_size(CONNECTIONS_MAX)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(CONNECT_PATIENCE))
            .create_timeout(Some(CONNECT_PATIENCE))
            .recycle_timeout(Some(CONNECT_PATIENCE))
            .post_create(prepare)
            .build()
            .map(Self)
            .map_err(unavailable)
    }

    /// Runs `work` on a connection within [`PATIENCE`]. A connection that took too long is closed, not used again: what
    /// it was asked may still be going on.
    pub(crate) async fn run<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: for<'c> FnOnce(&'c mut Object) -> BoxFuture<'c, Result<T, StoreError>>,
    {
        let mut held = None;
        let answer = tokio::time::timeout(PATIENCE, async {
            let connection = held.insert(self.0.get().await.map_err(unavailable)?);
            work(connection).await
        })
        .await;
        answer.unwrap_or_else(|_| {
            drop(held.map(Object::take));
            Err(unavailable(TooSlow))
        })
    }
}
