//! Databases behind the same door: what is read is decided on, what is run is ours, what comes back is redacted and labelled.

use bartizan_testkit::postgres::Server;

use super::*;

/// Engineers read what is not restricted; contractors see personal data redacted.
pub(super) const RULES: &str = r#"
@id("people-query")
permit (principal, action in [Action::"database:query", Action::"table:read"], resource)
when { principal in Group::"engineers" || principal in Group::"contractors" };

@id("people-read-columns")
permit (principal, action == Action::"column:read", resource)
when { (principal in Group::"engineers" || principal in Group::"contractors") && resource.confidentiality != "restricted" };

@id("contractors-see-masked-columns")
@reason("personal_data")
@remedy("redact(pii)")
forbid (principal in Group::"contractors", action == Action::"column:read", resource)
unless { context.obligations.contains("redact:pii") };
"#;

pub(super) fn assets() -> Vec<Value> {
    let column = |name: &str, confidentiality: &str, categories: &[&str]| {
        json!({"name": format!("shop.orders.{name}"), "spec": {"kind": "column", "within": ["shop.orders"],
            "confidentiality": confidentiality, "integrity": "untrusted", "categories": categories}})
    };
    vec![
        json!({"name": "shop", "spec": {"kind": "database"}}),
        json!({"name": "shop.orders", "spec": {"kind": "table", "within": ["shop"], "confidentiality": "internal"}}),
        column("id", "internal", &[]),
        column("owner", "internal", &[]),
        column("email", "confidential", &["contact"]),
        column("salary", "restricted", &[]),
    ]
}

pub(super) fn route(server: &Value, rows: &str) -> Value {
    json!({"name": "shop", "spec": {
        "kind": "database_route", "server": server, "free_statements": true, "functions": ["count", "lower"],
        "limits": {"rows": 100},
        "tables": {"orders": {"rows": rows, "columns": [
            {"name": "id", "type": "integer", "plain": true}, {"name": "owner"}, {"name": "email"}, {"name": "salary", "type": "integer"}
        ]}},
        "templates": {"mails_of": {
            "sql": "select id, email from orders where id >= :least order by id",
            "parameters": {"least": "integer"}, "description": "Mail addresses."
        }}
    }})
}

pub(super) const ROWS: &str = "insert into orders values (1, 'alice', 'a@mail.example', 10), (2, 'alice', 'b@mail.example', 20), \
                    (3, 'carol', 'c@mail.example', 30)";

async fn declare(house: &House, documents: Vec<Value>) {
    let admin = Client::new(&format!("http://{}", house.node.control), Some(house.admin_key.clone()));
    blocking(move || {
        admin.call("POST", "/api/v1/resources", Some(&json!(documents))).unwrap();
        let files = json!({"files": {"policy.cedar": POLICY, "shop.cedar": RULES}, "expect": 2});
        admin.call("PUT", "/api/v1/policy", Some(&files)).unwrap();
    })
    .await;
}

/// A house with an SQLite file behind it.
async fn shop() -> (House, tempfile::TempDir) {
    let files = tempfile::tempdir().unwrap();
    let database = rusqlite::Connection::open(files.path().join("shop.db")).unwrap();
    let table = "create table orders (id integer, owner text, email text, salary integer)";
    database.execute_batch(&format!("{table}; {ROWS}")).unwrap();
    let folder = files.path().to_string_lossy().into_owned();
    let house = House::with(&[("query.sqlite_folder", folder)]).await;
    let mut documents = assets();
    documents.push(route(&json!({"engine": "sqlite", "file": "shop.db"}), "all"));
    declare(&house, documents).await;
    (house, files)
}

async fn query(house: &House, key: &Secret<String>, sql: &str) -> (u16, Value) {
    house.post(key, "/query/shop", json!({"sql": sql})).await
}

fn message(body: &Value) -> &str {
    body.pointer("/error/message").and_then(Value::as_str).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_decided_table_by_table_and_column_by_column() {
    let (house, _files) = shop().await;
    let alice = &house.alice.1;
    let (status, body) =
        query(&house, alice, "select id, email from orders where owner = 'alice' order by id").await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["rows"], json!([[1, "a@mail.example"], [2, "b@mail.example"]]));
    assert_eq!(
        (&body["columns"][1], &body["truncated"]),
        (&json!({"name": "email", "type": "text"}), &json!(false))
    );
    // What may not be read may not be compared, counted or ordered with either.
    for sql in [
        "select salary from orders",
        "select * from orders",
        "select id from orders where salary > 5",
        "select id from orders order by salary",
        "select count(salary) from orders",
        "select id from orders o where exists (select 1 from orders p where p.salary > o.salary)",
    ] {
        let (status, body) = query(&house, alice, sql).await;
        assert_eq!((status, reason(&body)), (403, "no_matching_permit"), "{sql}: {body}");
        assert!(
            message(&body).contains("`orders.salary`") && !message(&body).contains("`orders.id`"),
            "{body}"
        );
    }
    for sql in [
        "select secret from orders",
        "select * from sqlite_master",
        "delete from orders",
        "select 1; select 2",
    ] {
        let (status, body) = query(&house, alice, sql).await;
        assert_eq!((status, reason(&body)), (422, "statement_refused"), "{sql}: {body}");
    }
    let (status, body) =
        house.post(alice, "/query/shop", json!({"template": "mails_of", "parameters": {"least": 3}})).await;
    assert_eq!((status, &body["rows"]), (200, &json!([[3, "c@mail.example"]])), "{body}");
    for parameters in [json!({}), json!({"least": "3"}), json!({"least": 3, "more": 1})] {
        let asked = json!({"template": "mails_of", "parameters": parameters});
        let (status, body) = house.post(alice, "/query/shop", asked).await;
        assert_eq!((status, reason(&body)), (422, "statement_refused"), "{body}");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_query_learns_nothing_of_what_is_there() {
    let (house, _files) = shop().await;
    let mut heard = Vec::new();
    for (path, sql) in [
        ("/query/shop", "select id from orders"),
        ("/query/shop", "select nothing from nowhere"),
        ("/query/other", "select id from orders"),
    ] {
        let (status, mut body) = house.post(&house.mallory, path, json!({"sql": sql})).await;
        assert_eq!((status, reason(&body)), (403, "no_matching_permit"), "{body}");
        body.pointer_mut("/error/bartizan/decision").map(Value::take);
        heard.push(message(&body).to_owned());
    }
    assert!(heard.iter().all(|text| *text == heard[0]), "{heard:?}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_redacted_can_be_given_out_and_nothing_else() {
    let (house, _files) = shop().await;
    let (status, body) =
        query(&house, &house.carol, "select id, email from orders where id < 3 order by id").await;
    assert_eq!((status, &body["rows"]), (200, &json!([[1, "[email]"], [2, "[email]"]])), "{body}");
    for sql in [
        "select id from orders where email like 'a%'",
        "select lower(email) from orders",
        "select substr from (select email as substr from orders) as x order by 1",
        "select distinct email from orders",
        "select id from orders order by email",
    ] {
        let (status, body) = query(&house, &house.carol, sql).await;
        assert_eq!((status, reason(&body)), (403, "personal_data"), "{sql}: {body}");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pitfall_the_callers_own_rows_come_from_postgres_and_nobody_elses() {
    let server = blocking(|| {
        let server = Server::start();
        let url = server.create_database();
        let name = url.rsplit('/').next().unwrap().to_owned();
        server.psql("postgres", "create role reader login");
        server.psql(
            &name,
            &format!(
                "create table orders (id bigint, owner text, email text, salary bigint); {ROWS}; \
                 alter table orders enable row level security; \
                 create policy own on orders using (owner = current_setting('bartizan.subject', true)); \
                 grant select on orders to reader"
            ),
        );
        (server, name)
    });
    let (server, name) = server.await;
    let house = House::new().await;
    let mut documents = assets();
    documents.push(route(
        &json!({"engine": "postgres", "host": "127.0.0.1", "port": server.port(), "database": name, "user": "reader",
            "tls": false, "allow_private": true}),
        "row_security",
    ));
    declare(&house, documents).await;
    let (status, body) = query(&house, &house.alice.1, "select id from orders order by id").await;
    assert_eq!((status, &body["rows"]), (200, &json!([[1], [2]])), "{body}");
    let (status, body) = query(&house, &house.carol, "select id from orders order by id").await;
    assert_eq!((status, &body["rows"]), (200, &json!([[3]])), "{body}");
    // Whoever a text says they are does not matter.
    let (_, body) = query(&house, &house.alice.1, "select count(*) from orders where owner = 'carol'").await;
    assert_eq!(body["rows"], json!([[0]]), "{body}");
    house.stop().await;
    blocking(move || drop(server)).await;
}
