//! Measures policy on rows over a million of them in PostgreSQL: written by hand into the statement, put there by the house, and
//! decided on row by row after everything was fetched. The rules let 0.1 % to 100 % of the rows through.

mod policy;

use std::path::PathBuf;
use std::pin::pin;
use std::time::Instant;

use bartizan_bench::Error;
use bartizan_bench::report::{self, Cases, Comparison, Value};
use bartizan_sql_guard::{Parameter, Statement};
use bartizan_testkit::postgres::Server;
use futures_util::TryStreamExt as _;
use policy::World;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls};

const USAGE: &str = "usage: pushdown --results FILE [--only CASE,CASE] [--quick]";
const HAND: &str = "hand_written";
const HOUSE: &str = "bartizan";
const EACH: &str = "bartizan_each";
const COMPARISON: Comparison = Comparison { baseline: HAND, further: &[], added: None };
/// Rows in a thousand that the rule lets through, and how that is called.
const SHARES: [(u32, &str); 5] = [(1, "0.1"), (10, "1"), (100, "10"), (500, "50"), (1_000, "100")];
/// What the caller asks for, and the same with the filter written by hand. The last could fail for a row, so the house leaves rows
/// out before it is computed.
const STATEMENTS: [(&str, &str, &str); 3] = [
    (
        "sum",
        "select count(*), sum(total) from orders",
        "select count(*), sum(total) from orders where {filter}",
    ),
    (
        "page",
        "select id, total from orders where total > 500 order by id limit 100",
        "select id, total from orders where total > 500 and {filter} order by id limit 100",
    ),
    (
        "fenced",
        "select count(*) from orders where 1000 / (total + 1) > 10",
        "select count(*) from orders where 1000 / (total + 1) > 10 and {filter}",
    ),
];

struct Arguments {
    results: PathBuf,
    only: Option<Vec<String>>,
    quick: bool,
}

fn main() -> Result<(), Error> {
    let arguments = arguments(std::env::args().skip(1))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(&arguments))
}

async fn measure(arguments: &Arguments) -> Result<(), Error> {
    let (rows, rounds) = if arguments.quick { (100_000, 3) } else { (1_000_000, 9) };
    let server = Server::start();
    let database = server.create_database();
    let name = database.rsplit('/').next().unwrap_or_default();
    // Spread over the table, so that no part of it can be passed over.
    server.psql(
        name,
        &format!(
            "create table orders (id bigint primary key, owner text not null, tenant text not null, share bigint not null, total bigint not null); \
             insert into orders select n, 'user-' || n % 1000, 'north', n * 7919 % 1000, n * 104729 % 1000 from generate_series(1::bigint, {rows}) as n; \
             create index on orders (share)"
        ),
    );
    server.psql(name, "vacuum analyze orders");
    let (client, connection) = tokio_postgres::connect(&database, NoTls).await?;
    tokio::spawn(connection);
    let wanted = |case: &str| arguments.only.as_ref().is_none_or(|only| only.iter().any(|name| name == case));
    let (mut hand, mut house, mut each) = (Vec::new(), Vec::new(), Vec::new());
    for (share, called) in SHARES {
        let world = World::new(share)?;
        for (kind, asked, written) in STATEMENTS {
            let written = written.replace("{filter}", &format!("tenant = 'north' and share < {share}"));
            let (mut by_hand, mut by_house, mut making) = (Vec::new(), Vec::new(), Vec::new());
            // One round before, so that everything is in memory for both.
            for round in 0..=rounds {
                let begin = Instant::now();
                let statement = world.statement(asked)?;
                let made = begin.elapsed();
                let (own, own_rows) = run_hand(&client, &written).await?;
                let (ours, our_rows) = run_house(&client, &statement).await?;
                if own_rows != our_rows {
                    return Err(
                        format!("{kind} {called}: {own_rows} rows by hand, {our_rows} by the house").into()
                    );
                }
                if round > 0 {
                    by_hand.push(own);
                    by_house.push(ours);
                    making.push(made.as_secs_f64() * 1e6);
                }
            }
            hand.push(Value::median(format!("{kind}_{called}"), by_hand, "ms"));
            house.push(Value::median(format!("{kind}_{called}"), by_house, "ms"));
            house.push(Value::median(format!("{kind}_{called}_making"), making, "us"));
        }
        if wanted(EACH) {
            each.push(Value::new(format!("sum_{called}"), Some(run_each(&client, &world).await?), "ms"));
        }
    }
    let cases: Cases = [(HAND, hand), (HOUSE, house), (EACH, each)]
        .into_iter()
        .filter(|(case, values)| wanted(case) && !values.is_empty())
        .map(|(case, values)| (case.to_owned(), values))
        .collect();
    let rows = report::rows(&cases, &COMPARISON);
    println!("{}", report::table(&rows, &COMPARISON));
    report::write(&arguments.results, &report::machine(), &rows)
}

/// Milliseconds from a text to its last row, prepared anew as the door does, and the number of rows.
async fn run_hand(client: &Client, text: &str) -> Result<(f64, usize), Error> {
    let begin = Instant::now();
    let statement = client.prepare(text).await?;
    let rows = client.query(&statement, &[]).await?;
    Ok((begin.elapsed().as_secs_f64() * 1e3, rows.len()))
}

async fn run_house(client: &Client, statement: &Statement) -> Result<(f64, usize), Error> {
    let text = statement.executed(1_001, (1 << 20) + 1);
    let values = statement.values.iter().map(|value| match value {
        Parameter::Boolean(value) => Ok(value as &(dyn ToSql + Sync)),
        Parameter::Integer(value) => Ok(value as &(dyn ToSql + Sync)),
        Parameter::Text(value) => Ok(value as &(dyn ToSql + Sync)),
        Parameter::Texts(values) => Ok(values as &(dyn ToSql + Sync)),
        other => Err(format!("{other:?} is not bound here")),
    });
    let values = values.collect::<Result<Vec<_>, _>>()?;
    let begin = Instant::now();
    let prepared = client.prepare(&text).await?;
    let rows = client.query(&prepared, &values).await?;
    Ok((begin.elapsed().as_secs_f64() * 1e3, rows.len()))
}

/// Milliseconds until the sum is known where everything is fetched and decided on.
async fn run_each(client: &Client, world: &World) -> Result<f64, Error> {
    let begin = Instant::now();
    let text = "select id, owner, tenant, share, total from orders";
    let nothing: [&(dyn ToSql + Sync); 0] = [];
    let mut rows = pin!(client.query_raw(text, nothing).await?);
    let (mut count, mut sum) = (0_u64, 0_i64);
    while let Some(row) = rows.try_next().await? {
        if world.permits(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?)? {
            count += 1;
            sum += row.try_get::<_, i64>(4)?;
        }
    }
    std::hint::black_box((count, sum));
    Ok(begin.elapsed().as_secs_f64() * 1e3)
}

fn arguments(mut given: impl Iterator<Item = String>) -> Result<Arguments, Error> {
    let (mut results, mut only, mut quick) = (None, None, false);
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--results" => results = given.next().map(PathBuf::from),
            "--only" => only = given.next().map(|list| list.split(',').map(str::to_owned).collect()),
            "--quick" => quick = true,
            _ => return Err(USAGE.into()),
        }
    }
    Ok(Arguments { results: results.ok_or(USAGE)?, only, quick })
}
