//! What is printed is read again as what it is, and nothing that is sent makes the guard fall over.

use bartizan_model::SqlType;
use proptest::prelude::*;

use super::{postgres, sqlite};
use crate::guard::{Parameter, Statement, Values, analyse};
use bartizan_model::DatabaseRouteSpec;

/// Reads what is printed, with the parameters under the names that are printed.
fn again(route: &DatabaseRouteSpec, statement: &Statement, values: &Values) -> Statement {
    let kind_of = |value: &Parameter| {
        let found = values.values().find(|(_, known)| known == value);
        found.map_or(SqlType::Text, |(kind, _)| *kind)
    };
    let named = statement.values.iter().enumerate();
    let named = named.map(|(at, value)| (format!("p{}", at + 1), (kind_of(value), value.clone())));
    let text = statement.readable();
    analyse(route, &text, &named.collect()).unwrap_or_else(|refusal| panic!("{text}\n{refusal}"))
}

fn values() -> Values {
    Values::from([
        ("n".to_owned(), (SqlType::Integer, Parameter::Integer(7))),
        ("t".to_owned(), (SqlType::Text, Parameter::Text("x".to_owned()))),
        ("d".to_owned(), (SqlType::Date, Parameter::Text("2024-01-01".to_owned()))),
    ])
}

/// Only the parameters that occur.
fn used(sql: &str) -> Values {
    values().into_iter().filter(|(name, _)| sql.contains(&format!(":{name} "))).collect()
}

fn atom() -> impl Strategy<Value = String> {
    let text = "[a-z'\\\\ %_é;-]{0,8}".prop_map(|text| format!("'{}'", text.replace('\'', "''")));
    prop_oneof![
        Just("o.id".to_owned()),
        Just("o.email".to_owned()),
        Just("O.Total".to_owned()),
        Just("note".to_owned()),
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just(":n ".to_owned()),
        Just(":t ".to_owned()),
        Just(":d ".to_owned()),
        "[0-9]{1,6}(\\.[0-9]{1,3})?(e[0-9]{1,2})?",
        text,
    ]
}

fn expression() -> impl Strategy<Value = String> {
    atom().prop_recursive(4, 24, 3, |inner| {
        let operator =
            prop::sample::select(vec!["+", "-", "*", "/", "%", "||", "=", "<>", "<", ">=", "and", "or"]);
        prop_oneof![
            (inner.clone(), operator, inner.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
            inner.clone().prop_map(|a| format!("({a})")),
            inner.clone().prop_map(|a| format!("not ({a})")),
            inner.clone().prop_map(|a| format!("- ({a})")),
            inner.clone().prop_map(|a| format!("({a}) is not null")),
            inner.clone().prop_map(|a| format!("lower({a})")),
            inner.clone().prop_map(|a| format!("count(distinct {a})")),
            inner.clone().prop_map(|a| format!("cast({a} as integer)")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("coalesce({a}, {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) not like ({b}) escape '\\'")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| format!("({a}) between ({b}) and ({c})")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| format!("case when {a} then {b} else {c} end")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) in ({b}, 1)")),
            (inner.clone(), inner.clone())
                .prop_map(|(a, b)| format!("({a}) in (select name from customers c where {b})")),
            inner.clone().prop_map(|a| format!("exists (select 1 from customers where region = {a})")),
            inner.clone().prop_map(|a| format!("(select max(x.name) from customers x where x.id = {a})")),
            (inner.clone(), inner).prop_map(|(a, b)| format!(
                "sum({a}) over (partition by {b} order by 1 + 1 desc nulls last)"
            )),
        ]
    })
}

fn query() -> impl Strategy<Value = String> {
    let from = prop::sample::select(vec![
        "orders o",
        "Orders as O",
        "public.orders o",
        "orders o left join customers c on c.id = o.customer",
        "(orders o cross join customers k) join customers z on z.id = k.id",
        "(select id, email, total, note, customer from orders) o",
        "w o",
    ]);
    let list = prop::collection::vec(expression(), 1..4);
    let tail = (
        prop::option::of(expression()),
        prop::option::of(expression()),
        prop::option::of(0..99_u32),
        any::<bool>(),
        0..4_u8,
    );
    (list, from, tail).prop_map(|(list, from, (filter, order, limit, distinct, shape))| {
        let unique = if distinct { "distinct " } else { "" };
        let mut sql = format!("select {unique}{} as a", list.join(", "));
        sql.push_str(&format!(" from {from}"));
        if let Some(filter) = filter {
            sql.push_str(&format!(" where {filter}"));
        }
        let with = "with w as (select id, email, total, note, customer from orders) ";
        match shape {
            0 => {
                if let Some(order) = order {
                    sql.push_str(&format!(" order by {order}, a desc"));
                }
            }
            1 => {
                sql = format!("select 1 as a union all {}", sql.replace(" distinct", ""))
                    .replace("select 1 as a", &format!("select {}1 as a", "1, ".repeat(list.len() - 1)))
            }
            2 => sql = format!("({sql}) except (select {}2 as a order by 1)", "1, ".repeat(list.len() - 1)),
            _ => sql.push_str(" group by 1"),
        }
        if let Some(limit) = limit {
            sql.push_str(&format!(" limit {limit}"));
        }
        format!("{with}{sql}")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn what_is_printed_is_read_again_as_the_same_tree(sql in query()) {
        for route in [postgres(), sqlite()] {
            let sql = if route.is_postgres() { sql.clone() } else { sql.replace("public.", "main.") };
            let values = used(&sql);
            let Ok(statement) = analyse(&route, &sql, &values) else { continue };
            let read = again(&route, &statement, &values);
            prop_assert_eq!(read.tree(), statement.tree(), "{}", statement.readable());
            // What is hidden is named by who asks, and not printed.
            let mut shown = statement.reads.clone();
            shown.retain(|(_, column), _| column.as_str() != "note");
            prop_assert_eq!(&read.reads, &shown, "{}", &sql);
            prop_assert_eq!(&read.tables, &statement.tables);
            prop_assert_eq!(read.text(), statement.text());
        }
    }

    #[test]
    fn words_in_any_order_are_answered_or_refused(
        words in prop::collection::vec(prop::sample::select(WORDS.to_vec()), 0..40),
        noise in "\\PC{0,20}",
    ) {
        let sql = format!("{} {noise}", words.join(" "));
        for route in [postgres(), sqlite()] {
            if let Ok(statement) = analyse(&route, &sql, &Values::new()) {
                let read = again(&route, &statement, &Values::new());
                prop_assert_eq!(read.tree(), statement.tree());
            }
        }
    }
}

const WORDS: &[&str] = &[
    "select",
    "from",
    "where",
    "orders",
    "customers",
    "o",
    "id",
    "email",
    "*",
    ",",
    "(",
    ")",
    "=",
    "'x'",
    "1",
    "and",
    "or",
    "not",
    "as",
    "join",
    "left",
    "on",
    "union",
    "all",
    "order",
    "by",
    "group",
    "limit",
    "with",
    "w",
    "in",
    "is",
    "null",
    "case",
    "when",
    "then",
    "end",
    "count",
    "lower",
    "distinct",
    ";",
    "--",
    "/*",
    "*/",
    "$$",
    "::",
    "text",
    "\"id\"",
    "o.id",
    "between",
    "like",
    "exists",
    "over",
    "filter",
    "having",
    "for",
    "update",
    "into",
    "lateral",
];

/// Most of what the first property makes is read: otherwise it would say nothing.
#[test]
fn the_property_looks_at_statements_that_are_read() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut read = 0;
    for _ in 0..200 {
        let sql = query().new_tree(&mut runner).unwrap().current();
        read += usize::from(analyse(&postgres(), &sql, &used(&sql)).is_ok());
    }
    assert!(read > 100, "{read} of 200");
}
