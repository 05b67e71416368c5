//! What is refused, what is read, and that what is printed means what was read.

mod attacks;
mod round;
mod rows;

use bartizan_base::Name;
use bartizan_model::DatabaseRouteSpec;
use bartizan_model::SqlType;
use serde_json::json;

use crate::guard::{Column, Parameter, Read, Statement, Values, analyse, check_route};
use crate::refusal::{Place, Refusal, Why};

fn route_of(server: &serde_json::Value, functions: &[&str]) -> DatabaseRouteSpec {
    let rows = "all";
    serde_json::from_value(json!({
        "server": server,
        "free_statements": true,
        "functions": functions,
        "tables": {
            "orders": {"rows": rows, "columns": [
                {"name": "id", "type": "integer", "plain": true},
                {"name": "customer", "type": "integer", "plain": true},
                {"name": "email"},
                {"name": "total", "type": "decimal", "plain": true},
                {"name": "note", "hidden": true},
                {"name": "placed", "type": "date"}
            ]},
            "customers": {"rows": rows, "columns": [
                {"name": "id", "type": "integer", "plain": true},
                {"name": "name"},
                {"name": "region"}
            ]},
            "Mixed": {"rows": rows, "columns": [{"name": "Case"}, {"name": "other"}]}
        }
    }))
    .unwrap()
}

/// Every function is allowed but one.
fn postgres() -> DatabaseRouteSpec {
    let functions: Vec<&str> = crate::known_functions(true).filter(|name| *name != "to_char").collect();
    let server = json!({"engine": "postgres", "host": "db", "database": "shop", "user": "reader"});
    route_of(&server, &functions)
}

fn sqlite() -> DatabaseRouteSpec {
    let functions: Vec<&str> = crate::known_functions(false).collect();
    route_of(&json!({"engine": "sqlite", "file": "shop.db"}), &functions)
}

fn read(sql: &str) -> Result<Statement, Refusal> {
    analyse(&postgres(), sql, &Values::new())
}

fn origin(table: &'static str, column: &'static str) -> (Name, Name) {
    (Name::literal(table), Name::literal(column))
}

/// What is read, with `*` behind what is computed with.
fn reads(statement: &Statement) -> Vec<String> {
    let one = |((table, column), read): (&(Name, Name), &Read)| {
        format!("{table}.{column}{}", if read.computed { "*" } else { "" })
    };
    statement.reads.iter().map(one).collect()
}

#[test]
fn every_column_that_is_read_is_found_wherever_it_hides() {
    for (sql, found) in [
        ("select id from orders", vec!["orders.id"]),
        ("select count(*) from orders", vec![]),
        ("select 1 from orders where email like 'a%'", vec!["orders.email*"]),
        ("select * from customers", vec!["customers.id", "customers.name", "customers.region"]),
        (
            "select c.* from orders o join customers c on c.id = o.customer",
            vec!["customers.id*", "customers.name", "customers.region", "orders.customer*"],
        ),
        ("select x from (select email as x from orders) as d", vec!["orders.email"]),
        ("select upper(x) from (select email as x from orders) as d", vec!["orders.email*"]),
        ("with w as (select email, id from orders) select id from w", vec!["orders.email", "orders.id"]),
        ("with w(a) as (select email from orders) select a from w order by a", vec!["orders.email*"]),
        ("select id from orders order by email", vec!["orders.email*", "orders.id"]),
        ("select id as email from orders order by email", vec!["orders.id*"]),
        ("select email from orders order by 1", vec!["orders.email*"]),
        ("select email from orders group by email", vec!["orders.email*"]),
        ("select distinct email from orders", vec!["orders.email*"]),
        (
            "select email from orders union select name from customers",
            vec!["customers.name*", "orders.email*"],
        ),
        (
            "select email from orders union all select name from customers",
            vec!["customers.name", "orders.email"],
        ),
        ("select (select max(email) from orders)", vec!["orders.email*"]),
        ("select (select email from orders limit 1)", vec!["orders.email*"]),
        (
            "select id from customers c where exists (select email from orders o where o.customer = c.id)",
            vec!["customers.id*", "orders.customer*", "orders.email*"],
        ),
        ("select case when email is null then 1 else 2 end from orders", vec!["orders.email*"]),
        ("select note from orders", vec!["orders.note"]),
        (
            "select id, row_number() over (partition by email order by placed) from orders",
            vec!["orders.email*", "orders.id", "orders.placed*"],
        ),
        ("select sum(total) filter (where email = 'x') from orders", vec!["orders.email*", "orders.total*"]),
        ("select \"Case\" from \"Mixed\"", vec!["Mixed.Case"]),
        ("select ID from Public.ORDERS", vec!["orders.id"]),
        ("select public.orders.id from public.orders", vec!["orders.id"]),
    ] {
        let statement = read(sql).unwrap_or_else(|refusal| panic!("{sql}: {refusal}"));
        assert_eq!(reads(&statement), found, "{sql}");
    }
}

#[test]
fn outputs_know_the_columns_whose_values_they_are() {
    let statement = read(
        "select a.email, lower(a.email) as low, b.x from orders a, (select name as x from customers \
         union all select email from orders) as b",
    )
    .unwrap();
    let column = |name: &str, origins: &[(Name, Name)]| Column {
        name: name.to_owned(),
        origins: origins.iter().cloned().collect(),
    };
    assert_eq!(
        statement.columns,
        [
            column("email", &[origin("orders", "email")]),
            column("low", &[]),
            column("x", &[origin("customers", "name"), origin("orders", "email")]),
        ]
    );
}

#[test]
fn what_is_printed_names_everything_fully_and_nothing_of_what_was_submitted() {
    let values = Values::from([("who".to_owned(), (SqlType::Text, Parameter::Text("x".to_owned())))]);
    let sql = "/* hi */ SELECT o.ID AS \"drop table\", lower(name) FROM Orders o -- there\n \
               JOIN customers ON customers.id = o.customer WHERE email = :who AND placed > date '2024-01-01' LIMIT 5;";
    let statement = analyse(&postgres(), sql, &values).unwrap();
    assert_eq!(
        statement.text(),
        r#"SELECT "t1"."id" AS "c1", pg_catalog."lower"("t2"."name") AS "c2" FROM ("public"."orders" AS "t1" INNER JOIN "public"."customers" AS "t2" ON ("t2"."id" = "t1"."customer")) WHERE (("t1"."email" = CAST($1 AS text)) AND ("t1"."placed" > CAST('2024-01-01' AS date))) LIMIT 5"#
    );
    assert_eq!(statement.values, [Parameter::Text("x".to_owned())]);
    assert_eq!(statement.columns[0].name, "drop table");
    let lite = analyse(&sqlite(), "select [ID], `Note` from ORDERS", &Values::new()).unwrap();
    assert_eq!(
        lite.text(),
        r#"SELECT "t1"."id" AS "c1", CAST(NULL AS TEXT) AS "c2" FROM "main"."orders" AS "t1""#
    );
}

#[test]
fn values_keep_their_meaning_whatever_is_in_them() {
    for (sql, printed) in [
        ("select 'it''s'", "SELECT 'it''s' AS \"c1\""),
        (r"select 'a\' , 1", r#"SELECT E'a\\' AS "c1", 1 AS "c2""#),
        (r"select E'a\'b'", "SELECT 'a''b' AS \"c1\""),
        ("select $x$'; drop table orders --$x$", "SELECT '''; drop table orders --' AS \"c1\""),
        ("select U&'\\0027'", "SELECT '''' AS \"c1\""),
        ("select 1.5e3, .5, -3", r#"SELECT 1.5e3 AS "c1", .5 AS "c2", (- 3) AS "c3""#),
        ("select 1 - - 1", r#"SELECT (1 - (- 1)) AS "c1""#),
    ] {
        match read(sql) {
            Ok(statement) => assert_eq!(statement.text(), printed, "{sql}"),
            Err(refusal) => panic!("{sql}: {refusal}"),
        }
    }
}

#[test]
fn parentheses_around_a_key_hide_neither_a_number_nor_a_name() {
    let tree = |sql: &str| {
        read(sql).map(|statement| statement.tree().clone()).map_err(|refusal| refusal.to_string())
    };
    for keys in ["order by {}", "group by 1, 2 order by {}"] {
        for (written, plain) in [("(2)", "2"), ("((2))", "2"), ("(e)", "e"), ("(3)", "3"), ("(2e0)", "2e0")] {
            let sql = |key: &str| format!("select id, email as e from orders {}", keys.replace("{}", key));
            assert_eq!(tree(&sql(written)).is_ok(), tree(&sql(plain)).is_ok(), "{written}");
            if let (Ok(one), Ok(other)) = (tree(&sql(written)), tree(&sql(plain))) {
                assert_eq!(one, other, "{written}");
            }
        }
    }
    assert!(read("select id, email from orders order by (2)").unwrap().readable().contains("ORDER BY 2"));
    assert!(read("select id, email from orders order by (3)").is_err());
}

#[test]
fn a_refusal_says_where() {
    let at = |line, column| Some(Place { line, column });
    for (sql, why, place) in [
        ("select id,\n  mail from orders", Why::Column("mail".to_owned()), at(2, 3)),
        ("select id from orders o where o.x = 1", Why::Column("o.x".to_owned()), at(1, 31)),
        ("select 1 from secrets", Why::Table("secrets".to_owned()), at(1, 15)),
        ("select id from orders, customers", Why::Ambiguous("id".to_owned()), at(1, 8)),
        ("select pg_sleep(9)", Why::Function("pg_sleep".to_owned()), at(1, 8)),
        ("select lower(email, 1) from orders", Why::Arguments("lower".to_owned()), at(1, 8)),
        ("select :a", Why::Parameter("a".to_owned()), at(1, 8)),
        ("select 1; select 2", Why::NotOne, at(1, 9)),
    ] {
        let refusal = read(sql).unwrap_err();
        assert_eq!((refusal.why, refusal.at), (why, place), "{sql}");
    }
}

#[test]
fn parameters_are_bound_in_their_order_and_none_is_left_over() {
    let value = |n| (SqlType::Integer, Parameter::Integer(n));
    let values = Values::from([("a".to_owned(), value(1)), ("b".to_owned(), value(2))]);
    let statement = analyse(&postgres(), "select id from orders where id in (:b, :a, :b) limit :a", &values);
    let statement = statement.unwrap();
    assert_eq!(statement.values, [Parameter::Integer(2), Parameter::Integer(1)]);
    assert!(statement.text().contains("IN (CAST($1 AS int8), CAST($2 AS int8), CAST($1 AS int8))"));
    for sql in ["select :a", "select $1", "select ?", "select :a, :b, :c"] {
        let refusal = analyse(&postgres(), sql, &values).unwrap_err();
        assert!(matches!(refusal.why, Why::Parameter(_) | Why::Syntax(_)), "{sql}: {refusal}");
    }
    let text = Values::from([("a".to_owned(), (SqlType::Text, Parameter::Text("1".to_owned())))]);
    assert!(analyse(&postgres(), "select 1 limit :a", &text).is_err());
}

#[test]
fn a_route_whose_templates_or_functions_would_never_work_is_told_so() {
    let with = |change: fn(&mut serde_json::Value)| {
        let mut value = serde_json::to_value(postgres()).unwrap();
        change(&mut value);
        check_route(&serde_json::from_value(value).unwrap())
    };
    assert_eq!(with(|_| {}), Ok(()));
    let error = with(|v| v["functions"] = json!(["pg_read_file"])).unwrap_err();
    assert!(error.contains("pg_read_file"), "{error}");
    let error = with(|v| v["templates"] = json!({"all": {"sql": "select secret from orders"}})).unwrap_err();
    assert!(error.contains("template `all`") && error.contains("`secret`"), "{error}");
    let unused = json!({"all": {"sql": "select id from orders", "parameters": {"x": "text"}}});
    assert!(with(|_| {}).is_ok());
    let mut value = serde_json::to_value(postgres()).unwrap();
    value["templates"] = unused;
    assert!(check_route(&serde_json::from_value(value).unwrap()).unwrap_err().contains("`x`"));
}
