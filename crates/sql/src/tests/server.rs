//! PostgreSQL.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bartizan_base::{Clock, Name};
use bartizan_model::{DatabaseRouteSpec, ReasonCode, Tenant};
use bartizan_rt::{SystemClock, Tasks};
use bartizan_secret::Secret;
use bartizan_testkit::postgres::Server;
use bartizan_upstream::{Credentials, Settings, SystemResolver, Upstreams};
use serde_json::{Value, json};

use super::run;
use crate::pool::Pool;
use crate::postgres::Dialer;
use crate::run::{Failure, Rows, Run};

static SERVER: LazyLock<Server> = LazyLock::new(Server::start);

/// Rows belong to somebody; who that is, is what the transaction says.
const SCHEMA: &str = "
create table orders (id bigint, owner text, email text, total numeric(20,4), placed timestamptz, data jsonb);
insert into orders values (1, 'alice', 'a@mail.example', 12.5, '2024-05-06 07:08:09+00', '{\"a\": [1]}'),
                          (2, 'alice', null, 9007199254740993.0001, null, null), (3, 'bob', 'b@mail.example', 0, null, '[]');
alter table orders enable row level security;
create policy own on orders using (owner = current_setting('bartizan.subject', true)
    and current_setting('bartizan.groups', true)::jsonb ? 'staff');
create table open (n bigint, t text);
insert into open select i, repeat('x', 100) from generate_series(1, 3000) i;
create view seen as select * from orders;
grant select on orders, open, seen to public;
";

#[derive(Debug)]
struct NoCredentials;

impl Credentials for NoCredentials {
    fn credential(&self, _: &Tenant, _: &Name) -> Option<Secret<String>> {
        None
    }
}

fn dialer() -> Dialer {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let credentials = Arc::new(NoCredentials);
    let settings = Settings {
        extra_roots: Vec::new(),
        resolver: Arc::new(SystemResolver),
        credentials: credentials.clone(),
        clock: clock.clone(),
    };
    let upstreams = Arc::new(Upstreams::new(settings).unwrap());
    Dialer { upstreams, credentials, tasks: Tasks::new(), clock }
}

/// A database of its own with a role that may read, prepared further by `more`, in which `ROLE` is the role.
struct Shop {
    name: String,
    role: String,
    dialer: Dialer,
}

impl Shop {
    async fn new(more: &'static str) -> Self {
        let (name, role) = tokio::task::spawn_blocking(move || {
            let url = SERVER.create_database();
            let name = url.rsplit('/').next().unwrap().to_owned();
            let role = format!("reader_{name}");
            SERVER.psql("postgres", &format!("create role {role} login"));
            SERVER.psql(&name, SCHEMA);
            if !more.is_empty() {
                SERVER.psql(&name, &more.replace("ROLE", &role));
            }
            (name, role)
        })
        .await
        .unwrap();
        Self { name, role, dialer: dialer() }
    }

    fn route(&self, change: impl FnOnce(&mut Value)) -> DatabaseRouteSpec {
        let mut value = json!({
            "server": {
                "engine": "postgres", "host": "127.0.0.1", "port": SERVER.port(), "database": self.name,
                "user": self.role, "tls": false, "allow_private": true
            },
            "free_statements": true,
            "functions": ["count", "sum", "lower"],
            "tables": {
                "orders": {"columns": [
                    {"name": "id", "type": "integer"}, {"name": "owner"}, {"name": "email"},
                    {"name": "total", "type": "decimal"}, {"name": "placed", "type": "timestamptz"},
                    {"name": "data", "type": "json"}
                ]},
                "open": {"rows": "all", "columns": [{"name": "n", "type": "integer"}, {"name": "t"}]}
            }
        });
        change(&mut value);
        serde_json::from_value(value).unwrap()
    }

    fn pool(&self, change: impl FnOnce(&mut Value)) -> Arc<Pool> {
        Arc::new(Pool::new(self.route(change)))
    }

    async fn ask(&self, pool: &Arc<Pool>, subject: &str, sql: &str) -> Result<Rows, Failure> {
        self.run(pool, &run(&pool.route, subject, sql)).await
    }

    async fn run(&self, pool: &Arc<Pool>, run: &Run) -> Result<Rows, Failure> {
        self.dialer.run(&Tenant::default_tenant(), pool, run).await
    }

    async fn psql(&self, sql: &'static str) -> String {
        let name = self.name.clone();
        tokio::task::spawn_blocking(move || SERVER.psql(&name, sql)).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_sees_their_own_rows_and_nothing_of_an_identity_is_left_on_a_connection() {
    let shop = Shop::new("").await;
    let pool = shop.pool(|v| v["limits"] = json!({"connections": 1}));
    let ids = "select id from orders order by id";
    assert_eq!(shop.ask(&pool, "alice", ids).await.unwrap().rows, [[json!(1)], [json!(2)]]);
    assert_eq!(shop.ask(&pool, "bob", ids).await.unwrap().rows, [[json!(3)]]);
    assert_eq!(shop.ask(&pool, "bob' or true --", ids).await.unwrap().rows, Vec::<Vec<Value>>::new());
    let mut outside = run(&pool.route, "alice", ids);
    outside.identity.groups = BTreeSet::new();
    assert!(shop.run(&pool, &outside).await.unwrap().rows.is_empty());
    // One connection served all of them, and is as new.
    let idle = pool.take(&*shop.dialer.clock).unwrap();
    let left = "select current_setting('bartizan.subject', true), current_setting('search_path')";
    let row = idle.client.query_one(left, &[]).await.unwrap();
    assert_eq!(row.get::<_, Option<&str>>(0).unwrap_or_default(), "");
    assert_eq!(row.get::<_, &str>(1), "pg_catalog,pg_temp");
    let error = idle.client.batch_execute("create temp table x (a int)").await.unwrap_err();
    assert!(error.as_db_error().unwrap().message().contains("read-only"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn values_come_as_the_database_knows_them() {
    let shop = Shop::new("").await;
    let pool = shop.pool(|_| {});
    let rows = shop.ask(&pool, "alice", "select * from orders order by id").await.unwrap();
    assert_eq!(rows.types, ["int8", "text", "text", "numeric", "timestamptz", "jsonb"]);
    assert_eq!(
        rows.rows[0],
        [
            json!(1),
            json!("alice"),
            json!("a@mail.example"),
            json!(12.5),
            json!("2024-05-06T07:08:09+00:00"),
            json!({"a": [1]})
        ]
    );
    assert_eq!(rows.rows[1][2], json!(null));
    assert!(rows.rows[1][3].to_string().starts_with("9007199254740993") || rows.rows[1][3].is_f64());
}

/// What is wrong, how it comes to be so, and how the route differs.
type Fault = (&'static str, &'static str, fn(&mut Value));

#[tokio::test(flavor = "multi_thread")]
async fn a_role_or_table_by_which_row_security_could_be_passed_is_refused() {
    let unfit: [Fault; 14] = [
        ("superuser", "alter role ROLE superuser", |_| {}),
        ("bypasses row security", "alter role ROLE bypassrls", |_| {}),
        ("makes roles", "alter role ROLE createrole", |_| {}),
        ("owns a table", "create table mine (a int); alter table mine owner to ROLE", |_| {}),
        ("owns a schema", "create schema mine authorization ROLE", |_| {}),
        ("reads files", "grant pg_read_server_files to ROLE", |_| {}),
        (
            "reads everything, not inherited",
            "alter role ROLE noinherit; grant pg_read_all_data to ROLE",
            |_| {},
        ),
        (
            "belongs to an owner",
            "create role ROLE_o; alter table open owner to ROLE_o; grant ROLE_o to ROLE",
            |_| {},
        ),
        ("belongs to one that bypasses", "create role ROLE_b bypassrls; grant ROLE_b to ROLE", |_| {}),
        ("no row security", "alter table orders disable row level security", |_| {}),
        ("a view", "", |v| v["tables"] = json!({"seen": {"columns": [{"name": "id"}]}})),
        ("no such table", "", |v| v["tables"] = json!({"none": {"columns": [{"name": "id"}]}})),
        ("no such column", "", |v| v["tables"]["open"]["columns"] = json!([{"name": "none"}])),
        ("no right", "revoke select on orders from public", |_| {}),
    ];
    for (why, more, change) in unfit {
        let shop = Shop::new(more).await;
        let pool = shop.pool(change);
        let table = pool.route.tables.iter().next_back().unwrap();
        let column = &table.1.columns[0].name;
        let sql = format!("select {column} from {}", table.0);
        let failure = shop.ask(&pool, "alice", &sql).await.unwrap_err();
        assert_eq!(failure, ReasonCode::DatabaseUnfit.into(), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_tell_nothing_of_what_is_in_rows() {
    let shop = Shop::new("").await;
    let pool = shop.pool(|_| {});
    for sql in [
        "select cast(email as integer) from orders",
        "select 1 / (id - id) from orders",
        "select cast(lower(email) as date) from orders",
    ] {
        let failure = shop.ask(&pool, "alice", sql).await.unwrap_err();
        assert_eq!(failure, ReasonCode::StatementFailed.into(), "{sql}");
    }
    for (sql, hint) in
        [("select owner, count(*) from orders", "grouped"), ("select id + owner from orders", "cast")]
    {
        let failure = shop.ask(&pool, "alice", sql).await.unwrap_err();
        assert!(failure.hint.is_some_and(|found| found.contains(hint)), "{sql}: {failure:?}");
    }
    // A condition that fails on rows of others does not come to see them.
    let probe = "select id from orders where 1 / (case when owner = 'bob' then 0 else 1 end) = 1 order by id";
    assert_eq!(shop.ask(&pool, "alice", probe).await.unwrap().rows.len(), 2);
    let counted =
        shop.ask(&pool, "alice", "select count(*), sum(total) from orders where owner = 'bob'").await;
    assert_eq!(counted.unwrap().rows, [[json!(0), json!(null)]]);
}

/// Far more than a second of work.
const LONG: &str = "select count(*) from open a, open b, open c";

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold() {
    let shop = Shop::new("").await;
    let pool = shop.pool(|v| v["limits"] = json!({"rows": 5}));
    let rows = shop.ask(&pool, "alice", "select n from open order by n").await.unwrap();
    assert_eq!((rows.rows.len(), rows.truncated), (5, true));
    let rows = shop.ask(&pool, "alice", "select n from open order by n limit 5").await.unwrap();
    assert_eq!((rows.rows.len(), rows.truncated), (5, false));
    let pool = shop.pool(|v| v["limits"] = json!({"bytes": 1_024}));
    let rows = shop.ask(&pool, "alice", "select t from open").await.unwrap();
    assert!(rows.truncated && rows.rows.len() == 10, "{}", rows.rows.len());
    let pool = shop.pool(|v| v["limits"] = json!({"statement_ms": 100, "connections": 1}));
    assert_eq!(shop.ask(&pool, "alice", LONG).await, Err(ReasonCode::QueryTooSlow.into()));
    // What ended badly does not spoil what comes next.
    assert_eq!(shop.ask(&pool, "alice", "select count(*) from open").await.unwrap().rows, [[json!(3_000)]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_ends_when_nobody_waits_for_it() {
    let shop = Shop::new("").await;
    let pool = shop.pool(|v| v["limits"] = json!({"statement_ms": 60_000, "connections": 1}));
    let active = "select count(*) from pg_stat_activity where state = 'active' and query like '%\"open\"%' and pid <> pg_backend_pid()";
    let work = run(&pool.route, "alice", LONG);
    let mut asking = Box::pin(shop.run(&pool, &work));
    let running = async { while shop.psql(active).await != "1" {} };
    tokio::select! {
        done = &mut asking => panic!("{done:?}"),
        () = running => {}
    }
    drop(asking);
    let ended = async { while shop.psql(active).await != "0" {} };
    tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap();
    assert_eq!(shop.ask(&pool, "alice", "select count(*) from open").await.unwrap().rows, [[json!(3_000)]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_private_is_only_reached_where_that_is_declared() {
    let shop = Shop::new("").await;
    let pool = shop.pool(|v| v["server"]["allow_private"] = json!(false));
    let failure = shop.ask(&pool, "alice", "select n from open").await.unwrap_err();
    assert!(
        matches!(failure.reason, ReasonCode::UpstreamUnreachable | ReasonCode::EgressForbidden),
        "{failure:?}"
    );
    // A server that does not speak TLS is not spoken to without.
    let pool = shop.pool(|v| v["server"]["tls"] = json!(true));
    let failure = shop.ask(&pool, "alice", "select n from open").await.unwrap_err();
    assert_eq!(failure, ReasonCode::UpstreamUnreachable.into());
    let pool = shop.pool(|v| v["server"]["credential"] = json!("none"));
    let failure = shop.ask(&pool, "alice", "select n from open").await.unwrap_err();
    assert_eq!(failure, ReasonCode::UpstreamUnreachable.into());
}
