//! How a database is reached, and what of it can be asked for.

use std::collections::{BTreeMap, BTreeSet};

use bartizan_base::{Name, Text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::directory::Status;
use crate::resource::TypeName;

/// How the database of the same name is reached. Its tables and columns are guarded as the assets `DATABASE.TABLE` and
/// `DATABASE.TABLE.COLUMN`; what is not listed here does not exist for anybody who asks through the house.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatabaseRouteSpec {
    /// Whether it may be used.
    #[serde(default)]
    pub status: Status,
    /// Where it is.
    pub server: DatabaseServer,
    /// Its tables by their own names.
    pub tables: BTreeMap<Name, TableRoute>,
    /// Functions that statements may call, out of those the house has looked at. None unless named.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub functions: BTreeSet<Name>,
    /// Statements that are written here and only given values by whoever asks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub templates: BTreeMap<Name, TemplateSpec>,
    /// Whether whoever asks may write statements of their own. Off by default: templates only.
    #[serde(default)]
    pub free_statements: bool,
    /// What a statement may take at most.
    #[serde(default)]
    pub limits: QueryLimits,
}

/// A database server or file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "engine", rename_all = "snake_case", deny_unknown_fields)]
pub enum DatabaseServer {
    /// PostgreSQL.
    Postgres {
        /// The host.
        host: String,
        /// The port.
        #[serde(default = "default_port")]
        port: u16,
        /// The database on that server.
        database: Name,
        /// The role. One that is superuser, owns tables or passes by row security is refused.
        user: Name,
        /// Which sealed credential is its password; none for a server that asks for none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        credential: Option<Name>,
        /// Whether TLS is spoken, with the certificate checked against the host's name. Only a private address may go without.
        #[serde(default = "default_true")]
        tls: bool,
        /// Whether its address may be private or loopback.
        #[serde(default)]
        allow_private: bool,
    },
    /// An SQLite file in the folder that `query.sqlite_folder` names.
    Sqlite {
        /// Its name in that folder.
        file: Name,
    },
}

const fn default_port() -> u16 {
    5432
}
const fn default_true() -> bool {
    true
}

/// A table that can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableRoute {
    /// The schema that it is in; `public` for PostgreSQL and `main` for SQLite without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Name>,
    /// Which of its rows are seen.
    #[serde(default)]
    pub rows: RowsSeen,
    /// What policy decides on each of its rows by; none where it decides on the table and its columns alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<RowRoute>,
    /// Its columns, in the order that `*` gives them in.
    pub columns: Vec<ColumnRoute>,
}

/// Which rows of a table are seen by those who may read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RowsSeen {
    /// Those that the table's own row security lets the caller see; a table without it is refused. The default.
    #[default]
    RowSecurity,
    /// All of them.
    All,
}

/// A row as policies see it: an entity of a type that the bundle's schema declares, within the table. A statement sees only rows
/// that the caller's whole chain may act on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RowRoute {
    /// The type, such as `Shop::Order`, declared `in [Table]`; none of the house's own.
    #[serde(rename = "type")]
    pub kind: TypeName,
    /// The action that is asked for, in the namespace of the type: `read` is `Shop::Action::"read"`. Its context is the house's.
    pub action: Name,
    /// The column of texts that holds the id, where rules name single rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Name>,
    /// Where each attribute is kept. The columns need not be among those that can be asked for.
    pub attributes: BTreeMap<Name, RowAttribute>,
}

/// Where an attribute of rows is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RowAttribute {
    /// The column.
    pub column: Name,
    /// What it holds.
    #[serde(rename = "as", default)]
    pub kind: RowKind,
    /// Of entities that stand there by their id alone: their type. Without it each is written `Type::"id"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<TypeName>,
    /// Whether it holds several: an array in PostgreSQL, a JSON array in SQLite.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub set: bool,
    /// Whether `NULL` means that the row has no such attribute. Without it such a row is not seen where a rule looks at it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// How an attribute of rows is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RowKind {
    /// True or false; in SQLite 1 or 0.
    Boolean,
    /// A whole number of 64 bits.
    Integer,
    /// A text.
    #[default]
    Text,
    /// An entity.
    Entity,
    /// A moment or a span, as whole milliseconds (moments: since 1970 UTC).
    Milliseconds,
    /// A moment, as PostgreSQL's `timestamptz(3)`.
    Timestamp,
    /// A decimal, as PostgreSQL's `numeric(19, 4)`.
    Numeric,
}

impl RowRoute {
    /// The columns that it looks at.
    pub fn columns(&self) -> impl Iterator<Item = &Name> {
        self.attributes.values().map(|attribute| &attribute.column).chain(&self.id)
    }

    fn mistake(&self, postgres: bool) -> Option<&'static str> {
        if !self.columns().all(is_identifier) {
            return Some("`row`: names of columns are letters, digits and `_`, at most 63 of them");
        }
        if self.attributes.len() > 100 {
            return Some("`row` has at most 100 attributes");
        }
        self.attributes.values().find_map(|attribute| {
            let RowAttribute { kind, of, set, .. } = attribute;
            if of.is_some() && *kind != RowKind::Entity {
                return Some("`row`: only entities are `of` a type");
            }
            if *set && !matches!(kind, RowKind::Integer | RowKind::Text | RowKind::Entity) {
                return Some("`row`: a `set` is one of numbers, texts or entities");
            }
            let foreign = !postgres && matches!(kind, RowKind::Timestamp | RowKind::Numeric);
            foreign.then_some("`row`: SQLite has neither `timestamp` nor `numeric`; keep `milliseconds`")
        })
    }
}

/// A column that can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ColumnRoute {
    /// Its own name.
    pub name: Name,
    /// What it holds.
    #[serde(rename = "type", default)]
    pub kind: SqlType,
    /// Whether everybody reads nothing (`NULL`) in its place.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
    /// Whether it holds nothing that is ever redacted, such as ids and amounts: then it may be compared and computed with also
    /// by those who see the rest redacted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plain: bool,
}

/// The types of values.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum SqlType {
    /// True or false.
    Boolean,
    /// A whole number of 64 bits.
    Integer,
    /// A floating point number of 64 bits.
    Number,
    /// An exact number.
    Decimal,
    /// Text.
    #[default]
    Text,
    /// A day.
    Date,
    /// A moment without a time zone.
    Timestamp,
    /// A moment.
    Timestamptz,
    /// A span of time.
    Interval,
    /// A UUID.
    Uuid,
    /// JSON.
    Json,
    /// Bytes.
    Bytes,
}

/// A statement that is written in advance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TemplateSpec {
    /// The statement, its parameters written `:name`.
    pub sql: Text<16_384>,
    /// Its parameters with their types.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<Name, SqlType>,
    /// What it answers, for people and models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Text<500>>,
}

/// What a statement may take at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QueryLimits {
    /// Rows of an answer; the rest is left out, and the answer says so.
    pub rows: u32,
    /// Bytes of an answer's values; the same.
    pub bytes: u32,
    /// Milliseconds that the database may work on it.
    pub statement_ms: u32,
    /// Milliseconds that it may wait for a lock.
    pub lock_ms: u32,
    /// Connections at once.
    pub connections: u16,
}

impl Default for QueryLimits {
    fn default() -> Self {
        Self { rows: 1_000, bytes: 1 << 20, statement_ms: 5_000, lock_ms: 500, connections: 4 }
    }
}

/// The longest name of a table, column or schema, in bytes: longer ones PostgreSQL cuts.
pub const IDENTIFIER_MAX: usize = 63;

impl DatabaseRouteSpec {
    /// What is asked for as a table of the route called `database`.
    #[must_use]
    pub fn table_asset(database: &Name, table: &Name) -> Option<Name> {
        format!("{database}.{table}").parse().ok()
    }

    /// What is asked for as a column.
    #[must_use]
    pub fn column_asset(database: &Name, table: &Name, column: &Name) -> Option<Name> {
        format!("{database}.{table}.{column}").parse().ok()
    }

    /// Whether it is a PostgreSQL server.
    #[must_use]
    pub const fn is_postgres(&self) -> bool {
        matches!(self.server, DatabaseServer::Postgres { .. })
    }

    /// What could never hold, or would not hold what it seems to promise.
    #[must_use]
    pub fn mistake(&self, database: &Name) -> Option<&'static str> {
        if let Some(why) = self.server.mistake() {
            return Some(why);
        }
        if self.tables.is_empty() {
            return Some("`tables` names at least one table");
        }
        let limits = self.limits;
        let whole = (1..=100_000).contains(&limits.rows)
            && (1_024..=64 << 20).contains(&limits.bytes)
            && (1..=300_000).contains(&limits.statement_ms)
            && (1..=300_000).contains(&limits.lock_ms)
            && (1..=100).contains(&limits.connections);
        if !whole {
            return Some(
                "`limits`: 1 to 100,000 rows, 1,024 to 67,108,864 bytes, 1 to 300,000 milliseconds, 1 to 100 connections",
            );
        }
        self.tables.iter().find_map(|(name, table)| table.mistake(self.is_postgres(), database, name))
    }
}

impl DatabaseServer {
    fn mistake(&self) -> Option<&'static str> {
        match self {
            Self::Postgres { host, tls, allow_private, .. } => {
                let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'_');
                if host.is_empty() || host.len() > 253 || !host.bytes().all(plain) {
                    return Some("`host` is a name or an address, without scheme, port or path");
                }
                (!tls && !allow_private).then_some("only a private address may go without `tls`")
            }
            Self::Sqlite { file } => {
                let inside = !file.as_str().contains('/') && !file.as_str().starts_with('.');
                (!inside).then_some("`file` is the name of a file in `query.sqlite_folder`, without a path")
            }
        }
    }
}

impl TableRoute {
    fn mistake(&self, postgres: bool, database: &Name, table: &Name) -> Option<&'static str> {
        if !postgres && self.rows == RowsSeen::RowSecurity {
            return Some("SQLite knows no row security: say `rows: all` where all rows may be seen");
        }
        let names = self.columns.iter().map(|column| &column.name);
        if !names.chain([table]).chain(&self.schema).all(is_identifier) {
            return Some(
                "names of schemas, tables and columns are letters, digits and `_`, at most 63 of them",
            );
        }
        let reserved = |name: &Name| {
            let name = name.as_str().to_ascii_lowercase();
            name.starts_with("pg_") || name.starts_with("sqlite_") || name == "information_schema"
        };
        if self.schema.as_ref().is_some_and(reserved) || reserved(table) {
            return Some("catalogues cannot be asked for");
        }
        if self.columns.is_empty() || self.columns.len() > 1_000 {
            return Some("a table has 1 to 1,000 columns");
        }
        if let Some(why) = self.row.as_ref().and_then(|row| row.mistake(postgres)) {
            return Some(why);
        }
        let mut seen = BTreeSet::new();
        let folded =
            |name: &Name| if postgres { name.to_string() } else { name.as_str().to_ascii_lowercase() };
        if !self.columns.iter().all(|column| seen.insert(folded(&column.name))) {
            return Some("a column stands twice");
        }
        let named =
            |column: &ColumnRoute| DatabaseRouteSpec::column_asset(database, table, &column.name).is_some();
        (!self.columns.iter().all(named))
            .then_some("`DATABASE.TABLE.COLUMN` is the name of an asset, of at most 128 bytes")
    }
}

fn is_identifier(name: &Name) -> bool {
    let text = name.as_str();
    text.len() <= IDENTIFIER_MAX
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spec(change: impl FnOnce(&mut Value)) -> DatabaseRouteSpec {
        let mut value = json!({
            "server": {"engine": "postgres", "host": "db.internal", "database": "shop", "user": "reader"},
            "tables": {"orders": {"columns": [{"name": "id", "type": "integer"}]}},
        });
        change(&mut value);
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_defaults_are_the_careful_ones() {
        let route = spec(|_| {});
        assert_eq!(route.mistake(&Name::literal("shop")), None);
        assert!(!route.free_statements && route.functions.is_empty());
        assert_eq!(route.tables.values().next().unwrap().rows, RowsSeen::RowSecurity);
        assert!(matches!(
            route.server,
            DatabaseServer::Postgres { tls: true, allow_private: false, port: 5432, .. }
        ));
    }

    #[test]
    fn what_could_not_hold_is_refused_when_it_is_declared() {
        type Break = fn(&mut Value);
        let cases: [(&str, Break); 15] = [
            ("catalogues", |v| v["tables"]["orders"]["schema"] = json!("pg_catalog")),
            ("without `tls`", |v| v["server"]["tls"] = json!(false)),
            ("a name or an address", |v| v["server"]["host"] = json!("postgres://db")),
            ("at least one table", |v| v["tables"] = json!({})),
            ("letters, digits", |v| v["tables"]["orders"]["columns"][0]["name"] = json!("a.b")),
            ("letters, digits", |v| v["tables"]["orders"]["columns"][0]["name"] = json!("x".repeat(64))),
            ("stands twice", |v| v["tables"]["orders"]["columns"] = json!([{"name": "a"}, {"name": "a"}])),
            ("1 to 1,000", |v| v["tables"]["orders"]["columns"] = json!([])),
            ("`limits`", |v| v["limits"] = json!({"rows": 0})),
            ("no row security", |v| v["server"] = json!({"engine": "sqlite", "file": "shop.db"})),
            ("letters, digits", |v| {
                v["tables"]["orders"]["row"] =
                    json!({"type": "Shop::Order", "action": "read", "attributes": {"a": {"column": "a.b"}}});
            }),
            ("only entities", |v| {
                v["tables"]["orders"]["row"] = json!({"type": "Shop::Order", "action": "read", "attributes": {"a": {"column": "a", "of": "User"}}});
            }),
            ("a `set` is", |v| {
                v["tables"]["orders"]["row"] = json!({"type": "Shop::Order", "action": "read", "attributes": {"a": {"column": "a", "as": "boolean", "set": true}}});
            }),
            ("keep `milliseconds`", |v| {
                v["server"] = json!({"engine": "sqlite", "file": "shop.db"});
                v["tables"]["orders"]["rows"] = json!("all");
                v["tables"]["orders"]["row"] = json!({"type": "Shop::Order", "action": "read", "attributes": {"a": {"column": "a", "as": "timestamp"}}});
            }),
            ("without a path", |v| v["server"] = json!({"engine": "sqlite", "file": "../state.db"})),
        ];
        for (why, change) in cases {
            let found = spec(change).mistake(&Name::literal("shop"));
            assert!(found.is_some_and(|found| found.contains(why)), "{why}: {found:?}");
        }
    }
}
