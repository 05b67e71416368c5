//! The nodes that share the database: their leases, and the word that goes round when the revision moves.

use std::fmt;
use std::pin::{Pin, pin};
use std::time::Duration;

use bartizan_model::NodeId;
use bartizan_store::{Enforced, LEASE, NodeRow, StoreError, relational};
use deadpool_postgres::Object;
use futures_util::future::{Either, select};
use futures_util::stream::{self, Stream, StreamExt as _};
use tokio::sync::Mutex;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, Client, Config, Error, NoTls, Row, Socket};

use crate::error::sort;
use crate::read::column;
use crate::tls::Tls;

/// Where the word goes round. The message is the revision, for people who look.
pub(crate) const CHANNEL: &str = "bartizan_state";

/// How long to wait before listening is tried again: a pooler in between may not know how, and polling goes on anyway.
const PAUSE: Duration = Duration::from_secs(5);

/// Two statements, each its own transaction, in this order: see [`bartizan_store::Nodes`].
pub(crate) async fn confirm(
    connection: &Object,
    node: NodeId,
    enforced: Enforced,
) -> Result<u64, StoreError> {
    let sql = "insert into nodes (node, revision, policy, lease_until) \
               values ($1, $2, $3, clock_timestamp() + $4 * interval '1 microsecond') \
               on conflict (node) do update set revision = excluded.revision, policy = excluded.policy, \
               lease_until = greatest(nodes.lease_until, excluded.lease_until)";
    let statement = connection.prepare_cached(sql).await.map_err(sort)?;
    let (revision, policy) = (relational::signed(enforced.revision)?, relational::signed(enforced.policy)?);
    let lease = LEASE.as_secs_f64() * 1e6;
    connection.execute(&statement, &[&node.to_string(), &revision, &policy, &lease]).await.map_err(sort)?;
    revision_of(connection).await
}

pub(crate) async fn revision_of(connection: &Object) -> Result<u64, StoreError> {
    let statement = connection.prepare_cached("select revision from installation").await.map_err(sort)?;
    let row = connection.query_one(&statement, &[]).await.map_err(sort)?;
    relational::unsigned("revision", column(&row, 0)?)
}

pub(crate) async fn nodes(connection: &Object) -> Result<Vec<NodeRow>, StoreError> {
    let sql = "select node, revision, policy, lease_until < clock_timestamp() from nodes \
               where lease_until > clock_timestamp() - interval '1 minute' order by node";
    let statement = connection.prepare_cached(sql).await.map_err(sort)?;
    connection.query(&statement, &[]).await.map_err(sort)?.iter().map(node).collect()
}

fn node(row: &Row) -> Result<NodeRow, StoreError> {
    let id: &str = column(row, 0)?;
    let node = id.parse().map_err(|_| StoreError::Corrupt(format!("`{id}` is not the id of a node")))?;
    let enforced = Enforced {
        revision: relational::unsigned("revision", column(row, 1)?)?,
        policy: relational::unsigned("revision", column(row, 2)?)?,
    };
    Ok(NodeRow { node, enforced, out: column(row, 3)? })
}

/// Also clears away those that went without a word.
pub(crate) async fn leave(connection: &Object, node: NodeId) -> Result<(), StoreError> {
    let sql = "delete from nodes where node = $1 or lease_until < clock_timestamp() - interval '1 day'";
    let statement = connection.prepare_cached(sql).await.map_err(sort)?;
    connection.execute(&statement, &[&node.to_string()]).await.map(drop).map_err(sort)
}

type Messages = Pin<Box<dyn Stream<Item = Result<AsyncMessage, Error>> + Send>>;

/// A connection of its own that only listens. Driven by whoever waits.
pub(crate) struct Listener {
    config: Config,
    tls: Option<Tls>,
    open: Mutex<Option<(Client, Messages)>>,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

impl Listener {
    pub(crate) fn new(config: Config, tls: Option<Tls>) -> Self {
        Self { config, tls, open: Mutex::default() }
    }

    /// Waits for the next word. Connects first, which counts as one: what came before may have been missed.
    pub(crate) async fn next(&self) {
        let mut open = self.open.lock().await;
        loop {
            if let Some((_, messages)) = &mut *open {
                match messages.next().await {
                    Some(Ok(AsyncMessage::Notification(_))) => return,
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => *open = None,
                }
                continue;
            }
            match self.connect().await {
                Ok(listening) => {
                    *open = Some(listening);
                    return;
                }
                Err(error) => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "cannot listen; polling goes on"
                    );
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn connect(&self) -> Result<(Client, Messages), Error> {
        match self.tls.clone() {
            Some(tls) => listen(&self.config, tls).await,
            None => listen(&self.config, NoTls).await,
        }
    }
}

async fn listen<T>(config: &Config, tls: T) -> Result<(Client, Messages), Error>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, mut connection) = config.connect(tls).await?;
    let mut messages: Messages = Box::pin(stream::poll_fn(move |cx| connection.poll_message(cx)));
    let listen = format!("listen {CHANNEL}");
    {
        let mut listening = pin!(client.batch_execute(&listen));
        loop {
            match select(listening.as_mut(), messages.next()).await {
                Either::Left((done, _)) => break done?,
                // The connection is driven on; what it says before it listens is of no interest.
                Either::Right((Some(said), _)) => drop(said?),
                // It ended: so does the question, with its error.
                Either::Right((None, _)) => break listening.await?,
            }
        }
    }
    Ok((client, messages))
}
