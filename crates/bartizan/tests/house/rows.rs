//! Policy on the rows of a database: what a statement joins, counts, compares and gives is of those rows alone that its caller may
//! read, in PostgreSQL and SQLite, whatever the statement.
#![expect(clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bartizan_base::Random as _;
use bartizan_base::random::SeededRandom;
use bartizan_testkit::postgres::Server;
use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicySet, Request,
    RestrictedExpression,
};

use super::*;

const SCHEMA: &str = r#"
namespace Shop {
  entity Order in [Table] {
    owner: User, tenant: String, level: Long, urgent: Bool, region?: String, readers: Set<User>,
  };
  action "read" appliesTo { principal: [User], resource: Order, context: Context };
}
"#;

/// Everybody may ask; what they see is said of rows.
const BASE: &str = r#"
@id("people-query")
permit (principal is User, action in Action::"data:read", resource);
"#;

/// A row, as it is in the table.
#[derive(Clone, Debug)]
struct Row {
    id: i64,
    owner: &'static str,
    tenant: &'static str,
    level: i64,
    urgent: bool,
    region: Option<&'static str>,
    readers: BTreeSet<&'static str>,
    total: i64,
}

const USERS: [&str; 3] = ["alice", "carol", "mallory"];
const TENANTS: [&str; 2] = ["north", "south"];
/// A query that is named like a table, where it is used: the one that the twin asks cannot be named so.
const AGAIN: &str = " orders ";
const REGIONS: [&str; 3] = ["eu", "us", "as"];

/// Picks at random, the same on every run.
struct Dice(SeededRandom);

impl Dice {
    fn below(&self, most: usize) -> usize {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        usize::try_from(u64::from_le_bytes(bytes) % most as u64).unwrap()
    }

    fn of<T: Copy>(&self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    fn row(&self, id: i64) -> Row {
        Row {
            id,
            owner: self.of(&USERS),
            tenant: self.of(&TENANTS),
            level: self.below(6) as i64,
            urgent: self.below(2) == 0,
            region: [None, Some(self.of(&REGIONS))][self.below(4).min(1)],
            readers: USERS.into_iter().filter(|_| self.below(3) == 0).collect(),
            total: self.below(50) as i64,
        }
    }

    /// What a rule says of a row.
    fn condition(&self, depth: usize) -> String {
        if depth > 0 && self.below(3) > 0 {
            let (one, other) = (self.condition(depth - 1), self.condition(depth - 1));
            return match self.below(4) {
                0 => format!("({one} && {other})"),
                1 => format!("({one} || {other})"),
                2 => format!("!({one})"),
                _ => format!("(if {one} then {other} else {})", self.condition(depth - 1)),
            };
        }
        let level = self.below(6);
        match self.below(15) {
            0 | 1 => "resource.owner == principal".to_owned(),
            2 => format!("resource.owner != User::\"{}\"", self.of(&USERS)),
            3 => "resource.readers.contains(principal)".to_owned(),
            4 => format!("resource.readers.containsAny([User::\"{}\", User::\"carol\"])", self.of(&USERS)),
            5 => "resource.readers.isEmpty()".to_owned(),
            6 => format!("resource.tenant == \"{}\"", self.of(&TENANTS)),
            7 => format!("resource.level <= {level}"),
            8 => format!("resource.level != {level}"),
            9 => "resource.urgent".to_owned(),
            10 => format!(
                "(resource has region && [\"eu\", \"{}\"].contains(resource.region))",
                self.of(&REGIONS)
            ),
            11 => format!("(resource has region && resource.region like \"{}*\")", self.of(&["e", "a", "u"])),
            12 => "(resource has region)".to_owned(),
            13 => format!(
                "resource in {}",
                self.of(&["Table::\"shop.orders\"", "Table::\"shop.notes\"", "Database::\"shop\""])
            ),
            _ => format!("principal in Group::\"{}\"", self.of(&["engineers", "contractors"])),
        }
    }

    /// Rules on rows: permits and forbids.
    fn rules(&self) -> String {
        let mut out = String::new();
        for n in 0..=1 + self.below(3) {
            let effect = if n > 0 && self.below(2) == 0 { "forbid" } else { "permit" };
            let way = if self.below(4) == 0 { "unless" } else { "when" };
            let condition = self.condition(2);
            out += &format!(
                "@id(\"row-{n}\") {effect} (principal, action == Shop::Action::\"read\", resource is Shop::Order) {way} {{ {condition} }};\n"
            );
        }
        out
    }

    fn predicate(&self, alias: &str) -> String {
        let (number, word) = (self.below(50), self.of(&TENANTS));
        match self.below(7) {
            0 => format!("{alias}.total > {number}"),
            1 => format!("{alias}.id <> {number} and {alias}.total <= 40"),
            2 => format!("{alias}.tenant = '{word}'"),
            3 => format!("{alias}.region is null or {alias}.region like 'e%'"),
            // These could fail, so that they must wait for the rows that are seen.
            4 => format!("{alias}.total + {alias}.id > {number}"),
            5 => format!("abs({alias}.total - {number}) < 20"),
            _ => format!("not {alias}.total between {number} and {number} + 9"),
        }
    }

    /// A statement whose rows come in a fixed order.
    fn statement(&self) -> String {
        let (p, q) = (self.predicate("o"), self.predicate("p"));
        match self.below(16) {
            0 => "select id from orders order by id".to_owned(),
            1 => format!("select o.id, o.region from orders o where {p} order by o.id"),
            2 => format!("select count(*), sum(o.total), min(o.id), max(o.id) from orders o where {p}"),
            3 => "select tenant, count(*) from orders group by tenant having count(*) > 1 order by tenant".to_owned(),
            4 => format!("select o.id, p.id from orders o join orders p on o.tenant = p.tenant and o.id < p.id where {p} order by 1, 2"),
            5 => format!("select n.id, o.id from notes n left join orders o on o.id = n.orders and ({p}) order by 1, 2"),
            6 => "select n.id from notes n where not exists (select 1 from orders o where o.id = n.orders) order by n.id".to_owned(),
            7 => format!("select n.id from notes n where n.orders in (select o.id from orders o where {p}) order by 1"),
            8 => format!("with orders as (select o.id, o.total from orders o where {p}) select a.id from {AGAIN} a join {AGAIN} b on a.id = b.id order by 1"),
            9 => "with n as (select count(*) as c from orders) select n.c, (select count(*) from orders) from n".to_owned(),
            10 => format!("select o.id from orders o where {p} union select p.id from orders p where {q} order by 1"),
            11 => format!("select p.id from orders p except select o.id from orders o where {p} order by 1"),
            12 => format!("select d.t from (select o.tenant as t, max(o.total) as m from orders o group by o.tenant) as d where d.m > {} order by 1", self.below(50)),
            13 => "select o.id, (select count(*) from orders p where p.total > o.total) from orders as o order by o.id".to_owned(),
            14 => format!("select p.id, row_number() over (partition by p.tenant order by p.total, p.id) from orders p where {q} order by 1 limit 5 offset 1"),
            _ => "select a.id from orders a, notes n where a.id = n.orders order by 1".to_owned(),
        }
    }
}

fn table(rows: &[Row], postgres: bool) -> String {
    let array = if postgres { "text[]" } else { "text" };
    let mut out = format!(
        "create table orders (id integer, owner text, tenant text, level integer, urgent {}, region text, readers {array}, total integer);\n",
        if postgres { "boolean" } else { "integer" }
    );
    for row in rows {
        let Row { id, owner, tenant, level, urgent, region, readers, total } = row;
        let region = region.map_or_else(|| "null".to_owned(), |region| format!("'{region}'"));
        let urgent = if postgres { urgent.to_string() } else { u8::from(*urgent).to_string() };
        let readers = if postgres {
            format!("'{{{}}}'", readers.iter().copied().collect::<Vec<_>>().join(","))
        } else {
            format!("'{}'", json!(readers))
        };
        out += &format!(
            "insert into orders values ({id}, '{owner}', '{tenant}', {level}, {urgent}, {region}, {readers}, {total});\n"
        );
    }
    out += "create table notes (id integer, orders integer);\n";
    out + "insert into notes values (1, 1), (2, 2), (3, 3), (4, 5), (5, 8), (6, 99);\n"
}

fn assets() -> Vec<Value> {
    let of = |name: &str, kind: &str, within: &str| json!({"name": name, "spec": {"kind": kind, "within": [within], "confidentiality": "internal"}});
    let mut all = vec![json!({"name": "shop", "spec": {"kind": "database"}})];
    for (table, columns) in [("orders", "id tenant region total"), ("notes", "id orders")] {
        all.push(of(&format!("shop.{table}"), "table", "shop"));
        for column in columns.split(' ') {
            all.push(of(&format!("shop.{table}.{column}"), "column", &format!("shop.{table}")));
        }
    }
    all
}

fn route(server: &Value, row: &Value) -> Value {
    json!({"name": "shop", "spec": {
        "kind": "database_route", "server": server, "free_statements": true,
        "functions": ["abs", "count", "max", "min", "row_number", "sum"],
        "tables": {
            "orders": {"rows": "all", "row": row, "columns": [
                {"name": "id", "type": "integer"}, {"name": "tenant"}, {"name": "region"}, {"name": "total", "type": "integer"}
            ]},
            "notes": {"rows": "all", "columns": [{"name": "id", "type": "integer"}, {"name": "orders", "type": "integer"}]}
        },
        "templates": {"dear": {"sql": "select id from orders where total >= :least order by id", "parameters": {"least": "integer"}}}
    }})
}

fn row() -> Value {
    json!({"type": "Shop::Order", "action": "read", "attributes": {
        "owner": {"column": "owner", "as": "entity", "of": "User"}, "tenant": {"column": "tenant"},
        "level": {"column": "level", "as": "integer"}, "urgent": {"column": "urgent", "as": "boolean"},
        "region": {"column": "region", "optional": true},
        "readers": {"column": "readers", "as": "entity", "of": "User", "set": true},
    }})
}

/// A house before a database.
struct Shop {
    house: House,
    version: u64,
    _files: tempfile::TempDir,
    server: Option<Server>,
}

impl Shop {
    async fn new(rows: &[Row], postgres: bool) -> Self {
        let files = tempfile::tempdir().unwrap();
        let folder = files.path().to_string_lossy().into_owned();
        let script = table(rows, postgres);
        let (at, server) = if postgres {
            let made = blocking(move || {
                let server = Server::start();
                let url = server.create_database();
                let name = url.rsplit('/').next().unwrap().to_owned();
                server.psql("postgres", "create role reader login");
                server.psql(&name, &format!("{script} grant select on orders, notes to reader"));
                (server, name)
            });
            let (server, name) = made.await;
            let at = json!({"engine": "postgres", "host": "127.0.0.1", "port": server.port(), "database": name, "user": "reader",
                "tls": false, "allow_private": true});
            (at, Some(server))
        } else {
            let database = rusqlite::Connection::open(files.path().join("shop.db")).unwrap();
            database.execute_batch(&script).unwrap();
            (json!({"engine": "sqlite", "file": "shop.db"}), None)
        };
        let house = House::with(&[("query.sqlite_folder", folder)]).await;
        let mut documents = assets();
        documents.push(route(&at, &row()));
        let admin = house.admin.clone();
        blocking(move || admin.call("POST", "/api/v1/resources", Some(&json!(documents))).unwrap()).await;
        Self { house, version: 2, _files: files, server }
    }

    async fn rules(&mut self, rules: &str) {
        let admin = self.house.admin.clone();
        let files = json!({"policy.cedar": POLICY, "base.cedar": BASE, "rows.cedar": rules, "schema/shop.cedarschema": SCHEMA});
        let body = json!({"files": files, "expect": self.version});
        blocking(move || admin.call("PUT", "/api/v1/policy", Some(&body)).unwrap()).await;
        self.version += 1;
    }

    fn key(&self, who: &str) -> &Secret<String> {
        match who {
            "alice" => &self.house.alice.1,
            "carol" => &self.house.carol,
            _ => &self.house.mallory,
        }
    }

    async fn query(&self, who: &str, sql: &str) -> (u16, Value) {
        self.house.post(self.key(who), "/query/shop", json!({"sql": sql})).await
    }

    async fn ids(&self, who: &str, sql: &str) -> Vec<i64> {
        let (status, body) = self.query(who, sql).await;
        assert_eq!(status, 200, "{sql}: {body}");
        let rows = body["rows"].as_array().unwrap();
        rows.iter().map(|row| row[0].as_i64().unwrap()).collect()
    }

    async fn stop(self) {
        self.house.stop().await;
        let server = self.server;
        blocking(move || drop(server)).await;
    }
}

fn uid(kind: &str, id: &str) -> EntityUid {
    let kind: EntityTypeName = kind.parse().unwrap();
    EntityUid::from_type_name_and_id(kind, EntityId::new(id))
}

/// Whether the rules permit the row, by the plain engine alone: nothing of the house's filters, decisions or snapshots.
fn permits(rules: &PolicySet, who: &str, row: &Row) -> bool {
    use RestrictedExpression as E;
    let user = |name: &str| E::new_entity_uid(uid("User", name));
    let text = |text: &str| E::new_string(text.to_owned());
    let mut attributes = vec![
        ("owner", user(row.owner)),
        ("tenant", text(row.tenant)),
        ("level", E::new_long(row.level)),
        ("urgent", E::new_bool(row.urgent)),
        ("readers", E::new_set(row.readers.iter().map(|reader| user(reader)))),
    ];
    attributes.extend(row.region.map(|region| ("region", text(region))));
    let attributes = attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let groups: &[&str] = match who {
        "alice" => &["engineers"],
        "carol" => &["contractors"],
        _ => &[],
    };
    let plain = |kind: &str, id: &str, parents: Vec<EntityUid>| {
        Entity::new_no_attrs(uid(kind, id), parents.into_iter().collect::<HashSet<_>>())
    };
    let id = row.id.to_string();
    let table = HashSet::from([uid("Table", "shop.orders")]);
    let mut all = vec![
        Entity::new(uid("Shop::Order", &id), attributes, table).unwrap(),
        plain("Table", "shop.orders", vec![uid("Database", "shop")]),
        plain("Database", "shop", vec![]),
    ];
    for user in USERS {
        let groups = if user == who { groups } else { &[] };
        all.push(plain("User", user, groups.iter().map(|group| uid("Group", group)).collect()));
    }
    let entities = Entities::from_entities(all, None).unwrap();
    let action = uid("Shop::Action", "read");
    let request =
        Request::new(uid("User", who), action, uid("Shop::Order", &id), Context::empty(), None).unwrap();
    let answer = Authorizer::new().is_authorized(&request, rules, &entities);
    answer.decision() == Decision::Allow && answer.diagnostics().errors().next().is_none()
}

/// What the statement gives over a table that holds those rows and no others.
fn twin(rows: &[Row], sql: &str) -> Value {
    let database = rusqlite::Connection::open_in_memory().unwrap();
    database.execute_batch(&table(rows, false)).unwrap();
    // SQLite takes a query that is named like a table in it for one that calls itself.
    let sql = match sql.contains(AGAIN) && sql.starts_with("with orders as") {
        true => sql
            .replace("with orders as", "with again as")
            .replace(&format!("from {AGAIN}"), "from again")
            .replace(&format!("join {AGAIN}"), "join again"),
        false => sql.to_owned(),
    };
    let mut statement = database.prepare(&sql).unwrap();
    let width = statement.column_count();
    let value = |value: rusqlite::types::Value| match value {
        rusqlite::types::Value::Integer(number) => json!(number),
        rusqlite::types::Value::Text(text) => json!(text),
        rusqlite::types::Value::Null => Value::Null,
        other => panic!("{other:?}"),
    };
    let rows = statement.query_map([], |row| {
        let values = (0..width).map(|at| row.get(at).map(value)).collect::<Result<Vec<_>, _>>();
        values.map(Value::Array)
    });
    rows.unwrap().map(Result::unwrap).collect()
}

/// Random rules and statements, each held against the same statement over the rows that the plain engine permits.
async fn statements_see_what_is_permitted(postgres: bool, seed: u64, rounds: usize) {
    let dice = Dice(SeededRandom::new(seed));
    let rows: Vec<Row> = (1..=24).map(|id| dice.row(id)).collect();
    let mut shop = Shop::new(&rows, postgres).await;
    let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
    for _ in 0..rounds {
        let rules = dice.rules();
        shop.rules(&rules).await;
        let set: PolicySet = rules.parse().unwrap();
        for who in USERS {
            let allowed: Vec<Row> = rows.iter().filter(|row| permits(&set, who, row)).cloned().collect();
            *seen.entry(allowed.len()).or_default() += 1;
            let own: Vec<i64> = allowed.iter().map(|row| row.id).collect();
            assert_eq!(shop.ids(who, "select id from orders order by id").await, own, "{who}\n{rules}");
            for _ in 0..4 {
                let sql = dice.statement();
                let (status, body) = shop.query(who, &sql).await;
                assert_eq!(status, 200, "{sql}\n{body}\n{rules}");
                assert_eq!(body["rows"], twin(&allowed, &sql), "{who}: {sql}\n{rules}");
            }
        }
    }
    // All or nothing alone would show little.
    let some: usize = seen.iter().filter(|(count, _)| (1..24).contains(*count)).map(|(_, n)| n).sum();
    assert!(some >= rounds, "{seen:?}");
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_filter_random_statements_in_sqlite_see_the_rows_that_a_plain_decision_permits() {
    statements_see_what_is_permitted(false, 7, 16).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_filter_random_statements_in_postgres_see_the_rows_that_a_plain_decision_permits() {
    statements_see_what_is_permitted(true, 11, 16).await;
}

/// Everybody sees their own.
const OWN_ROWS: &str = r#"
@id("own") permit (principal, action == Shop::Action::"read", resource is Shop::Order) when { resource.owner == principal };
"#;

fn of(id: i64, owner: &'static str, total: i64) -> Row {
    let readers = BTreeSet::new();
    Row { id, owner, tenant: "north", level: 1, urgent: false, region: None, readers, total }
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_filter_no_condition_of_a_statement_fails_for_a_row_that_is_not_seen() {
    let mut shop = Shop::new(&[of(1, "alice", 5), of(2, "alice", 20), of(3, "carol", 10)], true).await;
    // PostgreSQL computes what it takes for cheap first: a division, rather than this.
    let rules = r#"@id("own") permit (principal, action == Shop::Action::"read", resource is Shop::Order)
        when { resource.owner == principal || (resource.tenant == "south" && resource.level > 4 && resource.level < 7) };"#;
    shop.rules(rules).await;
    // What would tell of the row with 10 by failing fails for whoever sees that row, and for nobody else.
    for sql in [
        "select id from orders where 100 / (total - 10) > 0 order by id",
        "select o.id from orders o join notes n on n.id = o.id and 100 / (o.total - 10) <> 77 order by o.id",
        "select d.id from (select id, 100 / (total - 10) as q from orders) as d where d.q <> 77 order by d.id",
        "with w as (select id, 100 / (total - 10) as q from orders) select id from w where q <> 77 order by id",
        "select id from orders where case when total = 10 then cast('x' || tenant as integer) else 1 end = 1 order by id",
    ] {
        let (status, body) = shop.query("alice", sql).await;
        assert_eq!(status, 200, "{sql}: {body}");
        let (status, body) = shop.query("carol", sql).await;
        assert_eq!((status, reason(&body)), (422, "statement_failed"), "{sql}: {body}");
    }
    assert_eq!(shop.ids("alice", "select count(*) from orders").await, [2]);
    assert_eq!(shop.ids("alice", "select count(*) from orders where id = 3").await, [0]);
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_on_rows_that_a_database_cannot_be_asked_deny_and_nothing_runs_wider() {
    let mut shop = Shop::new(&[of(1, "alice", 5), of(2, "carol", 20)], false).await;
    // Nothing that a rule permits is nothing, and no error.
    shop.rules("").await;
    for (rules, whole) in [
        (
            "permit (principal, action == Shop::Action::\"read\", resource) when { resource.level + 1 < 9 };",
            false,
        ),
        (
            "forbid (principal, action == Shop::Action::\"read\", resource) when { resource.level * 2 > 9 };",
            false,
        ),
        (
            "permit (principal, action == Shop::Action::\"read\", resource) when { resource.owner.status == \"active\" };",
            false,
        ),
        ("permit (principal, action == Shop::Action::\"read\", resource) when { resource.level < 9 };", true),
    ] {
        let rules = format!("{OWN_ROWS}@id(\"other\") {rules}");
        shop.rules(&rules).await;
        for sql in [
            "select id from orders order by id",
            "select count(*) from notes where exists (select 1 from orders o where o.id = orders)",
            "with w as (select id from orders) select id from notes",
        ] {
            let (status, body) = shop.query("alice", sql).await;
            let why = if whole { "none" } else { "rows_undecidable" };
            assert_eq!(
                (status, reason(&body)),
                (if whole { 200 } else { 403 }, why),
                "{sql}: {body}\n{rules}"
            );
            let rule = body.pointer("/error/message").and_then(Value::as_str).unwrap_or_default();
            assert!(!rule.contains("other") && !rule.contains("level"), "which rule is for the log: {body}");
        }
        // A table on whose rows policy does not decide is as it was.
        assert_eq!(shop.ids("alice", "select count(*) from notes").await, [6]);
    }
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_and_tools_see_the_same_rows_and_rules_may_look_at_what_the_caller_may_not() {
    let mut shop = Shop::new(&[of(1, "alice", 5), of(2, "alice", 20), of(3, "carol", 10)], false).await;
    let masked = r#"@id("masked") @reason("personal_data") @remedy("redact(pii)")
        forbid (principal in Group::"contractors", action == Action::"column:read", resource)
        unless { context.obligations.contains("redact:pii") };"#;
    shop.rules(&format!("{OWN_ROWS}{masked}")).await;
    for (who, all, some) in [("alice", json!([[1], [2]]), json!([[2]])), ("mallory", json!([]), json!([]))] {
        assert_eq!(shop.query(who, "select id from orders order by id").await.1["rows"], all);
        let asked = json!({"template": "dear", "parameters": {"least": 10}});
        let (status, body) = shop.house.post(shop.key(who), "/query/shop", asked).await;
        assert_eq!((status, &body["rows"]), (200, &some), "{body}");
        for (tool, arguments) in [
            ("dear", json!({"least": 10})),
            ("query", json!({"sql": "select id from orders where total >= 10"})),
        ] {
            let params = json!({"name": tool, "arguments": arguments});
            let call = json!({"jsonrpc": "2.0", "id": tool, "method": "tools/call", "params": params});
            let (status, body) = shop.house.post(shop.key(who), "/mcp/shop", call).await;
            assert_eq!(
                (status, body.pointer("/result/structuredContent/rows")),
                (200, Some(&some)),
                "{body}"
            );
        }
    }
    // Whoever sees columns masked may not compare them, also not to learn of rows; the house does, before it masks.
    assert_eq!(shop.ids("carol", "select id from orders").await, [3]);
    for sql in ["select id from orders where total > 1", "select id from orders order by total"] {
        let (status, body) = shop.query("carol", sql).await;
        assert_eq!((status, reason(&body)), (403, "personal_data"), "{sql}: {body}");
    }
    // The columns that rules look at are none that anybody can ask for.
    let (status, body) = shop.query("alice", "select owner from orders").await;
    assert_eq!((status, reason(&body)), (422, "statement_refused"), "{body}");
    shop.stop().await;
}
