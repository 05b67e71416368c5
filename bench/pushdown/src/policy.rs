//! Somebody, a table, and a rule on its rows: as a filter of a statement, and row by row.

use std::sync::Arc;

use bartizan_base::random::SeededRandom;
use bartizan_base::{Name, Timestamp};
use bartizan_bench::Error;
use bartizan_decide::{Bundle, CompiledBundle, Door, Entities, RecordsQuestion, Snapshot};
use bartizan_filter::{Column, Columns, Dialect, Kind, Pushdown, SqlValue, Strictness, sql};
use bartizan_identify::{Caller, Directory, Identified, Identifier, KeyEntry, Presented};
use bartizan_model::directory::EntitySpec;
use bartizan_model::{
    AskFacts, DatabaseRouteSpec, Document, EntityRef, KeyId, Obligations, Principal, PrincipalId,
    PrincipalKind, Situation, Tenant, TypeName,
};
use bartizan_secret::ApiKey;
use bartizan_sql_guard::{Parameter, ROW, RowsOf, Statement, Values, analyse};
use serde_json::json;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

const SCHEMA: &str = r#"
namespace Shop {
  entity Order in [Table] { owner: User, tenant: String, share: Long };
  action "read" appliesTo { principal: [User], resource: Order, context: Context };
}
"#;

/// A policy under which one caller may read some of the rows.
pub struct World {
    snapshot: Snapshot,
    caller: Caller,
    route: DatabaseRouteSpec,
    kind: TypeName,
    table: EntityRef,
}

impl World {
    /// Where whoever asks may read the rows whose `share` is below `below`.
    pub fn new(below: u32) -> Result<Self, Error> {
        let document = |value| serde_json::from_value::<Document>(value);
        let mut alice = document(json!({"name": "alice", "spec": {"kind": "user"}}))?;
        let id = PrincipalId::from_parts(NOW, [1; 10]);
        alice.principal = Some(id);
        let documents = [
            alice,
            document(json!({"name": "shop", "spec": {"kind": "database"}}))?,
            document(json!({"name": "shop.orders", "spec": {"kind": "table", "within": ["shop"]}}))?,
        ];
        let rules = format!(
            r#"@id("some") permit (principal, action == Shop::Action::"read", resource is Shop::Order)
               when {{ resource.tenant == "north" && resource.share < {below} }};
               @id("not-the-houses") forbid (principal, action == Shop::Action::"read", resource is Shop::Order)
               when {{ resource.owner == User::"nobody" }};"#
        );
        let files =
            [("rules.cedar".to_owned(), rules), ("schema/shop.cedarschema".to_owned(), SCHEMA.to_owned())];
        let bundle = Arc::new(CompiledBundle::compile(&Bundle { files: files.into() })?);
        let snapshot = Snapshot::new(Some(bundle), Arc::new(Entities::build(&documents)?));
        let route = serde_json::from_value(json!({
            "server": {"engine": "postgres", "host": "localhost", "database": "shop", "user": "reader"},
            "free_statements": true, "functions": ["count", "sum"],
            "tables": {"orders": {"rows": "all", "columns": [
                {"name": "id", "type": "integer"}, {"name": "total", "type": "integer"}
            ]}}
        }))?;
        Ok(Self {
            snapshot,
            caller: caller(&documents, id)?,
            route,
            kind: "Shop::Order".parse()?,
            table: EntityRef::new(Name::literal("Table"), Name::literal("shop.orders")),
        })
    }

    fn ask<T>(&self, work: impl FnOnce(&RecordsQuestion<'_>) -> T) -> T {
        let (facts, situation, applied) = (AskFacts::default(), Situation::at(NOW), Obligations::none());
        work(&RecordsQuestion {
            caller: &self.caller,
            kind: &self.kind,
            action: "read",
            table: &self.table,
            facts: &facts,
            situation: &situation,
            applied: &applied,
        })
    }

    /// The statement as the door sends it: resolved, narrowed to the rows that may be read, written anew.
    pub fn statement(&self, text: &str) -> Result<Statement, Error> {
        let statement = analyse(&self.route, text, &Values::new())?;
        let filter = self.ask(|question| self.snapshot.filter_records(question, &Door::none()))?;
        let column = |name: &str, kind| Column::new(&format!("{ROW}.{name}"), kind);
        let columns = Columns::none()
            .attribute("owner", column("owner", Kind::EntityOf("User".to_owned()))?)
            .attribute("tenant", column("tenant", Kind::Text)?)
            .attribute("share", column("share", Kind::Long)?);
        let first = statement.next_placeholder();
        let compiled = sql(&filter, &columns, Dialect::PostgreSql, first, Strictness::Exact)?;
        let Pushdown::Query { query, .. } = compiled else { return Err("the rule permits nothing".into()) };
        let values = query.values.into_iter().map(|value| match value {
            SqlValue::Bool(value) => Parameter::Boolean(value),
            SqlValue::Int(value) => Parameter::Integer(value),
            SqlValue::Text(value) => Parameter::Text(value),
            SqlValue::Ints(values) => Parameter::Integers(values),
            SqlValue::Texts(values) => Parameter::Texts(values),
        });
        let rows = RowsOf { condition: query.text, values: values.collect(), reads: Default::default() };
        Ok(statement.seeing(&"orders".parse()?, rows)?)
    }

    /// Whether one row may be read, by a whole decision.
    pub fn permits(&self, id: i64, owner: &str, tenant: &str, share: i64) -> Result<bool, Error> {
        let row: EntitySpec = serde_json::from_value(json!({
            "type": "Shop::Order", "id": id.to_string(),
            "attributes": {"owner": {"type": "User", "id": owner}, "tenant": tenant, "share": share},
        }))?;
        Ok(self.ask(|question| self.snapshot.permits_record(question, &row, &Door::none()))?)
    }
}

fn caller(documents: &[Document], id: PrincipalId) -> Result<Caller, Error> {
    let random = SeededRandom::new(1);
    let (tenant, key) = (Tenant::default_tenant(), ApiKey::generate(&random));
    let entry = KeyEntry {
        id: KeyId::new(NOW, &random),
        tenant: tenant.clone(),
        digest: key.digest(),
        principal: Principal { kind: PrincipalKind::User, name: "alice".parse()?, id },
        scopes: None,
        created: NOW,
        expires: NOW.saturating_add(std::time::Duration::from_secs(3_600)),
        revoked: None,
    };
    let documents = documents.iter().map(|document| (tenant.clone(), document.clone()));
    let directory = Directory::build(1, documents, [entry].into_iter(), std::iter::empty());
    let header = format!("Bearer {}", key.text().expose());
    let presented = Presented::from_headers([header.as_bytes()].into_iter(), std::iter::empty());
    match Identifier::new().identify(&directory, &presented.map_err(|_| "no credential")?, NOW) {
        Identified::Caller(caller) => Ok(*caller),
        _ => Err("the caller is not known".into()),
    }
}
