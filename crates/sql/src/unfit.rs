//! Whether a role and its tables are such that row security holds. Looked at on every new connection.

use std::collections::BTreeMap;

use bartizan_base::Name;
use bartizan_model::DatabaseRouteSpec;
use bartizan_model::database_route::{RowsSeen, TableRoute};
use tokio_postgres::{Client, Row};

/// Why a connection is not used. For operators; callers hear that the database is not fit.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    /// The role could pass by what is promised.
    #[error("the role {0}")]
    Role(&'static str),
    /// A declared table is not what the route says.
    #[error("the table `{table}` {why}")]
    Table {
        /// Which.
        table: Name,
        /// Why.
        why: String,
    },
    /// The catalogue could not be read.
    #[error("the catalogue cannot be read")]
    Catalogue(#[from] tokio_postgres::Error),
}

/// Membership counts also where it is not inherited: `SET ROLE` is one statement away.
const ROLE: &str = "
SELECT r.rolsuper, r.rolbypassrls,
       EXISTS (SELECT FROM pg_catalog.pg_roles g WHERE pg_catalog.pg_has_role(r.oid, g.oid, 'MEMBER')
               AND (g.rolsuper OR g.rolbypassrls OR g.rolreplication OR g.rolcreaterole OR g.rolcreatedb)),
       EXISTS (SELECT FROM pg_catalog.pg_roles g WHERE pg_catalog.pg_has_role(r.oid, g.oid, 'MEMBER')
               AND pg_catalog.starts_with(g.rolname::pg_catalog.text, 'pg_')),
       EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
               AND pg_catalog.pg_has_role(r.oid, c.relowner, 'MEMBER')),
       EXISTS (SELECT FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
               AND pg_catalog.pg_has_role(r.oid, d.datdba, 'MEMBER'))
       OR EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE NOT pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_')
               AND pg_catalog.pg_has_role(r.oid, n.nspowner, 'MEMBER')),
       session_user = current_user
FROM pg_catalog.pg_roles r WHERE r.rolname = current_user";

/// What each answer of [`ROLE`] means when it is not as it must be.
const ROLE_FAULTS: [(bool, &str); 7] = [
    (false, "is superuser"),
    (false, "passes by row security (BYPASSRLS)"),
    (false, "has, or belongs to a role that has, rights over roles, databases, replication or row security"),
    (false, "belongs to a predefined role (`pg_…`), such as one that reads files of the server"),
    (false, "owns tables, or belongs to a role that does"),
    (false, "owns the database or a schema of it, or belongs to a role that does"),
    (true, "is another one than was logged in as"),
];

const TABLES: &str = "
SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.relkind::pg_catalog.text, c.relrowsecurity,
       ARRAY(SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE (n.nspname::pg_catalog.text, c.relname::pg_catalog.text)
      IN (SELECT * FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[])))";

/// Looks at a new connection.
pub(crate) async fn check(client: &Client, route: &DatabaseRouteSpec) -> Result<(), Unfit> {
    let role = client.query_one(ROLE, &[]).await?;
    for (at, (must, fault)) in ROLE_FAULTS.iter().enumerate() {
        if role.try_get::<_, bool>(at)? != *must {
            return Err(Unfit::Role(fault));
        }
    }
    let schema = |table: &TableRoute| table.schema.as_ref().map_or("public", Name::as_str).to_owned();
    let schemas: Vec<String> = route.tables.values().map(schema).collect();
    let names: Vec<String> = route.tables.keys().map(Name::to_string).collect();
    let rows = client.query(TABLES, &[&schemas, &names]).await?;
    let mut found = BTreeMap::new();
    for row in rows {
        let key: (String, String) = (row.try_get(0)?, row.try_get(1)?);
        found.insert(key, row);
    }
    for ((name, table), schema) in route.tables.iter().zip(schemas) {
        let fault = |why: String| Unfit::Table { table: name.clone(), why };
        let Some(row) = found.get(&(schema, name.to_string())) else {
            return Err(fault("is not there".to_owned()));
        };
        let why = table_fault(row, table)?;
        why.map_or(Ok(()), |why| Err(fault(why)))?;
    }
    Ok(())
}

fn table_fault(row: &Row, table: &TableRoute) -> Result<Option<String>, tokio_postgres::Error> {
    let (kind, secured): (String, bool) = (row.try_get(2)?, row.try_get(3)?);
    let columns: Vec<String> = row.try_get(4)?;
    Ok(match (kind.as_str(), table.rows) {
        ("r" | "p", RowsSeen::RowSecurity) if !secured => {
            Some("has no row security: enable it, or declare `rows: all`".to_owned())
        }
        ("v" | "m", RowsSeen::RowSecurity) => {
            Some("is a view, which can pass by row security: declare the table, or `rows: all`".to_owned())
        }
        ("r" | "p" | "v" | "m", _) => {
            let own = table.columns.iter().map(|column| &column.name);
            let mut named = own.chain(table.row.iter().flat_map(|row| row.columns()));
            let missing = named.find(|name| !columns.iter().any(|there| there == name.as_str()));
            missing.map(|name| format!("has no column `{name}`"))
        }
        _ => Some("is neither table nor view".to_owned()),
    })
}
