//! Connections to PostgreSQL: to a checked address, under TLS that is verified by name, as a role that row security holds for.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{fmt, io};

use bartizan_filter::SqlValue;
use bartizan_model::{PostgresServer, ReasonCode, Tenant};
use bartizan_secret::Secret;
use bartizan_upstream::{DialPolicy, Stream, Upstreams};
use futures_util::future::{BoxFuture, Either, select};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{ChannelBinding, TlsConnect};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Connection, IsolationLevel};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::step::Statement;

/// Within which a step must be done, connecting included.
const PATIENCE: Duration = Duration::from_secs(30);
/// Connections that wait to be used again, of one server.
const IDLE_MAX: usize = 16;

/// A connection, driven only while it is used: nothing of it runs on its own.
struct Pair {
    client: Client,
    connection: Connection<Stream, Protected>,
}

/// Connections that wait to be used again, by tenant and server.
#[derive(Default)]
pub(crate) struct Pool(Mutex<HashMap<(Tenant, PostgresServer), Vec<Pair>>>);

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pool")
    }
}

/// Why a database gave nothing; told to operators, never to callers.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("no connection could be made")]
    Dial(#[from] bartizan_upstream::FetchError),
    #[error("the database refused")]
    Database(#[from] tokio_postgres::Error),
    #[error("the role is a superuser or passes row security by")]
    Role,
    #[error("the connection ended")]
    Ended,
}

impl Pool {
    /// Runs statements in one transaction; gives the rows of the last.
    pub(crate) async fn run(
        &self,
        upstreams: &Upstreams,
        (tenant, server): (&Tenant, &PostgresServer),
        password: Option<&Secret<String>>,
        (statements, reads): (&[Statement], bool),
    ) -> Result<Value, ReasonCode> {
        let work = async {
            let key = (tenant.clone(), server.clone());
            let mut pair = match self.waiting(&key).await {
                Some(pair) => pair,
                None => Pair::open(upstreams, server, password).await?,
            };
            let done = pair.within(statements, reads).await?;
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let waiting = all.entry(key).or_default();
            if waiting.len() < IDLE_MAX {
                waiting.push(pair);
            }
            Ok::<_, Trouble>(done)
        };
        let done = tokio::time::timeout(PATIENCE, work).await.map_err(|_| ReasonCode::UpstreamTimeout)?;
        done.map_err(|trouble| {
            tracing::warn!(error = &trouble as &dyn std::error::Error, "a store of documents gave nothing");
            match trouble {
                Trouble::Dial(_) | Trouble::Ended => ReasonCode::UpstreamUnreachable,
                Trouble::Database(_) | Trouble::Role => ReasonCode::UpstreamInvalid,
            }
        })
    }

    /// A connection that still answers.
    async fn waiting(&self, key: &(Tenant, PostgresServer)) -> Option<Pair> {
        loop {
            let mut pair = {
                let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                all.get_mut(key)?.pop()?
            };
            let Pair { client, connection } = &mut pair;
            if driven(connection, client.simple_query("")).await.is_ok_and(|pong| pong.is_ok()) {
                return Some(pair);
            }
        }
    }
}

/// What `work` gives, while the connection is driven.
async fn driven<T>(
    connection: &mut Connection<Stream, Protected>,
    work: impl Future<Output = T>,
) -> Result<T, Trouble> {
    match select(Box::pin(work), connection).await {
        Either::Left((done, _)) => Ok(done),
        Either::Right((Err(error), _)) => Err(error.into()),
        Either::Right((Ok(()), _)) => Err(Trouble::Ended),
    }
}

impl Pair {
    async fn open(
        upstreams: &Upstreams,
        server: &PostgresServer,
        password: Option<&Secret<String>>,
    ) -> Result<Self, Trouble> {
        let mut config = Config::new();
        config.user(server.user.as_str()).dbname(server.database.as_str()).application_name("bartizan");
        config.ssl_mode(if server.tls { SslMode::Require } else { SslMode::Disable });
        if let Some(password) = password {
            config.password(password.expose());
        }
        // TLS begins within the protocol, so the address is dialled plain.
        let policy = DialPolicy { allow_private: server.allow_private, tls: false };
        let stream = upstreams.dial(policy, &server.host, server.port).await?;
        let tls = Handshake {
            connector: TlsConnector::from(std::sync::Arc::new(upstreams.client_tls())),
            name: ServerName::try_from(server.host.to_string()).ok(),
        };
        let (client, connection) = config.connect_raw(stream, tls).await?;
        let mut pair = Self { client, connection };
        let Self { client, connection } = &mut pair;
        let ask = "SELECT rolsuper OR rolbypassrls FROM pg_catalog.pg_roles WHERE rolname = current_user";
        let above = driven(connection, client.query_one(ask, &[])).await??;
        if above.try_get::<_, bool>(0)? { Err(Trouble::Role) } else { Ok(pair) }
    }

    async fn within(&mut self, statements: &[Statement], reads: bool) -> Result<Value, Trouble> {
        let Self { client, connection } = self;
        let work = async {
            let begun =
                client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).read_only(reads);
            let transaction = begun.start().await?;
            let mut rows = Vec::new();
            for statement in statements {
                let values: Vec<&(dyn ToSql + Sync)> = statement.values.iter().map(value).collect();
                rows = transaction.query(&statement.text, &values).await?;
            }
            transaction.commit().await?;
            let mut out = Vec::with_capacity(rows.len());
            for row in rows.iter().filter(|row| row.len() == 2) {
                out.push(match row.try_get::<_, Value>("row") {
                    Ok(fields) => json!({"row": fields, "score": row.try_get::<_, Option<f64>>("score")?}),
                    // The settings before a search give texts, and are not the last.
                    Err(_) => Value::Null,
                });
            }
            Ok::<_, tokio_postgres::Error>(Value::Array(out))
        };
        Ok(driven(connection, work).await??)
    }
}

fn value(value: &SqlValue) -> &(dyn ToSql + Sync) {
    match value {
        SqlValue::Bool(flag) => flag,
        SqlValue::Int(number) => number,
        SqlValue::Text(text) => text,
        SqlValue::Ints(numbers) => numbers,
        SqlValue::Texts(texts) => texts,
    }
}

/// A connection about to be protected.
struct Handshake {
    connector: TlsConnector,
    name: Option<ServerName<'static>>,
}

impl TlsConnect<Stream> for Handshake {
    type Stream = Protected;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Protected>>;

    fn connect(self, stream: Stream) -> Self::Future {
        Box::pin(async move {
            let wrong =
                || io::Error::new(io::ErrorKind::InvalidInput, "the host is no name for a certificate");
            let name = self.name.ok_or_else(wrong)?;
            Ok(Protected(Box::new(self.connector.connect(name, stream).await?)))
        })
    }
}

/// A protected connection.
struct Protected(Box<TlsStream<Stream>>);

impl tokio_postgres::tls::TlsStream for Protected {
    /// None: the certificate is verified by name, so there is nobody in the middle for a binding to find.
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Protected {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Protected {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        std::pin::Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
