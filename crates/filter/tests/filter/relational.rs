//! INV-FILTER on databases: what SQL returns against what a full evaluation permits, row by row.

use std::collections::BTreeSet;

use crate::common::stores::{Absence, Style, columns, json_of};
use crate::common::words::Words;
use crate::common::{Case, Dice, Row, SHAPES, Stored, extent, moment_text, world};
use bartizan_filter::{Atom, Check, Dialect, Filter, Pushdown, Sql, SqlValue, Strictness, Tree, What, sql};
use rusqlite::types::Value as Lite;
use tokio_postgres::types::ToSql;

const ROWS: usize = 40;
const CASES_A_TABLE: usize = 20;

/// A table of rows that conditions can be asked of.
trait Table {
    const DIALECT: Dialect;
    const STYLE: Style;

    /// Puts these rows in the place of those before.
    fn fill(&self, rows: &[Row]);

    fn matching(&self, condition: &Sql) -> BTreeSet<String>;
}

struct Postgres {
    runtime: tokio::runtime::Runtime,
    client: tokio_postgres::Client,
    _server: bartizan_testkit::postgres::Server,
}

impl Postgres {
    fn start() -> Self {
        let server = bartizan_testkit::postgres::Server::start();
        let url = server.create_database();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let client = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
            #[expect(clippy::disallowed_methods, reason = "a test has no named tasks")]
            tokio::spawn(connection);
            client
        });
        let columns: Vec<_> = SHAPES
            .iter()
            .map(|shape| {
                let kind = match (shape.make)(&mut Dice(0)) {
                    Stored::Bool(_) => "boolean",
                    Stored::Int(_) => "bigint",
                    Stored::Text(_) | Stored::Entity(..) => "text",
                    Stored::Texts(_) | Stored::Entities(..) => "text[]",
                    Stored::Ints(_) => "bigint[]",
                    Stored::Moment(_) => "timestamptz(3)",
                    Stored::Decimal(_) => "numeric(19, 4)",
                    Stored::Address(_) => "inet",
                };
                format!("\"{}\" {kind}", shape.column)
            })
            .collect();
        let create =
            format!("create table rows (id text primary key, ancestors text[], {})", columns.join(", "));
        runtime.block_on(client.batch_execute(&create)).unwrap();
        Self { runtime, client, _server: server }
    }
}

impl Table for Postgres {
    const DIALECT: Dialect = Dialect::PostgreSql;
    const STYLE: Style = Style::Postgres;

    fn fill(&self, rows: &[Row]) {
        self.runtime.block_on(async {
            self.client.batch_execute("truncate rows").await.unwrap();
            for row in rows {
                let mut names = vec!["id".to_owned()];
                let mut places = vec!["$1".to_owned()];
                let mut values: Vec<Box<dyn ToSql + Sync>> = vec![Box::new(row.id.clone())];
                let mut put = |name: &str, cast: &str, value: Box<dyn ToSql + Sync>| {
                    values.push(value);
                    names.push(format!("\"{name}\""));
                    places.push(format!("${}{cast}", values.len()));
                };
                if row.placed {
                    put("ancestors", "", Box::new(row.ancestors.clone()));
                }
                for shape in SHAPES {
                    let Some(value) = row.values.get(shape.path) else { continue };
                    let texts = || {
                        json_of(value).as_array().map(|list| {
                            list.iter().map(|v| v.as_str().unwrap().to_owned()).collect::<Vec<_>>()
                        })
                    };
                    match value {
                        Stored::Bool(value) => put(shape.column, "", Box::new(*value)),
                        Stored::Int(value) => put(shape.column, "", Box::new(*value)),
                        Stored::Ints(values) => put(shape.column, "", Box::new(values.clone())),
                        Stored::Text(_) | Stored::Entity(..) => {
                            put(shape.column, "", Box::new(json_of(value).as_str().unwrap().to_owned()));
                        }
                        Stored::Texts(_) | Stored::Entities(..) => {
                            put(shape.column, "", Box::new(texts().unwrap()))
                        }
                        Stored::Moment(at) => {
                            put(shape.column, "::text::timestamptz", Box::new(moment_text(*at)))
                        }
                        Stored::Decimal(value) => {
                            put(
                                shape.column,
                                "::text::numeric",
                                Box::new(bartizan_filter::Decimal(*value).to_string()),
                            );
                        }
                        Stored::Address(text) => put(shape.column, "::text::inet", Box::new(text.clone())),
                    }
                }
                let insert =
                    format!("insert into rows ({}) values ({})", names.join(", "), places.join(", "));
                let values: Vec<_> = values.iter().map(|v| &**v as &(dyn ToSql + Sync)).collect();
                self.client.execute(&insert, &values).await.unwrap();
            }
        });
    }

    fn matching(&self, condition: &Sql) -> BTreeSet<String> {
        let values: Vec<Box<dyn ToSql + Sync>> = condition
            .values
            .iter()
            .map(|value| -> Box<dyn ToSql + Sync> {
                match value {
                    SqlValue::Bool(value) => Box::new(*value),
                    SqlValue::Int(value) => Box::new(*value),
                    SqlValue::Text(value) => Box::new(value.clone()),
                    SqlValue::Ints(value) => Box::new(value.clone()),
                    SqlValue::Texts(value) => Box::new(value.clone()),
                }
            })
            .collect();
        let values: Vec<_> = values.iter().map(|v| &**v as &(dyn ToSql + Sync)).collect();
        let select = format!("select id from rows where {}", condition.text);
        let rows = self.runtime.block_on(self.client.query(&select, &values));
        rows.unwrap_or_else(|error| panic!("{error:?}\n{select}")).iter().map(|row| row.get(0)).collect()
    }
}

struct Sqlite(rusqlite::Connection);

impl Sqlite {
    fn start() -> Self {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        // One column folds case, as some schemas have it; that must not show.
        let columns: Vec<_> =
            SHAPES.iter().map(|shape| format!("\"{}\" COLLATE NOCASE", shape.column)).collect();
        let create =
            format!("create table rows (id text primary key, ancestors text, {})", columns.join(", "));
        connection.execute_batch(&create).unwrap();
        Self(connection)
    }
}

impl Table for Sqlite {
    const DIALECT: Dialect = Dialect::Sqlite;
    const STYLE: Style = Style::Sqlite;

    fn fill(&self, rows: &[Row]) {
        self.0.execute("delete from rows", []).unwrap();
        for row in rows {
            let mut names = vec!["id".to_owned()];
            let mut values = vec![Lite::from(row.id.clone())];
            if row.placed {
                names.push("ancestors".to_owned());
                values.push(Lite::from(serde_json::to_string(&row.ancestors).unwrap()));
            }
            for shape in SHAPES {
                let Some(value) = row.values.get(shape.path) else { continue };
                names.push(format!("\"{}\"", shape.column));
                values.push(match json_of(value) {
                    serde_json::Value::Bool(value) => Lite::from(i64::from(value)),
                    serde_json::Value::Number(value) => Lite::from(value.as_i64().unwrap()),
                    serde_json::Value::String(value) => Lite::from(value),
                    list => Lite::from(list.to_string()),
                });
            }
            let places: Vec<_> = (1..=values.len()).map(|n| format!("?{n}")).collect();
            let insert = format!("insert into rows ({}) values ({})", names.join(", "), places.join(", "));
            self.0.execute(&insert, rusqlite::params_from_iter(values)).unwrap();
        }
    }

    fn matching(&self, condition: &Sql) -> BTreeSet<String> {
        let values = condition.values.iter().map(|value| match value {
            SqlValue::Bool(value) => Lite::from(*value),
            SqlValue::Int(value) => Lite::from(*value),
            SqlValue::Text(value) => Lite::from(value.clone()),
            SqlValue::Ints(_) | SqlValue::Texts(_) => panic!("SQLite has no lists"),
        });
        let select = format!("select id from rows where {}", condition.text);
        let mut statement = self.0.prepare(&select).unwrap_or_else(|error| panic!("{error}\n{select}"));
        let rows = statement.query_map(rusqlite::params_from_iter(values), |row| row.get(0)).unwrap();
        rows.map(|id| id.unwrap_or_else(|error| panic!("{error}\n{select}"))).collect()
    }
}

/// What happened, so that a test that tried nothing fails.
#[derive(Debug, Default)]
struct Tally {
    exact: usize,
    refused: usize,
    returned: usize,
    withheld: usize,
}

fn ask(table: &impl Table, pushdown: &Pushdown<Sql>) -> BTreeSet<String> {
    match pushdown {
        Pushdown::Never => BTreeSet::new(),
        Pushdown::Query { query, .. } => table.matching(query),
    }
}

/// Judges one filter on a table; a wrong answer in words.
fn judge<T: Table>(
    table: &T,
    case: &Case,
    filter: &Filter,
    rows: &[Row],
    permitted: &BTreeSet<String>,
    tally: &mut Tally,
) -> Result<(), String> {
    let told = |what: &str, ids: Vec<&String>, pushdown: &Pushdown<Sql>| {
        let guilty: Vec<_> = rows.iter().filter(|row| ids.contains(&&row.id)).take(2).collect();
        format!("{what}: {guilty:?}\n{case}\n{filter:?}\n{pushdown:?}")
    };
    let ways = [
        (Absence::Certain, Strictness::Exact),
        (Absence::Certain, Strictness::Narrower),
        (Absence::Unknown, Strictness::Narrower),
    ];
    for (absence, strictness) in ways {
        let columns = columns(T::STYLE, absence);
        let compiled = sql(filter, &columns, T::DIALECT, 1, strictness);
        let Ok(pushdown) = compiled else {
            tally.refused += 1;
            continue;
        };
        let returned = ask(table, &pushdown);
        let over: Vec<_> = returned.difference(permitted).collect();
        if !over.is_empty() {
            return Err(told("returned, and not permitted", over, &pushdown));
        }
        let complete = !matches!(&pushdown, Pushdown::Query { complete: false, .. });
        if strictness == Strictness::Exact && complete {
            tally.exact += 1;
            tally.returned += returned.len();
            tally.withheld += rows.len() - returned.len();
            let proper: BTreeSet<_> = rows.iter().filter(|row| row.is_proper()).map(|row| &row.id).collect();
            let under: Vec<_> = permitted.difference(&returned).filter(|id| proper.contains(id)).collect();
            if !under.is_empty() {
                return Err(told("permitted, and not returned", under, &pushdown));
            }
        }
    }
    Ok(())
}

/// Runs random cases; `change` may plant a fault in a filter. Gives the first failure.
fn run<T: Table>(
    table: &T,
    cases: usize,
    seed: u64,
    change: impl Fn(&Filter) -> Filter,
    stop: bool,
) -> (Tally, Option<String>) {
    let mut dice = Dice(seed);
    let mut tally = Tally::default();
    let mut first = None;
    let mut done = 0;
    while done < cases {
        let rows: Vec<_> = (0..ROWS).map(|n| Row::random(&mut dice, n)).collect();
        table.fill(&rows);
        let world = world(&rows);
        for _ in 0..CASES_A_TABLE.min(cases - done) {
            done += 1;
            let words = dice.pick(&[Words::Common, Words::Some, Words::Some, Words::Any]);
            let case = Case::random(&mut dice, words);
            let filter = change(&case.filter().expect("a filter"));
            let permitted = case.permitted(&rows, &world);
            if let Err(told) = judge(table, &case, &filter, &rows, &permitted, &mut tally) {
                // Under a planted fault the search goes on until a row comes back that must not.
                if stop || told.starts_with("returned") {
                    return (tally, Some(told));
                }
                first.get_or_insert(told);
            }
        }
    }
    (tally, first)
}

fn holds(tally: &Tally, failure: Option<String>, cases: usize) {
    if let Some(told) = failure {
        panic!("{told}");
    }
    println!("{tally:?}");
    assert!(tally.exact > cases / 2, "{tally:?}");
    assert!(tally.refused > cases / 50, "{tally:?}");
    assert!(tally.returned > tally.withheld / 20 && tally.withheld > tally.returned / 20, "{tally:?}");
}

#[test]
fn inv_filter_postgresql_returns_exactly_what_a_full_evaluation_permits() {
    let (cases, seed) = extent(250);
    let table = Postgres::start();
    let (tally, failure) = run(&table, cases, seed, Clone::clone, true);
    holds(&tally, failure, cases);
}

#[test]
fn inv_filter_sqlite_returns_exactly_what_a_full_evaluation_permits() {
    let (cases, seed) = extent(250);
    let table = Sqlite::start();
    let (tally, failure) = run(&table, cases, seed, Clone::clone, true);
    holds(&tally, failure, cases);
}

/// The first wrong answer under a planted fault, on SQLite.
fn caught(change: impl Fn(&Filter) -> Filter) -> String {
    let table = Sqlite::start();
    let (_, failure) = run(&table, 300, 1, change, false);
    failure.expect("the planted fault shows")
}

/// The filter with every test replaced.
fn changed(filter: &Filter, change: impl Fn(&Atom) -> Filter) -> Filter {
    let Ok(filter) = filter.try_map(&mut |atom| Ok::<_, std::convert::Infallible>(change(atom)));
    filter
}

#[test]
fn a_dropped_has_guard_is_caught() {
    let told = caught(|filter| {
        changed(filter, |atom| match atom.what {
            What::Test { check: Check::Present, .. } => Tree::Always,
            _ => Tree::Leaf(atom.clone()),
        })
    });
    assert!(told.starts_with("returned, and not permitted"), "{told}");
}

#[test]
fn a_flipped_negation_is_caught() {
    // One rule's tests of one kind, as a slip of the pen would have it.
    let told = caught(|filter| {
        changed(filter, |atom| match &atom.what {
            What::Test { field, check: check @ (Check::NotIn(_) | Check::HoldsNone(_)) } => {
                let what = What::Test { field: field.clone(), check: check.complement() };
                Tree::Leaf(Atom { rule: atom.rule.clone(), what })
            }
            _ => Tree::Leaf(atom.clone()),
        })
    });
    assert!(told.starts_with("returned, and not permitted"), "{told}");
}

#[test]
fn a_row_without_a_value_that_is_taken_for_one_with_it_is_caught() {
    // What `NOT (a = b)` would do in a language where a comparison with nothing is false, and not unknown.
    let told = caught(|filter| {
        changed(filter, |atom| match &atom.what {
            What::Test { field, check: Check::NotIn(_) } => {
                let what = What::Test { field: field.clone(), check: Check::Absent };
                Tree::any([Tree::Leaf(atom.clone()), Tree::Leaf(Atom { rule: atom.rule.clone(), what })])
            }
            What::Test { check: Check::Present, .. } => Tree::Always,
            _ => Tree::Leaf(atom.clone()),
        })
    });
    assert!(told.starts_with("returned, and not permitted"), "{told}");
}

/// Values that PostgreSQL has and Cedar does not, collations and types that fold, NULLs in arrays.
#[test]
fn postgresql_rows_that_no_schema_foresaw_do_not_match() {
    let server = bartizan_testkit::postgres::Server::start();
    let url = server.create_database();
    let database = url.rsplit('/').next().unwrap();
    server.psql(
        database,
        "create collation folding (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         create table rows (id text, title text collate folding, price numeric, created timestamptz, labels text[]);
         insert into rows values
           ('proper', 'b', 1, '2026-01-01Z', '{x}'), ('folded', 'B', 'NaN', 'infinity', '{x,NULL}'),
           ('null', null, null, null, null), ('below', 'b', '-Infinity', '-infinity', '{NULL}');",
    );
    let column = |name, kind| bartizan_filter::Column::new(name, kind).unwrap();
    let columns = bartizan_filter::Columns::none()
        .attribute("title", column("title", bartizan_filter::Kind::Text))
        .attribute("price", column("price", bartizan_filter::Kind::Numeric))
        .attribute("created", column("created", bartizan_filter::Kind::Timestamp))
        .attribute("labels", column("labels", bartizan_filter::Kind::Text).set());
    let ask = |condition: &str| {
        let policy = format!("permit (principal, action, resource) when {{ {condition} }};");
        let now = serde_json::json!({ "__extn": { "fn": "datetime", "arg": "2026-01-01" } });
        let context = serde_json::json!({ "mfa": true, "hour": 9, "dept": "a", "allowed": [], "now": now });
        let case = Case::of(
            &[&policy],
            vec![crate::common::Person { uid: crate::common::uid("User", "u0"), context }],
        );
        let filter = case.filter().unwrap();
        let Ok(Pushdown::Query { query, .. }) =
            sql(&filter, &columns, Dialect::PostgreSql, 1, Strictness::Exact)
        else {
            panic!("{condition} is translated");
        };
        // `psql` takes the values as text, which is what the casts in the condition are given.
        let mut text = query.text.clone();
        for (n, value) in query.values.iter().enumerate().rev() {
            let literal = match value {
                SqlValue::Text(value) => format!("'{value}'"),
                SqlValue::Texts(values) => format!("array['{}']", values.join("','")),
                other => panic!("{other:?}"),
            };
            text = text.replace(&format!("${}", n + 1), &literal);
        }
        server.psql(
            database,
            &format!("select coalesce(string_agg(id, ' ' order by id), '') from rows where {text}"),
        )
    };
    assert_eq!(ask("resource.title == \"b\""), "below proper");
    assert_eq!(ask("resource.title != \"b\""), "folded");
    assert_eq!(ask("resource.title like \"b*\""), "below proper");
    for condition in [
        "resource.price.greaterThan(decimal(\"0.5\"))",
        "resource.price != decimal(\"2.0\")",
        "resource.price.lessThan(decimal(\"5.0\"))",
        "resource.created > datetime(\"2025-01-01\")",
        "resource.created < datetime(\"2027-01-01\")",
        "resource.created != datetime(\"2027-01-01\")",
        "!resource.labels.contains(\"secret\")",
        "!resource.labels.containsAll([\"secret\", \"x\"])",
        "![\"secret\"].containsAll(resource.labels)",
    ] {
        assert_eq!(ask(condition), "proper", "{condition}");
    }
}
