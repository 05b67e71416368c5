//! SQLite.

use std::sync::Arc;

use bartizan_base::{Clock, Name};
use bartizan_model::{DatabaseRouteSpec, ReasonCode};
use bartizan_rt::SystemClock;
use bartizan_sql_guard::{Parameter, RowsOf, Values, analyse};
use serde_json::{Value, json};

use super::{identity, run};
use crate::run::{Failure, Rows, Run};
use crate::sqlite;

pub(super) fn route(limits: &Value) -> DatabaseRouteSpec {
    serde_json::from_value(json!({
        "server": {"engine": "sqlite", "file": "shop.db"},
        "free_statements": true,
        "functions": ["count", "lower", "sum"],
        "limits": limits,
        "tables": {"orders": {"rows": "all", "columns": [
            {"name": "id", "type": "integer"}, {"name": "customer"}, {"name": "total", "type": "number"}
        ]}}
    }))
    .unwrap()
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let connection = rusqlite::Connection::open(folder.path().join("shop.db")).unwrap();
    connection
        .execute_batch(
            "create table orders (id integer, customer text, total real, secret text);
             insert into orders values (1, 'ann', 1.5, 'x'), (2, 'bob', null, 'y'), (3, 'ann', 2, x'00ff');
             create table numbers (n integer);
             create view orders2 as select * from orders;
             create view w1 as select * from orders;",
        )
        .unwrap();
    folder
}

async fn ask(limits: &Value, sql: &str) -> Result<Rows, Failure> {
    let folder = folder();
    let route = route(limits);
    sqlite::run(&folder.path().join("shop.db"), &clock(), &run(&route, "alice", sql)).await
}

#[tokio::test]
async fn rows_come_with_their_types_and_what_is_too_much_is_left_out() {
    let rows = ask(
        &json!({}),
        "select customer, sum(total), count(*) as n from orders group by customer order by 1",
    )
    .await
    .unwrap();
    assert_eq!(
        rows.rows,
        [vec![json!("ann"), json!(3.5), json!(2)], vec![json!("bob"), json!(null), json!(1)]]
    );
    assert_eq!((rows.types, rows.truncated), (vec!["text".into(), "real".into(), "integer".into()], false));
    let rows = ask(&json!({"rows": 2}), "select id from orders order by id").await.unwrap();
    assert_eq!((rows.rows.len(), rows.truncated), (2, true));
    let rows = ask(&json!({"rows": 3}), "select id from orders order by id").await.unwrap();
    assert_eq!((rows.rows.len(), rows.truncated), (3, false));
    let rows = ask(&json!({"bytes": 1_024, "rows": 1_000}), "select a.customer, lower(b.customer || b.customer) from orders a, orders b, orders c, orders d, orders e").await.unwrap();
    assert!(rows.truncated && rows.bytes <= 1_024 && rows.rows.len() < 243);
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_ended() {
    let many = (0..20).map(|n| format!(", orders t{n}")).collect::<String>();
    let sql = format!("select count(*) from orders{many}");
    let failure = ask(&json!({"statement_ms": 50}), &sql).await.unwrap_err();
    assert_eq!(failure.reason, ReasonCode::QueryTooSlow);
}

#[tokio::test]
async fn the_engine_itself_refuses_what_was_not_decided_on() {
    let folder = folder();
    let path = folder.path().join("shop.db");
    let route = route(&json!({}));
    let whole = run(&route, "alice", "select customer from orders where id = 1");
    let fits = sqlite::run(&path, &clock(), &whole).await.unwrap();
    assert_eq!(fits.rows, [[json!("ann")]]);
    // As if the guard had overlooked a column, a table, or everything that can be written.
    let mut less = whole.clone();
    less.reads.retain(|(_, column)| column.as_str() == "customer");
    let (mut none, mut other) = (whole.clone(), whole.clone());
    none.tables.clear();
    none.reads.clear();
    other.text = r#"select "t1"."secret" from "main"."orders" as "t1""#.to_owned();
    let written = |text: &str| {
        let mut run = whole.clone();
        run.text = text.to_owned();
        run
    };
    for run in [
        less,
        none,
        other,
        written("select rowid from orders"),
        written("select name from sqlite_master"),
        written("select customer from orders2"),
        written("select n from numbers"),
        written("select load_extension('x')"),
        written("select hex(customer) from orders"),
        written("insert into orders values (1, 2, 3, 4)"),
        written("attach 'x.db' as x"),
        written("pragma query_only = off"),
        written("with recursive r as (select 1 as a union all select a + 1 from r) select a from r"),
    ] {
        let failure = sqlite::run(&path, &clock(), &run).await.unwrap_err();
        // The engine tells a function that it may not call like one that it does not have.
        let unknown = run.text.contains('(') && failure.reason == ReasonCode::StatementFailed;
        assert!(unknown || failure.reason == ReasonCode::DatabaseUnfit, "{}: {failure:?}", run.text);
    }
    // A file that is not there is not made.
    let missing = folder.path().join("none.db");
    let failure = sqlite::run(&missing, &clock(), &whole).await.unwrap_err();
    assert_eq!((failure.reason, missing.exists()), (ReasonCode::DatabaseUnfit, false));
}

#[tokio::test]
async fn only_the_house_looks_at_columns_that_tell_rows_apart() {
    let folder = folder();
    let path = folder.path().join("shop.db");
    let route = route(&json!({}));
    let statement = analyse(&route, "select count(*), sum(id) from orders", &Values::new()).unwrap();
    let condition = r#"typeof("r"."secret") = 'text' AND EXISTS (SELECT 1 FROM json_each(?1) AS e WHERE e.value = "r"."secret")"#;
    let rows = RowsOf {
        condition: condition.to_owned(),
        values: vec![Parameter::Text(r#"["x", "y"]"#.to_owned())],
        reads: [Name::literal("secret")].into(),
    };
    let statement = statement.seeing(&Name::literal("orders"), rows).unwrap();
    let run = Run::new(&statement, identity("alice"), route.limits);
    let seen = sqlite::run(&path, &clock(), &run).await.unwrap();
    assert_eq!(seen.rows, [[json!(2), json!(3)]]);
    // Were the statement to look at them, or to call what only the house calls.
    let (mut blind, mut own) = (run.clone(), run.clone());
    blind.looked_at.clear();
    own.text = r#"select "r"."secret" from "main"."orders2" as "r""#.to_owned();
    for run in [blind, own] {
        let failure = sqlite::run(&path, &clock(), &run).await.unwrap_err();
        assert_ne!(failure.reason, ReasonCode::Internal, "{failure:?}");
    }
}

#[tokio::test]
async fn queries_that_are_named_first_are_no_views() {
    let sql = "with w as (select count(*) as n from orders), v as (select customer from orders) \
               select v.customer from v, w where w.n = 3 order by 1";
    let rows = ask(&json!({}), sql).await.unwrap();
    assert_eq!(rows.rows, [[json!("ann")], [json!("ann")], [json!("bob")]]);
    // A view of such a name passes by what was decided on, also where it is declared as a table.
    let folder = folder();
    let path = folder.path().join("shop.db");
    let mut run = run(&route(&json!({})), "alice", "select customer from orders");
    run.text = r#"select "t1"."customer" as "c1" from "main"."w1" as "t1""#.to_owned();
    run.tables.insert(Name::literal("w1"));
    run.reads.insert((Name::literal("w1"), Name::literal("customer")));
    let failure = sqlite::run(&path, &clock(), &run).await.unwrap_err();
    assert_eq!(failure.reason, ReasonCode::DatabaseUnfit);
}
