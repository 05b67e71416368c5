//! SQLite: for examples and for what is small.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bartizan_base::Clock;
use bartizan_model::ReasonCode;
use bartizan_sql_guard::{Parameter, is_known_function};
use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, ToSql};
use serde_json::Value;

use crate::run::{Failure, Rows, Run};

/// Steps of the engine between two looks at the clock.
const STEPS: i32 = 1_000;

/// Ends a statement whose caller has left.
struct Left(Arc<AtomicBool>);

impl Drop for Left {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs a statement on the file at `path`.
pub(crate) async fn run(path: &Path, clock: &Arc<dyn Clock>, run: &Run) -> Result<Rows, Failure> {
    let left = Left(Arc::new(AtomicBool::new(false)));
    let (path, clock, run, gone) = (path.to_owned(), clock.clone(), run.clone(), left.0.clone());
    let work = tokio::task::spawn_blocking(move || {
        let slow = Arc::new(AtomicBool::new(false));
        read(&path, clock, &run, &gone, &slow).map_err(|error| {
            tracing::info!(
                error = &error as &dyn std::error::Error,
                "an SQLite database did not run a statement"
            );
            if slow.load(Ordering::Relaxed) { ReasonCode::QueryTooSlow.into() } else { told(&error) }
        })
    });
    let done = work.await;
    drop(left);
    done.map_err(|_| Failure::from(ReasonCode::ShuttingDown))?
}

fn read(
    path: &Path,
    clock: Arc<dyn Clock>,
    run: &Run,
    gone: &Arc<AtomicBool>,
    slow: &Arc<AtomicBool>,
) -> rusqlite::Result<Rows> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_millis(run.limits.lock_ms.into()))?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    connection.pragma_update(None, "query_only", true)?;
    let ends_us = clock.monotonic_us() + u64::from(run.limits.statement_ms) * 1_000;
    let (watch, late) = (gone.clone(), slow.clone());
    connection.progress_handler(
        STEPS,
        Some(move || {
            let is_late = clock.monotonic_us() >= ends_us;
            late.fetch_or(is_late, Ordering::Relaxed);
            is_late || watch.load(Ordering::Relaxed)
        }),
    )?;
    let allowed = Allowed::of(run);
    connection.authorizer(Some(move |context: AuthContext<'_>| allowed.authorize(&context)))?;
    let mut statement = connection.prepare(&run.text)?;
    let values: Vec<Bound<'_>> = run.values.iter().map(Bound).collect();
    let mut found = Rows { types: vec!["null".to_owned(); run.columns], ..Rows::default() };
    let mut rows = statement.query(rusqlite::params_from_iter(values))?;
    while let Some(row) = rows.next()? {
        let (mut values, mut bytes) = (Vec::with_capacity(run.columns), 0);
        for at in 0..run.columns {
            let value = row.get_ref(at)?;
            if let Some(kind) = found.types.get_mut(at).filter(|kind| kind.as_str() == "null") {
                value.data_type().to_string().to_ascii_lowercase().clone_into(kind);
            }
            let (value, size) = as_json(value);
            bytes += size;
            values.push(value);
        }
        if found.rows.len() as u64 >= u64::from(run.limits.rows)
            || found.bytes + bytes > u64::from(run.limits.bytes)
        {
            found.truncated = true;
            break;
        }
        found.bytes += bytes;
        found.rows.push(values);
    }
    Ok(found)
}

fn as_json(value: ValueRef<'_>) -> (Value, u64) {
    match value {
        ValueRef::Null => (Value::Null, 4),
        ValueRef::Integer(value) => (Value::from(value), 8),
        ValueRef::Real(value) => (Value::from(value), 8),
        ValueRef::Text(bytes) => {
            (Value::from(String::from_utf8_lossy(bytes).into_owned()), bytes.len() as u64)
        }
        ValueRef::Blob(bytes) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            (Value::from(format!("\\x{hex}")), bytes.len() as u64 * 2)
        }
    }
}

fn told(error: &rusqlite::Error) -> Failure {
    use rusqlite::ErrorCode;
    match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen | ErrorCode::NotADatabase | ErrorCode::PermissionDenied) => {
            ReasonCode::DatabaseUnfit.into()
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => ReasonCode::Busy.into(),
        // Only what was not found out by us can be found out by the engine's own authorizer.
        Some(ErrorCode::AuthorizationForStatementDenied) => ReasonCode::DatabaseUnfit.into(),
        _ => ReasonCode::StatementFailed.into(),
    }
}

/// What the engine may touch: what was decided on, and nothing that it finds beyond.
struct Allowed {
    tables: BTreeSet<String>,
    reads: BTreeSet<(String, String)>,
    /// Whether the house itself tells rows apart: by the columns that are among those, and by functions that no statement can call.
    tells_rows: bool,
}

/// What conditions on rows are made of, beside columns (`bartizan_filter`).
const TELLING: [&str; 8] =
    ["char", "count", "glob", "instr", "json_array_length", "json_type", "json_valid", "typeof"];

impl Allowed {
    fn of(run: &Run) -> Self {
        let lower = |name: &bartizan_base::Name| name.as_str().to_ascii_lowercase();
        let pair = |(table, column): &(_, _)| (lower(table), lower(column));
        Self {
            tables: run.tables.iter().map(lower).collect(),
            reads: run.reads.iter().chain(&run.looked_at).map(pair).collect(),
            tells_rows: !run.looked_at.is_empty(),
        }
    }

    fn authorize(&self, context: &AuthContext<'_>) -> Authorization {
        // The engine says of queries that are named first what it says of views: through which it reads.
        let ours = context.accessor.is_none_or(|name| is_named_query(name) && !self.tables.contains(name));
        let main = context.database_name.is_none_or(|name| name == "main") && ours;
        let lower = str::to_ascii_lowercase;
        let allowed = match context.action {
            AuthAction::Select => true,
            AuthAction::Read { table_name, column_name: "" } => {
                main && self.tables.contains(&lower(table_name))
            }
            AuthAction::Read { table_name, column_name } => {
                let lists = self.tells_rows && table_name == "json_each";
                main && (lists || self.reads.contains(&(lower(table_name), lower(column_name))))
            }
            AuthAction::Function { function_name } => {
                let name = lower(function_name);
                name == "like"
                    || is_known_function(false, &name)
                    || (self.tells_rows && TELLING.contains(&name.as_str()))
            }
            _ => false,
        };
        if !allowed {
            tracing::error!(?context, "SQLite would touch what was not decided on");
        }
        if allowed { Authorization::Allow } else { Authorization::Deny }
    }
}

/// Whether it is what the guard calls a query that is named first.
fn is_named_query(name: &str) -> bool {
    name.strip_prefix('w').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// A value on its way to the engine.
struct Bound<'a>(&'a Parameter);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self.0 {
            Parameter::Null => Ok(ToSqlOutput::Borrowed(ValueRef::Null)),
            Parameter::Boolean(value) => value.to_sql(),
            Parameter::Integer(value) => value.to_sql(),
            Parameter::Number(value) => value.to_sql(),
            Parameter::Text(value) => value.to_sql(),
            // Lists are JSON there, as a text.
            Parameter::Integers(_) | Parameter::Texts(_) => Err(rusqlite::Error::InvalidQuery),
        }
    }
}
