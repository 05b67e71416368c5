//! Statements that see some rows of a table alone.

use super::*;
use crate::guard::{ROW, RowsOf};

fn own(first: usize) -> RowsOf {
    RowsOf {
        condition: format!("\"{ROW}\".\"owner\" = ${first}"),
        values: vec![Parameter::Text("alice".to_owned())],
        reads: [Name::literal("owner")].into(),
    }
}

fn seeing(sql: &str) -> Statement {
    let statement = read(sql).unwrap_or_else(|refusal| panic!("{sql}: {refusal}"));
    let first = statement.next_placeholder();
    statement.seeing(&Name::literal("orders"), own(first)).unwrap()
}

const ROWS: &str = r#"FROM "public"."orders" AS "r" WHERE ("r"."owner" = $1)"#;

#[test]
fn inv_filter_no_mention_of_a_table_is_left_bare_wherever_it_stands() {
    for (sql, mentions) in [
        ("select id from orders", 1),
        ("select o.id from orders o", 1),
        ("select o.id from orders as orders2, public.orders o where orders2.id = o.id", 2),
        ("select c.name from customers c join orders o on o.customer = c.id", 1),
        ("select c.name from customers c left join orders o on o.customer = c.id", 1),
        ("select c.name from customers c full join orders o on o.customer = c.id", 1),
        ("select name from customers c where exists (select 1 from orders o where o.customer = c.id)", 1),
        ("select name from customers where id in (select customer from orders)", 1),
        ("select (select count(*) from orders)", 1),
        ("select count(*) from orders", 1),
        ("select x from (select email as x from orders) as d", 1),
        ("with w as (select id from orders) select a.id from w a, w b, orders c", 2),
        ("with orders as (select id from orders) select id from orders", 1),
        ("with customers as (select id as name from orders) select name from customers", 1),
        ("select id from orders union select id from orders", 2),
        ("select id from orders except select id from orders where id = 1", 2),
        ("select id from customers intersect (select id from orders order by 1 limit 1)", 1),
        ("select 1 from customers order by (select max(id) from orders)", 1),
        ("select 1 from customers group by (select max(id) from orders)", 1),
        ("select count(*) from customers having count(*) > (select count(*) from orders)", 1),
        ("select sum(id) filter (where id in (select id from orders)) from customers", 1),
        ("select case when exists (select 1 from orders) then 1 end", 1),
        ("select 1 from customers a join customers b on a.id = (select max(id) from orders)", 1),
    ] {
        for text in [seeing(sql).text(), seeing(sql).executed(10, 10)] {
            assert_eq!(text.matches(ROWS).count(), mentions, "{sql}: {text}");
            assert_eq!(text.matches(r#""orders""#).count(), mentions, "{sql}: {text}");
        }
    }
}

#[test]
fn what_the_condition_looks_at_is_no_column_of_the_statement() {
    // Only what the statement uses of the table is given to it, and nothing where it uses nothing.
    let of = |sql: &str| seeing(sql).text();
    assert_eq!(
        of("select o.id from orders o where o.total > 5"),
        r#"SELECT "t1"."id" AS "c1" FROM (SELECT "r"."id" AS "id", "r"."total" AS "total" FROM "public"."orders" AS "r" WHERE ("r"."owner" = $1)) AS "t1" WHERE ("t1"."total" > 5)"#
    );
    assert!(of("select count(*) from orders").contains(r#"(SELECT NULL AS "n" FROM "public"."orders""#));
    // A hidden column is not read at all.
    assert!(!of("select note from orders").contains("note"));
    assert!(read("select owner from orders").is_err());
    let statement = seeing("select id from orders");
    let looked: Vec<_> = statement.looked_at().collect();
    assert_eq!(looked, [(&Name::literal("orders"), &Name::literal("owner"))]);
    assert_eq!(reads(&statement), ["orders.id"]);
}

#[test]
fn values_of_conditions_follow_those_of_the_statement() {
    let values: Values = [("least".to_owned(), (SqlType::Integer, Parameter::Integer(3)))].into();
    let sql = "select o.id from orders o, customers c where o.id > :least and c.id = o.id";
    let statement = analyse(&postgres(), sql, &values).unwrap();
    let first = statement.next_placeholder();
    let statement = statement.seeing(&Name::literal("orders"), own(first)).unwrap();
    let second = statement.next_placeholder();
    let statement = statement.seeing(&Name::literal("customers"), own(second)).unwrap();
    assert_eq!((first, second), (2, 3));
    let text = statement.text();
    assert!(text.contains(r#""orders" AS "r" WHERE ("r"."owner" = $2)"#), "{text}");
    assert!(text.contains(r#""customers" AS "r" WHERE ("r"."owner" = $3)"#), "{text}");
    assert_eq!(statement.values.len(), 3);
}

#[test]
fn a_condition_that_could_fail_is_kept_behind_the_rows_that_are_seen() {
    let date: Values = [("d".to_owned(), (SqlType::Date, Parameter::Text("x".to_owned())))].into();
    let fenced = |sql: &str| {
        let values = if sql.ends_with(":d") { date.clone() } else { Values::new() };
        let statement =
            analyse(&postgres(), sql, &values).unwrap_or_else(|refusal| panic!("{sql}: {refusal}"));
        let first = statement.next_placeholder();
        statement.seeing(&Name::literal("orders"), own(first)).unwrap().text().contains(") OFFSET 0) AS")
    };
    for sql in [
        "select id from orders where 1 / (total - 10) > 0",
        "select id from orders where cast(email as integer) = 1",
        "select id from orders where email::date > '2024-01-01'",
        "select id from orders where placed > :d",
        "select id from orders where email like email",
        "select id from orders where email like 'a\\'",
        "select id from orders where email like 'a' escape 'b'",
        "select id from orders where substr(email, total::integer) = 'x'",
        "select id from orders where -total > 1",
        "select id from orders where extract(year from placed) = 2024",
        "select id from orders where id = (select id from orders)",
        "select id from orders where case when total = 0 then 1 / total else 0 end = 1",
        "select id from orders where coalesce(1 / total, 1) = 1",
        "select id from orders where id in (1, 1 / id)",
        "select id from orders where not (1 / id = 1)",
        "select c.id from customers c join orders o on 1 / o.id = 1",
        "select x from (select 1 / id as x from orders) as d where x > 1",
        "with w as (select 1 / id as x from orders) select x from w where x > 1",
        "select id from customers where id in (select 1 / id from orders)",
        "select 1 / id from orders group by 1 / id having 1 / id > 0",
        "select id from customers where exists (select 1 from orders where 1 / id > 0)",
        "select (select max(id) from orders where 1 / id > 0)",
        "select max(n) from (select sum(1 / id) as n from orders) as d where n > 1",
    ] {
        assert!(fenced(sql), "{sql}");
    }
    // What is given out is computed of rows that are seen; what cannot fail may be done first.
    for sql in [
        "select 1 / id from orders order by 1 / total",
        "select sum(1 / id) from orders where id = 7 and email = 'x' and placed > date '2024-01-01'",
        "select o.id from orders o join customers c on c.id = o.customer where o.total between 1 and -2.5",
        "select id from orders where email like 'a%' or email is null or not total <> 3",
        "select id from orders where lower(email) = 'x' and id in (1, 2, 3) and placed < now()",
        "select email, count(*) from orders group by email having count(*) > 3",
        "select id from customers where id in (select customer from orders where total > 3)",
        "select n from (select customer, sum(total) as n from orders group by customer) as d where n > 3",
    ] {
        assert!(!fenced(sql), "{sql}");
    }
    // Where no table is narrowed there is nothing to tell of.
    let plain = read("select id from orders where 1 / total > 0").unwrap();
    assert!(!plain.text().contains("OFFSET"));
    let lite = analyse(&sqlite(), "select id from orders where abs(id) > 0", &Values::new()).unwrap();
    let lite = lite.seeing(&Name::literal("orders"), own(1)).unwrap();
    assert!(lite.text().contains(r#" LIMIT -1 OFFSET 0) AS "t1""#), "{}", lite.text());
}

#[test]
fn a_condition_that_makes_the_statement_too_long_is_refused() {
    let long = RowsOf { condition: format!("TRUE{}", " ".repeat(100 << 10)), ..own(1) };
    let orders = Name::literal("orders");
    let of = |sql: &str| read(sql).unwrap().seeing(&orders, long.clone());
    assert!(of("select id from orders").is_ok());
    let many = "select 1 from orders a, orders b, orders c, orders d, orders e, orders f";
    assert!(matches!(of(many), Err(Refusal { why: Why::TooLarge(_), .. })));
}
