//! INV-FILTER for rows of tables: what a database finds for the filter is what is permitted row by row.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::sync::Arc;

use bartizan_decide::{Bundle, CompiledBundle, Door, Entities, RecordsQuestion, Snapshot};
use bartizan_filter::{Column, Columns, Dialect, Filter, FilterError, Kind, Pushdown, Strictness, Tree, sql};
use bartizan_identify::{Caller, Directory, Identified, Identifier, KeyEntry, Presented};
use bartizan_model::asset::AssetSpec;
use bartizan_model::directory::{EntitySpec, NodeSpec, Spec};
use bartizan_model::{
    AskFacts, Document, EntityRef, Group, KeyId, Obligation, ObligationKind, Obligations, Principal,
    PrincipalKind, Tenant, TypeName,
};
use bartizan_secret::ApiKey;
use serde_json::json;

use crate::world::{NOW, documents, id, name, names, real, real_alice, situation};

const SCHEMA: &str = r#"
namespace Shop {
  entity Order in [Table] { owner: User, level: Long, urgent: Bool, region?: String };
  entity Loose { level: Long };
  action "read" in [Action::"data:read"] appliesTo { principal: [User, Agent], resource: [Order, Loose], context: Context };
  action "other" appliesTo { principal: User, resource: Order, context: { now: datetime } };
}
"#;

const RULES: &str = r#"
@id("own") permit (principal is User, action == Shop::Action::"read", resource is Shop::Order)
when { resource.owner == principal };
@id("engineers") permit (principal in Group::"engineers", action in Action::"data:read", resource in Database::"shop")
when { resource is Shop::Order && resource.level < 2 };
@id("abroad") forbid (principal, action == Shop::Action::"read", resource is Shop::Order)
when { resource has region && resource.region like "u*" };
@id("urgent-ones-are-masked") @reason("personal_data") @remedy("redact(pii)")
forbid (principal, action == Shop::Action::"read", resource is Shop::Order) when { resource.urgent }
unless { context.obligations.contains("redact:pii") };
@id("secret-tables") forbid (principal, action in Action::"data:read", resource in Project::"secret");
"#;

struct Row {
    id: i64,
    owner: &'static str,
    level: i64,
    urgent: bool,
    region: Option<&'static str>,
}

fn rows() -> Vec<Row> {
    let mut out = Vec::new();
    for owner in ["alice", "carol"] {
        for level in 0..4 {
            for urgent in [false, true] {
                for region in [None, Some("eu"), Some("us")] {
                    out.push(Row { id: out.len() as i64, owner, level, urgent, region });
                }
            }
        }
    }
    out
}

impl Row {
    fn spec(&self) -> EntitySpec {
        let mut attributes = json!({
            "owner": {"type": "User", "id": self.owner}, "level": self.level, "urgent": self.urgent,
        });
        if let (Some(region), Some(all)) = (self.region, attributes.as_object_mut()) {
            all.insert("region".to_owned(), json!(region));
        }
        let spec = json!({"type": "Shop::Order", "id": self.id.to_string(), "attributes": attributes});
        serde_json::from_value(spec).unwrap()
    }
}

/// A world with a table in `project`, where the agent may be confined to one.
fn snapshot(project: &str, confined: Option<&str>) -> Snapshot {
    let plain = |n: &str, spec| Document { name: name(n), principal: None, spec };
    let mut all = documents();
    all.extend(["support", "secret"].map(|project| plain(project, Spec::Project(NodeSpec::default()))));
    all.push(plain("shop", Spec::Database(AssetSpec::default())));
    let table = AssetSpec { within: names(&["shop"]), project: Some(name(project)), ..AssetSpec::default() };
    all.push(plain("shop.orders", Spec::Table(table)));
    for document in &mut all {
        if let (Spec::Agent(spec), Some(confined)) = (&mut document.spec, confined) {
            spec.conditions.projects = names(&[confined]);
        }
    }
    let files = [("p.cedar", RULES), ("schema/shop.cedarschema", SCHEMA)];
    let files = files.map(|(path, text)| (path.to_owned(), text.to_owned()));
    let compiled = CompiledBundle::compile(&Bundle { files: files.into() });
    let compiled = compiled.unwrap_or_else(|errors| panic!("{errors}"));
    let entities = Entities::build(&all).unwrap();
    Snapshot::new(Some(Arc::new(compiled)), Arc::new(entities))
}

/// The agent, by a key of its own.
fn reporter() -> Caller {
    let key = ApiKey::generate(&bartizan_base::random::SeededRandom::new(4));
    let entry = KeyEntry {
        id: KeyId::from_parts(NOW, [4; 10]),
        tenant: Tenant::default_tenant(),
        digest: key.digest(),
        principal: Principal { kind: PrincipalKind::Agent, name: name("reporter"), id: id(4) },
        scopes: None,
        created: NOW,
        expires: NOW.saturating_add(std::time::Duration::from_secs(10)),
        revoked: None,
    };
    let all = documents().into_iter().map(|document| (Tenant::default_tenant(), document));
    let directory = Directory::build(1, all, [entry].into_iter(), std::iter::empty());
    let header = format!("Bearer {}", key.text().expose());
    let presented = Presented::from_headers([header.as_bytes()].into_iter(), std::iter::empty()).unwrap();
    match Identifier::new().identify(&directory, &presented, NOW) {
        Identified::Caller(caller) => *caller,
        other => panic!("{other:?}"),
    }
}

/// The ids that SQLite finds.
fn found(filter: &Filter, rows: &[Row]) -> BTreeSet<i64> {
    let column = |name: &str, kind| Column::new(&format!("r.{name}"), kind).unwrap();
    let columns = Columns::none()
        .attribute("owner", column("owner", Kind::EntityOf("User".to_owned())))
        .attribute("level", column("level", Kind::Long))
        .attribute("urgent", column("urgent", Kind::Bool))
        .attribute("region", column("region", Kind::Text).missing_is_absent());
    let Pushdown::Query { query, .. } = sql(filter, &columns, Dialect::Sqlite, 1, Strictness::Exact).unwrap()
    else {
        return BTreeSet::new();
    };
    let database = rusqlite::Connection::open_in_memory().unwrap();
    database.execute_batch("CREATE TABLE o (id, owner, level, urgent, region)").unwrap();
    for Row { id, owner, level, urgent, region } in rows {
        let values = (id, owner, level, urgent, region);
        database.execute("INSERT INTO o VALUES (?1, ?2, ?3, ?4, ?5)", values).unwrap();
    }
    let values = query.values.iter().map(|value| match value {
        bartizan_filter::SqlValue::Bool(flag) => rusqlite::types::Value::from(*flag),
        bartizan_filter::SqlValue::Int(number) => (*number).into(),
        bartizan_filter::SqlValue::Text(text) => text.clone().into(),
        other => panic!("not for SQLite: {other:?}"),
    });
    let mut statement = database.prepare(&format!("SELECT id FROM o AS r WHERE {}", query.text)).unwrap();
    let ids = statement.query_map(rusqlite::params_from_iter(values), |row| row.get(0)).unwrap();
    ids.map(Result::unwrap).collect()
}

/// What is asked, with what is asked about.
struct Asking {
    caller: Caller,
    kind: TypeName,
    action: &'static str,
    table: EntityRef,
    facts: AskFacts,
    applied: Obligations,
}

impl Asking {
    fn by(caller: Caller) -> Self {
        let table = EntityRef::new(name("Table"), name("shop.orders"));
        let kind = "Shop::Order".parse().unwrap();
        let (facts, applied) = (AskFacts::default(), Obligations::none());
        Self { caller, kind, action: "read", table, facts, applied }
    }

    fn ask<T>(&self, work: impl FnOnce(&RecordsQuestion<'_>) -> T) -> T {
        let Self { caller, kind, action, table, facts, applied } = self;
        work(&RecordsQuestion { caller, kind, action, table, facts, situation: &situation(), applied })
    }

    fn filter(&self, snapshot: &Snapshot, door: &Door) -> Result<Filter, FilterError> {
        self.ask(|question| snapshot.filter_records(question, door))
    }

    /// The rows that are permitted one by one, which are those that the database finds.
    fn rows(&self, snapshot: &Snapshot, door: &Door) -> BTreeSet<i64> {
        let rows = rows();
        let one =
            |row: &&Row| self.ask(|question| snapshot.permits_record(question, &row.spec(), door)).unwrap();
        let permitted: BTreeSet<i64> = rows.iter().filter(one).map(|row| row.id).collect();
        assert_eq!(found(&self.filter(snapshot, door).unwrap(), &rows), permitted, "{:?}", self.applied);
        permitted
    }
}

#[test]
fn inv_filter_rows_of_a_table_are_found_as_they_are_permitted_one_by_one() {
    let support = snapshot("support", None);
    let redacting = Door::new([ObligationKind::Redact].into());
    let pii: Obligations = [Obligation::redact(Group::Pii.members())].into_iter().collect();
    let alice = Asking::by(real(None));
    let masked = Asking { applied: pii, ..Asking::by(real(None)) };
    let (plain, all) = (alice.rows(&support, &redacting), masked.rows(&support, &redacting));
    // Her own and those below 2: of each level two that are not urgent, and as many that are.
    assert_eq!((plain.len(), all.len()), (12, 24));
    assert!(plain.is_subset(&all));
    // A door that cannot mask presumes nothing of masks.
    assert_eq!(masked.rows(&support, &Door::none()), plain);
    let agent = Asking::by(reporter());
    assert_eq!(agent.rows(&support, &redacting).len(), 8);
    // Rows lie where their table lies.
    assert!(alice.rows(&snapshot("secret", None), &redacting).is_empty());
    // What confines an agent is looked at on the table, since rows are nowhere else.
    assert_eq!(agent.rows(&snapshot("support", Some("support")), &redacting).len(), 8);
    let confined = snapshot("support", Some("secret"));
    assert_eq!(agent.filter(&confined, &redacting).unwrap(), Tree::Never);
    assert!(agent.rows(&confined, &redacting).is_empty());
    // A key that is not for reading.
    assert_eq!(Asking::by(real_alice()).filter(&support, &redacting).unwrap(), Tree::Never);
}

#[test]
fn questions_about_rows_that_make_no_sense_have_no_answer() {
    let support = snapshot("support", None);
    let asked = |change: fn(&mut Asking)| {
        let mut asking = Asking::by(real(None));
        change(&mut asking);
        let row = rows().remove(0).spec();
        let one = asking.ask(|question| support.permits_record(question, &row, &Door::none()));
        (asking.filter(&support, &Door::none()), one)
    };
    let changes: [fn(&mut Asking); 6] = [
        |asking| asking.kind = "Shop::Nothing".parse().unwrap(),
        |asking| asking.kind = "Shop::Loose".parse().unwrap(),
        |asking| asking.kind = "Document".parse().unwrap(),
        |asking| asking.kind = "Column".parse().unwrap(),
        |asking| asking.action = "nothing",
        // Its context is an application's, not the house's.
        |asking| asking.action = "other",
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let (filter, one) = asked(change);
        assert!(filter.is_err() || filter.is_ok_and(|filter| filter == Tree::Never), "{at}");
        assert!(one.is_err() || one.is_ok_and(|permitted| !permitted), "{at}");
    }
    let (filter, one) = asked(|asking| asking.table = EntityRef::new(name("Table"), name("shop.other")));
    assert_eq!(filter.unwrap(), Tree::Never);
    assert!(!one.unwrap());
    // A row that is not what the schema says.
    let broken = json!({"type": "Shop::Order", "id": "1", "attributes": {"level": 1}});
    let broken: EntitySpec = serde_json::from_value(broken).unwrap();
    let asking = Asking::by(real(None));
    assert!(asking.ask(|question| support.permits_record(question, &broken, &Door::none())).is_err());
}
