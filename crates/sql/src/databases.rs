//! The exit.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bartizan_base::{Clock, Name};
use bartizan_model::action::DatabaseQuery;
use bartizan_model::database_route::DatabaseServer;
use bartizan_model::{DatabaseRouteSpec, ReasonCode, Target, Tenant};
use bartizan_record::IntentRecorded;
use bartizan_rt::Tasks;
use bartizan_upstream::{Credentials, Upstreams};

use crate::pool::Pool;
use crate::postgres::Dialer;
use crate::run::{Answered, Failed, Failure, Rows, Run};
use crate::sqlite;

/// What the exit to databases is made of.
#[derive(Clone)]
pub struct Settings {
    /// Whose guard of addresses and whose roots are used.
    pub upstreams: Arc<Upstreams>,
    /// Opens passwords.
    pub credentials: Arc<dyn Credentials>,
    /// The folder of SQLite files; none for none.
    pub sqlite_folder: Option<PathBuf>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("sqlite_folder", &self.sqlite_folder).finish_non_exhaustive()
    }
}

/// The exit to databases.
pub struct Databases {
    dialer: Dialer,
    sqlite_folder: Option<PathBuf>,
    pools: Mutex<HashMap<(Tenant, Name), Arc<Pool>>>,
}

impl fmt::Debug for Databases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Databases").field("sqlite_folder", &self.sqlite_folder).finish_non_exhaustive()
    }
}

impl Databases {
    /// The exit; it connects when it is first asked.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let Settings { upstreams, credentials, sqlite_folder, clock } = settings;
        // Of its own: a process that ends does not wait for connections that nobody uses.
        let tasks = Tasks::new();
        let dialer = Dialer { upstreams, credentials, tasks, clock };
        Self { dialer, sqlite_folder, pools: Mutex::default() }
    }

    /// Runs what the intent was recorded for, and nothing else: its target and digest must be those of `run`, and it must not
    /// have run out. Whoever stops waiting ends the statement.
    ///
    /// # Errors
    /// With the running effect, so that its end can be told. Never in the database's words.
    pub async fn query(
        &self,
        intent: IntentRecorded<DatabaseQuery>,
        database: &Name,
        route: &DatabaseRouteSpec,
        run: &Run,
    ) -> Result<Answered, Failed> {
        let fits = matches!(intent.target(), Target::Direct { name, body } if name == database && *body == run.digest());
        let in_time = self.dialer.clock.now() < intent.expires();
        let tenant = intent.tenant().clone();
        let running = intent.begin();
        if !fits || !in_time {
            tracing::error!(
                fits,
                in_time,
                "a statement that is not the recorded one was stopped at the exit"
            );
            return Err(Failed { reason: ReasonCode::Internal, hint: None, running });
        }
        match self.attempt(&tenant, database, route, run).await {
            Ok(rows) => Ok(Answered { rows, running }),
            Err(Failure { reason, hint }) => Err(Failed { reason, hint, running }),
        }
    }

    async fn attempt(
        &self,
        tenant: &Tenant,
        database: &Name,
        route: &DatabaseRouteSpec,
        run: &Run,
    ) -> Result<Rows, Failure> {
        let pool = self.pool(tenant, database, route);
        match &route.server {
            DatabaseServer::Postgres { .. } => self.dialer.run(tenant, &pool, run).await,
            DatabaseServer::Sqlite { file } => {
                let Some(folder) = &self.sqlite_folder else {
                    tracing::error!(%database, "an SQLite file is declared, and `query.sqlite_folder` is not set");
                    return Err(ReasonCode::DatabaseUnfit.into());
                };
                let _place = pool.places.try_acquire().map_err(|_| ReasonCode::Busy)?;
                sqlite::run(&folder.join(file.as_str()), &self.dialer.clock, run).await
            }
        }
    }

    /// The connections of a route as it is declared now.
    fn pool(&self, tenant: &Tenant, database: &Name, route: &DatabaseRouteSpec) -> Arc<Pool> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (tenant.clone(), database.clone());
        if let Some(pool) = pools.get(&key).filter(|pool| pool.route == *route) {
            return pool.clone();
        }
        let pool = Arc::new(Pool::new(route.clone()));
        pools.insert(key, pool.clone());
        pool
    }
}
