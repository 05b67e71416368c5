//! PostgreSQL.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bartizan_base::Clock;
use bartizan_model::database_route::DatabaseServer;
use bartizan_model::{ReasonCode, Tenant};
use bartizan_rt::Tasks;
use bartizan_sql_guard::Parameter;
use bartizan_upstream::{Credentials, DialPolicy, FetchError, Stream as Dialled, Upstreams};
use bytes::BytesMut;
use futures_util::TryStreamExt as _;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{CancelToken, Client, Config, NoTls};
use tokio_rustls::TlsConnector;

use crate::pool::{Idle, Pool};
use crate::run::{Failure, Rows, Run};
use crate::tls::Handshake;
use crate::unfit::check;

/// Until a connection is made and looked at.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// What the server may be late beyond its own limit.
const GRACE: Duration = Duration::from_secs(1);

/// What a connection is set to before anything is asked on it; `DISCARD ALL` returns to it.
const OPTIONS: &str = "-c search_path=pg_catalog,pg_temp -c default_transaction_read_only=on -c standard_conforming_strings=on \
                       -c row_security=on -c idle_in_transaction_session_timeout=10000 -c statement_timeout=5000 \
                       -c DateStyle=ISO -c TimeZone=UTC";

/// Set for the one transaction, by values that are bound.
const SETTINGS: &str = "SELECT pg_catalog.set_config(s.name, s.value, true) \
                        FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), \
                        pg_catalog.unnest($2::pg_catalog.text[])) AS s(name, value)";

/// What connections are made with.
#[derive(Clone)]
pub(crate) struct Dialer {
    pub(crate) upstreams: Arc<Upstreams>,
    pub(crate) credentials: Arc<dyn Credentials>,
    pub(crate) tasks: Tasks,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Where a server is.
#[derive(Clone, Debug)]
struct Server {
    host: String,
    port: u16,
    tls: bool,
    allow_private: bool,
}

/// A connection in use. One that is not [given back](Self::clean) is cancelled and closed, whatever ended its use.
struct InUse {
    client: Option<Client>,
    made_us: u64,
    cancel: CancelToken,
    dialer: Dialer,
    server: Server,
    pool: Arc<Pool>,
    _place: OwnedSemaphorePermit,
}

impl InUse {
    /// Makes the connection forget, and gives it back.
    async fn clean(mut self) {
        let Some(client) = &self.client else { return };
        let cleaned = tokio::time::timeout(GRACE, client.batch_execute("DISCARD ALL")).await;
        if matches!(cleaned, Ok(Ok(())))
            && let Some(client) = self.client.take()
        {
            self.pool.put(Idle { client, made_us: self.made_us });
        }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let Some(client) = self.client.take() else { return };
        let (cancel, dialer, server) = (self.cancel.clone(), self.dialer.clone(), self.server.clone());
        // The server would go on until its own limit: a closed connection is not noticed while it computes.
        self.dialer.tasks.spawn("cancel a statement", async move {
            if let Err(error) = dialer.cancel(&server, cancel).await {
                tracing::debug!(error, "a statement could not be cancelled; its own limit ends it");
            }
            drop(client);
        });
    }
}

impl Dialer {
    async fn dial(&self, server: &Server) -> Result<Dialled, FetchError> {
        let policy = DialPolicy { allow_private: server.allow_private, tls: false };
        self.upstreams.dial(policy, &server.host, server.port).await
    }

    fn handshake(&self, server: &Server) -> Option<Handshake> {
        let connector = TlsConnector::from(Arc::new(self.upstreams.client_tls()));
        ServerName::try_from(server.host.clone()).ok().map(|name| Handshake { connector, name })
    }

    async fn cancel(&self, server: &Server, token: CancelToken) -> Result<(), String> {
        let work = async {
            let stream = self.dial(server).await.map_err(|e| e.to_string())?;
            let done = if server.tls {
                let handshake = self.handshake(server).ok_or("not a name of a server")?;
                token.cancel_query_raw(stream, handshake).await
            } else {
                token.cancel_query_raw(stream, NoTls).await
            };
            done.map_err(|e| e.to_string())
        };
        tokio::time::timeout(CONNECT_PATIENCE, work).await.map_err(|e| e.to_string())?
    }

    /// A new connection, whose role and tables were looked at.
    async fn connect(&self, tenant: &Tenant, pool: &Pool) -> Result<(Client, Server), Failure> {
        let DatabaseServer::Postgres { host, port, database, user, credential, tls, allow_private } =
            &pool.route.server
        else {
            return Err(ReasonCode::Internal.into());
        };
        let server = Server { host: host.clone(), port: *port, tls: *tls, allow_private: *allow_private };
        let mut config = Config::new();
        config
            .user(user.as_str())
            .dbname(database.as_str())
            .application_name("bartizan")
            .options(OPTIONS)
            .ssl_mode(if *tls { SslMode::Require } else { SslMode::Disable });
        if let Some(name) = credential {
            let password = self.credentials.credential(tenant, name);
            let password = password.ok_or(ReasonCode::UpstreamUnreachable)?;
            config.password(password.expose());
        }
        let stream = self.dial(&server).await.map_err(|error| {
            tracing::warn!(error = &error as &dyn std::error::Error, "a database cannot be reached");
            match error {
                FetchError::Timeout => ReasonCode::UpstreamTimeout,
                FetchError::Address => ReasonCode::EgressForbidden,
                _ => ReasonCode::UpstreamUnreachable,
            }
        })?;
        let unreachable = |error: tokio_postgres::Error| {
            tracing::warn!(error = &error as &dyn std::error::Error, "a database lets nobody in");
            ReasonCode::UpstreamUnreachable
        };
        let client = if *tls {
            let handshake = self.handshake(&server).ok_or(ReasonCode::EgressForbidden)?;
            let (client, connection) = config.connect_raw(stream, handshake).await.map_err(unreachable)?;
            self.tasks.spawn("database connection", drive(connection));
            client
        } else {
            let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(unreachable)?;
            self.tasks.spawn("database connection", drive(connection));
            client
        };
        check(&client, &pool.route).await.map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "a database is not fit to be asked");
            ReasonCode::DatabaseUnfit
        })?;
        Ok((client, server))
    }

    async fn in_use(
        &self,
        tenant: &Tenant,
        pool: &Arc<Pool>,
        place: OwnedSemaphorePermit,
    ) -> Result<InUse, Failure> {
        let (client, made_us, server) = match pool.take(&*self.clock) {
            Some(Idle { client, made_us }) => (client, made_us, server_of(pool)),
            None => {
                let connecting = tokio::time::timeout(CONNECT_PATIENCE, self.connect(tenant, pool));
                let (client, server) =
                    connecting.await.map_err(|_| Failure::from(ReasonCode::UpstreamTimeout))??;
                (client, self.clock.monotonic_us(), Some(server))
            }
        };
        let Some(server) = server else { return Err(ReasonCode::Internal.into()) };
        let cancel = client.cancel_token();
        let (dialer, pool) = (self.clone(), pool.clone());
        Ok(InUse { client: Some(client), made_us, cancel, dialer, server, pool, _place: place })
    }

    /// Runs a statement.
    pub(crate) async fn run(&self, tenant: &Tenant, pool: &Arc<Pool>, run: &Run) -> Result<Rows, Failure> {
        let place = pool.place(CONNECT_PATIENCE).await.ok_or(ReasonCode::Busy)?;
        let mut used = self.in_use(tenant, pool, place).await?;
        let patience = Duration::from_millis(run.limits.statement_ms.into()) + GRACE;
        let Some(client) = &mut used.client else { return Err(ReasonCode::Internal.into()) };
        match tokio::time::timeout(patience, read(client, run)).await {
            Ok(Ok(rows)) => {
                // More may still be coming of what was cut off: such a connection is closed.
                if !rows.truncated {
                    used.clean().await;
                }
                Ok(rows)
            }
            Ok(Err(error)) => {
                let failure = told(&error);
                if !error.is_closed() {
                    used.clean().await;
                }
                Err(failure)
            }
            Err(_) => Err(ReasonCode::QueryTooSlow.into()),
        }
    }
}

fn server_of(pool: &Pool) -> Option<Server> {
    match &pool.route.server {
        DatabaseServer::Postgres { host, port, tls, allow_private, .. } => {
            Some(Server { host: host.clone(), port: *port, tls: *tls, allow_private: *allow_private })
        }
        DatabaseServer::Sqlite { .. } => None,
    }
}

async fn drive<S, T>(mut connection: tokio_postgres::Connection<S, T>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    // Notices are the server's talk to whoever wrote a statement; nobody did.
    while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
        if let Err(error) = message {
            tracing::debug!(error = &error as &dyn std::error::Error, "a database connection ended");
            return;
        }
    }
}

async fn read(client: &mut Client, run: &Run) -> Result<Rows, tokio_postgres::Error> {
    let transaction = client.build_transaction().read_only(true).start().await?;
    let mut settings = vec![
        ("statement_timeout", run.limits.statement_ms.to_string()),
        ("lock_timeout", run.limits.lock_ms.to_string()),
        ("search_path", "pg_catalog, pg_temp".to_owned()),
        ("row_security", "on".to_owned()),
        ("standard_conforming_strings", "on".to_owned()),
    ];
    settings.extend(run.identity.settings());
    let (names, values): (Vec<&str>, Vec<String>) = settings.into_iter().unzip();
    transaction.query(SETTINGS, &[&names, &values]).await?;
    // Both are sent at once; where the first fails, the second only says that the transaction is over.
    let (inner, statement) = tokio::join!(transaction.prepare(&run.inner), transaction.prepare(&run.text));
    let (inner, statement) = (inner?, statement?);
    let types = inner.columns().iter().map(|column| column.type_().name().to_owned()).collect();
    let values: Vec<Bound<'_>> = run.values.iter().map(Bound).collect();
    let values = values.iter().map(|value| value as &(dyn ToSql + Sync));
    let portal = transaction.bind_raw(&statement, values).await?;
    let most = i32::try_from(run.limits.rows.saturating_add(1)).unwrap_or(i32::MAX);
    let mut stream = pin!(transaction.query_portal_raw(&portal, most).await?);
    let mut found = Rows { types, ..Rows::default() };
    while let Some(row) = stream.try_next().await? {
        let mut values = Vec::with_capacity(run.columns);
        let mut bytes = 0;
        for at in 0..run.columns {
            let text: Option<&str> = row.try_get(at)?;
            bytes += text.map_or(4, str::len) as u64;
            // What the server cut off is not JSON any more; it is too long anyway.
            values.push(text.map_or(Value::Null, |text| serde_json::from_str(text).unwrap_or(Value::Null)));
        }
        if found.rows.len() as u64 >= u64::from(run.limits.rows)
            || found.bytes + bytes > u64::from(run.limits.bytes)
        {
            found.truncated = true;
            return Ok(found);
        }
        found.bytes += bytes;
        found.rows.push(values);
    }
    transaction.rollback().await?;
    Ok(found)
}

/// A value on its way to the server.
#[derive(Debug)]
struct Bound<'a>(&'a Parameter);

impl ToSql for Bound<'_> {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self.0 {
            Parameter::Null => Ok(IsNull::Yes),
            Parameter::Boolean(value) => value.to_sql_checked(kind, out),
            Parameter::Integer(value) => value.to_sql_checked(kind, out),
            Parameter::Number(value) => value.to_sql_checked(kind, out),
            Parameter::Text(value) => value.as_str().to_sql_checked(kind, out),
            Parameter::Integers(values) => values.to_sql_checked(kind, out),
            Parameter::Texts(values) => values.to_sql_checked(kind, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// What the caller hears of an error: never the server's words, which can hold data of rows that nobody may see.
fn told(error: &tokio_postgres::Error) -> Failure {
    let Some(state) = error.code() else {
        tracing::warn!(error = error as &dyn std::error::Error, "a database broke off");
        return ReasonCode::UpstreamUnreachable.into();
    };
    tracing::info!(
        error = error as &dyn std::error::Error,
        state = state.code(),
        "a database did not run a statement"
    );
    let hint = match *state {
        SqlState::QUERY_CANCELED => return ReasonCode::QueryTooSlow.into(),
        SqlState::LOCK_NOT_AVAILABLE => return ReasonCode::Busy.into(),
        SqlState::INSUFFICIENT_PRIVILEGE => return ReasonCode::DatabaseUnfit.into(),
        // Of the statement alone, found before any row was looked at.
        SqlState::GROUPING_ERROR => "every column must be grouped by or aggregated",
        SqlState::UNDEFINED_FUNCTION | SqlState::AMBIGUOUS_FUNCTION => {
            "an operator or function does not take values of these types: write a cast"
        }
        SqlState::DATATYPE_MISMATCH | SqlState::CANNOT_COERCE => "types do not fit: write a cast",
        SqlState::WINDOWING_ERROR => "a window function cannot be used here",
        _ => return ReasonCode::StatementFailed.into(),
    };
    Failure { reason: ReasonCode::StatementFailed, hint: Some(hint) }
}
